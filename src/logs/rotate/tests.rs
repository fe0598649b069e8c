use super::*;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64};

/// Folders on the file systems that are here: the one of temporary files, and memory (which cannot collapse).
fn folders() -> Vec<tempfile::TempDir> {
    let memory = tempfile::tempdir_in("/dev/shm").ok();
    std::iter::once(tempfile::tempdir().unwrap()).chain(memory).collect()
}

/// A daemon that prints numbered lines, its file open for its whole life.
struct Printer {
    file: File,
    next: u64,
}

impl Printer {
    fn new(path: &std::path::Path) -> Printer {
        Printer { file: OpenOptions::new().append(true).create(true).open(path).unwrap(), next: 0 }
    }

    fn print(&mut self, lines: u64) {
        for _ in 0..lines {
            writeln!(self.file, "line {:06}", self.next).unwrap();
            self.next += 1;
        }
    }
}

fn numbers(text: &[u8]) -> Vec<u64> {
    let text = std::str::from_utf8(text).unwrap();
    text.lines()
        .map(|l| l.strip_prefix("line ").and_then(|n| n.parse().ok()).unwrap_or_else(|| panic!("{l:?}")))
        .collect()
}

/// All that is kept, as a reader gets it.
fn read_all(log: &Log) -> Vec<u8> {
    let (mut at, mut bytes) = (0, Vec::new());
    loop {
        let chunk = log.lines(at, 5000, true).unwrap();
        if chunk.bytes.is_empty() {
            return bytes;
        }
        assert!(chunk.at == at || bytes.is_empty(), "a gap at {at}");
        at = chunk.next();
        bytes.extend(chunk.bytes);
    }
}

/// All that is kept, as `cat NAME.log.0* NAME.log` shows it, without blanks and holes.
fn cat(log: &Log) -> Vec<u8> {
    let mut bytes = Vec::new();
    let paths: Vec<PathBuf> = log.pieces().unwrap().into_iter().map(|p| p.path).collect();
    for path in paths.iter().chain([&log.path]) {
        let text = fs::read(path).unwrap();
        let begin = text.iter().position(|b| !matches!(b, 0 | b' ' | b'\n')).unwrap_or(text.len());
        bytes.extend(&text[begin..]);
    }
    bytes
}

fn assert_all(log: &Log, printed: u64, when: &str) {
    let all: Vec<u64> = (0..printed).collect();
    assert!(numbers(&read_all(log)) == all, "a reader misses or doubles lines {when}");
    assert!(numbers(&cat(log)) == all, "the files miss or double lines {when}");
}

/// Every pair of steps: the agent is killed at the first, the next one at the second, the one after completes it. The
/// daemon prints all along.
#[test]
fn a_kill_at_any_step_loses_no_line_and_doubles_none() {
    for folder in folders() {
        let mut told: BTreeMap<String, usize> = BTreeMap::new();
        for first in Step::ALL {
            for second in Step::ALL {
                let path = folder.path().join(format!("{first:?}-{second:?}.log"));
                let mut printer = Printer::new(&path);
                for (round, cut_at) in [first, second].into_iter().enumerate() {
                    printer.print(1500);
                    let log = Log::new(&path);
                    let ended = log.rotate_told(10_000, 100, &mut |step| {
                        *told.entry(format!("{step:?}")).or_default() += 1;
                        printer.print(1);
                        if step == cut_at { Err(io::ErrorKind::Interrupted.into()) } else { Ok(()) }
                    });
                    let when = format!("after {round} {first:?} {second:?}");
                    // A later life of the log may have no hole of whole blocks to collapse.
                    assert!(ended.is_err() || cut_at as usize > Step::Punched as usize, "{when}");
                    let all: Vec<u64> = (0..printer.next).collect();
                    assert!(
                        numbers(&read_all(&Log::new(&path))) == all,
                        "a reader misses or doubles lines {when}"
                    );
                }
                let log = Log::new(&path);
                log.rotate(10_000, 100).unwrap();
                assert_all(&log, printer.next, &format!("{first:?} {second:?}"));
                assert!(!log.beside(".part").exists());
                assert_eq!(log.end().unwrap(), printer.next * 12, "positions count all that was printed");
            }
        }
        assert_eq!(told.len(), Step::ALL.len() - if can_collapse(&folder) { 0 } else { 2 }, "{told:?}");
    }
}

