//! What happened to each instance, and when: a watcher that keeps no more than a picture needs.

mod critical;

pub use critical::{Leg, What};

use super::scenario::{Fault, Scenario};
use super::{Step, Watcher};
use crate::engine::view::{InstanceView, NeedView, StateName};
use crate::engine::{Action, Engine};
use crate::facts::Moment;
use crate::model::{Cluster, InstanceIx, NodeIx};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// The story of one simulated run. It grows with what happens, and so is bounded as the scenario is.
#[derive(Debug)]
pub struct Timeline {
    cluster: Arc<Cluster>,
    named: HashMap<Arc<str>, InstanceIx>,
    lanes: Vec<Lane>,
    machines: Vec<Machine>,
}

/// One instance.
#[derive(Clone, Debug, Default)]
pub struct Lane {
    /// Its states, each until the next begins; the first begins at zero. `Unknown` while no agent runs there.
    pub spans: Vec<Span>,
    pub starts: Vec<Start>,
    /// When a bounded wait of it was over under the present agent, and for which need.
    waived: Option<(Duration, String)>,
}

/// A state for a while.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    pub from: Duration,
    pub state: StateName,
    /// The last reason given for it.
    pub reason: String,
}

/// One start of an instance: what it waited for, and how it went.
#[derive(Clone, Debug, PartialEq)]
pub struct Start {
    /// When its agent began to run.
    pub agent: Duration,
    /// What came last of all that had to come first.
    pub cause: Cause,
    /// When its cleaning began: all that it needs was there, or in sight.
    pub begun: Duration,
    /// Where it was started before: since when it could be again, and what had become of it.
    again: Option<(Duration, String)>,
    pub spawned: Option<Duration>,
    /// When it first served, stood by or had completed.
    pub up: Option<Duration>,
}

/// What a start waited for last.
#[derive(Clone, Debug, PartialEq)]
pub enum Cause {
    /// Only its agent.
    Agent,
    /// A need, met at that moment as seen from its own node, when `of` was counted.
    Need { name: String, of: InstanceIx, met: Duration },
    /// A bounded wait for a need that was not met.
    Patience { need: String },
    /// What became of its start before: a pause after a failure, or a stop.
    Again { reason: String },
}

/// One node.
#[derive(Clone, Debug, Default)]
struct Machine {
    /// When its power came and went, as the scenario says.
    power: Vec<(Duration, bool)>,
    /// When the agent that runs, or ran last, began; and whether it runs.
    agent: Option<Duration>,
    runs: bool,
}

impl Lane {
    /// The present state.
    pub fn state(&self) -> StateName {
        self.spans.last().map_or(StateName::Unknown, |s| s.state)
    }

    /// Since when it has been up without a break, if it is.
    pub fn up_since(&self) -> Option<Duration> {
        self.spans.iter().rev().take_while(|s| s.state.is_up()).last().map(|s| s.from)
    }

    /// The start that was under way, or had succeeded, at that moment.
    fn start_at(&self, at: Duration) -> Option<usize> {
        self.starts.iter().rposition(|s| s.spawned.is_some_and(|spawned| spawned <= at))
    }

    fn enter(&mut self, at: Duration, state: StateName, reason: &str) {
        match self.spans.last_mut() {
            Some(span) if span.state == state => reason.clone_into(&mut span.reason),
            _ => self.spans.push(Span { from: at, state, reason: reason.to_owned() }),
        }
    }
}

