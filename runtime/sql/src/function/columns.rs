//! Functions that make several columns or several rows of one, or number rows.

use hashbrown::HashMap;
use smol_str::{SmolStr, format_smolstr};

use super::analytic::Watched;
use super::define::{bool, ex, expected, gives, string};
use super::{Body, EvalError, Function, MultiColumnFunction, Param};
use crate::value::state::StateIo;
use crate::value::{Object, Value};

/// The functions of this file.
pub(super) fn functions() -> Vec<Function> {
    use Param::{Any, Bool, String};
    const CHANGES: &str = "{\"a\":1,\"b\":2}\n{\"a\":1,\"b\":3}";
    vec![
        Function::new(
            "changed_cols",
            &[String, Bool, Any],
            gives::object,
            Body::MultiColumn(|| Box::<ChangedCols>::default()),
        )
        .variadic()
        .star()
        .docs(
            "One column for each value that differs from the one before it, named after it with a prefix. With `true` nulls \
             are passed over.",
            &[
                ex!("changed_cols('c_', true, a, b)", CHANGES, "{\"c_b\":3}"),
                ex!("changed_cols('', true, *)", "{\"a\":1}", "{\"a\":1}"),
            ],
        ),
        Function::new("unnest", &[Any], gives::any, Body::MultiRow(unnest)).docs(
            "One row for each element of an array; the members of an object become columns. No elements, no row.",
            &[
                ex!("unnest(a)", "{\"a\":[1,2]}", "[1,2]"),
                ex!("unnest(a)", "{\"a\":[]}", "[]"),
                ex!("unnest(a)", "{\"a\":1}", "error"),
            ],
        ),
        Function::new("extract", &[Any], gives::object, Body::MultiRow(extract)).docs(
            "The members of an object as columns.",
            &[ex!("extract(a)", "{\"a\":{\"x\":1}}", "[{\"x\":1}]"), ex!("extract(a)", "{\"a\":1}", "error")],
        ),
        Function::new("row_number", &[], gives::int, Body::Window).docs(
            "The number of the row within its result, from 1. With `OVER (PARTITION BY ... ORDER BY ...)` within its \
             partition, in that order.",
            &[],
        ),
    ]
}

#[derive(Default)]
struct ChangedCols(HashMap<SmolStr, Watched>);

impl MultiColumnFunction for ChangedCols {
    fn eval(&mut self, names: &[SmolStr], args: &[Value]) -> Result<Object, EvalError> {
        let prefix = string(args, 0)?;
        let ignore_null = bool(args, 1)?;
        let mut changes = Object::default();
        for (name, value) in names.iter().zip(args).skip(2) {
            let watched = self.0.entry_ref(name).or_default();
            if watched.changes(value, ignore_null) {
                changes.insert(format_smolstr!("{prefix}{name}"), value.clone());
            }
        }
        Ok(changes)
    }

    fn state(&mut self, io: &mut StateIo) {
        let mut columns: Vec<(SmolStr, Watched)> = self.0.drain().collect();
        io.list(&mut columns, Default::default, |io, (name, watched)| {
            io.text(name);
            watched.state(io);
        });
        self.0.extend(columns);
    }
}

fn unnest(value: &Value) -> Result<Vec<Value>, EvalError> {
    match value {
        Value::Array(elements) => Ok(elements.to_vec()),
        value if value.is_null() => Ok(Vec::new()),
        value => Err(expected("an array", value)),
    }
}

fn extract(value: &Value) -> Result<Vec<Value>, EvalError> {
    match value {
        Value::Object(_) | Value::Raw(_) => Ok(vec![value.clone()]),
        value if value.is_null() => Ok(Vec::new()),
        value => Err(expected("an object", value)),
    }
}
