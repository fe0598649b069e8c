//! `plan`: how a boot goes, from the cluster file alone: the waves, the longest chain, what was filled in.

use super::text::{BOLD, DIM, Look, paint, plural, put};
use super::{Exit, Global};
use crate::graph::Graph;
use crate::model::{Cluster, InstanceIx, Need, Service};
use crate::probe;

// `clusterctl plan`
#[derive(Debug, clap::Args)]
pub struct PlanArgs {}

pub fn run(_: PlanArgs, global: &Global) -> anyhow::Result<Exit> {
    let cluster = super::load(global)?;
    // A loaded cluster has no cycle: reading refuses it, with the path.
    let graph = Graph::new(&cluster).map_err(|_| anyhow::anyhow!("the needs close a cycle"))?;
    if global.json {
        super::print_json(&json(&cluster, &graph))?;
    } else {
        super::print(&render(&cluster, &graph, &Look::here()))?;
    }
    Ok(Exit::Done)
}

fn name(cluster: &Cluster, ix: InstanceIx) -> &str {
    &cluster.instance(ix).name
}

/// `mysql (any writable)`
fn needed(need: &Need) -> String {
    format!("{} ({need})", need.name)
}

fn render(cluster: &Cluster, graph: &Graph, look: &Look) -> String {
    let mut out = String::new();
    let head = format!(
        "{}: {} on {}, in {}",
        cluster.name,
        plural(cluster.own_count(), "instance"),
        plural(cluster.nodes.len(), "node"),
        plural(graph.waves().len(), "wave")
    );
    put(&mut out, look, 0, &paint(BOLD, &head));
    for (number, wave) in graph.waves().iter().enumerate() {
        let title = if number == 0 { "at once".into() } else { format!("after wave {number}") };
        out.push_str(&format!("\n{} {}\n", paint(BOLD, &format!("wave {}", number + 1)), paint(DIM, &title)));
        for (service, members) in by_service(cluster, wave) {
            let names: Vec<&str> = members.iter().map(|ix| name(cluster, *ix)).collect();
            put(&mut out, look, 2, &names.join(" "));
            let mut needs: Vec<String> = Vec::new();
            for need in members.iter().flat_map(|ix| cluster.needs_of(*ix)).map(needed) {
                if !needs.contains(&need) {
                    needs.push(need);
                }
            }
            if !needs.is_empty() {
                put(&mut out, look, 6, &format!("{service} needs {}", needs.join(", ")));
            }
        }
    }
    if !cluster.outside.instances.is_empty() {
        out.push_str(&format!(
            "\n{} {}\n",
            paint(BOLD, "outside the cluster"),
            paint(DIM, "asked from each dependent's node")
        ));
    }
    for ix in &cluster.outside.instances {
        put(&mut out, look, 2, &outside(cluster, *ix));
    }
    let chain: Vec<&str> = graph.longest_chain(cluster).iter().map(|ix| name(cluster, *ix)).collect();
    if chain.len() > 1 {
        out.push_str(&format!("\n{}\n", paint(BOLD, "longest chain (a boot cannot be faster)")));
        put(&mut out, look, 2, &chain.join(" -> "));
    }
    let waived: Vec<String> = graph
        .waived()
        .iter()
        .map(|at| {
            let service = cluster.service(at.service);
            format!("{} without {}", service.name, service.needs[at.need].name)
        })
        .collect();
    if !waived.is_empty() {
        out.push_str(&format!("\n{}\n", paint(BOLD, "starts only when a bounded wait is over")));
        for line in &waived {
            put(&mut out, look, 2, line);
        }
    }
    let defaults = defaults(cluster);
    if !defaults.is_empty() {
        out.push_str(&format!("\n{}\n", paint(BOLD, "defaults used")));
    }
    for (default, places) in &defaults {
        put(&mut out, look, 2, &format!("{default}: {}", places.join(", ")));
    }
    out
}

/// `dns: the A record of shop.example at 10.0.0.53:53, needed by web`
fn outside(cluster: &Cluster, ix: InstanceIx) -> String {
    let instance = cluster.instance(ix);
    let asked = instance.unit.ready.remote.as_ref().map(|q| probe::asked(&q.ask)).unwrap_or_default();
    let needs = |s: &&Service| s.needs.iter().any(|n| n.targets.contains(&instance.service));
    let by: Vec<&str> = cluster.services.iter().filter(needs).map(|s| s.name.as_str()).collect();
    let by = if by.is_empty() { "needed by nothing".into() } else { format!("needed by {}", by.join(", ")) };
    format!("{}: {asked}, {by}", instance.name)
}

/// Every default with the places that left it out: `restart.delay = 1s: unit redis, mysql, nginx`.
fn defaults(cluster: &Cluster) -> Vec<(String, Vec<&str>)> {
    let mut found: Vec<(String, Vec<&str>)> = Vec::new();
    for default in &cluster.defaults {
        let text = format!("{} = {}", default.key, default.value);
        match found.iter_mut().find(|(known, _)| *known == text) {
            Some((_, places)) => {
                // The kind of place is said once: `unit redis, mysql`.
                let kind = places[0].split_once(' ').map(|(kind, _)| kind);
                let name = default.place.split_once(' ').filter(|(k, _)| Some(*k) == kind);
                places.push(name.map_or(&default.place, |(_, name)| name));
            }
            None => found.push((text, vec![&default.place])),
        }
    }
    found
}

/// The instances of a wave, service by service, in order.
fn by_service<'c>(cluster: &'c Cluster, wave: &[InstanceIx]) -> Vec<(&'c str, Vec<InstanceIx>)> {
    let mut groups: Vec<(&str, Vec<InstanceIx>)> = Vec::new();
    for ix in wave {
        let service = &cluster.service(cluster.instance(*ix).service).name;
        match groups.last_mut() {
            Some((last, members)) if *last == service => members.push(*ix),
            _ => groups.push((service, vec![*ix])),
        }
    }
    groups
}

fn json(cluster: &Cluster, graph: &Graph) -> serde_json::Value {
    let names =
        |ixs: &[InstanceIx]| -> Vec<String> { ixs.iter().map(|ix| name(cluster, *ix).to_owned()).collect() };
    let defaults = cluster.defaults.iter();
    serde_json::json!({
        "cluster": cluster.name,
        "waves": graph.waves().iter().map(|w| names(w)).collect::<Vec<_>>(),
        "outside": names(&cluster.outside.instances),
        "longest_chain": names(&graph.longest_chain(cluster)),
        "defaults": defaults
            .map(|d| serde_json::json!({ "place": d.place, "key": d.key, "value": d.value }))
            .collect::<Vec<_>>(),
    })
}
