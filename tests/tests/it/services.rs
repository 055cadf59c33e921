//! The services themselves: each starts, answers, and comes back with its data after it was killed.

use sluice_tests::services::{
    InfluxDb1, InfluxDb2, MariaDb, Mosquitto, MosquittoOptions, Nats, Postgres, Redis, RedisOptions,
};
use sqlx::{Connection, Executor, MySqlConnection, PgConnection, Row};

#[tokio::test(flavor = "multi_thread")]
async fn mosquitto_comes_back() {
    let mut broker = Mosquitto::start().await.unwrap();
    broker.kill();
    assert!(tokio::net::TcpStream::connect(("127.0.0.1", broker.port())).await.is_err());
    broker.restart().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn mosquitto_speaks_tls() {
    let broker = Mosquitto::start_with(MosquittoOptions { client_cert: true, ..Default::default() }).await.unwrap();
    assert!(broker.url().starts_with("ssl://"));
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_keeps_its_data() {
    let mut redis = Redis::start().await.unwrap();
    redis.cli(&["set", "a", "1"]).unwrap();
    redis.kill();
    redis.restart().await.unwrap();
    assert_eq!(redis.cli_output(&["get", "a"]).unwrap().trim(), "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_as_cluster_and_with_tls() {
    for options in
        [RedisOptions { cluster: true, ..Default::default() }, RedisOptions { tls: true, ..Default::default() }]
    {
        let redis = Redis::start_with(options).await.unwrap();
        redis.cli(&["set", "a", "1"]).unwrap();
        assert_eq!(redis.cli_output(&["get", "a"]).unwrap().trim(), "1");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_keeps_its_data() {
    let mut postgres = Postgres::start().await.unwrap();
    let mut connection = PgConnection::connect(&postgres.url()).await.unwrap();
    connection.execute("CREATE TABLE t (a int); INSERT INTO t VALUES (7)").await.unwrap();
    postgres.kill();
    postgres.restart().await.unwrap();
    let mut connection = PgConnection::connect(&postgres.url()).await.unwrap();
    let row = connection.fetch_one("SELECT a FROM t").await.unwrap();
    assert_eq!(row.get::<i32, _>(0), 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn mariadb_keeps_its_data() {
    let mut mariadb = MariaDb::start().await.unwrap();
    let mut connection = MySqlConnection::connect(&mariadb.url()).await.unwrap();
    connection.execute("CREATE TABLE t (a int)").await.unwrap();
    connection.execute("INSERT INTO t VALUES (7)").await.unwrap();
    mariadb.kill();
    mariadb.restart().await.unwrap();
    let mut connection = MySqlConnection::connect(&mariadb.url()).await.unwrap();
    let row = connection.fetch_one("SELECT a FROM t").await.unwrap();
    assert_eq!(row.get::<i32, _>(0), 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn influxdb_2_answers() {
    let influx = InfluxDb2::shared().await;
    assert!(influx.query("buckets()").await.unwrap().contains(InfluxDb2::BUCKET));
}

#[tokio::test(flavor = "multi_thread")]
async fn influxdb_1_answers() {
    let influx = InfluxDb1::start().await.unwrap();
    assert!(influx.query("SHOW DATABASES").await.unwrap().to_string().contains(InfluxDb1::DATABASE));
}

#[tokio::test(flavor = "multi_thread")]
async fn nats_starts() {
    assert!(Nats::start().await.unwrap().url().starts_with("nats://"));
}
