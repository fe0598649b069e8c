//! The agent's shell in the simulated world: inputs in, actions out, by the same order as `agent::shell`.

use super::agent::{self, Agent, Held};
use super::ground::{Held as Process, Soil};
use super::machine::Watch;
use super::{Event, Violation, World};
use crate::engine::view::Wish;
use crate::engine::{Action, Engine, Found, Input, Memory};
use crate::facts::Exit;
use crate::journal::{self, Journal, Record, Searched};
use crate::leftover::{self, Mode};
use crate::model::{InstanceIx, NodeIx, Unit};
use crate::process::Journalled;
use crate::sim::Step;
use crate::sim::sabotage::{Sabotage, Saboteur};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// How long a disk takes at most until it keeps what was written: longer than some stops.
const MOST_SYNC: Duration = Duration::from_millis(100);
/// How often a killed tree is looked at.
const SWEEP_LOOK: Duration = Duration::from_millis(5);

impl World<'_, '_> {
    /// An agent begins: it reads its state, looks for what runs, and follows its peers.
    pub(super) fn start_agent(&mut self, node: NodeIx) -> Result<(), Violation> {
        let n = node.0 as usize;
        let machine = &mut self.machines[n];
        if !machine.up || machine.agent.is_some() || machine.going_down {
            return Ok(());
        }
        let files = &mut machine.files;
        if !machine.broken_config {
            // A full disk is a problem that is told, and no reason not to begin.
            let _ = agent::last_good().write_on(files, &self.cluster.hash);
        } else if !matches!(agent::last_good().read_on(files), Ok(Some(_))) {
            return Ok(()); // refused, and there is no last good one: its init tries again when the file is mended
        }
        let kept = agent::wishes().read_on(files).ok().flatten().map(|stored| stored.value);
        let held: HashMap<InstanceIx, Wish> = kept
            .unwrap_or_default()
            .into_iter()
            .filter_map(|(name, wish)| Some((*self.names.get(name.as_str())?, wish)))
            .collect();
        machine.runs += 1;
        let now = machine.read_clock(self.now);
        let engine = Engine::within(self.layout.clone(), node, &held, now);
        let machine = &mut self.machines[n];
        machine.agent = Some(Box::new(Agent {
            run: machine.runs,
            engine,
            saboteur: self.sabotage.map(Saboteur::new),
            journal: Journal::new(agent::run_folder(), machine.boot.clone()),
            held: BTreeMap::new(),
            to_adopt: BTreeMap::new(),
            probers: BTreeMap::new(),
            news: BTreeSet::new(),
            memories: BTreeMap::new(),
            wishes: Vec::new(),
            links: BTreeMap::new(),
            readers: BTreeSet::new(),
            orders: 0,
            finished: false,
            chance: self.chance.branch(u64::from(node.0) << 32 | u64::from(machine.runs)),
            wake: None,
            made: 0,
        }));
        self.find_targets(node);
        let at = self.now;
        if let Some(agent) = &self.machines[n].agent {
            for watcher in self.watchers.iter_mut() {
                watcher.agent(at, node, Some(&agent.engine)).map_err(|why| Violation { at, why })?;
            }
        }
        self.search_all(node)?;
        self.follow_peers(node);
        self.can_be_followed(node);
        Ok(())
    }

    fn search_all(&mut self, node: NodeIx) -> Result<(), Violation> {
        let cluster = self.cluster.clone();
        let marked = self.machines[node.0 as usize].marked(|ix| cluster.instance(ix).name.to_string());
        for &instance in &cluster.node(node).instances {
            if self.machines[node.0 as usize].agent.is_none() {
                break;
            }
            let input = self.search(node, instance, &marked);
            self.feed(node, input)?;
        }
        for &instance in &cluster.node(node).instances {
            self.is_known(node, instance)?;
        }
        Ok(())
    }

