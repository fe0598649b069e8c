//! A simulated machine as the cleaning before a start and the search at an agent's start see it.

use super::files::Files;
use super::machine::{Machine, Process, file_id};
use crate::journal::Processes;
use crate::leftover::judge::{Alive, Expected, ProcessState, Tie};
use crate::leftover::{Answer, Found, Ground, Holder, Kind, NotRemoved, Removed};
use crate::model::{Cluster, InstanceIx, Unit};
use crate::process::proc::Exe;
use crate::process::{Boot, Identity, Lost, NotYet};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A process that is held: its number means it for as long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    pub pid: i32,
    pub serial: u64,
}

impl From<&Process> for Held {
    fn from(process: &Process) -> Held {
        Held { pid: process.pid, serial: process.serial }
    }
}

/// An entry as it was found.
pub struct Place {
    path: PathBuf,
    number: u64,
}

/// One machine, for one of its instances.
pub struct Soil<'a> {
    pub machine: &'a mut Machine,
    pub cluster: &'a Cluster,
    pub instance: InstanceIx,
    /// What is to be ended after the cleaning.
    pub killed: Vec<Process>,
    /// Whoever lives is taken for dead, by the search and by the judge: the sabotage of the judging.
    pub rash: bool,
    /// The harm that was done: a file of a living process was removed.
    pub harm: Option<String>,
}

impl Soil<'_> {
    fn files(&self) -> &Files {
        &self.machine.files
    }

    fn alive(&self, pid: i32) -> Option<Alive> {
        let exe = self.machine.exe_of(pid)?;
        let name = exe.path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let process = self.machine.processes.get(&pid);
        let (mut ours, mut others) = (Vec::new(), Vec::new());
        match process.and_then(|p| p.instance) {
            Some(instance) if instance == self.instance => ours.push(Tie::Leaf),
            Some(other) => others.push((Tie::Leaf, self.cluster.instance(other).name.to_string())),
            None => {}
        }
        Some(Alive {
            name,
            start: process.map_or(1, |p| p.start),
            exe: Some(exe),
            kernel_thread: false,
            is_agent: false,
            elsewhere: false,
            ours,
            others,
        })
    }

    fn user(&self, place: &Place) -> Option<&Process> {
        let serial = self.files().user(&place.path)?;
        self.machine.processes.values().find(|p| p.serial == serial)
    }
}

impl Ground for &mut Soil<'_> {
    type Process = Held;
    type Place = Place;

    fn boot(&self) -> io::Result<Boot> {
        Ok(self.machine.boot.clone())
    }

    fn expected(&self, unit: &Unit, journal: Option<&Identity>) -> Expected {
        let programs = unit.run.command.first().map(PathBuf::from).into_iter();
        let all: Vec<PathBuf> = programs.chain(unit.run.executables.iter().cloned()).collect();
        let name = |p: &PathBuf| p.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        Expected {
            program: all.first().map(name).unwrap_or_default(),
            files: all.iter().map(|p| file_id(p)).chain(journal.and_then(|j| j.exe)).collect(),
            names: all.iter().map(name).collect(),
            anything: false,
        }
    }

    fn adopt(&self, known: &Identity) -> Result<Held, Lost> {
        if self.rash {
            return Err(Lost::Gone(known.pid));
        }
        if known.boot != self.machine.boot {
            return Err(Lost::OtherBoot(known.pid));
        }
        self.machine.identified(known).map(Held::from).ok_or(Lost::Gone(known.pid))
    }

    fn look_at(&self, pid: i32) -> (ProcessState, Option<Held>) {
        match self.alive(pid).filter(|_| !self.rash) {
            Some(alive) => (ProcessState::Alive(Box::new(alive)), self.open(pid)),
            None => (ProcessState::None, None),
        }
    }

    fn open(&self, pid: i32) -> Option<Held> {
        self.machine.processes.get(&pid).map(Held::from)
    }

    fn pid(&self, process: &Held) -> i32 {
        process.pid
    }

    fn name(&self, pid: i32) -> Option<String> {
        self.alive(pid).map(|alive| alive.name)
    }

    fn exe(&self, pid: i32) -> Option<Exe> {
        self.machine.exe_of(pid)
    }

    fn is_leaf_empty(&self) -> io::Result<bool> {
        Ok(self.rash || self.machine.members(self.instance).next().is_none())
    }

    fn is_member(&self, pid: i32) -> bool {
        self.machine.processes.get(&pid).is_some_and(|p| p.instance == Some(self.instance))
    }

    fn members(&self) -> io::Result<Vec<i32>> {
        Ok(self.machine.members(self.instance).filter(|_| !self.rash).map(|p| p.pid).collect())
    }

    fn main_by_descent(&self, _unit: &Unit) -> Result<Held, NotYet> {
        self.machine.main_by_descent(self.instance).map(Held::from).map_err(NotYet)
    }

    fn kill_all(&mut self) -> io::Result<Vec<Held>> {
        let told: Vec<Held> = self.machine.members(self.instance).map(Held::from).collect();
        self.killed.extend(told.iter().filter_map(|held| self.machine.processes.remove(&held.pid)));
        Ok(told)
    }

    fn dies(&mut self, _process: &Held, _within: Duration) -> io::Result<bool> {
        Ok(true)
    }

    fn find(&self, path: &Path) -> io::Result<Found<Place>> {
        Ok(match self.files().number(path) {
            Some(number) => Found::Entry(Place { path: path.to_owned(), number }),
            None => Found::Nothing,
        })
    }

    fn kind(&self, place: &Place) -> Kind {
        if self.files().is_socket(&place.path) { Kind::Socket } else { Kind::File }
    }

    fn read(&self, place: &Place) -> io::Result<Vec<u8>> {
        Ok(self.files().bytes(&place.path).unwrap_or_default().to_vec())
    }

    fn is_older_than_boot(&self, place: &Place) -> bool {
        self.files().made(&place.path).is_some_and(|made| made < self.machine.powered)
    }

    fn answers(&self, place: &Place) -> io::Result<Answer> {
        Ok(self.user(place).map_or(Answer::Nobody, |p| Answer::Somebody(Some(p.pid))))
    }

    fn holder(&self, place: &Place) -> io::Result<Holder> {
        Ok(self.user(place).filter(|_| !self.rash).map_or(Holder::Nobody, |p| Holder::Process(p.pid)))
    }

    fn remove(&mut self, place: &Place) -> Result<Removed, NotRemoved> {
        if self.files().number(&place.path) != Some(place.number) {
            return Err(NotRemoved::Changed);
        }
        if let Some(user) = self.user(place) {
            let (path, pid) = (place.path.display(), user.pid);
            self.harm = Some(format!("{path} was removed, and process {pid}, which wrote it, lives"));
        }
        self.machine.files.take_away(&place.path);
        Ok(Removed { kept: None, not_kept: None })
    }
}

/// What a search asks.
impl Processes for &mut Soil<'_> {
    type Held = Held;

    fn hold(&mut self, known: &Identity) -> Option<Held> {
        self.machine.identified(known).filter(|_| !self.rash).map(Held::from)
    }

    fn find_main(&mut self, unit: &Unit, _instance: &str) -> Option<Held> {
        self.machine.find_main(unit, self.instance).ok().filter(|_| !self.rash).map(Held::from)
    }

    fn identity(&self, held: &Held) -> Identity {
        let process = self.machine.processes.get(&held.pid);
        process.map_or_else(
            || Identity { boot: self.machine.boot.clone(), pid: held.pid, start: 0, exe: None },
            |p| self.machine.identity(p),
        )
    }
}
