//! The driver with a queue: outages, restarts, barriers; and where dead letters go.

use std::path::Path;

use super::*;
use crate::pipeline::channel::Sender;
use crate::pipeline::outlet::Barrier;
use crate::state::Cause;

const CACHED: fn() -> serde_json::Value = || json!({"sendSingle": true, "fields": ["n"], "enableCache": true});

fn kept(run: &Run, options: serde_json::Value, dir: &Path) -> SinkDriver {
    let mut driver = run.driver("messages", options).unwrap();
    driver.keep_in(dir.to_owned(), SyncPolicy::Always, false);
    driver
}

fn open_channel() -> (Sender<ToSink>, Receiver<ToSink>) {
    channel(Limits::of_items(2), |_| {})
}

async fn send(sender: &Sender<ToSink>, numbers_of: std::ops::Range<i64>, cause: Option<u64>) {
    let cause = cause.map(|step| Cause { step, ..Cause::default() });
    sender.send(ToSink::Results { batch: Arc::new(numbers(numbers_of)), cause }).await.unwrap();
}

fn down(run: &Run) {
    run.far.lock().unwrap().answers = (0..100_000).map(|_| ConnectorError::external("down").into()).collect();
}

fn up(run: &Run) {
    run.far.lock().unwrap().answers.clear();
}

fn bodies(numbers: std::ops::Range<i64>) -> Vec<String> {
    numbers.map(|n| format!("{{\"n\":{n}}}")).collect()
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    for _ in 0..100_000 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("waited in vain for {what}");
}

#[tokio::test(start_paused = true)]
async fn an_outage_and_a_kill_lose_nothing_and_keep_the_order() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("queue");
    let before = Run::new();
    down(&before);
    let (sender, receiver) = open_channel();
    // Dropped in the middle of everything, as a process that is killed.
    tokio::select! {
        () = kept(&before, CACHED(), &dir).run(receiver, CancellationToken::new()) => panic!("it can't end"),
        () = async {
            for n in 0..40 {
                send(&sender, n * 10..n * 10 + 10, None).await;
            }
            until("all rows on disk", || before.metrics.queue.disk_rows.get() == 400).await;
        } => {}
    }
    assert_eq!(before.metrics.circuit.get(), Circuit::Open);
    assert_eq!(before.items(), Vec::<String>::new());

    let after = Run::new();
    let (sender, receiver) = open_channel();
    let feed = async {
        send(&sender, 400..405, None).await;
        drop(sender);
    };
    tokio::join!(kept(&after, CACHED(), &dir).run(receiver, CancellationToken::new()), feed);
    assert_eq!(after.items(), bodies(0..405), "what was stored comes first, in order");
    assert_eq!(after.metrics.queue.restored.get(), 400);
    assert_eq!((after.metrics.queue.disk_rows.get(), after.metrics.circuit.get()), (0, Circuit::Closed));
}

