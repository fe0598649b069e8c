//! What the agent does to processes and files: each action of the engine that touches the machine.
//!
//! Everything here is quick and done at once.

use super::shell::{Held, Message, Shell};
use crate::crash::{self, Done};
use crate::engine::{Found, Input, Memory};
use crate::facts::{Exit, Finding};
use crate::journal::{self, Line, Record, Searched};
use crate::leftover;
use crate::model::{InstanceIx, LogLimits, RunKind, Unit};
use crate::process::{Handle, Identity, Marked, NotYet, Spawn, Stage, Tree};
use nix::libc;
use std::collections::HashSet;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

/// How much of what a daemon printed last goes into an event.
const LAST_WORDS_LINES: usize = 3;
const LAST_WORDS_BYTES: u64 = 4096;
/// What a search asks: the kernel, by way of the trees of this agent.
impl journal::Processes for &Tree {
    type Held = Handle;

    fn hold(&mut self, known: &Identity) -> Option<Handle> {
        Handle::adopt(known).ok().filter(Handle::is_alive)
    }

    fn find_main(&mut self, unit: &Unit, instance: &str) -> Option<Handle> {
        Tree::find_main(self, unit, instance).ok()
    }

    fn identity(&self, held: &Handle) -> Identity {
        held.identity().clone()
    }
}

impl Shell {
    pub(super) fn name(&self, instance: InstanceIx) -> Arc<str> {
        self.cluster().instance(instance).name.clone()
    }

    /// Looks for what already runs of an instance: by the journal, then by marks. Nothing where systemd is asked first.
    pub fn search(self: &Rc<Self>, instance: InstanceIx, marked: &[Marked]) -> Option<Input> {
        let name = self.name(instance);
        let unit = self.cluster().instance(instance).unit.clone();
        let known = (self.journal.read(&name), self.journal.boot());
        if self.seek_unit(&name, known.0.as_ref(), &unit) {
            return None;
        }
        let printed_from = known.0.as_ref().and_then(|record| record.printed_from);
        let Searched { found, held, journal } = journal::search(&mut &self.tree, &name, known, marked, &unit);
        if let Some(record) = journal {
            self.write_journal(Line::Found, &name, &record);
        }
        if let (Found::Running { memory, unit: started, .. }, Some((handle, nonce))) = (&found, held) {
            let started = started.as_ref().unwrap_or(&unit);
            // Where it is not known, what is printed from now on is certainly its own.
            let printed_from = printed_from.or_else(|| self.printed(&name));
            self.hold(&name, Held::new(handle, memory.incarnation, nonce, printed_from), started.log);
            self.listen_again(&name, memory.incarnation, started);
        }
        Some(Input::Searched { instance, found })
    }

    /// Keeps a process, and waits for its end.
    pub(super) fn hold(self: &Rc<Self>, name: &Arc<str>, it: Held, log: LogLimits) {
        // Only what an agent has started: one adopted from a login would bring that session along.
        if !it.nonce.is_empty() {
            self.tree.remember(name, it.handle.identity());
        }
        let (handle, incarnation) = (it.handle.clone(), it.incarnation);
        self.held.borrow_mut().insert(name.clone(), it);
        self.logs.begun(name, log);
        let (shell, instance) = (self.clone(), name.clone());
        self.entrust("the one that waits for a process to end", async move {
            crash::trip("watcher");
            if let Err(e) = handle.exited().await {
                tracing::error!("cannot watch {instance}: {e}");
                return;
            }
            let exit = match handle.reap() {
                None => return,
                Some(Exit::Signal(libc::SIGKILL)) if shell.tree.ran_out_of_memory(&instance) => {
                    Exit::OutOfMemory
                }
                Some(exit) => exit,
            };
            crash::here(Done::Reaped);
            // The main loop lives as long as this task.
            let alone = shell.tree.has_empty_leaf(&instance).unwrap_or(false);
            let _ = shell.messages.send(Message::Exited { instance, incarnation, exit, alone }).await;
        });
    }

    /// How much was printed up to now; `None` when that cannot be told.
    fn printed(&self, name: &str) -> Option<u64> {
        self.logs.log(name).end().map_err(|e| tracing::warn!("{e}")).ok()
    }

