//! Processes: start, watch, stop, find again.
//!
//! Everything here is synchronous and takes micro- to a few milliseconds, so the agent calls it from its one
//! thread; only the wait for an exit is asynchronous ([`Handle::exited`]). Nothing here decides anything.
//!
//! Two rules hold everywhere:
//!
//! - *Identity before action.* No signal goes to a bare pid number: a process is identified ([`Identity`]), then
//!   held by a pidfd ([`Handle`]), and only the handle can signal.
//! - *Services outlive the agent.* No death signal, no pipe whose other end the agent holds: a service writes
//!   to its own file, in its own session, in its own cgroup leaf, with marks in its environment by which the
//!   next agent finds it ([`Tree`]).
//!
//! `unsafe` lives in `kernel.rs` and nowhere else in the crate.

mod account;
mod boot;
mod calls;
mod envfile;
mod identity;
mod kernel;
mod kill;
mod leaf;
mod look;
pub mod notice;
pub mod output;
pub(crate) mod proc;
mod rights;
mod shortage;
mod sight;
mod spawn;
mod strays;
mod tree;

pub use boot::Boot;
pub use identity::{FileId, Handle, Identity, Journalled, Lost};
pub use kernel::{ClockState, clock_state, give_back_memory, keep_one_heap};
pub(crate) use kernel::{only_with_byte, watch};
pub use kill::Felled;
pub use leaf::Leaf;
pub use look::Look;
pub use rights::give_up;
pub use spawn::{Spawn, SpawnError, Stage};
pub use strays::{Ends, become_subreaper, has_orphans, hold_ends, reap_orphans, unheld};
pub(crate) use tree::mark_owner;
pub use tree::{AGENT_MARK, INSTANCE_MARK, Marked, NONCE_MARK, NotYet, Tree};
