//! What must survive: small files that are never seen half written, the log of events, and the lock on the folder.
//!
//! | flavour | survives | how |
//! |---|---|---|
//! | [`Slot::volatile`] | the agent's death | written aside, renamed; for a memory file system, so no sync (about 20 µs) |
//! | [`Slot::growing`] | the agent's death | added to the copies before it; for what is written often (about 8 µs) |
//! | [`Slot::durable`] | a power cut | also synced, the folder too, and the copy before it kept as `NAME.prev` |
//!
//! A copy of a slot's value is one line `clusterd 1 CRC32 LENGTH`, then one of JSON: an operator can read it, and a torn one is
//! noticed. The last one that is whole counts.

mod disk;

pub use disk::{Disk, Machine};

use crate::crash::{self, Done};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::marker::PhantomData;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// First word of a slot's file, and the version of its layout.
const MAGIC: &str = "clusterd 1";
/// Room for a usual value of a slot, in bytes: its text grows in few steps.
const USUAL_SLOT: usize = 2048;
/// The largest value of a slot, in bytes. A unit with its needs and evidence is a few kilobytes.
const MAX_SLOT: u64 = 16 << 20;
/// A growing slot whose copies take so many bytes is begun anew with the next one.
const MAX_COPIES: u64 = 16 << 10;
/// A log of events larger than this is set aside as `events.1.jsonl`, replacing the one set aside before.
const MAX_EVENTS: u64 = 4 << 20;

/// Something could not be stored or read back.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what} {}: {cause}", .path.display())]
pub struct StoreError {
    what: &'static str,
    pub path: PathBuf,
    /// Its kind tells a full disk (`StorageFull`, `QuotaExceeded`) from a read-only one (`ReadOnlyFilesystem`).
    #[source]
    pub cause: io::Error,
}

impl StoreError {
    /// Whether the disk is full: room has to be made before it can work.
    pub fn is_full(&self) -> bool {
        matches!(self.cause.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    }
}

fn cannot(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    move |cause| StoreError { what, path, cause }
}

/// What a slot held.
#[derive(Debug, PartialEq, Eq)]
pub struct Stored<T> {
    pub value: T,
    /// Set when the current copy was torn and the previous one was used: a sentence for the agent's `problems`.
    pub torn: Option<String>,
}

/// One small value in one file, which always gives back a whole one.
#[derive(Clone, Debug)]
pub struct Slot<T> {
    path: PathBuf,
    /// Survives a power cut.
    durable: bool,
    /// Takes further copies behind those that are there.
    grows: bool,
    value: PhantomData<fn(T) -> T>,
}

impl<T: Serialize + DeserializeOwned> Slot<T> {
    /// For a memory file system: survives the agent, not the machine.
    pub fn volatile(path: impl Into<PathBuf>) -> Slot<T> {
        Slot { path: path.into(), durable: false, grows: false, value: PhantomData }
    }

    /// As [`Slot::volatile`], at less than half the price; copies before the last one stay for a while.
    pub fn growing(path: impl Into<PathBuf>) -> Slot<T> {
        Slot { grows: true, ..Slot::volatile(path) }
    }

