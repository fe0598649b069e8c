//! The texts that a configuration is made of, read from disk once and within limits.

use super::diag::{Diagnostic, Diagnostics, Place};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// The largest `cluster.toml`, in bytes: ten thousand services of several kilobytes each.
pub const MAX_CLUSTER_FILE: u64 = 64 << 20;
/// The largest unit file, in bytes.
pub const MAX_UNIT_FILE: u64 = 1 << 20;
/// The most unit files in one folder.
pub const MAX_UNIT_FILES: usize = 10_000;
/// The longest name of a unit that another node is given, in bytes.
const MAX_FILE_NAME: usize = 200;

/// One text and where it came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// As shown to people: `cluster.toml`, `units/redis.toml`.
    pub path: String,
    pub text: String,
}

/// A cluster file with its units, as texts: what is parsed, hashed, and kept as the last good configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sources {
    pub cluster: Source,
    /// The folder of the units, as shown to people.
    pub folder: String,
    /// By unit name (the file name without `.toml`).
    pub units: BTreeMap<String, Source>,
    /// Unit files that could not be read, by unit name, and why. They matter only when a service uses them.
    #[serde(default)]
    pub unread: BTreeMap<String, String>,
}

impl Sources {
    /// Reads the cluster file and every `*.toml` in `units` (by default the folder `units` beside the file).
    ///
    /// Only the cluster file and the folder itself must be readable.
    pub fn read(cluster_toml: &Path, units: Option<&Path>) -> Result<Sources, Diagnostics> {
        let folder = &units_folder(cluster_toml, units);
        let shown = cluster_toml.display().to_string();
        let text = read_text(cluster_toml, MAX_CLUSTER_FILE).map_err(|why| {
            refused(
                &shown,
                format!("cannot read the cluster file: {why}"),
                "name the file with `--config FILE`",
            )
        })?;
        let mut sources = Sources {
            cluster: Source { path: shown, text },
            folder: folder.display().to_string(),
            units: BTreeMap::new(),
            unread: BTreeMap::new(),
        };
        sources.read_units(folder).map_err(|why| {
            refused(
                &sources.folder,
                format!("cannot read the folder of the units: {why}"),
                "the units stand in the folder `units` beside cluster.toml",
            )
        })?;
        Ok(sources)
    }

    fn read_units(&mut self, folder: &Path) -> Result<(), String> {
        for entry in std::fs::read_dir(folder).map_err(|e| e.to_string())? {
            let path = entry.map_err(|e| e.to_string())?.path();
            // clusterd.service, editors' copies and the like also live here.
            if path.extension().is_none_or(|e| e != "toml") {
                continue;
            }
            let Some(name) = path.file_stem().and_then(|s| s.to_str()).map(str::to_string) else { continue };
            if name.starts_with('.') {
                continue;
            }
            if self.units.len() + self.unread.len() >= MAX_UNIT_FILES {
                return Err(format!("more than {MAX_UNIT_FILES} unit files"));
            }
            match read_text(&path, MAX_UNIT_FILE) {
                Ok(text) => {
                    self.units.insert(name, Source { path: path.display().to_string(), text });
                }
                Err(why) => {
                    self.unread.insert(name, why);
                }
            }
        }
        Ok(())
    }

    /// The texts in the order of their file numbers: the cluster file, then the units by name.
    pub(super) fn files(&self) -> Vec<&Source> {
        std::iter::once(&self.cluster).chain(self.units.values()).collect()
    }

    /// A content hash: the first 32 hex digits of SHA-256 over every text and unit name, each with its length, so that
    /// moving a letter from one text to the next changes it.
    ///
    /// Paths take no part, so that nodes which keep the same files in different folders agree.
    pub fn hash(&self) -> String {
        let mut hash = ring::digest::Context::new(&ring::digest::SHA256);
        let mut text = |text: &str| {
            hash.update(&(text.len() as u64).to_le_bytes());
            hash.update(text.as_bytes());
        };
        text(&self.cluster.text);
        for (name, unit) in &self.units {
            text(name);
            text(&unit.text);
        }
        hash.finish().as_ref()[..16].iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The same texts, said to be in these places.
    pub fn placed(mut self, cluster_toml: &Path, units: Option<&Path>) -> Sources {
        let folder = units_folder(cluster_toml, units);
        self.cluster.path = cluster_toml.display().to_string();
        for (name, unit) in &mut self.units {
            unit.path = folder.join(format!("{name}.toml")).display().to_string();
        }
        self.folder = folder.display().to_string();
        self
    }

    /// Whether texts that came from elsewhere are within the limits that [`Sources::read`] holds files to, and each
    /// unit's name can be a file's.
    ///
    /// # Errors
    /// The sentence that says what is not.
    pub fn check_limits(&self) -> Result<(), String> {
        if self.cluster.text.len() as u64 > MAX_CLUSTER_FILE {
            return Err(format!("the cluster file is larger than {} MiB", MAX_CLUSTER_FILE >> 20));
        }
        if self.units.len() > MAX_UNIT_FILES {
            return Err(format!("there are more than {MAX_UNIT_FILES} unit files"));
        }
        for (name, unit) in &self.units {
            let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
            if !plain || name.is_empty() || name.starts_with('.') || name.len() > MAX_FILE_NAME {
                return Err(format!("a unit file cannot be called {:?}", format!("{name}.toml")));
            }
            if unit.text.len() as u64 > MAX_UNIT_FILE {
                return Err(format!("the unit {name} is larger than {} MiB", MAX_UNIT_FILE >> 20));
            }
        }
        Ok(())
    }
}

/// Where the units of a cluster file are: where it is said, or in the folder `units` beside it.
pub fn units_folder(cluster_toml: &Path, units: Option<&Path>) -> PathBuf {
    let beside = || cluster_toml.parent().unwrap_or(Path::new("")).join("units");
    units.map_or_else(beside, Path::to_owned)
}

/// A whole regular file as UTF-8, or why not.
fn read_text(path: &Path, limit: u64) -> Result<String, String> {
    // Looked at first: opening a FIFO would wait for ever.
    let kind = std::fs::metadata(path).map_err(|e| e.to_string())?;
    if !kind.is_file() {
        return Err("it is not a regular file".to_string());
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(|e| e.to_string())?;
    file.take(limit + 1).read_to_end(&mut bytes).map_err(|e| e.to_string())?;
    if bytes.len() as u64 > limit {
        return Err(format!("it is larger than {} MiB", limit >> 20));
    }
    String::from_utf8(bytes).map_err(|e| {
        let good = e.utf8_error().valid_up_to();
        let line = e.as_bytes()[..good].iter().filter(|b| **b == b'\n').count() + 1;
        format!("line {line} is not UTF-8")
    })
}

fn refused(file: &str, message: String, hint: &str) -> Diagnostics {
    let place = Place::file(file);
    let one = Diagnostic { message, place, notes: Vec::new(), hint: Some(hint.to_string()) };
    Diagnostics { list: vec![one], more: 0 }
}
