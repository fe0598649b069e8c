//! Which configuration is in force, and putting another one in force.
//!
//! A file with a mistake in it is refused whole, and the last good one stays: over a reload, and over a reboot.
//!
//! What is in force lies in one slot of the state folder ([`Kept`]): to replace that is to switch, and a power cut at
//! any instant leaves the one or the other. The files at their usual places are written after that, for people; until
//! they are, the slot goes before them.

use super::clerk::PATIENCE;
use super::files;
use super::links;
use super::safe;
use super::shell::{Places, Shell};
use crate::api::wire::{Refusal, ReloadReply};
use crate::clock;
use crate::crash::{self, Done};
use crate::engine::Input;
use crate::generation::Generation;
use crate::graph::Graph;
use crate::model::{self, Cluster, NodeIx, Sources};
use crate::pki::Seal;
use crate::store::Slot;
use anyhow::Context;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::HashMap;
use std::io::Read;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

/// The configuration in force, as it is kept in the state folder: the last good one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    #[serde(flatten)]
    pub sources: Sources,
    /// Where it stands in the line. Unknown to an older agent.
    #[serde(default)]
    pub generation: Generation,
    /// Who applied it, proven.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seal: Option<Seal>,
    /// The hash of the files at their places when they were last seen to be no change of an operator's. `None` while
    /// they are being written: then they may be half of the one and half of the other, and say nothing.
    #[serde(default)]
    pub files: Option<String>,
}

/// The configuration to begin with, and what is wrong with it.
///
/// # Errors
/// When the file is refused and there is no last good one: the whole list of mistakes.
pub fn load_or_last_good(
    places: &Places,
    slot: &Slot<Kept>,
) -> anyhow::Result<(Kept, Arc<Cluster>, HashMap<&'static str, String>)> {
    let mut problems = HashMap::new();
    let stored = slot.read().ok().flatten();
    let is_torn = stored.as_ref().is_some_and(|stored| stored.torn.is_some());
    let kept = stored.map(|stored| stored.value);
    let kept = kept.map(|kept| Kept { sources: places.placed(kept.sources), ..kept });
    let files = safe::look_at_config(&places.config, places.units.as_deref())
        .and_then(|()| Sources::read(&places.config, places.units.as_deref()).map_err(|e| e.to_string()));
    let applied = kept.as_ref().filter(|kept| kept.generation.number > 0 && !kept.generation.edited);
    if let Some(kept) = applied
        && files.as_ref().map_or(kept.files.is_none(), |files| is_untouched(kept, files))
        && let Ok(cluster) = model::parse(&kept.sources)
    {
        return Ok((kept.clone(), in_force(cluster), problems));
    }
    let refused = match files.and_then(|files| parsed(files).map_err(|e| e.to_string())) {
        Ok((sources, cluster)) => {
            let generation = line_of(kept.as_ref(), &cluster.hash);
            let seal =
                kept.as_ref().filter(|kept| kept.generation == generation).and_then(|kept| kept.seal.clone());
            let files = Some(cluster.hash.clone());
            let new = Kept { sources, generation, seal, files };
            // A boot waits for what is synced, and mostly it is there already.
            let is_kept = !is_torn && kept.is_some_and(|kept| kept == new);
            if !is_kept && let Err(e) = slot.write(&new) {
                problems
                    .insert("last-good", format!("the configuration in force could not be kept aside: {e}"));
            }
            crash::here(Done::ConfigKept);
            return Ok((new, in_force(cluster), problems));
        }
        Err(refused) => refused,
    };
    if let Some(kept) = kept
        && let Ok(cluster) = model::parse(&kept.sources)
    {
        let note = format!(
            "{} is refused, the last good one is in force; see `clusterctl check`. {}",
            places.config.display(),
            first_line(&refused)
        );
        problems.insert("config", note);
        return Ok((kept, in_force(cluster), problems));
    }
    Err(anyhow::anyhow!("{refused}"))
}

/// Whether no operator has changed the files since they were written, or since they were found not to be writable.
fn is_untouched(kept: &Kept, files: &Sources) -> bool {
    kept.files.as_ref().is_none_or(|known| *known == files.hash())
}

