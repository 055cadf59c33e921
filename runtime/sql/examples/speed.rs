//! Costs of chains per row, without decoding. Scratch.
use sluice_sql::expr::{Report, RuleContext};
use sluice_sql::function::Registry;
use sluice_sql::operators::Chain;
use sluice_sql::plan::{Catalog, RuleOptions, SourceDef, SourceKind, plan_rule};
use sluice_sql::sql::ast::{Field, FieldType, Ident};
use sluice_sql::*;
use std::sync::Arc;
use std::time::Instant;

fn field(name: &str, ty: FieldType) -> Field {
    Field { name: Ident { name: name.into(), span: Default::default() }, ty, default: None }
}
fn main() {
    println!("Value is {} bytes", std::mem::size_of::<Value>());
    let def = SourceDef {
        kind: SourceKind::Stream,
        fields: vec![
            field("deviceId", FieldType::String),
            field("ts", FieldType::Bigint),
            field("temperature", FieldType::Float),
            field("humidity", FieldType::Float),
            field("status", FieldType::String),
        ],
        timestamp: Some("ts".into()),
        timestamp_format: None,
        strict: false,
        implied: vec![],
    };
    let catalog = Catalog { sources: [("s1".into(), def)].into_iter().collect() };
    let functions = Registry::builtin();
    let sel = "SELECT deviceId, avg(temperature) AS t, count(*) AS c, max(humidity) AS h, window_end() AS e FROM s1";
    let cases: Vec<(&str, String, bool, i64)> = vec![
        ("W3", "SELECT temperature FROM s1 WHERE temperature > 21.6".into(), false, 20),
        (
            "W1",
            "SELECT deviceId, temperature, humidity FROM s1 WHERE temperature > 20 AND status = \"ok\"".into(),
            false,
            20,
        ),
        ("W4 clock", format!("{sel} GROUP BY deviceId, TUMBLINGWINDOW(ss, 10)"), false, 20),
        ("W4 event", format!("{sel} GROUP BY deviceId, TUMBLINGWINDOW(ss, 10)"), true, 20),
        ("W5 60/60", format!("{sel} GROUP BY deviceId, HOPPINGWINDOW(ss, 60, 60)"), true, 10),
        ("W5 60/1", format!("{sel} GROUP BY deviceId, HOPPINGWINDOW(ss, 60, 1)"), true, 10),
    ];
    let filter = std::env::args().nth(1);
    for (name, sql, event_time, per_ms) in &cases {
        if filter.as_ref().is_some_and(|f| !name.contains(f.as_str())) {
            continue;
        }
        let options = RuleOptions { event_time: *event_time, ..Default::default() };
        let plan = plan_rule(sql, &catalog, &functions, &options).unwrap();
        let names: Vec<String> = plan.inputs[0].schema.columns.iter().map(|c| c.name.to_string()).collect();
        let all = ["deviceId", "ts", "temperature", "humidity", "status"];
        let slots: Vec<usize> = names.iter().map(|n| all.iter().position(|a| a == n).unwrap()).collect();
        let n = 1_200_000usize;
        let mut seed = 42u64;
        let mut rnd = move |m: u64| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            (seed >> 11) % m
        };
        let t0 = 1_690_000_000_123i64;
        let mut batches: Vec<Arc<Batch>> = vec![];
        let mut rows = vec![];
        for i in 0..n {
            rows.push(Row {
                ts: t0 + i as i64 / per_ms,
                values: vec![
                    Value::string(format!("d-{:03}", rnd(1000))),
                    Value::Int(t0 + i as i64 / per_ms),
                    Value::Float(rnd(240) as f64 / 10.0),
                    Value::Float(30.0 + rnd(500) as f64 / 10.0),
                    Value::string(["ok", "ok", "ok", "warn", "fault"][rnd(5) as usize]),
                ],
            });
            if rows.len() == 256 {
                batches.push(Arc::new(Batch::per_row(Default::default(), std::mem::take(&mut rows))));
            }
        }
        let mut best = f64::MAX;
        let mut n_out = 0;
        for _ in 0..5 {
            let mut chain = Chain::new(&plan, &[slots.clone()]);
            let mut ctx = RuleContext {
                rule_id: "r".into(),
                rule_start: 1,
                now: t0,
                props: Arc::new(|_| None),
                random: Box::new(|| 1),
                time_zone: jiff::tz::TimeZone::UTC,
                report: Report::default(),
            };
            let start = Instant::now();
            n_out = 0;
            let mut out = vec![];
            for batch in &batches {
                chain.push(0, batch, &mut ctx, &mut out);
                n_out += out.drain(..).map(|b| b.rows.len()).sum::<usize>();
            }
            best = best.min(start.elapsed().as_nanos() as f64 / n as f64);
        }
        println!("{name:10} {best:7.1} ns/row, {n_out} rows out");
    }
}
