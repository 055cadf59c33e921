//! Arithmetic, bits and `||`: which operands go together, and what comes out.

use super::Arithmetic;
use crate::function::EvalError;
use crate::sql::ast::BinaryOp;
use crate::value::Value;

/// An operand as a number. Unsigned integers that `Int` can't hold wrap.
enum Number {
    Int(i64),
    Float(f64),
}

fn number(value: &Value) -> Option<Number> {
    match value {
        Value::Int(int) => Some(Number::Int(*int)),
        Value::Uint(uint) => Some(Number::Int(*uint as i64)),
        Value::Float(float) => Some(Number::Float(*float)),
        _ => None,
    }
}

/// A number as a whole one, fraction cut off; `None` for everything else.
pub(super) fn whole_number(value: &Value) -> Option<i64> {
    number(value).map(|number| match number {
        Number::Int(int) => int,
        Number::Float(float) => float as i64,
    })
}

/// `+ - * / %`
pub(super) fn arithmetic(arithmetic: Arithmetic, left: &Value, right: &Value) -> Result<Value, EvalError> {
    let Arithmetic { op, float } = arithmetic;
    if has_null(left, right) {
        return Ok(Value::Null);
    }
    match (number(left), number(right)) {
        (Some(Number::Int(a)), Some(Number::Int(b))) => of_ints(op, a, b, float),
        (Some(a), Some(b)) => of_floats(op, a.float(), b.float()),
        _ => Err(invalid(op, left, right)),
    }
}

impl Number {
    fn float(self) -> f64 {
        match self {
            Number::Int(int) => int as f64,
            Number::Float(float) => float,
        }
    }
}

fn of_ints(op: BinaryOp, a: i64, b: i64, float: bool) -> Result<Value, EvalError> {
    let (exact, wrapped) = match op {
        BinaryOp::Add => (a.checked_add(b), a.wrapping_add(b)),
        BinaryOp::Sub => (a.checked_sub(b), a.wrapping_sub(b)),
        BinaryOp::Mul => (a.checked_mul(b), a.wrapping_mul(b)),
        _ if b == 0 => return Err(by_zero(op)),
        BinaryOp::Mod => (Some(a.wrapping_rem(b)), 0),
        _ if float => (None, 0),
        _ => (Some(a.wrapping_div(b)), 0),
    };
    match exact {
        Some(exact) => Ok(Value::Int(exact)),
        None if float => of_floats(op, a as f64, b as f64),
        None => Ok(Value::Int(wrapped)),
    }
}

fn of_floats(op: BinaryOp, a: f64, b: f64) -> Result<Value, EvalError> {
    Ok(Value::Float(match op {
        BinaryOp::Add => a + b,
        BinaryOp::Sub => a - b,
        BinaryOp::Mul => a * b,
        _ if b == 0.0 => return Err(by_zero(op)),
        BinaryOp::Mod => a % b,
        _ => a / b,
    }))
}

/// `& | ^` of integers, or of booleans.
pub(super) fn bits(op: BinaryOp, left: &Value, right: &Value) -> Result<Value, EvalError> {
    match (left, right) {
        _ if has_null(left, right) => Ok(Value::Bool(false)),
        (Value::Bool(a), Value::Bool(b)) => Ok(Value::Bool(match op {
            BinaryOp::BitAnd => a & b,
            BinaryOp::BitOr => a | b,
            _ => a ^ b,
        })),
        (Value::Int(_) | Value::Uint(_), Value::Int(_) | Value::Uint(_)) => {
            let (Some(a), Some(b)) = (whole_number(left), whole_number(right)) else {
                return Err(invalid(op, left, right));
            };
            Ok(Value::Int(match op {
                BinaryOp::BitAnd => a & b,
                BinaryOp::BitOr => a | b,
                _ => a ^ b,
            }))
        }
        _ => Err(invalid(op, left, right)),
    }
}

/// `||` of strings.
pub(super) fn concat(left: &Value, right: &Value) -> Result<Value, EvalError> {
    match (left, right) {
        _ if has_null(left, right) => Ok(Value::Null),
        (Value::String(a), Value::String(b)) => {
            let mut text = String::with_capacity(a.len() + b.len());
            text.push_str(a);
            text.push_str(b);
            Ok(Value::string(text))
        }
        _ => Err(invalid(BinaryOp::Concat, left, right)),
    }
}

/// `- x`
pub(super) fn minus(operand: &Value) -> Result<Value, EvalError> {
    match (operand, number(operand)) {
        (_, Some(Number::Int(int))) => Ok(Value::Int(int.wrapping_neg())),
        (_, Some(Number::Float(float))) => Ok(Value::Float(-float)),
        (operand, None) if operand.is_null() => Ok(Value::Null),
        (operand, None) => Err(EvalError::new(format!("- of a {}", operand.kind_name()))),
    }
}

/// Null on either side, unless the left one is of a kind that no operator takes.
fn has_null(left: &Value, right: &Value) -> bool {
    let composite = matches!(left, Value::Array(_) | Value::Object(_) | Value::Raw(_));
    !composite && (left.is_null() || right.is_null())
}

/// The operator as it is written.
pub(super) fn symbol(op: BinaryOp) -> &'static str {
    match op {
        BinaryOp::Add => "+",
        BinaryOp::Sub => "-",
        BinaryOp::Mul => "*",
        BinaryOp::Div => "/",
        BinaryOp::Mod => "%",
        BinaryOp::BitAnd => "&",
        BinaryOp::BitOr => "|",
        BinaryOp::BitXor => "^",
        BinaryOp::Concat => "||",
        BinaryOp::Eq => "=",
        BinaryOp::NotEq => "!=",
        BinaryOp::Lt => "<",
        BinaryOp::LtEq => "<=",
        BinaryOp::Gt => ">",
        BinaryOp::GtEq => ">=",
        BinaryOp::And => "AND",
        BinaryOp::Or => "OR",
    }
}

fn invalid(op: BinaryOp, left: &Value, right: &Value) -> EvalError {
    EvalError::new(format!("{} {} {} is not possible", left.kind_name(), symbol(op), right.kind_name()))
}

fn by_zero(op: BinaryOp) -> EvalError {
    EvalError::new(format!("{} by zero", if op == BinaryOp::Mod { "remainder of a division" } else { "division" }))
}
