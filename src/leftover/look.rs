//! Collecting facts. Nothing is decided here, and nothing changed.

use super::judge::{Alive, Expected, FileState, ProcessState, Tie};
use crate::model::{Probe, Question, Unit};
use crate::process::{FileId, Handle, Identity, Lost, Tree, proc};
use std::collections::HashMap;
use std::fs;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The most descriptors of one process that are looked at.
const MAX_DESCRIPTORS: usize = 100_000;
/// The largest number that the kernel ever gives to a process (`PID_MAX_LIMIT`).
const PID_MAX: i64 = 4 << 20;

/// What ties a process to an instance, besides its leaf and marks.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// `service@node`
    pub instance: String,
    /// Where it listens.
    pub listens: Vec<SocketAddr>,
    /// Its data folders: absolute, resolved.
    pub folders: Vec<PathBuf>,
}

impl Known {
    /// What the unit itself tells: the addresses at which it is asked.
    pub fn of(instance: &str, unit: &Unit) -> Known {
        let local = match &unit.ready.local {
            Probe::Ask(question) => question.address(),
            _ => None,
        };
        let remote = unit.ready.remote.as_ref().and_then(Question::address);
        let mut listens: Vec<SocketAddr> = local.into_iter().chain(remote).collect();
        listens.dedup();
        Known { instance: instance.to_owned(), listens, folders: Vec::new() }
    }
}

/// What a number in a pid file, or at the other end of a socket, leads to.
pub(super) struct Looker<'a> {
    pub tree: &'a Tree,
    pub me: &'a Known,
    pub others: &'a [Known],
}

impl Looker<'_> {
    /// Identifies and holds a process, then looks at it from all sides.
    pub fn process(&self, pid: i32) -> (ProcessState, Option<Handle>) {
        let handle = match Handle::open(pid) {
            Ok(handle) => handle,
            Err(Lost::Gone(_)) => {
                let zombie = proc::stat(pid).is_ok_and(|s| s.is_dead());
                return (if zombie { ProcessState::Zombie } else { ProcessState::None }, None);
            }
            Err(Lost::Thread(_)) => return (thread(pid, proc::thread_group(pid).ok()), None),
            Err(other) => return (ProcessState::Hidden(other.to_string()), None),
        };
        let alive = self.alive(handle.identity());
        // All of it was read by number: it holds only if the process still had it at the end.
        if handle.is_alive() {
            (ProcessState::Alive(Box::new(alive)), Some(handle))
        } else {
            (ProcessState::None, None)
        }
    }

    fn alive(&self, who: &Identity) -> Alive {
        let pid = who.pid;
        let (ours, others) = self.ties(pid);
        Alive {
            name: proc::comm(pid).unwrap_or_else(|| "an unknown program".into()),
            start: who.start,
            exe: proc::exe(pid).ok(),
            kernel_thread: proc::stat(pid).is_ok_and(|s| s.kernel_thread),
            is_agent: pid == std::process::id() as i32,
            elsewhere: proc::pid_namespace(pid).is_ok_and(|ns| ns != who.boot.pid_ns),
            ours,
            others,
        }
    }

    fn ties(&self, pid: i32) -> (Vec<Tie>, Vec<(Tie, String)>) {
        let (mut ours, mut others) = (Vec::new(), Vec::new());
        let owners = [(Tie::Leaf, self.tree.leaf_owner(pid)), (Tie::Mark, crate::process::mark_owner(pid))];
        for (tie, owner) in owners.into_iter().filter_map(|(t, o)| Some((t, o?))) {
            if owner.agent != self.tree.agent() {
                others.push((tie, format!("{} (of the agent {})", owner.instance, owner.agent)));
            } else if owner.instance == self.me.instance {
                ours.push(tie);
            } else {
                others.push((tie, owner.instance));
            }
        }
        let (listens, open) = self.open_files(pid);
        let sockets = listens.iter().flat_map(|l| self.who_listens(*l).map(|k| (k, Tie::Listens(*l))));
        let folders = self.known().flat_map(|k| {
            let used = k.folders.iter().filter(|f| open.iter().any(|o| o.starts_with(f)));
            used.map(move |f| (k, Tie::Folder(f.clone())))
        });
        for (known, tie) in sockets.chain(folders) {
            match known.instance == self.me.instance {
                true => ours.push(tie),
                false => others.push((tie, known.instance.clone())),
            }
        }
        (ours, others)
    }

    fn known(&self) -> impl Iterator<Item = &Known> {
        let others = self.others.iter().filter(|known| known.instance != self.me.instance);
        [self.me].into_iter().chain(others)
    }

    /// Whose address this is: those that listen on exactly this one; when there is none and it stands for all
    /// addresses, those with this port.
    fn who_listens(&self, found: SocketAddr) -> impl Iterator<Item = &Known> {
        let exact = self.known().any(|k| k.listens.contains(&found));
        let any = !exact && found.ip().is_unspecified();
        self.known().filter(move |k| {
            k.listens.iter().any(|l| if any { l.port() == found.port() } else { *l == found })
        })
    }

    /// The addresses on which the process listens, and what else it has open; nothing where nobody asks for it.
    fn open_files(&self, pid: i32) -> (Vec<SocketAddr>, Vec<PathBuf>) {
        let listening = match self.known().any(|k| !k.listens.is_empty()) {
            true => listening_sockets(pid),
            false => HashMap::new(),
        };
        let want_folders = self.known().any(|k| !k.folders.is_empty());
        let (mut addresses, mut files) = (Vec::new(), Vec::new());
        if listening.is_empty() && !want_folders {
            return (addresses, files);
        }
        for target in descriptors(pid) {
            match socket_inode(&target) {
                Some(inode) => addresses.extend(listening.get(&inode)),
                None => files.push(target),
            }
        }
        (addresses, files)
    }
}

