//! What outlives a connection: streams and their filters, and which message goes to which stream.

use std::collections::{BTreeMap, HashSet};
use std::hash::{BuildHasher as _, Hasher as _};
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::Filter;
use super::inbox::{Delivery, Inbox, Message};
use super::packet::Publish;
use crate::connection::Health;
use crate::error::ConnectorError;

/// Retained messages follow a subscription's acknowledgement within this time.
const RETAINED_WITHIN: Duration = Duration::from_secs(5);
/// How long after a connection a stream may come for what the broker has kept for it. Until then the broker waits to be told of
/// those messages, and may hold others back.
const CLAIM_WITHIN: Duration = Duration::from_secs(5);

/// A stream that wants messages.
pub struct Stream {
    /// Names it.
    pub id: u64,
    /// Its filters.
    pub filters: Vec<Filter>,
    /// The QoS that it wants.
    pub qos: u8,
    /// Where its messages go.
    pub inbox: Arc<Inbox>,
    /// Told about the connection.
    pub health: Health,
    retained: Retained,
    /// Messages of what is being read.
    batch: Vec<Message>,
}

/// Does a stream still expect what the broker had retained? A broker sends that on each subscribe, also to a filter that
/// another stream had subscribed to long ago.
#[derive(Clone, Copy, Debug)]
enum Retained {
    /// Until the subscription is acknowledged, and a moment longer.
    Awaited,
    Until(Instant),
}

impl Stream {
    /// A stream that has not been subscribed yet.
    pub fn new(id: u64, filters: Vec<Filter>, qos: u8, inbox: Arc<Inbox>, health: Health) -> Self {
        Stream { id, filters, qos, inbox, health, retained: Retained::Awaited, batch: Vec::new() }
    }

    fn wants_retained(&self) -> bool {
        match self.retained {
            Retained::Awaited => true,
            Retained::Until(until) => Instant::now() < until,
        }
    }
}

/// A filter that the broker knows.
#[derive(Debug)]
pub struct Subscribed {
    /// Marks its messages (version 5).
    pub id: u32,
    /// The highest that a stream wants.
    pub qos: u8,
}

/// What outlives a connection.
#[derive(Default)]
pub struct Session {
    /// In order of arrival.
    pub streams: Vec<Stream>,
    /// By the text that the broker gets.
    pub subscribed: BTreeMap<String, Subscribed>,
    last_pkid: u16,
    /// QoS 2 messages that were taken, but not yet released by the broker.
    pub received: HashSet<u16>,
    /// Number of the connection.
    pub epoch: u64,
    /// Messages that the broker had kept and no stream wants yet: the stream that they are for may come later.
    unclaimed: Vec<Unclaimed>,
    /// Until when it may come.
    claim_until: Option<Instant>,
    /// Streams of the last topic, which is most often the next one too: their place and the subscription by which they get it.
    topic: Bytes,
    matching: Vec<(usize, u32)>,
}

/// A message that waits for its stream. The broker sends it again on the next connection.
#[derive(Debug, PartialEq, Eq)]
pub struct Unclaimed {
    topic: Bytes,
    /// 1 or 2.
    pub qos: u8,
    /// Its packet.
    pub pkid: u16,
}

/// What is to be done with a message that was given to the streams.
#[derive(Debug, PartialEq, Eq)]
pub enum Dispatched {
    /// The streams will acknowledge it.
    Taken,
    /// Nobody wanted it: it is to be acknowledged now.
    Unwanted,
    /// Nobody wants it yet.
    Unclaimed,
}

impl Session {
    /// A packet identifier that none of `used` has.
    pub fn next_pkid(&mut self, is_used: impl Fn(u16) -> bool) -> u16 {
        loop {
            self.last_pkid = self.last_pkid.checked_add(1).unwrap_or(1);
            if !is_used(self.last_pkid) {
                return self.last_pkid;
            }
        }
    }

    /// Adds a stream and returns the filters to subscribe to: all of its own, since the broker is to send what it has retained.
    pub fn add(&mut self, stream: Stream) -> Vec<String> {
        let mut filters = Vec::new();
        for Filter { text, .. } in &stream.filters {
            let id = subscription_id(text, |id| self.subscribed.values().any(|other| other.id == id));
            let subscribed = self.subscribed.entry(text.clone()).or_insert(Subscribed { id, qos: 0 });
            subscribed.qos = subscribed.qos.max(stream.qos);
            filters.push(text.clone());
        }
        self.streams.push(stream);
        self.topic.clear();
        filters
    }

