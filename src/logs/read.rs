//! Reading by position, over pieces and the file, while it is rotated.
//!
//! Nothing is locked while bytes are read: the layout is looked at before and after, and what was moved meanwhile is
//! read again.

use super::{Log, LogError, cannot};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// How often a read that a rotation came into is begun anew. A rotation takes milliseconds, a read microseconds.
const TRIES: usize = 100;
/// How much is read at once when lines are counted from the end.
const BLOCK: u64 = 64 << 10;
/// How far back they are counted at most.
const FARTHEST: u64 = 64 << 20;

/// Some bytes of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Where they begin: beyond what was asked for when that is not kept any more.
    pub at: u64,
    pub bytes: Vec<u8>,
    /// Where the log ended when they were read.
    pub end: u64,
}

impl Chunk {
    /// Where to read on.
    pub fn next(&self) -> u64 {
        self.at + self.bytes.len() as u64
    }
}

impl Log {
    /// Whole lines from a position on, of `most` bytes at most. A line that has no end yet is left out, unless
    /// `partial` asks for it or it is longer than `most`. Nothing is left at the end of the log.
    pub fn lines(&self, at: u64, most: usize, partial: bool) -> Result<Chunk, LogError> {
        let mut chunk = self.read(at, most)?;
        // A piece ends where it ends: the rest may be in the next one.
        while !chunk.bytes.is_empty() && chunk.bytes.len() < most && chunk.next() < chunk.end {
            let more = self.read(chunk.next(), most - chunk.bytes.len())?;
            if more.at != chunk.next() || more.bytes.is_empty() {
                break;
            }
            chunk.bytes.extend(more.bytes);
            chunk.end = more.end;
        }
        let last_line = chunk.bytes.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
        let too_long = last_line == 0 && chunk.bytes.len() == most;
        let at_end = chunk.next() >= chunk.end;
        if !(too_long || partial && at_end) {
            chunk.bytes.truncate(last_line);
        }
        Ok(chunk)
    }

    /// Where the last `count` lines begin, counted over 64 MiB at most.
    pub fn last_lines(&self, count: usize) -> Result<u64, LogError> {
        let end = self.end()?;
        let lowest = end.saturating_sub(FARTHEST);
        let (mut high, mut ends) = (end, 0);
        if count == 0 {
            return Ok(end);
        }
        while high > lowest {
            let low = lowest.max(high.saturating_sub(BLOCK));
            let (at, bytes) = self.between(low, high)?;
            for (i, _) in bytes.iter().enumerate().rev().filter(|(_, b)| **b == b'\n') {
                // The end of the very last line does not begin one.
                let begins = at + i as u64 + 1;
                if begins < end {
                    ends += 1;
                    if ends == count {
                        return Ok(begins);
                    }
                }
            }
            if at > low {
                return Ok(at); // older ones are not kept
            }
            high = low;
        }
        Ok(lowest)
    }

    /// The last lines printed since a position, oldest first: at most `lines` of them, and of at most the last
    /// `most` bytes. A line that the limit cuts is left out, unless it is the only one.
    pub fn last_words(&self, since: u64, lines: usize, most: u64) -> Result<Vec<String>, LogError> {
        let end = self.end()?;
        let low = since.max(end.saturating_sub(most));
        let (at, bytes) = self.between(low, end)?;
        let text = String::from_utf8_lossy(&bytes);
        let mut found: Vec<&str> = text.lines().collect();
        if at > since && found.len() > 1 {
            found.remove(0);
        }
        let skip = found.len().saturating_sub(lines);
        Ok(found.split_off(skip).into_iter().map(str::to_owned).collect())
    }

    /// What is kept of these positions, and where it begins: all up to `high`, or nothing.
    fn between(&self, low: u64, high: u64) -> Result<(u64, Vec<u8>), LogError> {
        let (mut begin, mut bytes) = (low, Vec::new());
        while begin + (bytes.len() as u64) < high {
            let next = begin + bytes.len() as u64;
            let chunk = self.read(next, (high - next) as usize)?;
            if chunk.bytes.is_empty() {
                break;
            }
            if chunk.at != next {
                (begin, bytes) = (chunk.at, Vec::new());
                if begin >= high {
                    return Ok((high, Vec::new()));
                }
            }
            bytes.extend(chunk.bytes);
        }
        bytes.truncate(high.saturating_sub(begin) as usize);
        Ok((begin, bytes))
    }

    /// At most `most` bytes from a position on, or from the first one after it that is kept. Fewer where a piece ends,
    /// none at the end.
    fn read(&self, at: u64, most: usize) -> Result<Chunk, LogError> {
        for _ in 0..TRIES {
            let (layout, length) = self.locate()?;
            let end = layout.base + length;
            let mut at = at.min(end);
            if at < layout.from {
                let pieces = self.pieces().map_err(cannot("list the pieces of", &self.path))?;
                let piece = pieces.iter().find(|p| p.start < layout.from && at < p.start + p.length);
                match piece {
                    Some(piece) => {
                        at = at.max(piece.start);
                        match File::open(&piece.path).and_then(|f| read_at(&f, at - piece.start, most)) {
                            Ok(bytes) => return Ok(Chunk { at, bytes, end }),
                            Err(e) if e.kind() == io::ErrorKind::NotFound => continue, // dropped just now
                            Err(e) => return Err(cannot("read", &piece.path)(e)),
                        }
                    }
                    None => at = layout.from,
                }
            }
            if length == 0 {
                return Ok(Chunk { at, bytes: Vec::new(), end });
            }
            let most = most.min((end - at) as usize);
            let bytes = File::open(&self.path)
                .and_then(|f| read_at(&f, at - layout.base, most))
                .map_err(cannot("read", &self.path))?;
            let (after, _) = self.locate()?;
            if after.file == layout.file && after.base == layout.base && after.from <= at {
                return Ok(Chunk { at, bytes, end });
            }
        }
        let rotated = io::Error::other("it is rotated faster than it can be read");
        Err(cannot("read", &self.path)(rotated))
    }
}

fn read_at(file: &File, offset: u64, most: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; most];
    let mut got = 0;
    while got < most {
        match file.read_at(&mut bytes[got..], offset + got as u64) {
            Ok(0) => break,
            Ok(n) => got += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    bytes.truncate(got);
    Ok(bytes)
}
