//! A node with one service of each kind that an agent treats differently, and a life for it: up, crashed, found again,
//! stopped, started, shut down. Whatever becomes of the agent meanwhile, the same has to come of it.

use super::agents::{Cluster, wait};
use clusterd::api::wire::NodeStatus;
use clusterd::engine::view::{InstanceView, StateName, Wish};
use clusterd::process::Marked;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::net::UnixListener;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How many processes each service has that was started by an agent.
const PROCESSES: [(&str, usize); 4] = [("plain", 2), ("forked", 1), ("notified", 1), ("stale", 1)];
/// How long a fact may take, and how often it is looked for.
const WITHIN: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(20);
/// The part of the life in which the run folder is gone.
const NO_JOURNAL: &str = "no journal";
/// So often an agent dies at its point in one part of the life; the next one is left alone.
const DEATHS: u32 = 2;

/// Where an agent dies.
#[derive(Clone)]
pub struct Death {
    pub point: String,
    pub place: Place,
}

/// What an agent finds its processes by, besides the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Leaves and marks.
    Cgroups,
    /// Marks: no cgroup v2 is mounted.
    Marks,
}

impl Place {
    pub fn agent(self, plain: Command) -> Command {
        match self {
            Place::Cgroups => plain,
            Place::Marks => without_cgroups(&plain),
        }
    }
}

pub struct Life {
    pub cluster: Cluster,
    death: Death,
    /// How often the agent has died at its point, in all and in this part of its life.
    deaths: u32,
    here: u32,
    /// How many agents there were.
    agents: u32,
    part: &'static str,
    /// The parts of the life in which it died.
    pub parts: Vec<&'static str>,
    /// How often a oneshot was run again since nobody knew its end.
    asked: Cell<usize>,
    /// Somebody else's processes: one that is the service `known`, and one that a pid file names by chance.
    known: Option<Stranger>,
    bystander: Stranger,
}

impl Life {
    pub fn new(name: &str, death: Death) -> Life {
        let cluster = Cluster::new(name);
        write(&cluster);
        let dir = cluster.dir();
        // Programs of its own: any other process that runs what it runs could be the one whose lock it finds.
        for (program, copy) in [("/bin/sh", "stale-sh"), ("/bin/sleep", "stale-sleep")] {
            assert!(Command::new("cp").args(["-L", program]).arg(dir.join(copy)).status().unwrap().success());
        }
        // What a power cut leaves: an empty pid file, a socket of nobody, a lock of nobody.
        fs::write(dir.join("stale.pid"), "").unwrap();
        fs::write(dir.join("stale.lock"), "").unwrap();
        drop(UnixListener::bind(dir.join("stale.sock")).unwrap());
        let mut known = Command::new(env!("CARGO_BIN_EXE_clusterctl"));
        known.args(["stand-in", "redis", "--listen", &format!("{}:7403", cluster.address(1)), "--pidfile"]);
        let known = Stranger::start(known.arg(dir.join("known.pid")));
        wait("the stranger to write its pid file", || {
            fs::read(dir.join("known.pid")).ok().filter(|text| !text.is_empty())
        });
        let bystander = Stranger::start(Command::new("/bin/sleep").arg("1000"));
        fs::write(dir.join("doubted.pid"), format!("{}\n", bystander.0.id())).unwrap();
        Life {
            cluster,
            death,
            deaths: 0,
            here: 0,
            agents: 0,
            part: "",
            parts: Vec::new(),
            asked: Cell::new(0),
            known: Some(known),
            bystander,
        }
    }

