//! The probes against the real daemons, each in a folder and a network of its own.
//!
//! Needs Debian's redis-server, mariadb-server, postgresql, nginx, activemq, dnsmasq, etcd-server, keepalived,
//! libreoffice-writer-nogui, openssl, faketime and python3-grpcio, and root (PostgreSQL and MariaDB run as their own users). What is missing fails.

mod activemq;
mod dnsmasq;
mod grpc;
mod keepalived;
mod mariadb;
mod nginx;
mod office;
mod postgres;
mod redis;

use clusterd::facts::{Role, Trouble, Verdict};
use clusterd::model::{Ask, Get, Login, Question, Secret};
use clusterd::probe::{Asker, Pace, Prober};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::{Pid, User, chown};
use std::cell::Cell;
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::FileExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Long enough for each daemon's start, and for an answer that will come, on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// For an answer that may not come.
const TIMEOUT: Duration = Duration::from_secs(3);

/// A daemon in the foreground; killed when dropped. What it said is told when its test fails.
struct Daemon {
    child: Child,
    program: String,
    said: File,
}

impl Daemon {
    fn start(command: &mut Command) -> Daemon {
        let said = tempfile::tempfile().unwrap();
        let [out, err] = [(); 2].map(|()| said.try_clone().unwrap());
        let child = command.stdin(Stdio::null()).stdout(out).stderr(err).spawn();
        let child = child.unwrap_or_else(|e| panic!("{command:?}: {e} (is its package installed?)"));
        Daemon { child, program: command.get_program().to_string_lossy().into_owned(), said }
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id() as i32)
    }

    fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap();
    }

    /// Stops all of its threads, for [`Daemon::thaw`].
    fn freeze(&self) {
        self.signal(Signal::SIGSTOP);
        let stopped =
            waitid(Id::Pid(self.pid()), WaitPidFlag::WSTOPPED | WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT);
        assert!(matches!(stopped, Ok(WaitStatus::Stopped(..))), "{}: {stopped:?}", self.program);
    }

    fn thaw(&self) {
        self.signal(Signal::SIGCONT);
    }

    /// Ends it as a power cut would.
    fn cut(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let ended = self.child.try_wait();
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            const MOST: u64 = 4000;
            let mut words = vec![0; MOST as usize];
            let size = self.said.metadata().map_or(0, |m| m.len());
            let read = self.said.read_at(&mut words, size.saturating_sub(MOST)).unwrap_or_default();
            let words = String::from_utf8_lossy(&words[..read]);
            let life = match ended {
                Ok(Some(status)) => format!("had ended by itself: {status}"),
                _ => "ran still".to_owned(),
            };
            eprintln!("--- {} {life}; its last words:\n{words}", self.program);
        }
    }
}

thread_local! {
    /// The last port that [`free_address`] gave away; none before this test has a network of its own.
    static PORT: Cell<Option<u16>> = const { Cell::new(None) };
}

/// Gives this test, and all that it starts from now on, a network of its own.
fn own_network() {
    if PORT.get().is_none() {
        unshare(CloneFlags::CLONE_NEWNET).expect("root");
        ip("link set lo up");
        PORT.set(Some(17_000));
    }
}

/// An address that nobody uses, in this test's own network: below the ports that connections get.
fn free_address() -> SocketAddr {
    own_network();
    PORT.set(PORT.get().map(|port| port + 1));
    (Ipv4Addr::LOCALHOST, PORT.get().unwrap()).into()
}

/// Runs `test` on a thread that has a network of its own.
fn alone(test: impl AsyncFnOnce() + Send + 'static) {
    let thread = std::thread::spawn(|| {
        own_network();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(test());
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

fn ip(words: &str) {
    done(Command::new("ip").args(words.split(' ')));
}

/// Runs a set-up command to its end.
fn done(command: &mut Command) -> String {
    let out = command.stdin(Stdio::null()).output();
    let out = out.unwrap_or_else(|e| panic!("{command:?}: {e} (is its package installed?)"));
    assert!(out.status.success(), "{command:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).into_owned()
}

/// A folder that `user` owns and may reach.
fn folder_of(user: &User) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    chown(dir.path(), Some(user.uid), Some(user.gid)).unwrap();
    dir
}

fn user(name: &str) -> User {
    User::from_name(name).unwrap().unwrap_or_else(|| panic!("no user {name} (is its package installed?)"))
}

fn login(dir: &Path, user: &str, password: &str) -> Login {
    let path = dir.join(format!("password-{user}-{password}"));
    std::fs::write(&path, format!("{password}\n")).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
    Login { user: user.into(), password: Some(Secret::File(path)) }
}

fn asker(ask: Ask) -> Asker {
    Asker::new(Question { ask, timeout: PATIENCE })
}

/// Asks once, where an answer comes.
async fn ask(ask: Ask) -> Verdict {
    asker(ask).ask().await.verdict
}

fn hasty(ask: Ask) -> Asker {
    Asker::new(Question { ask, timeout: TIMEOUT })
}

/// Asks once, where none will.
async fn ask_in_vain(ask: Ask) -> Verdict {
    hasty(ask).ask().await.verdict
}

/// Asks at the waiting pace, through the prober, until `wanted`.
async fn until(ask: Ask, wanted: impl Fn(&Verdict) -> bool) -> Verdict {
    let (sender, mut events) = tokio::sync::mpsc::unbounded_channel();
    let prober = Prober::spawn(1, Question { ask, timeout: TIMEOUT }, sender);
    prober.pace(Pace::Fast);
    let found = tokio::time::timeout(PATIENCE, async {
        loop {
            let verdict = events.recv().await.unwrap().answer.verdict;
            if wanted(&verdict) {
                return verdict;
            }
        }
    });
    found.await.unwrap_or_else(|_| panic!("given up; the last answer: {:?}", prober.last()))
}

#[track_caller]
fn not_ready(verdict: Verdict, kind: Trouble, reason: impl Into<String>) {
    assert_eq!(verdict, Verdict::not_ready(kind, reason));
}

fn roles(verdict: &Verdict) -> &[Role] {
    match verdict {
        Verdict::Ready(ready) => &ready.roles,
        other => panic!("not ready: {other:?}"),
    }
}

fn identity(verdict: &Verdict) -> &str {
    match verdict {
        Verdict::Ready(ready) => ready.identity.as_deref().expect("an identity"),
        other => panic!("not ready: {other:?}"),
    }
}
