//! Faults from a seed. Each ends, so that it can be asked afterwards whether all that can be up is up.

use crate::model::{Cluster, InstanceIx, NodeIx};
use crate::sim::chance::Chance;
use crate::sim::scenario::{Config, Fault, Timed};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// The longest from a machine's power to an agent that takes orders.
const BOOT: Duration = Duration::from_secs(60);

/// How much befalls a cluster.
#[derive(Clone, Copy, Debug)]
pub struct Faults {
    /// All begin and end within so long, but for what only a machine that is up can be told.
    pub length: Duration,
    pub many: usize,
    /// At first the machines get power within so long of each other.
    pub apart: Duration,
}

impl Faults {
    /// From a quiet boot to some thirty faults in the time.
    pub fn drawn(chance: &mut Chance, length: Duration) -> Faults {
        let apart = chance.pick(&[0, 1, 30, 180]).copied().map_or(Duration::ZERO, Duration::from_secs);
        let most = chance.pick(&[0, 3, 10, 30]).copied().unwrap_or(0);
        Faults { length, many: chance.within(0, most) as usize, apart: apart.min(length) }
    }
}

/// Power for the machines, and faults; in the order of time.
pub fn faults(cluster: &Cluster, chance: &mut Chance, how: &Faults) -> Vec<Timed> {
    let mut draft = Draft { cluster, chance, length: how.length, faults: Vec::new() };
    draft.power_on(how.apart);
    for _ in 0..how.many {
        draft.draw();
    }
    draft.close();
    draft.faults.sort_by_key(|timed| timed.at);
    draft.faults
}

struct Draft<'a> {
    cluster: &'a Cluster,
    chance: &'a mut Chance,
    length: Duration,
    faults: Vec<Timed>,
}

