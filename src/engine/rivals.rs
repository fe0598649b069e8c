//! Two that serve at once where only one may: two writable databases, two brokers of an exclusive service.
//!
//! As long as two may be serving, nothing is started on either. The alarm wants more: good answers of both that overlap
//! in time. Who has handed over to another was asked last before that, and is no alarm.

use super::Engine;
use super::input::QuestionIx;
use super::local::{Edge, Own, Proof, State};
use crate::facts::{Moment, Role};
use crate::model::InstanceIx;
use serde_json::Value;

/// Where only one may serve.
#[derive(Clone, Copy)]
enum Place {
    /// Behind this need.
    Need(usize),
    /// The instance itself and its siblings, of an exclusive service.
    Own,
}

/// One that serves: since when, and until when that is known.
struct Server<'a> {
    ix: InstanceIx,
    since: Moment,
    until: Moment,
    identity: Option<&'a str>,
    question: Option<QuestionIx>,
}

impl Server<'_> {
    /// They are not one server behind two addresses.
    fn is_another_than(&self, other: &Server<'_>) -> bool {
        self.identity.is_none() || self.identity != other.identity
    }

    /// Both served at one moment.
    fn overlaps(&self, other: &Server<'_>) -> bool {
        self.since.max(other.since) <= self.until.min(other.until)
    }
}

impl Engine {
    /// Tells when two are proven to serve where only one may, and when that ends. What runs keeps running.
    pub(super) fn update_rivals(&mut self, l: usize) {
        for n in 0..self.locals[l].needs.len() {
            let need = &self.locals[l].needs[n];
            if need.alarmed || need.has_rivals() {
                let alarmed = self.judge_rivals(l, Place::Need(n), need.alarmed);
                self.locals[l].needs[n].alarmed = alarmed;
            }
        }
        if !self.locals[l].siblings.is_empty() {
            self.locals[l].alarmed = self.judge_rivals(l, Place::Own, self.locals[l].alarmed);
        }
    }

    /// Whether it is an alarm now, where it `was` one or not.
    fn judge_rivals(&mut self, l: usize, place: Place, was: bool) -> bool {
        let servers = self.servers(l, place);
        let pairs = || {
            let pairs =
                servers.iter().enumerate().flat_map(|(i, a)| servers[..i].iter().map(move |b| (a, b)));
            pairs.filter(|(a, b)| a.is_another_than(b))
        };
        let are_two = pairs().next().is_some();
        let is = are_two && (was || pairs().any(|(a, b)| a.overlaps(b)));
        // Whoever was asked before another began to serve is asked again: that proves it, or ends it.
        let latest = servers.iter().map(|s| s.since).max().unwrap_or_default();
        let late = servers.iter().filter(|s| are_two && !is && s.until < latest).filter_map(|s| s.question);
        for q in late.collect::<Vec<_>>() {
            if self.questions.get(q).asked.is_none() {
                self.verify(q);
            }
        }
        match place {
            _ if is == was => {}
            _ if is => {
                let text = self.say_rivals(l, place);
                self.record(l, "rivals", text, Value::Null);
            }
            Place::Need(n) => {
                let text = format!("no more serve its need {} than may", self.need(l, n).name);
                self.record(l, "rivals-gone", text, Value::Null);
            }
            Place::Own => self.record(l, "rivals-gone", "no other serves beside it any more", Value::Null),
        }
        is
    }

    /// The alarms of an instance, as sentences.
    pub(super) fn alarms(&self, l: usize) -> impl Iterator<Item = String> + '_ {
        let local = &self.locals[l];
        let needs = (0..local.needs.len()).filter(|n| local.needs[*n].alarmed).map(Place::Need);
        needs.chain(local.alarmed.then_some(Place::Own)).map(move |place| self.say_rivals(l, place))
    }

    fn say_rivals(&self, l: usize, place: Place) -> String {
        let servers = self.servers(l, place);
        let mut names: Vec<_> = servers.iter().map(|s| self.cluster.instance(s.ix).name.as_ref()).collect();
        let last = names.pop().unwrap_or_default();
        let how = match self.role_at(l, place) {
            Some(role) => format!(" as {}", role.as_str()),
            None => String::new(),
        };
        format!("{} and {last} serve{how} at once, and only one may", names.join(", "))
    }

    fn role_at(&self, l: usize, place: Place) -> Option<Role> {
        match place {
            Place::Need(n) => self.need(l, n).role,
            Place::Own => None,
        }
    }

    /// Who serves there, those included that are being stopped.
    fn servers(&self, l: usize, place: Place) -> Vec<Server<'_>> {
        let local = &self.locals[l];
        let role = self.role_at(l, place);
        match place {
            Place::Need(n) => local.needs[n].edges.iter().filter_map(|e| self.server(e, role)).collect(),
            Place::Own => {
                let siblings = local.siblings.iter().filter_map(|e| self.server(e, role));
                self.own_server(l).into_iter().chain(siblings).collect()
            }
        }
    }

    fn server(&self, edge: &Edge, role: Option<Role>) -> Option<Server<'_>> {
        match edge.proof {
            Proof::Ask(q) => self.answering(edge.to, q).filter(|_| self.serves(edge, role)),
            Proof::Agent => {
                let heard = self.heard.get(&edge.to).filter(|_| self.serves(edge, role))?;
                let (since, until) = (heard.at, self.now);
                Some(Server { ix: edge.to, since, until, identity: None, question: None })
            }
        }
    }

    fn own_server(&self, l: usize) -> Option<Server<'_>> {
        let local = &self.locals[l];
        if !matches!(local.state, State::Ready | State::Leaving) {
            return None;
        }
        match local.own {
            Own::Ask(q) => self.answering(local.ix, q),
            Own::Running(_) | Own::Completed | Own::Notified => {
                let (since, until) = (local.since, self.now);
                Some(Server { ix: local.ix, since, until, identity: None, question: None })
            }
        }
    }

    fn answering(&self, ix: InstanceIx, q: QuestionIx) -> Option<Server<'_>> {
        let question = self.questions.get(q);
        let (ready, answer) = question.ready()?;
        let (since, until) = (question.roles_since, answer.ended);
        Some(Server { ix, since, until, identity: ready.identity.as_deref(), question: Some(q) })
    }
}
