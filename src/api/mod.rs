//! The one place where an agent is talked to: wire types, server, client.
//!
//! What lies under every call is here, too: TLS ([`tls`]) and who may do what ([`caller`]).

pub mod caller;
pub mod client;
mod deed;
pub mod server;
pub mod tls;
pub mod wire;

/// The TCP port of agents unless `cluster.toml` says another.
pub const DEFAULT_PORT: u16 = 7117;
