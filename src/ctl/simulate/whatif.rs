//! The what-ifs as typed → a scenario of the simulator.

use super::figures::Figures;
use super::{Misuse, SimulateArgs};
use crate::ctl::picture::nearest;
use crate::ctl::text::parse_duration;
use crate::model::{Cluster, InstanceIx, NodeIx, Probe, show_duration};
use crate::sim::chance::Chance;
use crate::sim::generate::{self, Faults};
use crate::sim::scenario::{Fault, Scenario, Timed as At, Timing};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// For how long a power cut lasts.
const DARK: Duration = Duration::from_secs(10);
/// By chance, machines get their power within this time.
const SPREAD: Duration = Duration::from_secs(5 * 60);
/// After the last thing that befalls it a cluster has this long to come up, besides what its starts and its bounded
/// waits take.
const PATIENCE: Duration = Duration::from_secs(30 * 60);

/// `redis1=5m`
#[derive(Clone, Debug, PartialEq)]
pub struct Timed {
    pub name: String,
    pub time: Duration,
}

impl fmt::Display for Timed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.name, show_duration(self.time))
    }
}

/// Reads `NAME=TIME`.
pub fn timed(text: &str) -> Result<Timed, String> {
    let Some((name, time)) = text.split_once('=').filter(|(name, _)| !name.is_empty()) else {
        return Err(format!("'{text}' is no NAME=TIME: write redis1=5m"));
    };
    Ok(Timed { name: name.to_owned(), time: parse_duration(time)? })
}

/// Reads `A/B`.
pub fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('/') {
        Some((a, b)) if !a.is_empty() && !b.is_empty() => Ok((a.to_owned(), b.to_owned())),
        _ => Err(format!("'{text}' is no A/B: write web2/redis1")),
    }
}

/// Everything that was asked for, by index.
#[derive(Debug, Default)]
pub struct WhatIf {
    without: BTreeSet<NodeIx>,
    /// Instances each start of which fails.
    broken: BTreeSet<InstanceIx>,
    late: BTreeMap<NodeIx, Duration>,
    pub slow: BTreeMap<InstanceIx, Duration>,
    cuts: Vec<(NodeIx, NodeIx)>,
    power_cut: Option<Duration>,
    /// So many faults by chance.
    faults: usize,
    boot: Duration,
}

impl WhatIf {
    /// Names → indices.
    ///
    /// # Errors
    /// [`Misuse`]: a name that there is not, or two wishes that exclude each other.
    pub fn new(cluster: &Cluster, args: &SimulateArgs) -> Result<WhatIf, Misuse> {
        let names = Names { cluster };
        let mut asked = WhatIf {
            power_cut: args.power_cut,
            faults: args.faults.unwrap_or_default() as usize,
            boot: args.boot,
            ..WhatIf::default()
        };
        if asked.faults > 0 && args.seed.is_none() && args.runs.is_none() {
            return Err(Misuse {
                text: "--faults are drawn by chance, and that needs a seed".into(),
                hint: "add --seed 1 for one boot, or --runs 100 for many".into(),
            });
        }
        for name in &args.without {
            match cluster.instance_named(name) {
                Some(ix) => drop(asked.broken.insert(ix)),
                None => asked.without.extend(names.nodes(name)?),
            }
        }
        for late in &args.late {
            asked.take_late(&names, late)?;
        }
        for slow in &args.slow {
            asked.take_slow(&names, slow)?;
        }
        for (a, b) in &args.cut {
            asked.take_cut(&names, a, b)?;
        }
        if asked.without.len() == cluster.nodes.len() {
            return Err(Misuse {
                text: "without all of its machines there is nothing to simulate".into(),
                hint: "leave one of them in".into(),
            });
        }
        Ok(asked)
    }

    /// A wide name may take in what never comes; one that means nothing else is a slip.
    fn take_late(&mut self, names: &Names, Timed { name, time }: &Timed) -> Result<(), Misuse> {
        let mut nodes = names.nodes(name)?;
        nodes.retain(|node| !self.without.contains(node));
        if nodes.is_empty() {
            return Err(both(name, "--late", "--without"));
        }
        for node in nodes {
            if self.late.insert(node, *time).is_some_and(|other| other != *time) {
                return Err(twice(&names.cluster.node(node).name, "--late"));
            }
        }
        Ok(())
    }

