//! One of the node's own instances: everything the engine knows of it.

use super::action::Evidence;
use super::backoff::Failures;
use super::input::{Memory, QuestionIx, Veto};
use super::notices::Said;
use super::tally::Tally;
use super::view::{StateName, Wish};
use crate::facts::{Finding, Moment};
use crate::model::{InstanceIx, NodeIx, Unit};
use std::sync::Arc;
use std::time::Duration;

/// The state of an instance, with what only that state needs. [`Local::process`] is there from `Starting` to
/// `Sweeping`, and in no other state.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum State {
    /// The agent has just begun and looks for what already runs. Shown as `waiting`.
    Searching,
    Waiting,
    /// `Clean` was asked.
    Cleaning,
    /// Cleaning ended at this moment; answers begun since then are awaited. Shown as `cleaning`.
    Verifying {
        cleaned: Moment,
    },
    Starting {
        deadline: Moment,
    },
    Ready,
    Unready,
    Standby,
    /// It is to stop, and dependents have yet to let go. Shown as `stopping`.
    Leaving,
    /// The stop signal is sent; the tree is killed at the deadline.
    Stopping {
        deadline: Moment,
    },
    /// The main process has ended; whatever is left of the tree is being killed. Shown as `stopping`.
    Sweeping,
    Stopped,
    Backoff {
        until: Moment,
    },
    Blocked {
        /// When to judge again; `None` while that is under way.
        again: Option<Moment>,
    },
    Failed {
        /// Only an operator may have it tried again. Otherwise a need that is met again does, too.
        for_good: bool,
    },
    Completed,
}

impl State {
    pub fn name(&self) -> StateName {
        match self {
            State::Searching | State::Waiting => StateName::Waiting,
            State::Cleaning | State::Verifying { .. } => StateName::Cleaning,
            State::Starting { .. } => StateName::Starting,
            State::Ready => StateName::Ready,
            State::Unready => StateName::Unready,
            State::Standby => StateName::Standby,
            State::Leaving | State::Stopping { .. } | State::Sweeping => StateName::Stopping,
            State::Stopped => StateName::Stopped,
            State::Backoff { .. } => StateName::Backoff,
            State::Blocked { .. } => StateName::Blocked,
            State::Failed { .. } => StateName::Failed,
            State::Completed => StateName::Completed,
        }
    }

    /// Whether a process runs that nobody has told to stop yet.
    pub fn is_running(&self) -> bool {
        matches!(
            self,
            State::Starting { .. } | State::Ready | State::Unready | State::Standby | State::Leaving
        )
    }
}

/// A running incarnation.
#[derive(Clone, Debug)]
pub(super) struct Process {
    pub incarnation: u64,
    /// `None` until the shell has said `Spawned`.
    pub pid: Option<i32>,
    /// A `forking` launcher is not the main process.
    pub main: bool,
    /// The launcher has ended well: its daemon is looked for.
    pub launched: bool,
    /// When to look for the main process (again).
    pub find_main: Option<Moment>,
    pub spawned: Moment,
    pub ready_since: Option<Moment>,
    /// The unit as it was started: its stop uses this one, whatever the file says by then.
    pub unit: Arc<Unit>,
    /// What justified the start, until the event is written.
    pub evidence: Vec<Evidence>,
    pub said: Said,
    /// It was told to stop and has ended, alone in its cgroup: what got away from there is still looked for, and nobody
    /// has to wait for that.
    pub ended: bool,
    /// How often it was ready and then unready since it was last ready for long.
    pub flaps: u32,
}

impl Process {
    /// One that an earlier agent had started; without a pid where only something else is left of it.
    pub fn found(pid: Option<i32>, memory: &Memory, now: Moment, unit: &Arc<Unit>) -> Process {
        Process {
            incarnation: memory.incarnation,
            pid,
            main: memory.main,
            launched: false,
            find_main: (!memory.main).then_some(now),
            spawned: memory.spawned,
            ready_since: memory.was_ready.then_some(now),
            unit: unit.clone(),
            evidence: Vec::new(),
            said: Said::before_now(now, memory.was_ready),
            ended: false,
            flaps: 0,
        }
    }
}

/// How the instance's own readiness is known.
#[derive(Clone, Copy, Debug)]
pub(super) enum Own {
    Ask(QuestionIx),
    Running(Duration),
    Completed,
    Notified,
}

/// How an edge is proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Proof {
    /// A probe from this node.
    Ask(QuestionIx),
    /// What can be proven only on its own machine: its agent's statement, while its stream stands.
    Agent,
}

#[derive(Clone, Debug)]
pub(super) struct Edge {
    pub to: InstanceIx,
    pub proof: Proof,
}

impl Edge {
    /// What this node asks for it; nothing where only the other agent can tell.
    pub fn question(&self) -> Option<QuestionIx> {
        match self.proof {
            Proof::Ask(q) => Some(q),
            Proof::Agent => None,
        }
    }
}

