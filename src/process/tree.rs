//! The tree of an instance: every process that a start has led to, however often it forked.
//!
//! Two nets catch them. The *leaf* is a cgroup (v2) of the instance's own, in which its first process is born and
//! which no descendant leaves by itself. The *marks* are variables in the environment that descendants inherit;
//! they find those that something else moved out of the leaf (`su` with PAM makes a session of its own), and do the
//! whole work where there is no cgroup v2. Neither is complete alone: Redis and nginx overwrite their
//! environment, and so lose their marks.

use super::identity::{Handle, Identity, Lost};
use super::leaf::{self, Cgroups, Leaf, Owner, is_instance_name};
use super::look::Look;
use super::proc::{self, Stat};
use crate::model::{CgroupLimits, RunKind, Unit};
use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Variable that names the agent (its tag).
pub const AGENT_MARK: &str = "CLUSTERD_AGENT";
/// Variable that names the instance.
pub const INSTANCE_MARK: &str = "CLUSTERD_INSTANCE";
/// Variable that names the incarnation.
pub const NONCE_MARK: &str = "CLUSTERD_NONCE";

/// The most of a pid file that is read, in bytes.
const MAX_PIDFILE: u64 = 4096;
/// The most processes of an instance that are remembered from one look to the next.
const MAX_REMEMBERED: usize = 4096;

/// All the trees of one agent.
#[derive(Debug)]
pub struct Tree {
    agent: String,
    cgroups: Result<Cgroups, String>,
    /// What was seen to be of an instance, by number and start: it stays so, whatever it does to its environment.
    seen: RefCell<HashMap<String, BTreeSet<(i32, u64)>>>,
    /// The leaves that this agent has made and nobody was killed in, with their limits.
    unhurt: RefCell<HashMap<String, CgroupLimits>>,
}

