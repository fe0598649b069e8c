//! When to wake: one moment for each thing that waits for time.

use crate::facts::Moment;
use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;

/// At most one moment per key; the earliest is found at once.
#[derive(Debug)]
pub(super) struct Timers<K> {
    by_moment: BTreeSet<(Moment, K)>,
    by_key: HashMap<K, Moment>,
}

impl<K: Copy + Ord + Hash> Timers<K> {
    pub fn new() -> Self {
        Timers { by_moment: BTreeSet::new(), by_key: HashMap::new() }
    }

    /// Wakes `key` at `at`, or not at all.
    pub fn set(&mut self, key: K, at: Option<Moment>) {
        if self.by_key.get(&key).copied() == at {
            return;
        }
        if let Some(old) = self.by_key.remove(&key) {
            self.by_moment.remove(&(old, key));
        }
        if let Some(at) = at {
            self.by_key.insert(key, at);
            self.by_moment.insert((at, key));
        }
    }

    /// Wakes `key` at `at`, unless it is to be woken already.
    pub fn set_if_unset(&mut self, key: K, at: Moment) {
        if !self.by_key.contains_key(&key) {
            self.set(key, Some(at));
        }
    }

    pub fn next(&self) -> Option<Moment> {
        self.by_moment.first().map(|(at, _)| *at)
    }

    /// Takes out one key whose moment has come.
    pub fn pop_due(&mut self, now: Moment) -> Option<K> {
        let &(at, key) = self.by_moment.first()?;
        if at > now {
            return None;
        }
        self.by_moment.remove(&(at, key));
        self.by_key.remove(&key);
        Some(key)
    }
}
