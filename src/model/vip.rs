//! A virtual address: one of a few nodes, its directors, holds it, and passes what comes in on to a service.

use super::{Cluster, Count, NodeIx, ServiceIx};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

/// The most directors of one address: the priorities, ten apart, stay well above zero.
pub const MAX_DIRECTORS: usize = 10;
/// Priority of the preferred director. 255 is kept for an address that its holder owns (RFC 9568, 5.2.4).
const HIGHEST_PRIORITY: u8 = 150;

/// `[vips.NAME]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vip {
    pub name: String,
    pub address: IpAddr,
    /// Length of the network's prefix in bits.
    pub prefix: u8,
    /// Its directors, the preferred one first; 1 to [`MAX_DIRECTORS`].
    pub on: Vec<NodeIx>,
    /// The interface that gets it, where the file says one; else the one with the node's own address.
    pub interfaces: BTreeMap<NodeIx, String>,
    /// Virtual router id, 1 to 255: the last byte of the address unless said.
    pub vrid: u8,
    /// The service behind it.
    pub to: ServiceIx,
    /// The TCP ports that clients use; at least one.
    pub ports: Vec<u16>,
    /// The real servers' port, where it is another (NAT with one port only).
    pub to_port: Option<u16>,
    /// Match what comes in by this firewall mark, and not by address and port.
    pub fwmark: Option<u32>,
    pub scheduler: Scheduler,
    pub forward: Forward,
    /// How long a client stays with its real server.
    pub persistence: Option<Duration>,
    /// Weights of real servers; 1 unless said.
    pub weights: BTreeMap<NodeIx, u16>,
    /// How many ready instances of `to` are enough to announce the address.
    pub enough: Count,
    /// VIPs of one name here move together.
    pub sync: Option<String>,
    /// Adverts by multicast, as asked for; unicast to each other director otherwise.
    pub multicast: bool,
    /// Whether the agents may write and apply what is rendered.
    pub manage: bool,
    pub on_split_brain: OnSplitBrain,
}

/// How IPVS chooses a real server (ipvsadm(8)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scheduler {
    RoundRobin,
    #[default]
    WeightedRoundRobin,
    LeastConnections,
    WeightedLeastConnections,
    SourceHash,
    Maglev,
    ShortestDelay,
    NeverQueue,
}

/// How a packet gets to its real server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Forward {
    /// As it is, to the real server's MAC; it holds the address on `lo` and answers the client itself.
    #[default]
    Direct,
    /// With the real server's address and port; the answer comes back through the director.
    Nat,
}

/// What two holders mean.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnSplitBrain {
    /// Tell it.
    #[default]
    Alert,
    /// The less preferred one gives the address up, when both agents agree on the facts.
    Yield,
}

impl Scheduler {
    pub const ALL: [(&'static str, Scheduler); 8] = [
        ("rr", Scheduler::RoundRobin),
        ("wrr", Scheduler::WeightedRoundRobin),
        ("lc", Scheduler::LeastConnections),
        ("wlc", Scheduler::WeightedLeastConnections),
        ("sh", Scheduler::SourceHash),
        ("mh", Scheduler::Maglev),
        ("sed", Scheduler::ShortestDelay),
        ("nq", Scheduler::NeverQueue),
    ];

    /// As IPVS calls it.
    pub fn as_str(self) -> &'static str {
        Scheduler::ALL.iter().find(|(_, s)| *s == self).map_or("", |(name, _)| name)
    }

    /// Whether it looks at weights above zero.
    pub fn goes_by_weight(self) -> bool {
        !matches!(self, Scheduler::RoundRobin | Scheduler::LeastConnections)
    }
}

impl Vip {
    /// The director that holds it when all is well.
    pub fn preferred(&self) -> Option<NodeIx> {
        self.on.first().copied()
    }

    /// VRRP priority of a director: 150 for the preferred one, then ten less for each; `None` elsewhere.
    pub fn priority(&self, node: NodeIx) -> Option<u8> {
        let place = self.on.iter().position(|n| *n == node)?;
        Some(HIGHEST_PRIORITY - 10 * place as u8)
    }

    /// The other directors.
    pub fn peers(&self, node: NodeIx) -> impl Iterator<Item = NodeIx> {
        self.on.iter().copied().filter(move |n| *n != node)
    }

    /// The port of the real servers for one of the clients'.
    pub fn real_port(&self, port: u16) -> u16 {
        self.to_port.unwrap_or(port)
    }

    pub fn weight(&self, node: NodeIx) -> u16 {
        self.weights.get(&node).copied().unwrap_or(1)
    }

    /// Whether an address is in its network.
    pub fn is_in_network(&self, ip: IpAddr) -> bool {
        in_network(self.address, self.prefix, ip)
    }
}

/// Whether `ip` is of the network that `address` with its prefix is of.
pub fn in_network(address: IpAddr, prefix: u8, ip: IpAddr) -> bool {
    match (address, ip) {
        (IpAddr::V4(a), IpAddr::V4(b)) => {
            (u32::from(a) ^ u32::from(b)).checked_shr(32 - u32::from(prefix.min(32))).unwrap_or(0) == 0
        }
        (IpAddr::V6(a), IpAddr::V6(b)) => {
            (u128::from(a) ^ u128::from(b)).checked_shr(128 - u32::from(prefix.min(128))).unwrap_or(0) == 0
        }
        _ => false,
    }
}

impl Cluster {
    pub fn vip_named(&self, name: &str) -> Option<&Vip> {
        self.vips.iter().find(|v| v.name == name)
    }

    /// The VIPs that a node is a director of, in file order.
    pub fn vips_of(&self, node: NodeIx) -> impl Iterator<Item = &Vip> {
        self.vips.iter().filter(move |v| v.on.contains(&node))
    }

    /// The nodes of the service behind a VIP, in file order.
    pub fn real_servers(&self, vip: &Vip) -> impl Iterator<Item = NodeIx> {
        self.service(vip.to).instances.iter().map(|i| self.instance(*i).node)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_by_prefix() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        for (address, prefix, other, inside) in [
            ("192.168.1.100", 24, "192.168.1.11", true),
            ("192.168.1.100", 24, "192.168.2.11", false),
            ("192.168.1.100", 32, "192.168.1.11", false),
            ("192.168.1.100", 32, "192.168.1.100", true),
            ("192.168.1.100", 0, "10.0.0.1", true),
            ("192.168.1.100", 24, "::1", false),
            ("fd00::100", 64, "fd00::1", true),
            ("fd00::100", 128, "fd00::1", false),
            ("fd00::100", 0, "fe80::1", true),
        ] {
            assert_eq!(in_network(ip(address), prefix, ip(other)), inside, "{address}/{prefix} {other}");
        }
    }
}
