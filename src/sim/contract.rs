//! The contract between a shell and its engine: what an agent can give it, and what it cannot.
//!
//! The agent's recordings never break it, and neither may the simulator. It is one small state machine for each run
//! of an agent, over the inputs and the actions that came of them:
//!
//! - First each own instance is `Searched`, in the order of the file; so are those that a new configuration brings,
//!   and then comes one `TimeCame`.
//! - What an action brings about at once is the next input, in the order of the actions: `Cleaned` after `Clean`,
//!   `Spawned` or `SpawnFailed` after `Spawn`, `Adopted` (or the `Exited` of one that has just ended) after `Adopt`,
//!   `MainFound` or `MainMissing` after `FindMain`. `Swept` may come there, or at any time later.
//! - A process that is held is `Exited` once at most. `Notified` speaks of an incarnation that was held at some time.
//! - `Answered` comes of a question that is asked, when the answer is news or a `Verify` wanted it; see `Prober` below.
//! - `TimeCame` only when that is due. Moments never go back.
//! - `PeerSaid` only of a neighbour and of its own instances; `PeerLost` only of one that has been heard since.
//! - `Ordered` counts up from 1 and speaks of own instances.
//! - After `Finished` nothing more comes.
//! - Of what systemd runs, the search and what comes of `Spawn` take their time: `Searched`, `Spawned` and `SpawnFailed`
//!   may come later, `MainFound` unasked, and a run may be `Exited` before it was `Spawned`.

use super::{Step, Watcher};
use crate::engine::{Action, Engine, Found, Input, QuestionIx};
use crate::facts::{Answer, Exit, Moment, Verdict};
use crate::model::{Cluster, InstanceIx, NodeIx, RunKind};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// Looks on at any number of agents, and says when one gets what no agent could give.
#[derive(Debug, Default)]
pub struct Contract {
    runs: BTreeMap<NodeIx, Run>,
}

impl Watcher for Contract {
    fn step(&mut self, step: &Step<'_>) -> Result<(), String> {
        let Some(run) = self.runs.get_mut(&step.node) else {
            return Err("an input before the agent began".to_owned());
        };
        run.step(step).map_err(|why| format!("no agent gives this input: {why}"))
    }

    fn agent(&mut self, _at: Duration, node: NodeIx, engine: Option<&Engine>) -> Result<(), String> {
        match engine {
            Some(engine) => self.runs.insert(node, Run::new(engine)),
            None => self.runs.remove(&node),
        };
        Ok(())
    }
}

/// What an action is followed by at once.
#[derive(Debug)]
enum Owed {
    Cleaned(InstanceIx),
    Spawned(InstanceIx, u64),
    Adopted(InstanceIx, u64, i32),
    Main(InstanceIx, u64),
    /// Or later.
    Swept(InstanceIx, u64),
}

impl Owed {
    fn is_met_by(&self, input: &Input) -> bool {
        match (self, input) {
            (Owed::Cleaned(i), Input::Cleaned { instance, .. }) => i == instance,
            (
                Owed::Spawned(i, n),
                Input::Spawned { instance, incarnation, .. }
                | Input::SpawnFailed { instance, incarnation, .. },
            )
            | (
                Owed::Main(i, n),
                Input::MainFound { instance, incarnation, .. }
                | Input::MainMissing { instance, incarnation, .. },
            )
            | (Owed::Adopted(i, n, _), Input::Exited { instance, incarnation, exit: Exit::Unknown, .. })
            | (Owed::Swept(i, n), Input::Swept { instance, incarnation, .. }) => {
                (i, n) == (instance, incarnation)
            }
            (Owed::Adopted(i, n, p), Input::Adopted { instance, incarnation, pid }) => {
                (i, n, p) == (instance, incarnation, pid)
            }
            _ => false,
        }
    }
}

/// One incarnation of an instance, by name: configurations number instances anew.
type Process = (Arc<str>, u64);

/// One run of one agent.
#[derive(Debug)]
struct Run {
    cluster: Arc<Cluster>,
    own: BTreeSet<Arc<str>>,
    now: Moment,
    wake: Option<Moment>,
    /// What comes next: first what actions brought about, then searches, then the look after a new configuration.
    owed: VecDeque<Owed>,
    searches: VecDeque<InstanceIx>,
    look: bool,
    /// How many ends may be told of each: a launcher and its daemon are two.
    held: BTreeMap<Process, u32>,
    /// The latest incarnation of each that was ever held.
    latest: BTreeMap<Arc<str>, u64>,
    sweeps: BTreeSet<Process>,
    /// Of what systemd runs: who is searched, and what was told to start.
    sought: BTreeSet<Arc<str>>,
    started: BTreeSet<Process>,
    questions: HashMap<QuestionIx, Asked>,
    /// Answers to questions that were begun before are an earlier configuration's, whatever their number.
    renumbered: Option<Moment>,
    /// Nodes whose agents were ever of interest, and those whose stream stands.
    neighbours: BTreeSet<String>,
    heard: BTreeSet<String>,
    orders: u64,
    finished: bool,
}

