//! A machine: user-mode Linux with a disk of its own, a cable to its network, and a power cord.
//!
//! Its memory, and with it all that the disk was not given yet, is gone with its processes: killing them is a power cut.

use super::deadline::{self, wait};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clusterd::api::wire::{ClusterStatus, EventRecord, NodeStatus};
use clusterd::engine::view::InstanceView;
use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use tempfile::TempDir;

/// A network of its own for the machines of one test: a namespace in which nothing else lives. Its switch is a bridge,
/// through which the namespace itself is one more host, [`Network::OWN`].
pub struct Network {
    name: String,
}

impl Network {
    /// Its own address.
    pub const OWN: &str = "192.168.9.254";

    pub fn new() -> Network {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("clusterd-machines-{}-{number}", std::process::id());
        ip(&["netns", "add", &name]);
        ip(&["-n", &name, "link", "set", "lo", "up"]);
        ip(&["-n", &name, "link", "add", "switch", "type", "bridge", "mcast_snooping", "0"]);
        ip(&["-n", &name, "addr", "add", &format!("{}/24", Network::OWN), "dev", "switch"]);
        ip(&["-n", &name, "link", "set", "switch", "up"]);
        Network { name }
    }

    /// A cable from the switch to a machine, which goes by the machine's name.
    fn cable(&self, machine: &str) {
        ip(&["-n", &self.name, "tuntap", "add", "dev", machine, "mode", "tap"]);
        ip(&["-n", &self.name, "link", "set", machine, "master", "switch", "up"]);
    }

    /// Does something as a host of it.
    pub fn visit<T: Send>(&self, what: impl FnOnce() -> T + Send) -> T {
        let inside = File::open(Path::new("/run/netns").join(&self.name)).expect("a namespace");
        std::thread::scope(|scope| {
            let visitor = scope.spawn(|| {
                // Of this thread alone.
                setns(inside, CloneFlags::CLONE_NEWNET).expect("a visit");
                what()
            });
            visitor.join().unwrap_or_else(|e| std::panic::resume_unwind(e))
        })
    }

    /// A program that runs in it.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, program]);
        command
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.name]).status();
    }
}

fn ip(words: &[&str]) {
    let done = Command::new("ip").args(words).output().expect("ip runs; run tests/install");
    assert!(done.status.success(), "ip {words:?}: {}", String::from_utf8_lossy(&done.stderr));
}

/// What a script on a machine printed, and how it ended.
#[derive(Debug)]
pub struct Said {
    pub status: i32,
    pub text: String,
}

/// A machine that is switched on.
struct On {
    uml: Child,
    channel: BufReader<UnixStream>,
    asked: u32,
}

/// A machine. Its disk outlives its power.
pub struct Machine {
    pub name: String,
    number: u8,
    network: String,
    disk: PathBuf,
    base: PathBuf,
    on: Option<On>,
    /// Its disk, and what is shared with it.
    folder: TempDir,
}

impl Machine {
    /// A machine that is off. Its disk begins as a copy of `disk`, which has what differs from `base`; without one it is as
    /// `base`. Its address is 192.168.9.`number`.
    pub fn new(network: &Network, name: &str, number: u8, base: &Path, disk: Option<&Path>) -> Machine {
        network.cable(name);
        let folder = tempfile::Builder::new().prefix("clusterd-machine-").tempdir().expect("a folder");
        fs::create_dir(folder.path().join("host")).expect("a folder");
        let own = folder.path().join("disk.cow");
        if let Some(disk) = disk {
            copy(disk, &own);
        }
        Machine {
            name: name.to_owned(),
            number,
            network: network.name.clone(),
            disk: own,
            base: base.to_owned(),
            on: None,
            folder,
        }
    }

    /// What the machine has as `/host`.
    pub fn host(&self) -> PathBuf {
        self.folder.path().join("host")
    }

    /// Copies its disk, which is off.
    pub fn copy_disk(&self, to: &Path) {
        assert!(self.on.is_none(), "{} is on", self.name);
        copy(&self.disk, to);
    }

