//! The simulated world: machines, their agents, their daemons, and the network between them, in virtual time.

mod agent;
mod asking;
mod daemons;
mod faults;
mod files;
mod ground;
mod links;
mod machine;
mod promises;
mod queue;
mod shell;

use super::chance::Chance;
use super::sabotage::Sabotage;
use super::scenario::Scenario;
use super::{Step, Watcher};
use crate::engine::view::InstanceView;
use crate::engine::{Input, Layout, QuestionIx};
use crate::graph::Graph;
use crate::model::{Cluster, InstanceIx, NodeIx, ServiceIx};
use asking::{Addresses, Target};
use daemons::{Daemon, Lease, Life};
use links::{Connection, Line};
use machine::Machine;
use queue::Queue;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::{self, Write};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// What came of a run.
#[derive(Debug)]
pub struct Ending {
    /// When nothing was due any more, or time was over.
    pub at: Duration,
    /// In the order of the file.
    pub instances: Vec<Ended>,
    /// How many inputs all engines took in.
    pub inputs: u64,
}

/// One instance at the end.
#[derive(Debug)]
pub struct Ended {
    pub instance: InstanceIx,
    /// It runs and its own probe passes, or it rightly stands by, or it has completed.
    pub up: bool,
    /// As its own agent sees it; `None` where that does not run.
    pub view: Option<InstanceView>,
}

/// A promise that was broken: the run ended with it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("after {at:?}: {why}")]
pub struct Violation {
    pub at: Duration,
    pub why: String,
}

/// Runs a scenario to its end.
///
/// # Errors
/// The first promise that is broken, be it by the world's own truth or by what a watcher says.
pub fn run(scenario: &Scenario, watchers: &mut [&mut dyn Watcher]) -> Result<Ending, Violation> {
    World::new(scenario, None, watchers).run()
}

/// As [`run`], with engines that are broken on purpose.
///
/// # Errors
/// As [`run`].
pub fn run_sabotaged(
    scenario: &Scenario,
    sabotage: Sabotage,
    watchers: &mut [&mut dyn Watcher],
) -> Result<Ending, Violation> {
    World::new(scenario, Some(sabotage), watchers).run()
}

/// What is due.
#[derive(Debug)]
enum Event {
    Fault(usize),
    /// A machine's kernel and network are there, and its init starts the agent.
    Boot {
        node: NodeIx,
        boot: u32,
    },
    /// Its init starts the agent again.
    Restart {
        node: NodeIx,
        boot: u32,
    },
    /// A machine that goes down has waited long enough.
    Off {
        node: NodeIx,
        boot: u32,
    },
    /// Whoever was to die in the middle of something dies now.
    Struck {
        node: NodeIx,
        boot: u32,
    },
    /// An init that has heard nothing from its agent for too long.
    Watchdog {
        node: NodeIx,
        boot: u32,
        run: u32,
    },
    Wake {
        node: NodeIx,
        run: u32,
    },
    /// The disk has kept an operator's wishes.
    WishesKept {
        node: NodeIx,
        run: u32,
    },
    Tell {
        node: NodeIx,
        run: u32,
        input: Box<Input>,
    },
    Look {
        node: NodeIx,
        run: u32,
        question: QuestionIx,
        prober: u32,
    },
    Land {
        node: NodeIx,
        run: u32,
        question: QuestionIx,
        prober: u32,
        flight: u32,
    },
    Life {
        node: NodeIx,
        boot: u32,
        pid: i32,
        serial: u64,
        life: Life,
    },
    Dial {
        node: NodeIx,
        run: u32,
        peer: NodeIx,
    },
    Accept {
        connection: u64,
    },
    Line {
        connection: u64,
        line: Line,
    },
    HangUp {
        connection: u64,
        cuts: Option<u32>,
    },
}

