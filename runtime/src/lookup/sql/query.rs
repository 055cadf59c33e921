//! A query of the user's own, with named parameters.

use std::sync::Arc;

use bytes::Bytes;
use sluice_sql::Value;
use sluice_sql::operators::LookupKey;
use smol_str::SmolStr;

use crate::connection::sql::{Param, SqlDialect};
use crate::error::ConfigError;
use crate::format::json_encoder::write_value;

/// A query whose parameters are key columns.
#[derive(Debug)]
pub(super) struct NamedQuery {
    /// With the database's own placeholders.
    pub sql: Arc<str>,
    /// Which of the key's values each placeholder stands for.
    places: Vec<usize>,
}

impl NamedQuery {
    /// Reads the query, and checks that it uses the join's key columns and nothing else.
    pub fn parse(text: &str, dialect: SqlDialect, key_columns: &[SmolStr]) -> Result<Self, ConfigError> {
        let mut sql = String::with_capacity(text.len());
        let mut places = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find(['\'', '"', '`', ':', '-', '/']) {
            let (before, from) = rest.split_at(at);
            sql.push_str(before);
            let n_taken = match opaque(from) {
                Some(n_bytes) => {
                    sql.push_str(from.get(..n_bytes).unwrap_or(from));
                    n_bytes
                }
                None => {
                    let name = parameter(from);
                    let Some(place) = key_columns.iter().position(|column| column == name) else {
                        let known = key_columns.iter().map(|column| format!(":{column}")).collect::<Vec<_>>();
                        let known = known.join(", ");
                        let message = format!("parameter :{name} is no key column of the join, which has {known}");
                        return Err(ConfigError::new("query", message));
                    };
                    match dialect {
                        SqlDialect::Postgres => sql.push_str(&format!("${}", place + 1)),
                        SqlDialect::Sqlite | SqlDialect::MySql => sql.push('?'),
                    }
                    places.push(place);
                    name.len() + 1
                }
            };
            rest = from.get(n_taken..).unwrap_or_default();
        }
        sql.push_str(rest);
        if let Some(unused) = (0..key_columns.len()).find(|place| !places.contains(place)) {
            let column = key_columns.get(unused).map_or("", SmolStr::as_str);
            let message = format!("the join asks by {column}, but the query has no parameter :{column}");
            return Err(ConfigError::new("query", message));
        }
        if dialect == SqlDialect::Postgres {
            places = (0..key_columns.len()).collect();
        }
        Ok(NamedQuery { sql: sql.into(), places })
    }

    /// What is bound for a key.
    pub fn params(&self, key: &LookupKey) -> Vec<Param> {
        self.places.iter().filter_map(|place| key.0.get(*place)).map(param).collect()
    }
}

/// The length of what begins here and holds no parameter: quoted text, a comment, a cast, or one character.
fn opaque(text: &str) -> Option<usize> {
    let until = |begin: usize, end: &str| {
        let found = text.get(begin..).and_then(|rest| rest.find(end));
        Some(found.map_or(text.len(), |at| begin + at + end.len()))
    };
    match text.as_bytes() {
        [quote @ (b'\'' | b'"' | b'`'), ..] => until(1, std::str::from_utf8(&[*quote]).unwrap_or("'")),
        [b'-', b'-', ..] => until(2, "\n"),
        [b'/', b'*', ..] => until(2, "*/"),
        [b':', b':', ..] => Some(2),
        [b':', ..] if !parameter(text).is_empty() => None,
        _ => Some(1),
    }
}

/// The name after a colon.
fn parameter(text: &str) -> &str {
    let name = text.get(1..).unwrap_or_default();
    let is_part = |letter: char| letter.is_alphanumeric() || letter == '_';
    match name.chars().next() {
        Some(first) if is_part(first) && !first.is_ascii_digit() => {
            name.get(..name.find(|letter| !is_part(letter)).unwrap_or(name.len())).unwrap_or_default()
        }
        _ => "",
    }
}

fn param(value: &Value) -> Param {
    match value {
        Value::Int(number) => Param::Int(*number),
        Value::Uint(number) => Param::Uint(*number),
        Value::Float(number) => match super::keys::whole(*number) {
            Some(number) => Param::Int(number),
            None => Param::Float(*number),
        },
        Value::Bool(flag) => Param::Bool(*flag),
        Value::String(text) => Param::Text(text.clone()),
        Value::Bytes(bytes) => Param::Bytes(Bytes::clone(bytes)),
        Value::Datetime(zoned) => Param::Text(zoned.timestamp().to_string().into()),
        other => {
            let mut text = Vec::new();
            write_value(other, &mut text);
            Param::Text(String::from_utf8_lossy(&text).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_become_placeholders() {
        for (text, postgres, other, n_params) in [
            ("SELECT * FROM t WHERE a = :a AND b = :b", "a = $1 AND b = $2", "a = ? AND b = ?", 2),
            (
                "SELECT * FROM t WHERE b = :b OR a = :a OR :a > 1",
                "b = $2 OR a = $1 OR $1 > 1",
                "b = ? OR a = ? OR ? > 1",
                3,
            ),
            (
                "SELECT ':a', \":a\", a::text -- :x\n/* :y */ FROM t WHERE a=:a AND b=:b",
                "SELECT ':a', \":a\", a::text -- :x\n/* :y */ FROM t WHERE a=$1 AND b=$2",
                "SELECT ':a', \":a\", a::text -- :x\n/* :y */ FROM t WHERE a=? AND b=?",
                2,
            ),
        ] {
            let columns = ["a".into(), "b".into()];
            let query = NamedQuery::parse(text, SqlDialect::Postgres, &columns).unwrap();
            assert!(query.sql.ends_with(postgres), "{}", query.sql);
            assert_eq!(query.places, [0, 1]);
            let query = NamedQuery::parse(text, SqlDialect::MySql, &columns).unwrap();
            assert!(query.sql.ends_with(other), "{}", query.sql);
            assert_eq!(query.places.len(), n_params);
        }
    }

    #[test]
    fn unknown_and_unused_parameters() {
        let errors = ["SELECT 1 WHERE x = :idd", "SELECT 1", "SELECT ':id'", "SELECT 12:30"]
            .map(|text| NamedQuery::parse(text, SqlDialect::Sqlite, &["id".into()]).unwrap_err().to_string());
        insta::assert_snapshot!(errors.join("\n"), @r"
        query: parameter :idd is no key column of the join, which has :id
        query: the join asks by id, but the query has no parameter :id
        query: the join asks by id, but the query has no parameter :id
        query: the join asks by id, but the query has no parameter :id
        ");
    }
}
