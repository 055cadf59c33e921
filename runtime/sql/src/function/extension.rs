//! Functions that elsewhere come as plugins.

use super::aggregate::{Fold, PerGroup};
use super::define::{arg, ex, gives, string};
use super::{Body, EvalError, Function, Param, StatefulFunction};
use crate::expr::EvalContext;
use crate::value::Value;
use crate::value::state::StateIo;

/// The functions of this file.
pub(super) fn functions() -> Vec<Function> {
    use Param::{Any, String, StringLiteral};
    vec![
        Function::scalar("echo", &[Any], gives::first, |args, _| Ok(arg(args, 0).clone()))
            .docs("The value itself.", &[ex!("echo(a)", r#"{"a":1}"#, "1")]),
        Function::aggregate("countplusone", &[Any], gives::int, PerGroup::<CountPlusOne>::boxed)
            .docs("The number of rows, and one more.", &[ex!("countPlusOne(a)", "{\"a\":1}\n{}", "3")]),
        Function::new(
            "accumulatewordcount",
            &[String, StringLiteral],
            gives::int,
            Body::Stateful(|| Box::<WordCount>::default()),
        )
        .docs(
            "The number of words so far, with the separator between them.",
            &[ex!("accumulateWordCount(a, ' ')", "{\"a\":\"x y\"}\n{\"a\":\"z\"}", "3")],
        ),
    ]
}

#[derive(Clone, Default)]
struct CountPlusOne(i64);

impl Fold for CountPlusOne {
    fn add(&mut self, _args: &[Value]) -> Result<(), EvalError> {
        self.0 += 1;
        Ok(())
    }

    fn join(&mut self, later: &Self) -> Result<bool, EvalError> {
        self.0 += later.0;
        Ok(true)
    }

    fn value(&self) -> Result<Value, EvalError> {
        Ok(Value::Int(self.0 + 1))
    }

    fn state(&mut self, io: &mut StateIo) {
        io.int(&mut self.0);
    }
}

#[derive(Default)]
struct WordCount(i64);

impl StatefulFunction for WordCount {
    fn eval(&mut self, args: &[Value], _ctx: &mut EvalContext<'_>) -> Result<Value, EvalError> {
        let (text, separator) = (string(args, 0)?, string(args, 1)?);
        self.0 += match separator.is_empty() {
            true => text.chars().count() as i64,
            false => text.split(separator).count() as i64,
        };
        Ok(Value::Int(self.0))
    }

    fn state(&mut self, io: &mut StateIo) {
        io.int(&mut self.0);
    }
}
