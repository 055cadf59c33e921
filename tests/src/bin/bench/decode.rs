//! W1 and W2 from memory, beside bare decoding and parsing.

use std::hint::black_box;
use std::sync::Arc;

use anyhow::Result;
use bytes::Bytes;
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, Visitor};
use serde_json::json;
use sluice::Definitions;
use sluice::format::{DecodeArgs, json};
use sluice_sql::sql::ast::Field;
use sluice_sql::{Column, ColumnKind, Row, Schema, Type, Value};

use crate::measure::{W1, median, replayed, rule, s1_fields, stream, thread_cpu_ns, verdict};
use crate::payload::{Size, payloads};
use crate::replay::prepare;

/// Distinct payloads; more would measure the memory, fewer the branch predictor.
pub const N_DISTINCT: usize = 10_000;

/// W1.
pub fn w1(rounds: usize, n_messages: usize) -> Result<()> {
    let payloads = Arc::new(payloads(Size::P100, N_DISTINCT));
    prepare(&payloads);
    let definitions = Definitions {
        streams: vec![stream("s1", "replay", "", s1_fields(), json!({"messages": n_messages}))],
        tables: Vec::new(),
        unreadable: Vec::new(),
        rules: vec![rule(W1, "nop")],
    };
    let names = ["deviceId", "temperature", "humidity", "status"];
    let (mut engine, mut own, mut other) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        own.push(bare_slots(&payloads, &names, &s1_fields(), n_messages)?);
        other.push(bare_sonic(&payloads, &names, n_messages)?);
        engine.push(replayed(&definitions, n_messages)?);
    }
    let (engine, own, other) = (median(engine), median(own), median(other));
    println!("W1, {} bytes, replay to nop, ns of CPU per message:", payloads[0].len());
    println!("  engine {engine:.0}, bare decode into the same slots {own:.0} (with sonic-rs {other:.0})");
    verdict("engine / bare decode", engine / own, engine <= 2.0 * own, "at most 2.0");
    verdict("engine / bare decode with sonic-rs", engine / other, engine <= 2.0 * other, "at most 2.0");
    Ok(())
}

/// W2.
pub fn w2(rounds: usize, n_messages: usize) -> Result<()> {
    for size in [Size::P300, Size::P1K] {
        let payloads = Arc::new(payloads(size, N_DISTINCT));
        prepare(&payloads);
        let definitions = Definitions {
            streams: vec![stream("w2", "replay", "", Vec::new(), json!({"messages": n_messages}))],
            tables: Vec::new(),
            unreadable: Vec::new(),
            rules: vec![rule("SELECT * FROM w2 WHERE battery > 20", "nop")],
        };
        let (mut engine, mut full, mut tree) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..rounds {
            full.push(bare_parse(&payloads, n_messages, |payload| {
                black_box(sonic_rs::from_slice::<sonic_rs::Value>(payload).is_ok())
            })?);
            tree.push(bare_parse(&payloads, n_messages, |payload| black_box(json::parse_object(payload).is_ok()))?);
            engine.push(replayed(&definitions, n_messages)?);
        }
        let (engine, full, tree) = (median(engine), median(full), median(tree));
        println!("W2, {} bytes, replay to nop, ns of CPU per message:", payloads[0].len());
        println!("  engine {engine:.0}, bare full parse with sonic-rs {full:.0} (into rows of ours {tree:.0})");
        verdict("engine / bare full parse", engine / full, engine <= 1.5 * full, "at most 1.5");
    }
    Ok(())
}

/// Our decoder by itself.
pub fn bare_slots(payloads: &[Bytes], names: &[&str], fields: &[Field], n_messages: usize) -> Result<f64> {
    let column = |name: &&str| Column { name: (*name).into(), kind: ColumnKind::Field, ty: Type::Any };
    let schema = Arc::new(Schema { columns: names.iter().map(column).collect() });
    let mut decoder = json::make_decoder(&DecodeArgs { schema: &schema, fields, delimiter: None })?;
    let mut rows = Vec::new();
    let before = thread_cpu_ns()?;
    for (idx, payload) in payloads.iter().cycle().take(n_messages).enumerate() {
        decoder.decode(payload, 0, None, &mut rows).map_err(|error| anyhow::anyhow!(error))?;
        if idx % 256 == 255 {
            black_box(&rows);
            rows.clear();
        }
    }
    Ok((thread_cpu_ns()? - before) as f64 / n_messages as f64)
}

/// The same slots by a serde seed over sonic-rs.
fn bare_sonic(payloads: &[Bytes], names: &[&str], n_messages: usize) -> Result<f64> {
    let mut rows: Vec<Row> = Vec::new();
    let before = thread_cpu_ns()?;
    for (idx, payload) in payloads.iter().cycle().take(n_messages).enumerate() {
        let mut deserializer = sonic_rs::Deserializer::from_slice(payload);
        let values = Slots(names).deserialize(&mut deserializer)?;
        deserializer.end()?;
        rows.push(Row { ts: 0, values });
        if idx % 256 == 255 {
            black_box(&rows);
            rows.clear();
        }
    }
    Ok((thread_cpu_ns()? - before) as f64 / n_messages as f64)
}

fn bare_parse(payloads: &[Bytes], n_messages: usize, parse: impl Fn(&[u8]) -> bool) -> Result<f64> {
    let before = thread_cpu_ns()?;
    for payload in payloads.iter().cycle().take(n_messages) {
        anyhow::ensure!(parse(payload), "a payload does not parse");
    }
    Ok((thread_cpu_ns()? - before) as f64 / n_messages as f64)
}

struct Slots<'a>(&'a [&'a str]);

impl<'de> DeserializeSeed<'de> for Slots<'_> {
    type Value = Vec<Value>;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Vec<Value>, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Slots<'_> {
    type Value = Vec<Value>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Vec<Value>, A::Error> {
        let mut values = vec![Value::Missing; self.0.len()];
        while let Some(slot) = map.next_key_seed(Key(self.0))? {
            match slot {
                Some(slot) => values[slot] = map.next_value_seed(Scalar)?,
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(values)
    }
}

struct Key<'a>(&'a [&'a str]);

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = Option<usize>;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Option<usize>, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Option<usize>, E> {
        Ok(self.0.iter().position(|known| *known == name))
    }
}

struct Scalar;

impl<'de> DeserializeSeed<'de> for Scalar {
    type Value = Value;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Visitor<'_> for Scalar {
    type Value = Value;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a scalar")
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(Value::Int(number))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(Value::from_u64(number))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
        Ok(Value::Float(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::string(text))
    }
}
