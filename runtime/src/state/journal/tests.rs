use std::sync::Arc;

use bytes::Bytes;

use super::*;
use crate::source::{Items, Payload};
use crate::state::{StateVolume, SyncPolicy};

const SMALL: Limits = Limits { segment_bytes: 200, max_bytes: 4000, max_age_ms: 1000 };

fn items(texts: &[&str]) -> Items {
    let payload = |text: &&str| Payload { bytes: Bytes::copy_from_slice(text.as_bytes()), meta: None };
    Items::Payloads(texts.iter().map(payload).collect())
}

fn texts(records: &[Record]) -> Vec<String> {
    let text = |record: &Record| match &record.items {
        Items::Payloads(payloads) => {
            let all: Vec<_> = payloads.iter().map(|payload| String::from_utf8_lossy(&payload.bytes)).collect();
            format!("{}@{} {}", record.offset, record.arrived, all.join(","))
        }
        Items::Requests(requests) => format!("{} requests", requests.len()),
        Items::Rows(rows) => format!("{} rows", rows.len()),
    };
    records.iter().map(text).collect()
}

fn read_from(journal: &Arc<Journal>, offset: u64) -> (Vec<String>, u64) {
    let mut reader = Reader::new(Arc::clone(journal), offset);
    let (mut all, mut n_missing) = (Vec::new(), 0);
    loop {
        let read = reader.read().unwrap();
        n_missing += read.n_missing;
        if read.records.is_empty() {
            return (all, n_missing);
        }
        all.extend(texts(&read.records));
    }
}

struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Place { dir: tempfile::tempdir().unwrap() }
    }

    fn open(&self, holds: &[(&str, u64)]) -> (Arc<Journal>, Writer) {
        let volume = StateVolume::open(self.dir.path(), SyncPolicy::Always).unwrap();
        let holds = holds.iter().map(|(rule, offset)| ((*rule).to_owned(), *offset));
        Journal::open(&volume, "s", SMALL, holds).unwrap()
    }

    fn files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.dir.path().join("journal/s")).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

#[tokio::test]
async fn what_was_appended_is_read_again_after_a_restart() {
    let place = Place::new();
    let (journal, mut writer) = place.open(&[]);
    assert_eq!((journal.end(), writer.stamp(5)), (0, 5));
    assert_eq!(writer.append(5, &items(&["a", "b"]), &[11, 12], None).await.unwrap(), 0);
    assert_eq!(writer.append(7, &items(&["c"]), &[13], Some("line 3")).await.unwrap(), 1);
    assert_eq!(read_from(&journal, 0), (vec!["0@5 a,b".to_owned(), "1@7 c".to_owned()], 0));
    drop((journal, writer));

    let (journal, mut writer) = place.open(&[]);
    assert_eq!((journal.end(), writer.position()), (2, Some("line 3")));
    assert!(writer.knows(12) && writer.knows(13) && !writer.knows(14));
    assert_eq!(writer.stamp(6), 7, "time never goes back");
    assert_eq!(writer.append(8, &items(&["d"]), &[], None).await.unwrap(), 2);
    assert_eq!(read_from(&journal, 1), (vec!["1@7 c".to_owned(), "2@8 d".to_owned()], 0));
}

#[tokio::test]
async fn a_half_written_record_is_cut_off() {
    let place = Place::new();
    let (_, mut writer) = place.open(&[]);
    writer.append(1, &items(&["whole"]), &[], None).await.unwrap();
    writer.append(2, &items(&["torn"]), &[], None).await.unwrap();
    drop(writer);
    let path = place.dir.path().join("journal/s").join(&place.files()[0]);
    let bytes = std::fs::read(&path).unwrap();
    for n_cut in 1..20 {
        std::fs::write(&path, &bytes[..bytes.len() - n_cut]).unwrap();
        let (journal, mut writer) = place.open(&[]);
        assert_eq!(read_from(&journal, 0), (vec!["0@1 whole".to_owned()], 0), "{n_cut} bytes cut");
        assert_eq!(writer.append(3, &items(&["next"]), &[], None).await.unwrap(), 1);
        assert_eq!(read_from(&journal, 1), (vec!["1@3 next".to_owned()], 0), "{n_cut} bytes cut");
    }
}

