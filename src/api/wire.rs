//! What goes over the wire: JSON over HTTP/1.1.
//!
//! | call | answer |
//! |---|---|
//! | `GET /v1/node` | [`NodeStatus`] of the agent that is asked |
//! | `GET /v1/cluster` | [`ClusterStatus`]: the agent asks all the others side by side over warm links |
//! | `GET /v1/events?after=SEQ&instance=NAME` | `Vec<EventRecord>` of that agent, oldest first |
//! | `GET /v1/logs?instance=NAME&at=POSITION` | [`LogPage`]: what an own instance printed, from a position on |
//! | `GET /v1/logs?instance=NAME&ago=MS&last=LINES` | the same, from a time or a number of lines ago, whichever is less |
//! | `GET /v1/probe?instance=NAME` | [`Report`](crate::facts::Report): its configured question, asked now from that node |
//! | `GET /v1/leftovers` | `Vec<LeftoverView>`: judged now, nothing removed |
//! | `POST /v1/order` with [`Order`] | [`OrderReply`]; returns at once, the work goes on |
//! | `POST /v1/reload`, with [`ReloadAsk`] or nothing | [`ReloadReply`]: read `cluster.toml` again |
//! | `GET /v1/identity` | [`Identity`]: that agent's certificate, and which CAs it believes |
//! | `POST /v1/invite` with [`InviteAsk`] | [`InviteReply`]: keeps a sealed bundle for a node that has none yet |
//! | `POST /v1/join` with [`JoinAsk`] | [`JoinReply`]: that bundle, once, to one without a certificate |
//! | `GET /v1/trail?after=SEQ` | [`Page`](crate::trail::Page) of that agent's trail: who did what |
//! | `GET /v1/generation?node=NAME&id=ID` | [`GenerationReply`]; an agent that asks says who it is ([`Claim`]) |
//! | `GET /v1/config` | [`Offer`](crate::generation::Offer): the configuration in force, for another node or `apply` |
//! | `POST /v1/stage` with an [`Offer`](crate::generation::Offer) | [`ReloadReply`]: checked and kept aside |
//! | `POST /v1/switch` with [`Switch`] | [`ReloadReply`]: what was kept aside is in force |
//! | `GET /v1/doctor` | [`DoctorReport`]: what that agent finds wrong, looked for now |
//! | `GET /v1/watch?node=NAME` | the peer stream: one [`PeerLine`] a line, for as long as both live |
//! | any of them under `/v1/at/NODE/…` | the same, asked of NODE's agent over this agent's warm link |
//!
//! Errors are an HTTP status from 400 up with a [`Refusal`] as the body.

use crate::director::word::{VipView, VipWord};
use crate::doctor::Diagnosis;
use crate::engine::Word;
use crate::engine::view::{InstanceView, StateName};
use crate::facts::{Finding, Moment};
use crate::generation::Generation;
use serde::{Deserialize, Serialize};

/// The largest request body that an agent reads, in bytes. An order naming every instance of a large cluster fits.
pub const MAX_REQUEST: usize = 1 << 20;
/// The largest configuration that is staged, in bytes of JSON.
pub const MAX_OFFER: usize = 8 << 20;
/// The largest answer that a client reads, in bytes: 50,000 instances at about a kilobyte each.
pub const MAX_REPLY: usize = 64 << 20;

/// The longest name that is repeated from what a stranger sent, in characters.
const MAX_NAME: usize = 64;
/// The longest complaint about a line, in characters.
const MAX_COMPLAINT: usize = 200;
/// The longest sentence that is taken over from another agent, in characters.
const MAX_SENTENCE: usize = 2000;

/// The most bytes of a log in one [`LogPage`].
pub const MAX_LOG_PAGE: usize = 256 << 10;
/// The most lines that can be asked for by their number.
pub const MAX_LOG_LINES: usize = 1_000_000;

