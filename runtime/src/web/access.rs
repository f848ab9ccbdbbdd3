//! Who may use the page. A request has to name this server as its host, which a page of another
//! site that had its name pointed here (DNS rebinding) does not; what other sites' pages send is
//! refused by its origin; where a token is set, a request shows it or the cookie that a browser
//! got for it. Everything is compared before anything is answered.

use std::net::SocketAddr;

use axum::extract::Request;
use axum::http::header::{AUTHORIZATION, COOKIE, HOST, ORIGIN};
use axum::http::{HeaderMap, Method, StatusCode};
use subtle::ConstantTimeEq;

use crate::service::bind::{Token, is_loopback};
use crate::service::http::{NOT_HERE, has_body, is_this_machine, shows_token};

/// What a browser's cookie stands for.
const PURPOSE: &str = "sfm-stream live page";

/// Who may use the page.
#[derive(Debug)]
pub struct Access {
    token: Option<Token>,
    /// Only this machine can reach the server.
    is_local: bool,
    cookie: String,
}

/// What a request shows of the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// It, or there is none.
    Right,
    /// Nothing.
    Nothing,
    /// Something else.
    Wrong,
}

/// Why a request is refused.
pub type Refusal = (StatusCode, &'static str);

impl Access {
    /// Of a server at `address`.
    pub fn new(address: SocketAddr, token: Option<Token>) -> Self {
        // Cookies do not tell ports apart.
        let cookie = format!("sfm_page_{}", address.port());
        Self { token, is_local: is_loopback(address), cookie }
    }

    /// Whether the request comes from this server's own page, or from no page at all.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn admit(&self, request: &Request) -> Result<(), Refusal> {
        let headers = request.headers();
        let Some(host) = headers.get(HOST).and_then(|host| host.to_str().ok()) else {
            return Err((StatusCode::BAD_REQUEST, "the request names no host\n"));
        };
        if self.is_local && !is_this_machine(host) {
            return Err((StatusCode::MISDIRECTED_REQUEST, NOT_HERE));
        }
        let foreign = (StatusCode::FORBIDDEN, "pages of other sites may not use this one\n");
        match headers.get(ORIGIN) {
            Some(origin) if !is_origin_of(origin.as_bytes(), host) => return Err(foreign),
            None if request.method() == Method::POST => return Err(foreign),
            Some(_) | None => (),
        }
        if request.method() != Method::POST && has_body(headers) {
            return Err((StatusCode::PAYLOAD_TOO_LARGE, "this request takes no body\n"));
        }
        Ok(())
    }

    /// Whether what is asked for may be told.
    pub fn shown(&self, headers: &HeaderMap) -> Shown {
        let Some(token) = &self.token else { return Shown::Right };
        let expected = token.derived(PURPOSE);
        let mut cookies = self.cookies(headers);
        if shows_token(Some(token), headers)
            || cookies.any(|value| value.as_bytes().ct_eq(expected.as_bytes()).into())
        {
            Shown::Right
        } else if headers.contains_key(AUTHORIZATION) || self.cookies(headers).next().is_some() {
            Shown::Wrong
        } else {
            Shown::Nothing
        }
    }

    /// The values of the page's cookie.
    fn cookies<'a>(&'a self, headers: &'a HeaderMap) -> impl Iterator<Item = &'a str> {
        let cookies = headers.get_all(COOKIE).iter().filter_map(|cookies| cookies.to_str().ok());
        cookies.flat_map(|cookies| cookies.split(';')).filter_map(move |cookie| {
            let (name, value) = cookie.trim().split_once('=')?;
            (name == self.cookie).then_some(value)
        })
    }

    /// The cookie for a browser that shows `token`.
    pub fn log_in(&self, shown: &str) -> Option<String> {
        let token = self.token.as_ref()?;
        token.is_shown_by(format!("Bearer {shown}").as_bytes()).then(|| {
            let (name, value) = (&self.cookie, token.derived(PURPOSE));
            // Over a month of nights; scripts and other sites do not get it.
            format!("{name}={value}; Path=/; HttpOnly; SameSite=Strict; Max-Age=3000000")
        })
    }
}

/// Whether an `Origin` is the host that was asked; by HTTPS where a proxy encrypts.
fn is_origin_of(origin: &[u8], host: &str) -> bool {
    let authority = origin.strip_prefix(b"http://").or_else(|| origin.strip_prefix(b"https://"));
    authority.is_some_and(|authority| authority.eq_ignore_ascii_case(host.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;

    fn access(address: &str) -> Access {
        Access::new(address.parse().expect("an address"), None)
    }

    fn request(method: Method, headers: &[(&str, &str)]) -> Request {
        let mut request = Request::builder().method(method);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(Body::empty()).expect("a request")
    }

    fn status(access: &Access, method: Method, headers: &[(&str, &str)]) -> u16 {
        access.admit(&request(method, headers)).map_or_else(|refusal| refusal.0.as_u16(), |()| 200)
    }

    #[test]
    fn a_name_that_was_pointed_here_is_refused() {
        let local = access("127.0.0.1:8080");
        for host in ["127.0.0.1:8080", "localhost:8080", "LOCALHOST", "[::1]:8080", "127.1.2.3"] {
            assert_eq!(status(&local, Method::GET, &[("host", host)]), 200, "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:8080",
            "localhost.evil.example",
            "8.8.8.8",
            "",
            "[::2]:1",
        ] {
            assert_eq!(status(&local, Method::GET, &[("host", host)]), 421, "{host}");
        }
        assert_eq!(status(&local, Method::GET, &[]), 400);
        // By which name others reach it is not known here; the token guards it.
        let remote = access("192.0.2.1:8080");
        assert_eq!(status(&remote, Method::GET, &[("host", "ward.example:8080")]), 200);
    }

    #[test]
    fn only_this_servers_own_page_may_ask() {
        let local = access("127.0.0.1:8080");
        let from = |method: Method, origin: &str| {
            status(&local, method, &[("host", "127.0.0.1:8080"), ("origin", origin)])
        };
        for method in [Method::GET, Method::POST] {
            assert_eq!(from(method.clone(), "http://127.0.0.1:8080"), 200);
            for origin in [
                "http://evil.example",
                "http://127.0.0.1:8081",
                "http://localhost:8080",
                "null",
                "http://127.0.0.1:8080.evil.example",
                "ftp://127.0.0.1:8080",
                "",
            ] {
                assert_eq!(from(method.clone(), origin), 403, "{method} {origin}");
            }
        }
        assert_eq!(status(&local, Method::POST, &[("host", "127.0.0.1:8080")]), 403);
        let body = [("host", "localhost"), ("content-length", "3")];
        assert_eq!(status(&local, Method::GET, &body), 413);
    }
}
