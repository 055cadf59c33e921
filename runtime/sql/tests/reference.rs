//! What the engine that our users come from gave for recorded and for random statements.
//!
//! Each case agrees, or stands in `golden/reference/deviations.txt` with the rule of `DEVIATIONS.md` that it falls under. All
//! run twice: as rules run by default, and with the option `starColumns: named`, which rules that come from there may need:
//! then the cases of the rule `star-columns` agree too.

mod support;

use std::collections::{BTreeMap, HashSet};

use serde::Deserialize;
use serde_json::Value as Json;
use sluice_sql::plan::{RuleOptions, StarColumns};
use support::{Arrival, Case, same_rows};

#[derive(Deserialize)]
struct Recorded {
    name: String,
    sql: String,
    options: Options,
    streams: serde_json::Map<String, Json>,
    #[serde(default)]
    emissions: Vec<Vec<Json>>,
    #[serde(default)]
    unordered: bool,
    #[serde(default)]
    refused: bool,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Options {
    send_error: bool,
    send_nil: bool,
    event_time: bool,
    late_tolerance: Option<i64>,
}

#[test]
fn recorded() {
    check_all(include_str!("golden/reference/recorded.jsonl"), 91.0, 92.0);
}

#[test]
fn random() {
    check_all(include_str!("golden/reference/random.jsonl"), 95.0, 97.0);
}

/// Whatever a statement keeps: a chain that takes over before each row gives what one chain gives.
#[test]
fn state_goes_on_in_another_chain() {
    let texts = [include_str!("golden/reference/recorded.jsonl"), include_str!("golden/reference/random.jsonl")];
    // A third of them has everything that keeps something.
    for line in texts.iter().flat_map(|text| text.lines()).step_by(3) {
        let recorded: Recorded = serde_json::from_str(line).expect("a case is JSON");
        let one = case(&recorded, StarColumns::All);
        let many = Case { takes_over: true, ..case(&recorded, StarColumns::All) };
        if let (Ok(one), Ok(many)) = (one.run(), many.run()) {
            assert_eq!(many.emitted, one.emitted, "{}: {}", recorded.name, recorded.sql);
        }
    }
}

/// `least` and `least_named` are percents of agreement: by default, and with `starColumns: named`.
fn check_all(text: &str, least: f64, least_named: f64) {
    let listed = deviations();
    check_with(text, StarColumns::All, least, &|name| listed.contains_key(name));
    let is_other = |name: &str| listed.get(name).is_some_and(|rules| rules.iter().any(|rule| rule != "star-columns"));
    check_with(text, StarColumns::Named, least_named, &is_other);
}

fn check_with(text: &str, star_columns: StarColumns, least_percent: f64, is_listed: &dyn Fn(&str) -> bool) {
    let (mut failures, mut n_cases, mut n_agree) = (Vec::new(), 0, 0);
    for line in text.lines() {
        let recorded: Recorded = serde_json::from_str(line).expect("a case is JSON");
        n_cases += 1;
        match (check(&recorded, star_columns), is_listed(&recorded.name)) {
            (Ok(()), false) => n_agree += 1,
            (Err(_), true) => {}
            (Err(what), false) => failures.push(format!("{}: {what}\n  {}", recorded.name, recorded.sql)),
            (Ok(()), true) => failures.push(format!("{}: agrees, but is listed as deviating", recorded.name)),
        }
    }
    let percent = 100.0 * f64::from(n_agree) / f64::from(n_cases);
    println!("{star_columns:?}: {n_agree} of {n_cases} agree ({percent:.1} %)");
    assert!(
        failures.is_empty(),
        "{star_columns:?}: {n_agree} of {n_cases} agree, {} unexplained\n{}",
        failures.len(),
        failures.join("\n")
    );
    assert!(percent >= least_percent, "only {percent:.1} % agree");
}

/// Case to rules. Every rule must be in the table.
fn deviations() -> BTreeMap<String, Vec<String>> {
    let table = include_str!("../DEVIATIONS.md");
    let rules: HashSet<&str> = table.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    let list = include_str!("golden/reference/deviations.txt");
    let lines = list.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let (named, case) = line.split_once(' ').expect("a line is rules and a case");
            for rule in named.split(',') {
                assert!(rules.contains(rule), "{case} names the rule {rule}, which DEVIATIONS.md doesn't have");
            }
            (case.trim().to_owned(), named.split(',').map(str::to_owned).collect())
        })
        .collect()
}

fn check(recorded: &Recorded, star_columns: StarColumns) -> Result<(), String> {
    let outcome = match (case(recorded, star_columns).run(), recorded.refused) {
        (Err(_), true) => return Ok(()),
        (Ok(_), true) => return Err("is accepted, but was refused".to_owned()),
        (Err(errors), false) => return Err(format!("is refused:\n{errors}")),
        (Ok(outcome), false) => outcome,
    };
    let (ours, theirs) = (&outcome.emitted, &recorded.emissions);
    let same = ours.len() == theirs.len()
        && ours.iter().zip(theirs).all(|(ours, theirs)| same_rows(ours, theirs, recorded.unordered));
    if same {
        return Ok(());
    }
    let first = ours.iter().zip(theirs).position(|(ours, theirs)| !same_rows(ours, theirs, recorded.unordered));
    let first = first.unwrap_or(ours.len().min(theirs.len()));
    let show = |emitted: &[Vec<Json>]| {
        emitted.get(first).map_or("nothing".to_owned(), |rows| Json::from(rows.clone()).to_string())
    };
    let error = outcome.report.last_error.as_deref().unwrap_or("none").to_owned();
    Err(format!(
        "{} emissions, recorded {}; emission {first}\n  gives    {}\n  recorded {}\n  last error: {error}",
        ours.len(),
        theirs.len(),
        show(ours),
        show(theirs)
    ))
}

fn case(recorded: &Recorded, star_columns: StarColumns) -> Case {
    let mut case = Case {
        sql: recorded.sql.clone(),
        options: RuleOptions {
            event_time: recorded.options.event_time,
            late_tolerance_ms: recorded.options.late_tolerance.unwrap_or(1000),
            send_error: recorded.options.send_error,
            send_nil: recorded.options.send_nil,
            flush_at_end: false,
            star_columns,
            ..RuleOptions::default()
        },
        // When it was recorded: texts that are only a time of day take the date from the clock.
        start: 1_795_305_600_000,
        ..Case::default()
    };
    let mut place = 0;
    let mut streams: Vec<Vec<Arrival>> = Vec::new();
    for (name, stream) in &recorded.streams {
        let (_, def) = support::define(stream["ddl"].as_str().expect("a stream has a ddl"));
        case.catalog.sources.insert(name.into(), def);
        let rows = stream["rows"].as_array().into_iter().flatten();
        let arrivals = rows.map(|data| {
            place += 1;
            Arrival { ts: case.start, stream: name.clone(), data: data.clone(), meta: None }
        });
        streams.push(arrivals.collect());
    }
    // Side by side: one row of each stream in turn.
    let longest = streams.iter().map(Vec::len).max().unwrap_or_default();
    for row_idx in 0..longest {
        case.arrivals.extend(streams.iter().filter_map(|stream| stream.get(row_idx).cloned()));
    }
    case
}
