//! The shell's part in watching virtual addresses: facts to the guard, its deeds done.

use super::shell::{Message, Shell};
use crate::address::{self, Watch};
use crate::clock;
use crate::director::adverts::Listener;
use crate::director::firewall::{self, Firewall, Path};
use crate::director::import::MAX_FILE;
use crate::director::machine::Machine;
use crate::director::render::{ADVERT, Mac};
use crate::director::word::{Facts, KeeperView, Keeping, RealServer, VipView, VipWord};
use crate::director::{Deed, Guard, Keeper, Seen, Vip, settings};
use crate::engine::view::{StateName, Wish};
use crate::engine::{Input, Order, OrderVerb};
use crate::facts::{Judgement, Moment};
use crate::model::{Cluster, InstanceIx, IpvsName, NodeIx, OnSplitBrain};
use crate::probe::ipvs::{self, Balanced};
use crate::probe::keepalived::{self, Vrrp};
use crate::process::{self, proc};
use futures_util::future::join_all;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, HashMap};
use std::io::{self, Read};
use std::net::{IpAddr, SocketAddr};
use std::process::Stdio;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::Instant;

/// How soon the kernel's word is asked for again when that failed.
const WATCH_AGAIN: Duration = Duration::from_secs(1);
/// By whom an instance is held that gave its addresses up. Kept over reboots, and known again by it.
const YIELDED: &str = "clusterd (on-split-brain = \"yield\")";
/// How long a stop waits for dependents, which it need not.
const STOP_WITHIN: Duration = Duration::from_secs(60);
/// How often, and how many times, an address that is left over is judged until nobody lives who could hold it: what
/// lives may be taking it off itself.
const RELEASE_EVERY: Duration = Duration::from_millis(100);
const RELEASE_TIMES: u32 = 50;

/// When a director tells what it found out, from the beginning of the alarm's grace: at once, then when adverts of one
/// a second must have come, then every second.
const LISTEN_FIRST: Duration = Duration::from_millis(1060);
const LISTEN_EVERY: Duration = Duration::from_secs(1);
/// How long a machine may take to answer, and how soon it is asked again.
const KNOCK_WITHIN: Duration = Duration::from_secs(1);
const KNOCK_AGAIN: Duration = Duration::from_millis(200);
/// Whoever was not heard for so long is not heard.
const HEARD_FOR: Duration = Duration::from_secs(4);
/// How often the packet filter is looked at meanwhile, how long that may take, and how much it may print.
const FIREWALL_EVERY: Duration = Duration::from_secs(5);
const FIREWALL_WITHIN: Duration = Duration::from_secs(2);
const FIREWALL_MOST: usize = 8 << 20;
/// keepalived's own word: how long after a change it is asked, how long that may take, and how seldom it is asked again.
const ASK_AFTER: Duration = Duration::from_millis(200);
const ASK_WITHIN: Duration = Duration::from_secs(1);
const ASK_EVERY: Duration = Duration::from_secs(2);
/// The most real servers of an address that are told.
const MOST_SERVERS: usize = 1000;

/// What the shell keeps for it.
pub struct Vips {
    guard: RefCell<Guard>,
    keeper: RefCell<Option<Keeper>>,
    /// Whether this node is a director of any address.
    directs: Cell<bool>,
    examining: RefCell<HashMap<usize, AbortHandle>>,
    /// Of the interface with this node's own address.
    macs: RefCell<Vec<Mac>>,
    /// What keepalived said of itself last, and that it is to be asked again.
    vrrp: RefCell<Vec<Vrrp>>,
    ask: Notify,
    news: Cell<bool>,
    /// Addresses are numbered anew by each configuration.
    generation: Cell<u64>,
}

