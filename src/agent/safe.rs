//! Files that only their owner may write to: whoever can write what the agent reads is root on this machine. So is whoever
//! can put another folder in the place of one on the way there, up to the root (as sshd's StrictModes has it). A folder
//! such as /tmp, in which everybody may make files and nobody replaces another's, is fine on the way, but not at its end.

use nix::unistd::geteuid;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The cluster file, its units, and the folders that they lie in, up to the root.
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
    let ways = [file, &real, &units.join("any")].map(way_to).concat();
    told(paths, ways)
}

/// A folder of the agent's own, what lies in it, and the folders above.
///
/// # Errors
/// As [`look_at_config`].
pub fn look_at_own(folder: &Path) -> Result<(), String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let paths = std::iter::once(folder.to_owned()).chain(entries.map(|entry| entry.path())).collect();
    told(paths, way_to(&folder.join("any")))
}

/// A single file and the folders that it lies in, up to the root.
///
/// # Errors
/// As [`look_at_config`].
pub fn look_at_file(file: &Path) -> Result<(), String> {
    let real = file.canonicalize().unwrap_or_else(|_| file.to_owned());
    let folders = [file, &real].into_iter().filter_map(folder_of);
    let paths = std::iter::once(real.clone()).chain(folders).collect();
    told(paths, [file, &real].map(way_to).concat())
}

/// The folders above the one in which a file lies, as they are written and as they lead there, the nearest first.
fn way_to(file: &Path) -> Vec<PathBuf> {
    let Some(folder) = folder_of(file) else { return Vec::new() };
    let written = std::path::absolute(&folder).ok();
    let leads = written.as_ref().and_then(|folder| folder.canonicalize().ok());
    let above = |folder: &PathBuf| folder.ancestors().skip(1).map(Path::to_owned).collect::<Vec<_>>();
    let mut ways: Vec<PathBuf> = written.iter().chain(&leads).flat_map(above).collect();
    ways.sort_by_key(|path| std::cmp::Reverse(path.components().count()));
    ways.dedup();
    ways
}

fn folder_of(path: &Path) -> Option<PathBuf> {
    let folder = path.parent()?;
    Some(if folder.as_os_str().is_empty() { PathBuf::from(".") } else { folder.to_owned() })
}

/// How many of them are told at once.
const TOLD: usize = 10;

fn told(paths: Vec<PathBuf>, ways: Vec<PathBuf>) -> Result<(), String> {
    let ends = paths.iter().filter_map(|path| wrong_with(path, false));
    let mut wrong: Vec<String> = ends.chain(ways.iter().filter_map(|path| wrong_with(path, true))).collect();
    let mut seen = std::collections::BTreeSet::new();
    wrong.retain(|sentence| seen.insert(sentence.clone()));
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

/// Why a file or folder is not ours alone; or, on the way to one, lets somebody else replace it.
fn wrong_with(path: &Path, on_the_way: bool) -> Option<String> {
    let looked = match std::fs::symlink_metadata(path) {
        // Its own mode says nothing; where it leads to does.
        Ok(link) if link.is_symlink() => std::fs::metadata(path),
        looked => looked,
    };
    judge(path, looked, geteuid().as_raw(), on_the_way)
}

fn judge(path: &Path, looked: io::Result<Metadata>, own: u32, on_the_way: bool) -> Option<String> {
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
    // With the sticky bit only the owner of a file, or of the folder, replaces it (inode(7)).
    let is_held = on_the_way && mode & 0o1000 != 0;
    if counts && mode & 0o022 != 0 && !is_held {
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
    fn so_is_every_folder_on_the_way() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir_all(at("a/b/c/units")).unwrap();
        fs::create_dir_all(at("u/v/units")).unwrap();
        fs::write(at("a/b/c/cluster.toml"), "").unwrap();
        symlink(at("a/b"), at("link")).unwrap();
        let file = at("link/c/cluster.toml");
        let looks: [&dyn Fn() -> Result<(), String>; 3] = [
            &|| look_at_config(&at("a/b/c/cluster.toml"), None),
            &|| look_at_config(&file, Some(&at("u/v/units"))),
            &|| look_at_own(&at("a/b/state")), // which is not there yet
        ];
        for look in looks {
            assert_eq!(look(), Ok(()));
            set_mode(&at("a"), 0o777);
            let told = look().unwrap_err();
            assert!(told.contains(&format!("chmod go-w {}", at("a").display())), "{told}");
            assert_eq!(told.lines().count(), 1, "{told}");
            set_mode(&at("a"), 0o1777);
            assert_eq!(look(), Ok(()), "as /tmp");
            if geteuid().is_root() {
                chown(at("a"), Some(65534), None).unwrap();
                assert!(look().unwrap_err().contains("uid 65534"));
                chown(at("a"), Some(0), None).unwrap();
            }
            set_mode(&at("a"), 0o755);
        }
        set_mode(&at("u"), 0o775);
        assert!(looks[0]().is_ok() && looks[1]().is_err());
        // Where they lie themselves nobody else may put one.
        set_mode(&at("u"), 0o755);
        set_mode(&at("a/b/c"), 0o1777);
        assert!(looks[0]().is_err());
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
