//! `why INSTANCE`: the chain from an instance that is not up down to its root causes, each link seen from both ends.
//!
//! [`why`] is a pure function over a [`ClusterStatus`]. An unmet edge is told by what the dependent's own node hears
//! and by what the candidate's agent says; where the two disagree, the disagreement itself is the finding. The roots
//! are gathered without recursion, so a chain may be as long as it likes; the tree that is printed is cut at
//! [`MAX_DEPTH`].

mod judge;
mod render;

pub use judge::{detail, heard_from, held_by, needed, short_of};
pub use render::render;

use super::picture::{self, Known, UnknownName};
use super::text::Look;
use super::{Asked, Exit, Global, hint};
use crate::api::wire::ClusterStatus;
use judge::Judge;
use std::collections::{HashMap, HashSet, VecDeque};

/// How many needs deep the printed tree goes.
pub const MAX_DEPTH: usize = 12;

/// Why an instance is as it is.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Explanation {
    pub instance: String,
    pub up: bool,
    pub tree: Told,
    /// Where the chains end, each named once.
    pub roots: Vec<Root>,
}

/// One link of the chain, with what lies behind it.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Told {
    /// A sentence without a final stop.
    pub text: String,
    /// What else is to be said about it: the other end, the conclusion.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub because: Vec<Told>,
}

/// Where a chain ends: what an operator can mend, or wait for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize)]
pub struct Root {
    pub kind: Kind,
    /// What it is about: an instance, a node, or a way (`web2 -> redis1`).
    pub at: String,
    pub text: String,
    /// The instance at which the chain ended.
    pub instance: String,
    /// What to do; `None` when there is nothing to do but wait.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// What a root is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// An instance, by its own agent's word.
    Instance,
    /// A node whose agent does not answer; nothing more is known.
    Silent,
    /// A node whose agent does not answer, as a dependent's probes find it. Tells more than [`Kind::Silent`].
    Found,
    /// A way between two nodes, or two agents that contradict each other.
    Way,
    /// A need whose candidates are all well, or wait for each other.
    Need,
}

/// Explains one instance.
pub fn why(status: &ClusterStatus, instance: &str, look: &Look) -> Result<Explanation, UnknownName> {
    let chosen = picture::select_to_see(status, &[instance.to_owned()])?;
    // A name that means several is explained by the first that is not up.
    let known = chosen.iter().find(|k| !k.is_up()).or(chosen.first()).copied();
    let known = known.ok_or_else(|| UnknownName { name: instance.into(), meant: None })?;
    let judge = Judge::new(status, look);
    let mut told = HashSet::new();
    let tree = tree(&judge, known, &mut told, 0);
    let mut roots = roots(&judge, [known.name()]);
    if roots.is_empty() && !known.is_up() {
        roots.push(judge.circle(known.name()));
    }
    for root in &mut roots {
        if root.hint.as_deref() == Some(&judge::release(&root.instance)) && root.instance != known.name() {
            root.hint = Some(format!("clusterctl start --with-needs {}", known.name()));
        }
    }
    Ok(Explanation { instance: known.name().into(), up: known.is_up(), tree, roots })
}

/// A root cause, and the instances that are not up because of it.
#[derive(Clone, Debug)]
pub struct Cause {
    pub root: Root,
    pub holds_up: Vec<String>,
}

/// The root causes of everything that is not up: those that somebody must mend first, and of these those that hold
/// up the most.
pub fn causes(status: &ClusterStatus, look: &Look) -> Vec<Cause> {
    let judge = Judge::new(status, look);
    let down: Vec<&str> = picture::instances(status).filter(|k| !k.is_up()).map(Known::name).collect();
    let mut behind: HashMap<&str, Vec<&str>> = HashMap::new();
    for name in &down {
        for (_, edge) in judge.unmet_edges(name) {
            behind.entry(&edge.to).or_default().push(name);
        }
    }
    let held_up = |start: &str| {
        let mut seen: HashSet<&str> = HashSet::new();
        let mut queue: VecDeque<&str> = behind.get(start).into_iter().flatten().copied().collect();
        while let Some(name) = queue.pop_front() {
            if name != start && seen.insert(name) {
                queue.extend(behind.get(name).into_iter().flatten());
            }
        }
        down.iter().filter(|d| seen.contains(*d)).map(|d| (*d).to_owned()).collect::<Vec<_>>()
    };
    let mut causes: Vec<Cause> = roots(&judge, down.iter().copied())
        .into_iter()
        .map(|root| Cause { holds_up: held_up(&root.instance), root })
        .collect();
    causes.sort_by_key(|c| (c.root.hint.is_none(), std::cmp::Reverse(c.holds_up.len())));
    causes
}

