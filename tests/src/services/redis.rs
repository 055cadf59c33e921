//! Redis: single, as a one-node cluster, with TLS.

use anyhow::Result;
use tokio::sync::OnceCell;

use super::process::{Server, find, listens, run};
use crate::tls::TlsFiles;

/// How the server is to be set up.
#[derive(Clone, Debug, Default)]
pub struct RedisOptions {
    /// TLS on the port; clients need no certificate.
    pub tls: bool,
    /// One node that holds all slots of a cluster.
    pub cluster: bool,
    /// Password of the default user.
    pub password: Option<String>,
}

/// A Redis server.
#[derive(Debug)]
pub struct Redis {
    server: Server,
    options: RedisOptions,
    /// TLS files, if it speaks TLS.
    pub tls: Option<TlsFiles>,
}

impl Redis {
    /// A plain server, shared by the tests of this process. Use keys of your own.
    pub async fn shared() -> &'static Redis {
        static SHARED: OnceCell<Redis> = OnceCell::const_new();
        SHARED.get_or_init(|| async { Redis::start().await.expect("redis starts") }).await
    }

    /// A server of one's own; every write is on disk before it is answered.
    ///
    /// # Errors
    /// When it can't be started.
    pub async fn start() -> Result<Self> {
        Self::start_with(RedisOptions::default()).await
    }

    /// A server of one's own, set up as wanted.
    ///
    /// # Errors
    /// When it can't be started.
    pub async fn start_with(options: RedisOptions) -> Result<Self> {
        let mut server = Server::new("redis")?;
        let port = server.port.to_string();
        let mut argv = vec![find("redis-server", &["/usr/bin"])?];
        argv.extend(
            ["--bind", "127.0.0.1", "--dir", &server.path(""), "--appendonly", "yes", "--appendfsync", "always"]
                .map(str::to_owned),
        );
        argv.extend(["--save", "", "--daemonize", "no"].map(str::to_owned));
        let mut tls = None;
        if options.tls {
            let files = TlsFiles::make(server.folder.path())?;
            let paths = [files.server_cert.display(), files.server_key.display(), files.ca.display()]
                .map(|path| path.to_string());
            let [cert, key, ca] = &paths;
            argv.extend(
                ["--port", "0", "--tls-port", &port, "--tls-cert-file", cert, "--tls-key-file", key].map(str::to_owned),
            );
            argv.extend(["--tls-ca-cert-file", ca, "--tls-auth-clients", "no"].map(str::to_owned));
            tls = Some(files);
        } else {
            argv.extend(["--port", &port].map(str::to_owned));
        }
        if options.cluster {
            let bus = super::free_port().to_string();
            argv.extend(["--cluster-enabled", "yes", "--cluster-port", &bus].map(str::to_owned));
            argv.extend(["--cluster-announce-ip", "127.0.0.1"].map(str::to_owned));
        }
        if let Some(password) = &options.password {
            argv.extend(["--requirepass", password].map(str::to_owned));
        }
        let port = server.port;
        server.start(argv, || listens(port)).await?;
        let redis = Redis { server, options, tls };
        if redis.options.cluster {
            redis.cli(&["cluster", "addslotsrange", "0", "16383"])?;
            crate::wait::until_true("the cluster to be up", || async {
                redis.cli_output(&["cluster", "info"]).is_ok_and(|text| text.contains("cluster_state:ok"))
            })
            .await;
        }
        Ok(redis)
    }

    /// `127.0.0.1:PORT`
    pub fn addr(&self) -> String {
        format!("127.0.0.1:{}", self.server.port)
    }

    /// `redis://127.0.0.1:PORT`, or `rediss://` with TLS; without password.
    pub fn url(&self) -> String {
        format!("{}://{}", if self.options.tls { "rediss" } else { "redis" }, self.addr())
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.server.port
    }

    /// Runs one command with `redis-cli`.
    ///
    /// # Errors
    /// When it fails.
    pub fn cli(&self, command: &[&str]) -> Result<()> {
        run(None, &self.cli_argv(command)?, self.server.folder.path())
    }

    /// Runs one command with `redis-cli` and gives what it printed.
    ///
    /// # Errors
    /// When it fails.
    pub fn cli_output(&self, command: &[&str]) -> Result<String> {
        let argv = self.cli_argv(command)?;
        let output = std::process::Command::new(&argv[0]).args(&argv[1..]).output()?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn cli_argv(&self, command: &[&str]) -> Result<Vec<String>> {
        let mut argv = vec![find("redis-cli", &["/usr/bin"])?, "-p".to_owned(), self.server.port.to_string()];
        if let Some(files) = &self.tls {
            argv.extend(["--tls".to_owned(), "--cacert".to_owned(), files.ca.display().to_string()]);
        }
        if let Some(password) = &self.options.password {
            argv.extend(["-a".to_owned(), password.clone(), "--no-auth-warning".to_owned()]);
        }
        argv.extend(command.iter().map(|word| (*word).to_owned()));
        Ok(argv)
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
        let port = self.server.port;
        self.server.launch(|| listens(port)).await
    }
}
