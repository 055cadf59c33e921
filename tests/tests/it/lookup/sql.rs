//! PostgreSQL and MariaDB: types, keys, injection, wrong settings; killed and started again.

use serde_json::json;
use sluice_tests::services::{MariaDb, Postgres, unique};
use sqlx::{AssertSqlSafe, Connection, Executor, MySqlConnection, PgConnection};

use super::*;

async fn postgres(postgres: &Postgres, sql: &str) {
    let mut connection = PgConnection::connect(&postgres.url()).await.unwrap();
    connection.execute(AssertSqlSafe(sql.to_owned())).await.unwrap();
}

async fn mariadb(mariadb: &MariaDb, sql: &str) {
    let mut connection = MySqlConnection::connect(&mariadb.url()).await.unwrap();
    for statement in sql.split(";\n") {
        connection.execute(AssertSqlSafe(statement.to_owned())).await.unwrap();
    }
}

/// For each column of `table`, which of `keys` find row 1.
async fn matrix(url: &str, table: &str, columns: &[&str], keys: &[(&str, Value)]) -> String {
    let mut lines = Vec::new();
    for column in columns {
        let options = json!({"dburl": url});
        let join =
            Join::new(Wanted { datasource: table, options, keys: &[column], columns: &["n"], ..Default::default() });
        let found = join.find(&keys.iter().map(|(_, key)| vec![key.clone()]).collect::<Vec<_>>()).await;
        let hits: Vec<&str> =
            keys.iter().zip(&found).filter(|(_, found)| *found == "1").map(|((name, _), _)| *name).collect();
        let odd: Vec<&String> = found.iter().filter(|found| !found.is_empty() && *found != "1").collect();
        lines.push(format!(
            "{column}: {}{}",
            hits.join(", "),
            if odd.is_empty() { String::new() } else { format!(" {odd:?} {}", join.error()) }
        ));
    }
    lines.join("\n")
}

