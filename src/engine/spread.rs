//! The first beat: an input changes facts and marks the instances that it touches.

use super::action::Action;
use super::input::{Found, Input, Memory, Order, OrderVerb, QuestionIx, Word};
use super::local::{After, Edge, Process, State, StopOrder};
use super::view::{StateName, Wish};
use super::{Engine, FIND_MAIN, Heard, RECHECK, Timer, VETO_LIVES, VETO_RENEWAL};
use crate::facts::{Answer, Cleaned, Exit, Finding, Judgement, Moment};
use crate::model::{InstanceIx, NodeIx, RunKind};
use serde_json::json;
use std::time::Duration;

impl Engine {
    pub(super) fn spread(&mut self, input: Input) {
        match input {
            Input::Searched { instance, found } => self.with(instance, |e, l| e.searched(l, found)),
            Input::Cleaned { instance, cleaned } => self.with(instance, |e, l| e.cleaned(l, cleaned)),
            Input::Spawned { instance, incarnation, pid } => {
                self.with_process(instance, incarnation, |e, l| e.spawned(l, pid));
            }
            Input::SpawnFailed { instance, incarnation, reason, shortage } => {
                self.with_process(instance, incarnation, |e, l| e.spawn_failed(l, &reason, shortage));
            }
            Input::Adopted { instance, incarnation, pid } => {
                self.with_process(instance, incarnation, |e, l| {
                    e.locals[l].process.as_mut().expect("with_process checked").pid = Some(pid);
                    let text = match e.locals[l].unit.run.systemd_unit() {
                        Some(unit) => format!("{unit} was started by somebody else (pid {pid}): adopted"),
                        None => format!("pid {pid}, started by somebody else, is this instance: adopted"),
                    };
                    e.record(l, "adopted", text, json!({ "pid": pid }));
                });
            }
            Input::MainFound { instance, incarnation, pid } => {
                self.with_process(instance, incarnation, |e, l| e.main_found(l, pid));
            }
            Input::MainMissing { instance, incarnation, reason, empty } => {
                self.with_process(instance, incarnation, |e, l| e.main_missing(l, reason, empty));
            }
            Input::Exited { instance, incarnation, exit, last_words, alone } => {
                self.with_process(instance, incarnation, |e, l| e.exited(l, exit, &last_words, alone));
            }
            Input::Notified { instance, incarnation, notice } => {
                self.with_process(instance, incarnation, |e, l| e.notified(l, notice));
            }
            Input::Swept { instance, incarnation, killed } => {
                self.with_process(instance, incarnation, |e, l| e.swept(l, killed));
            }
            Input::Answered { question, answer } => self.answered(question, answer),
            Input::PeerSaid { node, words } => {
                for (ix, word) in words {
                    // Only its own agent may speak for an instance, and none but this one for its own.
                    let known = ix.0 < self.cluster.instances.len() as u32;
                    if known && node != self.me && self.cluster.instance(ix).node == node {
                        self.hear(ix, word);
                    }
                }
            }
            Input::PeerLost { node } => self.peer_lost(node),
            Input::Ordered(order) => self.ordered(order),
            Input::ShutdownBegan => {
                self.shutting_down = true;
                (0..self.locals.len()).for_each(|l| self.mark(l));
            }
            Input::TimeCame => self.time_came(),
        }
    }

    fn with(&mut self, instance: InstanceIx, f: impl FnOnce(&mut Engine, usize)) {
        if let Some(&l) = self.local_of.get(&instance) {
            f(self, l);
            self.mark(l);
        }
    }

    /// As [`Engine::with`], unless the input speaks of an earlier incarnation.
    fn with_process(&mut self, instance: InstanceIx, incarnation: u64, f: impl FnOnce(&mut Engine, usize)) {
        self.with(instance, |e, l| {
            if e.locals[l].is_current(incarnation) {
                f(e, l);
            }
        });
    }

