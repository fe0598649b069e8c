//! How long from "the dependency is ready on node A" to "the dependent's first instruction on node B"?
//!
//! Two real agents. The dependency is restarted by an order; its dependent lets go first and comes back. Measured are
//!
//! - *told*: from A's `ready` event to the first instruction, where A's word made B look (where B's own probe had
//!   found it first, B was quicker than the word, and the sample is counted apart);
//! - *found*: from the daemon's first good answer, found by a prober of the bench that asks without pause, to the
//!   first instruction: at most one waiting interval more.
//!
//! The floor is taken between the samples: a wake-up by a pipe, then fork and exec of the same program.

mod common;

use clusterd::engine::Evidence;
use clusterd::facts::Moment;
use clusterd::model::{Ask, Login, Question, Secret};
use clusterd::probe::Asker;
use common::agents::Cluster;
use common::figures::{self, Figure};
use common::program::{self, Ear, own_path, shown, wait_for};
use serde::Deserialize;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Samples in which A's word comes first; about as many again are passed over.
const TOLD: usize = 40;
const FOUND: usize = 30;
/// Give up a dependency after so many restarts.
const MOST: usize = 200;
/// The waiting pace of the agents.
const INTERVAL: Duration = Duration::from_millis(50);

/// A dependency on node A, and the question that its dependent on B asks.
struct Dependency {
    service: &'static str,
    question: Question,
    target: Duration,
}

fn main() {
    program::act();
    let mut cluster = Cluster::new("boot");
    let a = cluster.node("left", "a");
    cluster.node("right", "b");
    let ear = Ear::new(cluster.folder());

    let mut dependencies = vec![tcp(&mut cluster, a)];
    dependencies.extend(redis(&mut cluster, a));
    dependencies.extend(mysql(&mut cluster, a));
    for dependency in &dependencies {
        dependent(&mut cluster, &ear, dependency.service);
    }
    cluster.start_all();
    cluster.wait_all_up();

    let mut told = Vec::new();
    let mut found = Vec::new();
    for dependency in &dependencies {
        told.push(measure_told(&mut cluster, &ear, dependency));
        found.push(measure_found(&mut cluster, &ear, dependency));
    }
    figures::print("Ready on A (told) -> the dependent's first instruction on B", &told);
    figures::print("First good answer of the daemon -> the dependent's first instruction on B", &found);
}

fn measure_told(cluster: &mut Cluster, ear: &Ear, dependency: &Dependency) -> Figure {
    let mut figure = Figure::of_times(dependency.service, Some(dependency.target));
    let mut first_by_itself = 0;
    let (mut to_ask, mut to_answer, mut to_begin) = (Vec::new(), Vec::new(), Vec::new());
    while figure.samples.len() < TOLD && figure.samples.len() + first_by_itself < MOST {
        let Restart { ready, first, evidence, .. } = restart(cluster, ear, dependency.service);
        if first > ready {
            figure.push(first.since(ready));
            to_ask.push(evidence.begun.since(ready));
            to_answer.push(evidence.ended.since(evidence.begun));
            to_begin.push(first.since(evidence.ended));
            figure.floor.push(figures::millis(ear.floor_of_boot()));
        } else {
            first_by_itself += 1;
        }
    }
    figure.what += &format!(" ({first_by_itself} more found by B's own probe before A's word)");
    println!(
        "{}: of the median, {:.2} ms from A's word to B's question, {:.2} ms to its answer, {:.2} ms to the first \
         instruction",
        dependency.service,
        figures::median_of(to_ask),
        figures::median_of(to_answer),
        figures::median_of(to_begin),
    );
    figure
}

fn measure_found(cluster: &mut Cluster, ear: &Ear, dependency: &Dependency) -> Figure {
    let mut figure = Figure::of_times(dependency.service, Some(dependency.target + INTERVAL));
    for _ in 0..FOUND {
        let watch = Watch::begin(dependency.question.clone());
        let Restart { exited, first, .. } = restart(cluster, ear, dependency.service);
        // Whatever answers after the old process has gone is the new one.
        let answer = watch.end().into_iter().find(|(begun, _)| *begun > exited);
        let (_, answered) = answer.expect("it answered before it was ready");
        figure.push(first.since(answered));
        figure.floor.push(figures::millis(ear.floor_of_boot()));
    }
    figure
}

/// What happened when.
struct Restart {
    /// The dependency's old process had ended.
    exited: Moment,
    /// A called it ready again.
    ready: Moment,
    /// Its dependent on B began.
    first: Moment,
    /// The answer by which B started it.
    evidence: Evidence,
}

fn restart(cluster: &mut Cluster, ear: &Ear, service: &str) -> Restart {
    let instance = format!("{service}@a");
    let (before, before_on_b) = (cluster.last_event("a"), cluster.last_event("b"));
    ear.drain();
    cluster.restart("a", &instance);
    let first = ear.hear(&format!("after-{service}"));
    let (exited, ready) = wait_for(&format!("{instance} is ready"), || {
        let events = cluster.events("a", before);
        let at = |what| events.iter().rfind(|e| e.instance == instance && e.what == what).map(|e| e.at);
        Some((at("exited")?, at("ready")?))
    });
    let dependent = format!("after-{service}@b");
    let evidence = wait_for(&format!("{dependent} is started"), || {
        let events = cluster.events("b", before_on_b);
        let started = events.iter().rfind(|e| e.instance == dependent && e.what == "started")?;
        Vec::<Evidence>::deserialize(&started.data["evidence"]).ok()?.pop()
    });
    cluster.wait_up(&["a", "b"]);
    Restart { exited, ready, first, evidence }
}

