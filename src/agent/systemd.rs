//! Instances that systemd runs: what the engine wants done becomes orders to systemd, and what systemd tells becomes
//! inputs.
//!
//! One task has the connection. While it is not there nothing is known of these instances, so nothing is decided: they
//! are shown as they were last heard of, and the agent says that it does not hear.

use super::shell::{Message, Shell};
use crate::engine::{Found, Input, Memory};
use crate::facts::{Cleaned, Exit, Finding, Judgement};
use crate::journal::{self, Line, Record};
use crate::model::{InstanceIx, Unit};
use crate::systemd::{self as systemd, Active, Bus, Course, Ears, Heard, Refused, State, Told};
use serde_json::Value;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

/// How long until a bus that is not there, or an order that was not taken, is tried again.
const AGAIN: Duration = Duration::from_secs(1);
/// How long after the beginning systemd is to read its files again: by then what can start has been started.
const RELOAD_LATER: Duration = Duration::from_secs(2);
/// How often what was killed is looked at, and for how long before it is said that it does not go.
const SWEEP_LOOK: Duration = Duration::from_millis(100);
const SWEEP_WARN: Duration = Duration::from_secs(10);

/// What is told of what systemd runs. Of an instance by its name, since a new configuration numbers them anew.
#[derive(Debug)]
pub enum Word {
    Reached {
        bus: Bus,
        states: Vec<(String, State)>,
    },
    Lost {
        why: String,
    },
    Heard(Heard),
    /// A start was taken, as this job, or was not.
    Asked {
        instance: Arc<str>,
        incarnation: u64,
        answer: Result<u32, Refused>,
    },
    /// What it printed last is known, too.
    Ended {
        instance: Arc<str>,
        incarnation: u64,
        exit: Exit,
        words: String,
    },
    NotBegun {
        instance: Arc<str>,
        incarnation: u64,
        reason: String,
        passing: bool,
    },
    /// Its run was adopted: what systemd says of it now.
    Look {
        instance: Arc<str>,
    },
    Swept {
        instance: Arc<str>,
        incarnation: u64,
    },
}

/// Who waits to be searched.
struct Sought {
    /// What is journalled of it.
    record: Option<Record>,
    /// By which it runs, or is to run.
    unit: Arc<Unit>,
}

/// The run of an instance.
struct Followed {
    unit: String,
    incarnation: u64,
    course: Course,
}

#[derive(Default)]
pub(super) struct Systemd {
    bus: RefCell<Option<Bus>>,
    /// Units as systemd has told them last; none while it is not heard.
    known: RefCell<BTreeMap<String, State>>,
    followed: RefCell<BTreeMap<Arc<str>, Followed>>,
    sought: RefCell<BTreeMap<Arc<str>, Sought>>,
    to_adopt: RefCell<BTreeSet<Arc<str>>>,
    changed: Notify,
    goes_down: Cell<bool>,
}

impl Systemd {
    /// Whether this incarnation of an instance is run by systemd.
    pub fn follows(&self, instance: &str, incarnation: u64) -> bool {
        self.followed.borrow().get(instance).is_some_and(|f| f.incarnation == incarnation)
    }

    /// Which incarnation systemd runs.
    pub fn incarnation(&self, instance: &str) -> Option<u64> {
        self.followed.borrow().get(instance).filter(|f| !f.course.is_over()).map(|f| f.incarnation)
    }

    /// Which activation of its unit this incarnation is, while it runs.
    pub fn invocation(&self, instance: &str, incarnation: u64) -> Option<String> {
        let followed = self.followed.borrow();
        let it = followed.get(instance).filter(|f| f.incarnation == incarnation && !f.course.is_over())?;
        Some(it.course.invocation().to_owned()).filter(|id| !id.is_empty())
    }

    pub fn is_to_adopt(&self, instance: &str) -> bool {
        self.to_adopt.borrow().contains(instance)
    }

    /// The instances that systemd runs at this moment.
    pub fn running(&self) -> Vec<String> {
        let followed = self.followed.borrow();
        followed.iter().filter(|(_, f)| !f.course.is_over()).map(|(name, _)| name.to_string()).collect()
    }

    /// Other units may be wanted now.
    pub fn reconfigured(&self) {
        self.changed.notify_one();
    }

    fn state(&self, unit: &str) -> Option<State> {
        self.known.borrow().get(unit).cloned()
    }
}

