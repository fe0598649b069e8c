//! `[run]` of what systemd runs: the unit, and nothing of what that unit says itself.

use super::care::Care;
use super::diag::Problem;
use super::fields::{Fields, Value};
use super::{LogLimits, Run, RunKind, is_systemd_unit};
use std::path::PathBuf;

/// What makes no sense here, and what says the same in systemd's own unit.
const ELSEWHERE: [(&str, &str); 28] = [
    ("command", "ExecStart="),
    ("user", "User="),
    ("group", "Group="),
    ("folder", "WorkingDirectory="),
    ("environment", "Environment="),
    ("umask", "UMask="),
    ("pidfile", "PIDFile="),
    ("make_folders", "RuntimeDirectory="),
    ("groups", "SupplementaryGroups="),
    ("environment_files", "EnvironmentFile="),
    ("limits", "LimitNOFILE= and its like"),
    ("nice", "Nice="),
    ("oom_score_adjust", "OOMScoreAdjust="),
    ("capabilities", "CapabilityBoundingSet="),
    ("no_new_privileges", "NoNewPrivileges="),
    ("system_call_filter", "SystemCallFilter="),
    ("memory_max", "MemoryMax="),
    ("cpu_weight", "CPUWeight="),
    ("cpu_quota", "CPUQuota="),
    ("tasks_max", "TasksMax="),
    ("protect_system", "ProtectSystem="),
    ("protect_home", "ProtectHome="),
    ("private_tmp", "PrivateTmp="),
    ("read_only_paths", "ReadOnlyPaths="),
    ("read_write_paths", "ReadWritePaths="),
    ("watchdog", "WatchdogSec="),
    ("ready_fd", "Type=notify"),
    ("signal", "KillSignal="),
];

fn elsewhere(key: &str) -> &'static str {
    ELSEWHERE.iter().find(|(name, _)| *name == key).map_or("", |(_, there)| there)
}

/// Reads `unit` and `executables`; every other key is a mistake.
pub(super) fn read_run(fields: &mut Fields<'_>) -> Option<Run> {
    let unit = fields
        .need("unit", "write the unit that systemd is to start and stop: unit = \"redis-server.service\"")
        .and_then(read_unit);
    let executables = fields.take("executables").map(super::unit_file::read_executables).unwrap_or_default();
    for (key, _) in ELSEWHERE.iter().filter(|(key, _)| *key != "signal") {
        if let Some(value) = fields.take(key) {
            refuse(&value);
        }
    }
    Some(Run {
        kind: RunKind::Systemd,
        command: Vec::new(),
        user: None,
        group: None,
        folder: PathBuf::from("/"),
        environment: Default::default(),
        umask: 0,
        pidfile: None,
        make_folders: Vec::new(),
        executables,
        care: Care::default(),
        watchdog: None,
        ready_fd: None,
        unit: Some(unit?),
    })
}

fn refuse(value: &Value<'_>) {
    let unit = "`systemctl edit UNIT` is where that is said";
    let (key, there) = (value.key, elsewhere(value.key));
    let message = format!("`{key}` is systemd's to know: the unit that it runs has its own {there}");
    value.error(message, format!("take it out; {unit}"));
}

/// The name of a service unit, or of an instance of a template.
fn read_unit(value: Value<'_>) -> Option<String> {
    let name = value.words()?.into_owned();
    let (stem, suffix) = name.rsplit_once('.').unwrap_or((&name, ""));
    let wrong = if suffix != "service" {
        Some("is not the name of a service".to_owned())
    } else if !is_systemd_unit(&name) {
        Some("cannot be the name of a unit".to_owned())
    } else if stem.ends_with('@') {
        Some("is a template".to_owned())
    } else if name == "clusterd.service" || name == "clusterd-shutdown.service" {
        Some("is clusterd itself".to_owned())
    } else {
        None
    };
    if let Some(wrong) = wrong {
        let hint = match suffix {
            "service" if stem.ends_with('@') => format!("write which one of it: \"{stem}NAME.service\""),
            _ => "write a service as `systemctl list-unit-files --type=service` shows it: \"redis-server.service\"".to_owned(),
        };
        value.error(format!("\"{name}\" {wrong}"), hint);
        return None;
    }
    Some(name)
}

/// `stop.signal`
pub(super) fn no_signal(value: Value<'_>) -> Option<i32> {
    refuse(&value);
    None
}

/// `[log]`: what it prints goes into the journal.
pub(super) fn no_log(fields: Fields<'_>) -> Option<LogLimits> {
    let problem =
        Problem::new(fields.span, "what systemd runs prints into systemd's journal, not into a file of ours")
            .hint("take `[log]` out; journald.conf(5) has the limits, SystemMaxUse= and its like");
    fields.reader.log.error(problem);
    None
}

/// Leftovers are judged by the program that left them, which only systemd's unit names.
pub(super) fn check_leftovers(table: &Fields<'_>, run: &Run) {
    if let Some(vips) = table.rest().iter().find(|value| value.key == "vips") {
        vips.error(
            "`vips` is for a daemon that clusterd holds itself",
            "write `kind = \"exec\"` with its program in the foreground: keepalived --dont-fork",
        );
    }
    if run.executables.is_empty() {
        let problem =
            Problem::new(table.span, "what would be left over is judged by its program, and none is named")
                .hint("name it under `[run]`: executables = [\"/usr/bin/redis-server\"]");
        table.reader.log.error(problem);
    }
}
