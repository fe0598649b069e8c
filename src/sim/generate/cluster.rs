//! A cluster from a seed, as the texts of its file and units.

use crate::model::Sources;
use crate::sim::chance::Chance;
use crate::sim::sample::sources;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// The most nodes that one group has; a service is placed on one group or on a few nodes, so that the edges between
/// instances grow with the cluster and not with its square.
const GROUP: usize = 8;
/// How far back a service looks for what it needs: chains get long, and nothing is needed by everything.
const REACH: usize = 12;

/// What a generated daemon is, which is how its readiness can be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Tcp,
    Http,
    Mysql,
    Redis,
    /// Ready when it has run for a while: on its own machine only.
    Running,
    /// Ready when it has completed: on its own machine only.
    Oneshot,
    /// One serves, the others stand by.
    Exclusive,
}

const KINDS: [Kind; 7] =
    [Kind::Tcp, Kind::Http, Kind::Mysql, Kind::Redis, Kind::Running, Kind::Oneshot, Kind::Exclusive];

impl Kind {
    /// Whether only its own agent can vouch for it.
    fn is_local(self) -> bool {
        matches!(self, Kind::Running | Kind::Oneshot)
    }

    fn role(self) -> Option<&'static str> {
        match self {
            Kind::Mysql => Some("writable"),
            Kind::Redis => Some("master"),
            _ => None,
        }
    }
}

struct Service {
    name: String,
    kind: Kind,
    /// Nodes by number.
    on: BTreeSet<usize>,
    /// Each a line of the file.
    needs: Vec<String>,
}

/// A valid cluster of 1 to `most_nodes` nodes.
pub fn cluster(seed: u64, most_nodes: usize) -> Sources {
    let mut chance = Chance::new(seed).branch(0);
    let nodes = size(&mut chance, most_nodes.max(1));
    let mut services: Vec<Service> = Vec::new();
    let mut units = BTreeMap::new();
    let wanted = nodes + chance.within(1, 4) as usize;
    for s in 0..wanted {
        let kind = chance.pick(&KINDS).copied().unwrap_or(Kind::Tcp);
        let on = place(&mut chance, nodes);
        let mut service = Service { name: format!("s{s}"), kind, on, needs: Vec::new() };
        let near = &services[services.len().saturating_sub(REACH)..];
        service.needs = needs(&mut chance, &service, near);
        units.insert(service.name.clone(), unit(&mut chance, kind, s));
        services.push(service);
    }
    let outside = outside(&mut chance, &mut services);
    sources(file(nodes, &services) + &outside, units)
}

/// Now and then a few services need something outside the cluster: what the file says of that.
fn outside(chance: &mut Chance, services: &mut [Service]) -> String {
    let mut text = String::new();
    for e in 0..chance.pick(&[0, 0, 1, 2]).copied().unwrap_or(0) {
        let _ = write!(
            text,
            "\n[external.e{e}]\naddress = \"192.0.2.{e}\"\nprobe = {{ kind = \"tcp\", port = {} }}\n\
             every = \"{}s\"\nlost_after = {}\n",
            30_000 + e,
            chance.within(1, 10),
            chance.within(1, 4),
        );
        for _ in 0..chance.within(1, 3) {
            let s = chance.below(services.len() as u64) as usize;
            let name = format!("e{e}");
            if !services[s].needs.iter().any(|need| need.starts_with(&format!("{name} = "))) {
                services[s].needs.push(line(chance, &name, "count = \"any\"", false));
            }
        }
    }
    text
}

/// Small clusters as often as large ones.
fn size(chance: &mut Chance, most: usize) -> usize {
    let doublings = chance.below(u64::from(most.ilog2()) + 1);
    chance.within(1 << doublings, (2 << doublings) - 1).min(most as u64) as usize
}

/// A whole group, or one to three nodes anywhere.
fn place(chance: &mut Chance, nodes: usize) -> BTreeSet<usize> {
    if chance.percent(50) {
        let first = chance.below(nodes.div_ceil(GROUP) as u64) as usize * GROUP;
        (first..nodes.min(first + GROUP)).collect()
    } else {
        let many = chance.within(1, 3);
        (0..many).map(|_| chance.below(nodes as u64) as usize).collect()
    }
}

