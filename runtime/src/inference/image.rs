//! Pictures: decoded, measured, cut, turned, made into tensors. A picture is bytea with a JPEG, PNG or WebP in it.
//!
//! The header of a picture is read first, and what would be too large is refused before anything is decoded.

use std::io::Cursor;
use std::sync::Arc;

use bytes::Bytes;
use image::codecs::jpeg::JpegEncoder;
use image::imageops::FilterType;
use image::{DynamicImage, ImageDecoder as _, ImageFormat, ImageReader, Limits, RgbImage};
use sluice_sql::expr::EvalContext;
use sluice_sql::function::{Body, EvalError, ExternalFunction, Function, NullPolicy, Param, StatefulFunction};
use sluice_sql::value::coerce::{self, Strictness};
use sluice_sql::{Object, Type, Value};

/// Pixels of a picture, at most.
const MAX_PIXELS: u64 = 64 << 20;
/// Width and height, at most.
const MAX_SIDE: u32 = 32_768;
/// Bytes that a decoder may take for itself.
const MAX_DECODER_BYTES: u64 = 512 << 20;
/// Quality of JPEGs, unless it is said.
const JPEG_QUALITY: u8 = 85;

type Outcome<T> = Result<T, EvalError>;

/// A function without state.
struct Picture {
    body: fn(&[Value]) -> Outcome<Value>,
    returns: Type,
}

impl ExternalFunction for Picture {
    fn check(&self, _literals: &[Option<Value>], types: &[Type]) -> Result<Type, String> {
        match types.first() {
            Some(Type::Bytes | Type::Any) => Ok(self.returns.clone()),
            Some(other) => Err(format!("a picture is bytea, not {}", coerce::type_name(other))),
            None => Ok(self.returns.clone()),
        }
    }

    fn start(&self) -> Box<dyn StatefulFunction> {
        Box::new(Running(self.body))
    }
}

struct Running(fn(&[Value]) -> Outcome<Value>);

impl StatefulFunction for Running {
    fn eval(&mut self, args: &[Value], _ctx: &mut EvalContext<'_>) -> Outcome<Value> {
        (self.0)(args)
    }
}

/// The functions of this file.
pub fn functions() -> Vec<Function> {
    use Param::{Any, Bool, Int, String};
    let function = |name, params, returns: Type, body: fn(&[Value]) -> Outcome<Value>| {
        let body = Body::External(Arc::new(Picture { body, returns }));
        Function::new(name, params, |_| Type::Any, body).null(NullPolicy::Null)
    };
    vec![
        function("image_info", &[Any], Type::Struct(Vec::new()), info)
            .docs("What a picture's header says: a struct of `format`, `width`, `height`, `channels`, `bits`.", &[]),
        function("image_decode", &[Any, String], Type::Bytes, decode_pixels)
            .optional(1)
            .docs("The pixels, row by row, a byte per channel: `rgb` (by default), `rgba` or `gray`.", &[]),
        function("image_encode", &[Any, Int, Int, String, Int], Type::Bytes, encode_pixels).optional(1).docs(
            "A picture from pixels, row by row, by width and height: as `jpeg` (with a quality from 1 to 100), `png` or `webp`. \
             The number of bytes tells whether they are gray, rgb or rgba.",
            &[],
        ),
        function("image_convert", &[Any, String, Int], Type::Bytes, convert)
            .optional(1)
            .docs("The picture as `jpeg` (with a quality from 1 to 100), `png` or `webp`.", &[]),
        function("resize", &[Any, Int, Int, Bool], Type::Bytes, resize).aliases(&["image_resize"]).optional(1).docs(
            "The picture at another width and height, in its own format; where one is 0 it follows the other. With `true` the \
             pixels themselves, as rgb.",
            &[],
        ),
        function("thumbnail", &[Any, Int, Int], Type::Bytes, thumbnail)
            .aliases(&["image_thumbnail"])
            .docs("The picture made to fit into a width and height, in its own format; never larger than it was.", &[]),
        function("image_crop", &[Any, Int, Int, Int, Int], Type::Bytes, crop)
            .docs("A part of the picture, by its left, top, width and height, in the picture's format.", &[]),
        function("image_rotate", &[Any, Int], Type::Bytes, rotate)
            .docs("The picture turned clockwise by 90, 180 or 270 degrees, in its own format.", &[]),
        function("image_gray", &[Any], Type::Bytes, gray).docs("The picture without colours, in its own format.", &[]),
        function("image_tensor", &[Any, Int, Int, String, Any, Any], Type::Bytes, tensor).optional(3).docs(
            "The picture as a model takes it: resized to width and height, layout `nchw` (by default: all red, all green, all blue) \
             or `nhwc`, or `gray` for one channel. Each number is first brought between 0 and 1, then the mean is taken off and \
             the rest divided by the standard deviation: a number, or one per channel as an array or as text with commas. The \
             result is bytea of 32-bit floats.",
            &[],
        ),
    ]
}

