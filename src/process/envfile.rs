//! Environment files: what systemd's `EnvironmentFile=` reads, see systemd.exec(5).
//!
//! Lines of `NAME=value`; blank lines and those that begin with `#` or `;` say nothing. A value may be quoted, in
//! whole or in part: within `'…'` every character is itself, within `"…"` a backslash takes the meaning from `"`,
//! `\`, `$` and a backquote. Outside quotes a backslash takes it from any character. A backslash at the end of a line
//! (but within `'…'`) continues it, and quotes may hold line ends. Nothing is expanded. Unlike systemd, which skips
//! what it does not understand, a file with a mistake is refused.
//!
//! Values are secrets: no error shows one.

use std::fs::File;
use std::io::{self, Read};
use std::iter::Peekable;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::str::Chars;

/// The most that is read of a file, in bytes: more than the kernel would take as an environment by default.
const MAX_FILE: u64 = 256 << 10;

/// Reads a file of variables, in their order. The error names the line, and never a value.
pub(super) fn read(path: &Path) -> io::Result<Vec<(String, String)>> {
    // Without O_NONBLOCK a FIFO would hold the agent until somebody writes to it.
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE {
        let text = format!("it is larger than {} KiB", MAX_FILE >> 10);
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    parse(&bytes)
        .map_err(|(line, text)| io::Error::new(io::ErrorKind::InvalidData, format!("line {line}: {text}")))
}

/// A line number and what is wrong there.
type Mistake = (usize, &'static str);

fn parse(bytes: &[u8]) -> Result<Vec<(String, String)>, Mistake> {
    let line_at = |at: usize| 1 + bytes[..at].iter().filter(|b| **b == b'\n').count();
    let text = str::from_utf8(bytes).map_err(|e| (line_at(e.valid_up_to()), "it is not UTF-8"))?;
    if let Some(at) = text.find('\0') {
        return Err((line_at(at), "it holds a zero byte"));
    }
    let mut reader = Text { rest: text.chars().peekable(), line: 1 };
    let mut variables = Vec::new();
    while let Some(variable) = reader.variable()? {
        variables.push(variable);
    }
    Ok(variables)
}

/// The text that is still to be read, and the line that it is in.
struct Text<'a> {
    rest: Peekable<Chars<'a>>,
    line: usize,
}

impl Text<'_> {
    fn next(&mut self) -> Option<char> {
        let next = self.rest.next();
        self.line += usize::from(next == Some('\n'));
        next
    }

    /// Skips blank lines and comments.
    fn skip_silence(&mut self) {
        while let Some(next) = self.rest.peek() {
            match next {
                '#' | ';' => while self.next().is_some_and(|c| c != '\n') {},
                c if c.is_ascii_whitespace() => drop(self.next()),
                _ => return,
            }
        }
    }

    fn variable(&mut self) -> Result<Option<(String, String)>, Mistake> {
        self.skip_silence();
        if self.rest.peek().is_none() {
            return Ok(None);
        }
        let line = self.line;
        let mut name = String::new();
        loop {
            match self.next() {
                Some('=') => break,
                None | Some('\n') => return Err((line, "there is no `=` in it")),
                Some(c) => name.push(c),
            }
        }
        let name = name.trim_end();
        if !is_name(name) {
            return Err((line, "what stands before the `=` cannot be the name of a variable"));
        }
        Ok(Some((name.to_owned(), self.value()?)))
    }

    fn value(&mut self) -> Result<String, Mistake> {
        while self.rest.peek().is_some_and(|c| matches!(c, ' ' | '\t' | '\r')) {
            self.next();
        }
        let mut value = String::new();
        // Blanks at the end are left out, but for quoted and escaped ones.
        let mut kept = 0;
        loop {
            let line = self.line;
            match self.next() {
                None | Some('\n') => break,
                Some('\'') => {
                    self.quoted('\'', line, &mut value)?;
                    kept = value.len();
                }
                Some('"') => {
                    self.quoted('"', line, &mut value)?;
                    kept = value.len();
                }
                Some('\\') => {
                    value.extend(self.next().filter(|c| *c != '\n'));
                    kept = value.len();
                }
                Some(c) => {
                    value.push(c);
                    if !c.is_ascii_whitespace() {
                        kept = value.len();
                    }
                }
            }
        }
        value.truncate(kept);
        Ok(value)
    }

    fn quoted(&mut self, quote: char, line: usize, value: &mut String) -> Result<(), Mistake> {
        loop {
            match self.next() {
                None => return Err((line, "a quote is opened and not closed")),
                Some(c) if c == quote => return Ok(()),
                Some('\\') if quote == '"' => match self.next() {
                    None => return Err((line, "a quote is opened and not closed")),
                    Some('\n') => {}
                    Some(c @ ('"' | '\\' | '$' | '`')) => value.push(c),
                    Some(c) => value.extend(['\\', c]),
                },
                Some(c) => value.push(c),
            }
        }
    }
}

fn is_name(name: &str) -> bool {
    !name.starts_with(|c: char| c.is_ascii_digit())
        && !name.is_empty()
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<(String, String)>, Mistake> {
        parse(text.as_bytes())
    }

    #[test]
    fn values_are_read_as_systemd_reads_them() {
        for (text, value) in [
            ("A=plain", "plain"),
            ("A=", ""),
            ("  A = b c  ", "b c"),
            ("A=b # no comment", "b # no comment"),
            ("A=it's'' ok'", "its ok"),
            ("A=\"b  \"  ", "b  "),
            ("A='$HOME \\n \"'", "$HOME \\n \""),
            (r#"A="\"\\\$\`\n""#, "\"\\$`\\n"),
            ("A=$HOME", "$HOME"),
            (r"A=a\ b\'c\\", r"a b'c\"),
            ("A=one \\\ntwo", "one two"),
            ("A=\"one\ntwo\"", "one\ntwo"),
            ("A=\"one \\\ntwo\"", "one two"),
            ("A=b=c", "b=c"),
            ("A=b\r\n", "b"),
            ("A=end\\", "end"),
            ("A=ö", "ö"),
        ] {
            assert_eq!(read(text).as_deref(), Ok(&[("A".to_owned(), value.to_owned())][..]), "{text:?}");
        }
    }

    #[test]
    fn comments_and_blank_lines_say_nothing() {
        let text = "\n# A=1\n  ; B=2\n\n_C9=3\n#\n#\nD=4\n# the end";
        let found = read(text).unwrap();
        assert_eq!(found, [("_C9".into(), "3".into()), ("D".into(), "4".into())]);
        assert_eq!(read("").unwrap(), []);
        assert_eq!(read(&"# c\n".repeat(50_000)).unwrap(), [], "and take no stack");
    }

    #[test]
    fn a_mistake_names_its_line() {
        for (text, line) in [
            ("A=1\nsecret", 2),
            ("A=1\n\nexport B=secret", 3),
            ("1A=secret", 1),
            ("=secret", 1),
            ("A=1\nB='secret\nC=2\n", 2),
            ("A=\"secret\\", 1),
            ("A=\"x\ny\"\nB C=secret", 3),
            ("A=1\nB=\0", 2),
        ] {
            let (at, told) = read(text).unwrap_err();
            assert_eq!(at, line, "{text:?}");
            assert!(!told.contains("secret"), "{told}");
        }
        assert_eq!(parse(b"A=1\nB=\xff").unwrap_err().0, 2);
    }
}
