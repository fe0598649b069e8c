//! Cleaning up for one instance, before its start.

use super::held::{Answer, Holder, answers, holder};
use super::judge::{Expected, FileState, PidfileFacts, ProcessState, judge, judge_process};
use super::look::{Known, Looker, expected, pid_in};
use super::place::{Found, Kind, Place};
use super::remove::remove;
use crate::facts::{Cleaned, Finding, Judgement};
use crate::model::Unit;
use crate::process::{Boot, Handle, Identity, Lost, Tree, proc};
use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long processes that were told to die may take, together. The kernel needs a millisecond or two; longer only
/// when one hangs in a dead disk.
const KILL_WAIT: Duration = Duration::from_millis(500);

/// What is known around the instance.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    pub tree: &'a Tree,
    /// Its process as last journalled, in whatever boot; `None` when there is no journal.
    pub journal: Option<&'a Identity>,
    /// The instance itself.
    pub me: &'a Known,
    /// The other instances of this node.
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
pub struct Outcome {
    pub cleaned: Cleaned,
    /// With [`Cleaned::Alive`]: the process to adopt.
    pub main: Option<Handle>,
    /// With [`Cleaned::Doubt`]: the process in doubt, if one is; when it exits, judge again.
    pub suspect: Option<Handle>,
}

/// Judges everything that the unit may have left behind, and (with [`Mode::Remove`]) clears the way for a start.
///
/// In this order: a main process that still lives ends it (`Alive`); a file in doubt ends it with nothing touched;
/// then what an earlier main process left running is killed and the files are judged again; and only when nothing
/// at all is in doubt are the stale files removed. With nothing to find it takes some 50 µs.
pub fn clean(ctx: &Context<'_>, unit: &Unit, mode: Mode) -> Outcome {
    let boot = match Boot::current() {
        Ok(boot) => boot,
        Err(e) => return doubt(vec![finding("/proc".into(), Judgement::Doubt, e.to_string())], None),
    };
    let looker = Looker { tree: ctx.tree, me: ctx.me, others: ctx.others };
    let cleaner = Cleaner { ctx, unit, mode, boot, looker, expected: None };
    cleaner.run()
}

/// One leftover that exists, as judged.
struct Item {
    finding: Finding,
    place: Option<Place>,
    process: Option<Handle>,
    /// It is the unit's own pid file: who is named there is the main process.
    main: bool,
}

struct Cleaner<'a> {
    ctx: &'a Context<'a>,
    unit: &'a Unit,
    mode: Mode,
    boot: Boot,
    looker: Looker<'a>,
    /// Found out when the first living process is met, not before.
    expected: Option<Expected>,
}

