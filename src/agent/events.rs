//! The agent's events: on disk for after a power cut, the latest in memory for those who ask.

use super::clerk::Clerk;
use crate::api::wire::EventRecord;
use crate::clock;
use crate::crash::{self, Done};
use crate::facts::Moment;
use crate::store::EventLog;
use std::collections::VecDeque;
use std::path::Path;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How many events are kept in memory; older ones are in the file.
const IN_MEMORY: usize = 1000;

/// How long an event is kept until others may be written with it: the clerk has a processor to itself then, which
/// whoever is started or stopped by the same input wants first.
const LATER: Duration = Duration::from_millis(2);
/// So many are not kept back.
const MANY: usize = 256;

pub struct Events {
    file: Arc<Mutex<EventFile>>,
    clerk: Rc<Clerk>,
    latest: VecDeque<Kept>,
    /// Not given to the clerk yet.
    unwritten: Vec<Arc<str>>,
    /// When these are to be given to it.
    due: Option<Moment>,
    next: u64,
}

/// An event as JSON: its facts as values would take several times as much memory.
struct Kept {
    seq: u64,
    json: Arc<str>,
}

impl Kept {
    fn of(event: &EventRecord) -> Kept {
        // Text and JSON values can be told as JSON.
        Kept { seq: event.seq, json: serde_json::to_string(event).unwrap_or_default().into() }
    }

    fn event(&self) -> Option<EventRecord> {
        serde_json::from_str(&self.json).ok()
    }
}

/// The clerk's part.
struct EventFile {
    log: Option<EventLog>,
    /// Why the last write failed.
    trouble: Option<String>,
}

impl EventFile {
    fn append(&mut self, events: &[Arc<str>]) {
        let Some(log) = &mut self.log else { return };
        match log.append(events.iter().map(Arc::as_ref)) {
            Ok(()) => {
                self.trouble = None;
                crash::here(Done::Event);
            }
            Err(e) => {
                if self.trouble.is_none() {
                    tracing::error!("{e}; events are kept in memory until it works again");
                }
                self.trouble = Some(e.to_string());
            }
        }
    }
}

impl Events {
    /// Opens the log in the state folder. Without one (a full or read-only disk) events live in memory.
    pub fn open(state: &Path, clerk: Rc<Clerk>) -> Events {
        let mut latest = VecDeque::new();
        let mut next = 1;
        let file = match EventLog::open(state) {
            Ok(log) => {
                next = log.next_seq();
                let from = next.saturating_sub(IN_MEMORY as u64 + 1);
                let read = log.read(from, IN_MEMORY).unwrap_or_default().into_iter();
                latest = read.map(|(seq, json)| Kept { seq, json: json.into() }).collect();
                EventFile { log: Some(log), trouble: None }
            }
            Err(e) => {
                tracing::error!("{e}; events are kept in memory");
                EventFile { log: None, trouble: Some(e.to_string()) }
            }
        };
        Events { file: Arc::new(Mutex::new(file)), clerk, latest, unwritten: Vec::new(), due: None, next }
    }

    /// Why events do not reach the disk, as a sentence.
    pub fn problem(&self) -> Option<String> {
        // Whoever holds it waits for the disk, which is a problem of its own.
        let file = self.file.try_lock().ok()?;
        file.trouble.as_ref().map(|trouble| format!("events are kept in memory only: {trouble}"))
    }

    /// When [`Events::write`] is to be called.
    pub fn due(&self) -> Option<Moment> {
        self.due
    }

    /// Has all that happened written down, a moment later.
    pub fn write_later(&mut self) {
        match self.unwritten.len() {
            0 => {}
            MANY.. => self.write(),
            _ => self.due = self.due.or_else(|| Some(clock::now() + LATER)),
        }
    }

    /// Has all that happened since the last time written down.
    pub fn write(&mut self) {
        self.due = None;
        if self.unwritten.is_empty() {
            return;
        }
        let (file, events) = (self.file.clone(), std::mem::take(&mut self.unwritten));
        self.clerk.give(move || {
            if let Ok(mut file) = file.lock() {
                file.append(&events);
            }
        });
        self.clerk.keep_step();
    }

    /// Writes down what happens now.
    pub fn record(&mut self, instance: &str, what: &str, text: &str, data: serde_json::Value) {
        self.record_at(clock::now(), instance, what, text, data);
        self.write();
    }

    /// Takes in what happened a little while ago; [`Events::write`] has it written down.
    pub fn record_at(&mut self, at: Moment, instance: &str, what: &str, text: &str, data: serde_json::Value) {
        let kept = Kept::of(&EventRecord {
            seq: self.next,
            clock_ms: since_1970(SystemTime::now() - clock::now().since(at)),
            at,
            instance: instance.to_owned(),
            what: what.to_owned(),
            text: text.to_owned(),
            data,
        });
        self.next += 1;
        if instance.is_empty() {
            tracing::info!("{what}: {text}");
        } else {
            tracing::info!("{instance} {what}: {text}");
        }
        self.unwritten.push(kept.json.clone());
        self.latest.push_back(kept);
        if self.latest.len() > IN_MEMORY {
            self.latest.pop_front();
        }
    }

    /// The events after `seq`, oldest first, as far back as they are kept in memory.
    pub fn after(&self, seq: u64, instance: Option<&str>) -> Vec<EventRecord> {
        let later = self.latest.iter().filter(|kept| kept.seq > seq).filter_map(Kept::event);
        later.filter(|event| instance.is_none_or(|name| event.instance == name)).collect()
    }
}

/// Milliseconds since 1970 as this machine's wall clock has it; shown, never compared.
pub fn wall_clock() -> u64 {
    since_1970(SystemTime::now())
}

fn since_1970(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64)
}
