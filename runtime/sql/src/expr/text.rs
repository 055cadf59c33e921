//! Expressions as text, for `explain` and fingerprints: everything that changes a result shows.

use std::fmt::Write;

use super::{Expr, ExprKind, operator::symbol};
use crate::sql::ast::BinaryOp;
use crate::value::Value;

impl Expr {
    /// The expression with `name(slot)` for each slot.
    pub fn text(&self, name: &dyn Fn(usize) -> String) -> String {
        let mut text = String::new();
        self.write(&mut text, name, 0);
        text
    }

    /// `outer` is the binding strength of what stands around; weaker expressions get brackets.
    fn write(&self, out: &mut String, name: &dyn Fn(usize) -> String, outer: u8) {
        let strength = match &self.kind {
            ExprKind::Or(_) => 1,
            ExprKind::And(_) => 2,
            ExprKind::Not(_)
            | ExprKind::Compare(..)
            | ExprKind::InList(..)
            | ExprKind::InArray(..)
            | ExprKind::Between(..)
            | ExprKind::Like(..)
            | ExprKind::LikeDynamic(..)
            | ExprKind::IsNull(..) => 3,
            ExprKind::Arithmetic(arithmetic, _) if matches!(arithmetic.op, BinaryOp::Add | BinaryOp::Sub) => 4,
            ExprKind::Bits(BinaryOp::BitOr | BinaryOp::BitXor, _) | ExprKind::Concat(_) => 4,
            ExprKind::Arithmetic(..) | ExprKind::Bits(..) => 5,
            _ => 9,
        };
        if strength < outer {
            out.push('(');
        }
        let not = |negated: &bool| if *negated { "NOT " } else { "" };
        match &self.kind {
            ExprKind::Const(value) => constant(out, value),
            ExprKind::Slot(slot) => out.push_str(&name(*slot)),
            ExprKind::Item(item) => out.push_str(&format!("item {item}")),
            ExprKind::FirstOf(parts) => list(out, "first of(", parts, name),
            ExprKind::Member(operand, member) => {
                operand.write(out, name, 9);
                out.push_str("->");
                out.push_str(member);
            }
            ExprKind::Index(operand, index) => {
                operand.write(out, name, 9);
                out.push('[');
                index.write(out, name, 0);
                out.push(']');
            }
            ExprKind::Slice(operand, from, to) => {
                operand.write(out, name, 9);
                out.push('[');
                from.iter().for_each(|from| from.write(out, name, 0));
                out.push(':');
                to.iter().for_each(|to| to.write(out, name, 0));
                out.push(']');
            }
            ExprKind::Except(operand, names) => {
                operand.write(out, name, 9);
                let _ = write!(out, " EXCEPT ({})", names.join(", "));
            }
            ExprKind::Row(_) => out.push('*'),
            ExprKind::Not(operand) => {
                out.push_str("NOT ");
                operand.write(out, name, 4);
            }
            ExprKind::Minus(operand) => {
                out.push_str("- ");
                operand.write(out, name, 6);
            }
            ExprKind::Arithmetic(arithmetic, parts) => {
                let operator = symbol(arithmetic.op);
                let float = if arithmetic.float && arithmetic.op == BinaryOp::Div { "." } else { "" };
                binary(out, &format!("{operator}{float}"), parts, name, strength);
            }
            ExprKind::Bits(op, parts) => binary(out, symbol(*op), parts, name, strength),
            ExprKind::Concat(parts) => binary(out, "||", parts, name, strength),
            ExprKind::Compare(comparison, parts) => binary(out, comparison.symbol(), parts, name, 4),
            ExprKind::And(parts) => connected(out, " AND ", parts, name, 3),
            ExprKind::Or(parts) => connected(out, " OR ", parts, name, 2),
            ExprKind::InList(operand, elements, negated) => {
                operand.write(out, name, 4);
                list(out, &format!(" {}IN (", not(negated)), elements, name);
            }
            ExprKind::InArray(parts, negated) => binary(out, &format!("{}IN", not(negated)), parts, name, 4),
            ExprKind::Between(parts, negated) => {
                let [operand, low, high] = &**parts;
                operand.write(out, name, 4);
                let _ = write!(out, " {}BETWEEN ", not(negated));
                low.write(out, name, 4);
                out.push_str(" AND ");
                high.write(out, name, 4);
            }
            ExprKind::Like(operand, pattern, negated) => {
                operand.write(out, name, 4);
                let _ = write!(out, " {}LIKE {:?}", not(negated), pattern.as_str());
            }
            ExprKind::LikeDynamic(parts, negated) => binary(out, &format!("{}LIKE", not(negated)), parts, name, 4),
            ExprKind::IsNull(operand, negated) => {
                operand.write(out, name, 4);
                let _ = write!(out, " IS {}NULL", not(negated));
            }
            ExprKind::Case(case) => {
                out.push_str("CASE");
                if let Some(operand) = &case.operand {
                    out.push(' ');
                    operand.write(out, name, 0);
                }
                for (when, then) in &case.branches {
                    out.push_str(" WHEN ");
                    when.write(out, name, 0);
                    out.push_str(" THEN ");
                    then.write(out, name, 0);
                }
                if let Some(otherwise) = &case.otherwise {
                    out.push_str(" ELSE ");
                    otherwise.write(out, name, 0);
                }
                out.push_str(" END");
            }
            ExprKind::Call(call) | ExprKind::Stateful(_, call) => {
                list(out, &format!("{}(", call.function.name), &call.args, name);
            }
            ExprKind::Hits(condition, _) => condition.write(out, name, outer),
            ExprKind::Context(function) => out.push_str(match function {
                crate::function::ContextFn::WindowStart => "window_start()",
                crate::function::ContextFn::WindowEnd => "window_end()",
                crate::function::ContextFn::WindowTrigger => "window_trigger()",
                crate::function::ContextFn::EventTime => "event_time()",
                crate::function::ContextFn::Meta => "meta()",
            }),
            ExprKind::AsFloat(operand) => {
                out.push_str("float(");
                operand.write(out, name, 0);
                out.push(')');
            }
        }
        if strength < outer {
            out.push(')');
        }
    }
}

fn binary(out: &mut String, symbol: &str, parts: &[Expr; 2], name: &dyn Fn(usize) -> String, strength: u8) {
    parts[0].write(out, name, strength);
    let _ = write!(out, " {symbol} ");
    parts[1].write(out, name, strength + 1);
}

fn connected(out: &mut String, word: &str, parts: &[Expr], name: &dyn Fn(usize) -> String, strength: u8) {
    for (part_idx, part) in parts.iter().enumerate() {
        if part_idx > 0 {
            out.push_str(word);
        }
        part.write(out, name, strength);
    }
}

fn list(out: &mut String, open: &str, parts: &[Expr], name: &dyn Fn(usize) -> String) {
    out.push_str(open);
    connected(out, ", ", parts, name, 0);
    out.push(')');
}

fn constant(out: &mut String, value: &Value) {
    let _ = match value {
        Value::Missing | Value::Null => write!(out, "NULL"),
        Value::Bool(value) => write!(out, "{}", if *value { "TRUE" } else { "FALSE" }),
        Value::Int(value) => write!(out, "{value}"),
        Value::Uint(value) => write!(out, "{value}"),
        Value::Float(value) => write!(out, "{value:?}"),
        Value::String(value) => write!(out, "{:?}", value.as_str()),
        other => write!(out, "{other:?}"),
    };
}
