//! The MQTT source and sink against a real broker: delivery, acknowledgement, sessions, outages.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use serde_json::{Value, json};
use sluice::connection::{Connections, ConnectorContext, Health, Tasks};
use sluice::sink::{Message, Output, Prop, Props, Sink, SinkArgs, SinkError};
use sluice::source::{Ingest, Items, Payload, Source, SourceArgs, SourceContext};
use sluice::time::SystemClock;
use sluice::{Options, Registry};
use sluice_tests::mqtt::MqttClient;
use sluice_tests::services::{Mosquitto, MosquittoOptions, unique};
use sluice_tests::wait;

/// A process of ours, as far as connectors know.
struct Process(ConnectorContext);

impl Process {
    fn new() -> Self {
        Process(ConnectorContext {
            name: "test".into(),
            connections: Connections::default(),
            clock: Arc::new(SystemClock),
            tasks: Tasks::default(),
            health: Health::default(),
        })
    }

    /// A context for one more connector.
    fn context(&self) -> ConnectorContext {
        ConnectorContext { health: Health::default(), ..self.0.clone() }
    }

    async fn subscribe(&self, filter: &str, options: Value) -> TestSource {
        let registry = Registry::builtin();
        let options = Options::from(options);
        let args = SourceArgs { stream: "s", datasource: filter, format: "json", options: &options };
        let mut source = (registry.source("mqtt").unwrap().build)(&args).unwrap();
        let connector = self.context();
        let health = connector.health.clone();
        let context = SourceContext { connector, wants_meta: Arc::new(AtomicBool::new(true)) };
        source.connect(&context).await.unwrap();
        TestSource { source, health }
    }

    async fn publisher(&self, options: Value) -> (Box<dyn Sink>, ConnectorContext) {
        let registry = Registry::builtin();
        let options = Options::from(options);
        let args = SinkArgs {
            rule: "r",
            index: 0,
            output: &Arc::default(),
            options: &options,
            format: "json",
            compression: None,
        };
        ((registry.sink("mqtt").unwrap().build)(&args).unwrap(), self.context())
    }

    /// As after `kill -9`: nothing is acknowledged, closed or said goodbye to any more.
    async fn stop(self) {
        tokio::time::timeout(wait::DEADLINE, self.0.tasks.shutdown()).await.unwrap();
    }
}

struct TestSource {
    source: Box<dyn Source>,
    health: Health,
}

impl TestSource {
    async fn connected(&self) {
        wait::until_true("the source to be connected", || async { self.health.state().connected == Some(true) }).await;
    }

    async fn next(&mut self) -> (Vec<Payload>, Option<u64>) {
        let next = tokio::time::timeout(wait::DEADLINE, self.source.next()).await.expect("messages in time");
        match next.unwrap() {
            Some(Ingest { items: Items::Payloads(payloads), ack }) => (payloads, ack),
            other => panic!("no payloads: {other:?}"),
        }
    }

    /// Reads until `n` messages have arrived, acknowledging all.
    async fn read(&mut self, n: usize) -> Vec<String> {
        let mut texts = Vec::new();
        while texts.len() < n {
            let (payloads, ack) = self.next().await;
            texts.extend(payloads.iter().map(|payload| String::from_utf8(payload.bytes.to_vec()).unwrap()));
            if let Some(ack) = ack {
                self.source.ack(ack);
            }
        }
        texts
    }

    /// Takes and acknowledges what arrives within a moment; false if nothing does.
    async fn takes_some(&mut self) -> bool {
        match tokio::time::timeout(Duration::from_millis(300), self.source.next()).await {
            Ok(Ok(Some(ingest))) => {
                ingest.ack.into_iter().for_each(|ack| self.source.ack(ack));
                true
            }
            Ok(other) => panic!("{other:?}"),
            Err(_) => false,
        }
    }