impl Run {
    fn new(engine: &Engine) -> Run {
        let mut run = Run {
            cluster: engine.cluster().clone(),
            own: BTreeSet::new(),
            now: Moment::default(),
            wake: None,
            owed: VecDeque::new(),
            searches: VecDeque::new(),
            look: false,
            held: BTreeMap::new(),
            latest: BTreeMap::new(),
            sweeps: BTreeSet::new(),
            sought: BTreeSet::new(),
            started: BTreeSet::new(),
            questions: HashMap::new(),
            renumbered: None,
            neighbours: BTreeSet::new(),
            heard: BTreeSet::new(),
            orders: 0,
            finished: false,
        };
        run.configure(engine);
        run
    }

    /// Whoever is new is searched.
    fn configure(&mut self, engine: &Engine) {
        self.cluster = engine.cluster().clone();
        let before = std::mem::take(&mut self.own);
        for instance in engine.own_instances() {
            let name = self.name(instance);
            if before.contains(&name) {
            } else if self.is_by_systemd(instance) {
                self.sought.insert(name.clone());
            } else {
                self.searches.push_back(instance);
            }
            self.own.insert(name);
        }
        let names = engine.neighbours().into_iter().map(|n| self.cluster.node(n).name.clone());
        self.neighbours.extend(names);
    }

    fn is_by_systemd(&self, instance: InstanceIx) -> bool {
        let instance = self.cluster.instances.get(instance.0 as usize);
        instance.is_some_and(|i| i.unit.run.kind == RunKind::Systemd)
    }

    fn name(&self, instance: InstanceIx) -> Arc<str> {
        self.cluster.instances.get(instance.0 as usize).map_or_else(|| "".into(), |i| i.name.clone())
    }

    fn step(&mut self, step: &Step<'_>) -> Result<(), String> {
        if step.now < self.now {
            return Err(format!("the clock went back from {} to {}", self.now.0, step.now.0));
        }
        self.now = step.now;
        if !Arc::ptr_eq(&self.cluster, step.engine.cluster()) {
            self.reconfigured(step.engine)?;
        }
        self.take(step.input)?;
        for action in step.actions {
            self.follow(action);
        }
        self.wake = step.engine.next_wake();
        Ok(())
    }

    /// Another configuration was put in force before this step.
    fn reconfigured(&mut self, engine: &Engine) -> Result<(), String> {
        let later = |owed: &Owed| matches!(owed, Owed::Swept(..));
        if !self.owed.iter().all(later) || !self.searches.is_empty() || self.look {
            return Err("a new configuration, while what was begun under the old one is not told".to_owned());
        }
        while let Some(owed) = self.owed.pop_front() {
            self.sweep_later(&owed);
        }
        self.questions.clear();
        self.renumbered = Some(self.now);
        self.look = true;
        self.configure(engine);
        Ok(())
    }

    fn take(&mut self, input: &Input) -> Result<(), String> {
        while let Some(owed) = self.owed.pop_front() {
            if owed.is_met_by(input) {
                self.hold(input);
                return Ok(());
            }
            if !self.sweep_later(&owed) {
                return Err(format!("{owed:?} comes first"));
            }
        }
        if let Some(next) = self.searches.pop_front() {
            return match input {
                Input::Searched { instance, found } if *instance == next => {
                    if let Found::Running { memory, .. } = found {
                        self.held_one_more(next, memory.incarnation);
                    }
                    Ok(())
                }
                _ => Err(format!("{} is searched first", self.name(next))),
            };
        }
        if std::mem::take(&mut self.look) {
            return match input {
                Input::TimeCame => Ok(()),
                _ => Err("after a new configuration the engine looks around first".to_owned()),
            };
        }
        if self.finished {
            return Err("the agent has ended".to_owned());
        }
        self.take_unasked(input)
    }

