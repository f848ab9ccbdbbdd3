//! Connections to streams of others: samples as they come, and how their clocks compare.

use std::ffi::{c_ulong, c_void};
use std::ptr::NonNull;
use std::time::Duration;

use super::{Functions, Library, Pull, StreamInfo};

/// Seconds of samples that the library keeps while nobody fetches them.
const BUFFER_S: i32 = 360;
const LOST: i32 = -2;
const TIMEOUT: i32 = -1;

/// Why an inlet gives no samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InletError {
    /// The stream's sender is gone.
    Lost,
    /// Nothing came in time.
    Timeout,
    /// The library refused.
    Refused,
}

fn checked(code: i32) -> Result<(), InletError> {
    match code {
        0 => Ok(()),
        LOST => Err(InletError::Lost),
        TIMEOUT => Err(InletError::Timeout),
        _ => Err(InletError::Refused),
    }
}

/// A connection to a stream, `lsl_inlet`. It ends when the sender does: whether the next one is the
/// same session is not for the library to decide.
pub struct Inlet {
    handle: NonNull<c_void>,
    library: &'static Library,
    channels: usize,
}

// SAFETY: inlets have no ties to a thread, and this one is used by one thread at a time.
unsafe impl Send for Inlet {}

impl Inlet {
    /// Connects to the stream and opens it: samples are kept from now on.
    pub fn open(info: &StreamInfo, timeout: Duration) -> Result<Self, InletError> {
        let library = info.library;
        // SAFETY: the description is alive; the library copies it.
        let handle =
            unsafe { (library.functions.create_inlet)(info.handle.as_ptr(), BUFFER_S, 0, 0) };
        let handle = NonNull::new(handle).ok_or(InletError::Refused)?;
        let inlet = Self { handle, library, channels: info.channel_count() };
        let mut code = 0;
        // SAFETY: the inlet is alive, the code is ours.
        unsafe {
            (library.functions.open_stream)(handle.as_ptr(), timeout.as_secs_f64(), &mut code);
        }
        checked(code).map(|()| inlet)
    }

    /// The stream's description with its channels, which a resolved one lacks.
    pub fn full_info(&self, timeout: Duration) -> Result<StreamInfo, InletError> {
        let mut code = 0;
        // SAFETY: the inlet is alive, the code is ours; the description becomes ours.
        let handle = unsafe {
            let seconds = timeout.as_secs_f64();
            (self.library.functions.full_info)(self.handle.as_ptr(), seconds, &mut code)
        };
        let handle = NonNull::new(handle).ok_or(InletError::Timeout)?;
        let info = StreamInfo { handle, library: self.library };
        checked(code).map(|()| info)
    }

    /// Seconds to add to the sender's stamps to have them by [`Library::clock_s`].
    pub fn time_correction_s(&self, timeout: Duration) -> Result<f64, InletError> {
        let mut code = 0;
        // SAFETY: the inlet is alive, the code is ours.
        let correction = unsafe {
            let seconds = timeout.as_secs_f64();
            (self.library.functions.time_correction)(self.handle.as_ptr(), seconds, &mut code)
        };
        checked(code).map(|()| correction)
    }

    /// Takes the samples that are there: values by sample and channel to `values`, stamps of the
    /// sender, seconds, to `stamps`, both at most as many as they have room for. Returns the number
    /// of samples.
    pub fn pull<T: Value>(
        &self,
        values: &mut [T],
        stamps: &mut [f64],
    ) -> Result<usize, InletError> {
        let samples = stamps.len().min(values.len() / self.channels.max(1));
        let pull = T::pull(&self.library.functions);
        let mut code = 0;
        // SAFETY: the inlet is alive; `values` and `stamps` have room for as many values as is
        // said, a whole number of samples; the code is ours.
        let taken = unsafe {
            pull(
                self.handle.as_ptr(),
                values.as_mut_ptr(),
                stamps.as_mut_ptr(),
                (samples * self.channels) as c_ulong,
                samples as c_ulong,
                0.0,
                &mut code,
            )
        };
        // Samples that came with the news of the end are samples.
        match checked(code) {
            Err(error) if taken == 0 && error != InletError::Timeout => Err(error),
            _ => Ok((taken as usize / self.channels.max(1)).min(samples)),
        }
    }
}

impl Drop for Inlet {
    fn drop(&mut self) {
        // SAFETY: the handle was given to this value alone and is not used again.
        unsafe { (self.library.functions.destroy_inlet)(self.handle.as_ptr()) }
    }
}

/// A type in which samples are taken; the library converts.
pub trait Value: Copy + Default {
    #[doc(hidden)]
    fn pull(functions: &Functions) -> Pull<Self>;
}

impl Value for i32 {
    fn pull(functions: &Functions) -> Pull<i32> {
        functions.pull_i32
    }
}

impl Value for f64 {
    fn pull(functions: &Functions) -> Pull<f64> {
        functions.pull_f64
    }
}
