//! Hand-written keepalived.conf files: read, judged side by side, and told as a `[vips]` table. Pure.

mod conf;
mod lint;
mod parse;
mod propose;

pub use parse::MAX_FILE;
pub use propose::propose;

pub(super) use conf::Instance;

use conf::Conf;
use serde::Serialize;

/// The most that is said of all files.
const MAX_FINDINGS: usize = 200;

/// One thing that is wrong, or looks so.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    pub file: String,
    /// Counted from 1.
    pub line: u32,
    pub severity: Severity,
    /// A sentence without a final stop.
    pub message: String,
    /// What to write instead.
    pub hint: String,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// One address or one store will be held by none or by several, or clients are lost.
    Error,
    /// It works until something else happens.
    Warning,
}

impl Finding {
    pub(crate) fn error(
        file: &str,
        line: u32,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> Finding {
        let (message, hint) = (message.into(), hint.into());
        Finding { file: file.to_owned(), line, severity: Severity::Error, message, hint }
    }
    pub(crate) fn warning(
        file: &str,
        line: u32,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> Finding {
        Finding { severity: Severity::Warning, ..Finding::error(file, line, message, hint) }
    }
}

/// Files that were read, and what there is to say of them.
#[derive(Clone, Debug)]
pub struct Import {
    confs: Vec<Conf>,
    /// In the order of the files and lines.
    pub findings: Vec<Finding>,
}

/// Reads and judges the files of one pair (or more) of directors; each with its name. Bytes that are no UTF-8 are read
/// as signs for that.
pub fn read(files: &[(String, Vec<u8>)]) -> Import {
    let mut findings = Vec::new();
    let confs: Vec<Conf> = files
        .iter()
        .map(|(name, bytes)| {
            let text = String::from_utf8_lossy(&bytes[..bytes.len().min(MAX_FILE)]);
            let statements = parse::parse(name, &text, &mut findings);
            conf::read(name, &statements, &mut findings)
        })
        .collect();
    lint::each(&confs, &mut findings);
    lint::across(&confs, &mut findings);
    let place = |name: &str| files.iter().position(|(file, _)| file == name);
    findings.sort_by(|a, b| (place(&a.file), a.line, a).cmp(&(place(&b.file), b.line, b)));
    findings.dedup();
    findings.truncate(MAX_FINDINGS);
    Import { confs, findings }
}

/// The instances of one file, and whether it includes others, which are not read.
pub(super) fn instances(text: &str) -> (Vec<Instance>, bool) {
    let mut findings = Vec::new(); // not asked for
    let end = (0..=text.len().min(MAX_FILE)).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    let statements = parse::parse("", &text[..end], &mut findings);
    let conf = conf::read("", &statements, &mut findings);
    (conf.instances, !conf.includes.is_empty())
}
