//! `[vips.NAME]`: virtual addresses, their directors, and the service behind them.

use super::cluster_file::{ClusterFile, Places, ServiceEntry, checked_name, read_on};
use super::diag::{Log, Problem, Span};
use super::drafts::Drafts;
use super::fields::{Fields, Value};
use super::needs::{NeedEntry, read_count};
use super::vip::MAX_DIRECTORS;
use super::words::nearest;
use super::{
    Count, Forward, Instance, NodeIx, OnSplitBrain, Scheduler, ServiceIx, Vip, in_network, show_duration,
};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// The most ports of one address.
const MAX_PORTS: usize = 15; // what iptables takes in one rule (iptables-extensions(8), multiport)
/// The longest name of an interface (`IFNAMSIZ`, with its zero).
const MAX_INTERFACE: usize = 15;
/// The most that IPVS takes for a weight (keepalived.conf(5)).
const MAX_WEIGHT: i64 = 65_535;
/// The longest persistence: a day. Each client takes memory for so long.
const MAX_PERSISTENCE: Duration = Duration::from_secs(24 * 3600);

/// A VIP as typed, with the places that later checks speak of.
pub(super) struct VipEntry<'a> {
    pub vip: Vip,
    name_at: Span,
    address_at: Span,
    vrid_at: Span,
    fwmark_at: Option<Span>,
    sync_at: Option<Span>,
    /// What a director's keepalived needs of the service behind it.
    need: NeedEntry<'a>,
}

pub(super) fn read_vips<'a>(file: &ClusterFile<'a>, drafts: &Drafts<'_>, log: &Log) -> Vec<VipEntry<'a>> {
    let vips: Vec<VipEntry<'a>> = file.vips.iter().filter_map(|v| read_vip(*v, file, drafts)).collect();
    for (at, one) in vips.iter().enumerate() {
        for other in &vips[..at] {
            compare(other, one, log);
        }
        check_sync(&vips, at, log);
        check_networks(&one.vip, one.address_at, file, log);
        check_holders(one, file, drafts, log);
    }
    vips
}

/// Tells the instances that hold virtual addresses which may be on their node.
pub(super) fn give_vips(vips: &[Vip], instances: &mut [Instance]) {
    for instance in instances.iter_mut().filter(|i| i.unit.leftovers.vips) {
        let here = vips.iter().filter(|v| v.on.contains(&instance.node)).map(|v| v.address);
        Arc::make_mut(&mut instance.unit).leftovers.addresses = here.collect();
    }
}

/// What follows from VIPs: what holds one needs the service behind it, so that no address is announced in front of
/// nothing. A need that is written goes first. One list for each service; `holds` tells which hold addresses.
pub(super) fn derived_needs<'a>(
    vips: &[VipEntry<'a>],
    services: &[ServiceEntry<'_>],
    holds: impl Fn(ServiceIx) -> bool,
) -> Vec<Vec<NeedEntry<'a>>> {
    let mut all = Vec::with_capacity(services.len());
    for (service, ix) in services.iter().zip(0..) {
        let mut derived: Vec<NeedEntry<'a>> = Vec::new();
        for entry in vips.iter().filter(|v| holds(ServiceIx(ix)) && v.vip.to != ServiceIx(ix)) {
            let target = &entry.need.name;
            let is_written = |node: &NodeIx| {
                let mut own = service.needs.iter();
                own.any(|n| {
                    n.targets.iter().any(|(t, _)| t == target)
                        && n.nodes.as_ref().is_none_or(|on| on.contains(node))
                })
            };
            let nodes: Vec<NodeIx> = service
                .nodes
                .iter()
                .copied()
                .filter(|node| entry.vip.on.contains(node) && !is_written(node))
                .collect();
            let (count, role) = (entry.need.count, entry.need.role.map(|(role, _)| role));
            let mut alike = derived.iter_mut().filter(|n| {
                n.targets[0].0 == *target && n.count == count && n.role.map(|(role, _)| role) == role
            });
            if let Some(same) = alike.next() {
                let on = same.nodes.get_or_insert_default();
                on.extend(nodes.into_iter().filter(|n| !on.contains(n)).collect::<Vec<_>>());
            } else if !nodes.is_empty() {
                let taken = service.needs.iter().chain(&derived).any(|n| n.name == *target);
                let name = if taken { Cow::Owned(format!("vip-{}", entry.vip.name)) } else { target.clone() };
                derived.push(NeedEntry { name, nodes: Some(nodes), ..entry.need.clone() });
            }
        }
        all.push(derived);
    }
    all
}

