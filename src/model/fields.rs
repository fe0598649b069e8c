//! Reading a TOML table by hand: every key that is asked for is known, the rest is refused, and nothing stops at
//! the first error.

use super::diag::{Log, Problem, Span, is_secret};
use super::fill::Scope;
use super::words::{either, list, nearest, parse_duration};
use std::borrow::Cow;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// What every reader needs: where complaints go, which file this is, and what placeholders stand for.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    pub log: &'a Log,
    pub file: u32,
    pub text: &'a str,
    /// `None` where placeholders are left as they are (`cluster.toml`).
    pub scope: Option<&'a Scope<'a>>,
}

impl<'a> Reader<'a> {
    pub fn span(&self, range: std::ops::Range<usize>) -> Span {
        Span::new(self.file, range)
    }
}

/// One table being read.
pub(super) struct Fields<'a> {
    pub reader: Reader<'a>,
    table: &'a DeTable<'a>,
    /// The table itself, for what is missing in it.
    pub span: Span,
    /// What it is called in messages: ``service `web` ``.
    name: Cow<'a, str>,
    asked: Vec<&'static str>,
}

/// A key with its value.
#[derive(Clone, Copy)]
pub(super) struct Value<'a> {
    pub reader: Reader<'a>,
    pub key: &'a str,
    pub key_span: Span,
    node: &'a Spanned<DeValue<'a>>,
}

impl<'a> Fields<'a> {
    pub fn new(
        reader: Reader<'a>,
        table: &'a DeTable<'a>,
        span: Span,
        name: impl Into<Cow<'a, str>>,
    ) -> Fields<'a> {
        Fields { reader, table, span, name: name.into(), asked: Vec::new() }
    }

    /// The value of a key, which is known from now on.
    pub fn take(&mut self, key: &'static str) -> Option<Value<'a>> {
        self.asked.push(key);
        let (k, node) = self.table.get_key_value(key)?;
        Some(Value { reader: self.reader, key: k.get_ref(), key_span: self.reader.span(k.span()), node })
    }

    /// The value of a key that must be there.
    pub fn need(&mut self, key: &'static str, hint: &str) -> Option<Value<'a>> {
        let value = self.take(key);
        if value.is_none() {
            let problem = Problem::new(self.span, format!("{} has no `{key}`", self.name)).hint(hint);
            self.reader.log.error(problem);
        }
        value
    }

    /// The keys that nobody asked for, in the order of the file.
    pub fn rest(&self) -> Vec<Value<'a>> {
        let mut rest: Vec<Value<'a>> = self
            .table
            .iter()
            .filter(|(k, _)| !self.asked.iter().any(|a| a == k.get_ref()))
            .map(|(k, node)| Value {
                reader: self.reader,
                key: k.get_ref(),
                key_span: self.reader.span(k.span()),
                node,
            })
            .collect();
        rest.sort_by_key(|v| v.key_span);
        rest
    }

    /// Refuses every key that nobody asked for.
    pub fn finish(self) {
        for value in self.rest() {
            let key = value.key;
            let problem = Problem::new(value.key_span, format!("{} knows no `{key}`", self.name));
            let hint = if is_secret(key) {
                "a secret does not belong here: put it into a file that only its user can read, and name \
                 that with `password_file = \"/path\"` (or a variable of the agent's environment with \
                 `password_env`, or a credential of systemd's with `password_credential`)"
                    .to_string()
            } else if let Some(near) = nearest(key, self.asked.iter().copied()) {
                format!("did you mean `{near}`?")
            } else {
                let mut known = self.asked.clone();
                known.sort_unstable();
                format!("it knows {}", list(known))
            };
            self.reader.log.error(problem.hint(hint));
        }
    }
}

impl<'a> Value<'a> {
    /// Where the value stands.
    pub fn span(&self) -> Span {
        self.reader.span(self.node.span())
    }

    /// The raw value.
    pub fn raw(&self) -> &'a DeValue<'a> {
        self.node.get_ref()
    }

