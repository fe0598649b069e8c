//! The shell around the engine: inputs in, actions out.
//!
//! Everything here runs on one thread. The engine is fed one input at a time, and its actions are done before the
//! next one; what only takes time (a probe, an exit, a peer) runs as a task and comes back as a [`Message`].
//! Messages speak of instances by name, because a new configuration numbers them anew.

use super::clerk::{Clerk, PATIENCE, UnderWay};
use super::config::Kept;
use super::etcd::Place;
use super::events::Events;
use super::generations::Configure;
use super::invitations::Invitations;
use super::journal::Journal;
use super::links::Links;
use super::manage::Manage;
use super::namesakes::Namesakes;
use super::orphans::Orphan;
use super::real::Real;
use super::record::Recorder;
use super::sweeps::{Looked, Sweeps};
use super::systemd::{self, Systemd};
use super::trail::Scribe;
use super::vips::Vips;
use crate::api::tls::Security;
use crate::api::wire::{self, PeerLine};
use crate::clock;
use crate::crash::{self, Done};
use crate::director::Seen;
use crate::director::word::Facts;
use crate::engine::{Action, Engine, Input, Memory, Order, OrderVerb, QuestionIx, WAITING_PACE, Word};
use crate::facts::{Exit, Moment, Notice};
use crate::journal::{self, Wishes};
use crate::leftover;
use crate::logs::{Keeper, Trouble};
use crate::model::{Cluster, InstanceIx};
use crate::probe::prober::{self, Pace, Prober};
use crate::process::{Handle, Tree};
use crate::store::{Machine, Slot};
use bytes::Bytes;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, OwnedSemaphorePermit, mpsc, oneshot};
use tokio::task::AbortHandle;

/// What tasks tell the main loop.
#[derive(Debug)]
pub enum Message {
    Exited {
        instance: Arc<str>,
        incarnation: u64,
        exit: Exit,
        alone: bool,
    },
    Notified {
        instance: Arc<str>,
        incarnation: u64,
        notice: Notice,
    },
    /// `needed`: the engine listens to that node's agent; of others only what it tells of virtual addresses matters.
    PeerSaid {
        node: String,
        line: PeerLine,
        needed: bool,
        /// Given back once this is taken in: so one peer has few lines here, however fast it speaks.
        _place: OwnedSemaphorePermit,
    },
    PeerLost {
        node: String,
        needed: bool,
    },
    /// After its stream was lost: the machine answers, and no agent is there.
    PeerRefused {
        node: String,
    },
    /// An address came or went on this machine's interfaces.
    AddressesChanged,
    /// The machine of another director answers.
    Lives {
        node: String,
    },
    /// A director has looked for the reason of an alarm; counted by the configuration.
    Examined {
        generation: u64,
        vip: usize,
        facts: Facts,
    },
    /// A task that cannot be begun anew.
    Crashed {
        what: &'static str,
    },
    Ordered {
        order: wire::Order,
        reply: oneshot::Sender<wire::OrderReply>,
    },
    /// A look was taken for what stops have left.
    Looked(Looked),
    /// A log cannot be rotated, or can be again.
    Log(Trouble),
    /// Of what systemd runs.
    Systemd(systemd::Word),
    /// The configuration is to be another one.
    Configure {
        what: Configure,
        reply: oneshot::Sender<Result<wire::ReloadReply, wire::Refusal>>,
    },
}

/// A process that the agent holds.
#[derive(Debug)]
pub struct Held {
    pub handle: Rc<Handle>,
    pub incarnation: u64,
    pub nonce: String,
    /// Where its own lines begin in its log, as far as that is known.
    pub printed_from: Option<u64>,
}

impl Held {
    pub fn new(handle: Handle, incarnation: u64, nonce: String, printed_from: Option<u64>) -> Held {
        Held { handle: Rc::new(handle), incarnation, nonce, printed_from }
    }
}

/// Wishes that are being saved, and who waits for that.
#[derive(Debug)]
struct Saving {
    job: UnderWay<bool>,
    replies: Vec<(oneshot::Sender<wire::OrderReply>, Taken)>,
}

