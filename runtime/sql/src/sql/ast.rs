//! The syntax tree: what the text says, before any name is looked up.
//!
//! Ours and not sqlparser's, because streaming SQL has statements and clauses that its tree has no place for, and because
//! every node here carries a span.

use smol_str::SmolStr;

use super::Span;

/// A name with its place. Names are case-sensitive.
#[derive(Clone, Debug, PartialEq)]
pub struct Ident {
    /// The name, without back-quotes.
    pub name: SmolStr,
    /// Where it stands.
    pub span: Span,
}

/// One statement.
#[derive(Clone, Debug, PartialEq)]
pub enum Statement {
    /// `CREATE STREAM` or `CREATE TABLE`
    Create(Create),
    /// `SELECT`
    Select(Box<Select>),
    /// `SHOW STREAMS`, `SHOW TABLES`
    Show(SourceKeyword),
    /// `DESCRIBE STREAM name`, `DESCRIBE TABLE name`
    Describe(SourceKeyword, Ident),
    /// `EXPLAIN STREAM name`, `EXPLAIN TABLE name`
    Explain(SourceKeyword, Ident),
    /// `DROP STREAM name`, `DROP TABLE name`
    Drop(SourceKeyword, Ident),
}

/// `STREAM` or `TABLE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceKeyword {
    /// `STREAM`
    Stream,
    /// `TABLE`
    Table,
}

/// `CREATE STREAM name (fields) WITH (options)`
#[derive(Clone, Debug, PartialEq)]
pub struct Create {
    /// Stream or table.
    pub keyword: SourceKeyword,
    /// Its name.
    pub name: Ident,
    /// Declared columns; none = schemaless.
    pub fields: Vec<Field>,
    /// `KEY="value"` pairs in order; names as written.
    pub options: Vec<CreateOption>,
}

/// One declared column.
#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    /// Column or member name.
    pub name: Ident,
    /// Declared type.
    pub ty: FieldType,
    /// `DEFAULT literal`, already converted to the column's type.
    pub default: Option<Literal>,
}

/// A declared type.
#[derive(Clone, Debug, PartialEq)]
pub enum FieldType {
    /// `BIGINT`
    Bigint,
    /// `FLOAT`
    Float,
    /// `STRING`
    String,
    /// `BYTEA`
    Bytea,
    /// `DATETIME`
    Datetime,
    /// `BOOLEAN`
    Boolean,
    /// `ARRAY(type)`
    Array(Box<FieldType>),
    /// `STRUCT(fields)`
    Struct(Vec<Field>),
}

/// One option of a `WITH` list.
#[derive(Clone, Debug, PartialEq)]
pub struct CreateOption {
    /// As written; matched without case.
    pub name: Ident,
    /// The text between the quotes, or `true` / `false`.
    pub value: SmolStr,
    /// Where the value stands.
    pub value_span: Span,
}

/// A query.
#[derive(Clone, Debug, PartialEq)]
pub struct Select {
    /// `SELECT DISTINCT`
    pub distinct: bool,
    /// The select list.
    pub items: Vec<SelectItem>,
    /// The first source.
    pub from: SourceRef,
    /// Joined sources in order.
    pub joins: Vec<Join>,
    /// `WHERE`
    pub filter: Option<Expr>,
    /// `GROUP BY` without the window.
    pub group_by: Vec<Expr>,
    /// The first window of `GROUP BY`.
    pub window: Option<Window>,
    /// `HAVING`
    pub having: Option<Expr>,
    /// `ORDER BY`
    pub order_by: Vec<OrderKey>,
    /// `LIMIT`
    pub limit: Option<u64>,
    /// The whole statement.
    pub span: Span,
}

/// One entry of the select list.
#[derive(Clone, Debug, PartialEq)]
pub struct SelectItem {
    /// What is selected.
    pub kind: SelectKind,
    /// `AS name`
    pub alias: Option<Ident>,
    /// `INVISIBLE`: usable by name, not written.
    pub invisible: bool,
    /// The whole entry.
    pub span: Span,
}

