//! Failures and starts after them, schedules, edits that change nothing, and what happens to rows when a rule is too slow.

use std::time::Duration;

use super::doubles::{
    START, Step, blocked, collected, definitions, engine, rule, script, settings, shared, stream, until,
};
use super::{GRACE, message, state};
use crate::definition::{Backpressure, RuleDef};
use crate::pipeline::restart::RestartPolicy;
use crate::pipeline::schedule::{Schedule, ScheduleText};
use crate::pipeline::{Engine, RuleState};

fn restarts(engine: &Engine, rule: &str) -> u64 {
    engine.rule_status(rule).unwrap().restarts
}

#[tokio::test(start_paused = true)]
async fn a_rule_that_panics_starts_again_and_the_others_do_not_notice() {
    let (bad, good) = (script("again_bad"), script("again_good"));
    let (bad_sink, good_sink) = (collected("again_rule"), collected("again_other"));
    let engine = engine();
    let rules = [rule("again_rule", "SELECT n FROM again_bad"), rule("again_other", "SELECT n FROM again_good")];
    engine.apply(&definitions([stream("again_bad"), stream("again_good")], rules));
    bad.rows([1]);
    good.rows([1]);
    until("the first rows", || bad_sink.numbers() == [1] && good_sink.numbers() == [1]).await;
    bad.play(Step::Panic);
    bad.rows([2]);
    until("the rule waits for its next start", || state(&engine, "again_rule") == RuleState::Restarting).await;
    let status = engine.rule_status("again_rule").unwrap();
    let expected = "stream again_bad: internal error: a source may break; starts again in ";
    assert!(message(&engine, "again_rule").starts_with(expected), "{}", message(&engine, "again_rule"));
    assert!(message(&engine, "again_rule").ends_with(" s, try 1 of 3"));
    assert!(status.next_start.is_some_and(|at| (START..START + 10_000).contains(&at)), "{:?}", status.next_start);
    good.rows([2]);
    until("the rows behind the failure", || bad_sink.numbers() == [1, 2] && good_sink.numbers() == [1, 2]).await;
    let status = engine.rule_status("again_rule").unwrap();
    assert_eq!((status.state, status.restarts, status.message), (RuleState::Running, 1, None));
    assert_eq!(restarts(&engine, "again_other"), 0);
    good.with(|state| assert_eq!(state.n_connected, 1));
    assert!(engine.stop(GRACE).await);
}

#[tokio::test(start_paused = true)]
async fn a_shared_stream_that_panics_comes_back_for_all_its_rules() {
    let source = script("both");
    let sinks = [collected("both_a"), collected("both_b")];
    let engine = engine();
    let rules = [rule("both_a", "SELECT n FROM both"), rule("both_b", "SELECT n, twice FROM both")];
    engine.apply(&definitions([shared("both")], rules));
    source.play(Step::Panic);
    until("both run again", || ["both_a", "both_b"].iter().all(|rule| restarts(&engine, rule) == 1)).await;
    source.rows([1]);
    until("the row", || sinks.iter().all(|sink| sink.numbers() == [1])).await;
    assert!(engine.stop(GRACE).await);
}

#[tokio::test(start_paused = true)]
async fn starts_in_a_row_are_limited_and_health_counts() {
    let source = script("limited");
    let _sink = collected("limited_rule");
    let mut rule = rule("limited_rule", "SELECT n FROM limited");
    rule.restart = RestartPolicy { attempts: 2, healthy_after: Duration::from_secs(60), ..RestartPolicy::default() };
    let engine = engine();
    engine.apply(&definitions([stream("limited")], [rule]));
    // Each time it is healthy for long enough before it fails: attempts are counted anew.
    for n in 1..=4 {
        tokio::time::sleep(Duration::from_secs(61)).await;
        source.play(Step::Panic);
        until("another start", || restarts(&engine, "limited_rule") == n).await;
    }
    source.play(Step::Panic);
    source.play(Step::Panic);
    until("it is given up", || state(&engine, "limited_rule") == RuleState::Failed).await;
    let expected = "stream limited: internal error: a source may break; given up after 2 more tries";
    assert_eq!(message(&engine, "limited_rule"), expected);
    assert_eq!(restarts(&engine, "limited_rule"), 5);
    engine.finished().await;
    assert!(engine.stop(GRACE).await);
}

