//! How many come in at once, and how many of them are one.
//!
//! Whoever connects *knocks* until it is known who it is; then it is a *guest*. A flood from one address, or of one
//! certificate, has its own limits, and never takes the places of others:
//!
//! | limit | of | beyond it |
//! |---|---|---|
//! | [`MOST_KNOCKING`], or a quarter of all places | handshakes at once | the one that has taken longest is dropped |
//! | [`MOST_KNOCKING_OF_ONE`] | of one source address | the new one is dropped |
//! | [`BURST`], then [`PER_SECOND`] | new connections from one source address | the new one is dropped |
//! | [`MOST_OF_A_GUEST`] | connections of one certificate, user, or (unsecured) address | the new one is dropped |
//! | [`most_connections`] | guests of a listener | the new one is dropped |

use crate::pki::Key;
use nix::sys::resource::{Resource, getrlimit};
use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;
use tokio::time::Instant;

/// Connections at once, of each listener, at most.
pub const MAX_CONNECTIONS: usize = 512;
/// Of them, those of which it is not known yet who they are.
pub const MOST_KNOCKING: usize = 128;
pub const MOST_KNOCKING_OF_ONE: usize = 64;
/// New connections from one source: so many at once, and afterwards so many a second.
pub const BURST: f64 = 1000.0;
pub const PER_SECOND: f64 = 100.0;
/// Connections of one guest.
pub const MOST_OF_A_GUEST: usize = 64;
/// Sources that are remembered. Who is forgotten has a burst again.
const MOST_SOURCES: usize = 4096;

/// How many connections a listener may have here: with two listeners half of the file descriptors are left for what
/// matters more, services and probes.
pub fn most_connections() -> usize {
    let descriptors = getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(soft, _)| soft);
    usize::try_from(descriptors / 4).unwrap_or(MAX_CONNECTIONS).clamp(1, MAX_CONNECTIONS)
}

/// Who is at the other end, as far as one is to be told from another.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Guest {
    /// The holder of a certificate.
    Key(Key),
    /// A user of this machine.
    User(u32),
    /// Who comes without a certificate where none is wanted.
    Source(IpAddr),
}

/// A listener's door.
#[derive(Debug)]
pub struct Door {
    places: usize,
    state: RefCell<State>,
}

#[derive(Debug, Default)]
struct State {
    sources: HashMap<IpAddr, Source>,
    /// The longest first.
    knocking: VecDeque<(u64, AbortHandle)>,
    knocks: u64,
    guests: HashMap<Guest, Known>,
    inside: usize,
}

#[derive(Debug)]
struct Source {
    knocking: usize,
    /// What is left of its burst.
    left: f64,
    since: Instant,
}

#[derive(Debug, Default)]
struct Known {
    connections: usize,
    turns: Rc<Turns>,
}

/// How many of a guest's calls are worked on at once, on however many connections it asks: so it has its turns where
/// another has as many. Each kind by itself, so that who waits for a slow answer gets the quick ones meanwhile.
#[derive(Debug)]
pub struct Turns {
    /// What this thread works on until it is done.
    pub answers: Semaphore,
    /// Pages that are read from the disk.
    pub pages: Semaphore,
    /// What all nodes are asked for; one that is dead holds up each such call.
    pub whole: Semaphore,
    /// Questions by hand.
    pub questions: Semaphore,
    /// What is looked for on the machine.
    pub examinations: Semaphore,
}

impl Default for Turns {
    fn default() -> Turns {
        Turns {
            answers: Semaphore::new(1),
            pages: Semaphore::new(1),
            whole: Semaphore::new(8),
            questions: Semaphore::new(2),
            examinations: Semaphore::new(1),
        }
    }
}

/// Somebody who knocks; the end of it when dropped.
#[derive(Debug)]
pub struct Knock {
    door: Rc<Door>,
    source: IpAddr,
    number: u64,
}

/// A guest's place, given back when dropped.
#[derive(Debug)]
pub struct Place {
    door: Rc<Door>,
    guest: Guest,
    pub turns: Rc<Turns>,
}

impl Default for Door {
    fn default() -> Door {
        Door::with(most_connections())
    }
}

impl Door {
    pub fn with(places: usize) -> Door {
        Door { places, state: RefCell::default() }
    }

    /// Somebody connects. `None` when it is too much from there.
    pub fn knock(self: &Rc<Self>, source: IpAddr) -> Option<Knock> {
        let source = household(source);
        let mut state = self.state.borrow_mut();
        let now = Instant::now();
        if state.sources.len() >= MOST_SOURCES && !state.sources.contains_key(&source) {
            state.sources.retain(|_, s| s.knocking > 0 || s.refilled(now) < BURST);
            if state.sources.len() >= MOST_SOURCES {
                state.sources.retain(|_, s| s.knocking > 0);
            }
        }
        let known = state.sources.entry(source).or_insert(Source { knocking: 0, left: BURST, since: now });
        (known.left, known.since) = (known.refilled(now), now);
        if known.left < 1.0 || known.knocking >= MOST_KNOCKING_OF_ONE {
            return None;
        }
        known.left -= 1.0;
        known.knocking += 1;
        state.knocks += 1;
        Some(Knock { door: self.clone(), source, number: state.knocks })
    }