fn needs(chance: &mut Chance, service: &Service, near: &[Service]) -> Vec<String> {
    let mut needs = Vec::new();
    let mut targets: Vec<&Service> = near.iter().collect();
    chance.shuffle(&mut targets);
    targets.truncate(chance.below(4) as usize);
    // Two of them as candidates for one need, or each a need of its own.
    if let [first, second, ..] = targets.as_slice()
        && chance.percent(20)
    {
        let own = chance.percent(30) && !service.kind.is_local() && service.kind != Kind::Exclusive;
        // A replica that joins whoever of its own kind is there already.
        let second = if own { service.name.as_str() } else { second.name.as_str() };
        let by_agent = first.kind.is_local() || targets[1].kind.is_local();
        let of = format!("of = [\"{}\", \"{second}\"], count = \"any\"", first.name);
        needs.push(line(chance, "either", &of, by_agent));
        targets.drain(..2);
    }
    for target in targets {
        let count = count(chance, service, target);
        let by_agent = target.kind.is_local() && count != "\"same-node\"";
        needs.push(line(chance, &target.name, &format!("count = {count}"), by_agent));
    }
    needs
}

/// How many of the target's instances: any form that can be met when all is up.
fn count(chance: &mut Chance, service: &Service, target: &Service) -> String {
    let placed = target.on.len() as u64;
    if target.kind == Kind::Exclusive && placed > 1 {
        return "\"any\"".to_owned();
    }
    let zones = |on: &BTreeSet<usize>| on.iter().map(|n| zone(*n)).collect::<BTreeSet<_>>();
    match chance.below(7) {
        0 => "\"all\"".to_owned(),
        1 => "\"quorum\"".to_owned(),
        2 => chance.within(1, placed).to_string(),
        3 if service.on.is_subset(&target.on) => "\"same-node\"".to_owned(),
        4 if let Some(role) = target.kind.role() => format!("\"any {role}\""),
        5 if zones(&service.on).is_subset(&zones(&target.on)) => "\"any\", same = \"zone\"".to_owned(),
        _ => "\"any\"".to_owned(),
    }
}

/// The zone of a node by number: two that lie side by side are in two zones.
fn zone(node: usize) -> char {
    ['a', 'b'][node % 2]
}

fn line(chance: &mut Chance, name: &str, what: &str, by_agent: bool) -> String {
    let mut text = format!("{name} = {{ {what}");
    if by_agent {
        text += ", proof = \"agent\"";
    }
    let seconds = chance.within(1, 120);
    text += &match chance.below(8) {
        0 => format!(", wait = \"{seconds}s\", then = \"start\""),
        1 => format!(", wait = \"{seconds}s\", then = \"fail\""),
        _ => String::new(),
    };
    let grace = chance.within(0, 20);
    text += &match chance.below(5) {
        0 => format!(", on-loss = \"stop\", grace = \"{grace}s\""),
        1 => format!(", on-loss = \"restart\", grace = \"{grace}s\""),
        2 => ", on-loss = \"keep\"".to_owned(),
        _ => String::new(),
    };
    text + " }"
}

/// A unit of its own for each service: its port is the service's, so that any two may share a node.
fn unit(chance: &mut Chance, kind: Kind, service: usize) -> String {
    let port = 20_000 + service;
    let forks = matches!(kind, Kind::Tcp | Kind::Redis) && chance.percent(50);
    let mut text = String::new();
    // Writing to a String cannot fail.
    let mut add = |line: &str| {
        let _ = writeln!(text, "{line}");
    };
    if kind == Kind::Exclusive {
        add("exclusive = true\n");
    }
    add("[run]");
    if forks {
        add("kind = \"forking\"");
    } else if kind == Kind::Oneshot {
        add("kind = \"oneshot\"");
    }
    add(&format!("command = [\"/usr/bin/daemon{service}\"]"));
    let pidfile = forks || (kind != Kind::Oneshot && chance.percent(40));
    if pidfile {
        add(&format!("pidfile = \"/run/daemon{service}.pid\""));
    }
    add("\n[ready]");
    match kind {
        Kind::Tcp => add(&format!("probe = {{ kind = \"tcp\", port = {port} }}")),
        Kind::Http => {
            add(&format!("probe = {{ kind = \"http\", port = {port}, path = \"/\", status = 200 }}"))
        }
        Kind::Mysql => add(&format!("probe = {{ kind = \"mysql\", port = {port}, user = \"clusterd\" }}")),
        Kind::Redis => add(&format!("probe = {{ kind = \"redis\", port = {port} }}")),
        Kind::Running => add("probe = { kind = \"running\", for = \"2s\" }"),
        Kind::Oneshot => {}
        Kind::Exclusive => add(&format!("probe = {{ kind = \"activemq\", port = {port} }}")),
    }
    add(&format!("within = \"{}s\"", chance.within(60, 300)));
    if chance.percent(50) {
        add(&format!("every = \"{}s\"", chance.within(1, 10)));
        add(&format!("lost_after = {}", chance.within(1, 4)));
    }
    add("\n[stop]");
    add(&format!("timeout = \"{}s\"", chance.within(1, 30)));
    add("\n[restart]");
    add(&format!("delay = \"{}s\"", chance.within(1, 3)));
    // A few give up. A need that is met again has them tried anew, or an operator.
    let limit = if chance.percent(20) { chance.within(3, 6) } else { 0 };
    add(&format!("limit = {limit}"));
    if chance.percent(20) {
        add("\n[leftovers]");
        add(&format!("sockets = [\"/run/daemon{service}.sock\"]"));
    }
    text
}

