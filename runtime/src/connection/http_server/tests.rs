//! Real sockets against the server, with a route whose source this file plays.

#![expect(clippy::disallowed_methods, reason = "what is spawned ends with the test's runtime")]

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use hyper::Method;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::access::{Access, AccessOptions, SignatureOptions};
use super::push::ContentTypeRule;
use super::ticket::{AckRule, Ticket};
use super::*;
use crate::connection::{Connections, Health, Tasks};
use crate::format::FormatError;
use crate::format::compression::Compression;
use crate::options::Secret;
use crate::source::Request;
use crate::time::SystemClock;

/// A server on a free port.
struct Server {
    ctx: ConnectorContext,
    address: SocketAddr,
}

impl Server {
    async fn start(change: impl FnOnce(&mut ServerSettings)) -> Self {
        rustls::crypto::ring::default_provider().install_default().ok();
        let mut settings = ServerSettings { address: ([127, 0, 0, 1], 0).into(), ..ServerSettings::default() };
        change(&mut settings);
        let ctx = ConnectorContext {
            name: "rule/stream".into(),
            connections: Connections::new(settings),
            clock: Arc::new(SystemClock),
            tasks: Tasks::default(),
            health: Health::default(),
        };
        let address = ctx.connections.server().listen(&ctx).await.unwrap();
        Server { ctx, address }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn register(&self, path: &str, owner: &str, route: PushRoute) -> Registration {
        let pattern = Pattern::parse(path).unwrap();
        self.ctx.connections.server().register(&pattern, &owner.into(), Handler::Push(route.into()))
    }

    /// Sends bytes as they are and reads until the other side closes.
    async fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        // A server that has read enough may close the connection; what it had to say it has said before.
        let _ = stream.write_all(bytes).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    }
}

fn route(capacity: usize) -> (PushRoute, mpsc::Receiver<Ticket>) {
    let (sender, receiver) = mpsc::channel(capacity);
    let route = PushRoute {
        method: Method::POST,
        access: Access::new(&AccessOptions::default(), &SignatureOptions::default()).unwrap(),
        format: "json".to_owned(),
        content_type: ContentTypeRule::Check,
        body_limit: None,
        meta_headers: Vec::new(),
        wants_meta: Arc::new(AtomicBool::new(true)),
        ack: AckRule::Accepted,
        timeout: Duration::from_millis(200),
        queue: sender,
    };
    (route, receiver)
}

/// A source that takes everything, refuses what holds `bad`, and gives back what it has got.
fn take_all(mut queue: mpsc::Receiver<Ticket>) -> JoinHandle<Vec<Request>> {
    tokio::spawn(async move {
        let mut taken = Vec::new();
        while let Some(mut ticket) = queue.recv().await {
            let Some(request) = ticket.take() else { continue };
            if request.payload.bytes.starts_with(b"bad") {
                request.reply.refused(&FormatError("line 1, column 1: expected an object".to_owned()));
            } else {
                request.reply.decoded(request.payload.bytes.split(|byte| *byte == b',').count());
                ticket.accept();
            }
            taken.push(request);
        }
        taken
    })
}

