//! Supervision side by side: clusterd, a bare loop of vfork, exec and pidfd (the floor), and the supervisors that are
//! installed (dinit, s6, runit, supervisord), all in one run, sample by sample in turn.
//!
//! - a crash: from kill -9 to the replacement's first instruction;
//! - 200 services, and a chain of 50 that each wait for the one before to say that it is ready: from the order to the
//!   last one's first instruction, and from the order to stop them until the last has gone;
//! - the whole command that shows the state of 200;
//! - 1,000 services at rest: memory and wake-ups.
//!
//! Everything of clusterd's is in place: journal, events, cgroups, output files. `cargo bench --bench supervise -- crash
//! chain` measures only these; the names are in [`PARTS`].

mod common;

use clusterd::clock;
use clusterd::facts::Moment;
use clusterd::process::Handle;
use common::bare::{Bare, BareLoop};
use common::cost::{proportional, resident, wake_ups};
use common::figures::{self, Figure, millis};
use common::peers::{self, READY_FD, Service, Supervisor};
use common::program::{self, Ear};
use nix::sys::signal::Signal;
use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// What is measured, by name.
const PARTS: [&str; 5] = ["crash", "many", "chain", "status", "rest"];

const CRASHES: usize = 30;
/// Before each crash, whoever's it is: the machine has cooled down alike for all, and s6 and runit, which hold back whoever
/// ran for less than a second, have had that.
const BEFORE_A_CRASH: Duration = Duration::from_millis(400);
const MANY: usize = 200;
const CHAIN: usize = 50;
/// How long the file is in which each link notes its end, in bytes: a page.
const ENDS: usize = 4096;
const CYCLES: usize = 20;
const STATUSES: usize = 50;
const RESTING: usize = 1000;
/// Before it counts as rest, and how long is watched.
const SETTLE: Duration = Duration::from_secs(5);
const WATCH: Duration = Duration::from_secs(20);
/// How long a stopped service may take to be gone.
const PATIENCE: Duration = Duration::from_secs(30);
const MIB: f64 = 1024.0;

/// Measures one part with every supervisor.
type Measure = fn(&Ear, &Path) -> Vec<Figure>;

fn main() {
    program::act();
    let asked: Vec<String> = std::env::args().skip(1).filter(|a| PARTS.contains(&a.as_str())).collect();
    let wanted = |part: &str| asked.is_empty() || asked.iter().any(|a| a == part);
    peers::announce();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let ear = Ear::new(folder.path());
    let parts: [(&str, &str, Measure); 5] = [
        ("crash", "A crash (kill -9) -> the replacement's first instruction", crash),
        ("many", "200 services", many),
        ("chain", "A chain of 50 services, each started when the one before says that it is ready", chain),
        ("status", "The state of 200 services, shown by a command", status),
        ("rest", "1,000 services at rest", rest),
    ];
    for (part, title, measure) in parts {
        if wanted(part) {
            figures::print(title, &measure(&ear, folder.path()));
        }
    }
}

fn services(ear: &Ear, what: &str, many: usize) -> Vec<Service> {
    let label = |i| format!("{what}{i}");
    let plain = |label: String| Service { command: ear.telling(&label), label, chained: false };
    (0..many).map(|i| plain(label(i))).collect()
}

/// One figure for each supervisor.
fn figures_of(supervisors: &[Box<dyn Supervisor>], what: &str) -> Vec<Figure> {
    supervisors.iter().map(|s| Figure::of_times(format!("{what}, {}", s.name()), None)).collect()
}

/// The floor is the same for all; only our own figure has a promise to keep.
fn against(figures: &mut [Figure], floor: &[f64], target: Option<Duration>, ratio: Option<f64>) {
    figures.iter_mut().for_each(|figure| figure.floor = floor.to_vec());
    figures[0].target = target.map(millis);
    figures[0].target_ratio = ratio;
}

/// Hears that each of these has begun, and gives the moment of the last one and all of them held.
fn hear_all(ear: &Ear, services: &[Service]) -> (Moment, Vec<Handle>) {
    let mut pids: HashMap<String, i32> = HashMap::new();
    let mut last = Moment::default();
    for _ in services {
        let told = ear.hear_any("a service");
        last = last.max(told.begun);
        assert!(pids.insert(told.label, told.pid).is_none(), "each begins once");
    }
    let held = services.iter().map(|s| Handle::open(pids[&s.label]).expect("it lives"));
    (last, held.collect())
}

