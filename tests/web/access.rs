//! Who is let in: the server's own page, and where a token is set only who shows it.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use sfm_runtime::service::bind::{RemoteAccess, Token};
use sfm_runtime::web::{Origin, Web, WebArgs};

use crate::http::{Stream, ask, get, post, until};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

fn token(dir: &Path) -> Token {
    let path = dir.join("token");
    let file =
        std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path);
    writeln!(file.expect("opens"), "{TOKEN}").expect("written");
    Token::read(&path).expect("a token")
}

/// A server and how it is reached; `address` is where it listens.
fn web(address: &str, token: Option<Token>) -> (Web, String) {
    let args = WebArgs { web: address.parse().ok() };
    let access = || Ok(RemoteAccess { listen_remote: true, token });
    let web = Web::start(&args, access, None).expect("starts").expect("is wanted");
    let page = format!("127.0.0.1:{}", web.address().port());
    (web, page)
}

#[test]
fn the_page_is_whole_and_brings_its_policy() {
    let (_web, page) = web("127.0.0.1:0", None);
    let index = get(&page, "/").expect("an answer");
    assert_eq!(index.status, 200);
    for header in [
        "content-type: text/html; charset=utf-8",
        "content-security-policy: default-src 'none'; script-src 'self'; style-src 'self';",
        "frame-ancestors 'none'",
        "x-content-type-options: nosniff",
        "referrer-policy: no-referrer",
        "cache-control: no-store",
        "connection: close",
    ] {
        assert!(index.head.contains(header), "{header} is not in\n{}", index.head);
    }
    assert!(!index.head.contains("unsafe"), "{}", index.head);
    // Nothing is fetched from elsewhere, and everything that is named is there.
    let mut wanted = vec!["/".to_owned()];
    let mut seen: Vec<String> = Vec::new();
    while let Some(path) = wanted.pop() {
        if seen.contains(&path) {
            continue;
        }
        let file = get(&page, &path).expect("an answer");
        assert_eq!(file.status, 200, "{path}");
        let names = file.body.split(['"', '\'']).filter(|text| {
            text.starts_with('/') && (text.ends_with(".js") || text.ends_with(".css"))
        });
        wanted.extend(names.map(str::to_owned));
        assert!(!file.body.replace("http://www.w3.org/2000/svg", "").contains("://"), "{path}");
        assert!(!file.body.contains(" style=\"") && !file.body.contains(" onclick="), "{path}");
        seen.push(path);
    }
    assert!(seen.len() >= 9, "{seen:?}");
}

#[test]
fn other_sites_and_other_names_are_refused() {
    let (web, page) = web("127.0.0.1:0", None);
    let _bed = web.rooms().open("1", "night", Origin::Replay, None);
    let status = |method, path, headers: &str, body| {
        ask(&page, method, path, headers, body).map(|answer| answer.status)
    };
    let json = "Content-Type: application/json\r\n";
    assert_eq!(status("GET", "/api/beds", "Host: evil.example\r\n", ""), Some(421));
    assert_eq!(
        status("GET", "/", &format!("Host: evil.example:{}\r\n", web.address().port()), ""),
        Some(421)
    );
    assert_eq!(status("GET", "/api/beds", "Origin: http://evil.example\r\n", ""), Some(403));
    let mark = r#"{"mark":"event"}"#;
    assert_eq!(
        status(
            "POST",
            "/api/beds/1/marks",
            &format!("{json}Origin: http://evil.example\r\n"),
            mark
        ),
        Some(403)
    );
    assert_eq!(status("POST", "/api/beds/1/marks", json, mark), Some(403), "without an origin");
    let ours = format!("Origin: http://{page}\r\n");
    assert_eq!(status("POST", "/api/beds/1/marks", &ours, mark), Some(400), "a form, not JSON");
    assert_eq!(status("POST", "/api/beds/1/marks", &format!("{json}{ours}"), mark), Some(409));
    assert_eq!(status("POST", "/api/beds", &format!("{json}{ours}"), mark), Some(405));
    assert_eq!(status("GET", "/api/beds", "", "body"), Some(413));
    assert_eq!(post(&page, "/api/beds/1/marks", &"x".repeat(10_000)).status, 400);
    assert_eq!(status("GET", "/../etc/passwd", "", ""), Some(404));
}