    /// Removes a stream and returns the filters that nobody wants any more.
    pub fn remove(&mut self, id: u64, clean: bool) -> Vec<String> {
        let Some(place) = self.streams.iter().position(|stream| stream.id == id) else { return Vec::new() };
        let stream = self.streams.remove(place);
        stream.inbox.close(clean);
        self.topic.clear();
        let mut gone = Vec::new();
        for Filter { text, .. } in stream.filters {
            let is_wanted = self.streams.iter().any(|other| other.filters.iter().any(|filter| filter.text == text));
            if !is_wanted && self.subscribed.remove(&text).is_some() {
                gone.push(text);
            }
        }
        gone
    }

    /// On a new connection, streams get what is retained once more unless the broker still had the session.
    pub fn begin(&mut self, session_present: bool) {
        self.epoch += 1;
        self.unclaimed.clear();
        self.claim_until = session_present.then(|| Instant::now() + CLAIM_WITHIN);
        if session_present {
            return;
        }
        self.received.clear();
        for stream in &mut self.streams {
            stream.retained = Retained::Awaited;
        }
    }

    /// The broker's answer to the subscribe for `filter`.
    pub fn subscribe_answered(&mut self, filter: &str, code: u8, reason: Option<&str>, broker: &str) {
        for stream in &mut self.streams {
            if !stream.filters.iter().any(|own| own.text == filter) {
                continue;
            }
            if code >= 0x80 {
                let reason = reason.map_or_else(String::new, |reason| format!(" ({reason})"));
                let message = format!("{broker} refuses the subscription to {filter}{reason}");
                stream.health.down(&message);
                stream.inbox.fail(ConnectorError::user(message));
            } else if let Retained::Awaited = stream.retained {
                stream.retained = Retained::Until(Instant::now() + RETAINED_WITHIN);
            }
        }
    }

    /// Gives a message to the streams that it is for; they get it with [`hand_over`](Self::hand_over).
    pub fn dispatch(&mut self, publish: Publish) -> Dispatched {
        if self.topic != publish.topic || publish.topic.is_empty() {
            self.match_topic(&publish.topic);
        }
        let ids = publish.properties.as_deref().map_or(&[][..], |properties| &properties.subscription_ids);
        let is_for = |stream: &Stream, id: u32| {
            (ids.is_empty() || ids.contains(&id)) && (!publish.retain || stream.wants_retained())
        };
        let mut n_streams = 0;
        for (place, id) in &self.matching {
            n_streams += u32::from(self.streams.get(*place).is_some_and(|stream| is_for(stream, *id)));
        }
        if n_streams == 0 {
            let Publish { topic, qos: qos @ 1.., pkid, .. } = publish else { return Dispatched::Unwanted };
            if self.claim_until.is_none_or(|until| Instant::now() >= until) {
                return Dispatched::Unwanted;
            }
            // A copy: the message would keep the block alive that it was read into.
            self.unclaimed.push(Unclaimed { topic: Bytes::copy_from_slice(&topic), qos, pkid });
            return Dispatched::Unclaimed;
        }
        let delivery = (publish.qos > 0).then(|| {
            let (pkid, qos, epoch) = (publish.pkid, publish.qos, self.epoch);
            Arc::new(Delivery { pkid, qos, epoch, n_left: AtomicU32::new(n_streams) })
        });
        let has_user = publish.properties.as_deref().is_some_and(|properties| !properties.user.is_empty());
        let properties = has_user.then(|| Arc::new(publish.properties.as_deref().cloned().unwrap_or_default()));
        for (place, id) in &self.matching {
            if let Some(stream) = self.streams.get_mut(*place)
                && is_for(stream, *id)
            {
                stream.batch.push(Message {
                    topic: publish.topic.clone(),
                    payload: publish.payload.clone(),
                    qos: publish.qos,
                    dup: publish.dup,
                    pkid: publish.pkid,
                    properties: properties.clone(),
                    delivery: delivery.clone(),
                });
            }
        }
        Dispatched::Taken
    }

