//! One connection: reads, writes, acknowledges, pings, until it breaks.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::{Instant, MissedTickBehavior};

use super::Settings;
use super::client::{ClientTask, Command, Done, PublishError};
use super::packet::{self, Ack, Connect, Packet, Publish, Version};
use super::session::Dispatched;
use super::transport::dial;
use crate::connection::Tasks;
use crate::connection::socket::{Stream, is_closed};
use crate::error::ConnectorError;

/// From dialling to the broker's answer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Time to say goodbye.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// Largest packet that is taken.
const MAX_PACKET_BYTES: usize = 64 << 20;
/// Publishes towards us that may wait to be acknowledged (version 5; under 3.1.1 the broker decides).
const RECEIVE_MAXIMUM: u16 = 4096;
/// Publishes of ours that may wait to be acknowledged, unless the broker wants fewer.
const WINDOW: u16 = 1024;
/// While this much is still to be written, no more is put behind it.
const MAX_OUT_BYTES: usize = 1 << 20;
/// Bytes that are asked for at once.
const READ_BYTES: usize = 64 << 10;
/// With less room than this for them, new room is made.
const MIN_READ_BYTES: usize = 8 << 10;

/// Why a connection ended.
pub(super) enum Ended {
    /// Nobody wants it any more, or the engine stops.
    Unwanted,
    /// It broke.
    Lost(ConnectorError),
}

/// An open connection.
pub(super) struct Link {
    stream: Box<dyn Stream>,
    wire: Wire,
}

/// Everything about a connection but its byte stream.
struct Wire {
    version: Version,
    broker: String,
    input: BytesMut,
    out: BytesMut,
    keep_alive: Duration,
    limits: Limits,
    /// Filters whose subscribe is not answered yet.
    subscribing: HashMap<u16, String>,
    /// QoS 1 and 2 publishes that are not acknowledged yet: which batch, which place.
    in_flight: HashMap<u16, (u64, usize)>,
    batches: VecDeque<Batch>,
    last_batch: u64,
    pace: Pace,
}

/// What the broker takes.
struct Limits {
    window: usize,
    packet_bytes: usize,
    qos: u8,
    retain: bool,
    subscription_ids: bool,
}

/// Publishes that one user waits for.
struct Batch {
    id: u64,
    publishes: Vec<Publish>,
    /// Publishes that were put into `out`.
    n_sent: usize,
    is_done: Vec<bool>,
    n_done: usize,
    refused: Vec<usize>,
    reason: String,
    done: Done,
}

impl Link {
    /// Connects; also tells whether the broker still had the session.
    pub async fn open(settings: &Settings, client_id: &str) -> Result<(Link, bool), ConnectorError> {
        match tokio::time::timeout(CONNECT_TIMEOUT, connect(settings, client_id)).await {
            Ok(outcome) => outcome,
            Err(_) => {
                let (broker, secs) = (settings.broker(), CONNECT_TIMEOUT.as_secs());
                Err(ConnectorError::external(format!("{broker} did not answer within {secs} s")))
            }
        }
    }