    fn take_slow(&mut self, names: &Names, Timed { name, time }: &Timed) -> Result<(), Misuse> {
        let cluster = names.cluster;
        let mut all = names.instances(name)?;
        all.retain(|ix| !self.broken.contains(ix) && !self.without.contains(&cluster.instance(*ix).node));
        if all.is_empty() {
            return Err(both(name, "--slow", "--without"));
        }
        all.retain(|ix| !matches!(cluster.instance(*ix).unit.ready.local, Probe::Running { .. }));
        if all.is_empty() {
            return Err(Misuse {
                text: format!("{name} counts as ready once it has run for a while: it cannot be slow"),
                hint: "give its unit a probe, or leave it out of --slow".into(),
            });
        }
        for ix in all {
            if self.slow.insert(ix, *time).is_some_and(|other| other != *time) {
                return Err(twice(&cluster.instance(ix).name, "--slow"));
            }
        }
        Ok(())
    }

    fn take_cut(&mut self, names: &Names, a: &str, b: &str) -> Result<(), Misuse> {
        let (from, to) = (names.nodes(a)?, names.nodes(b)?);
        let pairs = from.iter().flat_map(|a| to.iter().map(|b| (*a, *b)));
        let pairs: Vec<(NodeIx, NodeIx)> = pairs.filter(|(a, b)| a != b).collect();
        if pairs.is_empty() {
            return Err(Misuse {
                text: format!("--cut {a}/{b} names one machine, which cannot be cut off from itself"),
                hint: "name two: --cut web2/redis1".into(),
            });
        }
        self.cuts.extend(pairs);
        Ok(())
    }

    /// The scenario: by the book without a seed, else with machines and starts by chance.
    pub fn scenario(&self, cluster: &Arc<Cluster>, figures: &Figures, seed: Option<u64>) -> Scenario {
        let mut chance = seed.map(Chance::new);
        let mut faults: Vec<At> = Vec::new();
        let mut at = |at: Duration, fault: Fault| faults.push(At { at, fault });
        for (a, b) in &self.cuts {
            at(Duration::ZERO, Fault::Cut { from: *a, to: *b });
            at(Duration::ZERO, Fault::Cut { from: *b, to: *a });
        }
        for instance in &self.broken {
            at(Duration::ZERO, Fault::Broken { instance: *instance });
        }
        let nodes = (0..cluster.nodes.len() as u32).map(NodeIx);
        for node in nodes.filter(|n| !self.without.contains(n)) {
            let mut some = || chance.as_mut().map_or(Duration::ZERO, |c| c.time(Duration::ZERO, SPREAD));
            let on = self.late.get(&node).copied().unwrap_or_default() + some();
            match self.power_cut {
                Some(cut) if on < cut => {
                    at(on, Fault::PowerOn { node });
                    at(cut, Fault::PowerCut { node });
                    at(cut + DARK + some(), Fault::PowerOn { node });
                }
                Some(cut) => at(on.max(cut + DARK), Fault::PowerOn { node }),
                None => at(on, Fault::PowerOn { node }),
            }
        }
        if let Some(chance) = &chance {
            let drawn = self.drawn(cluster, &mut chance.branch(FAULTS), &faults);
            faults.extend(drawn);
        }
        faults.sort_by_key(|t| t.at);
        let mut of = BTreeMap::new();
        for ix in cluster.instance_ixs() {
            let usual = figures.of(ix).time;
            // What the operator has said is not left to chance.
            let chance = chance.as_mut().filter(|_| !self.slow.contains_key(&ix));
            of.insert(ix, chance.map_or(usual, |chance| varied(usual, chance)));
        }
        let longest = of.values().max().copied().unwrap_or_default();
        let waits = cluster.services.iter().flat_map(|s| &s.needs).filter_map(|n| n.wait);
        let waits = waits.map(|w| w.at_most).max().unwrap_or_default();
        let last = faults.last().map(|t| t.at).unwrap_or_default();
        Scenario {
            cluster: cluster.clone(),
            seed: seed.unwrap_or_default(),
            timing: Timing { usual: super::figures::ASSUMED, of, boot: self.boot },
            faults,
            at_most: last + self.boot + 2 * longest + waits + PATIENCE,
        }
    }
}

/// Half to twice as long; slower as often as faster.
fn varied(usual: Duration, chance: &mut Chance) -> Duration {
    let thousandths = chance.within(1000, 2000) as u32;
    if chance.percent(50) { usual * thousandths / 1000 } else { usual * 1000 / thousandths }
}

