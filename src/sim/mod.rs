//! The simulator: many engines, one virtual clock, one seed.
//!
//! Another shell around the very engine that ships. It gives the engine only what an agent can give it, and uses the
//! agent's own judge of leftovers and the agent's own state on a simulated disk; what it makes up is the world: the
//! machines, their processes and files, the daemons' behaviour, and the network. See [`scenario`] for what can happen.
//!
//! A [`Watcher`] looks on: each promise of the design is one, and so is the timeline of `clusterctl simulate`.
//!
//! The same scenario gives the same steps, byte for byte, on every run and in every build.

pub mod chance;
pub mod checks;
pub mod contract;
pub mod generate;
pub mod random;
pub mod replay;
pub mod sabotage;
pub mod sample;
pub mod scenario;
pub mod shrink;
pub mod text;
pub mod timeline;
mod world;

pub use timeline::{Leg, Timeline, What};
pub use world::{Ended, Ending, Trace, Violation, run, run_sabotaged};

use crate::engine::{Action, Engine, Input};
use crate::facts::Moment;
use crate::model::NodeIx;
use std::time::Duration;

/// One input that one engine took in, and what it said to do.
pub struct Step<'a> {
    /// Virtual time since the scenario began. No machine can see it.
    pub at: Duration,
    pub node: NodeIx,
    /// Counts the machine's boots, and the agent's runs over all boots.
    pub boot: u32,
    pub run: u32,
    /// The machine's own monotonic clock.
    pub now: Moment,
    pub input: &'a Input,
    pub actions: &'a [Action],
    /// The engine after the input.
    pub engine: &'a Engine,
}

/// Somebody who looks on.
pub trait Watcher {
    /// Called after each input, before its actions are done.
    ///
    /// # Errors
    /// What must never be, as a sentence; the run ends with it.
    fn step(&mut self, step: &Step<'_>) -> Result<(), String>;

    /// An agent begins, ends or is killed; its engine is new. `engine` is `None` at an end.
    ///
    /// # Errors
    /// As [`Watcher::step`].
    fn agent(&mut self, _at: Duration, _node: NodeIx, _engine: Option<&Engine>) -> Result<(), String> {
        Ok(())
    }

    /// The wishes that operators told this agent last are on its disk, and it answers that they are; or could not be.
    fn wishes_settled(&mut self, _node: NodeIx, _kept: bool) {}
}
