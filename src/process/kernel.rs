//! The one door to the kernel: what neither the standard library nor `nix` offers safely.
//!
//! This is the only file of the crate with `unsafe`; each use says why it is sound.

#![allow(unsafe_code)]

use super::spawn::Stage;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use std::ffi::{CStr, CString};
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::time::{Duration, Instant};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// How long a child may take from the fork to its `execve`. An executable on a dead network disk would otherwise
/// hold the agent for ever.
const EXEC_DEADLINE: Duration = Duration::from_secs(10);

/// The C library's binding has it in a type that is too narrow (include/uapi/linux/sched.h).
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// A program to be started, in the words of the kernel.
pub(super) struct Launch<'a> {
    pub argv: &'a [CString],
    pub envp: &'a [CString],
    pub folder: &'a CStr,
    pub umask: u32,
    /// `None` keeps the agent's own.
    pub credentials: Option<&'a Credentials>,
    pub stdin: BorrowedFd<'a>,
    /// Standard output and standard error.
    pub output: BorrowedFd<'a>,
    /// The cgroup folder in which the child is born.
    pub leaf: Option<BorrowedFd<'a>>,
}

/// Whom the child becomes.
pub(super) struct Credentials {
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
}

/// A child that runs its program, held by its pidfd.
pub(super) struct Launched {
    pub pid: i32,
    pub pidfd: OwnedFd,
}

/// Forks and executes. Returns when the program runs, or with the stage that failed; a child that failed is reaped.
pub(super) fn launch(what: &Launch<'_>) -> Result<Launched, (Stage, io::Error)> {
    let fork = |e: io::Error| (Stage::Fork, e);
    // All that the child needs is made before the fork: after it, another thread's lock on the allocator would
    // stay locked in the child for ever.
    let argv = pointers(what.argv);
    let envp = pointers(what.envp);
    let (report, tell) = io::pipe().map_err(fork)?; // both ends close on exec
    let report = OwnedFd::from(report);
    let tell = OwnedFd::from(tell);

    // No signal handler of the agent may run in the child: it would write into the agent's own wake-up pipe.
    let mask = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK).map_err(|e| fork(e.into()))?;
    let forked = clone(what.leaf);
    if let Ok(Side::Child) = forked {
        // SAFETY: we are the child of a fork, with all signals blocked; `child` never returns, and the pointers
        // point into vectors of this frame, which the child has its own copy of.
        unsafe { child(what, &argv, &envp, tell.as_raw_fd()) }
    }
    mask.thread_set_mask().map_err(|e| fork(e.into()))?;
    drop(tell);
    let launched = match forked.map_err(fork)? {
        Side::Parent(launched) => launched,
        Side::Child => unreachable!("the child has become its program or has exited"),
    };

    match await_exec(report) {
        Ok(None) => Ok(launched),
        Ok(Some((stage, cause))) => {
            reap_failed(&launched);
            Err((stage, cause))
        }
        Err(cause) => {
            let _ = pidfd_send_signal(launched.pidfd.as_fd(), Signal::SIGKILL as i32);
            Err((Stage::Exec, cause))
        }
    }
}

fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    strings.iter().map(|s| s.as_ptr()).chain([ptr::null()]).collect()
}

enum Side {
    Child,
    Parent(Launched),
}

/// Forks with a pidfd, into the leaf if there is one. A kernel or sandbox that cannot do it gets a plain child: the
/// marks in its environment then have to do.
fn clone(leaf: Option<BorrowedFd<'_>>) -> io::Result<Side> {
    if let Some(leaf) = leaf {
        match clone3(Some(leaf)) {
            Err(e) if cannot_enter(&e) => {}
            done => return done,
        }
    }
    match clone3(None) {
        Err(e) if e.raw_os_error() == Some(libc::ENOSYS) || e.raw_os_error() == Some(libc::EPERM) => {
            legacy_clone()
        }
        done => done,
    }
}

/// Errors that speak of the cgroup and not of the fork: see clone(2), CLONE_INTO_CGROUP.
fn cannot_enter(e: &io::Error) -> bool {
    matches!(
        e.raw_os_error(),
        Some(
            libc::EACCES
                | libc::EBADF
                | libc::EBUSY
                | libc::EINVAL
                | libc::ENODEV
                | libc::ENOENT
                | libc::ENOSYS
                | libc::EOPNOTSUPP
                | libc::EPERM
        )
    )
}