fn read_vip<'a>(value: Value<'a>, file: &ClusterFile<'a>, drafts: &Drafts<'_>) -> Option<VipEntry<'a>> {
    if !checked_name(&value, "virtual address") {
        return None;
    }
    let mut fields = value.table(format!("virtual address `{}`", value.key))?;
    let address = fields
        .need("address", "write the address with its prefix: address = \"192.168.1.100/24\"")
        .and_then(|v| read_address(v, file));
    let on = fields
        .need("on", "name its directors, the preferred one first: on = [\"lvs1\", \"lvs2\"]")
        .and_then(|v| read_directors(v, &file.places));
    let on = on.unwrap_or_default();
    let to = fields
        .need("to", "name the service behind it: to = \"web\"")
        .and_then(|v| Some((read_to(v, drafts)?, v)));
    let servers =
        to.map(|(ix, _)| file.services[ix.0 as usize].nodes.as_slice()).unwrap_or_default().to_vec();
    let ports = fields
        .need("port", "write the port that clients use: port = 80, or port = [80, 443]")
        .and_then(read_ports);
    let interfaces = fields.take("interface").map(|v| read_interfaces(v, &on, &file.places));
    let vrid = read_vrid(&mut fields, address.map(|(ip, _, at)| (ip, at)));
    let scheduler = fields.take("scheduler").map(|v| (v.choice(&Scheduler::ALL), v));
    let forward = fields
        .take("forward")
        .and_then(|v| v.choice(&[("direct", Forward::Direct), ("nat", Forward::Nat)]))
        .unwrap_or_default();
    let to_port = read_to_port(&mut fields, forward, ports.as_deref());
    let fwmark =
        fields.take("fwmark").and_then(|v| Some((u32::try_from(v.number(1..=0xffff_ffff)?).ok()?, v.span())));
    let persistence = fields.take("persistence").and_then(read_persistence);
    let weights = fields.take("weights").map(|v| read_weights(v, &servers, &file.places, scheduler));
    let need = to.map(|(ix, at)| read_enough(&mut fields, file.services[ix.0 as usize].name, at));
    let sync = fields.take("sync").filter(|v| v.text().is_some_and(|t| checked_sync(v, &t)));
    let multicast = fields.take("multicast").and_then(|v| v.flag()).unwrap_or(false);
    let manage = fields.take("manage").and_then(|v| v.flag()).unwrap_or(false);
    let on_split_brain = fields
        .take("on-split-brain")
        .and_then(|v| v.choice(&[("alert", OnSplitBrain::Alert), ("yield", OnSplitBrain::Yield)]))
        .unwrap_or_default();
    if let Some(prefer) = fields.take("prefer") {
        prefer.error("the order of `on` says who is preferred", "name the preferred director first in `on`");
    }
    fields.finish();

    let (address, prefix, address_at) = address?;
    let vip = Vip {
        name: value.key.to_string(),
        address,
        prefix,
        on,
        interfaces: interfaces.unwrap_or_default(),
        vrid: vrid?.0,
        to: to?.0,
        ports: ports?,
        to_port,
        fwmark: fwmark.map(|(mark, _)| mark),
        scheduler: scheduler.and_then(|(s, _)| s).unwrap_or_default(),
        forward,
        persistence,
        weights: weights.unwrap_or_default(),
        enough: need.as_ref()?.count?,
        sync: sync.and_then(|v| v.text()).map(Cow::into_owned),
        multicast,
        manage,
        on_split_brain,
    };
    check_both_roles(&vip, &servers, value, file);
    Some(VipEntry {
        vip,
        name_at: value.key_span,
        address_at,
        vrid_at: vrid?.1,
        fwmark_at: fwmark.map(|(_, at)| at),
        sync_at: sync.map(|v| v.span()),
        need: need?,
    })
}

