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
    // All that the child needs is made before it: it must not allocate, neither in this memory nor in a copy, where
    // another thread's lock on the allocator would stay locked for ever.
    let argv = pointers(what.argv);
    let envp = pointers(what.envp);
    let (report, tell) = io::pipe().map_err(fork)?; // both ends close on exec
    let report = OwnedFd::from(report);
    let tell = OwnedFd::from(tell);

    // No signal handler of the agent may run in the child: it would write into the agent's own wake-up pipe.
    let mask = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK).map_err(|e| fork(e.into()))?;
    let forked = clone(&Start { what, argv: &argv, envp: &envp, tell: tell.as_raw_fd() });
    mask.thread_set_mask().map_err(|e| fork(e.into()))?;
    drop(tell);
    let launched = forked.map_err(fork)?;

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

/// What the child needs on its way to its program.
struct Start<'a> {
    what: &'a Launch<'a>,
    argv: &'a [*const libc::c_char],
    envp: &'a [*const libc::c_char],
    tell: RawFd,
}

/// Makes the child, with a pidfd, in the leaf if there is one. A kernel or sandbox that cannot do it gets a plain
/// child: the marks in its environment then have to do.
fn clone(start: &Start<'_>) -> io::Result<Launched> {
    if let Some(leaf) = start.what.leaf {
        match clone3(start, Some(leaf)) {
            Err(e) if cannot_enter(&e) => {}
            done => return done,
        }
    }
    match clone3(start, None) {
        Err(e) if e.raw_os_error() == Some(libc::ENOSYS) || e.raw_os_error() == Some(libc::EPERM) => {
            legacy_clone(start)
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

fn clone3(start: &Start<'_>, leaf: Option<BorrowedFd<'_>>) -> io::Result<Launched> {
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
    // SAFETY: `args` and `pidfd` outlive the call; nothing in `args` asks for shared memory or a stack.
    let pid = unsafe { begin_child(&mut args, start) };
    launched(pid, pidfd)
}

/// How much stack the child has until its exec, in units of 16 bytes (the alignment of a stack): it needs a few
/// kilobytes.
#[cfg(target_arch = "x86_64")]
const CHILD_STACK: usize = 4096;

/// Makes a child that shares this memory until its exec, while this thread sleeps (as vfork(2) does, and glibc's
/// posix_spawn). Copying the agent's page tables, and both sides' faults on the copies, would cost as much again as
/// the exec: 0.4 ms of a start. The price: an executable on a dead network disk holds the agent until the disk is
/// back, or the watchdog kills the agent, which services survive.
///
/// Returns the pid, or the negative error number.
///
/// # Safety
/// `args` must ask for neither shared memory nor a stack, and what it points at must outlive the call.
#[cfg(target_arch = "x86_64")]
unsafe fn begin_child(args: &mut libc::clone_args, start: &Start<'_>) -> i64 {
    let mut stack: Vec<u128> = Vec::with_capacity(CHILD_STACK);
    args.flags |= (libc::CLONE_VM | libc::CLONE_VFORK) as u64;
    args.stack = stack.as_mut_ptr() as u64;
    args.stack_size = (CHILD_STACK * size_of::<u128>()) as u64;
    let result: i64;
    // SAFETY: the parent comes back from the system call as from any other: only rax, rcx and r11 have changed, and
    // it sleeps until the child has executed its program or is gone, so the child's stack and all that `start`
    // borrows are alive for as long as the child uses them. The child starts on an empty, aligned stack of its own
    // and calls a function that never returns. Signals are blocked, so no handler of ours runs on that stack, and
    // dispositions, descriptors, umask and folder are the child's own (no CLONE_SIGHAND, CLONE_FILES, CLONE_FS).
    // It shares `errno` with this thread, which reads it only after calls of its own.
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp", // the end of the chain of frames
            "mov rdi, r9",
            "call r8",
            "ud2",
            "2:",
            inlateout("rax") libc::SYS_clone3 => result,
            in("rdi") ptr::from_mut(args),
            in("rsi") size_of::<libc::clone_args>(),
            in("r8") child_on_its_stack as extern "C" fn(&Start<'_>) -> !,
            in("r9") ptr::from_ref(start),
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    drop(stack);
    result
}

#[cfg(target_arch = "x86_64")]
extern "C" fn child_on_its_stack(start: &Start<'_>) -> ! {
    // SAFETY: only `begin_child` calls this, in a new child with all signals blocked.
    unsafe { child(start) }
}

/// Elsewhere: a fork, whose child has a copy of this memory.
///
/// # Safety
/// As above.
#[cfg(not(target_arch = "x86_64"))]
unsafe fn begin_child(args: &mut libc::clone_args, start: &Start<'_>) -> i64 {
    // SAFETY: without CLONE_VM and without a stack this is a fork. The child only makes async-signal-safe calls.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, ptr::from_mut(args), size_of::<libc::clone_args>()) };
    // SAFETY: this is that child, with all signals blocked and its own copy of this frame.
    unsafe { in_child_or_parent(pid, start) }
}

/// For sandboxes that forbid clone3(2) altogether (older container runtimes): a fork.
fn legacy_clone(start: &Start<'_>) -> io::Result<Launched> {
    let mut pidfd: RawFd = -1;
    let flags = (libc::CLONE_PIDFD | libc::SIGCHLD) as libc::c_ulong;
    let none = ptr::null_mut::<libc::c_void>();
    // SAFETY: without CLONE_VM and without a stack this is a fork; the third argument is where CLONE_PIDFD stores
    // the descriptor. The child only makes async-signal-safe calls.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, none, ptr::from_mut(&mut pidfd), none, none) };
    // SAFETY: in the child all signals are blocked, and it has its own copy of this frame.
    let pid = unsafe { in_child_or_parent(pid, start) };
    launched(pid, pidfd)
}

/// After a fork: the child goes its way, the parent gets the pid or the negative error number.
unsafe fn in_child_or_parent(pid: libc::c_long, start: &Start<'_>) -> i64 {
    match pid {
        -1 => -i64::from(Errno::last_raw()),
        // SAFETY: the caller's word that this is a forked child.
        0 => unsafe { child(start) },
        pid => pid,
    }
}

fn launched(pid: i64, pidfd: RawFd) -> io::Result<Launched> {
    match pid {
        ..0 => Err(io::Error::from_raw_os_error(-pid as i32)),
        // SAFETY: the kernel has just made this descriptor for us; nobody else owns it. Pids fit an i32.
        pid => Ok(Launched { pid: pid as i32, pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) } }),
    }
}

/// The child's way from the fork to its program. Only async-signal-safe calls, no allocation, no panic.
///
/// Users are switched by raw system calls: the C library's `setuid` would signal threads that it remembers and
/// that this child does not have.
///
/// # Safety
/// To be called in a new child, with all signals blocked.
unsafe fn child(start: &Start<'_>) -> ! {
    let Start { what, argv, envp, tell } = *start;
    // SAFETY: every pointer handed over here is alive until the exec, every string ends with a NUL, both pointer
    // arrays end with a null; all calls are async-signal-safe system calls.
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
    use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
    use std::fs::File;

    /// Starts a shell that exits with 42 by the given way of making a child, and takes its status.
    fn status_of(leaf: Option<BorrowedFd<'_>>, make: fn(&Start<'_>) -> io::Result<Launched>) -> WaitStatus {
        let null = File::options().read(true).write(true).open("/dev/null").unwrap();
        let (argv, folder) = ([c"/bin/sh", c"-c", c"exit 42"].map(CStr::to_owned), c"/");
        let (stdin, output) = (null.as_fd(), null.as_fd());
        let (envp, umask, credentials) = (&[], 0o022, None);
        let what = Launch { argv: &argv, envp, folder, umask, credentials, stdin, output, leaf };
        let (_report, tell) = io::pipe().unwrap();
        let start =
            Start { what: &what, argv: &pointers(&argv), envp: &pointers(envp), tell: tell.as_raw_fd() };
        let mask = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK).unwrap();
        let launched = make(&start);
        mask.thread_set_mask().unwrap();
        waitid(Id::PIDFd(launched.unwrap().pidfd.as_fd()), WaitPidFlag::WEXITED).unwrap()
    }

    fn is_42(status: WaitStatus) -> bool {
        matches!(status, WaitStatus::Exited(_, 42))
    }

    /// Sandboxes that forbid clone3 get the older call; here it is made on purpose, and must start just as well.
    #[test]
    fn the_older_clone_starts_too() {
        assert!(is_42(status_of(None, legacy_clone)));
    }

    #[test]
    fn a_leaf_that_cannot_be_entered_costs_the_leaf_and_not_the_start() {
        let no_cgroup = File::open("/").unwrap();
        assert!(is_42(status_of(Some(no_cgroup.as_fd()), clone)));
    }

    #[test]
    fn children_made_by_many_threads_at_once_do_not_meet() {
        let threads: Vec<_> =
            (0..8).map(|_| std::thread::spawn(|| (0..20).all(|_| is_42(status_of(None, clone))))).collect();
        assert!(threads.into_iter().all(|t| t.join().unwrap()));
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
