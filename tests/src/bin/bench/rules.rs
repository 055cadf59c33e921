//! W3: many rules on one shared stream.

use std::sync::Arc;

use anyhow::Result;
use serde_json::json;
use sluice::{Definitions, RuleDef};

use crate::decode::{N_DISTINCT, bare_slots};
use crate::measure::{median, replayed, rule, s1_fields, stream, verdict};
use crate::payload::{Size, payloads};
use crate::replay::prepare;

/// How many rules.
const N_RULES: usize = 300;

/// W3.
pub fn w3(rounds: usize, n_messages: usize) -> Result<()> {
    let payloads = Arc::new(payloads(Size::P100, N_DISTINCT));
    prepare(&payloads);
    let mut shared = stream("s1", "replay", "", s1_fields(), json!({"messages": n_messages}));
    shared.shared = true;
    // Thresholds around the 90 % point: so many of the rows are filtered.
    let rules = (0..N_RULES).map(|idx| {
        let threshold = 20.4 + 2.4 * idx as f64 / N_RULES as f64;
        let sql = format!("SELECT temperature FROM s1 WHERE temperature > {threshold:.4}");
        RuleDef { name: format!("bench-{idx}"), ..rule(&sql, "nop") }
    });
    let definitions =
        Definitions { streams: vec![shared], tables: Vec::new(), unreadable: Vec::new(), rules: rules.collect() };
    let (mut engine, mut bare) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        // So short that the clock of the scheduler would not see it.
        bare.push(bare_slots(&payloads, &["temperature"], &s1_fields(), 50 * n_messages)?);
        engine.push(replayed(&definitions, n_messages)?);
    }
    let (engine, bare) = (median(engine), median(bare));
    let per_rule = (engine - bare) / N_RULES as f64;
    println!("W3, {N_RULES} rules on one stream, replay to nop, ns of CPU per message:");
    println!("  engine {engine:.0}, bare decode {bare:.0}");
    verdict("ns per rule and row over the decode", per_rule, per_rule <= 25.0, "at most 25");
    Ok(())
}
