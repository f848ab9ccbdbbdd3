//! The server of a `--mqtt` or `--nats`: its address, who we say we are, and TLS. It refuses secrets
//! on the command line, where every user of the machine sees them, and files that all may read.

use std::fmt;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use axum::http::Uri;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::service::bind::read_secret;

const MAX_SECRET_BYTES: u64 = 64 << 10;

/// A protocol's schemes, without and with TLS, and their ports.
#[derive(Debug, Clone, Copy)]
pub struct Schemes {
    /// The argument that has the URL.
    pub argument: &'static str,
    /// Everything is readable on the way.
    pub plain: (&'static str, u16),
    /// TLS.
    pub tls: (&'static str, u16),
}

/// Those of MQTT.
pub const MQTT: Schemes =
    Schemes { argument: "--mqtt", plain: ("mqtt", 1883), tls: ("mqtts", 8883) };
/// Those of NATS.
pub const NATS: Schemes = Schemes { argument: "--nats", plain: ("nats", 4222), tls: ("tls", 4222) };

/// Where a server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    scheme: &'static str,
    /// Name or address; one of IPv6 in brackets.
    pub host: String,
    /// Port.
    pub port: u16,
    /// With TLS.
    pub tls: bool,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}:{}", self.scheme, self.host, self.port)
    }
}

impl Address {
    /// Reads `scheme://host[:port]`.
    ///
    /// # Errors
    /// One sentence that shows nothing of a password.
    pub fn parse(url: &str, schemes: Schemes) -> Result<Self, String> {
        let Schemes { argument, plain, tls } = schemes;
        if url.contains('@') {
            return Err(format!(
                "{argument}: no user or password in the URL, where others see them; put them in a file, {argument}-login"
            ));
        }
        let form = || {
            format!(
                "{argument} `{}`: use {}://HOST:PORT or {}://HOST:PORT",
                url.escape_debug(),
                plain.0,
                tls.0
            )
        };
        let uri: Uri = url.parse().map_err(|_| form())?;
        let (scheme, port, tls) = match uri.scheme_str() {
            Some(scheme) if scheme == plain.0 => (plain.0, plain.1, false),
            Some(scheme) if scheme == tls.0 => (tls.0, tls.1, true),
            _ => return Err(form()),
        };
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(form)?;
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(form());
        }
        Ok(Self { scheme, host: host.to_owned(), port: uri.port_u16().unwrap_or(port), tls })
    }

    /// What the user should know before anything is sent there.
    pub fn warning(&self) -> Option<String> {
        let address = self.host.trim_matches(['[', ']']).parse::<IpAddr>();
        let local = match address {
            Ok(address) => address.to_canonical().is_loopback(),
            Err(_) => self.host == "localhost",
        };
        (!self.tls && !local).then(|| {
            format!("{self}: stages and gaps travel unencrypted, and anyone on the way can read or change them")
        })
    }
}

/// Who we say we are.
#[derive(Clone, PartialEq, Eq)]
pub enum Login {
    /// Both in the clear to whoever is the server.
    Password {
        /// First line of the file.
        user: String,
        /// Second line.
        password: String,
    },
    /// The text of a `.creds` file of NATS: a token and the key that signs with it.
    Credentials(String),
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Login")
    }
}

impl Login {
    /// Reads user and password from the two lines of `path`, or credentials of NATS.
    ///
    /// # Errors
    /// One sentence with the file and the reason.
    pub fn read(path: &Path) -> Result<Self, String> {
        let refuse = |reason: &str| format!("login file {}: {reason}", path.display());
        let bytes = read_secret(path, MAX_SECRET_BYTES).map_err(|reason| refuse(&reason))?;
        let text = String::from_utf8(bytes).map_err(|_| refuse("is no text"))?;
        if text.contains("-----BEGIN NATS USER JWT-----") {
            return Ok(Self::Credentials(text));
        }
        match text.lines().collect::<Vec<_>>()[..] {
            [user, password] if !user.is_empty() && !password.is_empty() => {
                Ok(Self::Password { user: user.to_owned(), password: password.to_owned() })
            }
            _ => Err(refuse("holds other than two lines, the user and the password")),
        }
    }
}

