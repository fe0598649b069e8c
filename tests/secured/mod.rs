//! A cluster of agents with certificates, and its CA.

#![allow(dead_code)] // each test binary uses its part

use crate::agents::{self, Told, told};
use clusterd::api::client::Target;
use clusterd::api::wire::ClusterStatus;
use clusterd::pki::{Ca, Validity, Who};
use std::fs;
use std::ops::{Deref, DerefMut};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Nodes of [`Secured::fourteen`], and how many of them are caches.
pub const NODES: u8 = 14;
const CACHES: u8 = 2;

pub fn node(n: u8) -> String {
    format!("n{n}")
}

/// What runs there.
pub fn instance(n: u8) -> String {
    format!("{}@n{n}", if n <= CACHES { "cache" } else { "web" })
}

pub struct Secured {
    inner: agents::Cluster,
    ca: PathBuf,
    runtime: tokio::runtime::Runtime,
}

impl Deref for Secured {
    type Target = agents::Cluster;
    fn deref(&self) -> &agents::Cluster {
        &self.inner
    }
}

impl DerefMut for Secured {
    fn deref_mut(&mut self) -> &mut agents::Cluster {
        &mut self.inner
    }
}

impl Secured {
    /// A cache on n1 and a web server that needs it on n2, with a CA; `more` goes under `[cluster]`.
    pub fn new(name: &str, more: &str) -> Secured {
        let inner = agents::Cluster::new(name);
        inner.write_file_with(
            more,
            "needs.cache = \"any\"",
            &[("cache", "{ n1 = \"A1\" }"), ("web", "{ n2 = \"A2\" }")],
        );
        let ca = inner.file_named("ca");
        Ca::init(&ca, inner.name(), Validity::days(100), None).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Secured { inner, ca, runtime }
    }

    /// As many nodes as the sample has: two caches, and web servers that need one of them.
    pub fn fourteen(name: &str) -> Secured {
        let cluster = Secured::new(name, "");
        let line = |n: u8| format!("{} = \"{}\"", node(n), cluster.address(n));
        let group = |nodes: std::ops::RangeInclusive<u8>| nodes.map(line).collect::<Vec<_>>().join(", ");
        let file = format!(
            "[cluster]\nname = \"NAME\"\n\n[nodes]\ncache = {{ {} }}\nweb = {{ {} }}\n\n\
             [services]\ncache = {{ on = \"cache\" }}\nweb = {{ on = \"web\", needs.cache = \"any\" }}\n",
            group(1..=CACHES),
            group(CACHES + 1..=NODES)
        );
        cluster.write(&file, &[]);
        cluster
    }

    pub fn ca(&self) -> Ca {
        Ca::open(&self.ca).unwrap()
    }

    pub fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    /// The TCP address of node 1 or 2.
    pub fn target(&self, node: u8) -> Target {
        Target::Tcp(format!("{}:7117", self.address(node)))
    }

    pub fn socket(&self, node: &str) -> String {
        self.run(node).join("clusterd.sock").to_str().unwrap().to_owned()
    }

    pub fn state(&self, node: &str) -> PathBuf {
        self.file_named(node).join("state")
    }

    /// Where a node's agent keeps its certificate.
    pub fn identity(&self, node: &str) -> PathBuf {
        self.state(node).join("identity.pem")
    }

    /// The file that a node is to take in.
    pub fn handed_out(&self, node: &str) -> PathBuf {
        self.file_named(&format!("{node}.pem"))
    }

    /// Writes the file that a node is to take in.
    pub fn hand_out(&self, node: &str, bundle: &str) {
        let path = self.handed_out(node);
        let _ = fs::remove_file(&path);
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).unwrap();
        std::io::Write::write_all(&mut file, bundle.as_bytes()).unwrap();
    }

    pub fn try_join(&self, node: &str) -> Told {
        clusterd_join(&self.handed_out(node), node, &self.file(), &self.state(node))
    }

    /// Takes in what was handed out, or a certificate made now.
    pub fn join(&self, node: &str) {
        if !self.handed_out(node).exists() {
            let issued = self.ca().issue(Who::Node(node.to_owned()), Validity::days(100)).unwrap();
            self.hand_out(node, &issued.bundle);
        }
        let told = self.try_join(node);
        assert_eq!(told.code, 0, "{told:?}");
    }

    pub fn join_and_start(&mut self, node: &str) {
        self.join(node);
        self.start(node);
    }

    /// All nodes as one agent sees them, once each has answered it.
    pub fn whole(&self, node: &str) -> Option<ClusterStatus> {
        let status: ClusterStatus = serde_json::from_value(self.status(node)?).unwrap();
        status.nodes.iter().all(|n| n.status.is_some()).then_some(status)
    }

    /// Adds a key to those that the cluster file revokes.
    pub fn revoke(&self, key: &str) {
        let text = fs::read_to_string(self.file()).unwrap();
        fs::write(
            self.file(),
            text.replacen("\n\n[nodes]", &format!("\nrevoked = [\"{key}\"]\n\n[nodes]"), 1),
        )
        .unwrap();
    }

    /// Opens the folders on the way to the sockets.
    pub fn let_everybody_in(&self) {
        for folder in [self.file_named(""), self.file_named("n1")] {
            fs::set_permissions(folder, fs::Permissions::from_mode(0o711)).unwrap();
        }
    }

    /// `clusterctl`, run by another user of this machine.
    pub fn as_user(&self, user: &str, group: Option<&str>, args: &[&str]) -> Told {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", user, "--regid", "nogroup"]);
        match group {
            Some(group) => command.args(["--groups", group]),
            None => command.arg("--clear-groups"),
        };
        command.arg("--").arg(env!("CARGO_BIN_EXE_clusterctl")).args(args);
        told(command)
    }
}

/// `clusterctl`, with nothing of this machine's own.
pub fn clusterctl(args: &[&str]) -> Told {
    let mut command = Command::new(env!("CARGO_BIN_EXE_clusterctl"));
    command.env_clear().args(args);
    told(command)
}

pub fn clusterd_join(file: &Path, node: &str, config: &Path, state: &Path) -> Told {
    let mut command = Command::new(env!("CARGO_BIN_EXE_clusterd"));
    command.arg("join").arg(file).args(["--node", node, "--config"]).arg(config).arg("--state").arg(state);
    told(command)
}
