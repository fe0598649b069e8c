//! Scenarios from a seed: clusters with all kinds of needs, and faults that all end.
//!
//! The cluster is rendered as the texts that an operator would write and read by [`crate::model`], so that a failing
//! one can be printed whole.

mod cluster;
mod faults;

pub use cluster::cluster;
pub use faults::{Faults, faults, unsettled};

use super::chance::Chance;
use super::sample::sample;
use super::scenario::{Scenario, Timing};
use super::text::Written;
use crate::model::{self, Cluster, Diagnostics, Sources};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// How long after the last fault the cluster has to come to rest: longer than every bounded wait, back-off and start
/// of a generated unit, one after the other.
const REST: Duration = Duration::from_secs(30 * 60);

/// Faults of this seed on the reference cluster, for about `length`.
///
/// # Errors
/// The shipped cluster is refused, which a test rules out.
pub fn of_sample(seed: u64, length: Duration) -> Result<Written, Diagnostics> {
    scenario(seed, sample(), length)
}

/// A cluster of at most so many nodes and faults on it, all of this seed.
///
/// # Errors
/// The generated cluster is refused, which a test over many seeds rules out.
pub fn of_generated(seed: u64, most_nodes: usize, length: Duration) -> Result<Written, Diagnostics> {
    scenario(seed, cluster(seed, most_nodes), length)
}

fn scenario(seed: u64, sources: Sources, length: Duration) -> Result<Written, Diagnostics> {
    let cluster = Arc::new(model::parse(&sources)?);
    let mut chance = Chance::new(seed).branch(1);
    let timing = timing(&cluster, &mut chance);
    let how = Faults::drawn(&mut chance, length);
    let faults = faults(&cluster, &mut chance, &how);
    let ends = faults.last().map_or(length, |last| last.at.max(length));
    let scenario = Scenario { cluster, seed, timing, faults, at_most: ends + REST };
    Ok(Written { about: Vec::new(), sources, scenario })
}

/// Daemons take moments to a quarter of what their units allow.
fn timing(cluster: &Cluster, chance: &mut Chance) -> Timing {
    let usual = chance.time(Duration::from_millis(50), Duration::from_secs(5));
    let mut of = BTreeMap::new();
    for ix in cluster.instance_ixs() {
        if chance.percent(30) {
            let most = (cluster.instance(ix).unit.ready.within / 4).min(Duration::from_secs(60));
            of.insert(ix, chance.time(Duration::from_millis(1), most));
        }
    }
    let boot = chance.time(Duration::from_secs(1), Duration::from_secs(30));
    Timing { usual, of, boot }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::text;

    #[test]
    fn the_same_seed_gives_the_same_text() {
        let length = Duration::from_secs(600);
        let show = |seed| text::print(&of_generated(seed, 40, length).unwrap());
        assert_eq!(show(3), show(3));
        assert_ne!(show(3), show(4));
    }

    #[test]
    fn what_is_generated_is_read_back_from_its_text() {
        let length = Duration::from_secs(600);
        for seed in 0..20 {
            for written in [of_generated(seed, 30, length).unwrap(), of_sample(seed, length).unwrap()] {
                let printed = text::print(&written);
                let again = text::parse(&printed).unwrap();
                assert_eq!(again.scenario.faults, written.scenario.faults);
                assert_eq!(again.sources, written.sources);
                assert_eq!(text::print(&again), printed);
            }
        }
    }
}