fn clone3(leaf: Option<BorrowedFd<'_>>) -> io::Result<Side> {
    let mut pidfd: RawFd = -1;
    // SAFETY: all zeroes is a valid clone_args: "nothing asked for".
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = libc::CLONE_PIDFD as u64;
    args.pidfd = ptr::from_mut(&mut pidfd) as u64;
    args.exit_signal = libc::SIGCHLD as u64;
    if let Some(leaf) = leaf {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = leaf.as_raw_fd() as u64;
    }
    // SAFETY: without CLONE_VM and without a stack this is a fork: the child gets a copy of this memory. `args`
    // and `pidfd` outlive the call. The child only makes async-signal-safe calls (see `child`).
    let pid =
        unsafe { libc::syscall(libc::SYS_clone3, ptr::from_mut(&mut args), size_of::<libc::clone_args>()) };
    side(pid, pidfd)
}

/// For sandboxes that forbid clone3(2) altogether (older container runtimes).
fn legacy_clone() -> io::Result<Side> {
    let mut pidfd: RawFd = -1;
    let flags = (libc::CLONE_PIDFD | libc::SIGCHLD) as libc::c_ulong;
    let none = ptr::null_mut::<libc::c_void>();
    // SAFETY: as in `clone3`; the third argument is where CLONE_PIDFD stores the descriptor.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, none, ptr::from_mut(&mut pidfd), none, none) };
    side(pid, pidfd)
}

fn side(pid: libc::c_long, pidfd: RawFd) -> io::Result<Side> {
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Side::Child),
        // SAFETY: the kernel has just made this descriptor for us; nobody else owns it. Pids fit an i32.
        pid => Ok(Side::Parent(Launched { pid: pid as i32, pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) } })),
    }
}

/// The child's way from the fork to its program. Only async-signal-safe calls, no allocation, no panic.
///
/// Users are switched by raw system calls: the C library's `setuid` would signal threads that it remembers and
/// that this child does not have.
unsafe fn child(
    what: &Launch<'_>,
    argv: &[*const libc::c_char],
    envp: &[*const libc::c_char],
    tell: RawFd,
) -> ! {
    // SAFETY: every pointer handed over here lives in this frame's copy of the parent's memory, every string ends
    // with a NUL, both pointer arrays end with a null; all calls are async-signal-safe system calls.
    unsafe {
        let check = |stage: Stage, result: libc::c_long| {
            if result < 0 {
                let message = [stage as i32, Errno::last_raw()];
                libc::write(tell, message.as_ptr().cast(), size_of_val(&message));
                libc::_exit(127);
            }
        };
        // Ignored signals would stay ignored over the exec (Rust ignores SIGPIPE): a service starts clean.
        // By the raw call, since the C library refuses to touch the two that it keeps for itself (32 and 33). All
        // zeroes is "default, no flags, empty mask" in the kernel's struct, which is no larger than this; 8 is the
        // size of its signal set.
        let default = [0u64; 8];
        for signal in 1..=64 {
            libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), ptr::null::<u64>(), 8); // not KILL, STOP
        }
        check(Stage::Session, libc::setsid().into());
        libc::umask(what.umask as libc::mode_t);
        // Descriptors 0 to 2 of a Rust program are never closed, so none of these is a copy onto itself.
        check(Stage::Stdio, libc::dup2(what.stdin.as_raw_fd(), 0).into());
        check(Stage::Stdio, libc::dup2(what.output.as_raw_fd(), 1).into());
        check(Stage::Stdio, libc::dup2(what.output.as_raw_fd(), 2).into());
        // Whatever else the agent inherited without close-on-exec is none of the service's business.
        libc::syscall(libc::SYS_close_range, 3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC);
        if let Some(c) = what.credentials {
            check(Stage::Groups, libc::syscall(libc::SYS_setgroups, c.groups.len(), c.groups.as_ptr()));
            check(Stage::Groups, libc::syscall(libc::SYS_setresgid, c.gid, c.gid, c.gid));
            check(Stage::User, libc::syscall(libc::SYS_setresuid, c.uid, c.uid, c.uid));
        }
        check(Stage::Folder, libc::chdir(what.folder.as_ptr()).into());
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &none, ptr::null_mut());
        check(Stage::Exec, libc::execve(argv[0], argv.as_ptr(), envp.as_ptr()).into());
        libc::_exit(127)
    }
}

