//! One engine in a world where anything may happen, in any order: the checks hold there, too, and agree with it.

use super::of_steps;
use crate::engine::view::{StateName, Wish};
use crate::engine::{Action, Engine, Found, Input, Order, OrderVerb, QuestionIx, Veto, Word};
use crate::facts::{Answer, Cleaned, Exit, Moment, Ready, Role, Trouble, Verdict};
use crate::graph::Graph;
use crate::model::{self, Cluster, InstanceIx, NodeIx, Sources};
use crate::sim::chance::Chance;
use crate::sim::generate;
use crate::sim::sample::sample;
use crate::sim::scenario::{Scenario, Timing};
use crate::sim::{Step, Watcher};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

const STATES: [StateName; 12] = [
    StateName::Waiting,
    StateName::Cleaning,
    StateName::Starting,
    StateName::Ready,
    StateName::Unready,
    StateName::Standby,
    StateName::Stopping,
    StateName::Stopped,
    StateName::Backoff,
    StateName::Blocked,
    StateName::Failed,
    StateName::Completed,
];

struct World {
    chance: Chance,
    cluster: Arc<Cluster>,
    ranks: Vec<u32>,
    me: NodeIx,
    engine: Engine,
    watchers: Vec<(&'static str, Box<dyn Watcher>)>,
    now: Moment,
    run: u32,
    /// What is under way.
    to_search: Vec<InstanceIx>,
    to_clean: Vec<InstanceIx>,
    to_spawn: Vec<(InstanceIx, u64)>,
    to_sweep: Vec<(InstanceIx, u64)>,
    running: BTreeMap<InstanceIx, u64>,
    questions: BTreeSet<QuestionIx>,
    wishes: HashMap<InstanceIx, Wish>,
    spawns: u32,
}

impl World {
    fn new(seed: u64, sources: &Sources) -> World {
        let mut chance = Chance::new(seed);
        let cluster = Arc::new(model::parse(sources).unwrap());
        let graph = Graph::new(&cluster).unwrap();
        let ranks: Vec<u32> = cluster.instance_ixs().map(|ix| graph.rank(ix)).collect();
        let me = NodeIx(chance.below(cluster.nodes.len() as u64) as u32);
        let scenario = Scenario {
            cluster: cluster.clone(),
            seed,
            timing: Timing { usual: Duration::ZERO, of: BTreeMap::new(), boot: Duration::ZERO },
            faults: Vec::new(),
            at_most: Duration::MAX,
        };
        let now = Moment(1_000_000_000);
        let engine = Engine::new(cluster.clone(), me, &ranks, &HashMap::new(), now);
        let mut world = World {
            to_search: engine.own_instances().collect(),
            chance,
            ranks,
            me,
            engine,
            watchers: of_steps(&scenario),
            now,
            run: 1,
            to_clean: Vec::new(),
            to_spawn: Vec::new(),
            to_sweep: Vec::new(),
            running: BTreeMap::new(),
            questions: BTreeSet::new(),
            wishes: HashMap::new(),
            cluster,
            spawns: 0,
        };
        world.now = now + Duration::from_secs(2);
        world
    }

