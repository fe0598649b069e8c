//! Whether anybody still uses a unix socket or a lock file.

use super::judge::Expected;
use super::look::has_open;
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
    /// The processes of others are hidden from us (`hidepid`).
    Hidden,
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

/// Living processes of the file's owner that run what may have written it. A lock that is not held open (an office's
/// is not) says nothing of itself.
pub(super) fn possible_owners(place: &Place, expected: &Expected) -> io::Result<Vec<i32>> {
    let is_owners = |pid: &i32| proc::owner(*pid).is_none_or(|uid| uid == place.owner());
    Ok(alike(expected)?.filter(is_owners).collect())
}

/// Living processes in this network namespace, or maybe in it, that run what may have put an address there; `None`
/// when processes are hidden from us.
pub(super) fn possible_holders(expected: &Expected) -> io::Result<Option<Vec<i32>>> {
    if proc::hides_others(&proc::pids()?) {
        return Ok(None);
    }
    let here = proc::net_namespace(std::process::id() as i32)?;
    Ok(Some(alike(expected)?.filter(|pid| proc::net_namespace(*pid).map_or(true, |ns| ns == here)).collect()))
}

/// Living processes that run what the unit's processes can run.
fn alike(expected: &Expected) -> io::Result<impl Iterator<Item = i32>> {
    let me = std::process::id() as i32;
    let runs_it = |pid: &i32| proc::exe(*pid).is_ok_and(|exe| expected.names_or_has(&exe));
    Ok(proc::pids()?.into_iter().filter(move |pid| *pid != me).filter(runs_it))
}

/// Living processes whose number in a pid namespace below ours is this one.
pub(super) fn namesakes(number: i32) -> io::Result<Vec<i32>> {
    let is_one = |pid: &i32| proc::inner_number(*pid).is_ok_and(|inner| inner == Some(number));
    Ok(proc::pids()?.into_iter().filter(is_one).collect())
}

fn holder_by_descriptors(place: &Place) -> io::Result<Option<Holder>> {
    let wanted = place.device_and_inode();
    let me = std::process::id() as i32;
    let pids = proc::pids()?;
    if proc::hides_others(&pids) {
        return Ok(Some(Holder::Hidden));
    }
    let mut unseen = None;
    for pid in pids {
        // Init holds no daemon's lock, and may be closed to root itself.
        if pid == me || pid == 1 {
            continue;
        }
        match has_open(pid, wanted) {
            Ok(true) => return Ok(Some(Holder::Process(pid))),
            Ok(false) => {}
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
