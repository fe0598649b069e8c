//! How things are put on a terminal: widths, durations, colours, columns.
//!
//! Colours are decoration: every text says the same without them. Texts are styled here and stripped by
//! `anstream` when they go anywhere but a terminal.

use crate::engine::view::StateName;
use crate::facts::Verdict;
use anstyle::{AnsiColor, Style};
use std::time::Duration;
use unicode_width::UnicodeWidthStr;

/// How the reader looks at it.
#[derive(Clone, Debug)]
pub struct Look {
    /// Columns of the terminal; `None` when nobody looks (a pipe): nothing is wrapped then.
    pub width: Option<usize>,
    /// The reader's wall clock and time zone, for "held since 03:12".
    pub now: jiff::Zoned,
}

impl Look {
    /// As standard output is now: `$COLUMNS`, else the terminal's own width, else (a pipe) unbounded.
    pub fn here() -> Look {
        let said = std::env::var("COLUMNS").ok().and_then(|c| c.parse().ok()).filter(|c| *c > 0);
        let width = said.or_else(|| terminal_size::terminal_size().map(|(w, _)| usize::from(w.0)));
        Look { width: width.map(|w| w.max(40)), now: jiff::Zoned::now() }
    }

    /// A wall-clock stamp as short as it can be: `03:12`, or with the day when it is not today's.
    pub fn clock(&self, at_ms: u64) -> String {
        let stamp = i64::try_from(at_ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
        let Some(stamp) = stamp else { return "an unknown time".into() };
        let local = stamp.to_zoned(self.now.time_zone().clone());
        let form = if local.date() == self.now.date() { "%H:%M" } else { "%Y-%m-%d %H:%M" };
        local.strftime(form).to_string()
    }
}

/// `2026-03-04`, in UTC, of seconds since 1970.
pub fn date(at_s: u64) -> String {
    let stamp = i64::try_from(at_s).ok().and_then(|s| jiff::Timestamp::from_second(s).ok());
    stamp.map_or_else(|| "the end of time".into(), |t| t.strftime("%Y-%m-%d").to_string())
}

/// A duration in at most two units: `340ms`, `12s`, `3m 05s`, `2h 07m`, `4d 03h`.
pub fn short(ms: u64) -> String {
    let s = ms / 1000;
    match s {
        0 => format!("{ms}ms"),
        1..60 => format!("{s}s"),
        60..3600 => format!("{}m {:02}s", s / 60, s % 60),
        3600..86400 => format!("{}h {:02}m", s / 3600, s / 60 % 60),
        _ => format!("{}d {:02}h", s / 86400, s / 3600 % 24),
    }
}

/// An answer, with the time that is left where the other side tells it: no part of its sentence, which would be news
/// with every answer.
pub fn told(verdict: &Verdict) -> String {
    let left = time_left(verdict).map_or_else(String::new, |left| format!(", {left}"));
    format!("{verdict}{left}")
}

/// `12s left`
pub fn time_left(verdict: &Verdict) -> Option<String> {
    match verdict {
        Verdict::Progress { left: Some(left), .. } => {
            Some(format!("{} left", short(left.as_millis().try_into().unwrap_or(u64::MAX))))
        }
        _ => None,
    }
}

/// A duration as typed: `90s`, `2m`, `1h`, `500ms`; a bare number is seconds. At most a day.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let wrong = || format!("'{text}' is no duration: write 500ms, 90s, 2m or 1h");
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    let unit = match &text[digits.len()..] {
        "ms" => 1,
        "" | "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(wrong()),
    };
    let ms = number.checked_mul(unit).filter(|ms| *ms <= 86_400_000);
    ms.map(Duration::from_millis).ok_or_else(|| format!("'{text}' is longer than a day"))
}

/// The columns that a text takes on a terminal.
pub fn width(text: &str) -> usize {
    // Nearly all of it, and told at once.
    if text.bytes().all(|b| matches!(b, b' '..=b'~')) { text.len() } else { UnicodeWidthStr::width(text) }
}

/// `text` in `style`; no codes at all for a plain style or an empty text.
pub fn paint(style: Style, text: &str) -> String {
    if style.is_plain() || text.is_empty() { text.into() } else { format!("{style}{text}{style:#}") }
}

/// The decoration of a state.
pub fn state_style(state: StateName) -> Style {
    let colour = match state {
        StateName::Ready | StateName::Completed => AnsiColor::Green,
        StateName::Standby => AnsiColor::Cyan,
        StateName::Waiting | StateName::Cleaning | StateName::Starting | StateName::Stopping => {
            AnsiColor::Yellow
        }
        StateName::Unready | StateName::Backoff | StateName::Blocked | StateName::Failed => AnsiColor::Red,
        StateName::Unknown | StateName::Orphaned => AnsiColor::Magenta,
        StateName::Stopped => return Style::new().dimmed(),
    };
    colour.on_default()
}

pub const BOLD: Style = Style::new().bold();
pub const DIM: Style = Style::new().dimmed();
pub const WARN: Style = AnsiColor::Yellow.on_default();

/// Breaks `text` at spaces into lines of at most `room` columns. A longer word stays whole.
pub fn wrap(text: &str, room: Option<usize>) -> Vec<String> {
    let Some(room) = room else { return vec![text.into()] };
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last_mut().expect("there is always a line");
        if line.is_empty() {
            line.push_str(word);
        } else if width(line) + 1 + width(word) <= room {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.into());
        }
    }
    lines
}

