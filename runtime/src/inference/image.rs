//! Pictures: decoded, measured, cut, turned, made into tensors. A picture is bytea with a JPEG, PNG or WebP in it.
//!
//! The header of a picture is read first, and what would be too large is refused before anything is decoded.

use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bytes::Bytes;
use fast_image_resize::{FilterType, ResizeAlg, ResizeOptions, Resizer};
use image::codecs::jpeg::JpegEncoder;
use image::metadata::Orientation;
use image::{DynamicImage, GrayImage, ImageDecoder, ImageFormat, ImageReader, Limits, RgbImage, RgbaImage};
use sluice_sql::expr::EvalContext;
use sluice_sql::function::{ArgFacts, Body, EvalError, ExternalFunction, Function, StatefulFunction};
use sluice_sql::{Object, Type, Value};

use super::Settings;
use super::signature::{self, Format, Layout, Pixels};

/// Quality of JPEGs, unless it is said.
const JPEG_QUALITY: u8 = 85;

/// Width and height, at most: what a JPEG can have.
const MAX_SIDE: u32 = 65_535;
/// Bytes per pixel, at most, of the pixels that are let in; deeper ones count for more.
const BYTES_PER_PIXEL: u64 = 4;

type Outcome<T> = Result<T, EvalError>;
type Work = fn(&Call<'_>) -> Outcome<Value>;

/// The function with its work.
pub fn function(declared: Function, settings: &Settings) -> Function {
    let work: Work = match declared.name {
        "image_info" => info,
        "image_decode" => decode_pixels,
        "image_encode" => encode_pixels,
        "image_convert" => convert,
        "resize" => resize,
        "thumbnail" => thumbnail,
        "image_crop" => crop,
        "image_rotate" => rotate,
        "image_gray" => gray,
        "image_tensor" => tensor,
        // The test of the examples calls each.
        _ => |_| Err(EvalError::new("this function has no body")),
    };
    let Body::External(checks) = &declared.body else { return declared };
    let body = Body::External(Arc::new(Picture { checks: Arc::clone(checks), work, max_pixels: settings.max_pixels }));
    Function { body, ..declared }
}

struct Picture {
    checks: Arc<dyn ExternalFunction>,
    work: Work,
    max_pixels: u64,
}

impl ExternalFunction for Picture {
    fn check(&self, args: &[ArgFacts]) -> Result<Type, String> {
        self.checks.check(args)
    }

    fn tensor(&self, args: &[ArgFacts]) -> Option<Vec<usize>> {
        self.checks.tensor(args)
    }

    fn start(&self) -> Box<dyn StatefulFunction> {
        Box::new(Running { work: self.work, max_pixels: self.max_pixels })
    }
}

struct Running {
    work: Work,
    max_pixels: u64,
}

impl StatefulFunction for Running {
    fn eval(&mut self, args: &[Value], _ctx: &mut EvalContext<'_>) -> Outcome<Value> {
        let call = Call { args, max_pixels: self.max_pixels };
        // What a broken picture makes of a decoder must not take the rule with it.
        catch_unwind(AssertUnwindSafe(|| (self.work)(&call)))
            .unwrap_or_else(|_| Err(EvalError::new("not a picture that can be read: it broke the decoder")))
    }
}

/// One call.
struct Call<'a> {
    args: &'a [Value],
    max_pixels: u64,
}

