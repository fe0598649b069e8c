//! The lab's network: a bridge in a namespace of its own, and a cable to each host that is switched on.

use std::net::IpAddr;
use std::process::Command;

const SWITCH: &str = "clusterd-lab";
/// Hosts and switch share the prefix, so that a stale lab is found by it.
pub const PREFIX: &str = "clusterd-lab";

/// The switch.
pub struct Network;

impl Network {
    /// Makes the switch.
    pub fn new() -> Network {
        run("ip", &["netns", "add", SWITCH]);
        run("ip", &["-n", SWITCH, "link", "add", "lab", "type", "bridge"]);
        run("ip", &["-n", SWITCH, "link", "set", "lab", "up"]);
        Network
    }

    /// The namespace of a host.
    pub fn name(node: &str) -> String {
        format!("{PREFIX}-{node}")
    }

    /// Gives a host a network of its own with a cable to the switch.
    pub fn plug(&self, node: &str, address: IpAddr) {
        let name = Network::name(node);
        run("ip", &["netns", "add", &name]);
        // A machine keeps its network card over a power cut, so that the others' ARP tables stay right.
        let IpAddr::V4(v4) = address else { panic!("the lab is IPv4") };
        let [a, b, c, d] = v4.octets();
        let card = format!("02:00:{a:02x}:{b:02x}:{c:02x}:{d:02x}");
        let peer = ["type", "veth", "peer", "name", "eth0", "address", &card, "netns", &name];
        run("ip", &[&["-n", SWITCH, "link", "add", node][..], &peer].concat());
        run("ip", &["-n", SWITCH, "link", "set", node, "master", "lab", "up"]);
        run("ip", &["-n", &name, "addr", "add", &format!("{address}/16"), "dev", "eth0"]);
        run("ip", &["-n", &name, "link", "set", "lo", "up"]);
        run("ip", &["-n", &name, "link", "set", "eth0", "up"]);
    }

    /// Takes a host's network away, cable and all.
    pub fn unplug(&self, node: &str) {
        // The kernel takes namespaces down later, cables at once.
        run("ip", &["-n", SWITCH, "link", "del", node]);
        run("ip", &["netns", "del", &Network::name(node)]);
    }
}

/// Removes whatever network namespaces a lab has left.
pub fn remove_all() {
    let Ok(entries) = std::fs::read_dir("/run/netns") else { return };
    for name in entries.flatten().filter_map(|e| e.file_name().into_string().ok()) {
        if name == SWITCH || name.strip_prefix(PREFIX).is_some_and(|rest| rest.starts_with('-')) {
            run("ip", &["netns", "del", &name]);
        }
    }
}

/// Runs a tool that has to succeed.
pub fn run(program: &str, words: &[&str]) {
    let output = Command::new(program)
        .args(words)
        .output()
        .unwrap_or_else(|e| panic!("cannot run {program}: {e}; run tests/install"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {}: {said}", words.join(" "));
}
