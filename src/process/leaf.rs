//! Leaves: a cgroup (v2) for each instance, see cgroups(7).

use super::identity::Handle;
use super::proc;
use crate::model::CgroupLimits;
use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Where cgroup v2 is mounted: alone, or beside v1.
const MOUNTS: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];
/// Folders of leaves are named by this and the agent's tag.
const PREFIX: &str = "clusterd-";
/// With `DelegateSubgroup=agent` systemd keeps the agent itself in this cgroup below its own: only a cgroup without
/// processes of its own can hand controllers to those below it.
const AGENT_SUBGROUP: &str = "/agent";
/// What the limits of a unit need.
const CONTROLLERS: [&str; 3] = ["cpu", "memory", "pids"];
/// The most cgroups that are looked at below a leaf, made there by the service.
const MAX_FOLDERS: usize = 1000;
/// cpu.max is told as so much in each period, in microseconds: the kernel's own default.
const CPU_PERIOD: u64 = 100_000;
/// The links of a folder without folders in it, as nearly every leaf is.
const OWN_LINKS: u64 = 2;
/// Without `cgroup.kill`, a frozen leaf is killed in so many rounds at most.
const KILL_ROUNDS: usize = 20;

/// The folder of leaves.
#[derive(Debug)]
pub(super) struct Cgroups {
    /// In the file system: `/sys/fs/cgroup/system.slice/clusterd.service/clusterd-shop-redis1`.
    pub folder: PathBuf,
    /// The same as `/proc/PID/cgroup` shows it.
    pub shown: String,
    /// Whether the kernel counts in the leaves what it kills for want of memory.
    pub counts_memory: bool,
}

/// One instance's cgroup.
#[derive(Debug)]
pub struct Leaf {
    path: PathBuf,
    folder: File,
    /// An earlier incarnation lived in it.
    used: bool,
}

/// Whose process it is, by its leaf or its marks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    pub agent: String,
    pub instance: String,
}

impl Cgroups {
    /// Finds cgroup v2, makes the agent's folder, and asks for the controllers that are there. An error is a sentence.
    pub fn locate(agent: &str) -> Result<Cgroups, String> {
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
        let above = own.strip_suffix(AGENT_SUBGROUP);
        let own = above.unwrap_or(own);
        let shown = format!("{own}/{PREFIX}{agent}");
        let folder = Path::new(mount).join(shown.trim_start_matches('/'));
        match fs::create_dir(&folder) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
                return Err(format!("cannot make the cgroup {}: {e}", folder.display()));
            }
            _ => {}
        }
        // Where they cannot be had, a limit that needs one says so when it is set. Never from a cgroup in which this
        // process lives: the kernel refuses most controllers there, but with `cpu` or `pids` it makes a thread root of
        // it, and then no process can enter a cgroup below.
        if above.is_some() {
            for at in [folder.parent(), Some(&*folder)].into_iter().flatten() {
                hand_down(at);
            }
        }
        let counted = fs::read_to_string(folder.join("cgroup.subtree_control")).unwrap_or_default();
        let counts_memory = counted.split_ascii_whitespace().any(|controller| controller == "memory");
        Ok(Cgroups { folder, shown, counts_memory })
    }
}

/// Lets the cgroups below this one have the controllers that it has.
fn hand_down(folder: &Path) {
    let available = fs::read_to_string(folder.join("cgroup.controllers")).unwrap_or_default();
    for controller in available.split_ascii_whitespace().filter(|c| CONTROLLERS.contains(c)) {
        // One at a time: one that is refused does not cost the others.
        let _ = write(&folder.join("cgroup.subtree_control"), &format!("+{controller}"));
    }
}

/// Writes to a file that is there; the kernel makes the files of a cgroup.
fn write(path: &Path, text: &str) -> io::Result<()> {
    use std::io::Write;
    File::options().write(true).open(path)?.write_all(text.as_bytes())
}

impl Leaf {
    /// Makes it. One that is there and empty is made anew, so that what it counts is of this incarnation; and whoever is
    /// born in a cgroup that was once killed is killed too (seen with Linux 6.18).
    pub(super) fn make(path: PathBuf) -> io::Result<Leaf> {
        let mut used = false;
        if let Err(e) = fs::create_dir(&path) {
            if e.kind() != io::ErrorKind::AlreadyExists {
                return Err(e);
            }
            match remove(&path)? {
                true => fs::create_dir(&path)?,
                false => used = true,
            }
        }
        let folder = File::open(&path)?;
        Ok(Leaf { path, folder, used })
    }

    /// Opens the one in which an earlier incarnation lived, if that has left no cgroup in it: making it anew takes a tenth
    /// of a millisecond.
    pub(super) fn again(path: &Path) -> Option<Leaf> {
        let folder = File::open(path).ok()?;
        let has_none_below = folder.metadata().is_ok_and(|m| m.nlink() <= OWN_LINKS);
        has_none_below.then(|| Leaf { path: path.to_owned(), folder, used: true })
    }

