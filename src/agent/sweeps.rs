//! Sweeps: nothing of an instance may survive its stop, whatever it did to get away.
//!
//! To know that nothing is left takes a look through all of `/proc`, some milliseconds, for which a thread of its own is
//! there: whoever is to stop next does not wait. Sweeps that are under way at a time share one, so that two hundred stops
//! cost a few looks and not two hundred; and while one stop lets the next begin, the look waits for a pause.

use super::clerk::Clerk;
use super::shell::{Message, Shell};
use crate::clock;
use crate::crash::{self, Done};
use crate::engine::Input;
use crate::facts::Moment;
use crate::model::InstanceIx;
use crate::process::{Felled, Handle, Look};
use nix::libc;
use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, oneshot};

/// The look is taken when for so long no sweep has begun; and so long after the first one in any case.
const PAUSE: Duration = Duration::from_millis(2);
const AT_MOST: Duration = Duration::from_millis(50);
/// How often a killed tree is looked at, and for how long before it is said that it does not go.
const SWEEP_LOOK: Duration = Duration::from_millis(5);
const SWEEP_WARN: Duration = Duration::from_secs(10);
/// How long until a tree that could not be looked at or killed is tried again.
const SWEEP_AGAIN: Duration = Duration::from_millis(200);

/// The sweeps that wait for the next look.
#[derive(Debug)]
pub struct Sweeps {
    begun: RefCell<Vec<Sweep>>,
    /// When the first and the last of them began.
    since: Cell<Option<(Moment, Moment)>>,
    /// A look is under way.
    looks: Cell<bool>,
    changed: Notify,
    /// Takes the looks.
    looker: Clerk,
}

/// A look that was taken, and the sweeps that it is for: each with what was in its leaf before.
#[derive(Debug)]
pub struct Looked {
    sweeps: Vec<(io::Result<Felled>, Sweep)>,
    look: io::Result<Look>,
}

#[derive(Debug)]
struct Sweep {
    name: Arc<str>,
    incarnation: u64,
    killed: u32,
    begun: Moment,
    /// It was said that something does not die.
    said: bool,
}

impl Sweeps {
    /// # Errors
    /// When there is no thread to be had.
    pub fn new() -> io::Result<Sweeps> {
        let looker = Clerk::begin("looker")?;
        let (begun, since, looks) = (RefCell::default(), Cell::default(), Cell::default());
        Ok(Sweeps { begun, since, looks, changed: Notify::new(), looker })
    }

    fn begin(&self, sweep: Sweep) {
        self.begun.borrow_mut().push(sweep);
        let now = clock::now();
        self.since.set(Some((self.since.get().map_or(now, |(first, _)| first), now)));
        self.changed.notify_one();
    }

    /// Ends when a look is to be taken: [`Shell::sweep_all`].
    pub async fn due(&self) {
        loop {
            let since = self.since.get().filter(|_| !self.looks.get());
            match since.map(|(first, last)| (first + AT_MOST).min(last + PAUSE)) {
                None => self.changed.notified().await,
                Some(at) => match at.since(clock::now()) {
                    Duration::ZERO => return,
                    still => tokio::time::sleep(still).await,
                },
            }
        }
    }

    fn take(&self) -> Vec<Sweep> {
        self.since.set(None);
        self.begun.take()
    }

    /// Has a look taken, by the time at which the future ends; one at a time.
    fn look(&self, agent: &str) -> impl Future<Output = io::Result<Look>> + use<> {
        let (tell, told) = oneshot::channel();
        let agent = agent.to_owned();
        self.looks.set(true);
        // One at a time is surely taken; of one that crashed nothing is heard.
        self.looker.give(move || drop(tell.send(Look::take(&agent))));
        async { told.await.unwrap_or_else(|_| Err(io::Error::other("the look has crashed"))) }
    }
}

impl Shell {
    pub(super) fn sweep(self: &Rc<Self>, instance: InstanceIx, incarnation: u64) {
        self.remember_now(instance);
        self.sweep_named(self.name(instance), incarnation);
    }

