//! `clusterd`: a cluster bootstrap and dependency-ordered service supervisor.
//!
//! The layers, lowest first; each knows only those above it in this list that its own page names:
//!
//! - [`facts`]: what is found out about the world (verdicts, exits, findings), plain data.
//! - [`clock`]: the monotonic clock. [`crash`]: where a test may kill the agent.
//! - [`model`]: `cluster.toml` and `units/` → a valid [`model::Cluster`].
//! - [`graph`]: order among instances: ranks, waves, cycles, the longest chain.
//! - [`engine`]: the pure state machine: inputs and time in, actions out.
//! - `address`: what is on this machine's interfaces, and when that changes.
//! - [`director`]: who holds which virtual address, and what is wrong when not exactly one does.
//! - [`probe`], [`process`], [`leftover`], [`store`]: the hands and eyes; they know nothing of the engine.
//! - [`director`]: virtual addresses: what keepalived, IPVS and the firewall are told.
//! - [`broker`]: activemq.xml of others, judged.
//! - [`systemd`]: units of the machine's own that systemd runs for us.
//! - [`journal`]: what an agent writes down, and the search for what runs that the next one begins with.
//! - [`trail`]: who did what: a chain of hashes that shows what was changed.
//! - [`logs`]: what services print: positions, rotation, reading.
//! - [`sim`]: the simulator, another shell around the same engine.
//! - [`standin`]: small servers that speak one daemon's readiness, for the demo.
//! - [`pki`]: the cluster's own CA, the certificates of nodes and operators, and what a peer is held to.
//! - [`doctor`]: what is wrong with a machine.
//! - [`generation`]: a configuration on its way over the cluster: who may take which, and what it changes.
//! - [`api`]: wire types, server and client.
//! - [`rig`]: the sample cluster laid out on one machine with real daemons or [`standin`]s, for the demo and the lab.
//! - [`agent`]: the shell that ties them together; [`ctl`]: the operator's commands, a client like any other.

#![deny(unsafe_code)]

pub(crate) mod address;
pub mod agent;
pub mod api;
pub mod broker;
pub mod clock;
pub mod crash;
pub mod ctl;
pub mod director;
pub mod doctor;
pub mod engine;
pub mod facts;
pub mod generation;
pub mod graph;
#[cfg(any(test, feature = "fuzz"))]
pub mod hostile;
pub mod journal;
pub mod leftover;
pub mod logs;
pub mod model;
pub mod pki;
pub mod probe;
pub mod process;
pub mod rig;
pub mod sim;
pub mod standin;
pub mod store;
pub mod systemd;
pub mod trail;