fn five() -> Vec<(&'static str, Value)> {
    let moment = "2024-01-02T03:04:05.5+00:00[UTC]".parse().unwrap();
    vec![
        ("5", int(5)),
        ("5.0", Value::Float(5.0)),
        ("5.5", Value::Float(5.5)),
        ("0.1", Value::Float(0.1)),
        ("text 5", text("5")),
        ("text 5x", text("5x")),
        ("Site", text("Site")),
        ("site", text("site")),
        ("true", Value::Bool(true)),
        ("bytes", Value::bytes(vec![5, 0])),
        ("moment", Value::Datetime(Arc::new(moment))),
        ("date", text("2024-01-02")),
        ("uuid", text("A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11")),
        ("no uuid", text("A0EEBC99")),
        ("ip", text("10.0.0.1")),
        ("big", Value::Uint(u64::MAX)),
        ("bad", text("\\' OR 1=1 -- ")),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_keys_of_every_type() {
    let server = Postgres::shared().await;
    let table = unique("keys");
    postgres(server, &format!(
        "CREATE TYPE {table}_mood AS ENUM ('Site', 'sad'); \
         CREATE TABLE {table} (n int, i2 smallint, i4 int, i8 bigint, num numeric(6, 2), num0 numeric, f4 real, f8 float8, \
           tenth4 real, tenthn numeric, s text, v varchar(10), c char(8), num_s text, b boolean, raw bytea, u uuid, d date, \
           ts timestamp, tz timestamptz, ip inet, mood {table}_mood); \
         INSERT INTO {table} VALUES (1, 5, 5, 5, 5.00, 5, 5, 5, 0.1, 0.10, 'Site', 'Site', 'Site', '5', true, '\\x0500', \
           'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '2024-01-02', '2024-01-02 03:04:05.5', '2024-01-02 04:04:05.5+01', \
           '10.0.0.1', 'Site'); \
         INSERT INTO {table} (n) VALUES (2)"
    )).await;
    let columns = [
        "i2", "i4", "i8", "num", "num0", "f4", "f8", "tenth4", "tenthn", "s", "v", "c", "num_s", "b", "raw", "u", "d",
        "ts", "tz", "ip", "mood",
    ];
    insta::assert_snapshot!(matrix(&server.url(), &table, &columns, &five()).await, @r"
    i2: 5, 5.0
    i4: 5, 5.0
    i8: 5, 5.0
    num: 5, 5.0
    num0: 5, 5.0
    f4: 5, 5.0
    f8: 5, 5.0
    tenth4: 0.1
    tenthn: 0.1
    s: Site
    v: Site
    c: Site
    num_s: text 5
    b: true
    raw: bytes
    u: uuid
    d: date
    ts: moment
    tz: moment
    ip: ip
    mood: Site
    ");
}

#[tokio::test(flavor = "multi_thread")]
async fn mariadb_keys_of_every_type() {
    let server = MariaDb::shared().await;
    let table = unique("keys_of");
    mariadb(server, &format!(
        "CREATE TABLE {table} (n int, i1 tinyint, i4 int, u4 int unsigned, i8 bigint, u8 bigint unsigned, ub bigint unsigned, \
           num decimal(6, 2), f4 float, f8 double, tenthn decimal(6, 3), s text, v varchar(10), c char(8), num_s varchar(10), \
           num_x varchar(10), \
           sbin varchar(10) COLLATE utf8mb4_bin, vb varbinary(10), b boolean, d date, ts datetime(3), e enum('Site', 'sad'), y year);\n\
         INSERT INTO {table} VALUES (1, 5, 5, 5, 5, 5, 18446744073709551615, 5.00, 5, 5, 0.1, 'Site', 'Site', 'Site', '5', \
           '5x', 'Site', x'0500', true, '2024-01-02', '2024-01-02 03:04:05.5', 'Site', 2024);\n\
         INSERT INTO {table} (n) VALUES (2)"
    )).await;
    let columns = [
        "i1", "i4", "u4", "i8", "u8", "ub", "num", "f4", "f8", "tenthn", "s", "v", "c", "num_s", "num_x", "sbin", "vb",
        "b", "d", "ts", "e",
    ];
    insta::assert_snapshot!(matrix(&server.url(), &table, &columns, &five()).await, @r"
    i1: 5, 5.0
    i4: 5, 5.0
    u4: 5, 5.0
    i8: 5, 5.0
    u8: 5, 5.0
    ub: big
    num: 5, 5.0
    f4: 5, 5.0
    f8: 5, 5.0
    tenthn: 0.1
    s: Site
    v: Site
    c: Site
    num_s: text 5
    num_x: text 5x
    sbin: Site
    vb: bytes
    b: true
    d: date
    ts: moment
    e: Site
    ");
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_rows_of_every_type() {
    let server = Postgres::shared().await;
    let table = unique("rows");
    postgres(server, &format!(
        "CREATE TABLE {table} (id int, i8 bigint, num numeric(20, 3), whole numeric, neg numeric, f4 real, s text, c char(6), b boolean, \
           raw bytea, u uuid, d date, t time, ts timestamp, tz timestamptz, ip inet, span interval, list int[], j json, jb jsonb, \
           nothing text); \
         INSERT INTO {table} VALUES (1, 9223372036854775807, 12345678901.125, 20000, -0.05, 0.1, 'a\"b', 'ab', false, '\\x0102', \
           'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '2024-01-02', '03:04:05', '2024-01-02 03:04:05.5', \
           '2024-01-02 03:04:05+01', '10.0.0.1', '1 hour', '{{1,2,NULL}}', '{{\"a\": [1, 2.5]}}', '\"x\"', NULL)"
    )).await;
    let join = Join::new(Wanted { datasource: &table, options: json!({"dburl": server.url()}), ..Default::default() });
    insta::assert_snapshot!(join.find_one(int(1)).await, @r#"{"id":1,"i8":9223372036854775807,"num":12345678901.125,"whole":20000,"neg":-0.05,"f4":0.1,"s":"a\"b","c":"ab","b":false,"raw":"AQI=","u":"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11","d":"2024-01-02","t":"03:04:05","ts":"2024-01-02T03:04:05.5Z","tz":"2024-01-02T02:04:05Z","ip":"10.0.0.1","span":"01:00:00","list":[1,2,null],"j":{"a":[1,2.5]},"jb":"x","nothing":null}"#);
    // The same types by a query of one's own, and parameters with their types.
    let query = format!("SELECT num, u, j, tz FROM {table} WHERE id = :id AND s = :s");
    let options = json!({"dburl": server.url(), "query": query});
    let join = Join::new(Wanted { keys: &["id", "s"], options, ..Default::default() });
    insta::assert_snapshot!(join.find(&[vec![int(1), text("a\"b")], vec![int(1), text("' OR 1=1")]]).await.join("\n"), @r#"{"num":12345678901.125,"u":"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11","j":{"a":[1,2.5]},"tz":"2024-01-02T02:04:05Z"}"#);
}

#[tokio::test(flavor = "multi_thread")]
async fn mariadb_rows_of_every_type() {
    let server = MariaDb::shared().await;
    let table = unique("rows_of");
    mariadb(server, &format!(
        "CREATE TABLE {table} (id int, u8 bigint unsigned, i1 tinyint(1), num decimal(20, 3), f4 float, f8 double, s text, c char(6), \
           vb varbinary(10), d date, zero date, t time, ts datetime(3), st timestamp, y year, e enum('a', 'b'), bits bit(10), j json, \
           nothing text);\n\
         SET sql_mode = '';\n\
         INSERT INTO {table} VALUES (1, 18446744073709551615, 1, 5.125, 0.1, 2.5, 'a\"b', 'ab', x'0102', '2024-01-02', '0000-00-00', \
           '26:04:05', '2024-01-02 03:04:05.5', '2024-01-02 03:04:05', 2024, 'b', b'1000000001', '{{\"a\": 1}}', NULL)"
    )).await;
    let join = Join::new(Wanted { datasource: &table, options: json!({"dburl": server.url()}), ..Default::default() });
    insta::assert_snapshot!(join.find_one(int(1)).await, @r#"{"id":1,"u8":18446744073709551615,"i1":1,"num":5.125,"f4":0.1,"f8":2.5,"s":"a\"b","c":"ab","vb":"AQI=","d":"2024-01-02","zero":null,"t":"26:04:05","ts":"2024-01-02T03:04:05.5Z","st":"2024-01-02T03:04:05Z","y":2024,"e":"b","bits":513,"j":"{\"a\": 1}","nothing":null}"#);
}

#[tokio::test(flavor = "multi_thread")]
async fn composite_keys_and_many_keys() {
    let (pg, my) = (Postgres::shared().await, MariaDb::shared().await);
    let table = unique("many");
    postgres(
        pg,
        &format!(
            "CREATE SCHEMA \"{table}\"; CREATE TABLE \"{table}\".t (a int, b text, v int); \
         INSERT INTO \"{table}\".t SELECT n, 'b' || n % 2, n * 10 FROM generate_series(0, 999) n"
        ),
    )
    .await;
    mariadb(
        my,
        &format!(
            "CREATE TABLE {table} (a int, b varchar(10), v int);\n\
         INSERT INTO {table} SELECT seq, concat('b', seq % 2), seq * 10 FROM seq_0_to_999"
        ),
    )
    .await;
    let (in_schema, in_database) = (format!("{table}.t"), format!("test.{table}"));
    for (url, datasource) in [(pg.url(), &in_schema), (my.url(), &in_database)] {
        let wanted = || Wanted {
            datasource,
            options: json!({"dburl": &url}),
            keys: &["b", "a"],
            columns: &["v"],
            timeout: Duration::from_secs(30),
            ..Default::default()
        };
        let join = Join::new(wanted());
        for n_keys in [1, 3, 700] {
            let keys: Vec<_> =
                (0..n_keys).map(|n| vec![text(&format!("b{}", n % 2)), Value::Float(n as f64 * 3.0)]).collect();
            let expected: Vec<String> = (0..n_keys)
                .map(|n| if n * 3 < 1000 && (n * 3) % 2 == n % 2 { (n * 30).to_string() } else { String::new() })
                .collect();
            assert_eq!(join.find(&keys).await, expected, "{n_keys} keys: {}", join.error());
        }
        let join = Join::new(Wanted { keys: &["b"], columns: &[], ..wanted() });
        let answers = join.driver.answer(&[LookupKey([text("b1")].into())]).await;
        assert!(matches!(&answers[..], [LookupAnswer::Rows(rows)] if rows.len() == 500));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_settings() {
    let (pg, my) = (Postgres::shared().await, MariaDb::shared().await);
    let mut lines = Vec::new();
    for url in [pg.url(), my.url()] {
        let bad_password = url.replace(":secret@", ":sesame%40street@");
        let no_database = url.replace("/postgres", "/nowhere").replace("/test", "/nowhere");
        let no_tls = if url.contains("postgres:") { "?sslmode=require" } else { "?ssl-mode=REQUIRED" };
        let cases = [
            ("wrong password", bad_password, "t"),
            ("no such database", no_database, "t"),
            ("no such table", url.clone(), "\"nowhere`; DROP TABLE x"),
            ("a server without TLS", format!("{url}{no_tls}"), "t"),
        ];
        for (case, url, datasource) in cases {
            let timeout = Duration::from_secs(1);
            let join = Join::new(Wanted { datasource, options: json!({"dburl": url}), timeout, ..Default::default() });
            assert_eq!(join.find_one(int(1)).await, "drop", "{case}");
            assert_eq!(join.health().connected, Some(false), "{case}");
            let error = join.error();
            assert!(!error.contains("secret") && !error.contains("sesame"), "{error}");
            lines.push(format!("{case}: {error}").replace(&pg.port().to_string(), "PORT"));
        }
    }
    let port = my.url().rsplit_once(':').unwrap().1.split_once('/').unwrap().0.to_owned();
    insta::assert_snapshot!(lines.join("\n").replace(&port, "PORT"), @r#"
    wrong password: could not connect: PostgreSQL at 127.0.0.1:PORT: password authentication failed for user "sluice" (28P01)
    no such database: could not connect: PostgreSQL at 127.0.0.1:PORT: database "nowhere" does not exist (3D000)
    no such table: PostgreSQL at 127.0.0.1:PORT: relation ""nowhere`; DROP TABLE x" does not exist (42P01)
    a server without TLS: could not connect: PostgreSQL at 127.0.0.1:PORT: TLS: server does not support TLS
    wrong password: could not connect: MySQL at 127.0.0.1:PORT: Access denied for user 'sluice'@'127.0.0.1' (using password: YES) (28000)
    no such database: could not connect: MySQL at 127.0.0.1:PORT: Unknown database 'nowhere' (42000)
    no such table: MySQL at 127.0.0.1:PORT: Table 'test."nowhere`; DROP TABLE x' doesn't exist (42S02)
    a server without TLS: could not connect: MySQL at 127.0.0.1:PORT: TLS: server does not support TLS
    "#);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_takes_too_long_is_cut_short_there_too() {
    let (pg, my) = (Postgres::shared().await, MariaDb::shared().await);
    for (url, sleep) in [(pg.url(), "pg_sleep(30)"), (my.url(), "sleep(30)")] {
        let marker = unique("sleeper");
        let options =
            json!({"dburl": &url, "query": format!("SELECT {sleep} AS {marker} FROM (SELECT 1 AS x) s WHERE x = :id")});
        let join = Join::new(Wanted { options, timeout: Duration::from_secs(1), ..Default::default() });
        assert_eq!(join.find_one(int(1)).await, "drop");
        let query = match url.starts_with("postgres") {
            true => {
                "SELECT count(*)::text AS n FROM pg_stat_activity WHERE state = 'active' AND pid <> pg_backend_pid() AND query LIKE '%' || :id || '%'"
            }
            false => {
                "SELECT concat(count(*)) AS n FROM information_schema.processlist WHERE id <> connection_id() AND info LIKE concat('%', :id, '%')"
            }
        };
        let join = Join::new(Wanted {
            options: json!({"dburl": &url, "query": query}),
            columns: &["n"],
            ..Default::default()
        });
        sluice_tests::wait::until_true("the end of the statement", || async {
            join.find_one(text(&marker)).await == r#""0""#
        })
        .await;
    }
}

/// Asks for one key after the other while the server dies and comes back.
macro_rules! killed_and_started_again {
    ($name:ident, $server:ident, $fill:ident) => {
        #[tokio::test(flavor = "multi_thread")]
        async fn $name() {
            let mut server = $server::start().await.unwrap();
            $fill(&server, "CREATE TABLE t (id int PRIMARY KEY, v int)").await;
            let rows: Vec<String> = (0..400).map(|n| format!("({n}, {n})")).collect();
            $fill(&server, &format!("INSERT INTO t VALUES {}", rows.join(", "))).await;
            let options = json!({"dburl": server.url()});
            let timeout = Duration::from_secs(2);
            let wanted = |on_error| Wanted { options: options.clone(), columns: &["v"], on_error, timeout, ..Default::default() };
            let waiting = Join::new(wanted(OnLookupError::Retry));
            let dropping = Join::new(wanted(OnLookupError::Drop));
            let asked = tokio::spawn(async move {
                for n in 0..400 {
                    assert_eq!(waiting.find_one(int(n)).await, n.to_string());
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                waiting
            });
            assert_eq!(dropping.find_one(int(7)).await, "7");
            tokio::time::sleep(Duration::from_millis(300)).await;
            server.kill();
            assert_eq!(dropping.find_one(int(7)).await, "drop");
            assert_eq!(dropping.find_one(int(8)).await, "drop");
            assert_eq!(dropping.metrics.keys_failed.get(), 2);
            server.restart().await.unwrap();
            sluice_tests::wait::until_true("rows after the restart", || async { dropping.find_one(int(7)).await == "7" }).await;
            let waiting = asked.await.unwrap();
            assert_eq!(waiting.metrics.keys_failed.get(), 0, "every row is accounted for");
            assert!(waiting.health().n_reconnects >= 1);
        }
    };
}

killed_and_started_again!(postgres_killed_and_started_again, Postgres, postgres);
killed_and_started_again!(mariadb_killed_and_started_again, MariaDb, mariadb);

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_was_away_at_the_start() {
    let mut server = Postgres::start().await.unwrap();
    postgres(&server, "CREATE TABLE t (id int, v int); INSERT INTO t VALUES (1, 10)").await;
    server.kill();
    let options = json!({"dburl": server.url()});
    let join = Join::new(Wanted { options, columns: &["v"], on_error: OnLookupError::Retry, ..Default::default() });
    let asked = tokio::spawn(async move { join.find_one(int(1)).await });
    server.restart().await.unwrap();
    assert_eq!(asked.await.unwrap(), "10");
}
