//! Configurations that come over the network: staged, then put in force; and fetched from another node by one that was
//! down when it was applied. Who may take which is decided in [`crate::generation`].

use super::clerk::PATIENCE;
use super::config::Kept;
use super::shell::{Message, Shell};
use crate::api::tls::Security;
use crate::api::wire::{GenerationReply, Refusal, ReloadReply};
use crate::crash::{self, Done};
use crate::generation::{Generation, Offer, Relation};
use crate::model::{self, Cluster, NodeIx};
use crate::pki::{Role, Who};
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::oneshot;

/// How often the other nodes are asked what they have, once each has answered; and before that, at first and at most.
const ASK_EVERY: Duration = Duration::from_secs(30);
const ASK_AGAIN: Duration = Duration::from_millis(250);
const ASK_AGAIN_AT_MOST: Duration = Duration::from_secs(8);
/// How long after a peer's word that it has another one: where they stay diverged, such words keep coming.
const AFTER_WORD: Duration = Duration::from_millis(500);
/// How long one has to tell what it has, and to hand it over.
const TELL_WITHIN: Duration = Duration::from_millis(1500);
const HAND_WITHIN: Duration = Duration::from_secs(20);
/// How many others are named in a problem.
const NAMED: usize = 4;

/// How a configuration is to be changed.
#[derive(Debug)]
pub enum Configure {
    /// Read the files again.
    Reload,
    /// Check it and keep it aside.
    Stage(Box<Offer>),
    /// Put what was kept aside in force.
    Switch(String),
    /// Put what another node has in force.
    Take { from: String, offer: Box<Offer> },
}

impl Shell {
    /// # Errors
    /// When it is refused; then nothing has changed.
    pub fn configure(self: &Rc<Self>, what: Configure) -> Result<ReloadReply, Refusal> {
        match what {
            Configure::Reload => self.reload(),
            Configure::Stage(offer) => self.stage(*offer).map_err(refused),
            Configure::Switch(hash) => self.switch(&hash).map_err(refused),
            Configure::Take { from, offer } => self.take_over(&from, *offer).map_err(refused),
        }
    }

    /// Whether this node can act by what is offered, and may take it.
    fn examine(&self, offer: Offer, needs_seal: bool) -> Result<(Kept, Cluster, NodeIx), String> {
        let Offer { generation, seal, mut sources } = offer;
        sources.unread.clear();
        sources.check_limits()?;
        if sources.hash() != generation.hash {
            return Err("its content is not what its hash says".to_owned());
        }
        self.in_force.borrow().generation.may_take(&generation)?;
        let before = self.cluster();
        if let Security::Tls(tls) = &*self.security.borrow() {
            match &seal {
                Some(seal) => {
                    let signer = seal
                        .check(tls, &generation.text(&before.name))
                        .map_err(|e| format!("{generation}: {e}"))?;
                    if !matches!(signer.name.who, Who::Operator { role: Role::Admin, .. }) {
                        return Err(format!("it is signed by {}, who may not apply", signer.name.who));
                    }
                }
                None if needs_seal => {
                    return Err("it is not signed by an administrator, and may be anybody's".to_owned());
                }
                None => {}
            }
        }
        let sources = self.places.placed(sources);
        let cluster = model::parse(&sources).map_err(|e| e.to_string())?;
        let me = self.fits(&cluster)?;
        Ok((Kept { sources, generation, seal, files: None }, cluster, me))
    }

    fn stage(&self, offer: Offer) -> Result<ReloadReply, String> {
        if self.places.etcd.is_some() {
            return Err("this node's files are in etcd: put them there, and every node follows".to_owned());
        }
        let (kept, ..) = self.examine(offer, false)?;
        let (slot, generation) = (self.staged.clone(), kept.generation.clone());
        let done = self.clerk.have_done(PATIENCE, move || slot.write(&kept).map_err(|e| e.to_string()));
        done.unwrap_or_else(|| Err("the disk does not answer".to_owned()))
            .map_err(|e| format!("it cannot be kept aside: {e}"))?;
        crash::here(Done::Staged);
        let text = format!("{generation} is kept aside");
        Ok(ReloadReply { config: generation.hash, changed: false, text })
    }

    fn switch(self: &Rc<Self>, hash: &str) -> Result<ReloadReply, String> {
        let staged = self.staged.read().map_err(|e| format!("what was kept aside cannot be read: {e}"))?;
        let staged = staged.map(|stored| stored.value).filter(|staged| staged.generation.hash == hash);
        let Some(Kept { sources, generation, seal, .. }) = staged else {
            if self.cluster().hash == hash {
                let text = "it is in force already".to_owned();
                return Ok(ReloadReply { config: hash.to_owned(), changed: false, text });
            }
            return Err("it was not kept aside here".to_owned());
        };
        // Much may have happened since it was staged.
        let (kept, cluster, me) = self.examine(Offer { generation, seal, sources }, false)?;
        let reply = self.adopt_generation(kept, cluster, me)?;
        let slot = self.staged.clone();
        // One that stays is refused as of the past, or is what is in force.
        self.clerk.have_done(PATIENCE, move || drop(slot.remove()));
        Ok(reply)
    }

