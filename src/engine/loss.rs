//! Needs that are lost and found again, while an instance waits and while it runs.

use super::Engine;
use super::local::{Edge, State, StopOrder};
use crate::model::OnLoss;
use serde_json::json;
use std::time::Duration;

/// How long a stop or restart after a loss waits for dependents to let go: one on a dead machine never does. As long as
/// an operator's stop waits by default.
const LETTING_GO: Duration = Duration::from_secs(60);

impl Engine {
    /// Brings what is known of the needs up to date, and tells what was lost and found again.
    pub(super) fn update_needs(&mut self, l: usize) {
        for n in 0..self.locals[l].needs.len() {
            debug_assert!(self.is_counted(l, n), "an edge has changed and was not counted anew");
            let need = &self.locals[l].needs[n];
            let ok = need.is_met();
            let was = std::mem::replace(&mut self.locals[l].needs[n].ok, ok);
            if ok != was {
                self.locals[l].needs[n].since = self.now;
                self.repace.extend(self.locals[l].needs[n].edges.iter().filter_map(Edge::question));
            }
            if was && !ok {
                self.locals[l].needs[n].last_loss = Some(self.now);
            }
            if ok {
                self.locals[l].needs[n].had = true;
            }
            if ok && !was {
                self.locals[l].needs[n].waived = false;
                let missed = std::mem::take(&mut self.locals[l].needs[n].missed);
                if missed && self.locals[l].state == (State::Failed { for_good: false }) {
                    let text = format!("its need {} is met again: tried anew", self.need(l, n).name);
                    self.record(l, "tried-anew", text, json!(null));
                    self.locals[l].failures.reset();
                    self.enter(l, State::Waiting, "");
                    self.remember(l);
                }
            }
            if !ok && self.is_sure_of(l, n) {
                // A new agent has heard nothing yet: what it hears first is no change.
                self.locals[l].needs[n].missed = true;
            }
            self.update_loss(l, n);
        }
        self.update_rivals(l);
    }

    /// While it runs: has the need been lost, past the thresholds?
    fn update_loss(&mut self, l: usize, n: usize) {
        let running = self.locals[l].state.is_running();
        let missing = running && !self.is_need_held(l, n);
        let lost = self.locals[l].needs[n].lost;
        match (missing, lost) {
            (true, None) if self.locals[l].needs[n].had && self.is_sure_of(l, n) => {
                self.locals[l].needs[n].lost = Some(self.now);
                let mut text = format!("lost its need {}: ", self.need(l, n).name);
                self.write_need(l, n, &mut text);
                self.record(l, "need-lost", text, json!(null));
            }
            (false, Some(since)) if running => {
                self.locals[l].needs[n].lost = None;
                let text = format!("has its need {} again", self.need(l, n).name);
                self.record(l, "need-found", text, json!(null));
                let rule = self.need(l, n).on_loss;
                if let OnLoss::Restart { grace } = rule
                    && self.now >= since + grace
                {
                    let name = &self.need(l, n).name;
                    self.locals[l].restart = Some(format!("its need {name} is back after a loss"));
                    self.bound_stop(l);
                }
            }
            (false, Some(_)) => self.locals[l].needs[n].lost = None,
            _ => {}
        }
    }

    /// Bounds a stop that no operator ordered, as an operator's is.
    pub(super) fn bound_stop(&mut self, l: usize) {
        let deadline = self.now + LETTING_GO;
        let bounded = || StopOrder { deadline, timeout: LETTING_GO, without: Vec::new() };
        self.locals[l].stop_order.get_or_insert_with(bounded);
    }

    /// Whether enough has been heard of a need to say that it is lost: it was seen met, or every edge is known. (A new
    /// agent, or a new configuration, has heard nothing yet, and then one bad answer is no loss.)
    fn is_sure_of(&self, l: usize, n: usize) -> bool {
        let need = &self.locals[l].needs[n];
        need.last_loss.is_some() || need.known.count() == need.edges.len()
    }
}
