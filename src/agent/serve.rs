//! What the API asks of this agent.

use super::events;
use super::generations::Configure;
use super::shell::{Message, Shell};
use crate::api::caller::Caller;
use crate::api::server::Agent;
use crate::api::tls::Security;
use crate::api::wire::*;
use crate::clock;
use crate::facts::{Cleaned, Report};
use crate::generation::{Generation, Offer};
use crate::leftover::Mode;
use crate::model::{InstanceIx, NodeIx};
use crate::probe::by_hand;
use crate::trail::{Deed, Page};
use bytes::Bytes;
use hyper::{Method, StatusCode};
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc, oneshot};

/// How long the other agents have to answer when the whole cluster is asked: a black-holed node must not keep the
/// operator waiting.
const ASK_ALL: Duration = Duration::from_millis(700);
/// How long another agent has for a relayed call.
const RELAY: Duration = Duration::from_secs(5);

/// The longest that a question asked by hand may take: less than a relayed call.
const BY_HAND: Duration = Duration::from_secs(4);
/// How many questions by hand may be under way. Each is a connection to somebody else's daemon.
static HANDS: Semaphore = Semaphore::const_new(4);

/// The shell as the API sees it.
#[derive(Clone)]
pub struct Api(pub Rc<Shell>);

impl Api {
    fn node_entry(&self, ix: NodeIx, answer: Result<NodeStatus, String>) -> NodeEntry {
        let cluster = self.0.cluster();
        let node = cluster.node(ix);
        let (status, problem) = match answer {
            Ok(status) if status.node != node.name => (
                None,
                Some(format!(
                    "the agent there says that it is {}",
                    status.node.escape_debug().take(64).collect::<String>()
                )),
            ),
            Ok(mut status) => {
                // Nobody tells of what is another node's.
                let home = |name: &str| cluster.instance_named(name).map(|i| cluster.instance(i).node);
                status.instances.retain(|view| home(&view.instance).is_none_or(|node| node == ix));
                (Some(status), None)
            }
            Err(problem) => (None, Some(problem)),
        };
        let last = if status.is_some() { Vec::new() } else { self.last_heard(ix) };
        NodeEntry {
            node: node.name.clone(),
            group: node.group.clone(),
            address: node.address.to_string(),
            status,
            problem,
            last,
        }
    }

    fn last_heard(&self, node: NodeIx) -> Vec<LastHeard> {
        let (engine, now) = (self.0.engine.borrow(), clock::now());
        let cluster = engine.cluster();
        let there = cluster.node(node).instances.iter();
        there
            .map(|i| {
                let last = engine.last_heard(*i, now);
                LastHeard {
                    instance: cluster.instance(*i).name.to_string(),
                    state: last.map(|(state, _)| state),
                    ago_ms: last.map(|(_, ago)| ago),
                }
            })
            .collect()
    }

    async fn configure(&self, what: Configure) -> Result<ReloadReply, Refusal> {
        // Through the loop, which then sleeps no longer than the new configuration wants.
        let (reply, answer) = oneshot::channel();
        self.0.messages.send(Message::Configure { what, reply }).await.map_err(|_| ending())?;
        answer.await.map_err(|_| ending())?
    }

    fn own_instances(&self) -> Vec<InstanceIx> {
        self.0.engine.borrow().own_instances().collect()
    }
}

impl Agent for Api {
    fn node(&self) -> NodeStatus {
        let (engine, now) = (self.0.engine.borrow(), clock::now());
        let mut problems: Vec<_> = self.0.problems.borrow().values().cloned().collect();
        problems.extend(self.0.clerk.problem(&self.0.places.state));
        problems.extend(self.0.events.borrow().problem());
        problems.extend(self.0.trail.problem());
        problems.sort();
        let own = engine.own_instances().filter_map(|i| engine.view(i, now));
        NodeStatus {
            node: engine.cluster().node(engine.node()).name.clone(),
            id: self.0.id.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            up_ms: now.since(self.0.started).as_millis() as u64,
            clock_ms: events::wall_clock(),
            config: engine.cluster().hash.clone(),
            generation: self.0.in_force.borrow().generation.shown(),
            problems,
            instances: own.chain(self.0.orphan_views()).collect(),
            vips: self.0.vip_views(),
        }
    }

