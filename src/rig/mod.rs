//! A rig: the whole sample cluster laid out in one folder, for one machine.
//!
//! [`Rig::lay_out`] takes the shipped `cluster.toml`, puts other addresses into it, and writes beside it the units
//! and each node's own daemon configuration and data: real daemons where they are installed, the built-in stand-ins
//! where they are not. Nothing is started here; the agents do that. `clusterctl demo` uses it on loopback addresses,
//! the lab under `tests/` on hosts of its own.
//!
//! ```text
//! DIR/cluster.toml  DIR/units/UNIT.toml     what the agents read
//! DIR/secrets/                              passwords, each a file that only its reader may open
//! DIR/NODE/SERVICE/                         one instance: configuration, data, pid file, socket
//! ```
//!
//! Knows nothing of the layers above: it writes text that [`crate::model`] reads.

mod activemq;
mod files;
mod keepalived;
mod mysql;
mod nginx;
mod redis;
mod sample;
mod standin;

use files::Owner;
use sample::Sample;
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

pub use keepalived::VrrpPair;

/// The file of the fourteen nodes, as it is shipped.
pub const SAMPLE: &str = include_str!("../../cluster.toml");

/// Where the nodes are.
#[derive(Clone, Debug)]
pub enum Addressing {
    /// All on this machine: `127.a.b.N`, where N is the last part of the sample's address. Needs no set-up.
    Loopback { net: [u8; 2] },
    /// Every node of the sample by name.
    Given(BTreeMap<String, IpAddr>),
}

/// What may differ between rigs.
#[derive(Clone, Debug)]
pub struct Options {
    /// The program whose verb `stand-in` stands in for daemons that are not installed.
    pub clusterctl: PathBuf,
    /// Run the daemons as the users that Debian made for them. Needs root, and a folder that they may enter.
    pub as_users: bool,
    /// The agents' TCP port; `None` leaves the default.
    pub agent_port: Option<u16>,
    /// Where the web servers listen. Ports below 1024 need root.
    pub http_port: u16,
    /// The virtual address of the directors, with its prefix; `None` leaves the sample's.
    pub vip: Option<String>,
    /// Where real directors hold the virtual address.
    pub directors: Directors,
    /// One more Redis, as a service of its own beside the sample's.
    pub second_redis: Option<SecondRedis>,
}

/// Where keepalived runs. It refuses to run VRRP on `lo`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Directors {
    /// Each node has this network interface of its own.
    Interface(String),
    /// In two network namespaces that the rig makes and joins by a cable (needs root; a stand-in otherwise).
    OwnNamespaces,
}

/// A further Redis service on one node.
#[derive(Clone, Debug)]
pub struct SecondRedis {
    pub service: String,
    pub node: String,
    pub port: u16,
}

/// A service of the rig, and what serves in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Daemon {
    pub service: String,
    pub unit: String,
    pub nature: Nature,
}

/// Whether the daemon itself runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Nature {
    /// The program's path.
    Real(PathBuf),
    /// Why not the daemon itself, for a person, with what to install where that helps.
    StandIn(String),
}

impl Daemon {
    /// Whether the daemon itself runs, and not a stand-in.
    pub fn is_real(&self) -> bool {
        matches!(self.nature, Nature::Real(_))
    }
}

/// A cluster that is laid out. The folder stays when this is dropped; network namespaces that were made for it go.
#[derive(Debug)]
pub struct Rig {
    pub dir: PathBuf,
    /// `DIR/cluster.toml`; its units are in `DIR/units`.
    pub cluster_file: PathBuf,
    /// In the order of the file.
    pub nodes: Vec<(String, IpAddr)>,
    /// In the order of the file.
    pub daemons: Vec<Daemon>,
    /// Held for its drop.
    _pair: Option<VrrpPair>,
}

/// Why a rig could not be laid out.
#[derive(Debug, thiserror::Error)]
pub enum RigError {
    #[error("cannot {what} {path}: {source}")]
    File { what: &'static str, path: PathBuf, source: io::Error },
    #[error("cannot run {program}: {source}")]
    Run { program: PathBuf, source: io::Error },
    #[error("{program} failed ({status}): {said}")]
    Failed { program: PathBuf, status: std::process::ExitStatus, said: String },
    #[error("the sample cluster.toml: {0}")]
    Sample(String),
    #[error("no address is given for node {0}")]
    NoAddress(String),
    #[error("there is no user {0}: is its package installed?")]
    NoUser(&'static str),
}

/// What the daemons' own files need to know: the folder, the options, and who is where.
struct Site<'a> {
    dir: &'a Path,
    options: &'a Options,
    nodes: Vec<(String, IpAddr)>,
    sample: Sample,
}

/// One service that is being laid out.
struct Placed<'a> {
    service: &'a str,
    /// Node names and addresses, in the order of the file.
    nodes: Vec<(&'a str, IpAddr)>,
}

/// What laying out one service came to: the text of its unit, and what serves.
struct Laid {
    unit: String,
    nature: Nature,
}

impl Rig {
    /// Writes the whole cluster under `dir` (made if absent; what an earlier rig wrote there is overwritten, data
    /// folders of databases included).
    pub fn lay_out(dir: &Path, addressing: &Addressing, options: &Options) -> Result<Rig, RigError> {
        let sample = Sample::read(SAMPLE)?;
        let nodes = addresses(&sample, addressing)?;
        files::make_folder(dir, &Owner::Me)?;
        let dir = dir.canonicalize().map_err(|source| RigError::File {
            what: "resolve",
            path: dir.to_owned(),
            source,
        })?;
        let site = Site { dir: &dir, options, nodes, sample };

        let units = dir.join("units");
        files::make_folder(&units, &Owner::Me)?;
        let (mut daemons, mut pair) = (Vec::new(), None);
        for service in &site.sample.services {
            let placed = site.placed(&service.name);
            let laid = match service.unit.as_str() {
                "mysql" => mysql::lay_out(&site, &placed)?,
                "redis" => redis::lay_out(&site, &placed)?,
                "activemq" => activemq::lay_out(&site, &placed)?,
                "nginx" => nginx::lay_out(&site, &placed)?,
                "keepalived" => {
                    let (laid, made) = keepalived::lay_out(&site, &placed)?;
                    pair = made;
                    laid
                }
                "fdfs-tracker" => standin::fastdfs(&site, "fastdfs-tracker", standin::TRACKER_PORT),
                "fdfs-storage" => standin::storage(&site),
                "office" => standin::office(&site),
                other => return Err(RigError::Sample(format!("unit {other} has no set-up in the rig"))),
            };
            files::write(&units.join(format!("{}.toml", service.unit)), &laid.unit, &Owner::Me, 0o644)?;
            daemons.push(Daemon {
                service: service.name.clone(),
                unit: service.unit.clone(),
                nature: laid.nature,
            });
        }
        if let Some(more) = &options.second_redis {
            let nature = redis::lay_out_second(&site, more)?;
            daemons.push(Daemon { service: more.service.clone(), unit: "redis".to_owned(), nature });
        }

        let cluster_file = dir.join("cluster.toml");
        files::write(&cluster_file, &site.sample.rewritten(&site.nodes, options), &Owner::Me, 0o644)?;
        Ok(Rig { cluster_file, nodes: site.nodes, daemons, _pair: pair, dir })
    }

