//! Needs: which edges are met, by what answer, and whether a start or a stop may rely on it.
//!
//! An edge has two truths. *Fresh*: the latest answer is good and nothing vetoes; a start counts only these. *Held*:
//! it was good and has not yet missed often enough to be lost; what runs is judged by these, so that one dropped
//! packet is no loss.

use super::Engine;
use super::action::Evidence;
use super::input::Veto;
use super::local::{Edge, Proof};
use super::view::StateName;
use crate::facts::{Moment, Ready, Role};
use crate::model::{InstanceIx, Need};
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
        self.heard.get(&ix).filter(|h| h.connected).and_then(|h| h.word.veto.as_ref())
    }

    /// The good answer that a start could count for this edge, with when it was begun and ended.
    pub(super) fn fresh(&self, edge: &Edge, role: Option<Role>) -> Option<(Ready, Moment, Moment)> {
        if self.veto(edge.to).is_some() {
            return None;
        }
        match edge.proof {
            Proof::Ask(q) => {
                let (ready, answer) = self.questions.get(q).ready()?;
                plays(ready, role).then(|| (ready.clone(), answer.begun, answer.ended))
            }
            // The statement is as fresh as the stream that carries it.
            Proof::Agent => self.agent_says_up(edge.to).map(|ready| (ready, self.now, self.now)),
        }
    }

    pub(super) fn is_fresh(&self, edge: &Edge, role: Option<Role>) -> bool {
        self.veto(edge.to).is_none()
            && match edge.proof {
                Proof::Ask(q) => self.questions.get(q).ready().is_some_and(|(ready, _)| plays(ready, role)),
                Proof::Agent => self.agent_says_up(edge.to).is_some(),
            }
    }

    /// Whether a running dependent may still regard this edge as met; a veto does not count here.
    pub(super) fn is_held_met(&self, edge: &Edge, role: Option<Role>) -> bool {
        match edge.proof {
            Proof::Ask(q) => self.questions.get(q).good.as_ref().is_some_and(|ready| plays(ready, role)),
            Proof::Agent => self.agent_says_up(edge.to).is_some(),
        }
    }

    fn agent_says_up(&self, ix: InstanceIx) -> Option<Ready> {
        let heard = self.heard.get(&ix).filter(|h| h.connected)?;
        let up = matches!(heard.word.state, StateName::Ready | StateName::Completed);
        up.then(|| Ready { detail: format!("its agent says {}", heard.word.state), ..Ready::default() })
    }

    /// How many edges of the need are met as a start would count them; one server behind two addresses counts once.
    pub(super) fn count_fresh(&self, l: usize, n: usize) -> usize {
        let role = self.need(l, n).role;
        let mut met = Distinct::default();
        for edge in &self.locals[l].needs[n].edges {
            if self.is_fresh(edge, role) {
                met.add(self.identity(edge));
            }
        }
        met.count
    }

    /// How many edges a running instance still has; with `staying`, only those that are not about to go.
    fn count_held(&self, l: usize, n: usize, staying: bool) -> usize {
        let role = self.need(l, n).role;
        let mut met = Distinct::default();
        for edge in &self.locals[l].needs[n].edges {
            if self.is_held_met(edge, role) && !(staying && self.is_going(edge.to)) {
                met.add(self.identity(edge));
            }
        }
        met.count
    }

    /// Whether its own agent says that it is being stopped, or does not serve yet. (Right after a stop the last
    /// answers from here were good ones, and they are not lost before some bad ones have come.) An agent that has just
    /// been replaced says `unready` of what it found.
    fn is_going(&self, ix: InstanceIx) -> bool {
        let Some(heard) = self.heard.get(&ix).filter(|h| h.connected) else { return false };
        let runs = matches!(
            heard.word.state,
            StateName::Ready | StateName::Unready | StateName::Standby | StateName::Completed
        );
        heard.word.veto.is_some() || !runs
    }

    fn identity(&self, edge: &Edge) -> Option<&str> {
        match edge.proof {
            Proof::Ask(q) => self.questions.get(q).good.as_ref()?.identity.as_deref(),
            Proof::Agent => None,
        }
    }

    /// Whether a running instance still has this need, by the thresholds for losing.
    pub(super) fn is_need_held(&self, l: usize, n: usize) -> bool {
        let need = &self.locals[l].needs[n];
        need.waived || self.count_held(l, n, false) >= need.wanted
    }

    /// Whether `to`'s going would take away a need that a running instance now has.
    pub(super) fn leans_on(&self, l: usize, to: InstanceIx) -> Option<usize> {
        let local = &self.locals[l];
        (0..local.needs.len()).find(|&n| {
            let need = &local.needs[n];
            let role = self.need(l, n).role;
            !need.waived
                && need.edges.iter().any(|e| e.to == to && self.is_held_met(e, role))
                && self.count_held(l, n, false) >= need.wanted
                && self.count_held(l, n, true) < need.wanted
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
            let role = self.need(l, n).role;
            let in_sight =
                || need.edges.iter().filter(|e| self.is_fresh(e, role) || self.is_expected(e)).count();
            need.ok || need.waived || in_sight() >= need.wanted
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
        let mut evidence = Vec::new();
        let mut ask = Vec::new();
        let mut pending = false;
        for n in 0..self.locals[l].needs.len() {
            let need = &self.locals[l].needs[n];
            if need.waived {
                continue;
            }
            let rule = self.need(l, n);
            let (mut proven, mut possible) = (Distinct::default(), Distinct::default());
            for edge in &need.edges {
                let Some((answer, begun, ended)) = self.fresh(edge, rule.role) else {
                    if self.is_expected(edge) {
                        possible.add(None);
                        ask.extend(edge.question());
                    }
                    continue;
                };
                let identity = answer.identity.clone();
                possible.add(identity.as_deref());
                let age = self.now.since(ended);
                let is_proof = begun >= cleaned && age <= FRESH;
                // Before a proof gets too old for the slower ones, it is had anew.
                if let Proof::Ask(q) = edge.proof
                    && (!is_proof || age >= RENEW_PROOF)
                {
                    ask.push(q);
                }
                if is_proof {
                    proven.add(identity.as_deref());
                    evidence.push(Evidence {
                        need: rule.name.clone(),
                        to: self.cluster.instance(edge.to).name.to_string(),
                        asked: self.asked(edge),
                        answer,
                        begun,
                        ended,
                    });
                }
            }
            if possible.count < need.wanted {
                return Verification::Lost;
            }
            pending |= proven.count < need.wanted;
        }
        if !pending {
            return Verification::Proven(evidence);
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

/// Counts servers, each identity once; those without one count each.
#[derive(Default)]
struct Distinct {
    seen: HashSet<String>,
    count: usize,
}

impl Distinct {
    fn add(&mut self, identity: Option<&str>) {
        let new = match identity {
            Some(identity) => self.seen.insert(identity.to_owned()),
            None => true,
        };
        self.count += usize::from(new);
    }
}
