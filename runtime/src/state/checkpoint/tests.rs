use super::*;
use crate::state::SyncPolicy;

fn checkpoint(id: u64) -> Checkpoint {
    let inputs = vec![InputPlace { journal: "s".into(), offset: id * 10, part: 3 }];
    Checkpoint {
        id,
        made_at: -5,
        epoch: 2,
        rule_start: 7,
        seed: u64::MAX,
        fingerprint: 9,
        time: 8,
        step: (8, 1),
        inputs,
        ..Default::default()
    }
}

/// A checkpoint of which rows `rows` are kept.
fn large(id: u64, rows: std::ops::Range<u64>) -> Checkpoint {
    let place = |offset| InputPlace { journal: "a journal with quite a long name".into(), offset, part: 1 };
    Checkpoint { inputs: rows.map(place).collect(), ..checkpoint(id) }
}

fn open(dir: &Path) -> Arc<Checkpoints> {
    Checkpoints::open(&StateVolume::open(dir, SyncPolicy::Always).unwrap()).unwrap()
}

fn names(store: &Checkpoints, rule: &str) -> Vec<String> {
    files_in(&store.folder(rule)).unwrap().iter().map(FileId::to_string).collect()
}

/// Turns one bit of a file round.
fn damage(store: &Checkpoints, rule: &str, file: &str) {
    let path = store.folder(rule).join(file);
    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(path, bytes).unwrap();
}

#[test]
fn the_newest_whole_one_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    assert_eq!(store.latest("a").unwrap(), None);
    for id in 1..5 {
        store.save("a", checkpoint(id)).unwrap();
    }
    store.save("a/b", checkpoint(1)).unwrap();
    assert_eq!(store.latest("a").unwrap(), Some(checkpoint(4)));
    assert_eq!(store.rules().unwrap(), ["a", "a/b"]);
    assert_eq!(names(&store, "a"), ["4", "3"]);
    store.save("a", checkpoint(5)).unwrap();
    damage(&store, "a", "5");
    drop(store);
    let store = open(dir.path());
    assert_eq!(store.latest("a").unwrap(), Some(checkpoint(4)));
    store.remove("a").unwrap();
    assert_eq!(store.latest("a").unwrap(), None);
    assert_eq!(store.latest("a/b").unwrap(), Some(checkpoint(1)));
    assert_eq!(
        [store.new_epoch("a").unwrap(), store.new_epoch("a").unwrap(), store.new_epoch("b").unwrap()],
        [1, 2, 1]
    );
    assert_eq!(store.rules().unwrap(), ["a/b"]);
}

#[test]
fn of_a_large_one_only_what_has_changed_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let whole = store.save("a", large(1, 0..20_000)).unwrap();
    assert!(whole.n_written > whole.n_bytes && whole.n_bytes > MIN_DELTA_BYTES as u64);
    for id in 2..6 {
        let saved = store.save("a", large(id, id * 100..20_000 + id * 100)).unwrap();
        assert!(saved.n_written < saved.n_bytes / 5, "{saved:?}");
        assert_eq!(store.latest("a").unwrap(), Some(large(id, id * 100..20_000 + id * 100)));
    }
    assert_eq!(names(&store, "a"), ["5-1", "4-1", "1"], "and what they build on");
    drop(store);
    // After a start, the first one is whole, and what nothing builds on any more goes.
    let store = open(dir.path());
    assert_eq!(store.latest("a").unwrap(), Some(large(5, 500..20_500)));
    store.save("a", large(6, 600..20_600)).unwrap();
    store.save("a", large(7, 700..20_700)).unwrap();
    assert_eq!(names(&store, "a"), ["7-6", "6"]);
    // What has little in common is whole too, and so is what is small.
    store.save("a", large(8, 40_000..60_000)).unwrap();
    store.save("a", checkpoint(9)).unwrap();
    assert_eq!(names(&store, "a"), ["9", "8"]);
    store.remove("a").unwrap();
    assert_eq!(names(&store, "a"), Vec::<String>::new());
}

#[test]
fn nothing_builds_on_what_has_gone() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.save("a", large(1, 0..20_000)).unwrap();
    store.save("a", checkpoint(2)).unwrap();
    store.save("a", checkpoint(3)).unwrap();
    assert_eq!(names(&store, "a"), ["3", "2"]);
    store.save("a", large(4, 0..20_000)).unwrap();
    assert_eq!(store.latest("a").unwrap(), Some(large(4, 0..20_000)));
    // A rule that has gone and comes back begins to count anew.
    store.remove("a").unwrap();
    store.save("a", large(4, 0..20_001)).unwrap();
    assert_eq!(store.latest("a").unwrap(), Some(large(4, 0..20_001)));
}

#[test]
fn many_do_not_build_on_one() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let n_whole = (1..=2 * u64::from(MAX_ON_BASE) + 2)
        .filter(|id| {
            let saved = store.save("a", large(*id, 0..8_000)).unwrap();
            saved.n_written > saved.n_bytes
        })
        .count();
    assert_eq!(n_whole, 2);
}

#[test]
fn one_that_builds_on_a_damaged_one_is_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.save("a", large(1, 0..20_000)).unwrap();
    store.save("a", large(2, 100..20_100)).unwrap();
    damage(&store, "a", "2-1");
    assert_eq!(store.latest("a").unwrap(), Some(large(1, 0..20_000)));
    store.save("a", large(3, 200..20_200)).unwrap();
    // Not the one that it was made for.
    fs::copy(store.folder("a").join("1"), dir.path().join("kept")).unwrap();
    let other = open(&dir.path().join("other"));
    other.save("a", large(1, 5..20_005)).unwrap();
    fs::copy(other.folder("a").join("1"), store.folder("a").join("1")).unwrap();
    assert_eq!(store.latest("a").unwrap(), Some(large(1, 5..20_005)), "3 builds on another one");
    fs::copy(dir.path().join("kept"), store.folder("a").join("1")).unwrap();
    assert_eq!(store.latest("a").unwrap(), Some(large(3, 200..20_200)));
    damage(&store, "a", "1");
    assert_eq!(store.latest("a").unwrap(), None);
}
