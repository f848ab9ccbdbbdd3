//! Who may connect: addresses, the token of `/metrics`, the list of devices. It refuses an address
//! that other machines can reach unless the user said so. Read once at the start; any thread.

use std::collections::BTreeSet;
use std::io::Read;
use std::net::SocketAddr;
use std::path::Path;
use std::str::FromStr;

use serde::Deserialize;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// Shortest token, bytes: 128 random bits in hexadecimal are 32.
pub const MIN_TOKEN_BYTES: usize = 16;

/// Longest token file.
const MAX_TOKEN_BYTES: u64 = 4096;

/// What other machines may do, as the user said it.
#[derive(Debug, Clone, Default)]
pub struct RemoteAccess {
    /// Addresses that other machines can reach may be listened on.
    pub listen_remote: bool,
    /// What a request for `/metrics` or `/healthz` has to show.
    pub token: Option<Token>,
}

/// Whether a port for sensors or for `/metrics` may be opened at `addr`: on loopback always, else
/// with `--listen-remote`. Connections that this program makes itself are not its concern.
///
/// # Errors
/// One sentence that says what to do.
pub fn allowed(addr: SocketAddr, access: &RemoteAccess) -> Result<(), String> {
    if is_loopback(addr) || access.listen_remote {
        return Ok(());
    }
    Err(format!(
        "other machines can reach {addr}; use 127.0.0.1:{}, or say --listen-remote if they may",
        addr.port()
    ))
}

/// Whether `/metrics` and `/healthz` may be served at `addr`: as in [`allowed`], and for other
/// machines with a token only.
///
/// # Errors
/// One sentence that says what to do.
pub fn allowed_http(addr: SocketAddr, access: &RemoteAccess) -> Result<(), String> {
    allowed(addr, access)?;
    if is_loopback(addr) || access.token.is_some() {
        return Ok(());
    }
    Err(format!(
        "other machines can reach {addr}; --token-file FILE must say what they have to show"
    ))
}

/// What the user has to know about a port for sensors at `addr`: `None` on loopback. The wire
/// protocol has neither a secret nor encryption, so that whoever reaches the port can send samples.
pub fn sensor_warning(addr: SocketAddr, devices: &Devices) -> Option<String> {
    if is_loopback(addr) {
        return None;
    }
    let who = if devices.is_open() {
        "any machine that reaches it can send samples (--allow-device names the devices to take)"
    } else {
        "a machine that reaches it can send samples under an allowed device's id"
    };
    Some(format!("{addr}: the sensors' protocol is neither encrypted nor authenticated; {who}"))
}

/// Whether only this machine can reach `addr`.
pub(crate) fn is_loopback(addr: SocketAddr) -> bool {
    addr.ip().to_canonical().is_loopback()
}

/// The secret of `/metrics` and `/healthz`. Not shown in any output.
#[derive(Clone)]
pub struct Token(Vec<u8>);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token")
    }
}

impl Token {
    /// Reads it from the only line of `path`, which other users of the machine may not read.
    ///
    /// # Errors
    /// One sentence with the file, the reason and what to do.
    pub fn read(path: &Path) -> Result<Self, String> {
        let refuse = |reason: &str| format!("token file {}: {reason}", path.display());
        let text = read_secret(path, MAX_TOKEN_BYTES).map_err(|reason| refuse(&reason))?;
        let token = text.trim_ascii();
        if token.len() < MIN_TOKEN_BYTES {
            return Err(refuse(&format!(
                "holds fewer than {MIN_TOKEN_BYTES} characters; 'openssl rand -hex 32' makes a good one"
            )));
        }
        if !token.iter().all(u8::is_ascii_graphic) {
            return Err(refuse("holds other than visible ASCII characters on one line"));
        }
        Ok(Self(token.to_vec()))
    }

