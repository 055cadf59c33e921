//! Names and types: from a syntax tree to bound expressions.
//!
//! While a statement is bound, slots are numbered in the order in which they are first needed ([`Binder::columns`]); `layout`
//! gives them their place in the row at the end.

use smol_str::SmolStr;

use super::alias::Alias;
use super::sources::{Column, Origin, Source};
use super::stages::{AggregateCall, Computed, LookupStage, RowNumber};
use super::walk::unnested;
use super::{Catalog, LookupPlan, fold};
use crate::expr::{Arithmetic, Case, Comparison, Expr, ExprKind, LikePattern};
use crate::function::{Function, Registry};
use crate::sql::ast::{self, BinaryOp, Ident, Literal, UnaryOp};
use crate::sql::{Span, SqlError};
use crate::value::{ColumnKind, Type, Value};

/// An expression with what is known of its values.
#[derive(Clone)]
pub(super) struct Bound {
    /// The expression.
    pub expr: Expr,
    /// Its type.
    pub ty: Type,
}

/// The part of a statement that an expression stands in.
#[derive(Clone, Copy)]
pub(super) struct Clause {
    /// For messages: `in GROUP BY`.
    pub name: &'static str,
    /// What becomes of aggregate functions here.
    pub aggregates: Aggregates,
    /// In the select list: the item's index. Items before it can be read.
    pub item: Option<usize>,
}

/// What becomes of aggregate functions in a clause.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Aggregates {
    /// They are errors.
    Refused,
    /// They are computed over the whole collection, before `WHERE`.
    Where,
    /// They are computed per group.
    Result,
}

impl Clause {
    /// A clause that sees rows only.
    pub const fn rows(name: &'static str) -> Self {
        Clause { name, aggregates: Aggregates::Refused, item: None }
    }

    /// A clause behind grouping.
    pub const fn result(name: &'static str) -> Self {
        Clause { name, aggregates: Aggregates::Result, item: None }
    }
}

/// Which aliases a name may mean.
#[derive(Clone, Copy)]
struct Visible {
    /// Those of items before this one.
    before: usize,
    /// Not this one: inside of its own definition the name means a column.
    except: Option<usize>,
}

/// Binds the expressions of one statement and collects what they need.
pub(super) struct Binder<'a> {
    /// The sources of the statement, in order of `FROM` and `JOIN`.
    pub sources: Vec<Source<'a>>,
    /// The order in which unqualified names are looked for, as indexes of `sources`.
    pub order: Vec<usize>,
    /// All sources have columns that are known.
    pub all_declared: bool,
    /// Items of the select list may read aliases.
    pub alias_references: bool,
    /// Known functions.
    pub functions: &'a Registry,
    /// Known streams and tables.
    pub catalog: &'a Catalog,
    /// Names given by the select list.
    pub aliases: Vec<Alias<'a>>,
    /// The slots that are needed.
    pub columns: Vec<Column>,
    /// Columns computed per row.
    pub computed: Vec<Computed>,
    /// Aggregates in `WHERE`.
    pub where_aggregates: Vec<AggregateCall>,
    /// Aggregates elsewhere.
    pub aggregates: Vec<AggregateCall>,
    /// `row_number` calls.
    pub row_numbers: Vec<RowNumber>,
    /// Lookups that functions ask for, done behind those of joins.
    pub looked_up: Vec<(LookupPlan, LookupStage)>,
    /// Functions with state per call site.
    pub states: Vec<std::sync::Arc<Function>>,
    /// What is wrong.
    pub errors: Vec<SqlError>,
    /// Calls that have a slot already: an alias that is read twice is bound twice, but its calls run once.
    pub(super) call_slots: Vec<(*const ast::Call, usize, Type)>,
    visible: Visible,
    /// Only sources before this one (in `order`) are looked at for unqualified names.
    pub source_limit: usize,
    /// Nodes bound so far, and how deep the current one is: aliases that read aliases can grow without bound.
    n_nodes: usize,
    pub(super) depth: usize,
}

/// More nodes than any statement has that was meant.
const MAX_NODES: usize = 100_000;

/// Deeper than the parser lets a single expression be: only aliases within aliases get there.
const MAX_DEPTH: usize = 400;

