//! Held stays held: over reboots and agents' restarts, until an operator says otherwise.

use crate::engine::{Action, Engine, Input, Order, OrderVerb};
use crate::facts::Moment;
use crate::model::{InstanceIx, NodeIx};
use crate::sim::scenario::{Fault, Scenario};
use crate::sim::{Step, Watcher};
use std::collections::HashMap;
use std::time::Duration;

/// What an operator holds is not started before an operator releases it, or is told that the stop was given up.
pub struct Held {
    holds: HashMap<InstanceIx, Hold>,
    /// When which node's disk took no write.
    full: Vec<(NodeIx, Duration, Duration)>,
}

#[derive(Clone, Copy)]
struct Hold {
    /// The order was answered as one that survives a reboot.
    durable: bool,
    /// Boot and run of the agent that took it.
    by: (u32, u32),
    give_up_at: Moment,
    /// Where and when it was given. An agent that dies over it has answered nobody.
    given: (NodeIx, Duration),
}

impl Held {
    pub fn new(scenario: &Scenario) -> Held {
        let mut full: Vec<(NodeIx, Duration, Duration)> = Vec::new();
        for timed in &scenario.faults {
            match timed.fault {
                Fault::DiskFull { node } => full.push((node, timed.at, Duration::MAX)),
                Fault::DiskFree { node } => {
                    let open = full.iter_mut().filter(|(n, _, end)| *n == node && *end == Duration::MAX);
                    open.for_each(|(_, _, end)| *end = timed.at);
                }
                _ => {}
            }
        }
        Held { holds: HashMap::new(), full }
    }

    fn ordered(&mut self, step: &Step<'_>, order: &Order) {
        let mut disk = self.full.iter().filter(|(node, ..)| *node == step.node);
        let writes = !disk.any(|(_, from, to)| (*from..=*to).contains(&step.at));
        for ix in &order.instances {
            match order.verb {
                OrderVerb::Start => drop(self.holds.remove(ix)),
                OrderVerb::Stop => {
                    // A wish that could not be written leaves the one before.
                    let before = self.holds.get(ix).is_some_and(|hold| hold.durable);
                    let by = (step.boot, step.run);
                    let give_up_at = step.now + order.timeout;
                    let (durable, given) = (writes || before, (step.node, step.at));
                    self.holds.insert(*ix, Hold { durable, by, give_up_at, given });
                }
                OrderVerb::Restart => {}
            }
        }
    }
}

impl Watcher for Held {
    fn step(&mut self, step: &Step<'_>) -> Result<(), String> {
        self.check(step).map_err(|why| format!("held: {why}"))
    }

    fn agent(&mut self, at: Duration, node: NodeIx, engine: Option<&Engine>) -> Result<(), String> {
        if engine.is_none() {
            self.holds
                .values_mut()
                .filter(|hold| hold.given == (node, at))
                .for_each(|hold| hold.durable = false);
        }
        Ok(())
    }
}

impl Held {
    fn check(&mut self, step: &Step<'_>) -> Result<(), String> {
        if let Input::Ordered(order) = step.input {
            self.ordered(step, order);
        }
        for action in step.actions {
            match action {
                Action::Record(event) if event.what == "stop-given-up" => {
                    let name = &step.engine.cluster().instance(event.instance).name;
                    let Some(hold) = self.holds.remove(&event.instance) else { continue };
                    if hold.by == (step.boot, step.run) && step.now < hold.give_up_at {
                        return Err(format!("the stop of {name} is given up before its time"));
                    }
                }
                Action::Spawn { instance, .. } => {
                    let Some(hold) = self.holds.get(instance) else { continue };
                    let name = &step.engine.cluster().instance(*instance).name;
                    if hold.durable {
                        return Err(format!("{name} is started although an operator holds it"));
                    }
                    if hold.by == (step.boot, step.run) {
                        return Err(format!(
                            "{name} is started although an operator holds it, by the agent that was told"
                        ));
                    }
                    self.holds.remove(instance); // lost with the agent, as the order's answer had said
                }
                _ => {}
            }
        }
        Ok(())
    }
}
