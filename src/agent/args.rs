//! The agent's command line.

use super::etcd::Access;
use clap::{CommandFactory, Parser, Subcommand};
use std::fs::File;
use std::path::{Path, PathBuf};

/// The agent of one node: starts its services once what they need is proven ready, and keeps them.
///
/// Runs in the foreground. SIGTERM ends the agent and leaves the services running; SIGHUP reads cluster.toml again.
/// SIGPWR says that the machine goes down: the services are stopped, then the agent ends.
#[derive(Clone, Debug, Parser)]
#[command(name = "clusterd", version)]
pub struct Args {
    #[command(subcommand)]
    pub verb: Option<Verb>,
    /// The cluster file; units are read from `units/` beside it. Or a key in etcd, below which the files are:
    /// etcd://10.0.0.1:2379,10.0.0.2:2379/shop
    #[arg(long, global = true, value_name = "FILE", default_value = "/etc/clusterd/cluster.toml")]
    pub config: PathBuf,
    #[command(flatten)]
    pub etcd: Access,
    /// The folder of the unit files, if it is not `units/` beside the cluster file
    #[arg(long, global = true, value_name = "DIR")]
    pub units: Option<PathBuf>,
    /// Which node of the file this machine is; default: /etc/clusterd/node, the hostname, or its address
    #[arg(long, global = true, value_name = "NAME")]
    pub node: Option<String>,
    /// What must survive a reboot: operators' wishes, the last good configuration, events
    #[arg(long, global = true, value_name = "DIR", default_value = "/var/lib/clusterd")]
    pub state: PathBuf,
    /// What must survive the agent only: its journal and its socket
    #[arg(long, value_name = "DIR", default_value = "/run/clusterd")]
    pub run: PathBuf,
    /// Write down everything that the engine is given and says, for replaying it; at most 64 MiB
    #[arg(long, value_name = "FILE", hide = true)]
    pub record: Option<PathBuf>,
    /// How much to log: error, warn, info, debug
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    pub log: tracing::Level,
}

/// What the agent's program does besides being the agent.
#[derive(Clone, Debug, Subcommand)]
pub enum Verb {
    /// Take in this node's certificate and key
    Join {
        /// From the file that `clusterctl pki bundle` wrote; remove it afterwards, it holds the key
        #[arg(required_unless_present = "token")]
        file: Option<PathBuf>,
        /// From a running agent, by the one-time token that `clusterctl pki invite` printed; it is read from standard input
        #[arg(long, conflicts_with = "file")]
        token: bool,
        /// Ask this agent only, instead of all in the cluster file
        #[arg(long, value_name = "HOST:PORT", requires = "token")]
        from: Option<String>,
    },
    /// Write the manual page into a folder, for the package
    #[command(hide = true)]
    Man { folder: PathBuf },
}

/// Writes `clusterd.8`.
///
/// # Errors
/// When the folder cannot be written to.
pub fn manual(folder: &Path) -> anyhow::Result<()> {
    let page = clap_mangen::Man::new(Args::command()).section("8");
    Ok(page.render(&mut File::create(folder.join("clusterd.8"))?)?)
}
