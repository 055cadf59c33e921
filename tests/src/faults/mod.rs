//! The fault harness: a rule set on real servers, numbered rows, and faults in seeded order; in the end every number is
//! accounted for.
//!
//! | rule | promise | reads | writes | what is checked |
//! |---|---|---|---|---|
//! | `filter` | qos 1 | MQTT | MQTT, InfluxDB | every number that passes arrived in both; copies are counted |
//! | `window` | qos 2 | MQTT | InfluxDB | over all windows, each key has counted and summed every number exactly once |
//! | `site` | qos 1 | MQTT, Redis | MQTT | every number arrived, joined |
//! | `place` | qos 1 | MQTT, PostgreSQL | MQTT | every number arrived, joined |

mod surroundings;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sqlx::{Connection as _, Executor as _};

use crate::mqtt::MqttClient;
use crate::services::{InfluxDb2, Mosquitto, Postgres, Redis, unique};
use crate::sluice::{Place, Sluice};
pub use surroundings::Volume;
use surroundings::{OwnClock, OwnNetwork};

/// Keys of the rows.
const N_KEYS: u64 = 7;
/// What is left after the last fault for everything to arrive.
const SETTLE: Duration = Duration::from_secs(180);

/// How long, and in which order.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Same seed, same faults.
    pub seed: u64,
    /// Time in which faults occur.
    pub duration: Duration,
    /// Between two faults, on average.
    pub pause: Duration,
    /// Longest outage of a server.
    pub outage: Duration,
    /// Rows per second.
    pub rate: u32,
}

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// `kill -9` of the runtime, which is then started again.
    Kill,
    /// SIGTERM, and a start.
    Terminate,
    /// The broker stops and starts again.
    Broker,
    /// Redis, `kill -9`.
    Redis,
    /// PostgreSQL, `kill -9`.
    Postgres,
    /// InfluxDB is gone for a while.
    SinkOutage,
    /// Nothing passes between the runtime and all servers for a while.
    Partition,
    /// A rule is edited while it runs.
    Edit,
    /// The state volume is full for a while.
    DiskFull,
    /// The wall clock is set, forward or back.
    ClockStep,
}

const FAULTS: [Fault; 10] = [
    Fault::Kill,
    Fault::Terminate,
    Fault::Broker,
    Fault::Redis,
    Fault::Postgres,
    Fault::SinkOutage,
    Fault::Partition,
    Fault::Edit,
    Fault::DiskFull,
    Fault::ClockStep,
];

/// Seconds by which the clock is wrong at most.
const MAX_CLOCK_STEP_S: i64 = 3600;

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Faults by kind.
    pub faults: BTreeMap<Fault, usize>,
    /// Rows published.
    pub n_rows: u64,
    /// By rule and sink: numbers that never arrived.
    pub lost: BTreeMap<&'static str, u64>,
    /// By rule and sink: copies beyond the first.
    pub copies: BTreeMap<&'static str, u64>,
    /// Keys whose count or sum over all windows is wrong.
    pub wrong_keys: Vec<String>,
    /// Faults that this machine does not allow.
    pub left_out: Vec<String>,
    /// If it is not good: what the runtime says of its rules in the end.
    pub rules: String,
    /// If it is not good: what its last life has logged.
    pub log: Vec<String>,
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "rows {}", self.n_rows)?;
        writeln!(f, "faults {:?}, {} in all", self.faults, self.faults.values().sum::<usize>())?;
        writeln!(f, "lost {:?}", self.lost)?;
        writeln!(f, "copies {:?}", self.copies)?;
        writeln!(f, "keys with a wrong count or sum {:?}", self.wrong_keys)?;
        write!(f, "left out {:?}", self.left_out)?;
        if !self.is_good() {
            write!(f, "\n{}\n{}", self.rules, self.log.join("\n"))?;
        }
        Ok(())
    }
}

impl Outcome {
    /// True if nothing was lost, and nothing counted twice in state.
    pub fn is_good(&self) -> bool {
        self.lost.values().all(|n| *n == 0) && self.wrong_keys.is_empty()
    }
}

struct Servers {
    broker: Mosquitto,
    redis: Redis,
    postgres: Postgres,
    influx: InfluxDb2,
}

