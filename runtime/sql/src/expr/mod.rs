//! Bound expressions and their evaluation: slots instead of names.
//!
//! `Expr` is a tree that the planner makes once; `Expr::eval` walks it per row and borrows what it can: a column or a
//! constant is never copied. `Expr::test` is the short way for conditions.

mod access;
mod compare;
mod context;
mod eval;
mod like;
mod operator;
mod text;

use std::sync::Arc;

use smol_str::SmolStr;

use crate::function::{ContextFn, EvalError, Function, NullPolicy, ScalarFn};
use crate::sql::Span;
use crate::sql::ast::BinaryOp;
use crate::value::Value;
use crate::value::datetime::{self, Format};

pub(crate) use compare::sort_order;
pub use context::{EvalContext, Props, RejectReason, Rejected, Report, RuleContext};
pub(crate) use eval::{Args, Failure, Fields, Scope, eval_args, null_result, with_args};
pub(crate) use like::LikePattern;

/// A bound expression and its place in the statement.
#[derive(Clone, Debug)]
pub(crate) struct Expr {
    /// What it is.
    pub kind: ExprKind,
    /// Where it stands.
    pub span: Span,
}

/// Kinds of bound expression.
#[derive(Clone, Debug)]
pub(crate) enum ExprKind {
    /// A constant.
    Const(Value),
    /// A slot of the row.
    Slot(usize),
    /// The first that is not missing: an unqualified column of a join.
    FirstOf(Box<[Expr]>),
    /// A value computed earlier in the same select list.
    Item(usize),
    /// `operand -> member`
    Member(Box<Expr>, SmolStr),
    /// `operand[index]`
    Index(Box<Expr>, Box<Expr>),
    /// `operand[from:to]`
    Slice(Box<Expr>, Option<Box<Expr>>, Option<Box<Expr>>),
    /// An object without some of its members: `* EXCEPT (...)`.
    Except(Box<Expr>, Arc<[SmolStr]>),
    /// All columns of the row as one object: `*` as an argument. Names come with their expression; a star has no name.
    Row(Box<[(Option<SmolStr>, Expr)]>),
    /// `NOT x`
    Not(Box<Expr>),
    /// `- x`
    Minus(Box<Expr>),
    /// `+ - * / %`
    Arithmetic(Arithmetic, Box<[Expr; 2]>),
    /// `& | ^`
    Bits(BinaryOp, Box<[Expr; 2]>),
    /// `||`
    Concat(Box<[Expr; 2]>),
    /// `= != < <= > >=`
    Compare(Comparison, Box<[Expr; 2]>),
    /// `a AND b AND ...`
    And(Box<[Expr]>),
    /// `a OR b OR ...`
    Or(Box<[Expr]>),
    /// `x [NOT] IN (list)`
    InList(Box<Expr>, Box<[Expr]>, bool),
    /// `x [NOT] IN array`
    InArray(Box<[Expr; 2]>, bool),
    /// `x [NOT] BETWEEN low AND high`
    Between(Box<[Expr; 3]>, bool),
    /// `x [NOT] LIKE 'pattern'`
    Like(Box<Expr>, LikePattern, bool),
    /// `x [NOT] LIKE pattern`
    LikeDynamic(Box<[Expr; 2]>, bool),
    /// `x IS [NOT] NULL`
    IsNull(Box<Expr>, bool),
    /// `CASE`
    Case(Box<Case>),
    /// A scalar function.
    Call(Box<Call>),
    /// A scalar function with state; the index into the rule's states.
    Stateful(usize, Box<Call>),
    /// A condition that counts its hits: these states move on only when it is true.
    Hits(Box<Expr>, Box<[usize]>),
    /// `window_start()` and its like
    Context(ContextFn),
    /// Whole numbers as floats, everything else as it is.
    AsFloat(Box<Expr>),
}

/// An arithmetic operator. With `float`, whole numbers follow the rules of floats wherever the result would differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Arithmetic {
    /// One of `+ - * / %`.
    pub op: BinaryOp,
    /// Follow the rules of floats.
    pub float: bool,
}

/// A comparison operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Comparison {
    /** `=` */
    Eq,
    /** `!=` */
    NotEq,
    /** `<` */
    Lt,
    /** `<=` */
    LtEq,
    /** `>` */
    Gt,
    /** `>=` */
    GtEq,
}

/// `CASE [operand] WHEN c THEN r ... [ELSE d] END`
#[derive(Clone, Debug)]
pub(crate) struct Case {
    /// Compared with each `WHEN`; absent in the searched form.
    pub operand: Option<Expr>,
    /// `WHEN`, `THEN`
    pub branches: Vec<(Expr, Expr)>,
    /// `ELSE`
    pub otherwise: Option<Expr>,
}

/// A call of a scalar function.
#[derive(Clone)]
pub(crate) struct Call {
    /// The function, for its name.
    pub function: Arc<Function>,
    /// Its body; a stateful one has none here.
    pub body: Option<ScalarFn>,
    /// What a null argument does.
    pub null: NullPolicy,
    /// Arguments.
    pub args: Vec<Expr>,
}

impl std::fmt::Debug for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple(self.function.name).field(&self.args).finish()
    }
}

/// A value as an instant, text in the rule's zone.
pub(crate) fn to_datetime(
    value: &Value,
    format: Option<&Format>,
    rule: &RuleContext,
) -> Result<jiff::Zoned, EvalError> {
    datetime::to_datetime(value, format, &rule.time_zone, rule.now).map_err(EvalError)
}

