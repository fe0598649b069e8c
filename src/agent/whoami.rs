//! Which node of the file is this machine?
//!
//! In this order: `--node`, `/etc/clusterd/node`, the exact hostname, the one address of the file that is on an
//! interface. Two of the last three that name different nodes are refused: a machine that takes itself for another
//! starts the wrong services.

use crate::model::{Cluster, NodeIx};
use std::net::IpAddr;
use std::path::Path;

/// Why this machine does not know which node it is.
#[derive(Debug, thiserror::Error)]
pub enum Unknown {
    #[error(
        "cannot tell which node this is: {said} says {name}, and cluster.toml has no such node (it has {known})"
    )]
    NoSuchNode { said: String, name: String, known: String },
    #[error("cannot tell which node this is: {0}; say which with --node or in /etc/clusterd/node")]
    Disagree(String),
    #[error(
        "cannot tell which node this is: no /etc/clusterd/node, hostname {hostname} is not in cluster.toml, and none \
         of its addresses is on an interface here; say which with --node or in /etc/clusterd/node"
    )]
    NoClue { hostname: String },
}

/// What the machine says of itself.
#[derive(Clone, Debug, Default)]
pub struct Clues {
    pub flag: Option<String>,
    /// The content of `/etc/clusterd/node`.
    pub file: Option<String>,
    pub hostname: String,
    /// The addresses on interfaces other than `lo`.
    pub addresses: Vec<IpAddr>,
}

impl Clues {
    /// Asks this machine.
    pub fn gather(flag: Option<String>) -> Clues {
        let file = std::fs::read_to_string(Path::new("/etc/clusterd/node")).ok();
        let interfaces = nix::ifaddrs::getifaddrs().into_iter().flatten();
        let addresses = interfaces
            .filter(|i| !i.flags.contains(nix::net::if_::InterfaceFlags::IFF_LOOPBACK))
            .filter_map(|i| {
                let address = i.address?;
                let v4 = address.as_sockaddr_in().map(|a| IpAddr::V4(a.ip()));
                v4.or_else(|| address.as_sockaddr_in6().map(|a| IpAddr::V6(a.ip())))
            })
            .collect();
        Clues {
            flag,
            file: file.map(|text| text.trim().to_owned()).filter(|name| !name.is_empty()),
            hostname: nix::unistd::gethostname()
                .map(|h| h.to_string_lossy().into_owned())
                .unwrap_or_default(),
            addresses,
        }
    }
}

/// The node that the clues name.
///
/// # Errors
/// When they name none, one that the file does not have, or several.
pub fn decide(cluster: &Cluster, clues: &Clues) -> Result<NodeIx, Unknown> {
    let named = |said: &str, name: &str| {
        cluster.node_named(name).ok_or_else(|| {
            let known: Vec<_> = cluster.nodes.iter().map(|n| n.name.as_str()).collect();
            Unknown::NoSuchNode { said: said.to_owned(), name: name.to_owned(), known: known.join(", ") }
        })
    };
    let by_file = clues.file.as_deref().map(|name| named("/etc/clusterd/node", name)).transpose()?;
    if let Some(flag) = &clues.flag {
        let node = named("--node", flag)?;
        return match by_file {
            Some(other) if other != node => {
                Err(disagree(cluster, &[("--node", node), ("/etc/clusterd/node", other)]))
            }
            _ => Ok(node),
        };
    }
    let mut says: Vec<(&str, NodeIx)> = Vec::new();
    says.extend(by_file.map(|node| ("/etc/clusterd/node", node)));
    says.extend(cluster.node_named(&clues.hostname).map(|node| ("the hostname", node)));
    for (ix, node) in cluster.nodes.iter().enumerate() {
        if clues.addresses.contains(&node.address) {
            says.push(("an interface's address", NodeIx(ix as u32)));
        }
    }
    match says.first() {
        None => Err(Unknown::NoClue { hostname: clues.hostname.clone() }),
        Some((_, node)) if says.iter().all(|(_, other)| other == node) => Ok(*node),
        Some(_) => Err(disagree(cluster, &says)),
    }
}

fn disagree(cluster: &Cluster, says: &[(&str, NodeIx)]) -> Unknown {
    let all: Vec<_> =
        says.iter().map(|(who, node)| format!("{who} says {}", cluster.node(*node).name)).collect();
    Unknown::Disagree(all.join(", "))
}
