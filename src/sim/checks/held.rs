//! Held stays held: over reboots and agents' restarts, until an operator says otherwise.

use crate::engine::{Action, Engine, Input, Order, OrderVerb};
use crate::facts::Moment;
use crate::model::{InstanceIx, NodeIx};
use crate::sim::{Step, Watcher};
use std::collections::HashMap;
use std::time::Duration;

/// What an operator holds is not started before an operator releases it, or is told that the stop was given up.
#[derive(Default)]
pub struct Held {
    holds: HashMap<InstanceIx, Hold>,
}

#[derive(Clone, Copy)]
struct Hold {
    /// The order was answered as one that survives a reboot.
    durable: bool,
    /// Boot and run of the agent that took it.
    by: (u32, u32),
    give_up_at: Moment,
    /// Where it is being written, and the order not answered yet.
    written_on: Option<NodeIx>,
}

impl Held {
    fn written_on(&mut self, node: NodeIx) -> impl Iterator<Item = &mut Hold> {
        self.holds.values_mut().filter(move |hold| hold.written_on == Some(node))
    }

    fn ordered(&mut self, step: &Step<'_>, order: &Order) {
        // Where there is nothing to be written the answer comes at once.
        let writes = step.actions.iter().any(|action| matches!(action, Action::SaveWish { .. }))
            || self.written_on(step.node).next().is_some();
        for ix in &order.instances {
            match order.verb {
                OrderVerb::Start => drop(self.holds.remove(ix)),
                OrderVerb::Stop => {
                    // A wish that could not be written leaves the one before.
                    let durable = !writes || self.holds.get(ix).is_some_and(|hold| hold.durable);
                    let (by, give_up_at) = ((step.boot, step.run), step.now + order.timeout);
                    let written_on = writes.then_some(step.node);
                    self.holds.insert(*ix, Hold { durable, by, give_up_at, written_on });
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

    fn agent(&mut self, _: Duration, node: NodeIx, engine: Option<&Engine>) -> Result<(), String> {
        // One that dies over it has answered nobody.
        if engine.is_none() {
            self.written_on(node).for_each(|hold| hold.written_on = None);
        }
        Ok(())
    }

    fn wishes_settled(&mut self, node: NodeIx, kept: bool) {
        self.written_on(node).for_each(|hold| {
            hold.durable |= kept;
            hold.written_on = None;
        });
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
