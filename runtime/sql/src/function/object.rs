//! Objects. Members stay in their order.

use smol_str::SmolStr;

use super::NullPolicy::Null;
use super::define::{arg, array, array_value, ex, expected, gives, object, object_value};
use super::{EvalError, Function, Param};
use crate::value::{Object, Value};

/// The functions of this file.
pub(super) fn functions() -> Vec<Function> {
    use Param::Any;
    const AB: &str = r#"{"a":{"x":1,"y":{"z":2}}}"#;
    vec![
        Function::scalar("keys", &[Any], gives::array, |args, _| {
            Ok(array_value(object(args, 0)?.iter().map(|(name, _)| Value::String(name.clone())).collect()))
        })
        .null(Null)
        .docs("The names of the members.", &[ex!("keys(a)", AB, r#"["x","y"]"#)]),
        Function::scalar("values", &[Any], gives::array, |args, _| {
            Ok(array_value(object(args, 0)?.iter().map(|(_, value)| value.clone()).collect()))
        })
        .null(Null)
        .docs("The values of the members.", &[ex!("values(a)", AB, r#"[1,{"z":2}]"#)]),
        Function::scalar("items", &[Any], gives::array, |args, _| {
            let pair =
                |(name, value): (&SmolStr, &Value)| array_value(vec![Value::String(name.clone()), value.clone()]);
            Ok(array_value(object(args, 0)?.iter().map(pair).collect()))
        })
        .null(Null)
        .docs("The members as pairs of name and value.", &[ex!("items(a)", AB, r#"[["x",1],["y",{"z":2}]]"#)]),
        Function::scalar("object", &[Any, Any], gives::object, |args, _| {
            let (names, values) = (array(args, 0)?, array(args, 1)?);
            if names.len() != values.len() {
                return Err(EvalError(format!("{} names do not go with {} values", names.len(), values.len())));
            }
            let mut members = Object::with_capacity(names.len());
            for (key, value) in names.iter().zip(values.iter()) {
                members.insert(name(key)?.clone(), value.clone());
            }
            Ok(object_value(members))
        })
        .null(Null)
        .docs(
            "An object from an array of names and one of values.",
            &[ex!("object(a, b)", r#"{"a":["x"],"b":[1]}"#, r#"{"x":1}"#)],
        ),
        Function::scalar("zip", &[Any], gives::object, |args, _| {
            let mut members = Object::default();
            for pair in array(args, 0)?.iter().filter(|pair| !pair.is_null()) {
                match pair {
                    Value::Array(pair) if pair.len() == 2 => {
                        members.insert(name(arg(pair, 0))?.clone(), arg(pair, 1).clone());
                    }
                    pair => return Err(expected("a pair of name and value", pair)),
                }
            }
            Ok(object_value(members))
        })
        .null(Null)
        .docs(
            "An object from pairs of name and value.",
            &[ex!("zip(a)", r#"{"a":[["x",1],["y",2]]}"#, r#"{"x":1,"y":2}"#)],
        ),
        Function::scalar("object_concat", &[Any, Any], gives::object, |args, _| {
            let mut members = Object::default();
            for idx in (0..args.len()).filter(|idx| !arg(args, *idx).is_null()) {
                for (name, value) in object(args, idx)?.iter() {
                    members.insert(name.clone(), value.clone());
                }
            }
            Ok(object_value(members))
        })
        .variadic()
        .docs(
            "The members of all objects; of members with the same name the last one stays. Nulls are skipped.",
            &[ex!("object_concat(a, b)", r#"{"a":{"x":1,"y":1},"b":{"x":2}}"#, r#"{"x":2,"y":1}"#)],
        ),
        Function::scalar("object_construct", &[Any], gives::object, |args, _| {
            if !args.len().is_multiple_of(2) {
                return Err(EvalError::new("names and values do not go in pairs"));
            }
            let mut members = Object::with_capacity(args.len() / 2);
            for pair in args.chunks_exact(2).filter(|pair| !arg(pair, 0).is_null()) {
                let value = arg(pair, 1);
                let value = if value.is_null() { Value::Null } else { value.clone() };
                match arg(pair, 0) {
                    Value::Bytes(bytes) => members.insert(String::from_utf8_lossy(bytes).as_ref(), value),
                    key => members.insert(name(key)?.clone(), value),
                }
            }
            Ok(object_value(members))
        })
        .variadic()
        .optional(1)
        .check(|literals| match literals.len() % 2 {
            0 => Ok(()),
            _ => Err("object_construct takes pairs: name, value, name, value".to_owned()),
        })
        .docs(
            "An object from names and values in turn; a null name leaves its value out.",
            &[ex!("object_construct('x', a, 'y', b)", r#"{"a":1}"#, r#"{"x":1,"y":null}"#)],
        ),
        Function::scalar("erase", &[Any, Any], gives::object, |args, _| {
            let mut members = Object::clone(&*object(args, 0)?);
            match arg(args, 1) {
                Value::Array(names) => {
                    for key in names.iter() {
                        members.remove(name(key)?);
                    }
                }
                key => {
                    members.remove(name(key)?);
                }
            }
            Ok(object_value(members))
        })
        .null(Null)
        .docs(
            "The object without a member, or without those that an array names.",
            &[ex!("erase(a, 'y')", AB, r#"{"x":1}"#)],
        ),
        Function::scalar("object_size", &[Any], gives::int, |args, _| match arg(args, 0) {
            value if value.is_null() => Ok(Value::Int(0)),
            _ => Ok(Value::Int(object(args, 0)?.len() as i64)),
        })
        .docs("The number of members.", &[ex!("object_size(a)", AB, "2"), ex!("object_size(a)", "{}", "0")]),
        Function::scalar("object_pick", &[Any, Any], gives::object, |args, _| {
            if arg(args, 0).is_null() {
                return Ok(Value::Null);
            }
            let source = object(args, 0)?;
            let names = match args.get(1..).unwrap_or_default() {
                [Value::Array(names)] => names.as_slice(),
                names => names,
            };
            let mut picked = Object::default();
            for key in names {
                let path: Vec<&str> = name(key)?.split('.').collect();
                pick(&source, &path, &mut picked);
            }
            Ok(object_value(picked))
        })
        .variadic()
        .docs(
            "The object with the named members only; `a.b` names a member of a member.",
            &[ex!("object_pick(a, 'x', 'y.z')", AB, r#"{"x":1,"y":{"z":2}}"#), ex!("object_pick(a, 'q')", AB, "{}")],
        ),
        Function::scalar("obj_to_kvpair_array", &[Any], gives::array, |args, _| {
            let pair = |(name, value): (&SmolStr, &Value)| {
                object_value(Object::from_iter([("key", Value::String(name.clone())), ("value", value.clone())]))
            };
            Ok(array_value(object(args, 0)?.iter().map(pair).collect()))
        })
        .null(Null)
        .docs(
            "The members as an array of `{key, value}`.",
            &[ex!("obj_to_kvpair_array(a)", r#"{"a":{"x":1}}"#, r#"[{"key":"x","value":1}]"#)],
        ),
    ]
}

fn name(value: &Value) -> Result<&SmolStr, EvalError> {
    match value {
        Value::String(name) => Ok(name),
        value => Err(expected("a member's name", value)),
    }
}

/// Copies what is at `path`, with the objects around it.
fn pick(source: &Object, path: &[&str], picked: &mut Object) {
    let Some((name, rest)) = path.split_first() else { return };
    let Some(value) = source.get(name) else { return };
    if rest.is_empty() {
        picked.insert(*name, value.clone());
        return;
    }
    let Some(inner) = value.to_object() else { return };
    let mut members = match picked.get(name).and_then(Value::to_object) {
        Some(members) => Object::clone(&members),
        None => Object::default(),
    };
    pick(&inner, rest, &mut members);
    if !members.is_empty() {
        picked.insert(*name, object_value(members));
    }
}
