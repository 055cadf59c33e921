//! Plans and refusals of the statements in `golden/plan/`, as text.
//!
//! A file holds statements, each ended by `;`. Those that create streams and tables hold for what follows them; each `SELECT`
//! shows its plan, or why it is refused. `-- event time` before a statement plans it in event time.

mod support;

use std::fmt::Write;

use sluice_sql::plan::{Catalog, RuleOptions, plan_rule};

#[test]
fn plans() {
    insta::glob!("golden/plan/*.sql", |path| {
        let text = std::fs::read_to_string(path).expect("a file of statements");
        insta::assert_snapshot!(explained(&text));
    });
}

fn explained(text: &str) -> String {
    let mut catalog = Catalog::default();
    let mut out = String::new();
    for part in text.split(";\n") {
        let event_time = part.contains("-- event time");
        let lines = part.lines().filter(|line| !line.trim().is_empty() && !line.starts_with("--"));
        let sql = lines.collect::<Vec<_>>().join("\n");
        if sql.is_empty() {
            continue;
        }
        if sql.starts_with("CREATE") {
            let (name, def) = support::define(&sql);
            catalog.sources.insert(name.into(), def);
            continue;
        }
        let options = RuleOptions { event_time, ..RuleOptions::default() };
        let _ = match plan_rule(&sql, &catalog, &support::functions(), &options) {
            Ok(plan) => writeln!(out, "{sql}\n\n{}", indented(&plan.explain())),
            Err(errors) => writeln!(out, "{}\n", indented(&errors.to_string())),
        };
    }
    out
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("    {line}\n")).collect()
}