fn tree(judge: &Judge, known: Known, told: &mut HashSet<String>, depth: usize) -> Told {
    let view = judge.instance(known);
    told.insert(known.name().to_owned());
    let mut because = Vec::new();
    for need in judge.unmet_needs(known.name()) {
        let mut node = Told { text: judge.need(need), ..Told::default() };
        for edge in need.edges.iter().filter(|e| !e.met) {
            let found = judge.edge(known.name(), need, edge);
            let mut link = Told { text: found.text, notes: found.notes, because: vec![] };
            if let Some(next) = found.follow {
                let below = judge.instance(next);
                link.notes.insert(0, format!("on {}: {}", next.node().node, below.state));
                let goes_on = judge.unmet_needs(next.name()).next().is_some();
                if goes_on && told.contains(next.name()) {
                    link.notes.push("its needs are told above".into());
                } else if goes_on && depth >= MAX_DEPTH {
                    link.notes.push(format!("and so on: clusterctl why {}", next.name()));
                } else if goes_on {
                    link.because = tree(judge, next, told, depth + 1).because;
                }
            }
            node.because.push(link);
        }
        because.push(node);
    }
    Told { text: view.text, notes: view.notes, because }
}

/// Where the chains from `starts` end. Every instance is looked at once, so cycles end by themselves.
fn roots<'a>(judge: &Judge<'a>, starts: impl IntoIterator<Item = &'a str>) -> Vec<Root> {
    let mut roots: Vec<Root> = Vec::new();
    let mut add = |root: Root| {
        let a_node = |r: &Root| matches!(r.kind, Kind::Silent | Kind::Found);
        let same = |r: &&mut Root| r.at == root.at && (r.text == root.text || a_node(r) && a_node(&root));
        match roots.iter_mut().find(same) {
            Some(known) if known.kind < root.kind => *known = root,
            Some(_) => {}
            None => roots.push(root),
        }
    };
    let mut queue: VecDeque<&'a str> = starts.into_iter().collect();
    let mut seen: HashSet<&'a str> = queue.iter().copied().collect();
    while let Some(name) = queue.pop_front() {
        let Some(known) = judge.find(name) else { continue };
        if let Some(root) = judge.instance(known).root {
            add(root);
        }
        for need in judge.unmet_needs(name) {
            let mut led_on = false;
            for edge in need.edges.iter().filter(|e| !e.met) {
                let found = judge.edge(name, need, edge);
                led_on |= found.root.is_some() || found.follow.is_some();
                if let Some(root) = found.root {
                    add(root);
                }
                if let Some(next) = found.follow
                    && seen.insert(next.name())
                {
                    queue.push_back(next.name());
                }
            }
            if !led_on {
                add(judge.nobody_serves(name, need));
            }
        }
    }
    roots
}

// `clusterctl why`
#[derive(Debug, clap::Args)]
pub struct WhyArgs {
    /// An instance (activemq@mq1), or a service, node or group: its first instance that is not up
    pub name: String,
}

/// Asks and explains.
pub async fn run(args: WhyArgs, global: &Global) -> anyhow::Result<Exit> {
    let mut asked = Asked::open(global)?;
    let status = asked.cluster().await?;
    let look = Look::here();
    let explanation = why(&status, &args.name, &look)?;
    if global.json {
        super::print_json(&explanation)?;
    } else {
        super::print(&render(&explanation, &look))?;
        for text in render::hints(&explanation) {
            hint(&text);
        }
    }
    Ok(if explanation.up { Exit::Done } else { Exit::Incomplete })
}

#[cfg(test)]
mod tests;
