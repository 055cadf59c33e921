//! Redis publish/subscribe: one connection that listens, read by the source itself, so that a slow rule holds the server back.
//!
//! What is published while there is no connection is gone; so is what does not fit into the server's buffer for a slow client,
//! which it then cuts off.

use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use redis::{ConnectionAddr, ConnectionInfo};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::redis::RedisClient;
use super::socket::{self, Stream};
use crate::error::{ConnectorError, Fault};

/// The server has this long to answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// After so long a silence the server is asked whether it is still there.
const PING_EVERY: Duration = Duration::from_secs(30);
/// The socket is read in pieces of this size.
const READ_BYTES: usize = 64 << 10;
/// Redis itself has no larger values.
const MAX_BYTES: usize = 512 << 20;

/// A message that was published.
#[derive(Debug, PartialEq, Eq)]
pub struct Published {
    /// Where.
    pub channel: Bytes,
    /// What.
    pub payload: Bytes,
}

/// A connection that listens.
pub struct RedisSubscriber {
    address: String,
    stream: Box<dyn Stream>,
    buffer: BytesMut,
    out: BytesMut,
    ready: Vec<Published>,
    n_subscribed: usize,
    awaits_pong: bool,
}

impl RedisSubscriber {
    /// Connects, logs in and subscribes.
    ///
    /// # Errors
    /// When the server can't be reached or refuses.
    pub async fn open(client: &RedisClient, patterns: &[String]) -> Result<Self, ConnectorError> {
        let (address, node, tls) = client.first_node()?;
        let opening = Self::open_node(address.clone(), &node, tls, patterns);
        match tokio::time::timeout(TIMEOUT, opening).await {
            Ok(outcome) => outcome,
            Err(_) => Err(ConnectorError::external(format!("{address} did not answer within {} s", TIMEOUT.as_secs()))),
        }
    }

    async fn open_node(
        address: String,
        node: &ConnectionInfo,
        tls: &super::tls::TlsOptions,
        patterns: &[String],
    ) -> Result<Self, ConnectorError> {
        let (host, port, has_tls) = match node.addr() {
            ConnectionAddr::Tcp(host, port) => (host, *port, false),
            ConnectionAddr::TcpTls { host, port, .. } => (host, *port, true),
            _ => return Err(ConnectorError::user(format!("{address}: only host:port can be subscribed to"))),
        };
        let tcp = socket::dial(&address, host, port).await?;
        let stream: Box<dyn Stream> =
            if has_tls { socket::start_tls(&address, host, tls, tcp).await? } else { Box::new(tcp) };
        let mut subscriber = RedisSubscriber {
            address,
            stream,
            buffer: BytesMut::new(),
            out: BytesMut::new(),
            ready: Vec::new(),
            n_subscribed: 0,
            awaits_pong: false,
        };
        let settings = node.redis_settings();
        let auth = match (settings.username(), settings.password()) {
            (Some(user), Some(password)) => vec!["AUTH", user, password],
            (None, Some(password)) => vec!["AUTH", password],
            _ => Vec::new(),
        };
        subscriber.command(auth);
        let db = settings.db().to_string();
        subscriber.command(if db == "0" { Vec::new() } else { vec!["SELECT", &db] });
        subscriber.command([&["PSUBSCRIBE"][..], &patterns.iter().map(String::as_str).collect::<Vec<_>>()].concat());
        while subscriber.n_subscribed < patterns.len() {
            if !subscriber.parse()? {
                subscriber.exchange().await?;
            }
        }
        Ok(subscriber)
    }

