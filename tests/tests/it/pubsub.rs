//! Redis publish/subscribe against a real server: `redisSub` and `redisPub`.

use serde_json::json;
use sluice::Fault;
use sluice::sink::{Message, Output, Prop, Props, SinkError};
use sluice_tests::services::{Redis, RedisOptions, unique};
use sluice_tests::wait;

use super::connector::{connect, context, meta, read, sink, source};

fn message(channel: &str, body: impl Into<Vec<u8>>) -> Message {
    Message { body: body.into().into(), props: Props(vec![Prop::Text(channel.to_owned())].into()), n_rows: 1 }
}

#[tokio::test(flavor = "multi_thread")]
async fn published_messages_arrive() {
    let servers = [
        (RedisOptions::default(), json!({})),
        (RedisOptions { tls: true, ..RedisOptions::default() }, json!({})),
        (
            RedisOptions { password: Some("hunter2".to_owned()), ..RedisOptions::default() },
            json!({"password": "hunter2", "db": 3}),
        ),
        (RedisOptions { cluster: true, ..RedisOptions::default() }, json!({"cluster": true})),
    ];
    for (setup, more) in servers {
        let server = Redis::start_with(setup.clone()).await.unwrap();
        let mut options = more;
        options["addr"] = json!(server.url());
        if let Some(tls) = &server.tls {
            options["rootCaPath"] = json!(tls.ca);
        }
        let base = unique("pubsub");
        let mut subscriber = source("redisSub", &format!("{base}.*, other"), options.clone());
        connect(&mut *subscriber).await.unwrap();
        options["channel"] = json!("{{.}}");
        let mut sink = sink("redisPub", options.clone());
        sink.connect(&context()).await.unwrap();
        let large = vec![0xff; 3 << 20];
        let channel = format!("{base}.a.b");
        let messages = [message(&channel, "{}"), message("", "no channel"), message(&channel, large.clone())];
        match sink.write(Output::Messages(&messages)).await {
            Err(SinkError::Refused { items, .. }) => assert_eq!(items, [1]),
            other => panic!("{setup:?}: {other:?}"),
        }
        let payloads = read(&mut *subscriber, 2).await;
        assert_eq!(&payloads[0].bytes[..], b"{}");
        assert_eq!(&payloads[1].bytes[..], &large[..]);
        assert_eq!(meta(&payloads[0]), json!({"channel": channel}));
        if setup.password.is_some() {
            options["password"] = json!("hunter3");
            options.as_object_mut().unwrap().remove("channel");
            let mut refused = source("redisSub", "a", options);
            let error = connect(&mut *refused).await.unwrap_err();
            assert_eq!(error.fault, Fault::User, "{error}");
            assert!(!error.message.contains("hunter"), "{error}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn both_ends_come_back_after_an_outage() {
    let mut server = Redis::start().await.unwrap();
    let mut source = source("redisSub", "a", json!({"addr": server.addr()}));
    connect(&mut *source).await.unwrap();
    let mut sink = sink("redisPub", json!({"addr": server.addr(), "channel": "{{.}}"}));
    let context = context();
    sink.connect(&context).await.unwrap();
    server.kill();
    assert!(tokio::time::timeout(wait::DEADLINE, source.next()).await.unwrap().is_err());
    assert!(connect(&mut *source).await.is_err());
    assert!(sink.write(Output::Messages(&[message("a", "lost")])).await.is_err());
    server.restart().await.unwrap();
    connect(&mut *source).await.unwrap();
    sink.connect(&context).await.unwrap();
    sink.write(Output::Messages(&[message("a", "after")])).await.unwrap();
    assert_eq!(&read(&mut *source, 1).await[0].bytes[..], b"after");
}
