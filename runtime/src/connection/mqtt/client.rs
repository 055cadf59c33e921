//! The shared client: its users' side, and the task that keeps a connection.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use uuid::Uuid;

use super::inbox::{Delivery, Inbox, Message, Shared};
use super::link::{Ended, Link};
use super::packet::{Publish, Version};
use super::session::{Session, Stream, overlap};
use super::{Filter, Settings};
use crate::connection::{ConnectorContext, Health, Tasks};
use crate::error::{ConnectorError, Retry};
use crate::pipeline::backoff::Backoff;
use crate::pipeline::metrics::Counter;

/// Publishes that the broker has not acknowledged after this time are given up.
const PUBLISH_TIMEOUT: Duration = Duration::from_secs(30);

/// A client of one broker. Goes, with its connection, when its last user lets go.
pub struct MqttClient {
    settings: Arc<Settings>,
    commands: mpsc::UnboundedSender<Command>,
    shared: Arc<Shared>,
    state: watch::Receiver<LinkState>,
    /// Filters by stream, to know beforehand what overlaps.
    filters: Mutex<Vec<(u64, Vec<Filter>)>>,
}

/// What the users ask of the task. Bounded by them: each waits for the answer, or asks once in its life.
pub(super) enum Command {
    Subscribe(Stream),
    Unsubscribe(u64),
    Watch(u64, Health),
    Unwatch(u64),
    Publish {
        publishes: Vec<Publish>,
        done: Done,
    },
    /// The connection is to be made anew.
    Reconnect(String),
}

/// Where the outcome of publishes goes.
pub(super) type Done = oneshot::Sender<Result<(), PublishError>>;

/// How the connection stands.
#[derive(Clone, Debug)]
pub(super) enum LinkState {
    /// Being made for the first time.
    New,
    Up,
    Down(ConnectorError),
}

/// Why publishes did not go through.
#[derive(Debug)]
pub enum PublishError {
    /// The first `n_done` did, the others may or may not have; worth another try.
    Lost {
        /// Publishes that the broker has.
        n_done: usize,
        /// What happened.
        error: ConnectorError,
    },
    /// The broker refused some for good and has all others: their places and its reason.
    Refused(Vec<usize>, String),
}

fn next_id() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    LAST.fetch_add(1, Ordering::Relaxed)
}

impl MqttClient {
    /// The process's client with these settings, number `shard` of them.
    fn shared(settings: &Settings, shard: usize, ctx: &ConnectorContext) -> Arc<Self> {
        ctx.connections.shared(&settings.key(shard), || {
            let settings = Arc::new(settings.clone());
            let (commands, requested) = mpsc::unbounded_channel();
            let (state_sender, state) = watch::channel(LinkState::New);
            let shared = Arc::new(Shared::default());
            let task = ClientTask {
                client_id: settings.client_id.clone().unwrap_or_else(unique_client_id),
                settings: Arc::clone(&settings),
                requested,
                shared: Arc::clone(&shared),
                state: state_sender,
                session: Session::default(),
                watchers: Vec::new(),
                unclaimed: Arc::clone(ctx.connections.unclaimed()),
                tasks: ctx.tasks.clone(),
            };
            ctx.tasks.spawn(task.run());
            MqttClient { settings, commands, shared, state, filters: Mutex::default() }
        })
    }

    /// A client to publish with. `health` hears of its connection until the returned user is dropped.
    pub fn publisher(settings: &Settings, ctx: &ConnectorContext) -> Publisher {
        let client = MqttClient::shared(settings, 0, ctx);
        let id = next_id();
        let _ = client.commands.send(Command::Watch(id, ctx.health.clone()));
        Publisher { id, client }
    }

    /// Subscribes a stream. Returns at once: the client connects, and subscribes again whenever it has connected.
    pub fn subscribe(settings: &Settings, filters: Vec<Filter>, qos: u8, ctx: &ConnectorContext) -> Subscription {
        let id = next_id();
        let mut shard = 0;
        let client = loop {
            let client = MqttClient::shared(settings, shard, ctx);
            if client.claim(id, &filters) {
                break client;
            }
            shard += 1;
        };
        let inbox = Arc::new(Inbox::new(Arc::clone(&client.shared)));
        let stream = Stream::new(id, filters, qos, Arc::clone(&inbox), ctx.health.clone());
        let _ = client.commands.send(Command::Subscribe(stream));
        Subscription { id, inbox, client }
    }

