//! Units of systemd that instances are run by: whether they are there at all.

use super::boot::find_unit;
use super::{About, Diagnosis, Patient};
use std::fs;
use std::path::Path;

pub fn examine(patient: &Patient) -> Vec<Diagnosis> {
    let ours = patient.cluster.node(patient.node).instances.iter().map(|ix| patient.cluster.instance(*ix));
    let by_systemd = ours.filter_map(|instance| Some((instance, instance.unit.run.systemd_unit()?)));
    let look = |(instance, unit): (&crate::model::Instance, &str)| {
        let name = &instance.name;
        let (problem, fix) = match find_unit(patient, unit) {
            None => ("is not there", format!("apt-file search {unit}, or correct run.unit")),
            Some(path) if is_masked(&path) => {
                ("is masked", format!("systemctl unmask {unit}   (undo: systemctl mask {unit})"))
            }
            Some(_) => return None,
        };
        let what = format!("{unit}, by which systemd is to run {name}, {problem}");
        Some(patient.found(About::Program, what, "it cannot start here", fix))
    };
    by_systemd.filter_map(look).collect()
}

/// A unit that leads nowhere is one that nobody can start (systemd.unit(5)).
fn is_masked(path: &Path) -> bool {
    fs::read_link(path).is_ok_and(|to| to == Path::new("/dev/null"))
        || fs::metadata(path).is_ok_and(|m| m.len() == 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::tests::{cluster_with, patient};

    #[test]
    fn a_unit_that_is_missing_or_masked_or_enabled_is_told() {
        let cluster = cluster_with("[run]\nkind = \"systemd\"\nunit = \"nginx.service\"\n");
        let dir = tempfile::tempdir().unwrap();
        let etc = dir.path().join("etc/systemd/system");
        fs::create_dir_all(etc.join("multi-user.target.wants")).unwrap();
        let found = || crate::doctor::examine(&patient(&cluster, dir.path()));
        let said = || found().into_iter().map(|f| f.what).collect::<Vec<_>>();
        assert_eq!(said(), ["nginx.service, by which systemd is to run web@n1, is not there"]);
        let unit = etc.join("nginx.service");
        std::os::unix::fs::symlink("/dev/null", &unit).unwrap();
        assert_eq!(said(), ["nginx.service, by which systemd is to run web@n1, is masked"]);
        fs::remove_file(&unit).unwrap();
        fs::write(&unit, "[Service]\nExecStart=/opt/strange/name\n").unwrap();
        assert_eq!(said(), [""; 0]);
        std::os::unix::fs::symlink(&unit, etc.join("multi-user.target.wants/nginx.service")).unwrap();
        assert_eq!(said(), ["systemd starts nginx.service at boot, which is what web@n1 runs"]);
        assert_eq!(found()[0].disable.as_deref(), Some("nginx.service"));
    }
}
