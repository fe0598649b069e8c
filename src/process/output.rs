//! What services print: one file an instance, appended to by the service itself, so that no line is lost when the
//! agent dies. The layer `logs` rotates and reads it.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Opens the file for appending, readable by its group; makes the folder.
pub fn open(path: &Path) -> io::Result<File> {
    let open =
        || OpenOptions::new().append(true).create(true).mode(0o640).custom_flags(libc::O_NOFOLLOW).open(path);
    match open() {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            path.parent().map_or(Ok(()), fs::create_dir_all)?;
            open()
        }
        opened => opened,
    }
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
    fn a_symlink_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("passwd");
        fs::write(&target, "root").unwrap();
        std::os::unix::fs::symlink(&target, dir.path().join("x.log")).unwrap();
        assert_eq!(open(&dir.path().join("x.log")).unwrap_err().raw_os_error(), Some(libc::ELOOP));
    }
}
