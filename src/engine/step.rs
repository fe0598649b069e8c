//! The second beat: each marked instance takes steps until none is due.

use super::action::Action;
use super::input::{Memory, Word};
use super::local::{After, Own, Process, Proof, State};
use super::needs::{RENEW_PROOF, Verification};
use super::notices::Said;
use super::stop::StopCause;
use super::{Engine, Heard, Timer};
use crate::facts::{Moment, Trouble, Verdict};
use crate::model::{AfterWait, OnLoss, RunKind};
use serde_json::json;
use std::fmt::Write;

/// No sequence of steps without a new input is longer than this; more is a mistake in the engine.
const MOST_STEPS: usize = 64;

impl Engine {
    pub(super) fn settle(&mut self) {
        while let Some(l) = self.dirty.pop_front() {
            self.locals[l].marked = false;
            self.update_needs(l);
            for i in 0.. {
                debug_assert!(i < MOST_STEPS, "{} does not come to rest", self.locals[l].name);
                if i >= MOST_STEPS || !self.step(l) {
                    break;
                }
            }
            self.set_wake(l);
            self.tell(l);
        }
        for q in std::mem::take(&mut self.sooner) {
            let askers = &self.questions.get(q).askers;
            if !askers.iter().any(|a| self.locals[a.local()].state == State::Cleaning) {
                self.verify(q);
            }
        }
        self.set_paces();
        for (order, locals) in std::mem::take(&mut self.replies) {
            let taken = locals.into_iter().map(|l| (self.locals[l].ix, self.describe(l))).collect();
            self.out.push(Action::Reply { order, taken });
        }
        // Not before every search and every judging has ended: it may find something that runs.
        if self.shutting_down && !self.finished && self.locals.iter().all(|l| l.state == State::Stopped) {
            self.finished = true;
            self.out.push(Action::Finished);
        }
    }

    /// Enters a state.
    pub(super) fn enter(&mut self, l: usize, state: State, reason: impl Into<String>) {
        let local = &mut self.locals[l];
        let came_near = matches!(local.state, State::Cleaning | State::Verifying { .. });
        if local.state.name() != state.name() {
            local.since = self.now;
        }
        match state {
            // It came near to a start and waits on, as it has since then.
            State::Waiting if came_near => local.since = local.waiting_from,
            State::Waiting => local.waiting_from = self.now,
            _ => {}
        }
        local.state = state;
        local.reason = reason.into();
        self.mark(l);
        self.repace.extend(self.locals[l].questions());
    }

    /// Says anew why it is in its state: in the room of the old sentence, since it is mostly the same.
    pub(super) fn say(&mut self, l: usize, sentence: impl FnOnce(&Engine, &mut String)) {
        let mut reason = std::mem::take(&mut self.locals[l].reason);
        reason.clear();
        sentence(self, &mut reason);
        self.locals[l].reason = reason;
    }

    /// Says what the own probe answered, if it did.
    fn say_answer(&mut self, l: usize) {
        if self.own_answer(l).is_some() {
            self.say(l, |e, text| {
                let _ = e.own_answer(l).map(|answer| write!(text, "{answer}")); // a String takes it all
            });
        }
    }

    /// Takes one step, if one is due.
    fn step(&mut self, l: usize) -> bool {
        if self.step_watchdog(l) {
            return true;
        }
        match self.locals[l].state {
            State::Searching => false,
            State::Waiting => self.step_waiting(l),
            State::Cleaning => false,
            State::Verifying { cleaned } => self.step_verifying(l, cleaned),
            State::Starting { deadline } => self.step_starting(l, deadline),
            State::Ready | State::Unready => self.step_serving(l),
            State::Standby => self.step_standby(l),
            State::Leaving => self.step_leaving(l),
            State::Stopping { deadline } if self.now >= deadline => {
                let timeout = self.locals[l].unit_in_force().stop.timeout;
                let text =
                    format!("did not stop within {} s: its whole process tree is killed", timeout.as_secs());
                self.record(l, "killed", text, serde_json::Value::Null);
                self.sweep(l);
                true
            }
            State::Stopping { .. } | State::Sweeping => false,
            State::Stopped if self.may_run(l) => {
                self.enter(l, State::Waiting, "");
                true
            }
            State::Stopped => false,
            State::Backoff { until } => self.step_failed(l, Some(until)),
            State::Blocked { again } => self.step_idle(l) || self.step_blocked(l, again),
            State::Failed { .. } => self.step_failed(l, None),
            State::Completed => self.step_idle(l),
        }
    }

