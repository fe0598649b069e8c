//! What runs on although the configuration does not know it any more: watched, not restarted, left running until an
//! operator stops it by name.

use super::shell::{Held, Shell};
use crate::api::wire::{Order, Verb};
use crate::clock;
use crate::engine::Found;
use crate::engine::view::{InstanceView, StateName};
use crate::facts::{Exit, Moment};
use crate::journal::{self, Searched};
use crate::model::{Cluster, Unit};
use serde_json::json;
use std::rc::Rc;
use std::sync::Arc;

/// One of them.
pub struct Orphan {
    /// As it was started: its stop uses this.
    unit: Arc<Unit>,
    since: Moment,
    /// Who has it stopped.
    stopping: Option<String>,
}

impl Shell {
    /// Instances that ran when the file that knew them, `before`, was replaced by one that does not.
    pub fn orphan(&self, names: &[Arc<str>], before: &Cluster) {
        let cluster = self.cluster();
        let mut orphans = self.orphans.borrow_mut();
        orphans.retain(|name, _| cluster.instance_named(name).is_none());
        for name in names {
            let by_file = || before.instance_named(name).map(|ix| before.instance(ix).unit.clone());
            let started = self.journal.read(name).map(|record| record.unit);
            let Some(unit) = started.or_else(by_file) else { continue };
            orphans.insert(name.clone(), Orphan { unit, since: clock::now(), stopping: None });
        }
    }

    /// Finds again what an agent before this one has left as an orphan, by its journal.
    pub fn find_orphans(self: &Rc<Self>) {
        let cluster = self.cluster();
        let journalled = self.journal.instances().into_iter();
        let names: Vec<String> = journalled.filter(|name| cluster.instance_named(name).is_none()).collect();
        if names.is_empty() {
            return;
        }
        let marked = self.tree.find_marked().unwrap_or_default();
        for name in names {
            let Some(record) = self.journal.read(&name) else { continue };
            let unit = record.unit.clone();
            if self.seek_unit(&name.as_str().into(), Some(&record), &unit) {
                continue;
            }
            let printed_from = record.printed_from;
            let known = (Some(record), self.journal.boot());
            let Searched { found, held, .. } = journal::search(&mut &self.tree, &name, known, &marked, &unit);
            let (Found::Running { memory, .. }, Some((handle, nonce))) = (found, held) else { continue };
            let name: Arc<str> = name.into();
            let held: Held = Held::new(handle, memory.incarnation, nonce, printed_from);
            let pid = held.handle.pid();
            self.hold(&name, held, unit.log);
            self.is_orphaned(&name, unit, pid);
        }
    }

    /// Of what runs on, once it is held or followed.
    pub(super) fn is_orphaned(&self, name: &Arc<str>, unit: Arc<Unit>, pid: i32) {
        self.orphans.borrow_mut().insert(name.clone(), Orphan { unit, since: clock::now(), stopping: None });
        let text = format!("pid {pid} runs, and the file does not know it: left running");
        self.events.borrow_mut().record(name, "orphaned", &text, json!({ "pid": pid }));
    }

    /// As `status` shows them.
    pub fn orphan_views(&self) -> Vec<InstanceView> {
        let (orphans, held, now) = (self.orphans.borrow(), self.held.borrow(), clock::now());
        let view = |(name, orphan): (&Arc<str>, &Orphan)| {
            let state = if orphan.stopping.is_some() { StateName::Stopping } else { StateName::Orphaned };
            InstanceView {
                since_ms: now.since(orphan.since).as_millis() as u64,
                reason: match &orphan.stopping {
                    Some(by) => format!("stopped by {by}"),
                    None => {
                        "not in cluster.toml any more; left running until it is stopped by name".to_owned()
                    }
                },
                pid: held.get(name).map(|held| &held.handle).filter(|h| h.is_alive()).map(|h| h.pid()),
                ..InstanceView::plain(name, state)
            }
        };
        orphans.iter().map(view).collect()
    }

    pub fn is_orphan(&self, name: &str) -> bool {
        self.orphans.borrow().contains_key(name)
    }

    /// Does what an order says of those among its instances that are orphans, and takes them out of it. What will
    /// happen, as a sentence each.
    pub fn order_orphans(self: &Rc<Self>, order: &mut Order) -> Vec<(String, String)> {
        let (orphans, rest) =
            std::mem::take(&mut order.instances).into_iter().partition(|name| self.is_orphan(name));
        order.instances = rest;
        let orphans: Vec<String> = orphans;
        let told = orphans.into_iter().map(|name| {
            let text = match order.verb {
                Verb::Stop => self.stop_orphan(&name, &order.by),
                Verb::Start | Verb::Restart => {
                    "it is not in cluster.toml any more; all that can be done is to stop it".to_owned()
                }
            };
            (name, text)
        });
        told.collect()
    }

    fn stop_orphan(self: &Rc<Self>, name: &str, by: &str) -> String {
        let name: Arc<str> = name.into();
        let (signal, timeout) = {
            let mut orphans = self.orphans.borrow_mut();
            let Some(orphan) = orphans.get_mut(&name) else { return "it has ended".to_owned() };
            if orphan.stopping.is_some() {
                return "stops already".to_owned();
            }
            (orphan.stopping, orphan.since) = (Some(by.to_owned()), clock::now());
            (orphan.unit.stop.signal, orphan.unit.stop.timeout)
        };
        let text = format!("stopped by {by}: it is orphaned");
        self.events.borrow_mut().record(&name, "stopping", &text, serde_json::Value::Null);
        let held = self.held.borrow().get(&name).map(|held| (held.handle.clone(), held.incarnation));
        let incarnation = match (held, self.systemd.incarnation(&name)) {
            (Some((handle, incarnation)), _) => {
                if let Err(e) = handle.signal(signal) {
                    tracing::error!("cannot signal {name} (pid {}): {e}", handle.pid());
                }
                incarnation
            }
            (None, Some(incarnation)) => {
                self.stop_unit(&name);
                incarnation
            }
            (None, None) => {
                self.sweep_named(name, 0);
                return "stops".to_owned();
            }
        };
        let shell = self.clone();
        tokio::task::spawn_local(async move {
            tokio::time::sleep(timeout).await;
            let same = shell.held.borrow().get(&name).is_some_and(|held| held.incarnation == incarnation)
                || shell.systemd.follows(&name, incarnation);
            if same && shell.is_orphan(&name) {
                shell.sweep_named(name, incarnation);
            }
        });
        "stops".to_owned()
    }

    /// The main process of an instance that the file does not know has ended: what it left is swept.
    pub fn orphan_exited(self: &Rc<Self>, name: &Arc<str>, incarnation: u64, exit: &Exit) {
        if !self.is_orphan(name) {
            return;
        }
        let text = format!("it was orphaned, and ended ({exit}); it is not started again");
        self.events.borrow_mut().record(name, "exited", &text, serde_json::Value::Null);
        self.sweep_named(name.clone(), incarnation);
    }

    /// Nothing is left of it.
    pub fn orphan_gone(&self, name: &Arc<str>) {
        if self.orphans.borrow_mut().remove(name).is_some() {
            let text = "nothing is left of what the file does not know";
            self.events.borrow_mut().record(name, "stopped", text, serde_json::Value::Null);
            self.journal.forget(name);
        }
    }
}
