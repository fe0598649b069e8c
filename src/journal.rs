//! What an agent writes down, and what the next one makes of it: the journal, operators' wishes, and the search for
//! running processes that every agent begins with.
//!
//! The agent and the simulator both use it, each with a disk and processes of its own.

use crate::engine::view::Wish;
use crate::engine::{Action, Found, Memory};
use crate::model::{Cluster, Unit};
use crate::process::{Boot, Identity, Marked};
use crate::store::{Disk, Slot, StoreError};
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What operators want of instances, by name; what is not in it is up.
pub type Wishes = BTreeMap<String, Wish>;

/// What is known of an instance's process.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    /// The boot in which it was written; in any other one it says nothing.
    pub boot: Boot,
    /// `None` from before the fork until it is known.
    pub identity: Option<Identity>,
    /// The mark of this incarnation in the processes' environment.
    pub nonce: String,
    /// The unit as it was started: its stop uses this one.
    pub unit: Arc<Unit>,
    /// What the engine wants to know again.
    pub memory: Memory,
    /// The position in its log where its own lines begin; `None`: unknown, as in the journal of an older agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub printed_from: Option<u64>,
}

/// The journal's folder: one small file for each instance, in the run folder, which a reboot empties. It is written
/// before a process is started (so that a child that was just forked is looked for by its marks) and again when it is
/// known who it is.
#[derive(Debug)]
pub struct Journal {
    folder: PathBuf,
    boot: Boot,
    /// What this agent wrote last of each instance's process, so that a restart need not read it back.
    written: RefCell<HashMap<String, Option<Identity>>>,
}

