//! The reference page: how a function's entry reads.

use std::fmt::Write;

use super::{Arity, Body, Example, Function, NullPolicy, Param};
use crate::value::Type;
use crate::value::coerce::type_name;

/// The entry of a function, as Markdown: how it is called, what it does, its examples.
pub fn entry(function: &Function) -> String {
    // Writing to a String does not fail.
    let mut page = format!("### `{}`\n\n{}\n\n", signature(function), function.docs.replace("  ", " "));
    let mut notes: Vec<String> = Vec::new();
    if !function.aliases.is_empty() {
        let aliases: Vec<String> = function.aliases.iter().map(|alias| format!("`{alias}`")).collect();
        notes.push(format!("Also called {}.", aliases.join(", ")));
    }
    match (function.null, &function.body) {
        (_, Body::Aggregate(_)) | (NullPolicy::Body, _) => {}
        (NullPolicy::Null, _) => notes.push("Null if an argument is null.".to_owned()),
        (NullPolicy::False, _) => notes.push("False if an argument is null.".to_owned()),
        (NullPolicy::Zero, _) => notes.push("0 if an argument is null.".to_owned()),
    }
    if !notes.is_empty() {
        let _ = writeln!(page, "{}\n", notes.join(" "));
    }
    if !function.examples.is_empty() {
        let _ = writeln!(page, "| Call | Rows | Result |\n|---|---|---|");
        for Example { call, input, result } in function.examples {
            let rows: Vec<String> = input.lines().map(cell).collect();
            let _ = writeln!(page, "| {} | {} | {} |", cell(call), rows.join(" "), cell(result));
        }
        page.push('\n');
    }
    page
}

fn cell(text: &str) -> String {
    format!("`{}`", text.replace('|', "\\|"))
}

/// `name(number, string [, any]) → type`, with the type for arguments of which nothing is known.
fn signature(function: &Function) -> String {
    let Arity { params, n_required, variadic, star } = function.arity;
    let name = |param: &Param| match param {
        Param::Any => "any",
        Param::Number => "number",
        Param::Int => "integer",
        Param::String => "string",
        Param::Bool => "boolean",
        Param::Datetime => "datetime",
        Param::IntLiteral => "literal integer",
        Param::StringLiteral => "literal string",
    };
    let mut args = String::new();
    for (idx, param) in params.iter().enumerate() {
        args.push_str(match (idx, idx < n_required) {
            (0, true) => "",
            (0, false) => "[",
            (_, true) => ", ",
            (_, false) => " [, ",
        });
        args.push_str(name(param));
        if star && *param == Param::Any {
            args.push_str(" or *");
        }
    }
    if variadic {
        args.push_str(", ...");
    }
    args.push_str(&"]".repeat(params.len().saturating_sub(n_required)));
    let returns = (function.returns)(&vec![Type::Any; params.len()]);
    format!("{}({args}) → {}", function.name, type_name(&returns))
}
