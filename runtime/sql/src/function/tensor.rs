//! Numbers that models give: which class, how sure, which boxes. A tensor is an array, nested or flat, or bytea of 32-bit floats.

use std::sync::Arc;

use super::NullPolicy::Null;
use super::define::{arg, array, array_value, ex, expected, float, gives, int, object_value};
use super::{EvalError, Function, Param};
use crate::value::coerce::{self, Strictness};
use crate::value::{Object, Value};

/// Boxes that are compared with each other at most: the surest ones.
const MAX_CANDIDATES: usize = 1000;

/// The functions of this file.
pub(super) fn functions() -> Vec<Function> {
    use Param::{Any, Int, Number, String};
    vec![
        Function::scalar("argmax", &[Any], gives::int, |args, _| {
            let numbers = numbers(arg(args, 0))?;
            let best = ranked(&numbers).next().ok_or_else(|| EvalError::new("argmax of an empty tensor"))?;
            Ok(Value::Int(best as i64))
        })
        .null(Null)
        .docs("The place of the greatest number, counted from 0; the first one, if several are.", &[
            ex!("argmax(a)", r#"{"a":[0.1,0.7,0.2]}"#, "1"),
            ex!("argmax(a)", r#"{"a":[[3],[1]]}"#, "0"),
            ex!("argmax(a)", r#"{"a":["x"]}"#, "error"),
        ]),
        Function::scalar("softmax", &[Any], gives::array, |args, _| {
            let numbers = numbers(arg(args, 0))?;
            let greatest = numbers.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let powers: Vec<f64> = numbers.iter().map(|number| (number - greatest).exp()).collect();
            let sum: f64 = powers.iter().sum();
            Ok(array_value(powers.into_iter().map(|power| Value::Float(power / sum)).collect()))
        })
        .null(Null)
        .docs("The numbers as probabilities that add up to 1, as a flat array.", &[
            ex!("softmax(a)", r#"{"a":[1,1]}"#, "[0.5,0.5]"),
            ex!("softmax(a)", r#"{"a":[1000,0]}"#, "[1,0]"),
        ]),
        Function::scalar("top_k", &[Any, Int, Any], gives::array, top_k).optional(1).null(Null).docs(
            "The k greatest numbers, greatest first, each as a struct of `index` (counted from 0) and `score`, and of `label` if \
             there is an array of labels.",
            &[
                ex!(
                    "top_k(a, 2)",
                    r#"{"a":[0.1,0.7,0.2]}"#,
                    r#"[{"index":1,"score":0.7},{"index":2,"score":0.2}]"#
                ),
                ex!(
                    "top_k(a, 1, b)",
                    r#"{"a":[0.1,0.7],"b":["cat","dog"]}"#,
                    r#"[{"index":1,"score":0.7,"label":"dog"}]"#
                ),
            ],
        ),
        Function::scalar("decode_boxes", &[Any, String, Int, Number, Number], gives::array, decode_boxes).null(Null).docs(
            "The boxes that a detector found: of its output, its layout, the number of classes, the least score, and how much two \
             boxes of one class may overlap (intersection over union) before the less sure one goes. Layout `yolov5`: a row per \
             box of centre, size, certainty, and a score per class; `yolov8`: the same without certainty, and turned over, so \
             that a row is one number of all boxes. Each box is a struct of `x`, `y` (its upper left corner), `width`, `height`, \
             `class`, `score`, in the model's pixels; the surest first.",
            &[
                ex!(
                    "decode_boxes(a, 'yolov5', 1, 0.5, 0.5)",
                    r#"{"a":[[10,10,4,4,1,0.9],[11,10,4,4,1,0.8],[30,30,2,2,1,0.4]]}"#,
                    r#"[{"x":8,"y":8,"width":4,"height":4,"class":0,"score":0.9}]"#
                ),
                ex!(
                    "decode_boxes(a, 'yolov8', 2, 0.5, 0.5)",
                    r#"{"a":[[10,30],[10,30],[4,2],[4,2],[0.1,0.6],[0.9,0.2]]}"#,
                    r#"[{"x":8,"y":8,"width":4,"height":4,"class":1,"score":0.9},{"x":29,"y":29,"width":2,"height":2,"class":0,"score":0.6}]"#
                ),
                ex!("decode_boxes(a, 'ssd', 1, 0.5, 0.5)", r#"{"a":[1]}"#, "error"),
                ex!("decode_boxes(a, 'yolov5', 2, 0.5, 0.5)", r#"{"a":[1,2,3]}"#, "error"),
            ],
        ),
        Function::scalar("nms", &[Any, Number], gives::array, |args, _| {
            let boxes = array(args, 0)?.iter().map(given_box).collect::<Result<Vec<_>, _>>()?;
            let kept = suppressed(boxes, float(args, 1)?);
            Ok(array_value(kept.into_iter().map(|(_, value)| value).collect()))
        })
        .null(Null)
        .docs(
            "Of boxes of one class that overlap more than that (intersection over union), only the surest. Boxes are structs of `x`, \
             `y`, `width`, `height`, `score` and, if there are several, `class`; other members stay.",
            &[ex!(
                "nms(a, 0.5)",
                r#"{"a":[{"x":1,"y":0,"width":4,"height":4,"score":0.8,"n":1},{"x":0,"y":0,"width":4,"height":4,"score":0.9,"n":2}]}"#,
                r#"[{"x":0,"y":0,"width":4,"height":4,"score":0.9,"n":2}]"#
            )],
        ),
    ]
}

/// All numbers of a tensor, in order.
fn numbers(tensor: &Value) -> Result<Vec<f64>, EvalError> {
    fn add(value: &Value, out: &mut Vec<f64>) -> Result<(), EvalError> {
        match value {
            Value::Array(values) => values.iter().try_for_each(|value| add(value, out)),
            value => {
                out.push(coerce::to_float(value, Strictness::SameKind).ok_or_else(|| expected("a number", value))?);
                Ok(())
            }
        }
    }
    match tensor {
        Value::Bytes(bytes) => {
            let (floats, rest) = bytes.as_chunks::<4>();
            if !rest.is_empty() {
                return Err(EvalError::new("bytea is no tensor of 32-bit floats: its length is no multiple of 4"));
            }
            Ok(floats.iter().map(|float| f64::from(f32::from_le_bytes(*float))).collect())
        }
        Value::Array(_) => {
            let mut out = Vec::new();
            add(tensor, &mut out)?;
            Ok(out)
        }
        other => Err(expected("a tensor (an array, or bytea of floats)", other)),
    }
}

/// Places by their number, greatest first; those that are no number last.
fn ranked(numbers: &[f64]) -> impl Iterator<Item = usize> {
    let at = |place: usize| numbers.get(place).copied().filter(|number| !number.is_nan()).unwrap_or(f64::NEG_INFINITY);
    let mut places: Vec<usize> = (0..numbers.len()).collect();
    places.sort_by(|a, b| at(*b).total_cmp(&at(*a)));
    places.into_iter()
}

fn top_k(args: &[Value], _ctx: &mut crate::expr::EvalContext<'_>) -> Result<Value, EvalError> {
    let scores = numbers(arg(args, 0))?;
    let n_wanted = usize::try_from(int(args, 1)?).map_err(|_| EvalError::new("top_k of a negative number"))?;
    let labels = if arg(args, 2).is_null() { None } else { Some(array(args, 2)?) };
    if let Some(labels) = labels
        && labels.len() < scores.len()
    {
        return Err(EvalError(format!("{} labels are too few for {} scores", labels.len(), scores.len())));
    }
    let entry = |place: usize| {
        let mut entry = Object::with_capacity(3);
        entry.insert("index", Value::Int(place as i64));
        entry.insert("score", scores.get(place).copied().map_or(Value::Null, Value::Float));
        if let Some(label) = labels.and_then(|labels| labels.get(place)) {
            entry.insert("label", label.clone());
        }
        object_value(entry)
    };
    Ok(array_value(ranked(&scores).take(n_wanted).map(entry).collect()))
}

/// Corners and score of a box, and its class as text: how boxes are compared.
#[derive(Clone, Debug)]
struct Area {
    x: f64,
    y: f64,
    width: f64,
    height: f64,
    score: f64,
    class: String,
}

impl Area {
    /// Intersection over union.
    fn overlap(&self, other: &Area) -> f64 {
        let side = |start: f64, length: f64, other_start: f64, other_length: f64| {
            ((start + length).min(other_start + other_length) - start.max(other_start)).max(0.0)
        };
        let shared = side(self.x, self.width, other.x, other.width) * side(self.y, self.height, other.y, other.height);
        let union = self.width * self.height + other.width * other.height - shared;
        if union > 0.0 { shared / union } else { 0.0 }
    }
}

/// The surest boxes of each class that overlap no surer one by more than that, the surest first.
fn suppressed(mut boxes: Vec<(Area, Value)>, max_overlap: f64) -> Vec<(Area, Value)> {
    boxes.sort_by(|(a, _), (b, _)| b.score.total_cmp(&a.score));
    boxes.truncate(MAX_CANDIDATES);
    let mut kept: Vec<(Area, Value)> = Vec::new();
    for (area, value) in boxes {
        let is_hidden = |(other, _): &(Area, Value)| other.class == area.class && other.overlap(&area) > max_overlap;
        if !kept.iter().any(is_hidden) {
            kept.push((area, value));
        }
    }
    kept
}

fn given_box(value: &Value) -> Result<(Area, Value), EvalError> {
    let object = value.to_object().ok_or_else(|| expected("a box", value))?;
    let number = |name: &str| {
        let number = object.get(name).and_then(|value| coerce::to_float(value, Strictness::SameKind));
        number.ok_or_else(|| EvalError(format!("a box has no number `{name}`")))
    };
    let class = object.get("class").map(|class| coerce::text(class).into_owned()).unwrap_or_default();
    let area = Area {
        x: number("x")?,
        y: number("y")?,
        width: number("width")?,
        height: number("height")?,
        score: number("score")?,
        class,
    };
    Ok((area, value.clone()))
}

fn decode_boxes(args: &[Value], _ctx: &mut crate::expr::EvalContext<'_>) -> Result<Value, EvalError> {
    let output = numbers(arg(args, 0))?;
    let n_classes = usize::try_from(int(args, 2)?).ok().filter(|n_classes| (1..=100_000).contains(n_classes));
    let n_classes = n_classes.ok_or_else(|| EvalError::new("decode_boxes needs at least one class"))?;
    let (min_score, max_overlap) = (float(args, 3)?, float(args, 4)?);
    let (first_class, is_turned) = match coerce::text(arg(args, 1)).as_ref() {
        "yolov5" => (5, false),
        "yolov8" => (4, true),
        other => return Err(EvalError(format!("no box layout is called {other}: yolov5, yolov8"))),
    };
    let n_numbers = first_class + n_classes;
    let n_boxes = output.len() / n_numbers;
    if output.len() % n_numbers != 0 {
        let message = format!("{} numbers are no boxes of {n_numbers} numbers each", output.len());
        return Err(EvalError(message));
    }
    let mut boxes = Vec::new();
    for box_idx in 0..n_boxes {
        let at = |idx: usize| {
            let place = if is_turned { idx * n_boxes + box_idx } else { box_idx * n_numbers + idx };
            output.get(place).copied().unwrap_or(f64::NAN)
        };
        let certainty = if is_turned { 1.0 } else { at(4) };
        let scores: Vec<f64> = (0..n_classes).map(|class| at(first_class + class) * certainty).collect();
        let Some(class) = ranked(&scores).next() else { continue };
        let score = scores.get(class).copied().unwrap_or(0.0);
        if score.is_nan() || score < min_score {
            continue;
        }
        let (width, height) = (at(2), at(3));
        let area =
            Area { x: at(0) - width / 2.0, y: at(1) - height / 2.0, width, height, score, class: class.to_string() };
        let members = [("x", area.x), ("y", area.y), ("width", width), ("height", height)];
        let mut object: Object = members.map(|(name, number)| (name, Value::Float(number))).into_iter().collect();
        object.insert("class", Value::Int(class as i64));
        object.insert("score", Value::Float(score));
        boxes.push((area, Value::Object(Arc::new(object))));
    }
    Ok(array_value(suppressed(boxes, max_overlap).into_iter().map(|(_, value)| value).collect()))
}
