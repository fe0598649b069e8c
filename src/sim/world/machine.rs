//! A machine: its power, its clocks, its processes and its files.

use super::agent::Agent;
use super::files::Files;
use crate::facts::Moment;
use crate::model::{InstanceIx, Unit};
use crate::process::proc::Exe;
use crate::process::{Boot, FileId, Identity, Marked};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Numbers up to this one are the system's own processes, in every boot.
const SYSTEM: i32 = 40;
/// Numbers are given out in a circle up to this one, so that they come again soon.
const PIDS: i32 = 300;

/// What a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Of a daemon that daemonises: it ends when its daemon runs.
    Launcher,
    Main,
    /// Nobody's of ours.
    Stranger,
}

/// How far a daemon has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Closed,
    /// It listens, and says that it is not ready yet.
    Loading,
    /// It could serve, and another holds the lease.
    Waiting,
    Open,
}

/// Somebody who waits for a process to end: an agent's run.
#[derive(Clone, Copy, Debug)]
pub struct Watch {
    pub run: u32,
    pub incarnation: u64,
}

#[derive(Clone, Debug)]
pub struct Process {
    pub pid: i32,
    /// Tells it from every other one of this world.
    pub serial: u64,
    /// Clock ticks since the boot.
    pub start: u64,
    pub begun: Duration,
    pub exe: PathBuf,
    pub instance: Option<InstanceIx>,
    pub nonce: Option<String>,
    pub role: Role,
    pub phase: Phase,
    /// The agent's run whose child it is, or whose orphan.
    pub child_of: u32,
    pub watches: Vec<Watch>,
    pub told_to_stop: bool,
}

#[derive(Debug)]
pub struct Machine {
    /// It has power; and its kernel and network are there.
    pub on: bool,
    pub up: bool,
    pub boots: u32,
    pub runs: u32,
    pub powered: Duration,
    latest: u64,
    /// How far its wall clock is off.
    pub wall_seconds: i64,
    pub files: Files,
    pub processes: BTreeMap<i32, Process>,
    next_pid: i32,
    pub agent: Option<Box<Agent>>,
    /// The agent gets no processor time before.
    pub stalled: Duration,
    /// What lies in its configuration folder has an error in it.
    pub broken_config: bool,
    pub going_down: bool,
    /// What ends in the middle of something (see [`Files::doom`]) is the machine, and not the agent alone.
    pub power_fails: bool,
    pub boot: Boot,
}

