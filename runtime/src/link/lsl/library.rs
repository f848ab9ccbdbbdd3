//! liblsl, loaded at run time: no build needs it. All unsafe code of the LSL source is here, behind
//! types that own what the library hands out. Usable from any thread; the library synchronizes.

use std::ffi::{CStr, CString, OsString, c_char, c_double, c_ulong, c_void};
use std::ptr::NonNull;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use super::LslError;

/// Where the library is looked for when `SFM_LIBLSL` does not say.
const NAMES: [&str; 3] = ["liblsl.so", "liblsl.so.2", "liblsl.so.1"];
/// Streams that one query may find.
const MAX_STREAMS: usize = 64;
/// The longest text taken from a stream's description, bytes.
const MAX_TEXT_BYTES: usize = 80;

/// `lsl_streaminfo`, `lsl_inlet` and `lsl_xml_ptr`.
type Handle = *mut c_void;
type Text = unsafe extern "C" fn(Handle) -> *const c_char;
type Pull<T> = unsafe extern "C" fn(
    Handle,
    *mut T,
    *mut c_double,
    c_ulong,
    c_ulong,
    c_double,
    *mut i32,
) -> c_ulong;

/// Declares functions that are used, and how they are loaded.
macro_rules! functions {
    ($(#[$about:meta])* $all:ident: $($name:ident: $kind:ty = $symbol:literal;)*) => {
        $(#[$about])*
        pub struct $all { $($name: $kind,)* }

        impl $all {
            fn load(library: &libloading::Library) -> Result<Self, libloading::Error> {
                // SAFETY: each type is that of the function in lsl_c.h, the same in all versions
                // from 1.13; the functions are only used while the library is loaded, for ever.
                Ok(Self { $($name: *unsafe { library.get::<$kind>($symbol) }?,)* })
            }
        }
    };
}

functions! {
    /// The library's functions for inlets.
    Functions:
    local_clock: unsafe extern "C" fn() -> c_double = c"lsl_local_clock";
    resolve: unsafe extern "C" fn(*mut Handle, u32, *const c_char, i32, c_double) -> i32
        = c"lsl_resolve_bypred";
    destroy_info: unsafe extern "C" fn(Handle) = c"lsl_destroy_streaminfo";
    name: Text = c"lsl_get_name";
    kind: Text = c"lsl_get_type";
    source_id: Text = c"lsl_get_source_id";
    uid: Text = c"lsl_get_uid";
    host: Text = c"lsl_get_hostname";
    channel_count: unsafe extern "C" fn(Handle) -> i32 = c"lsl_get_channel_count";
    rate: unsafe extern "C" fn(Handle) -> c_double = c"lsl_get_nominal_srate";
    format: unsafe extern "C" fn(Handle) -> i32 = c"lsl_get_channel_format";
    description: unsafe extern "C" fn(Handle) -> Handle = c"lsl_get_desc";
    child: unsafe extern "C" fn(Handle, *const c_char) -> Handle = c"lsl_child";
    sibling: unsafe extern "C" fn(Handle, *const c_char) -> Handle = c"lsl_next_sibling_n";
    child_value: unsafe extern "C" fn(Handle, *const c_char) -> *const c_char
        = c"lsl_child_value_n";
    is_empty: unsafe extern "C" fn(Handle) -> i32 = c"lsl_empty";
    create_inlet: unsafe extern "C" fn(Handle, i32, i32, i32) -> Handle = c"lsl_create_inlet";
    destroy_inlet: unsafe extern "C" fn(Handle) = c"lsl_destroy_inlet";
    full_info: unsafe extern "C" fn(Handle, c_double, *mut i32) -> Handle = c"lsl_get_fullinfo";
    open_stream: unsafe extern "C" fn(Handle, c_double, *mut i32) = c"lsl_open_stream";
    time_correction: unsafe extern "C" fn(Handle, c_double, *mut i32) -> c_double
        = c"lsl_time_correction";
    pull_i32: Pull<i32> = c"lsl_pull_chunk_i";
    pull_f64: Pull<c_double> = c"lsl_pull_chunk_d";
}

mod inlet;
mod outlet;

pub use inlet::{Inlet, InletError, Value};
pub use outlet::OutletHandle;

/// The loaded library.
pub struct Library {
    functions: Functions,
    loaded: libloading::Library,
}

impl Library {
    /// Loads the library, once a process. It is never unloaded, since it has threads of its own.
    ///
    /// # Errors
    /// [`LslError::Library`] with where it was looked for.
    pub fn load() -> Result<&'static Self, LslError> {
        static LOADED: OnceLock<Library> = OnceLock::new();
        static LOADING: Mutex<()> = Mutex::new(());
        let _one_at_a_time = LOADING.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(library) = LOADED.get() {
            return Ok(library);
        }
        let mut reasons = Vec::new();
        let candidates = match std::env::var_os("SFM_LIBLSL") {
            Some(path) => vec![path],
            None => NAMES.map(OsString::from).to_vec(),
        };
        for path in candidates {
            // SAFETY: what a library does when it is loaded is its own affair; the user named this
            // one or installed it for the system.
            let loaded = unsafe { libloading::Library::new(&path) };
            match loaded.and_then(|library| Ok((Functions::load(&library)?, library))) {
                Ok((functions, loaded)) => {
                    return Ok(LOADED.get_or_init(|| Library { functions, loaded }));
                }
                Err(error) => reasons.push(format!("{}: {error}", path.display())),
            }
        }
        let reason = reasons.join("; ").split_whitespace().collect::<Vec<_>>().join(" ");
        Err(LslError::Library(reason))
    }

    /// The clock of this machine by which stamps are corrected, seconds.
    pub fn clock_s(&self) -> f64 {
        // SAFETY: no arguments.
        unsafe { (self.functions.local_clock)() }
    }

    /// Streams that match `query`: waits until `minimum` are there, or `timeout` is over.
    pub fn resolve(
        &'static self,
        query: &str,
        minimum: usize,
        timeout: Duration,
    ) -> Result<Vec<StreamInfo>, LslError> {
        let invalid = || LslError::Query(query.escape_debug().to_string());
        let query = CString::new(query).map_err(|_| invalid())?;
        let mut handles = [std::ptr::null_mut(); MAX_STREAMS];
        // SAFETY: the buffer has as many places as is said, the query ends with a zero.
        let found = unsafe {
            (self.functions.resolve)(
                handles.as_mut_ptr(),
                MAX_STREAMS as u32,
                query.as_ptr(),
                minimum.min(MAX_STREAMS) as i32,
                timeout.as_secs_f64(),
            )
        };
        let found = usize::try_from(found).map_err(|_| invalid())?;
        let handles = handles.into_iter().take(found).filter_map(NonNull::new);
        Ok(handles.map(|handle| StreamInfo { handle, library: self }).collect())
    }
}

/// What the values of a stream are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueKind {
    /// Two's complement of 8, 16 or 32 bits.
    Integer {
        /// Bits of a value.
        bits: u8,
    },
    /// 32 or 64 bits.
    Float,
    /// Strings, or integers of 64 bits.
    Other,
}

