//! The sink and its driver against an HTTP server that answers as it is told.

use std::collections::VecDeque;
use std::sync::Mutex;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::json;
use sluice_sql::value::{Batch, Column, ColumnKind, Row, Schema};
use sluice_sql::{Type, Value};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::definition::SinkDef;
use crate::options::Options;
use crate::pipeline::channel::{Limits, Receiver, channel};
use crate::pipeline::metrics::{DropReason, SinkMetrics};
use crate::pipeline::outlet::ToSink;
use crate::pipeline::sink::{SinkDriver, SinkParts};
use crate::registry::Registry;
use crate::time::SystemClock;

#[derive(Default)]
struct Far {
    /// Statuses, and headers, to answer with before everything is taken.
    answers: VecDeque<(u16, Option<(&'static str, &'static str)>)>,
    /// A body that is refused for good.
    poison: Option<&'static str>,
    /// `METHOD path [header=value] body` of every request.
    requests: Vec<String>,
    /// Bodies of those that were taken.
    taken: Vec<String>,
}

type Shared = Arc<Mutex<Far>>;

async fn answer(State(far): State<Shared>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    let body = String::from_utf8_lossy(&body).into_owned();
    let mut far = far.lock().unwrap();
    let shown = ["content-type", "content-encoding", "x-room", "authorization"]
        .iter()
        .filter_map(|name| head.headers.get(*name).map(|value| format!(" {name}={}", value.to_str().unwrap())));
    far.requests.push(format!("{} {}{} {body}", head.method, head.uri, shown.collect::<String>()));
    let (status, header) = match far.answers.pop_front() {
        Some(answer) => answer,
        None if far.poison.is_some_and(|poison| body.contains(poison)) => (422, None),
        None => {
            far.taken.push(body);
            (200, None)
        }
    };
    let mut response = Response::builder().status(StatusCode::from_u16(status).unwrap());
    if let Some((name, value)) = header {
        response = response.header(name, value);
    }
    response.body(Body::from("secret answer")).unwrap()
}

/// A driver, and the channel that holds its rows and is closed.
async fn driver(
    options: serde_json::Value,
    metrics: &Arc<SinkMetrics>,
    rows: Vec<(i64, &str)>,
) -> (SinkDriver, Receiver<ToSink>) {
    let ctx = ConnectorContext {
        name: "r/rest_0".into(),
        connections: Default::default(),
        clock: Arc::new(SystemClock),
        tasks: Default::default(),
        health: metrics.health.clone(),
    };
    let columns = ["n", "room"].map(|name| Column { name: name.into(), kind: ColumnKind::Field, ty: Type::Any });
    let schema = Arc::new(Schema { columns: columns.into() });
    let def = SinkDef { connector: "rest".to_owned(), options: Options::from(options) };
    let parts = SinkParts {
        rule: "r",
        index: 0,
        output: &schema,
        registry: &Registry::builtin(),
        ctx,
        metrics: Arc::clone(metrics),
        backpressure: Default::default(),
    };
    let driver = SinkDriver::new(&def, parts).unwrap();
    let rows = rows.into_iter().map(|(n, room)| Row { ts: 0, values: vec![Value::Int(n), Value::string(room)] });
    let (sender, receiver) = channel(Limits::of_items(1), |_| {});
    sender.send(ToSink::from(Arc::new(Batch::per_row(schema, rows.collect())))).await.unwrap();
    (driver, receiver)
}

