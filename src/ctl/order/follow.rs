//! Following an order until its goal is reached, nothing moves any more, or the time is over.

use crate::api::wire::ClusterStatus;
use crate::ctl::picture::{self, Known};
use crate::ctl::status::remarks;
use crate::ctl::text::{Look, listed, plural, short};
use crate::ctl::{Asked, why};
use crate::engine::view::{StateName, Wish};
use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

/// Between two looks.
const EVERY: Duration = Duration::from_millis(200);
/// For how long nothing may move before a start counts as waiting: agents need a moment to probe and to push.
const SETTLED: Duration = Duration::from_secs(3);

/// What the instances shall come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goal {
    Up,
    /// Stopped, and held so.
    Held,
    /// Up, and not the same run as before.
    Restarted,
}

/// How long to follow.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    pub within: Duration,
    /// Wait all that time even when nothing moves.
    pub patient: bool,
}

/// How following ended.
pub struct Followed {
    /// What is not there, and why; empty when all is done.
    pub left: Vec<(String, String)>,
    /// One sentence, or a few lines.
    pub text: String,
}

/// Looks again and again, telling each change on standard error.
pub async fn follow(asked: &mut Asked, chosen: &[Known<'_>], goal: Goal, limit: Limit) -> Followed {
    let begun = Instant::now();
    let starts: HashMap<&str, u32> =
        chosen.iter().filter_map(|k| Some((k.name(), k.view()?.starts))).collect();
    let mut shown: HashMap<String, StateName> =
        chosen.iter().map(|k| (k.name().to_owned(), k.state())).collect();
    let names: Vec<&str> = chosen.iter().map(|k| k.name()).collect();
    let mut stuck_since: Option<Instant> = None;
    let mut last_error = String::new();
    let mut last_seen: Option<ClusterStatus> = None;
    loop {
        match asked.cluster().await {
            Ok(status) => {
                tell_changes(&status, &names, &mut shown, begun);
                let elapsed = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
                let left = left(&status, &names, goal, &starts, elapsed);
                if left.is_empty() {
                    return Followed { left: vec![], text: done(&names, goal, begun) };
                }
                let stuck = goal != Goal::Held && !limit.patient && nothing_moves(&status, &left);
                stuck_since = if stuck { stuck_since.or(Some(Instant::now())) } else { None };
                if stuck_since.is_some_and(|s| s.elapsed() >= SETTLED) {
                    return ended(
                        &status,
                        &left,
                        goal,
                        "the wish is recorded; they start by themselves once they can",
                    );
                }
                last_seen = Some(status);
                last_error.clear();
            }
            Err(error) => {
                let error = error.to_string();
                if error != last_error {
                    eprintln!("{:>6}  {error}", short_since(begun));
                    last_error = error;
                }
                stuck_since = None;
            }
        }
        if begun.elapsed() >= limit.within {
            let over = format!("not complete after {}", short_since(begun));
            return match last_seen {
                Some(status) => {
                    let elapsed = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
                    let left = left(&status, &names, goal, &starts, elapsed);
                    ended(&status, &left, goal, &over)
                }
                None => Followed {
                    left: names.iter().map(|n| ((*n).to_owned(), last_error.clone())).collect(),
                    text: format!("{over}: {last_error}"),
                },
            };
        }
        tokio::time::sleep(EVERY).await;
    }
}

fn short_since(begun: Instant) -> String {
    short(u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX))
}

fn tell_changes(
    status: &ClusterStatus,
    names: &[&str],
    shown: &mut HashMap<String, StateName>,
    begun: Instant,
) {
    for name in names {
        let Some(known) = picture::find(status, name) else { continue };
        let before = shown.insert((*name).to_owned(), known.state());
        if before != Some(known.state()) {
            eprintln!("{:>6}  {name} {}", short_since(begun), known.state());
        }
    }
}

/// The instances that have not come to the goal.
fn left<'s>(
    status: &'s ClusterStatus,
    names: &[&str],
    goal: Goal,
    starts: &HashMap<&str, u32>,
    elapsed_ms: u64,
) -> Vec<Known<'s>> {
    let there = |known: &Known| {
        let Some(view) = known.view() else { return false };
        match goal {
            Goal::Up => known.is_up() && view.wish == Wish::Up,
            Goal::Held => matches!(view.wish, Wish::Held { .. }) && is_down(view.state) && view.pid.is_none(),
            Goal::Restarted => {
                let anew = starts.get(known.name()) != Some(&view.starts) || view.since_ms <= elapsed_ms;
                known.is_up() && anew
            }
        }
    };
    names.iter().filter_map(|n| picture::find(status, n)).filter(|k| !there(k)).collect()
}

fn is_down(state: StateName) -> bool {
    use StateName::*;
    matches!(state, Stopped | Failed | Completed | Blocked)
}

