//! How the functions are called: parameters, what is checked before anything runs, docs, examples. In both flavours, so that one who
//! only checks rules needs no more.

use std::borrow::Cow;
use std::sync::Arc;

use sluice_sql::expr::EvalContext;
use sluice_sql::function::{
    ArgFacts, Body, EvalError, Example, ExternalFunction, Function, NullPolicy, Param, StatefulFunction,
};
use sluice_sql::value::coerce::{self, Strictness};
use sluice_sql::{Type, Value};

/// The functions, with bodies that only check.
pub fn functions() -> Vec<Function> {
    use Param::{Any, Bool, Int, String};
    let function = |name, params, returns: Returns, check: Check| {
        let body = Body::External(Arc::new(Picture { returns, check }));
        Function::new(name, params, returns, body).null(NullPolicy::Null)
    };
    let bytes: Returns = |_| Type::Bytes;
    let array: Returns = |_| Type::Array(Box::new(Type::Any));
    vec![
        function("image_info", &[Any], |_| Type::Struct(Vec::new()), |_| Ok(()))
            .docs("What a picture's header says: a struct of `format`, `width`, `height`, `channels`, `bits`.", INFO),
        function("image_decode", &[Any, String], bytes, |args| at(args, 1, Pixels::of)).optional(1).docs(
            "The pixels, row by row, a byte per channel: `rgb` (by default), `rgba` or `gray`.",
            DECODE,
        ),
        function("image_encode", &[Any, Int, Int, String, Int], bytes, |args| {
            side(args, 1, "width")?;
            side(args, 2, "height")?;
            at(args, 3, Format::of)?;
            at(args, 4, quality)
        })
        .optional(1)
        .docs(
            "A picture from pixels, row by row, by width and height: as `jpeg` (with a quality from 1 to 100), `png` or `webp`. The \
             number of bytes tells whether they are gray, rgb or rgba.",
            ENCODE,
        ),
        function("image_convert", &[Any, String, Int], bytes, |args| {
            at(args, 1, Format::of)?;
            at(args, 2, quality)
        })
        .optional(1)
        .docs("The picture as `jpeg` (with a quality from 1 to 100), `png` or `webp`.", CONVERT),
        function("resize", &[Any, Int, Int, Bool], bytes, |args| {
            side(args, 1, "width")?;
            side(args, 2, "height")
        })
        .aliases(&["image_resize"])
        .optional(1)
        .docs(
            "The picture at another width and height, in its own format; where one is 0 it follows the other. With `true` the pixels \
             themselves, as rgb.",
            RESIZE,
        ),
        function("thumbnail", &[Any, Int, Int], bytes, |args| {
            side(args, 1, "width")?;
            side(args, 2, "height")
        })
        .aliases(&["image_thumbnail"])
        .docs("The picture made to fit into a width and height, in its own format; never larger than it was.", THUMBNAIL),
        function("image_crop", &[Any, Int, Int, Int, Int], bytes, |args| {
            side(args, 1, "left")?;
            side(args, 2, "top")?;
            side(args, 3, "width")?;
            side(args, 4, "height")
        })
        .docs("A part of the picture, by its left, top, width and height, in the picture's format.", CROP),
        function("image_rotate", &[Any, Int], bytes, |args| at(args, 1, degrees))
            .docs("The picture turned clockwise by 90, 180 or 270 degrees, in its own format.", ROTATE),
        function("image_gray", &[Any], bytes, |_| Ok(()))
            .docs("The picture without colours, in its own format.", GRAY),
        Function::new("image_tensor", &[Any, Int, Int, String, Any, Any], bytes, Body::External(Arc::new(Tensor)))
            .null(NullPolicy::Null)
            .optional(3)
            .docs(
                "The picture as a model takes it: resized to width and height, layout `nchw` (by default: all red, all green, all blue) \
                 or `nhwc`, or `gray` for one channel. Each number is first brought between 0 and 1, then the mean is taken off and the \
                 rest divided by the standard deviation: a number, or one per channel as an array or as text with commas. The result is \
                 bytea of 32-bit floats, the lowest byte first.",
                TENSOR,
            ),
        Function::new("onnx", &[String, Any], array, Body::External(Arc::new(Onnx))).variadic().null(NullPolicy::Null).docs(
            "What an ONNX model makes of tensors, one per input: an array with one flat array of numbers per output. The model is the \
             file `NAME.onnx` of the folder of models. A tensor is an array, nested or flat, or bytea of the model's own numbers, the \
             lowest byte first (32-bit floats, as `image_tensor` makes them).",
            ONNX,
        ),
    ]
}

