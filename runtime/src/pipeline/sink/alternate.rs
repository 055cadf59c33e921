//! Where results go while a far side does not answer: another sink, with messages and rows as they are.

use std::time::Duration;

use tokio::time::Instant;

use super::queue::Item;
use super::{SinkDriver, SinkParts};
use crate::definition::SinkDef;
use crate::error::ConfigError;
use crate::pipeline::build::context;
use crate::pipeline::channel::Sender;
use crate::pipeline::metrics::SinkMetrics;
use crate::pipeline::outlet::ToSink;
use crate::sink::{Props, SinkType, Takes};

use std::sync::Arc;

/// Tries before results go to the other sink.
const ATTEMPTS: u32 = 3;

/// The other sink.
pub(super) struct Alternate {
    pub(super) driver: SinkDriver,
    /// What its messages get in place of the first sink's: destinations and headers.
    pub(super) props: Option<Props>,
}

/// Makes it. Its options may not depend on the rows: those are not there any more.
pub(super) fn build(def: &SinkDef, first: &SinkType, parts: SinkParts<'_>) -> Result<Alternate, ConfigError> {
    let build = || {
        let sink_type = Arc::clone(parts.registry.sink(&def.connector)?);
        if sink_type.takes == Takes::Rows && first.takes == Takes::Messages {
            let message = format!("`{}` takes rows, but `{}` makes messages of them", def.connector, first.name);
            return Err(ConfigError::new("", message));
        }
        let clock = Arc::clone(&parts.ctx.clock);
        let metrics = Arc::new(SinkMetrics::beside(&parts.metrics, "alternate", &def.connector, clock));
        let ctx = context(&parts.ctx, format!("{}/{}", parts.rule, metrics.sink), &metrics.health);
        let driver = SinkDriver::of_type(&sink_type, def, SinkParts { ctx, metrics, ..parts })?;
        let props = driver.shaping.shaper.fixed_props();
        if sink_type.takes == Takes::Messages && props.is_none() && sink_type.name != first.name {
            return Err(ConfigError::new(
                def.connector.as_str(),
                "its options can't hold {{...}}: it gets messages, not rows",
            ));
        }
        if first.takes == Takes::Rows && sink_type.takes == Takes::Messages {
            return Err(ConfigError::new(
                "",
                format!("`{}` takes messages, but `{}` gets rows", def.connector, first.name),
            ));
        }
        Ok(Alternate { driver, props })
    };
    build().map_err(|error: ConfigError| error.below("alternate"))
}

/// The way to it, and whether results go there now.
pub(super) struct Switch {
    sender: Sender<ToSink>,
    props: Option<Props>,
    /// Results go there until then; after that one of them tries the first sink.
    open_until: Option<Instant>,
}

impl Switch {
    pub(super) fn new(sender: Sender<ToSink>, props: Option<Props>) -> Self {
        Switch { sender, props, open_until: None }
    }

    /// The first sink is left alone.
    pub(super) fn is_open(&self) -> bool {
        self.open_until.is_some_and(|until| Instant::now() < until)
    }

    /// The first sink is to be tried again.
    pub(super) fn is_half_open(&self) -> bool {
        self.open_until.is_some() && !self.is_open()
    }

    pub(super) fn open(&mut self, pause: Duration) {
        self.open_until = Some(Instant::now() + pause);
    }

    pub(super) fn close(&mut self) {
        self.open_until = None;
    }

    /// True if the first sink has failed often enough.
    pub(super) fn gives_up(&self, n_attempts: u32, max_attempts: Option<u32>) -> bool {
        self.open_until.is_some() || n_attempts >= max_attempts.unwrap_or(ATTEMPTS)
    }

    /// Gives items to the other sink, and waits for room; false if it has ended.
    pub(super) async fn send(&self, mut items: Vec<Item>) -> bool {
        if let Some(props) = &self.props {
            for item in &mut items {
                if let Item::Message(message) = item {
                    message.props = props.clone();
                }
            }
        }
        self.sender.send(ToSink::Shaped(items)).await.is_ok()
    }
}
