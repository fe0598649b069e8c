//! What can be seen of an engine: plain data for `status`, `why` and the other agents.
//!
//! Times are ages in milliseconds at the moment of the view, never wall-clock stamps, so that two machines whose
//! clocks disagree can still be laid side by side.

use crate::facts::Verdict;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The observed state of an instance, by the design's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StateName {
    /// Needs are not met, or the agent is still looking for what already runs.
    Waiting,
    /// Leftovers are being judged, then each counted edge is asked once more.
    Cleaning,
    /// The process runs, its own probe has not passed yet.
    Starting,
    Ready,
    /// Runs, own probe fails.
    Unready,
    /// Alive and healthy, and rightly not serving.
    Standby,
    Stopping,
    /// Held by an operator, and nothing runs.
    Stopped,
    /// Died; will be started again at a known time.
    Backoff,
    /// A leftover in doubt.
    Blocked,
    /// Gave up; says why.
    Failed,
    /// A oneshot that succeeded.
    Completed,
    /// It runs, and the configuration does not know it. No engine is ever in it; its agent fills it in.
    Orphaned,
    /// The node's agent does not answer. No engine is ever in it; a client fills it in.
    Unknown,
}

impl StateName {
    /// The word as shown.
    pub fn as_str(self) -> &'static str {
        match self {
            StateName::Waiting => "waiting",
            StateName::Cleaning => "cleaning",
            StateName::Starting => "starting",
            StateName::Ready => "ready",
            StateName::Unready => "unready",
            StateName::Standby => "standby",
            StateName::Stopping => "stopping",
            StateName::Stopped => "stopped",
            StateName::Backoff => "backoff",
            StateName::Blocked => "blocked",
            StateName::Failed => "failed",
            StateName::Completed => "completed",
            StateName::Orphaned => "orphaned",
            StateName::Unknown => "unknown",
        }
    }

    /// Whether nothing more is to be done for it: it serves, stands by rightly, or has completed.
    pub fn is_up(self) -> bool {
        matches!(self, StateName::Ready | StateName::Standby | StateName::Completed)
    }
}

impl fmt::Display for StateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What an operator wants of an instance. Kept over reboots.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "desired", rename_all = "kebab-case")]
pub enum Wish {
    Up,
    Held {
        /// Who said so. (Keys of their own, since a wish lies flat in an [`InstanceView`].)
        #[serde(rename = "held_by")]
        by: String,
        /// When, as the wall clock of the machine had it (milliseconds since 1970); shown, never compared.
        #[serde(rename = "held_at")]
        at: u64,
        /// Why, in the operator's words; may be empty.
        #[serde(rename = "held_because", default)]
        reason: String,
    },
}

/// One instance as its own agent sees it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct InstanceView {
    /// `service@node`
    pub instance: String,
    #[serde(flatten)]
    pub wish: Wish,
    pub state: StateName,
    /// For how long it has been in this state.
    pub since_ms: u64,
    /// Why it is in this state, as a sentence for a person; empty when there is nothing to say.
    pub reason: String,
    /// Progress of a start, 0 to 100, where the protocol tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percent: Option<u8>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<i32>,
    /// How often it was started since the agent first saw it in this boot.
    pub starts: u32,
    /// Failures in a row (what back-off counts).
    pub failures: u32,
    /// Until the next start, in `backoff`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_ms: Option<u64>,
    /// The last answer of its own probe.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own: Option<Verdict>,
    pub needs: Vec<NeedView>,
    /// Set while dependents are told to let go of it: why. This is the veto.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub withdrawn: Option<String>,
    /// Remarks that are no state: `adopted, started by somebody else`, `started with --force`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<String>,
}

impl InstanceView {
    /// One of which nothing is known but its state.
    pub fn plain(instance: &str, state: StateName) -> InstanceView {
        InstanceView {
            instance: instance.to_owned(),
            wish: Wish::Up,
            state,
            since_ms: 0,
            reason: String::new(),
            percent: None,
            pid: None,
            starts: 0,
            failures: 0,
            next_ms: None,
            own: None,
            needs: vec![],
            withdrawn: None,
            flags: vec![],
        }
    }
}

/// One need of an instance, with what its edges look like from the instance's own node.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NeedView {
    /// As in the file: `mysql`.
    pub name: String,
    /// As in the file: `any writable`.
    pub count: String,
    /// How many edges must be met, and how many are.
    pub wanted: usize,
    pub met: usize,
    /// Whether it is met now (or its bounded wait is over: see `waived`).
    pub ok: bool,
    /// Started without it because its bounded wait ended so.
    #[serde(default)]
    pub waived: bool,
    /// Since when it is met or unmet.
    pub since_ms: u64,
    pub edges: Vec<EdgeView>,
}

/// One candidate of a need: both ends of the edge.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EdgeView {
    /// The candidate, `service@node`.
    pub to: String,
    pub met: bool,
    /// The last answer heard from the dependent's own node; `None` when none has come yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
    /// Since when the answer is what it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict_since_ms: Option<u64>,
    /// The address that is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// What the candidate's own agent says; `None` when that agent was never heard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<PeerWord>,
}

/// The last word of a candidate's own agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerWord {
    pub state: StateName,
    /// The agent's own reason for that state.
    pub reason: String,
    /// Whether the agent's stream stands now.
    pub connected: bool,
    /// How long ago it was last heard.
    pub heard_ms: u64,
    /// Its veto, if it vetoes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub veto: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn up_is_what_serves_or_need_not() {
        use StateName::*;
        for up in [Ready, Standby, Completed] {
            assert!(up.is_up(), "{up}");
        }
        for down in
            [Waiting, Cleaning, Starting, Unready, Stopping, Stopped, Backoff, Blocked, Failed, Unknown]
        {
            assert!(!down.is_up(), "{down}");
        }
    }

    /// The wish lies flat beside the instance's own `reason`: their keys must not meet.
    #[test]
    fn a_held_instance_survives_the_wire() {
        let view = InstanceView {
            wish: Wish::Held { by: "alice@lvs1".into(), at: 5, reason: "new disks".into() },
            since_ms: 7,
            reason: "stopped in 3 ms".into(),
            ..InstanceView::plain("redis@redis1", StateName::Stopped)
        };
        let json = serde_json::to_string(&view).unwrap();
        let back: InstanceView = serde_json::from_str(&json).unwrap();
        assert_eq!((back.wish, back.reason), (view.wish, view.reason));
    }
}
