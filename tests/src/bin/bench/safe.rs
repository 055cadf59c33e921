//! What it costs to lose nothing: checkpoints on a window of 1,000 keys, and the journal behind Mosquitto at QoS 1.

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::json;
use sluice::definition::Delivery;
use sluice::pipeline::{Engine, Settings};
use sluice::state::journal::Limits;
use sluice::state::{StateStore, SyncPolicy};
use sluice::{Definitions, Registry};
use sluice_tests::services::{Mosquitto, MosquittoOptions};

use crate::broker::{connect, publish};
use crate::measure::{W1, apply, median, rule, s1_fields, stream, verdict};
use crate::payload::{Size, payloads};
use crate::replay::{PROBE_SINK, REPLAY, prepare, set_probe};

const W4: &str = "SELECT deviceId, avg(temperature) AS t, count(*) AS c, max(humidity) AS h, window_end() AS e FROM s1 \
                  GROUP BY deviceId, TUMBLINGWINDOW(ss, 10)";
/// What is in the broker before the engine reads it.
const TOPIC: &str = "bench/safe";

fn engine(dir: &std::path::Path) -> Result<Engine> {
    let mut settings = Settings::new(Registry::builtin().with_source(REPLAY).with_sink(PROBE_SINK));
    settings.state = Some(StateStore::open(dir, SyncPolicy::Always, Limits::default())?);
    Ok(Engine::new(settings))
}

/// W4 over a journal, with a checkpoint every second and with none: thirty times as many as one every 30 s.
pub fn checkpoints(rounds: usize, n_messages: usize) -> Result<()> {
    prepare(&Arc::new(payloads(Size::P100, 50_000)));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        for (interval, rates) in [(Duration::from_secs(3600), &mut without), (Duration::from_secs(1), &mut with)] {
            let dir = tempfile::tempdir()?;
            let rate = runtime.block_on(async {
                let engine = engine(dir.path())?;
                let mut rule = rule(W4, "probe");
                rule.delivery = Delivery { qos: 2, checkpoint_interval: interval, ..Delivery::default() };
                let stream = stream("s1", "replay", "", s1_fields(), json!({"messages": n_messages}));
                set_probe(Arc::new(|_| {}));
                let started = Instant::now();
                apply(&engine, &Definitions { streams: vec![stream], rules: vec![rule], ..Definitions::default() })?;
                engine.finished().await;
                let rate = n_messages as f64 / started.elapsed().as_secs_f64();
                engine.stop(Duration::from_secs(5)).await;
                anyhow::Ok(rate)
            })?;
            rates.push(rate);
        }
    }
    let (without, with) = (median(without), median(with));
    println!("W4 with qos 2, {n_messages} messages through the journal:");
    println!("  no checkpoints {without:.0}/s, one every second {with:.0}/s");
    verdict(
        "with / without checkpoints every second",
        with / without,
        with >= 0.9 * without,
        "at least 0.90 at one in 30 s",
    );
    Ok(())
}

/// W1 behind Mosquitto at QoS 1, with and without the journal, and the time from arrival to acknowledgement.
pub fn journal(rounds: usize, n_messages: usize) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    // Under version 5 the client says how many messages may be on their way, not the broker.
    for (version, window) in [("3.1.1", 20), ("3.1.1", 1000), ("5", 20)] {
        // A broker that saves each message is slower than anything that is measured here.
        let extra = format!("persistence false\nautosave_on_changes false\nmax_inflight_messages {window}\n");
        let broker = runtime.block_on(Mosquitto::start_with(MosquittoOptions { extra, ..Default::default() }))?;
        let (mut plain, mut journaled) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            for (qos, rates) in [(0, &mut plain), (1, &mut journaled)] {
                rates.push(runtime.block_on(through(&broker, version, qos, n_messages))?);
            }
        }
        let (plain, journaled) = (median(plain), median(journaled));
        println!(
            "W1 behind Mosquitto at QoS 1, MQTT {version}, max_inflight_messages {window}, {n_messages} messages:"
        );
        println!("  qos 0 {plain:.0}/s, qos 1 with the journal {journaled:.0}/s");
        verdict("with / without the journal", journaled / plain, journaled >= 0.6 * plain, "at least 0.60");
    }
    Ok(())
}

/// Publishes with QoS 1, as fast as the broker acknowledges.
fn blast(port: u16, n_messages: usize) -> std::thread::JoinHandle<Result<()>> {
    std::thread::spawn(move || {
        let mut socket = connect(port, "safe-blast")?;
        let mut packets = Vec::new();
        for (n, body) in payloads(Size::P100, 10_000).iter().cycle().take(n_messages).enumerate() {
            publish(TOPIC, Some((n % 60_000 + 1) as u16), body, &mut packets);
        }
        let mut reader = socket.try_clone()?;
        let acks = std::thread::spawn(move || {
            let (mut n_bytes, mut buffer) = (0, vec![0; 64 << 10]);
            // Four bytes acknowledge one message.
            while n_bytes < 4 * n_messages {
                match reader.read(&mut buffer) {
                    Ok(0) | Err(_) => break,
                    Ok(n_read) => n_bytes += n_read,
                }
            }
        });
        for chunk in packets.chunks(64 << 10) {
            socket.write_all(chunk)?;
        }
        let _ = acks.join();
        Ok(())
    })
}

async fn through(broker: &Mosquitto, version: &str, qos: u8, n_messages: usize) -> Result<f64> {
    let dir = tempfile::tempdir()?;
    let n_rows = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&n_rows);
    set_probe(Arc::new(move |batch| {
        counter.fetch_add(batch.rows.len(), Ordering::AcqRel);
    }));
    let engine = engine(dir.path())?;
    let mut rule = rule(W1, "probe");
    rule.delivery = Delivery { qos, checkpoint_interval: Duration::from_secs(30), ..Delivery::default() };
    let options = json!({"server": broker.url(), "qos": 1, "protocolVersion": version});
    let stream = stream("s1", "mqtt", TOPIC, s1_fields(), options);
    apply(&engine, &Definitions { streams: vec![stream], rules: vec![rule], ..Definitions::default() })?;
    while !engine.is_ready() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    let n_in = || engine.samples().streams.iter().map(|stream| stream.messages_in.get()).sum::<u64>() as usize;
    let blaster = blast(broker.port(), n_messages);
    let (mut first, mut last, mut n_received) = (None, Instant::now(), 0);
    while n_received < n_messages && last.elapsed() < Duration::from_secs(10) {
        tokio::time::sleep(Duration::from_millis(2)).await;
        let now = n_in();
        if now > n_received {
            n_received = now;
            last = Instant::now();
            first.get_or_insert(last);
        }
    }
    if qos > 0 {
        let median = engine.samples().streams.iter().filter_map(|stream| stream.ack_time.quantile(0.5)).max();
        let median_ms = median.unwrap_or_default().as_secs_f64() * 1000.0;
        verdict("median from arrival to acknowledgement, ms, rounded up", median_ms, median_ms <= 20.0, "at most 20");
    }
    tokio::task::spawn_blocking(move || blaster.join())
        .await?
        .map_err(|_| anyhow::anyhow!("the publisher failed"))??;
    engine.stop(Duration::from_secs(5)).await;
    Ok(n_received as f64 / (last - first.unwrap_or(last)).as_secs_f64())
}
