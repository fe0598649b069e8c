//! How long does `status` take?
//!
//! Over fourteen agents through the local agent's warm links, asked directly, and with three nodes that do not answer
//! (two whose address swallows connects, one whose agent is frozen); and over one agent with 200 instances. Each both
//! as the bare call and as the whole command, which also starts a program and draws a table.

mod common;

use clusterd::api::client::{Client, Target};
use clusterd::api::wire::{ClusterStatus, NodeStatus};
use common::agents::Cluster;
use common::black_hole::BlackHole;
use common::figures::{self, Figure};
use common::{fourteen, program};
use futures_util::future::join_all;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const SAMPLES: usize = 100;
/// With silent nodes each sample takes most of a second.
const SAMPLES_IN_THE_DARK: usize = 12;
/// The nodes that do not answer: the first two swallow connects, the third is frozen.
const SILENT: [&str; 3] = ["lvs2", "mysql2", "web3"];
const HERE: &str = "web1";
/// Instances of the large node.
const MANY: usize = 200;

fn main() {
    program::act();
    let mut figures = Vec::new();
    let mut cluster = fourteen::lay_out("status");
    cluster.start_all();
    cluster.wait_all_up();
    through_local_agent(&mut cluster, &mut figures, "14 agents", SAMPLES, Duration::from_millis(5), 14);
    directly(&cluster, &mut figures, "14 agents", SAMPLES, Duration::from_millis(30));
    drop(cluster);

    let mut cluster = fourteen::lay_out("dark");
    let addresses = cluster.addresses();
    let address_of =
        |name: &str| fourteen::nodes().position(|n| n == name).map(|i| addresses[i]).expect("a node");
    let holes: Vec<BlackHole> = SILENT[..2]
        .iter()
        .map(|name| match address_of(name) {
            SocketAddr::V4(address) => BlackHole::open(address),
            SocketAddr::V6(_) => unreachable!("loopback addresses of the bench are IPv4"),
        })
        .collect();
    let alive: Vec<&str> = fourteen::nodes().filter(|n| !SILENT[..2].contains(n)).collect();
    cluster.start(&alive);
    cluster.wait_up(&alive);
    cluster.freeze(SILENT[2]);
    let (n, target) = (SAMPLES_IN_THE_DARK, Duration::from_secs(1));
    through_local_agent(&mut cluster, &mut figures, "14 agents, 3 silent", n, target, 11);
    directly(&cluster, &mut figures, "14 agents, 3 silent", n, target);
    drop((cluster, holes));

    let mut cluster = Cluster::new("many");
    cluster.node("left", "a");
    let unit = "[run]\ncommand = [\"/bin/sleep\", \"infinity\"]\n\
                [ready]\nprobe = { kind = \"running\", for = \"10ms\" }\n";
    for i in 0..MANY {
        cluster.service(&format!("idle{i}"), "on = \"a\"", unit);
    }
    cluster.start_all();
    cluster.wait_all_up();
    one_large(&mut cluster, &mut figures);
    drop(cluster);
    figures::print("status", &figures);
}

/// `whole` nodes must have answered in each sample.
fn through_local_agent(
    cluster: &mut Cluster,
    figures: &mut Vec<Figure>,
    over: &str,
    samples: usize,
    target: Duration,
    whole: usize,
) {
    let mut call = Figure::of_times(format!("{over}, through the local agent: call"), Some(target));
    for _ in 0..samples {
        let begun = Instant::now();
        let status: ClusterStatus = cluster.get(HERE, "/v1/cluster").expect("the local agent answers");
        call.push(begun.elapsed());
        assert_eq!(
            status.nodes.iter().filter(|n| n.status.is_some()).count(),
            whole,
            "{over}: whole for the others"
        );
    }
    figures.push(call);
    let what = format!("{over}, through the local agent: clusterctl");
    figures.push(command(
        cluster,
        what,
        samples,
        target,
        &["--socket", &program::shown(&cluster.socket(HERE))],
    ));
}

fn directly(cluster: &Cluster, figures: &mut Vec<Figure>, over: &str, samples: usize, target: Duration) {
    let mut call = Figure::of_times(format!("{over}, asked directly: 14 new connections"), Some(target));
    let within = Duration::from_millis(900);
    for _ in 0..samples {
        let begun = Instant::now();
        cluster.block_on(join_all(cluster.addresses().into_iter().map(|address| async move {
            let mut client = Client::new(Target::from(address)).within(within, within);
            client.get::<NodeStatus>("/v1/node").await
        })));
        call.push(begun.elapsed());
    }
    figures.push(call);
    let config = program::shown(&cluster.folder().join("cluster.toml"));
    let what = format!("{over}, asked directly: clusterctl --direct");
    figures.push(command(cluster, what, samples, target, &["--direct", "--config", &config]));
}

fn one_large(cluster: &mut Cluster, figures: &mut Vec<Figure>) {
    let target = Duration::from_millis(3);
    let mut call = Figure::of_times(format!("1 agent, {MANY} instances: call"), Some(target));
    for _ in 0..SAMPLES {
        let begun = Instant::now();
        let status: ClusterStatus = cluster.get("a", "/v1/cluster").expect("the agent answers");
        call.push(begun.elapsed());
        let instances = status.nodes.iter().flat_map(|n| &n.status).flat_map(|s| &s.instances);
        assert_eq!(instances.count(), MANY);
    }
    figures.push(call);
    let what = format!("1 agent, {MANY} instances: clusterctl");
    let socket = program::shown(&cluster.socket("a"));
    figures.push(command(cluster, what, SAMPLES, target, &["--socket", &socket]));
}

/// The whole command. The floor is the same program doing nothing: `clusterctl --version`.
fn command(_alive: &Cluster, what: String, samples: usize, target: Duration, arguments: &[&str]) -> Figure {
    let mut figure = Figure::of_times(what, Some(target));
    for _ in 0..samples {
        let run = |arguments: &[&str]| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_clusterctl"));
            command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
            let begun = Instant::now();
            let done = command.output().expect("clusterctl can be executed");
            (begun.elapsed(), done.stdout)
        };
        let (took, shown) = run(&[&["status"], arguments].concat());
        assert!(!shown.is_empty(), "clusterctl status shows something");
        figure.push(took);
        figure.floor.push(figures::millis(run(&["--version"]).0));
    }
    figure
}