/// The stream of chance that faults are drawn from, so that they change nothing of the machines and the starts.
const FAULTS: u64 = 1;
/// Faults by chance begin and end within this time.
const FAULTY: Duration = Duration::from_secs(10 * 60);

impl WhatIf {
    /// Faults by chance that leave alone what was asked for: a machine that never comes, a cut that does not heal.
    fn drawn(&self, cluster: &Cluster, chance: &mut Chance, asked: &[At]) -> Vec<At> {
        if self.faults == 0 {
            return Vec::new();
        }
        let comes = |node: NodeIx| {
            let on = asked.iter().filter(|t| t.fault == Fault::PowerOn { node });
            on.map(|t| t.at).min()
        };
        let apart = |timed: &At| match timed.fault {
            Fault::PowerOn { node } => comes(node).is_some_and(|at| at < timed.at),
            Fault::Mended { instance } => !self.broken.contains(&instance),
            Fault::Joined { from, to } => !self.cuts.iter().any(|c| *c == (from, to) || *c == (to, from)),
            _ => true,
        };
        let how = Faults { length: FAULTY, many: self.faults, apart: Duration::ZERO };
        let mut drawn = generate::faults(cluster, chance, &how);
        drawn.retain(apart);
        drawn
    }
}

fn both(name: &str, one: &str, other: &str) -> Misuse {
    Misuse {
        text: format!("{name} is under {one} and under {other}"),
        hint: "what never comes is neither late nor slow: leave one of the two out".into(),
    }
}

fn twice(name: &str, option: &str) -> Misuse {
    Misuse { text: format!("{option} gives {name} two times that differ"), hint: "name it once".into() }
}

/// Whoever an operator may mean.
struct Names<'c> {
    cluster: &'c Cluster,
}

impl Names<'_> {
    /// A machine, or all of a group; with or without a leading `@`.
    fn nodes(&self, name: &str) -> Result<Vec<NodeIx>, Misuse> {
        let place = name.strip_prefix('@').unwrap_or(name);
        let found = self.at(place);
        if !found.is_empty() {
            return Ok(found);
        }
        if let Some(ix) = self.cluster.instance_named(name) {
            let node = &self.cluster.node(self.cluster.instance(ix).node).name;
            return Err(Misuse {
                text: format!("'{name}' is an instance, and this is about machines"),
                hint: format!("name the machine: {node}"),
            });
        }
        let nodes = self.cluster.nodes.iter();
        let known = nodes.flat_map(|n| [n.name.as_str(), n.group.as_str()]);
        Err(unknown("no machine and no group", place, nearest(place, known)))
    }

    fn at(&self, place: &str) -> Vec<NodeIx> {
        if let Some(node) = self.cluster.node_named(place) {
            return vec![node];
        }
        let nodes = self.cluster.nodes.iter().enumerate();
        nodes.filter(|(_, n)| n.group == place).map(|(i, _)| NodeIx(i as u32)).collect()
    }

    /// An instance, a service, a machine or a group, in this order; with a leading `@` one of the latter.
    fn instances(&self, name: &str) -> Result<Vec<InstanceIx>, Misuse> {
        let cluster = self.cluster;
        if let Some(ix) = cluster.instance_named(name) {
            return Ok(vec![ix]);
        }
        if let Some(service) = cluster.service_named(name) {
            return Ok(cluster.service(service).instances.clone());
        }
        let nodes = self.at(name.strip_prefix('@').unwrap_or(name));
        let there: Vec<InstanceIx> =
            cluster.instance_ixs().filter(|ix| nodes.contains(&cluster.instance(*ix).node)).collect();
        if !there.is_empty() {
            return Ok(there);
        }
        let instances = cluster.instances.iter().map(|i| &*i.name);
        let services = cluster.services.iter().map(|s| s.name.as_str());
        let places = cluster.nodes.iter().flat_map(|n| [n.name.as_str(), n.group.as_str()]);
        let meant = nearest(name, services.chain(instances).chain(places));
        Err(unknown("no instance, service, machine or group with instances", name, meant))
    }
}

fn unknown(what: &str, name: &str, meant: Option<String>) -> Misuse {
    let hint = match meant {
        Some(meant) => format!("did you mean '{meant}'?"),
        None => "clusterctl plan names them all".into(),
    };
    Misuse { text: format!("{what} is called '{name}'"), hint }
}
