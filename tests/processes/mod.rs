//! What the tests with real processes share.
#![allow(dead_code)] // each test binary uses its part

use clusterd::model::*;
use clusterd::process::{Handle, Spawn, SpawnError, Tree};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long anything may take that happens by itself.
pub const SOON: Duration = Duration::from_secs(10);

/// A unit with nothing but a command.
pub fn unit(command: &[&str]) -> Unit {
    Unit {
        name: "thing".into(),
        exclusive: false,
        run: Run {
            kind: RunKind::Exec,
            watchdog: None,
            ready_fd: None,
            unit: None,
            command: command.iter().map(|s| s.to_string()).collect(),
            user: None,
            group: None,
            folder: "/".into(),
            environment: Default::default(),
            umask: 0o022,
            pidfile: None,
            make_folders: vec![],
            executables: vec![],
            care: Care::default(),
        },
        ready: Readiness {
            local: Probe::Running { for_: Duration::ZERO },
            remote: None,
            within: SOON,
            usually: None,
            every: SOON,
            lost_after: 1,
        },
        stop: Stop { signal: libc::SIGTERM, timeout: SOON },
        restart: Restart { delay: SOON, max: SOON, limit: 0, within: SOON, stable: SOON, unready_for: None },
        leftovers: Leftovers::default(),
        log: LogLimits::default(),
    }
}

pub fn shell(script: &str) -> Unit {
    unit(&["/bin/sh", "-c", script])
}

/// An agent's tag that no other test has.
pub fn tag() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

static TURN: Mutex<()> = Mutex::new(());

thread_local! {
    /// Held until the test ends, and its thread with it.
    static MINE: MutexGuard<'static, ()> = TURN.lock().unwrap_or_else(PoisonError::into_inner);
}

/// Trees that leave nothing behind: what was started is killed at the end, also of a test that failed.
pub struct Yard {
    pub tree: Tree,
    pub dir: tempfile::TempDir,
    pub instance: String,
}

impl Yard {
    /// With cgroups where the machine has them.
    pub fn new() -> Yard {
        Yard::with(Tree::locate(&tag()))
    }

    /// One test at a time: a child that another one makes at this moment has a copy of all that is open here until its exec,
    /// so it holds locks, and files that are looked at.
    pub fn with(tree: Tree) -> Yard {
        MINE.with(|_| {});
        Yard { tree, dir: tempfile::tempdir().unwrap(), instance: "thing@here".into() }
    }

    pub fn spawn(&self, unit: &Unit) -> Result<Handle, SpawnError> {
        self.spawn_as(unit, &self.instance)
    }

    pub fn spawn_as(&self, unit: &Unit, instance: &str) -> Result<Handle, SpawnError> {
        let leaf = self.tree.leaf(instance, &unit.run.care.cgroup).unwrap();
        Spawn {
            unit,
            instance,
            nonce: "n1",
            agent: self.tree.agent(),
            leaf: leaf.as_ref(),
            output: &self.dir.path().join("output.log"),
            ready: None,
        }
        .spawn()
    }

    pub fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    pub fn output(&self) -> String {
        std::fs::read_to_string(self.path("output.log")).unwrap_or_default()
    }
}

impl Drop for Yard {
    fn drop(&mut self) {
        let mut instances: Vec<String> =
            self.tree.find_marked().unwrap_or_default().into_iter().map(|m| m.instance).collect();
        instances.push(self.instance.clone());
        for instance in instances {
            for handle in self.tree.kill_all(&instance).unwrap_or_default() {
                let _ = handle.wait(SOON);
                handle.reap();
            }
        }
        self.tree.dismantle();
    }
}

/// How long a test waits for a fact.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits for a fact and gives back what it brought; fails with what was last seen.
#[track_caller]
pub fn wait_for<T, S: std::fmt::Debug>(what: &str, mut look: impl FnMut() -> Result<T, S>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        match look() {
            Ok(found) => return found,
            Err(seen) if Instant::now() > end => panic!("waited in vain for {what}; last seen: {seen:?}"),
            Err(_) => std::thread::sleep(Duration::from_millis(2)),
        }
    }
}

/// Waits until a script has written a whole line into a file; gives back the text.
#[track_caller]
pub fn wait_for_line(path: &Path) -> String {
    wait_for(&format!("a line in {}", path.display()), || match std::fs::read_to_string(path) {
        Ok(text) if text.ends_with('\n') => Ok(text.trim().to_owned()),
        other => Err(other),
    })
}
