//! Real agents, each a process of its own on a loopback address of its own, in temporary folders.

use super::program::wait_for;
use clusterd::api::client::{Client, ClientError, Target};
use clusterd::api::wire::{EventRecord, NodeStatus, Order, OrderReply, Verb};
use clusterd::pki::{Bundle, Ca, Validity, Who};
use clusterd::process::{Handle, Tree};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::de::DeserializeOwned;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// The last part of the next node's address: no two nodes of one process share one, be their clusters gone or not.
static NEXT_ADDRESS: AtomicU8 = AtomicU8::new(1);

/// How long an agent has to end by itself, and a killed service to be gone.
const ENDING: Duration = Duration::from_secs(5);

/// How long services have to come up.
const BOOTING: Duration = Duration::from_secs(60);
/// Between two looks at whether they are.
const LOOK: Duration = Duration::from_millis(20);

/// A cluster under construction and then at work. Dropping it ends its agents and kills their services.
pub struct Cluster {
    pub name: String,
    folder: TempDir,
    /// For what a reboot empties: a memory file system, as /run is.
    memory: TempDir,
    runtime: Runtime,
    nodes: Vec<Node>,
    services: String,
    ca: Option<Ca>,
}

struct Node {
    name: String,
    group: String,
    address: Ipv4Addr,
    agent: Option<Agent>,
}

struct Agent {
    child: Child,
    client: Client,
}

impl Cluster {
    /// An empty cluster; `what` becomes part of its name.
    pub fn new(what: &str) -> Cluster {
        let temporary = || tempfile::Builder::new().prefix("clusterd-bench-").to_owned();
        let shm = Path::new("/dev/shm");
        let memory = if shm.is_dir() { temporary().tempdir_in(shm) } else { temporary().tempdir() };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        Cluster {
            name: format!("bench-{what}-{}", std::process::id()),
            folder: temporary().tempdir().expect("a temporary folder"),
            memory: memory.expect("a temporary folder"),
            runtime: runtime.expect("a runtime"),
            nodes: Vec::new(),
            services: String::new(),
            ca: None,
        }
    }

