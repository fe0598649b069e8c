//! Leftovers: what an unclean stop left behind, judged and removed.
//!
//! Three steps, one file each. `look` collects facts and decides nothing; `judge` decides and touches nothing;
//! `remove` removes exactly what was judged. [`clean`] ties them together for one instance, before its start.
//!
//! The rule above all: what may belong to a living process is not touched. In doubt nothing is.

mod address;
mod clean;
mod ground;
mod held;
pub(crate) mod judge;
mod look;
mod place;
mod remove;

pub(crate) use clean::clean_on;
pub use clean::{Context, Mode, Outcome, clean, release};
pub(crate) use ground::Ground;
pub(crate) use held::{Answer, Holder};
pub use look::Known;
pub(crate) use look::{listening_row, socket_inode};
pub(crate) use place::{Found, Kind, NotRemoved};
pub(crate) use remove::Removed;
