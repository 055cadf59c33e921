//! NATS.

use anyhow::Result;

use super::process::{Server, find, listens};

/// A NATS server with JetStream.
#[derive(Debug)]
pub struct Nats {
    server: Server,
}

impl Nats {
    /// A server of one's own.
    ///
    /// # Errors
    /// When it can't be started.
    pub async fn start() -> Result<Self> {
        let mut server = Server::new("nats")?;
        let argv = [
            find("nats-server", &["/usr/sbin"])?,
            "-a".into(),
            "127.0.0.1".into(),
            "-p".into(),
            server.port.to_string(),
        ];
        let more = ["-js".to_owned(), "-sd".into(), server.path("jetstream")];
        let port = server.port;
        server.start([&argv[..], &more[..]].concat(), || listens(port)).await?;
        Ok(Nats { server })
    }

    /// `nats://127.0.0.1:PORT`
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.server.port)
    }
}
