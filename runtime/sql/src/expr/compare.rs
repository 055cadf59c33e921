//! Comparison of values, for conditions and for sorting.

use std::cmp::Ordering;

use super::{Comparison, RuleContext};
use crate::function::EvalError;
use crate::value::Value;

/// `left op right`; false if either is null.
#[inline]
pub(super) fn compare(
    comparison: Comparison,
    left: &Value,
    right: &Value,
    rule: &RuleContext,
) -> Result<bool, EvalError> {
    if let Some(holds) = compare_numbers(comparison, left, right) {
        return Ok(holds);
    }
    match (left, right) {
        (Value::String(a), Value::String(b)) => Ok(comparison.holds_for(a, b)),
        _ => compare_rare(comparison, left, right, rule),
    }
}

#[cold]
fn compare_rare(comparison: Comparison, left: &Value, right: &Value, rule: &RuleContext) -> Result<bool, EvalError> {
    let composite = matches!(left, Value::Array(_) | Value::Object(_) | Value::Raw(_));
    let ordering = match (left, right) {
        _ if !composite && (left.is_null() || right.is_null()) => return Ok(false),
        (Value::Uint(a), Value::Uint(b)) => Some(a.cmp(b)),
        (Value::Uint(_), Value::Int(_)) => Some(Ordering::Greater),
        (Value::Int(_), Value::Uint(_)) => Some(Ordering::Less),
        (Value::Uint(a), Value::Float(b)) => (*a as f64).partial_cmp(b),
        (Value::Float(a), Value::Uint(b)) => a.partial_cmp(&(*b as f64)),
        (Value::Bool(a), Value::Bool(b)) if matches!(comparison, Comparison::Eq | Comparison::NotEq) => Some(a.cmp(b)),
        (Value::Datetime(a), _) => Some(a.timestamp().cmp(&super::to_datetime(right, None, rule)?.timestamp())),
        _ => {
            return Err(EvalError::new(format!(
                "{} {} {} is not possible",
                left.kind_name(),
                comparison.symbol(),
                right.kind_name()
            )));
        }
    };
    Ok(comparison.holds(ordering))
}

/// `left = right`
pub(super) fn equal(left: &Value, right: &Value, rule: &RuleContext) -> Result<bool, EvalError> {
    compare(Comparison::Eq, left, right, rule)
}

/// As [`compare`], if both are numbers.
#[inline(always)]
pub(super) fn compare_numbers(comparison: Comparison, left: &Value, right: &Value) -> Option<bool> {
    Some(match (left, right) {
        (Value::Float(a), Value::Float(b)) => comparison.holds_for(a, b),
        (Value::Int(a), Value::Int(b)) => comparison.holds_for(a, b),
        (Value::Float(a), Value::Int(b)) => comparison.holds_for(a, &(*b as f64)),
        (Value::Int(a), Value::Float(b)) => comparison.holds_for(&(*a as f64), b),
        _ => return None,
    })
}

impl Comparison {
    /// What cannot be ordered, as NaN, is only unequal.
    #[inline(always)]
    fn holds_for<T: PartialOrd>(self, left: &T, right: &T) -> bool {
        match self {
            Comparison::Eq => left == right,
            Comparison::NotEq => left != right,
            Comparison::Lt => left < right,
            Comparison::LtEq => left <= right,
            Comparison::Gt => left > right,
            Comparison::GtEq => left >= right,
        }
    }

    #[inline]
    fn holds(self, ordering: Option<Ordering>) -> bool {
        match self {
            Comparison::Eq => ordering == Some(Ordering::Equal),
            Comparison::NotEq => ordering != Some(Ordering::Equal),
            Comparison::Lt => ordering == Some(Ordering::Less),
            Comparison::LtEq => matches!(ordering, Some(Ordering::Less | Ordering::Equal)),
            Comparison::Gt => ordering == Some(Ordering::Greater),
            Comparison::GtEq => matches!(ordering, Some(Ordering::Greater | Ordering::Equal)),
        }
    }

    /// The operator as it is written.
    pub(super) fn symbol(self) -> &'static str {
        match self {
            Comparison::Eq => "=",
            Comparison::NotEq => "!=",
            Comparison::Lt => "<",
            Comparison::LtEq => "<=",
            Comparison::Gt => ">",
            Comparison::GtEq => ">=",
        }
    }
}

/// The order of two sort keys that are not null; `None` if they can't be compared. Booleans are all alike.
pub(crate) fn sort_order(left: &Value, right: &Value) -> Option<Ordering> {
    match (left, right) {
        (Value::Bool(_), Value::Bool(_)) => Some(Ordering::Equal),
        (Value::String(a), Value::String(b)) => Some(a.as_str().cmp(b.as_str())),
        (Value::Datetime(a), Value::Datetime(b)) => Some(a.timestamp().cmp(&b.timestamp())),
        (Value::Int(a), Value::Int(b)) => Some(a.cmp(b)),
        (Value::Uint(a), Value::Uint(b)) => Some(a.cmp(b)),
        (Value::Int(_), Value::Uint(_)) => Some(Ordering::Less),
        (Value::Uint(_), Value::Int(_)) => Some(Ordering::Greater),
        _ => Some(as_float(left)?.total_cmp(&as_float(right)?)),
    }
}

fn as_float(value: &Value) -> Option<f64> {
    match value {
        Value::Int(int) => Some(*int as f64),
        Value::Uint(uint) => Some(*uint as f64),
        Value::Float(float) => Some(*float),
        _ => None,
    }
}