/// What a number is that the kernel calls a thread's, by the process of which `/proc` says that it is one: by then it
/// may be gone, or be a process's.
fn thread(number: i32, of: Option<i32>) -> ProcessState {
    match of {
        Some(of) if of != number => ProcessState::Thread { of },
        _ => ProcessState::Hidden("its number is a thread's, or was a moment ago".into()),
    }
}

/// The number that a pid file's text begins with. Some daemons write more lines after it.
pub(super) fn pid_in(text: &str) -> Result<i32, FileState> {
    let Some(word) = text.split_ascii_whitespace().next() else { return Err(FileState::Empty) };
    let digits = word.strip_prefix(['-', '+']).unwrap_or(word);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(FileState::Garbled(word.chars().take(40).collect()));
    }
    match word.parse::<i64>() {
        Ok(pid) if (1..=PID_MAX).contains(&pid) => Ok(pid as i32),
        _ => Err(FileState::OutOfRange(word.chars().take(40).collect())),
    }
}

/// Which executables the unit's processes can have.
pub(super) fn expected(unit: &Unit, journal: Option<&Identity>) -> Expected {
    let program =
        unit.run.command.first().map(PathBuf::from).or_else(|| unit.run.executables.first().cloned());
    let program = program.unwrap_or_default();
    let mut expected = Expected { program: name_of(&program), ..Expected::default() };
    let mut expect = |path: &Path| {
        expected.names.push(name_of(path));
        if path.is_absolute() {
            expected.files.extend(file_id(path));
            expected.names.extend(fs::canonicalize(path).ok().map(|p| name_of(&p)));
        }
    };
    expect(&program);
    unit.run.executables.iter().for_each(|e| expect(e));
    if let Some(interpreter) = interpreter(&program)
        && unit.run.executables.is_empty()
    {
        expect(&interpreter);
        expected.anything = true;
    }
    expected.files.extend(journal.and_then(|j| j.exe));
    expected
}

/// What `#!` in the first line names, when the program is a script.
fn interpreter(program: &Path) -> Option<PathBuf> {
    let mut head = Vec::new();
    fs::File::open(program).ok()?.take(256).read_to_end(&mut head).ok()?;
    let line = head.strip_prefix(b"#!")?.split(|b| *b == b'\n').next()?;
    Some(PathBuf::from(std::str::from_utf8(line).ok()?.split_ascii_whitespace().next()?))
}

fn name_of(path: &Path) -> String {
    path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default()
}

fn file_id(path: &Path) -> Option<FileId> {
    fs::metadata(path).ok().map(|m| FileId { dev: m.dev(), ino: m.ino() })
}

/// What the process's descriptors point to.
fn descriptors(pid: i32) -> impl Iterator<Item = PathBuf> {
    let folder = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    folder.take(MAX_DESCRIPTORS).filter_map(|entry| fs::read_link(entry.path()).ok())
}

