//! The course of one question: its deadline, whether it may still be given up, and where its time goes.

use crate::facts::{Stage, Took};
use std::fmt;
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// One question under way. One deadline covers all of it.
#[derive(Clone, Copy)]
pub(super) struct Course<'a> {
    at: Instant,
    /// The length that the deadline had at the start: what a person is told.
    total: Duration,
    commitment: &'a Commitment,
    stages: &'a Stages,
}

impl<'a> Course<'a> {
    pub fn begin(total: Duration, commitment: &'a Commitment, stages: &'a Stages) -> Course<'a> {
        Course { at: Instant::now() + total, total, commitment, stages }
    }

    /// With half of the time that is left from now on, for a first try that leaves room for a second.
    pub fn half(self) -> Course<'a> {
        let left = self.at.saturating_duration_since(Instant::now());
        Course { at: self.at - left / 2, ..self }
    }

    /// Runs `work` until the deadline; `None` when it was not done by then.
    pub async fn limit<F: Future>(self, work: F) -> Option<F::Output> {
        timeout_at(self.at, work).await.ok()
    }

    /// From here on it must run to its end.
    pub fn commit(self) {
        self.commitment.0.store(true, Ordering::Relaxed);
    }

    /// A new start on another connection: giving it up harms nobody again.
    pub fn uncommit(self) {
        self.commitment.reset();
    }

    /// What comes now is this stage.
    pub fn enter(self, stage: Stage) {
        self.stages.enter(stage);
    }
}

/// The length of the deadline: `2 s`, `500 ms`.
impl fmt::Display for Course<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.total.as_millis() {
            ms if ms % 1000 == 0 => write!(f, "{} s", ms / 1000),
            ms => write!(f, "{ms} ms"),
        }
    }
}

/// Whether the question under way has reached the point from which it must run to its end.
///
/// Until then (a connect that nobody has answered) giving it up harms nobody.
#[derive(Clone, Debug, Default)]
pub(super) struct Commitment(Arc<AtomicBool>);

impl Commitment {
    pub fn reset(&self) {
        self.0.store(false, Ordering::Relaxed);
    }
    pub fn is_made(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
    #[cfg(test)]
    pub fn make(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The stages that a question has entered, each with when: no more than a protocol has, and one try again.
#[derive(Debug, Default)]
pub(super) struct Stages(Mutex<Vec<(Stage, Instant)>>);

impl Stages {
    fn enter(&self, stage: Stage) {
        self.entered().push((stage, Instant::now()));
    }

    pub fn reset(&self) {
        self.entered().clear();
    }

    /// How long each has taken, in their order; the last one until now.
    pub fn taken(&self) -> Vec<Took> {
        let entered = self.entered();
        let ends = entered.iter().skip(1).map(|(_, at)| *at).chain([Instant::now()]);
        let mut taken: Vec<Took> = Vec::new();
        for ((stage, begun), end) in entered.iter().zip(ends) {
            let us = u64::try_from((end - *begun).as_micros()).unwrap_or(u64::MAX);
            match taken.last_mut().filter(|last| last.stage == *stage) {
                Some(last) => last.us += us,
                None => taken.push(Took { stage: *stage, us }),
            }
        }
        taken
    }

    fn entered(&self) -> std::sync::MutexGuard<'_, Vec<(Stage, Instant)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::advance;

    #[tokio::test]
    async fn deadlines_are_told_in_round_words() {
        let (commitment, stages) = <(Commitment, Stages)>::default();
        let told = |ms| Course::begin(Duration::from_millis(ms), &commitment, &stages).to_string();
        assert_eq!((told(2000).as_str(), told(1500).as_str()), ("2 s", "1500 ms"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_stage_lasts_until_the_next_one_begins() {
        let (commitment, stages) = <(Commitment, Stages)>::default();
        let course = Course::begin(Duration::from_secs(1), &commitment, &stages);
        assert_eq!(stages.taken(), []);
        course.enter(Stage::Connect);
        advance(Duration::from_millis(3)).await;
        course.enter(Stage::Reply);
        advance(Duration::from_millis(2)).await;
        course.enter(Stage::Reply);
        advance(Duration::from_millis(2)).await;
        let took = |stage, us| Took { stage, us };
        assert_eq!(stages.taken(), [took(Stage::Connect, 3000), took(Stage::Reply, 4000)]);
        stages.reset();
        assert_eq!(stages.taken(), []);
    }
}