    /// For a disk: survives a power cut at any instant. A write takes as long as the disk's syncs do (three).
    pub fn durable(path: impl Into<PathBuf>) -> Slot<T> {
        Slot { durable: true, ..Slot::volatile(path) }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Replaces the value; makes the folder when it is missing. After an error the value before is still there.
    pub fn write(&self, value: &T) -> Result<(), StoreError> {
        self.write_on(&mut Machine, value)
    }

    /// As [`Slot::write`], on any disk.
    ///
    /// # Errors
    /// As [`Slot::write`].
    pub fn write_on(&self, disk: &mut impl Disk, value: &T) -> Result<(), StoreError> {
        let mut json = Vec::with_capacity(USUAL_SLOT);
        serde_json::to_writer(&mut json, value).map_err(|e| cannot("encode", &self.path)(e.into()))?;
        // Whoever died over the copy before has left no end of a line.
        let begin = if self.grows { "\n" } else { "" };
        let head = format!("{begin}{MAGIC} {:08x} {}\n", crc32fast::hash(&json), json.len());
        let bytes = [head.as_bytes(), &json, b"\n"].concat();
        if self.grows && disk.append(&self.path, &bytes, MAX_COPIES).map_err(cannot("add to", &self.path))? {
            crash::here(Done::Appended);
            return Ok(());
        }

        let aside = self.beside(".new");
        match disk.write(&aside, &bytes, self.durable) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                disk.make_folder(self.folder()).map_err(cannot("make", self.folder()))?;
                disk.write(&aside, &bytes, self.durable)
            }
            done => done,
        }
        .map_err(|e| {
            let _ = disk.remove(&aside); // half of it would only fill the disk further
            cannot("write", &aside)(e)
        })?;
        crash::here(Done::Aside);
        if self.durable {
            self.keep_previous(disk).map_err(cannot("keep the previous copy of", &self.path))?;
            crash::here(Done::Previous);
        }
        disk.rename(&aside, &self.path).map_err(cannot("replace", &self.path))?;
        crash::here(Done::Replaced);
        self.sync_folder(disk)
    }

    /// Reads the value; `None` when nothing was ever written (or it was removed).
    pub fn read(&self) -> Result<Option<Stored<T>>, StoreError> {
        self.read_on(&mut Machine)
    }

    /// As [`Slot::read`], on any disk.
    ///
    /// # Errors
    /// As [`Slot::read`].
    pub fn read_on(&self, disk: &mut impl Disk) -> Result<Option<Stored<T>>, StoreError> {
        let previous = self.beside(".prev");
        let torn = match read_copy(disk, &self.path) {
            Ok(Some(value)) => return Ok(Some(Stored { value, torn: None })),
            Ok(None) if !self.durable || !disk.exists(&previous) => return Ok(None),
            Ok(None) => "it is missing".to_owned(),
            Err(e) if e.kind() == io::ErrorKind::InvalidData => e.to_string(),
            Err(e) => return Err(cannot("read", &self.path)(e)),
        };
        let shown = self.path.display();
        let cause = |also: &str| io::Error::new(io::ErrorKind::InvalidData, format!("{torn}{also}"));
        if !self.durable {
            return Err(cannot("read", &self.path)(cause("")));
        }
        match read_copy(disk, &previous) {
            Ok(Some(value)) => {
                Ok(Some(Stored { value, torn: Some(format!("{shown}: {torn}; the copy before it is used")) }))
            }
            Ok(None) => Err(cannot("read", &self.path)(cause(", and there is no previous copy"))),
            Err(e) => Err(cannot("read", &self.path)(cause(&format!(", and the previous copy: {e}")))),
        }
    }

    /// Forgets the value. One that is not there is no error.
    pub fn remove(&self) -> Result<(), StoreError> {
        // The previous copy goes first: it must not come back as the value.
        for path in [self.beside(".prev"), self.beside(".new"), self.path.clone()] {
            match fs::remove_file(&path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(cannot("remove", &path)(e)),
                _ => {}
            }
        }
        if self.folder().is_dir() { self.sync_folder(&mut Machine) } else { Ok(()) }
    }

    /// The current copy stays as `.prev` under a second name, so that there is no instant without a current one. A
    /// torn one is not worth keeping: it would replace the last good one.
    fn keep_previous(&self, disk: &mut impl Disk) -> io::Result<()> {
        if !matches!(read_copy::<serde::de::IgnoredAny>(disk, &self.path), Ok(Some(_))) {
            return Ok(());
        }
        let previous = self.beside(".prev");
        match disk.remove(&previous) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        disk.link(&self.path, &previous)
    }

    fn sync_folder(&self, disk: &mut impl Disk) -> Result<(), StoreError> {
        if !self.durable {
            return Ok(());
        }
        disk.sync_folder(self.folder()).map_err(cannot("sync", self.folder()))
    }

    fn folder(&self) -> &Path {
        match self.path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        }
    }

    fn beside(&self, suffix: &str) -> PathBuf {
        let mut name = OsString::from(self.path.as_os_str());
        name.push(suffix);
        PathBuf::from(name)
    }
}

