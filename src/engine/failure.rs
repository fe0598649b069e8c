//! What a failure leads to, and which failures are not the instance's own.

use super::backoff;
use super::local::State;
use super::{Engine, LATE_EXCUSE, LOSS_EXCUSES};
use crate::facts::Moment;
use serde_json::json;
use std::time::Duration;

impl Engine {
    /// After a failure: it waits `until` then, or has given up.
    pub(super) fn step_failed(&mut self, l: usize, until: Option<Moment>) -> bool {
        if self.step_idle(l) {
            return true;
        }
        if self.excuse(l) || until.is_some_and(|until| self.now >= until) {
            self.enter(l, State::Waiting, "");
            return true;
        }
        false
    }

    /// The instance failed: back-off of `at_least` so long, or the end. A failure beside a lost need is not counted.
    pub(super) fn failed(&mut self, l: usize, text: String, at_least: Duration) {
        self.update_needs(l);
        if self.is_excused(l) {
            self.record(l, "excused", format!("{text}; a need was lost, so it is not counted"), json!(null));
            self.enter(l, State::Waiting, "");
            return;
        }
        let (now, jitter) = (self.now, self.jitter);
        let local = &mut self.locals[l];
        let rule = local.unit.restart.clone();
        let verdict = local.failures.count(now, &rule, jitter);
        local.forgivable = Some(now);
        match verdict {
            backoff::Verdict::TryAgainIn(delay) => {
                let delay = delay.max(at_least);
                if delay.is_zero() {
                    self.enter(l, State::Waiting, text);
                } else {
                    let times = local.failures.in_a_row;
                    let note = format!("{text}; next start in {:.1} s", delay.as_secs_f64());
                    self.record(l, "backoff", note, json!({ "failures": times }));
                    self.enter(l, State::Backoff { until: now + delay }, text);
                }
            }
            backoff::Verdict::GiveUp => {
                let text = format!("gave up after {} failures: {text}", local.failures.in_a_row);
                self.record(l, "failed", text.clone(), json!(null));
                self.enter(l, State::Failed { for_good: false }, text);
            }
        }
        // A lost need may be the cause: look now, not at the next slow poll.
        self.verify_possible_edges(l);
    }

    /// The machine has no room for its start: back-off, and no end to it.
    pub(super) fn lacking(&mut self, l: usize, text: String) {
        let (now, jitter) = (self.now, self.jitter);
        let local = &mut self.locals[l];
        let delay = local.failures.count_shortage(&local.unit.restart, jitter).max(super::SPAWN_AGAIN);
        let note = format!(
            "{text}; no fault of its own, so it is not counted; next start in {:.1} s",
            delay.as_secs_f64()
        );
        self.record(l, "backoff", note, json!({ "shortages": self.locals[l].failures.shortages }));
        self.enter(l, State::Backoff { until: now + delay }, text);
    }

    /// Nobody knows how a run ended that must not be repeated by itself.
    pub(super) fn result_unknown(&mut self, l: usize) {
        let text = "result unknown: it ended while no agent was there to see how; `start` runs it again";
        self.record(l, "failed", text, json!(null));
        self.locals[l].forgivable = None;
        self.enter(l, State::Failed { for_good: true }, text);
    }

    /// What was lost before the latest start does not excuse its end.
    fn is_excused(&self, l: usize) -> bool {
        let began = self.locals[l].last_spawn;
        self.locals[l].needs.iter().any(|need| {
            let just_lost = |lost| lost >= began && self.now.since(lost) <= LOSS_EXCUSES;
            !need.waived && (!need.ok || need.last_loss.is_some_and(just_lost))
        })
    }

    /// Takes a failure back when the loss of a need is found out only after the exit.
    pub(super) fn excuse(&mut self, l: usize) -> bool {
        let Some(counted) = self.locals[l].forgivable else { return false };
        if self.now.since(counted) > LATE_EXCUSE {
            self.locals[l].forgivable = None;
            return false;
        }
        if self.locals[l].needs.iter().all(|n| n.ok || n.waived) {
            return false;
        }
        self.locals[l].forgivable = None;
        self.locals[l].failures.uncount();
        self.record(
            l,
            "excused",
            "a need had been lost when it exited; the failure is not counted",
            json!(null),
        );
        true
    }
}
