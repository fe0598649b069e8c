use super::*;
use crate::engine::view::StateName;
use crate::engine::{Order, OrderVerb, Word};
use crate::facts::{Cleaned, Trouble};
use crate::graph::Graph;
use crate::model::{self, Source, Sources};

const NODES: &str =
    "[cluster]\nname = \"c\"\n[nodes]\na = { n1 = \"127.0.0.1\", n2 = \"127.0.0.2\", n3 = \"127.0.0.3\" }\n";
const SERVICES: &str = "[services]\ncache = { on = \"n1\" }\nweb = { on = \"n2\", needs.cache = \"any\" }\n\
                        fork = { on = \"n2\" }\nlone = { on = \"n3\", unit = \"fork\" }\n";
const WEB: InstanceIx = InstanceIx(1);
const FORK: InstanceIx = InstanceIx(2);
const MS: Duration = Duration::from_millis(1);

fn cluster(services: &str) -> Arc<Cluster> {
    let source = |text: String| Source { path: "a file".into(), text };
    let served = "[run]\ncommand = [\"/bin/served\"]\n[ready]\nprobe = { kind = \"tcp\", port = 7000 }\n";
    let forking = "[run]\nkind = \"forking\"\ncommand = [\"/bin/fork\"]\npidfile = \"/run/{instance}.pid\"\n\
                   [ready]\nprobe = { kind = \"running\", for = \"1s\" }\n";
    let units = [("cache", served), ("web", served), ("fork", forking)];
    let sources = Sources {
        cluster: source(format!("{NODES}{services}")),
        folder: "units".into(),
        units: units.iter().map(|(name, text)| ((*name).to_owned(), source((*text).to_owned()))).collect(),
        unread: Default::default(),
    };
    Arc::new(model::parse(&sources).unwrap_or_else(|e| panic!("{e}")))
}

/// The engine of n2, and the contract that looks on.
struct World {
    engine: Engine,
    contract: Contract,
    now: Moment,
}

impl World {
    fn new() -> World {
        let cluster = cluster(SERVICES);
        let (me, ranks) = (cluster.node_named("n2").unwrap(), Graph::ranks(&cluster));
        let engine = Engine::new(cluster, me, &ranks, &HashMap::new(), Moment(1));
        let mut contract = Contract::default();
        contract.agent(Duration::ZERO, NodeIx(1), Some(&engine)).unwrap();
        World { engine, contract, now: Moment(1) }
    }

    /// Both own instances are searched; `fork` has its daemon, `web` waits for the cache.
    fn begun() -> World {
        let mut world = World::new();
        world.gives(Input::Searched { instance: WEB, found: Found::Nothing });
        world.gives(Input::Searched { instance: FORK, found: Found::Nothing });
        world.gives(Input::Cleaned { instance: FORK, cleaned: Cleaned::Clear { findings: Vec::new() } });
        world.gives(Input::Spawned { instance: FORK, incarnation: 1, pid: 70 });
        world.gives(exited(Exit::Code(0)));
        world.gives(Input::MainFound { instance: FORK, incarnation: 1, pid: 71 });
        world
    }

    fn give(&mut self, input: Input) -> Result<Vec<Action>, String> {
        self.now = self.now + MS;
        let actions = self.engine.handle(self.now, 500, input.clone());
        let step = Step {
            at: Duration::ZERO,
            node: NodeIx(1),
            boot: 1,
            run: 1,
            now: self.now,
            input: &input,
            actions: &actions,
            engine: &self.engine,
        };
        self.contract.step(&step).map(|()| actions)
    }

    #[track_caller]
    fn gives(&mut self, input: Input) -> Vec<Action> {
        let shown = format!("{input:?}");
        self.give(input).unwrap_or_else(|why| panic!("{shown}: {why}"))
    }

    #[track_caller]
    fn may_not(&mut self, input: Input, because: &str) {
        let why = self.give(input).expect_err("no agent gives it");
        assert!(why.contains(because), "{why}");
    }

    /// The one question that is asked: whether the cache is ready.
    fn answer(&self, begun: Moment, verdict: Verdict) -> Input {
        Input::Answered { question: QuestionIx(0), answer: Answer { verdict, begun, ended: begun + MS } }
    }

    fn order(&mut self, id: u64, verb: OrderVerb, instance: InstanceIx) -> Input {
        Input::Ordered(Order {
            id,
            verb,
            instances: vec![instance],
            force: false,
            timeout: Duration::from_secs(60),
            without: Vec::new(),
            by: "root".into(),
            reason: String::new(),
            clock: 0,
        })
    }
}

fn exited(exit: Exit) -> Input {
    Input::Exited { instance: FORK, incarnation: 1, exit, last_words: String::new(), alone: false }
}