    /// Whether an earlier incarnation lived in it.
    pub(super) fn is_used(&self) -> bool {
        self.used
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.folder.as_fd()
    }

    /// Sets the limits, and gives back a sentence for each that is not in force. Nothing else takes their place: an
    /// address space (RLIMIT_AS) is not memory.
    pub fn limit(&self, limits: &CgroupLimits) -> Vec<String> {
        limit(&self.path, limits)
    }

    /// Kills all that is in it, also what is forked meanwhile.
    pub fn kill(&self) -> io::Result<()> {
        kill(&self.path)
    }
}

fn limit(leaf: &Path, limits: &CgroupLimits) -> Vec<String> {
    let quota = |percent: u32| format!("{} {CPU_PERIOD}", u64::from(percent) * CPU_PERIOD / 100);
    let wanted = [
        ("memory_max", "memory.max", limits.memory_max.map(|bytes| bytes.to_string())),
        ("cpu_weight", "cpu.weight", limits.cpu_weight.map(|weight| weight.to_string())),
        ("cpu_quota", "cpu.max", limits.cpu_quota.map(quota)),
        ("tasks_max", "pids.max", limits.tasks_max.map(|tasks| tasks.to_string())),
    ];
    let set = |(key, file, text): (&str, &str, Option<String>)| {
        let controller = file.split('.').next().unwrap_or(file);
        match write(&leaf.join(file), &text?) {
            Ok(()) => None,
            Err(e) if e.kind() == io::ErrorKind::NotFound => Some(format!(
                "`{key}` is not in force: the cgroup {} has no {controller} controller",
                leaf.display()
            )),
            Err(e) => Some(format!("`{key}` is not in force: cannot write {file}: {e}")),
        }
    };
    wanted.into_iter().filter_map(set).collect()
}

/// What [`Leaf::limit`] would say where there is no leaf at all.
pub(super) fn no_limits(limits: &CgroupLimits, why: &str) -> Vec<String> {
    match *limits == CgroupLimits::default() {
        true => Vec::new(),
        false => vec![format!("the unit's limits on memory, CPU and tasks are not in force: {why}")],
    }
}

