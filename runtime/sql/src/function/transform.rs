//! From one kind or encoding to another.

use std::io::Read;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use flate2::Compression;
use flate2::read::{DeflateDecoder, DeflateEncoder, GzDecoder, GzEncoder, ZlibDecoder, ZlibEncoder};

use super::NullPolicy::Null;
use super::define::{arg, ex, expected, gives, int, string, text};
use super::{EvalError, Function, Param};
use crate::expr::EvalContext;
use crate::value::Value;
use crate::value::coerce::{self, shown, type_called};

/// The largest result of `decompress`, in bytes: a few kilobytes can unpack to more than a device has.
const MAX_UNPACKED_BYTES: u64 = 64 << 20;

/// The functions of this file.
pub(super) fn functions() -> Vec<Function> {
    use Param::{Any, Datetime, String, StringLiteral};
    vec![
        Function::scalar("cast", &[Any, String], gives::any, cast)
            .null(Null)
            .check(|literals| match literals.get(1) {
                Some(Some(Value::String(name))) if type_called(name).is_none() => Err(no_type(name)),
                _ => Ok(()),
            })
            .docs(
                "The value as another type: `bigint`, `float`, `string`, `boolean`, `datetime` or `bytea`.",
                &[
                    ex!("cast(a, 'bigint')", r#"{"a":"0x1f"}"#, "31"),
                    ex!("cast(a, 'datetime')", r#"{"a":0}"#, "\"1970-01-01T00:00:00Z\""),
                    ex!("cast(a, 'bigint')", r#"{"a":"1.5"}"#, "error"),
                    ex!("cast(a, 'integer')", r#"{"a":1}"#, "error"),
                ],
            ),
        Function::scalar("encode", &[String, StringLiteral], gives::string, |args, _| {
            base64_only(args)?;
            Ok(Value::string(STANDARD.encode(string(args, 0)?)))
        })
        .null(Null)
        .docs("A string's bytes in `base64`.", &[ex!("encode(a, 'base64')", r#"{"a":"hello"}"#, "\"aGVsbG8=\"")]),
        Function::scalar("decode", &[String, StringLiteral], gives::bytes, |args, _| {
            base64_only(args)?;
            let bytes = STANDARD.decode(string(args, 0)?);
            bytes.map(Value::bytes).map_err(|_| expected("base64", arg(args, 0)))
        })
        .null(Null)
        .docs(
            "The bytes that a `base64` text stands for.",
            &[
                ex!("decode(a, 'base64')", r#"{"a":"aGVsbG8="}"#, "\"aGVsbG8=\""),
                ex!("decode(a, 'base64')", r#"{"a":"?"}"#, "error"),
            ],
        ),
        Function::scalar("compress", &[Any, String], gives::bytes, |args, _| match bytes(args)? {
            Some(bytes) => compress(&bytes, &text(args, 1)),
            None => Ok(Value::Null),
        })
        .docs(
            "A string or bytes compressed by `zlib`, `gzip`, `flate` or `zstd`.",
            &[
                ex!("compress(a, 'flate')", r#"{"a":"aaaaaaaa"}"#, "\"S0yEAAA=\""),
                ex!("compress(a, 'rar')", r#"{"a":"a"}"#, "error"),
            ],
        ),
        Function::scalar("decompress", &[Any, String], gives::bytes, |args, _| match bytes(args)? {
            Some(bytes) => decompress(&bytes, &text(args, 1)),
            None => Ok(Value::Null),
        })
        .docs(
            "What was compressed by `zlib`, `gzip`, `flate` or `zstd`, as bytes; at most 64 MiB.",
            &[ex!("decompress(a, 'zlib')", r#"{"a":"x"}"#, "error"), ex!("decompress(a, 'zlib')", "{}", "null")],
        ),
        Function::scalar("chr", &[Any], gives::int, |args, _| match arg(args, 0) {
            Value::String(text) => match text.as_bytes() {
                [byte] => Ok(Value::Int(i64::from(*byte))),
                _ => Err(expected("a text of one byte", arg(args, 0))),
            },
            value => {
                let code = coerce::to_int(value, coerce::Strictness::SameKind)
                    .ok_or_else(|| expected("a character code", value))?;
                i32::try_from(code).map(|code| Value::Int(code.into())).map_err(|_| expected("a character code", value))
            }
        })
        .null(Null)
        .docs(
            "The code of a character, as a number.",
            &[ex!("chr(a)", r#"{"a":"A"}"#, "65"), ex!("chr(a)", r#"{"a":"AB"}"#, "error")],
        ),
        Function::scalar("hex2dec", &[String], gives::int, |args, _| {
            let text = string(args, 0)?;
            let digits = text.strip_prefix("0x").unwrap_or(text);
            i64::from_str_radix(digits, 16).map(Value::Int).map_err(|_| expected("a hexadecimal number", arg(args, 0)))
        })
        .null(Null)
        .docs("The number that a hexadecimal text stands for.", &[ex!("hex2dec(a)", r#"{"a":"0xff"}"#, "255")]),
        Function::scalar("dec2hex", &[Datetime], gives::string, |args, _| {
            let number = int(args, 0)?;
            let sign = if number < 0 { "-" } else { "" };
            Ok(Value::string(format!("0x{sign}{:x}", number.unsigned_abs())))
        })
        .null(Null)
        .docs("An integer in hexadecimal.", &[ex!("dec2hex(a)", r#"{"a":-255}"#, "\"0x-ff\"")]),
    ]
}

pub(super) fn no_type(name: &str) -> String {
    format!("{name:?} is no type; use bigint, float, string, boolean, datetime or bytea")
}

/// The first argument as a value of the type that the second one names.
pub(super) fn cast(args: &[Value], ctx: &mut EvalContext<'_>) -> Result<Value, EvalError> {
    let name = string(args, 1)?;
    let ty = type_called(name).ok_or_else(|| EvalError(no_type(name)))?;
    coerce::cast(arg(args, 0), &ty, &ctx.rule.time_zone, ctx.rule.now).map_err(EvalError)
}

fn base64_only(args: &[Value]) -> Result<(), EvalError> {
    match string(args, 1)? {
        "base64" => Ok(()),
        method => Err(EvalError(format!("{method:?} is no known encoding; use base64"))),
    }
}

fn bytes(args: &[Value]) -> Result<Option<Bytes>, EvalError> {
    match arg(args, 0) {
        value if value.is_null() => Ok(None),
        Value::Bytes(bytes) => Ok(Some(Bytes::clone(bytes))),
        Value::String(text) => Ok(Some(Bytes::copy_from_slice(text.as_bytes()))),
        value => Err(expected("a string or bytea", value)),
    }
}

fn no_method(method: &str) -> EvalError {
    EvalError(format!("{method:?} is no known compression; use zlib, gzip, flate or zstd"))
}

fn compress(bytes: &[u8], method: &str) -> Result<Value, EvalError> {
    let level = Compression::default();
    let mut out = Vec::new();
    let outcome = match method {
        "zlib" => ZlibEncoder::new(bytes, level).read_to_end(&mut out),
        "gzip" => GzEncoder::new(bytes, level).read_to_end(&mut out),
        "flate" => DeflateEncoder::new(bytes, level).read_to_end(&mut out),
        "zstd" => zstd::stream::read::Encoder::new(bytes, 0).and_then(|mut encoder| encoder.read_to_end(&mut out)),
        method => return Err(no_method(method)),
    };
    outcome.map(|_| Value::bytes(out)).map_err(|error| EvalError(format!("{method} failed: {error}")))
}

fn decompress(bytes: &[u8], method: &str) -> Result<Value, EvalError> {
    let mut out = Vec::new();
    let decoder: Box<dyn Read + '_> = match method {
        "zlib" => Box::new(ZlibDecoder::new(bytes)),
        "gzip" => Box::new(GzDecoder::new(bytes)),
        "flate" => Box::new(DeflateDecoder::new(bytes)),
        "zstd" => Box::new(zstd::stream::read::Decoder::new(bytes).map_err(|error| EvalError(error.to_string()))?),
        method => return Err(no_method(method)),
    };
    match decoder.take(MAX_UNPACKED_BYTES + 1).read_to_end(&mut out) {
        Ok(_) if out.len() as u64 > MAX_UNPACKED_BYTES => Err(EvalError::new("the content is larger than 64 MiB")),
        Ok(_) => Ok(Value::bytes(out)),
        Err(_) => {
            Err(EvalError(format!("{} is not {method} data", shown(&Value::bytes(Bytes::copy_from_slice(bytes))))))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_gives_back_what_it_took() {
        let content = b"the same, and the same, and the same".as_slice();
        for method in ["zlib", "gzip", "flate", "zstd"] {
            let Ok(Value::Bytes(packed)) = compress(content, method) else { panic!("{method}") };
            let Ok(Value::Bytes(unpacked)) = decompress(&packed, method) else { panic!("{method}") };
            assert_eq!(&unpacked[..], content, "{method}");
            assert!(decompress(&packed[..packed.len() / 2], method).is_err(), "{method}: cut off");
        }
    }

    #[test]
    fn a_bomb_is_refused() {
        let zeros = vec![0; (MAX_UNPACKED_BYTES + 1) as usize];
        let Ok(Value::Bytes(packed)) = compress(&zeros, "zstd") else { panic!("zeros compress") };
        assert_eq!(decompress(&packed, "zstd").unwrap_err().0, "the content is larger than 64 MiB");
    }
}
