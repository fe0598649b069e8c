//! Judging a pid file: a pure function from facts to a judgement with its proof.
//!
//! The table of the design, in the order in which it is applied. What ties a process to us comes before what
//! speaks against it, and where both speak it is doubt: a file is removed only on positive proof.

use crate::facts::Judgement;
use crate::process::proc::Exe;
use crate::process::{Boot, FileId, Identity};
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Everything that is known about one pid file.
#[derive(Clone, Debug)]
pub struct PidfileFacts {
    pub path: PathBuf,
    pub file: FileState,
    /// By its modification time. Evidence for the report, never proof: wall clocks jump, `touch` exists.
    pub older_than_boot: bool,
    /// What was journalled at our last start, in whatever boot.
    pub journal: Option<Identity>,
    /// The boot that we are in.
    pub boot: Boot,
    pub expected: Expected,
}

/// What lies at the path. (Where nothing lies there is nothing to judge.)
#[derive(Clone, Debug)]
pub enum FileState {
    Empty,
    /// No number; an excerpt.
    Garbled(String),
    /// A number that no pid can be, as written.
    OutOfRange(String),
    /// `a symlink`, `a folder`, …
    NotAFile(&'static str),
    /// In a folder of the system where no daemon keeps pid files.
    Outside(String),
    /// It could not be read: why.
    Unreadable(String),
    Names(i32, ProcessState),
}

/// What goes by the number.
#[derive(Clone, Debug)]
pub enum ProcessState {
    /// The kernel says that there is none (ESRCH).
    None,
    /// Dead, not yet reaped.
    Zombie,
    /// The number is that of a thread of this process.
    Thread {
        of: i32,
    },
    /// It lives, and we may not see who it is.
    Hidden(String),
    Alive(Box<Alive>),
}

/// A living process, as far as it can be seen.
#[derive(Clone, Debug)]
pub struct Alive {
    /// Its short name.
    pub name: String,
    /// Clock ticks since the boot.
    pub start: u64,
    /// `None` when it may not be seen.
    pub exe: Option<Exe>,
    pub kernel_thread: bool,
    /// It is the agent that asks.
    pub is_agent: bool,
    /// It lives in another pid namespace than we do, where it has another number.
    pub elsewhere: bool,
    /// What ties it to this instance.
    pub ours: Vec<Tie>,
    /// What ties it to another instance, and which.
    pub others: Vec<(Tie, String)>,
}

/// Something by which a process belongs to an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tie {
    /// It is the process that was journalled at the start: boot, pid and start time.
    Journal,
    /// It sits in the instance's cgroup leaf.
    Leaf,
    /// It carries the instance's marks in its environment.
    Mark,
    /// It listens where the instance listens.
    Listens(SocketAddr),
    /// It has a file open in the instance's data folder.
    Folder(PathBuf),
}

impl Tie {
    /// Only a start by us can have made it; a program that merely took over an address cannot.
    fn is_by_birth(&self) -> bool {
        matches!(self, Tie::Journal | Tie::Leaf | Tie::Mark)
    }
}

impl fmt::Display for Tie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Tie::Journal => f.write_str("pid and start time are as journalled"),
            Tie::Leaf => f.write_str("it is in the instance's cgroup"),
            Tie::Mark => f.write_str("it carries the instance's mark"),
            Tie::Listens(address) => write!(f, "it listens on {address}"),
            Tie::Folder(path) => write!(f, "it has {} open", path.display()),
        }
    }
}

/// Which executables a process of the unit can have.
#[derive(Clone, Debug, Default)]
pub struct Expected {
    /// What the unit runs, for the sentence: `redis-server`.
    pub program: String,
    /// The files: the program's own resolved path, those that the unit lists, the one journalled at our start.
    pub files: Vec<FileId>,
    /// Their names.
    pub names: Vec<String>,
    /// The program is a script and the unit does not list what it leads to: any executable is possible.
    pub anything: bool,
}

/// What an executable says about the process.
enum Looks {
    /// One that a process of this unit can have.
    Right,
    /// One that no unit of this kind could have.
    Foreign,
    /// Not to be told; why.
    Unclear(&'static str),
}

impl Expected {
    /// Whether a process of the unit may rightly have this executable.
    pub fn allows(&self, exe: &Exe) -> bool {
        self.anything || matches!(self.look_at(Some(exe)), Looks::Right)
    }