/// One agent's whole view of its own instances.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NodeStatus {
    pub node: String,
    /// A random name, made at the first start on a machine: another machine with the same node's name has another.
    #[serde(default)]
    pub id: String,
    pub version: String,
    pub pid: u32,
    /// For how long this agent has been running.
    pub up_ms: u64,
    /// Its wall clock, milliseconds since 1970.
    pub clock_ms: u64,
    /// Content hash of the configuration in force.
    pub config: String,
    /// Where that stands in the line of those that were applied; only the nearest ancestors.
    #[serde(default)]
    pub generation: Generation,
    /// What is wrong with the agent itself (`cluster.toml is refused, the last good one is in force: …`).
    pub problems: Vec<String>,
    pub instances: Vec<InstanceView>,
    /// The virtual addresses of which it is a director, or with which it sees something wrong.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vips: Vec<VipView>,
}

/// What an agent finds wrong when it is asked to look.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DoctorReport {
    pub node: String,
    /// As in [`NodeStatus`].
    pub id: String,
    /// On its own machine.
    pub found: Vec<Diagnosis>,
    /// How it reaches the others.
    pub peers: Vec<PeerSeen>,
    /// Who has said lately that it is which node.
    #[serde(default)]
    pub claims: Vec<Claim>,
}

/// The generation of the configuration in force.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct GenerationReply {
    #[serde(flatten)]
    pub generation: Generation,
    /// Who else has said lately that it is the node that asks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub namesakes: Vec<Claim>,
}

/// An agent that has said which node it is, in the query of `GET /v1/generation`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    pub node: String,
    /// As in [`NodeStatus`].
    pub id: String,
    /// The address that it asked from.
    pub from: String,
}

/// How one agent reaches another.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PeerSeen {
    pub node: String,
    pub address: String,
    /// The random name of whoever answers there.
    pub id: Option<String>,
    /// Why there was no answer.
    pub trouble: Option<String>,
}

/// All nodes side by side.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ClusterStatus {
    pub cluster: String,
    /// The node whose agent collected this.
    pub asked: String,
    /// In the order of the file.
    pub nodes: Vec<NodeEntry>,
}

/// One node of a [`ClusterStatus`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NodeEntry {
    pub node: String,
    pub group: String,
    pub address: String,
    /// `None` when its agent did not answer; then `problem` says why and `last` what was last heard.
    pub status: Option<NodeStatus>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// The names of the instances that the file places there, and what was last heard of each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub last: Vec<LastHeard>,
}

/// What was last heard of an instance whose agent does not answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LastHeard {
    pub instance: String,
    /// `None` when nothing was ever heard.
    pub state: Option<StateName>,
    pub ago_ms: Option<u64>,
}

/// An operator's order to one agent.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Order {
    pub verb: Verb,
    /// Instances of that agent's node; empty is all of them.
    #[serde(default)]
    pub instances: Vec<String>,
    /// Start although needs are not met. The event says who forced it and what was not met.
    #[serde(default)]
    pub force: bool,
    /// How long a stop waits for dependents.
    pub timeout_ms: u64,
    /// Nodes whose dependents are not waited for. Recorded.
    #[serde(default)]
    pub without: Vec<String>,
    /// Who orders (user@host), and why.
    pub by: String,
    #[serde(default)]
    pub reason: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verb {
    /// Desired: up. Clears `failed`.
    Start,
    /// Desired: held. Dependents let go first.
    Stop,
    /// Stop as above, then start again.
    Restart,
}

/// What an agent made of an [`Order`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OrderReply {
    /// Per instance, in the order asked: what will happen now, as a sentence.
    pub taken: Vec<(String, String)>,
    /// False when the wish could not be written to disk: it is done, and will not survive a reboot.
    pub durable: bool,
}

/// One thing that happened.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EventRecord {
    /// Counts up by one for each event of this agent; survives restarts of the agent.
    pub seq: u64,
    /// Wall clock, milliseconds since 1970: shown, never compared.
    pub clock_ms: u64,
    /// Monotonic.
    pub at: Moment,
    /// Empty for the agent's own events.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub instance: String,
    /// One word: `started`, `ready`, `exited`, `cleaned`, …
    pub what: String,
    /// The sentence for a person.
    pub text: String,
    /// The facts behind it, by `what`: evidence of a start, findings of a cleaning.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub data: serde_json::Value,
}

/// What would be found before a start of one instance.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LeftoverView {
    pub instance: String,
    pub findings: Vec<Finding>,
}

