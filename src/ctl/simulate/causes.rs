//! What stayed down, and why: the simulated cluster is asked what a real one is asked by `why`.

use super::{Ran, name, node_name};
use crate::api::wire::{ClusterStatus, LastHeard, NodeEntry, NodeStatus};
use crate::ctl::text::Look;
use crate::ctl::why::{self, Cause, Kind};
use crate::model::NodeIx;
use crate::sim::Timeline;
use crate::sim::timeline::Span;
use std::collections::HashMap;

/// The root causes of everything that is not up.
#[derive(Default)]
pub struct Causes {
    pub all: Vec<Cause>,
    /// For each instance that is down, which of them.
    of: HashMap<String, Vec<usize>>,
}

impl Causes {
    pub fn new(ran: &Ran) -> Causes {
        let timeline = &ran.timeline;
        if timeline.stayed_down().is_empty() {
            return Causes::default();
        }
        let cluster = timeline.cluster();
        // The texts that are used have no wall clock in them; nothing is held in a simulation.
        let epoch = jiff::Zoned::new(jiff::Timestamp::UNIX_EPOCH, jiff::tz::TimeZone::UTC);
        let mut causes =
            Causes { all: why::causes(&status(ran), &Look { width: None, now: epoch }), of: HashMap::new() };
        for (n, cause) in causes.all.iter_mut().enumerate() {
            let mut because = cause.holds_up.clone();
            because.push(cause.root.instance.clone());
            let node = cluster.node_named(&cause.root.at);
            let there = node.map(|node| &cluster.node(node).instances[..]).unwrap_or_default();
            because.extend(there.iter().map(|ix| name(cluster, *ix).to_owned()));
            because.sort_unstable();
            because.dedup();
            for instance in because {
                causes.of.entry(instance).or_default().push(n);
            }
            tell_better(timeline, cause);
        }
        causes
    }

    /// The causes of one instance's being down.
    pub fn of(&self, instance: &str) -> impl Iterator<Item = &Cause> {
        self.of.get(instance).into_iter().flatten().map(|n| &self.all[*n])
    }
}

/// What a simulation can say of a cause, and a real cluster cannot.
fn tell_better(timeline: &Timeline, cause: &mut Cause) {
    let cluster = timeline.cluster();
    let root = &mut cause.root;
    match root.kind {
        // It need not be guessed at.
        Kind::Silent | Kind::Found => {
            if let Some(node) = cluster.node_named(&root.at) {
                root.text = silent(timeline, node).into();
            }
        }
        // "For 29 minutes" would only tell how long the simulation went on.
        Kind::Instance => {
            let lane = cluster.instance_named(&root.at).map(|ix| timeline.lane(ix));
            if let Some(span) = lane.and_then(|lane| lane.spans.last()) {
                root.text = stands(span);
            }
        }
        Kind::Way | Kind::Need => {}
    }
}

/// `failed: gave up after 5 failures: exit code 1`
pub fn stands(span: &Span) -> String {
    if span.reason.is_empty() { span.state.to_string() } else { format!("{}: {}", span.state, span.reason) }
}

/// Why nobody tells of a node's instances.
pub fn silent(timeline: &Timeline, node: NodeIx) -> &'static str {
    if timeline.has_power(node) { "its agent does not run" } else { "the machine has no power" }
}

/// The cluster in the end, as `clusterctl status` would have it.
fn status(ran: &Ran) -> ClusterStatus {
    let timeline = &ran.timeline;
    let cluster = timeline.cluster();
    let nodes = (0..cluster.nodes.len() as u32).map(NodeIx).map(|ix| {
        let placed = &cluster.node(ix).instances;
        let alive = timeline.is_alive(ix);
        let status = alive.then(|| NodeStatus {
            vips: Vec::new(),
            node: node_name(cluster, ix).to_owned(),
            version: env!("CARGO_PKG_VERSION").into(),
            pid: 0,
            up_ms: 0,
            clock_ms: 0,
            config: cluster.hash.clone(),
            generation: crate::generation::Generation::by_hand(cluster.hash.clone()),
            problems: Vec::new(),
            instances: placed.iter().filter_map(|i| ran.views[i.0 as usize].clone()).collect(),
        });
        let silent_one =
            |i: &_| LastHeard { instance: name(cluster, *i).to_owned(), state: None, ago_ms: None };
        NodeEntry {
            node: node_name(cluster, ix).to_owned(),
            group: cluster.node(ix).group.clone(),
            address: cluster.node(ix).address.to_string(),
            problem: (!alive).then(|| silent(timeline, ix).to_owned()),
            last: if alive { Vec::new() } else { placed.iter().map(silent_one).collect() },
            status,
        }
    });
    ClusterStatus { cluster: cluster.name.clone(), asked: "the simulation".into(), nodes: nodes.collect() }
}
