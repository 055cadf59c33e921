//! Whole rules through the engine, between a source and a sink that the test holds in its hands.

pub(crate) mod doubles;
mod durable;
mod life;
mod processed;
mod slow;

use std::time::Duration;

use doubles::{Step, blocked, collected, definitions, engine, rule, script, shared, slow_table, stream, until};

use crate::definition::Definitions;
use crate::pipeline::{Engine, RuleState};

const GRACE: Duration = Duration::from_secs(5);

fn state(engine: &Engine, rule: &str) -> RuleState {
    engine.rule_status(rule).unwrap().state
}

fn message(engine: &Engine, rule: &str) -> String {
    engine.rule_status(rule).unwrap().message.unwrap_or_default()
}

fn dropped(engine: &Engine, rule: &str) -> u64 {
    engine.rule_status(rule).unwrap().rows_dropped.values().sum()
}

#[tokio::test(start_paused = true)]
async fn a_finite_source_runs_to_its_end_in_order() {
    let (source, sink) = (script("finite"), collected("finite_rule"));
    for first in (0..3000).step_by(1000) {
        source.rows(first..first + 1000);
    }
    source.play(Step::End);
    let engine = engine();
    let report =
        engine.apply(&definitions([stream("finite")], [rule("finite_rule", "SELECT n FROM finite WHERE n % 3 = 0")]));
    assert_eq!(report.started, ["finite_rule"], "{:?}", report.refused);
    engine.finished().await;
    assert_eq!(state(&engine, "finite_rule"), RuleState::Done);
    assert_eq!(sink.numbers(), (0..3000).step_by(3).collect::<Vec<i64>>());
    assert_eq!(sink.n_closed(), 1);
    source.with(|state| assert_eq!((state.acked.clone(), state.n_closed), (vec![1, 2, 3], 1)));
    let status = engine.rule_status("finite_rule").unwrap();
    assert_eq!((status.rows_in, status.rows_out, status.sinks[0].rows_out), (3000, 1000, 1000));
    assert!(engine.stop(GRACE).await);
}

#[tokio::test(start_paused = true)]
async fn a_window_that_is_open_at_the_end_is_flushed() {
    let (source, sink) = (script("flush"), collected("flush_rule"));
    source.rows([1, 2, 3]);
    source.play(Step::End);
    let engine = engine();
    let sql = "SELECT n FROM flush GROUP BY TUMBLINGWINDOW(hh, 10)";
    let report = engine.apply(&definitions([stream("flush")], [rule("flush_rule", sql)]));
    assert_eq!(report.refused, []);
    engine.finished().await;
    assert_eq!(sink.numbers(), [1, 2, 3]);
}

#[tokio::test(start_paused = true)]
async fn a_slow_sink_holds_the_source_back_and_nothing_is_lost() {
    let (source, sink) = (script("slow"), blocked("slow_rule"));
    let engine = engine();
    engine.apply(&definitions([stream("slow")], [rule("slow_rule", "SELECT n FROM slow")]));
    for n in 0..1000 {
        source.rows([n]);
    }
    source.play(Step::End);
    // The sink driver takes up to 64 batches at once; then the channels fill up.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let n_given = source.with(|state| state.n_given);
    assert!(n_given < 200, "the source must wait, but gave {n_given} batches");
    let acked = source.with(|state| state.acked.clone());
    assert!((acked.len() as u64) < n_given, "what does not fit in the rule's channel is not acknowledged");
    sink.open();
    engine.finished().await;
    assert_eq!(sink.numbers(), (0..1000).collect::<Vec<_>>());
    let status = engine.rule_status("slow_rule").unwrap();
    assert_eq!(dropped(&engine, "slow_rule") + status.sinks[0].dropped.values().sum::<u64>(), 0);
}

