//! Live sessions through the programs: `sfm-sim` plays a recording as sensors, `sfm-stream` records
//! and stages it. Accounts are compared to the sample with what the simulator says it injected.
//! `SFM_LONG=1` plays a longer night and kills more often.

#[cfg(unix)]
mod access;
mod cut;
mod damage;
mod derived;
mod engine;
mod folder;
mod hostile;
#[path = "../web/http.rs"]
#[allow(dead_code)]
mod http;
mod late;
mod loss;
mod night;
mod patients;
mod rough;
mod run;
mod silence;
#[path = "../skip.rs"]
mod skip;
#[allow(dead_code)]
#[path = "../snapshot.rs"]
mod snapshot;
#[cfg(unix)]
mod stalled;
mod strangers;
