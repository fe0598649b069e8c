//! Who looks after the logs of a machine: one thread, which may wait for the disk.
//!
//! It looks at the logs of what runs, one statx each: every [`SLOWLY`] while they grow slowly, sooner when one of them
//! would be full before that, and not at all while nothing is printed. So a file may be larger than its limit by what is
//! printed between two looks.

use super::rest::{Bell, Ear};
use super::{Log, LogError};
use crate::model::LogLimits;
use std::collections::{HashMap, HashSet};
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Between two looks at what grows slowly: half a wake-up a second.
const SLOWLY: Duration = Duration::from_secs(2);
/// Between two looks at what grows fast.
const AT_MOST_OFTEN: Duration = Duration::from_millis(20);
/// Until the second look, before which it is not known how fast a log grows.
const AFTER_THE_FIRST: Duration = Duration::from_millis(200);
/// How long all logs are left alone after a crash of the thread over one of them.
const AFTER_A_CRASH: Duration = Duration::from_secs(1);
/// How often the time and the length of a growing log are noted: how exact `--since` is.
const NOTE_EVERY: Duration = Duration::from_secs(10);
/// How long a log that could not be rotated is left alone. Each try may copy a whole piece before it fails.
const AFTER_TROUBLE: Duration = Duration::from_secs(30);

/// A log cannot be rotated, or can be again.
#[derive(Clone, Debug)]
pub struct Trouble {
    pub instance: Arc<str>,
    /// `None`: it is over.
    pub error: Option<String>,
}

/// All logs of this machine, and the thread that rotates them.
pub struct Keeper {
    folder: PathBuf,
    /// What had a file of ours beside it when the keeper began, so that the first look at any other is quick.
    rotated: HashSet<String>,
    shared: Arc<Mutex<Shared>>,
    bell: Arc<Bell>,
}

#[derive(Default)]
struct Shared {
    logs: HashMap<Arc<str>, Entry>,
    /// Nothing runs or nothing is printed, and the thread waits to be told.
    idle: bool,
    /// Something began or ended since the last look.
    news: bool,
}

struct Entry {
    log: Arc<Log>,
    /// While it runs.
    limits: Option<LogLimits>,
    /// It has ended, and was not looked at since.
    ended: bool,
}

impl Keeper {
    /// Begins to look after the logs in this folder, which need not exist yet. `tell` is called by the thread.
    ///
    /// # Errors
    /// When there can be no further thread, or no descriptor.
    pub fn start(folder: PathBuf, tell: impl Fn(Trouble) + Send + 'static) -> std::io::Result<Keeper> {
        let rotated = rotated(&folder);
        let shared: Arc<Mutex<Shared>> = Arc::default();
        let bell = Arc::new(Bell::new()?);
        let (at, theirs, rung) = (folder.clone(), shared.clone(), bell.clone());
        thread::Builder::new().name("logs".into()).spawn(move || {
            // One log that crashes it is looked at again, with all the others.
            while catch_unwind(AssertUnwindSafe(|| keep(&at, &theirs, &rung, &tell))).is_err() {
                thread::sleep(AFTER_A_CRASH);
            }
        })?;
        Ok(Keeper { folder, rotated, shared, bell })
    }

    /// Where an instance prints to.
    pub fn path(&self, instance: &str) -> PathBuf {
        self.folder.join(format!("{instance}.log"))
    }

    /// The log of an instance. There is one for all who read it, because they must know of its rotations.
    pub fn log(&self, instance: &str) -> Arc<Log> {
        self.entry(&mut lock(&self.shared), instance).log.clone()
    }

    /// From now on it prints, and is rotated.
    pub fn begun(&self, instance: &str, limits: LogLimits) {
        let mut shared = lock(&self.shared);
        let entry = self.entry(&mut shared, instance);
        (entry.limits, entry.ended) = (Some(limits), false);
        self.tell(shared);
    }

    /// It prints no more. It is looked at once again.
    pub fn ended(&self, instance: &str) {
        let mut shared = lock(&self.shared);
        if let Some(entry) = shared.logs.get_mut(instance) {
            entry.ended = true;
            self.tell(shared);
        }
    }