    /// What nothing makes come at this very moment.
    fn take_unasked(&mut self, input: &Input) -> Result<(), String> {
        match input {
            Input::Searched { instance, found } => {
                if !self.sought.remove(&self.name(*instance)) {
                    return Err(format!("{} was searched already", self.name(*instance)));
                }
                if let Found::Running { memory, .. } = found {
                    self.held_one_more(*instance, memory.incarnation);
                }
                Ok(())
            }
            Input::Spawned { instance, incarnation, .. }
            | Input::SpawnFailed { instance, incarnation, .. }
                if self.started.remove(&(self.name(*instance), *incarnation)) =>
            {
                self.hold(input);
                Ok(())
            }
            Input::MainFound { instance, .. } if self.is_by_systemd(*instance) => Ok(()),
            Input::Cleaned { .. }
            | Input::Spawned { .. }
            | Input::SpawnFailed { .. }
            | Input::Adopted { .. }
            | Input::MainFound { .. }
            | Input::MainMissing { .. } => Err("no action has just asked for it".to_owned()),
            Input::Exited { instance, incarnation, .. } => {
                let process = (self.name(*instance), *incarnation);
                match self.held.get_mut(&process) {
                    Some(1) => drop(self.held.remove(&process)),
                    Some(more) => *more -= 1,
                    None if self.started.remove(&process) => {}
                    None => return Err(format!("no process of {}/{} is held", process.0, process.1)),
                }
                Ok(())
            }
            Input::Notified { instance, incarnation, .. } => {
                let name = self.name(*instance);
                match self.latest.get(&name) {
                    Some(latest) if incarnation <= latest => Ok(()),
                    _ => Err(format!("no process of {name}/{incarnation} was ever held")),
                }
            }
            Input::Swept { instance, incarnation, .. } => {
                let process = (self.name(*instance), *incarnation);
                match self.sweeps.remove(&process) {
                    true => Ok(()),
                    false => Err(format!("{}/{} is not being swept", process.0, process.1)),
                }
            }
            Input::Answered { question, answer } => self.answered(*question, answer),
            Input::PeerSaid { node, words } => {
                let name = self.neighbour(*node)?;
                let of = |ix: &InstanceIx| self.cluster.instances.get(ix.0 as usize).map(|i| i.node);
                if !words.iter().all(|(ix, _)| of(ix) == Some(*node)) {
                    return Err(format!("{name} speaks for an instance of another node"));
                }
                self.heard.insert(name);
                Ok(())
            }
            Input::PeerLost { node } => {
                let name = self.neighbour(*node)?;
                match self.heard.remove(&name) {
                    true => Ok(()),
                    false => Err(format!("{name} was not heard since it was lost")),
                }
            }
            Input::Ordered(order) => {
                self.orders += 1;
                if order.id != self.orders {
                    return Err(format!("order {} comes as number {}", order.id, self.orders));
                }
                match order.instances.iter().find(|i| !self.own.contains(&self.name(**i))) {
                    Some(foreign) => Err(format!("{} is not an own instance", self.name(*foreign))),
                    None => Ok(()),
                }
            }
            Input::ShutdownBegan => Ok(()),
            Input::TimeCame if self.wake.is_some_and(|at| at <= self.now) => Ok(()),
            Input::TimeCame => Err("it is not due".to_owned()),
        }
    }

    /// Notes what an action asks for.
    fn follow(&mut self, action: &Action) {
        match action {
            Action::Pace { question, every } => {
                self.questions.entry(*question).or_default().pace(self.now, *every);
            }
            Action::Verify { question } => self.questions.entry(*question).or_default().verify(self.now),
            Action::Clean { instance } => self.owed.push_back(Owed::Cleaned(*instance)),
            Action::Spawn { instance, memory, unit } if unit.run.kind == RunKind::Systemd => {
                self.started.insert((self.name(*instance), memory.incarnation));
            }
            Action::Spawn { instance, memory, .. } => {
                self.owed.push_back(Owed::Spawned(*instance, memory.incarnation));
            }
            Action::Adopt { instance, pid, memory, .. } => {
                self.owed.push_back(Owed::Adopted(*instance, memory.incarnation, *pid));
            }
            Action::FindMain { instance, memory } => {
                self.owed.push_back(Owed::Main(*instance, memory.incarnation));
            }
            Action::Sweep { instance, incarnation } => {
                self.owed.push_back(Owed::Swept(*instance, *incarnation));
            }
            Action::Finished => self.finished = true,
            Action::Remember { .. }
            | Action::Signal { .. }
            | Action::Release { .. }
            | Action::SaveWish { .. }
            | Action::Publish { .. }
            | Action::Record(_)
            | Action::Reply { .. } => {}
        }
    }

