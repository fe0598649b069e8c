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

#[test]
fn a_scenario_goes_the_same_way_each_time() {
    // The bench `sim` prints the number of this same run in a release build.
    let hash = || {
        let mut trace = Trace::hash_only();
        sim::run(&reference(Vec::new()), &mut [&mut trace]).unwrap();
        trace.hash()
    };
    let first = hash();
    println!("{first:016x}");
    assert_eq!(first, hash());
}