    pub(super) fn may_run(&self, l: usize) -> bool {
        !self.locals[l].is_held() && !self.shutting_down
    }

    /// Without a process: an operator's hold, or a shutdown, takes effect at once.
    pub(super) fn step_idle(&mut self, l: usize) -> bool {
        if self.may_run(l) {
            return false;
        }
        self.at_rest(l);
        true
    }

    /// Nothing runs, and that is as it should be: what the wish says comes next.
    pub(super) fn at_rest(&mut self, l: usize) {
        self.locals[l].restart = None;
        self.locals[l].stop_order = None;
        if self.may_run(l) {
            self.enter(l, State::Waiting, "");
        } else {
            let cause = if self.shutting_down { StopCause::Shutdown } else { StopCause::Held };
            let reason = self.stop_reason(l, &cause);
            self.enter(l, State::Stopped, reason);
        }
    }

    fn step_waiting(&mut self, l: usize) -> bool {
        if self.step_idle(l) {
            return true;
        }
        if self.locals[l].forced.is_some() || self.are_needs_in_sight(l) {
            return self.clean(l);
        }
        for n in 0..self.locals[l].needs.len() {
            let (waiting_from, need) = (self.locals[l].waiting_from, &self.locals[l].needs[n]);
            let Some(wait) = self.need(l, n).wait else { continue };
            if need.ok || need.waived || self.now < waiting_from + wait.at_most {
                continue;
            }
            let name = self.need(l, n).name.clone();
            let waited = format!("waited {} s for {name}", wait.at_most.as_secs());
            self.locals[l].needs[n].missed = true; // whatever the answers say that have yet to come
            match wait.then {
                AfterWait::Start => {
                    self.locals[l].needs[n].waived = true;
                    self.record(l, "waived", format!("{waited}: starts without it"), json!({ "need": name }));
                }
                AfterWait::Fail => {
                    self.record(l, "failed", waited.clone(), json!({ "need": name }));
                    self.locals[l].forgivable = None;
                    self.enter(l, State::Failed { for_good: false }, waited);
                }
            }
            return true;
        }
        self.excuse(l);
        self.say(l, |e, text| e.write_unmet(l, "waits for ", text));
        false
    }

    fn clean(&mut self, l: usize) -> bool {
        self.enter(l, State::Cleaning, "judges what an earlier run left behind");
        let instance = self.locals[l].ix;
        self.out.push(Action::Clean { instance });
        true
    }

    /// Judged again in place: it stays `blocked`, and since when, until the verdict is another.
    fn step_blocked(&mut self, l: usize, again: Option<Moment>) -> bool {
        if again.is_some_and(|at| self.now >= at) {
            let local = &mut self.locals[l];
            local.state = State::Blocked { again: None };
            self.out.push(Action::Clean { instance: local.ix });
        }
        false
    }

    fn step_verifying(&mut self, l: usize, cleaned: Moment) -> bool {
        if self.step_idle(l) {
            return true;
        }
        if let Some(by) = self.locals[l].forced.take() {
            let mut unmet = String::new();
            self.write_unmet(l, "", &mut unmet);
            let text = format!("by {by}, although {}", if unmet.is_empty() { "all was met" } else { &unmet });
            self.record(l, "forced", text, json!({ "by": by, "unmet": unmet }));
            self.locals[l].flags = vec![format!("started by force ({by})")];
            self.spawn(l, Vec::new());
            return true;
        }
        match self.verification(l, cleaned) {
            Verification::Proven(evidence) => {
                self.locals[l].flags.clear();
                self.spawn(l, evidence);
                true
            }
            Verification::Pending => false,
            Verification::Lost => {
                self.enter(l, State::Waiting, "");
                self.update_needs(l);
                self.excuse(l);
                true
            }
        }
    }

