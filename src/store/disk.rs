//! The file operations that a [`Slot`](super::Slot) is made of, so that a simulated disk can lose and tear what the
//! real one can.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// A file system, as far as a slot uses one.
pub trait Disk {
    /// The first `most` bytes of a file.
    ///
    /// # Errors
    /// `NotFound` when there is none.
    fn read(&mut self, path: &Path, most: u64) -> io::Result<Vec<u8>>;
    /// Makes the file, or empties it, and writes all of it. With `sync` its content is on the disk when this returns.
    ///
    /// # Errors
    /// `NotFound` when its folder is missing; `StorageFull`; what else the kernel says.
    fn write(&mut self, path: &Path, bytes: &[u8], sync: bool) -> io::Result<()>;
    /// Adds to a file that is there and has fewer than `most` bytes; with any other nothing is done, and `false` told. Who dies
    /// meanwhile, and a disk that is full, leave a part.
    ///
    /// # Errors
    /// `StorageFull`; what else the kernel says.
    fn append(&mut self, path: &Path, bytes: &[u8], most: u64) -> io::Result<bool>;
    /// Makes a folder, and those above it.
    ///
    /// # Errors
    /// What the kernel says.
    fn make_folder(&mut self, path: &Path) -> io::Result<()>;
    /// Puts a file in the place of another, in one step.
    ///
    /// # Errors
    /// What the kernel says.
    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()>;
    /// Gives a file a second name; where the file system has no such thing, copies it.
    ///
    /// # Errors
    /// What the kernel says.
    fn link(&mut self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a name.
    ///
    /// # Errors
    /// `NotFound` when there is none.
    fn remove(&mut self, path: &Path) -> io::Result<()>;
    /// Names made, moved and removed in this folder are on the disk when this returns.
    ///
    /// # Errors
    /// What the kernel says.
    fn sync_folder(&mut self, folder: &Path) -> io::Result<()>;
    fn exists(&mut self, path: &Path) -> bool;
}

/// This machine's own file systems.
#[derive(Clone, Copy, Debug, Default)]
pub struct Machine;

impl Disk for Machine {
    fn read(&mut self, path: &Path, most: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(path)?.take(most).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn write(&mut self, path: &Path, bytes: &[u8], sync: bool) -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
        file.write_all(bytes)?;
        if sync { file.sync_all() } else { Ok(()) }
    }

    fn append(&mut self, path: &Path, bytes: &[u8], most: u64) -> io::Result<bool> {
        let mut file = match OpenOptions::new().append(true).open(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
            opened => opened?,
        };
        if file.seek(SeekFrom::End(0))? >= most {
            return Ok(false);
        }
        file.write_all(bytes).map(|()| true)
    }

    fn make_folder(&mut self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)
    }

    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn link(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        match fs::hard_link(from, to) {
            // File systems without hard links.
            Err(_) => fs::copy(from, to).map(drop),
            done => done,
        }
    }

    fn remove(&mut self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_folder(&mut self, folder: &Path) -> io::Result<()> {
        File::open(folder)?.sync_all()
    }

    fn exists(&mut self, path: &Path) -> bool {
        path.exists()
    }
}
