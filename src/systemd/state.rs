//! What systemd tells of a unit, put together from its properties as they come.

use crate::facts::{Exit, Notice};

/// The bytes of an invocation's id; of none there are none.
const INVOCATION: usize = 16;

/// A property's value, of the few types that matter here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    Text(String),
    Number(i64),
    Flag(bool),
    Bytes(Vec<u8>),
    Texts(Vec<String>),
}

/// `ActiveState`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Active {
    Active,
    Reloading,
    #[default]
    Inactive,
    Failed,
    Activating,
    Deactivating,
    /// `maintenance`, `refreshing`, or one that later versions have.
    Other,
}

/// A unit as systemd has told it last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// `LoadState`: `loaded`, `not-found`, `bad-setting`, `error`, `masked`.
    pub load: String,
    pub active: Active,
    /// `SubState`: `running`, `exited`, `auto-restart`, `stop-sigterm`, …
    pub sub: String,
    /// `Type`: `simple`, `notify`, `oneshot`, …
    pub kind: String,
    pub remains: bool,
    /// `Result`: `success`, `exit-code`, `signal`, `timeout`, …
    pub result: String,
    /// How the main process ended last: `ExecMainCode` (a CLD_ of waitid(2)) and `ExecMainStatus`.
    pub exec_code: i64,
    pub exec_status: i64,
    pub main_pid: i32,
    pub control_pid: i32,
    /// Of the latest activation, in hexadecimal; empty where there was none.
    pub invocation: String,
    /// Whether its conditions were met when it was started last.
    pub conditions: bool,
    /// `StatusText`: what it says of itself.
    pub status: String,
    /// The number of the job that is under way; 0 is none.
    pub job: u32,
    /// Files that add to its own, in force.
    pub drop_ins: Vec<String>,
    /// Its files have changed since systemd has read them.
    pub is_outdated: bool,
}

impl State {
    /// Takes a property in; those that do not matter here are passed over.
    pub fn take(&mut self, name: &str, fact: Fact) {
        match (name, fact) {
            ("LoadState", Fact::Text(text)) => self.load = text,
            ("ActiveState", Fact::Text(text)) => self.active = active(&text),
            ("SubState", Fact::Text(text)) => self.sub = text,
            ("Type", Fact::Text(text)) => self.kind = text,
            ("RemainAfterExit", Fact::Flag(flag)) => self.remains = flag,
            ("Result", Fact::Text(text)) => self.result = text,
            ("ExecMainCode", Fact::Number(n)) => self.exec_code = n,
            ("ExecMainStatus", Fact::Number(n)) => self.exec_status = n,
            ("MainPID", Fact::Number(n)) => self.main_pid = pid(n),
            ("ControlPID", Fact::Number(n)) => self.control_pid = pid(n),
            ("InvocationID", Fact::Bytes(id)) if id.len() <= INVOCATION => self.invocation = hexadecimal(&id),
            ("ConditionResult", Fact::Flag(flag)) => self.conditions = flag,
            ("StatusText", Fact::Text(text)) => self.status = text,
            ("Job", Fact::Number(n)) => self.job = u32::try_from(n).unwrap_or(0),
            ("DropInPaths", Fact::Texts(paths)) => self.drop_ins = paths,
            ("NeedDaemonReload", Fact::Flag(flag)) => self.is_outdated = flag,
            _ => {}
        }
    }

    /// Nothing of it runs, as far as systemd is concerned, and nothing will by itself.
    pub fn is_over(&self) -> bool {
        matches!(self.active, Active::Inactive | Active::Failed)
    }

    /// Its process has ended, and systemd is about to start another one by itself (`Restart=`).
    pub fn restarts(&self) -> bool {
        self.active == Active::Activating && self.sub.starts_with("auto-restart")
    }

    /// The process that stands for it; 0 where there is none.
    pub fn pid(&self) -> i32 {
        if self.main_pid > 0 { self.main_pid } else { self.control_pid }
    }

