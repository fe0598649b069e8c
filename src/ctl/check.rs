//! `check`: is the cluster file good? Offline.

use super::text::{WARN, paint, plural};
use super::{Exit, Global};
use crate::director::import::{Finding, Severity};
use crate::{broker, director, model};
use std::path::PathBuf;

// `clusterctl check`
#[derive(Debug, clap::Args)]
pub struct CheckArgs {
    /// Fail on warnings too
    #[arg(long)]
    pub strict: bool,
    /// Judge these keepalived.conf files, too: those of all directors, side by side
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub keepalived: Vec<PathBuf>,
    /// Judge these activemq.xml files, too: those of all brokers that share a store, side by side
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub activemq: Vec<PathBuf>,
}

pub fn run(args: CheckArgs, global: &Global) -> anyhow::Result<Exit> {
    let cluster = match super::load(global) {
        Ok(cluster) => cluster,
        Err(refused) if global.json => {
            let errors: Vec<_> = refused.list.iter().map(error).collect();
            super::print_json(&serde_json::json!({ "ok": false, "errors": errors, "more": refused.more }))?;
            return Ok(Exit::Configuration);
        }
        Err(refused) => return Err(refused.into()),
    };
    let keepalived = director::import::read(&super::import::texts(&args.keepalived)?).findings;
    let activemq = broker::judge(&super::import::texts(&args.activemq)?);
    let verdict = Verdict::of(&cluster, &[&keepalived[..], &activemq].concat(), args.strict);
    if global.json {
        let mut answer = serde_json::json!({ "ok": verdict.exit == Exit::Done, "hash": cluster.hash, "warnings": cluster.warnings });
        if !args.keepalived.is_empty() {
            answer["keepalived"] = serde_json::json!(keepalived);
        }
        if !args.activemq.is_empty() {
            answer["activemq"] = serde_json::json!(activemq);
        }
        super::print_json(&answer)?;
    } else {
        for warning in &cluster.warnings {
            anstream::eprintln!("{} {}", paint(WARN, "warning:"), warning.trim_end());
        }
        super::import::tell(&keepalived);
        super::import::tell(&activemq);
        super::print(&format!("{}: {}\n", verdict.text, summary(&cluster)))?;
    }
    Ok(verdict.exit)
}

/// What comes of a cluster file that is good, and of what was judged beside it.
struct Verdict {
    /// `ok`, or `2 errors beside a good cluster file`
    text: String,
    exit: Exit,
}

impl Verdict {
    fn of(cluster: &model::Cluster, findings: &[Finding], strict: bool) -> Verdict {
        let errors = findings.iter().filter(|f| f.severity == Severity::Error).count();
        let warnings = findings.len() - errors + cluster.warnings.len();
        let exit = match (errors, warnings) {
            (0, 0) => Exit::Done,
            _ if strict => Exit::Configuration,
            (0, _) => Exit::Done,
            _ => Exit::Incomplete,
        };
        let text = match (errors, exit) {
            (_, Exit::Done) => "ok".to_owned(),
            (0, _) => format!("not ok, {} under --strict", plural(warnings, "warning")),
            _ => format!("not ok, {} beside a good cluster file", plural(errors, "error")),
        };
        Verdict { text, exit }
    }
}

fn error(diagnostic: &model::Diagnostic) -> serde_json::Value {
    let place = &diagnostic.place;
    serde_json::json!({
        "message": diagnostic.message,
        "file": place.file,
        "line": place.line,
        "column": place.column,
        "hint": diagnostic.hint,
    })
}

/// `, 2 things outside`
fn outside(cluster: &model::Cluster) -> String {
    match cluster.outside.instances.len() {
        0 => String::new(),
        1 => ", 1 thing outside".into(),
        n => format!(", {n} things outside"),
    }
}

/// `14 nodes, 9 services, 16 instances, 7 needs (configuration 3f2a91bc)`
fn summary(cluster: &model::Cluster) -> String {
    let needs = cluster.services.iter().map(|s| s.needs.len()).sum();
    format!(
        "{}, {}, {}, {} (configuration {})",
        plural(cluster.nodes.len(), "node"),
        plural(cluster.services.len() - cluster.outside.instances.len(), "service"),
        plural(cluster.own_count(), "instance"),
        format_args!("{}{}", plural(needs, "need"), outside(cluster)),
        cluster.hash.get(..8).unwrap_or(&cluster.hash)
    )
}
