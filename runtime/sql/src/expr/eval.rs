//! The walk over the tree.

use std::borrow::Cow;

use smol_str::SmolStr;

use super::{Call, Case, EvalContext, Expr, ExprKind, access, compare, operator};
use crate::function::{ContextFn, EvalError, NullPolicy, StatefulFunction};
use crate::sql::Span;
use crate::value::{Object, Row, Value};

/// Why an expression has no value for a row, and which part of it.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    /// What went wrong.
    pub error: EvalError,
    /// The part that failed.
    pub span: Span,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}: {}", self.span.line, self.span.column, self.error)
    }
}

/// Boxed: failures are rare, and the good case must stay small.
pub(crate) type Outcome<T> = Result<T, Box<Failure>>;

/// What may be read: the row, and what the same select list has computed so far.
#[derive(Clone, Copy)]
pub(crate) struct Fields<'a> {
    /// The row's slots.
    pub values: &'a [Value],
    /// The slots of a row that it is joined with, and the place of the first of them.
    pub joined: (&'a [Value], usize),
    /// Select items before this one.
    pub items: &'a [Value],
}

static MISSING: Value = Value::Missing;

impl<'a> Fields<'a> {
    /// A row, outside of a select list.
    #[inline]
    pub fn of(row: &'a Row) -> Self {
        Fields { values: &row.values, joined: (&[], 0), items: &[] }
    }

    /// A row and the one that it is joined with, whose slots begin at `first_slot`.
    pub fn joined(row: &'a Row, found: &'a Row, first_slot: usize) -> Self {
        Fields { values: &row.values, joined: (&found.values, first_slot), items: &[] }
    }

    #[inline]
    fn slot(self, slot: usize) -> &'a Value {
        let (joined, first_slot) = self.joined;
        self.values.get(slot).or_else(|| joined.get(slot.checked_sub(first_slot)?)).unwrap_or(&MISSING)
    }
}

/// The surroundings of an evaluation, with the state of stateful functions.
pub(crate) struct Scope<'a> {
    /// What functions see.
    pub ctx: EvalContext<'a>,
    /// One per call site of a stateful function.
    pub states: &'a mut [Box<dyn StatefulFunction>],
    /// Inside of a condition that counts its hits.
    pub peeking: bool,
}

