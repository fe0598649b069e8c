//! Starting a unit's program.

use super::account::Account;
use super::identity::{Handle, Identity};
use super::kernel::{self, Launch};
use super::tree::{AGENT_MARK, INSTANCE_MARK, NONCE_MARK};
use super::{Leaf, calls, envfile, output, rights, shortage, sight};
use crate::crash::{self, Done};
use crate::model::{Bounds, Capability, Resource, Unit};
use std::collections::BTreeMap;
use std::ffi::CString;
use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::LazyLock;

/// What a service finds in its environment unless its unit says otherwise.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What a start needs to know.
#[derive(Clone, Copy, Debug)]
pub struct Spawn<'a> {
    pub unit: &'a Unit,
    /// `service@node`; becomes a mark in the environment.
    pub instance: &'a str,
    /// Tells this incarnation from all others; becomes a mark.
    pub nonce: &'a str,
    /// The agent's tag, as given to [`super::Tree::locate`]; becomes a mark.
    pub agent: &'a str,
    /// The cgroup leaf in which the process is born. `None` where there is no cgroup v2.
    pub leaf: Option<&'a Leaf>,
    /// Standard output and error are appended to this file; its folder is made.
    pub output: &'a Path,
    /// What the program has as its descriptor `run.ready_fd`.
    pub ready: Option<BorrowedFd<'a>>,
}

/// How far a start came. Each is a place where it can fail; in the order in which they come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The unit's text cannot be handed to the kernel (a NUL byte).
    Arguments,
    /// Looking up the user or a group by name.
    Lookup,
    /// Making `run.make_folders`.
    Folders,
    /// Reading an environment file.
    Environment,
    /// Opening the output file.
    Output,
    Fork,
    Session,
    Stdio,
    OomScore,
    Nice,
    Limits,
    /// What it sees of the file system.
    Sight,
    Capabilities,
    Groups,
    User,
    /// Entering the working folder, as the user.
    Folder,
    NoNewPrivileges,
    /// Denying it system calls.
    SystemCalls,
    Exec,
    /// Identifying the child after it began.
    Identify,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Stage::Arguments => "cannot prepare its arguments",
            Stage::Lookup => "cannot look up its user",
            Stage::Folders => "cannot make its folders",
            Stage::Environment => "cannot read its environment file",
            Stage::Output => "cannot open its output file",
            Stage::Fork => "cannot fork",
            Stage::Session => "cannot make its session",
            Stage::Stdio => "cannot set up its standard streams",
            Stage::OomScore => "cannot set its OOM score",
            Stage::Nice => "cannot set its priority",
            Stage::Limits => "cannot set its limit",
            Stage::Sight => "cannot set up what it sees of the file system",
            Stage::Capabilities => "cannot take on its capabilities",
            Stage::Groups => "cannot take on its groups",
            Stage::User => "cannot become its user",
            Stage::Folder => "cannot enter its working folder",
            Stage::NoNewPrivileges => "cannot give up new privileges",
            Stage::SystemCalls => "cannot be denied system calls",
            Stage::Exec => "cannot execute it",
            Stage::Identify => "cannot identify it",
        })
    }
}

/// A start that failed before the program ran. Nothing of it is left running.
#[derive(Debug, thiserror::Error)]
#[error("cannot start {program}: {stage}{}: {cause}", .about.as_deref().map(|a| format!(" ({a})")).unwrap_or_default())]
pub struct SpawnError {
    pub program: String,
    pub stage: Stage,
    /// The path or name that the stage was about, where that is not the program.
    pub about: Option<String>,
    pub cause: io::Error,
    /// The machine lacks something: later the same start may do.
    pub shortage: bool,
}

