//! A rotation, step by step. A kill after any step, or within one, loses no line and doubles none.
//!
//! | step done | what the next agent finds | and makes of it |
//! |---|---|---|
//! | `Begun`, `Copied` | half a copy, or a whole one, called `.part` | removes it |
//! | `Named` | a piece that begins where the file still does | removes it: the state says that the file has these bytes |
//! | `Committed` | a head that is in a piece, and no hole yet | makes it a hole |
//! | `Punched` | a hole | collapses it |
//! | `Intended` | a hole, and the word that it will be collapsed | the same |
//! | `Collapsed` | no hole, and that word | it was collapsed: nothing else takes a hole out of a file |
//! | `Settled` | all done, but for the blanks | writes them |

use super::layout::Layout;
use super::{Log, LogError, cannot};
use crate::crash;
use crate::store::Slot;
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use nix::unistd::{Whence, lseek};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::sync::atomic::Ordering::Relaxed;

/// How far back from the cut a line's end is looked for. A longer line is cut in two.
const LONGEST_LINE: u64 = 1 << 20;
/// How much is read at once when looking for it.
const BLOCK: u64 = 64 << 10;

/// How far a rotation has come; in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// There is something to rotate.
    Begun,
    /// The piece is whole and synced, under a name that does not count.
    Copied,
    /// The piece has its name.
    Named,
    /// The state says that these bytes are in the piece. Up to here the file has them.
    Committed,
    /// They are a hole in the file.
    Punched,
    /// The state says that the hole will be collapsed.
    Intended,
    /// It was.
    Collapsed,
    /// The state says so.
    Settled,
}

impl Step {
    pub const ALL: [Step; 8] = [
        Step::Begun,
        Step::Copied,
        Step::Named,
        Step::Committed,
        Step::Punched,
        Step::Intended,
        Step::Collapsed,
        Step::Settled,
    ];
}

/// Is told each step once it is done. An error ends the rotation there, as a kill would.
type Told<'a> = &'a mut dyn FnMut(Step) -> io::Result<()>;

impl Log {
    /// Brings the file down to `size` bytes at most, its head into pieces of at most that size, and keeps `keep` of
    /// them. Returns how many pieces were made. What is more than all that may be kept is dropped without a copy.
    ///
    /// Takes as long as copying and syncing does. To be called by one thread only.
    pub fn rotate(&self, size: u64, keep: u32) -> Result<usize, LogError> {
        self.rotate_told(size, keep, &mut |_| Ok(()))
    }

    /// As [`Log::rotate`], and tells each step: for tests, which end it there.
    pub fn rotate_told(&self, size: u64, keep: u32, told: Told<'_>) -> Result<usize, LogError> {
        let (mut layout, length) = self.locate()?;
        if length == 0 {
            return Ok(0);
        }
        let file = self.open()?;
        let unfinished = !self.tidied.load(Relaxed);
        if unfinished {
            self.tidy(&layout)?;
            self.punch(&file, &layout)?;
        }
        let (mut made, head_before) = (0, layout.head());
        let end = layout.base + length;
        if end - layout.from > size {
            self.step(Step::Begun, told)?;
            // From now on pieces without a state mean that the state was lost.
            if !self.state().path().exists() {
                self.save(&layout)?;
            }
            let most = size.saturating_mul(u64::from(keep) + 1);
            if end - layout.from > most {
                let from = self.cut(&file, &layout, end - most)?;
                self.commit(&mut layout, from)?;
                self.prune(&layout, 0)?;
                self.punch(&file, &layout)?;
            }
            while end - layout.from > size {
                let from = self.cut(&file, &layout, layout.from + size)?;
                if keep > 0 {
                    // The oldest goes first: on a full disk it makes the room.
                    self.prune(&layout, keep as usize - 1)?;
                    self.copy(&file, &layout, from, told)?;
                }
                self.commit(&mut layout, from)?;
                self.step(Step::Committed, told)?;
                self.punch(&file, &layout)?;
                self.step(Step::Punched, told)?;
                made += 1;
            }
            self.prune(&layout, keep as usize)?;
        }
        if unfinished || layout.head() > head_before {
            self.collapse(&file, &mut layout, told)?;
            self.fill(&file, &layout)?;
            self.tidied.store(true, Relaxed);
        }
        Ok(made)
    }

    fn step(&self, step: Step, told: Told<'_>) -> Result<(), LogError> {
        crash::here(format_args!("rotated {step:?}"));
        told(step).map_err(cannot("rotate", &self.path))
    }

