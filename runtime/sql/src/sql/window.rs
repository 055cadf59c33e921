//! The windows of `GROUP BY`, with their arguments checked.

use sqlparser::tokenizer::Token;

use super::ast::{Expr, ExprKind, Literal, TimeUnit, Window, WindowKind};
use super::parser::{Failed, Parsed, Parser, bare_word};
use super::{Span, SqlError};

/// A window's name, how it is called, and its whole-number arguments.
struct Shape {
    name: &'static str,
    usage: &'static str,
    unit: bool,
    /// What each argument is, and the least that it may be.
    lengths: &'static [(&'static str, i64)],
    /// How many of them must be there.
    required: usize,
}

const SHAPES: [Shape; 5] = [
    Shape {
        name: "TUMBLINGWINDOW",
        usage: "TUMBLINGWINDOW(unit, length)",
        unit: true,
        lengths: &[("length", 1)],
        required: 1,
    },
    Shape {
        name: "HOPPINGWINDOW",
        usage: "HOPPINGWINDOW(unit, length, hop)",
        unit: true,
        lengths: &[("length", 1), ("hop", 1)],
        required: 2,
    },
    Shape {
        name: "SLIDINGWINDOW",
        usage: "SLIDINGWINDOW(unit, length) or SLIDINGWINDOW(unit, length, delay)",
        unit: true,
        lengths: &[("length", 1), ("delay", 0)],
        required: 1,
    },
    Shape {
        name: "SESSIONWINDOW",
        usage: "SESSIONWINDOW(unit, maximum length, timeout)",
        unit: true,
        lengths: &[("maximum length", 1), ("timeout", 1)],
        required: 2,
    },
    Shape {
        name: "COUNTWINDOW",
        usage: "COUNTWINDOW(count) or COUNTWINDOW(count, interval)",
        unit: false,
        lengths: &[("count", 1), ("interval", 1)],
        required: 1,
    },
];

const STATE: &str = "STATEWINDOW";

const UNITS: [&str; 5] = ["DD", "HH", "MI", "SS", "MS"];

/// No window may be longer than this, so that times can be added without overflow.
const MAX_DAYS: i64 = 36_500;

/// Whether this is the name of a window.
pub(super) fn is_window(word: &str) -> bool {
    word.eq_ignore_ascii_case(STATE) || SHAPES.iter().any(|shape| word.eq_ignore_ascii_case(shape.name))
}

