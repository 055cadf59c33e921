//! What must hold for windows whatever the rows are.

mod support;

use proptest::prelude::*;
use serde_json::{Value as Json, json};
use sluice_sql::plan::RuleOptions;
use support::{Arrival, Case, Emitted, same_rows};

/// Runs a statement over rows of (time, value), with a flush at the end; in event time if it can be, late tolerance 5 s.
fn run(sql: &str, rows: &[(i64, i64)]) -> Emitted {
    let event_time = !sql.contains("COUNTWINDOW");
    let mut case = Case {
        sql: sql.to_owned(),
        options: RuleOptions { event_time, late_tolerance_ms: 5000, ..RuleOptions::default() },
        end: true,
        ..Case::default()
    };
    let (name, def) =
        support::define(r#"CREATE STREAM s (id bigint, ts bigint, v bigint) WITH (TIMESTAMP="ts", DATASOURCE="s")"#);
    case.catalog.sources.insert(name.as_str().into(), def);
    for (ts, v) in rows {
        let data = json!({"id": v, "ts": ts, "v": v % 5});
        case.arrivals.push(Arrival { ts: *ts, stream: name.clone(), data, meta: None });
    }
    let outcome = case.run().unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(outcome.report.n_late, 0, "rows within the tolerance are not late");
    outcome.emitted
}

/// Rows in order of time, values all different.
fn rows() -> impl Strategy<Value = Vec<(i64, i64)>> {
    prop::collection::vec(0..4000i64, 1..60).prop_map(|gaps| {
        let mut ts = 1_700_000_000_000;
        gaps.iter()
            .enumerate()
            .map(|(idx, gap)| {
                ts += gap;
                (ts, idx as i64)
            })
            .collect()
    })
}

/// The same rows, each at most the tolerance after a younger one.
fn shuffled(rows: &[(i64, i64)], jitter: &[i64]) -> Vec<(i64, i64)> {
    let mut rows: Vec<(i64, (i64, i64))> =
        rows.iter().zip(jitter.iter().cycle()).map(|(row, jitter)| (row.0 + jitter, *row)).collect();
    rows.sort_by_key(|(arrival, _)| *arrival);
    rows.into_iter().map(|(_, row)| row).collect()
}

fn ints(json: &Json) -> Vec<i64> {
    json.as_array().into_iter().flatten().filter_map(Json::as_i64).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Each row is in exactly the windows that contain it, and windows follow each other without a hole.
    #[test]
    fn windows_contain_what_they_should(rows in rows(), (length, hop) in prop_oneof![
        Just((3i64, 3i64)), Just((10, 10)), Just((6, 2)), Just((7, 3)), Just((5, 1)), Just((2, 4)),
    ]) {
        let sql = format!(
            "SELECT collect(id) AS ids, window_start() AS s, window_end() AS e FROM s GROUP BY HOPPINGWINDOW(ss, {length}, {hop})"
        );
        let emitted = run(&sql, &rows);
        let mut previous = None;
        let mut n_seen = 0;
        for window in emitted.iter().flatten() {
            let end = window["e"].as_i64().expect("an end");
            if let Some(previous) = previous {
                prop_assert_eq!(end, previous + hop * 1000);
            }
            previous = Some(end);
            let start = end - length * 1000;
            let expected: Vec<i64> = rows.iter().filter(|(ts, _)| (start..end).contains(ts)).map(|(_, id)| *id).collect();
            n_seen += expected.len();
            prop_assert_eq!(ints(&window["ids"]), expected, "window {}..{}", start, end);
        }
        let boundaries = |ts: i64| (1..=length).filter(|second| {
            let first = emitted.iter().flatten().next().and_then(|window| window["e"].as_i64()).unwrap_or_default();
            let boundary = (ts.div_euclid(1000) + second) * 1000;
            boundary >= first && (boundary - first) % (hop * 1000) == 0 && boundary - length * 1000 <= ts
        }).count();
        let n_expected: usize = rows.iter().map(|(ts, _)| boundaries(*ts)).sum();
        prop_assert_eq!(n_seen, n_expected, "every window that contains a row has been sent");
    }

    /// A sliding window holds what came within its length before its trigger.
    #[test]
    fn sliding_windows_look_back(rows in rows(), length in 1..8i64) {
        let emitted = run(&format!("SELECT collect(id) AS ids FROM s GROUP BY SLIDINGWINDOW(ss, {length})"), &rows);
        prop_assert_eq!(emitted.len(), rows.len());
        for (window, (trigger, _)) in emitted.iter().flatten().zip(&rows) {
            let range = trigger - length * 1000..=*trigger;
            let expected: Vec<i64> = rows.iter().filter(|(ts, _)| range.contains(ts)).map(|(_, id)| *id).collect();
            prop_assert_eq!(ints(&window["ids"]), expected);
        }
    }

    /// A session has no gap above its timeout, and there is one between two sessions.
    #[test]
    fn sessions_are_apart(rows in rows()) {
        let emitted = run("SELECT collect(id) AS ids FROM s GROUP BY SESSIONWINDOW(hh, 1000, 1)", &rows);
        let _ = emitted;
        let emitted = run("SELECT collect(ts) AS ts FROM s GROUP BY SESSIONWINDOW(ss, 100000, 2)", &rows);
        let sessions: Vec<Vec<i64>> = emitted.iter().flatten().map(|window| ints(&window["ts"])).collect();
        for session in &sessions {
            prop_assert!(session.windows(2).all(|pair| pair[1] - pair[0] <= 2000));
        }
        prop_assert!(sessions.windows(2).all(|pair| pair[1][0] - pair[0].last().expect("not empty") > 2000));
        prop_assert_eq!(sessions.concat(), rows.iter().map(|(ts, _)| *ts).collect::<Vec<_>>());
    }

    /// Counting as rows arrive gives what counting the rows of each window gives.
    #[test]
    fn incremental_is_recomputed(rows in rows(), window in prop_oneof![
        Just("HOPPINGWINDOW(ss, 3, 3)"), Just("HOPPINGWINDOW(ss, 6, 2)"), Just("HOPPINGWINDOW(ss, 6, 1)"),
        Just("HOPPINGWINDOW(ss, 60, 1)"), Just("COUNTWINDOW(4)"), Just("SESSIONWINDOW(ss, 100, 2)"),
        Just("SESSIONWINDOW(ss, 3, 2)"), Just("SESSIONWINDOW(ss, 2, 3)"), Just("STATEWINDOW(v = 1, v > 2)"),
    ]) {
        let aggregates = "v, count(*) AS c, sum(id) AS t, max(id) AS x, min(id) AS n, collect(id) AS ids, \
            window_start() AS b, window_end() AS e";
        let incremental = run(&format!("SELECT {aggregates} FROM s GROUP BY v, {window}"), &rows);
        // A condition on an aggregate in WHERE needs the rows.
        let recomputed = run(&format!("SELECT {aggregates} FROM s WHERE count(*) > 0 GROUP BY v, {window}"), &rows);
        prop_assert_eq!(incremental.len(), recomputed.len());
        for (incremental, recomputed) in incremental.iter().zip(&recomputed) {
            prop_assert!(same_rows(incremental, recomputed, false), "{incremental:?} is not {recomputed:?}");
        }
    }

    /// In event time the order of arrival does not matter, as long as nothing is late.
    #[test]
    fn order_of_arrival_does_not_matter(rows in rows(), jitter in prop::collection::vec(0..5000i64, 1..20)) {
        // Rows of one instant stay in order of arrival, so there must not be two.
        let mut rows = rows;
        rows.dedup_by_key(|row| row.0);
        for sql in [
            "SELECT v, count(*) AS c, collect(id) AS ids, window_end() AS e FROM s GROUP BY v, HOPPINGWINDOW(ss, 6, 2)",
            "SELECT id FROM s GROUP BY SLIDINGWINDOW(ss, 3)",
            "SELECT collect(id) AS ids FROM s GROUP BY SESSIONWINDOW(ss, 10, 1)",
            "SELECT id, lag(id) AS p FROM s WHERE v > 1",
        ] {
            let (ordered, arrived) = (run(sql, &rows), run(sql, &shuffled(&rows, &jitter)));
            // Boundaries begin at the first row that the watermark lets out, which is the oldest either way.
            prop_assert_eq!(ordered, arrived, "{}", sql);
        }
    }
}
