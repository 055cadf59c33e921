//! Instants: from numbers and text, to text, and spans of time.
//!
//! A layout is written in format letters (`yyyy-MM-dd HH:mm:ssSSS`); the same letters print and parse. The layouts that text
//! is tried against are written so too.

use std::sync::LazyLock;

use jiff::civil::{Date, DateTime, Time, Weekday};
use jiff::tz::{Offset, TimeZone};
use jiff::{Timestamp as Instant, Zoned};

use super::{Timestamp, Value, coerce};

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const WEEKDAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// A layout, taken apart.
#[derive(Clone, Debug, PartialEq)]
pub struct Format(Vec<Part>);

#[derive(Clone, Debug, PartialEq)]
enum Part {
    Text(String),
    Year4,
    Year2,
    MonthName,
    MonthAbbreviation,
    Month {
        padded: bool,
    },
    Day {
        padded: bool,
    },
    WeekdayName,
    WeekdayAbbreviation,
    Hour24 {
        padded: bool,
    },
    Hour12 {
        padded: bool,
    },
    Minute {
        padded: bool,
    },
    Second {
        padded: bool,
    },
    /// A dot and so many digits.
    Fraction(usize),
    HalfOfDay,
    ZoneAbbreviation,
    /// `+hh`, `+hhmm`, `+hh:mm`
    Offset {
        minutes: bool,
        colon: bool,
    },
}

impl Format {
    /// Takes a layout apart.
    ///
    /// # Errors
    /// If letters are repeated a number of times that means nothing.
    pub fn new(letters: &str) -> Result<Self, String> {
        Self::parse_letters(letters, false)
    }

