//! The journal: which process is which instance, for the next agent of this boot.
//!
//! One small file per instance in the run folder, which a reboot empties. It is written before a process is
//! started (so that a child that was just forked is looked for by its marks) and again when it is known who it is.

use crate::engine::Memory;
use crate::model::Unit;
use crate::process::{Boot, Identity};
use crate::store::{Slot, StoreError};
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What is known of an instance's process.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    /// The boot in which it was written; in any other one it says nothing.
    pub boot: Boot,
    /// `None` from before the fork until it is known.
    pub identity: Option<Identity>,
    /// The mark of this incarnation in the processes' environment.
    pub nonce: String,
    /// The unit as it was started: its stop uses this one.
    pub unit: Arc<Unit>,
    /// What the engine wants to know again.
    pub memory: Memory,
}

/// The folder of the journal.
#[derive(Debug)]
pub struct Journal {
    folder: PathBuf,
    boot: Boot,
    /// What this agent wrote last of each instance's process, so that a restart need not read it back.
    written: RefCell<HashMap<String, Option<Identity>>>,
}

impl Journal {
    /// # Errors
    /// When the folder cannot be made.
    pub fn open(run: &Path, boot: Boot) -> io::Result<Journal> {
        let folder = run.join("instances");
        std::fs::create_dir_all(&folder)?;
        Ok(Journal { folder, boot, written: RefCell::default() })
    }

    /// The boot that it is of.
    pub fn boot(&self) -> &Boot {
        &self.boot
    }

    fn slot(&self, instance: &str) -> Slot<Record> {
        Slot::volatile(self.folder.join(format!("{instance}.json")))
    }

    pub fn write(&self, instance: &str, record: &Record) -> Result<(), StoreError> {
        self.slot(instance).write(record)?;
        self.written.borrow_mut().insert(instance.to_owned(), record.identity.clone());
        Ok(())
    }

    /// The process that was journalled last in this boot.
    pub fn identity(&self, instance: &str) -> Option<Identity> {
        match self.written.borrow().get(instance) {
            Some(written) => written.clone(),
            None => self.read(instance)?.identity,
        }
    }

    /// `None` when there is none of this boot, or only a torn one (which is said): then the marks are looked for.
    pub fn read(&self, instance: &str) -> Option<Record> {
        match self.slot(instance).read() {
            Ok(found) => found.map(|stored| stored.value).filter(|record| record.boot == self.boot),
            Err(e) => {
                tracing::warn!(
                    "the journal of {instance} cannot be read, its processes are searched instead: {e}"
                );
                None
            }
        }
    }
}
