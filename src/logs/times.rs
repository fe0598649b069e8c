//! At which time a log had which length.
//!
//! The lines are the service's own and carry no time of ours. The keeper notes the wall clock and the log's end when the
//! log has grown, and when the service has ended. So `--since` begins at the last note before that time: never later
//! than asked, and earlier by at most the time between two notes.

use super::{Log, LogError, cannot};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;

/// A file of notes longer than this is thinned out: about 2,500 notes.
const MAX_BYTES: u64 = 64 << 10;

/// The log's end at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mark {
    /// The wall clock, milliseconds since 1970.
    at: u64,
    position: u64,
}

impl Log {
    /// Notes that the log ended at this position at this time.
    pub fn mark(&self, at: u64, position: u64) -> Result<(), LogError> {
        self.append_mark(Mark { at, position }).map_err(cannot("write", &self.beside(".times")))
    }

    fn append_mark(&self, mark: Mark) -> io::Result<()> {
        let path = self.beside(".times");
        let open = || OpenOptions::new().append(true).create(true).mode(0o640).open(&path);
        let mut file = open()?;
        if file.metadata()?.len() > MAX_BYTES {
            let thinner: String = thin(self.marks()).iter().map(line).collect();
            let aside = self.beside(".times.new");
            fs::write(&aside, thinner)?;
            fs::rename(&aside, &path)?;
            file = open()?;
        }
        // One write: a kill leaves all of it or nothing.
        file.write_all(line(&mark).as_bytes())
    }

    /// A position such that everything printed since that time lies after it.
    pub fn since(&self, at: u64) -> u64 {
        let marks = self.marks();
        // Wall clocks jump: the earliest place that fits is never too late.
        let last_before = marks.iter().position(|m| m.at > at).unwrap_or(marks.len());
        last_before.checked_sub(1).map_or(0, |i| marks[i].position)
    }

    /// The highest position that was noted.
    pub(super) fn last_mark(&self) -> u64 {
        self.marks().last().map_or(0, |m| m.position)
    }

    /// All notes, oldest first. What a power cut damaged is left out.
    fn marks(&self) -> Vec<Mark> {
        let mut text = Vec::new();
        let read =
            File::open(self.beside(".times")).and_then(|f| f.take(2 * MAX_BYTES).read_to_end(&mut text));
        if read.is_err() {
            return Vec::new();
        }
        let mut marks: Vec<Mark> = Vec::new();
        for line in String::from_utf8_lossy(&text).split_inclusive('\n') {
            let Some((at, position)) = line.strip_suffix('\n').and_then(|l| l.split_once(' ')) else {
                continue;
            };
            let (Ok(at), Ok(position)) = (at.parse(), position.parse()) else { continue };
            if marks.last().is_none_or(|before| before.position <= position) {
                marks.push(Mark { at, position });
            }
        }
        marks
    }
}

fn line(mark: &Mark) -> String {
    format!("{} {}\n", mark.at, mark.position)
}

/// Every second one, but all of the newest quarter: what is long ago is asked for less exactly.
fn thin(marks: Vec<Mark>) -> Vec<Mark> {
    let newest = marks.len() - marks.len() / 4;
    marks.into_iter().enumerate().filter(|(i, _)| *i >= newest || i % 2 == 0).map(|(_, m)| m).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(dir: &tempfile::TempDir) -> Log {
        Log::new(dir.path().join("x.log"))
    }

    #[test]
    fn since_begins_at_the_last_note_before_that_time() {
        let dir = tempfile::tempdir().unwrap();
        let log = log(&dir);
        assert_eq!(log.since(50), 0, "without notes all of it may be meant");
        for (at, position) in [(10, 0), (20, 100), (30, 250)] {
            log.mark(at, position).unwrap();
        }
        assert_eq!([5, 10, 19, 20, 29, 30, 99].map(|at| log.since(at)), [0, 0, 0, 100, 100, 250, 250]);
    }

    #[test]
    fn after_a_jump_of_the_clock_it_begins_too_early_rather_than_too_late() {
        let dir = tempfile::tempdir().unwrap();
        let log = log(&dir);
        for (at, position) in [(10, 10), (90, 20), (30, 30), (40, 40)] {
            log.mark(at, position).unwrap();
        }
        assert_eq!(log.since(35), 10);
    }

    #[test]
    fn damaged_notes_are_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let log = log(&dir);
        fs::write(dir.path().join("x.log.times"), "10 5\n20 \u{0}\u{0}\n30 4\n40 9\n50 1").unwrap();
        assert_eq!((log.since(45), log.last_mark()), (9, 9));
    }

    #[test]
    fn the_notes_are_bounded_and_the_newest_stay_exact() {
        let dir = tempfile::tempdir().unwrap();
        let log = log(&dir);
        let times = dir.path().join("x.log.times");
        for i in 0..20_000_u64 {
            log.mark(1_700_000_000_000 + i, i).unwrap();
            if i % 1000 == 0 {
                assert!(fs::metadata(&times).unwrap().len() < MAX_BYTES + 100);
            }
        }
        assert_eq!(log.since(1_700_000_000_000 + 19_990), 19_990);
        assert!(log.since(1_700_000_000_000 + 10) <= 10);
    }
}
