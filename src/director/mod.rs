//! The directors: who holds a virtual address, and what is wrong when not exactly one does.
//!
//! [`Guard`] decides and is pure; [`diagnose`](mod@diagnose), [`firewall`] and [`settings`] judge what was read; [`adverts`] and
//! [`servers`] read it.

pub mod adverts;
mod diagnose;
pub mod firewall;
mod guard;
pub mod servers;
pub mod settings;
pub mod word;

pub use guard::{Deed, Guard, Keeper, NOBODY_FOR, SEVERAL_FOR, Seen, Vip};
