//! Which engine runs the graphs on which device, and why the better one does not. The GPU is
//! probed with the CUDA driver before anything that would fail or fall back silently is tried.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::fallback::Fallback;
use super::graph_check;
use super::onnxruntime::{self, Device, OrtSession};
use super::tract::TractSession;
use super::{InferError, Session};

/// `--backend`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum BackendChoice {
    /// CUDA where there is a usable GPU, else tract on the CPU.
    Auto,
    /// ONNX Runtime with the CUDA provider.
    Cuda,
    /// ONNX Runtime on the CPU.
    Ort,
    /// tract on the CPU.
    Tract,
}

/// The engine that runs the graphs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// tract on the CPU.
    Tract,
    /// ONNX Runtime on a device.
    OnnxRuntime(Device),
}

/// An engine and the line that explains it.
#[derive(Debug, Clone)]
pub struct Backend {
    /// The engine that was chosen.
    pub engine: Engine,
    why: String,
    /// tract takes over if the engine fails.
    fallback: Option<Arc<Fallback>>,
}

/// The asked-for backend cannot be had: one sentence with the reason and what to do.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct BackendError(String);

impl Backend {
    /// Chooses an engine for `threads` worker threads. With `auto`, tract takes over if CUDA fails later.
    ///
    /// # Errors
    /// [`BackendError`] if a backend asked for by name is not usable; `auto` never fails.
    pub fn choose(choice: BackendChoice, threads: usize) -> Result<Self, BackendError> {
        match choice {
            BackendChoice::Tract => Ok(Self::tract(threads, "asked for".to_owned())),
            BackendChoice::Ort => Self::onnx_runtime_cpu(threads).map_err(BackendError),
            BackendChoice::Cuda => Self::cuda().map_err(|reason| {
                BackendError(format!("--backend cuda is not usable: {reason}; use --backend auto"))
            }),
            BackendChoice::Auto => Ok(match Self::cuda() {
                Ok(cuda) => Self { fallback: Some(Fallback::new(threads)), ..cuda },
                Err(reason) => Self::tract(threads, format!("no CUDA: {reason}")),
            }),
        }
    }

    /// Has `tell` take the line that says that another engine took over, instead of the log. Before the
    /// first graph is loaded.
    #[must_use]
    pub fn telling(self, tell: fn(&str)) -> Self {
        Self { fallback: self.fallback.map(|fallback| fallback.telling(tell)), ..self }
    }

    /// What runs the graphs, on which device, and why the better one does not.
    pub fn why(&self) -> &str {
        self.failure().unwrap_or(&self.why)
    }

    /// What took over because the engine that was chosen failed, and why.
    pub fn failure(&self) -> Option<&str> {
        self.fallback.as_ref()?.failure()
    }

    fn tract(threads: usize, reason: String) -> Self {
        let why = format!("tract on the CPU, {threads} thread(s) ({reason})");
        Self { engine: Engine::Tract, why, fallback: None }
    }

    fn onnx_runtime_cpu(threads: usize) -> Result<Self, String> {
        onnxruntime::environment()?;
        let why = format!("ONNX Runtime on the CPU, {threads} thread(s) (asked for)");
        let engine = Engine::OnnxRuntime(Device::Cpu { workers: threads });
        Ok(Self { engine, why, fallback: None })
    }

    fn cuda() -> Result<Self, String> {
        let gpu = probe_gpu(0)?;
        // A library without CUDA, or CUDA without cuDNN, shows only when a graph is loaded.
        OrtSession::load("probe", &probe_graph(), Device::Cuda(0)).map_err(|e| e.reason)?;
        let why = format!("ONNX Runtime with CUDA on GPU 0, {gpu}");
        Ok(Self { engine: Engine::OnnxRuntime(Device::Cuda(0)), why, fallback: None })
    }

    /// Loads graph `name` from the ONNX file `onnx`.
    ///
    /// # Errors
    /// [`InferError`] if the graph is none that a bundle has, or the engine refuses it.
    pub fn load(&self, name: &str, onnx: &[u8]) -> Result<Arc<dyn Session>, InferError> {
        graph_check::check(name, onnx)?;
        let load = || -> Result<Arc<dyn Session>, InferError> {
            Ok(match self.engine {
                Engine::Tract => Arc::new(TractSession::load(name, onnx)?),
                Engine::OnnxRuntime(device) => Arc::new(OrtSession::load(name, onnx, device)?),
            })
        };
        match &self.fallback {
            Some(fallback) => fallback.load(name, onnx, load),
            None => load(),
        }
    }
}

/// The smallest ONNX model there is: `y = Identity(x)`.
pub(super) fn probe_graph() -> Vec<u8> {
    use prost::Message;
    use tract_onnx::pb;
    let value = |name: &str| {
        let tensor = pb::type_proto::Tensor { elem_type: 1, ..Default::default() };
        let value = Some(pb::type_proto::Value::TensorType(tensor));
        pb::ValueInfoProto {
            name: name.to_owned(),
            r#type: Some(pb::TypeProto { value, ..Default::default() }),
            ..Default::default()
        }
    };
    let node = pb::NodeProto {
        op_type: "Identity".to_owned(),
        input: vec!["x".to_owned()],
        output: vec!["y".to_owned()],
        ..Default::default()
    };
    let graph = pb::GraphProto {
        name: "probe".to_owned(),
        node: vec![node],
        input: vec![value("x")],
        output: vec![value("y")],
        ..Default::default()
    };
    let opset = pb::OperatorSetIdProto { version: 17, ..Default::default() };
    pb::ModelProto {
        ir_version: 8,
        opset_import: vec![opset],
        graph: Some(graph),
        ..Default::default()
    }
    .encode_to_vec()
}

/// Name and memory of GPU `index`, or why there is none.
///
/// # Errors
/// One clause: no driver, a driver that does not start, no such device.
pub fn probe_gpu(index: usize) -> Result<String, String> {
    use cudarc::driver::{result, sys};
    // SAFETY: looks for the driver's shared library by name; loading it runs the vendor's
    // initializers and nothing of ours. Without this check cudarc's other calls panic.
    if !unsafe { sys::is_culib_present() } {
        return Err("no NVIDIA driver (libcuda) on this machine".to_owned());
    }
    let failed = |step: &str, e: result::DriverError| {
        let reason = e.error_string().map(|s| s.to_string_lossy().into_owned());
        format!("the NVIDIA driver failed to {step} ({})", reason.unwrap_or_else(|_| e.to_string()))
    };
    result::init().map_err(|e| failed("start", e))?;
    let count = result::device::get_count().map_err(|e| failed("count its devices", e))?;
    let ordinal = i32::try_from(index).unwrap_or(i32::MAX);
    if ordinal >= count {
        return Err(format!("the NVIDIA driver sees {count} GPU(s), none with number {index}"));
    }
    let device = result::device::get(ordinal).map_err(|e| failed("open the GPU", e))?;
    let name = result::device::get_name(device).map_err(|e| failed("name the GPU", e))?;
    // SAFETY: `device` was returned by `device::get` just above.
    let bytes =
        unsafe { result::device::total_mem(device) }.map_err(|e| failed("size the GPU", e))?;
    Ok(format!("{name}, {} GiB", bytes >> 30))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::infer::Input;

    #[test]
    fn the_probe_is_a_graph_that_runs() {
        let session = TractSession::load("probe", &probe_graph()).expect("parses");
        let mut y = [0.0; 2];
        session.run(&[Input::F32(&[2], &[1.0, 2.0])], &mut [&mut y]).expect("runs");
        assert_eq!(y, [1.0, 2.0]);
    }
}
