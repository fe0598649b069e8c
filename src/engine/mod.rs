//! The pure state machine: everything that the program decides, it decides here.
//!
//! An engine is one node's. Configuration and [`Input`]s go in, with the moment and a little chance beside each;
//! [`Action`]s come out. It has no clock, no I/O, no randomness and no async of its own.
//!
//! # The states of an instance
//!
//! ```text
//!              needs met            cleaned            proven by fresh answers     own probe passes
//!   waiting ───────────► cleaning ─────────► (verifying) ───────────► starting ───────────► ready ⇄ unready
//!      ▲  ▲                 │ in doubt           │ a need is lost         │ a sibling serves    │
//!      │  └─────────────────┼────────────────────┘                        ▼                     │
//!      │                    ▼                                          standby ◄────────────────┤
//!      │                 blocked (judged again)                                                 │
//!      │                                                                                        │
//!      ├── backoff ◄── it died ─────────────────────────────────────────────────────────────────┤
//!      │      └─► failed, at the start limit                                                    │
//!      │                                             (leaving)        (sweeping)                │
//!      └──────────────── stopped, while held ◄───────── stopping ◄──────────────────────────────┘
//! ```
//!
//! # Who decides, and who goes before whom
//!
//! 1. A shutdown of the machine.
//! 2. The operator's wish (`held`), then an operator's restart.
//! 3. A need that is being withdrawn: what leans on it goes first.
//! 4. A need that was lost, where the file says `on-loss = "stop"`.
//! 5. Needs, leftovers and the own probe, as in the picture.
//!
//! # Two beats
//!
//! [`Engine::handle`] first *spreads*: the input changes facts and marks the instances that they touch. Then it
//! *acts*: each marked instance takes steps until none is due. Steps look only at facts, never at which input came,
//! so the order of inputs decides nothing that it should not. What an instance tells changes facts of others on the
//! same node; those are marked in turn, by a queue and not by recursion.

mod action;
mod backoff;
mod failure;
mod health;
mod input;
mod layout;
mod local;
mod look;
mod loss;
mod needs;
mod notices;
mod questions;
mod reconfigure;
mod rivals;
mod spread;
mod step;
mod stop;
mod tally;
mod timers;
pub mod trace;
pub mod view;

pub use action::{Action, Event, Evidence};
pub use backoff::Jitter;
pub use input::{Found, Input, Memory, Order, OrderVerb, QuestionIx, Veto, Word};
pub use layout::Layout;
pub use needs::FRESH;

use crate::facts::{Moment, Verdict};
use crate::model::{Cluster, InstanceIx, NodeIx, Probe, Question};
use local::{After, Edge, Local, NeedState, Own, Proof, State};
use questions::{Asker, Questions};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tally::Tally;
use timers::Timers;
use view::Wish;

/// How often a question is asked while something waits for its answer.
pub const WAITING_PACE: Duration = Duration::from_millis(50);
/// How often the own question is asked of something that runs and does not serve.
const WATCHFUL_PACE: Duration = Duration::from_millis(500);
/// How soon a bad answer to a question that was good is checked again.
const RECHECK: Duration = Duration::from_millis(500);
/// A veto that is not renewed dies after this.
pub const VETO_LIVES: Duration = Duration::from_secs(3);
/// How often a veto is renewed.
const VETO_RENEWAL: Duration = Duration::from_secs(1);
/// How often a leftover in doubt is judged again. More often than the design asks: it replaces watching the file
/// and the suspect, and costs a few reads.
const JUDGE_AGAIN: Duration = Duration::from_secs(1);
/// How often the main process of a daemon that daemonises is looked for.
const FIND_MAIN: Duration = Duration::from_millis(20);
/// The least pause after a start that did not even come to a process. (A crash may be answered at once.)
const SPAWN_AGAIN: Duration = Duration::from_secs(1);
/// A process that exits while a need is unmet, or this soon after its loss, did not fail by itself.
const LOSS_EXCUSES: Duration = Duration::from_secs(1);
/// How long after an exit a loss may still be found out: the excuse and one unanswered question.
const LATE_EXCUSE: Duration = Duration::from_secs(3);