/// Reads and checks one copy. `InvalidData` when it is torn or not understood.
fn read_copy<T: DeserializeOwned>(disk: &mut impl Disk, path: &Path) -> io::Result<Option<T>> {
    let bytes = match disk.read(path, MAX_SLOT) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        read => read?,
    };
    let torn = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
    let json = last_whole(&bytes).map_err(|what| torn(what.to_owned()))?;
    serde_json::from_slice(json).map(Some).map_err(|e| torn(format!("it is whole but not understood ({e})")))
}

/// The last copy that is whole, or what is wrong with the first.
fn last_whole(bytes: &[u8]) -> Result<&[u8], &'static str> {
    let bytes = bytes.strip_prefix(b"\n").unwrap_or(bytes);
    let begins = |at: &usize| bytes[..*at].ends_with(b"\n") && bytes[*at..].starts_with(MAGIC.as_bytes());
    let mut later = (1..bytes.len()).rev().filter(begins).map(|at| checked(&bytes[at..]));
    later.find(Result::is_ok).unwrap_or_else(|| checked(bytes))
}

fn checked(bytes: &[u8]) -> Result<&[u8], &'static str> {
    if bytes.is_empty() {
        return Err("it is empty");
    }
    let end = bytes.iter().position(|b| *b == b'\n').ok_or("it is cut short")?;
    let head = std::str::from_utf8(&bytes[..end]).map_err(|_| "its first line is damaged")?;
    let (sum, length) = head
        .strip_prefix(MAGIC)
        .and_then(|rest| rest.trim_start().split_once(' '))
        .and_then(|(sum, length)| Some((u32::from_str_radix(sum, 16).ok()?, length.parse::<usize>().ok()?)))
        .ok_or("its first line is not understood")?;
    let json = bytes[end + 1..].get(..length).ok_or("it is cut short")?;
    if crc32fast::hash(json) == sum { Ok(json) } else { Err("its checksum does not match") }
}

/// An append-only log of JSON lines, each an object with a number `seq` that counts up by one.
///
/// It is bounded: at most twice 4 MiB. An append is not synced (that would stop the agent for milliseconds): hand
/// [`EventLog::syncer`] to a thread now and then.
#[derive(Debug)]
pub struct EventLog {
    path: PathBuf,
    old: PathBuf,
    file: File,
    size: u64,
    next: u64,
    limit: u64,
}

#[derive(serde::Deserialize)]
struct Seq {
    seq: u64,
}

impl EventLog {
    /// Opens `events.jsonl` in the folder, which is made. A last line that a power cut tore is cut off.
    pub fn open(folder: &Path) -> Result<EventLog, StoreError> {
        EventLog::with_limit(folder, MAX_EVENTS)
    }

    fn with_limit(folder: &Path, limit: u64) -> Result<EventLog, StoreError> {
        fs::create_dir_all(folder).map_err(cannot("make", folder))?;
        let path = folder.join("events.jsonl");
        let old = folder.join("events.1.jsonl");
        let (file, size) = open_log(&path).map_err(cannot("open", &path))?;
        let last = |p: &Path| last_seq(p).map_err(cannot("read", p));
        let next = last(&path)?.max(last(&old)?).map_or(1, |seq| seq + 1);
        Ok(EventLog { path, old, file, size, next, limit })
    }

    /// The number that the next event is to have.
    pub fn next_seq(&self) -> u64 {
        self.next
    }