    /// How its main process ended.
    pub fn exit(&self) -> Exit {
        match (self.result.as_str(), self.exec_code, i32::try_from(self.exec_status)) {
            ("oom-kill", ..) => Exit::OutOfMemory,
            (_, 1, Ok(code)) => Exit::Code(code),
            (_, 2 | 3, Ok(signal)) => Exit::Signal(signal),
            _ => Exit::Unknown,
        }
    }

    /// What it says of itself, by way of systemd.
    pub fn notice(&self) -> Notice {
        Notice {
            ready: self.active == Active::Active,
            reloading: self.active == Active::Reloading,
            stopping: self.active == Active::Deactivating,
            status: Some(self.status.clone()),
            ..Notice::default()
        }
    }

    /// What systemd says of its end, beyond how the process ended; empty where that says all.
    pub fn verdict(&self) -> String {
        let text = match self.result.as_str() {
            "timeout" => "it did not start or stop in the time that its unit gives it",
            "watchdog" => "it gave systemd no sign of life (WatchdogSec=)",
            "start-limit-hit" => "it was started too often for its unit (StartLimitBurst=)",
            "protocol" => "it did not do what its unit's Type= says",
            "resources" => "systemd lacked what it needs to start it",
            "exec-condition" => "a condition of its unit was not met (ExecCondition=)",
            "exit-code" => match self.exec_status {
                200 => "systemd could not enter its folder (WorkingDirectory=)",
                203 => "systemd could not execute its program (ExecStart=)",
                216 | 217 => "systemd could not become its user or group (User=, Group=)",
                226 => {
                    "systemd could not set up what it sees of the file system (ProtectSystem= and its like)"
                }
                _ => "",
            },
            "" | "success" | "signal" | "core-dump" | "oom-kill" => "",
            other => return format!("systemd's result is `{other}`"),
        };
        text.to_owned()
    }
}

fn active(text: &str) -> Active {
    match text {
        "active" => Active::Active,
        "reloading" => Active::Reloading,
        "inactive" => Active::Inactive,
        "failed" => Active::Failed,
        "activating" => Active::Activating,
        "deactivating" => Active::Deactivating,
        _ => Active::Other,
    }
}

fn pid(number: i64) -> i32 {
    i32::try_from(number).unwrap_or(0)
}

fn hexadecimal(id: &[u8]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_become_a_state() {
        let mut state = State::default();
        let text = |t: &str| Fact::Text(t.to_owned());
        state.take("ActiveState", text("active"));
        state.take("SubState", text("running"));
        state.take("MainPID", Fact::Number(417));
        state.take("InvocationID", Fact::Bytes(vec![0x0a, 0xff]));
        state.take("Wants", Fact::Texts(vec![]));
        assert_eq!((state.active, state.pid(), state.invocation.as_str()), (Active::Active, 417, "0aff"));
        assert!(state.notice().ready && !state.is_over() && !state.restarts());
        state.take("ActiveState", text("activating"));
        state.take("SubState", text("auto-restart"));
        assert!(state.restarts());
        state.take("MainPID", Fact::Number(0));
        state.take("ControlPID", Fact::Number(418));
        assert_eq!(state.pid(), 418, "what its unit starts before, or what forks");
    }

    #[test]
    fn an_end_is_told_by_its_code_and_by_systemds_result() {
        #[track_caller]
        fn check(result: &str, code: i64, status: i64, exit: Exit, verdict: &str) {
            let state =
                State { result: result.into(), exec_code: code, exec_status: status, ..State::default() };
            assert_eq!((state.exit(), state.verdict().as_str()), (exit, verdict));
        }
        check("success", 1, 0, Exit::Code(0), "");
        check("exit-code", 1, 7, Exit::Code(7), "");
        check("exit-code", 1, 203, Exit::Code(203), "systemd could not execute its program (ExecStart=)");
        check("signal", 2, 9, Exit::Signal(9), "");
        check("core-dump", 3, 6, Exit::Signal(6), "");
        check("oom-kill", 2, 9, Exit::OutOfMemory, "");
        check("watchdog", 3, 6, Exit::Signal(6), "it gave systemd no sign of life (WatchdogSec=)");
        check("success", 0, 0, Exit::Unknown, "");
        check("of-later", 1, 1, Exit::Code(1), "systemd's result is `of-later`");
    }
}
