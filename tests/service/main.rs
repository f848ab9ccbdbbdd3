//! What a session needs to run for a night unattended, as those who ask for it see it: HTTP
//! clients, the service manager, the journal. What belongs to a whole process (signals,
//! environment variables, stderr) is done by a child: this program, told to run one ignored test.

#![cfg(unix)]

#[path = "../web/client.rs"]
mod client;
mod http;
mod log;
mod stop;
mod systemd;

/// This program as a process that runs nothing but the ignored test `name`.
fn child(name: &str) -> std::process::Command {
    let program = std::env::current_exe().expect("this program");
    let mut command = std::process::Command::new(program);
    command.args(["--exact", name, "--ignored", "--nocapture"]);
    for name in ["NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", "JOURNAL_STREAM", "SFM_LOG"] {
        command.env_remove(name);
    }
    command.stdout(std::process::Stdio::null());
    command
}
