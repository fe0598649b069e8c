//! What the agent does to processes and files: each action of the engine that touches the machine.
//!
//! Everything here is quick and done at once, but for waiting until a killed tree is gone.

use super::shell::{Held, Message, Shell};
use crate::engine::{Found, Input, Memory};
use crate::facts::Exit;
use crate::journal::{self, Record, Searched};
use crate::leftover;
use crate::model::{InstanceIx, LogLimits, Unit};
use crate::process::{Handle, Identity, Marked, NotYet, Spawn, Tree};
use nix::libc;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// How much of what a daemon printed last goes into an event.
const LAST_WORDS_LINES: usize = 3;
const LAST_WORDS_BYTES: u64 = 4096;
/// How often a killed tree is looked at, and for how long before it is said that it does not go.
const SWEEP_LOOK: Duration = Duration::from_millis(5);
const SWEEP_WARN: Duration = Duration::from_secs(10);
/// How long until a tree that could not be looked at or killed is tried again.
const SWEEP_AGAIN: Duration = Duration::from_millis(200);

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
    fn name(&self, instance: InstanceIx) -> Arc<str> {
        self.cluster().instance(instance).name.clone()
    }

    /// Looks for what already runs of an instance: by the journal, then by marks.
    pub fn search(self: &Rc<Self>, instance: InstanceIx, marked: &[Marked]) -> Input {
        let name = self.name(instance);
        let unit = self.cluster().instance(instance).unit.clone();
        let known = (self.journal.read(&name), self.journal.boot());
        let printed_from = known.0.as_ref().and_then(|record| record.printed_from);
        let Searched { found, held, journal } = journal::search(&mut &self.tree, &name, known, marked, &unit);
        if let Some(record) = journal {
            self.write_journal(&name, &record);
        }
        if let (Found::Running { memory, unit: started, .. }, Some((handle, nonce))) = (&found, held) {
            let started = started.as_ref().unwrap_or(&unit);
            // Where it is not known, what is printed from now on is certainly its own.
            let printed_from = printed_from.or_else(|| self.printed(&name));
            self.hold(&name, Held::new(handle, memory.incarnation, nonce, printed_from), started.log);
            self.listen_again(&name, memory.incarnation, started);
        }
        Input::Searched { instance, found }
    }

    /// Keeps a process, and waits for its end.
    fn hold(self: &Rc<Self>, name: &Arc<str>, it: Held, log: LogLimits) {
        // Only what an agent has started: one adopted from a login would bring that session along.
        if !it.nonce.is_empty() {
            self.tree.remember(name, it.handle.identity());
        }
        let (handle, incarnation) = (it.handle.clone(), it.incarnation);
        let exited = handle.exited();
        self.held.borrow_mut().insert(name.clone(), it);
        self.logs.begun(name, log);
        let (shell, instance) = (self.clone(), name.clone());
        tokio::task::spawn_local(async move {
            if let Err(e) = exited.await {
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
            // The main loop lives as long as this task.
            let _ = shell.messages.send(Message::Exited { instance, incarnation, exit }).await;
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

    pub(super) fn spawn(self: &Rc<Self>, instance: InstanceIx, memory: Memory, unit: Arc<Unit>) -> Input {
        let name = self.name(instance);
        let incarnation = memory.incarnation;
        let failed = |reason: String| Input::SpawnFailed { instance, incarnation, reason };
        let nonce = format!("{:x}-{incarnation}", crate::clock::now().0);
        let printed_from = self.printed(&name);
        let boot = self.journal.boot().clone();
        let mut record = Record { boot, identity: None, nonce, unit, memory, printed_from };
        // A process that is not journalled could be started twice: no journal, no start. This replaces an older memory.
        self.memories.borrow_mut().remove(&instance);
        if let Err(e) = self.journal.write(&name, &record) {
            return failed(format!("the journal in {} cannot be written: {e}", self.places.run.display()));
        }
        let leaf = match self.tree.leaf(&name) {
            Ok(leaf) => leaf,
            Err(e) => {
                tracing::warn!("{name} starts without a cgroup of its own: {e}");
                None
            }
        };
        for text in self.tree.limit(leaf.as_ref(), &record.unit.run.care.cgroup) {
            tracing::warn!("{name}: {text}");
            self.events.borrow_mut().record(&name, "limit-off", &text, serde_json::Value::Null);
        }
        let (told, ready) = match self.listen(&name, incarnation, &record.unit) {
            Ok(told) => told,
            Err(e) => return failed(e.to_string()),
        };
        let spawned = Spawn {
            unit: &told,
            instance: &name,
            nonce: &record.nonce,
            agent: self.tree.agent(),
            leaf: leaf.as_ref(),
            output: &self.logs.path(&name),
            ready: ready.as_ref().map(AsFd::as_fd),
        }
        .spawn();
        match spawned {
            Ok(handle) => {
                record.identity = Some(handle.identity().clone());
                record.memory.spawned = crate::clock::now();
                self.write_journal(&name, &record);
                let pid = handle.pid();
                self.hold(&name, Held::new(handle, incarnation, record.nonce, printed_from), record.unit.log);
                Input::Spawned { instance, incarnation, pid }
            }
            Err(e) => failed(e.to_string()),
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
                };
                self.write_journal(&name, &record);
                self.hold(&name, Held::new(handle, incarnation, String::new(), printed_from), log);
                Some(Input::Adopted { instance, incarnation, pid })
            }
            // It ended between judging and holding.
            None => {
                let last_words = String::new();
                let exit = Exit::Unknown;
                Some(Input::Exited { instance, incarnation, exit, last_words })
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
                let pid = handle.pid();
                let launcher = self.held.borrow().get(&name).map(|h| (h.nonce.clone(), h.printed_from));
                let (nonce, printed_from) = launcher.unwrap_or_default();
                let log = unit.log;
                let memory = Memory { main: true, ..memory };
                let identity = Some(handle.identity().clone());
                self.write_journal(
                    &name,
                    &Record {
                        boot: self.journal.boot().clone(),
                        identity,
                        nonce: nonce.clone(),
                        unit,
                        memory,
                        printed_from,
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

    /// Whether a process that nobody has claimed yet came to us from a daemon's launcher.
    fn has_orphans(&self) -> bool {
        let held: Vec<i32> = self.held.borrow().values().map(|h| h.handle.pid()).collect();
        crate::process::has_orphans(&|pid| held.contains(&pid))
    }

    /// Journals what was kept back.
    pub(super) fn remember_all(&self) {
        let memories = std::mem::take(&mut *self.memories.borrow_mut());
        memories.into_iter().for_each(|(instance, memory)| self.remember(instance, memory));
    }

    /// Journals what was kept back of one instance: what comes next relies on it.
    fn remember_now(&self, instance: InstanceIx) {
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
        self.write_journal(
            &name,
            &Record { boot: self.journal.boot().clone(), identity, nonce, unit, memory, printed_from },
        );
    }

    /// A later line of the journal that cannot be written does not undo what is done; it is said.
    fn write_journal(&self, name: &str, record: &Record) {
        if let Err(e) = self.journal.write(name, record) {
            tracing::error!("cannot journal {name}: {e}; a new agent will search its processes");
        }
    }

    pub(super) fn signal(&self, instance: InstanceIx, incarnation: u64, signal: i32) {
        self.remember_now(instance);
        let name = self.name(instance);
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
    }

    pub(super) fn sweep(self: &Rc<Self>, instance: InstanceIx, incarnation: u64) -> Option<Input> {
        self.remember_now(instance);
        let name = self.name(instance);
        // An adopted process of somebody else is in no tree of ours: it is killed by its own handle.
        if let Some(held) = self.held.borrow().get(&name).filter(|h| h.incarnation == incarnation)
            && held.handle.is_alive()
            && let Err(e) = held.handle.signal(libc::SIGKILL)
        {
            tracing::error!("cannot kill {name} (pid {}): {e}", held.handle.pid());
        }
        let held = self.held.borrow().get(&name).map(|h| h.handle.clone());
        let held_lives = move || held.as_ref().is_some_and(|h| h.is_alive());
        let first = self.kill_left(&name);
        if !held_lives() && first.as_ref().is_some_and(Vec::is_empty) {
            self.let_go(&name, incarnation);
            return Some(Input::Swept { instance, incarnation, killed: 0 });
        }
        let shell = self.clone();
        tokio::task::spawn_local(async move {
            let begun = crate::clock::now();
            let mut said = false;
            let (mut dying, mut killed) = (first, 0);
            loop {
                killed += dying.as_ref().map_or(0, Vec::len) as u32;
                let gone = |dying: &Vec<Handle>| dying.iter().all(|h| !h.is_alive());
                while held_lives() || !dying.as_ref().is_none_or(gone) {
                    tokio::time::sleep(SWEEP_LOOK).await;
                    if !said && crate::clock::now().since(begun) > SWEEP_WARN {
                        said = true;
                        tracing::error!(
                            "processes of {name} do not die although killed; still waiting for them"
                        );
                    }
                }
                // They may have forked until they died: gone is what another look does not find.
                if dying.is_none() {
                    tokio::time::sleep(SWEEP_AGAIN).await;
                }
                dying = shell.kill_left(&name);
                if dying.as_ref().is_some_and(Vec::is_empty) && !held_lives() {
                    break;
                }
            }
            shell.let_go(&name, incarnation);
            let _ = shell.messages.send(Message::Swept { instance: name, incarnation, killed }).await;
        });
        None
    }

    /// Kills what is left of an instance's processes; `None` when that could not be done, and must be tried again.
    fn kill_left(&self, name: &str) -> Option<Vec<Handle>> {
        match self.tree.kill_all(name) {
            Ok(dying) => Some(dying),
            Err(e) => {
                tracing::error!("cannot kill all that is left of {name}, and tries again: {e}");
                None
            }
        }
    }

    fn let_go(&self, name: &Arc<str>, incarnation: u64) {
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
    }

    pub(super) fn clean(&self, instance: InstanceIx) -> Input {
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
        let cluster = self.cluster();
        let this = cluster.instance(instance);
        let known =
            |ix: InstanceIx| leftover::Known::of(&cluster.instance(ix).name, &cluster.instance(ix).unit);
        let here = cluster.node(this.node).instances.iter().copied();
        let others: Vec<_> = here.filter(|ix| *ix != instance).map(known).collect();
        let journal = self.journal.identity(&this.name);
        let context = leftover::Context {
            tree: &self.tree,
            journal: journal.as_ref(),
            me: &known(instance),
            others: &others,
            keep: &self.places.state.join("leftovers"),
        };
        leftover::clean(&context, &this.unit, mode)
    }
}
