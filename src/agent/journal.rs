//! The journal on this machine's own disk.

use crate::crash;
use crate::journal::{self, Line, Record};
use crate::process::{Boot, Journalled};
use crate::store::{Machine, StoreError};
use std::io;
use std::path::Path;

#[derive(Debug)]
pub struct Journal(journal::Journal);

impl Journal {
    /// # Errors
    /// When the folder cannot be made.
    pub fn open(run: &Path, boot: Boot) -> io::Result<Journal> {
        let journal = journal::Journal::new(run, boot);
        std::fs::create_dir_all(journal.folder())?;
        Ok(Journal(journal))
    }

    /// The boot that it is of.
    pub fn boot(&self) -> &Boot {
        self.0.boot()
    }

    pub fn write(&self, line: Line, instance: &str, record: &Record) -> Result<(), StoreError> {
        crash::here(format_args!("before {line:?}"));
        let written = self.0.write(&mut Machine, instance, record);
        crash::here(format_args!("after {line:?}"));
        written
    }

    /// The instances that it knows, of this boot or another.
    pub fn instances(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.0.folder()).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        names.filter_map(|name| name.strip_suffix(".json").map(str::to_owned)).collect()
    }

    /// Forgets one that nothing is left of.
    pub fn forget(&self, instance: &str) {
        if let Err(e) = self.0.forget(instance) {
            tracing::warn!("{e}");
        }
    }

    /// What was journalled last in this boot.
    pub fn last(&self, instance: &str) -> Journalled {
        let last = self.0.last(&mut Machine, instance);
        last.unwrap_or_else(|e| unreadable(instance, &e).unwrap_or_default())
    }

    /// `None` when there is none of this boot, or only a torn one (which is said): then the marks are looked for.
    pub fn read(&self, instance: &str) -> Option<Record> {
        self.0.read(&mut Machine, instance).unwrap_or_else(|e| unreadable(instance, &e))
    }
}

fn unreadable<T>(instance: &str, error: &StoreError) -> Option<T> {
    tracing::warn!("the journal of {instance} cannot be read, its processes are searched instead: {error}");
    None
}
