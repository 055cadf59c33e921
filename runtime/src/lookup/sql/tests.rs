//! Against SQLite; the other databases have their suites with the real services.

use serde_json::json;
use sluice_sql::{Column, ColumnKind, Schema, Type, Value};
use smol_str::SmolStr;
use sqlx::{AssertSqlSafe, ConnectOptions, Executor};

use super::*;
use crate::format::json_encoder::write_value;
use crate::lookup::TableArgs;
use crate::options::Options;
use crate::time::SystemClock;

struct Database {
    folder: tempfile::TempDir,
}

impl Database {
    async fn with(sql: &str) -> Self {
        let database = Database { folder: tempfile::tempdir().unwrap() };
        database.run(sql).await;
        database
    }

    async fn run(&self, sql: &str) {
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(self.path()).create_if_missing(true);
        options.connect().await.unwrap().execute(AssertSqlSafe(sql.to_owned())).await.unwrap();
    }

    fn path(&self) -> std::path::PathBuf {
        self.folder.path().join("test.db")
    }

    fn source(
        &self,
        options: serde_json::Value,
        datasource: &str,
        keys: &[&str],
        columns: &[&str],
    ) -> Result<Arc<dyn LookupSource>, ConfigError> {
        let mut options = Options::from(options);
        options.0.entry("dburl").or_insert_with(|| format!("sqlite:{}", self.path().display()).into());
        let column = |name: &&str| match *name {
            "*" => Column { name: "t".into(), kind: ColumnKind::Star, ty: Type::Any },
            name => Column { name: name.into(), kind: ColumnKind::Field, ty: Type::Any },
        };
        let keys: Vec<SmolStr> = keys.iter().map(|key| SmolStr::from(*key)).collect();
        build(&LookupArgs {
            table: TableArgs {
                table: "t",
                datasource,
                format: "json",
                key: None,
                fields: &[],
                timeout: Duration::from_secs(5),
                options: &options,
            },
            key_columns: &keys,
            columns: &Arc::new(Schema { columns: columns.iter().map(column).collect() }),
        })
    }

    async fn connected(&self, keys: &[&str], columns: &[&str]) -> Arc<dyn LookupSource> {
        let source = self.source(json!({}), "t", keys, columns).unwrap();
        source.connect(&context()).await.unwrap();
        source
    }
}

fn context() -> ConnectorContext {
    ConnectorContext {
        name: "t".into(),
        connections: Default::default(),
        clock: Arc::new(SystemClock),
        tasks: Default::default(),
        health: Default::default(),
    }
}

fn key<const N: usize>(values: [Value; N]) -> LookupKey {
    LookupKey(values.into())
}

async fn find(source: &Arc<dyn LookupSource>, keys: &[LookupKey]) -> Vec<String> {
    let found = source.lookup(keys).await.unwrap();
    assert_eq!(found.len(), keys.len());
    let text = |value: &Value| {
        let mut out = Vec::new();
        write_value(value, &mut out);
        String::from_utf8(out).unwrap()
    };
    let row = |row: &sluice_sql::Row| row.values.iter().map(text).collect::<Vec<_>>().join(" ");
    found
        .into_iter()
        .map(|found| match found {
            Ok(rows) => rows.iter().map(row).collect::<Vec<_>>().join(" | "),
            Err(error) => format!("error: {error}"),
        })
        .collect()
}