/// How many processes the kernel has killed in it because it was out of memory; `None` where it does not count.
pub(super) fn oom_kills(leaf: &Path) -> Option<u64> {
    let text = fs::read_to_string(leaf.join("memory.events")).ok()?;
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

/// Kills all that is in the leaf, also what is forked meanwhile. One that is not there is empty.
pub(super) fn kill(leaf: &Path) -> io::Result<()> {
    match write(&leaf.join("cgroup.kill"), "1") {
        Err(e) if e.kind() == io::ErrorKind::NotFound => kill_frozen(leaf),
        done => done,
    }
}

/// For kernels before 5.14, which have no `cgroup.kill`: nobody forks in a frozen leaf, and a signal that kills is
/// obeyed in it.
fn kill_frozen(leaf: &Path) -> io::Result<()> {
    match write(&leaf.join("cgroup.freeze"), "1") {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let killed = (0..KILL_ROUNDS).try_for_each(|_| {
        members(leaf)?.into_iter().try_for_each(|pid| match Handle::open(pid) {
            // Held first, then asked again whether it is in here: the number may have changed hands since.
            Ok(handle) if members(leaf)?.contains(&pid) => handle.signal(libc::SIGKILL).map(drop),
            _ => Ok(()),
        })
    });
    match write(&leaf.join("cgroup.freeze"), "0") {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => killed,
    }
}

/// The living processes in the leaf and in what a service made below it. A leaf that is not there is empty; processes
/// of other pid namespaces are shown as 0, and left out.
pub(super) fn members(leaf: &Path) -> io::Result<Vec<i32>> {
    let mut found = Vec::new();
    for folder in folders(leaf) {
        match fs::read_to_string(folder.join("cgroup.procs")) {
            Ok(list) => found.extend(list.lines().filter_map(|l| l.parse::<i32>().ok()).filter(|p| *p > 0)),
            Err(e) if is_gone(&e) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(found)
}

/// Whether anything lives in the leaf or below it, be it seen from here or not; nothing does in one that is not there.
pub(super) fn is_populated(leaf: &Path) -> io::Result<bool> {
    Ok(population(leaf)? == Some(true))
}

/// As [`is_populated`]; `None` where there is no such leaf.
pub(super) fn population(leaf: &Path) -> io::Result<Option<bool>> {
    // A few short lines, which the kernel gives to one read.
    let mut bytes = [0; 256];
    match File::open(leaf.join("cgroup.events")).and_then(|mut file| file.read(&mut bytes)) {
        Ok(length) => Ok(Some(bytes[..length].split(|b| *b == b'\n').any(|line| line == b"populated 1"))),
        Err(e) if is_gone(&e) => Ok(None),
        Err(e) => Err(e),
    }
}

fn is_gone(e: &io::Error) -> bool {
    e.kind() == io::ErrorKind::NotFound || e.raw_os_error() == Some(libc::ENODEV)
}

/// Removes the leaf, and what a service made below it, if nothing lives in it; `false` when it is populated still.
pub(super) fn remove(leaf: &Path) -> io::Result<bool> {
    use io::ErrorKind::{DirectoryNotEmpty, NotFound, ResourceBusy};
    let removed = |folder: &Path| match fs::remove_dir(folder) {
        Err(e) if e.kind() == NotFound => Ok(true),
        Err(e) if matches!(e.kind(), ResourceBusy | DirectoryNotEmpty) => Ok(false),
        done => done.map(|()| true),
    };
    // Nearly always there is nothing below it.
    if removed(leaf)? {
        return Ok(true);
    }
    for folder in folders(leaf).iter().rev() {
        if !removed(folder)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The leaf and all cgroups below it, each before those in it.
fn folders(leaf: &Path) -> Vec<PathBuf> {
    let mut found = vec![leaf.to_owned()];
    let mut next = 0;
    while next < found.len() && found.len() < MAX_FOLDERS {
        if fs::metadata(&found[next]).is_ok_and(|m| m.nlink() > OWN_LINKS) {
            let below = fs::read_dir(&found[next]).into_iter().flatten().flatten();
            found.extend(below.filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()));
        }
        next += 1;
    }
    found
}

/// Agents beside each other share the parent folder, whose name for our folder is `ours`; whatever a service makes
/// below its leaf still belongs to it.
pub(super) fn owner_of_cgroup(ours: &str, path: &str) -> Option<Owner> {
    let (parent, _) = ours.rsplit_once('/')?;
    let mut parts = path.strip_prefix(parent)?.strip_prefix('/')?.split('/');
    let agent = parts.next()?.strip_prefix(PREFIX)?;
    let instance = parts.next()?;
    Some(Owner { agent: agent.to_owned(), instance: instance.to_owned() })
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

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: CgroupLimits = CgroupLimits {
        memory_max: Some(512 << 20),
        cpu_weight: Some(200),
        cpu_quota: Some(150),
        tasks_max: Some(64),
    };

    /// The files of a cgroup with controllers, as the kernel would make them.
    fn with_files(names: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        names.iter().for_each(|name| fs::write(folder.path().join(name), "").unwrap());
        folder
    }

    #[test]
    fn limits_are_written_in_the_kernels_words() {
        let leaf = with_files(&["memory.max", "cpu.weight", "cpu.max", "pids.max"]);
        assert_eq!(limit(leaf.path(), &ALL), [""; 0]);
        let text = |name| fs::read_to_string(leaf.path().join(name)).unwrap();
        assert_eq!(
            ["memory.max", "cpu.weight", "cpu.max", "pids.max"].map(text),
            ["536870912", "200", "150000 100000", "64"]
        );
    }

    #[test]
    fn a_limit_without_its_controller_is_said_and_makes_no_file() {
        let leaf = with_files(&["pids.max"]);
        let said = limit(leaf.path(), &ALL);
        let at = leaf.path().display();
        assert_eq!(
            said[0],
            format!("`memory_max` is not in force: the cgroup {at} has no memory controller")
        );
        assert_eq!(said.len(), 3, "{said:?}");
        assert!(!leaf.path().join("memory.max").exists());
        assert_eq!(limit(leaf.path(), &CgroupLimits::default()), [""; 0], "nothing asked, nothing said");
        assert_eq!(no_limits(&CgroupLimits::default(), "because"), [""; 0]);
        assert_eq!(no_limits(&ALL, "cgroup v2 is not mounted").len(), 1);
    }

    #[test]
    fn controllers_that_are_there_are_handed_down() {
        let folder = with_files(&["cgroup.controllers", "cgroup.subtree_control"]);
        fs::write(folder.path().join("cgroup.controllers"), "hugetlb memory\n").unwrap();
        hand_down(folder.path());
        assert_eq!(fs::read_to_string(folder.path().join("cgroup.subtree_control")).unwrap(), "+memory");
    }

    #[test]
    fn the_kernels_count_of_kills_for_memory_is_read() {
        let leaf = with_files(&[]);
        assert_eq!(oom_kills(leaf.path()), None);
        let text = "low 0\nhigh 0\nmax 9\noom 2\noom_kill 1\noom_group_kill 0\n";
        fs::write(leaf.path().join("memory.events"), text).unwrap();
        assert_eq!(oom_kills(leaf.path()), Some(1));
    }

    #[test]
    fn a_cgroup_tells_whose_it_is() {
        let owner = |path| owner_of_cgroup("/system.slice/clusterd.service/clusterd-shop-a", path);
        let shop =
            |agent: &str, instance: &str| Some(Owner { agent: agent.into(), instance: instance.into() });
        assert_eq!(owner("/system.slice/clusterd.service/clusterd-shop-a/x@a"), shop("shop-a", "x@a"));
        assert_eq!(owner("/system.slice/clusterd.service/clusterd-shop-b/x@b/below"), shop("shop-b", "x@b"));
        assert_eq!(owner("/system.slice/clusterd.service/agent"), None);
        assert_eq!(owner("/system.slice/redis.service"), None);
    }
}
