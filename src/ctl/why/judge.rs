//! What one instance's state, one need, one edge mean: sentences, and whether the chain ends there.

use super::{Kind, Root};
use crate::api::wire::{ClusterStatus, NodeEntry};
use crate::ctl::picture::{self, Known, node_of, service_of, silence};
use crate::ctl::text::{Look, short, time_left, told};
use crate::engine::view::{EdgeView, InstanceView, NeedView, StateName, Wish};
use crate::facts::{Ready, Trouble, Verdict};
use std::collections::HashMap;

/// Asks one status many questions.
pub struct Judge<'a> {
    known: HashMap<&'a str, Known<'a>>,
    look: &'a Look,
}

/// What an instance's own state says.
pub struct Standing {
    /// The whole sentence, with its name.
    pub text: String,
    /// The same without the name: `failed for 41s: exit code 1`.
    pub state: String,
    pub notes: Vec<String>,
    /// Set when the chain ends here.
    pub root: Option<Root>,
}

/// What an unmet edge says.
pub struct Link<'a> {
    pub text: String,
    pub notes: Vec<String>,
    pub root: Option<Root>,
    /// Where the chain goes on.
    pub follow: Option<Known<'a>>,
}

/// The command that lets a held instance go.
pub fn release(instance: &str) -> String {
    format!("clusterctl start {instance}")
}

