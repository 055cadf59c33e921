//! Against a real server.

#![expect(clippy::disallowed_methods, reason = "what is spawned ends with the test's runtime")]

use std::sync::Mutex;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use serde_json::json;

use super::super::tests::{build_source, drain_as_json, read_as_json};
use super::*;

/// What the server answers, one after the other, and then nothing; and what it was asked for.
#[derive(Default)]
struct Far {
    answers: Vec<(u16, &'static str)>,
    asked: Vec<String>,
}

type Shared = Arc<Mutex<Far>>;

async fn answer(State(far): State<Shared>, request: Request) -> (StatusCode, &'static str) {
    let mut far = far.lock().unwrap();
    let token = request.headers().get("x-token").map_or("", |value| value.to_str().unwrap());
    let asked = format!("{} {} {token}", request.method(), request.uri()).trim_end().to_owned();
    far.asked.push(asked);
    let (status, body) = if far.answers.is_empty() { (204, "") } else { far.answers.remove(0) };
    (StatusCode::from_u16(status).unwrap(), body)
}

async fn serve(answers: &[(u16, &'static str)]) -> (String, Shared) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let far: Shared = Arc::new(Mutex::new(Far { answers: answers.to_vec(), asked: Vec::new() }));
    let app = Router::new().fallback(answer).with_state(Arc::clone(&far));
    tokio::spawn(async move { axum::serve(listener, app).await });
    (url, far)
}

#[tokio::test]
async fn once_without_an_interval() {
    let (url, far) = serve(&[(200, "[{\"a\":1}]")]).await;
    let options = json!({"url": url, "method": "POST", "body": "{}", "headers": {"X-Token": "t"}});
    let mut source = build_source(&TYPE, "/rows?x=1", "json", options).unwrap();
    assert_eq!(drain_as_json(&mut *source, 9).await, ["[{\"a\":1}]"]);
    assert_eq!(far.lock().unwrap().asked, ["POST /rows?x=1 t"]);
}

#[tokio::test]
async fn again_and_again_with_states() {
    let answers =
        [(200, "[{\"id\":1},{\"id\":7}]"), (204, ""), (200, "{\"id\":9}"), (200, "{\"id\":9}"), (200, "{\"id\":10}")];
    let (url, far) = serve(&answers).await;
    let options = json!({"url": format!("{url}/?after={{{{.id}}}}&t={{{{.LastPullTime}}}}"), "interval": "1ms", "incremental": true, "states": {"id": 0}});
    let mut source = build_source(&TYPE, "", "json", options).unwrap();
    assert_eq!(drain_as_json(&mut *source, 3).await, ["[{\"id\":1},{\"id\":7}]", "{\"id\":9}", "{\"id\":10}"]);
    let far = far.lock().unwrap();
    let after: Vec<&str> = far.asked.iter().map(|asked| asked.split(['=', '&']).nth(1).unwrap()).collect();
    assert_eq!(after, ["0", "7", "7", "9", "9"]);
    assert!(far.asked[0].ends_with("&t=0") && !far.asked[1].ends_with("&t=0"), "{:?}", far.asked);
}

#[tokio::test]
async fn what_goes_wrong_is_tried_again() {
    let answers = [(500, ""), (200, "{\"code\":500}"), (200, "{}"), (200, "x"), (200, "{\"code\":200}")];
    let (url, _far) = serve(&answers).await;
    let options = json!({"url": url, "responseType": "body"});
    let mut source = build_source(&TYPE, "", "json", options).unwrap();
    source.connect(&super::super::tests::context()).await.unwrap();
    for expected in
        ["server answered 500", "server answered with code 500", "the answer has no code", "the answer is no JSON"]
    {
        let error = source.next().await.unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}");
    }
    assert_eq!(read_as_json(&mut *source, 1).await, ["{\"code\":200}"]);
    assert!(source.next().await.unwrap().is_none());
}

#[test]
fn options() {
    for (options, expected) in [
        (json!({"url": "http://h/{{.x}}", "states": {"x": 1}, "interval": "10s"}), "ok"),
        (json!({"url": "ftp://h/"}), "url: must be an http or https URL"),
        (json!({"url": "http://h/{{.x"}), "url: "),
        (json!({"url": "http://h/", "headers": {"a b": "x"}}), "headers.a b: is no HTTP header"),
        (json!({"url": "http://h/", "method": "PATCH"}), "method: "),
        (json!({}), "url: "),
    ] {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let _entered = runtime.enter();
        let outcome = build_source(&TYPE, "", "json", options.clone())
            .err()
            .map_or_else(|| "ok".to_owned(), |error| error.to_string());
        assert!(outcome.starts_with(expected), "{options}: {outcome}");
    }
}
