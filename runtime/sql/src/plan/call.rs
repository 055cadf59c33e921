//! Function calls: checks of the arguments, and what a call of each class becomes.

use smol_str::{SmolStr, format_smolstr};

use super::bind::{Aggregates, Binder, Bound, Clause, member_of};
use super::sources::Origin;
use super::stages::{AggregateCall, AnalyticCall, Computed, ComputedKind, RowNumber, SortKey};
use super::walk::unnested;
use super::{fold, push_down};
use crate::expr::{Call, Expr, ExprKind};
use crate::function::{ArgFacts, Body, ContextFn, Function, Numbers, Param};
use crate::sql::ast::{self, Arg, Literal};
use crate::sql::{Span, SqlError};
use crate::value::coerce::type_called;
use crate::value::{Type, Value};

impl<'a> Binder<'a> {
    /// Binds a call.
    pub(super) fn call(&mut self, call: &'a ast::Call, span: Span, clause: Clause) -> Bound {
        let Some(function) = self.functions.get(&call.name.name).cloned() else {
            if let Some(place) = self.functions.elsewhere(&call.name.name) {
                return self.refuse(SqlError::new(call.name.span, format!("the function {} {place}", call.name.name)));
            }
            let error = SqlError::new(call.name.span, format!("there is no function \"{}\"", call.name.name));
            return self.refuse(error.with_suggestion(&call.name.name, self.functions.names()));
        };
        if let Some(error) = self.misplaced(call, &function, span, clause) {
            return self.refuse(error);
        }
        if let Body::Context(ContextFn::Meta) = function.body {
            return self.meta(call, &function, span);
        }
        if let Err(error) = check_args(call, &function, span) {
            return self.refuse(error);
        }
        match &function.body {
            Body::Scalar(_) | Body::Stateful(_) | Body::External(_) => self.scalar(call, &function, span, clause),
            Body::Aggregate(_) => self.aggregate(call, &function, span, clause),
            Body::Analytic(_) => self.analytic(call, &function, span, clause),
            Body::Window => self.row_number(call, span),
            Body::Context(context) => Bound { expr: Expr { kind: ExprKind::Context(*context), span }, ty: Type::Int },
            Body::MultiColumn(_) | Body::MultiRow(_) | Body::Trigger => {
                let message = format!("{} must stand by itself in the select list", function.name);
                self.refuse(SqlError::new(span, message))
            }
        }
    }

    /// Clauses of a call, and places for it, that its class doesn't have.
    fn misplaced(&self, call: &ast::Call, function: &Function, span: Span, clause: Clause) -> Option<SqlError> {
        let name = function.name;
        if let Some(over) = &call.over
            && !matches!(function.body, Body::Analytic(_) | Body::Window)
        {
            return Some(SqlError::new(over.span, format!("OVER goes with analytic functions; {name} is none")));
        }
        let is_aggregate = matches!(function.body, Body::Aggregate(_));
        if let Some(filter) = &call.filter
            && !is_aggregate
        {
            return Some(SqlError::new(filter.span, format!("FILTER goes with aggregates; {name} is none")));
        }
        if call.distinct && !is_aggregate {
            return Some(SqlError::new(span, format!("DISTINCT goes with aggregates; {name} is none")));
        }
        if is_aggregate && clause.aggregates == Aggregates::Refused {
            return Some(SqlError::new(span, format!("the aggregate {name} is not possible in {}", clause.name)));
        }
        if matches!(function.body, Body::Window) && clause.item.is_none() {
            return Some(SqlError::new(span, format!("{name} is only possible in the select list")));
        }
        None
    }

    /// The arguments of a call.
    fn args(&mut self, call: &'a ast::Call, function: &Function, clause: Clause) -> (Vec<Expr>, Vec<Type>) {
        let mut types = Vec::with_capacity(call.args.len());
        let mut args: Vec<Expr> = call
            .args
            .iter()
            .map(|arg| {
                let Bound { expr, ty } = match arg {
                    // Counting needs no row to look at.
                    Arg::Star(span) if function.name == "count" => {
                        Bound { expr: Expr::constant(Value::Int(1), *span), ty: Type::Int }
                    }
                    Arg::Star(span) => {
                        let row = self.whole_row(*span);
                        let kind = ExprKind::Row(row.into());
                        Bound { expr: Expr { kind, span: *span }, ty: Type::Struct(Vec::new()) }
                    }
                    Arg::Expr(arg) => self.bind(arg, clause),
                };
                let as_float = function.numbers == Numbers::Float && matches!(ty, Type::Number | Type::Any);
                types.push(if as_float && ty == Type::Number { Type::Float } else { ty });
                let span = expr.span;
                if as_float { Expr { kind: ExprKind::AsFloat(expr.into()), span } } else { expr }
            })
            .collect();
        if function.with_row {
            let span = call.name.span;
            let row = self.whole_row(span);
            args.push(Expr { kind: ExprKind::Row(row.into()), span });
        }
        (args, types)
    }