/// Members of members of members.
const MAX_PATH: usize = 50;

impl<'a> Binder<'a> {
    /// A binder over the sources of a statement.
    pub fn new(sources: Vec<Source<'a>>, functions: &'a Registry, catalog: &'a Catalog, errors: Vec<SqlError>) -> Self {
        Binder {
            all_declared: sources.iter().all(|source| !source.is_schemaless()),
            order: (0..sources.len()).collect(),
            source_limit: sources.len(),
            sources,
            alias_references: true,
            functions,
            catalog,
            aliases: Vec::new(),
            columns: Vec::new(),
            computed: Vec::new(),
            where_aggregates: Vec::new(),
            aggregates: Vec::new(),
            row_numbers: Vec::new(),
            looked_up: Vec::new(),
            states: Vec::new(),
            errors,
            call_slots: Vec::new(),
            visible: Visible { before: usize::MAX, except: None },
            n_nodes: 0,
            depth: 0,
        }
    }

    /// Notes an error and goes on with null.
    pub fn refuse(&mut self, error: SqlError) -> Bound {
        let span = error.span;
        if !self.errors.contains(&error) {
            self.errors.push(error);
        }
        Bound { expr: Expr::constant(Value::Null, span), ty: Type::Any }
    }

    /// The number of the slot for a column, which is made if there is none yet.
    pub fn column(&mut self, column: Column) -> usize {
        let same =
            |known: &Column| known.origin == column.origin && known.kind == column.kind && known.name == column.name;
        self.columns.iter().position(same).unwrap_or_else(|| self.new_column(column))
    }

    /// A slot of its own.
    pub fn new_column(&mut self, column: Column) -> usize {
        self.columns.push(column);
        self.columns.len() - 1
    }

    /// A hidden slot for something that is computed.
    pub fn hidden(&mut self, origin: Origin, name: impl Into<SmolStr>, ty: Type) -> usize {
        self.new_column(Column { origin, kind: ColumnKind::Hidden, name: name.into(), ty })
    }

    /// Binds a select item's own expression: aliases of items before it can be read, and in a statement over declared
    /// columns those behind it too.
    pub fn bind_item(&mut self, item: usize, expr: &'a ast::Expr, clause: Clause) -> Bound {
        let visible = self.visible_in(item);
        let before = std::mem::replace(&mut self.visible, visible);
        let bound = self.bind(expr, clause);
        self.visible = before;
        bound
    }

    fn visible_in(&self, item: usize) -> Visible {
        let before = match self.alias_references {
            false => 0,
            true if self.all_declared => usize::MAX,
            true => item,
        };
        Visible { before, except: Some(item) }
    }

    /// Binds an expression.
    pub fn bind(&mut self, expr: &'a ast::Expr, clause: Clause) -> Bound {
        self.n_nodes += 1;
        if self.n_nodes > MAX_NODES || self.depth > MAX_DEPTH {
            let message = "the statement is too large: aliases that read aliases multiply";
            return self.refuse(SqlError::new(expr.span, message));
        }
        self.depth += 1;
        let bound = self.bind_node(expr, clause);
        self.depth -= 1;
        bound
    }

