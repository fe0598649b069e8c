//! The timeline for a terminal: a bar for each instance, from power to the last that came up.

use super::{node_name, shown};
use crate::ctl::text::{DIM, paint, state_style, width};
use crate::engine::view::StateName;
use crate::graph::Graph;
use crate::model::{Cluster, InstanceIx, ServiceIx};
use crate::sim::Timeline;
use crate::sim::timeline::Lane;
use anstyle::Style;
use std::collections::BTreeSet;
use std::time::Duration;

/// The letters that bars are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signs {
    Blocks,
    Ascii,
}

impl Signs {
    /// Blocks where the locale is one of UTF-8.
    pub fn here() -> Signs {
        let said = |name| std::env::var(name).ok().filter(|v| !v.is_empty());
        let locale = said("LC_ALL").or_else(|| said("LC_CTYPE")).or_else(|| said("LANG")).unwrap_or_default();
        let locale = locale.to_ascii_lowercase();
        if locale.contains("utf-8") || locale.contains("utf8") { Signs::Blocks } else { Signs::Ascii }
    }

    fn of(self, kind: Kind) -> char {
        let (block, ascii) = match kind {
            Kind::Dark => (' ', ' '),
            Kind::Waits => ('░', '.'),
            Kind::Starts => ('▒', '-'),
            Kind::Up => ('█', '#'),
            Kind::StandsBy => ('▓', '='),
            Kind::Stops => ('▁', '_'),
            Kind::Ill => ('×', 'x'),
        };
        if self == Signs::Blocks { block } else { ascii }
    }
}

/// What a sign stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Dark,
    Waits,
    Starts,
    Up,
    StandsBy,
    Stops,
    Ill,
}

impl Kind {
    fn of(state: StateName) -> Kind {
        match state {
            StateName::Unknown | StateName::Orphaned => Kind::Dark,
            StateName::Waiting => Kind::Waits,
            StateName::Cleaning | StateName::Starting => Kind::Starts,
            StateName::Ready | StateName::Completed => Kind::Up,
            StateName::Standby => Kind::StandsBy,
            StateName::Stopping | StateName::Stopped => Kind::Stops,
            StateName::Unready | StateName::Backoff | StateName::Blocked | StateName::Failed => Kind::Ill,
        }
    }

    fn style(self) -> Style {
        match self {
            Kind::Dark => Style::new(),
            Kind::Waits => DIM,
            Kind::Starts => state_style(StateName::Starting),
            Kind::Up => state_style(StateName::Ready),
            Kind::StandsBy => state_style(StateName::Standby),
            Kind::Stops => state_style(StateName::Stopped),
            Kind::Ill => state_style(StateName::Failed),
        }
    }

    fn words(self) -> &'static str {
        match self {
            Kind::Dark => "no agent yet, or no power",
            Kind::Waits => "waits",
            Kind::Starts => "cleans up, starts",
            Kind::Up => "ready",
            Kind::StandsBy => "stands by",
            Kind::Stops => "stops, stopped",
            Kind::Ill => "unready, in back-off, blocked or failed",
        }
    }
}

/// A service with more instances is told by its first and last to come up, and those that are not up.
const MOST_OF_A_SERVICE: usize = 8;
/// Of these not more.
const MOST_DOWN: usize = 4;
/// Bars are not wider than this, and not narrower.
const WIDTHS: std::ops::RangeInclusive<usize> = 20..=80;

