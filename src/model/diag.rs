//! Diagnostics: everything that is wrong with a configuration, at once, each with its place and what to write
//! instead.

use super::source::Source;
use std::cell::RefCell;
use std::collections::HashSet;
use std::fmt;
use unicode_width::UnicodeWidthStr;

/// How many errors are kept; the rest is only counted. Nobody reads further, and a generated file of ten
/// thousand services can be wrong ten thousand times.
pub const MAX_SHOWN: usize = 100;
/// How much of a source line is shown, in columns. A one-line file must not fill the screen.
const MAX_LINE: usize = 110;

/// Every error of a refused configuration, sorted by file and position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostics {
    /// At most [`MAX_SHOWN`].
    pub list: Vec<Diagnostic>,
    /// How many more there are.
    pub more: usize,
}

/// One error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// What is wrong, as a sentence without a final stop.
    pub message: String,
    pub place: Place,
    /// Other places that take part, each with a few words.
    pub notes: Vec<(Place, String)>,
    /// What to write instead.
    pub hint: Option<String>,
}

/// A place in a file, with the line as it stands there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub file: String,
    /// Counted from 1; 0 is the file as a whole.
    pub line: u32,
    /// In characters, counted from 1.
    pub column: u32,
    /// The source line, without its end.
    text: String,
    /// How many characters of it are meant.
    width: u32,
}

impl std::error::Error for Diagnostics {}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, diagnostic) in self.list.iter().enumerate() {
            if i > 0 {
                writeln!(f)?;
            }
            write!(f, "{diagnostic}")?;
        }
        if self.more > 0 {
            writeln!(f, "\nand {} more errors", self.more)?;
        }
        Ok(())
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "error: {}", self.message)?;
        self.place.render(f, "")?;
        for (place, words) in &self.notes {
            place.render(f, words)?;
        }
        match &self.hint {
            Some(hint) => writeln!(f, "  hint: {hint}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Place {
    /// `cluster.toml:12:9`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(&self.file),
            line => write!(f, "{}:{line}:{}", self.file, self.column),
        }
    }
}

impl Place {
    /// A file as a whole: it could not be read.
    pub(super) fn file(name: &str) -> Place {
        Place { file: name.to_string(), line: 0, column: 0, text: String::new(), width: 0 }
    }

    fn of(source: &Source, start: usize, end: usize) -> Place {
        let text = &source.text;
        let start = floor_char(text, start);
        let end = floor_char(text, end).max(start);
        let from = text[..start].rfind('\n').map_or(0, |i| i + 1);
        let to = text[start..].find('\n').map_or(text.len(), |i| start + i);
        let line = text.as_bytes()[..from].iter().filter(|b| **b == b'\n').count() + 1;
        Place {
            file: source.path.clone(),
            line: line as u32,
            column: text[from..start].chars().count() as u32 + 1,
            text: hide_secrets(text[from..to].trim_end_matches('\r')),
            width: text[start..end.min(to)].chars().count().max(1) as u32,
        }
    }

    /// The arrow, the line and the caret.
    fn render(&self, f: &mut fmt::Formatter<'_>, words: &str) -> fmt::Result {
        let gap = if words.is_empty() { "" } else { "  " };
        writeln!(f, "  --> {self}{gap}{words}")?;
        if self.line == 0 {
            return Ok(());
        }
        let chars: Vec<char> = self.text.chars().map(printable).collect();
        let start = (self.column as usize - 1).min(chars.len());
        let end = (start + self.width as usize).min(chars.len());
        // A window around the caret, for lines that are longer than a screen.
        let first = if chars.len() <= MAX_LINE { 0 } else { start.saturating_sub(MAX_LINE / 3) };
        let last = chars.len().min(first + MAX_LINE);
        let head = if first > 0 { "…" } else { "" };
        let tail = if last < chars.len() { "…" } else { "" };
        let shown: String = chars[first..last].iter().collect();
        let before: String = chars[first..start].iter().collect();
        let marked: String = chars[start..end.clamp(start, last.max(start))].iter().collect();
        let number = self.line.to_string();
        writeln!(f, "  {number} | {head}{shown}{tail}")?;
        writeln!(
            f,
            "  {:gutter$} | {:indent$}{}",
            "",
            "",
            "^".repeat(marked.width().max(1)),
            gutter = number.len(),
            indent = head.width() + before.width()
        )
    }
}

/// Keys whose values are not shown, in any case.
const SECRETS: [&str; 4] = ["password", "passwd", "secret", "token"];

/// Whether a key names a secret itself, not the file that holds it.
pub(super) fn is_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    SECRETS.iter().any(|word| key.contains(word)) && !key.ends_with("_file")
}

/// Whether a secret may stand behind a key: also behind one that is not spelt as it should be.
fn may_be_secret(key: &str) -> bool {
    let lower = key.to_ascii_lowercase();
    is_secret(key)
        || (["pass", "pasw", "pwd"].iter().any(|word| lower.contains(word)) && !lower.ends_with("_file"))
}

/// The line with what stands behind secret keys starred out, each letter by one star: columns stay. An error is
/// logged, mailed and pasted; a password that should not be in the file must not travel with it.
fn hide_secrets(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(equals) = rest.find('=') {
        let (head, tail) = rest.split_at(equals + 1);
        out.push_str(head);
        rest = tail;
        let key = head.trim_end_matches(['=', ' ', '"']);
        let key = key.rsplit(|c: char| !c.is_alphanumeric() && c != '_' && c != '-').next().unwrap_or("");
        let gap = tail.len() - tail.trim_start().len();
        let quote = tail.trim_start().chars().next().filter(|c| *c == '"' || *c == '\'');
        if may_be_secret(key) {
            // Without quotes it is no TOML, and no less a secret.
            let begin = gap + usize::from(quote.is_some());
            let inner = &tail[begin..];
            let ends = |c: char| quote.map_or(c.is_whitespace() || ",}]".contains(c), |quote| c == quote);
            let end = inner.find(ends).unwrap_or(inner.len());
            out.push_str(&tail[..begin]);
            out.extend(inner[..end].chars().map(|_| '*'));
            rest = &inner[end..];
        }
    }
    out.push_str(rest);
    out
}

