//! Dates, in Go's layouts (`2006-01-02 15:04:05`). The zone is UTC unless one is named.

use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

use super::{Call, Function, function, int_of};
use crate::template::datum::Datum;

pub(super) const FUNCTIONS: &[Function] = &[
    function("now", 0, 0, |c| Ok(Datum::Time(Arc::new(now(c))))),
    function("date", 2, 2, |c| {
        let zoned = time(c, 1);
        format(c, 0, &zoned)
    }),
    function("dateInZone", 3, 3, date_in_zone),
    function("date_in_zone", 3, 3, date_in_zone),
    function("htmlDate", 1, 1, |c| Ok(Datum::text(time(c, 0).strftime("%Y-%m-%d").to_string()))),
    function("htmlDateInZone", 2, 2, |c| Ok(Datum::text(in_zone(c, 0, 1)?.strftime("%Y-%m-%d").to_string()))),
    function("dateModify", 2, 2, modify),
    function("date_modify", 2, 2, modify),
    function("mustDateModify", 2, 2, modify),
    function("must_date_modify", 2, 2, modify),
    function("toDate", 2, 2, to_date),
    function("mustToDate", 2, 2, to_date),
    function("unixEpoch", 1, 1, |c| Ok(Datum::text(time(c, 0).timestamp().as_second().to_string()))),
    function("ago", 1, 1, |c| {
        let seconds = now(c).timestamp().as_second() - time(c, 0).timestamp().as_second();
        Ok(Datum::text(go_duration(seconds)))
    }),
    function("duration", 1, 1, |c| Ok(Datum::text(go_duration(c.int(0))))),
    function("durationRound", 1, 1, |c| {
        let seconds = match c.arg(0) {
            Datum::Time(zoned) => now(c).timestamp().as_second() - zoned.timestamp().as_second(),
            Datum::String(text) => signed_duration(text)?.as_secs(),
            other => int_of(other) / 1_000_000_000,
        };
        let rounded = [(31_536_000, "y"), (2_592_000, "mo"), (86_400, "d"), (3600, "h"), (60, "m"), (1, "s")]
            .iter()
            .find(|(unit, _)| seconds.abs() >= *unit)
            .map(|(unit, name)| format!("{}{name}", seconds / unit));
        Ok(Datum::text(rounded.unwrap_or_else(|| "0s".to_owned())))
    }),
];

fn now(c: &Call<'_>) -> Zoned {
    Timestamp::from_millisecond(c.surroundings.now).unwrap_or_default().to_zoned(TimeZone::UTC)
}

/// A time, or seconds since the epoch; anything else is now.
fn time(c: &Call<'_>, idx: usize) -> Zoned {
    match c.arg(idx) {
        Datum::Time(zoned) => Zoned::clone(zoned),
        Datum::Int(seconds) => Timestamp::from_second(*seconds).unwrap_or_default().to_zoned(TimeZone::UTC),
        Datum::Float(seconds) => Timestamp::from_second(*seconds as i64).unwrap_or_default().to_zoned(TimeZone::UTC),
        _ => now(c),
    }
}

fn in_zone(c: &Call<'_>, time_idx: usize, zone_idx: usize) -> Result<Zoned, String> {
    let name = c.text(zone_idx);
    let zone = match name.as_ref() {
        "" | "UTC" | "Local" => TimeZone::UTC,
        name => TimeZone::get(name).map_err(|_| format!("there is no time zone `{name}`"))?,
    };
    Ok(time(c, time_idx).with_time_zone(zone))
}

fn date_in_zone(c: &mut Call<'_>) -> Result<Datum, String> {
    let zoned = in_zone(c, 1, 2)?;
    format(c, 0, &zoned)
}

fn format(c: &Call<'_>, layout_idx: usize, zoned: &Zoned) -> Result<Datum, String> {
    let layout = to_strftime(&c.text(layout_idx));
    jiff::fmt::strtime::format(&layout, zoned).map(Datum::text).map_err(|error| error.to_string())
}

fn modify(c: &mut Call<'_>) -> Result<Datum, String> {
    let by = signed_duration(&c.text(0))?;
    let zoned = time(c, 1).checked_add(by).map_err(|_| "the date is out of range".to_owned())?;
    Ok(Datum::Time(Arc::new(zoned)))
}