    fn spawn(&mut self, l: usize, evidence: Vec<super::Evidence>) {
        let now = self.now;
        let local = &mut self.locals[l];
        local.incarnations += 1;
        local.starts += 1;
        local.forgivable = None;
        local.last_spawn = now;
        let process = Process {
            incarnation: local.incarnations,
            pid: None,
            main: local.unit.run.kind != RunKind::Forking,
            launched: false,
            find_main: None,
            spawned: now,
            ready_since: None,
            unit: local.unit.clone(),
            evidence,
            said: Said::nothing(now),
            ended: false,
            flaps: 0,
        };
        for need in &mut local.needs {
            need.had = need.ok;
        }
        local.process = Some(process);
        let awaited = match self.locals[l].own {
            Own::Notified if self.locals[l].unit.run.systemd_unit().is_some() => {
                "systemd has not said yet that its unit is active"
            }
            Own::Notified => "has not said yet that it is ready",
            _ => "its own probe has not passed yet",
        };
        self.begin_starting(l, awaited);
        let local = &self.locals[l];
        self.out.push(Action::Spawn { instance: local.ix, memory: local.memory(), unit: local.unit.clone() });
    }

    /// A living process is this instance's already.
    pub(super) fn adopt(&mut self, l: usize, pid: i32) {
        let now = self.now;
        let local = &mut self.locals[l];
        local.incarnations += 1;
        local.last_spawn = now;
        local.flags = vec!["started by somebody else, adopted".to_owned()];
        let process = Process {
            incarnation: local.incarnations,
            pid: Some(pid),
            main: true,
            launched: false,
            find_main: None,
            spawned: now,
            ready_since: None,
            unit: local.unit.clone(),
            evidence: Vec::new(),
            said: Said::before_now(now, false),
            ended: false,
            flaps: 0,
        };
        self.hold(l, process);
        self.begin_starting(l, "found running; its own probe is asked");
        let local = &self.locals[l];
        let (memory, unit): (Memory, _) = (local.memory(), local.unit.clone());
        self.out.push(Action::Adopt { instance: local.ix, pid, memory, unit });
    }

    /// A process was found. It was started once with its needs met, so it has them to lose.
    pub(super) fn hold(&mut self, l: usize, process: Process) {
        let local = &mut self.locals[l];
        local.after = After::Rest;
        local.process = Some(process);
        for need in &mut local.needs {
            need.had = true;
        }
    }

    /// A process is there, and its own probe is awaited. One that has served before is not started: it may serve at
    /// this moment, and dependents do not let go of it for want of its agent's word.
    pub(super) fn begin_starting(&mut self, l: usize, reason: &str) {
        let deadline = self.now + self.locals[l].unit.ready.within;
        let served = self.locals[l].process.as_ref().is_some_and(|p| p.ready_since.is_some());
        let state = if served { State::Unready } else { State::Starting { deadline } };
        self.enter(l, state, reason);
        if let Own::Ask(q) = self.locals[l].own
            && self.locals[l].process.as_ref().is_some_and(|p| p.pid.is_some())
        {
            self.verify(q);
        }
    }

    /// Looks for the main process of a daemon that daemonises, when that is due.
    pub(super) fn find_main(&mut self, l: usize) {
        let now = self.now;
        let Some(process) = &mut self.locals[l].process else { return };
        if process.find_main.is_some_and(|at| now >= at) {
            process.find_main = None; // until `MainMissing` asks again
            let local = &self.locals[l];
            let (instance, memory) = (local.ix, local.memory());
            self.out.push(Action::FindMain { instance, memory });
        }
    }