/// What became of an order: a sentence for each instance.
type Taken = Vec<(String, String)>;

fn answer(reply: oneshot::Sender<wire::OrderReply>, taken: Taken, durable: bool) {
    // Whoever ordered may have gone; what was ordered is done all the same.
    let _ = reply.send(wire::OrderReply { taken, durable });
}

/// Where things are.
#[derive(Debug)]
pub struct Places {
    /// The cluster file; where it is in etcd, the copy of it.
    pub config: PathBuf,
    pub(super) etcd: Option<Place>,
    pub units: Option<PathBuf>,
    pub state: PathBuf,
    pub run: PathBuf,
}

impl Places {
    /// Where the output of services goes.
    pub fn logs(&self) -> PathBuf {
        self.state.join("log")
    }

    /// Where operators of this machine find the agent.
    pub fn socket(&self) -> PathBuf {
        self.run.join("clusterd.sock")
    }

    /// The folder of the sockets by which services say how they fare.
    pub fn notify(&self) -> PathBuf {
        self.run.join("notify")
    }
}

/// How many streams one node's agent may read.
const STREAMS_OF_A_NODE: usize = 2;

/// How long after an order the memory that it took for a while is given back.
const SPARE_AFTER: Duration = Duration::from_secs(2);

/// A reader of the peer stream.
struct Subscriber {
    /// For which node it reads.
    node: String,
    lines: mpsc::Sender<Bytes>,
}

/// The whole agent, but for its loop.
pub struct Shell {
    pub places: Places,
    /// The random name of this agent's state.
    pub id: String,
    /// Who else says lately that it is which node.
    pub namesakes: RefCell<Namesakes>,
    pub started: crate::facts::Moment,
    pub engine: RefCell<Engine>,
    pub recorder: RefCell<Recorder>,
    pub held: RefCell<HashMap<Arc<str>, Held>>,
    /// Living processes that were judged to be an instance's already, until the engine says `Adopt`.
    pub to_adopt: RefCell<HashMap<Arc<str>, Handle>>,
    /// Who listens to what a service says of itself.
    pub(super) listeners: RefCell<HashMap<Arc<str>, Vec<AbortHandle>>>,
    pub events: RefCell<Events>,
    pub clerk: Rc<Clerk>,
    pub trail: Scribe,
    pub tree: Tree,
    pub journal: Journal,
    pub logs: Keeper,
    pub wishes: Slot<Wishes>,
    /// The configuration in force, and the slot that it is kept in.
    pub in_force: RefCell<Kept>,
    pub last_good: Slot<Kept>,
    /// One that waits to be put in force.
    pub staged: Slot<Kept>,
    /// What runs and is not in the file.
    pub orphans: RefCell<BTreeMap<Arc<str>, Orphan>>,
    /// Another agent has said that it acts by another configuration.
    pub differs: Notify,
    /// What is wrong with the agent itself, by the part that is concerned.
    pub problems: RefCell<HashMap<&'static str, String>>,
    pub links: Links,
    pub sweeps: Sweeps,
    pub(super) systemd: Systemd,
    /// Who holds the virtual addresses.
    pub(super) vips: Vips,
    /// What is rendered for this node, where the agent applies it.
    pub(super) manage: Manage,
    pub(super) real: Real,
    /// How this agent is spoken to, and speaks to others.
    pub security: RefCell<Security>,
    /// Who is to become a node's agent, and has no certificate yet.
    pub(super) invitations: Invitations,
    pub messages: mpsc::Sender<Message>,
    pub finished: Cell<bool>,
    probers: RefCell<HashMap<QuestionIx, Prober>>,
    /// What the instances of this node are known by to the judge of leftovers, in this configuration.
    pub(super) neighbours: RefCell<Option<(Arc<Cluster>, Vec<leftover::Known>)>>,
    answers: mpsc::UnboundedSender<prober::Event>,
    subscribers: RefCell<Vec<Subscriber>>,
    /// Own instances whose word is to be sent.
    news: RefCell<BTreeSet<InstanceIx>>,
    /// What is to be journalled before anything relies on it, and at the latest when the input is done with.
    pub(super) memories: RefCell<BTreeMap<InstanceIx, Memory>>,
    replies: RefCell<HashMap<u64, oneshot::Sender<wire::OrderReply>>>,
    orders: Cell<u64>,
    /// `None` while all wishes are kept, as far as they could be.
    saving: RefCell<Option<Saving>>,
    /// Whether the wishes of this input have reached the disk, as far as they were settled.
    durable: Cell<bool>,
    chance: Cell<u64>,
    /// When memory is to be given back to the system.
    pub spare_at: Cell<Option<Moment>>,
}