fn read_address(value: Value<'_>, file: &ClusterFile<'_>) -> Option<(IpAddr, u8, Span)> {
    let text = value.words()?;
    let parsed = text.split_once('/').and_then(|(ip, prefix)| {
        let ip: IpAddr = ip.parse().ok()?;
        let digits = prefix.bytes().all(|b| b.is_ascii_digit());
        let prefix: u8 = prefix.parse().ok().filter(|_| digits)?;
        (1..=if ip.is_ipv4() { 32 } else { 128 }).contains(&prefix).then_some((ip, prefix))
    });
    let Some((ip, prefix)) = parsed else {
        value.error(
            format!("`address` is \"{text}\", which is not an address with a prefix"),
            "write it with the length of its network's prefix: \"192.168.1.100/24\"",
        );
        return None;
    };
    if ip.is_unspecified() || ip.is_multicast() || ip.is_loopback() {
        value.error(format!("{ip} is not an address that clients can reach"), "write one of the network's");
    }
    if let Some(node) = file.nodes.iter().find(|n| n.address == ip) {
        value.error(
            format!("{ip} is the own address of node `{}`", node.name),
            "a virtual address moves between nodes: take one that nobody has",
        );
    }
    Some((ip, prefix, value.span()))
}

fn read_directors(value: Value<'_>, places: &Places<'_>) -> Option<Vec<NodeIx>> {
    let on = read_on(value, places);
    if on.len() > MAX_DIRECTORS {
        value.error(
            format!("{} directors of one address are more than {MAX_DIRECTORS}", on.len()),
            "two are enough for most; name those that may hold it",
        );
        return None;
    }
    Some(on)
}

fn read_to(value: Value<'_>, drafts: &Drafts<'_>) -> Option<ServiceIx> {
    let name = value.words()?;
    let service = drafts.names.get(&*name).copied();
    if service.is_none() {
        let hint = match nearest(&name, drafts.names.keys().copied()) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None => "name an entry of `[services]`".to_string(),
        };
        value.error(format!("there is no service called \"{name}\""), hint);
    }
    service
}

/// `80`, or `[80, 443]`.
fn read_ports(value: Value<'_>) -> Option<Vec<u16>> {
    let items = if value.raw().is_array() { value.items() } else { vec![value] };
    if items.is_empty() || items.len() > MAX_PORTS {
        value.error(
            format!("`port` names {} ports", items.len()),
            format!("write one to {MAX_PORTS}: port = 80, or port = [80, 443]"),
        );
        return None;
    }
    let mut ports = Vec::with_capacity(items.len());
    for item in items {
        let port = u16::try_from(item.number(1..=65_535)?).ok()?;
        if ports.contains(&port) {
            item.error(format!("port {port} is named twice"), "name each port once");
        } else {
            ports.push(port);
        }
    }
    Some(ports)
}

/// `"eth0"`, or `{ lvs1 = "eth0", lvs2 = "ens3" }`.
fn read_interfaces(value: Value<'_>, on: &[NodeIx], places: &Places<'_>) -> BTreeMap<NodeIx, String> {
    if !value.raw().is_table() {
        let name = read_interface(value);
        return name.map(|n| on.iter().map(|node| (*node, n.clone())).collect()).unwrap_or_default();
    }
    let Some(table) = value.table("`interface`") else { return BTreeMap::new() };
    let of = |entry: Value<'_>| {
        let node = node_of(&entry, on, places, "a director of this address", "name a node of `on`")?;
        Some((node, read_interface(entry)?))
    };
    table.rest().into_iter().filter_map(of).collect()
}

fn read_interface(value: Value<'_>) -> Option<String> {
    let name = value.words()?;
    let sound = name.len() <= MAX_INTERFACE
        && !name.starts_with(['.', '-'])
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    if !sound || name == "lo" {
        value.error(
            format!("\"{name}\" cannot be the interface of a virtual address"),
            "write the name that `ip link` shows, such as \"eth0\", or leave it out: then it is the one with the \
             node's own address",
        );
        return None;
    }
    Some(name.into_owned())
}

/// The node that is the key of an entry, where it is one of `among`.
fn node_of(
    entry: &Value<'_>,
    among: &[NodeIx],
    places: &Places<'_>,
    what: &str,
    hint: &str,
) -> Option<NodeIx> {
    let node = places.node(entry.key).filter(|n| among.contains(n));
    if node.is_none() && !among.is_empty() {
        let problem = Problem::new(entry.key_span, format!("`{}` is not {what}", entry.key));
        entry.reader.log.error(problem.hint(hint.to_owned()));
    }
    node
}

