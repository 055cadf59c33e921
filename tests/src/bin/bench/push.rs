//! W7: rows pushed over HTTP, beside a bare handler of the same library, and beside bare decoding.

use std::convert::Infallible;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use futures::future::BoxFuture;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use serde_json::json;
use sluice::connection::http_server::ServerSettings;
use sluice::format::{DecodeArgs, json};
use sluice::pipeline::{Engine, Settings};
use sluice::{Definitions, Registry};
use sluice_sql::{Column, ColumnKind, Schema, Type};
use sluice_tests::services::free_port;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::measure::{W1, apply, median, rule, s1_fields, stream, thread_cpu_ns, verdict};
use crate::payload::{Size, payloads};

const PATH: &str = "/bench/s1";
const N_CONNECTIONS: usize = 32;
/// Requests of each connection before the clock starts.
const N_WARM_UP: usize = 50;
/// Rows of an array.
const N_ROWS: usize = 100;

/// W7.
pub fn w7(rounds: usize, n_requests: usize) -> Result<()> {
    let rows = payloads(Size::P100, 10_000);
    let arrays: Vec<Bytes> = rows.chunks(N_ROWS).map(|rows| array(rows).into()).collect();
    for (what, bodies, rows_per_body, n_requests) in
        [("single posts", &rows, 1, n_requests), ("arrays of 100", &arrays, N_ROWS, n_requests / 10)]
    {
        let requests: Arc<Vec<Vec<u8>>> = Arc::new(bodies.iter().map(request).collect());
        let (mut bare_rates, mut bare_costs, mut rates, mut costs) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for _ in 0..rounds {
            let (rate, cost) = pushed(&requests, n_requests, |port| Box::pin(bare(port)))?;
            bare_rates.push(rate);
            bare_costs.push(cost);
            let (rate, cost) = pushed(&requests, n_requests, |port| Box::pin(engine(port)))?;
            rates.push(rate);
            costs.push(cost);
        }
        let (bare_rate, bare_cost) = (median(bare_rates), median(bare_costs));
        let (rate, cost) = (median(rates), median(costs));
        println!("W7, {what}, {N_CONNECTIONS} connections, server on one thread, client on another:");
        println!(
            "  engine {rate:.0} requests/s, {:.1} us of CPU each; bare handler {bare_rate:.0}, {:.1} us",
            cost / 1e3,
            bare_cost / 1e3
        );
        if rows_per_body == 1 {
            verdict("engine / bare handler, requests/s", rate / bare_rate, rate >= 0.8 * bare_rate, "at least 0.8");
            verdict("bare handler / engine, CPU", bare_cost / cost, bare_cost >= 0.8 * cost, "at least 0.8");
        } else {
            let n_rows = rows_per_body as f64;
            let parse = bare_parse(bodies, n_requests)?;
            let per_core = n_rows * 1e9 / cost;
            let share = parse / cost;
            println!(
                "  {:.2} million rows/s arrive, {:.2} per core; bare parse {:.2}",
                rate * n_rows / 1e6,
                per_core / 1e6,
                n_rows * 1e3 / parse
            );
            verdict(
                "million rows/s per core",
                per_core / 1e6,
                per_core >= 1e6 || share >= 0.4,
                "at least 1, or 0.4 of a bare parse",
            );
            println!("    of a bare parse: {share:.2}");
        }
    }
    Ok(())
}

fn array(rows: &[Bytes]) -> Vec<u8> {
    let mut array = vec![b'['];
    for (idx, row) in rows.iter().enumerate() {
        if idx > 0 {
            array.push(b',');
        }
        array.extend_from_slice(row);
    }
    array.push(b']');
    array
}

