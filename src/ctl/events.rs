//! `events`: what happened, on all nodes, by their wall clocks.

use super::picture::{self, node_of, silence};
use super::text::Look;
use super::{Asked, Exit, Global};
use crate::api::wire::EventRecord;
use futures_util::future::join_all;
use std::collections::BTreeMap;
use std::time::Duration;

// `clusterctl events`
#[derive(Debug, clap::Args)]
pub struct EventsArgs {
    /// Only of these instances, services, nodes or groups
    pub names: Vec<String>,
    /// How many to show at most, the latest
    #[arg(short = 'n', long = "last", default_value_t = 30, value_name = "COUNT")]
    pub last: usize,
    /// Go on showing new ones until Ctrl-C
    #[arg(long, short)]
    pub follow: bool,
}

/// Between two looks with `--follow`.
const FOLLOW_EVERY: Duration = Duration::from_millis(500);

/// An event and the node that told it.
type Told = (String, EventRecord);

pub async fn run(args: EventsArgs, global: &Global) -> anyhow::Result<Exit> {
    let mut asked = Asked::open(global)?;
    let status = asked.cluster().await?;
    let chosen = picture::select(&status, &args.names)?;
    let wanted = |node: &str, event: &EventRecord| {
        args.names.is_empty()
            || chosen.iter().any(|k| k.name() == event.instance && node_of(k.name()) == node)
    };
    // Where each node's events were read up to; the nodes to read from.
    let mut after: BTreeMap<String, u64> = BTreeMap::new();
    let mut exit = Exit::Done;
    for node in &status.nodes {
        if args.names.is_empty() || chosen.iter().any(|k| k.node().node == node.node) {
            if node.status.is_some() {
                after.insert(node.node.clone(), 0);
            } else {
                eprintln!("{}: not asked: {}", node.node, silence(node));
                exit = Exit::Incomplete;
            }
        }
    }
    let look = Look::here();
    let mut most = args.last;
    loop {
        let mut events = read(&asked, &mut after).await;
        events.retain(|(node, event)| wanted(node, event));
        let skip = events.len().saturating_sub(most);
        let shown = &events[skip..];
        if global.json {
            for (node, event) in shown {
                let line = serde_json::json!({ "node": node, "event": event });
                super::print(&format!("{line}\n"))?;
            }
        } else if !shown.is_empty() {
            super::print(&render(shown, &look))?;
        }
        if !args.follow {
            return Ok(exit);
        }
        most = usize::MAX;
        tokio::time::sleep(FOLLOW_EVERY).await;
    }
}

/// What is new on each node, by the wall clocks. A node that fails now is asked again the next time.
async fn read(asked: &Asked, after: &mut BTreeMap<String, u64>) -> Vec<Told> {
    let answers = join_all(after.iter_mut().map(async |(node, after)| {
        let path = format!("/v1/events?after={after}");
        match asked.get_at::<Vec<EventRecord>>(node, &path).await {
            Ok(events) => {
                *after = events.iter().map(|e| e.seq).fold(*after, u64::max);
                events.into_iter().map(|e| (node.clone(), e)).collect()
            }
            Err(error) => {
                eprintln!("{node}: {error}");
                Vec::new()
            }
        }
    }));
    merged(answers.await)
}

/// All of them by the wall clocks, each node's own in their own order: a clock may be set back, and two events of one moment
/// may differ by the last millisecond, one way or the other.
fn merged(nodes: impl IntoIterator<Item = Vec<Told>>) -> Vec<Told> {
    let mut all: Vec<(u64, Told)> = Vec::new();
    for events in nodes {
        let mut latest = 0;
        for told in events {
            latest = told.1.clock_ms.max(latest);
            all.push((latest, told));
        }
    }
    all.sort_by_key(|(clock_ms, _)| *clock_ms);
    all.into_iter().map(|(_, told)| told).collect()
}

fn render(events: &[Told], look: &Look) -> String {
    let mut out = String::new();
    for (node, event) in events {
        let at = i64::try_from(event.clock_ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
        let at = at.map_or_else(
            || "-".into(),
            |t| t.to_zoned(look.now.time_zone().clone()).strftime("%m-%d %H:%M:%S%.3f").to_string(),
        );
        let who = if event.instance.is_empty() { format!("@{node}") } else { event.instance.clone() };
        out.push_str(&format!("{at}  {who}  {}: {}\n", event.what, event.text));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::fixture::look;
    use super::*;
    use crate::facts::Moment;

    fn event(instance: &str, what: &str, text: &str) -> EventRecord {
        EventRecord {
            seq: 1,
            clock_ms: 1_772_600_767_123,
            at: Moment(0),
            instance: instance.into(),
            what: what.into(),
            text: text.into(),
            data: serde_json::Value::Null,
        }
    }

    #[test]
    fn nodes_are_merged_by_their_clocks_and_each_keeps_its_own_order() {
        let told = |node: &str, all: &[(u64, u64)]| -> Vec<Told> {
            let event = |&(seq, clock_ms)| EventRecord { seq, clock_ms, ..event("", "", "") };
            all.iter().map(|e| (node.to_owned(), event(e))).collect()
        };
        let all =
            merged([told("a", &[(1, 100), (2, 201), (3, 200), (4, 300)]), told("b", &[(1, 150), (2, 250)])]);
        let order: Vec<String> = all.iter().map(|(node, e)| format!("{node}{}", e.seq)).collect();
        assert_eq!(order, ["a1", "b1", "a2", "a3", "b2", "a4"]);
    }

    #[test]
    fn an_event_is_one_line_with_the_node_when_it_is_the_agents_own() {
        let told = [
            ("mq1".to_owned(), event("", "booted", "agent started")),
            ("mq1".to_owned(), event("activemq@mq1", "started", "pid 4711")),
        ];
        assert_eq!(
            render(&told, &look(None)),
            "03-04 05:06:07.123  @mq1  booted: agent started\n\
             03-04 05:06:07.123  activemq@mq1  started: pid 4711\n"
        );
    }
}