    /// The folder of one instance.
    pub fn instance_dir(&self, service: &str, node: &str) -> PathBuf {
        self.dir.join(node).join(service)
    }

    /// The address of a node.
    pub fn address(&self, node: &str) -> Option<IpAddr> {
        self.nodes.iter().find(|(name, _)| name == node).map(|(_, address)| *address)
    }
}

/// The address of each node of the sample, in its order.
fn addresses(sample: &Sample, addressing: &Addressing) -> Result<Vec<(String, IpAddr)>, RigError> {
    let pick = |name: &str, shipped: IpAddr| match (addressing, shipped) {
        (Addressing::Loopback { net: [a, b] }, IpAddr::V4(v4)) => {
            Ok(IpAddr::V4(Ipv4Addr::new(127, *a, *b, v4.octets()[3])))
        }
        (Addressing::Loopback { .. }, IpAddr::V6(_)) => {
            Err(RigError::Sample(format!("node {name} has an IPv6 address; only IPv4 maps to loopback")))
        }
        (Addressing::Given(given), _) => {
            given.get(name).copied().ok_or_else(|| RigError::NoAddress(name.to_owned()))
        }
    };
    sample.nodes.iter().map(|node| Ok((node.name.clone(), pick(&node.name, node.address)?))).collect()
}

impl Site<'_> {
    fn address(&self, node: &str) -> Result<IpAddr, RigError> {
        let found = self.nodes.iter().find(|(name, _)| name == node).map(|(_, address)| *address);
        found.ok_or_else(|| RigError::NoAddress(node.to_owned()))
    }

    /// The nodes of a service of the sample.
    fn placed<'a>(&'a self, service: &'a str) -> Placed<'a> {
        let on = self.sample.service(service).map_or(&[][..], |s| &s.on);
        let here = |name: &&'a String| self.nodes.iter().find(|(n, _)| n == *name);
        let nodes =
            on.iter().filter_map(|n| here(&n)).map(|(name, address)| (name.as_str(), *address)).collect();
        Placed { service, nodes }
    }

    /// The services of the sample that run this unit, in its order.
    fn running<'a>(&'a self, unit: &'a str) -> impl Iterator<Item = Placed<'a>> + 'a {
        self.sample.services.iter().filter(move |s| s.unit == unit).map(|s| self.placed(&s.name))
    }

    /// The folder of one instance.
    fn instance_dir(&self, service: &str, node: &str) -> PathBuf {
        self.dir.join(node).join(service)
    }

    /// The folder of an instance, as a unit says it: with placeholders to be filled in.
    fn unit_dir(&self) -> String {
        format!("{}/{{node}}/{{service}}", literal(self.dir))
    }

    /// The owner of a daemon's files: its own user, or whoever runs this.
    fn owner(&self, user: &'static str) -> Result<Owner, RigError> {
        if self.options.as_users { Owner::named(user) } else { Ok(Owner::Me) }
    }

    /// The line of a unit that names the daemon's user, where it has one of its own.
    fn user_line(&self, user: &str) -> String {
        if self.options.as_users { format!("user = \"{user}\"\n") } else { String::new() }
    }
}

/// A path as a unit says it: what looks like a placeholder is none.
fn literal(path: &Path) -> String {
    path.to_string_lossy().replace('{', "{{").replace('}', "}}")
}

/// A word or path as TOML.
fn quoted(text: impl AsRef<str>) -> String {
    toml::Value::from(text.as_ref()).to_string()
}

/// A command as TOML.
fn command<S: AsRef<str>>(words: impl IntoIterator<Item = S>) -> String {
    let words: Vec<String> = words.into_iter().map(|w| quoted(w)).collect();
    format!("[{}]", words.join(", "))
}

/// The first of the needed files that is absent, as a reason for a stand-in.
fn missing(needed: &[&str], package: &str) -> Option<String> {
    let absent = needed.iter().find(|path| !Path::new(path).exists())?;
    let name = Path::new(absent).file_name().unwrap_or_default().to_string_lossy();
    Some(format!("{name} is not installed: apt-get install {package}"))
}
