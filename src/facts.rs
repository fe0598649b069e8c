//! Facts: what the leaf layers find out about the world and the engine decides on.
//!
//! These are plain data. Nothing here does I/O or reads a clock, so the engine, the simulator and the
//! agent can share them. Words are those of the design: a *verdict* is the answer to a *question*.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::{Add, Sub};
use std::time::Duration;

/// A moment on this machine's monotonic clock, in nanoseconds (`CLOCK_MONOTONIC`, see clock_gettime(2)).
///
/// Moments of two machines, or of two boots, cannot be compared. Wall-clock time never takes part in a
/// decision; it is only shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Moment(pub u64);

impl Moment {
    /// The time from `earlier` until this moment; zero when `earlier` is later.
    pub fn since(self, earlier: Moment) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Moment {
    type Output = Moment;
    fn add(self, d: Duration) -> Moment {
        Moment(self.0.saturating_add(u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl Sub<Duration> for Moment {
    type Output = Moment;
    fn sub(self, d: Duration) -> Moment {
        Moment(self.0.saturating_sub(u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// The answer to one question, as one probe heard it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub enum Verdict {
    /// The component says, in its own protocol, that it serves.
    Ready(Ready),
    /// It does not serve (or could not be reached); `reason` is a sentence for a person, without a final stop.
    NotReady {
        reason: String,
        /// What kind of silence or refusal it was; `why` picks its advice by it.
        kind: Trouble,
    },
    /// It lives and works towards being ready (Redis loading its data set, MySQL recovering).
    Progress {
        reason: String,
        /// How far it has come, 0 to 100, where the protocol tells.
        percent: Option<u8>,
        /// How long it believes to need still, where the protocol tells.
        #[serde(default)]
        left: Option<Duration>,
    },
}

/// What came with a `Ready` answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ready {
    /// A few words for a person: `PONG, master, 2 replicas`.
    pub detail: String,
    /// The roles that the component plays at this moment (`writable`, `master`, …).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<Role>,
    /// Who answered, where the protocol tells (server_uuid, run_id, broker name): two addresses with one
    /// identity are one server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
}

impl Verdict {
    /// Whether this is [`Verdict::Ready`].
    pub fn is_ready(&self) -> bool {
        matches!(self, Verdict::Ready(_))
    }

    /// Whether a person would see no difference: then it is no news. The estimate of the time left changes with every
    /// answer, and is none either.
    pub fn looks_same(&self, other: &Verdict) -> bool {
        match (self, other) {
            (
                Verdict::Progress { reason: r1, percent: p1, .. },
                Verdict::Progress { reason: r2, percent: p2, .. },
            ) => (r1, p1) == (r2, p2),
            _ => self == other,
        }
    }

    /// A `Ready` with a detail and nothing else.
    pub fn ready(detail: impl Into<String>) -> Verdict {
        Verdict::Ready(Ready { detail: detail.into(), ..Ready::default() })
    }

    /// A `NotReady` of the given kind.
    pub fn not_ready(kind: Trouble, reason: impl Into<String>) -> Verdict {
        Verdict::NotReady { reason: reason.into(), kind }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Ready(r) if r.detail.is_empty() => f.write_str("ready"),
            Verdict::Ready(r) => write!(f, "ready ({})", r.detail),
            Verdict::NotReady { reason, .. } | Verdict::Progress { reason, .. } => f.write_str(reason),
        }
    }
}

/// The kinds of `NotReady`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Trouble {
    /// The machine answered that nothing listens there (ECONNREFUSED, or a missing unix socket).
    Refused,
    /// No answer to the connect within the deadline, or no route: a dead machine, a cut, a firewall that drops.
    Unreachable,
    /// Connected, but the protocol's answer did not come within the deadline: hung, or frozen.
    Silent,
    /// It answered, and the answer says no (an error code, a status, `read_only`).
    Declined,
    /// It answered something that is not this protocol.
    Garbled,
    /// Credentials are missing or wrong.
    Denied,
    /// The question could not be asked at all (a missing program, an unreadable password file).
    Unaskable,
}

/// A role that a component can play, named by a need (`"any writable"`) and told by a probe's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Takes writes: MySQL with `read_only` off, PostgreSQL not in recovery, a Redis master.
    Writable,
    /// Redis: `ROLE` says master.
    Master,
    /// A replica whose link to its master stands.
    Replica,
}

impl Role {
    /// The word as typed in `cluster.toml`.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Writable => "writable",
            Role::Master => "master",
            Role::Replica => "replica",
        }
    }
}

/// One answered question: what the prober tells of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    pub verdict: Verdict,
    /// When the question was begun (before the connect).
    pub begun: Moment,
    /// When the answer was complete.
    pub ended: Moment,
}

/// A part of a question that takes time of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// A name becomes an address.
    LookUp,
    Connect,
    /// The handshake of TLS, with the look at the certificate.
    Tls,
    Login,
    /// Connecting and logging in, where the driver does both as one (MySQL).
    Open,
    /// From the question to the end of its answer.
    Reply,
}

