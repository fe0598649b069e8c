//! What one engine was told, kept as plain facts: the checks decide from these, and not from the engine's own tables.

use crate::engine::view::{StateName, Wish};
use crate::engine::{Action, Engine, Event, Input, OrderVerb, QuestionIx, VETO_LIVES};
use crate::facts::{Answer, Cleaned, Moment, Ready, Role, Verdict};
use crate::model::{Cluster, InstanceIx, Need, NodeIx, Probe, Question};
use crate::sim::Step;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

/// An own instance and its needs, as the file has them.
pub(super) struct Own {
    pub ix: InstanceIx,
    pub needs: Vec<OwnNeed>,
    /// The search for what runs has ended.
    pub searched: bool,
    pub held: bool,
    /// An operator forces its next start.
    pub forced: bool,
    /// When its leftovers were last cleared; taken away by a start.
    pub cleaned: Option<Moment>,
    /// Since when it has had no process: at the least since then it may have waited.
    pub idle_since: Moment,
}

pub(super) struct OwnNeed {
    /// Its place among the needs of the service.
    pub rule: usize,
    pub wanted: usize,
    pub edges: Vec<Edge>,
    /// Its bounded wait is over.
    pub waived: bool,
}

/// A candidate, and what is asked for it; no question is its agent's word.
pub(super) struct Edge {
    pub to: InstanceIx,
    pub question: Option<QuestionIx>,
}

/// An answer that counts for a start.
pub(super) struct Counted<'a> {
    pub to: InstanceIx,
    pub ready: Option<&'a Ready>,
    pub begun: Moment,
    pub ended: Moment,
}

/// What was heard of a question.
#[derive(Default)]
struct Heard {
    answer: Option<Answer>,
    /// Whether it is asked every so often, and when it was asked at once.
    paced: bool,
    asked: Option<Moment>,
}

/// An agent's last word on an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Word {
    state: StateName,
    /// When the veto was last renewed.
    veto: Option<Moment>,
    connected: bool,
}

/// Everything that was told to the engine of one node.
pub(super) struct Told {
    pub cluster: Arc<Cluster>,
    me: NodeIx,
    run: (u32, u32),
    in_force_since: Moment,
    pub now: Moment,
    pub shutting_down: bool,
    pub own: Vec<Own>,
    own_by_ix: HashMap<InstanceIx, usize>,
    /// No step was taken in yet: each own instance is touched by the first.
    is_new: bool,
    questions: Vec<Heard>,
    askers: Vec<Vec<usize>>,
    edges_to: HashMap<InstanceIx, Vec<usize>>,
    words: BTreeMap<InstanceIx, Word>,
    /// Own words that this step replaced: the engine may have counted either.
    before: Vec<(InstanceIx, Word)>,
    vetoed: BTreeSet<InstanceIx>,
    /// The own instances that the last step touched.
    pub touched: BTreeSet<usize>,
}

impl Told {
    /// Takes a step in. `None` is a node that was not seen before.
    ///
    /// # Errors
    /// The engine does without a need whose bounded wait is not over.
    pub fn follow<'t>(known: &'t mut Option<Told>, step: &Step<'_>) -> Result<&'t mut Told, String> {
        let run = (step.boot, step.run);
        let since = step.engine.in_force_since();
        match known {
            Some(told) if told.run != run => *known = None,
            Some(told) if told.in_force_since != since => told.configured_anew(step),
            _ => {}
        }
        let told = known.get_or_insert_with(|| Told::new(step));
        told.take(step)?;
        Ok(told)
    }

    fn new(step: &Step<'_>) -> Told {
        let engine = step.engine;
        let cluster = engine.cluster().clone();
        let me = engine.node();
        let index: HashMap<_, _> = engine.questions().map(|(ix, question)| (question, ix)).collect();
        let own: Vec<Own> = engine
            .own_instances()
            .map(|ix| Own {
                ix,
                needs: needs(&cluster, me, ix, &index),
                searched: false,
                // Before this step, which an order may have changed; orders are taken in below.
                held: engine.view(ix, step.now).is_some_and(|v| matches!(v.wish, Wish::Held { .. })),
                forced: false,
                cleaned: None,
                idle_since: step.now,
            })
            .collect();
        let mut askers = vec![Vec::new(); engine.questions().count()];
        let mut edges_to: HashMap<InstanceIx, Vec<usize>> = HashMap::new();
        for (o, edge) in own
            .iter()
            .enumerate()
            .flat_map(|(o, i)| i.needs.iter().map(move |n| (o, n)))
            .flat_map(|(o, need)| need.edges.iter().map(move |edge| (o, edge)))
        {
            edges_to.entry(edge.to).or_default().push(o);
            if let Some(q) = edge.question {
                askers[q.0 as usize].push(o);
            }
        }
        Told {
            me,
            run: (step.boot, step.run),
            in_force_since: engine.in_force_since(),
            now: step.now,
            shutting_down: false,
            own_by_ix: own.iter().enumerate().map(|(o, i)| (i.ix, o)).collect(),
            touched: (0..own.len()).collect(),
            is_new: true,
            own,
            questions: askers.iter().map(|_| Heard::default()).collect(),
            askers,
            edges_to,
            words: BTreeMap::new(),
            before: Vec::new(),
            vetoed: BTreeSet::new(),
            cluster,
        }
    }

