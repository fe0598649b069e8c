//! A unit: how one kind of daemon is run, stopped, cleaned up after, and known to be ready.
//!
//! A [`Unit`] here has its parameters filled in for one instance: every `{address}` and `{set}` is replaced,
//! every path is absolute.

use super::care::Care;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// A unit file with its parameters filled in. It is what the journal keeps of a running incarnation, so that a
/// stop uses the unit as it was started: hence the serde derives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unit {
    pub name: String,
    /// One instance serves, the others stand by.
    pub exclusive: bool,
    pub run: Run,
    pub ready: Readiness,
    pub stop: Stop,
    pub restart: Restart,
    pub leftovers: Leftovers,
    /// Left out of the journal where it is the default, and not in that of an older agent.
    #[serde(default, skip_serializing_if = "LogLimits::is_default")]
    pub log: LogLimits,
}

/// `[run]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    pub kind: RunKind,
    /// Program (absolute path) and arguments; empty only where systemd runs it. No shell.
    pub command: Vec<String>,
    /// User and group names; `None` is the agent's own.
    pub user: Option<String>,
    pub group: Option<String>,
    /// Working folder; default `/`.
    pub folder: PathBuf,
    /// Variables added to a small fixed environment (PATH, LANG).
    pub environment: BTreeMap<String, String>,
    /// Umask; default 0o022.
    pub umask: u32,
    /// The daemon's pid file, which is a leftover by itself.
    pub pidfile: Option<PathBuf>,
    /// Folders made (owned by `user`) before each start: a reboot empties /run.
    pub make_folders: Vec<PathBuf>,
    /// Other names or paths that the running process may rightly show as its executable
    /// (Debian's redis-server runs as redis-check-rdb; a wrapper that execs java).
    pub executables: Vec<PathBuf>,
    /// Left out of the journal where the unit says nothing of it, and not in that of an older agent.
    #[serde(default, skip_serializing_if = "is_default")]
    pub care: Care,
    /// `notify`: silence for longer than this, once it is ready, ends it. `None` asks for no sign of life.
    #[serde(default)]
    pub watchdog: Option<Duration>,
    /// `notify`: the program is ready when it has written a newline to this descriptor (as s6 and dinit have it). 3 to
    /// 255.
    #[serde(default)]
    pub ready_fd: Option<i32>,
    /// `systemd`: the unit that is started and stopped, with its suffix: `redis-server.service`. The command is empty then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
}

impl Run {
    /// The systemd unit that runs it, where systemd does.
    pub fn systemd_unit(&self) -> Option<&str> {
        self.unit.as_deref().filter(|_| self.kind == RunKind::Systemd)
    }
}

fn is_default(care: &Care) -> bool {
    *care == Care::default()
}

/// Who holds the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunKind {
    /// In the foreground; the agent holds it.
    Exec,
    /// It daemonises; the main process is proven, not believed.
    Forking,
    /// It runs to its end; exit code 0 is `completed`.
    Oneshot,
    /// In the foreground, and it says itself how it fares: sd_notify(3).
    Notify,
    /// systemd holds it: a unit of the machine's own is started and stopped over D-Bus.
    Systemd,
}

/// `[ready]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Readiness {
    /// What the agent asks on its own node.
    pub local: Probe,
    /// What dependents ask over the network; `None` when it can be proven only on its own machine.
    pub remote: Option<Question>,
    /// How long from the spawn until `ready`; progress stretches it.
    pub within: Duration,
    /// How long that usually takes: a hint for `clusterctl simulate`, nothing is decided by it.
    #[serde(default)]
    pub usually: Option<Duration>,
    /// How often to ask when all is well.
    pub every: Duration,
    /// How many bad answers in a row make a ready thing lost.
    pub lost_after: u32,
}

/// The own question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Probe {
    Ask(Question),
    /// Ready when the process has run for this long. For what has no better word of its own.
    Running {
        for_: Duration,
    },
    /// A oneshot: ready means completed.
    Completed,
    /// It says so itself (`READY=1`); of what systemd runs, systemd says that its unit is active.
    Notified,
}

