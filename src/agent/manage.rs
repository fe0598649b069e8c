//! The shell's part in `manage = true` on a director: keepalived.conf and the firewall's marks get onto this machine, and
//! keepalived runs with them. What is next is decided by [`director::manage`](crate::director::manage).

use super::shell::Shell;
use super::vips::frozen;
use crate::director::import::MAX_FILE;
use crate::director::machine::Machine;
use crate::director::manage::{Case, Running, Step, next, runs_with};
use crate::director::render::{CHAIN, File, Known, Mac, Rules, TABLE, file_of, render};
use crate::director::word::VipWord;
use crate::model::{Cluster, InstanceIx, NodeIx};
use crate::probe::keepalived;
use crate::process::{self, Handle};
use crate::store::Slot;
use nix::libc;
use serde::{Deserialize, Serialize};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};

/// How often is looked whether all is still as it was written; and again as soon as something is told.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// How long a program may take.
const PROGRAM_WITHIN: Duration = Duration::from_secs(10);
/// What reads a file anew either ends within this, or goes on; and by when it must say that it runs with it.
const RELOAD_SETTLES: Duration = Duration::from_secs(1);
const RELOAD_WITHIN: Duration = Duration::from_secs(5);
const RELOAD_LOOK: Duration = Duration::from_millis(100);
/// How long the start of everything waits for the first look.
const FIRST_WITHIN: Duration = Duration::from_secs(5);
/// How iptables and its like list what marks, and take rules in one step beside those that are there.
const LIST_MANGLE: [&str; 4] = ["-w", "-t", "mangle", "-S"];
const RESTORE: [&str; 2] = ["-w", "--noflush"];
/// A file needs four; one that somebody else writes at the same time needs no end of them.
const MOST_STEPS: usize = 10;
/// How much of what a program says is told, in characters.
const SAID_MOST: usize = 300;

/// What the shell keeps for it.
pub struct Manage {
    wake: Notify,
    /// The MACs of other directors, by their agents.
    macs: RefCell<BTreeMap<NodeIx, Vec<Mac>>>,
    /// What the keepalived that runs has read.
    read: Slot<HasRead>,
    /// A text that keepalived did not take, and what was said of it.
    refused: RefCell<Option<(String, String)>>,
    /// Whether the marks in the firewall are this agent's; for as long as they live.
    marked: Cell<bool>,
    marked_slot: Slot<bool>,
    /// Why keepalived may not be started yet.
    not_yet: RefCell<Option<String>>,
}

#[derive(Clone, Serialize, Deserialize)]
struct HasRead {
    pid: i32,
    text: String,
}

impl Manage {
    pub fn of(run: &Path) -> Manage {
        let marked_slot = Slot::volatile(run.join("marked"));
        Manage {
            wake: Notify::new(),
            macs: RefCell::default(),
            read: Slot::volatile(run.join("keepalived-read")),
            refused: RefCell::default(),
            marked: Cell::new(marked_slot.read().ok().flatten().is_some_and(|stored| stored.value)),
            marked_slot,
            not_yet: RefCell::new(Some("what is rendered for it has not been looked at yet".to_owned())),
        }
    }

    /// Another configuration is in force; nodes are numbered anew, and their agents tell all again.
    pub fn reconfigure(&self) {
        self.macs.borrow_mut().clear();
        self.try_again();
    }

    /// An operator asks anew: what was refused before may be taken now.
    pub fn try_again(&self) {
        self.refused.replace(None);
        self.look_again();
    }

    pub fn look_again(&self) {
        self.wake.notify_one();
    }

    /// Another director's agent told.
    pub fn told(&self, node: NodeIx, words: &[VipWord]) {
        let Some(macs) = words.iter().map(|word| &word.macs).find(|macs| !macs.is_empty()) else { return };
        if self.macs.borrow_mut().insert(node, macs.clone()).as_ref() != Some(macs) {
            self.look_again();
        }
    }

    /// The keepalived with this number has been started with, or has read, this text.
    pub fn has_read(&self, pid: i32, text: String) {
        if let Err(e) = self.read.write(&HasRead { pid, text }) {
            tracing::error!("{e}; a new agent will have keepalived read its file once more");
        }
    }
}

/// Looks and applies for ever.
pub async fn manage(shell: Rc<Shell>) {
    loop {
        shell.apply().await;
        let _ = timeout(LOOK_EVERY, shell.manage.wake.notified()).await;
    }
}