    /// A reload: questions are numbered anew, and nobody was heard yet. Wishes, waivers and force stay.
    fn configured_anew(&mut self, step: &Step<'_>) {
        let mut next = Told::new(step);
        next.shutting_down = self.shutting_down;
        for own in &mut next.own {
            let name = &next.cluster.instance(own.ix).name;
            let was = self.own.iter().find(|was| self.cluster.instance(was.ix).name == *name);
            let Some(was) = was else { continue };
            own.searched = was.searched;
            own.held = was.held;
            own.forced = was.forced;
            own.idle_since = was.idle_since;
            for need in &mut own.needs {
                let name = &rule_of(&next.cluster, own.ix, need.rule).name;
                let same = was.needs.iter().find(|n| rule_of(&self.cluster, was.ix, n.rule).name == *name);
                need.waived = same.is_some_and(|n| n.waived);
            }
        }
        *self = next;
    }

    fn take(&mut self, step: &Step<'_>) -> Result<(), String> {
        self.now = self.now.max(step.now);
        if !std::mem::take(&mut self.is_new) {
            self.touched.clear();
        }
        self.before.clear();
        self.input(step.input);
        self.actions(step.engine, step.actions)?;
        self.end_waivers();
        Ok(())
    }

    /// A need that is met again is needed again.
    fn end_waivers(&mut self) {
        let mut met = Vec::new();
        for o in &self.touched {
            for (n, need) in self.own[*o].needs.iter().enumerate().filter(|(_, need)| need.waived) {
                let rule = self.rule(&self.own[*o], need);
                if self.met(rule, need).1 {
                    met.push((*o, n));
                }
            }
        }
        for (o, n) in met {
            self.own[o].needs[n].waived = false;
        }
    }

    fn input(&mut self, input: &Input) {
        match input {
            Input::Searched { instance, .. } => {
                self.with(*instance, |own, _| own.searched = true);
            }
            Input::Cleaned { instance, cleaned } => {
                let clear = matches!(cleaned, Cleaned::Clear { .. });
                self.with(*instance, |own, now| own.cleaned = clear.then_some(now));
            }
            Input::Answered { question, answer } => self.answered(*question, answer),
            Input::PeerSaid { node, words } => {
                for (ix, word) in words {
                    let known = ix.0 < self.cluster.instances.len() as u32;
                    if known && *node != self.me && self.cluster.instance(*ix).node == *node {
                        let veto = word.veto.as_ref().map(|_| self.now);
                        self.hear(*ix, Word { state: word.state, veto, connected: true });
                    }
                }
            }
            Input::PeerLost { node } => {
                let cluster = self.cluster.clone();
                let of_node: Vec<InstanceIx> =
                    self.words.keys().copied().filter(|ix| cluster.instance(*ix).node == *node).collect();
                for ix in of_node {
                    if let Some(word) = self.words.get_mut(&ix) {
                        word.connected = false;
                    }
                    self.touch(ix);
                }
            }
            Input::Ordered(order) => {
                for ix in &order.instances {
                    self.with(*ix, |own, _| match order.verb {
                        OrderVerb::Start => {
                            own.held = false;
                            own.forced |= order.force;
                        }
                        OrderVerb::Stop => (own.held, own.forced) = (true, false),
                        OrderVerb::Restart => {}
                    });
                }
            }
            Input::ShutdownBegan => {
                self.shutting_down = true;
                self.touched.extend(0..self.own.len());
            }
            Input::TimeCame => {
                let over: Vec<_> = self.vetoed.iter().copied().filter(|ix| !self.is_vetoed(*ix)).collect();
                for ix in over {
                    self.vetoed.remove(&ix);
                    self.touch(ix);
                }
            }
            Input::Spawned { instance, .. }
            | Input::SpawnFailed { instance, .. }
            | Input::Adopted { instance, .. }
            | Input::MainFound { instance, .. }
            | Input::MainMissing { instance, .. }
            | Input::Exited { instance, .. }
            | Input::Swept { instance, .. }
            | Input::Notified { instance, .. } => self.with(*instance, |_, _| {}),
        }
    }

