//! Programs that are not there, users that do not exist.

use super::{About, Diagnosis, Patient};
use nix::unistd::{Group, User};
use std::os::unix::fs::PermissionsExt;

pub fn examine(patient: &Patient) -> Vec<Diagnosis> {
    let mut found: Vec<Diagnosis> = Vec::new();
    for ix in &patient.cluster.node(patient.node).instances {
        let instance = patient.cluster.instance(*ix);
        let (name, run) = (&instance.name, &instance.unit.run);
        let mut add = |what: String, fix: String| {
            if !found.iter().any(|f| f.what == what) {
                found.push(patient.found(About::Program, what, WHY, fix));
            }
        };
        if let Some(program) = run.command.first() {
            let path = patient.under(program);
            let problem = match std::fs::metadata(&path) {
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => Some("is not there"),
                Err(_) => Some("cannot be looked at"),
                Ok(meta) if !meta.is_file() => Some("is no file"),
                Ok(meta) if meta.permissions().mode() & 0o111 == 0 => Some("may not be executed"),
                Ok(_) => None,
            };
            if let Some(problem) = problem {
                let fix = format!(
                    "apt-file search {program}, or correct run.command in units/{}.toml",
                    instance.unit.name
                );
                add(format!("{program}, which {name} runs, {problem}"), fix);
            }
        }
        if let Some(user) = run.user.as_ref().filter(|user| matches!(User::from_name(user), Ok(None))) {
            let fix = format!("adduser --system --group {user}");
            add(format!("there is no user {user}, as whom {name} is to run"), fix);
        }
        if let Some(group) = run.group.as_ref().filter(|group| matches!(Group::from_name(group), Ok(None))) {
            let fix = format!("addgroup --system {group}");
            add(format!("there is no group {group}, as which {name} is to run"), fix);
        }
    }
    found
}

const WHY: &str = "it cannot start here";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::tests::{cluster, patient};

    #[test]
    fn what_is_missing_is_named_with_who_runs_it() {
        let cluster = cluster();
        let dir = tempfile::tempdir().unwrap();
        let found = examine(&patient(&cluster, dir.path()));
        let said: Vec<&str> = found.iter().map(|f| f.what.as_str()).collect();
        assert_eq!(
            said,
            [
                "/usr/sbin/nginx, which web@n1 runs, is not there",
                "there is no user nobody-at-all, as whom web@n1 is to run"
            ]
        );
        let bin = dir.path().join("usr/sbin");
        std::fs::create_dir_all(&bin).unwrap();
        std::fs::write(bin.join("nginx"), "").unwrap();
        assert!(examine(&patient(&cluster, dir.path()))[0].what.ends_with("may not be executed"));
    }
}
