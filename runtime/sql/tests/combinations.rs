//! Clauses in every combination, over rows of every kind: planned or refused, run or failed, but never a panic, and the same
//! each time.

mod support;

use proptest::prelude::*;
use proptest::sample::select;
use serde_json::json;
use sluice_sql::plan::RuleOptions;
use support::{Arrival, Case};

const EXPRS: [&str; 34] = [
    "id",
    "s.v",
    "v + 1",
    "v / id",
    "k || \"x\"",
    "o->a",
    "o.a.b",
    "l[0]",
    "l[-1:]",
    "l[id]",
    "*",
    "s.*",
    "* EXCEPT(v)",
    "* REPLACE(v * 2 AS v)",
    "count(*)",
    "count(DISTINCT k)",
    "sum(v) FILTER(WHERE id > 1)",
    "avg(v)",
    "max(k)",
    "collect(*)",
    "median(v)",
    "lag(v)",
    "lag(id, 2) OVER (PARTITION BY k WHEN v > 1)",
    "had_changed(true, v)",
    "acc_sum(v)",
    "row_number()",
    "unnest(l)",
    "changed_cols(\"c_\", true, v, k)",
    "window_end() - window_start()",
    "event_time()",
    "meta(topic)",
    "CASE WHEN v > 2 THEN k ELSE id END",
    "cast(k, \"bigint\")",
    "rand() * 0",
];

const CONDITIONS: [&str; 14] = [
    "v > 1",
    "k = \"a\"",
    "v IN (1, 2, k)",
    "id IN l",
    "k LIKE \"%a%\"",
    "v BETWEEN id AND 5",
    "a0 > 1",
    "a1 = 2 AND v < 9",
    "count(*) > 1",
    "avg(v) > 1 OR k IS NULL",
    "NOT v = 1",
    "had_changed(true, k)",
    "last_hit_count() < 3",
    "o->a",
];

const WINDOWS: [&str; 11] = [
    "TUMBLINGWINDOW(ss, 2)",
    "HOPPINGWINDOW(ss, 4, 2)",
    "HOPPINGWINDOW(ss, 3, 2)",
    "HOPPINGWINDOW(ss, 1, 3)",
    "SLIDINGWINDOW(ss, 2)",
    "SLIDINGWINDOW(ss, 2, 1) OVER(WHEN v > 1)",
    "SESSIONWINDOW(ss, 4, 1)",
    "COUNTWINDOW(3)",
    "COUNTWINDOW(3, 1)",
    "STATEWINDOW(v > 2, v < 2) OVER(PARTITION BY k)",
    "TUMBLINGWINDOW(ss, 2) FILTER(WHERE id > 1)",
];

const JOINS: [&str; 7] = [
    "",
    "",
    "",
    " INNER JOIN t ON s.id = t.id",
    " LEFT JOIN t ON s.id = t.id AND t.v > s.v",
    " FULL JOIN c ON s.id = c.id",
    " RIGHT JOIN b ON s.k = b.k",
];

fn statement() -> impl Strategy<Value = String> {
    let items = proptest::collection::vec(select(&EXPRS[..]), 1..5);
    let maybe = |list: &'static [&'static str]| proptest::option::of(select(list));
    let keys = proptest::option::of(select(&["k", "o->a", "v % 2", "a0"][..]));
    let orders = proptest::option::of(select(&["id", "v DESC, k", "a0 DESC", "count(*)"][..]));
    (items, select(&JOINS[..]), maybe(&CONDITIONS), keys, maybe(&WINDOWS), maybe(&CONDITIONS), orders, 0..4usize)
        .prop_map(|(items, join, filter, key, window, having, order, limit)| {
            let item = |(idx, expr): (usize, &&str)| match *expr {
                expr if expr.contains('*') && !expr.contains('(') || expr.starts_with("* ") => expr.to_owned(),
                expr if expr.starts_with("changed_cols") => expr.to_owned(),
                expr => format!("{expr} AS a{idx}"),
            };
            let items: Vec<String> = items.iter().enumerate().map(item).collect();
            let mut sql = format!("SELECT {} FROM s{join}", items.join(", "));
            filter.iter().for_each(|filter| sql.push_str(&format!(" WHERE {filter}")));
            if let Some(window) = window {
                sql.push_str(&format!(" GROUP BY {}{window}", key.map(|key| format!("{key}, ")).unwrap_or_default()));
                having.iter().for_each(|having| sql.push_str(&format!(" HAVING {having}")));
            }
            order.iter().for_each(|order| sql.push_str(&format!(" ORDER BY {order}")));
            if limit > 0 {
                sql.push_str(&format!(" LIMIT {}", limit - 1));
            }
            sql
        })
}

fn case(sql: &str, declared: bool, event_time: bool) -> Case {
    let mut case = Case {
        sql: sql.to_owned(),
        options: RuleOptions { event_time, send_error: event_time, send_nil: declared, ..RuleOptions::default() },
        end: true,
        shared: declared,
        start: 1000,
        ..Case::default()
    };
    let fields =
        if declared { "id bigint, ts bigint, v float, k string, l array(bigint), o struct(a bigint)" } else { "" };
    for (name, kind) in [("s", "STREAM"), ("b", "STREAM"), ("t", "TABLE"), ("c", "TABLE")] {
        let lookup = if name == "t" { "KIND=\"lookup\", " } else { "" };
        let ddl = format!("CREATE {kind} {name} ({fields}) WITH ({lookup}TIMESTAMP=\"ts\", DATASOURCE=\"{name}\")");
        let (name, def) = support::define(&ddl);
        case.catalog.sources.insert(name.into(), def);
    }
    let rows = [
        json!({"id": 1, "ts": 1000, "v": 1, "k": "a", "l": [1, 2], "o": {"a": 1}}),
        json!({"id": 2, "ts": 1500, "v": 2.5, "k": "b", "l": [], "o": {"a": null}}),
        json!({"id": 3, "ts": 3100, "v": null, "k": null}),
        json!({"id": 4, "ts": 2000, "v": 0, "k": "", "l": [4, -9], "o": {}}),
        json!({"ts": 5000, "v": -3e300, "k": "12"}),
        json!({"id": 6, "ts": 9_000_000, "v": 7, "k": "a", "l": [6]}),
        json!({}),
    ];
    for (idx, data) in rows.iter().enumerate() {
        for stream in ["s", "b"] {
            let ts = 1000 + 700 * idx as i64;
            case.arrivals.push(Arrival { ts, stream: stream.to_owned(), data: data.clone(), meta: None });
        }
    }
    case.lookups.insert("t".to_owned(), rows[..3].to_vec());
    case.scans.insert("c".to_owned(), rows[..3].to_vec());
    case
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn clauses_go_together(sql in statement(), declared: bool, event_time: bool) {
        let case = case(&sql, declared, event_time);
        let once = case.run().map(|outcome| (outcome.plan.explain(), outcome.plan.fingerprint(), outcome.emitted));
        let twice = case.run().map(|outcome| (outcome.plan.explain(), outcome.plan.fingerprint(), outcome.emitted));
        prop_assert_eq!(once.is_ok(), twice.is_ok());
        if let (Ok(once), Ok(twice)) = (once, twice) {
            prop_assert_eq!(once, twice);
        }
    }
}
