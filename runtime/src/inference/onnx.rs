//! `onnx(model, tensor...)`: tensors through a model.

use std::sync::Arc;

use sluice_sql::expr::EvalContext;
use sluice_sql::function::{ArgFacts, Body, EvalError, ExternalFunction, Function, StatefulFunction};
use sluice_sql::value::coerce::{self, Strictness};
use sluice_sql::{Type, Value};
use tract_onnx::prelude::*;

use super::model::{Model, Models, OPEN, Port};
use super::signature::check_tensors;

/// The function over the models.
pub fn function(declared: Function, models: &Arc<Models>) -> Function {
    Function { body: Body::External(Arc::new(Onnx { models: Arc::clone(models), sides: Vec::new() })), ..declared }
}

struct Onnx {
    models: Arc<Models>,
    /// The sides of each tensor, where they are known when the call is planned: bytes do not tell them.
    sides: Vec<Option<Vec<usize>>>,
}

impl ExternalFunction for Onnx {
    fn check(&self, args: &[ArgFacts]) -> Result<Type, String> {
        check_tensors(args)?;
        // A model that is not there yet may come later, and rows say so meanwhile.
        let model = match args.first().and_then(|name| name.literal.as_ref()) {
            Some(Value::String(name)) if self.models.has_folder() => {
                self.models.get(name).ok().map(|model| (name, model))
            }
            _ => None,
        };
        let number = match model {
            Some((name, model)) => {
                let tensors = args.get(1..).unwrap_or_default();
                check_count(&model, name, tensors.len())?;
                for (idx, (input, arg)) in model.inputs.iter().zip(tensors).enumerate() {
                    check_input(input, arg).map_err(|error| format!("tensor {} of model {name}: {error}", idx + 1))?;
                }
                number_type(&model)
            }
            None => Type::Any,
        };
        Ok(Type::Array(Box::new(Type::Array(Box::new(number)))))
    }

    fn bind(&self, args: &[ArgFacts]) -> Option<Arc<dyn ExternalFunction>> {
        let sides = args.iter().skip(1).map(|arg| arg.tensor.clone()).collect();
        Some(Arc::new(Onnx { models: Arc::clone(&self.models), sides }))
    }

    fn start(&self) -> Box<dyn StatefulFunction> {
        Box::new(Running { models: Arc::clone(&self.models), sides: self.sides.clone() })
    }
}

fn check_count(model: &Model, name: &str, n_given: usize) -> Result<(), String> {
    if model.inputs.len() == n_given {
        return Ok(());
    }
    let shown: Vec<String> = model.inputs.iter().map(Port::to_string).collect();
    let n_inputs = model.inputs.len();
    let plural = if n_inputs == 1 { "" } else { "s" };
    Err(format!("model {name} takes {n_inputs} tensor{plural}, not {n_given}: {}", shown.join(", ")))
}

/// Whether an argument can be what an input takes, as far as that is known before there are rows.
fn check_input(input: &Port, arg: &ArgFacts) -> Result<(), String> {
    if let Some(literal) = &arg.literal {
        tensor(input, literal, None)?;
    }
    let Some(sides) = &arg.tensor else {
        if arg.ty == Type::Bytes && input.is_ambiguous() {
            return Err(format!("the model's input of {input} {OPEN}"));
        }
        return Ok(());
    };
    if input.datum_type != DatumType::F32 {
        return Err(format!("the model's input is {input}, and this is of 32-bit floats"));
    }
    if !input.takes(sides) {
        let sides: Vec<String> = sides.iter().map(usize::to_string).collect();
        return Err(format!("the model's input is {input}, and this is [{}]", sides.join(",")));
    }
    Ok(())
}

/// The type of the numbers of all outputs, if it is one.
fn number_type(model: &Model) -> Type {
    let mut types = model.outputs.iter().map(|output| match output.datum_type {
        DatumType::F16 | DatumType::F32 | DatumType::F64 => Type::Float,
        DatumType::Bool => Type::Bool,
        DatumType::String => Type::String,
        datum_type if datum_type.is_integer() => Type::Int,
        _ => Type::Any,
    });
    let first = types.next().unwrap_or(Type::Any);
    if types.all(|ty| ty == first) { first } else { Type::Any }
}

struct Running {
    models: Arc<Models>,
    sides: Vec<Option<Vec<usize>>>,
}

impl StatefulFunction for Running {
    fn eval(&mut self, args: &[Value], _ctx: &mut EvalContext<'_>) -> Result<Value, EvalError> {
        let (name, tensors) = match args {
            [Value::String(name), tensors @ ..] => (name, tensors),
            _ => return Err(EvalError::new("the first argument of onnx is the model's name, a string")),
        };
        let run = || -> Result<Value, String> {
            let model = self.models.get(name)?;
            check_count(&model, name, tensors.len())?;
            let inputs = model.inputs.iter().zip(tensors).enumerate().map(|(idx, (input, value))| {
                let sides = self.sides.get(idx).and_then(Option::as_deref);
                let made = tensor(input, value, sides).map(Tensor::into_tvalue);
                made.map_err(|error| format!("tensor {} of model {name}: {error}", idx + 1))
            });
            let inputs = inputs.collect::<Result<_, _>>()?;
            let outputs = model.run(inputs).map_err(|error| format!("model {name}: {error}"))?;
            let outputs = outputs.iter().map(|output| numbers(output).map(|numbers| Value::Array(Arc::new(numbers))));
            Ok(Value::Array(Arc::new(outputs.collect::<Result<_, _>>()?)))
        };
        run().map_err(EvalError)
    }
}

/// A value as the tensor that an input takes; `sides` if they are known without it.
fn tensor(input: &Port, value: &Value, sides: Option<&[usize]>) -> Result<Tensor, String> {
    match input.datum_type {
        DatumType::F32 => typed(input, value, sides, f32::from_le_bytes, |number| number as f32),
        DatumType::F64 => typed(input, value, sides, f64::from_le_bytes, |number| number),
        DatumType::I64 => typed(input, value, sides, i64::from_le_bytes, |number| number as i64),
        DatumType::I32 => typed(input, value, sides, i32::from_le_bytes, |number| number as i32),
        DatumType::I16 => typed(input, value, sides, i16::from_le_bytes, |number| number as i16),
        DatumType::I8 => typed(input, value, sides, i8::from_le_bytes, |number| number as i8),
        DatumType::U8 => typed(input, value, sides, u8::from_le_bytes, |number| number as u8),
        other => Err(format!("a model's input of {other:?} can't be given")),
    }
}

fn typed<T: Datum + Copy, const N: usize>(
    input: &Port,
    value: &Value,
    sides: Option<&[usize]>,
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
    let sides = sides.map_or_else(|| nested_sides(value), <[usize]>::to_vec);
    let shape = match sides.iter().product::<usize>() == numbers.len() && input.takes(&sides) {
        true => sides,
        false => input.shape_for(numbers.len())?,
    };
    Tensor::from_shape(&shape, &numbers).map_err(|error| format!("{error:#}"))
}

/// The sides of an array of arrays, as its first elements have them.
fn nested_sides(value: &Value) -> Vec<usize> {
    let mut sides = Vec::new();
    let mut value = Some(value);
    while let Some(Value::Array(values)) = value {
        sides.push(values.len());
        value = values.first();
    }
    sides
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
