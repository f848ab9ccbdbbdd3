//! Panics as errors, at the seams to code that is not ours or that is fed with what is not ours:
//! engines on somebody's graph, a recording of an archive. The message is the error's; nothing is
//! printed meanwhile, since a refusal is one line.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::sync::Once;

/// Longest message that is kept, characters.
const MAX_MESSAGE: usize = 300;

thread_local! {
    /// Calls of [`caught`] that this thread is in.
    static DEPTH: Cell<usize> = const { Cell::new(0) };
    /// File and line of the last panic within one.
    static PLACE: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Calls `work`; a panic of it, on this thread, is an error: its message and place on one line.
/// What `work` borrows may be left half changed, so it must not be relied upon after an error.
///
/// # Errors
/// `work` panicked.
pub fn caught<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    keep_quiet();
    let _inside = Inside::enter();
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
        let place = PLACE.take().map_or(String::new(), |place| format!(" ({place})"));
        format!("it broke down: {}{place}", message(&*panic))
    })
}

/// One call of [`caught`].
struct Inside;

impl Inside {
    fn enter() -> Self {
        DEPTH.set(DEPTH.get() + 1);
        Self
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        DEPTH.set(DEPTH.get().saturating_sub(1));
    }
}

/// Puts a hook before the one that prints: inside of [`caught`] it notes the place instead.
fn keep_quiet() {
    static ONCE: Once = Once::new();
    // The hook cannot be changed while this thread unwinds.
    if ONCE.is_completed() || std::thread::panicking() {
        return;
    }
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let inside = DEPTH.try_with(Cell::get).is_ok_and(|depth| depth > 0);
            if !inside || PLACE.try_with(|last| last.replace(place(panic))).is_err() {
                before(panic);
            }
        }));
    });
}

/// `file.rs:12`, without the folders of the machine it was built on.
fn place(panic: &PanicHookInfo<'_>) -> Option<String> {
    let location = panic.location()?;
    let file = location.file().rsplit(['/', '\\']).next().unwrap_or_default();
    Some(format!("{file}:{}", location.line()))
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    let words = text.unwrap_or("without a message").split_whitespace();
    words.collect::<Vec<_>>().join(" ").chars().take(MAX_MESSAGE).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_its_message_and_place_on_one_line() {
        assert_eq!(caught(|| 7), Ok(7));
        let reason = caught(|| -> u8 { panic!("index {}\nout of range", 3) }).expect_err("panics");
        assert!(reason.starts_with("it broke down: index 3 out of range (caught.rs:"), "{reason}");
        let reason = caught(|| std::panic::panic_any(5_u8)).expect_err("panics");
        assert!(reason.contains("without a message"), "{reason}");
    }

    #[test]
    fn one_within_another_is_caught_where_it_happens() {
        let outer = caught(|| caught(|| -> u8 { panic!("inner") }).is_err());
        assert_eq!(outer, Ok(true));
        assert_eq!(DEPTH.get(), 0);
    }
}
