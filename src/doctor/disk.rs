//! Disks that are full, or nearly so, or read-only.

use super::{About, Diagnosis, Patient};
use nix::sys::statvfs::{FsFlags, statvfs};

/// So much must be free: events, wishes and the output of services for a while.
const WANTED: u64 = 64 << 20;

pub fn examine(patient: &Patient) -> Vec<Diagnosis> {
    let judge = |folder: &std::path::PathBuf| {
        let shown = folder.display();
        let disk = match statvfs(folder) {
            Ok(disk) => disk,
            Err(e) => {
                let what = format!("the disk of {shown} cannot be looked at: {e}");
                return Some(patient.found(About::Disk, what, WHY, format!("ls -ld {shown}")));
            }
        };
        let (free, size) = (
            disk.blocks_available() as u64 * disk.fragment_size() as u64,
            disk.blocks() as u64 * disk.fragment_size() as u64,
        );
        let what = if disk.flags().contains(FsFlags::ST_RDONLY) {
            format!("the disk of {shown} is read-only")
        } else if disk.files() > 0 && disk.files_available() == 0 {
            format!("the disk of {shown} has no inode left")
        } else if free < WANTED.min(size / 20) {
            format!("the disk of {shown} is full: {} MiB of {} MiB are free", free >> 20, size >> 20)
        } else {
            return None;
        };
        let fix = match disk.flags().contains(FsFlags::ST_RDONLY) {
            true => {
                format!("dmesg | tail; then mount -o remount,rw \"$(findmnt -no TARGET --target {shown})\"")
            }
            false => format!("du -xh {shown} | sort -h | tail"),
        };
        Some(patient.found(About::Disk, what, WHY, fix))
    };
    patient.folders.iter().filter_map(judge).collect()
}

const WHY: &str = "what operators order does not survive a reboot, events and services' output are lost";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::tests::{cluster, patient};

    #[test]
    fn a_disk_with_room_is_no_trouble_and_one_that_is_not_there_is() {
        let cluster = cluster();
        let dir = tempfile::tempdir().unwrap();
        let mut patient = patient(&cluster, dir.path());
        patient.folders = vec!["/proc/self".into(), dir.path().join("none")];
        let found = examine(&patient);
        // /proc has no size, so it cannot be full.
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].what.contains("cannot be looked at"), "{found:?}");
    }
}
