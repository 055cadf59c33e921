//! Aggregates: one value per group of rows.

use std::any::Any;
use std::cmp::Ordering;

use hashbrown::HashSet;

use super::define::{arg, array_value, bool, ex, expected, gives, object_value};
use super::{Accumulators, EvalError, Function, NullPolicy, Param};
use crate::expr::sort_order;
use crate::value::coerce;
use crate::value::state::StateIo;
use crate::value::{Object, Value};

/// The aggregates of this file.
pub(super) fn functions() -> Vec<Function> {
    const NUMBERS: &str = "{\"a\":1}\n{\"a\":2.5}\n{\"a\":null}";
    vec![
        Function::aggregate("count", &[Param::Any], gives::int, PerGroup::<Count>::boxed)
            .star()
            .null(NullPolicy::Zero)
            .docs(
                "The number of values that are not null; `count(*)` counts rows.",
                &[ex!("count(a)", NUMBERS, "2"), ex!("count(*)", NUMBERS, "3")],
            ),
        Function::aggregate("sum", &[Param::Number], gives::number, PerGroup::<Sum>::boxed).floats().docs(
            "The sum of the values that are not null: a `bigint` if all are, else a `float`. Integers wrap.",
            &[
                ex!("sum(a)", NUMBERS, "3.5"),
                ex!("sum(a)", "{\"a\":null}", "null"),
                ex!("sum(a)", "{\"a\":\"x\"}", "error"),
            ],
        ),
        Function::aggregate("avg", &[Param::Number], gives::number, PerGroup::<Average>::boxed).floats().docs(
            "The mean of the values that are not null. Over a `bigint` column it is a `bigint`, its fraction cut off; \
             over everything else a `float`.",
            &[ex!("avg(a)", NUMBERS, "1.75")],
        ),
        Function::aggregate("max", &[Param::Any], gives::first, || PerGroup::like(Extreme::new(Ordering::Greater)))
            .docs(
                "The largest value that is not null. Numbers compare as numbers, strings byte by byte.",
                &[ex!("max(a)", NUMBERS, "2.5"), ex!("max(a)", "{\"a\":\"b\"}\n{\"a\":\"a\"}", "\"b\"")],
            ),
        Function::aggregate("min", &[Param::Any], gives::first, || PerGroup::like(Extreme::new(Ordering::Less))).docs(
            "The smallest value that is not null. Numbers compare as numbers, strings byte by byte.",
            &[ex!("min(a)", NUMBERS, "1"), ex!("min(a)", "{\"a\":true}", "error")],
        ),
        Function::aggregate("collect", &[Param::Any], gives::array_of_first, PerGroup::<Collect>::boxed).star().docs(
            "All values in order of arrival, nulls too; `collect(*)` collects whole rows.",
            &[ex!("collect(a)", NUMBERS, "[1,2.5,null]"), ex!("collect(*)", "{\"a\":1}", "[{\"a\":1}]")],
        ),
        Function::aggregate("merge_agg", &[Param::Any], gives::object, PerGroup::<Merge>::boxed).star().docs(
            "One object with the members of all objects; of members with the same name the last one stays. What is no \
             object is skipped.",
            &[ex!("merge_agg(a)", "{\"a\":{\"x\":1,\"y\":1}}\n{\"a\":3}\n{\"a\":{\"x\":2}}", "{\"x\":2,\"y\":1}")],
        ),
        Function::aggregate("deduplicate", &[Param::Any, Param::Bool], gives::any, PerGroup::<Deduplicate>::boxed)
            .with_row()
            .docs(
                "With `true` the whole rows, of those with the same value the first. With `false` the last row if its \
                 value did not occur before it, else null. Null is a value like others.",
                &[
                    ex!("deduplicate(a, true)", "{\"a\":1}\n{\"a\":2}\n{\"a\":1}", "[{\"a\":1},{\"a\":2}]"),
                    ex!("deduplicate(a, false)", "{\"a\":1}\n{\"a\":2}", "{\"a\":2}"),
                    ex!("deduplicate(a, false)", "{\"a\":1}\n{\"a\":1}", "null"),
                ],
            ),
        Function::aggregate("last_value", &[Param::Any, Param::Bool], gives::first, PerGroup::<Last>::boxed)
            .star()
            .docs(
                "The last value; with `true` the last one that is not null.",
                &[ex!("last_value(a, true)", NUMBERS, "2.5"), ex!("last_value(a, false)", NUMBERS, "null")],
            ),
    ]
}

