//! The tree of an instance: every process that a start has led to, however often it forked.
//!
//! Two nets catch them. The *leaf* is a cgroup (v2) of the instance's own, in which its first process is born and
//! which no descendant leaves by itself. The *marks* are variables in the environment that descendants inherit;
//! they find those that something else moved out of the leaf (`su` with PAM makes a session of its own), and do the
//! whole work where there is no cgroup v2. Neither is complete alone: Redis and nginx overwrite their
//! environment, and so lose their marks.

use super::identity::{Handle, Lost};
use super::proc;
use crate::model::Unit;
use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

/// Variable that names the agent (its tag).
pub const AGENT_MARK: &str = "CLUSTERD_AGENT";
/// Variable that names the instance.
pub const INSTANCE_MARK: &str = "CLUSTERD_INSTANCE";
/// Variable that names the incarnation.
pub const NONCE_MARK: &str = "CLUSTERD_NONCE";

/// Where cgroup v2 is mounted: alone, or beside v1.
const MOUNTS: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];
/// Folders of leaves are named by this and the agent's tag.
const PREFIX: &str = "clusterd-";
/// The most of a pid file that is read, in bytes.
const MAX_PIDFILE: u64 = 4096;
/// A tree that keeps forking while it is killed is tried so often.
const KILL_ROUNDS: usize = 20;

/// All the trees of one agent.
#[derive(Debug)]
pub struct Tree {
    agent: String,
    cgroups: Result<Cgroups, String>,
}

/// The folder of leaves.
#[derive(Debug)]
struct Cgroups {
    /// In the file system: `/sys/fs/cgroup/system.slice/clusterd.service/clusterd-shop-redis1`.
    folder: PathBuf,
    /// The same as `/proc/PID/cgroup` shows it.
    shown: String,
}

/// One instance's cgroup.
#[derive(Debug)]
pub struct Leaf {
    path: PathBuf,
    folder: File,
}

impl Leaf {
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.folder.as_fd()
    }
}

/// A process that carries this agent's marks, or sits in one of its leaves.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Marked {
    pub instance: String,
    pub pid: i32,
    /// `None` when it overwrote its environment (it is in the instance's leaf).
    pub nonce: Option<String>,
}

/// Whose process it is, by its leaf or its marks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    pub agent: String,
    pub instance: String,
}

/// The main process of a daemonising unit is not known yet; the reason is for a person.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotYet(pub String);

impl Tree {
    /// What an agent's cgroups and its processes' marks are named by: no other agent, on whatever machine, has the
    /// same. `id` is the random name of its state folder.
    pub fn tag(cluster: &str, node: &str, id: &str) -> String {
        format!("{cluster}-{node}-{id}")
    }

    /// Finds cgroup v2 and makes the agent's folder below its own cgroup. Never fails: without cgroups the marks
    /// do, and [`Tree::without_cgroups`] tells why. `agent` tells agents on one machine apart (cluster and node).
    pub fn locate(agent: &str) -> Tree {
        let cgroups = Cgroups::locate(agent);
        Tree { agent: agent.to_owned(), cgroups }
    }

    /// Works with marks only.
    pub fn marks_only(agent: &str) -> Tree {
        Tree { agent: agent.to_owned(), cgroups: Err("not asked for".into()) }
    }

    pub fn agent(&self) -> &str {
        &self.agent
    }

    /// Why there are no leaves, if so: a sentence for the agent's `problems`.
    pub fn without_cgroups(&self) -> Option<&str> {
        self.cgroups.as_ref().err().map(String::as_str)
    }