fn request(body: &Bytes) -> Vec<u8> {
    let head = format!(
        "POST {PATH} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// Requests per second, and nanoseconds of CPU that the server's thread spends on each.
fn pushed(
    requests: &Arc<Vec<Vec<u8>>>,
    n_requests: usize,
    serve: fn(u16) -> BoxFuture<'static, Result<()>>,
) -> Result<(f64, f64)> {
    let port = free_port();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            tokio::select! {
                served = serve(port) => served?,
                _ = stopped => {}
            }
            thread_cpu_ns()
        })
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let rate = runtime.block_on(async {
        let mut clients = Vec::new();
        for idx in 0..N_CONNECTIONS {
            clients.push(Client { socket: connect(port).await?, requests: Arc::clone(requests), next: idx * 7 });
        }
        for client in &mut clients {
            client.push(N_WARM_UP).await?;
        }
        let start = Instant::now();
        let pushes = clients.iter_mut().map(|client| client.push(n_requests / N_CONNECTIONS));
        futures::future::try_join_all(pushes).await?;
        anyhow::Ok((n_requests / N_CONNECTIONS * N_CONNECTIONS) as f64 / start.elapsed().as_secs_f64())
    })?;
    let _ = stop.send(());
    let cpu_ns = server.join().map_err(|_| anyhow::anyhow!("the server panicked"))??;
    Ok((rate, cpu_ns as f64 / (n_requests + N_CONNECTIONS * N_WARM_UP) as f64))
}

async fn connect(port: u16) -> Result<TcpStream> {
    let start = Instant::now();
    loop {
        match TcpStream::connect(("127.0.0.1", port)).await {
            Ok(socket) => {
                socket.set_nodelay(true)?;
                return Ok(socket);
            }
            Err(_) if start.elapsed().as_secs() < 10 => tokio::time::sleep(std::time::Duration::from_millis(5)).await,
            Err(error) => return Err(error.into()),
        }
    }
}

/// A keep-alive connection.
struct Client {
    socket: TcpStream,
    requests: Arc<Vec<Vec<u8>>>,
    next: usize,
}

impl Client {
    async fn push(&mut self, n_requests: usize) -> Result<()> {
        let mut buffer = [0; 1024];
        for _ in 0..n_requests {
            let request = &self.requests[self.next % self.requests.len()];
            self.next += 1;
            self.socket.write_all(request).await?;
            let mut n_read = 0;
            loop {
                let n = self.socket.read(&mut buffer[n_read..]).await?;
                ensure!(n > 0, "the server closed the connection");
                n_read += n;
                // Both servers' bodies end with a line break, and have no other.
                if buffer[..n_read].ends_with(b"}\n") {
                    break;
                }
            }
            ensure!(buffer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&buffer[..n_read]));
        }
        Ok(())
    }
}

/// The least that can be done: read the body, say yes.
#[expect(clippy::disallowed_methods, reason = "the runtime ends with the round, and all tasks with it")]
async fn bare(port: u16) -> Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    loop {
        let (socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        let service = service_fn(|request: Request<Incoming>| async move {
            let body = request.into_body().collect().await.map(|body| body.to_bytes());
            black_box(body.is_ok());
            Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"{\"rows\":1}\n"))))
        });
        tokio::spawn(async move {
            // Clients end when they are done.
            let _ = auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(socket), service).await;
        });
    }
}

async fn engine(port: u16) -> Result<()> {
    let mut settings = Settings::new(Registry::builtin());
    settings.server = ServerSettings { address: ([127, 0, 0, 1], port).into(), ..ServerSettings::default() };
    let engine = Engine::new(settings);
    let definitions = Definitions {
        streams: vec![stream("s1", "httppush", PATH, s1_fields(), json!({}))],
        tables: Vec::new(),
        rules: vec![rule(W1, "nop")],
        ..Definitions::default()
    };
    apply(&engine, &definitions)?;
    engine.finished().await;
    anyhow::bail!("the rule has ended")
}

/// Nanoseconds for each body, decoded into the rule's slots.
fn bare_parse(bodies: &[Bytes], n_bodies: usize) -> Result<f64> {
    let column = |name: &str| Column { name: name.into(), kind: ColumnKind::Field, ty: Type::Any };
    let schema = Schema { columns: ["deviceId", "temperature", "humidity", "status"].map(column).to_vec() };
    let fields = s1_fields();
    let mut decoder = json::make_decoder(&DecodeArgs { schema: &Arc::new(schema), fields: &fields, delimiter: None })?;
    let mut rows = Vec::new();
    let before = thread_cpu_ns()?;
    for body in bodies.iter().cycle().take(n_bodies) {
        decoder.decode(body, 0, None, &mut rows).ok().context("a body does not parse")?;
        black_box(&rows);
        rows.clear();
    }
    Ok((thread_cpu_ns()? - before) as f64 / n_bodies as f64)
}