/// Runs the harness.
///
/// # Errors
/// When a server or the runtime can't be started. Rows that are lost are no error, see [`Outcome::is_good`].
pub async fn run(plan: &Plan) -> Result<Outcome> {
    let folder = tempfile::tempdir()?;
    let rules = folder.path().join("rules");
    std::fs::create_dir(&rules)?;
    let mut servers = start().await?;
    let mut outcome = Outcome::default();
    // A fault that can't be had here is left out, and that is said.
    let mut left_out = Vec::new();
    let mut had = |what: &str, error: &anyhow::Error| left_out.push(format!("{what}: {error:#}"));
    let state_dir = folder.path().join("state");
    let volume = Volume::mount(state_dir.clone()).inspect_err(|error| had("full disks", error)).ok();
    let clock = OwnClock::new(folder.path().join("clock")).inspect_err(|error| had("clock steps", error)).ok();
    let network = OwnNetwork::with(servers.ports()).inspect_err(|error| had("partitions", error)).ok();
    outcome.left_out = left_out;
    let place = Place {
        network: network.as_ref().map(|own| own.network().clone()),
        variables: clock.iter().flat_map(OwnClock::variables).collect(),
    };

    let prefix = unique("faults");
    write_rules(&rules, &servers, &prefix, 0)?;
    let state_dir = state_dir.display().to_string();
    let args = ["--watch", "--state-dir", &state_dir, "--grace", "10s", "--log-level", "warn"];
    let mut sluice = Sluice::run_at(&place, &rules, &args)?;
    sluice.ready().await;

    let collector = MqttClient::connect(servers.broker.port());
    for rule in ["filter", "site", "place"] {
        collector.subscribe(&format!("{prefix}/{rule}")).await?;
    }
    let publisher = MqttClient::connect(servers.broker.port());

    let mut random = StdRng::seed_from_u64(plan.seed);
    let (start, mut n_edits) = (Instant::now(), 0);
    let mut next_fault = start + plan.pause;
    let mut tick = tokio::time::interval(Duration::from_millis(20));
    // What an outage of a minute held up is not made up for at once: the broker saves every message.
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let in_topic = format!("{prefix}/in");
    let per_tick = (plan.rate / 50).max(1);
    while start.elapsed() < plan.duration {
        tick.tick().await;
        for _ in 0..per_tick {
            let (n, k) = (outcome.n_rows, outcome.n_rows % N_KEYS);
            publisher.publish(&in_topic, format!("{{\"n\":{n},\"k\":{k}}}")).await?;
            outcome.n_rows += 1;
        }
        if Instant::now() < next_fault {
            continue;
        }
        let fault = FAULTS[random.random_range(0..FAULTS.len())];
        let outage = plan.outage.mul_f64(random.random_range(0.1..=1.0));
        let is_possible = match fault {
            Fault::DiskFull => volume.is_some(),
            Fault::Partition => network.is_some(),
            Fault::ClockStep => clock.is_some(),
            _ => true,
        };
        if !is_possible {
            continue;
        }
        *outcome.faults.entry(fault).or_default() += 1;
        match fault {
            Fault::Kill => {
                sluice.kill();
                sluice = Sluice::run_at(&place, &rules, &args)?;
            }
            Fault::Terminate => {
                sluice.terminate()?;
                sluice.ended().await;
                sluice = Sluice::run_at(&place, &rules, &args)?;
            }
            Fault::Broker => {
                // What the publisher would send again would rightly count twice.
                publisher.acknowledged().await;
                servers.broker.stop().await?;
                servers.broker.restart().await?;
            }
            Fault::Redis => {
                servers.redis.kill();
                tokio::time::sleep(outage / 4).await;
                servers.redis.restart().await?;
                fill_redis(&servers.redis)?;
            }
            Fault::Postgres => {
                servers.postgres.kill();
                tokio::time::sleep(outage / 4).await;
                servers.postgres.restart().await?;
            }
            Fault::SinkOutage => {
                servers.influx.kill();
                tokio::time::sleep(outage).await;
                servers.influx.restart().await?;
            }
            Fault::Partition => {
                let Some(network) = &network else { continue };
                network.cut(true)?;
                tokio::time::sleep(outage / 4).await;
                network.cut(false)?;
            }
            Fault::Edit => {
                n_edits += 1;
                write_rules(&rules, &servers, &prefix, n_edits)?;
            }
            Fault::DiskFull => {
                let Some(volume) = &volume else { continue };
                volume.fill(true)?;
                tokio::time::sleep(outage / 4).await;
                volume.fill(false)?;
            }
            Fault::ClockStep => {
                let Some(clock) = &clock else { continue };
                clock.set(random.random_range(-MAX_CLOCK_STEP_S..=MAX_CLOCK_STEP_S))?;
            }
        }
        next_fault = Instant::now() + plan.pause.mul_f64(random.random_range(0.3..=1.7));
    }
    publisher.acknowledged().await;
    sluice.ready().await;
    account(&mut outcome, &servers, &collector).await?;
    if !outcome.is_good() {
        outcome.rules = sluice.get("/rules").await?;
        outcome.log = sluice.stderr();
    }
    sluice.terminate()?;
    sluice.ended().await;
    Ok(outcome)
}

