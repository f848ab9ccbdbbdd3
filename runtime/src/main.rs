//! `sfm-stream`: see `sfm-stream --help` and README.md.

use std::process::ExitCode;

fn main() -> ExitCode {
    sfm_runtime::cli::main()
}