/// Whether nothing that `left` depends on is on its way: all of it waits, failed, is held or silent.
fn nothing_moves(status: &ClusterStatus, left: &[Known]) -> bool {
    let mut seen: HashSet<&str> = left.iter().map(|k| k.name()).collect();
    let mut queue: Vec<Known> = left.to_vec();
    while let Some(known) = queue.pop() {
        let Some(view) = known.view() else { continue };
        let held = matches!(view.wish, Wish::Held { .. });
        let unmet = || view.needs.iter().filter(|n| !n.ok);
        let still = match view.state {
            StateName::Failed | StateName::Blocked => true,
            StateName::Waiting => unmet().next().is_some(),
            StateName::Stopped => held,
            state => state.is_up(),
        };
        if !still {
            return false;
        }
        if held || view.state.is_up() {
            continue;
        }
        let edges = unmet().flat_map(|n| &n.edges).filter(|e| !e.met);
        queue.extend(edges.filter_map(|e| picture::find(status, &e.to)).filter(|k| seen.insert(k.name())));
    }
    true
}

fn done(names: &[&str], goal: Goal, begun: Instant) -> String {
    let word = match goal {
        Goal::Up => "up",
        Goal::Held => "stopped and held",
        Goal::Restarted => "restarted",
    };
    let who = if names.len() <= 3 { listed(names, 3) } else { plural(names.len(), "instance") };
    format!("{who} {word} after {}", short_since(begun))
}

fn ended(status: &ClusterStatus, left: &[Known], goal: Goal, over: &str) -> Followed {
    let look = Look { width: None, ..Look::here() };
    let told: Vec<(String, String)> = left
        .iter()
        .map(|k| {
            let remark = remarks(*k, &look).join("; ");
            let text =
                if remark.is_empty() { k.state().to_string() } else { format!("{}: {remark}", k.state()) };
            (k.name().to_owned(), text)
        })
        .collect();
    let mut text = String::new();
    for (name, why) in &told {
        text.push_str(&format!("{name} {why}\n"));
    }
    if goal != Goal::Held {
        for cause in why::causes(status, &look).iter().take(3) {
            text.push_str(&format!("root cause: {}: {}\n", cause.root.at, cause.root.text));
        }
    }
    text.push_str(&format!("{} left: {over}", plural(told.len(), "instance")));
    Followed { left: told, text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ctl::fixture::*;
    use crate::engine::view::InstanceView;

    fn all(status: &ClusterStatus) -> Vec<&str> {
        picture::instances(status).map(Known::name).collect()
    }

    fn names_left(views: Vec<InstanceView>, goal: Goal, starts: u32, elapsed_ms: u64) -> Vec<String> {
        let status = status(vec![node("g", "n", views)]);
        let names = all(&status);
        let starts = names.iter().map(|n| (*n, starts)).collect();
        left(&status, &names, goal, &starts, elapsed_ms).iter().map(|k| k.name().to_owned()).collect()
    }

    #[test]
    fn a_goal_is_reached_by_the_state_and_the_wish() {
        let views = || vec![ready("a@n"), held("b@n", ""), because(StateName::Standby, "c@n", "")];
        assert_eq!(names_left(views(), Goal::Up, 1, 0), ["b@n"]);
        assert_eq!(names_left(views(), Goal::Held, 1, 0), ["a@n", "c@n"]);
    }

    #[test]
    fn a_restart_is_done_only_with_a_new_run() {
        assert_eq!(names_left(vec![ready("a@n")], Goal::Restarted, 1, 500), ["a@n"]);
        assert!(names_left(vec![ready("a@n")], Goal::Restarted, 0, 500).is_empty());
        let young = InstanceView { since_ms: 100, ..ready("a@n") };
        assert!(names_left(vec![young], Goal::Restarted, 1, 500).is_empty());
    }

    #[test]
    fn what_waits_for_a_start_moves_and_what_waits_for_a_failure_does_not() {
        for (state, moves) in [
            (StateName::Starting, true),
            (StateName::Backoff, true),
            (StateName::Failed, false),
            (StateName::Blocked, false),
        ] {
            let status = status(vec![
                node("w", "w", vec![waiting("web@w", vec![need("db", "any", 1, vec![refused("db@d")])])]),
                node("d", "d", vec![because(state, "db@d", "")]),
            ]);
            let left = vec![picture::find(&status, "web@w").unwrap()];
            assert_eq!(nothing_moves(&status, &left), !moves, "{state}");
        }
    }

    #[test]
    fn a_silent_node_does_not_move() {
        let status = status(vec![
            node("w", "w", vec![waiting("web@w", vec![need("db", "any", 1, vec![timed_out("db@d")])])]),
            silent("d", "d", vec![("db@d", None)]),
        ]);
        let left = vec![picture::find(&status, "web@w").unwrap()];
        assert!(nothing_moves(&status, &left));
    }
}
