//! `stdout`: messages as lines on standard output. Nothing else of the engine writes there.

use std::io::{self, Write};

use async_trait::async_trait;

use super::{NoOptions, Output, Sink, SinkArgs, SinkError, SinkType, Takes};
use crate::connection::ConnectorContext;
use crate::error::{ConfigError, ConnectorError};

/// The sink `stdout`.
pub(super) const STDOUT: SinkType = SinkType {
    name: "stdout",
    docs: "Writes each message as a line to standard output.",
    schema: crate::options::schema_of::<NoOptions>,
    takes: Takes::Messages,
    templates: &[],
    build,
};

struct StdoutSink {
    open: fn() -> Box<dyn Write>,
}

fn build(args: &SinkArgs<'_>) -> Result<Box<dyn Sink>, ConfigError> {
    let NoOptions {} = args.options.parse()?;
    Ok(Box::new(StdoutSink { open: || Box::new(io::stdout().lock()) }))
}

#[async_trait]
impl Sink for StdoutSink {
    async fn connect(&mut self, _ctx: &ConnectorContext) -> Result<(), ConnectorError> {
        Ok(())
    }

    async fn write(&mut self, output: Output<'_>) -> Result<(), SinkError> {
        let Output::Messages(messages) = output else { return Ok(()) };
        let n_bytes = messages.iter().map(|message| message.body.len() + 1).sum();
        let mut lines = Vec::with_capacity(n_bytes);
        for message in messages {
            lines.extend_from_slice(&message.body);
            lines.push(b'\n');
        }
        // One write under one lock: lines of several rules do not mix. On a thread of its own, because a reader may be slow.
        let open = self.open;
        let written = tokio::task::spawn_blocking(move || {
            let mut out = open();
            out.write_all(&lines).and_then(|()| out.flush())
        });
        match written.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
                // Nobody reads any more, and nobody will: rows are set aside instead of waiting for ever.
                Err(ConnectorError::user("standard output was closed by its reader").into())
            }
            Ok(Err(error)) => Err(ConnectorError::external(format!("standard output: {error}")).into()),
            Err(error) => Err(ConnectorError::internal(format!("standard output: {error}")).into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use bytes::Bytes;

    use super::*;
    use crate::error::Retry;
    use crate::sink::{Message, Props};

    static WRITTEN: Mutex<Vec<u8>> = Mutex::new(Vec::new());

    struct Memory;

    impl Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            WRITTEN.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Closed;

    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn message(body: &'static str) -> Message {
        Message { body: Bytes::from_static(body.as_bytes()), props: Props::default(), n_rows: 1 }
    }

    #[tokio::test]
    async fn each_message_is_a_line() {
        let mut sink = StdoutSink { open: || Box::new(Memory) };
        sink.write(Output::Messages(&[message(r#"{"a":1}"#), message("[]")])).await.unwrap();
        assert_eq!(*WRITTEN.lock().unwrap(), b"{\"a\":1}\n[]\n");
    }

    #[tokio::test]
    async fn a_closed_pipe_is_not_waited_for() {
        let mut sink = StdoutSink { open: || Box::new(Closed) };
        match sink.write(Output::Messages(&[message("x")])).await {
            Err(SinkError::Failed(error)) => {
                assert_eq!(error.retry, Retry::Never);
                assert_eq!(error.message, "standard output was closed by its reader");
            }
            other => panic!("{other:?}"),
        }
    }
}
