//! `context`: several clusters from one machine, a laptop for instance, and which of them is asked.
//!
//! They stand in `~/.config/clusterd/contexts.toml`. What flags and the environment say goes before them.

use super::text::{Look, Row, table};
use super::{Exit, Global, Misuse, hint};
use crate::pki::Bundle;
use anstyle::Style;
use anyhow::{Context as _, anyhow};
use clap::Subcommand;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The longest file that is read, in bytes.
const MAX_FILE: u64 = 1 << 20;

// `clusterctl context`
#[derive(Debug, clap::Args)]
pub struct ContextArgs {
    #[command(subcommand)]
    verb: ContextVerb,
}

#[derive(Debug, Subcommand)]
enum ContextVerb {
    /// Remember a cluster: --agent says whom to ask, --identity as whom, --config where its cluster file is
    Add {
        /// How it is called from now on [default: the cluster's name]
        name: Option<String>,
    },
    /// Ask this cluster from now on
    Use { name: String },
    /// Show the clusters that are known, and the current one
    List,
    /// Forget a cluster; its identity file stays where it is
    Remove { name: String },
}

/// One cluster, as it is asked from here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Context {
    /// The agent to ask, `HOST:PORT`.
    pub agent: String,
    /// The bundle to ask with.
    pub identity: PathBuf,
    /// The cluster's file, for what is done offline and for `--direct`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<PathBuf>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Contexts {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    current: Option<String>,
    #[serde(default)]
    contexts: BTreeMap<String, Context>,
}

/// Where they stand; `None` for who has no home.
fn file() -> Option<PathBuf> {
    super::environment("HOME").map(|home| Path::new(&home).join(".config/clusterd/contexts.toml"))
}

impl Contexts {
    fn read(path: &Path) -> anyhow::Result<Contexts> {
        let text = match fs::File::open(path) {
            // A home that is another user's has none for this one.
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) => {
                return Ok(Contexts::default());
            }
            opened => opened.and_then(|file| io::read_to_string(io::Read::take(file, MAX_FILE))),
        };
        let text = text.with_context(|| format!("cannot read {}", path.display()))?;
        toml::from_str(&text).with_context(|| format!("{} is not understood", path.display()))
    }

    /// Puts it in its place, whole.
    fn write(&self, path: &Path) -> anyhow::Result<()> {
        let cannot = || format!("cannot write {}", path.display());
        let aside = path.with_extension("toml.new");
        fs::create_dir_all(path.parent().unwrap_or(Path::new("."))).with_context(cannot)?;
        let mut file = fs::OpenOptions::new();
        let mut file =
            file.write(true).create(true).truncate(true).mode(0o600).open(&aside).with_context(cannot)?;
        file.write_all(toml::to_string(self)?.as_bytes())
            .and_then(|()| file.sync_all())
            .with_context(cannot)?;
        fs::rename(&aside, path).with_context(cannot)
    }

    fn named(&self, name: &str) -> Result<&Context, Misuse> {
        self.contexts.get(name).ok_or_else(|| Misuse {
            text: format!("there is no context {name}"),
            hint: "clusterctl context list".to_owned(),
        })
    }
}

/// The context that is in force: the named one, else the environment's, else the current one.
///
/// # Errors
/// When there is no such context, or the file is not understood.
pub fn in_force(named: Option<&str>) -> anyhow::Result<Option<Context>> {
    let known = file().map_or(Ok(Contexts::default()), |path| Contexts::read(&path))?;
    let environment =
        super::environment("CLUSTERCTL_CONTEXT").map(|name| name.to_string_lossy().into_owned());
    match named.or(environment.as_deref()).or(known.current.as_deref()) {
        Some(name) => Ok(Some(known.named(name)?.clone())),
        None => Ok(None),
    }
}

