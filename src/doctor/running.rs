//! What runs on this machine and where it listens, whoever started it.

use super::ports::{listeners, owners};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// One process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Running {
    pub pid: u32,
    /// What its program is called: by the kernel, by its executable, by its first argument.
    pub names: Vec<String>,
    /// Its arguments.
    pub line: String,
    /// The TCP ports that it listens on, in order.
    pub ports: Vec<u16>,
}

/// The most of a command line that is read, in bytes.
const MAX_LINE: usize = 16 << 10;

/// All processes that have a program; `proc` is where the kernel shows them.
pub fn running(proc: &Path) -> Vec<Running> {
    let listeners = listeners(&proc.join("net"));
    let owners = owners(proc, &listeners.iter().map(|(_, inode)| *inode).collect());
    let mut found = Vec::new();
    for process in fs::read_dir(proc).into_iter().flatten().flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let mut line = fs::read(process.path().join("cmdline")).unwrap_or_default();
        if line.is_empty() {
            continue; // a thread of the kernel
        }
        line.truncate(MAX_LINE);
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        let base = |text: &str| text.rsplit('/').next().unwrap_or_default().to_owned();
        let exe = fs::read_link(process.path().join("exe")).ok();
        let exe = exe.and_then(|path| Some(base(path.to_str()?.trim_end_matches(" (deleted)"))));
        let comm = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
        let first = line.split_ascii_whitespace().next().unwrap_or_default();
        let names: BTreeSet<String> =
            [exe.unwrap_or_default(), comm.trim().to_owned(), base(first.trim_end_matches(':'))].into();
        let own = |(at, inode): &(std::net::SocketAddr, u64)| {
            owners.get(inode).is_some_and(|pids| pids.contains(&pid)).then_some(at.port())
        };
        let ports: BTreeSet<u16> = listeners.iter().filter_map(own).collect();
        found.push(Running {
            pid,
            names: names.into_iter().filter(|name| !name.is_empty()).collect(),
            line: line.trim().to_owned(),
            ports: ports.into_iter().collect(),
        });
    }
    found
}
