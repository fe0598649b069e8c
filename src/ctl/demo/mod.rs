//! `clusterctl demo`: the whole sample cluster on this machine.
//!
//! Fourteen agents, each a process of its own on a loopback address of its own, with the real daemons where they are
//! installed and stand-ins, which say so, where they are not. Everything lives in one folder and ends with the demo.

mod machines;

use super::{Exit, Global, hint, print, status, text};
use crate::api::client::Client;
use crate::api::wire::{ClusterStatus, EventRecord, Order, OrderReply, Verb};
use crate::clock;
use crate::facts::Moment;
use crate::rig::{Addressing, Directors, Nature, Options, Rig};
use anyhow::Context;
use clap::Args;
use machines::Machines;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// How long all fourteen may take; a cold boot with every daemon takes about half a minute on two cores.
const ALL_UP_WITHIN: Duration = Duration::from_secs(180);
/// How long they may take to stop.
const ALL_DOWN_WITHIN: Duration = Duration::from_secs(60);
/// How often the agents are asked for what happened.
const LOOK: Duration = Duration::from_millis(150);

/// Run the sample cluster of fourteen nodes on this machine
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// When all is up: kill everything at one instant, leave the pid files behind, and boot again
    #[arg(long)]
    power_cut: bool,
    /// End by itself when all came up: exit code 0 only then, and nothing is left running
    #[arg(long)]
    once: bool,
    /// Keep the folder with the configuration, data and logs
    #[arg(long)]
    keep: bool,
    /// Where to lay it out [default: a folder under the temporary one]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// What the boot came to.
enum Boot {
    AllUp,
    /// Ctrl-C.
    Ended,
    /// The time is over.
    Late,
}

pub async fn run(args: DemoArgs, global: &Global) -> anyhow::Result<Exit> {
    let mut ends = Ends::listen()?;
    crate::process::become_subreaper().context("cannot keep hold of the demo's processes")?;
    let folder = args
        .dir
        .clone()
        .unwrap_or_else(|| std::env::temp_dir().join(format!("clusterd-demo-{}", std::process::id())));
    anyhow::ensure!(
        !folder.exists(),
        "{} is there already; name another folder with --dir",
        folder.display()
    );
    print("laying out fourteen nodes …\n")?;
    let rig = lay_out(&folder)?;
    let mut demo = Demo { machines: Machines::new(&rig)?, rig, seen: BTreeMap::new(), begun: clock::now() };
    let outcome = demo.play(&args, global, &mut ends).await;
    // Whatever happened, nothing is left behind.
    demo.end(matches!(outcome, Ok(Exit::Done)), &mut ends).await;
    if args.keep {
        hint(&format!("everything is kept in {}", demo.rig.dir.display()));
    } else if let Err(e) = std::fs::remove_dir_all(&demo.rig.dir) {
        hint(&format!("{} could not be removed: {e}", demo.rig.dir.display()));
    }
    outcome
}

fn lay_out(folder: &Path) -> anyhow::Result<Rig> {
    let clusterctl = std::env::current_exe().context("cannot find my own program")?;
    // Two demos beside each other get different networks of 127.0.0.0/8.
    let net = [100 + (std::process::id() % 100) as u8, (std::process::id() / 100 % 250) as u8];
    let options = Options {
        clusterctl,
        as_users: nix::unistd::geteuid().is_root(),
        agent_port: None,
        http_port: 8080,
        vip: None,
        directors: Directors::OwnNamespaces,
        second_redis: None,
    };
    Rig::lay_out(folder, &Addressing::Loopback { net }, &options).context("cannot lay out the cluster")
}

struct Demo {
    rig: Rig,
    machines: Machines,
    /// By node: the last event that was shown.
    seen: BTreeMap<String, u64>,
    begun: Moment,
}

