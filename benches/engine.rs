//! What the engine costs: inputs a second, the curve over the size of the cluster, and what an engine weighs.
//!
//! The aims: a million inputs a second on one core; a cost that does not grow with the cluster beyond what an input
//! touches; one boot of the fourteen nodes in 2 ms; ten thousand engines over one cluster.
//!
//! One core, no I/O: engines among themselves in `common/world.rs`. A sample is one call of [`Engine::handle`], its
//! actions included; taking the time of it is in it (the first line says how much that is). Sizes may be given as
//! arguments, in groups of ten nodes: `engine 2 20 200 1000`.

mod common;

use clusterd::engine::view::StateName;
use clusterd::engine::{Engine, Layout};
use clusterd::facts::Moment;
use clusterd::graph::Graph;
use clusterd::model::{Cluster, InstanceIx, NodeIx, Source, Sources, parse};
use common::world::{Kind, Sample, World};
use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often each thing happens to a node after its boot, for the figures of a running node.
const ROUNDS: usize = 200;
/// How often its process dies meanwhile.
const KILLS: usize = 50;
/// Boots of the fourteen nodes.
const BOOTS: usize = 200;

fn main() {
    let sizes: Vec<usize> = std::env::args().skip(1).filter_map(|a| a.parse().ok()).collect();
    let sizes = if sizes.is_empty() { vec![2, 20, 200, 1000] } else { sizes };
    let clock: Vec<Duration> = (0..10_000).map(|_| Instant::now().elapsed()).collect();
    println!("taking the time of one input costs {} of each figure\n", nanos(median(clock)));
    fourteen();
    sizes.into_iter().for_each(grown);
}

/// Boots of the sample cluster, and a day of one of its web servers.
fn fourteen() {
    let cluster = sample();
    let layout = layout(&cluster);
    let minutes_apart = |node: usize| Duration::from_secs(60) * node as u32;
    let (mut boots, mut inputs) = (Vec::new(), 0);
    for _ in 0..BOOTS {
        let mut world = World::new(cluster.clone(), engines(&layout), minutes_apart);
        world.run();
        assert!(world.are_all_up());
        inputs = world.samples.len();
        boots.push(world.samples.iter().map(|s| s.took).sum::<Duration>());
    }
    let (median, p95) = (percentile(&mut boots, 50), percentile(&mut boots, 95));
    println!("a boot of 14 nodes, minutes apart (aim: at most 2 ms)");
    println!(
        "  {inputs} inputs, {:.2} us each: median {:.2} ms  p95 {:.2} ms\n",
        median.as_secs_f64() * 1e6 / inputs as f64,
        median.as_secs_f64() * 1e3,
        p95.as_secs_f64() * 1e3
    );
    let mut world = World::new(cluster.clone(), engines(&layout), minutes_apart);
    world.run();
    println!("web1 after its boot (aim: a million inputs a second)");
    let web = instance(&cluster, "web@web1");
    let needed = ["redis@redis1", "activemq@mq1", "storage@fdfs1"].map(|name| instance(&cluster, name));
    table(&a_day(&mut world, web, &needed, KILLS));
}

