//! `${name}` in manifests: replaced by what `--set name=value` says, and `${dir}` by the directory of the manifest. `$${`
//! stands for a plain `${`. Secrets are left alone: a password may hold anything.

use std::collections::BTreeMap;

use sluice_sql::sql::nearest;

/// The text with its variables replaced; `None` if it holds none.
///
/// # Errors
/// A variable that is not set, or a `${` that is none.
pub(super) fn substitute(text: &str, variables: &BTreeMap<String, String>) -> Result<Option<String>, String> {
    if !text.contains("${") {
        return Ok(None);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let (before, tail) = rest.split_at(at);
        let tail = tail.get(2..).unwrap_or_default();
        if let Some(before) = before.strip_suffix('$') {
            out.push_str(before);
            out.push_str("${");
            rest = tail;
            continue;
        }
        out.push_str(before);
        let (name, tail) = tail
            .split_once('}')
            .filter(|(name, _)| is_name(name))
            .ok_or("${ does not begin a variable such as ${name}; write $${ for a plain ${")?;
        match variables.get(name) {
            Some(value) => out.push_str(value),
            None => {
                let hint = nearest(name, variables.keys().map(String::as_str));
                let hint = hint.map(|near| format!("did you mean \"{near}\"?"));
                let hint = hint.unwrap_or_else(|| format!("give it with --set {name}=VALUE"));
                return Err(format!("variable \"{name}\" is not set, {hint}"));
            }
        }
        rest = tail;
    }
    out.push_str(rest);
    Ok(Some(out))
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_replaced() {
        let variables =
            BTreeMap::from([("broker".to_owned(), "b:1883".to_owned()), ("empty".to_owned(), String::new())]);
        for (text, expected) in [
            ("no variable, $5 {x}", Ok(None)),
            ("tcp://${broker}", Ok(Some("tcp://b:1883"))),
            ("${broker}${empty}${broker}", Ok(Some("b:1883b:1883"))),
            ("$${broker} and ${broker}", Ok(Some("${broker} and b:1883"))),
            ("${brokr}", Err("variable \"brokr\" is not set, did you mean \"broker\"?")),
            ("${zzz}", Err("variable \"zzz\" is not set, give it with --set zzz=VALUE")),
            ("${", Err("${ does not begin a variable such as ${name}; write $${ for a plain ${")),
            ("${a b}", Err("${ does not begin a variable such as ${name}; write $${ for a plain ${")),
        ] {
            let found = substitute(text, &variables);
            let found = found.as_ref().map(Option::as_deref).map_err(String::as_str);
            assert_eq!(found, expected, "{text}");
        }
    }
}