impl<'a> Judge<'a> {
    pub fn new(status: &'a ClusterStatus, look: &'a Look) -> Judge<'a> {
        let known = picture::instances(status).map(|k| (k.name(), k)).collect();
        Judge { known, look }
    }

    pub fn find(&self, instance: &str) -> Option<Known<'a>> {
        self.known.get(instance).copied()
    }

    /// The needs to go on with: none for what is held, since its needs are not why it is down.
    pub fn unmet_needs(&self, instance: &str) -> impl Iterator<Item = &'a NeedView> + use<'a> {
        let view = self.find(instance).and_then(Known::view).filter(|v| v.wish == Wish::Up);
        view.map(|v| v.needs.as_slice()).unwrap_or_default().iter().filter(|n| !n.ok)
    }

    pub fn unmet_edges(
        &self,
        instance: &str,
    ) -> impl Iterator<Item = (&'a NeedView, &'a EdgeView)> + use<'a> {
        self.unmet_needs(instance).flat_map(|n| n.edges.iter().filter(|e| !e.met).map(move |e| (n, e)))
    }

    /// `needs mysql (any writable, 0 of 1) for 40s`
    pub fn need(&self, need: &NeedView) -> String {
        format!("needs {} for {}", needed(need), short(need.since_ms))
    }

    /// An instance by itself.
    pub fn instance(&self, known: Known<'a>) -> Standing {
        match known {
            Known::Heard(_, view) => self.heard(view),
            Known::Silent(node, last) => {
                let heard = match (last.state, last.ago_ms) {
                    (Some(state), Some(ago)) => format!("last heard {} ago: {state}", short(ago)),
                    _ => "never heard since the asked agent started".into(),
                };
                let state = format!("unknown, {heard}");
                Standing {
                    text: format!("{} is {state}", last.instance),
                    state,
                    notes: vec![format!("{}'s agent does not answer: {}", node.node, silence(node))],
                    root: Some(silent_node(node, &last.instance)),
                }
            }
        }
    }

    fn heard(&self, view: &InstanceView) -> Standing {
        let name = &view.instance;
        let state = describe(view, self.look);
        let mut notes = Vec::new();
        if let Wish::Held { .. } = view.wish
            && view.state != StateName::Stopped
        {
            notes.push(held_by(&view.wish, self.look).unwrap_or_default());
        }
        if view.state.is_up() {
            notes.extend(view.needs.iter().filter(|n| !n.ok).map(|need| {
                format!("its need {} is lost for {}: it was kept running", need.name, short(need.since_ms))
            }));
        }
        if let Some(why) = &view.withdrawn {
            notes.push(format!("dependents are told to let go of it: {why}"));
        }
        notes.extend(view.flags.iter().cloned());
        let root = |text: &str, hint: Option<String>| {
            Some(Root {
                kind: Kind::Instance,
                at: name.clone(),
                text: text.into(),
                instance: name.clone(),
                hint,
            })
        };
        let node = node_of(name);
        let root = match (&view.wish, view.state) {
            (Wish::Held { .. }, _) => {
                let text = held_by(&view.wish, self.look).unwrap_or_default();
                root(&text, Some(release(name)))
            }
            (_, StateName::Blocked) => root(&state, Some(format!("clusterctl leftovers {node}"))),
            (_, StateName::Failed) => {
                root(&state, Some(format!("clusterctl events {name}; once mended: clusterctl start {name}")))
            }
            (_, StateName::Backoff | StateName::Unready) => {
                root(&state, Some(format!("clusterctl events {name}")))
            }
            (_, StateName::Waiting) if view.needs.iter().any(|n| !n.ok) => None,
            (_, s) if s.is_up() => None,
            _ => root(&state, None),
        };
        Standing { text: format!("{name} is {state}"), state, notes, root }
    }

    /// One unmet edge, from both ends.
    pub fn edge(&self, dependent: &str, need: &NeedView, edge: &'a EdgeView) -> Link<'a> {
        let here = node_of(dependent);
        let there = node_of(&edge.to);
        let mut link = Link {
            text: format!("{}: {}", edge.to, heard_from(here, edge)),
            notes: vec![],
            root: None,
            follow: None,
        };
        match self.find(&edge.to) {
            None if there.is_empty() => {
                let text = match &edge.verdict {
                    None => format!("it is outside the cluster, and {here} has not asked it yet"),
                    Some(Verdict::Ready(_)) => short_of(need, edge, None),
                    Some(verdict) => {
                        format!("it is outside the cluster, and {here} hears: {}", told(verdict))
                    }
                };
                link.root = Some(Root {
                    kind: Kind::Need,
                    at: edge.to.clone(),
                    text: text.clone(),
                    instance: edge.to.clone(),
                    hint: Some(format!("clusterctl probe {} --from {here}", edge.to)),
                });
                link.notes.push(text);
            }
            None => {
                let text = format!("{} is not in the cluster file of the agent that was asked", edge.to);
                link.root = Some(Root {
                    kind: Kind::Need,
                    at: edge.to.clone(),
                    text: text.clone(),
                    instance: edge.to.clone(),
                    hint: Some("clusterctl status shows which nodes run which file".into()),
                });
                link.notes.push(text);
            }
            Some(known @ Known::Silent(node, _)) => {
                let root = alone(here, node, need, edge);
                link.notes.push(format!("on {there}: {}", self.instance(known).state));
                link.notes.push(silent_from(here, node, edge, &root));
                link.root = Some(root);
            }
            Some(known @ Known::Heard(_, view)) if view.state == StateName::Ready => {
                let conclusion = self.disagreement(dependent, need, edge, view);
                link.notes.push(format!("on {there}: {}", self.instance(known).state));
                if let Some(peer) = edge.peer.as_ref().filter(|p| !p.connected) {
                    link.notes.push(format!(
                        "{there}'s agent answers the asked node, but {here} last heard it {} ago",
                        short(peer.heard_ms)
                    ));
                }
                link.notes.push(conclusion.text.clone());
                link.root = Some(conclusion);
            }
            Some(known) => {
                if matches!(edge.verdict, Some(Verdict::Ready(_))) {
                    link.notes.push(short_of(need, edge, known.view()));
                }
                // What stands by is healthy: the chain does not go on through it.
                if known.is_up() {
                    link.notes.push(format!("on {there}: {}", self.instance(known).state));
                } else {
                    link.follow = Some(known);
                }
            }
        }
        link
    }

    /// The candidate's agent calls it ready, and the dependent's node does not find it so.
    fn disagreement(&self, dependent: &str, need: &NeedView, edge: &EdgeView, view: &InstanceView) -> Root {
        let (here, there) = (node_of(dependent), node_of(&edge.to));
        let address = edge.address.as_deref().unwrap_or("its address");
        let way = format!("{here} -> {there}");
        let root = |at: String, text: String, hint: Option<String>| Root {
            kind: Kind::Way,
            at,
            text,
            instance: dependent.to_owned(),
            hint,
        };
        let reason = edge.verdict.as_ref().map(ToString::to_string).unwrap_or_default();
        match &edge.verdict {
            None => root(dependent.into(), format!("{here} has not asked {} yet", edge.to), None),
            Some(Verdict::Ready(_)) => root(edge.to.clone(), short_of(need, edge, Some(view)), None),
            Some(Verdict::Progress { .. }) => root(edge.to.clone(), format!("{here} hears: {reason}"), None),
            Some(Verdict::NotReady { kind: Trouble::Unreachable, .. }) => root(
                way,
                format!(
                    "its agent says ready, but from {here} there is no way to {address} ({reason}): look for a \
                     firewall between {here} and {there}"
                ),
                Some(format!("on {here}: nc -vz -w 3 {}", address.replacen(':', " ", 1))),
            ),
            Some(Verdict::NotReady { kind: Trouble::Refused, .. }) => root(
                way,
                format!(
                    "{there}'s agent says ready, but {address} refuses {here}: it listens on another address, a \
                     firewall rejects, or the agent is wrong"
                ),
                Some(format!("on {there}: ss -ltnp")),
            ),
            Some(Verdict::NotReady { kind: Trouble::Denied, .. }) => root(
                edge.to.clone(),
                format!("{there}'s agent says ready, but it does not let {here} in: {reason}"),
                Some(format!("check the login that {here} uses for {}", service_of(&edge.to))),
            ),
            Some(Verdict::NotReady { kind: Trouble::Unaskable, .. }) => {
                root(dependent.into(), format!("{here} cannot ask {}: {reason}", edge.to), None)
            }
            Some(Verdict::NotReady { .. }) => root(
                way,
                format!(
                    "{there}'s agent says ready, but {here} hears otherwise from {address}: {reason}; one of the two \
                     is wrong, or another machine has that address"
                ),
                Some(format!("clusterctl events {}", edge.to)),
            ),
        }
    }

    /// All candidates are well, and none may be counted.
    pub fn nobody_serves(&self, dependent: &str, need: &NeedView) -> Root {
        Root {
            kind: Kind::Need,
            at: dependent.to_owned(),
            text: match need.met > need.wanted {
                true => format!("needs {}, and more serve than may: one of them must not", needed(need)),
                false => format!("needs {}, and no candidate serves: they stand by", needed(need)),
            },
            instance: dependent.to_owned(),
            hint: None,
        }
    }

    /// No chain from here ends anywhere.
    pub fn circle(&self, instance: &str) -> Root {
        Root {
            kind: Kind::Need,
            at: instance.to_owned(),
            text: "its needs wait for each other, with nothing else left that could begin".into(),
            instance: instance.to_owned(),
            hint: Some(format!("clusterctl start --force {instance}")),
        }
    }
}

