//! Compact builders of a [`ClusterStatus`], for the tests of the verbs.

use super::text::Look;
use crate::api::wire::{ClusterStatus, LastHeard, NodeEntry, NodeStatus};
use crate::engine::view::{EdgeView, InstanceView, NeedView, PeerWord, StateName, Wish};
use crate::facts::{Ready, Role, Trouble, Verdict};

/// 2026-03-04 05:06:07 UTC.
pub const NOW_S: i64 = 1_772_600_767;

pub fn look(width: impl Into<Option<usize>>) -> Look {
    let now = jiff::Timestamp::from_second(NOW_S).unwrap().to_zoned(jiff::tz::TimeZone::UTC);
    Look { width: width.into(), now }
}

pub fn status(nodes: Vec<NodeEntry>) -> ClusterStatus {
    ClusterStatus { cluster: "shop".into(), asked: nodes[0].node.clone(), nodes }
}

pub fn node(group: &str, name: &str, instances: Vec<InstanceView>) -> NodeEntry {
    let status = NodeStatus {
        vips: Vec::new(),
        node: name.into(),
        id: String::new(),
        version: "0.1.0".into(),
        pid: 99,
        up_ms: 600_000,
        clock_ms: 0,
        config: "3f2a91bc".into(),
        generation: Default::default(),
        problems: vec![],
        instances,
    };
    NodeEntry {
        node: name.into(),
        group: group.into(),
        address: "10.0.0.1".into(),
        status: Some(status),
        problem: None,
        last: vec![],
    }
}

pub fn silent(group: &str, name: &str, last: Vec<(&str, Option<StateName>)>) -> NodeEntry {
    let last = last.into_iter().map(|(instance, state)| LastHeard {
        instance: instance.into(),
        state,
        ago_ms: state.map(|_| 32_000),
    });
    NodeEntry {
        status: None,
        problem: Some("no connection within 1 s".into()),
        last: last.collect(),
        ..node(group, name, vec![])
    }
}

pub fn instance(name: &str, state: StateName, since_s: u64) -> InstanceView {
    InstanceView { since_ms: since_s * 1000, starts: 1, ..InstanceView::plain(name, state) }
}

pub fn ready(name: &str) -> InstanceView {
    InstanceView { pid: Some(4711), ..instance(name, StateName::Ready, 185) }
}

pub fn waiting(name: &str, needs: Vec<NeedView>) -> InstanceView {
    InstanceView { needs, starts: 0, ..instance(name, StateName::Waiting, 41) }
}

pub fn because(state: StateName, name: &str, reason: &str) -> InstanceView {
    InstanceView { reason: reason.into(), ..instance(name, state, 41) }
}

pub fn held(name: &str, reason: &str) -> InstanceView {
    let at = (NOW_S as u64 - 6847) * 1000;
    let wish = Wish::Held { by: "alice".into(), at, reason: reason.into() };
    InstanceView { wish, ..instance(name, StateName::Stopped, 6847) }
}

/// A need; met when enough of its edges are.
pub fn need(name: &str, count: &str, wanted: usize, edges: Vec<EdgeView>) -> NeedView {
    let met = edges.iter().filter(|e| e.met).count();
    NeedView {
        name: name.into(),
        count: count.into(),
        wanted,
        met,
        ok: met >= wanted,
        waived: false,
        since_ms: 40_000,
        edges,
    }
}

pub fn edge(to: &str, verdict: Option<Verdict>) -> EdgeView {
    EdgeView {
        to: to.into(),
        met: false,
        verdict_since_ms: verdict.is_some().then_some(12_000),
        verdict,
        address: Some("192.168.1.41:6379".into()),
        peer: None,
    }
}

pub fn met(to: &str) -> EdgeView {
    EdgeView { met: true, ..edge(to, Some(Verdict::ready("PONG"))) }
}

pub fn refused(to: &str) -> EdgeView {
    edge(to, Some(Verdict::not_ready(Trouble::Refused, "connection refused")))
}

pub fn timed_out(to: &str) -> EdgeView {
    edge(to, Some(Verdict::not_ready(Trouble::Unreachable, "the connection times out")))
}

pub fn says(to: &str, kind: Trouble, reason: &str) -> EdgeView {
    edge(to, Some(Verdict::not_ready(kind, reason)))
}

/// It answers well, in other roles than asked for.
pub fn in_role(to: &str, roles: Vec<Role>) -> EdgeView {
    edge(to, Some(Verdict::Ready(Ready { detail: "PONG".into(), roles, identity: None })))
}

pub fn word(edge: EdgeView, state: StateName, connected: bool, veto: Option<&str>) -> EdgeView {
    let peer = PeerWord {
        state,
        reason: String::new(),
        connected,
        heard_ms: if connected { 400 } else { 45_000 },
        veto: veto.map(Into::into),
    };
    EdgeView { peer: Some(peer), ..edge }
}
