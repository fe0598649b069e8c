//! Reading a password where a [`Login`] says that it is. It never gets into a verdict, not even where a server gives it
//! back in its error ([`said`]). It is wiped from our memory when it has been used; what the drivers make of it they keep
//! as they do.

use super::net::{self, plain};
use crate::facts::{Trouble, Verdict};
use crate::model::{Login, Secret};
use std::env::VarError;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// The longest password, or key as PEM, that is read, in bytes.
const LONGEST: u64 = 16_384;
/// Where systemd puts a service's credentials (systemd.exec(5)).
const CREDENTIALS: &str = "CREDENTIALS_DIRECTORY";

/// The login's password; `None` when it has none. Trouble with finding it is a verdict already.
pub(super) fn of(login: &Login) -> Result<Option<Zeroizing<String>>, Verdict> {
    let Some(secret) = &login.password else { return Ok(None) };
    let read = match secret {
        // Nobody else may read it, nor write it.
        Secret::File(path) => read(path, "password file", 0o077),
        Secret::Env(name) => variable(name, std::env::var(name)).map(Zeroizing::new),
        Secret::Credential(name) => credential(name, std::env::var_os(CREDENTIALS)),
    };
    read.map(Some).map_err(|why| Verdict::not_ready(Trouble::Unaskable, why))
}

fn variable(name: &str, value: Result<String, VarError>) -> Result<String, String> {
    value.map_err(|error| match error {
        VarError::NotPresent => {
            format!("there is no {name} with the password in the asking program's environment")
        }
        VarError::NotUnicode(_) => {
            format!("the password in {name} of the asking program's environment is no text")
        }
    })
}

/// Where systemd has put a credential of this program's; `None` where it has given it none.
pub fn credential_path(name: &str) -> Option<PathBuf> {
    credential_in(std::env::var_os(CREDENTIALS), name)
}

fn credential_in(folder: Option<OsString>, name: &str) -> Option<PathBuf> {
    folder.map(PathBuf::from).filter(|folder| folder.is_absolute()).map(|folder| folder.join(name))
}

fn credential(name: &str, folder: Option<OsString>) -> Result<Zeroizing<String>, String> {
    let Some(path) = credential_in(folder, name) else {
        return Err(format!(
            "systemd has given the asking program no credential {name}: LoadCredential={name}:/path belongs into its unit"
        ));
    };
    // systemd lets a service's own user in by an access list, which shows as a right of the group.
    read(&path, "credential", 0o007)
}

/// Reads a `what` that is open to nobody by the bits of `others`.
pub(super) fn read(path: &Path, what: &str, others: u32) -> Result<Zeroizing<String>, String> {
    let cannot = |e: io::Error| format!("cannot read the {what} {}: {}", path.display(), plain(&e));
    // Without O_NONBLOCK, opening a pipe by that name would wait for its other end.
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(cannot)?;
    let meta = file.metadata().map_err(cannot)?;
    let refuse = |why: String| Err(format!("the {what} {} {why}", path.display()));
    if !meta.is_file() {
        return refuse("is not a regular file".into());
    }
    if meta.mode() & others != 0 {
        return refuse(format!(
            "is open to others than its owner (mode {:03o}): chmod 600 it",
            meta.mode() & 0o777
        ));
    }
    if meta.len() > LONGEST {
        return refuse(format!("is longer than {LONGEST} bytes"));
    }
    // Room for all of it at once: a buffer that grows leaves copies behind.
    let mut text = Zeroizing::new(String::with_capacity(LONGEST as usize + 32));
    file.take(LONGEST).read_to_string(&mut text).map_err(cannot)?;
    let end = text.trim_end_matches(['\r', '\n']).len();
    text.truncate(end);
    Ok(text)
}

/// What a server says, as it is shown: without the password that it was told, where it gives it back. Our own
/// sentences around it are left alone, whatever words the password is made of.
pub(super) fn said(login: Option<&Login>, words: &[u8]) -> String {
    let secret = login.and_then(|login| of(login).ok().flatten());
    // A shorter one stands in many a word by chance, and is none.
    match secret.filter(|secret| secret.len() >= 4) {
        Some(secret) => {
            net::shown(String::from_utf8_lossy(words).replace(secret.as_str(), "(its password)").as_bytes())
        }
        None => net::shown(words),
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

    fn read_file(path: &Path) -> Result<String, String> {
        read(path, "password file", 0o077).map(|text| text.to_string())
    }

    fn file(folder: &Path, name: &str, text: &[u8], mode: u32) -> PathBuf {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    #[test]
    fn the_last_newline_is_no_part_of_it() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read_file(&file(dir.path(), "unix", b" two words \n", 0o600)).unwrap(), " two words ");
        assert_eq!(read_file(&file(dir.path(), "dos", b"secret\r\n", 0o400)).unwrap(), "secret");
    }

    #[test]
    fn a_file_open_to_others_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = file(dir.path(), "open", b"secret\n", 0o640);
        assert_eq!(
            read_file(&path).unwrap_err(),
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
            read_file(&gone).unwrap_err(),
            format!("cannot read the password file {}: no such file or directory", gone.display())
        );
        assert!(read_file(dir.path()).unwrap_err().ends_with("is not a regular file"));
        let long = file(dir.path(), "long", &[b'x'; 20_000], 0o600);
        assert!(read_file(&long).unwrap_err().ends_with("is longer than 16384 bytes"));
    }

    #[test]
    fn a_password_is_in_the_environment_or_in_a_credential() {
        assert_eq!(variable("PW", Ok("two words".into())).unwrap(), "two words");
        let missing = variable("PW", Err(VarError::NotPresent)).unwrap_err();
        assert_eq!(missing, "there is no PW with the password in the asking program's environment");
        let dir = tempfile::tempdir().unwrap();
        let given = Some(dir.path().as_os_str().to_owned());
        file(dir.path(), "mysql", b"secret\n", 0o440);
        assert_eq!(credential("mysql", given.clone()).unwrap().as_str(), "secret");
        let open = file(dir.path(), "open", b"secret\n", 0o444);
        let why = format!(
            "the credential {} is open to others than its owner (mode 444): chmod 600 it",
            open.display()
        );
        assert_eq!(credential("open", given.clone()).unwrap_err(), why);
        let gone = dir.path().join("gone");
        let why = format!("cannot read the credential {}: no such file or directory", gone.display());
        assert_eq!(credential("gone", given).unwrap_err(), why);
        let none = "systemd has given the asking program no credential mysql: LoadCredential=mysql:/path belongs into its unit";
        assert_eq!(credential("mysql", None).unwrap_err(), none);
    }

    #[test]
    fn only_what_a_server_says_is_without_the_password() {
        let dir = tempfile::tempdir().unwrap();
        let path = file(dir.path(), "word", b"error\n", 0o600);
        let login = Login { user: "probe".into(), password: Some(Secret::File(path)) };
        assert_eq!(
            said(Some(&login), b"error: wrong password error"),
            "(its password): wrong password (its password)"
        );
        assert_eq!(said(None, b"an error"), "an error");
        // It is left out before what is said is cut, not after.
        let long = [&b"x".repeat(97)[..], b"error"].concat();
        assert!(!said(Some(&login), &long).contains("err"));
    }
}
