//! The promises of the design that need the world's truth, each a function that is asked when it could be broken.
//!
//! Those that need only what engines were told and said are watchers of the steps.

use super::ground::Held;
use super::machine::{Phase, Role};
use super::{Ending, Violation, World};
use crate::engine::view::{InstanceView, StateName, Wish};
use crate::model::{InstanceIx, Need, NodeIx, Probe};
use std::time::Duration;

/// What is asked about an instance must have been the same for so long before an engine is expected to know it.
const KNOWN: Duration = Duration::from_secs(30);

impl World<'_, '_> {
    /// *One*: asked when a main process begins. No other of its instance lives on the machine.
    pub(super) fn is_only(&self, node: NodeIx, instance: InstanceIx) -> Result<(), String> {
        match self.machines[node.0 as usize].main_of(instance) {
            Some(other) => {
                let name = &self.cluster.instance(instance).name;
                Err(format!("one: a second process of {name} begins while {} lives", other.pid))
            }
            None => Ok(()),
        }
    }

    /// *One*: asked when an agent's search has ended. What lives of an instance is known, or was told to be killed.
    pub(super) fn is_known(&self, node: NodeIx, instance: InstanceIx) -> Result<(), Violation> {
        let machine = &self.machines[node.0 as usize];
        let (Some(agent), Some(main)) = (&machine.agent, machine.main_of(instance)) else { return Ok(()) };
        let held = agent.held.get(&instance).is_some_and(|h| {
            let launcher = || machine.members(instance).any(|p| p.serial == h.process.serial);
            h.process.serial == main.serial || launcher()
        });
        // A daemon whose launcher has ended, and which has not written its pid file yet, is looked for by its marks
        // before the next start.
        let young = self.now - main.begun < Duration::from_secs(1);
        if held || young {
            return Ok(());
        }
        let why = format!(
            "one: {} runs as {} and the new agent does not know it",
            self.cluster.instance(instance).name,
            main.pid
        );
        Err(Violation { at: self.now, why })
    }

    /// *No harm*: asked before a process is signalled, killed or adopted. It is the instance's.
    pub(super) fn is_its_own(&self, node: NodeIx, instance: InstanceIx, held: &Held) -> Result<(), String> {
        let machine = &self.machines[node.0 as usize];
        match machine.processes.get(&held.pid).filter(|p| p.serial == held.serial) {
            Some(process) if process.instance != Some(instance) => Err(format!(
                "no harm: {} is taken for {}, which it is not",
                held.pid,
                self.cluster.instance(instance).name
            )),
            _ => Ok(()),
        }
    }

    /// *Reverse*: asked at the stop signal. No dependent that is there to be asked, and has long seen its need met by
    /// this instance, still has a process that would lose it.
    pub(super) fn goes_after_its_dependents(&self, node: NodeIx, instance: InstanceIx) -> Result<(), String> {
        let Some(agent) = &self.machines[node.0 as usize].agent else { return Ok(()) };
        let waits = agent.engine.word(instance).and_then(|word| word.veto).is_some_and(|veto| veto.waits);
        // A machine that goes down waits for nobody else, but its own services go in order.
        let among_themselves = self.machines[node.0 as usize].going_down;
        if !(waits || among_themselves) || self.now - self.steady[instance.0 as usize] < KNOWN {
            return Ok(());
        }
        let service = self.cluster.instance(instance).service;
        for (s, _) in self
            .cluster
            .services
            .iter()
            .enumerate()
            .filter(|(_, s)| s.needs.iter().any(|need| need.targets.contains(&service)))
        {
            for dependent in &self.cluster.services[s].instances {
                let asked = !among_themselves || self.cluster.instance(*dependent).node == node;
                if asked && *dependent != instance && self.would_lose(*dependent, instance) {
                    let (one, other) = (self.cluster.instance(instance), self.cluster.instance(*dependent));
                    return Err(format!(
                        "reverse: {} is told to stop while {}, which needs it, runs",
                        one.name, other.name
                    ));
                }
            }
        }
        Ok(())
    }

    fn would_lose(&self, dependent: InstanceIx, going: InstanceIx) -> bool {
        let node = self.cluster.instance(dependent).node;
        let machine = &self.machines[node.0 as usize];
        let there = self.cluster.instance(going).node;
        let Some(agent) = &machine.agent else { return false };
        let reachable = machine.stalled <= self.now && self.reaches(node, there);
        let Some(main) = machine.main_of(dependent).filter(|p| !p.told_to_stop) else { return false };
        if !reachable || self.now - main.begun < KNOWN {
            return false;
        }
        let now = crate::facts::Moment((self.now - machine.powered).as_nanos() as u64);
        let Some(view) = agent.engine.view(dependent, now) else { return false };
        // Where both lean on each other, the one that starts later goes first, and the other is not waited for.
        let before = |i: InstanceIx| (self.ranks[i.0 as usize], i);
        if before(dependent) < before(going) {
            return false;
        }
        self.cluster.needs_of(dependent).any(|need| {
            let met = self.candidates_met(need, node);
            let waived = view.needs.iter().any(|n| n.name == need.name && n.waived);
            let steady = met.iter().all(|i| self.now - self.steady[i.0 as usize] >= KNOWN);
            let all = self.cluster.candidates(need, node);
            let wanted = need.count.wanted(all.len());
            !waived
                && steady
                && all.iter().all(|i| self.now - self.steady[i.0 as usize] >= KNOWN)
                && met.contains(&going)
                && met.len() == wanted
        })
    }