impl Draft<'_> {
    fn add(&mut self, at: Duration, fault: Fault) {
        self.faults.push(Timed { at, fault });
    }

    /// A fault and its opposite.
    fn add_both(&mut self, (from, to): (Duration, Duration), fault: Fault, opposite: Fault) {
        self.add(from, fault);
        self.add(to, opposite);
    }

    fn power_on(&mut self, apart: Duration) {
        let late = self.chance.percent(10).then(|| self.node());
        let never = self.chance.percent(10).then(|| self.node());
        for node in self.nodes() {
            let at = match Some(node) {
                node if node == never => continue,
                node if node == late => self.chance.time(apart, self.length),
                _ => self.chance.time(Duration::ZERO, apart),
            };
            self.add(at, Fault::PowerOn { node });
        }
    }

    fn draw(&mut self) {
        let span = self.span();
        let (at, end) = span;
        match self.chance.below(18) {
            0 => {
                let node = self.node();
                self.add_both(span, Fault::PowerCut { node }, Fault::PowerOn { node });
            }
            1 => self.blackout(span),
            2 => {
                let node = self.node();
                self.add_both(span, Fault::Shutdown { node }, Fault::PowerOn { node });
            }
            3 => {
                let node = self.node();
                self.add(at, Fault::AgentKilled { node });
            }
            4 => {
                let node = self.node();
                let for_ = (end - at).min(Duration::from_secs(30));
                self.add(at, Fault::AgentStalls { node, for_ });
            }
            5 => {
                let instance = self.instance();
                self.add(at, Fault::Crash { instance });
            }
            6 => {
                let instance = self.server();
                self.add_both(span, Fault::Hangs { instance }, Fault::Wakes { instance });
            }
            7 => {
                let instance = self.server();
                self.add_both(span, Fault::Declines { instance }, Fault::Serves { instance });
            }
            8 => {
                let instance = self.server();
                self.add_both(span, Fault::Broken { instance }, Fault::Mended { instance });
            }
            9 => {
                let (from, to) = self.neighbours();
                self.add_both(span, Fault::Cut { from, to }, Fault::Joined { from, to });
            }
            10 => {
                let (from, to) = self.neighbours();
                self.add_both(span, Fault::Cut { from, to }, Fault::Joined { from, to });
                self.add_both(span, Fault::Cut { from: to, to: from }, Fault::Joined { from: to, to: from });
            }
            11 => self.partition(span),
            12 => {
                let (from, to) = self.neighbours();
                let by = self.chance.time(Duration::from_millis(1), Duration::from_secs(3));
                let ends = Fault::Slow { from, to, by: Duration::ZERO };
                self.add_both(span, Fault::Slow { from, to, by }, ends);
            }
            13 => {
                let node = self.node();
                self.add_both(span, Fault::DiskFull { node }, Fault::DiskFree { node });
            }
            14 => {
                let node = self.node();
                let seconds = self.chance.within(0, 200_000_000) as i64 - 100_000_000;
                self.add(at, Fault::ClockJumps { node, seconds });
            }
            15 => {
                let instance = self.instance();
                self.add(at, Fault::PidReused { instance });
            }
            16 => self.order(span),
            _ => self.reload(span),
        }
    }

    /// The power fails everywhere, and the machines come back one after the other.
    fn blackout(&mut self, (at, end): (Duration, Duration)) {
        for node in self.nodes() {
            let back = self.chance.time(at, end.max(at + Duration::from_secs(1)).min(self.length));
            self.add_both((at, back), Fault::PowerCut { node }, Fault::PowerOn { node });
        }
    }

    /// Some nodes see each other and not the rest; perhaps the rest still sees them.
    fn partition(&mut self, span: (Duration, Duration)) {
        let one_way = self.chance.percent(30);
        let mut nodes = self.nodes();
        self.chance.shuffle(&mut nodes);
        // A few on one side, so that a large cluster is not cut in a million places.
        let few = self.chance.within(1, (nodes.len() as u64 / 2).clamp(1, 8)) as usize;
        let (here, there) = nodes.split_at(few.min(nodes.len()));
        for (from, to) in here.iter().flat_map(|h| there.iter().map(move |t| (*h, *t))) {
            self.add_both(span, Fault::Cut { from, to }, Fault::Joined { from, to });
            if !one_way {
                self.add_both(span, Fault::Cut { from: to, to: from }, Fault::Joined { from: to, to: from });
            }
        }
    }

    fn order(&mut self, (at, end): (Duration, Duration)) {
        let instance = self.instance();
        let force = self.chance.percent(15);
        if self.chance.percent(30) {
            self.add(at, Fault::Restart { instance });
        } else {
            let timeout = self.chance.time(Duration::from_secs(1), Duration::from_secs(60));
            self.add_both((at, end), Fault::Stop { instance, timeout }, Fault::Start { instance, force });
            // What is held has to stay so, whatever becomes of its agent and its machine.
            let node = self.cluster.instance(instance).node;
            let (cut, back) = (self.chance.time(at, end), self.chance.time(at, end));
            match self.chance.below(4) {
                0 => self.add(cut, Fault::AgentKilled { node }),
                1 => {
                    let span = (cut.min(back), cut.max(back));
                    self.add_both(span, Fault::PowerCut { node }, Fault::PowerOn { node });
                }
                _ => {}
            }
        }
    }

    fn reload(&mut self, span: (Duration, Duration)) {
        let node = self.node();
        let own = Fault::Reload { node, config: Config::Own };
        if self.chance.percent(50) {
            self.add(span.0, own);
        } else {
            self.add_both(span, Fault::Reload { node, config: Config::Broken }, own);
        }
    }

    /// What may have been lost on the way to its end: power for a machine that was still going down, orders to an agent
    /// that did not run. Given once more, when all machines that have power run.
    fn close(&mut self) {
        let (mut down, mut held, mut refused) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for Timed { fault, .. } in &self.faults {
            match fault {
                Fault::Shutdown { node } => drop(down.insert(*node)),
                Fault::Stop { instance, .. } => drop(held.insert(*instance)),
                Fault::Reload { node, config: Config::Broken } => drop(refused.insert(*node)),
                _ => {}
            }
        }
        let slowest = self.cluster.instances.iter().map(|i| i.unit.stop.timeout).max().unwrap_or_default();
        let at = self.length + slowest;
        for node in down {
            self.add(at, Fault::PowerOn { node });
        }
        for node in refused {
            self.add(at + BOOT, Fault::Reload { node, config: Config::Own });
        }
        for instance in held {
            self.add(at + BOOT, Fault::Start { instance, force: false });
        }
    }

    /// From a moment to another: moments, seconds or minutes later.
    fn span(&mut self) -> (Duration, Duration) {
        let from = self.chance.time(Duration::ZERO, self.length);
        let most = self.chance.pick(&[1, 10, 120]).copied().unwrap_or(1);
        let lasts = self.chance.time(Duration::from_millis(10), Duration::from_secs(most));
        (from, (from + lasts).min(self.length))
    }

    fn nodes(&self) -> Vec<NodeIx> {
        (0..self.cluster.nodes.len() as u32).map(NodeIx).collect()
    }

    fn node(&mut self) -> NodeIx {
        NodeIx(self.chance.below(self.cluster.nodes.len() as u64) as u32)
    }

    /// Any instance, or now and then what is outside the cluster.
    fn server(&mut self) -> InstanceIx {
        match self.chance.pick(&self.cluster.outside.instances) {
            Some(outside) if self.chance.percent(30) => *outside,
            _ => self.instance(),
        }
    }

    fn instance(&mut self) -> InstanceIx {
        InstanceIx(self.chance.below(self.cluster.own_count() as u64) as u32)
    }

    /// Two nodes: mostly such that something on the one needs something on the other.
    fn neighbours(&mut self) -> (NodeIx, NodeIx) {
        let instance = self.instance();
        let node = self.cluster.instance(instance).node;
        let needs = self.cluster.needs_of(instance).flat_map(|need| self.cluster.candidates(need, node));
        let inside = needs.filter(|i| !self.cluster.is_outside(*i)).map(|i| self.cluster.instance(i).node);
        let there: Vec<NodeIx> = inside.filter(|other| *other != node).collect();
        let other = match self.chance.pick(&there) {
            Some(other) if self.chance.percent(80) => *other,
            _ => self.node(),
        };
        if self.chance.percent(50) { (node, other) } else { (other, node) }
    }
}