    fn bind_node(&mut self, expr: &'a ast::Expr, clause: Clause) -> Bound {
        let span = expr.span;
        let (kind, ty) = match &expr.kind {
            ast::ExprKind::Literal(literal) => return constant(literal, span),
            ast::ExprKind::Nested(inner) => return self.bind(inner, clause),
            ast::ExprKind::Name(parts) => return self.name(parts, span, clause),
            ast::ExprKind::Call(call) => return self.call(call, span, clause),
            ast::ExprKind::Member(operand, member) => {
                let operand = self.bind(operand, clause);
                return member_of(operand, &member.name, span);
            }
            ast::ExprKind::Index(operand, index) => {
                let (operand, index) = (self.bind(operand, clause), self.bind(index, clause));
                let ty = match operand.ty {
                    Type::Array(element) => *element,
                    _ => Type::Any,
                };
                (ExprKind::Index(operand.expr.into(), index.expr.into()), ty)
            }
            ast::ExprKind::Slice(operand, from, to) => {
                let operand = self.bind(operand, clause);
                if let (Some(Some(start)), Some(Some(stop))) =
                    (from.as_deref().map(literal_int), to.as_deref().map(literal_int))
                    && stop >= 0
                    && start >= stop
                {
                    let message = format!("slice [{start}:{stop}] is empty: the end must be above the start");
                    return self.refuse(SqlError::new(span, message));
                }
                let from = from.as_deref().map(|from| Box::new(self.bind(from, clause).expr));
                let to = to.as_deref().map(|to| Box::new(self.bind(to, clause).expr));
                (ExprKind::Slice(operand.expr.into(), from, to), operand.ty)
            }
            ast::ExprKind::Unary(UnaryOp::Minus, operand) => {
                let operand = self.bind(operand, clause);
                (ExprKind::Minus(operand.expr.into()), operand.ty)
            }
            ast::ExprKind::Unary(UnaryOp::Not, operand) => {
                (ExprKind::Not(self.bind(operand, clause).expr.into()), Type::Bool)
            }
            ast::ExprKind::Binary(..) => return self.binary(expr, clause),
            ast::ExprKind::InList { operand, list, negated } => {
                let operand = self.bind(operand, clause).expr;
                let list = list.iter().map(|element| self.bind(element, clause).expr).collect();
                (ExprKind::InList(operand.into(), list, *negated), Type::Bool)
            }
            ast::ExprKind::InArray { operand, array, negated } => {
                let parts = [self.bind(operand, clause).expr, self.bind(array, clause).expr];
                (ExprKind::InArray(parts.into(), *negated), Type::Bool)
            }
            ast::ExprKind::Between { operand, low, high, negated } => {
                let parts = [operand, low, high].map(|part| self.bind(part, clause).expr);
                (ExprKind::Between(parts.into(), *negated), Type::Bool)
            }
            ast::ExprKind::Like { operand, pattern, negated } => {
                let operand = self.bind(operand, clause).expr;
                let pattern = self.bind(pattern, clause).expr;
                let kind = match pattern.as_constant() {
                    Some(Value::String(text)) => ExprKind::Like(operand.into(), LikePattern::new(text), *negated),
                    Some(other) if !other.is_null() => {
                        let message = format!("LIKE takes a string as pattern, not a {}", other.kind_name());
                        return self.refuse(SqlError::new(pattern.span, message));
                    }
                    _ => ExprKind::LikeDynamic([operand, pattern].into(), *negated),
                };
                (kind, Type::Bool)
            }
            ast::ExprKind::IsNull { operand, negated } => {
                (ExprKind::IsNull(self.bind(operand, clause).expr.into(), *negated), Type::Bool)
            }
            ast::ExprKind::Case { operand, branches, otherwise } => {
                let operand = operand.as_deref().map(|operand| self.bind(operand, clause).expr);
                let mut types = Vec::new();
                let branches = branches
                    .iter()
                    .map(|(when, then)| {
                        let (when, then) = (self.bind(when, clause), self.bind(then, clause));
                        types.push(then.ty);
                        (when.expr, then.expr)
                    })
                    .collect();
                let otherwise = otherwise.as_deref().map(|otherwise| {
                    let otherwise = self.bind(otherwise, clause);
                    types.push(otherwise.ty);
                    otherwise.expr
                });
                (ExprKind::Case(Case { operand, branches, otherwise }.into()), common_type(&types))
            }
        };
        Bound { expr: fold::constant(Expr { kind, span }), ty }
    }

    /// `a + b + c`: chains of operators are long rather than deep, so their left sides are taken in a loop.
    fn binary(&mut self, expr: &'a ast::Expr, clause: Clause) -> Bound {
        let mut chain = Vec::new();
        let mut first = expr;
        while let ast::ExprKind::Binary(op, left, right) = &first.kind {
            chain.push((*op, right, first.span));
            first = left;
        }
        let mut bound = self.bind(first, clause);
        for (op, right, span) in chain.into_iter().rev() {
            let right = self.bind(right, clause);
            let (kind, ty) = operation(op, bound, right);
            bound = Bound { expr: fold::constant(Expr { kind, span }), ty };
        }
        bound
    }