    /// A place for a guest. `None` when it has its share, or when there is none.
    pub fn enter(self: &Rc<Self>, guest: Guest) -> Option<Place> {
        let mut state = self.state.borrow_mut();
        if state.inside >= self.places {
            return None;
        }
        let most = MOST_OF_A_GUEST.min(self.places.div_ceil(2));
        let known = state.guests.entry(guest.clone()).or_default();
        if known.connections >= most {
            return None;
        }
        known.connections += 1;
        let turns = known.turns.clone();
        state.inside += 1;
        Some(Place { door: self.clone(), guest, turns })
    }
}

/// One machine has a whole /64 of IPv6 addresses (RFC 4291) to come from.
fn household(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) >> 64 << 64).into()),
        v4 => v4,
    }
}

impl Source {
    fn refilled(&self, now: Instant) -> f64 {
        let since: Duration = now.saturating_duration_since(self.since);
        (self.left + since.as_secs_f64() * PER_SECOND).min(BURST)
    }
}

impl Knock {
    /// The task that finds out who it is. Should too many knock, the one that has taken longest is ended.
    pub fn by(number: u64, door: &Door, task: AbortHandle) {
        let mut state = door.state.borrow_mut();
        state.knocking.push_back((number, task));
        let oldest = if state.knocking.len() > MOST_KNOCKING.min(door.places.div_ceil(4)) {
            state.knocking.pop_front()
        } else {
            None
        };
        drop(state);
        if let Some((_, task)) = oldest {
            task.abort();
        }
    }

    pub fn number(&self) -> u64 {
        self.number
    }
}

impl Drop for Knock {
    fn drop(&mut self) {
        let mut state = self.door.state.borrow_mut();
        if let Some(source) = state.sources.get_mut(&self.source) {
            source.knocking -= 1;
        }
        state.knocking.retain(|(number, _)| *number != self.number);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.door.state.borrow_mut();
        state.inside -= 1;
        if let Some(known) = state.guests.get_mut(&self.guest) {
            known.connections -= 1;
            if known.connections == 0 {
                state.guests.remove(&self.guest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(last: u8) -> IpAddr {
        [192, 168, 1, last].into()
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_from_one_source_leaves_the_others_alone() {
        let door = Rc::new(Door::with(512));
        let flood: Vec<_> = (0..10_000).filter_map(|_| door.knock(from(66))).collect();
        assert_eq!(flood.len(), MOST_KNOCKING_OF_ONE);
        assert!(door.knock(from(2)).is_some());
        drop(flood);
        let taken = (0..10_000).filter(|_| door.knock(from(66)).is_some()).count();
        assert_eq!(taken, BURST as usize - MOST_KNOCKING_OF_ONE);
        tokio::time::advance(Duration::from_secs(1)).await;
        let taken = (0..10_000).filter(|_| door.knock(from(66)).is_some()).count();
        assert_eq!(taken, PER_SECOND as usize);
    }

    #[tokio::test(start_paused = true)]
    async fn many_sources_are_forgotten_and_not_kept_for_ever() {
        let door = Rc::new(Door::with(512));
        for n in 0..100_000_u32 {
            door.knock(IpAddr::V4((n | 0x0a00_0000).into()));
        }
        assert!(door.state.borrow().sources.len() <= MOST_SOURCES);
        // And a network of IPv6 is one.
        let knock = |n: u128| door.knock(IpAddr::V6((0x2001_0db8_u128 << 96 | n).into()));
        let flood: Vec<_> = (0..1000).filter_map(knock).collect();
        assert_eq!(flood.len(), MOST_KNOCKING_OF_ONE);
    }

    #[test]
    fn a_guest_has_its_share_and_no_more() {
        let door = Rc::new(Door::with(100));
        let mine: Vec<_> = (0..1000).filter_map(|_| door.enter(Guest::User(1000))).collect();
        assert_eq!(mine.len(), 50);
        let theirs: Vec<_> = (0..1000).filter_map(|_| door.enter(Guest::User(0))).collect();
        assert_eq!(theirs.len(), 50);
        assert!(door.enter(Guest::User(7)).is_none());
        drop(mine);
        assert!(door.enter(Guest::User(7)).is_some());
        drop(theirs);
        assert_eq!(door.state.borrow().guests.len(), 0);
    }
}
