//! Machines on one switch: a network namespace each, with a cable.

use std::process::Command;

pub struct Switch {
    prefix: String,
    nodes: Vec<String>,
}

impl Switch {
    /// Each machine with its address, all in one /24.
    pub fn new(name: &str, nodes: &[(&str, &str)]) -> Switch {
        let mut switch = Switch { prefix: format!("clusterd-s{}-{name}", std::process::id()), nodes: vec![] };
        let own = switch.namespace("switch");
        ip(&["netns", "add", &own]);
        switch.nodes.push("switch".into());
        ip(&["-n", &own, "link", "add", "lab", "type", "bridge"]);
        ip(&["-n", &own, "link", "set", "lab", "up"]);
        for (node, address) in nodes {
            let there = switch.namespace(node);
            ip(&["netns", "add", &there]);
            switch.nodes.push((*node).into());
            ip(&["-n", &own, "link", "add", node, "type", "veth", "peer", "name", "eth0", "netns", &there]);
            ip(&["-n", &own, "link", "set", node, "master", "lab", "up"]);
            ip(&["-n", &there, "addr", "add", &format!("{address}/24"), "dev", "eth0"]);
            ip(&["-n", &there, "link", "set", "lo", "up"]);
            ip(&["-n", &there, "link", "set", "eth0", "up"]);
        }
        switch
    }

    fn namespace(&self, node: &str) -> String {
        format!("{}-{node}", self.prefix)
    }

    /// A command on one of the machines.
    pub fn on(&self, node: &str, command: &Command) -> Command {
        let mut inside = Command::new("nsenter");
        inside.arg(format!("--net=/run/netns/{}", self.namespace(node)));
        inside.arg(command.get_program()).args(command.get_args());
        inside.envs(command.get_envs().filter_map(|(key, value)| Some((key, value?))));
        inside
    }

    /// nft on one of the machines.
    pub fn nft(&self, node: &str, commands: &str) {
        let mut nft = Command::new("nft");
        let done = self.on(node, nft.arg(commands)).status();
        assert!(done.unwrap().success(), "nft {commands}");
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        for node in &self.nodes {
            let _ = Command::new("ip").args(["netns", "del", &self.namespace(node)]).status();
        }
    }
}

fn ip(words: &[&str]) {
    let done = Command::new("ip").args(words).status();
    assert!(done.unwrap().success(), "ip {}", words.join(" "));
}
