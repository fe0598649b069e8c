//! A new configuration under running services.

use super::Engine;
use super::local::{Local, State};
use crate::facts::Moment;
use crate::model::{Cluster, InstanceIx, NodeIx};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

impl Engine {
    /// Acts by a new configuration from now on. Instances that both know go on undisturbed, each process with the
    /// unit that it was started with; new ones await their `Searched`.
    ///
    /// Questions and instances are numbered anew. The caller stops its probers, and lets the peers tell everything
    /// again. Returns the new instances, and the names of running ones that the new configuration does not know.
    pub fn reconfigure(
        &mut self,
        now: Moment,
        cluster: Arc<Cluster>,
        me: NodeIx,
        ranks: &[u32],
    ) -> (Vec<InstanceIx>, Vec<Arc<str>>) {
        let mut next = Engine::new(cluster, me, ranks, &HashMap::new(), now);
        next.shutting_down = self.shutting_down;
        let mut known: BTreeMap<Arc<str>, Local> =
            self.locals.drain(..).map(|l| (l.name.clone(), l)).collect();
        let mut new = Vec::new();
        for local in &mut next.locals {
            match known.remove(&local.name) {
                Some(old) => carry_over(local, old),
                None => new.push(local.ix),
            }
        }
        let orphans = known.into_values().filter(|l| l.process.is_some()).map(|l| l.name).collect();
        *self = next;
        (new, orphans)
    }
}

/// Everything but what the file says: the unit, the needs and the own question are the new one's.
fn carry_over(local: &mut Local, old: Local) {
    local.wish = old.wish;
    local.state = match old.state {
        // What it waited for may have changed.
        State::Verifying { .. } | State::Cleaning => State::Waiting,
        state => state,
    };
    local.since = old.since;
    local.reason = old.reason;
    local.process = old.process;
    local.failures = old.failures;
    local.starts = old.starts;
    local.incarnations = old.incarnations;
    local.forced = old.forced;
    local.restart = old.restart;
    local.stop_order = old.stop_order;
    local.withdrawn = old.withdrawn;
    local.after = old.after;
    local.forgivable = old.forgivable;
    local.waiting_from = old.waiting_from;
    local.told = old.told;
    local.flags = old.flags;
}
