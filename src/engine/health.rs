//! Health after readiness: how an instance that flaps is damped, and what follows when it stays unready.

use super::Engine;
use super::local::{After, Own, State};
use crate::facts::{Moment, Verdict};
use serde_json::Value;
use std::time::Duration;

/// How long good answers must have come before what was unready twice is ready again; doubled each time after.
const CALM: Duration = Duration::from_secs(1);
/// And at most so long.
const MOST_CALM: Duration = Duration::from_secs(30);

impl Engine {
    /// Its own probe fails, past the threshold.
    pub(super) fn become_unready(&mut self, l: usize, reason: String) {
        let (now, since, stable) = (self.now, self.locals[l].since, self.locals[l].unit.restart.stable);
        if let Some(process) = &mut self.locals[l].process {
            let steady = now.since(since) >= stable;
            process.flaps = if steady { 1 } else { process.flaps.saturating_add(1) };
        }
        self.enter(l, State::Unready, reason.clone());
        self.record(l, "unready", reason, Value::Null);
    }

    /// It passes its own probe again. One that has flapped must do so for a while, so that nobody is told of each beat.
    pub(super) fn step_calm(&mut self, l: usize) -> bool {
        if self.calm_at(l).is_some_and(|at| self.now < at) {
            let flaps = self.locals[l].process.as_ref().map_or(0, |p| p.flaps);
            if let Some(answer) = self.own_answer(l) {
                let calm = calm(flaps).unwrap_or_default().as_secs();
                self.locals[l].reason =
                    format!("{answer}; it was unready {flaps} times, so that has to last for {calm} s");
            }
            return false;
        }
        self.become_ready(l);
        true
    }

    /// When what is unready and passes its probe may be ready; `None` where nothing holds it back.
    pub(super) fn calm_at(&self, l: usize) -> Option<Moment> {
        let local = &self.locals[l];
        let Own::Ask(q) = local.own else { return None };
        let calm = calm(local.process.as_ref()?.flaps)?;
        self.own_answer(l).filter(|answer| answer.is_ready()).map(|_| self.questions.get(q).since + calm)
    }

    /// Starts it anew when it has been unready for as long as its unit allows.
    pub(super) fn step_unready(&mut self, l: usize) -> bool {
        if self.unready_until(l).is_none_or(|until| self.now < until) {
            return false;
        }
        let local = &self.locals[l];
        let text = format!("unready for {} s: {}", self.now.since(local.since).as_secs(), local.reason);
        self.record(l, "unready-too-long", text.clone(), Value::Null);
        self.locals[l].after = After::Fail(text.clone());
        self.begin_stopping(l, text);
        true
    }

    /// When its unit wants it started anew for being unready. Not for what a start does not mend: work that goes on,
    /// and a need that is not met.
    pub(super) fn unready_until(&self, l: usize) -> Option<Moment> {
        let local = &self.locals[l];
        let allowed = local.unit_in_force().restart.unready_for.filter(|_| local.state == State::Unready)?;
        let works = matches!(self.own_answer(l), Some(Verdict::Progress { .. }));
        let lacks = local.needs.iter().any(|need| !need.ok && !need.waived);
        // A need that has just come back gives it as long once more.
        let since = local.needs.iter().map(|need| need.since).fold(local.since, Moment::max);
        (!works && !lacks).then(|| since + allowed)
    }
}

/// How long good answers have to come before what was unready so often is ready again.
fn calm(flaps: u32) -> Option<Duration> {
    let again = flaps.checked_sub(2)?;
    Some(CALM.saturating_mul(1 << again.min(10)).min(MOST_CALM))
}
