//! Rendering: a cluster → the texts that make its directors and real servers. Pure; nothing is touched here.
//!
//! What the file does not say and a machine must tell (the name of an interface, the MAC of another director) comes
//! in as [`Known`]. What is still unknown leaves a comment in the text and a line in [`Rendered::problems`]. An
//! incomplete file is not applied; marks are, without the MAC of a director of whom nobody has heard yet.

mod check;
mod keepalived;
mod marks;
mod real;

pub use keepalived::ADVERT;
pub use marks::{CHAIN, Rules, TABLE};
pub use real::{RealServer, needed as render_real_server};

use crate::model::{Cluster, NodeIx, Unit, Vip};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// Where keepalived reads its configuration unless its unit says another file.
const DEFAULT_FILE: &str = "/etc/keepalived/keepalived.conf";

/// What machines tell and the file does not.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// The interface with a node's own address.
    pub interfaces: BTreeMap<NodeIx, String>,
    /// The MACs from which a node's packets may come.
    pub macs: BTreeMap<NodeIx, Vec<Mac>>,
}

/// An Ethernet address; written `52:54:00:09:03:01`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Mac(pub [u8; 6]);

/// Everything for one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rendered {
    pub node: String,
    /// Files of a director; none where the node is not one.
    pub files: Vec<File>,
    /// The marks of `fwmark` addresses on a director.
    pub marks: Option<Rules>,
    /// What a real server behind direct routing needs.
    pub real_server: Option<RealServer>,
    /// Why this may not be applied as it is.
    pub problems: Vec<String>,
}

/// One file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct File {
    pub path: PathBuf,
    /// Permissions. Nothing in it is a secret; it is not for everybody all the same.
    pub mode: u32,
    pub text: String,
    /// A line is missing, as one of the problems says.
    #[serde(skip)]
    pub is_incomplete: bool,
}

/// Everything for `node`.
pub fn render(cluster: &Cluster, node: NodeIx, known: &Known) -> Rendered {
    let mut problems = Vec::new();
    let vips: Vec<&Vip> = cluster.vips_of(node).collect();
    let mut files = Vec::new();
    if !vips.is_empty() {
        let text = keepalived::text(cluster, node, &vips, known, &mut problems);
        let is_incomplete = !problems.is_empty();
        files.push(File { path: file_of(cluster, node), mode: 0o640, text, is_incomplete });
    }
    Rendered {
        node: cluster.node(node).name.clone(),
        files,
        marks: marks::rules(cluster, node, &vips, known, &mut problems),
        real_server: real::real_server(cluster, node),
        problems,
    }
}

impl Rendered {
    /// Whether the node is neither a director nor a real server behind direct routing.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty() && self.marks.is_none() && self.real_server.is_none()
    }
}

/// The unit of what holds addresses on a node.
fn holder(cluster: &Cluster, node: NodeIx) -> Option<&Unit> {
    let units = cluster.node(node).instances.iter().map(|i| &*cluster.instance(*i).unit);
    units.into_iter().find(|unit| unit.leftovers.vips)
}

/// The file that keepalived on a node reads: what its command says with `--use-file` or `-f`.
pub fn file_of(cluster: &Cluster, node: NodeIx) -> PathBuf {
    let command = holder(cluster, node).map_or(&[][..], |unit| &unit.run.command);
    let named = command.iter().enumerate().find_map(|(at, word)| match word.strip_prefix("--use-file=") {
        Some(path) => Some(path),
        None if word == "--use-file" || word == "-f" => command.get(at + 1).map(String::as_str),
        None => None,
    });
    PathBuf::from(named.unwrap_or(DEFAULT_FILE))
}

/// The interface that gets `vip` on `node`.
fn interface<'a>(vip: &'a Vip, node: NodeIx, known: &'a Known) -> Option<&'a str> {
    vip.interfaces.get(&node).or_else(|| known.interfaces.get(&node)).map(String::as_str)
}

impl FromStr for Mac {
    type Err = &'static str;

    /// `52:54:00:09:03:01`
    fn from_str(text: &str) -> Result<Mac, Self::Err> {
        const WRONG: &str = "a MAC is six bytes in hex: 52:54:00:09:03:01";
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next().filter(|p| p.len() == 2).ok_or(WRONG)?;
            // `from_str_radix` alone would take a sign.
            *byte = u8::from_str_radix(part, 16).map_err(|_| WRONG)?;
            part.bytes().all(|b| b.is_ascii_hexdigit()).then_some(()).ok_or(WRONG)?;
        }
        parts.next().is_none().then_some(Mac(bytes)).ok_or(WRONG)
    }
}

impl From<Mac> for String {
    fn from(mac: Mac) -> String {
        mac.to_string()
    }
}

impl TryFrom<String> for Mac {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Mac, Self::Error> {
        text.parse()
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn macs_read_and_show() {
        let mac: Mac = "52:54:00:0A:ff:01".parse().unwrap();
        assert_eq!(mac.to_string(), "52:54:00:0a:ff:01");
        for bad in
            ["", "52:54:00:0a:ff", "52:54:00:0a:ff:01:02", "5254000aff01", "+2:54:00:0a:ff:01", "é:0:0:0:0:0"]
        {
            assert!(bad.parse::<Mac>().is_err(), "{bad}");
        }
    }
}
