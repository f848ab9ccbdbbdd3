//! The library's functions for outlets. They are looked up when the first one is opened, so that
//! inlets do not depend on them.

use std::ffi::{CStr, CString, c_char, c_double, c_void};
use std::ptr::NonNull;

use super::{Handle, Library, LslError};

/// Samples that wait for a slow receiver: `lsl_create_outlet` counts them in hundreds.
const BUFFERED_HUNDREDS: i32 = 10;
/// `cft_float32`.
const FLOAT32: i32 = 1;
/// `LSL_IRREGULAR_RATE`.
const IRREGULAR: c_double = 0.0;

functions! {
    /// The library's functions for outlets.
    OutletFunctions:
    create_info: unsafe extern "C" fn(
        *const c_char, *const c_char, i32, c_double, i32, *const c_char
    ) -> Handle = c"lsl_create_streaminfo";
    append_child: unsafe extern "C" fn(Handle, *const c_char) -> Handle = c"lsl_append_child";
    append_value: unsafe extern "C" fn(Handle, *const c_char, *const c_char) -> Handle
        = c"lsl_append_child_value";
    create_outlet: unsafe extern "C" fn(Handle, i32, i32) -> Handle = c"lsl_create_outlet";
    destroy_outlet: unsafe extern "C" fn(Handle) = c"lsl_destroy_outlet";
    push: unsafe extern "C" fn(Handle, *const f32) -> i32 = c"lsl_push_sample_f";
}

/// An outlet that is alive.
pub struct OutletHandle {
    outlet: NonNull<c_void>,
    functions: OutletFunctions,
    channels: usize,
}

// SAFETY: outlets have no ties to a thread, and this one is used by one thread at a time.
unsafe impl Send for OutletHandle {}

impl Library {
    /// An outlet of 32-bit floats with these channels (label and unit).
    pub fn outlet(
        &'static self,
        name: &CStr,
        kind: &CStr,
        source: &CStr,
        channels: &[(CString, CString)],
    ) -> Result<OutletHandle, LslError> {
        let functions = OutletFunctions::load(&self.loaded)
            .map_err(|error| LslError::Library(error.to_string()))?;
        // SAFETY: all texts end with a zero and are copied; elements belong to the description,
        // which is ours until it is destroyed; the outlet has a copy of it.
        unsafe {
            let info = (functions.create_info)(
                name.as_ptr(),
                kind.as_ptr(),
                channels.len() as i32,
                IRREGULAR,
                FLOAT32,
                source.as_ptr(),
            );
            let info = NonNull::new(info).ok_or(LslError::Outlet)?.as_ptr();
            let description = (self.functions.description)(info);
            let list = (functions.append_child)(description, c"channels".as_ptr());
            for (label, unit) in channels {
                let channel = (functions.append_child)(list, c"channel".as_ptr());
                (functions.append_value)(channel, c"label".as_ptr(), label.as_ptr());
                (functions.append_value)(channel, c"unit".as_ptr(), unit.as_ptr());
            }
            let outlet = (functions.create_outlet)(info, 0, BUFFERED_HUNDREDS);
            (self.functions.destroy_info)(info);
            let outlet = NonNull::new(outlet).ok_or(LslError::Outlet)?;
            Ok(OutletHandle { outlet, functions, channels: channels.len() })
        }
    }
}

impl OutletHandle {
    /// Sends a sample, stamped now. One of another length is left out.
    pub fn push(&self, sample: &[f32]) {
        if sample.len() == self.channels {
            // SAFETY: the outlet is alive and reads as many values as it has channels.
            unsafe { (self.functions.push)(self.outlet.as_ptr(), sample.as_ptr()) };
        }
    }
}

impl Drop for OutletHandle {
    fn drop(&mut self) {
        // SAFETY: the handle was given to this value alone and is not used again.
        unsafe { (self.functions.destroy_outlet)(self.outlet.as_ptr()) }
    }
}
