//! The few kernel files that the lab reads and writes: control groups and `/proc`.

use std::fs;
use std::path::{Path, PathBuf};

/// Where control groups version 2 are mounted.
pub fn cgroup_mount() -> PathBuf {
    let mounts = fs::read_to_string("/proc/mounts").expect("/proc/mounts");
    let mut words = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let found =
        words.find(|w| w.get(2) == Some(&"cgroup2")).expect("the lab needs cgroup2, and it is not mounted");
    PathBuf::from(found[1])
}

/// Every process in a control group and those below it, by the numbers of the machine's own namespace.
pub fn processes_in(group: &Path) -> Vec<i32> {
    let mut pids: Vec<i32> = fs::read_to_string(group.join("cgroup.procs"))
        .map(|text| text.lines().filter_map(|line| line.parse().ok()).collect())
        .unwrap_or_default();
    for below in groups_below(group) {
        pids.extend(processes_in(&below));
    }
    pids
}

/// Kills every process in a control group and those below it, at one instant.
pub fn kill_group(group: &Path) {
    if group.exists() {
        fs::write(group.join("cgroup.kill"), "1").expect("cgroup.kill (Linux 5.14)");
    }
}

/// Removes an empty control group with those below it; whether it is gone.
pub fn remove_group(group: &Path) -> bool {
    groups_below(group).iter().all(|below| remove_group(below))
        && (!group.exists() || fs::remove_dir(group).is_ok())
}

fn groups_below(group: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(group) else { return Vec::new() };
    entries.flatten().map(|e| e.path()).filter(|path| path.is_dir()).collect()
}

/// One process, as the machine sees it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Process {
    /// Its number on the machine.
    pub pid: i32,
    /// Its number on its own host.
    pub own_pid: i32,
    /// Its session, by the number on the machine of who began it.
    pub session: i32,
    /// The kernel's name for it, 15 letters.
    pub name: String,
    pub command: String,
    /// Its start, in nanoseconds since the machine's boot, as exact as the kernel tells: to 10 ms.
    pub started: u64,
    pub zombie: bool,
}

/// What the kernel counts starts of processes in: nanoseconds of one tick, at 100 ticks a second.
pub const TICK: u64 = 10_000_000;

impl Process {
    /// `None` when it is gone.
    pub fn read(pid: i32) -> Option<Process> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name stands in parentheses and may hold anything.
        let (name, rest) =
            (stat.get(stat.find('(')? + 1..stat.rfind(')')?)?, stat.get(stat.rfind(')')? + 2..)?);
        let fields: Vec<&str> = rest.split(' ').collect();
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
        let command = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        Some(Process {
            pid,
            own_pid: numbers.split_whitespace().last()?.parse().ok()?,
            session: fields.get(3)?.parse().ok()?,
            name: name.to_owned(),
            command: String::from_utf8_lossy(&command).trim_end_matches('\0').replace('\0', " "),
            // Field 22 of the line; the list begins with field 3.
            started: fields.get(19)?.parse::<u64>().ok()? * TICK,
            zombie: fields[0] == "Z",
        })
    }
}

/// The children of a process, oldest first.
pub fn children_of(pid: u32) -> Vec<i32> {
    let told = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    told.split_whitespace().filter_map(|word| word.parse().ok()).collect()
}