/// A process that carries this agent's marks, or sits in one of its leaves.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Marked {
    pub instance: String,
    pub pid: i32,
    /// `None` when it overwrote its environment (it is in the instance's leaf).
    pub nonce: Option<String>,
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
        Tree::new(agent, Cgroups::locate(agent))
    }

    /// Works with marks only.
    pub fn marks_only(agent: &str) -> Tree {
        Tree::new(agent, Err("not asked for".into()))
    }

    fn new(agent: &str, cgroups: Result<Cgroups, String>) -> Tree {
        Tree { agent: agent.to_owned(), cgroups, seen: RefCell::default(), unhurt: RefCell::default() }
    }

    pub fn agent(&self) -> &str {
        &self.agent
    }

    /// Why there are no leaves, if so: a sentence for the agent's `problems`.
    pub fn without_cgroups(&self) -> Option<&str> {
        self.cgroups.as_ref().err().map(String::as_str)
    }

    /// Makes the instance's leaf, which is to have these limits ([`Tree::limit`] sets them), or opens the one in which
    /// something lives, or in which the last incarnation lived and nobody was killed; `Ok(None)` where there are no cgroups.
    pub fn leaf(&self, instance: &str, limits: &CgroupLimits) -> io::Result<Option<Leaf>> {
        let Some(path) = self.leaf_path(instance)? else { return Ok(None) };
        let is_unhurt = self.unhurt.borrow_mut().remove(instance).as_ref() == Some(limits);
        let again = (is_unhurt && !self.ran_out_of_memory(instance)).then(|| Leaf::again(&path)).flatten();
        let is_known = again.is_some();
        let leaf = again.map_or_else(|| Leaf::make(path), Ok)?;
        if is_known || !leaf.is_used() {
            self.unhurt.borrow_mut().insert(instance.to_owned(), *limits);
        }
        Ok(Some(leaf))
    }

    /// Sets the limits of a leaf that [`Tree::leaf`] made. Each sentence that comes back tells of one that is not in
    /// force.
    pub fn limit(&self, leaf: Option<&Leaf>, limits: &CgroupLimits) -> Vec<String> {
        match leaf {
            Some(leaf) => leaf.limit(limits),
            None => leaf::no_limits(limits, self.without_cgroups().unwrap_or("it has no cgroup of its own")),
        }
    }

    /// Whether the kernel killed a process of the instance because its cgroup was out of memory; `false` where the
    /// cgroup does not tell.
    pub fn ran_out_of_memory(&self, instance: &str) -> bool {
        if !self.cgroups.as_ref().is_ok_and(|cgroups| cgroups.counts_memory) {
            return false;
        }
        let path = self.leaf_path(instance).ok().flatten();
        path.and_then(|path| leaf::oom_kills(&path)).is_some_and(|kills| kills > 0)
    }

    /// Removes the instance's leaf if nothing is left in it; `false` when it is still populated (or dying).
    pub fn remove_leaf(&self, instance: &str) -> io::Result<bool> {
        self.unhurt.borrow_mut().remove(instance);
        self.leaf_path(instance)?.map_or(Ok(true), |path| leaf::remove(&path))
    }

    /// Removes all leaves in which nothing lives, and the agent's folder if none is left; for those who tidy up
    /// after themselves (the demo). The kernel refuses to remove a populated one.
    pub fn dismantle(&self) {
        let Ok(cgroups) = &self.cgroups else { return };
        for leaf in fs::read_dir(&cgroups.folder).into_iter().flatten().flatten() {
            if leaf.file_type().is_ok_and(|t| t.is_dir()) {
                let _ = leaf::remove(&leaf.path());
            }
        }
        let _ = fs::remove_dir(&cgroups.folder);
    }

    /// The processes in the instance's leaf, without a look at anything else. Microseconds. Zombies that wait for
    /// their parent are not among them.
    pub fn leaf_members(&self, instance: &str) -> io::Result<Vec<i32>> {
        match self.leaf_path(instance)? {
            Some(path) => leaf::members(&path),
            None => Ok(Vec::new()),
        }
    }

    /// Whether the instance has a leaf, and nothing lives in it. Without a leaf that cannot be said.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn has_empty_leaf(&self, instance: &str) -> io::Result<bool> {
        Ok(match self.leaf_path(instance)? {
            Some(path) => leaf::population(&path)? == Some(false),
            None => false,
        })
    }

    /// Kills all that is in the instance's leaf, whose path this is.
    pub(super) fn kill_in(&self, instance: &str, leaf: &Path) -> io::Result<()> {
        self.unhurt.borrow_mut().remove(instance);
        leaf::kill(leaf)
    }

    /// All living processes of the instance: those in its leaf, those that carry its marks, and those that descend
    /// from any of these or share a session with them. Reads all of `/proc`.
    pub fn members(&self, instance: &str) -> io::Result<Vec<i32>> {
        let mut found: BTreeSet<i32> = self.leaf_members(instance)?.into_iter().collect();
        found.extend(self.identified(instance)?.into_iter().map(|(pid, _)| pid));
        Ok(found.into_iter().collect())
    }

    /// The same, but for those that `/proc` hides; each with its start, so that it can be told from a later process
    /// with its number.
    pub(super) fn identified(&self, instance: &str) -> io::Result<BTreeSet<(i32, u64)>> {
        let leaf = self.leaf_members(instance)?;
        Ok(self.found_in(&self.look()?, instance, &leaf))
    }

    /// As [`Tree::identified`], by a look that was begun after the leaf was read.
    pub(super) fn found_in(&self, look: &Look, instance: &str, leaf: &[i32]) -> BTreeSet<(i32, u64)> {
        let mut seen = self.seen.borrow_mut();
        let found = look.tree_of(instance, leaf, seen.get(instance));
        if let Some(known) = seen.get_mut(instance) {
            *known = found.iter().copied().take(MAX_REMEMBERED).collect();
        }
        found
    }

    /// From now on whatever descends from this process is known to be of the instance, even where there is no cgroup
    /// and it wipes out its marks: as far as it is seen by a look ([`Tree::members`]) while its parents live. The
    /// process must have been started for the instance by an agent: one that was adopted from somebody's login would
    /// bring that person's session along.
    pub fn remember(&self, instance: &str, process: &Identity) {
        let mut seen = self.seen.borrow_mut();
        let known = seen.entry(instance.to_owned()).or_default();
        if known.len() < MAX_REMEMBERED {
            known.insert((process.pid, process.start));
        }
    }

    /// Ends what [`Tree::remember`] began.
    pub fn forget(&self, instance: &str) {
        self.seen.borrow_mut().remove(instance);
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

    /// The main process: proven, not believed.
    ///
    /// A daemon forks itself away. With a pid file it is the process named there, once that is a member of the tree. Without one it is the only
    /// process of the tree whose parent is not of the tree; call this after the launcher has exited, and again
    /// when what was found exits soon (a daemon that forks twice shows its middle process for an instant). Of all other
    /// kinds it is the one that was started.
    pub fn find_main(&self, unit: &Unit, instance: &str) -> Result<Handle, NotYet> {
        match &unit.run.pidfile {
            Some(path) if unit.run.kind == RunKind::Forking => self.main_by_pidfile(path, instance),
            _ => self.main_by_descent(unit, instance),
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

    /// The only process of the tree whose parent is not of the tree. Where nothing daemonises it leads its session, as
    /// it was born: a child that outlived the main process does not.
    pub(crate) fn main_by_descent(&self, unit: &Unit, instance: &str) -> Result<Handle, NotYet> {
        let cannot = |e: io::Error| NotYet(format!("cannot look for its processes: {e}"));
        let members = match self.cgroups {
            Ok(_) => self.leaf_members(instance),
            Err(_) => self.members(instance),
        }
        .map_err(cannot)?;
        let leads = |pid: i32, stat: &Stat| unit.run.kind == RunKind::Forking || stat.session == pid;
        let is_top = |pid: i32| {
            let stat = proc::stat(pid).ok().filter(|s| !s.is_dead());
            stat.is_some_and(|s| leads(pid, &s) && !members.contains(&s.parent))
        };
        let tops: Vec<i32> = members.iter().copied().filter(|pid| is_top(*pid)).collect();
        match tops[..] {
            [] if members.is_empty() => Err(NotYet("none of its processes is left".into())),
            [] => Err(NotYet("only children of its main process are left".into())),
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
        leaf::owner_of_cgroup(&cgroups.shown, &proc::cgroup(pid).ok()??)
    }

    pub(super) fn leaf_path(&self, instance: &str) -> io::Result<Option<PathBuf>> {
        let Ok(cgroups) = &self.cgroups else { return Ok(None) };
        if !is_instance_name(instance) {
            let problem = format!("{instance:?} is no instance name");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, problem));
        }
        Ok(Some(cgroups.folder.join(instance)))
    }
}

/// Whose marks the process carries, if any and if we may look.
pub(crate) fn mark_owner(pid: i32) -> Option<Owner> {
    mark_in(&proc::environ(pid).ok()?)
}

pub(super) fn mark_in(environ: &[u8]) -> Option<Owner> {
    let agent = proc::variable(environ, AGENT_MARK)?.to_owned();
    let instance = proc::variable(environ, INSTANCE_MARK)?.to_owned();
    Some(Owner { agent, instance })
}
