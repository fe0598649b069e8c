//! What can be seen on this machine only: a unix socket, a file, a mount, the clock.
//!
//! A file may lie on a network disk that hangs, and then whoever looks at it hangs too. So a thread looks, and the
//! question ends by its deadline; while that thread hangs, no second one is made.

use super::course::Course;
use super::net;
use crate::facts::{Stage, Trouble, Verdict};
use crate::model::show_duration;
use crate::process::{self, ClockState};
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use tokio::net::UnixStream;
use tokio::sync::oneshot;

/// The most bytes of a file that are looked through.
const MOST: u64 = 1 << 20;
/// The most bytes of the kernel's list of mounts that are read: some tens of thousands of them.
const MOUNTS: u64 = 4 << 20;

/// Connects to a unix socket.
pub(super) async fn unix(path: &Path, course: Course<'_>) -> Verdict {
    course.enter(Stage::Connect);
    let shown = path.display();
    let error = match course.limit(UnixStream::connect(path)).await {
        Some(Ok(_)) => return Verdict::ready("accepts connections"),
        Some(Err(error)) => error,
        None => return net::unanswered(shown, course),
    };
    let (kind, reason) = match error.kind() {
        io::ErrorKind::NotFound => (Trouble::Refused, format!("there is no socket {shown}")),
        io::ErrorKind::ConnectionRefused => {
            (Trouble::Refused, format!("nobody listens on {shown}: what lies there is left over"))
        }
        // The kernel does not let a connect wait for room in the queue where the caller must not block.
        io::ErrorKind::WouldBlock => {
            (Trouble::Silent, format!("the queue of {shown} is full: nobody takes connections from it"))
        }
        io::ErrorKind::PermissionDenied => (Trouble::Denied, format!("{shown} does not let us in")),
        _ => (Trouble::Unaskable, format!("cannot connect to {shown}: {}", net::plain(&error))),
    };
    Verdict::not_ready(kind, reason)
}

/// What is asked of a file.
#[derive(Clone)]
pub(super) struct Wanted {
    pub path: PathBuf,
    pub contains: Option<String>,
    pub max_age: Option<Duration>,
}

/// Holds the thread that looks at a file and has not come back.
#[derive(Default)]
pub(super) struct Client {
    away: Option<oneshot::Receiver<Verdict>>,
}

impl Client {
    pub async fn ask(&mut self, wanted: Wanted, course: Course<'_>) -> Verdict {
        course.enter(Stage::Reply);
        let hangs = |path: &Path| {
            let why = format!("looking at {} does not end within {course}", path.display());
            Verdict::not_ready(Trouble::Silent, why)
        };
        // Giving it up would leave a thread behind, and the next question would send another one after it.
        course.commit();
        if let Some(away) = &mut self.away {
            if course.limit(away).await.is_none() {
                return hangs(&wanted.path);
            }
            self.away = None;
        }
        let path = wanted.path.clone();
        let (tell, told) = oneshot::channel();
        let look = move || drop(tell.send(look(&wanted, SystemTime::now())));
        if let Err(error) = std::thread::Builder::new().name("file-probe".into()).spawn(look) {
            let why = format!("cannot look at {}: {}", path.display(), net::plain(&error));
            return Verdict::not_ready(Trouble::Unaskable, why);
        }
        match course.limit(self.away.insert(told)).await {
            Some(answer) => {
                self.away = None;
                answer.unwrap_or_else(|_| hangs(&path))
            }
            None => hangs(&path),
        }
    }
}

fn look(wanted: &Wanted, now: SystemTime) -> Verdict {
    let shown = wanted.path.display();
    let declined = |why: String| Verdict::not_ready(Trouble::Declined, why);
    let cannot = |error: &io::Error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => declined(format!("there is no {shown}")),
        _ => Verdict::not_ready(Trouble::Unaskable, format!("cannot look at {shown}: {}", net::plain(error))),
    };
    let meta = match std::fs::metadata(&wanted.path) {
        Ok(meta) => meta,
        Err(error) => return cannot(&error),
    };
    let mut told = Vec::new();
    // What was written in the future is new: a clock has jumped, and that is not this file's fault.
    let age = meta.modified().ok().and_then(|at| now.duration_since(at).ok()).unwrap_or_default();
    if let Some(most) = wanted.max_age {
        let (most, seconds) = (show_duration(most), show_duration(Duration::from_secs(age.as_secs())));
        if wanted.max_age.is_some_and(|most| age > most) {
            return declined(format!("{shown} was last written {seconds} ago, more than {most}"));
        }
        told.push(format!("written {seconds} ago"));
    }
    if let Some(text) = &wanted.contains {
        if !meta.is_file() {
            return declined(format!("{shown} is not a regular file"));
        }
        let mut bytes = Vec::new();
        let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(&wanted.path);
        if let Err(error) = file.and_then(|file| file.take(MOST).read_to_end(&mut bytes)) {
            return cannot(&error);
        }
        if !bytes.windows(text.len().max(1)).any(|some| some == text.as_bytes()) {
            let of = if meta.len() > MOST { "the first MiB of " } else { "" };
            return declined(format!("\"{text}\" is not in {of}{shown}"));
        }
        told.push(format!("with \"{text}\""));
    }
    if told.is_empty() {
        told.push("it is there".into());
    }
    Verdict::ready(told.join(", "))
}

