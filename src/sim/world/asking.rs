//! Probes: what a question comes to in this world, and when each is asked.
//!
//! A prober asks at every tick of its pace and tells changes only. So here it looks only at the tick after something
//! has changed that it asks about: hours in which nothing happens cost nothing.

use super::agent::{Flight, Prober};
use super::machine::{Phase, Role};
use super::{Daemon, Event, World};
use crate::engine::{Input, QuestionIx, WAITING_PACE};
use crate::facts::{Answer, Moment, Ready, Trouble, Verdict};
use crate::model::{Ask, Cluster, InstanceIx, NodeIx, Probe, Question};
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

/// A MySQL without a login is asked this seldom while all is well, as in `probe::prober`.
const UNVERIFIED: Duration = Duration::from_secs(60);

/// Which instance answers where.
#[derive(Debug, Default)]
pub struct Addresses {
    remote: HashMap<SocketAddr, InstanceIx>,
    local: HashMap<(NodeIx, SocketAddr), InstanceIx>,
    nodes: HashMap<IpAddr, NodeIx>,
    /// What is asked about things outside the cluster.
    outside: HashMap<Question, InstanceIx>,
    /// Programs that are run as probes.
    programs: HashMap<(NodeIx, Question), InstanceIx>,
}

/// What a question is put to.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    pub node: NodeIx,
    /// `None`: nothing ever answers there.
    pub instance: Option<InstanceIx>,
}

impl Addresses {
    pub fn of(cluster: &Cluster) -> Addresses {
        let mut all = Addresses::default();
        for (n, node) in cluster.nodes.iter().enumerate() {
            all.nodes.insert(node.address, NodeIx(n as u32));
        }
        for ix in cluster.outside.instances.iter().copied() {
            if let Some(question) = &cluster.instance(ix).unit.ready.remote {
                all.outside.insert(question.clone(), ix);
            }
        }
        for ix in cluster.instance_ixs() {
            let instance = cluster.instance(ix);
            let local = match &instance.unit.ready.local {
                Probe::Ask(question) => Some(question),
                Probe::Running { .. } | Probe::Notified | Probe::Completed => None,
            };
            for question in local.into_iter().chain(&instance.unit.ready.remote) {
                match question.address() {
                    Some(at) if at.ip().is_loopback() => drop(all.local.insert((instance.node, at), ix)),
                    Some(at) => drop(all.remote.insert(at, ix)),
                    None => drop(all.programs.insert((instance.node, question.clone()), ix)),
                }
            }
        }
        all
    }

    fn target(&self, from: NodeIx, question: &Question) -> Target {
        if let Some(ix) = self.outside.get(question) {
            return Target { node: from, instance: Some(*ix) };
        }
        match question.address() {
            None => Target { node: from, instance: self.programs.get(&(from, question.clone())).copied() },
            Some(at) if at.ip().is_loopback() => {
                Target { node: from, instance: self.local.get(&(from, at)).copied() }
            }
            Some(at) => Target {
                node: self.nodes.get(&at.ip()).copied().unwrap_or(from),
                instance: self.remote.get(&at).copied(),
            },
        }
    }
}

impl World<'_, '_> {
    /// What the questions of a node are put to; found out once.
    pub(super) fn find_targets(&mut self, node: NodeIx) {
        let n = node.0 as usize;
        if !self.targets[n].is_empty() {
            return;
        }
        let Some(agent) = &self.machines[n].agent else { return };
        let mut targets = Vec::new();
        for (ix, question) in agent.engine.questions() {
            let target = self.addresses.target(node, question);
            if let Some(instance) = target.instance {
                self.lookers[instance.0 as usize].push((node, ix));
            }
            targets.push(target);
        }
        self.targets[n] = Rc::new(targets);
    }

    fn prober(&mut self, node: NodeIx, question: QuestionIx) -> Option<&mut Prober> {
        self.machines[node.0 as usize].agent.as_mut()?.probers.get_mut(&question)
    }

    fn with_prober(&mut self, node: NodeIx, question: QuestionIx) -> Option<&mut Prober> {
        let agent = self.machines[node.0 as usize].agent.as_mut()?;
        agent.made += 1;
        let number = agent.made;
        Some(agent.probers.entry(question).or_insert_with(|| Prober::new(number)))
    }

    pub(super) fn pace(&mut self, node: NodeIx, question: QuestionIx, every: Option<Duration>) {
        let Some(every) = every else {
            if let Some(agent) = &mut self.machines[node.0 as usize].agent {
                agent.probers.remove(&question);
            }
            return;
        };
        let Some(prober) = self.with_prober(node, question) else { return };
        let before = prober.pace.replace(every);
        let quickens = every <= WAITING_PACE && before.is_none_or(|b| b > WAITING_PACE);
        let never = prober.begun.is_none();
        if (quickens || never) && prober.current.is_none() {
            self.ask(node, question, false);
        } else if before != Some(every) {
            if let Some(prober) = self.prober(node, question) {
                prober.look = None; // by the new pace
            }
            self.reconsider(node, question);
        }
    }