fn error(error: &dyn std::fmt::Display) -> EvalError {
    EvalError(format!("not a picture that can be read: {error}"))
}

fn arg(args: &[Value], idx: usize) -> &Value {
    static MISSING: Value = Value::Missing;
    args.get(idx).unwrap_or(&MISSING)
}

fn bytes(args: &[Value]) -> Outcome<&Bytes> {
    match arg(args, 0) {
        Value::Bytes(bytes) => Ok(bytes.as_ref()),
        other => Err(EvalError(format!("a picture is bytea, found a {}", other.kind_name()))),
    }
}

/// A whole number from 0 on.
fn number(args: &[Value], idx: usize, what: &str) -> Outcome<u32> {
    let number = coerce::to_int(arg(args, idx), Strictness::Strict).and_then(|number| u32::try_from(number).ok());
    number.ok_or_else(|| EvalError(format!("the {what} must be a whole number from 0 on")))
}

fn text(args: &[Value], idx: usize) -> Option<std::borrow::Cow<'_, str>> {
    let value = arg(args, idx);
    (!value.is_null()).then(|| coerce::text(value))
}

/// Refuses sizes that would take too much memory.
fn check_size(width: u32, height: u32) -> Outcome<()> {
    if width == 0 || height == 0 {
        return Err(EvalError::new("a picture without pixels"));
    }
    if width > MAX_SIDE || height > MAX_SIDE || u64::from(width) * u64::from(height) > MAX_PIXELS {
        let limit = MAX_PIXELS >> 20;
        return Err(EvalError(format!(
            "a picture of {width} x {height} pixels is too large: {MAX_SIDE} per side and {limit} Mi pixels are the limit"
        )));
    }
    Ok(())
}

fn reader(bytes: &Bytes) -> Outcome<(ImageReader<Cursor<&[u8]>>, ImageFormat)> {
    let mut reader = ImageReader::new(Cursor::new(&bytes[..])).with_guessed_format().map_err(|e| error(&e))?;
    let format = match reader.format() {
        Some(format @ (ImageFormat::Jpeg | ImageFormat::Png | ImageFormat::WebP)) => format,
        _ => return Err(EvalError::new("not a picture that can be read: neither JPEG nor PNG nor WebP")),
    };
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(MAX_DECODER_BYTES);
    reader.limits(limits);
    Ok((reader, format))
}

fn decode(bytes: &Bytes) -> Outcome<(DynamicImage, ImageFormat)> {
    let (width, height) = reader(bytes)?.0.into_dimensions().map_err(|e| error(&e))?;
    check_size(width, height)?;
    let (reader, format) = reader(bytes)?;
    Ok((reader.decode().map_err(|e| error(&e))?, format))
}

fn encode(picture: &DynamicImage, format: ImageFormat, quality: u8) -> Outcome<Value> {
    let mut out = Cursor::new(Vec::new());
    let written = match format {
        ImageFormat::Jpeg => {
            let encoder = JpegEncoder::new_with_quality(&mut out, quality);
            match picture {
                DynamicImage::ImageLuma8(gray) => gray.write_with_encoder(encoder),
                picture => picture.to_rgb8().write_with_encoder(encoder),
            }
        }
        ImageFormat::WebP if picture.color().has_alpha() => {
            DynamicImage::ImageRgba8(picture.to_rgba8()).write_to(&mut out, format)
        }
        ImageFormat::WebP => DynamicImage::ImageRgb8(picture.to_rgb8()).write_to(&mut out, format),
        format => picture.write_to(&mut out, format),
    };
    written.map_err(|error| EvalError(format!("the picture can't be written: {error}")))?;
    Ok(Value::bytes(out.into_inner()))
}

fn format_called(name: &str) -> Outcome<ImageFormat> {
    match name.to_ascii_lowercase().as_str() {
        "jpeg" | "jpg" => Ok(ImageFormat::Jpeg),
        "png" => Ok(ImageFormat::Png),
        "webp" => Ok(ImageFormat::WebP),
        other => Err(EvalError(format!("no format is called {other}: jpeg, png, webp"))),
    }
}

fn quality(args: &[Value], idx: usize) -> Outcome<u8> {
    if arg(args, idx).is_null() {
        return Ok(JPEG_QUALITY);
    }
    let quality = number(args, idx, "quality")?;
    u8::try_from(quality)
        .ok()
        .filter(|quality| (1..=100).contains(quality))
        .ok_or_else(|| EvalError(format!("a quality of {quality} is not between 1 and 100")))
}

