//! What the statements in `golden/rows/` give, as text.
//!
//! A file holds statements, each ended by `;`. Those that create streams and tables hold for what follows them, and so do
//! the rows: `+ NAME [MILLISECONDS] JSON`, one per line. Each `SELECT` shows its emissions, what was dropped, and the last
//! error; or why it is refused. Before a statement, `-- event time`, `-- send error` and `-- send nil` set options for it, and
//! `-- advance N` moves the clock or the watermark at the end; without it the end of input flushes.

mod support;

use std::fmt::Write;

use serde_json::Value as Json;
use sluice_sql::plan::{Catalog, RuleOptions, SourceKind};
use support::{Arrival, Case, Tables};

#[test]
fn rows() {
    insta::glob!("golden/rows/*.sql", |path| {
        let text = std::fs::read_to_string(path).expect("a file of statements");
        insta::assert_snapshot!(results(&text));
    });
}

fn results(text: &str) -> String {
    let mut catalog = Catalog::default();
    let (mut arrivals, mut lookups, mut scans) = (Vec::new(), Tables::new(), Tables::new());
    let mut out = String::new();
    for part in text.split(";\n") {
        for line in part.lines().filter_map(|line| line.strip_prefix("+ ")) {
            let (name, rest) = line.split_once(' ').expect("a row has a name and a payload");
            let (ts, json) = match rest.split_once(' ').and_then(|(ts, json)| Some((ts.parse().ok()?, json))) {
                Some((ts, json)) => (ts, json),
                None => (1000 * (arrivals.len() as i64 + 1), rest),
            };
            let data: Json = serde_json::from_str(json).unwrap_or_else(|error| panic!("{line}: {error}"));
            match catalog.sources.get(name).map(|def| def.kind) {
                Some(SourceKind::LookupTable) => lookups.entry(name.to_owned()).or_default().push(data),
                Some(SourceKind::ScanTable { .. }) => scans.entry(name.to_owned()).or_default().push(data),
                _ => arrivals.push(Arrival {
                    ts,
                    stream: name.to_owned(),
                    data,
                    meta: Some(serde_json::json!({"n": ts})),
                }),
            }
        }
        let lines = part.lines().filter(|line| !line.is_empty() && !line.starts_with("--") && !line.starts_with("+ "));
        let sql = lines.collect::<Vec<_>>().join("\n");
        if sql.starts_with("CREATE") {
            let (name, def) = support::define(&sql);
            catalog.sources.insert(name.into(), def);
        } else if !sql.is_empty() {
            let advance_to =
                part.lines().find_map(|line| line.strip_prefix("-- advance ")).map(|n| n.parse().expect("a number"));
            let case = Case {
                sql: sql.clone(),
                catalog: catalog.clone(),
                options: RuleOptions {
                    event_time: part.contains("-- event time"),
                    send_error: part.contains("-- send error"),
                    send_nil: part.contains("-- send nil"),
                    ..RuleOptions::default()
                },
                arrivals: arrivals.clone(),
                lookups: lookups.clone(),
                scans: scans.clone(),
                start: arrivals.first().map_or(0, |arrival: &Arrival| arrival.ts),
                advance_to,
                end: advance_to.is_none(),
                ..Case::default()
            };
            let _ = writeln!(out, "{sql}\n{}", result(&case));
        }
    }
    out
}

fn result(case: &Case) -> String {
    let mut out = String::new();
    match case.run() {
        Err(errors) => errors.to_string().lines().for_each(|line| out.push_str(&format!("    {line}\n"))),
        Ok(outcome) => {
            for rows in &outcome.emitted {
                let rows: Vec<String> = rows.iter().map(Json::to_string).collect();
                let _ = writeln!(out, "    [{}]", rows.join(", "));
            }
            let report = &outcome.report;
            if report.n_late + report.n_bad_timestamp + report.n_failed > 0 {
                let _ = writeln!(
                    out,
                    "    late {}, without time {}, failed {}: {}",
                    report.n_late,
                    report.n_bad_timestamp,
                    report.n_failed,
                    report.last_error.as_deref().unwrap_or("none")
                );
            }
        }
    }
    out
}