    /// Has the agents speak TLS: from now on each that starts has a certificate of this CA.
    pub fn secure(&mut self) -> &Ca {
        let ca = Ca::init(&self.folder().join("ca"), &self.name, Validity::days(10), None);
        self.ca.insert(ca.expect("a folder of our own"))
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Adds a node. Its address is a loopback one that other benches do not use.
    pub fn node(&mut self, group: &str, name: &str) -> Ipv4Addr {
        let [high, low] = (std::process::id() as u16).to_be_bytes();
        let address =
            Ipv4Addr::new(127, 64 | (high & 0x3f), low, NEXT_ADDRESS.fetch_add(1, Ordering::Relaxed));
        self.nodes.push(Node { name: name.into(), group: group.into(), address, agent: None });
        address
    }

    /// Adds a service with a unit of its own. `entry` is what stands in the file beside its unit, `unit` the unit's
    /// text.
    pub fn service(&mut self, name: &str, entry: &str, unit: &str) {
        let units = self.folder().join("units");
        fs::create_dir_all(&units).expect("a folder of our own");
        fs::write(units.join(format!("{name}.toml")), unit).expect("a folder of our own");
        self.services += &format!("{name} = {{ {entry} }}\n");
    }

    /// Writes the file down.
    fn write(&self) -> PathBuf {
        let insecure = self.ca.is_none();
        let mut text = format!("[cluster]\nname = \"{}\"\ninsecure = {insecure}\n\n[nodes]\n", self.name);
        let mut groups: Vec<&str> = Vec::new();
        for node in &self.nodes {
            if !groups.contains(&node.group.as_str()) {
                groups.push(&node.group);
            }
        }
        for group in groups {
            let members = self.nodes.iter().filter(|n| n.group == group);
            let members: Vec<_> = members.map(|n| format!("{} = \"{}\"", n.name, n.address)).collect();
            text += &format!("{group} = {{ {} }}\n", members.join(", "));
        }
        text += &format!("\n[services]\n{}", self.services);
        let path = self.folder().join("cluster.toml");
        fs::write(&path, text).expect("a folder of our own");
        path
    }

    /// Starts the agents of these nodes, and waits until they answer.
    pub fn start(&mut self, names: &[&str]) {
        let config = self.write();
        for name in names {
            let (state, run) = (self.state(name), self.run(name));
            fs::create_dir_all(&state).expect("a folder of our own");
            if let Some(ca) = &self.ca {
                let issued =
                    ca.issue(Who::Node((*name).to_owned()), Validity::days(10)).expect("a certificate");
                let bundle = Bundle::parse(&issued.bundle).expect("a bundle of our own");
                bundle.write(&state.join("identity.pem")).expect("a folder of our own");
            }
            let log =
                fs::File::create(self.folder().join(format!("{name}.log"))).expect("a folder of our own");
            let child = Command::new(env!("CARGO_BIN_EXE_clusterd"))
                .args(["--log", "warn", "--node", name])
                .arg("--config")
                .arg(&config)
                .arg("--state")
                .arg(&state)
                .arg("--run")
                .arg(&run)
                .stdin(Stdio::null())
                .stderr(log)
                .spawn()
                .expect("clusterd can be executed");
            let client = Client::new(Target::Unix(run.join("clusterd.sock")));
            self.named(name).agent = Some(Agent { child, client });
        }
        for name in names {
            wait_for(&format!("the agent of {name} answers"), || {
                if let Ok(Some(status)) = self.agent(name).child.try_wait() {
                    let log = self.folder().join(format!("{name}.log"));
                    panic!(
                        "the agent of {name} ended ({status}): {}",
                        fs::read_to_string(log).unwrap_or_default()
                    );
                }
                self.get::<NodeStatus>(name, "/v1/node").ok()
            });
        }
    }

    /// Starts the agents of all nodes.
    pub fn start_all(&mut self) {
        let names: Vec<String> = self.nodes.iter().map(|n| n.name.clone()).collect();
        self.start(&names.iter().map(String::as_str).collect::<Vec<_>>());
    }

    fn state(&self, node: &str) -> PathBuf {
        self.folder().join(node)
    }

    fn run(&self, node: &str) -> PathBuf {
        self.memory.path().join(node)
    }

    /// The agent's unix socket.
    pub fn socket(&self, node: &str) -> PathBuf {
        self.run(node).join("clusterd.sock")
    }

    /// Where the agents of all nodes listen, in the order of the file.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        let port = clusterd::api::DEFAULT_PORT;
        self.nodes.iter().map(|n| SocketAddr::new(n.address.into(), port)).collect()
    }

    fn named(&mut self, name: &str) -> &mut Node {
        self.nodes.iter_mut().find(|n| n.name == name).unwrap_or_else(|| panic!("no node {name}"))
    }

    fn agent(&mut self, name: &str) -> &mut Agent {
        self.named(name).agent.as_mut().unwrap_or_else(|| panic!("the agent of {name} is not running"))
    }

    pub fn pid(&mut self, node: &str) -> i32 {
        self.agent(node).child.id() as i32
    }

    /// Runs a future of the bench.
    pub fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    /// Asks an agent over its unix socket; the connection stays warm.
    pub fn get<T: DeserializeOwned>(&mut self, node: &str, path: &str) -> Result<T, ClientError> {
        let index = self.nodes.iter().position(|n| n.name == node).expect("a known node");
        let agent = self.nodes[index].agent.as_mut().expect("a running agent");
        self.runtime.block_on(agent.client.get(path))
    }

    pub fn status(&mut self, node: &str) -> NodeStatus {
        self.get(node, "/v1/node").unwrap_or_else(|e| panic!("the agent of {node}: {e}"))
    }