    fn scalar(
        &mut self,
        call: &'a ast::Call,
        function: &std::sync::Arc<Function>,
        span: Span,
        clause: Clause,
    ) -> Bound {
        let (mut args, types) = match function.looks_up {
            Some(_) => self.args(call, function, Clause::rows("what is looked up")),
            None => self.args(call, function, clause),
        };
        if let (Some(table), Some(key)) = (function.looks_up, args.first().cloned()) {
            args.push(self.looked_up(table, key, span));
        }
        let mut function = std::sync::Arc::clone(function);
        let ty = match (&function.body, args.get(1).and_then(Expr::as_constant)) {
            (_, Some(Value::String(ty))) if function.name == "cast" => type_called(ty).unwrap_or_default(),
            (_, Some(Value::String(ty))) if function.looks_up.is_some() => {
                type_called(ty).filter(|ty| types.get(2) == Some(ty)).unwrap_or_default()
            }
            (Body::External(external), _) => {
                let facts: Vec<ArgFacts> = args.iter().zip(&types).map(|(arg, ty)| facts(arg, ty.clone())).collect();
                match external.check(&facts) {
                    Ok(ty) => {
                        if let Some(bound) = external.bind(&facts) {
                            function = Function { body: Body::External(bound), ..Function::clone(&function) }.into();
                        }
                        ty
                    }
                    Err(message) => {
                        return self.refuse(SqlError::new(span, format!("{}: {message}", function.name)));
                    }
                }
            }
            _ => (function.returns)(&types),
        };
        let body = match function.body {
            Body::Scalar(body) => Some(body),
            _ => None,
        };
        let bound = Box::new(Call { function: function.clone(), body, null: function.null, args });
        if body.is_some() {
            return Bound { expr: fold::constant(Expr { kind: ExprKind::Call(bound), span }), ty };
        }
        self.states.push(function.clone());
        Bound { expr: Expr { kind: ExprKind::Stateful(self.states.len() - 1, bound), span }, ty }
    }

    fn aggregate(
        &mut self,
        call: &'a ast::Call,
        function: &std::sync::Arc<Function>,
        span: Span,
        clause: Clause,
    ) -> Bound {
        let in_where = clause.aggregates == Aggregates::Where;
        let rows = Clause::rows("the argument of an aggregate");
        let (args, types) = self.args(call, function, rows);
        let ty = (function.returns)(&types);
        let filter = call.filter.as_ref().map(|filter| self.bind(filter, rows).expr);
        let aggregate =
            AggregateCall { slot: 0, function: function.clone(), args, distinct: call.distinct, filter, span };
        let text = aggregate.text(&|slot| format!("{slot}"));
        let known = if in_where { &self.where_aggregates } else { &self.aggregates };
        let same = known.iter().find(|other| other.text(&|slot| format!("{slot}")) == text).map(|other| other.slot);
        let slot = same.unwrap_or_else(|| {
            let origin = if in_where { Origin::WhereAggregate } else { Origin::Aggregate };
            let names: Vec<SmolStr> = self.columns.iter().map(|column| column.name.clone()).collect();
            let name = aggregate.text(&|slot| names.get(slot).map(SmolStr::to_string).unwrap_or_default());
            let slot = self.hidden(origin, name, ty.clone());
            let aggregates = if in_where { &mut self.where_aggregates } else { &mut self.aggregates };
            aggregates.push(AggregateCall { slot, ..aggregate });
            slot
        });
        Bound { expr: Expr::slot(slot, span), ty }
    }

    fn analytic(
        &mut self,
        call: &'a ast::Call,
        function: &std::sync::Arc<Function>,
        span: Span,
        _clause: Clause,
    ) -> Bound {
        if let Some((_, slot, ty)) = self.call_slots.iter().find(|(known, ..)| std::ptr::eq(*known, call)) {
            return Bound { expr: Expr::slot(*slot, span), ty: ty.clone() };
        }
        let rows = Clause::rows("the argument of an analytic function");
        let (args, types) = self.args(call, function, rows);
        let ty = (function.returns)(&types);
        let (mut partition_by, mut when) = (Vec::new(), None);
        if let Some(over) = &call.over {
            let rows = Clause::rows("OVER");
            partition_by = over.partition_by.iter().map(|expr| self.bind(expr, rows).expr).collect();
            when = over.when.as_ref().map(|expr| push_down::counting_hits(self.bind(expr, rows).expr));
            if partition_by.is_empty() && when.is_none() {
                self.refuse(SqlError::new(
                    over.span,
                    "OVER () says nothing; write PARTITION BY or WHEN, or leave it out",
                ));
            }
            if let Some(key) = over.order_by.first() {
                let message = format!("ORDER BY is not possible in the OVER of {}", function.name);
                self.refuse(SqlError::new(key.expr.span, message));
            }
        }
        let slot = self.hidden(Origin::Computed, format_smolstr!("{}(...)", function.name), ty.clone());
        let call_plan = AnalyticCall { function: function.clone(), args, partition_by, when, span };
        self.computed.push(Computed { slot, kind: ComputedKind::Analytic(call_plan) });
        self.call_slots.push((call, slot, ty.clone()));
        Bound { expr: Expr::slot(slot, span), ty }
    }