    /// Whether this is an executable of the unit's by file or name, be it replaced since.
    pub(super) fn names_or_has(&self, exe: &Exe) -> bool {
        let name = exe.path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        exe.id.is_some_and(|id| self.files.contains(&id)) || self.names.iter().any(|n| n == name)
    }

    fn look_at(&self, exe: Option<&Exe>) -> Looks {
        let Some(exe) = exe else { return Looks::Unclear("its executable may not be seen") };
        let name = exe.path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        if exe.id.is_some_and(|id| self.files.contains(&id)) {
            Looks::Right
        } else if exe.deleted {
            Looks::Unclear("its executable has been deleted or replaced since it started")
        } else if self.names.iter().any(|n| n == name) {
            Looks::Right
        } else if self.anything {
            Looks::Unclear("the unit runs a script and does not list what it leads to in run.executables")
        } else {
            Looks::Foreign
        }
    }
}

/// Judges the file, with the proof as a sentence for whoever is woken by it.
pub fn judge(facts: &PidfileFacts) -> (Judgement, String) {
    let path = facts.path.display();
    let (judgement, mut evidence) = match &facts.file {
        FileState::Empty => (Judgement::Stale, format!("{path} is empty: cut short, as by a power cut")),
        FileState::Garbled(text) => {
            (Judgement::Stale, format!("{path} holds no number but {text:?}: torn, as by a power cut"))
        }
        FileState::OutOfRange(text) => {
            (Judgement::Stale, format!("{path} holds {text}, which no pid can be"))
        }
        FileState::NotAFile(what) => (Judgement::Refused, format!("{path} is {what}; it is not touched")),
        FileState::Outside(folder) => {
            (Judgement::Refused, format!("{path} lies in {folder}, where nothing is ever removed"))
        }
        FileState::Unreadable(why) => (Judgement::Doubt, format!("{path} cannot be read: {why}")),
        FileState::Names(pid, process) => {
            let (judgement, clause) = judge_number(*pid, process, facts);
            (judgement, format!("{path} names {pid}, {clause}"))
        }
    };
    if judgement == Judgement::Stale && facts.older_than_boot {
        evidence.push_str("; the file is older than this boot");
    }
    (judgement, evidence)
}

fn judge_number(pid: i32, process: &ProcessState, facts: &PidfileFacts) -> (Judgement, String) {
    let journal = facts.journal.as_ref().filter(|j| j.pid == pid);
    let dead = |clause: String| {
        match journal {
        // The number means nothing here, and its owner may be well where it was written.
        Some(j) if j.boot.boot_id == facts.boot.boot_id && j.boot.pid_ns != facts.boot.pid_ns => (
            Judgement::Doubt,
            "which was written in another pid namespace of this machine; from here its process cannot be seen"
                .to_owned(),
        ),
        _ => (Judgement::Stale, clause),
    }
    };
    match process {
        ProcessState::None => dead("and no such process exists".into()),
        ProcessState::Zombie => dead("which is dead (a zombie that its parent has not reaped yet)".into()),
        ProcessState::Thread { of } => dead(format!("which is a thread of process {of} and no process")),
        ProcessState::Hidden(why) => {
            (Judgement::Doubt, format!("which lives, and it cannot be seen who it is: {why}"))
        }
        ProcessState::Alive(alive) => {
            judge_process(pid, alive, facts.journal.as_ref(), &facts.boot, &facts.expected)
        }
    }
}

/// Judges a living process: `Alive` when it is this instance's, `Stale` when it is positively somebody else. The
/// clause goes on from "… names 417, ".
pub(super) fn judge_process(
    pid: i32,
    alive: &Alive,
    journal: Option<&Identity>,
    boot: &Boot,
    expected: &Expected,
) -> (Judgement, String) {
    let journal = journal.filter(|j| j.pid == pid && j.boot == *boot);
    let name = shown_name(alive);
    let program = &expected.program;

    let mut ours = alive.ours.clone();
    if journal.is_some_and(|j| j.start == alive.start) {
        ours.insert(0, Tie::Journal);
    }
    let foreign = matches!(expected.look_at(alive.exe.as_ref()), Looks::Foreign);
    if let Some(first) = ours.first() {
        let by_birth = ours.iter().any(Tie::is_by_birth);
        if let (Some((tie, other)), false) = (alive.others.first(), ours[0] == Tie::Journal) {
            return (
                Judgement::Doubt,
                format!("which is {name}, claimed by two: for this instance, {first}; for {other}, {tie}"),
            );
        }
        if foreign && !by_birth {
            return (Judgement::Doubt, format!("which is {name}, not {program}, and yet {first}"));
        }
        let ties: Vec<String> = ours.iter().map(Tie::to_string).collect();
        return (Judgement::Alive, format!("which is {name} and this instance's: {}", ties.join(", ")));
    }

    let reused =
        |who: String| (Judgement::Stale, format!("{who}: the number was reused; {name} is left alone"));
    if let Some((tie, other)) = alive.others.first() {
        return reused(format!("which is {name} of {other} ({tie}), not of this instance"));
    }
    if alive.is_agent {
        return reused("which is this agent itself".into());
    }
    if alive.kernel_thread {
        return reused(format!("which is the kernel's own thread {name}"));
    }
    if journal.is_some() {
        return reused(format!("which is {name}, started at another time than the journalled {program}"));
    }
    match expected.look_at(alive.exe.as_ref()) {
        Looks::Foreign => reused(format!("which is {name} (started by somebody else), not {program}")),
        Looks::Unclear(why) => {
            (Judgement::Doubt, format!("which is {name}; whose it is cannot be told: {why}"))
        }
        Looks::Right if alive.elsewhere => (
            Judgement::Doubt,
            format!("which is {name} in another pid namespace, and nothing ties it to this instance"),
        ),
        Looks::Right => (
            Judgement::Doubt,
            format!(
                "which is {name}, as this instance could be, and nothing tells whose it is \
                 (no journal, cgroup, mark, listening socket or data folder)"
            ),
        ),
    }
}

/// The executable's name, which a process cannot change as it can its short name.
fn shown_name(alive: &Alive) -> String {
    let from_exe =
        alive.exe.as_ref().and_then(|e| Path::new(&e.path).file_name()?.to_str().map(str::to_owned));
    from_exe.unwrap_or_else(|| alive.name.clone())
}

#[cfg(test)]
mod tests {
    use super::Judgement::{Doubt, Refused, Stale};
    use super::*;