impl Cleaner<'_> {
    fn run(mut self) -> Outcome {
        match self.ctx.journal.map(Handle::adopt) {
            Some(Ok(main)) => {
                let evidence =
                    format!("{} lives: boot, pid and start time are as journalled", describe(&main));
                return alive(vec![finding(process(main.pid()), Judgement::Alive, evidence)], main);
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
                    describe(&main)
                );
                let mut found = findings(items);
                found.push(finding(process(main.pid()), Judgement::Alive, evidence));
                return alive(found, main);
            }
            Ok(Survivors::Left(left)) => {
                items = self.files(); // some were used by those that are dead now
                items.extend(left);
            }
            Err(e) => items.push(Item::without_place(
                finding("processes".into(), Judgement::Doubt, format!("cannot look for its processes: {e}")),
                None,
            )),
        }
        if let Some(ended) = self.settle(&mut items) {
            return ended;
        }
        self.remove_stale(items)
    }

    fn remove_stale(&self, mut items: Vec<Item>) -> Outcome {
        if self.mode == Mode::Remove {
            for item in &mut items {
                let (Some(place), Judgement::Stale) = (&item.place, item.finding.judgement) else { continue };
                match remove(place, &self.ctx.me.instance, self.ctx.keep) {
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
    fn settle(&self, items: &mut Vec<Item>) -> Option<Outcome> {
        let met = items.iter_mut().filter(|i| i.finding.judgement == Judgement::Alive);
        if let Some(main) = met.filter(|i| i.main || !self.descends(i)).find_map(|i| i.process.take()) {
            return Some(alive(findings(std::mem::take(items)), main));
        }
        is_in_doubt(items).then(|| in_doubt(std::mem::take(items)))
    }

    fn descends(&self, item: &Item) -> bool {
        item.process.as_ref().is_some_and(|h| self.ctx.tree.is_member(h.pid(), &self.ctx.me.instance))
    }

    // Files.

    fn files(&mut self) -> Vec<Item> {
        let Unit { run, leftovers, .. } = self.unit;
        let mut items = Vec::new();
        if let Some(path) = &run.pidfile {
            items.extend(self.examine(path, Self::judge_pidfile).map(|i| Item { main: true, ..i }));
        }
        for path in &leftovers.pidfiles {
            items.extend(self.examine(path, Self::judge_pidfile));
        }
        for path in &leftovers.sockets {
            items.extend(self.examine(path, Self::judge_socket));
        }
        for path in &leftovers.locks {
            items.extend(self.examine(path, Self::judge_lock));
        }
        items
    }

    fn judge_pidfile(&mut self, place: &Place) -> (Judgement, String, Option<Handle>) {
        let (file, process) = self.looker.file(place);
        let (judgement, evidence) = self.judge_file(&place.path, file, place.modified());
        (judgement, evidence, process)
    }

    fn judge_file(&mut self, path: &Path, file: FileState, modified: i64) -> (Judgement, String) {
        let facts = PidfileFacts {
            path: path.to_owned(),
            file,
            older_than_boot: modified < proc::boot_time(),
            journal: self.ctx.journal.cloned(),
            boot: self.boot.clone(),
            expected: self.expected().clone(),
        };
        judge(&facts)
    }

    fn judge_socket(&mut self, place: &Place) -> (Judgement, String, Option<Handle>) {
        let path = place.path.display();
        let what = match place.kind() {
            Kind::Socket => None,
            Kind::File => Some("a plain file"),
            Kind::Other(what) => Some(what),
        };
        if let Some(what) = what {
            let evidence = format!("{path} is {what}, not a socket; it is not touched");
            return (Judgement::Refused, evidence, None);
        }
        match answers(place) {
            Ok(Answer::Nobody) => (Judgement::Stale, format!("{path}: nobody listens, it refuses"), None),
            Ok(Answer::Somebody(Some(pid))) => self.judge_user(pid, &format!("{path} is answered by {pid}")),
            Ok(Answer::Somebody(None)) => {
                (Judgement::Doubt, format!("{path} is in use; by whom is not told"), None)
            }
            Err(e) => (Judgement::Doubt, format!("{path} cannot be asked: {e}"), None),
        }
    }

    fn judge_lock(&mut self, place: &Place) -> (Judgement, String, Option<Handle>) {
        let path = place.path.display();
        let what = match place.kind() {
            Kind::File => None,
            Kind::Socket => Some("a socket"),
            Kind::Other(what) => Some(what),
        };
        if let Some(what) = what {
            let evidence = format!("{path} is {what}, not a plain file; it is not touched");
            return (Judgement::Refused, evidence, None);
        }
        match holder(place) {
            Ok(Holder::Nobody) => {}
            Ok(Holder::Process(pid)) => return self.judge_user(pid, &format!("{path} is held by {pid}")),
            Ok(Holder::Unknown) => {
                return (Judgement::Doubt, format!("{path} is locked; by whom is not told"), None);
            }
            Ok(Holder::Unseen(pid)) => {
                let why = format!("{path} may be open in process {pid}, into which we may not look");
                return (Judgement::Doubt, why, None);
            }
            Err(e) => return (Judgement::Doubt, format!("{path} cannot be looked at: {e}"), None),
        }
        // Some locks (MySQL's) hold their owner's number and are not kept open: judged as a pid file too.
        let number = place.read().ok().and_then(|b| pid_in(&String::from_utf8_lossy(&b)).ok());
        if number.is_some() {
            return self.judge_pidfile(place);
        }
        (Judgement::Stale, format!("{path}: no process holds it open or locked"), None)
    }

    /// Somebody lives and uses what the unit will need. Being positively somebody else does not make it stale.
    fn judge_user(&mut self, pid: i32, who: &str) -> (Judgement, String, Option<Handle>) {
        let (state, handle) = self.looker.process(pid);
        let ProcessState::Alive(alive) = state else {
            return (Judgement::Doubt, format!("{who}, which has just gone"), None);
        };
        let expected = self.expected().clone();
        let (judgement, clause) = judge_process(pid, &alive, self.ctx.journal, &self.boot, &expected);
        match judgement {
            Judgement::Alive => (Judgement::Alive, format!("{who}, {clause}"), handle),
            _ => (Judgement::Doubt, format!("{who}, which is {}: it is in use", alive.name), handle),
        }
    }

    // Processes.

    fn survivors(&mut self, met: &[Item]) -> io::Result<Survivors> {
        let (tree, instance) = (self.ctx.tree, self.ctx.me.instance.as_str());
        // Only a populated leaf, having no leaves, or having met one is worth a look at all processes.
        if tree.without_cgroups().is_none()
            && tree.leaf_members(instance)?.is_empty()
            && !met.iter().any(|i| self.descends(i))
        {
            return Ok(Survivors::None);
        }
        let members = tree.members(instance)?;
        if members.is_empty() {
            return Ok(Survivors::None);
        }
        if self.ctx.journal.is_none()
            && let Ok(main) = tree.main_by_descent(instance)
            && proc::exe(main.pid()).is_ok_and(|exe| self.expected().allows(&exe))
        {
            return Ok(Survivors::Main(main));
        }
        if self.mode == Mode::Look {
            let handles = members.into_iter().filter_map(|pid| Handle::open(pid).ok());
            let left = handles.map(|h| {
                let evidence = format!("{} outlived its main process; a start kills it", describe(&h));
                Item::without_place(finding(process(h.pid()), Judgement::Stale, evidence), None)
            });
            return Ok(Survivors::Left(left.collect()));
        }
        let names: HashMap<i32, String> =
            members.into_iter().filter_map(|pid| Some((pid, proc::comm(pid)?))).collect();
        let told = tree.kill_all(instance)?;
        let end = Instant::now() + KILL_WAIT;
        let mut left = Vec::new();
        for handle in told {
            let pid = handle.pid();
            let name = names.get(&pid).map_or("a process", String::as_str);
            left.push(if handle.wait(end.saturating_duration_since(Instant::now()))? {
                handle.reap();
                let evidence = format!("{name} ({pid}) outlived its main process; it was killed");
                Item::without_place(finding(process(pid), Judgement::Stale, evidence), None)
            } else {
                let evidence =
                    format!("{name} ({pid}) outlived its main process, was killed and does not die");
                Item::without_place(finding(process(pid), Judgement::Doubt, evidence), Some(handle))
            });
        }
        Ok(Survivors::Left(left))
    }

    // What these share.

    fn examine(
        &mut self,
        path: &Path,
        judge: fn(&mut Self, &Place) -> (Judgement, String, Option<Handle>),
    ) -> Option<Item> {
        let what = path.display().to_string();
        match Place::find(path) {
            Ok(Found::Nothing) => None,
            Ok(Found::Forbidden(folder)) => {
                let (judgement, evidence) =
                    self.judge_file(path, FileState::Outside(folder.display().to_string()), i64::MAX);
                Some(Item::without_place(finding(what, judgement, evidence), None))
            }
            Ok(Found::Entry(place)) => {
                let (judgement, evidence, process) = judge(self, &place);
                Some(Item {
                    finding: finding(what, judgement, evidence),
                    place: Some(place),
                    process,
                    main: false,
                })
            }
            Err(e) => {
                let evidence = format!("{what} cannot be looked at: {e}");
                Some(Item::without_place(finding(what, Judgement::Doubt, evidence), None))
            }
        }
    }

    fn expected(&mut self) -> &Expected {
        self.expected.get_or_insert_with(|| expected(self.unit, self.ctx.journal))
    }
}

enum Survivors {
    None,
    /// Nothing was journalled, and this can be nothing else.
    Main(Handle),
    Left(Vec<Item>),
}

impl Item {
    fn without_place(finding: Finding, process: Option<Handle>) -> Item {
        Item { finding, place: None, process, main: false }
    }
}

fn describe(handle: &Handle) -> String {
    let name = proc::comm(handle.pid()).unwrap_or_else(|| "a process".into());
    format!("{name} ({})", handle.pid())
}

fn process(pid: i32) -> String {
    format!("process {pid}")
}

fn finding(what: String, judgement: Judgement, evidence: String) -> Finding {
    Finding { what, judgement, evidence, kept: None }
}

fn findings(items: Vec<Item>) -> Vec<Finding> {
    items.into_iter().map(|i| i.finding).collect()
}

fn alive(findings: Vec<Finding>, main: Handle) -> Outcome {
    Outcome { cleaned: Cleaned::Alive { pid: main.pid(), findings }, main: Some(main), suspect: None }
}

fn doubt(findings: Vec<Finding>, suspect: Option<Handle>) -> Outcome {
    Outcome { cleaned: Cleaned::Doubt { findings }, main: None, suspect }
}

fn is_in_doubt(items: &[Item]) -> bool {
    items.iter().any(|i| i.finding.judgement == Judgement::Doubt)
}

fn in_doubt(mut items: Vec<Item>) -> Outcome {
    let doubtful = |i: &&mut Item| i.finding.judgement == Judgement::Doubt;
    let suspect = items.iter_mut().filter(doubtful).find_map(|i| i.process.take());
    doubt(findings(items), suspect)
}
