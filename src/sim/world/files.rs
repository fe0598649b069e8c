//! A machine's files: a disk that loses what was not synced and tears what was being written, and `/run`, which a boot
//! empties.

use crate::sim::chance::Chance;
use crate::store::Disk;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

/// The content behind a name.
#[derive(Clone, Debug, Default)]
struct Inode {
    bytes: Vec<u8>,
    /// What a power cut leaves of it for certain.
    synced: Option<Vec<u8>>,
    socket: bool,
    /// The process that made it and uses it, by its serial number.
    user: Option<u64>,
    /// By the world's clock.
    made: Duration,
}

/// A change of names that the disk has not got yet.
#[derive(Clone, Debug)]
enum Change {
    Name(Vec<u8>, u64),
    Unname(Vec<u8>),
    /// In one step: the disk never has the one name without the other.
    Rename {
        from: Vec<u8>,
        to: Vec<u8>,
        inode: u64,
    },
}

#[derive(Debug, Default)]
pub struct Files {
    names: BTreeMap<Vec<u8>, u64>,
    inodes: BTreeMap<u64, Inode>,
    /// The names as they are on the disk, and what is on its way there, in order.
    on_disk: BTreeMap<Vec<u8>, u64>,
    pending: Vec<Change>,
    unsynced: BTreeSet<u64>,
    next: u64,
    /// The disk takes no write. (`/run` is not on it.)
    pub full: bool,
    /// So many operations more, and then whoever does them is dead.
    pub doom: Option<u32>,
}

fn key(path: &Path) -> &[u8] {
    path.as_os_str().as_bytes()
}

fn is_volatile(name: &[u8]) -> bool {
    name.starts_with(b"/run/") || name.starts_with(b"/var/run/")
}

fn missing<T>() -> io::Result<T> {
    Err(ErrorKind::NotFound.into())
}

impl Files {
    /// Whether whoever does these operations has died at one of them.
    pub fn is_struck(&self) -> bool {
        self.doom == Some(0)
    }

    fn survives(&mut self) -> io::Result<()> {
        match &mut self.doom {
            None => Ok(()),
            Some(0) => Err(ErrorKind::Interrupted.into()),
            Some(left) => {
                *left -= 1;
                if *left == 0 { Err(ErrorKind::Interrupted.into()) } else { Ok(()) }
            }
        }
    }

    fn name(&mut self, name: &[u8], inode: u64) {
        self.names.insert(name.to_vec(), inode);
        if !is_volatile(name) {
            self.pending.push(Change::Name(name.to_vec(), inode));
        }
    }

    fn unname(&mut self, name: &[u8]) -> Option<u64> {
        let inode = self.names.remove(name)?;
        if is_volatile(name) {
            // A volatile file has one name at a time.
            self.inodes.remove(&inode);
        } else {
            self.pending.push(Change::Unname(name.to_vec()));
        }
        Some(inode)
    }

    /// A daemon writes a file: its pid file, its lock; with `socket` it listens there. Not synced: nobody does.
    pub fn put(&mut self, path: &Path, bytes: Vec<u8>, user: u64, socket: bool, now: Duration) {
        let inode = self.fresh(key(path));
        let volatile = is_volatile(key(path));
        self.inodes.insert(inode, Inode { bytes, synced: None, socket, user: Some(user), made: now });
        if !volatile {
            self.unsynced.insert(inode);
        }
    }

    /// A new content under this name.
    fn fresh(&mut self, name: &[u8]) -> u64 {
        self.next += 1;
        let inode = self.next;
        if is_volatile(name)
            && let Some(old) = self.names.get(name)
        {
            self.inodes.remove(old);
        }
        self.name(name, inode);
        inode
    }

    /// A daemon removes a file of its own.
    pub fn take_away(&mut self, path: &Path) {
        self.unname(key(path));
    }

    fn inode(&self, path: &Path) -> Option<&Inode> {
        self.inodes.get(self.names.get(key(path))?)
    }

    /// The number by which it is told whether a file was replaced.
    pub fn number(&self, path: &Path) -> Option<u64> {
        self.names.get(key(path)).copied()
    }

    pub fn bytes(&self, path: &Path) -> Option<&[u8]> {
        self.inode(path).map(|inode| inode.bytes.as_slice())
    }

    pub fn is_socket(&self, path: &Path) -> bool {
        self.inode(path).is_some_and(|inode| inode.socket)
    }

    /// The process that made it, by its serial number.
    pub fn user(&self, path: &Path) -> Option<u64> {
        self.inode(path)?.user
    }

    pub fn made(&self, path: &Path) -> Option<Duration> {
        self.inode(path).map(|inode| inode.made)
    }

    /// An orderly end: all is written out.
    pub fn power_off(&mut self) {
        for inode in std::mem::take(&mut self.unsynced) {
            if let Some(inode) = self.inodes.get_mut(&inode) {
                inode.synced = Some(inode.bytes.clone());
            }
        }
        let all = self.pending.len();
        self.settle(all);
        self.boot();
    }