#[tokio::test(start_paused = true)]
async fn rules_on_a_shared_stream_each_get_every_row_from_one_source() {
    let source = script("shared3");
    let sinks = [collected("shared_a"), collected("shared_b"), collected("shared_c")];
    source.rows(0..10);
    source.rows(10..20);
    source.play(Step::End);
    let engine = engine();
    let rules = [
        rule("shared_a", "SELECT n FROM shared3"),
        rule("shared_b", "SELECT n, twice FROM shared3 WHERE n >= 5"),
        rule("shared_c", "SELECT * FROM shared3"),
    ];
    let report = engine.apply(&definitions([shared("shared3")], rules));
    assert_eq!(report.refused, []);
    engine.finished().await;
    source.with(|state| assert_eq!(state.n_connected, 1));
    assert_eq!(sinks[0].numbers(), (0..20).collect::<Vec<_>>());
    assert_eq!(sinks[1].numbers(), (5..20).collect::<Vec<_>>());
    assert_eq!(sinks[2].numbers(), (0..20).collect::<Vec<_>>());
    assert!(sinks[0].n_columns().iter().all(|n| *n == 1));
    assert!(sinks[1].n_columns().iter().chain(&sinks[2].n_columns()).all(|n| *n == 2));
}

#[tokio::test(start_paused = true)]
async fn a_rule_that_joins_a_shared_stream_later_gets_its_columns() {
    let source = script("later");
    let (first, second) = (collected("later_a"), collected("later_b"));
    let engine = engine();
    let a = rule("later_a", "SELECT n FROM later");
    engine.apply(&definitions([shared("later")], [a.clone()]));
    source.rows([1]);
    until("the first row", || first.numbers() == [1]).await;
    let b = rule("later_b", "SELECT n, twice FROM later");
    let report = engine.apply(&definitions([shared("later")], [a, b]));
    assert_eq!((report.unchanged, report.started), (vec!["later_a".to_owned()], vec!["later_b".to_owned()]));
    source.rows([2]);
    until("the second row", || first.numbers() == [1, 2] && second.numbers() == [2]).await;
    assert_eq!(second.n_columns(), [2]);
    source.with(|state| assert_eq!(state.n_connected, 1));
    assert!(engine.stop(GRACE).await);
}

#[tokio::test(start_paused = true)]
async fn editing_rules_loses_no_row_of_them_or_of_others() {
    for is_shared in [true, false] {
        let name = format!("edit_{is_shared}");
        let (kept, edited) = (format!("kept_{is_shared}"), format!("edited_{is_shared}"));
        let sources = if is_shared { vec![script(&name)] } else { vec![script(&name), script(&format!("{name}_2"))] };
        let (kept_sink, edited_sink) = (collected(&kept), collected(&edited));
        let other = if is_shared { name.clone() } else { format!("{name}_2") };
        let streams = || [&name, &other].map(|name| if is_shared { shared(name) } else { stream(name) });
        let version = |n: usize| {
            let sql = format!("SELECT n, {n} AS version FROM {other}");
            definitions(streams(), [rule(&kept, &format!("SELECT n FROM {name}")), rule(&edited, &sql)])
        };
        let engine = engine();
        assert_eq!(engine.apply(&version(0)).refused, []);
        for n in 0..500 {
            for source in &sources {
                source.rows([n]);
            }
            if n % 50 == 49 {
                let report = engine.apply(&version(usize::try_from(n).unwrap()));
                assert_eq!((report.unchanged, report.replaced), (vec![kept.clone()], vec![edited.clone()]));
            }
            tokio::task::yield_now().await;
        }
        let all: Vec<i64> = (0..500).collect();
        until("all rows", || kept_sink.numbers() == all && edited_sink.numbers() == all).await;
        for source in &sources {
            source.with(|state| assert_eq!(state.n_connected, 1, "the stream itself has not changed"));
        }
        assert!(engine.stop(GRACE).await);
    }
}

#[tokio::test(start_paused = true)]
async fn a_changed_stream_restarts_its_rules_and_no_others() {
    let (changed, same) = (script("changed"), script("same"));
    let (_sink_a, sink_b) = (collected("on_changed"), collected("on_same"));
    let version = |delimiter: Option<&str>| {
        let mut def = shared("changed");
        def.delimiter = delimiter.map(ToOwned::to_owned);
        def.origin.line = if delimiter.is_some() { 10 } else { 1 };
        let mut other = shared("same");
        other.origin.line = def.origin.line + 1;
        let rules = [rule("on_changed", "SELECT n FROM changed"), rule("on_same", "SELECT n FROM same")];
        definitions([def, other], rules)
    };
    let engine = engine();
    engine.apply(&version(None));
    same.rows([1]);
    until("the first row", || sink_b.numbers() == [1]).await;
    let report = engine.apply(&version(Some(";")));
    assert_eq!((report.replaced, report.unchanged), (vec!["on_changed".to_owned()], vec!["on_same".to_owned()]));
    until("the stream is read anew", || changed.with(|state| (state.n_connected, state.n_closed) == (2, 1))).await;
    same.with(|state| assert_eq!((state.n_connected, state.n_closed), (1, 0)));
    assert!(engine.stop(GRACE).await);
}