/// A cluster of so many groups of ten nodes, fifty instances each.
fn grown(groups: usize) {
    let rss = resident();
    let begun = Instant::now();
    let cluster = Arc::new(parse(&sources(groups)).unwrap_or_else(|e| panic!("{e}")));
    let (nodes, count) = (cluster.nodes.len(), cluster.instances.len());
    println!("{count} instances on {nodes} nodes, read in {:.0} ms", begun.elapsed().as_secs_f64() * 1e3);
    let begun = Instant::now();
    let layout = layout(&cluster);
    println!("  its layout, once           {:9.2} ms", begun.elapsed().as_secs_f64() * 1e3);
    let plain = instance(&cluster, "web0@n0-6");
    let one: Vec<_> = (0..100).map(|_| timed(|| engine(&layout, cluster.instance(plain).node))).collect();
    println!("  one engine                 {:>9}", nanos(median(one)));
    let (begun, before) = (Instant::now(), resident());
    let all = engines(&layout);
    let took = begun.elapsed();
    println!("  all engines                {:9.2} ms", took.as_secs_f64() * 1e3);
    println!("  an engine weighs           {:9.1} KiB before its boot", per(resident() - before, nodes));
    let mut world = World::new(cluster.clone(), all, |node| Duration::from_millis(node as u64 * 37 % 60_000));
    // It tells each of its neighbours how far its wide need is met, at each answer: a square of the nodes. That is what
    // the instance costs others; here the engines' own work is looked for.
    let watch = instance(&cluster, "watch@n0-0");
    world.muted = Some(watch);
    let begun = Instant::now();
    world.run();
    assert!(world.are_all_up());
    let took: Duration = world.samples.iter().map(|s| s.took).sum();
    println!(
        "  one boot                   {:9.2} s: {} inputs, {:.2} us each; {:.2} s with the world around them",
        took.as_secs_f64(),
        world.samples.len(),
        took.as_secs_f64() * 1e6 / world.samples.len() as f64,
        begun.elapsed().as_secs_f64()
    );
    println!("  words of watch@n0-0        {:9} that were not delivered", world.unheard);
    world.samples = Vec::new();
    println!("  all of it, world included  {:9} MiB", (resident() - rss) >> 20);
    let needed = ["cache0@n0-2", "queue0@n0-4"].map(|name| instance(&cluster, name));
    println!("  web0@n0-6: five instances, whatever the size of the cluster");
    curve(&a_day(&mut world, plain, &needed, KILLS));
    println!("  watch@n0-0: needs a quorum of one instance a node");
    curve(&a_day(&mut world, watch, &[instance(&cluster, "base@n0-3")], 0));
    world.kill(watch);
    let its_own = |s: &Sample| s.node == cluster.instance(watch).node;
    let start: Vec<_> = world.samples.drain(..).filter(its_own).map(|s| s.took).collect();
    let took = start.iter().sum::<Duration>().as_secs_f64() * 1e3;
    println!("    its start, each answer proven  {took:.1} ms for {} inputs\n", start.len());
}

/// What a running node's engine gets: paths that are cut and mended, questions asked once more, other agents' words,
/// and now and then an own process that dies.
fn a_day(world: &mut World, own: InstanceIx, needed: &[InstanceIx], kills: usize) -> Vec<Sample> {
    let me = world.cluster.instance(own).node;
    world.samples.clear();
    for round in 0..ROUNDS {
        for to in needed {
            world.flap(me, *to);
            (0..3).for_each(|_| world.ask_again(me, *to));
            let word = world.word(*to);
            let mut other = word.clone();
            other.state = StateName::Unready;
            other.reason = "its own probe timed out after 1 s".to_owned();
            for said in [&word, &other, &word, &word] {
                world.say(me, *to, said.clone());
            }
        }
        if round < kills {
            world.kill(own);
        }
    }
    let mut samples = std::mem::take(&mut world.samples);
    samples.retain(|s| s.node == me);
    samples
}

fn table(samples: &[Sample]) {
    for kind in Kind::ALL {
        let of_kind: Vec<_> = samples.iter().filter(|s| s.kind == kind).map(|s| s.took).collect();
        if !of_kind.is_empty() {
            line(kind.as_str(), of_kind);
        }
    }
    let all: Vec<_> = samples.iter().map(|s| s.took).collect();
    let mean = all.iter().sum::<Duration>() / all.len() as u32;
    line("the mix of them", all);
    println!("  {:.2} million inputs a second\n", 1e-6 / mean.as_secs_f64());
}

fn curve(samples: &[Sample]) {
    line("  an input of the mix", samples.iter().map(|s| s.took).collect());
}

fn line(what: &str, mut times: Vec<Duration>) {
    let mean = times.iter().sum::<Duration>() / times.len() as u32;
    let (median, p95) = (percentile(&mut times, 50), percentile(&mut times, 95));
    println!(
        "  {what:<30} n {:6}  median {:>9}  p95 {:>9}  mean {:>9}",
        times.len(),
        nanos(median),
        nanos(p95),
        nanos(mean)
    );
}