/// One or more examples, as a constant.
macro_rules! examples {
    ($name:ident, $(($call:expr, $input:expr, $result:expr)),+ $(,)?) => {
        const $name: &[Example] = &[$(Example { call: $call, input: $input, result: $result }),+];
    };
}

/// A row whose column `a` is a picture of two by one pixels, red and blue, as a PNG.
macro_rules! row {
    () => {
        r#"{"a":"iVBORw0KGgoAAAANSUhEUgAAAAIAAAABCAIAAAB7QOjdAAAADUlEQVR42mP4zwAE/wEHAAH/PX2MSQAAAABJRU5ErkJggg=="}"#
    };
}

examples!(INFO, ("image_info(a)", row!(), r#"{"format":"png","width":2,"height":1,"channels":3,"bits":8}"#));
examples!(
    DECODE,
    ("image_decode(a)", row!(), r#""/wAAAAD/""#),
    ("image_decode(a, 'gray')", row!(), r#""NhI=""#),
    ("image_decode(a, 'cmyk')", row!(), "error"),
    ("image_decode(a)", r#"{"a":"bm8gcGljdHVyZQ=="}"#, "error"),
);
examples!(
    ENCODE,
    (
        "image_info(image_encode(a, 1, 2, 'webp'))",
        r#"{"a":"/wAAAAD/"}"#,
        r#"{"format":"webp","width":1,"height":2,"channels":3,"bits":8}"#
    ),
    ("image_encode(a, 2, 2, 'png')", r#"{"a":"/wAAAAD/"}"#, "error"),
);
examples!(
    CONVERT,
    (
        "image_info(image_convert(a, 'jpeg', 90))",
        row!(),
        r#"{"format":"jpeg","width":2,"height":1,"channels":3,"bits":8}"#
    ),
    ("image_convert(a, 'gif')", row!(), "error"),
);
examples!(
    RESIZE,
    ("image_info(resize(a, 4, 0))", row!(), r#"{"format":"png","width":4,"height":2,"channels":3,"bits":8}"#),
    ("resize(a, 1, 1, true)", row!(), r#""gACA""#),
);
examples!(
    THUMBNAIL,
    ("image_info(thumbnail(a, 1, 1))", row!(), r#"{"format":"png","width":1,"height":1,"channels":3,"bits":8}"#),
    ("image_info(thumbnail(a, 100, 100))", row!(), r#"{"format":"png","width":2,"height":1,"channels":3,"bits":8}"#),
);
examples!(
    CROP,
    ("image_decode(image_crop(a, 1, 0, 1, 1))", row!(), r#""AAD/""#),
    ("image_crop(a, 1, 0, 2, 1)", row!(), "error"),
);
examples!(
    ROTATE,
    ("image_decode(image_rotate(a, 180))", row!(), r#""AAD//wAA""#),
    ("image_rotate(a, 45)", row!(), "error"),
);
examples!(GRAY, ("image_decode(image_gray(a), 'gray')", row!(), r#""NhI=""#));
examples!(
    TENSOR,
    ("image_tensor(a, 2, 1, 'nhwc')", row!(), r#""AACAPwAAAAAAAAAAAAAAAAAAAAAAAIA/""#),
    ("image_tensor(a, 1, 1, 'gray', 0.5, 0)", row!(), "error"),
);
examples!(
    ONNX,
    ("onnx('times123', b)", r#"{"b":[1,10,100]}"#, "[[1,20,300]]"),
    ("onnx('times123', b)", r#"{"b":[1,10]}"#, "error"),
    ("onnx('missing', b)", r#"{"b":[1]}"#, "error"),
);

/// The type of a result.
type Returns = fn(&[Type]) -> Type;
/// Checks the literals of a call.
type Check = fn(&[ArgFacts]) -> Result<(), String>;

/// A function over a picture.
struct Picture {
    returns: Returns,
    check: Check,
}

impl ExternalFunction for Picture {
    fn check(&self, args: &[ArgFacts]) -> Result<Type, String> {
        is_picture(args)?;
        (self.check)(args)?;
        Ok((self.returns)(&[]))
    }

    fn start(&self) -> Box<dyn StatefulFunction> {
        Box::new(Elsewhere)
    }
}

/// `image_tensor`
struct Tensor;

impl ExternalFunction for Tensor {
    fn check(&self, args: &[ArgFacts]) -> Result<Type, String> {
        is_picture(args)?;
        side(args, 1, "width")?;
        side(args, 2, "height")?;
        at(args, 3, Layout::of)?;
        // How many numbers there must be depends on the layout.
        if let Some(layout) = layout_of(args) {
            at(args, 4, |value| mean(value, layout))?;
            at(args, 5, |value| deviation(value, layout))?;
        }
        Ok(Type::Bytes)
    }

    fn tensor(&self, args: &[ArgFacts]) -> Option<Vec<usize>> {
        let side = |idx: usize| {
            let literal = args.get(idx)?.literal.as_ref()?;
            number(literal, "side").ok().and_then(|side| usize::try_from(side).ok())
        };
        let (width, height) = (side(1)?, side(2)?);
        Some(match layout_of(args)? {
            Layout::Nchw => vec![1, 3, height, width],
            Layout::Nhwc => vec![1, height, width, 3],
            Layout::Gray => vec![1, 1, height, width],
        })
    }

    fn start(&self) -> Box<dyn StatefulFunction> {
        Box::new(Elsewhere)
    }
}

/// `onnx`, without models.
struct Onnx;

impl ExternalFunction for Onnx {
    fn check(&self, args: &[ArgFacts]) -> Result<Type, String> {
        check_tensors(args)?;
        Ok(Type::Array(Box::new(Type::Array(Box::new(Type::Any)))))
    }

    fn start(&self) -> Box<dyn StatefulFunction> {
        Box::new(Elsewhere)
    }
}

/// Those who only check never come here.
struct Elsewhere;

impl StatefulFunction for Elsewhere {
    fn eval(&mut self, _args: &[Value], _ctx: &mut EvalContext<'_>) -> Result<Value, EvalError> {
        Err(EvalError(format!("the function {}", super::ELSEWHERE)))
    }
}

/// The arguments of `onnx` behind the name are something that a tensor can be made of.
pub fn check_tensors(args: &[ArgFacts]) -> Result<(), String> {
    for ArgFacts { ty, .. } in args.iter().skip(1) {
        if !matches!(ty, Type::Array(_) | Type::Bytes | Type::Any) {
            return Err(format!("a tensor is an array or bytea, not {}", coerce::type_name(ty)));
        }
    }
    Ok(())
}

fn is_picture(args: &[ArgFacts]) -> Result<(), String> {
    match args.first().map(|arg| &arg.ty) {
        None | Some(Type::Bytes | Type::Any) => Ok(()),
        Some(other) => Err(format!("a picture is bytea, not {}", coerce::type_name(other))),
    }
}

/// Checks argument `idx`, if it is a literal other than null.
fn at<T>(args: &[ArgFacts], idx: usize, check: impl Fn(&Value) -> Result<T, String>) -> Result<(), String> {
    match args.get(idx).and_then(|arg| arg.literal.as_ref()) {
        Some(literal) if !literal.is_null() => check(literal).map(|_| ()),
        _ => Ok(()),
    }
}

fn side(args: &[ArgFacts], idx: usize, what: &str) -> Result<(), String> {
    at(args, idx, |value| number(value, what))
}

/// The layout of a call of `image_tensor`, if it is known.
fn layout_of(args: &[ArgFacts]) -> Option<Layout> {
    match args.get(3) {
        None => Some(Layout::Nchw),
        Some(arg) => arg.literal.as_ref().and_then(|literal| Layout::of(literal).ok()),
    }
}

/// A whole number from 0 on.
pub fn number(value: &Value, what: &str) -> Result<u32, String> {
    let number = coerce::to_int(value, Strictness::Strict).and_then(|number| u32::try_from(number).ok());
    number.ok_or_else(|| format!("the {what} must be a whole number from 0 on"))
}

fn word(value: &Value) -> Cow<'_, str> {
    let text = coerce::text(value);
    if text.chars().any(|c| c.is_ascii_uppercase()) { Cow::Owned(text.to_ascii_lowercase()) } else { text }
}

/// What pictures are written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// With loss, by a quality.
    Jpeg,
    /// Without loss.
    Png,
    /// Without loss.
    Webp,
}

impl Format {
    /// By name.
    pub fn of(value: &Value) -> Result<Self, String> {
        match &*word(value) {
            "jpeg" | "jpg" => Ok(Format::Jpeg),
            "png" => Ok(Format::Png),
            "webp" => Ok(Format::Webp),
            other => Err(format!("no format is called {other}: jpeg, png, webp")),
        }
    }
}

/// What pixels are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pixels {
    /// Three bytes.
    Rgb,
    /// Four, the last of which says how much it covers.
    Rgba,
    /// One.
    Gray,
}

impl Pixels {
    /// By name.
    pub fn of(value: &Value) -> Result<Self, String> {
        match &*word(value) {
            "rgb" => Ok(Pixels::Rgb),
            "rgba" => Ok(Pixels::Rgba),
            "gray" => Ok(Pixels::Gray),
            other => Err(format!("no kind of pixel is called {other}: rgb, rgba, gray")),
        }
    }
}

/// The order of a tensor's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Channel by channel.
    Nchw,
    /// Pixel by pixel.
    Nhwc,
    /// One channel.
    Gray,
}

impl Layout {
    /// By name.
    pub fn of(value: &Value) -> Result<Self, String> {
        match &*word(value) {
            "nchw" => Ok(Layout::Nchw),
            "nhwc" => Ok(Layout::Nhwc),
            "gray" => Ok(Layout::Gray),
            other => Err(format!("no layout is called {other}: nchw, nhwc, gray")),
        }
    }

    /// How many channels it has.
    pub fn n_channels(self) -> usize {
        if self == Layout::Gray { 1 } else { 3 }
    }
}

/// From 1 to 100.
pub fn quality(value: &Value) -> Result<u8, String> {
    let quality = number(value, "quality")?;
    u8::try_from(quality)
        .ok()
        .filter(|quality| (1..=100).contains(quality))
        .ok_or_else(|| format!("a quality of {quality} is not between 1 and 100"))
}

/// 0, 90, 180 or 270.
pub fn degrees(value: &Value) -> Result<u16, String> {
    let degrees = coerce::to_int(value, Strictness::Strict).map(|degrees| degrees.rem_euclid(360));
    match degrees {
        Some(0) => Ok(0),
        Some(90) => Ok(90),
        Some(180) => Ok(180),
        Some(270) => Ok(270),
        _ => Err("a picture is turned by 90, 180 or 270 degrees".to_owned()),
    }
}

/// What is taken off each channel.
pub fn mean(value: &Value, layout: Layout) -> Result<Vec<f32>, String> {
    per_channel(value, layout, 0.0, "mean")
}

/// What each channel is divided by.
pub fn deviation(value: &Value, layout: Layout) -> Result<Vec<f32>, String> {
    let deviation = per_channel(value, layout, 1.0, "standard deviation")?;
    if deviation.contains(&0.0) {
        return Err("the standard deviation must not be 0".to_owned());
    }
    Ok(deviation)
}

/// A number per channel: all the same, an array, or text with commas.
fn per_channel(value: &Value, layout: Layout, otherwise: f32, what: &str) -> Result<Vec<f32>, String> {
    let n_channels = layout.n_channels();
    let wrong = || match n_channels {
        1 => format!("the {what} must be a number"),
        n_channels => format!("the {what} must be a number, or {n_channels} of them"),
    };
    let float = |value: &Value| coerce::to_float(value, Strictness::All).map(|float| float as f32).ok_or_else(wrong);
    let floats: Vec<f32> = match value {
        Value::Null | Value::Missing => vec![otherwise],
        Value::Array(values) => values.iter().map(float).collect::<Result<_, _>>()?,
        Value::String(text) => {
            text.split(',').map(|part| part.trim().parse().map_err(|_| wrong())).collect::<Result<_, _>>()?
        }
        value => vec![float(value)?],
    };
    if floats.iter().any(|float| !float.is_finite()) {
        return Err(wrong());
    }
    match floats.as_slice() {
        [one] => Ok(vec![*one; n_channels]),
        floats if floats.len() == n_channels => Ok(floats.to_vec()),
        _ => Err(wrong()),
    }
}
