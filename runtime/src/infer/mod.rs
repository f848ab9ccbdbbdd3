//! Runs a bundle's graphs. [`Session`] is the seam between the network and the engines: tract
//! (pure Rust) and ONNX Runtime on the CPU or a CUDA device. Choosing among them, and saying why,
//! is [`backend`]'s; one that fails is replaced by [`fallback`]; the tokenizer's own kernel for CPUs is
//! [`tokenizer_kernel`]'s; [`batch`] lets several beds share a run. No engine sees a graph before it was checked, and a panic of one is an
//! error like any other.

pub mod backend;
pub mod batch;
pub mod fallback;
pub(crate) mod graph_check;
pub mod onnxruntime;
pub mod tokenizer_kernel;
pub mod tract;

/// One input of a graph: its shape and its values in row-major order.
#[derive(Debug, Clone, Copy)]
pub enum Input<'a> {
    /// float32 values.
    F32(&'a [usize], &'a [f32]),
    /// int64 values.
    I64(&'a [usize], &'a [i64]),
}

impl Input<'_> {
    /// The input's shape.
    pub fn shape(&self) -> &[usize] {
        match self {
            Input::F32(shape, _) | Input::I64(shape, _) => shape,
        }
    }
}

/// A loaded graph, callable from several threads at once.
pub trait Session: Send + Sync {
    /// Runs the graph: `inputs` in the graph's order, each of `outputs` filled with the values of
    /// the output at its place.
    ///
    /// # Errors
    /// [`InferError`] if the engine refuses the shapes or fails, or if an output has another
    /// number of values than its slice.
    fn run(&self, inputs: &[Input<'_>], outputs: &mut [&mut [f32]]) -> Result<(), InferError>;
}

/// An engine failed: one line with the graph's name and the engine's reason.
#[derive(Debug, Clone, thiserror::Error)]
#[error("graph '{graph}' failed in {engine}: {reason}")]
pub struct InferError {
    /// Name of the graph, as in the bundle.
    pub graph: String,
    /// `tract` or `ONNX Runtime`.
    pub engine: &'static str,
    /// The engine's message, on one line.
    pub reason: String,
    /// What is at fault.
    pub fault: Fault,
}

/// What is at fault where an engine fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The graph: it fails again wherever it is run, and another bundle is needed.
    Graph,
    /// The engine or what it runs on, such as a GPU without memory.
    Engine,
}

impl InferError {
    fn new(
        graph: &str,
        engine: &'static str,
        fault: Fault,
        reason: impl std::fmt::Display,
    ) -> Self {
        let reason = reason.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
        Self { graph: graph.to_owned(), engine, reason, fault }
    }

    /// The bundle is to be refused: `reason` says what its graph lacks.
    pub(crate) fn refused(graph: &str, by: &'static str, reason: impl std::fmt::Display) -> Self {
        Self::new(graph, by, Fault::Graph, reason)
    }
}

/// Calls an engine for `graph`: its errors and its panics are errors that name the graph.
fn guarded<T>(
    graph: &str,
    engine: &'static str,
    fault: Fault,
    work: impl FnOnce() -> Result<T, String>,
) -> Result<T, InferError> {
    let result = crate::caught::caught(work).and_then(|result| result);
    result.map_err(|reason| InferError::new(graph, engine, fault, reason))
}

/// Copies one output tensor into the caller's slice.
fn copy_output(values: &[f32], output: &mut [f32]) -> Result<(), String> {
    if values.len() != output.len() {
        return Err(format!(
            "an output has {} values where {} are due",
            values.len(),
            output.len()
        ));
    }
    output.copy_from_slice(values);
    Ok(())
}
