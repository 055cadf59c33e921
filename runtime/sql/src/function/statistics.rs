//! Aggregates that look at how values spread: deviation, variance, percentiles, median.

use super::aggregate::{Fold, PerGroup};
use super::define::{arg, ex, expected, gives};
use super::{EvalError, Function, Param};
use crate::value::Value;
use crate::value::coerce::{Strictness, to_float};
use crate::value::state::StateIo;

/// The aggregates of this file.
pub(super) fn functions() -> Vec<Function> {
    const SPREAD: &str = "{\"a\":1}\n{\"a\":2}\n{\"a\":null}\n{\"a\":4}\n{\"a\":9}";
    const THREE: &str = "{\"a\":100}\n{\"a\":150}\n{\"a\":200}";
    use Param::Number;
    vec![
        Function::aggregate("stddev", &[Number], gives::float, || PerGroup::like(Spread::new(false, true))).docs(
            "The population standard deviation of the values that are not null.",
            &[ex!("stddev(a)", SPREAD, "3.082207001484488")],
        ),
        Function::aggregate("stddevs", &[Number], gives::float, || PerGroup::like(Spread::new(true, true))).docs(
            "The sample standard deviation of the values that are not null; null for fewer than two.",
            &[ex!("stddevs(a)", SPREAD, "3.559026084010437"), ex!("stddevs(a)", "{\"a\":1}", "null")],
        ),
        Function::aggregate("var", &[Number], gives::float, || PerGroup::like(Spread::new(false, false)))
            .docs("The population variance of the values that are not null.", &[ex!("var(a)", SPREAD, "9.5")]),
        Function::aggregate("vars", &[Number], gives::float, || PerGroup::like(Spread::new(true, false))).docs(
            "The sample variance of the values that are not null; null for fewer than two.",
            &[ex!("vars(a)", SPREAD, "12.666666666666666")],
        ),
        Function::aggregate("percentile_cont", &[Number, Number], gives::float, || {
            PerGroup::like(Percentile::new(continuous))
        })
        .docs(
            "The percentile `p`, 0 < p <= 1: the value at rank p * n, or the mean of the two around it if that is \
             between two ranks.",
            &[ex!("percentile_cont(a, 0.5)", THREE, "125"), ex!("percentile_cont(a, 1)", THREE, "200")],
        ),
        Function::aggregate("percentile_disc", &[Number, Number], gives::float, || PerGroup::like(Percentile::new(discrete)))
            .docs(
                "The percentile `p`, 0 <= p <= 1, by nearest rank: always one of the values.",
                &[ex!("percentile_disc(a, 0.5)", THREE, "150"), ex!("percentile_disc(a, 2)", THREE, "error")],
            ),
        Function::aggregate("median", &[Number], gives::number, PerGroup::<Median>::boxed).floats().docs(
            "The middle value, or the mean of the two in the middle. The first value must not be null; nulls behind it are \
             left out, but are errors among whole numbers of a `bigint` column.",
            &[
                ex!("median(a)", THREE, "150"),
                ex!("median(a)", SPREAD, "3"),
                ex!("median(a)", "{\"a\":null}\n{\"a\":1}", "error"),
            ],
        ),
    ]
}

fn number(value: &Value) -> Result<f64, EvalError> {
    to_float(value, Strictness::SameKind).ok_or_else(|| expected("a number", value))
}

/// Mean and squared distance from it, kept up to date with each value; two of them can be joined.
#[derive(Clone)]
struct Spread {
    sample: bool,
    root: bool,
    n_values: f64,
    mean: f64,
    squares: f64,
}

impl Spread {
    fn new(sample: bool, root: bool) -> Self {
        Spread { sample, root, n_values: 0.0, mean: 0.0, squares: 0.0 }
    }
}

impl Fold for Spread {
    fn add(&mut self, args: &[Value]) -> Result<(), EvalError> {
        let value = arg(args, 0);
        if !value.is_null() {
            let number = number(value)?;
            let distance = number - self.mean;
            self.n_values += 1.0;
            self.mean += distance / self.n_values;
            self.squares += distance * (number - self.mean);
        }
        Ok(())
    }

    fn join(&mut self, later: &Self) -> Result<bool, EvalError> {
        let n_values = self.n_values + later.n_values;
        if later.n_values > 0.0 {
            let distance = later.mean - self.mean;
            self.mean += distance * later.n_values / n_values;
            self.squares += later.squares + distance * distance * self.n_values * later.n_values / n_values;
            self.n_values = n_values;
        }
        Ok(true)
    }

