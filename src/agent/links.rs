//! The other agents: a stream from each neighbour, and a warm connection for calls to any.

use super::shell::{Message, Shell};
use crate::api::client::{Client, ClientError, Target};
use crate::api::tls::Security;
use crate::api::wire::PeerLine;
use crate::model::{Cluster, NodeIx};
use bytes::Bytes;
use hyper::{Method, StatusCode};
use serde::de::DeserializeOwned;
use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::task::AbortHandle;

/// How soon a lost stream is tried again: quickly at first, since a peer that boots is what everybody waits for.
const FOLLOW_AGAIN: Duration = Duration::from_millis(100);
const FOLLOW_AGAIN_AT_MOST: Duration = Duration::from_secs(2);

/// A connection to another agent that stays open between calls.
pub struct Link {
    client: Mutex<Client>,
}

impl Link {
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.client.lock().await.get(path).await
    }

    /// Any call on behalf of somebody, its answer undigested.
    pub async fn call(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        on_behalf: &str,
    ) -> Result<(StatusCode, Bytes), ClientError> {
        self.client.lock().await.raw(method, path, body, Some(on_behalf)).await
    }
}

/// All links of one configuration.
#[derive(Default)]
pub struct Links {
    warm: RefCell<HashMap<NodeIx, Rc<Link>>>,
    followers: RefCell<Vec<AbortHandle>>,
}

impl Links {
    /// The link to a node's agent; it connects at its first call.
    pub fn get(&self, cluster: &Cluster, node: NodeIx, security: &Security) -> Rc<Link> {
        let mut warm = self.warm.borrow_mut();
        let new = || Rc::new(Link { client: Mutex::new(client(cluster, node, security.clone())) });
        warm.entry(node).or_insert_with(new).clone()
    }

    /// Drops everything: the nodes are numbered anew.
    pub fn forget(&self) {
        self.warm.borrow_mut().clear();
        self.followers.borrow_mut().drain(..).for_each(|follower| follower.abort());
    }
}

/// A client of a node's agent, which must show that it is that node's.
fn client(cluster: &Cluster, node: NodeIx, security: Security) -> Client {
    let node = cluster.node(node);
    Client::new(Target::from(SocketAddr::new(node.address, cluster.port))).secured(security, Some(&node.name))
}

impl Shell {
    /// The link to a node's agent.
    pub fn link(&self, node: NodeIx) -> Rc<Link> {
        self.links.get(&self.cluster(), node, &self.security.borrow())
    }
}

/// Follows the stream of every agent whose word matters here.
pub fn follow_peers(shell: &Rc<Shell>) {
    let cluster = shell.cluster();
    let me = shell.node_name();
    let security = shell.security.borrow().clone();
    if matches!(security, Security::Missing) {
        return; // nobody would listen; this is done again once there is a certificate
    }
    for node in shell.engine.borrow().neighbours() {
        let name = cluster.node(node).name.clone();
        let client = client(&cluster, node, security.clone());
        let follower = follow(shell.clone(), name, me.clone(), client);
        let task = tokio::task::spawn_local(follower);
        shell.links.followers.borrow_mut().push(task.abort_handle());
    }
}

/// Follows one agent's stream for ever.
async fn follow(shell: Rc<Shell>, node: String, me: String, client: Client) {
    let path = format!("/v1/watch?node={me}");
    let mut pause = FOLLOW_AGAIN;
    loop {
        match client.lines(&path).await {
            Ok(mut lines) => {
                pause = FOLLOW_AGAIN;
                let why = loop {
                    match lines.next().await {
                        Ok(Some(line)) => match serde_json::from_slice::<PeerLine>(&line) {
                            // One node never speaks for another.
                            Ok(line) if line.node == node => {
                                if line.config != shell.cluster().hash {
                                    shell.differs.notify_one();
                                }
                                let _ =
                                    shell.messages.send(Message::PeerSaid { node: node.clone(), line }).await;
                            }
                            Ok(line) => break format!("it says that it is {}", line.node),
                            Err(e) => break format!("it sent what is no line of a peer stream: {e}"),
                        },
                        Ok(None) => break "it ended the stream".to_owned(),
                        Err(e) => break e.to_string(),
                    }
                };
                tracing::info!("lost the agent of {node}: {why}");
                let _ = shell.messages.send(Message::PeerLost { node: node.clone() }).await;
            }
            Err(e) => tracing::debug!("no stream from the agent of {node}: {e}"),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(FOLLOW_AGAIN_AT_MOST);
    }
}