    fn search(&mut self, node: NodeIx, instance: InstanceIx, marked: &[crate::process::Marked]) -> Input {
        let cluster = self.cluster.clone();
        let name = &cluster.instance(instance).name;
        let machine = &mut self.machines[node.0 as usize];
        let record = match &machine.agent {
            Some(agent) => agent.journal.read(&mut machine.files, name).ok().flatten(),
            None => None,
        };
        let boot = machine.boot.clone();
        let unit = &cluster.instance(instance).unit;
        let rash = self.sabotage == Some(Sabotage::JudgesRashly);
        let mut soil = soil(machine, &cluster, instance, rash);
        let known = (record, &boot);
        let Searched { found, held, journal } = journal::search(&mut &mut soil, name, known, marked, unit);
        if let Some(record) = journal {
            self.write_journal(node, instance, &record);
        }
        if let (Found::Running { memory, .. }, Some((process, nonce))) = (&found, held) {
            self.hold(node, instance, memory.incarnation, nonce, process);
        }
        Input::Searched { instance, found }
    }

    fn agent(&mut self, node: NodeIx) -> Option<&mut Agent> {
        self.machines[node.0 as usize].agent.as_deref_mut()
    }

    fn write_journal(&mut self, node: NodeIx, instance: InstanceIx, record: &Record) -> bool {
        let machine = &mut self.machines[node.0 as usize];
        let Some(agent) = &machine.agent else { return false };
        agent.journal.write(&mut machine.files, &self.cluster.instance(instance).name, record).is_ok()
    }

    fn hold(
        &mut self,
        node: NodeIx,
        instance: InstanceIx,
        incarnation: u64,
        nonce: String,
        process: Process,
    ) {
        let Some(agent) = self.agent(node) else { return };
        let run = agent.run;
        agent.held.insert(instance, Held { process: process.clone(), incarnation, nonce });
        if let Some(process) = self.machines[node.0 as usize].same(process.pid, process.serial) {
            process.watches.push(Watch { run, incarnation });
        }
    }

