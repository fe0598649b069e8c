//! One run of a unit on an instance's behalf: what systemd's signals mean for it. Pure.

use super::state::{Active, State};
use crate::facts::{Exit, Notice};

/// How many jobs are remembered that ended before it was known which one is ours.
const JOBS: usize = 8;

/// What became of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// It runs; with its process, where it has one.
    Began { pid: i32 },
    /// Its main process is another one now.
    Moved { pid: i32 },
    /// What it says of itself.
    Said(Notice),
    /// It did not come to run. `passing`: the machine's fault and not its own.
    NotBegun { reason: String, passing: bool },
    /// It runs no more. `why`: what is known besides how its process ended.
    Ended { exit: Exit, why: String },
    /// systemd would start it by itself, round the order: it is to be told not to.
    GoesRound,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase {
    /// A start was asked for, of a unit that had this invocation before.
    Asked {
        before: String,
        job: Option<u32>,
        ended: Vec<(u32, String)>,
        began: bool,
    },
    Runs,
    Over,
}

/// A run that is followed.
#[derive(Clone, Debug)]
pub struct Course {
    phase: Phase,
    /// Its invocation; empty until it is known.
    invocation: String,
    pid: i32,
    said: Option<Notice>,
    /// We have asked for its end.
    stopping: bool,
    /// Somebody else has: the type of the job.
    job_of_others: Option<String>,
}

impl Course {
    fn new(phase: Phase, invocation: String) -> Course {
        Course { phase, invocation, pid: 0, said: None, stopping: false, job_of_others: None }
    }

    /// A start is about to be asked for.
    pub fn asked(before: &State) -> Course {
        let before = before.invocation.clone();
        Course::new(Phase::Asked { before, job: None, ended: Vec::new(), began: false }, String::new())
    }

    /// A run that is there already.
    pub fn found(state: &State) -> Course {
        Course { pid: state.pid(), ..Course::new(Phase::Runs, state.invocation.clone()) }
    }

    /// Empty until it is known.
    pub fn invocation(&self) -> &str {
        &self.invocation
    }

    pub fn is_over(&self) -> bool {
        self.phase == Phase::Over
    }

    /// We ask for its end.
    pub fn stop(&mut self) {
        self.stopping = true;
    }

    /// Whether we have asked for its end.
    pub fn is_stopping(&self) -> bool {
        self.stopping
    }

    /// Whether the run, as asked for, is still to be refused or begun.
    pub fn is_asked(&self) -> bool {
        matches!(self.phase, Phase::Asked { .. })
    }

    /// systemd has taken the start, as this job.
    pub fn queued(&mut self, number: u32, state: &State) -> Vec<Told> {
        let Phase::Asked { job, ended, .. } = &mut self.phase else { return Vec::new() };
        *job = Some(number);
        match ended.iter().find(|(ended, _)| *ended == number).map(|(_, result)| result.clone()) {
            Some(result) => self.job_ended(number, &result, state),
            None => Vec::new(),
        }
    }

    /// systemd did not take the start.
    pub fn refused(&mut self, reason: String, passing: bool) -> Vec<Told> {
        if !self.is_asked() {
            return Vec::new();
        }
        self.phase = Phase::Over;
        vec![Told::NotBegun { reason, passing }]
    }

    /// A job for the unit was made, by whomever.
    pub fn job_began(&mut self, number: u32, kind: &str) {
        let ours = matches!(&self.phase, Phase::Asked { job: Some(job), .. } if *job == number);
        if !ours && !self.stopping && matches!(kind, "stop" | "restart" | "try-restart") {
            self.job_of_others = Some(kind.to_owned());
        }
    }

    /// A job of the unit has ended.
    pub fn job_ended(&mut self, number: u32, result: &str, state: &State) -> Vec<Told> {
        let Phase::Asked { job, ended, .. } = &mut self.phase else { return Vec::new() };
        if job.is_none() {
            ended.truncate(JOBS - 1);
            ended.insert(0, (number, result.to_owned()));
        }
        if *job != Some(number) {
            return Vec::new();
        }
        self.start_ended(result, state)
    }

    /// All is as systemd says it is now, and what it said meanwhile was not heard.
    pub fn heard_again(&mut self, state: &State) -> Vec<Told> {
        let mut told = self.look(state);
        if let Phase::Asked { job: Some(job), .. } = self.phase
            && state.job != job
        {
            told.extend(self.start_ended("unheard", state));
        }
        told
    }