impl Servers {
    fn ports(&self) -> [u16; 4] {
        [self.broker.port(), self.redis.port(), self.postgres.port(), self.influx.port()]
    }
}

async fn start() -> Result<Servers> {
    let broker = Mosquitto::start().await?;
    let redis = Redis::start().await?;
    fill_redis(&redis)?;
    let postgres = Postgres::start().await?;
    let mut connection = sqlx::PgConnection::connect(&postgres.url()).await?;
    connection.execute("CREATE TABLE places (id BIGINT PRIMARY KEY, place TEXT)").await?;
    for k in 0..N_KEYS {
        connection
            .execute(sqlx::query("INSERT INTO places VALUES ($1, $2)").bind(k as i64).bind(format!("p{k}")))
            .await?;
    }
    connection.close().await?;
    let influx = InfluxDb2::start().await?;
    Ok(Servers { broker, redis, postgres, influx })
}

fn fill_redis(redis: &Redis) -> Result<()> {
    for k in 0..N_KEYS {
        redis.cli(&["SET", &format!("site:{k}"), &format!("{{\"id\":{k},\"site\":\"s{k}\"}}")])?;
    }
    Ok(())
}

fn write_rules(dir: &Path, servers: &Servers, prefix: &str, n_edits: u32) -> Result<()> {
    let server = servers.broker.url();
    let (redis, postgres, influx) = (servers.redis.addr(), servers.postgres.url(), servers.influx.url());
    let (org, bucket, token) = (InfluxDb2::ORG, InfluxDb2::BUCKET, InfluxDb2::TOKEN);
    let mqtt =
        |rule: &str| format!("- mqtt: {{server: \"{server}\", topic: \"{prefix}/{rule}\", qos: 1, sendSingle: true}}");
    let influx2 = |measurement: &str, rest: &str| {
        format!(
            "- influx2: {{addr: \"{influx}\", org: {org}, bucket: {bucket}, token: {token}, measurement: {measurement}, \
             precision: ms, sendSingle: true, {rest}}}"
        )
    };
    let filter_sinks = [mqtt("filter"), influx2("filter", "fields: [n], tsFieldName: n, fieldTypes: {n: int}")];
    let window_sinks =
        influx2("window", "tags: {k: \"{{.k}}\"}, fields: [c, s], tsFieldName: e, fieldTypes: {c: int, s: int}");
    // Each edit gives the rows of `filter` another constant.
    let text = format!(
        r#"apiVersion: sluice.dev/v1alpha1
kind: Stream
metadata: {{name: numbers}}
spec:
  type: mqtt
  datasource: {prefix}/in
  format: json
  shared: true
  fields: [{{name: n, type: bigint}}, {{name: k, type: bigint}}]
  options: {{server: "{server}", qos: 2, clientid: {prefix}, enableClientSession: true, keepAlive: 5s}}
---
apiVersion: sluice.dev/v1alpha1
kind: LookupTable
metadata: {{name: sites}}
spec:
  type: redis
  datasource: "0"
  onError: retry
  options: {{addr: "{redis}", keyTemplate: "site:{{{{.id}}}}"}}
---
apiVersion: sluice.dev/v1alpha1
kind: LookupTable
metadata: {{name: places}}
spec:
  type: sql
  datasource: places
  onError: retry
  options: {{dburl: "{postgres}"}}
---
apiVersion: sluice.dev/v1alpha1
kind: Rule
metadata: {{name: filter}}
spec:
  sql: SELECT n, k, {n_edits} AS edits FROM numbers WHERE n % 3 != 0
  options: {{qos: 1, checkpointInterval: 2s}}
  sinks:
  {filter}
---
apiVersion: sluice.dev/v1alpha1
kind: Rule
metadata: {{name: window}}
spec:
  sql: SELECT k, count(*) AS c, sum(n) AS s, window_end() AS e FROM numbers GROUP BY k, TUMBLINGWINDOW(ss, 1)
  options: {{qos: 2, checkpointInterval: 2s}}
  sinks:
  {window_sinks}
---
apiVersion: sluice.dev/v1alpha1
kind: Rule
metadata: {{name: site}}
spec:
  sql: SELECT numbers.n, sites.site FROM numbers INNER JOIN sites ON numbers.k = sites.id
  options: {{qos: 1, checkpointInterval: 2s}}
  sinks:
  {site}
---
apiVersion: sluice.dev/v1alpha1
kind: Rule
metadata: {{name: place}}
spec:
  sql: SELECT numbers.n, places.place FROM numbers INNER JOIN places ON numbers.k = places.id
  options: {{qos: 1, checkpointInterval: 2s}}
  sinks:
  {place}
"#,
        filter = filter_sinks.join("\n  "),
        site = mqtt("site"),
        place = mqtt("place"),
    );
    // Whole or not at all, as an editor saves.
    let fresh = dir.join(".rules.new");
    std::fs::write(&fresh, text)?;
    std::fs::rename(fresh, dir.join("rules.yaml"))?;
    Ok(())
}