    /// True if messages wait for one of these filters.
    pub fn is_awaited(&self, filters: &[Filter]) -> bool {
        self.unclaimed.iter().any(|message| {
            let topic = String::from_utf8_lossy(&message.topic);
            filters.iter().any(|filter| filter.topics.matches(&topic))
        })
    }

    /// When the messages that wait for a stream have waited long enough, if there are any.
    pub fn claim_until(&self) -> Option<Instant> {
        self.claim_until.filter(|_| !self.unclaimed.is_empty())
    }

    /// The messages that no stream has come for.
    pub fn take_unclaimed(&mut self) -> Vec<Unclaimed> {
        std::mem::take(&mut self.unclaimed)
    }

    /// Finds the streams of a topic. A stream with several filters that match gets the message by the first one.
    #[cold]
    fn match_topic(&mut self, topic: &Bytes) {
        self.topic = topic.clone();
        self.matching.clear();
        let text = String::from_utf8_lossy(topic);
        for (place, stream) in self.streams.iter().enumerate() {
            if let Some(filter) = stream.filters.iter().find(|filter| filter.topics.matches(&text)) {
                let id = self.subscribed.get(&filter.text).map_or(0, |subscribed| subscribed.id);
                self.matching.push((place, id));
            }
        }
    }

    /// Puts what was dispatched into the inboxes.
    pub fn hand_over(&mut self) {
        for stream in &mut self.streams {
            if !stream.batch.is_empty() {
                stream.inbox.push(&mut stream.batch);
            }
        }
    }
}

/// The mark of a filter's messages. Follows from the filter: a broker that keeps a session sends what it has kept with the mark
/// of the subscription as it was then, in whatever order streams came in that process.
fn subscription_id(filter: &str, is_taken: impl Fn(u32) -> bool) -> u32 {
    /// What the protocol has room for.
    const MAX: u64 = 268_435_455;
    let mut hasher = foldhash::quality::FixedState::with_seed(0).build_hasher();
    hasher.write(filter.as_bytes());
    let hash = hasher.finish();
    let ids = (0..=MAX).map(|step| u32::try_from(hash.wrapping_add(step) % MAX + 1).unwrap_or(1));
    let mut free = ids.filter(|id| !is_taken(*id));
    free.next().unwrap_or(1)
}

