//! PostgreSQL.

use std::time::{Duration, Instant};

use anyhow::Result;
use sqlx::{Connection, PgConnection};
use tokio::sync::OnceCell;

use super::process::{Server, find, run};
use crate::wait::DEADLINE;

const FOLDERS: &[&str] = &["/usr/lib/postgresql/17/bin", "/usr/lib/postgresql/16/bin", "/usr/lib/postgresql/15/bin"];

/// A PostgreSQL server with user `sluice`, password `secret`, database `postgres`.
#[derive(Debug)]
pub struct Postgres {
    server: Server,
}

impl Postgres {
    /// A server shared by the tests of this process. Use tables of your own.
    pub async fn shared() -> &'static Postgres {
        static SHARED: OnceCell<Postgres> = OnceCell::const_new();
        SHARED.get_or_init(|| async { Postgres::start().await.expect("postgres starts") }).await
    }

    /// A server of one's own.
    ///
    /// # Errors
    /// When it can't be started.
    pub async fn start() -> Result<Self> {
        let mut server = Server::new("postgres")?;
        std::fs::write(server.path("password"), "secret")?;
        server.run_as("postgres")?;
        let data = server.path("data");
        let initdb =
            [find("initdb", FOLDERS)?, "-D".into(), data.clone(), "-U".into(), "sluice".into(), "--no-sync".into()];
        let auth = [
            "--auth=scram-sha-256".to_owned(),
            format!("--pwfile={}", server.path("password")),
            "--encoding=UTF8".into(),
        ];
        run(Some("postgres"), &[&initdb[..], &auth[..]].concat(), server.folder.path())?;
        let argv = [find("postgres", FOLDERS)?, "-D".into(), data, "-p".into(), server.port.to_string()];
        let more =
            ["-h", "127.0.0.1", "-c", "unix_socket_directories=", "-c", "max_connections=200"].map(str::to_owned);
        let url = url(server.port);
        server.start([&argv[..], &more[..]].concat(), || ready(url.clone())).await?;
        Ok(Postgres { server })
    }

    /// `postgres://sluice:secret@127.0.0.1:PORT/postgres`
    pub fn url(&self) -> String {
        url(self.server.port)
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.server.port
    }

    /// Kills the server.
    pub fn kill(&mut self) {
        self.server.kill();
    }

    /// Starts it again with its data.
    ///
    /// # Errors
    /// When it can't be started.
    pub async fn restart(&mut self) -> Result<()> {
        let url = self.url();
        let start = Instant::now();
        loop {
            // The children of a killed server end by themselves, but hold its shared memory for a moment.
            match self.server.launch(|| ready(url.clone())).await {
                Err(error) if start.elapsed() < DEADLINE && error.to_string().contains("still in use") => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                outcome => return outcome,
            }
        }
    }
}

fn url(port: u16) -> String {
    format!("postgres://sluice:secret@127.0.0.1:{port}/postgres")
}

async fn ready(url: String) -> bool {
    match PgConnection::connect(&url).await {
        Ok(connection) => connection.close().await.is_ok(),
        Err(_) => false,
    }
}
