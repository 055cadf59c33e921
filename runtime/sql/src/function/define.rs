//! How a function is written down, and how bodies take their arguments.

use std::borrow::Cow;
use std::sync::Arc;

use super::{
    Accumulators, Arity, Body, EvalError, Example, Function, LiteralCheck, NullPolicy, Numbers, Param, ScalarFn,
    Volatility,
};
use crate::value::coerce::{self, Strictness};
use crate::value::{Object, Type, Value};

impl Function {
    /// A function with as many arguments as parameters, none of which may be left out, and the rest as most functions have
    /// it: the body sees nulls, the result depends on the arguments alone, whole numbers come as they are.
    pub fn new(name: &'static str, params: &'static [Param], returns: fn(&[Type]) -> Type, body: Body) -> Self {
        Function {
            name,
            aliases: &[],
            arity: Arity { params, n_required: params.len(), variadic: false, star: false },
            returns,
            null: NullPolicy::Body,
            volatility: Volatility::Immutable,
            numbers: Numbers::AsIs,
            with_row: false,
            looks_up: None,
            check: None,
            docs: "",
            examples: &[],
            body,
        }
    }

    /// A function of one row's values.
    pub fn scalar(name: &'static str, params: &'static [Param], returns: fn(&[Type]) -> Type, body: ScalarFn) -> Self {
        Self::new(name, params, returns, Body::Scalar(body))
    }

    /// A function of the rows of a group; over no rows it is null.
    pub fn aggregate(
        name: &'static str,
        params: &'static [Param],
        returns: fn(&[Type]) -> Type,
        new: fn() -> Box<dyn Accumulators>,
    ) -> Self {
        Self::new(name, params, returns, Body::Aggregate(new)).null(NullPolicy::Null)
    }

    /// Other names.
    pub fn aliases(self, aliases: &'static [&'static str]) -> Self {
        Function { aliases, ..self }
    }

    /// The last `n_optional` arguments may be left out.
    pub fn optional(self, n_optional: usize) -> Self {
        let n_required = self.arity.params.len().saturating_sub(n_optional);
        Function { arity: Arity { n_required, ..self.arity }, ..self }
    }

    /// The last parameter may repeat.
    pub fn variadic(self) -> Self {
        Function { arity: Arity { variadic: true, ..self.arity }, ..self }
    }

    /// `*` is taken as an argument.
    pub fn star(self) -> Self {
        Function { arity: Arity { star: true, ..self.arity }, ..self }
    }

    /// What a null argument does.
    pub fn null(self, null: NullPolicy) -> Self {
        Function { null, ..self }
    }

    /// The result depends on more than the arguments.
    pub fn volatile(self) -> Self {
        Function { volatility: Volatility::Volatile, ..self }
    }

    /// Whole numbers of unknown kind come as floats.
    pub fn floats(self) -> Self {
        Function { numbers: Numbers::Float, ..self }
    }

    /// The whole row comes as one more argument, behind the others.
    pub fn with_row(self) -> Self {
        Function { with_row: true, ..self }
    }

    /// What is found in a lookup table by the first argument comes as one more argument, behind the others: see
    /// [`Function::looks_up`].
    pub fn looks_up(self, table: &'static str) -> Self {
        Function { looks_up: Some(table), ..self }
    }

    /// An extra check of the literals when planning.
    pub fn check(self, check: LiteralCheck) -> Self {
        Function { check: Some(check), ..self }
    }

    /// The text of the reference page, and calls that show and test it.
    pub fn docs(self, docs: &'static str, examples: &'static [Example]) -> Self {
        Function { docs, examples, ..self }
    }
}

/// An example: the call, the input rows, the result. A macro, because only literals live for ever.
macro_rules! ex {
    ($call:expr, $input:expr, $result:expr) => {
        $crate::function::Example { call: $call, input: $input, result: $result }
    };
}
pub(super) use ex;

/// Types of results, from the types of the arguments.
pub(super) mod gives {
    use crate::value::Type;

