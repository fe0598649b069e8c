//! A world for engines alone: nothing runs, every question is answered at once, and each input is timed.
//!
//! It is as kind as a boot without faults. What can go wrong is the simulator's subject; here is only the engine's
//! own cost, with inputs that follow from its actions and so come in the shares in which an agent gets them.

use clusterd::engine::{Action, Engine, Found, Input, QuestionIx, Word};
use clusterd::facts::{Answer, Cleaned, Exit, Moment, Ready, Role, Trouble, Verdict};
use clusterd::model::{Cluster, InstanceIx, NodeIx, Probe, Question, RunKind};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A question's way there and back, and a line's on a stream.
const TRIP: Duration = Duration::from_millis(1);
/// From the spawn until a launcher ends whose daemon runs on.
const LAUNCH: Duration = Duration::from_millis(20);
/// From the spawn until a daemon serves.
const START_UP: Duration = Duration::from_millis(300);

/// More inputs than any boot or day here has.
const MOST_INPUTS: usize = 20_000_000;

/// What an input was, for the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    AnswerChanged,
    AnswerAsBefore,
    WordChanged,
    WordAsBefore,
    Wake,
    Exit,
    /// Searched, cleaned, spawned.
    Process,
}

impl Kind {
    pub const ALL: [Kind; 7] = [
        Kind::AnswerChanged,
        Kind::AnswerAsBefore,
        Kind::WordChanged,
        Kind::WordAsBefore,
        Kind::Wake,
        Kind::Exit,
        Kind::Process,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Kind::AnswerChanged => "an answer that changes",
            Kind::AnswerAsBefore => "a verified answer, as before",
            Kind::WordChanged => "a peer's word that changes",
            Kind::WordAsBefore => "a peer's word, as before",
            Kind::Wake => "a wake",
            Kind::Exit => "an exit",
            Kind::Process => "searched, cleaned, spawned",
        }
    }
}

/// One input, with what it cost.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    pub node: NodeIx,
    pub kind: Kind,
    pub took: Duration,
}

enum Event {
    Boot,
    Happens(Input),
    /// The answer to a question that was begun at this moment.
    Answer(QuestionIx, Moment),
    Serves(InstanceIx),
    Wake,
}

/// What the world knows of one node.
struct Place {
    engine: Engine,
    is_up: bool,
    /// The instance behind each question, whether it is asked, and the last verdict told.
    questions: Vec<(InstanceIx, bool, Option<Verdict>)>,
    followers: Vec<usize>,
    words: HashMap<InstanceIx, Word>,
    wake: Option<Moment>,
}

pub struct World {
    pub cluster: Arc<Cluster>,
    places: Vec<Place>,
    serves: Vec<bool>,
    /// Who asks an instance: (node, question).
    askers: Vec<Vec<(usize, QuestionIx)>>,
    /// Paths that are cut: from a node to an instance.
    cut: HashSet<(usize, InstanceIx)>,
    events: BTreeMap<(Moment, u64), (usize, Event)>,
    sequence: u64,
    pub now: Moment,
    pub samples: Vec<Sample>,
    /// An instance whose words nobody hears, and how many were not delivered.
    pub muted: Option<InstanceIx>,
    pub unheard: usize,
}

impl World {
    /// Node `i` boots at `boots(i)` after the beginning. `engines` are of all nodes, in order, as they are at the
    /// beginning.
    pub fn new(cluster: Arc<Cluster>, engines: Vec<Engine>, boots: impl Fn(usize) -> Duration) -> World {
        let begin = Moment(1_000_000_000);
        let mut whose: HashMap<&Question, InstanceIx> = HashMap::new();
        for ix in cluster.instance_ixs() {
            let ready = &cluster.instance(ix).unit.ready;
            let local = match &ready.local {
                Probe::Ask(question) => Some(question),
                _ => None,
            };
            whose.extend(ready.remote.as_ref().into_iter().chain(local).map(|q| (q, ix)));
        }
        let mut askers = vec![Vec::new(); cluster.instances.len()];
        let mut follow: Vec<Vec<usize>> = vec![Vec::new(); cluster.nodes.len()];
        let mut places = Vec::new();
        for (node, engine) in engines.into_iter().enumerate() {
            let mut questions = Vec::new();
            for (q, question) in engine.questions() {
                askers[whose[question].0 as usize].push((node, q));
                questions.push((whose[question], false, None));
            }
            for neighbour in engine.neighbours() {
                follow[neighbour.0 as usize].push(node);
            }
            let (followers, words) = (Vec::new(), HashMap::new());
            places.push(Place { engine, is_up: false, questions, followers, words, wake: None });
        }
        for (place, followers) in places.iter_mut().zip(follow) {
            place.followers = followers;
        }
        let serves = vec![false; cluster.instances.len()];
        let mut world = World {
            cluster: cluster.clone(),
            places,
            serves,
            askers,
            cut: HashSet::new(),
            events: BTreeMap::new(),
            sequence: 0,
            now: begin,
            samples: Vec::new(),
            muted: None,
            unheard: 0,
        };
        (0..cluster.nodes.len()).for_each(|node| world.later(boots(node), node, Event::Boot));
        world
    }

