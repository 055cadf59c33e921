//! Rules with `qos` 1 and 2 through crashes, stops and changes. A crash is a runtime that goes away with all its tasks.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::doubles::{blocked, collected, definitions, registry, rule, script, shared, stream, until};
use crate::definition::{Definitions, Delivery, OnStateChange, RuleDef, SinkDef};
use crate::options::Options;
use crate::pipeline::{Engine, RuleState, Settings};
use crate::registry::Registry;
use crate::state::journal::Limits;
use crate::state::{StateError, StateStore, SyncPolicy};

const GRACE: Duration = Duration::from_secs(10);

/// A rule that keeps state, and makes no checkpoint by itself but the first and the last one.
pub fn durable(rule: RuleDef) -> RuleDef {
    let checkpoint_interval = Duration::from_secs(3600);
    RuleDef { delivery: Delivery { qos: 2, checkpoint_interval, on_change: OnStateChange::Keep }, ..rule }
}

fn open(dir: &Path) -> Arc<StateStore> {
    loop {
        match StateStore::open(dir, SyncPolicy::Always, Limits::default()) {
            Ok(store) => return store,
            // The life before has not let go of its files yet.
            Err(StateError::InUse(_)) => std::thread::sleep(Duration::from_millis(5)),
            Err(error) => panic!("{error}"),
        }
    }
}

/// One life of a process: it ends as abruptly as `live` returns.
fn life(dir: &Path, definitions: &Definitions, live: impl AsyncFnOnce(&Engine)) {
    life_with(registry(), dir, definitions, live);
}

/// As [`life`], with what rules may call.
pub fn life_with(registry: Registry, dir: &Path, definitions: &Definitions, live: impl AsyncFnOnce(&Engine)) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let mut settings = Settings::new(registry);
    settings.state = Some(open(dir));
    let engine = Engine::new(settings);
    runtime.block_on(async {
        let report = engine.apply(definitions);
        assert_eq!(report.refused, []);
        live(&engine).await;
    });
    drop(engine);
    runtime.shutdown_timeout(Duration::from_secs(5));
}

fn sorted(mut numbers: Vec<i64>) -> Vec<i64> {
    numbers.sort_unstable();
    numbers
}

#[test]
fn what_was_acknowledged_survives_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    let (source, sink) = (script("crash"), collected("crash_rule"));
    let definitions =
        definitions([stream("crash")], [durable(rule("crash_rule", "SELECT n FROM crash WHERE n % 2 = 0"))]);
    life(dir.path(), &definitions, async |_| {
        source.rows(0..10);
        source.rows(10..20);
        until("rows to be acknowledged", || source.with(|state| state.acked.len() == 2)).await;
    });
    life(dir.path(), &definitions, async |_| {
        source.rows(20..22);
        until("the last row", || sink.numbers().contains(&20)).await;
    });
    let mut seen = sorted(sink.numbers());
    seen.dedup();
    assert_eq!(seen, [0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20]);
}

#[test]
fn windows_go_on_over_crashes_and_stops() {
    let dir = tempfile::tempdir().unwrap();
    let (source, sink) = (script("windows"), collected("windows_rule"));
    let sql = "SELECT sum(n) AS n FROM windows GROUP BY COUNTWINDOW(4)";
    let definitions = definitions([stream("windows")], [durable(rule("windows_rule", sql))]);
    life(dir.path(), &definitions, async |_| {
        source.rows([1]);
        until("the row to be acknowledged", || source.with(|state| state.acked.len() == 1)).await;
    });
    life(dir.path(), &definitions, async |engine| {
        source.rows([20]);
        until("the row to be acknowledged", || source.with(|state| state.acked.len() == 2)).await;
        assert!(engine.stop(GRACE).await);
        let status = engine.rule_status("windows_rule").unwrap();
        assert_eq!(status.checkpoint.unwrap().failed, 0);
    });
    assert_eq!(sink.numbers(), [0; 0]);
    life(dir.path(), &definitions, async |engine| {
        source.rows([300, 4000]);
        until("the window", || sink.numbers() == [4321]).await;
        let kept = engine.rule_status("windows_rule").unwrap().checkpoint.unwrap().kept;
        assert_eq!(kept, ["window"]);
        source.rows([5]);
        until("the row to be acknowledged", || source.with(|state| state.acked.len() == 4)).await;
    });
    // The window is computed again; how often it is sent is the sink's queue's business.
    life(dir.path(), &definitions, async |_| {
        source.rows([6, 7, 8]);
        until("the next window", || sink.numbers().contains(&26)).await;
    });
    assert!(sink.numbers().iter().all(|sum| [4321, 26].contains(sum)), "{:?}", sink.numbers());
}

