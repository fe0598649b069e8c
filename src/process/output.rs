//! What services print: one file an instance, appended to by the service itself, so that no line is lost when the
//! agent dies.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// A file larger than this at a start is set aside as `NAME.1`, replacing the one set aside before: so an instance
/// keeps at least its last 64 MiB. (While a service runs, its file is not touched.)
pub const ROTATE_AT: u64 = 64 << 20;

/// Opens the file for appending, readable by its group; makes the folder; sets a large one aside first.
pub fn open(path: &Path) -> io::Result<File> {
    open_rotating(path, ROTATE_AT)
}

fn open_rotating(path: &Path, rotate_at: u64) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true).mode(0o640).custom_flags(libc::O_NOFOLLOW);
    // One that is there is not asked to be made: on a disk that hangs even that waits.
    let there = options.open(path);
    let open = || options.clone().create(true).open(path);
    let there = match there {
        Err(e) if e.kind() == io::ErrorKind::NotFound => open(),
        opened => opened,
    };
    let file = match there {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            path.parent().map_or(Ok(()), fs::create_dir_all)?;
            open()?
        }
        opened => opened?,
    };
    if file.metadata()?.len() <= rotate_at {
        return Ok(file);
    }
    fs::rename(path, aside(path))?;
    open()
}

fn aside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".1");
    PathBuf::from(name)
}

/// The last lines of the file, oldest first: at most `lines` of them, and of at most the last `max_bytes` bytes. A
/// line that the byte limit cuts is left out, unless it is the only one. A missing file has no lines.
pub fn tail(path: &Path, lines: usize, max_bytes: u64) -> io::Result<Vec<String>> {
    let mut file = match File::open(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        opened => opened?,
    };
    let length = file.metadata()?.len();
    let from = length.saturating_sub(max_bytes);
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.take(max_bytes).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let mut found: Vec<&str> = text.lines().collect();
    if from > 0 && found.len() > 1 {
        found.remove(0);
    }
    let skip = found.len().saturating_sub(lines);
    Ok(found.split_off(skip).into_iter().map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn the_folder_is_made_and_what_was_there_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b/redis@redis1.log");
        open(&path).unwrap().write_all(b"one\n").unwrap();
        open(&path).unwrap().write_all(b"two\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "one\ntwo\n");
    }

    #[test]
    fn a_large_file_is_set_aside_at_the_start() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.log");
        open_rotating(&path, 4).unwrap().write_all(b"12345").unwrap();
        open_rotating(&path, 4).unwrap().write_all(b"new").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(fs::read_to_string(dir.path().join("x.log.1")).unwrap(), "12345");
    }

    #[test]
    fn a_symlink_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("passwd");
        fs::write(&target, "root").unwrap();
        std::os::unix::fs::symlink(&target, dir.path().join("x.log")).unwrap();
        assert_eq!(open(&dir.path().join("x.log")).unwrap_err().raw_os_error(), Some(libc::ELOOP));
    }

    #[test]
    fn the_tail_is_the_last_whole_lines() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.log");
        assert!(tail(&path, 3, 100).unwrap().is_empty());
        fs::write(&path, "first\nsecond\nthird\nfourth").unwrap();
        assert_eq!(tail(&path, 2, 100).unwrap(), ["third", "fourth"]);
        assert_eq!(tail(&path, 9, 14).unwrap(), ["third", "fourth"], "the cut `d` of `second` is left out");
        assert_eq!(tail(&path, 9, 3).unwrap(), ["rth"]);
        fs::write(&path, b"bad \xff byte\n").unwrap();
        assert_eq!(tail(&path, 1, 100).unwrap(), ["bad \u{fffd} byte"]);
    }
}
