//! Writing a rig's files and folders, with their owners.

use super::RigError;
use nix::unistd::{Gid, Uid, User, chown};
use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Who owns what is written.
pub enum Owner {
    /// Whoever runs this.
    Me,
    Other(Uid, Gid),
}

impl Owner {
    /// The system user of that name.
    pub fn named(user: &'static str) -> Result<Owner, RigError> {
        match User::from_name(user) {
            Ok(Some(found)) => Ok(Owner::Other(found.uid, found.gid)),
            _ => Err(RigError::NoUser(user)),
        }
    }

    /// Makes `path` theirs.
    fn take(&self, path: &Path) -> Result<(), RigError> {
        match self {
            Owner::Me => Ok(()),
            Owner::Other(uid, gid) => {
                at("change the owner of", path)(chown(path, Some(*uid), Some(*gid)).map_err(io::Error::from))
            }
        }
    }
}

/// Gives a file error its story.
fn at<T>(what: &'static str, path: &Path) -> impl FnOnce(io::Result<T>) -> Result<T, RigError> {
    let path = path.to_owned();
    move |done| done.map_err(|source| RigError::File { what, path, source })
}

/// Makes a folder and those above it; only the last is given to `owner`.
pub fn make_folder(path: &Path, owner: &Owner) -> Result<(), RigError> {
    at("make the folder", path)(fs::create_dir_all(path))?;
    owner.take(path)
}

/// Writes a file of that mode; its content is never readable to others, not even for a moment.
pub fn write(path: &Path, text: &str, owner: &Owner, mode: u32) -> Result<(), RigError> {
    remove_file(path)?;
    let opened = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    let mut file = at("write", path)(opened)?;
    at("write", path)(file.write_all(text.as_bytes()))?;
    at("set the mode of", path)(file.set_permissions(Permissions::from_mode(mode)))?;
    owner.take(path)
}

/// Copies a folder with all that is in it.
pub fn copy_tree(from: &Path, to: &Path, owner: &Owner) -> Result<(), RigError> {
    make_folder(to, owner)?;
    for entry in at("list", from)(fs::read_dir(from))? {
        let entry = at("list", from)(entry)?;
        let target = to.join(entry.file_name());
        if at("look at", &entry.path())(entry.file_type())?.is_dir() {
            copy_tree(&entry.path(), &target, owner)?;
        } else {
            at("copy", &entry.path())(fs::copy(entry.path(), &target))?;
            owner.take(&target)?;
        }
    }
    Ok(())
}

/// Removes a folder with all that is in it, if it is there.
pub fn remove_tree(path: &Path) -> Result<(), RigError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => at("remove", path)(done),
    }
}

/// A new password: 128 random bits as hex.
pub fn password() -> Result<String, RigError> {
    let path = Path::new("/dev/urandom");
    let mut bytes = [0; 16];
    at("read", path)(fs::File::open(path).and_then(|mut file| file.read_exact(&mut bytes)))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Runs a program to its end and expects success.
pub fn run(command: &mut Command) -> Result<(), RigError> {
    let program = PathBuf::from(command.get_program());
    let output = match command.output() {
        Ok(output) => output,
        Err(source) => return Err(RigError::Run { program, source }),
    };
    if output.status.success() {
        return Ok(());
    }
    let said = [&output.stdout[..], &output.stderr[..]].concat();
    let said = String::from_utf8_lossy(&said).trim().to_owned();
    Err(RigError::Failed { program, status: output.status, said })
}

/// Removes a file, if it is there.
pub fn remove_file(path: &Path) -> Result<(), RigError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => at("remove", path)(done),
    }
}
