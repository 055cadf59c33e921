//! Connector options: an open map that the connector's own typed config reads.
//!
//! [`Options::parse`] is the way in. A config type derives `Deserialize` and `JsonSchema`; its schema says which names exist
//! and what they take, so that all mistakes are found at once and named well.

pub(crate) mod read;
mod typed;

use std::fmt;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::error::ConfigError;

/// Options of one connector after profiles are merged and secrets are filled in. Never printed as a whole: it holds
/// passwords.
#[derive(Clone, Default, PartialEq)]
pub struct Options(pub serde_json::Map<String, serde_json::Value>);

impl Options {
    /// Reads the options into a connector's config. Names match without case, `null` means "not given", and numbers and
    /// booleans may come as text (a Secret holds nothing else). Unknown names, wrong types and missing ones are all reported at
    /// once, with the nearest known name and never with a value.
    ///
    /// An older name of an option is accepted if the field says `#[serde(alias = "old")]`; with
    /// `#[schemars(extend("x-alias" = "old"))]` beside it, its type is checked as early as the others'.
    ///
    /// # Errors
    /// Every option that does not fit.
    pub fn parse<T: de::DeserializeOwned + JsonSchema>(&self) -> Result<T, ConfigError> {
        read::parse(&self.0)
    }

    /// Takes out the options that `T` knows, so that what is left can be read as something else.
    #[must_use]
    pub fn split_off<T: JsonSchema>(&mut self) -> Options {
        let names = read::names(&schema_of::<T>());
        let (taken, left) = std::mem::take(&mut self.0)
            .into_iter()
            .partition(|(name, _)| names.iter().any(|known| known.eq_ignore_ascii_case(name)));
        self.0 = left;
        Options(taken)
    }

    /// The value of the option of that name, matched without case.
    pub fn get(&self, name: &str) -> Option<&serde_json::Value> {
        self.0.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

/// The JSON schema of a config type: as [`schemars::schema_for!`] makes it, with what is the same for all types there once.
pub fn schema_of<T: JsonSchema>() -> Schema {
    root(T::json_schema)
}

fn root(describe: fn(&mut SchemaGenerator) -> Schema) -> Schema {
    let mut generator = SchemaGenerator::default();
    let mut schema = describe(&mut generator);
    let definitions = generator.take_definitions(true);
    if !definitions.is_empty() {
        schema.insert("$defs".to_owned(), definitions.into());
    }
    schema
}

/// Names only.
impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.keys()).finish()
    }
}

/// For tests and code that writes options down: `Options::from(json!({...}))`. Anything but an object gives no options.
impl From<serde_json::Value> for Options {
    fn from(value: serde_json::Value) -> Self {
        match value {
            serde_json::Value::Object(map) => Options(map),
            _ => Options::default(),
        }
    }
}

/// A password, token or key. Shows itself as `***` wherever it is printed.
#[derive(Clone, Default, PartialEq, Eq, Hash, Deserialize)]
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

    /// Nothing in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(if self.0.is_empty() { "" } else { "***" })
    }
}

impl JsonSchema for Secret {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Secret".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "password", "writeOnly": true })
    }
}

/// A span of time in a connector's options: text with a unit (`500ms`, `1m30s`) or a bare number of milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HumanDuration(pub Duration);

impl HumanDuration {
    /// That many milliseconds.
    pub const fn from_millis(n: u64) -> Self {
        HumanDuration(Duration::from_millis(n))
    }

    /// That many seconds.
    pub const fn from_secs(n: u64) -> Self {
        HumanDuration(Duration::from_secs(n))
    }

    /// Zero, which for most options means "off".
    pub const fn is_zero(self) -> bool {
        self.0.is_zero()
    }
}

impl std::str::FromStr for HumanDuration {
    type Err = sluice_crds::DurationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse::<sluice_crds::Duration>().map(|duration| HumanDuration(duration.0))
    }
}

impl fmt::Display for HumanDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        sluice_crds::Duration(self.0).fmt(f)
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

        impl de::Visitor<'_> for Visitor {
            type Value = HumanDuration;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration such as 500ms, 10s or 1h30m, or a whole number of milliseconds")
            }

            fn visit_u64<E: de::Error>(self, n: u64) -> Result<HumanDuration, E> {
                Ok(HumanDuration::from_millis(n))
            }

            fn visit_i64<E: de::Error>(self, n: i64) -> Result<HumanDuration, E> {
                u64::try_from(n).map(HumanDuration::from_millis).map_err(|_| E::custom("a duration can't be negative"))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<HumanDuration, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for HumanDuration {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "HumanDuration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "integer"], "format": read::DURATION })
    }
}

/// A number of bytes in options: text with a unit as Kubernetes writes it (`64Mi`, `1G`, `500k`), or a bare number of bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(pub u64);

impl ByteSize {
    /// The number, as far as it can be counted in memory.
    pub fn bytes(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl std::str::FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const UNITS: [(&str, u64); 9] = [
            ("Ki", 1 << 10),
            ("Mi", 1 << 20),
            ("Gi", 1 << 30),
            ("Ti", 1 << 40),
            ("k", 1000),
            ("M", 1_000_000),
            ("G", 1_000_000_000),
            ("T", 1_000_000_000_000),
            ("", 1),
        ];
        let text = text.trim();
        let (number, factor) =
            UNITS.iter().find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, *factor))).unwrap_or((text, 1));
        let size = number.trim().parse::<u64>().ok().and_then(|number| number.checked_mul(factor));
        size.map(ByteSize).ok_or_else(|| format!("\"{text}\" is no size; expected one such as 64Mi, 1G or 4096"))
    }
}

impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let size = [("Gi", 1 << 30), ("Mi", 1 << 20), ("Ki", 1 << 10)]
            .into_iter()
            .find(|(_, factor)| self.0 > 0 && self.0.is_multiple_of(*factor));
        match size {
            Some((unit, factor)) => serializer.collect_str(&format_args!("{}{unit}", self.0 / factor)),
            None => serializer.serialize_u64(self.0),
        }
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl de::Visitor<'_> for Visitor {
            type Value = ByteSize;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size such as 64Mi, 1G or 4096")
            }

            fn visit_u64<E: de::Error>(self, n: u64) -> Result<ByteSize, E> {
                Ok(ByteSize(n))
            }

            fn visit_i64<E: de::Error>(self, n: i64) -> Result<ByteSize, E> {
                u64::try_from(n).map(ByteSize).map_err(|_| E::custom("a size can't be negative"))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<ByteSize, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for ByteSize {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ByteSize".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "integer"] })
    }
}

#[cfg(test)]
mod tests;
