//! `status`: all nodes side by side, what is wrong first.

use super::picture::{self, Known, silence};
use super::text::{BOLD, DIM, Look, Row, WARN, listed, paint, plural, put, short, state_style, table, told};
use super::why::{self, Cause, Kind};
use super::{Asked, Exit, Global, hint, vip};
use crate::api::wire::{ClusterStatus, NodeEntry};
use crate::engine::view::{EdgeView, InstanceView, NeedView, StateName, Wish};
use crate::facts::Verdict;
use crate::generation::{Generation, Relation, short as short_hash};
use anstyle::Style;
use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

// `clusterctl status`
#[derive(Debug, clap::Args)]
pub struct StatusArgs {
    /// Only these instances, services, nodes or groups (@NAME is surely a node or group)
    pub names: Vec<String>,
    /// Show it again whenever it changes, until Ctrl-C
    #[arg(long, short)]
    pub watch: bool,
}

/// How many root causes are shown above the table.
const CAUSES: usize = 5;
/// Between two looks with `--watch`.
const WATCH_EVERY: Duration = Duration::from_secs(1);

/// Asks and shows, once or until Ctrl-C.
pub async fn run(args: StatusArgs, global: &Global) -> anyhow::Result<Exit> {
    let mut asked = Asked::open(global)?;
    if args.watch {
        return watch(&args, global, &mut asked).await;
    }
    let status = asked.cluster().await?;
    let chosen = picture::select_to_see(&status, &args.names)?;
    let up = all_up(&status, &chosen, args.names.is_empty());
    if global.json {
        super::print_json(&only(&status, &args.names, &chosen))?;
    } else {
        let look = Look::here();
        let causes = why::causes(&status, &look);
        super::print(&render(&status, &chosen, &causes, &look))?;
        for text in hints(&status, &chosen, &causes) {
            hint(&text);
        }
    }
    Ok(if up { Exit::Done } else { Exit::Incomplete })
}

async fn watch(args: &StatusArgs, global: &Global, asked: &mut Asked) -> anyhow::Result<Exit> {
    let mut tick = tokio::time::interval(WATCH_EVERY);
    let mut shown = String::new();
    loop {
        tick.tick().await;
        let screen = match asked.cluster().await {
            Ok(status) if global.json => {
                let chosen = picture::select_to_see(&status, &args.names)?;
                serde_json::to_string(&only(&status, &args.names, &chosen))? + "\n"
            }
            Ok(status) => {
                let look = Look::here();
                let chosen = picture::select_to_see(&status, &args.names)?;
                render(&status, &chosen, &why::causes(&status, &look), &look)
            }
            Err(error) if global.json => return Err(error.into()),
            Err(error) => format!("{error}\n"),
        };
        if screen != shown {
            // Home, then erase each line's rest and what is below: no blank frame, so no flicker.
            let drawn = if global.json || !super::on_terminal() {
                screen.clone()
            } else {
                format!("\x1b[H{}\x1b[J", screen.replace('\n', "\x1b[K\n"))
            };
            if shown.is_empty() && !global.json && super::on_terminal() {
                super::print_raw("\x1b[2J")?;
            }
            super::print_raw(&drawn)?;
            shown = screen;
        }
    }
}

/// The status cut down to what was asked for; all of it when nothing was named.
fn only(status: &ClusterStatus, names: &[String], chosen: &[Known]) -> ClusterStatus {
    let mut cut = status.clone();
    if names.is_empty() {
        return cut;
    }
    let wanted: HashSet<&str> = chosen.iter().map(|k| k.name()).collect();
    for node in &mut cut.nodes {
        node.last.retain(|l| wanted.contains(l.instance.as_str()));
        if let Some(status) = &mut node.status {
            status.instances.retain(|i| wanted.contains(i.instance.as_str()));
        }
    }
    cut.nodes.retain(|n| !n.last.is_empty() || n.status.as_ref().is_some_and(|s| !s.instances.is_empty()));
    cut
}

/// Whether everything asked about is up; for the whole cluster every agent must answer, too, and no virtual address be
/// held by none or several.
fn all_up(status: &ClusterStatus, chosen: &[Known], whole: bool) -> bool {
    let well = || status.nodes.iter().all(|n| n.status.is_some()) && vip::banners(status).is_empty();
    chosen.iter().all(|k| k.is_up()) && (!whole || well())
}

