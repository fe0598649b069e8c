//! One engine fed by hand: what the checks let pass, and what each of them catches.

use super::*;
use crate::engine::view::{StateName, Wish};
use crate::engine::{
    Action, Engine, Found, Input, Memory, Order as Orders, OrderVerb, QuestionIx, Veto, Word,
};
use crate::facts::{Answer, Cleaned, Moment, Ready, Trouble, Verdict};
use crate::graph::Graph;
use crate::model::{InstanceIx, NodeIx};
use crate::sim::Step;
use crate::sim::sabotage::{Sabotage, Saboteur};
use crate::sim::text;
use std::collections::HashMap;
use std::time::Duration;

const CLUSTER: &str = r#"cluster
[cluster]
name = "shop"
[nodes]
mq = { mq1 = "10.0.0.31" }
mysql = { mysql1 = "10.0.0.51", mysql2 = "10.0.0.52" }
[services]
mysql = { on = "mysql" }
job = { on = "mysql" }
activemq = { on = "mq", needs.mysql = 2, needs.job = { count = "any", proof = "agent" } }
end
unit mysql
[run]
command = ["/usr/sbin/mysqld"]
[ready]
probe = { kind = "mysql", port = 3306 }
end
unit job
[run]
kind = "oneshot"
command = ["/usr/bin/job"]
end
unit activemq
[run]
command = ["/usr/bin/activemq"]
[ready]
probe = { kind = "tcp", port = 61617 }
end
at-most 1h
"#;

/// The agent of `mq1`, its shell played by the test.
struct Bench {
    scenario: Scenario,
    engine: Engine,
    watchers: Vec<(&'static str, Box<dyn Watcher>)>,
    saboteur: Option<Saboteur>,
    now: Moment,
    run: u32,
}

impl Bench {
    fn new(faults: &str, sabotage: Option<Sabotage>) -> Bench {
        let scenario = text::parse(&format!("{CLUSTER}{faults}")).unwrap().scenario;
        let now = Moment(1_000_000_000);
        let engine = engine(&scenario, now);
        let watchers = of_steps(&scenario);
        let saboteur = sabotage.map(Saboteur::new);
        let mut bench = Bench { scenario, engine, watchers, saboteur, now, run: 1 };
        bench.search().unwrap();
        bench
    }

    fn search(&mut self) -> Result<(), String> {
        let instance = self.ix("activemq@mq1");
        self.feed(Input::Searched { instance, found: Found::Nothing })?;
        self.after(100);
        Ok(())
    }

    fn ix(&self, name: &str) -> InstanceIx {
        self.scenario.cluster.instance_named(name).unwrap()
    }

    fn after(&mut self, millis: u64) {
        self.now = self.now + Duration::from_millis(millis);
    }

    fn feed(&mut self, input: Input) -> Result<Vec<Action>, String> {
        let actions = match &mut self.saboteur {
            Some(saboteur) => saboteur.handle(&mut self.engine, self.now, 0, input.clone()),
            None => self.engine.handle(self.now, 0, input.clone()),
        };
        let step = Step {
            at: self.now.since(Moment(0)),
            node: self.engine.node(),
            boot: 1,
            run: self.run,
            now: self.now,
            input: &input,
            actions: &actions,
            engine: &self.engine,
        };
        self.watchers.iter_mut().try_for_each(|(_, watcher)| watcher.step(&step))?;
        Ok(actions)
    }

    fn answer(&mut self, name: &str, begun_ago: u64, verdict: Verdict) -> Result<Vec<Action>, String> {
        let port = self.scenario.cluster.instance(self.ix(name)).unit.ready.remote.clone().unwrap();
        let found = self.engine.questions().find(|(_, q)| **q == port);
        let question: QuestionIx = found.unwrap().0;
        let begun = self.now - Duration::from_millis(begun_ago);
        self.feed(Input::Answered { question, answer: Answer { verdict, begun, ended: self.now } })
    }

    fn say(&mut self, name: &str, state: StateName, vetoes: bool) -> Result<Vec<Action>, String> {
        let ix = self.ix(name);
        let node = self.scenario.cluster.instance(ix).node;
        let veto = vetoes.then(|| Veto { epoch: 1, why: "it goes".into(), waits: true, lost: false });
        let word = Word { state, reason: String::new(), veto, released: Vec::new() };
        self.feed(Input::PeerSaid { node, words: vec![(ix, word)] })
    }

