//! The functions of templates: Go's own, and helpers under the names that Sprig made common.
//!
//! A family lives in a file with a list of its functions; a new one is one entry there. None reads the environment, files or the
//! network.

mod builtin;
mod dates;
mod encoding;
mod lists;
mod maps;
mod numbers;
mod paths;
mod regexes;
mod strings;

use std::borrow::Cow;

use sluice_sql::sql::nearest;

use super::datum::Datum;
use super::{MAX_LIST, MAX_OUTPUT, Surroundings, format};

/// A function: its name, how many arguments it takes, what it does.
#[derive(Debug)]
pub(super) struct Function {
    pub(super) name: &'static str,
    pub(super) min: usize,
    /// `usize::MAX` for any number.
    pub(super) max: usize,
    pub(super) kind: Kind,
}

/// What a function does.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// Evaluated from left to right, only as far as needed.
    And,
    /// As `And`.
    Or,
    /// Gets its arguments' values.
    Call(Body),
}

impl PartialEq for Kind {
    fn eq(&self, other: &Self) -> bool {
        matches!((self, other), (Kind::And, Kind::And) | (Kind::Or, Kind::Or))
    }
}

type Body = fn(&mut Call<'_>) -> Result<Datum, String>;

const ANY: usize = usize::MAX;

const fn function(name: &'static str, min: usize, max: usize, body: Body) -> Function {
    Function { name, min, max, kind: Kind::Call(body) }
}

const FAMILIES: &[&[Function]] = &[
    builtin::FUNCTIONS,
    dates::FUNCTIONS,
    encoding::FUNCTIONS,
    lists::FUNCTIONS,
    maps::FUNCTIONS,
    numbers::FUNCTIONS,
    paths::FUNCTIONS,
    regexes::FUNCTIONS,
    strings::FUNCTIONS,
];

/// Finds a function.
pub(super) fn find(name: &str) -> Result<&'static Function, String> {
    let all = || FAMILIES.iter().flat_map(|family| family.iter());
    if let Some(function) = all().find(|function| function.name == name) {
        return Ok(function);
    }
    if matches!(name, "env" | "expandenv" | "getHostByName" | "osBase" | "osDir" | "osExt" | "osClean" | "osIsAbs") {
        return Err(format!("`{name}` is not offered: templates can't read the environment, files or the network"));
    }
    let near = nearest(name, all().map(|function| function.name));
    let hint = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
    Err(format!("there is no function `{name}`{hint}"))
}

/// The arguments of a call, and what it may read besides.
pub(super) struct Call<'a> {
    pub(super) args: Vec<Datum>,
    pub(super) surroundings: &'a mut Surroundings,
}

impl Call<'_> {
    fn arg(&self, idx: usize) -> &Datum {
        const NOTHING: &Datum = &Datum::Nothing;
        self.args.get(idx).unwrap_or(NOTHING)
    }

    fn take(&mut self, idx: usize) -> Datum {
        self.args.get_mut(idx).map_or(Datum::Nothing, |arg| std::mem::replace(arg, Datum::Nothing))
    }

    /// Arguments from `start` on.
    fn rest(&self, start: usize) -> &[Datum] {
        self.args.get(start..).unwrap_or_default()
    }

    /// The argument as text: what `print` would write for what is none.
    fn text(&self, idx: usize) -> Cow<'_, str> {
        text_of(self.arg(idx))
    }

    /// The argument as a whole number: texts are read, fractions cut off, what is no number is 0.
    fn int(&self, idx: usize) -> i64 {
        int_of(self.arg(idx))
    }

    /// The argument as a float, by the same rules.
    fn float(&self, idx: usize) -> f64 {
        float_of(self.arg(idx))
    }

    /// A count that is not negative and not beyond what a list may hold.
    fn count(&self, idx: usize) -> Result<usize, String> {
        let n = self.int(idx);
        match usize::try_from(n) {
            Ok(n) if n <= MAX_LIST => Ok(n),
            _ => Err(format!("{n} is not a count from 0 to {MAX_LIST}")),
        }
    }

    fn items(&self, idx: usize) -> Result<Cow<'_, [Datum]>, String> {
        let arg = self.arg(idx);
        match arg {
            Datum::Nothing => Ok(Cow::Borrowed(&[])),
            arg => arg.items().ok_or_else(|| format!("expected a list, not a value of type {}", arg.type_name())),
        }
    }

    fn random(&mut self) -> u64 {
        (self.surroundings.random)()
    }

    /// A random number below `bound`.
    fn random_below(&mut self, bound: usize) -> usize {
        // The upper half of a 128-bit product: without modulo's bias, and one draw.
        ((u128::from(self.random()) * bound.max(1) as u128) >> 64) as usize
    }
}

fn text_of(datum: &Datum) -> Cow<'_, str> {
    match datum {
        Datum::String(text) => Cow::Borrowed(text),
        Datum::Bytes(bytes) => String::from_utf8_lossy(bytes),
        Datum::Nothing => Cow::Borrowed(""),
        other => Cow::Owned(format::to_string(other)),
    }
}

fn int_of(datum: &Datum) -> i64 {
    match datum {
        Datum::Int(int) => *int,
        Datum::Uint(uint) => i64::try_from(*uint).unwrap_or(i64::MAX),
        Datum::Float(float) => *float as i64,
        Datum::Bool(value) => i64::from(*value),
        Datum::String(text) => text.parse().unwrap_or(0),
        _ => 0,
    }
}

fn float_of(datum: &Datum) -> f64 {
    match datum {
        Datum::Bool(value) => f64::from(u8::from(*value)),
        Datum::String(text) => text.parse().unwrap_or(0.0),
        other => other.as_float().unwrap_or(0.0),
    }
}

/// A text that is not longer than a rendering may be.
fn bounded(text: String) -> Result<Datum, String> {
    if text.len() > MAX_OUTPUT {
        return Err(format!("the text is longer than {MAX_OUTPUT} bytes"));
    }
    Ok(Datum::text(text))
}

/// A list that is not longer than [`MAX_LIST`].
fn bounded_list(items: Vec<Datum>) -> Result<Datum, String> {
    if items.len() > MAX_LIST {
        return Err(format!("the list has more than {MAX_LIST} items"));
    }
    Ok(Datum::list(items))
}
