//! `remanifest IN.sfm OUT.sfm mask-bad|channels=aasm|channels=reference ...`: the same bundle with another
//! manifest: bad signals are absent, or which channels its network takes. Every other file stays as it
//! is, to the byte.

use std::error::Error;

use sfm_models::Bundle;
use sfm_models::bundle::BundleWriter;
use sfm_models::manifest::{BadSignals, ChannelPolicy};

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [from, to, changes @ ..] = args.as_slice() else {
        return Err(
            "usage: remanifest IN.sfm OUT.sfm mask-bad|channels=aasm|channels=reference ...".into(),
        );
    };
    let bundle = Bundle::open(from)?;
    let mut manifest = bundle.manifest().clone();
    for change in changes {
        match change.as_str() {
            "mask-bad" => manifest.bad_signals = BadSignals::Absent,
            "channels=aasm" => manifest.channels = ChannelPolicy::Aasm,
            "channels=reference" => manifest.channels = ChannelPolicy::Reference,
            other => return Err(format!("'{other}' is no change").into()),
        }
    }
    let mut writer = BundleWriter::new();
    for name in manifest.files.keys() {
        writer.file(name, bundle.file(name).unwrap_or_default().to_vec());
    }
    let sha256 = writer.write(to, manifest)?;
    println!("{to}: SHA-256 {sha256}");
    Ok(())
}