pub fn run(args: ContextArgs, global: &Global) -> anyhow::Result<Exit> {
    let path = file().ok_or_else(|| anyhow!("contexts are kept below $HOME, which is not set"))?;
    let mut known = Contexts::read(&path)?;
    match args.verb {
        ContextVerb::Add { name } => {
            let name = add(&mut known, name, global)?;
            known.write(&path)?;
            hint(&match known.current.as_deref() {
                Some(current) if current == name => "clusterctl status".to_owned(),
                _ => format!("clusterctl context use {name}; or once: clusterctl --context {name} status"),
            });
        }
        ContextVerb::Use { name } => {
            let agent = known.named(&name)?.agent.clone();
            known.current = Some(name.clone());
            known.write(&path)?;
            super::print(&format!("{name}, by the agent at {agent}, is asked from now on\n"))?;
        }
        ContextVerb::List => list(&known, global)?,
        ContextVerb::Remove { name } => {
            known.named(&name)?;
            known.contexts.remove(&name);
            known.current.take_if(|current| *current == name);
            known.write(&path)?;
        }
    }
    Ok(Exit::Done)
}

/// Takes one in; the first one is the current one.
fn add(known: &mut Contexts, name: Option<String>, global: &Global) -> anyhow::Result<String> {
    let needed = |what: &str| Misuse {
        text: format!("it is not said {what}"),
        hint: "clusterctl context add --agent HOST:PORT --identity FILE".to_owned(),
    };
    let agent = global.agent.clone().ok_or_else(|| needed("whom to ask"))?;
    let identity = global.identity.as_deref().ok_or_else(|| needed("as whom to ask"))?;
    // From wherever it is used: paths from here would mean others there.
    let identity = std::path::absolute(identity)?;
    let bundle = Bundle::read(&identity)
        .with_context(|| format!("cannot use the identity in {}", identity.display()))?;
    let config = global.config.as_deref().map(std::path::absolute).transpose()?;
    let name = name.unwrap_or_else(|| bundle.own.name.cluster.clone());
    known.contexts.insert(name.clone(), Context { agent, identity, config });
    known.current.get_or_insert_with(|| name.clone());
    Ok(name)
}

fn list(known: &Contexts, global: &Global) -> anyhow::Result<()> {
    let all = known.contexts.iter().map(|(name, context)| {
        // One whose file is gone is still to be seen.
        let who = match Bundle::read(&context.identity) {
            Ok(bundle) => format!("{} of {}", bundle.own.name.who, bundle.own.name.cluster),
            Err(e) => e.to_string(),
        };
        (name, context, who, known.current.as_ref() == Some(name))
    });
    if global.json {
        let all: Vec<_> = all
            .map(|(name, Context { agent, identity, config }, who, current)| {
                serde_json::json!({
                    "name": name, "current": current, "agent": agent, "identity": identity, "config": config, "who": who
                })
            })
            .collect();
        return super::print_json(&all);
    }
    let rows: Vec<Row> = all
        .map(|(name, context, who, current)| {
            let (mark, style) = if current { ("*", Style::new().bold()) } else { ("", Style::new()) };
            let cells = [mark, name, &context.agent].map(|cell| (cell.to_owned(), style));
            Row { cells: cells.into(), tail: vec![who] }
        })
        .collect();
    if rows.is_empty() {
        hint("there is none; clusterctl context add --agent HOST:PORT --identity FILE");
        return Ok(());
    }
    super::print(&table(&Look::here(), &["", "CONTEXT", "AGENT", "AS"], &rows, 1))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("some/contexts.toml");
        assert!(Contexts::read(&path).unwrap().contexts.is_empty());
        let context =
            Context { agent: "lvs1:7117".into(), identity: "/home/a/shop.pem".into(), config: None };
        let contexts = BTreeMap::from([("shop".to_owned(), context.clone())]);
        Contexts { current: Some("shop".into()), contexts }.write(&path).unwrap();
        let read = Contexts::read(&path).unwrap();
        assert_eq!((read.current.as_deref(), read.named("shop").unwrap()), (Some("shop"), &context));
        assert!(read.named("other").is_err());
        fs::write(&path, "current = 1").unwrap();
        assert!(Contexts::read(&path).is_err());
    }
}