impl Vips {
    pub fn of(cluster: &Cluster, me: NodeIx) -> Vips {
        Vips {
            guard: RefCell::new(guard(cluster, me)),
            keeper: RefCell::default(),
            directs: Cell::new(cluster.vips.iter().any(|v| v.on.contains(&me))),
            examining: RefCell::default(),
            macs: RefCell::default(),
            vrrp: RefCell::default(),
            ask: Notify::new(),
            news: Cell::new(false),
            generation: Cell::new(0),
        }
    }

    /// Begins anew with another configuration. The streams are followed anew as well, and tell all.
    pub fn reconfigure(&self, cluster: &Cluster, me: NodeIx) {
        self.examining.borrow_mut().drain().for_each(|(_, task)| task.abort());
        *self.guard.borrow_mut() = guard(cluster, me);
        *self.keeper.borrow_mut() = None;
        self.directs.set(cluster.vips.iter().any(|v| v.on.contains(&me)));
        self.generation.set(self.generation.get() + 1);
        self.news.set(true);
    }

    pub fn next_wake(&self) -> Option<Moment> {
        self.guard.borrow().next_wake()
    }

    pub fn generation(&self) -> u64 {
        self.generation.get()
    }

    /// What this node tells on the peer stream, where it is a director.
    pub fn words(&self) -> Option<Vec<VipWord>> {
        let with_macs = |word| VipWord { macs: self.macs.borrow().clone(), ..word };
        let words = || self.guard.borrow().words(clock::now()).into_iter().map(with_macs).collect();
        self.directs.get().then(words)
    }

    /// Whether that has changed since the last time.
    pub fn take_news(&self) -> bool {
        self.news.replace(false)
    }
}

fn guard(cluster: &Cluster, me: NodeIx) -> Guard {
    let director = |node: &NodeIx| (*node, cluster.node(*node).name.clone(), cluster.node(*node).address);
    let vip = |vip: &crate::model::Vip| Vip {
        name: vip.name.clone(),
        address: vip.address,
        directors: vip.on.iter().map(director).collect(),
        priorities: vip.on.iter().filter_map(|n| vip.priority(*n)).collect(),
        advert: ADVERT,
        yields: vip.on_split_brain == OnSplitBrain::Yield,
    };
    Guard::new(me, cluster.vips.iter().map(vip).collect(), clock::now())
}

/// The other directors whose agents this node hears: all of an address, where it is a director or serves behind it.
/// Those behind it see a split that the directors, cut off from each other, do not.
pub fn directors_to_hear(cluster: &Cluster, me: NodeIx) -> BTreeSet<NodeIx> {
    let serves = |vip: &crate::model::Vip| {
        cluster.service(vip.to).instances.iter().any(|i| cluster.instance(*i).node == me)
    };
    let concerned = cluster.vips.iter().filter(|v| v.on.contains(&me) || serves(v));
    concerned.flat_map(|v| v.on.iter().copied()).filter(|node| *node != me).collect()
}

/// Tells the main loop whenever an address comes or goes, for ever; and once at the beginning.
pub async fn watch_addresses(shell: Rc<Shell>) {
    loop {
        let failed: io::Result<()> = async {
            let mut watch = Watch::open()?;
            shell.problems.borrow_mut().remove("addresses");
            loop {
                let _ = shell.messages.send(Message::AddressesChanged).await;
                watch.changed().await?;
            }
        }
        .await;
        if let Err(e) = failed {
            let text = format!("the kernel does not tell which addresses are here: {e}");
            shell.problems.borrow_mut().insert("addresses", text);
        }
        tokio::time::sleep(WATCH_AGAIN).await;
    }
}

/// Asks keepalived how it sees its addresses: after every change of them, and when an operator has looked.
pub async fn ask_keepalived(shell: Rc<Shell>) {
    loop {
        shell.vips.ask.notified().await;
        tokio::time::sleep(ASK_AFTER).await; // what changes comes before what it says of it
        let said = match shell.running_keeper() {
            Some((_, handle)) if shell.vips.directs.get() => keepalived::states(&handle, ASK_WITHIN).await,
            _ => Ok(None),
        };
        shell.vips.vrrp.replace(said.ok().flatten().unwrap_or_default());
        tokio::time::sleep(ASK_EVERY).await;
    }
}

