//! What this agent finds wrong: on its own machine, and where it reaches the others.

use super::serve::Api;
use super::shell::Shell;
use crate::api::wire::{DoctorReport, NodeStatus, PeerSeen, Refusal};
use crate::clock;
use crate::doctor::{self, Diagnosis, Patient};
use crate::model::NodeIx;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::sync::Semaphore;

/// How long another agent has to answer.
const ASK_WITHIN: Duration = Duration::from_secs(2);
/// Looking takes a thread, and may take systemd: one at a time.
static ROOM: Semaphore = Semaphore::const_new(1);

impl Api {
    pub async fn examine(&self) -> Result<DoctorReport, Refusal> {
        // Whoever comes waits: nobody has many in the line.
        let _room = ROOM.acquire().await;
        let shell = &self.0;
        let (found, peers) = tokio::join!(self.own(), self.peers());
        let claims = shell.namesakes.borrow_mut().claims(clock::now());
        Ok(DoctorReport { node: shell.node_name(), id: shell.id.clone(), found, peers, claims })
    }

    async fn own(&self) -> Vec<Diagnosis> {
        let shell = &self.0;
        let (cluster, node) = (shell.cluster(), shell.engine.borrow().node());
        let folders = vec![shell.places.state.clone(), shell.places.run.clone()];
        let running = shell.running();
        let look = tokio::task::spawn_blocking(move || {
            let root = "/".into();
            doctor::examine(&Patient { cluster: &cluster, node, root, folders, running })
        });
        look.await.unwrap_or_default()
    }

    async fn peers(&self) -> Vec<PeerSeen> {
        let (cluster, me) = (self.0.cluster(), self.0.engine.borrow().node());
        let others = (0..cluster.nodes.len() as u32).map(NodeIx).filter(|node| *node != me);
        let asks = others.map(|ix| {
            let (link, node) = (self.0.link(ix), cluster.node(ix).name.clone());
            let address = SocketAddr::new(cluster.node(ix).address, cluster.port).to_string();
            async move {
                let ask = link.get::<NodeStatus>("/v1/node");
                let (id, trouble) = match tokio::time::timeout(ASK_WITHIN, ask).await {
                    Ok(Ok(status)) => (Some(status.id).filter(|id| !id.is_empty()), None),
                    Ok(Err(e)) => (None, Some(e.to_string())),
                    Err(_) => (None, Some(format!("no answer within {} s", ASK_WITHIN.as_secs()))),
                };
                PeerSeen { node, address, id, trouble }
            }
        });
        futures_util::future::join_all(asks).await
    }
}

impl Shell {
    /// The instances that have a process.
    fn running(&self) -> Vec<String> {
        let by_systemd = self.systemd.running();
        self.held.borrow().keys().map(ToString::to_string).chain(by_systemd).collect()
    }
}