impl Spawn<'_> {
    /// Makes the unit's folders, opens its output, and starts its program in its own session, as its user, with a
    /// fresh signal state. Returns once the program has begun.
    ///
    /// Takes about a millisecond; as long as the disk does, where the executable lies on a dead network disk.
    pub fn spawn(&self) -> Result<Handle, SpawnError> {
        let run = &self.unit.run;
        let program = run.command.first().map_or("", String::as_str);
        let fail = |stage, about: Option<String>, cause| SpawnError {
            program: program.to_owned(),
            stage,
            about,
            shortage: shortage::is_shortage(&cause),
            cause: shortage::explain(stage, cause, self.leaf),
        };
        let shown = |p: &Path| Some(p.display().to_string());

        if program.is_empty() {
            return Err(fail(Stage::Arguments, None, io::ErrorKind::InvalidInput.into()));
        }
        let user = Account::of(run).map_err(|(name, e)| fail(Stage::Lookup, Some(name), e))?;
        for folder in &run.make_folders {
            make_folder(folder, &user).map_err(|e| fail(Stage::Folders, shown(folder), e))?;
        }
        let mut read = Vec::new();
        for file in &run.care.environment_files {
            match envfile::read(&file.path) {
                Err(e) if file.optional && e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(fail(Stage::Environment, shown(&file.path), e)),
                Ok(variables) => read.extend(variables),
            }
        }
        let output = output::open(self.output).map_err(|e| fail(Stage::Output, shown(self.output), e))?;
        let stdin =
            File::open("/dev/null").map_err(|e| fail(Stage::Stdio, shown(Path::new("/dev/null")), e))?;

        let cannot_pass = |_| fail(Stage::Arguments, None, io::ErrorKind::InvalidInput.into());
        let argv: Vec<CString> = run
            .command
            .iter()
            .map(|a| CString::new(a.as_str()))
            .collect::<Result<_, _>>()
            .map_err(cannot_pass)?;
        let envp = self.environment(&user, &read).map_err(cannot_pass)?;
        let folder = CString::new(run.folder.as_os_str().as_bytes()).map_err(cannot_pass)?;
        let mut limits: Vec<_> =
            run.care.limits.iter().map(|(r, b)| (number(*r), in_words_of_kernel(*b))).collect();
        // Last, so that the unit's own are still told by their place.
        if let (Some((soft, hard)), None) = (rights::core_of_services(), run.care.limits.get(&Resource::Core))
        {
            limits.push((number(Resource::Core), libc::rlimit64 { rlim_cur: soft, rlim_max: hard }));
        }
        let sight = sight::plan(run, &|path| path.symlink_metadata().is_ok_and(|m| m.is_dir()));
        let sight = sight.map_err(cannot_pass)?;
        let oom_score = run.care.oom_score_adjust.or_else(not_our_protection).map(|score| score.to_string());
        let calls = calls::program(&run.care.system_call_filter);
        let bit = |mask, capability: &Capability| mask | 1u64 << capability.number();

        let launch = |leaf: Option<&Leaf>| {
            kernel::launch(&Launch {
                argv: &argv,
                envp: &envp,
                folder: &folder,
                umask: run.umask,
                credentials: user.credentials.as_ref(),
                stdin: stdin.as_fd(),
                output: output.as_fd(),
                leaf: leaf.map(Leaf::as_fd),
                limits: &limits,
                sight: &sight,
                nice: run.care.nice,
                oom_score: oom_score.as_deref(),
                capabilities: run.care.capabilities.as_ref().map(|list| list.iter().fold(0, bit)),
                no_new_privileges: run.care.no_new_privileges,
                calls: &calls,
                ready: self.ready.zip(run.ready_fd),
            })
        };
        let launched = match (launch(self.leaf), self.leaf) {
            // Somebody else has killed the whole leaf since the last incarnation: then who is born in it is killed too.
            (Ok(launched), Some(leaf)) if leaf.is_used() && kernel::was_killed(&launched) => {
                kernel::reap(&launched);
                let anew = Leaf::make(leaf.path().to_owned());
                let anew = anew.map_err(|e| fail(Stage::Fork, shown(leaf.path()), e))?;
                // What is not in force was said of the one before.
                let _ = anew.limit(&run.care.cgroup);
                launch(Some(&anew))
            }
            (launched, _) => launched,
        };
        let launched = launched.map_err(|failure| {
            let about = match failure.stage {
                Stage::Folder => shown(&run.folder),
                Stage::User | Stage::Groups => run.user.clone().or_else(|| run.group.clone()),
                Stage::Limits => run.care.limits.keys().nth(failure.which).map(|r| r.as_str().to_owned()),
                Stage::Sight => {
                    sight.get(failure.which).map(|step| step.path().to_string_lossy().into_owned())
                }
                _ => None,
            };
            fail(failure.stage, about, failure.cause)
        })?;
        // These are the child's now; where descriptors have run out, they make room for reading who it is.
        drop((stdin, output));
        crash::here(Done::Launched);
        match Identity::of_child(launched.pid) {
            Ok(identity) => Ok(Handle::new(identity, launched.pidfd)),
            Err(cause) => {
                // What cannot be identified cannot be supervised: nothing of it may stay.
                kernel::discard(&launched);
                if let Some(leaf) = self.leaf {
                    let _ = leaf.kill();
                }
                Err(fail(Stage::Identify, None, cause))
            }
        }
    }

    /// The marks come first: a reader of `/proc/PID/environ` that is cut short still sees them.
    fn environment(
        &self,
        user: &Account,
        read: &[(String, String)],
    ) -> Result<Vec<CString>, std::ffi::NulError> {
        let marks = [(AGENT_MARK, self.agent), (INSTANCE_MARK, self.instance), (NONCE_MARK, self.nonce)];
        let mut rest: BTreeMap<&str, &str> = BTreeMap::from([("PATH", PATH), ("LANG", "C.UTF-8")]);
        if let Some((name, home)) = &user.name_and_home {
            rest.extend([("USER", name.as_str()), ("LOGNAME", name.as_str()), ("HOME", home.as_str())]);
        }
        rest.extend(self.unit.run.environment.iter().map(|(k, v)| (k.as_str(), v.as_str())));
        rest.extend(read.iter().map(|(k, v)| (k.as_str(), v.as_str())));
        for (mark, _) in marks {
            rest.remove(mark); // nobody else may set them
        }
        marks.into_iter().chain(rest).map(|(k, v)| CString::new(format!("{k}={v}"))).collect()
    }
}

