//! Needs: which edges are met, by what answer, and whether a start or a stop may rely on it.
//!
//! An edge has two truths. *Fresh*: the latest answer is good and nothing vetoes; a start counts only these. *Held*:
//! it was good and has not yet missed often enough to be lost; what runs is judged by these, so that one dropped
//! packet is no loss.

use super::action::Evidence;
use super::input::Veto;
use super::local::{Edge, Proof};
use super::questions::{Asker, Questions};
use super::spread::serves;
use super::view::StateName;
use super::{Engine, Heard};
use crate::facts::{Moment, Ready, Role};
use crate::model::{InstanceIx, Need};
use std::borrow::Cow;
use std::collections::HashSet;
use std::time::Duration;

/// How old an answer may be at the spawn (the design's first promise).
pub const FRESH: Duration = Duration::from_secs(1);

/// How old a proof may get before it is had anew, while a slower one is awaited.
pub(super) const RENEW_PROOF: Duration = Duration::from_millis(500);

/// What the verification before a start has come to.
pub(super) enum Verification {
    /// Every need is met by answers begun since the cleaning ended.
    Proven(Vec<Evidence>),
    /// Answers are still awaited.
    Pending,
    /// A need is no longer met.
    Lost,
}

impl Engine {
    /// The model's need behind need `n` of local `l`.
    pub(super) fn need(&self, l: usize, n: usize) -> &Need {
        let service = self.cluster.instance(self.locals[l].ix).service;
        &self.cluster.service(service).needs[self.locals[l].needs[n].rule]
    }

    /// The veto on an instance, if its agent's stream stands and says so.
    pub(super) fn veto(&self, ix: InstanceIx) -> Option<&Veto> {
        if self.vetoed.is_empty() {
            return None; // on most days
        }
        self.agent_says(ix)?.word.veto.as_ref()
    }

    /// The good answer that a start could count for this edge, with when it was begun and ended.
    fn fresh(&self, edge: &Edge, role: Option<Role>) -> Option<(Cow<'_, Ready>, Moment, Moment)> {
        if !self.is_fresh(edge, role) {
            return None;
        }
        match edge.proof {
            Proof::Ask(q) => {
                let (ready, answer) = self.questions.get(q).ready()?;
                Some((Cow::Borrowed(ready), answer.begun, answer.ended))
            }
            // The statement is as fresh as the stream that carries it.
            Proof::Agent => {
                let detail = format!("its agent says {}", self.heard.get(&edge.to)?.word.state);
                Some((Cow::Owned(Ready { detail, ..Ready::default() }), self.now, self.now))
            }
        }
    }

    pub(super) fn is_fresh(&self, edge: &Edge, role: Option<Role>) -> bool {
        self.serves(edge, role) && self.veto(edge.to).is_none()
    }

    /// Whether the latest answer is good; who is being stopped serves until it is not.
    pub(super) fn serves(&self, edge: &Edge, role: Option<Role>) -> bool {
        match edge.proof {
            Proof::Ask(q) => self.questions.get(q).ready().is_some_and(|(ready, _)| plays(ready, role)),
            Proof::Agent => self.agent_says(edge.to).is_some_and(|h| serves(h.word.state)),
        }
    }

    /// Whether a running dependent may still regard this edge as met; a veto does not count here.
    pub(super) fn is_held_met(&self, edge: &Edge, role: Option<Role>) -> bool {
        match edge.proof {
            Proof::Ask(q) => self.questions.get(q).good.as_ref().is_some_and(|ready| plays(ready, role)),
            Proof::Agent => self.agent_says(edge.to).is_some_and(|h| h.up),
        }
    }

    /// Whether its agent speaks at this time.
    pub(super) fn is_heard(&self, ix: InstanceIx) -> bool {
        self.agent_says(ix).is_some()
    }

    /// What its agent says at this time.
    fn agent_says(&self, ix: InstanceIx) -> Option<&Heard> {
        self.heard.get(&ix).filter(|h| h.connected)
    }

    /// Whether it is known if an edge is met: enough answers have come, or its agent speaks.
    fn is_known(&self, edge: &Edge) -> bool {
        match edge.proof {
            Proof::Ask(q) => self.questions.get(q).is_known(),
            Proof::Agent => self.is_heard(edge.to),
        }
    }

