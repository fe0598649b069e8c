//! A few real agents in a temporary folder, and whatever they start, until the test ends.
//!
//! What each engine is given and says is recorded, and replayed when the test ends: it must say the same again, and
//! never be given what the simulator's contract does not know.

#![allow(dead_code)] // each test binary uses its part

use clusterd::api::wire::{EventRecord, NodeStatus};
use clusterd::process::Tree;
use clusterd::sim::contract::Contract;
use clusterd::sim::replay::{Replayed, replay};
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How long a test waits for a fact.
const WITHIN: Duration = Duration::from_secs(60);

/// Waits for a fact, and says what it waited for when it does not come.
pub fn wait<T>(what: &str, mut fact: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = fact() {
            return found;
        }
        assert!(begun.elapsed() < WITHIN, "waited {} s for {what}", WITHIN.as_secs());
        std::thread::sleep(Duration::from_millis(20)); // between two looks
    }
}

/// What a program printed, and how it ended.
#[derive(Debug)]
pub struct Told {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Told {
    pub fn text(&self) -> String {
        format!("{}{}", self.out, self.err)
    }
}

pub struct Cluster {
    dir: tempfile::TempDir,
    pub name: String,
    pub net: String,
    /// As long as it listens there, no other cluster has the network.
    _ours: TcpListener,
    agents: HashMap<String, Child>,
}

impl Cluster {
    /// An empty cluster. Tests run beside each other: each has a name and addresses of its own.
    pub fn new(name: &str) -> Cluster {
        Cluster::new_in(&std::env::temp_dir(), name)
    }

    /// As [`Cluster::new`], with its folders in this one.
    pub fn new_in(folder: &Path, name: &str) -> Cluster {
        let hash = name.bytes().fold(std::process::id(), |h, b| h.wrapping_mul(31).wrapping_add(b.into()));
        let taken = (0..1000).find_map(|n| {
            let at = hash.wrapping_add(n);
            let net = format!("127.{}.{}", 200 + at % 50, at / 50 % 250);
            let ours = TcpListener::bind(format!("{net}.254:7399")).ok()?;
            Some((net, ours))
        });
        let (net, ours) = taken.expect("a free network");
        let name = format!("{name}-{}", std::process::id());
        Cluster { dir: tempfile::tempdir_in(folder).unwrap(), name, net, _ours: ours, agents: HashMap::new() }
    }

    /// The folder that is the test's own.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn file(&self) -> PathBuf {
        self.dir.path().join("cluster.toml")
    }

    /// The cluster file of a node: the one that they share, unless it has one of its own.
    pub fn file_of(&self, node: &str) -> PathBuf {
        let own = self.dir.path().join(node).join("etc/cluster.toml");
        if own.exists() { own } else { self.file() }
    }

    /// Gives a node a copy of the shared file and its units.
    pub fn give_own_file(&self, node: &str) {
        let own = self.dir.path().join(node).join("etc");
        fs::create_dir_all(own.join("units")).unwrap();
        fs::copy(self.file(), own.join("cluster.toml")).unwrap();
        for unit in fs::read_dir(self.dir.path().join("units")).unwrap() {
            let unit = unit.unwrap();
            fs::copy(unit.path(), own.join("units").join(unit.file_name())).unwrap();
        }
    }

    pub fn run(&self, node: &str) -> PathBuf {
        self.dir.path().join(node).join("run")
    }

    /// Where the agent of a node records.
    pub fn recording(&self, node: &str) -> PathBuf {
        self.dir.path().join(node).join("trace.jsonl")
    }

    /// Writes a cluster file, and these units beside it. `NAME` stands for the cluster's name, `A1` to `A3` for the
    /// nodes' addresses, `PROGRAM` for `clusterctl`, `DIR` for the folder that is the test's own.
    pub fn write(&self, file: &str, units: &[(&str, &str)]) {
        let dir = self.dir.path();
        let fill = |text: &str| {
            text.replace("A1", &self.address(1))
                .replace("A2", &self.address(2))
                .replace("A3", &self.address(3))
                .replace("NAME", &self.name)
                .replace("PROGRAM", env!("CARGO_BIN_EXE_clusterctl"))
                .replace("DIR", dir.to_str().unwrap())
        };
        fs::create_dir_all(dir.join("units")).unwrap();
        fs::write(self.file(), fill(file)).unwrap();
        for (name, text) in units {
            fs::write(dir.join("units").join(format!("{name}.toml")), fill(text)).unwrap();
        }
    }

