//! tract in place of an engine that fails: the promise of `--backend auto` beyond its probe. A GPU
//! may lack memory or kernels for a graph, which shows when the graph is loaded, warmed up or run.
//! The first failure of any graph moves all of them, so that one engine computes from there on.

use std::sync::{Arc, OnceLock};

use super::tract::TractSession;
use super::{InferError, Input, Session};

/// What the graphs of one backend share: whether their engine has failed.
#[derive(Debug)]
pub struct Fallback {
    /// The line that says so, once it has.
    failure: OnceLock<String>,
    threads: usize,
    /// Takes that line, once.
    tell: fn(&str),
}

/// A graph on an engine, and on tract from the engine's first failure on.
struct FallbackSession {
    name: String,
    onnx: Vec<u8>,
    /// `None` if the engine did not load it.
    engine: Option<Arc<dyn Session>>,
    tract: OnceLock<Result<TractSession, InferError>>,
    fallback: Arc<Fallback>,
}

impl Fallback {
    /// Nothing has failed yet; tract would run on `threads` worker threads.
    pub fn new(threads: usize) -> Arc<Self> {
        let tell = |line: &str| tracing::warn!("{line}");
        Arc::new(Self { failure: OnceLock::new(), threads, tell })
    }

    /// The same, with another taker of the line than the log.
    pub fn telling(&self, tell: fn(&str)) -> Arc<Self> {
        Arc::new(Self { failure: OnceLock::new(), threads: self.threads, tell })
    }

    /// What runs the graphs in place of the engine, and why; `None` while the engine does.
    pub fn failure(&self) -> Option<&str> {
        self.failure.get().map(String::as_str)
    }

    /// Graph `name` of the ONNX file `onnx` as `load` loads it, or on tract.
    ///
    /// # Errors
    /// [`InferError`] if tract refuses the graph as well.
    pub fn load(
        self: &Arc<Self>,
        name: &str,
        onnx: &[u8],
        load: impl FnOnce() -> Result<Arc<dyn Session>, InferError>,
    ) -> Result<Arc<dyn Session>, InferError> {
        let engine = match self.failure() {
            None => load().inspect_err(|error| self.fail(error)).ok(),
            Some(_) => None,
        };
        let (name, onnx) = (name.to_owned(), onnx.to_owned());
        let tract = OnceLock::new();
        let session = FallbackSession { name, onnx, engine, tract, fallback: self.clone() };
        if session.engine.is_none() {
            session.tract()?;
        }
        Ok(Arc::new(session))
    }

    fn fail(&self, error: &InferError) {
        let threads = self.threads;
        let line = format!("tract on the CPU, {threads} thread(s) ({error})");
        // Sessions run on several threads: only one of them tells.
        if self.failure.set(line.clone()).is_ok() {
            (self.tell)(&format!("backend: {line}"));
        }
    }
}

impl FallbackSession {
    fn tract(&self) -> Result<&TractSession, InferError> {
        let loaded = self.tract.get_or_init(|| TractSession::load(&self.name, &self.onnx));
        loaded.as_ref().map_err(Clone::clone)
    }
}

impl Session for FallbackSession {
    fn run(&self, inputs: &[Input<'_>], outputs: &mut [&mut [f32]]) -> Result<(), InferError> {
        if let Some(engine) = self.engine.as_ref().filter(|_| self.fallback.failure().is_none()) {
            match engine.run(inputs, outputs) {
                Ok(()) => return Ok(()),
                Err(error) => self.fallback.fail(&error),
            }
        }
        self.tract()?.run(inputs, outputs)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::infer::Fault;
    use crate::infer::backend::probe_graph;

    /// An engine that runs so many graphs and then has no memory. It answers -1.
    struct Failing(AtomicUsize);

    impl Session for Failing {
        fn run(&self, _: &[Input<'_>], outputs: &mut [&mut [f32]]) -> Result<(), InferError> {
            outputs[0].fill(-1.0);
            let left =
                self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1));
            left.map(drop).map_err(|_| no_memory())
        }
    }

    fn no_memory() -> InferError {
        InferError::new("probe", "a GPU", Fault::Engine, "out of memory")
    }

    fn failing(runs: usize) -> Result<Arc<dyn Session>, InferError> {
        Ok(Arc::new(Failing(AtomicUsize::new(runs))))
    }

    fn run(session: &Arc<dyn Session>) -> [f32; 2] {
        let mut y = [0.0; 2];
        session.run(&[Input::F32(&[2], &[1.0, 2.0])], &mut [&mut y]).expect("runs");
        y
    }

    #[test]
    fn a_failed_run_is_done_again_and_moves_all_graphs() {
        static TOLD: AtomicUsize = AtomicUsize::new(0);
        let fallback = Fallback::new(2).telling(|line| {
            assert_eq!(
                line,
                "backend: tract on the CPU, 2 thread(s) (graph 'probe' failed in a GPU: out of memory)"
            );
            TOLD.fetch_add(1, Ordering::Relaxed);
        });
        let graph = probe_graph();
        let sessions: Vec<_> = [1, 9]
            .map(|runs| fallback.load("probe", &graph, || failing(runs)).expect("loaded"))
            .into();
        assert_eq!((run(&sessions[0]), run(&sessions[1])), ([-1.0; 2], [-1.0; 2]));
        assert_eq!(fallback.failure(), None);
        assert_eq!(run(&sessions[0]), [1.0, 2.0], "the run that failed");
        assert_eq!(run(&sessions[1]), [1.0, 2.0], "a graph whose engine still works");
        assert_eq!(run(&sessions[0]), [1.0, 2.0]);
        assert!(fallback.failure().is_some_and(|line| line.contains("out of memory")));
        assert_eq!(TOLD.load(Ordering::Relaxed), 1);
        let later = fallback.load("probe", &graph, || panic!("the engine is not tried again"));
        assert_eq!(run(&later.expect("loaded")), [1.0, 2.0]);
    }

    #[test]
    fn a_graph_that_is_not_loaded_goes_to_tract_and_a_broken_one_is_refused() {
        let fallback = Fallback::new(1);
        let loaded = fallback.load("probe", &probe_graph(), || Err(no_memory())).expect("loaded");
        assert_eq!(run(&loaded), [1.0, 2.0]);
        let refused = fallback.load("probe", b"no graph", || failing(1)).map(drop);
        assert_eq!(refused.map_err(|e| e.fault), Err(Fault::Graph));
    }
}
