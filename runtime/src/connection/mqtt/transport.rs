//! A byte stream to the broker.

use std::io;
use std::sync::Arc;

use async_tungstenite::tungstenite::client::IntoClientRequest as _;
use async_tungstenite::tungstenite::http::HeaderValue;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::{Scheme, Settings};
use crate::connection::tls;
use crate::error::ConnectorError;

/// A byte stream.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Reaches the broker.
pub async fn dial(settings: &Settings) -> Result<Box<dyn Stream>, ConnectorError> {
    let broker = settings.broker();
    let failed = |error: &dyn std::fmt::Display| ConnectorError::external(format!("can't reach {broker}: {error}"));
    let tcp = TcpStream::connect((settings.host.as_str(), settings.port)).await.map_err(|error| failed(&error))?;
    tcp.set_nodelay(true).map_err(|error| failed(&error))?;
    let stream: Box<dyn Stream> = match settings.scheme {
        Scheme::Tcp | Scheme::Ws => Box::new(tcp),
        Scheme::Tls | Scheme::Wss => {
            let name = ServerName::try_from(settings.host.clone())
                .map_err(|_| ConnectorError::user(format!("{broker}: not a name that a certificate can be for")))?;
            let connector = TlsConnector::from(Arc::new(settings.tls.client_config()?));
            Box::new(connector.connect(name, tcp).await.map_err(|error| failed(&handshake_error(&error)))?)
        }
    };
    if matches!(settings.scheme, Scheme::Tcp | Scheme::Tls) {
        return Ok(stream);
    }
    let mut request = format!("{broker}{}", settings.path).into_client_request().map_err(|error| failed(&error))?;
    request.headers_mut().insert("Sec-WebSocket-Protocol", HeaderValue::from_static("mqtt"));
    let (websocket, _) =
        async_tungstenite::tokio::client_async(request, stream).await.map_err(|error| failed(&error))?;
    Ok(Box::new(ws_stream_tungstenite::WsStream::new(websocket)))
}

/// True if it means that the other side has let go of the connection.
pub fn is_closed(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof)
}

/// What went wrong, and what may help.
fn handshake_error(error: &io::Error) -> String {
    match tls::advice(error) {
        Some(advice) => advice.to_owned(),
        None if is_closed(error) => {
            "it closed the connection in the TLS handshake; does it speak TLS on this port?".to_owned()
        }
        None => error.to_string(),
    }
}