    fn step_starting(&mut self, l: usize, deadline: Moment) -> bool {
        if self.step_stop(l) {
            return true;
        }
        self.find_main(l);
        let Some(process) = &self.locals[l].process else { return false };
        if !process.main || process.pid.is_none() {
            return self.step_deadline(l, deadline);
        }
        if self.passes(l) {
            self.become_ready(l);
            return true;
        }
        if self.stands_by(l) {
            self.become_standby(l);
            return true;
        }
        if let Some(Verdict::Progress { reason, percent, left }) = self.own_answer(l) {
            // Work that goes on stretches the deadline; where the protocol does not tell how far it has come, its
            // word is taken.
            let (reason, trusted) = (reason.clone(), percent.is_none());
            let stretch = self.locals[l].unit.ready.within.max(left.unwrap_or_default());
            let local = &mut self.locals[l];
            if local.reason != reason || (trusted && self.now >= deadline) {
                local.reason = reason;
                local.state = State::Starting { deadline: self.now + stretch };
                return false;
            }
            return self.step_deadline(l, deadline);
        }
        self.say_answer(l);
        self.say_status(l);
        self.step_deadline(l, deadline)
    }

    /// Whether the process that is there passes its own probe.
    fn passes(&self, l: usize) -> bool {
        let local = &self.locals[l];
        match local.own {
            Own::Ask(_) => self.own_answer(l).is_some_and(Verdict::is_ready),
            Own::Running(for_) => local.process.as_ref().is_some_and(|p| self.now >= p.spawned + for_),
            Own::Completed => false,
            Own::Notified => local.process.as_ref().is_some_and(|p| p.said.ready),
        }
    }

    fn step_deadline(&mut self, l: usize, deadline: Moment) -> bool {
        if self.now < deadline {
            return false;
        }
        if self.may_be_unheard(l) {
            self.count_as_ready(l);
            return true;
        }
        let local = &self.locals[l];
        let text = format!("not ready within {} s: {}", local.unit.ready.within.as_secs(), local.reason);
        self.record(l, "start-timed-out", text.clone(), serde_json::Value::Null);
        self.locals[l].after = After::Fail(text.clone());
        self.begin_stopping(l, text);
        true
    }

    pub(super) fn become_ready(&mut self, l: usize) {
        let detail = match self.own_answer(l) {
            Some(answer) => answer.to_string(),
            None => self.said(l),
        };
        let now = self.now;
        let process = self.locals[l].process.as_mut().expect("a starting instance has a process");
        let took = now.since(process.spawned);
        let first = process.ready_since.is_none();
        process.ready_since.get_or_insert(now);
        if first {
            process.said.alive = now; // a sign of life is due from now on
        }
        self.enter(l, State::Ready, detail.clone());
        if first {
            self.locals[l].forgivable = None;
            self.locals[l].failures.never_ready = 0;
            self.record(l, "ready", detail, json!({ "after_ms": took.as_millis() as u64 }));
            self.remember(l);
        } else {
            self.record(l, "ready", detail, serde_json::Value::Null);
        }
    }

    fn become_standby(&mut self, l: usize) {
        let serving = self.locals[l].siblings.iter().find(|e| self.is_fresh(e, None));
        let name = serving.map_or("another", |e| &self.cluster.instance(e.to).name);
        let reason = format!("{name} serves; this one is alive and waits for its turn");
        let now = self.now;
        if let Some(process) = &mut self.locals[l].process {
            process.ready_since.get_or_insert(now);
        }
        self.enter(l, State::Standby, reason.clone());
        self.record(l, "standby", reason, serde_json::Value::Null);
        self.remember(l);
    }

    /// Another instance serves, and this one says that it does not: a port that is closed, or a no. One that is
    /// silent is not standing by, it hangs.
    fn stands_by(&self, l: usize) -> bool {
        let says_no = matches!(
            self.own_answer(l),
            Some(Verdict::NotReady { kind: Trouble::Refused | Trouble::Declined, .. })
        );
        says_no && self.sibling_serves(l)
    }

    fn sibling_serves(&self, l: usize) -> bool {
        self.locals[l].siblings.iter().any(|edge| match edge.proof {
            Proof::Ask(q) => self.questions.get(q).good.is_some(),
            Proof::Agent => self.is_fresh(edge, None),
        })
    }