/// One side of `AND` and `OR`.
#[derive(Clone, Copy)]
enum Truth {
    Bool(bool),
    Null,
    Other(&'static str),
}

/// `5` with `"x"`: attaches the place to an operator's error.
fn at<T>(result: Result<T, EvalError>, span: Span) -> Outcome<T> {
    result.map_err(|error| Box::new(Failure { error, span }))
}

impl Expr {
    /// The value for a row.
    pub fn eval<'a>(&'a self, fields: Fields<'a>, scope: &mut Scope<'_>) -> Outcome<Cow<'a, Value>> {
        if let Some(value) = self.leaf(fields) {
            return Ok(Cow::Borrowed(value));
        }
        let span = self.span;
        Ok(Cow::Owned(match &self.kind {
            ExprKind::Const(_) | ExprKind::Slot(_) | ExprKind::Item(_) => Value::Missing,
            ExprKind::FirstOf(parts) => {
                for part in parts {
                    let value = part.eval(fields, scope)?;
                    if !matches!(*value, Value::Missing) {
                        return Ok(value);
                    }
                }
                Value::Missing
            }
            ExprKind::Member(operand, name) => return self.member(operand, name, fields, scope),
            ExprKind::Index(operand, index) => {
                let operand = operand.eval(fields, scope)?;
                let index = index.eval(fields, scope)?;
                at(access::index(&operand, &index), span)?
            }
            ExprKind::Slice(operand, from, to) => {
                let operand = operand.eval(fields, scope)?;
                let from = from.as_ref().map(|from| from.eval(fields, scope)).transpose()?;
                let to = to.as_ref().map(|to| to.eval(fields, scope)).transpose()?;
                at(access::slice(&operand, from.as_deref(), to.as_deref()), span)?
            }
            ExprKind::Except(operand, names) => match operand.eval(fields, scope)?.to_object() {
                Some(object) => {
                    let kept = object.iter().filter(|(name, _)| !names.contains(name));
                    Value::Object(kept.map(|(name, value)| (name.clone(), value.clone())).collect::<Object>().into())
                }
                None => Value::Missing,
            },
            ExprKind::Row(parts) => Value::Object(row_object(parts, fields, scope)?.into()),
            ExprKind::Not(operand) => match &*operand.eval(fields, scope)? {
                Value::Bool(value) => Value::Bool(!value),
                value if value.is_null() => Value::Bool(false),
                value => return at(Err(EvalError::new(format!("NOT of a {}", value.kind_name()))), span),
            },
            ExprKind::Minus(operand) => at(operator::minus(&*operand.eval(fields, scope)?), span)?,
            ExprKind::Arithmetic(arithmetic, parts) => {
                let [left, right] = &**parts;
                let (left, right) = (left.eval(fields, scope)?, right.eval(fields, scope)?);
                at(operator::arithmetic(*arithmetic, &left, &right), span)?
            }
            ExprKind::Bits(op, parts) => {
                let [left, right] = &**parts;
                let (left, right) = (left.eval(fields, scope)?, right.eval(fields, scope)?);
                at(operator::bits(*op, &left, &right), span)?
            }
            ExprKind::Concat(parts) => {
                let [left, right] = &**parts;
                let (left, right) = (left.eval(fields, scope)?, right.eval(fields, scope)?);
                at(operator::concat(&left, &right), span)?
            }
            ExprKind::Stateful(state, call) => return self.stateful(*state, call, fields, scope),
            ExprKind::Call(call) => return self.call(call, fields, scope),
            ExprKind::Case(case) => return self.case(case, fields, scope),
            ExprKind::Hits(condition, states) => Value::Bool(hits(condition, states, fields, scope)?),
            ExprKind::Context(function) => context(*function, scope),
            ExprKind::AsFloat(operand) => {
                let value = operand.eval(fields, scope)?;
                return Ok(match *value {
                    Value::Int(int) => Cow::Owned(Value::Float(int as f64)),
                    Value::Uint(uint) => Cow::Owned(Value::Float(uint as f64)),
                    _ => value,
                });
            }
            ExprKind::Compare(..)
            | ExprKind::And(_)
            | ExprKind::Or(_)
            | ExprKind::InList(..)
            | ExprKind::InArray(..)
            | ExprKind::Between(..)
            | ExprKind::Like(..)
            | ExprKind::LikeDynamic(..)
            | ExprKind::IsNull(..) => Value::Bool(self.condition(fields, scope)?),
        }))
    }

    /// True if the condition holds; null counts as false, anything but a boolean is an error.
    #[inline]
    pub fn test(&self, fields: Fields<'_>, scope: &mut Scope<'_>) -> Outcome<bool> {
        match &self.kind {
            ExprKind::Compare(..) | ExprKind::And(_) => self.condition(fields, scope),
            _ => match &*self.eval(fields, scope)? {
                Value::Bool(value) => Ok(*value),
                value if value.is_null() => Ok(false),
                value => {
                    let message = format!("the condition is a {}, not a boolean", value.kind_name());
                    at(Err(EvalError::new(message)), self.span)
                }
            },
        }
    }

    /// The places of the rows on which the condition holds. False if that takes more than comparing columns and constants that
    /// can be compared; `selected` means nothing then.
    pub fn select(&self, rows: &[Row], selected: &mut Vec<u32>) -> bool {
        selected.clear();
        selected.extend(0..rows.len() as u32);
        match &self.kind {
            ExprKind::And(parts) => parts.iter().all(|part| part.narrow(rows, selected)),
            _ => self.narrow(rows, selected),
        }
    }

    /// Keeps the places of the rows on which a comparison holds.
    fn narrow(&self, rows: &[Row], selected: &mut Vec<u32>) -> bool {
        let ExprKind::Compare(comparison, parts) = &self.kind else { return false };
        let [left, right] = &**parts;
        let mut is_plain = true;
        let mut holds = |left: Option<&Value>, right: Option<&Value>| {
            let holds = left.zip(right).and_then(|(left, right)| compare::compare_plain(*comparison, left, right));
            is_plain &= holds.is_some();
            holds.unwrap_or_default()
        };
        match (&left.kind, &right.kind) {
            (ExprKind::Slot(slot), ExprKind::Const(limit)) => {
                selected.retain(|row_idx| holds(rows[*row_idx as usize].values.get(*slot), Some(limit)));
            }
            _ => selected.retain(|row_idx| {
                let fields = Fields::of(&rows[*row_idx as usize]);
                holds(left.leaf(fields), right.leaf(fields))
            }),
        }
        is_plain
    }

    /// The value without computing anything, if it is a constant, a slot or an item.
    #[inline]
    fn leaf<'a>(&'a self, fields: Fields<'a>) -> Option<&'a Value> {
        match &self.kind {
            ExprKind::Slot(slot) => Some(fields.slot(*slot)),
            ExprKind::Const(value) => Some(value),
            ExprKind::Item(item) => Some(fields.items.get(*item).unwrap_or(&MISSING)),
            _ => None,
        }
    }

    /// The operators that give a boolean, without a [`Value`] around it.
    #[inline]
    fn condition(&self, fields: Fields<'_>, scope: &mut Scope<'_>) -> Outcome<bool> {
        let span = self.span;
        match &self.kind {
            ExprKind::Compare(comparison, parts) => {
                let [left, right] = &**parts;
                if let (Some(left), Some(right)) = (left.leaf(fields), right.leaf(fields)) {
                    return at(compare::compare(*comparison, left, right, scope.ctx.rule), span);
                }
                let (left, right) = (left.eval(fields, scope)?, right.eval(fields, scope)?);
                at(compare::compare(*comparison, &left, &right, scope.ctx.rule), span)
            }
            ExprKind::And(parts) => self.connect(parts, false, fields, scope),
            ExprKind::Or(parts) => self.connect(parts, true, fields, scope),
            ExprKind::InList(operand, list, negated) => {
                let operand = operand.eval(fields, scope)?;
                let mut found = false;
                for element in list {
                    let element = element.eval(fields, scope)?;
                    if !found && !operand.is_null() && !element.is_null() {
                        found = at(compare::equal(&operand, &element, scope.ctx.rule), span)?;
                    }
                }
                Ok(!operand.is_null() && found != *negated)
            }
            ExprKind::InArray(parts, negated) => {
                let [operand, array] = &**parts;
                let (operand, array) = (operand.eval(fields, scope)?, array.eval(fields, scope)?);
                match &*array {
                    array if array.is_null() => Ok(*negated),
                    _ if operand.is_null() => Ok(false),
                    Value::Array(elements) => {
                        for element in elements.iter().filter(|element| !element.is_null()) {
                            if at(compare::equal(&operand, element, scope.ctx.rule), span)? {
                                return Ok(!negated);
                            }
                        }
                        Ok(*negated)
                    }
                    other => at(Err(EvalError::new(format!("IN a {}, not an array", other.kind_name()))), span),
                }
            }
            ExprKind::Between(parts, negated) => {
                let [operand, low, high] = &**parts;
                let operand = operand.eval(fields, scope)?;
                let (low, high) = (low.eval(fields, scope)?, high.eval(fields, scope)?);
                if operand.is_null() || low.is_null() || high.is_null() {
                    return Ok(false);
                }
                let rule = &*scope.ctx.rule;
                let above = at(compare::compare(super::Comparison::GtEq, &operand, &low, rule), span)?;
                let below = at(compare::compare(super::Comparison::LtEq, &operand, &high, rule), span)?;
                Ok((above && below) != *negated)
            }
            ExprKind::Like(operand, pattern, negated) => match &*operand.eval(fields, scope)? {
                Value::String(text) => Ok(pattern.matches(text) != *negated),
                other => at(Err(EvalError::new(format!("LIKE on a {}, not a string", other.kind_name()))), span),
            },
            ExprKind::LikeDynamic(parts, negated) => {
                let [operand, pattern] = &**parts;
                match (&*operand.eval(fields, scope)?, &*pattern.eval(fields, scope)?) {
                    (Value::String(text), Value::String(pattern)) => {
                        Ok(super::LikePattern::new(pattern).matches(text) != *negated)
                    }
                    (Value::String(_), other) => {
                        let message = format!("LIKE with a {} as pattern, not a string", other.kind_name());
                        at(Err(EvalError::new(message)), span)
                    }
                    (other, _) => {
                        at(Err(EvalError::new(format!("LIKE on a {}, not a string", other.kind_name()))), span)
                    }
                }
            }
            ExprKind::IsNull(operand, negated) => Ok(operand.eval(fields, scope)?.is_null() != *negated),
            _ => self.test(fields, scope),
        }
    }

    /// `AND` (which `false` decides) and `OR` (which `true` decides), from left to right. With null on either side both are
    /// false.
    fn connect(&self, parts: &[Expr], decides: bool, fields: Fields<'_>, scope: &mut Scope<'_>) -> Outcome<bool> {
        let mut left: Option<Truth> = None;
        for part in parts {
            let right = match &part.kind {
                ExprKind::Compare(..) | ExprKind::And(_) | ExprKind::Or(_) => {
                    Truth::Bool(part.condition(fields, scope)?)
                }
                _ => match &*part.eval(fields, scope)? {
                    Value::Bool(value) => Truth::Bool(*value),
                    value if value.is_null() => Truth::Null,
                    value => Truth::Other(value.kind_name()),
                },
            };
            let both = match (left, right) {
                (None, right) => right,
                (Some(Truth::Bool(left)), Truth::Bool(right)) => {
                    Truth::Bool(if decides { left || right } else { left && right })
                }
                (Some(Truth::Null), _) | (_, Truth::Null) => Truth::Bool(false),
                (Some(Truth::Other(kind)), _) | (_, Truth::Other(kind)) => {
                    let word = if decides { "OR" } else { "AND" };
                    return at(Err(EvalError::new(format!("{word} with a {kind}, not a boolean"))), part.span);
                }
            };
            if matches!(both, Truth::Bool(value) if value == decides) {
                return Ok(decides);
            }
            left = Some(both);
        }
        Ok(matches!(left, Some(Truth::Bool(true))))
    }

    fn member<'a>(
        &'a self,
        operand: &'a Expr,
        name: &str,
        fields: Fields<'a>,
        scope: &mut Scope<'_>,
    ) -> Outcome<Cow<'a, Value>> {
        match operand.eval(fields, scope)? {
            Cow::Borrowed(Value::Object(object)) => Ok(Cow::Borrowed(object.get(name).unwrap_or(&MISSING))),
            value => Ok(Cow::Owned(at(access::member(&value, name), self.span)?)),
        }
    }

    fn case<'a>(&'a self, case: &'a Case, fields: Fields<'a>, scope: &mut Scope<'_>) -> Outcome<Cow<'a, Value>> {
        let operand = case.operand.as_ref().map(|operand| operand.eval(fields, scope)).transpose()?;
        for (when, then) in &case.branches {
            let condition = when.eval(fields, scope)?;
            let chosen = match &operand {
                Some(operand) => at(compare::equal(operand, &condition, scope.ctx.rule), when.span)?,
                None => matches!(*condition, Value::Bool(true)),
            };
            if chosen {
                return then.eval(fields, scope);
            }
        }
        match &case.otherwise {
            Some(otherwise) => otherwise.eval(fields, scope),
            None => Ok(Cow::Owned(Value::Null)),
        }
    }

    fn call<'a>(&'a self, call: &Call, fields: Fields<'_>, scope: &mut Scope<'_>) -> Outcome<Cow<'a, Value>> {
        let value =
            with_args(&call.args, fields, scope, |args, scope| match (null_result(call.null, args), call.body) {
                (Some(value), _) => Ok(value),
                (None, Some(body)) => at(body(args, &mut scope.ctx), self.span),
                (None, None) => Ok(Value::Null),
            })?;
        Ok(Cow::Owned(value?))
    }

    fn stateful<'a>(
        &'a self,
        state: usize,
        call: &Call,
        fields: Fields<'_>,
        scope: &mut Scope<'_>,
    ) -> Outcome<Cow<'a, Value>> {
        let args = eval_args(&call.args, fields, scope)?;
        if let Some(value) = null_result(call.null, &args) {
            return Ok(Cow::Owned(value));
        }
        let peeking = scope.peeking;
        match scope.states.get_mut(state) {
            Some(state) if let Some(value) = state.peek().filter(|_| peeking) => Ok(Cow::Owned(value)),
            Some(state) => Ok(Cow::Owned(at(state.eval(&args, &mut scope.ctx), self.span)?)),
            None => Ok(Cow::Owned(Value::Null)),
        }
    }
}