impl Shell {
    /// Tells the guard something, and does what it says.
    pub fn guard(self: &Rc<Self>, seen: Seen) {
        let deeds = self.vips.guard.borrow_mut().handle(clock::now(), seen);
        for deed in deeds {
            match deed {
                Deed::Tell => {
                    self.vips.news.set(true);
                    self.send_news();
                }
                Deed::Record { what, text, data } => self.events.borrow_mut().record("", what, &text, data),
                Deed::Examine { vip, on: false } => {
                    self.vips.examining.borrow_mut().remove(&vip).inspect(AbortHandle::abort);
                }
                Deed::Examine { vip, on: true } => {
                    let task = tokio::task::spawn_local(examine(self.clone(), vip)).abort_handle();
                    if let Some(before) = self.vips.examining.borrow_mut().insert(vip, task) {
                        before.abort();
                    }
                }
                Deed::Yield { keeper, why } => self.order_by_guard(OrderVerb::Stop, keeper, why),
                Deed::ComeBack { keeper, why } => self.order_by_guard(OrderVerb::Start, keeper, why),
            }
        }
    }

    /// An order as an operator's, so that the engine has one way to stop. Nobody waits for dependents elsewhere: the other
    /// holder serves them.
    fn order_by_guard(self: &Rc<Self>, verb: OrderVerb, keeper: InstanceIx, reason: String) {
        let name = self.name(keeper);
        let what = if verb == OrderVerb::Stop { "vip-yielded" } else { "vip-back" };
        self.events.borrow_mut().record(&name, what, &reason, serde_json::Value::Null);
        let order = Order {
            id: self.new_order(),
            verb,
            instances: vec![keeper],
            force: false,
            timeout: STOP_WITHIN,
            without: (0..self.cluster().nodes.len() as u32).map(NodeIx).collect(),
            by: YIELDED.to_owned(),
            reason,
            clock: super::events::wall_clock(),
        };
        self.feed(Input::Ordered(order));
    }

    /// Reads this machine's addresses for the guard.
    pub fn look_at_addresses(self: &Rc<Self>) {
        if !self.vips.directs.get() {
            return;
        }
        let own = self.cluster().node(self.engine.borrow().node()).address;
        let macs = Machine::read().macs_of(own);
        if *self.vips.macs.borrow() != macs {
            self.vips.macs.replace(macs);
            self.vips.news.set(true);
            self.send_news();
        }
        match address::assigned() {
            Ok(all) => {
                self.vips.ask.notify_one();
                let all = all.into_iter().filter(|a| !a.is_on_loopback());
                self.guard(Seen::Addresses(all.map(|a| (a.address, a.interface)).collect()));
            }
            Err(e) => tracing::error!("cannot read this machine's addresses: {e}"),
        }
    }

    /// Tells the guard how what holds addresses here fares, when that has changed.
    pub fn look_at_keeper(self: &Rc<Self>) {
        if !self.vips.directs.get() {
            return;
        }
        let keeper = self.keeper();
        let changed = *self.vips.keeper.borrow() != keeper;
        if changed {
            self.vips.keeper.replace(keeper.clone());
            self.manage.look_again();
            self.vips.ask.notify_one();
            self.guard(Seen::Keeper(keeper.filter(|k| !self.is_elsewhere(k))));
        }
    }

    /// Whether it runs in another network namespace: its addresses are none of those that are seen.
    fn is_elsewhere(&self, keeper: &Keeper) -> bool {
        let held = self.held.borrow();
        let pid = held.get(&self.name(keeper.instance)).map(|h| h.handle.pid());
        let own = proc::net_namespace(std::process::id() as i32).ok();
        let its = pid.and_then(|pid| proc::net_namespace(pid).ok());
        its.is_some() && its != own
    }