fn unit_of(unit: &Unit) -> String {
    unit.run.systemd_unit().unwrap_or_default().to_owned()
}

impl Shell {
    /// The machine goes down.
    pub(super) fn go_down(self: &Rc<Self>) {
        self.systemd.goes_down.set(true);
        self.feed(Input::ShutdownBegan);
    }

    /// The units that are of interest: of the file, and of what still runs.
    fn wanted_units(&self) -> BTreeSet<String> {
        let (engine, cluster) = (self.engine.borrow(), self.cluster());
        let of_file = engine.own_instances().map(|ix| unit_of(&cluster.instance(ix).unit));
        let (followed, sought) = (self.systemd.followed.borrow(), self.systemd.sought.borrow());
        let runs = followed.values().filter(|f| !f.course.is_over()).map(|f| f.unit.clone());
        let all = of_file.chain(runs).chain(sought.values().map(|s| unit_of(&s.unit)));
        all.filter(|unit| !unit.is_empty()).collect()
    }

    // --- what the engine wants ---

    /// Begins the search for what already runs of an instance, where that is systemd's; else `false`.
    pub(super) fn seek_unit(&self, name: &Arc<str>, record: Option<&Record>, unit: &Arc<Unit>) -> bool {
        let unit = record.map_or(unit, |record| &record.unit).clone();
        // One that somebody had started beside systemd is held as any process.
        if unit.run.systemd_unit().is_none() || record.is_some_and(|r| r.identity.is_some()) {
            return false;
        }
        let sought = Sought { record: record.cloned(), unit };
        self.systemd.sought.borrow_mut().insert(name.clone(), sought);
        self.systemd.changed.notify_one();
        true
    }

    /// Answers the searches of which enough is known.
    fn found_units(self: &Rc<Self>) -> Vec<Input> {
        let mut inputs = Vec::new();
        let ready: Vec<Arc<str>> = {
            let (sought, known) = (self.systemd.sought.borrow(), self.systemd.known.borrow());
            let is_known = |unit: &Unit| known.contains_key(unit.run.systemd_unit().unwrap_or_default());
            sought.iter().filter(|(_, s)| is_known(&s.unit)).map(|(name, _)| name.clone()).collect()
        };
        for name in ready {
            let sought = self.systemd.sought.borrow_mut().remove(&name);
            let Some(Sought { record, unit }) = sought else { continue };
            let Some(state) = self.systemd.state(&unit_of(&unit)) else { continue };
            let (found, journal) = journal::search_unit(record, self.journal.boot(), &unit, &state);
            if let Some(record) = journal {
                self.write_journal(Line::Found, &name, &record);
            }
            let instance = self.cluster().instance_named(&name);
            if let Found::Running { pid, memory, .. } = &found {
                self.follow(&name, &unit, memory.incarnation, Course::found(&state));
                self.look_later(&name);
                if instance.is_none() {
                    self.is_orphaned(&name, unit, *pid);
                }
            }
            inputs.extend(instance.map(|instance| Input::Searched { instance, found }));
        }
        inputs
    }

    fn follow(&self, name: &Arc<str>, unit: &Unit, incarnation: u64, course: Course) {
        let followed = Followed { unit: unit_of(unit), incarnation, course };
        self.systemd.followed.borrow_mut().insert(name.clone(), followed);
    }

    /// How the unit of an instance stands in the way of a start; nothing where it does not.
    pub(super) fn judge_unit(self: &Rc<Self>, instance: InstanceIx) -> Option<Cleaned> {
        let (name, cluster) = (self.name(instance), self.cluster());
        let unit = cluster.instance(instance).unit.run.systemd_unit()?;
        self.systemd.to_adopt.borrow_mut().remove(&name);
        let finding = |judgement, evidence: String| {
            vec![Finding { what: unit.to_owned(), judgement, evidence, kept: None }]
        };
        let doubt = |evidence| Some(Cleaned::Doubt { findings: finding(Judgement::Doubt, evidence) });
        let Some(state) = self.systemd.state(unit) else {
            return doubt(format!("whether {unit} runs is not known: systemd is not reached"));
        };
        if state.restarts() {
            self.order_stop(&name, unit.to_owned());
            return doubt(format!(
                "systemd is about to start {unit} by itself (Restart=); it is told not to"
            ));
        }
        if state.active == Active::Deactivating {
            return doubt(format!("{unit} is being stopped"));
        }
        if state.is_over() {
            return None;
        }
        self.systemd.to_adopt.borrow_mut().insert(name);
        let pid = state.pid();
        let evidence = format!("{unit} is active already (pid {pid}), and clusterd has not started it");
        Some(Cleaned::Alive { pid, findings: finding(Judgement::Alive, evidence) })
    }

