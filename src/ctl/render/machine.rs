//! This machine, looked at and not touched: interfaces, neighbours, and what is in force.

use super::diff;
use crate::director::render::{CHAIN, Known, Mac, RealServer, TABLE};
use crate::model::{Cluster, NodeIx};
use anyhow::Context;
use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::process::Command;

/// The largest file that is compared, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// Addresses on interfaces, their MACs, and neighbours.
#[derive(Debug, Default)]
pub struct Machine {
    /// Interface and address, `lo` left out.
    addresses: Vec<(String, IpAddr)>,
    on_loopback: Vec<IpAddr>,
    macs: Vec<(String, Mac)>,
    neighbours: Vec<(IpAddr, Mac)>,
}

impl Machine {
    pub fn read() -> Machine {
        let mut machine = Machine { neighbours: neighbours(), ..Machine::default() };
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

    /// What it tells of the directors.
    pub fn known(&self, cluster: &Cluster) -> Known {
        let mut known = Known::default();
        for node in cluster.vips.iter().flat_map(|v| &v.on) {
            let address = cluster.node(*node).address;
            if let Some((interface, _)) = self.addresses.iter().find(|(_, ip)| *ip == address) {
                known.interfaces.insert(*node, interface.clone());
                let own = self.macs.iter().filter(|(name, _)| name == interface).map(|(_, mac)| *mac);
                known.macs.insert(*node, own.collect());
            } else if let Some((_, mac)) = self.neighbours.iter().find(|(ip, _)| *ip == address) {
                known.macs.insert(*node, vec![*mac]);
            }
        }
        known
    }
}

/// Who was heard of by ARP (`/proc/net/arp`): address, type, flags, MAC, mask, device.
fn neighbours() -> Vec<(IpAddr, Mac)> {
    let table = fs::read_to_string("/proc/net/arp").unwrap_or_default();
    let rows = table.lines().skip(1).filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let mac: Mac = words.get(3)?.parse().ok().filter(|mac| *mac != Mac([0; 6]))?;
        Some((words.first()?.parse().ok()?, mac))
    });
    rows.collect()
}

/// A file's text; `None` where there is none.
pub fn file(path: &Path) -> anyhow::Result<Option<String>> {
    let cannot = || format!("cannot read {}", path.display());
    match fs::metadata(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e).with_context(cannot),
        // Looked at first: opening a FIFO would wait for ever.
        Ok(meta) if !meta.is_file() || meta.len() > MAX_FILE => {
            anyhow::bail!("{} is no file of at most 1 MiB", path.display())
        }
        Ok(_) => {}
    }
    let bytes = fs::read(path).with_context(cannot)?;
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

/// The table of marks as nft lists it, empty where there is none; `None` where there is no nft and none is wanted.
pub fn nft(wanted: bool) -> anyhow::Result<Option<String>> {
    let asked = Command::new("nft").args(["-s", "list", "table", "inet", TABLE]).output();
    match asked {
        Err(_) if !wanted => Ok(None),
        Err(e) => Err(e).context("cannot ask nft for the marks (with iptables: --iptables)"),
        Ok(out) if out.status.success() => Ok(Some(String::from_utf8_lossy(&out.stdout).into_owned())),
        Ok(out) => {
            let why = String::from_utf8_lossy(&out.stderr).into_owned();
            if why.contains("No such file or directory") || !wanted {
                return Ok(Some(String::new()));
            }
            anyhow::bail!("nft does not tell the marks: {}", why.lines().next().unwrap_or(""))
        }
    }
}

/// The rules of the chain of marks, as iptables lists them; empty where there is none.
pub fn iptables(tool: &str) -> anyhow::Result<String> {
    let asked = Command::new(tool).args(["-w", "-t", "mangle", "-S"]).output();
    let out = asked.with_context(|| format!("cannot ask {tool} for the marks"))?;
    if !out.status.success() {
        let why = String::from_utf8_lossy(&out.stderr).into_owned();
        anyhow::bail!("{tool} does not tell the marks: {}", why.lines().next().unwrap_or(""));
    }
    let prefix = format!("-A {CHAIN} ");
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    Ok(text.lines().filter(|l| l.starts_with(&prefix)).map(|l| format!("{l}\n")).collect())
}

/// How `lo` and the settings differ from what a real server needs.
pub fn real_server(wanted: Option<&RealServer>) -> String {
    let Some(wanted) = wanted else { return String::new() };
    let machine = Machine::read();
    let (mut here, mut there) = (String::new(), String::new());
    for (name, value) in &wanted.sysctls {
        let path = format!("/proc/sys/{}", name.replace('.', "/"));
        let is = fs::read_to_string(path).unwrap_or_default();
        here.push_str(&format!("{name}={}\n", is.trim()));
        there.push_str(&format!("{name}={value}\n"));
    }
    for address in &wanted.addresses {
        let line = format!("{address} on lo\n");
        if machine.on_loopback.contains(address) {
            here.push_str(&line);
        }
        there.push_str(&line);
    }
    diff::lines(&here, &there)
}