    /// Lives all of it; panics where something did not come as it must.
    pub fn live(&mut self) {
        self.begin("start");
        self.until("all to be up", |life, node| life.is_up(node));
        for (service, _) in PROCESSES {
            assert_eq!(self.runs(service), 1, "{service} was started once");
        }
        assert!(self.runs("task") <= 1 + self.asked.get(), "a oneshot is never silently run again");
        self.check();

        self.begin("crash");
        let before = self.until("all to be up again", |life, node| life.is_up(node).map(|()| pids(node)));
        for (service, _) in PROCESSES {
            kill(Pid::from_raw(before[&format!("{service}@n1")]), Signal::SIGKILL).unwrap();
        }
        self.until("all to be up in other processes", |life, node| {
            let new = |(service, _): (&str, usize)| life.runs(service) >= 2;
            (PROCESSES.into_iter().all(new) && life.is_up(node).is_some()).then_some(())
        });
        self.check();

        self.end_agent();
        // Its child lives on.
        kill(Pid::from_raw(self.main_of_plain()), Signal::SIGKILL).unwrap();
        let before = self.runs("plain");
        self.begin("ended unseen");
        self.until("all to be up after one ended unseen", |life, node| {
            (life.runs("plain") > before).then(|| life.is_up(node)).flatten()
        });
        self.check();

        let before = self.until("all to be up", |life, node| life.is_up(node).map(|()| pids(node)));
        self.end_agent();
        fs::remove_dir_all(self.cluster.run("n1")).unwrap();
        self.begin(NO_JOURNAL);
        let found = self
            .until("all to be found without a journal", |life, node| life.is_up(node).map(|()| pids(node)));
        assert_eq!(found, before, "nothing is started that runs");
        self.check();

        self.begin("stop");
        let ordered = Cell::new(None);
        self.until("all to be stopped", |life, node| {
            // Who ordered a stop of an agent that died has to know whether it was taken.
            if ordered.get() != Some(life.agents) && !node.instances.iter().all(is_held) {
                life.cluster.order("n1", "stop", &[])?;
                ordered.set(Some(life.agents));
            }
            let is_stopped = |view: &InstanceView| view.state == StateName::Stopped && is_held(view);
            (node.instances.iter().all(is_stopped) && life.nothing_runs()).then_some(())
        });

        assert!(self.known.take().is_some_and(|mut known| !known.lives()), "what was adopted is stopped");

        self.begin("start again");
        let ordered = Cell::new(None);
        self.until("all to be up after a start", |life, node| {
            if ordered.get() != Some(life.agents) && node.instances.iter().any(is_held) {
                life.cluster.order("n1", "start", &[])?;
                ordered.set(Some(life.agents));
            }
            life.is_up(node)
        });
        self.check();

        self.begin("shutdown");
        let told = Cell::new(None);
        loop {
            self.until("the agent to be there, or to end", |life, _| {
                if told.replace(Some(life.agents)) != Some(life.agents) {
                    life.cluster.signal("n1", Signal::SIGPWR);
                }
                Some(())
            });
            if self.has_ended("the shutdown") {
                break;
            }
        }
        assert!(self.nothing_runs(), "left by a shutdown: {:?}", self.marked());
    }

    // Agents.

    /// Another part of the life begins, with an agent that dies in it.
    fn begin(&mut self, part: &'static str) {
        (self.part, self.here) = (part, 0);
        self.end_agent();
        self.start_agent();
    }

    fn end_agent(&mut self) {
        if self.cluster.has_agent("n1") {
            self.cluster.kill("n1");
        }
    }

    /// One that dies at its point: the first that passes it for the first time, the second for the second.
    fn start_agent(&mut self) {
        let mut agent = self.death.place.agent(self.cluster.agent("n1"));
        if self.here < DEATHS {
            agent.env("CLUSTERD_DIE_AT", format!("{}:{}", self.death.point, self.here + 1));
        }
        self.agents += 1;
        self.cluster.start_as("n1", agent);
    }

    /// Looks until the fact is there, and replaces each agent that died at its point.
    fn until<T>(&mut self, what: &str, fact: impl Fn(&Life, &NodeStatus) -> Option<T>) -> T {
        let begun = Instant::now();
        loop {
            self.replace_dead();
            let node = self.cluster.node_status("n1");
            if let Some(found) = node.as_ref().and_then(|node| fact(self, node)) {
                return found;
            }
            if begun.elapsed() > WITHIN {
                let say = |v: &InstanceView| format!("{} {:?} {}", v.instance, v.state, v.reason);
                let seen: Vec<_> = node.iter().flat_map(|node| node.instances.iter().map(say)).collect();
                panic!(
                    "waited for {what} ({} in {}): {seen:#?}\n{:#?}",
                    self.death.point,
                    self.part,
                    self.marked()
                );
            }
            std::thread::sleep(LOOK); // between two looks
        }
    }

    fn replace_dead(&mut self) {
        let Some(status) = self.cluster.ended("n1") else { return };
        let log = fs::read_to_string(self.cluster.dir().join("n1/agent.log")).unwrap_or_default();
        let died = status.signal() == Some(Signal::SIGKILL as i32);
        if died {
            assert!(log.contains(&format!("died at {}\n", self.death.point)), "killed elsewhere:\n{log}");
            self.deaths += 1;
            self.here += 1;
            self.parts.push(self.part);
        } else {
            // A child that is not yet its program holds the locks of the agent before.
            let end = log.lines().last().unwrap_or_default();
            assert!(end.contains("another agent"), "{status}: {end}\n{log}");
        }
        self.start_agent();
    }