    /// Whether an `Authorization` header shows this token. How long it takes depends on the length
    /// of what is shown, not on how much of it is right.
    pub fn is_shown_by(&self, authorization: &[u8]) -> bool {
        let Some(space) = authorization.iter().position(|&byte| byte == b' ') else { return false };
        let (scheme, shown) = authorization.split_at(space);
        scheme.eq_ignore_ascii_case(b"bearer") && shown.trim_ascii().ct_eq(&self.0).into()
    }

    /// What a browser that has shown the token keeps in its place for `purpose`, in hexadecimal.
    /// The same after a restart of the program, so that nobody has to show it again.
    pub fn derived(&self, purpose: &str) -> String {
        let digest = Sha256::new().chain_update(purpose).chain_update([0]).chain_update(&self.0);
        digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// What is in a file of at most `max_bytes` that not every user of the machine may read.
///
/// # Errors
/// The reason, to go behind the file's name.
pub fn read_secret(path: &Path, max_bytes: u64) -> Result<Vec<u8>, String> {
    let cannot = |e: std::io::Error| format!("cannot be read: {e}");
    let file = crate::files::open_input(path).map_err(cannot)?;
    let about = file.metadata().map_err(cannot)?;
    if readable_by_all(&about) {
        return Err("every user can read it; chmod 600 it".to_owned());
    }
    let mut bytes = Vec::new();
    file.take(max_bytes + 1).read_to_end(&mut bytes).map_err(cannot)?;
    if bytes.len() as u64 > max_bytes {
        return Err(format!("is longer than {max_bytes} bytes"));
    }
    Ok(bytes)
}

#[cfg(unix)]
fn readable_by_all(about: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt;
    about.permissions().mode() & 0o007 != 0
}

#[cfg(not(unix))]
fn readable_by_all(_: &std::fs::Metadata) -> bool {
    false
}

/// A device's id on the wire, written in hexadecimal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct DeviceId(pub u64);

impl FromStr for DeviceId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.strip_prefix("0x").unwrap_or(text);
        // from_str_radix takes a sign and any number of zeros.
        let hexadecimal = digits.len() <= 16 && digits.bytes().all(|b| b.is_ascii_hexdigit());
        let id = hexadecimal.then(|| u64::from_str_radix(digits, 16).ok()).flatten();
        id.map(Self).ok_or_else(|| "a device's id is 1 to 16 hexadecimal digits".to_owned())
    }
}

impl TryFrom<String> for DeviceId {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl std::fmt::Display for DeviceId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// The devices whose samples are taken: those named, or all if none is.
#[derive(Debug, Clone, Default)]
pub struct Devices(BTreeSet<DeviceId>);

impl Devices {
    /// Those of `--allow-device`.
    pub fn new(allowed: &[DeviceId]) -> Self {
        Self(allowed.iter().copied().collect())
    }

