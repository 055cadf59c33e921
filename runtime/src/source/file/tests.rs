use std::io::Write as _;

use serde_json::json;
use tempfile::TempDir;

use super::super::tests::{build_source, context, drain_as_json, read_as_json};
use super::*;

fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

async fn read_all(folder: &TempDir, datasource: &str, mut options: serde_json::Value) -> Vec<String> {
    options["path"] = json!(folder.path());
    let mut source = build_source(&TYPE, datasource, "json", options).unwrap();
    drain_as_json(&mut *source, usize::MAX).await
}

#[tokio::test]
async fn files_are_cut_by_their_type() {
    let text = "a,b\n1,\"x\ny\"\r\n2";
    let cases = [
        ("t", json!({}), vec![text]),
        ("t", json!({"fileType": "lines"}), vec!["a,b", "1,\"x", "y\"", "2"]),
        ("t", json!({"fileType": "lines", "ignoreStartLines": 1, "ignoreEndLines": 2}), vec!["1,\"x"]),
        ("t.log", json!({}), vec!["a,b", "1,\"x", "y\"", "2"]),
        (
            "t.csv",
            json!({}),
            vec![r#"{"cols0":"a","cols1":"b"}"#, r#"{"cols0":"1","cols1":"x\ny"}"#, r#"{"cols0":"2"}"#],
        ),
        ("t.csv", json!({"hasHeader": true}), vec![r#"{"a":"1","b":"x\ny"}"#, r#"{"a":"2"}"#]),
        ("t.csv", json!({"hasHeader": true, "columns": ["z"]}), vec![r#"{"z":"1"}"#, r#"{"z":"2"}"#]),
        (
            "t.csv",
            json!({"delimiter": ";", "ignoreEndLines": 1}),
            vec![r#"{"cols0":"a,b"}"#, r#"{"cols0":"1,\"x"}"#, r#"{"cols0":"y\""}"#],
        ),
    ];
    for (name, options, expected) in cases {
        let folder = folder(&[(name, text)]);
        let items = read_all(&folder, name, options.clone()).await;
        assert_eq!(items, expected, "{name} {options}");
    }
}

#[tokio::test]
async fn folders_are_read_in_order_of_names() {
    let folder =
        folder(&[("b.json", "2"), ("a.json", "1"), (".hidden", "0"), ("c.jsonl", "3\n\n4\n"), ("empty.json", "")]);
    std::fs::create_dir(folder.path().join("inner")).unwrap();
    assert_eq!(read_all(&folder, "", json!({})).await, ["1", "2", "3", "4"]);
    let moved = folder.path().join("moved");
    let options = json!({"actionAfterRead": 2, "moveTo": moved});
    assert_eq!(read_all(&folder, "", options).await.len(), 4);
    assert!(read_all(&folder, "", json!({})).await.is_empty());
    assert!(moved.join("a.json").exists());
    assert_eq!(read_all(&folder, "moved", json!({"actionAfterRead": 1})).await.len(), 4);
    assert!(!moved.join("a.json").exists());
}

#[tokio::test]
async fn large_files_come_in_pieces() {
    let lines: Vec<String> = (0..20_000).map(|n| format!("{{\"n\":{n}}}")).collect();
    let folder = folder(&[("t.jsonl", &lines.join("\n")), ("t.csv", &format!("a\n{}", "\"1\n2\"\n".repeat(20_000)))]);
    let path = folder.path();
    let mut source = build_source(&TYPE, "t.jsonl", "json", json!({"path": path})).unwrap();
    source.connect(&context()).await.unwrap();
    let (mut n_pieces, mut read) = (0, Vec::new());
    while let Some(Ingest { items: Items::Payloads(payloads), .. }) = source.next().await.unwrap() {
        n_pieces += 1;
        read.extend(payloads.iter().map(|payload| String::from_utf8(payload.bytes.to_vec()).unwrap()));
    }
    assert_eq!(read, lines);
    assert!(n_pieces > 2, "{n_pieces}");
    let rows = read_all(&folder, "t.csv", json!({"hasHeader": true})).await;
    assert_eq!(rows.len(), 20_000);
    assert!(rows.iter().all(|row| row == r#"{"a":"1\n2"}"#));
}

#[tokio::test(start_paused = true)]
async fn rounds_and_pauses() {
    let folder = folder(&[("t.jsonl", "1\n2\n")]);
    let options = json!({"path": folder.path(), "interval": "1m", "sendInterval": "1s"});
    let mut source = build_source(&TYPE, "t.jsonl", "json", options.clone()).unwrap();
    let started = tokio::time::Instant::now();
    assert_eq!(drain_as_json(&mut *source, 5).await, ["1", "2", "1", "2", "1"]);
    assert!(started.elapsed() >= Duration::from_secs(120), "{:?}", started.elapsed());
    let mut source = build_source(&TYPE, "", "json", options).unwrap();
    assert_eq!(drain_as_json(&mut *source, 2).await, ["1", "2"]);
    std::fs::write(folder.path().join("new"), "3").unwrap();
    assert_eq!(read_as_json(&mut *source, 1).await, ["3"], "the old file is not read again");
}

#[tokio::test]
async fn a_followed_file_may_grow_be_rotated_and_cut_short() {
    let folder = folder(&[("t.csv", "a\n1\n2")]);
    let path = folder.path().join("t.csv");
    let append = |text: &str| {
        let mut file = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    };
    let mut source =
        build_source(&TYPE, "t.csv", "json", json!({"path": folder.path(), "follow": true, "hasHeader": true}))
            .unwrap();
    assert_eq!(drain_as_json(&mut *source, 1).await, [r#"{"a":"1"}"#]);
    append("2\n3\n");
    assert_eq!(read_as_json(&mut *source, 2).await, [r#"{"a":"22"}"#, r#"{"a":"3"}"#]);
    append("4");
    std::fs::rename(&path, folder.path().join("t.csv.1")).unwrap();
    std::fs::write(&path, "b\n5\n").unwrap();
    assert_eq!(read_as_json(&mut *source, 2).await, [r#"{"a":"4"}"#, r#"{"b":"5"}"#]);
    std::fs::write(&path, "c\n").unwrap();
    // Let it see that the file is shorter before it grows again.
    let next = tokio::time::timeout(Duration::from_secs(1), source.next()).await;
    assert!(next.is_err());
    append("6\n");
    assert_eq!(read_as_json(&mut *source, 1).await, [r#"{"c":"6"}"#]);
}

#[tokio::test]
async fn refused() {
    let folder = folder(&[("t", "1")]);
    let cases = [
        ("t", json!({"actionAfterRead": 2}), "moveTo: actionAfterRead 2 needs the folder to move files to"),
        ("t", json!({"actionAfterRead": 3}), "actionAfterRead: expected 0 (keep), 1 (delete) or 2 (move)"),
        ("t", json!({"follow": true, "interval": 5}), "follow: a followed file is never done"),
        ("t", json!({"delimiter": ", "}), "delimiter: the delimiter must be one ASCII character"),
        ("", json!({"path": ""}), "datasource: name a file or a folder"),
        ("nowhere", json!({}), "can't read "),
        ("", json!({"follow": true}), "is a folder: only a single file can be followed"),
        ("t", json!({"follow": true}), "fileType json takes a file as a whole"),
    ];
    for (datasource, mut options, expected) in cases {
        if options.get("path").is_none() {
            options["path"] = json!(folder.path());
        }
        let outcome = match build_source(&TYPE, datasource, "json", options) {
            Err(error) => error.to_string(),
            Ok(mut source) => match source.connect(&context()).await {
                Err(error) => error.to_string(),
                Ok(()) => source.next().await.unwrap_err().to_string(),
            },
        };
        assert!(outcome.contains(expected), "{outcome}");
    }
}

#[tokio::test]
async fn reading_goes_on_at_a_position() {
    let folder = folder(&[("a.jsonl", "1\n2\n3\n"), ("b.csv", "n\n4\n5\n"), ("c.json", "6")]);
    let options = json!({"path": folder.path(), "hasHeader": true, "sendInterval": "1us"});
    let all = ["1", "2", "3", r#"{"n":"4"}"#, r#"{"n":"5"}"#, "6"];
    let build = || build_source(&TYPE, "", "json", options.clone()).unwrap();
    for n_before in 1..=all.len() {
        let mut source = build();
        assert_eq!(drain_as_json(&mut *source, n_before).await, all[..n_before]);
        let position = source.position().unwrap();
        let mut source = build();
        source.resume(&position);
        assert_eq!(drain_as_json(&mut *source, usize::MAX).await, all[n_before..], "{position}");
    }
    // Another file took the name: it is new from its start.
    let mut source = build();
    drain_as_json(&mut *source, 2).await;
    let position = source.position().unwrap();
    std::fs::rename(folder.path().join("c.json"), folder.path().join("a.jsonl")).unwrap();
    let mut source = build();
    source.resume(&position);
    assert_eq!(drain_as_json(&mut *source, 1).await, ["6"]);
}