async fn post(url: &str, body: impl Into<reqwest::Body>, headers: &[(&str, &str)]) -> (u16, String) {
    let mut request = reqwest::Client::new().post(url).body(body);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

#[tokio::test]
async fn a_client_can_act_on_every_answer() {
    let server = Server::start(|settings| settings.body_limit = 1000).await;
    let (route, queue) = self::route(16);
    let registration = server.register("/api/{site}/data", "s", route);
    let source = take_all(queue);
    let url = server.url("/api/north/data?q=1");
    let gzip = Compression::Gzip.compress(b"{},{},{}").unwrap();
    let zstd = Compression::Zstd.compress(b"{},{}").unwrap();
    let bomb = Compression::Zstd.compress(&vec![b' '; 1 << 20]).unwrap();
    let long = "x".repeat(1001);
    let json = ("content-type", "application/json");
    /// Name, body, headers, status and text of the answer.
    type Case<'a> = (&'a str, Vec<u8>, Vec<(&'a str, &'a str)>, u16, &'a str);
    let cases: Vec<Case<'_>> = vec![
        ("a row", b"{}".to_vec(), vec![json], 200, "{\"rows\":1}\n"),
        ("two rows", b"{},{}".to_vec(), vec![], 200, "{\"rows\":2}\n"),
        ("packed", gzip.clone(), vec![("content-encoding", "gzip")], 200, "{\"rows\":3}\n"),
        ("packed otherwise", zstd, vec![("content-encoding", "zstd")], 200, "{\"rows\":2}\n"),
        ("no JSON", b"bad".to_vec(), vec![], 400, "{\"error\":\"line 1, column 1: expected an object\"}\n"),
        (
            "not packed",
            b"{}".to_vec(),
            vec![("content-encoding", "zstd")],
            400,
            "{\"error\":\"the body is not zstd\"}\n",
        ),
        (
            "too long",
            long.clone().into_bytes(),
            vec![],
            413,
            "{\"error\":\"the body has more than 1000 bytes; send it in parts\"}\n",
        ),
        (
            "a bomb",
            bomb,
            vec![("content-encoding", "zstd")],
            413,
            "{\"error\":\"the body unpacks to more than 1000 bytes; send it in parts\"}\n",
        ),
        (
            "another type",
            b"{}".to_vec(),
            vec![("content-type", "text/csv")],
            415,
            "{\"error\":\"this path takes json\"}\n",
        ),
        (
            "another packing",
            b"{}".to_vec(),
            vec![("content-encoding", "br")],
            415,
            "{\"error\":\"the Content-Encoding is none of gzip, zstd and deflate\"}\n",
        ),
    ];
    for (name, body, headers, status, text) in cases {
        assert_eq!(post(&url, body, &headers).await, (status, text.to_owned()), "{name}");
    }
    let (status, text) = post(&server.url("/api/data"), "{}", &[]).await;
    assert_eq!((status, text.as_str()), (404, "{\"error\":\"no running rule has a stream or sink on this path\"}\n"));
    let answer = reqwest::get(&url).await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.headers()["allow"].to_str().unwrap()), (405, "POST"));

    drop(registration);
    let (status, text) = post(&url, "{}", &[]).await;
    assert_eq!((status, text.as_str()), (503, "{\"error\":\"what was on this path has just gone; try again\"}\n"));
    server.ctx.connections.server().drain();
    let answer = reqwest::Client::new().post(&url).send().await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.headers()["retry-after"].to_str().unwrap()), (503, "1"));
    server.ctx.tasks.shutdown().await;

    let taken = source.await.unwrap();
    let meta = taken[0].payload.meta.as_deref().unwrap();
    let mut text = Vec::new();
    crate::format::json_encoder::write_object(meta, &mut text);
    let start = r#"{"method":"POST","path":"/api/north/data","params":{"site":"north"},"query":{"q":"1"},"#;
    assert!(text.starts_with(start.as_bytes()), "{}", String::from_utf8_lossy(&text));
}

#[tokio::test]
async fn a_stream_that_is_behind_holds_its_clients_back() {
    let server = Server::start(|_| {}).await;
    let (route, mut queue) = self::route(1);
    let _registration = server.register("/a", "s", route);
    let url = server.url("/a");
    // Nobody reads: the first one waits in the queue in vain, the second one finds no room.
    let (first, second) = tokio::join!(post(&url, "1", &[]), post(&url, "2", &[]));
    for (status, text) in [first, second] {
        assert_eq!((status, text.as_str()), (429, "{\"error\":\"the rules are behind; send it again later\"}\n"));
    }
    // What its client has given up is not taken any more.
    assert!(queue.recv().await.unwrap().take().is_none());
    // What was taken, but not confirmed in time, may have gone through.
    let late = tokio::join!(post(&url, "3", &[]), async {
        let mut ticket = queue.recv().await.unwrap();
        let request = ticket.take().unwrap();
        assert_eq!(request.payload.bytes, "3");
        ticket
    });
    let ((status, text), ticket) = late;
    assert_eq!(status, 503);
    assert!(text.contains("may be there twice"), "{text}");
    drop(ticket);
    // A source that closes says so to those who wait.
    let lost = tokio::join!(post(&url, "4", &[]), async {
        let mut ticket = queue.recv().await.unwrap();
        ticket.take().unwrap();
    });
    assert_eq!(lost.0.0, 503);
    let (route, queue) = self::route(1);
    let _registration = server.register("/a", "s", route);
    let returned = tokio::join!(post(&url, "5", &[]), async { drop(queue) });
    assert_eq!(returned.0.0, 503);
}

#[tokio::test]
async fn streams_share_a_path() {
    let server = Server::start(|_| {}).await;
    let (post_route, post_queue) = self::route(16);
    let (mut put_route, put_queue) = self::route(16);
    put_route.method = Method::PUT;
    let (other_route, other_queue) = self::route(16);
    let registrations = [
        server.register("/a", "posts", post_route),
        server.register("/a", "puts", put_route),
        server.register("/a", "others", other_route),
    ];
    let sources = [post_queue, put_queue, other_queue].map(take_all);
    let url = server.url("/a");
    let client = reqwest::Client::new();
    for (request, body) in [(client.post(&url), "1"), (client.put(&url), "2"), (client.post(&url), "3")] {
        assert_eq!(request.body(body).send().await.unwrap().status(), 200);
    }
    let answer = client.delete(&url).send().await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.headers()["allow"].to_str().unwrap()), (405, "POST, PUT"));
    drop(registrations);
    let mut bodies = Vec::new();
    for source in sources {
        let taken = source.await.unwrap();
        bodies.push(
            taken
                .iter()
                .map(|request| String::from_utf8_lossy(&request.payload.bytes).into_owned())
                .collect::<String>(),
        );
    }
    assert_eq!(bodies, ["13", "2", "13"]);
}

