//! What is done with a row when it arrives: strict validation and event time.

use crate::expr::{RuleContext, to_datetime};
use crate::function::EvalError;
use crate::plan::stages::InputStage;
use crate::value::coerce::type_name;
use crate::value::{Row, Timestamp, Type, Value};

/// Checks and converts the declared columns of a stream with `STRICT_VALIDATION`; missing ones take their default.
pub(super) fn validate(stage: &InputStage, row: &mut Row, rule: &RuleContext) -> Result<(), EvalError> {
    for (slot, name, ty, default) in &stage.strict {
        let Some(value) = row.values.get_mut(*slot) else { continue };
        let converted = match (&*value, default) {
            (Value::Missing, Some(default)) => crate::plan::literal_value(default),
            (Value::Missing, None) => return Err(EvalError::new(format!("column {name} is not in the row"))),
            (value, _) => converted(stage, value, ty, rule).ok_or_else(|| {
                EvalError::new(format!("column {name} holds a {}, not a {}", value.kind_name(), type_name(ty)))
            })?,
        };
        *value = converted;
    }
    Ok(())
}

/// The value as the declared type, within its family.
fn converted(stage: &InputStage, value: &Value, ty: &Type, rule: &RuleContext) -> Option<Value> {
    Some(match (ty, value) {
        (Type::Int, Value::Int(_) | Value::Uint(_))
        | (Type::Float, Value::Float(_))
        | (Type::String, Value::String(_))
        | (Type::Bool, Value::Bool(_))
        | (Type::Bytes, Value::Bytes(_))
        | (Type::Array(_), Value::Array(_) | Value::Null)
        | (Type::Struct(_), Value::Object(_) | Value::Raw(_) | Value::Null)
        | (Type::Any | Type::Number, _) => value.clone(),
        (Type::Int, Value::Float(float)) => Value::Int(*float as i64),
        (Type::Float, Value::Int(int)) => Value::Float(*int as f64),
        (Type::Float, Value::Uint(uint)) => Value::Float(*uint as f64),
        (Type::Datetime, _) => Value::Datetime(to_datetime(value, stage.format.as_ref(), rule).ok()?.into()),
        _ => return None,
    })
}

/// The row's event time, from its timestamp column; not further ahead of the clock than `max_ahead`.
pub(super) fn event_time(
    stage: &InputStage,
    row: &Row,
    max_ahead: Option<Timestamp>,
    rule: &RuleContext,
) -> Result<Timestamp, EvalError> {
    let Some(slot) = stage.timestamp else { return Ok(row.ts) };
    let ts = match row.get(slot) {
        Value::Int(ts) => *ts,
        Value::Float(ts) => *ts as Timestamp,
        value if value.is_null() => return Err(EvalError::new("the row has no timestamp")),
        value => to_datetime(value, stage.format.as_ref(), rule)?.timestamp().as_millisecond(),
    };
    if !TIMES.contains(&ts) {
        return Err(EvalError::new(format!("the timestamp {ts} is not within the years 1 to 9999")));
    }
    if let Some(max_ahead) = max_ahead
        && ts > rule.now.saturating_add(max_ahead)
    {
        let ahead = ts.saturating_sub(rule.now);
        return Err(EvalError::new(format!(
            "the timestamp {ts} is {ahead} ms ahead of the clock, more than {max_ahead}"
        )));
    }
    Ok(ts)
}

/// The years 1 to 9999, in milliseconds.
const TIMES: std::ops::RangeInclusive<Timestamp> = -62_135_596_800_000..=253_402_300_799_999;