/// The summary, what is wrong with the whole, the root causes, the table.
pub fn render(status: &ClusterStatus, chosen: &[Known], causes: &[Cause], look: &Look) -> String {
    let mut out = String::new();
    let whole = chosen.len() == picture::instances(status).count();
    put(&mut out, look, 0, &paint(BOLD, &summary(status, chosen)));
    for line in banners(status) {
        put(&mut out, look, 0, &paint(WARN, &line));
    }
    let wanted: HashSet<&str> = chosen.iter().map(|k| k.name()).collect();
    let concerns = |c: &&Cause| {
        whole
            || wanted.contains(c.root.instance.as_str())
            || c.holds_up.iter().any(|h| wanted.contains(h.as_str()))
    };
    // What holds up nothing but itself is told in its own row, a silent node in its banner.
    let says_more =
        |c: &&Cause| !c.holds_up.is_empty() || !matches!(c.root.kind, Kind::Instance | Kind::Silent);
    let causes: Vec<&Cause> = causes.iter().filter(concerns).filter(says_more).collect();
    if !causes.is_empty() {
        out.push('\n');
        out.push_str(&paint(BOLD, if causes.len() == 1 { "Root cause" } else { "Root causes" }));
        out.push('\n');
    }
    for cause in causes.iter().take(CAUSES) {
        put(&mut out, look, 2, &cause_line(cause));
    }
    if causes.len() > CAUSES {
        put(&mut out, look, 2, &format!("and {} more", causes.len() - CAUSES));
    }
    out.push('\n');
    let rows = rows(status, chosen, whole, look);
    out.push_str(&table(look, &["GROUP", "INSTANCE", "STATE", "FOR", "PID", ""], &rows, 1));
    let mut outside = picture::outside(status);
    for edges in outside.values_mut() {
        edges.retain(|(dependent, _)| wanted.contains(dependent));
    }
    outside.retain(|_, edges| !edges.is_empty());
    if !outside.is_empty() {
        out.push_str(&format!("\n{}\n", paint(BOLD, "Outside the cluster")));
        for (name, edges) in &outside {
            put(&mut out, look, 2, &outside_line(name, edges));
        }
    }
    out
}

/// `mysql1: the machine is down or cut off; holds up 3: activemq@mq1, …`
pub fn cause_line(cause: &Cause) -> String {
    let root = &cause.root;
    let held = match cause.holds_up.len() {
        0 => String::new(),
        n => format!("; holds up {n}: {}", listed(&cause.holds_up, 3)),
    };
    format!("{}: {}{held}", root.at, root.text)
}

/// `dns: ready from 3 nodes; from web2 for 12s: nothing listens on UDP 10.0.0.53:53`
fn outside_line(name: &str, edges: &[(&str, &EdgeView)]) -> String {
    let mut by_node: BTreeMap<&str, &EdgeView> = BTreeMap::new();
    for (dependent, edge) in edges {
        by_node.insert(picture::node_of(dependent), edge);
    }
    let (good, bad): (Vec<_>, Vec<_>) =
        by_node.into_iter().partition(|(_, e)| matches!(e.verdict, Some(Verdict::Ready(_))));
    let mut told: Vec<String> = bad.iter().take(3).map(|(node, edge)| why::heard_from(node, edge)).collect();
    if bad.len() > 3 {
        told.push(format!("and from {} more", bad.len() - 3));
    }
    match good.as_slice() {
        [] => {}
        [(node, _)] => told.insert(0, format!("ready from {node}")),
        many => told.insert(0, format!("ready from {} nodes", many.len())),
    }
    format!("{name}: {}", told.join("; "))
}

/// `shop: 13 of 18 up; 3 waiting, 1 blocked, 1 unknown`
fn summary(status: &ClusterStatus, chosen: &[Known]) -> String {
    let mut counts: BTreeMap<StateName, usize> = BTreeMap::new();
    for known in chosen {
        *counts.entry(known.state()).or_default() += 1;
    }
    let up: usize = counts.iter().filter(|(s, _)| s.is_up()).map(|(_, n)| n).sum();
    let standby = counts.get(&StateName::Standby).copied().unwrap_or(0);
    let standing = if standby > 0 { format!(" ({standby} standing by)") } else { String::new() };
    let rest: Vec<String> =
        counts.iter().filter(|(s, _)| !s.is_up()).map(|(s, n)| format!("{n} {s}")).collect();
    let cluster = &status.cluster;
    match (chosen.len(), rest.is_empty()) {
        (0, _) => format!("{cluster}: no instances"),
        (n, true) => format!("{cluster}: all {n} up{standing}"),
        (n, false) => format!("{cluster}: {up} of {n} up{standing}; {}", rest.join(", ")),
    }
}

