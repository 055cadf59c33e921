//! W4 and W5: windows over a thousand keys.

use std::sync::Arc;

use anyhow::Result;
use serde_json::json;
use sluice::Definitions;
use sluice_sql::plan::RuleOptions;

use crate::measure::{W1, median, replayed, rule, s1_fields, stream, verdict};
use crate::payload::{Size, payloads_at};
use crate::replay::prepare;

const SELECT: &str =
    "SELECT deviceId, avg(temperature) AS t, count(*) AS c, max(humidity) AS h, window_end() AS e FROM s1";

/// W4, at 20,000 messages per second by their timestamps.
pub fn w4(rounds: usize, n_messages: usize) -> Result<()> {
    prepare(&Arc::new(payloads_at(Size::P100, n_messages, 20)));
    let tumbling = format!("{SELECT} GROUP BY deviceId, TUMBLINGWINDOW(ss, 10)");
    let runs = [(W1, false), (tumbling.as_str(), false), (tumbling.as_str(), true)];
    let [w1, clock, event] = interleaved(rounds, n_messages, runs)?;
    println!("W4, tumbling window, 1,000 keys, replay to nop, ns of CPU per message:");
    println!("  W1 {w1:.0}, processing time {clock:.0}, event time {event:.0}");
    verdict("processing time, ns over W1", clock - w1, clock - w1 <= 100.0, "at most 100");
    verdict("event time, ns over W1", event - w1, event - w1 <= 100.0, "at most 100");
    Ok(())
}

/// W5, at 10,000 messages per second by their timestamps.
pub fn w5(rounds: usize, n_messages: usize) -> Result<()> {
    prepare(&Arc::new(payloads_at(Size::P100, n_messages, 10)));
    let tumbling = format!("{SELECT} GROUP BY deviceId, HOPPINGWINDOW(ss, 60, 60)");
    let hopping = format!("{SELECT} GROUP BY deviceId, HOPPINGWINDOW(ss, 60, 1)");
    let runs = [(tumbling.as_str(), true), (hopping.as_str(), true)];
    let [tumbling, hopping] = interleaved(rounds, n_messages, runs)?;
    println!("W5, hopping window over 60 s every 1 s, 1,000 keys, event time, ns of CPU per message:");
    println!("  tumbling {tumbling:.0}, hopping {hopping:.0}");
    verdict("hopping / tumbling", hopping / tumbling, hopping <= 2.0 * tumbling, "at most 2.0");
    Ok(())
}

/// Medians of statements, each with or without event time.
fn interleaved<const N: usize>(rounds: usize, n_messages: usize, runs: [(&str, bool); N]) -> Result<[f64; N]> {
    let mut found: [Vec<f64>; N] = std::array::from_fn(|_| Vec::new());
    for _ in 0..rounds {
        for ((sql, event_time), found) in runs.iter().zip(&mut found) {
            let mut s1 = stream("s1", "replay", "", s1_fields(), json!({"messages": n_messages}));
            s1.timestamp = event_time.then(|| "ts".to_owned());
            let mut bench = rule(sql, "nop");
            bench.options = RuleOptions { event_time: *event_time, ..RuleOptions::default() };
            let definitions =
                Definitions { streams: vec![s1], tables: Vec::new(), unreadable: Vec::new(), rules: vec![bench] };
            found.push(replayed(&definitions, n_messages)?);
        }
    }
    Ok(found.map(median))
}