    /// Complains about this value.
    pub fn error(&self, message: impl Into<String>, hint: impl Into<String>) {
        self.reader.log.error(Problem::new(self.span(), message).hint(hint));
    }

    /// Complains that it is of another type.
    fn mismatch<T>(&self, wanted: &str, hint: impl Into<String>) -> Option<T> {
        self.error(format!("`{}` must be {wanted}, not {}", self.key, type_name(self.raw())), hint);
        None
    }

    /// A string, with its placeholders filled in.
    pub fn text(&self) -> Option<Cow<'a, str>> {
        match self.raw() {
            DeValue::String(text) => self.fill(text),
            _ => self.mismatch("a string", "put it in quotes"),
        }
    }

    fn fill(&self, text: &'a str) -> Option<Cow<'a, str>> {
        if text.contains('\0') {
            self.error(
                format!("`{}` contains a zero byte", self.key),
                "neither paths nor arguments can hold one: take it out",
            );
            return None;
        }
        match self.reader.scope {
            Some(scope) => scope.fill(text, self),
            None => Some(Cow::Borrowed(text)),
        }
    }

    /// A string that is not empty.
    pub fn words(&self) -> Option<Cow<'a, str>> {
        let text = self.text()?;
        if text.trim().is_empty() {
            self.error(format!("`{}` is empty", self.key), "write a value, or leave the key out");
            return None;
        }
        Some(text)
    }

    /// A number within `range`; where placeholders are known, also a string that becomes one.
    pub fn number(&self, range: RangeInclusive<i64>) -> Option<i64> {
        let wanted = format!("a number from {} to {}", range.start(), range.end());
        match self.raw() {
            DeValue::Integer(i) => {
                let number = i64::from_str_radix(i.as_str(), i.radix()).ok().filter(|n| range.contains(n));
                if number.is_none() {
                    self.error(format!("`{}` is out of range", self.key), format!("write {wanted}"));
                }
                number
            }
            DeValue::String(text) if self.reader.scope.is_some() => {
                let filled = self.fill(text)?;
                let number = filled.parse().ok().filter(|n| range.contains(n));
                if number.is_none() {
                    self.filled_badly(text, &filled, &wanted);
                }
                number
            }
            DeValue::String(text) if text.parse::<i64>().is_ok() => {
                self.mismatch(&wanted, format!("write it without quotes: {} = {text}", self.key))
            }
            _ => self.mismatch(&wanted, "write it in digits, without quotes"),
        }
    }

    /// Complains that a string with placeholders became something else than `wanted`.
    fn filled_badly(&self, text: &str, filled: &str, wanted: &str) {
        let scope = self.reader.scope;
        let of = scope.map_or(String::new(), |s| format!(" of {}", s.instance()));
        let mut problem =
            Problem::new(self.span(), format!("`{}`{of} is \"{filled}\", which is not {wanted}", self.key));
        problem = match scope.and_then(|s| s.origin(text)) {
            Some(set_at) => {
                problem.note(set_at, "the value comes from here").hint(format!("write {wanted} there"))
            }
            None => problem.hint(format!("write {wanted}")),
        };
        self.reader.log.error(problem);
    }

    /// `true` or `false`.
    pub fn flag(&self) -> Option<bool> {
        match self.raw() {
            DeValue::Boolean(b) => Some(*b),
            DeValue::String(text) if self.reader.scope.is_some() => match &*self.fill(text)? {
                "true" => Some(true),
                "false" => Some(false),
                other => {
                    self.filled_badly(text, other, "true or false");
                    None
                }
            },
            _ => self.mismatch("true or false", "write it without quotes"),
        }
    }

    /// A duration: `"30s"`.
    pub fn duration(&self) -> Option<Duration> {
        let hint = "write a number with its unit in quotes: \"50ms\", \"30s\", \"2m\", \"1h\" (at most 31d)";
        match self.raw() {
            DeValue::String(text) => {
                let filled = self.fill(text)?;
                let duration = parse_duration(&filled);
                if duration.is_none() {
                    self.error(format!("`{}` is \"{filled}\", which is not a duration", self.key), hint);
                }
                duration
            }
            _ => self.mismatch("a duration", hint),
        }
    }

    /// A duration above zero.
    pub fn span_of_time(&self) -> Option<Duration> {
        let duration = self.duration()?;
        if duration.is_zero() {
            self.error(format!("`{}` is zero", self.key), "write a duration above zero, such as \"5s\"");
            return None;
        }
        Some(duration)
    }

    /// An absolute path without `..`.
    pub fn path(&self) -> Option<PathBuf> {
        let text = self.words()?;
        let path = PathBuf::from(&*text);
        if !path.is_absolute() {
            self.error(
                format!("`{}` is \"{text}\", which is not an absolute path", self.key),
                "write it from the root: the agent's own folder means nothing to a service",
            );
            return None;
        }
        if path.components().any(|c| c == std::path::Component::ParentDir) {
            self.error(
                format!("`{}` is \"{text}\", which climbs with `..`", self.key),
                "write the path that it leads to",
            );
            return None;
        }
        Some(path)
    }

    /// A literal IP address.
    pub fn ip(&self) -> Option<IpAddr> {
        let text = self.words()?;
        match text.parse() {
            Ok(ip) => Some(ip),
            Err(_) => {
                self.error(
                    format!("`{}` is \"{text}\", which is not an IP address", self.key),
                    "write the literal address, such as \"192.168.1.21\": after a power cut DNS is one more thing that may not be up",
                );
                None
            }
        }
    }

    /// One of a few words.
    pub fn choice<T: Copy>(&self, words: &[(&'static str, T)]) -> Option<T> {
        let text = self.text()?;
        let found = words.iter().find(|(w, _)| *w == text);
        if found.is_none() {
            let known = || words.iter().map(|(w, _)| *w);
            let hint = match nearest(&text, known()) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => format!("write {}", either(known())),
            };
            self.error(format!("`{}` cannot be \"{text}\"", self.key), hint);
        }
        found.map(|(_, value)| *value)
    }

    /// The elements of a list; anything else is one complaint and an empty list.
    pub fn items(&self) -> Vec<Value<'a>> {
        match self.raw() {
            DeValue::Array(array) => array.iter().map(|node| Value { node, ..*self }).collect(),
            _ => {
                self.mismatch::<()>("a list", "write it in brackets: [\"one\", \"two\"]");
                Vec::new()
            }
        }
    }

    /// A list of strings.
    pub fn texts(&self) -> Vec<String> {
        self.items().iter().filter_map(|v| v.text()).map(Cow::into_owned).collect()
    }

    /// A list of absolute paths.
    pub fn paths(&self) -> Vec<PathBuf> {
        self.items().iter().filter_map(Value::path).collect()
    }

    /// A list of absolute paths whose last parts may hold a `*`.
    pub fn paths_of_any_name(&self) -> Vec<PathBuf> {
        let paths = self.paths();
        let starred = |p: &PathBuf| {
            p.parent().is_some_and(|folder| folder.as_os_str().as_encoded_bytes().contains(&b'*'))
        };
        if let Some(path) = paths.iter().find(|p| starred(p)) {
            self.error(
                format!("`{}` has a `*` in the folder of {}", self.key, path.display()),
                "a `*` may stand in the file's name only",
            );
        }
        paths
    }

    /// A table, called `name` in messages.
    pub fn table(&self, name: impl Into<Cow<'a, str>>) -> Option<Fields<'a>> {
        match self.raw() {
            DeValue::Table(table) => Some(Fields::new(self.reader, table, self.key_span, name)),
            _ => self.mismatch("a table", "write it in braces: { key = value }"),
        }
    }
}

/// What a value is, for a person.
fn type_name(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
