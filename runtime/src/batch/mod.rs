//! Many recordings at a time: which ones ([`archive`]), who they are ([`demographics`]), which are
//! done ([`marker`]) and whether their files still are whole ([`outputs`]), threads that work them off ([`run`]), and what is known of all of them: the
//! cohort table ([`table`], [`cohort`], written by [`files`]) and its page ([`page`]). Knows
//! nothing of pipelines: `cli/batch.rs` says how a recording is worked off.

pub mod archive;
pub mod cohort;
pub mod demographics;
pub mod files;
pub mod marker;
pub mod outlier;
pub mod outputs;
pub mod page;
pub mod run;
pub mod table;