/// Where a file stands that an operator put there.
fn line_of(kept: Option<&Kept>, hash: &str) -> Generation {
    match kept {
        Some(kept) if kept.generation.hash == hash => kept.generation.clone(),
        Some(kept) => kept.generation.edited(hash.to_owned()),
        None => Generation::by_hand(hash.to_owned()),
    }
}

fn parsed(sources: Sources) -> Result<(Sources, Cluster), model::Diagnostics> {
    let cluster = model::parse(&sources)?;
    Ok((sources, cluster))
}

/// Looks whether the agent can act by what comes from elsewhere.
///
/// # Errors
/// What is wrong with it.
pub fn examined(shell: &Shell, sources: Sources) -> Result<Sources, String> {
    let cluster = model::parse(&sources).map_err(|e| e.to_string())?;
    shell.fits(&cluster)?;
    Ok(sources)
}

fn read(places: &Places) -> Result<(Sources, Cluster), String> {
    safe::look_at_config(&places.config, places.units.as_deref())?;
    let sources = Sources::read(&places.config, places.units.as_deref()).map_err(|e| e.to_string())?;
    parsed(sources).map_err(|e| e.to_string())
}

/// What is kept of it: the defaults that were used are for `clusterctl plan`, and would weigh as much as all the rest.
fn in_force(mut cluster: Cluster) -> Arc<Cluster> {
    cluster.defaults = Vec::new();
    Arc::new(cluster)
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

/// A random name of this agent's state, made once: another machine with the same node name has another.
pub fn agent_id(state: &Path) -> anyhow::Result<String> {
    let path = state.join("id");
    if let Ok(id) = std::fs::read_to_string(&path)
        && id.trim().len() == 8
        && id.trim().bytes().all(|b| b.is_ascii_hexdigit())
    {
        return Ok(id.trim().to_owned());
    }
    let mut bytes = [0; 4];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut f| f.read_exact(&mut bytes))
        .context("cannot read /dev/urandom")?;
    let id = format!("{:08x}", u32::from_ne_bytes(bytes));
    std::fs::write(&path, &id).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(id)
}

impl Places {
    /// These texts as they are, or will be, on this node.
    pub fn placed(&self, sources: Sources) -> Sources {
        sources.placed(&self.config, self.units.as_deref())
    }
}

impl Shell {
    /// Reads the file again, and puts it in force if it is good.
    ///
    /// # Errors
    /// When it is refused; then nothing has changed.
    pub fn reload(self: &Rc<Self>) -> Result<ReloadReply, Refusal> {
        let refuse = |why: String| {
            let note =
                format!("{} is refused, the one before stays in force: {why}", self.places.config.display());
            self.problems.borrow_mut().insert("config", note.clone());
            self.events.borrow_mut().record("", "config-refused", &note, serde_json::Value::Null);
            Refusal { error: note, hint: Some("clusterctl check".to_owned()) }
        };
        let half_written = self.in_force.borrow().files.is_none();
        if half_written {
            self.write_files();
        }
        let (sources, cluster) = read(&self.places).map_err(&refuse)?;
        let before = self.cluster();
        let me = self.fits(&cluster).map_err(&refuse)?;
        self.problems.borrow_mut().remove("config");
        let untouched = is_untouched(&self.in_force.borrow(), &sources);
        if cluster.hash == before.hash || untouched {
            let text = if self.trust_again() {
                "nothing has changed but this node's certificate, which is in use now"
            } else {
                "nothing has changed"
            };
            let text = text.to_owned();
            self.manage.try_again();
            return Ok(ReloadReply { config: before.hash.clone(), changed: false, text });
        }
        let generation = line_of(Some(&self.in_force.borrow()), &cluster.hash);
        let kept = Kept { sources, generation, seal: None, files: Some(cluster.hash.clone()) };
        self.put_in_force(kept, cluster, me).map_err(refuse)
    }

    /// Which node this is in another configuration.
    ///
    /// # Errors
    /// When this agent cannot act by it without being started anew.
    pub fn fits(&self, cluster: &Cluster) -> Result<NodeIx, String> {
        let before = self.cluster();
        if cluster.name != before.name {
            return Err(format!("it is of cluster {}, and this is {}", cluster.name, before.name));
        }
        let Some(me) = cluster.node_named(&self.node_name()) else {
            return Err(format!("it has no node {}, which this is", self.node_name()));
        };
        let (old, new) = (before.node(self.engine.borrow().node()), cluster.node(me));
        if (old.address, before.port, before.insecure) != (new.address, cluster.port, cluster.insecure) {
            return Err(
                "it gives this node another address or port, or changes `insecure`; restart the agent for that"
                    .to_owned(),
            );
        }
        Ok(me)
    }

