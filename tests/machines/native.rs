//! A machine that is none: the same Debian with systemd as PID 1, on this kernel, in namespaces and a cgroup of its own. Neither
//! a disk nor a power cord, and no kernel of its own to boot; but a system call costs there what it costs anywhere, where in
//! user-mode Linux it costs many times as much. So this is what figures are taken from.

use super::deadline::wait;
use super::disks::{Disks, run};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use tempfile::TempDir;

/// Goes from this machine into one of its own, whose root is `$1`, and becomes its PID 1. What is the whole kernel's is
/// there to be read only.
const INSIDE: &str = r#"
set -eu
tree=$1
mount --make-rprivate /
mount --bind "$tree" "$tree"
mount -t proc proc "$tree/proc"
mount --bind "$tree/proc/sys" "$tree/proc/sys"
mount -o remount,bind,ro "$tree/proc/sys"
mount -t sysfs -o ro sysfs "$tree/sys"
mount -t cgroup2 cgroup2 "$tree/sys/fs/cgroup"
mount -t tmpfs -o mode=755 tmpfs "$tree/run"
mount -t tmpfs -o mode=755 tmpfs "$tree/dev"
for device in null zero full random urandom tty; do
    : >"$tree/dev/$device"
    mount --bind "/dev/$device" "$tree/dev/$device"
done
mkdir "$tree/dev/pts" "$tree/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts "$tree/dev/pts"
ln -s pts/ptmx "$tree/dev/ptmx"
ip link set lo up
ip link add eth0 type veth peer name cable
ip addr add 192.168.9.1/24 dev eth0
ip link set cable up
ip link set eth0 up
hostname one
cd "$tree"
pivot_root . mnt
cd /
umount -l /mnt
exec env -i container=test PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd
"#;

/// Writes down what the whole machine has used of processors by the time at which the agent is ready.
const AT_READY: &str = "[Unit]\nAfter=clusterd.service\n[Service]\nType=oneshot\n\
     ExecStart=/bin/sh -c 'cat /sys/fs/cgroup/cpu.stat >/run/cost.new; mv /run/cost.new /run/cost'\n\
     [Install]\nWantedBy=multi-user.target\n";

/// Its files, with the package installed.
pub struct Tree(TempDir);

impl Tree {
    pub fn new(disks: &Disks) -> Tree {
        let folder = tempfile::Builder::new().prefix("clusterd-native-").tempdir().expect("a folder");
        let tree = Tree(folder);
        run(Command::new("debugfs")
            .args(["-R", &format!("rdump / {}", tree.0.path().display())])
            .arg(&disks.base));
        fs::copy(&disks.package, tree.at("clusterd.deb")).expect("a copy");
        fs::write(tree.at("etc/systemd/system/at-ready.service"), AT_READY).expect("a unit");
        // How the machines that are machines are talked to, and their network.
        tree.chroot("systemctl --quiet disable tests-control tests-network; systemctl --quiet enable at-ready; dpkg -i /clusterd.deb");
        tree
    }

    fn at(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    pub fn write(&self, path: &str, text: &str) {
        fs::write(self.at(path), text).expect("a file");
    }

    /// Runs a script in it while it is off.
    pub fn chroot(&self, script: &str) {
        run(Command::new("chroot").arg(self.0.path()).args(["sh", "-euc", script]));
    }

    /// Boots it, and waits until the agent is ready and the boot has ended.
    pub fn boot(&self) -> Native {
        let cgroup = Cgroup::new();
        // It enters its cgroup before it makes namespaces, so that this cgroup is the root that it sees.
        let mut command = Command::new("sh");
        command.args(["-c", "echo $$ >\"$0\"/cgroup.procs && exec \"$@\""]).arg(&cgroup.0);
        command.args([
            "unshare",
            "--mount",
            "--uts",
            "--ipc",
            "--net",
            "--pid",
            "--cgroup",
            "--fork",
            "--kill-child",
        ]);
        command.args(["sh", "-c", INSIDE, "sh"]).arg(self.0.path());
        let outside = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().expect("unshare runs");
        let children = format!("/proc/{0}/task/{0}/children", outside.id());
        let init = wait("its first process", || {
            let children = fs::read_to_string(&children).ok()?;
            children.split_whitespace().next().map(str::to_owned)
        });
        let native = Native { outside, init, cgroup };
        wait("the agent to be ready", || fs::read_to_string(native.at("run/cost")).ok());
        wait("the boot to end", || {
            (native.run("systemctl is-system-running --wait") == "running").then_some(())
        });
        native
    }
}

/// One that runs.
pub struct Native {
    outside: Child,
    /// The number of its PID 1 among ours.
    init: String,
    cgroup: Cgroup,
}

impl Native {
    /// A file of it, as it sees it.
    pub fn at(&self, path: &str) -> PathBuf {
        Path::new("/proc").join(&self.init).join("root").join(path)
    }

    /// What a script in it prints.
    pub fn run(&self, script: &str) -> String {
        let inside = ["--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--root", "--wd"];
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.init]).args(inside).args(["sh", "-c", script]);
        let said = command.output().expect("nsenter runs");
        String::from_utf8_lossy(&said.stdout).trim_end().to_owned()
    }

    /// A moment that systemd has written down, in milliseconds: one of a unit's, or one of its own.
    pub fn moment(&self, unit: &str, name: &str) -> f64 {
        let said = self.run(&format!("systemctl show --value --property={name}TimestampMonotonic {unit}"));
        said.parse::<f64>().unwrap_or_else(|e| panic!("{unit} {name}: {said}: {e}")) / 1000.0
    }

    /// The processors' time that all of it had used by the time at which the agent was ready, in milliseconds.
    pub fn used_until_ready(&self) -> f64 {
        let stat = fs::read_to_string(self.at("run/cost")).expect("the agent is ready");
        let used = stat.lines().find_map(|line| line.strip_prefix("usage_usec ")).expect("a figure");
        used.parse::<f64>().expect("a number") / 1000.0
    }
}

impl Drop for Native {
    fn drop(&mut self) {
        // Its first process takes all others with it.
        let _ = self.outside.kill();
        let _ = self.outside.wait();
        wait("it to be gone", || self.cgroup.is_empty().then_some(()));
    }
}

/// A cgroup of this machine's unified hierarchy.
struct Cgroup(PathBuf);

impl Cgroup {
    fn new() -> Cgroup {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let mounts = fs::read_to_string("/proc/self/mounts").expect("mounts");
        let unified = mounts.lines().find_map(|line| {
            let mut words = line.split(' ').skip(1);
            let (path, kind) = (words.next()?, words.next()?);
            (kind == "cgroup2").then_some(path)
        });
        let name =
            format!("clusterd-native-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let path = Path::new(unified.expect("a unified hierarchy")).join(name);
        fs::create_dir(&path).expect("a cgroup");
        Cgroup(path)
    }

    fn is_empty(&self) -> bool {
        let events = fs::read_to_string(self.0.join("cgroup.events")).unwrap_or_default();
        events.contains("populated 0")
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // What is below it goes first.
        let _ = Command::new("find")
            .arg(&self.0)
            .args(["-depth", "-type", "d", "-exec", "rmdir", "{}", ";"])
            .status();
    }
}