/// What a [`Shell`] is made of.
pub struct Parts {
    pub places: Places,
    pub id: String,
    pub engine: Engine,
    pub recorder: Recorder,
    pub events: Events,
    pub clerk: Rc<Clerk>,
    pub trail: Scribe,
    pub tree: Tree,
    pub journal: Journal,
    pub logs: Keeper,
    pub sweeps: Sweeps,
    pub wishes: Slot<Wishes>,
    pub in_force: Kept,
    pub last_good: Slot<Kept>,
    pub problems: HashMap<&'static str, String>,
    pub messages: mpsc::Sender<Message>,
    pub answers: mpsc::UnboundedSender<prober::Event>,
}

impl Shell {
    pub fn new(parts: Parts) -> Shell {
        let vips = Vips::of(parts.engine.cluster(), parts.engine.node());
        let (manage, real) = (Manage::of(&parts.places.run), Real::of(&parts.places.run));
        let staged = Slot::durable(parts.places.state.join("staged.json"));
        let invitations = Invitations::of(&parts.places.run, parts.journal.boot());
        Shell {
            places: parts.places,
            id: parts.id,
            namesakes: RefCell::default(),
            started: clock::now(),
            engine: RefCell::new(parts.engine),
            recorder: RefCell::new(parts.recorder),
            held: RefCell::default(),
            to_adopt: RefCell::default(),
            listeners: RefCell::default(),
            events: RefCell::new(parts.events),
            clerk: parts.clerk,
            trail: parts.trail,
            tree: parts.tree,
            journal: parts.journal,
            logs: parts.logs,
            wishes: parts.wishes,
            staged,
            in_force: RefCell::new(parts.in_force),
            last_good: parts.last_good,
            orphans: RefCell::default(),
            differs: Notify::new(),
            problems: RefCell::new(parts.problems),
            links: Links::default(),
            sweeps: parts.sweeps,
            systemd: Systemd::default(),
            vips,
            manage,
            real,
            security: RefCell::new(Security::Missing),
            invitations,
            messages: parts.messages,
            finished: Cell::new(false),
            probers: RefCell::default(),
            neighbours: RefCell::default(),
            answers: parts.answers,
            subscribers: RefCell::default(),
            news: RefCell::default(),
            memories: RefCell::default(),
            replies: RefCell::default(),
            orders: Cell::new(0),
            saving: RefCell::default(),
            durable: Cell::new(true),
            chance: Cell::new(clock::now().0 | 1),
            spare_at: Cell::new(None),
        }
    }

    pub fn cluster(&self) -> Arc<Cluster> {
        self.engine.borrow().cluster().clone()
    }

    /// The name of this node.
    pub fn node_name(&self) -> String {
        let engine = self.engine.borrow();
        engine.cluster().node(engine.node()).name.clone()
    }

    /// Feeds the engine, does what it says, and feeds it what came of that at once, until all is done.
    ///
    /// Others wait for starts and news, nobody for what is only written down: events, with the moment at which the
    /// engine decided, and memories that no other action relies on come last.
    pub fn feed(self: &Rc<Self>, input: Input) {
        self.feed_all([input]);
    }