    /// Whether every device is taken.
    pub fn is_open(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `device` is taken.
    pub fn accept(&self, device: u64) -> bool {
        self.is_open() || self.0.contains(&DeviceId(device))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    fn token(text: &[u8]) -> Token {
        Token(text.to_vec())
    }

    #[test]
    fn loopback_needs_nothing_and_all_else_the_users_word() {
        let closed = RemoteAccess::default();
        let open = RemoteAccess { listen_remote: true, token: None };
        let guarded = RemoteAccess { token: Some(token(b"0123456789abcdef")), ..open.clone() };
        for text in ["127.0.0.1:9464", "127.8.9.1:0", "[::1]:9464", "[::ffff:127.0.0.1]:9464"] {
            assert_eq!(allowed(addr(text), &closed), Ok(()), "{text}");
            assert_eq!(allowed_http(addr(text), &closed), Ok(()), "{text}");
            assert_eq!(sensor_warning(addr(text), &Devices::default()), None, "{text}");
        }
        for text in ["0.0.0.0:9464", "[::]:9464", "192.168.1.7:9464", "[::ffff:10.0.0.1]:9464"] {
            let refused = allowed(addr(text), &closed).expect_err("refused");
            assert!(refused.contains(text) && refused.contains("--listen-remote"), "{refused}");
            assert_eq!(allowed(addr(text), &open), Ok(()), "{text}");
            let refused = allowed_http(addr(text), &open).expect_err("refused");
            assert!(refused.contains(text) && refused.contains("--token-file"), "{refused}");
            assert_eq!(allowed_http(addr(text), &guarded), Ok(()), "{text}");
            let warning = sensor_warning(addr(text), &Devices::default()).expect("a warning");
            assert!(warning.contains("--allow-device"), "{warning}");
        }
        let token_alone = RemoteAccess { listen_remote: false, ..guarded };
        allowed_http(addr("0.0.0.0:1"), &token_alone).expect_err("a token opens no port");
    }

    #[test]
    fn a_token_is_shown_whole_or_not_at_all() {
        let token = token(b"0123456789abcdef");
        for shown in
            ["Bearer 0123456789abcdef", "bearer 0123456789abcdef", "BEARER  0123456789abcdef "]
        {
            assert!(token.is_shown_by(shown.as_bytes()), "{shown}");
        }
        for shown in [
            "",
            "Bearer",
            "Bearer ",
            "0123456789abcdef",
            "Basic 0123456789abcdef",
            "Bearer 0123456789abcde",
            "Bearer 0123456789abcdeF",
            "Bearer 0123456789abcdef0",
            "Bearer 0123456789abcdef 0",
        ] {
            assert!(!token.is_shown_by(shown.as_bytes()), "{shown}");
        }
        assert_eq!(format!("{token:?}"), "Token", "logs do not show it");
    }

    #[cfg(unix)]
    #[test]
    fn a_token_file_is_private_and_long_enough() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join("token");
        let read = |text: &str, mode: u32| {
            std::fs::write(&path, text).expect("written");
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("chmod");
            Token::read(&path)
        };
        let token = read("0123456789abcdef\n", 0o600).expect("read");
        assert!(token.is_shown_by(b"Bearer 0123456789abcdef"));
        read("0123456789abcdef", 0o640).expect("a group may read it, as of systemd's credentials");
        let long = "x".repeat(5000);
        for (text, mode, reason) in [
            ("0123456789abcdef", 0o644, "chmod 600"),
            ("0123456789abcdef", 0o602, "chmod 600"),
            ("0123456789abcde\n", 0o600, "fewer than 16"),
            ("", 0o600, "fewer than 16"),
            ("01234567 89abcdef", 0o600, "visible ASCII"),
            ("0123456789abcdef\nsecond", 0o600, "visible ASCII"),
            ("0123456789abcdeü", 0o600, "visible ASCII"),
            (long.as_str(), 0o600, "longer than"),
        ] {
            let refused = read(text, mode).expect_err(reason);
            assert!(refused.contains(reason) && refused.contains("token"), "{refused}");
            assert!(!refused.contains("0123"), "the secret is shown: {refused}");
        }
        assert!(Token::read(dir.path()).expect_err("refused").contains("a folder"));
        let missing = Token::read(&dir.path().join("none")).expect_err("refused");
        assert!(missing.contains("cannot be read"), "{missing}");
    }

    #[test]
    fn devices_are_all_or_those_named() {
        let all = Devices::new(&[]);
        assert!(all.accept(0) && all.accept(u64::MAX));
        let ids: Result<Vec<DeviceId>, _> =
            ["a1", "0x00000000000000B2"].map(str::parse).into_iter().collect();
        let two = Devices::new(&ids.expect("ids"));
        assert!(two.accept(0xa1) && two.accept(0xb2));
        assert!(!two.accept(0) && !two.accept(0xa10));
        for text in ["", "0x", "g1", "+1", "-1", "00000000000000001", "a1 "] {
            assert!(text.parse::<DeviceId>().is_err(), "{text:?}");
        }
        assert_eq!(DeviceId(0xa1).to_string(), "00000000000000a1");
    }
}
