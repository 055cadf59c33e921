//! What surrounds a row: its window, its time, its message, its rule.

use super::NullPolicy::Null;
use super::define::{arg, ex, gives, string, text};
use super::transform::{cast, no_type};
use super::{Body, ContextFn, EvalError, Function, Param, StatefulFunction};
use crate::expr::EvalContext;
use crate::value::Value;
use crate::value::coerce::type_called;
use crate::value::state::StateIo;

/// The functions of this file.
pub(super) fn functions() -> Vec<Function> {
    let context = |name, function| Function::new(name, &[], gives::int, Body::Context(function)).volatile();
    vec![
        context("window_start", ContextFn::WindowStart)
            .docs("The start of the window, in milliseconds since 1970; null without a window.", &[]),
        context("window_end", ContextFn::WindowEnd)
            .docs("The end of the window, in milliseconds since 1970; null without a window.", &[]),
        context("window_trigger", ContextFn::WindowTrigger)
            .docs("The time that made the window fire, in milliseconds since 1970; null without a window.", &[]),
        context("event_time", ContextFn::EventTime).docs("The time of the row, in milliseconds since 1970.", &[]),
        Function::new("meta", &[Param::Any], gives::any, Body::Context(ContextFn::Meta)).star().volatile().docs(
            "What the connector knows of the row's message: `meta(topic)`, `meta(source.key)`, `meta(key->member)`; \
             `meta(*)` is all of it.",
            &[],
        ),
        Function::new("mqtt", &[Param::Any], gives::any, Body::Context(ContextFn::Meta))
            .volatile()
            .docs("As `meta`: `mqtt(topic)`, `mqtt(messageid)`.", &[]),
        Function::scalar("rule_id", &[], gives::string, |_, ctx| Ok(Value::String(ctx.rule.rule_id.clone())))
            .volatile()
            .docs("The rule's name.", &[ex!("rule_id()", "{}", "\"rule1\"")]),
        Function::scalar("rule_start", &[], gives::int, |_, ctx| Ok(Value::Int(ctx.rule.rule_start)))
            .volatile()
            .docs("The time when the rule started, in milliseconds since 1970.", &[ex!("rule_start()", "{}", "1700000000000")]),
        Function::scalar("props", &[Param::String], gives::string, |args, ctx| {
            let name = text(args, 0);
            (ctx.rule.props)(&name).map(Value::String).ok_or_else(|| EvalError(format!("there is no property {name:?}")))
        })
        .null(Null)
        .volatile()
        .docs("A property of the runtime.", &[ex!("props('site')", "{}", "\"north\""), ex!("props('x')", "{}", "error")]),
        hits("last_hit_count", count).docs(
            "How often the condition in which it stands was true before; elsewhere, how often it was asked before.",
            &[ex!("last_hit_count()", "{}\n{}\n{}", "2")],
        ),
        hits("last_hit_time", time).docs(
            "The time of the row for which the condition in which it stands was last true; 0 at first.",
            &[ex!("last_hit_time()", "{}", "0")],
        ),
        hits("last_agg_hit_count", count)
            .docs("As `last_hit_count`, in `HAVING`.", &[ex!("last_agg_hit_count()", "{}\n{}", "1")]),
        hits("last_agg_hit_time", time).docs("As `last_hit_time`, in `HAVING`.", &[ex!("last_agg_hit_time()", "{}", "0")]),
        Function::scalar("get_keyed_state", &[Param::String, Param::StringLiteral, Param::Any], gives::any, keyed_state)
            .looks_up("keyed_state")
            .check(|literals| match literals.get(1) {
                Some(Some(Value::String(name))) if type_called(name).is_none() => Err(no_type(name)),
                _ => Ok(()),
            })
            .docs(
                "What is kept outside of the rules under a key, as a value of the type, or the default where there is nothing. \
                 It is looked up in the lookup table that is called `keyed_state`, of any kind, by its column `key`; the result \
                 is its column `value`. For texts in Redis that is a table of type `redis` with `dataType: text`. The key \
                 can't come from an aggregate.",
                &[],
            ),
    ]
}

/// The last argument is what was found.
fn keyed_state(args: &[Value], ctx: &mut EvalContext<'_>) -> Result<Value, EvalError> {
    string(args, 0)?;
    match arg(args, 3) {
        found if found.is_null() => Ok(arg(args, 2).clone()),
        found => cast(&[found.clone(), arg(args, 1).clone()], ctx),
    }
}

fn hits(name: &'static str, new: fn() -> Box<dyn StatefulFunction>) -> Function {
    Function::new(name, &[], gives::int, Body::Stateful(new)).volatile()
}

fn count() -> Box<dyn StatefulFunction> {
    Box::new(Hits { value: 0, next: |value, _| value + 1 })
}

fn time() -> Box<dyn StatefulFunction> {
    Box::new(Hits { value: 0, next: |_, ctx| ctx.window.map_or(ctx.event_time, |window| window.end) })
}

/// A number that moves on when a condition that reads it has become true.
struct Hits {
    value: i64,
    next: fn(i64, &EvalContext<'_>) -> i64,
}

impl StatefulFunction for Hits {
    fn eval(&mut self, _args: &[Value], ctx: &mut EvalContext<'_>) -> Result<Value, EvalError> {
        let next = (self.next)(self.value, ctx);
        Ok(Value::Int(std::mem::replace(&mut self.value, next)))
    }

    fn peek(&self) -> Option<Value> {
        Some(Value::Int(self.value))
    }

    fn state(&mut self, io: &mut StateIo) {
        io.int(&mut self.value);
    }
}
