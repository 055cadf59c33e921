//! The servers behind a case's variables: started if its manifests name them, filled before the run, read after it.
//!
//! | variable | what it stands for | what arrives |
//! |---|---|---|
//! | `${sqlite}` | a database file | |
//! | `${postgres}`, `${mariadb}` | URL of a database | |
//! | `${redis}` | address of a server | |
//! | `${mosquitto}` | URL of a broker | messages below the topic `CASE/` |
//! | `${receiver}` | URL of an HTTP server | its requests |
//! | `${influxdb1}`, `${influxdb2}` | URL of a server with database `db`, or organisation `org` and bucket `bucket` | points of measurement `CASE` |

use std::collections::BTreeMap;
use std::future::IntoFuture;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::Request;
use serde_json::{Map, Value, json};
use sluice_tests::mqtt::MqttClient;
use sluice_tests::services::{InfluxDb1, InfluxDb2, MariaDb, Mosquitto, Postgres, Redis};
use sluice_tests::wait;
use sqlx::{AssertSqlSafe, Connection, Executor, MySqlConnection, PgConnection, SqliteConnection};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::AbortHandle;

/// What a case has at the other end.
#[derive(Default)]
pub struct Servers {
    /// Where they are.
    pub variables: BTreeMap<String, String>,
    folder: Option<TempDir>,
    redis: Option<&'static Redis>,
    subscriber: Option<MqttClient>,
    receiver: Option<Receiver>,
    influxdb1: Option<InfluxDb1>,
    influxdb2: Option<&'static InfluxDb2>,
}

impl Servers {
    /// Starts what `manifests` name.
    pub async fn start(case: &str, manifests: &str) -> Self {
        let mut servers = Servers::default();
        let is_named = |variable: &str| manifests.contains(&format!("${{{variable}}}"));
        let mut variables = BTreeMap::new();
        let mut set = |variable: &str, value: String| variables.insert(variable.to_owned(), value);
        if is_named("sqlite") {
            let folder = tempfile::tempdir().unwrap();
            set("sqlite", folder.path().join("test.db").display().to_string());
            servers.folder = Some(folder);
        }
        if is_named("postgres") {
            set("postgres", Postgres::shared().await.url());
        }
        if is_named("mariadb") {
            set("mariadb", MariaDb::shared().await.url());
        }
        if is_named("redis") {
            let redis = Redis::shared().await;
            set("redis", redis.addr());
            servers.redis = Some(redis);
        }
        if is_named("mosquitto") {
            let broker = Mosquitto::shared().await;
            set("mosquitto", broker.url());
            let subscriber = MqttClient::connect(broker.port());
            subscriber.subscribe(&format!("{case}/#")).await.unwrap();
            servers.subscriber = Some(subscriber);
        }
        if is_named("receiver") {
            let (receiver, url) = Receiver::start().await;
            set("receiver", url);
            servers.receiver = Some(receiver);
        }
        if is_named("influxdb1") {
            let influx = InfluxDb1::start().await.unwrap();
            set("influxdb1", influx.url());
            servers.influxdb1 = Some(influx);
        }
        if is_named("influxdb2") {
            let influx = InfluxDb2::shared().await;
            set("influxdb2", influx.url());
            set("token", InfluxDb2::TOKEN.to_owned());
            servers.influxdb2 = Some(influx);
        }
        servers.variables = variables;
        servers
    }

    /// Fills the databases.
    pub async fn set_up(&self, case: &Path) {
        if let Ok(sql) = std::fs::read_to_string(case.join("setup.sql")) {
            for (variable, value) in &self.variables {
                match variable.as_str() {
                    "sqlite" => execute::<SqliteConnection>(&format!("sqlite:{value}?mode=rwc"), &sql).await,
                    "postgres" => execute::<PgConnection>(value, &sql).await,
                    "mariadb" => execute::<MySqlConnection>(value, &sql).await,
                    _ => {}
                }
            }
        }
        if let (Ok(commands), Some(redis)) = (std::fs::read_to_string(case.join("setup.redis")), self.redis) {
            for command in commands.lines() {
                redis.cli(&command.split_whitespace().collect::<Vec<_>>()).unwrap();
            }
        }
    }

