//! The syntax tree as text again.
//!
//! What is printed parses to the same tree, spans apart. Brackets stand only where the tree has [`ExprKind::Nested`]: a tree
//! that was put together by hand must hold them where precedence needs them.

use std::fmt::{self, Display, Formatter, Write};

use super::ast::{
    Arg, BinaryOp, Call, Create, CreateOption, Expr, ExprKind, Field, FieldType, Ident, Join, JoinKind, Literal,
    OrderKey, Over, Select, SelectItem, SelectKind, SourceKeyword, SourceRef, Statement, TimeUnit, UnaryOp, Window,
    WindowKind,
};
use super::parser::is_plain_name;

/// Items with a separator between them.
struct List<'a, T>(&'a [T], &'static str);

impl<T: Display> Display for List<'_, T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (idx, item) in self.0.iter().enumerate() {
            if idx > 0 {
                f.write_str(self.1)?;
            }
            item.fmt(f)?;
        }
        Ok(())
    }
}

fn not(negated: bool) -> &'static str {
    if negated { "NOT " } else { "" }
}

/// A text with its quotes and escapes.
fn write_text(f: &mut Formatter<'_>, text: &str) -> fmt::Result {
    f.write_char('"')?;
    for ch in text.chars() {
        match ch {
            '"' => f.write_str("\\\"")?,
            '\\' => f.write_str("\\\\")?,
            '\n' => f.write_str("\\n")?,
            '\r' => f.write_str("\\r")?,
            '\t' => f.write_str("\\t")?,
            ch if ch.is_control() => write!(f, "\\u{:04x}", u32::from(ch))?,
            ch => f.write_char(ch)?,
        }
    }
    f.write_char('"')
}

/// The name, between back-quotes if it needs them.
impl Display for Ident {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if is_plain_name(&self.name) {
            f.write_str(&self.name)
        } else {
            write!(f, "`{}`", self.name.replace('`', "``"))
        }
    }
}

impl Display for Statement {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Statement::Create(create) => create.fmt(f),
            Statement::Select(select) => select.fmt(f),
            Statement::Show(keyword) => write!(f, "SHOW {keyword}S"),
            Statement::Describe(keyword, name) => write!(f, "DESCRIBE {keyword} {name}"),
            Statement::Explain(keyword, name) => write!(f, "EXPLAIN {keyword} {name}"),
            Statement::Drop(keyword, name) => write!(f, "DROP {keyword} {name}"),
        }
    }
}

impl Display for SourceKeyword {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SourceKeyword::Stream => "STREAM",
            SourceKeyword::Table => "TABLE",
        })
    }
}

impl Display for Create {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Create { keyword, name, fields, options } = self;
        write!(f, "CREATE {keyword} {name} ({}) WITH ({})", List(fields, ", "), List(options, ", "))
    }
}

impl Display for Field {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.ty)?;
        match &self.default {
            Some(default) => write!(f, " DEFAULT {default}"),
            None => Ok(()),
        }
    }
}

impl Display for FieldType {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            FieldType::Bigint => f.write_str("BIGINT"),
            FieldType::Float => f.write_str("FLOAT"),
            FieldType::String => f.write_str("STRING"),
            FieldType::Bytea => f.write_str("BYTEA"),
            FieldType::Datetime => f.write_str("DATETIME"),
            FieldType::Boolean => f.write_str("BOOLEAN"),
            FieldType::Array(element) => write!(f, "ARRAY({element})"),
            FieldType::Struct(members) => write!(f, "STRUCT({})", List(members, ", ")),
        }
    }
}

impl Display for CreateOption {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}=", self.name)?;
        write_text(f, &self.value)
    }
}

impl Display for Select {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let distinct = if self.distinct { "DISTINCT " } else { "" };
        write!(f, "SELECT {distinct}{} FROM {}", List(&self.items, ", "), self.from)?;
        for join in &self.joins {
            write!(f, " {join}")?;
        }
        if let Some(filter) = &self.filter {
            write!(f, " WHERE {filter}")?;
        }
        if !self.group_by.is_empty() || self.window.is_some() {
            write!(f, " GROUP BY {}", List(&self.group_by, ", "))?;
            if let Some(window) = &self.window {
                write!(f, "{}{window}", if self.group_by.is_empty() { "" } else { ", " })?;
            }
        }
        if let Some(having) = &self.having {
            write!(f, " HAVING {having}")?;
        }
        if !self.order_by.is_empty() {
            write!(f, " ORDER BY {}", List(&self.order_by, ", "))?;
        }
        match self.limit {
            Some(limit) => write!(f, " LIMIT {limit}"),
            None => Ok(()),
        }
    }
}