    fn searched(&mut self, l: usize, found: Found) {
        if self.locals[l].state != State::Searching {
            return;
        }
        match found {
            Found::Nothing => self.enter(l, State::Waiting, ""),
            Found::Ended { memory, left: true } if !self.may_run(l) => {
                self.recall(l, &memory);
                let process = Process::found(None, &memory, self.now, &self.locals[l].unit);
                self.hold(l, process);
                self.sweep(l);
            }
            // What is left of one that may run goes when a start cleans up.
            Found::Ended { memory, .. } => {
                self.recall(l, &memory);
                let oneshot = self.locals[l].unit.run.kind == RunKind::Oneshot;
                if memory.completed && oneshot {
                    self.enter(l, State::Completed, "");
                } else if !memory.gave_up.is_empty() {
                    self.enter(l, State::Failed { for_good: false }, memory.gave_up);
                } else if memory.spawned == Moment(0) {
                    self.enter(l, State::Waiting, "");
                } else if oneshot {
                    self.result_unknown(l);
                } else {
                    let text = "it ended while no agent was looking; its exit code is unknown";
                    self.record(l, "exited", text, json!({ "exit": Exit::Unknown }));
                    self.release(l);
                    self.enter(l, State::Waiting, "");
                }
            }
            Found::Running { pid, memory, unit } => {
                self.recall(l, &memory);
                let unit = unit.unwrap_or_else(|| self.locals[l].unit.clone());
                let process = Process::found(Some(pid), &memory, self.now, &unit);
                self.hold(l, process);
                let mut text = format!("pid {pid} still runs: kept");
                for flag in &memory.flags {
                    text += &format!("; {flag}");
                }
                self.record(l, "found-running", text, json!({ "pid": pid }));
                self.begin_starting(l, "found running by a new agent; its own probe is asked");
                if memory.stopping {
                    self.begin_stopping(l, "an earlier agent had begun to stop it".to_owned());
                }
            }
        }
    }

    fn recall(&mut self, l: usize, memory: &Memory) {
        let local = &mut self.locals[l];
        local.incarnations = memory.incarnation;
        local.last_spawn = memory.spawned;
        local.starts = memory.starts;
        local.failures.in_a_row = memory.failures;
        local.flags = memory.flags.clone();
    }

    fn cleaned(&mut self, l: usize, cleaned: Cleaned) {
        if !matches!(self.locals[l].state, State::Cleaning | State::Blocked { .. }) {
            return;
        }
        self.verify_possible_edges(l); // for the start, or because no start will ask what it put off
        match cleaned {
            Cleaned::Clear { findings } => {
                self.tell_findings(l, findings);
                self.enter(l, State::Verifying { cleaned: self.now }, "asks what it needs once more");
            }
            Cleaned::Alive { pid, findings } => {
                self.tell_findings(l, findings);
                self.adopt(l, pid);
            }
            Cleaned::Doubt { findings } => {
                let doubts = findings.iter().filter(|f| f.judgement != Judgement::Stale);
                let reason = doubts.map(|f| f.evidence.as_str()).collect::<Vec<_>>().join("; ");
                self.tell_findings(l, findings);
                self.enter(l, State::Blocked { again: Some(self.now + super::JUDGE_AGAIN) }, reason);
            }
        }
    }

    /// Tells what was found, unless the same was told last time.
    fn tell_findings(&mut self, l: usize, findings: Vec<Finding>) {
        if self.locals[l].told == findings {
            return;
        }
        for finding in &findings {
            let what = match finding.judgement {
                Judgement::Stale => "cleaned",
                Judgement::Alive => "alive",
                Judgement::Doubt => "doubt",
                Judgement::Refused => "refused",
            };
            self.record(l, what, finding.evidence.clone(), json!(finding));
        }
        self.locals[l].told = findings;
    }

    fn spawned(&mut self, l: usize, pid: i32) {
        let now = self.now;
        let process = self.locals[l].process.as_mut().expect("with_process checked");
        process.pid = Some(pid);
        process.spawned = now;
        self.locals[l].failures.shortages = 0;
        let process = self.locals[l].process.as_mut().expect("with_process checked");
        let (evidence, incarnation) = (std::mem::take(&mut process.evidence), process.incarnation);
        let mut text = match self.locals[l].unit_in_force().run.systemd_unit() {
            Some(unit) => format!("{unit}, pid {pid}"),
            None => format!("pid {pid}"),
        };
        let names: Vec<_> = evidence.iter().map(|e| format!("{} ({})", e.to, e.answer.detail)).collect();
        if !names.is_empty() {
            text += &format!(", after {}", names.join(", "));
        }
        self.record(
            l,
            "started",
            text,
            json!({ "pid": pid, "incarnation": incarnation, "evidence": evidence }),
        );
        self.remember(l);
        if let super::local::Own::Ask(q) = self.locals[l].own {
            self.verify(q);
        }
    }

