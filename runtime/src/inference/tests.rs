//! Pictures and models made here, through the functions as a rule calls them.

use std::io::Cursor;
use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use image::{DynamicImage, ImageFormat, Rgb, RgbImage};
use proptest::prelude::*;
use sluice_sql::expr::{EvalContext, Report, RuleContext};
use sluice_sql::function::{Body, Registry, reference};
use sluice_sql::operators::Chain;
use sluice_sql::plan::{Catalog, RuleOptions, SourceDef, plan_rule};
use sluice_sql::value::json;
use sluice_sql::{Batch, Row, Type, Value};

use super::{MAX_PIXELS, Settings, extend, signature};

fn registry_of(models: Option<&Path>, max_pixels: u64) -> Registry {
    let mut functions = Registry::builtin();
    extend(&mut functions, &Settings { models_dir: models.map(Path::to_owned), max_pixels });
    functions
}

fn registry(models: Option<&Path>) -> Registry {
    registry_of(models, MAX_PIXELS)
}

fn rule() -> RuleContext {
    RuleContext {
        rule_id: "r".into(),
        rule_start: 0,
        now: 0,
        props: Arc::new(|_| None),
        random: Box::new(|| 0),
        time_zone: jiff::tz::TimeZone::UTC,
        report: Report::default(),
    }
}

fn call_in(registry: &Registry, name: &str, args: &[Value]) -> Result<Value, String> {
    let function = registry.get(name).unwrap();
    let Body::External(external) = &function.body else { panic!("{name} is external") };
    let mut rule = rule();
    let mut ctx = EvalContext { rule: &mut rule, event_time: 0, window: None };
    external.start().eval(args, &mut ctx).map_err(|error| error.0)
}

fn call(name: &str, args: &[Value]) -> Result<Value, String> {
    call_in(&registry(None), name, args)
}

/// Red grows to the right, green downwards.
fn picture(width: u32, height: u32) -> DynamicImage {
    DynamicImage::ImageRgb8(RgbImage::from_fn(width, height, |x, y| Rgb([(x * 4) as u8, (y * 4) as u8, 7])))
}

fn encoded(picture: &DynamicImage, format: ImageFormat) -> Value {
    let mut out = Cursor::new(Vec::new());
    picture.write_to(&mut out, format).unwrap();
    Value::bytes(out.into_inner())
}

fn bytes(value: &Value) -> &Bytes {
    match value {
        Value::Bytes(bytes) => bytes,
        other => panic!("no bytes: {other:?}"),
    }
}

fn shown(value: &Value) -> String {
    let mut text = Vec::new();
    json::write_value(value, &mut text);
    String::from_utf8(text).unwrap()
}

fn int(number: i64) -> Value {
    Value::Int(number)
}

fn info(picture: &Value) -> String {
    shown(&call("image_info", std::slice::from_ref(picture)).unwrap())
}