    /// Switches it on; it boots meanwhile.
    pub fn switch_on(&mut self) {
        assert!(self.on.is_none(), "{} is on", self.name);
        let (ours, theirs) = UnixStream::pair().expect("a channel");
        let log = File::options().create(true).append(true).open(self.folder.path().join("console"));
        let log = log.expect("the console's file");
        let at = |what: &str| format!("{what}={}", self.folder.path().display());
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", &self.network, "linux.uml"])
            .args([&format!("umid={}", self.name), &at("uml_dir"), "mem=256M"])
            .arg(format!("ubda={},{}", self.disk.display(), self.base.display()))
            .arg(format!("hostfs={}", self.host().display()))
            .args(["root=/dev/ubda", "rw", "con=null", "con0=null,fd:1", "ssl=null", "ssl1=fd:0"])
            .args(["console=tty0", "quiet", "net.ifnames=0", "panic=-1"])
            .arg(format!("systemd.hostname={}", self.name))
            .arg(format!("systemd.machine_id={:032x}", self.number))
            .arg(format!("eth0=tuntap,{},{}", self.name, self.mac()))
            .arg(format!("tests.address={}/24", self.address()))
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stderr(log.try_clone().expect("the console's file"))
            .stdout(log)
            .process_group(0);
        let uml = command.spawn().expect("user-mode Linux starts; run tests/install");
        ours.set_read_timeout(Some(deadline::BOOT)).expect("a deadline");
        self.on = Some(On { uml, channel: BufReader::new(ours), asked: 0 });
    }

    /// Switches it on, and waits until it listens; its services may still be starting.
    pub fn boot(&mut self) {
        self.switch_on();
        self.await_boot();
    }

    /// Waits for a machine that was switched on, or that boots anew.
    pub fn await_boot(&mut self) {
        let line = self.line();
        assert!(line.starts_with("0 0 "), "{}: {line}", self.name);
        self.on().asked = 0;
    }

    pub fn address(&self) -> String {
        format!("192.168.9.{}", self.number)
    }

    /// Its card's.
    pub fn mac(&self) -> String {
        format!("52:54:00:09:03:{:02x}", self.number)
    }

    /// Runs a script in bash on the machine.
    pub fn run(&mut self, script: &str) -> Said {
        let on = self.on();
        on.asked += 1;
        let id = on.asked;
        let line = format!("{id} {}\n", STANDARD.encode(script));
        on.channel.get_mut().write_all(line.as_bytes()).expect("the machine listens");
        let answer = self.line();
        let mut words = answer.split_whitespace();
        let number = |word: Option<&str>| word.and_then(|w| w.parse::<i32>().ok());
        assert_eq!(number(words.next()), Some(id as i32), "{}: {script}: {answer}", self.name);
        let status = number(words.next()).expect("a status");
        let text = STANDARD.decode(words.next().unwrap_or_default()).expect("base64");
        Said { status, text: String::from_utf8_lossy(&text).trim_end().to_owned() }
    }

    /// As [`Machine::run`], for what has to succeed: what it printed.
    pub fn ok(&mut self, script: &str) -> String {
        let said = self.run(script);
        if said.status != 0 {
            self.fail(&format!("{script}\n{}", said.text));
        }
        said.text
    }

    /// Waits until the script succeeds.
    pub fn wait(&mut self, what: &str, script: &str) -> String {
        let deadline = deadline::from_now();
        loop {
            let said = self.run(script);
            if said.status == 0 {
                return said.text;
            }
            if deadline.has_come() {
                self.fail(&format!("{what}: {script}\n{}", said.text));
            }
            std::thread::sleep(deadline::LOOK_EVERY);
        }
    }

    /// Waits until the agent shows all that it knows as up.
    pub fn wait_up(&mut self) {
        self.wait("all comes up", "clusterctl status");
    }

