use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{ByteSize, HumanDuration, Options, Secret};

#[derive(Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Config {
    server: String,
    #[schemars(range(max = 2))]
    qos: u8,
    port: Option<u16>,
    clean: bool,
    ratio: f64,
    timeout: HumanDuration,
    password: Option<Secret>,
    protocol: Protocol,
    topics: Vec<String>,
    headers: BTreeMap<String, String>,
    tls: Option<Tls>,
    #[serde(alias = "url")]
    dburl: String,
    #[schemars(extend("x-alias" = "oldLimit"))]
    limit: u32,
    body: Option<Body>,
    data: Vec<serde_json::Map<String, Value>>,
}

#[derive(Debug, Default, PartialEq, Deserialize, JsonSchema)]
enum Protocol {
    /// Old.
    #[default]
    #[serde(rename = "3.1.1")]
    V311,
    /// New.
    #[serde(rename = "5")]
    V5,
}

#[derive(Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Tls {
    ca_file: String,
    #[serde(default)]
    insecure_skip_verify: bool,
}

#[derive(Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(untagged)]
enum Body {
    Text(String),
    Parts(Vec<String>),
}

fn problems(options: Value) -> Vec<String> {
    let error = Options::from(options).parse::<Config>().expect_err("these options are wrong");
    error.problems.iter().map(|problem| format!("{}: {}", problem.path, problem.message)).collect()
}

#[test]
fn options_are_read_with_forgiving_names_and_texts() {
    let config: Config = Options::from(json!({
        "SERVER": "tcp://a", "Qos": "1", "port": 1883.0, "clean": "true", "ratio": 1, "timeout": "1m30s",
        "password": "pw", "protocol": 5, "topics": ["a"], "headers": {"X-Id": "1"}, "TLS": {"cafile": "ca.pem"},
        "Url": "sqlite://x", "oldlimit": "7", "body": ["a", "b"], "data": [{"A": 1}],
    }))
    .parse()
    .unwrap();
    let expected = Config {
        server: "tcp://a".into(),
        qos: 1,
        port: Some(1883),
        clean: true,
        ratio: 1.0,
        timeout: HumanDuration::from_secs(90),
        password: Some(Secret::new("pw")),
        protocol: Protocol::V5,
        topics: vec!["a".into()],
        headers: BTreeMap::from([("X-Id".into(), "1".into())]),
        tls: Some(Tls { ca_file: "ca.pem".into(), insecure_skip_verify: false }),
        dburl: "sqlite://x".into(),
        limit: 7,
        body: Some(Body::Parts(vec!["a".into(), "b".into()])),
        data: vec![serde_json::Map::from_iter([("A".to_owned(), json!(1))])],
    };
    assert_eq!(config, expected);
}

#[test]
fn nothing_and_null_mean_the_default() {
    assert_eq!(Options::default().parse::<Config>().unwrap(), Config::default());
    let options = json!({"server": null, "password": null, "tls": null, "timeout": null});
    assert_eq!(Options::from(options).parse::<Config>().unwrap(), Config::default());
    let options = json!({"timeout": 250});
    assert_eq!(Options::from(options).parse::<Config>().unwrap().timeout, HumanDuration::from_millis(250));
}

