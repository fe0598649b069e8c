//! Removing what was judged, with a copy for the operator.

use super::place::{Kind, NotRemoved, Place};
use crate::crash::{self, Done};
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// So many copies are kept, of at most 64 KiB each: 6 MiB in all. The oldest go first.
const MAX_KEPT: usize = 100;

/// What became of a removal that was done.
pub(crate) struct Removed {
    pub kept: Option<PathBuf>,
    /// Why there is no copy of a file; the removal does not wait for a full disk.
    pub not_kept: Option<io::Error>,
}

/// Removes exactly the entry that was judged.
pub(super) fn remove(place: &Place, instance: &str, keep: &Path) -> Result<Removed, NotRemoved> {
    let copied = match place.kind() {
        Kind::File => {
            let copied = copy(place, instance, keep);
            crash::here(Done::Copied);
            copied.map(Some)
        }
        _ => Ok(None), // there is nothing in a socket
    };
    if let Err(e) = place.remove() {
        if let Ok(Some(copy)) = copied {
            let _ = fs::remove_file(copy);
        }
        return Err(e);
    }
    crash::here(Done::Removed);
    let (kept, not_kept) = match copied {
        Ok(kept) => (kept, None),
        Err(e) => (None, Some(e)),
    };
    Ok(Removed { kept, not_kept })
}

/// Copies are numbered: a wall clock may say 1970.
fn copy(place: &Place, instance: &str, keep: &Path) -> io::Result<PathBuf> {
    let bytes = place.read()?;
    fs::create_dir_all(keep)?;
    let mut numbers: Vec<(u64, PathBuf)> = fs::read_dir(keep)?
        .filter_map(|e| {
            let path = e.ok()?.path();
            Some((path.file_name()?.to_str()?.split_once('-')?.0.parse().ok()?, path))
        })
        .collect();
    numbers.sort();
    let next = numbers.last().map_or(1, |(n, _)| n + 1);
    let surplus = (numbers.len() + 1).saturating_sub(MAX_KEPT);
    for (_, old) in &numbers[..surplus.min(numbers.len())] {
        fs::remove_file(old)?;
    }
    let name = place.path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let path = keep.join(format!("{next:08}-{}-{name}", instance.replace('/', "_")));
    let mut file = fs::File::options().write(true).create(true).truncate(true).mode(0o600).open(&path)?;
    file.write_all(&bytes)?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::super::place::Found;
    use super::*;

    fn found(path: &Path) -> Place {
        match Place::find(path).unwrap() {
            Found::Entry(place) => place,
            _ => panic!("{} is there", path.display()),
        }
    }

    #[test]
    fn what_took_the_place_of_the_judged_is_not_removed() {
        let dir = tempfile::tempdir().unwrap();
        let (path, keep) = (dir.path().join("redis.pid"), dir.path().join("kept"));
        type Swap = fn(&Path);
        let swaps: [(&str, Swap); 4] = [
            ("another file", |p| {
                fs::write(p.with_extension("new"), "418\n").unwrap();
                fs::rename(p.with_extension("new"), p).unwrap();
            }),
            ("written again, same length", |p| fs::write(p, "418\n").unwrap()),
            ("a symlink", |p| {
                fs::remove_file(p).unwrap();
                std::os::unix::fs::symlink("/etc/passwd", p).unwrap();
            }),
            ("a folder", |p| {
                fs::remove_file(p).unwrap();
                fs::create_dir(p).unwrap();
            }),
        ];
        for (what, swap) in swaps {
            fs::write(&path, "417\n").unwrap();
            // The change must not fall into the same tick of the kernel's file clock.
            let past = std::time::SystemTime::now() - std::time::Duration::from_secs(60);
            fs::File::options().write(true).open(&path).unwrap().set_modified(past).unwrap();
            let place = found(&path);
            swap(&path);
            assert!(matches!(remove(&place, "redis@here", &keep), Err(NotRemoved::Changed)), "{what}");
            assert!(path.symlink_metadata().is_ok(), "{what} stays");
            let kept = fs::read_dir(&keep).map_or(0, |d| d.count());
            assert_eq!(kept, 0, "no copy of what was not removed");
            if path.is_dir() { fs::remove_dir(&path).unwrap() } else { fs::remove_file(&path).unwrap() }
        }
    }

    #[test]
    fn the_folder_is_the_one_that_was_judged() {
        let dir = tempfile::tempdir().unwrap();
        let (before, after) = (dir.path().join("run"), dir.path().join("moved"));
        fs::create_dir(&before).unwrap();
        fs::write(before.join("redis.pid"), "417").unwrap();
        let place = found(&before.join("redis.pid"));
        fs::rename(&before, &after).unwrap();
        fs::create_dir(&before).unwrap();
        fs::write(before.join("redis.pid"), "living").unwrap();
        remove(&place, "redis@here", &dir.path().join("kept")).ok().unwrap();
        assert!(before.join("redis.pid").exists() && !after.join("redis.pid").exists());
    }

    #[test]
    fn what_is_gone_already_is_no_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("redis.pid");
        fs::write(&path, "417").unwrap();
        let place = found(&path);
        fs::remove_file(&path).unwrap();
        assert!(place.remove().is_ok());
    }

    #[test]
    fn the_oldest_copies_go_first() {
        let dir = tempfile::tempdir().unwrap();
        let (path, keep) = (dir.path().join("redis.pid"), dir.path().join("kept"));
        for n in 1..=MAX_KEPT + 3 {
            fs::write(&path, n.to_string()).unwrap();
            let kept = remove(&found(&path), "redis@here", &keep).ok().unwrap().kept.unwrap();
            assert_eq!(kept, keep.join(format!("{n:08}-redis@here-redis.pid")));
        }
        let mut left: Vec<_> = fs::read_dir(&keep).unwrap().map(|e| e.unwrap().file_name()).collect();
        left.sort();
        assert_eq!((left.len(), left[0].to_str()), (MAX_KEPT, Some("00000004-redis@here-redis.pid")));
    }

    #[test]
    fn a_copy_that_cannot_be_kept_does_not_stop_the_removal() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("redis.pid");
        fs::write(&path, "417").unwrap();
        let removed = remove(&found(&path), "redis@here", Path::new("/proc/nowhere")).ok().unwrap();
        assert!(removed.kept.is_none() && removed.not_kept.is_some() && !path.exists());
    }
}
