//! The other agents: a stream from each neighbour, and a warm connection for calls to any.

use super::shell::{Message, Shell};
use super::vips;
use crate::api::client::{Client, ClientError, Lines, Target};
use crate::api::tls::Security;
use crate::api::wire;
use crate::crash;
use crate::model::{Cluster, NodeIx};
use bytes::Bytes;
use hyper::{Method, StatusCode};
use serde::de::DeserializeOwned;
use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, Semaphore};
use tokio::task::AbortHandle;
use tokio::time::Instant;

/// How soon a lost stream is tried again: quickly at first, since a peer that boots is what everybody waits for.
const FOLLOW_AGAIN: Duration = Duration::from_millis(100);
const FOLLOW_AGAIN_AT_MOST: Duration = Duration::from_secs(2);

/// How seldom a peer that sends garbage is tried again, and how long it must be sound to be trusted again.
const GARBLED_AT_MOST: Duration = Duration::from_secs(30);
const SOUND_AFTER: Duration = Duration::from_secs(60);
/// Lines of one peer that may wait for the main loop.
const LINES_UNDER_WAY: usize = 4;
/// After so many bytes of a peer's lines, each counted with what it costs beyond them, there is a pause: 20 MiB, or
/// 5,000 lines a second.
const BYTES_AT_ONCE: usize = 200 << 10;
const LINE_COSTS: usize = 4 << 10;
const BREATH: Duration = Duration::from_millis(10);
/// The longest answer that is taken from another agent, in bytes: ten thousand instances on its node.
const LONGEST_ANSWER: usize = 8 << 20;

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
    let target = Target::from(SocketAddr::new(node.address, cluster.port));
    Client::new(target).secured(security, Some(&node.name)).at_most(LONGEST_ANSWER)
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
    let needed = shell.engine.borrow().neighbours();
    let directors = vips::directors_to_hear(&cluster, shell.engine.borrow().node());
    for node in needed.union(&directors).copied() {
        let needed = needed.contains(&node);
        let name = cluster.node(node).name.clone();
        let client = client(&cluster, node, security.clone());
        let (following, me) = (shell.clone(), me.clone());
        let task = shell.carry("the one that follows another agent", move || {
            follow(following.clone(), name.clone(), me.clone(), client.another(), needed)
        });
        shell.links.followers.borrow_mut().push(task);
    }
}