    /// `lenient` also knows a single `H`.
    fn parse_letters(letters: &str, lenient: bool) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut chars = letters.chars().peekable();
        while let Some(c) = chars.next() {
            if c == '\\' {
                if let Some(literal) = chars.next() {
                    push_text(&mut parts, literal);
                }
                continue;
            }
            if c == '\'' {
                if chars.next_if_eq(&'\'').is_some() {
                    push_text(&mut parts, '\'');
                    continue;
                }
                while let Some(quoted) = chars.next() {
                    if quoted != '\'' {
                        push_text(&mut parts, quoted);
                    } else if chars.next_if_eq(&'\'').is_some() {
                        push_text(&mut parts, '\'');
                    } else {
                        break;
                    }
                }
                continue;
            }
            if !"yYGMdEHhamsSzZX".contains(c) {
                push_text(&mut parts, c);
                continue;
            }
            let mut n = 1;
            while chars.next_if_eq(&c).is_some() {
                n += 1;
            }
            parts.push(match (c, n) {
                ('y' | 'Y', 4) => Part::Year4,
                ('y' | 'Y', 2) => Part::Year2,
                ('G', _) => Part::Text("AD".to_owned()),
                ('M', 4) => Part::MonthName,
                ('M', 3) => Part::MonthAbbreviation,
                ('M', 1 | 2) => Part::Month { padded: n == 2 },
                ('d', 1 | 2) => Part::Day { padded: n == 2 },
                ('E', 4) => Part::WeekdayName,
                ('E', 3) => Part::WeekdayAbbreviation,
                ('H', 2) => Part::Hour24 { padded: true },
                ('H', 1) if lenient => Part::Hour24 { padded: false },
                ('h', 1 | 2) => Part::Hour12 { padded: n == 2 },
                ('a', _) => Part::HalfOfDay,
                ('m', 1 | 2) => Part::Minute { padded: n == 2 },
                ('s', 1 | 2) => Part::Second { padded: n == 2 },
                ('S', n) => Part::Fraction(n),
                ('z', _) => Part::ZoneAbbreviation,
                ('Z', _) | ('X', 2) => Part::Offset { minutes: true, colon: false },
                ('X', 1) => Part::Offset { minutes: false, colon: false },
                ('X', 3) => Part::Offset { minutes: true, colon: true },
                (letter, n) => {
                    let run: String = std::iter::repeat_n(letter, n).collect();
                    return Err(format!("\"{run}\" means nothing in the datetime format {letters:?}"));
                }
            });
        }
        Ok(Format(parts))
    }

    /// An instant in this layout, in its own zone.
    pub fn print(&self, zoned: &Zoned) -> String {
        use std::fmt::Write;
        let mut out = String::with_capacity(24);
        let hour12 = match zoned.hour() % 12 {
            0 => 12,
            hour => hour,
        };
        let number = |out: &mut String, number: i8, padded: bool| {
            let _ = if padded { write!(out, "{number:02}") } else { write!(out, "{number}") };
        };
        for part in &self.0 {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Year4 => {
                    let _ = write!(out, "{:04}", zoned.year());
                }
                Part::Year2 => {
                    let _ = write!(out, "{:02}", zoned.year().rem_euclid(100));
                }
                Part::MonthName => out.push_str(month_name(zoned)),
                Part::MonthAbbreviation => out.push_str(&month_name(zoned)[..3]),
                Part::Month { padded } => number(&mut out, zoned.month(), *padded),
                Part::Day { padded } => number(&mut out, zoned.day(), *padded),
                Part::WeekdayName => out.push_str(weekday_name(zoned)),
                Part::WeekdayAbbreviation => out.push_str(&weekday_name(zoned)[..3]),
                Part::Hour24 { padded } => number(&mut out, zoned.hour(), *padded),
                Part::Hour12 { padded } => number(&mut out, hour12, *padded),
                Part::Minute { padded } => number(&mut out, zoned.minute(), *padded),
                Part::Second { padded } => number(&mut out, zoned.second(), *padded),
                Part::Fraction(n_digits) => {
                    let digits = format!("{:09}", zoned.subsec_nanosecond());
                    let _ = write!(out, ".{:0<n_digits$}", &digits[..(*n_digits).min(9)]);
                }
                Part::HalfOfDay => out.push_str(if zoned.hour() < 12 { "AM" } else { "PM" }),
                Part::ZoneAbbreviation => out.push_str(&zone_abbreviation(zoned)),
                Part::Offset { minutes, colon } => write_offset(zoned.offset(), *minutes, *colon, &mut out),
            }
        }
        out
    }

    /// Reads text of this layout. `zone` is for text that names none; what the layout does not have comes from
    /// `now` if it is larger than what it has, else it is the least possible.
    fn read(&self, text: &str, zone: &TimeZone, now: &Zoned) -> Option<Zoned> {
        let mut read = Read::default();
        let mut rest = text;
        for (part_idx, part) in self.0.iter().enumerate() {
            // A fraction may stand behind the seconds without being asked for.
            if let Some(Part::Second { .. }) = part_idx.checked_sub(1).and_then(|before| self.0.get(before))
                && !matches!(part, Part::Fraction(_))
            {
                rest = read.any_fraction(rest);
            }
            rest = read.part(part, rest)?;
        }
        if let Some(Part::Second { .. }) = self.0.last() {
            rest = read.any_fraction(rest);
        }
        if !rest.is_empty() { None } else { read.zoned(zone, now) }
    }
}

fn push_text(parts: &mut Vec<Part>, c: char) {
    match parts.last_mut() {
        Some(Part::Text(text)) => text.push(c),
        _ => parts.push(Part::Text(c.into())),
    }
}

/// The month's English name.
pub fn month_name(zoned: &Zoned) -> &'static str {
    MONTHS.get(zoned.month() as usize - 1).copied().unwrap_or_default()
}

/// The weekday's English name.
pub fn weekday_name(zoned: &Zoned) -> &'static str {
    WEEKDAYS.get(weekday_number(zoned.weekday())).copied().unwrap_or_default()
}

fn weekday_number(weekday: Weekday) -> usize {
    weekday.to_sunday_zero_offset() as usize
}

fn zone_abbreviation(zoned: &Zoned) -> String {
    zoned.time_zone().to_offset_info(zoned.timestamp()).abbreviation().to_owned()
}

fn write_offset(offset: Offset, minutes: bool, colon: bool, out: &mut String) {
    use std::fmt::Write;
    let seconds = offset.seconds();
    let total = seconds.unsigned_abs() / 60;
    let _ = write!(out, "{}{:02}", if seconds < 0 { '-' } else { '+' }, total / 60);
    if minutes {
        let _ = write!(out, "{}{:02}", if colon { ":" } else { "" }, total % 60);
    }
}