fn refused() -> Verdict {
    Verdict::not_ready(Trouble::Refused, "nobody listens")
}

fn says(instance: InstanceIx) -> Input {
    let word = Word { state: StateName::Starting, reason: String::new(), veto: None, released: Vec::new() };
    Input::PeerSaid { node: NodeIx(0), words: vec![(instance, word)] }
}

#[test]
fn each_own_instance_is_searched_first_once_and_in_the_order_of_the_file() {
    World::new().may_not(Input::TimeCame, "web@n2 is searched first");
    World::new()
        .may_not(Input::Searched { instance: FORK, found: Found::Nothing }, "web@n2 is searched first");
    let again = Input::Searched { instance: WEB, found: Found::Nothing };
    World::begun().may_not(again, "web@n2 was searched already");
}

#[test]
fn what_an_action_brings_about_comes_next_and_only_then() {
    let clear = || Input::Cleaned { instance: FORK, cleaned: Cleaned::Clear { findings: Vec::new() } };
    let spawned = |incarnation| Input::Spawned { instance: FORK, incarnation, pid: 70 };
    World::begun().may_not(clear(), "no action has just asked");
    World::begun().may_not(spawned(2), "no action has just asked");

    let mut world = World::new();
    world.gives(Input::Searched { instance: WEB, found: Found::Nothing });
    world.gives(Input::Searched { instance: FORK, found: Found::Nothing });
    world.may_not(Input::TimeCame, "Cleaned(InstanceIx(2)) comes first");

    let mut world = World::new();
    world.gives(Input::Searched { instance: WEB, found: Found::Nothing });
    world.gives(Input::Searched { instance: FORK, found: Found::Nothing });
    world.gives(clear());
    world.may_not(spawned(2), "Spawned(InstanceIx(2), 1) comes first");
}

#[test]
fn a_held_process_ends_once() {
    let mut world = World::begun();
    let earlier = Input::Exited {
        instance: FORK,
        incarnation: 9,
        exit: Exit::Code(0),
        last_words: String::new(),
        alone: false,
    };
    world.may_not(earlier, "no process of fork@n2/9 is held");
    let mut world = World::begun();
    world.gives(exited(Exit::Signal(9)));
    world.may_not(exited(Exit::Signal(9)), "no process of fork@n2/1 is held");
}

#[test]
fn only_what_is_being_swept_is_swept_at_once_or_later() {
    let swept = || Input::Swept { instance: FORK, incarnation: 1, killed: 0 };
    World::begun().may_not(swept(), "is not being swept");
    let mut world = World::begun();
    let stop = world.order(1, OrderVerb::Stop, FORK);
    world.gives(stop);
    let sweeps = world.gives(exited(Exit::Signal(15)));
    assert!(sweeps.iter().any(|a| matches!(a, Action::Sweep { .. })), "{sweeps:?}");
    let start = world.order(2, OrderVerb::Start, WEB); // something else comes between
    world.gives(start);
    world.gives(swept());
    world.may_not(swept(), "is not being swept");
}

#[test]
fn an_answer_has_begun_has_ended_and_was_asked_for() {
    let mut world = World::begun();
    let early = world.answer(Moment(0), refused());
    world.may_not(early, "nobody asks this question");
    let mut world = World::begun();
    let later = world.answer(world.now + MS, refused());
    world.may_not(later, "has not ended yet");
    let mut world = World::begun();
    let other = Answer { verdict: refused(), begun: world.now, ended: world.now };
    world.may_not(Input::Answered { question: QuestionIx(1), answer: other }, "nobody asks this question");
    let mut world = World::begun();
    let asked = world.answer(world.now, refused());
    world.gives(asked.clone());
    world.may_not(asked, "it is the answer that was told before");
}

#[test]
fn the_same_answer_again_answers_a_verify_from_before_it() {
    let at = |ms: u64| Moment(0) + MS * ms as u32;
    let told = |prober: &mut Prober, ms, verdict: Verdict| {
        prober.tells(&Answer { verdict, begun: at(ms), ended: at(ms) })
    };
    let mut asked = Asked::default();
    asked.pace(at(0), Some(MS));
    let prober = asked.prober.as_mut().unwrap();
    told(prober, 1, refused()).unwrap();
    told(prober, 2, Verdict::ready("")).unwrap();
    assert!(told(prober, 3, Verdict::ready("")).is_err(), "no news");
    asked.verify(at(10));
    let prober = asked.prober.as_mut().unwrap();
    assert!(told(prober, 9, Verdict::ready("")).is_err(), "begun before it was asked");
    told(prober, 11, Verdict::ready("")).unwrap();
    assert!(told(prober, 12, Verdict::ready("")).is_err(), "one Verify, one answer");
    assert!(told(prober, 8, refused()).is_err(), "overtaken");

    // News may have been the verification, and may not: little is owed, however often it was asked.
    for ms in 20..40 {
        asked.verify(at(ms));
    }
    let prober = asked.prober.as_mut().unwrap();
    told(prober, 50, refused()).unwrap();
    told(prober, 51, refused()).unwrap();
    told(prober, 52, refused()).unwrap();
    assert!(told(prober, 53, refused()).is_err(), "two can have been under way, not three");
}

