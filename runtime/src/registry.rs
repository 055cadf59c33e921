//! The connectors and formats that a process knows. A plain value that is passed in: no global map.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::format::FormatType;
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
        let mut registry = Registry::default();
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

    /// Adds a format, or replaces the one of that name.
    #[must_use]
    pub fn with_format(mut self, format: FormatType) -> Self {
        self.formats.insert(format.name, Arc::new(format));
        self
    }
}