/// The kernel's number of a resource: see setrlimit(2).
fn number(resource: Resource) -> libc::c_int {
    let number = match resource {
        Resource::As => libc::RLIMIT_AS,
        Resource::Core => libc::RLIMIT_CORE,
        Resource::Cpu => libc::RLIMIT_CPU,
        Resource::Data => libc::RLIMIT_DATA,
        Resource::Fsize => libc::RLIMIT_FSIZE,
        Resource::Memlock => libc::RLIMIT_MEMLOCK,
        Resource::Msgqueue => libc::RLIMIT_MSGQUEUE,
        Resource::Nice => libc::RLIMIT_NICE,
        Resource::Nofile => libc::RLIMIT_NOFILE,
        Resource::Nproc => libc::RLIMIT_NPROC,
        Resource::Rtprio => libc::RLIMIT_RTPRIO,
        Resource::Rttime => libc::RLIMIT_RTTIME,
        Resource::Sigpending => libc::RLIMIT_SIGPENDING,
        Resource::Stack => libc::RLIMIT_STACK,
    };
    number as libc::c_int
}

/// [`Bounds::UNLIMITED`] is the kernel's own word for it.
fn in_words_of_kernel(bounds: Bounds) -> libc::rlimit64 {
    libc::rlimit64 { rlim_cur: bounds.soft, rlim_max: bounds.hard }
}

/// Makes a folder with its parents. The folder itself belongs to the unit's user; parents that had to be made, and
/// everything that was there before, stay the agent's.
fn make_folder(folder: &Path, user: &Account) -> io::Result<()> {
    if let Some(parent) = folder.parent() {
        std::fs::create_dir_all(parent)?;
    }
    match std::fs::DirBuilder::new().mode(0o755).create(folder) {
        Ok(()) => match user.owner() {
            // Not through a symlink that the user of the parent folder may have put there meanwhile.
            Some((uid, gid)) => std::os::unix::fs::lchown(folder, Some(uid.as_raw()), Some(gid.as_raw())),
            None => Ok(()),
        },
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => Ok(()),
        Err(e) => Err(e),
    }
}

/// An agent that the kernel spares when memory runs out hands that on to nobody: a service that eats all memory would be
/// the last to be killed. A score above 0 is somebody's wish for all that runs here, and stays. Read once: whoever protects the
/// agent does so before it begins.
fn not_our_protection() -> Option<i32> {
    static OWN: LazyLock<Option<i32>> =
        LazyLock::new(|| std::fs::read_to_string("/proc/self/oom_score_adj").ok()?.trim().parse().ok());
    (*OWN)?.is_negative().then_some(0)
}
