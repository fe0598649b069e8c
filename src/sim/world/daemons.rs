//! How daemons behave: what they leave on the disk, how long they take, and how they end.

use super::machine::{Phase, Process, Role};
use super::{Event, World};
use crate::engine::Input;
use crate::facts::{Exit, Notice};
use crate::model::{Ask, InstanceIx, NodeIx, Probe, RunKind, Unit};
use std::path::PathBuf;
use std::time::Duration;

/// From its start until a daemon has written its pid file.
const WRITES: Duration = Duration::from_millis(4);
/// From a launcher's start until it has forked its daemon, and until it ends.
const FORKS: Duration = Duration::from_millis(15);
const LAUNCHES: Duration = Duration::from_millis(30);
/// A daemon that cannot start says so after this.
const FAILS: Duration = Duration::from_millis(200);
/// A lease whose holder died without giving it back is free after this.
const LEASE: Duration = Duration::from_secs(5);
/// An agent hears of a process's end.
const REAPS: Duration = Duration::from_micros(150);

/// What befell an instance's daemon, whichever process it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Daemon {
    pub hangs: bool,
    pub declines: bool,
    pub broken: bool,
    /// A oneshot that has completed in this boot of its machine.
    pub completed: Option<u32>,
}

/// What a process does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    Writes,
    Forks,
    Loads,
    /// It has what it needs to serve.
    Ready,
    Ends(Exit),
}

/// Who has a lease, by the process's serial number; or until when nobody can.
#[derive(Clone, Copy, Debug)]
pub enum Lease {
    Held(u64),
    Until(Duration),
}

impl World<'_, '_> {
    fn live(&mut self, node: NodeIx, pid: i32, serial: u64, after: Duration, life: Life) {
        let boot = self.machines[node.0 as usize].boots;
        self.queue.push(self.now + after, Event::Life { node, boot, pid, serial, life });
    }

    /// Starts an instance's program, as `process::Spawn` does.
    pub(super) fn exec(
        &mut self,
        node: NodeIx,
        instance: InstanceIx,
        unit: &Unit,
        nonce: &str,
    ) -> Result<(i32, u64), String> {
        let forks = unit.run.kind == RunKind::Forking;
        let role = if forks { Role::Launcher } else { Role::Main };
        if role == Role::Main {
            self.is_only(node, instance)?;
        }
        self.serials += 1;
        let (serial, now, exe) = (self.serials, self.now, program(unit));
        let machine = &mut self.machines[node.0 as usize];
        let run = machine.runs;
        let process = machine.start(now, serial, &exe, role);
        process.instance = Some(instance);
        process.nonce = Some(nonce.to_owned());
        process.child_of = run;
        let pid = process.pid;
        if forks {
            self.live(node, pid, serial, FORKS, Life::Forks);
        } else {
            self.begin(node, instance, pid, serial, unit);
        }
        Ok((pid, serial))
    }

    /// A main process has begun.
    fn begin(&mut self, node: NodeIx, instance: InstanceIx, pid: i32, serial: u64, unit: &Unit) {
        self.mains[instance.0 as usize] = Some(pid);
        let takes = self.takes(instance);
        let daemon = self.daemons[instance.0 as usize];
        self.live(node, pid, serial, WRITES.min(takes), Life::Writes);
        if daemon.broken {
            self.live(node, pid, serial, FAILS.min(takes), Life::Ends(Exit::Code(1)));
        } else if unit.run.kind == RunKind::Oneshot {
            self.live(node, pid, serial, takes, Life::Ends(Exit::Code(0)));
        } else {
            if matches!(&unit.ready.local, Probe::Ask(q) if matches!(q.ask, Ask::Redis { .. })) {
                self.live(node, pid, serial, takes / 3, Life::Loads);
            }
            self.live(node, pid, serial, takes, Life::Ready);
        }
    }

    fn takes(&self, instance: InstanceIx) -> Duration {
        let timing = &self.scenario.timing;
        timing.of.get(&instance).copied().unwrap_or(timing.usual)
    }

