//! Expressions, by precedence climbing.
//!
//! Precedence, loosest first: `OR`; `AND`; `NOT`; comparisons, `IN`, `BETWEEN`, `LIKE`, `IS NULL`; `+ - | ^ ||`; `* / % &`;
//! unary `-`; then `->`, `.`, `[ ]`. All are left-associative.
//!
//! Two deviations from the engine that users come from, both supersets: access binds tighter than `*`, so `x * c[0]` is
//! `x * (c[0])`; and `NULL` is a literal, not a column that is never there.

use sqlparser::tokenizer::Token;

use super::ast::{Arg, BinaryOp, Call, Expr, ExprKind, Ident, Literal, Over, UnaryOp};
use super::parser::{Failed, Parsed, Parser, bare_word, is_reserved};
use super::token::describe;
use super::window::is_window;
use super::{Span, SqlError};

const OR: u8 = 1;
const AND: u8 = 2;
const NOT: u8 = 3;
const COMPARISON: u8 = 4;
const SUM: u8 = 5;
const PRODUCT: u8 = 6;
const UNARY: u8 = 7;

/// The tree of an expression is at most this high: a chain of operators makes it one higher each. It bounds the stack of all
/// who walk the tree: unoptimised, the planner takes some 15 KB for a level, and a thread has 2 MB.
const MAX_HEIGHT: u32 = 100;

/// An expression and the height of its tree.
type Node = (Expr, u32);

/// What can follow a complete operand.
enum Infix {
    Binary(BinaryOp),
    /// `IN`, `BETWEEN`, `LIKE`, perhaps with `NOT` before it.
    Predicate,
    Is,
}

