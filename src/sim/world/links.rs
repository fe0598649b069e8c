//! The network: cuts, delays, and the streams by which agents tell each other of their instances.
//!
//! A stream is a TCP connection: lines come in order, late or not at all. Who follows finds out that the other end is
//! gone when it says so, or by keep-alive after some ten seconds of silence.

use super::{Event, World};
use crate::engine::{Input, Word};
use crate::model::{InstanceIx, NodeIx};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

/// As in `agent::links`: how soon a lost stream is tried again, at first and at most.
const FOLLOW_AGAIN: Duration = Duration::from_millis(100);
const FOLLOW_AGAIN_AT_MOST: Duration = Duration::from_secs(2);
/// As in `api::client`: how long a connect may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(1);
/// As in `api::client`: keep-alive finds a silent end after 3 s and three tries, 2 s each.
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(7), Duration::from_secs(11));
/// How long a call may take until its answer begins.
const CALL_WITHIN: Duration = Duration::from_secs(10);

/// The words of one line of a stream.
pub type Line = Rc<Vec<(InstanceIx, Word)>>;

/// A follower's end.
#[derive(Debug)]
pub struct Link {
    pub state: Follow,
    pub pause: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Follow {
    /// It waits to try again; so often nothing would come of it that it is entered only when something would.
    Down,
    /// A try is entered.
    Due,
    /// It connects, and has heard nothing yet.
    Dialling(u64),
    Up(u64),
}

/// A connection.
#[derive(Debug)]
pub struct Connection {
    pub reader: NodeIx,
    pub reader_run: u32,
    pub writer: NodeIx,
    pub writer_run: u32,
    pub dialled: Duration,
    /// Lines that wait for the network.
    waiting: VecDeque<Line>,
    latest: Duration,
    /// Counts the cuts and their ends: a keep-alive that began before the latest means nothing.
    cuts: u32,
}

impl World<'_, '_> {
    /// Whether packets get from one to the other.
    pub fn passes(&self, from: NodeIx, to: NodeIx) -> bool {
        from == to || self.cuts.is_empty() || !self.cuts.contains(&(from, to))
    }

    pub fn reaches(&self, one: NodeIx, other: NodeIx) -> bool {
        self.passes(one, other) && self.passes(other, one)
    }

    /// How much longer than usual a packet takes.
    pub fn slowness(&self, from: NodeIx, to: NodeIx) -> Duration {
        if from == to || self.slow.is_empty() {
            return Duration::ZERO;
        }
        self.slow.get(&(from.min(to), from.max(to))).copied().unwrap_or_default()
    }

    /// How long a packet takes.
    pub fn delay(&mut self, from: NodeIx, to: NodeIx) -> Duration {
        let slow = self.slowness(from, to);
        let wire = if from == to { 10..=30 } else { 80..=400 };
        slow + Duration::from_micros(self.chance.within(*wire.start(), *wire.end()))
    }

    /// A new agent follows its neighbours.
    pub fn follow_peers(&mut self, node: NodeIx) {
        let Some(agent) = &mut self.machines[node.0 as usize].agent else { return };
        let run = agent.run;
        for peer in agent.engine.neighbours() {
            agent.links.insert(peer, Link { state: Follow::Due, pause: FOLLOW_AGAIN });
            self.followers[peer.0 as usize].insert(node);
            self.queue.push(self.now + Duration::from_micros(50), Event::Dial { node, run, peer });
        }
    }

    fn link(&mut self, node: NodeIx, run: u32, peer: NodeIx) -> Option<&mut Link> {
        let agent = self.machines[node.0 as usize].agent.as_mut().filter(|a| a.run == run)?;
        agent.links.get_mut(&peer)
    }

    pub(super) fn dial(&mut self, node: NodeIx, run: u32, peer: NodeIx) {
        let there = &self.machines[peer.0 as usize];
        let (up, serves) = (there.up && self.reaches(node, peer), there.agent.is_some());
        if self.link(node, run, peer).is_none_or(|link| link.state != Follow::Due) {
            return;
        }
        if !up || !serves {
            let takes = if up { Duration::from_millis(1) } else { CONNECT_WITHIN };
            return self.dial_failed(node, run, peer, takes);
        }
        self.connected += 1;
        let number = self.connected;
        let (now, writer_run) = (self.now, self.machines[peer.0 as usize].runs);
        let connection = Connection {
            reader: node,
            reader_run: run,
            writer: peer,
            writer_run,
            dialled: now,
            waiting: VecDeque::new(),
            latest: now,
            cuts: 0,
        };
        self.connections.insert(number, connection);
        let at = now + self.delay(node, peer) * 3;
        self.queue.push(at, Event::Accept { connection: number });
        if let Some(link) = self.link(node, run, peer) {
            link.state = Follow::Dialling(number);
        }
    }

