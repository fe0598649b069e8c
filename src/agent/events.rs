//! The agent's events: on disk for after a power cut, the latest in memory for those who ask.

use crate::api::wire::EventRecord;
use crate::clock;
use crate::crash::{self, Done};
use crate::facts::Moment;
use crate::store::EventLog;
use std::collections::VecDeque;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// How many events are kept in memory; older ones are in the file.
const IN_MEMORY: usize = 1000;

pub struct Events {
    log: Option<EventLog>,
    latest: VecDeque<EventRecord>,
    next: u64,
    /// Whether the last write failed, so that it is said once.
    failing: bool,
}

impl Events {
    /// Opens the log in the state folder. Without one (a full or read-only disk) events live in memory.
    pub fn open(state: &Path) -> Events {
        let mut events = Events { log: None, latest: VecDeque::new(), next: 1, failing: false };
        match EventLog::open(state) {
            Ok(log) => {
                events.next = log.next_seq();
                let from = events.next.saturating_sub(IN_MEMORY as u64 + 1);
                events.latest = log.read(from, IN_MEMORY).unwrap_or_default().into();
                events.log = Some(log);
            }
            Err(e) => tracing::error!("{e}; events are kept in memory"),
        }
        events
    }

    /// Writes down what happens now.
    pub fn record(&mut self, instance: &str, what: &str, text: &str, data: serde_json::Value) {
        self.record_at(clock::now(), instance, what, text, data);
    }

    /// Writes down what happened a little while ago.
    pub fn record_at(&mut self, at: Moment, instance: &str, what: &str, text: &str, data: serde_json::Value) {
        let record = EventRecord {
            seq: self.next,
            clock_ms: wall_clock().saturating_sub(clock::now().since(at).as_millis() as u64),
            at,
            instance: instance.to_owned(),
            what: what.to_owned(),
            text: text.to_owned(),
            data,
        };
        self.next += 1;
        if instance.is_empty() {
            tracing::info!("{what}: {text}");
        } else {
            tracing::info!("{instance} {what}: {text}");
        }
        if let Some(log) = &mut self.log {
            match log.append(&record) {
                Ok(()) => {
                    self.failing = false;
                    crash::here(Done::Event);
                }
                Err(e) if !self.failing => {
                    self.failing = true;
                    tracing::error!("{e}; events are kept in memory until it works again");
                }
                Err(_) => {}
            }
        }
        self.latest.push_back(record);
        if self.latest.len() > IN_MEMORY {
            self.latest.pop_front();
        }
    }

    /// The events after `seq`, oldest first, as far back as they are kept in memory.
    pub fn after(&self, seq: u64, instance: Option<&str>) -> Vec<EventRecord> {
        let wanted = |e: &&EventRecord| e.seq > seq && instance.is_none_or(|name| e.instance == name);
        self.latest.iter().filter(wanted).cloned().collect()
    }
}

/// Milliseconds since 1970 as this machine's wall clock has it; shown, never compared.
pub fn wall_clock() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64)
}
