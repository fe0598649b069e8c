//! One host of the lab: a machine with a power switch, a disk, and processes of its own.

use super::harness::{self, Disk};
use super::kernel::{self, Process};
use super::network::{self, Network};
use std::cell::RefCell;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::net::IpAddr;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

const CLUSTERD: &str = env!("CARGO_BIN_EXE_clusterd");
const CLUSTERCTL: &str = env!("CARGO_BIN_EXE_clusterctl");

/// How long the kernel may take to bury the dead.
const BURIAL: Duration = Duration::from_secs(60);

/// A machine of the lab.
pub struct Host {
    pub name: String,
    pub address: IpAddr,
    disk: Disk,
    /// The control group that holds all its processes, and is the root of what they see.
    group: PathBuf,
    power: RefCell<Option<Power>>,
}

/// A host that is switched on.
struct Power {
    /// The program that made the namespaces and waits for PID 1.
    maker: Child,
    pid1: i32,
    /// The program that entered the namespaces and waits for the agent.
    agent: Option<Child>,
}

/// What PID 1 runs: it mounts what a boot mounts, says so, and then only buries orphans.
const INIT: &str = r#"
set -e
hostname "$1"
mount -t proc proc /proc
mount -t tmpfs -o mode=755 tmpfs /run
umount "$2"
mount -t cgroup2 cgroup2 "$2"
sleep infinity &
echo up
exec >/dev/null
wait
"#;

impl Host {
    pub fn new(name: &str, address: IpAddr, disk: &Disk, lab_group: &std::path::Path) -> Host {
        Host {
            name: name.to_owned(),
            address,
            disk: disk.clone(),
            group: lab_group.join(name),
            power: RefCell::new(None),
        }
    }

    /// Switches it on; nothing but PID 1 runs.
    pub fn boot_without_agent(&self, network: &Network) {
        assert!(!self.is_on(), "{} is on already", self.name);
        network.plug(&self.name, self.address);
        fs::create_dir_all(&self.group).expect("the host's control group");
        let netns = format!("--net=/run/netns/{}", Network::name(&self.name));
        let mount = kernel::cgroup_mount();
        let mut maker = self
            .inside_group(&["nsenter", &netns, "unshare", "--pid", "--mount", "--uts", "--cgroup", "--fork"])
            .args(["--kill-child=SIGKILL", "/bin/sh", "-c", INIT, "init", &self.name])
            .arg(mount)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare");
        let mut said = String::new();
        let out = maker.stdout.take().expect("it is piped");
        BufReader::new(out).read_line(&mut said).expect("PID 1 says that it is up");
        assert_eq!(said, "up\n", "{}: PID 1 did not come up", self.name);
        let pid1 = *kernel::children_of(maker.id()).first().expect("PID 1 is the maker's child");
        *self.power.borrow_mut() = Some(Power { maker, pid1, agent: None });
    }

    pub fn is_on(&self) -> bool {
        self.power.borrow().is_some()
    }

