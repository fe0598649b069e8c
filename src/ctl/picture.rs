//! A [`ClusterStatus`] made easy to ask: who is called what, and what is known of it.

use crate::api::wire::{ClusterStatus, LastHeard, NodeEntry};
use crate::engine::view::{EdgeView, InstanceView, StateName};
use std::collections::BTreeMap;

/// What is known of one instance.
#[derive(Clone, Copy, Debug)]
pub enum Known<'a> {
    /// Its own agent tells.
    Heard(&'a NodeEntry, &'a InstanceView),
    /// Its agent does not answer.
    Silent(&'a NodeEntry, &'a LastHeard),
}

impl<'a> Known<'a> {
    /// `service@node`
    pub fn name(self) -> &'a str {
        match self {
            Known::Heard(_, view) => &view.instance,
            Known::Silent(_, last) => &last.instance,
        }
    }

    pub fn node(self) -> &'a NodeEntry {
        match self {
            Known::Heard(node, _) | Known::Silent(node, _) => node,
        }
    }

    pub fn state(self) -> StateName {
        match self {
            Known::Heard(_, view) => view.state,
            Known::Silent(..) => StateName::Unknown,
        }
    }

    pub fn view(self) -> Option<&'a InstanceView> {
        match self {
            Known::Heard(_, view) => Some(view),
            Known::Silent(..) => None,
        }
    }

    pub fn is_up(self) -> bool {
        self.state().is_up()
    }
}

/// All instances, node by node, as the status has them.
pub fn instances(status: &ClusterStatus) -> impl Iterator<Item = Known<'_>> {
    status.nodes.iter().flat_map(of_node)
}

/// The instances of one node.
pub fn of_node(node: &NodeEntry) -> impl Iterator<Item = Known<'_>> {
    let heard = node.status.iter().flat_map(|s| &s.instances).map(move |v| Known::Heard(node, v));
    let silent = node.status.is_none().then_some(&node.last).into_iter().flatten();
    heard.chain(silent.map(move |l| Known::Silent(node, l)))
}

/// The instance of this name.
pub fn find<'a>(status: &'a ClusterStatus, instance: &str) -> Option<Known<'a>> {
    let node = node_of(instance);
    status.nodes.iter().filter(|n| n.node == node).flat_map(of_node).find(|k| k.name() == instance)
}

/// What is outside the cluster, by name, each with who asks it: the dependent and its edge. Only dependents tell of it.
pub fn outside(status: &ClusterStatus) -> BTreeMap<&str, Vec<(&str, &EdgeView)>> {
    let mut all: BTreeMap<&str, Vec<(&str, &EdgeView)>> = BTreeMap::new();
    for view in instances(status).filter_map(Known::view) {
        for edge in view.needs.iter().flat_map(|n| &n.edges).filter(|e| !e.to.contains('@')) {
            all.entry(&edge.to).or_default().push((&view.instance, edge));
        }
    }
    all
}

/// `redis@redis1` → `redis`
pub fn service_of(instance: &str) -> &str {
    instance.split_once('@').map_or(instance, |(service, _)| service)
}

/// `redis@redis1` → `redis1`
pub fn node_of(instance: &str) -> &str {
    instance.split_once('@').map_or("", |(_, node)| node)
}

/// What a silent node's problem is, in words.
pub fn silence(node: &NodeEntry) -> String {
    node.problem.clone().unwrap_or_else(|| "its agent does not answer".into())
}

/// What an operator named: an instance, a service, a node, a group (in this order of precedence), or with a
/// leading `@` a node or group for certain. All instances when nothing is named; in the order of the status.
pub fn select<'a>(status: &'a ClusterStatus, names: &[String]) -> Result<Vec<Known<'a>>, UnknownName> {
    if names.is_empty() {
        return Ok(instances(status).collect());
    }
    let mut chosen: Vec<Known<'a>> = Vec::new();
    for name in names {
        let matched = matching(status, name).ok_or_else(|| UnknownName::new(status, name))?;
        for known in matched {
            if !chosen.iter().any(|c| c.name() == known.name()) {
                chosen.push(known);
            }
        }
    }
    Ok(chosen)
}