    /// Feeds the engine, does what it says, and feeds it what came of that at once, until all is done.
    pub(super) fn feed(&mut self, node: NodeIx, input: Input) -> Result<(), Violation> {
        let n = node.0 as usize;
        let at = self.now;
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let now = self.clock(node);
            let machine = &mut self.machines[n];
            let (boot, Some(agent)) = (machine.boots, &mut machine.agent) else { return Ok(()) };
            let jitter = agent.chance.below(1001) as u16;
            self.inputs += 1;
            let shown = (!self.watchers.is_empty()).then(|| input.clone());
            let actions = match &mut agent.saboteur {
                Some(saboteur) => saboteur.handle(&mut agent.engine, now, jitter, input),
                None => agent.engine.handle(now, jitter, input),
            };
            if let Some(input) = &shown {
                let (run, engine) = (agent.run, &agent.engine);
                let step = Step { at, node, boot, run, now, input, actions: &actions, engine };
                for watcher in self.watchers.iter_mut() {
                    watcher.step(&step).map_err(|why| Violation { at, why })?;
                }
            }
            self.begin_to_save_wishes(node, journal::new_wishes(&actions, &self.cluster));
            if self.machines[n].files.is_struck() {
                return self.strike(node);
            }
            for action in actions {
                if action.relies_on_wishes() {
                    self.settle_wishes(node);
                }
                inputs.extend(self.act(node, action).map_err(|why| Violation { at, why })?);
                if self.machines[n].files.is_struck() {
                    return self.strike(node);
                }
            }
        }
        self.send_news(node);
        self.remember_all(node);
        if self.machines[n].files.is_struck() {
            return self.strike(node);
        }
        self.set_wake(node);
        if self.agent(node).is_some_and(|agent| agent.finished) {
            self.power_off(node)?;
        }
        Ok(())
    }

    fn set_wake(&mut self, node: NodeIx) {
        let machine = &mut self.machines[node.0 as usize];
        let powered = machine.powered;
        let Some(agent) = &mut machine.agent else { return };
        let Some(wake) = agent.engine.next_wake() else { return };
        if agent.wake.is_none_or(|entered| wake < entered) {
            agent.wake = Some(wake);
            let (run, at) = (agent.run, powered + Duration::from_nanos(wake.0));
            self.queue.push(at.max(self.now), Event::Wake { node, run });
        }
    }

    pub(super) fn wake(&mut self, node: NodeIx, run: u32) -> Result<(), Violation> {
        let now = self.clock(node);
        let Some(agent) = self.agent(node).filter(|a| a.run == run) else { return Ok(()) };
        agent.wake = None;
        if agent.engine.next_wake().is_some_and(|at| at <= now) {
            self.feed(node, Input::TimeCame)
        } else {
            self.set_wake(node);
            Ok(())
        }
    }

    /// Does one action. What came of it at once is the next input.
    fn act(&mut self, node: NodeIx, action: Action) -> Result<Option<Input>, String> {
        match action {
            Action::Pace { question, every } => self.pace(node, question, every),
            Action::Verify { question } => self.verify(node, question),
            Action::Clean { instance } => return self.clean(node, instance).map(Some),
            Action::Spawn { instance, memory, unit } => {
                return self.spawn(node, instance, memory, unit).map(Some);
            }
            Action::Adopt { instance, pid, memory, unit } => {
                return self.adopt(node, instance, pid, memory, unit).map(Some);
            }
            Action::FindMain { instance, memory } => return Ok(Some(self.find_main(node, instance, memory))),
            Action::Remember { instance, memory } => {
                if let Some(agent) = self.agent(node) {
                    agent.memories.insert(instance, memory);
                }
            }
            Action::Signal { instance, incarnation, signal } => {
                self.goes_after_its_dependents(node, instance)?;
                self.remember_now(node, instance);
                let held = self.agent(node).and_then(|a| a.held.get(&instance)).cloned();
                if let Some(held) = held.filter(|h| h.incarnation == incarnation) {
                    self.is_its_own(node, instance, &held.process)?;
                    self.signal(node, held.process.pid, held.process.serial, signal);
                }
            }
            Action::Sweep { instance, incarnation } => return self.sweep(node, instance, incarnation),
            Action::Release { .. } => {} // machines of this world have no addresses
            Action::Publish { instance } => {
                if let Some(agent) = self.agent(node) {
                    agent.news.insert(instance);
                }
            }
            Action::Finished => {
                if let Some(agent) = self.agent(node) {
                    agent.finished = true;
                }
            }
            // Wishes are saved before what relies on them; nobody here waits for replies, or reads events.
            Action::SaveWish { .. } | Action::Record(_) | Action::Reply { .. } => {}
        }
        Ok(None)
    }

    fn begin_to_save_wishes(&mut self, node: NodeIx, new: Vec<(String, Wish)>) {
        if new.is_empty() {
            return;
        }
        self.settle_wishes(node);
        let Some(agent) = self.agent(node) else { return };
        agent.wishes = new;
        let (run, takes) = (agent.run, agent.chance.time(Duration::ZERO, MOST_SYNC));
        self.queue.push(self.now + takes, Event::WishesKept { node, run });
    }

    /// The disk has taken the wishes that were being saved, or could not.
    pub(super) fn settle_wishes(&mut self, node: NodeIx) {
        let machine = &mut self.machines[node.0 as usize];
        let Some(agent) = &mut machine.agent else { return };
        let new = std::mem::take(&mut agent.wishes);
        if new.is_empty() {
            return;
        }
        // What could not be written is done, and will not survive a reboot.
        let kept = journal::save_wishes(&agent::wishes(), &mut machine.files, new).is_ok();
        self.watchers.iter_mut().for_each(|watcher| watcher.wishes_settled(node, kept));
    }

    fn remember_all(&mut self, node: NodeIx) {
        let Some(agent) = self.agent(node) else { return };
        for (instance, memory) in std::mem::take(&mut agent.memories) {
            self.remember(node, instance, memory);
        }
    }

    fn remember_now(&mut self, node: NodeIx, instance: InstanceIx) {
        if let Some(memory) = self.agent(node).and_then(|a| a.memories.remove(&instance)) {
            self.remember(node, instance, memory);
        }
    }

    fn remember(&mut self, node: NodeIx, instance: InstanceIx, memory: Memory) {
        let machine = &mut self.machines[node.0 as usize];
        let Some(agent) = &machine.agent else { return };
        let Some(unit) = agent.engine.unit(instance).cloned() else { return };
        let held = agent.held.get(&instance).filter(|h| h.incarnation == memory.incarnation);
        let living =
            held.and_then(|h| machine.processes.get(&h.process.pid).filter(|p| p.serial == h.process.serial));
        let record = Record {
            boot: machine.boot.clone(),
            identity: living.map(|p| machine.identity(p)),
            nonce: held.map(|h| h.nonce.clone()).unwrap_or_default(),
            unit,
            memory,
            printed_from: None,
            invocation: None,
        };
        self.write_journal(node, instance, &record);
    }

    fn clean(&mut self, node: NodeIx, instance: InstanceIx) -> Result<Input, String> {
        let cluster = self.cluster.clone();
        let this = cluster.instance(instance);
        let rash = self.sabotage == Some(Sabotage::JudgesRashly);
        let machine = &mut self.machines[node.0 as usize];
        let journalled = match &machine.agent {
            Some(agent) => agent.journal.last(&mut machine.files, &this.name).unwrap_or_default(),
            None => Journalled::Nothing,
        };
        let mut soil = soil(machine, &cluster, instance, rash);
        let outcome = leftover::clean_on(&mut soil, &journalled, &this.unit, Mode::Remove);
        let (killed, harm) = (std::mem::take(&mut soil.killed), soil.harm.take());
        if let Some(harm) = harm {
            return Err(format!("no harm: {harm}"));
        }
        for process in killed {
            self.ended(node, &process, Exit::Signal(nix::libc::SIGKILL));
        }
        if let Some(agent) = self.agent(node) {
            match outcome.main {
                Some(process) => agent.to_adopt.insert(instance, process),
                None => agent.to_adopt.remove(&instance),
            };
        }
        Ok(Input::Cleaned { instance, cleaned: outcome.cleaned })
    }

    fn spawn(
        &mut self,
        node: NodeIx,
        instance: InstanceIx,
        memory: Memory,
        unit: Arc<Unit>,
    ) -> Result<Input, String> {
        let now = self.clock(node);
        let incarnation = memory.incarnation;
        let failed = |reason: &str| {
            Ok(Input::SpawnFailed { instance, incarnation, reason: reason.to_owned(), shortage: true })
        };
        let nonce = format!("{:x}-{incarnation}", now.0);
        let boot = self.machines[node.0 as usize].boot.clone();
        let mut record =
            Record { boot, identity: None, nonce, unit, memory, printed_from: None, invocation: None };
        if let Some(agent) = self.agent(node) {
            agent.memories.remove(&instance);
        }
        if !self.write_journal(node, instance, &record) {
            return failed("the journal cannot be written");
        }
        let (pid, serial) = self.exec(node, instance, &record.unit, &record.nonce)?;
        let machine = &self.machines[node.0 as usize];
        record.identity = machine.processes.get(&pid).map(|p| machine.identity(p));
        record.memory.spawned = self.clock(node);
        self.write_journal(node, instance, &record);
        self.hold(node, instance, incarnation, record.nonce, Process { pid, serial });
        Ok(Input::Spawned { instance, incarnation, pid })
    }

    fn adopt(
        &mut self,
        node: NodeIx,
        instance: InstanceIx,
        pid: i32,
        memory: Memory,
        unit: Arc<Unit>,
    ) -> Result<Input, String> {
        let incarnation = memory.incarnation;
        let judged = self.agent(node).and_then(|agent| {
            agent.memories.remove(&instance);
            agent.to_adopt.remove(&instance)
        });
        let machine = &mut self.machines[node.0 as usize];
        let judged = judged.filter(|p| p.pid == pid && machine.same(p.pid, p.serial).is_some());
        let Some(process) = judged else {
            let (last_words, exit) = (String::new(), Exit::Unknown);
            return Ok(Input::Exited { instance, incarnation, exit, last_words, alone: false });
        };
        let identity = machine.processes.get(&pid).map(|p| machine.identity(p));
        let record = Record {
            boot: machine.boot.clone(),
            identity,
            nonce: String::new(),
            unit,
            memory,
            printed_from: None,
            invocation: None,
        };
        self.is_its_own(node, instance, &process)?;
        self.write_journal(node, instance, &record);
        self.hold(node, instance, incarnation, String::new(), process);
        Ok(Input::Adopted { instance, incarnation, pid })
    }

    fn find_main(&mut self, node: NodeIx, instance: InstanceIx, memory: Memory) -> Input {
        self.remember_now(node, instance);
        let incarnation = memory.incarnation;
        let machine = &mut self.machines[node.0 as usize];
        let agent = machine.agent.as_ref();
        let missing = |reason: String, empty| Input::MainMissing { instance, incarnation, reason, empty };
        let Some(unit) = agent.and_then(|a| a.engine.unit(instance).cloned()) else {
            return missing(String::new(), true);
        };
        match machine.find_main(&unit, instance) {
            Ok(process) => {
                let nonce = agent.and_then(|a| a.held.get(&instance)).map(|h| h.nonce.clone());
                let nonce = nonce.unwrap_or_default();
                let (boot, identity) = (machine.boot.clone(), Some(machine.identity(process)));
                let (pid, process) = (process.pid, Process::from(process));
                let memory = Memory { main: true, ..memory };
                let record = Record {
                    boot,
                    identity,
                    nonce: nonce.clone(),
                    unit,
                    memory,
                    printed_from: None,
                    invocation: None,
                };
                self.write_journal(node, instance, &record);
                self.hold(node, instance, incarnation, nonce, process);
                Input::MainFound { instance, incarnation, pid }
            }
            Err(reason) => {
                let empty = machine.members(instance).next().is_none();
                missing(reason, empty)
            }
        }
    }

    /// Kills what is left of an instance's tree; `Swept` comes when it is gone.
    fn sweep(
        &mut self,
        node: NodeIx,
        instance: InstanceIx,
        incarnation: u64,
    ) -> Result<Option<Input>, String> {
        self.remember_now(node, instance);
        let held = self.agent(node).and_then(|a| a.held.get(&instance)).cloned();
        let machine = &mut self.machines[node.0 as usize];
        let mut doomed: Vec<Process> = machine.members(instance).map(Process::from).collect();
        let killed = doomed.len() as u32;
        if let Some(held) = held.filter(|h| h.incarnation == incarnation)
            && machine.same(held.process.pid, held.process.serial).is_some()
            && !doomed.contains(&held.process)
        {
            doomed.push(held.process);
        }
        for process in &doomed {
            self.is_its_own(node, instance, process)?;
            self.end(node, process.pid, process.serial, Exit::Signal(nix::libc::SIGKILL));
        }
        let Some(agent) = self.agent(node) else { return Ok(None) };
        if agent.held.get(&instance).is_some_and(|h| h.incarnation == incarnation) {
            agent.held.remove(&instance);
        }
        let (run, input) = (agent.run, Input::Swept { instance, incarnation, killed });
        if doomed.is_empty() {
            return Ok(Some(input));
        }
        self.queue.push(self.now + SWEEP_LOOK, Event::Tell { node, run, input: Box::new(input) });
        Ok(None)
    }
}

fn soil<'a>(
    machine: &'a mut super::machine::Machine,
    cluster: &'a crate::model::Cluster,
    instance: InstanceIx,
    rash: bool,
) -> Soil<'a> {
    Soil { machine, cluster, instance, killed: Vec::new(), rash, harm: None }
}
