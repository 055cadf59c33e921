//! Rules with functions that take long: nobody else has to wait for them.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use sluice_sql::expr::EvalContext;
use sluice_sql::function::{ArgFacts, Body, EvalError, ExternalFunction, Function, Param, StatefulFunction};
use sluice_sql::{Type, Value};

use super::doubles::{Step, collected, definitions, registry, rule, script, stream, until};
use super::durable::{durable, life_with};
use super::{dropped, state};
use crate::pipeline::{Engine, RuleState, Settings};
use crate::registry::Registry;

/// A function that holds its thread until the test lets it go; as one with a model does.
#[derive(Clone, Default)]
struct Held(Arc<(Mutex<usize>, Condvar)>);

impl Held {
    fn let_go(&self, n_calls: usize) {
        let (permits, changed) = &*self.0;
        *permits.lock().unwrap_or_else(PoisonError::into_inner) += n_calls;
        changed.notify_all();
    }
}

impl ExternalFunction for Held {
    fn check(&self, _args: &[ArgFacts]) -> Result<Type, String> {
        Ok(Type::Any)
    }

    fn start(&self) -> Box<dyn StatefulFunction> {
        Box::new(self.clone())
    }
}

impl StatefulFunction for Held {
    fn eval(&mut self, args: &[Value], _ctx: &mut EvalContext<'_>) -> Result<Value, EvalError> {
        let (permits, changed) = &*self.0;
        let permits = permits.lock().unwrap_or_else(PoisonError::into_inner);
        let mut permits = changed.wait_while(permits, |permits| *permits == 0).unwrap_or_else(PoisonError::into_inner);
        *permits -= 1;
        match args.first() {
            Some(Value::Int(13)) => Err(EvalError::new("13 is not looked at")),
            number => Ok(number.cloned().unwrap_or_default()),
        }
    }
}

fn registry_with(held: &Held) -> Registry {
    let mut registry = registry();
    let body = Body::External(Arc::new(held.clone()));
    registry.functions.extend([Function::new("held", &[Param::Any], |_| Type::Any, body)]);
    registry
}

fn engine(held: &Held) -> Engine {
    Engine::new(Settings::new(registry_with(held)))
}

/// One thread for all tasks: it must not be the one that is held.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn results_and_other_rules_go_on_while_a_function_takes_its_time() {
    let held = Held::default();
    let (source, sink) = (script("held"), collected("held_rule"));
    let (other_source, other_sink) = (script("not_held"), collected("not_held_rule"));
    let engine = engine(&held);
    let report = engine.apply(&definitions(
        [stream("held"), stream("not_held")],
        [rule("held_rule", "SELECT held(n) AS n FROM held"), rule("not_held_rule", "SELECT n FROM not_held")],
    ));
    assert_eq!(report.refused, []);
    source.rows([1, 13, 3, 4]);
    other_source.rows([7]);
    until("the other rule's row", || other_sink.numbers() == [7]).await;
    assert_eq!(sink.numbers(), [] as [i64; 0]);
    // One row's result is out while the next one of the same batch is still being computed.
    held.let_go(1);
    until("the first row", || sink.numbers() == [1]).await;
    held.let_go(2);
    until("the third row", || sink.numbers() == [1, 3]).await;
    let status = engine.rule_status("held_rule").unwrap();
    assert_eq!((status.rows_in, status.rows_out, status.rows_failed), (4, 2, 1));
    assert!(status.last_error.unwrap().message.contains("13 is not looked at"));
    held.let_go(1);
    source.play(Step::End);
    other_source.play(Step::End);
    engine.finished().await;
    assert_eq!(sink.numbers(), [1, 3, 4]);
    assert_eq!(state(&engine, "held_rule"), RuleState::Done);
}

/// What a rule that is cut short has taken from its input and not computed yet is counted.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn rows_that_are_not_computed_at_the_end_of_the_grace_period_are_counted() {
    let held = Held::default();
    let (source, sink) = (script("held_short"), collected("held_short_rule"));
    let engine = engine(&held);
    engine
        .apply(&definitions([stream("held_short")], [rule("held_short_rule", "SELECT held(n) AS n FROM held_short")]));
    source.rows(0..10);
    held.let_go(2);
    until("two rows", || sink.numbers() == [0, 1]).await;
    // The third row is in the function's hands, and it does not come back before the rule is cut short.
    assert!(!engine.stop(Duration::ZERO).await);
    held.let_go(1);
    until("the rest to be counted", || dropped(&engine, "held_short_rule") >= 7).await;
}

/// A rule with `qos` 2 gives its results one by one too, and what a crash finds half computed is computed again.
#[test]
fn a_crash_between_two_rows_of_a_batch_loses_none() {
    let dir = tempfile::tempdir().unwrap();
    let held = Held::default();
    let (source, sink) = (script("held_crash"), collected("held_crash_rule"));
    let sql = "SELECT held(n) AS n FROM held_crash";
    let definitions = definitions([stream("held_crash")], [durable(rule("held_crash_rule", sql))]);
    life_with(registry_with(&held), dir.path(), &definitions, async |_| {
        source.rows([1, 2, 3]);
        held.let_go(1);
        until("the first row", || sink.numbers() == [1]).await;
    });
    held.let_go(100);
    life_with(registry_with(&held), dir.path(), &definitions, async |_| {
        source.rows([4]);
        until("the last row", || sink.numbers().contains(&4)).await;
    });
    let mut seen = sink.numbers();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen, [1, 2, 3, 4]);
}