    /// The candidates that answer from this node as the need wants it.
    fn candidates_met(&self, need: &Need, node: NodeIx) -> Vec<InstanceIx> {
        let mut all = self.cluster.candidates(need, node);
        all.retain(|i| match self.is_told_by_agent(need, node, *i) {
            true => self.reaches(node, self.cluster.instance(*i).node) && self.serves(*i),
            false => {
                let ready = self.is_ready_from(node, *i);
                ready.is_some_and(|r| need.role.is_none_or(|role| r.roles.contains(&role)))
            }
        });
        all
    }

    fn serves(&self, instance: InstanceIx) -> bool {
        if matches!(self.cluster.instance(instance).unit.ready.local, Probe::Completed) {
            return self.is_up(instance);
        }
        let machine = &self.machines[self.cluster.instance(instance).node.0 as usize];
        let daemon = &self.daemons[instance.0 as usize];
        let main = machine.main_of(instance).filter(|p| p.phase == Phase::Open && !p.told_to_stop);
        main.is_some() && !daemon.hangs && !daemon.declines
    }

    /// Whether only its own agent can say that a candidate is ready.
    fn is_told_by_agent(&self, need: &Need, node: NodeIx, candidate: InstanceIx) -> bool {
        let there = self.cluster.instance(candidate);
        let ready = &there.unit.ready;
        let asked = ready.remote.is_some() || (there.node == node && matches!(ready.local, Probe::Ask(_)));
        need.by_agent || !asked
    }

    /// Whether an instance is up, by the world's truth.
    pub(super) fn is_up(&self, instance: InstanceIx) -> bool {
        let this = self.cluster.instance(instance);
        let machine = &self.machines[this.node.0 as usize];
        if matches!(this.unit.ready.local, Probe::Completed) {
            let completed = self.daemons[instance.0 as usize].completed;
            return machine.on && completed == Some(machine.boots);
        }
        let Some(main) = machine.main_of(instance).filter(|p| p.role == Role::Main) else { return false };
        let daemon = &self.daemons[instance.0 as usize];
        match &this.unit.ready.local {
            Probe::Ask(_) if main.phase == super::machine::Phase::Waiting => {
                let others = &self.cluster.service(this.service).instances;
                others.iter().any(|o| *o != instance && self.is_serving(*o))
            }
            Probe::Ask(_) => self.is_serving(instance),
            Probe::Running { .. } | Probe::Notified | Probe::Completed => !daemon.broken,
        }
    }

    fn is_serving(&self, instance: InstanceIx) -> bool {
        let node = self.cluster.instance(instance).node;
        self.is_ready_from(node, instance).is_some()
    }

    /// *Progress*: asked at the end. Whatever can be up, by a least fixpoint over what is true, is up.
    ///
    /// The bound is the scenario's own: from its last fault to its end.
    pub(super) fn all_that_can_be_up_is_up(&self, ending: &Ending) -> Result<(), Violation> {
        let count = self.cluster.instances.len();
        let mut possible = vec![false; count];
        for ix in &self.cluster.outside.instances {
            possible[ix.0 as usize] = self.is_serving(*ix);
        }
        loop {
            let mut grew = false;
            for ix in self.cluster.instance_ixs() {
                let view = ending.instances[ix.0 as usize].view.as_ref();
                if !possible[ix.0 as usize] && self.can_be_up(ix, view, &possible) {
                    possible[ix.0 as usize] = true;
                    grew = true;
                }
            }
            if !grew {
                break;
            }
        }
        let idle = self
            .cluster
            .instance_ixs()
            .find(|ix| possible[ix.0 as usize] && !ending.instances[ix.0 as usize].up);
        let Some(idle) = idle else { return Ok(()) };
        let view = ending.instances[idle.0 as usize].view.as_ref();
        let says = view.map_or_else(String::new, |v| format!(": {} ({})", v.state, v.reason));
        let why = format!("progress: {} could be up and is not{says}", self.cluster.instance(idle).name);
        Err(Violation { at: self.now, why })
    }

    fn can_be_up(&self, ix: InstanceIx, view: Option<&InstanceView>, possible: &[bool]) -> bool {
        let node = self.cluster.instance(ix).node;
        let machine = &self.machines[node.0 as usize];
        let daemon = &self.daemons[ix.0 as usize];
        let Some(view) = view else { return false };
        // It gave up by its own start limit, its bounded wait, or a result that nobody knows: an operator decides.
        let given_up = view.state == StateName::Failed;
        if !machine.up
            || view.wish != Wish::Up
            || daemon.hangs
            || daemon.declines
            || daemon.broken
            || given_up
        {
            return false;
        }
        self.cluster.needs_of(ix).all(|need| {
            let candidates = self.cluster.candidates(need, node);
            let wanted = need.count.wanted(candidates.len());
            let met = candidates
                .iter()
                .filter(|c| possible[c.0 as usize] && self.reaches(node, self.cluster.instance(**c).node));
            met.count() >= wanted
        })
    }
}