    fn clean(&mut self) -> Result<Vec<Action>, String> {
        let instance = self.ix("activemq@mq1");
        self.feed(Input::Cleaned { instance, cleaned: Cleaned::Clear { findings: Vec::new() } })
    }

    fn order(&mut self, verb: OrderVerb, force: bool) -> Result<Vec<Action>, String> {
        let instances = vec![self.ix("activemq@mq1")];
        self.feed(Input::Ordered(Orders {
            id: 1,
            verb,
            instances,
            force,
            timeout: Duration::from_secs(60),
            without: Vec::new(),
            by: "alice".into(),
            reason: String::new(),
            clock: 0,
        }))
    }

    /// What became of the wishes of the order is known, and it is answered.
    fn settle(&mut self, kept: bool) {
        let node = self.engine.node();
        self.watchers.iter_mut().for_each(|(_, watcher)| watcher.wishes_settled(node, kept));
    }

    /// A new agent, which finds nothing running and has lost the wishes.
    fn forgetful(&mut self) -> Result<(), String> {
        self.run += 1;
        let (at, node) = (self.now.since(Moment(0)), self.engine.node());
        self.watchers.iter_mut().try_for_each(|(_, watcher)| watcher.agent(at, node, None))?;
        self.engine = engine(&self.scenario, self.now);
        self.search()
    }

