//! NATS: the server, and a client for tests that shares nothing with ours.

use std::fmt::Write as _;

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::sync::OnceCell;

use super::process::{Server, find, listens};
use crate::tls::TlsFiles;
use crate::wait;

/// How the server is to be set up.
#[derive(Clone, Debug, Default)]
pub struct NatsOptions {
    /// TLS on the port.
    pub tls: bool,
    /// The only user and password that may connect.
    pub user: Option<(String, String)>,
    /// The only NKey that may connect (`U...`).
    pub nkey: Option<String>,
}

/// A NATS server with JetStream.
#[derive(Debug)]
pub struct Nats {
    server: Server,
    /// TLS files, if it speaks TLS.
    pub tls: Option<TlsFiles>,
}

impl Nats {
    /// A server that anybody may use, shared by the tests of this process.
    pub async fn shared() -> &'static Nats {
        static SHARED: OnceCell<Nats> = OnceCell::const_new();
        SHARED.get_or_init(|| async { Nats::start().await.expect("nats starts") }).await
    }

    /// A server of one's own.
    ///
    /// # Errors
    /// When it can't be started.
    pub async fn start() -> Result<Self> {
        Self::start_with(NatsOptions::default()).await
    }

    /// A server of one's own, set up as wanted.
    ///
    /// # Errors
    /// When it can't be started.
    pub async fn start_with(options: NatsOptions) -> Result<Self> {
        let mut server = Server::new("nats")?;
        let port = server.port;
        let mut config =
            format!("listen: 127.0.0.1:{port}\njetstream {{ store_dir: \"{}\" }}\n", server.path("jetstream"));
        let user =
            options.user.iter().map(|(user, password)| format!("{{user: \"{user}\", password: \"{password}\"}}"));
        let users: Vec<String> = user.chain(options.nkey.iter().map(|nkey| format!("{{nkey: {nkey}}}"))).collect();
        if !users.is_empty() {
            writeln!(config, "authorization {{ users: [ {} ] }}", users.join(", "))?;
        }
        let mut tls = None;
        if options.tls {
            let files = TlsFiles::make(server.folder.path())?;
            let (cert, key) = (files.server_cert.display(), files.server_key.display());
            writeln!(config, "tls {{ cert_file: \"{cert}\", key_file: \"{key}\" }}")?;
            tls = Some(files);
        }
        std::fs::write(server.path("nats.conf"), config)?;
        let argv = vec![find("nats-server", &["/usr/sbin"])?, "-c".into(), server.path("nats.conf")];
        server.start(argv, || listens(port)).await?;
        Ok(Nats { server, tls })
    }

    /// `nats://127.0.0.1:PORT`
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.server.port)
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.server.port
    }

    /// Kills the server.
    pub fn kill(&mut self) {
        self.server.kill();
    }

    /// Starts it again.
    ///
    /// # Errors
    /// When it can't be started.
    pub async fn restart(&mut self) -> Result<()> {
        let port = self.server.port;
        self.server.launch(|| listens(port)).await
    }
}

/// A client in a few lines, for servers without login.
#[derive(Debug)]
pub struct NatsClient {
    stream: BufReader<TcpStream>,
}

/// A message: subject, block of headers, body.
pub type Received = (String, String, Vec<u8>);

impl NatsClient {
    /// Connects.
    ///
    /// # Errors
    /// When the server is not there.
    pub async fn connect(port: u16) -> Result<Self> {
        let mut client = NatsClient { stream: BufReader::new(TcpStream::connect(("127.0.0.1", port)).await?) };
        let info = client.line().await?;
        ensure!(info.starts_with("INFO"), "{info}");
        client.write(b"CONNECT {\"verbose\":false,\"headers\":true}\r\n").await?;
        client.confirmed().await?;
        Ok(client)
    }

    /// Publishes, with a block of headers (`Name: value\r\n` each) if it is not empty.
    ///
    /// # Errors
    /// When the connection is lost.
    pub async fn publish(&mut self, subject: &str, headers: &str, body: &[u8]) -> Result<()> {
        let block = format!("NATS/1.0\r\n{headers}\r\n");
        let head = match headers {
            "" => format!("PUB {subject} {}\r\n", body.len()),
            _ => format!("HPUB {subject} {} {}\r\n{block}", block.len(), block.len() + body.len()),
        };
        self.write(&[head.as_bytes(), body, b"\r\n"].concat()).await
    }

    /// Subscribes.
    ///
    /// # Errors
    /// When the connection is lost.
    pub async fn subscribe(&mut self, subject: &str) -> Result<()> {
        self.write(format!("SUB {subject} 1\r\n").as_bytes()).await?;
        self.confirmed().await
    }

    /// Waits until the server has everything that was sent. Only before messages are awaited.
    ///
    /// # Errors
    /// When the connection is lost, or the server complains.
    pub async fn confirmed(&mut self) -> Result<()> {
        self.write(b"PING\r\n").await?;
        loop {
            match self.line().await?.as_str() {
                "PONG" => return Ok(()),
                line => ensure!(!line.starts_with("-ERR"), "{line}"),
            }
        }
    }

    /// The next message.
    ///
    /// # Errors
    /// When none comes in time.
    pub async fn next(&mut self) -> Result<Received> {
        tokio::time::timeout(wait::DEADLINE, self.message()).await.context("a message in time")?
    }

    async fn message(&mut self) -> Result<Received> {
        loop {
            let line = self.line().await?;
            let words: Vec<&str> = line.split(' ').collect();
            let (n_header, n_total): (usize, usize) = match words.as_slice() {
                ["MSG", .., total] => (0, total.parse()?),
                ["HMSG", .., header, total] => (header.parse()?, total.parse()?),
                ["PING"] => {
                    self.write(b"PONG\r\n").await?;
                    continue;
                }
                _ => continue,
            };
            let mut body = vec![0; n_total + 2];
            self.stream.read_exact(&mut body).await?;
            body.truncate(n_total);
            let payload = body.split_off(n_header);
            return Ok((words[1].to_owned(), String::from_utf8(body)?, payload));
        }
    }

    async fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        ensure!(self.stream.read_line(&mut line).await? > 0, "the server has closed the connection");
        Ok(line.trim_end().to_owned())
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.get_mut().write_all(bytes).await?;
        Ok(())
    }
}