    /// Tried again later; where nothing would come of it, once something has changed there.
    fn dial_failed(&mut self, node: NodeIx, run: u32, peer: NodeIx, takes: Duration) {
        let there = &self.machines[peer.0 as usize];
        let worth = there.up && there.agent.is_some() && self.reaches(node, peer);
        let now = self.now;
        let Some(link) = self.link(node, run, peer) else { return };
        let pause = takes + link.pause;
        link.pause = (link.pause * 2).min(FOLLOW_AGAIN_AT_MOST);
        link.state = if worth { Follow::Due } else { Follow::Down };
        if worth {
            self.queue.push(now + pause, Event::Dial { node, run, peer });
        }
    }

    /// Something changed between a follower and a peer: the next of its tries may come through.
    pub(super) fn may_reach(&mut self, node: NodeIx, peer: NodeIx) {
        let Some(agent) = &self.machines[node.0 as usize].agent else { return };
        let run = agent.run;
        let now = self.now;
        let Some(Link { state: Follow::Down, pause }) = agent.links.get(&peer) else { return };
        let at = now + self.chance.time(Duration::ZERO, *pause + Duration::from_millis(1));
        if let Some(link) = self.link(node, run, peer) {
            link.state = Follow::Due;
        }
        self.queue.push(at, Event::Dial { node, run, peer });
    }

    /// The writer takes a new reader, and tells it everything.
    pub(super) fn accept(&mut self, number: u64) {
        let Some(connection) = self.connections.get(&number) else { return };
        let (node, run, peer) = (connection.reader, connection.reader_run, connection.writer);
        let late = self.now - connection.dialled > CALL_WITHIN;
        let same = connection.writer_run;
        let agent = self.machines[peer.0 as usize].agent.as_mut();
        let Some(agent) = agent.filter(|a| a.run == same && !late) else {
            self.connections.remove(&number);
            return self.dial_failed(node, run, peer, Duration::from_millis(1));
        };
        agent.readers.insert(number);
        let words = agent.engine.own_instances().filter_map(|ix| Some((ix, agent.engine.word(ix)?)));
        let line = Rc::new(words.collect());
        self.send(number, line);
    }

    /// Tells every reader of a node what has changed.
    pub(super) fn send_news(&mut self, node: NodeIx) {
        let Some(agent) = &mut self.machines[node.0 as usize].agent else { return };
        let news = std::mem::take(&mut agent.news);
        if news.is_empty() || agent.readers.is_empty() {
            return;
        }
        let words = news.into_iter().filter_map(|ix| Some((ix, agent.engine.word(ix)?)));
        let line: Line = Rc::new(words.collect());
        let readers: Vec<u64> = agent.readers.iter().copied().collect();
        for reader in readers {
            self.send(reader, line.clone());
        }
    }

    fn send(&mut self, number: u64, line: Line) {
        let Some(connection) = self.connections.get(&number) else { return };
        let (from, to) = (connection.writer, connection.reader);
        if !self.passes(from, to) || !connection.waiting.is_empty() {
            if let Some(connection) = self.connections.get_mut(&number) {
                connection.waiting.push_back(line);
            }
            return;
        }
        let at = self.now + self.delay(from, to);
        self.arrive(number, line, at);
    }

    /// In order: none overtakes the one before.
    fn arrive(&mut self, number: u64, line: Line, at: Duration) {
        let Some(connection) = self.connections.get_mut(&number) else { return };
        connection.latest = at.max(connection.latest + Duration::from_nanos(1));
        self.queue.push(connection.latest, Event::Line { connection: number, line });
    }

