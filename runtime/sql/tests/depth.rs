//! Statements of great depth are refused or planned, never a crash.

mod support;

use sluice_sql::plan::{Catalog, RuleOptions, plan_rule};

#[test]
fn deep_statements() {
    let mut catalog = Catalog::default();
    let (name, def) = support::define("CREATE STREAM s () WITH (DATASOURCE=\"s\")");
    catalog.sources.insert(name.into(), def);
    let n = 20_000;
    let aliases: Vec<String> = (1..60).map(|i| format!("x{} + x{} AS x{i}", i - 1, i - 1)).collect();
    let cases = [
        ("AND", format!("SELECT a FROM s WHERE a = 1{}", " AND a = 1".repeat(n))),
        ("+", format!("SELECT a{} AS b FROM s", " + a".repeat(n))),
        ("(", format!("SELECT {}a{} AS b FROM s", "(".repeat(n), ")".repeat(n))),
        ("->", format!("SELECT a{} AS b FROM s", "->a".repeat(n))),
        ("[", format!("SELECT a{} AS b FROM s", "[0]".repeat(n))),
        (".", format!("SELECT a{} AS b FROM s", ".a".repeat(n))),
        ("IN", format!("SELECT a FROM s WHERE a IN (1{})", ", 1".repeat(n))),
        ("f(", format!("SELECT {}a{} AS b FROM s", "abs(".repeat(n), ")".repeat(n))),
        ("NOT", format!("SELECT {}a AS b FROM s", "NOT ".repeat(n))),
        (
            "items",
            format!("SELECT a AS b0{} FROM s", (1..2000).map(|i| format!(", b{} AS b{i}", i - 1)).collect::<String>()),
        ),
        ("299 +", format!("SELECT a{} AS b FROM s", " + a".repeat(299))),
        ("299 AND", format!("SELECT a FROM s WHERE a = 1{}", " AND a = 1".repeat(299))),
        (
            "chain",
            format!(
                "SELECT a AS b0{} FROM s WHERE b1999 > 1",
                (1..2000).map(|i| format!(", b{} AS b{i}", i - 1)).collect::<String>()
            ),
        ),
        ("aliases", format!("SELECT a AS x0, {} FROM s WHERE x59 > 1", aliases.join(", "))),
    ];
    for (name, sql) in cases {
        let outcome = plan_rule(&sql, &catalog, &support::functions(), &RuleOptions::default());
        match outcome {
            Ok(plan) => assert!(!plan.explain().is_empty(), "{name}"),
            Err(errors) => {
                assert!(errors.to_string().contains("too "), "{name} is refused, but not for its size: {errors}")
            }
        }
    }
}
