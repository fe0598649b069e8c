//! What does an agent cost while nothing happens?
//!
//! The agents of two Redis nodes in the cluster of fourteen, with their peers' streams: their memory, and how often
//! they wake up. The wake-ups of probes are told apart by doing: one of the two Redis is probed five times as often as
//! the other, everything else is equal, so the difference is what probes cost.

mod common;

use common::cost::{memory, wake_ups};
use common::figures::{self, Figure};
use common::{fourteen, program};
use std::fs;
use std::time::{Duration, Instant};

/// After the boot, before it counts as rest.
const SETTLE: Duration = Duration::from_secs(5);
/// How long is watched.
const WATCH: Duration = Duration::from_secs(40);
/// How often each Redis is probed, in seconds; the prober takes off up to a tenth.
const SELDOM: f64 = 5.0 * 0.95;
const OFTEN: f64 = 1.0 * 0.95;
const MIB: f64 = 1024.0;

fn main() {
    program::act();
    let mut cluster = fourteen::lay_out_with("rest", "at.redis2.set.every = \"1s\"");
    cluster.start_all();
    cluster.wait_all_up();
    std::thread::sleep(SETTLE);

    let (seldom, often) = (cluster.pid("redis1"), cluster.pid("redis2"));
    let before = [seldom, often].map(wake_ups);
    let begun = Instant::now();
    std::thread::sleep(WATCH);
    let after = [seldom, often].map(wake_ups);
    let seconds = begun.elapsed().as_secs_f64();
    let [slow, fast] = [0, 1].map(|i| (after[i] - before[i]) / seconds);
    let a_probe = (fast - slow) / (1.0 / OFTEN - 1.0 / SELDOM);
    let beyond = slow - a_probe / SELDOM;

    let mut figures = Vec::new();
    for node in ["redis1", "web1", "lvs1"] {
        let pid = cluster.pid(node);
        let memory = |field| memory(pid, field) / MIB;
        figures.push(Figure::single(
            format!("{node}: anonymous (RssAnon)"),
            memory("RssAnon"),
            "MiB",
            Some(5.0),
        ));
        figures.push(Figure::single(format!("{node}: resident (VmRSS)"), memory("VmRSS"), "MiB", Some(14.0)));
    }
    figures.push(Figure::single(format!("wake-ups a second, a probe every {SELDOM} s"), slow, "", None));
    figures.push(Figure::single(format!("wake-ups a second, a probe every {OFTEN} s"), fast, "", None));
    figures.push(Figure::single("so a probe costs, in wake-ups", a_probe, "", None));
    figures.push(Figure::single("wake-ups a second beyond probes", beyond, "", Some(1.0)));
    let threads = fs::read_dir(format!("/proc/{seldom}/task")).map_or(0, Iterator::count);
    figures.push(Figure::single("threads", threads as f64, "", None));
    figures::print("One agent at rest, among fourteen", &figures);
}
