//! `units/NAME.toml` → a [`Unit`] filled in for one instance.

use super::care_table::{read_care, read_size};
use super::diag::{Problem, Span};
use super::fields::{Fields, Reader, Value};
use super::probe_table::{local_probe, remote_question};
use super::systemd_table;
use super::words::{show_duration, show_size};
use super::{Leftovers, LogLimits, Probe, Readiness, Restart, Run, RunKind, Stop, Unit};
use nix::sys::signal::Signal;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;
use toml::de::DeTable;

/// The defaults of a unit file. They are the ones that most daemons can live with; `plan` prints each that is used.
mod default {
    use std::time::Duration;
    pub const WITHIN: Duration = Duration::from_secs(60);
    pub const EVERY: Duration = Duration::from_secs(5);
    pub const LOST_AFTER: i64 = 3;
    pub const RUNNING: Duration = Duration::from_secs(1);
    pub const STOP_TIMEOUT: Duration = Duration::from_secs(30);
    pub const DELAY: Duration = Duration::from_secs(1);
    pub const MAX_DELAY: Duration = Duration::from_secs(30);
    pub const LIMIT: i64 = 5;
    pub const LIMIT_WITHIN: Duration = Duration::from_secs(5 * 60);
    pub const STABLE: Duration = Duration::from_secs(30);
    pub const UMASK: u32 = 0o022;
}

/// What a log file may be limited to: a rotation that frees less costs more than it is worth.
const LOG_SIZES: RangeInclusive<u64> = 64 << 10..=1 << 40;

/// A unit as filled in, with the places that later checks point at.
pub(super) struct Filled {
    pub unit: Unit,
    pub pidfile_at: Option<Span>,
    pub probe_at: Option<Span>,
}

/// Fills in one unit for one instance. `None` after a complaint.
///
/// `defaults` takes the values that the file did not say (key, value); pass it for one instance of a unit only.
pub(super) fn fill(
    reader: Reader<'_>,
    table: &DeTable<'_>,
    name: &str,
    node: IpAddr,
    defaults: Option<&mut Vec<(&'static str, String)>>,
) -> Option<Filled> {
    let before = reader.log.count();
    let top = reader.span(0..0);
    let mut said = Defaults(defaults);
    let mut fields = Fields::new(reader, table, top, format!("unit `{name}`"));
    fields.take("set");
    let exclusive = fields.take("exclusive").and_then(|v| v.flag()).unwrap_or(false);
    let mut run_table = fields
        .need("run", "add `[run]` with `command = [\"/path/to/program\"]`")
        .and_then(|v| v.table("`[run]`"))?;
    let (run, pidfile_at) = read_run(&mut run_table, &mut said);
    run_table.finish();
    let ready = fields.take("ready").and_then(|v| v.table("`[ready]`"));
    let kind = run.as_ref().map_or(RunKind::Exec, |r| r.kind);
    let (ready, probe_at) = read_ready(ready, kind, node, &mut said, (reader, top, name));
    let stop = read_stop(section(&mut fields, "stop", "`[stop]`"), kind, &mut said);
    let restart = read_restart(section(&mut fields, "restart", "`[restart]`"), &mut said);
    let leftovers = section(&mut fields, "leftovers", "`[leftovers]`");
    if kind == RunKind::Systemd
        && let (Some(table), Some(run)) = (&leftovers, &run)
    {
        systemd_table::check_leftovers(table, run);
    }
    let leftovers = read_leftovers(leftovers);
    let log = match section(&mut fields, "log", "`[log]`") {
        Some(table) if kind == RunKind::Systemd => systemd_table::no_log(table),
        None if kind == RunKind::Systemd => Some(LogLimits::default()),
        table => read_log(table, &mut said),
    };
    fields.finish();
    if reader.log.count() > before {
        return None;
    }
    let unit = Unit {
        name: name.to_string(),
        exclusive,
        run: run?,
        ready: ready?,
        stop: stop?,
        restart: restart?,
        leftovers,
        log: log?,
    };
    Some(Filled { unit, pidfile_at, probe_at })
}

fn section<'a>(fields: &mut Fields<'a>, key: &'static str, name: &'static str) -> Option<Fields<'a>> {
    fields.take(key).and_then(|v| v.table(name))
}

