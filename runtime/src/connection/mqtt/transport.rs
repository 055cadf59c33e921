//! A byte stream to the broker.

use async_tungstenite::tungstenite::client::IntoClientRequest as _;
use async_tungstenite::tungstenite::http::HeaderValue;

use super::{Scheme, Settings};
use crate::connection::socket::{self, Stream, unreachable};
use crate::error::ConnectorError;

/// Reaches the broker.
pub async fn dial(settings: &Settings) -> Result<Box<dyn Stream>, ConnectorError> {
    let broker = settings.broker();
    let tcp = socket::dial(&broker, &settings.host, settings.port).await?;
    let stream: Box<dyn Stream> = match settings.scheme {
        Scheme::Tcp | Scheme::Ws => Box::new(tcp),
        Scheme::Tls | Scheme::Wss => socket::start_tls(&broker, &settings.host, &settings.tls, tcp).await?,
    };
    if matches!(settings.scheme, Scheme::Tcp | Scheme::Tls) {
        return Ok(stream);
    }
    let failed = |error: &dyn std::fmt::Display| unreachable(&broker, error);
    let mut request = format!("{broker}{}", settings.path).into_client_request().map_err(|error| failed(&error))?;
    request.headers_mut().insert("Sec-WebSocket-Protocol", HeaderValue::from_static("mqtt"));
    let (websocket, _) =
        async_tungstenite::tokio::client_async(request, stream).await.map_err(|error| failed(&error))?;
    Ok(Box::new(ws_stream_tungstenite::WsStream::new(websocket)))
}