/// One question over a component's own protocol. Two equal questions from one node are one question: there is one
/// prober for it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Question {
    pub ask: Ask,
    /// One deadline for the whole question: connect, TLS and reply included.
    pub timeout: Duration,
}

/// What is asked, by protocol.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Ask {
    /// A connect that succeeds.
    Tcp { address: SocketAddr },
    /// A GET with an expected status.
    Http(Get),
    /// A program that exits 0; its first output line is the detail. `contains`: a text in its output.
    Exec {
        command: Vec<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        contains: Option<String>,
    },
    /// MySQL or MariaDB. Without `login`: handshake, unverified.
    Mysql { address: SocketAddr, login: Option<Login> },
    /// PostgreSQL.
    Postgres { address: SocketAddr, login: Login, database: String },
    /// Redis: PING, loading, ROLE.
    Redis { address: SocketAddr, login: Option<Login> },
    /// ActiveMQ: its OpenWire greeting and introduction, and what else it is set up for.
    Activemq {
        address: SocketAddr,
        #[serde(default, skip_serializing_if = "BrokerAsk::is_default")]
        also: BrokerAsk,
    },
    /// FastDFS tracker or storage.
    Fastdfs {
        address: SocketAddr,
        #[serde(default)]
        ask: FastdfsAsk,
    },
    /// LibreOffice: its UNO socket, and now and then a tiny document.
    Uno {
        address: SocketAddr,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        convert: Option<Conversion>,
    },
    /// Virtual addresses on this machine's interfaces, and what keepalived says of them.
    Vip(VipAsk),
    /// A virtual service of IPVS, in this machine's kernel.
    Ipvs(VirtualService),
    /// A datagram, and a reply that holds `expect`.
    Udp { address: SocketAddr, send: Vec<u8>, expect: Vec<u8> },
    /// A name that a server must answer for. `expect`: an address that must be among the answers.
    Dns { address: SocketAddr, name: String, record: Record, expect: Option<IpAddr> },
    /// grpc.health.v1.Health/Check
    Grpc(GrpcHealth),
    /// A connect to a unix socket.
    Unix { path: PathBuf },
    /// A file that is there, not older than `max_age`, with a text in its first mebibyte.
    File { path: PathBuf, contains: Option<String>, max_age: Option<Duration> },
    /// Something is mounted on this path, if said of this file system type.
    Mount { path: PathBuf, fs: Option<String> },
    /// The kernel says that the clock is in step, and off by this at the most.
    Clock { max_error: Option<Duration> },
    /// systemd has this unit active.
    Systemd { unit: String },
}

/// What is asked of a gRPC server.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct GrpcHealth {
    pub address: SocketAddr,
    /// The service that is asked about; empty is the server as a whole.
    pub service: String,
    pub tls: bool,
    /// The name that its certificate must have; `None` is the address.
    pub name: Option<String>,
    /// The authorities (PEM) that may have signed its certificate; `None` is whom the system trusts.
    pub ca: Option<PathBuf>,
}

/// A type of DNS record, with its number (RFC 1035, 2782, 3596).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Record {
    A = 1,
    Ns = 2,
    Soa = 6,
    Ptr = 12,
    Mx = 15,
    Txt = 16,
    Aaaa = 28,
    Srv = 33,
}

impl Record {
    /// As typed, in the order of their numbers.
    pub const ALL: [(&str, Record); 8] = [
        ("A", Record::A),
        ("NS", Record::Ns),
        ("SOA", Record::Soa),
        ("PTR", Record::Ptr),
        ("MX", Record::Mx),
        ("TXT", Record::Txt),
        ("AAAA", Record::Aaaa),
        ("SRV", Record::Srv),
    ];

    pub fn as_str(self) -> &'static str {
        Record::ALL.iter().find(|(_, record)| *record == self).map_or("", |(name, _)| name)
    }
}

