//! Runs the program within limits of memory and time, and checks what holds for every run.

use std::ffi::OsString;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use sfm_runtime::text::is_hidden;
use tempfile::TempDir;

use crate::output::Output;

/// Address space of a run, KiB. The program takes about a third of it, threads and code included.
const ADDRESS_SPACE_KIB: u32 = 2 << 20;
/// Nothing here takes more than a few seconds on a quiet machine.
const TIMEOUT: Duration = Duration::from_secs(150);

/// A run that ended by itself.
#[derive(Debug)]
pub struct Run {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Run {
    /// The one line on stderr that is all of a refusal; it ends the run with `code`.
    pub fn refused(&self, code: i32) -> &str {
        assert_eq!(self.code, code, "{self:#?}");
        assert_eq!(self.stdout, "", "{self:#?}");
        let line = self.stderr.strip_suffix('\n').expect("a line");
        assert!(!line.contains('\n'), "more than one line: {self:#?}");
        line.strip_prefix("sfm-stream: ").expect("the program's name")
    }

    /// The stdout of a run that was carried through.
    pub fn done(&self) -> &str {
        assert_eq!(self.code, 0, "{self:#?}");
        &self.stdout
    }

    /// The warnings on stderr.
    pub fn warnings(&self) -> Vec<&str> {
        self.stderr.lines().filter_map(|line| line.strip_prefix("warning: ")).collect()
    }

    /// Asserts that one of the warnings contains `text`.
    pub fn warns(&self, text: &str) {
        assert!(self.warnings().iter().any(|w| w.contains(text)), "no '{text}' in {self:#?}");
    }
}

/// A folder of its own for recordings and results.
pub struct Bench {
    dir: TempDir,
}

impl Bench {
    pub fn new() -> Self {
        Self { dir: tempfile::tempdir().expect("a temporary folder") }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, content).expect("written");
        path
    }

    /// `sfm-stream` in this folder.
    pub fn command<A: Into<OsString>>(&self, args: impl IntoIterator<Item = A>) -> Command {
        let script = format!("ulimit -v {ADDRESS_SPACE_KIB}; exec \"$0\" \"$@\"");
        let mut command = if cfg!(target_os = "linux") {
            let mut shell = Command::new("sh");
            shell.args(["-c", &script, env!("CARGO_BIN_EXE_sfm-stream")]);
            shell
        } else {
            Command::new(env!("CARGO_BIN_EXE_sfm-stream"))
        };
        command
            .args(args.into_iter().map(Into::into))
            .current_dir(self.dir.path())
            .env_remove("ORT_DYLIB_PATH")
            .env_remove("RUST_BACKTRACE")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs `sfm-stream` with these arguments, separated by spaces.
    pub fn run(&self, args: &str) -> Run {
        wait(self.command(args.split_whitespace()))
    }

    /// Replays `file` with two threads of tract, through the bundle of `tests/data/mini` if `more`
    /// names none; `more` arguments are separated by spaces.
    pub fn replay(&self, file: &Path, more: &str) -> Run {
        wait(self.replaying(file, more))
    }

    pub fn replaying(&self, file: &Path, more: &str) -> Command {
        let mut args: Vec<OsString> = vec!["--replay".into(), file.into()];
        if !more.contains("--bundle") {
            args.extend(["--bundle".into(), data("mini/mini.sfm").into()]);
        }
        let fixed = "--out out --backend tract --threads 2";
        args.extend(fixed.split_whitespace().chain(more.split_whitespace()).map(Into::into));
        self.command(args)
    }

    /// What the last [`Bench::replay`] left.
    pub fn output(&self) -> Output {
        Output::read(&self.path("out"))
    }
}

/// Waits for the end of a run and checks what holds for all.
pub fn wait(mut command: Command) -> Run {
    wait_for(command.spawn().expect("the program starts"))
}

pub fn wait_for(mut child: Child) -> Run {
    let stdout = child.stdout.take().map(reader);
    let stderr = child.stderr.take().map(reader);
    let begun = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().expect("status") {
            break status;
        }
        if begun.elapsed() > TIMEOUT {
            let _ = child.kill();
            panic!("the program did not end within {TIMEOUT:?}");
        }
        std::thread::sleep(Duration::from_millis(3));
    };
    let text = |thread: Option<std::thread::JoinHandle<Vec<u8>>>| {
        let bytes = thread.map(|t| t.join().expect("read")).unwrap_or_default();
        String::from_utf8(bytes).expect("UTF-8")
    };
    let code = status.code().unwrap_or_else(|| panic!("ended by a signal: {status}"));
    let run = Run { code, stdout: text(stdout), stderr: text(stderr) };
    assert!(!run.stderr.contains("panicked"), "{run:#?}");
    assert!([0, 2, 3, 4, 5].contains(&run.code), "{run:#?}");
    for text in [&run.stdout, &run.stderr] {
        assert!(!text.chars().any(|c| c != '\n' && is_hidden(c)), "for a terminal: {run:#?}");
    }
    if run.code != 0 {
        let last = run.stderr.lines().last().unwrap_or_default();
        assert!(last.starts_with("sfm-stream: "), "{run:#?}");
    }
    run
}

fn reader(mut pipe: impl Read + Send + 'static) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        pipe.read_to_end(&mut bytes).expect("read");
        bytes
    })
}

/// A file of `tests/data`.
pub fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data").join(name)
}