    /// Makes the instance's leaf, or opens it; `Ok(None)` where there are no cgroups.
    pub fn leaf(&self, instance: &str) -> io::Result<Option<Leaf>> {
        let Some(path) = self.leaf_path(instance)? else { return Ok(None) };
        let folder = match File::open(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                fs::create_dir(&path)?;
                File::open(&path)?
            }
            opened => opened?,
        };
        Ok(Some(Leaf { path, folder }))
    }

    /// Removes the instance's leaf if nothing is left in it; `false` when it is still populated (or dying).
    pub fn remove_leaf(&self, instance: &str) -> io::Result<bool> {
        let Some(path) = self.leaf_path(instance)? else { return Ok(true) };
        match fs::remove_dir(&path) {
            Ok(()) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::ResourceBusy => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Removes all leaves in which nothing lives, and the agent's folder if none is left; for those who tidy up
    /// after themselves (the demo). The kernel refuses to remove a populated one.
    pub fn dismantle(&self) {
        let Ok(cgroups) = &self.cgroups else { return };
        for leaf in fs::read_dir(&cgroups.folder).into_iter().flatten().flatten() {
            let _ = fs::remove_dir(leaf.path());
        }
        let _ = fs::remove_dir(&cgroups.folder);
    }

    /// The processes in the instance's leaf, without a look at anything else. Microseconds. Zombies that wait for
    /// their parent are not among them.
    pub fn leaf_members(&self, instance: &str) -> io::Result<Vec<i32>> {
        match self.leaf_path(instance)? {
            Some(path) => read_members(&path),
            None => Ok(Vec::new()),
        }
    }

    /// All living processes of the instance: those in its leaf and those that carry its marks. Reads all of
    /// `/proc`: about 10 µs a process on the machine.
    pub fn members(&self, instance: &str) -> io::Result<Vec<i32>> {
        let mut found: BTreeSet<i32> = self.leaf_members(instance)?.into_iter().collect();
        let me = std::process::id() as i32;
        for pid in proc::pids()? {
            if pid != me && !found.contains(&pid) && self.carries_mark(pid, instance) {
                found.insert(pid);
            }
        }
        found.retain(|pid| proc::stat(*pid).is_ok_and(|s| !s.is_dead()));
        Ok(found.into_iter().collect())
    }

    /// Kills the whole tree of the instance: its leaf at one stroke, and whatever else carries its marks, by pidfd.
    /// Returns handles of all that were told to die; they take a moment.
    pub fn kill_all(&self, instance: &str) -> io::Result<Vec<Handle>> {
        let mut told: Vec<Handle> = Vec::new();
        for _ in 0..KILL_ROUNDS {
            let mut fresh = false;
            for pid in self.members(instance)? {
                // Held first, then asked again whether it is ours: the number may have changed hands since.
                let Ok(handle) = Handle::open(pid) else { continue };
                if !told.iter().any(|h| h.identity().is_same(handle.identity()))
                    && self.is_member(pid, instance)
                {
                    handle.signal(libc::SIGKILL)?;
                    told.push(handle);
                    fresh = true;
                }
            }
            if let Some(path) = self.leaf_path(instance)? {
                // Kernels before 5.14 have no cgroup.kill; the rounds do it there.
                match fs::write(path.join("cgroup.kill"), "1") {
                    Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                    _ => {}
                }
            }
            if !fresh {
                break;
            }
        }
        Ok(told)
    }

    /// Whether the process is of this instance, by leaf or by marks.
    pub fn is_member(&self, pid: i32, instance: &str) -> bool {
        let ours = |o: &Owner| o.agent == self.agent && o.instance == instance;
        self.leaf_owner(pid).as_ref().is_some_and(ours) || self.carries_mark(pid, instance)
    }

    /// All processes that this agent (or one with its tag before it) started and that still live. This is what is
    /// looked through when the journal is missing. Reads all of `/proc`.
    pub fn find_marked(&self) -> io::Result<Vec<Marked>> {
        let me = std::process::id() as i32;
        let mut found = Vec::new();
        for pid in proc::pids()? {
            if pid == me {
                continue;
            }
            let environ = proc::environ(pid).unwrap_or_default();
            let mark = mark_in(&environ).filter(|o| o.agent == self.agent);
            let Some(owner) = self.leaf_owner(pid).filter(|o| o.agent == self.agent).or(mark) else {
                continue;
            };
            if proc::stat(pid).is_ok_and(|s| !s.is_dead()) {
                let nonce = proc::variable(&environ, NONCE_MARK).map(str::to_owned);
                found.push(Marked { instance: owner.instance, pid, nonce });
            }
        }
        found.sort();
        Ok(found)
    }

    /// The main process of a unit that daemonises: proven, not believed.
    ///
    /// With a pid file it is the process named there, once that is a member of the tree. Without one it is the only
    /// process of the tree whose parent is not of the tree; call this after the launcher has exited, and again
    /// when what was found exits soon (a daemon that forks twice shows its middle process for an instant).
    pub fn find_main(&self, unit: &Unit, instance: &str) -> Result<Handle, NotYet> {
        match &unit.run.pidfile {
            Some(path) => self.main_by_pidfile(path, instance),
            None => self.main_by_descent(instance),
        }
    }

    fn main_by_pidfile(&self, path: &Path, instance: &str) -> Result<Handle, NotYet> {
        let shown = path.display();
        let mut text = Vec::new();
        match File::open(path).and_then(|f| f.take(MAX_PIDFILE).read_to_end(&mut text)) {
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return Err(NotYet(format!("it has not written {shown} yet")));
            }
            Err(e) => return Err(NotYet(format!("cannot read {shown}: {e}"))),
        }
        let text = String::from_utf8_lossy(&text);
        let Some(pid) = text.split_ascii_whitespace().next().and_then(|w| w.parse::<i32>().ok()) else {
            return Err(NotYet(format!("{shown} holds no number yet")));
        };
        let handle = Handle::open(pid).map_err(|lost| match lost {
            Lost::Gone(pid) => NotYet(format!("{shown} names {pid}, and no such process runs")),
            other => NotYet(format!("{shown} names {pid}: {other}")),
        })?;
        // Without a leaf there are only marks, and a daemon that sets its title (redis) has wiped them out. What was
        // orphaned to us (we are its subreaper) and stands in the file that this start wrote is this start's.
        let came_to_us = || {
            let me = std::process::id() as i32;
            self.cgroups.is_err() && proc::stat(pid).is_ok_and(|stat| stat.parent == me)
        };
        if self.is_member(pid, instance) || came_to_us() {
            return Ok(handle);
        }
        let who = proc::comm(pid).unwrap_or_else(|| "an unknown program".into());
        Err(NotYet(format!("{shown} names {pid}, which is {who} and does not descend from this start")))
    }

    /// The only process of the tree whose parent is not of the tree.
    pub(crate) fn main_by_descent(&self, instance: &str) -> Result<Handle, NotYet> {
        let cannot = |e: io::Error| NotYet(format!("cannot look for its processes: {e}"));
        let members = match self.cgroups {
            Ok(_) => self.leaf_members(instance),
            Err(_) => self.members(instance),
        }
        .map_err(cannot)?;
        let parent = |pid: &i32| proc::stat(*pid).ok().filter(|s| !s.is_dead()).map(|s| s.parent);
        let tops: Vec<i32> =
            members.iter().copied().filter(|p| parent(p).is_some_and(|up| !members.contains(&up))).collect();
        match tops[..] {
            [] => Err(NotYet("none of its processes is left".into())),
            [pid] => {
                let handle = Handle::open(pid).map_err(|lost| NotYet(lost.to_string()))?;
                match self.is_member(pid, instance) {
                    true => Ok(handle),
                    false => Err(NotYet(format!("process {pid} has just gone"))),
                }
            }
            _ => {
                let list: Vec<String> = tops.iter().take(8).map(i32::to_string).collect();
                Err(NotYet(format!(
                    "{} processes could be the main one ({}); a pid file in the unit would tell",
                    tops.len(),
                    list.join(", ")
                )))
            }
        }
    }

    fn carries_mark(&self, pid: i32, instance: &str) -> bool {
        mark_owner(pid).is_some_and(|o| o.agent == self.agent && o.instance == instance)
    }

    /// Whose leaf the process sits in: ours, or that of another agent beside us.
    pub(crate) fn leaf_owner(&self, pid: i32) -> Option<Owner> {
        let cgroups = self.cgroups.as_ref().ok()?;
        owner_of_cgroup(&cgroups.shown, &proc::cgroup(pid).ok()??)
    }

    fn leaf_path(&self, instance: &str) -> io::Result<Option<PathBuf>> {
        let Ok(cgroups) = &self.cgroups else { return Ok(None) };
        if !is_instance_name(instance) {
            let problem = format!("{instance:?} is no instance name");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, problem));
        }
        Ok(Some(cgroups.folder.join(instance)))
    }
}

