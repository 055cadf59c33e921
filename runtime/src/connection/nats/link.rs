//! One connection: handshake, reading, writing, and pings that find out whether the server is still there.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::BytesMut;
use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::Settings;
pub use super::protocol::Received as Message;
use super::protocol::{self, Operation};
use crate::connection::socket::{self, Stream};
use crate::error::ConnectorError;

/// The server has this long to answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// After so long a silence the server is asked whether it is still there.
const PING_EVERY: Duration = Duration::from_secs(30);
/// The socket is read in pieces of this size.
const READ_BYTES: usize = 64 << 10;

/// What the server says of itself.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Info {
    max_payload: usize,
    tls_required: bool,
    nonce: String,
}

/// A connection that has logged in.
pub struct Link {
    address: String,
    stream: Box<dyn Stream>,
    buffer: BytesMut,
    out: BytesMut,
    /// Messages that nobody has taken yet.
    ready: VecDeque<Message>,
    n_pongs_due: usize,
    max_payload: usize,
}

impl Link {
    /// Connects to the first server that lets us in.
    ///
    /// # Errors
    /// Why the last one did not.
    pub async fn open(settings: &Settings) -> Result<Self, ConnectorError> {
        let mut newest = ConnectorError::user("there is no server");
        for (host, port) in &settings.servers {
            let address = format!("NATS at {host}:{port}");
            let opening = Self::open_one(settings, address.clone(), host, *port);
            newest = match tokio::time::timeout(TIMEOUT, opening).await {
                Ok(Ok(link)) => return Ok(link),
                Ok(Err(error)) => error,
                Err(_) => ConnectorError::external(format!("{address} did not answer within {} s", TIMEOUT.as_secs())),
            };
        }
        Err(newest)
    }

    async fn open_one(settings: &Settings, address: String, host: &str, port: u16) -> Result<Self, ConnectorError> {
        let stream = socket::dial(&address, host, port).await?;
        let mut link = Link {
            address,
            stream: Box::new(stream),
            buffer: BytesMut::new(),
            out: BytesMut::new(),
            ready: VecDeque::new(),
            n_pongs_due: 0,
            max_payload: usize::MAX,
        };
        let info = loop {
            match protocol::parse(&mut link.buffer).map_err(|message| link.fault(&message))? {
                Some(Operation::Info(json)) => break json,
                Some(_) => return Err(link.fault(&"it did not introduce itself")),
                None => link.read().await?,
            }
        };
        let info: Info = serde_json::from_slice(&info).map_err(|error| link.fault(&error))?;
        if info.max_payload > 0 {
            link.max_payload = info.max_payload;
        }
        let has_tls = settings.has_tls || info.tls_required;
        if has_tls {
            link.stream = socket::start_tls(&link.address, host, &settings.tls, link.stream).await?;
        }
        let mut connect = serde_json::Map::new();
        for (name, value) in [("verbose", false), ("pedantic", false), ("headers", true), ("tls_required", has_tls)] {
            connect.insert(name.to_owned(), value.into());
        }
        let texts = [("lang", "rust"), ("version", env!("CARGO_PKG_VERSION"))];
        for (name, value) in texts.into_iter().chain(settings.client_id.as_deref().map(|name| ("name", name))) {
            connect.insert(name.to_owned(), value.into());
        }
        connect.insert("protocol".to_owned(), 1.into());
        settings.login.fill(&mut connect, &info.nonce);
        let connect = format!("CONNECT {}\r\n", serde_json::Value::Object(connect));
        link.out.extend_from_slice(connect.as_bytes());
        link.confirm().await?;
        Ok(link)
    }

    /// The largest body that the server takes.
    pub fn max_payload(&self) -> usize {
        self.max_payload
    }

    /// Wants the messages of a subject; with a queue group, a share of them. Goes out with what is written next.
    pub fn subscribe(&mut self, id: usize, subject: &str, group: Option<&str>) {
        let group = group.map(|group| format!(" {group}")).unwrap_or_default();
        self.out.extend_from_slice(format!("SUB {subject}{group} {id}\r\n").as_bytes());
    }

