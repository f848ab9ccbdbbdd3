//! Any bytes as an EDF or BDF file: header, annotations, every sample in odd block lengths.
//! Nothing may panic, overflow, read past the file or fail after the header was accepted.
#![no_main]

use std::io::Cursor;

use libfuzzer_sys::fuzz_target;

use sfm_edf as edf;

// The modules themselves and not the crate, whose inference engines take half an hour to
// instrument and are of no interest here.
#[allow(dead_code)]
#[path = "../../../runtime/src/files.rs"]
mod files;
#[allow(dead_code)]
#[path = "../../../runtime/src/signal.rs"]
mod signal;
#[allow(dead_code)]
#[path = "../../../runtime/src/source/mod.rs"]
mod source;

use source::Source;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(mut reader) = edf::RecordReader::new(Cursor::new(bytes)) {
        let annotations = edf::annotation::read_annotations(&mut reader).expect("file was checked");
        assert!(annotations.iter().all(|a| a.onset_s.is_finite() && !a.text.is_empty()));
    }
    for block_samples in [3, usize::MAX] {
        match source::edf::EdfSource::new(Cursor::new(bytes), "fuzz") {
            Ok(source) => read_all(source.with_block_samples(block_samples), bytes.len()),
            Err(error) => assert!(!error.to_string().contains(char::is_control)),
        }
    }
});

fn read_all(mut source: source::edf::EdfSource<Cursor<&[u8]>>, file_bytes: usize) {
    let info = source.info().clone();
    assert!(info.signals.iter().all(|s| s.rate_hz > 0.0 && s.rate_hz.is_finite()));
    let mut next_sample = vec![0; info.signals.len()];
    let mut block = signal::SampleBlock::default();
    let mut samples = 0;
    while source.next_block(&mut block).expect("file was checked") {
        assert!(block.start >= next_sample[block.channel], "time runs backwards");
        assert!(block.samples.iter().all(|value| value.is_finite()));
        next_sample[block.channel] = block.start + block.samples.len() as u64;
        samples += block.samples.len();
        assert!(2 * samples <= file_bytes, "more samples than the file holds");
    }
    let duration_s = info.duration_s.unwrap_or_default();
    for (&end, signal) in next_sample.iter().zip(&info.signals) {
        assert!(end as f64 <= duration_s * signal.rate_hz + 1.0, "samples behind the end");
    }
}
