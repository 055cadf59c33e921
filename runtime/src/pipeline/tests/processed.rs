//! Clients that wait until the sinks have taken what came of their rows (`ack: processed`).

use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::GRACE;
use super::doubles::{blocked, collected, definitions, registry, rule, slow_table, stream, until};
use super::durable::durable;
use crate::connection::http_server::ServerSettings;
use crate::definition::{Definitions, StreamDef};
use crate::options::Options;
use crate::pipeline::{Engine, Settings};
use crate::state::journal::Limits;
use crate::state::{StateStore, SyncPolicy};

/// An engine with a server of its own, and how to push to it.
struct Pushed {
    engine: Engine,
    url: String,
    client: reqwest::Client,
}

impl Pushed {
    fn start(state: Option<&Path>, definitions: &Definitions) -> Self {
        rustls::crypto::ring::default_provider().install_default().ok();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut settings = Settings::new(registry());
        settings.server = ServerSettings { address, ..ServerSettings::default() };
        settings.state = state.map(|dir| StateStore::open(dir, SyncPolicy::Always, Limits::default()).unwrap());
        let engine = Engine::new(settings);
        let report = engine.apply(definitions);
        assert_eq!(report.refused, []);
        Pushed { engine, url: format!("http://{address}"), client: reqwest::Client::new() }
    }

