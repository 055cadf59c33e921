//! Pictures and models in SQL: the part that only the larger flavour of Sluice has (cargo feature `inference`).
//!
//! [`extend`] adds the functions, or in the plain flavour says where they are; [`declare`] adds them for checking only. `signature`
//! says how they are called, and is in both flavours. `image` has those over pictures, `onnx` the one over models, `model` the models
//! themselves.

#[cfg(feature = "inference")]
mod image;
#[cfg(feature = "inference")]
mod model;
#[cfg(feature = "inference")]
mod onnx;
mod signature;
#[cfg(test)]
#[cfg(feature = "inference")]
mod tests;

use std::path::PathBuf;

use sluice_sql::function::Registry;

/// What this binary is: `inference`, or `plain`.
pub const FLAVOUR: &str = if cfg!(feature = "inference") { "inference" } else { "plain" };

/// Pixels of a picture, at most, unless it is said: 32 Mi.
pub const MAX_PIXELS: u64 = 32 << 20;

/// What a statement that calls one of the functions is told by the plain flavour.
const ELSEWHERE: &str = "is in the flavour `inference` of Sluice, and this is the plain one: run the image whose tag ends in \
                         `-inference`, or build with `--features inference`";

/// What pictures and models are held to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Models are the files `NAME.onnx` of this folder; without it there are none.
    pub models_dir: Option<PathBuf>,
    /// A picture with more pixels is refused before it is decoded; and one that would take more than four bytes for each of
    /// them.
    pub max_pixels: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Settings { models_dir: None, max_pixels: MAX_PIXELS }
    }
}

/// Adds the functions; in the plain flavour, says where they are.
pub fn extend(functions: &mut Registry, settings: &Settings) {
    #[cfg(feature = "inference")]
    {
        let models = model::Models::new(settings.models_dir.clone());
        functions.extend(signature::functions().into_iter().map(|function| match function.name {
            "onnx" => onnx::function(function, &models),
            _ => image::function(function, settings),
        }));
    }
    #[cfg(not(feature = "inference"))]
    {
        let _ = settings;
        refuse(functions);
    }
}

/// Adds the functions for those who only check rules that another process runs: the operator. What its flavour lacks is no
/// concern of a rule's.
pub fn declare(functions: &mut Registry) {
    functions.extend(signature::functions());
}

/// Says where the functions are.
#[cfg(any(test, not(feature = "inference")))]
fn refuse(functions: &mut Registry) {
    for function in signature::functions() {
        functions.extend_elsewhere(&[function.name], ELSEWHERE);
        functions.extend_elsewhere(function.aliases, ELSEWHERE);
    }
}

#[cfg(test)]
mod flavours {
    use sluice_sql::plan::{Catalog, RuleOptions, SourceDef, plan_rule};

    use super::*;

    fn message(functions: &Registry, call: &str) -> String {
        let mut catalog = Catalog::default();
        catalog.sources.insert("s".into(), SourceDef::default());
        let planned = plan_rule(&format!("SELECT {call} AS x FROM s"), &catalog, functions, &RuleOptions::default());
        planned.err().map(|errors| errors.errors[0].message.clone()).unwrap_or_default()
    }

    #[test]
    fn the_plain_one_names_the_other() {
        let mut functions = Registry::builtin();
        refuse(&mut functions);
        for call in ["onnx('m', a)", "RESIZE(a, 1, 1)", "image_thumbnail(a, 1, 1)", "argmax(onnx('m', a)[0])"] {
            let message = message(&functions, call);
            assert!(
                message.contains("is in the flavour `inference` of Sluice, and this is the plain one"),
                "{message}"
            );
        }
        assert_eq!(message(&functions, "argmax(a)"), "");
    }

    #[test]
    fn who_only_checks_knows_them_in_any_flavour() {
        let mut functions = Registry::builtin();
        declare(&mut functions);
        for (call, expected) in [
            ("onnx('m', a)", ""),
            ("argmax(onnx('m', image_tensor(a, 1, 1))[0])", ""),
            ("onnx('m', 'text')", "onnx: a tensor is an array or bytea, not string"),
            ("resize(a, 1)", "resize takes 3 to 4 arguments, not 2"),
            ("resize('text', 1, 1)", "resize: a picture is bytea, not string"),
            ("image_rotate(a, 45)", "image_rotate: a picture is turned by 90, 180 or 270 degrees"),
        ] {
            assert_eq!(message(&functions, call), expected, "{call}");
        }
    }

    #[test]
    fn this_one_has_them_or_names_the_other() {
        let mut functions = Registry::builtin();
        extend(&mut functions, &Settings::default());
        for function in signature::functions() {
            for name in std::iter::once(&function.name).chain(function.aliases) {
                assert_ne!(functions.get(name).is_some(), functions.elsewhere(name).is_some(), "{name}");
                assert_eq!(functions.get(name).is_some(), FLAVOUR == "inference", "{name}");
            }
        }
    }
}
