//! The simulator: clusters that boot, lose power, and come back; the same way each time.

use clusterd::model::{self, NodeIx};
use clusterd::sim::sample::sample;
use clusterd::sim::scenario::{Fault, Scenario, Timed, Timing};
use clusterd::sim::shrink::shrink;
use clusterd::sim::text::{self, Written};
use clusterd::sim::{self, Ending, Trace, Watcher, generate};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// The reference cluster; its machines get power half a minute after each other.
fn reference(faults: Vec<Timed>) -> Scenario {
    let cluster = Arc::new(model::parse(&sample()).unwrap());
    let nodes = 0..cluster.nodes.len() as u32;
    let power =
        nodes.map(|n| Timed { at: seconds(30 * u64::from(n)), fault: Fault::PowerOn { node: NodeIx(n) } });
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
    let cut = nodes.clone().map(|n| Timed { at: seconds(900), fault: Fault::PowerCut { node: NodeIx(n) } });
    let on = nodes.map(|n| Timed { at: seconds(960), fault: Fault::PowerOn { node: NodeIx(13 - n) } });
    let scenario = reference(cut.chain(on).collect());
    let ending = run(&scenario);
    assert!(ending.instances.iter().all(|e| e.up), "{}", show(&scenario, &ending));
}

#[test]
fn a_scenario_goes_the_same_way_each_time() {
    let hash = || {
        let mut trace = Trace::hash_only();
        sim::run(&reference(Vec::new()), &mut [&mut trace]).unwrap();
        trace.hash()
    };
    let first = hash();
    println!("{first:016x}");
    assert_eq!(first, hash());
}

/// All checks, on one scenario.
fn checked(scenario: &Scenario) -> Result<Ending, sim::Violation> {
    let mut boxes = sim::checks::of_steps(scenario);
    boxes.push(Box::new(sim::contract::Contract::default()));
    let mut watchers: Vec<&mut dyn Watcher> = Vec::new();
    for watcher in &mut boxes {
        watchers.push(watcher.as_mut());
    }
    sim::run(scenario, &mut watchers)
}

/// Runs these seeds; what fails is made small and printed, to be kept under `tests/sim/`.
fn random(seeds: std::ops::Range<u64>, make: impl Fn(u64) -> Written) {
    let mut failed = Vec::new();
    for seed in seeds {
        let written = make(seed);
        let Err(violation) = checked(&written.scenario) else { continue };
        let kind = |v: &sim::Violation| v.why.split([':', ' ']).next().unwrap_or_default().to_owned();
        let (first, most) =
            (kind(&violation), std::env::var("SHRINK").ok().and_then(|n| n.parse().ok()).unwrap_or(300));
        let mut same = |s: &Scenario| checked(s).is_err_and(|v| kind(&v) == first);
        let small = shrink(written, most, &mut same);
        let small_violation = checked(&small.scenario).unwrap_err();
        failed.push(format!("seed {seed}: {violation}\n{small_violation}\n{}", text::print(&small)));
        if failed.len() >= 5 {
            break;
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n----\n"));
}

fn seeds(usual: u64) -> std::ops::Range<u64> {
    let number = |name, otherwise| std::env::var(name).ok().and_then(|n| n.parse().ok()).unwrap_or(otherwise);
    let from = number("SIM_FROM", 0);
    from..from + number("SIM_SEEDS", usual)
}

#[test]
fn the_promises_hold_on_the_reference_cluster_whatever_befalls_it() {
    random(seeds(100), |seed| generate::of_sample(seed, seconds(600)).unwrap());
}

#[test]
fn the_promises_hold_on_any_cluster_whatever_befalls_it() {
    random(seeds(50), |seed| generate::of_generated(seed, 24, seconds(600)).unwrap());
}

#[test]
fn broken_engines_are_caught() {
    for sabotage in sim::sabotage::ALL {
        let caught = (0..60).find_map(|seed| {
            let written = generate::of_sample(seed, seconds(600)).unwrap();
            let mut boxes = sim::checks::of_steps(&written.scenario);
            let mut watchers: Vec<&mut dyn Watcher> = Vec::new();
            for watcher in &mut boxes {
                watchers.push(watcher.as_mut());
            }
            let violation = sim::run_sabotaged(&written.scenario, sabotage, &mut watchers).err()?;
            Some((seed, violation))
        });
        println!("{sabotage:?}: {caught:?}");
    }
}
