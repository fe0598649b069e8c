//! Cleaning up for one instance, before its start.

use super::address;
use super::ground::{Ground, Here};
use super::held::{Answer, Holder};
use super::judge::{Expected, FileState, PidfileFacts, ProcessState, judge, judge_process};
use super::look::{Known, Looker, pid_in};
use super::place::{Found, Kind, NotRemoved};
use super::remove::Removed;
use crate::address::Assigned;
use crate::crash::{self, Done};
use crate::facts::{Cleaned, Finding, Judgement};
use crate::model::Unit;
use crate::process::{Boot, Handle, Journalled, Lost, Tree};
use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long processes that were told to die may take, together. The kernel needs a millisecond or two; longer only
/// when one hangs in a dead disk.
const KILL_WAIT: Duration = Duration::from_millis(500);

/// What is known around the instance.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    pub tree: &'a Tree,
    pub journal: &'a Journalled,
    /// The instance itself.
    pub me: &'a Known,
    /// The instances of this node; it does no harm when the instance itself is among them.
    pub others: &'a [Known],
    /// Where copies of removed files are kept (`STATE/leftovers`).
    pub keep: &'a Path,
}

/// Whether anything is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Only judge.
    Look,
    /// Remove what is proven stale, kill what is left of an earlier incarnation.
    Remove,
}

/// What cleaning came to, with the processes that it is about, held.
#[derive(Debug)]
pub struct Outcome<P = Handle> {
    pub cleaned: Cleaned,
    /// With [`Cleaned::Alive`]: the process to adopt.
    pub main: Option<P>,
    /// With [`Cleaned::Doubt`]: the process in doubt, if one is; when it exits, judge again.
    pub suspect: Option<P>,
}

/// Judges everything that the unit may have left behind, and (with [`Mode::Remove`]) clears the way for a start.
///
/// In this order: a main process that still lives ends it (`Alive`); a file in doubt ends it with nothing touched;
/// then what an earlier main process left running is killed and the files are judged again; and only when nothing
/// at all is in doubt are the stale files removed. With nothing to find it takes some 50 µs.
pub fn clean(ctx: &Context<'_>, unit: &Unit, mode: Mode) -> Outcome {
    let looker = Looker { tree: ctx.tree, me: ctx.me, others: ctx.others };
    clean_on(Here { looker, keep: ctx.keep }, ctx.journal, unit, mode)
}

/// Takes the addresses off that the unit's dead process has left on an interface, those that are proven to be held by
/// nobody; what was found. Files are left to the next start.
pub fn release(ctx: &Context<'_>, unit: &Unit) -> Vec<Finding> {
    let looker = Looker { tree: ctx.tree, me: ctx.me, others: ctx.others };
    let boot = match Boot::current() {
        Ok(boot) => boot,
        Err(e) => return vec![finding("/proc".into(), Judgement::Doubt, e.to_string())],
    };
    let ground = Here { looker, keep: ctx.keep };
    let (journal, mode) = (ctx.journal, Mode::Remove);
    let mut cleaner = Cleaner { ground, journal, unit, mode, boot, expected: None };
    let mut items = Vec::new();
    cleaner.examine_addresses(&unit.leftovers.addresses, &mut items);
    match cleaner.remove_stale(items).cleaned {
        Cleaned::Clear { findings } | Cleaned::Alive { findings, .. } | Cleaned::Doubt { findings } => {
            findings
        }
    }
}

/// As [`clean`], on any ground.
pub(crate) fn clean_on<G: Ground>(
    ground: G,
    journal: &Journalled,
    unit: &Unit,
    mode: Mode,
) -> Outcome<G::Process> {
    let boot = match ground.boot() {
        Ok(boot) => boot,
        Err(e) => return doubt(vec![finding("/proc".into(), Judgement::Doubt, e.to_string())], None),
    };
    Cleaner { ground, journal, unit, mode, boot, expected: None }.run()
}