    /// A process does what comes next.
    pub(super) fn life(&mut self, node: NodeIx, pid: i32, serial: u64, life: Life) -> Result<(), String> {
        let now = self.now;
        let machine = &mut self.machines[node.0 as usize];
        let Some(process) = machine.same(pid, serial) else { return Ok(()) };
        let Some(instance) = process.instance else {
            // A stranger, whose time is over.
            machine.processes.remove(&pid);
            return Ok(());
        };
        let cluster = self.cluster.clone();
        let unit = &cluster.instance(instance).unit;
        match life {
            Life::Forks => {
                self.is_only(node, instance)?;
                self.serials += 1;
                let daemon = self.serials;
                let machine = &mut self.machines[node.0 as usize];
                let Some(launcher) = machine.processes.get(&pid).cloned() else { return Ok(()) };
                let process = machine.start(now, daemon, &launcher.exe, Role::Main);
                process.instance = Some(instance);
                // Redis and nginx overwrite their environment.
                process.nonce = launcher.nonce.clone().filter(|_| daemon.is_multiple_of(2));
                process.child_of = launcher.child_of;
                let main = process.pid;
                self.begin(node, instance, main, daemon, unit);
                self.live(node, pid, serial, LAUNCHES - FORKS, Life::Ends(Exit::Code(0)));
            }
            Life::Writes => {
                if let Some(file) = &unit.run.pidfile
                    && let Some(bytes) = machine.files.bytes(file)
                    && let Ok(other) = String::from_utf8_lossy(bytes).trim().parse::<i32>()
                    && other != pid
                    && !machine.is_free(other)
                {
                    // It takes the number for a running daemon, whoever that is.
                    self.end(node, pid, serial, Exit::Code(1));
                    return Ok(());
                }
                let left = &unit.leftovers;
                let text = format!("{pid}\n").into_bytes();
                for path in unit.run.pidfile.iter().chain(&left.pidfiles).chain(&left.locks) {
                    machine.files.put(path, text.clone(), serial, false, now);
                }
                for path in &left.sockets {
                    machine.files.put(path, Vec::new(), serial, true, now);
                }
            }
            Life::Loads => {
                process.phase = Phase::Loading;
                self.touch(instance);
            }
            Life::Ready => self.become_ready(node, instance, pid, serial),
            Life::Ends(exit) => {
                if unit.run.kind == RunKind::Oneshot && exit.is_success() {
                    self.daemons[instance.0 as usize].completed = Some(machine.boots);
                }
                self.end(node, pid, serial, exit);
            }
        }
        Ok(())
    }

    /// It serves, once it has the lease where there is one.
    fn become_ready(&mut self, node: NodeIx, instance: InstanceIx, pid: i32, serial: u64) {
        let service = self.cluster.instance(instance).service;
        let mut phase = Phase::Open;
        if self.cluster.service(service).exclusive {
            match self.leases.get(&service) {
                Some(Lease::Held(other)) if *other != serial => phase = Phase::Waiting,
                Some(Lease::Until(at)) if *at > self.now => {
                    phase = Phase::Waiting;
                    let wait = *at - self.now;
                    self.live(node, pid, serial, wait, Life::Ready);
                }
                _ => drop(self.leases.insert(service, Lease::Held(serial))),
            }
        }
        if let Some(process) = self.machines[node.0 as usize].same(pid, serial) {
            process.phase = phase;
        }
        if phase == Phase::Open {
            self.notify(node, instance, pid, serial);
        }
        self.touch(instance);
    }

    /// It says that it is ready, where its unit has it so. Nobody hears it while no agent lives.
    fn notify(&mut self, node: NodeIx, instance: InstanceIx, pid: i32, serial: u64) {
        let kind = self.cluster.instance(instance).unit.run.kind;
        if !matches!(kind, RunKind::Notify | RunKind::Systemd) {
            return;
        }
        let machine = &mut self.machines[node.0 as usize];
        let Some(run) = machine.agent.as_ref().map(|agent| agent.run) else { return };
        let Some(process) = machine.same(pid, serial) else { return };
        let Some(watch) = process.watches.iter().find(|w| w.run == run) else { return };
        let notice = Notice { ready: true, ..Notice::default() };
        let input = Input::Notified { instance, incarnation: watch.incarnation, notice };
        self.queue.push(self.now + REAPS, Event::Tell { node, run, input: Box::new(input) });
    }

