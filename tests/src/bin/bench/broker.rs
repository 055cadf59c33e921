//! W1 behind Mosquitto: throughput beside a raw reader, latency beside a raw client.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::json;
use sluice::Definitions;
use sluice_sql::Value;
use sluice_tests::services::Mosquitto;

use crate::measure::{W1, apply, engine, median, rule, s1_fields, stream, verdict};
use crate::payload::{Size, payloads};
use crate::replay::set_probe;

const TOPIC: &str = "bench/s1";
/// When nothing has come for this long, nothing comes any more.
const QUIET: Duration = Duration::from_millis(500);

/// Messages per second through to the sink, beside a raw reader that lets messages gather.
pub fn throughput(rounds: usize, n_messages: usize) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let broker = runtime.block_on(Mosquitto::start())?;
    let packets = Arc::new(flood(n_messages));
    let (mut raw, mut ours) = (Vec::new(), Vec::new());
    let (mut raw_lost, mut our_lost) = (0, 0);
    for _ in 0..rounds {
        let (rate, n_received) = raw_reader(broker.port(), &packets, n_messages)?;
        raw.push(rate);
        raw_lost += n_messages - n_received;
        let (rate, n_received) = runtime.block_on(through_engine(&broker, &packets, n_messages))?;
        ours.push(rate);
        our_lost += n_messages - n_received;
    }
    let (raw, ours) = (median(raw), median(ours));
    println!("W1 behind Mosquitto, QoS 0, {n_messages} messages as fast as they go:");
    println!("  raw reader {raw:.0}/s ({raw_lost} lost by the broker), engine {ours:.0}/s ({our_lost} lost)");
    verdict("engine / raw reader", ours / raw, ours >= 0.85 * raw, "at least 0.85");
    Ok(())
}

/// p99 at 1,000 messages per second, beside a raw client.
pub fn latency(rounds: usize) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let broker = runtime.block_on(Mosquitto::start())?;
    let (mut raw, mut ours) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        raw.push(raw_latency(broker.port())?);
        ours.push(runtime.block_on(engine_latency(&broker))?);
    }
    let of = |numbers: &[Percentiles], which: fn(&Percentiles) -> f64| median(numbers.iter().map(which).collect());
    println!("Latency behind Mosquitto at 1,000 messages per second, ms:");
    for (name, numbers) in [("raw client", &raw), ("engine", &ours)] {
        println!("  {name}: p50 {:.2}, p99 {:.2}", of(numbers, |found| found.p50), of(numbers, |found| found.p99));
    }
    let more = of(&ours, |found| found.p99) - of(&raw, |found| found.p99);
    verdict("p99 beyond the raw client's, ms", more, more <= 2.0, "at most 2");
    Ok(())
}

/// A message as it goes over the wire; with a number at QoS 1, without at QoS 0.
pub fn publish(topic: &str, pkid: Option<u16>, body: &[u8], out: &mut Vec<u8>) {
    let pkid = pkid.map(u16::to_be_bytes);
    let mut len = 2 + topic.len() + pkid.map_or(0, |pkid| pkid.len()) + body.len();
    out.push(if pkid.is_some() { 0x32 } else { 0x30 });
    loop {
        let low = (len & 0x7f) as u8;
        len >>= 7;
        out.push(if len > 0 { low | 0x80 } else { low });
        if len == 0 {
            break;
        }
    }
    out.extend_from_slice(&(topic.len() as u16).to_be_bytes());
    out.extend_from_slice(topic.as_bytes());
    out.extend(pkid.into_iter().flatten());
    out.extend_from_slice(body);
}

fn flood(n_messages: usize) -> Vec<u8> {
    let mut packets = Vec::new();
    for body in payloads(Size::P100, 10_000).iter().cycle().take(n_messages) {
        publish(TOPIC, None, body, &mut packets);
    }
    packets
}

/// A connection that has said hello.
pub fn connect(port: u16, name: &str) -> Result<TcpStream> {
    let mut socket = TcpStream::connect(("127.0.0.1", port))?;
    socket.set_nodelay(true)?;
    let mut packet = vec![0x10, 12 + name.len() as u8, 0, 4, b'M', b'Q', b'T', b'T', 4, 2, 0, 60, 0, name.len() as u8];
    packet.extend_from_slice(name.as_bytes());
    socket.write_all(&packet)?;
    let mut answer = [0; 4];
    socket.read_exact(&mut answer)?;
    ensure!(answer == [0x20, 2, 0, 0], "the broker refuses the connection: {answer:?}");
    Ok(socket)
}