impl Shell {
    /// What must be in place before an instance starts.
    ///
    /// # Errors
    /// What is not there yet.
    pub(super) fn prepare(&self, instance: InstanceIx) -> Result<(), String> {
        if self.is_managed_keeper(instance) {
            let not_yet = self.manage.not_yet.borrow().clone();
            not_yet.map_or(Ok(()), Err)?;
        }
        self.be_real_server_for(instance)
    }

    /// The file that an instance will read, where that is managed here.
    pub(super) fn own_file(&self, instance: InstanceIx) -> Option<String> {
        if !self.is_managed_keeper(instance) {
            return None;
        }
        text_of(&file_of(&self.cluster(), self.engine.borrow().node())).ok().flatten()
    }

    /// Whether it is the keepalived whose file is managed here.
    fn is_managed_keeper(&self, instance: InstanceIx) -> bool {
        self.is_managed() && self.keeper().is_some_and(|k| k.instance == instance)
    }

    fn is_managed(&self) -> bool {
        let engine = self.engine.borrow();
        engine.cluster().vips_of(engine.node()).any(|v| v.manage)
    }

    /// One look, and what follows from it.
    async fn apply(self: &Rc<Self>) {
        if !self.is_managed() {
            self.manage.not_yet.replace(None);
            let marks = self.apply_marks(None).await;
            self.say("marks", marks.err().map(|e| format!("the marks of the virtual addresses: {e}")));
            return;
        }
        let (cluster, me) = (self.cluster(), self.engine.borrow().node());
        let known = self.known(&cluster, me);
        let rendered = render(&cluster, me, &known);
        let missing = rendered.problems.join("; ");
        self.say("rendered", (!missing.is_empty()).then_some(missing));
        let marks = self.apply_marks(rendered.marks.as_ref()).await;
        self.say("marks", marks.err().map(|e| format!("the marks of the virtual addresses: {e}")));
        for file in &rendered.files {
            self.apply_file(&cluster, me, file).await;
        }
    }

    /// What this machine and the other directors' agents tell. An agent's word goes before the neighbour table; where
    /// they differ, both are left out of what is balanced, and it is said.
    fn known(&self, cluster: &Cluster, me: NodeIx) -> Known {
        let mut known = Machine::read().known(cluster);
        let mut strange = Vec::new();
        for (node, told) in self.manage.macs.borrow().iter().filter(|(node, _)| **node != me) {
            let seen = known.macs.entry(*node).or_default();
            for mac in seen.iter().filter(|mac| !told.contains(mac)) {
                let name = &cluster.node(*node).name;
                strange
                    .push(format!("{name} is at {mac} by the neighbour table, and not by its agent's word"));
            }
            seen.extend(told);
            seen.sort();
            seen.dedup();
        }
        self.say("macs", (!strange.is_empty()).then(|| strange.join("; ")));
        known
    }

    // --- the firewall's marks ---

    /// Brings them about, or takes them out again where they are ours.
    async fn apply_marks(&self, wanted: Option<&Rules>) -> Result<(), String> {
        let ours = self.manage.marked.get();
        match wanted {
            None if !ours => return Ok(()),
            // Written down first: what is not known to be ours is never taken out.
            Some(_) if !ours => {
                self.manage.marked_slot.write(&true).map_err(|e| e.to_string())?;
                self.manage.marked.set(true);
            }
            _ => {}
        }
        match self.apply_nft(wanted).await {
            Err(Failed::Absent) => self.apply_iptables(wanted).await?,
            done => done.map_err(|e| e.told("nft"))?,
        }
        if wanted.is_none() {
            self.manage.marked_slot.remove().map_err(|e| e.to_string())?;
            self.manage.marked.set(false);
        }
        Ok(())
    }

    fn tell_marks(&self, are: &str, by: &str) {
        let text = format!("the marks are {are} ({by})");
        self.events.borrow_mut().record("", "vip-marks", &text, serde_json::Value::Null);
    }

    async fn apply_nft(&self, wanted: Option<&Rules>) -> Result<(), Failed> {
        let list = ["-s", "list", "table", "inet", TABLE];
        let here = match program("nft", &list, "").await {
            Err(Failed::Said(why)) if why.contains("No such file") => String::new(),
            listed => listed?,
        };
        let commands = match wanted {
            Some(rules) if here.trim() == rules.nft_listed().trim() => return Ok(()),
            None if here.is_empty() => return Ok(()),
            Some(rules) => rules.nft.clone(),
            None => format!("delete table inet {TABLE}\n"),
        };
        program("nft", &["-f", "-"], &commands).await?;
        self.tell_marks(if wanted.is_some() { "in force" } else { "taken out" }, "nft");
        Ok(())
    }