#[test]
fn a_question_without_a_pace_is_answered_as_often_as_it_was_to_be_verified() {
    let mut asked = Asked::default();
    asked.verify(Moment(5));
    let prober = asked.prober.as_mut().unwrap();
    prober.tells(&Answer { verdict: refused(), begun: Moment(6), ended: Moment(6) }).unwrap();
    let news = Answer { verdict: Verdict::ready(""), begun: Moment(7), ended: Moment(7) };
    assert!(prober.tells(&news).unwrap_err().contains("not asked at any pace"));
}

#[test]
fn an_answer_that_was_under_way_may_come_when_nobody_asks_any_more() {
    let mut world = World::begun();
    let begun = world.now;
    let stop = world.order(1, OrderVerb::Stop, WEB);
    let paces = world.gives(stop);
    assert!(paces.iter().any(|a| matches!(a, Action::Pace { every: None, .. })), "{paces:?}");
    let late = world.answer(begun, refused());
    world.gives(late);
    let later = world.answer(world.now, refused());
    world.gives(Input::ShutdownBegan);
    world.may_not(later, "nobody asks this question");
}

#[test]
fn other_agents_are_heard_for_themselves_and_lost_once() {
    World::begun().may_not(says(WEB), "n1 speaks for an instance of another node");
    let stranger = Input::PeerSaid { node: NodeIx(2), words: Vec::new() };
    World::begun().may_not(stranger, "nobody follows the agent of node n3");
    World::begun().may_not(Input::PeerLost { node: NodeIx(0) }, "n1 was not heard");
    let mut world = World::begun();
    world.gives(says(InstanceIx(0)));
    world.gives(Input::PeerLost { node: NodeIx(0) });
    world.may_not(Input::PeerLost { node: NodeIx(0) }, "n1 was not heard");
}

#[test]
fn orders_count_up_and_are_for_this_node() {
    let mut world = World::begun();
    let second = world.order(2, OrderVerb::Start, WEB);
    world.may_not(second, "order 2 comes as number 1");
    let mut world = World::begun();
    let foreign = world.order(1, OrderVerb::Start, InstanceIx(0));
    world.may_not(foreign, "cache@n1 is not an own instance");
}

#[test]
fn time_comes_when_it_is_due_and_never_goes_back() {
    let mut world = World::begun();
    world.may_not(Input::TimeCame, "it is not due");
    let mut world = World::begun();
    world.now = world.engine.next_wake().expect("it waits to be ready");
    world.gives(Input::TimeCame);
    world.now = world.now - MS * 2;
    world.may_not(says(InstanceIx(0)), "the clock went back");
}

#[test]
fn after_a_new_configuration_the_new_ones_are_searched_and_time_comes_once() {
    let reconfigured = || {
        let mut world = World::begun();
        let more =
            cluster(&format!("{SERVICES}more = {{ on = \"n2\", unit = \"fork\", needs.cache = \"any\" }}\n"));
        let ranks = Graph::ranks(&more);
        let _ = world.engine.reconfigure(world.now, more.clone(), NodeIx(1), &ranks);
        (world, more.instance_named("more@n2").unwrap())
    };
    let (mut world, _) = reconfigured();
    world.may_not(Input::TimeCame, "more@n2 is searched first");
    let (mut world, more) = reconfigured();
    let before = world.answer(world.now, refused());
    world.gives(Input::Searched { instance: more, found: Found::Nothing });
    world.may_not(before, "looks around first");
    let (mut world, more) = reconfigured();
    let before = world.answer(world.now, refused());
    world.gives(Input::Searched { instance: more, found: Found::Nothing });
    world.gives(Input::TimeCame);
    world.gives(before); // under way, under its old number
    world.may_not(Input::TimeCame, "it is not due");
}

#[test]
fn nothing_comes_after_the_end() {
    let mut world = World::begun();
    world.gives(Input::ShutdownBegan);
    world.gives(exited(Exit::Signal(15)));
    let done = world.gives(Input::Swept { instance: FORK, incarnation: 1, killed: 0 });
    assert!(done.contains(&Action::Finished), "{done:?}");
    world.may_not(says(InstanceIx(0)), "the agent has ended");
}
