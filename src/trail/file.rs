//! The trail's files.

use super::{Deed, Entry, Hash, Head, print, read};
use crate::store::{Disk, Machine};
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// How large a piece may become, in bytes, and how many are kept besides the one that is written to: some ten thousand
/// actions a piece.
const PIECE: u64 = 4 << 20;
const OLD_PIECES: usize = 3;

/// How the end of the chain was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Begun {
    /// No agent has written to it in this boot.
    pub first_of_boot: bool,
    /// Bytes of an unfinished line that were cut off.
    pub cut: Option<u64>,
    /// The chain had come further in this very boot: to here, and the file ends before.
    pub missing: Option<Head>,
}

/// Lines of the trail, oldest first.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Page {
    pub lines: Vec<String>,
    /// Whether there is more after them.
    pub more: bool,
    /// The end of the chain, as the agent knows it.
    pub head: Head,
}

/// The trail of one node, for its one writer.
#[derive(Debug)]
pub struct Trail {
    folder: PathBuf,
    /// In the run folder: `BOOT SEQ HASH`.
    mark: PathBuf,
    boot: String,
    file: Option<File>,
    head: Head,
    limit: u64,
}

impl Trail {
    /// Finds the end of the chain. `boot` tells this boot from others.
    ///
    /// # Errors
    /// When the folder cannot be read or written.
    pub fn open(folder: &Path, run: &Path, boot: &str) -> io::Result<(Trail, Begun)> {
        Trail::with_limit(folder, run, boot, PIECE)
    }

    pub(super) fn with_limit(
        folder: &Path,
        run: &Path,
        boot: &str,
        limit: u64,
    ) -> io::Result<(Trail, Begun)> {
        let mut trail = Trail {
            folder: folder.to_owned(),
            mark: run.join("trail-head"),
            boot: boot.to_owned(),
            file: None,
            head: Head::default(),
            limit,
        };
        let mark = trail.read_mark();
        let mut begun = Begun { first_of_boot: mark.is_none(), ..Begun::default() };
        let mut found_mark = mark.is_none_or(|mark| mark.seq == 0);
        for piece in pieces(folder) {
            let last = piece == folder.join(name(0));
            let (mut whole, mut at) = (0, 0);
            for line in lines(&piece)? {
                let line = line?;
                at += line.len() as u64;
                if let Some((entry, hash)) = line.strip_suffix(b"\n").and_then(as_entry) {
                    trail.head = Head { seq: entry.seq, hash };
                    found_mark |= mark == Some(trail.head);
                    whole = at;
                }
            }
            if last && whole < at {
                OpenOptions::new().write(true).open(&piece)?.set_len(whole)?;
                begun.cut = Some(at - whole);
            }
        }
        if let Some(mark) = mark.filter(|_| !found_mark) {
            begun.missing = Some(mark);
            // The chain goes on from what is known, so that the gap shows for as long as it is kept.
            trail.head = Head { seq: mark.seq.max(trail.head.seq), hash: mark.hash };
        }
        trail.write_mark()?;
        Ok((trail, begun))
    }

    /// Where the chain has come to.
    pub fn head(&self) -> Head {
        self.head
    }

    /// Appends actions, and returns when they are on the disk.
    ///
    /// # Errors
    /// When one could not be written; how many were.
    pub fn append(&mut self, deeds: impl IntoIterator<Item = Deed>) -> Result<(), (usize, io::Error)> {
        for (done, deed) in deeds.into_iter().enumerate() {
            self.append_one(deed).map_err(|e| (done, e))?;
        }
        let synced = self.file.as_ref().map_or(Ok(()), File::sync_data);
        synced.and_then(|()| self.write_mark()).map_err(|e| (usize::MAX, e))
    }

    fn append_one(&mut self, mut deed: Deed) -> io::Result<()> {
        deed.shorten();
        let entry = Entry { seq: self.head.seq + 1, deed, prev: self.head.hash };
        let (line, hash) = print(&entry)?;
        let mut file = self.file_in_place()?;
        let mut size = file.metadata()?.len();
        if size > 0 && size + line.len() as u64 > self.limit {
            self.set_aside()?;
            file = self.file_in_place()?;
            size = 0;
        }
        if let Err(e) = file.write_all(format!("{line}\n").as_bytes()) {
            let _ = file.set_len(size); // half a line on a full disk must not spoil the next one
            return Err(e);
        }
        self.file = Some(file);
        self.head = Head { seq: entry.seq, hash };
        Ok(())
    }

