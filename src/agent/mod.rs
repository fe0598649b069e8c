//! The agent: the shell that ties the engine to one machine.
//!
//! A single thread, but for the one that rotates logs and those that read pages of them. [`shell`] feeds the engine and
//! does its actions; [`hands`] are those that touch processes and files; [`links`] talk to the other agents; [`serve`]
//! answers the API. Decisions are the engine's: what is found here that decides something belongs there.

mod address;
mod args;
mod clerk;
mod config;
mod doctor;
pub(crate) mod etcd;
mod events;
mod files;
mod generations;
mod hands;
mod invitations;
mod join;
mod journal;
mod links;
mod logs;
mod manage;
mod namesakes;
mod notices;
mod notify;
mod orphans;
mod real;
mod record;
mod safe;
mod serve;
mod shell;
mod sweeps;
mod systemd;
mod tasks;
mod trail;
mod trust;
mod vips;
mod whoami;

use address::Waited;
pub use args::Args;
use args::Verb;

use crate::api::door::Door;
use crate::api::server;
use crate::api::tls::Security;
use crate::clock;
use crate::crash::{self, Done};
use crate::director::Seen;
use crate::engine::view::Wish;
use crate::engine::{Engine, Input};
use crate::facts::Moment;
use crate::graph::Graph;
use crate::journal::Wishes;
use crate::logs::Keeper;
use crate::model::InstanceIx;
use crate::process::{self, Tree};
use crate::store::{self, Slot};
use anyhow::Context;
use record::Recorder;
use shell::{Message, Parts, Places, Shell};
use std::collections::HashMap;
use std::io::IsTerminal;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket, UnixListener};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

/// Messages that may wait for the main loop. Senders wait when there are more.
const MESSAGES: usize = 1024;
/// So many of them are taken in one go, and what came of them is written down together.
const AT_ONCE: usize = 64;
/// How often an agent without a certificate looks whether it has got one.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Connections that may wait for the agent: what net.core.somaxconn is unless told otherwise.
const QUEUE: u32 = 4096;
/// How often a port that cannot be had yet is tried again: after a power cut the address may come late.
const BIND_AGAIN: Duration = Duration::from_secs(1);
/// How long after a child's end those that nobody holds are reaped: that reads through /proc, and nobody waits for it.
const REAP_LATER: Duration = Duration::from_millis(200);

