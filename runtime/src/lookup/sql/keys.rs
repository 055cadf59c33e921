//! Key values as the types of their columns.

use bytes::Bytes;
use sluice_sql::Value;
use smol_str::{SmolStr, ToSmolStr};

use crate::connection::sql::{Param, SqlDialect};

/// What a key column takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyType {
    /// SQLite: whatever it is given.
    Any,
    /// Whole numbers.
    Int,
    /// Exact numbers.
    Decimal,
    /// 64-bit floats.
    Float,
    /// 32-bit floats.
    Float32,
    /// Booleans.
    Bool,
    /// Text.
    Text,
    /// Bytes.
    Bytes,
    /// UUIDs, which are text here.
    Uuid,
    /// An instant: a time with a zone, or without one and then in UTC.
    Instant {
        /// With a zone.
        has_zone: bool,
    },
    /// Anything else, compared by its text.
    AsText,
}

impl KeyType {
    /// What a column of this type takes.
    pub fn of(dialect: SqlDialect, ty: &str) -> Self {
        match (dialect, ty) {
            (SqlDialect::Sqlite, _) => KeyType::Any,
            (SqlDialect::Postgres, "INT2" | "INT4" | "INT8" | "OID") => KeyType::Int,
            (SqlDialect::Postgres, "NUMERIC") | (SqlDialect::MySql, "DECIMAL") => KeyType::Decimal,
            (SqlDialect::Postgres, "FLOAT8") | (SqlDialect::MySql, "FLOAT" | "DOUBLE") => KeyType::Float,
            (SqlDialect::Postgres, "FLOAT4") => KeyType::Float32,
            (SqlDialect::Postgres, "BOOL") => KeyType::Bool,
            (SqlDialect::Postgres, "TEXT" | "VARCHAR" | "CHAR" | "NAME") => KeyType::Text,
            (SqlDialect::Postgres, "BYTEA") => KeyType::Bytes,
            (SqlDialect::Postgres, "UUID") => KeyType::Uuid,
            (SqlDialect::Postgres, "TIMESTAMPTZ") => KeyType::Instant { has_zone: true },
            (SqlDialect::Postgres, "TIMESTAMP") | (SqlDialect::MySql, "TIMESTAMP" | "DATETIME") => {
                KeyType::Instant { has_zone: false }
            }
            (SqlDialect::Postgres, _) => KeyType::AsText,
            (SqlDialect::MySql, "BINARY" | "VARBINARY" | "TINYBLOB" | "BLOB" | "MEDIUMBLOB" | "LONGBLOB") => {
                KeyType::Bytes
            }
            (SqlDialect::MySql, ty) if ty.contains("INT") || matches!(ty, "BOOLEAN" | "YEAR" | "BIT") => KeyType::Int,
            (SqlDialect::MySql, _) => KeyType::Text,
        }
    }

