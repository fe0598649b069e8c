//! The configuration: `cluster.toml` and `units/*.toml`, parsed once into types that cannot be wrong.
//!
//! A [`Cluster`] exists only when every check has passed: names resolve, counts can be met, parameters are
//! filled in, nothing fights for one pid file, no cycle keeps anything from starting. Everything above this
//! layer may index without looking again. Raw text → valid model is [`load`]'s work; all errors at once.
//!
//! Knows nothing of the layers above it.

mod care;
mod care_table;
mod checks;
mod cluster_file;
mod diag;
mod drafts;
mod external;
mod fields;
mod fill;
mod load;
mod needs;
mod plain_probes;
mod probe_daemons;
mod probe_table;
mod shelf;
mod source;
mod systemd_table;
mod unit;
mod unit_file;
mod vip;
mod vips;
mod words;

pub use care::{
    Bounds, CallGroup, Capability, Care, CgroupLimits, EnvironmentFile, ProtectHome, ProtectSystem, Resource,
    Sight,
};
pub use diag::{Diagnostic, Diagnostics, MAX_SHOWN, Place};
pub use load::{load, parse};
pub use plain_probes::is_systemd_unit;
pub use source::{MAX_CLUSTER_FILE, MAX_UNIT_FILE, MAX_UNIT_FILES, Source, Sources, units_folder};
pub use unit::*;
pub use vip::{Forward, MAX_DIRECTORS, OnSplitBrain, Scheduler, Vip, in_network};
pub use words::{MAX_NAME, nearest, parse_duration, show_duration};

use crate::facts::Role;
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// Index of a node in [`Cluster::nodes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct NodeIx(pub u32);
/// Index of a service in [`Cluster::services`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct ServiceIx(pub u32);
/// Index of an instance in [`Cluster::instances`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct InstanceIx(pub u32);

impl NodeIx {
    /// No node: where what is outside the cluster is. See [`Cluster::outside`].
    pub const OUTSIDE: NodeIx = NodeIx(u32::MAX);
}

/// A whole, valid cluster file with its units. Immutable once built.
#[derive(Debug)]
pub struct Cluster {
    pub name: String,
    /// TCP port of every agent's API.
    pub port: u16,
    /// Whether the agents' TCP port speaks plain HTTP, to everybody who reaches it.
    pub insecure: bool,
    /// The group whose members may use the agents' unix sockets, besides root.
    pub group: Option<String>,
    /// Keys of certificates that are not trusted any more: SHA-256, 64 hex digits.
    pub revoked: Vec<String>,
    /// Content hash of the file and its units: [`Sources::hash`].
    pub hash: String,
    pub nodes: Vec<Node>,
    pub services: Vec<Service>,
    /// All instances, grouped by service in file order, then by node in placement order; behind them one for each thing
    /// outside the cluster, on [`NodeIx::OUTSIDE`].
    pub instances: Vec<Instance>,
    /// Where what is outside the cluster is: no machine of it. Its instances are nobody's to start.
    pub outside: Node,
    /// Virtual addresses that move between nodes.
    pub vips: Vec<Vip>,
    /// Values that the file did not say and that were filled in; `plan` prints them.
    pub defaults: Vec<DefaultUsed>,
    /// Things that are legal and probably not meant; `check` prints them.
    pub warnings: Vec<String>,
}

/// A machine.
#[derive(Clone, Debug)]
pub struct Node {
    pub name: String,
    /// The group in `[nodes]` that it was listed under.
    pub group: String,
    pub address: IpAddr,
    /// What needs can go by, such as its zone.
    pub labels: BTreeMap<String, String>,
    /// What is placed on it, in file order.
    pub instances: Vec<InstanceIx>,
}

/// A unit placed on nodes, with what it needs.
#[derive(Clone, Debug)]
pub struct Service {
    pub name: String,
    /// Name of the unit file, without `.toml`.
    pub unit: String,
    /// One serves, the others stand by (from the unit): capacity 1 for needs.
    pub exclusive: bool,
    pub instances: Vec<InstanceIx>,
    pub needs: Vec<Need>,
}

/// An edge of the graph: this service needs instances of others.
#[derive(Clone, Debug)]
pub struct Need {
    /// The service that has this need.
    pub dependent: ServiceIx,
    /// The nodes whose instances of it have this need; `None` is all of them. See [`Cluster::needs_of`].
    pub nodes: Option<Vec<NodeIx>>,
    /// The key under `needs.`: the target's name, or a name of its own when it names several services.
    pub name: String,
    /// The services whose instances count; at least one.
    pub targets: Vec<ServiceIx>,
    pub count: Count,
    /// Only instances in this role count.
    pub role: Option<Role>,
    /// Only instances on nodes with the dependent's own value of this label count.
    pub same: Option<String>,
    /// How long to wait for it; `None` is for ever.
    pub wait: Option<Wait>,
    pub on_loss: OnLoss,
    /// Whether the other agent's statement is the proof (for what can be proven only there).
    pub by_agent: bool,
}

/// How many of a need's candidates must be met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    All,
    Quorum,
    /// `any` is `AtLeast(1)`.
    AtLeast(u32),
    /// One and no more: two that serve at a time are worse than none.
    One,
    /// Every target's instance on the dependent's own node.
    SameNode,
}

/// What is asked for: `any writable, same zone`.
impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.count)?;
        if let Some(role) = self.role {
            write!(f, " {}", role.as_str())?;
        }
        match &self.same {
            Some(label) => write!(f, ", same {label}"),
            None => Ok(()),
        }
    }
}