    pub(super) fn adopt_unit(
        self: &Rc<Self>,
        instance: InstanceIx,
        pid: i32,
        memory: Memory,
        unit: Arc<Unit>,
    ) -> Input {
        let (name, incarnation) = (self.name(instance), memory.incarnation);
        self.systemd.to_adopt.borrow_mut().remove(&name);
        let state = self.systemd.state(&unit_of(&unit)).filter(|state| !state.is_over());
        let Some(state) = state else {
            let (exit, last_words) = (Exit::Unknown, String::new());
            return Input::Exited { instance, incarnation, exit, last_words, alone: true };
        };
        let record = self.record_of(unit.clone(), memory, Some(state.invocation.clone()));
        self.write_journal(Line::Adopted, &name, &record);
        self.follow(&name, &unit, incarnation, Course::found(&state));
        self.look_later(&name);
        Input::Adopted { instance, incarnation, pid }
    }

    fn record_of(&self, unit: Arc<Unit>, memory: Memory, invocation: Option<String>) -> Record {
        let boot = self.journal.boot().clone();
        Record { boot, identity: None, nonce: String::new(), unit, memory, printed_from: None, invocation }
    }

    /// Orders a start. What comes of it comes later, unless it cannot even be ordered.
    pub(super) fn start_unit(
        self: &Rc<Self>,
        instance: InstanceIx,
        memory: Memory,
        unit: Arc<Unit>,
    ) -> Option<Input> {
        let (name, incarnation, service) = (self.name(instance), memory.incarnation, unit_of(&unit));
        let failed =
            |reason: String, shortage| Some(Input::SpawnFailed { instance, incarnation, reason, shortage });
        let reached = self.systemd.bus.borrow().clone().zip(self.systemd.state(&service));
        let Some((bus, state)) = reached else { return failed("systemd is not reached".to_owned(), true) };
        // One whose file is not taken has a type that nobody gave it.
        if state.load == "loaded" && state.kind == "oneshot" && !state.remains {
            let reason = format!(
                "{service} runs to its end (Type=oneshot): write its program into a unit of kind \"oneshot\""
            );
            return failed(reason, false);
        }
        self.memories.borrow_mut().remove(&instance);
        let record = self.record_of(unit.clone(), memory, None);
        if let Err(e) = self.journal.write(Line::Starting, &name, &record) {
            let text = format!("the journal in {} cannot be written: {e}", self.places.run.display());
            return failed(text, true);
        }
        self.follow(&name, &unit, incarnation, Course::asked(&state));
        let shell = self.clone();
        self.entrust("the one that has systemd start a unit", async move {
            let answer = bus.start(&service).await;
            shell.tell_systemd(Word::Asked { instance: name, incarnation, answer }).await;
        });
        None
    }

    async fn tell_systemd(&self, word: Word) {
        // The main loop lives as long as the tasks that tell it something.
        let _ = self.messages.send(Message::Systemd(word)).await;
    }

    fn look_later(self: &Rc<Self>, name: &Arc<str>) {
        let (shell, instance) = (self.clone(), name.clone());
        tokio::task::spawn_local(async move { shell.tell_systemd(Word::Look { instance }).await });
    }

    /// Orders a stop.
    pub(super) fn stop_unit(self: &Rc<Self>, name: &Arc<str>) {
        let unit = {
            let mut followed = self.systemd.followed.borrow_mut();
            let Some(it) = followed.get_mut(name) else { return };
            it.course.stop();
            it.unit.clone()
        };
        self.order_stop(name, unit);
    }

    /// Has systemd stop a unit. Where the machine goes down, systemd has a job for that already, which waits for us: it
    /// is told not to.
    fn order_stop(self: &Rc<Self>, name: &Arc<str>, unit: String) {
        let (shell, name) = (self.clone(), name.clone());
        tokio::task::spawn_local(async move {
            loop {
                let bus = shell.systemd.bus.borrow().clone();
                let stopped = match &bus {
                    Some(bus) => bus.stop(&unit, shell.systemd.goes_down.get()).await,
                    None => Err(Refused::passing("systemd is not reached".to_owned())),
                };
                match stopped {
                    Ok(()) => return,
                    Err(e) => {
                        tracing::error!("systemd does not stop {unit}: {e}");
                        let text = format!("systemd does not stop {unit}: {e}");
                        shell.events.borrow_mut().record(&name, "stop-refused", &text, Value::Null);
                        if !e.passing {
                            return; // its deadline will tell
                        }
                    }
                }
                tokio::time::sleep(AGAIN).await;
                if shell.systemd.state(&unit).is_some_and(|state| state.is_over()) {
                    return;
                }
            }
        });
    }