    /// As [`Shell::sweep`], for what the file may not know.
    pub(super) fn sweep_named(self: &Rc<Self>, name: Arc<str>, incarnation: u64) {
        if self.systemd.follows(&name, incarnation) {
            return self.sweep_unit(&name, incarnation);
        }
        // An adopted process of somebody else is in no tree of ours: it is killed by its own handle.
        if let Some(held) = self.held.borrow().get(&name).filter(|h| h.incarnation == incarnation)
            && held.handle.is_alive()
            && let Err(e) = held.handle.signal(libc::SIGKILL)
        {
            tracing::error!("cannot kill {name} (pid {}): {e}", held.handle.pid());
        }
        self.sweeps.begin(Sweep { name, incarnation, killed: 0, begun: clock::now(), said: false });
    }

    /// Goes on with all sweeps: each kills what is left in its leaf, then one look serves them all.
    pub(super) fn sweep_all(self: &Rc<Self>) {
        let sweeps = self.sweeps.take();
        let fell = |sweep: Sweep| (self.tree.kill_leaf(&sweep.name), sweep);
        let sweeps = sweeps.into_iter().map(fell).collect();
        let (shell, looked) = (self.clone(), self.sweeps.look(self.tree.agent()));
        self.entrust("the one that awaits a look for what stops have left", async move {
            let look = looked.await;
            // The main loop lives as long as this task.
            let _ = shell.messages.send(Message::Looked(Looked { sweeps, look })).await;
        });
    }

    /// What a look has found is killed. A sweep that finds nothing is done; the others wait until what they killed is
    /// gone, and come back: it may have forked until it died.
    pub(super) fn looked(self: &Rc<Self>, Looked { sweeps, look }: Looked) -> Vec<Input> {
        self.sweeps.looks.set(false);
        self.sweeps.changed.notify_one();
        let cluster = self.cluster();
        let mut swept = Vec::new();
        for (felled, sweep) in sweeps {
            let look = look.as_ref().map_err(|e| io::Error::new(e.kind(), e.to_string()));
            let kill = |look: &Look| self.tree.kill_rest(&sweep.name, felled?, look);
            let held = self.held.borrow().get(&sweep.name).map(|h| h.handle.clone());
            let held = held.filter(|handle| handle.is_alive());
            let dying = look.and_then(kill);
            if dying.as_ref().is_ok_and(|dying| !dying.is_empty()) {
                crash::here(Done::Killed);
            }
            match dying {
                Ok(dying) if dying.is_empty() && held.is_none() => {
                    let Sweep { name, incarnation, killed, .. } = sweep;
                    self.let_go(&name, incarnation);
                    let instance = cluster.instance_named(&name);
                    if instance.is_none() {
                        self.orphan_gone(&name);
                    }
                    swept.extend(instance.map(|instance| Input::Swept { instance, incarnation, killed }));
                }
                Ok(dying) => {
                    let ended = self.clone().await_end(sweep, dying, held);
                    self.entrust("the one that waits for a stop's leftovers to die", ended);
                }
                Err(e) => {
                    tracing::error!("cannot kill all that is left of {}, and tries again: {e}", sweep.name);
                    let shell = self.clone();
                    self.entrust("the one that sweeps again", async move {
                        tokio::time::sleep(SWEEP_AGAIN).await;
                        shell.sweeps.begin(sweep);
                    });
                }
            }
        }
        swept
    }

    /// Waits until what was told to die is gone, and goes on with the sweep.
    async fn await_end(self: Rc<Self>, mut sweep: Sweep, dying: Vec<Handle>, held: Option<Rc<Handle>>) {
        sweep.killed += dying.len() as u32;
        while dying.iter().chain(held.as_deref()).any(Handle::is_alive) {
            tokio::time::sleep(SWEEP_LOOK).await;
            if !sweep.said && clock::now().since(sweep.begun) > SWEEP_WARN {
                sweep.said = true;
                let name = &sweep.name;
                tracing::error!("processes of {name} do not die although killed; still waiting for them");
            }
        }
        self.sweeps.begin(sweep);
    }
}
