//! What was read, as a `[vips]` table to go on from.

use super::Import;
use super::conf::{Conf, Instance, Server};
use crate::model::Cluster;
use std::fmt::Write;
use std::net::IpAddr;

/// A `[vips]` table for what the files say; names of nodes and services are those of `cluster`, where there is one.
pub fn propose(import: &Import, cluster: Option<&Cluster>) -> String {
    let mut out = String::new();
    let (mut done, mut names): (Vec<IpAddr>, Vec<String>) = (Vec::new(), Vec::new());
    for conf in &import.confs {
        for one in &conf.instances {
            for vip in &one.vips {
                if done.contains(&vip.is.ip) {
                    continue;
                }
                done.push(vip.is.ip);
                let mut name = word(&one.name);
                if names.contains(&name) {
                    name = format!("{name}-{}", done.len());
                }
                names.push(name.clone());
                let prefix = vip.is.prefix.unwrap_or(if vip.is.ip.is_ipv4() { 24 } else { 64 });
                let _ = writeln!(out, "[vips.{name}]\naddress = \"{}/{prefix}\"", vip.is.ip);
                let _ = writeln!(out, "on = [{}]", directors(import, vip.is.ip, cluster).join(", "));
                entry(&mut out, import, one, vip.is.ip, cluster);
                out.push('\n');
            }
        }
    }
    if out.is_empty() {
        out.push_str("# no `vrrp_instance` with an address\n");
    }
    out
}

fn entry(out: &mut String, import: &Import, one: &Instance, vip: IpAddr, cluster: Option<&Cluster>) {
    if let Some(interface) = &one.interface {
        let _ = writeln!(out, "interface = \"{}\"", quoted(&interface.is));
    }
    if let Some(vrid) = one.vrid.as_ref().filter(|v| one.vips.len() == 1 && Some(v.is) != last_byte(vip)) {
        let _ = writeln!(out, "vrid = {}", vrid.is);
    }
    let all = || import.confs.iter().flat_map(|c| &c.servers);
    let mut servers: Vec<&Server> = all().filter(|s| s.address == Some(vip)).collect();
    if servers.is_empty() {
        servers = all().filter(|s| s.mark.is_some()).take(1).collect();
    }
    let mut ports: Vec<u16> = servers.iter().filter_map(|s| s.port).collect();
    ports.sort_unstable();
    ports.dedup();
    let service = servers.first().and_then(|s| service(s, cluster?));
    match service {
        Some(name) => {
            let _ = writeln!(out, "to = \"{name}\"");
        }
        None => out.push_str("to = \"…\" # the service of `[services]` that runs on the real servers\n"),
    }
    match &ports[..] {
        [] => out.push_str("port = 80 # not told by these files\n"),
        [one] => {
            let _ = writeln!(out, "port = {one}");
        }
        several => {
            let _ = writeln!(out, "port = {several:?}");
        }
    }
    let Some(first) = servers.first() else { return };
    if let Some(mark) = first.mark {
        let _ = writeln!(out, "fwmark = {mark}");
    }
    if let Some(scheduler) = first.scheduler.as_ref().filter(|s| *s != "wrr") {
        let _ = writeln!(out, "scheduler = \"{}\"", quoted(scheduler));
    }
    if first.method.as_deref() != Some("DR") {
        out.push_str("forward = \"nat\"\n");
    }
    if let Some(time) = first.persistence.filter(|t| *t > 0) {
        let _ = writeln!(out, "persistence = \"{time}s\"");
    }
    let weights: Vec<String> = first
        .reals
        .iter()
        .filter_map(|r| Some(format!("{} = {}", node(r.address, cluster?)?, r.weight.filter(|w| *w != 1)?)))
        .collect();
    if !weights.is_empty() {
        let _ = writeln!(out, "weights = {{ {} }}", weights.join(", "));
    }
}

/// The directors by priority, the highest first: the nodes with their addresses, or what the files call themselves.
fn directors(import: &Import, vip: IpAddr, cluster: Option<&Cluster>) -> Vec<String> {
    let mut all: Vec<(i64, String)> = Vec::new();
    for conf in &import.confs {
        let Some(one) = conf.instances.iter().find(|i| i.addresses().contains(&vip)) else { continue };
        let named = one.source.as_ref().and_then(|s| node(s.is, cluster?)).map(str::to_owned);
        all.push((-one.priority.as_ref().map_or(100, |p| p.is), named.unwrap_or_else(|| own_name(conf))));
    }
    all.sort_by_key(|(priority, _)| *priority);
    all.into_iter().map(|(_, name)| format!("\"{name}\"")).collect()
}

fn own_name(conf: &Conf) -> String {
    let file = std::path::Path::new(&conf.file).file_stem().map(|s| s.to_string_lossy().into_owned());
    word(conf.router_id.as_ref().map_or(file.as_deref().unwrap_or("lvs"), |r| r.is.as_str()))
}

fn node(address: IpAddr, cluster: &Cluster) -> Option<&str> {
    cluster.nodes.iter().find(|n| n.address == address).map(|n| n.name.as_str())
}

/// The service that runs on every real server and asks at the port, if there is one.
fn service<'c>(server: &Server, cluster: &'c Cluster) -> Option<&'c str> {
    let runs = |service: &crate::model::Service, address: IpAddr| {
        service.instances.iter().any(|i| cluster.node(cluster.instance(*i).node).address == address)
    };
    let all = cluster.services.iter().filter(|s| server.reals.iter().all(|r| runs(s, r.address)));
    let mut fitting = all.filter(|s| {
        let unit = s.instances.first().map(|i| &cluster.instance(*i).unit);
        let asked = unit.and_then(|u| u.ready.remote.as_ref()?.address()).map(|a| a.port());
        server.reals.first().and_then(|r| r.port).is_none_or(|p| Some(p) == asked)
    });
    (!server.reals.is_empty()).then(|| fitting.next().map(|s| s.name.as_str()))?
}

fn last_byte(ip: IpAddr) -> Option<i64> {
    match ip {
        IpAddr::V4(ip) => ip.octets().last().map(|b| i64::from(*b)),
        IpAddr::V6(ip) => ip.octets().last().map(|b| i64::from(*b)),
    }
}

/// A name as `cluster.toml` takes it.
fn word(name: &str) -> String {
    let name: String = name
        .to_lowercase()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .take(50)
        .collect();
    let name = name.trim_matches('-');
    if name.is_empty() { "vip".to_owned() } else { name.to_owned() }
}

fn quoted(text: &str) -> String {
    text.chars().filter(|c| !c.is_control() && *c != '"' && *c != '\\').collect()
}
