//! The NATS source and sink against a real server: messages, headers, logins, TLS, outages.

use serde_json::{Value, json};
use sluice::Fault;
use sluice::sink::{Message, Output, Prop, Props, SinkError};
use sluice_tests::services::{Nats, NatsClient, NatsOptions, unique};
use sluice_tests::sluice::Sluice;
use sluice_tests::wait;

use super::connector::{connect, context, meta, read, sink, source};

/// Options of a sink that sends each message where it is told.
fn anywhere(server: &Nats) -> Value {
    json!({"server": server.url(), "subject": "{{.}}"})
}

fn message(subject: &str, headers: &[(&str, &str)], body: impl Into<String>) -> Message {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let props = Props(vec![Prop::Text(subject.to_owned()), Prop::Map(headers)].into());
    Message { body: body.into().into(), props, n_rows: 1 }
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_with_headers_both_ways() {
    let server = Nats::shared().await;
    let base = unique("nats");
    let mut source = source("nats", &format!("{base}.*, {base}.x.>"), json!({"server": server.url()}));
    connect(&mut *source).await.unwrap();
    let mut client = NatsClient::connect(server.port()).await.unwrap();
    let large = vec![7; 900_000];
    client.publish(&format!("{base}.a"), "Site: north\r\n", b"{}").await.unwrap();
    client.publish(&format!("{base}.x.y.z"), "", &large).await.unwrap();
    client.publish(&format!("{base}.a.b"), "", b"nobody's").await.unwrap();
    client.publish(&format!("{base}.b"), "", b"").await.unwrap();
    client.confirmed().await.unwrap();
    let payloads = read(&mut *source, 3).await;
    let meta: Vec<Value> = payloads.iter().map(meta).collect();
    assert_eq!(meta[0], json!({"subject": format!("{base}.a"), "headers": {"Site": "north"}}));
    assert_eq!(meta[1]["subject"], json!(format!("{base}.x.y.z")));
    let bodies: Vec<&[u8]> = payloads.iter().map(|payload| &payload.bytes[..]).collect();
    assert_eq!(bodies, [b"{}", &large[..], b""]);

    client.subscribe(&format!("{base}.out.>")).await.unwrap();
    let mut sink = sink("nats", anywhere(server));
    let context = context();
    sink.connect(&context).await.unwrap();
    let subject = format!("{base}.out.1");
    let messages = [
        message(&subject, &[("K", "v")], "one"),
        message("a b", &[], "bad subject"),
        message(&subject, &[], "x".repeat(2 << 20)),
        message(&subject, &[], "two"),
    ];
    match sink.write(Output::Messages(&messages)).await {
        Err(SinkError::Refused { items, .. }) => assert_eq!(items, [1, 2]),
        other => panic!("{other:?}"),
    }
    assert_eq!(client.next().await.unwrap(), (subject.clone(), "NATS/1.0\r\nK: v\r\n\r\n".to_owned(), b"one".to_vec()));
    assert_eq!(client.next().await.unwrap(), (subject, String::new(), b"two".to_vec()));
    context.tasks.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_group_shares_the_messages() {
    let server = Nats::shared().await;
    let subject = unique("queue");
    let options = json!({"server": server.url(), "queueGroup": "g"});
    let (mut one, mut two) = (source("nats", &subject, options.clone()), source("nats", &subject, options));
    connect(&mut *one).await.unwrap();
    connect(&mut *two).await.unwrap();
    let mut client = NatsClient::connect(server.port()).await.unwrap();
    for number in 0..100 {
        client.publish(&subject, "", number.to_string().as_bytes()).await.unwrap();
    }
    let mut numbers: Vec<u32> = Vec::new();
    while numbers.len() < 100 {
        let payloads = tokio::select! {
            payloads = read(&mut *one, 1) => payloads,
            payloads = read(&mut *two, 1) => payloads,
        };
        numbers.extend(
            payloads.iter().map(|payload| std::str::from_utf8(&payload.bytes).unwrap().parse::<u32>().unwrap()),
        );
    }
    numbers.sort_unstable();
    assert_eq!(numbers, (0..100).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn logins_and_tls() {
    let (seed, public) = (
        "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY",
        "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4",
    );
    let server = Nats::start_with(NatsOptions {
        tls: true,
        user: Some(("ada".to_owned(), "hunter2".to_owned())),
        nkey: Some(public.to_owned()),
    })
    .await
    .unwrap();
    let ca = server.tls.as_ref().unwrap().ca.display().to_string();
    let with = |more: Value| {
        let mut options = json!({"server": server.url(), "rootCaPath": ca});
        options.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        options
    };
    let outcome = async |options: Value| {
        let mut source = source("nats", "a", options);
        connect(&mut *source).await
    };
    outcome(with(json!({"username": "ada", "password": "hunter2"}))).await.unwrap();
    outcome(with(json!({"nkeySeed": seed}))).await.unwrap();
    let error = outcome(with(json!({"username": "ada", "password": "hunter3"}))).await.unwrap_err();
    assert_eq!(error.fault, Fault::User, "{error}");
    assert!(error.message.contains("Authorization Violation") && !error.message.contains("hunter"), "{error}");
    // The server wants TLS, so it is spoken without being asked for; its authority is not known then.
    let error = outcome(json!({"server": server.url()})).await.unwrap_err();
    assert!(error.message.contains("unknown authority") || error.message.contains("no trusted"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn both_ends_come_back_after_an_outage() {
    let mut server = Nats::start().await.unwrap();
    let mut source = source("nats", "a", json!({"server": server.url()}));
    connect(&mut *source).await.unwrap();
    let mut sink = sink("nats", anywhere(&server));
    let context = context();
    sink.connect(&context).await.unwrap();
    sink.write(Output::Messages(&[message("a", &[], "before")])).await.unwrap();
    assert_eq!(&read(&mut *source, 1).await[0].bytes[..], b"before");

    server.kill();
    let lost = tokio::time::timeout(wait::DEADLINE, source.next()).await.unwrap().unwrap_err();
    assert!(lost.message.contains("closed"), "{lost}");
    assert!(connect(&mut *source).await.unwrap_err().message.contains("can't reach NATS at"));
    let write = sink.write(Output::Messages(&[message("a", &[], "lost")])).await;
    assert!(matches!(write, Err(SinkError::Failed(_))), "{write:?}");
    wait::until_true("the sink to know", async || context.health.state().connected == Some(false)).await;

    server.restart().await.unwrap();
    connect(&mut *source).await.unwrap();
    sink.connect(&context).await.unwrap();
    sink.write(Output::Messages(&[message("a", &[], "after")])).await.unwrap();
    assert_eq!(&read(&mut *source, 1).await[0].bytes[..], b"after");
    context.tasks.shutdown().await;
}

/// A rule that has nothing to write says all the same how its connection stands.
#[tokio::test(flavor = "multi_thread")]
async fn an_idle_rule_is_connected_again_after_an_outage() {
    let mut server = Nats::start().await.unwrap();
    let files = tempfile::tempdir().unwrap();
    let url = server.url();
    let manifests = format!(
        "---\napiVersion: sluice.dev/v1alpha1\nkind: Stream\nmetadata: {{name: s}}\nspec: {{type: memory, datasource: s}}\n\
         ---\napiVersion: sluice.dev/v1alpha1\nkind: Rule\nmetadata: {{name: r}}\nspec:\n  sql: SELECT * FROM s\n  sinks:\n  \
         - nats: {{server: \"{url}\", subject: out}}\n"
    );
    std::fs::write(files.path().join("rule.yaml"), manifests).unwrap();
    // Ready when every sink is connected.
    let sluice = Sluice::run_ready(files.path(), &[]).await.unwrap();
    let until_connected = async |expected: bool| {
        wait::until_true("the rule to say so", async || {
            let status = sluice.get("/rules/r").await.unwrap();
            let status: Value = serde_json::from_str(&status).unwrap();
            status["sinks"][0]["connected"] == json!(expected)
        })
        .await;
    };
    until_connected(true).await;
    server.kill();
    until_connected(false).await;
    server.restart().await.unwrap();
    until_connected(true).await;
}
