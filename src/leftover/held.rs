//! Whether anybody still uses a unix socket or a lock file.

use super::look::descriptors_with_ids;
use super::place::Place;
use crate::process::proc;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, Flock, FlockArg, fcntl};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, getsockopt, socket, sockopt};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// What connecting to a socket came to.
pub(crate) enum Answer {
    /// Refused: the file is all that is left.
    Nobody,
    /// Somebody listens; the process that does, where the kernel tells.
    Somebody(Option<i32>),
}

/// Connects without waiting: a unix socket answers at once or has a full queue, which somebody must own.
pub(super) fn answers(place: &Place) -> io::Result<Answer> {
    let address = UnixAddr::new(&place.by_folder())?;
    // The kind of a socket cannot be seen from outside; a wrong one is told by EPROTOTYPE.
    for kind in [SockType::Stream, SockType::Datagram, SockType::SeqPacket] {
        let ours = socket(AddressFamily::Unix, kind, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)?;
        match connect(ours.as_raw_fd(), &address) {
            Err(Errno::EPROTOTYPE) => continue,
            Err(Errno::ECONNREFUSED | Errno::ENOENT) => return Ok(Answer::Nobody),
            Err(Errno::EAGAIN | Errno::EINPROGRESS) => return Ok(Answer::Somebody(None)),
            Err(e) => return Err(e.into()),
            Ok(()) => {
                let peer = getsockopt(&ours, sockopt::PeerCredentials).ok().map(|c| c.pid());
                return Ok(Answer::Somebody(peer.filter(|pid| *pid > 0)));
            }
        }
    }
    Err(io::Error::other("its kind of socket is not known"))
}

/// Who keeps a lock file.
pub(crate) enum Holder {
    Nobody,
    /// It is locked, or open in this process.
    Process(i32),
    /// It is locked; the kernel does not say by whom.
    Unknown,
    /// A process of the file's owner could not be looked into.
    Unseen(i32),
}

/// Looks for a lock, then for anybody who has the file open. Reads all of `/proc/PID/fd`: some milliseconds.
pub(super) fn holder(place: &Place) -> io::Result<Holder> {
    let file = place.open()?;
    if is_locked(file)? {
        return Ok(holder_by_descriptors(place)?.unwrap_or(Holder::Unknown));
    }
    Ok(holder_by_descriptors(place)?.unwrap_or(Holder::Nobody))
}

/// Tries the two kinds of lock that Linux has; neither try waits, nor leaves a lock behind.
fn is_locked(file: File) -> io::Result<bool> {
    let mut record = libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    fcntl(&file, FcntlArg::F_OFD_GETLK(&mut record))?;
    if record.l_type != libc::F_UNLCK as libc::c_short {
        return Ok(true);
    }
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(_) => Ok(false),
        Err((_, Errno::EWOULDBLOCK)) => Ok(true),
        Err((_, e)) => Err(e.into()),
    }
}

fn holder_by_descriptors(place: &Place) -> io::Result<Option<Holder>> {
    let wanted = place.device_and_inode();
    let me = std::process::id() as i32;
    let mut unseen = None;
    for pid in proc::pids()? {
        if pid == me {
            continue;
        }
        match descriptors_with_ids(pid) {
            Ok(mut open) => {
                if open.any(|id| id == wanted) {
                    return Ok(Some(Holder::Process(pid)));
                }
            }
            Err(e) => {
                if may_hold(&e, proc::owner(pid), place.owner()) {
                    unseen = Some(Holder::Unseen(pid));
                }
            }
        }
    }
    Ok(unseen)
}

/// Whether a process whose descriptors could not be read may have a file open. Any other error says that it is gone.
/// Without root's rights only the owner's own processes matter: nobody else's can be seen anyway.
fn may_hold(why: &io::Error, user: Option<u32>, owner: u32) -> bool {
    why.kind() == io::ErrorKind::PermissionDenied && user.is_none_or(|uid| uid == owner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_may_not_be_looked_into_may_hold_its_owners_files() {
        let (denied, gone) = (io::Error::from(Errno::EACCES), io::Error::from(Errno::ENOENT));
        assert!(may_hold(&denied, Some(5), 5));
        assert!(may_hold(&denied, None, 5), "whose it is may not be seen either");
        assert!(!may_hold(&denied, Some(6), 5));
        assert!(!may_hold(&gone, Some(5), 5) && !may_hold(&gone, None, 5));
    }
}