/// Waits until all have gone; the moment at which that was seen.
fn all_gone(held: &[Handle]) -> Moment {
    for handle in held {
        assert!(handle.wait(PATIENCE).expect("a pidfd"), "pid {} is gone", handle.pid());
    }
    clock::now()
}

/// All that are at rest of the supervisors that were just laid out: ours has booted its services.
fn all_stopped(ear: &Ear, supervisors: &mut [Box<dyn Supervisor>], many: usize) {
    supervisors[0].prepare();
    supervisors[0].stop();
    supervisors[0].settle();
    supervisors[0].stops_told(many);
    ear.drain();
}

fn crash(ear: &Ear, _: &Path) -> Vec<Figure> {
    let services = services(ear, "crashing", 1);
    let mut supervisors: Vec<_> = peers::each(&services).collect();
    all_stopped(ear, &mut supervisors, 1);
    let mut figures = figures_of(&supervisors, "crash");
    let mut pids = Vec::new();
    for supervisor in &mut supervisors {
        supervisor.prepare();
        supervisor.start();
        pids.push(ear.hear_any(supervisor.name()).pid);
    }
    // The floor is one of them until it is looked at.
    let floor = BareLoop::begin(&ear.telling("floor"));
    figures.push(Figure::of_times("the bare loop".to_owned(), None));
    pids.push(ear.hear_any("the bare loop").pid);
    for _ in 0..CRASHES {
        for (figure, pid) in figures.iter_mut().zip(&mut pids) {
            std::thread::sleep(BEFORE_A_CRASH);
            let victim = Handle::open(*pid).expect("it lives");
            let begun = clock::now();
            victim.signal(Signal::SIGKILL as i32).expect("it is ours");
            let told = ear.hear_any(&figure.what);
            figure.push(told.begun.since(begun));
            assert_ne!(*pid, told.pid, "another process");
            *pid = told.pid;
        }
    }
    floor.end(pids.pop().expect("the floor's"));
    let floor = figures.pop().expect("the floor's").samples;
    against(&mut figures, &floor, None, Some(1.3));
    figures
}

fn many(ear: &Ear, _: &Path) -> Vec<Figure> {
    let services = services(ear, "many", MANY);
    let labels: Vec<String> = services.iter().map(|s| s.label.clone()).collect();
    let mut supervisors: Vec<_> = peers::each(&services).collect();
    all_stopped(ear, &mut supervisors, MANY);
    let mut starts = figures_of(&supervisors, "started");
    let mut stops = figures_of(&supervisors, "stopped");
    let mut told = Figure::of_times("stopped and said so, clusterd", Some(Duration::from_millis(15)));
    let (mut floor_of_start, mut floor_of_stop) = (Vec::new(), Vec::new());
    let mut bare = Bare::default();
    for _ in 0..CYCLES {
        for (which, supervisor) in supervisors.iter_mut().enumerate() {
            supervisor.prepare();
            let begun = clock::now();
            supervisor.start();
            let (last, held) = hear_all(ear, &services);
            starts[which].push(last.since(begun));
            std::thread::sleep(Duration::from_millis(50)); // at rest again
            supervisor.prepare();
            let begun = clock::now();
            supervisor.stop();
            stops[which].push(all_gone(&held).since(begun));
            supervisor.settle();
            told.samples.extend(supervisor.stops_told(MANY).map(|at| millis(at.since(begun))));
        }
        floor_of_start.push(millis(bare.start(ear, &labels)));
        std::thread::sleep(Duration::from_millis(50));
        floor_of_stop.push(millis(bare.stop()));
    }
    against(&mut starts, &floor_of_start, None, Some(1.4));
    against(&mut stops, &floor_of_stop, Some(Duration::from_millis(15)), None);
    told.floor = floor_of_stop;
    starts.into_iter().chain([told]).chain(stops).collect()
}