/// Adds `text` below an indent, wrapped; continuation lines are indented two further.
pub fn put(out: &mut String, look: &Look, indent: usize, text: &str) {
    let room = look.width.map(|w| w.saturating_sub(indent + 2).max(20));
    for (i, line) in wrap(text, room).iter().enumerate() {
        let pad = if i == 0 { indent } else { indent + 2 };
        out.push_str(&" ".repeat(pad));
        out.push_str(line);
        out.push('\n');
    }
}

/// One row: styled cells that line up, then texts that may run on below.
#[derive(Debug, Default)]
pub struct Row {
    pub cells: Vec<(String, Style)>,
    /// Go into the rest of the line where they fit, else each on lines of its own below.
    pub tail: Vec<String>,
}

/// Rows under a head. Where a tail does not fit beside its cells it goes below, indented past the first `under`
/// columns.
pub fn table(look: &Look, head: &[&str], rows: &[Row], under: usize) -> String {
    let columns = head.len() - 1;
    let mut widths: Vec<usize> = head[..columns].iter().map(|h| width(h)).collect();
    for row in rows {
        for (w, (cell, _)) in widths.iter_mut().zip(&row.cells) {
            *w = (*w).max(width(cell));
        }
    }
    let left: usize = widths.iter().map(|w| w + 2).sum();
    let below = 2 + widths[..under].iter().map(|w| w + 2).sum::<usize>();
    let mut out = String::new();
    // Styles are few, and their codes take longer to write than all the rest.
    let mut codes: Vec<(Style, String, String)> = Vec::new();
    let mut line = |cells: &mut dyn Iterator<Item = (&str, Style)>| {
        let mut line = String::new();
        for (w, (cell, style)) in widths.iter().zip(cells) {
            if style.is_plain() || cell.is_empty() {
                line.push_str(cell);
            } else {
                let known = codes.iter().position(|(of, ..)| *of == style).unwrap_or_else(|| {
                    codes.push((style, format!("{style}"), format!("{style:#}")));
                    codes.len() - 1
                });
                let (_, begin, end) = &codes[known];
                line.extend([begin, cell, end]);
            }
            line.extend(std::iter::repeat_n(' ', w - width(cell) + 2));
        }
        line
    };
    let titles = line(&mut head[..columns].iter().map(|h| (*h, DIM))) + &paint(DIM, head[columns]);
    out.push_str(titles.trim_end());
    out.push('\n');
    for row in rows {
        let cells = line(&mut row.cells.iter().map(|(c, s)| (c.as_str(), *s)));
        let tail = row.tail.join("; ");
        if look.width.is_none_or(|w| left + width(&tail) <= w) {
            out.push_str(&cells);
            out.push_str(&tail);
            out.truncate(out.trim_end_matches(' ').len());
            out.push('\n');
        } else {
            out.push_str(cells.trim_end());
            out.push('\n');
            for text in &row.tail {
                put(&mut out, look, below, text);
            }
        }
    }
    out
}

/// `1 node`, `3 nodes`.
pub fn plural(n: usize, one: &str) -> String {
    if n == 1 { format!("1 {one}") } else { format!("{n} {one}s") }
}

/// Names in a row, at most `most` of them: `a, b and 3 more`.
pub fn listed<S: AsRef<str>>(names: &[S], most: usize) -> String {
    let shown: Vec<&str> = names.iter().take(most).map(AsRef::as_ref).collect();
    match names.len().checked_sub(most) {
        Some(more) if more > 0 => format!("{} and {more} more", shown.join(", ")),
        _ => shown.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_short() {
        for (ms, text) in [
            (0, "0ms"),
            (340, "340ms"),
            (12_999, "12s"),
            (185_000, "3m 05s"),
            (7_640_000, "2h 07m"),
            (356_400_000, "4d 03h"),
        ] {
            assert_eq!(short(ms), text);
        }
    }

    #[test]
    fn durations_are_read_as_typed() {
        for (text, ms) in [("90", 90_000), ("500ms", 500), ("2m", 120_000), ("1h", 3_600_000)] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(ms)));
        }
        for text in ["", "s", "1x", "-1s", "25h", "99999999999999999999s"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn wrapping_breaks_at_spaces_and_counts_columns() {
        assert_eq!(wrap("ab cd ef", Some(5)), ["ab cd", "ef"]);
        assert_eq!(wrap("日本 日本", Some(8)), ["日本", "日本"]);
        assert_eq!(wrap("unbreakable", Some(4)), ["unbreakable"]);
        assert_eq!(wrap("ab cd", None), ["ab cd"]);
    }

    #[test]
    fn a_clock_shows_the_day_only_when_it_is_another() {
        let now = jiff::Timestamp::from_second(1_700_000_000).unwrap().to_zoned(jiff::tz::TimeZone::UTC);
        let look = Look { width: None, now };
        assert_eq!(look.clock(1_700_000_000_000 - 3_600_000), "21:13");
        assert_eq!(look.clock(1_700_000_000_000 - 86_400_000), "2023-11-13 22:13");
        assert_eq!(look.clock(u64::MAX), "an unknown time");
    }
}
