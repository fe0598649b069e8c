//! The one door to the kernel: what neither the standard library nor `nix` offers safely.
//!
//! This is the only file of the crate with `unsafe`; each use says why it is sound.

#![allow(unsafe_code)]

use super::sight::Step;
use super::spawn::Stage;
use crate::crash::{self, Done};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use std::cell::Cell;
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// How long a child that was killed may take to be gone, before it is left to [`super::reap_orphans`].
const KILL_DEADLINE: Duration = Duration::from_secs(1);
/// How much stack the child has until its exec, in units of 16 bytes (the alignment of a stack): it needs a few
/// kilobytes.
const CHILD_STACK: usize = 4096;
/// The size of the kernel's signal set, in bytes.
const SIGNAL_SET: usize = 8;

/// What the kernel knows of how right the wall clock is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockState {
    /// A time service keeps it, and has not lost its source for long.
    pub in_step: bool,
    /// By how much it may be off, as the time service said; it grows while that is silent.
    pub max_error: Duration,
}

/// Asks adjtimex(2), and changes nothing.
pub fn clock_state() -> io::Result<ClockState> {
    // SAFETY: zeroes are a valid `timex`, and one that asks for no change; the kernel fills it in during the call.
    let (state, timex) = unsafe {
        let mut timex: libc::timex = std::mem::zeroed();
        (libc::adjtimex(&raw mut timex), timex)
    };
    let state = Errno::result(state)?;
    let in_step = state != libc::TIME_ERROR && timex.status & libc::STA_UNSYNC == 0;
    Ok(ClockState { in_step, max_error: Duration::from_micros(u64::try_from(timex.maxerror).unwrap_or(0)) })
}

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
    /// `RLIMIT_…` and its bounds.
    pub limits: &'a [(libc::c_int, libc::rlimit64)],
    /// In a mount namespace of its own, unless there is none.
    pub sight: &'a [Step],
    pub nice: Option<libc::c_int>,
    /// The text for `oom_score_adj`.
    pub oom_score: Option<&'a str>,
    /// The only ones that it can ever have, a bit each.
    pub capabilities: Option<u64>,
    pub no_new_privileges: bool,
    /// What its system calls are judged by, unless it is empty.
    pub calls: &'a [libc::sock_filter],
    /// One more descriptor, and the number that the child has it under; below [`MOST_DESCRIPTOR`].
    pub ready: Option<(BorrowedFd<'a>, RawFd)>,
}

/// One heap for all threads of this process, which allocate little: each further one costs half a megabyte. Before
/// there are threads.
pub fn keep_one_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes two numbers, and sets one of the allocator's own.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// Above every number that a child may be given a descriptor under.
pub const MOST_DESCRIPTOR: RawFd = 256;

/// Gives memory that is free back to the system, which the C library keeps otherwise: reading the configuration takes a
/// multiple of what is kept of it. Takes some milliseconds.
pub fn give_back_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes a number and touches nothing but the allocator's own free lists, under their locks.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// The same descriptor under a number that is no child's.
fn out_of_the_way(fd: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let copy = fcntl(fd, FcntlArg::F_DUPFD_CLOEXEC(MOST_DESCRIPTOR))?;
    // SAFETY: the kernel has just made this descriptor for us; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

/// Whom the child becomes.
#[derive(Debug, PartialEq, Eq)]
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

/// A child that could not become its program.
#[derive(Debug)]
pub(super) struct Failure {
    pub stage: Stage,
    /// Which of several, where the stage has several: an index into [`Launch::limits`].
    pub which: usize,
    pub cause: io::Error,
}

/// Makes a child that executes the program. Returns when the program runs, or with the stage that failed; a child
/// that failed is reaped.
pub(super) fn launch(what: &Launch<'_>) -> Result<Launched, Failure> {
    let fork = |cause: io::Error| Failure { stage: Stage::Fork, which: 0, cause };
    // All that the child needs is made before it: it must not allocate in this memory, where another thread may
    // just hold the allocator's lock.
    let argv = pointers(what.argv);
    let envp = pointers(what.envp);
    let ready = match what.ready {
        Some((fd, number)) => Some((out_of_the_way(fd).map_err(fork)?, number)),
        None => None,
    };
    let ready = ready.as_ref().map(|(fd, number)| (fd.as_raw_fd(), *number));
    let report = Cell::new(None);

    // No signal handler of the agent may run in the child: it would write into the agent's own wake-up pipe.
    let mask = swap_signal_mask(u64::MAX);
    let start = Start {
        what,
        argv: &argv,
        envp: &envp,
        ready,
        report: &report,
        aside: &[],
        join: None,
        undefault: u64::MAX,
        ends_agent: crash::is_due(Done::Born),
    };
    let aside: Vec<_> = what.sight.iter().map(|_| Cell::new(-1)).collect();
    let start = Start { aside: &aside, ..start };
    let private = is_private();
    let forked = clone(start);
    if private {
        keep_private();
    }
    swap_signal_mask(mask);
    let launched = forked.map_err(fork)?;
    // It runs its program, or has said why not and ended: this thread has slept until then.
    match report.get() {
        None => Ok(launched),
        Some(Report { stage, errno, which }) => {
            reap(&launched);
            Err(Failure { stage, which, cause: io::Error::from_raw_os_error(errno) })
        }
    }
}

fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    strings.iter().map(|s| s.as_ptr()).chain([ptr::null()]).collect()
}

