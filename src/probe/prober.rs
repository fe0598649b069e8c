//! The prober: one task that asks one question at a pace, and at once when told to.
//!
//! It tells *changes* only, as a person would see them, and the answer to every [`Prober::verify`]. So what listens
//! to it works as often as something happens, not as often as something is asked.
//!
//! How it stays honest and quick at once:
//!
//! - An answer is told only when its question began after that of the last told one: a straggler never overwrites
//!   newer evidence.
//! - `verify` starts a question that begins after the call, even while another is under way. One that nobody has
//!   answered yet (a connect to a dead host) is given up for it, unless it is itself a verification; one that has
//!   connected runs on beside it. At most two are under way; a further call starts when one of them ends.
//! - Between two questions it sleeps, and at [`Pace::Off`] it sleeps for good: no wake-ups. All probers wake at the same
//!   ticks, so that one wake-up serves whatever is due at about the same time.

use super::Asker;
use super::course::Commitment;
use crate::facts::{Answer, Trouble, Verdict};
use crate::model::{Ask, Question};
use std::future::{Future, pending};
use std::hash::{BuildHasher, RandomState};
use std::pin::Pin;
use std::sync::LazyLock;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

/// The waiting pace: what somebody waits for is asked this often.
pub const FAST: Duration = Duration::from_millis(50);

/// The most frequent question to a component that refuses our credentials, or that cannot be asked at all. Only a
/// person can mend that, and every try is a line in the server's log.
const HOPELESS: Duration = Duration::from_secs(1);

/// The most frequent question to a MySQL without a login while all is well: each try raises its `Aborted_connects`
/// and writes a warning to its log.
const UNVERIFIED: Duration = Duration::from_secs(60);

/// How often to ask.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pace {
    /// Only when told to.
    #[default]
    Off,
    /// Each time this has passed since the last question began, less up to a tenth so that a thousand probers do
    /// not march in step.
    Slow(Duration),
    /// Every [`FAST`], less up to a tenth.
    Fast,
}

/// What a prober tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The number that the prober was spawned with.
    pub question: u32,
    pub answer: Answer,
    /// Whether this answers a [`Prober::verify`]. Its `begun` tells which ones: all calls made before.
    pub verified: bool,
}

/// The handle of a prober's task. Dropping it stops the task; a question that is past the point of giving up
/// (see [`Asker`]) is still run to its end.
pub struct Prober {
    orders: watch::Sender<Orders>,
    last: watch::Receiver<Option<Answer>>,
}

/// What the handle wants of the task. A watch keeps only the latest: calls coalesce by themselves.
#[derive(Clone, Copy, Default)]
struct Orders {
    pace: Pace,
    /// How many verifications were asked for.
    verifies: u64,
}

impl Prober {
    /// Starts a prober, at [`Pace::Off`], on the current tokio runtime.
    pub fn spawn(id: u32, question: Question, events: mpsc::UnboundedSender<Event>) -> Prober {
        let floor = Floor { unverified_login: matches!(question.ask, Ask::Mysql { login: None, .. }) };
        Prober::with(id, floor, move || Asker::new(question.clone()), events)
    }

    fn with<A: Asks>(
        id: u32,
        floor: Floor,
        make: impl Fn() -> A + Send + 'static,
        events: mpsc::UnboundedSender<Event>,
    ) -> Prober {
        let (orders, inbox) = watch::channel(Orders::default());
        let (heard, last) = watch::channel(None);
        let task = Task {
            id,
            floor,
            make,
            inbox,
            heard,
            events,
            jitter: Jitter::new(id),
            pace: Pace::Off,
            verifies: 0,
            verify_waits: false,
            idle: None,
            current: None,
            older: None,
            begun: None,
            told: None,
        };
        tokio::spawn(task.run());
        Prober { orders, last }
    }

    /// Sets the pace. Going to `Fast` from another one asks at once.
    pub fn pace(&self, pace: Pace) {
        self.orders.send_if_modified(|orders| std::mem::replace(&mut orders.pace, pace) != pace);
    }