/// Label and unit of a channel as the stream's description has them; often empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChannelText {
    /// e.g. `C3`.
    pub label: String,
    /// e.g. `microvolts`.
    pub unit: String,
}

/// A description of a stream, `lsl_streaminfo`.
pub struct StreamInfo {
    handle: NonNull<c_void>,
    library: &'static Library,
}

// SAFETY: a description is memory that is owned by the handle, without ties to a thread.
unsafe impl Send for StreamInfo {}

impl StreamInfo {
    fn text(&self, function: Text) -> String {
        // SAFETY: the handle is alive; the text lives as long and is copied at once.
        unsafe { copied(function(self.handle.as_ptr())) }
    }

    /// The stream's name.
    pub fn name(&self) -> String {
        self.text(self.library.functions.name)
    }

    /// What the stream holds, e.g. `EEG`.
    pub fn kind(&self) -> String {
        self.text(self.library.functions.kind)
    }

    /// Names the device for its whole life; may be empty.
    pub fn source_id(&self) -> String {
        self.text(self.library.functions.source_id)
    }

    /// Names this outlet: another after each start of the sender.
    pub fn uid(&self) -> String {
        self.text(self.library.functions.uid)
    }

    /// Machine of the sender.
    pub fn host(&self) -> String {
        self.text(self.library.functions.host)
    }

    /// Number of channels.
    pub fn channel_count(&self) -> usize {
        // SAFETY: the handle is alive.
        let count = unsafe { (self.library.functions.channel_count)(self.handle.as_ptr()) };
        usize::try_from(count).unwrap_or(0)
    }

    /// Nominal rate, Hz; 0 if irregular.
    pub fn rate_hz(&self) -> f64 {
        // SAFETY: the handle is alive.
        unsafe { (self.library.functions.rate)(self.handle.as_ptr()) }
    }

    /// What its values are.
    pub fn value_kind(&self) -> ValueKind {
        // SAFETY: the handle is alive.
        match unsafe { (self.library.functions.format)(self.handle.as_ptr()) } {
            1 | 2 => ValueKind::Float,
            4 => ValueKind::Integer { bits: 32 },
            5 => ValueKind::Integer { bits: 16 },
            6 => ValueKind::Integer { bits: 8 },
            _ => ValueKind::Other,
        }
    }

    /// The first `count` channels of the description, as far as it goes.
    pub fn channels(&self, count: usize) -> Vec<ChannelText> {
        let f = &self.library.functions;
        let mut texts = Vec::new();
        // SAFETY: elements belong to the description and live as long as its handle; the functions
        // take the empty element, which they give where there is none. Texts are copied at once.
        unsafe {
            let list = (f.child)((f.description)(self.handle.as_ptr()), c"channels".as_ptr());
            let mut element = (f.child)(list, c"channel".as_ptr());
            while texts.len() < count && (f.is_empty)(element) == 0 {
                let value = |name: &CStr| copied((f.child_value)(element, name.as_ptr()));
                texts.push(ChannelText { label: value(c"label"), unit: value(c"unit") });
                element = (f.sibling)(element, c"channel".as_ptr());
            }
        }
        texts
    }
}

impl Drop for StreamInfo {
    fn drop(&mut self) {
        // SAFETY: the handle was given to this value alone and is not used again.
        unsafe { (self.library.functions.destroy_info)(self.handle.as_ptr()) }
    }
}

/// Copies a text of the library, shortened; wrong UTF-8 is replaced.
///
/// # Safety
/// `text` is null or ends with a zero.
unsafe fn copied(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: not null, and the caller says that it ends.
    let text = unsafe { CStr::from_ptr(text) }.to_string_lossy();
    let mut end = text.len().min(MAX_TEXT_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default().trim().replace(char::is_control, " ")
}