    fn feed(&mut self, input: Input) -> Result<(), String> {
        let actions = self.engine.handle(self.now, 0, input.clone());
        let step = Step {
            at: self.now.since(Moment(0)),
            node: self.me,
            boot: 1,
            run: self.run,
            now: self.now,
            input: &input,
            actions: &actions,
            engine: &self.engine,
        };
        self.watchers.iter_mut().try_for_each(|(_, w)| w.step(&step))?;
        for action in actions {
            match action {
                Action::Pace { question, every: None } => drop(self.questions.remove(&question)),
                Action::Pace { question, .. } | Action::Verify { question } => {
                    self.questions.insert(question);
                }
                Action::Clean { instance } => self.to_clean.push(instance),
                Action::Spawn { instance, memory, .. } => {
                    self.to_spawn.push((instance, memory.incarnation));
                    self.spawns += 1;
                }
                Action::Adopt { instance, memory, .. } => {
                    self.running.insert(instance, memory.incarnation);
                }
                Action::Sweep { instance, incarnation } => self.to_sweep.push((instance, incarnation)),
                Action::SaveWish { instance, wish } => drop(self.wishes.insert(instance, wish)),
                _ => {}
            }
        }
        Ok(())
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> Option<T> {
        self.chance.pick(all).copied()
    }

    /// Something happens.
    fn go_on(&mut self) -> Result<(), String> {
        // A shell judges at once, before anything else can happen.
        if !self.to_clean.is_empty() {
            return self.clean();
        }
        self.now = self.now + self.chance.time(Duration::ZERO, Duration::from_millis(150));
        // The shell lets timers through before anything else.
        if self.engine.next_wake().is_some_and(|at| at <= self.now) && self.chance.percent(90) {
            return self.feed(Input::TimeCame);
        }
        match self.chance.below(100) {
            0..40 => self.answer(),
            40..50 => self.peer(),
            50..52 => {
                let node = NodeIx(self.chance.below(self.cluster.nodes.len() as u64) as u32);
                if node == self.me { Ok(()) } else { self.feed(Input::PeerLost { node }) }
            }
            52..58 => match self.to_search.pop() {
                Some(instance) => self.feed(Input::Searched { instance, found: Found::Nothing }),
                None => Ok(()),
            },
            58..80 => self.spawn(),
            80..83 => self.exit(),
            83..88 => match self.to_sweep.pop() {
                Some((instance, incarnation)) => {
                    self.running.remove(&instance);
                    self.feed(Input::Swept { instance, incarnation, killed: 0 })
                }
                None => Ok(()),
            },
            88..91 => self.order(),
            91 => self.reload_or_restart(),
            _ => match self.engine.next_wake() {
                Some(at) => {
                    self.now = self.now.max(at);
                    self.feed(Input::TimeCame)
                }
                None => Ok(()),
            },
        }
    }

    fn answer(&mut self) -> Result<(), String> {
        let all: Vec<_> = self.questions.iter().copied().collect();
        let Some(question) = self.one_of(&all) else { return Ok(()) };
        let took = self.chance.time(Duration::ZERO, Duration::from_millis(1500));
        let begun = self.now - took;
        let identity =
            self.one_of(&["a", "b", "c"]).map(str::to_owned).filter(|_| self.now.0.is_multiple_of(5));
        let role = self.one_of(&[Role::Writable, Role::Master]);
        let verdict = match self.chance.below(10) {
            0 => Verdict::not_ready(Trouble::Refused, "refused"),
            1 => Verdict::Progress { reason: "loading".into(), percent: Some(40), left: None },
            _ => Verdict::Ready(Ready { detail: String::new(), roles: role.into_iter().collect(), identity }),
        };
        self.feed(Input::Answered { question, answer: Answer { verdict, begun, ended: self.now } })
    }

    fn peer(&mut self) -> Result<(), String> {
        let node = NodeIx(self.chance.below(self.cluster.nodes.len() as u64) as u32);
        if node == self.me {
            return Ok(());
        }
        let cluster = self.cluster.clone();
        let mut words = Vec::new();
        for &ix in &cluster.node(node).instances {
            let likely = [StateName::Ready, StateName::Completed];
            let state = if self.chance.percent(60) { self.one_of(&likely) } else { self.one_of(&STATES) };
            let waits = self.chance.percent(50);
            let veto = self.chance.percent(10).then(|| Veto {
                epoch: self.now.0,
                why: "it goes".into(),
                waits,
                lost: false,
            });
            let state = state.unwrap_or(StateName::Ready);
            words.push((ix, Word { state, reason: String::new(), veto, released: Vec::new() }));
        }
        self.feed(Input::PeerSaid { node, words })
    }

    fn clean(&mut self) -> Result<(), String> {
        let Some(instance) = self.to_clean.pop() else { return Ok(()) };
        let findings = Vec::new();
        let cleaned = match self.chance.below(10) {
            0 => Cleaned::Doubt { findings },
            1 => Cleaned::Alive { pid: 77, findings },
            _ => Cleaned::Clear { findings },
        };
        self.feed(Input::Cleaned { instance, cleaned })
    }

    fn spawn(&mut self) -> Result<(), String> {
        let Some((instance, incarnation)) = self.to_spawn.pop() else { return Ok(()) };
        if self.chance.percent(10) {
            let (reason, shortage) = ("no memory".into(), self.chance.percent(50));
            return self.feed(Input::SpawnFailed { instance, incarnation, reason, shortage });
        }
        self.running.insert(instance, incarnation);
        self.feed(Input::Spawned { instance, incarnation, pid: 78 })
    }

    fn exit(&mut self) -> Result<(), String> {
        let all: Vec<_> = self.running.iter().map(|(ix, incarnation)| (*ix, *incarnation)).collect();
        let Some((instance, incarnation)) = self.one_of(&all) else { return Ok(()) };
        self.running.remove(&instance);
        let exit = self.one_of(&[Exit::Code(0), Exit::Code(1), Exit::Unknown]).unwrap_or(Exit::Code(0));
        let alone = self.one_of(&[true, false]).unwrap_or(false);
        self.feed(Input::Exited { instance, incarnation, exit, last_words: String::new(), alone })
    }

    fn order(&mut self) -> Result<(), String> {
        let own: Vec<_> = self.engine.own_instances().collect();
        let verbs = [OrderVerb::Start, OrderVerb::Start, OrderVerb::Stop, OrderVerb::Restart];
        let (Some(instance), Some(verb)) = (self.one_of(&own), self.one_of(&verbs)) else { return Ok(()) };
        let order = Order {
            id: 1,
            verb,
            instances: vec![instance],
            force: verb == OrderVerb::Start && self.chance.percent(10),
            timeout: self.chance.time(Duration::ZERO, Duration::from_secs(20)),
            without: Vec::new(),
            by: "alice".into(),
            reason: String::new(),
            clock: self.now.0,
        };
        self.feed(Input::Ordered(order))
    }

    fn reload_or_restart(&mut self) -> Result<(), String> {
        self.questions.clear();
        self.to_clean.clear();
        if self.chance.percent(50) {
            let _ = self.engine.reconfigure(self.now, self.cluster.clone(), self.me, &self.ranks);
            return self.feed(Input::TimeCame);
        }
        if self.chance.percent(30) {
            self.feed(Input::ShutdownBegan)?;
        }
        // Everything is gone: a boot of its own.
        self.run += 1;
        self.to_spawn.clear();
        self.to_sweep.clear();
        self.running.clear();
        self.questions.clear();
        self.to_clean.clear();
        self.engine = Engine::new(self.cluster.clone(), self.me, &self.ranks, &self.wishes, self.now);
        self.to_search = self.engine.own_instances().collect();
        Ok(())
    }
}

#[test]
fn whatever_happens_the_checks_agree_with_the_engine() {
    let mut spawns = 0;
    for seed in 0..seeds() {
        let sources = if seed % 4 == 0 { sample() } else { generate::cluster(seed, 12) };
        let mut world = World::new(seed, &sources);
        for step in 0..600 {
            if let Err(why) = world.go_on() {
                panic!("seed {seed}, step {step}: {why}");
            }
        }
        spawns += world.spawns;
    }
    assert!(u64::from(spawns) > seeds(), "{spawns} starts");
}

fn seeds() -> u64 {
    std::env::var("SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(200)
}
