//! A recording of one engine: everything that it was given, in order, and what it said. Plain data.
//!
//! The agent writes it (`--record`), the simulator's `replay` reads it.

use super::view::Wish;
use super::{Action, Input, Jitter};
use crate::facts::Moment;
use crate::model::{InstanceIx, Sources};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

/// One line of a recording, as JSON.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "line", rename_all = "kebab-case")]
pub enum Line<'a> {
    /// An agent begins: what its engine is made of. A file may hold several runs, each from such a line on.
    Begun {
        node: Cow<'a, str>,
        now: Moment,
        /// The wishes of operators as kept, by instance.
        wishes: Cow<'a, BTreeMap<String, Wish>>,
        sources: Cow<'a, Sources>,
    },
    /// The engine took in an input.
    Fed { now: Moment, jitter: Jitter, input: Cow<'a, Input>, actions: Cow<'a, [Action]> },
    /// Another configuration was put in force; what that returned.
    Reconfigured {
        now: Moment,
        node: Cow<'a, str>,
        sources: Cow<'a, Sources>,
        added: Vec<InstanceIx>,
        orphans: Vec<Arc<str>>,
    },
    /// The recording has grown to its limit: the run goes on without it.
    Full,
}
