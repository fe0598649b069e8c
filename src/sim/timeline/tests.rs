//! Timelines and critical paths over steps made by hand, with the engines that ship.

use super::*;
use crate::engine::{Found, Input, QuestionIx, Word};
use crate::facts::{Answer, Cleaned, Exit, Trouble, Verdict};
use crate::graph::Graph;
use crate::model::{Source, Sources, parse};
use crate::sim::scenario::{Timed, Timing};
use std::collections::BTreeMap;

/// Two databases, and a site on one machine that needs `count` of them.
fn cluster(count: &str) -> Arc<Cluster> {
    let source = |path: &str, text: String| Source { path: path.into(), text };
    let unit = |name: &str, port: u16| {
        let text = format!(
            "[run]\ncommand = [\"/usr/bin/{name}\"]\n[ready]\nprobe = {{ kind = \"tcp\", port = {port} }}\n\
             [restart]\ndelay = \"2s\"\n"
        );
        (name.to_owned(), source(&format!("units/{name}.toml"), text))
    };
    let text = format!(
        "[cluster]\nname = \"little\"\n[nodes]\ndb = {{ db1 = \"10.0.0.1\", db2 = \"10.0.0.2\" }}\n\
         web = {{ web1 = \"10.0.0.3\" }}\n[services]\ndb = {{ on = \"db\" }}\n\
         site = {{ on = \"web\", needs.db = {count} }}\n"
    );
    let units = BTreeMap::from([unit("db", 1), unit("site", 2)]);
    let sources = Sources {
        cluster: source("cluster.toml", text),
        folder: "units".into(),
        units,
        unread: BTreeMap::new(),
    };
    Arc::new(parse(&sources).unwrap())
}

/// A scenario, its engines, and the timeline that looks on.
struct Told {
    cluster: Arc<Cluster>,
    engines: BTreeMap<u32, Engine>,
    timeline: Timeline,
}

impl Told {
    /// Every machine has power from the start, but for those that come later.
    fn new(count: &str, late: &[(&str, u64)]) -> Told {
        let cluster = cluster(count);
        let power = |(i, node): (usize, &crate::model::Node)| {
            let at = late.iter().find(|(name, _)| *name == node.name).map_or(0, |(_, at)| *at);
            Timed { at: ms(at), fault: Fault::PowerOn { node: NodeIx(i as u32) } }
        };
        let mut faults: Vec<Timed> = cluster.nodes.iter().enumerate().map(power).collect();
        faults.sort_by_key(|t| t.at);
        let timing = Timing { usual: ms(1000), of: BTreeMap::new(), boot: ms(20_000) };
        let scenario = Scenario { cluster: cluster.clone(), seed: 0, timing, faults, at_most: ms(600_000) };
        Told { timeline: Timeline::new(&scenario), cluster, engines: BTreeMap::new() }
    }

    fn ix(&self, instance: &str) -> InstanceIx {
        self.cluster.instance_named(instance).unwrap()
    }

    /// Machines have clocks of their own, which nobody can compare.
    fn now(node: NodeIx, at: Duration) -> Moment {
        Moment(7_000_000_000 * (1 + u64::from(node.0))) + at
    }

    fn agent(&mut self, at: u64, node: &str) {
        let node = self.cluster.node_named(node).unwrap();
        let ranks: Vec<u32> = {
            let graph = Graph::new(&self.cluster).unwrap();
            self.cluster.instance_ixs().map(|ix| graph.rank(ix)).collect()
        };
        let now = Told::now(node, ms(at));
        let engine = Engine::new(self.cluster.clone(), node, &ranks, &HashMap::new(), now);
        self.timeline.agent(ms(at), node, Some(&engine)).unwrap();
        self.engines.insert(node.0, engine);
        for ix in self.timeline.cluster().node(node).instances.clone() {
            self.give(at, node, Input::Searched { instance: ix, found: Found::Nothing });
        }
    }