    fn row_number(&mut self, call: &'a ast::Call, span: Span) -> Bound {
        let rows = Clause::result("OVER");
        let (mut partition_by, mut order_by) = (Vec::new(), Vec::new());
        if let Some(over) = &call.over {
            partition_by = over.partition_by.iter().map(|expr| self.bind(expr, rows).expr).collect();
            for key in &over.order_by {
                order_by.push(SortKey { expr: self.bind(&key.expr, rows).expr, descending: key.descending });
            }
            if let Some(when) = &over.when {
                self.refuse(SqlError::new(when.span, "WHEN is not possible in the OVER of row_number"));
            }
        }
        let slot = self.hidden(Origin::RowNumber, "row_number()", Type::Int);
        self.row_numbers.push(RowNumber { slot, partition_by, order_by });
        Bound { expr: Expr::slot(slot, span), ty: Type::Int }
    }

    /// `meta(key)`, `meta(source.key)`, `meta(key->sub)`, `meta(*)`
    fn meta(&mut self, call: &'a ast::Call, function: &Function, span: Span) -> Bound {
        let mut path: Vec<SmolStr> = Vec::new();
        let valid = match call.args.as_slice() {
            [Arg::Star(_)] => true,
            [Arg::Expr(arg)] => meta_path(arg, &mut path),
            _ => false,
        };
        if !valid {
            let message = format!("{} takes one key: {0}(topic), {0}(source.topic), {0}(key->member)", function.name);
            return self.refuse(SqlError::new(span, message));
        }
        let named = path.first().and_then(|first| self.source_called(first)).filter(|_| path.len() > 1);
        if named.is_some() {
            path.remove(0);
        }
        let sources = match named {
            Some(source) => vec![source],
            None => self.order.iter().copied().filter(|source| !self.sources[*source].is_lookup()).collect(),
        };
        let mut parts: Vec<Expr> = Vec::with_capacity(sources.len());
        for source in sources {
            let slot = self.meta_of(source);
            let mut bound = Bound { expr: Expr::slot(slot, span), ty: Type::Any };
            for key in &path {
                bound = member_of(bound, key, span);
            }
            parts.push(bound.expr);
        }
        let expr = match parts.len() {
            1 => parts.remove(0),
            _ => Expr { kind: ExprKind::FirstOf(parts.into()), span },
        };
        Bound { expr, ty: Type::Any }
    }

    /// The arguments of a multi-column function, each with the name of its column.
    pub(super) fn named_args(&mut self, call: &'a ast::Call, clause: Clause) -> Vec<(Option<SmolStr>, Expr)> {
        let mut args = Vec::new();
        for arg in &call.args {
            match arg {
                Arg::Star(span) => args.extend(self.whole_row(*span)),
                Arg::Expr(arg) => {
                    let name = natural_name(arg).unwrap_or_else(|| format_smolstr!("{}", args.len()));
                    args.push((Some(name), self.bind(arg, clause).expr));
                }
            }
        }
        args
    }
}

/// The name that an expression has in results without an alias; none if it has to be numbered.
pub(super) fn natural_name(expr: &ast::Expr) -> Option<SmolStr> {
    match &expr.kind {
        ast::ExprKind::Name(parts) => match parts.as_slice() {
            [.., last] => Some(last.name.clone()),
            [] => None,
        },
        ast::ExprKind::Call(call) => Some(call.name.name.to_ascii_lowercase().into()),
        _ => None,
    }
}

fn meta_path(arg: &ast::Expr, path: &mut Vec<SmolStr>) -> bool {
    match &unnested(arg).kind {
        ast::ExprKind::Name(parts) => {
            path.extend(parts.iter().map(|part| part.name.clone()));
            true
        }
        ast::ExprKind::Literal(Literal::String(key)) => {
            path.push(key.clone());
            true
        }
        ast::ExprKind::Member(operand, member) => {
            let valid = meta_path(operand, path);
            path.push(member.name.clone());
            valid
        }
        _ => false,
    }
}

