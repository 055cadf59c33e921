//! The in-process bus: rows that one rule writes and others read, by topic, never encoded.
//!
//! A channel between each publisher and subscriber is bounded and blocks: a full subscriber holds its publishers back, and
//! nothing is dropped. What is published while nobody subscribes is gone, as on a broker without retained messages. Rules
//! that feed each other in a ring over full channels hold each other back for good; that is the rules' mistake.

use std::sync::{Arc, Mutex, PoisonError};

use sluice_sql::{Object, Value};
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::Connections;
use super::topic::TopicFilter;
use crate::definition::{SinkDef, StreamDef};

/// What a row means to a table that is kept from it. Plain streams take all kinds alike.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RowKind {
    /// A new row.
    Insert,
    /// Takes the place of the row with its key.
    Update,
    /// A new row, or takes the place of the row with its key.
    #[default]
    Upsert,
    /// Removes the row with its key.
    Delete,
}

impl RowKind {
    /// The kind called `name`: `insert`, `update`, `upsert` or `delete`.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "insert" => Some(RowKind::Insert),
            "update" => Some(RowKind::Update),
            "upsert" => Some(RowKind::Upsert),
            "delete" => Some(RowKind::Delete),
            _ => None,
        }
    }

    /// The kind's name.
    pub fn as_str(self) -> &'static str {
        match self {
            RowKind::Insert => "insert",
            RowKind::Update => "update",
            RowKind::Upsert => "upsert",
            RowKind::Delete => "delete",
        }
    }
}

/// One row on the bus.
#[derive(Clone, Debug)]
pub struct MemoryRow {
    /// Columns.
    pub object: Arc<Object>,
    /// What it does to a table kept from it.
    pub kind: RowKind,
    /// The key that the publisher gave it (`keyField`); tables with a key column of their own read that instead.
    pub key: Option<Value>,
}

impl From<Arc<Object>> for MemoryRow {
    fn from(object: Arc<Object>) -> Self {
        MemoryRow { object, kind: RowKind::default(), key: None }
    }
}

/// Rows that were published together.
#[derive(Clone, Debug)]
pub struct MemoryMessage {
    /// The topic that they were published to, no wildcards.
    pub topic: Arc<str>,
    /// At least one, in order.
    pub rows: Arc<[MemoryRow]>,
    /// Dropped when the reader has the rows safe; then the writer need not keep them.
    pub held: Held,
}

/// Kept by everybody who still answers for rows on the bus.
#[derive(Clone, Debug, Default)]
pub struct Held {
    _answers: Option<Arc<DropGuard>>,
}

impl Held {
    /// For rows that are to be followed, and what is cancelled when nobody has to answer for them any more.
    pub fn new() -> (Self, CancellationToken) {
        let token = CancellationToken::new();
        (Held { _answers: Some(Arc::new(token.clone().drop_guard())) }, token)
    }
}

/// The bus. One per process: [`MemoryBus::of`].
#[derive(Debug, Default)]
pub struct MemoryBus {
    subscribers: Mutex<Vec<Subscriber>>,
}

#[derive(Clone, Debug)]
struct Subscriber {
    filter: TopicFilter,
    messages: mpsc::Sender<MemoryMessage>,
}

impl MemoryBus {
    /// The process's bus.
    pub fn of(connections: &Connections) -> Arc<Self> {
        connections.shared("", MemoryBus::default)
    }

    /// Gives `rows` to every subscriber of `topic`, waiting for room where a channel is full. Returns how many subscribers
    /// took them. Messages of one publisher arrive in order. If the future is dropped, some subscribers may have the rows
    /// and others not.
    pub async fn publish(&self, topic: &str, rows: Vec<MemoryRow>) -> usize {
        self.publish_held(topic, rows, Held::default()).await
    }

    /// As [`publish`](Self::publish); readers drop `held` when they have the rows safe.
    pub async fn publish_held(&self, topic: &str, rows: Vec<MemoryRow>, held: Held) -> usize {
        if rows.is_empty() {
            return 0;
        }
        let subscribers: Vec<_> = {
            let mut subscribers = self.subscribers.lock().unwrap_or_else(PoisonError::into_inner);
            subscribers.retain(|subscriber| !subscriber.messages.is_closed());
            let matching = subscribers.iter().filter(|subscriber| subscriber.filter.matches(topic));
            matching.map(|subscriber| subscriber.messages.clone()).collect()
        };
        let message = MemoryMessage { topic: topic.into(), rows: rows.into(), held };
        let mut n_taken = 0;
        for subscriber in subscribers {
            // An error means that the subscriber has left since the list was read.
            n_taken += usize::from(subscriber.send(message.clone()).await.is_ok());
        }
        n_taken
    }

    /// Subscribes from now on. `capacity` is in messages, at least 1.
    pub fn subscribe(&self, filter: TopicFilter, capacity: usize) -> MemorySubscription {
        let (sender, messages) = mpsc::channel(capacity.max(1));
        let mut subscribers = self.subscribers.lock().unwrap_or_else(PoisonError::into_inner);
        subscribers.retain(|subscriber| !subscriber.messages.is_closed());
        subscribers.push(Subscriber { filter, messages: sender });
        MemorySubscription { messages }
    }
}

