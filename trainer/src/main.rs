//! `sfm-train`: the command line. Exit codes: 0 done, 2 wrong usage, 3 input unreadable,
//! 4 checkpoint or bundle refused, 5 the run failed.

use std::process::ExitCode;

fn main() -> ExitCode {
    sfm_trainer::memory::keep_freed();
    sfm_trainer::cli::main()
}