/// Fills in what the file does not say, and remembers that it did.
struct Defaults<'d>(Option<&'d mut Vec<(&'static str, String)>>);

impl Defaults<'_> {
    fn note(&mut self, key: &'static str, value: impl FnOnce() -> String) {
        if let Some(list) = &mut self.0 {
            list.push((key, value()));
        }
    }
    /// The time under `key` (`section.key` in full), or the default.
    fn time(
        &mut self,
        fields: &mut Option<Fields<'_>>,
        full: &'static str,
        otherwise: Duration,
        read: fn(&Value<'_>) -> Option<Duration>,
    ) -> Option<Duration> {
        match fields.as_mut().and_then(|f| f.take(last_word(full))) {
            Some(value) => read(&value),
            None => {
                self.note(full, || show_duration(otherwise));
                Some(otherwise)
            }
        }
    }
    fn number(
        &mut self,
        fields: &mut Option<Fields<'_>>,
        full: &'static str,
        otherwise: i64,
        range: std::ops::RangeInclusive<i64>,
    ) -> Option<u32> {
        let number = match fields.as_mut().and_then(|f| f.take(last_word(full))) {
            Some(value) => value.number(range)?,
            None => {
                self.note(full, || otherwise.to_string());
                otherwise
            }
        };
        u32::try_from(number).ok()
    }
}

fn last_word(full: &'static str) -> &'static str {
    full.rsplit('.').next().unwrap_or(full)
}

fn read_run(fields: &mut Fields<'_>, said: &mut Defaults<'_>) -> (Option<Run>, Option<Span>) {
    let kind = match fields.take("kind") {
        Some(value) => value.choice(&[
            ("exec", RunKind::Exec),
            ("forking", RunKind::Forking),
            ("oneshot", RunKind::Oneshot),
            ("notify", RunKind::Notify),
            ("systemd", RunKind::Systemd),
        ]),
        None => {
            said.note("run.kind", || "exec".to_string());
            Some(RunKind::Exec)
        }
    };
    if kind == Some(RunKind::Systemd) {
        return (systemd_table::read_run(fields), None);
    }
    if let Some(unit) = fields.take("unit") {
        unit.error(
            "`unit` names a unit of systemd, and this one is not run by systemd",
            "write `kind = \"systemd\"` and nothing of how it is run; or take this out",
        );
    }
    let command = fields
        .need(
            "command",
            "write the program and its arguments: command = [\"/usr/sbin/nginx\", \"-g\", \"daemon off;\"]",
        )
        .and_then(read_command);
    let user = fields.take("user").and_then(|v| v.words()).map(String::from);
    let group = fields.take("group").and_then(|v| v.words()).map(String::from);
    let folder = match fields.take("folder") {
        Some(value) => value.path(),
        None => {
            said.note("run.folder", || "/".to_string());
            Some(PathBuf::from("/"))
        }
    };
    let environment = fields.take("environment").map(read_environment).unwrap_or_default();
    let umask = match fields.take("umask") {
        Some(value) => read_umask(value),
        None => {
            said.note("run.umask", || format!("{:04o}", default::UMASK));
            Some(default::UMASK)
        }
    };
    let pidfile = fields.take("pidfile");
    let pidfile_at = pidfile.map(|v| v.span());
    let pidfile_path = pidfile.and_then(|v| v.path());
    if kind == Some(RunKind::Forking) && pidfile.is_none() {
        let problem = Problem::new(fields.span, "a forking unit has no `pidfile`").hint(
            "write `pidfile = \"/run/…\"`, the file in which the daemon leaves its number; \
             or run it in the foreground with kind = \"exec\"",
        );
        fields.reader.log.error(problem);
    }
    let make_folders = fields.take("make_folders").map(|v| v.paths()).unwrap_or_default();
    let executables = fields.take("executables").map(read_executables).unwrap_or_default();
    let care = read_care(fields);
    if care.sight.private_tmp
        && let (Some(value), Some(path)) = (pidfile, &pidfile_path)
        && (path.starts_with("/tmp") || path.starts_with("/var/tmp"))
    {
        value.error(
            "`pidfile` lies in a folder that only the service sees (`private_tmp`)",
            "write it below /run, where the agent sees it, too",
        );
    }
    let (watchdog, ready_fd) = (fields.take("watchdog"), fields.take("ready_fd"));
    for value in [watchdog, ready_fd].into_iter().flatten() {
        if kind.is_some_and(|kind| kind != RunKind::Notify) {
            value.error(
                format!("`{}` is for a unit that says itself how it fares", value.key),
                "write `kind = \"notify\"`, if the program does; or take this out",
            );
        }
    }
    let watchdog = watchdog.and_then(|v| v.span_of_time());
    let ready_fd = ready_fd.and_then(|v| v.number(3..=255)).and_then(|n| i32::try_from(n).ok());
    let run = kind.zip(command).zip(folder).zip(umask).map(|(((kind, command), folder), umask)| Run {
        kind,
        command,
        user,
        group,
        folder,
        environment,
        umask,
        pidfile: pidfile_path,
        make_folders,
        executables,
        care,
        watchdog,
        ready_fd,
        unit: None,
    });
    (run, pidfile_at)
}

/// Program and arguments: a list, with an absolute program.
pub(super) fn read_command(value: Value<'_>) -> Option<Vec<String>> {
    if value.raw().is_str() {
        value.error(
            format!("`{}` must be a list, not a string", value.key),
            "no shell takes part, so write each word by itself: [\"/path/to/program\", \"argument\"]",
        );
        return None;
    }
    let items = value.items();
    let command = value.texts();
    let Some(program) = command.first().filter(|_| command.len() == items.len()) else {
        if items.is_empty() && value.raw().is_array() {
            value.error(
                format!("`{}` is empty", value.key),
                "write the program first: [\"/path/to/program\"]",
            );
        }
        return None;
    };
    if !program.starts_with('/') {
        items[0].error(
            format!("the program \"{program}\" is not an absolute path"),
            "write where it stands, such as \"/usr/sbin/nginx\": the agent searches no PATH",
        );
        return None;
    }
    Some(command)
}

fn read_environment(value: Value<'_>) -> BTreeMap<String, String> {
    let Some(fields) = value.table("`environment`") else { return BTreeMap::new() };
    let mut environment = BTreeMap::new();
    for variable in fields.rest() {
        if variable.key.is_empty() || variable.key.contains(['=', '\0']) {
            let problem = Problem::new(variable.key_span, "this cannot be the name of a variable")
                .hint("write a name such as JAVA_HOME = \"/usr/lib/jvm/default-java\"");
            value.reader.log.error(problem);
        } else if let Some(text) = variable.text() {
            if variable.key.to_ascii_uppercase().contains("PASSWORD") {
                let problem = Problem::new(
                    variable.key_span,
                    format!("`{}` looks like a secret in a file that many can read", variable.key),
                )
                .hint("let the service read it from a file of its own");
                value.reader.log.warn(problem);
            }
            environment.insert(variable.key.to_string(), text.into_owned());
        }
    }
    environment
}

fn read_umask(value: Value<'_>) -> Option<u32> {
    let hint = "write it in octal and in quotes, such as \"0022\"";
    let text = value.text()?;
    let umask = u32::from_str_radix(&text, 8).ok().filter(|u| *u <= 0o777);
    if umask.is_none() {
        value.error(format!("`umask` is \"{text}\", which is not an octal number up to 0777"), hint);
    }
    umask
}

pub(super) fn read_executables(value: Value<'_>) -> Vec<PathBuf> {
    let mut paths = Vec::new();
    for item in value.items() {
        let Some(text) = item.words() else { continue };
        if text.contains('/') && !text.starts_with('/') {
            item.error(
                format!("\"{text}\" is neither a file name nor an absolute path"),
                "write \"java\" or \"/usr/bin/java\"",
            );
        } else {
            paths.push(PathBuf::from(&*text));
        }
    }
    paths
}

fn read_ready(
    mut fields: Option<Fields<'_>>,
    kind: RunKind,
    node: IpAddr,
    said: &mut Defaults<'_>,
    (reader, top, name): (Reader<'_>, Span, &str),
) -> (Option<Readiness>, Option<Span>) {
    let probe = fields.as_mut().and_then(|f| f.take("probe"));
    let probe_at = probe.map(|v| v.span());
    let local = match probe {
        Some(value) => local_probe(value, node).filter(|probe| {
            let heard = *probe != Probe::Notified || matches!(kind, RunKind::Notify | RunKind::Systemd);
            if !heard {
                value.error(
                    "nothing is heard from a unit of this kind",
                    "write `kind = \"notify\"` under `[run]`, if the program speaks sd_notify; or ask it by its protocol",
                );
            }
            heard
        }),
        None if kind == RunKind::Notify => {
            said.note("ready.probe", || "its own READY=1".to_string());
            Some(Probe::Notified)
        }
        None if kind == RunKind::Systemd => {
            said.note("ready.probe", || "systemd's word that it is active".to_string());
            Some(Probe::Notified)
        }
        None if kind == RunKind::Oneshot => Some(Probe::Completed),
        None => {
            let span = fields.as_ref().map_or(top, |f| f.span);
            said.note("ready.probe", || format!("running for {}", show_duration(default::RUNNING)));
            reader.log.warn(
                Problem::new(
                    span,
                    format!("unit `{name}` has no probe, so it counts as ready once it has run for 1s"),
                )
                .hint("alive is not ready: give it a `probe` under `[ready]`"),
            );
            Some(Probe::Running { for_: default::RUNNING })
        }
    };
    let remote = match fields.as_mut().and_then(|f| f.take("remote")) {
        Some(value) => remote_question(value, node),
        None => Some(match &local {
            Some(Probe::Ask(question)) => super::probe_table::from_outside(question, node),
            _ => None,
        }),
    };
    let within = said.time(&mut fields, "ready.within", default::WITHIN, |v| v.span_of_time());
    let usually = fields.as_mut().and_then(|f| f.take("usually")).and_then(|v| read_usually(v, within));
    let every = said.time(&mut fields, "ready.every", default::EVERY, |v| v.span_of_time());
    let lost_after = said.number(&mut fields, "ready.lost_after", default::LOST_AFTER, 1..=1000);
    if let Some(fields) = fields {
        fields.finish();
    }
    let ready = local.zip(remote).zip(within).zip(every).zip(lost_after).map(
        |((((local, remote), within), every), lost_after)| Readiness {
            local,
            remote,
            within,
            usually,
            every,
            lost_after,
        },
    );
    (ready, probe_at)
}

/// A hint that no start could keep would make every prediction one of a failure.
fn read_usually(value: Value<'_>, within: Option<Duration>) -> Option<Duration> {
    let usually = value.duration()?;
    if let Some(within) = within.filter(|within| usually > *within) {
        let (usually, within) = (show_duration(usually), show_duration(within));
        value.error(
            format!("`usually` is {usually}, above the deadline `within` of {within}"),
            "it is how long a start takes on most days: write a shorter `usually` or a longer `within`",
        );
        return None;
    }
    Some(usually)
}

fn read_stop(mut fields: Option<Fields<'_>>, kind: RunKind, said: &mut Defaults<'_>) -> Option<Stop> {
    let signal = match fields.as_mut().and_then(|f| f.take("signal")) {
        Some(value) if kind == RunKind::Systemd => systemd_table::no_signal(value),
        None if kind == RunKind::Systemd => Some(Signal::SIGTERM as i32),
        Some(value) => read_signal(value),
        None => {
            said.note("stop.signal", || "TERM".to_string());
            Some(Signal::SIGTERM as i32)
        }
    };
    let timeout = said.time(&mut fields, "stop.timeout", default::STOP_TIMEOUT, |v| v.duration());
    if let Some(fields) = fields {
        fields.finish();
    }
    Some(Stop { signal: signal?, timeout: timeout? })
}

fn read_signal(value: Value<'_>) -> Option<i32> {
    let text = value.text()?;
    let full = if text.starts_with("SIG") { text.to_string() } else { format!("SIG{text}") };
    match Signal::from_str(&full) {
        Ok(signal) => Some(signal as i32),
        Err(_) => {
            value.error(
                format!("there is no signal \"{text}\""),
                "write a name such as \"TERM\", \"INT\", \"QUIT\" or \"HUP\"",
            );
            None
        }
    }
}

fn read_restart(mut fields: Option<Fields<'_>>, said: &mut Defaults<'_>) -> Option<Restart> {
    let delay = said.time(&mut fields, "restart.delay", default::DELAY, |v| v.duration());
    let max_at = fields.as_mut().and_then(|f| f.take("max"));
    let max = said.time(&mut fields, "restart.max", default::MAX_DELAY.max(delay.unwrap_or_default()), |v| {
        v.duration()
    });
    if let (Some(delay), Some(max), Some(value)) = (delay, max, max_at)
        && max < delay
    {
        value.error(
            format!("`max` is {}, below the first delay of {}", show_duration(max), show_duration(delay)),
            "the delay doubles from `delay` up to `max`: write a longer `max`",
        );
    }
    let limit = said.number(&mut fields, "restart.limit", default::LIMIT, 0..=1_000_000);
    let within = said.time(&mut fields, "restart.within", default::LIMIT_WITHIN, |v| v.span_of_time());
    let stable = said.time(&mut fields, "restart.stable", default::STABLE, |v| v.duration());
    let unready_for = fields.as_mut().and_then(|f| f.take("unready_for")).and_then(|v| v.span_of_time());
    if let Some(fields) = fields {
        fields.finish();
    }
    Some(Restart { delay: delay?, max: max?, limit: limit?, within: within?, stable: stable?, unready_for })
}

fn read_leftovers(fields: Option<Fields<'_>>) -> Leftovers {
    let Some(mut fields) = fields else { return Leftovers::default() };
    let mut paths = |key| fields.take(key).map(|v| v.paths_of_any_name()).unwrap_or_default();
    let (pidfiles, sockets, locks) = (paths("pidfiles"), paths("sockets"), paths("locks"));
    let vips = fields.take("vips").and_then(|v| v.flag()).unwrap_or(false);
    let leftovers = Leftovers { pidfiles, sockets, locks, vips, addresses: Vec::new() };
    fields.finish();
    leftovers
}

fn read_log(mut fields: Option<Fields<'_>>, said: &mut Defaults<'_>) -> Option<LogLimits> {
    let otherwise = LogLimits::default();
    let size = match fields.as_mut().and_then(|f| f.take("size")) {
        Some(value) => read_size(value).filter(|size| {
            let sound = LOG_SIZES.contains(size);
            if !sound {
                let (least, most) = (show_size(*LOG_SIZES.start()), show_size(*LOG_SIZES.end()));
                value.error(
                    format!("`size` is {}, which is out of range", show_size(*size)),
                    format!("write a size from \"{least}\" to \"{most}\""),
                );
            }
            sound
        }),
        None => {
            said.note("log.size", || show_size(otherwise.size));
            Some(otherwise.size)
        }
    };
    let keep = said.number(&mut fields, "log.keep", otherwise.keep.into(), 0..=1000);
    if let Some(fields) = fields {
        fields.finish();
    }
    Some(LogLimits { size: size?, keep: keep? })
}
