//! Order among instances: who can start after whom.
//!
//! The order is a least fixpoint: an instance is *startable* once, for each of its needs, enough candidates are
//! startable. It is found wave by wave: wave 0 needs nothing, each later wave needs only what earlier ones hold. An
//! instance's *rank* is its wave. Instances that no wave reaches hold a cycle; a [`Graph`] exists only without one.
//!
//! Counts make this more than a topological sort: `any` of two is reached when the first of them is. So edges are kept
//! per need and counted down, one visit an edge, and nothing here recurses: a chain may be as deep as it likes.
//!
//! Knows the model, and nothing above it.

mod draw;
mod single;

pub use draw::{dot, mermaid, terminal};
pub use single::SinglePoint;

use crate::model::{AfterWait, Cluster, InstanceIx, Need, NodeIx, ServiceIx};

/// The order of a cluster's instances.
#[derive(Debug)]
pub struct Graph {
    /// Wave of each instance.
    rank: Vec<u32>,
    waves: Vec<Vec<InstanceIx>>,
    edges: Edges,
    waived: Vec<NeedAt>,
}

/// A need, by its place in the model: `cluster.service(service).needs[need]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NeedAt {
    pub service: ServiceIx,
    pub need: usize,
}

/// Instances that wait for each other: each needs the next, the last needs the first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cycle {
    pub hops: Vec<Hop>,
}

/// One step of a [`Cycle`]: an instance, and its need that leads to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hop {
    pub instance: InstanceIx,
    pub at: NeedAt,
}

impl Graph {
    /// Orders all instances, or shows a cycle among those that could never start.
    ///
    /// A need with `then = "start"` orders where it can and never forbids: when nothing else is left to start,
    /// such needs of the remaining instances are let go, and told by [`Graph::waived`].
    pub fn new(cluster: &Cluster) -> Result<Graph, Cycle> {
        let edges = Edges::new(cluster);
        let mut spread = Spread::new(cluster, &edges);
        let mut waived = Vec::new();
        loop {
            spread.run(cluster, None);
            if spread.covered() {
                break;
            }
            let released = spread.release_soft(cluster);
            if released.is_empty() {
                return Err(spread.cycle(cluster));
            }
            waived.extend(released);
        }
        waived.sort_unstable();
        waived.dedup();
        let Spread { rank, waves, .. } = spread;
        Ok(Graph { rank, waves, edges, waived })
    }

    /// The wave in which an instance can start, with all nodes up.
    pub fn rank(&self, ix: InstanceIx) -> u32 {
        self.rank[ix.0 as usize]
    }

    /// Each instance's rank in the order of starting, for the engine.
    pub fn ranks(cluster: &Cluster) -> Vec<u32> {
        // A cluster that exists has been ordered once already; a cycle cannot be here.
        Graph::new(cluster).map(|graph| graph.rank).unwrap_or_default()
    }

    /// All instances by rank, in file order within a wave.
    pub fn waves(&self) -> &[Vec<InstanceIx>] {
        &self.waves
    }

    /// The instances that have this one as a candidate of a need, each once, in file order.
    pub fn dependents(&self, ix: InstanceIx) -> Vec<InstanceIx> {
        let mut found: Vec<InstanceIx> =
            self.edges.dependents(ix).map(|slot| self.edges.slots[slot as usize].instance).collect();
        found.sort_unstable();
        found.dedup();
        found
    }

    /// Needs that wait in a circle, and are let go only when their time is over.
    pub fn waived(&self) -> &[NeedAt] {
        &self.waived
    }

    /// The longest chain, first to start first: each is the last that the next one has to wait for.
    ///
    /// Its length is the number of waves; it is what a boot cannot be faster than.
    pub fn longest_chain(&self, cluster: &Cluster) -> Vec<InstanceIx> {
        let Some(mut at) = self.waves.last().and_then(|w| w.first().copied()) else { return Vec::new() };
        let mut chain = vec![at];
        while let Some(before) = self.last_awaited(cluster, at) {
            chain.push(before);
            at = before;
        }
        chain.reverse();
        chain
    }