fn file(nodes: usize, services: &[Service]) -> String {
    let mut text = "[cluster]\nname = \"generated\"\n\n[nodes]\n".to_owned();
    for group in 0..nodes.div_ceil(GROUP) {
        let members = group * GROUP..nodes.min((group + 1) * GROUP);
        let members: Vec<_> = members
            .map(|n| {
                format!(
                    "n{n} = {{ address = \"10.1.{}.{}\", labels = {{ zone = \"{}\" }} }}",
                    n / 200,
                    n % 200 + 1,
                    zone(n)
                )
            })
            .collect();
        let _ = writeln!(text, "g{group} = {{ {} }}", members.join(", "));
    }
    for service in services {
        let on: Vec<_> = service.on.iter().map(|n| format!("\"n{n}\"")).collect();
        let _ = writeln!(text, "\n[services.{}]\non = [{}]", service.name, on.join(", "));
        for need in &service.needs {
            let _ = writeln!(text, "needs.{need}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{self, AfterWait, Cluster, Count, OnLoss, RunKind};

    #[test]
    fn every_seed_gives_a_valid_cluster() {
        for seed in 0..300 {
            let sources = cluster(seed, 64);
            if let Err(refused) = model::parse(&sources) {
                panic!("seed {seed}:\n{}\n{refused}", sources.cluster.text);
            }
        }
    }

    #[test]
    fn large_ones_are_valid_too_and_stay_sparse() {
        let all = (0..100).map(|seed| cluster(seed, 2000));
        let largest = all.max_by_key(|sources| sources.cluster.text.len()).unwrap();
        let cluster = model::parse(&largest).unwrap();
        assert!(cluster.nodes.len() > 1000, "{} nodes", cluster.nodes.len());
        let edges: usize = cluster.instance_ixs().map(|ix| edges(&cluster, ix)).sum();
        assert!(edges < cluster.instances.len() * 20, "{edges} edges");
    }

    fn edges(cluster: &Cluster, ix: model::InstanceIx) -> usize {
        let node = cluster.instance(ix).node;
        cluster.needs_of(ix).map(|need| cluster.candidates(need, node).len()).sum()
    }

    /// Over some seeds, everything that a file can say is said.
    #[test]
    fn all_kinds_of_needs_and_units_come_up() {
        let mut seen = BTreeSet::new();
        for seed in 0..60 {
            let cluster = model::parse(&cluster(seed, 32)).unwrap();
            for service in &cluster.services {
                let unit = &cluster.instance(service.instances[0]).unit;
                seen.insert(match unit.run.kind {
                    RunKind::Exec => "exec",
                    RunKind::Forking => "forking",
                    RunKind::Oneshot => "oneshot",
                    RunKind::Notify => "notify",
                    RunKind::Systemd => "systemd",
                });
                if service.exclusive {
                    seen.insert("exclusive");
                }
                for need in &service.needs {
                    seen.insert(match need.count {
                        Count::All => "all",
                        Count::Quorum => "quorum",
                        Count::AtLeast(1) => "any",
                        Count::AtLeast(_) => "number",
                        Count::One => "one",
                        Count::SameNode => "same-node",
                    });
                    seen.insert(match need.wait.map(|w| w.then) {
                        None => "for ever",
                        Some(AfterWait::Start) => "then start",
                        Some(AfterWait::Fail) => "then fail",
                    });
                    seen.insert(match need.on_loss {
                        OnLoss::Keep => "keep",
                        OnLoss::Stop { .. } => "stop",
                        OnLoss::Restart { .. } => "restart",
                    });
                    if need.by_agent {
                        seen.insert("by agent");
                    }
                    if need.same.is_some() {
                        seen.insert("same zone");
                    }
                    if need.role.is_some() {
                        seen.insert("role");
                    }
                    if need.targets.len() > 1 {
                        seen.insert("several");
                    }
                    if need.targets.iter().any(|target| cluster.is_external(*target)) {
                        seen.insert("outside");
                    }
                    if need.targets.contains(&need.dependent) {
                        seen.insert("itself");
                    }
                }
            }
        }
        assert_eq!(seen.len(), 21, "{seen:?}");
    }
}
