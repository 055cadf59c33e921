//! One source or sink by itself, driven as the pipeline drives it.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use serde_json::Value;
use sluice::connection::{Connections, ConnectorContext, Health, Tasks};
use sluice::sink::{Sink, SinkArgs};
use sluice::source::{Ingest, Items, Payload, Source, SourceArgs, SourceContext};
use sluice::time::SystemClock;
use sluice::{ConnectorError, Options, Registry};
use sluice_tests::wait;

/// The surroundings of a connector.
pub fn context() -> ConnectorContext {
    ConnectorContext {
        name: "test".into(),
        connections: Connections::default(),
        clock: Arc::new(SystemClock),
        tasks: Tasks::default(),
        health: Health::default(),
    }
}

/// A source that is not connected yet.
pub fn source(kind: &str, datasource: &str, options: Value) -> Box<dyn Source> {
    let options = Options::from(options);
    let args = SourceArgs { stream: "s", datasource, format: "json", options: &options };
    (Registry::builtin().source(kind).unwrap().build)(&args).unwrap()
}

/// Connects a source, with metadata wanted.
pub async fn connect(source: &mut dyn Source) -> Result<(), ConnectorError> {
    let context = SourceContext { connector: context(), wants_meta: Arc::new(AtomicBool::new(true)) };
    source.connect(&context).await
}

/// Reads until that many payloads have arrived.
pub async fn read(source: &mut dyn Source, n_messages: usize) -> Vec<Payload> {
    let mut payloads = Vec::new();
    while payloads.len() < n_messages {
        let next = tokio::time::timeout(wait::DEADLINE, source.next()).await.expect("messages in time");
        match next.unwrap() {
            Some(Ingest { items: Items::Payloads(more), .. }) => payloads.extend(more),
            other => panic!("no payloads: {other:?}"),
        }
    }
    payloads
}

/// A payload's metadata.
pub fn meta(payload: &Payload) -> Value {
    Value::from(&sluice_sql::Value::Object(payload.meta.clone().unwrap()))
}

/// A sink that is not connected yet.
pub fn sink(kind: &str, options: Value) -> Box<dyn Sink> {
    let options = Options::from(options);
    let args =
        SinkArgs { rule: "r", index: 0, output: &Arc::default(), options: &options, format: "json", compression: None };
    (Registry::builtin().sink(kind).unwrap().build)(&args).unwrap()
}
