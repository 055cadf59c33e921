//! A source that gives prepared payloads as fast as they are taken, and a sink that notes when rows arrive.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use schemars::JsonSchema;
use serde::Deserialize;
use sluice::connection::ConnectorContext;
use sluice::error::{ConfigError, ConnectorError};
use sluice::sink::{Output, Sink, SinkArgs, SinkError, SinkType, Takes};
use sluice::source::{Gives, Ingest, Items, Payload, Source, SourceArgs, SourceContext, SourceType};
use sluice_sql::Batch;

/// Payloads that are handed over at once.
const BATCH: usize = 256;

/// The prepared payloads: what `replay` gives. One set at a time.
static PREPARED: Mutex<Option<Arc<Vec<Bytes>>>> = Mutex::new(None);

/// Called with every batch of rows that reaches `probe`.
pub type Probe = Arc<dyn Fn(&Batch) + Send + Sync>;

static PROBE: Mutex<Option<Probe>> = Mutex::new(None);

/// Prepares what `replay` gives.
pub fn prepare(payloads: &Arc<Vec<Bytes>>) {
    *PREPARED.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(payloads));
}

/// Says what `probe` does.
pub fn set_probe(probe: Probe) {
    *PROBE.lock().unwrap_or_else(PoisonError::into_inner) = Some(probe);
}

/// The source `replay`.
pub const REPLAY: SourceType = SourceType {
    name: "replay",
    docs: "Prepared payloads, again and again, so many in all.",
    schema: || schemars::schema_for!(ReplayOptions),
    gives: Gives::Payloads,
    build: |args: &SourceArgs<'_>| {
        let options: ReplayOptions = args.options.parse()?;
        Ok(Box::new(Replay { payloads: Arc::default(), next: 0, n_left: options.messages }))
    },
};

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ReplayOptions {
    /// How many.
    messages: usize,
}

struct Replay {
    payloads: Arc<Vec<Bytes>>,
    next: usize,
    n_left: usize,
}

#[async_trait]
impl Source for Replay {
    async fn connect(&mut self, _ctx: &SourceContext) -> Result<(), ConnectorError> {
        let prepared = PREPARED.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.payloads = prepared.ok_or_else(|| ConnectorError::user("nothing is prepared"))?;
        Ok(())
    }

    async fn next(&mut self) -> Result<Option<Ingest>, ConnectorError> {
        if self.n_left == 0 {
            return Ok(None);
        }
        let n = BATCH.min(self.n_left);
        let mut payloads = Vec::with_capacity(n);
        for _ in 0..n {
            if self.next == self.payloads.len() {
                self.next = 0;
            }
            payloads.push(Payload { bytes: self.payloads[self.next].clone(), meta: None });
            self.next += 1;
        }
        self.n_left -= n;
        Ok(Some(Ingest { items: Items::Payloads(payloads), ack: None }))
    }
}

/// The sink `probe`.
pub const PROBE_SINK: SinkType = SinkType {
    name: "probe",
    docs: "Calls back with every batch.",
    schema: || schemars::schema_for!(NoOptions),
    takes: Takes::Rows,
    templates: &[],
    build: |_: &SinkArgs<'_>| -> Result<Box<dyn Sink>, ConfigError> { Ok(Box::new(ProbeSink(None))) },
};

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct NoOptions {}

struct ProbeSink(Option<Probe>);

#[async_trait]
impl Sink for ProbeSink {
    async fn connect(&mut self, ctx: &ConnectorContext) -> Result<(), ConnectorError> {
        ctx.health.up();
        self.0 = PROBE.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Ok(())
    }

    async fn write(&mut self, output: Output<'_>) -> Result<(), SinkError> {
        if let (Output::Rows(batches), Some(probe)) = (output, &self.0) {
            batches.iter().for_each(|batch| probe(batch));
        }
        Ok(())
    }
}
