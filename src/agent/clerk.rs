//! Writing to the state folder, by a thread of its own: a disk that hangs must not hold up who watches services.
//!
//! What is written is done in the order in which it was given. Whoever relies on it waits a little, so that on a sound
//! disk it is done when they go on; on one that does not answer they go on without, and it is done when the disk answers.

use std::cell::Cell;
use std::io;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// How long a job takes at most on a disk that answers.
const A_MOMENT: Duration = Duration::from_millis(200);
/// How long a job that a command relies on is waited for.
pub const PATIENCE: Duration = Duration::from_secs(1);
/// Jobs that may wait for the disk; further ones are not taken.
const MOST_JOBS: usize = 1000;
/// When so many wait, whoever gives many waits too ([`Clerk::keep_step`]).
const MANY_JOBS: u64 = 100;

type Job = Box<dyn FnOnce() + Send>;

#[derive(Debug)]
pub struct Clerk {
    jobs: mpsc::SyncSender<Job>,
    given: Cell<u64>,
    done: Arc<AtomicU64>,
    /// A job that is looked for, by its number, and since when.
    awaited: Cell<Option<(u64, Instant)>>,
    /// Since when the disk owes an answer that was waited for in vain.
    late: Cell<Option<Instant>>,
}

impl Clerk {
    /// # Errors
    /// When there is no thread to be had.
    pub fn begin(name: &str) -> io::Result<Clerk> {
        let (jobs, inbox) = mpsc::sync_channel::<Job>(MOST_JOBS);
        let done = Arc::new(AtomicU64::new(0));
        let counter = done.clone();
        std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            for job in inbox {
                // A job that crashes is one that was not done: whoever waits for its outcome hears nothing.
                let _ = std::panic::catch_unwind(AssertUnwindSafe(job));
                counter.fetch_add(1, Ordering::Release);
            }
        })?;
        Ok(Clerk { jobs, given: Cell::new(0), done, awaited: Cell::new(None), late: Cell::new(None) })
    }

    /// Has a job done, and waits for it for at most so long; not at all while the disk is known to hang. `None` when it
    /// is not done yet: it will be when the disk answers, unless too many wait for that already.
    pub fn have_done<T: Send + 'static>(
        &self,
        patience: Duration,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        self.begin_job(patience, job).outcome(self)
    }

    /// Has a job done, to wait for it a little later, as [`Clerk::have_done`] does at once.
    pub fn begin_job<T: Send + 'static>(
        &self,
        patience: Duration,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> UnderWay<T> {
        let hangs = self.hangs_for().is_some();
        let (tell, outcome) = mpsc::sync_channel(1);
        let is_done = Arc::new(Notify::new());
        let done = is_done.clone();
        let given = self.give(move || {
            drop(tell.send(job()));
            done.notify_one();
        });
        let waits = given && !hangs;
        UnderWay { outcome: waits.then_some(outcome), is_done, begun: Instant::now(), patience }
    }

    fn is_late(&self, since: Instant) {
        self.late.set(Some(since));
        tracing::error!("the disk of the state folder does not answer; it is not waited for until it does");
    }

    /// Has a job done, and does not wait for it. False when too many wait already; then it is not done.
    pub fn give(&self, job: impl FnOnce() + Send + 'static) -> bool {
        let given = self.jobs.try_send(Box::new(job)).is_ok();
        self.given.set(self.given.get() + u64::from(given));
        given
    }

    /// For how long the disk has not answered; `None` while it does.
    pub fn hangs_for(&self) -> Option<Duration> {
        let (given, done) = (self.given.get(), self.done.load(Ordering::Acquire));
        if done == given {
            self.late.set(None);
        }
        match self.awaited.get() {
            Some((number, since)) if done < number => {
                if self.late.get().is_none() && since.elapsed() > A_MOMENT {
                    self.is_late(since);
                }
            }
            _ => self.awaited.set((done < given).then(|| (given, Instant::now()))),
        }
        self.late.get().map(|since| since.elapsed())
    }

    /// Looks whether the disk keeps up, so that one that hangs is known as one that does, and waits a moment for it
    /// where many jobs wait.
    pub fn keep_step(&self) {
        if self.hangs_for().is_none() && self.given.get() - self.done.load(Ordering::Acquire) > MANY_JOBS {
            self.answers();
        }
    }

    /// Whether the disk answers now: waits a moment for it.
    pub fn answers(&self) -> bool {
        self.have_done(A_MOMENT, || ()).is_some()
    }

    /// What is wrong with the disk of this folder, as a sentence.
    pub fn problem(&self, folder: &Path) -> Option<String> {
        let hangs = self.hangs_for()?.as_secs();
        Some(format!(
            "the disk of {} has not answered for {hangs} s: events are kept in memory, and orders will not survive a reboot \
             until it does",
            folder.display()
        ))
    }
}

/// A job that somebody waits for, until the patience that began with it is over.
#[must_use]
#[derive(Debug)]
pub struct UnderWay<T> {
    /// `None` where it is not waited for.
    outcome: Option<mpsc::Receiver<T>>,
    is_done: Arc<Notify>,
    begun: Instant,
    patience: Duration,
}

impl<T> UnderWay<T> {
    /// Ends when [`UnderWay::outcome`] will not block. Needs a tokio runtime.
    pub fn is_over(&self) -> impl Future<Output = ()> + use<T> {
        let (waits, is_done, until) =
            (self.outcome.is_some(), self.is_done.clone(), self.begun + self.patience);
        async move {
            if waits {
                let _ = tokio::time::timeout_at(until.into(), is_done.notified()).await;
            }
        }
    }

    /// Waits for its end; `None` when it is not done in time.
    pub fn outcome(self, clerk: &Clerk) -> Option<T> {
        let left = self.patience.saturating_sub(self.begun.elapsed());
        let outcome = self.outcome?.recv_timeout(left).ok();
        if outcome.is_none() {
            clerk.is_late(self.begun);
        }
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_hangs_is_waited_for_once_and_done_in_order_when_it_answers() {
        let clerk = Clerk::begin("clerk").unwrap();
        assert_eq!(clerk.have_done(PATIENCE, || 7), Some(7));
        let (answer, disk) = mpsc::channel::<()>();
        let (begin, begun) = mpsc::channel();
        let (tell, told) = mpsc::channel();
        let hang = move || begin.send(()).is_ok() && disk.recv().is_ok();
        assert_eq!(clerk.have_done(Duration::from_millis(1), hang), None);
        begun.recv().unwrap(); // it is out of the queue
        assert!(clerk.problem(Path::new("/var/lib/clusterd")).is_some());
        for n in 0..MOST_JOBS + 10 {
            let tell = tell.clone();
            assert_eq!(clerk.have_done(Duration::from_secs(3600), move || tell.send(n).unwrap()), None);
        }
        drop(tell);
        answer.send(()).unwrap();
        let done: Vec<usize> = told.iter().collect();
        assert_eq!(done, (0..MOST_JOBS).collect::<Vec<_>>(), "in order, and no more than may wait");
        while clerk.hangs_for().is_some() {
            std::thread::yield_now();
        }
        assert_eq!(clerk.have_done(PATIENCE, || 8), Some(8));
    }
}