/// A long window changes little between two checkpoints; and what was saved in part is whole after a crash.
#[test]
fn of_a_long_window_only_what_has_changed_is_saved() {
    let dir = tempfile::tempdir().unwrap();
    let (source, sink) = (script("long"), collected("long_rule"));
    let sql = "SELECT count(*) AS n FROM long GROUP BY SLIDINGWINDOW(hh, 1) OVER (WHEN n < 0)";
    let mut rule = durable(rule("long_rule", sql));
    rule.delivery.checkpoint_interval = Duration::from_millis(10);
    let definitions = definitions([stream("long")], [rule]);
    let metrics = |engine: &Engine| Arc::clone(&engine.samples().rules[0].metrics);
    life(dir.path(), &definitions, async |engine| {
        source.rows(0..100_000);
        let metrics = metrics(engine);
        let checkpoint_after = async |n| {
            let (n_before, n_bytes) = (metrics.checkpoints.done.get(), metrics.checkpoints.bytes_written.get());
            source.rows([n]);
            until("a checkpoint", || metrics.checkpoints.done.get() > n_before).await;
            metrics.checkpoints.bytes_written.get() - n_bytes
        };
        until("all rows", || metrics.rows_in.get() == 100_000).await;
        for n in 0..10 {
            let written = checkpoint_after(n).await;
            let n_bytes = metrics.checkpoints.newest().n_bytes;
            // The first ones may still be of rows that came before. What is built on may be so old that half of it has changed.
            assert!(n < 3 || written < n_bytes * 6 / 10, "{written} of {n_bytes} bytes");
        }
    });
    life(dir.path(), &definitions, async |_| {
        source.rows([-1]);
        until("the window", || sink.numbers() == [100_011]).await;
    });
}

/// Without a queue its results waited in the channel to the sink, and so did every barrier.
#[test]
fn a_sink_that_takes_nothing_holds_up_neither_its_rule_nor_the_checkpoints() {
    let dir = tempfile::tempdir().unwrap();
    let (source, sink) = (script("stuck"), blocked("stuck_rule"));
    let mut rule = durable(rule("stuck_rule", "SELECT n FROM stuck"));
    rule.delivery.checkpoint_interval = Duration::from_millis(20);
    let definitions = definitions([stream("stuck")], [rule]);
    life(dir.path(), &definitions, async |engine| {
        // More than channels hold.
        (0..200).for_each(|n| source.rows([n]));
        let status = || engine.rule_status("stuck_rule").unwrap();
        until("all results", || status().rows_out == 200).await;
        let n_before = status().checkpoint.unwrap().written;
        source.rows([200]);
        until("a checkpoint behind results that the sink has not taken", || {
            status().checkpoint.unwrap().written > n_before
        })
        .await;
        assert_eq!(status().checkpoint.unwrap().failed, 0);
    });
    assert_eq!(sink.numbers(), [0; 0]);
    sink.open();
    life(dir.path(), &definitions, async |_| {
        source.rows([201]);
        until("the last row", || sink.numbers().ends_with(&[201])).await;
    });
    assert_eq!(sink.numbers(), (0..=201).collect::<Vec<_>>(), "from the queue, each once");
}

#[test]
fn a_changed_rule_keeps_what_matches_and_loses_no_row() {
    let dir = tempfile::tempdir().unwrap();
    let (source, sink) = (script("changes"), collected("changes_rule"));
    let with = |sql: &str, on_change| {
        let mut rule = durable(rule("changes_rule", sql));
        rule.delivery.on_change = on_change;
        definitions([stream("changes")], [rule])
    };
    let sums = "SELECT sum(n) AS n FROM changes GROUP BY COUNTWINDOW(3)";
    let negative = "SELECT -sum(n) AS n FROM changes GROUP BY COUNTWINDOW(3)";
    let filtered = "SELECT sum(n) AS n FROM changes WHERE n > 0 GROUP BY COUNTWINDOW(2)";
    life(dir.path(), &with(sums, OnStateChange::Keep), async |engine| {
        source.rows([1]);
        until("the row", || engine.rule_status("changes_rule").unwrap().rows_in == 1).await;
        source.rows([10]);
        engine.apply(&with(negative, OnStateChange::Keep));
        source.rows([100]);
        until("the window", || sink.numbers() == [-111]).await;
        source.rows([2]);
        until("the row", || engine.rule_status("changes_rule").unwrap().rows_in == 4).await;
        engine.apply(&with(filtered, OnStateChange::Reset));
        source.rows([30, 40]);
        until("the window without what came before", || sink.numbers() == [-111, 70]).await;
        engine.apply(&with(sums, OnStateChange::Refuse));
        until("the refusal", || engine.rule_status("changes_rule").unwrap().state == RuleState::Failed).await;
        let message = engine.rule_status("changes_rule").unwrap().message.unwrap();
        assert!(message.contains("stateOnChange"), "{message}");
    });
}

