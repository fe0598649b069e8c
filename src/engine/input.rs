//! What can happen: the engine's inputs, in the past tense.

use super::view::{StateName, Wish};
use crate::facts::{Answer, Cleaned, Exit, Moment, Notice};
use crate::model::{InstanceIx, NodeIx, Unit};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;

/// Index of a question in the engine's table. Questions are numbered anew by each configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct QuestionIx(pub u32);

/// Something that happened.
///
/// Every input that speaks of a process carries the *incarnation* that it belongs to: a late word about an earlier
/// process is recognised and ignored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "input", rename_all = "kebab-case")]
pub enum Input {
    /// The search for running processes that every agent begins with has ended for this instance.
    Searched { instance: InstanceIx, found: Found },
    /// Leftovers were judged.
    Cleaned { instance: InstanceIx, cleaned: Cleaned },
    /// The process exists (for `forking`: the launcher does).
    Spawned { instance: InstanceIx, incarnation: u64, pid: i32 },
    /// There is no process. `reason` names the stage; with a `shortage` the machine lacks something (descriptors,
    /// processes, room for the journal), which is no fault of the instance.
    SpawnFailed {
        instance: InstanceIx,
        incarnation: u64,
        reason: String,
        #[serde(default, skip_serializing_if = "is_false")]
        shortage: bool,
    },
    /// A living process that somebody else had started is held now.
    Adopted { instance: InstanceIx, incarnation: u64, pid: i32 },
    /// The main process of a daemon that daemonised was proven.
    MainFound { instance: InstanceIx, incarnation: u64, pid: i32 },
    /// It was not; `empty` says that not one process of this start is left.
    MainMissing { instance: InstanceIx, incarnation: u64, reason: String, empty: bool },
    /// The held process ended. It was `alone` when nothing is left in the instance's cgroup.
    Exited {
        instance: InstanceIx,
        incarnation: u64,
        exit: Exit,
        /// What it printed last; where systemd runs it, what systemd says of the end before that.
        last_words: String,
        #[serde(default, skip_serializing_if = "is_false")]
        alone: bool,
    },
    /// A process that was proven to be of the instance's tree said something of it.
    Notified { instance: InstanceIx, incarnation: u64, notice: Notice },
    /// After a stop: nothing of the instance's process tree is left.
    Swept { instance: InstanceIx, incarnation: u64, killed: u32 },
    /// A probe's answer changed, or a `Verify` was answered.
    Answered { question: QuestionIx, answer: Answer },
    /// Another agent told the states of its instances.
    PeerSaid { node: NodeIx, words: Vec<(InstanceIx, Word)> },
    /// Another agent's stream ended.
    PeerLost { node: NodeIx },
    /// An operator ordered something of instances of this node.
    Ordered(Order),
    /// The machine goes down: stop everything here, wait for no peer.
    ShutdownBegan,
    /// The moment that [`super::Engine::next_wake`] named has come.
    TimeCame,
}

fn is_false(word: &bool) -> bool {
    !word
}

/// What the search for a running process came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "found", rename_all = "kebab-case")]
pub enum Found {
    /// No process, and none was journalled in this boot.
    Nothing,
    /// Identified and held; with the unit that it was started with, where that is known.
    Running { pid: i32, memory: Memory, unit: Option<Arc<Unit>> },
    /// Journalled in this boot, and no longer there. With a moment in [`Memory::spawned`] it ended while no agent was
    /// looking; without one its end was seen. What is left of it, if anything, is none of its main process.
    Ended {
        memory: Memory,
        #[serde(default)]
        left: bool,
    },
}

/// What the engine wants to know again of an instance when the agent is replaced. Volatile: a reboot empties it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Memory {
    pub incarnation: u64,
    /// Whether the held process is the main one (a `forking` launcher is not).
    pub main: bool,
    /// It had been seen ready, so its start is over.
    pub was_ready: bool,
    /// The stop signal was sent: its end is no failure.
    #[serde(default)]
    pub stopping: bool,
    /// A oneshot that had completed.
    pub completed: bool,
    pub spawned: Moment,
    pub starts: u32,
    pub failures: u32,
    /// Why it is not started any more, where its start limit was reached.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub gave_up: String,
    /// `--force`, or adopted from somebody else.
    pub flags: Vec<String>,
}

/// What an agent tells the others of one of its instances.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Word {
    pub state: StateName,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Let go of it: nothing may start on it, and what would lose its need without it must stop first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub veto: Option<Veto>,
    /// The vetoes (instance, epoch) that this instance has obeyed: it has no process, or does not need them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub released: Vec<(Arc<str>, u64)>,
}

/// A veto: it dies with its stream, or [`super::VETO_LIVES`] after its last renewal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Veto {
    /// Tells one withdrawal of an instance from the next.
    pub epoch: u64,
    /// What began it: `mysql@mysql1 is held by alice: disk swap`. Handed on unchanged by those who let go in turn.
    pub why: String,
    /// Dependents are waited for, so they let go. Nobody waits where the machine goes down or a start has failed:
    /// then they act by their `on-loss`.
    pub waits: bool,
    /// A loss began it, and nobody will ever give it up: dependents that cannot be asked are waited for only a while.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub lost: bool,
}

/// An operator's order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Order {
    /// For the reply.
    pub id: u64,
    pub verb: OrderVerb,
    pub instances: Vec<InstanceIx>,
    pub force: bool,
    /// How long a stop waits for dependents.
    pub timeout: Duration,
    /// Nodes whose dependents are not waited for.
    pub without: Vec<NodeIx>,
    pub by: String,
    pub reason: String,
    /// The wall clock, milliseconds since 1970; kept to be shown.
    pub clock: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OrderVerb {
    Start,
    Stop,
    Restart,
}

impl Order {
    /// The wish that a stop leaves behind.
    pub(super) fn held(&self) -> Wish {
        Wish::Held { by: self.by.clone(), at: self.clock, reason: self.reason.clone() }
    }
}