    /// Nothing more arrives within a moment.
    async fn is_quiet(&mut self) {
        let next = tokio::time::timeout(Duration::from_millis(300), self.source.next()).await;
        assert!(next.is_err(), "{next:?}");
    }
}

fn message(topic: &str, body: impl Into<String>) -> Message {
    let props = Props(vec![Prop::Text(topic.to_owned()), Prop::None].into());
    Message { body: body.into().into(), props, n_rows: 1 }
}

/// Writes and connects as the pipeline does: again and again.
async fn write_surely(sink: &mut dyn Sink, context: &ConnectorContext, mut messages: &[Message]) {
    wait::until_true("the broker to take what is written", async || {
        if sink.connect(context).await.is_err() {
            return false;
        }
        match sink.write(Output::Messages(messages)).await {
            Ok(()) => true,
            Err(SinkError::Failed(_)) => false,
            Err(SinkError::Stopped { n_written, .. }) => {
                messages = &messages[n_written..];
                false
            }
            Err(refused) => panic!("{refused}"),
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_and_their_metadata() {
    let broker = Mosquitto::shared().await;
    for version in ["3.1.1", "5"] {
        let base = unique("meta");
        let process = Process::new();
        let options = json!({"server": broker.url(), "protocolVersion": version});
        let mut source = process.subscribe(&format!("{base}/+"), options.clone()).await;
        source.connected().await;
        let mut sink_options = options.clone();
        sink_options["topic"] = json!("from the template");
        sink_options["qos"] = json!(2);
        if version == "5" {
            sink_options["properties"] = json!({"k": "from the template"});
        }
        let (mut sink, context) = process.publisher(sink_options).await;
        sink.connect(&context).await.unwrap();
        let mut one = message(&format!("{base}/é"), "1");
        if version == "5" {
            one.props = Props(vec![Prop::Text(format!("{base}/é")), Prop::Map(vec![("k".into(), "v".into())])].into());
        }
        sink.write(Output::Messages(&[one])).await.unwrap();
        let (payloads, ack) = source.next().await;
        assert!(ack.is_some());
        let meta = payloads[0].meta.as_ref().unwrap();
        assert!(matches!(meta.get("topic"), Some(sluice_sql::Value::String(topic)) if *topic == format!("{base}/é")));
        assert!(matches!(meta.get("qos"), Some(sluice_sql::Value::Int(1))), "the lower of both");
        assert!(matches!(meta.get("messageId"), Some(sluice_sql::Value::Int(1..))));
        let properties = meta.get("properties").and_then(sluice_sql::Value::to_object);
        let value = properties.as_ref().and_then(|properties| properties.get("k"));
        assert_eq!(value.map(|value| format!("{value:?}")), (version == "5").then(|| "String(\"v\")".to_owned()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_with_overlapping_filters_each_get_a_message_once() {
    let broker = Mosquitto::shared().await;
    // With and without means to tell copies apart, and with a fixed client id.
    for (version, client_id) in [("3.1.1", None), ("5", None), ("5", Some(unique("client")))] {
        let base = unique("overlap");
        let process = Process::new();
        let mut options = json!({"server": broker.url(), "protocolVersion": version, "qos": 1});
        if let Some(client_id) = &client_id {
            options["clientid"] = json!(client_id);
        }
        let filters = ["a/+", "a/b", "#", "a/b", "a/b,+/b"]
            .map(|filter| filter.split(',').map(|filter| format!("{base}/{filter}")).collect::<Vec<_>>().join(","));
        let mut sources = Vec::new();
        for filter in &filters {
            sources.push(process.subscribe(filter, options.clone()).await);
        }
        for source in &sources {
            source.connected().await;
        }
        let client = MqttClient::connect(broker.port());
        // Connected is not subscribed: see first that something arrives.
        for source in &mut sources {
            wait::until_true("the subscription", async || {
                client.publish(&format!("{base}/a/b"), "probe").await.unwrap();
                source.takes_some().await
            })
            .await;
        }
        client.acknowledged().await;
        for source in &mut sources {
            // Probes that are still on their way.
            while source.takes_some().await {}
        }
        let expected: Vec<String> = (0..200).map(|n| n.to_string()).collect();
        for text in &expected {
            client.publish(&format!("{base}/a/b"), text.as_str()).await.unwrap();
        }
        // At once: a stream that does not acknowledge holds the others of its connection back.
        for received in futures::future::join_all(sources.iter_mut().map(|source| source.read(200))).await {
            assert_eq!(received, expected, "{version} {client_id:?}");
        }
        for source in &mut sources {
            source.is_quiet().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_message_is_accounted_for_when_the_broker_restarts() {
    for version in ["3.1.1", "5"] {
        let mut broker = Mosquitto::start().await.unwrap();
        let process = Process::new();
        let options = json!({
            "server": broker.url(),
            "protocolVersion": version,
            "enableClientSession": true,
            "sessionExpiryIntervalSeconds": 3600,
            "clientid": unique("session"),
            "qos": 1,
        });
        let mut source = process.subscribe("t/#", options).await;
        source.connected().await;
        let sink_options = json!({"server": broker.url(), "protocolVersion": version, "topic": "t/x", "qos": 1});
        let (mut sink, context) = process.publisher(sink_options).await;
        let mut seen = BTreeSet::new();
        let numbers = 3000;
        let writing = async {
            for first in (0..numbers).step_by(100) {
                let messages: Vec<_> = (first..first + 100).map(|n| message("t/x", n.to_string())).collect();
                write_surely(&mut *sink, &context, &messages).await;
            }
        };
        let reading = async {
            while seen.len() < numbers {
                seen.extend(source.read(1).await);
            }
        };
        let restarting = async {
            for _ in 0..3 {
                tokio::time::sleep(Duration::from_millis(150)).await;
                broker.stop().await.unwrap();
                broker.restart().await.unwrap();
            }
        };
        tokio::join!(writing, reading, restarting);
        let expected: BTreeSet<String> = (0..numbers).map(|n| n.to_string()).collect();
        assert_eq!(seen, expected, "{version}");
        assert!(source.health.state().n_reconnects >= 1, "{:?}", source.health.state());
        assert!(context.health.state().n_reconnects >= 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn subscribes_again_without_a_session_after_every_drop() {
    for version in ["3.1.1", "5"] {
        let mut broker = Mosquitto::start().await.unwrap();
        let process = Process::new();
        let options = json!({"server": broker.url(), "protocolVersion": version, "qos": 0});
        let mut source = process.subscribe("t", options).await;
        for round in 0..2 {
            source.connected().await;
            let client = MqttClient::connect(broker.port());
            wait::until_true("a message to arrive", async || {
                client.publish("t", "x").await.unwrap();
                source.takes_some().await
            })
            .await;
            if round == 0 {
                broker.kill();
                wait::until_true("the loss to be seen", async || source.health.state().connected == Some(false)).await;
                assert!(source.health.state().last_error.is_some());
                broker.restart().await.unwrap();
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_leaves_with_messages_does_not_hold_up_the_others() {
    let broker = Mosquitto::start().await.unwrap();
    let client = MqttClient::connect(broker.port());
    for version in ["3.1.1", "5"] {
        let process = Process::new();
        let options = json!({"server": broker.url(), "protocolVersion": version, "qos": 1});
        let (mut taken, left) =
            (process.subscribe("taken", options.clone()).await, process.subscribe("left", options.clone()).await);
        let mut stays = process.subscribe("stays", options).await;
        for source in [&taken, &left, &stays] {
            source.connected().await;
        }
        // Until the broker has the subscriptions.
        wait::until_true("the subscription", async || {
            client.publish("stays", "0").await.unwrap();
            stays.takes_some().await
        })
        .await;
        // Twice as many as the broker sends without hearing back; some are taken, and not acknowledged either.
        for _ in 0..20 {
            client.publish("taken", "x").await.unwrap();
            client.publish("left", "x").await.unwrap();
        }
        assert!(!taken.next().await.0.is_empty());
        taken.source.close().await;
        drop(left);
        client.publish("stays", "1").await.unwrap();
        while !stays.read(1).await.contains(&"1".to_owned()) {}
    }
}

/// With a session the broker keeps what a stream has not acknowledged: the next stream on the topic gets it, and the others do
/// not wait for that.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_leaves_a_kept_session_leaves_its_messages_to_the_next_one() {
    let broker = Mosquitto::start().await.unwrap();
    let client = MqttClient::connect(broker.port());
    for version in ["3.1.1", "5"] {
        let process = Process::new();
        let options = json!({
            "server": broker.url(),
            "protocolVersion": version,
            "qos": 1,
            "enableClientSession": true,
            "clientid": unique("kept"),
        });
        let mut left = process.subscribe("left", options.clone()).await;
        let mut stays = process.subscribe("stays", options.clone()).await;
        for source in [&left, &stays] {
            source.connected().await;
        }
        // Until the broker has the subscriptions.
        wait::until_true("the subscription", async || {
            client.publish("stays", "0").await.unwrap();
            stays.takes_some().await
        })
        .await;
        for n in 0..40 {
            client.publish("left", n.to_string()).await.unwrap();
        }
        assert!(!left.next().await.0.is_empty());
        // As in a hot reload: one leaves, and the next one comes.
        left.source.close().await;
        drop(left);
        let mut next = process.subscribe("left", options).await;
        client.publish("stays", "1").await.unwrap();
        let mut received = BTreeSet::new();
        while received.len() < 40 {
            received.extend(next.read(1).await);
        }
        while !stays.read(1).await.contains(&"1".to_owned()) {}
        assert_eq!(received, (0..40).map(|n| n.to_string()).collect(), "{version}");
    }
}

/// After a restart the streams of a session come one after another, and the broker does not wait for the last one.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_session_kept_waits_for_a_stream_that_comes_later() {
    let broker = Mosquitto::start().await.unwrap();
    let client = MqttClient::connect(broker.port());
    for (version, qos) in [("3.1.1", 1), ("5", 2)] {
        let options = json!({
            "server": broker.url(),
            "protocolVersion": version,
            "qos": qos,
            "enableClientSession": true,
            "clientid": unique("kept"),
            "sessionExpiryIntervalSeconds": 3600,
        });
        let process = Process::new();
        for topic in ["first", "later", "never"] {
            let mut source = process.subscribe(topic, options.clone()).await;
            wait::until_true("the subscription", async || {
                client.publish(topic, "0").await.unwrap();
                source.takes_some().await
            })
            .await;
        }
        process.stop().await;
        for n in 1..=40 {
            client.publish("first", n.to_string()).await.unwrap();
            client.publish("later", n.to_string()).await.unwrap();
        }
        client.publish("nobody", "x").await.unwrap();
        for n in 1..=3 {
            client.publish("never", n.to_string()).await.unwrap();
        }
        client.acknowledged().await;
        let process = Process::new();
        let mut first = process.subscribe("first", options.clone()).await;
        first.connected().await;
        let of_first = first.read(1).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        let mut later = process.subscribe("later", options.clone()).await;
        // At once: who does not acknowledge holds the others of the connection back.
        let until_last = async |source: &mut TestSource, received: Vec<String>| {
            let mut received: BTreeSet<_> = received.into_iter().collect();
            while !received.contains("40") {
                received.extend(source.read(1).await);
            }
            received
        };
        let (of_first, of_later) = tokio::join!(until_last(&mut first, of_first), until_last(&mut later, Vec::new()));
        let expected: BTreeSet<String> = (1..=40).map(|n| n.to_string()).collect();
        assert!(of_first.is_superset(&expected), "{version}: {of_first:?}");
        assert!(of_later.is_superset(&expected), "{version}: {of_later:?}");
        let unclaimed = process.0.connections.unclaimed();
        wait::until_true("what no stream came for", async || unclaimed.get() >= 3).await;
        assert_eq!(unclaimed.get(), 3, "{version}");
        process.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_acknowledged_comes_again() {
    let broker = Mosquitto::shared().await;
    for (version, qos) in [("3.1.1", 1), ("3.1.1", 2), ("5", 1), ("5", 2)] {
        let topic = unique("again");
        let options = json!({
            "server": broker.url(),
            "protocolVersion": version,
            "enableClientSession": true,
            "clientid": unique("session"),
            "qos": qos,
        });
        let process = Process::new();
        let mut source = process.subscribe(&topic, options.clone()).await;
        source.connected().await;
        let (mut sink, context) = process.publisher(json!({"server": broker.url(), "topic": "t", "qos": qos})).await;
        sink.connect(&context).await.unwrap();
        // The first is acknowledged, the second is not.
        for body in ["1", "2"] {
            wait::until_true("the message to be written", async || {
                sink.write(Output::Messages(&[message(&topic, body)])).await.is_ok()
            })
            .await;
            let (payloads, ack) = source.next().await;
            assert_eq!(payloads[0].bytes, body.as_bytes());
            if body == "1" {
                source.source.ack(ack.unwrap());
                source.is_quiet().await;
            }
        }
        process.stop().await;
        let process = Process::new();
        let mut source = process.subscribe(&topic, options).await;
        assert_eq!(source.read(1).await, ["2"], "{version} QoS {qos}");
        source.is_quiet().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_inbox_holds_the_broker_back_and_stalls_nobody_for_good() {
    let broker = Mosquitto::start().await.unwrap();
    let process = Process::new();
    // Source and sink share one connection: the fixed client id makes sure of it.
    let options = json!({"server": broker.url(), "clientid": unique("shared"), "keepAlive": "1s"});
    let mut source = process.subscribe("in", options.clone()).await;
    source.connected().await;
    let mut sink_options = options.clone();
    sink_options["topic"] = json!("out");
    sink_options["qos"] = json!(1);
    let (mut sink, context) = process.publisher(sink_options).await;
    sink.connect(&context).await.unwrap();
    let feeder = Process::new();
    let (mut feed, feed_context) = feeder.publisher(json!({"server": broker.url(), "topic": "in"})).await;
    feed.connect(&feed_context).await.unwrap();
    let n_messages = 30_000;
    let body = |n: usize| format!("{n:01000}");
    for first in (0..n_messages).step_by(1000) {
        let messages: Vec<_> = (first..first + 1000).map(|n| message("in", body(n))).collect();
        feed.write(Output::Messages(&messages)).await.unwrap();
    }
    // Longer than a ping and its answer take: the connection stands although nothing is read.
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(source.health.state().n_reconnects, 0, "{:?}", source.health.state());
    tokio::time::timeout(Duration::from_secs(10), sink.write(Output::Messages(&[message("out", "1")])))
        .await
        .expect("acknowledged although the inbox is full")
        .unwrap();
    let expected: Vec<String> = (0..n_messages).map(body).collect();
    assert!(source.read(n_messages).await == expected, "all, in order");
    assert_eq!(source.health.state().n_reconnects, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_mutual_tls_and_passwords() {
    let user = ("ada".to_owned(), "secret-of-ada".to_owned());
    let broker = Mosquitto::start_with(MosquittoOptions {
        tls: true,
        client_cert: true,
        user: Some(user),
        ..MosquittoOptions::default()
    })
    .await
    .unwrap();
    let files = broker.tls.clone().unwrap();
    let good = json!({
        "server": broker.url(),
        "rootCaPath": files.ca,
        "certificationPath": files.client_cert,
        "privateKeyPath": files.client_key,
        "username": "ada",
        "password": "secret-of-ada",
    });
    let with = |name: &str, value: Value| {
        let mut options = good.clone();
        options[name] = value;
        options
    };
    let without_certificate = {
        let mut options = good.clone();
        let map = options.as_object_mut().unwrap();
        map.remove("certificationPath");
        map.remove("privateKeyPath");
        options
    };
    let tcp = json!({"server": broker.url().replace("ssl://", "tcp://")});
    for (name, options, expected) in [
        ("all right", good.clone(), None),
        ("version 5", with("protocolVersion", json!(5)), None),
        ("wrong password", with("password", json!("wrong")), Some("not authorized")),
        (
            "wrong password, version 5",
            {
                let mut options = with("protocolVersion", json!(5));
                options["password"] = json!("wrong");
                options
            },
            Some("not authorized"),
        ),
        ("another authority", with("rootCaPath", json!(files.client_cert)), Some("certificate")),
        ("no client certificate", without_certificate, Some("")),
        ("no TLS", tcp, Some("")),
    ] {
        let process = Process::new();
        let source = process.subscribe("t", options).await;
        let state = wait::until("a connection or its refusal", async || {
            let state = source.health.state();
            state.connected.is_some().then_some(state)
        })
        .await;
        assert_eq!(state.connected, Some(expected.is_none()), "{name}: {state:?}");
        let error = state.last_error.unwrap_or_default();
        assert!(error.contains(expected.unwrap_or_default()), "{name}: {error}");
        assert!(!error.contains("secret-of-ada") && !error.contains("wrong\""), "{error}");
        drop(source);
        process.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn websockets() {
    let port = sluice_tests::services::free_port();
    let broker = Mosquitto::start_with(MosquittoOptions {
        extra: format!("listener {port} 127.0.0.1\nprotocol websockets\n"),
        ..MosquittoOptions::default()
    })
    .await
    .unwrap();
    let process = Process::new();
    let mut source = process.subscribe("t", json!({"server": format!("ws://127.0.0.1:{port}/mqtt")})).await;
    source.connected().await;
    let client = MqttClient::connect(broker.port());
    let texts: Vec<String> = (0..500).map(|n| n.to_string()).collect();
    wait::until_true("the subscription", async || {
        client.publish("t", "probe").await.unwrap();
        source.takes_some().await
    })
    .await;
    for text in &texts {
        client.publish("t", text.as_str()).await.unwrap();
    }
    let mut received = Vec::new();
    while received.len() < texts.len() {
        received.extend(source.read(1).await.into_iter().filter(|text| text != "probe"));
    }
    assert_eq!(received, texts);
}

#[tokio::test(flavor = "multi_thread")]
async fn retained_messages_reach_a_stream_that_comes_later() {
    let broker = Mosquitto::shared().await;
    for version in ["3.1.1", "5"] {
        let topic = unique("retained");
        let process = Process::new();
        let options = json!({"server": broker.url(), "protocolVersion": version});
        let (mut sink, context) =
            process.publisher(json!({"server": broker.url(), "topic": "t", "qos": 1, "retained": true})).await;
        sink.connect(&context).await.unwrap();
        sink.write(Output::Messages(&[message(&topic, "kept")])).await.unwrap();
        let mut first = process.subscribe(&topic, options.clone()).await;
        assert_eq!(first.read(1).await, ["kept"]);
        let mut second = process.subscribe(&topic, options).await;
        assert_eq!(second.read(1).await, ["kept"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_topic_is_set_aside() {
    let broker = Mosquitto::shared().await;
    let process = Process::new();
    let (mut sink, context) = process.publisher(json!({"server": broker.url(), "topic": "{{.t}}", "qos": 1})).await;
    sink.connect(&context).await.unwrap();
    let messages = [message("a", "1"), message("a/+", "2"), message("b", "3"), message("", "4")];
    match sink.write(Output::Messages(&messages)).await {
        Err(SinkError::Refused { items, reason, .. }) => {
            assert_eq!(items, [1, 3]);
            assert_eq!(reason, "topic is empty");
        }
        other => panic!("{other:?}"),
    }
}
