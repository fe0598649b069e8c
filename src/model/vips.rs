//! `[cluster] vips`: virtual addresses.

use super::cluster_file::{ClusterFile, checked_name, read_on};
use super::diag::Problem;
use super::fields::Value;
use super::words::nearest;
use super::{Ask, Instance, Probe, Question, ServiceIx, Vip};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

pub(super) fn read_vips(file: &ClusterFile<'_>, services: &HashMap<&str, ServiceIx>) -> Vec<Vip> {
    let Some(table) = file.vips.and_then(|v| v.table("`vips`")) else { return Vec::new() };
    let entries = table.rest();
    entries.into_iter().filter_map(|value| read_vip(value, file, services)).collect()
}

/// Tells the instances that hold virtual addresses, or are asked about them, which may be on their node.
pub(super) fn give_vips(vips: &[Vip], instances: &mut [Instance]) {
    for instance in instances {
        let here = || vips.iter().filter(|v| v.on.contains(&instance.node)).map(|v| v.address);
        if instance.unit.leftovers.vips {
            Arc::make_mut(&mut instance.unit).leftovers.addresses = here().collect();
        }
        let asks = |probe: &Probe| matches!(probe, Probe::Ask(Question { ask: Ask::Vip(vip), .. }) if vip.addresses.is_empty());
        if asks(&instance.unit.ready.local)
            && let Probe::Ask(question) = &mut Arc::make_mut(&mut instance.unit).ready.local
            && let Ask::Vip(vip) = &mut question.ask
        {
            vip.addresses = here().collect();
        }
    }
}

fn read_vip(value: Value<'_>, file: &ClusterFile<'_>, services: &HashMap<&str, ServiceIx>) -> Option<Vip> {
    if !checked_name(&value, "virtual address") {
        return None;
    }
    let mut fields = value.table(format!("virtual address `{}`", value.key))?;
    let address = fields
        .need("address", "write the address with its prefix: address = \"192.168.1.100/24\"")
        .and_then(read_address);
    if let Some(((ip, _), at)) = address
        && let Some(node) = file.nodes.iter().find(|n| n.address == ip)
    {
        let problem = Problem::new(at, format!("{ip} is the own address of node `{}`", node.name));
        value
            .reader
            .log
            .error(problem.hint("a virtual address moves between nodes: take one that nobody has"));
    }
    let on =
        fields.need("on", "name the nodes that may hold it: on = \"lvs\"").map(|v| read_on(v, &file.places));
    let prefer = fields.take("prefer").and_then(|v| {
        let name = v.words()?;
        let node = file.places.node(&name).filter(|n| on.as_ref().is_some_and(|on| on.contains(n)));
        if node.is_none() && on.as_ref().is_some_and(|on| !on.is_empty()) {
            v.error(
                format!("`prefer` names \"{name}\", which is no node of `on`"),
                "name one of the nodes that may hold it",
            );
        }
        node
    });
    let to = fields.need("to", "name the service behind it: to = \"web\"").and_then(|v| {
        let name = v.words()?;
        let service = services.get(&*name).copied();
        if service.is_none() {
            let hint = match nearest(&name, services.keys().copied()) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => "name an entry of `[services]`".to_string(),
            };
            v.error(format!("there is no service called \"{name}\""), hint);
        }
        service
    });
    let port =
        fields.need("port", "write the port that it serves: port = 80").and_then(|v| v.number(1..=65535));
    fields.finish();
    let ((address, prefix), _) = address?;
    Some(Vip {
        name: value.key.to_string(),
        address,
        prefix,
        on: on?,
        prefer,
        to: to?,
        port: u16::try_from(port?).ok()?,
    })
}

fn read_address(value: Value<'_>) -> Option<((IpAddr, u8), super::diag::Span)> {
    let text = value.words()?;
    let parsed = text.split_once('/').and_then(|(ip, prefix)| {
        let ip: IpAddr = ip.parse().ok()?;
        let prefix: u8 = prefix.parse().ok()?;
        (prefix <= if ip.is_ipv4() { 32 } else { 128 }).then_some((ip, prefix))
    });
    if parsed.is_none() {
        value.error(
            format!("`address` is \"{text}\", which is not an address with a prefix"),
            "write it with the length of its network's prefix: \"192.168.1.100/24\"",
        );
    }
    Some((parsed?, value.span()))
}
