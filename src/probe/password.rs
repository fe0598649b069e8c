//! Reading a password from the file that a [`Login`] names. The password never gets into a verdict, not even where a
//! server gives it back in its error.

use super::net::plain;
use crate::facts::{Trouble, Verdict};
use crate::model::{Ask, Login};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

/// The longest password file that is read, in bytes.
const LONGEST: u64 = 4096;

/// The login's password; `None` when it has none. Trouble with the file is a verdict already.
pub(super) fn of(login: &Login) -> Result<Option<String>, Verdict> {
    let Some(path) = &login.password_file else { return Ok(None) };
    read(path).map(Some).map_err(|why| Verdict::not_ready(Trouble::Unaskable, why))
}

fn read(path: &Path) -> Result<String, String> {
    let cannot = |e: io::Error| format!("cannot read the password file {}: {}", path.display(), plain(&e));
    // Without O_NONBLOCK, opening a pipe by that name would wait for its other end.
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(cannot)?;
    let meta = file.metadata().map_err(cannot)?;
    let refuse = |why: String| Err(format!("the password file {} {why}", path.display()));
    if !meta.is_file() {
        return refuse("is not a regular file".into());
    }
    if meta.mode() & 0o077 != 0 {
        return refuse(format!(
            "is open to others than its owner (mode {:03o}): chmod 600 it",
            meta.mode() & 0o777
        ));
    }
    if meta.len() > LONGEST {
        return refuse(format!("is longer than {LONGEST} bytes"));
    }
    let mut text = String::new();
    file.take(LONGEST).read_to_string(&mut text).map_err(cannot)?;
    let end = text.trim_end_matches(['\r', '\n']).len();
    text.truncate(end);
    Ok(text)
}

/// The verdict without the password that the question is asked with.
pub(super) fn left_out(verdict: Verdict, ask: &Ask) -> Verdict {
    let Some(login) = login_of(ask).filter(|_| !verdict.is_ready()) else { return verdict };
    // A shorter one stands in many a word by chance, and is none.
    let Some(secret) = of(login).ok().flatten().filter(|secret| secret.len() >= 4) else { return verdict };
    let without = |reason: String| reason.replace(&secret, "(its password)");
    match verdict {
        Verdict::NotReady { reason, kind } => Verdict::NotReady { reason: without(reason), kind },
        Verdict::Progress { reason, percent, left } => {
            Verdict::Progress { reason: without(reason), percent, left }
        }
        ready @ Verdict::Ready(_) => ready,
    }
}

fn login_of(ask: &Ask) -> Option<&Login> {
    match ask {
        Ask::Mysql { login, .. } | Ask::Redis { login, .. } => login.as_ref(),
        Ask::Postgres { login, .. } => Some(login),
        _ => None,
    }
}

/// A file that a person wrote and that anybody may read, at most a megabyte of it.
pub(super) fn small_file(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    file.take(1 << 20).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    fn file(folder: &Path, name: &str, text: &[u8], mode: u32) -> PathBuf {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    #[test]
    fn the_last_newline_is_no_part_of_it() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read(&file(dir.path(), "unix", b" two words \n", 0o600)).unwrap(), " two words ");
        assert_eq!(read(&file(dir.path(), "dos", b"secret\r\n", 0o400)).unwrap(), "secret");
    }

    #[test]
    fn a_file_open_to_others_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = file(dir.path(), "open", b"secret\n", 0o640);
        assert_eq!(
            read(&path).unwrap_err(),
            format!(
                "the password file {} is open to others than its owner (mode 640): chmod 600 it",
                path.display()
            )
        );
    }

    #[test]
    fn what_is_missing_or_no_file_or_too_long_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let gone = dir.path().join("gone");
        assert_eq!(
            read(&gone).unwrap_err(),
            format!("cannot read the password file {}: no such file or directory", gone.display())
        );
        assert!(read(dir.path()).unwrap_err().ends_with("is not a regular file"));
        let long = file(dir.path(), "long", &[b'x'; 5000], 0o600);
        assert!(read(&long).unwrap_err().ends_with("is longer than 4096 bytes"));
    }
}