#[tokio::test]
async fn segments_go_when_all_rules_are_past_them() {
    let place = Place::new();
    let (journal, mut writer) = place.open(&[("resting", 3)]);
    let _ = (journal.hold("a"), journal.hold("b"));
    for n in 0..20 {
        writer.append(n, &items(&[&"x".repeat(60)]), &[], None).await.unwrap();
    }
    let n_all = place.files().len();
    assert!(n_all > 5, "{n_all}");
    journal.release("a", 20);
    assert_eq!(place.files().len(), n_all, "the others still need all");
    journal.release("b", 10);
    assert!(place.files().len() < n_all);
    assert_eq!(read_from(&journal, 3).1, 0, "the rule that does not run can still come back");
    journal.forget("resting");
    let (records, n_missing) = read_from(&journal, 3);
    assert!(n_missing > 0 && records.len() as u64 + n_missing == 17);
    assert_eq!(read_from(&journal, 10).1, 0);
    journal.release("b", 20);
    assert_eq!(place.files().len(), 2);
    let n_bytes = |file: &String| std::fs::metadata(place.dir.path().join("journal/s").join(file)).unwrap().len();
    assert_eq!(journal.n_bytes(), place.files().iter().map(n_bytes).sum::<u64>());
}

#[tokio::test]
async fn a_crash_behind_a_new_segment_forgets_neither_marks_nor_position_nor_time() {
    let place = Place::new();
    let (journal, mut writer) = place.open(&[]);
    journal.hold("a");
    let mut n = 0;
    while place.files().len() < 3 {
        n += 1;
        writer.append(n, &items(&[&"x".repeat(60)]), &[n as u64], Some("here")).await.unwrap();
    }
    // As if the process had died before the record that the segment was begun for.
    let last = place.files().pop().unwrap();
    std::fs::write(place.dir.path().join("journal/s").join(last), []).unwrap();
    journal.release("a", journal.end());
    assert_eq!(place.files().len(), 2);
    drop((journal, writer));
    let (_, writer) = place.open(&[]);
    assert!(writer.knows(n as u64 - 1));
    assert_eq!((writer.position(), writer.stamp(0)), (Some("here"), n - 1));
}

#[tokio::test]
async fn large_records_do_not_fill_it_for_good() {
    let place = Place::new();
    let (journal, mut writer) = place.open(&[]);
    journal.hold("a");
    for n in 0..5 {
        writer.append(n, &items(&[&"x".repeat(3000)]), &[], None).await.unwrap();
        journal.release("a", journal.end());
        assert!(!journal.is_full(), "{n}");
    }
    for n in 5..8 {
        writer.append(n, &items(&[&"x".repeat(3000)]), &[], None).await.unwrap();
    }
    assert!(journal.is_full(), "the rule has not come on");
}

#[tokio::test]
async fn a_full_journal_presses_rules_and_gives_up_those_that_do_not_run() {
    let place = Place::new();
    let (journal, mut writer) = place.open(&[("resting", 0)]);
    let (_, pressed) = journal.hold("a");
    let mut n = 0;
    while !journal.is_full() {
        writer.append(n, &items(&[&"x".repeat(60)]), &[], None).await.unwrap();
        n += 1;
    }
    assert!(pressed.load(Ordering::Relaxed));
    journal.release("a", journal.end());
    assert!(!pressed.load(Ordering::Relaxed));
    assert!(journal.is_full(), "kept for the rule that does not run");
    writer.append(n, &items(&["more"]), &[], None).await.unwrap();
    assert!(!journal.is_full());
}

#[tokio::test]
async fn what_is_too_old_is_kept_only_for_rules_that_run() {
    let place = Place::new();
    let (journal, mut writer) = place.open(&[("resting", 0), ("later", 12)]);
    journal.hold("runs");
    for n in 0..20 {
        writer.append(100 * n, &items(&[&"x".repeat(60)]), &[], None).await.unwrap();
    }
    // Those of the last second are not too old, nor is the first of those before it while a rule runs that needs it.
    assert_eq!((journal.begin(), journal.end()), (0, 20));
    journal.release("runs", 5);
    assert_eq!(read_from(&journal, 5).1, 0);
    assert!((1..=5).contains(&journal.begin()), "given up for the one that rests: {}", journal.begin());
    journal.release("runs", 20);
    assert!((6..=12).contains(&journal.begin()), "kept for the one that needs later records: {}", journal.begin());
}

#[tokio::test]
async fn damage_in_the_middle_costs_what_cannot_be_read_and_says_so() {
    let place = Place::new();
    let (journal, mut writer) = place.open(&[]);
    assert_eq!(journal.hold("a").0, 0);
    for n in 0..12 {
        writer.append(n, &items(&[&"x".repeat(60)]), &[], None).await.unwrap();
    }
    let path = place.dir.path().join("journal/s").join(&place.files()[0]);
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let (records, n_missing) = read_from(&journal, 0);
    assert!(n_missing > 0 && !records.is_empty());
    assert_eq!(records.len() as u64 + n_missing, 12);
}