/// Control characters would move the cursor; tabs would shift the caret.
fn printable(c: char) -> char {
    if c == '\t' {
        ' '
    } else if c.is_control() {
        '\u{fffd}'
    } else {
        c
    }
}

/// The last character boundary at or before `at`.
fn floor_char(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// A byte range of one of the files that a [`Log`] knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Span {
    pub file: u32,
    pub start: u32,
    pub end: u32,
}

impl Span {
    pub fn new(file: u32, range: std::ops::Range<usize>) -> Span {
        // Files are at most 64 MiB, so a position fits.
        Span { file, start: range.start as u32, end: range.end as u32 }
    }
}

/// One problem, while it is being described.
#[derive(Clone, Debug)]
#[must_use]
pub(super) struct Problem {
    pub span: Span,
    pub message: String,
    pub notes: Vec<(Span, String)>,
    pub hint: Option<String>,
}

impl Problem {
    pub fn new(span: Span, message: impl Into<String>) -> Problem {
        Problem { span, message: message.into(), notes: Vec::new(), hint: None }
    }
    pub fn hint(mut self, hint: impl Into<String>) -> Problem {
        self.hint = Some(hint.into());
        self
    }
    pub fn note(mut self, span: Span, words: impl Into<String>) -> Problem {
        self.notes.push((span, words.into()));
        self
    }
}

/// Where the readers put what they find. Shared by reference, so that a value can complain by itself.
#[derive(Default)]
pub(super) struct Log {
    errors: RefCell<Vec<Problem>>,
    warnings: RefCell<Vec<Problem>>,
    /// One unit is filled in for many instances; the same complaint is kept once.
    seen: RefCell<HashSet<(Span, String)>>,
}

impl Log {
    pub fn error(&self, problem: Problem) {
        if self.seen.borrow_mut().insert((problem.span, problem.message.clone())) {
            self.errors.borrow_mut().push(problem);
        }
    }
    pub fn warn(&self, problem: Problem) {
        if self.seen.borrow_mut().insert((problem.span, problem.message.clone())) {
            self.warnings.borrow_mut().push(problem);
        }
    }
    /// How many errors there are by now.
    pub fn count(&self) -> usize {
        self.errors.borrow().len()
    }

    /// Sorted and with lines and columns; or, with no error, the warnings, one a line.
    pub fn finish(self, files: &[&Source]) -> Result<Vec<String>, Diagnostics> {
        let locate = |s: Span| Place::of(files[s.file as usize], s.start as usize, s.end as usize);
        let mut errors = self.errors.into_inner();
        if errors.is_empty() {
            let mut warnings = self.warnings.into_inner();
            warnings.sort_by_key(|w| w.span);
            return Ok(warnings
                .into_iter()
                .take(MAX_SHOWN)
                .map(|w| match w.hint {
                    Some(hint) => format!("{}: {}; {hint}", locate(w.span), w.message),
                    None => format!("{}: {}", locate(w.span), w.message),
                })
                .collect());
        }
        errors.sort_by(|a, b| (a.span, &a.message).cmp(&(b.span, &b.message)));
        let more = errors.len().saturating_sub(MAX_SHOWN);
        errors.truncate(MAX_SHOWN);
        let list = errors
            .into_iter()
            .map(|e| Diagnostic {
                message: e.message,
                place: locate(e.span),
                notes: e.notes.into_iter().map(|(s, words)| (locate(s), words)).collect(),
                hint: e.hint,
            })
            .collect();
        Err(Diagnostics { list, more })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_starred_out_and_columns_stay() {
        for (line, shown) in [
            (r#"password = "hunter2", port = 1"#, r#"password = "*******", port = 1"#),
            (r#"a = "b", DB_PASSWORD='é x'"#, r#"a = "b", DB_PASSWORD='***'"#),
            (r#"token = "open"#, r#"token = "****"#),
            ("password = hunter2, port = 1 }", "password = *******, port = 1 }"),
            (r#"pasword_env = "hunter2""#, r#"pasword_env = "*******""#),
            ("db_pwd=hunter2", "db_pwd=*******"),
            (r#"password_file = "/etc/x""#, r#"password_file = "/etc/x""#),
            (r#"on = "password""#, r#"on = "password""#),
            ("= = =", "= = ="),
        ] {
            assert_eq!(hide_secrets(line), shown);
        }
    }

    #[test]
    fn a_long_line_is_shown_around_the_caret() {
        let text = format!("{}\tX{}", "ä".repeat(500), "b".repeat(500));
        let source = Source { path: "f".into(), text: text.clone() };
        let at = text.find('X').unwrap();
        let place = Place::of(&source, at, at + 1);
        assert_eq!((place.line, place.column), (1, 502));
        let problem = Diagnostic { message: "m".into(), place, notes: vec![], hint: None };
        let shown = problem.to_string();
        let lines: Vec<&str> = shown.lines().collect();
        assert!(lines[2].chars().count() < MAX_LINE + 10, "{shown}");
        let caret = lines[3].chars().position(|c| c == '^').unwrap();
        assert_eq!(lines[2].chars().nth(caret), Some('X'), "{shown}");
    }
}
