//! A path that may hold a leftover: its folder held open, so that what is judged is what is removed.

use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat};
use nix::unistd::{UnlinkatFlags, unlinkat};
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The most of a leftover that is read or kept, in bytes.
pub(super) const MAX_READ: u64 = 64 << 10;

/// Folders of the system in which nothing is ever removed, whatever a unit names. (`/usr/local` is not the system's.)
const FORBIDDEN: [&str; 10] =
    ["/bin", "/boot", "/dev", "/etc", "/lib", "/lib64", "/proc", "/sbin", "/sys", "/usr"];
const ALLOWED: [&str; 2] = ["/dev/shm", "/usr/local"];

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Socket,
    /// `a symlink`, `a folder`, …
    Other(&'static str),
}

/// An entry that exists, as it was when it was first looked at.
#[derive(Debug)]
pub(super) struct Place {
    pub path: PathBuf,
    folder: File,
    name: OsString,
    seen: FileStat,
}

/// Why a removal was not done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotRemoved {
    #[error("it was changed while it was judged")]
    Changed,
    #[error("cannot remove it: {0}")]
    Kernel(#[from] io::Error),
}

/// What there is at a path.
pub(crate) enum Found<P> {
    Nothing,
    /// The folder in which nothing is removed.
    Forbidden(PathBuf),
    Entry(P),
}

impl Place {
    /// Looks at a path. The last part is not followed; the folder is resolved once and held.
    pub fn find(path: &Path) -> io::Result<Found<Place>> {
        if let Err(e) = fs::symlink_metadata(path) {
            return if is_missing(&e) { Ok(Found::Nothing) } else { Err(e) };
        }
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Ok(Found::Forbidden(path.to_owned()));
        };
        let parent = fs::canonicalize(parent)?;
        if is_forbidden(&parent) {
            return Ok(Found::Forbidden(parent));
        }
        let flags = libc::O_DIRECTORY | libc::O_NOFOLLOW;
        let folder = OpenOptions::new().read(true).custom_flags(flags).open(&parent)?;
        match fstatat(&folder, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(seen) => {
                let (path, name) = (path.to_owned(), name.to_owned());
                Ok(Found::Entry(Place { path, folder, name, seen }))
            }
            Err(nix::Error::ENOENT) => Ok(Found::Nothing),
            Err(e) => Err(e.into()),
        }
    }

    pub fn kind(&self) -> Kind {
        match SFlag::from_bits_truncate(self.seen.st_mode) & SFlag::S_IFMT {
            SFlag::S_IFREG => Kind::File,
            SFlag::S_IFSOCK => Kind::Socket,
            SFlag::S_IFLNK => Kind::Other("a symlink"),
            SFlag::S_IFDIR => Kind::Other("a folder"),
            SFlag::S_IFIFO => Kind::Other("a pipe"),
            _ => Kind::Other("a device"),
        }
    }

    /// The content of a plain file, at most [`MAX_READ`] bytes.
    pub fn read(&self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.open()?.take(MAX_READ).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Opens the very file that was seen; never anything that took its place.
    pub fn open(&self) -> io::Result<File> {
        let flags =
            OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC | OFlag::O_NOCTTY;
        let file = File::from(openat(&self.folder, self.name.as_os_str(), flags, Mode::empty())?);
        let now = fstat(&file)?;
        if (now.st_dev, now.st_ino) != (self.seen.st_dev, self.seen.st_ino) {
            return Err(io::Error::other("it was replaced while it was looked at"));
        }
        Ok(file)
    }

    /// A path to the entry by way of the held folder; short enough for a socket's address.
    pub fn by_folder(&self) -> PathBuf {
        Path::new("/proc/self/fd").join(self.folder.as_raw_fd().to_string()).join(&self.name)
    }

    pub fn device_and_inode(&self) -> (u64, u64) {
        (self.seen.st_dev, self.seen.st_ino)
    }

    /// The user to whom it belongs.
    pub fn owner(&self) -> u32 {
        self.seen.st_uid
    }

    /// Seconds since 1970, by the wall clock of whoever wrote it.
    pub fn modified(&self) -> i64 {
        self.seen.st_mtime
    }

    /// Removes the entry if it is still what was seen: same inode, same content times, same size.
    pub fn remove(&self) -> Result<(), NotRemoved> {
        let now = match fstatat(&self.folder, self.name.as_os_str(), AtFlags::AT_SYMLINK_NOFOLLOW) {
            Err(nix::Error::ENOENT) => return Ok(()),
            now => now.map_err(io::Error::from)?,
        };
        if stamp(&now) != stamp(&self.seen) {
            return Err(NotRemoved::Changed);
        }
        match unlinkat(&self.folder, self.name.as_os_str(), UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(nix::Error::ENOENT) => Ok(()),
            Err(e) => Err(NotRemoved::Kernel(e.into())),
        }
    }
}

/// What changes when a file is replaced or written. The change time cannot be set back by `touch`.
fn stamp(s: &FileStat) -> [i64; 8] {
    let (dev, ino) = (s.st_dev as i64, s.st_ino as i64);
    [dev, ino, s.st_size, s.st_mode.into(), s.st_mtime, s.st_mtime_nsec, s.st_ctime, s.st_ctime_nsec]
}

fn is_missing(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn is_forbidden(folder: &Path) -> bool {
    let under = |list: &[&str]| list.iter().any(|f| folder.starts_with(f));
    folder == Path::new("/") || under(&FORBIDDEN) && !under(&ALLOWED)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::fcntl::{FcntlArg, FdFlag, fcntl};

    #[test]
    fn only_the_very_file_that_was_seen_is_opened() {
        let dir = tempfile::tempdir().unwrap();
        let (path, moved) = (dir.path().join("redis.pid"), dir.path().join("moved"));
        fs::write(&path, "417").unwrap();
        let Found::Entry(place) = Place::find(&path).unwrap() else { panic!("it is there") };
        let file = place.open().unwrap();
        let flags = FdFlag::from_bits_retain(fcntl(&file, FcntlArg::F_GETFD).unwrap());
        assert!(flags.contains(FdFlag::FD_CLOEXEC), "no child gets it");

        fs::rename(&path, &moved).unwrap();
        std::os::unix::fs::symlink(&moved, &path).unwrap();
        assert!(place.open().is_err(), "a symlink is not followed, not even to that file");
        fs::remove_file(&path).unwrap();
        nix::unistd::mkfifo(&path, Mode::S_IRWXU).unwrap();
        assert!(place.open().is_err(), "and a pipe that nobody writes to is not waited for");
    }

    #[test]
    fn the_systems_own_folders_are_out_of_bounds() {
        for folder in ["/", "/etc/redis", "/usr/lib/redis", "/proc/1", "/dev", "/boot"] {
            assert!(is_forbidden(Path::new(folder)), "{folder}");
        }
        for folder in
            ["/run/redis", "/var/run", "/usr/local/nginx/logs", "/opt/mq/data", "/dev/shm", "/etcetera"]
        {
            assert!(!is_forbidden(Path::new(folder)), "{folder}");
        }
    }
}
