//! The texts that a configuration is made of, read from disk once and within limits.

use super::diag::{Diagnostic, Diagnostics, Place};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// The largest `cluster.toml`, in bytes: ten thousand services of several kilobytes each.
pub const MAX_CLUSTER_FILE: u64 = 64 << 20;
/// The largest unit file, in bytes.
pub const MAX_UNIT_FILE: u64 = 1 << 20;
/// The most unit files in one folder.
pub const MAX_UNIT_FILES: usize = 10_000;

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
        let beside = cluster_toml.parent().unwrap_or(Path::new("")).join("units");
        let folder = units.unwrap_or(&beside);
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

    /// A content hash in hex: 64-bit FNV-1a over every text and unit name, each with its length.
    ///
    /// It tells configurations apart; it is no defence against somebody who wants two to look alike. Paths take
    /// no part, so that nodes which keep the same files in different folders agree.
    pub fn hash(&self) -> String {
        let mut hash = Fnv(0xcbf2_9ce4_8422_2325);
        hash.text(&self.cluster.text);
        for (name, unit) in &self.units {
            hash.text(name);
            hash.text(&unit.text);
        }
        format!("{:016x}", hash.0)
    }
}

/// FNV-1a, 64 bit.
struct Fnv(u64);

impl Fnv {
    fn bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    /// With the length first, so that moving a letter from one text to the next changes the hash.
    fn text(&mut self, text: &str) {
        self.bytes(&(text.len() as u64).to_le_bytes());
        self.bytes(text.as_bytes());
    }
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
