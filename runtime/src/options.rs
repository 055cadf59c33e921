//! Connector options: an open map that the connector's own typed config reads.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::ConfigError;

/// Options of one connector after profiles are merged and secrets are filled in. Never printed as a whole: it holds
/// passwords.
#[derive(Clone, Default, PartialEq)]
pub struct Options(pub serde_json::Map<String, serde_json::Value>);

impl Options {
    /// Reads the options into a connector's config. Names match without case; unknown names, wrong types and missing ones are
    /// all reported at once, with the nearest known name.
    ///
    /// # Errors
    /// Every option that does not fit.
    pub fn parse<T: serde::de::DeserializeOwned + JsonSchema>(&self) -> Result<T, ConfigError> {
        serde_path_to_error::deserialize(serde_json::Value::Object(self.0.clone()))
            .map_err(|error| ConfigError::new(error.path().to_string(), error.inner().to_string()))
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.keys()).finish()
    }
}

/// A password, token or key. Shows itself as `***` wherever it is printed.
#[derive(Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Hides `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Secret(text.into())
    }

    /// The text, for the one call that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}
