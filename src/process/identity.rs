//! Who a process is, and holding it.

use super::boot::Boot;
use super::{kernel, proc};
use crate::facts::Exit;
use nix::errno::Errno;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::future::Future;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

/// A file, whatever it is called: device and inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FileId {
    pub dev: u64,
    pub ino: u64,
}

/// What is written down of an instance's process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Journalled {
    #[default]
    Nothing,
    /// Its last process of this boot has ended: who is left of that is no main process.
    Ended,
    /// Its last process, in whatever boot.
    Process(Identity),
}

impl Journalled {
    pub fn process(&self) -> Option<&Identity> {
        match self {
            Journalled::Process(identity) => Some(identity),
            Journalled::Nothing | Journalled::Ended => None,
        }
    }
}

/// Who a process is, beyond its number. It can be written down and found again by the next agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    pub boot: Boot,
    pub pid: i32,
    /// Start, in clock ticks since the boot (field 22 of `/proc/PID/stat`).
    pub start: u64,
    /// The executable when it was identified; `None` where it could not be seen. A process may rightly execute
    /// another one later, so it is not part of being the same.
    pub exe: Option<FileId>,
}

impl Identity {
    /// Whether both are one process: same boot, number and start.
    pub fn is_same(&self, other: &Identity) -> bool {
        self.boot == other.boot && self.pid == other.pid && self.start == other.start
    }

    /// A child of ours that has just been started: not reaped yet, so its number is surely its own.
    pub(super) fn of_child(pid: i32) -> io::Result<Identity> {
        Ok(Identity { boot: Boot::current()?, pid, start: proc::stat(pid)?.start, exe: proc::exe_id(pid) })
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pid {}", self.pid)
    }
}

/// Why a process could not be held.
#[derive(Debug, thiserror::Error)]
pub enum Lost {
    #[error("process {0} is gone")]
    Gone(i32),
    /// The number was given to another process since.
    #[error("process {pid} is somebody else now (started at tick {found}, ours at tick {wanted})")]
    SomebodyElse { pid: i32, wanted: u64, found: u64 },
    #[error("process {0} belonged to an earlier boot")]
    OtherBoot(i32),
    #[error("{0} is the number of a thread, not of a process")]
    Thread(i32),
    /// It lives, and `/proc` hides it (`hidepid`), so it cannot be identified.
    #[error("process {0} is hidden from us (hidepid)")]
    Hidden(i32),
    #[error("cannot hold process {pid}: {cause}")]
    Kernel { pid: i32, cause: io::Error },
}

/// A process that is identified and then held: as long as this lives, its number means this very process.
///
/// Dropping it does nothing to the process.
#[derive(Debug)]
pub struct Handle {
    identity: Identity,
    pidfd: OwnedFd,
}

impl Handle {
    /// Holds the living process `pid`, whoever it is, and identifies it.
    pub fn open(pid: i32) -> Result<Handle, Lost> {
        let kernel = |cause| Lost::Kernel { pid, cause };
        if pid <= 0 {
            return Err(Lost::Gone(pid));
        }
        let boot = Boot::current().map_err(kernel)?;
        let pidfd = kernel::pidfd_open(pid).map_err(|cause| match cause.raw_os_error() {
            Some(libc::ESRCH) => Lost::Gone(pid),
            // The kernel says EINVAL (ENOENT in newer ones) for a thread that is not its group's leader.
            Some(libc::EINVAL | libc::ENOENT) => Lost::Thread(pid),
            _ => kernel(cause),
        })?;
        let stat = proc::stat(pid);
        // What was read is about the held process only if that is alive after the reading.
        if !alive(pidfd.as_fd()).map_err(kernel)? {
            return Err(Lost::Gone(pid));
        }
        let stat = stat.map_err(|cause| match cause.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied => Lost::Hidden(pid),
            _ => kernel(cause),
        })?;
        let exe = proc::exe_id(pid);
        Ok(Handle { identity: Identity { boot, pid, start: stat.start, exe }, pidfd })
    }

    /// Holds the process that `known` describes, if it still lives.
    pub fn adopt(known: &Identity) -> Result<Handle, Lost> {
        let pid = known.pid;
        if Boot::current().map_err(|cause| Lost::Kernel { pid, cause })? != known.boot {
            return Err(Lost::OtherBoot(pid));
        }
        let mut handle = Handle::open(pid)?;
        let found = handle.identity.start;
        if found != known.start {
            return Err(Lost::SomebodyElse { pid, wanted: known.start, found });
        }
        handle.identity.exe = known.exe.or(handle.identity.exe);
        Ok(handle)
    }

    /// A child of ours with the pidfd that it was born with.
    pub(super) fn new(identity: Identity, pidfd: OwnedFd) -> Handle {
        Handle { identity, pidfd }
    }

    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    pub fn pid(&self) -> i32 {
        self.identity.pid
    }

    /// Sends a signal to this very process. One that is gone is no error: `Ok(false)`.
    pub fn signal(&self, signal: i32) -> io::Result<bool> {
        match kernel::pidfd_send_signal(self.pidfd.as_fd(), signal) {
            Ok(()) => Ok(true),
            Err(e) if e.raw_os_error() == Some(libc::ESRCH) => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Whether it runs. A zombie does not.
    pub fn is_alive(&self) -> bool {
        // A pidfd cannot fail to be polled; were it so, "alive" is the answer that harms nobody.
        alive(self.pidfd.as_fd()).unwrap_or(true)
    }

    /// Ends when the process has ended; [`Handle::reap`] then tells how. Needs a tokio runtime.
    ///
    /// The future holds the process by itself: it may outlive the handle.
    pub fn exited(&self) -> impl Future<Output = io::Result<()>> + Send + use<> {
        let pidfd = self.pidfd.try_clone();
        async move {
            let pidfd = kernel::watch(pidfd?)?;
            pidfd.readable().await?.retain_ready();
            Ok(())
        }
    }

    /// Blocks until it has ended, at most so long; `false` when it still runs.
    pub fn wait(&self, at_most: Duration) -> io::Result<bool> {
        kernel::wait_readable(self.pidfd.as_fd(), at_most)
    }

    /// How it ended; `None` while it runs. Our own children (and orphans that came to us as their subreaper) are
    /// reaped by this. Of others, and of what was reaped before, the kernel does not say: [`Exit::Unknown`].
    pub fn reap(&self) -> Option<Exit> {
        loop {
            match waitid(Id::PIDFd(self.pidfd.as_fd()), WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG) {
                Ok(WaitStatus::Exited(_, code)) => return Some(Exit::Code(code)),
                Ok(WaitStatus::Signaled(_, signal, _)) => return Some(Exit::Signal(signal as i32)),
                Ok(_) => return None,
                Err(Errno::EINTR) => {}
                Err(_) if self.is_alive() => return None,
                Err(_) => return Some(Exit::Unknown),
            }
        }
    }
}

/// A pidfd becomes readable when the process has ended, be it reaped or not.
fn alive(pidfd: BorrowedFd<'_>) -> io::Result<bool> {
    Ok(!kernel::wait_readable(pidfd, Duration::ZERO)?)
}