fn format_name(format: ImageFormat) -> &'static str {
    match format {
        ImageFormat::Jpeg => "jpeg",
        ImageFormat::Png => "png",
        _ => "webp",
    }
}

fn info(args: &[Value]) -> Outcome<Value> {
    let (reader, format) = reader(bytes(args)?)?;
    let decoder = reader.into_decoder().map_err(|e| error(&e))?;
    let (width, height) = decoder.dimensions();
    let color = decoder.color_type();
    let n_channels = i64::from(color.channel_count());
    Ok(Value::Object(Arc::new(Object::from_iter([
        ("format", Value::string(format_name(format))),
        ("width", Value::Int(i64::from(width))),
        ("height", Value::Int(i64::from(height))),
        ("channels", Value::Int(n_channels)),
        ("bits", Value::Int(i64::from(color.bits_per_pixel()) / n_channels)),
    ]))))
}

fn decode_pixels(args: &[Value]) -> Outcome<Value> {
    let (picture, _) = decode(bytes(args)?)?;
    let pixels = match text(args, 1).as_deref().unwrap_or("rgb") {
        "rgb" => picture.into_rgb8().into_raw(),
        "rgba" => picture.into_rgba8().into_raw(),
        "gray" => picture.into_luma8().into_raw(),
        other => return Err(EvalError(format!("no kind of pixel is called {other}: rgb, rgba, gray"))),
    };
    Ok(Value::bytes(pixels))
}

fn encode_pixels(args: &[Value]) -> Outcome<Value> {
    let pixels = bytes(args)?;
    let (width, height) = (number(args, 1, "width")?, number(args, 2, "height")?);
    check_size(width, height)?;
    let format = format_called(&coerce::text(arg(args, 3)))?;
    let n_pixels = width as usize * height as usize;
    let raw = pixels.to_vec();
    let picture = match raw.len().checked_div(n_pixels).filter(|n_channels| n_channels * n_pixels == raw.len()) {
        Some(1) => image::GrayImage::from_raw(width, height, raw).map(DynamicImage::ImageLuma8),
        Some(3) => RgbImage::from_raw(width, height, raw).map(DynamicImage::ImageRgb8),
        Some(4) => image::RgbaImage::from_raw(width, height, raw).map(DynamicImage::ImageRgba8),
        _ => None,
    };
    let picture = picture.ok_or_else(|| {
        EvalError(format!("{} bytes are no {width} x {height} pixels of 1, 3 or 4 bytes", pixels.len()))
    })?;
    encode(&picture, format, quality(args, 4)?)
}

fn convert(args: &[Value]) -> Outcome<Value> {
    let format = format_called(&coerce::text(arg(args, 1)))?;
    let (picture, _) = decode(bytes(args)?)?;
    encode(&picture, format, quality(args, 2)?)
}

fn resize(args: &[Value]) -> Outcome<Value> {
    let (width, height) = (number(args, 1, "width")?, number(args, 2, "height")?);
    let (picture, format) = decode(bytes(args)?)?;
    let follow = |side: u32, own: u32, other: u32| -> u32 {
        let followed = u64::from(own) * u64::from(side) / u64::from(other.max(1));
        u32::try_from(followed).unwrap_or(u32::MAX).max(1)
    };
    let (width, height) = match (width, height) {
        (0, 0) => (picture.width(), picture.height()),
        (0, height) => (follow(height, picture.width(), picture.height()), height),
        (width, 0) => (width, follow(width, picture.height(), picture.width())),
        size => size,
    };
    check_size(width, height)?;
    let resized = picture.resize_exact(width, height, FilterType::Triangle);
    match arg(args, 3) {
        Value::Bool(true) => Ok(Value::bytes(resized.into_rgb8().into_raw())),
        _ => encode(&resized, format, JPEG_QUALITY),
    }
}

fn thumbnail(args: &[Value]) -> Outcome<Value> {
    let (width, height) = (number(args, 1, "width")?, number(args, 2, "height")?);
    check_size(width, height)?;
    let (picture, format) = decode(bytes(args)?)?;
    if picture.width() <= width && picture.height() <= height {
        return Ok(arg(args, 0).clone());
    }
    encode(&picture.thumbnail(width, height), format, JPEG_QUALITY)
}

