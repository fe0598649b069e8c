//! The unit files of a configuration: parsed, with their parameters, ready to be filled in.

use super::diag::{Log, Problem, Span};
use super::fields::{Fields, Reader, Value};
use super::fill::{BUILTIN, Parameter, Scope};
use super::source::Sources;
use super::unit_file::{self, Filled};
use super::words::{MAX_NAME, list, nearest};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use toml::de::{DeTable, DeValue};

/// Unit files by name.
pub(super) struct Shelf<'a> {
    sources: &'a Sources,
    units: BTreeMap<&'a str, UnitText<'a>>,
}

/// One unit file.
pub(super) struct UnitText<'a> {
    pub name: &'a str,
    file: u32,
    text: &'a str,
    /// Whether a service uses it.
    used: bool,
    /// `None`: it is no TOML, and in a used file that has been complained about.
    table: Option<DeTable<'a>>,
}

impl<'a> Shelf<'a> {
    /// Parses every unit file; errors in those that `used` does not name are kept quiet.
    pub fn open(sources: &'a Sources, used: impl Fn(&str) -> bool, log: &Log) -> Shelf<'a> {
        let quiet = Log::default();
        let units = sources
            .units
            .iter()
            .zip(1..)
            .map(|((name, source), file)| {
                let (text, used) = (source.text.as_str(), used(name));
                let table = parse_toml(text, file, if used { log } else { &quiet });
                (name.as_str(), UnitText { name, file, text, used, table })
            })
            .collect();
        Shelf { sources, units }
    }

    /// The unit called `name`, which is used at `span`; complains when there is none.
    pub fn find(&self, name: &str, span: Span, log: &Log) -> Option<&UnitText<'a>> {
        if let Some(unit) = self.units.get(name) {
            return Some(unit);
        }
        let file = Path::new(&self.sources.folder).join(format!("{name}.toml")).display().to_string();
        let problem = match self.sources.unread.get(name) {
            Some(why) => Problem::new(span, format!("cannot read the unit file {file}: {why}"))
                .hint("a unit is a small TOML file that the agent may read"),
            None => {
                let known = || self.units.keys().copied();
                let hint = match nearest(name, known()) {
                    Some(near) => format!("did you mean unit = \"{near}\"?"),
                    None => {
                        format!("write that file, or name another unit; there are {}", list(known().take(12)))
                    }
                };
                Problem::new(span, format!("there is no unit file {file}")).hint(hint)
            }
        };
        log.error(problem);
        None
    }

    /// A broken unit that nobody uses is worth a word, not a refusal.
    pub fn judge_unused(&self, log: &Log) {
        let node = IpAddr::from([192, 0, 2, 1]);
        let builtin = ["192.0.2.1", "node", "service", "service@node", "cluster"];
        for unit in self.units.values().filter(|u| !u.used) {
            let quiet = Log::default();
            if unit.table.is_some() {
                let parameters = unit.parameters(&quiet);
                unit.fill(&quiet, &scope(builtin, &parameters, &[]), node, None);
            } else {
                parse_toml(unit.text, unit.file, &quiet);
            }
            if let Err(errors) = quiet.finish(&self.sources.files())
                && let Some(first) = errors.list.first()
            {
                let message =
                    format!("unit `{}` is broken, and no service uses it: {}", unit.name, first.message);
                log.warn(Problem::new(Span::new(unit.file, 0..0), message));
            }
        }
    }
}

impl UnitText<'_> {
    fn reader<'b>(&'b self, log: &'b Log, scope: Option<&'b Scope<'b>>) -> Reader<'b> {
        Reader { log, file: self.file, text: self.text, scope }
    }

    /// The `[set]` table: names and the values that they have unless a service says otherwise.
    pub fn parameters<'b>(&'b self, log: &'b Log) -> Vec<Value<'b>> {
        let Some(table) = &self.table else { return Vec::new() };
        let reader = self.reader(log, None);
        let mut fields = Fields::new(reader, table, reader.span(0..0), "unit");
        let set = fields.take("set").and_then(|v| v.table("`[set]`"));
        let mut known = set.map(|t| t.rest()).unwrap_or_default();
        known.retain(|value| {
            let what = if BUILTIN.contains(&value.key) {
                "has a meaning in every unit"
            } else if !is_parameter(value.key) {
                "cannot be the name of a parameter"
            } else {
                return true;
            };
            let problem = Problem::new(value.key_span, format!("`{}` {what}", value.key));
            log.error(problem.hint("choose another name, made of a-z, 0-9, `-` and `_`"));
            false
        });
        known
    }

    /// The unit for one instance; see [`unit_file::fill`].
    pub fn fill(
        &self,
        log: &Log,
        scope: &Scope<'_>,
        node: IpAddr,
        defaults: Option<&mut Vec<(&'static str, String)>>,
    ) -> Option<Filled> {
        unit_file::fill(self.reader(log, Some(scope)), self.table.as_ref()?, self.name, node, defaults)
    }
}