    /// Appends events, each the JSON of one without an end of a line, with one write. The first has [`EventLog::next_seq`]
    /// as its `seq`, each further one the next.
    pub fn append<'e>(&mut self, events: impl IntoIterator<Item = &'e str>) -> Result<(), StoreError> {
        let mut lines = Vec::new();
        for event in events {
            self.next += 1; // a number whose event could not be written is not used again: the gap tells
            let size = self.size + lines.len() as u64;
            if size > 0 && size + event.len() as u64 + 1 > self.limit {
                self.write(&lines)?;
                lines.clear();
                self.set_aside()?;
            }
            lines.extend_from_slice(event.as_bytes());
            lines.push(b'\n');
        }
        self.write(&lines)
    }

    fn set_aside(&mut self) -> Result<(), StoreError> {
        match fs::rename(&self.path, &self.old) {
            // It was set aside before, and a new one could not be opened then.
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            done => done.map_err(cannot("set aside", &self.path))?,
        }
        (self.file, self.size) = open_log(&self.path).map_err(cannot("open", &self.path))?;
        Ok(())
    }

    fn write(&mut self, lines: &[u8]) -> Result<(), StoreError> {
        if let Err(e) = self.file.write_all(lines) {
            let _ = self.file.set_len(self.size); // half a line on a full disk must not spoil the next one
            return Err(cannot("append to", &self.path)(e));
        }
        self.size += lines.len() as u64;
        Ok(())
    }

    /// A second handle of the file in use, to be synced in a thread.
    pub fn syncer(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// The events with numbers above `after`, oldest first, each with its number and as it was appended: the first `most` of
    /// them. Lines that are damaged are left out.
    pub fn read(&self, after: u64, most: usize) -> Result<Vec<(u64, String)>, StoreError> {
        let mut events = Vec::new();
        for path in [&self.old, &self.path] {
            for line in lines(path).map_err(cannot("read", path))? {
                let line = line.map_err(cannot("read", path))?;
                if events.len() == most {
                    return Ok(events);
                }
                if let Ok(Seq { seq }) = serde_json::from_slice(&line)
                    && seq > after
                {
                    events.extend(String::from_utf8(line).ok().map(|line| (seq, line)));
                }
            }
        }
        Ok(events)
    }
}

/// Opens for appending, cut off after the last whole line.
fn open_log(path: &Path) -> io::Result<(File, u64)> {
    let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o640).open(path)?;
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.read_to_end(&mut bytes)?;
    let whole = bytes.iter().rposition(|b| *b == b'\n').map_or(0, |end| end as u64 + 1);
    if whole < bytes.len() as u64 {
        file.set_len(whole)?;
    }
    Ok((file, whole))
}

fn lines(path: &Path) -> io::Result<Box<dyn Iterator<Item = io::Result<Vec<u8>>>>> {
    match File::open(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Box::new(std::iter::empty())),
        opened => Ok(Box::new(BufReader::new(opened?).split(b'\n'))),
    }
}

/// The highest number among the whole lines.
fn last_seq(path: &Path) -> io::Result<Option<u64>> {
    let mut last = None;
    for line in lines(path)? {
        last = last.max(serde_json::from_slice::<Seq>(&line?).ok().map(|s| s.seq));
    }
    Ok(last)
}

/// Holds something that only one agent may have; let go when dropped, and when the agent dies.
#[derive(Debug)]
pub struct Lock {
    /// Never read: the lock is held for as long as this is open.
    _held: Held,
}

#[derive(Debug)]
enum Held {
    File { _file: Flock<File> },
    Socket { _socket: UnixListener },
}

/// How long a lock that is taken is tried again: an agent that was killed as it started something leaves it to a child,
/// which holds it until it is its own program.
const HANDED_ON: Duration = Duration::from_secs(1);

/// Tries until nobody else has the lock, at most [`HANDED_ON`].
fn patiently(mut lock: impl FnMut() -> Result<Lock, StoreError>) -> Result<Lock, StoreError> {
    let begun = Instant::now();
    loop {
        match lock() {
            Err(e) if e.cause.kind() == io::ErrorKind::AddrInUse && begun.elapsed() < HANDED_ON => {
                std::thread::sleep(Duration::from_millis(5)); // between two looks
            }
            done => return done,
        }
    }
}

/// Locks the state folder (which is made) for this agent. A second agent is refused, with the pid of the first, after a
/// second.
pub fn lock(folder: &Path) -> Result<Lock, StoreError> {
    fs::create_dir_all(folder).map_err(cannot("make", folder))?;
    patiently(|| lock_folder(folder))
}

