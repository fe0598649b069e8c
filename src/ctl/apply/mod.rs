//! `apply`: one cluster file and its units for all nodes.
//!
//! Every node is asked what it has, shown what would change, and given the new one to keep aside. Only when all have
//! accepted it, it is put in force everywhere. What is not in the file any more is stopped then, dependents first; what
//! runs by something that has changed is started anew, one after the other.
//!
//! It takes the right `admin`, which no agent believes of an operator whose call another agent relays: with a
//! certificate every node is asked directly.

mod tell;

use super::order::{self, Step};
use super::text::{listed, plural};
use super::{Asked, Exit, Global, Misuse, hint, picture};
use crate::api::client::ClientError;
use crate::api::wire::{ReloadReply, Switch, Verb};
use crate::generation::{self, Change, Fate, Generation, Offer, Unclear};
use crate::model::{self, Cluster, Sources};
use crate::pki::Seal;
use anyhow::Context;
use futures_util::future::join_all;
use hyper::StatusCode;
use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::PathBuf;

// `clusterctl apply`
#[derive(Debug, clap::Args)]
pub struct ApplyArgs {
    /// The cluster file; its units are those in the folder `units` beside it
    pub file: PathBuf,
    /// The folder of the units
    #[arg(long, value_name = "DIR")]
    pub units: Option<PathBuf>,
    /// Leave out nodes that do not answer; they take it when they are back
    #[arg(long)]
    pub reachable: bool,
    /// Put it over this one (the first digits of its hash), which is not where it comes from
    #[arg(long, value_name = "HASH")]
    pub over: Vec<String>,
    /// Start nothing anew that runs by what has changed
    #[arg(long)]
    pub no_restart: bool,
    /// Show what would change, and end
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask
    #[arg(long, short)]
    pub yes: bool,
    /// Why; it stands on the trail
    #[arg(long, default_value = "", hide_default_value = true, value_name = "TEXT")]
    pub reason: String,
}

/// What is staged, and why.
#[derive(serde::Serialize)]
struct Staged<'a> {
    #[serde(flatten)]
    offer: &'a Offer,
    reason: &'a str,
}

/// What a node has, or why it does not say.
type Answers = BTreeMap<String, Result<Generation, ClientError>>;

/// What came of it, for scripts.
#[derive(Debug, Default, serde::Serialize)]
struct Outcome {
    generation: Generation,
    changes: Vec<Change>,
    /// By node, what its agent said.
    nodes: BTreeMap<String, String>,
    /// Nodes that have not got it, and why.
    left_out: BTreeMap<String, String>,
    /// Instances that did not come to what they should, and why.
    left: Vec<(String, String)>,
}

pub async fn run(args: ApplyArgs, global: &Global) -> anyhow::Result<Exit> {
    let sources = Sources::read(&args.file, args.units.as_deref())?;
    let cluster = model::parse(&sources)?;
    let bundle = if cluster.insecure { None } else { global.bundle()? };
    let mut asked = match global.direct || bundle.is_some() {
        true => Asked::each(global, &cluster)?,
        false => Asked::open(global)?,
    };
    let answers = ask(&asked, &cluster).await;
    if let Some(refused) = first_refusal(&answers) {
        return Err(refused);
    }
    let has = |(node, answer): (&String, &Result<Generation, ClientError>)| {
        answer.as_ref().ok().map(|generation| (node.clone(), generation.clone()))
    };
    let have: BTreeMap<String, Generation> = answers.iter().filter_map(has).collect();
    let silent = silent(&answers);
    if have.is_empty() {
        for (node, why) in &silent {
            eprintln!("{node}: {why}");
        }
        anyhow::bail!("no node answers");
    }
    let behind: Vec<&Generation> = have.values().filter(|g| g.hash != cluster.hash).collect();
    if behind.is_empty() && args.over.is_empty() {
        let generation = have.values().max_by_key(|g| g.number).cloned().unwrap_or_default();
        super::print(&format!(
            "nothing to do: {generation} is in force on {}\n",
            plural(have.len(), "node")
        ))?;
        return Ok(if silent.is_empty() { Exit::Done } else { said_silent(&silent, args.reachable) });
    }
    let all: Vec<&Generation> = have.values().collect();
    let (parent, over) = match generation::choose(if behind.is_empty() { &all } else { &behind }, &args.over)
    {
        Ok(chosen) => chosen,
        Err(unclear) => return unclear_parent(unclear, &have, &args),
    };
    let before = before(&asked, parent, &have).await?;
    let generation = Generation::after(parent, &over, cluster.hash.clone(), order::who());
    let mut outcome = Outcome {
        changes: generation::difference(&before, &cluster),
        left_out: silent.clone(),
        generation: generation.clone(),
        ..Outcome::default()
    };
    if !global.json {
        super::print(&tell::difference(&before, parent, &cluster, &outcome.changes, &generation))?;
    }
    for warning in &cluster.warnings {
        anstream::eprintln!("{} {}", super::text::paint(super::text::WARN, "warning:"), warning.trim_end());
    }
    let missed = silent.keys().filter(|node| before.node_named(node).is_some()).count();
    if missed > 0 && !args.reachable {
        said_silent(&silent, false);
        eprintln!("nothing was changed");
        return end(&outcome, global, Exit::Incomplete);
    }
    for (node, why) in &silent {
        eprintln!("left out: {node}: {why}");
    }
    if args.dry_run {
        return end(&outcome, global, Exit::Done);
    }
    let question = format!("put it in force on {}?", plural(have.len(), "node"));
    if !args.yes && std::io::stdin().is_terminal() && !order::confirmed(&question)? {
        eprintln!("nothing was changed");
        return Ok(Exit::Incomplete);
    }
    let seal = match &bundle {
        Some(bundle) => Some(Seal::set(bundle, &generation.text(&cluster.name)).context("cannot sign it")?),
        None => None,
    };
    let offer = Offer { generation, seal, sources: Sources { unread: BTreeMap::new(), ..sources } };
    let nodes: Vec<&String> = have.keys().collect();
    if !stage(&asked, &nodes, &Staged { offer: &offer, reason: &args.reason }).await {
        eprintln!("nothing was changed on any node");
        return end(&outcome, global, Exit::Incomplete);
    }
    let mut exit = switch(&asked, &nodes, (&cluster.hash, &args.reason), &mut outcome).await;
    if !global.json {
        let in_force = &outcome.generation;
        super::print(&format!("{in_force} is in force on {}\n", plural(outcome.nodes.len(), "node")))?;
    }
    if !follow_up(&mut asked, &args, &mut outcome).await? {
        exit = Exit::Incomplete;
    }
    if exit == Exit::Done && !global.json {
        hint("clusterctl status");
    }
    end(&outcome, global, exit)
}

