//! The queue alone: order, bounds, and what a crash leaves.

use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};

use bytes::Bytes;
use sluice_sql::Timestamp;

use super::*;
use crate::sink::{Message, Props};

struct HandClock(AtomicI64);

impl Clock for HandClock {
    fn now(&self) -> Timestamp {
        self.0.load(Ordering::Relaxed)
    }
}

const BOUNDS: Bounds = Bounds {
    memory_items: 4,
    disk_items: usize::MAX,
    disk_bytes: u64::MAX,
    max_age: None,
    overflow: Backpressure::Block,
};

struct Open {
    queue: Queue,
    metrics: Arc<SinkMetrics>,
    clock: Arc<HandClock>,
}

async fn open(dir: Option<&Path>, bounds: Bounds) -> Open {
    let clock = Arc::new(HandClock(AtomicI64::new(1_000_000)));
    let dyn_clock = Arc::clone(&clock) as Arc<dyn Clock>;
    let metrics = Arc::new(SinkMetrics::new("r", 0, "mqtt", Arc::clone(&dyn_clock)));
    let dir = dir.map(|dir| (dir.to_owned(), SyncPolicy::Always));
    let queue = Queue::open(dir, bounds, Arc::clone(&metrics), dyn_clock).await.unwrap();
    Open { queue, metrics, clock }
}

fn item(n: u64) -> Item {
    Item::Message(Message { body: Bytes::from(n.to_string()), props: Props::default(), n_rows: 1 })
}

fn number(item: &Item) -> u64 {
    let Item::Message(message) = item else { panic!("a message") };
    String::from_utf8_lossy(&message.body).parse().unwrap()
}

async fn give(queue: &Queue, numbers: std::ops::Range<u64>) {
    for n in numbers {
        queue.push(vec![item(n)], None).await;
    }
}

async fn take_all(queue: &Queue) -> Vec<u64> {
    queue.close();
    let mut numbers = Vec::new();
    while let Some(taken) = queue.next().await.unwrap() {
        numbers.extend(taken.items.iter().map(number));
        queue.done(taken.cause).await.unwrap();
    }
    numbers
}

#[tokio::test]
async fn order_is_kept_over_memory_and_disk() {
    for n in [3, 4, 5, 40] {
        let dir = tempfile::tempdir().unwrap();
        let Open { queue, metrics, .. } = open(Some(dir.path()), BOUNDS).await;
        give(&queue, 0..n).await;
        assert_eq!(metrics.queue.disk_rows.get() > 0, n > 4, "memory first");
        assert_eq!(take_all(&queue).await, (0..n).collect::<Vec<_>>());
        assert!(queue.is_empty());
    }
}

#[tokio::test]
async fn an_outage_brings_what_waits_to_disk_with_what_is_being_written() {
    let dir = tempfile::tempdir().unwrap();
    let Open { queue, .. } = open(Some(dir.path()), BOUNDS).await;
    give(&queue, 0..2).await;
    let taken = queue.next().await.unwrap().unwrap();
    assert_eq!(taken.items.len(), 2);
    queue.outage(true).await;
    give(&queue, 2..4).await;
    // Killed now: another process finds all of it, and puts new rows behind.
    let Open { queue: after, metrics, .. } = open(Some(dir.path()), BOUNDS).await;
    assert_eq!(metrics.queue.restored.get(), 4);
    give(&after, 4..6).await;
    assert_eq!(take_all(&after).await, [0, 1, 2, 3, 4, 5]);

    // Not killed: the write goes through, and the rest follows.
    let dir = tempfile::tempdir().unwrap();
    let Open { queue, .. } = open(Some(dir.path()), BOUNDS).await;
    give(&queue, 0..2).await;
    let taken = queue.next().await.unwrap().unwrap();
    queue.outage(true).await;
    give(&queue, 2..4).await;
    queue.outage(false).await;
    queue.done(taken.cause).await.unwrap();
    assert_eq!(take_all(&queue).await, [2, 3]);
}

