//! How long each start takes, and where that figure comes from.

use super::{Misuse, name, recorded, shown};
use crate::model::{Cluster, InstanceIx, Probe, ServiceIx};
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::time::Duration;

/// For what tells nothing of itself. A round figure, and marked as one wherever it is used.
pub const ASSUMED: Duration = Duration::from_secs(5);

/// The start-up time of each instance.
#[derive(Debug)]
pub struct Figures(Vec<Figure>);

/// A start-up time and its source.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Figure {
    pub time: Duration,
    pub from: Source,
}

/// Where a figure comes from. The first that there is counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// `--slow`.
    Asked,
    /// Its probe only wants it to have run for so long.
    Probe,
    /// The median of so many recorded starts of its service.
    Recorded(usize),
    /// `ready.usually` of its unit.
    Unit,
    /// [`ASSUMED`].
    Assumed,
}

impl Source {
    /// The word of the JSON.
    pub fn word(self) -> &'static str {
        match self {
            Source::Asked => "slow",
            Source::Probe => "probe",
            Source::Recorded(_) => "recorded",
            Source::Unit => "unit",
            Source::Assumed => "assumed",
        }
    }

    fn words(self) -> String {
        match self {
            Source::Asked => "by --slow".into(),
            Source::Probe => "by its probe".into(),
            Source::Recorded(1) => "one recorded start".into(),
            Source::Recorded(n) => format!("median of {n} recorded starts"),
            Source::Unit => "by its unit".into(),
            Source::Assumed => "assumed".into(),
        }
    }
}

impl Figures {
    /// Reads what was recorded, and takes the rest from the units.
    ///
    /// # Errors
    /// A path that cannot be read, or that holds no start of this cluster's services.
    pub fn new(
        cluster: &Cluster,
        recorded: &[PathBuf],
        slow: &BTreeMap<InstanceIx, Duration>,
    ) -> anyhow::Result<Figures> {
        let mut starts: HashMap<ServiceIx, Vec<u64>> = HashMap::new();
        for path in recorded {
            let mut any = false;
            for (service, ms) in recorded::starts(path)? {
                if let Some(service) = cluster.service_named(&service) {
                    starts.entry(service).or_default().push(ms);
                    any = true;
                }
            }
            if !any {
                return Err(Misuse {
                    text: format!("{} holds no start of this cluster's services", path.display()),
                    hint: "name an agent's state folder (/var/lib/clusterd) or its events.jsonl".into(),
                }
                .into());
            }
        }
        let medians: HashMap<ServiceIx, (Duration, usize)> =
            starts.into_iter().map(|(service, all)| (service, (median(&all), all.len()))).collect();
        let figure = |ix: InstanceIx| {
            let instance = cluster.instance(ix);
            let ready = &instance.unit.ready;
            if let Some(time) = slow.get(&ix) {
                Figure { time: *time, from: Source::Asked }
            } else if let Probe::Running { for_ } = ready.local {
                Figure { time: for_, from: Source::Probe }
            } else if let Some((time, n)) = medians.get(&instance.service) {
                Figure { time: *time, from: Source::Recorded(*n) }
            } else if let Some(time) = ready.usually {
                Figure { time, from: Source::Unit }
            } else {
                Figure { time: ASSUMED, from: Source::Assumed }
            }
        };
        Ok(Figures(cluster.instance_ixs().map(figure).collect()))
    }

    pub fn of(&self, ix: InstanceIx) -> Figure {
        self.0[ix.0 as usize]
    }

    /// `mysql 1.0s, redis 100ms (by its unit)`: a text for each source.
    pub fn told(&self, cluster: &Cluster) -> Vec<String> {
        let mut of: BTreeMap<Source, Vec<String>> = BTreeMap::new();
        let own = |ix: &ServiceIx| !cluster.is_external(*ix);
        for service in (0..cluster.services.len() as u32).map(ServiceIx).filter(own) {
            let service = cluster.service(service);
            let mut figures: Vec<(Figure, Vec<InstanceIx>)> = Vec::new();
            for ix in &service.instances {
                match figures.iter_mut().find(|(f, _)| *f == self.of(*ix)) {
                    Some((_, all)) => all.push(*ix),
                    None => figures.push((self.of(*ix), vec![*ix])),
                }
            }
            let whole = figures.len() == 1;
            for (figure, all) in figures {
                let who = match all.as_slice() {
                    [ix] if !whole => name(cluster, *ix).to_owned(),
                    many if !whole => format!("{} of {}", many.len(), service.name),
                    _ => service.name.clone(),
                };
                of.entry(figure.from).or_default().push(format!("{who} {}", shown(figure.time)));
            }
        }
        of.into_iter().map(|(from, all)| format!("{} ({})", all.join(", "), from.words())).collect()
    }
}

/// The middle one; of two the mean.
fn median(all: &[u64]) -> Duration {
    let mut sorted = all.to_vec();
    sorted.sort_unstable();
    let (low, high) = (sorted[(sorted.len() - 1) / 2], sorted[sorted.len() / 2]);
    Duration::from_millis(low.midpoint(high))
}
