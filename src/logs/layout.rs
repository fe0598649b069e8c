//! Which byte of the file has which position, and which positions are in pieces.

use super::Log;
use serde::{Deserialize, Serialize};
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::UNIX_EPOCH;

/// Digits of a piece's name: any position fits, and names sort as positions do.
const DIGITS: usize = 20;

/// Where the file begins. Kept in `NAME.log.state`, which is replaced as a whole and synced: the rename of that file
/// is the instant in which bytes change over from the file to a piece.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Layout {
    /// Of which file; `None` while there is none.
    pub file: Option<FileId>,
    /// The position of the file's first byte.
    pub base: u64,
    /// The first position that counts in the file; what lies before it is in a piece, or was dropped.
    pub from: u64,
    /// So many bytes are to be collapsed: all of them a hole. Whether it was done is seen by the hole.
    pub collapsing: u64,
}

/// Tells a file from one that was put in its place. Inode numbers are used again at once, so its birth belongs to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FileId {
    inode: u64,
    /// Nanoseconds since 1970; 0 where the file system does not tell.
    born: u64,
}

impl FileId {
    fn of(metadata: &Metadata) -> FileId {
        let born = metadata.created().ok().and_then(|t| t.duration_since(UNIX_EPOCH).ok());
        FileId { inode: metadata.ino(), born: born.map_or(0, |d| d.as_nanos() as u64) }
    }
}

impl Layout {
    /// The layout for the file that is there now, and its length. A file that was replaced or cut short by somebody
    /// begins at a position that was not used yet, as far as that is known (`last_mark`).
    pub fn of_file(self, there: Option<&Metadata>, last_mark: impl FnOnce() -> u64) -> (Layout, u64) {
        let Some(metadata) = there else {
            let begin = if self.file.is_some() { self.from.max(last_mark()) } else { self.from };
            return (Layout { base: begin, from: begin, ..Layout::default() }, 0);
        };
        let (file, length) = (FileId::of(metadata), metadata.len());
        let same = self.file.is_none_or(|known| known == file);
        if same && self.from - self.base <= length {
            return (Layout { file: Some(file), ..self }, length);
        }
        let begin = self.from.max(last_mark());
        (Layout { file: Some(file), base: begin, from: begin, collapsing: 0 }, length)
    }

    /// How much of the file's beginning does not count.
    pub fn head(&self) -> u64 {
        self.from - self.base
    }
}

/// A piece: which positions it holds, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub start: u64,
    pub length: u64,
    pub path: PathBuf,
}

impl Log {
    /// The pieces that are there, oldest first.
    pub(super) fn pieces(&self) -> io::Result<Vec<Piece>> {
        let (Some(folder), Some(name)) = (self.path.parent(), self.path.file_name()) else {
            return Ok(Vec::new());
        };
        let prefix = format!("{}.", name.to_string_lossy());
        let entries = match fs::read_dir(folder) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            read => read?,
        };
        let mut pieces = Vec::new();
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name();
            let Some(digits) = name.to_str().and_then(|n| n.strip_prefix(&prefix)) else { continue };
            if digits.len() != DIGITS || !digits.bytes().all(|b| b.is_ascii_digit()) {
                continue;
            }
            let Ok(start) = digits.parse() else { continue };
            // One that was dropped between the two calls is no piece any more.
            let Ok(metadata) = entry.metadata() else { continue };
            pieces.push(Piece { start, length: metadata.len(), path: entry.path() });
        }
        pieces.sort_by_key(|p| p.start);
        Ok(pieces)
    }

    pub(super) fn piece_path(&self, start: u64) -> PathBuf {
        self.beside(&format!(".{start:0DIGITS$}"))
    }
}