impl Journal {
    /// The journal in this run folder, of this boot.
    pub fn new(run: &Path, boot: Boot) -> Journal {
        Journal { folder: run.join("instances"), boot, written: RefCell::default() }
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The boot that it is of.
    pub fn boot(&self) -> &Boot {
        &self.boot
    }

    fn slot(&self, instance: &str) -> Slot<Record> {
        Slot::volatile(self.folder.join(format!("{instance}.json")))
    }

    /// # Errors
    /// When the disk takes no write.
    pub fn write(&self, disk: &mut impl Disk, instance: &str, record: &Record) -> Result<(), StoreError> {
        self.slot(instance).write_on(disk, record)?;
        self.written.borrow_mut().insert(instance.to_owned(), record.identity.clone());
        Ok(())
    }

    /// The process that was journalled last in this boot.
    ///
    /// # Errors
    /// As [`Journal::read`].
    pub fn identity(&self, disk: &mut impl Disk, instance: &str) -> Result<Option<Identity>, StoreError> {
        if let Some(written) = self.written.borrow().get(instance) {
            return Ok(written.clone());
        }
        Ok(self.read(disk, instance)?.and_then(|record| record.identity))
    }

    /// `None` when there is none of this boot.
    ///
    /// # Errors
    /// When there is only a torn one.
    pub fn read(&self, disk: &mut impl Disk, instance: &str) -> Result<Option<Record>, StoreError> {
        let found = self.slot(instance).read_on(disk)?;
        Ok(found.map(|stored| stored.value).filter(|record| record.boot == self.boot))
    }
}

/// Keeps the wishes among an input's actions, all with one write: it waits for the disk, some milliseconds. `None`
/// where there are none.
pub fn save_wishes(
    slot: &Slot<Wishes>,
    disk: &mut impl Disk,
    actions: &[Action],
    cluster: &Cluster,
) -> Option<Result<(), StoreError>> {
    let mut new = actions.iter().filter_map(|action| match action {
        Action::SaveWish { instance, wish } => Some((cluster.instance(*instance).name.to_string(), wish)),
        _ => None,
    });
    let first = new.next()?;
    let mut wishes = slot.read_on(disk).ok().flatten().map(|stored| stored.value).unwrap_or_default();
    for (name, wish) in std::iter::once(first).chain(new) {
        match wish {
            Wish::Up => wishes.remove(&name),
            held => wishes.insert(name, held.clone()),
        };
    }
    Some(slot.write_on(disk, &wishes))
}

/// What a search asks of the machine.
pub trait Processes {
    /// A process that is held.
    type Held;
    /// Holds this very process, if it lives.
    fn hold(&mut self, known: &Identity) -> Option<Self::Held>;
    /// Finds and holds the main process of an instance that was started with this unit.
    fn find_main(&mut self, unit: &Unit, instance: &str) -> Option<Self::Held>;
    fn identity(&self, held: &Self::Held) -> Identity;
}

/// What a search came to.
pub struct Searched<H> {
    pub found: Found,
    /// With [`Found::Running`]: the process and the mark of its incarnation.
    pub held: Option<(H, String)>,
    /// What is to be journalled of it.
    pub journal: Option<Record>,
}

impl<H> Searched<H> {
    fn no(found: Found) -> Searched<H> {
        Searched { found, held: None, journal: None }
    }
}

/// Looks for what already runs of an instance: by the journal, then by marks. `unit` is the file's.
pub fn search<P: Processes>(
    machine: &mut P,
    instance: &str,
    (record, boot): (Option<Record>, &Boot),
    marked: &[Marked],
    unit: &Arc<Unit>,
) -> Searched<P::Held> {
    match record {
        Some(record) => search_journalled(machine, instance, record, marked),
        None => search_marked(machine, instance, boot, marked, unit),
    }
}

fn search_journalled<P: Processes>(
    machine: &mut P,
    instance: &str,
    record: Record,
    marked: &[Marked],
) -> Searched<P::Held> {
    let memory = record.memory.clone();
    if let Some(held) = record.identity.as_ref().and_then(|identity| machine.hold(identity)) {
        let pid = machine.identity(&held).pid;
        let found = Found::Running { pid, memory, unit: Some(record.unit) };
        return Searched { found, held: Some((held, record.nonce)), journal: None };
    }
    // Forked and not yet journalled, or a daemon that its launcher left: the marks tell.
    let mut ours = marked.iter().filter(|m| m.instance == instance);
    if ours.any(|m| m.nonce.as_ref().is_none_or(|nonce| *nonce == record.nonce))
        && let Some(held) = machine.find_main(&record.unit, instance)
    {
        let identity = machine.identity(&held);
        let (pid, memory) = (identity.pid, Memory { main: true, ..memory });
        let kept = Record { identity: Some(identity), memory: memory.clone(), ..record };
        let found = Found::Running { pid, memory, unit: Some(kept.unit.clone()) };
        return Searched { found, held: Some((held, kept.nonce.clone())), journal: Some(kept) };
    }
    Searched::no(Found::Ended { memory })
}

/// Without a journal, in an unchanged boot: no start until the marks have been looked for.
fn search_marked<P: Processes>(
    machine: &mut P,
    instance: &str,
    boot: &Boot,
    marked: &[Marked],
    unit: &Arc<Unit>,
) -> Searched<P::Held> {
    if !marked.iter().any(|m| m.instance == instance) {
        return Searched::no(Found::Nothing);
    }
    let Some(held) = machine.find_main(unit, instance) else { return Searched::no(Found::Nothing) };
    let identity = machine.identity(&held);
    let pid = identity.pid;
    let memory = Memory { incarnation: 1, main: true, starts: 1, ..Memory::default() };
    let nonce = marked.iter().find(|m| m.pid == pid).and_then(|m| m.nonce.clone()).unwrap_or_default();
    let record = Record {
        boot: boot.clone(),
        identity: Some(identity),
        nonce: nonce.clone(),
        unit: unit.clone(),
        memory: memory.clone(),
        printed_from: None,
    };
    let found = Found::Running { pid, memory, unit: None };
    Searched { found, held: Some((held, nonce)), journal: Some(record) }
}