    /// The candidate one rank below that completes a need of `ix`.
    fn last_awaited(&self, cluster: &Cluster, ix: InstanceIx) -> Option<InstanceIx> {
        let rank = self.rank(ix);
        let node = cluster.instance(ix).node;
        cluster.needs_of(ix).find_map(|need| {
            let mut candidates = cluster.candidates(need, node);
            candidates.sort_by_key(|c| self.rank(*c));
            let wanted = need.count.wanted(candidates.len());
            candidates
                .get(wanted.checked_sub(1)?)
                .copied()
                .filter(|c| self.rank(*c) + 1 == rank && !cluster.is_outside(*c))
        })
    }
}

/// One need of one instance.
#[derive(Debug)]
struct Slot {
    instance: InstanceIx,
    at: NeedAt,
    wanted: u32,
}

/// Who waits for whom, flat: the slots of an instance lie side by side, and so do the slots that wait for one.
#[derive(Debug)]
struct Edges {
    slots: Vec<Slot>,
    /// First slot of each instance, and the end.
    first: Vec<u32>,
    /// For each instance a range of `waiting`.
    start: Vec<u32>,
    /// Slots.
    waiting: Vec<u32>,
}

impl Edges {
    fn new(cluster: &Cluster) -> Edges {
        let count = cluster.instances.len();
        let (mut slots, mut first) = (Vec::new(), Vec::with_capacity(count + 1));
        let mut pairs: Vec<(InstanceIx, u32)> = Vec::new();
        for ix in (0..count as u32).map(InstanceIx) {
            first.push(slots.len() as u32);
            let instance = cluster.instance(ix);
            for (need, at) in needs_at(cluster, ix) {
                let slot = slots.len() as u32;
                let candidates = cluster.candidates(need, instance.node);
                pairs.extend(candidates.iter().map(|c| (*c, slot)));
                slots.push(Slot { instance: ix, at, wanted: need.count.wanted(candidates.len()) as u32 });
            }
        }
        first.push(slots.len() as u32);
        let mut start = vec![0u32; count + 1];
        for (candidate, _) in &pairs {
            start[candidate.0 as usize + 1] += 1;
        }
        for i in 0..count {
            start[i + 1] += start[i];
        }
        let mut next = start.clone();
        let mut waiting = vec![0u32; pairs.len()];
        for (candidate, slot) in pairs {
            let at = &mut next[candidate.0 as usize];
            waiting[*at as usize] = slot;
            *at += 1;
        }
        Edges { slots, first, start, waiting }
    }

    fn dependents(&self, ix: InstanceIx) -> impl Iterator<Item = u32> {
        let (from, to) = (self.start[ix.0 as usize], self.start[ix.0 as usize + 1]);
        self.waiting[from as usize..to as usize].iter().copied()
    }

    fn slots_of(&self, ix: InstanceIx) -> std::ops::Range<u32> {
        self.first[ix.0 as usize]..self.first[ix.0 as usize + 1]
    }
}

/// The needs of an instance with their places.
fn needs_at(cluster: &Cluster, ix: InstanceIx) -> impl Iterator<Item = (&Need, NeedAt)> {
    let instance = cluster.instance(ix);
    let all = cluster.service(instance.service).needs.iter().enumerate();
    all.filter(|(_, n)| n.nodes.as_ref().is_none_or(|on| on.contains(&instance.node)))
        .map(|(need, n)| (n, NeedAt { service: instance.service, need }))
}

/// The fixpoint on its way.
struct Spread<'e> {
    edges: &'e Edges,
    /// How many candidates each slot still waits for; 0 is met or let go.
    lacking: Vec<u32>,
    /// How many slots each instance still waits for.
    open: Vec<u32>,
    rank: Vec<u32>,
    waves: Vec<Vec<InstanceIx>>,
    /// The wave being made ready.
    next: Vec<InstanceIx>,
    reached: usize,
}

