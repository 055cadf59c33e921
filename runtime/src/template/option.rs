//! Options whose text may be a template.

use sluice_sql::Value;

use super::{Surroundings, Template};
use crate::error::ConfigError;

/// The text of an option: fixed, or a template if it holds `{{`.
#[derive(Clone, Debug)]
pub struct TextOption {
    /// The option's path, for messages.
    path: String,
    text: Text,
}

#[derive(Clone, Debug)]
enum Text {
    Fixed(String),
    Template(Template),
}

impl TextOption {
    /// Checks the text of the option at `path`.
    ///
    /// # Errors
    /// What is wrong with the template.
    pub fn new(path: impl Into<String>, text: &str) -> Result<Self, ConfigError> {
        let path = path.into();
        let text = if text.contains("{{") {
            Text::Template(Template::parse(text).map_err(|error| ConfigError::new(path.clone(), error.to_string()))?)
        } else {
            Text::Fixed(text.to_owned())
        };
        Ok(TextOption { path, text })
    }

    /// The text, if it is the same for all rows.
    pub fn fixed(&self) -> Option<&str> {
        match &self.text {
            Text::Fixed(text) => Some(text),
            Text::Template(_) => None,
        }
    }

    /// See [`Template::reads_dot_fields`].
    pub fn reads_dot_fields(&self) -> bool {
        matches!(&self.text, Text::Template(template) if template.reads_dot_fields())
    }

    /// The text for `dot`.
    ///
    /// # Errors
    /// What failed, with the option's path and the place in the template.
    pub fn render(&self, dot: &Value, surroundings: &mut Surroundings) -> Result<String, String> {
        match &self.text {
            Text::Fixed(text) => Ok(text.clone()),
            Text::Template(template) => {
                let mut text = String::new();
                let rendered = template.render(dot, surroundings, &mut text);
                rendered.map(|()| text).map_err(|error| format!("{}:{error}", self.path))
            }
        }
    }
}
