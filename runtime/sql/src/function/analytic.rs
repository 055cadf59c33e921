//! Analytic functions: one value per row from the rows so far.

use std::collections::VecDeque;

use super::define::{arg, bool, ex, expected, gives};
use super::{AnalyticFunction, Body, EvalError, Function, Param};
use crate::expr::EvalContext;
use crate::value::coerce::{Strictness, to_float, to_int};
use crate::value::state::StateIo;
use crate::value::{Type, Value};

/// The functions of this file.
pub(super) fn functions() -> Vec<Function> {
    use Param::{Any, Bool, Int};
    const ROWS: &str = "{\"a\":1}\n{\"a\":3}\n{\"a\":2}";
    const SAME: &str = "{\"a\":1}\n{\"a\":1}";
    vec![
        Function::new("lag", &[Any, Int, Any, Bool], gives::first, Body::Analytic(|| Box::<Lag>::default()))
            .optional(3)
            .check(check_lag)
            .docs(
                "The value of so many (1) rows ago, or the default (null) while there are fewer. Rows that are not valid, and \
                 by default rows where the value is null, do not count.",
                &[ex!("lag(a)", ROWS, "3"), ex!("lag(a, 2)", ROWS, "1"), ex!("lag(a, 3, 0)", ROWS, "0")],
            ),
        Function::new("latest", &[Any, Any], gives::first, Body::Analytic(|| Box::<Latest>::default())).optional(1).docs(
            "The value, or if it is null the newest one that was not, or else the default.",
            &[ex!("latest(a)", "{\"a\":1}\n{\"a\":null}", "1"), ex!("latest(a, 5)", "{\"a\":null}", "5")],
        ),
        Function::new("changed_col", &[Bool, Any], second, Body::Analytic(|| Box::<ChangedCol>::default())).docs(
            "The value if it differs from the one before it, else null. With `true` nulls are passed over.",
            &[ex!("changed_col(true, a)", ROWS, "2"), ex!("changed_col(true, a)", SAME, "null")],
        ),
        Function::new("had_changed", &[Bool, Any], gives::bool, Body::Analytic(|| Box::<HadChanged>::default()))
            .variadic()
            .docs(
                "True if any of the values differs from the one before it. With `true` nulls are passed over.",
                &[ex!("had_changed(true, a)", ROWS, "true"), ex!("had_changed(true, a)", SAME, "false")],
            ),
        running("acc_count", gives::int, || Box::new(Running::new(count, Value::Int(0)))).docs(
            "How many values that are not null there were so far. With two conditions more: from a row where the first is \
             true to one where the second is.",
            &[ex!("acc_count(a)", ROWS, "3")],
        ),
        running("acc_sum", gives::float, || Box::new(Running::new(sum, Value::Float(0.0)))).docs(
            "The sum so far; nulls are passed over. With two conditions more: from a row where the first is true to one \
             where the second is.",
            &[ex!("acc_sum(a)", ROWS, "6"), ex!("acc_sum(a, a = 3, a = 2)", ROWS, "5")],
        ),
        running("acc_avg", gives::float, || Box::new(Running::new(average, Value::Float(0.0)))).docs(
            "The mean so far. With two conditions more: from a row where the first is true to one where the second is.",
            &[ex!("acc_avg(a)", ROWS, "2"), ex!("acc_avg(a)", "{\"a\":null}", "error")],
        ),
        running("acc_max", gives::float, || Box::new(Running::new(largest, Value::Float(0.0)))).docs(
            "The largest value so far. With two conditions more: from a row where the first is true to one where the second is.",
            &[ex!("acc_max(a)", ROWS, "3")],
        ),
        running("acc_min", gives::float, || Box::new(Running::new(smallest, Value::Float(0.0)))).docs(
            "The smallest value so far. With two conditions more: from a row where the first is true to one where the second is.",
            &[ex!("acc_min(a)", ROWS, "1")],
        ),
    ]
}

fn second(args: &[Type]) -> Type {
    args.get(1).cloned().unwrap_or_default()
}

fn check_lag(literals: &[Option<Value>]) -> Result<(), String> {
    match literals.get(1) {
        Some(Some(Value::Int(offset))) if *offset < 0 => {
            Err("lag can't look ahead: its offset must not be negative".into())
        }
        _ => Ok(()),
    }
}

#[derive(Default)]
struct Lag {
    /// Valid values, newest last, as many as the largest offset asked for.
    history: VecDeque<Value>,
}

impl AnalyticFunction for Lag {
    fn eval(&mut self, args: &[Value], valid: bool, _ctx: &mut EvalContext<'_>) -> Result<Value, EvalError> {
        let offset = match args.get(1) {
            None => 1,
            Some(offset) => {
                let int = to_int(offset, Strictness::Strict).and_then(|int| usize::try_from(int).ok());
                int.ok_or_else(|| expected("an offset: a whole number from 0", offset))?
            }
        };
        if offset == 0 {
            return Ok(Value::Null);
        }
        let default = arg(args, 2);
        let before = self.history.len().checked_sub(offset).and_then(|idx| self.history.get(idx));
        let result = before.unwrap_or(default).clone();
        let ignore_null = if args.len() > 3 { bool(args, 3)? } else { true };
        let value = arg(args, 0);
        if valid && !(ignore_null && value.is_null()) {
            if self.history.len() >= offset {
                self.history.pop_front();
            }
            self.history.push_back(value.clone());
        }
        Ok(if result.is_null() { Value::Null } else { result })
    }

    fn state(&mut self, io: &mut StateIo) {
        io.queue(&mut self.history, Value::default, StateIo::value);
    }
}

#[derive(Default)]
struct Latest(Option<Value>);

