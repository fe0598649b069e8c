//! A configuration that lies in etcd: `--config etcd://10.0.0.1:2379,10.0.0.2:2379/shop`.
//!
//! The keys below that one are the files: `/shop/cluster.toml`, `/shop/units/redis.toml`. What etcd holds is copied into the state
//! folder, and from there it goes the way of any file: it is checked, refused whole with a mistake, and a boot without
//! etcd begins with the copy. etcd's own agreement is what keeps two operators apart, so `apply` and the other agents' files
//! play no part.
//!
//! [`place`] is where it lies, [`client`] asks a server, [`answer`] is what that says, and here is what comes of it.

mod answer;
mod client;
#[cfg(any(test, feature = "fuzz"))]
pub mod hostile;
mod place;

pub use place::{Access, Place};

use super::config;
use super::files;
use super::generations::Configure;
use super::shell::{Message, Shell};
use crate::model::{self, Sources};
use answer::Found;
use anyhow::Context;
use client::Client;
use serde_json::Value;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// How long all of them are tried when there is no copy yet.
const FIRST_WITHIN: Duration = Duration::from_secs(30);
/// Between two rounds of trying them.
const AGAIN: Duration = Duration::from_secs(1);
/// Keys are put one after the other: how long after the first change all is read.
const SETTLES: Duration = Duration::from_millis(200);
/// A watch over a dead machine's connection would never end: how often all is read although nothing was said.
const READ_EVERY: Duration = Duration::from_secs(30);

/// Where there is no copy yet: takes it from the first server that has it.
///
/// # Errors
/// What the last server said, when none has answered in time; or what is wrong with what it holds.
pub async fn copy_first(place: &Place, state: &Path) -> anyhow::Result<()> {
    let copy = Place::copy_in(state);
    if copy.exists() {
        return Ok(());
    }
    let mut servers = place.clients();
    let begun = Instant::now();
    loop {
        let mut why = String::new();
        for server in &mut servers {
            match server.read(place).await {
                Ok(found) => {
                    let sources = place.sources(&found).map_err(anyhow::Error::msg)?;
                    model::parse(&sources).map_err(|e| anyhow::anyhow!("{e}"))?;
                    return files::write(&sources, &copy, None)
                        .with_context(|| format!("cannot keep a copy of {}", place.shown("cluster.toml")));
                }
                Err(e) => why = e,
            }
        }
        anyhow::ensure!(
            begun.elapsed() < FIRST_WITHIN,
            "etcd is not reached, and there is no copy from before: {why}"
        );
        sleep(AGAIN).await;
    }
}

/// Follows what etcd holds, as long as the agent lives.
pub async fn follow(shell: Rc<Shell>, place: Place) {
    let mut last = None;
    let mut servers = place.clients();
    loop {
        for server in &mut servers {
            let why = match follow_at(&shell, &place, server, &mut last).await {
                Err(why) => why,
                Ok(never) => match never {},
            };
            shell.say(
                "etcd",
                Some(format!("etcd is not heard, the copy of what it held last is in force: {why}")),
            );
        }
        sleep(AGAIN).await;
    }
}

/// Follows one server until it is not heard any more.
async fn follow_at(
    shell: &Rc<Shell>,
    place: &Place,
    server: &mut Client,
    last: &mut Option<String>,
) -> Result<std::convert::Infallible, String> {
    loop {
        let found = server.read(place).await?;
        let mut watch = server.watch(place, &found).await?;
        shell.say("etcd", None);
        take(shell, place, &found, last).await;
        if let Ok(changed) = timeout(READ_EVERY, watch.change()).await {
            changed?;
            sleep(SETTLES).await;
        }
    }
}

/// Has what etcd holds put in force, if it can be; each content is looked at once.
async fn take(shell: &Rc<Shell>, place: &Place, found: &Found, last: &mut Option<String>) {
    let sources = place.sources(found);
    let hash = sources.as_ref().map_or_else(Clone::clone, Sources::hash);
    if last.replace(hash.clone()).as_ref() == Some(&hash) {
        return;
    }
    let written = match sources.and_then(|sources| config::examined(shell, sources)) {
        Ok(sources) => {
            let copy = shell.places.config.clone();
            let written = tokio::task::spawn_blocking(move || files::write(&sources, &copy, None)).await;
            written.map_err(|e| e.to_string()).and_then(|written| written.map_err(|e| e.to_string()))
        }
        Err(why) => Err(why),
    };
    let refused = match written {
        Ok(()) => reload(shell).await.err(),
        Err(why) => Some(why),
    };
    let problem =
        refused.map(|why| format!("what etcd holds is refused, the one before stays in force: {why}"));
    if let Some(problem) = &problem {
        shell.events.borrow_mut().record("", "config-refused", problem, Value::Null);
    }
    shell.say("etcd-content", problem);
}

async fn reload(shell: &Rc<Shell>) -> Result<(), String> {
    let (reply, answer) = tokio::sync::oneshot::channel();
    let told = shell.messages.send(Message::Configure { what: Configure::Reload, reply }).await;
    told.map_err(|_| "the agent is ending".to_owned())?;
    match answer.await {
        Ok(taken) => taken.map(drop).map_err(|refusal| refusal.error),
        Err(_) => Err("the agent is ending".to_owned()),
    }
}