/// A need of a local instance.
#[derive(Clone, Debug)]
pub(super) struct NeedState {
    /// Its place among the needs of the service.
    pub rule: usize,
    pub edges: Vec<Edge>,
    pub wanted: usize,
    /// The servers that a start would count.
    pub fresh: Tally,
    /// Where more than that are an alarm, and do not meet it: the servers whose latest answer is good, those that are
    /// being stopped included.
    pub serving: Option<Tally>,
    /// The servers that a running instance has, by the thresholds for losing.
    pub held: Tally,
    /// The edges of which it is known whether they are met.
    pub known: Tally,
    /// Met as of the last step, by what a start would count.
    pub ok: bool,
    /// Rivals are proven, as of the last step, and that was told.
    pub alarmed: bool,
    /// Since when `ok` is what it is.
    pub since: Moment,
    /// Its bounded wait is over: it may start without it, again and again, until it has been met.
    pub waived: bool,
    /// When `ok` last went from true to false.
    pub last_loss: Option<Moment>,
    /// It is known not to be met: meeting it would be news.
    pub missed: bool,
    /// The present process has had it: there is something to lose.
    pub had: bool,
    /// While running: lost past the thresholds, since when.
    pub lost: Option<Moment>,
}

impl NeedState {
    /// Whether a start may count on it.
    pub fn is_met(&self) -> bool {
        self.fresh.count() >= self.wanted && !self.has_rivals()
    }

    /// More may be serving than may serve.
    pub fn has_rivals(&self) -> bool {
        self.rivals().is_some()
    }

    /// How many there are of those that it wants.
    pub fn met(&self) -> usize {
        self.rivals().unwrap_or_else(|| self.fresh.count())
    }

    /// How many may be serving, where that is more than may.
    fn rivals(&self) -> Option<usize> {
        self.serving.as_ref().map(Tally::count).filter(|count| *count > self.wanted)
    }
}

/// How long an operator's stop waits, and for whom not.
#[derive(Clone, Debug)]
pub(super) struct StopOrder {
    pub deadline: Moment,
    pub timeout: Duration,
    pub without: Vec<NodeIx>,
}

/// What becomes of it when its process is gone.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum After {
    /// What the wish says.
    Rest,
    /// It is counted as a failure.
    Fail(String),
}

#[derive(Debug)]
pub(super) struct Local {
    pub ix: InstanceIx,
    pub name: Arc<str>,
    pub unit: Arc<Unit>,
    pub wish: Wish,
    pub state: State,
    pub since: Moment,
    /// Why it is in this state; a sentence.
    pub reason: String,
    pub process: Option<Process>,
    pub own: Own,
    pub needs: Vec<NeedState>,
    /// The other instances of an exclusive service.
    pub siblings: Vec<Edge>,
    /// Another serves beside it, as of the last step, and that was told.
    pub alarmed: bool,
    pub failures: Failures,
    pub starts: u32,
    /// The number of the latest incarnation, and when it was begun.
    pub incarnations: u64,
    pub last_spawn: Moment,
    /// Who forced the next start.
    pub forced: Option<String>,
    /// A restart is under way, and why.
    pub restart: Option<String>,
    pub stop_order: Option<StopOrder>,
    pub withdrawn: Option<Veto>,
    pub after: After,
    /// When a failure was counted that may prove to be a lost need's fault.
    pub forgivable: Option<Moment>,
    /// When it began to wait, for bounded waits.
    pub waiting_from: Moment,
    /// What was last told of its leftovers, so that a verdict is told once.
    pub told: Vec<Finding>,
    pub flags: Vec<String>,
    /// It is in the queue of those that may have a step to take.
    pub marked: bool,
}

impl Local {
    /// What the next agent of this boot is to know.
    pub fn memory(&self) -> Memory {
        let process = self.process.as_ref();
        // What must not be run again by itself is remembered as a run whose end is not known.
        let unknown = self.state == State::Failed { for_good: true };
        let ended = if unknown { self.last_spawn } else { Moment(0) };
        Memory {
            incarnation: self.incarnations,
            main: process.is_some_and(|p| p.main),
            was_ready: process.is_some_and(|p| p.ready_since.is_some()),
            stopping: matches!(self.state, State::Stopping { .. } | State::Sweeping),
            completed: self.state == State::Completed,
            spawned: process.map_or(ended, |p| p.spawned),
            starts: self.starts,
            failures: self.failures.in_a_row,
            gave_up: match self.state {
                State::Failed { for_good: false } => self.reason.clone(),
                _ => String::new(),
            },
            flags: self.flags.clone(),
        }
    }

    /// What is asked on its account.
    pub fn questions(&self) -> impl Iterator<Item = QuestionIx> {
        let own = match self.own {
            Own::Ask(q) => Some(q),
            Own::Running(_) | Own::Completed | Own::Notified => None,
        };
        let edges = self.needs.iter().flat_map(|n| &n.edges).chain(&self.siblings);
        own.into_iter().chain(edges.filter_map(Edge::question))
    }

    /// The unit of the running process, or the one that a start would use.
    pub fn unit_in_force(&self) -> &Arc<Unit> {
        self.process.as_ref().map_or(&self.unit, |p| &p.unit)
    }

    pub fn is_held(&self) -> bool {
        matches!(self.wish, Wish::Held { .. })
    }

    /// Whether the incarnation that an input speaks of is the present one.
    pub fn is_current(&self, incarnation: u64) -> bool {
        self.process.as_ref().is_some_and(|p| p.incarnation == incarnation)
    }
}
