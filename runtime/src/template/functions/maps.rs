//! Maps, defaults and types.

use std::collections::BTreeMap;

use smol_str::SmolStr;

use super::{ANY, Call, Function, bounded_list, function};
use crate::template::datum::Datum;

pub(super) const FUNCTIONS: &[Function] = &[
    function("dict", 0, ANY, |c| {
        let members = c.args.chunks(2).map(|pair| match pair {
            [key, value] => (SmolStr::from(super::text_of(key)), value.clone()),
            [key] => (SmolStr::from(super::text_of(key)), Datum::text("")),
            _ => (SmolStr::default(), Datum::Nothing),
        });
        Ok(Datum::map(members))
    }),
    function("get", 2, 2, |c| Ok(member(c, 0, &c.text(1))?.unwrap_or(Datum::text("")))),
    function("set", 3, 3, |c| {
        let (key, value) = (SmolStr::from(c.text(1)), c.take(2));
        change(c, |map| {
            map.insert(key, value);
        })
    }),
    function("unset", 2, 2, |c| {
        let key = SmolStr::from(c.text(1));
        change(c, |map| {
            map.remove(&key);
        })
    }),
    function("hasKey", 2, 2, |c| Ok(Datum::Bool(member(c, 0, &c.text(1))?.is_some()))),
    function("pluck", 1, ANY, |c| {
        let key = c.text(0);
        let mut found = Vec::new();
        for idx in 1..c.args.len() {
            found.extend(member(c, idx, &key)?);
        }
        Ok(Datum::list(found))
    }),
    function("keys", 0, ANY, |c| {
        let mut names = Vec::new();
        for idx in 0..c.args.len() {
            names.extend(members(c, idx)?.into_keys().map(Datum::String));
        }
        bounded_list(names)
    }),
    function("values", 1, 1, |c| bounded_list(members(c, 0)?.into_values().collect())),
    function("pick", 1, ANY, |c| {
        let names: Vec<_> = c.rest(1).iter().map(super::text_of).collect();
        Ok(Datum::map(
            members(c, 0)?.into_iter().filter(|(name, _)| names.iter().any(|wanted| wanted.as_ref() == name.as_str())),
        ))
    }),
    function("omit", 1, ANY, |c| {
        let names: Vec<_> = c.rest(1).iter().map(super::text_of).collect();
        Ok(Datum::map(
            members(c, 0)?
                .into_iter()
                .filter(|(name, _)| !names.iter().any(|left_out| left_out.as_ref() == name.as_str())),
        ))
    }),
    function("merge", 1, ANY, |c| merge(c, false)),
    function("mustMerge", 1, ANY, |c| merge(c, false)),
    function("mergeOverwrite", 1, ANY, |c| merge(c, true)),
    function("mustMergeOverwrite", 1, ANY, |c| merge(c, true)),
    function("dig", 3, ANY, |c| {
        let n = c.args.len();
        let default = c.arg(n - 2).clone();
        let mut value = c.arg(n - 1).clone();
        for key in c.args.get(..n - 2).unwrap_or_default() {
            match value.member(&super::text_of(key)) {
                Some(Some(member)) => value = member,
                Some(None) => return Ok(default),
                None => return Err(format!("a value of type {} has no members", value.type_name())),
            }
        }
        Ok(value)
    }),
    function("deepCopy", 1, 1, |c| Ok(copy(c.arg(0)))),
    function("mustDeepCopy", 1, 1, |c| Ok(copy(c.arg(0)))),
    function("default", 1, 2, |c| {
        let (default, value) = (c.arg(0), c.arg(1));
        Ok(if value.is_true() { value.clone() } else { default.clone() })
    }),
    function("empty", 1, 1, |c| Ok(Datum::Bool(!c.arg(0).is_true()))),
    function("coalesce", 0, ANY, |c| Ok(c.args.iter().find(|arg| arg.is_true()).cloned().unwrap_or(Datum::Nothing))),
    function("all", 0, ANY, |c| Ok(Datum::Bool(c.args.iter().all(Datum::is_true)))),
    function("any", 0, ANY, |c| Ok(Datum::Bool(c.args.iter().any(Datum::is_true)))),
    function("ternary", 3, 3, |c| Ok(if c.arg(2).is_true() { c.take(0) } else { c.take(1) })),
    function("fail", 1, 1, |c| Err(c.text(0).into_owned())),
    function("typeOf", 1, 1, |c| Ok(Datum::text(c.arg(0).type_name()))),
    function("typeIs", 2, 2, |c| Ok(Datum::Bool(c.text(0) == c.arg(1).type_name()))),
    function("typeIsLike", 2, 2, |c| Ok(Datum::Bool(c.text(0).trim_start_matches('*') == c.arg(1).type_name()))),
    function("kindOf", 1, 1, |c| Ok(Datum::text(kind(c.arg(0))))),
    function("kindIs", 2, 2, |c| Ok(Datum::Bool(c.text(0) == kind(c.arg(1))))),
    function("deepEqual", 2, 2, |c| Ok(Datum::Bool(c.arg(0).same(c.arg(1))))),
];

