//! Whole rules, a folder each below `tests/golden/rules`: manifests, what goes in, and what comes out at the far end.
//!
//! | file | what it is |
//! |---|---|
//! | `manifest.yaml`, or `1-*.yaml`, `2-*.yaml`... | what runs; each file is added once the finite rules of those before it have ended |
//! | `*.ndjson`, `*.csv` | what its streams read |
//! | `setup.sql`, `setup.redis` | statements for the databases that the manifests name, commands for Redis |
//! | `expected.ndjson` | what arrived, in order; then what each rule counted |
//!
//! A manifest names the servers that it needs as variables, see [`far_end`]. What its rules write to the sink `collect`
//! arrives as it was encoded. `SLUICE_UPDATE=1` writes the expected files anew.

mod collect;
mod far_end;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::json;
use sluice::manifest;
use sluice::pipeline::{Engine, RuleState, RuleStatus, Settings};
use sluice_tests::wait;

use far_end::Servers;

// On one thread tasks run in the order in which they are woken: a memory table has taken a row in before the rule that wrote it
// is seen to have ended.
#[tokio::test]
async fn rules_give_what_is_expected() {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/rules");
    let is_update = std::env::var_os("SLUICE_UPDATE").is_some();
    let mut differences = Vec::new();
    for case in files(&cases, |path| path.is_dir()) {
        let name = case.file_name().unwrap().to_string_lossy().into_owned();
        let lines = run(&name, &case).await;
        let given: String = lines.iter().map(|line| format!("{line}\n")).collect();
        let file = case.join("expected.ndjson");
        if is_update {
            std::fs::write(file, given).unwrap();
            continue;
        }
        let expected = std::fs::read_to_string(file).unwrap_or_default();
        if given != expected {
            differences.push(format!("{name}\nexpected:\n{expected}given:\n{given}"));
        }
    }
    assert!(differences.is_empty(), "run with SLUICE_UPDATE=1 if this is right:\n{}", differences.join("\n"));
}

/// Runs a case to its end and gives the lines that belong into its expected file.
async fn run(name: &str, case: &Path) -> Vec<String> {
    let manifests = files(case, |path| path.extension().is_some_and(|extension| extension == "yaml"));
    let text: String = manifests.iter().map(|path| std::fs::read_to_string(path).unwrap()).collect();
    let servers = Servers::start(name, &text).await;
    servers.set_up(case).await;

    let settings = manifest::Settings { variables: servers.variables.clone(), config_dir: None };
    let engine = Engine::new(Settings::new(collect::registry()));
    for n_files in 1..=manifests.len() {
        let loaded = manifest::load(&manifests[..n_files], &settings);
        assert!(loaded.diagnostics.is_empty(), "{name}: {:#?}", loaded.diagnostics);
        let report = engine.apply(&loaded.definitions);
        assert_eq!(report.refused, [], "{name}");
        settled(name, &engine).await;
    }
    assert!(engine.stop(wait::DEADLINE).await, "{name}: everything is written");

    let mut lines = collect::take();
    lines.extend(servers.arrived(name).await);
    lines.extend(engine.status().rules.iter().map(counts));
    lines
}

/// Waits until rules with a finite input have ended, and the others have taken what was written for them.
async fn settled(name: &str, engine: &Engine) {
    wait::until_true(&format!("{name} to settle"), async || {
        let rules = engine.status().rules;
        let sinks = rules.iter().flat_map(|rule| &rule.sinks).filter(|sink| sink.connector == "memory");
        let n_written: u64 = sinks.map(|sink| sink.rows_out).sum();
        let has_all = |rule: &RuleStatus| {
            let reads_memory = rule.sources.iter().all(|source| source.connector == "memory");
            reads_memory && rule.rows_in == n_written
        };
        let is_settled = |rule: &RuleStatus| rule.state == RuleState::Done || has_all(rule);
        engine.is_ready() && rules.iter().all(is_settled)
    })
    .await;
}

/// What a rule counted, as a line of JSON. What is zero is left out, but for the rows.
fn counts(rule: &RuleStatus) -> String {
    let sinks: BTreeMap<&str, u64> = rule.sinks.iter().map(|sink| (sink.name.as_str(), sink.rows_out)).collect();
    let parts = rule.sources.iter().chain(&rule.lookups).chain(&rule.sinks);
    let dropped = parts.filter(|part| !part.dropped.is_empty()).map(|part| (part.name.as_str(), &part.dropped));
    let mut dropped: BTreeMap<&str, _> = dropped.collect();
    if !rule.rows_dropped.is_empty() {
        dropped.insert("rule", &rule.rows_dropped);
    }
    let mut counts = json!({"rule": rule.name, "rowsIn": rule.rows_in, "rowsOut": rule.rows_out, "sinks": sinks});
    if rule.rows_failed > 0 {
        counts["rowsFailed"] = json!(rule.rows_failed);
    }
    if !dropped.is_empty() {
        counts["dropped"] = json!(dropped);
    }
    counts.to_string()
}

/// What lies in a folder and is wanted, in order of name.
fn files(folder: &Path, is_wanted: impl Fn(&Path) -> bool) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut wanted: Vec<PathBuf> = entries.filter(|path| is_wanted(path)).collect();
    wanted.sort();
    wanted
}
