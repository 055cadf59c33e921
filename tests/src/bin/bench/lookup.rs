//! W6: a join with Redis.

use std::time::{Duration, Instant};

use std::sync::Arc;

use anyhow::{Context, Result};
use bytes::Bytes;
use serde_json::json;
use sluice::definition::{CacheSettings, LookupTableDef, OnLookupError};
use sluice::{Definitions, Options};
use sluice_tests::services::Redis;

use crate::measure::{W1, apply, engine, median, rule, s1_fields, stream, verdict};
use crate::payload::{Random, Size, payloads};
use crate::replay::prepare;

const N_KEYS: usize = 10_000;
const SQL: &str = "SELECT s1.deviceId, s1.temperature, t1.site FROM s1 INNER JOIN t1 ON s1.deviceId = t1.id \
     WHERE s1.temperature > t1.maxTemp";

/// W6.
pub fn w6(rounds: usize, n_messages: usize) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let redis = runtime.block_on(Redis::start())?;
    runtime.block_on(fill(&redis))?;
    let messages = Arc::new(zipf(N_KEYS * 4));
    prepare(&messages);
    let (mut one_by_one, mut plain, mut cached, mut w1) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        one_by_one.push(runtime.block_on(asked_one_by_one(&redis, n_messages / 20))?);
        plain.push(runtime.block_on(rate(&joined(&redis, n_messages, None), n_messages))?);
        cached.push(runtime.block_on(rate(&joined(&redis, n_messages, Some(CACHED)), n_messages))?);
        w1.push(runtime.block_on(rate(&w1_definitions(n_messages), n_messages))?);
    }
    let (one_by_one, plain, cached, w1) = (median(one_by_one), median(plain), median(cached), median(w1));
    println!("W6, join with Redis, {N_KEYS} keys:");
    println!("  one by one {one_by_one:.0}/s, no cache {plain:.0}/s, cache {cached:.0}/s, W1 {w1:.0}/s");
    verdict("no cache / one by one", plain / one_by_one, plain >= 5.0 * one_by_one, "at least 5");
    verdict("with cache / W1", cached / w1, cached >= 0.6 * w1, "at least 0.6");
    Ok(())
}

/// Entries that give about 90 % hits on these keys.
const CACHED: usize = 5_000;

async fn fill(redis: &Redis) -> Result<()> {
    let client = redis::Client::open(redis.url())?;
    let mut connection = client.get_multiplexed_async_connection().await?;
    let mut pipe = redis::pipe();
    for key in 0..N_KEYS {
        let row = json!({"id": format!("d-{key:05}"), "site": format!("site-{}", key % 50), "maxTemp": key % 24});
        pipe.set(format!("d-{key:05}"), row.to_string()).ignore();
    }
    Ok(pipe.query_async(&mut connection).await?)
}

/// The small payloads with 10,000 devices, some of which send much more often than others (Zipf, exponent 1).
fn zipf(n: usize) -> Vec<Bytes> {
    let weights: Vec<f64> = (1..=N_KEYS).map(|rank| 1.0 / rank as f64).collect();
    let mut cumulated = Vec::with_capacity(N_KEYS);
    let mut sum = 0.0;
    for weight in weights {
        sum += weight;
        cumulated.push(sum);
    }
    let mut random = Random::new(7);
    let adapt = |payload: Bytes| {
        let share = random.below(1 << 40) as f64 / (1_u64 << 40) as f64 * sum;
        let key = cumulated.partition_point(|upto| *upto < share).min(N_KEYS - 1);
        let text = String::from_utf8_lossy(&payload);
        let rest = text.split_once(',').map_or("", |(_, rest)| rest);
        Bytes::from(format!(r#"{{"deviceId":"d-{key:05}",{rest}"#))
    };
    payloads(Size::P100, n).into_iter().map(adapt).collect()
}

async fn asked_one_by_one(redis: &Redis, n_messages: usize) -> Result<f64> {
    let client = redis::Client::open(redis.url())?;
    let mut connection = client.get_multiplexed_async_connection().await?;
    let begin = Instant::now();
    for n in 0..n_messages {
        let found: Option<String> =
            redis::cmd("GET").arg(format!("d-{:05}", n % N_KEYS)).query_async(&mut connection).await?;
        found.context("every key is there")?;
    }
    Ok(n_messages as f64 / begin.elapsed().as_secs_f64())
}

fn w1_definitions(n_messages: usize) -> Definitions {
    Definitions {
        streams: vec![stream("s1", "replay", "", s1_fields(), json!({"messages": n_messages}))],
        tables: Vec::new(),
        unreadable: Vec::new(),
        rules: vec![rule(W1, "nop")],
    }
}

fn joined(redis: &Redis, n_messages: usize, cache_entries: Option<usize>) -> Definitions {
    let cache = match cache_entries {
        None => CacheSettings::default(),
        Some(max_entries) => {
            CacheSettings { enabled: true, ttl: Some(Duration::from_secs(600)), missing: false, max_entries }
        }
    };
    let table = LookupTableDef {
        name: "t1".to_owned(),
        connector: "redis".to_owned(),
        datasource: "0".to_owned(),
        format: "json".to_owned(),
        fields: Vec::new(),
        key: None,
        cache,
        on_error: OnLookupError::Drop,
        timeout: Duration::from_secs(5),
        options: Options::from(json!({"addr": redis.addr(), "dataType": "string"})),
        origin: Default::default(),
    };
    let mut definitions = w1_definitions(n_messages);
    definitions.tables = vec![table];
    definitions.rules = vec![rule(SQL, "nop")];
    definitions
}

/// Messages per second through to the sink.
async fn rate(definitions: &Definitions, n_messages: usize) -> Result<f64> {
    let engine = engine();
    let begin = Instant::now();
    apply(&engine, definitions)?;
    engine.finished().await;
    let rate = n_messages as f64 / begin.elapsed().as_secs_f64();
    engine.stop(Duration::from_secs(5)).await;
    Ok(rate)
}
