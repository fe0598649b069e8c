//! What is to be done: the engine's actions, in the imperative.

use super::input::{Memory, QuestionIx};
use super::view::Wish;
use crate::facts::{Moment, Ready};
use crate::model::{InstanceIx, Unit};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;

/// Something to do. The shell does them in the order given; what is to be kept comes before what relies on it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "kebab-case")]
pub enum Action {
    /// Ask this question every so often; `None` is not at all.
    Pace { question: QuestionIx, every: Option<Duration> },
    /// Ask this question now, with a probe begun after this action, and tell the answer even if it is the old one.
    Verify { question: QuestionIx },
    /// Judge the leftovers of an instance and clear what is proven stale.
    Clean { instance: InstanceIx },
    /// Journal, then start the process.
    Spawn { instance: InstanceIx, memory: Memory, unit: Arc<Unit> },
    /// Hold this living process as the instance's; journal it.
    Adopt { instance: InstanceIx, pid: i32, memory: Memory, unit: Arc<Unit> },
    /// Find and hold the main process of a daemon that has daemonised.
    FindMain { instance: InstanceIx, memory: Memory },
    /// Keep this for the next agent of this boot.
    Remember { instance: InstanceIx, memory: Memory },
    /// Send this signal to the held process.
    Signal { instance: InstanceIx, incarnation: u64, signal: i32 },
    /// Kill whatever is left of the instance's process tree, and say when nothing is.
    Sweep { instance: InstanceIx, incarnation: u64 },
    /// Its process has ended: take the virtual addresses that it left on an interface off at once, as soon as it is
    /// proven that nobody lives who could hold them. A start would do the same, and may be far away.
    Release { instance: InstanceIx },
    /// Keep an operator's wish over reboots.
    SaveWish { instance: InstanceIx, wish: Wish },
    /// Tell the other agents: [`super::Engine::word`] of this instance changed, or is to be renewed.
    Publish { instance: InstanceIx },
    /// Write an event.
    Record(Event),
    /// Answer an order.
    Reply { order: u64, taken: Vec<(InstanceIx, String)> },
    /// A shutdown has come to its end: nothing runs here.
    Finished,
}

impl Action {
    /// Whether it is done only when all wishes are kept: whatever starts or removes something. A stop does not wait for the
    /// disk. It is journalled; should the agent be killed before the wish is kept, the next one ends the stop and then does
    /// as nobody was told otherwise: for a reply comes when the wishes are kept, or cannot be.
    pub fn relies_on_wishes(&self) -> bool {
        !matches!(
            self,
            Action::Pace { .. }
                | Action::Verify { .. }
                | Action::Remember { .. }
                | Action::Signal { .. }
                | Action::Sweep { .. }
                | Action::SaveWish { .. }
                | Action::Publish { .. }
                | Action::Record(_)
                | Action::Reply { .. }
        )
    }
}

/// One thing that happened, for the operator.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    pub instance: InstanceIx,
    /// One word: `waiting`, `cleaned`, `started`, `ready`, `exited`, …
    pub what: String,
    /// A sentence for a person.
    pub text: String,
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub data: serde_json::Value,
}

/// A probe answer that justified a start.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    pub need: String,
    /// The instance that counted.
    pub to: String,
    /// What was asked: an address, or `its agent`.
    pub asked: String,
    pub answer: Ready,
    pub begun: Moment,
    pub ended: Moment,
}
