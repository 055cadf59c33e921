//! Namespaces that are to be reconciled. Changes that come in a burst are taken together.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// How long it has to be quiet before a namespace is reconciled.
const QUIET: Duration = Duration::from_millis(60);
/// How long a change waits at most.
const LONGEST: Duration = Duration::from_millis(500);

/// Namespaces and when they are due. A namespace is handed out to one worker at a time.
#[derive(Debug, Default)]
pub struct Queue {
    state: Mutex<QueueState>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct QueueState {
    due: HashMap<String, Due>,
    busy: HashSet<String>,
}

#[derive(Debug)]
struct Due {
    first: Instant,
    at: Instant,
    /// How often it was added, by reason.
    reasons: BTreeMap<&'static str, u64>,
}

/// A namespace to reconcile, and why.
#[derive(Debug)]
pub struct Work {
    /// The namespace.
    pub namespace: String,
    /// When the first change came.
    pub since: Instant,
    /// Reasons, each with how often.
    pub reasons: BTreeMap<&'static str, u64>,
}

impl Queue {
    /// Something has changed there.
    pub fn add(&self, namespace: &str, reason: &'static str) {
        let now = Instant::now();
        let mut state = self.state();
        let due = state.due.entry(namespace.to_owned()).or_insert_with(|| Due {
            first: now,
            at: now + QUIET,
            reasons: BTreeMap::new(),
        });
        // What was due later than this is due now.
        if due.at > now + LONGEST {
            (due.first, due.at) = (now, now + QUIET);
        } else {
            due.at = (now + QUIET).min(due.first + LONGEST);
        }
        *due.reasons.entry(reason).or_default() += 1;
        drop(state);
        self.changed.notify_one();
    }

    /// It is to be looked at again then, if nothing happens before.
    pub fn add_later(&self, namespace: &str, after: Duration, reason: &'static str) {
        let at = Instant::now() + after;
        let mut state = self.state();
        let due =
            state.due.entry(namespace.to_owned()).or_insert_with(|| Due { first: at, at, reasons: BTreeMap::new() });
        due.at = due.at.min(at);
        *due.reasons.entry(reason).or_default() += 1;
        drop(state);
        self.changed.notify_one();
    }

    /// Looks again at what is due.
    pub fn wake(&self) {
        self.changed.notify_one();
    }

    /// Number of namespaces that wait.
    pub fn len(&self) -> usize {
        self.state().due.len()
    }

    /// True if none waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The next namespace that is due; [`Queue::done`] gives it back. Cancel-safe.
    pub async fn next(&self) -> Work {
        loop {
            let next = self.take();
            match next {
                Ok(work) => return work,
                Err(Some(at)) => {
                    tokio::select! {
                        () = tokio::time::sleep_until(at) => {}
                        () = self.changed.notified() => {}
                    }
                }
                Err(None) => self.changed.notified().await,
            }
        }
    }

    fn take(&self) -> Result<Work, Option<Instant>> {
        let mut state = self.state();
        let free = state.due.iter().filter(|(namespace, _)| !state.busy.contains(*namespace));
        let Some((namespace, at)) = free.map(|(namespace, due)| (namespace.clone(), due.at)).min_by_key(|(_, at)| *at)
        else {
            return Err(None);
        };
        if at > Instant::now() {
            return Err(Some(at));
        }
        let due = state.due.remove(&namespace).ok_or(None)?;
        state.busy.insert(namespace.clone());
        Ok(Work { namespace, since: due.first, reasons: due.reasons })
    }

    /// The namespace can be handed out again.
    pub fn done(&self, namespace: &str) {
        self.state().busy.remove(namespace);
        self.changed.notify_one();
    }

    fn state(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn bursts_are_taken_together() {
        let queue = Queue::default();
        let start = Instant::now();
        for _ in 0..5 {
            queue.add("a", "watch");
            tokio::time::advance(Duration::from_millis(20)).await;
        }
        let work = queue.next().await;
        assert_eq!((work.namespace.as_str(), work.reasons.get("watch")), ("a", Some(&5)));
        assert!(start.elapsed() >= Duration::from_millis(140) && start.elapsed() < Duration::from_millis(200));
        // What comes while it is worked on waits.
        queue.add("a", "watch");
        queue.add("b", "report");
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(queue.next().await.namespace, "b");
        queue.done("a");
        assert_eq!(queue.next().await.namespace, "a");
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_without_end_is_not_waited_for() {
        let queue = Queue::default();
        let start = Instant::now();
        loop {
            queue.add("a", "watch");
            tokio::select! {
                biased;
                _ = queue.next() => break,
                () = tokio::time::sleep(Duration::from_millis(10)) => {}
            }
        }
        assert!(start.elapsed() <= LONGEST + Duration::from_millis(20), "{:?}", start.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_due_later_is_due_at_once_when_something_happens() {
        let queue = Queue::default();
        let start = Instant::now();
        queue.add_later("a", Duration::from_secs(60), "counters");
        queue.add("a", "watch");
        queue.next().await;
        assert!(start.elapsed() < Duration::from_secs(1));
    }
}