struct World<'a, 'w> {
    scenario: &'a Scenario,
    cluster: Arc<Cluster>,
    sabotage: Option<Sabotage>,
    watchers: &'a mut [&'w mut dyn Watcher],
    chance: Chance,
    now: Duration,
    queue: Queue<Event>,
    inputs: u64,
    serials: u64,

    machines: Vec<Machine>,
    /// What does not change: the order of starting, and names.
    layout: Arc<Layout>,
    ranks: Vec<u32>,
    names: HashMap<Arc<str>, InstanceIx>,
    addresses: Addresses,
    /// What each node's questions are put to, and which questions are put to each instance; filled in when a node's
    /// agent first begins.
    targets: Vec<Rc<Vec<Target>>>,
    lookers: Vec<Vec<(NodeIx, QuestionIx)>>,
    followers: Vec<BTreeSet<NodeIx>>,

    daemons: Vec<Daemon>,
    /// The main process of each instance.
    mains: Vec<Option<i32>>,
    /// Since when nothing has changed about what is asked of each instance.
    steady: Vec<Duration>,
    leases: BTreeMap<ServiceIx, Lease>,

    cuts: BTreeSet<(NodeIx, NodeIx)>,
    slow: BTreeMap<(NodeIx, NodeIx), Duration>,
    connections: BTreeMap<u64, Connection>,
    connected: u64,
}

impl<'a, 'w> World<'a, 'w> {
    fn new(
        scenario: &'a Scenario,
        sabotage: Option<Sabotage>,
        watchers: &'a mut [&'w mut dyn Watcher],
    ) -> World<'a, 'w> {
        let cluster = scenario.cluster.clone();
        let (nodes, instances) = (cluster.nodes.len(), cluster.instances.len());
        let nothing = Rc::new(Vec::new());
        let ranks = Graph::ranks(&cluster);
        World {
            scenario,
            sabotage,
            chance: Chance::new(scenario.seed).branch(2),
            now: Duration::ZERO,
            queue: Queue::new(),
            inputs: 0,
            serials: 0,
            machines: (0..nodes).map(|_| Machine::new()).collect(),
            layout: Arc::new(Layout::new(cluster.clone(), &ranks)),
            ranks,
            names: cluster.instance_ixs().map(|ix| (cluster.instance(ix).name.clone(), ix)).collect(),
            addresses: Addresses::of(&cluster),
            targets: vec![nothing; nodes],
            lookers: vec![Vec::new(); instances],
            followers: vec![BTreeSet::new(); nodes],
            daemons: vec![Daemon::default(); instances],
            mains: vec![None; instances],
            steady: vec![Duration::ZERO; instances],
            leases: BTreeMap::new(),
            cuts: BTreeSet::new(),
            slow: BTreeMap::new(),
            connections: BTreeMap::new(),
            connected: 0,
            watchers,
            cluster,
        }
    }

    fn run(mut self) -> Result<Ending, Violation> {
        for (number, timed) in self.scenario.faults.iter().enumerate() {
            self.queue.push(timed.at, Event::Fault(number));
        }
        while let Some((at, event)) = self.queue.pop() {
            if at > self.scenario.at_most {
                break;
            }
            self.now = at;
            self.happen(event)?;
        }
        let ending = self.ending();
        self.all_that_can_be_up_is_up(&ending)?;
        Ok(ending)
    }

    fn happen(&mut self, event: Event) -> Result<(), Violation> {
        // What waits for an agent that gets no processor time waits on.
        if let Some(node) = self.who_acts(&event) {
            let stalled = self.machines[node.0 as usize].stalled;
            if stalled > self.now {
                self.queue.push(stalled, event);
                return Ok(());
            }
        }
        match event {
            Event::Fault(number) => return self.befall(number),
            Event::Boot { node, boot } if self.is_boot(node, boot) => {
                self.machines[node.0 as usize].up = true;
                self.touch_node(node, None);
                return self.start_agent(node);
            }
            Event::Restart { node, boot } if self.is_boot(node, boot) => return self.start_agent(node),
            Event::Off { node, boot } if self.is_boot(node, boot) => return self.power_off(node),
            Event::Struck { node, boot } if self.is_boot(node, boot) => return self.strike(node),
            Event::Watchdog { node, boot, run } if self.is_boot(node, boot) => {
                return self.watchdog(node, run);
            }
            Event::Boot { .. }
            | Event::Restart { .. }
            | Event::Off { .. }
            | Event::Struck { .. }
            | Event::Watchdog { .. } => {}
            Event::Wake { node, run } => return self.wake(node, run),
            Event::Tell { node, run, input } if self.is_run(node, run) => return self.feed(node, *input),
            Event::Look { node, run, question, prober } if self.is_run(node, run) => {
                self.look(node, question, prober);
            }
            Event::Land { node, run, question, prober, flight } if self.is_run(node, run) => {
                if let Some(input) = self.land(node, question, prober, flight) {
                    return self.feed(node, input);
                }
            }
            Event::WishesKept { node, run } if self.is_run(node, run) => {
                self.settle_wishes(node);
                return self.strike(node);
            }
            Event::Tell { .. } | Event::Look { .. } | Event::Land { .. } | Event::WishesKept { .. } => {}
            Event::Life { node, boot, pid, serial, life } => {
                if self.is_boot(node, boot) {
                    let at = self.now;
                    return self.life(node, pid, serial, life).map_err(|why| Violation { at, why });
                }
            }
            Event::Dial { node, run, peer } => self.dial(node, run, peer),
            Event::Accept { connection } => self.accept(connection),
            Event::Line { connection, line } => {
                if let Some((node, input)) = self.hear(connection, &line) {
                    return self.feed(node, input);
                }
            }
            Event::HangUp { connection, cuts } => {
                if let Some((node, input)) = self.hang_up(connection, cuts) {
                    return self.feed(node, input);
                }
            }
        }
        Ok(())
    }

    /// The node whose agent has to do something for the event to happen.
    fn who_acts(&self, event: &Event) -> Option<NodeIx> {
        match event {
            Event::Wake { node, .. }
            | Event::WishesKept { node, .. }
            | Event::Tell { node, .. }
            | Event::Look { node, .. }
            | Event::Land { node, .. }
            | Event::Dial { node, .. } => Some(*node),
            Event::Accept { connection } => self.connections.get(connection).map(|c| c.writer),
            Event::Line { connection, .. } | Event::HangUp { connection, .. } => {
                self.connections.get(connection).map(|c| c.reader)
            }
            Event::Fault(number) => self.scenario.faults.get(*number).and_then(|t| self.ordered_of(&t.fault)),
            Event::Boot { .. }
            | Event::Restart { .. }
            | Event::Off { .. }
            | Event::Struck { .. }
            | Event::Watchdog { .. }
            | Event::Life { .. } => None,
        }
    }

    fn is_boot(&self, node: NodeIx, boot: u32) -> bool {
        let machine = &self.machines[node.0 as usize];
        machine.on && machine.boots == boot
    }

    fn is_run(&self, node: NodeIx, run: u32) -> bool {
        self.machines[node.0 as usize].agent.as_ref().is_some_and(|agent| agent.run == run)
    }

    fn ending(&mut self) -> Ending {
        let cluster = self.cluster.clone();
        let ended = |ix| {
            let node = cluster.instance(ix).node;
            let now = self.clock(node);
            let agent = self.machines[node.0 as usize].agent.as_ref();
            Ended { instance: ix, up: self.is_up(ix), view: agent.and_then(|a| a.engine.view(ix, now)) }
        };
        let instances = cluster.instance_ixs().map(ended).collect();
        Ending { at: self.now, instances, inputs: self.inputs }
    }
}