    fn answered(&mut self, q: QuestionIx, answer: &Answer) {
        let Some(heard) = self.questions.get_mut(q.0 as usize) else { return };
        let wanted = heard.paced || heard.asked.is_some();
        if !wanted || answer.begun < self.in_force_since {
            return;
        }
        if heard.asked.is_some_and(|asked| answer.begun >= asked) {
            heard.asked = None;
        }
        if heard.answer.as_ref().is_none_or(|old| old.begun <= answer.begun) {
            heard.answer = Some(answer.clone());
            self.touched.extend(&self.askers[q.0 as usize]);
        }
    }

    /// What the engine told: of its own instances, which it needs to hear too, and what it wants to know.
    fn actions(&mut self, engine: &Engine, actions: &[Action]) -> Result<(), String> {
        for action in actions {
            match action {
                Action::Publish { instance } => {
                    let Some(word) = engine.word(*instance) else { continue };
                    // An own veto lives as long as it is meant; it needs no renewal.
                    let veto = word.veto.map(|_| Moment(u64::MAX));
                    self.hear(*instance, Word { state: word.state, veto, connected: true });
                }
                Action::Pace { question, every } => {
                    if let Some(heard) = self.questions.get_mut(question.0 as usize) {
                        heard.paced = every.is_some();
                        if every.is_none() {
                            *heard = Heard::default(); // what nobody wants to know is not known
                            self.touched.extend(&self.askers[question.0 as usize]);
                        }
                    }
                }
                Action::Verify { question } => {
                    if let Some(heard) = self.questions.get_mut(question.0 as usize) {
                        heard.asked = Some(self.now);
                    }
                }
                Action::Record(event) if event.what == "stop-given-up" => {
                    self.with(event.instance, |own, _| own.held = false);
                }
                Action::Record(event) if event.what == "waived" => self.waive(event)?,
                _ => {}
            }
        }
        Ok(())
    }

    /// Notes that the bounded wait of a need is over, when the engine says so and it is.
    fn waive(&mut self, event: &Event) -> Result<(), String> {
        let name = event.data.get("need").and_then(serde_json::Value::as_str).unwrap_or_default();
        let Some(o) = self.own_by_ix.get(&event.instance) else { return Ok(()) };
        let (cluster, now) = (self.cluster.clone(), self.now);
        let own = &mut self.own[*o];
        let waited = now.since(own.idle_since);
        let need = own.needs.iter_mut().find(|n| rule_of(&cluster, event.instance, n.rule).name == name);
        let over = need.filter(|n| {
            rule_of(&cluster, event.instance, n.rule).wait.is_some_and(|wait| waited >= wait.at_most)
        });
        match over {
            Some(need) => {
                need.waived = true;
                Ok(())
            }
            None => Err(format!(
                "{} does without {name} after {} ms",
                cluster.instance(event.instance).name,
                waited.as_millis()
            )),
        }
    }

    fn with(&mut self, ix: InstanceIx, f: impl FnOnce(&mut Own, Moment)) {
        if let Some(o) = self.own_by_ix.get(&ix) {
            f(&mut self.own[*o], self.now);
            self.touched.insert(*o);
        }
    }

    pub fn own_mut(&mut self, ix: InstanceIx) -> Option<&mut Own> {
        self.own_by_ix.get(&ix).map(|o| &mut self.own[*o])
    }

    pub fn own(&self, ix: InstanceIx) -> Option<&Own> {
        self.own_by_ix.get(&ix).map(|o| &self.own[*o])
    }

    /// The need as the file has it.
    pub fn rule(&self, own: &Own, need: &OwnNeed) -> &Need {
        rule_of(&self.cluster, own.ix, need.rule)
    }

    fn hear(&mut self, ix: InstanceIx, word: Word) {
        if word.veto.is_some() {
            self.vetoed.insert(ix);
        }
        let old = self.words.insert(ix, word);
        if self.own_by_ix.contains_key(&ix)
            && let Some(old) = old
        {
            self.before.push((ix, old));
        }
        self.touch(ix);
    }

