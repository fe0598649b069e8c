//! `import`: hand-written files of others, read, judged, and told as a part of cluster.toml. Changes nothing.

use super::text::{WARN, paint};
use super::{Exit, Global, hint};
use crate::director::import::{Finding, Import, MAX_FILE, Severity, propose, read};
use anyhow::Context;
use clap::Subcommand;
use std::io::Read;
use std::path::PathBuf;

// `clusterctl import`
#[derive(Debug, clap::Args)]
pub struct ImportArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// keepalived.conf of all directors of an address: prints a `[vips]` table, and what is wrong with the files
    Keepalived {
        /// One file for each director
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
}

pub fn run(args: ImportArgs, global: &Global) -> anyhow::Result<Exit> {
    let What::Keepalived { files } = args.what;
    let import = judged(&files)?;
    // For the names of nodes and services, where there is a cluster file already.
    let cluster = super::load(global).ok();
    let table = propose(&import, cluster.as_ref());
    if global.json {
        super::print_json(&serde_json::json!({ "findings": import.findings, "proposal": table }))?;
    } else {
        tell(&import.findings);
        super::print(&table)?;
        if files.len() == 1 {
            hint("name the files of all directors: most mistakes show only side by side");
        }
    }
    Ok(exit(&import.findings))
}

/// Reads and judges files.
fn judged(files: &[PathBuf]) -> anyhow::Result<Import> {
    Ok(read(&texts(files)?))
}

/// The files of others, each with its name.
pub fn texts(files: &[PathBuf]) -> anyhow::Result<Vec<(String, Vec<u8>)>> {
    let mut texts = Vec::with_capacity(files.len());
    for path in files {
        let cannot = || format!("cannot read {}", path.display());
        // Looked at first: opening a FIFO would wait for ever.
        let is_file = std::fs::metadata(path).with_context(cannot)?.is_file();
        anyhow::ensure!(is_file, "{} is not a regular file", path.display());
        let mut bytes = Vec::new();
        let file = std::fs::File::open(path).with_context(cannot)?;
        file.take(MAX_FILE as u64 + 1).read_to_end(&mut bytes).with_context(cannot)?;
        anyhow::ensure!(bytes.len() <= MAX_FILE, "{} is larger than 1 MiB", path.display());
        texts.push((path.display().to_string(), bytes));
    }
    Ok(texts)
}

/// Prints findings, to standard error.
pub fn tell(findings: &[Finding]) {
    for one in findings {
        let word = match one.severity {
            Severity::Error => paint(super::ERROR, "error:"),
            Severity::Warning => paint(WARN, "warning:"),
        };
        anstream::eprintln!("{word} {}:{}: {}", one.file, one.line, one.message);
        anstream::eprintln!("  hint: {}", one.hint);
    }
}

/// 3 where something is wrong.
pub fn exit(findings: &[Finding]) -> Exit {
    let wrong = findings.iter().any(|f| f.severity == Severity::Error);
    if wrong { Exit::Incomplete } else { Exit::Done }
}