    fn dies(&mut self, at: u64, node: &str) {
        let node = self.cluster.node_named(node).unwrap();
        self.engines.remove(&node.0);
        self.timeline.agent(ms(at), node, None).unwrap();
    }

    fn give(&mut self, at: u64, node: NodeIx, input: Input) {
        let (at, now) = (ms(at), Told::now(node, ms(at)));
        let engine = self.engines.get_mut(&node.0).unwrap();
        let actions = engine.handle(now, 500, input.clone());
        let step = Step { at, node, boot: 1, run: 1, now, input: &input, actions: &actions, engine };
        self.timeline.step(&step).unwrap();
    }

    /// The instance's own agent gets this.
    fn input(&mut self, at: u64, instance: &str, input: impl Fn(InstanceIx, u64) -> Input) {
        let ix = self.ix(instance);
        let node = self.cluster.instance(ix).node;
        let incarnation = self.engines[&node.0].memory(ix).unwrap().incarnation;
        self.give(at, node, input(ix, incarnation));
    }

    fn cleaned(&mut self, at: u64, instance: &str) {
        self.input(at, instance, |instance, _| Input::Cleaned {
            instance,
            cleaned: Cleaned::Clear { findings: vec![] },
        });
    }

    fn spawned(&mut self, at: u64, instance: &str) {
        self.input(at, instance, |instance, incarnation| Input::Spawned { instance, incarnation, pid: 7 });
    }

    fn exited(&mut self, at: u64, instance: &str) {
        self.input(at, instance, |instance, incarnation| Input::Exited {
            instance,
            incarnation,
            exit: Exit::Code(1),
            last_words: "no disk".into(),
            alone: true,
        });
    }

    /// From `node` the instance answers well, or refuses.
    fn answers(&mut self, at: u64, node: &str, instance: &str, good: bool) {
        let from = self.cluster.node_named(node).unwrap();
        let target = self.cluster.instance(self.ix(instance));
        let address = target.unit.ready.remote.as_ref().unwrap().address();
        let engine = &self.engines[&from.0];
        let question: QuestionIx =
            engine.questions().find(|(_, q)| q.address() == address).map(|(q, _)| q).unwrap();
        let now = Told::now(from, ms(at));
        let verdict = if good {
            Verdict::ready("open")
        } else {
            Verdict::not_ready(Trouble::Refused, "connection refused")
        };
        let answer = Answer { verdict, begun: now, ended: now };
        self.give(at, from, Input::Answered { question, answer });
    }

    /// On `node` the word arrives that the instance is ready.
    fn is_told_ready(&mut self, at: u64, node: &str, instance: &str) {
        let (here, ix) = (self.cluster.node_named(node).unwrap(), self.ix(instance));
        let word = Word { state: StateName::Ready, reason: String::new(), veto: None, released: vec![] };
        let node = self.cluster.instance(ix).node;
        self.give(at, here, Input::PeerSaid { node, words: vec![(ix, word)] });
    }

    /// A start from its cleaning to its first good answer.
    fn starts(&mut self, at: u64, instance: &str, takes: u64) {
        let node = self.cluster.node(self.cluster.instance(self.ix(instance)).node).name.clone();
        self.cleaned(at, instance);
        self.spawned(at, instance);
        self.answers(at + takes, &node, instance, true);
    }

    fn state(&self, instance: &str) -> StateName {
        self.timeline.lane(self.ix(instance)).state()
    }

    fn order(&self) -> Vec<(u64, &str)> {
        let came_up = self.timeline.came_up();
        came_up.iter().map(|(at, ix)| (at.as_millis() as u64, &*self.cluster.instance(*ix).name)).collect()
    }