    /// What the servers got from the rules, a line each.
    pub async fn arrived(&self, case: &str) -> Vec<String> {
        let mut lines = Vec::new();
        if let Some(subscriber) = &self.subscriber {
            // The broker keeps the order: behind this one nothing of the rules can come.
            let end = format!("{case}/end");
            subscriber.publish(&end, "").await.unwrap();
            wait::until_true("the last message", async || {
                subscriber.received().last().is_some_and(|(topic, _)| *topic == end)
            })
            .await;
            let messages = subscriber.received().into_iter().filter(|(topic, _)| *topic != end);
            lines.extend(messages.map(|(topic, body)| json!({"topic": topic, "body": text(&body)}).to_string()));
        }
        if let Some(receiver) = &self.receiver {
            lines.append(&mut receiver.requests.lock().unwrap_or_else(PoisonError::into_inner));
        }
        if let Some(influx) = &self.influxdb1 {
            let answer = influx.query(&format!("SELECT * FROM \"{case}\"")).await.unwrap();
            let series = &answer["results"][0]["series"][0];
            let names = series["columns"].as_array().unwrap();
            for point in series["values"].as_array().unwrap() {
                let cells = names.iter().zip(point.as_array().unwrap());
                let point = cells.map(|(name, cell)| (name.as_str().unwrap().to_owned(), cell.clone()));
                lines.push(Value::Object(point.collect()).to_string());
            }
        }
        if let Some(influx) = self.influxdb2 {
            lines.extend(points(influx, case).await);
        }
        lines
    }
}

async fn execute<C>(url: &str, sql: &str)
where
    C: Connection,
    for<'c> &'c mut C: Executor<'c, Database = C::Database>,
{
    let mut connection = C::connect(url).await.unwrap();
    for statement in sql.split_terminator(";\n") {
        connection.execute(AssertSqlSafe(statement.to_owned())).await.unwrap();
    }
    connection.close().await.unwrap();
}

/// The points of a measurement in order of time, with all their fields and tags.
async fn points(influx: &InfluxDb2, measurement: &str) -> Vec<String> {
    let csv = influx
        .query(&format!(
            "from(bucket: \"{}\") |> range(start: 0) |> filter(fn: (r) => r._measurement == \"{measurement}\")
             |> pivot(rowKey: [\"_time\"], columnKey: [\"_field\"], valueColumn: \"_value\") |> group() |> sort(columns: [\"_time\"])",
            InfluxDb2::BUCKET
        ))
        .await
        .unwrap();
    let mut lines = csv.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let names: Vec<&str> = lines.next().unwrap_or_default().split(',').collect();
    let is_ours = |name: &str| !["", "result", "table", "_start", "_stop", "_measurement"].contains(&name);
    let point = |line: &str| {
        let cells = names.iter().zip(line.split(',')).filter(|(name, _)| is_ours(name));
        let point: Map<String, Value> = cells.map(|(name, cell)| ((*name).to_owned(), cell.into())).collect();
        Value::Object(point).to_string()
    };
    lines.map(point).collect()
}

/// An HTTP server that takes everything.
struct Receiver {
    requests: Arc<Mutex<Vec<String>>>,
    server: AbortHandle,
}

impl Receiver {
    #[expect(clippy::disallowed_methods, reason = "aborted when the receiver is dropped")]
    async fn start() -> (Self, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let requests: Arc<Mutex<Vec<String>>> = Arc::default();
        let list = Arc::clone(&requests);
        let take = async move |request: Request| {
            let (head, body) = request.into_parts();
            let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
            let header = |name: &str| head.headers.get(name).map(|value| text(value.as_bytes()));
            let request = json!({
                "request": format!("{} {}", head.method, head.uri),
                "contentType": header("content-type"),
                "x-site": header("x-site"),
                "body": text(&body),
            });
            list.lock().unwrap_or_else(PoisonError::into_inner).push(request.to_string());
        };
        let server = tokio::spawn(axum::serve(listener, Router::new().fallback(take)).into_future());
        (Receiver { requests, server: server.abort_handle() }, url)
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("messages are text")
}
