//! What befalls the world.

use super::machine::Role;
use super::{Event, Violation, World};
use crate::engine::{Input, Order, OrderVerb};
use crate::facts::Exit;
use crate::model::{InstanceIx, NodeIx};
use crate::sim::scenario::{Config, Fault};
use std::path::PathBuf;
use std::time::Duration;

/// Its init starts an agent that ended again after this (`RestartSec` of `units/clusterd.service`).
const RESTART: Duration = Duration::from_secs(1);
/// Its init replaces an agent that gives no sign of life (`WatchdogSec`).
const WATCHDOG: Duration = Duration::from_secs(30);
/// How long a machine that goes down waits for its agent; and for its processes where there is no agent.
const PATIENCE: Duration = Duration::from_secs(600);
const TERMINATES: Duration = Duration::from_secs(10);
/// A stranger that takes a stale number lives about so long.
const STRANGER: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// Sometimes whoever is killed or loses power is in the middle of something: so many file operations at most.
const MIDDLE: u64 = 12;
/// How long whoever kills an agent in the middle of something waits for it to do something.
const RESTLESS: Duration = Duration::from_secs(20);
/// The wall clock of a machine's first boot: seconds since 1970.
const WALL_CLOCK: i64 = 1_700_000_000;

impl World<'_, '_> {
    pub(super) fn befall(&mut self, number: usize) -> Result<(), Violation> {
        let scenario = self.scenario;
        let Some(timed) = scenario.faults.get(number) else { return Ok(()) };
        match timed.fault {
            Fault::PowerOn { node } => return self.power_on(node),
            Fault::PowerCut { node } => return self.fell(node, true),
            Fault::Shutdown { node } => return self.shut_down(node),
            Fault::AgentKilled { node } => return self.fell(node, false),
            Fault::AgentStalls { node, for_ } => return self.stall(node, for_),
            Fault::Crash { instance } => {
                let (node, main) = self.main(instance);
                if let Some((pid, serial)) = main {
                    self.end(node, pid, serial, Exit::Signal(nix::libc::SIGKILL));
                }
            }
            Fault::Hangs { instance } => self.daemon(instance, |d| d.hangs = true),
            Fault::Wakes { instance } => self.daemon(instance, |d| d.hangs = false),
            Fault::Declines { instance } => self.daemon(instance, |d| d.declines = true),
            Fault::Serves { instance } => self.daemon(instance, |d| d.declines = false),
            Fault::Broken { instance } => self.daemon(instance, |d| d.broken = true),
            Fault::Mended { instance } => self.daemon(instance, |d| d.broken = false),
            Fault::Cut { from, to } => {
                self.cuts.insert((from, to));
                self.wire(from, to);
            }
            Fault::Joined { from, to } => {
                self.cuts.remove(&(from, to));
                self.wire(from, to);
            }
            Fault::Slow { from, to, by } => {
                let pair = (from.min(to), from.max(to));
                match by.is_zero() {
                    true => self.slow.remove(&pair),
                    false => self.slow.insert(pair, by),
                };
                self.touch_node(from, Some(to));
                self.touch_node(to, Some(from));
            }
            Fault::DiskFull { node } => self.machines[node.0 as usize].files.full = true,
            Fault::DiskFree { node } => self.machines[node.0 as usize].files.full = false,
            Fault::ClockJumps { node, seconds } => {
                let machine = &mut self.machines[node.0 as usize];
                machine.wall_seconds = machine.wall_seconds.saturating_add(seconds);
            }
            Fault::PidReused { instance } => self.reuse_pid(instance),
            Fault::Stop { instance, timeout } => {
                return self.order(instance, OrderVerb::Stop, false, timeout);
            }
            Fault::Start { instance, force } => {
                return self.order(instance, OrderVerb::Start, force, Duration::ZERO);
            }
            Fault::Restart { instance } => {
                return self.order(instance, OrderVerb::Restart, false, Duration::from_secs(60));
            }
            Fault::Reload { node, ref config } => self.reload(node, config),
        }
        Ok(())
    }

    /// The node whose agent is to take an order: it does so only when it gets processor time.
    pub(super) fn ordered_of(&self, fault: &Fault) -> Option<NodeIx> {
        match fault {
            Fault::Stop { instance, .. } | Fault::Start { instance, .. } | Fault::Restart { instance } => {
                Some(self.cluster.instance(*instance).node)
            }
            _ => None,
        }
    }

    fn main(&self, instance: InstanceIx) -> (NodeIx, Option<(i32, u64)>) {
        let node = self.cluster.instance(instance).node;
        let machine = &self.machines[node.0 as usize];
        (node, machine.main_of(instance).map(|p| (p.pid, p.serial)))
    }

