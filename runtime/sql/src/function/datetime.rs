//! Dates and times. Numbers are milliseconds since the epoch, text is parsed, in the time zone of the rule.

use jiff::Zoned;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::NullPolicy::Null;
use super::define::{Kept, arg, ex, expected, gives, int, text};
use super::{Body, EvalError, Function, Param, StatefulFunction};
use crate::expr::EvalContext;
use crate::value::datetime::{self, Format, from_millis, month_name, parse_duration, weekday_name};
use crate::value::{Type, Value};

/// The functions of this file.
pub(super) fn functions() -> Vec<Function> {
    use Param::{Any, Datetime, Int, String, StringLiteral};
    const DAY: &str = r#"{"a":"2024-02-29 13:04:05.25"}"#;
    vec![
        Function::scalar("now", &[Int], gives::string, |args, ctx| clock(args, ctx, "yyyy-MM-dd HH:mm:ss"))
            .aliases(&["current_timestamp", "local_time", "local_timestamp"])
            .optional(1)
            .volatile()
            .docs(
                "The date and the time of day, with up to 6 digits of the second if asked for.",
                &[ex!("now()", "{}", "\"2023-11-14 22:13:21\""), ex!("now(3)", "{}", "\"2023-11-14 22:13:21.250\"")],
            ),
        Function::scalar("cur_time", &[Int], gives::string, |args, ctx| clock(args, ctx, "HH:mm:ss"))
            .aliases(&["current_time"])
            .optional(1)
            .volatile()
            .docs(
                "The time of day, with up to 6 digits of the second if asked for.",
                &[ex!("cur_time()", "{}", "\"22:13:21\"")],
            ),
        Function::scalar("cur_date", &[], gives::string, |args, ctx| clock(args, ctx, "yyyy-MM-dd"))
            .aliases(&["current_date"])
            .volatile()
            .docs("The date.", &[ex!("cur_date()", "{}", "\"2023-11-14\"")]),
        Function::new(
            "format_time",
            &[Datetime, String],
            gives::string,
            Body::Stateful(|| Box::<FormatTime>::default()),
        )
        .null(Null)
        .docs(
            "A datetime in a layout of format letters.",
            &[
                ex!("format_time(a, 'dd.MM.yyyy HH:mm:ssSSS')", DAY, "\"29.02.2024 13:04:05.250\""),
                ex!("format_time(a, 'yyy')", DAY, "error"),
            ],
        ),
        Function::scalar("date_calc", &[Datetime, StringLiteral], gives::string, |args, ctx| {
            let span = parse_duration(&text(args, 1)).map_err(EvalError)?;
            let moved = at(args, 0, ctx)?.checked_add(jiff::SignedDuration::from_nanos(span));
            let moved = moved.map_err(|_| EvalError::new("the result is beyond the calendar"))?;
            print("yyyy-MM-dd HH:mm:ss", &moved)
        })
        .docs(
            "A datetime moved by a span of time like `1h30m` or `-15m`.",
            &[ex!("date_calc(a, '-24h')", DAY, "\"2024-02-28 13:04:05\""), ex!("date_calc(a, '1d')", DAY, "error")],
        ),
        Function::scalar("date_diff", &[Datetime, Datetime], gives::int, |args, ctx| {
            let (from, to) = (at(args, 0, ctx)?, at(args, 1, ctx)?);
            let nanoseconds = to.timestamp().as_nanosecond() - from.timestamp().as_nanosecond();
            let nanoseconds = i64::try_from(nanoseconds);
            nanoseconds.map(Value::Int).map_err(|_| EvalError::new("the datetimes are more than 292 years apart"))
        })
        .docs(
            "The time from the first to the second, in nanoseconds.",
            &[ex!("date_diff(a, b)", r#"{"a":0,"b":2}"#, "2000000")],
        ),
        part("day_name", gives::string, |args, ctx| Ok(Value::string(weekday_name(&at(args, 0, ctx)?))))
            .docs("The English name of the weekday.", &[ex!("day_name(a)", DAY, "\"Thursday\"")]),
        part("month_name", gives::string, |args, ctx| Ok(Value::string(month_name(&at(args, 0, ctx)?))))
            .docs("The English name of the month.", &[ex!("month_name(a)", DAY, "\"February\"")]),
        part("day_of_month", gives::int, |args, ctx| Ok(number(at(args, 0, ctx)?.day())))
            .aliases(&["day"])
            .docs("The day of the month.", &[ex!("day_of_month(a)", DAY, "29")]),
        part("day_of_year", gives::int, |args, ctx| Ok(number(at(args, 0, ctx)?.day_of_year())))
            .docs("The day of the year, from 1.", &[ex!("day_of_year(a)", DAY, "60")]),
        part("day_of_week", gives::int, |args, ctx| Ok(number(at(args, 0, ctx)?.weekday().to_sunday_zero_offset())))
            .docs("The day of the week, Sunday being 0.", &[ex!("day_of_week(a)", DAY, "4")]),
        part("month", gives::int, |args, ctx| Ok(number(at(args, 0, ctx)?.month())))
            .docs("The month, from 1.", &[ex!("month(a)", DAY, "2"), ex!("month(a)", "{}", "error")]),
        part("hour", gives::int, |args, ctx| Ok(number(at(args, 0, ctx)?.hour())))
            .docs("The hour, 0 to 23.", &[ex!("hour(a)", DAY, "13")]),
        part("minute", gives::int, |args, ctx| Ok(number(at(args, 0, ctx)?.minute())))
            .docs("The minute.", &[ex!("minute(a)", DAY, "4")]),
        part("second", gives::int, |args, ctx| Ok(number(at(args, 0, ctx)?.second())))
            .docs("The second.", &[ex!("second(a)", DAY, "5")]),
        part("microsecond", gives::int, |args, ctx| {
            Ok(Value::Int(i64::from(at(args, 0, ctx)?.subsec_nanosecond() / 1000)))
        })
        .docs("The microseconds within the second.", &[ex!("microsecond(a)", DAY, "250000")]),
        part("last_day", gives::string, |args, ctx| {
            Ok(Value::string(at(args, 0, ctx)?.datetime().date().last_of_month().to_string()))
        })
        .docs("The last day of the month.", &[ex!("last_day(a)", r#"{"a":"2023-02-03"}"#, "\"2023-02-28\"")]),
        Function::scalar("from_days", &[Datetime], gives::string, |args, _| match int(args, 0)? {
            0 => Ok(Value::Null),
            n_days => {
                let date = i32::try_from(n_days.saturating_sub(1)).ok().and_then(|n_days| {
                    Date::new(1970, 1, 1).ok()?.checked_add(jiff::Span::new().try_days(n_days).ok()?).ok()
                });
                date.map(|date| Value::string(date.to_string()))
                    .ok_or_else(|| expected("a day of the calendar", arg(args, 0)))
            }
        })
        .null(Null)
        .docs(
            "The date of a day, 1970-01-01 being 1; null for 0.",
            &[ex!("from_days(a)", r#"{"a":2}"#, "\"1970-01-02\""), ex!("from_days(a)", r#"{"a":0}"#, "null")],
        ),
        Function::scalar("from_unix_time", &[Datetime], gives::string, |args, ctx| match int(args, 0)? {
            0 => Ok(Value::Null),
            seconds => {
                let zoned = seconds.checked_mul(1000).and_then(|millis| from_millis(millis, &ctx.rule.time_zone));
                print("yyyy-MM-dd HH:mm:ss", &zoned.ok_or_else(|| expected("a time of the calendar", arg(args, 0)))?)
            }
        })
        .null(Null)
        .docs(
            "The date and time of so many seconds since 1970; null for 0.",
            &[ex!("from_unix_time(a)", r#"{"a":1}"#, "\"1970-01-01 00:00:01\"")],
        ),
        Function::scalar("convert_tz", &[Datetime, String], gives::datetime, |args, ctx| {
            let name = text(args, 1);
            let zone = TimeZone::get(&name).map_err(|_| EvalError(format!("there is no time zone {name:?}")))?;
            Ok(Value::Datetime(at(args, 0, ctx)?.with_time_zone(zone).into()))
        })
        .null(Null)
        .docs(
            "The same instant in another time zone.",
            &[
                ex!("convert_tz(a, 'Asia/Shanghai')", r#"{"a":0}"#, "\"1970-01-01T08:00:00+08:00\""),
                ex!("convert_tz(a, 'Mars/Base')", r#"{"a":0}"#, "error"),
            ],
        ),
        Function::scalar("to_seconds", &[Any], gives::int, |args, ctx| {
            Ok(Value::Int(at(args, 0, ctx)?.timestamp().as_millisecond().div_euclid(1000)))
        })
        .null(Null)
        .docs("The whole seconds since 1970.", &[ex!("to_seconds(a)", r#"{"a":1999}"#, "1")]),
        Function::scalar("tstamp", &[], gives::int, |_, ctx| Ok(Value::Int(ctx.rule.now)))
            .volatile()
            .docs("The milliseconds since 1970 now.", &[ex!("tstamp()", "{}", "1700000001250")]),
    ]
}

fn part(name: &'static str, returns: fn(&[Type]) -> Type, body: super::ScalarFn) -> Function {
    Function::scalar(name, &[Param::Datetime], returns, body)
}

fn number(number: impl Into<i64>) -> Value {
    Value::Int(number.into())
}

fn at(args: &[Value], idx: usize, ctx: &EvalContext<'_>) -> Result<Zoned, EvalError> {
    datetime::to_datetime(arg(args, idx), None, &ctx.rule.time_zone, ctx.rule.now).map_err(EvalError)
}

fn print(letters: &str, zoned: &Zoned) -> Result<Value, EvalError> {
    Ok(Value::string(Format::new(letters).map_err(EvalError)?.print(zoned)))
}

/// The clock in a layout, with the digits of the second that the first argument asks for.
fn clock(args: &[Value], ctx: &EvalContext<'_>, letters: &str) -> Result<Value, EvalError> {
    let zoned = from_millis(ctx.rule.now, &ctx.rule.time_zone)
        .ok_or_else(|| EvalError::new("the clock is beyond the calendar"))?;
    match arg(args, 0) {
        Value::Int(n_digits @ 1..=6) => print(&format!("{letters}{}", "S".repeat(*n_digits as usize)), &zoned),
        _ => print(letters, &zoned),
    }
}

#[derive(Default)]
struct FormatTime(Kept<Format>);

impl StatefulFunction for FormatTime {
    fn eval(&mut self, args: &[Value], ctx: &mut EvalContext<'_>) -> Result<Value, EvalError> {
        let zoned = at(args, 0, ctx)?;
        Ok(Value::string(self.0.get(&text(args, 1), Format::new)?.print(&zoned)))
    }
}
