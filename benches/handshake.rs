//! What does mutual TLS cost one who asks for the status over TCP?
//!
//! The same call over a new connection each time: plain, with a whole handshake (a client that was never there), and
//! resumed; and over a warm connection. And what do fourteen warm links cost the agent while nobody speaks over them?

mod common;

use clusterd::api::client::{Client, Target};
use clusterd::api::tls::Security;
use clusterd::api::wire::NodeStatus;
use clusterd::pki::{Bundle, Role, Tls, Validity, Who};
use common::agents::Cluster;
use common::cost::{memory, wake_ups};
use common::figures::{self, Figure};
use common::program;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

const SAMPLES: usize = 200;
/// One for each node of the sample.
const LINKS: usize = 14;
/// Before rest is rest, and how long it is watched.
const SETTLE: Duration = Duration::from_secs(3);
const WATCH: Duration = Duration::from_secs(20);
/// The issue's: so much more than plain.
const AT_MOST: Duration = Duration::from_millis(3);

fn main() {
    program::act();
    let mut figures = Vec::new();
    let mut cluster = laid_out("plain");
    cluster.start_all();
    let target = Target::from(address(&cluster));
    let mut figure = Figure::of_times("plain: connect and status", None);
    for _ in 0..SAMPLES {
        figure.push(ask(&cluster, &mut Client::new(target.clone())));
    }
    figures.push(figure);
    let mut client = Client::new(target);
    figures.push(warm(&cluster, "plain: status, warm", &mut client));
    drop(cluster);

    let mut cluster = laid_out("secured");
    let who = Who::Operator { name: "bench".into(), role: Role::Read };
    let issued = cluster.secure().issue(who, Validity::days(1)).expect("a certificate");
    let bundle = Bundle::parse(&issued.bundle).expect("a bundle of our own");
    // Each has sessions of its own.
    let security = || Security::Tls(Arc::new(Tls::new(&bundle).expect("a bundle of our own")));
    cluster.start_all();
    let pid = cluster.pid("a");
    let client =
        |security: Security| Client::new(Target::from(address(&cluster))).secured(security, Some("a"));
    let mut figure = Figure::of_times("TLS: connect, whole handshake and status", Some(AT_MOST));
    for _ in 0..SAMPLES {
        figure.push(ask(&cluster, &mut client(security())));
    }
    figures.push(figure);
    let known = security();
    ask(&cluster, &mut client(known.clone()));
    let mut figure = Figure::of_times("TLS: connect, resumed handshake and status", Some(AT_MOST));
    for _ in 0..SAMPLES {
        figure.push(ask(&cluster, &mut client(known.clone())));
    }
    figures.push(figure);
    figures.push(warm(&cluster, "TLS: status, warm", &mut client(known)));
    figures.extend(at_rest(&cluster, pid, || client(security())));
    drop(cluster);
    figures::print("handshake", &figures);
}

/// Memory and wake-ups of the agent with links that rest, beyond those without.
fn at_rest(cluster: &Cluster, pid: i32, client: impl Fn() -> Client) -> [Figure; 2] {
    let watch = || {
        std::thread::sleep(SETTLE);
        let (begun, before) = (Instant::now(), wake_ups(pid));
        std::thread::sleep(WATCH);
        (memory(pid, "RssAnon"), (wake_ups(pid) - before) / begun.elapsed().as_secs_f64())
    };
    let without = watch();
    let mut links: Vec<Client> = (0..LINKS).map(|_| client()).collect();
    for link in &mut links {
        ask(cluster, link);
    }
    let with = watch();
    // They are warm still: each answers, and no new one is made for it.
    let begun = Instant::now();
    for link in &mut links {
        ask(cluster, link);
    }
    println!("{LINKS} links that had rested answered within {:?} in all", begun.elapsed());
    let memory = (with.0 - without.0) / 1024.0;
    [
        Figure::single(format!("{LINKS} warm links at rest, memory"), memory, "MiB", Some(2.0)),
        Figure::single(
            format!("{LINKS} warm links at rest, wake-ups a second"),
            with.1 - without.1,
            "",
            Some(0.1),
        ),
    ]
}

fn laid_out(what: &str) -> Cluster {
    let mut cluster = Cluster::new(what);
    cluster.node("all", "a");
    let unit = "[run]\ncommand = [\"/bin/sleep\", \"infinity\"]\n\
                [ready]\nprobe = { kind = \"running\", for = \"10ms\" }\n";
    cluster.service("idle", "on = \"a\"", unit);
    cluster
}

fn address(cluster: &Cluster) -> SocketAddr {
    cluster.addresses()[0]
}

fn ask(cluster: &Cluster, client: &mut Client) -> Duration {
    let begun = Instant::now();
    let status = cluster.block_on(client.get::<NodeStatus>("/v1/node")).expect("the agent answers");
    let took = begun.elapsed();
    assert_eq!(status.node, "a");
    took
}

fn warm(cluster: &Cluster, what: &str, client: &mut Client) -> Figure {
    let mut figure = Figure::of_times(what, None);
    ask(cluster, client);
    for _ in 0..SAMPLES {
        figure.push(ask(cluster, client));
    }
    figure
}
