//! Which services lean on each other in a circle (a legal one, that `any` and the like can open).

use crate::model::{Cluster, InstanceIx, ServiceIx};
use petgraph::algo::kosaraju_scc;
use petgraph::graph::DiGraph;

/// Circles among services: coarser than among instances, and enough to break a tie when stopping.
pub(super) struct Cycles {
    component: Vec<usize>,
    service_of: Vec<ServiceIx>,
}

impl Cycles {
    pub fn of(cluster: &Cluster) -> Cycles {
        let mut graph = DiGraph::<(), ()>::new();
        let nodes: Vec<_> = cluster.services.iter().map(|_| graph.add_node(())).collect();
        for (s, service) in cluster.services.iter().enumerate() {
            for target in service.needs.iter().flat_map(|n| &n.targets) {
                graph.add_edge(nodes[s], nodes[target.0 as usize], ());
            }
        }
        let mut component = vec![0; nodes.len()];
        for (c, members) in kosaraju_scc(&graph).into_iter().enumerate() {
            for member in members {
                component[member.index()] = c;
            }
        }
        Cycles { component, service_of: cluster.instances.iter().map(|i| i.service).collect() }
    }

    /// Whether both are on one circle.
    pub fn together(&self, a: InstanceIx, b: InstanceIx) -> bool {
        let of = |i: InstanceIx| self.component[self.service_of[i.0 as usize].0 as usize];
        of(a) == of(b)
    }
}
