//! Paths with slashes, as topics and object names have them: text only, no file is looked at.

use super::{Function, function};
use crate::template::datum::Datum;

pub(super) const FUNCTIONS: &[Function] = &[
    function("base", 1, 1, |c| Ok(Datum::text(base(&c.text(0))))),
    function("dir", 1, 1, |c| Ok(Datum::text(dir(&c.text(0))))),
    function("clean", 1, 1, |c| Ok(Datum::text(clean(&c.text(0))))),
    function("ext", 1, 1, |c| Ok(Datum::text(ext(&c.text(0))))),
    function("isAbs", 1, 1, |c| Ok(Datum::Bool(c.text(0).starts_with('/')))),
];

/// The last step.
fn base(path: &str) -> &str {
    match path.trim_end_matches('/') {
        "" if path.is_empty() => ".",
        "" => "/",
        path => path.rsplit('/').next().unwrap_or(path),
    }
}

/// All but the last step.
fn dir(path: &str) -> String {
    clean(path.rfind('/').map_or("", |slash| path.get(..=slash).unwrap_or_default()))
}

/// From the last dot of the last step.
fn ext(path: &str) -> &str {
    let step = path.rsplit('/').next().unwrap_or(path);
    step.rfind('.').and_then(|dot| step.get(dot..)).unwrap_or_default()
}

/// Without empty steps and `.`; `..` takes the step before it away.
fn clean(path: &str) -> String {
    let is_absolute = path.starts_with('/');
    let mut steps: Vec<&str> = Vec::new();
    for step in path.split('/') {
        match step {
            "" | "." => {}
            ".." if steps.last().is_some_and(|last| *last != "..") => _ = steps.pop(),
            ".." if is_absolute => {}
            step => steps.push(step),
        }
    }
    match (is_absolute, steps.join("/")) {
        (true, path) => format!("/{path}"),
        (false, path) if path.is_empty() => ".".to_owned(),
        (false, path) => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Go's package `path` gives.
    #[test]
    fn as_in_go() {
        for (path, expected) in [
            ("", [".", ".", ".", ""]),
            ("/", ["/", "/", "/", ""]),
            ("//", ["/", "/", "/", ""]),
            ("a", ["a", ".", "a", ""]),
            ("a/b.c/", ["b.c", "a/b.c", "a/b.c", ""]),
            ("/a/./b//../c.tar.gz", ["c.tar.gz", "/a", "/a/c.tar.gz", ".gz"]),
            ("../../x", ["x", "../..", "../../x", ""]),
            ("/../x", ["x", "/", "/x", ""]),
            ("a/..", ["..", "a", ".", "."]),
            ("a/../../b", ["b", "..", "../b", ""]),
        ] {
            assert_eq!([base(path), &dir(path), &clean(path), ext(path)], expected, "{path}");
        }
    }
}
