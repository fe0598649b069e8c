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
    /// Those of them since it was last ready.
    pub never_ready: u32,
    /// Starts in a row that the machine had no room for: no failures of its own.
    pub shortages: u32,
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
        self.never_ready += 1;
        self.recent.push_back(now);
        while self.recent.len() > rule.limit.max(1) as usize {
            self.recent.pop_front();
        }
        let all_recent = self.recent.front().is_some_and(|first| now.since(*first) <= rule.within);
        // What never comes to be ready (its data is damaged, say) may take longer to fail than the window is long.
        let too_often = self.recent.len() >= rule.limit as usize && all_recent;
        if rule.limit > 0 && (too_often || self.never_ready >= rule.limit) {
            return Verdict::GiveUp;
        }
        Verdict::TryAgainIn(delay(self.in_a_row, rule, jitter))
    }

    /// A start that the machine had no room for. It never gives up: whoever makes room need not know who waits for it.
    pub fn count_shortage(&mut self, rule: &Restart, jitter: Jitter) -> Duration {
        self.shortages += 1;
        delay(self.shortages, rule, jitter)
    }

    /// Takes the last one back: it was not the instance's fault.
    pub fn uncount(&mut self) {
        self.in_a_row = self.in_a_row.saturating_sub(1);
        self.never_ready = self.never_ready.saturating_sub(1);
        self.recent.pop_back();
    }

    pub fn reset(&mut self) {
        *self = Failures::default();
    }
}

/// `delay` doubled for each time after the first, at most `max`, plus up to a tenth by chance so that a whole cluster
/// does not start again in step.
fn delay(times: u32, rule: &Restart, jitter: Jitter) -> Duration {
    let doublings = times.saturating_sub(1).min(31);
    let plain = rule.delay.saturating_mul(1 << doublings).min(rule.max.max(rule.delay));
    plain + plain / 10 * u32::from(jitter.min(1000)) / 1000
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
            unready_for: None,
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
        failures.never_ready = 0;
        assert_ne!(failures.count(at(100), &rule(3), 0), Verdict::GiveUp, "the first is out of the window");
        assert_eq!(failures.count(at(105), &rule(3), 0), Verdict::GiveUp);
    }

    #[test]
    fn what_never_comes_to_be_ready_is_given_up_however_slowly_it_fails() {
        let mut failures = Failures::default();
        assert_ne!(failures.count(at(0), &rule(3), 0), Verdict::GiveUp);
        assert_ne!(failures.count(at(1000), &rule(3), 0), Verdict::GiveUp);
        assert_eq!(failures.count(at(2000), &rule(3), 0), Verdict::GiveUp);
    }

    #[test]
    fn a_shortage_is_tried_again_for_ever_and_counts_as_no_failure() {
        let mut failures = Failures::default();
        let delays: Vec<_> = (0..5).map(|_| failures.count_shortage(&rule(3), 0).as_secs()).collect();
        assert_eq!(delays, [1, 2, 4, 5, 5]);
        assert_eq!(failures.in_a_row, 0);
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