    /// Wakes the thread only where it would sleep on: a look for each of a thousand that begin would be a million looks.
    fn tell(&self, mut shared: MutexGuard<'_, Shared>) {
        shared.news = true;
        if std::mem::take(&mut shared.idle) {
            self.bell.ring();
        }
    }

    fn entry<'a>(&self, shared: &'a mut Shared, instance: &str) -> &'a mut Entry {
        shared.logs.entry(instance.into()).or_insert_with(|| {
            let path = self.path(instance);
            let log = if self.rotated.contains(instance) { Log::new(path) } else { Log::never_rotated(path) };
            Entry { log: Arc::new(log), limits: None, ended: false }
        })
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whose log has a state or a piece beside it.
fn rotated(folder: &Path) -> HashSet<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let names: Vec<String> = entries.filter_map(|e| e.file_name().into_string().ok()).collect();
    let beside = names.iter().filter_map(|n| n.rsplit_once(".log.")).filter(|(_, what)| *what != "times");
    beside.map(|(instance, _)| instance.to_owned()).collect()
}

/// A log that runs, as copied out for a look.
struct Look {
    instance: Arc<str>,
    log: Arc<Log>,
    limits: LogLimits,
    /// For the last time.
    last: bool,
}

/// What is to be looked at; nothing when nothing runs, and then the next [`Keeper::begun`] will ring.
fn due(shared: &Mutex<Shared>) -> Vec<Look> {
    let mut shared = lock(shared);
    let mut looks = Vec::new();
    for (instance, entry) in &mut shared.logs {
        let Some(limits) = entry.limits else { continue };
        let last = std::mem::take(&mut entry.ended);
        if last {
            entry.limits = None;
        }
        looks.push(Look { instance: instance.clone(), log: entry.log.clone(), limits, last });
    }
    (shared.idle, shared.news) = (looks.is_empty(), false);
    looks
}

/// The thread.
fn keep(folder: &Path, shared: &Mutex<Shared>, bell: &Bell, tell: &dyn Fn(Trouble)) {
    let mut known: HashMap<Arc<str>, Known> = HashMap::new();
    // From when nothing was printed any more until something is.
    let mut ear: Option<Ear> = None;
    loop {
        let looks = due(shared);
        if looks.is_empty() {
            bell.sleep(None);
            continue;
        }
        let mut next = Next::Rest;
        for look in looks {
            let it = known.entry(look.instance.clone()).or_default();
            let before = it.trouble.is_some();
            next = next.min(it.look(&look));
            if before != it.trouble.is_some() {
                tell(Trouble { instance: look.instance.clone(), error: it.trouble.clone() });
            }
            if look.last {
                it.end = None; // how fast it grew says nothing of its next run
            }
        }
        match (next, ear.take()) {
            (Next::In(pause), _) => bell.sleep(Some(pause)),
            // Looked at again, in case that something was printed before it could be heard.
            (Next::Rest, None) => match Ear::at(folder) {
                Ok(hears) => ear = Some(hears),
                Err(_) => bell.sleep(Some(SLOWLY)),
            },
            (Next::Rest, Some(hears)) => {
                if rest(shared) {
                    bell.sleep_until_heard(&hears);
                    lock(shared).idle = false;
                }
                // How slowly it grew in a long rest says nothing of how fast it does now.
                known.values_mut().for_each(|it| it.end = None);
            }
        }
    }
}

/// From now on whoever begins or ends rings; `false` when somebody has since the last look.
fn rest(shared: &Mutex<Shared>) -> bool {
    let mut shared = lock(shared);
    shared.idle = !shared.news;
    shared.idle
}

/// When a log is to be looked at again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Next {
    In(Duration),
    /// Not until something is printed.
    Rest,
}

/// What the thread knows of one log.
#[derive(Default)]
struct Known {
    /// Its end at the last look, and when that was.
    end: Option<(u64, Instant)>,
    /// The end that was noted last, and when.
    noted: Option<(u64, Instant)>,
    trouble: Option<String>,
    not_before: Option<Instant>,
}