    fn touch(&mut self, ix: InstanceIx) {
        self.touched.extend(self.edges_to.get(&ix).into_iter().flatten());
        self.touched.extend(self.own_by_ix.get(&ix));
    }

    fn is_vetoed(&self, ix: InstanceIx) -> bool {
        self.words.get(&ix).is_some_and(|word| self.vetoes(word))
    }

    fn vetoes(&self, word: &Word) -> bool {
        word.connected && word.veto.is_some_and(|at| self.now < at + VETO_LIVES)
    }

    /// The answers that count for a need now, each with who gave it. `before`: with the own instances' words as they
    /// were when the step began.
    pub fn counted<'a>(&'a self, role: Option<Role>, need: &'a OwnNeed, before: bool) -> Vec<Counted<'a>> {
        let word = |edge: &Edge| self.word_on(edge.to, before);
        let staying = |edge: &&Edge| word(edge).is_none_or(|word| !self.vetoes(word));
        self.good(role, need.edges.iter().filter(staying), before)
    }

    /// How many servers a need has, and whether a start may count on them. Where only one may serve, all that do are
    /// counted: who is being stopped serves until it does not.
    pub fn met(&self, rule: &Need, need: &OwnNeed) -> (usize, bool) {
        if self.cluster.wants_only_one(rule) {
            let serving = distinct(&self.good(rule.role, need.edges.iter(), false));
            if serving > need.wanted {
                return (serving, false);
            }
        }
        let count = distinct(&self.counted(rule.role, need, false));
        (count, count >= need.wanted)
    }

    fn word_on(&self, ix: InstanceIx, before: bool) -> Option<&Word> {
        let old = self.before.iter().find(|(own, _)| before && *own == ix).map(|(_, word)| word);
        old.or_else(|| self.words.get(&ix))
    }

    fn good<'a>(
        &'a self,
        role: Option<Role>,
        edges: impl Iterator<Item = &'a Edge>,
        before: bool,
    ) -> Vec<Counted<'a>> {
        let mut counted = Vec::new();
        for edge in edges {
            let word = self.word_on(edge.to, before);
            let Some(q) = edge.question else {
                let up =
                    |w: &&Word| w.connected && matches!(w.state, StateName::Ready | StateName::Completed);
                if word.filter(up).is_some() {
                    counted.push(Counted { to: edge.to, ready: None, begun: self.now, ended: self.now });
                }
                continue;
            };
            if let Some(Answer { verdict: Verdict::Ready(ready), begun, ended }) =
                &self.questions[q.0 as usize].answer
                && role.is_none_or(|role| ready.roles.contains(&role))
            {
                counted.push(Counted { to: edge.to, ready: Some(ready), begun: *begun, ended: *ended });
            }
        }
        counted
    }
}

/// How many servers answered: each identity once, and each that has none.
pub(super) fn distinct(counted: &[Counted<'_>]) -> usize {
    let identity = |c: &&Counted<'_>| c.ready.and_then(|r| r.identity.clone());
    let named: HashSet<String> = counted.iter().filter_map(|c| identity(&c)).collect();
    named.len() + counted.iter().filter(|c| identity(c).is_none()).count()
}

fn rule_of(cluster: &Cluster, ix: InstanceIx, rule: usize) -> &Need {
    &cluster.service(cluster.instance(ix).service).needs[rule]
}

fn needs(
    cluster: &Cluster,
    me: NodeIx,
    ix: InstanceIx,
    index: &HashMap<&Question, QuestionIx>,
) -> Vec<OwnNeed> {
    let rules = cluster.service(cluster.instance(ix).service).needs.iter().enumerate();
    let mine = rules.filter(|(_, need)| need.nodes.as_ref().is_none_or(|on| on.contains(&me)));
    mine.map(|(rule, need)| {
        let candidates = cluster.candidates(need, me);
        let edge = |to: &InstanceIx| {
            let target = cluster.instance(*to);
            let ready = &target.unit.ready;
            let question = match (&ready.remote, &ready.local) {
                _ if need.by_agent => None,
                (Some(remote), _) => Some(remote),
                (None, Probe::Ask(local)) if target.node == me => Some(local),
                _ => None,
            };
            Edge { to: *to, question: question.and_then(|q| index.get(q).copied()) }
        };
        let wanted = need.count.wanted(candidates.len());
        OwnNeed { rule, wanted, edges: candidates.iter().map(edge).collect(), waived: false }
    })
    .collect()
}