impl Demo {
    async fn play(&mut self, args: &DemoArgs, global: &Global, ends: &mut Ends) -> anyhow::Result<Exit> {
        self.show_daemons()?;
        print("\nthe machines boot, in any order:\n")?;
        let mut boot = self.boot(ends).await?;
        if args.power_cut && matches!(boot, Boot::AllUp) {
            print("\nPOWER CUT: every process is killed at one instant\n")?;
            let killed = self.machines.power_cut()?;
            let left = self.left_behind();
            print(&format!("{killed} processes are gone; these files stayed: {}\n", left.join(", ")))?;
            print("\nthe machines boot again:\n")?;
            boot = self.boot(ends).await?;
        }
        if matches!(boot, Boot::Ended) {
            return Ok(Exit::Incomplete);
        }
        print("\n")?;
        let first = self.machines.socket(&self.rig.nodes[0].0);
        let look = Global {
            identity: None,
            json: false,
            color: global.color,
            socket: Some(first.clone()),
            agent: None,
            direct: false,
            context: None,
            chosen: None,
            config: None,
        };
        let shown = status::run(status::StatusArgs { names: Vec::new(), watch: false }, &look).await?;
        let strangers = self.stand_ins_in_a_daemons_place().await;
        for stranger in &strangers {
            anstream::eprintln!("{stranger}");
        }
        if matches!(boot, Boot::Late) {
            hint(&format!(
                "not all came up within {} s; each agent's log is {}/NODE/agent.log (see --keep)",
                ALL_UP_WITHIN.as_secs(),
                self.rig.dir.display()
            ));
            return Ok(Exit::Incomplete);
        }
        if !strangers.is_empty() {
            return Ok(Exit::Error);
        }
        if !args.once {
            hint(&format!(
                "it stays up until Ctrl-C; in another terminal: export CLUSTERCTL_SOCKET={}",
                first.display()
            ));
            hint("then try: clusterctl status, clusterctl why web@web1, clusterctl stop mysql");
            ends.wait().await;
        }
        Ok(shown)
    }

    /// What is real here, and what is not.
    fn show_daemons(&self) -> anyhow::Result<()> {
        for daemon in &self.rig.daemons {
            let line = match &daemon.nature {
                Nature::Real(program) => format!("  {:12} {}\n", daemon.service, program.display()),
                Nature::StandIn(why) => format!("  {:12} a built-in STAND-IN ({why})\n", daemon.service),
            };
            print(&line)?;
        }
        Ok(())
    }

    /// Starts the agents and shows what happens until all is up.
    async fn boot(&mut self, ends: &mut Ends) -> anyhow::Result<Boot> {
        self.begun = clock::now();
        self.machines.start_agents()?;
        let mut told_wait = clock::now();
        while clock::now().since(self.begun) < ALL_UP_WITHIN {
            let new = self.show_news().await?;
            if new {
                told_wait = clock::now();
            }
            let status = self.status().await;
            if let Some(status) = &status {
                if all_up(status, self.rig.nodes.len()) {
                    self.show_news().await?;
                    let took = clock::now().since(self.begun);
                    print(&format!("all fourteen nodes are up after {:.1} s\n", took.as_secs_f64()))?;
                    return Ok(Boot::AllUp);
                }
                if clock::now().since(told_wait) > Duration::from_secs(2) {
                    told_wait = clock::now();
                    print(&format!("{}  … {}\n", self.stamp(clock::now()), still_waiting(status)))?;
                }
            }
            if ends.came_within(LOOK).await {
                return Ok(Boot::Ended);
            }
        }
        Ok(Boot::Late)
    }

    fn stamp(&self, at: Moment) -> String {
        format!("{:7.2} s", at.since(self.begun).as_secs_f64())
    }

    async fn status(&self) -> Option<ClusterStatus> {
        let first = &self.rig.nodes[0].0;
        self.machines.client(first).get("/v1/cluster").await.ok()
    }

    /// Prints the events that came since the last look, of all nodes, in their order. One machine has one clock.
    async fn show_news(&mut self) -> anyhow::Result<bool> {
        let mut news: Vec<EventRecord> = Vec::new();
        for (node, _) in &self.rig.nodes {
            let after = self.seen.get(node).copied().unwrap_or(0);
            let mut client = self.machines.client(node);
            let Ok(events) = client.get::<Vec<EventRecord>>(&format!("/v1/events?after={after}")).await
            else {
                continue; // its agent has yet to come up
            };
            if let Some(last) = events.last() {
                self.seen.insert(node.clone(), last.seq);
            }
            news.extend(events.into_iter().filter(|e| e.at >= self.begun && !e.instance.is_empty()));
        }
        news.sort_by_key(|e| e.at);
        for event in &news {
            print(&format!(
                "{}  {:18} {:11} {}\n",
                self.stamp(event.at),
                event.instance,
                event.what,
                event.text
            ))?;
        }
        Ok(!news.is_empty())
    }