#[test]
fn without_the_token_nothing_is_told() {
    let dir = tempfile::tempdir().expect("a folder");
    let (web, page) = web("0.0.0.0:0", Some(token(dir.path())));
    let _bed = web.rooms().open("1", "night", Origin::Replay, None);
    let with = |path: &str, headers: &str| ask(&page, "GET", path, headers, "").map(|a| a.status);
    let wrong = format!("Authorization: Bearer {}\r\n", TOKEN.replace('f', "e"));
    let port = web.address().port();
    for headers in ["", &wrong, &format!("Cookie: sfm_page_{port}={TOKEN}\r\n"), "Cookie: ;=;\r\n"]
    {
        for path in
            ["/api/beds", "/api/beds/1", "/api/beds/1/events", "/api/beds/1/signals", "/api/beds/x"]
        {
            let is_guess = headers.contains(':') && !headers.contains(";=");
            let begun = std::time::Instant::now();
            assert_eq!(with(path, headers), Some(401), "{path} {headers}");
            let waited = begun.elapsed().as_secs_f64() > 0.9;
            assert!(waited || !is_guess, "guessing is quick: {path} {headers}");
        }
    }
    // The page itself holds nothing, and asks for the token.
    assert_eq!(with("/", ""), Some(200));
    assert_eq!(with("/api/beds", &format!("Authorization: Bearer {TOKEN}\r\n")), Some(200));

    let log_in = |token: &str| post(&page, "/api/login", &format!(r#"{{"token":"{token}"}}"#));
    let begun = std::time::Instant::now();
    assert_eq!(log_in("no token at all, but a long one").status, 401);
    assert!(begun.elapsed().as_secs_f64() > 0.9, "guessing is quick");
    let answer = log_in(TOKEN);
    assert_eq!(answer.status, 204);
    let cookie =
        answer.head.lines().find_map(|line| line.strip_prefix("set-cookie: ")).expect("a cookie");
    assert!(cookie.contains("httponly") && cookie.contains("samesite=strict"), "{cookie}");
    assert!(!cookie.contains(TOKEN), "the cookie is the token");
    let shown = format!("Cookie: other=1; {}\r\n", cookie.split(';').next().expect("a pair"));
    assert_eq!(with("/api/beds/1", &shown), Some(200));
}

#[test]
fn streams_have_a_place_each_and_give_it_back() {
    let (web, page) = web("127.0.0.1:0", None);
    let _bed = web.rooms().open("1", "night", Origin::Replay, None);
    let open: Vec<Stream> =
        (0..64).map(|_| Stream::open(&page, "/api/beds/1/events", "")).collect();
    // One more takes the place of the oldest.
    let one_more = Stream::try_open(&page, "/api/beds/1/events", "").expect("a stream");
    let mut open = open.into_iter();
    let oldest: Vec<_> = open.next().expect("the first").collect();
    assert!(oldest.iter().all(|message| message.name != "ended"), "{oldest:?}");
    drop(one_more);
    assert_eq!(get(&page, "/api/beds").map(|a| a.status), Some(200), "all else goes on");
    // A browser that is gone is noticed at the latest by the next sign of life.
    drop(open);
    let place =
        until("a free place", || Stream::try_open(&page, "/api/beds/1/events?after=0.0", ""));
    assert_eq!({ place }.next().map(|message| message.name), Some("reset".to_owned()));
}

#[test]
fn the_end_of_the_program_is_told() {
    let (web, page) = web("127.0.0.1:0", None);
    let bed = web.rooms().open("1", "night", Origin::Replay, None);
    let told = Stream::open(&page, "/api/beds/1/events", "");
    let mut stuck = std::net::TcpStream::connect(&page).expect("connects");
    stuck.write_all(b"GET / HTTP/1.1\r\nX: ").expect("sent");
    let begun = std::time::Instant::now();
    drop((bed, web));
    assert!(begun.elapsed().as_secs_f64() < 5.0, "a client held it up");
    let names: Vec<String> = told.map(|message| message.name).collect();
    assert_eq!(names, ["signals", "ended"]);
    assert!(get(&page, "/").is_none(), "somebody still listens");
}