fn lock_folder(folder: &Path) -> Result<Lock, StoreError> {
    let path = folder.join("lock");
    let mut open = OpenOptions::new();
    open.read(true).write(true).create(true).truncate(false).mode(0o600);
    let file = match open.open(&path) {
        // What runs is to be taken over also where the disk has become read-only.
        Err(e) if e.kind() == io::ErrorKind::ReadOnlyFilesystem => File::open(&path),
        opened => opened,
    }
    .map_err(cannot("open", &path))?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(mut file) => {
            // For the message of the one that comes second; the lock itself is the proof.
            let pid = format!("{}\n", std::process::id());
            // On a full disk it cannot be written, and an agent must be able to take over what runs all the same.
            let _ = file.set_len(0).and_then(|()| file.write_all(pid.as_bytes()));
            Ok(Lock { _held: Held::File { _file: file } })
        }
        Err((mut file, Errno::EWOULDBLOCK)) => {
            let mut pid = String::new();
            let _ = file.read_to_string(&mut pid);
            let who = if pid.trim().is_empty() { String::new() } else { format!(" (pid {})", pid.trim()) };
            let cause = format!("another agent{who} is using it");
            Err(cannot("lock", folder)(io::Error::new(io::ErrorKind::AddrInUse, cause)))
        }
        Err((_, e)) => Err(cannot("lock", &path)(e.into())),
    }
}

/// Takes the node's name on this machine (in this network namespace), whatever folders an agent uses: the abstract
/// socket `@clusterd/CLUSTER/NODE`. A second agent of the same name is refused, after a second.
pub fn lock_name(cluster: &str, node: &str) -> Result<Lock, StoreError> {
    patiently(|| take_name(cluster, node))
}

