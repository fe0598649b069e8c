//! The one place where an agent is talked to: wire types, server, client.
//!
//! Whoever wants to lay something under every call (TLS, roles, a trail) does it here.

pub mod client;
pub mod server;
pub mod wire;

/// The TCP port of agents unless `cluster.toml` says another.
pub const DEFAULT_PORT: u16 = 7117;
