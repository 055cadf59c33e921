//! What fits nowhere else.

use super::NullPolicy::Null;
use super::define::{arg, ex, gives};
use super::{Body, Function, Param};
use crate::value::{Type, Value};

/// Between the start of the calendar that these identifiers count from, 1582-10-15, and 1970, in units of 100 nanoseconds.
const GREGORIAN_TICKS: u64 = 0x01B2_1DD2_1381_4000;

/// The functions of this file.
pub(super) fn functions() -> Vec<Function> {
    use Param::{Any, Int};
    vec![
        Function::scalar("isnull", &[Any], gives::bool, |args, _| Ok(Value::Bool(arg(args, 0).is_null())))
            .docs("True if the value is null or the column is missing.", &[ex!("isnull(a)", "{}", "true"), ex!("isnull(a)", r#"{"a":[]}"#, "false")]),
        Function::scalar("coalesce", &[Any], common, |args, _| {
            Ok(args.iter().find(|value| !value.is_null()).cloned().unwrap_or(Value::Null))
        })
        .variadic()
        .docs("The first value that is not null.", &[ex!("coalesce(a, b, 3)", r#"{"b":2}"#, "2")]),
        Function::scalar("newuuid", &[], gives::string, |_, ctx| {
            let millis = u64::try_from(ctx.rule.now).unwrap_or(0);
            let (low, high) = ((ctx.rule.random)(), (ctx.rule.random)());
            // Below the millisecond the clock says nothing.
            let ticks = millis.wrapping_mul(10_000).wrapping_add(low % 10_000).wrapping_add(GREGORIAN_TICKS);
            let [node @ .., _, _] = high.to_le_bytes();
            let uuid = uuid::Builder::from_gregorian_timestamp(ticks, (low >> 32) as u16, &node).into_uuid();
            Ok(Value::string(uuid.to_string()))
        })
        .volatile()
        .docs("A new UUID of version 1.", &[]),
        Function::scalar("delay", &[Int, Any], second, |args, _| Ok(arg(args, 1).clone()))
            .null(Null)
            .docs("The second argument, at once: a rule never stops for one of its rows.", &[ex!("delay(10, a)", r#"{"a":1}"#, "1")]),
        Function::new("dedup_trigger", &[Any, Any, Any, Int], gives::array, Body::Trigger).docs(
            "Holds a row with the times start, end and now until now has reached end, then sends it with those parts of its \
             span that no row before it has covered, none older than so many milliseconds.",
            &[],
        ),
    ]
}

/// The type that all arguments share.
fn common(args: &[Type]) -> Type {
    match args.split_first() {
        Some((first, rest)) if rest.iter().all(|ty| ty == first) => first.clone(),
        _ => Type::Any,
    }
}

fn second(args: &[Type]) -> Type {
    args.get(1).cloned().unwrap_or_default()
}
