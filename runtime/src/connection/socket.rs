//! Byte streams to servers, and what goes wrong with them in words that help.

use std::io;
use std::sync::Arc;

use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::tls::{self, TlsOptions};
use crate::error::ConnectorError;

/// A byte stream.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// The error for a server that can't be reached.
pub fn unreachable(server: &str, error: &dyn std::fmt::Display) -> ConnectorError {
    ConnectorError::external(format!("can't reach {server}: {error}"))
}

/// A TCP connection that sends at once. `server` is what messages call it.
pub async fn dial(server: &str, host: &str, port: u16) -> Result<TcpStream, ConnectorError> {
    let connect = async {
        let stream = TcpStream::connect((host, port)).await?;
        stream.set_nodelay(true)?;
        Ok::<_, io::Error>(stream)
    };
    connect.await.map_err(|error| unreachable(server, &error))
}

/// TLS over a stream.
pub async fn start_tls<S>(
    server: &str,
    host: &str,
    tls: &TlsOptions,
    stream: S,
) -> Result<Box<dyn Stream>, ConnectorError>
where
    S: Stream + 'static,
{
    let name = ServerName::try_from(host.to_owned())
        .map_err(|_| ConnectorError::user(format!("{server}: not a name that a certificate can be for")))?;
    let connector = TlsConnector::from(Arc::new(tls.client_config()?));
    let connected = connector.connect(name, stream).await;
    Ok(Box::new(connected.map_err(|error| unreachable(server, &handshake_error(&error)))?))
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
