//! What services print: one file an instance, written by the service itself, rotated without a writer in between.
//!
//! A service holds its log open for its whole life and appends to it (`O_APPEND`), so that no line is lost to the
//! agent's death. Renaming the file away would not redirect it; so a rotation copies the file's head into a *piece*
//! beside it and takes the head out of the file, under the writer's hands:
//!
//! 1. *punch*: the head becomes a hole. Every file system that matters can (ext4, xfs, btrfs, tmpfs), it frees the
//!    space, and it moves nothing. With this alone every promise is kept; but the file's length keeps growing, and
//!    `cat` shows the hole as zeros.
//! 2. *collapse*: the hole is taken out (ext4, xfs). The kernel holds off appends meanwhile (1 to 7 ms were measured
//!    under a writer at full speed), so none is lost and none doubled.
//!
//! A *position* counts the bytes that a log ever had, from its birth. It survives rotations and restarts; readers and
//! the agent's journal speak of positions only. A piece is called after the position of its first byte, in twenty
//! digits: names never change, and `cat NAME.log.0* NAME.log` shows all that is kept, in order.
//!
//! | file | holds |
//! |---|---|
//! | `NAME.log` | what was printed last; its beginning may be a hole, or a line of blanks shorter than a block |
//! | `NAME.log.00000000000010485760` | a piece: whole lines, unless a line is longer than a megabyte |
//! | `NAME.log.state` | where the file begins ([`layout::Layout`]): the one truth of which bytes are in pieces |
//! | `NAME.log.times` | at which wall-clock time the log had which length ([`times`]) |
//!
//! [`Keeper`] is the one who rotates and notes.
//!
//! Not promised: what a service writes through an own open of `/dev/stdout` without `O_APPEND`; that everything
//! between two looks fits into `size` (nobody stops a service from printing); positions after an operator has removed
//! or truncated the file (they only never run backwards over what is in pieces).

mod keeper;
mod layout;
mod read;
mod rest;
mod rotate;
mod times;

pub use keeper::{Keeper, Trouble};
pub use read::Chunk;
pub use rotate::Step;

use layout::Layout;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A log could not be read or rotated.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what} {}: {cause}", .path.display())]
pub struct LogError {
    what: &'static str,
    path: PathBuf,
    #[source]
    pub cause: io::Error,
}

fn cannot(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LogError {
    let path = path.to_owned();
    move |cause| LogError { what, path, cause }
}

/// The log of one instance. Any thread may read; one rotates.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    /// `None` until it was read from the disk. Held while the file is collapsed and for reading a few numbers, never
    /// while bytes are copied.
    layout: Mutex<Option<Layout>>,
    /// Cleared once the file system has said that it cannot.
    collapses: AtomicBool,
    /// Whether what an earlier agent left of a rotation was completed.
    tidied: AtomicBool,
}

impl Log {
    /// The log in this file, which need not exist yet. Nothing is read before it is needed.
    pub fn new(path: impl Into<PathBuf>) -> Log {
        Log {
            path: path.into(),
            layout: Mutex::new(None),
            collapses: AtomicBool::new(true),
            tidied: AtomicBool::new(false),
        }
    }

    /// As [`Log::new`], for one that has no file of ours beside it: nothing was ever rotated, and the disk need not be
    /// asked.
    pub fn never_rotated(path: impl Into<PathBuf>) -> Log {
        Log { layout: Mutex::new(Some(Layout::default())), tidied: AtomicBool::new(true), ..Log::new(path) }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The position at which the next byte will be. Takes some microseconds, and at most as long as a collapse of this
    /// very log.
    pub fn end(&self) -> Result<u64, LogError> {
        self.locate().map(|(layout, length)| layout.base + length)
    }

    /// As [`Log::end`], and how many bytes are in the file itself.
    fn extent(&self) -> Result<(u64, u64), LogError> {
        self.locate().map(|(layout, length)| {
            let end = layout.base + length;
            (end, end - layout.from)
        })
    }

    /// Whether an earlier agent may have left a rotation half done.
    fn has_unfinished(&self) -> bool {
        !self.tidied.load(Relaxed)
    }

    /// The layout as of now, and the length of the file.
    fn locate(&self) -> Result<(Layout, u64), LogError> {
        let mut known = self.lock();
        let there = match fs::metadata(&self.path) {
            Ok(metadata) => Some(metadata),
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(e) => return Err(cannot("look at", &self.path)(e)),
        };
        let layout = match *known {
            Some(layout) => layout,
            None => self.read_layout()?,
        };
        let (now, length) = layout.of_file(there.as_ref(), || self.last_mark());
        if now.base != layout.base {
            // Somebody replaced or truncated the file. Kept, so that the next agent counts on from the same place; a
            // disk that does not take it changes nothing for this one.
            let _ = self.save(&now);
        }
        *known = Some(now);
        Ok((now, length))
    }

    fn lock(&self) -> MutexGuard<'_, Option<Layout>> {
        // Whoever panicked left a whole value: it is replaced at once, never changed in steps.
        self.layout.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn beside(&self, suffix: &str) -> PathBuf {
        let mut name = self.path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    }
}