    /// Everything up to the start, by good answers.
    fn start(&mut self) -> Result<Vec<Action>, String> {
        self.say("job@mysql1", StateName::Completed, false)?;
        self.answer("mysql@mysql1", 1, mysql("one"))?;
        self.answer("mysql@mysql2", 1, mysql("two"))?;
        self.after(10);
        let mut actions = self.clean()?;
        self.after(10);
        actions.extend(self.answer("mysql@mysql1", 1, mysql("one"))?);
        actions.extend(self.answer("mysql@mysql2", 1, mysql("two"))?);
        Ok(actions)
    }
}

fn engine(scenario: &Scenario, now: Moment) -> Engine {
    let graph = Graph::new(&scenario.cluster).unwrap();
    let ranks: Vec<u32> = scenario.cluster.instance_ixs().map(|ix| graph.rank(ix)).collect();
    Engine::new(scenario.cluster.clone(), NodeIx(0), &ranks, &HashMap::<_, Wish>::new(), now)
}

fn mysql(identity: &str) -> Verdict {
    Verdict::Ready(Ready { identity: Some(identity.to_owned()), ..Ready::default() })
}

fn refused() -> Verdict {
    Verdict::not_ready(Trouble::Refused, "refused")
}

fn spawns(actions: &[Action]) -> usize {
    actions.iter().filter(|a| matches!(a, Action::Spawn { .. })).count()
}

#[test]
fn a_start_that_is_proven_passes() {
    let mut bench = Bench::new("", None);
    assert_eq!(spawns(&bench.start().unwrap()), 1);
    let (instance, incarnation) = (bench.ix("activemq@mq1"), 1);
    bench.feed(Input::Spawned { instance, incarnation, pid: 100 }).unwrap();
}

/// Where it is expected that the honest engine does not start, the broken one does, and is caught.
#[track_caller]
fn caught(sabotage: Sabotage, says: &str, play: impl Fn(&mut Bench) -> Result<Vec<Action>, String>) {
    let honest = play(&mut Bench::new("", None)).unwrap();
    assert_eq!(spawns(&honest), 0, "the honest engine starts");
    let broken = play(&mut Bench::new("", Some(sabotage)));
    let why = broken.expect_err("nobody has seen it");
    assert!(why.contains(says), "{why}");
}

#[test]
fn an_unheard_veto_is_caught() {
    caught(Sabotage::DeafToVetoes, "its engine counts 1", |bench| {
        bench.answer("mysql@mysql1", 1, mysql("one"))?;
        bench.say("mysql@mysql1", StateName::Stopping, true)?;
        bench.start()
    });
}

#[test]
fn an_answer_told_again_is_caught() {
    caught(Sabotage::KeepsOldAnswers, "its engine counts 1", |bench| {
        bench.say("job@mysql1", StateName::Completed, false)?;
        bench.answer("mysql@mysql1", 1, mysql("one"))?;
        bench.answer("mysql@mysql1", 0, refused())?;
        bench.answer("mysql@mysql2", 1, mysql("two"))
    });
}

#[test]
fn an_answer_from_before_the_cleaning_is_caught() {
    caught(Sabotage::PostdatesAnswers, "of its need mysql only 1 of 2 are proven", |bench| {
        bench.say("job@mysql1", StateName::Completed, false)?;
        bench.answer("mysql@mysql1", 1, mysql("one"))?;
        bench.answer("mysql@mysql2", 1, mysql("two"))?;
        bench.after(10);
        bench.clean()?;
        bench.after(10);
        bench.answer("mysql@mysql1", 1, mysql("one"))?;
        bench.answer("mysql@mysql2", 11, mysql("two"))
    });
}

#[test]
fn a_lost_agent_that_is_believed_is_caught() {
    caught(Sabotage::TrustsLostPeers, "need job", |bench| {
        bench.say("job@mysql1", StateName::Completed, false)?;
        let node = bench.scenario.cluster.node_named("mysql1").unwrap();
        bench.feed(Input::PeerLost { node })?;
        bench.answer("mysql@mysql1", 1, mysql("one"))?;
        bench.answer("mysql@mysql2", 1, mysql("two"))?;
        bench.clean()
    });
}

#[test]
fn a_start_without_a_look_is_caught() {
    caught(Sabotage::StartsUnproven, "without a look at its leftovers", |bench| {
        bench.say("job@mysql1", StateName::Completed, false)?;
        bench.answer("mysql@mysql1", 1, mysql("one"))?;
        bench.answer("mysql@mysql2", 1, mysql("two"))
    });
}

/// The engine is honest here, and the check must be, too: one server behind two addresses counts once.
#[test]
fn an_identity_counts_once() {
    let mut bench = Bench::new("", None);
    bench.say("job@mysql1", StateName::Completed, false).unwrap();
    bench.answer("mysql@mysql1", 1, mysql("one")).unwrap();
    let actions = bench.answer("mysql@mysql2", 1, mysql("one")).unwrap();
    assert!(!actions.iter().any(|a| matches!(a, Action::Clean { .. })));
}

#[test]
fn a_unit_that_no_file_has_is_caught() {
    let mut bench = Bench::new("", Some(Sabotage::StartsAnotherUnit));
    assert!(bench.start().unwrap_err().contains("by a unit that no accepted file has"));
}

#[test]
fn a_forgotten_hold_is_caught() {
    let mut bench = Bench::new("", None);
    bench.order(OrderVerb::Stop, false).unwrap();
    bench.settle(true);
    bench.forgetful().unwrap();
    assert_eq!(bench.start().unwrap_err(), "held: activemq@mq1 is started although an operator holds it");
}

/// Nobody was told that it is kept.
#[test]
fn a_hold_that_was_being_written_may_end_with_its_agent() {
    let mut bench = Bench::new("", None);
    bench.order(OrderVerb::Stop, false).unwrap();
    bench.forgetful().unwrap();
    assert_eq!(spawns(&bench.start().unwrap()), 1);
}

#[test]
fn a_hold_ends_with_a_start() {
    let mut bench = Bench::new("", None);
    bench.order(OrderVerb::Stop, false).unwrap();
    bench.settle(true);
    bench.order(OrderVerb::Start, false).unwrap();
    bench.forgetful().unwrap();
    assert_eq!(spawns(&bench.start().unwrap()), 1);
}

/// The order was answered as one that a reboot forgets, and a new agent has forgotten it.
#[test]
fn a_hold_on_a_full_disk_ends_with_its_agent() {
    let mut bench = Bench::new("", None);
    bench.order(OrderVerb::Stop, false).unwrap();
    bench.settle(false);
    bench.forgetful().unwrap();
    assert_eq!(spawns(&bench.start().unwrap()), 1);
}

#[test]
fn a_forced_start_needs_nothing_but_a_look() {
    let mut bench = Bench::new("", None);
    bench.order(OrderVerb::Start, true).unwrap();
    assert_eq!(spawns(&bench.clean().unwrap()), 1);
}

#[test]
fn a_start_that_nobody_forced_is_caught() {
    let mut bench = Bench::new("", None);
    let instance = bench.ix("activemq@mq1");
    let unit = bench.scenario.cluster.instance(instance).unit.clone();
    bench.clean().unwrap();
    let actions = [Action::Spawn { instance, memory: Memory::default(), unit }];
    let step = Step {
        at: Duration::from_secs(2),
        node: NodeIx(0),
        boot: 1,
        run: 1,
        now: bench.now,
        input: &Input::TimeCame,
        actions: &actions,
        engine: &bench.engine,
    };
    let why = bench.watchers.iter_mut().find_map(|(_, w)| w.step(&step).err()).unwrap();
    assert!(why.contains("only 0 of 2 are proven"), "{why}");
}