/// Runs all rows through a driver; returns what the server saw, and the metrics. `HOST` in the URL is the server.
async fn run(mut options: serde_json::Value, far: Far, rows: Vec<(i64, &str)>) -> (Far, Arc<SinkMetrics>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let far = Arc::new(Mutex::new(far));
    let app = Router::new().fallback(answer).with_state(Arc::clone(&far));
    options["url"] = options["url"].as_str().unwrap_or("http://HOST/").replace("HOST", &address.to_string()).into();
    let metrics = Arc::new(SinkMetrics::new("r", 0, "rest", Arc::new(SystemClock)));
    let (driver, receiver) = driver(options, &metrics, rows).await;
    tokio::select! {
        () = driver.run(receiver, CancellationToken::new()) => {}
        served = axum::serve(listener, app).into_future() => panic!("the server ended: {served:?}"),
    }
    let far = std::mem::take(&mut *far.lock().unwrap());
    (far, metrics)
}

fn three() -> Vec<(i64, &'static str)> {
    vec![(1, "a"), (2, "b"), (3, "c")]
}

#[tokio::test]
async fn requests_per_option() {
    let single = |mut options: serde_json::Value| {
        options["sendSingle"] = json!(true);
        options
    };
    let cases = [
        (json!({}), "GET / "),
        (json!({"method": "POST"}), r#"POST / content-type=application/json [{"n":1,"room":"a"}]"#),
        (
            single(
                json!({"method": "put", "url": "http://HOST/rooms/{{.room}}?n={{.n}}", "headers": {"X-Room": "{{upper .room}}", "Authorization": "Bearer t"}}),
            ),
            r#"PUT /rooms/a?n=1 content-type=application/json x-room=A authorization=Bearer t {"n":1,"room":"a"}"#,
        ),
        (
            single(
                json!({"method": "POST", "bodyType": "text", "dataTemplate": "{{.n}}!", "headers": {"Content-Type": "text/csv"}}),
            ),
            "POST / content-type=text/csv 1!",
        ),
        (
            single(json!({"method": "POST", "format": "urlencoded"})),
            "POST / content-type=application/x-www-form-urlencoded n=1&room=a",
        ),
    ];
    for (options, expected) in cases {
        let (far, metrics) = run(options, Far::default(), vec![(1, "a")]).await;
        assert_eq!(far.requests, [expected]);
        assert_eq!(metrics.rows_out.get(), 1);
    }
}

#[tokio::test]
async fn compressed_bodies_say_so_and_forms_carry_the_message_as_a_file() {
    let (far, _) = run(json!({"method": "POST", "compression": "gzip"}), Far::default(), vec![(1, "a")]).await;
    assert!(
        far.requests[0].starts_with("POST / content-type=application/json content-encoding=gzip "),
        "{:?}",
        far.requests
    );
    let form = json!({"method": "POST", "bodyType": "formdata", "formData": {"room": "{{.room}}"}, "fileFieldName": "f", "sendSingle": true});
    let (far, _) = run(form, Far::default(), vec![(1, "a")]).await;
    let request = &far.requests[0];
    for part in [
        "content-type=multipart/form-data; boundary=sluice-",
        "Content-Disposition: form-data; name=\"room\"\r\n\r\na\r\n",
        "Content-Disposition: form-data; name=\"f\"; filename=\"",
        "\r\n\r\n{\"n\":1,\"room\":\"a\"}\r\n--sluice-",
    ] {
        assert!(request.contains(part), "{part} in {request}");
    }
}

#[tokio::test]
async fn what_the_server_can_not_take_now_is_sent_again_in_order() {
    let answers = [(503, None), (429, Some(("retry-after", "0"))), (408, None), (500, None)].into();
    let options = json!({"method": "POST", "sendSingle": true, "fields": ["n"]});
    let (far, metrics) = run(options, Far { answers, ..Far::default() }, three()).await;
    assert_eq!(far.taken, [r#"{"n":1}"#, r#"{"n":2}"#, r#"{"n":3}"#]);
    assert_eq!(far.requests.len(), 7);
    assert_eq!((metrics.rows_out.get(), metrics.dropped.total()), (3, 0));
    assert_eq!(metrics.health.state().n_retries, 4);
}

#[tokio::test]
async fn what_the_server_will_never_take_is_set_aside() {
    let options = json!({"method": "POST", "sendSingle": true, "fields": ["n"]});
    let (far, metrics) = run(options, Far { poison: Some("2"), ..Far::default() }, three()).await;
    assert_eq!(far.taken, [r#"{"n":1}"#, r#"{"n":3}"#]);
    assert_eq!(far.requests.len(), 3, "each was sent once");
    assert_eq!((metrics.rows_out.get(), metrics.dropped.get(DropReason::Refused)), (2, 1));
    let newest = metrics.errors.newest().unwrap().message;
    assert_eq!(newest, "1 rows set aside: server answered 422 Unprocessable Entity");
}

#[tokio::test]
async fn a_redirect_that_would_lose_the_body_is_not_followed() {
    let options = || json!({"method": "POST", "fields": ["n"]});
    let lost = [(302, Some(("location", "/other")))].into();
    let (far, metrics) = run(options(), Far { answers: lost, ..Far::default() }, vec![(1, "a")]).await;
    assert_eq!((far.requests.len(), metrics.dropped.get(DropReason::Refused)), (1, 1));
    let kept = [(307, Some(("location", "/other")))].into();
    let (far, metrics) = run(options(), Far { answers: kept, ..Far::default() }, vec![(1, "a")]).await;
    assert_eq!(far.taken, [r#"[{"n":1}]"#]);
    assert!(far.requests[1].starts_with("POST /other "));
    assert_eq!(metrics.rows_out.get(), 1);
}

#[test]
fn wrong_options_are_named() {
    let cases = [
        (json!({"url": "localhost:80"}), "json", "url: must be an http or https URL with a host"),
        (json!({"url": "ftp://{{.a}}"}), "json", "url: must be an http or https URL"),
        (
            json!({"url": "http://a", "bodyType": "json"}),
            "delimited",
            "bodyType: needs `format: json`, not `delimited`",
        ),
        (json!({"url": "http://a", "bodyType": "form"}), "json", "bodyType: needs `format: urlencoded`, not `json`"),
        (json!({"url": "http://a", "headers": {"a b": "c"}}), "json", "headers.a b: is no name of an HTTP header"),
        (
            json!({"url": "http://a", "formData": {"a": "c"}}),
            "json",
            "formData: is only used with `bodyType: formdata`",
        ),
        (
            json!({"url": "http://a", "privateKeyRaw": "x"}),
            "json",
            "certificationPath: a client key needs its certificate: set certificationPath or certificationRaw; privateKeyRaw: ",
        ),
    ];
    for (options, format, expected) in cases {
        let args = SinkArgs {
            rule: "r",
            index: 0,
            output: &Arc::default(),
            options: &Options::from(options),
            format,
            compression: None,
        };
        let error = build(&args).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.starts_with(expected), "{error}");
    }
}

#[tokio::test]
async fn rows_wait_for_a_server_that_is_not_there_yet() {
    // A port that nobody listens on yet.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let metrics = Arc::new(SinkMetrics::new("r", 0, "rest", Arc::new(SystemClock)));
    let options = json!({"url": format!("http://{address}/"), "method": "POST", "fields": ["n"], "sendSingle": true});
    let (driver, receiver) = driver(options, &metrics, three()).await;
    let far = Shared::default();
    let serve = async {
        while metrics.health.state().connected != Some(false) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let listener = tokio::net::TcpListener::bind(address).await.unwrap();
        axum::serve(listener, Router::new().fallback(answer).with_state(Arc::clone(&far))).await
    };
    tokio::select! {
        () = driver.run(receiver, CancellationToken::new()) => {}
        served = serve => panic!("the server ended: {served:?}"),
    }
    assert_eq!(far.lock().unwrap().taken, [r#"{"n":1}"#, r#"{"n":2}"#, r#"{"n":3}"#]);
    assert_eq!((metrics.rows_out.get(), metrics.dropped.total()), (3, 0));
    assert_eq!(metrics.health.state().connected, Some(true));
}
