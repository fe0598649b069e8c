//! A machine of its own for one trial: namespaces, a disk of layers over this machine's own, and a power switch.

use crate::kernel::{self, Process};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// How long anything may take that happens by itself.
const PATIENCE: Duration = Duration::from_secs(60);
/// Where the programs under test are on the machine.
const PROGRAMS: &str = "/opt/clusterd";

/// What PID 1 runs: it lays its disk over this machine's, mounts what a boot mounts, says so, and buries orphans.
const INIT: &str = r#"
set -e
disk=$1 programs=$2 cgroups=$3 run=$4
root=$disk/root
mount --make-rprivate /
mount -t overlay overlay -o "lowerdir=/,upperdir=$disk/upper,workdir=$disk/work" "$root"
mount --rbind /dev "$root/dev"
mount -t sysfs sysfs "$root/sys"
mount --rbind /sys/fs/cgroup "$root/sys/fs/cgroup"
mount -t proc proc "$root/proc"
mkdir -p "$root/opt/clusterd"
mount --bind "$programs" "$root/opt/clusterd"
umount "$root$cgroups"
mount -t cgroup2 cgroup2 "$root$cgroups"
mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
mount --bind "$disk/tmp" "$root/tmp"
test "$run" = kept || mount -t tmpfs -o mode=755 tmpfs "$root/run"
hostname machine
ip link set lo up
ip link add eth0 type veth peer name eth1
ip addr add 10.0.0.1/24 dev eth0
ip link set eth0 up
ip link set eth1 up
exec chroot "$root" /bin/sh -c 'sleep infinity & echo up; exec >/dev/null; wait'
"#;

/// Waits for a fact and gives back what it brought; fails with what was last seen.
#[track_caller]
pub fn wait<T>(what: &str, mut look: impl FnMut() -> Result<T, String>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        match look() {
            Ok(found) => return found,
            Err(seen) if Instant::now() > end => panic!("waited in vain until {what}; last seen: {seen}"),
            Err(_) => std::thread::sleep(Duration::from_millis(10)), // between two looks
        }
    }
}

/// What was written to a disk, over this machine's own files. Each boot begins with a copy of it.
#[derive(Default)]
pub struct Disk(Option<tempfile::TempDir>);

/// Whether a boot finds `/run` as it was left, as on machines where it is on the disk, or empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Run {
    Kept,
    Emptied,
}

/// A machine that is switched on. It is dark when this is dropped.
pub struct Machine {
    /// Taken out when the power is cut.
    own: Option<tempfile::TempDir>,
    group: PathBuf,
    maker: Child,
    pid1: i32,
}

/// How a program ended, and what it wrote.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub said: String,
}

impl Machine {
    pub fn boot(disk: &Disk, run: Run) -> Machine {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let cgroups = kernel::cgroup_mount();
        let group = cgroups.join(format!("clusterd-daemons-{}-{number}", std::process::id()));
        fs::create_dir(&group).expect("a control group: these tests need root");
        let own = tempfile::tempdir().expect("a disk");
        fs::set_permissions(own.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .expect("its mode");
        for folder in ["work", "root"] {
            fs::create_dir(own.path().join(folder)).expect("a disk's folder");
        }
        for folder in ["upper", "tmp"] {
            let new = own.path().join(folder);
            match &disk.0 {
                Some(written) => {
                    let copied =
                        Command::new("cp").arg("-aT").arg(written.path().join(folder)).arg(&new).status();
                    assert!(copied.is_ok_and(|s| s.success()), "the disk cannot be copied");
                }
                None => fs::create_dir(&new).expect("a disk's folder"),
            }
        }
        let sticky = std::os::unix::fs::PermissionsExt::from_mode(0o1777);
        fs::set_permissions(own.path().join("tmp"), sticky).expect("its mode");
        let programs = Path::new(env!("CARGO_BIN_EXE_clusterd")).parent().expect("a folder");
        let kept = if run == Run::Kept { "kept" } else { "emptied" };
        let mut maker = inside(&group)
            .args(["unshare", "--pid", "--mount", "--net", "--uts", "--ipc", "--cgroup", "--fork"])
            .args(["--kill-child=SIGKILL", "/bin/sh", "-c", INIT, "init"])
            .args([own.path(), programs, &cgroups])
            .arg(kept)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare");
        let mut said = String::new();
        let out = maker.stdout.take().expect("it is piped");
        BufReader::new(out).read_line(&mut said).expect("PID 1 says that it is up");
        assert_eq!(said, "up\n", "PID 1 did not come up");
        let pid1 = *kernel::children_of(maker.id()).first().expect("PID 1 is the maker's child");
        Machine { own: Some(own), group, maker, pid1 }
    }

    /// The power goes: every process dies at one instant. What is on the disk stays.
    pub fn power_cut(mut self) -> Disk {
        Disk(self.own.take())
    }

    /// Runs a script as root to its end.
    pub fn run(&self, script: &str) -> Ended {
        // Into a file: a daemon that keeps its starter's output open would keep a pipe open, too.
        let log = tempfile::NamedTempFile::new().expect("a log");
        let out = log.reopen().expect("the log");
        let status = self
            .enter(&["/bin/sh", "-c", script])
            .stdin(Stdio::null())
            .stdout(out.try_clone().expect("the log"))
            .stderr(out)
            .status()
            .expect("nsenter");
        let said = String::from_utf8_lossy(&fs::read(log.path()).expect("the log")).into_owned();
        Ended { code: status.code(), said }
    }

    /// Runs a script that has to succeed; what it wrote.
    #[track_caller]
    pub fn must(&self, script: &str) -> String {
        let ended = self.run(script);
        assert_eq!(ended.code, Some(0), "{script}: {ended:?}");
        ended.said
    }

    /// Writes a file; its folders are made.
    pub fn write(&self, path: &str, text: &str) {
        let path = self.root().join(path.trim_start_matches('/'));
        fs::create_dir_all(path.parent().expect("a folder")).expect("its folder");
        fs::write(path, text).expect("a file on the machine");
    }

    /// The text of a file, if it is there.
    pub fn read(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.root().join(path.trim_start_matches('/'))).ok()
    }