/// Writes down every step, and stirs it into one number: two runs with the same number went the same way.
#[derive(Debug)]
pub struct Trace {
    hash: u64,
    line: String,
    /// The lines, if they are wanted.
    text: Option<String>,
}

impl Trace {
    /// The number only.
    pub fn hash_only() -> Trace {
        Trace { hash: 0xcbf2_9ce4_8422_2325, line: String::new(), text: None }
    }

    /// The lines too.
    pub fn whole() -> Trace {
        Trace { text: Some(String::new()), ..Trace::hash_only() }
    }

    pub fn hash(&self) -> u64 {
        self.hash
    }

    pub fn text(&self) -> &str {
        self.text.as_deref().unwrap_or_default()
    }

    fn add(&mut self, line: fmt::Arguments<'_>) {
        self.line.clear();
        // Writing to a String cannot fail.
        let _ = writeln!(self.line, "{line}");
        for byte in self.line.bytes() {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        if let Some(text) = &mut self.text {
            text.push_str(&self.line);
        }
    }
}

impl Watcher for Trace {
    fn step(&mut self, step: &Step<'_>) -> Result<(), String> {
        let name = &step.engine.cluster().node(step.node).name;
        self.add(format_args!("{:?} {name} {:?} -> {:?}", step.at, step.input, step.actions));
        Ok(())
    }
}
