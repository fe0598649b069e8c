//! The demo's machines: agents as processes, and the power cord.

use crate::process::proc;
use crate::process::{Handle, Tree};
use crate::rig::Rig;
use anyhow::Context;
use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A tree that keeps forking while it is killed is tried so often.
const ROUNDS: usize = 100;
/// How long the killed may take to be gone.
const GONE_WITHIN: Duration = Duration::from_secs(10);

/// All of them.
pub struct Machines {
    clusterd: PathBuf,
    dir: PathBuf,
    cluster_file: PathBuf,
    nodes: Vec<String>,
    agents: Vec<Child>,
}

impl Machines {
    /// # Errors
    /// When there is no `clusterd` beside this program.
    pub fn new(rig: &Rig) -> anyhow::Result<Machines> {
        let clusterd = std::env::current_exe()?.with_file_name("clusterd");
        anyhow::ensure!(
            clusterd.exists(),
            "the demo needs the agent beside this program, at {}",
            clusterd.display()
        );
        Ok(Machines {
            clusterd,
            dir: rig.dir.clone(),
            cluster_file: rig.cluster_file.clone(),
            nodes: rig.nodes.iter().map(|(name, _)| name.clone()).collect(),
            agents: Vec::new(),
        })
    }

    fn folder(&self, node: &str) -> PathBuf {
        self.dir.join(node)
    }

    /// The local socket of a node's agent.
    pub fn socket(&self, node: &str) -> PathBuf {
        self.folder(node).join("run/clusterd.sock")
    }

    /// Starts every agent.
    pub fn start_agents(&mut self) -> anyhow::Result<()> {
        for node in &self.nodes {
            let folder = self.folder(node);
            fs::create_dir_all(&folder)?;
            let log = File::options().create(true).append(true).open(folder.join("agent.log"))?;
            let agent = Command::new(&self.clusterd)
                .args(["--node", node, "--config"])
                .arg(&self.cluster_file)
                .arg("--state")
                .arg(folder.join("state"))
                .arg("--run")
                .arg(folder.join("run"))
                .stdin(Stdio::null())
                .stdout(log.try_clone()?)
                .stderr(log)
                // Ctrl-C is for the demo; it ends its agents itself.
                .process_group(0)
                .spawn()
                .with_context(|| format!("cannot start {}", self.clusterd.display()))?;
            self.agents.push(agent);
        }
        Ok(())
    }

    /// Ends the agents; what they started stays.
    pub async fn end_agents(&mut self) {
        for agent in &self.agents {
            if let Ok(handle) = Handle::open(agent.id() as i32) {
                let _ = handle.signal(libc::SIGTERM);
                let _ = tokio::time::timeout(Duration::from_secs(5), handle.exited()).await;
            }
        }
        self.reap_agents();
    }

    fn reap_agents(&mut self) {
        for mut agent in self.agents.drain(..) {
            let _ = agent.wait();
        }
    }

    /// Kills every process of the demo at one instant, and empties what a reboot empties. Returns how many.
    ///
    /// # Errors
    /// When some are still there afterwards.
    pub fn power_cut(&mut self) -> anyhow::Result<usize> {
        let mut killed = BTreeSet::new();
        for _ in 0..ROUNDS {
            let family = descendants()?;
            if family.is_empty() {
                break;
            }
            for handle in &family {
                let _ = handle.signal(libc::SIGKILL);
                killed.insert(handle.pid());
            }
            for handle in &family {
                handle.wait(GONE_WITHIN)?;
                // The orphans came to us; a zombie left behind would count as a living child.
                let _ = handle.reap();
            }
        }
        for agent in &mut self.agents {
            let _ = agent.wait();
        }
        self.agents.clear();
        let left = descendants()?.len();
        anyhow::ensure!(left == 0, "{left} processes are still there");
        for node in &self.nodes {
            remove_folder(&self.folder(node).join("run"))?;
            self.remove_cgroups(node);
        }
        Ok(killed.len())
    }

    /// The agents that were killed could not tidy up their cgroups.
    fn remove_cgroups(&self, node: &str) {
        let Ok(id) = fs::read_to_string(self.folder(node).join("state/id")) else { return };
        let Ok(cluster) = crate::model::load(&self.cluster_file, None) else { return };
        Tree::locate(&Tree::tag(&cluster.name, node, id.trim())).dismantle();
    }
}

fn remove_folder(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// All living processes below this one, held. Orphans come to us, so none is missed.
fn descendants() -> io::Result<Vec<Handle>> {
    let mut parents: HashMap<i32, (i32, u64)> = HashMap::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        if let Ok(stat) = proc::stat(pid)
            && !stat.is_dead()
        {
            parents.insert(pid, (stat.parent, stat.start));
        }
    }
    let me = std::process::id() as i32;
    let is_ours = |pid: i32| {
        let mut at = pid;
        // A chain of parents is never longer than there are processes.
        for _ in 0..parents.len() {
            match parents.get(&at) {
                Some((parent, _)) if *parent == me => return true,
                Some((parent, _)) => at = *parent,
                None => return false,
            }
        }
        false
    };
    let ours = parents.iter().filter(|(pid, _)| is_ours(**pid));
    // Held, and still the process that was looked at: only then may it be signalled.
    let held = ours.filter_map(|(pid, (_, start))| {
        Handle::open(*pid).ok().filter(|handle| handle.identity().start == *start)
    });
    Ok(held.collect())
}