    fn command(&mut self, words: Vec<&str>) {
        if words.is_empty() {
            return;
        }
        self.out.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
        for word in words {
            self.out.extend_from_slice(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
        }
    }

    /// Whatever messages have arrived, as soon as one has. Cancel-safe.
    ///
    /// # Errors
    /// When the connection is lost.
    pub async fn next(&mut self) -> Result<Vec<Published>, ConnectorError> {
        loop {
            while self.parse()? {}
            if !self.ready.is_empty() {
                return Ok(std::mem::take(&mut self.ready));
            }
            match tokio::time::timeout(PING_EVERY, self.exchange()).await {
                Ok(outcome) => outcome?,
                Err(_) if self.awaits_pong => {
                    let seconds = PING_EVERY.as_secs();
                    return Err(ConnectorError::external(format!("{} has been silent for {seconds} s", self.address)));
                }
                Err(_) => {
                    self.command(vec!["PING"]);
                    self.awaits_pong = true;
                }
            }
        }
    }

    /// Deals with one reply of those that have been read; false if there is none.
    fn parse(&mut self) -> Result<bool, ConnectorError> {
        let reply = match parse(&mut self.buffer) {
            Ok(Some(reply)) => reply,
            Ok(None) => return Ok(false),
            Err(message) => return Err(ConnectorError::external(format!("{}: {message}", self.address))),
        };
        match reply {
            Reply::Words(words) => match words.as_slice() {
                [kind, _, channel, payload] if &kind[..] == b"pmessage" => {
                    self.ready.push(Published { channel: channel.clone(), payload: payload.clone() });
                }
                [kind, ..] if &kind[..] == b"psubscribe" => self.n_subscribed += 1,
                _ => self.awaits_pong = false,
            },
            Reply::Ok => {}
            Reply::Error(message) => {
                let error = ConnectorError::external(format!("{} says: {message}", self.address));
                let is_ours = ["NOAUTH", "WRONGPASS", "NOPERM", "ERR"].iter().any(|code| message.starts_with(code));
                return Err(ConnectorError { fault: if is_ours { Fault::User } else { error.fault }, ..error });
            }
        }
        Ok(true)
    }

    /// Writes and reads, until something has been read. Cancel-safe.
    async fn exchange(&mut self) -> Result<(), ConnectorError> {
        let lost = |error: &std::io::Error| {
            let what = if socket::is_closed(error) { "it was closed".to_owned() } else { error.to_string() };
            ConnectorError::external(format!("lost the connection to {}: {what}", self.address))
        };
        while !self.out.is_empty() {
            self.stream.write_buf(&mut self.out).await.map_err(|error| lost(&error))?;
        }
        self.stream.flush().await.map_err(|error| lost(&error))?;
        self.buffer.reserve(READ_BYTES);
        match self.stream.read_buf(&mut self.buffer).await {
            Ok(0) => Err(ConnectorError::external(format!("{} closed the connection", self.address))),
            Ok(_) => Ok(()),
            Err(error) => Err(lost(&error)),
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Reply {
    Words(Vec<Bytes>),
    Ok,
    Error(String),
}

/// Takes the first reply out of the buffer; `None` if it is not there as a whole yet.
fn parse(buffer: &mut BytesMut) -> Result<Option<Reply>, String> {
    let Some((line, mut at)) = line(buffer, 0) else { return Ok(None) };
    let (kind, rest) = line.split_at_checked(1).unwrap_or(("", ""));
    let simple = match kind {
        "*" | ">" => None,
        "+" | ":" => Some(Reply::Ok),
        "-" => Some(Reply::Error(rest.to_owned())),
        _ => return Err("this is no Redis server".to_owned()),
    };
    if let Some(reply) = simple {
        buffer.advance(at);
        return Ok(Some(reply));
    }
    let wrong = || "a reply that can't be read".to_owned();
    let n_words: usize = rest.parse().ok().filter(|n_words| *n_words <= 16).ok_or_else(wrong)?;
    let mut places = Vec::with_capacity(n_words);
    for _ in 0..n_words {
        let Some((head, next)) = self::line(buffer, at) else { return Ok(None) };
        let (kind, rest) = head.split_at_checked(1).unwrap_or(("", ""));
        at = next;
        match (kind, rest) {
            ("$", "-1") => places.push(at..at),
            ("$", length) => {
                let length: usize = length.parse().ok().filter(|length| *length <= MAX_BYTES).ok_or_else(wrong)?;
                if buffer.len() < at + length + 2 {
                    buffer.reserve(at + length + 2 - buffer.len());
                    return Ok(None);
                }
                places.push(at..at + length);
                at += length + 2;
            }
            (":" | "+", text) => places.push(at - 2 - text.len()..at - 2),
            _ => return Err(wrong()),
        }
    }
    let reply = buffer.split_to(at).freeze();
    Ok(Some(Reply::Words(places.into_iter().map(|place| reply.slice(place)).collect())))
}

/// The line at a place, and where the next one begins.
fn line(buffer: &[u8], at: usize) -> Option<(String, usize)> {
    let rest = buffer.get(at..)?;
    let end = rest.windows(2).position(|pair| pair == b"\r\n")?;
    Some((String::from_utf8_lossy(rest.get(..end)?).into_owned(), at + end + 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies() {
        let text = "+OK\r\n-ERR no\r\n*3\r\n$10\r\npsubscribe\r\n$1\r\n*\r\n:1\r\n*4\r\n$8\r\npmessage\r\n$1\r\n*\r\n$1\r\na\r\n$4\r\nx\r\ny\r\n";
        let words =
            |words: &[&str]| Reply::Words(words.iter().map(|word| Bytes::copy_from_slice(word.as_bytes())).collect());
        let expected = [
            Reply::Ok,
            Reply::Error("ERR no".to_owned()),
            words(&["psubscribe", "*", "1"]),
            words(&["pmessage", "*", "a", "x\r\ny"]),
        ];
        let mut buffer = BytesMut::from(text);
        let all: Vec<Reply> = std::iter::from_fn(|| parse(&mut buffer).unwrap()).collect();
        assert_eq!(all, expected);
        for n_bytes in 0..text.len() {
            let mut buffer = BytesMut::from(&text[..n_bytes]);
            let some: Vec<Reply> = std::iter::from_fn(|| parse(&mut buffer).unwrap()).collect();
            assert_eq!(some, expected[..some.len()], "{n_bytes}");
        }
        for text in ["HTTP/1.1\r\n", "*x\r\n", "*99\r\n", "*1\r\n$x\r\n", "*1\r\n*1\r\n", "\r\n"] {
            assert!(parse(&mut BytesMut::from(text)).is_err(), "{text}");
        }
    }
}