    /// `a`, `source.a`, `a.member`
    fn name(&mut self, parts: &'a [Ident], span: Span, clause: Clause) -> Bound {
        if parts.len() > MAX_PATH {
            return self.refuse(SqlError::new(span, format!("this path is too long: more than {MAX_PATH} members")));
        }
        let [first, rest @ ..] = parts else {
            return self.refuse(SqlError::new(span, "a name is missing here"));
        };
        let (mut bound, members) = match (self.source_called(&first.name), rest) {
            (Some(source), [column, members @ ..]) => (self.source_column(source, column), members),
            _ => (self.unqualified(first, clause, rest.is_empty()), rest),
        };
        for member in members {
            bound = member_of(bound, &member.name, span);
        }
        bound
    }

    /// The source that a name means.
    pub fn source_called(&self, name: &str) -> Option<usize> {
        self.sources.iter().position(|source| source.is_called(name))
    }

    fn unqualified(&mut self, ident: &'a Ident, clause: Clause, whole: bool) -> Bound {
        let Visible { before, except } = self.visible;
        let alias = self.aliases.iter().position(|alias| {
            // Where aggregates can't stand, a name that is also given to one means the column.
            let fits = clause.aggregates != Aggregates::Refused || !alias.calls.aggregate;
            alias.name == ident.name && alias.item < before && except != Some(alias.item) && fits
        });
        match alias {
            Some(alias) => self.alias(alias, ident.span, clause),
            None => self.unqualified_column(ident, whole),
        }
    }

    /// A column that is named without its source: the first source that has it.
    pub fn unqualified_column(&mut self, ident: &Ident, whole: bool) -> Bound {
        let Ident { name, span } = ident;
        let mut candidates: Vec<usize> = Vec::new();
        let order: Vec<usize> = self.order.iter().copied().take(self.source_limit).collect();
        if self.all_declared {
            candidates.extend(order.iter().filter(|source| self.sources[**source].field(name).is_some()));
            if candidates.len() > 1 {
                let called = |source: &usize| format!("{}.{name}", self.sources[*source].name);
                let names: Vec<String> = candidates.iter().map(called).collect();
                let error = SqlError::new(*span, format!("\"{name}\" is a column of more than one source"));
                return self.refuse(error.with_hint(format!("write {}", names.join(" or "))));
            }
            if candidates.is_empty() {
                return self.unknown_column(ident, whole);
            }
        } else {
            for source in order {
                if self.sources[source].is_schemaless() {
                    candidates.push(source);
                } else if self.sources[source].field(name).is_some() {
                    candidates.push(source);
                    break;
                }
            }
        }
        let mut parts: Vec<Bound> =
            candidates.iter().map(|source| self.visible_column(*source, name, *span, true)).collect();
        match parts.len() {
            0 => Bound { expr: Expr::constant(Value::Missing, *span), ty: Type::Any },
            1 => parts.remove(0),
            _ => {
                let types: Vec<Type> = parts.iter().map(|part| part.ty.clone()).collect();
                let parts = parts.into_iter().map(|part| part.expr).collect();
                Bound { expr: Expr { kind: ExprKind::FirstOf(parts), span: *span }, ty: common_type(&types) }
            }
        }
    }

    fn unknown_column(&mut self, ident: &Ident, whole: bool) -> Bound {
        let Ident { name, span } = ident;
        let fields: Vec<SmolStr> =
            self.sources.iter().flat_map(|source| source.fields.iter().map(|(field, _)| field.clone())).collect();
        let aliases: Vec<SmolStr> = self.aliases.iter().map(|alias| alias.name.clone()).collect();
        let what = if whole { "column" } else { "column or source" };
        let mut known: Vec<&str> = fields.iter().chain(&aliases).map(SmolStr::as_str).collect();
        let sources: Vec<SmolStr> = self.sources.iter().map(|source| source.name.clone()).collect();
        if !whole {
            known.extend(sources.iter().map(SmolStr::as_str));
        }
        let error = SqlError::new(*span, format!("there is no {what} \"{name}\"")).with_suggestion(name, known);
        self.refuse(error)
    }