/// One leftover that exists, as judged.
struct Item<G: Ground> {
    finding: Finding,
    thing: Option<Thing<G::Place>>,
    process: Option<G::Process>,
    /// It is the unit's own pid file: who is named there is the main process.
    main: bool,
}

/// What can be removed.
enum Thing<P> {
    Entry(P),
    Address(Assigned),
}

/// A judgement with its proof, and the process that it is about.
type Judged<G> = (Judgement, String, Option<<G as Ground>::Process>);

struct Cleaner<'a, G> {
    ground: G,
    journal: &'a Journalled,
    unit: &'a Unit,
    mode: Mode,
    boot: Boot,
    /// Found out when the first living process is met, not before.
    expected: Option<Expected>,
}

impl<G: Ground> Cleaner<'_, G> {
    fn run(mut self) -> Outcome<G::Process> {
        match self.journal.process().map(|known| self.ground.adopt(known)) {
            Some(Ok(main)) => {
                let evidence =
                    format!("{} lives: boot, pid and start time are as journalled", self.describe(&main));
                return alive(
                    self.ground.pid(&main),
                    vec![self.about(&main, Judgement::Alive, evidence)],
                    main,
                );
            }
            Some(Err(lost @ (Lost::Hidden(pid) | Lost::Kernel { pid, .. }))) => {
                let evidence = format!("whether the journalled process still lives cannot be told: {lost}");
                return doubt(vec![finding(process(pid), Judgement::Doubt, evidence)], None);
            }
            Some(Err(Lost::Gone(_) | Lost::SomebodyElse { .. } | Lost::OtherBoot(_) | Lost::Thread(_)))
            | None => {}
        }

        let mut items = self.files();
        if let Some(ended) = self.settle(&mut items) {
            return ended;
        }
        match self.survivors(&items) {
            Ok(Survivors::None) => {}
            Ok(Survivors::Main(main)) => {
                let evidence = format!(
                    "{} lives in this instance's own tree and nothing is journalled: it is its main process",
                    self.describe(&main)
                );
                let mut found = findings(items);
                found.push(self.about(&main, Judgement::Alive, evidence));
                return alive(self.ground.pid(&main), found, main);
            }
            Ok(Survivors::Left(left)) => {
                items = self.files(); // some were used by those that are dead now
                items.extend(left);
            }
            Err(e) => items.push(Item::without_thing(
                finding("processes".into(), Judgement::Doubt, format!("cannot look for its processes: {e}")),
                None,
            )),
        }
        if let Some(ended) = self.settle(&mut items) {
            return ended;
        }
        self.remove_stale(items)
    }

    fn remove_stale(&mut self, mut items: Vec<Item<G>>) -> Outcome<G::Process> {
        if self.mode == Mode::Remove {
            if !items.is_empty() {
                crash::here(Done::Judged);
            }
            for item in &mut items {
                let (Some(thing), Judgement::Stale) = (&item.thing, item.finding.judgement) else { continue };
                let removed = match thing {
                    Thing::Entry(place) => self.ground.remove(place),
                    Thing::Address(held) => {
                        let done = self.ground.drop_address(held).map_err(NotRemoved::from);
                        done.map(|()| Removed { kept: None, not_kept: None })
                    }
                };
                match removed {
                    Ok(removed) => {
                        item.finding.kept = removed.kept.map(|p| p.display().to_string());
                        if let Some(e) = removed.not_kept {
                            item.finding.evidence.push_str(&format!("; no copy could be kept: {e}"));
                        }
                    }
                    Err(e) => {
                        item.finding.judgement = Judgement::Doubt;
                        item.finding.evidence.push_str(&format!("; {e}"));
                    }
                }
            }
        }
        if is_in_doubt(&items) {
            return in_doubt(items);
        }
        Outcome { cleaned: Cleaned::Clear { findings: findings(items) }, main: None, suspect: None }
    }

    /// A living main process among what was met, or a doubt, ends the cleaning.
    ///
    /// What only a further pid file, a lock or a socket leads to, and descends from our own start, is no main
    /// process: a worker or helper that outlived it is killed instead.
    fn settle(&self, items: &mut Vec<Item<G>>) -> Option<Outcome<G::Process>> {
        let met = items.iter_mut().filter(|i| i.finding.judgement == Judgement::Alive);
        if let Some(main) = met.filter(|i| i.main || !self.descends(i)).find_map(|i| i.process.take()) {
            return Some(alive(self.ground.pid(&main), findings(std::mem::take(items)), main));
        }
        is_in_doubt(items).then(|| in_doubt(std::mem::take(items)))
    }

    fn descends(&self, item: &Item<G>) -> bool {
        item.process.as_ref().is_some_and(|p| self.ground.is_member(self.ground.pid(p)))
    }

    // Files.

    fn files(&mut self) -> Vec<Item<G>> {
        let Unit { run, leftovers, .. } = self.unit;
        let mut items = Vec::new();
        if let Some(path) = &run.pidfile {
            items.extend(self.examine(path, Self::judge_pidfile).map(|i| Item { main: true, ..i }));
        }
        self.examine_all(&leftovers.pidfiles, Self::judge_pidfile, &mut items);
        self.examine_all(&leftovers.sockets, Self::judge_socket, &mut items);
        self.examine_all(&leftovers.locks, Self::judge_lock, &mut items);
        self.examine_addresses(&leftovers.addresses, &mut items);
        items
    }

    fn judge_pidfile(&mut self, path: &Path, place: &G::Place) -> Judged<G> {
        let (file, process) = self.ground.pid_file(place);
        let old = self.ground.is_older_than_boot(place);
        let number = if let FileState::Names(number, _) = &file { Some(*number) } else { None };
        let (judgement, evidence) = self.judge_file(path, file, old);
        let veto = (judgement == Judgement::Stale).then(|| self.veto(path, place, number)).flatten();
        veto.unwrap_or((judgement, evidence, process))
    }

    /// What speaks for a pid file although its number leads nowhere: somebody has it open, or the number is that of a
    /// process in another pid namespace, as a container's is.
    fn veto(&mut self, path: &Path, place: &G::Place, number: Option<i32>) -> Option<Judged<G>> {
        let shown = path.display();
        match self.ground.holder(place) {
            // One of our own start: it outlived its main process, and is dealt with as such.
            Ok(Holder::Process(pid)) if self.ground.is_member(pid) => {}
            Ok(Holder::Process(pid)) => {
                return Some(self.judge_user(pid, &format!("{shown} is held open by {pid}")));
            }
            Ok(Holder::Unknown) => {
                return Some((Judgement::Doubt, format!("{shown} is locked; by whom is not told"), None));
            }
            // That no such process exists is the kernel's own word, and needs no look into others.
            Ok(Holder::Nobody | Holder::Unseen(_) | Holder::Hidden) => {}
            Err(e) => return Some((Judgement::Doubt, format!("{shown} cannot be looked at: {e}"), None)),
        }
        let number = number?;
        match self.ground.namesakes(number) {
            Ok(pids) => self.claimed(pids, |pid| {
                format!("{shown} names {number}, which is the number of {pid} in its own pid namespace,")
            }),
            Err(e) => Some((Judgement::Doubt, format!("{shown}: cannot look at all processes: {e}"), None)),
        }
    }

    /// The first of these that is this instance's, or may be.
    fn claimed(&mut self, pids: Vec<i32>, who: impl Fn(i32) -> String) -> Option<Judged<G>> {
        pids.into_iter().find_map(|pid| {
            let (state, handle) = self.ground.look_at(pid);
            let ProcessState::Alive(alive) = state else { return None };
            let expected = self.expected().clone();
            let (judgement, clause) =
                judge_process(pid, &alive, self.journal.process(), &self.boot, &expected);
            let counts = judgement != Judgement::Stale;
            counts.then(|| (judgement, format!("{} {clause}", who(pid)), handle))
        })
    }

    fn judge_file(&mut self, path: &Path, file: FileState, older_than_boot: bool) -> (Judgement, String) {
        let facts = PidfileFacts {
            path: path.to_owned(),
            file,
            older_than_boot,
            journal: self.journal.process().cloned(),
            boot: self.boot.clone(),
            expected: self.expected().clone(),
        };
        judge(&facts)
    }

    fn judge_socket(&mut self, path: &Path, place: &G::Place) -> Judged<G> {
        let shown = path.display().to_string();
        let what = match self.ground.kind(place) {
            Kind::Socket => None,
            Kind::File => Some("a plain file"),
            Kind::Other(what) => Some(what),
        };
        if let Some(what) = what {
            let evidence = format!("{shown} is {what}, not a socket; it is not touched");
            return (Judgement::Refused, evidence, None);
        }
        match self.ground.answers(place) {
            Ok(Answer::Nobody) => (Judgement::Stale, format!("{shown}: nobody listens, it refuses"), None),
            Ok(Answer::Somebody(Some(pid))) => self.judge_user(pid, &format!("{shown} is answered by {pid}")),
            Ok(Answer::Somebody(None)) => {
                (Judgement::Doubt, format!("{shown} is in use; by whom is not told"), None)
            }
            Err(e) => (Judgement::Doubt, format!("{shown} cannot be asked: {e}"), None),
        }
    }

    fn judge_lock(&mut self, path: &Path, place: &G::Place) -> Judged<G> {
        let shown = path.display().to_string();
        let what = match self.ground.kind(place) {
            Kind::File => None,
            Kind::Socket => Some("a socket"),
            Kind::Other(what) => Some(what),
        };
        if let Some(what) = what {
            let evidence = format!("{shown} is {what}; it is not touched");
            return (Judgement::Refused, evidence, None);
        }
        match self.ground.holder(place) {
            Ok(Holder::Nobody) => {}
            Ok(Holder::Process(pid)) => return self.judge_user(pid, &format!("{shown} is held by {pid}")),
            Ok(Holder::Unknown) => {
                return (Judgement::Doubt, format!("{shown} is locked; by whom is not told"), None);
            }
            Ok(Holder::Unseen(pid)) => {
                let why = format!("{shown} may be open in process {pid}, into which we may not look");
                return (Judgement::Doubt, why, None);
            }
            Ok(Holder::Hidden) => {
                let why = format!("{shown}: who has it open cannot be told, processes are hidden (hidepid)");
                return (Judgement::Doubt, why, None);
            }
            Err(e) => return (Judgement::Doubt, format!("{shown} cannot be looked at: {e}"), None),
        }
        // Some locks (MySQL's) hold their owner's number and are not kept open: judged as a pid file too.
        let number = self.ground.read(place).ok().and_then(|b| pid_in(&String::from_utf8_lossy(&b)).ok());
        if number.is_some() {
            return self.judge_pidfile(path, place);
        }
        let expected = self.expected().clone();
        let claimed = match self.ground.possible_owners(place, &expected) {
            Ok(pids) => self.claimed(pids, |pid| format!("{shown} may be the lock of {pid},")),
            Err(e) => Some((Judgement::Doubt, format!("{shown} cannot be looked at: {e}"), None)),
        };
        if let Some(claimed) = claimed {
            return claimed;
        }
        (Judgement::Stale, format!("{shown}: no process holds it open or locked"), None)
    }

    /// Somebody lives and uses what the unit will need. Being positively somebody else does not make it stale.
    fn judge_user(&mut self, pid: i32, who: &str) -> Judged<G> {
        let (state, handle) = self.ground.look_at(pid);
        let ProcessState::Alive(alive) = state else {
            return (Judgement::Doubt, format!("{who}, which has just gone"), None);
        };
        let expected = self.expected().clone();
        let (judgement, clause) = judge_process(pid, &alive, self.journal.process(), &self.boot, &expected);
        match judgement {
            Judgement::Alive => (Judgement::Alive, format!("{who}, {clause}"), handle),
            _ => (Judgement::Doubt, format!("{who}, which is {}: it is in use", alive.name), handle),
        }
    }

    // Processes.

    fn survivors(&mut self, met: &[Item<G>]) -> io::Result<Survivors<G>> {
        // Only a populated leaf, having no leaves, or having met one is worth a look at all processes.
        if self.ground.is_leaf_empty()? && !met.iter().any(|i| self.descends(i)) {
            return Ok(Survivors::None);
        }
        let members = self.ground.members()?;
        if members.is_empty() {
            return Ok(Survivors::None);
        }
        if *self.journal == Journalled::Nothing
            && let Ok(main) = self.ground.main_by_descent(self.unit)
            && let Some(exe) = self.ground.exe(self.ground.pid(&main))
            && self.expected().allows(&exe)
        {
            return Ok(Survivors::Main(main));
        }
        if self.mode == Mode::Look {
            let held = members.into_iter().filter_map(|pid| self.ground.open(pid));
            let left = held.map(|p| {
                let evidence = format!("{} outlived its main process; a start kills it", self.describe(&p));
                Item::without_thing(self.about(&p, Judgement::Stale, evidence), None)
            });
            return Ok(Survivors::Left(left.collect()));
        }
        let names: HashMap<i32, String> =
            members.into_iter().filter_map(|pid| Some((pid, self.ground.name(pid)?))).collect();
        let end = Instant::now() + KILL_WAIT;
        let mut left = Vec::new();
        // They may fork while they die: gone is what another look does not find.
        loop {
            let told = self.ground.kill_all()?;
            let mut all_died = !told.is_empty();
            if all_died {
                crash::here(Done::Survivors);
            }
            for killed in told {
                let pid = self.ground.pid(&killed);
                let name = names.get(&pid).map_or("a process", String::as_str);
                left.push(if self.ground.dies(&killed, end.saturating_duration_since(Instant::now()))? {
                    let evidence = format!("{name} ({pid}) outlived its main process; it was killed");
                    Item::without_thing(finding(process(pid), Judgement::Stale, evidence), None)
                } else {
                    all_died = false;
                    let evidence =
                        format!("{name} ({pid}) outlived its main process, was killed and does not die");
                    Item::without_thing(finding(process(pid), Judgement::Doubt, evidence), Some(killed))
                });
            }
            if !all_died || Instant::now() >= end {
                break;
            }
        }
        Ok(Survivors::Left(left))
    }

    // Addresses.

    fn examine_addresses(&mut self, vips: &[IpAddr], items: &mut Vec<Item<G>>) {
        if vips.is_empty() {
            return;
        }
        let all = match self.ground.addresses() {
            Ok(all) => all,
            Err(e) => {
                let evidence = format!("cannot look at this machine's addresses: {e}");
                items
                    .push(Item::without_thing(finding("addresses".into(), Judgement::Doubt, evidence), None));
                return;
            }
        };
        let program = self.expected().program.clone();
        for vip in vips {
            for (held, judgement, evidence) in address::judge(*vip, &all, &program) {
                let what = format!("{vip} on {}", held.interface);
                let (judgement, evidence, process) =
                    self.address_in_use(&what).unwrap_or((judgement, evidence, None));
                let thing = Some(Thing::Address(held.clone()));
                items.push(Item { finding: finding(what, judgement, evidence), thing, process, main: false });
            }
        }
    }

    /// Whoever lives and could have put the address there holds it, as far as can be told.
    fn address_in_use(&mut self, what: &str) -> Option<Judged<G>> {
        let expected = self.expected().clone();
        match self.ground.possible_holders(&expected) {
            Ok(Some(pids)) => {
                pids.first().map(|pid| self.judge_user(*pid, &format!("{what} may be held by {pid}")))
            }
            Ok(None) => {
                let why = format!(
                    "{what}: whether anybody holds it cannot be told, processes are hidden (hidepid)"
                );
                Some((Judgement::Doubt, why, None))
            }
            Err(e) => Some((Judgement::Doubt, format!("{what}: cannot look at all processes: {e}"), None)),
        }
    }

    // What these share.

    /// As [`Cleaner::examine`], for each file that a path with a `*` stands for.
    fn examine_all(
        &mut self,
        paths: &[PathBuf],
        judge: fn(&mut Self, &Path, &G::Place) -> Judged<G>,
        items: &mut Vec<Item<G>>,
    ) {
        for path in paths {
            match self.ground.matching(path) {
                Ok(paths) => items.extend(paths.iter().filter_map(|p| self.examine(p, judge))),
                Err(e) => {
                    let what = path.display().to_string();
                    let evidence = format!("{what} cannot be looked for: {e}");
                    items.push(Item::without_thing(finding(what, Judgement::Doubt, evidence), None));
                }
            }
        }
    }

    fn examine(
        &mut self,
        path: &Path,
        judge: fn(&mut Self, &Path, &G::Place) -> Judged<G>,
    ) -> Option<Item<G>> {
        let what = path.display().to_string();
        match self.ground.find(path) {
            Ok(Found::Nothing) => None,
            Ok(Found::Forbidden(folder)) => {
                let (judgement, evidence) =
                    self.judge_file(path, FileState::Outside(folder.display().to_string()), false);
                Some(Item::without_thing(finding(what, judgement, evidence), None))
            }
            Ok(Found::Entry(place)) => {
                let (judgement, evidence, process) = judge(self, path, &place);
                Some(Item {
                    finding: finding(what, judgement, evidence),
                    thing: Some(Thing::Entry(place)),
                    process,
                    main: false,
                })
            }
            Err(e) => {
                let evidence = format!("{what} cannot be looked at: {e}");
                Some(Item::without_thing(finding(what, Judgement::Doubt, evidence), None))
            }
        }
    }

    fn expected(&mut self) -> &Expected {
        self.expected.get_or_insert_with(|| self.ground.expected(self.unit, self.journal.process()))
    }

    fn describe(&self, held: &G::Process) -> String {
        let pid = self.ground.pid(held);
        let name = self.ground.name(pid).unwrap_or_else(|| "a process".into());
        format!("{name} ({pid})")
    }

    fn about(&self, held: &G::Process, judgement: Judgement, evidence: String) -> Finding {
        finding(process(self.ground.pid(held)), judgement, evidence)
    }
}

