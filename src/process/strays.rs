//! Orphans: what a daemonising service leaves to its next living ancestor; and how it is heard that children end.

use super::kernel;
use super::proc::{self, Stat};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd, siginfo};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::{Pid, read};
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use tokio::io::unix::AsyncFd;

/// Makes orphaned descendants come to this process instead of PID 1, so that the exit code of a daemon that
/// forked itself away can still be heard.
pub fn become_subreaper() -> io::Result<()> {
    Ok(prctl::set_child_subreaper(true)?)
}

fn ends() -> SigSet {
    SigSet::from(Signal::SIGCHLD)
}

/// Holds SIGCHLD back from this thread and those that it begins, for [`Ends`]. A handler would run at every end, and write
/// into a pipe that is then read: some 20 us of each.
///
/// # Errors
/// None that sigprocmask(2) knows.
pub fn hold_ends() -> io::Result<()> {
    Ok(ends().thread_block()?)
}

/// Begins a program that expects SIGCHLD, as most that begin others do: [`hold_ends`] does not hold for it. Ends that come
/// meanwhile are not told; the program's own will be, and then all are looked for.
pub fn unheld<T>(begin: impl FnOnce() -> T) -> T {
    let before = ends().thread_swap_mask(SigmaskHow::SIG_UNBLOCK);
    let begun = begin();
    if let Ok(before) = before {
        let _ = before.thread_set_mask(); // as it was set before
    }
    begun
}

/// Tells that children have ended, by signalfd(2).
#[derive(Debug)]
pub struct Ends(AsyncFd<OwnedFd>);

impl Ends {
    /// Tells of those since [`hold_ends`]. Needs a tokio runtime.
    ///
    /// # Errors
    /// When the kernel has no descriptor left.
    pub fn new() -> io::Result<Ends> {
        let signals = SignalFd::with_flags(&ends(), SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        Ok(Ends(kernel::watch(signals.into())?))
    }

    /// Waits until some have ended. However many end until it is called again, it wakes nobody more than once.
    pub async fn some(&mut self) {
        match self.0.readable().await {
            Ok(mut ready) => {
                // One at most waits, however many there were; the next one is heard.
                let _ = read(ready.get_inner(), &mut [0; size_of::<siginfo>()]);
                ready.clear_ready();
            }
            Err(_) => std::future::pending().await, // the runtime ends
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::signal::raise;
    use std::process::Command;

    #[tokio::test]
    async fn ends_are_told_and_programs_know_nothing_of_it() {
        hold_ends().unwrap();
        let mut told = Ends::new().unwrap();
        let blocked = || unheld(|| Command::new("/bin/grep").args(["SigBlk", "/proc/self/status"]).output());
        let text = String::from_utf8(blocked().unwrap().stdout).unwrap();
        assert_eq!(text.trim_end(), "SigBlk:\t0000000000000000");
        assert!(SigSet::thread_get_mask().unwrap().contains(Signal::SIGCHLD), "held again");
        // A child's would be dropped: another thread of the tests does not hold it.
        raise(Signal::SIGCHLD).unwrap();
        raise(Signal::SIGCHLD).unwrap();
        told.some().await;
    }
}