    /// Whether the agent ended by itself, as it should; one that died is replaced.
    fn has_ended(&mut self, what: &str) -> bool {
        let status = wait(what, || self.cluster.peek_ended("n1"));
        if status.success() {
            self.cluster.ended("n1");
            return true;
        }
        self.replace_dead();
        false
    }

    // Facts.

    /// Whether each service is as it is to be; a oneshot whose end nobody saw is run again, as an operator would.
    fn is_up(&self, node: &NodeStatus) -> Option<()> {
        for view in &node.instances {
            let wanted = match view.instance.as_str() {
                "task@n1" => StateName::Completed,
                "gone@n1" => StateName::Failed,
                "doubted@n1" => StateName::Blocked,
                // It says once only that it is ready, and who heard that has left nothing behind.
                "notified@n1" if self.part == NO_JOURNAL && view.state == StateName::Starting => view.state,
                _ => StateName::Ready,
            };
            if view.state == StateName::Failed && view.reason.contains("result unknown") {
                // Counted first: an agent that takes it may die before it says so.
                self.asked.set(self.asked.get() + 1);
                self.cluster.order("n1", "start", &[&view.instance])?;
            }
            if view.state != wanted {
                return None;
            }
        }
        // A launcher, and what is being killed, are gone a moment later.
        let marked = self.marked();
        let count = |service: &str| marked.iter().filter(|m| m.instance == format!("{service}@n1")).count();
        PROCESSES.into_iter().all(|(service, processes)| count(service) == processes).then_some(())
    }

    fn marked(&self) -> Vec<Marked> {
        self.cluster.tree("n1").map(|tree| tree.find_marked().unwrap()).unwrap_or_default()
    }

    /// Nothing that an agent started, and no descendant that wiped out its marks: it would hold the lock.
    fn nothing_runs(&self) -> bool {
        let is_free = |(service, _): (&str, usize)| {
            let lock = File::options().create(true).append(true).open(self.file(&format!("{service}.one")));
            Flock::lock(lock.unwrap(), FlockArg::LockExclusiveNonblock).is_ok()
        };
        self.marked().is_empty() && PROCESSES.into_iter().all(is_free)
    }

    fn file(&self, name: &str) -> std::path::PathBuf {
        self.cluster.dir().join(name)
    }

    /// How often a service's program has begun, as itself wrote it down.
    fn runs(&self, service: &str) -> usize {
        fs::read_to_string(self.file(&format!("{service}.runs"))).unwrap_or_default().lines().count()
    }

    fn main_of_plain(&self) -> i32 {
        let runs = fs::read_to_string(self.file("plain.runs")).unwrap();
        runs.lines().last().unwrap().parse().unwrap()
    }

    /// What must hold at any time that all is up.
    fn check(&mut self) {
        assert!(!self.file("doubles").exists(), "two of: {:?}", fs::read_to_string(self.file("doubles")));
        // The living keep their files; the stale one was kept aside before it was removed.
        if let Some(known) = &mut self.known {
            assert!(known.lives(), "what was adopted is let be");
            let pid = known.0.id().to_string();
            assert_eq!(fs::read_to_string(self.file("known.pid")).unwrap().trim(), pid);
        }
        assert!(self.bystander.lives());
        let doubted = fs::read_to_string(self.file("doubted.pid")).unwrap();
        assert_eq!(doubted.trim(), self.bystander.0.id().to_string());
        let kept = fs::read_dir(self.file("n1/state/leftovers")).unwrap().map(|e| e.unwrap().file_name());
        let kept: Vec<String> = kept.map(|name| name.into_string().unwrap()).collect();
        for file in ["stale.pid", "stale.lock"] {
            assert!(kept.iter().any(|name| name.ends_with(file)), "a copy of {file} among {kept:?}");
        }
        assert!(!self.file("stale.sock").exists());
        // The state is readable: each event is whole (but for one that is being written), and none has another's number.
        let events = fs::read_to_string(self.file("n1/state/events.jsonl")).unwrap();
        let (whole, _) = events.rsplit_once('\n').unwrap();
        let seqs = whole.lines().map(|line| {
            let event: serde_json::Value = serde_json::from_str(line).unwrap();
            event["seq"].as_u64().unwrap()
        });
        assert!(seqs.is_sorted_by(|a, b| a < b), "the events are numbered upwards");
        let node = self.until("a status", |_, node| Some(node.clone()));
        assert_eq!(node.problems, [""; 0]);
        let log = fs::read_to_string(self.file("n1/agent.log")).unwrap();
        for sign in ["cannot be read", "is torn", "checksum", "panicked", "cannot journal"] {
            assert!(!log.contains(sign), "{sign}:\n{log}");
        }
    }
}

