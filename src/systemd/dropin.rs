//! What clusterd adds to a unit that it starts and stops: a file in `/run`, which a reboot takes away.
//!
//! Whether and when it is started again is clusterd's to decide, since it asks first whether what it needs is there: so
//! its own `Restart=` and its limit of starts are off. And when the machine goes down it is stopped after
//! `clusterd-shutdown.service`, which stops all in their order.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Where systemd looks for what is volatile.
pub const FOLDER: &str = "/run/systemd/system";
/// After an administrator's own.
const NAME: &str = "zz-clusterd.conf";
const TEXT: &str = "\
# Made by clusterd, which starts and stops this unit; gone with the next boot.
[Unit]
Before=clusterd-shutdown.service
StartLimitIntervalSec=0
[Service]
Restart=no
";

/// The file that belongs to a unit.
pub fn path_of(folder: &Path, unit: &str) -> PathBuf {
    folder.join(format!("{unit}.d")).join(NAME)
}

/// Has these units, and no others, with what is added to them. Whether systemd has to read its files again.
///
/// # Errors
/// The first file that cannot be written, or taken away.
pub fn keep_to(folder: &Path, units: &BTreeSet<String>) -> io::Result<bool> {
    let mut changed = false;
    for unit in units {
        let path = path_of(folder, unit);
        if fs::read_to_string(&path).is_ok_and(|text| text == TEXT) {
            continue;
        }
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&path, TEXT)?;
        changed = true;
    }
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(unit) = name.to_str().and_then(|name| name.strip_suffix(".d")) else { continue };
        let path = path_of(folder, unit);
        if units.contains(unit) || !path.is_file() {
            continue;
        }
        fs::remove_file(&path)?;
        let _ = fs::remove_dir(entry.path()); // there may be somebody else's in it
        changed = true;
    }
    Ok(changed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_get_it_once_and_lose_it_when_they_are_others() {
        let dir = tempfile::tempdir().unwrap();
        let units = |names: &[&str]| names.iter().map(ToString::to_string).collect::<BTreeSet<_>>();
        assert!(keep_to(dir.path(), &units(&["a.service", "b.service"])).unwrap());
        assert!(!keep_to(dir.path(), &units(&["a.service", "b.service"])).unwrap());
        fs::write(dir.path().join("b.service.d/other.conf"), "[Unit]\n").unwrap();
        assert!(keep_to(dir.path(), &units(&["a.service"])).unwrap());
        assert!(fs::read_to_string(path_of(dir.path(), "a.service")).unwrap().contains("Restart=no"));
        assert!(dir.path().join("b.service.d/other.conf").exists());
        assert!(!path_of(dir.path(), "b.service").exists());
    }
}
