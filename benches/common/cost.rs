//! What a process costs, as the kernel counts it.

use std::fs;

/// How often the threads of a process went to sleep of their own will; each time something woke them again.
pub fn wake_ups(pid: i32) -> f64 {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("it lives").flatten();
    tasks
        .map(|task| field(&task.path().join("status").display().to_string(), "voluntary_ctxt_switches"))
        .sum()
}

/// A field of its memory, in KiB.
pub fn memory(pid: i32, name: &str) -> f64 {
    field(&format!("/proc/{pid}/status"), name)
}

/// All pages that it has in memory, in KiB.
pub fn resident(pid: i32) -> f64 {
    memory(pid, "VmRSS")
}

/// The same, with pages that several processes share counted in parts, in KiB.
pub fn proportional(pid: i32) -> f64 {
    field(&format!("/proc/{pid}/smaps_rollup"), "Pss")
}

fn field(path: &str, name: &str) -> f64 {
    let text = fs::read_to_string(path).expect("it lives");
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let number = line.and_then(|rest| rest.split_whitespace().next()).and_then(|n| n.parse().ok());
    number.unwrap_or_else(|| panic!("{path} has no {name}"))
}