    pub(super) fn keeper(&self) -> Option<Keeper> {
        let (engine, now) = (self.engine.borrow(), clock::now());
        let cluster = engine.cluster();
        let holds = |ix: &InstanceIx| !cluster.instance(*ix).unit.leftovers.addresses.is_empty();
        let instance = engine.own_instances().find(holds)?;
        let view = engine.view(instance, now)?;
        let yielded = matches!(&view.wish, Wish::Held { by, .. } if by == YIELDED);
        let is = match (view.wish, view.state) {
            (Wish::Held { .. }, _) => Keeping::Held,
            (_, StateName::Ready | StateName::Unready | StateName::Standby) => Keeping::Ready,
            _ => Keeping::Down,
        };
        Some(Keeper { instance, is, yielded })
    }

    /// All that this node can say of virtual addresses.
    pub fn vip_views(&self) -> Vec<VipView> {
        let (engine, now, guard) = (self.engine.borrow(), clock::now(), self.vips.guard.borrow());
        let (cluster, me) = (engine.cluster(), engine.node());
        let keeper = self.vips.keeper.borrow();
        let keeper = keeper.as_ref().and_then(|k| {
            let state = engine.view(k.instance, now)?.state.to_string();
            let instance = cluster.instance(k.instance).name.to_string();
            Some(KeeperView { instance, state, yields: k.yielded, vrrp: None })
        });
        // For whoever looks next: each question costs keepalived a file and a line in its log.
        self.vips.ask.notify_one();
        let vrrp = self.vips.vrrp.borrow();
        let said = |vip: &crate::model::Vip| {
            let of_it = vrrp.iter().find(|one| one.addresses.contains(&vip.address));
            of_it.map(|one| one.state.as_str().to_owned())
        };
        let balanced = if self.vips.directs.get() { ipvs::balanced() } else { Vec::new() };
        let view = |(v, vip): (usize, &crate::model::Vip)| {
            let (held, alarm) = guard.view(v, now);
            let directs = vip.on.contains(&me);
            let is_of_it = |service: &IpvsName| match service {
                IpvsName::Fwmark(mark) => Some(*mark) == vip.fwmark,
                IpvsName::Tcp(at) | IpvsName::Udp(at) | IpvsName::Sctp(at) => at.ip() == vip.address,
            };
            let own = balanced.iter().filter(|one| directs && is_of_it(&one.service)).flat_map(real_servers);
            let view = VipView {
                vip: vip.name.clone(),
                address: format!("{}/{}", vip.address, vip.prefix),
                directors: vip.on.iter().map(|n| cluster.node(*n).name.clone()).collect(),
                held,
                keeper: keeper.clone().filter(|_| directs).map(|k| KeeperView { vrrp: said(vip), ..k }),
                alarm,
                servers: own.take(MOST_SERVERS).collect(),
            };
            (directs || view.alarm.is_some()).then_some(view)
        };
        cluster.vips.iter().enumerate().filter_map(view).collect()
    }

    // --- what a dead process left behind ---

    /// Takes the addresses off that a dead process of an instance has left on an interface.
    pub(super) fn release(self: &Rc<Self>, instance: InstanceIx) {
        let (shell, name) = (self.clone(), self.name(instance));
        tokio::task::spawn_local(async move {
            for _ in 0..RELEASE_TIMES {
                if shell.is_released(&name) {
                    return;
                }
                tokio::time::sleep(RELEASE_EVERY).await;
            }
            let text = "its addresses are left on an interface, and something lives that may hold them";
            shell.events.borrow_mut().record(&name, "doubt", text, serde_json::Value::Null);
        });
    }

