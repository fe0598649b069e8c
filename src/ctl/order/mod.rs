//! `up`, `down`, `start`, `stop`, `restart`: an order to each agent concerned, then its outcome.
//!
//! The order is only a wish with the agents: each does its own part, in its own time. The command sends it, says what
//! the agents made of it, and follows until the wish is fulfilled, cannot be fulfilled for now (and says why), or
//! the time is over. Ctrl-C ends the following, never the order.

mod follow;
mod reach;

use super::picture::{self, Known, silence};
use super::text::{listed, parse_duration, plural};
use super::{Asked, Exit, Global, hint};
use crate::api::wire::{ClusterStatus, Order, OrderReply, Verb};
use crate::engine::view::Wish;
use follow::{Followed, Goal};
use futures_util::future::join_all;
use std::io::{IsTerminal, Write};
use std::time::Duration;

/// How long a stop waits for dependents unless told otherwise.
const STOP_WITHIN: Duration = Duration::from_secs(60);
/// How long a start is followed unless told otherwise. It ends sooner when nothing moves any more.
const START_WITHIN: Duration = Duration::from_secs(300);

// What all orders take.
#[derive(Debug, clap::Args)]
pub struct Common {
    /// How long to wait for the outcome (90s, 2m) [default: 60s to stop, 5m to start, less when nothing moves]
    #[arg(long, value_parser = parse_duration, value_name = "TIME")]
    timeout: Option<Duration>,
    /// Why; kept with the wish and shown to whoever looks
    #[arg(long, default_value = "", hide_default_value = true, value_name = "TEXT")]
    reason: String,
    /// Give the order and return at once
    #[arg(long)]
    no_wait: bool,
}

// `clusterctl up`
#[derive(Debug, clap::Args)]
pub struct UpArgs {
    /// Instances, services, nodes or groups; all when none is named
    names: Vec<String>,
    #[command(flatten)]
    common: Common,
}

// `clusterctl down`
#[derive(Debug, clap::Args)]
pub struct DownArgs {
    /// Instances, services, nodes or groups; all when none is named
    names: Vec<String>,
    /// Do not wait for dependents on this node (it is recorded)
    #[arg(long, value_name = "NODE")]
    without: Vec<String>,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
    #[command(flatten)]
    common: Common,
}

// `clusterctl start`
#[derive(Debug, clap::Args)]
pub struct StartArgs {
    /// Instances, services, nodes or groups
    #[arg(required = true)]
    names: Vec<String>,
    /// Start although needs are not met (the event says who forced it)
    #[arg(long)]
    force: bool,
    /// Release what is held among the needs, too
    #[arg(long)]
    with_needs: bool,
    #[command(flatten)]
    common: Common,
}

// `clusterctl stop`
#[derive(Debug, clap::Args)]
pub struct StopArgs {
    /// Instances, services, nodes or groups
    #[arg(required = true)]
    names: Vec<String>,
    /// Do not wait for dependents on this node (it is recorded)
    #[arg(long, value_name = "NODE")]
    without: Vec<String>,
    #[command(flatten)]
    common: Common,
}

// `clusterctl restart`
#[derive(Debug, clap::Args)]
pub struct RestartArgs {
    /// Instances, services, nodes or groups
    #[arg(required = true)]
    names: Vec<String>,
    /// Start again although needs are not met (the event says who forced it)
    #[arg(long)]
    force: bool,
    /// Do not wait for dependents on this node (it is recorded)
    #[arg(long, value_name = "NODE")]
    without: Vec<String>,
    #[command(flatten)]
    common: Common,
}

pub async fn up(args: UpArgs, global: &Global) -> anyhow::Result<Exit> {
    let (mut asked, status) = look(global).await?;
    let chosen = picture::select(&status, &args.names)?;
    let held: Vec<&str> = chosen.iter().filter(|k| is_held(**k)).map(|k| k.name()).collect();
    if !held.is_empty() {
        eprintln!("releases {}", listed(&held, 20));
    }
    let order = order(Verb::Start, &args.common, START_WITHIN);
    send(&mut asked, &status, &chosen, order, Aim::of(Goal::Up), &args.common, global).await
}

pub async fn down(args: DownArgs, global: &Global) -> anyhow::Result<Exit> {
    let (mut asked, status) = look(global).await?;
    let chosen = picture::select(&status, &args.names)?;
    let question = format!("stop and hold {} of {}?", plural(chosen.len(), "instance"), status.cluster);
    if !args.yes && std::io::stdin().is_terminal() && !confirmed(&question)? {
        eprintln!("nothing was done");
        return Ok(Exit::Incomplete);
    }
    let order = Order { without: args.without, ..order(Verb::Stop, &args.common, STOP_WITHIN) };
    send(&mut asked, &status, &chosen, order, Aim::of(Goal::Held), &args.common, global).await
}

