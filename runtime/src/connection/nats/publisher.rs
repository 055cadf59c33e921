//! Messages to a server: a task writes them, and answers the server's pings while there are none.

use tokio::sync::{mpsc, oneshot};

use super::link::Link;
use super::{Settings, protocol};
use crate::connection::{ConnectorContext, Health};
use crate::error::ConnectorError;

/// A message to be.
#[derive(Clone, Debug)]
pub struct Publish {
    /// Where to.
    pub subject: String,
    /// Names and values.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub payload: bytes::Bytes,
}

type Order = (Vec<u8>, oneshot::Sender<Result<(), ConnectorError>>);

/// A connection to publish with. Ends when it is dropped, and when it is lost: then `publish` says so.
pub struct Publisher {
    address: String,
    orders: mpsc::Sender<Order>,
    max_payload: usize,
}

impl Publisher {
    /// Connects.
    ///
    /// # Errors
    /// When no server lets us in.
    pub async fn open(settings: &Settings, ctx: &ConnectorContext) -> Result<Self, ConnectorError> {
        let link = Link::open(settings).await?;
        let max_payload = link.max_payload();
        let (orders, requested) = mpsc::channel(1);
        let (health, tasks) = (ctx.health.clone(), ctx.tasks.clone());
        health.connecting();
        health.up();
        ctx.tasks.spawn(async move {
            tokio::select! {
                () = tasks.stopped() => {}
                () = run(link, requested, health) => {}
            }
        });
        Ok(Publisher { address: settings.address(), orders, max_payload })
    }

    /// The largest body that the server takes.
    pub fn max_payload(&self) -> usize {
        self.max_payload
    }

    /// Publishes in order and waits until the server has all.
    ///
    /// # Errors
    /// When the connection is lost first: then some may have gone through.
    pub async fn publish(&self, messages: &[Publish]) -> Result<(), ConnectorError> {
        let mut operations = Vec::new();
        for Publish { subject, headers, payload } in messages {
            protocol::publish(subject, headers, payload, &mut operations);
        }
        let lost = || ConnectorError::external(format!("the connection to {} is lost", self.address));
        let (done, answer) = oneshot::channel();
        self.orders.send((operations, done)).await.map_err(|_| lost())?;
        answer.await.map_err(|_| lost())?
    }
}

/// Serves until the publisher is dropped or the connection is lost.
async fn run(mut link: Link, mut requested: mpsc::Receiver<Order>, health: Health) {
    loop {
        let order = tokio::select! {
            biased;
            order = requested.recv() => order,
            outcome = link.next() => match outcome {
                // Nothing is subscribed to.
                Ok(_) => continue,
                Err(error) => return health.down(&error.message),
            },
        };
        let Some((operations, done)) = order else { return };
        link.send(&operations);
        let outcome = link.confirm().await;
        let is_lost = outcome.as_ref().err().map(|error| error.message.clone());
        // Whoever asked may have gone.
        let _ = done.send(outcome);
        if let Some(message) = is_lost {
            return health.down(&message);
        }
    }
}
