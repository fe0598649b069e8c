//! The lab itself: fourteen hosts, laid out fresh, one lab at a time, and nothing left behind.

use super::host::{self, Host};
use super::kernel;
use super::network::{self, Network};
use clusterd::rig::{Addressing, Directors, Options, Rig, SecondRedis};
use clusterd::sim::contract::Contract;
use clusterd::sim::replay::replay;
use nix::fcntl::{Flock, FlockArg};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::BufReader;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Everything of the lab is below this folder; there is one lab at a time.
const FOLDER: &str = "/tmp/clusterd-lab";
const GROUP: &str = "clusterd-lab";
/// Between two looks at a fact.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How much of each agent's log is shown when a fact does not come.
const LOG_LINES: usize = 12;

/// The virtual address of the directors.
pub const VIP: &str = "10.77.9.9";

/// The lab.
pub struct Lab {
    pub rig: Rig,
    pub hosts: Vec<Host>,
    network: Network,
    group: PathBuf,
    begun: Instant,
    /// Held while the lab stands.
    _lock: Flock<File>,
}

/// Where a host's files are; they outlive a power cut.
#[derive(Clone)]
pub struct Disk {
    dir: PathBuf,
}

impl Disk {
    pub fn agent_log(&self, node: &str) -> PathBuf {
        self.dir.join(node).join("agent.log")
    }
    /// What its agents were given and said, one after another.
    pub fn recording(&self, node: &str) -> PathBuf {
        self.dir.join(node).join("trace.jsonl")
    }
    pub fn state(&self, node: &str) -> PathBuf {
        self.dir.join(node).join("lib-clusterd")
    }
    /// Every host reads the same file here; a test may give one host another.
    pub fn config(&self, node: &str) -> PathBuf {
        let own = self.dir.join(node).join("cluster.toml");
        if own.exists() { own } else { self.dir.join("cluster.toml") }
    }
}

impl Lab {
    /// Lays out the fourteen nodes; all hosts are dark. Waits for another lab to end.
    pub fn new(name: &str) -> Lab {
        host::check_tools();
        let lock = File::create(format!("{FOLDER}.lock")).expect("the lab's lock");
        let lock = Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, e)| e).expect("the lab's lock");
        let group = kernel::cgroup_mount().join(GROUP);
        clear(&group);
        eprintln!("lab: {name}");

        let addresses = addresses();
        let options = Options {
            clusterctl: PathBuf::from(env!("CARGO_BIN_EXE_clusterctl")),
            as_users: true,
            agent_port: None,
            http_port: 80,
            vip: Some(format!("{VIP}/16")),
            directors: Directors::Interface("eth0".into()),
            second_redis: Some(SecondRedis { service: "sessions".into(), node: "redis1".into(), port: 6380 }),
        };
        let dir = Path::new(FOLDER);
        let rig = Rig::lay_out(dir, &Addressing::Given(addresses), &options).expect("the rig is laid out");
        for daemon in ["mysql", "redis", "activemq", "web", "keepalived", "sessions"] {
            let daemon = rig.daemons.iter().find(|d| d.service == daemon).expect("it is in the sample");
            assert!(daemon.is_real(), "the lab runs the real daemons: {daemon:?}; run tests/install");
        }
        fs::create_dir_all(&group).expect("the lab's control group");
        let disk = Disk { dir: rig.dir.clone() };
        let hosts = rig.nodes.iter().map(|(name, address)| {
            fs::create_dir_all(rig.dir.join(name)).expect("the host's folder");
            Host::new(name, *address, &disk, &group)
        });
        Lab {
            hosts: hosts.collect(),
            network: Network::new(),
            group,
            rig,
            begun: Instant::now(),
            _lock: lock,
        }
    }

    pub fn host(&self, name: &str) -> &Host {
        self.hosts.iter().find(|h| h.name == name).unwrap_or_else(|| panic!("no host {name}"))
    }

    /// The control group of a host.
    pub fn group_of(&self, name: &str) -> PathBuf {
        self.group.join(name)
    }

    /// All hosts but these.
    pub fn hosts_without<'a>(&'a self, names: &'a [&'a str]) -> impl Iterator<Item = &'a Host> {
        self.hosts.iter().filter(move |h| !names.contains(&h.name.as_str()))
    }

    /// Switches a host on; its agent starts with it.
    pub fn boot(&self, name: &str) {
        self.boot_without_agent(name);
        self.host(name).start_agent();
    }

    pub fn boot_without_agent(&self, name: &str) {
        self.host(name).boot_without_agent(&self.network);
    }

    /// Switches on all hosts but these.
    pub fn boot_without(&self, dark: &[&str]) {
        for host in self.hosts_without(dark) {
            self.boot(&host.name);
        }
    }

    pub fn power_cut(&self, name: &str) {
        self.host(name).power_cut(&self.network);
    }

    /// Every process of every host dies at one instant.
    pub fn power_cut_all(&self) {
        kernel::kill_group(&self.group);
        for host in &self.hosts {
            host.bury(&self.network);
        }
    }

    /// Waits for a fact; when it does not come in time, fails with the last thing seen and what the agents logged.
    pub fn wait<T>(&self, what: &str, at_most: Duration, fact: impl FnMut() -> Result<T, String>) -> T {
        match try_wait(at_most, fact) {
            Ok(found) => found,
            Err(last) => {
                let logs = self.hosts.iter().filter(|h| h.is_on());
                let logs: String =
                    logs.map(|h| format!("\n--- {}\n{}", h.name, h.log_tail(LOG_LINES))).collect();
                panic!("not within {at_most:?}: {what}; last seen: {last}{logs}");
            }
        }
    }
}

