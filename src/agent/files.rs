//! Writing a configuration to where people look for it: `cluster.toml` and its units.

use crate::model::{Sources, units_folder};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Replaces what differs, each file as a whole; a unit that is not among them becomes `NAME.toml.old`. The cluster file
/// comes last.
///
/// # Errors
/// At the first file that cannot be written, with its name. Those before it are written.
pub fn write(sources: &Sources, cluster_toml: &Path, units: Option<&Path>) -> io::Result<()> {
    let folder = units_folder(cluster_toml, units);
    fs::create_dir_all(&folder).map_err(|e| named(&folder, e))?;
    for (name, unit) in &sources.units {
        replace(&folder.join(format!("{name}.toml")), &unit.text)?;
    }
    for entry in fs::read_dir(&folder).map_err(|e| named(&folder, e))? {
        let path = entry?.path();
        let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
        let is_unit = path.extension().is_some_and(|e| e == "toml") && !name.starts_with('.');
        if is_unit && !sources.units.contains_key(name) {
            let old = path.with_extension("toml.old");
            fs::rename(&path, &old).map_err(|e| named(&path, e))?;
        }
    }
    File::open(&folder).and_then(|folder| folder.sync_all()).map_err(|e| named(&folder, e))?;
    replace(cluster_toml, &sources.cluster.text)
}

fn named(path: &Path, e: io::Error) -> io::Error {
    io::Error::new(e.kind(), format!("{}: {e}", path.display()))
}

/// Puts a text in a file's place, unless it is there. A link is followed; the mode stays.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    if fs::read_to_string(path).is_ok_and(|there| there == text) {
        return Ok(());
    }
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let mode = fs::metadata(&path).map_or(0o644, |m| m.permissions().mode() & 0o777);
    let folder = path.parent().map_or_else(|| PathBuf::from("."), Path::to_owned);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    // Not `.toml`: nobody is to take it for a unit.
    let aside = folder.join(format!(".{name}.new"));
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&aside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&aside, &path)?;
        File::open(&folder)?.sync_all()
    })();
    written.map_err(|e| {
        let _ = fs::remove_file(&aside);
        named(&path, e)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Source;

    #[test]
    fn what_is_written_is_what_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let (file, units) = (dir.path().join("cluster.toml"), dir.path().join("units"));
        fs::create_dir(&units).unwrap();
        fs::write(units.join("gone.toml"), "x").unwrap();
        fs::write(units.join("same.toml"), "same").unwrap();
        fs::write(units.join("clusterd.service"), "kept").unwrap();
        let before = fs::metadata(units.join("same.toml")).unwrap().modified().unwrap();
        let source = |text: &str| Source { path: String::new(), text: text.into() };
        let new = Sources {
            cluster: source("the file"),
            folder: String::new(),
            units: [("same", "same"), ("new", "new")].map(|(n, t)| (n.to_owned(), source(t))).into(),
            unread: Default::default(),
        };
        write(&new, &file, None).unwrap();
        assert_eq!(Sources::read(&file, None).unwrap().hash(), new.hash());
        let mut names: Vec<String> =
            fs::read_dir(&units).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        assert_eq!(names, ["clusterd.service", "gone.toml.old", "new.toml", "same.toml"]);
        assert_eq!(fs::metadata(units.join("same.toml")).unwrap().modified().unwrap(), before);
    }
}