    /// The address of node 1 or 2.
    pub fn address(&self, node: u8) -> String {
        format!("{}.{node}", self.net)
    }

    /// Writes the cluster file and its two units. `A1` and `A2` stand for the nodes' addresses.
    pub fn write_file(&self, web: &str, nodes: &[(&str, &str)]) {
        self.write_file_with("insecure = true\n", web, nodes);
    }

    /// As [`Cluster::write_file`], with these lines under `[cluster]`.
    pub fn write_file_with(&self, more: &str, web: &str, nodes: &[(&str, &str)]) {
        let nodes: String = nodes
            .iter()
            .map(|(group, nodes)| format!("{group} = {nodes}\n"))
            .collect::<String>()
            .replace("A1", &self.address(1))
            .replace("A2", &self.address(2));
        let text = format!(
            "[cluster]\nname = \"{}\"\n{more}\n[nodes]\n{nodes}\n[services]\ncache = {{ on = \"cache\" }}\n\n[services.web]\n\
             on = \"web\"\n{web}\n",
            self.name
        );
        fs::write(self.file(), text).unwrap();
        fs::create_dir_all(self.dir.path().join("units")).unwrap();
        self.write_unit("cache", "redis", 7401);
        self.write_unit("web", "http", 7400);
    }

    fn write_unit(&self, name: &str, kind: &str, port: u16) {
        let program = env!("CARGO_BIN_EXE_clusterctl");
        let text = format!(
            "[set]\nport = {port}\n\n[run]\ncommand = [\"{program}\", \"stand-in\", \"{kind}\", \"--listen\", \
             \"{{address}}:{{port}}\"]\n\n[ready]\nprobe = {{ kind = \"{kind}\", port = \"{{port}}\" }}\n"
        );
        fs::write(self.dir.path().join("units").join(format!("{name}.toml")), text).unwrap();
    }

    /// The agent of a node, as it is started.
    pub fn agent(&self, node: &str) -> Command {
        let folder = self.dir.path().join(node);
        let mut command = Command::new(env!("CARGO_BIN_EXE_clusterd"));
        command.args(["--node", node, "--config"]).arg(self.file_of(node));
        command.arg("--state").arg(folder.join("state")).arg("--run").arg(folder.join("run"));
        command.arg("--record").arg(self.recording(node));
        command
    }

    pub fn start(&mut self, node: &str) {
        let command = self.agent(node);
        self.start_as(node, command);
    }

    /// Starts an agent whose state is on a disk of its own, of this size and in memory.
    pub fn start_on_a_small_disk(&mut self, node: &str, size: &str) {
        let agent = self.agent(node);
        let state = self.dir.path().join(node).join("state");
        fs::create_dir_all(&state).unwrap();
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c"]);
        command
            .arg(format!("mount -t tmpfs -o size={size},mode=700 none {} && exec \"$@\"", state.display()));
        command.arg("sh").arg(agent.get_program()).args(agent.get_args());
        self.start_as(node, command);
    }

    /// Runs a shell's line where it sees the same disks as the agent of a node does.
    pub fn beside(&self, node: &str, script: &str) {
        let pid = self.agents[node].id().to_string();
        let done = Command::new("nsenter").args(["--target", &pid, "--mount", "sh", "-c", script]).status();
        assert!(done.unwrap().success(), "{script}");
    }