    fn spawn_failed(&mut self, l: usize, reason: &str, shortage: bool) {
        self.locals[l].process = None;
        let text = format!("cannot be started: {reason}");
        if shortage && self.stop_cause(l).is_none() {
            self.lacking(l, text);
            self.remember(l);
        } else {
            self.gone(l, text, super::SPAWN_AGAIN);
        }
    }

    fn main_found(&mut self, l: usize, pid: i32) {
        let local = &mut self.locals[l];
        let process = local.process.as_mut().expect("with_process checked");
        process.pid = Some(pid);
        process.main = true;
        process.find_main = None;
        self.record(l, "main-found", format!("the daemon is pid {pid}"), json!({ "pid": pid }));
        self.remember(l);
    }

    fn main_missing(&mut self, l: usize, reason: String, empty: bool) {
        if empty {
            self.locals[l].process = None;
            self.gone(l, format!("its launcher exited 0 and left no daemon: {reason}"), Duration::ZERO);
        } else {
            let starting = matches!(self.locals[l].state, State::Starting { .. });
            let pause = if starting { FIND_MAIN } else { super::WATCHFUL_PACE };
            let process = self.locals[l].process.as_mut().expect("with_process checked");
            process.find_main = Some(self.now + pause);
        }
    }

    fn exited(&mut self, l: usize, exit: Exit, last_words: &str, alone: bool) {
        let process = self.locals[l].process.as_ref().expect("with_process checked");
        let (unit, main) = (process.unit.clone(), process.main);
        if unit.run.kind == RunKind::Forking && !main && exit.is_success() {
            if self.locals[l].state.is_running() {
                let process = self.locals[l].process.as_mut().expect("with_process checked");
                process.launched = true;
                process.find_main = Some(self.now);
            } else {
                // Told to stop while its launcher ran: the sweep takes what the launcher left.
                self.sweep(l);
            }
            return;
        }
        let mut text = exit.to_string();
        if !last_words.is_empty() {
            // systemd's own word on it goes first, where it runs it.
            let label = if unit.run.kind == RunKind::Systemd { "" } else { "last words: " };
            text += &format!("; {label}{last_words}");
        }
        self.record(l, "exited", text.clone(), json!({ "exit": exit }));
        match self.locals[l].state {
            State::Stopping { .. } => {
                self.ended(l, alone);
                self.sweep(l);
            }
            State::Sweeping => self.ended(l, alone),
            _ if unit.run.kind == RunKind::Oneshot && exit.is_success() => {
                let local = &mut self.locals[l];
                local.process = None;
                local.restart = None;
                local.stop_order = None;
                local.failures.reset();
                self.enter(l, State::Completed, "");
                self.remember(l);
                self.record(l, "completed", "", serde_json::Value::Null);
            }
            _ if unit.run.kind == RunKind::Oneshot && exit == Exit::Unknown => {
                self.locals[l].process = None;
                self.result_unknown(l);
                self.remember(l);
            }
            _ => {
                self.end_run(l);
                self.gone(l, text, Duration::ZERO);
            }
        }
    }

    /// Its main process has ended in a stop: whoever waits for that may go on.
    fn ended(&mut self, l: usize, alone: bool) {
        self.locals[l].process.as_mut().expect("with_process checked").ended = alone;
        self.mark(l);
    }

    /// Its process is gone. A stable run forgets the failures before it.
    fn end_run(&mut self, l: usize) {
        let Some(process) = self.locals[l].process.take() else { return };
        let stable = process.unit.restart.stable;
        if process.ready_since.is_some_and(|since| self.now.since(since) >= stable) {
            self.locals[l].failures.reset();
        }
    }

    /// The process ended by itself, or never came to be.
    fn gone(&mut self, l: usize, text: String, at_least: Duration) {
        self.release(l);
        if self.stop_cause(l).is_some() {
            // It was about to be stopped, and has gone by itself.
            self.at_rest(l);
        } else {
            self.failed(l, text, at_least);
        }
        self.remember(l);
    }

    /// An address that it left behind is answered for beside whoever takes it over.
    fn release(&mut self, l: usize) {
        let local = &self.locals[l];
        if !local.unit.leftovers.addresses.is_empty() {
            self.out.push(Action::Release { instance: local.ix });
        }
    }

    pub(super) fn sweep(&mut self, l: usize) {
        let local = &self.locals[l];
        let incarnation = local.process.as_ref().map_or(0, |p| p.incarnation);
        self.out.push(Action::Sweep { instance: local.ix, incarnation });
        self.enter(l, State::Sweeping, "clears what is left of its processes");
    }