fn layout(cluster: &Arc<Cluster>) -> Arc<Layout> {
    let graph = Graph::new(cluster).unwrap_or_else(|cycle| panic!("{cycle:?}"));
    let ranks: Vec<u32> = cluster.instance_ixs().map(|ix| graph.rank(ix)).collect();
    Arc::new(Layout::new(cluster.clone(), &ranks))
}

fn engines(layout: &Arc<Layout>) -> Vec<Engine> {
    (0..layout.cluster().nodes.len() as u32).map(|node| engine(layout, NodeIx(node))).collect()
}

fn engine(layout: &Arc<Layout>, me: NodeIx) -> Engine {
    Engine::within(layout.clone(), me, &HashMap::new(), Moment(1))
}

fn instance(cluster: &Cluster, name: &str) -> InstanceIx {
    cluster.instance_named(name).unwrap_or_else(|| panic!("no instance {name}"))
}

fn sample() -> Arc<Cluster> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let sources = Sources::read(&folder.join("cluster.toml"), None).unwrap_or_else(|e| panic!("{e}"));
    Arc::new(parse(&sources).unwrap_or_else(|e| panic!("{e}")))
}

/// Each group: two databases, two caches, two queues on a database, four web servers on a cache and a queue; four
/// small services on every node, three of them on the first; and one node that watches over the first of them.
fn sources(groups: usize) -> Sources {
    let mut text = String::from("[cluster]\nname = \"bench\"\n\n[nodes]\n");
    let mut everywhere = String::new();
    for g in 0..groups {
        let node = |n: usize| format!("n{g}-{n} = \"10.{}.{}.{}\"", g / 250, g % 250, n + 1);
        let members: Vec<String> = (0..10).map(node).collect();
        let _ = writeln!(text, "g{g} = {{ {} }}", members.join(", "));
        (0..10).for_each(|n| everywhere += &format!("\"n{g}-{n}\", "));
    }
    text.push_str("\n[services]\n");
    let _ = writeln!(text, "base = {{ on = [{everywhere}], unit = \"plain\", set.port = 1001 }}");
    let _ = writeln!(
        text,
        "watch = {{ on = \"n0-0\", unit = \"plain\", set.port = 1002, needs.base = \"quorum\" }}"
    );
    for g in 0..groups {
        let mut service = |name: &str, on: &[usize], port: usize, needs: &str| {
            let on: Vec<String> = on.iter().map(|n| format!("\"n{g}-{n}\"")).collect();
            let on = on.join(", ");
            let _ =
                writeln!(text, "{name}{g} = {{ on = [{on}], unit = \"plain\", set.port = {port}{needs} }}");
        };
        let all: Vec<usize> = (0..10).collect();
        service("db", &[0, 1], 1010, "");
        service("cache", &[2, 3], 1011, "");
        service("queue", &[4, 5], 1012, &format!(", needs.db{g} = \"any writable\""));
        let needs = format!(
            ", needs.cache{g} = \"any master\", needs.queue{g} = \"any\", needs.base = \"same-node\""
        );
        service("web", &[6, 7, 8, 9], 1013, &needs);
        for (i, side) in ["log", "metrics", "cron"].into_iter().enumerate() {
            service(side, &all, 1014 + i, ", needs.base = \"same-node\"");
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

fn timed<T>(f: impl FnOnce() -> T) -> Duration {
    let begun = Instant::now();
    let made = f();
    let took = begun.elapsed();
    drop(made);
    took
}

fn median(mut times: Vec<Duration>) -> Duration {
    percentile(&mut times, 50)
}

fn percentile(times: &mut [Duration], p: usize) -> Duration {
    times.sort_unstable();
    times[(times.len() * p).div_ceil(100).max(1) - 1]
}

fn nanos(time: Duration) -> String {
    if time < Duration::from_micros(10) {
        format!("{} ns", time.as_nanos())
    } else {
        format!("{:.1} us", time.as_secs_f64() * 1e6)
    }
}

fn per(bytes: usize, many: usize) -> f64 {
    bytes as f64 / 1024.0 / many as f64
}

/// What this process holds in memory, in bytes.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: usize = statm.split(' ').nth(1).and_then(|p| p.parse().ok()).unwrap_or_default();
    pages * 4096
}
