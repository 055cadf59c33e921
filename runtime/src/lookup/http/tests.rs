//! Against a real server.

#![expect(clippy::disallowed_methods, reason = "what is spawned ends with the test's runtime")]

use axum::Router;
use axum::extract::{Path, RawQuery};
use axum::http::StatusCode;
use axum::routing::get;
use serde_json::json;
use std::time::Duration;

use super::*;
use crate::lookup::TableArgs;
use crate::options::Options;
use crate::time::SystemClock;

async fn serve() -> String {
    rustls::crypto::ring::default_provider().install_default().ok();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let one = |Path(id): Path<String>, RawQuery(query): RawQuery| async move {
        match id.as_str() {
            "none" => (StatusCode::NOT_FOUND, String::new()),
            "broken" => (StatusCode::OK, "{".to_owned()),
            "down" => (StatusCode::SERVICE_UNAVAILABLE, String::new()),
            id => (
                StatusCode::OK,
                json!([{"site": format!("{id}?{}", query.unwrap_or_default())}, {"site": "two"}]).to_string(),
            ),
        }
    };
    let all =
        r#"[{"id":1,"site":"a"},{"id":2,"site":"b"},{"id":1.0,"site":"c"},{"id":"1","site":"text"},{"site":"no id"}]"#;
    let app = Router::new().route("/one/{id}", get(one)).route("/all", get(move || async move { all }));
    tokio::spawn(async move { axum::serve(listener, app).await });
    url
}

fn make(url: &str, datasource: &str, keys: &[&str], column: &str) -> Result<Arc<dyn LookupSource>, ConfigError> {
    let kind = if column == "*" { ColumnKind::Star } else { ColumnKind::Field };
    let columns = vec![Column { name: column.into(), kind, ty: Type::Any }];
    let keys: Vec<SmolStr> = keys.iter().map(|key| SmolStr::from(*key)).collect();
    build(&LookupArgs {
        table: TableArgs {
            table: "t",
            datasource,
            format: "json",
            key: None,
            fields: &[],
            timeout: Duration::from_secs(5),
            options: &Options::from(json!({"url": url})),
        },
        key_columns: &keys,
        columns: &Arc::new(Schema { columns }),
    })
}

async fn find(source: &Arc<dyn LookupSource>, keys: &[Value]) -> Result<Vec<String>, ConnectorError> {
    let ctx = ConnectorContext {
        name: "t".into(),
        connections: Default::default(),
        clock: Arc::new(SystemClock),
        tasks: Default::default(),
        health: Default::default(),
    };
    source.connect(&ctx).await?;
    let keys: Vec<LookupKey> = keys.iter().map(|key| LookupKey([key.clone()].into())).collect();
    let text = |found: Found| match found {
        Err(error) => format!("error: {error}"),
        Ok(rows) => {
            let mut out = Vec::new();
            for row in &rows {
                crate::format::json_encoder::write_value(row.get(0), &mut out);
            }
            String::from_utf8(out).unwrap()
        }
    };
    Ok(source.lookup(&keys).await?.into_iter().map(text).collect())
}

#[tokio::test]
async fn a_request_per_key() {
    let url = serve().await;
    let source = make(&url, "/one/{{.id}}?k={{.id}}", &["id"], "site").unwrap();
    let keys = [Value::Int(5), Value::string("none"), Value::string("a b/c&d"), Value::string("broken")];
    assert_eq!(
        find(&source, &keys).await.unwrap(),
        [
            "\"5?k=5\"\"two\"",
            "",
            "\"a b/c&d?k=a%20b%2Fc%26d\"\"two\"",
            "error: the answer can't be read: line 1, column 2: expected a member name in double quotes, but the text ends here"
        ]
    );
    let error = find(&source, &[Value::Int(1), Value::string("down")]).await.unwrap_err();
    assert_eq!(error.to_string(), "server answered 503 Service Unavailable");
}

#[tokio::test]
async fn everything_at_once() {
    let url = serve().await;
    let source = make(&format!("{url}/all"), "", &["id"], "*").unwrap();
    let keys = [Value::Int(1), Value::string("1"), Value::Int(3), Value::Float(2.0)];
    assert_eq!(
        find(&source, &keys).await.unwrap(),
        [r#"{"id":1,"site":"a"}{"id":1,"site":"c"}"#, r#"{"id":"1","site":"text"}"#, "", r#"{"id":2,"site":"b"}"#]
    );
    // The column of the key need not be among those that are wanted.
    let source = make(&format!("{url}/all"), "", &["id"], "site").unwrap();
    assert_eq!(find(&source, &[Value::Int(2)]).await.unwrap(), ["\"b\""]);
}

#[test]
fn options() {
    for (url, keys, expected) in [
        ("http://h/{{.id}}", &["id"][..], "ok"),
        ("http://h/", &["id", "b"], "ok"),
        ("h", &["id"], "url: "),
        ("http://h/{{.id}}", &["id", "b"], "url: the join asks by b"),
    ] {
        let outcome = make(url, "", keys, "*").err().map_or_else(|| "ok".to_owned(), |error| error.to_string());
        assert!(outcome.starts_with(expected), "{url}: {outcome}");
    }
}