    /// Notes a stream's filters; false if copies of one message could not be told apart then.
    fn claim(&self, id: u64, filters: &[Filter]) -> bool {
        let mut claimed = self.filters.lock().unwrap_or_else(PoisonError::into_inner);
        let ambiguous = |a: &Filter, b: &Filter| a.text != b.text && overlap(a.topics.as_str(), b.topics.as_str());
        // A fixed client id can connect only once.
        if self.settings.version != Version::V5 && self.settings.client_id.is_none() {
            let mut others = claimed.iter().flat_map(|(_, others)| others);
            if others.any(|other| filters.iter().any(|filter| ambiguous(filter, other))) {
                return false;
            }
        }
        claimed.push((id, filters.to_vec()));
        true
    }
}

/// One that publishes.
pub struct Publisher {
    id: u64,
    client: Arc<MqttClient>,
}

impl Publisher {
    /// Waits for the first connection, or the first failure; later tells how the connection stands.
    ///
    /// # Errors
    /// Why there is no connection.
    pub async fn ready(&self) -> Result<(), ConnectorError> {
        let mut state = self.client.state.clone();
        let settled = state.wait_for(|state| !matches!(state, LinkState::New)).await;
        match settled.as_deref() {
            Ok(LinkState::Down(error)) => Err(error.clone()),
            Ok(_) => Ok(()),
            Err(_) => Err(stopped()),
        }
    }

    /// True if user properties can be sent along.
    pub fn has_properties(&self) -> bool {
        self.client.settings.version == Version::V5
    }

    /// Publishes in order and waits until the broker has all: for QoS 1 and 2 until it says so, for QoS 0 until the bytes are
    /// with the operating system.
    ///
    /// # Errors
    /// What was not published.
    pub async fn publish(&self, publishes: Vec<Publish>) -> Result<(), PublishError> {
        if publishes.is_empty() {
            return Ok(());
        }
        let (done, answer) = oneshot::channel();
        let lost = |error| Err(PublishError::Lost { n_done: 0, error });
        if self.client.commands.send(Command::Publish { publishes, done }).is_err() {
            return lost(stopped());
        }
        match tokio::time::timeout(PUBLISH_TIMEOUT, answer).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => lost(stopped()),
            Err(_) => {
                let message = format!(
                    "{} did not acknowledge a message within {} s",
                    self.client.settings.broker(),
                    PUBLISH_TIMEOUT.as_secs()
                );
                let _ = self.client.commands.send(Command::Reconnect(message.clone()));
                lost(ConnectorError::external(message))
            }
        }
    }
}

fn stopped() -> ConnectorError {
    ConnectorError::external("the MQTT client has been stopped").with_retry(Retry::Never)
}

impl Drop for Publisher {
    fn drop(&mut self) {
        let _ = self.client.commands.send(Command::Unwatch(self.id));
    }
}

/// One that listens. Dropping it unsubscribes, but for sessions that the broker keeps.
pub struct Subscription {
    id: u64,
    inbox: Arc<Inbox>,
    client: Arc<MqttClient>,
}

impl Subscription {
    /// Waits for messages and takes all that are there. Cancel-safe.
    ///
    /// # Errors
    /// When the broker refuses the subscription.
    pub async fn next(&self) -> Result<Vec<Message>, ConnectorError> {
        self.inbox.take().await
    }

    /// These messages are safe: the broker may forget them.
    pub fn ack(&self, deliveries: impl IntoIterator<Item = Arc<Delivery>>) {
        self.client.shared.ack(deliveries);
    }