    /// Starts a program in the background that shall have this number.
    pub fn start_numbered(&self, number: i32, command: &str) -> Process {
        let script = format!(
            "echo {} >/proc/sys/kernel/ns_last_pid; setsid {command} >/dev/null 2>&1 </dev/null & echo $!",
            number - 1
        );
        let got = self.must(&script);
        assert_eq!(got.trim(), number.to_string(), "the number was to be had");
        wait("the numbered program runs", || {
            let found = self.processes().into_iter().find(|p| p.own_pid == number);
            found.filter(|p| !["sh", "setsid"].contains(&&*p.name)).ok_or_else(|| "not yet".to_owned())
        })
    }

    /// The next process gets a number above this.
    pub fn numbers_from(&self, number: i32) {
        self.must(&format!("echo {number} >/proc/sys/kernel/ns_last_pid"));
    }

    /// Everything that lives on it but for PID 1 and its sleeper.
    pub fn processes(&self) -> Vec<Process> {
        let mut all = self.living_and_dying();
        all.retain(|p| !p.zombie);
        all
    }

    fn living_and_dying(&self) -> Vec<Process> {
        let all = kernel::processes_in(&self.group).into_iter().filter_map(Process::read);
        let counts = |p: &Process| p.own_pid != p.pid && p.pid != self.pid1 && p.command != "sleep infinity";
        all.filter(counts).collect()
    }

    /// Those that live and go by this name.
    pub fn named(&self, name: &str) -> Vec<Process> {
        self.processes().into_iter().filter(|p| p.name == name).collect()
    }

    /// Kills everything with -9.
    pub fn kill_all(&self) {
        self.kill_those(|_| true);
    }

    /// Kills all processes of that name with -9.
    pub fn kill(&self, name: &str) {
        assert!(!self.named(name).is_empty(), "no {name} runs");
        self.kill_those(|p| p.name == name);
    }

    /// Until none is left: they may fork meanwhile, and one whose first thread is dead may still have others.
    fn kill_those(&self, which: impl Fn(&Process) -> bool) {
        wait("they are dead", || {
            let mut left = self.living_and_dying();
            left.retain(&which);
            // Stopped first: none shall see another die and clear up after it.
            for signal in [nix::sys::signal::SIGSTOP, nix::sys::signal::SIGKILL] {
                for process in &left {
                    let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(process.pid), signal);
                }
            }
            if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
        });
    }

    /// Starts an agent for the only node, by this command before it.
    pub fn start_agent(&self, wrapper: &str) {
        self.start_agent_of("n1", "", wrapper);
    }

    /// Starts the agent of one node of several that this machine plays, with `suffix` behind the names of its folders.
    pub fn start_agent_of(&self, node: &str, suffix: &str, wrapper: &str) {
        self.must(&format!(
            "{wrapper} setsid {PROGRAMS}/clusterd --node {node} --config /etc/clusterd/cluster.toml \
             --state /var/lib/clusterd{suffix} --run /run/clusterd{suffix} >>/var/log/clusterd{suffix}.log 2>&1 </dev/null &"
        ));
    }

    /// The operator's tool, at the first agent.
    pub fn clusterctl(&self, words: &str) -> Ended {
        self.run(&format!("{PROGRAMS}/clusterctl {words} --socket /run/clusterd/clusterd.sock"))
    }

    /// Everything that the agents tell of what has happened, oldest first. They tell an event together with what came of
    /// it, and write it down a moment later.
    pub fn events(&self) -> Vec<serde_json::Value> {
        let told = self.clusterctl("events --json --last 100000").said;
        let events = told.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        events.map(|mut told| told["event"].take()).collect()
    }

    fn root(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root", self.pid1))
    }

    fn enter(&self, words: &[&str]) -> Command {
        let mut command = inside(&self.group);
        let target = format!("--target={}", self.pid1);
        command
            .args([
                "nsenter", &target, "--pid", "--mount", "--net", "--uts", "--ipc", "--cgroup", "--root",
                "--wd",
            ])
            .arg("--")
            .args(words);
        command
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        kernel::kill_group(&self.group);
        let _ = self.maker.wait();
        wait("the machine is dark", || {
            if kernel::remove_group(&self.group) { Ok(()) } else { Err("processes are left".to_owned()) }
        });
    }
}

/// A program that joins the control group first.
fn inside(group: &Path) -> Command {
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", "echo $$ >\"$0\" && exec \"$@\""])
        .arg(group.join("cgroup.procs"))
        .env_clear()
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    command
}
