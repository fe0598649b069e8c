//! What a service says of itself: sd_notify(3). The shell has proven that the word is of the instance's tree.

use super::Engine;
use super::local::{After, Own, State};
use crate::facts::{Moment, Notice};
use serde_json::Value;
use std::time::Duration;

/// The most that one `EXTEND_TIMEOUT_USEC` gives. It may be said again, so this bounds only how long a service that
/// has said it and hangs is waited for.
const MOST_EXTENSION: Duration = Duration::from_secs(3600);
/// What a service gets that gave no sign of life: it dumps core, which tells where it hangs.
const SIGABRT: i32 = 6;

/// What the present process has said so far.
#[derive(Clone, Debug)]
pub(super) struct Said {
    pub ready: bool,
    pub stopping: bool,
    reloading: bool,
    failed: bool,
    status: String,
    /// Its last sign of life, or since when one is awaited.
    pub alive: Moment,
    /// It may have said `READY=1` while no agent of ours listened.
    unheard: bool,
}

impl Said {
    /// Of a process that is about to be started.
    pub fn nothing(now: Moment) -> Said {
        let status = String::new();
        Said {
            ready: false,
            stopping: false,
            reloading: false,
            failed: false,
            status,
            alive: now,
            unheard: false,
        }
    }

    /// Of a process that ran before this agent; `ready`: an earlier agent had seen it so.
    pub fn before_now(now: Moment, ready: bool) -> Said {
        Said { ready, unheard: !ready, ..Said::nothing(now) }
    }
}

impl Engine {
    pub(super) fn notified(&mut self, l: usize, notice: Notice) {
        let now = self.now;
        let local = &mut self.locals[l];
        if let Some(extend) = notice.extend {
            let until = now + extend.min(MOST_EXTENSION);
            if let State::Starting { deadline } | State::Stopping { deadline } = &mut local.state {
                *deadline = until.max(*deadline);
            }
        }
        let said = &mut local.process.as_mut().expect("with_process checked").said;
        if notice.alive {
            said.alive = now;
        }
        if notice.ready {
            (said.ready, said.reloading, said.stopping) = (true, false, false);
        }
        if notice.stopping {
            (said.ready, said.stopping) = (false, true);
        }
        said.reloading |= notice.reloading && !notice.ready;
        said.failed |= notice.failed;
        if let Some(status) = notice.status {
            said.status = status;
        }
    }

    /// What it says of itself, as a sentence; empty where it says nothing.
    pub(super) fn said(&self, l: usize) -> String {
        let Some(process) = &self.locals[l].process else { return String::new() };
        let said = &process.said;
        let what = match said {
            Said { stopping: true, .. } => "says that it is stopping",
            Said { reloading: true, .. } => "says that it is reloading",
            _ => return said.status.clone(),
        };
        if said.status.is_empty() { what.to_owned() } else { format!("{what}: {}", said.status) }
    }

    /// Says what it says of itself, where no probe of ours has an answer that is worth more.
    pub(super) fn say_status(&mut self, l: usize) {
        if self.own_answer(l).is_some() {
            return;
        }
        let text = self.said(l);
        let local = &mut self.locals[l];
        let starting = matches!(local.state, State::Starting { .. });
        // One that starts and says nothing is waited for, which its reason tells already.
        let silent = text.is_empty() && (starting || !matches!(local.own, Own::Notified));
        if !silent {
            local.reason = text;
        }
    }

    /// When the next sign of life of what runs is due. Not before it is ready: until then its start has a deadline.
    pub(super) fn watchdog_due(&self, l: usize) -> Option<Moment> {
        let process = self.locals[l].process.as_ref().filter(|p| p.ready_since.is_some())?;
        process.unit.run.watchdog.map(|watchdog| process.said.alive + watchdog)
    }

    /// Ends a process that gave no sign of life in time, or says itself that it has failed.
    pub(super) fn step_watchdog(&mut self, l: usize) -> bool {
        let local = &self.locals[l];
        let Some(process) = local.process.as_ref().filter(|_| local.state.is_running()) else { return false };
        let text = if process.said.failed {
            "says itself that it has failed (WATCHDOG=trigger)".to_owned()
        } else if self.watchdog_due(l).is_some_and(|due| self.now >= due) {
            let silent = self.now.since(process.said.alive);
            format!("gave no sign of life (WATCHDOG=1) for {} ms", silent.as_millis())
        } else {
            return false;
        };
        self.record(l, "watchdog", text.clone(), Value::Null);
        self.locals[l].after = After::Fail(text.clone());
        self.begin_stopping_by(l, text, SIGABRT);
        true
    }

    /// Whether it may have said `READY=1` to nobody.
    pub(super) fn may_be_unheard(&self, l: usize) -> bool {
        let local = &self.locals[l];
        matches!(local.own, Own::Notified) && local.process.as_ref().is_some_and(|p| p.said.unheard)
    }

    /// Its start's time is over, it lives, and nothing can be asked: to kill what probably serves would be worse than
    /// to believe it.
    pub(super) fn count_as_ready(&mut self, l: usize) {
        let local = &mut self.locals[l];
        let within = local.unit.ready.within.as_secs();
        let flag = format!(
            "counts as ready: it ran on for {within} s, and READY=1 may have been said while no agent listened"
        );
        local.flags.push(flag.clone());
        if let Some(process) = &mut local.process {
            process.said.ready = true;
            process.said.unheard = false;
        }
        self.record(l, "not-heard", flag, Value::Null);
        self.become_ready(l);
    }
}
