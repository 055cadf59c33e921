//! Pictures and models in SQL: the part that only the larger flavour of Sluice has (cargo feature `inference`).
//!
//! [`extend`] adds the functions, or in the plain flavour says where they are. `image` has those over pictures, `onnx` the one over
//! models, `model` the models themselves.

#[cfg(feature = "inference")]
mod image;
#[cfg(feature = "inference")]
mod model;
#[cfg(feature = "inference")]
mod onnx;
#[cfg(all(test, feature = "inference"))]
mod tests;

use std::path::PathBuf;

use sluice_sql::function::Registry;

/// What this binary is: `inference`, or `plain`.
pub const FLAVOUR: &str = if cfg!(feature = "inference") { "inference" } else { "plain" };

/// The functions of the larger flavour.
pub const NAMES: &[&str] = &[
    "image_info",
    "image_decode",
    "image_encode",
    "image_convert",
    "image_crop",
    "image_rotate",
    "image_gray",
    "image_tensor",
    "resize",
    "image_resize",
    "thumbnail",
    "image_thumbnail",
    "onnx",
];

/// Adds the functions; models are the files `NAME.onnx` of the folder.
#[cfg(feature = "inference")]
pub fn extend(functions: &mut Registry, models_dir: Option<PathBuf>) {
    functions.extend(image::functions());
    functions.extend([onnx::function(model::Models::new(models_dir))]);
}

/// Says where the functions are.
#[cfg(not(feature = "inference"))]
pub fn extend(functions: &mut Registry, _models_dir: Option<PathBuf>) {
    functions.extend_elsewhere(
        NAMES,
        "is in the flavour `inference` of Sluice, and this is the plain one: run the image whose tag ends in `-inference`, or build \
         with `--features inference`",
    );
}

#[cfg(test)]
mod names {
    use super::*;

    #[test]
    fn every_name_is_known_or_explained() {
        let mut functions = Registry::builtin();
        extend(&mut functions, None);
        for name in NAMES {
            assert_ne!(functions.get(name).is_some(), functions.elsewhere(name).is_some(), "{name}");
            assert_eq!(functions.get(name).is_some(), FLAVOUR == "inference", "{name}");
        }
    }
}
