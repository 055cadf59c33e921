//! Answers a lookup join's requests: one call to the table per batch. No cache, retry or timeout yet.

use std::sync::Arc;

use sluice_sql::operators::{LookupAnswer, LookupKey};
use sluice_sql::plan::LookupPlan;

use crate::connection::ConnectorContext;
use crate::definition::{LookupTableDef, OnLookupError};
use crate::error::ConfigError;
use crate::lookup::{LookupArgs, LookupSource};
use crate::pipeline::metrics::LookupMetrics;
use crate::registry::Registry;

/// Asks one lookup table for one join.
pub struct LookupDriver {
    source: Arc<dyn LookupSource>,
    on_error: OnLookupError,
    ctx: ConnectorContext,
    metrics: Arc<LookupMetrics>,
}

impl LookupDriver {
    /// Checks the table's options; no I/O.
    ///
    /// # Errors
    /// Every option that is wrong.
    pub fn new(
        def: &LookupTableDef,
        plan: &LookupPlan,
        registry: &Registry,
        ctx: ConnectorContext,
        metrics: Arc<LookupMetrics>,
    ) -> Result<Self, ConfigError> {
        let source = (registry.lookup(&def.connector)?.build)(&LookupArgs {
            table: &def.name,
            datasource: &def.datasource,
            key: def.key.as_deref(),
            fields: &def.fields,
            options: &def.options,
            key_columns: &plan.key_columns,
            columns: &plan.columns,
        })?;
        Ok(LookupDriver { source, on_error: def.on_error, ctx, metrics })
    }

    /// The answer for each key, in their order.
    pub async fn answer(&self, keys: &[LookupKey]) -> Vec<LookupAnswer> {
        self.metrics.keys.add(keys.len() as u64);
        match self.source.lookup(keys).await {
            Ok(found) => {
                self.ctx.health.up();
                found.into_iter().map(|rows| LookupAnswer::Rows(Arc::new(rows))).collect()
            }
            Err(error) => {
                self.ctx.health.down(&error.message);
                self.metrics.errors.report(&error);
                self.metrics.keys_failed.add(keys.len() as u64);
                let answer = match self.on_error {
                    OnLookupError::Null => LookupAnswer::Null,
                    OnLookupError::Drop | OnLookupError::Retry => LookupAnswer::Drop,
                };
                vec![answer; keys.len()]
            }
        }
    }
}