    /// The job of our start has ended.
    fn start_ended(&mut self, result: &str, state: &State) -> Vec<Told> {
        let mut told = self.look(state);
        let Phase::Asked { began, before, .. } = &self.phase else { return told };
        let (began, is_new) = (*began, state.invocation != *before);
        if is_new && !state.is_over() && !state.restarts() {
            if !began {
                told.push(self.begin(state));
            }
            self.phase = Phase::Runs;
            told.extend(self.look(state));
            return told;
        }
        self.phase = Phase::Over;
        told.push(Told::NotBegun { reason: why_not(result, is_new, state), passing: result == "unheard" });
        if state.restarts() {
            told.push(Told::GoesRound);
        }
        told
    }

    fn begin(&mut self, state: &State) -> Told {
        self.pid = state.pid();
        Told::Began { pid: self.pid }
    }

    /// Takes in how the unit is now.
    pub fn look(&mut self, state: &State) -> Vec<Told> {
        let mut told = Vec::new();
        match &mut self.phase {
            Phase::Over => return told,
            Phase::Asked { before, began, .. } => {
                if state.invocation == *before {
                    return told;
                }
                self.invocation = state.invocation.clone();
                let has_begun = state.pid() > 0 || state.active == Active::Active;
                if !*began {
                    // Until then its job's end will tell.
                    if !has_begun || state.is_over() || state.restarts() {
                        return told;
                    }
                    *began = true;
                    told.push(self.begin(state));
                }
            }
            Phase::Runs => {}
        }
        // One that is over may have been forgotten.
        let is_forgotten = state.is_over() && state.invocation.is_empty();
        if state.invocation != self.invocation && !is_forgotten {
            self.phase = Phase::Over;
            let why = "it was ended and started anew through systemd, and not by clusterd".to_owned();
            told.push(Told::Ended { exit: Exit::Unknown, why });
            return told;
        }
        if state.is_over() || state.restarts() {
            self.phase = Phase::Over;
            told.push(Told::Ended { exit: state.exit(), why: self.why_ended(state) });
            if state.restarts() {
                told.push(Told::GoesRound);
            }
            return told;
        }
        // Of which type a job is can be asked only while it is there: that of one that is soon done is never told.
        if self.phase == Phase::Runs
            && !self.stopping
            && state.active == Active::Deactivating
            && state.job > 0
        {
            self.job_of_others.get_or_insert_with(|| "stop".to_owned());
        }
        if state.pid() != self.pid && state.main_pid > 0 {
            self.pid = state.main_pid;
            told.push(Told::Moved { pid: self.pid });
        }
        let notice = state.notice();
        let news = (notice.ready, notice.reloading, notice.stopping) != (false, false, false)
            || self.said.as_ref().map_or("", |s| s.status.as_deref().unwrap_or_default()) != state.status;
        if news && self.said.as_ref() != Some(&notice) {
            self.said = Some(notice.clone());
            told.push(Told::Said(notice));
        }
        told
    }

    fn why_ended(&self, state: &State) -> String {
        let by_others = match self.job_of_others.as_deref().filter(|_| !self.stopping) {
            Some("stop") => "stopped through systemd, and not by clusterd (`systemctl stop`?)",
            Some(_) => "restarted through systemd, and not by clusterd (`systemctl restart`?)",
            None => "",
        };
        let verdict = state.verdict();
        [by_others, &verdict].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("; ")
    }
}