pub async fn start(args: StartArgs, global: &Global) -> anyhow::Result<Exit> {
    let (mut asked, status) = look(global).await?;
    let mut chosen = picture::select(&status, &args.names)?;
    if args.with_needs {
        let released = reach::held_needs(&status, &chosen);
        let names: Vec<&str> = released.iter().map(|k| k.name()).collect();
        if !names.is_empty() {
            eprintln!("releases {} too", listed(&names, 20));
        }
        chosen.extend(released);
    }
    let order = Order { force: args.force, ..order(Verb::Start, &args.common, START_WITHIN) };
    send(&mut asked, &status, &chosen, order, Aim::of(Goal::Up), &args.common, global).await
}

pub async fn stop(args: StopArgs, global: &Global) -> anyhow::Result<Exit> {
    let (mut asked, status) = look(global).await?;
    let chosen = picture::select(&status, &args.names)?;
    let also = reach::dependents_that_stop(&status, &chosen);
    if !also.is_empty() {
        eprintln!("stops first, since they need it: {}", listed(&also, 20));
    }
    let order = Order { without: args.without, ..order(Verb::Stop, &args.common, STOP_WITHIN) };
    send(&mut asked, &status, &chosen, order, Aim::of(Goal::Held), &args.common, global).await
}

pub async fn restart(args: RestartArgs, global: &Global) -> anyhow::Result<Exit> {
    let (mut asked, status) = look(global).await?;
    let mut chosen = picture::select(&status, &args.names)?;
    let also = reach::dependents_that_stop(&status, &chosen);
    if !also.is_empty() {
        eprintln!("stops first and comes back, since it needs it: {}", listed(&also, 20));
    }
    let held: Vec<&str> = chosen.iter().filter(|k| is_held(**k)).map(|k| k.name()).collect();
    if !held.is_empty() {
        eprintln!("stays held: {}", listed(&held, 20));
        hint(&format!("clusterctl start {}", held[0]));
    }
    chosen.retain(|k| !is_held(*k));
    let back: Vec<Known> = also.iter().filter_map(|name| picture::find(&status, name)).collect();
    let order =
        Order { force: args.force, without: args.without, ..order(Verb::Restart, &args.common, STOP_WITHIN) };
    let aim = Aim { goal: Goal::Restarted, also: &back };
    send(&mut asked, &status, &chosen, order, aim, &args.common, global).await
}

/// A step of a larger command.
pub struct Step<'a> {
    pub verb: Verb,
    pub names: &'a [String],
    pub reason: &'a str,
}

/// Orders it of those that run, and follows until they have come to it. What has not, and why.
pub async fn carry_out(asked: &mut Asked, step: Step<'_>) -> anyhow::Result<Vec<(String, String)>> {
    let status = asked.cluster().await?;
    let found = step.names.iter().filter_map(|name| picture::find(&status, name));
    let chosen: Vec<Known> = found.filter(|k| k.view().is_some_and(|v| v.pid.is_some())).collect();
    if chosen.is_empty() {
        return Ok(Vec::new());
    }
    let (goal, within) = match step.verb {
        Verb::Start => (Goal::Up, START_WITHIN),
        Verb::Stop => (Goal::Held, STOP_WITHIN),
        Verb::Restart => (Goal::Restarted, STOP_WITHIN),
    };
    let common = Common { timeout: Some(within), reason: step.reason.to_owned(), no_wait: false };
    let outcome = tell(asked, &status, &chosen, &order(step.verb, &common, within)).await;
    let mut left = outcome.untold;
    let told: Vec<Known> =
        chosen.into_iter().filter(|k| !left.iter().any(|(untold, _)| untold == k.name())).collect();
    let limit = follow::Limit { within: within + Duration::from_secs(2), patient: true };
    let followed = follow::follow(asked, &told, goal, limit).await;
    eprintln!("{}", followed.text);
    left.extend(followed.left);
    Ok(left)
}

async fn look(global: &Global) -> anyhow::Result<(Asked, ClusterStatus)> {
    let mut asked = Asked::open(global)?;
    let status = asked.cluster().await?;
    Ok((asked, status))
}

fn is_held(known: Known) -> bool {
    known.view().is_some_and(|v| matches!(v.wish, Wish::Held { .. }))
}

fn order(verb: Verb, common: &Common, within: Duration) -> Order {
    let timeout = common.timeout.unwrap_or(within);
    Order {
        verb,
        instances: vec![],
        force: false,
        timeout_ms: u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX),
        without: vec![],
        by: who(),
        reason: common.reason.clone(),
    }
}