#[tokio::test(start_paused = true)]
async fn what_a_replaced_stream_has_taken_goes_to_the_rule_as_it_was() {
    let (source, before, after) = (script("handed_on"), blocked("handed_on_old"), collected("handed_on_new"));
    let version = |sink: &str, delimiter: &str| {
        let mut def = stream("handed_on");
        def.delimiter = Some(delimiter.to_owned());
        let mut rule = rule("handed_on_rule", "SELECT n FROM handed_on");
        rule.sinks[0].options.0.insert("id".to_owned(), sink.into());
        definitions([def], [rule])
    };
    let engine = engine();
    engine.apply(&version("handed_on_old", ","));
    (0..200).for_each(|n| source.rows([n]));
    // The channels fill up, the feed waits with a row in its hand.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(engine.apply(&version("handed_on_new", ";")).replaced, ["handed_on_rule"]);
    before.open();
    source.rows([200]);
    until("rows flow again", || after.numbers().last() == Some(&200)).await;
    assert_eq!([before.numbers(), after.numbers()].concat(), Vec::from_iter(0..=200));
    assert!(engine.stop(GRACE).await);
}

#[tokio::test(start_paused = true)]
async fn a_broken_edit_leaves_the_last_good_definition_running_and_says_so() {
    let (source, sink) = (script("good"), collected("good_rule"));
    let engine = engine();
    let version = |sql: &str, generation: i64| {
        let mut rule = rule("good_rule", sql);
        rule.origin.generation = generation;
        definitions([stream("good")], [rule])
    };
    engine.apply(&version("SELECT n FROM good", 1));
    source.rows([1]);
    let report = engine.apply(&version("SELECT n FRM good", 2));
    assert!(report.refused[0].keeps_running, "{report:?}");
    source.rows([2]);
    until("both rows", || sink.numbers() == [1, 2]).await;
    let status = engine.rule_status("good_rule").unwrap();
    assert_eq!((status.state, status.generation, status.wanted_generation), (RuleState::Running, 1, 2));
    assert!(status.message.unwrap().starts_with("1:"), "the message has the place of the error");

    let report = engine.apply(&version("SELECT n FROM good WHERE n > 2", 3));
    assert_eq!(report.replaced, ["good_rule"]);
    let status = engine.rule_status("good_rule").unwrap();
    assert_eq!((status.generation, status.wanted_generation, status.message), (3, 3, None));
    source.rows([2, 3]);
    until("the row that passes", || sink.numbers() == [1, 2, 3]).await;
    assert!(engine.stop(GRACE).await);
}

