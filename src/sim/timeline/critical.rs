//! The critical path: what the last instance to come up had to wait for, back to the first machine's power.

use super::{Cause, Start, Timeline};
use crate::model::{Cluster, InstanceIx, NodeIx};
use std::collections::HashSet;
use std::time::Duration;

/// A part of the critical path. Each begins where the one before it ends; the first begins at zero.
#[derive(Clone, Debug, PartialEq)]
pub struct Leg {
    pub from: Duration,
    pub until: Duration,
    pub what: What,
}

/// What the time of a leg went into.
#[derive(Clone, Debug, PartialEq)]
pub enum What {
    /// The node has no power yet.
    Power { node: NodeIx },
    /// From its power to its agent.
    Boots { node: NodeIx },
    /// `of` is ready, and the count of the need is not seen full from the instance's own node yet.
    Notices { instance: InstanceIx, need: String, of: InstanceIx },
    /// A bounded wait for a need that was not met.
    Patience { instance: InstanceIx, need: String },
    /// An earlier start of it, and the pause after that.
    Again { instance: InstanceIx, reason: String },
    /// It looks for what runs already, clears up, and asks once more what it needs.
    Prepares { instance: InstanceIx },
    /// From its process to its first good answer.
    Starts { instance: InstanceIx },
}

impl What {
    /// Whom it is about: a node's name while it boots, else an instance's.
    pub fn at<'c>(&self, cluster: &'c Cluster) -> &'c str {
        match self {
            What::Power { node } | What::Boots { node } => &cluster.node(*node).name,
            What::Notices { instance, .. }
            | What::Patience { instance, .. }
            | What::Again { instance, .. }
            | What::Prepares { instance }
            | What::Starts { instance } => &cluster.instance(*instance).name,
        }
    }
}

impl Timeline {
    /// What the instance that came up last had to wait for, in the order of time; empty when none is up.
    pub fn critical_path(&self) -> Vec<Leg> {
        // Of several that came up in the same moment the first of the file is told.
        let came_up = self.came_up();
        let Some((until, _)) = came_up.last() else { return Vec::new() };
        let last = came_up.iter().find(|(at, _)| at == until).map(|(_, ix)| *ix);
        last.map(|ix| self.path_to(ix, *until)).unwrap_or_default()
    }

    /// What `ix` had to wait for, to be up at `until`.
    pub fn path_to(&self, ix: InstanceIx, until: Duration) -> Vec<Leg> {
        let mut back = Back { legs: Vec::new(), at: until };
        let mut seen = HashSet::new();
        let mut next = self.lane(ix).start_at(until).map(|s| (ix, s));
        let mut first = ix;
        while let Some((ix, s)) = next.filter(|at| seen.insert(*at)) {
            first = ix;
            next = self.back_over(ix, s, &mut back);
        }
        let node = self.cluster().instance(first).node;
        let powered = self.powered(node, back.at).unwrap_or_default();
        back.to(powered, What::Boots { node });
        back.to(Duration::ZERO, What::Power { node });
        back.legs.reverse();
        back.legs
    }

    /// Goes back over one start; where to go on, unless the rest is the machine's own boot.
    fn back_over(&self, ix: InstanceIx, s: usize, back: &mut Back) -> Option<(InstanceIx, usize)> {
        let lane = self.lane(ix);
        let start: &Start = &lane.starts[s];
        back.to(start.spawned.unwrap_or(start.begun), What::Starts { instance: ix });
        match &start.cause {
            Cause::Agent => {
                back.to(start.agent, What::Prepares { instance: ix });
                None
            }
            Cause::Need { name, of, met } => {
                back.to(*met, What::Prepares { instance: ix });
                let there = self.lane(*of).start_at(*met);
                // Dependents may see it a little before its own agent does.
                let ready = there
                    .map_or(start.agent, |s| self.lane(*of).starts[s].up.map_or(*met, |up| up.min(*met)));
                let notices = What::Notices { instance: ix, need: name.clone(), of: *of };
                // What was ready before this agent ran held nothing up.
                back.to(ready.max(start.agent), notices);
                there.filter(|_| ready > start.agent).map(|s| (*of, s))
            }
            Cause::Patience { need } => {
                back.to(start.begun, What::Prepares { instance: ix });
                back.to(start.agent, What::Patience { instance: ix, need: need.clone() });
                None
            }
            Cause::Again { reason } => {
                back.to(start.begun, What::Prepares { instance: ix });
                let before = s.checked_sub(1).filter(|b| lane.starts[*b].agent == start.agent);
                let from = before.and_then(|b| lane.starts[b].spawned).unwrap_or(start.agent);
                back.to(from, What::Again { instance: ix, reason: reason.clone() });
                before.map(|b| (ix, b))
            }
        }
    }
}

/// Legs being collected, last first.
struct Back {
    legs: Vec<Leg>,
    /// Where the next leg ends.
    at: Duration,
}

impl Back {
    /// A leg from `from` to where the next begins; none when that is no time at all.
    fn to(&mut self, from: Duration, what: What) {
        if from < self.at {
            self.legs.push(Leg { from, until: self.at, what });
            self.at = from;
        }
    }
}
