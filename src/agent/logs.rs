//! What services print, for those who ask; and what is said when it cannot be rotated.

use super::events;
use super::shell::Shell;
use crate::api::wire::{LogAsk, LogFrom, LogPage, MAX_LOG_PAGE, Refusal};
use crate::logs::{Log, LogError, Trouble};
use std::sync::Arc;
use tokio::sync::Semaphore;

/// How many pages are read at once; further ones wait. Reading may wait for the disk, so threads of its own do it.
const READERS: usize = 4;

static ROOM: Semaphore = Semaphore::const_new(READERS);

impl Shell {
    /// A page of the log of an own instance.
    pub async fn log_page(&self, ask: LogAsk) -> Result<LogPage, Refusal> {
        let known = {
            let (engine, cluster) = (self.engine.borrow(), self.cluster());
            engine.own_instances().any(|ix| *cluster.instance(ix).name == *ask.instance)
        };
        if !known {
            let error = format!("{} is not an instance of node {}", ask.instance, self.node_name());
            return Err(Refusal { error, hint: Some("clusterctl status names them all".into()) });
        }
        let by_systemd = {
            let cluster = self.cluster();
            let unit = cluster.instance_named(&ask.instance).map(|ix| cluster.instance(ix).unit.clone());
            unit.and_then(|unit| unit.run.systemd_unit().map(str::to_owned))
        };
        if let Some(unit) = by_systemd {
            let error = format!(
                "{} is run by systemd: what it prints is in the journal of its machine",
                ask.instance
            );
            let hint = format!("on {}: journalctl --unit {unit}", self.node_name());
            return Err(Refusal { error, hint: Some(hint) });
        }
        let log = self.logs.log(&ask.instance);
        // Whoever asked may have gone meanwhile: a page that was not begun then is not read.
        let place = ROOM.acquire().await;
        let page = tokio::task::spawn_blocking(move || {
            let _place = place;
            read(&log, &ask)
        });
        let refused = |error: String| Refusal { error, hint: None };
        match page.await {
            Ok(page) => page.map_err(|e| refused(e.to_string())),
            Err(e) => Err(refused(format!("the log was not read to its end: {e}"))),
        }
    }

    /// Says once what is wrong with a log, and once that it is over.
    pub(super) fn tell_log(&self, trouble: &Trouble) {
        let (what, text) = match &trouble.error {
            Some(error) => ("log-trouble", format!("{error}; it runs on, and its log grows meanwhile")),
            None => ("log-rotates", "its log is rotated again".to_owned()),
        };
        self.events.borrow_mut().record(&trouble.instance, what, &text, serde_json::Value::Null);
    }
}

fn read(log: &Arc<Log>, ask: &LogAsk) -> Result<LogPage, LogError> {
    let at = match ask.from {
        LogFrom::Position(at) => at,
        LogFrom::Recent { ago_ms, last } => {
            let since = ago_ms.map_or(0, |ago| log.since(events::wall_clock().saturating_sub(ago)));
            let last = last.map_or(Ok(0), |lines| log.last_lines(lines))?;
            since.max(last)
        }
    };
    let chunk = log.lines(at, MAX_LOG_PAGE, ask.partial)?;
    Ok(LogPage {
        at: chunk.at,
        next: chunk.next(),
        end: chunk.end,
        text: String::from_utf8_lossy(&chunk.bytes).into_owned(),
    })
}
