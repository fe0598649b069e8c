//! Ports that somebody else has.

use super::{About, Diagnosis, Patient};
use crate::leftover::{listening_row, socket_inode};
use crate::model::{Ask, Probe};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs;
use std::net::SocketAddr;
use std::path::Path;

pub fn examine(patient: &Patient) -> Vec<Diagnosis> {
    let node = patient.cluster.node(patient.node);
    let mut wanted: BTreeMap<SocketAddr, String> = BTreeMap::new();
    for ix in &node.instances {
        let instance = patient.cluster.instance(*ix);
        if patient.running.contains(&instance.name.to_string()) {
            continue;
        }
        let Probe::Ask(question) = &instance.unit.ready.local else { continue };
        if matches!(question.ask, Ask::Udp { .. } | Ask::Dns { .. }) {
            continue; // only TCP is looked at
        }
        let here = |a: &SocketAddr| a.ip() == node.address || a.ip().is_loopback();
        if let Some(address) = question.address().filter(here) {
            wanted.insert(address, instance.name.to_string());
        }
    }
    if wanted.is_empty() {
        return Vec::new();
    }
    let listeners = listeners(&patient.under("/proc/net"));
    let taken: Vec<(SocketAddr, &String, u64)> = wanted
        .iter()
        .filter_map(|(address, name)| {
            let by = listeners.iter().find(|(at, _)| is_in_the_way(*at, *address))?;
            Some((*address, name, by.1))
        })
        .collect();
    let owners = owners(&patient.under("/proc"), &taken.iter().map(|(.., inode)| *inode).collect());
    let tell = |(address, name, inode): (SocketAddr, &String, u64)| {
        let (who, fix) = match owners.get(&inode).and_then(BTreeSet::first) {
            Some(pid) => {
                let comm =
                    fs::read_to_string(patient.under(&format!("/proc/{pid}/comm"))).unwrap_or_default();
                (format!("{} (pid {pid})", comm.trim()), format!("ps -fp {pid}; systemctl status {pid}"))
            }
            None => ("somebody".to_owned(), format!("ss -ltnp sport = :{}", address.port())),
        };
        let what = format!("{who} listens on port {}, which {name} wants", address.port());
        patient.found(
            About::Port,
            what,
            "it starts and finds its port taken, or its probe is answered by a stranger",
            fix,
        )
    };
    taken.into_iter().map(tell).collect()
}

/// Whether a listener keeps another from listening there.
fn is_in_the_way(listener: SocketAddr, wanted: SocketAddr) -> bool {
    listener.port() == wanted.port() && (listener.ip().is_unspecified() || listener.ip() == wanted.ip())
}

/// Who listens for TCP: the address, and the socket's inode.
pub fn listeners(net: &Path) -> Vec<(SocketAddr, u64)> {
    let tables = ["tcp", "tcp6"].map(|table| fs::read_to_string(net.join(table)).unwrap_or_default());
    tables
        .iter()
        .flat_map(|table| table.lines().skip(1))
        .filter_map(listening_row)
        .map(|(inode, at)| (at, inode))
        .collect()
}

/// The processes that hold these sockets, lowest number first, where we may look.
pub fn owners(proc: &Path, inodes: &HashSet<u64>) -> HashMap<u64, BTreeSet<u32>> {
    let mut found: HashMap<u64, BTreeSet<u32>> = HashMap::new();
    if inodes.is_empty() {
        return found;
    }
    for process in fs::read_dir(proc).into_iter().flatten().flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        for descriptor in fs::read_dir(process.path().join("fd")).into_iter().flatten().flatten() {
            let Ok(target) = fs::read_link(descriptor.path()) else { continue };
            if let Some(inode) = socket_inode(&target).filter(|inode| inodes.contains(inode)) {
                found.entry(inode).or_default().insert(pid);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::tests::{cluster, patient};

    #[test]
    fn a_listener_is_found_with_who_it_is() {
        let here = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = here.local_addr().unwrap();
        let all = listeners(Path::new("/proc/self/net"));
        let inode = all.iter().find(|(at, _)| *at == address).expect("our own listener").1;
        let owners = owners(Path::new("/proc"), &[inode].into());
        assert!(owners[&inode].contains(&std::process::id()));
    }

    #[test]
    fn a_listener_of_all_addresses_is_in_the_way_and_one_of_another_is_not() {
        assert!(is_in_the_way("0.0.0.0:80".parse().unwrap(), "10.0.0.1:80".parse().unwrap()));
        assert!(!is_in_the_way("10.0.0.2:80".parse().unwrap(), "10.0.0.1:80".parse().unwrap()));
    }

    #[test]
    fn a_stranger_on_a_port_is_named_and_the_instance_itself_is_not() {
        let cluster = cluster();
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("proc/net")).unwrap();
        let row = "head\n   0: 00000000:0050 00000000:0000 0A 0:0 0:0 0 0 0 77 1\n";
        fs::write(dir.path().join("proc/net/tcp"), row).unwrap();
        let mut patient = patient(&cluster, dir.path());
        let found = examine(&patient);
        assert_eq!(found[0].what, "somebody listens on port 80, which web@n1 wants");
        patient.running.push("web@n1".into());
        assert!(examine(&patient).is_empty());
    }
}