/// Whether the process has this file open, by device and inode. One into which we may not look is an error, be it
/// the list that is kept from us or where its entries lead.
pub(super) fn has_open(pid: i32, wanted: (u64, u64)) -> std::io::Result<bool> {
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))?.take(MAX_DESCRIPTORS) {
        let link = entry?.path();
        match fs::metadata(&link) {
            Ok(m) if (m.dev(), m.ino()) == wanted => return Ok(true),
            // Some files may be looked at by their own user only (FUSE); to be told their path is the process's affair.
            Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => drop(fs::read_link(&link)?),
            _ => {} // another one, or closed meanwhile
        }
    }
    Ok(false)
}

/// The inode of the socket that a descriptor's link leads to.
pub(crate) fn socket_inode(target: &Path) -> Option<u64> {
    target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

/// Listening TCP sockets by inode, of the process's network namespace if that is ours: an address in another one
/// is another address.
fn listening_sockets(pid: i32) -> HashMap<u64, SocketAddr> {
    let namespace = |pid| proc::net_namespace(pid).ok();
    if namespace(pid) != namespace(std::process::id() as i32) {
        return HashMap::new();
    }
    let tables = ["/proc/self/net/tcp", "/proc/self/net/tcp6"];
    tables
        .iter()
        .filter_map(|t| fs::read_to_string(t).ok())
        .flat_map(|text| text.lines().skip(1).filter_map(listening_row).collect::<Vec<_>>())
        .collect()
}

/// One row of `/proc/net/tcp`: number, local address, remote address, state (0A is LISTEN), …, inode as the tenth.
pub(crate) fn listening_row(row: &str) -> Option<(u64, SocketAddr)> {
    let fields: Vec<&str> = row.split_ascii_whitespace().collect();
    let (local, inode) = (fields.get(1)?, fields.get(9)?);
    if *fields.get(3)? != "0A" {
        return None;
    }
    let (ip, port) = local.split_once(':')?;
    // Each group of eight digits is a 32-bit word in this machine's byte order.
    let word = |i: usize| u32::from_str_radix(ip.get(i * 8..i * 8 + 8)?, 16).ok().map(u32::to_ne_bytes);
    let ip = match ip.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?)),
        32 => {
            let bytes = [word(0)?, word(1)?, word(2)?, word(3)?].concat();
            IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?)).to_canonical()
        }
        _ => return None,
    };
    Some((inode.parse().ok()?, SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_daemons_write_them() {
        for (text, pid) in
            [("417\n", 417), ("417", 417), ("  417 \n", 417), ("417\n/var/lib/pg\n5432\n", 417)]
        {
            assert_eq!(pid_in(text).ok(), Some(pid), "{text:?}");
        }
        let state = |text| format!("{:?}", pid_in(text).unwrap_err());
        assert_eq!(state(""), "Empty");
        assert_eq!(state(" \n"), "Empty");
        assert_eq!(state("\0\0\0"), r#"Garbled("\0\0\0")"#);
        assert_eq!(state("redis"), r#"Garbled("redis")"#);
        assert_eq!(state("41x"), r#"Garbled("41x")"#);
        assert_eq!(state("-"), r#"Garbled("-")"#);
        assert_eq!(state("0"), r#"OutOfRange("0")"#);
        assert_eq!(state("-5"), r#"OutOfRange("-5")"#);
        assert_eq!(state("4194305"), r#"OutOfRange("4194305")"#);
        assert_eq!(state("99999999999999999999999"), r#"OutOfRange("99999999999999999999999")"#);
    }

    #[test]
    fn a_number_that_has_just_been_a_threads_is_not_called_one() {
        assert!(matches!(thread(417, Some(400)), ProcessState::Thread { of: 400 }));
        for meanwhile in [Some(417), None] {
            assert!(matches!(thread(417, meanwhile), ProcessState::Hidden(_)), "{meanwhile:?}");
        }
    }

    #[test]
    fn rows_of_the_kernels_table_are_read() {
        let row = |local: &str, state: &str| {
            listening_row(&format!("0: {local} 00000000:0000 {state} 0:0 00:00 0 0 0 4711 1 0 100"))
        };
        if cfg!(target_endian = "little") {
            assert_eq!(row("0100007F:18EB", "0A"), Some((4711, "127.0.0.1:6379".parse().unwrap())));
            let mapped = "0000000000000000FFFF00000100007F:18EB";
            assert_eq!(row(mapped, "0A"), Some((4711, "127.0.0.1:6379".parse().unwrap())));
        }
        assert_eq!(
            row("00000000000000000000000000000000:0050", "0A"),
            Some((4711, "[::]:80".parse().unwrap()))
        );
        assert_eq!(row("0100007F:18EB", "01"), None, "connected, not listening");
        assert_eq!(row("short", "0A"), None);
    }
}
