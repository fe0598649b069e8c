//! The block syntax of keepalived.conf: words, quotes, comments, `{` and `}`. Tolerant: whatever it is given, it gives
//! back what it understood, and says where it did not.
//!
//! Includes are not followed. Nothing here recurses: a file may nest as deep as it likes, up to a limit.

use super::Finding;

/// The largest file that is read, in bytes: hand-written ones have some kilobytes.
pub const MAX_FILE: usize = 1 << 20;
/// The deepest nesting that keepalived knows is 4; deeper blocks are passed over.
const MAX_DEPTH: usize = 16;
/// The most statements of one file.
const MAX_STATEMENTS: usize = 100_000;

/// A line's words, and the block behind them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Statement {
    /// Never empty.
    pub words: Vec<String>,
    pub line: u32,
    pub block: Option<Vec<Statement>>,
}

impl Statement {
    pub fn key(&self) -> &str {
        self.words.first().map_or("", String::as_str)
    }
    /// The word after the key.
    pub fn value(&self) -> Option<&str> {
        self.words.get(1).map(String::as_str)
    }
    pub fn inside(&self) -> &[Statement] {
        self.block.as_deref().unwrap_or_default()
    }
}

/// Reads a whole file; what is not understood goes to `findings`.
pub fn parse(file: &str, text: &str, findings: &mut Vec<Finding>) -> Vec<Statement> {
    // The open blocks, outermost first; the statement that opened each waits as the last of the one before.
    let mut open: Vec<Vec<Statement>> = vec![Vec::new()];
    let (mut too_deep, mut count) = (0usize, 0usize);
    let mut opened_at: Vec<u32> = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let mut words: Vec<String> = Vec::new();
        for token in tokens(line) {
            match token {
                Token::Word(word) => words.push(word),
                Token::Open => {
                    flush(&mut open, &mut words, number, too_deep, &mut count);
                    if open.len() > MAX_DEPTH || too_deep > 0 {
                        too_deep += 1;
                        continue;
                    }
                    let top = open.last_mut();
                    if let Some(inner) = top
                        && inner.last().is_none_or(|s| s.block.is_some())
                    {
                        // A block without a name: kept, so that the braces pair up.
                        inner.push(Statement { words: vec!["{".into()], line: number, block: None });
                    }
                    opened_at.push(number);
                    open.push(Vec::new());
                }
                Token::Close => {
                    flush(&mut open, &mut words, number, too_deep, &mut count);
                    if too_deep > 0 {
                        too_deep -= 1;
                    } else if open.len() > 1 {
                        close(&mut open);
                        opened_at.pop();
                    } else {
                        findings.push(Finding::error(
                            file,
                            number,
                            "a `}` closes nothing",
                            "take it out, or look for a missing `{` above",
                        ));
                    }
                }
            }
        }
        flush(&mut open, &mut words, number, too_deep, &mut count);
        if count > MAX_STATEMENTS {
            let words = format!("more than {MAX_STATEMENTS} statements: the rest is passed over");
            findings.push(Finding::error(file, number, words, "split the file"));
            break;
        }
    }
    if let Some(at) = opened_at.last() {
        findings.push(Finding::error(
            file,
            *at,
            "this block is never closed: keepalived reads what follows as a part of it",
            "write `}` where it ends",
        ));
    }
    while open.len() > 1 {
        close(&mut open);
    }
    open.pop().unwrap_or_default()
}

fn flush(
    open: &mut [Vec<Statement>],
    words: &mut Vec<String>,
    line: u32,
    too_deep: usize,
    count: &mut usize,
) {
    let words = std::mem::take(words);
    if words.is_empty() || too_deep > 0 {
        return;
    }
    *count += 1;
    if let Some(top) = open.last_mut() {
        top.push(Statement { words, line, block: None });
    }
}

/// Gives the innermost block to the statement that opened it.
fn close(open: &mut Vec<Vec<Statement>>) {
    let inner = open.pop().unwrap_or_default();
    if let Some(opener) = open.last_mut().and_then(|outer| outer.last_mut()) {
        opener.block.get_or_insert_default().extend(inner);
    }
}

enum Token {
    Word(String),
    Open,
    Close,
}

/// The tokens of a line, up to its comment (`#` or `!`).
fn tokens(line: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' | '\'' => {
                let inner = word.get_or_insert_default();
                for q in chars.by_ref() {
                    if q == c {
                        break;
                    }
                    inner.push(q);
                }
            }
            '#' | '!' => break,
            '{' | '}' => {
                tokens.extend(word.take().map(Token::Word));
                tokens.push(if c == '{' { Token::Open } else { Token::Close });
            }
            c if c.is_whitespace() => tokens.extend(word.take().map(Token::Word)),
            c => word.get_or_insert_default().push(c),
        }
    }
    tokens.extend(word.map(Token::Word));
    tokens
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(all: &[Statement]) -> String {
        let mut out = String::new();
        for one in all {
            out.push_str(&one.words.join(" "));
            if let Some(block) = &one.block {
                out.push_str(&format!("{{{}}}", shape(block)));
            }
            out.push(';');
        }
        out
    }

    #[test]
    fn blocks_words_quotes_and_comments() {
        for (text, expected, complaints) in [
            ("a b { c d\n e }\n", "a b{c d;e;};", 0),
            ("a\n{\nb \"c # d\" ! no\n}\nf", "a{b c # d;};f;", 0),
            ("unicast_peer { 10.0.0.2 }", "unicast_peer{10.0.0.2;};", 0),
            ("a {", "a{};", 1),
            ("} a", "a;", 1),
            ("{ a }", "{{a;};", 0),
            ("a \"unclosed", "a unclosed;", 0),
            ("", "", 0),
        ] {
            let mut findings = Vec::new();
            assert_eq!(shape(&parse("f", text, &mut findings)), expected, "{text}");
            assert_eq!(findings.len(), complaints, "{text}: {findings:?}");
        }
    }

    #[test]
    fn depth_is_no_danger() {
        let deep = "a {".repeat(200_000);
        let shut = "}".repeat(200_000);
        let mut findings = Vec::new();
        parse("f", &(deep.clone() + &shut), &mut findings);
        assert!(findings.is_empty(), "{findings:?}");
        parse("f", &deep, &mut findings);
        assert_eq!(findings.len(), 1);
    }
}