    /// `20000 +1000 db@db1 starts`; fails when there is a gap.
    fn path(&self) -> Vec<String> {
        let name = |ix: &InstanceIx| self.cluster.instance(*ix).name.to_string();
        let node = |ix: &NodeIx| self.cluster.node(*ix).name.clone();
        let path = self.timeline.critical_path();
        let mut at = Duration::ZERO;
        let mut told = Vec::new();
        for leg in path {
            assert_eq!(leg.from, at, "a gap before {leg:?}");
            at = leg.until;
            let what = match &leg.what {
                What::Power { node: n } => format!("{} dark", node(n)),
                What::Boots { node: n } => format!("{} boots", node(n)),
                What::Notices { instance, of, .. } => format!("{} notices {}", name(instance), name(of)),
                What::Patience { instance, need } => format!("{} waits for {need}", name(instance)),
                What::Again { instance, .. } => format!("{} again", name(instance)),
                What::Prepares { instance } => format!("{} prepares", name(instance)),
                What::Starts { instance } => format!("{} starts", name(instance)),
            };
            told.push(format!("{} +{} {what}", leg.from.as_millis(), (leg.until - leg.from).as_millis()));
        }
        told
    }
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[test]
fn the_path_goes_over_the_need_that_was_met_last() {
    let mut told = Told::new("\"all\"", &[]);
    for node in ["db1", "db2", "web1"] {
        told.agent(20_000, node);
    }
    told.answers(20_010, "web1", "db@db1", false);
    told.starts(20_020, "db@db1", 1000);
    told.starts(20_030, "db@db2", 5000);
    told.answers(21_050, "web1", "db@db1", true);
    told.answers(25_080, "web1", "db@db2", true);
    told.cleaned(25_085, "site@web1");
    told.answers(25_090, "web1", "db@db1", true);
    told.answers(25_092, "web1", "db@db2", true);
    told.spawned(25_095, "site@web1");
    told.answers(25_500, "web1", "site@web1", true);
    assert_eq!(told.order(), [(21_020, "db@db1"), (25_030, "db@db2"), (25_500, "site@web1")]);
    assert_eq!(
        told.path(),
        [
            "0 +20000 db2 boots",
            "20000 +30 db@db2 prepares",
            "20030 +5000 db@db2 starts",
            "25030 +50 site@web1 notices db@db2",
            "25080 +12 site@web1 prepares",
            "25092 +408 site@web1 starts",
        ]
    );
    let lane = told.timeline.lane(told.ix("site@web1"));
    let states: Vec<StateName> = lane.spans.iter().map(|s| s.state).collect();
    use StateName::{Cleaning, Ready, Starting, Unknown, Waiting};
    assert_eq!(states, [Unknown, Waiting, Cleaning, Starting, Ready]);
}

#[test]
fn of_any_the_first_that_came_counts() {
    let mut told = Told::new("\"any\"", &[]);
    for node in ["db1", "db2", "web1"] {
        told.agent(20_000, node);
    }
    told.cleaned(20_000, "db@db1");
    told.spawned(20_000, "db@db1");
    told.starts(20_000, "db@db2", 1000);
    told.answers(21_050, "web1", "db@db2", true);
    told.cleaned(21_055, "site@web1");
    told.answers(21_060, "web1", "db@db2", true);
    told.spawned(21_060, "site@web1");
    told.answers(25_000, "db1", "db@db1", true);
    told.answers(30_000, "web1", "site@web1", true);
    assert_eq!(
        told.path(),
        [
            "0 +20000 db2 boots",
            "20000 +1000 db@db2 starts",
            "21000 +50 site@web1 notices db@db2",
            "21050 +10 site@web1 prepares",
            "21060 +8940 site@web1 starts",
        ]
    );
}

/// An agent's word has the cleaning begun before the answer is there.
#[test]
fn a_need_that_is_met_while_it_cleans_is_the_cause_all_the_same() {
    let mut told = Told::new("\"any\"", &[]);
    told.agent(20_000, "db1");
    told.agent(20_000, "web1");
    told.answers(20_010, "web1", "db@db1", false);
    told.starts(20_000, "db@db1", 1000);
    told.is_told_ready(21_001, "web1", "db@db1");
    assert_eq!(told.state("site@web1"), StateName::Cleaning);
    told.cleaned(21_020, "site@web1");
    told.answers(21_040, "web1", "db@db1", true);
    told.spawned(21_041, "site@web1");
    told.answers(21_500, "web1", "site@web1", true);
    assert_eq!(
        told.path(),
        [
            "0 +20000 db1 boots",
            "20000 +1000 db@db1 starts",
            "21000 +40 site@web1 notices db@db1",
            "21040 +460 site@web1 starts",
        ]
    );
}

#[test]
fn what_was_ready_before_the_machine_came_held_nothing_up() {
    let mut told = Told::new("\"any\"", &[("web1", 60_000)]);
    told.agent(20_000, "db1");
    told.starts(20_000, "db@db1", 1000);
    told.agent(80_000, "web1");
    told.answers(80_004, "web1", "db@db1", true);
    told.cleaned(80_005, "site@web1");
    told.answers(80_006, "web1", "db@db1", true);
    told.spawned(80_007, "site@web1");
    told.answers(80_500, "web1", "site@web1", true);
    assert_eq!(
        told.path(),
        [
            "0 +60000 web1 dark",
            "60000 +20000 web1 boots",
            "80000 +4 site@web1 notices db@db1",
            "80004 +2 site@web1 prepares",
            "80006 +494 site@web1 starts",
        ]
    );
    assert_eq!(told.state("db@db2"), StateName::Unknown);
    assert_eq!(told.timeline.stayed_down(), [told.ix("db@db2")]);
}

#[test]
fn a_start_that_failed_before_is_a_part_of_the_path() {
    let mut told = Told::new("\"any\"", &[]);
    told.agent(20_000, "db1");
    told.cleaned(20_000, "db@db1");
    told.spawned(20_000, "db@db1");
    told.exited(21_000, "db@db1");
    assert_eq!(told.state("db@db1"), StateName::Backoff);
    let node = told.cluster.node_named("db1").unwrap();
    let now = Told::now(node, ms(21_000));
    let wake = told.engines[&node.0].next_wake().unwrap().since(now).as_millis() as u64 + 21_000;
    told.give(wake, node, Input::TimeCame);
    told.starts(wake, "db@db1", 1000);
    let path = told.path();
    assert_eq!(path[..2], ["0 +20000 db1 boots", &format!("20000 +{} db@db1 again", wake - 20_000)]);
    assert_eq!(path[2..], [format!("{wake} +1000 db@db1 starts")]);
}

#[test]
fn a_bounded_wait_is_a_part_of_the_path() {
    let mut told = Told::new("{ count = \"any\", wait = \"2m\", then = \"start\" }", &[]);
    told.agent(20_000, "web1");
    told.answers(20_010, "web1", "db@db1", false);
    let node = told.cluster.node_named("web1").unwrap();
    told.give(140_000, node, Input::TimeCame);
    told.starts(140_000, "site@web1", 1000);
    assert_eq!(
        told.path(),
        ["0 +20000 web1 boots", "20000 +120000 site@web1 waits for db", "140000 +1000 site@web1 starts"]
    );
}

#[test]
fn after_a_power_cut_the_path_is_the_last_boots() {
    let mut told = Told::new("\"any\"", &[]);
    let db1 = told.cluster.node_named("db1").unwrap();
    told.timeline.machines[db1.0 as usize].power =
        vec![(ms(0), true), (ms(30_000), false), (ms(40_000), true)];
    told.agent(20_000, "db1");
    told.starts(20_000, "db@db1", 1000);
    told.dies(30_000, "db1");
    assert_eq!(told.state("db@db1"), StateName::Unknown);
    assert!(told.order().is_empty());
    told.agent(60_000, "db1");
    told.starts(60_000, "db@db1", 2000);
    assert_eq!(told.order(), [(62_000, "db@db1")]);
    assert_eq!(told.path(), ["0 +40000 db1 dark", "40000 +20000 db1 boots", "60000 +2000 db@db1 starts"]);
}
