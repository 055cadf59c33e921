//! Lists.

use super::{ANY, Call, Function, bounded_list, function, text_of};
use crate::template::datum::Datum;

pub(super) const FUNCTIONS: &[Function] = &[
    function("list", 0, ANY, |c| bounded_list(std::mem::take(&mut c.args))),
    function("tuple", 0, ANY, |c| bounded_list(std::mem::take(&mut c.args))),
    function("append", 2, 2, append),
    function("push", 2, 2, append),
    function("mustAppend", 2, 2, append),
    function("mustPush", 2, 2, append),
    function("prepend", 2, 2, prepend),
    function("mustPrepend", 2, 2, prepend),
    function("first", 1, 1, first),
    function("mustFirst", 1, 1, first),
    function("last", 1, 1, last),
    function("mustLast", 1, 1, last),
    function("rest", 1, 1, rest),
    function("mustRest", 1, 1, rest),
    function("initial", 1, 1, initial),
    function("mustInitial", 1, 1, initial),
    function("reverse", 1, 1, reverse),
    function("mustReverse", 1, 1, reverse),
    function("uniq", 1, 1, uniq),
    function("mustUniq", 1, 1, uniq),
    function("without", 1, ANY, without),
    function("mustWithout", 1, ANY, without),
    function("has", 2, 2, has),
    function("mustHas", 2, 2, has),
    function("concat", 0, ANY, |c| {
        let mut all = Vec::new();
        for idx in 0..c.args.len() {
            all.extend_from_slice(&c.items(idx)?);
        }
        bounded_list(all)
    }),
    function("chunk", 2, 2, chunk),
    function("mustChunk", 2, 2, chunk),
    function("compact", 1, 1, compact),
    function("mustCompact", 1, 1, compact),
    function("join", 2, 2, |c| {
        let items = match c.arg(1) {
            arg if arg.is_list() => c.items(1)?,
            arg => vec![arg.clone()].into(),
        };
        let texts: Vec<_> = items.iter().filter(|item| !matches!(item, Datum::Nothing)).map(text_of).collect();
        super::bounded(texts.join(&c.text(0)))
    }),
    function("sortAlpha", 1, 1, |c| {
        let items = c.items(0)?;
        let mut texts: Vec<_> = items.iter().map(text_of).collect();
        texts.sort();
        Ok(Datum::list(texts.into_iter().map(Datum::text).collect()))
    }),
    function("toStrings", 1, 1, |c| {
        let items = c.items(0)?;
        let texts = items.iter().filter(|item| !matches!(item, Datum::Nothing)).map(text_of);
        Ok(Datum::list(texts.map(Datum::text).collect()))
    }),
];

fn append(c: &mut Call<'_>) -> Result<Datum, String> {
    let mut items = c.items(0)?.into_owned();
    items.push(c.take(1));
    bounded_list(items)
}

fn prepend(c: &mut Call<'_>) -> Result<Datum, String> {
    let mut items = c.items(0)?.into_owned();
    items.insert(0, c.take(1));
    bounded_list(items)
}

fn first(c: &mut Call<'_>) -> Result<Datum, String> {
    Ok(c.items(0)?.first().cloned().unwrap_or(Datum::Nothing))
}

fn last(c: &mut Call<'_>) -> Result<Datum, String> {
    Ok(c.items(0)?.last().cloned().unwrap_or(Datum::Nothing))
}

fn rest(c: &mut Call<'_>) -> Result<Datum, String> {
    Ok(Datum::list(c.items(0)?.iter().skip(1).cloned().collect()))
}

fn initial(c: &mut Call<'_>) -> Result<Datum, String> {
    let items = c.items(0)?;
    Ok(Datum::list(items.iter().take(items.len().saturating_sub(1)).cloned().collect()))
}

fn reverse(c: &mut Call<'_>) -> Result<Datum, String> {
    Ok(Datum::list(c.items(0)?.iter().rev().cloned().collect()))
}

fn uniq(c: &mut Call<'_>) -> Result<Datum, String> {
    let mut kept: Vec<Datum> = Vec::new();
    for item in c.items(0)?.iter() {
        if !kept.iter().any(|known| known.same(item)) {
            kept.push(item.clone());
        }
        if kept.len() > 10_000 {
            return Err("the list has more than 10000 different items".to_owned());
        }
    }
    Ok(Datum::list(kept))
}

fn without(c: &mut Call<'_>) -> Result<Datum, String> {
    let items = c.items(0)?;
    let kept = items.iter().filter(|item| !c.rest(1).iter().any(|left_out| left_out.same(item)));
    Ok(Datum::list(kept.cloned().collect()))
}

fn has(c: &mut Call<'_>) -> Result<Datum, String> {
    Ok(Datum::Bool(c.items(1)?.iter().any(|item| item.same(c.arg(0)))))
}

fn chunk(c: &mut Call<'_>) -> Result<Datum, String> {
    let size = c.count(0)?;
    if size == 0 {
        return Err("the size of a chunk must be at least 1".to_owned());
    }
    Ok(Datum::list(c.items(1)?.chunks(size).map(|chunk| Datum::list(chunk.to_vec())).collect()))
}

fn compact(c: &mut Call<'_>) -> Result<Datum, String> {
    Ok(Datum::list(c.items(0)?.iter().filter(|item| item.is_true()).cloned().collect()))
}
