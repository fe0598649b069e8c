//! Reading `/proc`: see proc(5). Nothing here is believed without a pidfd held around it.

use super::identity::FileId;
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// The most of an environment that is read, in bytes. Marks are the first variables that we set.
const MAX_ENVIRON: u64 = 256 << 10;
/// More than most environments have, in bytes.
const USUAL_ENVIRON: usize = 8 << 10;
/// More than `/proc/PID/stat` ever has, in bytes.
const MAX_STAT: usize = 2048;
/// Kernel threads carry this in their flags (`PF_KTHREAD`, include/linux/sched.h).
const PF_KTHREAD: u64 = 0x0020_0000;

/// What `/proc/PID/stat` says, as far as we need it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stat {
    /// One letter: R, S, D, T, Z, X, …
    pub state: char,
    pub parent: i32,
    pub session: i32,
    pub kernel_thread: bool,
    /// Clock ticks since the boot.
    pub start: u64,
}

impl Stat {
    /// Dead but not yet reaped by its parent; `kill(pid, 0)` still succeeds.
    pub fn is_dead(self) -> bool {
        matches!(self.state, 'Z' | 'X' | 'x')
    }

    /// Stopped by a signal (SIGSTOP): it does nothing until it is continued.
    pub fn is_stopped(self) -> bool {
        self.state == 'T'
    }
}

/// Reads `/proc/PID/stat`.
pub(crate) fn stat(pid: i32) -> io::Result<Stat> {
    // The kernel gives all of it to one read: 52 numbers and a name are less than this. Asking for the size first and
    // reading until nothing more comes, as `fs::read` does, costs twice as much; and all processes are looked through.
    let mut bytes = [0; MAX_STAT];
    let length = fs::File::open(format!("/proc/{pid}/stat"))
        .and_then(|mut f| f.read(&mut bytes))
        .map_err(gone_is_not_found)?;
    parse_stat(&String::from_utf8_lossy(&bytes[..length])).ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidData, format!("/proc/{pid}/stat is not understood"))
    })
}

/// The name may hold spaces and parentheses, so fields are counted from the last closing one.
fn parse_stat(text: &str) -> Option<Stat> {
    let (_, rest) = text.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?; // field 3
    let parent = fields.next()?.parse().ok()?; // 4
    let session = fields.nth(1)?.parse().ok()?; // 6
    let flags: u64 = fields.nth(2)?.parse().ok()?; // 9
    let start = fields.nth(12)?.parse().ok()?; // 22
    Some(Stat { state, parent, session, kernel_thread: flags & PF_KTHREAD != 0, start })
}

/// A process that exits while it is read gives ESRCH where an open would give ENOENT.
fn gone_is_not_found(e: io::Error) -> io::Error {
    if e.raw_os_error() == Some(libc::ESRCH) { io::Error::from_raw_os_error(libc::ENOENT) } else { e }
}

/// The thread group of a thread id: differs from `id` when the number is a thread's and no process's.
pub(crate) fn thread_group(id: i32) -> io::Result<i32> {
    let text = fs::read_to_string(format!("/proc/{id}/status")).map_err(gone_is_not_found)?;
    text.lines()
        .find_map(|l| l.strip_prefix("Tgid:")?.trim().parse().ok())
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("/proc/{id}/status has no Tgid")))
}

/// The executable as the kernel shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Exe {
    /// Without the kernel's ` (deleted)`.
    pub path: PathBuf,
    /// Device and inode of the file that runs, be it deleted or not.
    pub id: Option<FileId>,
    pub deleted: bool,
}

pub(crate) fn exe(pid: i32) -> io::Result<Exe> {
    let link = format!("/proc/{pid}/exe");
    let path = fs::read_link(&link).map_err(gone_is_not_found)?;
    let id = exe_id(pid);
    match path.to_str().and_then(|p| p.strip_suffix(" (deleted)")) {
        Some(before) => Ok(Exe { path: PathBuf::from(before), id, deleted: true }),
        None => Ok(Exe { path, id, deleted: false }),
    }
}

/// Device and inode of the running executable; `None` when it cannot be seen.
pub(crate) fn exe_id(pid: i32) -> Option<FileId> {
    fs::metadata(format!("/proc/{pid}/exe")).ok().map(|m| FileId { dev: m.dev(), ino: m.ino() })
}

/// The short name of a process.
pub(crate) fn comm(pid: i32) -> Option<String> {
    fs::read_to_string(format!("/proc/{pid}/comm")).ok().map(|s| s.trim_end().to_owned())
}

/// The path within the cgroup v2 hierarchy, `/` being the root of our cgroup namespace.
pub(crate) fn cgroup(pid: i32) -> io::Result<Option<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).map_err(gone_is_not_found)?;
    Ok(text.lines().find_map(|l| l.strip_prefix("0::")).map(str::to_owned))
}