    /// Where there is no nft.
    async fn apply_iptables(&self, wanted: Option<&Rules>) -> Result<(), String> {
        let of = |text: fn(&Rules) -> &Option<String>| wanted.and_then(|rules| text(rules).as_deref());
        for (tool, text) in [("iptables", of(|r| &r.iptables)), ("ip6tables", of(|r| &r.ip6tables))] {
            let done = match text {
                Some(text) => self.put_in(tool, text).await,
                None => self.take_out(tool).await,
            };
            done.map_err(|e| e.told(tool))?;
        }
        Ok(())
    }

    async fn put_in(&self, tool: &str, text: &str) -> Result<(), Failed> {
        let listed = program(tool, &LIST_MANGLE, "").await?;
        let of_ours = format!("-A {CHAIN} ");
        let rules_of = |text: &str| -> Vec<String> {
            text.lines().filter(|l| l.starts_with(&of_ours)).map(str::to_owned).collect()
        };
        if rules_of(&listed) != rules_of(text) {
            program(&format!("{tool}-restore"), &RESTORE, text).await?;
            self.tell_marks("in force", tool);
        }
        if !listed.lines().any(|l| l == format!("-A PREROUTING -j {CHAIN}")) {
            program(tool, &["-w", "-t", "mangle", "-A", "PREROUTING", "-j", CHAIN], "").await?;
        }
        Ok(())
    }

    async fn take_out(&self, tool: &str) -> Result<(), Failed> {
        // What does not know the family, or is not there, has none of it.
        let listed = program(tool, &LIST_MANGLE, "").await.unwrap_or_default();
        if !listed.lines().any(|l| l == format!("-N {CHAIN}")) {
            return Ok(());
        }
        let jump = format!("PREROUTING -j {CHAIN}");
        let calls = listed.lines().filter(|l| *l == format!("-A {jump}")).count();
        let text =
            format!("*mangle\n{}-F {CHAIN}\n-X {CHAIN}\nCOMMIT\n", format!("-D {jump}\n").repeat(calls));
        program(&format!("{tool}-restore"), &RESTORE, &text).await?;
        self.tell_marks("taken out", tool);
        Ok(())
    }

    // --- keepalived.conf ---

    async fn apply_file(self: &Rc<Self>, cluster: &Arc<Cluster>, me: NodeIx, file: &File) {
        let done = self.bring_about(cluster, me, file).await;
        let is_there = file.path.is_file();
        self.say("keepalived.conf", done.as_ref().err().cloned());
        // The file before is better than none.
        self.manage.not_yet.replace(done.err().filter(|_| !is_there));
    }

