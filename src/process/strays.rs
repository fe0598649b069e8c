//! Orphans: what a daemonising service leaves to its next living ancestor.

use super::proc::{self, Stat};
use nix::sys::prctl;
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;
use std::fs;
use std::io;

/// Makes orphaned descendants come to this process instead of PID 1, so that the exit code of a daemon that
/// forked itself away can still be heard.
pub fn become_subreaper() -> io::Result<()> {
    Ok(prctl::set_child_subreaper(true)?)
}

/// Reaps dead orphans that nobody waits for, so that they do not stay as zombies. Returns how many.
///
/// `held` names the pids whose exit somebody will ask for ([`super::Handle::reap`]); they are left alone. So is any
/// child in the caller's own session: a program started by other means (an exec probe, say), whose starter waits
/// for it. Services have sessions of their own.
pub fn reap_orphans(held: &dyn Fn(i32) -> bool) -> usize {
    let mut reaped = 0;
    for (pid, _) in orphans(held).into_iter().filter(|(_, stat)| stat.is_dead()) {
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG;
        if waitid(Id::Pid(Pid::from_raw(pid)), flags).is_ok() {
            reaped += 1;
        }
    }
    reaped
}

/// Whether an orphan lives that is not `held`: a daemon may have forked itself away to us, and wiped out its marks.
pub fn has_orphans(held: &dyn Fn(i32) -> bool) -> bool {
    orphans(held).iter().any(|(_, stat)| !stat.is_dead())
}

/// Our children in sessions of their own that are not `held`.
fn orphans(held: &dyn Fn(i32) -> bool) -> Vec<(i32, Stat)> {
    let unclaimed: Vec<i32> = children().into_iter().filter(|pid| !held(*pid)).collect();
    if unclaimed.is_empty() {
        return Vec::new();
    }
    let session = proc::stat(std::process::id() as i32).map(|s| s.session);
    let known = unclaimed.into_iter().filter_map(|pid| Some((pid, proc::stat(pid).ok()?)));
    known.filter(|(_, stat)| session.as_ref().is_ok_and(|s| *s != stat.session)).collect()
}

/// The children of all threads of this process.
fn children() -> Vec<i32> {
    let Ok(tasks) = fs::read_dir("/proc/self/task") else { return Vec::new() };
    tasks
        .flatten()
        .filter_map(|task| fs::read_to_string(task.path().join("children")).ok())
        .flat_map(|list| list.split_ascii_whitespace().filter_map(|p| p.parse().ok()).collect::<Vec<i32>>())
        .collect()
}