#[tokio::test]
async fn a_full_queue_does_what_the_policy_says() {
    // On disk, 100 items of some 60 bytes in segments of 64 KiB; without a volume, in memory.
    let big = |n: u64| {
        let body = format!("{n:0>1000}");
        Item::Message(Message { body: Bytes::from(body), props: Props::default(), n_rows: 1 })
    };
    for (overflow, has_disk) in [
        (Backpressure::DropOldest, true),
        (Backpressure::DropNewest, true),
        (Backpressure::DropOldest, false),
        (Backpressure::DropNewest, false),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let bounds = Bounds { disk_bytes: 300 << 10, overflow, ..BOUNDS };
        let Open { queue, metrics, .. } = open(has_disk.then_some(dir.path()), bounds).await;
        for n in 0..1000 {
            queue.push(vec![big(n)], None).await;
        }
        let numbers = take_all(&queue).await;
        let n_dropped = metrics.dropped.get(DropReason::Overflow);
        let what = format!("{overflow:?}, disk: {has_disk}");
        assert_eq!(numbers.len() as u64 + n_dropped, 1000, "{what}");
        assert!(numbers.len() >= if has_disk { 200 } else { 4 }, "{what}: {}", numbers.len());
        assert!(numbers.is_sorted(), "{what}");
        match overflow {
            Backpressure::DropOldest => assert_eq!(numbers.last(), Some(&999), "{what}"),
            _ => assert_eq!(numbers.first(), Some(&0), "{what}"),
        }
    }
}

#[tokio::test]
async fn without_a_policy_a_full_queue_waits() {
    let dir = tempfile::tempdir().unwrap();
    for dir in [Some(dir.path()), None] {
        let Open { queue, metrics, .. } = open(dir, Bounds { disk_items: 6, ..BOUNDS }).await;
        let n_given = AtomicI64::new(0);
        let giving = async {
            for n in 0..20 {
                queue.push(vec![item(n)], None).await;
                n_given.fetch_add(1, Ordering::Relaxed);
            }
            queue.close();
        };
        let taking = async {
            while metrics.queue.is_full.get() == 0 {
                tokio::task::yield_now().await;
            }
            assert!(n_given.load(Ordering::Relaxed) < 12);
            let mut numbers = Vec::new();
            while let Some(taken) = queue.next().await.unwrap() {
                numbers.extend(taken.items.iter().map(number));
                queue.done(taken.cause).await.unwrap();
            }
            numbers
        };
        let ((), numbers) = tokio::join!(giving, taking);
        assert_eq!(numbers, (0..20).collect::<Vec<_>>());
        assert_eq!(metrics.dropped.total(), 0);
    }
}

#[tokio::test]
async fn what_is_too_old_is_dropped_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    for dir in [Some(dir.path()), None] {
        let bounds = Bounds { max_age: Some(Duration::from_secs(60)), memory_items: 100, ..BOUNDS };
        let Open { queue, metrics, clock } = open(dir, bounds).await;
        give(&queue, 0..3).await;
        queue.outage(true).await;
        clock.0.fetch_add(30_000, Ordering::Relaxed);
        give(&queue, 3..5).await;
        clock.0.fetch_add(30_001, Ordering::Relaxed);
        assert_eq!(take_all(&queue).await, [3, 4]);
        assert_eq!(metrics.dropped.get(DropReason::Expired), 3);
    }
}

#[tokio::test]
async fn a_cause_is_known_when_all_of_it_was_written_or_is_on_disk() {
    let dir = tempfile::tempdir().unwrap();
    let cause = |n: u64| Some(Cause { step: n, ..Cause::default() });
    let Open { queue, .. } = open(Some(dir.path()), BOUNDS).await;
    assert_eq!(queue.cause(), None);
    queue.push(vec![item(1), item(2)], cause(1)).await;
    assert_eq!(queue.cause(), None, "in memory only");
    let taken = queue.next().await.unwrap().unwrap();
    queue.done(taken.cause).await.unwrap();
    assert_eq!(queue.cause(), cause(1));
    queue.push(vec![item(3)], cause(2)).await;
    assert!(queue.secure().await);
    assert_eq!(queue.cause(), cause(2));
    let Open { queue, .. } = open(Some(dir.path()), BOUNDS).await;
    assert_eq!(queue.cause(), cause(2));
    assert_eq!(take_all(&queue).await, [3]);
    let Open { queue, .. } = open(Some(dir.path()), BOUNDS).await;
    assert_eq!((queue.cause(), queue.is_empty()), (cause(2), true));
    queue.push(vec![item(4)], cause(3)).await;
    assert_eq!(queue.clear().await, 1);
}
