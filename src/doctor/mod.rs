//! What is wrong with a machine, before it is noticed by what does not start: looked for by an agent on its own node.
//!
//! Only looks; each file here has one kind of trouble. What shows only between machines (clocks, names, firewalls,
//! differing files) is found by whoever has asked several of them: `clusterctl doctor`.

mod boot;
mod clock;
mod disk;
mod ports;
mod programs;
mod running;
mod units;

pub use running::{Running, running};

use crate::model::{Cluster, NodeIx};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// What kind of trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum About {
    /// Two machines have one name.
    Name,
    /// Nodes act by different files.
    Config,
    Clock,
    Disk,
    /// A program that a unit runs is not there.
    Program,
    /// systemd does not take a unit file.
    UnitFile,
    /// Somebody else has an instance's port.
    Port,
    /// systemd starts at boot what the agent is to start.
    Boot,
    /// An agent is not reached.
    Reach,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnosis {
    pub about: About,
    /// Where.
    pub node: String,
    /// What is wrong, as a sentence.
    pub what: String,
    /// Why that matters.
    pub why: String,
    /// What to type, and where that is not obvious, on which machine.
    pub fix: String,
    /// The systemd unit that is to be disabled ([`About::Boot`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disable: Option<String>,
}

/// Where to look.
#[derive(Clone, Debug)]
pub struct Patient<'a> {
    pub cluster: &'a Cluster,
    pub node: NodeIx,
    /// Below which the machine's files are: `/`, but for tests.
    pub root: PathBuf,
    /// Folders that must have room: the agent's state, and what is in memory.
    pub folders: Vec<PathBuf>,
    /// Instances that have a process, which rightly has their ports.
    pub running: Vec<String>,
}

impl Patient<'_> {
    fn name(&self) -> &str {
        &self.cluster.node(self.node).name
    }

    fn under(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    fn found(&self, about: About, what: String, why: &str, fix: String) -> Diagnosis {
        let node = self.name().to_owned();
        Diagnosis { about, node, what, why: why.to_owned(), fix, disable: None }
    }
}

/// All that is wrong on this machine. Takes some ten milliseconds, or seconds where systemd is asked.
pub fn examine(patient: &Patient) -> Vec<Diagnosis> {
    let mut found = disk::examine(patient);
    found.extend(clock::examine(patient));
    found.extend(programs::examine(patient));
    found.extend(ports::examine(patient));
    found.extend(units::examine(patient));
    found.extend(boot::examine(patient));
    found
}

/// The last part of a path.
fn base(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Source, Sources, parse};

    /// A web server on n1, by a unit like nginx's.
    pub fn cluster() -> Cluster {
        cluster_with(
            "[run]\ncommand = [\"/usr/sbin/nginx\"]\nuser = \"nobody-at-all\"\n\
             [ready]\nprobe = { kind = \"tcp\", port = 80 }\n",
        )
    }

    /// As [`cluster`], by another unit.
    pub fn cluster_with(unit: &str) -> Cluster {
        let source = |text: &str| Source { path: "file".into(), text: text.into() };
        let sources = Sources {
            cluster: source(
                "[cluster]\nname = \"t\"\n[nodes]\nall = { n1 = \"10.0.0.1\" }\n[services]\nweb = { on = \"n1\" }\n",
            ),
            folder: "units".into(),
            units: [("web".to_owned(), source(unit))].into(),
            unread: Default::default(),
        };
        parse(&sources).unwrap_or_else(|e| panic!("{e}"))
    }

    pub fn patient<'a>(cluster: &'a Cluster, root: &Path) -> Patient<'a> {
        let node = NodeIx(0);
        Patient { cluster, node, root: root.to_owned(), folders: vec![], running: vec![] }
    }
}
