//! What systemd starts at boot by itself, round the order; and unit files that it does not take.
//!
//! By files, so that it works where no systemd runs: the links in `*.wants` and `*.requires`, and the `ExecStart=` of what
//! they lead to.

use super::{About, Diagnosis, Patient, base};
use crate::model::Run;
use crate::process;
use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Where links are that `systemctl enable` makes.
const ENABLED: &str = "/etc/systemd/system";
/// Where units are, the first that has one counts.
const UNITS: [&str; 4] =
    ["/etc/systemd/system", "/run/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"];
/// The largest unit file that is read.
const MAX_UNIT: u64 = 1 << 20;
/// How long systemd may take to judge its unit files: less than another agent waits for us.
const VERIFY_WITHIN: Duration = Duration::from_secs(4);
/// The most that is read of its complaints, in bytes.
const MAX_SAID: u64 = 64 << 10;

pub fn examine(patient: &Patient) -> Vec<Diagnosis> {
    let mut found: Vec<Diagnosis> = Vec::new();
    let mut concern: BTreeSet<PathBuf> = BTreeSet::new();
    concern.extend(find_unit(patient, "clusterd.service"));
    for service in enabled(&patient.under(ENABLED)) {
        let Some(path) = find_unit(patient, &service) else { continue };
        let programs = programs(&path);
        let ours =
            patient.cluster.node(patient.node).instances.iter().map(|ix| patient.cluster.instance(*ix));
        let is_it = |run: &Run| run.systemd_unit() == Some(&service) || programs.iter().any(|p| runs(run, p));
        let started = ours.into_iter().find(|i| is_it(&i.unit.run));
        if let Some(instance) = started {
            let what = format!("systemd starts {service} at boot, which is what {} runs", instance.name);
            let why =
                "it goes round the order: it starts before what it needs, and a second one may be started";
            let fix = format!("systemctl disable {service}   (undo: systemctl enable {service})");
            let diagnosis = patient.found(About::Boot, what, why, fix);
            found.push(Diagnosis { disable: Some(service), ..diagnosis });
            concern.insert(path);
        }
    }
    found.extend(refused(patient, &concern));
    found
}

/// The services that something at boot wants.
fn enabled(folder: &Path) -> BTreeSet<String> {
    let entries = |folder: &Path| fs::read_dir(folder).into_iter().flatten().flatten();
    let mut services = BTreeSet::new();
    for wants in entries(folder) {
        let path = wants.path();
        if !path.extension().is_some_and(|e| e == "wants" || e == "requires") {
            continue;
        }
        // What an instance of a template is made of, its link tells by its own name.
        let names = entries(&path).filter_map(|link| link.file_name().into_string().ok());
        services.extend(names.filter(|name| name.ends_with(".service") && name != "clusterd.service"));
    }
    services
}

pub(super) fn find_unit(patient: &Patient, service: &str) -> Option<PathBuf> {
    let template = service.split_once('@').map(|(name, _)| format!("{name}@.service"));
    let names = [Some(service.to_owned()), template];
    let paths = names.iter().flatten().flat_map(|name| UNITS.map(|folder| patient.under(folder).join(name)));
    paths.into_iter().find(|path| path.exists())
}

/// What it starts: the first word of each `ExecStart=`.
fn programs(unit: &Path) -> Vec<PathBuf> {
    if fs::metadata(unit).map_or(true, |m| !m.is_file() || m.len() > MAX_UNIT) {
        return Vec::new();
    }
    let text = fs::read_to_string(unit).unwrap_or_default();
    let starts = text.lines().filter_map(|line| line.trim().strip_prefix("ExecStart="));
    let first = starts.filter_map(|line| line.split_ascii_whitespace().next());
    first.map(|word| PathBuf::from(word.trim_start_matches(['-', '@', ':', '+', '!', '|']))).collect()
}

/// Whether a unit of ours runs that program: by its path, or by the name of what its process shows.
fn runs(run: &Run, program: &Path) -> bool {
    let ours = run.command.first().map(PathBuf::from);
    let name = base(program);
    let is_named = |path: &Path| !name.is_empty() && base(path) == name;
    // An interpreter or a wrapper is everybody's.
    let is_common = ["sh", "bash", "env", "java", "python3", "perl"].contains(&name);
    !is_common && (ours.as_deref().is_some_and(is_named) || run.executables.iter().any(|e| is_named(e)))
}

