//! A failing scenario made smaller: what is left is what the failure needs.
//!
//! Fewer faults, then fewer nodes and services, then plain times; each change is kept when the scenario still fails.
//! Where every fault has its end, each smaller scenario has that, too: otherwise nothing would be up in the end, and
//! another failure would be shown.

mod cluster;

use super::generate::unsettled;
use super::scenario::{Scenario, Timing};
use super::text::{Written, on_cluster};
use crate::model::{self, Sources};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// The smallest scenario that was found with at most so many runs of `fails`, which tells whether one fails in the
/// way that is looked for. `written` does.
pub fn shrink(written: Written, most_runs: usize, fails: &mut dyn FnMut(&Scenario) -> bool) -> Written {
    let settled = unsettled(&written.scenario.faults).is_none();
    let mut shrinking = Shrinking { best: written, runs: most_runs, settled, fails };
    loop {
        let gained = shrinking.fewer_faults() | shrinking.smaller_cluster() | shrinking.plainer_times();
        if !gained || shrinking.runs == 0 {
            return shrinking.best;
        }
    }
}

struct Shrinking<'f> {
    best: Written,
    /// How many runs are left.
    runs: usize,
    /// Every fault has its end, and is to keep it.
    settled: bool,
    fails: &'f mut dyn FnMut(&Scenario) -> bool,
}

