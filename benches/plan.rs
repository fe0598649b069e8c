//! How long it takes to read, check and plan a cluster of 10,000 instances and 50,000 needs.
//!
//! The aim: 200 ms. Prints the median and the 95th percentile over 30 runs. The text is made once; each run starts
//! from text in memory and ends with the longest chain in hand.

use clusterd::graph::Graph;
use clusterd::model::{Source, Sources, parse};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::{Duration, Instant};

const NODES: usize = 1_000;
const SERVICES: usize = 10_000;
const NEEDS: usize = 5;
const RUNS: usize = 30;

fn main() {
    run("10,000 services of one instance, 5 needs each", &sources(SERVICES, 1, "\"any\""));
    run("1,000 services of ten instances, 5 needs each", &sources(SERVICES / 10, 10, "\"any\""));
    let table = "{ count = \"any\", on-loss = \"keep\" }";
    run("10,000 services of one instance, 5 needs each, every need a table", &sources(SERVICES, 1, table));
}

fn run(what: &str, sources: &Sources) {
    let (mut toml, mut read, mut planned) = (Vec::new(), Vec::new(), Vec::new());
    let mut shape = String::new();
    for _ in 0..RUNS {
        let begun = Instant::now();
        let (table, errors) = toml::de::DeTable::parse_recoverable(&sources.cluster.text);
        toml.push(begun.elapsed());
        assert!(errors.is_empty() && table.get_ref().len() == 3);
        drop(table);
        let begun = Instant::now();
        let cluster = parse(sources).unwrap_or_else(|e| panic!("{e}"));
        read.push(begun.elapsed());
        let graph = Graph::new(&cluster).unwrap_or_else(|cycle| panic!("{cycle:?}"));
        let chain = graph.longest_chain(&cluster);
        planned.push(begun.elapsed());
        let needs: usize = cluster.instance_ixs().map(|ix| cluster.needs_of(ix).count()).sum();
        shape = format!("{} instances, {needs} needs, {} waves", cluster.instances.len(), chain.len());
    }
    println!("{what} ({shape}; {} KiB of text)", sources.cluster.text.len() >> 10);
    println!(
        "  TOML alone                 median {}  p95 {}",
        percentile(&mut toml, 50),
        percentile(&mut toml, 95)
    );
    println!(
        "  read and checked           median {}  p95 {}",
        percentile(&mut read, 50),
        percentile(&mut read, 95)
    );
    println!(
        "  read, checked and planned  median {}  p95 {}",
        percentile(&mut planned, 50),
        percentile(&mut planned, 95)
    );
}

fn percentile(times: &mut [Duration], p: usize) -> String {
    times.sort_unstable();
    let at = (times.len() * p).div_ceil(100).max(1) - 1;
    format!("{:6.1} ms", times[at].as_secs_f64() * 1e3)
}

/// `services` services on `width` nodes each; every one needs up to five earlier ones, spread widely, each by `rule`.
fn sources(services: usize, width: usize, rule: &str) -> Sources {
    let mut text = String::from("[cluster]\nname = \"bench\"\n\n[nodes]\n");
    for group in 0..NODES / 10 {
        let members: Vec<String> =
            (0..10).map(|i| format!("n{group}-{i} = \"10.0.{}.{}\"", group, i + 1)).collect();
        let _ = writeln!(text, "g{group} = {{ {} }}", members.join(", "));
    }
    text.push_str("\n[services]\n");
    for s in 0..services {
        let on = if width == 1 { format!("n{}-{}", s / 10 % 100, s % 10) } else { format!("g{}", s % 100) };
        let port = 1024 + s;
        let _ = write!(text, "s{s} = {{ on = \"{on}\", unit = \"plain\", set.port = {port}");
        let mut seen = std::collections::BTreeSet::new();
        for need in 0..NEEDS.min(s) {
            // Near ones make the chain deep, far ones make it wide.
            let target = if need == 0 && s % 100 != 0 { s - 1 } else { (s * 7919 + need * 104_729) % s };
            if seen.insert(target) {
                let _ = write!(text, ", needs.s{target} = {rule}");
            }
        }
        text.push_str(" }\n");
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
