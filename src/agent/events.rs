//! The agent's events: on disk for after a power cut, the latest in memory for those who ask.

use crate::api::wire::EventRecord;
use crate::clock;
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
        self.record_all([(clock::now(), instance, what, text, data)]);
    }

    /// Writes down what happened a little while ago, all with one write: when, of which instance, what, a sentence, and
    /// data.
    pub fn record_all<'a, S: Into<String>>(
        &mut self,
        events: impl IntoIterator<Item = (Moment, &'a str, S, S, serde_json::Value)>,
    ) {
        let (wall, now) = (wall_clock(), clock::now());
        let mut records = Vec::new();
        for (at, instance, what, text, data) in events {
            let record = EventRecord {
                seq: self.next,
                clock_ms: wall.saturating_sub(now.since(at).as_millis() as u64),
                at,
                instance: instance.to_owned(),
                what: what.into(),
                text: text.into(),
                data,
            };
            self.next += 1;
            match instance {
                "" => tracing::info!("{}: {}", record.what, record.text),
                _ => tracing::info!("{instance} {}: {}", record.what, record.text),
            }
            records.push(record);
        }
        if let Some(log) = &mut self.log {
            match log.append_all(&records) {
                Ok(()) => self.failing = false,
                Err(e) if !self.failing => {
                    self.failing = true;
                    tracing::error!("{e}; events are kept in memory until it works again");
                }
                Err(_) => {}
            }
        }
        self.latest.extend(records);
        let over = self.latest.len().saturating_sub(IN_MEMORY);
        self.latest.drain(..over);
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
