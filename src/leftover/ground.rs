//! The machine as the cleaning sees it, so that a simulated one is cleaned by the very same rules.

use super::held::{self, Answer, Holder, answers, holder};
use super::judge::{Expected, FileState, ProcessState};
use super::look::{Looker, expected, pid_in};
use super::place::{Found, Kind, NotRemoved, Place, matching};
use super::remove::{Removed, remove};
use crate::address::{self, Assigned};
use crate::model::Unit;
use crate::process::proc::{self, Exe};
use crate::process::{Boot, Handle, Identity, Lost, NotYet, Tree};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What cleaning up for one instance asks of its machine, and does to it.
pub(crate) trait Ground {
    /// A process that is identified and held.
    type Process;
    /// An entry of a folder, as it was when it was first looked at.
    type Place;

    fn boot(&self) -> io::Result<Boot>;
    /// Which executables the unit's processes can have.
    fn expected(&self, unit: &Unit, journal: Option<&Identity>) -> Expected;

    // Processes.

    /// Holds the process that is known from the journal, if it lives.
    fn adopt(&self, known: &Identity) -> Result<Self::Process, Lost>;
    /// Identifies and holds a process, then looks at it from all sides.
    fn look_at(&self, pid: i32) -> (ProcessState, Option<Self::Process>);
    /// Holds a process, whoever it is.
    fn open(&self, pid: i32) -> Option<Self::Process>;
    fn pid(&self, process: &Self::Process) -> i32;
    /// The short name of a process.
    fn name(&self, pid: i32) -> Option<String>;
    fn exe(&self, pid: i32) -> Option<Exe>;
    /// Whether nothing can be left of the instance: it has a leaf, and that is empty.
    fn is_leaf_empty(&self) -> io::Result<bool>;
    fn is_member(&self, pid: i32) -> bool;
    /// All living processes of the instance.
    fn members(&self) -> io::Result<Vec<i32>>;
    /// The only process of the instance's tree whose parent is not of the tree.
    fn main_by_descent(&self, unit: &Unit) -> Result<Self::Process, NotYet>;
    /// Living processes that go by this number in a pid namespace below this one.
    fn namesakes(&self, _number: i32) -> io::Result<Vec<i32>> {
        Ok(Vec::new())
    }
    /// Kills the whole tree; those that were told to die.
    fn kill_all(&mut self) -> io::Result<Vec<Self::Process>>;
    /// Whether it is dead, within so long.
    fn dies(&mut self, process: &Self::Process, within: Duration) -> io::Result<bool>;

    // Files.

    fn find(&self, path: &Path) -> io::Result<Found<Self::Place>>;
    /// The paths that a path with a `*` in its last part stands for.
    fn matching(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        Ok(vec![path.to_owned()])
    }
    fn kind(&self, place: &Self::Place) -> Kind;
    fn read(&self, place: &Self::Place) -> io::Result<Vec<u8>>;
    /// By its modification time, which proves nothing.
    fn is_older_than_boot(&self, place: &Self::Place) -> bool;
    /// What connecting to a socket comes to.
    fn answers(&self, place: &Self::Place) -> io::Result<Answer>;
    /// Who keeps a lock file.
    fn holder(&self, place: &Self::Place) -> io::Result<Holder>;
    /// Living processes that may have written a file which nobody holds.
    fn possible_owners(&self, _place: &Self::Place, _expected: &Expected) -> io::Result<Vec<i32>> {
        Ok(Vec::new())
    }
    /// Removes exactly the entry that was found, and keeps a copy.
    fn remove(&mut self, place: &Self::Place) -> Result<Removed, NotRemoved>;

    // Addresses.

    /// All that are on this machine's interfaces.
    fn addresses(&self) -> io::Result<Vec<Assigned>> {
        Ok(Vec::new())
    }
    /// Living processes that may have put an address there; `None` when it cannot be seen who lives.
    fn possible_holders(&self, _expected: &Expected) -> io::Result<Option<Vec<i32>>> {
        Ok(Some(Vec::new()))
    }
    /// Takes exactly this address off its interface.
    fn drop_address(&mut self, _held: &Assigned) -> io::Result<()> {
        Ok(())
    }