    fn own_lost(&self, l: usize) -> bool {
        match self.locals[l].own {
            Own::Ask(q) => self.questions.get(q).is_lost(),
            Own::Running(_) | Own::Completed => false,
            Own::Notified => self.locals[l].process.as_ref().is_some_and(|p| p.said.stopping),
        }
    }

    fn step_serving(&mut self, l: usize) -> bool {
        if self.step_stop(l) {
            return true;
        }
        let unready = self.locals[l].state == State::Unready;
        match (unready, self.own_lost(l)) {
            (true, _) if self.passes(l) => self.step_calm(l),
            (true, _) if self.stands_by(l) => {
                self.become_standby(l);
                true
            }
            (false, true) => {
                let reason = self.own_answer(l).map_or_else(|| self.said(l), Verdict::to_string);
                self.become_unready(l, reason);
                true
            }
            _ => {
                self.say_answer(l);
                self.say_status(l);
                unready && self.step_unready(l)
            }
        }
    }

    fn step_standby(&mut self, l: usize) -> bool {
        if self.step_stop(l) {
            return true;
        }
        if self.own_answer(l).is_some_and(Verdict::is_ready) {
            self.become_ready(l);
            return true;
        }
        if !self.sibling_serves(l) {
            self.begin_starting(l, "no other serves any more; this one is to take over");
            return true;
        }
        false
    }

    /// Sets when this instance is to be looked at again although nothing happens.
    fn set_wake(&mut self, l: usize) {
        let (local, now) = (&self.locals[l], self.now);
        let mut next: Option<Moment> = None;
        // What is due already was looked at; it waits for an input, not for time.
        let mut wake = |at: Moment| {
            if at > now {
                next = Some(next.map_or(at, |next| next.min(at)));
            }
        };
        match local.state {
            State::Waiting => {
                for (n, need) in local.needs.iter().enumerate() {
                    if let (false, Some(wait)) = (need.ok || need.waived, self.need(l, n).wait) {
                        wake(local.waiting_from + wait.at_most);
                    }
                }
            }
            State::Verifying { .. } => wake(now + RENEW_PROOF),
            State::Starting { deadline } => {
                wake(deadline);
                if let (Own::Running(d), Some(process)) = (local.own, &local.process) {
                    wake(process.spawned + d);
                }
            }
            State::Leaving => {
                self.stop_deadline(l).map(&mut wake);
            }
            State::Stopping { deadline } => wake(deadline),
            State::Unready => {
                self.calm_at(l).map(&mut wake);
                self.unready_until(l).map(&mut wake);
            }
            State::Backoff { until } => wake(until),
            State::Blocked { again: Some(again) } => wake(again),
            _ => {}
        }
        if local.state.is_running() {
            local.process.as_ref().and_then(|p| p.find_main).map(&mut wake);
            self.watchdog_due(l).map(&mut wake);
            for (n, need) in local.needs.iter().enumerate() {
                if let (Some(lost), OnLoss::Stop { grace }) = (need.lost, self.need(l, n).on_loss) {
                    wake(lost + grace);
                }
            }
        }
        self.timers.set(Timer::Local(l), next);
    }

    /// Tells the others, when there is something new to tell.
    fn tell(&mut self, l: usize) {
        if self.locals[l].process.is_none() {
            self.locals[l].withdrawn = None;
        }
        let (local, released) = (&self.locals[l], self.releases(l));
        let (instance, veto) = (local.ix, &local.withdrawn);
        let is_told = self.heard.get(&instance).is_some_and(|Heard { word, .. }| {
            word.state == local.state.name()
                && word.reason == local.reason
                && word.veto == *veto
                && word.released == released
        });
        if !is_told {
            let (state, reason, veto) = (local.state.name(), local.reason.clone(), veto.clone());
            self.hear(instance, Word { state, reason, veto, released });
            self.out.push(Action::Publish { instance });
        }
    }

    pub(super) fn word_of(&self, l: usize) -> Word {
        let local = &self.locals[l];
        Word {
            state: local.state.name(),
            reason: local.reason.clone(),
            veto: local.withdrawn.clone(),
            released: self.releases(l),
        }
    }
}