/// What a fault changes until its opposite.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Effect {
    Hangs(InstanceIx),
    Declines(InstanceIx),
    Broken(InstanceIx),
    Cut(NodeIx, NodeIx),
    Slow(NodeIx, NodeIx),
    DiskFull(NodeIx),
    Held(InstanceIx),
    Refused(NodeIx),
}

/// The effect of a fault, and whether it begins or ends it. Power is left out: a machine may stay down for good.
fn effect(fault: &Fault) -> Option<(Effect, bool)> {
    let effect = match *fault {
        Fault::Hangs { instance } => (Effect::Hangs(instance), true),
        Fault::Wakes { instance } => (Effect::Hangs(instance), false),
        Fault::Declines { instance } => (Effect::Declines(instance), true),
        Fault::Serves { instance } => (Effect::Declines(instance), false),
        Fault::Broken { instance } => (Effect::Broken(instance), true),
        Fault::Mended { instance } => (Effect::Broken(instance), false),
        Fault::Cut { from, to } => (Effect::Cut(from, to), true),
        Fault::Joined { from, to } => (Effect::Cut(from, to), false),
        Fault::Slow { from, to, by } => (Effect::Slow(from.min(to), from.max(to)), !by.is_zero()),
        Fault::DiskFull { node } => (Effect::DiskFull(node), true),
        Fault::DiskFree { node } => (Effect::DiskFull(node), false),
        Fault::Stop { instance, .. } => (Effect::Held(instance), true),
        Fault::Start { instance, .. } => (Effect::Held(instance), false),
        Fault::Reload { node, ref config } => (Effect::Refused(node), *config == Config::Broken),
        Fault::PowerOn { .. }
        | Fault::PowerCut { .. }
        | Fault::Shutdown { .. }
        | Fault::AgentKilled { .. }
        | Fault::AgentStalls { .. }
        | Fault::Crash { .. }
        | Fault::ClockJumps { .. }
        | Fault::PidReused { .. }
        | Fault::Restart { .. } => return None,
    };
    Some(effect)
}

/// The first fault whose effect has no end. Power does not count: a machine may stay down for good.
pub fn unsettled(faults: &[Timed]) -> Option<&Timed> {
    let mut open = BTreeMap::new();
    for timed in faults {
        match effect(&timed.fault) {
            Some((effect, true)) => drop(open.entry(effect).or_insert(timed)),
            Some((effect, false)) => drop(open.remove(&effect)),
            None => {}
        }
    }
    open.into_values().min_by_key(|timed| timed.at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model;
    use crate::sim::generate::cluster;
    use crate::sim::sample::sample;

    fn drawn(seed: u64, cluster: &Cluster, length: Duration) -> Vec<Timed> {
        let mut chance = Chance::new(seed);
        let how = Faults { length, many: 30, apart: Duration::from_secs(60) };
        faults(cluster, &mut chance, &how)
    }

    #[test]
    fn they_are_in_order_and_end() {
        let length = Duration::from_secs(600);
        for seed in 0..100 {
            for texts in [sample(), cluster(seed, 20)] {
                let cluster = model::parse(&texts).unwrap();
                let faults = drawn(seed, &cluster, length);
                assert!(faults.is_sorted_by_key(|timed| timed.at), "seed {seed}");
                assert_eq!(unsettled(&faults), None, "seed {seed}");
            }
        }
    }

    #[test]
    fn what_does_not_end_is_found() {
        let (from, to) = (NodeIx(0), NodeIx(1));
        let at = |seconds, fault| Timed { at: Duration::from_secs(seconds), fault };
        let slow = |from, to, by| Fault::Slow { from, to, by: Duration::from_secs(by) };
        let mut faults = vec![at(1, Fault::Cut { from, to }), at(2, slow(from, to, 1))];
        faults.push(at(3, Fault::Joined { from: to, to: from }));
        assert_eq!(unsettled(&faults), Some(&faults[0]));
        faults.push(at(4, Fault::Joined { from, to }));
        assert_eq!(unsettled(&faults), Some(&faults[1]));
        faults.push(at(5, slow(to, from, 0)));
        assert_eq!(unsettled(&faults), None);
    }

    #[test]
    fn every_kind_of_fault_is_drawn() {
        let cluster = model::parse(&sample()).unwrap();
        let mut kinds = BTreeSet::new();
        for seed in 0..50 {
            for timed in drawn(seed, &cluster, Duration::from_secs(600)) {
                kinds.insert(format!("{:?}", timed.fault).split([' ', '{']).next().unwrap().to_owned());
            }
        }
        assert_eq!(kinds.len(), 23, "{kinds:?}");
    }
}