    fn swept(&mut self, l: usize, killed: u32) {
        if self.locals[l].state != State::Sweeping {
            return;
        }
        self.end_run(l);
        let text = match killed {
            0 => "nothing of it runs".to_owned(),
            n => format!("nothing of it runs; {n} process(es) that outlived the main one were killed"),
        };
        self.record(l, "stopped", text, json!({ "killed": killed }));
        self.release(l);
        match std::mem::replace(&mut self.locals[l].after, After::Rest) {
            After::Fail(text) if self.stop_cause(l).is_none() => self.failed(l, text, Duration::ZERO),
            _ => self.at_rest(l),
        }
        self.remember(l);
    }

    fn answered(&mut self, q: QuestionIx, answer: Answer) {
        if q.0 as usize >= self.questions.all.len() {
            return;
        }
        let question = self.questions.get_mut(q);
        if question.pace.is_none() && question.asked.is_none() {
            return; // an answer that was under way when nobody wanted it any more
        }
        if answer.begun < self.born {
            return; // questions are numbered anew by each configuration: this was another one
        }
        let Some(check_again) = question.take(self.now, answer) else { return };
        let again = check_again.then(|| self.now + RECHECK);
        self.timers.set(Timer::Recheck(q), again);
        self.mark_askers_of(q);
    }

    /// Takes in the word on an instance, from wherever it came.
    pub(super) fn hear(&mut self, ix: InstanceIx, word: Word) {
        let now = self.now;
        let vetoed = word.veto.is_some();
        let remote = !self.local_of.contains_key(&ix);
        let now_serves = serves(word.state);
        let up = match word.state {
            // Who hears of it only now takes it that it served: otherwise nobody would have to let go.
            StateName::Stopping if vetoed => self.heard.get(&ix).is_none_or(|before| before.up),
            state => serves(state),
        };
        let old = self.heard.insert(ix, Heard { word, at: now, connected: true, up });
        let heard = &self.heard[&ix];
        let served = old.as_ref().is_some_and(|o| o.connected && serves(o.word.state));
        let changed = old.is_none_or(|o| !o.connected || o.word != heard.word);
        let expiry = (vetoed && remote).then(|| now + VETO_LIVES);
        self.timers.set(Timer::Veto(ix), expiry);
        if !changed {
            return;
        }
        if vetoed {
            self.vetoed.insert(ix);
        } else {
            self.vetoed.remove(&ix);
        }
        self.mark_concerned(ix);
        if now_serves != served {
            self.look_sooner(ix, now_serves);
        }
    }

    /// Another agent's word never vouches; it makes us look sooner.
    fn look_sooner(&mut self, ix: InstanceIx, serves: bool) {
        for i in 0..self.edges_to.get(&ix).map_or(0, Vec::len) {
            if let Some(q) = self.edge_of(self.edges_to[&ix][i]).and_then(Edge::question) {
                let question = self.questions.get_mut(q);
                if question.pace.is_some() && question.ready().is_some() != serves {
                    question.expected = serves;
                    self.sooner.push(q);
                }
            }
        }
    }

    /// Marks those that have an edge to the instance, and those that it could lean on.
    fn mark_concerned(&mut self, ix: InstanceIx) {
        for i in 0..self.edges_to.get(&ix).map_or(0, Vec::len) {
            let asker = self.edges_to[&ix][i];
            self.repace.extend(self.edge_of(asker).and_then(Edge::question));
            self.recount(asker);
            self.mark(asker.local());
        }
        for i in 0..self.leaned_by.get(&ix).map_or(0, Vec::len) {
            self.mark(self.leaned_by[&ix][i]);
        }
    }

    fn peer_lost(&mut self, node: NodeIx) {
        let cluster = self.cluster.clone();
        for &ix in &cluster.node(node).instances {
            let Some(heard) = self.heard.get_mut(&ix).filter(|h| h.connected) else { continue };
            heard.connected = false;
            self.vetoed.remove(&ix);
            self.timers.set(Timer::Veto(ix), None);
            self.mark_concerned(ix);
        }
    }