impl Call<'_> {
    fn arg(&self, idx: usize) -> &Value {
        static MISSING: Value = Value::Missing;
        self.args.get(idx).unwrap_or(&MISSING)
    }

    /// Argument `idx` as `read` takes it; `None` if it was left out.
    fn optional<T>(&self, idx: usize, read: impl FnOnce(&Value) -> Result<T, String>) -> Outcome<Option<T>> {
        match self.arg(idx) {
            value if value.is_null() => Ok(None),
            value => read(value).map(Some).map_err(EvalError),
        }
    }

    fn number(&self, idx: usize, what: &str) -> Outcome<u32> {
        signature::number(self.arg(idx), what).map_err(EvalError)
    }

    fn bytes(&self) -> Outcome<&Bytes> {
        match self.arg(0) {
            Value::Bytes(bytes) => Ok(bytes.as_ref()),
            other => Err(EvalError(format!("a picture is bytea, found a {}", other.kind_name()))),
        }
    }

    /// Refuses sizes that would take too much memory.
    fn check_size(&self, width: u32, height: u32) -> Outcome<()> {
        if width == 0 || height == 0 {
            return Err(EvalError::new("a picture without pixels"));
        }
        let n_pixels = u64::from(width) * u64::from(height);
        if width > MAX_SIDE || height > MAX_SIDE || n_pixels > self.max_pixels {
            let limit = self.max_pixels;
            return Err(EvalError(format!(
                "a picture of {width} x {height} pixels is too large: {limit} pixels, and {MAX_SIDE} per side, are the limit"
            )));
        }
        Ok(())
    }

    /// A decoder that has read the header and no more.
    fn decoder(&self) -> Outcome<(impl ImageDecoder + '_, Format)> {
        let bytes = self.bytes()?;
        let mut reader = ImageReader::new(Cursor::new(&bytes[..])).with_guessed_format().map_err(|e| unreadable(&e))?;
        let format = match reader.format() {
            Some(ImageFormat::Jpeg) => Format::Jpeg,
            Some(ImageFormat::Png) => Format::Png,
            Some(ImageFormat::WebP) => Format::Webp,
            _ => return Err(EvalError::new("not a picture that can be read: neither JPEG nor PNG nor WebP")),
        };
        let mut limits = Limits::default();
        limits.max_alloc = Some(self.max_pixels.saturating_mul(BYTES_PER_PIXEL));
        reader.limits(limits);
        Ok((reader.into_decoder().map_err(|e| unreadable(&e))?, format))
    }

    fn picture(&self) -> Outcome<(DynamicImage, Format)> {
        let (mut decoder, format) = self.decoder()?;
        let orientation = orientation(&mut decoder);
        let (width, height) = decoder.dimensions();
        self.check_size(width, height)?;
        let (n_bytes, max_bytes) = (decoder.total_bytes(), self.max_pixels.saturating_mul(BYTES_PER_PIXEL));
        if n_bytes > max_bytes {
            return Err(EvalError(format!(
                "a picture of {width} x {height} pixels of {n_bytes} bytes is too large: {max_bytes} bytes are the limit"
            )));
        }
        let mut picture = shallow(DynamicImage::from_decoder(decoder).map_err(|e| unreadable(&e))?);
        picture.apply_orientation(orientation);
        Ok((picture, format))
    }

    /// The picture at another size.
    fn resized(&self, picture: DynamicImage, width: u32, height: u32) -> Outcome<DynamicImage> {
        self.check_size(width, height)?;
        if (picture.width(), picture.height()) == (width, height) {
            return Ok(picture);
        }
        // On the way there is a picture of one side of each.
        self.check_size(width, picture.height())?;
        self.check_size(picture.width(), height)?;
        let mut resized = DynamicImage::new(width, height, picture.color());
        let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear));
        Resizer::new()
            .resize(&picture, &mut resized, &options)
            .map_err(|error| EvalError(format!("the picture can't be resized: {error}")))?;
        Ok(resized)
    }
}

/// How the camera was held, as the picture's EXIF says; what can't be read there is not followed.
fn orientation(decoder: &mut impl ImageDecoder) -> Orientation {
    decoder.orientation().unwrap_or(Orientation::NoTransforms)
}

/// One byte per channel, whatever it was: no camera's picture needs more, and all that follows takes no more.
fn shallow(picture: DynamicImage) -> DynamicImage {
    match picture {
        picture @ (DynamicImage::ImageLuma8(_) | DynamicImage::ImageRgb8(_) | DynamicImage::ImageRgba8(_)) => picture,
        picture if picture.color().has_alpha() => DynamicImage::ImageRgba8(picture.into_rgba8()),
        picture if picture.color().has_color() => DynamicImage::ImageRgb8(picture.into_rgb8()),
        picture => DynamicImage::ImageLuma8(picture.into_luma8()),
    }
}