impl Stage {
    /// As a person reads it.
    pub fn as_str(self) -> &'static str {
        match self {
            Stage::LookUp => "look-up",
            Stage::Connect => "connect",
            Stage::Tls => "TLS",
            Stage::Login => "login",
            Stage::Open => "connect and login",
            Stage::Reply => "reply",
        }
    }
}

/// How long a stage took.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Took {
    pub stage: Stage,
    /// Microseconds.
    pub us: u64,
}

/// A question that was asked by hand, and its answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// What was asked of whom: `redis at 10.0.0.1:6379`. Holds no secret.
    pub asked: String,
    pub verdict: Verdict,
    /// One sentence: what the answer means.
    pub meaning: String,
    /// In their order. The last one is where the question ended.
    pub stages: Vec<Took>,
}

/// What a service said of itself in one message: sd_notify(3). What it did not say is false or `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Notice {
    /// `READY=1`: its start, or its reload, is over.
    pub ready: bool,
    /// `RELOADING=1`
    pub reloading: bool,
    /// `STOPPING=1`
    pub stopping: bool,
    /// `WATCHDOG=1`: a sign of life.
    pub alive: bool,
    /// `WATCHDOG=trigger`: it knows itself that it has failed.
    pub failed: bool,
    /// `STATUS=`: a line for a person.
    pub status: Option<String>,
    /// `EXTEND_TIMEOUT_USEC=`: how long it needs still, from now on.
    pub extend: Option<Duration>,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Exit {
    Code(i32),
    Signal(i32),
    /// The kernel killed it because its cgroup was out of memory, as the cgroup tells.
    OutOfMemory,
    /// It died while no agent was there to hear it, and nobody kept the code.
    Unknown,
}

impl Exit {
    /// Exit code 0.
    pub fn is_success(self) -> bool {
        self == Exit::Code(0)
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Exit::Code(c) => write!(f, "exit code {c}"),
            Exit::Signal(s) => match nix::sys::signal::Signal::try_from(*s) {
                Ok(name) => write!(f, "killed by {name}"),
                Err(_) => write!(f, "killed by signal {s}"),
            },
            Exit::OutOfMemory => f.write_str("killed by SIGKILL: its cgroup was out of memory"),
            Exit::Unknown => f.write_str("exit code unknown (it was not this agent's child)"),
        }
    }
}

/// What cleaning up before a start came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum Cleaned {
    /// The way is free; what was removed (or found and rightly left) is in `findings`.
    Clear { findings: Vec<Finding> },
    /// A living process is this instance's already: adopt it.
    Alive { pid: i32, findings: Vec<Finding> },
    /// Something is in doubt: nothing was removed.
    Doubt { findings: Vec<Finding> },
}

/// One leftover that was judged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What was looked at: a path, or `process 4711`.
    pub what: String,
    pub judgement: Judgement,
    /// The proof, for a person: `pid 417 is nginx, not redis-server (started 3 s after boot)`.
    pub evidence: String,
    /// Where a removed file's copy is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<String>,
}

/// What a leftover was judged to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Judgement {
    /// Proven stale; removed unless only looked at.
    Stale,
    /// It belongs to a living process that is this instance.
    Alive,
    /// Not proven either way: left alone.
    Doubt,
    /// Not a thing that we touch (symlink, folder, device, outside the allowed folders): left alone.
    Refused,
}