impl Count {
    /// How many of `candidates` (the placements in the file, held and lost ones included) must be met.
    pub fn wanted(self, candidates: usize) -> usize {
        match self {
            Count::All | Count::SameNode => candidates,
            Count::Quorum => candidates / 2 + 1,
            Count::AtLeast(n) => n as usize,
            Count::One => 1,
        }
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Count::All => f.write_str("all"),
            Count::Quorum => f.write_str("quorum"),
            Count::AtLeast(1) => f.write_str("any"),
            Count::AtLeast(n) => write!(f, "{n}"),
            Count::One => f.write_str("one"),
            Count::SameNode => f.write_str("same-node"),
        }
    }
}

/// A bounded wait for a need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait {
    pub at_most: Duration,
    pub then: AfterWait,
}

/// What happens when a bounded wait is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterWait {
    /// Start without it.
    Start,
    /// Give up: `failed`.
    Fail,
}

/// What losing a need means for a running dependent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnLoss {
    /// Nothing: it keeps running, the loss is told.
    Keep,
    /// Stop after the grace; it waits for the need again.
    Stop { grace: Duration },
    /// Restart once when the need is met again after having been lost for longer than the grace.
    Restart { grace: Duration },
}

/// One service on one node, with its unit as filled in for it.
#[derive(Clone, Debug)]
pub struct Instance {
    pub service: ServiceIx,
    pub node: NodeIx,
    /// `service@node`; outside the cluster its name alone.
    pub name: Arc<str>,
    pub unit: Arc<Unit>,
}

/// A default that was used: `web needs mysql: count = all`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DefaultUsed {
    /// Where: `service web, need mysql` or `unit redis`.
    pub place: String,
    pub key: String,
    pub value: String,
}

impl Cluster {
    /// Whether two that meet this need at a time are an alarm and do not meet it: where it says so itself (`one`), and
    /// where its target is exclusive.
    pub fn wants_only_one(&self, need: &Need) -> bool {
        need.count == Count::One || matches!(&need.targets[..], [target] if self.service(*target).exclusive)
    }

    pub fn node(&self, ix: NodeIx) -> &Node {
        if ix == NodeIx::OUTSIDE { &self.outside } else { &self.nodes[ix.0 as usize] }
    }
    pub fn service(&self, ix: ServiceIx) -> &Service {
        &self.services[ix.0 as usize]
    }
    pub fn instance(&self, ix: InstanceIx) -> &Instance {
        &self.instances[ix.0 as usize]
    }
    /// The indices of all instances of the cluster's own, in order.
    pub fn instance_ixs(&self) -> impl Iterator<Item = InstanceIx> + use<> {
        (0..self.own_count() as u32).map(InstanceIx)
    }
    /// How many instances the cluster has of its own.
    pub fn own_count(&self) -> usize {
        self.instances.len() - self.outside.instances.len()
    }
    /// Whether it is outside the cluster.
    pub fn is_outside(&self, ix: InstanceIx) -> bool {
        self.instance(ix).node == NodeIx::OUTSIDE
    }
    /// Whether it stands for something outside the cluster.
    pub fn is_external(&self, service: ServiceIx) -> bool {
        self.service(service).instances.first().is_some_and(|ix| self.is_outside(*ix))
    }
    pub fn node_named(&self, name: &str) -> Option<NodeIx> {
        self.nodes.iter().position(|n| n.name == name).map(|i| NodeIx(i as u32))
    }
    pub fn service_named(&self, name: &str) -> Option<ServiceIx> {
        self.services.iter().position(|s| s.name == name).map(|i| ServiceIx(i as u32))
    }
    /// The instance called `service@node`, or what is outside by its name alone.
    pub fn instance_named(&self, name: &str) -> Option<InstanceIx> {
        let Some((service, node)) = name.split_once('@') else {
            let mut outside = self.outside.instances.iter().copied();
            return outside.find(|ix| &*self.instance(*ix).name == name);
        };
        let (service, node) = (self.service_named(service)?, self.node_named(node)?);
        self.service(service).instances.iter().copied().find(|i| self.instance(*i).node == node)
    }
    /// The needs that one instance has: those of its service, without those that are for other nodes only.
    pub fn needs_of(&self, ix: InstanceIx) -> impl Iterator<Item = &Need> {
        let Instance { service, node, .. } = self.instance(ix);
        self.service(*service).needs.iter().filter(|n| n.nodes.as_ref().is_none_or(|on| on.contains(node)))
    }
    /// Whether instances on `there` can count for `need` of one on `here`, as far as labels go.
    pub fn is_near(&self, need: &Need, here: NodeIx, there: NodeIx) -> bool {
        let of = |node: NodeIx, label| self.node(node).labels.get(label);
        need.same.as_ref().is_none_or(|label| of(here, label) == of(there, label))
    }
    /// The instances that can count for `need` of an instance on `node`, in file order. Nobody counts for itself.
    pub fn candidates(&self, need: &Need, node: NodeIx) -> Vec<InstanceIx> {
        let here = |service: ServiceIx| {
            let there = self.node(node).instances.iter().copied();
            there.filter(move |i| self.instance(*i).service == service)
        };
        let mut all = Vec::new();
        for target in &need.targets {
            match need.count {
                Count::SameNode => all.extend(here(*target)),
                _ => all.extend(&self.service(*target).instances),
            }
        }
        all.retain(|i| {
            let there = self.instance(*i);
            (there.service != need.dependent || there.node != node) && self.is_near(need, node, there.node)
        });
        all
    }
}
