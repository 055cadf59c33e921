//! Numbers.

use super::NullPolicy::Null;
use super::define::{arg, ex, expected, float, gives, int, text};
use super::{EvalError, Function, Param, ScalarFn};
use crate::value::{Type, Value};

/// The functions of this file.
pub(super) fn functions() -> Vec<Function> {
    use Param::{Any, Int, IntLiteral, Number};
    let mut functions = vec![
        Function::scalar("abs", &[Number], gives::number, |args, _| {
            Ok(match arg(args, 0) {
                Value::Int(int) => Value::from_u64(int.unsigned_abs()),
                Value::Uint(uint) => Value::Uint(*uint),
                _ => Value::Float(float(args, 0)?.abs()),
            })
        })
        .docs("The absolute value.", &[ex!("abs(a)", r#"{"a":-2.5}"#, "2.5"), ex!("abs(a)", r#"{"a":"x"}"#, "error")]),
        Function::scalar("atan2", &[Number, Number], gives::float, |args, _| {
            Ok(not_nan(float(args, 0)?.atan2(float(args, 1)?)))
        })
        .docs("The angle of the point (x, y) given as y, x, in radians.", &[ex!("atan2(a, 1)", r#"{"a":0}"#, "0")]),
        Function::scalar("cot", &[Number], gives::float, |args, _| {
            let cot = 1.0 / float(args, 0)?.tan();
            if cot.is_infinite() { Err(expected("an angle with a cotangent", arg(args, 0))) } else { Ok(not_nan(cot)) }
        })
        .docs("The cotangent of an angle in radians.", &[ex!("cot(a)", r#"{"a":0}"#, "error")]),
        Function::scalar("round", &[Number, Number], gives::float, |args, _| rounded(args))
            .optional(1)
            .docs(
                "The number rounded to so many (0) digits, halves away from zero. Digits may be negative.",
                &[
                    ex!("round(a)", r#"{"a":-2.5}"#, "-3"),
                    ex!("round(a, 2)", r#"{"a":123.456}"#, "123.46"),
                    ex!("round(a, -1)", r#"{"a":125}"#, "130"),
                ],
            ),
        Function::scalar("trunc", &[Number, Number], gives::float, |args, _| rounded(args)).docs(
            "The number rounded to so many digits, as `round` does: nothing is merely cut off.",
            &[ex!("trunc(a, 1)", r#"{"a":1.25}"#, "1.3")],
        ),
        Function::scalar("sign", &[Number], gives::int, |args, _| {
            let float = float(args, 0)?;
            Ok(Value::Int(i64::from(float > 0.0) - i64::from(float < 0.0)))
        })
        .docs("-1, 0 or 1.", &[ex!("sign(a)", r#"{"a":-3}"#, "-1")]),
        Function::scalar("sqrt", &[Number], gives::float, |args, _| {
            let float = float(args, 0)?;
            if float < 0.0 { Err(expected("a number from 0", arg(args, 0))) } else { Ok(not_nan(float.sqrt())) }
        })
        .docs("The square root.", &[ex!("sqrt(a)", r#"{"a":9}"#, "3"), ex!("sqrt(a)", r#"{"a":-1}"#, "error")]),
        Function::scalar("ln", &[Number], gives::float, |args, _| {
            let float = float(args, 0)?;
            if float < 0.0 { Err(expected("a number from 0", arg(args, 0))) } else { finite(float.ln()) }
        })
        .docs("The natural logarithm.", &[ex!("ln(a)", r#"{"a":1}"#, "0")]),
        Function::scalar("log", &[Number, Number], gives::float, |args, _| {
            let logarithm = match args.len() {
                1 => float(args, 0)?.log10(),
                // Not by `f64::log`: the quotient of these two is exact for more pairs.
                _ => float(args, 1)?.log2() / float(args, 0)?.log2(),
            };
            finite(logarithm)
        })
        .optional(1)
        .docs(
            "The logarithm to base 10; with two arguments the base comes first.",
            &[ex!("log(a)", r#"{"a":100}"#, "2"), ex!("log(2, a)", r#"{"a":8}"#, "3"), ex!("log(a)", r#"{"a":-1}"#, "error")],
        ),
        Function::scalar("power", &[Number, Number], gives::float, |args, _| {
            finite(float(args, 0)?.powf(float(args, 1)?))
        })
        .aliases(&["pow"])
        .docs("x to the power of y.", &[ex!("power(a, 3)", r#"{"a":2}"#, "8")]),
        Function::scalar("mod", &[Number, Number], gives::float, |args, _| {
            finite(float(args, 0)? % float(args, 1)?)
        })
        .docs(
            "The remainder of x / y, with the sign of x.",
            &[ex!("mod(a, 3)", r#"{"a":-7}"#, "-1"), ex!("mod(a, 0)", r#"{"a":1}"#, "error")],
        ),
        Function::scalar("bitand", &[Int, Int], gives::int, |args, _| Ok(Value::Int(int(args, 0)? & int(args, 1)?)))
            .docs("The bits that are set in both.", &[ex!("bitand(a, 3)", r#"{"a":6}"#, "2")]),
        Function::scalar("bitor", &[Int, Int], gives::int, |args, _| Ok(Value::Int(int(args, 0)? | int(args, 1)?)))
            .docs("The bits that are set in either.", &[ex!("bitor(a, 3)", r#"{"a":6}"#, "7")]),
        Function::scalar("bitxor", &[Int, Int], gives::int, |args, _| Ok(Value::Int(int(args, 0)? ^ int(args, 1)?)))
            .docs("The bits that are set in one of them.", &[ex!("bitxor(a, 3)", r#"{"a":6}"#, "5")]),
        Function::scalar("bitnot", &[Int], gives::int, |args, _| Ok(Value::Int(!int(args, 0)?)))
            .docs("All bits turned.", &[ex!("bitnot(a)", r#"{"a":0}"#, "-1"), ex!("bitnot(a)", r#"{"a":0.5}"#, "error")]),
        Function::scalar("pi", &[], gives::float, |_, _| Ok(Value::Float(std::f64::consts::PI)))
            .docs("The number π.", &[ex!("pi()", "{}", "3.141592653589793")]),
        Function::scalar("rand", &[], gives::float, |_, ctx| {
            // 53 bits are what a float holds.
            Ok(Value::Float(((ctx.rule.random)() >> 11) as f64 / 2f64.powi(53)))
        })
        .volatile()
        .docs("A random number from 0 to below 1.", &[]),
        Function::scalar("conv", &[Any, IntLiteral, IntLiteral], gives::string, |args, _| conv(args)).docs(
            "A number's text turned from one base into another, 2 to 36, in upper case. As much of the text counts as is a \
             number. A negative base means signed numbers; else negative ones wrap to 64 bits.",
            &[
                ex!("conv(a, 16, 2)", r#"{"a":"a"}"#, "\"1010\""),
                ex!("conv(a, 10, -16)", r#"{"a":-10}"#, "\"-A\""),
                ex!("conv(a, 10, 99)", r#"{"a":1}"#, "null"),
            ],
        ),
    ];
    functions.extend([
        of_float("acos", |args, _| Ok(not_nan(float(args, 0)?.acos()))).docs(
            "The arc cosine, in radians.",
            &[ex!("acos(a)", r#"{"a":1}"#, "0"), ex!("acos(a)", r#"{"a":2}"#, "null")],
        ),
        of_float("asin", |args, _| Ok(not_nan(float(args, 0)?.asin())))
            .docs("The arc sine, in radians.", &[ex!("asin(a)", r#"{"a":0}"#, "0")]),
        of_float("atan", |args, _| Ok(not_nan(float(args, 0)?.atan())))
            .docs("The arc tangent, in radians.", &[ex!("atan(a)", r#"{"a":0}"#, "0")]),
        of_float("cos", |args, _| Ok(not_nan(float(args, 0)?.cos())))
            .docs("The cosine of an angle in radians.", &[ex!("cos(a)", r#"{"a":0}"#, "1")]),
        of_float("cosh", |args, _| finite(float(args, 0)?.cosh()))
            .docs("The hyperbolic cosine.", &[ex!("cosh(a)", r#"{"a":0}"#, "1")]),
        of_float("sin", |args, _| Ok(not_nan(float(args, 0)?.sin())))
            .docs("The sine of an angle in radians.", &[ex!("sin(a)", r#"{"a":0}"#, "0")]),
        of_float("sinh", |args, _| finite(float(args, 0)?.sinh()))
            .docs("The hyperbolic sine.", &[ex!("sinh(a)", r#"{"a":0}"#, "0")]),
        of_float("tan", |args, _| Ok(not_nan(float(args, 0)?.tan())))
            .docs("The tangent of an angle in radians.", &[ex!("tan(a)", r#"{"a":0}"#, "0")]),
        of_float("tanh", |args, _| Ok(not_nan(float(args, 0)?.tanh())))
            .docs("The hyperbolic tangent.", &[ex!("tanh(a)", r#"{"a":0}"#, "0")]),
        of_float("exp", |args, _| finite(float(args, 0)?.exp()))
            .docs("e to the power of x.", &[ex!("exp(a)", r#"{"a":0}"#, "1")]),
        of_float("radians", |args, _| finite(float(args, 0)? * (std::f64::consts::PI / 180.0)))
            .docs("Degrees as radians.", &[ex!("radians(a)", r#"{"a":180}"#, "3.141592653589793")]),
        of_float("degrees", |args, _| finite(float(args, 0)? * (180.0 / std::f64::consts::PI)))
            .docs("Radians as degrees.", &[ex!("degrees(a)", r#"{"a":0}"#, "0")]),
        of_float("ceiling", |args, _| Ok(Value::Float(float(args, 0)?.ceil())))
            .aliases(&["ceil"])
            .docs("The next whole number up, as a `float`.", &[ex!("ceiling(a)", r#"{"a":1.2}"#, "2")]),
        of_float("floor", |args, _| Ok(Value::Float(float(args, 0)?.floor())))
            .docs("The next whole number down, as a `float`.", &[ex!("floor(a)", r#"{"a":-1.2}"#, "-2")]),
    ]);
    functions.into_iter().map(|function| if function.name == "rand" { function } else { function.null(Null) }).collect()
}

fn of_float(name: &'static str, body: ScalarFn) -> Function {
    let returns: fn(&[Type]) -> Type = gives::float;
    Function::scalar(name, &[Param::Number], returns, body)
}

/// A result that is a number: neither infinite nor undefined.
fn finite(float: f64) -> Result<Value, EvalError> {
    if float.is_finite() { Ok(Value::Float(float)) } else { Err(EvalError::new("the result is no number")) }
}

fn not_nan(float: f64) -> Value {
    if float.is_nan() { Value::Null } else { Value::Float(float) }
}

fn rounded(args: &[Value]) -> Result<Value, EvalError> {
    let number = float(args, 0)?;
    // More digits than a float has in either direction change nothing.
    let digits = if args.len() > 1 { float(args, 1)?.clamp(-400.0, 400.0) as i32 } else { 0 };
    Ok(Value::Float(round_to(number, digits)))
}

/// Rounds halves away from zero.
fn round_to(number: f64, digits: i32) -> f64 {
    if digits == 0 {
        return number.round();
    }
    let scale = 10f64.powi(digits.abs());
    if digits < 0 {
        return if scale.is_infinite() { 0.0 } else { (number / scale).round() * scale };
    }
    let scaled = number * scale;
    // Beyond 2^53 a float has no digits behind the point.
    if number.abs() < 2f64.powi(53) && scaled.is_finite() { scaled.round() / scale } else { number }
}

/// The rules of MySQL's function.
fn conv(args: &[Value]) -> Result<Value, EvalError> {
    let (from, to) = (int(args, 1)?, int(args, 2)?);
    let bases = (2..=36u64).contains(&from.unsigned_abs()) && (2..=36u64).contains(&to.unsigned_abs());
    if !bases {
        return Ok(Value::Null);
    }
    let (from_base, to_base) = (from.unsigned_abs() as u32, to.unsigned_abs());
    let source = text(args, 0);
    let trimmed = source.trim();
    let (negative, digits) = match trimmed.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, trimmed.strip_prefix('+').unwrap_or(trimmed)),
    };
    let mut number: u64 = 0;
    for digit in digits.chars().map_while(|c| c.to_digit(from_base)) {
        number = number
            .checked_mul(u64::from(from_base))
            .and_then(|number| number.checked_add(u64::from(digit)))
            .ok_or_else(|| EvalError(format!("{trimmed:?} needs more than 64 bits")))?;
    }
    if from < 0 {
        number = number.min(if negative { i64::MIN.unsigned_abs() } else { i64::MAX as u64 });
    }
    if negative {
        number = number.wrapping_neg();
    }
    let signed = to < 0 && (number as i64) < 0;
    if signed {
        number = number.wrapping_neg();
    }
    let mut reversed = Vec::with_capacity(64);
    loop {
        reversed.push(char::from_digit((number % to_base) as u32, to_base as u32).unwrap_or('0').to_ascii_uppercase());
        number /= to_base;
        if number == 0 {
            break;
        }
    }
    if signed {
        reversed.push('-');
    }
    Ok(Value::string(reversed.into_iter().rev().collect::<String>()))
}