    /// As [`Shell::feed`], several inputs one after the other; news and what is only written down go out together.
    pub fn feed_all(self: &Rc<Self>, inputs: impl IntoIterator<Item = Input>) {
        let mut events = Vec::new();
        for input in inputs {
            let mut inputs = VecDeque::from([input]);
            while let Some(input) = inputs.pop_front() {
                let now = clock::now();
                let mut recorder = self.recorder.borrow_mut();
                let actions = recorder.handle(&mut self.engine.borrow_mut(), now, self.jitter(), input);
                drop(recorder);
                self.begin_to_save_wishes(&actions);
                for action in actions {
                    if action.relies_on_wishes() {
                        self.settle_wishes();
                    }
                    match action {
                        Action::Record(event) => events.push((now, event)),
                        action => inputs.extend(self.act(action)),
                    }
                }
            }
        }
        self.send_news();
        self.remember_all();
        let cluster = self.cluster();
        for (at, event) in events {
            let name = &cluster.instance(event.instance).name;
            self.events.borrow_mut().record_at(at, name, &event.what, &event.text, event.data);
        }
        self.events.borrow_mut().write_later();
        self.look_at_keeper();
        self.look_at_real_server();
    }

    /// Chance for the engine: 0 to 1000. Quality does not matter (xorshift), only that machines differ.
    fn jitter(&self) -> u16 {
        let mut x = self.chance.get();
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.chance.set(x);
        (x % 1001) as u16
    }

    /// Does one action. What came of it at once is the next input.
    fn act(self: &Rc<Self>, action: Action) -> Option<Input> {
        match action {
            Action::Pace { question, every } => self.pace(question, every),
            Action::Verify { question } => self.prober(question, Prober::verify),
            Action::Clean { instance } => return Some(self.clean(instance)),
            Action::Spawn { instance, memory, unit } => return self.spawn(instance, memory, unit),
            Action::Adopt { instance, pid, memory, unit } => return self.adopt(instance, pid, memory, unit),
            Action::FindMain { instance, memory } => return Some(self.find_main(instance, memory)),
            Action::Remember { instance, memory } => {
                self.memories.borrow_mut().insert(instance, memory);
            }
            Action::Signal { instance, incarnation, signal } => self.signal(instance, incarnation, signal),
            Action::Sweep { instance, incarnation } => self.sweep(instance, incarnation),
            Action::Release { instance } => self.release(instance),
            Action::SaveWish { .. } => {} // all of them are saved at once, before anything that relies on them
            Action::Publish { instance } => {
                self.news.borrow_mut().insert(instance);
            }
            Action::Record(_) => {} // written down when the rest is done
            Action::Reply { order, taken } => self.reply(order, taken),
            Action::Finished => {
                crash::here(Done::Finished);
                self.finished.set(true);
            }
        }
        None
    }

    // --- probes ---

    fn prober(&self, question: QuestionIx, f: impl FnOnce(&Prober)) {
        let mut probers = self.probers.borrow_mut();
        let prober = probers.entry(question).or_insert_with(|| {
            let engine = self.engine.borrow();
            let text = engine.question(question).clone();
            Prober::spawn(question.0, text, self.answers.clone())
        });
        f(prober);
    }

    fn pace(&self, question: QuestionIx, every: Option<Duration>) {
        match every {
            // A prober that nobody wants holds a task and perhaps a connection: let it go.
            None => drop(self.probers.borrow_mut().remove(&question)),
            Some(every) if every <= WAITING_PACE => self.prober(question, |p| p.pace(Pace::Fast)),
            Some(every) => self.prober(question, |p| p.pace(Pace::Slow(every))),
        }
    }

    /// Stops all probers: their questions are numbered anew.
    pub fn forget_probers(&self) {
        self.probers.borrow_mut().clear();
    }

    // --- wishes and orders ---

    /// Begins to save all wishes among the actions with one write, which waits for the disk: some milliseconds, or until
    /// patience is at its end.
    fn begin_to_save_wishes(&self, actions: &[Action]) {
        let new = journal::new_wishes(actions, &self.cluster());
        if new.is_empty() {
            return self.durable.set(true);
        }
        self.settle_wishes();
        self.durable.set(true);
        let slot = self.wishes.clone();
        let job = self.clerk.begin_job(PATIENCE, move || {
            let saved = journal::save_wishes(&slot, &mut Machine, new);
            if let Err(e) = &saved {
                tracing::error!("{e}; what was ordered is done, and will not survive a reboot");
            }
            saved.is_ok()
        });
        *self.saving.borrow_mut() = Some(Saving { job, replies: Vec::new() });
    }

