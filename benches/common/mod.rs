//! What the benches share: figures and their table, a program that tells when it began, and agents in temporary
//! folders on loopback addresses.
//!
//! Figures, not tests: nothing here fails because a machine is slow. A target that is missed is said in the table.

#![allow(dead_code)] // each bench takes its part of it

pub mod agents;
pub mod bare;
pub mod black_hole;
pub mod cost;
pub mod databases;
pub mod figures;
pub mod fourteen;
pub mod peers;
pub mod program;
pub mod world;

use std::path::{Path, PathBuf};

/// Where Debian puts a daemon; `None` (and a line saying so) when it is not installed.
pub fn daemon(name: &str, package: &str) -> Option<PathBuf> {
    let found = ["/usr/sbin", "/usr/bin", "/usr/local/sbin", "/usr/local/bin"]
        .iter()
        .map(|folder| PathBuf::from(folder).join(name))
        .find(|path| path.exists());
    if found.is_none() {
        println!("missing: {name} is not installed (apt-get install {package}); its figures are left out\n");
    }
    found
}

/// A Redis that keeps nothing, listening on its node's address.
pub fn redis_unit(server: &Path, folder: &Path) -> String {
    let (server, folder) = (server.display(), folder.display());
    format!(
        "[set]\nevery = \"5s\"\n[run]\ncommand = [\"{server}\", \"--bind\", \"{{address}}\", \"--port\", \"6379\", \"--save\", \"\", \
         \"--appendonly\", \"no\", \"--dir\", \"{folder}\"]\n[ready]\nevery = \"{{every}}\"\nprobe = {{ kind = \"redis\" }}\n"
    )
}