#[tokio::test(start_paused = true)]
async fn a_stop_in_an_outage_loses_nothing() {
    for (has_batches, cleans) in [(false, false), (true, false), (false, true)] {
        let dir = tempfile::tempdir().unwrap();
        let mut options = CACHED();
        options["cleanCacheAtStop"] = json!(cleans);
        if has_batches {
            options["batchSize"] = json!(7);
        }
        let before = Run::new();
        down(&before);
        let (sender, receiver) = open_channel();
        let cut = CancellationToken::new();
        let feed = async {
            for n in 0..10 {
                send(&sender, n * 10..n * 10 + 10, None).await;
            }
            drop(sender);
            tokio::time::sleep(Duration::from_secs(10)).await;
            cut.cancel();
        };
        tokio::join!(kept(&before, options.clone(), dir.path()).run(receiver, cut.clone()), feed);
        assert_eq!(before.metrics.rows_in.get(), 100);
        let n_dropped = before.metrics.dropped.get(DropReason::Shutdown);
        assert_eq!(n_dropped, if cleans { 100 } else { 0 }, "batches: {has_batches}");
        let after = Run::new();
        let (_, receiver) = open_channel();
        kept(&after, options, dir.path()).run(receiver, CancellationToken::new()).await;
        let n_rows: u64 = after.metrics.rows_out.get();
        assert_eq!(n_rows + n_dropped, 100, "batches: {has_batches}");
        if !has_batches && !cleans {
            assert_eq!(after.items(), bodies(0..100));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn rows_wait_in_memory_and_are_written_together_after_an_outage() {
    let dir = tempfile::tempdir().unwrap();
    let run = Run::new();
    let (sender, receiver) = open_channel();
    let feed = async {
        send(&sender, 0..5, None).await;
        until("the first rows", || run.items().len() == 5).await;
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is written to disk while all is well");
        down(&run);
        for n in 5..50 {
            send(&sender, n..n + 1, None).await;
        }
        until("rows on disk", || run.metrics.queue.disk_rows.get() == 45).await;
        up(&run);
        drop(sender);
    };
    tokio::join!(kept(&run, CACHED(), dir.path()).run(receiver, CancellationToken::new()), feed);
    assert_eq!(run.items(), bodies(0..50));
    assert!(run.far.lock().unwrap().writes.len() < 20, "not one by one");
    let n_logs =
        std::fs::read_dir(dir.path()).unwrap().flatten().filter(|entry| entry.path().extension().is_some()).count();
    assert_eq!(n_logs, 0, "disk is given back");
}

#[tokio::test(start_paused = true)]
async fn a_queue_without_a_volume_is_bounded_and_holds_the_rule_back() {
    let run = Run::new();
    down(&run);
    let mut options = CACHED();
    options["memoryCacheThreshold"] = json!(10);
    let driver = run.driver("messages", options).unwrap();
    let (sender, receiver) = open_channel();
    let n_sent = std::sync::atomic::AtomicI64::new(0);
    let feed = async {
        for n in 0..100 {
            send(&sender, n..n + 1, None).await;
            n_sent.store(n, std::sync::atomic::Ordering::Relaxed);
        }
        drop(sender);
    };
    let mend = async {
        tokio::time::sleep(Duration::from_secs(100)).await;
        let n_sent = n_sent.load(std::sync::atomic::Ordering::Relaxed);
        assert!((8..40).contains(&n_sent), "{n_sent} of 100 were taken");
        assert_eq!(run.metrics.queue.is_full.get(), 1);
        up(&run);
    };
    tokio::join!(driver.run(receiver, CancellationToken::new()), feed, mend);
    assert_eq!(run.items(), bodies(0..100));
    assert_eq!(run.metrics.queue.is_full.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_barrier_is_taken_during_an_outage_and_results_that_come_again_are_not_written_again() {
    let dir = tempfile::tempdir().unwrap();
    let before = Run::new();
    down(&before);
    let mut driver = before.driver("messages", json!({"sendSingle": true, "fields": ["n"]})).unwrap();
    driver.keep_in(dir.path().to_owned(), SyncPolicy::Always, true);
    let (sender, receiver) = open_channel();
    tokio::select! {
        () = driver.run(receiver, CancellationToken::new()) => panic!("it can't end"),
        () = async {
            send(&sender, 0..3, Some(1)).await;
            send(&sender, 3..6, Some(2)).await;
            let (barrier, taken) = Barrier::new();
            sender.send(ToSink::Barrier(barrier)).await.unwrap();
            taken.await.expect("the queue has taken everything before the barrier");
            send(&sender, 6..9, Some(3)).await;
            until("the rows behind it, too", || before.metrics.queue.disk_rows.get() == 9).await;
        } => {}
    }
    // After a crash the rule goes on from its checkpoint, which may be older than what the queue has.
    let after = Run::new();
    let mut driver = after.driver("messages", json!({"sendSingle": true, "fields": ["n"]})).unwrap();
    driver.keep_in(dir.path().to_owned(), SyncPolicy::Always, true);
    let (sender, receiver) = open_channel();
    let feed = async {
        send(&sender, 3..6, Some(2)).await;
        send(&sender, 6..9, Some(3)).await;
        send(&sender, 9..12, Some(4)).await;
        drop(sender);
    };
    tokio::join!(driver.run(receiver, CancellationToken::new()), feed);
    assert_eq!(after.items(), bodies(0..12));
    assert_eq!(after.metrics.repeated.get(), 6);
}

#[tokio::test(start_paused = true)]
async fn results_that_were_still_collected_when_it_crashed_are_not_taken_for_given() {
    let dir = tempfile::tempdir().unwrap();
    let durable = |run: &Run| {
        let options = json!({"fields": ["n"], "batchSize": 4});
        let mut driver = run.driver("messages", options).unwrap();
        driver.keep_in(dir.path().to_owned(), SyncPolicy::Always, true);
        driver
    };
    let before = Run::new();
    down(&before);
    let (sender, receiver) = open_channel();
    tokio::select! {
        () = durable(&before).run(receiver, CancellationToken::new()) => panic!("it can't end"),
        () = async {
            send(&sender, 0..4, Some(1)).await;
            send(&sender, 4..10, Some(2)).await;
            until("what is full", || before.metrics.queue.disk_rows.get() == 8).await;
        } => {}
    }
    let after = Run::new();
    let (sender, receiver) = open_channel();
    let feed = async {
        send(&sender, 0..4, Some(1)).await;
        send(&sender, 4..10, Some(2)).await;
        send(&sender, 10..12, Some(3)).await;
        drop(sender);
    };
    tokio::join!(durable(&after).run(receiver, CancellationToken::new()), feed);
    let batches: Vec<String> = [0..4, 4..8, 8..12].map(|numbers| format!("[{}]", bodies(numbers).join(","))).into();
    assert_eq!(after.items(), batches);
    assert_eq!(after.metrics.repeated.get(), 4, "all of the first, nothing of the second");
}

#[tokio::test]
async fn dead_letters_go_to_a_file_with_their_reason_and_the_rest_flows() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("dead/letters.ndjson");
    for is_cached in [false, true] {
        let _ = std::fs::remove_file(&path);
        let run = Run::new();
        run.far.lock().unwrap().poison = Some("\"n\":3".to_owned());
        let options = json!({
            "sendSingle": true, "fields": ["n"], "enableCache": is_cached, "deadLetter": {"file": {"path": path}},
            // No number can be divided by 0.
            "dataTemplate": "{\"n\":{{.n}},\"q\":{{div 12 .n}}}",
        });
        let driver = run.driver("messages", options).unwrap();
        let letters = driver.more_metrics().remove(0);
        assert_eq!(letters.sink.as_ref(), "double_0/deadLetter");
        let (sender, receiver) = channel(Limits::of_items(8), |_| {});
        sender.send(ToSink::from(Arc::new(numbers(0..6)))).await.unwrap();
        drop(sender);
        driver.run(receiver, CancellationToken::new()).await;
        assert_eq!(run.items(), bodies(1..3).into_iter().chain(bodies(4..6)).collect::<Vec<_>>());
        assert_eq!((letters.rows_in.get(), letters.rows_out.get()), (2, 2));
        let text = std::fs::read_to_string(&path).unwrap();
        let mut lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        lines.sort_by_key(|line| line["payload"].is_null());
        assert_eq!(lines.len(), 2, "{text}");
        assert!(lines.iter().all(|line| line["rule"] == "r" && line["sink"] == "double_0" && line["rows"] == 1));
        assert_eq!((&lines[0]["reason"], &lines[0]["payload"]), (&json!("bad item"), &json!("{\"n\":3}")));
        assert!(lines[1]["reason"].as_str().unwrap().contains("division by zero"), "{text}");
        assert_eq!(lines[1]["row"], json!({"n": 0, "b": "x"}));
    }
}

#[tokio::test]
async fn dead_letters_of_rows_are_rows() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("letters.ndjson");
    let run = Run::new();
    let refusal = SinkError::Refused { items: vec![1], n_others: 2, reason: "no room".to_owned() };
    run.far.lock().unwrap().answers.push(refusal);
    run.all("rows", json!({"deadLetter": {"file": {"path": path}}}), vec![numbers(0..5)]).await;
    let text = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&lines[0]["reason"], &lines[0]["row"]), (&json!("no room"), &json!({"n": 1, "b": "x"})));
    assert_eq!((&lines[1]["rows"], lines[1].get("row")), (&json!(2), None), "which ones they are is not known");
}

#[test]
fn wrong_dead_letters_are_named() {
    let cases = [
        (json!({"deadLetter": {}}), "deadLetter: expected one key, the sink's type"),
        (json!({"deadLetter": {"fil": {}}}), "deadLetter: "),
        (json!({"deadLetter": {"file": {}}}), "deadLetter.file.path: required"),
        (json!({"deadLetter": {"messages": {"topics": "x"}}}), "deadLetter.messages.topics: "),
        (json!({"deadLetter": {"file": {"path": "x", "deadLetter": {}}}}), "deadLetter.file.deadLetter: "),
        (json!({"maxDiskSize": "lots"}), "maxDiskSize: "),
        (json!({"memoryCacheThreshold": 0}), "memoryCacheThreshold: "),
    ];
    for (options, expected) in cases {
        let error = Run::new().driver("messages", options).err().unwrap().to_string();
        assert!(error.starts_with(expected), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_alternate_gets_what_the_first_sink_can_not_write_now() {
    for is_cached in [false, true] {
        let run = Run::new();
        down(&run);
        // Both sinks of the test are one far side: the second writes to another topic, once the first has failed three times.
        run.far.lock().unwrap().answers.truncate(3);
        let options = json!({
            "sendSingle": true, "fields": ["n"], "topic": "first", "enableCache": is_cached,
            "alternate": {"messages": {"topic": "second"}},
        });
        let driver = run.driver("messages", options).unwrap();
        let other = driver.more_metrics().remove(0);
        assert_eq!(other.sink.as_ref(), "double_0/alternate");
        let (sender, receiver) = open_channel();
        let feed = async {
            send(&sender, 0..3, None).await;
            until("the other sink has them", || other.rows_out.get() == 3).await;
            tokio::time::sleep(Duration::from_secs(120)).await;
            send(&sender, 3..5, None).await;
            until("the first sink works again", || run.metrics.rows_out.get() == 2).await;
            assert_eq!(run.metrics.circuit.get(), Circuit::Closed);
            // Nor is the connection waited for that is said to be lost.
            run.far.lock().unwrap().connect_fails = usize::MAX;
            run.ctx.health.down("gone");
            tokio::time::sleep(Duration::from_secs(1)).await;
            send(&sender, 5..6, None).await;
            until("the next row", || run.metrics.rows_out.get() == 3).await;
            drop(sender);
        };
        tokio::join!(driver.run(receiver, CancellationToken::new()), feed);
        let expected: Vec<String> = bodies(0..3).iter().map(|body| format!("second <- {body}")).collect();
        let late = bodies(3..6).into_iter().map(|body| format!("first <- {body}"));
        let expected: Vec<String> = expected.into_iter().chain(late).collect();
        assert_eq!(run.items(), expected, "cached: {is_cached}");
        assert_eq!((run.metrics.diverted.get(), run.metrics.dropped.total()), (3, 0));
    }
}

#[test]
fn an_alternate_can_be_the_same_sink_with_another_topic() {
    let options =
        json!({"topic": "t/{{.n}}", "sendSingle": true, "resendAlterQueue": true, "resendDestination": "late"});
    let driver = Run::new().driver("messages", options).unwrap();
    assert_eq!(driver.more_metrics().len(), 1);
    let cases = [
        (json!({"alternate": {"rows": {}}}), "alternate: `rows` takes rows, but `messages` makes messages of them"),
        (json!({"alternate": {"messages": {"alternate": {}}}}), "alternate.messages.alternate: "),
        (json!({"alternate": {"messages": {}}, "resendAlterQueue": true}), "resendAlterQueue: can't be used together"),
    ];
    for (options, expected) in cases {
        let error = Run::new().driver("messages", options).err().unwrap().to_string();
        assert!(error.starts_with(expected), "{error}");
    }
}