impl Cgroups {
    fn locate(agent: &str) -> Result<Cgroups, String> {
        if !is_word(agent) {
            return Err(format!("the agent's tag {agent:?} cannot be part of a path"));
        }
        let is_v2 = |m: &str| statfs(Path::new(m)).is_ok_and(|s| s.filesystem_type() == CGROUP2_SUPER_MAGIC);
        let mount = MOUNTS.into_iter().find(|m| is_v2(m)).ok_or("cgroup v2 is not mounted")?;
        let own = proc::cgroup(std::process::id() as i32)
            .map_err(|e| format!("cannot read /proc/self/cgroup: {e}"))?
            .ok_or("this process is in no cgroup v2")?;
        if own.split('/').any(|part| part == "..") {
            return Err(format!("the own cgroup {own} lies outside the mounted hierarchy"));
        }
        let own = own.trim_end_matches('/');
        let shown = format!("{own}/{PREFIX}{agent}");
        let folder = Path::new(mount).join(shown.trim_start_matches('/'));
        match fs::create_dir(&folder) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
                return Err(format!("cannot make the cgroup {}: {e}", folder.display()));
            }
            _ => {}
        }
        Ok(Cgroups { folder, shown })
    }
}

/// Reads `cgroup.procs`. A leaf that is not there is empty; processes of other pid namespaces are shown as 0.
fn read_members(leaf: &Path) -> io::Result<Vec<i32>> {
    match fs::read_to_string(leaf.join("cgroup.procs")) {
        Ok(list) => Ok(list.lines().filter_map(|l| l.parse().ok()).filter(|p| *p > 0).collect()),
        Err(e) if e.kind() == io::ErrorKind::NotFound || e.raw_os_error() == Some(libc::ENODEV) => {
            Ok(Vec::new())
        }
        Err(e) => Err(e),
    }
}

