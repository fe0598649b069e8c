//! Files that only their owner may write to: whoever can write what the agent reads is root on this machine.

use nix::unistd::geteuid;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The cluster file, its units, and the folders that they lie in.
///
/// # Errors
/// A sentence for each that somebody else may write to, with what to type; and what cannot be looked at is left for who
/// reads it to tell.
pub fn look_at_config(file: &Path, units: Option<&Path>) -> Result<(), String> {
    // A link leads to where it leads; who may put another in its place counts as well.
    let real = file.canonicalize().unwrap_or_else(|_| file.to_owned());
    let mut paths: Vec<PathBuf> = vec![real.clone()];
    paths.extend([file, &real].iter().filter_map(|path| folder_of(path)));
    let units = units.map_or_else(|| file.parent().unwrap_or(Path::new("")).join("units"), Path::to_owned);
    if let Ok(entries) = std::fs::read_dir(&units) {
        paths.push(units.clone());
        let files = entries.flatten().map(|entry| entry.path());
        paths.extend(files.filter(|path| path.extension().is_some_and(|e| e == "toml")));
    }
    told(paths)
}

/// A folder of the agent's own, and what lies in it.
///
/// # Errors
/// As [`look_at_config`].
pub fn look_at_own(folder: &Path) -> Result<(), String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    told(std::iter::once(folder.to_owned()).chain(entries.map(|entry| entry.path())))
}

fn folder_of(path: &Path) -> Option<PathBuf> {
    let folder = path.parent()?;
    Some(if folder.as_os_str().is_empty() { PathBuf::from(".") } else { folder.to_owned() })
}

/// How many of them are told at once.
const TOLD: usize = 10;

fn told(paths: impl IntoIterator<Item = PathBuf>) -> Result<(), String> {
    let mut wrong: Vec<String> = paths.into_iter().filter_map(|path| wrong_with(&path)).collect();
    wrong.dedup();
    if wrong.is_empty() {
        return Ok(());
    }
    let more = wrong.len().saturating_sub(TOLD);
    wrong.truncate(TOLD);
    if more > 0 {
        wrong.push(format!("and {more} more"));
    }
    Err(wrong.join("\n"))
}

/// Why a file or folder is not ours alone.
fn wrong_with(path: &Path) -> Option<String> {
    let looked = match std::fs::symlink_metadata(path) {
        // Its own mode says nothing; where it leads to does.
        Ok(link) if link.is_symlink() => std::fs::metadata(path),
        looked => looked,
    };
    judge(path, looked, geteuid().as_raw())
}

fn judge(path: &Path, looked: io::Result<Metadata>, own: u32) -> Option<String> {
    let meta = looked.ok()?;
    let (shown, mode, uid) = (path.display(), meta.mode() & 0o7777, meta.uid());
    if uid != 0 && uid != own {
        let to = if own == 0 { "root".to_owned() } else { own.to_string() };
        return Some(format!(
            "{shown} belongs to another user (uid {uid}), who may write what is done as root here: chown {to} {shown}"
        ));
    }
    // A socket may be written to by who may ask; a link's mode is no mode.
    let counts = meta.is_file() || meta.is_dir();
    if counts && mode & 0o022 != 0 {
        return Some(format!("{shown} may be written to by others (mode {mode:04o}): chmod go-w {shown}"));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, chown, symlink};

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn each_file_and_each_folder_is_looked_at() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir(at("units")).unwrap();
        for name in ["cluster.toml", "units/redis.toml", "units/README"] {
            fs::write(at(name), "").unwrap();
        }
        let look = || look_at_config(&at("cluster.toml"), None);
        assert_eq!(look(), Ok(()));
        for (name, mode) in
            [("cluster.toml", 0o646), ("units", 0o775), ("units/redis.toml", 0o666), ("", 0o777)]
        {
            let before = fs::metadata(at(name)).unwrap().permissions();
            set_mode(&at(name), mode);
            let told = look().unwrap_err();
            assert!(
                told.contains(&format!(
                    "chmod go-w {}",
                    at(name).display().to_string().trim_end_matches('/')
                )),
                "{name}: {told}"
            );
            fs::set_permissions(at(name), before).unwrap();
        }
        // No unit, so nobody's business; not there, so told by who reads it.
        set_mode(&at("units/README"), 0o666);
        assert_eq!(look(), Ok(()));
        assert_eq!(look_at_config(&at("none/cluster.toml"), None), Ok(()));

        // A link is judged by where it leads.
        let aside = tempfile::tempdir().unwrap();
        fs::write(aside.path().join("real.toml"), "").unwrap();
        fs::remove_file(at("cluster.toml")).unwrap();
        symlink(aside.path().join("real.toml"), at("cluster.toml")).unwrap();
        assert_eq!(look(), Ok(()));
        set_mode(aside.path(), 0o757);
        assert!(look().is_err());
    }

    #[test]
    fn what_belongs_to_somebody_else_is_refused() {
        if !geteuid().is_root() {
            return; // only root can give a file away
        }
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("wishes.json");
        fs::write(&file, "").unwrap();
        assert_eq!(look_at_own(dir.path()), Ok(()));
        chown(&file, Some(65534), None).unwrap();
        let told = look_at_own(dir.path()).unwrap_err();
        assert!(told.contains("uid 65534") && told.contains("chown root"), "{told}");
    }
}
