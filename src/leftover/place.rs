//! A path that may hold a leftover: its folder held open, so that what is judged is what is removed.

use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat};
use nix::unistd::{UnlinkatFlags, unlinkat};
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The most of a leftover that is read or kept, in bytes. What is larger is somebody's data, and no leftover.
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
        if fs::read_link(format!("/proc/self/fd/{}", folder.as_raw_fd()))? != parent {
            return Err(io::Error::other("its folder was replaced while it was looked at"));
        }
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
            // A daemon's own file has one name. Behind a second one may be anybody's file, and its text is told.
            SFlag::S_IFREG if self.seen.st_nlink > 1 => {
                Kind::Other("a file with a second name (a hard link)")
            }
            SFlag::S_IFREG if self.seen.st_size > MAX_READ as i64 => {
                Kind::Other("a file of more than 64 KiB")
            }
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

/// The most paths that one `*` may stand for.
const MAX_MATCHES: usize = 100;

/// The entries whose names a path with a `*` in its last part describes; a path without one is itself.
pub(super) fn matching(path: &Path) -> io::Result<Vec<PathBuf>> {
    let name = path.file_name().unwrap_or_default().as_bytes();
    let (Some(folder), Some(star)) = (path.parent(), name.iter().position(|b| *b == b'*')) else {
        return Ok(vec![path.to_owned()]);
    };
    let (before, after) = (&name[..star], &name[star + 1..]);
    let entries = match fs::read_dir(folder) {
        Err(e) if is_missing(&e) => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        let name = name.as_bytes();
        let long_enough = name.len() >= before.len() + after.len();
        if long_enough && name.starts_with(before) && name.ends_with(after) {
            found.push(folder.join(std::ffi::OsStr::from_bytes(name)));
        }
        if found.len() > MAX_MATCHES {
            return Err(io::Error::other(format!("more than {MAX_MATCHES} files have such a name")));
        }
    }
    found.sort();
    Ok(found)
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
    use std::os::unix::fs::MetadataExt;

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
    fn a_file_is_its_owners() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let _ = nix::unistd::chown(file.path(), Some(4711.into()), None); // as root it can be given away
        let Found::Entry(place) = Place::find(file.path()).unwrap() else { panic!("it is there") };
        assert_eq!(place.owner(), fs::metadata(file.path()).unwrap().uid());
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

    #[test]
    fn a_star_in_a_name_stands_for_any_text() {
        let dir = tempfile::tempdir().unwrap();
        for name in
            ["OSL_PIPE_994_Single_aa", "OSL_PIPE__Single_aa", "OSL_PIPE_994_Single_ab", "OSL_PIPE_Single_aa"]
        {
            fs::write(dir.path().join(name), "").unwrap();
        }
        let found = |name: &str| matching(&dir.path().join(name)).unwrap();
        let names = ["OSL_PIPE_994_Single_aa", "OSL_PIPE__Single_aa"].map(|n| dir.path().join(n));
        assert_eq!(found("OSL_PIPE_*_Single_aa"), names);
        assert_eq!(found("OSL_PIPE_994*_Single_ab").len(), 1);
        assert_eq!(found("plain"), [dir.path().join("plain")], "whether it is there is asked later");
        assert!(found("none/OSL_*").is_empty());
        for n in 0..MAX_MATCHES {
            fs::write(dir.path().join(format!("many_{n}")), "").unwrap();
        }
        assert_eq!(found("many_*").len(), MAX_MATCHES);
        fs::write(dir.path().join("many_more"), "").unwrap();
        assert!(matching(&dir.path().join("many_*")).is_err());
    }
}
