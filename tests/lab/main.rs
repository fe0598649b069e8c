//! The lab: the fourteen nodes of the sample as hosts of their own on one machine, with the real daemons.
//!
//! Each host has its own network, processes, mounts and name (Linux namespaces), its own PID 1 and its own `/run`,
//! so each host has boots of its own and a power cut is what it is on a machine: every process of it is gone at one
//! instant, `/run` with them, and its disk stays. The hosts hang on a bridge in a namespace of its own; nothing
//! touches the network of the machine that runs this.
//!
//! Needs root and what `tests/install` installs; without them these tests fail, they are never skipped.

mod evidence;
mod harness;
mod host;
mod kernel;
mod network;
mod scene;

mod boot;
mod hosts;
mod killed;
mod loss;
mod power;
mod reach;