    /// Ends when there are wishes to be settled that nobody has to wait for any more.
    pub fn wishes_are_kept(&self) -> impl Future<Output = ()> + use<> {
        let over = self.saving.borrow().as_ref().map(|saving| saving.job.is_over());
        async move {
            match over {
                Some(over) => over.await,
                None => std::future::pending().await,
            }
        }
    }

    /// Waits until the wishes that are being saved are, and answers who ordered that.
    pub fn settle_wishes(&self) {
        let Some(Saving { job, replies }) = self.saving.take() else { return };
        let durable = job.outcome(&self.clerk).unwrap_or(false);
        crash::here(Done::WishesKept);
        self.durable.set(durable);
        for (reply, taken) in replies {
            answer(reply, taken, durable);
        }
    }

    /// Answers an order; when its wishes are kept.
    fn reply(&self, order: u64, taken: Vec<(InstanceIx, String)>) {
        self.spare_at.set(Some(clock::now() + SPARE_AFTER));
        let Some(reply) = self.replies.borrow_mut().remove(&order) else { return };
        let cluster = self.cluster();
        let named = |(ix, text)| (cluster.instance(ix).name.to_string(), text);
        let taken = taken.into_iter().map(named).collect();
        match &mut *self.saving.borrow_mut() {
            Some(saving) => saving.replies.push((reply, taken)),
            None => answer(reply, taken, self.durable.get()),
        }
    }

    // --- what tasks tell ---