/// May a topic match both filters?
pub fn overlap(a: &str, b: &str) -> bool {
    let (mut a, mut b) = (a.split('/'), b.split('/'));
    loop {
        match (a.next(), b.next()) {
            (None, None) => return true,
            (Some("#"), _) | (_, Some("#")) => return true,
            (Some(_), None) | (None, Some(_)) => return false,
            (Some(a), Some(b)) if a != b && a != "+" && b != "+" => return false,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::packet::Properties;
    use super::*;

    fn stream(id: u64, filters: &[&str]) -> Stream {
        let filters = filters.iter().map(|filter| Filter::parse(filter).unwrap()).collect();
        Stream::new(id, filters, 1, Arc::new(Inbox::new(Arc::default())), Health::default())
    }

    fn publish(topic: &str, ids: &[u32]) -> Publish {
        let properties = Properties { subscription_ids: ids.to_vec(), ..Properties::default() };
        Publish {
            topic: Bytes::copy_from_slice(topic.as_bytes()),
            qos: 1,
            pkid: 1,
            properties: Some(Box::new(properties)),
            ..Publish::default()
        }
    }

    /// How many messages each stream gets.
    fn counts(session: &mut Session, publishes: Vec<Publish>) -> Vec<usize> {
        for publish in publishes {
            session.dispatch(publish);
        }
        session.hand_over();
        session
            .streams
            .iter()
            .map(|stream| stream.inbox.try_take().unwrap().map_or(0, |messages| messages.len()))
            .collect()
    }

    #[test]
    fn each_stream_gets_a_message_once() {
        let mut session = Session::default();
        session.add(stream(1, &["a/+"]));
        session.add(stream(2, &["a/b", "a/#"]));
        session.add(stream(3, &["a/+"]));
        session.add(stream(4, &["c"]));
        // One copy for all, as 3.1.1 brokers do, or with all identifiers.
        let ids = ["a/+", "a/b", "a/#"].map(|filter| session.subscribed[filter].id);
        assert_eq!(counts(&mut session, vec![publish("a/b", &[])]), [1, 1, 1, 0]);
        assert_eq!(counts(&mut session, vec![publish("a/b", &ids)]), [1, 1, 1, 0]);
        // A copy per subscription.
        let copies = ids.map(|id| publish("a/b", &[id])).into();
        assert_eq!(counts(&mut session, copies), [1, 1, 1, 0]);
        assert_eq!(counts(&mut session, vec![publish("a/b/c", &[ids[2]])]), [0, 1, 0, 0]);
        assert_eq!(session.dispatch(publish("other", &[])), Dispatched::Unwanted);
    }

    /// What a broker kept for a stream is the stream's, whichever came first this time.
    #[test]
    fn marks_of_filters_stay_the_same() {
        let (mut before, mut after) = (Session::default(), Session::default());
        before.add(stream(1, &["a"]));
        before.add(stream(2, &["b"]));
        after.add(stream(1, &["b"]));
        after.remove(1, false);
        after.add(stream(2, &["b"]));
        after.add(stream(3, &["a"]));
        for filter in ["a", "b"] {
            assert_eq!(after.subscribed[filter].id, before.subscribed[filter].id);
            assert!((1..=268_435_455).contains(&after.subscribed[filter].id));
        }
        let first = subscription_id("a", |_| false);
        assert_eq!(subscription_id("a", |id| id == first), first % 268_435_455 + 1);
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_session_kept_waits_for_its_stream() {
        let mut session = Session::default();
        session.add(stream(1, &["a"]));
        let filters = ["b/+"].map(|filter| Filter::parse(filter).unwrap());
        session.begin(false);
        assert_eq!(session.dispatch(publish("b/c", &[])), Dispatched::Unwanted, "a new session has kept nothing");
        session.begin(true);
        assert_eq!(session.claim_until(), None);
        assert_eq!(session.dispatch(Publish { qos: 0, ..publish("b/c", &[]) }), Dispatched::Unwanted);
        assert_eq!(session.dispatch(publish("b/c", &[])), Dispatched::Unclaimed);
        assert!(session.is_awaited(&filters) && !session.is_awaited(&session.streams[0].filters));
        tokio::time::sleep_until(session.claim_until().unwrap()).await;
        assert_eq!(session.dispatch(publish("b/c", &[])), Dispatched::Unwanted);
        assert_eq!(session.take_unclaimed().len(), 1);
        assert!(!session.is_awaited(&filters) && session.claim_until().is_none());
    }

    #[test]
    fn filters_live_as_long_as_a_stream_wants_them() {
        let mut session = Session::default();
        assert_eq!(session.add(stream(1, &["a", "b"])), ["a", "b"]);
        assert_eq!(session.add(stream(2, &["b"])), ["b"]);
        assert_eq!(session.remove(1, true), ["a"]);
        assert_eq!(session.remove(1, true), [""; 0]);
        assert_eq!(counts(&mut session, vec![publish("b", &[]), publish("a", &[])]), [1]);
        assert_eq!(session.remove(2, true), ["b"]);
    }

    #[test]
    fn retained_messages_go_to_those_who_just_subscribed() {
        let mut session = Session::default();
        let retained = || Publish { retain: true, ..publish("a", &[]) };
        session.add(stream(1, &["a"]));
        session.subscribe_answered("a", 1, None, "b");
        session.streams[0].retained = Retained::Until(Instant::now());
        session.add(stream(2, &["a"]));
        assert_eq!(counts(&mut session, vec![retained(), publish("a", &[])]), [1, 2]);
        session.begin(true);
        assert_eq!(counts(&mut session, vec![retained()]), [0, 1]);
        session.begin(false);
        assert_eq!(counts(&mut session, vec![retained()]), [1, 1]);
    }

    #[test]
    fn overlaps() {
        for (a, b, expected) in [
            ("a", "a", true),
            ("a", "b", false),
            ("a/+", "a/b", true),
            ("a/+", "+/b", true),
            ("a/+", "a/b/c", false),
            ("a/#", "a", true),
            ("a/#", "b/#", false),
            ("#", "b/+", true),
            ("+/c", "a/b", false),
        ] {
            assert_eq!((overlap(a, b), overlap(b, a)), (expected, expected), "{a} {b}");
        }
    }
}
