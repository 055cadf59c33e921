//! Redis: single, as a cluster, with TLS; killed and started again.

use serde_json::json;
use sluice_tests::services::{Redis, RedisOptions};

use super::*;

fn fill(redis: &Redis) {
    for command in [
        &["set", "d-1", r#"{"id":"d-1","site":"north","max":20}"#][..],
        &["set", "5", r#"{"site":"five"}"#],
        &["set", "m:7:x", r#"[{"site":"a"},{"site":"b"}]"#],
        &["set", "broken", "{"],
        &["rpush", "list", r#"{"site":"one"}"#, r#"{"site":"two"}"#],
        &["hset", "hash", "site", "h", "max", "20"],
    ] {
        redis.cli(command).unwrap();
    }
}

fn wanted(options: serde_json::Value) -> Wanted<'static> {
    Wanted { connector: "redis", datasource: "0", options, columns: &["site"], ..Default::default() }
}

async fn check_all_types(redis: &Redis, options: serde_json::Value) {
    let with = |more: serde_json::Value| {
        let mut options = options.clone();
        options.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        options
    };
    fill(redis);
    let join = Join::new(wanted(with(json!({}))));
    let keys = [text("d-1"), int(5), text("gone"), Value::Float(5.0), text("hash")].map(|key| vec![key]);
    assert_eq!(join.find(&keys).await, [r#""north""#, r#""five""#, "", r#""five""#, ""], "{}", join.error());
    let mixed = join.find(&[vec![text("broken")], vec![text("d-1")]]).await;
    assert_eq!(mixed, ["drop", r#""north""#], "a bad value costs no other key");
    assert!(join.metrics.errors.newest().unwrap().message.contains("line 1, column 2"));
    let join = Join::new(Wanted { columns: &["*"], ..wanted(with(json!({}))) });
    assert_eq!(join.find_one(text("d-1")).await, r#"{"id":"d-1","site":"north","max":20}"#);
    let join = Join::new(Wanted { keys: &["a", "b"], ..wanted(with(json!({"keyTemplate": "m:{{.a}}:{{.b}}"}))) });
    assert_eq!(join.find(&[vec![int(7), text("x")]]).await, [r#""a" | "b""#]);
    let join = Join::new(wanted(with(json!({"dataType": "list"}))));
    let found = join.find(&[vec![text("list")], vec![text("gone")], vec![text("5")]]).await;
    assert_eq!(found, [r#""one" | "two""#, "", "drop"]);
    let join = Join::new(Wanted { columns: &["value"], ..wanted(with(json!({"dataType": "text"}))) });
    let found = join.find(&[vec![text("broken")], vec![text("gone")], vec![text("hash")]]).await;
    assert_eq!(found, [r#""{""#, "", ""], "any text is a value");
    let join = Join::new(Wanted { columns: &["*"], ..wanted(with(json!({"dataType": "hash"}))) });
    let found = join.find(&[vec![text("hash")], vec![text("gone")], vec![text("5")]]).await;
    assert_eq!(found, [r#"{"site":"h","max":"20"}"#, "", "drop"]);
    assert!(join.metrics.errors.newest().unwrap().message.contains("WRONGTYPE"));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_server() {
    let redis = Redis::start().await.unwrap();
    check_all_types(&redis, json!({"addr": redis.addr()})).await;
    // Another database.
    redis.cli(&["-n", "3", "set", "k", r#"{"site":"third"}"#]).unwrap();
    let join = Join::new(Wanted { datasource: "3", ..wanted(json!({"addr": redis.url()})) });
    assert_eq!(join.find(&[vec![text("k")], vec![text("d-1")]]).await, [r#""third""#, ""]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster() {
    let options = RedisOptions { cluster: true, ..Default::default() };
    let redis = Redis::start_with(options).await.unwrap();
    check_all_types(&redis, json!({"addr": redis.addr(), "cluster": true})).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_tls() {
    let options = RedisOptions { tls: true, ..Default::default() };
    let redis = Redis::start_with(options).await.unwrap();
    let ca = redis.tls.as_ref().unwrap().ca.clone();
    check_all_types(&redis, json!({"addr": redis.addr(), "rootCaPath": ca})).await;
    let join = Join::new(wanted(json!({"addr": redis.url(), "insecureSkipVerify": true})));
    assert_eq!(join.find_one(text("d-1")).await, r#""north""#);
    // The system does not know this authority.
    let timeout = Duration::from_secs(1);
    let join = Join::new(Wanted { timeout, ..wanted(json!({"addr": redis.url()})) });
    assert_eq!(join.find_one(text("d-1")).await, "drop");
    assert!(join.error().contains("UnknownIssuer"), "{}", join.error());
    // Without TLS.
    let join = Join::new(Wanted { timeout, ..wanted(json!({"addr": redis.addr()})) });
    assert_eq!(join.find_one(text("d-1")).await, "drop");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_password() {
    let options = RedisOptions { password: Some("right-one".to_owned()), ..Default::default() };
    let redis = Redis::start_with(options).await.unwrap();
    fill(&redis);
    let join = Join::new(wanted(json!({"addr": redis.addr(), "password": "right-one"})));
    assert_eq!(join.find_one(text("d-1")).await, r#""north""#, "{}", join.error());
    for options in [json!({"addr": redis.addr(), "password": "wrong-one"}), json!({"addr": redis.addr()})] {
        let join = Join::new(wanted(options));
        assert_eq!(join.find_one(text("d-1")).await, "drop");
        assert!(!join.error().contains("wrong-one"));
        assert!(join.error().contains("assword") || join.error().contains("NOAUTH"), "{}", join.error());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_and_started_again() {
    for cluster in [false, true] {
        let mut redis = Redis::start_with(RedisOptions { cluster, ..Default::default() }).await.unwrap();
        fill(&redis);
        let options = json!({"addr": redis.addr(), "cluster": cluster});
        let timeout = Duration::from_secs(1);
        let dropping = Join::new(Wanted { timeout, ..wanted(options.clone()) });
        let waiting = Join::new(Wanted { timeout, on_error: OnLookupError::Retry, ..wanted(options) });
        assert_eq!(dropping.find_one(text("d-1")).await, r#""north""#);
        assert_eq!(waiting.find_one(text("d-1")).await, r#""north""#);
        redis.kill();
        assert_eq!(dropping.find_one(text("d-1")).await, "drop");
        assert_eq!(dropping.health().connected, Some(false));
        let driver = Arc::clone(&waiting.driver);
        let retried = tokio::spawn(async move { driver.answer(&[LookupKey([text("d-1")].into())]).await });
        redis.restart().await.unwrap();
        let answers = retried.await.unwrap();
        assert!(matches!(&answers[..], [LookupAnswer::Rows(rows)] if rows.len() == 1), "{answers:?}");
        sluice_tests::wait::until_true("rows after the restart", || async {
            dropping.find_one(text("d-1")).await == r#""north""#
        })
        .await;
        assert_eq!(dropping.health().connected, Some(true));
        assert!(dropping.health().n_reconnects >= 1);
    }
}
