//! Tasks of the agent, and what becomes of it when one of them crashes.
//!
//! A task that only carries something (a listener, a peer's stream) is begun anew after a pause. One that knows what
//! nobody else does (that a process has ended) cannot be: then the agent ends, and the next one finds out by looking, as
//! after any other end. One that serves a single connection, or asks a single question, is let go: `api::server` and
//! `probe` see to that. The main loop itself has the engine in its hands: a crash of it ends the agent, too.
//!
//! Each crash is an event, once. What the panic says stands in the agent's log.

use super::shell::{Message, Shell};
use futures_util::FutureExt;
use serde_json::Value;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::time::Duration;
use tokio::task::AbortHandle;

/// Before a task that crashed is begun anew; doubled each time.
const AGAIN: Duration = Duration::from_millis(100);
const AGAIN_AT_MOST: Duration = Duration::from_secs(30);

impl Shell {
    /// A task that is begun anew when it crashes.
    pub fn carry<F: Future<Output = ()>>(
        self: &Rc<Self>,
        what: &'static str,
        mut make: impl FnMut() -> F + 'static,
    ) -> AbortHandle {
        let shell = self.clone();
        let carried = async move {
            let mut pause = AGAIN;
            while AssertUnwindSafe(make()).catch_unwind().await.is_err() {
                shell.crash(what, "it is begun anew");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(AGAIN_AT_MOST);
            }
        };
        tokio::task::spawn_local(carried).abort_handle()
    }

    /// A task whose crash ends the agent.
    pub fn entrust(
        self: &Rc<Self>,
        what: &'static str,
        work: impl Future<Output = ()> + 'static,
    ) -> AbortHandle {
        let shell = self.clone();
        // An async block around it would have it twice: a kilobyte for each service.
        let entrusted = AssertUnwindSafe(work).catch_unwind().then(move |ended| async move {
            if ended.is_err() {
                shell.crash(what, "the agent ends, and its services go on; the next one finds them");
                // The main loop lives as long as this task.
                let _ = shell.messages.send(Message::Crashed { what }).await;
            }
        });
        tokio::task::spawn_local(entrusted).abort_handle()
    }

    /// Writes a crash down.
    pub fn crash(&self, what: &str, then: &str) {
        let text = format!(
            "a task of the agent has crashed: {what}; {then}. Its log has the panic: please report it"
        );
        tracing::error!("{text}");
        if let Ok(mut events) = self.events.try_borrow_mut() {
            events.record("", "task-crashed", &text, Value::Null);
        }
    }
}
