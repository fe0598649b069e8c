//! What the agent does to processes and files: each action of the engine that touches the machine.
//!
//! Everything here is quick and done at once.

use super::shell::{Held, Message, Shell};
use crate::engine::{Found, Input, Memory};
use crate::facts::Exit;
use crate::journal::{self, Record, Searched};
use crate::leftover;
use crate::model::{InstanceIx, Unit};
use crate::process::{Handle, Identity, Marked, NotYet, Spawn, Tree, output};
use nix::libc;
use std::collections::HashSet;
use std::os::fd::AsFd;
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

    /// Looks for what already runs of an instance: by the journal, then by marks.
    pub fn search(self: &Rc<Self>, instance: InstanceIx, marked: &[Marked]) -> Input {
        let name = self.name(instance);
        let unit = self.cluster().instance(instance).unit.clone();
        let known = (self.journal.read(&name), self.journal.boot());
        let Searched { found, held, journal } = journal::search(&mut &self.tree, &name, known, marked, &unit);
        if let Some(record) = journal {
            self.write_journal(&name, &record);
        }
        if let (Found::Running { memory, unit: started, .. }, Some((handle, nonce))) = (&found, held) {
            self.hold(&name, memory.incarnation, nonce, handle);
            self.listen_again(&name, memory.incarnation, started.as_ref().unwrap_or(&unit));
        }
        Input::Searched { instance, found }
    }

    /// Keeps a process, and waits for its end.
    fn hold(self: &Rc<Self>, name: &Arc<str>, incarnation: u64, nonce: String, handle: Handle) {
        // Only what an agent has started: one adopted from a login would bring that session along.
        if !nonce.is_empty() {
            self.tree.remember(name, handle.identity());
        }
        let handle = Rc::new(handle);
        let exited = handle.exited();
        self.held.borrow_mut().insert(name.clone(), Held { handle: handle.clone(), incarnation, nonce });
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

    /// The last lines that an ended incarnation printed.
    pub fn last_words(&self, name: &str, _incarnation: u64) -> String {
        let lines = output::tail(&self.places.output(name), LAST_WORDS_LINES, LAST_WORDS_BYTES);
        lines.map(|lines| lines.join(" | ")).unwrap_or_default()
    }

    pub(super) fn spawn(self: &Rc<Self>, instance: InstanceIx, memory: Memory, unit: Arc<Unit>) -> Input {
        let name = self.name(instance);
        let incarnation = memory.incarnation;
        let failed = |reason: String| Input::SpawnFailed { instance, incarnation, reason };
        let nonce = format!("{:x}-{incarnation}", crate::clock::now().0);
        let mut record = Record { boot: self.journal.boot().clone(), identity: None, nonce, unit, memory };
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
            output: &self.places.output(&name),
            ready: ready.as_ref().map(AsFd::as_fd),
        }
        .spawn();
        match spawned {
            Ok(handle) => {
                record.identity = Some(handle.identity().clone());
                record.memory.spawned = crate::clock::now();
                self.write_journal(&name, &record);
                let pid = handle.pid();
                self.hold(&name, incarnation, record.nonce, handle);
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
                let record = Record {
                    boot: self.journal.boot().clone(),
                    identity: Some(identity),
                    nonce: String::new(),
                    unit,
                    memory,
                };
                self.write_journal(&name, &record);
                self.hold(&name, incarnation, String::new(), handle);
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
                let nonce = self.held.borrow().get(&name).map(|h| h.nonce.clone()).unwrap_or_default();
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
                    },
                );
                self.hold(&name, incarnation, nonce, handle);
                Input::MainFound { instance, incarnation, pid }
            }
            Err(NotYet(reason)) => {
                let empty = self.tree.members(&name).is_ok_and(|members| members.is_empty())
                    && (self.tree.without_cgroups().is_none() || !self.has_orphans());
                let reason = if empty { self.or_last_words(&name, reason) } else { reason };
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

    fn or_last_words(&self, name: &str, reason: String) -> String {
        let words = self.last_words(name, 0);
        if words.is_empty() { reason } else { words }
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
        self.write_journal(
            &name,
            &Record { boot: self.journal.boot().clone(), identity, nonce, unit, memory },
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

    pub(super) fn let_go(&self, name: &Arc<str>, incarnation: u64) {
        let mut held = self.held.borrow_mut();
        if held.get(name).is_some_and(|h| h.incarnation == incarnation) {
            held.remove(name);
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
        // Made once, not anew for each instance: with hundreds of them that grows with the square.
        let mut neighbours = self.neighbours.borrow_mut();
        if !neighbours.as_ref().is_some_and(|(of, _)| Arc::ptr_eq(of, &cluster)) {
            let all = cluster.node(this.node).instances.iter().copied().map(known).collect();
            *neighbours = Some((cluster.clone(), all));
        }
        let others = neighbours.as_ref().map_or(&[][..], |(_, all)| all);
        let journal = self.journal.identity(&this.name);
        let context = leftover::Context {
            tree: &self.tree,
            journal: journal.as_ref(),
            me: &known(instance),
            others,
            keep: &self.places.state.join("leftovers"),
        };
        leftover::clean(&context, &this.unit, mode)
    }
}
