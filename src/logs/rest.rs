//! How the thread that looks after logs sleeps: for a time, until it is told, or until anything is printed.

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::Duration;

/// Wakes the thread.
pub(super) struct Bell(EventFd);

/// Hears every write into the files of a folder, from when it is made (inotify(7)).
pub(super) struct Ear(Inotify);

impl Bell {
    /// # Errors
    /// When there is no descriptor to be had.
    pub fn new() -> io::Result<Bell> {
        Ok(Bell(EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?))
    }

    pub fn ring(&self) {
        // Only a counter that is full refuses, and then it rings already.
        let _ = self.0.write(1);
    }

    /// Sleeps for so long, or until it rings.
    pub fn sleep(&self, within: Option<Duration>) {
        let within =
            within.map_or(PollTimeout::NONE, |d| PollTimeout::try_from(d).unwrap_or(PollTimeout::MAX));
        wait(&[self.0.as_fd()], within);
        let _ = self.0.read();
    }

    /// Sleeps until something is printed, or until it rings.
    pub fn sleep_until_heard(&self, ear: &Ear) {
        wait(&[self.0.as_fd(), ear.0.as_fd()], PollTimeout::NONE);
        let _ = self.0.read();
    }
}

impl Ear {
    /// # Errors
    /// When the folder is not there, or nobody may watch any more files.
    pub fn at(folder: &Path) -> io::Result<Ear> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC)?;
        inotify.add_watch(folder, AddWatchFlags::IN_MODIFY)?;
        Ok(Ear(inotify))
    }
}

/// A signal ends it early, which costs one look.
fn wait(on: &[BorrowedFd<'_>], within: PollTimeout) {
    let mut on: Vec<_> = on.iter().map(|fd| PollFd::new(*fd, PollFlags::POLLIN)).collect();
    if let Err(e) = poll(&mut on, within)
        && e != Errno::EINTR
    {
        // Never in a circle at full speed.
        std::thread::sleep(Duration::from_secs(1));
    }
}
