//! What the simulator costs: one boot of the reference cluster, random faults on it with every check, and one boot of
//! 10,000 nodes with 50,000 instances.
//!
//! `cargo bench --bench sim -- small`, `faults` or `large` runs one of them.

mod common;

use clusterd::graph::Graph;
use clusterd::model::{self, Cluster, NodeIx, Source, Sources};
use clusterd::sim::sample::sample;
use clusterd::sim::scenario::{Fault, Scenario, Timed, Timing};
use clusterd::sim::{self, Trace, generate, random};
use common::figures::{Figure, millis, print};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

const BOOTS: usize = 200;
const FAULT_RUNS: u64 = 1000;
const NODES: usize = 10_000;
/// Instances on each node.
const SERVICES: usize = 5;
/// Nodes of a group; all of a group's services need each other only.
const GROUP: usize = 10;

fn main() {
    let wanted = std::env::args().skip(1).find(|a| !a.starts_with('-'));
    let wants = |part: &str| wanted.as_deref().is_none_or(|w| w == part);
    if wants("small") {
        small();
    }
    if wants("faults") {
        faults();
    }
    if wants("large") {
        large();
    }
}

fn boot(cluster: Arc<Cluster>, apart: Duration) -> Scenario {
    let power = |n: u32| Timed { at: apart * n, fault: Fault::PowerOn { node: NodeIx(n) } };
    let faults: Vec<Timed> = (0..cluster.nodes.len() as u32).map(power).collect();
    let at_most = faults.last().map_or(Duration::ZERO, |f| f.at) + Duration::from_secs(3600);
    let timing = Timing { usual: Duration::from_secs(2), of: BTreeMap::new(), boot: Duration::from_secs(20) };
    Scenario { cluster, seed: 1, timing, faults, at_most }
}

fn small() {
    let cluster = Arc::new(model::parse(&sample()).expect("the shipped cluster is valid"));
    let scenario = boot(cluster, Duration::from_secs(60));
    let mut whole = Figure::of_times("one boot of 14 nodes, a minute apart", Some(Duration::from_millis(2)));
    let mut each = Figure { what: "an input of it".into(), unit: "µs", ..Figure::default() };
    let mut inputs = 0;
    for _ in 0..BOOTS {
        let begun = Instant::now();
        let ending = sim::run(&scenario, &mut []).unwrap_or_else(|v| panic!("{v}"));
        let took = begun.elapsed();
        assert!(ending.instances.iter().all(|i| i.up), "not all is up");
        inputs = ending.inputs;
        whole.push(took);
        each.samples.push(millis(took) * 1000.0 / inputs as f64);
    }
    let mut trace = Trace::hash_only();
    sim::run(&scenario, &mut [&mut trace]).unwrap_or_else(|v| panic!("{v}"));
    println!("its trace is {:016x}; {inputs} inputs", trace.hash());
    print("The reference cluster", &[whole, each]);
}

fn faults() {
    let mut run = Figure::of_times("one run", Some(Duration::from_millis(10)));
    let (mut inputs, mut broken) = (0, 0);
    let begun = Instant::now();
    for seed in 0..FAULT_RUNS {
        let from = Instant::now();
        let written = generate::of_sample(seed, Duration::from_secs(600)).expect("it is valid");
        match random::check(&written.scenario) {
            Ok(ending) => inputs += ending.inputs,
            Err(violation) => {
                broken += 1;
                println!("seed {seed}: {violation}");
            }
        }
        run.push(from.elapsed());
    }
    let all = begun.elapsed().as_secs_f64();
    println!("{FAULT_RUNS} runs in {all:.2} s on one core, {inputs} inputs, {broken} broken promises");
    print("Random faults on the reference cluster, with every check", &[run]);
}

fn large() {
    let begun = Instant::now();
    let cluster = Arc::new(model::parse(&many()).unwrap_or_else(|e| panic!("{e}")));
    let parsed = begun.elapsed();
    let instances = cluster.instances.len();
    let waves = Graph::new(&cluster).map(|g| g.waves().len()).unwrap_or_default();
    let scenario = boot(cluster, Duration::from_millis(30));
    let begun = Instant::now();
    let ending = sim::run(&scenario, &mut []).unwrap_or_else(|v| panic!("{v}"));
    let took = begun.elapsed();
    let up = ending.instances.iter().filter(|i| i.up).count();
    println!(
        "{instances} instances, {waves} waves, read in {:.2} s; {up} are up at the end",
        parsed.as_secs_f64()
    );
    let target = Some(Duration::from_secs(20));
    let mut whole = Figure::of_times(format!("one boot of {NODES} nodes"), target);
    whole.push(took);
    let each = millis(took) * 1000.0 / ending.inputs as f64;
    let figures = [
        whole,
        Figure::single(format!("an input of {}", ending.inputs), each, "µs", None),
        Figure::single("peak memory, the reading included", peak_mib(), "MiB", Some(2048.0)),
    ];
    print("A large cluster", &figures);
}

/// `VmHWM`: the most memory that this process ever had.
fn peak_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    let kib = line.and_then(|l| l.trim().split(' ').next()?.parse::<f64>().ok());
    kib.map_or(f64::NAN, |kib| kib / 1024.0)
}

/// Groups of ten nodes; on each node of a group the same five services, each of which needs the one before.
fn many() -> Sources {
    let mut text = String::from("[cluster]\nname = \"large\"\n\n[nodes]\n");
    for group in 0..NODES / GROUP {
        let node = |i: usize| {
            let n = group * GROUP + i;
            format!("n{n} = \"10.{}.{}.{}\"", n / 40_000, n / 200 % 200, n % 200 + 1)
        };
        let members: Vec<String> = (0..GROUP).map(node).collect();
        let _ = writeln!(text, "g{group} = {{ {} }}", members.join(", "));
    }
    text.push_str("\n[services]\n");
    for group in 0..NODES / GROUP {
        for s in 0..SERVICES {
            let port = 1024 + s;
            let _ = write!(text, "s{group}-{s} = {{ on = \"g{group}\", unit = \"plain\", set.port = {port}");
            if s > 0 {
                let _ = write!(text, ", needs.s{group}-{} = \"any\"", s - 1);
            }
            text.push_str(" }\n");
        }
    }
    let unit = "[set]\nport = 1\n[run]\ncommand = [\"/usr/bin/plain\", \"--port\", \"{port}\"]\n[ready]\nprobe = { kind = \"redis\", port = \"{port}\" }\n";
    let unit = Source { path: "units/plain.toml".into(), text: unit.into() };
    Sources {
        cluster: Source { path: "cluster.toml".into(), text },
        folder: "units".into(),
        units: BTreeMap::from([("plain".to_string(), unit)]),
        unread: BTreeMap::new(),
    }
}