    /// What its agent says of itself and its instances.
    fn status(&mut self) -> NodeStatus {
        let said = self.run("clusterctl status --json").text;
        let status: ClusterStatus = serde_json::from_str(&said).unwrap_or_else(|e| panic!("{e}: {said}"));
        let mut nodes = status.nodes.into_iter().filter_map(|node| node.status);
        nodes.find(|node| node.node == self.name).unwrap_or_else(|| panic!("no {} in {said}", self.name))
    }

    /// What is wrong with its agent.
    pub fn problems(&mut self) -> Vec<String> {
        self.status().problems
    }

    /// What its agent says of its own instance.
    pub fn view(&mut self, instance: &str) -> InstanceView {
        let found = self.status().instances.into_iter().find(|view| view.instance == instance);
        found.unwrap_or_else(|| panic!("no {instance} on {}", self.name))
    }

    /// What its agent says has happened, oldest first.
    pub fn events(&mut self) -> Vec<EventRecord> {
        // Other nodes tell theirs, too, or say nothing at all.
        let said = self.run("clusterctl events --last 100000 --json").text;
        let lines = said.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        let own = lines.filter(|line| line["node"] == *self.name);
        own.filter_map(|mut line| serde_json::from_value(line["event"].take()).ok()).collect()
    }

    /// The number of the instance's main process.
    pub fn pid(&mut self, instance: &str) -> i32 {
        let view = self.view(instance);
        view.pid.unwrap_or_else(|| panic!("it does not run: {view:?}"))
    }

    /// Fails the test, and tells what happened on the machine.
    pub fn fail(&mut self, what: &str) -> ! {
        let script = "clusterctl status; clusterctl events | tail -n 60; journalctl -b -u clusterd --no-pager | tail -n 30";
        let story = self.run(script).text;
        panic!("{}: {what}\n{story}", self.name);
    }

    /// The power is gone, at once.
    pub fn cut(&mut self) {
        let Some(mut on) = self.on.take() else { return };
        // Not waited for yet, so the number, and with it the group's, is still the child's.
        let group = Pid::from_raw(on.uml.id() as i32);
        let _ = killpg(group, Signal::SIGKILL);
        let _ = on.channel.get_mut().shutdown(Shutdown::Both);
        let _ = on.uml.wait();
        wait("the machine's processes to be gone", || {
            (killpg(group, None) == Err(Errno::ESRCH)).then_some(())
        });
    }

    /// The power is gone and comes back; waits until all is up again.
    pub fn outage(&mut self) {
        self.cut();
        self.boot();
        self.wait_up();
    }

    /// Orders an end, and waits for it.
    pub fn power_off(&mut self) {
        let _ = self.run("systemctl poweroff");
        let mut on = self.on.take().expect("the machine is on");
        wait("the machine to be off", || on.uml.try_wait().expect("a child"));
    }

    /// Orders a reboot, and waits until it listens again.
    pub fn reboot(&mut self) {
        let _ = self.run("systemctl reboot");
        self.await_boot();
    }

    fn on(&mut self) -> &mut On {
        let name = &self.name;
        self.on.as_mut().unwrap_or_else(|| panic!("{name} is off"))
    }

    fn line(&mut self) -> String {
        let console = self.folder.path().join("console");
        let name = self.name.clone();
        let mut line = String::new();
        match self.on().channel.read_line(&mut line) {
            Ok(n) if n > 0 => line,
            end => {
                let console = fs::read(console).unwrap_or_default();
                let console = String::from_utf8_lossy(&console);
                let last: Vec<&str> = console.lines().rev().take(30).collect();
                panic!(
                    "{name} does not answer ({end:?}); its console, last line first:\n{}",
                    last.join("\n")
                );
            }
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.cut();
    }
}

/// Copies a disk with its holes.
pub fn copy(from: &Path, to: &Path) {
    let done = Command::new("cp").arg("--sparse=always").args([from, to]).status().expect("cp runs");
    assert!(done.success(), "cannot copy {}", from.display());
}
