//! Checks that only show in the whole: what fights for one file or port, what idles, what can never start.

use super::cluster_file::{ClusterFile, Places};
use super::diag::{Log, Problem, Span};
use super::drafts::Draft;
use super::{Cluster, NodeIx, Probe};
use crate::graph::{Cycle, Graph};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;

/// How many steps the search for single points may take: about 10 ms.
const SEARCH_STEPS: usize = 2_000_000;

/// Two instances of one node with one pid file, or one address that both are asked at.
pub(super) fn conflicts(instances: &[Draft], file: &ClusterFile<'_>, log: &Log) {
    let mut pidfiles: HashMap<(NodeIx, &Path), &Draft> = HashMap::new();
    let mut addresses: HashMap<(NodeIx, SocketAddr), &Draft> = HashMap::new();
    let mut units: HashMap<(NodeIx, &str), &Draft> = HashMap::new();
    let mut commands: HashMap<(NodeIx, &[String]), &Draft> = HashMap::new();
    for draft in instances.iter().filter(|draft| draft.node != NodeIx::OUTSIDE) {
        let Some(unit) = &draft.unit else { continue };
        let mut fought = false;
        if let Some(name) = unit.run.systemd_unit()
            && let Some(other) = units.insert((draft.node, name), draft)
        {
            fight(draft, other, &format!("systemd's {name}"), None, file, log);
            fought = true;
        }
        if let Some(path) = &unit.run.pidfile
            && let Some(other) = pidfiles.insert((draft.node, path), draft)
        {
            fight(draft, other, &format!("the pid file {}", path.display()), draft.pidfile_at, file, log);
            fought = true;
        }
        if let Probe::Ask(question) = &unit.ready.local
            && let Some(address) = question.address()
            && let Some(other) = addresses.insert((draft.node, address), draft)
        {
            fight(draft, other, &format!("the address {address}"), draft.probe_at, file, log);
            fought = true;
        }
        if !unit.run.command.is_empty()
            && let Some(other) = commands.insert((draft.node, &unit.run.command), draft)
            && !fought
        {
            let (first, second) = (service_at(other, file), service_at(draft, file));
            log.warn(
                Problem::new(second, format!("{} and {} run the very same command", other.name, draft.name))
                    .note(first, "the other one")
                    .hint("a unit with a parameter, such as `set.port`, can tell them apart"),
            );
        }
    }
}

fn service_at(draft: &Draft, file: &ClusterFile<'_>) -> Span {
    file.services[draft.service.0 as usize].span
}

fn fight(draft: &Draft, other: &Draft, what: &str, in_unit: Option<Span>, file: &ClusterFile<'_>, log: &Log) {
    let message = format!("{} and {} would fight for {what}", other.name, draft.name);
    let mut problem =
        Problem::new(service_at(draft, file), message).note(service_at(other, file), "the other one");
    if let Some(span) = in_unit {
        problem = problem.note(span, "where the unit says so");
    }
    log.error(problem.hint(
        "make it a parameter: declare it under `[set]` in the unit, use it as `{name}`, and give one service another \
         value with `set.name = …`",
    ));
}

/// Nodes without a service: legal, and probably forgotten.
pub(super) fn idle_nodes(file: &ClusterFile<'_>, log: &Log) {
    let mut busy = vec![false; file.nodes.len()];
    for node in file.services.iter().flat_map(|s| &s.nodes) {
        busy[node.0 as usize] = true;
    }
    for (node, _) in file.nodes.iter().zip(&busy).filter(|(_, busy)| !**busy) {
        if let Some(span) = file.places.span(&node.name) {
            let problem = Problem::new(span, format!("node `{}` has no service", node.name));
            log.warn(problem.hint("place one there, or take the node out"));
        }
    }
}

/// Everything can start when all nodes are up; single points are warned of. False after a complaint.
pub(super) fn order(cluster: &Cluster, places: &Places<'_>, needs: &[Vec<Span>], log: &Log) -> bool {
    let graph = match Graph::new(cluster) {
        Ok(graph) => graph,
        Err(cycle) => {
            log.error(describe(&cycle, cluster, needs));
            return false;
        }
    };
    let place = |hop: &crate::graph::NeedAt| needs[hop.service.0 as usize][hop.need];
    for waived in graph.waived() {
        let need = &cluster.service(waived.service).needs[waived.need];
        let service = &cluster.service(waived.service).name;
        log.warn(
            Problem::new(
                place(waived),
                format!(
                    "`{service}` needs `{}` in a circle, so every boot waits until this need's time is over",
                    need.name
                ),
            )
            .hint("take the need out, or break the circle elsewhere"),
        );
    }
    let points = graph.single_points(cluster, SEARCH_STEPS);
    for point in points.unwrap_or_default() {
        let node = cluster.node(point.node);
        let names: Vec<&str> = point.starved.iter().take(3).map(|i| &*cluster.instance(*i).name).collect();
        let more = match point.starved.len() - names.len() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let message =
            format!("without node `{}` these can never start: {}{more}", node.name, names.join(", "));
        let span = places.span(&node.name).unwrap_or(Span::new(0, 0..0));
        log.warn(Problem::new(span, message));
    }
    true
}

fn describe(cycle: &Cycle, cluster: &Cluster, needs: &[Vec<Span>]) -> Problem {
    let mut path: Vec<&str> = cycle.hops.iter().map(|h| &*cluster.instance(h.instance).name).collect();
    path.extend(path.first().copied());
    let mut spans: Vec<Span> = cycle.hops.iter().map(|h| needs[h.at.service.0 as usize][h.at.need]).collect();
    let mut problem = Problem::new(
        spans.remove(0),
        format!("these wait for each other, so none of them could ever start: {}", path.join(" → ")),
    );
    spans.dedup();
    for span in spans.into_iter().take(8).filter(|s| *s != problem.span).collect::<Vec<_>>() {
        problem = problem.note(span, "and here");
    }
    problem.hint(
        "take one of these needs out, ask for fewer instances (\"any\"), or bound one: { count = \"any\", wait = \"2m\", \
         then = \"start\" }",
    )
}
