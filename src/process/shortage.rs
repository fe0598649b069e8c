//! Which limit it was that stopped a start: the kernel says only "try again".

use super::{Leaf, Stage, proc};
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Where the pids controller of cgroup v1 is mounted on hybrid machines.
const PIDS_V1: &str = "/sys/fs/cgroup/pids";

/// Whether the machine lacks something at this moment: descriptors, processes, memory, or room on a disk.
pub(super) fn is_shortage(cause: &io::Error) -> bool {
    matches!(
        cause.raw_os_error(),
        Some(
            libc::EMFILE
                | libc::ENFILE
                | libc::EAGAIN
                | libc::ENOMEM
                | libc::ENOSPC
                | libc::EDQUOT
                | libc::EROFS
        )
    )
}

/// The cause, with the limit behind it where it is a shortage.
pub(super) fn explain(stage: Stage, cause: io::Error, leaf: Option<&Leaf>) -> io::Error {
    let limit = match cause.raw_os_error() {
        Some(libc::EMFILE) => Some(descriptors()),
        Some(libc::ENFILE) => {
            Some(format!("the machine has no file descriptor left (fs.file-max{})", sysctl("fs/file-max")))
        }
        Some(libc::EAGAIN) if stage == Stage::Fork => Some(processes(leaf)),
        Some(libc::EAGAIN) if stage == Stage::Exec => {
            Some("its user has as many processes as the limit nproc allows".to_owned())
        }
        _ => None,
    };
    match limit {
        Some(limit) => io::Error::new(cause.kind(), format!("{limit}: {cause}")),
        None => cause,
    }
}

fn descriptors() -> String {
    let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(soft, _)| soft);
    format!("the agent has no file descriptor left (its limit nofile is {limit})")
}

/// Who refused a new process, where that can be seen: clone(2), EAGAIN.
fn processes(leaf: Option<&Leaf>) -> String {
    let own = proc::cgroups(std::process::id() as i32).unwrap_or_default();
    let v1 = own.iter().find_map(|(controllers, path)| {
        let inside = path.strip_prefix('/').unwrap_or(path);
        controllers.split(',').any(|c| c == "pids").then(|| Path::new(PIDS_V1).join(inside))
    });
    let folders = [v1.as_deref(), leaf.map(Leaf::path)];
    if let Some((folder, max)) = folders.into_iter().flatten().find_map(full) {
        return format!("the cgroup {} is full (pids.max is {max})", folder.display());
    }
    match getrlimit(Resource::RLIMIT_NPROC) {
        Ok((soft, _)) if soft != RLIM_INFINITY && !nix::unistd::geteuid().is_root() => {
            format!("the agent's user has too many processes (its limit nproc is {soft})")
        }
        _ => format!(
            "the machine has no room for another process (kernel.pid_max{}, kernel.threads-max{})",
            sysctl("kernel/pid_max"),
            sysctl("kernel/threads-max")
        ),
    }
}

/// The first folder, from this one upwards, that has as many processes as it may.
fn full(folder: &Path) -> Option<(PathBuf, u64)> {
    folder.ancestors().find_map(|at| {
        let number = |name| fs::read_to_string(at.join(name)).ok()?.trim().parse::<u64>().ok(); // not "max"
        let max = number("pids.max")?;
        (number("pids.current")? >= max).then(|| (at.to_owned(), max))
    })
}

/// ` is 4194304`, or nothing where it cannot be read.
fn sysctl(name: &str) -> String {
    let value = fs::read_to_string(Path::new("/proc/sys").join(name)).unwrap_or_default();
    let value = value.trim();
    if value.is_empty() { String::new() } else { format!(" is {value}") }
}