fn unreadable(error: &dyn std::fmt::Display) -> EvalError {
    EvalError(format!("not a picture that can be read: {error}"))
}

fn encode(picture: &DynamicImage, format: Format, quality: u8) -> Outcome<Value> {
    let mut out = Cursor::new(Vec::new());
    let written = match format {
        Format::Jpeg => {
            let encoder = JpegEncoder::new_with_quality(&mut out, quality);
            match picture {
                DynamicImage::ImageLuma8(gray) => gray.write_with_encoder(encoder),
                picture => picture.to_rgb8().write_with_encoder(encoder),
            }
        }
        // It knows no gray.
        Format::Webp if picture.color().has_alpha() => picture.to_rgba8().write_to(&mut out, ImageFormat::WebP),
        Format::Webp => picture.to_rgb8().write_to(&mut out, ImageFormat::WebP),
        Format::Png => picture.write_to(&mut out, ImageFormat::Png),
    };
    written.map_err(|error| EvalError(format!("the picture can't be written: {error}")))?;
    Ok(Value::bytes(out.into_inner()))
}

fn info(call: &Call<'_>) -> Outcome<Value> {
    let (mut decoder, format) = call.decoder()?;
    let (width, height) = match (orientation(&mut decoder), decoder.dimensions()) {
        (Orientation::NoTransforms | Orientation::Rotate180, size) => size,
        (Orientation::FlipHorizontal | Orientation::FlipVertical, size) => size,
        (_, (width, height)) => (height, width),
    };
    let color = decoder.color_type();
    let n_channels = i64::from(color.channel_count());
    let format = match format {
        Format::Jpeg => "jpeg",
        Format::Png => "png",
        Format::Webp => "webp",
    };
    Ok(Value::Object(Arc::new(Object::from_iter([
        ("format", Value::string(format)),
        ("width", Value::Int(i64::from(width))),
        ("height", Value::Int(i64::from(height))),
        ("channels", Value::Int(n_channels)),
        ("bits", Value::Int(i64::from(color.bits_per_pixel()) / n_channels)),
    ]))))
}

fn decode_pixels(call: &Call<'_>) -> Outcome<Value> {
    let pixels = call.optional(1, Pixels::of)?.unwrap_or(Pixels::Rgb);
    let (picture, _) = call.picture()?;
    Ok(Value::bytes(match pixels {
        Pixels::Rgb => picture.into_rgb8().into_raw(),
        Pixels::Rgba => picture.into_rgba8().into_raw(),
        Pixels::Gray => picture.into_luma8().into_raw(),
    }))
}

fn encode_pixels(call: &Call<'_>) -> Outcome<Value> {
    let pixels = call.bytes()?;
    let (width, height) = (call.number(1, "width")?, call.number(2, "height")?);
    call.check_size(width, height)?;
    let format = Format::of(call.arg(3)).map_err(EvalError)?;
    let quality = call.optional(4, signature::quality)?.unwrap_or(JPEG_QUALITY);
    let n_pixels = width as usize * height as usize;
    let picture = match pixels.len().checked_div(n_pixels).filter(|n_bytes| n_bytes * n_pixels == pixels.len()) {
        Some(1) => GrayImage::from_raw(width, height, pixels.to_vec()).map(DynamicImage::ImageLuma8),
        Some(3) => RgbImage::from_raw(width, height, pixels.to_vec()).map(DynamicImage::ImageRgb8),
        Some(4) => RgbaImage::from_raw(width, height, pixels.to_vec()).map(DynamicImage::ImageRgba8),
        _ => None,
    };
    let picture = picture.ok_or_else(|| {
        EvalError(format!("{} bytes are no {width} x {height} pixels of 1, 3 or 4 bytes", pixels.len()))
    })?;
    encode(&picture, format, quality)
}

fn convert(call: &Call<'_>) -> Outcome<Value> {
    let format = Format::of(call.arg(1)).map_err(EvalError)?;
    let quality = call.optional(2, signature::quality)?.unwrap_or(JPEG_QUALITY);
    encode(&call.picture()?.0, format, quality)
}

