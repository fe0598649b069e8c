//! `simulate`: the predicted boot, from the cluster file alone, by the very engine that the agents run.
//!
//! One run is told as a timeline with its critical path, what came up, and why the rest did not ([`page`],
//! [`report`], [`svg`]). Many runs, each from a seed of its own, are told by their sum ([`many`]).

mod bars;
mod causes;
mod figures;
mod many;
mod page;
mod recorded;
mod report;
mod svg;
mod whatif;

use super::text::{Look, parse_duration};
use super::{Exit, Global, Misuse, hint};
use crate::engine::view::InstanceView;
use crate::model::{Cluster, InstanceIx, NodeIx, show_duration};
use crate::sim::scenario::Scenario;
use crate::sim::{self, Timeline};
use anyhow::Context;
use causes::Causes;
use figures::Figures;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use whatif::{Timed, WhatIf};

// `clusterctl simulate`
#[derive(Debug, Default, PartialEq, clap::Args)]
#[command(after_long_help = report::HELP)]
pub struct SimulateArgs {
    /// This machine (or group of machines) never comes, or this instance cannot be started
    #[arg(long, value_name = "NAME", help_heading = WHAT_IF)]
    pub without: Vec<String>,
    /// This machine or group gets power so much later: redis1=5m
    #[arg(long, value_name = "NAME=TIME", value_parser = whatif::timed, help_heading = WHAT_IF)]
    pub late: Vec<Timed>,
    /// This instance, service, machine or group takes so long to start: mysql=3m
    #[arg(long, value_name = "NAME=TIME", value_parser = whatif::timed, help_heading = WHAT_IF)]
    pub slow: Vec<Timed>,
    /// No packet gets from one machine or group to the other: web2/redis1
    #[arg(long, value_name = "A/B", value_parser = whatif::pair, help_heading = WHAT_IF)]
    pub cut: Vec<(String, String)>,
    /// After so long the power fails everywhere, for 10 seconds
    #[arg(long, value_name = "TIME", value_parser = parse_duration, help_heading = WHAT_IF)]
    pub power_cut: Option<Duration>,

    /// Take start-up times from these recorded boots: an agent's state folder or its events.jsonl
    #[arg(long, value_name = "PATH")]
    pub recorded: Vec<PathBuf>,
    /// How long a machine takes from its power to its agent
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "20s")]
    pub boot: Duration,
    /// Leave to chance, from this seed, which machine comes when (within 5 minutes) and how long each start takes
    /// (half to twice the usual)
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// So many boots by chance, from as many seeds on (1, or --seed), and their sum
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=MOST_RUNS))]
    pub runs: Option<u32>,
    /// So many faults by chance befall it in ten minutes, each of which ends: power cuts, crashes, hangs, cuts
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=MOST_FAULTS), help_heading = WHAT_IF)]
    pub faults: Option<u32>,
    /// Draw the timeline into this file, too
    #[arg(long, value_name = "FILE", conflicts_with = "runs")]
    pub svg: Option<PathBuf>,
}

/// What `--boot` is unless said.
const BOOT: Duration = Duration::from_secs(20);
const WHAT_IF: &str = "What if";
/// More runs than this tell nothing that these do not.
const MOST_RUNS: i64 = 100_000;
/// One a second or so: more leave nothing up in between.
const MOST_FAULTS: i64 = 1000;

/// One run that is over.
struct Ran {
    /// What chance followed from, where anything was left to it.
    seed: Option<u64>,
    scenario: Scenario,
    timeline: Timeline,
    /// Each instance in the end, as its own agent saw it; `None` where none ran.
    views: Vec<Option<InstanceView>>,
}

impl SimulateArgs {
    /// The verb for the same cluster file.
    fn command(global: &Global) -> String {
        let config = global.config.iter().map(|path| format!(" --config {}", path.display()));
        ["clusterctl simulate".to_owned()].into_iter().chain(config).collect()
    }

    /// The command that shows one boot of many.
    fn with_seed(&self, seed: u64, global: &Global) -> String {
        let mut line = SimulateArgs::command(global);
        let mut add = |option: &str, value: String| line.push_str(&format!(" --{option} {value}"));
        self.without.iter().for_each(|name| add("without", name.clone()));
        self.late.iter().for_each(|late| add("late", late.to_string()));
        self.slow.iter().for_each(|slow| add("slow", slow.to_string()));
        self.cut.iter().for_each(|(a, b)| add("cut", format!("{a}/{b}")));
        self.power_cut.iter().for_each(|time| add("power-cut", show_duration(*time)));
        self.faults.iter().for_each(|n| add("faults", n.to_string()));
        self.recorded.iter().for_each(|path| add("recorded", path.display().to_string()));
        if self.boot != BOOT {
            add("boot", show_duration(self.boot));
        }
        add("seed", seed.to_string());
        line
    }
}

pub fn run(args: &SimulateArgs, global: &Global) -> anyhow::Result<Exit> {
    let cluster = Arc::new(super::load(global)?);
    let what_if = WhatIf::new(&cluster, args)?;
    let figures = Figures::new(&cluster, &args.recorded, &what_if.slow)?;
    match args.runs {
        Some(runs) => many::run(&cluster, &what_if, &figures, args, runs, global),
        None => one(&cluster, &what_if, &figures, args, global),
    }
}

fn one(
    cluster: &Arc<Cluster>,
    what_if: &WhatIf,
    figures: &Figures,
    args: &SimulateArgs,
    global: &Global,
) -> anyhow::Result<Exit> {
    let ran = simulate(what_if.scenario(cluster, figures, args.seed), args.seed)?;
    let causes = Causes::new(&ran);
    if let Some(path) = &args.svg {
        let drawing = svg::draw(&ran.timeline);
        std::fs::write(path, drawing).with_context(|| format!("cannot write {}", path.display()))?;
    }
    if global.json {
        super::print_json(&report::report(&ran, figures, &causes))?;
    } else {
        super::print(&page::page(&ran, figures, &causes, &Look::here(), bars::Signs::here()))?;
        if let Some(path) = &args.svg {
            hint(&format!("the drawing is in {}", path.display()));
        } else if let Some(text) = page::next(&ran.timeline, args, global) {
            hint(&text);
        }
    }
    Ok(if ran.timeline.stayed_down().is_empty() { Exit::Done } else { Exit::Incomplete })
}

/// Runs one scenario to its end.
fn simulate(scenario: Scenario, seed: Option<u64>) -> anyhow::Result<Ran> {
    let mut timeline = Timeline::new(&scenario);
    let ended = sim::run(&scenario, &mut [&mut timeline]).context("the simulation broke a promise")?;
    let views = ended.instances.into_iter().map(|i| i.view).collect();
    Ok(Ran { seed, scenario, timeline, views })
}

fn name(cluster: &Cluster, ix: InstanceIx) -> &str {
    &cluster.instance(ix).name
}

fn node_name(cluster: &Cluster, ix: NodeIx) -> &str {
    &cluster.node(ix).name
}

/// A time or duration as it is shown: `340ms`, `21.3s`, `3m 05s`.
fn shown(time: Duration) -> String {
    let ms = time.as_millis() as u64;
    match ms {
        0 => "0s".into(),
        1..1000 => format!("{ms}ms"),
        1000..60_000 => format!("{}.{}s", ms / 1000, ms % 1000 / 100),
        _ => super::text::short(ms),
    }
}

#[cfg(test)]
mod tests;
