//! Stopping goes the other way round, across machines, and nobody directs it.
//!
//! An instance that is to stop is first *withdrawn*: its agent vetoes it, with an epoch. Every dependent answers the
//! epoch by *releasing* it, once its process has ended or would keep its need without it; a running dependent that
//! would lose its need stops itself first, by this very rule. When all have released, the stop signal is sent. A
//! dependent that starts meanwhile cannot count what is vetoed, so the order holds without a lock.

use super::action::Action;
use super::input::Veto;
use super::local::{Local, Proof, State};
use super::view::Wish;
use super::{Engine, Timer, VETO_RENEWAL};
use crate::facts::Moment;
use crate::model::{InstanceIx, OnLoss};

/// Why a running instance is to stop.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum StopCause {
    /// The machine goes down.
    Shutdown,
    /// An operator holds it.
    Held,
    /// A restart: an operator's, or one that a need found again asks for.
    Restart,
    /// A need of it is withdrawn: need, and the instance that goes.
    LetGo { need: usize, of: InstanceIx },
    /// A need was lost for longer than its `on-loss` allows.
    Lost { need: usize },
}

impl Engine {
    /// Why local `l` is to stop, if it is.
    pub(super) fn stop_cause(&self, l: usize) -> Option<StopCause> {
        let local = &self.locals[l];
        if self.shutting_down {
            return Some(StopCause::Shutdown);
        }
        if local.is_held() {
            return Some(StopCause::Held);
        }
        if local.restart.is_some() {
            return Some(StopCause::Restart);
        }
        for (of, veto) in self.vetoed_needs(l) {
            if veto.waits
                && let Some(need) = self.leans_on(l, of)
            {
                return Some(StopCause::LetGo { need, of });
            }
        }
        for (n, need) in local.needs.iter().enumerate() {
            if let (Some(lost), OnLoss::Stop { grace }) = (need.lost, self.need(l, n).on_loss)
                && self.now >= lost + grace
            {
                return Some(StopCause::Lost { need: n });
            }
        }
        None
    }

    /// What local `l` needs and what is vetoed, in the order of its needs.
    fn vetoed_needs(&self, l: usize) -> impl Iterator<Item = (InstanceIx, &Veto)> {
        // On most days there is no veto, and a need may be wide.
        let needs = if self.vetoed.is_empty() { &[][..] } else { &self.locals[l].needs };
        let edges = needs.iter().flat_map(|need| &need.edges);
        edges.filter_map(|edge| Some((edge.to, self.veto(edge.to)?)))
    }

    /// The cause as a sentence.
    pub(super) fn stop_reason(&self, l: usize, cause: &StopCause) -> String {
        match cause {
            StopCause::Shutdown => "the machine goes down".to_owned(),
            StopCause::Held => match &self.locals[l].wish {
                Wish::Held { by, reason, .. } if reason.is_empty() => format!("held by {by}"),
                Wish::Held { by, reason, .. } => format!("held by {by}: {reason}"),
                Wish::Up => "held".to_owned(),
            },
            StopCause::Restart => self.locals[l].restart.clone().unwrap_or_default(),
            StopCause::LetGo { need, of } => {
                let (need, of) = (&self.need(l, *need).name, &self.cluster.instance(*of).name);
                let root = self.root_of(l, cause);
                if root.starts_with(&**of) {
                    format!("its need {need} would be lost: {root}")
                } else {
                    format!("its need {need} would be lost: {of} is being stopped ({root})")
                }
            }
            StopCause::Lost { need } => format!("its need {} was lost", self.need(l, *need).name),
        }
    }

    /// Whether a loss began it, here or further down.
    fn is_by_loss(&self, cause: &StopCause) -> bool {
        match cause {
            StopCause::Lost { .. } => true,
            StopCause::LetGo { of, .. } => self.veto(*of).is_some_and(|veto| veto.lost),
            StopCause::Shutdown | StopCause::Held | StopCause::Restart => false,
        }
    }

    /// What began it all, handed on from veto to veto, so that a long chain does not make a long sentence.
    pub(super) fn root_of(&self, l: usize, cause: &StopCause) -> String {
        match cause {
            StopCause::LetGo { of, .. } => self.veto(*of).map_or_else(String::new, |v| v.why.clone()),
            StopCause::Held => format!("{} is {}", self.locals[l].name, self.stop_reason(l, cause)),
            _ => format!("{}: {}", self.locals[l].name, self.stop_reason(l, cause)),
        }
    }

    /// The dependents that have not released the withdrawn local `l` yet.
    pub(super) fn not_released(&self, l: usize) -> Vec<InstanceIx> {
        let local = &self.locals[l];
        let Some(veto) = &local.withdrawn else { return Vec::new() };
        let without = local.stop_order.as_ref().map_or(&[][..], |o| &o.without);
        self.leaners[l]
            .iter()
            .copied()
            .filter(|d| {
                let node = self.cluster.instance(*d).node;
                if without.contains(&node) || (self.shutting_down && node != self.me) {
                    return false;
                }
                let released = self.heard.get(d).is_some_and(|h| {
                    h.connected
                        && h.word
                            .released
                            .iter()
                            .any(|(name, epoch)| **name == *local.name && *epoch == veto.epoch)
                });
                !released
            })
            .collect()
    }