    /// Runs the connection.
    pub async fn run(self, client: &mut ClientTask, tasks: &Tasks) -> Ended {
        let Link { stream, mut wire } = self;
        let filters: Vec<String> = client.session.subscribed.keys().cloned().collect();
        wire.subscribe(client, filters);
        let (mut reader, mut writer) = tokio::io::split(stream);
        let mut ping = tokio::time::interval_at(Instant::now() + wire.keep_alive, wire.keep_alive);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut pings = Pings::default();
        let pause = tokio::time::sleep(Duration::ZERO);
        tokio::pin!(pause);
        let mut is_pausing = false;
        let mut is_flushed = true;
        let ended = loop {
            wire.send(client);
            let room = wire.make_room();
            let claim_until = client.session.claim_until();
            let is_blocked = client.shared.is_full() && (wire.in_flight.is_empty() || client.shared.is_overflowing());
            tokio::select! {
                biased;
                () = tasks.stopped() => break Ended::Unwanted,
                () = client.shared.wake.notified() => wire.acknowledge(client),
                () = tokio::time::sleep_until(claim_until.unwrap_or_else(Instant::now)), if claim_until.is_some() => {
                    wire.give_up_unclaimed(client);
                }
                command = client.requested.recv(), if wire.out.len() < MAX_OUT_BYTES => match command {
                    None => break Ended::Unwanted,
                    Some(command) => if let Err(error) = wire.obey(client, command) {
                        break Ended::Lost(error);
                    },
                },
                written = write(&mut writer, &mut wire.out), if !wire.out.is_empty() || !is_flushed => match written {
                    Ok(flushed) => {
                        is_flushed = flushed;
                        if flushed {
                            wire.written();
                        }
                    }
                    Err(error) => break wire.broken(&error),
                },
                () = &mut pause, if is_pausing => is_pausing = false,
                read = reader.read_buf(&mut wire.input), if !is_blocked && !is_pausing => match read {
                    Ok(0) => break Ended::Lost(wire.external("closed the connection")),
                    Ok(n_bytes) => {
                        pings.is_answered = true;
                        match wire.read(client) {
                            Err(error) => break Ended::Lost(error),
                            Ok(n_publishes) => {
                                // There is more to be had at once after a full read.
                                if wire.pace.is_fast(n_publishes) && n_bytes < room {
                                    pause.as_mut().reset(Instant::now() + Pace::PAUSE);
                                    is_pausing = true;
                                }
                            }
                        }
                    }
                    Err(error) => break wire.broken(&error),
                },
                _ = ping.tick() => {
                    // While nothing is read, no answer can be seen.
                    if pings.is_sent && !pings.is_answered && !is_blocked {
                        break Ended::Lost(wire.external("does not answer pings"));
                    }
                    pings = Pings { is_sent: true, is_answered: false };
                    packet::write_ping(&mut wire.out);
                }
            }
        };
        match &ended {
            Ended::Unwanted => {
                wire.acknowledge(client);
                packet::write_disconnect(&mut wire.out);
                let goodbye = async {
                    writer.write_all_buf(&mut wire.out).await?;
                    writer.shutdown().await
                };
                let _ = tokio::time::timeout(CLOSE_TIMEOUT, goodbye).await;
                wire.fail_all(&wire.external("was disconnected from: the client stops"));
            }
            Ended::Lost(error) => wire.fail_all(error),
        }
        ended
    }
}

/// Writes some of `out`, or if that is empty flushes; true if there is nothing left to do. Cancel-safe.
async fn write(writer: &mut (impl AsyncWrite + Unpin), out: &mut BytesMut) -> std::io::Result<bool> {
    if out.is_empty() {
        writer.flush().await?;
        return Ok(true);
    }
    writer.write_buf(out).await?;
    Ok(false)
}

#[derive(Default)]
struct Pings {
    is_sent: bool,
    is_answered: bool,
}

async fn connect(settings: &Settings, client_id: &str) -> Result<(Link, bool), ConnectorError> {
    let mut stream = dial(settings).await?;
    let broker = settings.broker();
    let failed = |error: &dyn std::fmt::Display| ConnectorError::external(format!("{broker}: {error}"));
    let closed = || {
        failed(
            &"closed the connection before it answered; is it the right port, scheme (ssl:// for TLS) and protocol version?",
        )
    };
    let broken = |error: std::io::Error| if is_closed(&error) { closed() } else { failed(&error) };
    let mut out = BytesMut::new();
    packet::write_connect(
        &Connect {
            version: settings.version,
            client_id,
            clean: settings.clean,
            keep_alive: settings.keep_alive_secs,
            username: settings.username.as_deref(),
            password: settings.password.as_ref().map(crate::options::Secret::expose),
            session_expiry: settings.session_expiry,
            receive_maximum: RECEIVE_MAXIMUM,
            maximum_packet_size: MAX_PACKET_BYTES as u32,
        },
        &mut out,
    );
    stream.write_all_buf(&mut out).await.map_err(broken)?;
    stream.flush().await.map_err(broken)?;
    let mut input = BytesMut::with_capacity(READ_BYTES / 4);
    let answer = loop {
        if let Some(answer) =
            packet::read(settings.version, &mut input, MAX_PACKET_BYTES).map_err(|error| failed(&error))?
        {
            break answer;
        }
        if stream.read_buf(&mut input).await.map_err(broken)? == 0 {
            return Err(closed());
        }
    };
    let Packet::ConnAck { session_present, code, properties } = answer else {
        return Err(failed(&"answered with another packet than expected"));
    };
    if code != 0 {
        let reason = properties.reason.map_or_else(String::new, |reason| format!(" ({reason})"));
        let (is_users, text) = refusal(code);
        let message = format!("{broker} refuses the connection: {text}{reason}");
        return Err(if is_users { ConnectorError::user(message) } else { ConnectorError::external(message) });
    }
    let wire = Wire {
        version: settings.version,
        broker,
        input,
        out,
        keep_alive: Duration::from_secs(u64::from(
            properties.server_keep_alive.unwrap_or(settings.keep_alive_secs).max(1),
        )),
        limits: Limits {
            window: usize::from(properties.receive_maximum.unwrap_or(WINDOW).clamp(1, WINDOW)),
            packet_bytes: properties.maximum_packet_size.map_or(MAX_PACKET_BYTES, |bytes| bytes as usize),
            qos: properties.maximum_qos.unwrap_or(2),
            retain: properties.retain_available.unwrap_or(true),
            subscription_ids: settings.version == Version::V5 && properties.subscription_ids_available.unwrap_or(true),
        },
        subscribing: HashMap::new(),
        in_flight: HashMap::new(),
        batches: VecDeque::new(),
        last_batch: 0,
        pace: Pace::default(),
    };
    Ok((Link { stream, wire }, session_present))
}