impl Display for SelectItem {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.kind {
            SelectKind::Expr(expr) => expr.fmt(f)?,
            SelectKind::Star { source, except, replace } => {
                match source {
                    Some(source) => write!(f, "{source}.*")?,
                    None => f.write_char('*')?,
                }
                if !except.is_empty() {
                    write!(f, " EXCEPT ({})", List(except, ", "))?;
                }
                for (idx, (expr, name)) in replace.iter().enumerate() {
                    write!(f, "{}{expr} AS {name}", if idx == 0 { " REPLACE (" } else { ", " })?;
                }
                if !replace.is_empty() {
                    f.write_char(')')?;
                }
            }
        }
        if let Some(alias) = &self.alias {
            write!(f, " AS {alias}")?;
        }
        if self.invisible { f.write_str(" INVISIBLE") } else { Ok(()) }
    }
}

impl Display for SourceRef {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.alias {
            Some(alias) => write!(f, "{} AS {alias}", self.name),
            None => self.name.fmt(f),
        }
    }
}

impl Display for Join {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} JOIN {}", self.kind, self.source)?;
        match &self.on {
            Some(on) => write!(f, " ON {on}"),
            None => Ok(()),
        }
    }
}

impl Display for JoinKind {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            JoinKind::Inner => "INNER",
            JoinKind::Left => "LEFT",
            JoinKind::Right => "RIGHT",
            JoinKind::Full => "FULL",
            JoinKind::Cross => "CROSS",
        })
    }
}

impl Display for Window {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.kind.fmt(f)?;
        if let Some(filter) = &self.filter {
            write!(f, " FILTER (WHERE {filter})")?;
        }
        if let Some(when) = &self.when {
            write!(f, " OVER (WHEN {when}")?;
        }
        if !self.partition_by.is_empty() {
            let begin = if self.when.is_some() { "" } else { " OVER (" };
            let space = if self.when.is_some() { " " } else { "" };
            write!(f, "{begin}{space}PARTITION BY {}", List(&self.partition_by, ", "))?;
        }
        if self.when.is_some() || !self.partition_by.is_empty() { f.write_char(')') } else { Ok(()) }
    }
}

impl Display for WindowKind {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            WindowKind::Tumbling { unit, length } => write!(f, "TUMBLINGWINDOW({unit}, {length})"),
            WindowKind::Hopping { unit, length, hop } => write!(f, "HOPPINGWINDOW({unit}, {length}, {hop})"),
            WindowKind::Sliding { unit, length, delay: 0 } => write!(f, "SLIDINGWINDOW({unit}, {length})"),
            WindowKind::Sliding { unit, length, delay } => write!(f, "SLIDINGWINDOW({unit}, {length}, {delay})"),
            WindowKind::Session { unit, max_length, timeout } => {
                write!(f, "SESSIONWINDOW({unit}, {max_length}, {timeout})")
            }
            WindowKind::Count { length, interval: Some(interval) } => write!(f, "COUNTWINDOW({length}, {interval})"),
            WindowKind::Count { length, interval: None } => write!(f, "COUNTWINDOW({length})"),
            WindowKind::State { begin, emit: Some(emit) } => write!(f, "STATEWINDOW({begin}, {emit})"),
            WindowKind::State { begin, emit: None } => write!(f, "STATEWINDOW({begin})"),
        }
    }
}

impl Display for TimeUnit {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TimeUnit::Day => "DD",
            TimeUnit::Hour => "HH",
            TimeUnit::Minute => "MI",
            TimeUnit::Second => "SS",
            TimeUnit::Millisecond => "MS",
        })
    }
}

impl Display for OrderKey {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.expr, if self.descending { " DESC" } else { "" })
    }
}