impl Timeline {
    /// For a run of this scenario that is yet to begin.
    pub fn new(scenario: &Scenario) -> Timeline {
        let cluster = scenario.cluster.clone();
        let dark = Lane {
            spans: vec![Span { from: Duration::ZERO, state: StateName::Unknown, reason: String::new() }],
            ..Lane::default()
        };
        let lanes = vec![dark; cluster.instances.len()];
        let mut machines = vec![Machine::default(); cluster.nodes.len()];
        let mut named = HashMap::with_capacity(lanes.len());
        for ix in cluster.instance_ixs() {
            named.insert(cluster.instance(ix).name.clone(), ix);
        }
        for ix in &cluster.outside.instances {
            named.insert(cluster.instance(*ix).name.clone(), *ix);
        }
        for timed in &scenario.faults {
            match timed.fault {
                Fault::PowerOn { node } => machines[node.0 as usize].power.push((timed.at, true)),
                Fault::PowerCut { node } | Fault::Shutdown { node } => {
                    machines[node.0 as usize].power.push((timed.at, false));
                }
                _ => {}
            }
        }
        Timeline { cluster, named, lanes, machines }
    }

    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    pub fn lane(&self, ix: InstanceIx) -> &Lane {
        &self.lanes[ix.0 as usize]
    }

    /// Every instance that is up in the end, and since when, in the order in which they came up.
    pub fn came_up(&self) -> Vec<(Duration, InstanceIx)> {
        let up = |ix: InstanceIx| self.lane(ix).up_since().map(|at| (at, ix));
        let mut all: Vec<_> = self.cluster.instance_ixs().filter_map(up).collect();
        all.sort_unstable();
        all
    }

    /// The instances that are not up in the end, in the order of the file.
    pub fn stayed_down(&self) -> Vec<InstanceIx> {
        self.cluster.instance_ixs().filter(|ix| !self.lane(*ix).state().is_up()).collect()
    }

    /// Whether the node's agent runs in the end.
    pub fn is_alive(&self, node: NodeIx) -> bool {
        self.machines[node.0 as usize].runs
    }

    /// Whether the node has power in the end.
    pub fn has_power(&self, node: NodeIx) -> bool {
        self.machines[node.0 as usize].power.last().is_some_and(|(_, on)| *on)
    }

    /// When the node got the power that it had at that moment.
    fn powered(&self, node: NodeIx, at: Duration) -> Option<Duration> {
        let mut since = None;
        for (when, on) in self.machines[node.0 as usize].power.iter().take_while(|(when, _)| *when <= at) {
            since = if *on { since.or(Some(*when)) } else { None };
        }
        since
    }

    fn agent_began(&self, ix: InstanceIx) -> Duration {
        let node = self.cluster.instance(ix).node;
        self.machines[node.0 as usize].agent.unwrap_or_default()
    }

    /// An instance is in another state, or has another reason for it.
    fn told(&mut self, at: Duration, now: Moment, ix: InstanceIx, engine: &Engine) {
        let Some(word) = engine.word(ix) else { return };
        match (self.lane(ix).state(), word.state) {
            (StateName::Cleaning | StateName::Blocked, StateName::Cleaning) => {}
            (_, StateName::Cleaning) => self.begin(at, ix),
            (StateName::Cleaning | StateName::Blocked, StateName::Starting) => {
                if let Some(view) = engine.view(ix, now) {
                    self.spawned(at, ix, &view);
                }
            }
            // An agent that finds it running judges nothing first.
            (StateName::Waiting, StateName::Starting | StateName::Unready) => {
                self.begin(at, ix);
                if let Some(start) = self.lanes[ix.0 as usize].starts.last_mut() {
                    start.spawned = Some(at);
                }
            }
            _ => {}
        }
        let lane = &mut self.lanes[ix.0 as usize];
        lane.enter(at, word.state, &word.reason);
        if word.state.is_up()
            && let Some(start) = lane.starts.last_mut()
        {
            start.up.get_or_insert(at);
        }
    }

    fn begin(&mut self, at: Duration, ix: InstanceIx) {
        let agent = self.agent_began(ix);
        let lane = &mut self.lanes[ix.0 as usize];
        let again = came_back(lane, at);
        let mut start = Start { agent, cause: Cause::Agent, begun: at, again, spawned: None, up: None };
        match lane.starts.last_mut() {
            // It came to no process, for want of a need: the same start is begun once more.
            Some(last) if last.spawned.is_none() => {
                start.again = start.again.or_else(|| last.again.take());
                *last = start;
            }
            _ => lane.starts.push(start),
        }
    }