    /// Counts an edge anew: something that it rests on has changed.
    pub(super) fn recount(&mut self, asker: Asker) {
        let Asker::Edge(l, n, e) = asker else { return };
        let (edge, role) = (&self.locals[l].needs[n].edges[e], self.need(l, n).role);
        let (is_fresh, is_held) = (self.is_fresh(edge, role), self.is_held_met(edge, role));
        let serves = self.locals[l].needs[n].serving.is_some() && self.serves(edge, role);
        let is_known = self.is_known(edge);
        // The tables lie side by side: what is counted is read from the questions only.
        let identity = identity(&self.questions, edge);
        let need = &mut self.locals[l].needs[n];
        need.fresh.set(e, is_fresh.then_some(identity));
        if let Some(serving) = &mut need.serving {
            serving.set(e, serves.then_some(identity));
        }
        need.held.set(e, is_held.then_some(identity));
        need.known.set(e, is_known.then_some(None));
    }

    /// Whether the tallies of a need say what its edges say. (For debug builds: it looks at each edge.)
    pub(super) fn is_counted(&self, l: usize, n: usize) -> bool {
        let (need, role) = (&self.locals[l].needs[n], self.need(l, n).role);
        let fresh = need.edges.iter().filter(|e| self.is_fresh(e, role));
        let serving = need.edges.iter().filter(|e| self.serves(e, role));
        let held = need.edges.iter().filter(|e| self.is_held_met(e, role));
        let known = need.edges.iter().filter(|e| self.is_known(e));
        let servers = |all: &mut dyn Iterator<Item = &Edge>| {
            count_servers(all.map(|e| identity(&self.questions, e)), usize::MAX)
        };
        need.known.count() == known.count()
            && need.fresh.count() == servers(&mut { fresh })
            && need.held.count() == servers(&mut { held })
            && need.serving.as_ref().is_none_or(|tally| tally.count() == servers(&mut { serving }))
    }

    /// Whether its own agent says that it is being stopped, or does not serve yet. (Right after a stop the last
    /// answers from here were good ones, and they are not lost before some bad ones have come.) An agent that has just
    /// been replaced says `unready` of what it found.
    fn is_going(&self, ix: InstanceIx) -> bool {
        let Some(heard) = self.agent_says(ix) else { return false };
        let runs = matches!(
            heard.word.state,
            StateName::Ready | StateName::Unready | StateName::Standby | StateName::Completed
        );
        heard.word.veto.is_some() || !runs
    }

    /// Whether a running instance still has this need, by the thresholds for losing.
    pub(super) fn is_need_held(&self, l: usize, n: usize) -> bool {
        let need = &self.locals[l].needs[n];
        need.waived || need.held.count() >= need.wanted
    }

    /// Whether `to`'s going would take away a need that a running instance now has.
    pub(super) fn leans_on(&self, l: usize, to: InstanceIx) -> Option<usize> {
        let local = &self.locals[l];
        (0..local.needs.len()).find(|&n| {
            let need = &local.needs[n];
            let role = self.need(l, n).role;
            let held = || need.edges.iter().filter(|e| self.is_held_met(e, role));
            let staying = || held().filter(|e| !self.is_going(e.to)).map(|e| identity(&self.questions, e));
            !need.waived
                && held().any(|e| e.to == to)
                && need.held.count() >= need.wanted
                && count_servers(staying(), need.wanted) < need.wanted
        })
    }

    /// Whether an answer that would meet this edge is on its way: its agent has just said that it serves. That proves
    /// nothing; it is worth cleaning for, so that one answer is enough.
    fn is_expected(&self, edge: &Edge) -> bool {
        self.veto(edge.to).is_none() && edge.question().is_some_and(|q| self.questions.get(q).expected)
    }