    /// Judges and removes; whether there is no more to do.
    fn is_released(&self, name: &Arc<str>) -> bool {
        let Some(instance) = self.cluster().instance_named(name) else { return true };
        // A new one that runs had the addresses judged before its start.
        if self.held.borrow().get(name).is_some_and(|h| h.handle.is_alive()) {
            return true;
        }
        let findings = self.release_addresses(instance);
        for finding in findings.iter().filter(|f| f.judgement == Judgement::Stale) {
            let data = serde_json::json!(finding);
            self.events.borrow_mut().record(name, "cleaned", &finding.evidence, data);
        }
        findings.iter().all(|f| f.judgement == Judgement::Stale)
    }
}

fn real_servers(of: &Balanced) -> impl Iterator<Item = RealServer> {
    let service = match of.service {
        IpvsName::Fwmark(mark) => format!("fwmark {mark}"),
        IpvsName::Tcp(at) | IpvsName::Udp(at) | IpvsName::Sctp(at) => at.to_string(),
    };
    of.reals.iter().map(move |real| RealServer {
        service: service.clone(),
        server: ipvs::server_told(real.address),
        forward: real.forward.clone(),
        weight: real.weight,
        active: real.active,
    })
}

// --- looking for the reason of an alarm ---

/// Finds out who lives, and looks for the reason, again and again, until it is aborted.
async fn examine(shell: Rc<Shell>, vip: usize) {
    tokio::join!(knock(&shell, vip), look_for_the_reason(&shell, vip));
}

/// Finds out which of the other directors' machines live: one that lost its power says nothing, and its stream stands
/// for some seconds more.
async fn knock(shell: &Shell, vip: usize) {
    let (cluster, me) = (shell.cluster(), shell.engine.borrow().node());
    let Some(model) = cluster.vips.get(vip) else { return };
    let others = model.on.iter().filter(|node| **node != me);
    join_all(others.map(async |node| {
        let node = cluster.node(*node);
        while !answers(SocketAddr::new(node.address, cluster.port)).await {
            tokio::time::sleep(KNOCK_AGAIN).await;
        }
        let _ = shell.messages.send(Message::Lives { node: node.name.clone() }).await;
    }))
    .await;
}

/// Whether a machine answers, if only that nobody listens there. No agent needs to be awake for it.
async fn answers(at: SocketAddr) -> bool {
    match tokio::time::timeout(KNOCK_WITHIN, TcpStream::connect(at)).await {
        Ok(Ok(_)) => true,
        Ok(Err(e)) => e.kind() == io::ErrorKind::ConnectionRefused,
        Err(_) => false,
    }
}

/// Does nothing on a node that is no director.
async fn look_for_the_reason(shell: &Rc<Shell>, vip: usize) {
    if !shell.vips.directs.get() {
        return;
    }
    let generation = shell.vips.generation();
    let Some(address) = shell.cluster().vips.get(vip).map(|model| model.address) else { return };
    let mut listener = Listener::open(address);
    let begun = Instant::now();
    let mut heard: HashMap<IpAddr, Instant> = HashMap::new();
    let mut firewall: Option<(Instant, Firewall)> = None;
    let mut next = begun;
    loop {
        if let Ok(adverts) = &mut listener {
            let failed = loop {
                tokio::select! {
                    from = adverts.next() => match from {
                        Ok(from) => drop(heard.insert(from, Instant::now())),
                        Err(e) => break Some(e),
                    },
                    () = tokio::time::sleep_until(next) => break None,
                }
            };
            if let Some(e) = failed {
                listener = Err(e);
            }
        }
        tokio::time::sleep_until(next).await;
        let cluster = shell.cluster();
        let Some(model) = cluster.vips.get(vip) else { return };
        let own = shell.vips.keeper.borrow().as_ref().map(|k| k.instance);
        let settings = own_settings(shell, own, model.address);
        if firewall.as_ref().is_none_or(|(at, _)| at.elapsed() >= FIREWALL_EVERY) {
            let me = shell.engine.borrow().node();
            let own = cluster.node(me).address;
            let multicast = settings.as_ref().is_ok_and(|s| s.peers.is_empty());
            let others = model.on.iter().filter(|n| **n != me).map(|n| cluster.node(*n).address);
            let paths: Vec<Path> = others.map(|other| Path { own, other, multicast }).collect();
            firewall = Some((Instant::now(), look_at_firewall(&paths).await));
        }
        heard.retain(|_, at| at.elapsed() < HEARD_FOR);
        let mut from: Vec<IpAddr> = heard.keys().copied().collect();
        from.sort();
        let facts = Facts {
            settings,
            heard: listener.as_ref().map(|_| from).map_err(ToString::to_string),
            listened_ms: begun.elapsed().as_millis() as u64,
            firewall: firewall.as_ref().map_or(Firewall::Clear, |(_, f)| f.clone()),
            frozen: own.and_then(|ix| frozen(shell, ix)),
        };
        let _ = shell.messages.send(Message::Examined { generation, vip, facts }).await;
        next = if next == begun { begun + LISTEN_FIRST } else { next.max(Instant::now()) + LISTEN_EVERY };
    }
}

