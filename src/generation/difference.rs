//! What a new configuration means for what runs.

use crate::model::{Cluster, Instance, Unit};
use serde_json::Value;

/// What becomes of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fate {
    Starts,
    Stops,
    /// It runs by what has changed, so it is started anew.
    Restarts,
    /// It goes on running; what has changed is in force at once, or from its next start.
    Changes,
    Stays,
}

/// One instance, what becomes of it, and why.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Change {
    /// `service@node`
    pub instance: String,
    pub fate: Fate,
    /// Empty for what stays.
    pub why: String,
    /// Its rank in the order of starting: of the new configuration, or of the old one for what stops.
    #[serde(skip)]
    pub rank: u32,
}

/// What becomes of each instance, in the order of the new file, then what is in the old one only.
pub fn difference(old: &Cluster, new: &Cluster) -> Vec<Change> {
    let (old_ranks, new_ranks) = (crate::graph::Graph::ranks(old), crate::graph::Graph::ranks(new));
    let rank = |ranks: &[u32], ix: usize| ranks.get(ix).copied().unwrap_or(0);
    let mut changes = Vec::new();
    for (ix, instance) in new.instances.iter().enumerate() {
        let (fate, why) = match find(old, &instance.name) {
            None => (Fate::Starts, comes(old, new, instance)),
            Some(before) => goes_on(old, before, new, instance),
        };
        changes.push(Change { instance: instance.name.to_string(), fate, why, rank: rank(&new_ranks, ix) });
    }
    for (ix, instance) in old.instances.iter().enumerate().filter(|(_, i)| find(new, &i.name).is_none()) {
        let instance_name = instance.name.to_string();
        let why = leaves(old, new, instance);
        changes.push(Change { instance: instance_name, fate: Fate::Stops, why, rank: rank(&old_ranks, ix) });
    }
    changes
}

fn find<'c>(cluster: &'c Cluster, name: &str) -> Option<&'c Instance> {
    cluster.instance_named(name).map(|ix| cluster.instance(ix))
}

/// Why an instance is new.
fn comes(old: &Cluster, new: &Cluster, instance: &Instance) -> String {
    let (service, node) = (&new.service(instance.service).name, &new.node(instance.node).name);
    match (old.service_named(service), old.node_named(node)) {
        (None, _) => format!("service {service} is new"),
        (Some(_), None) => format!("node {node} is new"),
        (Some(_), Some(_)) => format!("{service} is placed on {node}, too"),
    }
}

/// Why an instance is no more.
fn leaves(old: &Cluster, new: &Cluster, instance: &Instance) -> String {
    let (service, node) = (&old.service(instance.service).name, &old.node(instance.node).name);
    match (new.service_named(service), new.node_named(node)) {
        (None, _) => format!("service {service} is not in the file any more"),
        (Some(_), None) => format!("node {node} is not in the file any more"),
        (Some(_), Some(_)) => format!("{service} is not placed on {node} any more"),
    }
}

/// What becomes of an instance that both know.
fn goes_on(old: &Cluster, before: &Instance, new: &Cluster, after: &Instance) -> (Fate, String) {
    let run = keys_that_differ("run", &value(&before.unit.run), &value(&after.unit.run));
    if !run.is_empty() {
        return (Fate::Restarts, format!("{} differs", run.join(", ")));
    }
    let mut keys = unit_keys(&before.unit, &after.unit);
    if needs(old, before) != needs(new, after) {
        keys.push("needs".to_owned());
    }
    let address = |cluster: &Cluster, i: &Instance| cluster.node(i.node).address;
    if address(old, before) != address(new, after) {
        keys.push("the node's address".to_owned());
    }
    match keys.is_empty() {
        true => (Fate::Stays, String::new()),
        false => (Fate::Changes, format!("{} differs", keys.join(", "))),
    }
}

/// What differs of two units besides how they are run.
fn unit_keys(before: &Unit, after: &Unit) -> Vec<String> {
    let (before, after) = (value(before), value(after));
    let (Value::Object(b), Value::Object(a)) = (&before, &after) else { return Vec::new() };
    let parts: std::collections::BTreeSet<&String> = b.keys().chain(a.keys()).collect();
    let parts = parts.into_iter().filter(|part| !["name", "run"].contains(&part.as_str()));
    parts.flat_map(|part| keys_that_differ(part, &before[part], &after[part])).collect()
}

/// `run.command`, `run.environment`: the keys below `part` whose values differ, or `part` where it is no table.
fn keys_that_differ(part: &str, before: &Value, after: &Value) -> Vec<String> {
    match (before, after) {
        (Value::Object(b), Value::Object(a)) => {
            let mut keys: Vec<&String> = b.keys().chain(a.keys()).collect();
            keys.sort_unstable();
            keys.dedup();
            keys.retain(|key| b.get(*key) != a.get(*key));
            keys.into_iter().map(|key| format!("{part}.{}", key.trim_end_matches('_'))).collect()
        }
        (b, a) if b == a => Vec::new(),
        _ => vec![part.to_owned()],
    }
}

