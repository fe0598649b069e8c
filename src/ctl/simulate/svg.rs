//! The timeline as a drawing: one file, no script, nothing fetched; readable in black and white.

use super::bars::{Window, axis_time, chosen, end, in_order};
use super::{name, page, shown};
use crate::engine::view::StateName;
use crate::model::InstanceIx;
use crate::sim::timeline::Lane;
use crate::sim::{Leg, Timeline, What};
use std::collections::HashMap;
use std::fmt::Write;
use std::time::Duration;

/// Sizes in pixels.
const ROW: usize = 20;
const BAR: usize = 12;
const TOP: usize = 64;
const CHART: usize = 720;
const END: usize = 110;
/// A letter of the font, more or less.
const LETTER: usize = 8;
/// With more instances than this, services are shortened as on a terminal.
const MOST_ROWS: usize = 500;

/// The whole file.
pub fn draw(timeline: &Timeline) -> String {
    let cluster = timeline.cluster();
    let rows: Vec<InstanceIx> = in_order(cluster)
        .into_iter()
        .flat_map(|s| {
            let all = &cluster.service(s).instances;
            if cluster.instances.len() > MOST_ROWS { chosen(timeline, all).0 } else { all.clone() }
        })
        .collect();
    let longest = rows.iter().map(|ix| name(cluster, *ix).len()).max().unwrap_or(0);
    let chart = Chart { left: longest * LETTER + 16, window: Window::of(timeline) };
    let path = timeline.critical_path();
    let legs: Vec<&Leg> = page::told(&path).collect();
    let bottom = TOP + rows.len() * ROW;
    let height = bottom + 64 + 16 * legs.len();
    let width = chart.left + CHART + END;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n{STYLE}\
         <rect width=\"{width}\" height=\"{height}\" fill=\"#fff\"/>\n\
         <text x=\"8\" y=\"22\" font-size=\"16\" font-weight=\"bold\">{}</text>\n",
        escaped(&page::summary(timeline))
    );
    chart.grid(&mut out, bottom);
    let mut row_of: HashMap<InstanceIx, usize> = HashMap::new();
    for (n, ix) in rows.iter().enumerate() {
        row_of.insert(*ix, n);
        let y = TOP + n * ROW;
        let lane = timeline.lane(*ix);
        text(&mut out, 8, y + BAR, name(cluster, *ix));
        chart.bars(&mut out, y, lane);
        text(&mut out, chart.left + CHART + 8, y + BAR, &end(lane));
    }
    chart.path(&mut out, &path, &row_of);
    legend(&mut out, bottom + 20);
    for (n, leg) in legs.iter().enumerate() {
        let y = bottom + 58 + 16 * n;
        right(&mut out, 72, y, &shown(leg.from));
        right(&mut out, 144, y, &format!("+{}", shown(leg.until - leg.from)));
        text(&mut out, 160, y, &page::in_words(cluster, &leg.what));
    }
    out.push_str("</svg>\n");
    out
}

/// Colours. The heights of the bars say the same without them.
const STYLE: &str = "<style>\
.waits{fill:#e4e4e4}.starts{fill:#f2c14e}.up{fill:#4c9f70}.standby{fill:#8fc9dd}\
.stops{fill:#999}.ill{fill:#d1495b}.grid{stroke:#ddd}.path{stroke:#c0143c;stroke-width:2.5;fill:none}\
</style>\n";

/// What is drawn for a state: its class, and its height, which tells it without colour.
fn class(state: StateName) -> Option<(&'static str, usize)> {
    match state {
        StateName::Unknown | StateName::Orphaned => None,
        StateName::Waiting => Some(("waits", 4)),
        StateName::Cleaning | StateName::Starting => Some(("starts", 8)),
        StateName::Ready | StateName::Completed => Some(("up", BAR)),
        StateName::Standby => Some(("standby", BAR)),
        StateName::Stopping | StateName::Stopped => Some(("stops", 4)),
        StateName::Unready | StateName::Backoff | StateName::Blocked | StateName::Failed => Some(("ill", 8)),
    }
}

struct Chart {
    left: usize,
    window: Window,
}

impl Chart {
    fn x(&self, at: Duration) -> f64 {
        self.left as f64 + self.window.part(at) * CHART as f64
    }