/// What concerns the whole: all held, silent nodes, differing files, agents in trouble.
fn banners(status: &ClusterStatus) -> Vec<String> {
    let mut lines = Vec::new();
    let views: Vec<&InstanceView> = picture::instances(status).filter_map(Known::view).collect();
    if !views.is_empty() && views.iter().all(|v| matches!(v.wish, Wish::Held { .. })) {
        lines.push("ALL IS HELD: nothing starts until clusterctl up".into());
    }
    let silent: Vec<&NodeEntry> = status.nodes.iter().filter(|n| n.status.is_none()).collect();
    if !silent.is_empty() {
        let named: Vec<String> = silent.iter().map(|n| format!("{} ({})", n.node, silence(n))).collect();
        let verb = if silent.len() == 1 { "does" } else { "do" };
        lines.push(format!("{} {verb} not answer: {}", plural(silent.len(), "node"), listed(&named, 4)));
    }
    lines.extend(files_in_force(status));
    lines.extend(vip::banners(status));
    for node in status.nodes.iter().filter_map(|n| n.status.as_ref()) {
        lines.extend(node.problems.iter().map(|p| format!("{}'s agent: {p}", node.node)));
    }
    lines
}

/// Who runs what, where they do not all run the same.
pub fn files_in_force(status: &ClusterStatus) -> Vec<String> {
    let mut files: Vec<(&str, &Generation, Vec<&str>)> = Vec::new();
    for node in status.nodes.iter().filter_map(|n| n.status.as_ref()) {
        match files.iter_mut().find(|(hash, ..)| *hash == node.config) {
            Some((.., nodes)) => nodes.push(&node.node),
            None => files.push((&node.config, &node.generation, vec![&node.node])),
        }
    }
    if files.len() < 2 {
        return Vec::new();
    }
    files.sort_by_key(|(.., nodes)| std::cmp::Reverse(nodes.len()));
    let told = |(hash, generation, nodes): &(&str, &Generation, Vec<&str>)| {
        let what = match generation.hash.is_empty() {
            true => short_hash(hash).to_owned(), // an older agent
            false => generation.to_string(),
        };
        format!("{what} on {}", listed(nodes, 4))
    };
    let named: Vec<String> = files.iter().map(told).collect();
    let mut lines = vec![format!("{} cluster files are in force: {}", files.len(), named.join("; "))];
    let diverged = |other: &Generation| files[0].1.relation(other) == Relation::Diverged;
    if let Some((hash, ..)) = files[1..].iter().find(|(_, generation, _)| diverged(generation)) {
        lines.push(format!(
            "DIVERGED: they do not come from each other, and none is taken by the others; clusterctl apply FILE --over {} \
             puts a file over that one",
            short_hash(hash)
        ));
    }
    lines
}

fn rows(status: &ClusterStatus, chosen: &[Known], whole: bool, look: &Look) -> Vec<Row> {
    let wanted: HashSet<&str> = chosen.iter().map(|k| k.name()).collect();
    let mut rows = Vec::new();
    let mut groups: Vec<&str> = Vec::new();
    for node in &status.nodes {
        if !groups.contains(&node.group.as_str()) {
            groups.push(&node.group);
        }
    }
    for group in groups {
        let mut label = group;
        for node in status.nodes.iter().filter(|n| n.group == group) {
            for known in picture::of_node(node).filter(|k| wanted.contains(k.name())) {
                rows.push(row(std::mem::take(&mut label), known, look));
            }
            if whole && picture::of_node(node).next().is_none() {
                rows.push(empty_node(std::mem::take(&mut label), node));
            }
        }
    }
    rows
}

fn row(group: &str, known: Known, look: &Look) -> Row {
    let (since, pid) = match known {
        Known::Heard(_, view) => (short(view.since_ms), view.pid.map(|p| p.to_string())),
        Known::Silent(..) => (String::new(), None),
    };
    let plain = Style::new();
    let cells = vec![
        (group.into(), DIM),
        (known.name().into(), plain),
        (known.state().to_string(), state_style(known.state())),
        (since, plain),
        (pid.unwrap_or_default(), DIM),
    ];
    Row { cells, tail: remarks(known, look) }
}