    /// These messages will not be safe any more. As with those that were not taken, without a session the broker is not kept
    /// waiting for them; with one it sends them again, on the next connection.
    pub fn give_up(&self, deliveries: impl IntoIterator<Item = Arc<Delivery>>) {
        let mut deliveries = deliveries.into_iter().peekable();
        if self.client.settings.clean {
            self.ack(deliveries);
        } else if deliveries.peek().is_some() {
            self.client.shared.leave_behind();
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut claimed = self.client.filters.lock().unwrap_or_else(PoisonError::into_inner);
        claimed.retain(|(id, _)| *id != self.id);
        let _ = self.client.commands.send(Command::Unsubscribe(self.id));
    }
}

/// Short enough for every broker (3.1 allows 23 characters), and nobody else's.
fn unique_client_id() -> String {
    let random = Uuid::new_v4().simple().to_string();
    format!("sluice-{}", random.get(..16).unwrap_or(&random))
}

/// The client's task.
pub(super) struct ClientTask {
    pub settings: Arc<Settings>,
    client_id: String,
    pub requested: mpsc::UnboundedReceiver<Command>,
    pub shared: Arc<Shared>,
    pub session: Session,
    state: watch::Sender<LinkState>,
    watchers: Vec<(u64, Health)>,
    /// QoS 1 and 2 messages that no stream was there for.
    pub unclaimed: Arc<Counter>,
    tasks: Tasks,
}

impl ClientTask {
    /// Keeps a connection until nobody wants it any more or the engine stops.
    async fn run(mut self) {
        let tasks = self.tasks.clone();
        let (settings, client_id) = (Arc::clone(&self.settings), self.client_id.clone());
        let mut backoff = Backoff::default();
        loop {
            let link = tokio::select! {
                () = tasks.stopped() => return,
                wanted = self.offline() => match wanted { None => return, Some(never) => match never {} },
                link = Link::open(&settings, &client_id) => link,
            };
            let error = match link {
                Ok((link, session_present)) => {
                    self.session.begin(session_present);
                    backoff.reset();
                    self.tell(LinkState::Up);
                    match link.run(&mut self, &tasks).await {
                        Ended::Unwanted => return,
                        Ended::Lost(error) => error,
                    }
                }
                Err(error) => error,
            };
            let pause = backoff.pause(error.retry);
            tracing::debug!(broker = self.settings.broker(), ?pause, "mqtt: {error}");
            self.tell(LinkState::Down(error));
            tokio::select! {
                () = tasks.stopped() => return,
                wanted = self.offline() => match wanted { None => return, Some(never) => match never {} },
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Answers commands while there is no connection; returns when nobody is left to give any.
    async fn offline(&mut self) -> Option<std::convert::Infallible> {
        loop {
            let command = self.requested.recv().await?;
            if let Some((_, done)) = self.obey(command).publishes {
                let error = match &*self.state.borrow() {
                    LinkState::Down(error) => error.clone(),
                    _ => ConnectorError::external(format!("not connected to {} yet", self.settings.broker())),
                };
                let _ = done.send(Err(PublishError::Lost { n_done: 0, error }));
            }
        }
    }

    /// Does what can be done without a connection, and says what is left.
    pub fn obey(&mut self, command: Command) -> Todo {
        let mut todo = Todo::default();
        match command {
            Command::Subscribe(stream) => {
                self.tell_one(&stream.health);
                if self.session.is_awaited(&stream.filters) {
                    todo.reconnect = Some(format!(
                        "connects to {} again: it has kept messages for a stream that has come now",
                        self.settings.broker()
                    ));
                }
                todo.subscribe = self.session.add(stream);
            }
            Command::Unsubscribe(id) => {
                let gone = self.session.remove(id, self.settings.clean);
                // The broker keeps the subscriptions of a session for the next time.
                if self.settings.clean {
                    todo.unsubscribe = gone;
                }
                // The broker waits to hear of what was left, and sends the others nothing new when that is too much. On a new
                // connection it sends it again: to the stream that comes in place of this one, else it is nobody's.
                if self.shared.has_left_behind() && !self.session.streams.is_empty() {
                    todo.reconnect = Some(format!(
                        "connects to {} again: a stream has left with messages that it had not acknowledged",
                        self.settings.broker()
                    ));
                }
            }
            Command::Watch(id, health) => {
                self.tell_one(&health);
                self.watchers.push((id, health));
            }
            Command::Unwatch(id) => self.watchers.retain(|(watcher, _)| *watcher != id),
            Command::Publish { publishes, done } => todo.publishes = Some((publishes, done)),
            Command::Reconnect(reason) => todo.reconnect = Some(reason),
        }
        todo
    }

    fn tell(&mut self, state: LinkState) {
        self.state.send_replace(state);
        for stream in &self.session.streams {
            self.tell_one(&stream.health);
        }
        for (_, health) in &self.watchers {
            self.tell_one(health);
        }
    }

    fn tell_one(&self, health: &Health) {
        match &*self.state.borrow() {
            LinkState::New => {}
            LinkState::Up => health.up(),
            LinkState::Down(error) => health.down(&error.message),
        }
    }
}

/// What a command leaves to be done on a connection.
#[derive(Default)]
pub(super) struct Todo {
    /// Filters.
    pub subscribe: Vec<String>,
    /// Filters.
    pub unsubscribe: Vec<String>,
    pub publishes: Option<(Vec<Publish>, Done)>,
    pub reconnect: Option<String>,
}
