//! The one place where an agent is talked to: wire types, server, client.
//!
//! What lies under every call is here, too: how many come in ([`door`]), TLS ([`tls`]), for how long the other end is
//! waited for ([`patience`]), and who may do what ([`caller`]).

pub mod caller;
pub mod client;
pub mod door;
pub mod patience;
pub mod server;
pub mod tls;
pub mod wire;

/// The TCP port of agents unless `cluster.toml` says another.
pub const DEFAULT_PORT: u16 = 7117;