/// What a select item is.
#[derive(Clone, Debug, PartialEq)]
pub enum SelectKind {
    /// An expression.
    Expr(Expr),
    /// `*` or `source.*`, with `EXCEPT (...)` and `REPLACE (expr AS name, ...)`.
    Star {
        /// `source` of `source.*`
        source: Option<Ident>,
        /// `EXCEPT` names
        except: Vec<Ident>,
        /// `REPLACE` pairs
        replace: Vec<(Expr, Ident)>,
    },
}

/// A source in `FROM` or `JOIN`.
#[derive(Clone, Debug, PartialEq)]
pub struct SourceRef {
    /// Stream or table.
    pub name: Ident,
    /// `AS name`: a full synonym.
    pub alias: Option<Ident>,
}

/// `kind JOIN source ON condition`
#[derive(Clone, Debug, PartialEq)]
pub struct Join {
    /// Which rows survive.
    pub kind: JoinKind,
    /// The right side.
    pub source: SourceRef,
    /// `ON`
    pub on: Option<Expr>,
    /// From the kind word to the end of the condition.
    pub span: Span,
}

/// Kinds of join.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum JoinKind {
    /// `INNER`
    Inner,
    /// `LEFT`
    Left,
    /// `RIGHT`
    Right,
    /// `FULL`
    Full,
    /// `CROSS`
    Cross,
}

/// `name(args) FILTER (WHERE ...) OVER (WHEN ... PARTITION BY ...)` in `GROUP BY`.
#[derive(Clone, Debug, PartialEq)]
pub struct Window {
    /// Which window.
    pub kind: WindowKind,
    /// `FILTER (WHERE expr)`
    pub filter: Option<Expr>,
    /// `OVER (WHEN expr)`
    pub when: Option<Expr>,
    /// `OVER (PARTITION BY exprs)`
    pub partition_by: Vec<Expr>,
    /// The whole clause.
    pub span: Span,
}

/// The windows and their arguments. Lengths are in `unit`.
#[derive(Clone, Debug, PartialEq)]
pub enum WindowKind {
    /// `TUMBLINGWINDOW(unit, length)`
    Tumbling {
        /** unit */
        unit: TimeUnit,
        /** length */
        length: i64,
    },
    /// `HOPPINGWINDOW(unit, length, hop)`
    Hopping {
        /** unit */
        unit: TimeUnit,
        /** length */
        length: i64,
        /** distance of two starts */
        hop: i64,
    },
    /// `SLIDINGWINDOW(unit, length [, delay])`
    Sliding {
        /** unit */
        unit: TimeUnit,
        /** length */
        length: i64,
        /** wait after the trigger */
        delay: i64,
    },
    /// `SESSIONWINDOW(unit, maxlen, timeout)`
    Session {
        /** unit */
        unit: TimeUnit,
        /** greatest length */
        max_length: i64,
        /** gap that ends it */
        timeout: i64,
    },
    /// `COUNTWINDOW(n [, interval])`
    Count {
        /** rows in a window */
        length: i64,
        /** rows between two windows */
        interval: Option<i64>,
    },
    /// `STATEWINDOW(begin, emit)` or `STATEWINDOW(cond)`
    State {
        /** opens */
        begin: Box<Expr>,
        /** closes; absent in the one-condition form */
        emit: Option<Box<Expr>>,
    },
}

/// Time units of windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TimeUnit {
    /// `DD`
    Day,
    /// `HH`
    Hour,
    /// `MI`
    Minute,
    /// `SS`
    Second,
    /// `MS`
    Millisecond,
}

/// One sort key.
#[derive(Clone, Debug, PartialEq)]
pub struct OrderKey {
    /// What to sort by.
    pub expr: Expr,
    /// `DESC`
    pub descending: bool,
}

/// An expression with its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Expr {
    /// What it is.
    pub kind: ExprKind,
    /// Where it stands.
    pub span: Span,
}