    /// The last lines that this incarnation printed, never an earlier one's.
    pub fn last_words(&self, name: &str, incarnation: u64) -> String {
        let held = self.held.borrow();
        let held = held.get(name).filter(|h| h.incarnation == incarnation);
        let Some(since) = held.and_then(|h| h.printed_from) else { return String::new() };
        let lines = self.logs.log(name).last_words(since, LAST_WORDS_LINES, LAST_WORDS_BYTES);
        lines.map(|lines| lines.join(" | ")).unwrap_or_default()
    }

    pub(super) fn spawn(
        self: &Rc<Self>,
        instance: InstanceIx,
        memory: Memory,
        unit: Arc<Unit>,
    ) -> Option<Input> {
        if let Some(reason) = self.namesake() {
            let incarnation = memory.incarnation;
            return Some(Input::SpawnFailed { instance, incarnation, reason, shortage: true });
        }
        match unit.run.kind {
            RunKind::Systemd => self.start_unit(instance, memory, unit),
            _ => Some(self.spawn_process(instance, memory, unit)),
        }
    }

    fn spawn_process(self: &Rc<Self>, instance: InstanceIx, memory: Memory, unit: Arc<Unit>) -> Input {
        let name = self.name(instance);
        let incarnation = memory.incarnation;
        let failed =
            |reason: String, shortage| Input::SpawnFailed { instance, incarnation, reason, shortage };
        let nonce = format!("{:x}-{incarnation}", crate::clock::now().0);
        let printed_from = self.printed(&name);
        if let Err(why) = self.prepare(instance) {
            return failed(why, true);
        }
        let read = self.own_file(instance);
        let boot = self.journal.boot().clone();
        let mut record = Record { boot, identity: None, nonce, unit, memory, printed_from, invocation: None };
        // A process that is not journalled could be started twice: no journal, no start. This replaces an older memory.
        self.memories.borrow_mut().remove(&instance);
        if let Err(e) = self.journal.write(Line::Starting, &name, &record) {
            let text = format!("the journal in {} cannot be written: {e}", self.places.run.display());
            return failed(text, true);
        }
        let leaf = match self.tree.leaf(&name, &record.unit.run.care.cgroup) {
            Ok(leaf) => leaf,
            Err(e) => {
                tracing::warn!("{name} starts without a cgroup of its own: {e}");
                None
            }
        };
        crash::here(Done::Leaf);
        for text in self.tree.limit(leaf.as_ref(), &record.unit.run.care.cgroup) {
            tracing::warn!("{name}: {text}");
            self.events.borrow_mut().record(&name, "limit-off", &text, serde_json::Value::Null);
        }
        let (told, ready) = match self.listen(&name, incarnation, &record.unit) {
            Ok(told) => told,
            Err(e) => return failed(e.to_string(), true),
        };
        if ready.is_some() || record.unit.run.kind == RunKind::Notify {
            crash::here(Done::Listening);
        }
        let output = self.logs.path(&name);
        if !output.exists() && !self.clerk.answers() {
            let disk = self.places.state.display();
            return failed(format!("cannot make its output file: the disk of {disk} does not answer"), true);
        }
        let spawn = Spawn {
            unit: &told,
            instance: &name,
            nonce: &record.nonce,
            agent: self.tree.agent(),
            leaf: leaf.as_ref(),
            output: &output,
            ready: ready.as_ref().map(AsFd::as_fd),
        };
        let spawned = match spawn.spawn() {
            // To serve without a word is better than not to serve.
            Err(e) if e.stage == Stage::Output && is_of_disk(&e.cause) => {
                let text = format!("{e}; it is started all the same, and what it prints is lost");
                self.events.borrow_mut().record(&name, "output-lost", &text, serde_json::Value::Null);
                Spawn { output: Path::new("/dev/null"), ..spawn }.spawn()
            }
            spawned => spawned,
        };
        match spawned {
            Ok(handle) => {
                crash::here(Done::Held);
                record.identity = Some(handle.identity().clone());
                record.memory.spawned = crate::clock::now();
                self.write_journal(Line::Started, &name, &record);
                let pid = handle.pid();
                if let Some(read) = read {
                    self.manage.has_read(pid, read);
                }
                self.hold(&name, Held::new(handle, incarnation, record.nonce, printed_from), record.unit.log);
                Input::Spawned { instance, incarnation, pid }
            }
            Err(e) => failed(e.to_string(), e.shortage),
        }
    }