    /// Takes in what tasks told.
    ///
    /// # Errors
    /// Which task has crashed, where that ends the agent.
    pub fn take(self: &Rc<Self>, messages: impl IntoIterator<Item = Message>) -> Result<(), &'static str> {
        let mut inputs = Vec::new();
        for message in messages {
            match message {
                Message::Configure { what, reply } => {
                    // What came before speaks of the configuration before.
                    self.feed_all(std::mem::take(&mut inputs));
                    let _ = reply.send(self.configure(what)); // whoever asked may have gone
                }
                Message::Systemd(word) => inputs.extend(self.systemd_said(word)),
                Message::Looked(looked) => inputs.extend(self.looked(looked)),
                Message::Crashed { what } => return Err(what),
                message => inputs.extend(self.input(message)),
            }
        }
        self.feed_all(inputs);
        Ok(())
    }

    /// What a message means for the engine; nothing where it is of an instance or a node that is no more.
    fn input(self: &Rc<Self>, message: Message) -> Option<Input> {
        let cluster = self.cluster();
        Some(match message {
            Message::Exited { instance, incarnation, exit, alone } => {
                let Some(ix) = cluster.instance_named(&instance) else {
                    self.orphan_exited(&instance, incarnation, &exit);
                    return None;
                };
                let last_words = self.last_words(&instance, incarnation);
                Input::Exited { instance: ix, incarnation, exit, last_words, alone }
            }
            Message::Notified { instance, incarnation, notice } => {
                let ix = cluster.instance_named(&instance)?;
                Input::Notified { instance: ix, incarnation, notice }
            }
            Message::PeerSaid { node, line, needed, .. } => {
                let node = cluster.node_named(&node)?;
                let same_file = line.config == cluster.hash;
                if let Some(words) = line.vips {
                    self.manage.told(node, &words);
                    self.guard(Seen::Told { node, words, same_file });
                }
                if !needed {
                    return None;
                }
                // Only what is its own: it may know more than we do, or lie.
                let of_it = |ix: &InstanceIx| cluster.instance(*ix).node == node;
                let known =
                    |(name, word): (String, Word)| Some((cluster.instance_named(&name).filter(of_it)?, word));
                Input::PeerSaid { node, words: line.words.into_iter().filter_map(known).collect() }
            }
            Message::PeerLost { node, needed } => {
                let node = cluster.node_named(&node)?;
                self.guard(Seen::Lost { node });
                if !needed {
                    return None;
                }
                Input::PeerLost { node }
            }
            Message::PeerRefused { node } => {
                let node = cluster.node_named(&node)?;
                self.guard(Seen::Refused { node });
                return None;
            }
            Message::AddressesChanged => {
                self.look_at_addresses();
                self.manage.look_again();
                return None;
            }
            Message::Lives { node } => {
                let node = cluster.node_named(&node)?;
                self.guard(Seen::Lives { node });
                return None;
            }
            Message::Examined { generation, vip, facts } => {
                if generation == self.vips.generation() {
                    self.guard(Seen::Examined { vip, facts });
                }
                return None;
            }
            Message::Ordered { order, reply } => {
                let id = self.new_order();
                self.replies.borrow_mut().insert(id, reply);
                Input::Ordered(self.resolve(id, order))
            }
            Message::Log(trouble) => {
                self.tell_log(&trouble);
                return None;
            }
            // See above.
            Message::Configure { .. }
            | Message::Systemd(_)
            | Message::Looked(_)
            | Message::Crashed { .. } => return None,
        })
    }

    pub(super) fn new_order(&self) -> u64 {
        self.orders.set(self.orders.get() + 1);
        self.orders.get()
    }

    fn resolve(&self, id: u64, order: wire::Order) -> Order {
        let engine = self.engine.borrow();
        let cluster = engine.cluster();
        let instances = match order.instances.as_slice() {
            [] => engine.own_instances().collect(),
            names => names.iter().filter_map(|n| cluster.instance_named(n)).collect(),
        };
        Order {
            id,
            verb: match order.verb {
                wire::Verb::Start => OrderVerb::Start,
                wire::Verb::Stop => OrderVerb::Stop,
                wire::Verb::Restart => OrderVerb::Restart,
            },
            instances,
            force: order.force,
            timeout: Duration::from_millis(order.timeout_ms),
            without: order.without.iter().filter_map(|n| cluster.node_named(n)).collect(),
            by: order.by,
            reason: order.reason,
            clock: super::events::wall_clock(),
        }
    }

    // --- the peer stream ---

    /// A new reader: it is told the state of every own instance at once.
    pub fn subscribe(&self, node: &str) -> mpsc::Receiver<Bytes> {
        let (lines, receiver) = mpsc::channel(crate::api::server::STREAM_BACKLOG);
        let all: Vec<InstanceIx> = self.engine.borrow().own_instances().collect();
        // The channel is new and has room.
        let _ = lines.try_send(self.line(all));
        let mut subscribers = self.subscribers.borrow_mut();
        subscribers.retain(|s| !s.lines.is_closed());
        // Its agent has one stream; another one of the same name, for a moment, is of before a cut.
        let mut of_it = subscribers.iter().filter(|s| s.node == node).count();
        subscribers.retain(|s| {
            let ends = s.node == node && of_it >= STREAMS_OF_A_NODE;
            of_it -= usize::from(ends);
            !ends
        });
        subscribers.push(Subscriber { node: node.to_owned(), lines });
        receiver
    }

    /// Ends the stream of every reader; they come back, and those who may are let in.
    pub fn end_streams(&self) {
        self.subscribers.borrow_mut().clear();
    }

    fn line(&self, instances: impl IntoIterator<Item = InstanceIx>) -> Bytes {
        let engine = self.engine.borrow();
        let cluster = engine.cluster();
        let named = |ix| Some((cluster.instance(ix).name.to_string(), engine.word(ix)?));
        let line = PeerLine {
            node: cluster.node(engine.node()).name.clone(),
            config: cluster.hash.clone(),
            words: instances.into_iter().filter_map(named).collect(),
            vips: self.vips.words(),
        };
        let mut text = serde_json::to_vec(&line).unwrap_or_default();
        text.push(b'\n');
        text.into()
    }

    /// Tells every reader what has changed. A reader that cannot keep up is dropped, and comes back for the whole.
    pub(super) fn send_news(&self) {
        let news = std::mem::take(&mut *self.news.borrow_mut());
        let vips = self.vips.take_news();
        let mut subscribers = self.subscribers.borrow_mut();
        if (news.is_empty() && !vips) || subscribers.is_empty() {
            return;
        }
        let line = self.line(news);
        subscribers.retain(|s| s.lines.try_send(line.clone()).is_ok());
    }
}