    fn time_came(&mut self) {
        while let Some(timer) = self.timers.pop_due(self.now) {
            match timer {
                Timer::Local(l) => self.mark(l),
                Timer::Recheck(q) => self.verify(q),
                Timer::Veto(ix) => {
                    if let Some(heard) = self.heard.get_mut(&ix) {
                        heard.word.veto = None;
                    }
                    self.vetoed.remove(&ix);
                    self.mark_concerned(ix);
                }
                Timer::Renew => {
                    let vetoing: Vec<_> =
                        self.locals.iter().filter(|l| l.withdrawn.is_some()).map(|l| l.ix).collect();
                    if !vetoing.is_empty() {
                        self.timers.set(Timer::Renew, Some(self.now + VETO_RENEWAL));
                    }
                    self.out.extend(vetoing.into_iter().map(|instance| Action::Publish { instance }));
                }
            }
        }
    }

    fn ordered(&mut self, order: Order) {
        let mut locals = Vec::new();
        for instance in &order.instances {
            let Some(&l) = self.local_of.get(instance) else { continue };
            locals.push(l);
            match order.verb {
                OrderVerb::Start => self.order_start(l, &order),
                OrderVerb::Stop => {
                    self.record(l, "held", format!("by {}{}", order.by, because(&order)), as_told(&order));
                    self.locals[l].stop_order = Some(self.stop_order(&order));
                    self.locals[l].restart = None;
                    self.locals[l].forced = None;
                    self.set_wish(l, order.held());
                }
                OrderVerb::Restart => {
                    self.record(
                        l,
                        "restart-ordered",
                        format!("by {}{}", order.by, because(&order)),
                        as_told(&order),
                    );
                    if self.locals[l].is_held() {
                        // What is to stop and stay so is not hurried, nor its hold given up sooner, by a restart.
                    } else if self.locals[l].process.is_some() {
                        self.locals[l].restart =
                            Some(format!("restarted by {}{}", order.by, because(&order)));
                        self.locals[l].stop_order = Some(self.stop_order(&order));
                    } else {
                        self.try_anew(l);
                        if self.locals[l].state == State::Completed {
                            self.enter(l, State::Waiting, "");
                        }
                    }
                }
            }
            self.mark(l);
        }
        self.replies.push((order.id, locals));
    }

    fn order_start(&mut self, l: usize, order: &Order) {
        self.record(l, "released", format!("by {}{}", order.by, because(order)), as_told(order));
        let local = &mut self.locals[l];
        local.stop_order = None;
        local.restart = None;
        let to_start =
            local.process.is_none() || matches!(local.state, State::Stopping { .. } | State::Sweeping);
        if order.force && to_start && local.state != State::Completed {
            local.forced = Some(order.by.clone());
        }
        self.set_wish(l, Wish::Up);
        self.try_anew(l);
    }

    /// Gives an instance without a process a new chance: its failures are forgotten.
    fn try_anew(&mut self, l: usize) {
        self.locals[l].failures.reset();
        if matches!(
            self.locals[l].state,
            State::Failed { .. } | State::Backoff { .. } | State::Blocked { .. }
        ) {
            self.enter(l, State::Waiting, "");
            self.remember(l);
        }
    }

    fn stop_order(&self, order: &Order) -> StopOrder {
        StopOrder {
            deadline: self.now + order.timeout,
            timeout: order.timeout,
            without: order.without.clone(),
        }
    }

    fn set_wish(&mut self, l: usize, wish: Wish) {
        if self.locals[l].wish != wish {
            self.locals[l].wish = wish;
            self.save_wish(l);
        }
    }

    /// When the oldest answer that matters was heard of an instance's own agent; for views.
    pub(super) fn heard_at(&self, ix: InstanceIx) -> Option<Moment> {
        self.heard.get(&ix).map(|h| h.at)
    }
}

/// Whether others may count on an instance in this state. (One that stands by does not serve.)
pub(super) fn serves(state: StateName) -> bool {
    matches!(state, StateName::Ready | StateName::Completed)
}

/// An order in the event of one of its instances: the others are left out, or a thousand events would each name a
/// thousand.
fn as_told(order: &Order) -> serde_json::Value {
    let Order { id, verb: _, instances: _, force, timeout, without, by, reason, clock } = order;
    json!({ "id": id, "force": force, "timeout": timeout, "without": without, "by": by, "reason": reason, "clock": clock })
}

fn because(order: &Order) -> String {
    let mut text = String::new();
    if !order.reason.is_empty() {
        text += &format!(": {}", order.reason);
    }
    if order.force {
        text += " (forced)";
    }
    text
}