fn subscribe(socket: &mut TcpStream) -> Result<()> {
    let mut packet = vec![0x82, 5 + TOPIC.len() as u8, 0, 1, 0, TOPIC.len() as u8];
    packet.extend_from_slice(TOPIC.as_bytes());
    packet.push(0);
    socket.write_all(&packet)?;
    let mut answer = [0; 5];
    socket.read_exact(&mut answer)?;
    ensure!(answer[..4] == [0x90, 3, 0, 1], "the broker refuses the subscription");
    Ok(())
}

/// Writes all packets, on a thread of its own.
fn blast(port: u16, packets: &Arc<Vec<u8>>) -> std::thread::JoinHandle<Result<()>> {
    let packets = Arc::clone(packets);
    std::thread::spawn(move || {
        let mut socket = connect(port, "blast")?;
        for chunk in packets.chunks(64 << 10) {
            socket.write_all(chunk)?;
        }
        // The broker is to have read all before the connection goes.
        socket.shutdown(std::net::Shutdown::Write)?;
        let mut rest = Vec::new();
        let _ = socket.read_to_end(&mut rest);
        Ok(())
    })
}

/// Length of the first packet, if all of it is there.
fn packet_len(bytes: &[u8]) -> Option<usize> {
    let mut len = 0;
    for (idx, byte) in bytes.iter().skip(1).take(4).enumerate() {
        len |= usize::from(byte & 0x7f) << (7 * idx);
        if byte & 0x80 == 0 {
            let len = idx + 2 + len;
            return (len <= bytes.len()).then_some(len);
        }
    }
    None
}

/// Takes packets apart, and lets them gather for a moment after each read.
fn raw_reader(port: u16, packets: &Arc<Vec<u8>>, n_messages: usize) -> Result<(f64, usize)> {
    let mut socket = connect(port, "raw")?;
    subscribe(&mut socket)?;
    socket.set_read_timeout(Some(QUIET))?;
    let blaster = blast(port, packets);
    let mut buffer = vec![0; 256 << 10];
    let (mut n_filled, mut n_received) = (0, 0);
    let mut first = None;
    let mut last = Instant::now();
    while n_received < n_messages {
        let n_read = match socket.read(&mut buffer[n_filled..]) {
            Ok(0) | Err(_) => break,
            Ok(n_read) => n_read,
        };
        last = Instant::now();
        first.get_or_insert(last);
        n_filled += n_read;
        let mut at = 0;
        while let Some(len) = packet_len(&buffer[at..n_filled]) {
            at += len;
            n_received += 1;
        }
        buffer.copy_within(at..n_filled, 0);
        n_filled -= at;
        std::thread::sleep(Duration::from_micros(250));
    }
    blaster.join().map_err(|_| anyhow::anyhow!("the publisher failed"))??;
    Ok((n_received as f64 / (last - first.unwrap_or(last)).as_secs_f64(), n_received))
}

fn definitions(broker: &Mosquitto, sql: &str) -> Definitions {
    let options = json!({"server": broker.url(), "qos": 0});
    Definitions {
        streams: vec![stream("s1", "mqtt", TOPIC, s1_fields(), options)],
        tables: Vec::new(),
        unreadable: Vec::new(),
        rules: vec![rule(sql, "probe")],
    }
}

/// Waits until the broker knows the subscription, by sending something until it arrives.
async fn subscribed(port: u16, n_rows: &AtomicUsize) -> Result<()> {
    let mut socket = connect(port, "probe")?;
    let mut packet = Vec::new();
    let body = br#"{"deviceId":"d-000","ts":0,"temperature":23.5,"humidity":50.5,"status":"ok"}"#;
    publish(TOPIC, None, body, &mut packet);
    while n_rows.load(Ordering::Acquire) == 0 {
        socket.write_all(&packet)?;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    Ok(())
}

async fn through_engine(broker: &Mosquitto, packets: &Arc<Vec<u8>>, n_messages: usize) -> Result<(f64, usize)> {
    let n_rows = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&n_rows);
    set_probe(Arc::new(move |batch| {
        counter.fetch_add(batch.rows.len(), Ordering::AcqRel);
    }));
    let engine = engine();
    apply(&engine, &definitions(broker, W1))?;
    subscribed(broker.port(), &n_rows).await?;
    let n_in = || engine.samples().streams.iter().map(|stream| stream.messages_in.get()).sum::<u64>() as usize;
    let before = n_in();
    let blaster = blast(broker.port(), packets);
    let (mut first, mut last, mut n_received) = (None, Instant::now(), 0);
    while n_received < n_messages && (first.is_none() || last.elapsed() < QUIET) {
        tokio::time::sleep(Duration::from_millis(2)).await;
        let now = n_in() - before;
        if now > n_received {
            n_received = now;
            last = Instant::now();
            first.get_or_insert(last);
        }
    }
    tokio::task::spawn_blocking(move || blaster.join())
        .await?
        .map_err(|_| anyhow::anyhow!("the publisher failed"))??;
    engine.stop(Duration::from_secs(5)).await;
    Ok((n_received as f64 / (last - first.unwrap_or(last)).as_secs_f64(), n_received))
}