/// By the number of a path: nobody replaces an executable here.
pub fn file_id(path: &Path) -> FileId {
    let mut ino: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in path.as_os_str().as_encoded_bytes() {
        ino = (ino ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    }
    FileId { dev: 1, ino }
}

impl Machine {
    pub fn new() -> Machine {
        Machine {
            on: false,
            up: false,
            boots: 0,
            runs: 0,
            powered: Duration::ZERO,
            latest: 0,
            wall_seconds: 0,
            files: Files::default(),
            processes: BTreeMap::new(),
            next_pid: SYSTEM + 1,
            agent: None,
            stalled: Duration::ZERO,
            broken_config: false,
            going_down: false,
            power_fails: false,
            boot: Boot { boot_id: "".into(), pid_ns: 1, init_start: 1 },
        }
    }

    pub fn power_on(&mut self, now: Duration, name: &str, first_pid: u64) {
        self.on = true;
        self.boots += 1;
        self.powered = now;
        self.latest = 0;
        self.next_pid = SYSTEM + 1 + (first_pid % (PIDS - SYSTEM) as u64) as i32;
        self.boot = Boot { boot_id: format!("{name}-{}", self.boots).into(), pid_ns: 1, init_start: 1 };
    }

    /// Everything that lives in memory is gone. The files are the caller's to treat.
    pub fn power_off(&mut self) {
        self.on = false;
        self.up = false;
        self.going_down = false;
        self.agent = None;
        self.stalled = Duration::ZERO;
        self.processes.clear();
    }

    /// This moment by its monotonic clock, which no two readings find the same.
    pub fn read_clock(&mut self, now: Duration) -> Moment {
        let since_boot = (now - self.powered).as_nanos() as u64;
        self.latest = since_boot.max(self.latest + 1000);
        Moment(self.latest)
    }

    /// When it is this moment by its clock.
    pub fn world_time(&self, moment: Moment) -> Duration {
        self.powered + Duration::from_nanos(moment.0)
    }

    /// Starts a process.
    pub fn start(&mut self, now: Duration, serial: u64, exe: &Path, role: Role) -> &mut Process {
        while self.processes.contains_key(&self.next_pid) {
            self.advance();
        }
        let pid = self.next_pid;
        self.advance();
        self.start_as(pid, now, serial, exe, role)
    }

    fn advance(&mut self) {
        self.next_pid += 1;
        // A machine with more processes than numbers has further numbers.
        if self.next_pid > PIDS && self.processes.len() < (PIDS - SYSTEM) as usize / 2 {
            self.next_pid = SYSTEM + 1;
        }
    }

    /// Starts a process with this number, which is free.
    pub fn start_as(&mut self, pid: i32, now: Duration, serial: u64, exe: &Path, role: Role) -> &mut Process {
        let process = Process {
            pid,
            serial,
            start: ((now - self.powered).as_millis() / 10) as u64,
            begun: now,
            exe: exe.to_owned(),
            instance: None,
            nonce: None,
            role,
            phase: Phase::Closed,
            child_of: 0,
            watches: Vec::new(),
            told_to_stop: false,
        };
        self.processes.entry(pid).or_insert(process)
    }

    /// Whether this number is free.
    pub fn is_free(&self, pid: i32) -> bool {
        pid > SYSTEM && !self.processes.contains_key(&pid)
    }

    pub fn is_system(pid: i32) -> bool {
        (1..=SYSTEM).contains(&pid)
    }

    /// The living process of this number and serial.
    pub fn same(&mut self, pid: i32, serial: u64) -> Option<&mut Process> {
        self.processes.get_mut(&pid).filter(|p| p.serial == serial)
    }

    pub fn members(&self, instance: InstanceIx) -> impl Iterator<Item = &Process> {
        self.processes.values().filter(move |p| p.instance == Some(instance))
    }

    pub fn main_of(&self, instance: InstanceIx) -> Option<&Process> {
        self.members(instance).find(|p| p.role == Role::Main)
    }

    pub fn identity(&self, process: &Process) -> Identity {
        Identity {
            boot: self.boot.clone(),
            pid: process.pid,
            start: process.start,
            exe: Some(file_id(&process.exe)),
        }
    }

    /// The living process that this describes.
    pub fn identified(&self, known: &Identity) -> Option<&Process> {
        let found = self.processes.get(&known.pid)?;
        (known.boot == self.boot && found.start == known.start).then_some(found)
    }

    /// All processes in leaves of ours, as a search through `/proc` finds them.
    pub fn marked(&self, name: impl Fn(InstanceIx) -> String) -> Vec<Marked> {
        let ours = |p: &Process| {
            let instance = name(p.instance?);
            Some(Marked { instance, pid: p.pid, nonce: p.nonce.clone() })
        };
        let mut marked: Vec<Marked> = self.processes.values().filter_map(ours).collect();
        marked.sort();
        marked
    }

    /// The main process of an instance of this unit, as `process::Tree` finds it.
    pub fn find_main(&self, unit: &Unit, instance: InstanceIx) -> Result<&Process, String> {
        let Some(path) = &unit.run.pidfile else { return self.main_by_descent(instance) };
        let shown = path.display();
        let Some(bytes) = self.files.bytes(path) else {
            return Err(format!("it has not written {shown} yet"));
        };
        let text = String::from_utf8_lossy(bytes);
        let Some(pid) = text.split_ascii_whitespace().next().and_then(|w| w.parse::<i32>().ok()) else {
            return Err(format!("{shown} holds no number yet"));
        };
        let Some(found) = self.processes.get(&pid) else {
            return Err(format!("{shown} names {pid}, and no such process runs"));
        };
        match found.instance == Some(instance) {
            true => Ok(found),
            false => Err(format!("{shown} names {pid}, which does not descend from this start")),
        }
    }

    /// The only process of the tree whose parent is not of the tree. (A launcher's daemon has left it.)
    pub fn main_by_descent(&self, instance: InstanceIx) -> Result<&Process, String> {
        let mut tops = self.members(instance);
        match (tops.next(), tops.next()) {
            (None, _) => Err("none of its processes is left".to_owned()),
            (Some(only), None) => Ok(only),
            _ => Err("several processes could be the main one".to_owned()),
        }
    }

    pub(super) fn exe_of(&self, pid: i32) -> Option<Exe> {
        let path = match self.processes.get(&pid) {
            Some(process) => process.exe.clone(),
            None if Machine::is_system(pid) => PathBuf::from("/usr/lib/systemd/systemd"),
            None => return None,
        };
        Some(Exe { id: Some(file_id(&path)), path, deleted: false })
    }
}