/// A prober that asks without pause, in a thread of its own.
struct Watch {
    enough: Arc<AtomicBool>,
    thread: JoinHandle<Vec<(Moment, Moment)>>,
}

impl Watch {
    fn begin(question: Question) -> Watch {
        let enough = Arc::new(AtomicBool::new(false));
        let told = enough.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let (mut asker, mut good) = (Asker::new(question), Vec::new());
            runtime.expect("a runtime").block_on(async {
                while !told.load(Ordering::Relaxed) {
                    let answer = asker.ask().await;
                    if answer.verdict.is_ready() {
                        good.push((answer.begun, answer.ended));
                    }
                    // Not the timer of tokio, which knows milliseconds only.
                    std::thread::sleep(Duration::from_micros(100));
                }
            });
            good
        });
        Watch { enough, thread }
    }

    /// When each good answer was begun and ended.
    fn end(self) -> Vec<(Moment, Moment)> {
        self.enough.store(true, Ordering::Relaxed);
        self.thread.join().expect("the watcher does not panic")
    }
}

// --- who takes part ---

fn dependent(cluster: &mut Cluster, ear: &Ear, on: &str) {
    let command = ear.telling(&format!("after-{on}"));
    let unit =
        format!("[run]\ncommand = {command:?}\n[ready]\nprobe = {{ kind = \"running\", for = \"20ms\" }}\n");
    cluster.service(&format!("after-{on}"), &format!("on = \"b\", needs.{on} = \"all\""), &unit);
}

fn question(ask: Ask) -> Question {
    Question { ask, timeout: Duration::from_secs(2) }
}

fn tcp(cluster: &mut Cluster, a: Ipv4Addr) -> Dependency {
    let address = SocketAddr::new(a.into(), 7000);
    let command = [shown(&own_path()), "--listen".into(), address.to_string()];
    let unit = format!("[run]\ncommand = {command:?}\n[ready]\nprobe = {{ kind = \"tcp\", port = 7000 }}\n");
    cluster.service("tcp", "on = \"a\"", &unit);
    Dependency { service: "tcp", question: question(Ask::Tcp { address }), target: Duration::from_millis(2) }
}

fn redis(cluster: &mut Cluster, a: Ipv4Addr) -> Option<Dependency> {
    let server = common::daemon("redis-server", "redis-server")?;
    cluster.service("redis", "on = \"a\"", &common::redis_unit(&server, cluster.folder()));
    let question = question(Ask::Redis { address: SocketAddr::new(a.into(), 6379), login: None });
    Some(Dependency { service: "redis", question, target: Duration::from_millis(2) })
}

fn mysql(cluster: &mut Cluster, a: Ipv4Addr) -> Option<Dependency> {
    let server = common::daemon("mariadbd", "mariadb-server")?;
    let install = common::daemon("mariadb-install-db", "mariadb-server")?;
    let folder = cluster.folder().join("mysql");
    let (data, password_file) = (folder.join("data"), folder.join("password"));
    fs::create_dir_all(&folder).expect("a folder of our own");
    fs::write(&password_file, "probing\n").expect("a folder of our own");
    fs::set_permissions(&password_file, fs::Permissions::from_mode(0o600)).expect("a file of our own");
    let users = folder.join("users.sql");
    fs::write(&users, "CREATE USER IF NOT EXISTS probe@'%' IDENTIFIED BY 'probing';\n")
        .expect("a folder of our own");
    if let Err(e) = install_database(&install, &data) {
        println!("missing: a MariaDB data folder cannot be made ({e}); its figures are left out\n");
        return None;
    }
    let command = [
        shown(&server),
        "--no-defaults".into(),
        "--user=root".into(),
        format!("--datadir={}", shown(&data)),
        format!("--socket={}", shown(&folder.join("socket"))),
        format!("--pid-file={}", shown(&folder.join("pid"))),
        format!("--init-file={}", shown(&users)),
        format!("--bind-address={a}"),
        "--port=3306".into(),
        "--skip-name-resolve".into(),
        "--innodb-buffer-pool-size=16M".into(),
        "--innodb-flush-log-at-trx-commit=0".into(),
    ];
    let password = shown(&password_file);
    let unit = format!(
        "[run]\ncommand = {command:?}\n[ready]\n\
         probe = {{ kind = \"mysql\", user = \"probe\", password_file = \"{password}\" }}\n"
    );
    cluster.service("mysql", "on = \"a\"", &unit);
    let login = Some(Login { user: "probe".into(), password: Some(Secret::File(password_file)) });
    let question = question(Ask::Mysql { address: SocketAddr::new(a.into(), 3306), login });
    Some(Dependency { service: "mysql", question, target: Duration::from_millis(3) })
}

fn install_database(install: &Path, data: &Path) -> Result<(), String> {
    let done = Command::new(install)
        .args(["--no-defaults", "--user=root", "--auth-root-authentication-method=normal", "--skip-test-db"])
        .arg(format!("--datadir={}", shown(data)))
        .output()
        .map_err(|e| e.to_string())?;
    let last = String::from_utf8_lossy(&done.stderr).lines().last().unwrap_or_default().to_owned();
    if done.status.success() { Ok(()) } else { Err(last) }
}
