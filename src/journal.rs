//! What an agent writes down, and what the next one makes of it: the journal, operators' wishes, and the search for
//! running processes that every agent begins with.
//!
//! The agent and the simulator both use it, each with a disk and processes of its own.

use crate::engine::view::Wish;
use crate::engine::{Action, Found, Memory};
use crate::facts::Moment;
use crate::model::{Cluster, RunKind, Unit};
use crate::process::{Boot, Identity, Journalled, Marked};
use crate::store::{Disk, Slot, StoreError};
use crate::systemd;
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
    /// Where systemd runs it: which activation of its unit it is; there is no identity then. `None` until it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invocation: Option<String>,
}

/// What a record is written for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// A process is about to be started.
    Starting,
    /// It was.
    Started,
    /// The daemon that its launcher left was found.
    Main,
    /// It runs, and there is something new to be known of it.
    Runs,
    /// It was ready.
    Ready,
    /// It is about to be told to stop.
    Stopping,
    /// It has ended.
    Ended,
    /// It was a oneshot, and succeeded.
    Completed,
    /// It reached its start limit.
    GaveUp,
    /// Somebody else's process was taken over.
    Adopted,
    /// A new agent found what the one before had not journalled.
    Found,
}

impl Line {
    pub const ALL: [Line; 11] = [
        Line::Starting,
        Line::Started,
        Line::Main,
        Line::Runs,
        Line::Ready,
        Line::Stopping,
        Line::Ended,
        Line::Completed,
        Line::GaveUp,
        Line::Adopted,
        Line::Found,
    ];

    /// Of what the engine wants to know again.
    pub fn remembers(record: &Record) -> Line {
        let Memory { gave_up, completed, stopping, was_ready, .. } = &record.memory;
        match () {
            () if !gave_up.is_empty() => Line::GaveUp,
            () if *completed => Line::Completed,
            () if record.identity.is_none() && record.invocation.is_none() => Line::Ended,
            () if *stopping => Line::Stopping,
            () if *was_ready => Line::Ready,
            () => Line::Runs,
        }
    }

