//! What the lab's tests ask of the agents: status, events, explanations.

use super::harness::Lab;
use super::host::Host;
use clusterd::api::wire::{ClusterStatus, EventRecord, NodeEntry};
use clusterd::engine::view::{InstanceView, NeedView, StateName};
use std::time::Duration;

/// All the fourteen nodes on two cores, brokers with a lease of ten seconds to wait for among them.
pub const BOOT: Duration = Duration::from_secs(120);

/// An event and the node whose agent recorded it.
#[derive(Clone, Debug, serde::Deserialize)]
pub struct Told {
    pub node: String,
    pub event: EventRecord,
}

impl Host {
    /// The whole cluster, as this host's agent collects it.
    pub fn status(&self) -> Result<ClusterStatus, String> {
        let output = self.clusterctl(&["status", "--json"]);
        serde_json::from_slice(&output.stdout).map_err(|e| {
            format!("no status from {}: {e}: {}", self.name, String::from_utf8_lossy(&output.stderr))
        })
    }

    /// The explanation of one instance, as an operator on this host reads it.
    pub fn why(&self, instance: &str) -> String {
        let output = self.clusterctl(&["why", instance]);
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    }

    /// What happened on all nodes that answer, each node's in its own order.
    pub fn events(&self) -> Vec<Told> {
        let output = self.clusterctl(&["events", "--json", "-n", "1000000"]);
        let text = String::from_utf8_lossy(&output.stdout);
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
            .collect()
    }
}

impl Lab {
    /// Waits until all instances on all hosts but these are up: ready, but for the broker that stands by.
    pub fn wait_all_up(&self, dark: &[&str]) -> ClusterStatus {
        let asked = self.hosts_without(dark).last().expect("a host is on");
        self.wait("all come up", BOOT, || all_up(asked.status()?, dark))
    }
}

fn all_up(status: ClusterStatus, dark: &[&str]) -> Result<ClusterStatus, String> {
    let mut missing = Vec::new();
    let (mut brokers, mut standing_by) = (0, 0);
    for node in status.nodes.iter().filter(|n| !dark.contains(&n.node.as_str())) {
        let Some(own) = &node.status else {
            missing.push(format!("{}: {}", node.node, node.problem.as_deref().unwrap_or("no answer")));
            continue;
        };
        for view in &own.instances {
            let broker = view.instance.starts_with("activemq@");
            brokers += usize::from(broker);
            standing_by += usize::from(broker && view.state == StateName::Standby);
            if view.state != StateName::Ready && !(broker && view.state == StateName::Standby) {
                missing.push(format!("{} is {} ({})", view.instance, view.state, view.reason));
            }
        }
    }
    if brokers > 0 && standing_by != brokers - 1 {
        missing.push(format!("{standing_by} of {brokers} brokers stand by"));
    }
    if missing.is_empty() { Ok(status) } else { Err(missing.join("; ")) }
}

/// One node of a status.
pub fn node<'a>(status: &'a ClusterStatus, name: &str) -> &'a NodeEntry {
    status.nodes.iter().find(|n| n.node == name).unwrap_or_else(|| panic!("no node {name} in the status"))
}

/// One instance of a status; an error when its agent does not answer.
pub fn view<'a>(status: &'a ClusterStatus, instance: &str) -> Result<&'a InstanceView, String> {
    let (_, name) = instance.split_once('@').expect("service@node");
    let node = node(status, name);
    let own = node.status.as_ref().ok_or_else(|| format!("{name}: {:?}", node.problem))?;
    own.instances.iter().find(|v| v.instance == instance).ok_or_else(|| format!("no {instance}"))
}

/// One need of an instance.
pub fn need<'a>(view: &'a InstanceView, name: &str) -> &'a NeedView {
    view.needs
        .iter()
        .find(|n| n.name == name)
        .unwrap_or_else(|| panic!("{} has no need {name}", view.instance))
}
