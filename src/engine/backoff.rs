//! How long to wait after a failure, and when to give up.

use crate::facts::Moment;
use crate::model::Restart;
use std::collections::VecDeque;
use std::time::Duration;

/// Chance as an input: 0 to 1000.
pub type Jitter = u16;

/// The failures of one instance.
#[derive(Clone, Debug, Default)]
pub(super) struct Failures {
    /// Failures in a row; a stable run resets them.
    pub in_a_row: u32,
    /// The moments of the latest, at most as many as the start limit counts.
    recent: VecDeque<Moment>,
}

/// What follows from a failure.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    TryAgainIn(Duration),
    GiveUp,
}

impl Failures {
    /// Counts one.
    pub fn count(&mut self, now: Moment, rule: &Restart, jitter: Jitter) -> Verdict {
        self.in_a_row += 1;
        self.recent.push_back(now);
        while self.recent.len() > rule.limit.max(1) as usize {
            self.recent.pop_front();
        }
        let all_recent = self.recent.front().is_some_and(|first| now.since(*first) <= rule.within);
        if rule.limit > 0 && self.recent.len() >= rule.limit as usize && all_recent {
            return Verdict::GiveUp;
        }
        Verdict::TryAgainIn(self.delay(rule, jitter))
    }

    /// Takes the last one back: it was not the instance's fault.
    pub fn uncount(&mut self) {
        self.in_a_row = self.in_a_row.saturating_sub(1);
        self.recent.pop_back();
    }

    pub fn reset(&mut self) {
        *self = Failures::default();
    }

    /// `delay` doubled for each failure after the first, at most `max`, plus up to a tenth by chance so that a
    /// whole cluster does not start again in step.
    fn delay(&self, rule: &Restart, jitter: Jitter) -> Duration {
        let doublings = self.in_a_row.saturating_sub(1).min(31);
        let plain = rule.delay.saturating_mul(1 << doublings).min(rule.max.max(rule.delay));
        plain + plain / 10 * u32::from(jitter.min(1000)) / 1000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(limit: u32) -> Restart {
        Restart {
            delay: Duration::from_secs(1),
            max: Duration::from_secs(5),
            limit,
            within: Duration::from_secs(60),
            stable: Duration::from_secs(30),
        }
    }

    fn at(seconds: u64) -> Moment {
        Moment(seconds * 1_000_000_000)
    }

    #[test]
    fn doubles_up_to_the_cap() {
        let mut failures = Failures::default();
        let delays: Vec<_> = (0..5)
            .map(|i| match failures.count(at(i), &rule(0), 0) {
                Verdict::TryAgainIn(d) => d.as_secs(),
                Verdict::GiveUp => panic!("no limit was set"),
            })
            .collect();
        assert_eq!(delays, [1, 2, 4, 5, 5]);
    }

    #[test]
    fn jitter_adds_at_most_a_tenth() {
        let mut failures = Failures::default();
        assert_eq!(failures.count(at(0), &rule(0), 1000), Verdict::TryAgainIn(Duration::from_millis(1100)));
    }

    #[test]
    fn gives_up_at_the_limit_only_within_the_window() {
        let mut failures = Failures::default();
        assert_ne!(failures.count(at(0), &rule(3), 0), Verdict::GiveUp);
        assert_ne!(failures.count(at(50), &rule(3), 0), Verdict::GiveUp);
        assert_ne!(failures.count(at(100), &rule(3), 0), Verdict::GiveUp, "the first is out of the window");
        assert_eq!(failures.count(at(105), &rule(3), 0), Verdict::GiveUp);
    }

    #[test]
    fn what_was_taken_back_does_not_count() {
        let mut failures = Failures::default();
        for i in 0..10 {
            failures.count(at(i), &rule(3), 0);
            failures.uncount();
        }
        assert_eq!(failures.in_a_row, 0);
    }
}
