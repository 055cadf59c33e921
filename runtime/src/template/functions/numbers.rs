//! Arithmetic and conversion to numbers.

use super::{ANY, Call, Function, bounded_list, float_of, function, int_of};
use crate::template::MAX_LIST;
use crate::template::datum::Datum;

pub(super) const FUNCTIONS: &[Function] = &[
    function("add1", 1, 1, |c| Ok(Datum::Int(c.int(0).wrapping_add(1)))),
    function("add", 1, ANY, |c| Ok(ints(c, i64::wrapping_add))),
    function("sub", 2, 2, |c| Ok(ints(c, i64::wrapping_sub))),
    function("mul", 1, ANY, |c| Ok(ints(c, i64::wrapping_mul))),
    function("div", 2, 2, |c| {
        c.int(0).checked_div(c.int(1)).map(Datum::Int).ok_or_else(|| "division by zero".to_owned())
    }),
    function("mod", 2, 2, |c| {
        c.int(0).checked_rem(c.int(1)).map(Datum::Int).ok_or_else(|| "division by zero".to_owned())
    }),
    function("max", 1, ANY, |c| Ok(ints(c, i64::max))),
    function("biggest", 1, ANY, |c| Ok(ints(c, i64::max))),
    function("min", 1, ANY, |c| Ok(ints(c, i64::min))),
    function("add1f", 1, 1, |c| Ok(Datum::Float(c.float(0) + 1.0))),
    function("addf", 1, ANY, |c| Ok(floats(c, |a, b| a + b))),
    function("subf", 1, ANY, |c| Ok(floats(c, |a, b| a - b))),
    function("mulf", 1, ANY, |c| Ok(floats(c, |a, b| a * b))),
    function("divf", 1, ANY, |c| Ok(floats(c, |a, b| a / b))),
    function("maxf", 1, ANY, |c| Ok(floats(c, f64::max))),
    function("minf", 1, ANY, |c| Ok(floats(c, f64::min))),
    function("ceil", 1, 1, |c| Ok(Datum::Float(c.float(0).ceil()))),
    function("floor", 1, 1, |c| Ok(Datum::Float(c.float(0).floor()))),
    function("round", 2, 3, |c| {
        let half = if c.args.len() > 2 { c.float(2) } else { 0.5 };
        let scale = 10f64.powi(i32::try_from(c.int(1)).unwrap_or(0).clamp(-300, 300));
        let scaled = c.float(0) * scale;
        let up = scaled.fract().abs() >= half;
        let rounded = if up && scaled >= 0.0 { scaled.ceil() } else { scaled.floor() };
        Ok(Datum::Float(rounded / scale))
    }),
    function("atoi", 1, 1, |c| Ok(Datum::Int(c.int(0)))),
    function("int", 1, 1, |c| Ok(Datum::Int(c.int(0)))),
    function("int64", 1, 1, |c| Ok(Datum::Int(c.int(0)))),
    function("float64", 1, 1, |c| Ok(Datum::Float(c.float(0)))),
    function("toDecimal", 1, 1, |c| Ok(Datum::Int(i64::from_str_radix(&c.text(0), 8).unwrap_or(0)))),
    function("until", 1, 1, |c| {
        let n = c.int(0);
        steps(0, n, if n < 0 { -1 } else { 1 })
    }),
    function("untilStep", 3, 3, |c| steps(c.int(0), c.int(1), c.int(2))),
    function("seq", 0, 3, |c| {
        let (start, step, end) = match c.args.as_slice() {
            [] => return Ok(Datum::text("")),
            [end] => (1, if int_of(end) < 1 { -1 } else { 1 }, int_of(end)),
            [start, end] => (int_of(start), if int_of(end) < int_of(start) { -1 } else { 1 }, int_of(end)),
            [start, step, end, ..] => (int_of(start), int_of(step), int_of(end)),
        };
        let list = steps(start, end.saturating_add(step.signum()), step)?;
        let numbers: Vec<String> = list.items().unwrap_or_default().iter().map(|n| int_of(n).to_string()).collect();
        Ok(Datum::text(numbers.join(" ")))
    }),
    function("randInt", 2, 2, |c| {
        let (low, high) = (c.int(0), c.int(1));
        let span = high.checked_sub(low).and_then(|span| usize::try_from(span).ok()).filter(|span| *span > 0);
        let span = span.ok_or_else(|| format!("{high} is not above {low}"))?;
        Ok(Datum::Int(low.wrapping_add(c.random_below(span) as i64)))
    }),
];

fn ints(c: &Call<'_>, combine: fn(i64, i64) -> i64) -> Datum {
    Datum::Int(c.args.iter().map(int_of).reduce(combine).unwrap_or(0))
}

/// Decimal arithmetic keeps `0.1 + 0.2` at `0.3`, so results are rounded to 15 digits, which floats can hold.
fn floats(c: &Call<'_>, combine: fn(f64, f64) -> f64) -> Datum {
    let exact = c.args.iter().map(float_of).reduce(combine).unwrap_or(0.0);
    Datum::Float(format!("{exact:.14e}").parse().unwrap_or(exact))
}

fn steps(start: i64, stop: i64, step: i64) -> Result<Datum, String> {
    let mut numbers = Vec::new();
    let mut n = start;
    while step != 0 && ((step > 0 && n < stop) || (step < 0 && n > stop)) {
        numbers.push(Datum::Int(n));
        if numbers.len() > MAX_LIST {
            break;
        }
        n = n.saturating_add(step);
    }
    bounded_list(numbers)
}