fn is_held(view: &InstanceView) -> bool {
    view.wish != Wish::Up
}

fn pids(node: &NodeStatus) -> BTreeMap<String, i32> {
    node.instances.iter().filter_map(|view| Some((view.instance.clone(), view.pid?))).collect()
}

/// The same command where no cgroup v2 is mounted.
pub fn without_cgroups(agent: &Command) -> Command {
    in_own_mounts("mount -t tmpfs none /sys/fs/cgroup", agent)
}

/// The same command after another one, in a mount namespace of its own.
pub fn in_own_mounts(script: &str, agent: &Command) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--mount", "/bin/sh", "-c", &format!("{script} && exec \"$@\""), "sh"]);
    command.arg(agent.get_program()).args(agent.get_args()).stdin(Stdio::null());
    command
}

/// A process that no agent has started.
pub struct Stranger(Child);

impl Stranger {
    pub fn start(command: &mut Command) -> Stranger {
        Stranger(command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap())
    }

    fn lives(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Each service takes a lock that all its processes hold until they are gone, and writes down that it was begun.
fn write(cluster: &Cluster) {
    let services = ["plain", "forked", "notified", "stale", "task", "known", "gone", "doubted"];
    let services: String = services.iter().map(|s| format!("{s} = {{ on = \"n1\" }}\n")).collect();
    let file = format!(
        "[cluster]\nname = \"NAME\"\ninsecure = true\n\n[nodes]\nall = {{ n1 = \"A1\" }}\n\n[services]\n{services}"
    );
    let script = |then: &str| {
        let one = "exec 9>>DIR/{service}.one; flock -n 9 || echo {service} >>DIR/doubles; echo $$ >>DIR/{service}.runs";
        format!("command = [\"/bin/sh\", \"-c\", \"{one}; {then}\"]\n")
    };
    let care = "[ready]\nprobe = { kind = \"running\", for = \"10ms\" }\n[restart]\ndelay = \"10ms\"\nlimit = 1000\n";
    let unit = |run: String, more: &str| format!("[run]\n{run}{care}{more}");
    let leftovers = "[leftovers]\nsockets = [\"DIR/stale.sock\"]\nlocks = [\"DIR/stale.lock\"]\n";
    cluster.write(
        &file,
        &[
            ("plain", &unit(script("/bin/sleep 1000 & exec /bin/sleep 1000"), "")),
            (
                "forked",
                &unit(
                    "kind = \"forking\"\npidfile = \"DIR/forked.pid\"\nexecutables = [\"sleep\"]\n".to_owned()
                        + &script("/bin/sleep 1000 & echo $! >DIR/forked.pid"),
                    "",
                ),
            ),
            (
                "notified",
                &format!(
                    "[run]\nkind = \"notify\"\nready_fd = 3\n{}[ready]\nwithin = \"20s\"\n[restart]\ndelay = \"10ms\"\nlimit = 1000\n",
                    script("echo >&3; exec /bin/sleep 1000")
                ),
            ),
            (
                "stale",
                &unit(
                    "pidfile = \"DIR/stale.pid\"\nexecutables = [\"DIR/stale-sleep\"]\n".to_owned()
                        + &script("echo $$ >DIR/stale.pid; exec DIR/stale-sleep 1000")
                            .replace("/bin/sh", "DIR/stale-sh"),
                    leftovers,
                ),
            ),
            ("task", &format!("[run]\nkind = \"oneshot\"\n{}", script("exit 0"))),
            (
                "known",
                "[run]\npidfile = \"DIR/known.pid\"\ncommand = [\"PROGRAM\", \"stand-in\", \"redis\", \"--listen\", \
                 \"A1:7403\", \"--pidfile\", \"DIR/known.pid\"]\n[ready]\nprobe = { kind = \"redis\", port = 7403 }\n",
            ),
            (
                "gone",
                "[run]\ncommand = [\"/bin/false\"]\n[ready]\nprobe = { kind = \"running\", for = \"1s\" }\n\
                 [restart]\ndelay = \"10ms\"\nlimit = 1\n",
            ),
            ("doubted", "[run]\npidfile = \"DIR/doubted.pid\"\ncommand = [\"/bin/sleep\", \"1000\"]\n"),
        ],
    );
}
