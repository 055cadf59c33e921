//! What goes over the wire, without the wire.

use bytes::{Buf as _, Bytes, BytesMut};

/// A line may not be longer; the server's INFO names every server of a cluster.
const MAX_LINE: usize = 1 << 20;
/// No server is set up to pass on larger messages.
const MAX_PAYLOAD: usize = 64 << 20;

/// What a server says.
#[derive(Debug, PartialEq, Eq)]
pub enum Operation {
    Info(Bytes),
    Message(Received),
    Ping,
    Pong,
    Ok,
    Error(String),
}

/// A message as it arrives.
#[derive(Debug, PartialEq, Eq)]
pub struct Received {
    /// Where it was published.
    pub subject: String,
    /// Where an answer is awaited.
    pub reply: Option<String>,
    /// Names and values.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub payload: Bytes,
}

/// Takes the first operation out of the buffer; `None` if it is not there as a whole yet.
///
/// # Errors
/// What is no NATS.
pub fn parse(buffer: &mut BytesMut) -> Result<Option<Operation>, String> {
    let Some(end) = buffer.windows(2).take(MAX_LINE).position(|pair| pair == b"\r\n") else {
        return if buffer.len() > MAX_LINE { Err("a line without an end".to_owned()) } else { Ok(None) };
    };
    let line =
        std::str::from_utf8(buffer.get(..end).unwrap_or_default()).map_err(|_| "a line that is no text".to_owned())?;
    let (word, rest) = line.split_once([' ', '\t']).unwrap_or((line, ""));
    let operation = match word.to_ascii_uppercase().as_str() {
        "MSG" | "HMSG" => return message(buffer, end),
        "PING" => Operation::Ping,
        "PONG" => Operation::Pong,
        "+OK" => Operation::Ok,
        "-ERR" => Operation::Error(rest.trim().trim_matches('\'').to_owned()),
        "INFO" => {
            let json = Bytes::copy_from_slice(rest.trim().as_bytes());
            buffer.advance(end + 2);
            return Ok(Some(Operation::Info(json)));
        }
        _ => return Err("this is no NATS server".to_owned()),
    };
    buffer.advance(end + 2);
    Ok(Some(operation))
}

/// `MSG subject sid [reply] n_bytes`, `HMSG subject sid [reply] n_header_bytes n_bytes`
fn message(buffer: &mut BytesMut, end: usize) -> Result<Option<Operation>, String> {
    let wrong = || "a message that can't be read".to_owned();
    let line = String::from_utf8_lossy(buffer.get(..end).unwrap_or_default()).into_owned();
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let has_headers = line.starts_with(['H', 'h']);
    let (subject, reply, n_header, n_total) = match (has_headers, words.as_slice()) {
        (false, [_, subject, _, total]) => (*subject, None, "0", *total),
        (false, [_, subject, _, reply, total]) => (*subject, Some(*reply), "0", *total),
        (true, [_, subject, _, header, total]) => (*subject, None, *header, *total),
        (true, [_, subject, _, reply, header, total]) => (*subject, Some(*reply), *header, *total),
        _ => return Err(wrong()),
    };
    let n_header: usize = n_header.parse().map_err(|_| wrong())?;
    let n_total: usize = n_total.parse().map_err(|_| wrong())?;
    if n_total > MAX_PAYLOAD || n_header > n_total {
        return Err(wrong());
    }
    let n_wanted = end + 2 + n_total + 2;
    if buffer.len() < n_wanted {
        buffer.reserve(n_wanted - buffer.len());
        return Ok(None);
    }
    buffer.advance(end + 2);
    let headers = headers(&buffer.split_to(n_header))?;
    let payload = buffer.split_to(n_total - n_header).freeze();
    buffer.advance(2);
    let (subject, reply) = (subject.to_owned(), reply.map(str::to_owned));
    Ok(Some(Operation::Message(Received { subject, reply, headers, payload })))
}

/// The block behind `NATS/1.0`.
fn headers(block: &[u8]) -> Result<Vec<(String, String)>, String> {
    let text = String::from_utf8_lossy(block);
    let mut lines = text.split("\r\n");
    match lines.next() {
        Some("") => return Ok(Vec::new()),
        Some(first) if first.starts_with("NATS/1.0") => {}
        _ => return Err("headers that can't be read".to_owned()),
    }
    let header = |line: &str| line.split_once(':').map(|(name, value)| (name.to_owned(), value.trim().to_owned()));
    Ok(lines.filter_map(header).collect())
}