/// What another agent (or this one, of its own instances) told last.
#[derive(Debug)]
struct Heard {
    word: Word,
    at: Moment,
    connected: bool,
    /// Whether it serves, as dependents that run see it: what is withdrawn serves until they have let go.
    up: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Timer {
    Local(usize),
    /// Ask a question again that was good and got a bad answer.
    Recheck(QuestionIx),
    /// A veto that was not renewed.
    Veto(InstanceIx),
    /// The own vetoes are to be renewed.
    Renew,
}

/// One node's engine.
#[derive(Debug)]
pub struct Engine {
    cluster: Arc<Cluster>,
    me: NodeIx,
    locals: Vec<Local>,
    local_of: HashMap<InstanceIx, usize>,
    questions: Questions,
    /// The last word on every instance that was ever heard of, the own ones included.
    heard: BTreeMap<InstanceIx, Heard>,
    /// Those of them with a veto that stands.
    vetoed: BTreeSet<InstanceIx>,
    /// Who has an edge to an instance: the locals to step when its word changes.
    edges_to: HashMap<InstanceIx, Vec<Asker>>,
    /// For each local, the instances that could lean on it.
    leaners: Vec<Vec<InstanceIx>>,
    /// The locals that an instance could lean on.
    leaned_by: HashMap<InstanceIx, Vec<usize>>,
    shutting_down: bool,
    finished: bool,
    /// When this configuration came in force: an answer to a question that was begun before is to another one's.
    born: Moment,

    timers: Timers<Timer>,
    dirty: VecDeque<usize>,
    /// Questions whose askers may want another pace now.
    repace: Vec<QuestionIx>,
    replies: Vec<(u64, Vec<usize>)>,
    /// Questions to be asked at the end of this input, unless a start that is under way will ask them.
    sooner: Vec<QuestionIx>,
    out: Vec<Action>,
    now: Moment,
    jitter: Jitter,
}

impl Engine {
    /// The engine of node `me`, where it is the only one of its cluster in this process. `ranks` gives each instance's
    /// rank in the order of starting. Otherwise as [`Engine::within`].
    pub fn new(
        cluster: Arc<Cluster>,
        me: NodeIx,
        ranks: &[u32],
        wishes: &HashMap<InstanceIx, Wish>,
        now: Moment,
    ) -> Engine {
        Engine::within(Arc::new(Layout::new(cluster, ranks)), me, wishes, now)
    }

    /// The engine of node `me`. `wishes` are the operator's, as kept; what is not in it is `Up`. Nothing happens until
    /// each own instance has been `Searched`.
    pub fn within(
        layout: Arc<Layout>,
        me: NodeIx,
        wishes: &HashMap<InstanceIx, Wish>,
        now: Moment,
    ) -> Engine {
        let cluster = layout.cluster().clone();
        let own = &cluster.node(me).instances;
        let mut questions = Questions::default();
        let mut edges_to: HashMap<InstanceIx, Vec<Asker>> = HashMap::new();
        let locals: Vec<Local> = own
            .iter()
            .enumerate()
            .map(|(l, ix)| {
                let wish = wishes.get(ix).cloned().unwrap_or(Wish::Up);
                local(&cluster, l, *ix, wish, now, &mut questions, &mut edges_to)
            })
            .collect();
        let leaners: Vec<_> = own.iter().map(|ix| layout.leaners(*ix)).collect();
        let mut leaned_by: HashMap<InstanceIx, Vec<usize>> = HashMap::new();
        for (l, all) in leaners.iter().enumerate() {
            for d in all {
                leaned_by.entry(*d).or_default().push(l);
            }
        }
        let local_of = own.iter().enumerate().map(|(l, ix)| (*ix, l)).collect();
        let (every_local, every_question) = (0..locals.len(), 0..questions.all.len() as u32);
        Engine {
            cluster,
            me,
            locals,
            local_of,
            questions,
            heard: BTreeMap::new(),
            vetoed: BTreeSet::new(),
            edges_to,
            leaners,
            leaned_by,
            shutting_down: false,
            finished: false,
            born: now,
            timers: Timers::new(),
            dirty: every_local.collect(),
            repace: every_question.map(QuestionIx).collect(),
            replies: Vec::new(),
            sooner: Vec::new(),
            out: Vec::new(),
            now,
            jitter: 0,
        }
    }

    /// Takes one input in and gives back what is to be done, in order. `jitter` is chance: 0 to 1000.
    #[must_use = "actions are to be done"]
    pub fn handle(&mut self, now: Moment, jitter: Jitter, input: Input) -> Vec<Action> {
        self.now = self.now.max(now);
        self.jitter = jitter;
        self.spread(input);
        self.settle();
        std::mem::take(&mut self.out)
    }

    /// When [`Input::TimeCame`] is due next.
    pub fn next_wake(&self) -> Option<Moment> {
        self.timers.next()
    }

    /// The configuration in force.
    pub fn cluster(&self) -> &Arc<Cluster> {
        &self.cluster
    }

    /// The node whose engine this is.
    pub fn node(&self) -> NodeIx {
        self.me
    }

