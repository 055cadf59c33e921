//! MariaDB.

use anyhow::Result;
use sqlx::{Connection, Executor, MySqlConnection};
use tokio::sync::OnceCell;

use super::process::{Server, find, run};

/// A MariaDB server with user `sluice`, password `secret`, database `test`.
#[derive(Debug)]
pub struct MariaDb {
    server: Server,
}

impl MariaDb {
    /// A server shared by the tests of this process. Use tables of your own.
    pub async fn shared() -> &'static MariaDb {
        static SHARED: OnceCell<MariaDb> = OnceCell::const_new();
        SHARED.get_or_init(|| async { MariaDb::start().await.expect("mariadb starts") }).await
    }

    /// A server of one's own.
    ///
    /// # Errors
    /// When it can't be started.
    pub async fn start() -> Result<Self> {
        let mut server = Server::new("mariadb")?;
        std::fs::write(
            server.path("init.sql"),
            "CREATE DATABASE IF NOT EXISTS test CHARACTER SET utf8mb4;\n\
             CREATE USER IF NOT EXISTS sluice@'%' IDENTIFIED BY 'secret';\n\
             GRANT ALL ON *.* TO sluice@'%';\n",
        )?;
        server.run_as("mysql")?;
        let data = format!("--datadir={}", server.path("data"));
        let install = [find("mariadb-install-db", &["/usr/bin"])?, "--no-defaults".into(), data.clone()];
        let more = ["--skip-test-db".to_owned(), "--auth-root-authentication-method=normal".into()];
        run(Some("mysql"), &[&install[..], &more[..]].concat(), server.folder.path())?;
        let argv = vec![
            find("mariadbd", &["/usr/sbin"])?,
            "--no-defaults".into(),
            data,
            format!("--port={}", server.port),
            "--bind-address=127.0.0.1".into(),
            format!("--socket={}", server.path("socket")),
            format!("--pid-file={}", server.path("pid")),
            format!("--init-file={}", server.path("init.sql")),
            "--skip-name-resolve".into(),
            "--innodb-buffer-pool-size=32M".into(),
        ];
        let url = url(server.port);
        server.start(argv, || ready(url.clone())).await?;
        Ok(MariaDb { server })
    }

    /// `mysql://sluice:secret@127.0.0.1:PORT/test`
    pub fn url(&self) -> String {
        url(self.server.port)
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
        self.server.launch(|| ready(url.clone())).await
    }
}

fn url(port: u16) -> String {
    format!("mysql://sluice:secret@127.0.0.1:{port}/test")
}

async fn ready(url: String) -> bool {
    let Ok(mut connection) = MySqlConnection::connect(&url).await else { return false };
    connection.execute("SELECT 1").await.is_ok()
}
