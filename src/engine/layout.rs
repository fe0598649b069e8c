//! What the engines of one cluster share: made once, read by all of them.
//!
//! An engine asks here only for its own node, and the answers cost what they hold, not what the cluster holds.

use crate::model::{Cluster, Count, InstanceIx, NodeIx, ServiceIx};
use petgraph::algo::kosaraju_scc;
use petgraph::graph::DiGraph;
use std::sync::Arc;

/// Who could lean on whom.
#[derive(Debug)]
pub struct Layout {
    cluster: Arc<Cluster>,
    /// Each instance's rank in the order of starting.
    ranks: Vec<u32>,
    /// The needs that each service is a target of: the dependent, and the need's place among its needs.
    needed_by: Vec<Vec<(ServiceIx, usize)>>,
    /// The circle of each service (a legal one, that `any` and the like can open). Circles among services are coarser
    /// than among instances, and enough to break a tie when stopping.
    circle: Vec<usize>,
}

impl Layout {
    /// `ranks` gives each instance's rank in the order of starting.
    pub fn new(cluster: Arc<Cluster>, ranks: &[u32]) -> Layout {
        let mut needed_by = vec![Vec::new(); cluster.services.len()];
        for (s, service) in cluster.services.iter().enumerate() {
            for (n, need) in service.needs.iter().enumerate() {
                for target in &need.targets {
                    needed_by[target.0 as usize].push((ServiceIx(s as u32), n));
                }
            }
        }
        let circle = circles(&cluster);
        Layout { ranks: ranks.to_vec(), needed_by, circle, cluster }
    }

    pub fn cluster(&self) -> &Arc<Cluster> {
        &self.cluster
    }

    /// The instances that could lean on `x`, in file order. Where two lean on each other, the one that could start
    /// later goes first, and the other does not wait for it.
    pub(super) fn leaners(&self, x: InstanceIx) -> Vec<InstanceIx> {
        let (cluster, target) = (&self.cluster, self.cluster.instance(x));
        let mut all: Vec<InstanceIx> = Vec::new();
        for &(dependent, n) in &self.needed_by[target.service.0 as usize] {
            let service = cluster.service(dependent);
            let need = &service.needs[n];
            let has_it = |d: &InstanceIx| {
                let node = cluster.instance(*d).node;
                let is_for = need.nodes.as_ref().is_none_or(|on| on.contains(&node));
                is_for && cluster.is_near(need, node, target.node)
            };
            match need.count {
                Count::SameNode => all.extend(self.of_service_on(dependent, target.node).filter(has_it)),
                _ => all.extend(service.instances.iter().copied().filter(has_it)),
            }
        }
        all.retain(|d| !self.are_on_one_circle(*d, x) || self.order(*d) > self.order(x)); // nor does `x` lean on itself
        all.sort_unstable();
        all.dedup();
        all
    }

    fn of_service_on(&self, service: ServiceIx, node: NodeIx) -> impl Iterator<Item = InstanceIx> {
        let there = self.cluster.node(node).instances.iter().copied();
        there.filter(move |i| self.cluster.instance(*i).service == service)
    }

    fn are_on_one_circle(&self, a: InstanceIx, b: InstanceIx) -> bool {
        let of = |i: InstanceIx| self.circle[self.cluster.instance(i).service.0 as usize];
        of(a) == of(b)
    }

    fn order(&self, i: InstanceIx) -> (u32, InstanceIx) {
        (self.ranks.get(i.0 as usize).copied().unwrap_or(0), i)
    }
}

fn circles(cluster: &Cluster) -> Vec<usize> {
    let mut graph = DiGraph::<(), ()>::new();
    let nodes: Vec<_> = cluster.services.iter().map(|_| graph.add_node(())).collect();
    for (s, service) in cluster.services.iter().enumerate() {
        for target in service.needs.iter().flat_map(|n| &n.targets) {
            graph.add_edge(nodes[s], nodes[target.0 as usize], ());
        }
    }
    let mut circle = vec![0; nodes.len()];
    for (c, members) in kosaraju_scc(&graph).into_iter().enumerate() {
        for member in members {
            circle[member.index()] = c;
        }
    }
    circle
}