    /// The node's own instances, in file order.
    pub fn own_instances(&self) -> impl Iterator<Item = InstanceIx> + '_ {
        self.locals.iter().map(|l| l.ix)
    }

    /// The questions of this node, by index.
    pub fn questions(&self) -> impl Iterator<Item = (QuestionIx, &Question)> {
        self.questions.all.iter().enumerate().map(|(i, q)| (QuestionIx(i as u32), &q.question))
    }

    /// One question of this node. The index must be this configuration's.
    pub fn question(&self, ix: QuestionIx) -> &Question {
        &self.questions.get(ix).question
    }

    /// The nodes whose agents' word matters here: they hold what is needed here, or need what is here.
    pub fn neighbours(&self) -> BTreeSet<NodeIx> {
        let needed = self.edges_to.keys();
        let needing = self.leaned_by.keys();
        needed
            .chain(needing)
            .map(|i| self.cluster.instance(*i).node)
            .filter(|node| *node != self.me && *node != NodeIx::OUTSIDE)
            .collect()
    }

    // --- small things that every part uses ---

    fn mark(&mut self, l: usize) {
        if !std::mem::replace(&mut self.locals[l].marked, true) {
            self.dirty.push_back(l);
        }
    }

    fn mark_askers_of(&mut self, q: QuestionIx) {
        self.repace.push(q);
        for i in 0..self.questions.get(q).askers.len() {
            let asker = self.questions.get(q).askers[i];
            self.recount(asker);
            self.mark(asker.local());
        }
    }

    fn verify(&mut self, q: QuestionIx) {
        let now = self.now;
        let question = self.questions.get_mut(q);
        if question.asked != Some(now) {
            question.asked = Some(now);
            self.out.push(Action::Verify { question: q });
        }
    }

    fn record(&mut self, l: usize, what: &str, text: impl Into<String>, data: serde_json::Value) {
        let instance = self.locals[l].ix;
        self.out.push(Action::Record(Event { instance, what: what.to_owned(), text: text.into(), data }));
    }

    fn save_wish(&mut self, l: usize) {
        let Local { ix, wish, .. } = &self.locals[l];
        self.out.push(Action::SaveWish { instance: *ix, wish: wish.clone() });
    }

    fn remember(&mut self, l: usize) {
        let local = &self.locals[l];
        self.out.push(Action::Remember { instance: local.ix, memory: local.memory() });
    }

    /// The edge that an asker asks for.
    fn edge_of(&self, asker: Asker) -> Option<&Edge> {
        match asker {
            Asker::Own(_) => None,
            Asker::Edge(l, n, e) => Some(&self.locals[l].needs[n].edges[e]),
            Asker::Sibling(l, s) => Some(&self.locals[l].siblings[s]),
        }
    }

    /// How often this asker wants its question asked.
    fn wanted_pace(&self, asker: Asker) -> Option<Duration> {
        let local = &self.locals[asker.local()];
        match asker {
            Asker::Own(_) => match local.state {
                State::Starting { .. } => Some(WAITING_PACE),
                State::Ready | State::Leaving => Some(local.unit.ready.every),
                State::Unready | State::Standby => Some(WATCHFUL_PACE),
                _ => None,
            },
            Asker::Edge(_, n, e) => {
                let need = &local.needs[n];
                let every = self.every_of(&need.edges[e]);
                match local.state {
                    State::Searching | State::Waiting | State::Cleaning | State::Verifying { .. } => {
                        let role = self.need(asker.local(), n).role;
                        let waits = !need.ok && !self.is_fresh(&need.edges[e], role);
                        Some(if waits { WAITING_PACE } else { every })
                    }
                    State::Stopped | State::Completed => None,
                    // While its process lives it leans on what it needs, even when it is told to stop.
                    _ => Some(every),
                }
            }
            Asker::Sibling(..) => match local.state {
                State::Starting { .. } => Some(WAITING_PACE),
                State::Standby | State::Unready => Some(WATCHFUL_PACE),
                // Two that serve are an alarm.
                State::Ready | State::Leaving => self.edge_of(asker).map(|e| self.every_of(e)),
                _ => None,
            },
        }
    }

    fn every_of(&self, edge: &Edge) -> Duration {
        match edge.proof {
            Proof::Ask(q) => self.questions.get(q).every,
            Proof::Agent => WATCHFUL_PACE,
        }
    }