    fn daemon(&mut self, instance: InstanceIx, change: impl FnOnce(&mut super::Daemon)) {
        change(&mut self.daemons[instance.0 as usize]);
        self.touch(instance);
    }

    fn wire(&mut self, from: NodeIx, to: NodeIx) {
        self.network_changed(from, to);
        self.touch_node(from, Some(to));
        self.touch_node(to, Some(from));
    }

    fn power_on(&mut self, node: NodeIx) -> Result<(), Violation> {
        if self.machines[node.0 as usize].power_fails {
            // Its power went before, and was only waiting for the middle of something.
            self.strike(node)?;
        }
        let first_pid = self.chance.draw();
        let name = self.cluster.node(node).name.clone();
        let machine = &mut self.machines[node.0 as usize];
        if machine.on {
            return Ok(());
        }
        machine.power_on(self.now, &name, first_pid);
        let boot = machine.boots;
        self.queue.push(self.now + self.scenario.timing.boot, Event::Boot { node, boot });
        Ok(())
    }

    /// The power, or the agent alone, is gone: at once, or in the middle of what the agent does next.
    fn fell(&mut self, node: NodeIx, power: bool) -> Result<(), Violation> {
        let machine = &mut self.machines[node.0 as usize];
        if machine.agent.is_some() && machine.files.doom.is_none() && self.chance.percent(50) {
            machine.files.doom = Some(self.chance.within(1, MIDDLE) as u32);
            machine.power_fails = power;
            // Soon, whatever it does; an agent at the next thing that it does.
            let wait = if power { Duration::from_millis(200) } else { RESTLESS };
            let (boot, at) = (machine.boots, self.now + wait);
            self.queue.push(at, Event::Struck { node, boot });
            return Ok(());
        }
        if power { self.cut_power(node) } else { self.kill_agent(node) }
    }

    /// It has died in the middle of something.
    pub(super) fn strike(&mut self, node: NodeIx) -> Result<(), Violation> {
        let machine = &mut self.machines[node.0 as usize];
        if machine.files.doom.take().is_none() {
            return Ok(());
        }
        if machine.power_fails { self.cut_power(node) } else { self.kill_agent(node) }
    }

    fn cut_power(&mut self, node: NodeIx) -> Result<(), Violation> {
        if !self.machines[node.0 as usize].on {
            return Ok(());
        }
        let machine = &mut self.machines[node.0 as usize];
        machine.files.power_cut(&mut self.chance);
        self.gone(node)
    }

    /// An orderly end of the machine.
    pub(super) fn power_off(&mut self, node: NodeIx) -> Result<(), Violation> {
        let all: Vec<(i32, u64)> =
            self.machines[node.0 as usize].processes.values().map(|p| (p.pid, p.serial)).collect();
        for (pid, serial) in all {
            self.end(node, pid, serial, Exit::Signal(nix::libc::SIGKILL));
        }
        self.machines[node.0 as usize].files.power_off();
        self.gone(node)
    }

    /// A machine is off.
    fn gone(&mut self, node: NodeIx) -> Result<(), Violation> {
        self.end_agent(node, false)?;
        let machine = &mut self.machines[node.0 as usize];
        let processes = std::mem::take(&mut machine.processes);
        machine.power_off();
        for process in processes.into_values() {
            let Some(instance) = process.instance else { continue };
            self.mains[instance.0 as usize] = None;
            self.free_lease(instance, process.serial, false);
        }
        self.touch_node(node, None);
        Ok(())
    }

    fn end_agent(&mut self, node: NodeIx, orderly: bool) -> Result<(), Violation> {
        if self.machines[node.0 as usize].agent.is_none() {
            return Ok(());
        }
        self.drop_streams(node, orderly);
        self.machines[node.0 as usize].agent = None;
        let at = self.now;
        for watcher in self.watchers.iter_mut() {
            watcher.agent(at, node, None).map_err(|why| Violation { at, why })?;
        }
        Ok(())
    }

    fn kill_agent(&mut self, node: NodeIx) -> Result<(), Violation> {
        if self.machines[node.0 as usize].agent.is_none() {
            return Ok(());
        }
        self.end_agent(node, true)?;
        let machine = &mut self.machines[node.0 as usize];
        machine.stalled = Duration::ZERO;
        machine.files.doom = None;
        let boot = machine.boots;
        if machine.going_down {
            self.terminate_all(node);
        } else {
            self.queue.push(self.now + RESTART, Event::Restart { node, boot });
        }
        Ok(())
    }

