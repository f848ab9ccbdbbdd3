//! Where training runs: the CPU, or a CUDA GPU in builds with the feature `cuda`. The driver is
//! asked before anything is made on a GPU, since a tensor without one would be a panic.

#[cfg(feature = "cuda")]
mod compiler;

use std::str::FromStr;

use burn::backend::{Autodiff, Flex};
use sfm_runtime::infer::backend::probe_gpu;

use crate::nn::TrainBackend;

/// `--device`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeviceChoice {
    /// GPU 0 if it can be used, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// The GPU of this number.
    Cuda(usize),
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(0)),
            _ => text
                .strip_prefix("cuda:")
                .and_then(|index| index.parse().ok())
                .map(Self::Cuda)
                .ok_or_else(|| "give auto, cpu, cuda or cuda:N".to_owned()),
        }
    }
}

/// A device that can be used, and the line that explains it.
#[derive(Debug, Clone)]
pub struct Device {
    gpu: Option<usize>,
    /// What was chosen, and why.
    pub why: String,
}

/// The asked-for device cannot be had: one sentence with the reason and what to do.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct DeviceError(String);

/// Work that runs on whatever device was chosen.
pub trait DeviceJob {
    /// What the work gives.
    type Output;

    /// Does the work on `device`.
    fn run<B: TrainBackend>(self, device: &B::Device) -> Self::Output;
}

impl Device {
    /// Chooses a device.
    ///
    /// # Errors
    /// [`DeviceError`] if a device asked for by name cannot be used; `auto` never fails.
    pub fn choose(choice: DeviceChoice) -> Result<Self, DeviceError> {
        match choice {
            DeviceChoice::Cpu => Ok(Self::cpu("asked for")),
            DeviceChoice::Cuda(index) => Self::cuda(index).map_err(|reason| {
                DeviceError(format!(
                    "--device cuda:{index} is not usable: {reason}; use --device auto"
                ))
            }),
            DeviceChoice::Auto => {
                Ok(Self::cuda(0).unwrap_or_else(|reason| Self::cpu(&format!("no CUDA: {reason}"))))
            }
        }
    }

    fn cpu(reason: &str) -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        Self { gpu: None, why: format!("CPU, {threads} thread(s) ({reason})") }
    }

    fn cuda(index: usize) -> Result<Self, String> {
        if !cfg!(feature = "cuda") {
            return Err("this sfm-train was built without the feature 'cuda'".to_owned());
        }
        let gpu = probe_gpu(index)?;
        #[cfg(feature = "cuda")]
        compiler::check()?;
        Ok(Self { gpu: Some(index), why: format!("CUDA GPU {index}, {gpu}") })
    }

    /// Checks that `count` devices can be used, this one and those numbered after it. On the CPU
    /// they are parts of the same CPU.
    ///
    /// # Errors
    /// [`DeviceError`] if a GPU among them cannot be used.
    pub fn with_more(mut self, count: usize) -> Result<Self, DeviceError> {
        let Some(first) = self.gpu else {
            if count > 1 {
                self.why +=
                    &format!(", as {count} devices one after the other: no faster than one");
            }
            return Ok(self);
        };
        for index in first + 1..first.saturating_add(count) {
            let more = Self::cuda(index).map_err(|reason| {
                let found = index - first;
                DeviceError(format!(
                    "--devices {count} is too many: GPU {index} is not usable ({reason}); \
                     from GPU {first} on there are {found}"
                ))
            })?;
            self.why += &format!("; {}", more.why);
        }
        Ok(self)
    }

    /// Whether this is a GPU.
    pub fn is_gpu(&self) -> bool {
        self.gpu.is_some()
    }

    /// Runs `job` in float32, on a GPU in bfloat16 if `bf16`; the CPU has float32 only.
    pub fn run<J: DeviceJob>(&self, bf16: bool, job: J) -> J::Output {
        #[cfg(feature = "cuda")]
        if let Some(index) = self.gpu {
            use burn::backend::{Cuda, cuda::CudaDevice};
            compiler::keep_kernels();
            let device = CudaDevice::new(index);
            return if bf16 {
                job.run::<Autodiff<Cuda<burn::tensor::bf16>>>(&device)
            } else {
                job.run::<Autodiff<Cuda>>(&device)
            };
        }
        let _ = bf16;
        job.run::<Autodiff<Flex>>(&Default::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_devices() {
        assert_eq!("cuda:3".parse(), Ok(DeviceChoice::Cuda(3)));
        assert_eq!("cuda".parse(), Ok(DeviceChoice::Cuda(0)));
        assert!("cuda:".parse::<DeviceChoice>().is_err());
        assert!("gpu".parse::<DeviceChoice>().is_err());
    }

    #[test]
    fn auto_always_finds_a_device_and_says_why() {
        let device = Device::choose(DeviceChoice::Auto).expect("never fails");
        assert!(device.why.contains("CPU") || device.why.contains("CUDA"));
    }

    #[test]
    fn a_gpu_that_is_not_there_is_refused() {
        let error = Device::choose(DeviceChoice::Cuda(99)).expect_err("no machine has 100 GPUs");
        assert!(error.to_string().starts_with("--device cuda:99 is not usable: "));
    }
}