fn own_settings(
    shell: &Shell,
    keeper: Option<InstanceIx>,
    vip: IpAddr,
) -> Result<settings::Settings, String> {
    let cluster = shell.cluster();
    let keeper = keeper.ok_or("no unit here has `vips = true` among its leftovers")?;
    let command = &cluster.instance(keeper).unit.run.command;
    let file = settings::file_of(command);
    let mut text = String::new();
    let read = std::fs::File::open(file).and_then(|f| f.take(MAX_FILE as u64).read_to_string(&mut text));
    read.map_err(|e| format!("cannot read {file}: {e}"))?;
    settings::read(&text, vip).map_err(|e| format!("{file}: {e}"))
}

/// A process of the instance that is stopped.
pub(super) fn frozen(shell: &Shell, instance: InstanceIx) -> Option<i32> {
    let name = shell.name(instance);
    let held = shell.held.borrow().get(&name).map(|h| h.handle.pid());
    let others = shell.tree.members(&name).unwrap_or_default();
    held.into_iter().chain(others).find(|pid| proc::stat(*pid).is_ok_and(|stat| stat.is_stopped()))
}

async fn look_at_firewall(paths: &[Path]) -> Firewall {
    match printed("nft", &["-j", "list", "ruleset"]).await {
        Ok(Some(ruleset)) => match serde_json::from_slice(&ruleset) {
            Ok(ruleset) => firewall::judge(&ruleset, paths),
            Err(e) => Firewall::Unseen(format!("nft printed what is no JSON: {e}")),
        },
        Ok(None) => match printed(firewall::saver(paths), &[]).await {
            Ok(Some(saved)) => firewall::judge_saved(&String::from_utf8_lossy(&saved), paths),
            Ok(None) => Firewall::Unseen("neither nft nor iptables is installed".into()),
            Err(why) => Firewall::Unseen(why),
        },
        Err(why) => Firewall::Unseen(why),
    }
}

/// What a program that lists rules has printed; `None` where it is not installed.
async fn printed(name: &str, words: &[&str]) -> Result<Option<Vec<u8>>, String> {
    let mut program = Command::new(name);
    program.args(words).current_dir("/").kill_on_drop(true);
    program.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let run = async { process::unheld(|| program.spawn())?.wait_with_output().await };
    let printed = match tokio::time::timeout(FIREWALL_WITHIN, run).await {
        Err(_) => return Err(format!("{name} took more than {} s", FIREWALL_WITHIN.as_secs())),
        Ok(Err(e)) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Ok(Err(e)) => return Err(format!("cannot run {name}: {e}")),
        Ok(Ok(printed)) => printed,
    };
    if !printed.status.success() {
        let said = String::from_utf8_lossy(&printed.stderr);
        return Err(format!("{name} said: {}", said.lines().next().unwrap_or("nothing")));
    }
    if printed.stdout.len() > FIREWALL_MOST {
        return Err("its ruleset is too long".into());
    }
    Ok(Some(printed.stdout))
}