#[test]
fn pictures_keep_their_format_and_change_their_size() {
    for (format, name) in [(ImageFormat::Jpeg, "jpeg"), (ImageFormat::Png, "png"), (ImageFormat::WebP, "webp")] {
        let given = encoded(&picture(64, 48), format);
        let is = |width: u32, height: u32, channels: u32| {
            format!(r#"{{"format":"{name}","width":{width},"height":{height},"channels":{channels},"bits":8}}"#)
        };
        assert_eq!(info(&given), is(64, 48, 3));
        for (function, args, width, height) in [
            ("resize", vec![int(32), int(24)], 32, 24),
            ("resize", vec![int(32), int(0)], 32, 24),
            ("image_resize", vec![int(0), int(12)], 16, 12),
            ("resize", vec![int(0), int(0)], 64, 48),
            ("thumbnail", vec![int(32), int(32)], 32, 24),
            ("thumbnail", vec![int(320), int(320)], 64, 48),
            ("image_crop", vec![int(10), int(20), int(30), int(28)], 30, 28),
            ("image_rotate", vec![int(90)], 48, 64),
            ("image_rotate", vec![int(-180)], 64, 48),
            ("image_rotate", vec![int(270)], 48, 64),
        ] {
            let args = [vec![given.clone()], args].concat();
            let changed = call(function, &args).unwrap_or_else(|error| panic!("{function} {name}: {error}"));
            assert_eq!(info(&changed), is(width, height, 3), "{function} {args:?}");
        }
        let gray = call("image_gray", std::slice::from_ref(&given)).unwrap();
        // WebP knows no gray.
        assert_eq!(info(&gray), is(64, 48, if format == ImageFormat::WebP { 3 } else { 1 }));
        for other in ["jpeg", "png", "webp"] {
            let converted = call("image_convert", &[given.clone(), Value::string(other)]).unwrap();
            assert!(info(&converted).contains(other), "{name} to {other}");
        }
    }
}

#[test]
fn deep_pictures_become_shallow() {
    let deep = encoded(&DynamicImage::ImageRgb16(picture(8, 6).into_rgb16()), ImageFormat::Png);
    assert_eq!(info(&deep), r#"{"format":"png","width":8,"height":6,"channels":3,"bits":16}"#);
    let turned = call("image_rotate", &[deep, int(90)]).unwrap();
    assert_eq!(info(&turned), r#"{"format":"png","width":6,"height":8,"channels":3,"bits":8}"#);
}

#[test]
fn pixels_there_and_back() {
    let given = encoded(&picture(5, 4), ImageFormat::Png);
    for (kind, n_channels) in [("rgb", 3), ("rgba", 4), ("gray", 1)] {
        let pixels = call("image_decode", &[given.clone(), Value::string(kind)]).unwrap();
        assert_eq!(bytes(&pixels).len(), 20 * n_channels, "{kind}");
        let again = call("image_encode", &[pixels.clone(), int(5), int(4), Value::string("png")]).unwrap();
        let back = call("image_decode", &[again, Value::string(kind)]).unwrap();
        assert_eq!(bytes(&back), bytes(&pixels), "{kind}");
    }
    let raw = call("resize", &[given.clone(), int(5), int(4), Value::Bool(true)]).unwrap();
    assert_eq!(bytes(&raw), bytes(&call("image_decode", std::slice::from_ref(&given)).unwrap()));
    let turned = call("image_rotate", &[given.clone(), int(90)]).unwrap();
    let pixels = call("image_decode", &[turned]).unwrap();
    // What was at the lower left is at the upper left.
    assert_eq!(&bytes(&pixels)[..3], [0, 12, 7]);
}

#[test]
fn tensors() {
    let given = encoded(&picture(2, 2), ImageFormat::Png);
    let floats = |args: &[Value]| -> Vec<f32> {
        let tensor = call("image_tensor", args).unwrap();
        bytes(&tensor).chunks(4).map(|float| f32::from_le_bytes(float.try_into().unwrap())).collect()
    };
    let level = |level: u8| f32::from(level) / 255.0;
    let planes = floats(&[given.clone(), int(2), int(2)]);
    assert_eq!(planes[..8], [0, 4, 0, 4, 0, 0, 4, 4].map(level));
    assert_eq!(planes[8..], [7; 4].map(level));
    let pixels = floats(&[given.clone(), int(2), int(2), Value::string("nhwc")]);
    assert_eq!(pixels[..6], [0, 0, 7, 4, 0, 7].map(level));
    let mean = Value::string("0.5, 0.25, 0");
    let deviation = Value::Array(Arc::new(vec![Value::Float(0.5), Value::Float(1.0), Value::Int(2)]));
    let normal = floats(&[given.clone(), int(2), int(2), Value::string("nchw"), mean, deviation]);
    assert!((normal[0] + 1.0).abs() < 1e-6 && (normal[4] + 0.25).abs() < 1e-6, "{normal:?}");
    assert!((normal[8] - level(7) / 2.0).abs() < 1e-6, "{normal:?}");
    assert_eq!(floats(&[given, int(3), int(5), Value::string("gray")]).len(), 15);
}

/// A PNG that claims to be large, with nothing behind its header.
fn bomb(width: u32, height: u32) -> Value {
    let mut chunk = b"IHDR".to_vec();
    chunk.extend_from_slice(&width.to_be_bytes());
    chunk.extend_from_slice(&height.to_be_bytes());
    chunk.extend_from_slice(&[8, 2, 0, 0, 0]);
    let mut crc = flate2::Crc::new();
    crc.update(&chunk);
    let mut png = b"\x89PNG\r\n\x1a\n\0\0\0\x0d".to_vec();
    png.extend_from_slice(&chunk);
    png.extend_from_slice(&crc.sum().to_be_bytes());
    png.extend_from_slice(b"\0\0\0\x01IDAT\x78");
    Value::bytes(png)
}

#[test]
fn bad_pictures_are_explained() {
    let good = encoded(&picture(8, 8), ImageFormat::Png);
    let jpeg = encoded(&picture(64, 64), ImageFormat::Jpeg);
    let cut = |value: &Value| Value::bytes(bytes(value).slice(..bytes(value).len() / 2));
    let word = Value::string;
    for (name, args, expected) in [
        ("image_info", vec![Value::string("x")], "a picture is bytea, found a string"),
        (
            "image_info",
            vec![Value::bytes(Bytes::new())],
            "not a picture that can be read: neither JPEG nor PNG nor WebP",
        ),
        ("image_info", vec![Value::bytes(Bytes::from_static(b"GIF89a"))], "not a picture that can be read: neither"),
        ("image_gray", vec![cut(&good)], "not a picture that can be read: "),
        ("image_decode", vec![Value::bytes(bytes(&jpeg).slice(..20))], "not a picture that can be read: "),
        ("image_gray", vec![bomb(60_000, 60_000)], "a picture of 60000 x 60000 pixels is too large: "),
        ("image_gray", vec![bomb(6_000, 6_000)], "a picture of 6000 x 6000 pixels is too large: 33554432 pixels, "),
        ("image_gray", vec![bomb(0, 8)], "not a picture that can be read: "),
        // Little in itself, but not on its way to the other size.
        (
            "resize",
            vec![encoded(&picture(1, 40_000), ImageFormat::Png), int(5000), int(1)],
            "a picture of 5000 x 40000 pixels is too large: ",
        ),
        ("image_tensor", vec![bomb(1000, 1000), int(2), int(2)], "not a picture that can be read: "),
        ("resize", vec![good.clone(), int(100_000), int(1)], "a picture of 100000 x 1 pixels is too large: "),
        ("resize", vec![good.clone(), int(-1), int(1)], "the width must be a whole number from 0 on"),
        ("thumbnail", vec![good.clone(), int(0), int(5)], "a picture without pixels"),
        (
            "image_crop",
            vec![good.clone(), int(4), int(4), int(5), int(4)],
            "a part of 5 x 4 at 4, 4 is not within 8 x 8 pixels",
        ),
        ("image_crop", vec![good.clone(), int(0), int(0), int(0), int(4)], "a part of 0 x 4"),
        ("image_rotate", vec![good.clone(), int(45)], "a picture is turned by 90, 180 or 270 degrees"),
        ("image_convert", vec![good.clone(), word("bmp")], "no format is called bmp: jpeg, png, webp"),
        ("image_convert", vec![good.clone(), word("jpeg"), int(0)], "a quality of 0 is not between 1 and 100"),
        ("image_decode", vec![good.clone(), word("cmyk")], "no kind of pixel is called cmyk: rgb, rgba, gray"),
        (
            "image_encode",
            vec![good.clone(), int(2), int(2), word("png")],
            "bytes are no 2 x 2 pixels of 1, 3 or 4 bytes",
        ),
        (
            "image_tensor",
            vec![good.clone(), int(2), int(2), word("hwcn")],
            "no layout is called hwcn: nchw, nhwc, gray",
        ),
        (
            "image_tensor",
            vec![good.clone(), int(2), int(2), word("nchw"), word("1,2")],
            "the mean must be a number, or 3 of them",
        ),
        (
            "image_tensor",
            vec![good.clone(), int(2), int(2), word("nchw"), int(0), int(0)],
            "the standard deviation must not be 0",
        ),
    ] {
        let error = call(name, &args).unwrap_err();
        assert!(error.contains(expected), "{name}: {error}");
    }
}

#[test]
fn the_limit_holds_for_pixels_and_for_what_they_take() {
    let small = registry_of(None, 64);
    let gray = |picture: Value| call_in(&small, "image_gray", &[picture]);
    gray(encoded(&picture(8, 8), ImageFormat::Png)).unwrap();
    let error = gray(encoded(&picture(8, 9), ImageFormat::Png)).unwrap_err();
    assert!(error.starts_with("a picture of 8 x 9 pixels is too large: 64 pixels"), "{error}");
    let deep = DynamicImage::ImageRgb16(picture(8, 8).into_rgb16());
    let error = gray(encoded(&deep, ImageFormat::Png)).unwrap_err();
    assert!(error.contains("too large") || error.contains("limit"), "{error}");
    let error = call_in(&small, "resize", &[encoded(&picture(8, 8), ImageFormat::Png), int(9), int(9)]).unwrap_err();
    assert!(error.starts_with("a picture of 9 x 9 pixels is too large"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever the bytes are, each function gives a value or says what is wrong.
    #[test]
    fn no_picture_breaks_a_function(
        format in 0..3usize,
        kept in 0.0..1.1f64,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
    ) {
        let format = [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::WebP][format];
        let mut given = bytes(&encoded(&picture(40, 30), format)).to_vec();
        given.truncate((given.len() as f64 * kept) as usize + 1);
        for (place, byte) in &changes {
            let place = place.index(given.len());
            given[place] = *byte;
        }
        let given = Value::bytes(given);
        let registry = registry_of(None, 1 << 20);
        for (name, args) in [
            ("image_info", vec![]),
            ("image_decode", vec![]),
            ("image_convert", vec![Value::string("png")]),
            ("resize", vec![int(7), int(0)]),
            ("thumbnail", vec![int(9), int(9)]),
            ("image_crop", vec![int(1), int(1), int(2), int(2)]),
            ("image_rotate", vec![int(90)]),
            ("image_gray", vec![]),
            ("image_tensor", vec![int(4), int(4)]),
        ] {
            let args = [vec![given.clone()], args].concat();
            if let Err(error) = call_in(&registry, name, &args) {
                prop_assert!(!error.is_empty());
            }
        }
    }

    /// Whatever is in a model's file, it runs or says what is wrong.
    #[test]
    fn no_model_breaks_the_function(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut changed = model(&[1, 3]);
        for (place, byte) in &changes {
            let place = place.index(changed.len());
            changed[place] = *byte;
        }
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("changed.onnx"), changed).unwrap();
        let registry = registry(Some(folder.path()));
        if let Err(error) = call_in(&registry, "onnx", &[Value::string("changed"), floats(&[1.0, 2.0, 3.0])]) {
            prop_assert!(!error.is_empty());
        }
    }
}

/// A JPEG whose EXIF says how the camera was held.
fn held(picture: &DynamicImage, orientation: u8) -> Value {
    let jpeg = encoded(picture, ImageFormat::Jpeg);
    let entry = [0x12, 0x01, 3, 0, 1, 0, 0, 0, orientation, 0, 0, 0];
    let tiff = [b"II*\0\x08\0\0\0\x01\0".as_slice(), &entry, &[0; 4]].concat();
    let exif = [b"Exif\0\0".as_slice(), &tiff].concat();
    let length = (exif.len() as u16 + 2).to_be_bytes();
    let (start, rest) = bytes(&jpeg).split_at(2);
    Value::bytes([start, &[0xff, 0xe1], &length, &exif, rest].concat())
}

#[test]
fn pictures_are_taken_as_the_camera_was_held() {
    let given = picture(32, 16);
    let corner = |turned: &DynamicImage| turned.to_rgb8().get_pixel(0, 0).0;
    for (orientation, upright) in [
        (1, given.clone()),
        (2, given.fliph()),
        (3, given.rotate180()),
        (4, given.flipv()),
        (5, given.rotate90().fliph()),
        (6, given.rotate90()),
        (7, given.rotate270().fliph()),
        (8, given.rotate270()),
        (9, given.clone()),
    ] {
        let held = held(&given, orientation);
        let (width, height) = (upright.width(), upright.height());
        let size = format!(r#"{{"format":"jpeg","width":{width},"height":{height},"channels":3,"bits":8}}"#);
        assert_eq!(info(&held), size, "{orientation}");
        let pixels = call("image_decode", std::slice::from_ref(&held)).unwrap();
        assert_eq!(bytes(&pixels).len(), 32 * 16 * 3);
        let is_close = bytes(&pixels)[..3].iter().zip(corner(&upright)).all(|(a, b)| a.abs_diff(b) < 16);
        assert!(is_close, "{orientation}: {:?}, not {:?}", &bytes(&pixels)[..3], corner(&upright));
        // What is written is upright, and does not say it a second time.
        let again = call("image_crop", &[held, int(0), int(0), int(i64::from(width)), int(i64::from(height))]).unwrap();
        assert_eq!(info(&again), size, "{orientation}");
        let pixels = call("image_decode", &[again]).unwrap();
        assert!(bytes(&pixels)[..3].iter().zip(corner(&upright)).all(|(a, b)| a.abs_diff(b) < 24), "{orientation}");
    }
}

/// A field of a protocol buffer.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    let mut length = content.len();
    while length >= 0x80 {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(content);
    out
}

fn number(field: u8, value: u8) -> Vec<u8> {
    vec![field << 3, value]
}

/// An ONNX model: `y = x * [1, 2, 3]`, over `sides` (0 is any).
fn model(sides: &[u8]) -> Vec<u8> {
    let weights: Vec<u8> = [1f32, 2.0, 3.0].iter().flat_map(|weight| weight.to_le_bytes()).collect();
    let initializer = [number(1, 3), number(2, 1), field(8, b"w"), field(9, &weights)].concat();
    let node = [field(1, b"x"), field(1, b"w"), field(2, b"y"), field(3, b"mul"), field(4, b"Mul")].concat();
    model_of(sides, &node, &field(5, &initializer))
}

/// `y = max(x, 0)`
fn relu(sides: &[u8]) -> Vec<u8> {
    let node = [field(1, b"x"), field(2, b"y"), field(3, b"relu"), field(4, b"Relu")].concat();
    model_of(sides, &node, &[])
}

/// The mean of each channel, whatever the size of the picture.
fn mean(sides: &[u8]) -> Vec<u8> {
    let node = [field(1, b"x"), field(2, b"y"), field(3, b"mean"), field(4, b"GlobalAveragePool")].concat();
    model_of(sides, &node, &[])
}

fn model_of(sides: &[u8], node: &[u8], initializer: &[u8]) -> Vec<u8> {
    let dims: Vec<u8> = (b'a'..)
        .zip(sides)
        .flat_map(|(name, side)| field(1, &if *side == 0 { field(2, &[name]) } else { number(1, *side) }))
        .collect();
    let tensor_type = [number(1, 1), field(2, &dims)].concat();
    let value = |name: &[u8]| [field(1, name), field(2, &field(1, &tensor_type))].concat();
    let graph =
        [field(1, node), field(2, b"g"), initializer.to_vec(), field(11, &value(b"x")), field(12, &value(b"y"))];
    [number(1, 8), field(7, &graph.concat()), field(8, &[field(1, b""), number(2, 13)].concat())].concat()
}

fn floats(numbers: &[f64]) -> Value {
    Value::Array(Arc::new(numbers.iter().copied().map(Value::Float).collect()))
}

#[test]
fn models_take_arrays_and_bytes() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("row.onnx"), model(&[1, 3])).unwrap();
    // The number of rows is a symbol, for the output too.
    std::fs::write(folder.path().join("rows.onnx"), model(&[0, 3])).unwrap();
    let registry = registry(Some(folder.path()));
    let raw: Vec<u8> = [1f32, 1.0, 0.5].iter().flat_map(|float| float.to_le_bytes()).collect();
    let nested = Value::Array(Arc::new(vec![floats(&[1.0, 1.0, 0.5])]));
    for name in ["row", "rows"] {
        for tensor in [floats(&[1.0, 1.0, 0.5]), nested.clone(), Value::bytes(raw.clone())] {
            let result = call_in(&registry, "onnx", &[Value::string(name), tensor]).unwrap();
            assert_eq!(shown(&result), "[[1,2,1.5]]", "{name}");
        }
    }
    for (args, expected) in [
        (vec![Value::string("none"), floats(&[1.0])], "none.onnx can't be read: "),
        (vec![Value::string("../row"), floats(&[1.0])], "\"../row\" is no model's name"),
        (vec![Value::Int(1), floats(&[1.0])], "the first argument of onnx is the model's name"),
        (
            vec![Value::string("row"), floats(&[1.0])],
            "tensor 1 of model row: 1 numbers do not fit the model's input of F32[1,3]",
        ),
        (
            vec![Value::string("row"), floats(&[1.0, 2.0, 3.0]), floats(&[1.0])],
            "model row takes 1 tensor, not 2: F32[1,3]",
        ),
        (
            vec![Value::string("row"), Value::bytes(Bytes::from_static(b"12345"))],
            "tensor 1 of model row: 5 bytes are no numbers of 4 bytes each",
        ),
        (vec![Value::string("row"), Value::string("x")], "tensor 1 of model row: "),
    ] {
        let error = call_in(&registry, "onnx", &args).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
    let error = call("onnx", &[Value::string("row"), floats(&[1.0])]).unwrap_err();
    assert_eq!(error, "no folder of models is given: set --models-dir");
}

/// A model that takes pictures of any size is told the size by the call.
#[test]
fn models_take_pictures_of_any_size() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("mean.onnx"), mean(&[0, 3, 0, 0])).unwrap();
    let registry = registry(Some(folder.path()));
    // Two pixels side by side, one red, one blue.
    let input =
        signature::functions().into_iter().find(|function| function.name == "image_info").unwrap().examples[0].input;
    for size in ["2, 1", "4, 2", "8, 1"] {
        let result = selected(&format!("onnx('mean', image_tensor(a, {size}))"), &registry, input);
        assert_eq!(result.map(|value| shown(&value)), Ok("[[0.5,0,0.5]]".to_owned()), "{size}");
    }
    let nested = r#"{"b": [[[[1, 3]], [[5, 5]], [[0, 1]]]]}"#;
    assert_eq!(selected("onnx('mean', b)", &registry, nested).map(|value| shown(&value)), Ok("[[2,5,0.5]]".to_owned()));
    let open =
        "leaves several open: give it an image_tensor whose width and height are written as numbers, or a nested array";
    let error = selected("onnx('mean', image_tensor(a, b, 1))", &registry, input).unwrap_err();
    assert_eq!(error, format!("onnx: tensor 1 of model mean: the model's input of F32[1,3,?,?] {open}"));
    let error = selected("onnx('mean', b)", &registry, r#"{"b": [1, 2, 3, 4, 5, 6]}"#).unwrap_err();
    assert!(
        error.contains(&format!("the sides of 6 numbers are not known, and the model's input of F32[1,3,?,?] {open}")),
        "{error}"
    );
    let error = selected("onnx('mean', image_tensor(a, 2, 1, 'nhwc'))", &registry, input).unwrap_err();
    assert!(error.contains("the model's input is F32[1,3,?,?], and this is [1,1,2,3]"), "{error}");
}

#[test]
fn broken_models_are_explained() {
    let folder = tempfile::tempdir().unwrap();
    let whole = model(&[1, 3]);
    std::fs::write(folder.path().join("empty.onnx"), b"").unwrap();
    std::fs::write(folder.path().join("text.onnx"), b"this is no model at all").unwrap();
    for n_bytes in (1..whole.len()).step_by(9) {
        std::fs::write(folder.path().join(format!("cut{n_bytes}.onnx")), &whole[..n_bytes]).unwrap();
    }
    let registry = registry(Some(folder.path()));
    for file in std::fs::read_dir(folder.path()).unwrap() {
        let name = file.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned();
        let error = call_in(&registry, "onnx", &[Value::string(&*name), floats(&[1.0, 1.0, 1.0])]).unwrap_err();
        assert!(!error.is_empty(), "{name}");
    }
}

#[test]
fn calls_are_checked_when_a_rule_is_planned() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("row.onnx"), model(&[1, 3])).unwrap();
    std::fs::write(folder.path().join("picture.onnx"), relu(&[1, 3, 1, 2])).unwrap();
    let registry = registry(Some(folder.path()));
    let catalog = catalog(Vec::new());
    for (call, expected) in [
        ("onnx('row', a)", ""),
        ("onnx('later', a)", ""),
        ("argmax(onnx('row', resize(a, 1, 1))[0])", ""),
        ("argmax(onnx('picture', image_tensor(a, 2, 1))[0])", ""),
        (
            "onnx('picture', image_tensor(a, 1, 2))",
            "onnx: tensor 1 of model picture: the model's input is F32[1,3,1,2], and this is [1,3,2,1]",
        ),
        (
            "onnx('picture', image_tensor(a, 2, 1, 'nhwc'))",
            "onnx: tensor 1 of model picture: the model's input is F32[1,3,1,2], and this is [1,1,2,3]",
        ),
        (
            "onnx('row', array_create(1, 2))",
            "onnx: tensor 1 of model row: 2 numbers do not fit the model's input of F32[1,3]",
        ),
        ("onnx('row', a, b)", "onnx: model row takes 1 tensor, not 2: F32[1,3]"),
        ("onnx('row')", "onnx takes at least 2 arguments, not 1"),
        ("onnx('row', 'text')", "onnx: a tensor is an array or bytea, not string"),
        ("image_crop(a, -1, 0, 1, 1)", "image_crop: the left must be a whole number from 0 on"),
        ("image_encode(a, 1, 1, 'bmp')", "image_encode: no format is called bmp: jpeg, png, webp"),
        ("image_tensor(a, 1, 1, 'nchw', '1,2')", "image_tensor: the mean must be a number, or 3 of them"),
        ("image_tensor(a, 1, 1, 'nchw', 0, 0)", "image_tensor: the standard deviation must not be 0"),
        ("image_convert(a, 'jpeg', 101)", "image_convert: a quality of 101 is not between 1 and 100"),
        ("onnx(1, a)", "argument 1 of onnx must be a string"),
        ("resize('text', 1, 1)", "resize: a picture is bytea, not string"),
        ("resize(a, 1)", "resize takes 3 to 4 arguments, not 2"),
    ] {
        let planned = plan_rule(&format!("SELECT {call} AS x FROM s"), &catalog, &registry, &RuleOptions::default());
        let message = planned.as_ref().err().map(|errors| errors.errors[0].message.clone()).unwrap_or_default();
        assert_eq!(message, expected, "{call}");
        assert!(planned.is_err() || planned.unwrap().is_slow(), "{call}");
    }
    let planned = plan_rule("SELECT argmax(a) AS x FROM s", &catalog, &registry, &RuleOptions::default()).unwrap();
    assert!(!planned.is_slow());
    assert_eq!(planned.output.columns[0].ty, Type::Int);
    let planned =
        plan_rule("SELECT onnx('row', a)[0] AS x FROM s", &catalog, &registry, &RuleOptions::default()).unwrap();
    assert_eq!(planned.output.columns[0].ty, Type::Array(Box::new(Type::Float)));
}

fn catalog(implied: Vec<(smol_str::SmolStr, Type)>) -> Catalog {
    let mut catalog = Catalog::default();
    catalog.sources.insert("s".into(), SourceDef { implied, ..SourceDef::default() });
    catalog
}

/// What a select item gives over one row, whose column `a` is bytea and written as base64.
fn selected(call: &str, registry: &Registry, input: &str) -> Result<Value, String> {
    let catalog = catalog(vec![("a".into(), Type::Bytes), ("b".into(), Type::Any)]);
    let options = RuleOptions::default();
    let plan = plan_rule(&format!("SELECT {call} AS x FROM s"), &catalog, registry, &options);
    let plan = plan.map_err(|errors| errors.errors[0].message.clone())?;
    let schema = Arc::clone(&plan.inputs[0].schema);
    let row = json::parse(input.as_bytes()).unwrap().to_object().unwrap();
    let value = |name: &str| match row.get(name) {
        Some(Value::String(text)) if name == "a" => Value::bytes(STANDARD.decode(text.as_str()).unwrap()),
        other => other.cloned().unwrap_or_default(),
    };
    let values = schema.columns.iter().map(|column| value(&column.name)).collect();
    let batch = Arc::new(Batch::per_row(Arc::clone(&schema), vec![Row { ts: 0, values }]));
    let mut chain = Chain::new(&plan, &[(0..schema.columns.len()).collect()]);
    let (mut rule, mut out) = (rule(), Vec::new());
    chain.push(0, batch, &mut rule, &mut out);
    match (out.first().and_then(|batch| Some(batch.schema.to_object(batch.rows.first()?))), rule.report.last_error) {
        (Some(object), None) => Ok(object.get("x").cloned().unwrap_or_default()),
        (None, Some(error)) => {
            assert_eq!(rule.report.n_failed, 1, "{call}");
            Err(error.to_string())
        }
        other => panic!("{call}: {other:?}"),
    }
}

#[test]
fn examples() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("times123.onnx"), model(&[1, 3])).unwrap();
    let registry = registry(Some(folder.path()));
    let mut wrong = Vec::new();
    for function in signature::functions() {
        assert!(function.docs.ends_with('.') && !function.examples.is_empty(), "{}", function.name);
        for example in function.examples {
            let result = selected(example.call, &registry, example.input).map(|value| shown(&value));
            if result.as_deref().unwrap_or("error") != example.result {
                wrong.push(format!("{} over {}: {result:?}, not {}", example.call, example.input, example.result));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The part of the page that is made of the functions. `SLUICE_UPDATE_DOCS=1` writes it anew.
#[test]
fn reference_page() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/IMAGES.md");
    let written = std::fs::read_to_string(path).unwrap();
    let title = "## Functions\n";
    let (before, _) = written.split_once(title).expect("the page has that part");
    let mut page = format!(
        "{before}{title}\nMade from the functions themselves by the test `reference_page`; do not edit below this line. Bytes are \
         shown as base64.\n\n"
    );
    signature::functions().iter().for_each(|function| page.push_str(&reference::entry(function)));
    if std::env::var_os("SLUICE_UPDATE_DOCS").is_some() {
        std::fs::write(path, &page).unwrap();
    }
    assert!(std::fs::read_to_string(path).unwrap() == page, "IMAGES.md is out of date: run with SLUICE_UPDATE_DOCS=1");
}

/// A file that changes is loaded anew; one that breaks leaves what there was.
#[test]
fn models_are_shared_and_loaded_anew() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("row.onnx");
    let models = super::model::Models::looking_again_after(Some(folder.path().to_owned()), std::time::Duration::ZERO);
    let missing = models.get("row").err().unwrap();
    assert!(missing.contains("row.onnx can't be read: "), "{missing}");
    std::fs::write(&path, model(&[1, 3])).unwrap();
    let first = models.get("row").unwrap();
    assert!(Arc::ptr_eq(&first, &models.get("row").unwrap()));
    std::fs::write(&path, b"broken").unwrap();
    assert!(Arc::ptr_eq(&first, &models.get("row").unwrap()));
    std::fs::write(&path, model(&[2, 3])).unwrap();
    let second = models.get("row").unwrap();
    assert_eq!((first.to_string(), second.to_string()), ("F32[1,3] -> F32[1,3]".into(), "F32[2,3] -> F32[2,3]".into()));
}
