//! What the statements in `golden/rows/` give, as text.
//!
//! A file holds statements, each ended by `;`. Those that create streams and tables hold for what follows them, and so do
//! the rows: `+ NAME [MILLISECONDS] JSON`, one per line. Each `SELECT` shows its emissions, what was dropped, and the last
//! error; or why it is refused. Before a statement, lines set options for it: `-- event time`, `-- send error`, `-- send nil`,
//! `-- send meta`, `-- no alias references`, `-- no push down`, `-- version 2`, `-- send twice`, `-- star named`, `-- no flush`, `-- tolerance N`, `-- idle N`,
//! `-- max ahead N`, and `-- rejected`, which shows the rows that were left out. `-- all send error, send nil` sets options for
//! the whole file. `-- advance N` moves the clock or the watermark at the end; without it the end of input flushes.

mod support;

use std::fmt::Write;

use serde_json::Value as Json;
use sluice_sql::plan::{Catalog, RuleOptions, SourceKind, StarColumns};
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
    let for_all = text.lines().find_map(|line| line.strip_prefix("-- all ")).unwrap_or_default();
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
            let has = |option: &str| {
                part.lines().any(|line| line.strip_prefix("-- ") == Some(option))
                    || for_all.split(", ").any(|given| given == option)
            };
            let number = |option: &str| {
                let lines = part.lines().filter_map(|line| line.strip_prefix("-- "));
                let number = lines.filter_map(|line| line.strip_prefix(option)).next();
                number.map(|n| n.trim().parse::<i64>().expect("a number"))
            };
            let advance_to = number("advance ");
            let standard = RuleOptions::default();
            let case = Case {
                sql: sql.clone(),
                catalog: catalog.clone(),
                options: RuleOptions {
                    event_time: has("event time"),
                    send_error: has("send error"),
                    send_nil: has("send nil"),
                    send_meta: has("send meta"),
                    sliding_v2: has("version 2"),
                    sliding_twice: has("send twice"),
                    keep_rejected: has("rejected"),
                    flush_at_end: !has("no flush"),
                    alias_references: !has("no alias references"),
                    push_down: !has("no push down"),
                    late_tolerance_ms: number("tolerance ").unwrap_or(standard.late_tolerance_ms),
                    idle_timeout_ms: number("idle "),
                    max_ahead_ms: number("max ahead "),
                    star_columns: if has("star named") { StarColumns::Named } else { StarColumns::All },
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
            for rejected in &outcome.report.rejected {
                let row = support::to_json(&sluice_sql::Value::Object(rejected.row.clone().into()));
                let error = rejected.error.as_deref().map_or(String::new(), |error| format!(": {error}"));
                let _ = writeln!(out, "    {} at {}: {row}{error}", rejected.reason.as_str(), rejected.ts);
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