fn to_date(c: &mut Call<'_>) -> Result<Datum, String> {
    let (layout, text) = (c.text(0), c.text(1));
    let wrong = || format!("the text is no date of the layout `{layout}`");
    let parsed = jiff::fmt::strtime::parse(to_strftime(&layout), text.as_bytes()).map_err(|_| wrong())?;
    let zoned = parsed
        .to_zoned()
        .or_else(|_| parsed.to_datetime().and_then(|datetime| datetime.to_zoned(TimeZone::UTC)))
        .or_else(|_| parsed.to_date().and_then(|date| date.to_zoned(TimeZone::UTC)))
        .map_err(|_| wrong())?;
    Ok(Datum::Time(Arc::new(zoned)))
}

/// A duration in Go's writing, with a sign.
fn signed_duration(text: &str) -> Result<jiff::SignedDuration, String> {
    let (negative, magnitude) = match text.strip_prefix('-') {
        Some(magnitude) => (true, magnitude),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let duration: Duration = magnitude
        .parse::<crate::options::HumanDuration>()
        .map_err(|_| "the text is no duration; write it like `1h30m` or `-15s`".to_owned())?
        .0;
    let signed = jiff::SignedDuration::try_from(duration).map_err(|_| "the duration is too long".to_owned())?;
    Ok(if negative { -signed } else { signed })
}

/// Whole seconds the way Go prints a duration: `1h2m3s`.
fn go_duration(seconds: i64) -> String {
    let sign = if seconds < 0 { "-" } else { "" };
    let magnitude = seconds.unsigned_abs();
    let (hours, minutes, seconds) = (magnitude / 3600, magnitude / 60 % 60, magnitude % 60);
    match (hours, minutes) {
        (0, 0) => format!("{sign}{seconds}s"),
        (0, _) => format!("{sign}{minutes}m{seconds}s"),
        _ => format!("{sign}{hours}h{minutes}m{seconds}s"),
    }
}

/// The parts of Go's reference time and what they are for `strftime`. A longer part stands before a shorter one that begins it.
const PARTS: &[(&str, &str)] = &[
    ("January", "%B"),
    ("Jan", "%b"),
    ("Monday", "%A"),
    ("Mon", "%a"),
    ("MST", "%Z"),
    ("2006", "%Y"),
    ("-07:00", "%:z"),
    ("-0700", "%z"),
    ("Z07:00", "%:z"),
    ("Z0700", "%z"),
    ("002", "%j"),
    ("01", "%m"),
    ("02", "%d"),
    ("03", "%I"),
    ("04", "%M"),
    ("05", "%S"),
    ("06", "%y"),
    ("15", "%H"),
    ("PM", "%p"),
    ("pm", "%P"),
    ("_2", "%e"),
    ("1", "%-m"),
    ("2", "%-d"),
    ("3", "%-I"),
    ("4", "%-M"),
    ("5", "%-S"),
];

fn to_strftime(layout: &str) -> String {
    let mut out = String::new();
    let mut rest = layout;
    while let Some(c) = rest.chars().next() {
        // Fractions of a second: `.000` with all digits, `.999` without trailing zeros.
        let n_digits = |digit: u8| rest.bytes().skip(1).take_while(|byte| *byte == digit).count();
        if matches!(c, '.' | ',') && (n_digits(b'0') > 0 || n_digits(b'9') > 0) {
            let (n, flag) = if n_digits(b'0') > 0 { (n_digits(b'0'), "f") } else { (n_digits(b'9'), "F") };
            match (c, flag) {
                ('.', "F") => out.push_str("%.f"),
                (c, _) => out.push_str(&format!("{c}%{}f", n.min(9))),
            }
            rest = rest.get(1 + n..).unwrap_or_default();
            continue;
        }
        if let Some((part, directive)) = PARTS.iter().find(|(part, _)| rest.starts_with(part)) {
            out.push_str(directive);
            rest = rest.get(part.len()..).unwrap_or_default();
        } else {
            out.push(c);
            if c == '%' {
                out.push('%');
            }
            rest = rest.get(c.len_utf8()..).unwrap_or_default();
        }
    }
    out
}
