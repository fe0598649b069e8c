//! What a service sees of the file system: mounts in a namespace of its own, planned before its child is made.
//!
//! As systemd does it (systemd.exec(5)): the whole tree is there, some of it read-only or empty. What stays writable below
//! a read-only path is put aside first, with its mounts as they are, and put back in its place: so nothing becomes
//! writable that was not before.

use crate::model::{ProtectHome, ProtectSystem, Run, Sight};
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// One thing that the child does, in the words of the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// What is at a path, and below it, is put aside: open_tree(2). The next [`Step::PutBack`]s take them in this order.
    PutAside(CString),
    /// The whole tree from here on is read-only: mount_setattr(2).
    ReadOnly(CString),
    /// What is at a path is covered by an empty tmpfs(5) with these options.
    Empty(CString, CString),
    /// What was put aside as this one of several comes to this path: move_mount(2).
    PutBack(usize, CString),
}

impl Step {
    /// What it is about, for a person.
    pub fn path(&self) -> &CString {
        match self {
            Step::PutAside(path) | Step::ReadOnly(path) | Step::Empty(path, _) | Step::PutBack(_, path) => {
                path
            }
        }
    }
}

const SYSTEM: &[&str] = &["/usr", "/boot", "/efi", "/bin", "/sbin", "/lib", "/lib32", "/lib64"];
const SETTINGS: &str = "/etc";
const HOMES: &[&str] = &["/home", "/root", "/run/user"];
/// What is of the kernel: its files have rights of their own.
const OF_THE_KERNEL: &[&str] = &["/dev", "/proc", "/sys"];
const PRIVATE: &[&str] = &["/tmp", "/var/tmp"];

/// The steps for a unit; none where it says nothing. `is_folder` tells whether there is a folder at a path that is no link.
pub(super) fn plan(run: &Run, is_folder: &dyn Fn(&Path) -> bool) -> Result<Vec<Step>, std::ffi::NulError> {
    let sight: &Sight = &run.care.sight;
    if *sight == Sight::default() {
        return Ok(Vec::new());
    }
    let there = |paths: &[&str]| -> Vec<PathBuf> {
        paths.iter().map(PathBuf::from).filter(|path| is_folder(path)).collect()
    };
    let (mut closed, mut open) = (sight.read_only_paths.clone(), sight.read_write_paths.clone());
    match sight.protect_system {
        ProtectSystem::No => {}
        ProtectSystem::Programs => closed.extend(there(SYSTEM)),
        ProtectSystem::Full => closed.extend(there(&[SYSTEM, &[SETTINGS]].concat())),
        ProtectSystem::Strict => {
            closed.push("/".into());
            open.extend(there(OF_THE_KERNEL));
            // Made for it to write to.
            open.extend(run.make_folders.iter().cloned());
        }
    }
    if sight.protect_home == ProtectHome::ReadOnly {
        closed.extend(there(HOMES));
    }
    // From the root on: what lies deeper is the more precise word.
    let mut words: Vec<(PathBuf, bool)> =
        closed.into_iter().map(|p| (p, false)).chain(open.into_iter().map(|p| (p, true))).collect();
    words.sort_by_key(|(path, open)| (path.components().count(), path.clone(), *open));
    words.dedup();

    let text = |path: &Path| CString::new(path.as_os_str().as_bytes());
    let (mut steps, mut later) = (Vec::new(), Vec::new());
    for (path, open) in words {
        if open {
            later.push(Step::PutBack(steps.len(), text(&path)?));
            steps.push(Step::PutAside(text(&path)?));
        } else {
            later.push(Step::ReadOnly(text(&path)?));
        }
    }
    steps.extend(later);
    if sight.protect_home == ProtectHome::Empty {
        for path in there(HOMES) {
            steps.push(Step::Empty(text(&path)?, CString::new("mode=0755,size=4k,nr_inodes=2,ro")?));
        }
    }
    if sight.private_tmp {
        for path in there(PRIVATE) {
            steps.push(Step::Empty(text(&path)?, CString::new("mode=1777,size=50%")?));
        }
    }
    Ok(steps)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(sight: Sight, make_folders: &[&str]) -> Vec<String> {
        let mut run: Run = serde_json::from_value(serde_json::json!({
            "kind": "exec", "command": ["/bin/true"], "folder": "/", "environment": {}, "umask": 18,
            "make_folders": make_folders, "executables": []
        }))
        .unwrap();
        run.care.sight = sight;
        let is_folder = |path: &Path| !path.starts_with("/bin") && !path.starts_with("/efi");
        let shown = |step: &Step| match step {
            Step::PutAside(path) => format!("aside {}", path.to_str().unwrap()),
            Step::ReadOnly(path) => format!("read-only {}", path.to_str().unwrap()),
            Step::Empty(path, _) => format!("empty {}", path.to_str().unwrap()),
            Step::PutBack(n, path) => format!("back {n} {}", path.to_str().unwrap()),
        };
        plan(&run, &is_folder).unwrap().iter().map(shown).collect()
    }

    #[test]
    fn nothing_is_planned_where_nothing_is_asked() {
        assert!(planned(Sight::default(), &["/run/x"]).is_empty());
    }

    #[test]
    fn the_deeper_word_counts() {
        let sight = Sight {
            protect_system: ProtectSystem::Strict,
            protect_home: ProtectHome::Empty,
            private_tmp: true,
            read_only_paths: vec!["/srv/data/keys".into()],
            read_write_paths: vec!["/srv/data".into()],
        };
        let expected = [
            "aside /dev",
            "aside /proc",
            "aside /sys",
            "aside /run/x",
            "aside /srv/data",
            "read-only /",
            "back 0 /dev",
            "back 1 /proc",
            "back 2 /sys",
            "back 3 /run/x",
            "back 4 /srv/data",
            "read-only /srv/data/keys",
            "empty /home",
            "empty /root",
            "empty /run/user",
            "empty /tmp",
            "empty /var/tmp",
        ];
        assert_eq!(planned(sight, &["/run/x"]), expected);
    }

    #[test]
    fn only_what_is_there_is_protected() {
        let sight = Sight { protect_system: ProtectSystem::Full, ..Sight::default() };
        let steps = planned(sight, &[]);
        assert!(steps.contains(&"read-only /usr".to_owned()) && steps.contains(&"read-only /etc".to_owned()));
        assert!(!steps.iter().any(|s| s.contains("/bin") || s.contains("efi")));
    }
}
