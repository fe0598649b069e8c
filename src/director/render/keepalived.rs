//! `keepalived.conf` of one director (keepalived.conf(5), 2.2).

use super::check::{checked, seconds};
use super::{Known, interface};
use crate::model::{Cluster, Forward, NodeIx, Vip};
use std::fmt::Write;
use std::time::Duration;

/// How often the holder announces itself again to the switches, in seconds: what a healed network has forgotten
/// comes back without a takeover.
const REFRESH: u32 = 60;
/// The time between two adverts.
pub const ADVERT: Duration = Duration::from_secs(1);

pub(super) fn text(
    cluster: &Cluster,
    node: NodeIx,
    vips: &[&Vip],
    known: &Known,
    problems: &mut Vec<String>,
) -> String {
    let name = &cluster.node(node).name;
    let mut out = format!(
        "# Rendered from the cluster file of `{}` for {name}: `clusterctl render {name}`.\n\
         # Change `[vips]` there, not this file.\n\
         \n\
         global_defs {{\n    router_id {name}\n    vrrp_garp_master_refresh {REFRESH}\n}}\n",
        cluster.name
    );
    for vip in vips {
        instance(&mut out, cluster, node, vip, known, problems);
    }
    sync_groups(&mut out, vips);
    for vip in vips {
        virtual_servers(&mut out, cluster, vip);
    }
    out
}

fn instance(
    out: &mut String,
    cluster: &Cluster,
    node: NodeIx,
    vip: &Vip,
    known: &Known,
    problems: &mut Vec<String>,
) {
    let own = cluster.node(node);
    let order: Vec<&str> = vip.on.iter().map(|n| cluster.node(*n).name.as_str()).collect();
    let mut line = |text: &str| {
        out.push_str(text);
        out.push('\n');
    };
    line(&format!("\n# {}: {}", vip.name, order.join(", then ")));
    line(&format!("vrrp_instance {} {{", vip.name));
    // Nobody claims to be the master: the priorities say who becomes it.
    line("    state BACKUP");
    match interface(vip, node, known) {
        Some(interface) => line(&format!("    interface {interface}")),
        None => {
            line(&format!("    # interface: the one with {}, whose name is not known here", own.address));
            problems.push(format!(
                "the interface of {} for `{}` is not known: it is the one with {}, or write it: interface = \"eth0\"",
                own.name, vip.name, own.address
            ));
        }
    }
    line(&format!("    virtual_router_id {}", vip.vrid));
    line(&format!("    priority {}", vip.priority(node).unwrap_or(1)));
    line(&format!("    advert_int {}", seconds(ADVERT)));
    let peers: Vec<NodeIx> = vip.peers(node).collect();
    if vip.multicast || peers.is_empty() {
        if peers.is_empty() {
            line("    # It is the only director: nobody else is told.");
        }
        line(&format!("    mcast_src_ip {}", own.address));
    } else {
        line(&format!("    unicast_src_ip {}", own.address));
        line("    unicast_peer {");
        for peer in peers {
            line(&format!("        {}", cluster.node(peer).address));
        }
        line("    }");
        line("    check_unicast_src");
    }
    line(&format!("    virtual_ipaddress {{\n        {}/{}\n    }}\n}}", vip.address, vip.prefix));
}

fn sync_groups(out: &mut String, vips: &[&Vip]) {
    let mut done: Vec<&str> = Vec::new();
    for group in vips.iter().filter_map(|v| v.sync.as_deref()) {
        if done.contains(&group) {
            continue;
        }
        done.push(group);
        let _ = writeln!(out, "\nvrrp_sync_group {group} {{\n    group {{");
        for vip in vips.iter().filter(|v| v.sync.as_deref() == Some(group)) {
            let _ = writeln!(out, "        {}", vip.name);
        }
        out.push_str("    }\n}\n");
    }
}

/// One block for a mark, or one for each port.
fn virtual_servers(out: &mut String, cluster: &Cluster, vip: &Vip) {
    match vip.fwmark {
        // A real server gets a packet at the port that it was sent to.
        Some(mark) => virtual_server(out, cluster, vip, &format!("fwmark {mark}"), None),
        None => {
            for port in &vip.ports {
                let what = format!("{} {port}", vip.address);
                virtual_server(out, cluster, vip, &what, Some(vip.real_port(*port)));
            }
        }
    }
}

fn virtual_server(out: &mut String, cluster: &Cluster, vip: &Vip, what: &str, port: Option<u16>) {
    let service = cluster.service(vip.to);
    let _ = writeln!(out, "\n# {} -> {}\nvirtual_server {what} {{", vip.name, service.name);
    let _ = writeln!(out, "    lvs_sched {}", vip.scheduler.as_str());
    let method = match vip.forward {
        Forward::Direct => "DR",
        Forward::Nat => "NAT",
    };
    let _ = writeln!(out, "    lvs_method {method}");
    if let Some(time) = vip.persistence {
        let _ = writeln!(out, "    persistence_timeout {}", time.as_secs());
    }
    if vip.fwmark.is_none() {
        out.push_str("    protocol TCP\n");
    }
    // A real server gets nothing before it has answered once.
    out.push_str("    alpha\n");
    let every = service.instances.first().map(|i| cluster.instance(*i).unit.ready.every);
    if let Some(every) = every {
        let _ = writeln!(out, "    delay_loop {}", seconds(every));
    }
    for ix in &service.instances {
        let instance = cluster.instance(*ix);
        let node = cluster.node(instance.node);
        let port = port.map(|p| format!(" {p}")).unwrap_or_default();
        let _ = writeln!(out, "    # {}\n    real_server {}{port} {{", instance.name, node.address);
        let _ = writeln!(out, "        weight {}", vip.weight(instance.node));
        out.push_str(&checked(&instance.unit.ready, node.address));
        out.push_str("    }\n");
    }
    out.push_str("}\n");
}
