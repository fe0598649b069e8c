//! Files that hold keys: nobody else may read or write them. Each has its place whole or not at all, and what was put,
//! moved or removed is so on the disk when the call returns; the order of the calls is all that a crash leaves open.

use crate::crash::{self, Done};
use crate::store::{Disk, Machine};
use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// The longest file that is read, in bytes. Two certificates and a key are about two kilobytes.
const MAX_FILE: u64 = 64 << 10;

/// A file with a key in it cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("cannot {what} {}: {cause}", .path.display())]
    Io { what: &'static str, path: PathBuf, cause: io::Error },
    #[error("{} is not a plain file", .0.display())]
    NotAFile(PathBuf),
    #[error("{} may be read or written by others (mode {mode:03o}): chmod {wanted:03o} {}", .path.display(), .path.display())]
    Open { path: PathBuf, mode: u32, wanted: u32 },
    #[error("{} belongs to another user (uid {uid})", .path.display())]
    NotOurs { path: PathBuf, uid: u32 },
    #[error("{} is longer than {} KiB", .0.display(), MAX_FILE >> 10)]
    TooLong(PathBuf),
    #[error("{} is not text", .0.display())]
    NotText(PathBuf),
}

impl FileError {
    /// Whether there is no such file.
    pub fn is_missing(&self) -> bool {
        matches!(self, FileError::Io { cause, .. } if cause.kind() == io::ErrorKind::NotFound)
    }
}

fn cannot(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FileError {
    let path = path.to_owned();
    move |cause| FileError::Io { what, path, cause }
}

/// Reads a file that only its owner may read, and that is root's or ours. What is read is wiped when it is dropped.
pub fn read(path: &Path) -> Result<Zeroizing<String>, FileError> {
    read_closed(path, 0o077)
}

/// As [`read`], what systemd has put into a service's credentials: the access list that lets the service in shows as a
/// right of the group.
pub fn read_credential(path: &Path) -> Result<Zeroizing<String>, FileError> {
    read_closed(path, 0o027)
}

/// Reads a file that has none of the rights of `others`.
fn read_closed(path: &Path, others: u32) -> Result<Zeroizing<String>, FileError> {
    // Not through a symlink, and not waiting for a writer of a pipe.
    let flags = nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(cannot("open", path))?;
    let meta = file.metadata().map_err(cannot("look at", path))?;
    if !meta.is_file() {
        return Err(FileError::NotAFile(path.to_owned()));
    }
    held_close(path, &meta, others, 0o600)?;
    // Room for all of it at once: a buffer that grows leaves copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_FILE as usize + 1));
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(cannot("read", path))?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(FileError::TooLong(path.to_owned()));
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| FileError::NotText(path.to_owned()))?;
    Ok(Zeroizing::new(text.to_owned()))
}

fn held_close(path: &Path, meta: &fs::Metadata, others: u32, wanted: u32) -> Result<(), FileError> {
    let mode = meta.mode() & 0o777;
    if mode & others != 0 {
        return Err(FileError::Open { path: path.to_owned(), mode, wanted });
    }
    match meta.uid() {
        0 => Ok(()),
        uid if uid == nix::unistd::geteuid().as_raw() => Ok(()),
        uid => Err(FileError::NotOurs { path: path.to_owned(), uid }),
    }
}

/// The file beside a place, in which its next content is written.
pub fn aside(path: &Path) -> PathBuf {
    let mut aside = path.as_os_str().to_owned();
    aside.push(".new");
    PathBuf::from(aside)
}

/// Puts a file in its place, whole and on the disk, with mode 0600.
pub fn write(path: &Path, text: &str) -> Result<(), FileError> {
    let aside = aside(path);
    write_aside(&aside, text)?;
    place(&aside, path)
}

/// Writes a file anew, on the disk, with mode 0600. A crash may leave half of it.
pub fn write_aside(path: &Path, text: &str) -> Result<(), FileError> {
    // One that a crash left may have another mode. One that somebody puts there meanwhile is not written to.
    let _ = Machine.remove(path);
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let written = made.and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()));
    written.map_err(cannot("write", path))?;
    crash::here(Done::KeyAside);
    Ok(())
}

/// Puts a file in the place of another, which may lie in another folder.
pub fn place(from: &Path, to: &Path) -> Result<(), FileError> {
    Machine.rename(from, to).map_err(cannot("replace", to))?;
    crash::here(Done::KeyPlaced);
    sync_folder(to)?;
    if from.parent() == to.parent() { Ok(()) } else { sync_folder(from) }
}

/// Removes a file.
pub fn remove(path: &Path) -> Result<(), FileError> {
    Machine.remove(path).map_err(cannot("remove", path))?;
    crash::here(Done::KeyRemoved);
    sync_folder(path)
}

/// What has happened to the names beside this one is on the disk.
fn sync_folder(path: &Path) -> Result<(), FileError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Machine.sync_folder(folder).map_err(cannot("sync", folder))
}

/// Makes a folder with mode 0700; one that is there already must be closed to others.
pub fn make_folder(path: &Path) -> Result<(), FileError> {
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => {
            fs::set_permissions(path, Permissions::from_mode(0o700)).map_err(cannot("close", path))?;
            crash::here(Done::KeyFolder);
            sync_folder(path)
        }
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => check_folder(path),
        Err(e) => Err(cannot("make the folder", path)(e)),
    }
}

/// Whether a folder is closed to others, and root's or ours.
pub fn check_folder(path: &Path) -> Result<(), FileError> {
    let meta = fs::metadata(path).map_err(cannot("look into", path))?;
    held_close(path, &meta, 0o077, 0o700)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_may_read_or_write_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        write(&path, "secret").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(*read(&path).unwrap(), "secret");
        for mode in [0o640, 0o620, 0o604, 0o602] {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            let error = read(&path).unwrap_err().to_string();
            assert!(error.contains("chmod 600") && !error.contains("secret"), "{error}");
        }
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(read(&link).is_err(), "a symlink");
        assert!(read(folder.path()).is_err(), "a folder");
        assert!(read(&folder.path().join("none")).unwrap_err().is_missing());
    }

    #[test]
    fn a_file_is_replaced_whatever_a_crash_left_aside() {
        let folder = tempfile::tempdir().unwrap();
        let (path, aside) = (folder.path().join("key"), folder.path().join("key.new"));
        fs::write(&aside, "half").unwrap();
        fs::set_permissions(&aside, Permissions::from_mode(0o666)).unwrap();
        write(&path, "whole").unwrap();
        assert_eq!(*read(&path).unwrap(), "whole");
        assert!(!aside.exists());
    }

    #[test]
    fn a_folder_that_others_may_enter_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pki");
        make_folder(&path).unwrap();
        make_folder(&path).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o750)).unwrap();
        assert!(matches!(make_folder(&path), Err(FileError::Open { .. })));
    }
}
