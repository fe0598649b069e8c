//! What a real server behind direct routing needs: it holds the address for itself alone, and tells nobody.

use crate::model::{Cluster, Forward, NodeIx};
use serde::Serialize;
use std::net::IpAddr;

/// Settings that keep an address on `lo` from being answered for and from being told (ip-sysctl, `arp_ignore` and
/// `arp_announce`). IPv6 needs none: neighbours are told of an interface's own addresses only.
const QUIET: [(&str, &str); 2] =
    [("net.ipv4.conf.all.arp_ignore", "1"), ("net.ipv4.conf.all.arp_announce", "2")];

/// In force before the service behind the address is ready, taken back when it has stopped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RealServer {
    /// On `lo`, each with the prefix of a single host.
    pub addresses: Vec<IpAddr>,
    /// Names and values, set before the addresses.
    pub sysctls: Vec<(String, String)>,
}

impl RealServer {
    /// The same as commands for a person.
    pub fn commands(&self) -> Vec<String> {
        let quiet = self.sysctls.iter().map(|(name, value)| format!("sysctl -w {name}={value}"));
        let hold =
            self.addresses.iter().map(|a| format!("ip address replace {a}/{} dev lo", host_prefix(*a)));
        quiet.chain(hold).collect()
    }
}

/// Length of the prefix of a single host, in bits.
pub(super) fn host_prefix(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

pub(super) fn real_server(cluster: &Cluster, node: NodeIx) -> Option<RealServer> {
    let direct = cluster.vips.iter().filter(|v| v.forward == Forward::Direct);
    let addresses: Vec<IpAddr> = direct
        .filter(|vip| cluster.real_servers(vip).any(|server| server == node))
        .map(|vip| vip.address)
        .collect();
    needed(&addresses)
}

/// What a real server needs for these addresses.
pub fn needed(addresses: &[IpAddr]) -> Option<RealServer> {
    if addresses.is_empty() {
        return None;
    }
    let quiet: &[_] = if addresses.iter().any(IpAddr::is_ipv4) { &QUIET } else { &[] };
    let sysctls = quiet.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Some(RealServer { addresses: addresses.to_vec(), sysctls })
}