/// What a sink writes to on the bus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WrittenTopic {
    /// One topic.
    Fixed(String),
    /// Whatever a template gives.
    Any,
}

impl WrittenTopic {
    /// True if a reader of `filter` may get what is written.
    pub fn reaches(&self, filter: &TopicFilter) -> bool {
        match self {
            WrittenTopic::Fixed(topic) => filter.matches(topic),
            WrittenTopic::Any => true,
        }
    }
}

/// The topic that a sink writes to, if it writes to the bus.
pub fn written_topic(sink: &SinkDef) -> Option<WrittenTopic> {
    if sink.connector != "memory" {
        return None;
    }
    let topic = sink.options.get("topic").and_then(serde_json::Value::as_str).unwrap_or_default();
    Some(if topic.contains("{{") { WrittenTopic::Any } else { WrittenTopic::Fixed(topic.to_owned()) })
}

/// The topics that a stream reads, if it reads from the bus.
pub fn read_topics(stream: &StreamDef) -> Option<TopicFilter> {
    (stream.connector == "memory").then(|| TopicFilter::parse(&stream.datasource).ok()).flatten()
}

/// A subscriber's end; dropping it unsubscribes. Does not keep the bus alive by itself: hold the bus too.
#[derive(Debug)]
pub struct MemorySubscription {
    messages: mpsc::Receiver<MemoryMessage>,
}

impl MemorySubscription {
    /// The next message. Cancel-safe. `None` only when the bus is gone.
    pub async fn next(&mut self) -> Option<MemoryMessage> {
        self.messages.recv().await
    }

    /// The next message if it is there already.
    pub fn try_next(&mut self) -> Option<MemoryMessage> {
        self.messages.try_recv().ok()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn row(number: i64) -> MemoryRow {
        Arc::new(Object::from_iter([("n", Value::Int(number))])).into()
    }

    fn numbers(message: &MemoryMessage) -> Vec<i64> {
        let number = |row: &MemoryRow| match row.object.get("n") {
            Some(Value::Int(number)) => *number,
            other => panic!("not a number: {other:?}"),
        };
        message.rows.iter().map(number).collect()
    }

    fn filter(text: &str) -> TopicFilter {
        TopicFilter::parse(text).unwrap()
    }

    #[tokio::test]
    async fn every_matching_subscriber_gets_every_row_in_order() {
        let connections = Connections::default();
        let bus = MemoryBus::of(&connections);
        let mut one = bus.subscribe(filter("a/+"), 8);
        let mut all = MemoryBus::of(&connections).subscribe(filter("a/#"), 8);
        assert_eq!(bus.publish("a/b", vec![row(1), row(2)]).await, 2);
        assert_eq!(bus.publish("a/b/c", vec![row(3)]).await, 1);
        assert_eq!(bus.publish("a", vec![row(4)]).await, 1);
        assert_eq!(bus.publish("elsewhere", vec![row(5)]).await, 0);
        let message = one.try_next().unwrap();
        assert_eq!((&*message.topic, numbers(&message)), ("a/b", vec![1, 2]));
        assert!(one.try_next().is_none());
        for expected in [vec![1, 2], vec![3], vec![4]] {
            assert_eq!(numbers(&all.next().await.unwrap()), expected);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_subscriber_holds_the_publisher_back_and_loses_nothing() {
        let bus = MemoryBus::default();
        let mut subscription = bus.subscribe(filter("t"), 1);
        assert_eq!(bus.publish("t", vec![row(1)]).await, 1);
        let mut second = std::pin::pin!(bus.publish("t", vec![row(2)]));
        assert!(tokio::time::timeout(Duration::from_secs(60), &mut second).await.is_err());
        assert_eq!(numbers(&subscription.next().await.unwrap()), [1]);
        assert_eq!(second.await, 1);
        assert_eq!(numbers(&subscription.next().await.unwrap()), [2]);
    }

    #[tokio::test]
    async fn a_subscriber_that_leaves_frees_a_waiting_publisher() {
        let bus = MemoryBus::default();
        let subscription = bus.subscribe(filter("t"), 1);
        assert_eq!(bus.publish("t", vec![row(1)]).await, 1);
        let (n_taken, ()) = tokio::join!(bus.publish("t", vec![row(2)]), async { drop(subscription) });
        assert_eq!(n_taken, 0);
        assert_eq!(bus.publish("t", vec![row(3)]).await, 0);
    }

    #[test]
    fn row_kinds_by_name() {
        for kind in [RowKind::Insert, RowKind::Update, RowKind::Upsert, RowKind::Delete] {
            assert_eq!(RowKind::parse(kind.as_str()), Some(kind));
        }
        assert_eq!(RowKind::parse("remove"), None);
    }
}