/// Which part of a log is wanted. Whoever follows it asks again from [`LogPage::next`] on: nothing is kept for a reader,
/// so a slow one costs nothing, and one whose agent was replaced goes on where it was.
#[derive(Clone, Debug)]
pub struct LogAsk {
    pub instance: String,
    pub from: LogFrom,
    /// Also a last line that has no end yet.
    pub partial: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFrom {
    /// Counted over all bytes that the log ever had, over rotations and restarts.
    Position(u64),
    /// What was printed in the last so many milliseconds by that machine's clock, and at most so many lines. A few
    /// seconds more may come.
    Recent { ago_ms: Option<u64>, last: Option<usize> },
}

/// Whole lines of a log. Bytes that are no UTF-8 are replaced; a line longer than [`MAX_LOG_PAGE`] comes in parts.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LogPage {
    /// The position of the first byte: beyond what was asked for when that is not kept any more.
    pub at: u64,
    /// Where to read on.
    pub next: u64,
    /// Where the log ended when this was read.
    pub end: u64,
    pub text: String,
}

/// How an agent is known, and whom it believes. All are keys, in hex.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Identity {
    /// The key of its certificate; `None` without one.
    pub key: Option<String>,
    /// The keys of the CAs that it believes.
    pub authorities: Vec<String>,
}

/// A bundle for a node, sealed with what only a one-time token gives ([`crate::pki::Token`]).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct InviteAsk {
    pub node: String,
    /// What the node will ask for: 32 hex digits.
    pub number: String,
    /// In base 64.
    pub sealed: String,
    /// For how long it may be taken.
    pub for_ms: u64,
    pub by: String,
    #[serde(default)]
    pub reason: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct InviteReply {
    pub text: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct JoinAsk {
    pub node: String,
    pub number: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct JoinReply {
    pub sealed: String,
}

/// Who has the file read again, and why; for the trail.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ReloadAsk {
    #[serde(default)]
    pub by: String,
    #[serde(default)]
    pub reason: String,
}

impl ReloadAsk {
    /// From a body, which may be empty.
    ///
    /// # Errors
    /// When it is another thing.
    pub fn read(body: &[u8]) -> Result<ReloadAsk, serde_json::Error> {
        if body.is_empty() || body == b"null" {
            Ok(ReloadAsk::default())
        } else {
            serde_json::from_slice(body)
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ReloadReply {
    /// The hash of the configuration in force afterwards.
    pub config: String,
    pub changed: bool,
    pub text: String,
}

/// Which of the configurations that were staged is to be in force.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Switch {
    pub hash: String,
    /// For the trail.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// One line of the peer stream. The first one tells all instances of the node, later ones what has changed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PeerLine {
    pub node: String,
    /// Content hash of the configuration that the agent acts by.
    pub config: String,
    /// By instance name. What the reader's own file does not know is ignored.
    pub words: Vec<(String, Word)>,
    /// What it tells of the virtual addresses of which it is a director; `None` where it is of none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vips: Option<Vec<VipWord>>,
}

/// What a line of a node's stream says. Its sentences are cut to what a person reads, and cannot do anything to a terminal.
///
/// # Errors
/// What is wrong with it: it is no such line, or it speaks for another node.
pub fn peer_line(line: &[u8], node: &str) -> Result<PeerLine, String> {
    let mut said: PeerLine = serde_json::from_slice(line).map_err(|e| {
        // What serde_json complains of, it repeats.
        let why: String = e.to_string().chars().take(MAX_COMPLAINT).filter(|c| !c.is_control()).collect();
        format!("it sent what is no line of a peer stream: {why}")
    })?;
    if said.node != node {
        let claimed: String = said.node.chars().take(MAX_NAME).filter(|c| !c.is_control()).collect();
        return Err(format!("it says that it is {claimed}"));
    }
    for (_, word) in &mut said.words {
        harmless(&mut word.reason);
        if let Some(veto) = &mut word.veto {
            harmless(&mut veto.why);
        }
    }
    for word in said.vips.iter_mut().flatten() {
        word.texts().into_iter().for_each(harmless);
    }
    Ok(said)
}

fn harmless(text: &mut String) {
    if text.len() > MAX_SENTENCE || text.contains(char::is_control) {
        let kept = text.chars().take(MAX_SENTENCE);
        *text = kept.map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    }
}

/// The body of every refused call.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Refusal {
    pub error: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}
