//! Listening to what services say of themselves. Each has a socket of its own, at the same path for every agent: a new
//! one takes it over, and one service cannot crowd out another.

use super::shell::{Message, Shell};
use crate::facts::Notice;
use crate::model::{RunKind, Unit};
use crate::process::notice::{Line, Receiver, SOCKET_VARIABLE, WATCHDOG_VARIABLE};
use serde_json::json;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// After so many messages a service is not listened to for a moment: 1,600 a second are enough for anybody.
const AT_ONCE: u32 = 16;
const PAUSE: Duration = Duration::from_millis(10);

impl Shell {
    /// Where an instance's messages are received. An instance is the only one of its service on its node, and a
    /// socket's path has to be short.
    fn notify_path(&self, instance: &str) -> io::Result<PathBuf> {
        let service = instance.split('@').next().unwrap_or(instance);
        std::path::absolute(self.places.notify().join(service))
    }

    /// Listens on behalf of an incarnation that says how it fares, from before its start; the end of listening to the
    /// one before. Gives the unit with what its process has to know, and the descriptor for its newline.
    pub(super) fn listen(
        self: &Rc<Self>,
        name: &Arc<str>,
        incarnation: u64,
        unit: &Arc<Unit>,
    ) -> io::Result<(Arc<Unit>, Option<File>)> {
        self.hear_no_more(name);
        if unit.run.kind != RunKind::Notify {
            return Ok((unit.clone(), None));
        }
        let path = self.notify_path(name)?;
        self.hear(name, incarnation, &path)?;
        let ready = match unit.run.ready_fd {
            Some(_) => {
                let line = line_beside(&path);
                let (line, ready) = Line::make(&line).map_err(|e| cannot("make", &line, &e))?;
                self.await_newline(name, incarnation, line);
                Some(ready)
            }
            None => None,
        };
        let mut unit = Unit::clone(unit);
        unit.run.environment.insert(SOCKET_VARIABLE.to_owned(), path.display().to_string());
        if let Some(watchdog) = unit.run.watchdog {
            unit.run.environment.insert(WATCHDOG_VARIABLE.to_owned(), watchdog.as_micros().to_string());
        }
        Ok((Arc::new(unit), ready))
    }

    /// Listens to a process that an earlier agent had started.
    pub(super) fn listen_again(self: &Rc<Self>, name: &Arc<str>, incarnation: u64, unit: &Unit) {
        if unit.run.kind != RunKind::Notify {
            return;
        }
        let listens = self.notify_path(name).and_then(|path| {
            self.hear(name, incarnation, &path)?;
            if unit.run.ready_fd.is_some() {
                let line = line_beside(&path);
                let line = Line::open(&line).map_err(|e| cannot("open", &line, &e))?;
                self.await_newline(name, incarnation, line);
            }
            Ok(())
        });
        if let Err(e) = listens {
            tracing::error!("{name} is not heard: {e}");
        }
    }

    fn hear_no_more(&self, name: &str) {
        let tasks = self.listeners.borrow_mut().remove(name);
        tasks.into_iter().flatten().for_each(|task| task.abort());
    }

    fn hear(self: &Rc<Self>, name: &Arc<str>, incarnation: u64, path: &Path) -> io::Result<()> {
        let receiver = Receiver::bind(path).map_err(|e| cannot("listen on", path, &e))?;
        let heard = take_in(self.clone(), receiver, name.clone(), incarnation);
        let task = self.entrust("the one that hears what a service says", heard);
        self.listeners.borrow_mut().entry(name.clone()).or_default().push(task);
        Ok(())
    }

    fn await_newline(self: &Rc<Self>, name: &Arc<str>, incarnation: u64, line: Line) {
        let (shell, instance) = (self.clone(), name.clone());
        let task = self.entrust("the one that awaits a service's newline", async move {
            if let Err(e) = line.newline().await {
                return tracing::error!("cannot listen to {instance} any more: {e}");
            }
            let notice = Notice { ready: true, ..Notice::default() };
            // The main loop lives as long as this task.
            let _ = shell.messages.send(Message::Notified { instance, incarnation, notice }).await;
        });
        self.listeners.borrow_mut().entry(name.clone()).or_default().push(task);
    }

    /// Whether a process is of this instance's tree.
    fn is_of(&self, pid: i32, instance: &str) -> bool {
        pid > 0
            && (self
                .held
                .borrow()
                .get(instance)
                .is_some_and(|h| h.handle.pid() == pid && h.handle.is_alive())
                || self.tree.is_member(pid, instance))
    }

    /// Says once for each incarnation that it got what it does not believe.
    fn disbelieve(&self, instance: &str, incarnation: u64, pid: i32, why: &str) {
        let text = format!("a message to its notify socket is ignored: it comes from pid {pid}, {why}");
        let data = json!({ "pid": pid, "incarnation": incarnation });
        self.events.borrow_mut().record(instance, "notice-ignored", &text, data);
    }
}

/// The line for the newline lies beside the socket; no service's name holds a dot.
fn line_beside(socket: &Path) -> PathBuf {
    socket.with_extension("line")
}

fn cannot(what: &str, path: &Path, e: &io::Error) -> io::Error {
    io::Error::new(e.kind(), format!("cannot {what} {}: {e}", path.display()))
}

/// Takes messages in, one after the other: a sender that waits for its message to be read is still there when it is
/// asked who it is.
async fn take_in(shell: Rc<Shell>, receiver: Receiver, instance: Arc<str>, incarnation: u64) {
    let mut said = false;
    for count in 1_u32.. {
        let received = match receiver.receive().await {
            Ok(received) => received,
            Err(e) => return tracing::error!("cannot listen to {instance} any more: {e}"),
        };
        let ours = shell.is_of(received.pid, &instance);
        match received.notice {
            Some(notice) if ours => {
                let message = Message::Notified { instance: instance.clone(), incarnation, notice };
                // The main loop lives as long as this task.
                let _ = shell.messages.send(message).await;
            }
            _ if said => {}
            _ => {
                said = true;
                let why = if ours { "and cannot be understood" } else { "which is none of its processes" };
                shell.disbelieve(&instance, incarnation, received.pid, why);
            }
        }
        if count % AT_ONCE == 0 {
            tokio::time::sleep(PAUSE).await;
        }
    }
}