/// Sets this thread's signal mask, a bit for each signal, and gives back the one before. By the raw call, since the C
/// library leaves the two signals that it keeps for itself (32 and 33) out of every mask.
fn swap_signal_mask(new: u64) -> u64 {
    let mut old = 0u64;
    // SAFETY: both sets are of the size that is told, and outlive the call; it cannot fail otherwise.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            ptr::from_ref(&new),
            ptr::from_mut(&mut old),
            SIGNAL_SET,
        )
    };
    old
}

/// What the kernel has of a signal (`struct kernel_sigaction`), or more.
type Disposition = [u64; 8];

/// A signal's bit in a set of them.
fn bit(signal: libc::c_int) -> u64 {
    1 << (signal - 1)
}

/// The signals that this process ignores: since it began, or from whoever began it. Its own handlers come and go, but it
/// ignores no further ones.
fn ignored() -> u64 {
    static IGNORED: OnceLock<u64> = OnceLock::new();
    let is_ignored = |signal: &libc::c_int| {
        let (new, mut old) = (ptr::null::<Disposition>(), Disposition::default());
        // SAFETY: the kernel's struct is no larger than this one, which outlives the call; nothing is changed.
        let asked = unsafe {
            libc::syscall(libc::SYS_rt_sigaction, *signal, new, ptr::from_mut(&mut old), SIGNAL_SET)
        };
        asked == 0 && old[0] == libc::SIG_IGN as u64
    };
    *IGNORED.get_or_init(|| (1..=64).filter(is_ignored).fold(0, |set, signal| set | bit(signal)))
}

/// Why a child could not become its program.
#[derive(Clone, Copy)]
struct Report {
    stage: Stage,
    errno: i32,
    /// As [`Failure::which`].
    which: usize,
}

/// What the child needs on its way to its program.
#[derive(Clone, Copy)]
struct Start<'a> {
    what: &'a Launch<'a>,
    argv: &'a [*const libc::c_char],
    envp: &'a [*const libc::c_char],
    /// From which number to which.
    ready: Option<(RawFd, RawFd)>,
    /// Where it says why it could not become its program: in this memory, which is the agent's, too.
    report: &'a Cell<Option<Report>>,
    /// Room for the descriptors of what is put aside, one for each step.
    aside: &'a [Cell<RawFd>],
    /// A leaf that it was not born in, and enters by itself.
    join: Option<BorrowedFd<'a>>,
    /// The signals, a bit for each, that are to be given their default.
    undefault: u64,
    /// A test wants the agent to die while its child is not yet its program.
    ends_agent: bool,
}

/// Makes the child, with a pidfd, as vfork(2) does: it shares this memory until its exec, while this thread sleeps.
/// Copying the agent's page tables, and both sides' faults on the copies, would cost as much again as the exec:
/// 0.4 ms of a start. The price: an executable on a dead network disk holds the agent until the disk is back, or the
/// watchdog kills the agent, which services survive. (The child then goes on by itself, in memory that is its alone;
/// until its exec it holds the agent's locks, so that no next agent looks for services too early.)
///
/// With a leaf the child is born in it. Where that cannot be (an older kernel, a sandbox, another machine), it enters
/// by itself; where that cannot be either, the marks in its environment have to do.
fn clone(start: Start<'_>) -> io::Result<Launched> {
    let Some(leaf) = start.what.leaf else { return clone_plain(&start) };
    match clone_into(&start, leaf) {
        Err(e) if cannot_enter(&e) => clone_plain(&Start { join: Some(leaf), ..start }),
        done => done,
    }
}