    /// Writes bytes that are operations.
    pub fn send(&mut self, operations: &[u8]) {
        self.out.extend_from_slice(operations);
    }

    /// Waits until the server has dealt with everything that was sent.
    ///
    /// # Errors
    /// When it says that something was wrong, or nothing at all.
    pub async fn confirm(&mut self) -> Result<(), ConnectorError> {
        self.out.extend_from_slice(b"PING\r\n");
        self.n_pongs_due += 1;
        let answered = async {
            while self.n_pongs_due > 0 {
                if !self.parse()? {
                    self.exchange().await?;
                }
            }
            Ok(())
        };
        match tokio::time::timeout(TIMEOUT, answered).await {
            Ok(outcome) => outcome,
            Err(_) => Err(self.silent(TIMEOUT)),
        }
    }

    /// Whatever messages have arrived, as soon as one has. Cancel-safe.
    ///
    /// # Errors
    /// When the connection is lost, or the server complains.
    pub async fn next(&mut self) -> Result<Vec<Message>, ConnectorError> {
        loop {
            while self.parse()? {}
            if !self.ready.is_empty() {
                return Ok(self.ready.drain(..).collect());
            }
            match tokio::time::timeout(PING_EVERY, self.exchange()).await {
                Ok(outcome) => outcome?,
                Err(_) if self.n_pongs_due > 0 => return Err(self.silent(PING_EVERY)),
                Err(_) => {
                    self.out.extend_from_slice(b"PING\r\n");
                    self.n_pongs_due += 1;
                }
            }
        }
    }

    /// Deals with one operation of those that have been read; false if there is none.
    fn parse(&mut self) -> Result<bool, ConnectorError> {
        match protocol::parse(&mut self.buffer).map_err(|message| self.fault(&message))? {
            None => return Ok(false),
            Some(Operation::Message(message)) => self.ready.push_back(message),
            Some(Operation::Ping) => self.out.extend_from_slice(b"PONG\r\n"),
            Some(Operation::Pong) => self.n_pongs_due = self.n_pongs_due.saturating_sub(1),
            Some(Operation::Error(message)) => return Err(self.complaint(&message)),
            Some(Operation::Info(_) | Operation::Ok) => {}
        }
        Ok(true)
    }

    /// Writes and reads, until something has been read. Cancel-safe.
    async fn exchange(&mut self) -> Result<(), ConnectorError> {
        while !self.out.is_empty() {
            let written = self.stream.write_buf(&mut self.out).await;
            written.map_err(|error| self.lost(&error))?;
        }
        self.stream.flush().await.map_err(|error| self.lost(&error))?;
        self.read().await
    }

    async fn read(&mut self) -> Result<(), ConnectorError> {
        self.buffer.reserve(READ_BYTES);
        match self.stream.read_buf(&mut self.buffer).await {
            Ok(0) => Err(ConnectorError::external(format!("{} closed the connection", self.address))),
            Ok(_) => Ok(()),
            Err(error) => Err(self.lost(&error)),
        }
    }

    fn lost(&self, error: &std::io::Error) -> ConnectorError {
        let what = if socket::is_closed(error) { "it was closed".to_owned() } else { error.to_string() };
        ConnectorError::external(format!("lost the connection to {}: {what}", self.address))
    }

    fn fault(&self, error: &dyn std::fmt::Display) -> ConnectorError {
        ConnectorError::external(format!("{}: {error}", self.address))
    }

    fn silent(&self, time: Duration) -> ConnectorError {
        ConnectorError::external(format!("{} has been silent for {} s", self.address, time.as_secs()))
    }

    /// What the server says is wrong, and whose fault it is.
    fn complaint(&self, message: &str) -> ConnectorError {
        let lower = message.to_lowercase();
        let text = format!("{} says: {message}", self.address);
        if lower.contains("authorization") || lower.contains("authentication") || lower.contains("permissions") {
            ConnectorError { fault: crate::error::Fault::User, ..ConnectorError::external(text) }
        } else {
            ConnectorError::external(text)
        }
    }
}
