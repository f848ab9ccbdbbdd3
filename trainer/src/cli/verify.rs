//! `sfm-train verify`: a bundle's graphs on every engine of this machine against burn.

use std::path::PathBuf;

use burn::backend::Flex;
use clap::Args;
use sfm_models::{Bundle, BundleError};
use sfm_runtime::infer::backend::{Backend, BackendChoice};

use super::{FAILED, Failure, REFUSED, UNREADABLE, named, say};
use crate::export::verify::{TOLERANCE, differences};

/// Runs burn, tract and, where there is one, ONNX Runtime on the same input.
#[derive(Args)]
pub struct VerifyArgs {
    /// The bundle.
    #[arg(value_name = "FILE.sfm")]
    file: PathBuf,
}

/// Prints the largest difference of each graph from burn, and fails if one is over 1e-4.
pub fn run(args: VerifyArgs) -> Result<(), Failure> {
    let refused = |error: &dyn std::fmt::Display| (REFUSED, named(&args.file, error));
    let bundle = Bundle::open(&args.file).map_err(|error| match error {
        BundleError::Read(_) => (UNREADABLE, named(&args.file, &error)),
        _ => refused(&error),
    })?;
    bundle.labels().map_err(|e| refused(&e))?;
    bundle.quantiles().map_err(|e| refused(&e))?;
    let mut over = Vec::new();
    for choice in [BackendChoice::Tract, BackendChoice::Ort, BackendChoice::Cuda] {
        let engine = match Backend::choose(choice, 1) {
            Ok(engine) => engine,
            Err(reason) => {
                say(format_args!("skipped  {reason}"));
                continue;
            }
        };
        say(format_args!("engine   {}", engine.why()));
        let found = differences::<Flex>(&bundle, &engine, &Default::default());
        for difference in found.map_err(|e| refused(&e))? {
            say(format_args!("  {:<26} {:.1e}", difference.graph, difference.largest));
            // Written so that a NaN is over it, too.
            if !matches!(difference.largest.partial_cmp(&TOLERANCE), Some(order) if order.is_le()) {
                over.push(difference.graph);
            }
        }
    }
    if over.is_empty() {
        say(format_args!("verified {}", args.file.display()));
        return Ok(());
    }
    let message = format!("differs from burn by more than {TOLERANCE:.0e} in {}", over.join(", "));
    Err((FAILED, named(&args.file, &message)))
}