    fn value(&self) -> Result<Value, EvalError> {
        let divisor = self.n_values - f64::from(u8::from(self.sample));
        if divisor <= 0.0 {
            return Ok(Value::Null);
        }
        let variance = self.squares / divisor;
        Ok(Value::Float(if self.root { variance.sqrt() } else { variance }))
    }

    fn state(&mut self, io: &mut StateIo) {
        io.float(&mut self.n_values);
        io.float(&mut self.mean);
        io.float(&mut self.squares);
    }
}

/// Sorted values and p give the percentile, `None` if p is out of range.
type Rank = fn(&[f64], f64) -> Option<f64>;

#[derive(Clone)]
struct Percentile {
    rank: Rank,
    values: Vec<f64>,
    p: Option<f64>,
}

impl Percentile {
    fn new(rank: Rank) -> Self {
        Percentile { rank, values: Vec::new(), p: None }
    }
}

impl Fold for Percentile {
    fn add(&mut self, args: &[Value]) -> Result<(), EvalError> {
        let (value, p) = (arg(args, 0), arg(args, 1));
        if self.p.is_none() && !p.is_null() {
            self.p = Some(number(p)?);
        }
        if !value.is_null() {
            self.values.push(number(value)?);
        }
        Ok(())
    }

    fn join(&mut self, later: &Self) -> Result<bool, EvalError> {
        self.values.extend_from_slice(&later.values);
        self.p = self.p.or(later.p);
        Ok(true)
    }

    fn value(&self) -> Result<Value, EvalError> {
        let Some(p) = self.p.filter(|_| !self.values.is_empty()) else { return Ok(Value::Null) };
        let mut sorted = self.values.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        let found = (self.rank)(&sorted, p);
        found
            .map(Value::Float)
            .ok_or_else(|| EvalError(format!("there is no percentile {p} of {} values", sorted.len())))
    }

    fn state(&mut self, io: &mut StateIo) {
        io.list(&mut self.values, f64::default, StateIo::float);
        io.option(&mut self.p, StateIo::float);
    }
}

fn continuous(sorted: &[f64], p: f64) -> Option<f64> {
    if !(p > 0.0 && p <= 1.0) {
        return None;
    }
    if let [only] = sorted {
        return Some(*only);
    }
    let rank = p * sorted.len() as f64;
    let below = rank.floor() as usize;
    match rank {
        rank if rank.fract() == 0.0 => sorted.get(below.checked_sub(1)?).copied(),
        rank if rank > 1.0 => Some((sorted.get(below - 1)? + sorted.get(below)?) / 2.0),
        _ => None,
    }
}

fn discrete(sorted: &[f64], p: f64) -> Option<f64> {
    if !(0.0..=1.0).contains(&p) {
        return None;
    }
    let rank = (p * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied()
}

/// The kind of the result is that of the first value, so there must be one; among whole numbers none may be missing.
#[derive(Clone, Default)]
struct Median {
    values: Vec<f64>,
    n_rows: usize,
    whole: bool,
    starts_with_null: bool,
    has_null: bool,
}

impl Fold for Median {
    fn add(&mut self, args: &[Value]) -> Result<(), EvalError> {
        let value = arg(args, 0);
        if value.is_null() {
            self.has_null = true;
            self.starts_with_null |= self.n_rows == 0;
        } else {
            self.whole |= self.n_rows == 0 && matches!(value, Value::Int(_) | Value::Uint(_));
            self.values.push(number(value)?);
        }
        self.n_rows += 1;
        Ok(())
    }

    fn join(&mut self, later: &Self) -> Result<bool, EvalError> {
        if self.n_rows == 0 {
            self.whole = later.whole;
            self.starts_with_null = later.starts_with_null;
        }
        self.n_rows += later.n_rows;
        self.has_null |= later.has_null;
        self.values.extend_from_slice(&later.values);
        Ok(true)
    }

    fn value(&self) -> Result<Value, EvalError> {
        if self.starts_with_null || (self.whole && self.has_null) {
            return Err(EvalError::new("median of null: the first value and every whole one must be there"));
        }
        let mut sorted = self.values.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        let Some(upper) = sorted.get(middle) else { return Ok(Value::Null) };
        Ok(match sorted.len() % 2 {
            1 if self.whole => Value::Int(*upper as i64),
            1 => Value::Float(*upper),
            _ => Value::Float((sorted.get(middle - 1).unwrap_or(upper) + upper) / 2.0),
        })
    }

    fn state(&mut self, io: &mut StateIo) {
        io.list(&mut self.values, f64::default, StateIo::float);
        io.size(&mut self.n_rows);
        io.bool(&mut self.whole);
        io.bool(&mut self.starts_with_null);
        io.bool(&mut self.has_null);
    }
}
