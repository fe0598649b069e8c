//! Single points: nodes without which something elsewhere could never start.

use super::{Graph, Spread};
use crate::model::{Cluster, InstanceIx, NodeIx};

/// A node, and the instances on other nodes that could never start without it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinglePoint {
    pub node: NodeIx,
    /// Never empty; in file order.
    pub starved: Vec<InstanceIx>,
}

impl Graph {
    /// Every single point, or `None` when the search would take more than `budget` steps (a step is one instance or
    /// one edge): the order is made anew without each node in turn.
    ///
    /// A need that ends in a start without it starves nobody.
    pub fn single_points(&self, cluster: &Cluster, budget: usize) -> Option<Vec<SinglePoint>> {
        // What cannot be ended is not begun: the clusters that are too large would pay for nothing.
        let once = cluster.instances.len() + self.edges.waiting.len();
        once.checked_mul(cluster.nodes.len()).filter(|steps| *steps <= budget)?;
        let mut points = Vec::new();
        for node in (0..cluster.nodes.len() as u32).map(NodeIx) {
            let mut spread = Spread::new(cluster, &self.edges);
            loop {
                spread.run(cluster, Some(node));
                if spread.release_soft(cluster).is_empty() {
                    break;
                }
            }
            let starved: Vec<InstanceIx> = cluster
                .instance_ixs()
                .filter(|ix| spread.open[ix.0 as usize] > 0 && cluster.instance(*ix).node != node)
                .collect();
            if !starved.is_empty() {
                points.push(SinglePoint { node, starved });
            }
        }
        Some(points)
    }
}