fn crop(args: &[Value]) -> Outcome<Value> {
    let (left, top) = (number(args, 1, "left")?, number(args, 2, "top")?);
    let (width, height) = (number(args, 3, "width")?, number(args, 4, "height")?);
    let (picture, format) = decode(bytes(args)?)?;
    let fits =
        |start: u32, length: u32, side: u32| length > 0 && start.checked_add(length).is_some_and(|end| end <= side);
    if !fits(left, width, picture.width()) || !fits(top, height, picture.height()) {
        return Err(EvalError(format!(
            "a part of {width} x {height} at {left}, {top} is not within {} x {} pixels",
            picture.width(),
            picture.height()
        )));
    }
    encode(&picture.crop_imm(left, top, width, height), format, JPEG_QUALITY)
}

fn rotate(args: &[Value]) -> Outcome<Value> {
    let degrees = coerce::to_int(arg(args, 1), Strictness::Strict);
    let (picture, format) = decode(bytes(args)?)?;
    let turned = match degrees.map(|degrees| degrees.rem_euclid(360)) {
        Some(0) => picture,
        Some(90) => picture.rotate90(),
        Some(180) => picture.rotate180(),
        Some(270) => picture.rotate270(),
        _ => return Err(EvalError::new("a picture is turned by 90, 180 or 270 degrees")),
    };
    encode(&turned, format, JPEG_QUALITY)
}

fn gray(args: &[Value]) -> Outcome<Value> {
    let (picture, format) = decode(bytes(args)?)?;
    encode(&DynamicImage::ImageLuma8(picture.into_luma8()), format, JPEG_QUALITY)
}

/// A number per channel: all the same, an array, or text with commas.
fn per_channel(args: &[Value], idx: usize, n_channels: usize, otherwise: f32, what: &str) -> Outcome<Vec<f32>> {
    let wrong = || EvalError(format!("the {what} must be a number, or {n_channels} of them"));
    let float = |value: &Value| coerce::to_float(value, Strictness::All).map(|float| float as f32).ok_or_else(wrong);
    let floats: Vec<f32> = match arg(args, idx) {
        Value::Null | Value::Missing => vec![otherwise],
        Value::Array(values) => values.iter().map(float).collect::<Result<_, _>>()?,
        Value::String(text) => {
            text.split(',').map(|part| part.trim().parse().map_err(|_| wrong())).collect::<Result<_, _>>()?
        }
        value => vec![float(value)?],
    };
    match floats.as_slice() {
        [one] => Ok(vec![*one; n_channels]),
        floats if floats.len() == n_channels => Ok(floats.to_vec()),
        _ => Err(wrong()),
    }
}

fn tensor(args: &[Value]) -> Outcome<Value> {
    let (width, height) = (number(args, 1, "width")?, number(args, 2, "height")?);
    check_size(width, height)?;
    let layout = text(args, 3).map_or_else(|| "nchw".to_owned(), |layout| layout.to_ascii_lowercase());
    let n_channels = match layout.as_str() {
        "nchw" | "nhwc" => 3,
        "gray" => 1,
        other => return Err(EvalError(format!("no layout is called {other}: nchw, nhwc, gray"))),
    };
    let mean = per_channel(args, 4, n_channels, 0.0, "mean")?;
    let deviation = per_channel(args, 5, n_channels, 1.0, "standard deviation")?;
    if deviation.iter().any(|number| *number == 0.0 || !number.is_finite()) {
        return Err(EvalError::new("the standard deviation must not be 0"));
    }
    let (picture, _) = decode(bytes(args)?)?;
    let resized = if (picture.width(), picture.height()) == (width, height) {
        picture
    } else {
        picture.resize_exact(width, height, FilterType::Triangle)
    };
    let pixels = if n_channels == 1 { resized.into_luma8().into_raw() } else { resized.into_rgb8().into_raw() };
    // Each of the 256 values of each channel, computed once.
    let table: Vec<Vec<[u8; 4]>> = mean
        .iter()
        .zip(&deviation)
        .map(|(mean, deviation)| {
            (0..=255u8).map(|level| ((f32::from(level) / 255.0 - mean) / deviation).to_le_bytes()).collect()
        })
        .collect();
    let mut out = Vec::with_capacity(pixels.len() * 4);
    let mut push = |channel: usize, level: u8| {
        let float = table.get(channel).and_then(|levels| levels.get(usize::from(level)));
        out.extend_from_slice(float.unwrap_or(&[0; 4]));
    };
    if layout == "nchw" {
        for channel in 0..n_channels {
            pixels.iter().skip(channel).step_by(n_channels).for_each(|level| push(channel, *level));
        }
    } else {
        pixels.chunks(n_channels).for_each(|pixel| {
            pixel.iter().enumerate().for_each(|(channel, level)| push(channel, *level));
        });
    }
    Ok(Value::bytes(out))
}