    /// A process is held from these on.
    fn hold(&mut self, input: &Input) {
        if let Input::Spawned { instance, incarnation, .. }
        | Input::Adopted { instance, incarnation, .. }
        | Input::MainFound { instance, incarnation, .. } = input
        {
            self.held_one_more(*instance, *incarnation);
        }
    }

    fn held_one_more(&mut self, instance: InstanceIx, incarnation: u64) {
        let name = self.name(instance);
        self.latest.insert(name.clone(), incarnation);
        *self.held.entry((name, incarnation)).or_default() += 1;
    }

    /// Whether this can come later; then it is noted.
    fn sweep_later(&mut self, owed: &Owed) -> bool {
        let Owed::Swept(instance, incarnation) = owed else { return false };
        self.sweeps.insert((self.name(*instance), *incarnation));
        true
    }

    fn neighbour(&self, node: NodeIx) -> Result<String, String> {
        let name = self.cluster.nodes.get(node.0 as usize).map_or("", |n| &n.name);
        match self.neighbours.contains(name) {
            true => Ok(name.to_owned()),
            false => Err(format!("nobody follows the agent of node {name}")),
        }
    }

    fn answered(&mut self, question: QuestionIx, answer: &Answer) -> Result<(), String> {
        if answer.begun > answer.ended || answer.ended > self.now {
            return Err("it ended before it was begun, or has not ended yet".to_owned());
        }
        let asked = self.questions.entry(question).or_default();
        if let Some(prober) = asked.prober.as_mut().filter(|p| answer.begun >= p.made) {
            return prober.tells(answer);
        }
        // One that was under way when nobody wanted it any more.
        let late = |ended: Option<Moment>| ended.is_some_and(|at| answer.begun <= at);
        if late(asked.dropped) || late(self.renumbered) {
            return Ok(());
        }
        Err("nobody asks this question".to_owned())
    }
}

/// One question: there is a prober while somebody wants it asked.
#[derive(Debug, Default)]
struct Asked {
    prober: Option<Prober>,
    /// When the one before was let go.
    dropped: Option<Moment>,
}

impl Asked {
    fn pace(&mut self, now: Moment, every: Option<Duration>) {
        match every {
            Some(_) => self.prober.get_or_insert_with(|| Prober::new(now)).paced = true,
            None if self.prober.take().is_some() => self.dropped = Some(now),
            None => {}
        }
    }

    fn verify(&mut self, now: Moment) {
        let wanted = &mut self.prober.get_or_insert_with(|| Prober::new(now)).wanted;
        if wanted.len() < MOST_WANTED {
            wanted.push(now);
        }
    }
}

/// At most two questions are under way and one waits, and a few answers may lie in the agent's inbox: of more `Verify`s
/// before an answer some are answered together.
const MOST_WANTED: usize = 16;
/// How many answers at most can still come of `Verify`s that are older than the question that was answered last: one
/// that is under way, and one that waits for its end.
const MOST_STILL_WANTED: usize = 2;

/// What `probe::prober` tells, seen from outside. Answers come in the order in which their questions were begun. One
/// that looks like the one before is told only because of a `Verify` from before its question; one that differs is
/// told in any case, if the question is asked at all. It is not told which of the two it was.
#[derive(Debug)]
struct Prober {
    made: Moment,
    paced: bool,
    told: Option<(Moment, Verdict)>,
    /// When `Verify`s were asked that may still be answered, oldest first.
    wanted: Vec<Moment>,
}

impl Prober {
    fn new(made: Moment) -> Prober {
        Prober { made, paced: false, told: None, wanted: Vec::new() }
    }

    fn tells(&mut self, answer: &Answer) -> Result<(), String> {
        let before = self.told.replace((answer.begun, answer.verdict.clone()));
        let (mut last, mut news) = (Moment::default(), true);
        if let Some((begun, verdict)) = before {
            (last, news) = (begun, !verdict.looks_same(&answer.verdict));
        }
        if answer.begun < last {
            return Err("a question that was begun later is answered already".to_owned());
        }
        // News at a pace may or may not have been a verification; anything else must have been one.
        if !news || !self.paced {
            if self.wanted.first().is_none_or(|at| *at > answer.begun) {
                return Err(match news {
                    true => "the question is not asked at any pace, and no Verify is unanswered".to_owned(),
                    false => "it is the answer that was told before, and no Verify is unanswered".to_owned(),
                });
            }
            self.wanted.remove(0);
        }
        let earlier = self.wanted.iter().filter(|at| **at <= answer.begun).count();
        self.wanted.drain(..earlier.saturating_sub(MOST_STILL_WANTED));
        Ok(())
    }
}

#[cfg(test)]
mod tests;
