//! When a rule runs: at the times of a cron pattern, within spans of time, or both.

use std::str::FromStr;
use std::time::Duration;

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::Zoned;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use sluice_sql::Timestamp;

use crate::error::ConfigError;

/// Activations that are looked at for one that lies within a span, before the search is given up.
const MAX_TICKS: usize = 10_000;

/// A rule's schedule as it is written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScheduleText {
    /// Five fields: minute, hour, day, month, day of the week.
    pub cron: Option<String>,
    /// How long the rule runs each time.
    pub duration: Option<Duration>,
    /// Begin and end of the spans in which it may run: `2026-01-31 08:00:00`.
    pub ranges: Vec<(String, String)>,
    /// The zone of all of it; UTC without.
    pub time_zone: Option<String>,
}

/// A rule's schedule.
#[derive(Clone, Debug)]
pub struct Schedule {
    text: ScheduleText,
    cron: Option<(Cron, i64)>,
    /// Begin and end, exclusive; in order.
    ranges: Vec<(Timestamp, Timestamp)>,
    zone: TimeZone,
}

impl PartialEq for Schedule {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

/// What a schedule says of a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The rule runs, and the schedule is to be asked again at `until`.
    Active {
        /// The end of the activation.
        until: Timestamp,
    },
    /// It does not.
    Inactive {
        /// When it starts; `None`: never again.
        next: Option<Timestamp>,
    },
}

impl Schedule {
    /// Reads a schedule; `None` if nothing is said of it.
    ///
    /// # Errors
    /// What is wrong, by option.
    pub fn new(text: ScheduleText) -> Result<Option<Self>, ConfigError> {
        let mut problems = ConfigError::default();
        let zone = match text.time_zone.as_deref() {
            None => TimeZone::UTC,
            Some(name) => TimeZone::get(name).unwrap_or_else(|_| {
                problems
                    .push("timeZone", format!("there is no time zone \"{name}\"; expected one such as Europe/Berlin"));
                TimeZone::UTC
            }),
        };
        let cron = text.cron.as_deref().and_then(|pattern| {
            let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
            match (parser.parse(pattern), text.duration) {
                (Ok(cron), Some(duration)) => Some((cron, i64::try_from(duration.as_millis()).unwrap_or(i64::MAX))),
                (Ok(_), None) => {
                    problems.push("duration", "required with cron: how long the rule runs each time");
                    None
                }
                (Err(error), _) => {
                    problems.push(
                        "cron",
                        format!("not a cron pattern ({error}); expected minute, hour, day, month, day of the week: \"0 8 * * 1-5\""),
                    );
                    None
                }
            }
        });
        if text.cron.is_none() && text.duration.is_some() {
            problems.push("duration", "the run time of one activation: it needs cron");
        }
        let mut ranges = Vec::new();
        for (range_idx, (begin, end)) in text.ranges.iter().enumerate() {
            let mut read = |field: &str, text: &str| {
                let instant = DateTime::from_str(text).ok().and_then(|time| time.to_zoned(zone.clone()).ok());
                if instant.is_none() {
                    problems.push(
                        format!("cronDatetimeRange[{range_idx}].{field}"),
                        format!("\"{text}\" is no date and time; expected one such as 2026-01-31 08:00:00"),
                    );
                }
                instant.map(|instant| instant.timestamp().as_millisecond())
            };
            if let (Some(begin), Some(end)) = (read("begin", begin), read("end", end)) {
                if begin >= end {
                    problems.push(format!("cronDatetimeRange[{range_idx}].end"), "not after begin");
                }
                ranges.push((begin, end));
            }
        }
        ranges.sort_unstable();
        if !problems.problems.is_empty() {
            return Err(problems);
        }
        Ok((cron.is_some() || !ranges.is_empty()).then_some(Schedule { text, cron, ranges, zone }))
    }

    /// What the schedule says of `now`.
    pub fn phase(&self, now: Timestamp) -> Phase {
        let active = match &self.cron {
            None => Some(i64::MAX),
            Some((_, duration_ms)) => {
                self.tick_before(now).map(|tick| tick.saturating_add(*duration_ms)).filter(|until| *until > now)
            }
        };
        let in_range = match self.ranges.as_slice() {
            [] => Some(i64::MAX),
            ranges => ranges.iter().filter(|(begin, end)| (*begin..*end).contains(&now)).map(|(_, end)| *end).max(),
        };
        match (active, in_range) {
            (Some(until), Some(range_end)) => Phase::Active { until: until.min(range_end) },
            _ => Phase::Inactive { next: self.next(now) },
        }
    }

    /// The first activation after `now`.
    fn next(&self, now: Timestamp) -> Option<Timestamp> {
        let Some((_, duration_ms)) = &self.cron else {
            return self.ranges.iter().map(|(begin, _)| *begin).filter(|begin| *begin > now).min();
        };
        if self.ranges.is_empty() {
            return self.tick_after(now);
        }
        // An activation that begins before a span and reaches into it begins with the span.
        let mut from = now;
        for _ in 0..MAX_TICKS {
            let tick = self.tick_after(from)?;
            let until = tick.saturating_add(*duration_ms);
            let starts = self.ranges.iter().filter(|(begin, end)| *begin < until && *end > tick && *end > now);
            if let Some(start) = starts.map(|(begin, _)| (*begin).max(tick)).filter(|start| *start > now).min() {
                return Some(start);
            }
            let (begin, _) = self.ranges.iter().find(|(_, end)| *end > tick)?;
            from = tick.max(begin.saturating_sub(*duration_ms).saturating_sub(1));
        }
        None
    }