fn value(of: &impl serde::Serialize) -> Value {
    serde_json::to_value(of).unwrap_or_default()
}

/// The needs of an instance, with nothing that is numbered.
fn needs(cluster: &Cluster, instance: &Instance) -> Vec<String> {
    let ix = cluster.instance_named(&instance.name);
    let needs = ix.into_iter().flat_map(|ix| cluster.needs_of(ix));
    let text = |need: &crate::model::Need| {
        let targets: Vec<&str> = need.targets.iter().map(|t| cluster.service(*t).name.as_str()).collect();
        format!("{} {targets:?} {need} {:?} {:?} {}", need.name, need.wait, need.on_loss, need.by_agent)
    };
    needs.map(text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Source, Sources, parse};

    fn cluster(nodes: &str, services: &str, unit: &str) -> Cluster {
        let source = |path: &str, text: String| Source { path: path.into(), text };
        let file = format!("[cluster]\nname = \"t\"\n[nodes]\n{nodes}\n[services]\n{services}\n");
        let unit = format!("[run]\n{unit}\n[ready]\nprobe = {{ kind = \"tcp\", port = 80 }}\n");
        let db = "[run]\ncommand = [\"/bin/db\"]\n[ready]\nprobe = { kind = \"tcp\", port = 81 }\n";
        let units = [("web", unit), ("db", db.to_owned())];
        let sources = Sources {
            cluster: source("cluster.toml", file),
            folder: "units".into(),
            units: units.map(|(n, text)| (n.to_owned(), source(n, text))).into_iter().collect(),
            unread: Default::default(),
        };
        parse(&sources).unwrap_or_else(|e| panic!("{e}"))
    }

    const NODES: &str = "all = { n1 = \"10.0.0.1\", n2 = \"10.0.0.2\" }";
    const WEB: &str = "web = { on = \"n1\" }\ndb = { on = \"n2\" }";
    const RUN: &str = "command = [\"/bin/web\"]";

    fn told(old: &Cluster, new: &Cluster) -> Vec<String> {
        let told = |c: &Change| format!("{} {:?} {}", c.instance, c.fate, c.why).trim_end().to_owned();
        difference(old, new).iter().map(told).collect()
    }

    #[test]
    fn each_instance_has_a_fate_and_its_reason() {
        let old = cluster(NODES, WEB, RUN);
        let rows = [
            (cluster(NODES, WEB, RUN), vec!["web@n1 Stays", "db@n2 Stays"]),
            (
                cluster(NODES, "web = { on = \"all\" }\ndb = { on = \"n2\" }", RUN),
                vec!["web@n1 Stays", "web@n2 Starts web is placed on n2, too", "db@n2 Stays"],
            ),
            (
                cluster("all = { n1 = \"10.0.0.1\" }", "web = { on = \"n1\" }", RUN),
                vec!["web@n1 Stays", "db@n2 Stops service db is not in the file any more"],
            ),
            (
                cluster(NODES, "web = { on = \"n2\" }\ndb = { on = \"n2\" }", RUN),
                vec![
                    "web@n2 Starts web is placed on n2, too",
                    "db@n2 Stays",
                    "web@n1 Stops web is not placed on n1 any more",
                ],
            ),
            (
                cluster(NODES, WEB, "command = [\"/bin/web\", \"-x\"]\nnice = 5"),
                vec!["web@n1 Restarts run.care, run.command differs", "db@n2 Stays"],
            ),
            (
                cluster(NODES, WEB, &format!("{RUN}\n[stop]\ntimeout = \"9s\"")),
                vec!["web@n1 Changes stop.timeout differs", "db@n2 Stays"],
            ),
            (
                cluster(NODES, "web = { on = \"n1\", needs.db = \"any\" }\ndb = { on = \"n2\" }", RUN),
                vec!["web@n1 Changes needs differs", "db@n2 Stays"],
            ),
        ];
        for (new, wanted) in rows {
            assert_eq!(told(&old, &new), wanted);
        }
    }

    #[test]
    fn what_stops_has_the_rank_that_it_had() {
        let old = cluster(NODES, "web = { on = \"n1\", needs.db = \"any\" }\ndb = { on = \"n2\" }", RUN);
        let new = cluster("all = { n1 = \"10.0.0.1\" }", "other = { on = \"n1\", unit = \"web\" }", RUN);
        let ranks: Vec<(String, u32)> =
            difference(&old, &new).into_iter().map(|c| (c.instance, c.rank)).collect();
        assert_eq!(ranks, [("other@n1".into(), 0), ("web@n1".into(), 1), ("db@n2".into(), 0)]);
    }
}