#[tokio::test(start_paused = true)]
async fn a_stop_does_not_wait_for_a_start() {
    let source = script("waits");
    let _sink = collected("waits_rule");
    let engine = engine();
    engine.apply(&definitions([stream("waits")], [rule("waits_rule", "SELECT n FROM waits")]));
    source.play(Step::Panic);
    until("it waits", || state(&engine, "waits_rule") == RuleState::Restarting).await;
    assert!(engine.stop(GRACE).await);
    assert_eq!(state(&engine, "waits_rule"), RuleState::Failed);
}

#[tokio::test(start_paused = true)]
async fn an_edit_of_white_space_only_does_not_touch_the_rule() {
    let (source, sink) = (script("blank"), collected("blank_rule"));
    let version = |sql: &str, generation: i64| {
        let mut rule = rule("blank_rule", sql);
        rule.origin.generation = generation;
        definitions([stream("blank")], [rule])
    };
    let engine = engine();
    engine.apply(&version("SELECT n, count(*) AS c FROM blank GROUP BY COUNTWINDOW(3)", 1));
    source.rows([1, 2]);
    until("the rows are in the window", || engine.rule_status("blank_rule").unwrap().rows_in == 2).await;
    let edit = "SELECT n,\n  count(*) AS c -- how many\nFROM blank\nGROUP BY COUNTWINDOW(3)";
    assert_eq!(engine.apply(&version(edit, 2)).unchanged, ["blank_rule"]);
    source.rows([3]);
    until("the window is full", || !sink.numbers().is_empty()).await;
    let status = engine.rule_status("blank_rule").unwrap();
    assert_eq!((status.generation, status.wanted_generation), (2, 2), "the newest definition is the one that runs");
    assert!(engine.stop(GRACE).await);
}

#[tokio::test(start_paused = true)]
async fn a_slow_rule_hurts_others_on_its_stream_as_far_as_its_policy_says() {
    let all: Vec<i64> = (0..1000).collect();
    for policy in [Backpressure::DropOldest, Backpressure::DropNewest, Backpressure::Block] {
        let name = format!("slow_{policy:?}");
        let (slow_name, fast_name) = (format!("{name}_rule"), format!("{name}_other"));
        let (source, slow, fast) = (script(&name), blocked(&slow_name), collected(&fast_name));
        let mut slow_rule = rule(&slow_name, &format!("SELECT n FROM {name}"));
        slow_rule.backpressure = policy;
        let engine = engine();
        let other = rule(&fast_name, &format!("SELECT n FROM {name}"));
        engine.apply(&definitions([shared(&name)], [slow_rule, other]));
        for n in &all {
            source.rows([*n]);
        }
        tokio::time::sleep(Duration::from_secs(5)).await;
        let n_fast = fast.numbers().len();
        assert_eq!(n_fast == all.len(), policy != Backpressure::Block, "{policy:?}: {n_fast} rows");
        let status = engine.rule_status(&slow_name).unwrap();
        assert!(status.buffered_bytes > 0);
        assert!(status.full_channels.contains(&"collect_0".to_owned()), "{policy:?}: {:?}", status.full_channels);
        slow.open();
        until("the other rule has all rows", || fast.numbers() == all).await;
        source.play(Step::End);
        engine.finished().await;
        let status = engine.rule_status(&slow_name).unwrap();
        let by_part = [&status.rows_dropped, &status.sinks[0].dropped];
        let n_dropped: u64 = by_part.iter().filter_map(|dropped| dropped.get("overflow")).sum();
        let got = slow.numbers();
        assert_eq!(got.len() as u64 + n_dropped, 1000, "{policy:?}: every row is written or counted: {by_part:?}");
        assert!(got.is_sorted(), "{policy:?}");
        match policy {
            Backpressure::DropOldest => assert_eq!(got.last(), Some(&999), "the newest rows are kept"),
            Backpressure::DropNewest => assert_eq!(got[..4], all[..4], "the oldest rows are kept"),
            _ => assert_eq!(got, all),
        }
        assert!(engine.stop(GRACE).await);
    }
}