    /// A line is there.
    pub(super) fn hear(&mut self, number: u64, line: &Line) -> Option<(NodeIx, Input)> {
        let connection = self.connections.get(&number)?;
        let (node, run, peer) = (connection.reader, connection.reader_run, connection.writer);
        let link = self.link(node, run, peer)?;
        if link.state != Follow::Dialling(number) && link.state != Follow::Up(number) {
            return None;
        }
        link.state = Follow::Up(number);
        link.pause = FOLLOW_AGAIN;
        Some((node, Input::PeerSaid { node: peer, words: line.as_ref().clone() }))
    }

    /// The reader finds out that the stream has ended.
    pub(super) fn hang_up(&mut self, number: u64, cuts: Option<u32>) -> Option<(NodeIx, Input)> {
        let connection = self.connections.get(&number)?;
        if cuts.is_some_and(|cuts| cuts != connection.cuts) {
            return None; // the network came back in time
        }
        let (node, run, peer) = (connection.reader, connection.reader_run, connection.writer);
        let writer = self.machines[peer.0 as usize].agent.as_mut();
        if let Some(writer) = writer {
            writer.readers.remove(&number);
        }
        self.connections.remove(&number);
        let link = self.link(node, run, peer)?;
        let was_up = link.state == Follow::Up(number);
        if !was_up && link.state != Follow::Dialling(number) {
            return None;
        }
        link.pause = FOLLOW_AGAIN;
        link.state = Follow::Due;
        let at = self.now + FOLLOW_AGAIN;
        self.queue.push(at, Event::Dial { node, run, peer });
        was_up.then_some((node, Input::PeerLost { node: peer }))
    }

    /// An agent is gone: with a word to its readers where its kernel still lives, without one where the power went.
    pub(super) fn drop_streams(&mut self, node: NodeIx, orderly: bool) {
        let all: Vec<u64> = self
            .connections
            .iter()
            .filter(|(_, c)| c.reader == node || c.writer == node)
            .map(|(n, _)| *n)
            .collect();
        for number in all {
            let Some(connection) = self.connections.get(&number) else { continue };
            let (reader, writer) = (connection.reader, connection.writer);
            if reader == node {
                self.connections.remove(&number);
                if let Some(agent) = &mut self.machines[writer.0 as usize].agent {
                    agent.readers.remove(&number);
                }
                continue;
            }
            let at = if orderly && self.passes(writer, reader) {
                let told = self.now + self.delay(writer, reader);
                told.max(connection_latest(self, number))
            } else {
                self.now + self.chance.time(KEEP_ALIVE.0, KEEP_ALIVE.1)
            };
            self.queue.push(at, Event::HangUp { connection: number, cuts: None });
        }
    }

    /// The network between two nodes is cut, or whole again.
    pub(super) fn network_changed(&mut self, one: NodeIx, other: NodeIx) {
        let between =
            |c: &Connection| (c.reader, c.writer) == (one, other) || (c.reader, c.writer) == (other, one);
        let all: Vec<u64> = self.connections.iter().filter(|(_, c)| between(c)).map(|(n, _)| *n).collect();
        let whole = self.reaches(one, other);
        for number in all {
            let Some(connection) = self.connections.get_mut(&number) else { continue };
            connection.cuts += 1;
            let (cuts, from, to) = (connection.cuts, connection.writer, connection.reader);
            if !whole {
                let at = self.now + self.chance.time(KEEP_ALIVE.0, KEEP_ALIVE.1);
                self.queue.push(at, Event::HangUp { connection: number, cuts: Some(cuts) });
            }
            if !self.passes(from, to) {
                continue;
            }
            // Sent again until it came through; the pauses between the tries have grown.
            let Some(connection) = self.connections.get_mut(&number) else { continue };
            let waiting = std::mem::take(&mut connection.waiting);
            let at = self.now + self.chance.time(Duration::from_millis(1), Duration::from_secs(1));
            for line in waiting {
                self.arrive(number, line, at);
            }
        }
        if whole {
            self.may_reach(one, other);
            self.may_reach(other, one);
        }
    }

    /// The node's agent can be followed.
    pub(super) fn can_be_followed(&mut self, node: NodeIx) {
        let followers: Vec<NodeIx> = self.followers[node.0 as usize].iter().copied().collect();
        for follower in followers {
            self.may_reach(follower, node);
        }
    }
}

fn connection_latest(world: &World<'_, '_>, number: u64) -> Duration {
    world.connections.get(&number).map_or(Duration::ZERO, |c| c.latest + Duration::from_nanos(1))
}
