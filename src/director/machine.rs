//! This machine, looked at and not touched: interfaces, their MACs, neighbours.

use super::render::{Known, Mac};
use crate::address;
use crate::model::{Cluster, NodeIx};
use std::net::IpAddr;

/// Addresses on interfaces, their MACs, and neighbours.
#[derive(Debug, Default)]
pub struct Machine {
    /// Interface and address, `lo` left out.
    addresses: Vec<(String, IpAddr)>,
    pub on_loopback: Vec<IpAddr>,
    macs: Vec<(String, Mac)>,
    neighbours: Vec<(IpAddr, Mac)>,
}

impl Machine {
    pub fn read() -> Machine {
        let neighbours = address::neighbours().unwrap_or_default();
        let neighbours = neighbours.into_iter().map(|(ip, mac)| (ip, Mac(mac))).collect();
        let mut machine = Machine { neighbours, ..Machine::default() };
        for one in nix::ifaddrs::getifaddrs().into_iter().flatten() {
            let loopback = one.flags.contains(nix::net::if_::InterfaceFlags::IFF_LOOPBACK);
            let Some(address) = one.address else { continue };
            let v4 = address.as_sockaddr_in().map(|a| IpAddr::V4(a.ip()));
            let ip = v4.or_else(|| address.as_sockaddr_in6().map(|a| IpAddr::V6(a.ip())));
            match ip {
                Some(ip) if loopback => machine.on_loopback.push(ip),
                Some(ip) => machine.addresses.push((one.interface_name, ip)),
                None => {
                    let mac = address.as_link_addr().and_then(|link| link.addr()).filter(|_| !loopback);
                    machine.macs.extend(mac.map(|mac| (one.interface_name, Mac(mac))));
                }
            }
        }
        machine
    }

    /// The node of the file whose address is on an interface here.
    pub fn node(&self, cluster: &Cluster) -> Option<NodeIx> {
        let here = |ip: IpAddr| self.addresses.iter().any(|(_, a)| *a == ip);
        cluster.nodes.iter().position(|n| here(n.address)).map(|at| NodeIx(at as u32))
    }

    /// The MACs of the interface with an address.
    pub fn macs_of(&self, address: IpAddr) -> Vec<Mac> {
        let on = self.addresses.iter().find(|(_, ip)| *ip == address).map(|(name, _)| name);
        self.macs.iter().filter(|(name, _)| Some(name) == on).map(|(_, mac)| *mac).collect()
    }

    /// What it tells of the directors.
    pub fn known(&self, cluster: &Cluster) -> Known {
        let mut known = Known::default();
        for node in cluster.vips.iter().flat_map(|v| &v.on) {
            let address = cluster.node(*node).address;
            if let Some((interface, _)) = self.addresses.iter().find(|(_, ip)| *ip == address) {
                known.interfaces.insert(*node, interface.clone());
                known.macs.insert(*node, self.macs_of(address));
            } else if let Some((_, mac)) = self.neighbours.iter().find(|(ip, _)| *ip == address) {
                known.macs.insert(*node, vec![*mac]);
            }
        }
        known
    }
}