/// The paths within all hierarchies, each with its controllers (`cpu,cpuacct`; none for v2): cgroups(7).
pub(crate) fn cgroups(pid: i32) -> io::Result<Vec<(String, String)>> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).map_err(gone_is_not_found)?;
    let pair = |line: &str| {
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        Some((controllers.to_owned(), path.to_owned()))
    };
    Ok(text.lines().filter_map(pair).collect())
}

/// The environment a process was started with, as raw `NAME=value` strings.
///
/// A process may overwrite it: Redis and nginx do, to show a title in `ps`.
pub(crate) fn environ(pid: i32) -> io::Result<Vec<u8>> {
    // Room for nearly all of them: else it grows from a few bytes, by a system call each time.
    let mut bytes = Vec::with_capacity(USUAL_ENVIRON);
    fs::File::open(format!("/proc/{pid}/environ"))
        .and_then(|f| f.take(MAX_ENVIRON).read_to_end(&mut bytes))
        .map_err(gone_is_not_found)?;
    Ok(bytes)
}

/// The value of one variable in what [`environ`] gave.
pub(crate) fn variable<'a>(environ: &'a [u8], name: &str) -> Option<&'a str> {
    environ.split(|b| *b == 0).find_map(|entry| {
        let value = entry.strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
        std::str::from_utf8(value).ok()
    })
}

/// The user that the process belongs to.
pub(crate) fn owner(pid: i32) -> Option<u32> {
    fs::metadata(format!("/proc/{pid}")).ok().map(|m| m.uid())
}

/// When this machine booted, in seconds since 1970 by its wall clock; 0 when it is not told.
pub(crate) fn boot_time() -> i64 {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    text.lines().find_map(|l| l.strip_prefix("btime ")?.trim().parse().ok()).unwrap_or(0)
}

/// All process numbers that `/proc` shows.
pub(crate) fn pids() -> io::Result<Vec<i32>> {
    let mut pids = Vec::new();
    for entry in fs::read_dir("/proc")? {
        if let Some(pid) = entry?.file_name().to_str().and_then(|n| n.parse().ok()) {
            pids.push(pid);
        }
    }
    Ok(pids)
}

/// Whether `/proc` hides the processes of others from us (`hidepid=2` without the right to trace): of all that it
/// shows, PID 1 is the one that always lives.
pub(crate) fn hides_others(pids: &[i32]) -> bool {
    !pids.contains(&1)
}

/// The number of a process in its own pid namespace, when that is one below ours (`NSpid`, proc(5)).
pub(crate) fn inner_number(pid: i32) -> io::Result<Option<i32>> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).map_err(gone_is_not_found)?;
    Ok(parse_inner_number(&text))
}

/// One number for each namespace that shows the process, ours first.
fn parse_inner_number(status: &str) -> Option<i32> {
    let numbers = status.lines().find_map(|l| l.strip_prefix("NSpid:"))?;
    numbers.split_ascii_whitespace().skip(1).last()?.parse().ok()
}

/// The inode of a process's network namespace.
pub(crate) fn net_namespace(pid: i32) -> io::Result<u64> {
    fs::metadata(format!("/proc/{pid}/ns/net")).map(|m| m.ino()).map_err(gone_is_not_found)
}

/// The inode of a process's pid namespace.
pub(crate) fn pid_namespace(pid: i32) -> io::Result<u64> {
    fs::metadata(format!("/proc/{pid}/ns/pid")).map(|m| m.ino()).map_err(gone_is_not_found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_full_of_parentheses_does_not_shift_the_fields() {
        let line = "42 (a) b (c)) S 7 42 41 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 98765 1 2";
        let stat = parse_stat(line).unwrap();
        assert_eq!(stat, Stat { state: 'S', parent: 7, session: 41, kernel_thread: false, start: 98765 });
        assert_eq!(parse_stat("42 (cut"), None);
        assert_eq!(parse_stat("42 (cut) S 1 2"), None);
    }

    #[test]
    fn the_innermost_number_is_told_of_a_process_in_another_namespace() {
        assert_eq!(parse_inner_number("Name:\tredis\nNSpid:\t417\nNSsid:\t400\t1\n"), None);
        assert_eq!(parse_inner_number("NSpid:\t417\t12\t7\n"), Some(7));
        assert_eq!(parse_inner_number("Name:\tredis\n"), None);
    }

    #[test]
    fn a_variable_is_found_by_its_whole_name() {
        let env = b"XCLUSTERD=no\0CLUSTERD=yes\0CLUSTERD_MORE=other\0";
        assert_eq!(variable(env, "CLUSTERD"), Some("yes"));
        assert_eq!(variable(env, "CLUSTER"), None);
    }

    #[test]
    fn this_process_is_seen_as_it_is() {
        let me = std::process::id() as i32;
        assert!(pids().unwrap().contains(&me));
        assert_eq!(thread_group(me).unwrap(), me);
        assert!(!stat(me).unwrap().kernel_thread);
        assert_eq!(exe(me).unwrap().path, std::env::current_exe().unwrap());
        assert_eq!(stat(i32::MAX).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
