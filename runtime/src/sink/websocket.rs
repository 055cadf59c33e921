//! `websocket`: messages to web sockets.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use async_tungstenite::tungstenite;
use bytes::Bytes;
use futures::StreamExt;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::sync::{mpsc, oneshot};

use super::{Output, Sink, SinkArgs, SinkError, SinkType, Takes};
use crate::connection::http_server::access::{Access, SignatureOptions};
use crate::connection::http_server::hub::{SocketRoute, message};
use crate::connection::http_server::{Handler, Registration};
use crate::connection::websocket::{PING_EVERY, Side, Socket, SocketOptions, broken};
use crate::connection::{ConnectorContext, Health};
use crate::error::{ConfigError, ConnectorError};

/// The sink `websocket`.
pub(super) const WEBSOCKET: SinkType = SinkType {
    name: "websocket",
    docs: "Sends each message to web sockets, as text if it is that. Without `addr`, to all clients that have come to `path` of the \
           process's HTTP server; whoever falls more than 1024 messages or 4 MiB behind is cut off, and what is written while \
           nobody is there is gone. With `addr`, to the one socket that the process opens, and opens again when it breaks.",
    schema: crate::options::schema_of::<WebsocketSinkOptions>,
    takes: Takes::Messages,
    templates: &[],
    build,
};

/// Longest time for one write.
const WRITE: Duration = Duration::from_secs(10);

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct WebsocketSinkOptions {
    #[serde(flatten)]
    socket: SocketOptions,
    /// Another name of `path`.
    datasource: Option<String>,
}

struct WebsocketSink {
    side: Side,
    connected: Option<Connected>,
}

enum Connected {
    Server { registration: Registration, name: Arc<str> },
    Client(mpsc::Sender<Write>),
}

/// Messages for the task that holds the socket.
struct Write {
    messages: Vec<Bytes>,
    /// Hears how many were written before it failed, and why.
    done: oneshot::Sender<Result<(), (usize, ConnectorError)>>,
}

fn build(args: &SinkArgs<'_>) -> Result<Box<dyn Sink>, ConfigError> {
    let options: WebsocketSinkOptions = args.options.parse()?;
    let side = options.socket.side(options.datasource.as_deref().unwrap_or_default())?;
    Ok(Box::new(WebsocketSink { side, connected: None }))
}

#[async_trait]
impl Sink for WebsocketSink {
    async fn connect(&mut self, ctx: &ConnectorContext) -> Result<(), ConnectorError> {
        self.connected = None;
        self.connected = Some(match &self.side {
            Side::Client(client) => {
                let socket = client.open().await?;
                let (sender, receiver) = mpsc::channel(1);
                let (health, tasks) = (ctx.health.clone(), ctx.tasks.clone());
                health.connecting();
                health.up();
                ctx.tasks.spawn(async move {
                    tokio::select! {
                        () = hold(socket, receiver, &health) => {}
                        () = tasks.stopped() => {}
                    }
                });
                Connected::Client(sender)
            }
            Side::Server { pattern, access } => {
                let server = ctx.connections.server();
                server.listen(ctx).await?;
                let access = Access::new(access, &SignatureOptions::default());
                let access = access.map_err(|error| ConnectorError::internal(error.to_string()))?;
                let route = Handler::Socket(SocketRoute { access, incoming: None }.into());
                Connected::Server {
                    registration: server.register(pattern, &ctx.name, route),
                    name: Arc::clone(&ctx.name),
                }
            }
        });
        Ok(())
    }

    async fn write(&mut self, output: Output<'_>) -> Result<(), SinkError> {
        let (Output::Messages(messages), Some(connected)) = (output, &self.connected) else {
            return Err(ConnectorError::internal("write before connect").into());
        };
        match connected {
            Connected::Server { registration, name } => {
                for message in messages {
                    let n_slow = registration.hub().send(&message.body);
                    if n_slow > 0 {
                        tracing::warn!(connector = %name, n_slow, "clients are too slow and were cut off");
                    }
                }
                // Clients take what is there between two writes.
                tokio::task::yield_now().await;
                Ok(())
            }
            Connected::Client(channel) => {
                let (done, outcome) = oneshot::channel();
                let messages = messages.iter().map(|message| message.body.clone()).collect();
                let sent = channel.send(Write { messages, done }).await;
                match (sent, outcome.await) {
                    (Ok(()), Ok(Ok(()))) => Ok(()),
                    (Ok(()), Ok(Err((n_written, error)))) => Err(SinkError::Stopped { n_written, error }),
                    _ => Err(ConnectorError::external("the web socket was closed by the other side").into()),
                }
            }
        }
    }

    async fn close(&mut self) {
        self.connected = None;
    }
}

/// Holds the socket: writes what it is given, reads so that pings are answered and a close is seen.
async fn hold(mut socket: Socket, mut writes: mpsc::Receiver<Write>, health: &Health) {
    let mut ping = tokio::time::interval(PING_EVERY);
    ping.reset();
    let mut was_heard = true;
    loop {
        tokio::select! {
            write = writes.recv() => {
                let Some(Write { messages, done }) = write else { break };
                let outcome = send(&mut socket, messages).await;
                let has_failed = outcome.is_err();
                // The sink may have been stopped meanwhile.
                let _ = done.send(outcome);
                if has_failed {
                    return;
                }
            }
            message = socket.next() => match message {
                Some(Ok(message)) if !message.is_close() => was_heard = true,
                end => return health.down(&broken(end).message),
            },
            _ = ping.tick() => {
                if !std::mem::take(&mut was_heard) {
                    return health.down("the other side of the web socket is silent");
                }
                let ping = socket.send(tungstenite::Message::Ping(Bytes::new()));
                if !matches!(tokio::time::timeout(WRITE, ping).await, Ok(Ok(()))) {
                    return health.down("the other side of the web socket is silent");
                }
            }
        }
    }
    // The other side may be gone.
    let _ = tokio::time::timeout(Duration::from_secs(1), socket.close(None)).await;
}

async fn send(socket: &mut Socket, messages: Vec<Bytes>) -> Result<(), (usize, ConnectorError)> {
    let too_slow = || ConnectorError::external("the other side of the web socket takes nothing");
    for (n_written, bytes) in messages.into_iter().enumerate() {
        let sent = tokio::time::timeout(WRITE, socket.send(message(bytes))).await;
        sent.map_err(|_| too_slow())
            .and_then(|sent| sent.map_err(|error| broken(Some(Err(error)))))
            .map_err(|error| (n_written, error))?;
    }
    Ok(())
}