/// A GET, and what is expected of its answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Get {
    pub url: String,
    pub status: u16,
    /// A text in the body.
    pub contains: Option<String>,
    /// Values in a JSON body: pointer (RFC 6901), and what it must lead to, a string without its quotes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub json: Vec<(String, String)>,
    /// Headers of the answer, and a text that each must hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<(String, String)>,
    /// The name of the site: the `Host` that is asked for, and the name that the certificate must have. `None` is the
    /// URL's own host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The authorities (PEM) that may have signed its certificate; `None` is whom the system trusts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
}

impl Get {
    /// Expects status 200 and nothing else.
    pub fn of(url: impl Into<String>) -> Get {
        Get {
            url: url.into(),
            status: 200,
            contains: None,
            json: vec![],
            headers: vec![],
            name: None,
            ca: None,
        }
    }

    /// Whether the body matters.
    pub fn looks_inside(&self) -> bool {
        self.contains.is_some() || !self.json.is_empty()
    }
}

/// What is asked of a FastDFS.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FastdfsAsk {
    /// The active test (command 111), which a tracker and a storage answer alike.
    #[default]
    Active,
    /// A tracker: whether it knows where to upload, in any group or in this one.
    Upload { group: Option<String> },
    /// A storage: its active test, and that a tracker lists it as active.
    Storage { group: String, trackers: Vec<SocketAddr> },
}

/// What is asked of a broker besides OpenWire, on further ports of the same address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct BrokerAsk {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stomp: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub amqp: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mqtt: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jolokia: Option<Jolokia>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store: Option<StoreAsk>,
}

/// A broker's store is asked, by a queue that is made and removed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct StoreAsk {
    /// Who may make queues, where the broker asks for a login.
    pub login: Option<Login>,
}

impl BrokerAsk {
    fn is_default(&self) -> bool {
        *self == BrokerAsk::default()
    }
}

/// Where a broker's health is asked for, over HTTP.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Jolokia {
    pub port: u16,
    /// `/api/jolokia` in ActiveMQ's own web console.
    pub path: String,
    pub login: Option<Login>,
}

/// A document that an office converts now and then.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Conversion {
    /// How often, at most.
    pub every: Duration,
    /// How long it may take before the office counts as hung.
    pub within: Duration,
}

/// What is asked about virtual addresses.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct VipAsk {
    /// Which ones.
    pub addresses: Vec<IpAddr>,
    /// Whether being ready means to hold them all.
    #[serde(default)]
    pub held: bool,
    /// The pid file of the keepalived that is asked for its state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keepalived: Option<PathBuf>,
}

/// A virtual service of IPVS and what is expected of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct VirtualService {
    pub service: IpvsName,
    /// The real servers that should be there; those of a mark have port 0.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub servers: Vec<SocketAddr>,
    /// How many real servers with a weight above 0 are enough.
    pub least: u32,
}

/// How the kernel knows a virtual service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IpvsName {
    Tcp(SocketAddr),
    Udp(SocketAddr),
    Sctp(SocketAddr),
    /// By the mark that a rule of the mangle table gives.
    Fwmark(u32),
}

/// Credentials: a name, and where the password is (never the password itself).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Login {
    pub user: String,
    #[serde(flatten)]
    pub password: Option<Secret>,
}

/// Where the agent finds a password.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Secret {
    /// In a file that only its owner may read.
    #[serde(rename = "password_file")]
    File(PathBuf),
    /// In a variable of the agent's own environment.
    #[serde(rename = "password_env")]
    Env(String),
    /// In a credential that systemd gave the agent, by its name (systemd.exec(5), `LoadCredential=`).
    #[serde(rename = "password_credential")]
    Credential(String),
}

