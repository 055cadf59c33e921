use std::io::Write;
use std::time::Duration;

use futures::StreamExt;
use tokio_util::task::TaskTracker;

use super::*;
use crate::pipeline::tests::doubles::{collected, definitions, engine, rule, script, stream, until};

struct Server {
    url: String,
    engine: Engine,
    client: reqwest::Client,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Server {
    async fn start(token: Option<TokenFile>) -> Self {
        // Another test may have been first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (engine, stop, tasks) = (engine(), CancellationToken::new(), TaskTracker::new());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = serve(listener, engine.clone(), token, stop.clone());
        tasks.spawn(async move { server.await.unwrap() });
        Server { url, engine, client: reqwest::Client::new(), stop, tasks }
    }

    async fn get(&self, path: &str) -> (u16, String) {
        let response = self.client.get(format!("{}{path}", self.url)).send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    }

    async fn stop(self) {
        assert!(self.engine.stop(Duration::from_secs(5)).await);
        self.stop.cancel();
        self.tasks.close();
        tokio::time::timeout(Duration::from_secs(5), self.tasks.wait()).await.unwrap();
    }
}

#[tokio::test]
async fn pages_say_what_the_rules_do() {
    let (source, sink) = (script("pages"), collected("pages_rule"));
    let server = Server::start(None).await;
    assert_eq!(server.get("/healthz").await.0, 200);
    assert_eq!(server.get("/readyz").await.0, 503, "nothing was applied");
    let mut broken = rule("pages_broken", "SELECT FROM pages");
    broken.origin.generation = 3;
    let engine = &server.engine;
    engine.apply(&definitions([stream("pages")], [rule("pages_rule", "SELECT n FROM pages WHERE n > 1"), broken]));
    source.rows([1, 2, 3]);
    until("the rows", || sink.numbers() == [2, 3]).await;
    until("ready", || engine.is_ready()).await;
    assert_eq!(server.get("/readyz").await, (200, "ready\n".to_owned()));

    let (_, text) = server.get("/rules").await;
    let rules: serde_json::Value = serde_json::from_str(&text).unwrap();
    let (broken, good) = (&rules["rules"][0], &rules["rules"][1]);
    assert_eq!((&broken["state"], &broken["wantedGeneration"]), (&"refused".into(), &3.into()));
    assert!(broken["message"].as_str().unwrap().starts_with("1:8: "), "{broken}");
    assert_eq!((&good["state"], &good["rowsIn"], &good["rowsOut"]), (&"running".into(), &3.into(), &2.into()));
    assert_eq!((&good["sources"][0]["connected"], &good["sinks"][0]["name"]), (&true.into(), &"collect_0".into()));
    let (_, one) = server.get("/rules/pages_rule").await;
    assert_eq!(serde_json::from_str::<serde_json::Value>(&one).unwrap()["name"], "pages_rule");
    assert_eq!(server.get("/rules/nobody").await, (404, "{\"error\":\"there is no rule \\\"nobody\\\"\"}".to_owned()));

    let (_, metrics) = server.get("/metrics").await;
    assert!(metrics.contains("sluice_rule_rows_in_total{rule=\"pages_rule\"} 3\n"), "{metrics}");
    assert!(metrics.contains("sluice_rule_state{rule=\"pages_broken\",state=\"refused\"} 1\n"), "{metrics}");
    server.stop().await;
}

#[tokio::test]
async fn a_tail_is_a_row_per_line_and_ends_with_the_rule() {
    let (source, _sink) = (script("tail_page"), collected("tail_rule"));
    let server = Server::start(None).await;
    server.engine.apply(&definitions([stream("tail_page")], [rule("tail_rule", "SELECT n, twice FROM tail_page")]));
    let response = server.client.get(format!("{}/rules/tail_rule/tail", server.url)).send().await.unwrap();
    assert_eq!(response.headers()["content-type"], "application/x-ndjson");
    let mut lines = response.bytes_stream();
    source.rows([1, 2]);
    let mut text = String::new();
    while text.lines().count() < 2 {
        text.push_str(std::str::from_utf8(&lines.next().await.unwrap().unwrap()).unwrap());
    }
    assert_eq!(text, "{\"n\":1,\"twice\":2}\n{\"n\":2,\"twice\":4}\n");
    source.play(crate::pipeline::tests::doubles::Step::End);
    assert!(lines.next().await.is_none(), "the rule is done");
    assert_eq!(server.get("/rules/tail_rule/tail").await.0, 404);
    server.stop().await;
}

#[tokio::test]
async fn with_a_token_only_the_probes_are_open() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    assert!(TokenFile::new(file.path()).is_err(), "an empty file holds no token");
    file.write_all(b"s3cret\n").unwrap();
    let server = Server::start(Some(TokenFile::new(file.path()).unwrap())).await;
    let cases = [
        ("/healthz", None, 200),
        ("/readyz", None, 503),
        ("/metrics", None, 401),
        ("/rules", None, 401),
        ("/rules/x/tail", None, 401),
        ("/rules", Some("wrong!"), 401),
        ("/rules", Some("s3cret2"), 401),
        ("/rules", Some("s3cret"), 200),
        ("/metrics", Some("s3cret"), 200),
    ];
    for (path, token, expected) in cases {
        let mut request = server.client.get(format!("{}{path}", server.url));
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.status().as_u16(), expected, "{path} with {token:?}");
    }
    std::fs::write(file.path(), "rotated").unwrap();
    let request = server.client.get(format!("{}/rules", server.url)).bearer_auth("rotated");
    assert_eq!(request.send().await.unwrap().status().as_u16(), 200, "the token is read at every request");
    server.stop().await;
}