/// A node without instances is still a node: it answers or it does not.
fn empty_node(group: &str, node: &NodeEntry) -> Row {
    let state = if node.status.is_some() { "-" } else { "unknown" };
    let plain = Style::new();
    let cells = [(group, DIM), (&format!("@{}", node.node), plain), (state, plain), ("", plain), ("", plain)];
    Row {
        cells: cells.into_iter().map(|(c, s)| (c.to_owned(), s)).collect(),
        tail: vec![if node.status.is_some() { "nothing is placed here".into() } else { silence(node) }],
    }
}

/// What stands beside an instance: what it waits for, what is wrong, what is worth knowing.
pub fn remarks(known: Known, look: &Look) -> Vec<String> {
    let view = match known {
        Known::Heard(_, view) => view,
        Known::Silent(node, last) => {
            let heard = match (last.state, last.ago_ms) {
                (Some(state), Some(ago)) => format!("last heard {} ago: {state}", short(ago)),
                _ => "never heard".into(),
            };
            return vec![format!("{} does not answer", node.node), heard];
        }
    };
    let mut parts: Vec<String> = Vec::new();
    parts.extend(why::held_by(&view.wish, look));
    let detail = why::detail(view);
    if !detail.is_empty() {
        parts.push(detail);
    }
    if !matches!(view.wish, Wish::Held { .. }) {
        let unmet = view.needs.iter().filter(|n| !n.ok);
        if view.state.is_up() || view.state == StateName::Unready {
            parts.extend(
                unmet.map(|n| format!("need {} lost for {}, kept running", n.name, short(n.since_ms))),
            );
        } else {
            parts.extend(unmet.map(waits_for));
        }
    }
    parts.extend(view.needs.iter().filter(|n| n.waived).map(|n| format!("started without {}", n.name)));
    if view.state != StateName::Stopping {
        parts.extend(view.withdrawn.iter().map(|w| format!("dependents let go: {w}")));
    }
    if view.starts > 1 && view.pid.is_some() {
        parts.push(format!("started {} times", view.starts));
    }
    parts.extend(view.flags.iter().cloned());
    parts
}

/// `waits for mysql (any writable, 0 of 1): mysql1 connection refused for 12s; mysql2 …`
pub fn waits_for(need: &NeedView) -> String {
    let unmet: Vec<_> = need.edges.iter().filter(|e| !e.met).collect();
    let of_edge = |edge: &&EdgeView| {
        // The service's name is the need's already, unless it counts several services.
        let node = picture::node_of(&edge.to);
        let who =
            if picture::service_of(&edge.to) == need.name && !node.is_empty() { node } else { &edge.to };
        match (&edge.verdict, edge.verdict_since_ms) {
            (None, _) => format!("{who} not asked yet"),
            (Some(Verdict::Ready(_)), _) => {
                let short = why::short_of(need, edge, None);
                format!("{who}: {short}")
            }
            (Some(v), Some(since)) => format!("{who} {} for {}", told(v), short(since)),
            (Some(v), None) => format!("{who} {}", told(v)),
        }
    };
    let mut texts: Vec<String> = unmet.iter().take(3).map(of_edge).collect();
    if unmet.len() > 3 {
        texts.push(format!("and {} more", unmet.len() - 3));
    }
    if need.met > need.wanted {
        texts = vec!["more serve than may".into()];
    }
    format!("waits for {}: {}", why::needed(need), texts.join("; "))
}

/// The next commands to type, at most three.
fn hints(status: &ClusterStatus, chosen: &[Known], causes: &[Cause]) -> Vec<String> {
    let mut hints: Vec<String> = Vec::new();
    let views: Vec<&InstanceView> = picture::instances(status).filter_map(Known::view).collect();
    if !views.is_empty() && views.iter().all(|v| matches!(v.wish, Wish::Held { .. })) {
        return vec!["clusterctl up".into()];
    }
    if let Some(waits) = chosen.iter().find(|k| matches!(k.state(), StateName::Waiting)) {
        hints.push(format!("clusterctl why {}", waits.name()));
    } else if let Some(down) = chosen.iter().find(|k| !k.is_up()) {
        hints.push(format!("clusterctl why {}", down.name()));
    }
    for hint in causes.iter().filter_map(|c| c.root.hint.clone()) {
        if !hints.contains(&hint) && hint.starts_with("clusterctl") {
            hints.push(hint);
        }
    }
    hints.truncate(3);
    hints
}

#[cfg(test)]
mod tests;