    pub fn any(_: &[Type]) -> Type {
        Type::Any
    }
    pub fn int(_: &[Type]) -> Type {
        Type::Int
    }
    pub fn float(_: &[Type]) -> Type {
        Type::Float
    }
    pub fn string(_: &[Type]) -> Type {
        Type::String
    }
    pub fn bool(_: &[Type]) -> Type {
        Type::Bool
    }
    pub fn bytes(_: &[Type]) -> Type {
        Type::Bytes
    }
    pub fn datetime(_: &[Type]) -> Type {
        Type::Datetime
    }
    pub fn array(_: &[Type]) -> Type {
        Type::Array(Box::new(Type::Any))
    }
    pub fn object(_: &[Type]) -> Type {
        Type::Struct(Vec::new())
    }
    /// That of the first argument.
    pub fn first(args: &[Type]) -> Type {
        args.first().cloned().unwrap_or_default()
    }
    /// An array of the first argument's type.
    pub fn array_of_first(args: &[Type]) -> Type {
        Type::Array(Box::new(first(args)))
    }
    /// That of the first argument's elements.
    pub fn element(args: &[Type]) -> Type {
        match args.first() {
            Some(Type::Array(element)) => (**element).clone(),
            _ => Type::Any,
        }
    }
    /// That of the first argument if it is a number.
    pub fn number(args: &[Type]) -> Type {
        match args.first() {
            Some(Type::Int) => Type::Int,
            Some(Type::Float) => Type::Float,
            Some(Type::Number) => Type::Number,
            _ => Type::Any,
        }
    }
}

static MISSING: Value = Value::Missing;

/// Argument `idx`; missing if it was left out.
pub(super) fn arg(args: &[Value], idx: usize) -> &Value {
    args.get(idx).unwrap_or(&MISSING)
}

/// The error for a value of the wrong kind.
pub(super) fn expected(what: &str, value: &Value) -> EvalError {
    EvalError(format!("{} is not {what}", coerce::shown(value)))
}

/// Any number as a float.
pub(super) fn float(args: &[Value], idx: usize) -> Result<f64, EvalError> {
    let value = arg(args, idx);
    coerce::to_float(value, Strictness::SameKind).ok_or_else(|| expected("a number", value))
}

/// An integer, or a float without a fraction.
pub(super) fn int(args: &[Value], idx: usize) -> Result<i64, EvalError> {
    let value = arg(args, idx);
    coerce::to_int(value, Strictness::Strict).ok_or_else(|| expected("an integer", value))
}

/// The text form of any value.
pub(super) fn text(args: &[Value], idx: usize) -> Cow<'_, str> {
    coerce::text(arg(args, idx))
}

/// A boolean.
pub(super) fn bool(args: &[Value], idx: usize) -> Result<bool, EvalError> {
    match arg(args, idx) {
        Value::Bool(bool) => Ok(*bool),
        value => Err(expected("a boolean", value)),
    }
}

/// A string, and nothing that only has a text form.
pub(super) fn string(args: &[Value], idx: usize) -> Result<&str, EvalError> {
    match arg(args, idx) {
        Value::String(text) => Ok(text),
        value => Err(expected("a string", value)),
    }
}

/// An array.
pub(super) fn array(args: &[Value], idx: usize) -> Result<&Arc<Vec<Value>>, EvalError> {
    match arg(args, idx) {
        Value::Array(elements) => Ok(elements),
        value => Err(expected("an array", value)),
    }
}

/// An object.
pub(super) fn object(args: &[Value], idx: usize) -> Result<Arc<Object>, EvalError> {
    let value = arg(args, idx);
    value.to_object().ok_or_else(|| expected("an object", value))
}

/// An array as a result.
pub(super) fn array_value(elements: Vec<Value>) -> Value {
    Value::Array(Arc::new(elements))
}

/// An object as a result.
pub(super) fn object_value(object: Object) -> Value {
    Value::Object(Arc::new(object))
}

/// Something made from a literal argument and kept as long as the argument stays: a pattern, a layout, a path.
pub(super) struct Kept<T>(Option<(String, T)>);

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Kept(None)
    }
}

impl<T> Kept<T> {
    /// What `source` makes.
    pub fn get(&mut self, source: &str, make: fn(&str) -> Result<T, String>) -> Result<&T, EvalError> {
        if self.0.as_ref().is_none_or(|(kept, _)| kept != source) {
            self.0 = Some((source.to_owned(), make(source).map_err(EvalError)?));
        }
        match &self.0 {
            Some((_, made)) => Ok(made),
            None => Err(EvalError::new("nothing is kept")),
        }
    }
}
