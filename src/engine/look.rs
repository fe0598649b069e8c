//! Looking at an engine: views and sentences. Nothing here changes anything.

use super::local::{Edge, Proof, State};
use super::view::{EdgeView, InstanceView, NeedView, PeerWord, StateName};
use super::{Engine, Memory, Word};
use crate::facts::{Moment, Verdict};
use crate::model::{InstanceIx, Unit};
use std::fmt::Write;
use std::sync::Arc;

impl Engine {
    /// One own instance, as it is at `now`.
    pub fn view(&self, instance: InstanceIx, now: Moment) -> Option<InstanceView> {
        let l = *self.local_of.get(&instance)?;
        let local = &self.locals[l];
        let ms = |since: Moment| now.since(since).as_millis() as u64;
        let own = self.own_answer(l).cloned();
        let percent = match (&local.state, &own) {
            (State::Starting { .. }, Some(Verdict::Progress { percent, .. })) => *percent,
            _ => None,
        };
        let next_ms = match local.state {
            State::Backoff { until } => Some(until.since(now).as_millis() as u64),
            _ => None,
        };
        Some(InstanceView {
            instance: local.name.to_string(),
            wish: local.wish.clone(),
            state: local.state.name(),
            since_ms: ms(local.since),
            reason: local.reason.clone(),
            percent,
            pid: local.process.as_ref().and_then(|p| p.pid).filter(|pid| *pid > 0),
            starts: local.starts,
            failures: local.failures.in_a_row,
            next_ms,
            own,
            needs: (0..local.needs.len()).map(|n| self.need_view(l, n, now)).collect(),
            withdrawn: local.withdrawn.as_ref().map(|v| v.why.clone()),
            flags: self.flags(l),
        })
    }

    /// Its remarks, alarms first.
    fn flags(&self, l: usize) -> Vec<String> {
        let local = &self.locals[l];
        self.alarms(l).map(|text| format!("alarm: {text}")).chain(local.flags.iter().cloned()).collect()
    }

    fn need_view(&self, l: usize, n: usize, now: Moment) -> NeedView {
        let local = &self.locals[l];
        let (state, rule) = (&local.needs[n], self.need(l, n));
        let running = local.state.is_running();
        NeedView {
            name: rule.name.clone(),
            count: rule.to_string(),
            wanted: state.wanted,
            met: state.met(),
            ok: if running { self.is_need_held(l, n) } else { state.is_met() || state.waived },
            waived: state.waived,
            since_ms: now.since(state.lost.unwrap_or(state.since)).as_millis() as u64,
            edges: state.edges.iter().map(|e| self.edge_view(e, rule.role, now)).collect(),
        }
    }

    fn edge_view(&self, edge: &Edge, role: Option<crate::facts::Role>, now: Moment) -> EdgeView {
        let question = match edge.proof {
            Proof::Ask(q) => Some(self.questions.get(q)),
            Proof::Agent => None,
        };
        let answer = question.and_then(|q| q.answer.as_ref());
        EdgeView {
            to: self.cluster.instance(edge.to).name.to_string(),
            met: self.is_fresh(edge, role),
            verdict: answer.map(|a| a.verdict.clone()),
            verdict_since_ms: answer.and(question).map(|q| now.since(q.since).as_millis() as u64),
            address: question.map(|_| self.asked(edge)),
            peer: self.peer_word(edge.to, now),
        }
    }

    fn peer_word(&self, ix: InstanceIx, now: Moment) -> Option<PeerWord> {
        let heard = self.heard.get(&ix)?;
        Some(PeerWord {
            state: heard.word.state,
            reason: heard.word.reason.clone(),
            connected: heard.connected,
            heard_ms: now.since(self.heard_at(ix)?).as_millis() as u64,
            veto: self.veto(ix).map(|v| v.why.clone()),
        })
    }

    /// The state of an own instance, without the rest of its view.
    pub fn state(&self, instance: InstanceIx) -> Option<StateName> {
        self.local_of.get(&instance).map(|l| self.locals[*l].state.name())
    }

    /// How many servers each need of an own instance has (rivals included, where only one may serve), in the order of
    /// [`crate::model::Cluster::needs_of`].
    pub fn counts(&self, instance: InstanceIx) -> impl Iterator<Item = usize> + '_ {
        let local = self.local_of.get(&instance).copied();
        local
            .into_iter()
            .flat_map(move |l| (0..self.locals[l].needs.len()).map(move |n| self.locals[l].needs[n].met()))
    }

    /// Since when the configuration is in force; questions are numbered from then on.
    pub fn in_force_since(&self) -> Moment {
        self.born
    }

    /// What the other agents are told of an own instance.
    pub fn word(&self, instance: InstanceIx) -> Option<Word> {
        self.local_of.get(&instance).map(|l| self.word_of(*l))
    }

    /// What was last heard of any instance, and when.
    pub fn last_heard(&self, instance: InstanceIx, now: Moment) -> Option<(StateName, u64)> {
        let heard = self.heard.get(&instance)?;
        Some((heard.word.state, now.since(heard.at).as_millis() as u64))
    }

    /// What is to be journalled of an own instance.
    pub fn memory(&self, instance: InstanceIx) -> Option<Memory> {
        self.local_of.get(&instance).map(|l| self.locals[*l].memory())
    }

    /// The unit in force for an own instance: the running incarnation's, else the file's.
    pub fn unit(&self, instance: InstanceIx) -> Option<&Arc<Unit>> {
        self.local_of.get(&instance).map(|l| self.locals[*l].unit_in_force())
    }

    /// The needs that are not met, each after a word: `waits for mysql (any writable, 0 of 1) and redis (any, 0 of 1)`.
    pub(super) fn write_unmet(&self, l: usize, mut before: &str, text: &mut String) {
        for (n, need) in self.locals[l].needs.iter().enumerate() {
            if !need.ok && !need.waived {
                text.push_str(before);
                self.write_need(l, n, text);
                before = " and ";
            }
        }
    }

    /// A need, and how far it is met: `mysql (any writable, 0 of 1)`.
    pub(super) fn write_need(&self, l: usize, n: usize, text: &mut String) {
        let rule = self.need(l, n);
        let (met, wanted) = (self.locals[l].needs[n].met(), self.locals[l].needs[n].wanted);
        let _ = write!(text, "{} ({rule}, {met} of {wanted})", rule.name); // a String takes it all
    }

    /// What an operator is told of an instance just after an order.
    pub(super) fn describe(&self, l: usize) -> String {
        let local = &self.locals[l];
        let state = local.state.name();
        if local.reason.is_empty() { state.to_string() } else { format!("{state}: {}", local.reason) }
    }

    /// Why a dependent still blocks a stop.
    pub(super) fn describe_blocker(&self, ix: InstanceIx) -> String {
        let name = &self.cluster.instance(ix).name;
        match self.heard.get(&ix) {
            Some(heard) if heard.connected => format!("{name} ({})", heard.word.state),
            Some(heard) => format!("{name} (its agent does not answer; last heard {})", heard.word.state),
            None => format!("{name} (its agent was never heard)"),
        }
    }
}