/// Agents beside each other share the parent folder, whose name for our folder is `ours`; whatever a service makes
/// below its leaf still belongs to it.
fn owner_of_cgroup(ours: &str, path: &str) -> Option<Owner> {
    let (parent, _) = ours.rsplit_once('/')?;
    let mut parts = path.strip_prefix(parent)?.strip_prefix('/')?.split('/');
    let agent = parts.next()?.strip_prefix(PREFIX)?;
    let instance = parts.next()?;
    Some(Owner { agent: agent.to_owned(), instance: instance.to_owned() })
}

/// Whose marks the process carries, if any and if we may look.
pub(crate) fn mark_owner(pid: i32) -> Option<Owner> {
    mark_in(&proc::environ(pid).ok()?)
}

fn mark_in(environ: &[u8]) -> Option<Owner> {
    let agent = proc::variable(environ, AGENT_MARK)?.to_owned();
    let instance = proc::variable(environ, INSTANCE_MARK)?.to_owned();
    Some(Owner { agent, instance })
}

/// Whether the text can be a part of a path, and only a part.
fn is_word(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    !text.is_empty() && text.len() <= 200 && !text.starts_with('.') && text.bytes().all(plain)
}

/// `service@node`, fit for a path.
pub(crate) fn is_instance_name(text: &str) -> bool {
    text.split_once('@').is_some_and(|(service, node)| is_word(service) && is_word(node))
}
