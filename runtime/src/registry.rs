//! The connectors and formats that a process knows. A plain value that is passed in: no global map.

use std::collections::BTreeMap;
use std::sync::Arc;

use sluice_sql::sql::nearest;

use crate::error::ConfigError;
use crate::format::FormatType;
use crate::inference;
use crate::lookup::LookupType;
use crate::sink::SinkType;
use crate::source::SourceType;

/// Connectors and formats by name.
#[derive(Clone, Default)]
pub struct Registry {
    /// Sources by `TYPE`.
    pub sources: BTreeMap<&'static str, Arc<SourceType>>,
    /// Lookup tables by `TYPE`.
    pub lookups: BTreeMap<&'static str, Arc<LookupType>>,
    /// Sinks by the key of a rule's sink entry.
    pub sinks: BTreeMap<&'static str, Arc<SinkType>>,
    /// Formats by `FORMAT`.
    pub formats: BTreeMap<&'static str, Arc<FormatType>>,
    /// SQL functions.
    pub functions: sluice_sql::function::Registry,
}

impl Registry {
    /// Everything that is built in.
    pub fn builtin() -> Self {
        let mut registry = Registry { functions: sluice_sql::function::Registry::builtin(), ..Registry::default() };
        inference::extend(&mut registry.functions, &inference::Settings::default());
        for source in crate::source::BUILTIN {
            registry = registry.with_source(source.clone());
        }
        for lookup in crate::lookup::BUILTIN {
            registry = registry.with_lookup(lookup.clone());
        }
        for sink in crate::sink::BUILTIN {
            registry = registry.with_sink(sink.clone());
        }
        for format in crate::format::BUILTIN {
            registry = registry.with_format(format.clone());
        }
        registry
    }

    /// Everything that is built into any flavour: for those who only check what another process runs.
    pub fn of_any_flavour() -> Self {
        let mut registry = Self::builtin();
        inference::declare(&mut registry.functions);
        registry
    }

    /// The source called `name`.
    ///
    /// # Errors
    /// There is none; the error names the nearest known one.
    pub fn source(&self, name: &str) -> Result<&Arc<SourceType>, ConfigError> {
        find(&self.sources, "source", name)
    }

    /// The kind of lookup table called `name`.
    ///
    /// # Errors
    /// As for [`Registry::source`].
    pub fn lookup(&self, name: &str) -> Result<&Arc<LookupType>, ConfigError> {
        find(&self.lookups, "lookup table", name)
    }

    /// The sink called `name`.
    ///
    /// # Errors
    /// As for [`Registry::source`].
    pub fn sink(&self, name: &str) -> Result<&Arc<SinkType>, ConfigError> {
        find(&self.sinks, "sink", name)
    }

    /// The format called `name`.
    ///
    /// # Errors
    /// As for [`Registry::source`].
    pub fn format(&self, name: &str) -> Result<&Arc<FormatType>, ConfigError> {
        find(&self.formats, "format", name)
    }

    /// Adds a source, or replaces the one of that name.
    #[must_use]
    pub fn with_source(mut self, source: SourceType) -> Self {
        self.sources.insert(source.name, Arc::new(source));
        self
    }

    /// Adds a kind of lookup table, or replaces the one of that name.
    #[must_use]
    pub fn with_lookup(mut self, lookup: LookupType) -> Self {
        self.lookups.insert(lookup.name, Arc::new(lookup));
        self
    }

    /// Adds a sink, or replaces the one of that name.
    #[must_use]
    pub fn with_sink(mut self, sink: SinkType) -> Self {
        self.sinks.insert(sink.name, Arc::new(sink));
        self
    }

    /// What pictures and models are held to. Without effect in the plain flavour.
    #[must_use]
    pub fn with_inference(mut self, settings: &inference::Settings) -> Self {
        inference::extend(&mut self.functions, settings);
        self
    }

    /// Adds a format, or replaces the one of that name.
    #[must_use]
    pub fn with_format(mut self, format: FormatType) -> Self {
        self.formats.insert(format.name, Arc::new(format));
        self
    }
}

fn find<'a, T>(list: &'a BTreeMap<&'static str, Arc<T>>, what: &str, name: &str) -> Result<&'a Arc<T>, ConfigError> {
    list.get(name).ok_or_else(|| {
        let known = match nearest(name, list.keys().copied()) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None => format!("known are {}", list.keys().copied().collect::<Vec<_>>().join(", ")),
        };
        ConfigError::new("", format!("there is no {what} of type \"{name}\"; {known}"))
    })
}