/// Errors that speak of clone3 or the cgroup and not of the fork: see clone(2), CLONE_INTO_CGROUP.
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

/// The child's stack. It is not touched before the child does, and is freed when the child has left it.
fn child_stack() -> Vec<u128> {
    Vec::with_capacity(CHILD_STACK)
}

/// By clone3(2), which the C library does not offer, so that the child is born in the leaf: moving it there later
/// takes up to a millisecond.
#[cfg(target_arch = "x86_64")]
fn clone_into(start: &Start<'_>, leaf: BorrowedFd<'_>) -> io::Result<Launched> {
    /// The C library's binding has it in a type that is too narrow (include/uapi/linux/sched.h).
    const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
    /// No handler of ours is the child's: what is left is what is ignored.
    const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;

    extern "C" fn on_its_stack(start: &Start<'_>) -> ! {
        // SAFETY: only the new child comes here, with all signals blocked.
        unsafe { child(start) }
    }

    let start = &Start { undefault: ignored(), ..*start };
    let mut pidfd: RawFd = -1;
    let mut stack = child_stack();
    // SAFETY: all zeroes is a valid clone_args: "nothing asked for".
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = (libc::CLONE_PIDFD | libc::CLONE_VM | libc::CLONE_VFORK) as u64
        | CLONE_INTO_CGROUP
        | CLONE_CLEAR_SIGHAND;
    args.pidfd = ptr::from_mut(&mut pidfd) as u64;
    args.exit_signal = libc::SIGCHLD as u64;
    args.cgroup = leaf.as_raw_fd() as u64;
    args.stack = stack.as_mut_ptr() as u64;
    args.stack_size = (CHILD_STACK * size_of::<u128>()) as u64;
    let result: i64;
    // SAFETY: the parent comes back from the system call as from any other: only rax, rcx and r11 have changed, and
    // it sleeps until the child has executed its program or is gone, so the child's stack and all that `start`
    // borrows are alive for as long as the child uses them (its report, a `Cell`, is read when it has left); should the agent be killed meanwhile, its memory stays
    // until the child has left it. The child starts on an empty, aligned stack of its own (so the parent's red zone
    // is safe) and calls a function that never returns. Signals are blocked, so no handler of ours runs on that
    // stack, and dispositions, descriptors, umask and folder are the child's own (no CLONE_SIGHAND, CLONE_FILES,
    // CLONE_FS). It shares `errno` with this thread, which reads it only after calls of its own.
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
            in("rdi") ptr::from_mut(&mut args),
            in("rsi") size_of::<libc::clone_args>(),
            in("r8") on_its_stack as extern "C" fn(&Start<'_>) -> !,
            in("r9") ptr::from_ref(start),
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    drop(stack);
    match result {
        ..0 => Err(io::Error::from_raw_os_error(-result as i32)),
        // SAFETY: the kernel has just made this descriptor for us; nobody else owns it. Pids fit an i32.
        pid => Ok(Launched { pid: pid as i32, pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) } }),
    }
}

/// Elsewhere the child always enters by itself.
#[cfg(not(target_arch = "x86_64"))]
fn clone_into(_: &Start<'_>, _: BorrowedFd<'_>) -> io::Result<Launched> {
    Err(io::Error::from_raw_os_error(libc::ENOSYS))
}

/// By the C library's clone(2): on every machine, and where a sandbox forbids clone3.
fn clone_plain(start: &Start<'_>) -> io::Result<Launched> {
    extern "C" fn on_its_stack(start: *mut libc::c_void) -> libc::c_int {
        // SAFETY: only the new child comes here, with all signals blocked; the pointer is the reference below.
        unsafe { child(&*start.cast::<Start<'_>>()) }
    }

    let mut pidfd: RawFd = -1;
    let mut stack = child_stack();
    let flags = libc::CLONE_PIDFD | libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    // SAFETY: as in `clone_into`: this thread sleeps until the child has left the stack and all that `start` borrows.
    // The stack grows downwards from its end, which is aligned. CLONE_PIDFD stores the descriptor where the fifth
    // argument points.
    let pid = unsafe {
        let end = stack.as_mut_ptr().add(CHILD_STACK);
        let start = ptr::from_ref(start).cast_mut();
        libc::clone(on_its_stack, end.cast(), flags, start.cast(), ptr::from_mut(&mut pidfd))
    };
    let failed = io::Error::last_os_error();
    drop(stack);
    match pid {
        -1 => Err(failed),
        // SAFETY: the kernel has just made this descriptor for us; nobody else owns it.
        pid => Ok(Launched { pid, pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) } }),
    }
}

