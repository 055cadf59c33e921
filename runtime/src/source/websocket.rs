//! Messages from web sockets.

use std::time::Duration;

use async_trait::async_trait;
use async_tungstenite::tungstenite::Message;
use bytes::Bytes;
use futures::{FutureExt, StreamExt};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio::time::{Interval, interval};

use super::{Gives, Ingest, Items, Payload, Source, SourceArgs, SourceContext, SourceType};
use crate::connection::http_server::access::{Access, SignatureOptions};
use crate::connection::http_server::hub::{Queued, SocketQueue, SocketRoute};
use crate::connection::http_server::{Handler, Registration};
use crate::connection::websocket::{PING_EVERY, Side, Socket, SocketOptions, broken};
use crate::error::{ConfigError, ConnectorError};

/// The `websocket` source.
pub const TYPE: SourceType = SourceType {
    name: "websocket",
    docs: "Messages from web sockets, text or binary. `DATASOURCE` is the path. Without `addr`, any number of clients come to the \
           HTTP server of the process, and what a `websocket` sink on the same path writes goes to them; a full rule holds them \
           back. With `addr`, the process opens one socket itself, and opens it again when it breaks. Metadata, of clients that \
           come: `method`, `path`, `params` (the path's variables), `query`, `remoteAddress`.",
    schema: crate::options::schema_of::<WebsocketSourceOptions>,
    gives: Gives::Payloads,
    build,
};

/// Messages, or bytes, that travel together at most.
const MAX_MESSAGES: usize = 256;
const MAX_BYTES: usize = 1 << 20;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct WebsocketSourceOptions {
    #[serde(flatten)]
    socket: SocketOptions,
    /// Messages that wait for the rules, at most.
    #[serde(default = "default_buffer_length")]
    #[schemars(range(min = 1, max = 1_000_000))]
    buffer_length: usize,
}

fn default_buffer_length() -> usize {
    1024
}

struct WebsocketSource {
    side: Side,
    buffer_length: usize,
    connected: Option<Connected>,
}

enum Connected {
    Server { queue: mpsc::Receiver<Queued>, _registration: Registration },
    Client { socket: Box<Socket>, ping: Interval, was_heard: bool },
}

fn build(args: &SourceArgs<'_>) -> Result<Box<dyn Source>, ConfigError> {
    let options: WebsocketSourceOptions = args.options.parse()?;
    let side = options.socket.side(args.datasource)?;
    Ok(Box::new(WebsocketSource { side, buffer_length: options.buffer_length, connected: None }))
}

#[async_trait]
impl Source for WebsocketSource {
    async fn connect(&mut self, ctx: &SourceContext) -> Result<(), ConnectorError> {
        self.connected = None;
        self.connected = Some(match &self.side {
            Side::Client(client) => {
                let mut ping = interval(PING_EVERY);
                ping.reset();
                Connected::Client { socket: Box::new(client.open().await?), ping, was_heard: true }
            }
            Side::Server { pattern, access } => {
                let server = ctx.connector.connections.server();
                server.listen(&ctx.connector).await?;
                let access = Access::new(access, &SignatureOptions::default());
                let access = access.map_err(|error| ConnectorError::internal(error.to_string()))?;
                let (incoming, queue) = SocketQueue::new(self.buffer_length, ctx.wants_meta.clone());
                let incoming = Some(incoming);
                let route = Handler::Socket(SocketRoute { access, incoming }.into());
                let registration = server.register(pattern, &ctx.connector.name, route);
                Connected::Server { queue, _registration: registration }
            }
        });
        Ok(())
    }

    async fn next(&mut self) -> Result<Option<Ingest>, ConnectorError> {
        let payloads = match &mut self.connected {
            None => return Err(ConnectorError::internal("websocket source is read before it is connected")),
            Some(Connected::Server { queue, .. }) => {
                let Some(first) = queue.recv().await else {
                    return Err(ConnectorError::internal("another stream of the same name has taken the path"));
                };
                let mut n_bytes = first.payload.bytes.len();
                let mut payloads = vec![first.payload];
                while payloads.len() < MAX_MESSAGES && n_bytes < MAX_BYTES {
                    let Ok(next) = queue.try_recv() else { break };
                    n_bytes += next.payload.bytes.len();
                    payloads.push(next.payload);
                }
                payloads
            }
            Some(Connected::Client { socket, ping, was_heard }) => read(socket, ping, was_heard).await?,
        };
        Ok(Some(Ingest { items: Items::Payloads(payloads), ack: None }))
    }

    async fn close(&mut self) {
        if let Some(Connected::Client { mut socket, .. }) = self.connected.take() {
            // The other side may be gone.
            let _ = tokio::time::timeout(Duration::from_secs(1), socket.close(None)).await;
        }
    }
}

/// Whatever has arrived, at least one message. Cancel-safe.
async fn read(socket: &mut Socket, ping: &mut Interval, was_heard: &mut bool) -> Result<Vec<Payload>, ConnectorError> {
    loop {
        let mut message = tokio::select! {
            message = socket.next() => message,
            _ = ping.tick() => {
                if !std::mem::take(was_heard) {
                    return Err(ConnectorError::external("the other side of the web socket is silent"));
                }
                socket.send(Message::Ping(Bytes::new())).await.map_err(|error| broken(Some(Err(error))))?;
                continue;
            }
        };
        let mut payloads = Vec::new();
        loop {
            *was_heard = true;
            match message {
                Some(Ok(Message::Text(text))) => payloads.push(Payload { bytes: text.into(), meta: None }),
                Some(Ok(Message::Binary(bytes))) => payloads.push(Payload { bytes, meta: None }),
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
                end => {
                    if payloads.is_empty() {
                        return Err(broken(end));
                    }
                    // The next call finds the socket closed.
                    return Ok(payloads);
                }
            }
            match socket.next().now_or_never() {
                Some(next) if payloads.len() < MAX_MESSAGES => message = next,
                Some(next) => {
                    if let Some(Ok(Message::Text(_) | Message::Binary(_))) = &next {
                        message = next;
                        continue;
                    }
                    break;
                }
                None => break,
            }
        }
        if !payloads.is_empty() {
            return Ok(payloads);
        }
    }
}