/// Runs the agent until it is told to end.
///
/// # Errors
/// What keeps it from beginning: no configuration at all, an unknown node, another agent on the same state.
pub fn run(args: Args) -> anyhow::Result<()> {
    match &args.verb {
        Some(Verb::Join { file, from, .. }) => return join::join(&args, file.as_deref(), from.as_deref()),
        Some(Verb::Man { folder }) => return args::manual(folder),
        None => {}
    }
    tracing_subscriber::fmt()
        .with_max_level(args.log)
        .with_writer(std::io::stderr)
        // What standard error does not take (a full disk, say) cannot be said there either: the library would panic.
        .log_internal_errors(false)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .without_time()
        .init();
    process::keep_one_heap();
    process::hold_ends()?;
    if let Err(e) = process::give_up() {
        tracing::warn!("the agent keeps rights that it does not need: {e}");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    tokio::task::LocalSet::new().block_on(&runtime, live(args))
}

async fn live(args: Args) -> anyhow::Result<()> {
    let etcd = etcd::Place::read(&args.config, args.etcd.clone()).transpose().map_err(anyhow::Error::msg)?;
    anyhow::ensure!(
        etcd.is_some() || args.etcd == etcd::Access::default(),
        "the configuration is not in etcd: take the --etcd- options out, or write --config etcd://…"
    );
    anyhow::ensure!(etcd.is_none() || args.units.is_none(), "the units are in etcd, too: take --units out");
    let config = etcd.as_ref().map_or(args.config, |_| etcd::Place::copy_in(&args.state));
    let places = Places { config, etcd, units: args.units, state: args.state, run: args.run };
    make_folders(&places)?;
    let state_lock = store::lock(&places.state)?;
    for file in args.etcd.files() {
        safe::look_at_file(file).map_err(anyhow::Error::msg)?;
    }
    if let Some(place) = &places.etcd {
        etcd::copy_first(place, &places.state).await?;
    }
    let last_good = Slot::durable(places.state.join("config.json"));
    let (in_force, cluster, problems) = config::load_or_last_good(&places, &last_good)?;
    let me = whoami::decide(&cluster, &whoami::Clues::gather(args.node))?;
    let node = cluster.node(me).clone();
    let _name_lock = store::lock_name(&cluster.name, &node.name)?;
    process::become_subreaper().context("cannot become the reaper of orphaned services")?;

    let address = SocketAddr::new(node.address, cluster.port);
    let unix = listen_unix(&places)?;
    let socket = places.socket();

    let boot = process::Boot::current().context("cannot tell this boot from others")?;
    let wishes: Slot<Wishes> = Slot::durable(places.state.join("wishes.json"));
    let kept = read_wishes(&wishes);
    let mut recorder = match &args.record {
        Some(file) => Recorder::to(file)?,
        None => Recorder::off(),
    };
    let held: HashMap<InstanceIx, Wish> =
        kept.iter().filter_map(|(name, wish)| Some((cluster.instance_named(name)?, wish.clone()))).collect();
    let ranks = Graph::ranks(&cluster);
    let now = clock::now();
    let engine = Engine::new(cluster.clone(), me, &ranks, &held, now);
    recorder.begun(&engine, now, &kept, &in_force.sources);
    process::give_back_memory();
    let id = config::agent_id(&places.state)?;
    let tag = Tree::tag(&cluster.name, &node.name, &id);
    let clerk = Rc::new(
        clerk::Clerk::begin("clerk").context("cannot begin the thread that writes to the state folder")?,
    );
    let trail = trail::Scribe::begin(&places.state, &places.run, &boot)
        .context("cannot begin the thread that writes the trail")?;
    let (messages, mut inbox) = mpsc::channel(MESSAGES);
    let (answers, mut probes) = mpsc::unbounded_channel();
    let trouble = messages.clone();
    let logs = Keeper::start(places.logs(), move |told| {
        let _ = trouble.blocking_send(Message::Log(told)); // the agent may be ending
    });
    let shell = Rc::new(Shell::new(Parts {
        id,
        engine,
        recorder,
        events: events::Events::open(&places.state, clerk.clone()),
        clerk,
        trail,
        tree: Tree::locate(&tag),
        journal: journal::Journal::open(&places.run, boot.clone())?,
        logs: logs.context("cannot start the thread that rotates logs")?,
        sweeps: sweeps::Sweeps::new().context("cannot begin the thread that looks for what stops leave")?,
        wishes,
        in_force,
        last_good,
        problems,
        messages,
        answers,
        places,
    }));
    if let Some(why) = shell.tree.without_cgroups() {
        tracing::warn!("services get no cgroups of their own: {why}");
    }
    let text = format!("clusterd {} on {}, pid {}", env!("CARGO_PKG_VERSION"), node.name, std::process::id());
    let data = serde_json::json!({ "boot": boot, "config": cluster.hash });
    shell.events.borrow_mut().record("", "agent-started", &text, data);
    for problem in shell.problems.borrow().values() {
        tracing::error!("{problem}");
    }
    shell.look_at_trust();
    shell.open_socket();

    // Each listener has a door of its own: a flood from the network leaves the operator's socket alone.
    let (api, unix, door) = (serve::Api(shell.clone()), Rc::new(unix), Rc::<Door>::default());
    shell.carry("the one that listens on the unix socket", move || {
        server::serve_unix(unix.clone(), api.clone(), door.clone())
    });
    let (served, door) = (shell.clone(), Rc::<Door>::default());
    shell.carry("the one that listens on the network", move || {
        listen_tcp(address, served.clone(), door.clone())
    });

    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let mut ends = process::Ends::new().context("cannot hear of the end of children")?;
    let mut power_fails = signal(SignalKind::from_raw(nix::libc::SIGPWR))?;
    let mut reap_at = None;
    let watchdog = notify::watchdog_period();
    let mut sign_of_life = tokio::time::interval(watchdog.unwrap_or(Duration::from_secs(3600)));
    // No boot waits for what this agent waits for.
    notify::ready(&text);
    let waited =
        address::wait(&shell, node.address, [&mut terminate, &mut interrupt], &mut power_fails).await;
    if waited == Waited::End {
        shell.finished.set(true);
    } else {
        notify::status(&text);
        shell.apply_first().await;
        shell.search_all();
        links::follow_peers(&shell);
        tokio::task::spawn_local(vips::watch_addresses(shell.clone()));
        let talking = shell.clone();
        shell.carry("the one that talks to systemd", move || systemd::talk(talking.clone()));
        let asking = shell.clone();
        shell.carry("the one that asks keepalived", move || vips::ask_keepalived(asking.clone()));
        let managed = shell.clone();
        shell.carry("the one that manages what is rendered", move || manage::manage(managed.clone()));
        shell.write_files();
        tokio::task::spawn_local(generations::keep_up(shell.clone()));
        if let Some(place) = shell.places.etcd.clone() {
            let following = shell.clone();
            shell.carry("the one that follows etcd", move || etcd::follow(following.clone(), place.clone()));
        }
    }
    if waited == Waited::PowerFails {
        shell.go_down();
    }

    while !shell.finished.get() {
        let wake = shell.engine.borrow().next_wake();
        let guard_wakes = shell.vips.next_wake();
        let sleep = sleep_until(wake);
        tokio::select! {
            // In this order: what ends the agent, its sign of life, then what others wait for.
            biased;
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = power_fails.recv() => {
                shell.signalled("SIGPWR", "stop all: the machine goes down", Ok(String::new()));
                shell.go_down();
            }
            _ = sign_of_life.tick(), if watchdog.is_some() => notify::alive(),
            () = shell.wishes_are_kept() => shell.settle_wishes(),
            Some(message) = inbox.recv() => {
                let more = std::iter::from_fn(|| inbox.try_recv().ok()).take(AT_ONCE);
                if let Err(what) = shell.take(std::iter::once(message).chain(more)) {
                    // The event that says so is given to the clerk already.
                    shell.clerk.answers();
                    anyhow::bail!("a task has crashed that cannot be begun anew: {what}");
                }
            }
            Some(event) = probes.recv() => shell.heard_answer(event),
            () = sleep => shell.feed(Input::TimeCame),
            () = sleep_until(guard_wakes) => shell.guard(Seen::TimeCame),
            () = shell.sweeps.due() => shell.sweep_all(),
            () = sleep_until(shell.events.borrow().due()) => shell.events.borrow_mut().write(),
            _ = hangup.recv() => {
                let reloaded = shell.reload();
                if let Err(refusal) = &reloaded {
                    tracing::error!("{}", refusal.error);
                }
                shell.signalled("SIGHUP", "reload", reloaded.map(|r| r.text).map_err(|r| r.error));
            }
            () = ends.some(), if reap_at.is_none() => reap_at = Some(clock::now() + REAP_LATER),
            () = sleep_until(shell.spare_at.get()) => {
                shell.spare_at.set(None);
                process::give_back_memory();
            }
            () = sleep_until(reap_at) => {
                reap_at = None;
                shell.reap_orphans();
            }
        }
    }
    shell.settle_wishes();
    notify::stopping();
    shell.events.borrow_mut().record(
        "",
        "agent-ended",
        "services are left as they are",
        serde_json::Value::Null,
    );
    // What was given to the clerk before is written by then.
    shell.clerk.answers();
    let _ = std::fs::remove_file(&socket);
    shell.tree.dismantle();
    // Kept until the process is gone: a log may be in the middle of a rotation, and the next agent is not to begin
    // another.
    std::mem::forget(state_lock);
    Ok(())
}

async fn sleep_until(wake: Option<Moment>) {
    match wake {
        Some(at) => tokio::time::sleep(at.since(clock::now())).await,
        None => std::future::pending().await,
    }
}

impl Shell {
    /// Looks for what already runs; nothing starts before that.
    pub fn search_all(self: &Rc<Self>) {
        let all: Vec<InstanceIx> = self.engine.borrow().own_instances().collect();
        self.search_these(&all);
        self.find_orphans();
        self.real.began();
        self.look_at_real_server();
    }

    /// As [`Shell::search_all`], for instances that a new configuration brought.
    pub fn search_these(self: &Rc<Self>, instances: &[InstanceIx]) {
        if instances.is_empty() {
            return;
        }
        let marked = self.tree.find_marked().unwrap_or_else(|e| {
            tracing::error!("cannot look through /proc for processes of ours: {e}");
            Vec::new()
        });
        crash::here(Done::Searched);
        for instance in instances {
            if let Some(input) = self.search(*instance, &marked) {
                self.feed(input);
            }
        }
    }

    fn heard_answer(self: &Rc<Self>, event: crate::probe::prober::Event) {
        self.feed(Input::Answered {
            question: crate::engine::QuestionIx(event.question),
            answer: event.answer,
        });
    }

    /// Children that nobody holds any more are not to stay as zombies.
    fn reap_orphans(&self) {
        let held = self.held_pids();
        process::reap_orphans(&|pid| held.contains(&pid));
    }
}

/// Makes the agent's folders. Only its user may look into them; but services of every user find their notify sockets
/// below the run folder, which is opened for that when nothing else there can be reached.
fn make_folders(places: &Places) -> anyhow::Result<()> {
    let (run, notify) = (&places.run, &places.notify());
    for folder in [&places.state, run, &run.join("instances")] {
        safe::look_at_own(folder).map_err(|why| {
            anyhow::anyhow!("{why}\n  hint: look first whether all that lies there is the agent's own")
        })?;
    }
    let folders = [
        (&places.state, 0o700),
        (run, 0o700),
        (&run.join("instances"), 0o700),
        (notify, 0o711),
        (run, 0o711),
    ];
    for (folder, mode) in folders {
        make_folder(folder, mode).with_context(|| format!("cannot make the folder {}", folder.display()))?;
    }
    Ok(())
}

/// Nothing is written where all is as it should be: the disk may have become read-only.
fn make_folder(folder: &Path, mode: u32) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    if std::fs::metadata(folder)?.permissions().mode() & 0o7777 == mode {
        return Ok(());
    }
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(mode))
}