#[derive(Clone, Copy)]
struct Percentiles {
    p50: f64,
    p99: f64,
}

fn percentiles(mut latencies: Vec<Duration>) -> Result<Percentiles> {
    ensure!(latencies.len() > 100, "only {} messages arrived", latencies.len());
    // The first ones warm up.
    latencies.drain(..latencies.len() / 10);
    latencies.sort_unstable();
    let at = |share: f64| latencies[((latencies.len() - 1) as f64 * share) as usize].as_secs_f64() * 1000.0;
    Ok(Percentiles { p50: at(0.5), p99: at(0.99) })
}

/// Publishes at 1,000 messages per second for two seconds; each carries when it was sent, in microseconds since `start`.
fn trickle(port: u16, start: Instant, stop: &Arc<AtomicBool>) -> std::thread::JoinHandle<Result<()>> {
    let stop = Arc::clone(stop);
    std::thread::spawn(move || {
        let mut socket = connect(port, "trickle")?;
        let begin = Instant::now();
        for n in 0..2000_u64 {
            let due = begin + Duration::from_millis(n);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            let mut packet = Vec::new();
            let sent = start.elapsed().as_micros();
            let body = format!(
                r#"{{"deviceId":"d-001","ts":{sent},"temperature":21.5,"humidity":55.2,"status":"ok","seq":{n}}}"#
            );
            publish(TOPIC, None, body.as_bytes(), &mut packet);
            socket.write_all(&packet)?;
        }
        std::thread::sleep(QUIET);
        stop.store(true, Ordering::Release);
        Ok(())
    })
}

fn raw_latency(port: u16) -> Result<Percentiles> {
    let mut socket = connect(port, "raw")?;
    subscribe(&mut socket)?;
    socket.set_read_timeout(Some(QUIET * 2))?;
    let (start, stop) = (Instant::now(), Arc::new(AtomicBool::new(false)));
    let sender = trickle(port, start, &stop);
    let mut buffer = vec![0; 64 << 10];
    let mut n_filled = 0;
    let mut latencies = Vec::new();
    while let Ok(n_read @ 1..) = socket.read(&mut buffer[n_filled..]) {
        let now = start.elapsed();
        n_filled += n_read;
        let mut at = 0;
        while let Some(len) = packet_len(&buffer[at..n_filled]) {
            let text = String::from_utf8_lossy(&buffer[at..at + len]);
            let sent = text.split("\"ts\":").nth(1).and_then(|rest| rest.split(',').next()?.parse().ok());
            latencies.push(now.saturating_sub(Duration::from_micros(sent.unwrap_or(0))));
            at += len;
        }
        buffer.copy_within(at..n_filled, 0);
        n_filled -= at;
    }
    sender.join().map_err(|_| anyhow::anyhow!("the publisher failed"))??;
    percentiles(latencies)
}

async fn engine_latency(broker: &Mosquitto) -> Result<Percentiles> {
    let n_rows = Arc::new(AtomicUsize::new(0));
    let latencies: Arc<Mutex<Vec<Duration>>> = Arc::default();
    let (start, stop) = (Instant::now(), Arc::new(AtomicBool::new(false)));
    let (counter, collected) = (Arc::clone(&n_rows), Arc::clone(&latencies));
    set_probe(Arc::new(move |batch| {
        let now = start.elapsed();
        counter.fetch_add(batch.rows.len(), Ordering::AcqRel);
        if let Ok(mut collected) = collected.lock() {
            for row in &batch.rows {
                // Those that only ask whether the subscription stands carry no time.
                if let Value::Int(sent @ 1..) = row.get(0) {
                    collected.push(now.saturating_sub(Duration::from_micros(*sent as u64)));
                }
            }
        }
    }));
    let engine = engine();
    apply(&engine, &definitions(broker, r#"SELECT ts, deviceId FROM s1 WHERE temperature > 20 AND status = "ok""#))?;
    subscribed(broker.port(), &n_rows).await?;
    let sender = trickle(broker.port(), start, &stop);
    while !stop.load(Ordering::Acquire) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    sender.join().map_err(|_| anyhow::anyhow!("the publisher failed"))??;
    engine.stop(Duration::from_secs(5)).await;
    let latencies = std::mem::take(&mut *latencies.lock().map_err(|_| anyhow::anyhow!("the probe failed"))?);
    percentiles(latencies)
}