    /// The pid files that are there although nothing runs, by instance.
    fn left_behind(&self) -> Vec<String> {
        let mut found = Vec::new();
        for (node, _) in &self.rig.nodes {
            for daemon in &self.rig.daemons {
                let Ok(files) = std::fs::read_dir(self.rig.instance_dir(&daemon.service, node)) else {
                    continue;
                };
                let names = files.flatten().map(|f| f.path());
                found.extend(
                    names
                        .filter(|p| p.extension().is_some_and(|e| e == "pid"))
                        .map(|p| p.strip_prefix(&self.rig.dir).unwrap_or(&p).display().to_string()),
                );
            }
        }
        found.sort();
        found
    }

    /// With a daemon installed, a stand-in must not serve in its place: sentences about those that do.
    async fn stand_ins_in_a_daemons_place(&self) -> Vec<String> {
        let Some(status) = self.status().await else {
            return vec!["error: no agent answers any more".to_owned()];
        };
        let own = std::env::current_exe().ok();
        let mut strangers = Vec::new();
        for view in status.nodes.iter().filter_map(|n| n.status.as_ref()).flat_map(|s| &s.instances) {
            let service = view.instance.split('@').next().unwrap_or_default();
            let real = self.rig.daemons.iter().any(|d| d.service == service && d.is_real());
            let runs = view.pid.and_then(|pid| std::fs::read_link(format!("/proc/{pid}/exe")).ok());
            if real && runs.is_some() && runs == own {
                strangers.push(format!(
                    "error: {} is served by a stand-in, although its daemon is installed",
                    view.instance
                ));
            }
        }
        strangers
    }

    /// Stops everything, dependents first, then whatever is left.
    async fn end(&mut self, gently: bool, ends: &mut Ends) {
        if gently {
            let _ = print("\nstopping, dependents first …\n");
            if !self.stop_in_order(ends).await {
                hint("not all stopped in order; the rest is killed");
            }
        }
        self.machines.end_agents().await;
        if let Err(e) = self.machines.power_cut() {
            hint(&format!("not everything could be killed: {e}"));
        }
    }

    async fn stop_in_order(&self, ends: &mut Ends) -> bool {
        let order = Order {
            verb: Verb::Stop,
            instances: Vec::new(),
            force: false,
            timeout_ms: ALL_DOWN_WITHIN.as_millis() as u64,
            without: Vec::new(),
            by: "the demo".to_owned(),
            reason: "it ends".to_owned(),
        };
        for (node, _) in &self.rig.nodes {
            let sent: Result<OrderReply, _> = self.machines.client(node).post("/v1/order", &order).await;
            if sent.is_err() {
                return false;
            }
        }
        let begun = clock::now();
        while clock::now().since(begun) < ALL_DOWN_WITHIN {
            if let Some(status) = self.status().await
                && views(&status).all(|v| v.pid.is_none())
            {
                return true;
            }
            if ends.came_within(LOOK).await {
                return false;
            }
        }
        false
    }
}

fn views(status: &ClusterStatus) -> impl Iterator<Item = &crate::engine::view::InstanceView> {
    status.nodes.iter().filter_map(|n| n.status.as_ref()).flat_map(|s| &s.instances)
}

fn all_up(status: &ClusterStatus, nodes: usize) -> bool {
    let answering = status.nodes.iter().filter(|n| n.status.is_some()).count();
    answering == nodes && views(status).all(|v| v.state.is_up())
}

/// Who is not up yet, in one line.
fn still_waiting(status: &ClusterStatus) -> String {
    let not_up: Vec<_> =
        views(status).filter(|v| !v.state.is_up()).map(|v| format!("{} {}", v.instance, v.state)).collect();
    let silent = status.nodes.iter().filter(|n| n.status.is_none()).count();
    let mut line = text::listed(&not_up, 5);
    if silent > 0 {
        line += &format!("; {} silent", text::plural(silent, "agent"));
    }
    line
}

/// Ctrl-C, or being told to end.
struct Ends {
    interrupt: Signal,
    terminate: Signal,
}

impl Ends {
    fn listen() -> anyhow::Result<Ends> {
        Ok(Ends { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn wait(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }

    async fn came_within(&mut self, time: Duration) -> bool {
        tokio::time::timeout(time, self.wait()).await.is_ok()
    }
}

impl Machines {
    fn client(&self, node: &str) -> Client {
        Client::new(crate::api::client::Target::Unix(self.socket(node)))
            .within(Duration::from_millis(500), Duration::from_secs(5))
    }
}
