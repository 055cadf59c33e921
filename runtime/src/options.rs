//! Connector options: an open map that the connector's own typed config reads.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::ConfigError;

/// Options of one connector after profiles are merged and secrets are filled in. Never printed as a whole: it holds
/// passwords.
#[derive(Clone, Default, PartialEq)]
pub struct Options(pub serde_json::Map<String, serde_json::Value>);

impl Options {
    /// Reads the options into a connector's config. Names match without case; unknown names, wrong types and missing ones are
    /// all reported at once, with the nearest known name.
    ///
    /// # Errors
    /// Every option that does not fit.
    pub fn parse<T: serde::de::DeserializeOwned + JsonSchema>(&self) -> Result<T, ConfigError> {
        serde_path_to_error::deserialize(serde_json::Value::Object(self.0.clone()))
            .map_err(|error| ConfigError::new(error.path().to_string(), error.inner().to_string()))
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.keys()).finish()
    }
}

/// A password, token or key. Shows itself as `***` wherever it is printed.
#[derive(Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Hides `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Secret(text.into())
    }

    /// The text, for the one call that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// A span of time in options: text with units (`500ms`, `1m30s`, `1.5h`), or a number of milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HumanDuration(pub Duration);

impl HumanDuration {
    /// `n` milliseconds.
    pub const fn from_millis(n: u64) -> Self {
        HumanDuration(Duration::from_millis(n))
    }

    /// `n` seconds.
    pub const fn from_secs(n: u64) -> Self {
        HumanDuration(Duration::from_secs(n))
    }
}

impl FromStr for HumanDuration {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no span of time; write it like `500ms`, `10s` or `1h30m`");
        let mut rest = text.trim();
        if rest == "0" {
            return Ok(HumanDuration::default());
        }
        if rest.is_empty() {
            return Err(wrong());
        }
        let mut seconds = 0f64;
        while !rest.is_empty() {
            let n_number = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
            let (number, tail) = rest.split_at(n_number);
            let n_unit = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
            let (unit, tail) = tail.split_at(n_unit);
            let scale = match unit {
                "ns" => 1e-9,
                "us" | "µs" | "μs" => 1e-6,
                "ms" => 1e-3,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3600.0,
                "d" => 86_400.0,
                _ => return Err(wrong()),
            };
            seconds += number.parse::<f64>().map_err(|_| wrong())? * scale;
            rest = tail;
        }
        // Whole nanoseconds: `0.1s` is not exact in binary.
        Duration::try_from_secs_f64((seconds * 1e9).round() / 1e9).map(HumanDuration).map_err(|_| wrong())
    }
}

impl fmt::Display for HumanDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

impl Serialize for HumanDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for HumanDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = HumanDuration;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a span of time like `500ms`, `10s` or `1h30m`, or a number of milliseconds")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<HumanDuration, E> {
                text.parse().map_err(E::custom)
            }
            fn visit_u64<E: serde::de::Error>(self, ms: u64) -> Result<HumanDuration, E> {
                Ok(HumanDuration::from_millis(ms))
            }
            fn visit_i64<E: serde::de::Error>(self, ms: i64) -> Result<HumanDuration, E> {
                u64::try_from(ms)
                    .map(HumanDuration::from_millis)
                    .map_err(|_| E::invalid_value(serde::de::Unexpected::Signed(ms), &self))
            }
            fn visit_f64<E: serde::de::Error>(self, ms: f64) -> Result<HumanDuration, E> {
                Duration::try_from_secs_f64(ms / 1e3)
                    .map(HumanDuration)
                    .map_err(|_| E::invalid_value(serde::de::Unexpected::Float(ms), &self))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for HumanDuration {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": ["string", "integer"], "description": "a span of time: `500ms`, `10s`, `1h30m`, or milliseconds" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_of_time_are_read_like_go_does_and_bare_numbers_are_milliseconds() {
        let cases = [
            ("\"500ms\"", Some(500)),
            ("\"1m30s\"", Some(90_000)),
            ("\"1.5h\"", Some(5_400_000)),
            ("\"0.1s\"", Some(100)),
            ("\"0\"", Some(0)),
            ("250", Some(250)),
            ("2.0", Some(2)),
            ("\"10\"", None),
            ("\"\"", None),
            ("\"10 apples\"", None),
            ("\"1.2.3s\"", None),
            ("\"-1s\"", None),
            ("-5", None),
            ("true", None),
        ];
        for (text, ms) in cases {
            let parsed = serde_json::from_str::<HumanDuration>(text).ok();
            assert_eq!(parsed, ms.map(HumanDuration::from_millis), "{text}");
        }
    }
}