    pub fn are_all_up(&self) -> bool {
        self.serves.iter().all(|serves| *serves)
    }

    /// Lets everything happen until nothing is left to happen.
    pub fn run(&mut self) {
        while let Some(((at, _), (node, event))) = self.events.pop_first() {
            self.now = at;
            self.happen(node, event);
            assert!(self.samples.len() < MOST_INPUTS, "the world does not come to rest");
        }
    }

    /// The path from a node to an instance is cut, and mended: the node's answers change, and change back.
    pub fn flap(&mut self, node: NodeIx, to: InstanceIx) {
        let node = node.0 as usize;
        self.cut.insert((node, to));
        self.ask_once(node, to);
        self.run();
        self.cut.remove(&(node, to));
        self.ask_once(node, to);
        self.run();
    }

    /// A question of a node is answered, as before.
    pub fn ask_again(&mut self, node: NodeIx, to: InstanceIx) {
        self.ask_once(node.0 as usize, to);
        self.run();
    }

    /// The agent of `about` tells of it; nothing in its world has changed.
    pub fn say(&mut self, node: NodeIx, about: InstanceIx, word: Word) {
        let from = self.cluster.instance(about).node;
        let said = Input::PeerSaid { node: from, words: vec![(about, word)] };
        self.later(TRIP, node.0 as usize, Event::Happens(said));
        self.run();
    }

    /// What the instance's own agent tells of it.
    pub fn word(&self, of: InstanceIx) -> Word {
        let node = self.cluster.instance(of).node.0 as usize;
        self.places[node].engine.word(of).expect("an agent tells of its own")
    }

    /// A process dies; what follows is let happen. An hour passes first, so that no start limit is met.
    pub fn kill(&mut self, instance: InstanceIx) {
        self.now = self.now + Duration::from_secs(3600);
        let node = self.cluster.instance(instance).node.0 as usize;
        self.serves[instance.0 as usize] = false;
        let incarnation = self.places[node].engine.memory(instance).map_or(0, |m| m.incarnation);
        let (exit, last_words) = (Exit::Signal(9), String::new());
        let exited = Input::Exited { instance, incarnation, exit, last_words, alone: true };
        self.later(TRIP, node, Event::Happens(exited));
        self.run();
    }

    fn later(&mut self, after: Duration, node: usize, event: Event) {
        self.sequence += 1;
        self.events.insert((self.now + after, self.sequence), (node, event));
    }

    fn ask_once(&mut self, node: usize, to: InstanceIx) {
        let asked: Vec<_> = self.askers[to.0 as usize].iter().filter(|(n, _)| *n == node).copied().collect();
        for (node, q) in asked {
            self.later(TRIP, node, Event::Answer(q, self.now));
        }
    }

    fn happen(&mut self, node: usize, event: Event) {
        match event {
            Event::Boot => self.boot(node),
            Event::Wake if self.places[node].wake == Some(self.now) => {
                self.places[node].wake = None;
                self.feed(node, Input::TimeCame);
            }
            Event::Wake => {}
            Event::Happens(input) => self.feed(node, input),
            Event::Serves(instance) => {
                self.serves[instance.0 as usize] = true;
                for (node, q) in self.askers[instance.0 as usize].clone() {
                    if self.places[node].questions[q.0 as usize].1 {
                        self.later(TRIP, node, Event::Answer(q, self.now));
                    }
                }
            }
            Event::Answer(question, begun) => {
                let target = self.places[node].questions[question.0 as usize].0;
                let verdict = self.verdict(node, target);
                self.feed(
                    node,
                    Input::Answered { question, answer: Answer { verdict, begun, ended: self.now } },
                );
            }
        }
    }

    fn verdict(&self, node: usize, target: InstanceIx) -> Verdict {
        let home = &self.places[self.cluster.instance(target).node.0 as usize];
        if !home.is_up || self.cut.contains(&(node, target)) {
            Verdict::not_ready(Trouble::Unreachable, "connecting to it timed out after 1 s")
        } else if !self.serves[target.0 as usize] {
            Verdict::not_ready(Trouble::Refused, "connection refused")
        } else {
            Verdict::Ready(Ready {
                detail: "PONG, master, 0 replicas".to_owned(),
                roles: vec![Role::Writable, Role::Master],
                identity: Some(format!("6f1c8a4be0f94a3c9d4b-{}", target.0)),
            })
        }
    }