    pub fn events(&mut self, node: &str, after: u64) -> Vec<EventRecord> {
        let path = format!("/v1/events?after={after}");
        self.get(node, &path).unwrap_or_else(|e| panic!("the agent of {node}: {e}"))
    }

    /// The number of the agent's latest event.
    pub fn last_event(&mut self, node: &str) -> u64 {
        self.events(node, 0).last().map_or(0, |e| e.seq)
    }

    /// Restarts one instance.
    pub fn restart(&mut self, node: &str, instance: &str) {
        self.order(node, Verb::Restart, &[instance]);
    }

    /// Gives an order for these instances, or for all of the node. It is taken when this returns, not yet done.
    pub fn order(&mut self, node: &str, verb: Verb, instances: &[&str]) {
        let order = Order {
            verb,
            instances: instances.iter().map(|name| (*name).to_owned()).collect(),
            force: false,
            timeout_ms: 30_000,
            without: Vec::new(),
            by: "bench".into(),
            reason: String::new(),
        };
        let index = self.nodes.iter().position(|n| n.name == node).expect("a known node");
        let agent = self.nodes[index].agent.as_mut().expect("a running agent");
        let reply: Result<OrderReply, _> = self.runtime.block_on(agent.client.post("/v1/order", &order));
        reply.unwrap_or_else(|e| panic!("{verb:?} of {instances:?}: {e}"));
    }

    /// Waits until every instance of these nodes is up.
    pub fn wait_up(&mut self, nodes: &[&str]) {
        for node in nodes {
            let begun = Instant::now();
            loop {
                let status = self.status(node);
                let Some(down) = status.instances.iter().find(|i| !i.state.is_up()) else { break };
                assert!(begun.elapsed() < BOOTING, "{} is {}: {}", down.instance, down.state, down.reason);
                std::thread::sleep(LOOK);
            }
        }
    }

    pub fn wait_all_up(&mut self) {
        let names: Vec<String> = self.nodes.iter().map(|n| n.name.clone()).collect();
        self.wait_up(&names.iter().map(String::as_str).collect::<Vec<_>>());
    }

    /// Freezes the agent of a node: it is connected to and answers nobody, as a frozen machine.
    pub fn freeze(&mut self, node: &str) {
        signal(&self.agent(node).child, Signal::SIGSTOP);
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // Services that overwrite their environment lose their marks: their agents still know them.
        let mut services = Vec::new();
        for index in 0..self.nodes.len() {
            let Some(agent) = &mut self.nodes[index].agent else { continue };
            signal(&agent.child, Signal::SIGCONT);
            let status: Result<NodeStatus, _> = self.runtime.block_on(agent.client.get("/v1/node"));
            let pids = status.iter().flat_map(|s| &s.instances).filter_map(|i| i.pid);
            services.extend(pids.filter_map(|pid| Handle::open(pid).ok()));
        }
        for node in &mut self.nodes {
            if let Some(agent) = &mut node.agent {
                let _ = agent.child.kill();
                let _ = agent.child.wait();
            }
        }
        for service in &services {
            let _ = service.signal(Signal::SIGKILL as i32);
        }
        for service in &services {
            let _ = service.wait(ENDING);
        }
        for node in &self.nodes {
            let Ok(id) = fs::read_to_string(self.state(&node.name).join("id")) else { continue };
            let tree = Tree::locate(&format!("{}-{}-{}", self.name, node.name, id.trim()));
            for left in tree.find_marked().unwrap_or_default() {
                let dying = tree.kill_all(&left.instance).unwrap_or_default();
                for process in dying {
                    let _ = process.wait(ENDING);
                }
                let _ = tree.remove_leaf(&left.instance);
            }
        }
    }
}

/// Signals a child of ours that nobody has waited for yet: its number is surely its own.
fn signal(child: &Child, signal: Signal) {
    let _ = kill(Pid::from_raw(child.id() as i32), signal);
}