    /// A signal to a process.
    pub(super) fn signal(&mut self, node: NodeIx, pid: i32, serial: u64, signal: i32) {
        let took = self.chance.time(Duration::from_millis(5), Duration::from_millis(400));
        let Some(process) = self.machines[node.0 as usize].same(pid, serial) else { return };
        if signal == nix::libc::SIGKILL {
            return self.end(node, pid, serial, Exit::Signal(signal));
        }
        let hangs = process.instance.is_some_and(|i| self.daemons[i.0 as usize].hangs);
        let Some(process) = self.machines[node.0 as usize].same(pid, serial) else { return };
        if hangs || process.told_to_stop {
            return;
        }
        process.told_to_stop = true;
        self.live(node, pid, serial, took, Life::Ends(Exit::Code(0)));
    }

    /// A process is gone. One that ended by itself has tidied up.
    pub(super) fn end(&mut self, node: NodeIx, pid: i32, serial: u64, exit: Exit) {
        let machine = &mut self.machines[node.0 as usize];
        if machine.same(pid, serial).is_none() {
            return;
        }
        let Some(process) = machine.processes.remove(&pid) else { return };
        self.ended(node, &process, exit);
    }

    /// What follows from a process's end.
    pub(super) fn ended(&mut self, node: NodeIx, process: &Process, exit: Exit) {
        let orderly = exit == Exit::Code(0);
        let Some(instance) = process.instance else { return };
        let machine = &mut self.machines[node.0 as usize];
        if orderly && process.role == Role::Main {
            let unit = self.cluster.instance(instance).unit.clone();
            let left = &unit.leftovers;
            let all = unit.run.pidfile.iter().chain(&left.pidfiles).chain(&left.locks).chain(&left.sockets);
            for path in all {
                if machine.files.user(path) == Some(process.serial) {
                    machine.files.take_away(path);
                }
            }
        }
        if let Some(agent) = &machine.agent {
            let run = agent.run;
            let of_it = |other: &&Process| other.instance == Some(instance) && other.serial != process.serial;
            let alone = !machine.processes.values().any(|other| of_it(&other));
            for watch in process.watches.iter().filter(|w| w.run == run) {
                let exit = if process.child_of == run { exit } else { Exit::Unknown };
                let incarnation = watch.incarnation;
                let last_words = String::new();
                let input = Input::Exited { instance, incarnation, exit, last_words, alone };
                self.queue.push(self.now + REAPS, Event::Tell { node, run, input: Box::new(input) });
            }
        }
        if process.role != Role::Main {
            return;
        }
        if self.mains[instance.0 as usize] == Some(process.pid) {
            self.mains[instance.0 as usize] = None;
        }
        self.free_lease(instance, process.serial, orderly);
        self.touch(instance);
    }

    /// Gives a lease back, at once or when it runs out; those that wait for it try.
    pub(super) fn free_lease(&mut self, instance: InstanceIx, serial: u64, orderly: bool) {
        let service = self.cluster.instance(instance).service;
        if !matches!(self.leases.get(&service), Some(Lease::Held(holder)) if *holder == serial) {
            return;
        }
        let wait = if orderly { Duration::ZERO } else { LEASE };
        self.leases.insert(service, Lease::Until(self.now + wait));
        let cluster = self.cluster.clone();
        for other in &cluster.service(service).instances {
            let node = cluster.instance(*other).node;
            let machine = &self.machines[node.0 as usize];
            let waits = |p: &&Process| p.phase == Phase::Waiting;
            if let Some((pid, serial)) = machine.main_of(*other).filter(waits).map(|p| (p.pid, p.serial)) {
                self.live(node, pid, serial, wait + Duration::from_millis(50), Life::Ready);
            }
        }
    }
}

/// What a unit's processes show as their executable.
fn program(unit: &Unit) -> PathBuf {
    let named = unit.run.command.first().map(String::as_str).or(unit.run.systemd_unit());
    named.map(PathBuf::from).unwrap_or_default()
}