/// What an aggregate keeps of one group: what it does with one row, with what a later one of its kind has seen, and in the end.
pub(super) trait Fold: Clone + Send + 'static {
    /// Takes one row's arguments.
    fn add(&mut self, args: &[Value]) -> Result<(), EvalError>;
    /// Takes over what `later` has seen; false if that can't be done.
    fn join(&mut self, later: &Self) -> Result<bool, EvalError>;
    /// The value so far.
    fn value(&self) -> Result<Value, EvalError>;
    /// Writes or reads everything that it has seen.
    fn state(&mut self, io: &mut StateIo);
}

/// One fold per group.
#[derive(Clone)]
pub(super) struct PerGroup<F> {
    /// What a group begins with.
    empty: F,
    groups: Vec<F>,
}

impl<F: Fold> PerGroup<F> {
    /// No groups yet; each begins with a copy.
    pub fn like(empty: F) -> Box<dyn Accumulators> {
        Box::new(PerGroup { empty, groups: Vec::new() })
    }

    /// No groups yet; each begins with the default.
    pub fn boxed() -> Box<dyn Accumulators>
    where
        F: Default,
    {
        Self::like(F::default())
    }
}

impl<F: Fold> Accumulators for PerGroup<F> {
    fn push(&mut self) {
        self.groups.push(self.empty.clone());
    }

    #[inline]
    fn update(&mut self, group: usize, args: &[Value]) -> Result<(), EvalError> {
        self.groups[group].add(args)
    }

    fn merge(&mut self, group: usize, later: &dyn Accumulators, later_group: usize) -> Result<bool, EvalError> {
        match later.as_any().downcast_ref::<Self>() {
            Some(later) => self.groups[group].join(&later.groups[later_group]),
            None => Ok(false),
        }
    }

    fn result(&self, group: usize) -> Result<Value, EvalError> {
        self.groups[group].value()
    }

    fn boxed_clone(&self) -> Box<dyn Accumulators> {
        Box::new(self.clone())
    }