/// The arguments of a call, as its body takes them.
pub(crate) fn eval_args(args: &[Expr], fields: Fields<'_>, scope: &mut Scope<'_>) -> Outcome<Args> {
    let mut values = Args::default();
    for arg in args {
        values.push(arg.eval(fields, scope)?.into_owned());
    }
    Ok(values)
}

/// Calls `take` with the arguments of a call; a single one is not copied.
#[inline]
pub(crate) fn with_args<R>(
    args: &[Expr],
    fields: Fields<'_>,
    scope: &mut Scope<'_>,
    take: impl FnOnce(&[Value], &mut Scope<'_>) -> R,
) -> Outcome<R> {
    match args {
        [] => Ok(take(&[], scope)),
        [arg] => match arg.leaf(fields) {
            Some(value) => Ok(take(std::slice::from_ref(value), scope)),
            None => {
                let value = arg.eval(fields, scope)?;
                Ok(take(std::slice::from_ref(&*value), scope))
            }
        },
        args => {
            let values = eval_args(args, fields, scope)?;
            Ok(take(&values, scope))
        }
    }
}

/// Argument values: up to three without a heap allocation.
#[derive(Default)]
pub(crate) struct Args {
    inline: [Value; 3],
    n_inline: usize,
    heap: Vec<Value>,
}

impl Args {
    /// Adds a value behind the others.
    pub fn push(&mut self, value: Value) {
        match self.inline.get_mut(self.n_inline) {
            Some(place) if self.heap.is_empty() => {
                *place = value;
                self.n_inline += 1;
            }
            _ => {
                if self.heap.is_empty() {
                    self.heap.extend(self.inline.iter_mut().map(std::mem::take));
                }
                self.heap.push(value);
            }
        }
    }
}

impl std::ops::Deref for Args {
    type Target = [Value];

    fn deref(&self) -> &[Value] {
        if self.heap.is_empty() { &self.inline[..self.n_inline] } else { &self.heap }
    }
}

/// What the null policy makes of the arguments; `None` if the body decides.
pub(crate) fn null_result(policy: NullPolicy, args: &[Value]) -> Option<Value> {
    let result = match policy {
        NullPolicy::Body => return None,
        NullPolicy::Null => Value::Null,
        NullPolicy::False => Value::Bool(false),
        NullPolicy::Zero => Value::Int(0),
    };
    let counts_as_null = |value: &Value| match value {
        Value::Array(elements) => elements.is_empty(),
        Value::Object(object) => object.is_empty(),
        value => value.is_null(),
    };
    args.iter().any(counts_as_null).then_some(result)
}

fn hits(condition: &Expr, states: &[usize], fields: Fields<'_>, scope: &mut Scope<'_>) -> Outcome<bool> {
    scope.peeking = true;
    let holds = condition.test(fields, scope);
    scope.peeking = false;
    if matches!(holds, Ok(true)) {
        for state in states {
            if let Some(state) = scope.states.get_mut(*state) {
                at(state.eval(&[], &mut scope.ctx), condition.span)?;
            }
        }
    }
    holds
}

fn context(function: ContextFn, scope: &Scope<'_>) -> Value {
    let range = scope.ctx.window;
    let window = match function {
        ContextFn::EventTime => return Value::Int(scope.ctx.event_time),
        ContextFn::WindowStart => range.map(|range| range.start),
        ContextFn::WindowEnd => range.map(|range| range.end),
        ContextFn::WindowTrigger => range.map(|range| range.trigger),
        // Bound to a slot by the planner.
        ContextFn::Meta => None,
    };
    window.map_or(Value::Null, Value::Int)
}

fn row_object(parts: &[(Option<SmolStr>, Expr)], fields: Fields<'_>, scope: &mut Scope<'_>) -> Outcome<Object> {
    let mut object = Object::with_capacity(parts.len());
    for (name, part) in parts {
        let value = part.eval(fields, scope)?;
        match name {
            Some(name) => {
                if !matches!(*value, Value::Missing) {
                    object.insert(name.clone(), value.into_owned());
                }
            }
            None => {
                for (name, value) in value.to_object().iter().flat_map(|object| object.iter()) {
                    if object.get(name).is_none() {
                        object.insert(name.clone(), value.clone());
                    }
                }
            }
        }
    }
    Ok(object)
}