#[test]
fn every_mistake_is_named_at_once() {
    insta::assert_snapshot!(problems(json!({
        "sever": "tcp://a", "zzz": 1, "qos": 3, "port": 70000, "clean": "yes", "ratio": "much", "timeout": "10",
        "password": 12345, "protocol": "3.1", "topics": "a", "headers": {"X-Id": 1}, "limit": -1,
        "tls": {"cafil": "x", "insecureSkipVerify": {}}, "body": 4, "data": [1],
    })).join("\n"), @r#"
    sever: unknown option, did you mean "server"?
    zzz: unknown option; known are server, qos, port, clean, ratio, timeout, password, protocol, topics, headers, tls, dburl, limit, body, data
    qos: expected a whole number from 0 to 2
    port: expected a whole number from 0 to 65535
    clean: expected true or false, found text
    ratio: expected a number, found text
    timeout: a duration needs a unit, such as 500ms, 10s or 1h30m
    password: expected text, found a number; put it in quotes
    protocol: expected one of "3.1.1", "5"
    topics: expected a list, found text
    headers.X-Id: expected text, found a number; put it in quotes
    limit: expected a whole number from 0 to 4294967295
    tls.cafil: unknown option, did you mean "caFile"?
    tls.insecureSkipVerify: expected true or false, found a map
    tls.caFile: required, but not given
    body: expected text or a list, found a number
    data[0]: expected a map, found a number
    "#);
}

#[test]
fn the_branch_that_was_meant_tells_what_is_wrong() {
    #[derive(Debug, Default, Deserialize, JsonSchema)]
    #[serde(rename_all = "camelCase", deny_unknown_fields, default)]
    struct Column {
        made: Option<Generator>,
        auth: Option<Auth>,
    }

    #[derive(Debug, Deserialize, JsonSchema)]
    #[serde(rename_all = "camelCase")]
    #[expect(dead_code, reason = "only its mistakes are read")]
    enum Generator {
        Range { min: f64, max: f64 },
        OneOf(Vec<Value>),
    }

    #[derive(Debug, Deserialize, JsonSchema)]
    #[serde(tag = "type", rename_all = "camelCase")]
    #[expect(dead_code, reason = "only its mistakes are read")]
    enum Auth {
        Basic { user: String, password: Secret },
        Bearer { token: Secret },
    }

    for (options, expected) in [
        (
            json!({"made": {"range": {"mni": 1}}}),
            "made.range.mni: unknown option, did you mean \"min\"?; made.range.min: required, but not given; made.range.max: required, but not given",
        ),
        (json!({"made": {"oneOf": 5}}), "made.oneOf: expected a list, found a number"),
        (json!({"made": {"rnge": {}}}), "made.rnge: unknown option, did you mean \"range\"?"),
        (json!({"made": {}}), "made: expected a map with one of \"range\", \"oneOf\""),
        (
            json!({"auth": {"type": "basic", "user": 1, "password": "x"}}),
            "auth.user: expected text, found a number; put it in quotes",
        ),
        (json!({"auth": {"type": "bearer"}}), "auth.token: required, but not given"),
    ] {
        let error = Options::from(options.clone()).parse::<Column>().expect_err("wrong");
        assert_eq!(error.to_string(), expected, "{options}");
    }
}

#[test]
fn one_option_is_given_once() {
    assert_eq!(problems(json!({"qos": 1, "QoS": 2})), ["QoS: \"qos\" is given twice"]);
}

#[test]
fn values_never_show() {
    let secret = "hunter2-hunter2";
    for option in ["server", "qos", "port", "clean", "ratio", "timeout", "protocol", "topics", "tls", "limit", "data"] {
        for value in [json!(secret), json!([secret]), json!({ "secret": secret }), json!([{ "secret": [secret] }])] {
            if let Err(error) = Options::from(json!({ option: value })).parse::<Config>() {
                assert!(!error.to_string().contains("hunter2"), "{error}");
                assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
            }
        }
    }
    let error = Options::from(json!({"url": [secret]})).parse::<Config>().expect_err("an alias with a wrong type");
    assert_eq!(error.to_string(), "url: expected a string");
    assert_eq!(format!("{:?} {}", Secret::new(secret), Secret::new(secret)), "*** ***");
    assert_eq!(serde_json::to_value(Secret::new(secret)).unwrap(), json!("***"));
    assert_eq!(format!("{:?}", Options::from(json!({ "password": secret }))), "[\"password\"]");
}

#[test]
fn common_options_are_split_off() {
    #[derive(Debug, Default, PartialEq, Deserialize, JsonSchema)]
    #[serde(rename_all = "camelCase", default)]
    struct Common {
        send_single: bool,
        batch_size: usize,
    }

    let mut options = Options::from(json!({"SendSingle": true, "topic": "a", "batchsize": 5}));
    let common: Common = options.split_off::<Common>().parse().unwrap();
    assert_eq!(common, Common { send_single: true, batch_size: 5 });
    assert_eq!(options, Options::from(json!({"topic": "a"})));
}

#[test]
fn sizes_are_read_and_written() {
    for (text, expected) in
        [("4096", Some(4096)), ("64Mi", Some(64 << 20)), ("1 k", Some(1000)), ("2G", Some(2_000_000_000))]
            .into_iter()
            .chain(["", "Mi", "-1", "1.5Gi", "99999999999Ti", "many"].map(|text| (text, None)))
    {
        assert_eq!(text.parse::<ByteSize>().ok().map(|size| size.0), expected, "{text}");
    }
    for (size, expected) in [(64 << 20, json!("64Mi")), (1500, json!(1500)), (0, json!(0))] {
        assert_eq!(serde_json::to_value(ByteSize(size)).unwrap(), expected);
    }
}