    async fn bring_about(
        self: &Rc<Self>,
        cluster: &Arc<Cluster>,
        me: NodeIx,
        file: &File,
    ) -> Result<(), String> {
        let path = &file.path;
        if file.is_incomplete {
            return Err(format!("{} is not written: a line of it is not known yet", path.display()));
        }
        let (aside, before) = (beside(path, ".new"), beside(path, ".before"));
        let record = |what: &'static str, text: &str| {
            self.events.borrow_mut().record("", what, text, serde_json::Value::Null);
        };
        let refuse = |text: String, why: &str| {
            self.manage.refused.replace(Some((text, why.to_owned())));
        };
        let refused = self.manage.refused.borrow().clone();
        let standing = refused.clone().filter(|(text, _)| *text == file.text).map(|(_, why)| why);
        let refused = refused.map(|(text, _)| text);
        let mut case = Case { wanted: file.text.clone(), refused, ..Case::default() };
        for _ in 0..MOST_STEPS {
            case.here = text_of(path)?;
            let keeper = self.running_keeper();
            case.running = keeper.as_ref().map(|(_, handle)| {
                let read = self.manage.read.read().ok().flatten().map(|stored| stored.value);
                read.filter(|read| read.pid == handle.pid()).map(|read| read.text)
            });
            match next(&case) {
                Step::Done => return standing.map_or(Ok(()), Err),
                Step::Test => {
                    put(&aside, &case.wanted, file.mode).await?;
                    case.tested = Some(self.test(cluster, me, &aside).await);
                }
                Step::Write => {
                    self.manage.not_yet.replace(Some(format!("{} has just been written", path.display())));
                    if let Some(old) = &case.here {
                        put(&before, old, file.mode).await?;
                    }
                    let cannot = |e: io::Error| format!("cannot write {}: {e}", path.display());
                    fs::rename(&aside, path).map_err(cannot)?;
                    let kept =
                        case.here.as_ref().map(|_| format!("; the one before is {}", before.display()));
                    let text = format!("{} is written{}", path.display(), kept.unwrap_or_default());
                    record("vip-written", &text);
                }
                Step::Reload => {
                    let Some((ix, handle)) = keeper else { continue };
                    let reloaded = self.reload_keeper(ix, &handle, &case.wanted).await;
                    if reloaded.is_ok() {
                        self.manage.has_read(handle.pid(), case.wanted.clone());
                        record(
                            "vip-reloaded",
                            &format!("keepalived has read {} and runs with it", path.display()),
                        );
                    }
                    case.reloaded = Some(reloaded);
                }
                Step::Refuse(why) => {
                    let _ = fs::remove_file(&aside);
                    let text = format!(
                        "{} stays as it is: keepalived does not take what is rendered: {why}",
                        path.display()
                    );
                    refuse(case.wanted, &text);
                    record("vip-refused", &text);
                    return Err(text);
                }
                Step::RollBack(why) => {
                    let text = match text_of(&before)? {
                        Some(old) => {
                            put(&aside, &old, file.mode).await?;
                            let cannot = |e: io::Error| format!("cannot write {}: {e}", path.display());
                            fs::rename(&aside, path).map_err(cannot)?;
                            if let Some((_, handle)) =
                                self.running_keeper().filter(|(_, h)| reads_on_signal(h))
                            {
                                let _ = handle.signal(libc::SIGHUP); // one that ends meanwhile reads it at its start
                                self.manage.has_read(handle.pid(), old);
                            }
                            format!("{} is put back as it was, the reload failed: {why}", path.display())
                        }
                        None => format!(
                            "the reload of {} failed, and there is none before it: {why}",
                            path.display()
                        ),
                    };
                    refuse(case.wanted, &text);
                    record("vip-rolled-back", &text);
                    return Err(text);
                }
            }
        }
        Err(format!("{} does not come to rest: somebody else writes it", path.display()))
    }

    /// The first look, before anything starts.
    pub async fn apply_first(self: &Rc<Self>) {
        // What is not done by then is done by the task that goes on with it.
        let _ = timeout(FIRST_WITHIN, self.apply()).await;
    }

    /// The keepalived that runs here, held.
    pub(super) fn running_keeper(&self) -> Option<(InstanceIx, Rc<Handle>)> {
        let instance = self.keeper()?.instance;
        let held = self.held.borrow();
        let handle = held.get(&self.name(instance))?.handle.clone();
        handle.is_alive().then_some((instance, handle))
    }

    async fn test(&self, cluster: &Cluster, me: NodeIx, file: &Path) -> Result<(), String> {
        let unit =
            cluster.node(me).instances.iter().map(|i| &cluster.instance(*i).unit).find(|u| u.leftovers.vips);
        let command = unit.map_or(&[][..], |unit| &unit.run.command);
        // What stands before it (`ip netns exec …`) goes before the question, too.
        let is_it = |word: &String| Path::new(word).file_name().is_some_and(|name| name == "keepalived");
        let at = command.iter().position(is_it).ok_or("no unit of this node runs keepalived")?;
        let file = file.to_string_lossy();
        let mut words: Vec<&str> = command[..=at].iter().map(String::as_str).collect();
        words.extend(["--config-test", "--use-file", &file]);
        let said = program(words[0], &words[1..], "").await;
        said.map(drop).map_err(|e| e.told("keepalived --config-test"))
    }

    /// Has it read its file, and waits until it runs with that.
    async fn reload_keeper(&self, ix: InstanceIx, handle: &Handle, text: &str) -> Result<(), String> {
        let begun = Instant::now();
        // One that has just begun would die of it.
        while !reads_on_signal(handle) {
            if !handle.is_alive() || begun.elapsed() > RELOAD_WITHIN {
                return Err("it does not wait for SIGHUP".to_owned());
            }
            sleep(RELOAD_LOOK).await;
        }
        handle.signal(libc::SIGHUP).map_err(|e| format!("it cannot be told: {e}"))?;
        sleep(RELOAD_SETTLES).await;
        loop {
            if !handle.is_alive() {
                return Err("keepalived ended of it".to_owned());
            }
            let left = (begun + RELOAD_WITHIN + RELOAD_SETTLES).saturating_duration_since(Instant::now());
            let why = match (frozen(self, ix), keepalived::states(handle, left.min(RELOAD_SETTLES)).await) {
                (Some(pid), _) => format!("process {pid} of keepalived is stopped"),
                // Where it cannot be asked, that it has lived on for so long is all there is.
                (None, Ok(None)) if left.is_zero() => return Ok(()),
                (None, Ok(None)) => String::new(),
                (None, Err(why)) => why,
                (None, Ok(Some(all))) => {
                    let running: Vec<Running> = all
                        .into_iter()
                        .map(|v| Running {
                            name: v.name,
                            vrid: v.vrid,
                            priority: v.priority,
                            addresses: v.addresses,
                        })
                        .collect();
                    match runs_with(text, &running) {
                        Ok(()) => return Ok(()),
                        Err(why) => why,
                    }
                }
            };
            if left.is_zero() {
                return Err(why);
            }
            sleep(RELOAD_LOOK).await;
        }
    }
}

