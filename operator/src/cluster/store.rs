//! What watches have seen: the operator's view of the cluster.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sluice::manifest::Kind;

use crate::object::Stored;
use crate::planning::Key;

/// An object that the operator made, as it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Child {
    /// The runtime that it belongs to.
    pub runtime: String,
    /// `metadata.name`
    pub name: String,
    /// `metadata.uid`
    pub uid: String,
    /// Hash of what was applied, from its annotation.
    pub applied: String,
    /// All of it but for its status, as JSON text.
    pub text: Arc<str>,
    /// Of a StatefulSet: its pods have its template.
    pub is_rolled_out: bool,
    /// It is being deleted.
    pub is_deleting: bool,
}

/// A pod of a runtime.
#[derive(Clone, Debug, PartialEq)]
pub struct Pod {
    /// The runtime that it belongs to.
    pub runtime: String,
    /// `metadata.name`
    pub name: String,
    /// `metadata.uid`
    pub uid: String,
    /// Its address, once it has one.
    pub address: Option<String>,
    /// Kubernetes calls it ready.
    pub is_ready: bool,
    /// It is being deleted.
    pub is_deleting: bool,
    /// It has ended.
    pub is_over: bool,
    /// How often its container was started again.
    pub restarts: i64,
    /// Why it does not start.
    pub problem: Option<String>,
    /// The bundle that its annotation names.
    pub bundle: Option<String>,
}

/// Objects of one kind, by namespace and name.
#[derive(Debug)]
pub struct Store<T> {
    state: Mutex<StoreState<T>>,
}

#[derive(Debug)]
struct StoreState<T> {
    objects: HashMap<String, BTreeMap<String, Arc<T>>>,
    n_pending: usize,
}

impl<T: PartialEq> Store<T> {
    /// Empty; complete once `n_watches` watches have listed all.
    pub fn new(n_watches: usize) -> Self {
        Store { state: Mutex::new(StoreState { objects: HashMap::new(), n_pending: n_watches }) }
    }

    /// True once every watch has listed all that is there.
    pub fn is_complete(&self) -> bool {
        self.state().n_pending == 0
    }

    /// A watch has listed all for the first time.
    pub fn completed(&self) {
        let mut state = self.state();
        state.n_pending = state.n_pending.saturating_sub(1);
    }

    /// Notes an object; true if it is another than before.
    pub fn put(&self, namespace: &str, name: &str, object: T) -> bool {
        let mut state = self.state();
        let objects = state.objects.entry(namespace.to_owned()).or_default();
        let is_new = objects.get(name).is_none_or(|known| **known != object);
        if is_new {
            objects.insert(name.to_owned(), Arc::new(object));
        }
        is_new
    }

    /// Forgets an object; true if it was there.
    pub fn remove(&self, namespace: &str, name: &str) -> bool {
        let mut state = self.state();
        let Some(objects) = state.objects.get_mut(namespace) else { return false };
        let was_there = objects.remove(name).is_some();
        if objects.is_empty() {
            state.objects.remove(namespace);
        }
        was_there
    }

    /// Forgets all of one namespace, or of all, but those listed. Gives the namespaces that lost some.
    pub fn retain(&self, namespace: Option<&str>, listed: &HashSet<(String, String)>) -> HashSet<String> {
        let mut state = self.state();
        let mut changed = HashSet::new();
        for (of, objects) in &mut state.objects {
            if namespace.is_some_and(|namespace| namespace != of) {
                continue;
            }
            let before = objects.len();
            objects.retain(|name, _| listed.contains(&(of.clone(), name.clone())));
            if objects.len() != before {
                changed.insert(of.clone());
            }
        }
        state.objects.retain(|_, objects| !objects.is_empty());
        changed
    }

    /// All of a namespace, by name.
    pub fn of_namespace(&self, namespace: &str) -> BTreeMap<String, Arc<T>> {
        self.state().objects.get(namespace).cloned().unwrap_or_default()
    }

    /// The namespaces with any.
    pub fn namespaces(&self) -> Vec<String> {
        self.state().objects.keys().cloned().collect()
    }

    /// Number of objects.
    pub fn len(&self) -> usize {
        self.state().objects.values().map(BTreeMap::len).sum()
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn state(&self) -> MutexGuard<'_, StoreState<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All stores.
#[derive(Debug)]
pub struct Stores {
    /// Ours, by kind.
    pub own: BTreeMap<Kind, Store<Stored>>,
    /// Made by the operator.
    pub service_accounts: Store<Child>,
    /// Made by the operator.
    pub services: Store<Child>,
    /// Made by the operator.
    pub stateful_sets: Store<Child>,
    /// Made by the operator.
    pub network_policies: Store<Child>,
    /// Made by StatefulSets.
    pub pods: Store<Pod>,
}

impl Stores {
    /// Empty ones, each to be filled by so many watches.
    pub fn new(n_watches: usize) -> Self {
        let kinds = [Kind::Stream, Kind::LookupTable, Kind::Rule, Kind::Runtime];
        Stores {
            own: kinds.into_iter().map(|kind| (kind, Store::new(n_watches))).collect(),
            service_accounts: Store::new(n_watches),
            services: Store::new(n_watches),
            stateful_sets: Store::new(n_watches),
            network_policies: Store::new(n_watches),
            pods: Store::new(n_watches),
        }
    }

    /// Everything has been listed.
    pub fn are_complete(&self) -> bool {
        self.own.values().all(Store::is_complete)
            && self.service_accounts.is_complete()
            && self.services.is_complete()
            && self.stateful_sets.is_complete()
            && self.network_policies.is_complete()
            && self.pods.is_complete()
    }

    /// Our objects in a namespace.
    pub fn objects(&self, namespace: &str) -> BTreeMap<Key, Arc<Stored>> {
        let of_kind = |(kind, store): (&Kind, &Store<Stored>)| {
            let kind = *kind;
            store.of_namespace(namespace).into_iter().map(move |(name, object)| ((kind, name), object))
        };
        self.own.iter().flat_map(of_kind).collect()
    }

    /// The namespaces that hold anything of interest.
    pub fn namespaces(&self) -> HashSet<String> {
        let own = self.own.values().flat_map(Store::namespaces);
        own.chain(self.service_accounts.namespaces()).chain(self.pods.namespaces()).collect()
    }
}
