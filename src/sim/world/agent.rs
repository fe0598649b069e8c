//! One run of one agent: its engine, and what its shell keeps.

use super::ground::Held as Process;
use super::links::Link;
use crate::engine::view::Wish;
use crate::engine::{Engine, Memory, QuestionIx};
use crate::facts::{Moment, Verdict};
use crate::journal::{Journal, Wishes};
use crate::model::{InstanceIx, NodeIx};
use crate::sim::chance::Chance;
use crate::sim::sabotage::Saboteur;
use crate::store::Slot;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

/// Where the agent keeps its state on every machine.
const STATE: &str = "/var/lib/clusterd";
const RUN: &str = "/run/clusterd";

/// A process that the agent holds.
#[derive(Clone, Debug)]
pub struct Held {
    pub process: Process,
    pub incarnation: u64,
    pub nonce: String,
}

#[derive(Debug)]
pub struct Agent {
    pub run: u32,
    pub engine: Engine,
    pub saboteur: Option<Saboteur>,
    pub journal: Journal,
    pub held: BTreeMap<InstanceIx, Held>,
    pub to_adopt: BTreeMap<InstanceIx, Process>,
    pub probers: BTreeMap<QuestionIx, Prober>,
    pub news: BTreeSet<InstanceIx>,
    pub memories: BTreeMap<InstanceIx, Memory>,
    /// Operators' wishes that are being written.
    pub wishes: Vec<(String, Wish)>,
    /// The streams that it follows.
    pub links: BTreeMap<NodeIx, Link>,
    /// The connections over which others follow it.
    pub readers: BTreeSet<u64>,
    pub orders: u64,
    pub finished: bool,
    pub chance: Chance,
    /// When it is to be woken, as far as that was entered.
    pub wake: Option<Moment>,
    pub made: u32,
}

/// What `probe::prober` keeps of one question. It is looked at only when what it asks about has changed.
#[derive(Debug)]
pub struct Prober {
    /// Tells it from an earlier one of the same question.
    pub number: u32,
    /// `None` is off.
    pub pace: Option<Duration>,
    /// What was last told, and how long that answer took.
    pub told: Option<(Verdict, Duration)>,
    /// When the question of the newest answer was begun.
    pub heard: Moment,
    /// When the newest question was begun.
    pub begun: Option<Duration>,
    pub current: Option<Flight>,
    pub older: Option<Flight>,
    pub verify_waits: bool,
    /// When it will look next; it looks at every tick, and this is the next that finds something new.
    pub look: Option<Duration>,
    pub flights: u32,
}

/// A question under way.
#[derive(Debug)]
pub struct Flight {
    pub number: u32,
    pub verify: bool,
    /// Nobody has answered the connect: giving it up harms nobody.
    pub spare: bool,
    pub begun: Moment,
    pub takes: Duration,
    pub verdict: Verdict,
}

impl Prober {
    pub fn new(number: u32) -> Prober {
        Prober {
            number,
            pace: None,
            told: None,
            heard: Moment::default(),
            begun: None,
            current: None,
            older: None,
            verify_waits: false,
            look: None,
            flights: 0,
        }
    }
}

/// Operators' wishes, on the disk.
pub fn wishes() -> Slot<Wishes> {
    Slot::durable(Path::new(STATE).join("wishes.json"))
}

/// The last good configuration: here, its hash.
pub fn last_good() -> Slot<String> {
    Slot::durable(Path::new(STATE).join("config.json"))
}

pub fn run_folder() -> &'static Path {
    Path::new(RUN)
}