    /// Asks at once, at any pace: the answer comes as an [`Event`] with `verified`, from a question that began
    /// after this call.
    pub fn verify(&self) {
        self.orders.send_modify(|orders| orders.verifies += 1);
    }

    /// The newest answer, changed or not; `None` when none has come yet.
    pub fn last(&self) -> Option<Answer> {
        self.last.borrow().clone()
    }
}

/// What the task needs of an [`Asker`]. The tests have another one, which answers by a script in virtual time.
trait Asks: Send + 'static {
    fn ask(&mut self) -> impl Future<Output = Answer> + Send;
    /// Shared with the question under way.
    fn commitment(&self) -> Commitment;
}

impl Asks for Asker {
    fn ask(&mut self) -> impl Future<Output = Answer> + Send {
        Asker::ask(self)
    }
    fn commitment(&self) -> Commitment {
        self.commitment.clone()
    }
}

/// A question under way.
struct Flight<A> {
    work: Pin<Box<dyn Future<Output = (A, Answer)> + Send>>,
    commitment: Commitment,
    verify: bool,
}

impl<A: Asks> Flight<A> {
    fn take_off(mut asker: A, verify: bool) -> Flight<A> {
        let commitment = asker.commitment();
        let work = Box::pin(async move {
            let answer = asker.ask().await;
            (asker, answer)
        });
        Flight { work, commitment, verify }
    }

    /// Whether giving it up costs nothing: nobody waits for this very answer, and nobody has answered.
    fn is_spare(&self) -> bool {
        !self.verify && !self.commitment.is_made()
    }
}

/// The end of a flight.
struct Landing<A> {
    asker: A,
    answer: Answer,
    verify: bool,
}

/// Waits for the flight in `slot`, for ever when there is none. Dropping this future leaves the flight in its slot.
async fn land<A>(slot: &mut Option<Flight<A>>) -> Landing<A> {
    let Some(flight) = slot else { return pending().await };
    let (asker, answer) = (&mut flight.work).await;
    let verify = flight.verify;
    *slot = None;
    Landing { asker, answer, verify }
}

struct Task<A, M> {
    id: u32,
    floor: Floor,
    make: M,
    inbox: watch::Receiver<Orders>,
    heard: watch::Sender<Option<Answer>>,
    events: mpsc::UnboundedSender<Event>,
    jitter: Jitter,
    pace: Pace,
    /// How many of the verifications asked for have been taken up.
    verifies: u64,
    /// A verification waits for one of two questions under way to end.
    verify_waits: bool,
    /// The asker that is not asking, with its kept connection.
    idle: Option<A>,
    /// The newest question, and the one that it overtook.
    current: Option<Flight<A>>,
    older: Option<Flight<A>>,
    /// When the newest question was begun.
    begun: Option<Instant>,
    /// What was last told.
    told: Option<Verdict>,
}