impl Ask {
    /// The address that is asked, but for a URL and what has none.
    pub fn address_mut(&mut self) -> Option<&mut SocketAddr> {
        match self {
            Ask::Tcp { address }
            | Ask::Mysql { address, .. }
            | Ask::Postgres { address, .. }
            | Ask::Redis { address, .. }
            | Ask::Activemq { address, .. }
            | Ask::Fastdfs { address, .. }
            | Ask::Uno { address, .. }
            | Ask::Udp { address, .. }
            | Ask::Dns { address, .. }
            | Ask::Grpc(GrpcHealth { address, .. }) => Some(address),
            Ask::Http(_)
            | Ask::Exec { .. }
            | Ask::Unix { .. }
            | Ask::File { .. }
            | Ask::Mount { .. }
            | Ask::Clock { .. }
            | Ask::Systemd { .. }
            | Ask::Vip(_)
            | Ask::Ipvs(_) => None,
        }
    }
}

impl Question {
    /// The address that is asked, where the question goes over the network.
    pub fn address(&self) -> Option<SocketAddr> {
        match &self.ask {
            Ask::Tcp { address }
            | Ask::Mysql { address, .. }
            | Ask::Postgres { address, .. }
            | Ask::Redis { address, .. }
            | Ask::Activemq { address, .. }
            | Ask::Fastdfs { address, .. }
            | Ask::Uno { address, .. }
            | Ask::Udp { address, .. }
            | Ask::Dns { address, .. }
            | Ask::Grpc(GrpcHealth { address, .. }) => Some(*address),
            Ask::Http(Get { url, .. }) => {
                let rest = url.split_once("://").map_or(url.as_str(), |(_, r)| r);
                let authority = rest.split('/').next().unwrap_or(rest);
                let default = if url.starts_with("https:") { 443 } else { 80 };
                authority
                    .parse()
                    .ok()
                    .or_else(|| authority.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, default)))
            }
            Ask::Exec { .. }
            | Ask::Unix { .. }
            | Ask::File { .. }
            | Ask::Mount { .. }
            | Ask::Clock { .. }
            | Ask::Systemd { .. }
            | Ask::Vip(_)
            | Ask::Ipvs(_) => None,
        }
    }

    /// Whether it can be asked from another machine with the same meaning: whether it goes over the network.
    pub fn is_remote(&self) -> bool {
        matches!(self.ask, Ask::Http(_)) || self.address().is_some()
    }
}

/// `[stop]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stop {
    /// Signal number sent to the main process first.
    pub signal: i32,
    /// Then, after this, the whole tree is killed.
    pub timeout: Duration,
}

/// `[restart]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restart {
    /// The first delay; doubled at each failure.
    pub delay: Duration,
    /// The cap of the delay.
    pub max: Duration,
    /// This many failures within `within`, or of starts none of which came to be ready, end in `failed`; 0 is no limit.
    pub limit: u32,
    pub within: Duration,
    /// A run of this length counts as stable and resets the delay.
    pub stable: Duration,
    /// What is unready for so long is started anew. `None`: never for that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unready_for: Option<Duration>,
}

/// `[leftovers]`: what to judge before a start, besides the pid file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leftovers {
    /// Further pid files.
    pub pidfiles: Vec<PathBuf>,
    /// Unix sockets: stale when connecting is refused. A `*` in a file's name (of these three) stands for any text.
    pub sockets: Vec<PathBuf>,
    /// Lock files: stale when no process holds them open or locked.
    pub locks: Vec<PathBuf>,
    /// Whether the daemon puts the cluster's virtual addresses on an interface, and a killed one leaves them there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub vips: bool,
    /// With `vips`: those that may be on this node, as `cluster.toml` has them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<IpAddr>,
}

/// `[log]`: how much is kept of what it prints, in force from its next start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLimits {
    /// Bytes of the file, and of each piece.
    pub size: u64,
    /// How many pieces are kept beside the file.
    pub keep: u32,
}

impl Default for LogLimits {
    /// 128 MiB in all.
    fn default() -> LogLimits {
        LogLimits { size: 16 << 20, keep: 7 }
    }
}

impl LogLimits {
    fn is_default(&self) -> bool {
        *self == LogLimits::default()
    }
}