/// The bars with their axis and their legend. `columns` is the width of the terminal.
pub fn bars(timeline: &Timeline, columns: usize, signs: Signs) -> String {
    let rows = rows(timeline);
    let longest = |texts: &mut dyn Iterator<Item = &str>| texts.map(width).max().unwrap_or(0);
    let services = longest(&mut rows.iter().map(|r| r.service)).max("SERVICE".len());
    let nodes = longest(&mut rows.iter().map(|r| r.node.as_str())).max("NODE".len());
    let ends = longest(&mut rows.iter().map(|r| r.end.as_str())).max("UP AT".len());
    let room = columns.saturating_sub(services + nodes + ends + 6);
    let room = room.clamp(*WIDTHS.start(), *WIDTHS.end());
    let window = Window::of(timeline);
    let mut used = BTreeSet::new();
    let mut out = String::new();
    let axis = axis(window, room);
    let head = format!("{:services$}  {:nodes$}  {axis:room$}  UP AT", "SERVICE", "NODE");
    out.push_str(&paint(DIM, &head));
    out.push('\n');
    for row in rows {
        let bar = match row.lane {
            Some(ix) => bar(timeline.lane(ix), window, room, signs, &mut used),
            None => String::new(),
        };
        let line = format!(
            "{}  {}{}  {bar}  {}",
            paint(DIM, &format!("{:services$}", row.service)),
            row.node,
            " ".repeat(nodes.saturating_sub(width(&row.node))),
            row.end
        );
        out.push_str(line.trim_end());
        out.push('\n');
    }
    let legend: Vec<String> = used
        .iter()
        .map(|kind| match kind {
            Kind::Dark => format!("blank {}", kind.words()),
            kind => format!("{} {}", paint(kind.style(), &signs.of(*kind).to_string()), kind.words()),
        })
        .collect();
    out.push_str(&format!("\n  {}\n", legend.join(", ")));
    out
}

/// One line: an instance, or a word on those that are not shown.
struct Shown<'t> {
    service: &'t str,
    node: String,
    lane: Option<InstanceIx>,
    end: String,
}

/// Services in the order of a boot, each with its instances.
fn rows(timeline: &Timeline) -> Vec<Shown<'_>> {
    let cluster = timeline.cluster();
    let mut rows = Vec::new();
    for service in in_order(cluster) {
        let service = cluster.service(service);
        let (chosen, left_out) = chosen(timeline, &service.instances);
        let mut label = service.name.as_str();
        for ix in chosen {
            rows.push(Shown {
                service: std::mem::take(&mut label),
                node: node_name(cluster, cluster.instance(ix).node).to_owned(),
                lane: Some(ix),
                end: end(timeline.lane(ix)),
            });
        }
        if left_out > 0 {
            rows.push(Shown {
                service: "",
                node: format!("and {left_out} more"),
                lane: None,
                end: String::new(),
            });
        }
    }
    rows
}

/// By the wave of their first instance, then as in the file.
pub fn in_order(cluster: &Cluster) -> Vec<ServiceIx> {
    let mut services: Vec<ServiceIx> = (0..cluster.services.len() as u32).map(ServiceIx).collect();
    services.retain(|s| !cluster.is_external(*s));
    if let Ok(graph) = Graph::new(cluster) {
        services.sort_by_key(|s| cluster.service(*s).instances.iter().map(|i| graph.rank(*i)).min());
    }
    services
}

/// The instances of a service that are shown, and how many are not.
pub fn chosen(timeline: &Timeline, all: &[InstanceIx]) -> (Vec<InstanceIx>, usize) {
    if all.len() <= MOST_OF_A_SERVICE {
        return (all.to_vec(), 0);
    }
    let mut up: Vec<(Duration, InstanceIx)> =
        all.iter().filter_map(|ix| timeline.lane(*ix).up_since().map(|at| (at, *ix))).collect();
    up.sort_unstable();
    let ends = [up.first(), up.last()].into_iter().flatten().map(|(_, ix)| *ix);
    let down = all.iter().copied().filter(|ix| !timeline.lane(*ix).state().is_up()).take(MOST_DOWN);
    let mut chosen: Vec<InstanceIx> = ends.chain(down).collect();
    chosen.dedup();
    let left_out = all.len() - chosen.len();
    (chosen, left_out)
}

/// `21.3s`, or the state of what is not up.
pub fn end(lane: &Lane) -> String {
    match (lane.up_since(), lane.state()) {
        (Some(at), _) => shown(at),
        (None, StateName::Unknown) => "no agent".into(),
        (None, state) => state.to_string(),
    }
}

/// The time that is shown.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Window {
    pub from: Duration,
    pub until: Duration,
}