/// Whether it is the user's to mend, and what it is.
fn refusal(code: u8) -> (bool, String) {
    let (is_users, text) = match code {
        1 | 0x84 => (true, "it does not speak this protocol version"),
        2 | 0x85 => (true, "it does not take this client id"),
        3 | 0x88 => (false, "it is not available"),
        4 | 0x86 => (true, "wrong user name or password"),
        5 | 0x87 => (true, "not authorized; check username and password"),
        0x89 => (false, "it is busy"),
        0x8a => (true, "this client is banned"),
        0x97 => (false, "a quota is exceeded"),
        0x9f => (false, "too many connections at a time"),
        _ => return (true, format!("reason 0x{code:02x}")),
    };
    (is_users, text.to_owned())
}

impl Wire {
    fn external(&self, what: &str) -> ConnectorError {
        ConnectorError::external(format!("{} {what}", self.broker))
    }

    fn broken(&self, error: &std::io::Error) -> Ended {
        Ended::Lost(ConnectorError::external(format!("connection to {} lost: {error}", self.broker)))
    }

    /// Room for the next read. A new block of memory is taken when the old one is nearly used up, not sooner: messages that
    /// somebody still holds keep theirs alive.
    fn make_room(&mut self) -> usize {
        if self.input.capacity() - self.input.len() < MIN_READ_BYTES {
            self.input.reserve(READ_BYTES);
        }
        self.input.capacity() - self.input.len()
    }

    fn next_pkid(&self, client: &mut ClientTask) -> u16 {
        client.session.next_pkid(|pkid| self.in_flight.contains_key(&pkid) || self.subscribing.contains_key(&pkid))
    }

    fn subscribe(&mut self, client: &mut ClientTask, filters: Vec<String>) {
        for filter in filters {
            let Some(subscribed) = client.session.subscribed.get(&filter) else { continue };
            let id = self.limits.subscription_ids.then_some(subscribed.id);
            let qos = subscribed.qos.min(self.limits.qos);
            let pkid = self.next_pkid(client);
            packet::write_subscribe(self.version, pkid, id, &filter, qos, &mut self.out);
            self.subscribing.insert(pkid, filter);
        }
    }

    fn obey(&mut self, client: &mut ClientTask, command: Command) -> Result<(), ConnectorError> {
        let todo = client.obey(command);
        self.subscribe(client, todo.subscribe);
        for filter in todo.unsubscribe {
            let pkid = self.next_pkid(client);
            packet::write_unsubscribe(self.version, pkid, &filter, &mut self.out);
        }
        if let Some((publishes, done)) = todo.publishes {
            self.last_batch += 1;
            self.batches.push_back(Batch {
                id: self.last_batch,
                is_done: vec![false; publishes.len()],
                publishes,
                n_sent: 0,
                n_done: 0,
                refused: Vec::new(),
                reason: String::new(),
                done,
            });
        }
        match todo.reconnect {
            Some(reason) => Err(ConnectorError::external(reason)),
            None => Ok(()),
        }
    }

