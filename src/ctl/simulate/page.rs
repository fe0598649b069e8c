//! One run as a page for a person: the bars, the critical path, the order, what stayed down and why.

use super::bars::{Signs, bars};
use super::causes::{Causes, silent, stands};
use super::figures::Figures;
use super::{Ran, SimulateArgs, name, node_name, shown};
use crate::ctl::Global;
use crate::ctl::text::{BOLD, Look, listed, paint, plural, put, width, wrap};
use crate::engine::view::StateName;
use crate::model::{Cluster, InstanceIx};
use crate::sim::{Leg, Timeline, What};
use std::time::Duration;

/// Where nobody looks: as wide as a page.
const PAGE: usize = 100;
/// So many lines of the order, and of what stayed down, are shown.
const MOST: usize = 30;
/// So many names on a line of the order.
const MOST_NAMES: usize = 8;

pub fn page(ran: &Ran, figures: &Figures, causes: &Causes, look: &Look, signs: Signs) -> String {
    let timeline = &ran.timeline;
    let mut out = String::new();
    put(&mut out, look, 0, &paint(BOLD, &summary(timeline)));
    out.push('\n');
    out.push_str(&bars(timeline, look.width.unwrap_or(PAGE), signs));
    let path = timeline.critical_path();
    if let Some(last) = path.last() {
        let who = last.what.at(timeline.cluster());
        let title = format!("Critical path: {who} came up last, at {}", shown(last.until));
        out.push_str(&format!("\n{}\n", paint(BOLD, &title)));
        legs(&mut out, look, timeline.cluster(), &path);
    }
    let chance = if ran.seed.is_some() { " (by chance half to twice of these)" } else { "" };
    out.push_str(&format!("\n{}{chance}\n", paint(BOLD, "Start-up times")));
    for line in figures.told(timeline.cluster()) {
        put(&mut out, look, 2, &line);
    }
    order(&mut out, look, timeline);
    down(&mut out, look, timeline, causes);
    out
}

/// `shop: all 16 up after 25.3s`, `shop: 12 of 16 up, the last after 25.3s`
pub fn summary(timeline: &Timeline) -> String {
    let cluster = timeline.cluster();
    let (came_up, all) = (timeline.came_up(), cluster.own_count());
    let last = came_up.last().map(|(at, _)| shown(*at)).unwrap_or_default();
    match came_up.len() {
        _ if all == 0 => format!("{}: no instances", cluster.name),
        0 => format!("{}: none of {all} up", cluster.name),
        n if n == all => format!("{}: all {all} up after {last}", cluster.name),
        n => format!("{}: {n} of {all} up, the last after {last}", cluster.name),
    }
}

/// `  20.0s  +1.0s  mysql@mysql1 starts`
pub fn legs(out: &mut String, look: &Look, cluster: &Cluster, path: &[Leg]) {
    let rows: Vec<(String, String, String)> = told(path)
        .map(|leg| {
            (shown(leg.from), format!("+{}", shown(leg.until - leg.from)), in_words(cluster, &leg.what))
        })
        .collect();
    let from = rows.iter().map(|r| r.0.len()).max().unwrap_or(0);
    let took = rows.iter().map(|r| r.1.len()).max().unwrap_or(0);
    for (at, time, text) in rows {
        beside(out, look, &format!("  {at:>from$}  {time:>took$}  "), &text);
    }
}

/// A leg that is shorter than this is no help to a person; the times beside the others tell that it is left out.
const SHORTEST: Duration = Duration::from_millis(5);

/// The legs that a person is shown.
pub fn told(path: &[Leg]) -> impl Iterator<Item = &Leg> {
    path.iter().filter(|leg| leg.until - leg.from >= SHORTEST)
}

/// Text beside what stands left of it, wrapped within its column.
fn beside(out: &mut String, look: &Look, left: &str, text: &str) {
    let indent = width(left);
    let room = look.width.map(|w| w.saturating_sub(indent).max(20));
    for (n, line) in wrap(text, room).iter().enumerate() {
        let left = if n == 0 { left.to_owned() } else { " ".repeat(indent) };
        out.push_str(&format!("{left}{line}\n"));
    }
}