/// Whether something is mounted there, as the kernel lists it.
pub(super) fn mount(path: &Path, fs: Option<&str>, course: Course<'_>) -> Verdict {
    course.enter(Stage::Reply);
    let mut list = Vec::new();
    let read = File::open("/proc/self/mountinfo").and_then(|file| file.take(MOUNTS).read_to_end(&mut list));
    match read {
        Ok(_) => judge_mount(path, fs, &list),
        Err(error) => {
            let why = format!("cannot read the list of mounts: {}", net::plain(&error));
            Verdict::not_ready(Trouble::Unaskable, why)
        }
    }
}

/// Reads a list as `/proc/self/mountinfo` has it (proc_pid_mountinfo(5)). What was mounted last covers the others.
pub(super) fn judge_mount(path: &Path, fs: Option<&str>, list: &[u8]) -> Verdict {
    let wanted: PathBuf = path.components().collect();
    let found = list.split(|b| *b == b'\n').filter_map(mounted).rfind(|(at, _, _)| *at == wanted);
    let shown = path.display();
    match (found, fs) {
        (None, _) => Verdict::not_ready(Trouble::Declined, format!("nothing is mounted on {shown}")),
        (Some((_, kind, _)), Some(fs)) if kind != fs => {
            Verdict::not_ready(Trouble::Declined, format!("what is mounted on {shown} is {kind}, not {fs}"))
        }
        (Some((_, kind, what)), _) => Verdict::ready(format!("{kind}, from {what}")),
    }
}

/// One line: where, of which type, and what.
fn mounted(line: &[u8]) -> Option<(PathBuf, String, String)> {
    let mut fields = line.split(|b| *b == b' ');
    let at = PathBuf::from(OsString::from_vec(unescaped(fields.nth(4)?)));
    let mut behind = fields.skip_while(|field| *field != b"-").skip(1);
    Some((at, net::shown(behind.next()?), net::shown(&unescaped(behind.next()?))))
}

/// `\040` is a space, and so on.
fn unescaped(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, more)) = rest.split_first() {
        let code = more.get(..3).filter(|_| *first == b'\\');
        let code = code.and_then(|digits| std::str::from_utf8(digits).ok());
        match code.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                out.push(byte);
                rest = &more[3..];
            }
            None => {
                out.push(*first);
                rest = more;
            }
        }
    }
    out
}

/// Whether the clock is in step, as the kernel was told by whoever keeps it (adjtimex(2)).
pub(super) fn clock(max_error: Option<Duration>, course: Course<'_>) -> Verdict {
    course.enter(Stage::Reply);
    match process::clock_state() {
        Ok(state) => judge_clock(state, max_error),
        Err(error) => {
            let why = format!("cannot ask the kernel about the clock: {}", net::plain(&error));
            Verdict::not_ready(Trouble::Unaskable, why)
        }
    }
}