    /// Tells the shell the pace of every question whose askers have changed their minds.
    fn set_paces(&mut self) {
        let mut repace = std::mem::take(&mut self.repace);
        repace.sort_unstable();
        repace.dedup();
        for q in repace.drain(..) {
            let wanted = self.best_pace(q);
            let question = self.questions.get_mut(q);
            if question.pace != wanted {
                question.pace = wanted;
                if wanted.is_none() {
                    question.forget();
                    self.timers.set(Timer::Recheck(q), None);
                    for i in 0..self.questions.get(q).askers.len() {
                        self.recount(self.questions.get(q).askers[i]);
                    }
                }
                self.out.push(Action::Pace { question: q, every: wanted });
            }
        }
        self.repace = repace; // its room is kept
        debug_assert!(
            self.questions().all(|(q, _)| self.questions.get(q).pace == self.best_pace(q)),
            "somebody wants another pace and did not say so"
        );
    }

    /// The pace that serves all who ask.
    fn best_pace(&self, q: QuestionIx) -> Option<Duration> {
        self.questions.get(q).askers.iter().filter_map(|asker| self.wanted_pace(*asker)).min()
    }

    /// The own probe's last answer, if it was begun in the present incarnation.
    fn own_answer(&self, l: usize) -> Option<&Verdict> {
        let local = &self.locals[l];
        let Own::Ask(q) = local.own else { return None };
        let spawned = local.process.as_ref()?.spawned;
        self.questions.get(q).answer.as_ref().filter(|a| a.begun >= spawned).map(|a| &a.verdict)
    }
}

/// The first state of one own instance, with its questions entered into the tables.
#[allow(clippy::too_many_arguments)] // one call, and the tables it fills are the engine's own
fn local(
    cluster: &Cluster,
    l: usize,
    ix: InstanceIx,
    wish: Wish,
    now: Moment,
    questions: &mut Questions,
    edges_to: &mut HashMap<InstanceIx, Vec<Asker>>,
) -> Local {
    let instance = cluster.instance(ix);
    let (me, service) = (instance.node, cluster.service(instance.service));
    let mut edge = |to: InstanceIx, by_agent: bool, asker: Asker| -> Edge {
        let target = cluster.instance(to);
        let ready = &target.unit.ready;
        let question = match (&ready.remote, &ready.local) {
            _ if by_agent => None,
            (Some(remote), _) => Some(remote),
            (None, Probe::Ask(question)) if target.node == me => Some(question),
            _ => None,
        };
        edges_to.entry(to).or_default().push(asker);
        let proof = match question {
            Some(question) => Proof::Ask(questions.add(question, ready.every, ready.lost_after, asker)),
            None => Proof::Agent,
        };
        Edge { to, proof }
    };
    let needs = service
        .needs
        .iter()
        .enumerate()
        .filter(|(_, need)| need.nodes.as_ref().is_none_or(|on| on.contains(&me)))
        .enumerate()
        .map(|(n, (rule, need))| {
            let candidates = cluster.candidates(need, me);
            NeedState {
                rule,
                wanted: need.count.wanted(candidates.len()),
                fresh: Tally::new(candidates.len()),
                serving: cluster.wants_only_one(need).then(|| Tally::new(candidates.len())),
                held: Tally::new(candidates.len()),
                known: Tally::new(candidates.len()),
                edges: candidates
                    .into_iter()
                    .enumerate()
                    .map(|(e, to)| edge(to, need.by_agent, Asker::Edge(l, n, e)))
                    .collect(),
                ok: false,
                alarmed: false,
                since: now,
                waived: false,
                had: false,
                missed: false,
                last_loss: None,
                lost: None,
            }
        })
        .collect();
    let siblings = if service.exclusive {
        let others = service.instances.iter().filter(|i| **i != ix);
        others.enumerate().map(|(s, to)| edge(*to, false, Asker::Sibling(l, s))).collect()
    } else {
        Vec::new()
    };
    let unit = &instance.unit;
    let own = match &unit.ready.local {
        Probe::Ask(question) => {
            Own::Ask(questions.add(question, unit.ready.every, unit.ready.lost_after, Asker::Own(l)))
        }
        Probe::Running { for_ } => Own::Running(*for_),
        Probe::Completed => Own::Completed,
        Probe::Notified => Own::Notified,
    };
    Local {
        ix,
        name: instance.name.clone(),
        unit: unit.clone(),
        wish,
        state: State::Searching,
        since: now,
        reason: "looking for what already runs here".to_owned(),
        process: None,
        own,
        needs,
        siblings,
        alarmed: false,
        failures: Default::default(),
        starts: 0,
        incarnations: 0,
        last_spawn: now,
        forced: None,
        restart: None,
        stop_order: None,
        withdrawn: None,
        after: After::Rest,
        forgivable: None,
        waiting_from: now,
        told: Vec::new(),
        flags: Vec::new(),
        marked: true, // every instance takes its first step at the first input
    }
}