/// The child's way from the clone to its program. Only async-signal-safe calls, no allocation, no panic: the memory is
/// the agent's, whose other threads run on.
///
/// Users are switched by raw system calls: the C library's `setuid` would signal threads that it remembers and
/// that this child does not have.
///
/// # Safety
/// To be called in a new child, with all signals blocked.
unsafe fn child(start: &Start<'_>) -> ! {
    let Start { what, argv, envp, ready, report, aside, join, undefault, ends_agent } = *start;
    // SAFETY: every pointer handed over here is alive until the exec, every string ends with a NUL or comes with its
    // length, both pointer arrays end with a null; all calls are async-signal-safe system calls.
    unsafe {
        let tell_failure = |stage: Stage, which: usize| -> ! {
            report.set(Some(Report { stage, errno: Errno::last_raw(), which }));
            libc::_exit(127);
        };
        let check = |stage: Stage, result: libc::c_long| {
            if result < 0 {
                tell_failure(stage, 0);
            }
        };
        // Ignored signals would stay ignored over the exec (Rust ignores SIGPIPE): a service starts clean.
        // By the raw call, since the C library refuses to touch the two that it keeps for itself (32 and 33). All
        // zeroes is "default, no flags, empty mask".
        let default = Disposition::default();
        let none = ptr::null::<u64>();
        for signal in (1..=64).filter(|signal| undefault & bit(*signal) != 0) {
            let (new, old) = (ptr::from_ref(&default), ptr::null_mut::<Disposition>());
            libc::syscall(libc::SYS_rt_sigaction, signal, new, old, SIGNAL_SET); // not KILL, STOP
        }
        if let Some(leaf) = join {
            let procs =
                libc::openat(leaf.as_raw_fd(), c"cgroup.procs".as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
            libc::write(procs, c"0".as_ptr().cast(), 1); // itself; without the leaf it starts all the same
            libc::close(procs);
        }
        if ends_agent {
            libc::kill(libc::getppid(), libc::SIGKILL);
        }
        check(Stage::Session, libc::setsid().into());
        libc::umask(what.umask as libc::mode_t);
        // Descriptors 0 to 2 of a Rust program are never closed, so none of these is a copy onto itself.
        check(Stage::Stdio, libc::dup2(what.stdin.as_raw_fd(), 0).into());
        check(Stage::Stdio, libc::dup2(what.output.as_raw_fd(), 1).into());
        check(Stage::Stdio, libc::dup2(what.output.as_raw_fd(), 2).into());
        // Whatever else the agent inherited without close-on-exec is none of the service's business.
        libc::syscall(libc::SYS_close_range, 3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC);
        if let Some((fd, number)) = ready {
            check(Stage::Stdio, libc::dup2(fd, number).into()); // stays open over the exec
        }
        if let Some(score) = what.oom_score {
            // The kernel makes an exception for a child that still shares its parent's memory by vfork: the agent's
            // own score stays (fs/proc/base.c, __set_oom_adj).
            let file = libc::open(c"/proc/self/oom_score_adj".as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
            check(Stage::OomScore, file.into());
            check(Stage::OomScore, libc::write(file, score.as_ptr().cast(), score.len()) as libc::c_long);
            libc::close(file);
        }
        if let Some(nice) = what.nice {
            check(Stage::Nice, libc::syscall(libc::SYS_setpriority, libc::PRIO_PROCESS, 0, nice));
        }
        for (which, (resource, bounds)) in what.limits.iter().enumerate() {
            let old = ptr::null_mut::<libc::rlimit64>();
            if libc::syscall(libc::SYS_prlimit64, 0, *resource, ptr::from_ref(bounds), old) < 0 {
                tell_failure(Stage::Limits, which);
            }
        }
        if let Some(which) = see(what.sight, aside) {
            tell_failure(Stage::Sight, which);
        }
        if let Some(wanted) = what.capabilities {
            // First the bounding set, while the right to cut it is there. Numbers that this kernel does not have are
            // EINVAL.
            for number in 0..64 {
                if wanted & (1 << number) == 0 && libc::prctl(libc::PR_CAPBSET_DROP, number, 0, 0, 0) < 0 {
                    check(Stage::Capabilities, if Errno::last_raw() == libc::EINVAL { 0 } else { -1 });
                }
            }
            check(Stage::Capabilities, libc::prctl(libc::PR_SET_KEEPCAPS, 1, 0, 0, 0).into());
        }
        if let Some(c) = what.credentials {
            check(Stage::Groups, libc::syscall(libc::SYS_setgroups, c.groups.len(), c.groups.as_ptr()));
            check(Stage::Groups, libc::syscall(libc::SYS_setresgid, c.gid, c.gid, c.gid));
            check(Stage::User, libc::syscall(libc::SYS_setresuid, c.uid, c.uid, c.uid));
        }
        check(Stage::Folder, libc::chdir(what.folder.as_ptr()).into());
        if let Some(wanted) = what.capabilities {
            // capset(2), version 3: a header of version and thread, then effective, permitted and inheritable, the
            // lower 32 of each, then the upper. What is inheritable root keeps over the exec; anyone else needs it
            // ambient.
            let header = [0x2008_0522u32, 0];
            let (low, high) = (wanted as u32, (wanted >> 32) as u32);
            let sets = [low, low, low, high, high, high];
            check(Stage::Capabilities, libc::syscall(libc::SYS_capset, header.as_ptr(), sets.as_ptr()));
            let raise = libc::PR_CAP_AMBIENT_RAISE as libc::c_ulong;
            for number in 0..64 {
                if wanted & (1 << number) != 0 {
                    let raised = libc::prctl(libc::PR_CAP_AMBIENT, raise, number as libc::c_ulong, 0, 0);
                    check(Stage::Capabilities, raised.into());
                }
            }
        }
        if what.no_new_privileges {
            check(Stage::NoNewPrivileges, libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0).into());
        }
        if !what.calls.is_empty() {
            // The kernel copies it, and it is this thread's alone: the agent, whose memory this is, has none.
            let program =
                libc::sock_fprog { len: what.calls.len() as u16, filter: what.calls.as_ptr().cast_mut() };
            let (mode, at) = (libc::SECCOMP_SET_MODE_FILTER, ptr::from_ref(&program));
            check(Stage::SystemCalls, libc::syscall(libc::SYS_seccomp, mode, 0, at));
        }
        let open = 0u64;
        libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, ptr::from_ref(&open), none, SIGNAL_SET);
        check(Stage::Exec, libc::execve(argv[0], argv.as_ptr(), envp.as_ptr()).into());
        libc::_exit(127)
    }
}

