//! A scenario as text: what a failing run prints, and what is kept under `tests/sim/NAME.scenario`.
//!
//! ```text
//! # What it shows, in prose.
//! cluster sample
//! seed 42
//! usual 2s
//! takes mysql@mysql1 1m
//! boot 20s
//! at-most 15m
//!
//! 0s      power on mysql1
//! 12.5s   power cut mysql1
//! ```
//!
//! In place of `cluster sample` there may be the texts themselves: `cluster`, the lines of the file, `end`; then
//! `unit NAME`, its lines, `end`, for each unit. [`words`] has the faults. Reading what was written gives the same
//! scenario again, to the nanosecond.

mod words;

use super::sample::{sample, sources};
use super::scenario::{Scenario, Timed, Timing};
use crate::model::{self, Cluster, Diagnostics, InstanceIx, NodeIx, Sources};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

/// The most faults of one scenario: a virtual week with one every six seconds.
pub const MAX_FAULTS: usize = 100_000;
/// The end, unless the text says another.
const AT_MOST: Duration = Duration::from_secs(3600);

/// A scenario with what a person reads and what its cluster was read from.
#[derive(Clone, Debug)]
pub struct Written {
    /// What it shows: lines of prose, without the `#`.
    pub about: Vec<String>,
    /// Every text ends with a line's end, and none has a line that is `end` alone.
    pub sources: Sources,
    pub scenario: Scenario,
}

/// Why a text is no scenario.
#[derive(Debug, thiserror::Error)]
pub enum TextError {
    #[error("line {line}: {why}")]
    Line { line: usize, why: String },
    #[error("the cluster of line {line} is refused:\n{why}")]
    Cluster { line: usize, why: Diagnostics },
    #[error("{0}")]
    Whole(String),
}

/// Reads a text.
///
/// # Errors
/// The first thing that is wrong, with its line.
pub fn parse(text: &str) -> Result<Written, TextError> {
    let mut about = Vec::new();
    let mut lines = Lines { lines: text.lines().collect(), next: 0 };
    while let Some(prose) = lines.lines.get(lines.next).and_then(|l| l.strip_prefix('#')) {
        about.push(prose.strip_prefix(' ').unwrap_or(prose).to_owned());
        lines.next += 1;
    }
    let (sources, cluster) = read_cluster(&mut lines)?;
    let mut scenario = Scenario {
        cluster: Arc::new(cluster),
        seed: 0,
        timing: Timing { usual: Duration::from_secs(1), of: BTreeMap::new(), boot: Duration::from_secs(10) },
        faults: Vec::new(),
        at_most: AT_MOST,
    };
    while let Some((line, words)) = lines.next_words() {
        read_line(&mut scenario, &words).map_err(|why| TextError::Line { line, why })?;
    }
    Ok(Written { about, sources, scenario })
}

/// The text of a scenario.
pub fn print(written: &Written) -> String {
    let Written { about, sources, scenario } = written;
    let cluster = &scenario.cluster;
    let mut text = String::new();
    // Writing to a String cannot fail.
    for line in about {
        let _ = if line.is_empty() { writeln!(text, "#") } else { writeln!(text, "# {line}") };
    }
    if *sources == sample() {
        text += "cluster sample\n";
    } else {
        print_block(&mut text, "cluster", &sources.cluster.text);
        for (name, unit) in &sources.units {
            print_block(&mut text, &format!("unit {name}"), &unit.text);
        }
    }
    let _ = writeln!(text, "seed {}", scenario.seed);
    let _ = writeln!(text, "usual {}", show_time(scenario.timing.usual));
    for (instance, time) in &scenario.timing.of {
        let _ = writeln!(text, "takes {} {}", cluster.instance(*instance).name, show_time(*time));
    }
    let _ = writeln!(text, "boot {}", show_time(scenario.timing.boot));
    let _ = writeln!(text, "at-most {}\n", show_time(scenario.at_most));
    for Timed { at, fault } in &scenario.faults {
        let _ = writeln!(text, "{:<8}{}", show_time(*at) + " ", words::show(cluster, fault));
    }
    text
}