/// `alice@lvs1`: whoever typed it, through sudo too.
pub fn who() -> String {
    let sudo = std::env::var("SUDO_USER").ok().filter(|u| !u.is_empty());
    let user = sudo.or_else(|| {
        let uid = nix::unistd::getuid();
        let entry = nix::unistd::User::from_uid(uid).ok().flatten();
        Some(entry.map_or_else(|| format!("uid {uid}"), |u| u.name))
    });
    let host = nix::unistd::gethostname().ok().and_then(|h| h.into_string().ok());
    format!("{}@{}", user.unwrap_or_default(), host.unwrap_or_else(|| "?".into()))
}

/// Asks a question that is answered with y or n; no is what an empty answer means.
pub fn confirmed(question: &str) -> std::io::Result<bool> {
    eprint!("{question} [y/N] ");
    std::io::stderr().flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// What the agents made of an order.
#[derive(Debug, Default, serde::Serialize)]
struct Outcome {
    /// Per instance, what its agent said.
    taken: Vec<(String, String)>,
    /// Instances whose agent could not be told, and why.
    untold: Vec<(String, String)>,
    durable: bool,
    /// Instances that are not there yet, and why; empty with `--no-wait`.
    left: Vec<(String, String)>,
}

/// What is followed once the order is given.
struct Aim<'a> {
    goal: Goal,
    /// Instances that were not ordered and come to the same goal by themselves.
    also: &'a [Known<'a>],
}

impl Aim<'_> {
    fn of(goal: Goal) -> Aim<'static> {
        Aim { goal, also: &[] }
    }
}

async fn send(
    asked: &mut Asked,
    status: &ClusterStatus,
    chosen: &[Known<'_>],
    order: Order,
    aim: Aim<'_>,
    common: &Common,
    global: &Global,
) -> anyhow::Result<Exit> {
    let mut outcome = tell(asked, status, chosen, &order).await;
    for (instance, text) in &outcome.taken {
        eprintln!("{instance}: {text}");
    }
    for (instance, text) in &outcome.untold {
        eprintln!("{instance}: not told: {text}");
    }
    let told: Vec<Known> =
        chosen.iter().filter(|k| !outcome.untold.iter().any(|(u, _)| u == k.name())).copied().collect();
    let mut exit = Exit::Done;
    if !common.no_wait && !told.is_empty() {
        let followed = [&told, aim.also].concat();
        let limit = follow::Limit {
            // A stop's own time runs with the agents; the answer needs a moment more to get here.
            within: Duration::from_millis(order.timeout_ms) + Duration::from_secs(2),
            patient: common.timeout.is_some(),
        };
        let Followed { left, text } = follow::follow(asked, &followed, aim.goal, limit).await;
        eprintln!("{text}");
        if let Some((first, _)) = left.first() {
            exit = Exit::Incomplete;
            hint(&format!("clusterctl why {first}"));
        }
        outcome.left = left;
    }
    if !outcome.untold.is_empty() {
        exit = Exit::Incomplete;
    }
    if !outcome.durable {
        eprintln!("warning: the disk did not take the wish: it is done, and will not survive a reboot");
        if exit == Exit::Done {
            exit = Exit::NotDurable;
        }
    }
    if global.json {
        super::print_json(&outcome)?;
    }
    Ok(exit)
}

/// Sends the order to every node concerned, side by side.
async fn tell(asked: &Asked, status: &ClusterStatus, chosen: &[Known<'_>], order: &Order) -> Outcome {
    let nodes = status.nodes.iter().filter_map(|node| {
        let instances: Vec<String> =
            chosen.iter().filter(|k| k.node().node == node.node).map(|k| k.name().to_owned()).collect();
        (!instances.is_empty()).then_some((node, instances))
    });
    let replies = join_all(nodes.map(async |(node, instances)| {
        if node.status.is_none() {
            return (instances, Err(silence(node)));
        }
        let order = Order { instances: instances.clone(), ..order.clone() };
        let reply: Result<OrderReply, _> = asked.post_at(&node.node, "/v1/order", &order).await;
        (instances, reply.map_err(|e| e.to_string()))
    }));
    let mut outcome = Outcome { durable: true, ..Outcome::default() };
    for (instances, reply) in replies.await {
        match reply {
            Ok(reply) => {
                outcome.durable &= reply.durable;
                outcome.taken.extend(reply.taken);
            }
            Err(error) => outcome.untold.extend(instances.into_iter().map(|i| (i, error.clone()))),
        }
    }
    outcome
}
