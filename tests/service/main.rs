//! What a session needs to run for a night unattended, as those who ask for it see it: HTTP
//! clients, the service manager.

#![cfg(unix)]

mod http;
mod systemd;