    fn is_of(&self, node: &str) -> bool {
        self.0.node_name() == node
    }

    async fn cluster(&self) -> ClusterStatus {
        let cluster = self.0.cluster();
        let me = self.0.engine.borrow().node();
        let nodes = (0..cluster.nodes.len() as u32).map(NodeIx);
        let asks = nodes.map(|ix| {
            let name = cluster.node(ix).name.clone();
            async move {
                let answer = if ix == me {
                    Ok(self.node())
                } else {
                    let link = self.0.link(ix);
                    let ask = link.get::<NodeStatus>("/v1/node");
                    match tokio::time::timeout(ASK_ALL, ask).await {
                        Ok(answer) => answer.map_err(|e| e.to_string()),
                        Err(_) => Err(format!(
                            "the agent of {name} did not answer within {} ms",
                            ASK_ALL.as_millis()
                        )),
                    }
                };
                self.node_entry(ix, answer)
            }
        });
        ClusterStatus {
            cluster: cluster.name.clone(),
            asked: self.0.node_name(),
            nodes: futures_util::future::join_all(asks).await,
        }
    }

    fn events(&self, after: u64, instance: Option<&str>) -> Vec<EventRecord> {
        self.0.events.borrow().after(after, instance)
    }

    async fn logs(&self, ask: LogAsk) -> Result<LogPage, Refusal> {
        self.0.log_page(ask).await
    }

    fn leftovers(&self) -> Vec<LeftoverView> {
        let view = |ix: InstanceIx| {
            let findings = match self.0.judge(ix, Mode::Look).cleaned {
                Cleaned::Clear { findings }
                | Cleaned::Alive { findings, .. }
                | Cleaned::Doubt { findings } => findings,
            };
            LeftoverView { instance: self.0.cluster().instance(ix).name.to_string(), findings }
        };
        self.own_instances().into_iter().map(view).collect()
    }

    fn hear_claim(&self, claim: Claim) -> Vec<Claim> {
        let (node, id) = (claim.node.clone(), claim.id.clone());
        self.0.hear_claim(claim);
        self.0.namesakes.borrow_mut().others(&node, &id, clock::now())
    }

    async fn doctor(&self) -> Result<DoctorReport, Refusal> {
        self.examine().await
    }

    async fn probe(&self, instance: &str) -> Result<Report, Refusal> {
        let refused = |error: String, hint: Option<String>| Refusal { error, hint };
        let cluster = self.0.cluster();
        let ix = cluster.instance_named(instance);
        let ix = ix.ok_or_else(|| refused(format!("there is no instance {instance}"), None))?;
        let instance = cluster.instance(ix);
        let at_home = instance.node == self.0.engine.borrow().node();
        let question = by_hand::configured(instance, at_home);
        let mut question = question.map_err(|no| refused(no.to_string(), Some(no.hint)))?;
        question.timeout = question.timeout.min(BY_HAND);
        // Whoever comes waits: nobody has many in the line.
        let _hand = HANDS.acquire().await;
        Ok(by_hand::ask(question).await)
    }

    fn invite(&self, ask: InviteAsk) -> Result<InviteReply, Refusal> {
        let refused = |error: String| Refusal { error, hint: None };
        if self.0.cluster().node_named(&ask.node).is_none() {
            return Err(refused(format!("the cluster file of this agent has no node {}", ask.node)));
        }
        if !matches!(*self.0.security.borrow(), Security::Tls(_)) {
            return Err(refused("this agent has no certificate itself, so nobody can come to it".to_owned()));
        }
        let text = format!("the agent of {} keeps it for {}", self.0.node_name(), ask.node);
        self.0.invitations.keep(ask).map_err(|why| refused(format!("the invitation is refused: {why}")))?;
        self.0.open_for_invited();
        Ok(InviteReply { text })
    }

