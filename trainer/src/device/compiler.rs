//! burn writes its GPU kernels while a program runs and has NVRTC of a CUDA toolkit compile them.
//! What is missing is said before burn would panic; what was compiled is kept for the next run.

use std::path::PathBuf;
use std::sync::Once;

use burn::cubecl::config::cache::CacheConfig;
use burn::cubecl::config::{CubeClRuntimeConfig, RuntimeConfig};
use burn::cubecl::cuda::install::cuda_path;
use cudarc::nvrtc::sys::is_culib_present;

/// Checks that kernels can be compiled here.
///
/// # Errors
/// One clause: no NVRTC, or no headers.
pub(super) fn check() -> Result<(), String> {
    // SAFETY: looks for a shared library by name; loading it runs the vendor's initializers and
    // nothing of ours. Without this check the first kernel panics.
    if !unsafe { is_culib_present() } {
        return Err("no NVRTC (libnvrtc of a CUDA toolkit) is found on this machine".to_owned());
    }
    let Some(toolkit) = cuda_path() else {
        return Err("no CUDA toolkit in /usr/local/cuda; set CUDA_PATH".to_owned());
    };
    let header = toolkit.join("include/cuda_fp16.h");
    if !header.exists() {
        return Err(format!("{} is not there; set CUDA_PATH to a CUDA toolkit", header.display()));
    }
    Ok(())
}

/// Keeps compiled kernels in the user's cache folder, if no `cubecl.toml` names another one.
/// Without effect from the second call on.
pub(super) fn keep_kernels() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let Some(folder) = cache_folder() else { return };
        let mut config = CubeClRuntimeConfig::from_current_dir().override_from_env();
        config.compilation.cache.get_or_insert_with(|| CacheConfig::File(folder.clone()));
        if matches!(config.autotune.cache, CacheConfig::Target) {
            config.autotune.cache = CacheConfig::File(folder);
        }
        CubeClRuntimeConfig::set(config);
    });
}

/// By the XDG base directory specification.
fn cache_folder() -> Option<PathBuf> {
    let of_user = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache"));
    let folder = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(of_user)?;
    folder.is_absolute().then(|| folder.join("sfm-train"))
}