    /// The open file, if it still is the one of that name: who moved it away is not to have the rest, too.
    fn file_in_place(&mut self) -> io::Result<File> {
        let path = self.folder.join(name(0));
        if let Some(file) = self.file.take()
            && fs::metadata(&path)
                .is_ok_and(|there| file.metadata().is_ok_and(|own| own.ino() == there.ino()))
        {
            return Ok(file);
        }
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(&path)?;
        Machine.sync_folder(&self.folder)?;
        Ok(file)
    }

    fn set_aside(&self) -> io::Result<()> {
        for n in (0..OLD_PIECES).rev() {
            match fs::rename(self.folder.join(name(n)), self.folder.join(name(n + 1))) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
        }
        Ok(())
    }

    /// The end of the chain as it stood last in this boot.
    fn read_mark(&self) -> Option<Head> {
        let text = fs::read_to_string(&self.mark).ok()?;
        let [boot, seq, hash] = text.split_whitespace().collect::<Vec<_>>()[..] else { return None };
        (boot == self.boot).then_some(Head { seq: seq.parse().ok()?, hash: hash.parse().ok()? })
    }

    fn write_mark(&self) -> io::Result<()> {
        let aside = self.mark.with_extension("new");
        let text = format!("{} {} {}\n", self.boot, self.head.seq, self.head.hash);
        Machine.write(&aside, text.as_bytes(), false)?;
        Machine.rename(&aside, &self.mark)
    }

    /// The lines after an entry: whole ones, damaged ones too, about as many bytes as said.
    ///
    /// # Errors
    /// When the files cannot be read.
    pub fn page(&self, after: u64, most: usize) -> io::Result<Page> {
        let (mut page, mut bytes) = (Page { lines: Vec::new(), more: false, head: self.head }, 0);
        let mut seen = 0;
        for piece in pieces(&self.folder) {
            for line in lines(&piece)? {
                let line = line?;
                let text = String::from_utf8_lossy(line.strip_suffix(b"\n").unwrap_or(&line)).into_owned();
                let seq = sequence(&text);
                // What is damaged belongs to the entry before it.
                let wanted = seq.map_or(seen > after || after == 0, |seq| seq > after);
                if !wanted {
                    continue;
                }
                if seq.is_some() && bytes > most {
                    page.more = true;
                    return Ok(page);
                }
                seen = seq.unwrap_or(seen).max(seen);
                bytes += text.len();
                page.lines.push(text);
            }
        }
        Ok(page)
    }
}

/// The number of an entry, without looking at the rest of it.
fn sequence(line: &str) -> Option<u64> {
    line.strip_prefix("{\"seq\":")?.split_once(',')?.0.parse().ok()
}

fn as_entry(line: &[u8]) -> Option<(Entry, Hash)> {
    read(std::str::from_utf8(line).ok()?)
}

fn name(piece: usize) -> String {
    match piece {
        0 => "trail.jsonl".to_owned(),
        n => format!("trail.{n}.jsonl"),
    }
}

/// The pieces that there are, the oldest first.
fn pieces(folder: &Path) -> impl Iterator<Item = PathBuf> {
    let all = (0..=OLD_PIECES).rev().map(|n| folder.join(name(n)));
    all.filter(|path| path.exists()).collect::<Vec<_>>().into_iter()
}

/// The lines with their ends. One that is longer than any entry comes in parts, which are damaged then.
fn lines(path: &Path) -> io::Result<impl Iterator<Item = io::Result<Vec<u8>>>> {
    const LONGEST: u64 = 64 << 10;
    let mut reader = BufReader::new(File::open(path)?);
    Ok(std::iter::from_fn(move || {
        let mut line = Vec::new();
        match io::Read::take(&mut reader, LONGEST).read_until(b'\n', &mut line) {
            Ok(0) => None,
            Ok(_) => Some(Ok(line)),
            Err(e) => Some(Err(e)),
        }
    }))
}