    pub(super) fn adopt(
        self: &Rc<Self>,
        instance: InstanceIx,
        pid: i32,
        memory: Memory,
        unit: Arc<Unit>,
    ) -> Option<Input> {
        let name = self.name(instance);
        let incarnation = memory.incarnation;
        self.memories.borrow_mut().remove(&instance);
        if self.systemd.is_to_adopt(&name) {
            return Some(self.adopt_unit(instance, pid, memory, unit));
        }
        let judged = self.to_adopt.borrow_mut().remove(&name).filter(|handle| handle.pid() == pid);
        match judged.filter(Handle::is_alive) {
            Some(handle) => {
                let identity: Identity = handle.identity().clone();
                let printed_from = self.printed(&name);
                let log = unit.log;
                let record = Record {
                    boot: self.journal.boot().clone(),
                    identity: Some(identity),
                    nonce: String::new(),
                    unit,
                    memory,
                    printed_from,
                    invocation: None,
                };
                self.write_journal(Line::Adopted, &name, &record);
                self.hold(&name, Held::new(handle, incarnation, String::new(), printed_from), log);
                Some(Input::Adopted { instance, incarnation, pid })
            }
            // It ended between judging and holding.
            None => {
                let last_words = String::new();
                let exit = Exit::Unknown;
                Some(Input::Exited { instance, incarnation, exit, last_words, alone: false })
            }
        }
    }

    pub(super) fn find_main(self: &Rc<Self>, instance: InstanceIx, memory: Memory) -> Input {
        self.remember_now(instance);
        let name = self.name(instance);
        let incarnation = memory.incarnation;
        let Some(unit) = self.engine.borrow().unit(instance).cloned() else {
            return Input::MainMissing { instance, incarnation, reason: String::new(), empty: true };
        };
        match self.tree.find_main(&unit, &name) {
            Ok(handle) => {
                crash::here(Done::MainHeld);
                let pid = handle.pid();
                let launcher = self.held.borrow().get(&name).map(|h| (h.nonce.clone(), h.printed_from));
                let (nonce, printed_from) = launcher.unwrap_or_default();
                let log = unit.log;
                let memory = Memory { main: true, ..memory };
                let identity = Some(handle.identity().clone());
                self.write_journal(
                    Line::Main,
                    &name,
                    &Record {
                        boot: self.journal.boot().clone(),
                        identity,
                        nonce: nonce.clone(),
                        unit,
                        memory,
                        printed_from,
                        invocation: None,
                    },
                );
                self.hold(&name, Held::new(handle, incarnation, nonce, printed_from), log);
                Input::MainFound { instance, incarnation, pid }
            }
            Err(NotYet(reason)) => {
                let empty = self.tree.members(&name).is_ok_and(|members| members.is_empty())
                    && (self.tree.without_cgroups().is_none() || !self.has_orphans());
                let words = if empty { self.last_words(&name, incarnation) } else { String::new() };
                let reason = if words.is_empty() { reason } else { words };
                Input::MainMissing { instance, incarnation, reason, empty }
            }
        }
    }

    pub(super) fn held_pids(&self) -> HashSet<i32> {
        self.held.borrow().values().map(|h| h.handle.pid()).collect()
    }

    /// Whether a process that nobody has claimed yet came to us from a daemon's launcher.
    fn has_orphans(&self) -> bool {
        let held = self.held_pids();
        crate::process::has_orphans(&|pid| held.contains(&pid))
    }

    /// Journals what was kept back.
    pub(super) fn remember_all(&self) {
        let memories = std::mem::take(&mut *self.memories.borrow_mut());
        memories.into_iter().for_each(|(instance, memory)| self.remember(instance, memory));
    }

    /// Journals what was kept back of one instance: what comes next relies on it.
    pub(super) fn remember_now(&self, instance: InstanceIx) {
        let memory = self.memories.borrow_mut().remove(&instance);
        if let Some(memory) = memory {
            self.remember(instance, memory);
        }
    }

    fn remember(&self, instance: InstanceIx, memory: Memory) {
        let name = self.name(instance);
        let held = self.held.borrow();
        let Some(unit) = self.engine.borrow().unit(instance).cloned() else { return };
        let held = held.get(&name).filter(|h| h.incarnation == memory.incarnation);
        let identity = held.filter(|h| h.handle.is_alive()).map(|h| h.handle.identity().clone());
        let nonce = held.map(|h| h.nonce.clone()).unwrap_or_default();
        let printed_from = held.and_then(|h| h.printed_from);
        let boot = self.journal.boot().clone();
        let invocation = self.systemd.invocation(&name, memory.incarnation);
        let record = Record { boot, identity, nonce, unit, memory, printed_from, invocation };
        self.write_journal(Line::remembers(&record), &name, &record);
    }