impl Display for Expr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.kind {
            ExprKind::Literal(literal) => literal.fmt(f),
            ExprKind::Name(parts) => List(parts, ".").fmt(f),
            ExprKind::Member(object, member) => write!(f, "{object}->{member}"),
            ExprKind::Index(array, index) => write!(f, "{array}[{index}]"),
            ExprKind::Slice(array, from, to) => {
                write!(f, "{array}[")?;
                if let Some(from) = from {
                    from.fmt(f)?;
                }
                f.write_char(':')?;
                if let Some(to) = to {
                    to.fmt(f)?;
                }
                f.write_char(']')
            }
            // Never `--`, which begins a comment, and never `-1`, which is a literal.
            ExprKind::Unary(UnaryOp::Minus, operand) => match &operand.kind {
                ExprKind::Name(_) | ExprKind::Call(_) | ExprKind::Nested(_) => write!(f, "-{operand}"),
                // Zero has no sign to show that the literal has taken one.
                ExprKind::Literal(Literal::Int(0)) => f.write_str("- -0"),
                _ => write!(f, "- {operand}"),
            },
            ExprKind::Unary(UnaryOp::Not, operand) => write!(f, "NOT {operand}"),
            ExprKind::Binary(op, left, right) => write!(f, "{left} {op} {right}"),
            ExprKind::InList { operand, list, negated } => {
                write!(f, "{operand} {}IN ({})", not(*negated), List(list, ", "))
            }
            ExprKind::InArray { operand, array, negated } => write!(f, "{operand} {}IN {array}", not(*negated)),
            ExprKind::Between { operand, low, high, negated } => {
                write!(f, "{operand} {}BETWEEN {low} AND {high}", not(*negated))
            }
            ExprKind::Like { operand, pattern, negated } => write!(f, "{operand} {}LIKE {pattern}", not(*negated)),
            ExprKind::IsNull { operand, negated } => write!(f, "{operand} IS {}NULL", not(*negated)),
            ExprKind::Case { operand, branches, otherwise } => {
                f.write_str("CASE")?;
                if let Some(operand) = operand {
                    write!(f, " {operand}")?;
                }
                for (condition, result) in branches {
                    write!(f, " WHEN {condition} THEN {result}")?;
                }
                if let Some(otherwise) = otherwise {
                    write!(f, " ELSE {otherwise}")?;
                }
                f.write_str(" END")
            }
            ExprKind::Call(call) => call.fmt(f),
            ExprKind::Nested(inner) => write!(f, "({inner})"),
        }
    }
}

impl Display for Call {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        // Before a bracket these need no back-quotes.
        match ["LEFT", "RIGHT", "REPLACE"].iter().any(|word| self.name.name.eq_ignore_ascii_case(word)) {
            true => f.write_str(&self.name.name)?,
            false => self.name.fmt(f)?,
        }
        write!(f, "({}{})", if self.distinct { "DISTINCT " } else { "" }, List(&self.args, ", "))?;
        if let Some(filter) = &self.filter {
            write!(f, " FILTER (WHERE {filter})")?;
        }
        match &self.over {
            Some(over) => write!(f, " {over}"),
            None => Ok(()),
        }
    }
}

impl Display for Arg {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Arg::Star(_) => f.write_char('*'),
            Arg::Expr(expr) => expr.fmt(f),
        }
    }
}

impl Display for Over {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        if !self.partition_by.is_empty() {
            parts.push(format!("PARTITION BY {}", List(&self.partition_by, ", ")));
        }
        if !self.order_by.is_empty() {
            parts.push(format!("ORDER BY {}", List(&self.order_by, ", ")));
        }
        if let Some(when) = &self.when {
            parts.push(format!("WHEN {when}"));
        }
        write!(f, "OVER ({})", parts.join(" "))
    }
}

impl Display for Literal {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Literal::Null => f.write_str("NULL"),
            Literal::Bool(true) => f.write_str("TRUE"),
            Literal::Bool(false) => f.write_str("FALSE"),
            Literal::Int(value) => value.fmt(f),
            // Debug keeps the point or exponent that makes it a float.
            Literal::Float(value) => write!(f, "{value:?}"),
            Literal::String(text) => write_text(f, text),
        }
    }
}

impl Display for UnaryOp {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            UnaryOp::Minus => "-",
            UnaryOp::Not => "NOT",
        })
    }
}

impl Display for BinaryOp {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            BinaryOp::Add => "+",
            BinaryOp::Sub => "-",
            BinaryOp::Mul => "*",
            BinaryOp::Div => "/",
            BinaryOp::Mod => "%",
            BinaryOp::BitAnd => "&",
            BinaryOp::BitOr => "|",
            BinaryOp::BitXor => "^",
            BinaryOp::Concat => "||",
            BinaryOp::Eq => "=",
            BinaryOp::NotEq => "!=",
            BinaryOp::Lt => "<",
            BinaryOp::LtEq => "<=",
            BinaryOp::Gt => ">",
            BinaryOp::GtEq => ">=",
            BinaryOp::And => "AND",
            BinaryOp::Or => "OR",
        })
    }
}