    fn state(&mut self, group: usize, io: &mut StateIo) {
        self.groups[group].state(io);
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

#[derive(Clone, Default)]
struct Count(i64);

impl Fold for Count {
    #[inline]
    fn add(&mut self, args: &[Value]) -> Result<(), EvalError> {
        self.0 += i64::from(!arg(args, 0).is_null());
        Ok(())
    }

    fn join(&mut self, later: &Self) -> Result<bool, EvalError> {
        self.0 += later.0;
        Ok(true)
    }

    fn value(&self) -> Result<Value, EvalError> {
        Ok(Value::Int(self.0))
    }

    fn state(&mut self, io: &mut StateIo) {
        io.int(&mut self.0);
    }
}

/// A sum that stays whole as long as all its numbers are integers.
#[derive(Clone, Default)]
struct Sum {
    n_ints: i64,
    ints: i64,
    n_floats: i64,
    floats: f64,
}

impl Fold for Sum {
    #[inline]
    fn add(&mut self, args: &[Value]) -> Result<(), EvalError> {
        match arg(args, 0) {
            Value::Float(float) => {
                self.n_floats += 1;
                self.floats += float;
            }
            Value::Int(int) => {
                self.n_ints += 1;
                self.ints = self.ints.wrapping_add(*int);
            }
            Value::Uint(uint) => {
                self.n_ints += 1;
                self.ints = self.ints.wrapping_add(*uint as i64);
            }
            Value::Null | Value::Missing => {}
            value => return Err(expected("a number", value)),
        }
        Ok(())
    }

    fn join(&mut self, later: &Self) -> Result<bool, EvalError> {
        self.n_ints += later.n_ints;
        self.ints = self.ints.wrapping_add(later.ints);
        self.n_floats += later.n_floats;
        self.floats += later.floats;
        Ok(true)
    }

    fn value(&self) -> Result<Value, EvalError> {
        Ok(match (self.n_ints, self.n_floats) {
            (0, 0) => Value::Null,
            (_, 0) => Value::Int(self.ints),
            _ => Value::Float(self.floats + self.ints as f64),
        })
    }

    fn state(&mut self, io: &mut StateIo) {
        io.int(&mut self.n_ints);
        io.int(&mut self.ints);
        io.int(&mut self.n_floats);
        io.float(&mut self.floats);
    }
}

#[derive(Clone, Default)]
struct Average(Sum);

impl Fold for Average {
    #[inline]
    fn add(&mut self, args: &[Value]) -> Result<(), EvalError> {
        self.0.add(args)
    }

    fn join(&mut self, later: &Self) -> Result<bool, EvalError> {
        self.0.join(&later.0)
    }

    fn value(&self) -> Result<Value, EvalError> {
        let n_values = self.0.n_ints + self.0.n_floats;
        Ok(match self.0.value()? {
            Value::Int(sum) => Value::Int(sum.wrapping_div(n_values)),
            Value::Float(sum) => Value::Float(sum / n_values as f64),
            other => other,
        })
    }

    fn state(&mut self, io: &mut StateIo) {
        self.0.state(io);
    }
}

/// The largest or the smallest value.
#[derive(Clone)]
pub(super) struct Extreme {
    /// How a better value compares to the best so far.
    better: Ordering,
    best: Value,
}

impl Extreme {
    /// Looks for the largest value with `Greater`, for the smallest with `Less`.
    pub fn new(better: Ordering) -> Self {
        Extreme { better, best: Value::Null }
    }

    fn offer(&mut self, value: &Value) -> Result<(), EvalError> {
        let ordering = match (value, &mut self.best) {
            (Value::Float(float), Value::Float(best)) => {
                if float.partial_cmp(best) == Some(self.better) {
                    *best = *float;
                }
                return Ok(());
            }
            (Value::Int(int), Value::Int(best)) => {
                if (*int).cmp(best) == self.better {
                    *best = *int;
                }
                return Ok(());
            }
            (Value::Null | Value::Missing, _) => return Ok(()),
            (Value::Int(_) | Value::Uint(_) | Value::Float(_) | Value::String(_), best) => {
                if best.is_null() {
                    Some(self.better)
                } else {
                    sort_order(value, best)
                }
            }
            _ => return Err(expected("a number or a string", value)),
        };
        match ordering {
            Some(ordering) if ordering == self.better => self.best = value.clone(),
            Some(_) => {}
            None => {
                let message = format!("{} and {} can't be compared", coerce::shown(value), coerce::shown(&self.best));
                return Err(EvalError(message));
            }
        }
        Ok(())
    }
}

impl Fold for Extreme {
    #[inline]
    fn add(&mut self, args: &[Value]) -> Result<(), EvalError> {
        self.offer(arg(args, 0))
    }

    fn join(&mut self, later: &Self) -> Result<bool, EvalError> {
        self.offer(&later.best)?;
        Ok(true)
    }

    fn value(&self) -> Result<Value, EvalError> {
        Ok(self.best.clone())
    }

    fn state(&mut self, io: &mut StateIo) {
        io.value(&mut self.best);
    }
}

#[derive(Clone, Default)]
struct Collect(Vec<Value>);

impl Fold for Collect {
    fn add(&mut self, args: &[Value]) -> Result<(), EvalError> {
        self.0.push(match arg(args, 0) {
            Value::Missing => Value::Null,
            value => value.clone(),
        });
        Ok(())
    }

    fn join(&mut self, later: &Self) -> Result<bool, EvalError> {
        self.0.extend_from_slice(&later.0);
        Ok(true)
    }

    fn value(&self) -> Result<Value, EvalError> {
        Ok(array_value(self.0.clone()))
    }

    fn state(&mut self, io: &mut StateIo) {
        io.values(&mut self.0);
    }
}

#[derive(Clone, Default)]
struct Merge(Object);

impl Fold for Merge {
    fn add(&mut self, args: &[Value]) -> Result<(), EvalError> {
        if let Some(object) = arg(args, 0).to_object() {
            for (name, value) in object.iter() {
                self.0.insert(name.clone(), value.clone());
            }
        }
        Ok(())
    }

    fn join(&mut self, later: &Self) -> Result<bool, EvalError> {
        for (name, value) in later.0.iter() {
            self.0.insert(name.clone(), value.clone());
        }
        Ok(true)
    }

    fn value(&self) -> Result<Value, EvalError> {
        Ok(if self.0.is_empty() { Value::Null } else { object_value(self.0.clone()) })
    }

    fn state(&mut self, io: &mut StateIo) {
        io.object(&mut self.0);
    }
}

/// A value that a set can hold.
#[derive(Clone)]
struct Key(Value);

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.0.same_key(&other.0)
    }
}