    /// Puts publishes into `out` as far as the window and the buffer allow.
    fn send(&mut self, client: &mut ClientTask) {
        let first = self.batches.iter().position(|batch| batch.n_sent < batch.publishes.len());
        let Some(mut batch_idx) = first else { return };
        while let Some(batch) = self.batches.get_mut(batch_idx) {
            if self.out.len() >= MAX_OUT_BYTES || self.in_flight.len() >= self.limits.window {
                break;
            }
            let place = batch.n_sent;
            let Some(publish) = batch.publishes.get_mut(place) else {
                batch_idx += 1;
                continue;
            };
            batch.n_sent += 1;
            let refusal = if packet::publish_len(self.version, publish) > self.limits.packet_bytes {
                Some(format!("larger than the {} bytes that the broker takes", self.limits.packet_bytes))
            } else if publish.qos > self.limits.qos {
                Some(format!("the broker takes QoS {} at most", self.limits.qos))
            } else if publish.retain && !self.limits.retain {
                Some("the broker takes no retained messages".to_owned())
            } else {
                None
            };
            if let Some(reason) = refusal {
                batch.refuse(place, reason);
                continue;
            }
            if publish.qos > 0 {
                let (in_flight, subscribing) = (&self.in_flight, &self.subscribing);
                publish.pkid =
                    client.session.next_pkid(|pkid| in_flight.contains_key(&pkid) || subscribing.contains_key(&pkid));
                self.in_flight.insert(publish.pkid, (batch.id, place));
            }
            packet::write_publish(self.version, publish, &mut self.out);
            // The bytes are in `out` now.
            publish.payload = bytes::Bytes::new();
        }
        self.finish();
    }

    /// Everything in `out` is with the operating system, which is all that QoS 0 asks for.
    fn written(&mut self) {
        for batch in &mut self.batches {
            for place in 0..batch.n_sent {
                if batch.publishes.get(place).is_some_and(|publish| publish.qos == 0) {
                    batch.done(place);
                }
            }
        }
        self.finish();
    }

    /// Answers those whose publishes are all done.
    fn finish(&mut self) {
        while let Some(place) = self.batches.iter().position(|batch| batch.n_done == batch.publishes.len()) {
            let Some(batch) = self.batches.remove(place) else { return };
            let outcome =
                if batch.refused.is_empty() { Ok(()) } else { Err(PublishError::Refused(batch.refused, batch.reason)) };
            let _ = batch.done.send(outcome);
        }
    }

    fn fail_all(&mut self, error: &ConnectorError) {
        for batch in self.batches.drain(..) {
            let n_done = batch.is_done.iter().take_while(|is_done| **is_done).count();
            let _ = batch.done.send(Err(PublishError::Lost { n_done, error: error.clone() }));
        }
    }

    /// Writes the acknowledgements that the streams have given.
    fn acknowledge(&mut self, client: &mut ClientTask) {
        for delivery in client.shared.take_acks() {
            // The broker sends it again on this connection, and that one is acknowledged then.
            if delivery.epoch == client.session.epoch {
                self.acknowledge_one(client, delivery.qos, delivery.pkid);
            }
        }
    }

    fn acknowledge_one(&mut self, client: &mut ClientTask, qos: u8, pkid: u16) {
        if qos == 1 {
            packet::write_ack(Ack::One, pkid, &mut self.out);
        } else {
            client.session.received.insert(pkid);
            packet::write_ack(Ack::Received, pkid, &mut self.out);
        }
    }

    /// Sees to every whole packet that was read; returns how many were publishes.
    fn read(&mut self, client: &mut ClientTask) -> Result<u32, ConnectorError> {
        let mut n_publishes = 0;
        loop {
            let packet = match packet::read(self.version, &mut self.input, MAX_PACKET_BYTES) {
                Ok(Some(packet)) => packet,
                Ok(None) => break,
                Err(error) => return Err(ConnectorError::external(format!("{}: {error}", self.broker))),
            };
            match packet {
                Packet::Publish(publish) => {
                    n_publishes += 1;
                    self.publish(client, publish);
                }
                other => self.control(client, other)?,
            }
        }
        client.session.hand_over();
        Ok(n_publishes)
    }

    fn publish(&mut self, client: &mut ClientTask, publish: Publish) {
        let Publish { qos, pkid, retain, .. } = publish;
        if qos == 2 && client.session.received.contains(&pkid) {
            packet::write_ack(Ack::Received, pkid, &mut self.out);
        } else if client.session.dispatch(publish) == Dispatched::Unwanted && qos > 0 {
            // What is retained was only shown once more.
            client.unclaimed.add(u64::from(!retain));
            self.acknowledge_one(client, qos, pkid);
        }
    }

