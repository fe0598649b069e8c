//! Which configuration is in force, and putting another one in force.
//!
//! A file with a mistake in it is refused whole, and the last good one stays: over a reload, and over a reboot.

use super::clerk::PATIENCE;
use super::links;
use super::safe;
use super::shell::{Places, Shell};
use crate::api::wire::{Refusal, ReloadReply};
use crate::clock;
use crate::crash::{self, Done};
use crate::engine::Input;
use crate::graph::Graph;
use crate::model::{self, Cluster, Sources};
use crate::store::Slot;
use anyhow::Context;
use serde_json::json;
use std::collections::HashMap;
use std::io::Read;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

/// The configuration to begin with, and what is wrong with it.
///
/// # Errors
/// When the file is refused and there is no last good one: the whole list of mistakes.
pub fn load_or_last_good(
    places: &Places,
    last_good: &Slot<Sources>,
) -> anyhow::Result<(Sources, Arc<Cluster>, HashMap<&'static str, String>)> {
    let mut problems = HashMap::new();
    let refused = match read(places) {
        Ok((sources, cluster)) => {
            if let Err(e) = last_good.write(&sources) {
                problems
                    .insert("last-good", format!("the configuration in force could not be kept aside: {e}"));
            }
            crash::here(Done::ConfigKept);
            return Ok((sources, in_force(cluster), problems));
        }
        Err(refused) => refused,
    };
    if let Ok(Some(kept)) = last_good.read()
        && let Ok(cluster) = model::parse(&kept.value)
    {
        let note = format!(
            "{} is refused, the last good one is in force; see `clusterctl check`. {}",
            places.config.display(),
            first_line(&refused)
        );
        problems.insert("config", note);
        return Ok((kept.value, in_force(cluster), problems));
    }
    Err(anyhow::anyhow!("{refused}"))
}

fn read(places: &Places) -> Result<(Sources, Cluster), String> {
    safe::look_at_config(&places.config, places.units.as_deref())?;
    let sources = Sources::read(&places.config, places.units.as_deref()).map_err(|e| e.to_string())?;
    let cluster = model::parse(&sources).map_err(|e| e.to_string())?;
    Ok((sources, cluster))
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
        let (sources, cluster) = read(&self.places).map_err(&refuse)?;
        let before = self.cluster();
        let Some(me) = cluster.node_named(&self.node_name()) else {
            return Err(refuse(format!("it has no node {}, which this is", self.node_name())));
        };
        let (old, new) = (before.node(self.engine.borrow().node()), cluster.node(me));
        if (old.address, before.port, before.insecure) != (new.address, cluster.port, cluster.insecure) {
            return Err(refuse(
                "it gives this node another address or port, or changes `insecure`; restart the agent for that"
                    .to_owned(),
            ));
        }
        self.problems.borrow_mut().remove("config");
        if cluster.hash == before.hash {
            let text = if self.trust_again() {
                "nothing has changed but this node's certificate, which is in use now"
            } else {
                "nothing has changed"
            };
            let text = text.to_owned();
            return Ok(ReloadReply { config: cluster.hash.clone(), changed: false, text });
        }
        let (slot, copy) = (self.last_good.clone(), sources.clone());
        match self.clerk.have_done(PATIENCE, move || slot.write(&copy).map_err(|e| e.to_string())) {
            Some(Ok(())) => {}
            Some(Err(e)) => {
                return Err(refuse(format!("it cannot be kept aside as the last good one: {e}")));
            }
            // Should it be kept later all the same: whoever begins then reads the file before it.
            None => {
                let disk = self.places.state.display();
                let why = format!(
                    "it cannot be kept aside as the last good one: the disk of {disk} does not answer"
                );
                return Err(refuse(why));
            }
        }
        let cluster = in_force(cluster);
        self.links.forget();
        self.forget_probers();
        let (added, orphans) = self.recorder.borrow_mut().reconfigure(
            &mut self.engine.borrow_mut(),
            clock::now(),
            (&sources, cluster.clone()),
            me,
            &Graph::ranks(&cluster),
        );
        let mut text = format!("configuration {} is in force", cluster.hash);
        self.problems.borrow_mut().remove("orphans");
        if !orphans.is_empty() {
            let note = format!(
                "left running, although the file does not know them any more: {}",
                orphans.join(", ")
            );
            text += &format!("; {note}");
            self.problems.borrow_mut().insert("orphans", note);
        }
        self.events.borrow_mut().record("", "config", &text, json!({ "config": cluster.hash }));
        self.vips.reconfigure(&self.cluster(), self.engine.borrow().node());
        self.manage.reconfigure();
        self.look_at_addresses();
        self.search_these(&added);
        // Before anybody is dialled: the file tells whose keys are revoked.
        self.look_at_trust();
        links::follow_peers(self);
        self.open_socket();
        self.feed(Input::TimeCame);
        Ok(ReloadReply { config: cluster.hash.clone(), changed: true, text })
    }
}
