//! Filling in: `{address}`, `{node}` and the unit's own parameters, in every string of a unit.

use super::diag::{Problem, Span};
use super::fields::Value;
use super::words::{list, nearest};
use std::borrow::Cow;
use std::net::SocketAddr;

/// The placeholders that every unit has.
pub(super) const BUILTIN: [&str; 5] = ["address", "node", "service", "instance", "cluster"];

/// What placeholders stand for, for one instance.
pub(super) struct Scope<'a> {
    /// In the order of [`BUILTIN`].
    pub builtin: [&'a str; 5],
    /// The unit's `[set]` as filled in for the instance, by name; few, so searched one by one.
    pub set: Vec<Parameter<'a>>,
}

/// One value of `[set]`.
pub(super) struct Parameter<'a> {
    pub name: &'a str,
    pub value: Cow<'a, str>,
    /// Where the value was typed: the unit, or the service that overrides it.
    pub at: Span,
}

impl<'a> Scope<'a> {
    fn get(&self, name: &str) -> Option<Cow<'_, str>> {
        let builtin = BUILTIN.iter().position(|b| *b == name).map(|i| self.builtin[i]);
        let own = || self.set.iter().find(|p| p.name == name).map(|p| &*p.value);
        builtin.or_else(own).map(Cow::Borrowed).or_else(|| self.part(name))
    }

    /// `service@node`
    pub fn instance(&self) -> &'a str {
        self.builtin[3]
    }

    /// Where the first parameter that `text` uses was typed.
    pub fn origin(&self, text: &str) -> Option<Span> {
        self.set.iter().find(|p| text.contains(&format!("{{{}", p.name))).map(|p| p.at)
    }

    /// `{listen.host}` and `{listen.port}` of a value such as `192.168.1.71:2002`: daemons that want the two apart.
    fn part(&self, name: &str) -> Option<Cow<'_, str>> {
        let (whole, part) = name.split_once('.')?;
        let address: SocketAddr = self.set.iter().find(|p| p.name == whole)?.value.parse().ok()?;
        match part {
            "host" => Some(Cow::Owned(address.ip().to_string())),
            "port" => Some(Cow::Owned(address.port().to_string())),
            _ => None,
        }
    }

    /// `text` with every placeholder replaced; `{{` and `}}` are plain braces. `None` after a complaint.
    pub fn fill<'t>(&self, text: &'t str, value: &Value<'_>) -> Option<Cow<'t, str>> {
        if !text.contains(['{', '}']) {
            return Some(Cow::Borrowed(text));
        }
        let mut filled = String::with_capacity(text.len() + 16);
        let mut rest = text;
        let mut sound = true;
        while let Some(at) = rest.find(['{', '}']) {
            filled.push_str(&rest[..at]);
            let from = &rest[at..];
            if from.starts_with("{{") || from.starts_with("}}") {
                filled.push_str(&from[..1]);
                rest = &from[2..];
                continue;
            }
            let end = from.find('}').filter(|_| from.starts_with('{'));
            let Some(end) = end else {
                let which = &from[..1];
                value.reader.log.error(
                    Problem::new(
                        value.span(),
                        format!("`{}` has a `{which}` without its partner", value.key),
                    )
                    .hint(format!("write `{which}{which}` for a plain brace")),
                );
                return None;
            };
            let name = &from[1..end];
            match self.get(name) {
                Some(with) => filled.push_str(&with),
                None => {
                    self.unknown(name, value);
                    sound = false;
                }
            }
            rest = &from[end + 1..];
        }
        filled.push_str(rest);
        sound.then_some(Cow::Owned(filled))
    }

    fn unknown(&self, name: &str, value: &Value<'_>) {
        let known = || BUILTIN.iter().copied().chain(self.set.iter().map(|p| p.name));
        let hint = match nearest(name, known()) {
            Some(near) => format!("did you mean `{{{near}}}`?"),
            None => format!(
                "known here are {}; write `{{{{` for a plain brace, or add the name to `[set]`",
                list(known())
            ),
        };
        let problem =
            Problem::new(self.place(name, value), format!("nothing is called `{{{name}}}`")).hint(hint);
        value.reader.log.error(problem);
    }

    /// The placeholder itself where it can be found in the source, else the whole string (it has escapes).
    fn place(&self, name: &str, value: &Value<'_>) -> Span {
        let span = value.span();
        let source = value.reader.text.get(span.start as usize..span.end as usize).unwrap_or("");
        match source.find(&format!("{{{name}}}")) {
            Some(at) => {
                let start = span.start + at as u32;
                Span { start, end: start + name.len() as u32 + 2, ..span }
            }
            None => span,
        }
    }
}