    /// No stream has come for what the broker had kept.
    fn give_up_unclaimed(&mut self, client: &mut ClientTask) {
        let unclaimed = client.session.take_unclaimed();
        client.unclaimed.add(unclaimed.len() as u64);
        tracing::warn!(
            broker = self.broker,
            "{} messages that the broker had kept in the session are for no stream, and are let go",
            unclaimed.len()
        );
        unclaimed.iter().for_each(|message| self.acknowledge_one(client, message.qos, message.pkid));
    }

    fn control(&mut self, client: &mut ClientTask, packet: Packet) -> Result<(), ConnectorError> {
        match packet {
            Packet::PubAck { pkid, code, reason } => self.publish_answered(pkid, code, reason),
            Packet::PubRec { pkid, code, reason } if code >= 0x80 => self.publish_answered(pkid, code, reason),
            Packet::PubRec { pkid, .. } => packet::write_ack(Ack::Release, pkid, &mut self.out),
            Packet::PubComp { pkid } => self.publish_answered(pkid, 0, None),
            Packet::PubRel { pkid } => {
                // Also one that we do not know: it is of an earlier connection, and wants its answer.
                client.session.received.remove(&pkid);
                packet::write_ack(Ack::Complete, pkid, &mut self.out);
            }
            Packet::SubAck { pkid, codes, reason } => {
                if let Some(filter) = self.subscribing.remove(&pkid) {
                    let code = codes.first().copied().unwrap_or(0x80);
                    client.session.subscribe_answered(&filter, code, reason.as_deref(), &self.broker);
                }
            }
            Packet::UnsubAck { .. } | Packet::PingResp => {}
            Packet::Disconnect { code, reason } => {
                let reason = reason.map_or_else(String::new, |reason| format!(" ({reason})"));
                let what = match code {
                    0x8e => "hangs up: another client has connected with this client id".to_owned(),
                    0x8b => "hangs up: it shuts down".to_owned(),
                    0x95 => "hangs up: a packet was too large".to_owned(),
                    _ => format!("hangs up: reason 0x{code:02x}"),
                };
                return Err(self.external(&format!("{what}{reason}")));
            }
            Packet::ConnAck { .. } | Packet::Publish(_) => return Err(self.external("breaks the protocol")),
        }
        Ok(())
    }

    fn publish_answered(&mut self, pkid: u16, code: u8, reason: Option<String>) {
        let Some((batch_id, place)) = self.in_flight.remove(&pkid) else { return };
        let Some(batch) = self.batches.iter_mut().find(|batch| batch.id == batch_id) else { return };
        if code >= 0x80 {
            let text = match code {
                0x87 => "not authorized".to_owned(),
                0x90 => "the topic is not allowed".to_owned(),
                0x97 => "a quota is exceeded".to_owned(),
                _ => format!("reason 0x{code:02x}"),
            };
            batch.refuse(place, reason.map_or(text.clone(), |reason| format!("{text} ({reason})")));
        } else {
            batch.done(place);
        }
        self.finish();
    }
}

impl Batch {
    fn done(&mut self, place: usize) {
        if let Some(is_done) = self.is_done.get_mut(place)
            && !*is_done
        {
            *is_done = true;
            self.n_done += 1;
        }
    }

    fn refuse(&mut self, place: usize, reason: String) {
        self.refused.push(place);
        self.reason = reason;
        self.done(place);
    }
}

/// Tells whether messages come so fast that it pays to let some gather.
#[derive(Default)]
struct Pace {
    since: Option<Instant>,
    n_messages: u32,
    is_fast: bool,
}

impl Pace {
    /// How long to let them gather.
    const PAUSE: Duration = Duration::from_millis(1);
    /// How long to count.
    const SPAN: Duration = Duration::from_millis(50);
    /// Messages in that time that are fast: 2,000 per second.
    const FAST: u32 = 100;

    fn is_fast(&mut self, n_messages: u32) -> bool {
        let now = Instant::now();
        self.n_messages += n_messages;
        let since = *self.since.get_or_insert(now);
        let elapsed = now.duration_since(since);
        if elapsed >= Self::SPAN {
            self.is_fast =
                f64::from(self.n_messages) * Self::SPAN.as_secs_f64() > f64::from(Self::FAST) * elapsed.as_secs_f64();
            self.since = Some(now);
            self.n_messages = 0;
        }
        self.is_fast
    }
}
