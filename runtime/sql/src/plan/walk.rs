//! Walks over the syntax tree.

use crate::sql::ast::{Arg, Expr, ExprKind, Select, SelectKind, WindowKind};

/// The expressions of a statement, in no order.
pub(super) fn expressions(select: &Select) -> Vec<&Expr> {
    let mut found: Vec<&Expr> = Vec::new();
    for item in &select.items {
        match &item.kind {
            SelectKind::Expr(expr) => found.push(expr),
            SelectKind::Star { replace, .. } => found.extend(replace.iter().map(|(expr, _)| expr)),
        }
    }
    if let Some(window) = &select.window {
        found.extend(window.filter.iter().chain(&window.when).chain(&window.partition_by));
        if let WindowKind::State { begin, emit } = &window.kind {
            found.extend(std::iter::once(begin).chain(emit).map(Box::as_ref));
        }
    }
    found.extend(select.joins.iter().filter_map(|join| join.on.as_ref()));
    found.extend(select.filter.iter().chain(&select.group_by).chain(&select.having));
    found.extend(select.order_by.iter().map(|key| &key.expr));
    found
}

/// Calls `visit` with the expression and all its parts, outer ones first. Parts of an expression for which `visit` returns
/// false are left out.
pub(super) fn walk<'a>(expr: &'a Expr, visit: &mut dyn FnMut(&'a Expr) -> bool) {
    if !visit(expr) {
        return;
    }
    match &expr.kind {
        ExprKind::Literal(_) | ExprKind::Name(_) => {}
        ExprKind::Member(part, _) | ExprKind::Unary(_, part) | ExprKind::Nested(part) => walk(part, visit),
        ExprKind::Index(a, b) | ExprKind::Binary(_, a, b) => {
            walk(a, visit);
            walk(b, visit);
        }
        ExprKind::Slice(operand, from, to) => {
            walk(operand, visit);
            from.iter().chain(to).for_each(|part| walk(part, visit));
        }
        ExprKind::InList { operand, list, .. } => {
            walk(operand, visit);
            list.iter().for_each(|part| walk(part, visit));
        }
        ExprKind::InArray { operand, array, .. } => {
            walk(operand, visit);
            walk(array, visit);
        }
        ExprKind::Between { operand, low, high, .. } => {
            walk(operand, visit);
            walk(low, visit);
            walk(high, visit);
        }
        ExprKind::Like { operand, pattern, .. } => {
            walk(operand, visit);
            walk(pattern, visit);
        }
        ExprKind::IsNull { operand, .. } => walk(operand, visit),
        ExprKind::Case { operand, branches, otherwise } => {
            operand.iter().for_each(|part| walk(part, visit));
            for (when, then) in branches {
                walk(when, visit);
                walk(then, visit);
            }
            otherwise.iter().for_each(|part| walk(part, visit));
        }
        ExprKind::Call(call) => {
            for arg in &call.args {
                if let Arg::Expr(arg) = arg {
                    walk(arg, visit);
                }
            }
            call.filter.iter().for_each(|part| walk(part, visit));
            if let Some(over) = &call.over {
                over.partition_by.iter().for_each(|part| walk(part, visit));
                over.order_by.iter().for_each(|key| walk(&key.expr, visit));
                over.when.iter().for_each(|part| walk(part, visit));
            }
        }
    }
}

/// The expression without brackets around it.
pub(super) fn unnested(mut expr: &Expr) -> &Expr {
    while let ExprKind::Nested(inner) = &expr.kind {
        expr = inner;
    }
    expr
}

/// The conjuncts of a condition, in order.
pub(super) fn conjuncts(expr: &Expr) -> Vec<&Expr> {
    fn split<'a>(expr: &'a Expr, out: &mut Vec<&'a Expr>) {
        match &expr.kind {
            ExprKind::Binary(crate::sql::ast::BinaryOp::And, left, right) => {
                split(left, out);
                split(right, out);
            }
            _ => out.push(expr),
        }
    }
    let mut out = Vec::new();
    split(expr, &mut out);
    out
}