#[tokio::test(start_paused = true)]
async fn a_rule_that_never_passed_its_check_is_refused_and_others_run() {
    let (source, sink) = (script("beside"), collected("fine"));
    let mut broken = rule("broken", "SELECT n FROM beside");
    broken.sinks[0].connector = "colect".to_owned();
    let engine = engine();
    let report = engine.apply(&definitions([stream("beside")], [broken, rule("fine", "SELECT n FROM beside")]));
    assert_eq!((report.started, report.refused.len()), (vec!["fine".to_owned()], 1));
    assert_eq!(state(&engine, "broken"), RuleState::Refused);
    assert!(message(&engine, "broken").contains("collect"), "{}", message(&engine, "broken"));
    source.rows([1]);
    source.play(Step::End);
    engine.finished().await;
    assert_eq!(sink.numbers(), [1]);
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_a_source_or_sink_ends_its_rules_only() {
    let (bad, good) = (script("panics"), script("calm"));
    let (_a, b, c) = (collected("bad_source"), collected("bad_sink"), collected("calm_rule"));
    let engine = engine();
    let rules = [
        rule("bad_source", "SELECT n FROM panics"),
        rule("bad_sink", "SELECT n FROM calm"),
        rule("calm_rule", "SELECT n FROM calm"),
    ];
    let rules = rules.map(|mut rule| {
        rule.restart.attempts = 0;
        rule
    });
    engine.apply(&definitions([stream("panics"), shared("calm")], rules));
    bad.play(Step::Panic);
    b.panic_on_write();
    good.rows([1]);
    until("both have failed", || {
        state(&engine, "bad_source") == RuleState::Failed && state(&engine, "bad_sink") == RuleState::Failed
    })
    .await;
    assert_eq!(message(&engine, "bad_source"), "stream panics: internal error: a source may break");
    assert_eq!(message(&engine, "bad_sink"), "sink collect_0: internal error: a sink may break");
    good.rows([2]);
    until("the other rule goes on", || c.numbers() == [1, 2]).await;
    assert!(engine.stop(GRACE).await);
}

#[tokio::test(start_paused = true)]
async fn a_source_is_connected_again_with_growing_pauses_after_every_failure() {
    let (source, sink) = (script("flaky"), collected("flaky_rule"));
    source.with(|state| state.n_refusals = 3);
    let engine = engine();
    engine.apply(&definitions([stream("flaky")], [rule("flaky_rule", "SELECT n FROM flaky")]));
    source.rows([1]);
    source.play(Step::Fail("line cut"));
    source.rows([2]);
    until("both rows", || sink.numbers() == [1, 2]).await;
    let status = engine.rule_status("flaky_rule").unwrap();
    let connector = &status.sources[0];
    assert_eq!((connector.connected, connector.reconnects), (Some(true), 2));
    assert!(status.last_error.unwrap().message.starts_with("line cut; trying again in "));
    source.with(|state| assert_eq!(state.n_connected, 2));
    assert!(engine.stop(GRACE).await);
}

#[tokio::test(start_paused = true)]
async fn batches_wait_for_a_lookup_table_together_and_leave_in_order() {
    let (source, inner, left) = (script("lookups"), collected("inner"), collected("left"));
    for first in (0..600).step_by(100) {
        source.rows(first..first + 100);
    }
    source.play(Step::End);
    let mut defs = definitions(
        [shared("lookups")],
        [
            rule("inner", "SELECT n, site FROM lookups INNER JOIN slow1 ON n = slow1.id WHERE site >= 20"),
            rule(
                "left",
                "SELECT n, slow1.site, slow2.id FROM lookups LEFT JOIN slow1 ON n = slow1.id LEFT JOIN slow2 ON n = slow2.id",
            ),
        ],
    );
    defs.tables = vec![slow_table("slow1"), slow_table("slow2")];
    let engine = engine();
    assert_eq!(engine.apply(&defs).refused, []);
    engine.finished().await;
    assert_eq!(inner.numbers(), (2..600).step_by(2).collect::<Vec<_>>());
    assert_eq!(left.numbers(), (0..600).collect::<Vec<_>>());
    assert!(left.n_columns().chunks(2).all(|pair| pair == [3, 1]), "{:?}", &left.n_columns()[..6]);
    let most = doubles::CALLS[1].load(std::sync::atomic::Ordering::Relaxed);
    assert!(
        most > 3,
        "the calls of later batches must not wait for those of earlier ones, but at most {most} were at once"
    );
    assert!(engine.stop(GRACE).await);
}

#[tokio::test(start_paused = true)]
async fn a_stop_drains_what_has_arrived() {
    let (source, sink) = (script("drain"), blocked("drain_rule"));
    let engine = engine();
    engine.apply(&definitions([stream("drain")], [rule("drain_rule", "SELECT n FROM drain")]));
    source.rows(0..600);
    until("the rows are on their way", || source.with(|state| state.n_given) == 1).await;
    let opening = async {
        until("the source is closed", || source.with(|state| state.n_closed) == 1).await;
        sink.open();
    };
    let (is_drained, ()) = tokio::join!(engine.stop(GRACE), opening);
    assert!(is_drained, "everything was written");
    assert_eq!(sink.numbers(), (0..600).collect::<Vec<_>>());
    assert_eq!((state(&engine, "drain_rule"), sink.n_closed()), (RuleState::Stopped, 1));
}

#[tokio::test(start_paused = true)]
async fn a_stop_that_is_cut_short_counts_every_row_it_drops() {
    for by_signal in [false, true] {
        let name = format!("cut_{by_signal}");
        let (source, sink) = (script(&name), blocked(&name));
        let engine = engine();
        engine.apply(&definitions([stream(&name)], [rule(&name, &format!("SELECT n FROM {name}"))]));
        source.rows(0..100_000);
        until("the source is held back", || {
            engine.rule_status(&name).is_some_and(|status| status.sinks[0].rows_in > 0)
        })
        .await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        if by_signal {
            engine.cut_short();
        }
        assert!(!engine.stop(GRACE).await, "not everything was written");
        let status = engine.rule_status(&name).unwrap();
        let by_part = [&status.rows_dropped, &status.sources[0].dropped, &status.sinks[0].dropped];
        let n_dropped: u64 = by_part.iter().filter_map(|dropped| dropped.get("shutdown")).sum();
        assert_eq!((sink.numbers().len(), n_dropped), (0, 100_000), "{by_part:?}");
        source.with(|state| assert!(state.acked.is_empty(), "nothing is acknowledged that was not handed over"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_stuck_rule_can_be_replaced() {
    let (source, stuck, fresh) = (script("stuck"), blocked("stuck_old"), collected("stuck_new"));
    let version = |sink: &str| {
        let mut rule = rule("stuck_rule", "SELECT n FROM stuck");
        rule.sinks[0].options.0.insert("id".to_owned(), sink.into());
        definitions([stream("stuck")], [rule])
    };
    let engine = engine();
    engine.apply(&version("stuck_old"));
    for n in 0..200 {
        source.rows([n]);
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(engine.apply(&version("stuck_new")).replaced, ["stuck_rule"]);
    source.rows([200]);
    until("rows flow again", || fresh.numbers().last() == Some(&200)).await;
    assert!(stuck.numbers().is_empty());
    // What the old sink held is lost, and counted.
    let n_dropped = 201 - fresh.numbers().len() as u64;
    assert!(n_dropped > 0 && dropped(&engine, "stuck_rule") <= n_dropped);
    assert!(engine.stop(GRACE).await);
}

#[tokio::test(start_paused = true)]
async fn suspended_and_removed_rules_close_their_sources() {
    let (source, sink) = (script("suspend"), collected("suspend_rule"));
    let engine = engine();
    let mut rule = rule("suspend_rule", "SELECT n FROM suspend");
    engine.apply(&definitions([stream("suspend")], [rule.clone()]));
    source.rows([1]);
    until("the row", || sink.numbers() == [1]).await;
    rule.suspend = true;
    assert_eq!(engine.apply(&definitions([stream("suspend")], [rule.clone()])).suspended, ["suspend_rule"]);
    until("the source is closed", || source.with(|state| state.n_closed) == 1).await;
    assert_eq!(state(&engine, "suspend_rule"), RuleState::Suspended);
    rule.suspend = false;
    assert_eq!(engine.apply(&definitions([stream("suspend")], [rule])).started, ["suspend_rule"]);
    source.rows([2]);
    until("the row after", || sink.numbers() == [1, 2]).await;
    assert_eq!(engine.apply(&Definitions::default()).removed, ["suspend_rule"]);
    until("the source is closed again", || source.with(|state| state.n_closed) == 2).await;
    assert!(engine.rule_status("suspend_rule").is_none());
    assert!(engine.stop(GRACE).await);
}

#[tokio::test(start_paused = true)]
async fn a_tail_shows_results_until_the_rule_ends() {
    let (source, _sink) = (script("tailed"), collected("tailed_rule"));
    let engine = engine();
    engine.apply(&definitions([stream("tailed")], [rule("tailed_rule", "SELECT n FROM tailed")]));
    let tail = engine.tail("tailed_rule").unwrap();
    let mut results = tail.subscribe();
    source.rows([7]);
    assert_eq!(results.recv().await.unwrap().rows.len(), 1);
    source.play(Step::End);
    tail.closed().await;
    engine.finished().await;
    assert!(engine.tail("tailed_rule").is_none());
}

#[tokio::test(start_paused = true)]
async fn the_engine_is_ready_when_every_source_has_tried() {
    let (source, _sink) = (script("ready"), collected("ready_rule"));
    source.with(|state| state.n_refusals = 1);
    let engine = engine();
    assert!(!engine.is_ready(), "nothing was applied");
    engine.apply(&definitions([stream("ready")], [rule("ready_rule", "SELECT n FROM ready")]));
    assert!(!engine.is_ready(), "nothing has been tried");
    until("ready", || engine.is_ready()).await;
    assert!(engine.stop(GRACE).await);
}
