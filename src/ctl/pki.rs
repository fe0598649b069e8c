//! `pki`: the cluster's own CA, on the machine of whoever runs the cluster. Asks no agent.

mod invite;
mod passphrase;
mod rotate;

use super::text::{DIM, Look, Row, paint, plural, table};
use super::{Exit, Global, Misuse, hint};
use crate::model::Cluster;
use crate::pki::{Ca, CaError, Certificate, Role, Validity, Who, now};
use anstyle::{AnsiColor, Style};
use clap::{Subcommand, ValueEnum};
use std::path::{Path, PathBuf};
use std::time::Duration;

// `clusterctl pki`
#[derive(Debug, clap::Args)]
pub struct PkiArgs {
    /// The CA's folder [default: `pki` beside the cluster file]
    #[arg(long, value_name = "DIR", global = true)]
    ca: Option<PathBuf>,
    #[command(flatten)]
    passphrase: passphrase::Source,
    #[command(subcommand)]
    verb: PkiVerb,
}

#[derive(Debug, Subcommand)]
enum PkiVerb {
    /// Make the CA of the cluster that the cluster file names
    Init {
        /// Keep its key encrypted with a passphrase, which is asked for (or is where --passphrase-file or
        /// --passphrase-credential says)
        #[arg(long)]
        passphrase: bool,
    },
    /// Give the CA's key a passphrase, another one, or none
    Passphrase {
        /// None
        #[arg(long, conflicts_with = "new_passphrase_file")]
        remove: bool,
        /// The new one is the first line of this file, which only you can read
        #[arg(long, value_name = "FILE")]
        new_passphrase_file: Option<PathBuf>,
    },
    /// Write a file for each node that has no certificate yet; `clusterd join FILE` takes it in there
    Bundle {
        /// Where the files go
        #[arg(long, value_name = "DIR", default_value = ".")]
        out: PathBuf,
    },
    /// Make a new certificate for one node
    Issue {
        node: String,
        /// Where the file goes
        #[arg(long, value_name = "DIR", default_value = ".")]
        out: PathBuf,
    },
    /// Leave a new certificate for one node with a running agent, and print the one-time token that `clusterd join
    /// --token` there takes it with
    Invite {
        node: String,
        /// For how long the token is good, at most 24h
        #[arg(long = "for", value_name = "TIME", value_parser = invite::open_for, default_value = "1h")]
        open_for: Duration,
        /// Why; it stands on the trail
        #[arg(long, default_value = "", hide_default_value = true, value_name = "TEXT")]
        reason: String,
    },
    /// Make a certificate for a person, to ask agents over the network
    Operator {
        name: String,
        /// What they may do: see; start and stop too; force too
        #[arg(long, value_enum)]
        role: RoleWord,
        /// Where the file goes
        #[arg(long, value_name = "DIR", default_value = ".")]
        out: PathBuf,
    },
    /// Give the cluster a new CA, in steps: say it again after each, and it does the next or says what it waits for
    Rotate {
        /// Begin; without it a rotation that is under way is carried on
        #[arg(long)]
        begin: bool,
        /// Where the files go
        #[arg(long, value_name = "DIR", default_value = ".")]
        out: PathBuf,
    },
    /// Show all certificates
    Show,
    /// Take the trust in a node's or an operator's certificates back
    Revoke {
        /// Their name, or the first digits (8 at least) of one key
        name: String,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum RoleWord {
    Read,
    Operate,
    Admin,
}

impl From<RoleWord> for Role {
    fn from(word: RoleWord) -> Role {
        match word {
            RoleWord::Read => Role::Read,
            RoleWord::Operate => Role::Operate,
            RoleWord::Admin => Role::Admin,
        }
    }
}

/// How long the CA, and what it issues, say that they are valid. Nothing ends on that day: agents report it.
const CA_DAYS: u64 = 20 * 365;
const DAYS: u64 = 2 * 365;

pub fn run(args: PkiArgs, global: &Global) -> anyhow::Result<Exit> {
    let config = global.config();
    let folder = args.ca.unwrap_or_else(|| config.parent().unwrap_or(Path::new("")).join("pki"));
    let key = args.passphrase;
    match args.verb {
        PkiVerb::Init { passphrase } => {
            let cluster = super::load(global)?;
            let passphrase = key.for_new(passphrase)?;
            let ca = Ca::init(&folder, &cluster.name, Validity::days(CA_DAYS), passphrase)?;
            super::print(&format!("the CA of cluster {} is in {}\n", ca.cluster(), folder.display()))?;
            hint("keep that folder on this machine only; then: clusterctl pki bundle");
        }
        PkiVerb::Bundle { out } => {
            let (ca, cluster) = open(&folder, global)?;
            let issued = ca.issued()?;
            let of_node = |node: &str| Who::Node(node.to_owned());
            let new: Vec<&str> = (cluster.nodes.iter().map(|n| n.name.as_str()))
                .filter(|node| {
                    !issued.iter().any(|c| is_node(c, node)) || ca.half_handed_out(&of_node(node), &out)
                })
                .collect();
            let had = cluster.nodes.len() - new.len();
            if !new.is_empty() {
                let ca = key.unlock(ca)?;
                new.iter().try_for_each(|node| hand_out(&ca, of_node(node), &out))?;
            }
            if had > 0 {
                let theirs = plural(had, "node");
                hint(&format!("{theirs} had a certificate before; a new one: clusterctl pki issue NODE"));
            }
        }
        PkiVerb::Issue { node, out } => {
            let (ca, cluster) = open(&folder, global)?;
            must_have(&cluster, &node)?;
            let ca = key.unlock(ca)?;
            let before = ca.issued()?;
            hand_out(&ca, Who::Node(node.clone()), &out)?;
            hint_at_old(&before, &node);
        }
        PkiVerb::Invite { node, open_for, reason } => {
            let (ca, cluster) = open(&folder, global)?;
            must_have(&cluster, &node)?;
            let ca = key.unlock(ca)?;
            super::online(invite::run(&ca, &node, open_for, reason, global))?;
        }
        PkiVerb::Operator { name, role, out } => {
            let ca = key.unlock(open_ca(&folder)?)?;
            let who = Who::Operator { name, role: role.into() };
            hand_out(&ca, who, &out)?;
        }
        PkiVerb::Rotate { begin, out } => {
            let (ca, cluster) = open(&folder, global)?;
            let ca = rotate::under_way(ca, begin, &key)?;
            return rotate::step(ca, &cluster, &out, global);
        }
        PkiVerb::Passphrase { remove, new_passphrase_file } => {
            let ca = key.unlock(open_ca(&folder)?)?;
            passphrase::change(ca, remove, new_passphrase_file.as_deref())?;
        }
        PkiVerb::Show => show(&open_ca(&folder)?, global)?,
        PkiVerb::Revoke { name } => revoke(&open_ca(&folder)?, &name)?,
    }
    Ok(Exit::Done)
}

fn is_node(certificate: &Certificate, node: &str) -> bool {
    matches!(&certificate.name.who, Who::Node(name) if name == node)
}

fn must_have(cluster: &Cluster, node: &str) -> Result<(), Misuse> {
    if cluster.node_named(node).is_some() {
        return Ok(());
    }
    let text = format!("the cluster file has no node {node}");
    Err(Misuse { text, hint: "add it to `[nodes]` first".to_owned() })
}

/// A node that gets a new certificate has the ones before for as long as they are not revoked.
fn hint_at_old(before: &[Certificate], node: &str) {
    for old in before.iter().filter(|c| is_node(c, node)) {
        hint(&format!("once it has joined with it: clusterctl pki revoke {}", old.key.short()));
    }
}

fn open_ca(folder: &Path) -> anyhow::Result<Ca> {
    Ca::open(folder).map_err(|e| match e {
        CaError::None(_) => {
            let hint = "make it with `clusterctl pki init`, or say where it is with --ca DIR".to_owned();
            Misuse { text: e.to_string(), hint }.into()
        }
        other => other.into(),
    })
}

/// The CA, and the cluster file that belongs to it.
fn open(folder: &Path, global: &Global) -> anyhow::Result<(Ca, Cluster)> {
    let (ca, cluster) = (open_ca(folder)?, super::load(global)?);
    if ca.cluster() != cluster.name {
        let text = format!("the CA is of cluster {}, and the file is of {}", ca.cluster(), cluster.name);
        return Err(Misuse { text, hint: "say which CA with --ca DIR".to_owned() }.into());
    }
    Ok((ca, cluster))
}

/// Makes a certificate, and the file for whoever it is for. A file that is there already is left alone.
fn hand_out(ca: &Ca, who: Who, folder: &Path) -> anyhow::Result<()> {
    let next = match &who {
        Who::Ca => String::new(),
        Who::Node(node) => format!("on {node}: clusterd join {node}.pem"),
        Who::Operator { name, .. } => format!("clusterctl --identity {name}.pem"),
    };
    let path = ca.hand_out(who.clone(), Validity::days(DAYS), folder)?;
    super::print(&format!("{}  {who}  {next}\n", path.display()))?;
    Ok(())
}

fn show(ca: &Ca, global: &Global) -> anyhow::Result<()> {
    let (issued, revoked, now) = (ca.issued()?, ca.revoked()?, now());
    let all = std::iter::once((&ca.own, state(&ca.own, now)))
        .chain(issued.iter().map(|c| (c, state(c, now))))
        .chain(revoked.iter().map(|c| (c, "revoked")));
    if global.json {
        let all: Vec<_> = all
            .map(|(c, state)| {
                let Validity { from, until } = c.validity;
                serde_json::json!({
                    "name": c.name.to_string(), "key": c.key, "from": from, "until": until, "state": state
                })
            })
            .collect();
        return super::print_json(&all);
    }
    let look = Look::here();
    let rows: Vec<Row> = all
        .map(|(certificate, state)| {
            let style = match state {
                "valid" => Style::new(),
                _ => AnsiColor::Yellow.on_default(),
            };
            Row {
                cells: vec![
                    (certificate.name.who.to_string(), Style::new()),
                    (certificate.key.short(), Style::new()),
                    (state.to_owned(), style),
                ],
                tail: vec![format!(
                    "{} to {}",
                    super::text::date(certificate.validity.from),
                    super::text::date(certificate.validity.until)
                )],
            }
        })
        .collect();
    let head = format!("cluster {}", ca.cluster());
    let rows = table(&look, &["WHO", "KEY", "STATE", "DATES"], &rows, 0);
    super::print(&format!("{}\n{rows}", paint(DIM, &head)))?;
    Ok(())
}

/// What its dates say. Agents only report it.
fn state(certificate: &Certificate, now: u64) -> &'static str {
    let Validity { from, until } = certificate.validity;
    match now {
        _ if now < from => "not valid yet",
        _ if now > until => "expired",
        _ => "valid",
    }
}

fn revoke(ca: &Ca, name: &str) -> anyhow::Result<()> {
    let named = |c: &Certificate| match &c.name.who {
        Who::Ca => false,
        Who::Node(n) | Who::Operator { name: n, .. } => n == name,
    };
    let by_key = |c: &Certificate| name.len() >= 8 && c.key.to_string().starts_with(name);
    let issued = ca.issued()?;
    let meant: Vec<&Certificate> = issued.iter().filter(|c| named(c) || by_key(c)).collect();
    let mut kinds: Vec<_> = meant.iter().map(|c| matches!(c.name.who, Who::Node(_))).collect();
    kinds.dedup();
    if kinds.len() > 1 {
        let text = format!("{name} is a node and an operator");
        return Err(Misuse { text, hint: "name the key: clusterctl pki show".to_owned() }.into());
    }
    for certificate in &meant {
        ca.revoke(certificate)?;
        eprintln!("revoked: {}, key {}", certificate.name.who, certificate.key.short());
    }
    let revoked = ca.revoked()?;
    if meant.is_empty() && !revoked.iter().any(|c| named(c) || by_key(c)) {
        let text = format!("{name} has no certificate");
        return Err(Misuse { text, hint: "clusterctl pki show".to_owned() }.into());
    }
    print_revoked(ca)
}

/// The lines for the cluster file.
fn print_revoked(ca: &Ca) -> anyhow::Result<()> {
    let revoked = ca.revoked()?;
    // The whole list, so that what it takes the place of need not be looked at.
    let keys: Vec<String> = revoked.iter().map(|c| format!("  \"{}\", # {}\n", c.key, c.name.who)).collect();
    super::print(&format!("revoked = [\n{}]\n", keys.concat()))?;
    hint("write this under [cluster] in cluster.toml on every node, then: clusterctl reload");
    Ok(())
}
