//! The firewall marks of addresses that are matched by `fwmark`: a packet from a client gets the mark, one that another
//! director has balanced already does not. Else two directors that also serve would pass it round for ever.
//!
//! Both texts are written as their tools list them, so that what a machine has can be compared with what it should have.

use super::Known;
use crate::model::{Cluster, NodeIx, Vip};
use serde::Serialize;
use std::fmt::Write;

/// The table in nftables, of the family `inet`.
pub const TABLE: &str = "clusterd_vips";
/// The chain in iptables, of the table `mangle`.
pub const CHAIN: &str = "CLUSTERD_VIPS";

/// The same marks for both tools; a node needs one of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rules {
    /// For `nft -f -`: takes the place of what was there, in one step.
    pub nft: String,
    /// For `iptables-restore --noflush`; the chain is called from PREROUTING.
    pub iptables: Option<String>,
    /// The same for `ip6tables-restore --noflush`.
    pub ip6tables: Option<String>,
}

impl Rules {
    /// What `nft -s list table inet clusterd_vips` prints when they are in force.
    pub fn nft_listed(&self) -> &str {
        // After the two lines that clear what was there.
        self.nft.find(&format!("table inet {TABLE} {{")).map_or("", |at| &self.nft[at..])
    }

    /// Commands for a person that have the iptables rules called, and such that take them out again.
    pub fn iptables_commands(&self) -> Vec<String> {
        let tools = [("iptables", &self.iptables), ("ip6tables", &self.ip6tables)];
        let used = tools.iter().filter(|(_, text)| text.is_some());
        used.map(|(tool, _)| {
            let jump = format!("PREROUTING -j {CHAIN}");
            format!("{tool} -w -t mangle -C {jump} || {tool} -w -t mangle -A {jump}")
        })
        .collect()
    }
}

pub(super) fn rules(
    cluster: &Cluster,
    node: NodeIx,
    vips: &[&Vip],
    known: &Known,
    problems: &mut Vec<String>,
) -> Option<Rules> {
    let marked: Vec<(&Vip, u32)> = vips.iter().filter_map(|v| Some((*v, v.fwmark?))).collect();
    if marked.is_empty() {
        return None;
    }
    let mut notes = String::new();
    let mut missing: Vec<NodeIx> = Vec::new();
    for peer in marked.iter().flat_map(|(vip, _)| vip.peers(node)) {
        if known.macs.get(&peer).is_none_or(Vec::is_empty) && !missing.contains(&peer) {
            missing.push(peer);
            let name = &cluster.node(peer).name;
            let _ = writeln!(
                notes,
                "# The MAC of {name} is not known: what it has balanced would be balanced again."
            );
            problems.push(format!(
                "the MAC of {name} is not known, so what it has balanced cannot be told from what clients send"
            ));
        }
    }
    let macs = |vip: &Vip| -> Vec<String> {
        let mut all: Vec<String> =
            vip.peers(node).filter_map(|n| known.macs.get(&n)).flatten().map(ToString::to_string).collect();
        all.sort();
        all.dedup();
        all
    };
    let mut nft = format!(
        "{notes}table inet {TABLE}\ndelete table inet {TABLE}\ntable inet {TABLE} {{\n\tchain prerouting {{\n"
    );
    nft.push_str("\t\ttype filter hook prerouting priority mangle; policy accept;\n");
    let (mut four, mut six) = (String::new(), String::new());
    for (vip, mark) in &marked {
        let macs = macs(vip);
        nft.push_str(&nft_rule(vip, *mark, &macs));
        let family = if vip.address.is_ipv4() { &mut four } else { &mut six };
        family.push_str(&iptables_rule(vip, *mark, &macs));
    }
    nft.push_str("\t}\n}\n");
    let restore = |rules: String| {
        (!rules.is_empty()).then(|| format!("{notes}*mangle\n:{CHAIN} - [0:0]\n{rules}COMMIT\n"))
    };
    Some(Rules { nft, iptables: restore(four), ip6tables: restore(six) })
}

fn nft_rule(vip: &Vip, mark: u32, macs: &[String]) -> String {
    let family = if vip.address.is_ipv4() { "ip" } else { "ip6" };
    let mut ports = vip.ports.clone();
    ports.sort_unstable();
    let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
    let set = |of: &[String]| match of {
        [one] => one.clone(),
        _ => format!("{{ {} }}", of.join(", ")),
    };
    let from = if macs.is_empty() { String::new() } else { format!(" ether saddr != {}", set(macs)) };
    format!(
        "\t\t{family} daddr {} tcp dport {}{from} counter meta mark set 0x{mark:08x} comment \"{}\"\n",
        vip.address,
        set(&ports),
        vip.name
    )
}

fn iptables_rule(vip: &Vip, mark: u32, macs: &[String]) -> String {
    let host = if vip.address.is_ipv4() { 32 } else { 128 };
    let ports = match &vip.ports[..] {
        [one] => format!("-m tcp --dport {one}"),
        several => {
            let list: Vec<String> = several.iter().map(u16::to_string).collect();
            format!("-m multiport --dports {}", list.join(","))
        }
    };
    let from: String = macs.iter().map(|mac| format!(" -m mac ! --mac-source {mac}")).collect();
    format!(
        "-A {CHAIN} -d {}/{host} -p tcp {ports}{from} -j MARK --set-xmark 0x{mark:x}/0xffffffff\n",
        vip.address
    )
}
