//! Random runs: scenarios from seeds, with every promise watched.

use super::checks::of_steps;
use super::contract::Contract;
use super::sabotage::Sabotage;
use super::scenario::Scenario;
use super::shrink::shrink;
use super::text::{self, Written};
use super::{Ending, Violation, Watcher, run, run_sabotaged};
use crate::model::Diagnostics;
use std::fmt;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// How many runs making a failing scenario smaller may take: minutes for the largest, a second for most.
const SHRINK_RUNS: usize = 400;

/// One run with every check.
///
/// # Errors
/// The promise that was broken.
pub fn check(scenario: &Scenario) -> Result<Ending, Violation> {
    watched(scenario, |_| true, |watchers| run(scenario, watchers))
}

/// One run with engines that are broken on purpose, and with only those checks that are about this promise (besides
/// the world's own).
///
/// # Errors
/// A promise that was broken: what is hoped for.
pub fn check_sabotaged(scenario: &Scenario, sabotage: Sabotage, promise: &str) -> Result<Ending, Violation> {
    watched(scenario, |name| name == promise, |watchers| run_sabotaged(scenario, sabotage, watchers))
}

fn watched<T>(
    scenario: &Scenario,
    wanted: impl Fn(&str) -> bool,
    run: impl FnOnce(&mut [&mut dyn Watcher]) -> T,
) -> T {
    let mut checks = of_steps(scenario);
    checks.push(("contract", Box::new(Contract::default())));
    let mut watchers: Vec<&mut dyn Watcher> = Vec::with_capacity(checks.len());
    for (_, check) in checks.iter_mut().filter(|(name, _)| wanted(name)) {
        watchers.push(check.as_mut());
    }
    run(&mut watchers)
}

/// What many runs came to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    pub runs: u64,
    /// Inputs that all engines took in.
    pub inputs: u64,
}

/// A seed that breaks a promise, made smaller.
#[derive(Debug)]
pub struct Failing {
    pub seed: u64,
    pub violation: Violation,
    pub small: Written,
}

impl fmt::Display for Failing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "# seed {}: {}\n{}", self.seed, self.violation, text::print(&self.small))
    }
}

/// Runs the scenario of each seed, on so many threads, up to the first that breaks a promise.
///
/// # Errors
/// The lowest failing seed, whatever the threads' luck.
pub fn runs(
    seeds: Range<u64>,
    threads: usize,
    of: &(dyn Fn(u64) -> Result<Written, Diagnostics> + Sync),
) -> Result<Tally, Box<Failing>> {
    let (next, stop) = (AtomicU64::new(seeds.start), AtomicU64::new(seeds.end));
    let all = Mutex::new((Tally::default(), None::<(u64, Box<Written>, Violation)>));
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let written = of(seed).unwrap_or_else(|refused| panic!("seed {seed}: {refused}"));
                    let ended = check(&written.scenario);
                    let Ok(mut all) = all.lock() else { return };
                    match ended {
                        Ok(ending) => {
                            all.0.runs += 1;
                            all.0.inputs += ending.inputs;
                        }
                        Err(violation) => {
                            // Lower seeds are under way already; none above matters any more.
                            stop.fetch_min(seed, Ordering::Relaxed);
                            if all.1.as_ref().is_none_or(|(lowest, ..)| seed < *lowest) {
                                all.1 = Some((seed, Box::new(written), violation));
                            }
                        }
                    }
                }
            });
        }
    });
    let (tally, failing) = all.into_inner().unwrap_or_default();
    match failing {
        None => Ok(tally),
        Some((seed, written, violation)) => {
            let small = smaller(*written, &violation);
            Err(Box::new(Failing { seed, violation, small }))
        }
    }
}

/// A smaller scenario that breaks the same promise.
pub fn smaller(written: Written, violation: &Violation) -> Written {
    let promise = promise(violation).to_owned();
    shrink(written, SHRINK_RUNS, &mut |scenario| {
        check(scenario).is_err_and(|other| self::promise(&other) == promise)
    })
}

/// The promise that was broken: the first word.
pub fn promise(violation: &Violation) -> &str {
    violation.why.split(':').next().unwrap_or_default()
}
