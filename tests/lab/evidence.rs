//! What the records of a boot must prove: every start had fresh evidence for each of its needs.

use super::kernel::Process;
use super::kernel::TICK;
use super::scene::Told;
use clusterd::engine::Evidence;
use clusterd::facts::Moment;
use clusterd::model::{self, Cluster};
use std::collections::BTreeMap;
use std::path::Path;

/// One start of an instance in the present boot, with what justified it.
#[derive(Debug)]
pub struct Start {
    pub at: Moment,
    /// When its agent began.
    pub boot: Moment,
    pub evidence: Vec<Evidence>,
    /// Needs that a bounded wait gave up.
    pub waived: Vec<String>,
}

/// All starts of the present boot: those after each agent's latest beginning.
///
/// All hosts share the machine's monotonic clock, so moments of different hosts can be compared here.
pub fn starts(events: &[Told]) -> BTreeMap<String, Vec<Start>> {
    let mut begun: BTreeMap<&str, Moment> = BTreeMap::new();
    for told in events.iter().filter(|t| t.event.what == "agent-started") {
        let latest = begun.entry(&told.node).or_default();
        *latest = told.event.at.max(*latest);
    }
    let mut starts: BTreeMap<String, Vec<Start>> = BTreeMap::new();
    let mut waived: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for Told { node, event } in events {
        let Some(&boot) = begun.get(node.as_str()) else { continue };
        if event.at < boot {
            continue;
        }
        match event.what.as_str() {
            "waived" => {
                let need = event.data["need"].as_str().expect("a waived need has a name").to_owned();
                waived.entry(&event.instance).or_default().push(need);
            }
            "started" => {
                let evidence = serde_json::from_value(event.data["evidence"].clone()).expect("evidence");
                let waived = waived.remove(event.instance.as_str()).unwrap_or_default();
                starts.entry(event.instance.clone()).or_default().push(Start {
                    at: event.at,
                    boot,
                    evidence,
                    waived,
                });
            }
            _ => {}
        }
    }
    starts
}

/// Asserts that every start had, for each need, enough answers that are older than the start and newer than the boot.
pub fn assert_every_start_was_justified(cluster_file: &Path, starts: &BTreeMap<String, Vec<Start>>) {
    let cluster = model::load(cluster_file, None).unwrap_or_else(|e| panic!("{e}"));
    for (instance, all) in starts {
        for start in all {
            for evidence in &start.evidence {
                assert!(
                    evidence.begun > start.boot,
                    "{instance}: evidence from before the boot: {evidence:?}"
                );
                assert!(evidence.ended >= evidence.begun, "{instance}: {evidence:?}");
                assert!(
                    evidence.ended <= start.at,
                    "{instance}: evidence from after the start: {evidence:?}"
                );
            }
            for (need, wanted) in needs(&cluster, instance) {
                let mut by: Vec<&str> =
                    start.evidence.iter().filter(|e| e.need == need).map(|e| e.to.as_str()).collect();
                by.sort_unstable();
                by.dedup();
                let waived = start.waived.contains(&need);
                assert!(waived || by.len() >= wanted, "{instance} needs {wanted} of {need}, proven: {by:?}");
            }
        }
    }
}

/// The needs of an instance and how many of each must be met.
fn needs(cluster: &Cluster, instance: &str) -> Vec<(String, usize)> {
    let found = cluster.instance(cluster.instance_named(instance).expect("it is in the file"));
    let needs = &cluster.service(found.service).needs;
    needs.iter().map(|n| (n.name.clone(), n.count.wanted(cluster.candidates(n, found.node).len()))).collect()
}

/// Asserts that no process of `seen` began before the first answer that justified a start of `instance`.
pub fn assert_none_before_its_evidence(instance: &str, start: &Start, seen: &[Process]) {
    let answer = start.evidence.iter().map(|e| e.ended).max().expect("it has needs");
    assert!(!seen.is_empty(), "no process of {instance} was ever seen");
    for process in seen {
        // A start is told in whole ticks, rounded down.
        assert!(
            process.started + TICK > answer.0,
            "{instance}: process {} began {} ms before its needs answered",
            process.pid,
            (answer.0 - process.started) / 1_000_000
        );
    }
}