    fn boot(&mut self, node: usize) {
        self.places[node].is_up = true;
        for instance in self.places[node].engine.own_instances().collect::<Vec<_>>() {
            self.feed(node, Input::Searched { instance, found: Found::Nothing });
        }
        for neighbour in self.places[node].engine.neighbours() {
            let there = &self.places[neighbour.0 as usize];
            if there.is_up {
                let own = there.engine.own_instances();
                let words = own.filter_map(|ix| Some((ix, there.engine.word(ix)?))).collect();
                self.feed(node, Input::PeerSaid { node: neighbour, words });
            }
        }
    }

    fn feed(&mut self, node: usize, input: Input) {
        if !self.places[node].is_up {
            return;
        }
        let kind = self.kind(node, &input);
        let engine = &mut self.places[node].engine;
        let begun = Instant::now();
        let actions = engine.handle(self.now, 500, input);
        let took = begun.elapsed();
        self.samples.push(Sample { node: NodeIx(node as u32), kind, took });
        actions.into_iter().for_each(|action| self.act(node, action));
        let wake = self.places[node].engine.next_wake();
        if wake != self.places[node].wake {
            self.places[node].wake = wake;
            if let Some(at) = wake {
                self.later(at.since(self.now), node, Event::Wake);
            }
        }
    }

    fn kind(&mut self, node: usize, input: &Input) -> Kind {
        let place = &mut self.places[node];
        match input {
            Input::Answered { question, answer } => {
                let last = &mut place.questions[question.0 as usize].2;
                let same = last.as_ref() == Some(&answer.verdict);
                *last = Some(answer.verdict.clone());
                if same { Kind::AnswerAsBefore } else { Kind::AnswerChanged }
            }
            Input::PeerSaid { words, .. } => {
                let mut same = true;
                for (ix, word) in words {
                    same &= place.words.insert(*ix, word.clone()).as_ref() == Some(word);
                }
                if same { Kind::WordAsBefore } else { Kind::WordChanged }
            }
            Input::TimeCame => Kind::Wake,
            Input::Exited { .. } => Kind::Exit,
            _ => Kind::Process,
        }
    }

    fn act(&mut self, node: usize, action: Action) {
        let now = self.now;
        match action {
            Action::Pace { question, every } => {
                let asked = &mut self.places[node].questions[question.0 as usize];
                let begins = every.is_some() && !asked.1;
                asked.1 = every.is_some();
                if begins {
                    self.later(TRIP, node, Event::Answer(question, now));
                }
            }
            Action::Verify { question } => self.later(TRIP, node, Event::Answer(question, now)),
            Action::Clean { instance } => {
                let cleaned = Cleaned::Clear { findings: Vec::new() };
                self.later(TRIP, node, Event::Happens(Input::Cleaned { instance, cleaned }));
            }
            Action::Spawn { instance, memory, unit } => {
                let incarnation = memory.incarnation;
                self.later(TRIP, node, Event::Happens(Input::Spawned { instance, incarnation, pid: 4711 }));
                if unit.run.kind == RunKind::Forking {
                    let (exit, last_words) = (Exit::Code(0), String::new());
                    let launched = Input::Exited { instance, incarnation, exit, last_words, alone: false };
                    self.later(LAUNCH, node, Event::Happens(launched));
                }
                self.later(START_UP, node, Event::Serves(instance));
            }
            Action::FindMain { instance, memory } => {
                let found = Input::MainFound { instance, incarnation: memory.incarnation, pid: 4712 };
                self.later(TRIP, node, Event::Happens(found));
            }
            Action::Signal { instance, incarnation, .. } => {
                self.serves[instance.0 as usize] = false;
                let (exit, last_words) = (Exit::Signal(15), String::new());
                let exited = Input::Exited { instance, incarnation, exit, last_words, alone: true };
                self.later(TRIP, node, Event::Happens(exited));
            }
            Action::Sweep { instance, incarnation } => {
                let swept = Input::Swept { instance, incarnation, killed: 0 };
                self.later(TRIP, node, Event::Happens(swept));
            }
            Action::Publish { instance } if self.muted == Some(instance) => {
                self.unheard += self.places[node].followers.len();
            }
            Action::Publish { instance } => {
                let Some(word) = self.places[node].engine.word(instance) else { return };
                for follower in self.places[node].followers.clone() {
                    let words = vec![(instance, word.clone())];
                    let said = Input::PeerSaid { node: NodeIx(node as u32), words };
                    self.later(TRIP, follower, Event::Happens(said));
                }
            }
            _ => {}
        }
    }
}
