//! What a simulation is of: a cluster, a seed, how long daemons take, and what befalls them when.

use crate::model::{Cluster, InstanceIx, NodeIx};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// A simulation to be run. The same scenario runs the same way each time.
#[derive(Clone, Debug)]
pub struct Scenario {
    pub cluster: Arc<Cluster>,
    /// Everything that is left to chance follows from it: delays, jitter, who is first.
    pub seed: u64,
    pub timing: Timing,
    /// In the order of time; those of one moment in the order given. Machines are without power until
    /// [`Fault::PowerOn`].
    pub faults: Vec<Timed>,
    /// Ends when nothing has happened and nothing is due for a while after the last fault, and at the latest then.
    pub at_most: Duration,
}

/// How long daemons take to get ready once they are started.
#[derive(Clone, Debug)]
pub struct Timing {
    /// For those that are not named in `of`.
    pub usual: Duration,
    pub of: BTreeMap<InstanceIx, Duration>,
    /// From a machine's power to its agent's first instruction.
    pub boot: Duration,
}

/// Something that befalls the cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct Timed {
    /// Since the scenario began.
    pub at: Duration,
    pub fault: Fault,
}

/// What can befall it. Each has its opposite, so that faults can stop.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// The machine has power, and boots. One that has it already is left alone.
    PowerOn {
        node: NodeIx,
    },
    /// The machine stops at once. What was not synced may be lost, what was being written may be torn.
    PowerCut {
        node: NodeIx,
    },
    /// An orderly shutdown, by the machine's own init.
    Shutdown {
        node: NodeIx,
    },
    /// kill -9 of the agent; its init starts it again.
    AgentKilled {
        node: NodeIx,
    },
    /// The agent gets no processor time for so long.
    AgentStalls {
        node: NodeIx,
        for_: Duration,
    },
    /// kill -9 of an instance's main process.
    Crash {
        instance: InstanceIx,
    },
    /// The process lives and answers nothing, until `Wakes`.
    Hangs {
        instance: InstanceIx,
    },
    Wakes {
        instance: InstanceIx,
    },
    /// It runs, keeps its port open, and says no; until `Serves`.
    Declines {
        instance: InstanceIx,
    },
    Serves {
        instance: InstanceIx,
    },
    /// Each start of it fails, until `Mended`.
    Broken {
        instance: InstanceIx,
    },
    Mended {
        instance: InstanceIx,
    },
    /// Packets from one node to another vanish, until `Joined`. A connection needs both ways.
    Cut {
        from: NodeIx,
        to: NodeIx,
    },
    Joined {
        from: NodeIx,
        to: NodeIx,
    },
    /// Packets take so much longer, both ways; zero ends it.
    Slow {
        from: NodeIx,
        to: NodeIx,
        by: Duration,
    },
    /// The state disk takes no write, until `DiskFree`.
    DiskFull {
        node: NodeIx,
    },
    DiskFree {
        node: NodeIx,
    },
    /// The wall clock jumps by so many seconds.
    ClockJumps {
        node: NodeIx,
        seconds: i64,
    },
    /// An unrelated process takes this instance's stale pid number, when there is one.
    PidReused {
        instance: InstanceIx,
    },
    /// An operator's orders, given to the instance's own agent; lost when that does not run.
    Stop {
        instance: InstanceIx,
        timeout: Duration,
    },
    Start {
        instance: InstanceIx,
        force: bool,
    },
    Restart {
        instance: InstanceIx,
    },
    /// The node's agent is told to read its files again: another configuration, or one that is refused.
    Reload {
        node: NodeIx,
        config: Config,
    },
}

/// What lies in a node's configuration folder.
#[derive(Clone, Debug, PartialEq)]
pub enum Config {
    /// The scenario's own cluster.
    Own,
    /// A file with an error in it.
    Broken,
}