    /// Starts the agent, as a boot does it.
    pub fn start_agent(&self) {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.disk.agent_log(&self.name))
            .expect("agent.log");
        let agent = self
            .command(&[CLUSTERD, "--node", &self.name, "--run", "/run/clusterd"])
            .arg("--config")
            .arg(self.disk.config(&self.name))
            .arg("--state")
            .arg(self.disk.state(&self.name))
            .arg("--record")
            .arg(self.recording())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("agent.log"))
            .stderr(log)
            .spawn()
            .expect("nsenter");
        let mut power = self.power.borrow_mut();
        let power = power.as_mut().unwrap_or_else(|| panic!("{} is off", self.name));
        assert!(power.agent.is_none(), "{} has an agent already", self.name);
        power.agent = Some(agent);
    }

    /// Where its agents record.
    pub fn recording(&self) -> PathBuf {
        self.disk.recording(&self.name)
    }

    /// Whether an agent was ever started on it.
    pub fn had_agent(&self) -> bool {
        self.disk.agent_log(&self.name).exists()
    }

    /// Kills the agent with -9, and nothing else.
    pub fn kill_agent(&self) {
        let pid = harness::wait(&format!("{} has an agent", self.name), BURIAL, || {
            self.agent_pid().ok_or("nobody entered yet")
        });
        let mut entered =
            self.power.borrow_mut().as_mut().and_then(|p| p.agent.take()).expect("it has a pid");
        let target = nix::unistd::Pid::from_raw(pid);
        nix::sys::signal::kill(target, nix::sys::signal::SIGKILL).expect("the agent is killed");
        entered.wait().expect("nsenter ends with it");
    }

    /// The agent's number on the machine.
    pub fn agent_pid(&self) -> Option<i32> {
        kernel::children_of(self.power.borrow().as_ref()?.agent.as_ref()?.id()).first().copied()
    }

    /// Runs a program on the host to its end.
    pub fn exec(&self, words: &[&str]) -> Output {
        self.command(words).stdin(Stdio::null()).output().expect("nsenter")
    }

    /// Runs a program that has to succeed; what it wrote.
    pub fn run(&self, words: &[&str]) -> String {
        let output = self.exec(words);
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{}: {}: {out}{err}", self.name, words.join(" "));
        out.into_owned()
    }

    /// The operator's tool, asking this host's own agent.
    pub fn clusterctl(&self, words: &[&str]) -> Output {
        let front = [CLUSTERCTL, "--socket", "/run/clusterd/clusterd.sock"];
        self.exec(&[&front[..], words].concat())
    }

    /// Starts a program on the host that is no service; its number there. It lives until the power is cut.
    pub fn start_stranger(&self, words: &[&str]) -> i32 {
        let script = "\"$@\" >/dev/null 2>&1 & echo $!";
        let said = self.run(&[&["/bin/sh", "-c", script, "sh"], words].concat());
        said.trim().parse().expect("the shell says the number")
    }

    /// Everything that runs on it, zombies included, but for PID 1 and its sleeper.
    pub fn processes(&self) -> Vec<Process> {
        let Some(pid1) = self.power.borrow().as_ref().map(|p| p.pid1) else { return Vec::new() };
        let all = kernel::processes_in(&self.group).into_iter().filter_map(Process::read);
        // Those that wait outside for something inside have one number only.
        let inside = |p: &Process| p.own_pid != p.pid && p.pid != pid1;
        all.filter(|p| inside(p) && p.command != "sleep infinity").collect()
    }

    /// Its living processes of that name.
    pub fn running(&self, name: &str) -> Vec<Process> {
        self.processes().into_iter().filter(|p| p.name == name && !p.zombie).collect()
    }

    /// Drops every packet to and from another host.
    pub fn cut_from(&self, other: &Host) {
        let rules = format!(
            "table inet cut {{\n\
             chain in {{ type filter hook input priority 0; ip saddr {0} drop; }}\n\
             chain out {{ type filter hook output priority 0; ip daddr {0} drop; }}\n\
             }}",
            other.address
        );
        let mut nft = self.command(&["nft", "-f", "-"]).stdin(Stdio::piped()).spawn().expect("nft");
        nft.stdin.take().expect("it is piped").write_all(rules.as_bytes()).expect("nft reads");
        assert!(nft.wait().expect("nft").success(), "nft refused:\n{rules}");
    }

    /// Mends what [`Host::cut_from`] cut.
    pub fn heal(&self) {
        self.run(&["nft", "delete", "table", "inet", "cut"]);
    }

    /// The power goes: every process dies at one instant. The disk stays.
    pub fn power_cut(&self, network: &Network) {
        kernel::kill_group(&self.group);
        self.bury(network);
    }

    /// After every process was killed: what a machine without power has no more, goes.
    pub fn bury(&self, network: &Network) {
        let Some(mut power) = self.power.borrow_mut().take() else { return };
        power.maker.wait().expect("unshare ends with PID 1");
        if let Some(mut agent) = power.agent {
            agent.wait().expect("nsenter ends with the agent");
        }
        harness::wait(&format!("{} is dark", self.name), BURIAL, || {
            if kernel::remove_group(&self.group) { Ok(()) } else { Err("processes are left") }
        });
        network.unplug(&self.name);
    }

    /// The last lines of the agent's log.
    pub fn log_tail(&self, lines: usize) -> String {
        let text = fs::read(self.disk.agent_log(&self.name)).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let all: Vec<&str> = text.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    /// A program in the host's own namespaces and control group.
    fn command(&self, words: &[&str]) -> Command {
        let pid1 = self.power.borrow().as_ref().unwrap_or_else(|| panic!("{} is off", self.name)).pid1;
        let target = format!("--target={pid1}");
        let enter = ["nsenter", &target, "--pid", "--mount", "--net", "--uts", "--cgroup", "--"];
        self.inside_group(&[&enter[..], words].concat())
    }

    /// A program that joins the host's control group first.
    fn inside_group(&self, words: &[&str]) -> Command {
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", "echo $$ >\"$0\" && exec \"$@\""])
            .arg(self.group.join("cgroup.procs"))
            .args(words)
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            // Ctrl-C ends the tests; what they started is theirs to end.
            .process_group(0);
        command
    }
}

/// Whether the tools are there.
pub fn check_tools() {
    assert!(nix::unistd::geteuid().is_root(), "the lab needs root: namespaces, mounts, a network of its own");
    for (tool, words) in
        [("ip", ["-V"]), ("nft", ["--version"]), ("nsenter", ["--version"]), ("unshare", ["--version"])]
    {
        network::run(tool, &words);
    }
}