impl<'e> Spread<'e> {
    fn new(cluster: &Cluster, edges: &'e Edges) -> Spread<'e> {
        let lacking: Vec<u32> = edges.slots.iter().map(|s| s.wanted).collect();
        let open: Vec<u32> = (0..cluster.instances.len() as u32)
            .map(InstanceIx)
            .map(|ix| edges.slots_of(ix).filter(|s| lacking[*s as usize] > 0).count() as u32)
            .collect();
        let next = cluster.instance_ixs().filter(|ix| open[ix.0 as usize] == 0).collect();
        let rank = vec![0; open.len()];
        let mut spread = Spread { edges, lacking, open, rank, waves: Vec::new(), next, reached: 0 };
        // What is outside is there before the first wave.
        for ix in &cluster.outside.instances {
            spread.reached += 1;
            for slot in edges.dependents(*ix) {
                spread.meet(slot);
            }
        }
        spread
    }

    /// Goes on wave by wave, leaving out the instances of `without`.
    fn run(&mut self, cluster: &Cluster, without: Option<NodeIx>) {
        while !self.next.is_empty() {
            let mut wave = std::mem::take(&mut self.next);
            wave.retain(|ix| Some(cluster.instance(*ix).node) != without);
            wave.sort_unstable();
            for ix in &wave {
                self.rank[ix.0 as usize] = self.waves.len() as u32;
                self.reached += 1;
                for slot in self.edges.dependents(*ix) {
                    self.meet(slot);
                }
            }
            if !wave.is_empty() {
                self.waves.push(wave);
            }
        }
    }

    /// One more candidate of a slot is startable.
    fn meet(&mut self, slot: u32) {
        let lacking = &mut self.lacking[slot as usize];
        if *lacking > 0 {
            *lacking -= 1;
            if *lacking == 0 {
                self.close(slot);
            }
        }
    }

    fn close(&mut self, slot: u32) {
        let instance = self.edges.slots[slot as usize].instance;
        let open = &mut self.open[instance.0 as usize];
        *open -= 1;
        if *open == 0 {
            self.next.push(instance);
        }
    }

    fn covered(&self) -> bool {
        self.reached == self.open.len()
    }

    /// Lets go of every unmet need that ends in a start without it.
    fn release_soft(&mut self, cluster: &Cluster) -> Vec<NeedAt> {
        let mut released = Vec::new();
        for (slot, it) in self.edges.slots.iter().enumerate() {
            let need = &cluster.service(it.at.service).needs[it.at.need];
            if self.lacking[slot] > 0 && need.wait.is_some_and(|w| w.then == AfterWait::Start) {
                self.lacking[slot] = 0;
                self.close(slot as u32);
                released.push(it.at);
            }
        }
        released
    }

    /// Follows unmet needs from the first instance that was not reached, until the path closes.
    fn cycle(&self, cluster: &Cluster) -> Cycle {
        let mut hops: Vec<Hop> = Vec::new();
        let mut seen = vec![usize::MAX; self.open.len()];
        let mut at = cluster.instance_ixs().find(|ix| self.open[ix.0 as usize] > 0);
        while let Some(instance) = at {
            let visited = &mut seen[instance.0 as usize];
            if *visited != usize::MAX {
                hops.drain(..*visited);
                break;
            }
            *visited = hops.len();
            at = self.unmet(cluster, instance).map(|(hop, next)| {
                hops.push(hop);
                next
            });
        }
        Cycle { hops }
    }

    /// An unmet need of an unreached instance, and a candidate of it that was not reached either. There always is
    /// one: a need wants at most as many as it has candidates.
    fn unmet(&self, cluster: &Cluster, instance: InstanceIx) -> Option<(Hop, InstanceIx)> {
        self.edges.slots_of(instance).filter(|s| self.lacking[*s as usize] > 0).find_map(|s| {
            let at = self.edges.slots[s as usize].at;
            let need = &cluster.service(at.service).needs[at.need];
            let candidates = cluster.candidates(need, cluster.instance(instance).node);
            let next = candidates.into_iter().find(|c| self.open[c.0 as usize] > 0)?;
            Some((Hop { instance, at }, next))
        })
    }
}