    /// Whether every need is met, or will be if the answers are what the other agents say.
    pub(super) fn are_needs_in_sight(&self, l: usize) -> bool {
        self.locals[l].needs.iter().enumerate().all(|(n, need)| {
            let in_sight = || {
                let role = self.need(l, n).role;
                let possible = need.edges.iter().filter_map(|e| match self.is_fresh(e, role) {
                    true => Some(identity(&self.questions, e)),
                    false => self.is_expected(e).then_some(None),
                });
                count_servers(possible, need.wanted)
            };
            need.ok || need.waived || (!need.has_rivals() && in_sight() >= need.wanted)
        })
    }

    /// Asks every edge that looks met, or is expected to be, with probes begun from now on.
    pub(super) fn verify_possible_edges(&mut self, l: usize) {
        let mut ask = Vec::new();
        for n in 0..self.locals[l].needs.len() {
            let role = self.need(l, n).role;
            let edges = self.locals[l].needs[n].edges.iter();
            let possible = edges.filter(|e| self.is_fresh(e, role) || self.is_expected(e));
            ask.extend(possible.filter_map(Edge::question));
        }
        for q in ask {
            self.verify(q);
        }
    }

    /// Where the verification of an instance stands, asking what has yet to be asked.
    pub(super) fn verification(&mut self, l: usize, cleaned: Moment) -> Verification {
        let mut proofs = Vec::new();
        let mut ask = Vec::new();
        let mut pending = false;
        for n in 0..self.locals[l].needs.len() {
            let need = &self.locals[l].needs[n];
            if need.waived {
                continue;
            }
            let rule = self.need(l, n);
            let (mut proven, mut expected) = (Vec::new(), 0);
            for edge in &need.edges {
                let Some((answer, begun, ended)) = self.fresh(edge, rule.role) else {
                    if self.is_expected(edge) {
                        expected += 1;
                        ask.extend(edge.question());
                    }
                    continue;
                };
                let age = self.now.since(ended);
                let is_proof = begun >= cleaned && age <= FRESH;
                // Before a proof gets too old for the slower ones, it is had anew.
                if let Proof::Ask(q) = edge.proof
                    && (!is_proof || age >= RENEW_PROOF)
                {
                    ask.push(q);
                }
                if is_proof {
                    proven.push(identity(&self.questions, edge));
                    proofs.push((rule, edge, answer, begun, ended));
                }
            }
            if need.fresh.count() + expected < need.wanted || need.has_rivals() {
                return Verification::Lost;
            }
            pending |= count_servers(proven.into_iter(), need.wanted) < need.wanted;
        }
        if !pending {
            let evidence = proofs.into_iter().map(|(rule, edge, answer, begun, ended)| Evidence {
                need: rule.name.clone(),
                to: self.cluster.instance(edge.to).name.to_string(),
                asked: self.asked(edge),
                answer: answer.into_owned(),
                begun,
                ended,
            });
            return Verification::Proven(evidence.collect());
        }
        for q in ask {
            let question = self.questions.get(q);
            // Every question ends by its own deadline; one that did not was lost on the way.
            let patience = question.question.timeout + FRESH;
            if question.asked.is_none_or(|asked| asked < cleaned || self.now.since(asked) > patience) {
                self.verify(q);
            }
        }
        Verification::Pending
    }

    /// What is asked for an edge, in words.
    pub(super) fn asked(&self, edge: &Edge) -> String {
        match edge.proof {
            Proof::Agent => "its agent".to_owned(),
            Proof::Ask(q) => match self.questions.get(q).question.address() {
                Some(address) => address.to_string(),
                None => "a program".to_owned(),
            },
        }
    }
}

fn plays(ready: &Ready, role: Option<Role>) -> bool {
    role.is_none_or(|role| ready.roles.contains(&role))
}

/// Who answers at an edge, where the protocol tells.
fn identity<'a>(questions: &'a Questions, edge: &Edge) -> Option<&'a str> {
    questions.get(edge.question()?).good.as_ref()?.identity.as_deref()
}

/// Counts servers, each identity once and those without one each; no further than `enough`.
fn count_servers<'a>(identities: impl Iterator<Item = Option<&'a str>>, enough: usize) -> usize {
    let mut seen = HashSet::new();
    let mut count = 0;
    for identity in identities {
        if identity.is_some_and(|i| seen.contains(i)) {
            continue;
        }
        count += 1;
        if count >= enough {
            break;
        }
        seen.extend(identity);
    }
    count
}