    /// `source.column`
    fn source_column(&mut self, source: usize, ident: &Ident) -> Bound {
        let Ident { name, span } = ident;
        if !self.sources[source].is_schemaless() && self.sources[source].field(name).is_none() {
            if !self.all_declared {
                return Bound { expr: Expr::constant(Value::Missing, *span), ty: Type::Any };
            }
            let known: Vec<SmolStr> = self.sources[source].fields.iter().map(|(field, _)| field.clone()).collect();
            let message = format!("{} has no column \"{name}\"", self.sources[source].name);
            let error = SqlError::new(*span, message).with_suggestion(name, known.iter().map(SmolStr::as_str));
            return self.refuse(error);
        }
        self.visible_column(source, name, *span, false)
    }

    /// A column of a source, missing if a `*` takes it away.
    pub fn visible_column(&mut self, source: usize, name: &SmolStr, span: Span, perhaps: bool) -> Bound {
        if self.sources[source].hides(name) {
            return Bound { expr: Expr::constant(Value::Missing, span), ty: Type::Any };
        }
        self.column_of(source, name, span, perhaps)
    }

    /// A column of a source. `perhaps`: the source may not have it; a lookup table must then not be asked for it by name.
    pub fn column_of(&mut self, source: usize, name: &SmolStr, span: Span, perhaps: bool) -> Bound {
        let place = &self.sources[source];
        if place.is_lookup() && place.is_schemaless() && perhaps {
            let slot = self.star_of(source);
            let kind = ExprKind::Member(Expr::slot(slot, span).into(), name.clone());
            return Bound { expr: Expr { kind, span }, ty: Type::Any };
        }
        let ty = place.field(name).cloned().unwrap_or(Type::Any);
        let origin = self.origin_of(source);
        let slot = self.column(Column { origin, kind: ColumnKind::Field, name: name.clone(), ty: ty.clone() });
        Bound { expr: Expr::slot(slot, span), ty }
    }

    /// The slot with all columns of a source.
    pub fn star_of(&mut self, source: usize) -> usize {
        let (origin, name) = (self.origin_of(source), self.sources[source].name.clone());
        self.column(Column { origin, kind: ColumnKind::Star, name, ty: Type::Struct(Vec::new()) })
    }

    /// The slot with the metadata of a source's rows.
    pub fn meta_of(&mut self, source: usize) -> usize {
        let (origin, name) = (self.origin_of(source), self.sources[source].name.clone());
        self.column(Column { origin, kind: ColumnKind::Meta, name, ty: Type::Struct(Vec::new()) })
    }

    /// Which part of a row holds a source's columns.
    pub fn origin_of(&self, source: usize) -> Origin {
        let is_lookup = self.sources[source].is_lookup();
        let place = self.sources[..source].iter().filter(|other| other.is_lookup() == is_lookup).count();
        if is_lookup { Origin::Lookup(place) } else { Origin::Input(place) }
    }

    /// The whole row, for `*` as an argument: its columns with their names.
    pub fn whole_row(&mut self, span: Span) -> Vec<(Option<SmolStr>, Expr)> {
        let mut parts: Vec<(Option<SmolStr>, Expr)> = Vec::new();
        for source in self.order.clone() {
            if let Some(only) = self.sources[source].only.clone() {
                for name in only {
                    let column = self.column_of(source, &name, span, false);
                    parts.push((Some(name), column.expr));
                }
                continue;
            }
            if self.sources[source].is_schemaless() {
                let slot = self.star_of(source);
                parts.push((None, Expr::slot(slot, span)));
                continue;
            }
            for (name, _) in self.sources[source].fields.clone() {
                if parts.iter().all(|(known, _)| known.as_ref() != Some(&name)) {
                    let column = self.column_of(source, &name, span, false);
                    parts.push((Some(name), column.expr));
                }
            }
        }
        parts
    }
}

/// `operand -> name`
pub(super) fn member_of(operand: Bound, name: &SmolStr, span: Span) -> Bound {
    let ty = match &operand.ty {
        Type::Struct(members) => {
            members.iter().find(|(member, _)| member == name).map_or(Type::Any, |(_, ty)| ty.clone())
        }
        _ => Type::Any,
    };
    Bound { expr: Expr { kind: ExprKind::Member(operand.expr.into(), name.clone()), span }, ty }
}