/// Follows one agent's stream for ever. `needed` says that the engine listens, too.
async fn follow(shell: Rc<Shell>, node: String, me: String, client: Client, needed: bool) {
    let path = format!("/v1/watch?node={me}");
    let places = Arc::new(Semaphore::new(LINES_UNDER_WAY));
    let (mut pause, mut garbled) = (FOLLOW_AGAIN, Garbled::default());
    let mut refused = false;
    loop {
        match client.lines(&path).await {
            Ok(mut lines) => {
                let begun = Instant::now();
                refused = false;
                let mut heard = false;
                let end = listen(&shell, (&node, needed), &places, &mut lines, &mut heard).await;
                // It reads no more of it: what else is under way there is not wanted.
                drop(lines);
                pause = garbled.pause(&end, begun.elapsed());
                match end {
                    End::Lost(why) => tracing::info!("lost the agent of {node}: {why}"),
                    End::Garbled(why) => {
                        if garbled.is_news(&why) {
                            let text = format!(
                                "the agent of {node} is not listened to for a while, and then again: {why}"
                            );
                            let data = serde_json::json!({ "node": node });
                            shell.events.borrow_mut().record("", "peer-garbled", &text, data);
                        }
                    }
                }
                if heard {
                    let _ = shell.messages.send(Message::PeerLost { node: node.clone(), needed }).await;
                }
            }
            Err(e) => {
                tracing::debug!("no stream from the agent of {node}: {e}");
                if e.is_refused_connection() != refused {
                    refused = !refused;
                    let node = node.clone();
                    let told = if refused {
                        Message::PeerRefused { node }
                    } else {
                        Message::PeerLost { node, needed: false }
                    };
                    let _ = shell.messages.send(told).await;
                }
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(garbled.at_most());
    }
}

/// How a stream came to its end.
enum End {
    Lost(String),
    /// It said what no agent would say.
    Garbled(String),
}

/// Hears a stream to its end, and whether it said anything.
async fn listen(
    shell: &Shell,
    (node, needed): (&str, bool),
    places: &Arc<Semaphore>,
    lines: &mut Lines,
    heard: &mut bool,
) -> End {
    let mut bytes = 0;
    loop {
        let line = match lines.next().await {
            Ok(Some(line)) => line,
            Ok(None) => return End::Lost("it ended the stream".to_owned()),
            Err(e @ ClientError::LineTooLong { .. }) => return End::Garbled(e.to_string()),
            Err(e) => return End::Lost(e.to_string()),
        };
        crash::trip("follower");
        // One node never speaks for another.
        let said = match wire::peer_line(&line, node) {
            Ok(said) => said,
            Err(why) => return End::Garbled(why),
        };
        if said.config != shell.cluster().hash {
            shell.differs.notify_one();
        }
        let Ok(place) = places.clone().acquire_owned().await else { continue }; // it is never closed
        let said = Message::PeerSaid { node: node.to_owned(), line: said, needed, _place: place };
        *heard = true;
        let _ = shell.messages.send(said).await;
        // Whoever speaks without end is heard at a pace that leaves time for the others.
        bytes += line.len() + LINE_COSTS;
        if bytes >= BYTES_AT_ONCE {
            bytes = 0;
            tokio::time::sleep(BREATH).await;
        }
    }
}

/// What is kept of a peer that sends garbage.
#[derive(Default)]
struct Garbled {
    times: u32,
    said: Option<String>,
}

impl Garbled {
    /// How long to wait now: longer each time that it was garbage; what is sound for a while is trusted again.
    fn pause(&mut self, end: &End, lived: Duration) -> Duration {
        if lived >= SOUND_AFTER {
            *self = Garbled::default();
        }
        if matches!(end, End::Garbled(_)) {
            self.times += 1;
        }
        match self.times {
            0 => FOLLOW_AGAIN,
            times => (FOLLOW_AGAIN * 2_u32.saturating_pow(times.min(16))).min(GARBLED_AT_MOST),
        }
    }

    /// Whether it has not been said yet. The same garbage is said once, whatever its last byte.
    fn is_news(&mut self, why: &str) -> bool {
        let kind = why.split(':').next().unwrap_or_default().to_owned();
        let news = self.said.as_ref() != Some(&kind);
        self.said = Some(kind);
        news
    }

    fn at_most(&self) -> Duration {
        if self.times == 0 { FOLLOW_AGAIN_AT_MOST } else { GARBLED_AT_MOST }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn garbage_is_tried_again_less_and_less_often_and_said_once() {
        let mut garbled = Garbled::default();
        let bad = |text: &str| End::Garbled(text.to_owned());
        let pauses: Vec<_> = (0..12).map(|_| garbled.pause(&bad("x"), Duration::ZERO).as_millis()).collect();
        assert_eq!(pauses[..3], [200, 400, 800]);
        assert_eq!(pauses[11], GARBLED_AT_MOST.as_millis());
        assert!(garbled.is_news("it sent what is no line: at 7"));
        assert!(!garbled.is_news("it sent what is no line: at 8"));
        assert!(garbled.is_news("it says that it is web2"));
        // Between two bad ones it may be lost; after a sound while it is as any other.
        let lost = End::Lost("it ended the stream".to_owned());
        assert_eq!(garbled.pause(&lost, Duration::ZERO), GARBLED_AT_MOST);
        assert_eq!(garbled.pause(&lost, SOUND_AFTER), FOLLOW_AGAIN);
    }
}