    fn zoned(&self, at: Timestamp) -> Option<Zoned> {
        Some(jiff::Timestamp::from_millisecond(at).ok()?.to_zoned(self.zone.clone()))
    }

    fn tick_after(&self, at: Timestamp) -> Option<Timestamp> {
        let (cron, _) = self.cron.as_ref()?;
        let tick = cron.find_next_occurrence(&self.zoned(at)?, false).ok()?;
        Some(tick.timestamp().as_millisecond())
    }

    /// The newest tick that is not after `at`.
    fn tick_before(&self, at: Timestamp) -> Option<Timestamp> {
        let (cron, _) = self.cron.as_ref()?;
        let tick = cron.find_previous_occurrence(&self.zoned(at)?, true).ok()?;
        Some(tick.timestamp().as_millisecond())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(cron: &str, duration: &str, ranges: &[(&str, &str)], zone: &str) -> Result<Schedule, ConfigError> {
        let text = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        Schedule::new(ScheduleText {
            cron: text(cron),
            duration: text(duration).map(|text| text.parse::<sluice_crds::Duration>().unwrap().0),
            ranges: ranges.iter().map(|(begin, end)| ((*begin).to_owned(), (*end).to_owned())).collect(),
            time_zone: text(zone),
        })
        .map(|schedule| schedule.unwrap())
    }

    fn at(text: &str) -> Timestamp {
        text.parse::<jiff::Timestamp>().unwrap().as_millisecond()
    }

    #[test]
    fn a_schedule_says_when_a_rule_runs() {
        let january = [("2026-01-01 00:00:00", "2026-02-01 00:00:00")];
        let noon = [("2026-01-31 12:00:00", "2026-01-31 13:00:00")];
        let cases = [
            // cron, duration, ranges, zone, now, active until or else the next start
            ("0 8 * * *", "2h", &[][..], "", "2026-03-01T08:00:00Z", Ok("2026-03-01T10:00:00Z")),
            ("0 8 * * *", "2h", &[], "", "2026-03-01T09:59:59.999Z", Ok("2026-03-01T10:00:00Z")),
            ("0 8 * * *", "2h", &[], "", "2026-03-01T10:00:00Z", Err("2026-03-02T08:00:00Z")),
            ("*/5 * * * *", "7m", &[], "", "2026-03-01T10:04:00Z", Ok("2026-03-01T10:07:00Z")),
            ("0 8 * * *", "1h", &[], "Europe/Berlin", "2026-01-15T07:30:00Z", Ok("2026-01-15T08:00:00Z")),
            ("0 8 * * *", "1h", &[], "Europe/Berlin", "2026-07-15T07:30:00Z", Err("2026-07-16T06:00:00Z")),
            // The night in which clocks go forward has no 02:30.
            ("30 2 * * *", "1h", &[], "Europe/Berlin", "2026-03-29T00:00:00Z", Err("2026-03-29T01:00:00Z")),
            ("", "", &january, "", "2025-12-31T23:59:59Z", Err("2026-01-01T00:00:00Z")),
            ("", "", &january, "", "2026-01-15T00:00:00Z", Ok("2026-02-01T00:00:00Z")),
            ("", "", &january, "", "2026-02-01T00:00:00Z", Err("")),
            ("0 8 * * *", "2h", &january, "", "2026-01-31T10:00:00Z", Err("")),
            ("0 8 * * *", "2h", &january, "", "2020-01-31T10:00:00Z", Err("2026-01-01T08:00:00Z")),
            ("0 11 * * *", "3h", &noon, "", "2026-01-01T11:30:00Z", Err("2026-01-31T12:00:00Z")),
            ("0 11 * * *", "3h", &noon, "", "2026-01-31T12:30:00Z", Ok("2026-01-31T13:00:00Z")),
            ("0 0 30 2 *", "1h", &[], "", "2026-01-01T00:00:00Z", Err("")),
        ];
        for (cron, duration, ranges, zone, now, expected) in cases {
            let phase = schedule(cron, duration, ranges, zone).unwrap().phase(at(now));
            let expected = match expected {
                Ok(until) => Phase::Active { until: at(until) },
                Err("") => Phase::Inactive { next: None },
                Err(next) => Phase::Inactive { next: Some(at(next)) },
            };
            assert_eq!(phase, expected, "{cron} for {duration} {ranges:?} {zone} at {now}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_by_option() {
        let cases = [
            ("0 25 * * *", "1h", &[][..], "", "cron: not a cron pattern ("),
            ("0 0 8 * * *", "1h", &[], "", "cron: not a cron pattern ("),
            ("0 8 * * *", "", &[], "", "duration: required with cron"),
            ("", "1h", &[], "", "duration: the run time of one activation: it needs cron"),
            (
                "",
                "",
                &[("today", "2026-01-01 00:00:00")],
                "",
                "cronDatetimeRange[0].begin: \"today\" is no date and time",
            ),
            (
                "",
                "",
                &[("2026-01-02 00:00:00", "2026-01-01 00:00:00")],
                "",
                "cronDatetimeRange[0].end: not after begin",
            ),
            ("0 8 * * *", "1h", &[], "Mars/Base", "timeZone: there is no time zone \"Mars/Base\""),
        ];
        for (cron, duration, ranges, zone, expected) in cases {
            let error = schedule(cron, duration, ranges, zone).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
        assert_eq!(Schedule::new(ScheduleText::default()), Ok(None));
    }
}
