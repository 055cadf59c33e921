//! The MQTT broker.

use std::fmt::Write as _;

use anyhow::Result;
use tokio::sync::OnceCell;

use super::process::{Server, find, listens};
use crate::tls::TlsFiles;

/// How the broker is to be set up.
#[derive(Clone, Debug, Default)]
pub struct MosquittoOptions {
    /// TLS on the port, with these files; client certificates are demanded if `client_cert`.
    pub tls: bool,
    /// Demand a client certificate.
    pub client_cert: bool,
    /// The only user and password that may connect.
    pub user: Option<(String, String)>,
    /// Further lines of its configuration.
    pub extra: String,
}

/// A Mosquitto broker.
#[derive(Debug)]
pub struct Mosquitto {
    server: Server,
    /// TLS files, if it speaks TLS.
    pub tls: Option<TlsFiles>,
}

impl Mosquitto {
    /// A broker that anybody may use, shared by the tests of this process.
    pub async fn shared() -> &'static Mosquitto {
        static SHARED: OnceCell<Mosquitto> = OnceCell::const_new();
        SHARED.get_or_init(|| async { Mosquitto::start().await.expect("mosquitto starts") }).await
    }

    /// A broker of one's own.
    ///
    /// # Errors
    /// When it can't be started.
    pub async fn start() -> Result<Self> {
        Self::start_with(MosquittoOptions::default()).await
    }

    /// A broker of one's own, set up as wanted. It keeps sessions and queued messages over a restart.
    ///
    /// # Errors
    /// When it can't be started.
    pub async fn start_with(options: MosquittoOptions) -> Result<Self> {
        let program = find("mosquitto", &["/usr/sbin"])?;
        let mut server = Server::new("mosquitto")?;
        let mut config = format!(
            "listener {} 127.0.0.1\npersistence true\npersistence_location {}/\nautosave_interval 1\nautosave_on_changes true\nmax_queued_messages 0\n",
            server.port,
            server.folder.path().display()
        );
        let mut tls = None;
        if options.tls || options.client_cert {
            let files = TlsFiles::make(server.folder.path())?;
            writeln!(config, "cafile {}", files.ca.display())?;
            writeln!(config, "certfile {}", files.server_cert.display())?;
            writeln!(config, "keyfile {}", files.server_key.display())?;
            writeln!(config, "require_certificate {}", options.client_cert)?;
            tls = Some(files);
        }
        if let Some((user, password)) = &options.user {
            let passwords = server.path("passwords");
            let argv = [
                find("mosquitto_passwd", &["/usr/bin"])?,
                "-b".into(),
                "-c".into(),
                passwords.clone(),
                user.clone(),
                password.clone(),
            ];
            super::process::run(None, &argv, server.folder.path())?;
            writeln!(config, "password_file {passwords}\nallow_anonymous false")?;
        } else {
            config.push_str("allow_anonymous true\n");
        }
        config.push_str(&options.extra);
        std::fs::write(server.path("mosquitto.conf"), config)?;
        server.run_as("mosquitto")?;
        let argv = vec![program, "-c".into(), server.path("mosquitto.conf")];
        let port = server.port;
        server.start(argv, || listens(port)).await?;
        Ok(Mosquitto { server, tls })
    }

    /// `tcp://127.0.0.1:PORT`, or `ssl://` with TLS.
    pub fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "ssl" } else { "tcp" };
        format!("{scheme}://127.0.0.1:{}", self.server.port)
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.server.port
    }

    /// Stops the broker; it writes down what it holds.
    ///
    /// # Errors
    /// When it does not stop.
    pub async fn stop(&mut self) -> Result<()> {
        self.server.stop().await
    }

    /// Kills the broker. What it has acknowledged since it last wrote down what it holds is gone: it acknowledges first.
    pub fn kill(&mut self) {
        self.server.kill();
    }

    /// Starts it again, with what it had stored.
    ///
    /// # Errors
    /// When it can't be started.
    pub async fn restart(&mut self) -> Result<()> {
        let port = self.server.port;
        self.server.launch(|| listens(port)).await
    }

    /// The process, for tests that look at it.
    pub fn server(&self) -> &Server {
        &self.server
    }
}