impl Parser<'_> {
    /// A window; the next tokens are its name and `(`.
    pub(super) fn window(&mut self) -> Parsed<Window> {
        let start = self.span();
        let name = bare_word(self.token()).unwrap_or_default();
        let shape = SHAPES.iter().find(|shape| name.eq_ignore_ascii_case(shape.name));
        self.advance();
        self.advance();
        let kind = match shape {
            Some(shape) => self.measured(start, shape)?,
            None => self.state()?,
        };
        let filter = self.filter_clause()?.map(|(filter, _)| filter);
        let (when, partition_by) = match self.over_clause()? {
            Some((over, _)) if !over.order_by.is_empty() => {
                return Err(self.fail(over.span, "ORDER BY has no place in the OVER of a window"));
            }
            Some((over, _)) => (over.when.map(|when| *when), over.partition_by),
            None => (None, Vec::new()),
        };
        Ok(Window { kind, filter, when, partition_by, span: start.to(self.prev_span()) })
    }

    /// From behind the `(` of a window that is measured in time or rows. Reports every bad argument.
    fn measured(&mut self, start: Span, shape: &Shape) -> Parsed<WindowKind> {
        let depth = self.lexeme().depth;
        let n_errors = self.errors.len();
        let mut unit = None;
        let mut lengths = Vec::new();
        let mut n_args = 0;
        if *self.token() != Token::RParen {
            loop {
                let parsed = if shape.unit && n_args == 0 {
                    self.time_unit(shape).map(|found| unit = Some(found))
                } else {
                    let length = shape.lengths.get(n_args - usize::from(shape.unit));
                    self.window_length(shape, length, unit).map(|length| lengths.push(length))
                };
                n_args += 1;
                if parsed.is_err() {
                    self.skip_to(depth, |parser| *parser.token() == Token::Comma);
                }
                if !self.take_symbol(&Token::Comma) {
                    break;
                }
            }
        }
        if !self.take_symbol(&Token::RParen) {
            return Err(self.unexpected(&["\",\"", "\")\""]));
        }
        let counts = shape.required + usize::from(shape.unit)..=shape.lengths.len() + usize::from(shape.unit);
        if self.errors.len() == n_errors && !counts.contains(&n_args) {
            let message = format!("{} cannot have {n_args} argument{}", shape.name, if n_args == 1 { "" } else { "s" });
            let error = SqlError::new(start.to(self.prev_span()), message).with_hint(format!("write {}", shape.usage));
            return Err(self.fail_with(error));
        }
        if self.errors.len() > n_errors {
            // All is said; going on behind the window finds more.
            self.filter_clause()?;
            self.over_clause()?;
            return Err(Failed);
        }
        let unit = unit.unwrap_or(TimeUnit::Millisecond);
        let second = lengths.get(1).copied();
        let (Some(&length), n) = (lengths.first(), second.unwrap_or(0)) else {
            return Err(Failed);
        };
        Ok(match shape.name {
            "TUMBLINGWINDOW" => WindowKind::Tumbling { unit, length },
            "HOPPINGWINDOW" => WindowKind::Hopping { unit, length, hop: n },
            "SLIDINGWINDOW" => WindowKind::Sliding { unit, length, delay: n },
            "SESSIONWINDOW" => WindowKind::Session { unit, max_length: length, timeout: n },
            _ => {
                if n > length {
                    let message =
                        format!("the interval of COUNTWINDOW must not be above its count, {length}; it is {n}");
                    return Err(self.fail(start.to(self.prev_span()), message));
                }
                WindowKind::Count { length, interval: second }
            }
        })
    }

    fn time_unit(&mut self, shape: &Shape) -> Parsed<TimeUnit> {
        let unit = match self.at_any(&UNITS) {
            Some("DD") => TimeUnit::Day,
            Some("HH") => TimeUnit::Hour,
            Some("MI") => TimeUnit::Minute,
            Some("SS") => TimeUnit::Second,
            Some(_) => TimeUnit::Millisecond,
            None => {
                let hint = bare_word(self.token()).and_then(unit_meant).map(|unit| format!("did you mean {unit}?"));
                let hint = hint.unwrap_or_else(|| format!("write {}", shape.usage));
                return Err(self.unexpected_or(&["a time unit (DD, HH, MI, SS, MS)"], &[], Some(hint)));
            }
        };
        self.advance();
        self.argument_ends()?;
        Ok(unit)
    }

    /// A length; `length` is what it is and the least it may be.
    fn window_length(&mut self, shape: &Shape, length: Option<&(&str, i64)>, unit: Option<TimeUnit>) -> Parsed<i64> {
        let Some((what, least)) = length else {
            let error = SqlError::new(self.span(), format!("{} has too many arguments", shape.name));
            return Err(self.fail_with(error.with_hint(format!("write {}", shape.usage))));
        };
        let start = self.span();
        let negative = *self.token() == Token::Minus && matches!(self.token_ahead(1), Token::Number(..));
        if negative {
            self.advance();
        }
        if !matches!(self.token(), Token::Number(..)) {
            let hint = Some(format!("write {}", shape.usage));
            return Err(self.unexpected_or(&["a whole number"], &[], hint));
        }
        let Expr { kind, span } = self.number(start, negative)?;
        let value = match kind {
            ExprKind::Literal(Literal::Int(value)) => value,
            _ => {
                let message = format!("the {what} of {} must be a whole number", shape.name);
                let error = SqlError::new(span, message).with_hint("take a smaller unit: DD, HH, MI, SS, MS");
                return Err(self.fail_with(if shape.unit { error } else { SqlError { hint: None, ..error } }));
            }
        };
        if value < *least {
            let message = format!("the {what} of {} must be at least {least}, it is {value}", shape.name);
            return Err(self.fail(span, message));
        }
        if let Some(unit) = unit
            && value > MAX_DAYS * (TimeUnit::Day.millis() / unit.millis())
        {
            return Err(self.fail(span, format!("the {what} of {} must not be above {MAX_DAYS} days", shape.name)));
        }
        self.argument_ends()?;
        Ok(value)
    }

    fn argument_ends(&mut self) -> Parsed<()> {
        match self.token() {
            Token::Comma | Token::RParen => Ok(()),
            _ => Err(self.unexpected(&["\",\"", "\")\""])),
        }
    }

    /// From behind the `(` of a state window.
    fn state(&mut self) -> Parsed<WindowKind> {
        let begin = Box::new(self.expr()?);
        let emit = if self.take_symbol(&Token::Comma) { Some(Box::new(self.expr()?)) } else { None };
        if !self.take_symbol(&Token::RParen) {
            let expected: &[&'static str] = if emit.is_some() { &["\")\""] } else { &["\",\"", "\")\""] };
            let hint = emit.is_some().then(|| "write STATEWINDOW(begin, emit) or STATEWINDOW(condition)".to_owned());
            return Err(self.unexpected_or(expected, &[], hint));
        }
        Ok(WindowKind::State { begin, emit })
    }
}

/// The unit that a word out of other languages stands for.
fn unit_meant(word: &str) -> Option<&'static str> {
    match word.to_ascii_lowercase().trim_end_matches('s') {
        "d" | "day" => Some("DD"),
        "h" | "hr" | "hour" => Some("HH"),
        "m" | "min" | "minute" => Some("MI"),
        "" | "s" | "sec" | "second" => Some("SS"),
        "milli" | "msec" | "millisecond" => Some("MS"),
        _ => None,
    }
}