fn end(outcome: &Outcome, global: &Global, exit: Exit) -> anyhow::Result<Exit> {
    if global.json {
        super::print_json(outcome)?;
    }
    Ok(exit)
}

/// What each node of the new file has.
async fn ask(asked: &Asked, cluster: &Cluster) -> Answers {
    let ask = cluster.nodes.iter().map(async |node| {
        let answer = asked.get_at::<Generation>(&node.name, "/v1/generation").await;
        (node.name.clone(), answer)
    });
    join_all(ask).await.into_iter().collect()
}

/// Whether nobody is there, rather than that somebody does not want.
fn is_silence(error: &ClientError) -> bool {
    match error {
        // Through another agent, which did not reach it.
        ClientError::Refused { status, .. } => *status == StatusCode::BAD_GATEWAY,
        ClientError::Distrust { .. } | ClientError::NoCertificate { .. } => false,
        _ => true,
    }
}

fn first_refusal(answers: &Answers) -> Option<anyhow::Error> {
    let refusal = answers.iter().find_map(|(node, answer)| match answer {
        Err(error) if !is_silence(error) => Some((node, error)),
        _ => None,
    });
    refusal.map(|(node, error)| {
        Misuse {
            text: format!("{node}: {error}"),
            hint: error.hint().unwrap_or_else(|| {
                "clusterctl pki operator NAME --role admin, then clusterctl apply --identity FILE".to_owned()
            }),
        }
        .into()
    })
}

fn silent(answers: &Answers) -> BTreeMap<String, String> {
    let silent = |(node, answer): (&String, &Result<Generation, ClientError>)| {
        answer.as_ref().err().map(|error| (node.clone(), error.to_string()))
    };
    answers.iter().filter_map(silent).collect()
}

fn said_silent(silent: &BTreeMap<String, String>, reachable: bool) -> Exit {
    for (node, why) in silent {
        eprintln!("{node} does not answer: {why}");
    }
    if !reachable {
        hint("with --reachable they are left out, and take it when they are back");
    }
    Exit::Incomplete
}

/// Says who has what where that does not come from each other.
fn unclear_parent(
    unclear: Unclear,
    have: &BTreeMap<String, Generation>,
    args: &ApplyArgs,
) -> anyhow::Result<Exit> {
    match unclear {
        Unclear::TooShort(typed) => Err(Misuse {
            text: format!("--over {typed}: too few digits to be sure"),
            hint: format!("at least {} of them, as clusterctl status shows them", generation::SHORT),
        }
        .into()),
        Unclear::NotThere(typed) => {
            let known: Vec<&str> = have.values().map(Generation::short).collect();
            let text = format!("--over {typed}: no node that answers has that");
            Err(Misuse { text, hint: format!("there are {}", known.join(", ")) }.into())
        }
        Unclear::Diverged(which) => {
            eprintln!("the nodes have configurations that do not come from each other:");
            for generation in &which {
                let on: Vec<&String> =
                    have.iter().filter(|(_, g)| g.hash == generation.hash).map(|(node, _)| node).collect();
                eprintln!("  {generation} on {}", listed(&on, 8));
            }
            eprintln!("nothing was changed");
            if let Some(other) = which.last() {
                let file = args.file.display();
                hint(&format!("clusterctl apply {file} --over {} puts it over that one", other.short()));
            }
            Ok(Exit::Incomplete)
        }
    }
}