    /// Only now is it known what came last: an agent's word has the cleaning begun before the answer is there.
    fn spawned(&mut self, at: Duration, ix: InstanceIx, view: &InstanceView) {
        let cause = self.cause(at, ix, view);
        if let Some(start) = self.lanes[ix.0 as usize].starts.last_mut().filter(|s| s.spawned.is_none()) {
            start.spawned = Some(at);
            start.cause = cause;
        }
    }

    /// What came last, of all that an instance whose process begins now had to wait for.
    fn cause(&self, at: Duration, ix: InstanceIx, view: &InstanceView) -> Cause {
        let lane = self.lane(ix);
        let mut last = (self.agent_began(ix), Cause::Agent);
        let mut came = |when: Duration, cause: Cause| {
            if when > last.0 {
                last = (when, cause);
            }
        };
        if let Some((when, reason)) = lane.starts.last().and_then(|s| s.again.clone()) {
            came(when, Cause::Again { reason });
        }
        for need in view.needs.iter().filter(|n| !n.waived) {
            let met = at.saturating_sub(Duration::from_millis(need.since_ms));
            if let Some(of) = self.completed_by(need, met) {
                came(met, Cause::Need { name: need.name.clone(), of, met });
            }
        }
        if let Some((when, need)) = &lane.waived {
            came(*when, Cause::Patience { need: need.clone() });
        }
        last.1
    }

    /// The candidate whose answer made the need's count full.
    fn completed_by(&self, need: &NeedView, met: Duration) -> Option<InstanceIx> {
        let mut counted: Vec<(Duration, InstanceIx)> = need
            .edges
            .iter()
            .filter(|e| e.met)
            .filter_map(|e| self.named.get(&*e.to).copied())
            .map(|ix| {
                (self.lane(ix).start_at(met).and_then(|s| self.lane(ix).starts[s].up).unwrap_or(met), ix)
            })
            .collect();
        counted.sort_unstable();
        let full = need.wanted.clamp(1, counted.len().max(1)) - 1;
        counted.get(full).map(|(_, ix)| *ix)
    }
}

/// When an instance that had been started before began to wait for this start, and what had become of the one
/// before. `None` when it is the agent's first.
fn came_back(lane: &Lane, at: Duration) -> Option<(Duration, String)> {
    let waiting = lane.spans.last()?;
    let (when, before) = match waiting.state {
        StateName::Waiting => (waiting.from, lane.spans.iter().nth_back(1)?),
        _ => (at, waiting),
    };
    let began = !matches!(before.state, StateName::Unknown | StateName::Cleaning | StateName::Blocked);
    began.then(|| (when, format!("{}: {}", before.state, before.reason)))
}

impl Watcher for Timeline {
    fn step(&mut self, step: &Step<'_>) -> Result<(), String> {
        for action in step.actions {
            match action {
                Action::Record(event) if event.what == "waived" => {
                    let need = event.data["need"].as_str().unwrap_or_default().to_owned();
                    self.lanes[event.instance.0 as usize].waived = Some((step.at, need));
                }
                Action::Publish { instance } => self.told(step.at, step.now, *instance, step.engine),
                _ => {}
            }
        }
        Ok(())
    }

    fn agent(&mut self, at: Duration, node: NodeIx, engine: Option<&Engine>) -> Result<(), String> {
        let machine = &mut self.machines[node.0 as usize];
        machine.runs = engine.is_some();
        if machine.runs {
            machine.agent = Some(at);
        }
        let state = if machine.runs { StateName::Waiting } else { StateName::Unknown };
        for ix in &self.cluster.node(node).instances {
            let lane = &mut self.lanes[ix.0 as usize];
            lane.waived = None;
            lane.enter(at, state, "");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