    fn open(&self) -> Result<File, LogError> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).custom_flags(libc::O_NOFOLLOW);
        options.open(&self.path).map_err(cannot("open", &self.path))
    }

    /// Removes what a rotation that was cut off had not committed.
    fn tidy(&self, layout: &Layout) -> Result<(), LogError> {
        let pieces = self.pieces().map_err(cannot("list the pieces of", &self.path))?;
        let uncommitted = pieces.into_iter().filter(|p| p.start >= layout.from).map(|p| p.path);
        for path in uncommitted.chain([self.beside(".part")]) {
            match fs::remove_file(&path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(cannot("remove", &path)(e)),
                _ => {}
            }
        }
        Ok(())
    }

    /// The last end of a line up to `limit`; `limit` itself where a line is too long.
    fn cut(&self, file: &File, layout: &Layout, limit: u64) -> Result<u64, LogError> {
        let lowest = layout.from.max(limit.saturating_sub(LONGEST_LINE));
        let mut buffer = vec![0; BLOCK as usize];
        let mut high = limit;
        while high > lowest {
            let low = lowest.max(high.saturating_sub(BLOCK));
            let part = &mut buffer[..(high - low) as usize];
            file.read_exact_at(part, low - layout.base).map_err(cannot("read", &self.path))?;
            if let Some(at) = part.iter().rposition(|b| *b == b'\n') {
                return Ok(low + at as u64 + 1);
            }
            high = low;
        }
        Ok(limit)
    }

    /// Copies what lies before `until` into a piece.
    fn copy(&self, file: &File, layout: &Layout, until: u64, told: Told<'_>) -> Result<(), LogError> {
        let part = self.beside(".part");
        let length = until - layout.from;
        let write = || {
            let mut options = OpenOptions::new();
            options.write(true).create(true).truncate(true).mode(0o640).custom_flags(libc::O_NOFOLLOW);
            let mut out = options.open(&part)?;
            let mut head = file;
            head.seek(SeekFrom::Start(layout.head()))?;
            if io::copy(&mut head.take(length), &mut out)? != length {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            // Before it counts: a power cut must not leave an empty piece and a hole.
            out.sync_all()
        };
        write().map_err(|e| {
            let _ = fs::remove_file(&part); // half of it would only fill the disk further
            cannot("write", &part)(e)
        })?;
        self.step(Step::Copied, told)?;
        let piece = self.piece_path(layout.from);
        fs::rename(&part, &piece).map_err(cannot("name", &piece))?;
        self.step(Step::Named, told)
    }

    /// From here on the bytes before `from` are no longer the file's.
    fn commit(&self, layout: &mut Layout, from: u64) -> Result<(), LogError> {
        let new = Layout { from, ..*layout };
        self.save(&new)?;
        self.replace(layout, new)
    }

    /// Puts a layout in force, unless somebody has replaced or truncated the file meanwhile.
    fn replace(&self, layout: &mut Layout, new: Layout) -> Result<(), LogError> {
        let mut known = self.lock();
        if *known != Some(*layout) {
            let changed = io::Error::other("it was replaced or truncated meanwhile");
            return Err(cannot("rotate", &self.path)(changed));
        }
        *known = Some(new);
        *layout = new;
        Ok(())
    }

    /// Makes a hole of what does not count any more. Doing it twice does no harm.
    fn punch(&self, file: &File, layout: &Layout) -> Result<(), LogError> {
        if layout.head() == 0 {
            return Ok(());
        }
        let how = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        fallocate(file, how, 0, layout.head() as i64)
            .map_err(|e| cannot("free the rotated head of", &self.path)(e.into()))
    }

    /// Takes the hole out of the file, as far as it has whole blocks, where the file system can.
    fn collapse(&self, file: &File, layout: &mut Layout, told: Told<'_>) -> Result<(), LogError> {
        let block = self.block(file)?;
        let length = layout.head() / block * block;
        // A file system that cannot tell a hole could not tell later whether it was collapsed.
        if length == 0 || !self.collapses.load(Relaxed) || hole(file) < length {
            return Ok(());
        }
        // What follows the hole must be on the disk before it can move: better now than while appends are held off.
        file.sync_data().map_err(cannot("sync", &self.path))?;
        self.save(&Layout { collapsing: length, ..*layout })?;
        self.step(Step::Intended, told)?;
        let done = {
            let mut known = self.lock();
            let done = fallocate(file, FallocateFlags::FALLOC_FL_COLLAPSE_RANGE, 0, length as i64);
            if done.is_ok() {
                layout.base += length;
                *known = Some(*layout);
            }
            done
        };
        match done {
            Ok(()) => {}
            Err(Errno::EOPNOTSUPP | Errno::EINVAL | Errno::ENOSYS) => {
                self.collapses.store(false, Relaxed);
                return self.save(layout);
            }
            Err(e) => return Err(cannot("collapse the head of", &self.path)(e.into())),
        }
        self.step(Step::Collapsed, told)?;
        self.save(layout)?;
        self.step(Step::Settled, told)
    }

    /// What is left of the head after a collapse is less than a block, and zeros. Blanks are better for grep and less.
    fn fill(&self, file: &File, layout: &Layout) -> Result<(), LogError> {
        let head = layout.head();
        if head == 0 || head >= self.block(file)? {
            return Ok(());
        }
        let mut blanks = vec![b' '; head as usize];
        blanks[head as usize - 1] = b'\n';
        file.write_all_at(&blanks, 0).map_err(cannot("write", &self.path))
    }

    fn block(&self, file: &File) -> Result<u64, LogError> {
        let metadata = file.metadata().map_err(cannot("look at", &self.path))?;
        Ok(metadata.blksize().max(1))
    }

    /// Drops the oldest pieces until this many are left.
    fn prune(&self, layout: &Layout, keep: usize) -> Result<(), LogError> {
        let mut pieces = self.pieces().map_err(cannot("list the pieces of", &self.path))?;
        pieces.retain(|p| p.start < layout.from);
        let too_many = pieces.len().saturating_sub(keep);
        for piece in &pieces[..too_many] {
            fs::remove_file(&piece.path).map_err(cannot("remove", &piece.path))?;
        }
        Ok(())
    }

    // --- the state ---

    pub(super) fn state(&self) -> Slot<Layout> {
        Slot::durable(self.beside(".state"))
    }

    pub(super) fn save(&self, layout: &Layout) -> Result<(), LogError> {
        let state = self.state();
        state.write(layout).map_err(|e| cannot("write", state.path())(e.cause))
    }

    /// The layout as the disk has it. Changes nothing.
    pub(super) fn read_layout(&self) -> Result<Layout, LogError> {
        let state = self.state();
        let mut layout = match state.read() {
            Ok(Some(stored)) if stored.torn.is_none() => stored.value,
            Ok(None) if self.pieces().is_ok_and(|p| p.is_empty()) => return Ok(Layout::default()),
            Err(e) if e.cause.kind() != io::ErrorKind::InvalidData => {
                return Err(cannot("read", state.path())(e.cause));
            }
            _ => return self.guess(),
        };
        if layout.collapsing > 0 {
            if hole(&self.open()?) < layout.collapsing {
                layout.base += layout.collapsing;
            }
            layout.collapsing = 0;
        }
        Ok(layout)
    }

    /// Without a state that can be trusted (an old copy would not do: it could take live bytes for rotated ones): the
    /// file begins with its first data, where the last piece ends. Lines may be doubled by that, and none is lost.
    fn guess(&self) -> Result<Layout, LogError> {
        let pieces = self.pieces().map_err(cannot("list the pieces of", &self.path))?;
        let end = pieces.last().map_or(0, |p| p.start + p.length);
        let head = match File::open(&self.path) {
            Ok(file) => hole(&file) + zeros(&file).map_err(cannot("read", &self.path))?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => 0,
            Err(e) => return Err(cannot("open", &self.path)(e)),
        };
        let from = end.max(head);
        Ok(Layout { base: from - head, from, ..Layout::default() })
    }
}

/// How long the hole is with which a file begins.
fn hole(file: &File) -> u64 {
    match lseek(file, 0, Whence::SeekData) {
        Ok(data) => data as u64,
        // No data at all.
        Err(Errno::ENXIO) => file.metadata().map_or(0, |m| m.len()),
        Err(_) => 0,
    }
}

/// A hole ends within a block, whose beginning is zeros then: how many.
fn zeros(file: &File) -> io::Result<u64> {
    let mut block = vec![0; file.metadata()?.blksize().max(1) as usize];
    let got = file.read_at(&mut block, hole(file))?;
    Ok(block[..got].iter().take_while(|b| **b == 0).count() as u64)
}

#[cfg(test)]
mod tests;