impl Shrinking<'_> {
    /// Takes a smaller one if it fails, too.
    fn take(&mut self, smaller: Written) -> bool {
        if self.runs == 0 || (self.settled && unsettled(&smaller.scenario.faults).is_some()) {
            return false;
        }
        self.runs -= 1;
        let fails = (self.fails)(&smaller.scenario);
        if fails {
            self.best = smaller;
        }
        fails
    }

    fn take_scenario(&mut self, change: impl FnOnce(&mut Scenario)) -> bool {
        let mut smaller = self.best.clone();
        change(&mut smaller.scenario);
        self.take(smaller)
    }

    /// Leaves out half of the faults, then quarters, down to single ones. A beginning stands before its end and so is
    /// tried first: without it the end can go, too.
    fn fewer_faults(&mut self) -> bool {
        let mut gained = false;
        let mut chunk = self.best.scenario.faults.len();
        while chunk > 0 {
            let mut from = 0;
            while from < self.best.scenario.faults.len() {
                let to = (from + chunk).min(self.best.scenario.faults.len());
                if self.take_scenario(|s| drop(s.faults.drain(from..to))) {
                    gained = true;
                } else {
                    from = to;
                }
            }
            chunk /= 2;
        }
        gained
    }

    /// Leaves out services and nodes, first many at once; then needs.
    fn smaller_cluster(&mut self) -> bool {
        let mut gained = self.take_sources(cluster::without_vips);
        let cluster = self.best.scenario.cluster.clone();
        let services: Vec<&str> = cluster.services.iter().map(|s| s.name.as_str()).collect();
        gained |= self.without_many(&services, cluster::without_service);
        let nodes: Vec<&str> = cluster.nodes.iter().map(|n| n.name.as_str()).collect();
        gained |= self.without_many(&nodes, cluster::without_node);
        let cluster = self.best.scenario.cluster.clone();
        for (service, need) in cluster.services.iter().flat_map(|s| s.needs.iter().map(move |n| (s, n))) {
            gained |= self.take_sources(|sources| cluster::without_need(sources, &service.name, &need.name));
        }
        gained
    }

    /// Leaves out as many of the names as can be, half of them at first. Those that went with others are passed over.
    fn without_many(&mut self, names: &[&str], without: fn(&Sources, &str) -> Option<Sources>) -> bool {
        let mut gained = false;
        let mut left = names.to_vec();
        let mut chunk = left.len().div_ceil(2);
        while chunk > 0 {
            let mut from = 0;
            while from < left.len() {
                let to = (from + chunk).min(left.len());
                let smaller = |sources: &Sources| {
                    let all = left[from..to].iter();
                    all.fold(None, |gone, name| without(gone.as_ref().unwrap_or(sources), name).or(gone))
                };
                if self.take_sources(smaller) {
                    gained = true;
                    left.drain(from..to);
                } else {
                    from = to;
                }
            }
            chunk /= 2;
        }
        gained
    }

    /// Takes other texts, if they are a cluster at all.
    fn take_sources(&mut self, change: impl Fn(&Sources) -> Option<Sources>) -> bool {
        let Some(sources) = change(&self.best.sources) else { return false };
        let Ok(cluster) = model::parse(&sources) else { return false };
        let scenario = on_cluster(&self.best.scenario, Arc::new(cluster));
        self.take(Written { about: self.best.about.clone(), sources, scenario })
    }

    /// Daemons that all take one second, faults at whole seconds, and half the time between one and the next.
    fn plainer_times(&mut self) -> bool {
        let plain =
            Timing { usual: Duration::from_secs(1), of: BTreeMap::new(), boot: Duration::from_secs(10) };
        let Timing { usual, of, boot } = &self.best.scenario.timing;
        let is_plain = of.is_empty() && (*usual, *boot) == (plain.usual, plain.boot);
        let mut gained = !is_plain && self.take_scenario(|s| s.timing = plain);
        let whole = |time: Duration| Duration::from_secs(time.as_secs());
        if self.best.scenario.faults.iter().any(|timed| timed.at != whole(timed.at)) {
            gained |=
                self.take_scenario(|s| s.faults.iter_mut().for_each(|timed| timed.at = whole(timed.at)));
        }
        for f in 0..self.best.scenario.faults.len() {
            gained |= self.take_scenario_if_earlier(f);
        }
        gained
    }

    /// Moves a fault and all that follow half of the way to the one before, as long as that is seconds.
    fn take_scenario_if_earlier(&mut self, f: usize) -> bool {
        let faults = &self.best.scenario.faults;
        let before = f.checked_sub(1).map_or(Duration::ZERO, |b| faults[b].at);
        let half = Duration::from_secs((faults[f].at - before).as_secs() / 2);
        !half.is_zero() && self.take_scenario(|s| s.faults[f..].iter_mut().for_each(|timed| timed.at -= half))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::generate;
    use crate::sim::scenario::Fault;
    use crate::sim::text;

    const LENGTH: Duration = Duration::from_secs(600);

    /// Generated scenarios with this kind of fault, for a failure that needs nothing else.
    fn with(is_it: fn(&Fault) -> bool) -> Written {
        let mut all = (0..).map(|seed| generate::of_generated(seed, 30, LENGTH).unwrap());
        let has = |w: &Written| w.scenario.faults.iter().any(|t| is_it(&t.fault));
        all.find(|w| has(w) && w.scenario.cluster.nodes.len() > 10).unwrap()
    }

    #[test]
    fn one_crash_is_all_that_is_left() {
        let is_crash = |fault: &Fault| matches!(fault, Fault::Crash { .. });
        let mut runs = 0;
        let small = shrink(with(is_crash), 2000, &mut |scenario| {
            runs += 1;
            scenario.faults.iter().any(|timed| is_crash(&timed.fault))
        });
        let printed = text::print(&small);
        assert_eq!(small.scenario.faults.len(), 1, "{printed}");
        assert_eq!(small.scenario.cluster.instances.len(), 1, "{printed}");
        assert_eq!(small.sources.units.len(), 1, "{printed}");
        assert_eq!(small.scenario.faults[0].at.subsec_nanos(), 0, "{printed}");
        assert!(runs <= 2000);
        assert_eq!(text::print(&text::parse(&printed).unwrap()), printed);
    }

    #[test]
    fn a_fault_keeps_its_end() {
        let is_cut = |fault: &Fault| matches!(fault, Fault::Cut { .. });
        let fails = |scenario: &Scenario| scenario.faults.iter().any(|timed| is_cut(&timed.fault));
        let small = shrink(with(is_cut), 2000, &mut { fails });
        assert_eq!(small.scenario.faults.len(), 2, "{}", text::print(&small));
        assert_eq!(unsettled(&small.scenario.faults), None);
    }

    #[test]
    fn the_work_is_bounded() {
        let mut runs = 0;
        shrink(generate::of_sample(1, LENGTH).unwrap(), 10, &mut |_| {
            runs += 1;
            true
        });
        assert!((1..=10).contains(&runs), "{runs}");
    }

    /// The sample's services stand on groups, its needs are of every form, and it has a virtual address.
    #[test]
    fn the_sample_shrinks_too() {
        let written = generate::of_sample(1, LENGTH).unwrap();
        let fails = |scenario: &Scenario| scenario.cluster.instance_named("activemq@mq2").is_some();
        let small = shrink(written, 2000, &mut { fails });
        assert_eq!(small.scenario.cluster.instances.len(), 1, "{}", text::print(&small));
        assert_eq!(small.scenario.cluster.nodes.len(), 1, "{}", text::print(&small));
    }
}
