//! `sfm-sim`: see `sfm-sim --help` and README.md.

use std::process::ExitCode;

fn main() -> ExitCode {
    sfm_runtime::sim::cli::main()
}