    /// Kills what is left of a unit, and says when nothing is.
    pub(super) fn sweep_unit(self: &Rc<Self>, name: &Arc<str>, incarnation: u64) {
        let (shell, name) = (self.clone(), name.clone());
        let Some(unit) = self.systemd.followed.borrow().get(&name).map(|f| f.unit.clone()) else { return };
        self.entrust("the one that waits for a unit's end", async move {
            let mut waited = Duration::ZERO;
            while !shell.is_swept(&name, incarnation, &unit).await {
                tokio::time::sleep(SWEEP_LOOK).await;
                waited += SWEEP_LOOK;
                if waited == SWEEP_WARN {
                    tracing::error!("processes of {unit} do not die although killed; still waiting for them");
                }
            }
            shell.tell_systemd(Word::Swept { instance: name, incarnation }).await;
        });
    }

    /// Whether nothing is left of a run; what is left is killed.
    async fn is_swept(&self, name: &str, incarnation: u64, unit: &str) -> bool {
        if !self.systemd.follows(name, incarnation) {
            return true;
        }
        let is_over = || self.systemd.followed.borrow().get(name).is_some_and(|f| f.course.is_over());
        let Some(bus) = self.systemd.bus.borrow().clone() else { return false };
        // A unit may leave processes behind when it ends (KillMode=process).
        if is_over() && bus.cgroup(unit).await.is_ok_and(|cgroup| cgroup.is_empty()) {
            return true;
        }
        if let Err(e) = bus.kill(unit).await
            && !is_over()
        {
            tracing::debug!("systemd does not kill {unit}: {e}");
        }
        false
    }

    // --- what systemd tells ---

    /// What a word means for the engine.
    pub(super) fn systemd_said(self: &Rc<Self>, word: Word) -> Vec<Input> {
        match word {
            Word::Reached { bus, states } => {
                *self.systemd.bus.borrow_mut() = Some(bus);
                self.say("systemd", None);
                let mut inputs = Vec::new();
                for (unit, state) in states {
                    inputs.extend(self.unit_is(&unit, state, true));
                }
                inputs
            }
            Word::Lost { why } => {
                *self.systemd.bus.borrow_mut() = None;
                self.systemd.known.borrow_mut().clear();
                let problem = format!("what systemd runs is as it was last heard of: {why}");
                self.say("systemd", Some(problem));
                Vec::new()
            }
            Word::Heard(Heard::Is { unit, state, anew }) => self.unit_is(&unit, *state, anew),
            Word::Heard(Heard::JobBegan { unit, job, kind }) => self.each_course(&unit, |course, _| {
                course.job_began(job, &kind);
                Vec::new()
            }),
            Word::Heard(Heard::JobEnded { unit, job, result }) => {
                self.each_course(&unit, |course, state| course.job_ended(job, &result, state))
            }
            Word::Heard(Heard::Again | Heard::Gone { .. }) => Vec::new(), // the task that hears it acts on it
            Word::Asked { instance, incarnation, answer } => {
                self.course_of(&instance, Some(incarnation), |course, state| match answer {
                    Ok(job) => course.queued(job, state),
                    Err(refused) => course.refused(refused.reason, refused.passing),
                })
            }
            Word::Look { instance } => self.course_of(&instance, None, Course::look),
            Word::Ended { instance, incarnation, exit, words } => {
                self.exited(&instance, incarnation, exit, words)
            }
            Word::NotBegun { instance, incarnation, reason, passing } => {
                let named = self.cluster().instance_named(&instance);
                let failed =
                    |instance| Input::SpawnFailed { instance, incarnation, reason, shortage: passing };
                named.map(failed).into_iter().collect()
            }
            Word::Swept { instance, incarnation } => {
                if self.systemd.follows(&instance, incarnation) {
                    self.systemd.followed.borrow_mut().remove(&instance);
                }
                let Some(ix) = self.cluster().instance_named(&instance) else {
                    self.orphan_gone(&instance);
                    return Vec::new();
                };
                vec![Input::Swept { instance: ix, incarnation, killed: 0 }]
            }
        }
    }

