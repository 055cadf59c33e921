//! A cursor over JSON text: strict about what is well-formed, exact with numbers, bounded in depth.
//!
//! Values that nobody asked for are checked and skipped by the same rules by which others are read, so a text that was
//! skipped can always be read later. Numbers: whole ones keep all 64 bits, one with a fraction or an exponent is a float,
//! and so is a whole one beyond 64 bits; beyond what a float holds is an error. A surrogate without its partner reads as
//! U+FFFD.

use std::borrow::Cow;
use std::sync::Arc;

use sluice_sql::{Object, Value};

/// Arrays and objects may be nested this deep.
pub const MAX_DEPTH: u32 = 128;

/// What is wrong, and at which byte.
#[derive(Debug)]
pub struct Fault {
    pub at: usize,
    pub what: Cow<'static, str>,
}

/// Boxed: the good case must fit a register.
pub type Result<T> = std::result::Result<T, Box<Fault>>;

pub struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Cursor<'a> {
    pub fn new(text: &'a str) -> Self {
        Cursor { text, at: 0 }
    }

    /// Bytes read so far.
    pub fn at(&self) -> usize {
        self.at
    }

    /// The next byte; 0, which is never right in JSON, at the end.
    #[inline]
    fn peek(&self) -> u8 {
        self.text.as_bytes().get(self.at).copied().unwrap_or(0)
    }

    /// What follows.
    #[inline]
    pub fn rest(&self) -> &'a [u8] {
        self.text.as_bytes().get(self.at..).unwrap_or_default()
    }

    /// Steps over `n` bytes that the caller has looked at in [`rest`](Self::rest).
    #[inline]
    pub fn advance(&mut self, n: usize) {
        self.at += n;
    }

    /// Skips white space and returns the byte behind it.
    #[inline]
    pub fn next_token(&mut self) -> u8 {
        // Nearly all JSON that machines send has no white space.
        let byte = self.peek();
        if byte > b' ' { byte } else { self.skip_space() }
    }

    fn skip_space(&mut self) -> u8 {
        loop {
            let byte = self.peek();
            if !matches!(byte, b' ' | b'\n' | b'\r' | b'\t') {
                return byte;
            }
            self.at += 1;
        }
    }

    #[cold]
    pub fn fault<T>(&self, what: impl Into<Cow<'static, str>>) -> Result<T> {
        self.fault_at(self.at, what)
    }

    #[cold]
    pub fn fault_at<T>(&self, at: usize, what: impl Into<Cow<'static, str>>) -> Result<T> {
        Err(Box::new(Fault { at, what: what.into() }))
    }

    #[cold]
    fn expected<T>(&self, what: &'static str) -> Result<T> {
        let end = if self.at >= self.text.len() { ", but the text ends here" } else { "" };
        self.fault(format!("expected {what}{end}"))
    }

    /// Takes `byte`, after white space.
    #[inline]
    pub fn expect(&mut self, byte: u8, what: &'static str) -> Result<()> {
        if self.next_token() != byte {
            return self.expected(what);
        }
        self.at += 1;
        Ok(())
    }

    /// Nothing but white space may follow.
    pub fn end(&mut self) -> Result<()> {
        self.next_token();
        if self.at < self.text.len() { self.fault("unexpected text behind the value") } else { Ok(()) }
    }

    /// After a member or element: true if another one follows, false if the list has been closed.
    #[inline]
    pub fn more(&mut self, close: u8) -> Result<bool> {
        match self.next_token() {
            b',' => {
                self.at += 1;
                Ok(true)
            }
            byte if byte == close => {
                self.at += 1;
                Ok(false)
            }
            _ if close == b'}' => self.expected("`,` or `}`"),
            _ => self.expected("`,` or `]`"),
        }
    }

    /// After `[` or `{`: true if it is closed at once.
    #[inline]
    pub fn is_empty_list(&mut self, close: u8) -> bool {
        let is_empty = self.next_token() == close;
        self.at += usize::from(is_empty);
        is_empty
    }

    /// Reads any value.
    pub fn value(&mut self, depth: u32) -> Result<Value> {
        Ok(match self.next_token() {
            b'"' => Value::String(self.string()?.into()),
            b'-' | b'0'..=b'9' => self.number()?.value(),
            b't' => self.word("true", Value::Bool(true))?,
            b'f' => self.word("false", Value::Bool(false))?,
            b'n' => self.word("null", Value::Null)?,
            b'[' => Value::Array(Arc::new(self.array(depth)?)),
            b'{' => Value::Object(Arc::new(self.object(depth)?)),
            _ => return self.expected("a value"),
        })
    }

    /// Checks a value and steps over it.
    pub fn skip(&mut self, depth: u32) -> Result<()> {
        match self.next_token() {
            b'"' => self.skip_string(),
            b'-' | b'0'..=b'9' => self.skip_number(),
            b't' => self.word("true", ()),
            b'f' => self.word("false", ()),
            b'n' => self.word("null", ()),
            b'[' => {
                self.open(depth)?;
                let mut more = !self.is_empty_list(b']');
                while more {
                    self.skip(depth + 1)?;
                    more = self.more(b']')?;
                }
                Ok(())
            }
            b'{' => {
                self.open(depth)?;
                let mut more = !self.is_empty_list(b'}');
                while more {
                    if self.next_token() != b'"' {
                        return self.expected("a member name in double quotes");
                    }
                    self.skip_string()?;
                    self.expect(b':', "`:`")?;
                    self.skip(depth + 1)?;
                    more = self.more(b'}')?;
                }
                Ok(())
            }
            _ => self.expected("a value"),
        }
    }

    /// Steps over `[` or `{` at depth `depth`.
    pub fn open(&mut self, depth: u32) -> Result<()> {
        if depth >= MAX_DEPTH {
            return self.fault(format!("nested deeper than {MAX_DEPTH} levels"));
        }
        self.at += 1;
        Ok(())
    }

    fn array(&mut self, depth: u32) -> Result<Vec<Value>> {
        self.open(depth)?;
        let mut values = Vec::new();
        let mut more = !self.is_empty_list(b']');
        while more {
            values.push(self.value(depth + 1)?);
            more = self.more(b']')?;
        }
        Ok(values)
    }

    /// Reads the object that begins at the cursor. The last of several members with one name wins.
    pub fn object(&mut self, depth: u32) -> Result<Object> {
        self.open(depth)?;
        let mut object = Object::default();
        let mut more = !self.is_empty_list(b'}');
        while more {
            let name = self.name()?;
            object.insert(name, self.value(depth + 1)?);
            more = self.more(b'}')?;
        }
        Ok(object)
    }

    /// A member's name with its colon.
    pub fn name(&mut self) -> Result<Cow<'a, str>> {
        if self.next_token() != b'"' {
            return self.expected("a member name in double quotes");
        }
        let name = self.string()?;
        self.expect(b':', "`:`")?;
        Ok(name)
    }

    fn word<T>(&mut self, word: &'static str, value: T) -> Result<T> {
        if !self.rest().starts_with(word.as_bytes()) {
            return self.expected("a value");
        }
        self.at += word.len();
        Ok(value)
    }

    /// The string that begins at the cursor.
    #[inline]
    fn string(&mut self) -> Result<Cow<'a, str>> {
        self.at += 1;
        let start = self.at;
        if self.seek_special()? == b'"' {
            let text = self.slice(start, self.at);
            self.at += 1;
            return Ok(Cow::Borrowed(text));
        }
        self.escaped_string(start).map(Cow::Owned)
    }

    #[inline]
    fn slice(&self, start: usize, end: usize) -> &'a str {
        self.text.get(start..end).expect("cut at ASCII characters only")
    }

    /// The rest of a string whose first escape is at the cursor.
    #[cold]
    fn escaped_string(&mut self, start: usize) -> Result<String> {
        let mut text = String::from(self.slice(start, self.at));
        loop {
            let plain = self.at;
            let special = self.seek_special()?;
            text.push_str(self.slice(plain, self.at));
            if special == b'"' {
                self.at += 1;
                return Ok(text);
            }
            text.push(self.escape()?);
        }
    }

    #[inline]
    fn skip_string(&mut self) -> Result<()> {
        self.at += 1;
        while self.seek_special()? != b'"' {
            self.escape()?;
        }
        self.at += 1;
        Ok(())
    }

    /// Moves to the next quote or backslash and returns it.
    #[inline]
    fn seek_special(&mut self) -> Result<u8> {
        let bytes = self.text.as_bytes();
        while let Some(chunk) = bytes.get(self.at..).and_then(|rest| rest.first_chunk::<8>()) {
            let word = u64::from_le_bytes(*chunk);
            let mask = specials(word);
            if mask != 0 {
                let n_plain = mask.trailing_zeros() / 8;
                self.at += n_plain as usize;
                return self.special((word >> (8 * n_plain)) as u8);
            }
            self.at += 8;
        }
        while !matches!(self.peek(), b'"' | b'\\' | 0..0x20) {
            self.at += 1;
        }
        self.special(self.peek())
    }

    #[inline]
    fn special(&self, byte: u8) -> Result<u8> {
        if matches!(byte, b'"' | b'\\') { Ok(byte) } else { self.bad_string() }
    }

    #[cold]
    fn bad_string<T>(&self) -> Result<T> {
        if self.at >= self.text.len() {
            self.fault("the text ends inside a string")
        } else {
            self.fault("control character in a string: write it as an escape")
        }
    }

    /// The character behind the backslash at the cursor.
    fn escape(&mut self) -> Result<char> {
        let start = self.at;
        self.at += 1;
        let plain = match self.peek() {
            b'n' => '\n',
            b't' => '\t',
            b'r' => '\r',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            byte @ (b'"' | b'\\' | b'/') => char::from(byte),
            b'u' => {
                self.at += 1;
                return self.unicode_escape(start);
            }
            _ => return self.fault_at(start, "unknown escape in a string"),
        };
        self.at += 1;
        Ok(plain)
    }

    fn unicode_escape(&mut self, start: usize) -> Result<char> {
        let first = self.hex4(start)?;
        if let 0xd800..0xdc00 = first
            && self.rest().starts_with(b"\\u")
        {
            let behind_first = self.at;
            self.at += 2;
            let second = self.hex4(start)?;
            if let 0xdc00..0xe000 = second {
                let code = 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00);
                return Ok(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            self.at = behind_first;
        }
        Ok(char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER))
    }

    fn hex4(&mut self, start: usize) -> Result<u32> {
        let mut code = 0;
        for _ in 0..4 {
            let Some(digit) = char::from(self.peek()).to_digit(16) else {
                return self.fault_at(start, "expected four hexadecimal digits behind \\u");
            };
            code = code * 16 + digit;
            self.at += 1;
        }
        Ok(code)
    }

    fn number(&mut self) -> Result<Number> {
        let scanned = self.scan_number()?;
        let text = self.slice(scanned.start, self.at);
        if !scanned.is_float {
            if scanned.n_digits <= 18 {
                // 18 digits fit an i64.
                let whole = scanned.digits as i64;
                return Ok(Number::Int(if scanned.is_negative { -whole } else { whole }));
            }
            if let Ok(whole) = text.parse::<i64>() {
                return Ok(Number::Int(whole));
            }
            if let Ok(whole) = text.parse::<u64>() {
                return Ok(Number::Uint(whole));
            }
        }
        if !scanned.has_exponent
            && scanned.n_digits <= 15
            && let Some(power) = POWERS_OF_TEN.get(scanned.n_fraction)
        {
            // Both are exact, so the one division rounds correctly.
            let float = scanned.digits as f64 / power;
            return Ok(Number::Float(if scanned.is_negative { -float } else { float }));
        }
        match text.parse::<f64>() {
            Ok(float) if float.is_finite() => Ok(Number::Float(float)),
            _ => self.fault_at(scanned.start, "number is too large"),
        }
    }

    /// Steps over a number. The usual ones are seen through at once, all others are looked at as closely as when they are read.
    #[inline]
    fn skip_number(&mut self) -> Result<()> {
        let rest = self.rest();
        let digits = |from: usize| rest.iter().skip(from).take_while(|byte| byte.is_ascii_digit()).count();
        let n_sign = usize::from(rest.first() == Some(&b'-'));
        let n_whole = digits(n_sign);
        let mut len = n_sign + n_whole;
        let mut is_usual = n_whole == 1 || (n_whole > 1 && rest.get(n_sign) != Some(&b'0'));
        if rest.get(len) == Some(&b'.') {
            let n_fraction = digits(len + 1);
            is_usual &= n_fraction > 0;
            len += 1 + n_fraction;
        }
        if is_usual && len < 300 && !matches!(rest.get(len), Some(b'e' | b'E')) {
            self.at += len;
            return Ok(());
        }
        let scanned = self.scan_number()?;
        if scanned.has_exponent || scanned.n_digits > 300 { self.check_range(&scanned) } else { Ok(()) }
    }

    /// Refuses what [`number`](Self::number) would refuse.
    #[cold]
    fn check_range(&self, scanned: &Scanned) -> Result<()> {
        if !self.slice(scanned.start, self.at).parse().is_ok_and(f64::is_finite) {
            return self.fault_at(scanned.start, "number is too large");
        }
        Ok(())
    }

    #[inline]
    fn scan_number(&mut self) -> Result<Scanned> {
        let mut scanned = Scanned { start: self.at, ..Scanned::default() };
        if self.peek() == b'-' {
            scanned.is_negative = true;
            self.at += 1;
        }
        match self.peek() {
            b'0' => {
                self.at += 1;
                scanned.n_digits = 1;
                if self.peek().is_ascii_digit() {
                    return self.fault_at(scanned.start, "number with a leading zero");
                }
            }
            b'1'..=b'9' => self.digits(&mut scanned),
            _ => return self.expected("a digit"),
        }
        if self.peek() == b'.' {
            scanned.is_float = true;
            self.at += 1;
            let n_whole = scanned.n_digits;
            self.digits(&mut scanned);
            scanned.n_fraction = scanned.n_digits - n_whole;
            if scanned.n_fraction == 0 {
                return self.expected("a digit behind the point");
            }
        }
        if matches!(self.peek(), b'e' | b'E') {
            scanned.is_float = true;
            scanned.has_exponent = true;
            self.at += 1;
            if matches!(self.peek(), b'+' | b'-') {
                self.at += 1;
            }
            if !self.peek().is_ascii_digit() {
                return self.expected("a digit in the exponent");
            }
            while self.peek().is_ascii_digit() {
                self.at += 1;
            }
        }
        Ok(scanned)
    }

    #[inline]
    fn digits(&mut self, scanned: &mut Scanned) {
        loop {
            let digit = self.peek().wrapping_sub(b'0');
            if digit > 9 {
                return;
            }
            scanned.digits = scanned.digits.wrapping_mul(10).wrapping_add(u64::from(digit));
            scanned.n_digits += 1;
            self.at += 1;
        }
    }
}

/// What the text of a number says, before it is one.
#[derive(Default)]
struct Scanned {
    start: usize,
    is_negative: bool,
    is_float: bool,
    has_exponent: bool,
    /// All digits as one number; right as long as there are at most 19.
    digits: u64,
    n_digits: usize,
    n_fraction: usize,
}

enum Number {
    Int(i64),
    Uint(u64),
    Float(f64),
}

impl Number {
    fn value(self) -> Value {
        match self {
            Number::Int(number) => Value::Int(number),
            Number::Uint(number) => Value::from_u64(number),
            Number::Float(number) => Value::Float(number),
        }
    }
}

const POWERS_OF_TEN: [f64; 16] = [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15];

/// A bit in each byte that is a quote, a backslash or a control character. Bits above the lowest one may be wrong.
#[inline]
fn specials(word: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    let quote = word ^ (ONES * b'"' as u64);
    let backslash = word ^ (ONES * b'\\' as u64);
    let is_quote = quote.wrapping_sub(ONES) & !quote;
    let is_backslash = backslash.wrapping_sub(ONES) & !backslash;
    let is_control = word.wrapping_sub(ONES * 0x20) & !word;
    (is_quote | is_backslash | is_control) & HIGHS
}
