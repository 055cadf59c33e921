//! InfluxDB 2 (built from its Go module into the cache) and InfluxDB 1.

use anyhow::{Context, Result, ensure};
use tokio::sync::OnceCell;

use super::process::{Server, cache, find, listens};
use crate::tls::TlsFiles;

/// An InfluxDB 2 server with organisation `org`, bucket `bucket` and an all-access token.
#[derive(Debug)]
pub struct InfluxDb2 {
    server: Server,
    client: reqwest::Client,
    /// TLS files, if it speaks TLS.
    pub tls: Option<TlsFiles>,
}

impl InfluxDb2 {
    /// The organisation.
    pub const ORG: &str = "org";
    /// The bucket that is there from the start.
    pub const BUCKET: &str = "bucket";
    /// The token.
    pub const TOKEN: &str = "test-token-of-influxdb";

    /// A server shared by the tests of this process. Use measurements of your own.
    pub async fn shared() -> &'static InfluxDb2 {
        static SHARED: OnceCell<InfluxDb2> = OnceCell::const_new();
        SHARED.get_or_init(|| async { InfluxDb2::start().await.expect("influxdb 2 starts") }).await
    }

    /// A server of one's own, set up.
    ///
    /// # Errors
    /// When it can't be started, or is not built yet.
    pub async fn start() -> Result<Self> {
        Self::start_with(false).await
    }

    /// A server of one's own that speaks TLS, set up.
    ///
    /// # Errors
    /// As for [`start`](Self::start).
    pub async fn start_tls() -> Result<Self> {
        Self::start_with(true).await
    }

    async fn start_with(with_tls: bool) -> Result<Self> {
        let program = cache().join("influxd-2.7.12/bin/influxd");
        ensure!(
            program.is_file(),
            "InfluxDB 2 is not built yet: run `tests/run`, which builds it once into {}",
            cache().display()
        );
        let mut server = Server::new("influxdb2")?;
        let mut argv = vec![
            program.display().to_string(),
            format!("--bolt-path={}", server.path("bolt")),
            format!("--engine-path={}", server.path("engine")),
            format!("--sqlite-path={}", server.path("sqlite")),
            format!("--http-bind-address=127.0.0.1:{}", server.port),
            "--reporting-disabled".into(),
        ];
        let tls = if with_tls { Some(TlsFiles::make(server.folder.path())?) } else { None };
        if let Some(files) = &tls {
            argv.push(format!("--tls-cert={}", files.server_cert.display()));
            argv.push(format!("--tls-key={}", files.server_key.display()));
        }
        let client = client(tls.as_ref())?;
        let health = format!("{}/health", url(&server, tls.as_ref()));
        server.start(argv, || healthy(&client, &health)).await?;
        let influx = InfluxDb2 { server, client, tls };
        let setup = serde_json::json!({"username": "admin", "password": "password", "org": Self::ORG, "bucket": Self::BUCKET, "token": Self::TOKEN});
        let answer = influx
            .client
            .post(format!("{}/api/v2/setup", influx.url()))
            .header("content-type", "application/json")
            .body(setup.to_string())
            .send()
            .await?;
        ensure!(answer.status().is_success(), "setup of influxdb 2 failed: {}", answer.text().await?);
        Ok(influx)
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.server.port
    }

    /// `http://127.0.0.1:PORT`, or `https://` with TLS.
    pub fn url(&self) -> String {
        url(&self.server, self.tls.as_ref())
    }

    /// Runs a Flux query; the answer is InfluxDB's annotated CSV.
    ///
    /// # Errors
    /// When the query is refused.
    pub async fn query(&self, flux: &str) -> Result<String> {
        let answer = self
            .client
            .post(format!("{}/api/v2/query?org={}", self.url(), Self::ORG))
            .header("authorization", format!("Token {}", Self::TOKEN))
            .header("content-type", "application/vnd.flux")
            .header("accept", "application/csv")
            .body(flux.to_owned())
            .send()
            .await?;
        let status = answer.status();
        let text = answer.text().await?;
        ensure!(status.is_success(), "query failed with {status}: {text}");
        Ok(text)
    }

    /// All values of a measurement as `(time, field, value)` texts, tags left out, in the order of InfluxDB's answer.
    ///
    /// # Errors
    /// When the query is refused.
    pub async fn points(&self, measurement: &str) -> Result<Vec<(String, String, String)>> {
        let flux = format!(
            "from(bucket: \"{}\") |> range(start: 0) |> filter(fn: (r) => r._measurement == \"{measurement}\")",
            Self::BUCKET
        );
        let csv = self.query(&flux).await?;
        let mut points = Vec::new();
        let mut header: Vec<&str> = Vec::new();
        for line in csv.lines() {
            let cells: Vec<&str> = line.split(',').collect();
            if cells.contains(&"_time") {
                header = cells;
            } else if !line.is_empty() && !line.starts_with('#') {
                let cell = |name: &str| {
                    let column = header.iter().position(|column| *column == name)?;
                    cells.get(column).map(|cell| (*cell).to_owned())
                };
                let point = (cell("_time"), cell("_field"), cell("_value"));
                if let (Some(time), Some(field), Some(value)) = point {
                    points.push((time, field, value));
                }
            }
        }
        Ok(points)
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
        let health = format!("{}/health", self.url());
        let client = self.client.clone();
        self.server.launch(|| healthy(&client, &health)).await
    }
}