    /// The power is gone: of the changes of names the first few are on the disk, of what was not synced a part.
    pub fn power_cut(&mut self, chance: &mut Chance) {
        let kept = chance.within(0, self.pending.len() as u64) as usize;
        self.settle(kept);
        for number in std::mem::take(&mut self.unsynced) {
            let Some(inode) = self.inodes.get_mut(&number) else { continue };
            if let Some(old) = &inode.synced
                && chance.percent(50)
            {
                inode.bytes = old.clone();
            } else {
                let left = chance.within(0, inode.bytes.len() as u64) as usize;
                inode.bytes.truncate(left);
            }
            inode.synced = Some(inode.bytes.clone());
        }
        self.boot();
    }

    /// The first so many pending changes reach the disk.
    fn settle(&mut self, first: usize) {
        for change in self.pending.drain(..).take(first) {
            match change {
                Change::Name(name, inode) => drop(self.on_disk.insert(name, inode)),
                Change::Unname(name) => drop(self.on_disk.remove(&name)),
                Change::Rename { from, to, inode } => {
                    self.on_disk.remove(&from);
                    self.on_disk.insert(to, inode);
                }
            }
        }
    }

    fn boot(&mut self) {
        self.pending.clear();
        self.names.clone_from(&self.on_disk);
        let used: BTreeSet<u64> = self.names.values().copied().collect();
        self.inodes.retain(|inode, _| used.contains(inode));
        for inode in self.inodes.values_mut() {
            inode.user = None;
        }
        self.doom = None;
    }
}

impl Disk for Files {
    fn read(&mut self, path: &Path, most: u64) -> io::Result<Vec<u8>> {
        let Some(bytes) = self.bytes(path) else { return missing() };
        Ok(bytes[..bytes.len().min(most as usize)].to_vec())
    }

    fn write(&mut self, path: &Path, bytes: &[u8], sync: bool) -> io::Result<()> {
        let survives = self.survives();
        let volatile = is_volatile(key(path));
        if self.full && !volatile {
            return Err(ErrorKind::StorageFull.into());
        }
        let inode = match self.names.get(key(path)) {
            Some(inode) => *inode,
            None => self.fresh(key(path)),
        };
        let file = self.inodes.entry(inode).or_default();
        file.bytes.clear();
        // Who dies while he writes leaves half of it.
        let written = if survives.is_ok() { bytes } else { &bytes[..bytes.len() / 2] };
        file.bytes.extend_from_slice(written);
        match (volatile, sync && survives.is_ok()) {
            (true, _) => {}
            (false, true) => {
                file.synced = Some(bytes.to_vec());
                self.unsynced.remove(&inode);
            }
            (false, false) => drop(self.unsynced.insert(inode)),
        }
        survives
    }

    fn append(&mut self, path: &Path, bytes: &[u8], most: u64) -> io::Result<bool> {
        let volatile = is_volatile(key(path));
        let Some(number) = self.names.get(key(path)).copied() else { return Ok(false) };
        let survives = self.survives();
        if self.full && !volatile {
            return Err(ErrorKind::StorageFull.into());
        }
        let file = self.inodes.entry(number).or_default();
        if file.bytes.len() as u64 >= most {
            return survives.map(|()| false);
        }
        let written = if survives.is_ok() { bytes } else { &bytes[..bytes.len() / 2] };
        file.bytes.extend_from_slice(written);
        if !volatile {
            self.unsynced.insert(number);
        }
        survives.map(|()| true)
    }

    fn make_folder(&mut self, _path: &Path) -> io::Result<()> {
        self.survives()
    }

    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        self.survives()?;
        let Some(inode) = self.names.remove(key(from)) else { return missing() };
        if is_volatile(key(to)) {
            if let Some(old) = self.names.insert(key(to).to_vec(), inode) {
                self.inodes.remove(&old);
            }
            return Ok(());
        }
        self.names.insert(key(to).to_vec(), inode);
        let (from, to) = (key(from).to_vec(), key(to).to_vec());
        self.pending.push(Change::Rename { from, to, inode });
        Ok(())
    }

    fn link(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        self.survives()?;
        let Some(inode) = self.names.get(key(from)).copied() else { return missing() };
        if self.names.contains_key(key(to)) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        self.name(key(to), inode);
        Ok(())
    }

    fn remove(&mut self, path: &Path) -> io::Result<()> {
        self.survives()?;
        if self.unname(key(path)).is_some() { Ok(()) } else { missing() }
    }

    fn sync_folder(&mut self, _folder: &Path) -> io::Result<()> {
        self.survives()?;
        // A journalling file system writes its journal in order, up to here.
        let all = self.pending.len();
        self.settle(all);
        Ok(())
    }

    fn exists(&mut self, path: &Path) -> bool {
        self.names.contains_key(key(path))
    }
}