#[tokio::test]
async fn only_those_who_are_known_are_let_in() {
    let server = Server::start(|_| {}).await;
    let (mut route, queue) = self::route(16);
    let access = AccessOptions {
        bearer_tokens: Some(vec![Secret::new("t1")]),
        basic_users: Some(BTreeMap::from([("ada".to_owned(), Secret::new("pw"))])),
    };
    let signature = SignatureOptions { hmac_secrets: Some(vec![Secret::new("key")]), ..SignatureOptions::default() };
    route.access = Access::new(&access, &signature).unwrap();
    let _registration = server.register("/a", "s", route);
    let _source = take_all(queue);
    let sign = |key: &str, body: &[u8]| {
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, key.as_bytes());
        format!("sha256={}", hex::encode(ring::hmac::sign(&key, body)))
    };
    let (right, wrong) = (sign("key", b"{}"), sign("other", b"{}"));
    for (header, value, expected) in [
        ("authorization", "Bearer t1", 200),
        ("authorization", "Bearer t2", 403),
        ("authorization", "Basic YWRhOnB3", 200),
        ("authorization", "Basic YWRhOng=", 403),
        ("x-signature-256", right.as_str(), 200),
        ("x-signature-256", wrong.as_str(), 403),
        ("x-nothing", "", 401),
    ] {
        assert_eq!(post(&server.url("/a"), "{}", &[(header, value)]).await.0, expected, "{header}: {value}");
    }
    let answer = reqwest::Client::new().post(server.url("/a")).send().await.unwrap();
    let challenge = answer.headers()["www-authenticate"].to_str().unwrap();
    assert_eq!(challenge, "Bearer, Basic realm=\"sluice\", charset=\"UTF-8\", HMAC-SHA256 header=\"x-signature-256\"");
}

#[tokio::test]
async fn bytes_that_are_no_clients_habit() {
    let server = Server::start(|settings| settings.body_limit = 1000).await;
    let (route, queue) = self::route(16);
    let _registration = server.register("/a", "s", route);
    let _source = take_all(queue);
    let head = "POST /a HTTP/1.1\r\nhost: x\r\n";
    let chunks = |n: usize| {
        format!("{head}connection: close\r\ntransfer-encoding: chunked\r\n\r\n{}0\r\n\r\n", "2\r\n{}\r\n".repeat(n))
    };
    for (name, request, expected) in [
        ("chunks", chunks(2), "HTTP/1.1 200"),
        ("too many chunks", chunks(501), "HTTP/1.1 413"),
        (
            "announced too long",
            format!("{head}connection: close\r\ncontent-length: 1001\r\n\r\n{}", "x".repeat(1001)),
            "HTTP/1.1 413",
        ),
        ("a broken chunk", format!("{head}transfer-encoding: chunked\r\n\r\nzz\r\n"), "HTTP/1.1 400"),
        (
            "a chunk of its own idea",
            format!("{head}transfer-encoding: chunked\r\n\r\nffffffffffffffff\r\n"),
            "HTTP/1.1 4",
        ),
        ("two lengths", format!("{head}content-length: 2\r\ncontent-length: 3\r\n\r\n{{}}"), "HTTP/1.1 400"),
        ("no HTTP", "hello\r\n\r\n".to_owned(), "HTTP/1.1 400"),
        ("a long head", format!("{head}x: {}\r\n\r\n", "y".repeat(70_000)), "HTTP/1.1 431"),
    ] {
        let answer = server.raw(request.as_bytes()).await;
        assert!(answer.starts_with(expected), "{name}: {answer:?}");
    }
    // Requests in one go are answered in order; the last one says that it is the last.
    let two =
        format!("{head}content-length: 2\r\n\r\n{{}}{head}connection: close\r\ncontent-length: 5\r\n\r\n{{}},{{}}");
    let answer = server.raw(two.as_bytes()).await;
    assert!(answer.contains("{\"rows\":1}\n") && answer.ends_with("{\"rows\":2}\n"), "{answer}");
    // A client that wants to hear first whether its body is welcome.
    let expect = format!("{head}connection: close\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n{{}}");
    assert!(server.raw(expect.as_bytes()).await.starts_with("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200"));
    let welcome = format!("{head}connection: close\r\nexpect: 100-continue\r\ncontent-length: 5000\r\n\r\n");
    assert!(server.raw(welcome.as_bytes()).await.starts_with("HTTP/1.1 413"));
}

