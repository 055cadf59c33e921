//! When a pod's node is told of a bundle, and when again.
//!
//! A kubelet looks at a pod's volumes at once when an annotation of the pod changes, else about once a minute. But what it sees
//! then may be old: after outages of the API server, its own watches of Secrets come back only after pauses of up to a minute.
//! So it is told again until the pod says that it has the bundle, or until the kubelet must have looked by itself.

use std::collections::HashMap;
use std::time::Duration;

use sluice::pipeline::BundleState;
use tokio::time::Instant;

use super::store::Pod;

/// Pauses between one time and the next: the first, by how much each is longer, and the longest.
const FIRST: Duration = Duration::from_secs(2);
const STEP: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(5);
/// Times that a node is told of one bundle: over about a minute and a half.
const MOST: u32 = 20;

/// What nodes were told, by the uid of the pod.
#[derive(Debug, Default)]
pub struct Nudges(HashMap<String, Told>);

#[derive(Debug)]
struct Told {
    bundle: String,
    n_times: u32,
    again: Instant,
}

/// What is to be done about a pod.
#[derive(Debug, PartialEq, Eq)]
pub enum Nudge {
    /// It has its bundle, or telling does not help.
    Nothing,
    /// Its annotation is to get this value.
    Now(String),
    /// It is to be looked at again then.
    Later(Duration),
}

impl Nudges {
    /// Whether the node of `pod`, which should have the bundle with this id, is to be told so. `reported` is what the pod says
    /// that it has.
    pub fn next(&mut self, pod: &Pod, reported: Option<&BundleState>, id: &str, now: Instant) -> Nudge {
        let bundle: String = id.chars().take(16).collect();
        if reported.is_some_and(|reported| reported.id.as_deref() == Some(id)) {
            self.0.remove(&pod.uid);
            return Nudge::Nothing;
        }
        let named = pod.bundle.as_deref().and_then(|value| value.split('.').next());
        let known = self.0.get_mut(&pod.uid).filter(|told| told.bundle == bundle);
        match known {
            // Told by an earlier operator, or just now.
            None if named == Some(&bundle) => {
                self.0.insert(pod.uid.clone(), Told { bundle, n_times: 1, again: now + FIRST });
                Nudge::Later(FIRST)
            }
            None => {
                self.0.insert(pod.uid.clone(), Told { bundle: bundle.clone(), n_times: 1, again: now + FIRST });
                Nudge::Now(bundle)
            }
            // It does not run yet, or does not take the bundle: then it has seen it.
            Some(_) if reported.is_none_or(|reported| reported.problem.is_some()) => Nudge::Nothing,
            Some(told) if told.n_times >= MOST => Nudge::Nothing,
            Some(told) if now < told.again => Nudge::Later(told.again - now),
            Some(told) => {
                told.again = now + (FIRST + STEP * told.n_times).min(LONGEST);
                told.n_times += 1;
                Nudge::Now(format!("{bundle}.{}", told.n_times))
            }
        }
    }

    /// The node of this pod could not be told.
    pub fn forget(&mut self, uid: &str) {
        self.0.remove(uid);
    }

    /// Forgets all pods but these.
    pub fn retain(&mut self, is_there: impl Fn(&str) -> bool) {
        self.0.retain(|uid, _| is_there(uid));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(annotation: Option<&str>) -> Pod {
        Pod {
            runtime: "default".to_owned(),
            name: "sluice-default-0".to_owned(),
            uid: "u".to_owned(),
            address: None,
            is_ready: true,
            is_deleting: false,
            is_over: false,
            restarts: 0,
            problem: None,
            bundle: annotation.map(str::to_owned),
        }
    }

    fn has(id: &str) -> BundleState {
        BundleState { id: Some(id.to_owned()), problem: None }
    }

    const ID: &str = "0123456789abcdef0123";

    #[test]
    fn a_node_is_told_again_until_the_pod_has_the_bundle() {
        let mut nudges = Nudges::default();
        let old = has("old");
        let mut now = Instant::now();
        assert_eq!(nudges.next(&pod(None), Some(&old), ID, now), Nudge::Now("0123456789abcdef".to_owned()));
        let mut value = "0123456789abcdef".to_owned();
        let mut pauses = Vec::new();
        for n in 2..=5 {
            let Nudge::Later(pause) = nudges.next(&pod(Some(&value)), Some(&old), ID, now) else {
                panic!("told too soon")
            };
            pauses.push(pause.as_secs());
            now += pause;
            value = format!("0123456789abcdef.{n}");
            assert_eq!(nudges.next(&pod(Some("0123456789abcdef")), Some(&old), ID, now), Nudge::Now(value.clone()));
        }
        assert_eq!(pauses, [2, 3, 4, 5]);
        assert_eq!(nudges.next(&pod(Some(&value)), Some(&has(ID)), ID, now), Nudge::Nothing);
        assert!(nudges.0.is_empty());
    }

    #[test]
    fn it_is_not_told_for_ever() {
        let mut nudges = Nudges::default();
        let old = has("old");
        let (start, mut n_told) = (Instant::now(), 0);
        for second in 0..600 {
            let nudge =
                nudges.next(&pod(Some("0123456789abcdef")), Some(&old), ID, start + Duration::from_secs(second));
            n_told += u32::from(matches!(nudge, Nudge::Now(_)));
        }
        assert_eq!(n_told, MOST - 1);
        // A newer bundle is another matter.
        assert!(matches!(nudges.next(&pod(None), Some(&old), "another", start), Nudge::Now(_)));
    }

    #[test]
    fn a_pod_that_does_not_answer_or_does_not_want_it_is_left_alone() {
        let mut nudges = Nudges::default();
        let start = Instant::now();
        let later = start + Duration::from_secs(60);
        let refuses = BundleState { id: Some("old".to_owned()), problem: Some("too new".to_owned()) };
        for reported in [None, Some(&refuses)] {
            nudges.0.clear();
            assert!(matches!(nudges.next(&pod(None), reported, ID, start), Nudge::Now(_)));
            assert_eq!(nudges.next(&pod(Some("0123456789abcdef")), reported, ID, later), Nudge::Nothing);
        }
    }
}
