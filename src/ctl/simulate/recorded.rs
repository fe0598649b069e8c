//! Start-up times from recorded boots: the `ready` events that an agent has kept.

use crate::api::wire::EventRecord;
use crate::ctl::picture::service_of;
use anyhow::Context;
use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::path::{Path, PathBuf};

/// An agent's log is at most 4 MiB; what is much larger is not one.
const MOST: u64 = 64 << 20;

/// Every start that is told under `path` (a state folder, or one file): its service and how many milliseconds it took.
///
/// Lines that are no events are left out: a power cut may have torn one.
///
/// # Errors
/// A path that cannot be read.
pub fn starts(path: &Path) -> anyhow::Result<Vec<(String, u64)>> {
    let files: Vec<PathBuf> = if path.is_dir() {
        ["events.1.jsonl", "events.jsonl"].iter().map(|f| path.join(f)).collect()
    } else {
        vec![path.to_owned()]
    };
    let mut starts = Vec::new();
    for file in files {
        let opened = match File::open(&file) {
            // There is an older one only once the log was set aside.
            Err(e) if e.kind() == ErrorKind::NotFound && file.ends_with("events.1.jsonl") => continue,
            opened => opened,
        };
        let cannot = || format!("cannot read {}", file.display());
        for line in BufReader::new(opened.with_context(cannot)?.take(MOST)).split(b'\n') {
            let Ok(event) = serde_json::from_slice::<EventRecord>(&line.with_context(cannot)?) else {
                continue;
            };
            if let ("ready", Some(ms)) = (&*event.what, event.data["after_ms"].as_u64()) {
                starts.push((service_of(&event.instance).to_owned(), ms));
            }
        }
    }
    Ok(starts)
}
