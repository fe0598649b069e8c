//! Breaking the engine on purpose, from outside: it shows that the checks can fail.
//!
//! A [`Saboteur`] stands between one agent's shell and its engine. The shell tells the truth and does what the two of
//! them say; a [`Watcher`](super::Watcher) sees the truth that went in and the actions that came out, and so takes the
//! pair for one broken engine.

use crate::engine::{Action, Engine, Found, Input, Jitter, QuestionIx, Veto};
use crate::facts::{Answer, Cleaned, Moment};
use crate::model::InstanceIx;
use std::collections::HashMap;
use std::sync::Arc;

/// A way to break an engine. Each names the promise that it breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    /// Order: no veto is heard.
    DeafToVetoes,
    /// Order: a good answer is told again, with new dates, in place of every bad one that follows.
    KeepsOldAnswers,
    /// Order: each answer is told as if its question had just been asked.
    PostdatesAnswers,
    /// Order: an agent whose stream ended is still believed.
    TrustsLostPeers,
    /// Order: the start goes out together with the order to clean.
    StartsUnproven,
    /// One: each start goes out twice.
    StartsTwice,
    /// One: a new agent does not find what runs, nor what that has left. (Either look alone would find it.)
    ForgetsProcesses,
    /// No harm: a new agent does not find what runs, and whoever lives is taken for dead when leftovers are judged.
    /// (The latter is the world's to do.)
    JudgesRashly,
    /// Reverse: each dependent elsewhere is heard to have let go.
    HearsReleases,
    /// Refused: a start uses a unit that no accepted file holds.
    StartsAnotherUnit,
    /// Held: no wish reaches the disk.
    ForgetsWishes,
    /// Progress: every third result of a cleaning is lost.
    LosesResults,
}

/// Every way, for tests that go through them all.
pub const ALL: [Sabotage; 12] = [
    Sabotage::DeafToVetoes,
    Sabotage::KeepsOldAnswers,
    Sabotage::PostdatesAnswers,
    Sabotage::TrustsLostPeers,
    Sabotage::StartsUnproven,
    Sabotage::StartsTwice,
    Sabotage::ForgetsProcesses,
    Sabotage::JudgesRashly,
    Sabotage::HearsReleases,
    Sabotage::StartsAnotherUnit,
    Sabotage::ForgetsWishes,
    Sabotage::LosesResults,
];

/// One agent's saboteur; a new agent has a new one.
#[derive(Clone, Debug)]
pub struct Saboteur {
    what: Sabotage,
    /// The last good answer to each question.
    good: HashMap<QuestionIx, Answer>,
    cleanings: u32,
}

impl Saboteur {
    pub fn new(what: Sabotage) -> Saboteur {
        Saboteur { what, good: HashMap::new(), cleanings: 0 }
    }

    /// In place of [`Engine::handle`].
    pub fn handle(&mut self, engine: &mut Engine, now: Moment, jitter: Jitter, input: Input) -> Vec<Action> {
        let Some(told) = self.tell(engine, now, input) else { return Vec::new() };
        let actions = engine.handle(now, jitter, told);
        self.pass_on(engine, actions)
    }

    /// What the engine is told instead; `None` is nothing at all.
    fn tell(&mut self, engine: &Engine, now: Moment, mut input: Input) -> Option<Input> {
        match (self.what, &mut input) {
            (Sabotage::DeafToVetoes, Input::PeerSaid { words, .. }) => {
                words.iter_mut().for_each(|(_, word)| word.veto = None);
            }
            (Sabotage::HearsReleases, Input::PeerSaid { words, .. }) => {
                let own = engine.own_instances().filter_map(|i| withdrawn(engine, i)).collect::<Vec<_>>();
                words.iter_mut().for_each(|(_, word)| word.released = own.clone());
            }
            (Sabotage::KeepsOldAnswers, Input::Answered { question, answer }) => {
                if answer.verdict.is_ready() {
                    self.good.insert(*question, answer.clone());
                } else if let Some(good) = self.good.get(question) {
                    answer.verdict.clone_from(&good.verdict);
                }
            }
            (Sabotage::PostdatesAnswers, Input::Answered { answer, .. }) => {
                (answer.begun, answer.ended) = (now, now);
            }
            (Sabotage::TrustsLostPeers, Input::PeerLost { .. }) => return None,
            (Sabotage::ForgetsProcesses | Sabotage::JudgesRashly, Input::Searched { found, .. }) => {
                *found = Found::Nothing
            }
            (Sabotage::ForgetsProcesses, Input::Cleaned { cleaned, .. }) => {
                *cleaned = Cleaned::Clear { findings: Vec::new() };
            }
            (Sabotage::LosesResults, Input::Cleaned { .. }) => {
                self.cleanings += 1;
                if self.cleanings.is_multiple_of(3) {
                    return None;
                }
            }
            _ => {}
        }
        Some(input)
    }

    /// What the shell hears instead of the engine's actions.
    fn pass_on(&self, engine: &Engine, actions: Vec<Action>) -> Vec<Action> {
        let mut passed = Vec::with_capacity(actions.len());
        for mut action in actions {
            match (self.what, &mut action) {
                (Sabotage::ForgetsWishes, Action::SaveWish { .. }) => continue,
                (Sabotage::StartsTwice, Action::Spawn { .. }) => passed.push(action.clone()),
                (Sabotage::StartsAnotherUnit, Action::Spawn { unit, .. }) => {
                    Arc::make_mut(unit).run.command.push("--refused".to_owned());
                }
                (Sabotage::StartsUnproven, Action::Clean { instance }) => {
                    passed.extend(start(engine, *instance));
                }
                _ => {}
            }
            passed.push(action);
        }
        passed
    }
}

/// The veto of an own instance, as others release it.
fn withdrawn(engine: &Engine, instance: InstanceIx) -> Option<(Arc<str>, u64)> {
    let Veto { epoch, .. } = engine.word(instance)?.veto?;
    Some((engine.cluster().instance(instance).name.clone(), epoch))
}

/// A start that the engine never ordered.
fn start(engine: &Engine, instance: InstanceIx) -> Option<Action> {
    let mut memory = engine.memory(instance)?;
    memory.incarnation += 1;
    Some(Action::Spawn { instance, memory, unit: engine.unit(instance)?.clone() })
}