/// The number, and where it comes from: `vrid`, or the last byte of the address.
fn read_vrid(fields: &mut Fields<'_>, address: Option<(IpAddr, Span)>) -> Option<(u8, Span)> {
    if let Some(value) = fields.take("vrid") {
        return Some((u8::try_from(value.number(1..=255)?).ok()?, value.span()));
    }
    let (ip, at) = address?;
    let last = match ip {
        IpAddr::V4(ip) => ip.octets()[3],
        IpAddr::V6(ip) => ip.octets()[15],
    };
    if last == 0 {
        let message = "the address ends in 0, which cannot be its virtual router id";
        fields
            .reader
            .log
            .error(Problem::new(at, message).hint("write one from 1 to 255 beside it: vrid = 51"));
        return None;
    }
    Some((last, at))
}

fn read_to_port(fields: &mut Fields<'_>, forward: Forward, ports: Option<&[u16]>) -> Option<u16> {
    let value = fields.take("to-port")?;
    let port = value.number(1..=65_535).and_then(|p| u16::try_from(p).ok());
    if forward == Forward::Direct {
        value.error(
            "direct routing passes a packet on as it is, port and all",
            "take `to-port` out, or write forward = \"nat\"",
        );
    } else if ports.is_some_and(|p| p.len() > 1) {
        value.error("`to-port` is one port for several", "write a virtual address for each port");
    }
    port
}

fn read_persistence(value: Value<'_>) -> Option<Duration> {
    let time = value.span_of_time()?;
    if time > MAX_PERSISTENCE || time.subsec_nanos() > 0 {
        value.error(
            format!("a client cannot stay with its server for {}", show_duration(time)),
            "write whole seconds up to a day: \"5m\"",
        );
        return None;
    }
    Some(time)
}

fn read_weights(
    value: Value<'_>,
    servers: &[NodeIx],
    places: &Places<'_>,
    scheduler: Option<(Option<Scheduler>, Value<'_>)>,
) -> BTreeMap<NodeIx, u16> {
    if let Some((Some(chosen), at)) = scheduler
        && !chosen.goes_by_weight()
    {
        let weighted = format!("w{}", chosen.as_str());
        let message = format!("the scheduler `{}` does not look at weights", chosen.as_str());
        at.error(message, format!("write scheduler = \"{weighted}\", or take `weights` out"));
    }
    let Some(table) = value.table("`weights`") else { return BTreeMap::new() };
    let of = |entry: Value<'_>| {
        let node = node_of(
            &entry,
            servers,
            places,
            "a node of the service behind it",
            "name a node of that service",
        )?;
        Some((node, u16::try_from(entry.number(0..=MAX_WEIGHT)?).ok()?))
    };
    table.rest().into_iter().filter_map(of).collect()
}

/// `enough`, as the need that whoever holds the address has.
fn read_enough<'a>(fields: &mut Fields<'a>, to: &'a str, at: Value<'a>) -> NeedEntry<'a> {
    let mut need = NeedEntry::new(Cow::Borrowed(to), at.span());
    need.count = Some(Count::AtLeast(1));
    if let Some(value) = fields.take("enough") {
        read_count(value, &mut need);
        if need.count == Some(Count::SameNode) {
            need.count = None;
            value.error(
                "what the directors pass on goes to other nodes, too",
                "write how many must be ready before the address is announced: \"any\", \"quorum\", \"all\" or a number",
            );
        }
    }
    need
}

fn checked_sync(value: &Value<'_>, name: &str) -> bool {
    let good = super::words::is_name(name);
    if !good {
        value.error(
            format!("\"{name}\" cannot be the name of a sync group"),
            "names are made of a-z, 0-9 and inner `-`, at most 63 of them",
        );
    }
    good
}

/// A director that also serves finds in its own table what another director has balanced already.
fn check_both_roles(vip: &Vip, servers: &[NodeIx], at: Value<'_>, file: &ClusterFile<'_>) {
    let both = vip.on.iter().find(|n| servers.contains(n));
    if vip.forward == Forward::Direct
        && vip.fwmark.is_none()
        && vip.on.len() > 1
        && let Some(node) = both
    {
        let name = &file.nodes[node.0 as usize].name;
        let problem = Problem::new(
            at.key_span,
            format!(
                "`{name}` is a director and a real server of `{}`: a packet could go round for ever",
                vip.name
            ),
        );
        at.reader.log.error(
            problem.hint(
                "match by a mark that other directors' packets do not get: fwmark = 1 (any free number)",
            ),
        );
    }
}

