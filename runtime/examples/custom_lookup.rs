//! A lookup table of your own: implement `LookupSource`, list it in a registry, and join with it.
//!
//! `cargo run --package sluice-runtime --example custom_lookup` prints three rows.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;
use sluice::lookup::{Found, LookupArgs, LookupSource, LookupType};
use sluice::manifest::{self, load_text};
use sluice::pipeline::{Engine, Settings};
use sluice::{ConfigError, ConnectorError, Registry};
use sluice_sql::operators::LookupKey;
use sluice_sql::{Object, Row, Value};

/// What the registry lists: `TYPE="squares"`.
const SQUARES: LookupType = LookupType {
    name: "squares",
    docs: "Squares of whole numbers up to `max`, asked by the column `n`.",
    schema: || schemars::schema_for!(SquaresOptions),
    build,
    open: None,
};

/// Options, as a manifest gives them. Unknown names and wrong types are found for you.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct SquaresOptions {
    /// The largest number that is in the table.
    max: i64,
}

/// Checks what the rule wants of the table; no I/O here.
fn build(args: &LookupArgs<'_>) -> Result<Arc<dyn LookupSource>, ConfigError> {
    let SquaresOptions { max } = args.table.options.parse()?;
    if args.key_columns != ["n"] {
        return Err(ConfigError::new("", "squares are asked by the column n, and by nothing else"));
    }
    // Puts named values where the rule wants them.
    let slots = args.slots();
    let row = move |n: i64| -> Result<Row, String> {
        let columns = [("n", Value::Int(n)), ("square", n.checked_mul(n).map_or(Value::Null, Value::Int))];
        slots.row(Arc::new(Object::from_iter(columns)), 0, None)
    };
    Ok(Arc::new(Squares { max, row: Box::new(row) }))
}

struct Squares {
    max: i64,
    row: Box<dyn Fn(i64) -> Result<Row, String> + Send + Sync>,
}

#[async_trait]
impl LookupSource for Squares {
    // `connect` and `close` have nothing to do here. Retries, timeout, cache and metrics are the engine's.

    async fn lookup(&self, keys: &[LookupKey]) -> Result<Vec<Found>, ConnectorError> {
        let found = keys.iter().map(|key| match key.0.first() {
            Some(Value::Int(n)) if (0..=self.max).contains(n) => {
                (self.row)(*n).map(|row| vec![row]).map_err(ConnectorError::user)
            }
            _ => Ok(Vec::new()),
        });
        Ok(found.collect())
    }
}

/// A stream of four rows, the table, and a rule that joins them.
const MANIFESTS: &str = r#"
apiVersion: sluice.dev/v1alpha1
kind: Stream
metadata: {name: numbers}
spec:
  type: simulator
  options: {data: [{n: 2}, {n: 3}, {n: 99}, {n: 5}], loop: false, interval: 0}
---
apiVersion: sluice.dev/v1alpha1
kind: LookupTable
metadata: {name: squares}
spec:
  sql: CREATE TABLE squares () WITH (TYPE="squares", KIND="lookup")
  options: {max: 10}
---
apiVersion: sluice.dev/v1alpha1
kind: Rule
metadata: {name: squared}
spec:
  sql: SELECT numbers.n, square FROM numbers INNER JOIN squares ON numbers.n = squares.n
  sinks: [{stdout: {sendSingle: true}}]
"#;

/// An engine that knows the table and runs the rule.
fn run() -> Result<Engine> {
    let engine = Engine::new(Settings::new(Registry::builtin().with_lookup(SQUARES)));
    let manifests = load_text("example.yaml", MANIFESTS, &manifest::Settings::default());
    if let Some(diagnostic) = manifests.diagnostics.first() {
        bail!("{diagnostic}");
    }
    let report = engine.apply(&manifests.definitions);
    if let Some(refusal) = report.refused.first() {
        bail!("rule {}: {}", refusal.rule, refusal.message);
    }
    Ok(engine)
}

#[tokio::main]
async fn main() -> Result<()> {
    let engine = run()?;
    engine.finished().await;
    engine.stop(Duration::from_secs(1)).await;
    Ok(())
}

#[cfg(test)]
mod tests {
    #[tokio::test]
    async fn three_of_four_numbers_have_a_square() {
        let engine = super::run().unwrap();
        engine.finished().await;
        let status = engine.rule_status("squared").unwrap();
        assert_eq!((status.rows_in, status.rows_out), (4, 3), "{status:?}");
    }
}