impl Eq for Key {}

impl std::hash::Hash for Key {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.hash_key(state);
    }
}

/// Values that have been seen, numbers by value and arrays and objects by content.
#[derive(Clone, Default)]
pub(super) struct Seen(HashSet<Key, foldhash::fast::FixedState>);

impl Seen {
    /// Adds a value; true if it is new.
    pub fn insert(&mut self, value: &Value) -> bool {
        self.0.insert(Key(value.clone()))
    }

    /// Writes or reads the values.
    pub fn state(&mut self, io: &mut StateIo) {
        let mut values: Vec<Value> = std::mem::take(&mut self.0).into_iter().map(|key| key.0).collect();
        io.values(&mut values);
        self.0.extend(values.into_iter().map(Key));
    }

    /// True if the value has been added.
    pub fn contains(&self, value: &Value) -> bool {
        self.0.contains(&Key(value.clone()))
    }
}

#[derive(Clone, Default)]
struct Deduplicate {
    seen: Seen,
    all: bool,
    /// The first row of each value.
    firsts: Vec<Value>,
    /// The last row, if its value was new.
    last: Option<Value>,
}

impl Fold for Deduplicate {
    fn add(&mut self, args: &[Value]) -> Result<(), EvalError> {
        self.all = bool(args, 1)?;
        let (value, row) = (arg(args, 0), arg(args, 2));
        // A missing value is null.
        let is_new = self.seen.insert(if value.is_null() { &Value::Null } else { value });
        if is_new {
            self.firsts.push(row.clone());
        }
        self.last = is_new.then(|| row.clone());
        Ok(())
    }

    fn join(&mut self, _later: &Self) -> Result<bool, EvalError> {
        // Whether the later one's last row is new here can't be told from what it keeps.
        Ok(false)
    }

    fn value(&self) -> Result<Value, EvalError> {
        Ok(match self.all {
            true => array_value(self.firsts.clone()),
            false => self.last.clone().unwrap_or(Value::Null),
        })
    }

    fn state(&mut self, io: &mut StateIo) {
        self.seen.state(io);
        io.bool(&mut self.all);
        io.values(&mut self.firsts);
        io.option(&mut self.last, StateIo::value);
    }
}

#[derive(Clone, Default)]
struct Last(Value);

impl Fold for Last {
    fn add(&mut self, args: &[Value]) -> Result<(), EvalError> {
        let value = arg(args, 0);
        let ignore_null = bool(args, 1)?;
        match value {
            Value::Null | Value::Missing if ignore_null => {}
            Value::Missing => self.0 = Value::Null,
            value => self.0 = value.clone(),
        }
        Ok(())
    }

    fn join(&mut self, later: &Self) -> Result<bool, EvalError> {
        // Missing: the later one has taken no value.
        if !matches!(later.0, Value::Missing) {
            self.0 = later.0.clone();
        }
        Ok(true)
    }

    fn value(&self) -> Result<Value, EvalError> {
        Ok(if self.0.is_null() { Value::Null } else { self.0.clone() })
    }

    fn state(&mut self, io: &mut StateIo) {
        io.value(&mut self.0);
    }
}