#[test]
fn rules_of_a_shared_stream_each_go_on_from_where_they_were() {
    let dir = tempfile::tempdir().unwrap();
    let (source, one, two) = (script("both"), collected("one_rule"), collected("two_rule"));
    let rules = |names: &[&str]| Definitions {
        streams: vec![shared("both")],
        rules: names
            .iter()
            .map(|name| durable(rule(name, "SELECT sum(n) AS n FROM both GROUP BY COUNTWINDOW(2)")))
            .collect(),
        ..Definitions::default()
    };
    life(dir.path(), &rules(&["one_rule"]), async |engine| {
        source.rows([1]);
        until("the row", || engine.rule_status("one_rule").unwrap().rows_in == 1).await;
        engine.apply(&rules(&["one_rule", "two_rule"]));
        source.rows([2, 3]);
        until("the windows", || one.numbers() == [3] && two.numbers() == [5]).await;
    });
    life(dir.path(), &rules(&["two_rule", "one_rule"]), async |_| {
        source.rows([4, 5]);
        until("the windows", || one.numbers().ends_with(&[7]) && two.numbers().ends_with(&[9])).await;
    });
}

#[test]
fn a_finite_source_ends_once() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("in.ndjson");
    let text: String = (0..1000).map(|n| format!("{{\"n\":{n}}}\n")).collect();
    std::fs::write(&file, text).unwrap();
    let sink = collected("file_rule");
    let mut from_file = stream("lines");
    from_file.connector = "file".to_owned();
    from_file.datasource = file.display().to_string();
    let definitions = definitions([from_file], [durable(rule("file_rule", "SELECT n FROM lines"))]);
    for _ in 0..2 {
        life(&dir.path().join("state"), &definitions, async |engine| {
            engine.finished().await;
            assert_eq!(engine.rule_status("file_rule").unwrap().state, RuleState::Done);
            assert!(engine.stop(GRACE).await);
        });
    }
    assert_eq!(sink.numbers(), (0..1000).collect::<Vec<_>>());
}

#[test]
fn without_a_place_for_state_the_rule_is_refused() {
    let (_source, _sink) = (script("nowhere"), collected("nowhere_rule"));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _guard = runtime.enter();
    let engine = Engine::new(Settings::new(registry()));
    let report =
        engine.apply(&definitions([stream("nowhere")], [durable(rule("nowhere_rule", "SELECT n FROM nowhere"))]));
    assert_eq!(report.refused[0].message, "qos 2 keeps state: it needs a folder for it (--state-dir DIR)");
}

#[tokio::test(start_paused = true)]
async fn a_stop_lets_rows_through_memory_topics() {
    let (source, sink) = (script("chain"), collected("third"));
    let to = |topic: &str| SinkDef {
        connector: "memory".to_owned(),
        options: Options::from(serde_json::json!({"topic": topic})),
    };
    let mut first = rule("first", "SELECT n FROM chain");
    first.sinks = vec![to("hop/1")];
    let mut second = rule("second", "SELECT n FROM hop_1");
    second.sinks = vec![to("hop/2")];
    let third = rule("third", "SELECT n FROM hop_2");
    let reads = |name: &str, topic: &str| {
        let mut stream = stream(name);
        stream.connector = "memory".to_owned();
        stream.datasource = topic.to_owned();
        stream
    };
    let engine = super::doubles::engine();
    // Those that read stand before those that write, and stop after them.
    let streams = [reads("hop_1", "hop/1"), reads("hop_2", "hop/#"), stream("chain")];
    let mut third = third;
    third.sql = "SELECT n FROM hop_2 WHERE meta(topic) = \"hop/2\"".to_owned();
    engine.apply(&definitions(streams, [third, second, first]));
    for start in 0..50 {
        source.rows(start * 100..start * 100 + 100);
    }
    until("the first rows", || !sink.numbers().is_empty()).await;
    assert!(engine.stop(GRACE).await);
    let n_read = source.with(|state| state.acked.len());
    assert_eq!(sink.numbers(), (0..n_read as i64 * 100).collect::<Vec<_>>());
}