    /// Which vetoes local `l` has obeyed.
    pub(super) fn releases(&self, l: usize) -> Vec<(std::sync::Arc<str>, u64)> {
        let local = &self.locals[l];
        if local.state == State::Searching {
            return Vec::new();
        }
        let mut released: Vec<(std::sync::Arc<str>, u64)> = Vec::new();
        for (to, veto) in self.vetoed_needs(l) {
            let name = &self.cluster.instance(to).name;
            if released.iter().any(|(n, _)| n == name) {
                continue;
            }
            if local.process.as_ref().is_none_or(|process| process.ended)
                || (self.knows_its_needs(l) && self.leans_on(l, to).is_none())
            {
                released.push((name.clone(), veto.epoch));
            }
        }
        released
    }

    /// Whether enough has been heard to say which needs a running instance has: a new agent has heard nothing yet.
    fn knows_its_needs(&self, l: usize) -> bool {
        let mut edges = self.locals[l].needs.iter().flat_map(|n| &n.edges);
        edges.all(|edge| match edge.proof {
            Proof::Ask(q) => self.questions.get(q).is_known(),
            // A veto comes by the same stream as the word that it takes back.
            Proof::Agent => true,
        })
    }

    /// Withdraws a running instance that is to stop.
    pub(super) fn step_stop(&mut self, l: usize) -> bool {
        let Some(cause) = self.stop_cause(l) else { return false };
        let why = self.stop_reason(l, &cause);
        let root = self.root_of(l, &cause);
        self.withdraw(l, root, cause != StopCause::Shutdown, self.is_by_loss(&cause));
        self.record(l, "leaving", why.clone(), serde_json::Value::Null);
        self.enter(l, State::Leaving, why);
        true
    }

    fn withdraw(&mut self, l: usize, why: String, waits: bool, lost: bool) {
        // The moment tells this withdrawal from every other one of this machine.
        self.locals[l].withdrawn = Some(Veto { epoch: self.now.0, why, waits, lost });
        self.timers.set_if_unset(Timer::Renew, self.now + VETO_RENEWAL);
    }

    pub(super) fn step_leaving(&mut self, l: usize) -> bool {
        self.find_main(l);
        let Some(cause) = self.stop_cause(l) else {
            self.stay(l, "need not stop any more");
            return true;
        };
        let blockers = self.not_released(l);
        if blockers.is_empty() {
            let why = self.stop_reason(l, &cause);
            self.begin_stopping(l, why);
            return true;
        }
        let by_loss = self.is_by_loss(&cause);
        if by_loss {
            self.bound_stop(l);
        }
        let names: Vec<_> = blockers.iter().map(|d| self.describe_blocker(*d)).collect();
        if self.stop_deadline(l).is_some_and(|deadline| self.now >= deadline) {
            if !by_loss {
                self.give_up_stop(l);
                return true;
            }
            // Those who can be asked let go in their time, which may be a little later than this.
            if blockers.iter().all(|d| !self.is_heard(*d)) {
                let why =
                    format!("{}; no longer waits for {}", self.stop_reason(l, &cause), names.join(", "));
                self.begin_stopping(l, why);
                return true;
            }
        }
        self.locals[l].reason = format!("{}; waits for {}", self.stop_reason(l, &cause), names.join(", "));
        false
    }

    /// A withdrawal is taken back: the process runs on.
    fn stay(&mut self, l: usize, why: &str) {
        self.locals[l].withdrawn = None;
        self.locals[l].stop_order = None;
        self.record(l, "stays", why, serde_json::Value::Null);
        self.begin_starting(l, why);
    }

    /// Sends the stop signal. Nothing waits for dependents any more.
    pub(super) fn begin_stopping(&mut self, l: usize, why: String) {
        let signal = self.locals[l].unit_in_force().stop.signal;
        self.begin_stopping_by(l, why, signal);
    }

    /// As [`Engine::begin_stopping`], by another signal than the unit's.
    pub(super) fn begin_stopping_by(&mut self, l: usize, why: String, signal: i32) {
        let local = &self.locals[l];
        let Some(process) = &local.process else { return self.at_rest(l) };
        let (instance, incarnation) = (local.ix, process.incarnation);
        let timeout = process.unit.stop.timeout;
        if self.locals[l].withdrawn.is_none() {
            let root = format!("{}: {why}", self.locals[l].name);
            self.withdraw(l, root, false, false);
        }
        let nobody = !process_can_hear(&self.locals[l]);
        self.enter(l, State::Stopping { deadline: self.now + timeout }, why.clone());
        self.record(l, "stopping", why, serde_json::Value::Null);
        self.remember(l);
        if nobody {
            return self.sweep(l);
        }
        self.out.push(Action::Signal { instance, incarnation, signal });
    }

    /// An operator's stop has waited long enough: nothing more is stopped, and the wish is as it was.
    pub(super) fn give_up_stop(&mut self, l: usize) {
        let blockers: Vec<_> =
            self.not_released(l).iter().map(|d| self.cluster.instance(*d).name.to_string()).collect();
        let local = &mut self.locals[l];
        let Some(order) = local.stop_order.take() else { return };
        let text = format!(
            "not stopped: after {} s these dependents had not let go: {}",
            order.timeout.as_secs(),
            blockers.join(", ")
        );
        local.restart = None;
        if local.is_held() {
            local.wish = Wish::Up;
            self.save_wish(l);
        }
        self.record(l, "stop-given-up", text, serde_json::Value::Null);
    }

    /// When an operator's stop of local `l` is to be given up.
    pub(super) fn stop_deadline(&self, l: usize) -> Option<Moment> {
        let local = &self.locals[l];
        (local.state == State::Leaving).then(|| local.stop_order.as_ref().map(|o| o.deadline)).flatten()
    }
}

/// Whether there is a process to send a signal to: not where a launcher has ended and its daemon was not found.
fn process_can_hear(local: &Local) -> bool {
    local.process.as_ref().is_some_and(|p| p.main || !p.launched)
}