#[tokio::test]
async fn http_2_without_tls() {
    let server = Server::start(|_| {}).await;
    let (route, queue) = self::route(100);
    let _registration = server.register("/a", "s", route);
    let source = take_all(queue);
    let client = reqwest::Client::builder().http2_prior_knowledge().build().unwrap();
    let requests = (0..50).map(|n| client.post(server.url("/a")).body(n.to_string()).send());
    for answer in futures::future::join_all(requests).await {
        let answer = answer.unwrap();
        assert_eq!((answer.version(), answer.status().as_u16()), (reqwest::Version::HTTP_2, 200));
    }
    drop(_registration);
    drop(client);
    assert_eq!(source.await.unwrap().len(), 50);
}

#[tokio::test]
async fn too_many_at_a_time_are_told_so() {
    let server = Server::start(|settings| settings.concurrency = 1).await;
    let (route, _queue) = self::route(10);
    let _registration = server.register("/a", "s", route);
    // One connection, many requests: HTTP/2. Nobody reads the queue, so the first one holds the only place.
    let client = reqwest::Client::builder().http2_prior_knowledge().build().unwrap();
    let requests = (0..3).map(|n| client.post(server.url("/a")).body(n.to_string()).send());
    let mut statuses = Vec::new();
    for answer in futures::future::join_all(requests).await {
        statuses.push(answer.unwrap().status().as_u16());
    }
    statuses.sort_unstable();
    assert_eq!(statuses, [429, 503, 503]);
}

/// Time stands still but where somebody waits for it.
#[tokio::test(start_paused = true)]
async fn slow_clients_are_let_go() {
    let server = Server::start(|_| {}).await;
    let (route, queue) = self::route(16);
    let _registration = server.register("/a", "s", route);
    let _source = take_all(queue);
    for (name, bytes, expected) in [
        ("nothing", "", ""),
        ("half a version", "PRI", ""),
        ("half a head", "POST /a HTTP/1.1\r\nhost:", ""),
        ("half a body", "POST /a HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{", "HTTP/1.1 408"),
    ] {
        let answer = server.raw(bytes.as_bytes()).await;
        assert!(
            if expected.is_empty() { !answer.contains("200") } else { answer.starts_with(expected) },
            "{name}: {answer:?}"
        );
    }
    // A drop now and then does not help: the whole body has its time too.
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(b"POST /a HTTP/1.1\r\nhost: x\r\ncontent-length: 100000\r\n\r\n").await.unwrap();
    let start = tokio::time::Instant::now();
    let mut answer = vec![0; 12];
    loop {
        tokio::select! {
            read = stream.read_exact(&mut answer) => {
                read.unwrap();
                break;
            }
            () = tokio::time::sleep(Duration::from_secs(5)) => {
                stream.write_all(b"x").await.unwrap();
            }
        }
    }
    assert_eq!(answer, b"HTTP/1.1 408");
    let seconds = start.elapsed().as_secs();
    assert!((55..70).contains(&seconds), "{seconds} s");
}

#[tokio::test]
async fn memory_for_bodies_is_bounded() {
    let server = Server::start(|settings| settings.body_limit = 40 << 20).await;
    let (route, queue) = self::route(16);
    let _registration = server.register("/a", "s", route);
    let source = take_all(queue);
    // Two bodies that stay unfinished take 70 of 80 MiB; a third one of 11 finds no room, a small one does.
    let head = "POST /a HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: ";
    let half = vec![b' '; 35 << 20];
    let mut unfinished = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(format!("{head}{}\r\n\r\n", 36 << 20).as_bytes()).await.unwrap();
        stream.write_all(&half).await.unwrap();
        unfinished.push(stream);
    }
    // A byte now and then: they are slow, not gone.
    let slow = tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            for stream in &mut unfinished {
                stream.write_all(b" ").await.unwrap();
            }
        }
    });
    let url = server.url("/a");
    let third = Bytes::from(vec![b' '; 11 << 20]);
    loop {
        // Until the server has read all of the others.
        let (status, text) = post(&url, third.clone(), &[]).await;
        if status == 503 {
            assert!(text.contains("too many bodies at a time"), "{text}");
            break;
        }
    }
    assert_eq!(post(&url, "{}", &[]).await.0, 200);
    slow.abort();
    loop {
        // Until it has noticed that they are gone.
        if post(&url, third.clone(), &[]).await.0 == 200 {
            break;
        }
    }
    drop(_registration);
    server.ctx.tasks.shutdown().await;
    source.await.unwrap();
}