    /// Keeps it, and acts by it from then on. What it does not know any more is orphaned.
    ///
    /// # Errors
    /// When it cannot be kept; then nothing has changed.
    pub fn put_in_force(
        self: &Rc<Self>,
        kept: Kept,
        cluster: Cluster,
        me: NodeIx,
    ) -> Result<ReloadReply, String> {
        self.keep(&kept)?;
        crash::here(Done::Switched);
        let cluster = in_force(cluster);
        self.links.forget();
        self.forget_probers();
        let before = self.cluster();
        let (added, orphans) = self.recorder.borrow_mut().reconfigure(
            &mut self.engine.borrow_mut(),
            clock::now(),
            (&kept.sources, cluster.clone()),
            me,
            &Graph::ranks(&cluster),
        );
        let mut text = format!("configuration {} is in force", cluster.hash);
        if kept.generation.number > 0 {
            text = format!("{} is in force", kept.generation);
        }
        *self.in_force.borrow_mut() = kept;
        if !orphans.is_empty() {
            text += &format!(
                "; left running, although the file does not know them any more: {}",
                orphans.join(", ")
            );
        }
        self.orphan(&orphans, &before);
        self.events.borrow_mut().record("", "config", &text, json!({ "config": cluster.hash }));
        self.vips.reconfigure(&self.cluster(), self.engine.borrow().node());
        self.manage.reconfigure();
        self.look_at_addresses();
        self.search_these(&added);
        self.systemd.reconfigured();
        // Before anybody is dialled: the file tells whose keys are revoked.
        self.look_at_trust();
        links::follow_peers(self);
        self.open_socket();
        self.feed(Input::TimeCame);
        self.write_files();
        Ok(ReloadReply { config: cluster.hash.clone(), changed: true, text })
    }

    /// Replaces what is kept as the configuration in force.
    ///
    /// # Errors
    /// When the disk does not take it. Should it be kept later all the same: whoever begins then reads the file before
    /// it, unless an operator applied it, who then is told that this node takes it when it is started anew.
    pub fn keep(&self, kept: &Kept) -> Result<(), String> {
        let (slot, copy) = (self.last_good.clone(), kept.clone());
        match self.clerk.have_done(PATIENCE, move || slot.write(&copy).map_err(|e| e.to_string())) {
            Some(Ok(())) => Ok(()),
            Some(Err(e)) => Err(format!("it cannot be kept aside as the last good one: {e}")),
            None => {
                let disk = self.places.state.display();
                Err(format!(
                    "it cannot be kept aside as the last good one: the disk of {disk} does not answer"
                ))
            }
        }
    }

    /// Writes what is in force to where people look for it, if it is not there yet.
    pub fn write_files(&self) {
        let kept = self.in_force.borrow().clone();
        if kept.files.is_some() {
            return;
        }
        let (slot, copy) = (self.last_good.clone(), kept.clone());
        let (config, units) = (self.places.config.clone(), self.places.units.clone());
        let done = self.clerk.have_done(PATIENCE, move || {
            let read = || Sources::read(&config, units.as_deref()).ok().map(|files| files.hash());
            let before = read();
            let written = files::write(&copy.sources, &config, units.as_deref()).map_err(|e| e.to_string());
            crash::here(Done::FilesWritten);
            let after = read();
            // What could not be touched at all still says that nobody has changed it.
            let files =
                after.filter(|after| *after == copy.generation.hash || before.as_ref() == Some(after));
            let kept = slot.write(&Kept { files: files.clone(), ..copy });
            (files, written.and(kept.map_err(|e| e.to_string())))
        });
        let problem = match done {
            Some((files, result)) => {
                self.in_force.borrow_mut().files = files;
                result.err()
            }
            None => Some("the disk does not answer".to_owned()),
        };
        let problem = problem.map(|why| {
            format!(
                "{} is in force, and cannot be written to {}, where the files before may still be: {why}",
                kept.generation,
                self.places.config.display()
            )
        });
        self.say("files", problem);
    }
}
