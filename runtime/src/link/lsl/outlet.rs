//! A stream of our own, `lsl_outlet`: announced on the network as long as it lives, samples of 32-bit
//! floats without a rate. Its unsafe code is in `library`'s manner: what the library hands
//! out is owned here. Pushing copies the sample and never waits for a receiver.

use std::ffi::CString;

use super::LslError;
use super::library::{Library, OutletHandle};

/// Name and unit of a channel.
#[derive(Debug, Clone, Copy)]
pub struct OutletChannel {
    /// e.g. `p_wake`.
    pub label: &'static str,
    /// e.g. `probability`.
    pub unit: &'static str,
}

/// A stream that this program sends.
pub struct Outlet(OutletHandle);

impl Outlet {
    /// Announces the stream `name` of `kind`, e.g. `Stage`. `source` is the same after a restart, so
    /// that receivers find it again.
    ///
    /// # Errors
    /// [`LslError`] without the library, or if it refuses the stream.
    pub fn open(
        name: &str,
        kind: &str,
        source: &str,
        channels: &[OutletChannel],
    ) -> Result<Self, LslError> {
        let library = Library::load()?;
        let text = |text: &str| CString::new(text).map_err(|_| LslError::Outlet);
        let labeled: Result<Vec<_>, _> =
            channels.iter().map(|c| Ok((text(c.label)?, text(c.unit)?))).collect();
        let (name, kind, source) = (text(name)?, text(kind)?, text(source)?);
        library.outlet(&name, &kind, &source, &labeled?).map(Self)
    }

    /// Sends a sample of as many values as there are channels, stamped now; any other is left out.
    pub fn push(&self, sample: &[f32]) {
        self.0.push(sample);
    }
}