enum Survivors<G: Ground> {
    None,
    /// Nothing was journalled, and this can be nothing else.
    Main(G::Process),
    Left(Vec<Item<G>>),
}

impl<G: Ground> Item<G> {
    fn without_thing(finding: Finding, process: Option<G::Process>) -> Item<G> {
        Item { finding, thing: None, process, main: false }
    }
}

fn process(pid: i32) -> String {
    format!("process {pid}")
}

fn finding(what: String, judgement: Judgement, evidence: String) -> Finding {
    Finding { what, judgement, evidence, kept: None }
}

fn findings<G: Ground>(items: Vec<Item<G>>) -> Vec<Finding> {
    items.into_iter().map(|i| i.finding).collect()
}

fn alive<P>(pid: i32, findings: Vec<Finding>, main: P) -> Outcome<P> {
    Outcome { cleaned: Cleaned::Alive { pid, findings }, main: Some(main), suspect: None }
}

fn doubt<P>(findings: Vec<Finding>, suspect: Option<P>) -> Outcome<P> {
    Outcome { cleaned: Cleaned::Doubt { findings }, main: None, suspect }
}

fn is_in_doubt<G: Ground>(items: &[Item<G>]) -> bool {
    items.iter().any(|i| i.finding.judgement == Judgement::Doubt)
}

fn in_doubt<G: Ground>(mut items: Vec<Item<G>>) -> Outcome<G::Process> {
    let doubtful = |i: &&mut Item<G>| i.finding.judgement == Judgement::Doubt;
    let suspect = items.iter_mut().filter(doubtful).find_map(|i| i.process.take());
    doubt(findings(items), suspect)
}

#[cfg(test)]
mod tests;
