//! `audit`: who did what, on all nodes, and whether what stands there is what was written.
//!
//! The chains are checked here, line by line: what an agent says of its own trail is not believed.

use super::logs::parse_since;
use super::picture::silence;
use super::text::{DIM, Look, WARN, paint, put};
use super::{Asked, Exit, Global, hint};
use crate::api::client::ClientError;
use crate::trail::{Check, Entry, Outcome, Page, Verdict};
use futures_util::future::join_all;
use std::time::Duration;

// `clusterctl audit`
#[derive(Debug, clap::Args)]
pub struct AuditArgs {
    /// Only these nodes
    pub nodes: Vec<String>,
    /// Only what was done since (10min, 2h, 3d; or a time: 07:30, "2026-03-01 07:30")
    #[arg(long, value_name = "TIME", value_parser = parse_since)]
    pub since: Option<Duration>,
    /// Only by whom this is part of the name (or the address)
    #[arg(long, value_name = "TEXT")]
    pub who: Option<String>,
    /// Only where this is part of what was done, or of the reason
    #[arg(long, value_name = "TEXT")]
    pub what: Option<String>,
    /// Only what was refused
    #[arg(long)]
    pub refused: bool,
    /// How many to show at most, the latest [default: 50, with --since all]
    #[arg(short = 'n', long = "last", value_name = "COUNT")]
    pub last: Option<usize>,
}

/// How many actions are shown unless said.
const LAST: usize = 50;

/// What was read of one node.
struct Trail {
    node: String,
    check: Check,
    entries: Vec<Entry>,
    /// Why it could not be read, or not to its end.
    problem: Option<String>,
}

pub async fn run(args: AuditArgs, global: &Global) -> anyhow::Result<Exit> {
    let mut asked = Asked::open(global)?;
    let status = asked.cluster().await?;
    for name in &args.nodes {
        anyhow::ensure!(status.nodes.iter().any(|n| n.node == *name), "no node is called '{name}'");
    }
    let look = Look::here();
    let now = u64::try_from(look.now.timestamp().as_millisecond()).unwrap_or_default();
    let since = args.since.map(|ago| now.saturating_sub(u64::try_from(ago.as_millis()).unwrap_or(u64::MAX)));
    let chosen = status.nodes.iter().filter(|n| args.nodes.is_empty() || args.nodes.contains(&n.node));
    let (asked, args_) = (&asked, &args);
    let trails = join_all(chosen.map(async |node| {
        let mut trail =
            Trail { node: node.node.clone(), check: Check::default(), entries: Vec::new(), problem: None };
        let read = match node.status {
            Some(_) => read(asked, &mut trail, args_, since).await.map_err(|e| e.to_string()),
            None => Err(silence(node)),
        };
        trail.problem = read.err();
        trail
    }))
    .await;

    let mut all: Vec<(&str, &Entry)> =
        trails.iter().flat_map(|t| t.entries.iter().map(|e| (t.node.as_str(), e))).collect();
    // Stable: within one node the order of its own sequence stays.
    all.sort_by_key(|(_, e)| e.deed.at);
    let most = args.last.or(args.since.is_none().then_some(LAST)).unwrap_or(usize::MAX);
    let shown = &all[all.len().saturating_sub(most)..];
    if global.json {
        let nodes: Vec<_> = trails.iter().map(node_json).collect();
        let entries: Vec<_> =
            shown.iter().map(|(node, e)| serde_json::json!({ "node": node, "entry": e })).collect();
        super::print_json(&serde_json::json!({ "nodes": nodes, "entries": entries }))?;
    } else {
        let mut out: String = shown.iter().map(|(node, entry)| render(node, entry, &look)).collect();
        if !shown.is_empty() {
            out.push('\n');
        }
        trails.iter().for_each(|trail| out.push_str(&summary(trail)));
        super::print(&out)?;
    }
    let tampered = |t: &&Trail| matches!(t.check.verdict(), Verdict::Tampered { .. });
    if let Some(trail) = trails.iter().find(tampered) {
        hint(&format!(
            "what stands before that entry of {} can be believed; compare what follows with the other nodes, and with \
             a head that was kept elsewhere",
            trail.node
        ));
    }
    let in_doubt = trails.iter().any(|t| t.problem.is_some() || tampered(&t));
    Ok(if in_doubt { Exit::Incomplete } else { Exit::Done })
}

/// Reads a node's trail to its end. All of it is checked; what is asked for is kept.
async fn read(
    asked: &Asked,
    trail: &mut Trail,
    args: &AuditArgs,
    since: Option<u64>,
) -> Result<(), ClientError> {
    loop {
        let after = trail.check.head().seq;
        let page: Page = asked.get_at(&trail.node, &format!("/v1/trail?after={after}")).await?;
        for line in &page.lines {
            let entry = trail.check.line(line);
            trail.entries.extend(entry.filter(|e| wanted(e, args, since)));
        }
        // An agent that has always more of the same has no end.
        if !page.more || trail.check.head().seq <= after {
            trail.check.end(page.head);
            return Ok(());
        }
    }
}