/// What a function from outside is told of an argument.
fn facts(arg: &Expr, ty: Type) -> ArgFacts {
    let tensor = match &arg.kind {
        ExprKind::Stateful(_, call) => match &call.function.body {
            Body::External(external) => {
                let args: Vec<ArgFacts> = call.args.iter().map(|arg| facts(arg, Type::Any)).collect();
                external.tensor(&args)
            }
            _ => None,
        },
        _ => None,
    };
    ArgFacts { literal: arg.as_constant().cloned(), ty, tensor }
}

/// Number of arguments, and literals of a kind that can't be meant.
pub(super) fn check_args(call: &ast::Call, function: &Function, span: Span) -> Result<(), SqlError> {
    let arity = &function.arity;
    let (n_args, n_params) = (call.args.len(), arity.params.len());
    if n_args < arity.n_required || (n_args > n_params && !arity.variadic) {
        let expected = match (arity.n_required, n_params) {
            (least, _) if arity.variadic => format!("at least {least}"),
            (least, most) if least == most => format!("{least}"),
            (least, most) => format!("{least} to {most}"),
        };
        let plural = if expected == "1" || expected == "at least 1" { "argument" } else { "arguments" };
        let message = format!("{} takes {expected} {plural}, not {n_args}", function.name);
        return Err(SqlError::new(span, message));
    }
    let mut literals = Vec::with_capacity(n_args);
    for (arg_idx, arg) in call.args.iter().enumerate() {
        let Arg::Expr(arg) = arg else {
            if !arity.star {
                return Err(SqlError::new(span, format!("{} does not take * as an argument", function.name)));
            }
            literals.push(None);
            continue;
        };
        let literal = literal_of(arg);
        let param = arity.params.get(arg_idx).or(arity.params.last()).copied().unwrap_or(Param::Any);
        if let Some(expected) = refused_literal(param, literal.as_ref()) {
            let message = format!("argument {} of {} must be {expected}", arg_idx + 1, function.name);
            return Err(SqlError::new(arg.span, message));
        }
        literals.push(literal);
    }
    if let Some(check) = function.check {
        check(&literals).map_err(|message| SqlError::new(span, message))?;
    }
    Ok(())
}

fn literal_of(expr: &ast::Expr) -> Option<Value> {
    match &unnested(expr).kind {
        ast::ExprKind::Literal(literal) => Some(super::bind::literal_value(literal)),
        ast::ExprKind::Unary(ast::UnaryOp::Minus, operand) => match literal_of(operand)? {
            Value::Int(value) => Some(Value::Int(value.wrapping_neg())),
            Value::Float(value) => Some(Value::Float(-value)),
            _ => None,
        },
        _ => None,
    }
}

/// What a parameter wants, if the literal can't be that.
fn refused_literal(param: Param, literal: Option<&Value>) -> Option<&'static str> {
    let Some(literal) = literal else {
        return match param {
            Param::IntLiteral => Some("a literal integer"),
            Param::StringLiteral => Some("a literal string"),
            _ => None,
        };
    };
    let (fits, expected) = match param {
        Param::Any => (true, ""),
        Param::Number => (matches!(literal, Value::Int(_) | Value::Float(_)), "a number"),
        Param::Int => (matches!(literal, Value::Int(_)), "an integer"),
        Param::String => (matches!(literal, Value::String(_)), "a string"),
        Param::Bool => (matches!(literal, Value::Bool(_)), "a boolean"),
        Param::Datetime => (false, "a datetime: a column or a call, not a literal"),
        Param::IntLiteral => (matches!(literal, Value::Int(_)), "a literal integer"),
        Param::StringLiteral => (matches!(literal, Value::String(_)), "a literal string"),
    };
    let null = literal.is_null() && !matches!(param, Param::IntLiteral | Param::StringLiteral);
    (!fits && !null).then_some(expected)
}

impl AggregateCall {
    /// The call as text.
    pub(crate) fn text(&self, name: &dyn Fn(usize) -> String) -> String {
        let args: Vec<String> = match self.args.as_slice() {
            [arg] if self.function.name == "count" && matches!(arg.as_constant(), Some(Value::Int(_))) => {
                vec!["*".to_owned()]
            }
            args => args.iter().map(|arg| arg.text(name)).collect(),
        };
        let distinct = if self.distinct { "DISTINCT " } else { "" };
        let filter = self.filter.as_ref().map(|filter| format!(" FILTER (WHERE {})", filter.text(name)));
        format!("{}({distinct}{}){}", self.function.name, args.join(", "), filter.unwrap_or_default())
    }
}