/// The configuration that the new one comes from, from a node that has it.
async fn before(
    asked: &Asked,
    parent: &Generation,
    have: &BTreeMap<String, Generation>,
) -> anyhow::Result<Cluster> {
    let on: Vec<&String> = have.iter().filter(|(_, g)| g.hash == parent.hash).map(|(node, _)| node).collect();
    let node = on.first().context("no node has what the new one comes from")?;
    let offer: Offer = asked
        .get_at(node, "/v1/config")
        .await
        .with_context(|| format!("cannot get the configuration that is in force on {node}"))?;
    model::parse(&offer.sources)
        .map_err(|e| anyhow::anyhow!("the configuration in force on {node} is not understood here: {e}"))
}

/// Gives it to all of them to keep aside. Whether all have accepted it.
async fn stage(asked: &Asked, nodes: &[&String], offer: &Staged<'_>) -> bool {
    let replies = join_all(
        nodes
            .iter()
            .map(async |node| (*node, asked.post_at::<_, ReloadReply>(node, "/v1/stage", offer).await)),
    );
    let mut accepted = true;
    for (node, reply) in replies.await {
        if let Err(error) = reply {
            eprintln!("{node} does not accept it: {error}");
            if let Some(text) = error.hint() {
                hint(&text);
            }
            accepted = false;
        }
    }
    accepted
}

/// Has all of them put it in force.
async fn switch(
    asked: &Asked,
    nodes: &[&String],
    (hash, reason): (&str, &str),
    outcome: &mut Outcome,
) -> Exit {
    let to = Switch { hash: hash.to_owned(), reason: reason.to_owned() };
    let replies = join_all(
        nodes
            .iter()
            .map(async |node| (*node, asked.post_at::<_, ReloadReply>(node, "/v1/switch", &to).await)),
    );
    let mut exit = Exit::Done;
    for (node, reply) in replies.await {
        match reply {
            Ok(reply) => drop(outcome.nodes.insert(node.clone(), reply.text)),
            Err(error) => {
                eprintln!("{node} had accepted it, and has not put it in force: {error}");
                eprintln!("{node} takes it from the others once its agent is back");
                outcome.left_out.insert(node.clone(), error.to_string());
                exit = Exit::Incomplete;
            }
        }
    }
    exit
}

/// Stops what is not in the file any more, and starts anew what runs by something that has changed. Whether all came to
/// that.
async fn follow_up(asked: &mut Asked, args: &ApplyArgs, outcome: &mut Outcome) -> anyhow::Result<bool> {
    let of = |fate: Fate| {
        let mut found: Vec<(u32, String)> = outcome
            .changes
            .iter()
            .filter(|c| c.fate == fate && !outcome.left_out.contains_key(picture::node_of(&c.instance)))
            .map(|c| (c.rank, c.instance.clone()))
            .collect();
        found.sort();
        found
    };
    let (mut stops, restarts) = (of(Fate::Stops), of(Fate::Restarts));
    stops.reverse();
    // Dependents first: one rank of the old file after the other.
    for wave in stops.chunk_by(|a, b| a.0 == b.0) {
        let names: Vec<String> = wave.iter().map(|(_, name)| name.clone()).collect();
        let step = Step { verb: Verb::Stop, names: &names, reason: "it is not in the file any more" };
        let left = order::carry_out(asked, step).await?;
        if !left.is_empty() {
            outcome.left = left;
            eprintln!("what it may need is left running");
            hint(&format!("clusterctl stop {}", outcome.left[0].0));
            return Ok(false);
        }
    }
    for (at, (_, name)) in restarts.iter().enumerate() {
        if args.no_restart {
            eprintln!("{name} runs by what was before until it is started anew");
            continue;
        }
        let names = std::slice::from_ref(name);
        let step = Step { verb: Verb::Restart, names, reason: "what it runs by has changed" };
        let left = order::carry_out(asked, step).await?;
        if !left.is_empty() {
            outcome.left = left;
            let others: Vec<&String> = restarts[at + 1..].iter().map(|(_, name)| name).collect();
            if !others.is_empty() {
                eprintln!("left as they run, by what was before: {}", listed(&others, 20));
            }
            hint(&format!("clusterctl why {name}"));
            return Ok(false);
        }
    }
    Ok(true)
}
