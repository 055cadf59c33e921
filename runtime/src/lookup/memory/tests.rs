use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use serde_json::json;
use sluice_sql::{Column, ColumnKind, Schema, Type};

use super::*;
use crate::format::json_encoder::write_value;
use crate::options::Options;
use crate::time::Clock;

#[derive(Default)]
struct HandClock(AtomicI64);

impl Clock for HandClock {
    fn now(&self) -> Timestamp {
        self.0.load(Ordering::Relaxed)
    }
}

struct Bench {
    ctx: ConnectorContext,
    clock: Arc<HandClock>,
    bus: Arc<MemoryBus>,
}

impl Bench {
    fn new() -> Self {
        let clock = Arc::new(HandClock::default());
        let ctx = ConnectorContext {
            name: "t".into(),
            connections: Default::default(),
            clock: Arc::<HandClock>::clone(&clock),
            tasks: Default::default(),
            health: Default::default(),
        };
        let bus = MemoryBus::of(&ctx.connections);
        Bench { ctx, clock, bus }
    }

    fn args<T>(
        &self,
        topic: &str,
        key: Option<&str>,
        options: serde_json::Value,
        then: impl FnOnce(TableArgs<'_>) -> T,
    ) -> T {
        let options = Options::from(options);
        let timeout = Duration::from_secs(1);
        then(TableArgs { table: "t", datasource: topic, format: "json", key, fields: &[], timeout, options: &options })
    }

    fn table(&self, topic: &str, key: &str, options: serde_json::Value) -> Arc<MemoryTable> {
        self.args(topic, Some(key), options, |args| Definition::new(&args).unwrap().table(&self.ctx))
    }

    async fn source(&self, topic: &str, key: &str, key_columns: &[&str]) -> Arc<dyn LookupSource> {
        let source = self.args(topic, Some(key), json!({}), |table| {
            let columns = ["v"].map(|name| Column { name: name.into(), kind: ColumnKind::Field, ty: Type::Any });
            let key_columns: Vec<SmolStr> = key_columns.iter().map(|column| SmolStr::from(*column)).collect();
            let columns = Arc::new(Schema { columns: columns.into() });
            build(&LookupArgs { table, key_columns: &key_columns, columns: &columns }).unwrap()
        });
        source.connect(&self.ctx).await.unwrap();
        source
    }

    /// Publishes, and waits until the tables have taken it in.
    async fn write(&self, topic: &str, rows: &[(RowKind, serde_json::Value)]) {
        let row = |(kind, object): &(RowKind, serde_json::Value)| MemoryRow {
            object: Arc::new(crate::format::json::parse_object(object.to_string().as_bytes()).unwrap()),
            kind: *kind,
            key: None,
        };
        self.bus.publish(topic, rows.iter().map(row).collect()).await;
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
    }
}

async fn find(source: &Arc<dyn LookupSource>, keys: &[&[Value]]) -> Vec<String> {
    let keys: Vec<LookupKey> = keys.iter().map(|key| LookupKey((*key).into())).collect();
    let text = |found: Found| {
        let mut out = Vec::new();
        for row in found.unwrap() {
            write_value(row.get(0), &mut out);
            out.push(b' ');
        }
        String::from_utf8(out).unwrap().trim_end().to_owned()
    };
    source.lookup(&keys).await.unwrap().into_iter().map(text).collect()
}

fn int(number: i64) -> Value {
    Value::Int(number)
}

#[tokio::test]
async fn rows_by_kind_and_typed_key() {
    let bench = Bench::new();
    let _table = bench.table("t", "id", json!({}));
    bench
        .write("t", &[(RowKind::Upsert, json!({"id": 5, "v": 1})), (RowKind::Insert, json!({"id": "5", "v": 2}))])
        .await;
    let source = bench.source("t", "id", &["id"]).await;
    let keys: [&[Value]; 4] = [&[int(5)], &[Value::Float(5.0)], &[Value::string("5")], &[int(6)]];
    assert_eq!(find(&source, &keys).await, ["1", "1", "2", ""]);
    bench
        .write("t", &[(RowKind::Update, json!({"id": 5.0, "v": 3})), (RowKind::Update, json!({"id": 6, "v": 4}))])
        .await;
    assert_eq!(find(&source, &keys).await, ["3", "3", "2", "4"], "an update of what is not there brings it");
    bench.write("t", &[(RowKind::Delete, json!({"id": 5})), (RowKind::Delete, json!({"id": 99}))]).await;
    assert_eq!(find(&source, &keys).await, ["", "", "2", "4"]);
}

#[tokio::test]
async fn it_fills_from_its_definition_on() {
    let bench = Bench::new();
    bench.write("t", &[(RowKind::Upsert, json!({"id": 1, "v": 1}))]).await;
    let handle = bench.args("t", Some("id"), json!({}), |args| open(&args, &bench.ctx).unwrap());
    bench.write("t", &[(RowKind::Upsert, json!({"id": 2, "v": 2}))]).await;
    let source = bench.source("t", "id", &["id"]).await;
    assert_eq!(find(&source, &[&[int(1)], &[int(2)]]).await, ["", "2"]);
    drop((handle, source));
    let source = bench.source("t", "id", &["id"]).await;
    assert_eq!(find(&source, &[&[int(2)]]).await, [""], "gone with the last that held it");
    bench.ctx.tasks.shutdown().await;
}

#[tokio::test]
async fn tables_with_other_keys_on_one_topic_all_fill() {
    let bench = Bench::new();
    let _tables = [bench.table("t/+", "id", json!({})), bench.table("t/#", "v", json!({}))];
    bench.write("t/a", &[(RowKind::Upsert, json!({"id": 1, "v": 10}))]).await;
    let by_id = bench.source("t/+", "id", &["id"]).await;
    let by_v = bench.source("t/#", "v", &["v"]).await;
    assert_eq!(find(&by_id, &[&[int(1)]]).await, ["10"]);
    assert_eq!(find(&by_v, &[&[int(10)]]).await, ["10"]);
    bench.write("t/a/b", &[(RowKind::Upsert, json!({"id": 2, "v": 20}))]).await;
    assert_eq!(find(&by_id, &[&[int(2)]]).await, [""]);
    assert_eq!(find(&by_v, &[&[int(20)]]).await, ["20"]);
}

#[tokio::test]
async fn joins_on_other_columns_and_on_more() {
    let bench = Bench::new();
    let _table = bench.table("t", "id", json!({}));
    let rows =
        [(1, "a"), (2, "b"), (3, "a")].map(|(id, site)| (RowKind::Upsert, json!({"id": id, "site": site, "v": id})));
    bench.write("t", &rows).await;
    let source = bench.source("t", "id", &["site"]).await;
    assert_eq!(find(&source, &[&[Value::string("a")], &[Value::string("c")]]).await, ["1 3", ""]);
    let source = bench.source("t", "id", &["site", "id"]).await;
    assert_eq!(find(&source, &[&[Value::string("a"), int(3)], &[Value::string("a"), int(2)]]).await, ["3", ""]);
}

#[tokio::test]
async fn rows_without_key_are_counted_and_dropped() {
    let bench = Bench::new();
    let table = bench.table("t", "id", json!({}));
    bench.write("t", &[(RowKind::Upsert, json!({"v": 1})), (RowKind::Upsert, json!({"id": null, "v": 1}))]).await;
    assert_eq!((table.counts().no_key, table.len()), (2, 0));
    assert_eq!(table.errors.newest().unwrap().message, "2 rows on topic t have no column id");
    // The writer may have named the key.
    let object = Arc::new(Object::from_iter([("v", int(7))]));
    bench.bus.publish("t", vec![MemoryRow { object, kind: RowKind::Upsert, key: Some(int(1)) }]).await;
    tokio::task::yield_now().await;
    assert_eq!(table.len(), 1);
}

#[tokio::test]
async fn bounded_in_rows_and_time() {
    let bench = Bench::new();
    let table = bench.table("t", "id", json!({"maxRows": 3, "ttl": "10s"}));
    for id in 0..100 {
        bench
            .write("t", &[(RowKind::Upsert, json!({"id": 0, "v": id})), (RowKind::Upsert, json!({"id": id, "v": id}))])
            .await;
        assert!(table.len() <= 3);
        assert!(table.rows().order.len() <= 2 * 3 + 17);
    }
    assert_eq!(table.counts().evicted, 97);
    let rows = table.rows().by_key.keys().map(|key| format!("{:?}", key.0)).collect::<Vec<_>>();
    assert!(rows.contains(&"[Int(0)]".to_owned()), "what was written again stays: {rows:?}");
    bench.clock.0.store(10_000, Ordering::Relaxed);
    bench.write("t", &[(RowKind::Upsert, json!({"id": 7, "v": 7}))]).await;
    assert_eq!(table.len(), 1, "the others are too old");
}

#[test]
fn wrong_options_are_named() {
    let bench = Bench::new();
    let errors: Vec<String> =
        [("t", None, json!({})), ("t/#/x", Some("id"), json!({})), ("t", Some("id"), json!({"maxRow": 1}))]
            .into_iter()
            .map(|(topic, key, options)| {
                bench.args(topic, key, options, |args| Definition::new(&args)).unwrap_err().to_string()
            })
            .collect();
    insta::assert_snapshot!(errors.join("\n"), @r#"
    KEY must name the column that tells the table's rows apart
    DATASOURCE must be a memory topic: `#` must be the last level of topic filter "t/#/x"
    maxRow: unknown option, did you mean "maxRows"?
    "#);
}