    /// A later line of the journal that cannot be written does not undo what is done; it is said.
    pub(super) fn write_journal(&self, line: Line, name: &str, record: &Record) {
        if let Err(e) = self.journal.write(line, name, record) {
            tracing::error!("cannot journal {name}: {e}; a new agent will search its processes");
        }
    }

    pub(super) fn signal(self: &Rc<Self>, instance: InstanceIx, incarnation: u64, signal: i32) {
        self.remember_now(instance);
        let name = self.name(instance);
        if self.systemd.follows(&name, incarnation) {
            return self.stop_unit(&name);
        }
        let held = self.held.borrow();
        let Some(held) = held.get(&name).filter(|h| h.incarnation == incarnation) else { return };
        // Without a cgroup, what wiped out its marks is known by its parents only, and these are about to die.
        if self.tree.without_cgroups().is_some()
            && let Err(e) = self.tree.members(&name)
        {
            tracing::error!("cannot look for the processes of {name}: {e}");
        }
        if let Err(e) = held.handle.signal(signal) {
            tracing::error!("cannot signal {name} (pid {}): {e}", held.handle.pid());
        }
        crash::here(Done::Signalled);
    }

    pub(super) fn let_go(&self, name: &Arc<str>, incarnation: u64) {
        crash::here(Done::Swept);
        let mut held = self.held.borrow_mut();
        if held.get(name).is_some_and(|h| h.incarnation == incarnation) {
            held.remove(name);
            self.logs.ended(name);
        }
        drop(held);
        self.tree.forget(name);
        if let Err(e) = self.tree.remove_leaf(name) {
            tracing::debug!("the cgroup of {name} stays: {e}");
        }
        crash::here(Done::LetGo);
    }

    pub(super) fn clean(self: &Rc<Self>, instance: InstanceIx) -> Input {
        if let Some(cleaned) = self.judge_unit(instance) {
            return Input::Cleaned { instance, cleaned };
        }
        let outcome = self.judge(instance, leftover::Mode::Remove);
        // Whoever is to be adopted stays held from the judging on, so that it is that very process.
        let name = self.name(instance);
        let mut to_adopt = self.to_adopt.borrow_mut();
        match outcome.main {
            Some(handle) => to_adopt.insert(name, handle),
            None => to_adopt.remove(&name),
        };
        Input::Cleaned { instance, cleaned: outcome.cleaned }
    }

    /// Judges the leftovers of an instance; `Look` removes nothing.
    pub fn judge(&self, instance: InstanceIx, mode: leftover::Mode) -> leftover::Outcome {
        self.in_context(instance, |context, unit| leftover::clean(context, unit, mode))
    }

    /// Takes off what addresses an instance has left on an interface.
    pub(super) fn release_addresses(&self, instance: InstanceIx) -> Vec<Finding> {
        self.in_context(instance, leftover::release)
    }

    fn in_context<T>(&self, instance: InstanceIx, f: impl FnOnce(&leftover::Context<'_>, &Unit) -> T) -> T {
        let cluster = self.cluster();
        let this = cluster.instance(instance);
        let known =
            |ix: InstanceIx| leftover::Known::of(&cluster.instance(ix).name, &cluster.instance(ix).unit);
        // Made once, not anew for each instance: with hundreds of them that grows with the square.
        let mut neighbours = self.neighbours.borrow_mut();
        if !neighbours.as_ref().is_some_and(|(of, _)| Arc::ptr_eq(of, &cluster)) {
            let all = cluster.node(this.node).instances.iter().copied().map(known).collect();
            *neighbours = Some((cluster.clone(), all));
        }
        let others = neighbours.as_ref().map_or(&[][..], |(_, all)| all);
        let journal = self.journal.last(&this.name);
        // Where the disk hangs, copies are kept in memory.
        let hangs = self.clerk.hangs_for().is_some();
        let keep = if hangs { &self.places.run } else { &self.places.state };
        let context = leftover::Context {
            tree: &self.tree,
            journal: &journal,
            me: &known(instance),
            others,
            keep: &keep.join("leftovers"),
        };
        f(&context, &this.unit)
    }
}

/// Whether a disk takes nothing any more, full or read-only.
fn is_of_disk(cause: &io::Error) -> bool {
    use io::ErrorKind::{QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    matches!(cause.kind(), StorageFull | QuotaExceeded | ReadOnlyFilesystem)
}
