//! Live sessions through the programs: `sfm-sim` plays a recording as sensors, `sfm-stream` records
//! and stages it. Accounts are compared to the sample with what the simulator says it injected.
//! `SFM_LONG=1` plays a longer night and kills more often.

mod cut;
mod hostile;
mod night;
mod rough;
mod run;