#[tokio::test(start_paused = true)]
async fn the_rule_that_keeps_most_fails_when_all_keep_too_much() {
    let source = script("kept");
    let (_large, small) = (collected("kept_large"), collected("kept_small"));
    let mut settings = settings();
    settings.state_bytes = Some(200_000);
    let engine = Engine::new(settings);
    let mut large = rule("kept_large", "SELECT n, lag(n) OVER (PARTITION BY n) AS l FROM kept");
    large.restart.attempts = 0;
    engine.apply(&definitions([shared("kept")], [large, rule("kept_small", "SELECT n, lag(n) AS l FROM kept")]));
    for first in (0..20_000).step_by(100) {
        source.rows(first..first + 100);
        until("the rows", || small.numbers().len() as i64 == first + 100).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(state(&engine, "kept_large"), RuleState::Failed);
    let message = message(&engine, "kept_large");
    assert!(message.contains("0.2 MiB is the limit (--state-memory)"), "{message}");
    let status = engine.rule_status("kept_large").unwrap();
    assert!((200_000..400_000).contains(&status.state_bytes), "{}", status.state_bytes);
    assert_eq!(state(&engine, "kept_small"), RuleState::Running);
    assert!(engine.rule_status("kept_small").unwrap().state_bytes < 1000);
    assert!(engine.stop(GRACE).await);
}

/// A rule that runs at the given times.
fn scheduled(name: &str, sql: &str, cron: &str, duration: Duration) -> RuleDef {
    let text = ScheduleText { cron: Some(cron.to_owned()), duration: Some(duration), ..ScheduleText::default() };
    RuleDef { schedule: Schedule::new(text).unwrap(), ..rule(name, sql) }
}

#[tokio::test(start_paused = true)]
async fn a_scheduled_rule_runs_at_its_times() {
    let (source, sink) = (script("timed"), collected("timed_rule"));
    let version = |cron: &str| {
        let rule = scheduled("timed_rule", "SELECT n FROM timed", cron, Duration::from_secs(600));
        definitions([stream("timed")], [rule])
    };
    let engine = engine();
    assert_eq!(engine.apply(&version("0 1 * * *")).scheduled, ["timed_rule"]);
    let status = engine.rule_status("timed_rule").unwrap();
    assert_eq!((status.state, status.next_start), (RuleState::Scheduled, Some(START + 3_600_000)));
    source.rows([1]);
    tokio::time::sleep(Duration::from_secs(3500)).await;
    source.with(|state| assert_eq!(state.n_connected, 0));
    tokio::time::sleep(Duration::from_secs(200)).await;
    assert_eq!((state(&engine, "timed_rule"), sink.numbers()), (RuleState::Running, vec![1]));
    tokio::time::sleep(Duration::from_secs(600)).await;
    let status = engine.rule_status("timed_rule").unwrap();
    assert_eq!((status.state, status.next_start), (RuleState::Scheduled, Some(START + 25 * 3_600_000)));
    source.with(|state| assert_eq!((state.n_connected, state.n_closed), (1, 1)));
    // Another day, and an edit of the schedule alone while it runs.
    source.rows([2]);
    tokio::time::sleep(Duration::from_secs(24 * 3600 - 300)).await;
    assert_eq!((state(&engine, "timed_rule"), sink.numbers()), (RuleState::Running, vec![1, 2]));
    assert_eq!(engine.apply(&version("*/5 * * * *")).unchanged, ["timed_rule"]);
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(state(&engine, "timed_rule"), RuleState::Running, "activations that overlap are one");
    source.with(|state| assert_eq!((state.n_connected, state.n_closed), (2, 1)));
    assert!(engine.stop(GRACE).await);
    assert_eq!(state(&engine, "timed_rule"), RuleState::Stopped);
}

#[tokio::test(start_paused = true)]
async fn a_scheduled_rule_with_a_mistake_is_refused_at_once() {
    let _sink = collected("timed_bad");
    let rule = scheduled("timed_bad", "SELECT n FRM nothing", "0 1 * * *", Duration::from_secs(60));
    let engine = engine();
    assert_eq!(engine.apply(&definitions([], [rule])).refused.len(), 1);
    assert_eq!(state(&engine, "timed_bad"), RuleState::Refused);
}