    fn take_over(self: &Rc<Self>, from: &str, offer: Offer) -> Result<ReloadReply, String> {
        let generation = offer.generation.clone();
        let (kept, cluster, me) = self.examine(offer, true)?;
        let text = format!("takes {generation} from {from}, by {}", generation.by);
        self.events.borrow_mut().record("", "config-fetched", &text, serde_json::Value::Null);
        self.adopt_generation(kept, cluster, me)
    }

    /// The same content with a longer history changes nothing but the history.
    fn adopt_generation(
        self: &Rc<Self>,
        kept: Kept,
        cluster: Cluster,
        me: NodeIx,
    ) -> Result<ReloadReply, String> {
        if cluster.hash != self.cluster().hash {
            return self.put_in_force(kept, cluster, me);
        }
        let text = format!("{} is in force; nothing has changed but its number", kept.generation);
        let own = self.in_force.borrow().generation.number;
        if kept.generation.number > own {
            let files = self.in_force.borrow().files.clone();
            let kept = Kept { files, ..kept };
            self.keep(&kept)?;
            *self.in_force.borrow_mut() = kept;
        }
        Ok(ReloadReply { config: cluster.hash, changed: false, text })
    }

    /// What is in force, as it is handed to others.
    pub fn offer(&self) -> Offer {
        let kept = self.in_force.borrow();
        Offer { generation: kept.generation.clone(), seal: kept.seal.clone(), sources: kept.sources.clone() }
    }
}

fn refused(error: String) -> Refusal {
    Refusal { error, hint: None }
}

/// Asks the other nodes what they have, for as long as the agent lives: takes what comes from the own one, and says
/// where two do not come from each other.
pub async fn keep_up(shell: Rc<Shell>) {
    let mut pause = ASK_AGAIN;
    loop {
        let all_answered = ask_round(&shell).await;
        let sleep = if all_answered { ASK_EVERY } else { pause };
        pause = (pause * 2).min(ASK_AGAIN_AT_MOST);
        tokio::select! {
            () = tokio::time::sleep(sleep) => {}
            // A peer has said that it has another one. Whoever says it often is asked now and then.
            () = shell.differs.notified() => tokio::time::sleep(AFTER_WORD).await,
        }
    }
}

/// Whether each of the others has answered.
async fn ask_round(shell: &Rc<Shell>) -> bool {
    if matches!(*shell.security.borrow(), Security::Missing) {
        return false;
    }
    let (cluster, me) = (shell.cluster(), shell.engine.borrow().node());
    shell.look_at_names();
    let path = format!("/v1/generation?node={}&id={}", cluster.node(me).name, shell.id);
    let others = (0..cluster.nodes.len() as u32).map(NodeIx).filter(|node| *node != me);
    let answers = others.map(|node| {
        let (link, path) = (shell.link(node), path.as_str());
        async move {
            let ask = link.get::<GenerationReply>(path);
            let answer = tokio::time::timeout(TELL_WITHIN, ask).await;
            let answer = answer.ok().and_then(Result::ok);
            let GenerationReply { generation, namesakes } = answer?;
            shell.hear_of_namesakes(namesakes);
            Some((node, generation))
        }
    });
    let answers = futures_util::future::join_all(answers).await;
    let all_answered = answers.iter().all(Option::is_some);
    if shell.places.etcd.is_some() {
        return all_answered; // what is in force is agreed on there
    }
    let own = shell.in_force.borrow().generation.clone();
    let (mut newest, mut diverged): (Option<(NodeIx, &Generation)>, Vec<String>) = (None, Vec::new());
    for (node, theirs) in answers.iter().flatten() {
        match own.relation(theirs) {
            Relation::Same if theirs.number <= own.number => {}
            Relation::Same | Relation::Newer => {
                newest = newest.filter(|(_, best)| best.number >= theirs.number).or(Some((*node, theirs)));
            }
            Relation::Older => {}
            Relation::Diverged => diverged.push(format!("{} has {theirs}", cluster.node(*node).name)),
        }
    }
    let problem = (!diverged.is_empty()).then(|| {
        let more = diverged.len().saturating_sub(NAMED);
        diverged.truncate(NAMED);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        format!(
            "diverged: this node has {own}, {}{more}, and neither comes from the other; clusterctl apply FILE --over \
             HASH says which goes under",
            diverged.join(", ")
        )
    });
    shell.say("diverged", problem);
    let mut problem = None;
    if let Some((node, theirs)) = newest {
        let name = cluster.node(node).name.clone();
        if let Err(why) = fetch(shell, node, &name).await {
            problem = Some(format!("{name} has {theirs}, which is not taken: {why}"));
        }
    }
    shell.say("behind", problem);
    all_answered
}

async fn fetch(shell: &Rc<Shell>, node: NodeIx, from: &str) -> Result<(), String> {
    let link = shell.link(node);
    let ask = link.get::<Offer>("/v1/config");
    let offer = match tokio::time::timeout(HAND_WITHIN, ask).await {
        Ok(offer) => offer.map_err(|e| e.to_string())?,
        Err(_) => return Err(format!("it was not handed over within {} s", HAND_WITHIN.as_secs())),
    };
    let (reply, answer) = oneshot::channel();
    let what = Configure::Take { from: from.to_owned(), offer: Box::new(offer) };
    let told = shell.messages.send(Message::Configure { what, reply }).await;
    told.map_err(|_| "the agent is ending".to_owned())?;
    match answer.await {
        Ok(taken) => taken.map(drop).map_err(|refusal| refusal.error),
        Err(_) => Err("the agent is ending".to_owned()),
    }
}
