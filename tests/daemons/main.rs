//! The daemons of the sample killed with -9 and cut off from power, then started by their own scripts and by `clusterd`
//! with the units that are shipped: who comes up, and who is harmed.
//!
//! Each trial has a machine of its own: namespaces, its disk a layer over this machine's, so that Debian's scripts and
//! the units' own paths are used as they are. Needs root and what `tests/install` installs.

mod broker;
mod hidden;
#[path = "../lab/kernel.rs"]
#[allow(dead_code)]
mod kernel;
mod machine;
mod orphans;
#[path = "../agents/steady.rs"]
mod steady;
mod storage;
mod table;
