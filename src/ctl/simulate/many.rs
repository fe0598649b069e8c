//! Many boots by chance, told by their sum.

use super::causes::Causes;
use super::figures::Figures;
use super::report::{OfLeg, of_path};
use super::whatif::WhatIf;
use super::{Ran, SimulateArgs, page, shown, simulate};
use crate::ctl::status::cause_line;
use crate::ctl::text::{BOLD, Look, paint, plural, put};
use crate::ctl::{Exit, Global, hint};
use crate::model::Cluster;
use crate::sim::scenario::Fault;
use serde::Serialize;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

/// What many runs came to.
#[derive(Default)]
struct Sum {
    first_seed: u64,
    runs: usize,
    /// For each run in which all came up: how long that took, and how long from the last machine's power.
    whole: Vec<(Duration, Duration)>,
    /// The one that took longest, by the second of these times (the first is mostly when machines had their power);
    /// with faults by the first.
    slowest: Option<(Duration, Ran)>,
    failed: Vec<u64>,
    first_failed: Option<Ran>,
    /// Then the last machine's power says little of how long the rest took.
    has_faults: bool,
}

/// The JSON of it. Its shape is kept, as a single run's is.
#[derive(Serialize)]
struct Report<'r> {
    cluster: &'r str,
    runs: usize,
    first_seed: u64,
    /// How many came up whole.
    whole: usize,
    /// Until the last instance was up, in runs that came up whole.
    took_ms: Option<Spread>,
    /// The same from the last machine's power.
    after_power_ms: Option<Spread>,
    slowest: Option<Slowest<'r>>,
    failed_seeds: &'r [u64],
    /// Of the first that failed.
    first_failed: Option<Failed<'r>>,
}

#[derive(Serialize)]
struct Spread {
    median: u64,
    worst: u64,
}

#[derive(Serialize)]
struct Slowest<'r> {
    seed: u64,
    critical_path: Vec<OfLeg<'r>>,
}

#[derive(Serialize)]
struct Failed<'r> {
    seed: u64,
    down: Vec<&'r str>,
    root_causes: Vec<String>,
}

pub fn run(
    cluster: &Arc<Cluster>,
    what_if: &WhatIf,
    figures: &Figures,
    args: &SimulateArgs,
    runs: u32,
    global: &Global,
) -> anyhow::Result<Exit> {
    let mut sum =
        Sum { first_seed: args.seed.unwrap_or(1), has_faults: args.faults.is_some(), ..Sum::default() };
    for n in 0..u64::from(runs) {
        let seed = sum.first_seed.wrapping_add(n);
        sum.add(simulate(what_if.scenario(cluster, figures, Some(seed)), Some(seed))?, seed);
    }
    let failed = sum.first_failed.as_ref().map(|ran| (ran, Causes::new(ran)));
    if global.json {
        crate::ctl::print_json(&report(cluster, &sum, failed.as_ref()))?;
    } else {
        crate::ctl::print(&text(cluster, &sum, failed.as_ref(), &Look::here()))?;
        let worth = sum.failed.first().copied().or(sum.slowest.as_ref().and_then(|(_, ran)| ran.seed));
        if let Some(seed) = worth {
            hint(&args.with_seed(seed, global));
        }
    }
    Ok(if sum.failed.is_empty() { Exit::Done } else { Exit::Incomplete })
}

impl Sum {
    fn add(&mut self, ran: Ran, seed: u64) {
        self.runs += 1;
        if !ran.timeline.stayed_down().is_empty() {
            self.failed.push(seed);
            self.first_failed.get_or_insert(ran);
            return;
        }
        let took = ran.timeline.came_up().last().map(|(at, _)| *at).unwrap_or_default();
        let powered = ran.scenario.faults.iter().rev().find(|t| matches!(t.fault, Fault::PowerOn { .. }));
        let after = took.saturating_sub(powered.map(|t| t.at).unwrap_or_default());
        self.whole.push((took, after));
        let counts = if self.has_faults { took } else { after };
        if self.slowest.as_ref().is_none_or(|(worst, _)| counts > *worst) {
            self.slowest = Some((counts, ran));
        }
    }

    /// Median and worst: until the last was up, and from the last machine's power.
    fn spreads(&self) -> Option<[(Duration, Duration); 2]> {
        let of = |pick: fn(&(Duration, Duration)) -> Duration| {
            let mut all: Vec<Duration> = self.whole.iter().map(pick).collect();
            all.sort_unstable();
            Some((all.get(all.len() / 2).copied()?, all.last().copied()?))
        };
        Some([of(|w| w.0)?, of(|w| w.1)?])
    }
}

fn text(cluster: &Cluster, sum: &Sum, failed: Option<&(&Ran, Causes)>, look: &Look) -> String {
    let mut out = String::new();
    let last = sum.first_seed.wrapping_add(sum.runs as u64 - 1);
    let whole = sum.whole.len();
    let title = format!(
        "{}: {whole} of {} came up whole (seeds {} to {last})",
        cluster.name,
        plural(sum.runs, "boot"),
        sum.first_seed
    );
    put(&mut out, look, 0, &paint(BOLD, &title));
    if let Some([took, after]) = sum.spreads() {
        out.push('\n');
        let mut line = |what: &str, (median, worst): (Duration, Duration)| {
            let _ = writeln!(out, "  {what:31}  median {}, worst {}", shown(median), shown(worst));
        };
        line("until the last instance was up", took);
        if !sum.has_faults {
            line("of that from the last power-on", after);
        }
    }
    if let Some((_, ran)) = &sum.slowest {
        let seed = ran.seed.unwrap_or_default();
        let _ =
            writeln!(out, "\n{}", paint(BOLD, &format!("The slowest, from seed {seed}: its critical path")));
        page::legs(&mut out, look, cluster, &ran.timeline.critical_path());
    }
    if let Some((ran, causes)) = failed {
        let seed = ran.seed.unwrap_or_default();
        let title = format!("The first that failed, from seed {seed}: {}", page::summary(&ran.timeline));
        let _ = writeln!(out, "\n{}", paint(BOLD, &title));
        for cause in causes.all.iter().take(MOST_CAUSES) {
            put(&mut out, look, 2, &cause_line(cause));
        }
    }
    out
}

/// Of the first run that failed.
const MOST_CAUSES: usize = 5;

fn report<'r>(cluster: &'r Cluster, sum: &'r Sum, failed: Option<&'r (&'r Ran, Causes)>) -> Report<'r> {
    let ms = |(median, worst): (Duration, Duration)| Spread {
        median: median.as_millis() as u64,
        worst: worst.as_millis() as u64,
    };
    let [took, after] = sum.spreads().map_or([None, None], |both| both.map(|s| Some(ms(s))));
    Report {
        cluster: &cluster.name,
        runs: sum.runs,
        first_seed: sum.first_seed,
        whole: sum.whole.len(),
        took_ms: took,
        after_power_ms: after,
        slowest: sum.slowest.as_ref().map(|(_, ran)| Slowest {
            seed: ran.seed.unwrap_or_default(),
            critical_path: of_path(cluster, &ran.timeline.critical_path()),
        }),
        failed_seeds: &sum.failed,
        first_failed: failed.map(|(ran, causes)| Failed {
            seed: ran.seed.unwrap_or_default(),
            down: ran.timeline.stayed_down().iter().map(|ix| super::name(cluster, *ix)).collect(),
            root_causes: causes.all.iter().map(cause_line).collect(),
        }),
    }
}