fn judge_clock(state: ClockState, max_error: Option<Duration>) -> Verdict {
    let off = show_duration(Duration::from_millis(state.max_error.as_millis() as u64));
    if !state.in_step {
        let why = "the clock is not in step: no time service keeps it (chronyd, ntpd, systemd-timesyncd), or it has \
                   lost its source";
        return Verdict::not_ready(Trouble::Declined, why);
    }
    match max_error.filter(|most| state.max_error > *most) {
        Some(most) => {
            let most = show_duration(most);
            Verdict::not_ready(Trouble::Declined, format!("the clock may be off by {off}, more than {most}"))
        }
        None => Verdict::ready(format!("in step, off by {off} at the most")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Ask;
    use crate::probe::testing::{ask, ask_in_vain, not_ready};
    use std::os::unix::net::UnixListener;

    #[tokio::test]
    async fn a_unix_socket_is_connected_to() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let question = || Ask::Unix { path: path.clone() };
        not_ready(ask(question()).await, Trouble::Refused, format!("there is no socket {}", path.display()));
        let listener = UnixListener::bind(&path).unwrap();
        assert_eq!(ask(question()).await, Verdict::ready("accepts connections"));
        drop(listener);
        // A process that another test is just forking holds a copy until its exec.
        while std::os::unix::net::UnixStream::connect(&path).is_ok() {
            tokio::task::yield_now().await;
        }
        let left = format!("nobody listens on {}: what lies there is left over", path.display());
        not_ready(ask(question()).await, Trouble::Refused, left);
    }

    #[tokio::test]
    async fn a_unix_socket_that_nobody_serves_has_a_full_queue() {
        use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket};
        use std::os::fd::AsRawFd;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let kept = socket(AddressFamily::Unix, SockType::Stream, SockFlag::empty(), None).unwrap();
        bind(kept.as_raw_fd(), &UnixAddr::new(&path).unwrap()).unwrap();
        listen(&kept, Backlog::new(0).unwrap()).unwrap();
        let _waits = std::os::unix::net::UnixStream::connect(&path).unwrap();
        let verdict = ask(Ask::Unix { path: path.clone() }).await;
        let why = format!("the queue of {} is full: nobody takes connections from it", path.display());
        not_ready(verdict, Trouble::Silent, why);
    }

    #[tokio::test]
    async fn a_file_is_there_new_enough_and_holds_a_text() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("done");
        let shown = path.display();
        let question = |contains: Option<&str>, max_age| Ask::File {
            path: path.clone(),
            contains: contains.map(Into::into),
            max_age,
        };
        not_ready(ask(question(None, None)).await, Trouble::Declined, format!("there is no {shown}"));
        std::fs::write(&path, "state: loaded\n").unwrap();
        assert_eq!(ask(question(None, None)).await, Verdict::ready("it is there"));
        assert_eq!(ask(question(Some("loaded"), None)).await, Verdict::ready("with \"loaded\""));
        let missing = ask(question(Some("empty"), None)).await;
        not_ready(missing, Trouble::Declined, format!("\"empty\" is not in {shown}"));
        let long_ago = SystemTime::now() - Duration::from_secs(3600);
        File::options().write(true).open(&path).unwrap().set_modified(long_ago).unwrap();
        let old = ask(question(None, Some(Duration::from_secs(300)))).await;
        let Verdict::NotReady { reason, .. } = old else { panic!("{old:?}") };
        assert!(reason.starts_with(&format!("{shown} was last written 1h")), "{reason}");
        assert!(reason.ends_with("ago, more than 5m"), "{reason}");
        assert!(ask(question(None, Some(Duration::from_secs(7200)))).await.is_ready());
    }

    /// A pipe that nobody writes: opening it for reading would wait for ever, so would a network disk.
    #[tokio::test]
    async fn a_look_that_hangs_ends_by_the_deadline_and_is_not_begun_twice() {
        let (commitment, stages) = Default::default();
        let course = |ms| Course::begin(Duration::from_millis(ms), &commitment, &stages);
        let (hangs, told) = oneshot::channel();
        let mut client = Client { away: Some(told) };
        let dir = tempfile::tempdir().unwrap();
        let wanted = Wanted { path: dir.path().into(), contains: None, max_age: None };
        for _ in 0..2 {
            let verdict = client.ask(wanted.clone(), course(20)).await;
            let why = format!("looking at {} does not end within 20 ms", dir.path().display());
            not_ready(verdict, Trouble::Silent, why);
        }
        hangs.send(Verdict::ready("old")).unwrap();
        let fresh = client.ask(wanted, course(5000)).await;
        assert_eq!(fresh, Verdict::ready("it is there"), "its late word is old");
    }

    #[tokio::test]
    async fn what_is_mounted_is_told_by_the_kernel() {
        let verdict = ask(Ask::Mount { path: "/proc".into(), fs: Some("proc".into()) }).await;
        assert!(
            matches!(&verdict, Verdict::Ready(ready) if ready.detail.starts_with("proc, from ")),
            "{verdict:?}"
        );
        let other = ask(Ask::Mount { path: "/proc".into(), fs: Some("nfs4".into()) }).await;
        not_ready(other, Trouble::Declined, "what is mounted on /proc is proc, not nfs4");
        let none = ask(Ask::Mount { path: "/proc/self".into(), fs: None }).await;
        not_ready(none, Trouble::Declined, "nothing is mounted on /proc/self");
    }

    #[test]
    fn the_last_mount_counts_and_escapes_are_read() {
        let list = b"21 1 8:1 / /srv/my\\040data rw shared:1 - ext4 /dev/sda1 rw\n\
                     22 1 0:5 / /srv/my\\040data rw - nfs4 store:/x rw\nbroken\n30 - \\";
        let verdict = judge_mount(Path::new("/srv/my data/"), None, list);
        assert_eq!(verdict, Verdict::ready("nfs4, from store:/x"));
    }

    #[test]
    fn the_clock_is_judged_by_the_kernels_word() {
        let state = |in_step, ms| ClockState { in_step, max_error: Duration::from_millis(ms) };
        let most = Some(Duration::from_millis(100));
        assert_eq!(judge_clock(state(true, 12), most), Verdict::ready("in step, off by 12ms at the most"));
        let off = judge_clock(state(true, 1500), most);
        not_ready(off, Trouble::Declined, "the clock may be off by 1500ms, more than 100ms");
        assert!(!judge_clock(state(false, 0), None).is_ready());
    }

    #[tokio::test]
    async fn the_kernel_is_asked() {
        let verdict = ask_in_vain(Ask::Clock { max_error: None }).await;
        assert_eq!(verdict.is_ready(), process::clock_state().unwrap().in_step, "{verdict:?}");
    }
}