    pub(super) fn verify(&mut self, node: NodeIx, question: QuestionIx) {
        let Some(prober) = self.with_prober(node, question) else { return };
        if prober.current.as_ref().is_some_and(|f| f.spare && !f.verify) {
            prober.current = None;
        }
        if prober.current.is_some() && prober.older.is_some() {
            prober.verify_waits = true;
            return;
        }
        if let Some(current) = prober.current.take() {
            prober.older = Some(current);
        }
        prober.verify_waits = false;
        self.ask(node, question, true);
    }

    /// Begins to ask.
    fn ask(&mut self, node: NodeIx, question: QuestionIx, verify: bool) {
        let (verdict, takes) = self.truth(node, question);
        let now = self.now;
        let machine = &mut self.machines[node.0 as usize];
        let begun = machine.read_clock(now);
        let Some(agent) = &mut machine.agent else { return };
        let run = agent.run;
        let Some(prober) = agent.probers.get_mut(&question) else { return };
        prober.begun = Some(now);
        prober.look = None;
        prober.flights += 1;
        let (flight, prober_number) = (prober.flights, prober.number);
        let spare = matches!(verdict, Verdict::NotReady { kind: Trouble::Unreachable, .. });
        prober.current = Some(Flight { number: flight, verify, spare, begun, takes, verdict });
        self.queue.push(now + takes, Event::Land { node, run, question, prober: prober_number, flight });
    }

    /// A question ends.
    pub(super) fn land(
        &mut self,
        node: NodeIx,
        question: QuestionIx,
        number: u32,
        flight: u32,
    ) -> Option<Input> {
        let now = self.now;
        let machine = &mut self.machines[node.0 as usize];
        let ended = machine.read_clock(now);
        let agent = machine.agent.as_mut()?;
        let prober = agent.probers.get_mut(&question).filter(|p| p.number == number)?;
        let is_it = |f: &Option<Flight>| f.as_ref().is_some_and(|f| f.number == flight);
        let landed = if is_it(&prober.current) {
            prober.current.take()?
        } else if is_it(&prober.older) {
            prober.older.take()?
        } else {
            return None; // given up
        };
        let mut told = None;
        if prober.heard <= landed.begun {
            prober.heard = landed.begun;
            let news = prober.told.as_ref().is_none_or(|(t, _)| !t.looks_same(&landed.verdict));
            if landed.verify || news {
                prober.told = Some((landed.verdict.clone(), landed.takes));
                let answer = Answer { verdict: landed.verdict, begun: landed.begun, ended };
                told = Some(Input::Answered { question, answer });
            }
        }
        if std::mem::take(&mut prober.verify_waits) {
            self.verify(node, question);
        } else {
            self.reconsider(node, question);
        }
        told
    }

    /// The tick has come at which it finds something new.
    pub(super) fn look(&mut self, node: NodeIx, question: QuestionIx, number: u32) {
        let now = self.now;
        let Some(prober) = self.prober(node, question) else { return };
        if prober.number == number && prober.look == Some(now) && prober.current.is_none() {
            self.ask(node, question, false);
        }
    }

    /// What a question asks about may have changed: does it look, and when?
    fn reconsider(&mut self, node: NodeIx, question: QuestionIx) {
        let Some(prober) = self.prober(node, question) else { return };
        let (Some(pace), None, None) = (prober.pace, prober.look, &prober.current) else { return };
        let (verdict, _) = self.truth(node, question);
        let now = self.now;
        let agent = self.machines[node.0 as usize].agent.as_mut();
        let Some(agent) = agent else { return };
        let run = agent.run;
        let unverified = matches!(agent.engine.question(question).ask, Ask::Mysql { login: None, .. });
        let Some(prober) = agent.probers.get_mut(&question) else { return };
        let at = match (&prober.told, prober.begun) {
            (Some((told, _)), _) if told.looks_same(&verdict) => return,
            (Some((told, takes)), Some(begun)) => {
                let floor = if unverified && told.is_ready() { UNVERIFIED } else { Duration::ZERO };
                let interval = pace.max(floor).max(*takes);
                if begun + interval > now {
                    begun + interval
                } else {
                    now + agent.chance.time(Duration::ZERO, interval)
                }
            }
            _ => now,
        };
        prober.look = Some(at);
        let prober = prober.number;
        self.queue.push(at, Event::Look { node, run, question, prober });
    }

    /// What is asked about this instance has changed.
    pub(super) fn touch(&mut self, instance: InstanceIx) {
        self.steady[instance.0 as usize] = self.now;
        for i in 0..self.lookers[instance.0 as usize].len() {
            let (node, question) = self.lookers[instance.0 as usize][i];
            self.reconsider(node, question);
        }
    }

