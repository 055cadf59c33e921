//! The worked examples of the language reference.

mod support;

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::Value as Json;
use sluice_sql::plan::{RuleOptions, SourceDef, SourceKind};
use support::{Arrival, Case, same_rows};

#[derive(Deserialize)]
struct Example {
    name: String,
    sql: String,
    streams: serde_json::Map<String, Json>,
    options: Options,
    expect: Vec<Json>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Options {
    event_time: bool,
    late_tolerance_ms: i64,
    start: Option<i64>,
    advance_to: Option<i64>,
    schema: HashMap<String, String>,
    strict: Vec<String>,
    tables: HashMap<String, Table>,
    unordered: bool,
    batches: Option<Vec<usize>>,
    plan_error: bool,
    send_error: bool,
    send_nil: bool,
}

#[derive(Deserialize)]
struct Table {
    kind: String,
    rows: Vec<Json>,
}

/// Examples whose statement or result is different here on purpose: see DEVIATIONS.md.
const DEVIATING: [(&str, &str); 6] = [
    ("err-bare-join", "superset"),
    ("err-unary-not", "superset"),
    ("err-angle-neq", "superset"),
    ("err-is-null", "superset"),
    ("err-aggregate-filter", "superset"),
    ("row-error-drops-window", "failing-row"),
];

#[test]
fn all_examples() {
    let text = include_str!("golden/reference/examples.jsonl");
    let mut failures = Vec::new();
    let mut n_examples = 0;
    for line in text.lines() {
        let example: Example = serde_json::from_str(line).expect("an example is JSON");
        n_examples += 1;
        let deviates = DEVIATING.iter().any(|(name, _)| *name == example.name);
        match (check(&example), deviates) {
            (Err(what), false) => failures.push(format!("{}: {what}\n  {}", example.name, example.sql)),
            (Ok(()), true) => failures.push(format!("{}: passes, but is listed as deviating", example.name)),
            _ => {}
        }
    }
    assert!(failures.is_empty(), "{} of {n_examples} fail\n{}", failures.len(), failures.join("\n"));
}

/// A shared stream brings slots of other rules, and those of a rule anywhere among them.
#[test]
fn shared_is_unshared() {
    for line in include_str!("golden/reference/examples.jsonl").lines() {
        let example: Example = serde_json::from_str(line).expect("an example is JSON");
        let run = |shared: bool| {
            let outcome = Case { shared, ..case(&example) }.run();
            outcome.map(|outcome| (outcome.emitted, outcome.report.n_failed)).map_err(|errors| errors.to_string())
        };
        assert_eq!(run(false), run(true), "{}: {}", example.name, example.sql);
    }
}

fn check(example: &Example) -> Result<(), String> {
    let case = case(example);
    let outcome = match (case.run(), example.options.plan_error) {
        (Err(_), true) => return Ok(()),
        (Ok(_), true) => return Err("is accepted, but should be refused".to_owned()),
        (Err(errors), false) => return Err(format!("is refused:\n{errors}")),
        (Ok(outcome), false) => outcome,
    };
    let emitted: Vec<&Vec<Json>> = outcome.emitted.iter().filter(|rows| !rows.is_empty()).collect();
    let show = || serde_json::to_string(&outcome.emitted).unwrap_or_default();
    let expected = || serde_json::to_string(&example.expect).unwrap_or_default();
    let rows: Vec<Json> = emitted.iter().flat_map(|rows| rows.iter().cloned()).collect();
    if let Some(batches) = &example.options.batches {
        let sizes: Vec<usize> = emitted.iter().map(|rows| rows.len()).collect();
        if sizes != *batches {
            return Err(format!("emissions of {sizes:?} rows, expected {batches:?}: {}", show()));
        }
    }
    if same_rows(&rows, &example.expect, example.options.unordered) {
        Ok(())
    } else {
        Err(format!("\n  gives    {}\n  expected {}\n  report {:?}", show(), expected(), outcome.report))
    }
}

fn case(example: &Example) -> Case {
    let options = &example.options;
    let mut case = Case {
        sql: example.sql.clone(),
        options: RuleOptions {
            event_time: options.event_time,
            late_tolerance_ms: options.late_tolerance_ms,
            send_error: options.send_error,
            send_nil: options.send_nil,
            ..RuleOptions::default()
        },
        advance_to: options.advance_to,
        event_time_is_ts: true,
        ..Case::default()
    };
    let def = |name: &str, kind: SourceKind| {
        let fields = options.schema.get(name).map_or("()", String::as_str);
        let (_, mut def) = support::define(&format!("CREATE STREAM x {fields} WITH (DATASOURCE=\"x\")"));
        def.kind = kind;
        def.strict = options.strict.iter().any(|strict| strict == name);
        def.timestamp = options.event_time.then(|| "$$ts".into());
        if options.event_time && !def.fields.is_empty() {
            let (_, ts) = support::define("CREATE STREAM x (`$$ts` bigint) WITH (DATASOURCE=\"x\")");
            def.fields.extend(ts.fields);
        }
        def
    };
    for (name, rows) in &example.streams {
        case.catalog.sources.insert(name.into(), def(name, SourceKind::Stream));
        for row in rows.as_array().into_iter().flatten() {
            case.arrivals.push(Arrival {
                ts: row["ts"].as_i64().expect("a row has a ts"),
                stream: name.clone(),
                data: row["data"].clone(),
                meta: row.get("meta").cloned(),
            });
        }
    }
    // Each stream arrives in its own order; several are merged by time.
    if example.streams.len() > 1 {
        case.arrivals.sort_by_key(|arrival| arrival.ts);
    }
    for (name, table) in &options.tables {
        let (kind, rows) = match table.kind.as_str() {
            "lookup" => (SourceKind::LookupTable, &mut case.lookups),
            _ => (SourceKind::ScanTable { retain: 9999 }, &mut case.scans),
        };
        rows.insert(name.clone(), table.rows.clone());
        let def: SourceDef = def(name, kind);
        case.catalog.sources.insert(name.into(), def);
    }
    case.start = options.start.or(case.arrivals.first().map(|arrival| arrival.ts)).unwrap_or_default();
    case
}