/// `mysql (any writable, 0 of 1)`
pub fn needed(need: &NeedView) -> String {
    format!("{} ({}, {} of {})", need.name, need.count, need.met, need.wanted)
}

/// What the dependent's own node hears.
pub fn heard_from(here: &str, edge: &EdgeView) -> String {
    match (&edge.verdict, edge.verdict_since_ms) {
        (None, _) => format!("not asked from {here} yet"),
        (Some(verdict), None) => format!("from {here}: {}", told(verdict)),
        (Some(verdict), Some(since)) => format!("from {here} for {}: {}", short(since), told(verdict)),
    }
}

/// It answers well from here, and still does not count.
pub fn short_of(need: &NeedView, edge: &EdgeView, view: Option<&InstanceView>) -> String {
    let peer = edge.peer.as_ref();
    let veto = view.and_then(|v| v.withdrawn.as_deref()).or(peer.and_then(|p| p.veto.as_deref()));
    if let Some(veto) = veto {
        return format!("it answers, but its own agent vetoes: {veto}");
    }
    if let Some(Verdict::Ready(ready)) = &edge.verdict
        && let Some(role) = lacks(need, ready)
    {
        return format!("it answers, but is not {role}");
    }
    "it answers, and is asked once more before it counts".into()
}

/// The role that is needed, where it answers in others.
fn lacks<'a>(need: &'a NeedView, ready: &Ready) -> Option<&'a str> {
    role_of(need).filter(|role| !ready.roles.iter().any(|r| r.as_str() == *role))
}

/// The role that a count asks for: `any writable, same zone` → `writable`.
fn role_of(need: &NeedView) -> Option<&str> {
    let count = need.count.split(',').next()?;
    count.split_once(' ').map(|(_, role)| role)
}

