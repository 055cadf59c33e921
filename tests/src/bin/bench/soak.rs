//! Hours at a steady rate: does memory grow, is anything lost?

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use sluice_tests::services::{Mosquitto, Redis};
use sluice_tests::sluice::Sluice;

use crate::broker::{connect, publish};
use crate::measure::{median, verdict};
use crate::payload::{Size, payloads};

/// A filter, windows by a thousand keys, a lookup join with a cache that is too small for them, and a sink with a queue.
const FILES: &str = r#"
apiVersion: sluice.dev/v1alpha1
kind: Stream
metadata: {name: s1}
spec:
  sql: CREATE STREAM s1 () WITH (DATASOURCE="bench/s1", FORMAT="JSON", TYPE="mqtt", SHARED="true")
  options: {server: "SERVER"}
---
apiVersion: sluice.dev/v1alpha1
kind: LookupTable
metadata: {name: sites}
spec:
  sql: CREATE TABLE sites () WITH (DATASOURCE="0", FORMAT="JSON", TYPE="redis", KIND="lookup")
  options: {addr: "REDIS", dataType: string}
  cache: {ttl: 20s, maxEntries: 500, missing: true}
---
apiVersion: sluice.dev/v1alpha1
kind: Rule
metadata: {name: filter}
spec:
  sql: SELECT deviceId, temperature, humidity FROM s1 WHERE temperature > 20 AND status = "ok"
  sinks: [{mqtt: {server: "SERVER", topic: "soak/filter", qos: 1, enableCache: true}}]
---
apiVersion: sluice.dev/v1alpha1
kind: Rule
metadata: {name: windows}
spec:
  sql: SELECT deviceId, avg(temperature) AS t, count(*) AS c, max(humidity) AS h FROM s1 GROUP BY deviceId, TUMBLINGWINDOW(ss, 10)
  sinks: [{mqtt: {server: "SERVER", topic: "soak/windows/{{.deviceId}}", sendSingle: true}}]
---
apiVersion: sluice.dev/v1alpha1
kind: Rule
metadata: {name: sessions}
spec:
  sql: SELECT count(*) AS c, collect(status) AS s FROM s1 WHERE status = "fault" GROUP BY SLIDINGWINDOW(ms, 500) OVER (WHEN temperature > 23.9)
  sinks: [{nop: {}}]
---
apiVersion: sluice.dev/v1alpha1
kind: Rule
metadata: {name: joined}
spec:
  sql: SELECT s1.deviceId, s1.temperature, sites.site FROM s1 LEFT JOIN sites ON s1.deviceId = sites.id
  sinks: [{nop: {}}]
"#;

/// How often it is looked at memory.
const SAMPLE: Duration = Duration::from_secs(10);
/// Messages are written in bursts that are so far apart.
const BURST: Duration = Duration::from_millis(10);

/// Runs for `minutes` at `rate` messages per second.
pub fn soak(minutes: u64, rate: u64) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(async {
        let (broker, redis) = (Mosquitto::start().await?, Redis::start().await?);
        let folder = tempfile::tempdir()?;
        let files = FILES.replace("SERVER", &broker.url()).replace("REDIS", &redis.addr());
        std::fs::write(folder.path().join("rules.yaml"), files)?;
        let state = folder.path().join("state");
        let state = state.to_str().context("the path is text")?;
        let sluice = Sluice::run_ready(folder.path(), &["--state-dir", state]).await?;
        let rules = sluice.get("/rules").await?;
        ensure!(rules.matches("\"state\":\"running\"").count() == 4, "not all rules run: {rules}");

        let (stop, n_published) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let publisher = publisher(broker.port(), rate, Arc::clone(&stop), Arc::clone(&n_published));
        let start = Instant::now();
        let mut resident = Vec::new();
        println!("minute,published,resident_mib");
        while start.elapsed() < Duration::from_secs(60 * minutes) {
            tokio::time::sleep(SAMPLE).await;
            resident.push(sluice.resident_bytes()? as f64 / f64::from(1 << 20));
            if resident.len() % 6 == 0 {
                let newest = resident.last().copied().unwrap_or_default();
                println!("{},{},{newest:.2}", resident.len() / 6, n_published.load(Ordering::Relaxed));
            }
        }
        stop.store(true, Ordering::Relaxed);
        publisher.join().map_err(|_| anyhow::anyhow!("the publisher has panicked"))??;
        let n_published = n_published.load(Ordering::Relaxed);
        sluice_tests::wait::until_true("everything to arrive", async || {
            let metrics = sluice.get("/metrics").await.unwrap_or_default();
            count(&metrics, "sluice_source_messages_in_total{stream=\"s1\"") >= n_published
        })
        .await;
        let metrics = sluice.get("/metrics").await?;
        for line in metrics.lines().filter(|line| line.contains("dropped_total") && !line.ends_with(" 0")) {
            println!("{line}");
        }
        let n_dropped: u64 =
            ["sluice_source_dropped_total{", "sluice_rule_rows_dropped_total{", "sluice_sink_rows_dropped_total{"]
                .iter()
                .map(|name| count(&metrics, name))
                .sum();
        let rows: Vec<u64> = ["filter", "windows", "sessions", "joined"]
            .iter()
            .map(|rule| count(&metrics, &format!("sluice_rule_rows_in_total{{rule=\"{rule}\"")))
            .collect();
        println!("{n_published} messages published; rows into each rule: {rows:?}; dropped: {n_dropped}");
        verdict(
            "messages lost",
            (n_published - rows.iter().copied().min().unwrap_or(0).min(n_published)) as f64,
            rows.iter().all(|n| *n == n_published),
            "none",
        );
        // A sample is a moment: a few of them are compared.
        let some = |samples: &[f64]| median(samples.to_vec());
        let warm = (60 / SAMPLE.as_secs() * 10) as usize;
        let (Some(first), Some(last)) = (resident.get(warm..warm + 12), resident.len().checked_sub(12)) else {
            println!("resident memory is compared from the tenth minute on: run for more than 12 minutes");
            return Ok(());
        };
        let growth = some(resident.get(last..).unwrap_or_default()) / some(first) - 1.0;
        verdict("growth of resident memory after ten minutes, %", growth * 100.0, growth <= 0.05, "at most 5");
        Ok(())
    })
}

/// The sum of all series that begin so.
fn count(metrics: &str, series: &str) -> u64 {
    let lines = metrics.lines().filter(|line| line.starts_with(series));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum::<f64>() as u64
}

fn publisher(
    port: u16,
    rate: u64,
    stop: Arc<AtomicBool>,
    n_published: Arc<AtomicU64>,
) -> std::thread::JoinHandle<Result<()>> {
    std::thread::spawn(move || {
        let bodies = payloads(Size::P100, 10_000);
        let mut bodies = bodies.iter().cycle();
        let mut socket = connect(port, "soak")?;
        let start = Instant::now();
        let mut n = 0;
        let mut packets = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            let due = (start.elapsed().as_secs_f64() * rate as f64) as u64;
            packets.clear();
            for body in bodies.by_ref().take(usize::try_from(due - n)?) {
                publish("bench/s1", None, body, &mut packets);
            }
            socket.write_all(&packets)?;
            n = due;
            n_published.store(n, Ordering::Relaxed);
            std::thread::sleep(BURST);
        }
        socket.shutdown(std::net::Shutdown::Write)?;
        let mut rest = Vec::new();
        let _ = std::io::Read::read_to_end(&mut socket, &mut rest);
        Ok(())
    })
}
