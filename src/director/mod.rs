//! Directors: who holds a virtual address, and what keepalived, IPVS and the firewall are told for it.
//!
//! Knows the model, and nothing of the engine.

pub mod import;
pub mod render;