    fn grid(&self, out: &mut String, bottom: usize) {
        for at in self.window.marks(10) {
            let x = self.x(at);
            let _ = writeln!(
                out,
                "<line class=\"grid\" x1=\"{x:.1}\" y1=\"{}\" x2=\"{x:.1}\" y2=\"{bottom}\"/>\
                 <text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\" fill=\"#555\">{}</text>",
                TOP - 8,
                TOP - 12,
                axis_time(at)
            );
        }
    }

    fn bars(&self, out: &mut String, y: usize, lane: &Lane) {
        for (n, span) in lane.spans.iter().enumerate() {
            let Some((class, height)) = class(span.state) else { continue };
            if span.from >= self.window.until {
                break;
            }
            let ends =
                lane.spans.get(n + 1).map_or(self.window.until, |next| next.from.min(self.window.until));
            let (from, to) = (self.x(span.from), self.x(ends));
            let why = if span.reason.is_empty() { String::new() } else { format!(": {}", span.reason) };
            let title = escaped(&format!("{} from {}{why}", span.state, shown(span.from)));
            let _ = writeln!(
                out,
                "<rect class=\"{class}\" x=\"{from:.1}\" y=\"{}\" width=\"{:.1}\" height=\"{height}\"><title>{title}</title></rect>",
                y + 2 + BAR - height,
                (to - from).max(0.5)
            );
        }
    }

    /// The critical path: a line below the bars of those that it goes through, down or up to the next.
    fn path(&self, out: &mut String, legs: &[Leg], row_of: &HashMap<InstanceIx, usize>) {
        let mut points = String::new();
        // A machine's boot is drawn at its instance that comes next on the path.
        let mut row = None;
        for leg in legs.iter().rev() {
            let instance = match &leg.what {
                What::Power { .. } | What::Boots { .. } => row,
                // The time passes at the needed one's end of the edge.
                What::Notices { of, .. } => Some(*of),
                What::Patience { instance, .. }
                | What::Again { instance, .. }
                | What::Prepares { instance }
                | What::Starts { instance } => Some(*instance),
            };
            row = instance;
            let Some(n) = instance.and_then(|ix| row_of.get(&ix)) else { continue };
            let y = TOP + n * ROW + BAR + 4;
            let _ = write!(points, "{:.1},{y} {:.1},{y} ", self.x(leg.until), self.x(leg.from));
        }
        if !points.is_empty() {
            let _ = writeln!(out, "<polyline class=\"path\" points=\"{}\"/>", points.trim_end());
        }
    }
}

fn legend(out: &mut String, y: usize) {
    let mut x = 8;
    let known = [
        (StateName::Waiting, "waits"),
        (StateName::Starting, "cleans up, starts"),
        (StateName::Ready, "ready"),
        (StateName::Standby, "stands by"),
        (StateName::Stopped, "stops, stopped"),
        (StateName::Failed, "unready, blocked, failed"),
    ];
    for (state, words) in known {
        let Some((class, height)) = class(state) else { continue };
        let top = y + BAR - height;
        let _ =
            writeln!(out, "<rect class=\"{class}\" x=\"{x}\" y=\"{top}\" width=\"24\" height=\"{height}\"/>");
        text(out, x + 30, y + BAR - 1, words);
        x += 44 + words.len() * LETTER * 7 / 8;
    }
    let middle = y + BAR / 2;
    let _ = writeln!(out, "<polyline class=\"path\" points=\"{x},{middle} {},{middle}\"/>", x + 24);
    text(out, x + 30, y + BAR - 1, "critical path");
}

fn text(out: &mut String, x: usize, y: usize, words: &str) {
    let _ = writeln!(out, "<text x=\"{x}\" y=\"{y}\">{}</text>", escaped(words));
}

/// Text that ends at `x`.
fn right(out: &mut String, x: usize, y: usize, words: &str) {
    let _ = writeln!(out, "<text x=\"{x}\" y=\"{y}\" text-anchor=\"end\">{}</text>", escaped(words));
}

/// Text as XML has it. What XML cannot hold at all is left out: a daemon's last words may have anything in them.
pub fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\t' | '\n' | '\r' => out.push(' '),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => {}
            c => out.push(c),
        }
    }
    out
}
