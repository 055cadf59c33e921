//! JSON, base64, base32, hashes, ids.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use sha1::Digest;
use sluice_sql::Value;

use super::{Call, Function, bounded, function};
use crate::format::{json, json_encoder};
use crate::template::datum::Datum;
use crate::template::format;

pub(super) const FUNCTIONS: &[Function] = &[
    function("json", 1, 1, to_json),
    function("toJson", 1, 1, to_json),
    function("mustToJson", 1, 1, to_json),
    function("toRawJson", 1, 1, to_json),
    function("mustToRawJson", 1, 1, to_json),
    function("toPrettyJson", 1, 1, to_pretty_json),
    function("mustToPrettyJson", 1, 1, to_pretty_json),
    function("fromJson", 1, 1, |c| {
        Ok(json::parse_value(c.text(0).as_bytes()).map_or(Datum::Nothing, |value| Datum::from(&value)))
    }),
    function("mustFromJson", 1, 1, |c| {
        json::parse_value(c.text(0).as_bytes()).map(|value| Datum::from(&value)).map_err(|error| error.to_string())
    }),
    function("base64", 1, 1, |c| {
        let bytes = match c.arg(0) {
            Datum::Bytes(bytes) => bytes.to_vec(),
            arg if arg.is_map() || arg.is_list() => json_text(arg),
            arg => format::to_string(arg).into_bytes(),
        };
        bounded(STANDARD.encode(bytes))
    }),
    function("b64enc", 1, 1, |c| bounded(STANDARD.encode(raw(c)))),
    function("b64dec", 1, 1, |c| match STANDARD.decode(c.text(0).as_bytes()) {
        Ok(bytes) => Ok(text_or_bytes(bytes)),
        Err(error) => Err(format!("no base64: {error}")),
    }),
    function("b32enc", 1, 1, |c| bounded(base32(&raw(c)))),
    function("b32dec", 1, 1, |c| from_base32(&c.text(0)).map(text_or_bytes).ok_or_else(|| "no base32".to_owned())),
    function("sha1sum", 1, 1, |c| Ok(Datum::text(hex(&sha1::Sha1::digest(raw(c)))))),
    function("sha256sum", 1, 1, |c| Ok(Datum::text(hex(&sha2::Sha256::digest(raw(c)))))),
    function("sha512sum", 1, 1, |c| Ok(Datum::text(hex(&sha2::Sha512::digest(raw(c)))))),
    function("adler32sum", 1, 1, |c| {
        let (mut a, mut b) = (1u32, 0u32);
        for byte in raw(c) {
            a = (a + u32::from(byte)) % 65_521;
            b = (b + a) % 65_521;
        }
        Ok(Datum::text(((b << 16) | a).to_string()))
    }),
    function("uuidv4", 0, 0, |c| {
        let bits = (u128::from(c.random()) << 64) | u128::from(c.random());
        Ok(Datum::text(uuid::Builder::from_random_bytes(bits.to_be_bytes()).into_uuid().to_string()))
    }),
    function("randBytes", 1, 1, |c| {
        let n = c.count(0)?;
        let bytes: Vec<u8> = (0..n).map(|_| c.random() as u8).collect();
        bounded(STANDARD.encode(bytes))
    }),
];

/// What is hashed or encoded: a text's or bytea's bytes.
fn raw(c: &Call<'_>) -> Vec<u8> {
    match c.arg(0) {
        Datum::Bytes(bytes) => bytes.to_vec(),
        _ => c.text(0).as_bytes().to_vec(),
    }
}

fn text_or_bytes(bytes: Vec<u8>) -> Datum {
    match String::from_utf8(bytes) {
        Ok(text) => Datum::text(text),
        Err(error) => Datum::Bytes(Bytes::from(error.into_bytes())),
    }
}

fn json_text(datum: &Datum) -> Vec<u8> {
    let mut out = Vec::new();
    json_encoder::write_value(&Value::from(datum), &mut out);
    out
}

fn to_json(c: &mut Call<'_>) -> Result<Datum, String> {
    bounded(String::from_utf8(json_text(c.arg(0))).map_err(|error| error.to_string())?)
}

fn to_pretty_json(c: &mut Call<'_>) -> Result<Datum, String> {
    let value: serde_json::Value = serde_json::from_slice(&json_text(c.arg(0))).map_err(|error| error.to_string())?;
    bounded(serde_json::to_string_pretty(&value).map_err(|error| error.to_string())?)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

fn base32(bytes: &[u8]) -> String {
    let mut out = String::new();
    for chunk in bytes.chunks(5) {
        let mut bits = 0u64;
        for idx in 0..5 {
            bits = (bits << 8) | u64::from(chunk.get(idx).copied().unwrap_or(0));
        }
        let n_chars = (chunk.len() * 8).div_ceil(5);
        for idx in 0..8 {
            let digit = (bits >> (35 - 5 * idx)) & 31;
            let c = BASE32.get(digit as usize).copied().unwrap_or(b'=');
            out.push(if idx < n_chars { char::from(c) } else { '=' });
        }
    }
    out
}

fn from_base32(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let (mut bits, mut n_bits) = (0u32, 0);
    for byte in text.trim_end_matches('=').bytes() {
        let digit = BASE32.iter().position(|known| *known == byte)?;
        bits = ((bits << 5) | digit as u32) & 0xfff;
        n_bits += 5;
        if n_bits >= 8 {
            n_bits -= 8;
            out.push((bits >> n_bits) as u8);
        }
    }
    Some(out)
}
