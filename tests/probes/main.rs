//! The probes against the real daemons, each in a folder and on a port of its own.
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
use nix::unistd::{Pid, User, chown};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Long enough for each daemon's start on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);
const TIMEOUT: Duration = Duration::from_secs(3);

/// A daemon in the foreground; killed when dropped.
struct Daemon {
    child: Child,
}

impl Daemon {
    fn start(command: &mut Command) -> Daemon {
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let child = child.unwrap_or_else(|e| panic!("{command:?}: {e} (is its package installed?)"));
        Daemon { child }
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }

    /// Ends it as a power cut would.
    fn cut(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Runs `test` in a network namespace of its own.
fn alone(test: impl AsyncFnOnce() + Send + 'static) {
    let thread = std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).expect("root");
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
    Asker::new(Question { ask, timeout: TIMEOUT })
}

async fn ask(ask: Ask) -> Verdict {
    asker(ask).ask().await.verdict
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
