//! Arrays. Elements are equal as keys are: numbers by value, arrays and objects by content.

use super::NullPolicy::{Null, Zero};
use super::aggregate::{Extreme, Fold, Seen};
use super::define::{arg, array, array_value, ex, expected, gives, int, object_value, string, text};
use super::{BUILTIN, Body, EvalError, Function, Param};
use crate::value::coerce::{shown, text as text_of};
use crate::value::{Object, Value};
use std::cmp::Ordering;

/// The longest array that a function makes out of nothing.
const MAX_ELEMENTS: i64 = 1 << 20;

/// The functions of this file.
pub(super) fn functions() -> Vec<Function> {
    use Param::{Any, Int, String};
    vec![
        Function::scalar("array_create", &[Any], gives::array_of_first, |args, _| {
            let elements: Vec<Value> = args.iter().filter(|value| !value.is_null()).cloned().collect();
            Ok(if elements.is_empty() { Value::Null } else { array_value(elements) })
        })
        .variadic()
        .docs("An array of the values that are not null; null if all are.", &[ex!("array_create(a, b, 3)", r#"{"a":1}"#, "[1,3]")]),
        Function::scalar("array_position", &[Any, Any], gives::int, |args, _| position(args, |elements, wanted| {
            elements.iter().position(|element| element.same_key(wanted))
        }))
        .docs(
            "The place of the first such element, from 0; -1 if there is none.",
            &[ex!("array_position(a, 2)", r#"{"a":[1,2,2.0]}"#, "1"), ex!("array_position(a, 2)", "{}", "-1")],
        ),
        Function::scalar("array_last_position", &[Any, Any], gives::int, |args, _| position(args, |elements, wanted| {
            elements.iter().rposition(|element| element.same_key(wanted))
        }))
        .docs("The place of the last such element, from 0; -1 if there is none.", &[ex!("array_last_position(a, 2)", r#"{"a":[1,2,2.0]}"#, "2")]),
        Function::scalar("array_contains", &[Any, Any], gives::bool, |args, _| {
            Ok(Value::Bool(elements(args, 0)?.iter().any(|element| element.same_key(arg(args, 1)))))
        })
        .docs("True if the array has such an element.", &[ex!("array_contains(a, 2)", r#"{"a":[1,2]}"#, "true")]),
        Function::scalar("array_contains_any", &[Any, Any], gives::bool, |args, _| {
            let own = elements(args, 0)?;
            if own.is_empty() && arg(args, 0).is_null() {
                return Ok(Value::Bool(false));
            }
            let seen = seen(own);
            Ok(Value::Bool(array(args, 1)?.iter().any(|element| seen.contains(element))))
        })
        .docs("True if the arrays have an element in common.", &[ex!("array_contains_any(a, b)", r#"{"a":[1,2],"b":[2,3]}"#, "true")]),
        Function::scalar("element_at", &[Any, Any], gives::element, |args, _| element_at(args)).null(Null).docs(
            "An array's element, from 0 or negative from its end; or an object's member.",
            &[
                ex!("element_at(a, -1)", r#"{"a":[1,2]}"#, "2"),
                ex!("element_at(a, 'x')", r#"{"a":{"x":5}}"#, "5"),
                ex!("element_at(a, 2)", r#"{"a":[1,2]}"#, "error"),
            ],
        ),
        Function::scalar("array_remove", &[Any, Any], gives::first, |args, _| {
            if arg(args, 0).is_null() {
                return Ok(Value::Null);
            }
            Ok(array_value(array(args, 0)?.iter().filter(|element| !element.same_key(arg(args, 1))).cloned().collect()))
        })
        .docs("The array without such elements.", &[ex!("array_remove(a, 2)", r#"{"a":[1,2,3,2]}"#, "[1,3]")]),
        Function::scalar("array_intersect", &[Any, Any], gives::first, |args, _| {
            let (own, mut taken) = (seen(array(args, 0)?), Seen::default());
            let both = array(args, 1)?.iter().filter(|element| own.contains(element) && taken.insert(element));
            Ok(array_value(both.cloned().collect()))
        })
        .null(Null)
        .docs("The elements of the second array that are in the first, each once.", &[ex!("array_intersect(a, b)", r#"{"a":[1,2,3],"b":[3,2,3]}"#, "[3,2]")]),
        Function::scalar("array_union", &[Any, Any], gives::first, |args, _| {
            let mut taken = Seen::default();
            let all = elements(args, 0)?.iter().chain(elements(args, 1)?).filter(|element| taken.insert(element));
            Ok(array_value(all.cloned().collect()))
        })
        .docs("The elements of both arrays, each once.", &[ex!("array_union(a, b)", r#"{"a":[1,2],"b":[2,3]}"#, "[1,2,3]")]),
        Function::scalar("array_except", &[Any, Any], gives::first, |args, _| {
            if arg(args, 0).is_null() {
                return Ok(Value::Null);
            }
            let mut taken = seen(elements(args, 1)?);
            Ok(array_value(array(args, 0)?.iter().filter(|element| taken.insert(element)).cloned().collect()))
        })
        .docs("The elements of the first array that are not in the second, each once.", &[ex!("array_except(a, b)", r#"{"a":[1,2,1],"b":[2]}"#, "[1]")]),
        Function::scalar("array_max", &[Any], gives::element, |args, _| extreme(args, Ordering::Greater))
            .null(Null)
            .docs("The largest element that is not null.", &[ex!("array_max(a)", r#"{"a":[1,3.5,null]}"#, "3.5")]),
        Function::scalar("array_min", &[Any], gives::element, |args, _| extreme(args, Ordering::Less))
            .null(Null)
            .docs("The smallest element that is not null.", &[ex!("array_min(a)", r#"{"a":[1,3.5]}"#, "1")]),
        Function::scalar("array_cardinality", &[Any], gives::int, |args, _| {
            Ok(Value::Int(array(args, 0)?.iter().filter(|element| !element.is_null()).count() as i64))
        })
        .null(Zero)
        .docs("The number of elements that are not null.", &[ex!("array_cardinality(a)", r#"{"a":[1,null]}"#, "1")]),
        Function::scalar("cardinality", &[Any], gives::int, |args, _| {
            Ok(Value::Int(array(args, 0).map_or(0, |elements| elements.len() as i64)))
        })
        .null(Zero)
        .docs("The number of elements, nulls too; 0 for what is no array.", &[ex!("cardinality(a)", r#"{"a":[1,null]}"#, "2")]),
        Function::scalar("array_distinct", &[Any], gives::first, |args, _| {
            let mut taken = Seen::default();
            Ok(array_value(array(args, 0)?.iter().filter(|element| taken.insert(element)).cloned().collect()))
        })
        .null(Null)
        .docs("Each element once, at its first place.", &[ex!("array_distinct(a)", r#"{"a":[3,1,3.0,null,null]}"#, "[3,1,null]")]),
        Function::scalar("array_flatten", &[Any], gives::array, |args, _| {
            let mut flat = Vec::new();
            for element in array(args, 0)?.iter() {
                match element {
                    Value::Array(inner) => flat.extend_from_slice(inner),
                    element => flat.push(element.clone()),
                }
            }
            Ok(array_value(flat))
        })
        .null(Null)
        .docs("Arrays in the array are replaced by their elements, one level deep.", &[ex!("array_flatten(a)", r#"{"a":[[1],2,[[3]]]}"#, "[1,2,[3]]")]),
        Function::scalar("array_map", &[String, Any], gives::array, |args, ctx| {
            let name = string(args, 0)?;
            let body = match BUILTIN.get(name).map(|function| (&function.body, function.arity)) {
                Some((Body::Scalar(body), arity)) if arity.n_required <= 1 && !arity.params.is_empty() => body,
                _ => return Err(EvalError(format!("{name:?} is no function of one value"))),
            };
            let mapped: Result<Vec<Value>, EvalError> =
                array(args, 1)?.iter().map(|element| body(std::slice::from_ref(element), ctx)).collect();
            mapped.map(array_value)
        })
        .null(Null)
        .volatile()
        .docs(
            "What the named function makes of each element.",
            &[
                ex!("array_map('upper', a)", r#"{"a":["x","y"]}"#, r#"["X","Y"]"#),
                ex!("array_map('nosuch', a)", r#"{"a":[1]}"#, "error"),
            ],
        ),
        Function::scalar("array_join", &[Any, String, String], gives::string, |args, _| {
            let null_text = if args.len() > 2 { text(args, 2) } else { "".into() };
            let elements = array(args, 0)?.iter();
            let texts = elements.filter(|element| !element.is_null() || !null_text.is_empty());
            let texts: Vec<_> = texts.map(|element| if element.is_null() { null_text.clone() } else { text_of(element) }).collect();
            Ok(Value::string(texts.join(&*text(args, 1))))
        })
        .optional(1)
        .null(Null)
        .docs(
            "The texts of the elements with a separator between them. Nulls are left out, or stand as the third argument says.",
            &[
                ex!("array_join(a, ',')", r#"{"a":[1,null,"x"]}"#, "\"1,x\""),
                ex!("array_join(a, ',', '-')", r#"{"a":[1,null]}"#, "\"1,-\""),
            ],
        ),
        Function::scalar("array_shuffle", &[Any], gives::first, |args, ctx| {
            let mut elements = array(args, 0)?.to_vec();
            for last in (1..elements.len()).rev() {
                elements.swap(last, ((ctx.rule.random)() % (last as u64 + 1)) as usize);
            }
            Ok(array_value(elements))
        })
        .null(Null)
        .volatile()
        .docs("The elements in random order.", &[ex!("array_shuffle(a)", r#"{"a":[1]}"#, "[1]")]),
        Function::scalar("array_sort", &[Any], gives::first, |args, _| {
            let mut elements = array(args, 0)?.to_vec();
            elements.sort_by_cached_key(|element| {
                if element.is_null() { "<nil>".to_owned() } else { text_of(element).into_owned() }
            });
            Ok(array_value(elements))
        })
        .null(Null)
        .docs("The elements in the order of their texts: 10 stands before 9.", &[ex!("array_sort(a)", r#"{"a":[9,10,"b"]}"#, r#"[10,9,"b"]"#)]),
        Function::scalar("array_concat", &[Any], gives::first, |args, _| {
            let mut joined = Vec::new();
            for idx in 0..args.len() {
                joined.extend_from_slice(elements(args, idx)?);
            }
            let all_null = args.iter().all(Value::is_null);
            Ok(if all_null { Value::Null } else { array_value(joined) })
        })
        .variadic()
        .docs("One array behind the other; nulls are skipped.", &[ex!("array_concat(a, b)", r#"{"a":[1],"b":[2,1]}"#, "[1,2,1]")]),
        Function::scalar("repeat", &[Any, Int], gives::array_of_first, |args, _| match int(args, 1)? {
            n_copies @ 0..=MAX_ELEMENTS => Ok(array_value(vec![arg(args, 0).clone(); n_copies as usize])),
            _ => Err(expected("a number of copies from 0 to 1048576", arg(args, 1))),
        })
        .null(Null)
        .docs("An array of so many copies.", &[ex!("repeat(a, 2)", r#"{"a":"x"}"#, r#"["x","x"]"#)]),
        Function::scalar("sequence", &[Int, Int, Int], gives::array, |args, _| sequence(args)).optional(1).null(Null).docs(
            "The whole numbers from the first to the second, both included, in steps of the third (1, or -1 downwards).",
            &[
                ex!("sequence(1, 3)", "{}", "[1,2,3]"),
                ex!("sequence(5, 1, -2)", "{}", "[5,3,1]"),
                ex!("sequence(1, 3, -1)", "{}", "[]"),
                ex!("sequence(1, 3, 0)", "{}", "error"),
            ],
        ),
        Function::scalar("kvpair_array_to_obj", &[Any], gives::object, |args, _| {
            let mut members = Object::default();
            for element in array(args, 0)?.iter() {
                let pair = element.to_object().filter(|pair| pair.len() == 2);
                match pair.as_ref().map(|pair| (pair.get("key"), pair.get("value"))) {
                    Some((Some(Value::String(key)), Some(value))) => members.insert(key.clone(), value.clone()),
                    _ => return Err(expected("an object of key and value", element)),
                }
            }
            Ok(object_value(members))
        })
        .null(Null)
        .docs("An object from an array of `{key, value}`.", &[ex!("kvpair_array_to_obj(a)", r#"{"a":[{"key":"x","value":1}]}"#, r#"{"x":1}"#)]),
    ]
}

/// The elements of an array, none of null.
fn elements(args: &[Value], idx: usize) -> Result<&[Value], EvalError> {
    match arg(args, idx) {
        value if value.is_null() => Ok(&[]),
        _ => array(args, idx).map(|elements| elements.as_slice()),
    }
}

fn seen(elements: &[Value]) -> Seen {
    let mut seen = Seen::default();
    elements.iter().for_each(|element| {
        seen.insert(element);
    });
    seen
}

fn position(args: &[Value], find: fn(&[Value], &Value) -> Option<usize>) -> Result<Value, EvalError> {
    Ok(Value::Int(find(elements(args, 0)?, arg(args, 1)).map_or(-1, |idx| idx as i64)))
}

fn element_at(args: &[Value]) -> Result<Value, EvalError> {
    if let Some(object) = arg(args, 0).to_object() {
        return Ok(object.get(string(args, 1)?).cloned().unwrap_or(Value::Null));
    }
    let elements = array(args, 0)?;
    let idx = int(args, 1)?;
    let from_start = if idx < 0 { idx.checked_add(elements.len() as i64) } else { Some(idx) };
    let element = from_start.and_then(|idx| usize::try_from(idx).ok()).and_then(|idx| elements.get(idx));
    element.cloned().ok_or_else(|| EvalError(format!("there is no element {idx} in {}", shown(arg(args, 0)))))
}

fn extreme(args: &[Value], better: Ordering) -> Result<Value, EvalError> {
    let mut extreme = Extreme::new(better);
    for element in array(args, 0)?.iter() {
        extreme.add(std::slice::from_ref(element))?;
    }
    extreme.value()
}

fn sequence(args: &[Value]) -> Result<Value, EvalError> {
    let (start, stop) = (int(args, 0)?, int(args, 1)?);
    let step = match args.len() {
        0..=2 if start < stop => 1,
        0..=2 => -1,
        _ => int(args, 2)?,
    };
    if step == 0 {
        return Err(expected("a step", arg(args, 2)));
    }
    let n_steps = (i128::from(stop) - i128::from(start)) / i128::from(step);
    if (step > 0) != (stop >= start) && start != stop {
        return Ok(array_value(Vec::new()));
    }
    if n_steps >= i128::from(MAX_ELEMENTS) {
        return Err(EvalError(format!("a sequence from {start} to {stop} is too long")));
    }
    Ok(array_value((0..=n_steps as i64).map(|idx| Value::Int(start.wrapping_add(idx.wrapping_mul(step)))).collect()))
}