impl AnalyticFunction for Latest {
    fn eval(&mut self, args: &[Value], valid: bool, _ctx: &mut EvalContext<'_>) -> Result<Value, EvalError> {
        let value = arg(args, 0);
        if valid && !value.is_null() {
            self.0 = Some(value.clone());
        }
        Ok(match (&self.0, arg(args, 1)) {
            (Some(latest), _) => latest.clone(),
            (None, Value::Missing) => Value::Null,
            (None, default) => default.clone(),
        })
    }

    fn state(&mut self, io: &mut StateIo) {
        io.option(&mut self.0, StateIo::value);
    }
}

/// A value that is watched for changes.
#[derive(Default)]
pub(super) struct Watched(Option<Value>);

impl Watched {
    /// Writes or reads the value.
    pub fn state(&mut self, io: &mut StateIo) {
        io.option(&mut self.0, StateIo::value);
    }

    /// True if the value differs from the one before it, which it then replaces.
    pub fn changes(&mut self, value: &Value, ignore_null: bool) -> bool {
        if ignore_null && value.is_null() {
            return false;
        }
        let changes = self.0.as_ref().is_none_or(|before| !before.same_key(value));
        if changes {
            self.0 = Some(value.clone());
        }
        changes
    }
}

#[derive(Default)]
struct ChangedCol(Watched);

impl AnalyticFunction for ChangedCol {
    fn eval(&mut self, args: &[Value], valid: bool, _ctx: &mut EvalContext<'_>) -> Result<Value, EvalError> {
        let value = arg(args, 1);
        let changes = valid && self.0.changes(value, bool(args, 0)?);
        Ok(if changes && !value.is_null() { value.clone() } else { Value::Null })
    }

    fn state(&mut self, io: &mut StateIo) {
        self.0.state(io);
    }
}

#[derive(Default)]
struct HadChanged(Vec<Watched>);

impl AnalyticFunction for HadChanged {
    fn eval(&mut self, args: &[Value], valid: bool, _ctx: &mut EvalContext<'_>) -> Result<Value, EvalError> {
        let ignore_null = bool(args, 0)?;
        let values = args.get(1..).unwrap_or_default();
        self.0.resize_with(values.len(), Watched::default);
        let mut changed = false;
        if valid {
            for (watched, value) in self.0.iter_mut().zip(values) {
                changed |= watched.changes(value, ignore_null);
            }
        }
        Ok(Value::Bool(changed))
    }

    fn state(&mut self, io: &mut StateIo) {
        io.list(&mut self.0, Watched::default, |io, watched| watched.state(io));
    }
}

fn running(name: &'static str, returns: fn(&[Type]) -> Type, new: fn() -> Box<dyn AnalyticFunction>) -> Function {
    Function::new(name, &[Param::Any, Param::Bool, Param::Bool], returns, Body::Analytic(new)).optional(2)
}

/// Takes one value into the state.
type Step = fn(&mut State, &Value) -> Result<(), EvalError>;

/// What a running function knows.
#[derive(Default)]
struct State {
    n_values: i64,
    /// Sum, maximum or minimum.
    number: f64,
    /// What the function gives.
    value: Option<Value>,
}

struct Running {
    step: Step,
    /// The result before there is any value.
    nothing: Value,
    state: State,
    running: bool,
}

impl Running {
    fn new(step: Step, nothing: Value) -> Self {
        Running { step, nothing, state: State::default(), running: false }
    }
}

impl AnalyticFunction for Running {
    fn eval(&mut self, args: &[Value], valid: bool, _ctx: &mut EvalContext<'_>) -> Result<Value, EvalError> {
        let (begins, ends) = match args.len() {
            0 | 1 => (true, false),
            2 => return Err(EvalError::new("two conditions are needed: the one that begins and the one that ends")),
            _ => (bool(args, 1)?, bool(args, 2)?),
        };
        if !self.running {
            self.state = State::default();
            self.running = begins;
        }
        if self.running && valid {
            (self.step)(&mut self.state, arg(args, 0))?;
        }
        if ends {
            self.running = false;
        }
        Ok(self.state.value.clone().unwrap_or_else(|| self.nothing.clone()))
    }

    fn state(&mut self, io: &mut StateIo) {
        io.int(&mut self.state.n_values);
        io.float(&mut self.state.number);
        io.option(&mut self.state.value, StateIo::value);
        io.bool(&mut self.running);
    }
}

fn number(value: &Value) -> Result<f64, EvalError> {
    to_float(value, Strictness::SameKind).ok_or_else(|| expected("a number", value))
}

fn count(state: &mut State, value: &Value) -> Result<(), EvalError> {
    state.n_values += i64::from(!value.is_null());
    state.value = Some(Value::Int(state.n_values));
    Ok(())
}

fn sum(state: &mut State, value: &Value) -> Result<(), EvalError> {
    if !value.is_null() {
        state.number += number(value)?;
    }
    state.value = Some(Value::Float(state.number));
    Ok(())
}

fn average(state: &mut State, value: &Value) -> Result<(), EvalError> {
    state.number += number(value)?;
    state.n_values += 1;
    state.value = Some(Value::Float(state.number / state.n_values as f64));
    Ok(())
}

fn largest(state: &mut State, value: &Value) -> Result<(), EvalError> {
    extreme(state, value, f64::max)
}

fn smallest(state: &mut State, value: &Value) -> Result<(), EvalError> {
    extreme(state, value, f64::min)
}

fn extreme(state: &mut State, value: &Value, better: fn(f64, f64) -> f64) -> Result<(), EvalError> {
    let number = number(value)?;
    state.number = if state.value.is_none() { number } else { better(state.number, number) };
    state.value = Some(Value::Float(state.number));
    Ok(())
}
