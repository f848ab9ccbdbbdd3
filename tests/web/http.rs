//! A client of the page: plain requests, and streams of messages.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(60);

/// An answer.
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        assert_eq!(self.status, 200, "{}", self.body);
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.body))
    }
}

/// The connection of a request that was sent; `None` if nobody listens.
fn send(address: &str, method: &str, path: &str, headers: &str, body: &str) -> Option<TcpStream> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let length =
        if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    let host = if headers.to_lowercase().contains("host:") {
        String::new()
    } else {
        format!("Host: {address}\r\n")
    };
    let request = format!("{method} {path} HTTP/1.1\r\n{host}{headers}{length}\r\n{body}");
    stream.write_all(request.as_bytes()).ok()?;
    Some(stream)
}

/// The answer to a request; `None` if nobody listens.
pub fn ask(address: &str, method: &str, path: &str, headers: &str, body: &str) -> Option<Answer> {
    let mut text = String::new();
    send(address, method, path, headers, body)?.read_to_string(&mut text).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some(Answer { status, head: head.to_lowercase(), body: body.to_owned() })
}

pub fn get(address: &str, path: &str) -> Option<Answer> {
    ask(address, "GET", path, "", "")
}

/// A request of the page itself.
pub fn post(address: &str, path: &str, body: &str) -> Answer {
    let headers = format!("Origin: http://{address}\r\nContent-Type: application/json\r\n");
    ask(address, "POST", path, &headers, body).expect("an answer")
}

/// Asks until `wanted` is there.
pub fn until<T>(what: &str, mut wanted: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = wanted() {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A message of a stream.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    pub id: Option<String>,
    pub name: String,
    pub data: Value,
}

impl Message {
    /// The number in the id.
    pub fn number(&self) -> Option<u64> {
        self.id.as_deref()?.split_once('.')?.1.parse().ok()
    }
}

/// A stream of messages.
pub struct Stream(BufReader<TcpStream>);

impl Stream {
    pub fn open(address: &str, path: &str, headers: &str) -> Self {
        Self::try_open(address, path, headers).expect("a stream")
    }

    /// `None` if it is refused.
    pub fn try_open(address: &str, path: &str, headers: &str) -> Option<Self> {
        let mut reader = BufReader::new(send(address, "GET", path, headers, "")?);
        let mut line = String::new();
        reader.read_line(&mut line).expect("an answer");
        line.contains(" 200 ").then_some(Self(reader))
    }
}

impl Iterator for Stream {
    type Item = Message;

    /// `None` at the end. Lines that belong to HTTP's chunks are no fields, and are passed over.
    fn next(&mut self) -> Option<Message> {
        let mut message = Message { id: None, name: String::new(), data: Value::Null };
        let mut line = String::new();
        while {
            line.clear();
            self.0.read_line(&mut line).ok()? > 0
        } {
            let text = line.trim_end();
            if let Some(id) = text.strip_prefix("id: ") {
                message.id = Some(id.to_owned());
            } else if let Some(name) = text.strip_prefix("event: ") {
                name.clone_into(&mut message.name);
            } else if let Some(data) = text.strip_prefix("data: ") {
                message.data = serde_json::from_str(data).expect("JSON");
            } else if text.is_empty() && !message.name.is_empty() {
                return Some(message);
            }
        }
        None
    }
}
