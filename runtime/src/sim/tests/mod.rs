//! The simulator against a host that keeps its own account of what it decodes.

mod account;
mod host;
mod recordings;
mod time;