impl Expr {
    /// A constant.
    pub fn constant(value: Value, span: Span) -> Self {
        Expr { kind: ExprKind::Const(value), span }
    }

    /// The slot `slot` of the row.
    pub fn slot(slot: usize, span: Span) -> Self {
        Expr { kind: ExprKind::Slot(slot), span }
    }

    /// The constant's value, if it is one.
    pub fn as_constant(&self) -> Option<&Value> {
        match &self.kind {
            ExprKind::Const(value) => Some(value),
            _ => None,
        }
    }

    /// Calls `visit` with each direct part.
    pub fn for_each_part<'a>(&'a self, visit: &mut dyn FnMut(&'a Expr)) {
        match &self.kind {
            ExprKind::Const(_) | ExprKind::Slot(_) | ExprKind::Item(_) | ExprKind::Context(_) => {}
            ExprKind::FirstOf(parts) | ExprKind::And(parts) | ExprKind::Or(parts) => parts.iter().for_each(visit),
            ExprKind::Row(parts) => parts.iter().for_each(|(_, part)| visit(part)),
            ExprKind::Member(part, _)
            | ExprKind::Except(part, _)
            | ExprKind::Not(part)
            | ExprKind::Minus(part)
            | ExprKind::Hits(part, _)
            | ExprKind::Like(part, _, _)
            | ExprKind::IsNull(part, _)
            | ExprKind::AsFloat(part) => visit(part),
            ExprKind::Index(a, b) => {
                visit(a);
                visit(b);
            }
            ExprKind::Slice(operand, from, to) => {
                visit(operand);
                from.iter().chain(to).for_each(|part| visit(part));
            }
            ExprKind::Arithmetic(_, parts)
            | ExprKind::Bits(_, parts)
            | ExprKind::Concat(parts)
            | ExprKind::Compare(_, parts)
            | ExprKind::InArray(parts, _)
            | ExprKind::LikeDynamic(parts, _) => parts.iter().for_each(visit),
            ExprKind::Between(parts, _) => parts.iter().for_each(visit),
            ExprKind::InList(operand, list, _) => {
                visit(operand);
                list.iter().for_each(visit);
            }
            ExprKind::Case(case) => {
                case.operand.iter().for_each(&mut *visit);
                for (when, then) in &case.branches {
                    visit(when);
                    visit(then);
                }
                case.otherwise.iter().for_each(visit);
            }
            ExprKind::Call(call) | ExprKind::Stateful(_, call) => call.args.iter().for_each(visit),
        }
    }

    /// As [`for_each_part`](Self::for_each_part), to change the parts.
    pub fn for_each_part_mut(&mut self, visit: &mut dyn FnMut(&mut Expr)) {
        match &mut self.kind {
            ExprKind::Const(_) | ExprKind::Slot(_) | ExprKind::Item(_) | ExprKind::Context(_) => {}
            ExprKind::FirstOf(parts) | ExprKind::And(parts) | ExprKind::Or(parts) => parts.iter_mut().for_each(visit),
            ExprKind::Row(parts) => parts.iter_mut().for_each(|(_, part)| visit(part)),
            ExprKind::Member(part, _)
            | ExprKind::Except(part, _)
            | ExprKind::Not(part)
            | ExprKind::Minus(part)
            | ExprKind::Hits(part, _)
            | ExprKind::Like(part, _, _)
            | ExprKind::IsNull(part, _)
            | ExprKind::AsFloat(part) => visit(part),
            ExprKind::Index(a, b) => {
                visit(a);
                visit(b);
            }
            ExprKind::Slice(operand, from, to) => {
                visit(operand);
                from.iter_mut().chain(to).for_each(|part| visit(part));
            }
            ExprKind::Arithmetic(_, parts)
            | ExprKind::Bits(_, parts)
            | ExprKind::Concat(parts)
            | ExprKind::Compare(_, parts)
            | ExprKind::InArray(parts, _)
            | ExprKind::LikeDynamic(parts, _) => parts.iter_mut().for_each(visit),
            ExprKind::Between(parts, _) => parts.iter_mut().for_each(visit),
            ExprKind::InList(operand, list, _) => {
                visit(operand);
                list.iter_mut().for_each(visit);
            }
            ExprKind::Case(case) => {
                case.operand.iter_mut().for_each(&mut *visit);
                for (when, then) in &mut case.branches {
                    visit(when);
                    visit(then);
                }
                case.otherwise.iter_mut().for_each(visit);
            }
            ExprKind::Call(call) | ExprKind::Stateful(_, call) => call.args.iter_mut().for_each(visit),
        }
    }

    /// Renumbers the slots that are read.
    pub fn map_slots(&mut self, map: &dyn Fn(usize) -> usize) {
        if let ExprKind::Slot(slot) = &mut self.kind {
            *slot = map(*slot);
        }
        self.for_each_part_mut(&mut |part| part.map_slots(map));
    }

    /// True if it reads where the window begins or ends.
    pub fn reads_window(&self) -> bool {
        use ContextFn::{WindowEnd, WindowStart, WindowTrigger};
        let mut reads = matches!(self.kind, ExprKind::Context(WindowStart | WindowEnd | WindowTrigger));
        self.for_each_part(&mut |part| reads |= part.reads_window());
        reads
    }

    /// Calls `visit` with each slot that is read.
    pub fn for_each_slot(&self, visit: &mut dyn FnMut(usize)) {
        if let ExprKind::Slot(slot) = &self.kind {
            visit(*slot);
        }
        self.for_each_part(&mut |part| part.for_each_slot(visit));
    }
}
