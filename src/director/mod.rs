//! Directors: who holds a virtual address, what is wrong when not exactly one does, and what keepalived, IPVS and the
//! firewall are told for it.
//!
//! Knows the model, and nothing of the engine. [`Guard`] and [`manage`] decide and are pure; [`diagnose`](mod@diagnose), [`firewall`] and
//! [`settings`] judge what was read; [`adverts`] and [`machine`] read it.

pub mod adverts;
mod diagnose;
pub mod firewall;
mod guard;
pub mod import;
mod iptables;
pub mod machine;
pub mod manage;
pub mod render;
pub mod settings;
pub mod word;

pub use guard::{Deed, Guard, Keeper, NOBODY_FOR, SEVERAL_FOR, Seen, Vip};