fn read_wishes(slot: &Slot<Wishes>) -> Wishes {
    match slot.read() {
        Ok(Some(stored)) => {
            if let Some(torn) = stored.torn {
                tracing::error!("operators' wishes: {torn}; the previous ones are in force");
            }
            stored.value
        }
        Ok(None) => Wishes::new(),
        Err(e) => {
            tracing::error!("operators' wishes cannot be read, so everything is to be up: {e}");
            Wishes::new()
        }
    }
}

/// Binds the local socket, for this user only so far. The state folder's lock is held: a file there is of an agent
/// that is gone. It is made where nobody else can reach it, and moved once its mode is right.
fn listen_unix(places: &Places) -> anyhow::Result<UnixListener> {
    let (aside, path) = (places.run.join("instances").join("sock"), places.socket());
    let _ = std::fs::remove_file(&aside);
    let cannot = || format!("cannot listen on {}", path.display());
    let listener = UnixListener::bind(&aside).with_context(cannot)?;
    std::fs::set_permissions(&aside, std::fs::Permissions::from_mode(0o600))
        .and_then(|()| std::fs::rename(&aside, &path))
        .with_context(cannot)?;
    Ok(listener)
}

/// Serves the TCP port, as soon as there is a certificate and its address can be had.
async fn listen_tcp(address: SocketAddr, shell: Rc<Shell>, door: Rc<Door>) {
    while matches!(*shell.security.borrow(), Security::Missing) {
        tokio::time::sleep(LOOK_AGAIN).await;
        shell.trust_again();
    }
    let listener = loop {
        match bind(address) {
            Ok(listener) => break listener,
            Err(e) => {
                let problem =
                    format!("cannot listen on {address} yet, so other agents do not hear this one: {e}");
                if shell.problems.borrow_mut().insert("listen", problem.clone()).is_none() {
                    tracing::warn!("{problem}");
                }
                tokio::time::sleep(BIND_AGAIN).await;
            }
        }
    };
    shell.problems.borrow_mut().remove("listen");
    server::serve_tcp(Rc::new(listener), serve::Api(shell), door).await;
}

/// A port with as long a queue as the kernel gives. Whoever finds the queue full is not told and knocks again a second
/// later, the rightful one as well as the flood.
fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(QUEUE)
}