/// Whether this memory is shown to nobody, and never written to a core file (PR_SET_DUMPABLE(2const)).
fn is_private() -> bool {
    prctl::get_dumpable() == Ok(false)
}

/// A child that shares this memory and takes on another user sets the flag anew, to what fs.suid_dumpable says (in
/// `commit_creds` of the kernel).
fn keep_private() {
    let _ = prctl::set_dumpable(false); // the one of the calls that cannot fail
}

/// capabilities(7): those that this thread acts with, of which only these are kept. All stay permitted, so that a child
/// can take on what its unit says.
pub(super) fn act_with_only(kept: u64) -> io::Result<()> {
    let header = [0x2008_0522u32, 0]; // version 3, this thread
    let mut sets = [0u32; 6]; // effective, permitted, inheritable: the lower 32, then the upper
    // SAFETY: the kernel reads a header of two words and writes, or reads, two times three words, as version 3 has it.
    unsafe {
        if libc::syscall(libc::SYS_capget, header.as_ptr(), sets.as_mut_ptr()) < 0 {
            return Err(io::Error::last_os_error());
        }
        sets[0] &= kept as u32;
        sets[3] &= (kept >> 32) as u32;
        if libc::syscall(libc::SYS_capset, header.as_ptr(), sets.as_ptr()) < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Sets up what the child sees of the file system. `Some` of the step that failed, with its reason in `errno`.
///
/// # Safety
/// As for [`child`]: system calls only, and all that they are given was made before.
unsafe fn see(steps: &[Step], aside: &[Cell<RawFd>]) -> Option<usize> {
    const OPEN_TREE_CLONE: libc::c_uint = 1; // include/uapi/linux/mount.h; the C library's type differs by version
    const AT_RECURSIVE: libc::c_uint = 0x8000;
    const MOVE_MOUNT_F_EMPTY_PATH: libc::c_uint = 4;
    const MOUNT_ATTR_RDONLY: u64 = 1;
    if steps.is_empty() {
        return None;
    }
    let (here, nothing) = (libc::AT_FDCWD, ptr::null::<libc::c_char>());
    // What is mounted on the machine later appears here, too, and nothing of ours there.
    let shared_down = libc::MS_REC | libc::MS_SLAVE;
    // SAFETY: every path is a string with its NUL that outlives the call, and so is the attributes' struct, whose size is
    // told. The namespace that is changed is the child's own.
    unsafe {
        if libc::unshare(libc::CLONE_NEWNS) < 0
            || libc::mount(nothing, c"/".as_ptr(), nothing, shared_down, ptr::null()) < 0
        {
            return Some(usize::MAX);
        }
        for (which, step) in steps.iter().enumerate() {
            let done = match step {
                Step::PutAside(path) => {
                    let flags = OPEN_TREE_CLONE | AT_RECURSIVE | libc::O_CLOEXEC as libc::c_uint;
                    let fd = libc::syscall(libc::SYS_open_tree, here, path.as_ptr(), flags);
                    aside[which].set(fd as RawFd);
                    fd
                }
                Step::ReadOnly(path) => {
                    // The root is a mount already; anything else becomes one.
                    let is_root = path.as_bytes() == b"/";
                    let flags = libc::MS_BIND | libc::MS_REC;
                    let bound = is_root
                        || libc::mount(path.as_ptr(), path.as_ptr(), nothing, flags, ptr::null()) == 0;
                    let attributes = [MOUNT_ATTR_RDONLY, 0, 0, 0]; // set, clear, propagation, user namespace
                    let (at, size) = (attributes.as_ptr(), size_of_val(&attributes));
                    if bound {
                        libc::syscall(libc::SYS_mount_setattr, here, path.as_ptr(), AT_RECURSIVE, at, size)
                    } else {
                        -1
                    }
                }
                Step::Empty(path, options) => {
                    let flags = libc::MS_NOSUID | libc::MS_NODEV;
                    let tmpfs = c"tmpfs".as_ptr();
                    libc::mount(tmpfs, path.as_ptr(), tmpfs, flags, options.as_ptr().cast()).into()
                }
                Step::PutBack(of, path) => {
                    let (fd, empty) = (aside[*of].get(), c"".as_ptr());
                    libc::syscall(
                        libc::SYS_move_mount,
                        fd,
                        empty,
                        here,
                        path.as_ptr(),
                        MOVE_MOUNT_F_EMPTY_PATH,
                    )
                }
            };
            if done < 0 {
                return Some(which);
            }
        }
    }
    None
}

/// Kills a child that is of no use, and reaps it.
pub(super) fn discard(child: &Launched) {
    let _ = pidfd_send_signal(child.pidfd.as_fd(), Signal::SIGKILL as i32);
    if wait_readable(child.pidfd.as_fd(), KILL_DEADLINE).unwrap_or(false) {
        reap(child);
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

/// Takes the status of a child that has ended or is about to, so that no zombie stays.
pub(super) fn reap(child: &Launched) {
    while waitid(Id::PIDFd(child.pidfd.as_fd()), WaitPidFlag::WEXITED) == Err(Errno::EINTR) {}
}

/// Whether it has ended by SIGKILL. Its status is left where it is.
pub(super) fn was_killed(child: &Launched) -> bool {
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    let status = waitid(Id::PIDFd(child.pidfd.as_fd()), flags);
    matches!(status, Ok(WaitStatus::Signaled(_, Signal::SIGKILL, _)))
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
pub(crate) fn watch(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: the descriptor is owned by the `AsyncFd`, which hands out no way to close or replace it.
    Ok(unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE)? })
}

/// A step of a packet filter or of one of system calls (bpf(4) of BSD, which both speak): what to do, with which number, and how many
/// steps to skip then and otherwise.
pub(super) fn step(code: u32, k: u32, then: u8, otherwise: u8) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt: then, jf: otherwise, k }
}

/// Lets only packets with this byte there through to a packet socket (packet(7), SOCK_DGRAM: packets begin with their
/// IP header), so that a busy machine's traffic costs nothing.
pub(crate) fn only_with_byte(socket: &OwnedFd, at: u8, is: u8) -> io::Result<()> {
    let mut steps = [
        step(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, at.into(), 0, 0),
        step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, is.into(), 0, 1),
        step(libc::BPF_RET | libc::BPF_K, u32::MAX, 0, 0),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, 0),
    ];
    let program = libc::sock_fprog { len: steps.len() as u16, filter: steps.as_mut_ptr() };
    // SAFETY: the kernel copies the program, whose length is told, before the call returns.
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            ptr::from_ref(&program).cast(),
            size_of::<libc::sock_fprog>() as libc::socklen_t,
        )
    };
    if done == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    type Clone = fn(Start<'_>) -> io::Result<Launched>;

    fn plain(start: Start<'_>) -> io::Result<Launched> {
        clone_plain(&start)
    }

    /// Starts a shell in the given way of making a child.
    fn made(leaf: Option<BorrowedFd<'_>>, script: &CStr, make: Clone) -> Launched {
        let null = File::options().read(true).write(true).open("/dev/null").unwrap();
        let argv = [c"/bin/sh", c"-c", script].map(CStr::to_owned);
        let what = Launch {
            argv: &argv,
            envp: &[],
            folder: c"/",
            umask: 0o022,
            credentials: None,
            stdin: null.as_fd(),
            output: null.as_fd(),
            leaf,
            limits: &[],
            sight: &[],
            nice: None,
            oom_score: None,
            capabilities: None,
            no_new_privileges: false,
            calls: &[],
            ready: None,
        };
        let report = Cell::new(None);
        let (argv, envp) = (pointers(what.argv), pointers(what.envp));
        let mask = swap_signal_mask(u64::MAX);
        let made = make(Start {
            what: &what,
            argv: &argv,
            envp: &envp,
            ready: None,
            report: &report,
            aside: &[],
            ends_agent: false,
            undefault: u64::MAX,
            join: what.leaf,
        });
        swap_signal_mask(mask);
        made.unwrap()
    }

    fn ends_with_42(leaf: Option<BorrowedFd<'_>>, make: Clone) -> bool {
        let child = made(leaf, c"exit 42", make);
        let status = waitid(Id::PIDFd(child.pidfd.as_fd()), WaitPidFlag::WEXITED).unwrap();
        matches!(status, WaitStatus::Exited(_, 42))
    }

    /// Other machines, older kernels and sandboxes get the C library's clone.
    #[test]
    fn the_plain_clone_starts_too() {
        assert!(ends_with_42(None, plain));
    }

    #[test]
    fn a_leaf_that_cannot_be_entered_costs_the_leaf_and_not_the_start() {
        let no_cgroup = File::open("/").unwrap();
        assert!(ends_with_42(Some(no_cgroup.as_fd()), clone));
        assert!(ends_with_42(Some(no_cgroup.as_fd()), plain));
    }

    /// Any folder will do to show it: the child writes itself into the file that a cgroup would have there.
    #[test]
    fn a_child_that_was_not_born_in_its_leaf_enters_by_itself() {
        let folder = tempfile::tempdir().unwrap();
        let procs = folder.path().join("cgroup.procs");
        std::fs::write(&procs, "").unwrap();
        let leaf = File::open(folder.path()).unwrap();
        assert!(ends_with_42(Some(leaf.as_fd()), plain));
        assert_eq!(std::fs::read_to_string(procs).unwrap(), "0");
    }

    #[test]
    fn children_made_by_many_threads_at_once_do_not_meet() {
        for make in [clone, plain] {
            let threads: Vec<_> = (0..8)
                .map(|_| std::thread::spawn(move || (0..20).all(|_| ends_with_42(None, make))))
                .collect();
            assert!(threads.into_iter().all(|t| t.join().unwrap()));
        }
    }

    #[test]
    fn the_signal_mask_is_as_it_was_and_can_hold_all_signals() {
        let before = swap_signal_mask(u64::MAX);
        let all = swap_signal_mask(before);
        assert_eq!(swap_signal_mask(before), before);
        let cannot_be_blocked = 1 << (libc::SIGKILL - 1) | 1 << (libc::SIGSTOP - 1);
        assert_eq!(all, !cannot_be_blocked, "32 and 33 too");
    }
}
