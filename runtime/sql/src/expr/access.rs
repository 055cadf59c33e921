//! `->`, `[ ]` and slices.

use super::operator::whole_number;
use crate::function::EvalError;
use crate::value::Value;

/// `operand -> name`. A missing member and a null operand give null, and so does a scalar: it has no members.
pub(super) fn member(operand: &Value, name: &str) -> Result<Value, EvalError> {
    match operand {
        Value::Object(_) | Value::Raw(_) => {
            Ok(operand.to_object().and_then(|object| object.get(name).cloned()).unwrap_or(Value::Missing))
        }
        Value::Array(_) => Err(EvalError::new(format!("-> {name} on an array, which has no members"))),
        Value::Missing => Ok(Value::Missing),
        _ => Ok(Value::Null),
    }
}

/// `operand[index]`, counted from 0, negative from the end.
pub(super) fn index(operand: &Value, index: &Value) -> Result<Value, EvalError> {
    if operand.is_null() || index.is_null() {
        return Ok(Value::Null);
    }
    let place = whole_number(index)
        .ok_or_else(|| EvalError::new(format!("[ ] takes a number as index, not a {}", index.kind_name())))?;
    match operand {
        Value::Array(elements) => {
            let element = absolute(place, elements.len()).and_then(|place| elements.get(place));
            element.cloned().ok_or_else(|| out_of_range(place, elements.len()))
        }
        Value::Bytes(bytes) => {
            let byte = absolute(place, bytes.len()).and_then(|place| bytes.get(place));
            byte.map(|byte| Value::Int(i64::from(*byte))).ok_or_else(|| out_of_range(place, bytes.len()))
        }
        other => Err(EvalError::new(format!("[ ] on a {}, not an array", other.kind_name()))),
    }
}

/// `operand[from:to]`, half open; negative ends count from the end. `from` must name an element.
pub(super) fn slice(operand: &Value, from: Option<&Value>, to: Option<&Value>) -> Result<Value, EvalError> {
    if operand.is_null() || from.is_some_and(Value::is_null) || to.is_some_and(Value::is_null) {
        return Ok(Value::Null);
    }
    let Value::Array(elements) = operand else {
        return Err(EvalError::new(format!("[ : ] on a {}, not an array", operand.kind_name())));
    };
    let end = |value: Option<&Value>, default: i64| match value {
        Some(value) => whole_number(value)
            .ok_or_else(|| EvalError::new(format!("[ : ] takes numbers as ends, not a {}", value.kind_name()))),
        None => Ok(default),
    };
    let n_elements = elements.len();
    let (from, to) = (end(from, 0)?, end(to, n_elements as i64)?);
    if from >= 0 && from == to {
        return index(operand, &Value::Int(from));
    }
    let start = absolute(from, n_elements).filter(|start| *start < n_elements);
    let start = start.ok_or_else(|| out_of_range(from, n_elements))?;
    let stop = absolute(to, n_elements).filter(|stop| *stop <= n_elements);
    let stop = stop.ok_or_else(|| out_of_range(to, n_elements))?;
    match elements.get(start..stop) {
        Some(part) => Ok(Value::Array(part.to_vec().into())),
        None => Err(EvalError::new(format!("slice [{from}:{to}] ends before it begins"))),
    }
}

fn absolute(place: i64, n_elements: usize) -> Option<usize> {
    let place = if place < 0 { place.checked_add(i64::try_from(n_elements).ok()?)? } else { place };
    usize::try_from(place).ok()
}

fn out_of_range(place: i64, n_elements: usize) -> EvalError {
    EvalError::new(format!("index {place} is out of range of {n_elements} elements"))
}
