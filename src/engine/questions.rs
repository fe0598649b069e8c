//! The questions that this node asks, each once, however many needs there are behind it.

use super::input::QuestionIx;
use crate::facts::{Answer, Moment, Ready, Role, Verdict};
use crate::model::Question;
use std::collections::HashMap;
use std::time::Duration;

/// Who wants to know: positions in the engine's tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asker {
    /// The local instance's own readiness.
    Own(usize),
    /// (local, need, edge)
    Edge(usize, usize, usize),
    /// (local, sibling)
    Sibling(usize, usize),
}

impl Asker {
    pub fn local(self) -> usize {
        match self {
            Asker::Own(l) | Asker::Edge(l, _, _) | Asker::Sibling(l, _) => l,
        }
    }
}

#[derive(Debug)]
pub(super) struct QuestionState {
    pub question: Question,
    pub askers: Vec<Asker>,
    /// How often to ask when all is well, and how many bad answers in a row make a loss: the target unit's.
    pub every: Duration,
    pub lost_after: u32,
    /// The latest answer, and since when the answers have been like it.
    pub answer: Option<Answer>,
    pub since: Moment,
    /// Since when the answers have told of the same roles.
    pub roles_since: Moment,
    /// The latest good answer; taken away after `lost_after` bad ones in a row.
    pub good: Option<Ready>,
    pub misses: u32,
    /// When a `Verify` was asked that no answer has met yet.
    pub asked: Option<Moment>,
    /// Its agent has just said that it serves, and no answer has met that yet: a good one is to be expected.
    pub expected: bool,
    /// The pace that the shell was told.
    pub pace: Option<Duration>,
}

impl QuestionState {
    fn new(question: Question, every: Duration, lost_after: u32) -> Self {
        QuestionState {
            question,
            askers: Vec::new(),
            every,
            lost_after,
            answer: None,
            since: Moment::default(),
            roles_since: Moment::default(),
            good: None,
            misses: 0,
            asked: None,
            expected: false,
            pace: None,
        }
    }

    /// Takes an answer in. Returns whether a bad one is to be checked again soon; `None` when the answer is older
    /// than what is known, and changes nothing.
    pub fn take(&mut self, now: Moment, answer: Answer) -> Option<bool> {
        if self.asked.is_some_and(|asked| answer.begun >= asked) {
            self.asked = None;
            self.expected = false;
        }
        // Two probes may overlap; the one begun later knows better.
        if self.answer.as_ref().is_some_and(|old| old.begun > answer.begun) {
            return None;
        }
        if self.answer.as_ref().is_none_or(|old| old.verdict.is_ready() != answer.verdict.is_ready()) {
            self.since = now;
        }
        if self.answer.as_ref().is_none_or(|old| roles(&old.verdict) != roles(&answer.verdict)) {
            self.roles_since = now;
        }
        match &answer.verdict {
            Verdict::Ready(ready) => {
                if self.good.as_ref() != Some(ready) {
                    self.good = Some(ready.clone());
                }
                self.misses = 0;
            }
            _ => {
                self.misses = self.misses.saturating_add(1);
                if self.misses >= self.lost_after {
                    self.good = None;
                }
            }
        }
        self.answer = Some(answer);
        Some(self.misses > 0 && !self.is_lost())
    }

    /// Whether it is known if it serves: by a good answer, or by as many bad ones as make a loss.
    pub fn is_known(&self) -> bool {
        self.good.is_some() || self.is_lost()
    }

    /// Whether it does not serve, past the threshold.
    pub fn is_lost(&self) -> bool {
        self.misses >= self.lost_after
    }

    /// The latest answer, if it is a good one.
    pub fn ready(&self) -> Option<(&Ready, &Answer)> {
        let answer = self.answer.as_ref()?;
        match &answer.verdict {
            Verdict::Ready(ready) => Some((ready, answer)),
            _ => None,
        }
    }

    /// Forgets what was heard: nobody asks any more, so nothing is known any more.
    pub fn forget(&mut self) {
        self.answer = None;
        self.good = None;
        self.misses = 0;
        self.asked = None;
        self.expected = false;
    }
}

/// What a good answer says it serves as.
fn roles(verdict: &Verdict) -> Option<&[Role]> {
    match verdict {
        Verdict::Ready(ready) => Some(&ready.roles),
        _ => None,
    }
}

#[derive(Debug, Default)]
pub(super) struct Questions {
    pub all: Vec<QuestionState>,
    by_question: HashMap<Question, QuestionIx>,
}

impl Questions {
    /// The index of this question, with one more who asks it.
    pub fn add(&mut self, question: &Question, every: Duration, lost_after: u32, asker: Asker) -> QuestionIx {
        let all = &mut self.all;
        let ix = *self.by_question.entry(question.clone()).or_insert_with(|| {
            all.push(QuestionState::new(question.clone(), every, lost_after.max(1)));
            QuestionIx(all.len() as u32 - 1)
        });
        let state = &mut self.all[ix.0 as usize];
        state.every = state.every.min(every);
        state.askers.push(asker);
        ix
    }

    pub fn get(&self, ix: QuestionIx) -> &QuestionState {
        &self.all[ix.0 as usize]
    }

    pub fn get_mut(&mut self, ix: QuestionIx) -> &mut QuestionState {
        &mut self.all[ix.0 as usize]
    }
}