    /// The points before it is written and after that, where a test may kill the agent.
    pub fn points(self) -> [String; 2] {
        [format!("before {self:?}"), format!("after {self:?}")]
    }
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
        Slot::growing(self.folder.join(format!("{instance}.json")))
    }

    /// # Errors
    /// When the disk takes no write.
    pub fn write(&self, disk: &mut impl Disk, instance: &str, record: &Record) -> Result<(), StoreError> {
        self.slot(instance).write_on(disk, record)?;
        self.written.borrow_mut().insert(instance.to_owned(), record.identity.clone());
        Ok(())
    }

    /// Forgets an instance that the configuration does not know any more.
    ///
    /// # Errors
    /// When its file stays.
    pub fn forget(&self, instance: &str) -> Result<(), StoreError> {
        self.written.borrow_mut().remove(instance);
        self.slot(instance).remove()
    }

    /// What was journalled last in this boot.
    ///
    /// # Errors
    /// As [`Journal::read`].
    pub fn last(&self, disk: &mut impl Disk, instance: &str) -> Result<Journalled, StoreError> {
        let known = self.written.borrow().get(instance).cloned();
        let known = match known {
            None => self.read(disk, instance)?.map(|record| record.identity),
            written => written,
        };
        Ok(match known {
            None => Journalled::Nothing,
            Some(None) => Journalled::Ended,
            Some(Some(identity)) => Journalled::Process(identity),
        })
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

/// The wishes among an input's actions, by name.
pub fn new_wishes(actions: &[Action], cluster: &Cluster) -> Vec<(String, Wish)> {
    let new = actions.iter().filter_map(|action| match action {
        Action::SaveWish { instance, wish } => {
            Some((cluster.instance(*instance).name.to_string(), wish.clone()))
        }
        _ => None,
    });
    new.collect()
}

/// Keeps new wishes, all with one write: it waits for the disk, some milliseconds.
///
/// # Errors
/// When the disk takes no write.
pub fn save_wishes(
    slot: &Slot<Wishes>,
    disk: &mut impl Disk,
    new: Vec<(String, Wish)>,
) -> Result<(), StoreError> {
    let mut wishes = slot.read_on(disk).ok().flatten().map(|stored| stored.value).unwrap_or_default();
    for (name, wish) in new {
        match wish {
            Wish::Up => wishes.remove(&name),
            held => wishes.insert(name, held),
        };
    }
    slot.write_on(disk, &wishes)
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

fn has_marked(marked: &[Marked], instance: &str) -> bool {
    marked.iter().any(|m| m.instance == instance)
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
    let left = has_marked(marked, instance);
    if ended_with_it(&record) {
        return Searched::no(Found::Ended { memory, left });
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
    Searched::no(Found::Ended { memory, left })
}

/// Whether the process that was journalled was the main one: then a child that outlived it is not.
fn ended_with_it(record: &Record) -> bool {
    let run = &record.unit.run;
    record.identity.is_some()
        && match run.kind {
            // A daemon may have handed over to another one, which its pid file names (nginx is upgraded so).
            RunKind::Forking => record.memory.main && run.pidfile.is_none(),
            RunKind::Exec | RunKind::Oneshot | RunKind::Notify | RunKind::Systemd => true,
        }
}

/// Without a journal, in an unchanged boot: no start until the marks have been looked for.
fn search_marked<P: Processes>(
    machine: &mut P,
    instance: &str,
    boot: &Boot,
    marked: &[Marked],
    unit: &Arc<Unit>,
) -> Searched<P::Held> {
    if !has_marked(marked, instance) {
        return Searched::no(Found::Nothing);
    }
    let Some(held) = machine.find_main(unit, instance) else {
        return Searched::no(Found::Ended { memory: Memory::default(), left: true });
    };
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
        invocation: None,
    };
    let found = Found::Running { pid, memory, unit: None };
    Searched { found, held: Some((held, nonce)), journal: Some(record) }
}

/// What already runs of an instance that systemd runs, by how its unit is, and what is to be journalled of it. `unit` is
/// the file's.
pub fn search_unit(
    record: Option<Record>,
    boot: &Boot,
    unit: &Arc<Unit>,
    state: &systemd::State,
) -> (Found, Option<Record>) {
    let runs = !state.is_over() && !state.restarts();
    let pid = state.pid();
    let Some(record) = record else {
        if !runs {
            return (Found::Nothing, None);
        }
        // Enabled at boot, or started by hand.
        let flags = vec!["started by somebody else, adopted".to_owned()];
        let memory = Memory { incarnation: 1, main: true, flags, ..Memory::default() };
        let record = Record {
            boot: boot.clone(),
            identity: None,
            nonce: String::new(),
            unit: unit.clone(),
            memory: memory.clone(),
            printed_from: None,
            invocation: Some(state.invocation.clone()),
        };
        return (Found::Running { pid, memory, unit: None }, Some(record));
    };
    let memory = record.memory.clone();
    let is_it = match &record.invocation {
        Some(invocation) => *invocation == state.invocation,
        // Its start was ordered, and nothing of it had been heard; of one whose end was seen there is no moment.
        None => memory.spawned != Moment(0),
    };
    if !(runs && is_it) {
        return (Found::Ended { memory, left: false }, None);
    }
    let started = Some(record.unit.clone());
    let invocation = Some(state.invocation.clone());
    let journal = (record.invocation != invocation).then_some(Record { invocation, ..record });
    (Found::Running { pid, memory, unit: started }, journal)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Source, Sources, parse};
    use crate::systemd::{Active, State};

    fn unit() -> Arc<Unit> {
        let source = |text: &str| Source { path: "file".into(), text: text.into() };
        let sources = Sources {
            cluster: source(
                "[cluster]\nname = \"t\"\n[nodes]\nall = { n1 = \"10.0.0.1\" }\n[services]\ndb = { on = \"n1\" }\n",
            ),
            folder: "units".into(),
            units: [("db".to_owned(), source("[run]\nkind = \"systemd\"\nunit = \"db.service\"\n"))].into(),
            unread: Default::default(),
        };
        parse(&sources).unwrap_or_else(|e| panic!("{e}")).instances[0].unit.clone()
    }

    fn record(invocation: Option<&str>, spawned: u64) -> Option<Record> {
        Some(Record {
            boot: Boot::current().unwrap(),
            identity: None,
            nonce: String::new(),
            unit: unit(),
            memory: Memory { incarnation: 3, spawned: Moment(spawned), ..Memory::default() },
            printed_from: None,
            invocation: invocation.map(str::to_owned),
        })
    }

    #[test]
    fn a_unit_is_known_again_by_its_invocation() {
        let search = |record, active, invocation: &str| {
            let state = State { active, invocation: invocation.into(), main_pid: 7, ..State::default() };
            search_unit(record, &Boot::current().unwrap(), &unit(), &state)
        };
        let (found, journal) = search(record(Some("a"), 5), Active::Active, "a");
        assert!(matches!(found, Found::Running { pid: 7, unit: Some(_), .. }) && journal.is_none());
        let (found, _) = search(record(Some("a"), 5), Active::Active, "b");
        assert!(matches!(found, Found::Ended { left: false, .. }), "somebody has started it anew");
        let (found, _) = search(record(Some("a"), 5), Active::Failed, "a");
        assert!(matches!(found, Found::Ended { .. }));
        let (found, journal) = search(record(None, 5), Active::Activating, "b");
        assert!(matches!(found, Found::Running { .. }), "the agent died while it ordered the start");
        assert_eq!(journal.unwrap().invocation.as_deref(), Some("b"));
        let (found, _) = search(record(None, 0), Active::Active, "b");
        assert!(matches!(found, Found::Ended { .. }), "its end had been seen");
        let (found, journal) = search(None, Active::Active, "b");
        let Found::Running { memory, unit: None, .. } = found else { panic!("{found:?}") };
        assert_eq!(memory.flags, ["started by somebody else, adopted"]);
        assert!(journal.is_some());
        assert_eq!(search(None, Active::Inactive, "").0, Found::Nothing);
    }
}