/// An InfluxDB 1 server with database `db`.
#[derive(Debug)]
pub struct InfluxDb1 {
    server: Server,
    client: reqwest::Client,
}

impl InfluxDb1 {
    /// The database that is there from the start.
    pub const DATABASE: &str = "db";

    /// A server of one's own.
    ///
    /// # Errors
    /// When it can't be started.
    pub async fn start() -> Result<Self> {
        let program = find("influxd", &["/usr/bin"])?;
        let mut server = Server::new("influxdb1")?;
        let rpc = super::free_port();
        let config = format!(
            "reporting-disabled = true\nbind-address = \"127.0.0.1:{rpc}\"\n[meta]\ndir = \"{meta}\"\n[data]\ndir = \"{data}\"\nwal-dir = \"{wal}\"\n[http]\nbind-address = \"127.0.0.1:{port}\"\nlog-enabled = false\n",
            meta = server.path("meta"),
            data = server.path("data"),
            wal = server.path("wal"),
            port = server.port,
        );
        std::fs::write(server.path("influxdb.conf"), config)?;
        let argv = vec![program, "-config".into(), server.path("influxdb.conf")];
        let port = server.port;
        server.start(argv, || listens(port)).await?;
        let influx = InfluxDb1 { server, client: client(None)? };
        influx.query(&format!("CREATE DATABASE {}", Self::DATABASE)).await?;
        Ok(influx)
    }

    /// `http://127.0.0.1:PORT`
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.server.port)
    }

    /// Runs an InfluxQL statement; the answer is JSON.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn query(&self, influxql: &str) -> Result<serde_json::Value> {
        let form = format!("db={}&q={}", Self::DATABASE, percent(influxql));
        let answer = self
            .client
            .post(format!("{}/query", self.url()))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(form)
            .send()
            .await?;
        let status = answer.status();
        let text = answer.text().await?;
        ensure!(status.is_success(), "query failed with {status}: {text}");
        serde_json::from_str(&text).context("influxdb 1 answers JSON")
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

fn url(server: &Server, tls: Option<&TlsFiles>) -> String {
    let scheme = if tls.is_some() { "https" } else { "http" };
    format!("{scheme}://127.0.0.1:{}", server.port)
}

fn client(tls: Option<&TlsFiles>) -> Result<reqwest::Client> {
    // An earlier call of another test may have installed it already.
    rustls::crypto::ring::default_provider().install_default().ok();
    let mut builder = reqwest::Client::builder().no_proxy();
    if let Some(files) = tls {
        let authority = reqwest::Certificate::from_pem(&std::fs::read(&files.ca)?)?;
        builder = builder.tls_certs_only([authority]);
    }
    Ok(builder.build()?)
}

async fn healthy(client: &reqwest::Client, url: &str) -> bool {
    client.get(url).send().await.is_ok_and(|answer| answer.status().is_success())
}

/// Percent-encodes everything but letters and digits.
fn percent(text: &str) -> String {
    text.bytes()
        .map(|byte| if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}