impl Window {
    /// From a little before the first agent runs to a little past the last instance that came up (where none did: past
    /// the first that failed, or the last machine that came), so that neither booting machines nor the retries of what
    /// stays down press the boot together.
    pub fn of(timeline: &Timeline) -> Window {
        let cluster = timeline.cluster();
        let spans = || cluster.instance_ixs().flat_map(|ix| &timeline.lane(ix).spans);
        let came = || spans().filter(|s| s.state == StateName::Waiting).map(|s| s.from);
        let ill = spans().filter(|s| Kind::of(s.state) == Kind::Ill).map(|s| s.from).min();
        let last = timeline.came_up().last().map(|(at, _)| *at).or(came().max().max(ill)).unwrap_or_default();
        let first = came().min().unwrap_or_default();
        // A part of what is seen, in whole seconds.
        let margin = |part: u32| (last.saturating_sub(first) / part).max(Duration::from_millis(100));
        let from = Duration::from_secs(first.saturating_sub(margin(20)).as_secs());
        Window { from, until: last + margin(10) }
    }

    /// How far between the two, 0 to 1.
    pub fn part(self, at: Duration) -> f64 {
        let whole = (self.until - self.from).as_secs_f64();
        (at.saturating_sub(self.from).as_secs_f64() / whole).clamp(0.0, 1.0)
    }

    fn at(self, part: f64) -> Duration {
        self.from + (self.until - self.from).mul_f64(part)
    }

    /// Round times at which marks are to stand: at most so many and not the same twice.
    pub fn marks(self, most: usize) -> Vec<Duration> {
        let whole = self.until - self.from;
        let fits =
            ROUND.iter().map(|ms| Duration::from_millis(*ms)).find(|step| *step * most as u32 >= whole);
        let step = fits.unwrap_or(whole / most as u32).as_millis().max(1);
        let first = self.from.as_millis().div_ceil(step) * step;
        let all = (first..=self.until.as_millis()).step_by(step as usize);
        all.map(|ms| Duration::from_millis(ms as u64)).collect()
    }
}

/// Steps between two marks, in milliseconds.
const ROUND: [u64; 17] = [
    100, 200, 500, 1000, 2000, 5000, 10_000, 15_000, 30_000, 60_000, 120_000, 300_000, 600_000, 1_800_000,
    3_600_000, 7_200_000, 21_600_000,
];

fn bar(lane: &Lane, window: Window, room: usize, signs: Signs, used: &mut BTreeSet<Kind>) -> String {
    let at = |cell: usize| window.at(cell as f64 / room as f64);
    let cells: Vec<Kind> = (0..room).map(|cell| cell_of(lane, at(cell), at(cell + 1))).collect();
    let mut out = String::new();
    for run in cells.chunk_by(|a, b| a == b) {
        used.insert(run[0]);
        out.push_str(&paint(run[0].style(), &signs.of(run[0]).to_string().repeat(run.len())));
    }
    out
}

/// What a cell shows: what is ill at any moment of it, else what is at its end.
fn cell_of(lane: &Lane, from: Duration, to: Duration) -> Kind {
    let end = lane.spans.partition_point(|s| s.from < to);
    let begin = lane.spans.partition_point(|s| s.from <= from).max(1) - 1;
    let within = &lane.spans[begin.min(end)..end];
    let ill = within.iter().any(|s| Kind::of(s.state) == Kind::Ill);
    match within.last() {
        _ if ill => Kind::Ill,
        Some(span) => Kind::of(span.state),
        None => Kind::Dark,
    }
}

/// `20s       22s       24s`: each begins at its time.
fn axis(window: Window, room: usize) -> String {
    let mut line = String::new();
    for at in window.marks((room / 9).clamp(2, 8)) {
        let column = (window.part(at) * room as f64).round() as usize;
        let text = axis_time(at);
        if column + width(&text) <= room && (line.is_empty() || column > width(&line)) {
            line.push_str(&" ".repeat(column - width(&line)));
            line.push_str(&text);
        }
    }
    line
}

/// `24s`, `2m30s`, as short as it can be said.
pub fn axis_time(at: Duration) -> String {
    let (s, ms) = (at.as_secs(), at.subsec_millis());
    match s {
        0 if ms > 0 => format!("{ms}ms"),
        _ if ms > 0 => format!("{s}.{}s", ms / 100),
        0..60 => format!("{s}s"),
        60..3600 if s.is_multiple_of(60) => format!("{}m", s / 60),
        60..3600 => format!("{}m{:02}s", s / 60, s % 60),
        _ => format!("{}h{:02}m", s / 3600, s / 60 % 60),
    }
}