    const REDIS: FileId = FileId { dev: 1, ino: 10 };
    const OTHER: FileId = FileId { dev: 1, ino: 99 };

    fn boot() -> Boot {
        Boot { boot_id: "b1".into(), pid_ns: 4, init_start: 1 }
    }

    fn facts(file: FileState) -> PidfileFacts {
        PidfileFacts {
            path: "/run/redis/redis.pid".into(),
            file,
            older_than_boot: false,
            journal: None,
            boot: boot(),
            expected: Expected {
                program: "redis-server".into(),
                files: vec![REDIS],
                names: vec!["redis-server".into(), "redis-check-rdb".into()],
                anything: false,
            },
        }
    }

    fn process(path: &str, id: FileId) -> Alive {
        let path = PathBuf::from(path);
        Alive {
            name: "main".into(),
            start: 500,
            exe: Some(Exe { path, id: Some(id), deleted: false }),
            kernel_thread: false,
            is_agent: false,
            elsewhere: false,
            ours: vec![],
            others: vec![],
        }
    }

    fn redis() -> Alive {
        process("/usr/bin/redis-check-rdb", REDIS)
    }

    fn nginx() -> Alive {
        process("/usr/sbin/nginx", OTHER)
    }

    fn names(alive: Alive) -> PidfileFacts {
        facts(FileState::Names(417, ProcessState::Alive(Box::new(alive))))
    }

    fn dead(state: ProcessState) -> PidfileFacts {
        facts(FileState::Names(417, state))
    }

    fn journalled(mut facts: PidfileFacts, start: u64, change: impl FnOnce(&mut Identity)) -> PidfileFacts {
        let mut identity = Identity { boot: boot(), pid: 417, start, exe: Some(REDIS) };
        change(&mut identity);
        facts.journal = Some(identity);
        facts
    }

    fn other() -> String {
        "redis-b@here".into()
    }

    fn address() -> SocketAddr {
        "10.0.0.1:6379".parse().unwrap()
    }