    fn exited(
        self: &Rc<Self>,
        name: &Arc<str>,
        incarnation: u64,
        exit: Exit,
        last_words: String,
    ) -> Vec<Input> {
        match self.cluster().instance_named(name) {
            Some(instance) => vec![Input::Exited { instance, incarnation, exit, last_words, alone: true }],
            None => {
                self.orphan_exited(name, incarnation, &exit);
                Vec::new()
            }
        }
    }

    fn unit_is(self: &Rc<Self>, unit: &str, state: State, anew: bool) -> Vec<Input> {
        self.systemd.known.borrow_mut().insert(unit.to_owned(), state);
        let mut inputs = self.each_course(unit, |course, state| match anew {
            true => course.heard_again(state),
            false => course.look(state),
        });
        inputs.extend(self.found_units());
        inputs
    }

    /// The runs of a unit: one, but for a moment.
    fn each_course(
        self: &Rc<Self>,
        unit: &str,
        mut f: impl FnMut(&mut Course, &State) -> Vec<Told>,
    ) -> Vec<Input> {
        let followed = self.systemd.followed.borrow();
        let names: Vec<_> = followed.iter().filter(|(_, f)| f.unit == unit).map(|(n, _)| n.clone()).collect();
        drop(followed);
        names.iter().flat_map(|name| self.course_of(name, None, &mut f)).collect()
    }

    fn course_of(
        self: &Rc<Self>,
        name: &Arc<str>,
        incarnation: Option<u64>,
        f: impl FnOnce(&mut Course, &State) -> Vec<Told>,
    ) -> Vec<Input> {
        let (told, incarnation) = {
            let mut followed = self.systemd.followed.borrow_mut();
            let Some(it) = followed.get_mut(name) else { return Vec::new() };
            if incarnation.is_some_and(|incarnation| incarnation != it.incarnation) {
                return Vec::new();
            }
            let state = self.systemd.state(&it.unit).unwrap_or_default();
            (f(&mut it.course, &state), it.incarnation)
        };
        told.into_iter().filter_map(|told| self.told(name, incarnation, told)).collect()
    }

    fn told(self: &Rc<Self>, name: &Arc<str>, incarnation: u64, told: Told) -> Option<Input> {
        let (unit, invocation, ordered) = {
            let followed = self.systemd.followed.borrow();
            let it = followed.get(name)?;
            (it.unit.clone(), it.course.invocation().to_owned(), it.course.is_stopping())
        };
        let instance = self.cluster().instance_named(name);
        match told {
            Told::Began { pid } => Some(Input::Spawned { instance: instance?, incarnation, pid }),
            Told::Moved { pid } => Some(Input::MainFound { instance: instance?, incarnation, pid }),
            Told::Said(notice) => Some(Input::Notified { instance: instance?, incarnation, notice }),
            Told::NotBegun { .. } if ordered => {
                self.exited(name, incarnation, Exit::Unknown, String::new()).pop()
            }
            Told::Ended { exit, why } if ordered => self.exited(name, incarnation, exit, why).pop(),
            Told::NotBegun { reason, passing } => {
                let (shell, instance) = (self.clone(), name.clone());
                self.entrust("the one that reads why a unit did not start", async move {
                    let reason = with_lines(reason, &invocation).await;
                    shell.tell_systemd(Word::NotBegun { instance, incarnation, reason, passing }).await;
                });
                None
            }
            Told::Ended { exit, why } => {
                let (shell, instance) = (self.clone(), name.clone());
                self.entrust("the one that reads why a unit has ended", async move {
                    let words = with_lines(why, &invocation).await;
                    shell.tell_systemd(Word::Ended { instance, incarnation, exit, words }).await;
                });
                None
            }
            Told::GoesRound => {
                let text =
                    format!("systemd was about to start {unit} by itself (Restart=): it is told not to");
                self.events.borrow_mut().record(name, "goes-round", &text, Value::Null);
                self.order_stop(name, unit);
                None
            }
        }
    }
}