/// Appends a PUB, or an HPUB if there are headers.
pub fn publish(subject: &str, headers: &[(String, String)], payload: &[u8], out: &mut Vec<u8>) {
    if headers.is_empty() {
        out.extend_from_slice(format!("PUB {subject} {}\r\n", payload.len()).as_bytes());
    } else {
        let mut block = "NATS/1.0\r\n".to_owned();
        for (name, value) in headers {
            // A line break would begin a header of its own.
            let value = value.replace(['\r', '\n'], " ");
            block.push_str(&format!("{name}: {value}\r\n"));
        }
        block.push_str("\r\n");
        let head = format!("HPUB {subject} {} {}\r\n", block.len(), block.len() + payload.len());
        out.extend_from_slice(head.as_bytes());
        out.extend_from_slice(block.as_bytes());
    }
    out.extend_from_slice(payload);
    out.extend_from_slice(b"\r\n");
}

/// Checks a subject: words with dots between them, `*` for any word, `>` at the end for any further ones.
///
/// # Errors
/// What is wrong with it.
pub fn check_subject(subject: &str, may_hold_wildcards: bool) -> Result<(), String> {
    if subject.is_empty() {
        return Err("subject is empty".to_owned());
    }
    if subject.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err("a subject must not hold white space".to_owned());
    }
    let words: Vec<&str> = subject.split('.').collect();
    for (word_idx, word) in words.iter().enumerate() {
        match *word {
            "" => return Err(format!("subject \"{subject}\" has an empty word")),
            "*" | ">" if !may_hold_wildcards => {
                return Err(format!("subject \"{subject}\" must not hold wildcards: messages go to one subject"));
            }
            ">" if word_idx + 1 < words.len() => return Err(format!("`>` must be the last word of \"{subject}\"")),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &str) -> Vec<Operation> {
        let mut buffer = BytesMut::from(text);
        std::iter::from_fn(|| parse(&mut buffer).unwrap()).collect()
    }

    #[test]
    fn what_a_server_says() {
        let received = |subject: &str, reply: Option<&str>, headers: &[(&str, &str)], payload: &str| {
            Operation::Message(Received {
                subject: subject.to_owned(),
                reply: reply.map(str::to_owned),
                headers: headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
                payload: Bytes::copy_from_slice(payload.as_bytes()),
            })
        };
        assert_eq!(
            all(
                "INFO {\"a\":1} \r\nPING\r\npong\r\n+OK\r\n-ERR 'Unknown Protocol'\r\nMSG a.b 1 3\r\nx\r\n\r\nMSG a 1 r.1 0\r\n\r\n"
            ),
            [
                Operation::Info(Bytes::from_static(b"{\"a\":1}")),
                Operation::Ping,
                Operation::Pong,
                Operation::Ok,
                Operation::Error("Unknown Protocol".to_owned()),
                received("a.b", None, &[], "x\r\n"),
                received("a", Some("r.1"), &[], ""),
            ]
        );
        let block = "NATS/1.0\r\nA: b\r\nA:c:d\r\n\r\n";
        let text = format!("HMSG s 1 {} {}\r\n{block}hi\r\n", block.len(), block.len() + 2);
        assert_eq!(all(&text), [received("s", None, &[("A", "b"), ("A", "c:d")], "hi")]);
        // Nothing is taken until all is there.
        for n_bytes in 0..text.len() {
            assert!(all(&text[..n_bytes]).is_empty(), "{n_bytes}");
        }
    }

    #[test]
    fn what_is_no_nats() {
        let too_large = format!("MSG a 1 {}\r\n", (64 << 20) + 1);
        for text in ["HTTP/1.1 400\r\n", "MSG a\r\n", "MSG a 1 x\r\n", "HMSG a 1 5 2\r\nhi\r\n", &too_large] {
            assert!(parse(&mut BytesMut::from(text)).is_err(), "{text}");
        }
        assert!(parse(&mut BytesMut::from("x".repeat((1 << 20) + 2).as_str())).is_err());
    }

    #[test]
    fn what_is_published() {
        let mut out = Vec::new();
        publish("a.b", &[], b"hi", &mut out);
        publish("a.b", &[("K".to_owned(), "v\r\nX: y".to_owned())], b"hi", &mut out);
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text, "PUB a.b 2\r\nhi\r\nHPUB a.b 24 26\r\nNATS/1.0\r\nK: v  X: y\r\n\r\nhi\r\n");
    }

    #[test]
    fn subjects() {
        for (subject, wildcards, expected) in [
            ("a.b", false, "ok"),
            ("a.*.>", true, "ok"),
            (">", true, "ok"),
            ("", true, "subject is empty"),
            ("a b", true, "a subject must not hold white space"),
            ("a..b", true, "subject \"a..b\" has an empty word"),
            ("a.>.b", true, "`>` must be the last word of \"a.>.b\""),
            ("a.*", false, "subject \"a.*\" must not hold wildcards: messages go to one subject"),
        ] {
            let outcome = check_subject(subject, wildcards).err().unwrap_or_else(|| "ok".to_owned());
            assert_eq!(outcome, expected, "{subject}");
        }
    }
}