/// The same scenario on another cluster: what befalls nodes and instances that it does not have is left out.
pub(super) fn on_cluster(scenario: &Scenario, cluster: Arc<Cluster>) -> Scenario {
    let Scenario { cluster: from, timing, faults, .. } = scenario;
    let there = |ix: &InstanceIx| cluster.instance_named(&from.instance(*ix).name);
    let of = timing.of.iter().filter_map(|(ix, time)| Some((there(ix)?, *time))).collect();
    let moved = |timed: &Timed| {
        let words = words::show(from, &timed.fault);
        let fault = words::read(&cluster, &words.split(' ').collect::<Vec<_>>()).ok()?;
        Some(Timed { at: timed.at, fault })
    };
    let faults = faults.iter().filter_map(moved).collect();
    let timing = Timing { of, ..timing.clone() };
    Scenario { timing, faults, cluster, ..*scenario }
}

fn print_block(text: &mut String, head: &str, body: &str) {
    *text += head;
    *text += "\n";
    *text += body;
    if !body.ends_with('\n') {
        *text += "\n";
    }
    *text += "end\n";
}

struct Lines<'a> {
    lines: Vec<&'a str>,
    next: usize,
}

impl<'a> Lines<'a> {
    /// The next line that says something: its number, counted from 1, and its words.
    fn next_words(&mut self) -> Option<(usize, Vec<&'a str>)> {
        loop {
            let line = self.lines.get(self.next)?;
            self.next += 1;
            let words: Vec<&str> = line.split('#').next()?.split_whitespace().collect();
            if !words.is_empty() {
                return Some((self.next, words));
            }
        }
    }

    /// The lines up to `end`.
    fn block(&mut self) -> Result<String, TextError> {
        let begin = self.next;
        let mut text = String::new();
        while let Some(line) = self.lines.get(self.next) {
            self.next += 1;
            if *line == "end" {
                return Ok(text);
            }
            text += line;
            text += "\n";
        }
        Err(TextError::Line { line: begin, why: "this block has no `end`".to_owned() })
    }
}

fn read_cluster(lines: &mut Lines<'_>) -> Result<(Sources, Cluster), TextError> {
    let Some((line, words)) = lines.next_words() else {
        return Err(TextError::Whole("the text is empty".to_owned()));
    };
    let sources = match words.as_slice() {
        ["cluster", "sample"] => sample(),
        ["cluster"] => {
            let cluster = lines.block()?;
            let mut units = BTreeMap::new();
            let mut before = lines.next;
            while let Some((_, words)) = lines.next_words() {
                let ["unit", name] = words.as_slice() else {
                    lines.next = before;
                    break;
                };
                units.insert((*name).to_owned(), lines.block()?);
                before = lines.next;
            }
            sources(cluster, units)
        }
        _ => {
            let why = "the first line is `cluster sample`, or `cluster` and the file's lines".to_owned();
            return Err(TextError::Line { line, why });
        }
    };
    let cluster = model::parse(&sources).map_err(|why| TextError::Cluster { line, why })?;
    Ok((sources, cluster))
}

fn read_line(scenario: &mut Scenario, words: &[&str]) -> Result<(), String> {
    match words {
        ["seed", seed] => {
            scenario.seed = seed.parse().map_err(|_| format!("`{seed}` is no number up to 2^64 - 1"))?;
        }
        ["usual", time] => scenario.timing.usual = read_time(time)?,
        ["boot", time] => scenario.timing.boot = read_time(time)?,
        ["at-most", time] => scenario.at_most = read_time(time)?,
        ["takes", name, time] => {
            let instance = instance(&scenario.cluster, name)?;
            scenario.timing.of.insert(instance, read_time(time)?);
        }
        [at, words @ ..] if at.starts_with(|c: char| c.is_ascii_digit()) => {
            let at = read_time(at)?;
            if scenario.faults.last().is_some_and(|last| last.at > at) {
                return Err(format!("{} comes before the line above", show_time(at)));
            }
            if scenario.faults.len() >= MAX_FAULTS {
                return Err(format!("more than {MAX_FAULTS} faults"));
            }
            let fault = words::read(&scenario.cluster, words)?;
            scenario.faults.push(Timed { at, fault });
        }
        _ => return Err(format!("`{}` is neither a time and a fault nor a setting", words.join(" "))),
    }
    Ok(())
}

fn node(cluster: &Cluster, name: &str) -> Result<NodeIx, String> {
    cluster.node_named(name).ok_or_else(|| format!("there is no node `{name}`"))
}

fn instance(cluster: &Cluster, name: &str) -> Result<InstanceIx, String> {
    cluster.instance_named(name).ok_or_else(|| format!("there is no instance `{name}`"))
}