fn wanted(entry: &Entry, args: &AuditArgs, since: Option<u64>) -> bool {
    let deed = &entry.deed;
    let has = |texts: [&str; 2], part: &Option<String>| {
        part.as_ref().is_none_or(|part| texts.iter().any(|text| text.contains(part.as_str())))
    };
    since.is_none_or(|since| deed.at >= since)
        && has([&deed.who, &deed.from], &args.who)
        && has([&deed.what, &deed.why], &args.what)
        && (!args.refused || deed.outcome == Outcome::Refused)
}

fn node_json(trail: &Trail) -> serde_json::Value {
    let head = trail.check.head();
    let mut json = serde_json::json!({
        "node": trail.node, "first": trail.check.first(), "last": head.seq, "head": head.hash,
        "problem": trail.problem,
    });
    if trail.problem.is_none()
        && let (Some(json), Ok(serde_json::Value::Object(verdict))) =
            (json.as_object_mut(), serde_json::to_value(trail.check.verdict()))
    {
        json.extend(verdict);
    }
    json
}

/// `12:00:03  web1  root (uid 0), the unix socket, pid 7`, and below what was done, why, and what came of it.
fn render(node: &str, entry: &Entry, look: &Look) -> String {
    let deed = &entry.deed;
    let at = i64::try_from(deed.at).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    let at = at.map_or_else(
        || "-".into(),
        |t| t.to_zoned(look.now.time_zone().clone()).strftime("%m-%d %H:%M:%S").to_string(),
    );
    let from = if deed.from.is_empty() { String::new() } else { format!(", {}", deed.from) };
    let mut out = String::new();
    put(&mut out, look, 0, &format!("{at}  {node}  {}{from}: {}", deed.who, deed.what));
    if !deed.why.is_empty() {
        put(&mut out, look, 4, &format!("why: {}", deed.why));
    }
    let word = match deed.outcome {
        Outcome::Done => "done",
        Outcome::Refused => "refused",
        Outcome::Unknown => "not known",
    };
    let text = if deed.text.is_empty() { word.to_owned() } else { format!("{word}: {}", deed.text) };
    let style = if deed.outcome == Outcome::Done { DIM } else { WARN };
    let mut outcome = String::new();
    put(&mut outcome, look, 4, &text);
    out.push_str(&paint(style, outcome.trim_end()));
    out.push('\n');
    out
}

fn summary(trail: &Trail) -> String {
    let (node, check) = (&trail.node, &trail.check);
    if let Some(problem) = &trail.problem {
        return paint(WARN, &format!("{node}: not checked: {problem}")) + "\n";
    }
    let head = check.head();
    let entries = check.first().map_or(0, |first| head.seq + 1 - first.min(head.seq + 1));
    let entries = if entries == 1 { "1 entry".to_owned() } else { format!("{entries} entries") };
    let older = match check.first() {
        Some(first) if first > 1 => format!(", those before {first} are not kept any more"),
        _ => String::new(),
    };
    let verdict = check.verdict();
    let line = format!("{node}: {verdict}; {entries}{older}; head {} {}", head.seq, head.hash.short());
    match verdict {
        Verdict::Intact => line + "\n",
        _ => paint(WARN, &line) + "\n",
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::look;
    use super::*;
    use crate::trail::{Deed, Hash};

    fn entry(deed: Deed) -> Entry {
        Entry { seq: 7, deed, prev: Hash::default() }
    }

    fn stopped() -> Deed {
        Deed {
            at: 1_772_600_767_123,
            who: "operator alice (operate)".into(),
            from: "10.0.0.9:4711".into(),
            what: "stop web@web1".into(),
            why: "new disk".into(),
            outcome: Outcome::Done,
            text: "web@web1: stops".into(),
            boot: None,
            cut: None,
        }
    }

    #[test]
    fn an_action_says_who_from_where_what_why_and_what_came_of_it() {
        assert_eq!(
            render("web1", &entry(stopped()), &look(None)),
            "03-04 05:06:07  web1  operator alice (operate), 10.0.0.9:4711: stop web@web1\n    why: new disk\n\
             \u{1b}[2m    done: web@web1: stops\u{1b}[0m\n"
        );
    }

    #[test]
    fn filters_are_parts_of_texts() {
        let args = |who: &str, what: &str, refused| AuditArgs {
            nodes: vec![],
            since: None,
            who: Some(who.into()),
            what: Some(what.into()),
            refused,
            last: None,
        };
        let e = entry(stopped());
        for (who, what, refused, since, shown) in [
            ("alice", "web@", false, None, true),
            ("10.0.0.9", "new disk", false, Some(0), true),
            ("bob", "", false, None, false),
            ("", "start", false, None, false),
            ("", "", true, None, false),
            ("", "", false, Some(u64::MAX), false),
        ] {
            assert_eq!(wanted(&e, &args(who, what, refused), since), shown, "{who} {what}");
        }
    }
}