fn resize(call: &Call<'_>) -> Outcome<Value> {
    let (width, height) = (call.number(1, "width")?, call.number(2, "height")?);
    let (picture, format) = call.picture()?;
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
    let resized = call.resized(picture, width, height)?;
    match call.arg(3) {
        Value::Bool(true) => Ok(Value::bytes(resized.into_rgb8().into_raw())),
        _ => encode(&resized, format, JPEG_QUALITY),
    }
}

fn thumbnail(call: &Call<'_>) -> Outcome<Value> {
    let (width, height) = (call.number(1, "width")?, call.number(2, "height")?);
    if width == 0 || height == 0 {
        return Err(EvalError::new("a picture without pixels"));
    }
    let (picture, format) = call.picture()?;
    let (own_width, own_height) = (picture.width(), picture.height());
    if own_width <= width && own_height <= height {
        return Ok(call.arg(0).clone());
    }
    // The side that has to shrink more says how much both do.
    let by_width = u64::from(width) * u64::from(own_height) < u64::from(height) * u64::from(own_width);
    let (numerator, denominator) = if by_width { (width, own_width) } else { (height, own_height) };
    let shrunk = |side: u32| {
        let (numerator, denominator) = (u64::from(numerator), u64::from(denominator));
        let side = (u64::from(side) * numerator + denominator / 2) / denominator;
        u32::try_from(side).unwrap_or(u32::MAX).max(1)
    };
    let resized = call.resized(picture, shrunk(own_width), shrunk(own_height))?;
    encode(&resized, format, JPEG_QUALITY)
}

fn crop(call: &Call<'_>) -> Outcome<Value> {
    let (left, top) = (call.number(1, "left")?, call.number(2, "top")?);
    let (width, height) = (call.number(3, "width")?, call.number(4, "height")?);
    let (picture, format) = call.picture()?;
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

fn rotate(call: &Call<'_>) -> Outcome<Value> {
    let degrees = signature::degrees(call.arg(1)).map_err(EvalError)?;
    let (picture, format) = call.picture()?;
    let turned = match degrees {
        90 => picture.rotate90(),
        180 => picture.rotate180(),
        270 => picture.rotate270(),
        _ => picture,
    };
    encode(&turned, format, JPEG_QUALITY)
}

fn gray(call: &Call<'_>) -> Outcome<Value> {
    let (picture, format) = call.picture()?;
    encode(&DynamicImage::ImageLuma8(picture.into_luma8()), format, JPEG_QUALITY)
}

fn tensor(call: &Call<'_>) -> Outcome<Value> {
    let (width, height) = (call.number(1, "width")?, call.number(2, "height")?);
    call.check_size(width, height)?;
    let layout = call.optional(3, Layout::of)?.unwrap_or(Layout::Nchw);
    let mean = signature::mean(call.arg(4), layout).map_err(EvalError)?;
    let deviation = signature::deviation(call.arg(5), layout).map_err(EvalError)?;
    let (picture, _) = call.picture()?;
    let resized = call.resized(picture, width, height)?;
    let pixels = match layout {
        Layout::Gray => resized.into_luma8().into_raw(),
        Layout::Nchw | Layout::Nhwc => resized.into_rgb8().into_raw(),
    };
    // Each of the 256 values of each channel, computed once.
    let tables: Vec<[[u8; 4]; 256]> = mean
        .iter()
        .zip(&deviation)
        .map(|(mean, deviation)| std::array::from_fn(|level| ((level as f32 / 255.0 - mean) / deviation).to_le_bytes()))
        .collect();
    let mut out = Vec::with_capacity(pixels.len() * 4);
    let mut push = |table: &[[u8; 4]; 256], level: u8| {
        out.extend_from_slice(table.get(usize::from(level)).unwrap_or(&[0; 4]));
    };
    if layout == Layout::Nhwc {
        for pixel in pixels.chunks(tables.len()) {
            tables.iter().zip(pixel).for_each(|(table, level)| push(table, *level));
        }
    } else {
        for (channel, table) in tables.iter().enumerate() {
            pixels.iter().skip(channel).step_by(tables.len()).for_each(|level| push(table, *level));
        }
    }
    Ok(Value::bytes(out))
}