fn chain(ear: &Ear, folder: &Path) -> Vec<Figure> {
    let ends = folder.join("ends");
    let link = |line: usize| {
        let label = format!("link{line}");
        Service { command: ear.linking(&label, READY_FD, &ends, line), label, chained: true }
    };
    let services: Vec<Service> = (0..CHAIN).map(link).collect();
    fs::write(&ends, [0; ENDS]).expect("a folder of our own");
    let labels: Vec<String> = services.iter().map(|s| s.label.clone()).collect();
    let mut supervisors: Vec<_> = peers::each(&services).collect();
    all_stopped(ear, &mut supervisors, CHAIN);
    let mut starts = figures_of(&supervisors, "started");
    let mut stops = figures_of(&supervisors, "stopped in reverse");
    let mut told =
        Figure::of_times("stopped in reverse and said so, clusterd", Some(Duration::from_millis(9)));
    let (mut floor_of_start, mut floor_of_stop) = (Vec::new(), Vec::new());
    let mut bare = Bare::default();
    let mut disorder: HashMap<&str, usize> = HashMap::new();
    for _ in 0..CYCLES {
        for (which, supervisor) in supervisors.iter_mut().enumerate() {
            supervisor.prepare();
            let begun = clock::now();
            supervisor.start();
            let (last, held) = hear_all(ear, &services);
            starts[which].push(last.since(begun));
            std::thread::sleep(Duration::from_millis(50)); // at rest again
            supervisor.prepare();
            let begun = clock::now();
            supervisor.stop();
            stops[which].push(all_gone(&held).since(begun));
            supervisor.settle();
            told.samples.extend(supervisor.stops_told(CHAIN).map(|at| millis(at.since(begun))));
            if !ended_in_reverse(&ends) {
                assert_ne!(which, 0, "ours end in reverse");
                *disorder.entry(supervisor.name()).or_default() += 1;
            }
        }
        floor_of_start.push(millis(bare.start_chain(ear, &labels, &ends)));
        std::thread::sleep(Duration::from_millis(50));
        floor_of_stop.push(millis(bare.stop_chain()));
        assert!(ended_in_reverse(&ends), "the floor's end in reverse");
    }
    for (name, times) in disorder {
        println!(
            "{name} did not end them in reverse in {times} of {CYCLES} cycles: its figure is of less work\n"
        );
    }
    against(&mut starts, &floor_of_start, None, Some(1.8));
    against(&mut stops, &floor_of_stop, Some(Duration::from_millis(9)), None);
    told.floor = floor_of_stop;
    starts.into_iter().chain([told]).chain(stops).collect()
}

/// Whether each link ended before the one that it needed: each notes when it did.
fn ended_in_reverse(ends: &Path) -> bool {
    let noted = fs::read(ends).expect("a folder of our own");
    let times: Vec<i64> =
        noted.chunks_exact(8).map(|n| i64::from_ne_bytes(n.try_into().expect("eight bytes"))).collect();
    let links = &times[..CHAIN];
    links.iter().all(|time| *time > 0) && links.is_sorted_by(|before, after| before > after)
}

fn status(ear: &Ear, _: &Path) -> Vec<Figure> {
    let services = services(ear, "shown", MANY);
    let mut supervisors: Vec<_> = peers::each(&services).collect();
    for supervisor in &mut supervisors {
        supervisor.prepare();
        supervisor.start();
    }
    supervisors.retain(|s| s.status().is_some());
    let mut figures = figures_of(&supervisors, "status");
    for _ in 0..STATUSES {
        for (figure, supervisor) in figures.iter_mut().zip(&supervisors) {
            let mut command = supervisor.status().expect("it has one");
            command.stdin(Stdio::null()).stderr(Stdio::null());
            let begun = Instant::now();
            let done = command.output().expect("it is installed");
            figure.push(begun.elapsed());
            let text = String::from_utf8_lossy(&done.stdout);
            let seen = text.lines().filter(|line| line.contains("shown")).count();
            assert!(seen >= MANY, "{}: {seen} services in {text}", figure.what);
        }
    }
    figures[0].target = Some(2.0);
    figures
}

fn rest(ear: &Ear, _: &Path) -> Vec<Figure> {
    let services = services(ear, "resting", RESTING);
    let mut figures = Vec::new();
    // One after the other: five thousand processes at once would be another question.
    for (which, mut supervisor) in peers::each(&services).enumerate() {
        supervisor.prepare();
        supervisor.start();
        std::thread::sleep(SETTLE);
        ear.drain();
        let (name, pids) = (supervisor.name(), supervisor.pids());
        let count = || pids.iter().map(|pid| wake_ups(*pid)).sum::<f64>();
        let (before, begun) = (count(), Instant::now());
        std::thread::sleep(WATCH);
        let a_second = (count() - before) / begun.elapsed().as_secs_f64();
        let sum = |of: fn(i32) -> f64| pids.iter().map(|pid| of(*pid)).sum::<f64>() / MIB;
        let ours = which == 0;
        if ours {
            let value = sum(resident);
            figures.push(Figure::single(format!("resident (VmRSS), {name}"), value, "MiB", Some(20.0)));
        }
        figures.push(Figure::single(
            format!("its share of memory (Pss), {name}"),
            sum(proportional),
            "MiB",
            None,
        ));
        figures.push(Figure::single(format!("wake-ups a second, {name}"), a_second, "", ours.then_some(0.1)));
    }
    figures
}