impl Known {
    /// Looks at it, and does what is due.
    fn look(&mut self, look: &Look) -> Next {
        let now = Instant::now();
        if self.not_before.is_some_and(|at| now < at) && !look.last {
            return Next::In(SLOWLY);
        }
        match self.tend(look, now) {
            Ok(next) => {
                (self.trouble, self.not_before) = (None, None);
                next
            }
            Err(e) => {
                self.trouble = Some(e.to_string());
                self.not_before = Some(Instant::now() + AFTER_TROUBLE);
                Next::In(SLOWLY)
            }
        }
    }

    fn tend(&mut self, look: &Look, now: Instant) -> Result<Next, LogError> {
        let LogLimits { size, keep } = look.limits;
        let (end, mut here) = look.log.extent()?;
        if here > size || look.log.has_unfinished() {
            look.log.rotate(size, keep)?;
            here = look.log.extent()?.1;
        }
        self.note(look, end, now)?;
        let is_noted = self.noted.map_or(end == 0, |(noted, _)| noted == end);
        let next = match self.end.replace((end, now)) {
            Some((before, _)) if before == end && is_noted => Next::Rest,
            Some((before, at)) => {
                Next::In(next_look(end.saturating_sub(before), now - at, size.saturating_sub(here)))
            }
            None => Next::In(AFTER_THE_FIRST),
        };
        Ok(next)
    }

    fn note(&mut self, look: &Look, end: u64, now: Instant) -> Result<(), LogError> {
        let due = match self.noted {
            None => end > 0,
            Some((noted, at)) => noted != end && (look.last || now - at >= NOTE_EVERY),
        };
        if due {
            // The end was looked at before the clock is: what is printed in between lies after the note.
            look.log.mark(wall_clock(), end)?;
            self.noted = Some((end, now));
        }
        Ok(())
    }
}

/// When a log that grew by so much in that time will have half filled the room that is left.
fn next_look(grown: u64, within: Duration, room: u64) -> Duration {
    if grown == 0 {
        return SLOWLY;
    }
    let seconds = within.as_secs_f64() * room as f64 / grown as f64 / 2.0;
    Duration::from_secs_f64(seconds.min(SLOWLY.as_secs_f64())).max(AT_MOST_OFTEN)
}

