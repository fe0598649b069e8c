//! Starting a unit's program.

use super::identity::Handle;
use super::kernel::{self, Credentials, Launch};
use super::output;
use super::tree::{AGENT_MARK, INSTANCE_MARK, Leaf, NONCE_MARK};
use crate::model::Unit;
use nix::unistd::{Gid, Group, Uid, User, getegid, geteuid, getgrouplist};
use std::collections::BTreeMap;
use std::ffi::CString;
use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

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
}

/// How far a start came. Each is a place where it can fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The unit's text cannot be handed to the kernel (a NUL byte).
    Arguments,
    /// Making `run.make-folders`.
    Folders,
    /// Opening the output file.
    Output,
    /// Looking up the user or group by name.
    Lookup,
    Fork,
    Session,
    Stdio,
    Groups,
    User,
    /// Entering the working folder, as the user.
    Folder,
    Exec,
    /// Identifying the child after it began.
    Identify,
}

impl Stage {
    const ALL: [Stage; 12] = [
        Stage::Arguments,
        Stage::Folders,
        Stage::Output,
        Stage::Lookup,
        Stage::Fork,
        Stage::Session,
        Stage::Stdio,
        Stage::Groups,
        Stage::User,
        Stage::Folder,
        Stage::Exec,
        Stage::Identify,
    ];

    /// From the number that a child reported. A number that is none of ours can only come from the last step.
    pub(super) fn from_code(code: i32) -> Stage {
        Stage::ALL.into_iter().find(|s| *s as i32 == code).unwrap_or(Stage::Exec)
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Stage::Arguments => "cannot prepare its arguments",
            Stage::Folders => "cannot make its folders",
            Stage::Output => "cannot open its output file",
            Stage::Lookup => "cannot look up its user",
            Stage::Fork => "cannot fork",
            Stage::Session => "cannot make its session",
            Stage::Stdio => "cannot set up its standard streams",
            Stage::Groups => "cannot take on its groups",
            Stage::User => "cannot become its user",
            Stage::Folder => "cannot enter its working folder",
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
}

impl Spawn<'_> {
    /// Makes the unit's folders, opens its output, and starts its program in its own session, as its user, with a
    /// fresh signal state. Returns once the program has begun.
    ///
    /// Takes about a millisecond; at most ten seconds, where the executable lies on a dead network disk.
    pub fn spawn(&self) -> Result<Handle, SpawnError> {
        let run = &self.unit.run;
        let program = run.command.first().map_or("", String::as_str);
        let fail = |stage, about: Option<String>, cause| SpawnError {
            program: program.to_owned(),
            stage,
            about,
            cause,
        };
        let shown = |p: &Path| Some(p.display().to_string());

        if program.is_empty() {
            return Err(fail(Stage::Arguments, None, io::ErrorKind::InvalidInput.into()));
        }
        let user = Account::of(self.unit).map_err(|(name, e)| fail(Stage::Lookup, Some(name), e))?;
        for folder in &run.make_folders {
            make_folder(folder, &user).map_err(|e| fail(Stage::Folders, shown(folder), e))?;
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
        let envp = self.environment(&user).map_err(cannot_pass)?;
        let folder = CString::new(run.folder.as_os_str().as_bytes()).map_err(cannot_pass)?;

        let launched = kernel::launch(&Launch {
            argv: &argv,
            envp: &envp,
            folder: &folder,
            umask: run.umask,
            credentials: user.credentials.as_ref(),
            stdin: stdin.as_fd(),
            output: output.as_fd(),
            leaf: self.leaf.map(Leaf::as_fd),
        })
        .map_err(|(stage, cause)| {
            let about = match stage {
                Stage::Folder => shown(&run.folder),
                Stage::User | Stage::Groups => run.user.clone().or_else(|| run.group.clone()),
                _ => None,
            };
            fail(stage, about, cause)
        })?;
        Handle::of_child(launched.pid, launched.pidfd).map_err(|e| fail(Stage::Identify, None, e))
    }

    /// The marks come first: a reader of `/proc/PID/environ` that is cut short still sees them.
    fn environment(&self, user: &Account) -> Result<Vec<CString>, std::ffi::NulError> {
        let marks = [(AGENT_MARK, self.agent), (INSTANCE_MARK, self.instance), (NONCE_MARK, self.nonce)];
        let mut rest: BTreeMap<&str, &str> = BTreeMap::from([("PATH", PATH), ("LANG", "C.UTF-8")]);
        if let Some((name, home)) = &user.name_and_home {
            rest.extend([("USER", name.as_str()), ("LOGNAME", name.as_str()), ("HOME", home.as_str())]);
        }
        rest.extend(self.unit.run.environment.iter().map(|(k, v)| (k.as_str(), v.as_str())));
        for (mark, _) in marks {
            rest.remove(mark); // nobody else may set them
        }
        marks.into_iter().chain(rest).map(|(k, v)| CString::new(format!("{k}={v}"))).collect()
    }
}

/// Whom a unit runs as.
struct Account {
    /// `None` when it is whom the agent is already, which needs no privilege.
    credentials: Option<Credentials>,
    name_and_home: Option<(String, String)>,
}

impl Account {
    fn of(unit: &Unit) -> Result<Account, (String, io::Error)> {
        let missing =
            |what: &str| io::Error::new(io::ErrorKind::NotFound, format!("there is no such {what}"));
        let run = &unit.run;
        let user = match &run.user {
            None => None,
            Some(name) => Some(match User::from_name(name) {
                Ok(Some(user)) => user,
                Ok(None) => return Err((name.clone(), missing("user"))),
                Err(e) => return Err((name.clone(), e.into())),
            }),
        };
        let group = match &run.group {
            None => None,
            Some(name) => Some(match Group::from_name(name) {
                Ok(Some(group)) => group.gid,
                Ok(None) => return Err((name.clone(), missing("group"))),
                Err(e) => return Err((name.clone(), e.into())),
            }),
        };
        let uid = user.as_ref().map_or_else(geteuid, |u| u.uid);
        let gid = group.or(user.as_ref().map(|u| u.gid)).unwrap_or_else(getegid);
        let name_and_home = user.as_ref().map(|u| (u.name.clone(), u.dir.to_string_lossy().into_owned()));
        if !geteuid().is_root() && uid == geteuid() && gid == getegid() || user.is_none() && group.is_none() {
            return Ok(Account { credentials: None, name_and_home });
        }
        let groups = match &user {
            Some(u) => groups_of(&u.name, gid).map_err(|e| (u.name.clone(), e))?,
            None => vec![gid.as_raw()],
        };
        Ok(Account {
            credentials: Some(Credentials { uid: uid.as_raw(), gid: gid.as_raw(), groups }),
            name_and_home,
        })
    }

    fn owner(&self) -> Option<(Uid, Gid)> {
        self.credentials.as_ref().map(|c| (Uid::from_raw(c.uid), Gid::from_raw(c.gid)))
    }
}

fn groups_of(user: &str, gid: Gid) -> io::Result<Vec<u32>> {
    let groups = getgrouplist(&CString::new(user)?, gid)?;
    Ok(groups.into_iter().map(Gid::as_raw).collect())
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