/// A literal as a value.
pub(crate) fn literal_value(literal: &Literal) -> Value {
    match literal {
        Literal::Null => Value::Null,
        Literal::Bool(value) => Value::Bool(*value),
        Literal::Int(value) => Value::Int(*value),
        Literal::Float(value) => Value::Float(*value),
        Literal::String(value) => Value::String(value.clone()),
    }
}

fn constant(literal: &Literal, span: Span) -> Bound {
    let ty = match literal {
        Literal::Null => Type::Any,
        Literal::Bool(_) => Type::Bool,
        Literal::Int(_) => Type::Int,
        Literal::Float(_) => Type::Float,
        Literal::String(_) => Type::String,
    };
    Bound { expr: Expr::constant(literal_value(literal), span), ty }
}

/// The value of an integer literal, also of a negative one.
pub(super) fn literal_int(expr: &ast::Expr) -> Option<i64> {
    match &unnested(expr).kind {
        ast::ExprKind::Literal(Literal::Int(value)) => Some(*value),
        ast::ExprKind::Unary(UnaryOp::Minus, operand) => literal_int(operand).and_then(i64::checked_neg),
        _ => None,
    }
}

/// The type that holds values of all these types.
fn common_type(types: &[Type]) -> Type {
    match types.split_first() {
        Some((first, rest)) if rest.iter().all(|ty| ty == first) => first.clone(),
        // Values of declared kinds stay what they are; a float among them decides.
        Some(_) if types.iter().all(|ty| matches!(ty, Type::Int | Type::Float)) => Type::Float,
        Some(_) if types.iter().all(|ty| matches!(ty, Type::Int | Type::Float | Type::Number)) => Type::Number,
        _ => Type::Any,
    }
}

/// `left op right`
fn operation(op: BinaryOp, left: Bound, right: Bound) -> (ExprKind, Type) {
    let types = (&left.ty, &right.ty);
    let compare = |comparison, left: Bound, right: Bound| {
        (ExprKind::Compare(comparison, [left.expr, right.expr].into()), Type::Bool)
    };
    match op {
        BinaryOp::Add | BinaryOp::Sub | BinaryOp::Mul | BinaryOp::Div | BinaryOp::Mod => {
            let float = types != (&Type::Int, &Type::Int);
            let ty = match types {
                (Type::Int, Type::Int) => Type::Int,
                (Type::Float, _) | (_, Type::Float) => Type::Float,
                _ if op == BinaryOp::Div => Type::Float,
                _ => Type::Number,
            };
            (ExprKind::Arithmetic(Arithmetic { op, float }, [left.expr, right.expr].into()), ty)
        }
        BinaryOp::BitAnd | BinaryOp::BitOr | BinaryOp::BitXor => {
            let ty = if types == (&Type::Bool, &Type::Bool) { Type::Bool } else { Type::Any };
            (ExprKind::Bits(op, [left.expr, right.expr].into()), ty)
        }
        BinaryOp::Concat => (ExprKind::Concat([left.expr, right.expr].into()), Type::String),
        BinaryOp::Eq => compare(Comparison::Eq, left, right),
        BinaryOp::NotEq => compare(Comparison::NotEq, left, right),
        BinaryOp::Lt => compare(Comparison::Lt, left, right),
        BinaryOp::LtEq => compare(Comparison::LtEq, left, right),
        BinaryOp::Gt => compare(Comparison::Gt, left, right),
        BinaryOp::GtEq => compare(Comparison::GtEq, left, right),
        BinaryOp::And => {
            let mut parts = match left.expr.kind {
                ExprKind::And(parts) => parts.into_vec(),
                kind => vec![Expr { kind, span: left.expr.span }],
            };
            parts.push(right.expr);
            (ExprKind::And(parts.into()), Type::Bool)
        }
        BinaryOp::Or => {
            let mut parts = match left.expr.kind {
                ExprKind::Or(parts) => parts.into_vec(),
                kind => vec![Expr { kind, span: left.expr.span }],
            };
            parts.push(right.expr);
            (ExprKind::Or(parts.into()), Type::Bool)
        }
    }
}