    /// Status and text of the answer; asks again while the server does not know the path yet.
    async fn post(&self, path: &str, body: &str) -> (u16, String) {
        loop {
            match self.client.post(format!("{}{path}", self.url)).body(body.to_owned()).send().await {
                Ok(answer) if answer.status() != 404 => {
                    return (answer.status().as_u16(), answer.text().await.unwrap());
                }
                _ => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    }
}

/// A stream on the path of its name.
fn pushed(name: &str, options: Value) -> StreamDef {
    let mut options = options;
    options["ack"] = "processed".into();
    if options.get("timeout").is_none() {
        // A busy machine is no reason to fail.
        options["timeout"] = "60s".into();
    }
    StreamDef {
        connector: "httppush".to_owned(),
        datasource: format!("/{name}"),
        options: Options::from(options),
        ..stream(name)
    }
}

fn taken(n_rows: usize) -> (u16, String) {
    (200, format!("{{\"rows\":{n_rows}}}\n"))
}

#[tokio::test]
async fn a_client_hears_when_every_sink_has_taken_its_rows() {
    let (first, second) = (collected("proc_a"), blocked("proc_b"));
    let stream = StreamDef { shared: true, ..pushed("proc", json!({})) };
    let rules = [rule("proc_a", "SELECT n FROM proc"), rule("proc_b", "SELECT n FROM proc WHERE n > 10")];
    let pushed = Pushed::start(None, &definitions([stream], rules));
    // What is filtered out keeps nobody waiting, though the second sink takes nothing.
    assert_eq!(pushed.post("/proc", r#"[{"n": 1}, {"n": 2}]"#).await, taken(2));
    assert_eq!(pushed.post("/proc", "[]").await, taken(0));
    let both = tokio::join!(pushed.post("/proc", r#"{"n": 11}"#), async {
        until("the first sink's row", || first.numbers() == [1, 2, 11]).await;
        // With the rules it is, but not with all sinks.
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(second.numbers(), [] as [i64; 0]);
        second.open();
    });
    assert_eq!((both.0, second.numbers()), (taken(1), vec![11]));
    assert!(pushed.engine.stop(GRACE).await);
}

#[tokio::test]
async fn a_client_hears_why_its_rows_are_not_taken() {
    let (sink, stuck) = (collected("proc_why"), blocked("proc_stuck"));
    sink.refuse(&[13]);
    let streams = [pushed("proc_why", json!({})), pushed("proc_stuck", json!({"timeout": "1s"}))];
    let rules = [
        rule("proc_why", "SELECT cast(n, \"bigint\") AS n FROM proc_why"),
        rule("proc_stuck", "SELECT n FROM proc_stuck"),
    ];
    let pushed = Pushed::start(None, &definitions(streams, rules));
    // Those that come together with one that is refused are told apart from it.
    let answers = tokio::join!(
        pushed.post("/proc_why", r#"{"n": 12}"#),
        pushed.post("/proc_why", r#"[{"n": 1}, {"n": 13}]"#),
        pushed.post("/proc_why", r#"{"n": 14}"#)
    );
    let refused = "{\"error\":\"sink collect_0 of rule proc_why does not take what came of it: see its lastError\"}\n";
    assert_eq!(answers, (taken(1), (422, refused.to_owned()), taken(1)));
    let left_out = "{\"error\":\"rule proc_why has left out 1 of the rows: see its lastError\"}\n";
    assert_eq!(pushed.post("/proc_why", r#"[{"n": "x"}, {"n": 15}]"#).await, (422, left_out.to_owned()));
    assert_eq!(pushed.post("/proc_why", "{").await.0, 400);
    let (status, text) = pushed.post("/proc_stuck", r#"{"n": 1}"#).await;
    assert!(status == 504 && text.contains("not processed in time"), "{status} {text}");
    stuck.open();
    until("what was late goes through all the same", || stuck.numbers() == [1]).await;
    assert!(pushed.engine.stop(GRACE).await);
}

#[tokio::test]
async fn a_rule_that_ends_before_it_is_done_says_so() {
    let sink = blocked("proc_end");
    let pushed = Pushed::start(
        None,
        &definitions([pushed("proc_end", json!({}))], [rule("proc_end", "SELECT n FROM proc_end")]),
    );
    let answer = tokio::join!(pushed.post("/proc_end", r#"{"n": 1}"#), async {
        until("the row", || pushed.engine.rule_status("proc_end").is_some_and(|status| status.rows_out == 1)).await;
        assert!(!pushed.engine.stop(Duration::ZERO).await);
    });
    assert_eq!(answer.0.0, 503);
    assert!(answer.0.1.contains("may be there twice"), "{}", answer.0.1);
    assert_eq!(sink.numbers(), [] as [i64; 0]);
}

#[tokio::test]
async fn what_a_window_holds_counts_and_what_a_lookup_asks_for_is_waited_for() {
    let (window, lookup) = (collected("proc_window"), collected("proc_lookup"));
    let rules = [
        rule("proc_window", "SELECT sum(n) AS n FROM proc_window GROUP BY COUNTWINDOW(2)"),
        rule(
            "proc_lookup",
            "SELECT proc_lookup.n FROM proc_lookup INNER JOIN proc_table ON proc_lookup.n = proc_table.id",
        ),
    ];
    let mut definitions = definitions([pushed("proc_window", json!({})), pushed("proc_lookup", json!({}))], rules);
    definitions.tables = vec![slow_table("proc_table")];
    let pushed = Pushed::start(None, &definitions);
    assert_eq!(pushed.post("/proc_window", r#"{"n": 1}"#).await, taken(1));
    assert_eq!(window.numbers(), [] as [i64; 0]);
    assert_eq!(pushed.post("/proc_window", r#"{"n": 2}"#).await, taken(1));
    assert_eq!(window.numbers(), [3], "the row that closes a window waits for its result");
    let answers = tokio::join!(
        pushed.post("/proc_lookup", r#"[{"n": 2}, {"n": 3}]"#),
        pushed.post("/proc_lookup", r#"{"n": 5}"#),
        pushed.post("/proc_lookup", r#"{"n": 4}"#)
    );
    assert_eq!(answers, (taken(2), taken(1), taken(1)));
    let mut numbers = lookup.numbers();
    numbers.sort_unstable();
    assert_eq!(numbers, [2, 4]);
    assert!(pushed.engine.stop(GRACE).await);
}

#[tokio::test]
async fn for_a_rule_that_keeps_state_the_queues_of_its_sinks_have_taken_it() {
    let dir = tempfile::tempdir().unwrap();
    let sink = blocked("proc_durable");
    let rules = [durable(rule("proc_durable", "SELECT n FROM proc_durable WHERE n > 0"))];
    let pushed = Pushed::start(Some(dir.path()), &definitions([pushed("proc_durable", json!({}))], rules));
    for n in 1..=3 {
        assert_eq!(pushed.post("/proc_durable", &format!("{{\"n\": {n}}}")).await, taken(1));
        // Also the first ones, which the rule may still read from its journal.
        let queue = pushed.engine.rule_status("proc_durable").unwrap().sinks[0].queue.clone().unwrap();
        assert_eq!((queue.disk_rows, queue.memory_items), (n, 0));
    }
    assert_eq!(pushed.post("/proc_durable", r#"{"n": 0}"#).await, taken(1));
    assert_eq!(pushed.post("/proc_durable", "[]").await, taken(0));
    assert_eq!(sink.numbers(), [] as [i64; 0]);
    sink.open();
    until("the rows", || sink.numbers() == [1, 2, 3]).await;
    assert!(pushed.engine.stop(GRACE).await);
}

#[tokio::test]
async fn a_client_waits_for_every_rule_of_its_stream_whatever_they_promise() {
    let dir = tempfile::tempdir().unwrap();
    let (plain, kept) = (blocked("proc_plain"), blocked("proc_kept"));
    let stream = StreamDef { shared: true, ..pushed("proc_both", json!({})) };
    let rules = [
        rule("proc_plain", "SELECT n FROM proc_both"),
        durable(rule("proc_kept", "SELECT sum(n) AS n FROM proc_both GROUP BY COUNTWINDOW(2)")),
    ];
    let pushed = Pushed::start(Some(dir.path()), &definitions([stream], rules));
    let status = |rule: &str| pushed.engine.rule_status(rule).unwrap();
    let answers = tokio::join!(pushed.post("/proc_both", r#"{"n": 1}"#), async {
        until("the row in the window", || status("proc_kept").rows_in == 1 && status("proc_plain").rows_out == 1).await;
        plain.open();
    });
    assert_eq!((answers.0, plain.numbers()), (taken(1), vec![1]), "what its window holds is in the journal");
    assert_eq!(pushed.post("/proc_both", r#"{"n": 2}"#).await, taken(1));
    let queue = status("proc_kept").sinks[0].queue.clone().unwrap();
    assert_eq!((queue.disk_rows, kept.numbers(), plain.numbers()), (1, vec![], vec![1, 2]));
    kept.open();
    until("the window", || kept.numbers() == [3]).await;
    assert!(pushed.engine.stop(GRACE).await);
}
