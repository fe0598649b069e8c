//! Drawing the services of a cluster: DOT, Mermaid, and plain text for a terminal.
//!
//! All three show services, not instances: fourteen nodes are eight boxes.

use super::Graph;
use crate::model::{AfterWait, Cluster, Need, Service, ServiceIx, show_duration};
use std::fmt::Write;

/// How wide the terminal drawing is at most, in columns.
const WIDTH: usize = 80;

/// The services as a DOT graph: `dot -Tsvg`. An arrow leads from a service to what it needs.
pub fn dot(cluster: &Cluster) -> String {
    let mut out = String::from(
        "digraph cluster {\n    rankdir = BT;\n    node [shape = box, fontname = \"sans-serif\"];\n",
    );
    for service in &cluster.services {
        // Names are a-z, 0-9 and `-`, and so need no escapes.
        let _ =
            writeln!(out, "    \"{0}\" [label = \"{0}\\n{1}\"];", service.name, placement(cluster, service));
    }
    for (service, need, target) in edges(cluster) {
        let style = if is_soft(need) { ", style = dashed" } else { "" };
        let _ = writeln!(
            out,
            "    \"{}\" -> \"{}\" [label = \"{}\"{style}];",
            service.name,
            cluster.service(target).name,
            need
        );
    }
    out.push_str("}\n");
    out
}

/// The services as a Mermaid flowchart. An arrow leads from a service to what it needs.
pub fn mermaid(cluster: &Cluster) -> String {
    let mut out = String::from("flowchart BT\n");
    for (i, service) in cluster.services.iter().enumerate() {
        // Numbers as ids: `end` and a few others are words of Mermaid's own.
        let _ = writeln!(out, "    s{i}[\"{}<br/>{}\"]", service.name, placement(cluster, service));
    }
    let number =
        |service: &Service| cluster.services.iter().position(|s| std::ptr::eq(s, service)).unwrap_or(0);
    for (service, need, target) in edges(cluster) {
        let arrow = if is_soft(need) { "-.->" } else { "-->" };
        let _ = writeln!(out, "    s{} {arrow}|{}| s{}", number(service), need, target.0);
    }
    out
}

/// The services wave by wave, top-down, each with what it needs; at most 80 columns wide.
///
/// A service stands in the wave of its last instance.
pub fn terminal(cluster: &Cluster, graph: &Graph) -> String {
    let mut waves: Vec<Vec<&Service>> = vec![Vec::new(); graph.waves().len()];
    for service in &cluster.services {
        if let Some(wave) = service.instances.iter().map(|i| graph.rank(*i)).max() {
            waves[wave as usize].push(service);
        }
    }
    let name_width = cluster.services.iter().map(|s| s.name.len()).max().unwrap_or(0);
    let mut out = String::new();
    for (n, wave) in waves.iter().enumerate().filter(|(_, wave)| !wave.is_empty()) {
        if n > 0 {
            out.push_str("  │\n  ▼\n");
        }
        let _ = writeln!(out, "wave {}", n + 1);
        for service in wave {
            line(&mut out, &format!("  {:name_width$}  ", service.name), &placement(cluster, service));
            for need in &service.needs {
                line(&mut out, "      └─ needs ", &sentence(cluster, need));
            }
        }
    }
    out
}

/// `3 nodes: web1 web2 web3`
fn placement(cluster: &Cluster, service: &Service) -> String {
    let names: Vec<&str> =
        service.instances.iter().map(|i| cluster.node(cluster.instance(*i).node).name.as_str()).collect();
    match names.as_slice() {
        [one] => (*one).to_string(),
        many if many.len() <= 4 => many.join(" "),
        many => format!("{} … {} ({} nodes)", many[0], many[many.len() - 1], many.len()),
    }
}

/// `any writable of mysql, for 2m at most, then without it`
fn sentence(cluster: &Cluster, need: &Need) -> String {
    let names: Vec<&str> = need.targets.iter().map(|t| cluster.service(*t).name.as_str()).collect();
    let comma = if need.same.is_some() { "," } else { "" };
    let mut text = format!("{need}{comma} of {}", names.join(" or "));
    if let Some(nodes) = &need.nodes {
        let names: Vec<&str> = nodes.iter().map(|n| cluster.node(*n).name.as_str()).collect();
        let _ = write!(text, " (on {})", names.join(" "));
    }
    if let Some(wait) = need.wait {
        let then = if wait.then == AfterWait::Start { "without it" } else { "it fails" };
        let _ = write!(text, ", for {} at most, then {then}", show_duration(wait.at_most));
    }
    text
}

/// Whether it starts without it after a while.
fn is_soft(need: &Need) -> bool {
    need.wait.is_some_and(|w| w.then == AfterWait::Start)
}

fn edges(cluster: &Cluster) -> impl Iterator<Item = (&Service, &Need, ServiceIx)> {
    let needs = cluster.services.iter().flat_map(|s| s.needs.iter().map(move |n| (s, n)));
    needs.flat_map(|(s, n)| n.targets.iter().map(move |t| (s, n, *t)))
}

/// Words behind a head, wrapped under themselves.
fn line(out: &mut String, head: &str, words: &str) {
    let indent = head.chars().count();
    let mut column = indent;
    out.push_str(head);
    for (i, word) in words.split(' ').enumerate() {
        let width = word.chars().count();
        if i > 0 && column + 1 + width > WIDTH {
            let _ = write!(out, "\n{:indent$}", "");
            column = indent;
        } else if i > 0 {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += width;
    }
    out.push('\n');
}