impl<A: Asks, M: Fn() -> A + Send + 'static> Task<A, M> {
    async fn run(mut self) {
        loop {
            let due = self.due();
            tokio::select! {
                changed = self.inbox.changed() => match changed {
                    Ok(()) => self.obey(),
                    Err(_) => break,
                },
                landing = land(&mut self.current) => self.landed(landing),
                landing = land(&mut self.older) => self.landed(landing),
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => self.ask(false),
            }
        }
        // Nobody listens any more. What was begun for good is still done properly.
        for flight in [self.current, self.older].into_iter().flatten() {
            if flight.commitment.is_made() {
                flight.work.await;
            }
        }
    }

    /// When to ask next by the pace; `None` while asking, and when off.
    fn due(&self) -> Option<Instant> {
        if self.current.is_some() {
            return None;
        }
        let interval = match self.pace {
            Pace::Off => return None,
            Pace::Slow(interval) => interval,
            Pace::Fast => FAST,
        };
        let interval = interval.max(self.floor.after(self.told.as_ref()));
        Some(self.begun.map_or_else(Instant::now, |begun| self.jitter.due(begun, interval)))
    }

    fn obey(&mut self) {
        let orders = *self.inbox.borrow_and_update();
        let quickens = orders.pace == Pace::Fast && self.pace != Pace::Fast;
        self.pace = orders.pace;
        if orders.verifies != self.verifies {
            self.verifies = orders.verifies;
            self.verify();
        } else if quickens && self.current.is_none() {
            self.ask(false);
        }
    }

    fn verify(&mut self) {
        if self.current.as_ref().is_some_and(Flight::is_spare) {
            self.current = None;
        }
        if self.current.is_some() && self.older.is_some() {
            self.verify_waits = true;
            return;
        }
        if let Some(current) = self.current.take() {
            self.older = Some(current);
        }
        self.verify_waits = false;
        self.ask(true);
    }

    fn ask(&mut self, verify: bool) {
        self.jitter.roll();
        self.begun = Some(Instant::now());
        let asker = self.idle.take().unwrap_or_else(|| (self.make)());
        self.current = Some(Flight::take_off(asker, verify));
    }

    fn landed(&mut self, Landing { asker, answer, verify }: Landing<A>) {
        self.idle = Some(asker);
        let newest = self.heard.borrow().as_ref().is_none_or(|last| last.begun <= answer.begun);
        if newest {
            if verify || self.told.as_ref().is_none_or(|told| !told.looks_same(&answer.verdict)) {
                self.told = Some(answer.verdict.clone());
                // When nobody takes events any more, the handle is about to be dropped too.
                let _ =
                    self.events.send(Event { question: self.id, answer: answer.clone(), verified: verify });
            }
            self.heard.send_replace(Some(answer));
        }
        if self.verify_waits {
            self.verify();
        }
    }
}

/// The least interval between two questions, for the sake of who is asked.
#[derive(Clone, Copy, Default)]
struct Floor {
    /// MySQL without a login.
    unverified_login: bool,
}

impl Floor {
    fn after(self, last: Option<&Verdict>) -> Duration {
        match last {
            Some(Verdict::NotReady { kind: Trouble::Denied | Trouble::Unaskable, .. }) => HOPELESS,
            Some(Verdict::Ready(_)) if self.unverified_login => UNVERIFIED,
            _ => Duration::ZERO,
        }
    }
}

/// Shortens intervals by up to a tenth, anew at each question. Never lengthens: an interval is a promise.
struct Jitter {
    hasher: RandomState,
    count: u64,
    /// How much of what may be taken off is, in thousandths.
    thousandths: u32,
}

/// Since when ticks are counted: by the real clock, since that of a test may be hours ahead.
static TICKING: LazyLock<Instant> = LazyLock::new(|| std::time::Instant::now().into());

/// How far apart the moments are at which questions of this interval may begin: at most a sixteenth of it, and a power of
/// two in milliseconds, so that those of a longer interval are among those of each shorter one.
fn tick(interval: Duration) -> Duration {
    let most = u64::try_from(interval.as_millis() / 16).unwrap_or(u64::MAX);
    most.checked_ilog2().map_or(Duration::ZERO, |power| Duration::from_millis(1 << power))
}

/// The last tick up to then.
fn last_tick(at: Instant, tick: Duration) -> Instant {
    let over = at.saturating_duration_since(*TICKING).as_nanos().checked_rem(tick.as_nanos());
    at - over.map_or(Duration::ZERO, |over| Duration::from_nanos(over as u64)) // less than a tick, and that fits
}

impl Jitter {
    fn new(id: u32) -> Jitter {
        let mut jitter = Jitter { hasher: RandomState::new(), count: u64::from(id) << 32, thousandths: 0 };
        jitter.roll();
        jitter
    }

    fn roll(&mut self) {
        self.count = self.count.wrapping_add(1);
        self.thousandths = (self.hasher.hash_one(self.count) % 1001) as u32;
    }

