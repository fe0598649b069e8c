//! Refused: a configuration with a mistake in it starts nothing.

use crate::engine::Action;
use crate::model::Cluster;
use crate::sim::scenario::Scenario;
use crate::sim::{Step, Watcher};
use std::sync::Arc;

/// Every start is of an instance of the accepted cluster, on its own node and by its own unit.
pub struct Refused {
    accepted: Arc<Cluster>,
}

impl Refused {
    pub fn new(scenario: &Scenario) -> Refused {
        Refused { accepted: scenario.cluster.clone() }
    }
}

impl Watcher for Refused {
    fn step(&mut self, step: &Step<'_>) -> Result<(), String> {
        self.check(step).map_err(|why| format!("refused: {why}"))
    }
}

impl Refused {
    fn check(&mut self, step: &Step<'_>) -> Result<(), String> {
        for action in step.actions {
            let Action::Spawn { instance, unit, .. } = action else { continue };
            let Some(known) = self.accepted.instances.get(instance.0 as usize) else {
                return Err(format!("instance {} is started, and no accepted file has it", instance.0));
            };
            if known.node != step.node {
                return Err(format!("{} is started on {}", known.name, self.accepted.node(step.node).name));
            }
            if !Arc::ptr_eq(&known.unit, unit) && known.unit != *unit {
                return Err(format!("{} is started by a unit that no accepted file has", known.name));
            }
        }
        Ok(())
    }
}