    /// All that is asked about one node from another has changed; from anywhere, if `from` is `None`.
    pub(super) fn touch_node(&mut self, node: NodeIx, from: Option<NodeIx>) {
        let cluster = self.cluster.clone();
        for &instance in &cluster.node(node).instances {
            self.steady[instance.0 as usize] = self.now;
            for l in 0..self.lookers[instance.0 as usize].len() {
                let (looker, question) = self.lookers[instance.0 as usize][l];
                if from.is_none_or(|from| from == looker) {
                    self.reconsider(looker, question);
                }
            }
        }
    }

    /// What the question comes to if it is asked now, and how long that takes.
    fn truth(&mut self, from: NodeIx, question: QuestionIx) -> (Verdict, Duration) {
        let target = self.targets[from.0 as usize][question.0 as usize];
        let round = self.delay(from, target.node) + self.delay(target.node, from);
        let Some(agent) = &self.machines[from.0 as usize].agent else {
            return (Verdict::ready(""), Duration::ZERO);
        };
        let question = agent.engine.question(question);
        let answer = self.answer(from, target, question);
        match answer {
            Told::Nothing => (Verdict::not_ready(Trouble::Unreachable, "no answer"), question.timeout),
            // It hangs, or the answer comes too late.
            Told::Silence => (
                Verdict::not_ready(Trouble::Silent, "accepts the connection and says nothing"),
                question.timeout,
            ),
            Told::Verdict(_) if round >= question.timeout => {
                (Verdict::not_ready(Trouble::Unreachable, "no answer"), question.timeout)
            }
            Told::Verdict(verdict) => (verdict, round),
        }
    }

    /// Whether this instance answers that it is ready, asked from this node.
    pub(super) fn is_ready_from(&self, from: NodeIx, instance: InstanceIx) -> Option<Ready> {
        let there = self.cluster.instance(instance);
        let question = match (&there.unit.ready.remote, &there.unit.ready.local) {
            (Some(question), _) | (None, Probe::Ask(question)) => question,
            _ => return None,
        };
        let target = Target { node: there.node, instance: Some(instance) };
        // What comes too late is no answer.
        if self.slowness(from, there.node) * 2 >= question.timeout {
            return None;
        }
        match self.answer(from, target, question) {
            Told::Verdict(Verdict::Ready(ready)) => Some(ready),
            _ => None,
        }
    }

    fn answer(&self, from: NodeIx, target: Target, question: &Question) -> Told {
        let refused = || Told::Verdict(Verdict::not_ready(Trouble::Refused, "connection refused"));
        let declined = || Told::Verdict(Verdict::not_ready(Trouble::Declined, "answers no"));
        // What is outside is always there, unless something befalls it.
        if let Some(ix) = target.instance.filter(|ix| self.cluster.is_outside(*ix)) {
            return match &self.daemons[ix.0 as usize] {
                Daemon { broken: true, .. } => refused(),
                Daemon { hangs: true, .. } => Told::Silence,
                Daemon { declines: true, .. } => declined(),
                _ => Told::Verdict(Verdict::Ready(self.ready(ix, question))),
            };
        }
        let machine = &self.machines[target.node.0 as usize];
        if !machine.up || !self.reaches(from, target.node) {
            return Told::Nothing;
        }
        let Some(instance) = target.instance else { return refused() };
        let main = self.mains[instance.0 as usize].and_then(|pid| machine.processes.get(&pid));
        let Some(main) = main.filter(|p| p.role == Role::Main && p.instance == Some(instance)) else {
            return refused();
        };
        let state = &self.daemons[instance.0 as usize];
        match main.phase {
            Phase::Closed | Phase::Waiting => refused(),
            Phase::Loading | Phase::Open if state.hangs => Told::Silence,
            Phase::Loading => Told::Verdict(Verdict::Progress {
                reason: "is loading".to_owned(),
                percent: Some(50),
                left: None,
            }),
            Phase::Open if state.declines => declined(),
            Phase::Open => Told::Verdict(Verdict::Ready(self.ready(instance, question))),
        }
    }

    fn ready(&self, instance: InstanceIx, question: &Question) -> Ready {
        use crate::facts::Role;
        let roles = match question.ask {
            Ask::Mysql { .. } | Ask::Postgres { .. } => vec![Role::Writable],
            Ask::Redis { .. } => vec![Role::Master],
            _ => Vec::new(),
        };
        let identity = (!roles.is_empty()).then(|| self.cluster.instance(instance).name.to_string());
        Ready { detail: "serves".to_owned(), roles, identity }
    }

    /// The moment by a node's clock.
    pub(super) fn clock(&mut self, node: NodeIx) -> Moment {
        let now = self.now;
        self.machines[node.0 as usize].read_clock(now)
    }
}

enum Told {
    Verdict(Verdict),
    Silence,
    Nothing,
}
