//! Constant folding.

use crate::expr::{EvalContext, Expr, ExprKind, Fields, RuleContext, Scope};
use crate::function::{Body, Volatility};

/// The expression, or its value if all its parts are constants. What fails is left as it is: it fails again for each row,
/// with its place.
pub(super) fn constant(expr: Expr) -> Expr {
    let folds = match &expr.kind {
        ExprKind::Const(_)
        | ExprKind::Slot(_)
        | ExprKind::Item(_)
        | ExprKind::Context(_)
        | ExprKind::Stateful(..)
        | ExprKind::Hits(..)
        | ExprKind::Row(_) => false,
        ExprKind::Call(call) => {
            call.function.volatility == Volatility::Immutable && matches!(call.function.body, Body::Scalar(_))
        }
        _ => true,
    };
    let mut constant = folds;
    expr.for_each_part(&mut |part| constant &= part.as_constant().is_some());
    if !constant {
        return expr;
    }
    let mut rule = RuleContext::for_constants();
    let ctx = EvalContext { rule: &mut rule, event_time: 0, window: None };
    let value = expr.eval(
        Fields { values: &[], joined: (&[], 0), items: &[] },
        &mut Scope { ctx, states: &mut [], peeking: false },
    );
    match value.map(|value| value.into_owned()) {
        Ok(value) => Expr::constant(value, expr.span),
        Err(_) => expr,
    }
}