/// Milliseconds since 1970.
fn wall_clock() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::sync::mpsc;

    const NAME: &str = "x@n";
    const LIMITS: LogLimits = LogLimits { size: 100_000, keep: 3 };

    fn keeper(folder: &Path) -> (Keeper, mpsc::Receiver<Trouble>) {
        let (sender, receiver) = mpsc::channel();
        let keeper = Keeper::start(folder.into(), move |trouble| sender.send(trouble).unwrap()).unwrap();
        (keeper, receiver)
    }

    fn wait(what: &str, fact: impl Fn() -> bool) {
        let begun = Instant::now();
        while !fact() {
            assert!(begun.elapsed() < Duration::from_secs(20), "waited in vain for {what}");
            thread::sleep(Duration::from_millis(5)); // between two looks
        }
    }

    fn print(keeper: &Keeper, bytes: usize) {
        let path = keeper.path(NAME);
        let mut file = fs::OpenOptions::new().append(true).create(true).open(path).unwrap();
        file.write_all("0123456789abcde\n".repeat(bytes / 16).as_bytes()).unwrap();
    }

    #[test]
    fn what_runs_is_rotated_and_what_ended_is_noted_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (keeper, _told) = keeper(dir.path());
        keeper.begun(NAME, LIMITS);
        let log = keeper.log(NAME);
        print(&keeper, 160_000);
        wait("a rotation", || log.extent().unwrap().1 <= LIMITS.size);
        assert_eq!(log.end().unwrap(), 160_000);
        keeper.ended(NAME);
        wait("rest", || lock(&keeper.shared).idle);
        assert_eq!(log.last_mark(), 160_000, "the end of a run is noted");
        print(&keeper, 160_000);
        keeper.begun(NAME, LIMITS);
        wait("another rotation", || log.extent().unwrap().1 <= LIMITS.size);
    }

    /// Also what has grown a little before: its length is noted first.
    #[test]
    fn nothing_is_looked_at_while_nothing_is_printed() {
        let dir = tempfile::tempdir().unwrap();
        let (keeper, _told) = keeper(dir.path());
        print(&keeper, 1600);
        keeper.begun(NAME, LIMITS);
        let is_idle = || lock(&keeper.shared).idle;
        wait("rest", is_idle);
        print(&keeper, 160_000);
        let log = keeper.log(NAME);
        wait("a rotation out of rest", || log.extent().unwrap().1 <= LIMITS.size);
        wait("rest again", is_idle);
        keeper.begun("another@n", LIMITS);
        assert!(!is_idle(), "whoever begins wakes it");
        print(&keeper, 160_000);
        wait("another rotation", || log.extent().unwrap().1 <= LIMITS.size);
    }

    #[test]
    fn what_another_agent_left_half_done_is_completed() {
        let dir = tempfile::tempdir().unwrap();
        print(&keeper(dir.path()).0, 160_000);
        let path = dir.path().join("x@n.log");
        let mut killed = |step| {
            if step == super::super::Step::Named { Err(std::io::ErrorKind::Other.into()) } else { Ok(()) }
        };
        Log::new(&path).rotate_told(LIMITS.size, LIMITS.keep, &mut killed).unwrap_err();
        // Not large enough for this agent to rotate it.
        let (keeper, _told) = keeper(dir.path());
        keeper.begun(NAME, LogLimits { size: 1 << 20, ..LIMITS });
        wait("the piece that did not count to go", || {
            rotated(dir.path()).len() == 1 && log_files(dir.path()) == 0
        });
    }

    fn log_files(folder: &Path) -> usize {
        let names = fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
        names.filter(|n| n.contains(".log.0")).count()
    }

    #[test]
    fn trouble_is_told_once_and_so_is_its_end() {
        let dir = tempfile::tempdir().unwrap();
        // Nothing can be written where a folder stands, by root neither.
        let in_the_way = dir.path().join("x@n.log.part");
        let mut known = Known::default();
        let log = Arc::new(Log::never_rotated(dir.path().join("x@n.log")));
        print(&keeper(dir.path()).0, 160_000);
        let look = Look { instance: NAME.into(), log: log.clone(), limits: LIMITS, last: false };
        fs::create_dir(&in_the_way).unwrap();
        assert_eq!(known.look(&look), Next::In(SLOWLY));
        assert!(known.trouble.as_ref().unwrap().contains("x@n.log.part"), "{:?}", known.trouble);
        fs::remove_dir(&in_the_way).unwrap();
        known.look(&look);
        assert!(known.trouble.is_some(), "it is left alone for a while");
        known.not_before = None;
        known.look(&look);
        assert!(known.trouble.is_none());
        assert_eq!((log.end().unwrap(), log.extent().unwrap().1 <= LIMITS.size), (160_000, true));
    }

    #[test]
    fn the_thread_tells_trouble_while_others_are_rotated() {
        let dir = tempfile::tempdir().unwrap();
        let (keeper, told) = keeper(dir.path());
        fs::create_dir(dir.path().join("bad@n.log")).unwrap();
        fs::create_dir(dir.path().join("bad@n.log/x")).unwrap();
        print(&keeper, 160_000);
        let tiny = LogLimits { size: 1, keep: 1 };
        keeper.begun("bad@n", tiny);
        keeper.begun(NAME, LIMITS);
        wait("a rotation", || keeper.log(NAME).extent().unwrap().1 <= LIMITS.size);
        let trouble = told.recv_timeout(Duration::from_secs(20)).unwrap();
        assert_eq!(&*trouble.instance, "bad@n");
        assert!(trouble.error.is_some());
    }

    #[test]
    fn what_grows_fast_is_looked_at_sooner() {
        let second = Duration::from_secs(1);
        assert_eq!(next_look(0, second, 5), SLOWLY);
        assert_eq!(next_look(100, second, 1_000_000), SLOWLY);
        assert_eq!(next_look(100, second, 200), second);
        assert_eq!(next_look(u64::MAX, second, 200), AT_MOST_OFTEN);
        assert_eq!(next_look(100, second, 0), AT_MOST_OFTEN);
        assert_eq!(next_look(100, Duration::ZERO, 100), AT_MOST_OFTEN);
    }
}
