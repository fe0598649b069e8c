//! A new configuration under running services.

use super::local::{Local, NeedState, State};
use super::{Engine, Heard, Timer};
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
        let now = self.now.max(now);
        let mut next = Engine::new(cluster, me, ranks, &HashMap::new(), now);
        next.shutting_down = self.shutting_down;
        let old_locals = std::mem::take(&mut self.locals);
        let mut known: BTreeMap<Arc<str>, Local> =
            old_locals.into_iter().map(|l| (l.name.clone(), l)).collect();
        let mut new = Vec::new();
        for l in 0..next.locals.len() {
            match known.remove(&next.locals[l].name) {
                Some(old) => next.carry_over(l, old, &self.cluster),
                None => new.push(next.locals[l].ix),
            }
        }
        if next.locals.iter().any(|l| l.withdrawn.is_some()) {
            next.timers.set(Timer::Renew, Some(now)); // at once: the peers have just been asked to tell anew, too
        }
        next.recall_words(self);
        let orphans = known.into_values().filter(|l| l.process.is_some()).map(|l| l.name).collect();
        *self = next;
        (new, orphans)
    }

    /// Everything but what the file says: the unit, the needs and the own question are the new one's. `before` is
    /// the cluster that `old` is of: nodes and needs are found again by their names.
    fn carry_over(&mut self, l: usize, old: Local, before: &Cluster) {
        let needs = &before.service(before.instance(old.ix).service).needs;
        for n in 0..self.locals[l].needs.len() {
            let same = old.needs.iter().find(|was| needs[was.rule].name == self.need(l, n).name);
            if let Some(was) = same {
                carry_need(&mut self.locals[l].needs[n], was);
            } else {
                self.locals[l].needs[n].had = true; // by the rule that a new agent follows, too
            }
        }
        let stop_order = old.stop_order.map(|mut order| {
            let name = |node: NodeIx| &before.node(node).name;
            order.without =
                order.without.into_iter().filter_map(|node| self.cluster.node_named(name(node))).collect();
            order
        });
        let local = &mut self.locals[l];
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
        local.last_spawn = old.last_spawn;
        local.forced = old.forced;
        local.restart = old.restart;
        local.stop_order = stop_order;
        local.withdrawn = old.withdrawn;
        local.after = old.after;
        local.forgivable = old.forgivable;
        local.waiting_from = old.waiting_from;
        local.told = old.told;
        local.flags = old.flags;
    }

    /// What was last heard of other nodes' instances, for views; it decides nothing before their agents are heard
    /// again.
    fn recall_words(&mut self, before: &mut Engine) {
        for (ix, heard) in std::mem::take(&mut before.heard) {
            let there = self.cluster.instance_named(&before.cluster.instance(ix).name);
            if let Some(ix) = there.filter(|ix| !self.local_of.contains_key(ix)) {
                self.heard.insert(ix, Heard { connected: false, ..heard });
                for i in 0..self.edges_to.get(&ix).map_or(0, Vec::len) {
                    self.recount(self.edges_to[&ix][i]);
                }
            }
        }
    }
}

/// What was lost or waived stays so. Whether it is met is found out anew.
fn carry_need(need: &mut NeedState, was: &NeedState) {
    need.waived = was.waived;
    need.had = was.had;
    need.missed = was.missed;
    need.lost = was.lost;
}