/// As [`select`], for who only looks: what is outside the cluster is nobody's to steer, and its name means those who
/// need it.
pub fn select_to_see<'a>(status: &'a ClusterStatus, names: &[String]) -> Result<Vec<Known<'a>>, UnknownName> {
    let outside = outside(status);
    let mut meant = Vec::new();
    for name in names {
        match outside.get(name.as_str()) {
            Some(asked) => meant.extend(asked.iter().map(|(dependent, _)| (*dependent).to_owned())),
            None => meant.push(name.clone()),
        }
    }
    select(status, &meant).map_err(|unknown| match unknown.meant {
        Some(_) => unknown,
        None => UnknownName { meant: nearest(&unknown.name, outside.into_keys()), ..unknown },
    })
}

fn matching<'a>(status: &'a ClusterStatus, name: &str) -> Option<Vec<Known<'a>>> {
    let (place, only_place) = name.strip_prefix('@').map_or((name, false), |place| (place, true));
    if !only_place {
        if let Some(known) = find(status, name) {
            return Some(vec![known]);
        }
        let service: Vec<_> = instances(status).filter(|k| service_of(k.name()) == name).collect();
        if !service.is_empty() {
            return Some(service);
        }
    }
    let of = |wanted: &dyn Fn(&NodeEntry) -> bool| {
        let nodes: Vec<_> = status.nodes.iter().filter(|n| wanted(n)).collect();
        (!nodes.is_empty()).then(|| nodes.into_iter().flat_map(of_node).collect())
    };
    of(&|n| n.node == place).or_else(|| of(&|n| n.group == place))
}

/// Nothing is called that.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("no instance, service, node or group is called '{name}'")]
pub struct UnknownName {
    pub name: String,
    /// The nearest name that there is.
    pub meant: Option<String>,
}

impl UnknownName {
    fn new(status: &ClusterStatus, name: &str) -> UnknownName {
        let mut names: Vec<&str> = Vec::new();
        for node in &status.nodes {
            names.extend([node.node.as_str(), node.group.as_str()]);
            for known in of_node(node) {
                names.extend([known.name(), service_of(known.name())]);
            }
        }
        UnknownName { name: name.into(), meant: nearest(name, names) }
    }

    /// What to type instead.
    pub fn hint(&self) -> String {
        match &self.meant {
            Some(meant) => format!("did you mean '{meant}'?"),
            None => "clusterctl status names them all".into(),
        }
    }
}

/// Of these names the one that was probably meant.
pub fn nearest<'a>(name: &str, names: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let nearest = names.into_iter().map(|n| (distance(n, name), n.len().abs_diff(name.len()), n)).min();
    nearest.filter(|(d, _, n)| *d <= 1 + n.len() / 3).map(|(.., n)| n.to_owned())
}

/// How many letters must be added, removed or changed (Levenshtein), over bytes.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut corner = i;
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let changed = corner + usize::from(x != y);
            corner = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(corner + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::super::fixture::*;
    use super::*;

    fn cluster() -> ClusterStatus {
        status(vec![
            node("data", "redis1", vec![ready("redis@redis1"), ready("sentinel@redis1")]),
            node("redis", "r2", vec![ready("redis@r2")]),
            silent("data", "d3", vec![("mysql@d3", None)]),
        ])
    }

    fn names(status: &ClusterStatus, asked: &str) -> Vec<String> {
        select(status, &[asked.into()]).unwrap().iter().map(|k| k.name().to_owned()).collect()
    }

    #[test]
    fn names_are_instances_services_nodes_and_groups_in_this_order() {
        let status = cluster();
        assert_eq!(names(&status, "redis@r2"), ["redis@r2"]);
        assert_eq!(names(&status, "redis"), ["redis@redis1", "redis@r2"]);
        assert_eq!(names(&status, "@redis"), ["redis@r2"]);
        assert_eq!(names(&status, "redis1"), ["redis@redis1", "sentinel@redis1"]);
        assert_eq!(names(&status, "data"), ["redis@redis1", "sentinel@redis1", "mysql@d3"]);
        assert_eq!(select(&status, &[]).unwrap().len(), 4);
    }

    #[test]
    fn an_unknown_name_suggests_the_nearest() {
        let error = select(&cluster(), &["redsi1".into()]).unwrap_err();
        assert_eq!(error.to_string(), "no instance, service, node or group is called 'redsi1'");
        assert_eq!(error.hint(), "did you mean 'redis1'?");
        assert_eq!(
            select(&cluster(), &["zzzzzz".into()]).unwrap_err().hint(),
            "clusterctl status names them all"
        );
    }
}