/// Why a start came to nothing.
fn why_not(result: &str, is_new: bool, state: &State) -> String {
    let of_job = match result {
        "done" if !state.conditions => {
            "a condition of its unit is not met (Condition…=), so systemd skipped it"
        }
        "done" if state.kind == "oneshot" => "it ran to its end at once (Type=oneshot)",
        "done" => "it ended at once",
        "failed" | "" => "",
        "timeout" => "its start took too long (JobTimeoutSec=)",
        "dependency" => "another unit that it requires did not start",
        "canceled" => "somebody else cancelled its start, or ordered its stop",
        "skipped" | "invalid" => "systemd had nothing to do for it",
        "assert" => "an assertion of its unit does not hold (Assert…=)",
        "unsupported" => "this system does not support units of its kind",
        "unheard" => "systemd was not heard while it started",
        other => return format!("systemd's job ended as `{other}`"),
    };
    let verdict = state.verdict();
    let exit = state.exit();
    let ended =
        if is_new && state.is_over() && exit != Exit::Unknown { exit.to_string() } else { String::new() };
    let parts = [of_job, &ended, &verdict];
    let text = parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("; ");
    if text.is_empty() { "systemd could not start it".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(active: Active, sub: &str, invocation: &str, pid: i32) -> State {
        State {
            active,
            sub: sub.into(),
            invocation: invocation.into(),
            main_pid: pid,
            conditions: true,
            ..State::default()
        }
    }

    fn dead(result: &str, code: i64, status: i64) -> State {
        let active = if result == "success" { Active::Inactive } else { Active::Failed };
        State { result: result.into(), exec_code: code, exec_status: status, ..state(active, "dead", "b", 0) }
    }

    fn asked() -> Course {
        Course::asked(&state(Active::Inactive, "dead", "a", 0))
    }

    fn ready() -> Told {
        Told::Said(Notice { ready: true, status: Some(String::new()), ..Notice::default() })
    }

    /// A run that is ready.
    fn runs() -> (Course, State) {
        let mut course = asked();
        let running = state(Active::Active, "running", "b", 7);
        course.queued(3, &State::default());
        assert_eq!(course.job_ended(3, "done", &running), [Told::Began { pid: 7 }, ready()]);
        (course, running)
    }

    #[test]
    fn a_start_is_told_when_there_is_a_process_and_ready_when_systemd_says_so() {
        let mut course = asked();
        assert_eq!(course.look(&state(Active::Inactive, "dead", "a", 0)), []);
        assert_eq!(course.queued(3, &State::default()), []);
        assert_eq!(course.look(&state(Active::Activating, "start", "b", 7)), [Told::Began { pid: 7 }]);
        assert_eq!(course.invocation(), "b");
        assert_eq!(course.look(&state(Active::Active, "running", "b", 7)), [ready()]);
        assert_eq!(
            course.job_ended(2, "done", &state(Active::Active, "running", "b", 7)),
            [],
            "another one's"
        );
        assert_eq!(course.job_ended(3, "done", &state(Active::Active, "running", "b", 7)), []);
        assert!(!course.is_asked());
    }

    #[test]
    fn a_job_that_ended_before_its_number_was_known_counts() {
        let mut course = asked();
        let running = state(Active::Active, "running", "b", 7);
        assert_eq!(course.job_ended(3, "done", &running), []);
        assert_eq!(course.queued(3, &running), [Told::Began { pid: 7 }, ready()]);
    }

    #[test]
    fn a_daemon_that_forks_moves_from_its_launcher() {
        let mut course = asked();
        course.queued(3, &State::default());
        let launching = State { control_pid: 6, ..state(Active::Activating, "start", "b", 0) };
        assert_eq!(course.look(&launching), [Told::Began { pid: 6 }]);
        let moved = course.look(&state(Active::Active, "running", "b", 7));
        assert_eq!(moved, [Told::Moved { pid: 7 }, ready()]);
    }

    #[test]
    fn each_result_of_a_job_that_started_nothing_is_a_sentence() {
        #[track_caller]
        fn check(result: &str, after: &State, said: &str) {
            let mut course = asked();
            course.queued(3, &State::default());
            let told = course.job_ended(3, result, after);
            let [Told::NotBegun { reason, passing: false }] = &told[..] else { panic!("{told:?}") };
            assert_eq!(reason, said);
            assert!(course.is_over());
        }
        let as_before = state(Active::Inactive, "dead", "a", 0);
        check("failed", &dead("exit-code", 1, 1), "exit code 1");
        check(
            "failed",
            &dead("exit-code", 1, 203),
            "exit code 203; systemd could not execute its program (ExecStart=)",
        );
        check("failed", &as_before, "systemd could not start it");
        check("timeout", &as_before, "its start took too long (JobTimeoutSec=)");
        check("dependency", &as_before, "another unit that it requires did not start");
        check("canceled", &as_before, "somebody else cancelled its start, or ordered its stop");
        check("assert", &as_before, "an assertion of its unit does not hold (Assert…=)");
        check("skipped", &as_before, "systemd had nothing to do for it");
        let skipped = State { conditions: false, ..as_before.clone() };
        check("done", &skipped, "a condition of its unit is not met (Condition…=), so systemd skipped it");
        check("done", &dead("success", 1, 0), "it ended at once; exit code 0");
        check("once", &as_before, "systemd's job ended as `once`");
    }

    #[test]
    fn what_has_begun_and_fails_before_it_is_ready_has_ended() {
        let mut course = asked();
        course.queued(3, &State::default());
        course.look(&state(Active::Activating, "start", "b", 7));
        let told = course.look(&dead("timeout", 2, 9));
        let why = "it did not start or stop in the time that its unit gives it".to_owned();
        assert_eq!(told, [Told::Ended { exit: Exit::Signal(9), why }]);
        assert_eq!(course.job_ended(3, "timeout", &dead("timeout", 2, 9)), [], "it is told once");
    }

    #[test]
    fn an_end_says_whether_somebody_else_ordered_it() {
        let (mut course, _) = runs();
        assert_eq!(
            course.look(&dead("signal", 2, 9)),
            [Told::Ended { exit: Exit::Signal(9), why: String::new() }]
        );
        let (mut course, _) = runs();
        course.job_began(9, "stop");
        let told = course.look(&dead("success", 1, 0));
        let why = "stopped through systemd, and not by clusterd (`systemctl stop`?)".to_owned();
        assert_eq!(told, [Told::Ended { exit: Exit::Code(0), why: why.clone() }]);
        // Its type was asked too late.
        let (mut course, _) = runs();
        course.look(&State { job: 9, ..state(Active::Deactivating, "stop-sigterm", "b", 7) });
        assert_eq!(course.look(&dead("success", 1, 0)), [Told::Ended { exit: Exit::Code(0), why }]);
        let (mut course, _) = runs();
        course.stop();
        course.look(&State { job: 9, ..state(Active::Deactivating, "stop-sigterm", "b", 7) });
        course.job_began(9, "stop");
        let told = course.look(&dead("success", 1, 0));
        assert_eq!(told, [Told::Ended { exit: Exit::Code(0), why: String::new() }]);
    }

    #[test]
    fn another_invocation_is_another_run() {
        let (mut course, _) = runs();
        let told = course.look(&state(Active::Active, "running", "c", 9));
        assert!(matches!(&told[..], [Told::Ended { exit: Exit::Unknown, why }] if why.contains("anew")));
        assert_eq!(course.look(&state(Active::Active, "running", "c", 9)), []);
    }

    #[test]
    fn a_restart_of_systemds_own_is_an_end_and_is_to_be_stopped() {
        let (mut course, _) = runs();
        let restarts =
            State { sub: "auto-restart".into(), active: Active::Activating, ..dead("signal", 2, 9) };
        let ended = Told::Ended { exit: Exit::Signal(9), why: String::new() };
        assert_eq!(course.look(&restarts), [ended, Told::GoesRound]);
    }

    #[test]
    fn stopping_and_reloading_are_said() {
        let (mut course, running) = runs();
        assert_eq!(course.look(&running), [], "no news");
        let reloading = Told::Said(Notice { reloading: true, ..ready_notice() });
        assert_eq!(course.look(&state(Active::Reloading, "reload", "b", 7)), [reloading]);
        let told = course.look(&state(Active::Deactivating, "stop-sigterm", "b", 7));
        assert_eq!(told, [Told::Said(Notice { stopping: true, ..ready_notice() })]);
    }

    fn ready_notice() -> Notice {
        Notice { status: Some(String::new()), ..Notice::default() }
    }

    #[test]
    fn what_was_not_heard_is_made_up_for() {
        let mut course = asked();
        course.queued(3, &State::default());
        let told = course.heard_again(&state(Active::Active, "running", "b", 7));
        assert_eq!(told, [Told::Began { pid: 7 }, ready()]);
        assert!(!course.is_asked());
        let mut course = asked();
        course.queued(3, &State::default());
        let still = State { job: 3, ..state(Active::Inactive, "dead", "a", 0) };
        assert_eq!(course.heard_again(&still), [], "its job is under way");
        let told = course.heard_again(&state(Active::Inactive, "dead", "a", 0));
        assert!(matches!(told[..], [Told::NotBegun { passing: true, .. }]), "{told:?}");
    }
}