/// A sentence, and what the run printed last.
async fn with_lines(text: String, invocation: &str) -> String {
    match (text, systemd::last_lines(invocation).await) {
        (text, lines) if lines.is_empty() => text,
        (text, lines) if text.is_empty() => format!("last words: {lines}"),
        (text, lines) => format!("{text}; last words: {lines}"),
    }
}

/// Talks to systemd as long as the agent lives, from when there is something that it runs.
pub(super) async fn talk(shell: Rc<Shell>) {
    loop {
        while shell.wanted_units().is_empty() {
            shell.systemd.changed.notified().await;
        }
        let why = match hear(&shell).await {
            Ok(why) => why,
            Err(refused) => refused.reason,
        };
        shell.tell_systemd(Word::Lost { why }).await;
        tokio::time::sleep(AGAIN).await;
    }
}

/// One connection, from its beginning to its end: why it has ended.
async fn hear(shell: &Rc<Shell>) -> Result<String, Refused> {
    let (bus, mut ears) = Bus::connect().await?;
    let mut watched = BTreeSet::new();
    let states = watch(shell, &bus, &mut ears, &mut watched).await?;
    shell.tell_systemd(Word::Reached { bus: bus.clone(), states }).await;
    loop {
        tokio::select! {
            heard = ears.hear() => match heard {
                Heard::Gone { why } => return Ok(why),
                Heard::Again => {
                    if let Some(why) = ask_again(shell, &mut ears, &watched).await? {
                        return Ok(why);
                    }
                }
                heard => shell.tell_systemd(Word::Heard(heard)).await,
            },
            () = shell.systemd.changed.notified() => {
                for (unit, state) in watch(shell, &bus, &mut ears, &mut watched).await? {
                    let heard = Heard::Is { unit, state: Box::new(state), anew: true };
                    shell.tell_systemd(Word::Heard(heard)).await;
                }
            }
        }
    }
}

/// Asks how all is that is watched. What was told meanwhile goes before the conclusion that something was not heard: the end of
/// our own job may be among it. Why nothing more will be told, where that is so.
async fn ask_again(
    shell: &Rc<Shell>,
    ears: &mut Ears,
    watched: &BTreeSet<String>,
) -> Result<Option<String>, Refused> {
    let mut again = true;
    while again {
        again = false;
        for unit in watched {
            let state = Box::new(ears.ask_again(unit).await?);
            let heard = Heard::Is { unit: unit.clone(), state, anew: false };
            shell.tell_systemd(Word::Heard(heard)).await;
        }
        while let Some(heard) = ears.heard_already().await {
            match heard {
                Heard::Gone { why } => return Ok(Some(why)),
                Heard::Again => again = true,
                heard => shell.tell_systemd(Word::Heard(heard)).await,
            }
        }
    }
    for (unit, state) in ears.states() {
        let heard = Heard::Is { unit, state: Box::new(state), anew: true };
        shell.tell_systemd(Word::Heard(heard)).await;
    }
    Ok(None)
}

/// Watches what is wanted and is not watched yet: how each is. What is added to it is on its way.
async fn watch(
    shell: &Rc<Shell>,
    bus: &Bus,
    ears: &mut Ears,
    watched: &mut BTreeSet<String>,
) -> Result<Vec<(String, State)>, Refused> {
    let wanted = shell.wanted_units();
    let kept = systemd::keep_to(Path::new(systemd::FOLDER), &wanted);
    let problem = kept.as_ref().err().map(|e| {
        format!(
            "what systemd runs may be started by it round the order: cannot write below {}: {e}",
            systemd::FOLDER
        )
    });
    shell.say("systemd-drop-ins", problem);
    let mut outdated = kept.unwrap_or(false);
    let mut states = Vec::new();
    for unit in wanted {
        if watched.contains(&unit) {
            continue;
        }
        let state = ears.watch(&unit).await?;
        outdated |= state.is_outdated;
        watched.insert(unit.clone());
        states.push((unit, state));
    }
    if outdated {
        reload_later(shell, bus.clone());
    }
    Ok(states)
}

/// Has systemd read its files again. Not at once: it answers nobody meanwhile, which is some hundred milliseconds of a boot,
/// and what is added to units matters when they end.
fn reload_later(shell: &Rc<Shell>, bus: Bus) {
    let shell = shell.clone();
    tokio::task::spawn_local(async move {
        tokio::time::sleep(RELOAD_LATER).await;
        let problem = bus.reload().await.err().map(|e| format!("systemd does not read its files again: {e}"));
        shell.say("systemd-reload", problem);
    });
}
