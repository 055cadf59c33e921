//! Durations as people write them: `500ms`, `10s`, `1h30m`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A span of time, written as numbers with units: `500ms`, `10s`, `1h30m`, `1.5s`. Units are `d`, `h`, `m`, `s`, `ms`, `us`, `ns`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Duration(pub std::time::Duration);

/// Why a text is no duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// Nothing there.
    #[error("expected a duration such as 500ms, 10s or 1h30m, found nothing")]
    Empty,
    /// A number without a unit.
    #[error("a duration needs a unit, such as 500ms, 10s or 1h30m")]
    NoUnit,
    /// A minus sign.
    #[error("a duration can't be negative")]
    Negative,
    /// Something else that is no number with a unit.
    #[error("expected a duration such as 500ms, 10s or 1h30m; units are d, h, m, s, ms, us, ns")]
    Malformed,
    /// More than the type holds.
    #[error("the duration is too long")]
    TooLong,
}

/// Units and their nanoseconds; longer names first where one begins with another.
const UNITS: &[(&str, u64)] = &[
    ("ms", 1_000_000),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ns", 1),
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
];

impl Duration {
    /// What the API server checks. Looser than reading: it does not know the bounds.
    pub const PATTERN: &str =
        r"^(0|([0-9]+(\.[0-9]*)?|\.[0-9]+)(d|h|m|s|ms|us|µs|ns)(([0-9]+(\.[0-9]*)?|\.[0-9]+)(d|h|m|s|ms|us|µs|ns))*)$";
}

impl FromStr for Duration {
    type Err = DurationError;

    fn from_str(text: &str) -> Result<Self, DurationError> {
        let mut rest = text.trim();
        if rest.is_empty() {
            return Err(DurationError::Empty);
        }
        if rest.starts_with('-') {
            return Err(DurationError::Negative);
        }
        if rest == "0" {
            return Ok(Duration::default());
        }
        let mut total: u128 = 0;
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
            let (number, tail) = rest.split_at(digits);
            if tail.is_empty() && number.parse::<f64>().is_ok() {
                return Err(DurationError::NoUnit);
            }
            let (unit, nanos) =
                UNITS.iter().find(|(unit, _)| tail.starts_with(unit)).ok_or(DurationError::Malformed)?;
            total += nanoseconds(number, *nanos)?;
            rest = &tail[unit.len()..];
        }
        let seconds = u64::try_from(total / 1_000_000_000).map_err(|_| DurationError::TooLong)?;
        // Longer spans would overflow the milliseconds of the engine's clock.
        if seconds > 100 * 365 * 86_400 {
            return Err(DurationError::TooLong);
        }
        Ok(Duration(std::time::Duration::new(seconds, (total % 1_000_000_000) as u32)))
    }
}

/// `number` (digits with at most one point) times `unit`.
fn nanoseconds(number: &str, unit: u64) -> Result<u128, DurationError> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
        return Err(DurationError::Malformed);
    }
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| DurationError::TooLong)? };
    let mut nanos = u128::from(whole) * u128::from(unit);
    let mut scale = u128::from(unit);
    for digit in fraction.bytes() {
        scale /= 10;
        nanos += u128::from(digit - b'0') * scale;
    }
    Ok(nanos)
}

/// The shortest text that reads back as the same duration.
impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut nanos = self.0.as_nanos();
        if nanos == 0 {
            return f.write_str("0s");
        }
        for (unit, size) in [
            ("h", 3_600_000_000_000),
            ("m", 60_000_000_000),
            ("s", 1_000_000_000),
            ("ms", 1_000_000),
            ("us", 1_000),
            ("ns", 1),
        ] {
            if nanos >= size {
                write!(f, "{}{unit}", nanos / size)?;
                nanos %= size;
            }
        }
        Ok(())
    }
}

impl From<std::time::Duration> for Duration {
    fn from(duration: std::time::Duration) -> Self {
        Duration(duration)
    }
}

impl From<Duration> for std::time::Duration {
    fn from(duration: Duration) -> Self {
        duration.0
    }
}

impl Serialize for Duration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

impl schemars::JsonSchema for Duration {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        // The API server's regular expressions are RE2; `format` stays away, because its `duration` is Go's and lacks `d`.
        schemars::json_schema!({
            "type": "string",
            "maxLength": 64,
            "pattern": Duration::PATTERN,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read() {
        for (text, millis) in [
            ("500ms", 500.0),
            ("10s", 10_000.0),
            ("1h30m", 5_400_000.0),
            ("1.5s", 1_500.0),
            (".5s", 500.0),
            ("2d", 172_800_000.0),
            ("1m0.25s", 60_250.0),
            ("250us", 0.25),
            ("0", 0.0),
            ("0s", 0.0),
            (" 1s ", 1000.0),
        ] {
            let duration: Duration = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(duration.0.as_secs_f64() * 1000.0, millis, "{text}");
            assert_eq!(duration.to_string().parse(), Ok(duration), "{text} written and read again");
        }
    }

    #[test]
    fn what_is_no_duration_is_told() {
        for (text, error) in [
            ("", DurationError::Empty),
            ("10", DurationError::NoUnit),
            ("1h30", DurationError::NoUnit),
            ("-1s", DurationError::Negative),
            ("abc", DurationError::Malformed),
            ("1 s", DurationError::Malformed),
            ("1.2.3s", DurationError::Malformed),
            ("10sec", DurationError::Malformed),
            ("99999999999999999999s", DurationError::TooLong),
            ("200000d", DurationError::TooLong),
        ] {
            assert_eq!(text.parse::<Duration>(), Err(error), "{text:?}");
        }
    }
}
