//! Hashes of a value's text form, as lower-case hex.

use md5::Digest;

use super::NullPolicy::Null;
use super::define::{ex, gives, text};
use super::{Function, Param, ScalarFn};
use crate::value::Value;

/// The functions of this file.
pub(super) fn functions() -> Vec<Function> {
    const A: &str = r#"{"a":"abc"}"#;
    vec![
        hash("md5", |args, _| Ok(Value::string(hex::encode(md5::Md5::digest(text(args, 0).as_bytes())))))
            .docs("The MD5 digest.", &[ex!("md5(a)", A, "\"900150983cd24fb0d6963f7d28e17f72\"")]),
        hash("sha1", |args, _| Ok(Value::string(hex::encode(sha1::Sha1::digest(text(args, 0).as_bytes())))))
            .docs("The SHA-1 digest.", &[ex!("sha1(a)", A, "\"a9993e364706816aba3e25717850c26c9cd0d89d\"")]),
        hash("sha256", |args, _| Ok(Value::string(hex::encode(sha2::Sha256::digest(text(args, 0).as_bytes()))))).docs(
            "The SHA-256 digest.",
            &[ex!("sha256(a)", A, "\"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\"")],
        ),
        hash("sha384", |args, _| Ok(Value::string(hex::encode(sha2::Sha384::digest(text(args, 0).as_bytes()))))).docs(
            "The SHA-384 digest.",
            &[ex!(
                "sha384(a)",
                A,
                "\"cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed8086072ba1e7cc2358baeca134c825a7\""
            )],
        ),
        hash("sha512", |args, _| Ok(Value::string(hex::encode(sha2::Sha512::digest(text(args, 0).as_bytes()))))).docs(
            "The SHA-512 digest.",
            &[ex!(
                "sha512(a)",
                A,
                "\"ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f\""
            )],
        ),
        hash("crc32", |args, _| Ok(Value::string(format!("{:x}", crc32fast::hash(text(args, 0).as_bytes())))))
            .docs("The CRC-32 checksum, without leading zeros.", &[ex!("crc32(a)", A, "\"352441c2\"")]),
    ]
}

fn hash(name: &'static str, body: ScalarFn) -> Function {
    Function::scalar(name, &[Param::String], gives::string, body).null(Null)
}