    /// The column's value that a key's value stands for, and how it is sent. `None`: no row can have it.
    pub fn admit(self, value: &Value) -> Option<(Value, Param)> {
        let kept = |param| Some((value.clone(), param));
        match (self, value) {
            (KeyType::Text | KeyType::AsText | KeyType::Any, Value::String(text)) => kept(Param::Text(text.clone())),
            (KeyType::Uuid, Value::String(text)) => {
                let text: SmolStr = uuid::Uuid::parse_str(text).ok()?.to_smolstr();
                Some((Value::String(text.clone()), Param::Text(text)))
            }
            (KeyType::Bytes | KeyType::Any, Value::Bytes(bytes)) => kept(Param::Bytes(Bytes::clone(bytes))),
            (KeyType::Bool | KeyType::Any, Value::Bool(flag)) => kept(Param::Bool(*flag)),
            // TINYINT(1) is what MySQL has for booleans.
            (KeyType::Int, Value::Bool(flag)) => Some((Value::Int(i64::from(*flag)), Param::Int(i64::from(*flag)))),
            (KeyType::Instant { has_zone }, Value::Datetime(zoned)) => {
                let text = zoned.timestamp().to_string();
                let local = || text.trim_end_matches('Z').replace('T', " ").to_smolstr();
                kept(Param::Text(if has_zone { text.to_smolstr() } else { local() }))
            }
            (KeyType::Int | KeyType::Decimal | KeyType::Any, Value::Int(number)) => kept(Param::Int(*number)),
            (KeyType::Int | KeyType::Decimal | KeyType::Any, Value::Uint(number)) => kept(Param::Uint(*number)),
            (KeyType::Int, Value::Float(number)) => kept(Param::Int(whole(*number)?)),
            (KeyType::Float | KeyType::Float32, Value::Int(number)) => kept(Param::Float(*number as f64)),
            (KeyType::Float | KeyType::Float32, Value::Uint(number)) => kept(Param::Float(*number as f64)),
            (KeyType::Decimal | KeyType::Float | KeyType::Float32 | KeyType::Any, Value::Float(number)) => {
                kept(match whole(*number) {
                    Some(number) if matches!(self, KeyType::Decimal | KeyType::Any) => Param::Int(number),
                    _ => Param::Float(*number),
                })
            }
            _ => None,
        }
    }

    /// True if a value is of a kind that such a column never holds, whatever the value.
    pub fn is_foreign(self, value: &Value) -> bool {
        let is_number = matches!(value, Value::Int(_) | Value::Uint(_) | Value::Float(_));
        let takes_number =
            matches!(self, KeyType::Any | KeyType::Int | KeyType::Decimal | KeyType::Float | KeyType::Float32);
        if is_number { !takes_number } else { takes_number && self != KeyType::Any && !matches!(value, Value::Bool(_)) }
    }
}

/// The 64-bit integer that a float is, if it is one.
pub(super) fn whole(float: f64) -> Option<i64> {
    // Both bounds are floats exactly; the upper one is the first that is too large.
    (float.fract() == 0.0 && (-(2f64.powi(63))..2f64.powi(63)).contains(&float)).then_some(float as i64)
}

/// The values of one key column, as one list parameter, and the cast that makes a list of the column's type of it.
pub(super) fn list(ty: KeyType, params: impl Iterator<Item = Param>) -> (Param, &'static str) {
    match ty {
        KeyType::Bool => (Param::Bools(params.map(|param| matches!(param, Param::Bool(true))).collect()), "bool[]"),
        KeyType::Int => (Param::Ints(params.filter_map(|param| int(&param)).collect()), "int8[]"),
        KeyType::Float => (Param::Floats(params.filter_map(|param| float(&param)).collect()), "float8[]"),
        KeyType::Float32 => (Param::Floats(params.filter_map(|param| float(&param)).collect()), "float8[]::float4[]"),
        KeyType::Bytes => {
            let bytes = params.filter_map(|param| match param {
                Param::Bytes(bytes) => Some(bytes.to_vec()),
                _ => None,
            });
            (Param::BytesList(bytes.collect()), "bytea[]")
        }
        other => {
            let cast = match other {
                KeyType::Decimal => "text[]::numeric[]",
                KeyType::Uuid => "text[]::uuid[]",
                KeyType::Instant { has_zone: true } => "text[]::timestamptz[]",
                KeyType::Instant { has_zone: false } => "text[]::timestamp[]",
                _ => "text[]",
            };
            (Param::Texts(params.map(text).collect()), cast)
        }
    }
}

fn int(param: &Param) -> Option<i64> {
    match param {
        Param::Int(number) => Some(*number),
        Param::Bool(flag) => Some(i64::from(*flag)),
        _ => None,
    }
}

fn float(param: &Param) -> Option<f64> {
    match param {
        Param::Float(number) => Some(*number),
        _ => None,
    }
}

fn text(param: Param) -> String {
    match param {
        Param::Text(text) => text.into(),
        Param::Int(number) => number.to_string(),
        Param::Uint(number) => number.to_string(),
        Param::Float(number) => number.to_string(),
        _ => String::new(),
    }
}