#[tokio::test]
async fn keys_are_typed_and_numbers_equal_by_value() {
    let database = Database::with(
        "CREATE TABLE t (id, name TEXT); \
         INSERT INTO t VALUES (5, 'int'), (6.5, 'real'), ('5', 'text'), (x'05', 'blob'), (7.0, 'whole'), ('5', 'twice')",
    )
    .await;
    let source = database.connected(&["id"], &["name"]).await;
    let keys = [
        key([Value::Int(5)]),
        key([Value::Float(6.5)]),
        key([Value::string("5")]),
        key([Value::bytes(vec![5])]),
        key([Value::Int(7)]),
        key([Value::Bool(true)]),
        key([Value::Int(9)]),
        key([Value::Uint(u64::MAX)]),
    ];
    let expected = [r#""int""#, r#""real""#, r#""text" | "twice""#, r#""blob""#, r#""whole""#, "", "", ""];
    assert_eq!(find(&source, &keys).await, expected);
    assert_eq!(find(&source, &[key([Value::Float(5.0)])]).await, [r#""int""#]);
}

#[tokio::test]
async fn columns_lean_on_types_but_keys_stay_typed() {
    let database = Database::with(
        "CREATE TABLE t (n INTEGER, s TEXT COLLATE NOCASE, c CHAR(3)); INSERT INTO t VALUES (1, '1', 'Ab')",
    )
    .await;
    let source = database.connected(&["n"], &["n"]).await;
    assert_eq!(find(&source, &[key([Value::string("1")]), key([Value::Int(1)])]).await, ["", "1"]);
    let source = database.connected(&["s"], &["n"]).await;
    assert_eq!(find(&source, &[key([Value::string("1")]), key([Value::Int(1)])]).await, ["1", ""]);
    database.run("UPDATE t SET s = 'Site'").await;
    let keys = [key([Value::string("site")]), key([Value::string("Site")])];
    assert_eq!(find(&source, &keys).await, ["", "1"], "a collation that ignores case makes no match");
}

#[tokio::test]
async fn rows_of_all_types_as_a_whole() {
    let database = Database::with(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, f REAL, s TEXT, b BLOB, ok BOOLEAN, d DECIMAL(5, 2), at DATETIME, n); \
         INSERT INTO t VALUES (1, 2.5, 'a\"b', x'0102', 1, 5.25, '2024-01-02 03:04:05', NULL)",
    )
    .await;
    let source = database.connected(&["id"], &["*"]).await;
    insta::assert_snapshot!(find(&source, &[key([Value::Int(1)])]).await.join("\n"), @r#"{"id":1,"f":2.5,"s":"a\"b","b":"AQI=","ok":true,"d":5.25,"at":"2024-01-02 03:04:05","n":null}"#);
    let source = database.connected(&["ID"], &["S", "ok"]).await;
    assert_eq!(find(&source, &[key([Value::Int(1)])]).await, [r#""a\"b" true"#], "SQL names have no case there");
}

#[tokio::test]
async fn composite_keys_and_nothing_but_keys() {
    let database = Database::with(
        "CREATE TABLE t (a INTEGER, b TEXT, v INTEGER); INSERT INTO t VALUES (1, 'x', 10), (1, 'y', 11), (2, 'x', 20)",
    )
    .await;
    let keys = [
        key([Value::Int(1), Value::string("y")]),
        key([Value::Int(2), Value::string("y")]),
        key([Value::Int(2), Value::string("x")]),
    ];
    let source = database.connected(&["a", "b"], &["v"]).await;
    assert_eq!(find(&source, &keys).await, ["11", "", "20"]);
    let source = database.connected(&["a"], &[]).await;
    let found = source.lookup(&[key([Value::Int(1)]), key([Value::Int(3)])]).await.unwrap();
    let n_rows: Vec<usize> = found.into_iter().map(|found| found.unwrap().len()).collect();
    assert_eq!(n_rows, [2, 0]);
}

#[tokio::test]
async fn many_keys_at_once() {
    let database = Database::with(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, v INTEGER); \
         WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 999) INSERT INTO t SELECT i, i * 2 FROM n",
    )
    .await;
    let source = database.connected(&["id"], &["v"]).await;
    for n_keys in [1, 2, 3, 100, 512] {
        let keys: Vec<_> = (0..n_keys).map(|number| key([Value::Int(number * 3)])).collect();
        let expected: Vec<_> = (0..n_keys)
            .map(|number| if number * 3 < 1000 { (number * 6).to_string() } else { String::new() })
            .collect();
        assert_eq!(find(&source, &keys).await, expected);
    }
}

#[tokio::test]
async fn values_never_become_sql() {
    let database = Database::with("CREATE TABLE t (id TEXT, v INTEGER); INSERT INTO t VALUES ('a', 1)").await;
    let source = database.connected(&["id"], &["v"]).await;
    let evil = ["' OR 1=1 --", "\\' OR 1=1", "a'; DROP TABLE t; --", "\" OR \"\"=\"", "a\0"];
    let keys: Vec<_> = evil.iter().map(|text| key([Value::string(*text)])).collect();
    assert_eq!(find(&source, &keys).await, [""; 5]);
    assert_eq!(find(&source, &[key([Value::string("a")])]).await, ["1"]);
}

#[tokio::test]
async fn what_is_not_there() {
    let database = Database { folder: tempfile::tempdir().unwrap() };
    let source = database.source(json!({}), "t", &["id"], &["site"]).unwrap();
    let ctx = context();
    let mut errors = vec![source.connect(&ctx).await.unwrap_err()];
    database.run("CREATE TABLE other (id)").await;
    errors.push(source.connect(&ctx).await.unwrap_err());
    database.run("CREATE TABLE t (id, sites)").await;
    errors.push(source.connect(&ctx).await.unwrap_err());
    database.run("DROP TABLE t; CREATE TABLE t (id, v)").await;
    errors.push(source.connect(&ctx).await.unwrap_err());
    let text: Vec<String> = errors
        .iter()
        .map(|error| format!("{:?} {:?}: {error}", error.fault, error.retry))
        .map(|text| text.replace(&*database.path().to_string_lossy(), "FILE"))
        .collect();
    insta::assert_snapshot!(text.join("\n"), @r"
    External Backoff: could not connect: SQLite at FILE: unable to open database file (14)
    User Never: SQLite at FILE: no such table: t (1)
    User Never: table t has no column site; did you mean sites?
    User Never: table t has no column site; it has id, v
    ");
    database.run("DROP TABLE t; CREATE TABLE t (id, site); INSERT INTO t VALUES (1, 'here')").await;
    source.connect(&ctx).await.unwrap();
    assert_eq!(find(&source, &[key([Value::Int(1)])]).await, [r#""here""#], "it recovers by itself");
}

#[tokio::test]
async fn a_query_of_ones_own() {
    let database = Database::with(
        "CREATE TABLE m (id INTEGER, site INTEGER); CREATE TABLE s (id INTEGER, name TEXT); \
         INSERT INTO m VALUES (1, 7), (2, 8), (2, 7); INSERT INTO s VALUES (7, 'north'), (8, 'south')",
    )
    .await;
    let query = "SELECT s.name, m.site FROM m JOIN s ON s.id = m.site WHERE m.id = :machine ORDER BY m.site";
    let source = database.source(json!({"query": query}), "", &["machine"], &["name", "site", "gone"]).unwrap();
    source.connect(&context()).await.unwrap();
    let keys = [key([Value::Int(2)]), key([Value::Int(3)]), key([Value::Float(1.0)])];
    assert_eq!(
        find(&source, &keys).await,
        [r#""north" 7 null | "south" 8 null"#, "", r#""north" 7 null"#].map(str::to_owned)
    );
}

#[test]
fn wrong_options_are_named() {
    let database = Database { folder: tempfile::tempdir().unwrap() };
    let errors: Vec<String> = [
        (json!({"dbUrll": "x"}), "t"),
        (json!({"dburl": null}), "t"),
        (json!({"templateSqlQueryCfg": {"templateSql": "select 1"}}), "t"),
        (json!({}), ""),
        (json!({"query": "SELECT 1 WHERE a = :b"}), ""),
        (json!({"maxConnections": 0}), "t"),
        (json!({"privateKeyPath": "k"}), "t"),
    ]
    .into_iter()
    .map(|(options, datasource)| database.source(options, datasource, &["a"], &["*"]).err().unwrap().to_string())
    .collect();
    insta::assert_snapshot!(errors.join("\n"), @r#"
    dbUrll: unknown option, did you mean "dburl"?
    dburl: required, but not given
    templateSqlQueryCfg: values spliced into SQL text are not supported; use the option `query` with named parameters, as in `SELECT * FROM sites WHERE id = :id`
    DATASOURCE must name the table in the database
    query: parameter :b is no key column of the join, which has :a
    maxConnections: must be at least 1
    certificationPath: a client key needs its certificate: set certificationPath or certificationRaw
    "#);
    // What a profile says for sources is no mistake, and the older name of the URL is known.
    let options =
        json!({"url": "sqlite:x.db", "dburl": null, "interval": 10000, "internalSqlQueryCfg": {"table": "t"}});
    database.source(options, "t", &["a"], &["*"]).unwrap();
}