    fn stall(&mut self, node: NodeIx, for_: Duration) -> Result<(), Violation> {
        let machine = &mut self.machines[node.0 as usize];
        if machine.agent.is_none() {
            return Ok(());
        }
        machine.stalled = machine.stalled.max(self.now + for_.min(WATCHDOG));
        if for_ > WATCHDOG {
            let (boot, run) = (machine.boots, machine.runs);
            self.queue.push(self.now + WATCHDOG, Event::Watchdog { node, boot, run });
        }
        Ok(())
    }

    /// The watchdog of its init ends an agent that gives no sign of life.
    pub(super) fn watchdog(&mut self, node: NodeIx, run: u32) -> Result<(), Violation> {
        if self.is_run(node, run) { self.kill_agent(node) } else { Ok(()) }
    }

    fn shut_down(&mut self, node: NodeIx) -> Result<(), Violation> {
        let machine = &mut self.machines[node.0 as usize];
        if !machine.on || machine.going_down {
            return Ok(());
        }
        machine.going_down = true;
        let boot = machine.boots;
        self.queue.push(self.now + PATIENCE, Event::Off { node, boot });
        let Some(agent) = &machine.agent else {
            self.terminate_all(node);
            return Ok(());
        };
        let run = agent.run;
        self.queue.push(self.now, Event::Tell { node, run, input: Box::new(Input::ShutdownBegan) });
        Ok(())
    }

    /// Its init ends everything.
    fn terminate_all(&mut self, node: NodeIx) {
        let machine = &self.machines[node.0 as usize];
        let boot = machine.boots;
        let all: Vec<(i32, u64)> = machine.processes.values().map(|p| (p.pid, p.serial)).collect();
        for (pid, serial) in all {
            self.signal(node, pid, serial, nix::libc::SIGTERM);
        }
        self.queue.push(self.now + TERMINATES, Event::Off { node, boot });
    }

    /// Another process gets the number that a stale pid file names: mostly some program, sometimes the very one.
    fn reuse_pid(&mut self, instance: InstanceIx) {
        let cluster = self.cluster.clone();
        let (node, unit) = (cluster.instance(instance).node, &cluster.instance(instance).unit);
        let machine = &self.machines[node.0 as usize];
        let Some(path) = unit.run.pidfile.as_ref().filter(|_| machine.up) else { return };
        let Some(text) = machine.files.bytes(path) else { return };
        let Ok(pid) = String::from_utf8_lossy(text).trim().parse::<i32>() else { return };
        if !machine.is_free(pid) {
            return;
        }
        let same = self.chance.percent(25);
        let exe = unit.run.command.first().filter(|_| same).map_or("/usr/sbin/cron", String::as_str);
        self.serials += 1;
        let (serial, now) = (self.serials, self.now);
        self.machines[node.0 as usize].start_as(pid, now, serial, &PathBuf::from(exe), Role::Stranger);
        let lives = self.chance.time(STRANGER.0, STRANGER.1);
        let boot = self.machines[node.0 as usize].boots;
        let life = super::Life::Ends(Exit::Code(0));
        self.queue.push(now + lives, Event::Life { node, boot, pid, serial, life });
    }

    fn order(
        &mut self,
        instance: InstanceIx,
        verb: OrderVerb,
        force: bool,
        timeout: Duration,
    ) -> Result<(), Violation> {
        let node = self.cluster.instance(instance).node;
        let now = self.now;
        let machine = &mut self.machines[node.0 as usize];
        let clock = WALL_CLOCK.saturating_add(machine.wall_seconds).saturating_add(now.as_secs() as i64);
        let Some(agent) = &mut machine.agent else { return Ok(()) };
        agent.orders += 1;
        let order = Order {
            id: agent.orders,
            verb,
            instances: vec![instance],
            force,
            timeout,
            without: Vec::new(),
            by: "operator".to_owned(),
            reason: String::new(),
            clock: u64::try_from(clock).unwrap_or(0).saturating_mul(1000),
        };
        self.feed(node, Input::Ordered(order))
    }

    /// The file of the scenario's own cluster changes nothing for an agent that acts by it, and a broken one is refused.
    fn reload(&mut self, node: NodeIx, config: &Config) {
        let wait = self.chance.time(Duration::ZERO, RESTART);
        let machine = &mut self.machines[node.0 as usize];
        machine.broken_config = *config == Config::Broken;
        if !machine.broken_config && machine.up && machine.agent.is_none() {
            // Its init has tried to start it again and again.
            let boot = machine.boots;
            self.queue.push(self.now + wait, Event::Restart { node, boot });
        }
    }
}