fn is_parameter(name: &str) -> bool {
    name.len() <= MAX_NAME
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_".contains(c))
}

/// What placeholders stand for: the unit's own values, under those of `overrides` (the strongest first).
pub(super) fn scope<'a>(
    builtin: [&'a str; 5],
    parameters: &[Value<'a>],
    overrides: &[&[Value<'a>]],
) -> Scope<'a> {
    let plain = Scope { builtin, set: Vec::new() };
    let set = parameters
        .iter()
        .map(|parameter| {
            let said = overrides.iter().find_map(|o| o.iter().find(|v| v.key == parameter.key));
            let typed = said.unwrap_or(parameter);
            // After a complaint the name stays known, so that one error is not followed by others.
            let value = as_text(typed, &plain).unwrap_or(Cow::Borrowed("1"));
            Parameter { name: parameter.key, value, at: typed.span() }
        })
        .collect();
    Scope { set, ..plain }
}

/// A `set` value as it is put into strings.
fn as_text<'a>(value: &Value<'a>, scope: &Scope<'_>) -> Option<Cow<'a, str>> {
    match value.raw() {
        DeValue::String(text) => scope.fill(text, value),
        DeValue::Integer(i) if i.radix() == 10 => Some(Cow::Borrowed(i.as_str())),
        DeValue::Boolean(b) => Some(Cow::Borrowed(if *b { "true" } else { "false" })),
        _ => {
            value.error(
                format!("`{}` must be a string, a number, true or false", value.key),
                "it is put into the unit's strings: write one plain value",
            );
            None
        }
    }
}

/// The table of a file. Every syntax error is reported; only after keys given twice is the rest worth reading.
pub(super) fn parse_toml<'a>(text: &'a str, file: u32, log: &Log) -> Option<DeTable<'a>> {
    let (table, errors) = DeTable::parse_recoverable(text);
    let mut sound = true;
    for error in without_echoes(text, errors) {
        let range = error.span().unwrap_or(text.len()..text.len());
        let span = Span::new(file, range.clone());
        let problem = if error.message() == "duplicate key" {
            let key = text.get(range).unwrap_or("");
            Problem::new(span, format!("`{key}` is given twice"))
                .hint("a table has each key once: join the two, or take one out")
        } else {
            sound = false;
            let words = error.message().trim_end_matches(", expected nothing");
            Problem::new(span, format!("this is not TOML: {words}")).hint(syntax_hint(words))
        };
        log.error(problem);
    }
    sound.then(|| table.into_inner())
}

/// One slip makes the parser stumble on: of each line only the first complaint is kept, and where a list or table is
/// never closed only the first of all and that one.
fn without_echoes(text: &str, errors: Vec<toml::de::Error>) -> Vec<toml::de::Error> {
    let is_unclosed = |e: &toml::de::Error| {
        e.message().starts_with("unclosed array") || e.message().starts_with("unclosed inline")
    };
    let unclosed = errors.iter().any(is_unclosed);
    let line = |e: &toml::de::Error| {
        let at = e.span().map_or(text.len(), |s| s.start).min(text.len());
        text.as_bytes()[..at].iter().rposition(|b| *b == b'\n')
    };
    let mut kept: Vec<toml::de::Error> = Vec::new();
    for error in errors {
        let echo = match kept.last() {
            Some(_) if error.message() == "duplicate key" => false,
            Some(last) => line(last) == line(&error) || (unclosed && !is_unclosed(&error)),
            None => false,
        };
        if !echo && kept.len() <= super::MAX_SHOWN {
            kept.push(error);
        }
    }
    kept
}

/// What to write instead, by the words of the TOML parser that name the common slips.
fn syntax_hint(words: &str) -> &'static str {
    let hints = [
        ("unclosed table", "close the header: [section]"),
        ("invalid basic string", "close the string with a quote on the same line"),
        ("invalid literal string", "close the string with a quote on the same line"),
        ("must be quoted", "write a value behind `=`, with strings in quotes"),
        ("invalid float", "an address or a version is a string: put it in quotes"),
        ("invalid integer", "an address or a duration is a string: put it in quotes"),
        ("unclosed array", "close the list with ]"),
        ("in array", "close the list with ] before the next key"),
        ("unclosed inline table", "close the table with }"),
    ];
    let found = hints.iter().find(|(slip, _)| words.contains(slip)).map(|(_, hint)| *hint);
    found.unwrap_or(
        "strings stand in quotes, lists in [ ], tables in { }, and each key = value on its own line",
    )
}