/// Asked of the kernel, not of what is tested.
fn can_collapse(folder: &tempfile::TempDir) -> bool {
    let path = folder.path().join("asked");
    fs::write(&path, [b'x'; 3 * 65536]).unwrap();
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    let can = fallocate(&file, FallocateFlags::FALLOC_FL_COLLAPSE_RANGE, 0, 65536).is_ok();
    fs::remove_file(path).unwrap();
    can
}

#[test]
fn a_daemon_at_full_speed_loses_no_line() {
    const LINES: u64 = 600_000;
    for folder in folders() {
        let path = folder.path().join("x.log");
        let log = Log::new(&path);
        let (printed, followed) = (AtomicBool::new(false), AtomicU64::new(0));
        let rotations = std::thread::scope(|scope| {
            scope.spawn(|| {
                Printer::new(&path).print(LINES);
                printed.store(true, Relaxed);
            });
            // A reader that follows all along sees each line once, too.
            scope.spawn(|| {
                let (mut at, mut next) = (0, 0);
                while next < LINES {
                    let chunk = log.lines(at, 256 << 10, false).unwrap();
                    assert_eq!(chunk.at, at);
                    for number in numbers(&chunk.bytes) {
                        assert_eq!(number, next);
                        next += 1;
                    }
                    at = chunk.next();
                    followed.store(next, Relaxed);
                }
            });
            let mut rotations = 0;
            while !printed.load(Relaxed) || followed.load(Relaxed) < LINES {
                rotations += usize::from(log.rotate(100_000, 1000).unwrap() > 0);
            }
            rotations
        });
        assert!(rotations > 5, "only {rotations} rotations");
        assert_all(&log, LINES, "at full speed");
    }
}

#[test]
fn the_file_shrinks_and_so_many_pieces_are_kept() {
    for folder in folders() {
        let path = folder.path().join("x.log");
        let (log, mut printer) = (Log::new(&path), Printer::new(&path));
        for _ in 0..20 {
            printer.print(1000);
            log.rotate(20_000, 3).unwrap();
            let pieces = log.pieces().unwrap();
            assert!(pieces.len() <= 3 && pieces.iter().all(|p| p.length <= 20_000), "{pieces:?}");
            let on_disk = fs::metadata(&path).unwrap().blocks() * 512;
            assert!(on_disk <= 20_000 + 2 * 4096, "{on_disk} bytes on the disk");
            if can_collapse(&folder) {
                assert!(fs::metadata(&path).unwrap().len() <= 20_000 + 4096);
            }
        }
        let kept = numbers(&read_all(&log));
        assert_eq!(*kept.last().unwrap(), printer.next - 1);
        assert!(kept.len() as u64 * 12 > 60_000, "three pieces and the file");
        assert!(kept.windows(2).all(|w| w[1] == w[0] + 1));
    }
}

#[test]
fn far_too_much_is_dropped_without_being_copied() {
    for folder in folders() {
        let path = folder.path().join("x.log");
        let (log, mut printer) = (Log::new(&path), Printer::new(&path));
        printer.print(100_000);
        assert_eq!(log.rotate(12_000, 2).unwrap(), 2);
        let kept = numbers(&read_all(&log));
        assert_eq!((kept.len(), kept[0], *kept.last().unwrap()), (3000, 97_000, 99_999));
        // And with nothing to be kept at all.
        assert_eq!(log.rotate(6_000, 0).unwrap(), 0);
        assert!(log.pieces().unwrap().is_empty());
        let shrunk = fs::metadata(&path).unwrap().len() <= 6_000 + 4096;
        assert_eq!(shrunk, can_collapse(&folder));
        let kept = numbers(&read_all(&log));
        assert_eq!((kept.len(), kept[0]), (500, 99_500));
    }
}

