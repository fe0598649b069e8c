//! The simulator: clusters that boot, lose power, and come back; the same way each time.

use clusterd::model::{self, NodeIx};
use clusterd::sim::sample::sample;
use clusterd::sim::scenario::{Fault, Scenario, Timed, Timing};
use clusterd::sim::{self, Ending, Trace};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// The reference cluster; its machines get power a minute after each other.
fn reference(faults: Vec<Timed>) -> Scenario {
    let cluster = Arc::new(model::parse(&sample()).unwrap());
    let nodes = 0..cluster.nodes.len() as u32;
    let power =
        nodes.map(|n| Timed { at: seconds(60 * u64::from(n)), fault: Fault::PowerOn { node: NodeIx(n) } });
    let mut faults: Vec<Timed> = power.chain(faults).collect();
    faults.sort_by_key(|timed| timed.at);
    let timing = Timing { usual: seconds(2), of: BTreeMap::new(), boot: seconds(20) };
    Scenario { cluster, seed: 1, timing, faults, at_most: seconds(3600) }
}

fn run(scenario: &Scenario) -> Ending {
    sim::run(scenario, &mut []).unwrap_or_else(|violation| panic!("{violation}"))
}

fn show(scenario: &Scenario, ending: &Ending) -> String {
    let line = |e: &sim::Ended| {
        let state = e.view.as_ref().map_or("no agent".to_owned(), |v| format!("{} {}", v.state, v.reason));
        format!("{} up={} {state}\n", scenario.cluster.instance(e.instance).name, e.up)
    };
    ending.instances.iter().map(line).collect()
}

#[test]
fn the_reference_cluster_boots() {
    let scenario = reference(Vec::new());
    let ending = run(&scenario);
    assert!(ending.instances.iter().all(|e| e.up), "{}", show(&scenario, &ending));
}

#[test]
fn everything_comes_back_after_a_power_cut_of_everything() {
    let nodes = 0..14;
    let cut = nodes.clone().map(|n| Timed { at: seconds(1200), fault: Fault::PowerCut { node: NodeIx(n) } });
    let on = nodes.map(|n| Timed { at: seconds(1260), fault: Fault::PowerOn { node: NodeIx(13 - n) } });
    let scenario = reference(cut.chain(on).collect());
    let ending = run(&scenario);
    assert!(ending.instances.iter().all(|e| e.up), "{}", show(&scenario, &ending));
}

/// Twice in this build, and as in every other one: `.ci/run` asks debug and release builds for the same number. Where
/// the engine or the simulator was changed on purpose, `TRACE=write cargo test --test sim` writes it anew.
#[test]
fn the_reference_trace_is_the_same_each_time_and_in_every_build() {
    let hash = || {
        let mut trace = Trace::hash_only();
        sim::run(&reference(Vec::new()), &mut [&mut trace]).unwrap();
        format!("{:016x}\n", trace.hash())
    };
    let kept = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/sim/reference.hash");
    let first = hash();
    assert_eq!(first, hash());
    if std::env::var("TRACE").is_ok_and(|v| v == "write") {
        std::fs::write(kept, &first).unwrap();
    }
    assert_eq!(first, std::fs::read_to_string(kept).unwrap(), "TRACE=write writes it anew");
}
