//! What goes to standard error while the terminal holds a picture: read line by line instead of
//! garbling it, whoever writes it (log, warnings, libraries), and written behind the picture. Where
//! standard error is no terminal it is left alone.

use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// Lines kept for the end; the oldest go first.
#[cfg(unix)]
const MAX_LINES: usize = 1000;

/// Holds standard error until it is dropped.
pub(super) struct HeldStderr {
    #[cfg(unix)]
    original: Option<std::os::fd::OwnedFd>,
    reader: Option<JoinHandle<()>>,
    lines: Arc<Mutex<std::collections::VecDeque<String>>>,
}

#[cfg(unix)]
impl HeldStderr {
    /// From now on `line` gets what is written there.
    pub fn hold(line: impl Fn(&str) + Send + 'static) -> std::io::Result<Self> {
        use std::io::{BufRead, BufReader, IsTerminal};
        use std::os::fd::AsFd;
        let lines = Arc::new(Mutex::default());
        let stderr = std::io::stderr();
        if !stderr.is_terminal() {
            return Ok(Self { original: None, reader: None, lines });
        }
        let original = stderr.as_fd().try_clone_to_owned()?;
        let (from, to) = std::io::pipe()?;
        let kept = lines.clone();
        let reader = std::thread::Builder::new().name("stderr".to_owned()).spawn(move || {
            for bytes in BufReader::new(from).split(b'\n').map_while(Result::ok) {
                let text = String::from_utf8_lossy(&bytes);
                line(&text);
                let mut kept = kept.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                if kept.len() == MAX_LINES {
                    kept.pop_front();
                }
                kept.push_back(text.into_owned());
            }
        })?;
        rustix::stdio::dup2_stderr(&to)?;
        Ok(Self { original: Some(original), reader: Some(reader), lines })
    }
}

#[cfg(not(unix))]
impl HeldStderr {
    /// Leaves it alone.
    pub fn hold(_line: impl Fn(&str) + Send + 'static) -> std::io::Result<Self> {
        Ok(Self { reader: None, lines: Arc::default() })
    }
}

impl Drop for HeldStderr {
    fn drop(&mut self) {
        // What was said until now belongs into the pane.
        crate::service::console::flush();
        #[cfg(unix)]
        if let Some(original) = self.original.take()
            && rustix::stdio::dup2_stderr(&original).is_err()
        {
            // The pipe stays open: waiting for its end would be for ever.
            return;
        }
        // The pipe's last writer is gone, so its reader ends.
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
        let lines = self.lines.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        lines.iter().for_each(|line| super::super::say(line));
    }
}