    /// Reads a pid file's text, and looks at the process that it names.
    fn pid_file(&self, place: &Self::Place) -> (FileState, Option<Self::Process>) {
        match self.kind(place) {
            Kind::File => {}
            Kind::Other(what) => return (FileState::NotAFile(what), None),
            Kind::Socket => return (FileState::NotAFile("a socket"), None),
        }
        let text = match self.read(place) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(e) => return (FileState::Unreadable(e.to_string()), None),
        };
        match pid_in(&text) {
            Ok(pid) => {
                let (process, held) = self.look_at(pid);
                (FileState::Names(pid, process), held)
            }
            Err(state) => (state, None),
        }
    }
}

/// This machine.
pub(super) struct Here<'a> {
    pub looker: Looker<'a>,
    /// Where copies of removed files are kept.
    pub keep: &'a Path,
}

impl Here<'_> {
    fn tree(&self) -> &Tree {
        self.looker.tree
    }

    fn instance(&self) -> &str {
        &self.looker.me.instance
    }
}

impl Ground for Here<'_> {
    type Process = Handle;
    type Place = Place;

    fn boot(&self) -> io::Result<Boot> {
        Boot::current()
    }

    fn expected(&self, unit: &Unit, journal: Option<&Identity>) -> Expected {
        expected(unit, journal)
    }

    fn adopt(&self, known: &Identity) -> Result<Handle, Lost> {
        Handle::adopt(known)
    }

    fn look_at(&self, pid: i32) -> (ProcessState, Option<Handle>) {
        self.looker.process(pid)
    }

    fn open(&self, pid: i32) -> Option<Handle> {
        Handle::open(pid).ok()
    }

    fn pid(&self, process: &Handle) -> i32 {
        process.pid()
    }

    fn name(&self, pid: i32) -> Option<String> {
        proc::comm(pid)
    }

    fn exe(&self, pid: i32) -> Option<Exe> {
        proc::exe(pid).ok()
    }

    fn is_leaf_empty(&self) -> io::Result<bool> {
        Ok(self.tree().without_cgroups().is_none() && self.tree().leaf_members(self.instance())?.is_empty())
    }

    fn is_member(&self, pid: i32) -> bool {
        self.tree().is_member(pid, self.instance())
    }

    fn members(&self) -> io::Result<Vec<i32>> {
        self.tree().members(self.instance())
    }

    fn main_by_descent(&self, unit: &Unit) -> Result<Handle, NotYet> {
        self.tree().main_by_descent(unit, self.instance())
    }

    fn namesakes(&self, number: i32) -> io::Result<Vec<i32>> {
        held::namesakes(number)
    }

    fn kill_all(&mut self) -> io::Result<Vec<Handle>> {
        self.tree().kill_all(self.instance())
    }

    fn dies(&mut self, process: &Handle, within: Duration) -> io::Result<bool> {
        let dead = process.wait(within)?;
        if dead {
            process.reap();
        }
        Ok(dead)
    }

    fn find(&self, path: &Path) -> io::Result<Found<Place>> {
        Place::find(path)
    }

    fn matching(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        matching(path)
    }

    fn kind(&self, place: &Place) -> Kind {
        place.kind()
    }

    fn read(&self, place: &Place) -> io::Result<Vec<u8>> {
        place.read()
    }

    fn is_older_than_boot(&self, place: &Place) -> bool {
        place.modified() < proc::boot_time()
    }

    fn answers(&self, place: &Place) -> io::Result<Answer> {
        answers(place)
    }

    fn holder(&self, place: &Place) -> io::Result<Holder> {
        holder(place)
    }

    fn possible_owners(&self, place: &Place, expected: &Expected) -> io::Result<Vec<i32>> {
        held::possible_owners(place, expected)
    }

    fn remove(&mut self, place: &Place) -> Result<Removed, NotRemoved> {
        remove(place, self.instance(), self.keep)
    }

    fn addresses(&self) -> io::Result<Vec<Assigned>> {
        address::assigned()
    }

    fn possible_holders(&self, expected: &Expected) -> io::Result<Option<Vec<i32>>> {
        held::possible_holders(expected)
    }

    fn drop_address(&mut self, held: &Assigned) -> io::Result<()> {
        address::remove(held)
    }
}