    /// Starts an agent by another command.
    pub fn start_as(&mut self, node: &str, command: Command) {
        fs::create_dir_all(self.dir.path().join(node)).unwrap();
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.dir.path().join(node).join("agent.log"))
            .unwrap();
        self.start_saying_to(node, command, log);
    }

    /// As [`Cluster::start_as`], with its words going there.
    pub fn start_saying_to(&mut self, node: &str, mut command: Command, log: File) {
        let command = command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        self.agents.insert(node.to_owned(), command.spawn().unwrap());
    }

    /// kill -9 of the agent; what it started stays.
    pub fn kill(&mut self, node: &str) {
        let mut child = self.agents.remove(node).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// The agent's own pid.
    pub fn pid(&self, node: &str) -> u32 {
        self.agents[node].id()
    }

    /// Sends the agent a signal.
    pub fn signal(&self, node: &str, signal: Signal) {
        nix::sys::signal::kill(Pid::from_raw(self.pid(node) as i32), signal).unwrap();
    }

    pub fn has_agent(&self, node: &str) -> bool {
        self.agents.contains_key(node)
    }

    /// How the agent ended, if it has; it is still to be taken away.
    pub fn peek_ended(&mut self, node: &str) -> Option<ExitStatus> {
        self.agents.get_mut(node)?.try_wait().unwrap()
    }

    /// How the agent ended, if it has.
    pub fn ended(&mut self, node: &str) -> Option<ExitStatus> {
        let status = self.peek_ended(node)?;
        self.agents.remove(node);
        Some(status)
    }

    /// Waits for the agent's end.
    pub fn wait_ended(&mut self, node: &str) {
        let mut child = self.agents.remove(node).unwrap();
        let status = wait("the agent to end", || child.try_wait().unwrap());
        assert!(status.success(), "{status}");
    }

    /// Replays what the agent of a node has recorded; `None` when it never began.
    pub fn replayed(&self, node: &str) -> Option<Replayed> {
        let recording = File::open(self.recording(node)).ok()?;
        let replayed = replay(BufReader::new(recording), &mut Contract::default());
        Some(replayed.unwrap_or_else(|e| panic!("the recording of {node}: {e}")))
    }

    /// For an agent that is to be refused.
    pub fn run_agent_to_its_end(&self, node: &str) -> Told {
        told(self.agent(node))
    }

    pub fn ctl(&self, node: &str, args: &[&str]) -> Told {
        told(self.ctl_command(node, args))
    }

    pub fn ctl_command(&self, node: &str, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_clusterctl"));
        command.args(args).arg("--socket").arg(self.run(node).join("clusterd.sock"));
        command
    }

    /// What the agent of a node says of itself, asked without a program in between; `None` when it does not answer.
    pub fn node_status(&self, node: &str) -> Option<NodeStatus> {
        serde_json::from_str(&self.http(node, "GET /v1/node", "")?).ok()
    }

    /// Has the agent of a node start or stop its own instances, all where none is named; `None` when nobody took it.
    pub fn order(&self, node: &str, verb: &str, instances: &[&str]) -> Option<()> {
        let order = serde_json::json!({
            "verb": verb, "instances": instances, "timeout_ms": 10_000, "by": "a test"
        });
        self.http(node, "POST /v1/order", &order.to_string()).map(drop)
    }

    pub fn http(&self, node: &str, what: &str, body: &str) -> Option<String> {
        let mut agent = UnixStream::connect(self.run(node).join("clusterd.sock")).ok()?;
        agent.set_read_timeout(Some(WITHIN)).ok()?;
        let head = format!(
            "{what} HTTP/1.1\r\nhost: agent\r\nconnection: close\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        );
        agent.write_all(head.as_bytes()).ok()?;
        let mut answer = String::new();
        agent.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        head.starts_with("HTTP/1.1 200").then(|| body.to_owned())
    }

    /// The trees of a node's agent; `None` before it has begun for the first time.
    pub fn tree(&self, node: &str) -> Option<Tree> {
        let id = fs::read_to_string(self.dir.path().join(node).join("state/id")).ok()?;
        Some(Tree::locate(&Tree::tag(&self.name, node, id.trim())))
    }

    /// The nodes that have had an agent.
    fn nodes(&self) -> Vec<String> {
        let entries = fs::read_dir(self.dir.path()).unwrap().map(|entry| entry.unwrap());
        let nodes = entries.filter(|e| e.path().join("state").exists());
        nodes.map(|e| e.file_name().into_string().unwrap()).collect()
    }

    pub fn status(&self, node: &str) -> Option<serde_json::Value> {
        serde_json::from_str(&self.ctl(node, &["status", "--json"]).out).ok()
    }

    /// The file of the test's own.
    pub fn file_named(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The view of an instance, as its own agent tells it.
    pub fn view(&self, node: &str, instance: &str) -> Option<serde_json::Value> {
        let status = self.status(node)?;
        let mut views =
            status["nodes"].as_array()?.iter().filter_map(|n| n["status"]["instances"].as_array()).flatten();
        views.find(|v| v["instance"] == instance).cloned()
    }

    pub fn in_state(&self, node: &str, instance: &str, state: &str) -> Option<()> {
        (self.view(node, instance)?["state"] == state).then_some(())
    }

    pub fn pid_if(&self, node: &str, instance: &str, state: &str) -> Option<i64> {
        let view = self.view(node, instance)?;
        (view["state"] == state).then(|| view["pid"].as_i64()).flatten()
    }

    /// What the agent of a node tells of what has happened, oldest first; what it has written down where none answers.
    ///
    /// It tells an event together with what came of it, and writes it down a moment later.
    pub fn events(&self, node: &str) -> Vec<EventRecord> {
        match self.http(node, "GET /v1/events?after=0", "") {
            Some(told) => serde_json::from_str(&told).unwrap(),
            None => self.events_on_disk(node),
        }
    }

    pub fn events_on_disk(&self, node: &str) -> Vec<EventRecord> {
        let log = fs::read_to_string(self.dir.path().join(node).join("state/events.jsonl"));
        log.unwrap_or_default().lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// What the events of this kind say of an instance, oldest first.
    pub fn sentences(&self, node: &str, instance: &str, what: &str) -> Vec<String> {
        let marked = format!("  {instance}  {what}: ");
        let events = self.ctl(node, &["events", instance]).out;
        events.lines().filter_map(|line| Some(line.split_once(&marked)?.1.to_owned())).collect()
    }

    /// The monotonic moment, in nanoseconds, of the latest such event.
    pub fn event(&self, node: &str, instance: &str, what: &str) -> Option<u64> {
        moment(&self.events(node), instance, what)
    }

    pub fn event_on_disk(&self, node: &str, instance: &str, what: &str) -> Option<u64> {
        moment(&self.events_on_disk(node), instance, what)
    }
}

fn moment(events: &[EventRecord], instance: &str, what: &str) -> Option<u64> {
    events.iter().rfind(|e| e.instance == instance && e.what == what).map(|e| e.at.0)
}

pub fn told(command: Command) -> Told {
    told_typing(command, "")
}

/// What a program printed that was given this on its standard input.
pub fn told_typing(mut command: Command, typed: &str) -> Told {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // It may end without having read it.
    let _ = child.stdin.take().unwrap().write_all(typed.as_bytes());
    let output = child.wait_with_output().unwrap();
    Told {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

impl Drop for Cluster {
    /// Ends the agents, then all that carries one of their marks.
    fn drop(&mut self) {
        if std::thread::panicking() {
            for node in self.agents.keys() {
                let log =
                    fs::read_to_string(self.dir.path().join(node).join("agent.log")).unwrap_or_default();
                eprintln!("--- the agent of {node}:\n{log}");
            }
        }
        for (_, mut agent) in self.agents.drain() {
            let _ = agent.kill();
            let _ = agent.wait();
        }
        for node in self.nodes() {
            let Some(tree) = self.tree(&node) else { continue };
            for marked in tree.find_marked().unwrap_or_default() {
                if let Ok(dying) = tree.kill_all(&marked.instance) {
                    dying.iter().for_each(|handle| drop(handle.wait(Duration::from_secs(5))));
                }
            }
            tree.dismantle();
        }
        if !std::thread::panicking() {
            for node in self.nodes() {
                self.replayed(&node);
            }
        }
    }
}
