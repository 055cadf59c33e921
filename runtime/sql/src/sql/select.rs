//! `SELECT` and its clauses.

use sqlparser::tokenizer::Token;

use super::Span;
use super::ast::{
    Expr, ExprKind, Ident, Join, JoinKind, Literal, OrderKey, Select, SelectItem, SelectKind, SourceRef, Window,
};
use super::parser::{Failed, Parsed, Parser, bare_word, is_reserved};
use super::window::is_window;

/// The clauses behind the sources, in the order in which they must stand.
const CLAUSES: [&str; 5] = ["WHERE", "GROUP", "HAVING", "ORDER", "LIMIT"];

/// The words that begin a join.
const JOINS: [&str; 6] = ["INNER", "LEFT", "RIGHT", "FULL", "CROSS", "JOIN"];

impl Parser<'_> {
    /// The query, from behind the word `SELECT`, which stands at `start`.
    pub(super) fn select_behind(&mut self, start: Span) -> Parsed<Select> {
        let distinct = self.take_distinct();
        let items = self.items();
        // From here on each part is read even when one before it failed, so that all errors are found.
        let from = match self.expect_keyword(&["FROM"]) {
            Ok(_) => self.or_skip(|parser| parser.source()),
            Err(Failed) => {
                self.skip_to(0, |parser| parser.at("FROM") || parser.at_any(&CLAUSES).is_some());
                if self.take("FROM") { self.or_skip(|parser| parser.source()) } else { None }
            }
        };
        let mut joins = Vec::new();
        while self.at_any(&JOINS).is_some() {
            joins.extend(self.or_skip(|parser| parser.join()));
        }
        if *self.token() == Token::Comma {
            let error = "sources are joined with JOIN ... ON ...; a list of them is not supported";
            self.fail(self.span(), error);
            self.skip_to(0, |parser| parser.at_any(&CLAUSES).is_some());
        }
        let complete = from.is_some();
        let mut query = Select {
            distinct,
            items,
            from: from.unwrap_or_else(|| SourceRef { name: Ident { name: "".into(), span: start }, alias: None }),
            joins,
            filter: None,
            group_by: Vec::new(),
            window: None,
            having: None,
            order_by: Vec::new(),
            limit: None,
            span: start,
        };
        self.clauses(&mut query);
        query.span = start.to(self.prev_span());
        if complete && self.errors.is_empty() { Ok(query) } else { Err(Failed) }
    }

    /// Runs a rule; after a failure goes on at the next clause or join.
    fn or_skip<T>(&mut self, rule: impl FnOnce(&mut Self) -> Parsed<T>) -> Option<T> {
        let parsed = rule(self).ok();
        if parsed.is_none() {
            self.skip_to(0, |parser| parser.at_any(&CLAUSES).is_some() || parser.at_any(&JOINS).is_some());
        }
        parsed
    }

    /// Takes `DISTINCT`, unless it is a column of this name.
    fn take_distinct(&mut self) -> bool {
        let behind = match self.token_ahead(1) {
            Token::Word(word) => {
                word.quote_style.is_some()
                    || !is_reserved(&word.value)
                    || ["CASE", "NOT", "TRUE", "FALSE", "NULL"].iter().any(|begin| self.ahead(1, begin))
                    || ((self.ahead(1, "LEFT") || self.ahead(1, "RIGHT")) && *self.token_ahead(2) == Token::LParen)
            }
            Token::Number(..) | Token::SingleQuotedString(_) | Token::DoubleQuotedString(_) => true,
            Token::Mul | Token::Minus | Token::LParen => true,
            _ => false,
        };
        behind && self.take("DISTINCT")
    }

    fn items(&mut self) -> Vec<SelectItem> {
        let mut items = Vec::new();
        loop {
            match self.item() {
                Ok(item) => items.push(item),
                Err(Failed) => self.skip_to(0, |parser| *parser.token() == Token::Comma || parser.at("FROM")),
            }
            if !self.take_symbol(&Token::Comma) {
                return items;
            }
        }
    }

    fn item(&mut self) -> Parsed<SelectItem> {
        let start = self.span();
        let kind = match self.star_source() {
            Some(source) => self.star_changes(source)?,
            None => SelectKind::Expr(self.expr()?),
        };
        let alias = match &kind {
            SelectKind::Expr(_) => self.alias()?,
            SelectKind::Star { .. } if self.at("AS") => {
                return Err(self.fail(self.span(), "* stands for many columns, it cannot have an alias"));
            }
            SelectKind::Star { .. } => None,
        };
        let invisible = self.take("INVISIBLE");
        if !(matches!(self.token(), Token::Comma) || self.at("FROM")) && self.misspelt(&["FROM"]).is_none() {
            return Err(match alias {
                None if !invisible => self.unexpected_operator(&["\",\"", "AS", "FROM"]),
                _ => self.unexpected(&["\",\"", "FROM"]),
            });
        }
        Ok(SelectItem { kind, alias, invisible, span: start.to(self.prev_span()) })
    }

    /// Takes `*` or `source.*`; the inner option is the source.
    fn star_source(&mut self) -> Option<Option<Ident>> {
        if self.take_symbol(&Token::Mul) {
            return Some(None);
        }
        if matches!(self.token(), Token::Word(_))
            && *self.token_ahead(1) == Token::Period
            && *self.token_ahead(2) == Token::Mul
        {
            let source = self.ident().ok()?;
            self.advance();
            self.advance();
            return Some(Some(source));
        }
        None
    }

    /// `EXCEPT (...)` and `REPLACE (...)`, in either order.
    fn star_changes(&mut self, source: Option<Ident>) -> Parsed<SelectKind> {
        let (mut except, mut replace) = (Vec::new(), Vec::new());
        loop {
            if self.take("EXCEPT") {
                self.expect_symbol(&Token::LParen, "\"(\"")?;
                except.push(self.ident()?);
                while self.take_symbol(&Token::Comma) {
                    except.push(self.ident()?);
                }
            } else if self.take("REPLACE") {
                self.expect_symbol(&Token::LParen, "\"(\"")?;
                replace.push(self.replacement()?);
                while self.take_symbol(&Token::Comma) {
                    replace.push(self.replacement()?);
                }
            } else {
                return Ok(SelectKind::Star { source, except, replace });
            }
            if !self.take_symbol(&Token::RParen) {
                return Err(self.unexpected(&["\",\"", "\")\""]));
            }
        }
    }

    fn replacement(&mut self) -> Parsed<(Expr, Ident)> {
        let expr = self.expr()?;
        self.expect_keyword(&["AS"])?;
        Ok((expr, self.ident()?))
    }

    fn source(&mut self) -> Parsed<SourceRef> {
        if *self.token() == Token::LParen || self.at("SELECT") {
            return Err(
                self.fail(self.span(), "a sub-query cannot be a source; expected the name of a stream or table")
            );
        }
        let name = self.source_ident()?;
        let alias = self.alias()?;
        Ok(SourceRef { name, alias })
    }

    /// The name of a stream or table: a name, or one put together of names, `/`, `.`, `#` and `+` without white space.
    pub(super) fn source_ident(&mut self) -> Parsed<Ident> {
        let is_joint = |token: &Token| {
            matches!(token, Token::Div | Token::Sharp | Token::Plus | Token::Period | Token::Number(..) | Token::Minus)
        };
        let (mut text, mut span) = match self.token() {
            Token::Div | Token::Sharp | Token::Plus => {
                let span = self.span();
                self.advance();
                (self.prev_text(), span)
            }
            _ => {
                let Ident { name, span } = self.ident()?;
                (name.to_string(), span)
            }
        };
        loop {
            let next = self.lexeme();
            let touches = (next.span.line, next.span.column) == (span.end_line, span.end_column);
            if !touches || !(is_joint(&next.token) || matches!(next.token, Token::Word(_))) {
                break;
            }
            if next.token == Token::Minus {
                let hint = format!("write a name with \"-\" between back-quotes: `{text}-...`");
                return Err(self.unexpected_or(&["\"/\"", "\".\"", "white space"], &[], Some(hint)));
            }
            let next_span = next.span;
            self.advance();
            text.push_str(&self.prev_text());
            span = span.to(next_span);
        }
        Ok(Ident { name: text.into(), span })
    }

    fn join(&mut self) -> Parsed<Join> {
        let start = self.span();
        let word = self.expect_keyword(&JOINS)?;
        let kind = match word {
            "LEFT" => JoinKind::Left,
            "RIGHT" => JoinKind::Right,
            "FULL" => JoinKind::Full,
            "CROSS" => JoinKind::Cross,
            _ => JoinKind::Inner,
        };
        if matches!(kind, JoinKind::Left | JoinKind::Right | JoinKind::Full) {
            self.take("OUTER");
        }
        if word != "JOIN" {
            self.expect_keyword(&["JOIN"])?;
        }
        let source = self.source()?;
        if self.at("USING") {
            let hint = "write ON a.x = b.x";
            return Err(self.unexpected_or(&["ON"], &[], Some(hint.to_owned())));
        }
        let on = if self.take("ON") { Some(self.expr()?) } else { None };
        Ok(Join { kind, source, on, span: start.to(self.prev_span()) })
    }

    fn clauses(&mut self, query: &mut Select) {
        let mut last = 0;
        while !self.at_end() {
            let start = self.span();
            let Some(clause) = self.take_clause() else { continue };
            let place = 1 + CLAUSES.iter().position(|known| *known == clause).unwrap_or(0);
            let shown = |clause| {
                if clause == "GROUP" || clause == "ORDER" { format!("{clause} BY") } else { String::from(clause) }
            };
            if place == last {
                self.fail(start, format!("{} stands here a second time", shown(clause)));
            } else if place < last {
                let before = CLAUSES.get(last - 1).copied().unwrap_or_default();
                self.fail(start, format!("{} must stand before {}", shown(clause), shown(before)));
            }
            last = last.max(place);
            let parsed = match clause {
                "WHERE" => self.expr().map(|filter| query.filter = Some(filter)),
                "GROUP" => self.group_by(query),
                "HAVING" => self.expr().map(|having| query.having = Some(having)),
                "ORDER" => self.order_by().map(|keys| query.order_by = keys),
                _ => self.limit().map(|limit| query.limit = Some(limit)),
            };
            if parsed.is_err() {
                self.skip_to(0, |parser| parser.at_any(&CLAUSES).is_some());
            }
        }
    }

    /// The next clause's word; if something else stands here, notes the error and skips to a clause.
    fn take_clause(&mut self) -> Option<&'static str> {
        if let Some(clause) = self.at_any(&CLAUSES) {
            self.advance();
            return Some(clause);
        }
        if let Some((clause, behind)) = self.misspelt(&CLAUSES)
            && self.misspelt(&["AND", "OR"]).is_none()
        {
            self.unexpected(&CLAUSES);
            self.go_behind(behind);
            return Some(clause);
        }
        let unsupported = ["UNION", "INTERSECT", "EXCEPT", "OFFSET", "WINDOW", "FETCH"];
        if let Some(word) = self.at_any(&unsupported) {
            self.fail(self.span(), format!("{word} is not supported"));
        } else if let Some(join) = self.at_any(&JOINS) {
            self.fail(self.span(), format!("{join} must stand before the clauses, right behind the sources"));
        } else {
            self.unexpected_operator(&[
                "a clause (WHERE, GROUP BY, HAVING, ORDER BY, LIMIT)",
                "the end of the statement",
            ]);
        }
        self.advance();
        self.skip_to(0, |parser| parser.at_any(&CLAUSES).is_some());
        None
    }

    fn group_by(&mut self, query: &mut Select) -> Parsed<()> {
        self.expect_keyword(&["BY"])?;
        let mut failed = false;
        loop {
            let start = self.span();
            let windowed = bare_word(self.token()).is_some_and(is_window) && *self.token_ahead(1) == Token::LParen;
            let parsed = if windowed {
                self.window().map(|window| self.keep_window(query, window, start))
            } else {
                self.expr().map(|dimension| query.group_by.push(dimension))
            };
            if parsed.is_err() {
                failed = true;
                self.skip_to(0, |parser| *parser.token() == Token::Comma || parser.at_any(&CLAUSES).is_some());
            }
            if !self.take_symbol(&Token::Comma) {
                return if failed { Err(Failed) } else { Ok(()) };
            }
        }
    }

    /// A second window would have to be ignored, as elsewhere; here it is refused, because nobody can mean it.
    fn keep_window(&mut self, query: &mut Select, window: Window, start: Span) {
        if query.window.is_some() {
            self.fail(start.to(self.prev_span()), "a statement has one window, this is a second one");
        }
        query.window.get_or_insert(window);
    }

    /// Sort keys, from behind `ORDER`.
    pub(super) fn order_by(&mut self) -> Parsed<Vec<OrderKey>> {
        self.expect_keyword(&["BY"])?;
        let mut keys = Vec::new();
        loop {
            let expr = self.expr()?;
            if let ExprKind::Literal(Literal::Int(_) | Literal::Float(_)) = expr.kind {
                return Err(self.fail(expr.span, "ORDER BY takes columns and expressions, not their positions"));
            }
            let descending = self.take("DESC");
            if !descending {
                self.take("ASC");
            }
            keys.push(OrderKey { expr, descending });
            if self.at("NULLS") {
                return Err(self.fail(self.span(), "NULLS FIRST and NULLS LAST are not supported: nulls sort last"));
            }
            if !descending && self.misspelt(&["DESC", "ASC"]).is_some() {
                return Err(self.unexpected(&["DESC", "ASC", "\",\""]));
            }
            if !self.take_symbol(&Token::Comma) {
                return Ok(keys);
            }
        }
    }

    fn limit(&mut self) -> Parsed<u64> {
        let limit = match self.token() {
            Token::Number(digits, false) => digits.parse().ok(),
            _ => None,
        };
        let Some(limit) = limit else {
            return Err(self.unexpected(&["a whole number of rows"]));
        };
        self.advance();
        Ok(limit)
    }
}