impl Lab {
    /// Each engine says the same again, and was given what the contract knows. The files are kept when it does not.
    fn replay_recordings(&self) {
        let (mut inputs, mut kinds) = (0, BTreeSet::new());
        for host in &self.hosts {
            if !host.had_agent() {
                continue;
            }
            let recording = File::open(host.recording()).expect("each agent records");
            let replayed = replay(BufReader::new(recording), &mut Contract::default());
            let replayed =
                replayed.unwrap_or_else(|e| panic!("the recording {}: {e}", host.recording().display()));
            inputs += replayed.inputs;
            kinds.extend(replayed.kinds);
        }
        eprintln!("lab: {inputs} inputs of {} kinds replay to the same actions", kinds.len());
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        eprintln!("lab: ended after {:.1} s", self.begun.elapsed().as_secs_f32());
        if std::thread::panicking() {
            eprintln!("lab: its files are kept in {FOLDER} until the next lab");
            kill_and_remove(&self.group);
            network::remove_all();
        } else {
            self.power_cut_all();
            network::remove_all();
            self.replay_recordings();
            clear(&self.group);
        }
    }
}

/// Removes what a lab that was killed has left.
fn clear(group: &Path) {
    kill_and_remove(group);
    network::remove_all();
    match fs::remove_dir_all(FOLDER) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => panic!("cannot remove {FOLDER}: {e}"),
        _ => {}
    }
}

fn kill_and_remove(group: &Path) {
    kernel::kill_group(group);
    wait("the lab's processes are gone", Duration::from_secs(60), || {
        if kernel::remove_group(group) { Ok(()) } else { Err("some are left") }
    });
}

/// `10.77.GROUP.N`, by the sample's own last numbers.
fn addresses() -> BTreeMap<String, IpAddr> {
    let sample: toml::Table = clusterd::rig::SAMPLE.parse().expect("the sample is TOML");
    let groups = sample["nodes"].as_table().expect("[nodes]");
    let nodes = groups.values().flat_map(|group| group.as_table().expect("a group"));
    let moved = |address: &str| {
        let IpAddr::V4(v4) = address.parse().expect("a literal address") else { panic!("IPv4") };
        let last = v4.octets()[3];
        IpAddr::from([10, 77, last / 10, last % 10])
    };
    nodes.map(|(name, address)| (name.clone(), moved(address.as_str().expect("an address")))).collect()
}

/// Waits for a fact, never for time; the last thing that was seen instead, when it does not come.
pub fn try_wait<T, E>(at_most: Duration, mut fact: impl FnMut() -> Result<T, E>) -> Result<T, E> {
    let begun = Instant::now();
    loop {
        match fact() {
            Ok(found) => return Ok(found),
            Err(last) if begun.elapsed() >= at_most => return Err(last),
            Err(_) => std::thread::sleep(LOOK_EVERY),
        }
    }
}

/// The same for what has to come.
pub fn wait<T>(what: &str, at_most: Duration, fact: impl FnMut() -> Result<T, &'static str>) -> T {
    try_wait(at_most, fact).unwrap_or_else(|last| panic!("not within {at_most:?}: {what}; last seen: {last}"))
}