#[test]
fn a_line_without_an_end_is_cut_and_nothing_of_it_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.log");
    fs::write(&path, vec![b'x'; 100_000]).unwrap();
    let log = Log::new(&path);
    log.rotate(30_000, 10).unwrap();
    let text = read_all(&log);
    assert!(text.len() == 100_000 && text.iter().all(|b| *b == b'x'));
    assert_eq!(log.lines(0, 1000, false).unwrap().bytes.len(), 1000, "longer than asked for: in parts");
    assert_eq!(log.lines(0, 1 << 20, false).unwrap().bytes.len(), 0, "it has no end yet");
}

/// What an operator does by hand (`> x.log`, `rm`) must not make rotated lines of new ones.
#[test]
fn a_file_that_was_truncated_or_replaced_begins_anew() {
    for folder in folders() {
        let path = folder.path().join("x.log");
        for remove in [false, true] {
            let (log, mut printer) = (Log::new(&path), Printer::new(&path));
            printer.print(5000);
            log.rotate(20_000, 2).unwrap();
            let before = log.end().unwrap();
            log.mark(1, before).unwrap();
            if remove {
                fs::remove_file(&path).unwrap();
                printer = Printer { next: printer.next, ..Printer::new(&path) };
            } else {
                File::create(&path).unwrap();
            }
            let from = printer.next;
            printer.print(10);
            for log in [&log, &Log::new(&path)] {
                assert_eq!(log.end().unwrap(), before + 120, "removed: {remove}");
                let chunk = log.lines(before, 1000, false).unwrap();
                assert_eq!(numbers(&chunk.bytes), (from..from + 10).collect::<Vec<_>>());
            }
            for entry in fs::read_dir(folder.path()).unwrap() {
                fs::remove_file(entry.unwrap().path()).unwrap();
            }
        }
    }
}

#[test]
fn without_its_state_a_log_loses_no_line() {
    for folder in folders() {
        let path = folder.path().join("x.log");
        let mut printer = Printer::new(&path);
        printer.print(5000);
        Log::new(&path).rotate(20_000, 100).unwrap();
        for name in ["x.log.state", "x.log.state.prev"] {
            fs::write(folder.path().join(name), "torn").unwrap();
        }
        printer.print(5000);
        let log = Log::new(&path);
        log.rotate(20_000, 100).unwrap();
        let text = String::from_utf8(read_all(&log)).unwrap();
        let read: Vec<u64> = text.lines().filter_map(|l| l.strip_prefix("line ")?.parse().ok()).collect();
        assert!(read == (0..10_000).collect::<Vec<_>>());
    }
}

#[test]
fn a_symlink_is_not_rotated() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.log");
    fs::write(folder.path().join("passwd"), [b'x'; 10_000]).unwrap();
    std::os::unix::fs::symlink(folder.path().join("passwd"), &path).unwrap();
    assert_eq!(Log::new(&path).rotate(1000, 1).unwrap_err().cause.raw_os_error(), Some(libc::ELOOP));
}

#[test]
fn lines_are_counted_from_the_end_over_pieces() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.log");
    let (log, mut printer) = (Log::new(&path), Printer::new(&path));
    assert_eq!(log.last_lines(5).unwrap(), 0);
    printer.print(5000);
    log.rotate(12_000, 100).unwrap();
    for count in [0, 1, 10, 1500, 4999, 5000, 9000] {
        assert_eq!(log.last_lines(count).unwrap(), 60_000_u64.saturating_sub(count as u64 * 12), "{count}");
    }
    let since = log.end().unwrap();
    assert!(log.last_words(since, 3, 100).unwrap().is_empty());
    printer.print(5);
    write!(printer.file, "and more").unwrap();
    assert_eq!(log.last_words(since, 2, 100).unwrap(), ["line 005004", "and more"]);
    assert_eq!(
        log.last_words(since, 9, 22).unwrap(),
        ["line 005004", "and more"],
        "the cut line is left out"
    );
    assert_eq!(log.last_words(since, 9, 3).unwrap(), ["ore"]);
    assert_eq!(log.last_words(since, 9, 1000).unwrap().len(), 6, "nothing from before the start");
    assert_eq!(log.last_lines(1).unwrap(), since + 60);
}
