//! Where `finetune staging` and `evaluate staging` find scored stages.

use std::path::PathBuf;

use clap::Args;
use sfm_runtime::hypnogram::{Codes, ReadOptions, parse_epoch_s};

use crate::data::labels::StageFolder;

/// A folder of scorings.
#[derive(Args)]
pub struct StagesArgs {
    /// Folder of scorings in any format that `sfm-stream score --help` lists, named after their
    /// recordings: <cohort>/<id>.csv, <id>.csv, <id>-nsrr.xml, ...
    #[arg(long, value_name = "DIR")]
    stages: PathBuf,
    /// What bare numbers in them stand for: yasa, rk, isruc, dreams, ucddb, zmax, usleep, or pairs as
    /// 0=W,1=N1,2=N2,3=N3,5=R,9=?
    #[arg(long, value_name = "CODE")]
    codes: Option<Codes>,
    /// Length of an epoch of files that do not say it, seconds
    #[arg(long, value_name = "S", value_parser = parse_epoch_s)]
    epoch_s: Option<f64>,
}

impl StagesArgs {
    /// The folder with what is known about its files.
    pub fn folder(&self) -> StageFolder {
        let options = ReadOptions { codes: self.codes.clone(), epoch_s: self.epoch_s };
        StageFolder { path: self.stages.clone(), options }
    }
}