/// Reads `12.5s`, `200ms`, `3m` or `1h`: at most nine digits behind the point.
fn read_time(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is no time: write 12.5s, 200ms, 3m or 1h");
    let number = text.trim_end_matches(|c: char| c.is_ascii_lowercase());
    let unit: u64 = match &text[number.len()..] {
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return Err(wrong()),
    };
    let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |s: &str| !s.is_empty() && s.len() <= 9 && s.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(part) {
        return Err(wrong());
    }
    let parse = |s: &str| s.parse::<u64>().map_err(|_| wrong());
    // Nine digits of an hour stay far below 2^128.
    let part = u128::from(parse(part)?) * u128::from(unit) / 10_u128.pow(part.len() as u32);
    let nanos = u128::from(parse(whole)?) * u128::from(unit) + part;
    u64::try_from(nanos).map(Duration::from_nanos).map_err(|_| wrong())
}

/// The time in seconds, with no more digits than it needs.
fn show_time(time: Duration) -> String {
    let nanos = format!("{:09}", time.subsec_nanos());
    match nanos.trim_end_matches('0') {
        "" => format!("{}s", time.as_secs()),
        part => format!("{}.{part}s", time.as_secs()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        parse(text).unwrap_err().to_string()
    }

    #[test]
    fn a_text_is_read_and_written_again() {
        let text = "\
# Redis comes late.
#
# And goes early.
cluster sample
seed 42
usual 2s
takes mysql@mysql1 60s
boot 20.5s
at-most 900s

0s      power on mysql1
12.500000001s power cut mysql1
12.500000001s cut web2 -> redis1
";
        let written = parse(text).unwrap();
        assert_eq!(print(&written), text);
        assert_eq!(written.scenario.seed, 42);
        assert_eq!(written.scenario.faults[1].at, Duration::new(12, 500_000_001));
    }

    #[test]
    fn a_cluster_is_kept_whole() {
        let cluster =
            "[cluster]\nname = \"a\"\n\n[nodes]\nn = { n1 = \"10.0.0.1\" }\n[services]\nx = { on = \"n\" }\n";
        let unit =
            "# x\n[run]\ncommand = [\"/bin/x\"]\n[ready]\nprobe = { kind = \"running\", for = \"1s\" }\n";
        let text = format!("cluster\n{cluster}end\nunit x\n{unit}end\nseed 1\n\n0s power on n1\n");
        let written = parse(&text).unwrap();
        assert_eq!(written.sources.cluster.text, cluster);
        assert_eq!(written.sources.units["x"].text, unit);
        let again = parse(&print(&written)).unwrap();
        assert_eq!(again.sources, written.sources);
        assert_eq!(print(&again), print(&written));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        assert_eq!(error(""), "the text is empty");
        assert_eq!(
            error("# a\n\nseed 1"),
            "line 3: the first line is `cluster sample`, or `cluster` and the file's lines"
        );
        assert_eq!(error("cluster\n[cluster]\n"), "line 1: this block has no `end`");
        assert!(error("cluster\n[cluster]\nend\n").starts_with("the cluster of line 1 is refused:\n"));
        let sample = |line: &str| error(&format!("cluster sample\n{line}\n"));
        assert_eq!(sample("seed x"), "line 2: `x` is no number up to 2^64 - 1");
        assert_eq!(sample("1s power on web9"), "line 2: there is no node `web9`");
        assert_eq!(sample("takes web@mq1 3s"), "line 2: there is no instance `web@mq1`");
        assert_eq!(sample("boot 3"), "line 2: `3` is no time: write 12.5s, 200ms, 3m or 1h");
        assert_eq!(sample("1s explode web1"), "line 2: there is no fault `explode web1`");
        assert_eq!(sample("boom"), "line 2: `boom` is neither a time and a fault nor a setting");
        assert_eq!(sample("2s power on web1\n1s power on web2"), "line 3: 1s comes before the line above");
    }

    #[test]
    fn times_have_units_and_keep_every_digit() {
        for (text, nanos) in [
            ("0s", 0),
            ("200ms", 200_000_000),
            ("0.000000001s", 1),
            ("1.5m", 90_000_000_000),
            ("2h", 7_200_000_000_000),
        ] {
            let time = read_time(text).unwrap();
            assert_eq!(time, Duration::from_nanos(nanos), "{text}");
            assert_eq!(read_time(&show_time(time)), Ok(time));
        }
        for wrong in ["", "s", "1", "-1s", "1.s", ".5s", "1e3s", "1d", "9999999999s", "1.0000000001s"] {
            assert!(read_time(wrong).is_err(), "{wrong}");
        }
    }
}