    /// When a question comes after one that began then.
    fn due(&self, begun: Instant, interval: Duration) -> Instant {
        let tick = tick(interval);
        last_tick(begun + interval - (interval / 10 - tick) / 1000 * self.thousandths, tick)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::Moment;
    use std::collections::{HashSet, VecDeque};
    use std::sync::{Arc, Mutex};
    use tokio::time::{sleep, timeout};

    const MS: Duration = Duration::from_millis(1);

    /// One question's course: how long until somebody answers the connect, how long until the answer, and which.
    #[derive(Clone)]
    struct Course(Duration, Duration, Verdict);

    /// Answers by a script in virtual time; the last course repeats for ever.
    struct Scripted {
        world: Arc<Mutex<World>>,
        start: Instant,
        commitment: Commitment,
    }

    #[derive(Default)]
    struct World {
        courses: VecDeque<Course>,
        /// Milliseconds after the start at which questions began, and ended, and were given up.
        began: Vec<u64>,
        ended: Vec<u64>,
        given_up: Vec<u64>,
    }

    /// Notes when a question is dropped before its end.
    struct UnderWay(Arc<Mutex<World>>, Instant, bool);

    impl Drop for UnderWay {
        fn drop(&mut self) {
            let now = self.1.elapsed().as_millis() as u64;
            let mut world = self.0.lock().unwrap();
            if self.2 { world.ended.push(now) } else { world.given_up.push(now) }
        }
    }

    impl Asks for Scripted {
        async fn ask(&mut self) -> Answer {
            self.commitment.reset();
            let moment = || Moment(1) + self.start.elapsed();
            let begun = moment();
            let Course(connect, answer, verdict) = {
                let mut world = self.world.lock().unwrap();
                world.began.push(self.start.elapsed().as_millis() as u64);
                if world.courses.len() > 1 {
                    world.courses.pop_front().unwrap()
                } else {
                    world.courses[0].clone()
                }
            };
            let mut under_way = UnderWay(self.world.clone(), self.start, false);
            sleep(connect).await;
            self.commitment.make();
            sleep(answer).await;
            under_way.2 = true;
            Answer { verdict, begun, ended: moment() }
        }

        fn commitment(&self) -> Commitment {
            self.commitment.clone()
        }
    }

    struct Rig {
        prober: Prober,
        events: mpsc::UnboundedReceiver<Event>,
        world: Arc<Mutex<World>>,
    }

    fn rig(floor: Floor, courses: impl IntoIterator<Item = Course>) -> Rig {
        let world =
            Arc::new(Mutex::new(World { courses: courses.into_iter().collect(), ..World::default() }));
        let (sender, events) = mpsc::unbounded_channel();
        let (start, shared) = (Instant::now(), world.clone());
        let make = move || Scripted { world: shared.clone(), start, commitment: Commitment::default() };
        Rig { prober: Prober::with(7, floor, make, sender), events, world }
    }

    impl Rig {
        /// The next event, or `None` when virtual time has gone on for `d` without one.
        async fn event(&mut self, d: Duration) -> Option<Event> {
            timeout(d, self.events.recv()).await.ok().flatten()
        }
        fn began(&self) -> Vec<u64> {
            self.world.lock().unwrap().began.clone()
        }
    }

    fn up() -> Verdict {
        Verdict::ready("up")
    }
    fn refused() -> Verdict {
        Verdict::not_ready(Trouble::Refused, "connection refused by x")
    }
    fn quick(verdict: Verdict) -> Course {
        Course(Duration::ZERO, Duration::ZERO, verdict)
    }
    /// A host that does not answer within 2 s.
    fn dead() -> Course {
        let verdict = Verdict::not_ready(Trouble::Unreachable, "no answer from x within 2 s");
        Course(Duration::from_secs(2), Duration::ZERO, verdict)
    }

    #[tokio::test(start_paused = true)]
    async fn off_asks_nothing() {
        let mut rig = rig(Floor::default(), [quick(up())]);
        assert_eq!(rig.event(Duration::from_secs(3600)).await, None);
        assert!(rig.began().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn fast_asks_at_once_then_every_50_ms_and_tells_changes_only() {
        let courses = [quick(refused()), quick(refused()), quick(refused()), quick(up())];
        let mut rig = rig(Floor::default(), courses);
        rig.prober.pace(Pace::Fast);
        let first = rig.event(MS).await.unwrap();
        assert_eq!((first.question, first.answer.verdict, first.verified), (7, refused(), false));
        assert_eq!(rig.event(200 * MS).await.unwrap().answer.verdict, up());
        assert_eq!(rig.event(1000 * MS).await, None, "the same answer is no news");
        let began = rig.began();
        assert!(began.len() >= 20, "{began:?}");
        assert!(began.windows(2).all(|w| (45..=51).contains(&(w[1] - w[0]))), "{began:?}");
        assert_eq!(rig.prober.last().unwrap().verdict, up());
    }

    #[tokio::test(start_paused = true)]
    async fn probers_ask_at_the_same_ticks_and_not_in_step() {
        let begin = || rig(Floor::default(), [quick(up())]);
        let one = begin();
        one.prober.pace(Pace::Fast);
        sleep(MS).await;
        let other = begin();
        other.prober.pace(Pace::Fast);
        sleep(2000 * MS).await;
        // The first question of each is asked at once.
        let (one, other) = (one.began().split_off(1), other.began().split_off(1));
        let ticks: HashSet<u64> = one.iter().copied().chain(other.iter().map(|at| at + 1)).collect();
        let odd = ticks.iter().filter(|at| *at % 2 == 1).count();
        assert!(odd == 0 || odd == ticks.len(), "all at every other millisecond: {ticks:?}");
        let apart = |began: &[u64]| began.windows(2).map(|w| w[1] - w[0]).collect::<HashSet<u64>>();
        assert!(apart(&one).len() > 1 && apart(&other).len() > 1, "not like clockwork: {one:?}, {other:?}");
        assert_eq!(tick(Duration::from_secs(1)), 32 * MS);
        assert_eq!(tick(10 * MS), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn slow_asks_at_its_interval_less_a_tenth_at_most() {
        let mut rig = rig(Floor::default(), [quick(up())]);
        rig.prober.pace(Pace::Slow(Duration::from_secs(10)));
        assert!(rig.event(MS).await.is_some(), "what was never asked is asked at once");
        assert_eq!(rig.event(Duration::from_secs(100)).await, None);
        let began = rig.began();
        assert!(began.windows(2).all(|w| (9000..=10_001).contains(&(w[1] - w[0]))), "{began:?}");
        assert!((11..=12).contains(&began.len()), "{began:?}");
        rig.prober.pace(Pace::Fast);
        sleep(MS).await;
        assert_eq!(rig.began().len(), began.len() + 1, "a quicker pace asks at once");
        rig.prober.pace(Pace::Off);
        assert_eq!(rig.event(Duration::from_secs(100)).await, None);
        assert_eq!(rig.began().len(), began.len() + 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_verification_is_told_though_nothing_changed_and_at_any_pace() {
        let mut rig = rig(Floor::default(), [quick(up())]);
        rig.prober.verify();
        assert!(rig.event(MS).await.unwrap().verified);
        rig.prober.verify();
        rig.prober.verify();
        let event = rig.event(MS).await.unwrap();
        assert!(event.verified);
        assert_eq!(rig.began().len(), 2, "two calls before it begins are one question");
        assert_eq!(rig.event(Duration::from_secs(100)).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_verification_gives_up_a_connect_that_nobody_answers() {
        let mut rig = rig(Floor::default(), [dead(), quick(up())]);
        rig.prober.pace(Pace::Fast);
        sleep(500 * MS).await;
        rig.prober.verify();
        let event = rig.event(5 * MS).await.unwrap();
        assert_eq!((event.answer.verdict, event.verified), (up(), true));
        assert_eq!(rig.world.lock().unwrap().given_up, [500]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_question_that_has_connected_runs_to_its_end_beside_it() {
        let hung = Course(Duration::ZERO, 2000 * MS, Verdict::not_ready(Trouble::Silent, "silent"));
        let mut rig = rig(Floor::default(), [hung, quick(up())]);
        rig.prober.pace(Pace::Fast);
        sleep(500 * MS).await;
        rig.prober.verify();
        assert!(rig.event(5 * MS).await.unwrap().answer.verdict.is_ready());
        assert_eq!(rig.event(Duration::from_secs(3)).await, None, "an older answer overwrites nothing");
        let world = rig.world.lock().unwrap();
        assert!(world.given_up.is_empty());
        assert!(world.ended.contains(&2000), "{:?}", world.ended);
    }

    #[tokio::test(start_paused = true)]
    async fn at_most_two_are_under_way_and_each_call_gets_a_later_question() {
        let mut rig = rig(Floor::default(), [dead()]);
        for _ in 0..10 {
            rig.prober.verify();
            sleep(100 * MS).await;
        }
        assert_eq!(rig.began(), [0, 100], "the third waits for one of the two to end");
        // All calls come before 1000; the question that serves the last ones begins when the first one ends.
        let events: Vec<Event> =
            [rig.event(Duration::from_secs(5)).await, rig.event(Duration::from_secs(5)).await]
                .into_iter()
                .flatten()
                .collect();
        assert!(events.iter().all(|e| e.verified && !e.answer.verdict.is_ready()), "{events:?}");
        assert_eq!(rig.event(Duration::from_secs(5)).await.unwrap().answer.begun, Moment(1) + 2000 * MS);
        assert_eq!(rig.began(), [0, 100, 2000]);
        assert!(
            rig.world.lock().unwrap().given_up.is_empty(),
            "verifications are not given up for each other"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn an_unreachable_host_is_asked_again_as_soon_as_its_deadline_is_over() {
        let mut rig = rig(Floor::default(), [dead(), dead(), quick(up())]);
        rig.prober.pace(Pace::Fast);
        assert!(!rig.event(2001 * MS).await.unwrap().answer.verdict.is_ready());
        assert!(rig.event(2010 * MS).await.unwrap().answer.verdict.is_ready());
    }

    #[tokio::test(start_paused = true)]
    async fn what_only_a_person_can_mend_is_asked_once_a_second() {
        let denied = Verdict::not_ready(Trouble::Denied, "wrong password");
        let mut rig = rig(Floor::default(), [quick(denied)]);
        rig.prober.pace(Pace::Fast);
        assert!(rig.event(MS).await.is_some());
        assert_eq!(rig.event(Duration::from_secs(10)).await, None);
        assert!((10..=12).contains(&rig.began().len()), "{:?}", rig.began());
    }

    #[tokio::test(start_paused = true)]
    async fn mysql_without_a_login_is_left_in_peace_while_it_is_well() {
        let floor = Floor { unverified_login: true };
        let mut rig = rig(floor, [quick(refused()), quick(refused()), quick(up())]);
        rig.prober.pace(Pace::Fast);
        assert!(rig.event(MS).await.is_some());
        assert!(rig.event(110 * MS).await.unwrap().answer.verdict.is_ready(), "waiting for it is quick");
        assert_eq!(rig.event(Duration::from_secs(50)).await, None);
        assert_eq!(rig.began().len(), 3);
        rig.prober.verify();
        assert!(rig.event(MS).await.unwrap().verified, "a verification is asked all the same");
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_left_is_no_news_and_the_percentage_is() {
        let progress = |percent, seconds| {
            let (reason, left) = (format!("loading: {percent} %"), Some(Duration::from_secs(seconds)));
            quick(Verdict::Progress { reason, percent: Some(percent), left })
        };
        let mut rig = rig(Floor::default(), [progress(10, 9), progress(10, 8), progress(11, 8)]);
        rig.prober.pace(Pace::Fast);
        assert!(matches!(
            rig.event(MS).await.unwrap().answer.verdict,
            Verdict::Progress { percent: Some(10), .. }
        ));
        assert!(matches!(
            rig.event(MS * 110).await.unwrap().answer.verdict,
            Verdict::Progress { percent: Some(11), .. }
        ));
        assert_eq!(rig.event(Duration::from_secs(1)).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn dropping_it_stops_asking_and_still_ends_what_has_connected() {
        let slow = Course(Duration::ZERO, 300 * MS, up());
        let Rig { prober, mut events, world } = rig(Floor::default(), [slow]);
        prober.pace(Pace::Fast);
        sleep(100 * MS).await;
        drop(prober);
        assert_eq!(events.recv().await, None, "the task has ended");
        let world = world.lock().unwrap();
        assert_eq!((world.began.len(), world.ended.as_slice(), world.given_up.len()), (1, &[300][..], 0));
    }
}