fn take_name(cluster: &str, node: &str) -> Result<Lock, StoreError> {
    let name = format!("clusterd/{cluster}/{node}");
    let shown = PathBuf::from(format!("@{name}"));
    SocketAddr::from_abstract_name(&name)
        .and_then(|address| UnixListener::bind_addr(&address))
        .map(|socket| Lock { _held: Held::Socket { _socket: socket } })
        .map_err(|e| {
            let cause = match e.kind() {
                io::ErrorKind::AddrInUse => {
                    io::Error::new(e.kind(), "another agent of this node runs on this machine")
                }
                _ => e,
            };
            cannot("take the name", &shown)(cause)
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    fn value(slot: &Slot<Value>) -> Option<Value> {
        slot.read().unwrap().map(|s| s.value)
    }

    #[test]
    fn a_slot_gives_back_what_was_last_written() {
        let dir = folder();
        let at = |name: &str| dir.path().join(name);
        for slot in
            [Slot::volatile(at("a/b/one")), Slot::growing(at("a/b/two")), Slot::durable(at("c/d/three"))]
        {
            assert_eq!(value(&slot), None);
            for n in 1..4 {
                slot.write(&json!({ "n": n })).unwrap();
                assert_eq!(slot.read().unwrap(), Some(Stored { value: json!({ "n": n }), torn: None }));
            }
            slot.remove().unwrap();
            slot.remove().unwrap();
            assert_eq!(value(&slot), None);
        }
    }

    #[test]
    fn a_durable_slot_torn_at_any_byte_gives_the_copy_before() {
        let dir = folder();
        let slot = Slot::durable(dir.path().join("wish"));
        slot.write(&json!("old")).unwrap();
        slot.write(&json!("new")).unwrap();
        let whole = fs::read(slot.path()).unwrap();
        for cut in 0..whole.len() - 1 {
            fs::write(slot.path(), &whole[..cut]).unwrap();
            let read = slot.read().unwrap().unwrap();
            assert_eq!(read.value, json!("old"), "cut at {cut}");
            assert!(read.torn.unwrap().ends_with("; the copy before it is used"));
        }
        for at in 0..whole.len() - 1 {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            fs::write(slot.path(), &damaged).unwrap();
            // A flipped letter case in the checksum's hex is the only damage that changes nothing.
            let read = slot.read().unwrap().unwrap();
            assert_eq!(read.value, json!("old"), "damaged at {at}");
        }
        fs::remove_file(slot.path()).unwrap();
        let read = slot.read().unwrap().unwrap();
        assert_eq!((read.value, read.torn.is_some()), (json!("old"), true));
    }

    #[test]
    fn a_torn_copy_never_replaces_the_last_good_one() {
        let dir = folder();
        let slot = Slot::durable(dir.path().join("wish"));
        slot.write(&json!("good")).unwrap();
        slot.write(&json!("lost")).unwrap();
        fs::write(slot.path(), "clus").unwrap();
        slot.write(&json!("newest")).unwrap();
        fs::write(slot.path(), "").unwrap();
        assert_eq!(value(&slot), Some(json!("good")));
    }

    #[test]
    fn a_kill_between_the_steps_of_a_write_loses_nothing() {
        let dir = folder();
        let slot = Slot::durable(dir.path().join("wish"));
        slot.write(&json!(1)).unwrap();
        // Killed after the copy aside was begun; then after `.prev` was removed.
        fs::write(slot.beside(".new"), "clusterd 1 0").unwrap();
        assert_eq!(value(&slot), Some(json!(1)));
        slot.write(&json!(2)).unwrap();
        fs::remove_file(slot.beside(".prev")).unwrap();
        assert_eq!(value(&slot), Some(json!(2)));
    }

    #[test]
    fn torn_without_a_previous_copy_is_an_error_that_says_so() {
        let dir = folder();
        let slot: Slot<Value> = Slot::volatile(dir.path().join("redis@redis1.json"));
        fs::write(slot.path(), "clusterd 1 00000000 2\n{}").unwrap();
        let error = slot.read().unwrap_err();
        assert_eq!(error.cause.kind(), io::ErrorKind::InvalidData);
        let path = slot.path().display();
        assert_eq!(error.to_string(), format!("cannot read {path}: its checksum does not match"));
    }

    #[test]
    fn a_growing_slot_cut_at_any_byte_gives_the_last_whole_copy_and_takes_the_next() {
        let dir = folder();
        let slot = Slot::growing(dir.path().join("redis@redis1.json"));
        let mut ends = vec![0];
        for n in 0..3 {
            slot.write(&json!({ "n": n, "text": "\nclusterd 1 00000000 2\n{}" })).unwrap();
            ends.push(fs::metadata(slot.path()).unwrap().len() as usize);
        }
        let whole = fs::read(slot.path()).unwrap();
        for cut in 0..=whole.len() {
            fs::write(slot.path(), &whole[..cut]).unwrap();
            // The end of its last line is no part of a copy.
            let last = ends.iter().rposition(|end| *end <= cut + 1).unwrap();
            match slot.read() {
                Ok(read) => assert_eq!(read.unwrap().value["n"], json!(last as i64 - 1), "cut at {cut}"),
                Err(_) => assert_eq!(last, 0, "cut at {cut}"),
            }
            slot.write(&json!({ "n": 7 })).unwrap();
            assert_eq!(value(&slot).unwrap()["n"], json!(7), "cut at {cut}");
        }
    }

    #[test]
    fn the_copies_of_a_growing_slot_have_an_end() {
        let dir = folder();
        let slot = Slot::growing(dir.path().join("x"));
        let long = "x".repeat(1000);
        for n in 0..100 {
            slot.write(&json!([n, long])).unwrap();
            assert!(fs::metadata(slot.path()).unwrap().len() < MAX_COPIES + 1100);
        }
        assert_eq!(value(&slot).unwrap()[0], json!(99));
        let others = fs::read_dir(dir.path()).unwrap().count();
        assert_eq!(others, 1, "nothing stays beside it");
    }

    #[test]
    fn a_full_disk_and_a_closed_folder_are_told_by_their_kind() {
        // /dev/full answers every write with ENOSPC.
        let dir = folder();
        let slot: Slot<Value> = Slot::volatile(dir.path().join("x"));
        std::os::unix::fs::symlink("/dev/full", dir.path().join("x.new")).unwrap();
        let error = slot.write(&json!(1)).unwrap_err();
        assert!(error.is_full(), "{error}");
        assert_eq!(value(&slot), None);

        let slot: Slot<Value> = Slot::volatile("/proc/clusterd/x");
        assert!(!slot.write(&json!(1)).unwrap_err().is_full());
    }

    fn log(dir: &Path, limit: u64) -> EventLog {
        EventLog::with_limit(dir, limit).unwrap()
    }

    fn append(log: &mut EventLog) -> u64 {
        let seq = log.next_seq();
        log.append([json!({ "seq": seq, "what": "started" }).to_string().as_str()]).unwrap();
        seq
    }

    fn seqs(log: &EventLog, after: u64, most: usize) -> Vec<u64> {
        let read = log.read(after, most).unwrap().into_iter();
        let seq = |(seq, line): (u64, String)| {
            assert_eq!(serde_json::from_str::<Value>(&line).unwrap()["seq"].as_u64(), Some(seq));
            seq
        };
        read.map(seq).collect()
    }

    #[test]
    fn events_count_on_over_restarts_and_rotations() {
        let dir = folder();
        for first in [1, 6, 11] {
            let mut log = log(dir.path(), 100);
            assert_eq!(
                (0..5).map(|_| append(&mut log)).collect::<Vec<_>>(),
                (first..first + 5).collect::<Vec<_>>()
            );
        }
        let log = log(dir.path(), 100);
        let kept = seqs(&log, 0, 99);
        assert_eq!(kept.last(), Some(&15));
        assert!(kept.len() >= 3 && kept.windows(2).all(|w| w[0] + 1 == w[1]), "{kept:?}");
        assert_eq!(seqs(&log, 13, 99), [14, 15]);
        assert_eq!(seqs(&log, 13, 1), [14]);
        assert_eq!(log.next_seq(), 16);
        let size = |name| fs::metadata(dir.path().join(name)).unwrap().len();
        assert!(size("events.jsonl") <= 100 && size("events.1.jsonl") <= 100);
    }

    #[test]
    fn a_torn_last_event_is_cut_off_and_the_next_is_whole() {
        let dir = folder();
        let mut first = log(dir.path(), 1000);
        append(&mut first);
        append(&mut first);
        drop(first);
        let path = dir.path().join("events.jsonl");
        let whole = fs::read(&path).unwrap();
        for cut in whole.len() / 2..whole.len() {
            fs::write(&path, &whole[..cut]).unwrap();
            let mut log = log(dir.path(), 1000);
            assert_eq!(append(&mut log), 2, "cut at {cut}");
            assert_eq!(seqs(&log, 0, 9), [1, 2], "cut at {cut}");
        }
        // Zeroes in the middle, as some file systems leave after a power cut.
        let mut damaged = whole.clone();
        damaged.splice(0..0, [0u8; 40].into_iter().chain(*b"\n"));
        fs::write(&path, &damaged).unwrap();
        assert_eq!(seqs(&log(dir.path(), 1000), 0, 9), [1, 2]);
    }

    #[test]
    fn a_second_agent_is_refused_and_told_who_is_first() {
        let dir = folder();
        let first = lock(dir.path()).unwrap();
        let error = lock(dir.path()).unwrap_err();
        let me = std::process::id();
        let text = format!("cannot lock {}: another agent (pid {me}) is using it", dir.path().display());
        assert_eq!(error.to_string(), text);
        drop(first);
        lock(dir.path()).unwrap();
    }

    #[test]
    fn a_node_has_one_agent_whatever_its_folders() {
        let cluster = format!("test-{}", std::process::id());
        let first = lock_name(&cluster, "redis1").unwrap();
        let error = lock_name(&cluster, "redis1").unwrap_err();
        let text = format!(
            "cannot take the name @clusterd/{cluster}/redis1: another agent of this node runs on this machine"
        );
        assert_eq!(error.to_string(), text);
        lock_name(&cluster, "redis2").unwrap();
        drop(first);
        lock_name(&cluster, "redis1").unwrap();
    }
}
