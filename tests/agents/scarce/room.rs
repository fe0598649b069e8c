//! Room that a test makes and takes away: disks, and groups of processes with a limit. Needs root.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A file system of a test's own. Let go of after the agents that use it.
pub struct Disk {
    dir: tempfile::TempDir,
}

fn done(command: &mut Command) {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said} (this test needs root)");
}

impl Disk {
    fn mounted(mount: impl FnOnce(&Path, &Path) -> Command) -> Disk {
        let disk = Disk { dir: tempfile::tempdir().unwrap() };
        fs::create_dir(disk.path()).unwrap();
        done(&mut mount(&disk.dir.path().join("image"), &disk.path()));
        disk
    }

    /// In memory, of this size.
    pub fn memory(size: &str) -> Disk {
        Disk::mounted(|_, at| {
            let mut mount = Command::new("mount");
            mount.args(["-t", "tmpfs", "-o", &format!("size={size},mode=700"), "tmpfs"]).arg(at);
            mount
        })
    }

    /// ext4 that becomes read-only at the first error, as Debian's root file system does.
    pub fn ext4() -> Disk {
        Disk::mounted(|image, at| {
            File::create(image).unwrap().set_len(8 << 20).unwrap();
            done(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(image));
            let mut mount = Command::new("mount");
            mount.args(["-o", "loop,errors=remount-ro"]).arg(image).arg(at);
            mount
        })
    }

    pub fn path(&self) -> PathBuf {
        self.dir.path().join("mnt")
    }

    /// Leaves no room at all.
    pub fn fill(&self) {
        let mut file = File::create(self.path().join("fill")).unwrap();
        for size in [4096, 1] {
            while file.write_all(&vec![b'x'; size]).is_ok() {}
        }
    }

    pub fn make_room(&self) {
        fs::remove_file(self.path().join("fill")).unwrap();
    }

    /// An error of the disk: the kernel makes it read-only, whatever is open there.
    pub fn fail(&self) {
        let output = Command::new("findmnt").args(["-no", "SOURCE"]).arg(self.path()).output().unwrap();
        let device = String::from_utf8(output.stdout).unwrap();
        let name = device.trim().trim_start_matches("/dev/");
        fs::write(format!("/sys/fs/ext4/{name}/trigger_fs_error"), "1").unwrap();
    }

    /// Whoever writes to it waits, until what this gives is dropped.
    pub fn freeze(&self) -> Frozen {
        done(Command::new("fsfreeze").arg("-f").arg(self.path()));
        Frozen { path: self.path() }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).output();
    }
}

pub struct Frozen {
    path: PathBuf,
}

impl Drop for Frozen {
    fn drop(&mut self) {
        let _ = Command::new("fsfreeze").arg("-u").arg(&self.path).output();
    }
}

/// A cgroup that counts its processes: of v1 beside v2, or of v2.
pub struct PidsGroup {
    path: PathBuf,
}

impl PidsGroup {
    pub fn new(name: &str) -> PidsGroup {
        let v1 = Path::new("/sys/fs/cgroup/pids");
        let root = if v1.is_dir() { v1 } else { Path::new("/sys/fs/cgroup") };
        let path = root.join(format!("clusterd-test-{name}-{}", std::process::id()));
        fs::create_dir(&path).unwrap();
        PidsGroup { path }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn take(&self, pid: i32) {
        fs::write(self.path.join("cgroup.procs"), pid.to_string()).unwrap();
    }

    pub fn limit(&self, most: &str) {
        fs::write(self.path.join("pids.max"), most).unwrap();
    }

    pub fn count(&self) -> usize {
        fs::read_to_string(self.path.join("pids.current")).unwrap().trim().parse().unwrap()
    }
}

impl Drop for PidsGroup {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.path);
    }
}

/// Sets how many file descriptors a process may have, and gives back how many it might.
pub fn descriptors(pid: i32, most: u64) -> u64 {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let line = limits.lines().find(|l| l.starts_with("Max open files")).unwrap();
    let before = line.split_whitespace().nth(3).unwrap().parse().unwrap();
    done(Command::new("prlimit").args([format!("--pid={pid}"), format!("--nofile={most}:")]));
    before
}
