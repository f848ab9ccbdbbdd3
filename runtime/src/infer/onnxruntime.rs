//! ONNX Runtime, on the CPU or a CUDA device, loaded at run time: no build needs it. The library
//! is taken from `ORT_DYLIB_PATH`, from beside the binary, or from the system's library path.

use std::path::PathBuf;
use std::sync::{Mutex, OnceLock, PoisonError, TryLockError};

use ort::environment::Environment;
use ort::session::Session as OrtGraph;
use ort::session::SessionInputValue;
use ort::session::builder::GraphOptimizationLevel;
use ort::value::TensorRef;

use super::{Fault, InferError, Input, Session, copy_output, guarded};

const ENGINE: &str = "ONNX Runtime";

/// Where a graph runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Device {
    /// The CPU; up to this many calls run at once, each on one thread.
    Cpu {
        /// Number of concurrent calls.
        workers: usize,
    },
    /// A CUDA device by ordinal.
    Cuda(u32),
}

/// Loads the library, once a process.
///
/// # Errors
/// One sentence saying where it was looked for or why it was refused.
pub fn environment() -> Result<&'static Environment, String> {
    // Kept in the success case only: a failed attempt names its reason anew each time.
    static ENVIRONMENT: OnceLock<Environment> = OnceLock::new();
    static LOADING: Mutex<()> = Mutex::new(());
    let _one_at_a_time = LOADING.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(environment) = ENVIRONMENT.get() {
        return Ok(environment);
    }
    let mut reasons = Vec::new();
    for path in candidates() {
        match ort::init_from(&path) {
            Ok(builder) => {
                let built = builder
                    .with_name("sfm")
                    .with_telemetry(false)
                    .build()
                    .map_err(|e| format!("ONNX Runtime at {} refused: {e}", path.display()))?;
                return Ok(ENVIRONMENT.get_or_init(|| built));
            }
            Err(e) => reasons.push(format!("{}: {e}", path.display())),
        }
    }
    let reason = reasons.join("; ").split_whitespace().collect::<Vec<_>>().join(" ");
    Err(format!(
        "ONNX Runtime was not found ({reason}); install it and set ORT_DYLIB_PATH to libonnxruntime.so"
    ))
}

/// `ORT_DYLIB_PATH` alone if it is set, else beside the binary, then the system's library path.
fn candidates() -> Vec<PathBuf> {
    let file = libloading_name();
    if let Some(path) = std::env::var_os("ORT_DYLIB_PATH").filter(|p| !p.is_empty()) {
        return vec![PathBuf::from(path)];
    }
    let beside = std::env::current_exe().ok().and_then(|exe| Some(exe.parent()?.join(file)));
    beside.filter(|path| path.exists()).into_iter().chain([PathBuf::from(file)]).collect()
}

fn libloading_name() -> &'static str {
    if cfg!(target_os = "windows") {
        "onnxruntime.dll"
    } else if cfg!(target_os = "macos") {
        "libonnxruntime.dylib"
    } else {
        "libonnxruntime.so"
    }
}

/// A graph in ONNX Runtime.
pub struct OrtSession {
    name: String,
    // A session of ort runs one call at a time; the CPU gets one single-threaded session a worker.
    workers: Vec<Mutex<OrtGraph>>,
}

impl OrtSession {
    /// Loads the ONNX file `onnx` of graph `name` on `device`.
    ///
    /// # Errors
    /// [`InferError`] if the library is missing, the device cannot be used (never a silent
    /// fall-back to the CPU) or the graph is refused.
    pub fn load(name: &str, onnx: &[u8], device: Device) -> Result<Self, InferError> {
        let environment = guarded(name, ENGINE, Fault::Engine, environment)?;
        let count = match device {
            Device::Cpu { workers } => workers.max(1),
            Device::Cuda(_) => 1,
        };
        let load = |_| commit(environment, onnx, device).map(Mutex::new);
        let workers = guarded(name, ENGINE, Fault::Graph, || {
            (0..count).map(load).collect::<ort::Result<Vec<_>>>().map_err(|e| e.to_string())
        })?;
        Ok(Self { name: name.to_owned(), workers })
    }

    fn try_run(
        &self,
        inputs: &[Input<'_>],
        outputs: &mut [&mut [f32]],
    ) -> Result<(), Box<dyn std::error::Error>> {
        let values = inputs
            .iter()
            .map(|input| {
                Ok(match *input {
                    Input::F32(shape, data) => TensorRef::from_array_view((shape, data))?.into(),
                    Input::I64(shape, data) => TensorRef::from_array_view((shape, data))?.into(),
                })
            })
            .collect::<ort::Result<Vec<SessionInputValue<'_>>>>()?;
        let mut graph = self.free_worker();
        let results = graph.run(values.as_slice())?;
        if results.len() < outputs.len() {
            return Err(format!("{} outputs where {} are due", results.len(), outputs.len()).into());
        }
        for (index, output) in outputs.iter_mut().enumerate() {
            let (_, values) = results[index].try_extract_tensor::<f32>()?;
            copy_output(values, output)?;
        }
        Ok(())
    }

    fn free_worker(&self) -> std::sync::MutexGuard<'_, OrtGraph> {
        for worker in &self.workers {
            match worker.try_lock() {
                Ok(graph) => return graph,
                Err(TryLockError::Poisoned(poisoned)) => return poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => {}
            }
        }
        self.workers[0].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn commit(environment: &Environment, onnx: &[u8], device: Device) -> ort::Result<OrtGraph> {
    let builder = OrtGraph::builder(environment)?
        .with_optimization_level(GraphOptimizationLevel::All)?
        .with_intra_threads(1)?
        .with_inter_threads(1)?
        .with_intra_op_spinning(false)?;
    let mut builder = match device {
        // The arena rounds up and keeps what it once held: 45 MB more over a night, no faster.
        Device::Cpu { .. } => builder.with_execution_providers([ort::ep::CPU::default()
            .with_arena_allocator(false)
            .build()])?,
        // Without `error_on_failure` a missing CUDA library would give a CPU session. TF32 would
        // cost three decimals.
        Device::Cuda(ordinal) => builder.with_execution_providers([ort::ep::CUDA::default()
            .with_device_id(ordinal as i32)
            .with_tf32(false)
            .build()
            .error_on_failure()])?,
    };
    builder.commit_from_memory(onnx)
}

impl Session for OrtSession {
    fn run(&self, inputs: &[Input<'_>], outputs: &mut [&mut [f32]]) -> Result<(), InferError> {
        guarded(&self.name, ENGINE, Fault::Engine, || {
            self.try_run(inputs, outputs).map_err(|e| e.to_string())
        })
    }
}