/// Whether it takes SIGHUP as the word to read its file again.
fn reads_on_signal(handle: &Handle) -> bool {
    keepalived::waits_for(handle.pid(), libc::SIGHUP) && handle.is_alive()
}

fn beside(path: &Path, what: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(what);
    name.into()
}

/// A file's text; `None` where there is none.
fn text_of(path: &Path) -> Result<Option<String>, String> {
    let cannot = |e: io::Error| format!("cannot read {}: {e}", path.display());
    match fs::metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(cannot(e)),
        // Looked at first: opening a FIFO would wait for ever.
        Ok(meta) if !meta.is_file() => return Err(format!("{} is no file", path.display())),
        Ok(_) => {}
    }
    let mut bytes = Vec::new();
    let read = fs::File::open(path).and_then(|f| f.take(MAX_FILE as u64).read_to_end(&mut bytes));
    read.map_err(cannot)?;
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

/// Writes a file for its owner and group alone, onto the disk.
async fn put(path: &Path, text: &str, mode: u32) -> Result<(), String> {
    let (path, text) = (path.to_owned(), text.to_owned());
    let written = tokio::task::spawn_blocking(move || {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let _ = fs::remove_file(&path); // never through a link that lies there
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all().map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", path.display())))
    });
    match written.await {
        Ok(done) => done.map_err(|e| format!("cannot write what is rendered: {e}")),
        Err(e) => Err(format!("cannot write what is rendered: {e}")),
    }
}

/// Why a program did not do it.
enum Failed {
    Absent,
    Said(String),
}

impl Failed {
    fn told(self, name: &str) -> String {
        match self {
            Failed::Absent => format!("{name} is not installed"),
            Failed::Said(why) => format!("{name}: {why}"),
        }
    }
}

/// Runs a program to its end; what it printed.
async fn program(name: &str, words: &[&str], input: &str) -> Result<String, Failed> {
    let said = |e: &dyn std::fmt::Display| Failed::Said(e.to_string());
    let mut command = Command::new(name);
    command.args(words).current_dir("/").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let run = async {
        let mut child =
            process::unheld(|| command.kill_on_drop(true).spawn()).map_err(|e| match e.kind() {
                io::ErrorKind::NotFound => Failed::Absent,
                _ => said(&e),
            })?;
        if let Some(mut stdin) = child.stdin.take() {
            let _ = stdin.write_all(input.as_bytes()).await; // it may have ended, and says why
        }
        child.wait_with_output().await.map_err(|e| said(&e))
    };
    let out = match timeout(PROGRAM_WITHIN, run).await {
        Ok(out) => out?,
        Err(_) => return Err(Failed::Said(format!("it took more than {} s", PROGRAM_WITHIN.as_secs()))),
    };
    if out.status.success() {
        return Ok(String::from_utf8_lossy(&out.stdout).into_owned());
    }
    let words = String::from_utf8_lossy(&out.stderr).into_owned() + &String::from_utf8_lossy(&out.stdout);
    let lines: Vec<&str> = words.lines().map(str::trim).filter(|l| !l.is_empty()).take(3).collect();
    let text: String = lines.join("; ").chars().filter(|c| !c.is_control()).take(SAID_MOST).collect();
    Err(Failed::Said(if text.is_empty() { out.status.to_string() } else { text }))
}