/// TLS that trusts the authorities of `ca_file`, or those of the system.
///
/// # Errors
/// One sentence with the file and the reason.
pub fn tls(ca_file: Option<&Path>) -> Result<Arc<ClientConfig>, String> {
    let mut roots = RootCertStore::empty();
    let from = match ca_file {
        Some(path) => {
            let cannot = |e: &dyn fmt::Display| {
                format!("--ca-file {}: cannot be read ({e})", path.display())
            };
            let file = crate::files::open_input(path).map_err(|e| cannot(&e))?;
            let certificates = CertificateDer::pem_reader_iter(file);
            let certificates: Result<Vec<_>, _> = certificates.collect();
            roots.add_parsable_certificates(certificates.map_err(|e| cannot(&e))?);
            format!("--ca-file {}", path.display())
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            "the system".to_owned()
        }
    };
    if roots.is_empty() {
        return Err(format!(
            "{from} has no certificate of an authority; give a file of PEM with --ca-file"
        ));
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|e| format!("TLS cannot be used ({e})"))?;
    Ok(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_scheme_a_host_and_a_port() {
        let of = |url: &str| Address::parse(url, MQTT).map(|a| (a.to_string(), a.tls));
        assert_eq!(of("mqtt://localhost"), Ok(("mqtt://localhost:1883".into(), false)));
        assert_eq!(of("mqtts://b.example/"), Ok(("mqtts://b.example:8883".into(), true)));
        assert_eq!(of("mqtt://[::1]:99"), Ok(("mqtt://[::1]:99".into(), false)));
        for url in ["", "localhost", "http://a", "mqtt://", "mqtt://a/b", "mqtt://a?b", "mqtt:// a"]
        {
            let refused = of(url).expect_err(url);
            assert!(refused.contains("mqtts://HOST:PORT"), "{refused}");
        }
        let refused = of("mqtt://me:secret@host").expect_err("refused");
        assert!(refused.contains("--mqtt-login") && !refused.contains("secret"), "{refused}");
    }

    #[test]
    fn what_leaves_the_machine_unencrypted_is_worth_a_warning() {
        let warns = |url: &str| Address::parse(url, NATS).expect("an address").warning().is_some();
        for url in ["nats://localhost", "nats://127.0.0.1:1", "nats://[::1]", "tls://a.example"] {
            assert!(!warns(url), "{url}");
        }
        for url in ["nats://192.0.2.1", "nats://[2001:db8::1]:4222", "nats://localhost.example"] {
            assert!(warns(url), "{url}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_login_is_two_lines_that_others_cannot_read() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("login");
        let read = |text: &str, mode| {
            std::fs::write(&path, text).expect("written");
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("chmod");
            Login::read(&path)
        };
        let me = Login::Password { user: "me".into(), password: "se cret".into() };
        assert_eq!(read("me\nse cret\n", 0o600), Ok(me.clone()));
        assert_eq!(format!("{me:?}"), "Login", "logs do not show it");
        let creds = "-----BEGIN NATS USER JWT-----\nx\n";
        assert_eq!(read(creds, 0o600), Ok(Login::Credentials(creds.into())));
        for (text, mode, reason) in [
            ("me\nsecret\n", 0o644, "chmod 600"),
            ("me", 0o600, "two lines"),
            ("me\n\n", 0o600, "two lines"),
            ("me\nsecret\nmore\n", 0o600, "two lines"),
        ] {
            let refused = read(text, mode).expect_err(reason);
            assert!(refused.contains(reason) && !refused.contains("secret"), "{refused}");
        }
    }

    #[test]
    fn a_ca_file_without_certificates_is_refused() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("ca.pem");
        assert!(tls(Some(&path)).expect_err("refused").contains("cannot be read"));
        std::fs::write(&path, "nothing\n").expect("written");
        assert!(tls(Some(&path)).expect_err("refused").contains("no certificate"));
    }
}