    fn join(&self, ask: &JoinAsk, from: &str) -> Result<JoinReply, Refusal> {
        let taken = self.0.invitations.take(ask, from);
        Ok(JoinReply { sealed: taken.map_err(|error| Refusal { error, hint: None })? })
    }

    async fn order(&self, mut order: Order) -> Result<OrderReply, Refusal> {
        let cluster = self.0.cluster();
        let me = self.0.engine.borrow().node();
        for name in order.instances.iter().filter(|name| !self.0.is_orphan(name)) {
            let here = cluster.instance_named(name).is_some_and(|ix| cluster.instance(ix).node == me);
            if !here {
                let known: Vec<_> =
                    self.own_instances().iter().map(|i| cluster.instance(*i).name.to_string()).collect();
                return Err(Refusal {
                    error: format!("{name} is not an instance of node {}", self.0.node_name()),
                    hint: Some(format!("its instances are {}", known.join(", "))),
                });
            }
        }
        if let Some(name) = order.without.iter().find(|n| cluster.node_named(n).is_none()) {
            return Err(Refusal { error: format!("--without {name}: there is no node {name}"), hint: None });
        }
        let named = !order.instances.is_empty();
        let orphans = self.0.order_orphans(&mut order);
        if named && order.instances.is_empty() {
            return Ok(OrderReply { taken: orphans, durable: true });
        }
        let (reply, answer) = oneshot::channel();
        self.0.messages.send(Message::Ordered { order, reply }).await.map_err(|_| ending())?;
        let mut reply = answer.await.map_err(|_| ending())?;
        reply.taken.extend(orphans);
        Ok(reply)
    }

    async fn reload(&self) -> Result<ReloadReply, Refusal> {
        self.configure(Configure::Reload).await
    }

    async fn stage(&self, offer: Offer) -> Result<ReloadReply, Refusal> {
        self.configure(Configure::Stage(Box::new(offer))).await
    }

    async fn switch(&self, to: Switch) -> Result<ReloadReply, Refusal> {
        self.configure(Configure::Switch(to.hash)).await
    }

    fn generation(&self) -> Generation {
        self.0.in_force.borrow().generation.clone()
    }

    fn config(&self) -> Offer {
        self.0.offer()
    }

    fn watch(&self, node: &str) -> mpsc::Receiver<Bytes> {
        self.0.subscribe(node)
    }

    fn crashed(&self, what: &str) {
        self.0.crash(what, "nothing else is touched");
    }

    fn on_trail(&self, deed: Deed, refused: bool) {
        if refused { self.0.trail.write_refused(deed) } else { self.0.trail.write(deed) }
    }

    async fn trail(&self, after: u64) -> Result<Page, Refusal> {
        let refused = |why| Refusal { error: format!("the trail cannot be read: {why}"), hint: None };
        self.0.trail.page(after).await.map_err(refused)
    }

    fn security(&self) -> Security {
        self.0.security.borrow().clone()
    }

    fn local(&self, uid: u32) -> Caller {
        let own = nix::unistd::geteuid().as_raw();
        Caller::local(uid, own, self.0.cluster().group.as_deref())
    }

    async fn relay(
        &self,
        caller: &Caller,
        node: &str,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<(StatusCode, Bytes), Refusal> {
        let cluster = self.0.cluster();
        let Some(ix) = cluster.node_named(node) else {
            let error = format!("there is no node {node} in cluster {}", cluster.name);
            return Err(Refusal { error, hint: None });
        };
        let (link, on_behalf) = (self.0.link(ix), caller.on_behalf());
        let call = link.call(method, path, body, &on_behalf);
        let refused = |why: String| Refusal { error: why, hint: Some(format!("clusterctl status {node}")) };
        match tokio::time::timeout(RELAY, call).await {
            Ok(answer) => answer.map_err(|e| refused(e.to_string())),
            Err(_) => {
                Err(refused(format!("the agent of {node} did not answer within {} s", RELAY.as_secs())))
            }
        }
    }
}

fn ending() -> Refusal {
    Refusal { error: "the agent is ending".to_owned(), hint: None }
}