/// Kinds of expression.
#[derive(Clone, Debug, PartialEq)]
pub enum ExprKind {
    /// A constant.
    Literal(Literal),
    /// `a`, or the dotted form `a.b.c` with its parts; which of them is a source, a column or a member is for the planner.
    Name(Vec<Ident>),
    /// `operand -> member`
    Member(Box<Expr>, Ident),
    /// `operand[index]`
    Index(Box<Expr>, Box<Expr>),
    /// `operand[from:to]`, each end optional
    Slice(Box<Expr>, Option<Box<Expr>>, Option<Box<Expr>>),
    /// `- x`, `NOT x`
    Unary(UnaryOp, Box<Expr>),
    /// `left op right`
    Binary(BinaryOp, Box<Expr>, Box<Expr>),
    /// `x [NOT] IN (list)`
    InList {
        /** operand */
        operand: Box<Expr>,
        /** elements */
        list: Vec<Expr>,
        /** NOT */
        negated: bool,
    },
    /// `x [NOT] IN array`
    InArray {
        /** operand */
        operand: Box<Expr>,
        /** array */
        array: Box<Expr>,
        /** NOT */
        negated: bool,
    },
    /// `x [NOT] BETWEEN low AND high`
    Between {
        /** operand */
        operand: Box<Expr>,
        /** low */
        low: Box<Expr>,
        /** high */
        high: Box<Expr>,
        /** NOT */
        negated: bool,
    },
    /// `x [NOT] LIKE pattern`
    Like {
        /** operand */
        operand: Box<Expr>,
        /** pattern */
        pattern: Box<Expr>,
        /** NOT */
        negated: bool,
    },
    /// `x IS [NOT] NULL`
    IsNull {
        /** operand */
        operand: Box<Expr>,
        /** NOT */
        negated: bool,
    },
    /// `CASE [operand] WHEN c THEN r ... [ELSE d] END`
    Case {
        /** operand */
        operand: Option<Box<Expr>>,
        /** branches */
        branches: Vec<(Expr, Expr)>,
        /** ELSE */
        otherwise: Option<Box<Expr>>,
    },
    /// `name(args) FILTER (WHERE ...) OVER (...)`
    Call(Box<Call>),
    /// `( x )`; kept, because some rules look at the brackets
    Nested(Box<Expr>),
}

/// A function call.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// As written; built-in names are matched without case.
    pub name: Ident,
    /// Arguments; `*` is [`Arg::Star`].
    pub args: Vec<Arg>,
    /// `DISTINCT` before the first argument
    pub distinct: bool,
    /// `FILTER (WHERE expr)`
    pub filter: Option<Expr>,
    /// `OVER (...)`
    pub over: Option<Over>,
}

/// One argument of a call.
#[derive(Clone, Debug, PartialEq)]
pub enum Arg {
    /// `*`
    Star(Span),
    /// An expression.
    Expr(Expr),
}

/// `OVER ([PARTITION BY ...] [ORDER BY ...] [WHEN ...])`
#[derive(Clone, Debug, PartialEq)]
pub struct Over {
    /// `PARTITION BY`
    pub partition_by: Vec<Expr>,
    /// `ORDER BY`, for `row_number`
    pub order_by: Vec<OrderKey>,
    /// `WHEN`
    pub when: Option<Box<Expr>>,
    /// The whole clause.
    pub span: Span,
}

/// A constant.
#[derive(Clone, Debug, PartialEq)]
pub enum Literal {
    /// `NULL`
    Null,
    /// `TRUE`, `FALSE`
    Bool(bool),
    /// `12`
    Int(i64),
    /// `1.5`, `1e3`
    Float(f64),
    /// `"text"`, `'text'`
    String(SmolStr),
}

/// Operators with one operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UnaryOp {
    /// `-`
    Minus,
    /// `NOT`
    Not,
}

/// Operators with two operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BinaryOp {
    /// `+`
    Add,
    /// `-`
    Sub,
    /// `*`
    Mul,
    /// `/`
    Div,
    /// `%`
    Mod,
    /// `&`
    BitAnd,
    /// `|`
    BitOr,
    /// `^`
    BitXor,
    /// `||`
    Concat,
    /// `=`
    Eq,
    /// `!=`, `<>`
    NotEq,
    /// `<`
    Lt,
    /// `<=`
    LtEq,
    /// `>`
    Gt,
    /// `>=`
    GtEq,
    /// `AND`
    And,
    /// `OR`
    Or,
}
