//! How a verb reaches the agents: one that asks the others for us, or (`--direct`) all of them side by side.

use super::Global;
use crate::api::client::{Client, ClientError, Target};
use crate::api::tls::Security;
use crate::api::wire::{ClusterStatus, LastHeard, NodeEntry, NodeStatus};
use crate::model::Cluster;
use futures_util::future::join_all;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::time::Duration;

/// Whom the verbs ask.
pub enum Asked {
    /// One agent; the others through it.
    One(Client),
    /// Every agent of the cluster file.
    Each(Vec<Direct>, String),
}

/// One node that is asked directly.
pub struct Direct {
    entry: NodeEntry,
    client: Client,
}

/// With `--direct` a silent node must not keep the others waiting for long.
const DIRECT_WITHIN: Duration = Duration::from_millis(900);

impl Asked {
    /// By the global flags; nothing is connected yet.
    pub fn open(global: &Global) -> anyhow::Result<Asked> {
        if !global.direct {
            return Ok(Asked::One(global.client()?));
        }
        Asked::each(global, &super::load(global)?)
    }

    /// Every agent of a cluster file.
    pub fn each(global: &Global, cluster: &Cluster) -> anyhow::Result<Asked> {
        let security = if cluster.insecure { Security::Plain } else { global.security()? };
        let each = cluster.nodes.iter().map(|node| {
            let placed = cluster.instances.iter().filter(|i| cluster.node(i.node).name == node.name);
            let last = placed.map(|i| LastHeard { instance: i.name.to_string(), state: None, ago_ms: None });
            let entry = NodeEntry {
                node: node.name.clone(),
                group: node.group.clone(),
                address: node.address.to_string(),
                status: None,
                problem: None,
                last: last.collect(),
            };
            let target = Target::from(std::net::SocketAddr::new(node.address, cluster.port));
            Direct {
                entry,
                client: Client::new(target)
                    .secured(security.clone(), Some(&node.name))
                    .within(DIRECT_WITHIN, DIRECT_WITHIN),
            }
        });
        Ok(Asked::Each(each.collect(), cluster.name.clone()))
    }

    /// All nodes side by side.
    pub async fn cluster(&mut self) -> Result<ClusterStatus, ClientError> {
        let (each, name) = match self {
            Asked::One(client) => return client.get("/v1/cluster").await,
            Asked::Each(each, name) => (each, name),
        };
        let nodes = join_all(each.iter_mut().map(|direct| async {
            let mut entry = direct.entry.clone();
            match direct.client.get::<NodeStatus>("/v1/node").await {
                Ok(status) => {
                    entry.status = Some(status);
                    entry.last.clear();
                }
                Err(error) => entry.problem = Some(error.to_string()),
            }
            entry
        }));
        Ok(ClusterStatus { cluster: name.clone(), asked: "this machine".into(), nodes: nodes.await })
    }

    /// A client for one node's agent, and the path there.
    fn route(&self, node: &str, path: &str) -> (Client, String) {
        match self {
            Asked::One(client) => (client.another(), format!("/v1/at/{node}{path}")),
            Asked::Each(each, _) => match each.iter().find(|d| d.entry.node == node) {
                Some(direct) => {
                    let calm = Duration::from_secs(10);
                    (direct.client.another().within(DIRECT_WITHIN, calm), path.into())
                }
                // A name that is not in the file came from an agent with another file: it is not reachable.
                None => (Client::new(Target::Tcp(format!("{node}:0"))), path.into()),
            },
        }
    }

    /// GET of one node's agent.
    pub async fn get_at<T: DeserializeOwned>(&self, node: &str, path: &str) -> Result<T, ClientError> {
        let (mut client, path) = self.route(node, path);
        client.get(&path).await
    }

    /// POST to one node's agent.
    pub async fn post_at<B: Serialize, T: DeserializeOwned>(
        &self,
        node: &str,
        path: &str,
        body: &B,
    ) -> Result<T, ClientError> {
        let (mut client, path) = self.route(node, path);
        client.post(&path, body).await
    }
}