/// The text form of an instant: `2006-01-02 15:04:05.999 +0000 UTC`.
pub struct Display<'a>(pub &'a Zoned);

impl std::fmt::Display for Display<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let datetime = self.0.datetime();
        let mut offset = String::new();
        write_offset(self.0.offset(), true, false, &mut offset);
        write!(f, "{} {} {offset} {}", datetime.date(), datetime.time(), zone_abbreviation(self.0))
    }
}

/// What has been read so far.
#[derive(Default)]
struct Read {
    year: Option<i16>,
    month: Option<i8>,
    day: Option<i8>,
    hour: i8,
    minute: i8,
    second: i8,
    nanosecond: i32,
    has_time: bool,
    twelve_hours: bool,
    afternoon: bool,
    offset: Option<Offset>,
    utc: bool,
}

impl Read {
    /// Takes one part off the front; `None` if it is not there.
    fn part<'t>(&mut self, part: &Part, text: &'t str) -> Option<&'t str> {
        let rest = match part {
            Part::Text(expected) => text.strip_prefix(expected.as_str())?,
            Part::Year4 => {
                let (year, rest) = digits(text, 4, 4)?;
                self.year = Some(year as i16);
                rest
            }
            Part::Year2 => {
                let (year, rest) = digits(text, 2, 2)?;
                self.year = Some(if year >= 69 { 1900 + year as i16 } else { 2000 + year as i16 });
                rest
            }
            Part::MonthName | Part::MonthAbbreviation => {
                let length = |name: &str| if *part == Part::MonthName { name.len() } else { 3 };
                let month = MONTHS.iter().position(|name| starts_with(text, &name[..length(name)]))?;
                self.month = Some(month as i8 + 1);
                text.get(length(MONTHS[month])..)?
            }
            Part::WeekdayName | Part::WeekdayAbbreviation => {
                let length = |name: &str| if *part == Part::WeekdayName { name.len() } else { 3 };
                let name = WEEKDAYS.iter().find(|name| starts_with(text, &name[..length(name)]))?;
                text.get(length(name)..)?
            }
            Part::Month { padded } => number(text, *padded, &mut |month| self.month = Some(month))?,
            Part::Day { padded } => number(text.trim_start_matches(' '), *padded, &mut |day| self.day = Some(day))?,
            Part::Hour24 { .. } => number(text, false, &mut |hour| self.hour = hour)?,
            Part::Hour12 { padded } => {
                self.twelve_hours = true;
                number(text, *padded, &mut |hour| self.hour = hour)?
            }
            Part::Minute { padded } => number(text, *padded, &mut |minute| self.minute = minute)?,
            Part::Second { padded } => number(text, *padded, &mut |second| self.second = second)?,
            Part::Fraction(_) => {
                let rest = self.any_fraction(text);
                if rest.len() == text.len() {
                    return None;
                }
                rest
            }
            Part::HalfOfDay => {
                self.afternoon = starts_with(text, "PM");
                text.get(2..).filter(|_| self.afternoon || starts_with(text, "AM"))?
            }
            Part::ZoneAbbreviation => {
                let n_letters = text.bytes().take_while(u8::is_ascii_uppercase).count();
                let (name, rest) = text.split_at(n_letters);
                // Other abbreviations have no one meaning; the text is then taken to be in the zone of the caller.
                self.utc = matches!(name, "UTC" | "GMT");
                (3..=5).contains(&n_letters).then_some(rest)?
            }
            Part::Offset { minutes, colon } => self.offset(text, *minutes, *colon)?,
        };
        self.has_time |= matches!(part, Part::Hour24 { .. } | Part::Hour12 { .. });
        Some(rest)
    }

    /// Takes a dot (or comma) with digits off the front, if it is there.
    fn any_fraction<'t>(&mut self, text: &'t str) -> &'t str {
        let Some(rest) = text.strip_prefix(['.', ',']) else { return text };
        let n_digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        if n_digits == 0 {
            return text;
        }
        let (digits, rest) = rest.split_at(n_digits);
        self.nanosecond = format!("{:0<9}", &digits[..n_digits.min(9)]).parse().unwrap_or(0);
        rest
    }

    fn offset<'t>(&mut self, text: &'t str, minutes: bool, colon: bool) -> Option<&'t str> {
        if let Some(rest) = text.strip_prefix('Z') {
            self.offset = Some(Offset::UTC);
            return Some(rest);
        }
        let sign = match text.as_bytes().first()? {
            b'+' => 1,
            b'-' => -1,
            _ => return None,
        };
        let (hours, mut rest) = digits(text.get(1..)?, 2, 2)?;
        let mut n_minutes = 0;
        if minutes {
            if colon {
                rest = rest.strip_prefix(':')?;
            }
            (n_minutes, rest) = digits(rest, 2, 2)?;
        }
        self.offset = Some(Offset::from_seconds(sign * (hours * 3600 + n_minutes * 60)).ok()?);
        Some(rest)
    }

    fn zoned(self, zone: &TimeZone, now: &Zoned) -> Option<Zoned> {
        let hour = match (self.twelve_hours, self.afternoon, self.hour) {
            (true, false, 12) => 0,
            (true, true, hour) if hour < 12 => hour + 12,
            (_, _, hour) => hour,
        };
        let date = match (self.year, self.month, self.day) {
            (None, None, None) if self.has_time => now.date(),
            (year, month, day) => Date::new(year.unwrap_or(now.year()), month.unwrap_or(1), day.unwrap_or(1)).ok()?,
        };
        let datetime = DateTime::from_parts(date, Time::new(hour, self.minute, self.second, self.nanosecond).ok()?);
        match self.offset {
            Some(offset) if offset == Offset::UTC => datetime.to_zoned(TimeZone::UTC).ok(),
            Some(offset) => datetime.to_zoned(TimeZone::fixed(offset)).ok(),
            None if self.utc => datetime.to_zoned(TimeZone::UTC).ok(),
            None => datetime.to_zoned(zone.clone()).ok(),
        }
    }
}