    #[track_caller]
    fn check(facts: PidfileFacts, judgement: Judgement, evidence: &str) {
        assert_eq!(judge(&facts), (judgement, format!("/run/redis/redis.pid {evidence}")));
    }

    #[test]
    fn what_holds_no_pid_is_stale() {
        check(facts(FileState::Empty), Stale, "is empty: cut short, as by a power cut");
        let torn = FileState::Garbled("\0\0".into());
        check(facts(torn), Stale, r#"holds no number but "\0\0": torn, as by a power cut"#);
        check(facts(FileState::OutOfRange("-1".into())), Stale, "holds -1, which no pid can be");
    }

    #[test]
    fn what_is_no_plain_file_in_its_place_is_refused() {
        check(facts(FileState::NotAFile("a symlink")), Refused, "is a symlink; it is not touched");
        check(
            facts(FileState::Outside("/etc".into())),
            Refused,
            "lies in /etc, where nothing is ever removed",
        );
    }

    #[test]
    fn what_cannot_be_seen_is_doubt() {
        check(facts(FileState::Unreadable("EIO".into())), Doubt, "cannot be read: EIO");
        let hidden = ProcessState::Hidden("hidepid".into());
        check(dead(hidden), Doubt, "names 417, which lives, and it cannot be seen who it is: hidepid");
        let mut unseen = redis();
        unseen.exe = None;
        check(
            names(unseen),
            Doubt,
            "names 417, which is main; whose it is cannot be told: its executable may not be seen",
        );
    }

    #[test]
    fn the_dead_are_stale() {
        check(dead(ProcessState::None), Stale, "names 417, and no such process exists");
        check(
            dead(ProcessState::Zombie),
            Stale,
            "names 417, which is dead (a zombie that its parent has not reaped yet)",
        );
        let thread = ProcessState::Thread { of: 400 };
        check(dead(thread), Stale, "names 417, which is a thread of process 400 and no process");
    }

    #[test]
    fn somebody_else_is_left_alone_and_the_file_is_stale() {
        check(
            names(nginx()),
            Stale,
            "names 417, which is nginx (started by somebody else), not redis-server: the number was reused; \
             nginx is left alone",
        );
        check(
            journalled(names(redis()), 400, |_| {}),
            Stale,
            "names 417, which is redis-check-rdb, started at another time than the journalled redis-server: the \
             number was reused; redis-check-rdb is left alone",
        );
        let mut kernel = redis();
        (kernel.exe, kernel.kernel_thread, kernel.name) = (None, true, "kworker/0:1".into());
        check(
            names(kernel),
            Stale,
            "names 417, which is the kernel's own thread kworker/0:1: the number was reused; kworker/0:1 is left \
             alone",
        );
        let mut agent = redis();
        agent.is_agent = true;
        assert_eq!(judge(&names(agent)).0, Stale);
    }

    #[test]
    fn another_instances_process_is_stale_for_us() {
        for tie in [Tie::Leaf, Tie::Mark, Tie::Listens(address()), Tie::Folder("/data".into())] {
            let mut theirs = redis();
            theirs.others.push((tie.clone(), other()));
            check(
                names(theirs),
                Stale,
                &format!(
                    "names 417, which is redis-check-rdb of redis-b@here ({tie}), not of this instance: the number \
                     was reused; redis-check-rdb is left alone"
                ),
            );
        }
    }

    #[test]
    fn one_tie_is_enough_to_be_ours() {
        for tie in [Tie::Leaf, Tie::Mark, Tie::Listens(address()), Tie::Folder("/data".into())] {
            let mut ours = redis();
            ours.ours.push(tie.clone());
            let text = format!("names 417, which is redis-check-rdb and this instance's: {tie}");
            check(names(ours), Judgement::Alive, &text);
        }
        check(
            journalled(names(redis()), 500, |_| {}),
            Judgement::Alive,
            "names 417, which is redis-check-rdb and this instance's: pid and start time are as journalled",
        );
    }

    #[test]
    fn what_we_started_is_ours_whatever_it_executes() {
        let mut java = nginx();
        java.ours.push(Tie::Leaf);
        assert_eq!(judge(&names(java)).0, Judgement::Alive);
        assert_eq!(judge(&journalled(names(nginx()), 500, |_| {})).0, Judgement::Alive);
    }

    #[test]
    fn contradictions_are_doubt() {
        let mut squatter = nginx();
        squatter.ours.push(Tie::Listens(address()));
        check(
            names(squatter),
            Doubt,
            "names 417, which is nginx, not redis-server, and yet it listens on 10.0.0.1:6379",
        );
        let mut both = redis();
        both.ours.push(Tie::Mark);
        both.others.push((Tie::Leaf, other()));
        check(
            names(both.clone()),
            Doubt,
            "names 417, which is redis-check-rdb, claimed by two: for this instance, it carries the instance's \
             mark; for redis-b@here, it is in the instance's cgroup",
        );
        let as_journalled = journalled(names(both), 500, |_| {});
        assert_eq!(judge(&as_journalled).0, Judgement::Alive, "the journal outweighs an odd tie");
    }

    #[test]
    fn the_right_executable_without_a_tie_is_doubt() {
        let untied = "names 417, which is redis-check-rdb, as this instance could be, and nothing tells whose it is \
                      (no journal, cgroup, mark, listening socket or data folder)";
        check(names(redis()), Doubt, untied);
        // The same name with another inode: another installation of it.
        assert_eq!(judge(&names(process("/opt/redis/redis-server", OTHER))).0, Doubt);
        // The inode under a name that nobody listed.
        assert_eq!(judge(&names(process("/usr/bin/valkey", REDIS))).0, Doubt);
        let mut elsewhere = redis();
        elsewhere.elsewhere = true;
        check(
            names(elsewhere),
            Doubt,
            "names 417, which is redis-check-rdb in another pid namespace, and nothing ties it to this instance",
        );
    }

    #[test]
    fn a_deleted_executable_is_doubt_until_a_tie_settles_it() {
        let mut upgraded = process("/usr/bin/redis-check-rdb", OTHER);
        upgraded.exe.as_mut().unwrap().deleted = true;
        check(
            names(upgraded.clone()),
            Doubt,
            "names 417, which is redis-check-rdb; whose it is cannot be told: its executable has been deleted or \
             replaced since it started",
        );
        upgraded.ours.push(Tie::Listens(address()));
        assert_eq!(judge(&names(upgraded)).0, Judgement::Alive);
    }

    #[test]
    fn a_script_may_lead_to_anything_unless_the_unit_says_to_what() {
        let mut facts = names(nginx());
        facts.expected.anything = true;
        check(
            facts,
            Doubt,
            "names 417, which is nginx; whose it is cannot be told: the unit runs a script and does not list what it \
             leads to in run.executables",
        );
    }

    #[test]
    fn a_file_of_another_pid_namespace_is_doubt() {
        let written_there = |state| journalled(dead(state), 500, |j| j.boot.pid_ns = 5);
        check(
            written_there(ProcessState::None),
            Doubt,
            "names 417, which was written in another pid namespace of this machine; from here its process cannot be \
             seen",
        );
        let other_number = journalled(dead(ProcessState::None), 500, |j| {
            (j.boot.pid_ns, j.pid) = (5, 416);
        });
        assert_eq!(judge(&other_number).0, Stale, "it is not about this number");
    }

    #[test]
    fn a_journal_of_another_boot_proves_nothing_about_the_living() {
        for start in [400, 500] {
            let old = journalled(names(redis()), start, |j| j.boot.boot_id = "b0".into());
            assert_eq!(judge(&old).0, Doubt);
        }
        let old = journalled(dead(ProcessState::None), 500, |j| j.boot.boot_id = "b0".into());
        assert_eq!(judge(&old).0, Stale);
        let other_pid = journalled(names(redis()), 500, |j| j.pid = 416);
        assert_eq!(judge(&other_pid).0, Doubt, "the journal speaks of another number");
    }

    #[test]
    fn a_files_age_is_told_and_decides_nothing() {
        for (state, judgement) in [(ProcessState::None, Stale), (ProcessState::Hidden("x".into()), Doubt)] {
            let young = dead(state);
            let mut old = young.clone();
            old.older_than_boot = true;
            let ((a, young), (b, old)) = (judge(&young), judge(&old));
            assert_eq!((a, b), (judgement, judgement));
            let told = old.ends_with("; the file is older than this boot");
            assert_eq!((told, !young.ends_with("boot")), (judgement == Stale, true));
        }
    }
}