/// What `systemd-analyze verify` says against these, where there is one.
fn refused(patient: &Patient, units: &BTreeSet<PathBuf>) -> Vec<Diagnosis> {
    let program = patient.under("/usr/bin/systemd-analyze");
    if units.is_empty() || !program.exists() {
        return Vec::new();
    }
    let complaints = verify(&program, units);
    let tell = |(unit, said): (&PathBuf, String)| {
        let shown = unit.display();
        let what = format!("systemd complains about {shown}: {said}");
        let fix = format!("systemd-analyze verify {shown}");
        patient.found(About::UnitFile, what, "it is not started, or not as it was meant", fix)
    };
    complaints.into_iter().map(tell).collect()
}

/// The first complaint about each of these units. None when there is no answer in time.
fn verify<'u>(program: &Path, units: &'u BTreeSet<PathBuf>) -> Vec<(&'u PathBuf, String)> {
    let mut command = Command::new(program);
    command
        .args(["verify", "--man=no", "--recursive-errors=no"])
        .args(units)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let Some(said) = process::unheld(|| command.spawn()).ok().and_then(complaints) else { return Vec::new() };
    let about = |unit: &'u PathBuf| {
        let line = said.lines().find(|line| names(line, base(unit)))?;
        Some((unit, line.chars().take(300).collect()))
    };
    units.iter().filter_map(about).collect()
}

/// What it printed, if it ended in time and not well.
fn complaints(mut child: Child) -> Option<String> {
    let stderr = child.stderr.take()?;
    // Read beside it, so that it never waits for us.
    let reader = std::thread::spawn(move || {
        let mut said = String::new();
        let _ = stderr.take(MAX_SAID).read_to_string(&mut said);
        said
    });
    let begun = Instant::now();
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if begun.elapsed() < VERIFY_WITHIN => std::thread::sleep(Duration::from_millis(20)),
            _ => {
                let _ = child.kill();
                let _ = child.wait();
                return None;
            }
        }
    };
    if status.success() { None } else { reader.join().ok() }
}

/// Whether a line is about a unit, by its name or its path, and not about one whose name merely ends so.
fn names(line: &str, unit: &str) -> bool {
    line.match_indices(unit).any(|(at, _)| at == 0 || line[..at].ends_with(['/', ' ', '"', '\'']))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::tests::{cluster, patient};

    #[test]
    fn what_is_enabled_at_boot_is_found_by_what_it_starts() {
        let cluster = cluster();
        let dir = tempfile::tempdir().unwrap();
        let (etc, lib) = (dir.path().join("etc/systemd/system"), dir.path().join("usr/lib/systemd/system"));
        let wants = etc.join("multi-user.target.wants");
        fs::create_dir_all(&wants).unwrap();
        fs::create_dir_all(&lib).unwrap();
        let unit = |name: &str, start: &str| {
            fs::write(lib.join(name), format!("[Service]\nExecStart={start}\n")).unwrap();
        };
        unit("nginx.service", "-/usr/sbin/nginx -g 'daemon on;'");
        unit("web-2@.service", "/opt/other/nginx");
        unit("ssh.service", "/usr/sbin/sshd -D");
        unit("clusterd.service", "/usr/bin/clusterd");
        assert!(examine(&patient(&cluster, dir.path())).is_empty(), "none of them is enabled");
        for link in ["nginx.service", "web-2@a.service", "ssh.service", "clusterd.service", "gone.service"] {
            std::os::unix::fs::symlink("/usr/lib/systemd/system/anything", wants.join(link)).unwrap();
        }
        let found = examine(&patient(&cluster, dir.path()));
        let disable: Vec<&str> = found.iter().filter_map(|f| f.disable.as_deref()).collect();
        assert_eq!(disable, ["nginx.service", "web-2@a.service"]);
        assert_eq!(found[0].what, "systemd starts nginx.service at boot, which is what web@n1 runs");
        assert!(found[0].fix.contains("undo: systemctl enable nginx.service"));
    }

    #[test]
    fn what_systemd_says_against_a_unit_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let script = dir.path().join("analyze");
        // By a process of its own: were it open for writing here, a fork of another test could carry that into its child,
        // and it could not be executed for that moment.
        let write = |text: &str| {
            let written = dir.path().join("text");
            fs::write(&written, text).unwrap();
            assert!(
                std::process::Command::new("/bin/cp").arg(&written).arg(&script).status().unwrap().success()
            );
            fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        };
        let units: BTreeSet<PathBuf> = ["/x/a.service", "/x/data.service"].map(PathBuf::from).into();
        let said = |units| verify(&script, units).into_iter().map(|(_, said)| said).collect::<Vec<_>>();
        write("#!/bin/sh\necho other.service: noise >&2\necho /x/data.service:3: Unknown key >&2\nexit 1\n");
        assert_eq!(said(&units), ["/x/data.service:3: Unknown key"]);
        write("#!/bin/sh\necho a.service: a word >&2\n");
        assert_eq!(said(&units), [""; 0]);
    }
}
