//! One run as JSON. Its shape is kept: keys may be added, none is taken away or changes its meaning.
//!
//! [`HELP`] is its description.

use super::causes::Causes;
use super::figures::Figures;
use super::{Ran, name, node_name, page};
use crate::engine::view::StateName;
use crate::model::{Cluster, InstanceIx};
use crate::sim::{Leg, What};
use serde::Serialize;
use std::time::Duration;

/// As `clusterctl simulate --help` prints it.
pub const HELP: &str = "\
With --json, times in milliseconds since the simulation began:
  cluster, up      its name; whether all came up
  seed             what chance followed from; absent where nothing was left to it
  took_ms          when the last instance came up; null when none did
  instances        in the order of the file: instance, service, node; up, state and reason in
                   the end; up_at_ms (null: it is not); start_up_ms and start_up_from (slow,
                   probe, recorded, unit or assumed); spans (from_ms, state, reason: each
                   lasts until the next); because_of (where the root causes lie)
  order            the names of those that are up, as they came up
  critical_path    without a gap from 0 to took_ms: from_ms, until_ms, what (power, boots,
                   notices, patience, again, prepares or starts), at (the node of power and
                   boots, else the instance), text
  root_causes      at, text, holds_up
With --runs: cluster, runs, first_seed, whole (how many came up whole), took_ms and
after_power_ms (median, worst), slowest (seed, critical_path), failed_seeds, first_failed
(seed, down, root_causes).
Keys may be added; none is taken away or changes its meaning.";

#[derive(Serialize)]
pub struct Report<'r> {
    cluster: &'r str,
    up: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<u64>,
    took_ms: Option<u64>,
    instances: Vec<OfInstance<'r>>,
    order: Vec<&'r str>,
    critical_path: Vec<OfLeg<'r>>,
    root_causes: Vec<OfCause<'r>>,
}

/// One instance.
#[derive(Serialize)]
struct OfInstance<'r> {
    instance: &'r str,
    service: &'r str,
    node: &'r str,
    up: bool,
    /// In the end; `unknown` where no agent runs.
    state: StateName,
    reason: &'r str,
    /// Since when it is up; null when it is not.
    up_at_ms: Option<u64>,
    /// What its start takes, and where that comes from: `slow`, `probe`, `recorded`, `unit`, `assumed`.
    start_up_ms: u64,
    start_up_from: &'static str,
    /// Its states; each lasts until the next.
    spans: Vec<OfSpan<'r>>,
    /// Where the root causes of its being down lie; empty when it is up.
    because_of: Vec<&'r str>,
}

#[derive(Serialize)]
struct OfSpan<'r> {
    from_ms: u64,
    state: StateName,
    #[serde(skip_serializing_if = "str::is_empty")]
    reason: &'r str,
}

/// A part of the critical path.
#[derive(Serialize)]
pub struct OfLeg<'r> {
    from_ms: u64,
    until_ms: u64,
    /// `power`, `boots`, `notices`, `patience`, `again`, `prepares`, `starts`.
    what: &'static str,
    /// The node of `power` and `boots`, else the instance.
    at: &'r str,
    text: String,
}

#[derive(Serialize)]
struct OfCause<'r> {
    at: &'r str,
    text: &'r str,
    holds_up: &'r [String],
}

pub fn report<'r>(ran: &'r Ran, figures: &Figures, causes: &'r Causes) -> Report<'r> {
    let timeline = &ran.timeline;
    let cluster = timeline.cluster();
    let came_up = timeline.came_up();
    let cause =
        |c: &'r crate::ctl::why::Cause| OfCause { at: &c.root.at, text: &c.root.text, holds_up: &c.holds_up };
    Report {
        cluster: &cluster.name,
        up: timeline.stayed_down().is_empty(),
        seed: ran.seed,
        took_ms: came_up.last().map(|(at, _)| ms(*at)),
        instances: cluster.instance_ixs().map(|ix| of_instance(ran, figures, causes, ix)).collect(),
        order: came_up.iter().map(|(_, ix)| name(cluster, *ix)).collect(),
        critical_path: of_path(cluster, &timeline.critical_path()),
        root_causes: causes.all.iter().map(cause).collect(),
    }
}

fn of_instance<'r>(ran: &'r Ran, figures: &Figures, causes: &'r Causes, ix: InstanceIx) -> OfInstance<'r> {
    let cluster = ran.timeline.cluster();
    let (instance, lane) = (cluster.instance(ix), ran.timeline.lane(ix));
    let up = lane.state().is_up();
    OfInstance {
        instance: &instance.name,
        service: &cluster.service(instance.service).name,
        node: node_name(cluster, instance.node),
        up,
        state: lane.state(),
        reason: lane.spans.last().map_or("", |s| &s.reason),
        up_at_ms: lane.up_since().map(ms),
        start_up_ms: ran.scenario.timing.of.get(&ix).copied().map_or(0, ms),
        start_up_from: figures.of(ix).from.word(),
        spans: lane
            .spans
            .iter()
            .map(|s| OfSpan { from_ms: ms(s.from), state: s.state, reason: &s.reason })
            .collect(),
        because_of: if up {
            Vec::new()
        } else {
            causes.of(&instance.name).map(|c| c.root.at.as_str()).collect()
        },
    }
}

/// The critical path.
pub fn of_path<'r>(cluster: &'r Cluster, path: &[Leg]) -> Vec<OfLeg<'r>> {
    path.iter()
        .map(|leg| {
            let what = match &leg.what {
                What::Power { .. } => "power",
                What::Boots { .. } => "boots",
                What::Notices { .. } => "notices",
                What::Patience { .. } => "patience",
                What::Again { .. } => "again",
                What::Prepares { .. } => "prepares",
                What::Starts { .. } => "starts",
            };
            let at = leg.what.at(cluster);
            let text = page::in_words(cluster, &leg.what);
            OfLeg { from_ms: ms(leg.from), until_ms: ms(leg.until), what, at, text }
        })
        .collect()
}

fn ms(time: Duration) -> u64 {
    time.as_millis() as u64
}
