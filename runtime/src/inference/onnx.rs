//! `onnx(model, tensor...)`: tensors through a model.

use std::sync::Arc;

use sluice_sql::expr::EvalContext;
use sluice_sql::function::{Body, EvalError, ExternalFunction, Function, NullPolicy, Param, StatefulFunction};
use sluice_sql::value::coerce::{self, Strictness};
use sluice_sql::{Type, Value};
use tract_onnx::prelude::*;

use super::model::{Input, Model, Models};

/// The function over the models.
pub fn function(models: Arc<Models>) -> Function {
    Function::new("onnx", &[Param::String, Param::Any], |_| Type::Any, Body::External(Arc::new(Onnx { models })))
        .variadic()
        .null(NullPolicy::Null)
        .docs(
            "What an ONNX model makes of tensors, one per input: an array with one flat array of numbers per output. The model is the \
             file `NAME.onnx` of the folder of models. A tensor is an array, nested or flat, or bytea of the model's own numbers (32-bit \
             floats, as `image_tensor` makes them).",
            &[],
        )
}

struct Onnx {
    models: Arc<Models>,
}

impl ExternalFunction for Onnx {
    fn check(&self, literals: &[Option<Value>], types: &[Type]) -> Result<Type, String> {
        for ty in types.iter().skip(1) {
            if !matches!(ty, Type::Array(_) | Type::Bytes | Type::Any) {
                return Err(format!("a tensor is an array or bytea, not {}", coerce::type_name(ty)));
            }
        }
        // A model that is not there yet may come later, and rows say so meanwhile.
        if let Some(Some(Value::String(name))) = literals.first()
            && self.models.has_folder()
            && let Ok(model) = self.models.get(name)
        {
            check_inputs(&model, name, types.len() - 1, literals.get(1..).unwrap_or_default())?;
        }
        let floats = Type::Array(Box::new(Type::Any));
        Ok(Type::Array(Box::new(floats)))
    }

    fn start(&self) -> Box<dyn StatefulFunction> {
        Box::new(Running { models: Arc::clone(&self.models) })
    }
}

fn check_inputs(model: &Model, name: &str, n_given: usize, literals: &[Option<Value>]) -> Result<(), String> {
    if model.inputs.len() != n_given {
        let shown: Vec<String> = model.inputs.iter().map(Input::to_string).collect();
        return Err(format!(
            "model {name} takes {} tensor{}, not {n_given}: {}",
            model.inputs.len(),
            if model.inputs.len() == 1 { "" } else { "s" },
            shown.join(", ")
        ));
    }
    for (input, literal) in model.inputs.iter().zip(literals) {
        if let Some(literal) = literal {
            tensor(input, literal)?;
        }
    }
    Ok(())
}

struct Running {
    models: Arc<Models>,
}

impl StatefulFunction for Running {
    fn eval(&mut self, args: &[Value], _ctx: &mut EvalContext<'_>) -> Result<Value, EvalError> {
        let (name, tensors) = match args {
            [Value::String(name), tensors @ ..] => (name, tensors),
            _ => return Err(EvalError::new("the first argument of onnx is the model's name, a string")),
        };
        let run = || -> Result<Value, String> {
            let model = self.models.get(name)?;
            check_inputs(&model, name, tensors.len(), &[])?;
            let inputs =
                model.inputs.iter().zip(tensors).map(|(input, value)| tensor(input, value).map(Tensor::into_tvalue));
            let outputs =
                model.run(inputs.collect::<Result<_, _>>()?).map_err(|error| format!("model {name}: {error}"))?;
            let outputs = outputs.iter().map(|output| numbers(output).map(|numbers| Value::Array(Arc::new(numbers))));
            Ok(Value::Array(Arc::new(outputs.collect::<Result<_, _>>()?)))
        };
        run().map_err(EvalError)
    }
}

/// A value as the tensor that an input takes.
fn tensor(input: &Input, value: &Value) -> Result<Tensor, String> {
    let made = match input.datum_type {
        DatumType::F32 => typed(input, value, f32::from_le_bytes, |number| number as f32),
        DatumType::F64 => typed(input, value, f64::from_le_bytes, |number| number),
        DatumType::I64 => typed(input, value, i64::from_le_bytes, |number| number as i64),
        DatumType::I32 => typed(input, value, i32::from_le_bytes, |number| number as i32),
        DatumType::I16 => typed(input, value, i16::from_le_bytes, |number| number as i16),
        DatumType::I8 => typed(input, value, i8::from_le_bytes, |number| number as i8),
        DatumType::U8 => typed(input, value, u8::from_le_bytes, |number| number as u8),
        other => return Err(format!("a model's input of {other:?} can't be given")),
    };
    made.map_err(|error| format!("tensor: {error}"))
}

fn typed<T: Datum + Copy, const N: usize>(
    input: &Input,
    value: &Value,
    of_bytes: fn([u8; N]) -> T,
    of_number: fn(f64) -> T,
) -> Result<Tensor, String> {
    fn add<T>(value: &Value, of_number: fn(f64) -> T, out: &mut Vec<T>) -> Result<(), String> {
        if let Value::Array(values) = value {
            return values.iter().try_for_each(|value| add(value, of_number, out));
        }
        let number = coerce::to_float(value, Strictness::SameKind);
        out.push(of_number(number.ok_or_else(|| format!("{} is no number", coerce::shown(value)))?));
        Ok(())
    }
    let mut numbers = Vec::new();
    match value {
        Value::Bytes(bytes) => {
            let (whole, rest) = bytes.as_chunks::<N>();
            if !rest.is_empty() {
                return Err(format!("{} bytes are no numbers of {N} bytes each", bytes.len()));
            }
            numbers.extend(whole.iter().map(|number| of_bytes(*number)));
        }
        value => add(value, of_number, &mut numbers)?,
    }
    let shape = input.shape_for(numbers.len())?;
    Tensor::from_shape(&shape, &numbers).map_err(|error| format!("{error:#}"))
}

/// All numbers of a tensor, in order.
fn numbers(tensor: &Tensor) -> Result<Vec<Value>, String> {
    let fault = |error: TractError| format!("the model's output can't be read: {error:#}");
    match tensor.datum_type() {
        DatumType::F32 | DatumType::F64 | DatumType::F16 => {
            let tensor = tensor.cast_to::<f64>().map_err(fault)?;
            let view = tensor.try_as_plain_ram().map_err(fault)?;
            Ok(view.as_slice::<f64>().map_err(fault)?.iter().copied().map(Value::Float).collect())
        }
        DatumType::Bool => {
            let view = tensor.try_as_plain_ram().map_err(fault)?;
            Ok(view.as_slice::<bool>().map_err(fault)?.iter().copied().map(Value::Bool).collect())
        }
        DatumType::String => {
            let view = tensor.try_as_plain_ram().map_err(fault)?;
            Ok(view.as_slice::<String>().map_err(fault)?.iter().map(|text| Value::string(text.as_str())).collect())
        }
        _ => {
            let tensor = tensor.cast_to::<i64>().map_err(fault)?;
            let view = tensor.try_as_plain_ram().map_err(fault)?;
            Ok(view.as_slice::<i64>().map_err(fault)?.iter().copied().map(Value::Int).collect())
        }
    }
}