/// The candidate's agent is silent too: what the probe alone tells of the machine.
fn alone(here: &str, node: &NodeEntry, need: &NeedView, edge: &EdgeView) -> Root {
    let service = service_of(&edge.to);
    let there = &node.node;
    let silent = silent_node(node, &edge.to);
    let found = |text: String, hint: Option<String>| Root { kind: Kind::Found, text, hint, ..silent.clone() };
    let start = || Some(format!("on {there}: systemctl start clusterd"));
    match &edge.verdict {
        Some(Verdict::NotReady { kind: Trouble::Unreachable, .. }) => found(
            format!("the machine is down or cut off ({here} gets no answer from {service})"),
            Some(format!("is {there} powered on? clusterctl status --watch tells when it is back")),
        ),
        Some(Verdict::NotReady { kind: Trouble::Refused, .. }) => found(
            format!(
                "the machine is up, since it refuses {here}, but neither {service} nor clusterd runs there"
            ),
            start(),
        ),
        Some(Verdict::Ready(ready)) => {
            let text = match lacks(need, ready) {
                None => format!("{service} answers {here}, but clusterd does not"),
                Some(role) => format!("{service} answers {here} and is not {role}; clusterd does not answer"),
            };
            found(text, start())
        }
        Some(other) => found(format!("the machine is up, and {here} hears from {service}: {other}"), start()),
        None => silent.clone(),
    }
}

/// What is said of an agent that does not answer, beside what the dependent hears of the service itself.
fn silent_from(here: &str, node: &NodeEntry, edge: &EdgeView, root: &Root) -> String {
    let there = &node.node;
    match &edge.verdict {
        None => format!("{there}'s agent does not answer ({}), and {here} has not asked yet", silence(node)),
        Some(Verdict::NotReady { kind: Trouble::Unreachable | Trouble::Refused, .. }) => {
            format!("{there}'s agent does not answer either: {}", root.text)
        }
        Some(_) => format!("{there}'s agent does not answer: {}", root.text),
    }
}

fn silent_node(node: &NodeEntry, instance: &str) -> Root {
    Root {
        kind: Kind::Silent,
        at: node.node.clone(),
        text: format!("its agent does not answer: {}", silence(node)),
        instance: instance.into(),
        hint: Some(format!("is {0} powered on? there: systemctl status clusterd", node.node)),
    }
}

/// `held by alice since 03:12 (new disks)`
pub fn held_by(wish: &Wish, look: &Look) -> Option<String> {
    let Wish::Held { by, at, reason } = wish else { return None };
    let reason = if reason.is_empty() { String::new() } else { format!(" ({reason})") };
    Some(format!("held by {by} since {}{reason}", look.clock(*at)))
}

/// `failed for 41s: exit code 1`, `starting for 5s: loading, 43 %`, `stopped, held by alice since 03:12`.
fn describe(view: &InstanceView, look: &Look) -> String {
    let since = format!("{} for {}", view.state, short(view.since_ms));
    if view.state == StateName::Stopped
        && let Some(held) = held_by(&view.wish, look)
    {
        return format!("stopped, {held}");
    }
    let detail = detail(view);
    if detail.is_empty() { since } else { format!("{since}: {detail}") }
}

/// Why it is in its state, with progress and the next attempt.
pub fn detail(view: &InstanceView) -> String {
    let mut parts = vec![said(view)];
    if let Some(percent) = view.percent.map(|percent| format!("{percent} %"))
        && !parts[0].ends_with(&format!(" {percent}"))
    {
        parts.push(percent);
    }
    if matches!(view.state, StateName::Starting | StateName::Unready) {
        parts.extend(view.own.as_ref().and_then(time_left));
    }
    if let Some(next) = view.next_ms {
        let failed = if view.failures > 1 {
            format!(", failed {} times in a row", view.failures)
        } else {
            String::new()
        };
        parts.push(format!("next start in {}{failed}", short(next)));
    }
    parts.retain(|p| !p.is_empty());
    parts.join(", ")
}

/// The agent's own sentence, or what stands for it; empty where more is told beside it.
fn said(view: &InstanceView) -> String {
    match (view.state, &view.own) {
        (StateName::Waiting, _) if view.needs.iter().any(|n| !n.ok) => String::new(),
        (StateName::Stopped, _) if matches!(view.wish, Wish::Held { .. }) => String::new(),
        (StateName::Ready, Some(Verdict::Ready(ready))) => ready.detail.clone(),
        _ if !view.reason.is_empty() => view.reason.clone(),
        (StateName::Unready | StateName::Starting, Some(own)) => own.to_string(),
        (StateName::Stopping, _) => view.withdrawn.clone().unwrap_or_default(),
        _ => String::new(),
    }
}