impl Parser<'_> {
    /// An expression.
    pub(super) fn expr(&mut self) -> Parsed<Expr> {
        self.node(0).map(|(expr, _)| expr)
    }

    /// An expression of operators that bind tighter than `above`.
    fn node(&mut self, above: u8) -> Parsed<Node> {
        self.nested(|parser| {
            let mut left = parser.operand()?;
            while let Some((infix, precedence)) = parser.infix() {
                if precedence <= above {
                    break;
                }
                left = parser.behind_operand(left, infix, precedence)?;
            }
            Ok(left)
        })
    }

    fn infix(&self) -> Option<(Infix, u8)> {
        let (op, precedence) = match self.token() {
            Token::Plus => (BinaryOp::Add, SUM),
            Token::Minus => (BinaryOp::Sub, SUM),
            Token::Pipe => (BinaryOp::BitOr, SUM),
            Token::Caret => (BinaryOp::BitXor, SUM),
            Token::StringConcat => (BinaryOp::Concat, SUM),
            Token::Mul => (BinaryOp::Mul, PRODUCT),
            Token::Div => (BinaryOp::Div, PRODUCT),
            Token::Mod => (BinaryOp::Mod, PRODUCT),
            Token::Ampersand => (BinaryOp::BitAnd, PRODUCT),
            Token::Eq => (BinaryOp::Eq, COMPARISON),
            Token::Neq => (BinaryOp::NotEq, COMPARISON),
            Token::Lt => (BinaryOp::Lt, COMPARISON),
            Token::LtEq => (BinaryOp::LtEq, COMPARISON),
            Token::Gt => (BinaryOp::Gt, COMPARISON),
            Token::GtEq => (BinaryOp::GtEq, COMPARISON),
            _ => {
                return match self.at_any(&["AND", "OR", "IN", "BETWEEN", "LIKE", "NOT", "IS"])? {
                    "AND" => Some((Infix::Binary(BinaryOp::And), AND)),
                    "OR" => Some((Infix::Binary(BinaryOp::Or), OR)),
                    "IS" => Some((Infix::Is, COMPARISON)),
                    _ => Some((Infix::Predicate, COMPARISON)),
                };
            }
        };
        Some((Infix::Binary(op), precedence))
    }

    fn behind_operand(&mut self, left: Node, infix: Infix, precedence: u8) -> Parsed<Node> {
        let (left, height) = left;
        let start = left.span;
        let left = Box::new(left);
        match infix {
            Infix::Binary(op) => {
                self.advance();
                let (right, right_height) = self.node(precedence)?;
                self.grown(start, height.max(right_height), ExprKind::Binary(op, left, Box::new(right)))
            }
            Infix::Is => {
                self.advance();
                let negated = self.take("NOT");
                self.expect_keyword(if negated { &["NULL"] } else { &["NULL", "NOT NULL"] })?;
                self.grown(start, height, ExprKind::IsNull { operand: left, negated })
            }
            Infix::Predicate => {
                let negated = self.take("NOT");
                if negated && self.at("NULL") {
                    let hint = Some("write IS NOT NULL".to_owned());
                    return Err(self.unexpected_or(&["IN", "BETWEEN", "LIKE"], &[], hint));
                }
                match self.expect_keyword(&["IN", "BETWEEN", "LIKE"])? {
                    "IN" => self.behind_in(left, height, negated),
                    "BETWEEN" => {
                        let (low, low_height) = self.node(COMPARISON)?;
                        if !self.take("AND") {
                            return Err(self.unexpected_operator(&["AND and the upper bound of BETWEEN"]));
                        }
                        let (high, high_height) = self.node(COMPARISON)?;
                        let kind =
                            ExprKind::Between { operand: left, low: Box::new(low), high: Box::new(high), negated };
                        self.grown(start, height.max(low_height).max(high_height), kind)
                    }
                    _ => {
                        let (pattern, pattern_height) = self.node(COMPARISON)?;
                        let kind = ExprKind::Like { operand: left, pattern: Box::new(pattern), negated };
                        self.grown(start, height.max(pattern_height), kind)
                    }
                }
            }
        }
    }

    fn behind_in(&mut self, operand: Box<Expr>, height: u32, negated: bool) -> Parsed<Node> {
        let start = operand.span;
        if *self.token() != Token::LParen {
            let (array, array_height) = self.node(UNARY)?;
            let kind = ExprKind::InArray { operand, array: Box::new(array), negated };
            return self.grown(start, height.max(array_height), kind);
        }
        self.advance();
        let open = self.prev_span();
        self.refuse_sub_query()?;
        let (list, list_height) = self.expr_list()?;
        self.close(open, &["\",\"", "\")\""])?;
        self.grown(start, height.max(list_height), ExprKind::InList { operand, list, negated })
    }

    /// One or more expressions, and the height of the highest.
    fn expr_list(&mut self) -> Parsed<(Vec<Expr>, u32)> {
        let (mut list, mut height) = (Vec::new(), 0);
        loop {
            let (expr, expr_height) = self.node(0)?;
            list.push(expr);
            height = height.max(expr_height);
            if !self.take_symbol(&Token::Comma) {
                return Ok((list, height));
            }
        }
    }

    /// The `)` of the bracket that was opened at `open`.
    pub(super) fn close(&mut self, open: Span, expected: &[&'static str]) -> Parsed<()> {
        if self.take_symbol(&Token::RParen) {
            return Ok(());
        }
        let gone_on = self.at_end() || bare_word(self.token()).is_some_and(is_reserved);
        if gone_on {
            let hint = format!("the \"(\" at {}:{} is not closed", open.line, open.column);
            return Err(self.unexpected_or(expected, &[], Some(hint)));
        }
        Err(self.unexpected_operator(expected))
    }

    /// A finished node, from `start` to the last token.
    fn grown(&mut self, start: Span, highest: u32, kind: ExprKind) -> Parsed<Node> {
        let span = start.to(self.prev_span());
        if highest >= MAX_HEIGHT {
            let message = format!("this expression is too long: more than {MAX_HEIGHT} operators in a row");
            let error = SqlError::new(span, message).with_hint("write a long row of comparisons as x IN (a, b, ...)");
            return Err(self.fail_with(error));
        }
        Ok((Expr { kind, span }, highest + 1))
    }

    /// An operand with the accesses behind it, or a prefix operator with its operand.
    fn operand(&mut self) -> Parsed<Node> {
        let start = self.span();
        if *self.token() == Token::Minus {
            self.advance();
            if matches!(self.token(), Token::Number(..)) {
                let literal = self.number(start, true)?;
                return self.accesses((literal, 1));
            }
            let (operand, height) = self.node(UNARY)?;
            return self.grown(start, height, ExprKind::Unary(UnaryOp::Minus, Box::new(operand)));
        }
        if self.take("NOT") {
            let (operand, height) = self.node(NOT)?;
            return self.grown(start, height, ExprKind::Unary(UnaryOp::Not, Box::new(operand)));
        }
        let primary = self.primary()?;
        self.accesses(primary)
    }

    fn primary(&mut self) -> Parsed<Node> {
        let start = self.span();
        let literal = |literal| ExprKind::Literal(literal);
        match self.token() {
            Token::Number(..) => return Ok((self.number(start, false)?, 1)),
            Token::SingleQuotedString(_) | Token::DoubleQuotedString(_) => {
                let text = self.text().unwrap_or(Err(Failed))?;
                return self.grown(start, 0, literal(Literal::String(text)));
            }
            Token::LParen => {
                self.advance();
                self.refuse_sub_query()?;
                let (inner, height) = self.node(0)?;
                self.close(start, &["\")\""])?;
                return self.grown(start, height, ExprKind::Nested(Box::new(inner)));
            }
            Token::Word(_) => {}
            Token::ExclamationMark => {
                return Err(self.unexpected_or(&["an expression"], &[], Some("negation is written NOT x".to_owned())));
            }
            _ => return Err(self.unexpected(&["an expression"])),
        }
        let constant = match self.at_any(&["TRUE", "FALSE", "NULL"]) {
            Some("TRUE") => Some(Literal::Bool(true)),
            Some("FALSE") => Some(Literal::Bool(false)),
            Some(_) => Some(Literal::Null),
            None => None,
        };
        if let Some(constant) = constant {
            self.advance();
            return self.grown(start, 0, literal(constant));
        }
        if self.take("CASE") {
            return self.case(start);
        }
        self.refuse_sub_query()?;
        let word = bare_word(self.token()).unwrap_or_default();
        let is_call = *self.token_ahead(1) == Token::LParen;
        // Two keywords are functions elsewhere; whether they are here is for the planner to say.
        if is_call && (!is_reserved(word) || ["LEFT", "RIGHT"].iter().any(|known| word.eq_ignore_ascii_case(known))) {
            return self.call();
        }
        if is_reserved(word) {
            return Err(self.found_reserved("an expression"));
        }
        let mut parts = vec![self.ident()?];
        while self.take_symbol(&Token::Period) {
            parts.push(self.ident()?);
        }
        self.grown(start, 0, ExprKind::Name(parts))
    }

    fn refuse_sub_query(&mut self) -> Parsed<()> {
        if self.at("SELECT") {
            return Err(self.fail(self.span(), "a sub-query is not supported here; expected an expression"));
        }
        Ok(())
    }

    /// A number. `start` is the sign's place if there is one. A whole number beyond 64 bits is the nearest one that fits.
    pub(super) fn number(&mut self, start: Span, negative: bool) -> Parsed<Expr> {
        let Token::Number(digits, long) = self.token() else {
            return Err(self.unexpected(&["a number"]));
        };
        let span = start.to(self.span());
        let end = (span.end_line, span.end_column);
        let (digits, long) = (format!("{}{digits}", if negative { "-" } else { "" }), *long);
        self.advance();
        let next = self.lexeme();
        let glued = long || (matches!(next.token, Token::Word(_)) && (next.span.line, next.span.column) == end);
        if glued {
            let message = "a name cannot begin with a digit, and a number cannot end with a letter";
            let error = SqlError::new(if long { span } else { span.to(self.span()) }, message);
            return Err(self.fail_with(error.with_hint("put a name that begins with a digit between back-quotes")));
        }
        let literal = if digits.contains(['.', 'e', 'E']) {
            digits.parse().ok().filter(|value: &f64| value.is_finite()).map(Literal::Float)
        } else {
            Some(Literal::Int(digits.parse().unwrap_or(if negative { i64::MIN } else { i64::MAX })))
        };
        match literal {
            Some(literal) => Ok(Expr { kind: ExprKind::Literal(literal), span }),
            None => Err(self.fail(span, "this number is too large: the greatest is about 1.8e308")),
        }
    }

    /// `->member`, `.member`, `[index]`, `[from:to]`, any number of them.
    fn accesses(&mut self, node: Node) -> Parsed<Node> {
        let mut node = node;
        loop {
            let start = node.0.span;
            if matches!(self.token(), Token::Arrow | Token::Period) {
                self.advance();
                if matches!(self.token(), Token::SingleQuotedString(_) | Token::DoubleQuotedString(_)) {
                    let hint = "the name of a member goes between back-quotes, not in quotes".to_owned();
                    return Err(self.unexpected_or(&["a name"], &[], Some(hint)));
                }
                let member = self.ident()?;
                let (object, height) = node;
                node = self.grown(start, height, ExprKind::Member(Box::new(object), member))?;
            } else if self.take_symbol(&Token::LBracket) {
                node = self.subscript(node)?;
            } else {
                return Ok(node);
            }
        }
    }

    /// From behind the `[`. `[]` is `[:]`.
    fn subscript(&mut self, (array, mut height): Node) -> Parsed<Node> {
        let start = array.span;
        let array = Box::new(array);
        let mut bound = |parser: &mut Self| {
            if matches!(parser.token(), Token::Colon | Token::RBracket) {
                return Ok(None);
            }
            let (bound, bound_height) = parser.node(0)?;
            height = height.max(bound_height);
            Ok(Some(Box::new(bound)))
        };
        let from = bound(self)?;
        let sliced = self.take_symbol(&Token::Colon);
        let to = if sliced { bound(self)? } else { None };
        if !self.take_symbol(&Token::RBracket) {
            return Err(self.unexpected_operator(if sliced { &["\"]\""] } else { &["\":\"", "\"]\""] }));
        }
        let kind = match from {
            Some(index) if !sliced => ExprKind::Index(array, index),
            from => ExprKind::Slice(array, from, to),
        };
        self.grown(start, height, kind)
    }

    /// From behind the word `CASE`.
    fn case(&mut self, start: Span) -> Parsed<Node> {
        let mut height = 0;
        let mut part = |parser: &mut Self| {
            let (part, part_height) = parser.node(0)?;
            height = height.max(part_height);
            Parsed::Ok(part)
        };
        let operand = match self.at_any(&["WHEN", "ELSE", "END"]) {
            Some(_) => None,
            None => Some(Box::new(part(self)?)),
        };
        let mut branches = Vec::new();
        while self.take("WHEN") {
            let condition = part(self)?;
            if !self.take("THEN") {
                return Err(self.unexpected_operator(&["THEN"]));
            }
            branches.push((condition, part(self)?));
        }
        if branches.is_empty() {
            return Err(self.unexpected_operator(&["WHEN"]));
        }
        let otherwise = if self.take("ELSE") { Some(Box::new(part(self)?)) } else { None };
        if !self.take("END") {
            let expected: &[&'static str] = if otherwise.is_some() { &["END"] } else { &["WHEN", "ELSE", "END"] };
            return Err(self.unexpected_operator(expected));
        }
        self.grown(start, height, ExprKind::Case { operand, branches, otherwise })
    }

    /// `name(args)` with `FILTER` and `OVER`.
    fn call(&mut self) -> Parsed<Node> {
        // Not by `ident`, because two reserved words are names of functions.
        let span = self.span();
        self.advance();
        let name = Ident { name: self.prev_text().into(), span };
        if is_window(&name.name) {
            let message = format!("{} may only stand in GROUP BY, on its own", name.name.to_uppercase());
            return Err(self.fail(name.span, message));
        }
        if name.name.is_empty() {
            return Err(self.fail(name.span, "a name cannot be empty"));
        }
        self.advance();
        let open = self.prev_span();
        let distinct = self.at("DISTINCT")
            && !matches!(self.token_ahead(1), Token::Comma | Token::RParen)
            && self.take("DISTINCT");
        let (mut args, mut height) = (Vec::new(), 0);
        if *self.token() != Token::RParen {
            loop {
                if self.take_symbol(&Token::Mul) {
                    args.push(Arg::Star(self.prev_span()));
                } else {
                    let (arg, arg_height) = self.node(0)?;
                    height = height.max(arg_height);
                    args.push(Arg::Expr(arg));
                }
                if !self.take_symbol(&Token::Comma) {
                    break;
                }
            }
        }
        if self.at("AS") && name.name.eq_ignore_ascii_case("cast") {
            let hint = "write cast(x, \"bigint\")".to_owned();
            return Err(self.unexpected_or(&["\",\"", "\")\""], &[], Some(hint)));
        }
        self.close(open, &["\",\"", "\")\""])?;
        let filter = match self.filter_clause()? {
            Some((filter, filter_height)) => {
                height = height.max(filter_height);
                Some(filter)
            }
            None => None,
        };
        let over = match self.over_clause()? {
            Some((over, over_height)) => {
                height = height.max(over_height);
                Some(over)
            }
            None => None,
        };
        let start = name.span;
        self.grown(start, height, ExprKind::Call(Box::new(Call { name, args, distinct, filter, over })))
    }

    /// `FILTER (WHERE expr)`, if it is there.
    pub(super) fn filter_clause(&mut self) -> Parsed<Option<Node>> {
        if !(self.at("FILTER") && *self.token_ahead(1) == Token::LParen) {
            return Ok(None);
        }
        self.advance();
        self.advance();
        let open = self.prev_span();
        self.expect_keyword(&["WHERE"])?;
        let filter = self.node(0)?;
        self.close(open, &["\")\""])?;
        Ok(Some(filter))
    }

    /// `OVER ([PARTITION BY ...] [ORDER BY ...] [WHEN ...])`, if it is there; the parts in any order, at least one.
    pub(super) fn over_clause(&mut self) -> Parsed<Option<(Over, u32)>> {
        const PARTS: [&str; 3] = ["PARTITION", "ORDER", "WHEN"];
        let start = self.span();
        if !self.take("OVER") {
            return Ok(None);
        }
        self.expect_symbol(&Token::LParen, "\"(\"")?;
        let mut over = Over { partition_by: Vec::new(), order_by: Vec::new(), when: None, span: start };
        let mut height = 0;
        if *self.token() == Token::RParen {
            return Err(self.unexpected(&["PARTITION BY", "ORDER BY", "WHEN"]));
        }
        while *self.token() != Token::RParen {
            let seen = match self.at_any(&PARTS) {
                Some("PARTITION") => !over.partition_by.is_empty(),
                Some("ORDER") => !over.order_by.is_empty(),
                Some(_) => over.when.is_some(),
                None => false,
            };
            if seen {
                let message = format!("{} stands here a second time", describe(self.token()));
                return Err(self.fail(self.span(), message));
            }
            let Some(part) = self.take_keyword(&PARTS) else {
                return Err(self.unexpected_operator(&["PARTITION BY", "ORDER BY", "WHEN", "\")\""]));
            };
            match part {
                "PARTITION" => {
                    self.expect_keyword(&["BY"])?;
                    let (keys, keys_height) = self.expr_list()?;
                    over.partition_by = keys;
                    height = height.max(keys_height);
                }
                "ORDER" => over.order_by = self.order_by()?,
                _ => {
                    let (when, when_height) = self.node(0)?;
                    over.when = Some(Box::new(when));
                    height = height.max(when_height);
                }
            }
        }
        self.advance();
        over.span = start.to(self.prev_span());
        Ok(Some((over, height)))
    }

    /// As [`Parser::unexpected`], behind a complete operand, where an operator may have been meant.
    pub(super) fn unexpected_operator(&mut self, expected: &[&'static str]) -> Failed {
        let hint = match self.token() {
            Token::DoubleEq => Some("equality is written with one \"=\""),
            Token::Overlap => Some("write AND"),
            Token::DoubleColon => Some("write cast(x, \"bigint\")"),
            Token::ShiftLeft | Token::ShiftRight => {
                Some("shifts are not supported; multiply or divide by a power of two")
            }
            Token::LongArrow => Some("members are reached with \"->\""),
            _ => None,
        };
        self.unexpected_or(expected, &["AND", "OR", "NOT", "LIKE", "BETWEEN"], hint.map(str::to_owned))
    }
}