/// Waits until the report pipe is closed by the exec (`None`) or tells the stage that failed.
fn await_exec(report: OwnedFd) -> io::Result<Option<(Stage, io::Error)>> {
    if !wait_readable(report.as_fd(), EXEC_DEADLINE)? {
        let secs = EXEC_DEADLINE.as_secs();
        return Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("the program did not begin within {secs} s"),
        ));
    }
    let mut message = [0u8; 8];
    match std::fs::File::from(report).read(&mut message)? {
        0 => Ok(None),
        8 => {
            let word =
                |i: usize| i32::from_ne_bytes([message[i], message[i + 1], message[i + 2], message[i + 3]]);
            Ok(Some((Stage::from_code(word(0)), io::Error::from_raw_os_error(word(4)))))
        }
        n => Err(io::Error::other(format!("the child's report is cut short ({n} of 8 bytes)"))),
    }
}

/// Waits until `fd` is readable or hung up; `false` when the time is over.
pub(super) fn wait_readable(fd: BorrowedFd<'_>, at_most: Duration) -> io::Result<bool> {
    let end = Instant::now() + at_most;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(fd, PollFlags::POLLIN)], timeout) {
            Err(Errno::EINTR) => continue,
            Err(e) => return Err(e.into()),
            Ok(n) => return Ok(n > 0),
        }
    }
}

/// A child that could not become its program is exiting by itself: take its status, so that no zombie stays.
fn reap_failed(launched: &Launched) {
    use nix::sys::wait::{Id, WaitPidFlag, waitid};
    while waitid(Id::PIDFd(launched.pidfd.as_fd()), WaitPidFlag::WEXITED) == Err(Errno::EINTR) {}
}

/// pidfd_open(2): a process held, so that its number cannot be given to another while we act on it.
pub(super) fn pidfd_open(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: no pointers; the descriptor that comes back is new and ours (it closes on exec).
    match unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) } {
        -1 => Err(io::Error::last_os_error()),
        // SAFETY: as above.
        fd => Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) }),
    }
}

/// pidfd_send_signal(2). Signal 0 only asks.
pub(super) fn pidfd_send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    let info = ptr::null::<libc::siginfo_t>();
    // SAFETY: a null siginfo means "as kill(2) would"; the descriptor is borrowed for the call.
    match unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, info, 0) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Lets the tokio runtime wait for the descriptor. Must be called within one.
pub(super) fn watch(pidfd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: the descriptor is owned by the `AsyncFd`, which hands out no way to close or replace it.
    Ok(unsafe { AsyncFd::register_with_interest(pidfd, Interest::READABLE)? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    /// Sandboxes that forbid clone3 get the older call; here it is made on purpose, and must fork just as well.
    #[test]
    fn the_older_clone_forks_too() {
        match legacy_clone().unwrap() {
            // SAFETY: the child of a fork does nothing but exit.
            Side::Child => unsafe { libc::_exit(42) },
            Side::Parent(launched) => {
                use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
                let status = waitid(Id::PIDFd(launched.pidfd.as_fd()), WaitPidFlag::WEXITED).unwrap();
                assert_eq!(status, WaitStatus::Exited(nix::unistd::Pid::from_raw(launched.pid), 42));
            }
        }
    }

    #[test]
    fn a_leaf_that_cannot_be_entered_costs_the_leaf_and_not_the_start() {
        let no_cgroup = File::open("/").unwrap();
        match clone(Some(no_cgroup.as_fd())).unwrap() {
            // SAFETY: as above.
            Side::Child => unsafe { libc::_exit(0) },
            Side::Parent(launched) => reap_failed(&launched),
        }
    }

    #[test]
    fn a_report_is_read_back_as_it_was_told() {
        use std::io::Write;
        let told = |bytes: &[u8]| {
            let (read, mut write) = io::pipe().unwrap();
            write.write_all(bytes).unwrap();
            drop(write);
            await_exec(OwnedFd::from(read))
        };
        assert!(told(&[]).unwrap().is_none());
        let message = [Stage::User as i32, libc::EPERM].map(i32::to_ne_bytes).concat();
        let (stage, cause) = told(&message).unwrap().unwrap();
        assert_eq!((stage, cause.raw_os_error()), (Stage::User, Some(libc::EPERM)));
        assert!(told(&[1, 2]).is_err());
    }
}