/// What a leg's time went into.
pub fn in_words(cluster: &Cluster, what: &What) -> String {
    match what {
        What::Power { node } => format!("until {} has power", node_name(cluster, *node)),
        What::Boots { node } => format!("{} boots", node_name(cluster, *node)),
        What::Notices { instance, need, of } => {
            let (who, of_whom) = (name(cluster, *instance), name(cluster, *of));
            let need = if of_whom.split('@').next() == Some(need) {
                String::new()
            } else {
                format!(" (its need {need})")
            };
            format!("{who} finds {of_whom} ready{need}")
        }
        What::Patience { instance, need } => {
            format!("{} waits for {need} in vain, then starts without", name(cluster, *instance))
        }
        What::Again { instance, reason } => {
            format!("{} had been started before: {reason}", name(cluster, *instance))
        }
        What::Prepares { instance } => format!("{} clears up and asks once more", name(cluster, *instance)),
        What::Starts { instance } => format!("{} starts", name(cluster, *instance)),
    }
}

/// What came up, in this order: those of one moment on one line.
fn order(out: &mut String, look: &Look, timeline: &Timeline) {
    let mut lines: Vec<(String, Vec<InstanceIx>)> = Vec::new();
    for (at, ix) in timeline.came_up() {
        match lines.last_mut() {
            Some((last, all)) if *last == shown(at) => all.push(ix),
            _ => lines.push((shown(at), vec![ix])),
        }
    }
    if lines.is_empty() {
        return;
    }
    out.push_str(&format!("\n{}\n", paint(BOLD, "Came up, in this order")));
    let widest = lines.iter().map(|(at, _)| at.len()).max().unwrap_or(0);
    let more = lines.len().saturating_sub(MOST);
    for (at, all) in lines.iter().take(MOST) {
        let names: Vec<String> = all.iter().map(|ix| called(timeline, *ix)).collect();
        beside(out, look, &format!("  {at:>widest$}  "), &listed(&names, MOST_NAMES));
    }
    if more > 0 {
        put(out, look, 2, &format!("and {more} moments more (--json tells all)"));
    }
}

fn called(timeline: &Timeline, ix: InstanceIx) -> String {
    let standby = timeline.lane(ix).state() == StateName::Standby;
    format!("{}{}", name(timeline.cluster(), ix), if standby { " (stands by)" } else { "" })
}

fn down(out: &mut String, look: &Look, timeline: &Timeline, causes: &Causes) {
    let down = timeline.stayed_down();
    if down.is_empty() {
        return;
    }
    let cluster = timeline.cluster();
    let title = format!("Stayed down: {} of {}", down.len(), cluster.own_count());
    out.push_str(&format!("\n{}\n", paint(BOLD, &title)));
    for ix in down.iter().take(MOST) {
        let instance = cluster.instance(*ix);
        let state = match timeline.lane(*ix).spans.last() {
            Some(span) if span.state != StateName::Unknown => stands(span),
            _ => silent(timeline, instance.node).to_owned(),
        };
        put(out, look, 2, &format!("{}: {state}", instance.name));
    }
    if down.len() > MOST {
        put(out, look, 2, &format!("and {} more (--json tells all)", down.len() - MOST));
    }
    let title = if causes.all.len() == 1 { "Root cause" } else { "Root causes" };
    out.push_str(&format!("\n{}\n", paint(BOLD, title)));
    for cause in causes.all.iter().take(MOST) {
        put(out, look, 2, &crate::ctl::status::cause_line(cause));
    }
    if causes.all.len() > MOST {
        put(
            out,
            look,
            2,
            &format!("and {} (--json tells all)", plural(causes.all.len() - MOST, "more cause")),
        );
    }
}

/// The next command to type.
pub fn next(timeline: &Timeline, args: &SimulateArgs, global: &Global) -> Option<String> {
    let plain = SimulateArgs { boot: args.boot, recorded: args.recorded.clone(), ..SimulateArgs::default() };
    if *args != plain {
        return None;
    }
    let first = timeline.critical_path().into_iter().find_map(|leg| match leg.what {
        What::Boots { node } => Some(node),
        _ => None,
    })?;
    let node = node_name(timeline.cluster(), first);
    let simulate = SimulateArgs::command(global);
    Some(format!("{simulate} --without {node}, or --late {node}=5m, or --runs 100 (machines by chance)"))
}