/// Between `least` and `most` digits as a number.
fn digits(text: &str, least: usize, most: usize) -> Option<(i32, &str)> {
    let n_digits = text.bytes().take(most).take_while(u8::is_ascii_digit).count();
    let (digits, rest) = text.split_at_checked(n_digits).filter(|_| n_digits >= least)?;
    Some((digits.parse().ok()?, rest))
}

fn number<'t>(text: &'t str, padded: bool, set: &mut dyn FnMut(i8)) -> Option<&'t str> {
    let (number, rest) = digits(text, if padded { 2 } else { 1 }, 2)?;
    set(number as i8);
    Some(rest)
}

fn starts_with(text: &str, prefix: &str) -> bool {
    text.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

/// The layouts that text without a given format is tried against, in this order.
static KNOWN: LazyLock<Vec<Format>> = LazyLock::new(|| {
    let layouts = [
        "yyyy",
        "yyyy-M",
        "yyyy-M-d",
        "yyyy-M-d H",
        "yyyy-M-d H:m",
        "yyyy-M-d H:m:s",
        "M-d",
        "H:m:s",
        "H:m",
        "H",
        "H:m:s MMM d, yyyy z",
        "yyyy-MM-dd HH:mm:ss Z z",
        "yyyy-MM-dd'T'HH:mm:ssZ",
        "yyyy-MM-dd'T'HH:mm:ssX",
        "yyyy-MM-dd'T'HH:mm:ssXXX",
        "yyyy-MM-dd'T'HH:mm:ss",
        "yyyy.M.d",
        "yyyy.M.d HH:mm:ss",
        "M/d/yyyy",
        "M/d/yyyy H:m:s",
        "yyyy/MM/dd",
        "yyyyMMdd",
        "yyyy/MM/dd HH:mm:ss",
        "EEE MMM d HH:mm:ss yyyy",
        "EEE MMM d HH:mm:ss z yyyy",
        "EEE MMM dd HH:mm:ss Z yyyy",
        "dd MMM yy HH:mm z",
        "dd MMM yy HH:mm Z",
        "EEEE, dd-MMM-yy HH:mm:ss z",
        "EEE, dd MMM yyyy HH:mm:ss z",
        "EEE, dd MMM yyyy HH:mm:ss Z",
        "h:mma",
        "MMM d HH:mm:ss",
    ];
    let format = |letters: &&str| Format::parse_letters(letters, true).expect("the layouts above are well-formed");
    layouts.iter().map(format).collect()
});

/// Reads a datetime: in `format` if there is one, then in the known layouts. Text without an offset is in `zone`; a time alone
/// is of the day of `now`.
pub fn parse(text: &str, format: Option<&Format>, zone: &TimeZone, now: Timestamp) -> Option<Zoned> {
    // Most text is RFC 3339.
    if format.is_none()
        && matches!(text.as_bytes(), [_, _, _, _, b'-', _, _, b'-', _, _, b'T', _, _, b':', ..])
        && let Ok(pieces) = jiff::fmt::temporal::DateTimeParser::new().parse_pieces(text)
        && let (Some(time), Some(offset)) = (pieces.time(), pieces.to_numeric_offset())
    {
        let zone = if offset == Offset::UTC { TimeZone::UTC } else { TimeZone::fixed(offset) };
        return pieces.date().to_datetime(time).to_zoned(zone).ok();
    }
    let now = Instant::from_millisecond(now).ok()?.to_zoned(zone.clone());
    format.into_iter().chain(&*KNOWN).find_map(|format| format.read(text, zone, &now))
}

/// Milliseconds since the epoch as an instant; `None` beyond the year 9999.
pub fn from_millis(millis: i64, zone: &TimeZone) -> Option<Zoned> {
    Instant::from_millisecond(millis).ok().map(|instant| instant.to_zoned(zone.clone()))
}

/// A value as an instant: numbers are milliseconds since the epoch, text is parsed.
///
/// # Errors
/// If the value is of another kind, out of range, or text of no known layout.
pub fn to_datetime(value: &Value, format: Option<&Format>, zone: &TimeZone, now: Timestamp) -> Result<Zoned, String> {
    let zoned = match value {
        Value::Datetime(zoned) => Some(Zoned::clone(zoned)),
        Value::Int(millis) => from_millis(*millis, zone),
        Value::Float(millis) => from_millis(*millis as i64, zone),
        Value::String(text) => parse(text, format, zone, now),
        _ => None,
    };
    zoned.ok_or_else(|| format!("{} is no datetime", coerce::shown(value)))
}

/// Reads a span of time like `1h30m`, `-1.5h`, `250ms`, in nanoseconds.
///
/// # Errors
/// If it is none; the text says what one looks like.
pub fn parse_duration(text: &str) -> Result<i64, String> {
    let error = || format!("{text:?} is no span of time; write one like \"1h30m\" or \"-250ms\"");
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(0);
    }
    let (mut whole, mut n_parts) = (0i64, 0);
    while !rest.is_empty() {
        let n_number = rest.bytes().take_while(|byte| byte.is_ascii_digit() || *byte == b'.').count();
        let (number, after) = rest.split_at(n_number);
        let units = [("ns", 1), ("us", 1_000), ("µs", 1_000), ("μs", 1_000), ("ms", 1_000_000), ("s", 1_000_000_000)];
        let long = [("m", 60_000_000_000), ("h", 3_600_000_000_000i64)];
        let unit = units.iter().chain(&long).find(|(unit, _)| after.starts_with(unit));
        let (unit, scale) = unit.ok_or_else(error)?;
        let span = match number.parse::<i64>() {
            Ok(number) => number.checked_mul(*scale),
            Err(_) => number.parse::<f64>().ok().map(|number| (number * *scale as f64) as i64),
        };
        whole = span.and_then(|span| whole.checked_add(span)).ok_or_else(error)?;
        rest = &after[unit.len()..];
        n_parts += 1;
    }
    if n_parts == 0 { Err(error()) } else { Ok(if sign < 0.0 { -whole } else { whole }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn berlin() -> TimeZone {
        TimeZone::get("Europe/Berlin").unwrap()
    }

    /// 2024-05-06 07:08:09 UTC
    const NOW: Timestamp = 1_714_979_289_000;

    #[test]
    fn parses() {
        let cases = [
            ("2024", "2024-01-01T00:00:00Z"),
            ("2024-2", "2024-02-01T00:00:00Z"),
            ("2024-02-29", "2024-02-29T00:00:00Z"),
            ("2024-2-9 13", "2024-02-09T13:00:00Z"),
            ("2024-02-29 13:04", "2024-02-29T13:04:00Z"),
            ("2024-02-29 13:04:05", "2024-02-29T13:04:05Z"),
            ("2024-02-29 13:04:05.25", "2024-02-29T13:04:05.25Z"),
            ("12-31", "2024-12-31T00:00:00Z"),
            ("13:04:05", "2024-05-06T13:04:05Z"),
            ("13:04", "2024-05-06T13:04:00Z"),
            ("2024-02-29T13:04:05Z", "2024-02-29T13:04:05Z"),
            ("2024-02-29T13:04:05.123+08:00", "2024-02-29T05:04:05.123Z"),
            ("2024-02-29T13:04:05+0800", "2024-02-29T05:04:05Z"),
            ("2024-02-29T13:04:05", "2024-02-29T13:04:05Z"),
            ("2024-02-29 13:04:05.5 +0100 CET", "2024-02-29T12:04:05.5Z"),
            ("2024.2.9 13:04:05", "2024-02-09T13:04:05Z"),
            ("2/9/2024", "2024-02-09T00:00:00Z"),
            ("2024/02/09 13:04:05", "2024-02-09T13:04:05Z"),
            ("20240209", "2024-02-09T00:00:00Z"),
            ("Fri Feb  9 13:04:05 2024", "2024-02-09T13:04:05Z"),
            ("Fri, 09 Feb 2024 13:04:05 GMT", "2024-02-09T13:04:05Z"),
            ("Fri, 09 Feb 2024 13:04:05 -0700", "2024-02-09T20:04:05Z"),
            ("3:04PM", "2024-05-06T15:04:00Z"),
        ];
        for (text, expected) in cases {
            let zoned = parse(text, None, &TimeZone::UTC, NOW);
            assert_eq!(zoned.map(|zoned| zoned.timestamp().to_string()), Some(expected.to_owned()), "{text}");
        }
        for text in ["", "garbage", "2024-13-01", "2024-02-30", "25:00:00", "12.5", "2024-02-29T13:04:05Zx", "ä"] {
            assert_eq!(parse(text, None, &TimeZone::UTC, NOW), None, "{text}");
        }
    }

    #[test]
    fn zones() {
        let zoned = parse("2024-07-01 12:00:00", None, &berlin(), NOW).unwrap();
        assert_eq!(zoned.timestamp().to_string(), "2024-07-01T10:00:00Z");
        let zoned = parse("2024-07-01T12:00:00+05:00", None, &berlin(), NOW).unwrap();
        assert_eq!(zoned.hour(), 12, "the text's own offset stays");
    }

    #[test]
    fn formats() {
        let zoned = from_millis(1_709_211_845_123, &berlin()).unwrap();
        let cases = [
            ("yyyy-MM-dd HH:mm:ssSSS", "2024-02-29 14:04:05.123"),
            ("YY/M/d h:mm:ss a", "24/2/29 2:04:05 PM"),
            ("EEEE, d MMMM yyyy", "Thursday, 29 February 2024"),
            ("EEE MMM dd", "Thu Feb 29"),
            ("z Z X XX XXX", "CET +0100 +01 +0100 +01:00"),
            ("'at' hh 'o''clock' G \\d", "at 02 o'clock AD d"),
            ("ssSSSSSS", "05.123000"),
            ("''", "'"),
        ];
        for (letters, expected) in cases {
            assert_eq!(Format::new(letters).unwrap().print(&zoned), expected, "{letters}");
        }
        for letters in ["yyy", "EE", "H", "MMMMM", "ddd"] {
            assert!(Format::new(letters).is_err(), "{letters}");
        }
        let format = Format::new("dd.MM.yyyy HH'h'mmSSS").unwrap();
        let zoned = parse("09.02.2024 13h04.250", Some(&format), &TimeZone::UTC, NOW).unwrap();
        assert_eq!(zoned.timestamp().to_string(), "2024-02-09T13:04:00.25Z");
    }

    #[test]
    fn durations() {
        let cases = [
            ("1h30m", Some(5_400_000_000_000)),
            ("-1.5h", Some(-5_400_000_000_000)),
            ("250ms", Some(250_000_000)),
            ("3us4ns", Some(3_004)),
            ("0", Some(0)),
            ("+2s", Some(2_000_000_000)),
            ("1d", None),
            ("", None),
            ("h", None),
            ("10", None),
            ("9999999999h", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_duration(text).ok(), expected, "{text}");
        }
    }
}