/// What must differ between two.
fn compare(one: &VipEntry<'_>, two: &VipEntry<'_>, log: &Log) {
    let (a, b) = (&one.vip, &two.vip);
    if a.address == b.address {
        let problem = Problem::new(two.address_at, format!("`{}` and `{}` are one address", a.name, b.name));
        log.error(
            problem
                .note(one.address_at, "first given here")
                .hint("one entry for each address: it may have several ports, port = [80, 443]"),
        );
        return;
    }
    let meet = a.on.iter().any(|n| b.on.contains(n)) || (a.multicast && b.multicast);
    if a.vrid == b.vrid && a.address.is_ipv4() == b.address.is_ipv4() && meet {
        let problem = Problem::new(
            two.vrid_at,
            format!("`{}` and `{}` would both be virtual router {}", a.name, b.name, a.vrid),
        );
        log.error(problem.note(one.vrid_at, "the other one").hint(
            "the id is the last byte of the address unless said: write a free one beside one of them, vrid = 51",
        ));
    }
    if a.fwmark.is_some()
        && a.fwmark == b.fwmark
        && let (Some(first), Some(second)) = (one.fwmark_at, two.fwmark_at)
    {
        let problem = Problem::new(second, format!("`{}` has the same mark", a.name));
        log.error(problem.note(first, "there").hint("a mark is one virtual service: give each its own"));
    }
}

/// What moves together is preferred by the same, and there are at least two.
fn check_sync(vips: &[VipEntry<'_>], at: usize, log: &Log) {
    let one = &vips[at];
    let (Some(group), Some(span)) = (&one.vip.sync, one.sync_at) else { return };
    let mut others = vips.iter().enumerate().filter(|(i, v)| *i != at && v.vip.sync.as_ref() == Some(group));
    match others.next() {
        None => {
            let problem = Problem::new(span, format!("`{}` is alone in its sync group", one.vip.name));
            log.error(problem.hint("give another virtual address the same `sync`, or take it out"));
        }
        Some((first, other)) if first < at && other.vip.on != one.vip.on => {
            let message =
                format!("`{}` moves with `{}`, and has other directors", one.vip.name, other.vip.name);
            let problem = Problem::new(one.name_at, message).note(other.name_at, "the other one");
            log.error(problem.hint("write the same `on` in the same order, or take `sync` out"));
        }
        Some(_) => {}
    }
}

/// The directors' own addresses: of the VIP's family, and as a rule in its network.
fn check_networks(vip: &Vip, at: Span, file: &ClusterFile<'_>, log: &Log) {
    for node in &vip.on {
        let director = &file.nodes[node.0 as usize];
        if director.address.is_ipv4() != vip.address.is_ipv4() {
            let (family, other) = if vip.address.is_ipv4() { ("IPv4", "IPv6") } else { ("IPv6", "IPv4") };
            let message =
                format!("{} is {family}, and `{}` has an {other} address", vip.address, director.name);
            let hint = format!(
                "directors tell each other of an {family} address over {family}: take one of the nodes' own kind"
            );
            log.error(Problem::new(at, message).hint(hint));
            return;
        }
        let host = if vip.address.is_ipv4() { 32 } else { 128 };
        if vip.prefix < host
            && !vip.interfaces.contains_key(node)
            && !in_network(vip.address, vip.prefix, director.address)
        {
            let problem = Problem::new(
                at,
                format!(
                    "`{}` ({}) is not in the network of {}/{}",
                    director.name, director.address, vip.address, vip.prefix
                ),
            );
            log.warn(problem.hint(
                "the interface is found by the node's address: if it is another one, write interface = \"eth0\"",
            ));
            return;
        }
    }
}

/// A director without keepalived never holds the address: legal, and probably forgotten.
fn check_holders(entry: &VipEntry<'_>, file: &ClusterFile<'_>, drafts: &Drafts<'_>, log: &Log) {
    let holds = |node: &NodeIx| {
        let mut services = file.services.iter().zip(0..);
        services.any(|(service, ix)| service.nodes.contains(node) && drafts.holds_vips(ServiceIx(ix)))
    };
    if let Some(node) = entry.vip.on.iter().find(|node| !holds(node)) {
        let name = &file.nodes[node.0 as usize].name;
        let message = format!("nothing on `{name}` could hold the address `{}`", entry.vip.name);
        log.warn(Problem::new(entry.name_at, message).hint(format!(
            "place keepalived there (a unit with `leftovers.vips = true`): keepalived = {{ on = \"{name}\" }}"
        )));
    }
}