fn kind(datum: &Datum) -> &'static str {
    match datum {
        Datum::Nothing => "invalid",
        Datum::Time(_) => "struct",
        datum if datum.is_map() => "map",
        datum if datum.is_list() || matches!(datum, Datum::Bytes(_)) => "slice",
        datum => datum.type_name(),
    }
}

fn members(c: &Call<'_>, idx: usize) -> Result<BTreeMap<SmolStr, Datum>, String> {
    let arg = c.arg(idx);
    arg.members().ok_or_else(|| format!("expected a map, not a value of type {}", arg.type_name()))
}

fn member(c: &Call<'_>, idx: usize, name: &str) -> Result<Option<Datum>, String> {
    let arg = c.arg(idx);
    arg.member(name).ok_or_else(|| format!("expected a map, not a value of type {}", arg.type_name()))
}

/// Changes the map in place, for all who hold it. The data itself never changes: its maps are copied.
fn change(c: &mut Call<'_>, change: impl FnOnce(&mut BTreeMap<SmolStr, Datum>)) -> Result<Datum, String> {
    let map = match c.arg(0) {
        map @ Datum::Map(_) => map.clone(),
        _ => Datum::map(members(c, 0)?),
    };
    if let Datum::Map(cell) = &map {
        change(&mut cell.borrow_mut());
    }
    // A map that holds itself could never be printed.
    if nests_deeper(&map, crate::template::MAX_DEPTH) {
        return Err(format!("the map is nested deeper than {} levels", crate::template::MAX_DEPTH));
    }
    Ok(map)
}

fn nests_deeper(datum: &Datum, n_levels: usize) -> bool {
    let Some(n_levels) = n_levels.checked_sub(1) else { return true };
    match datum {
        Datum::List(items) => items.iter().any(|item| nests_deeper(item, n_levels)),
        Datum::Map(map) => map.borrow().values().any(|member| nests_deeper(member, n_levels)),
        _ => false,
    }
}

/// Merges all maps into the first: members that are maps are merged too, others are kept or overwritten.
fn merge(c: &mut Call<'_>, overwrite: bool) -> Result<Datum, String> {
    let mut others = Vec::new();
    for idx in 1..c.args.len() {
        others.push(members(c, idx)?);
    }
    change(c, |map| {
        for other in others {
            merge_into(map, other, overwrite, crate::template::MAX_DEPTH);
        }
    })
}

fn merge_into(into: &mut BTreeMap<SmolStr, Datum>, from: BTreeMap<SmolStr, Datum>, overwrite: bool, n_levels: usize) {
    for (name, datum) in from {
        match into.get(&name) {
            Some(known) if known.is_map() && datum.is_map() && n_levels > 0 => {
                let mut merged = known.members().unwrap_or_default();
                merge_into(&mut merged, datum.members().unwrap_or_default(), overwrite, n_levels - 1);
                into.insert(name, Datum::map(merged));
            }
            // As in Sprig, an empty value counts as none.
            Some(known) if known.is_true() && !(overwrite && datum.is_true()) => {}
            _ => {
                into.insert(name, datum);
            }
        }
    }
}

fn copy(datum: &Datum) -> Datum {
    match datum {
        Datum::List(items) => Datum::list(items.iter().map(copy).collect()),
        Datum::Map(map) => Datum::map(map.borrow().iter().map(|(name, datum)| (name.clone(), copy(datum)))),
        datum => datum.clone(),
    }
}