/// Waits until every number is accounted for, or too long, and counts.
async fn account(outcome: &mut Outcome, servers: &Servers, collector: &MqttClient) -> Result<()> {
    let n_rows = outcome.n_rows;
    let start = Instant::now();
    loop {
        count_messages(outcome, collector);
        let found = numbers_in_influx(&servers.influx).await?;
        let expected = (0..n_rows).filter(|n| n % 3 != 0);
        outcome.lost.insert("filter to influxdb", expected.filter(|n| !found.contains_key(n)).count() as u64);
        outcome.wrong_keys = wrong_keys(&servers.influx, n_rows).await?;
        if outcome.is_good() || start.elapsed() > SETTLE {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

fn count_messages(outcome: &mut Outcome, collector: &MqttClient) {
    let mut seen: HashMap<&'static str, HashMap<u64, u64>> = HashMap::new();
    for (topic, body) in collector.received() {
        let rule = ["filter", "site", "place"].into_iter().find(|rule| topic.ends_with(rule)).unwrap_or("?");
        let row: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
        let n = row.get("n").and_then(serde_json::Value::as_u64);
        let is_whole = match rule {
            "site" => row.get("site").is_some(),
            "place" => row.get("place").is_some(),
            _ => true,
        };
        if let Some(n) = n.filter(|_| is_whole) {
            *seen.entry(rule).or_default().entry(n).or_default() += 1;
        }
    }
    for (name, rule) in [("filter to mqtt", "filter"), ("site to mqtt", "site"), ("place to mqtt", "place")] {
        let counts = seen.remove(rule).unwrap_or_default();
        let expected = (0..outcome.n_rows).filter(|n| rule != "filter" || n % 3 != 0);
        outcome.lost.insert(name, expected.filter(|n| !counts.contains_key(n)).count() as u64);
        outcome.copies.insert(name, counts.values().map(|n| n - 1).sum());
    }
}

async fn numbers_in_influx(influx: &InfluxDb2) -> Result<HashMap<u64, u64>> {
    let mut found = HashMap::new();
    for (_, _, value) in influx.points("filter").await? {
        *found.entry(value.trim().parse()?).or_default() += 1;
    }
    Ok(found)
}

/// Keys whose rows were not each counted exactly once, over all windows.
async fn wrong_keys(influx: &InfluxDb2, n_rows: u64) -> Result<Vec<String>> {
    let mut wrong = Vec::new();
    for k in 0..N_KEYS {
        let numbers = (0..n_rows).filter(|n| n % N_KEYS == k);
        let expected = (numbers.clone().count() as i64, numbers.sum::<u64>() as i64);
        let sum = async |field: &str| -> Result<i64> {
            // By a clock that was set forward, windows end in the future.
            let flux = format!(
                "from(bucket: \"{}\") |> range(start: 0, stop: 2100-01-01T00:00:00Z) \
                 |> filter(fn: (r) => r._measurement == \"window\" and r.k == \"{k}\" and r._field == \"{field}\") |> sum()",
                InfluxDb2::BUCKET
            );
            Ok(cell(&influx.query(&flux).await?, "_value").and_then(|text| text.parse().ok()).unwrap_or(0))
        };
        let found = (sum("c").await?, sum("s").await?);
        if found != expected {
            wrong.push(format!("{k}: {found:?} instead of {expected:?}"));
        }
    }
    Ok(wrong)
}

/// A cell of the first row of InfluxDB's CSV.
fn cell(csv: &str, name: &str) -> Option<String> {
    let mut lines = csv.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let place = lines.next()?.split(',').position(|column| column == name)?;
    Some(lines.next()?.split(',').nth(place)?.trim().to_owned())
}
