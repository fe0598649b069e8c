//! Two directors with real keepalived and a web server's node, each in a network namespace, on one switch, with a real agent
//! on each; and a client beside them, without one.

use crate::agents::{Cluster, wait};
use clusterd::process::Tree;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;

pub const VIP: &str = "10.77.0.100";
/// The second address, where there is one.
pub const FTP: &str = "10.77.0.101";
pub const VIP_SIX: &str = "fd77::100";
const CLIENT: (&str, u8) = ("client", 9);
const NODES: [(&str, u8); 3] = [("lvs1", 1), ("lvs2", 2), ("web1", 3)];

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    fn address(self, number: u8) -> String {
        match self {
            Family::V4 => format!("10.77.0.{number}"),
            Family::V6 => format!("fd77::{number}"),
        }
    }
}

pub struct Scene {
    pub cluster: Cluster,
    prefix: String,
    family: Family,
    /// The folders in which an agent looks for programs, where they are not the usual ones.
    paths: HashMap<String, PathBuf>,
    /// What runs as keepalived.
    pub keepalived: String,
}

impl Scene {
    /// Agents are not started yet; `unicast` tells how keepalived is set up, `more` are lines of `[vips.www]`.
    pub fn new(name: &str, unicast: bool, more: &str) -> Scene {
        let vips = format!(
            "[vips.www]\naddress = \"{VIP}/24\"\non = [\"lvs1\", \"lvs2\"]\nto = \"web\"\nport = 80\n{more}"
        );
        let scene = Scene::of(name, Family::V4, &vips);
        scene.set_up(unicast);
        scene
    }

    /// With these `[vips]`. Nobody writes keepalived's files: the agents are to.
    pub fn of(name: &str, family: Family, vips: &str) -> Scene {
        // keepalived gets a /tmp of its own, where it tells its state: so the folder is to be elsewhere.
        let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"));
        let scene = Scene {
            cluster: Cluster::new_in(folder, name),
            prefix: format!("clusterd-d{}-{name}", std::process::id()),
            family,
            paths: HashMap::new(),
            keepalived: "/usr/sbin/keepalived".to_owned(),
        };
        let switch = scene.namespace("switch");
        ip(&["netns", "add", &switch]);
        ip(&["-n", &switch, "link", "add", "lab", "type", "bridge", "mcast_snooping", "0"]);
        ip(&["-n", &switch, "link", "set", "lab", "up"]);
        for (node, number) in NODES.into_iter().chain([CLIENT]) {
            let own = scene.namespace(node);
            ip(&["netns", "add", &own]);
            ip(&["-n", &switch, "link", "add", node, "type", "veth", "peer", "name", "eth0", "netns", &own]);
            ip(&["-n", &switch, "link", "set", node, "master", "lab", "up"]);
            let address = family.address(number);
            match family {
                Family::V4 => ip(&["-n", &own, "addr", "add", &format!("{address}/24"), "dev", "eth0"]),
                Family::V6 => {
                    ip(&["-n", &own, "addr", "add", &format!("{address}/64"), "dev", "eth0", "nodad"])
                }
            }
            ip(&["-n", &own, "link", "set", "lo", "up"]);
            ip(&["-n", &own, "link", "set", "eth0", "up"]);
        }
        scene.nft("switch", "add table bridge cloud; add chain bridge cloud through { type filter hook forward priority 0; policy accept; }");
        scene.describe(vips);
        scene
    }

    /// Writes the cluster file and its units.
    pub fn describe(&self, vips: &str) {
        let file = format!(
            "[cluster]\nname = \"NAME\"\ninsecure = true\n\n{vips}\n\n\
             [nodes]\nlvs = {{ lvs1 = \"{}\", lvs2 = \"{}\" }}\nweb = {{ web1 = \"{}\" }}\n\n\
             [services]\nkeepalived = {{ on = \"lvs\" }}\nweb = {{ on = \"web\" }}\n",
            self.family.address(1),
            self.family.address(2),
            self.family.address(3)
        );
        let keepalived = "[run]\ncommand = [\"KEEPALIVED\", \"--dont-fork\", \"--log-console\", \"--vrrp\", \"--use-file\", \"DIR/{node}.conf\", \
             \"--pid\", \"DIR/{node}.pid\", \"--vrrp_pid\", \"DIR/{node}-vrrp.pid\"]\nprivate_tmp = true\n\n[restart]\ndelay = \"8s\"\n\n\
             [ready]\nprobe = { kind = \"running\" }\n\n[leftovers]\npidfiles = [\"DIR/{node}.pid\", \"DIR/{node}-vrrp.pid\"]\nvips = true\n";
        let listen = if self.family == Family::V4 { "{address}:80" } else { "[{address}]:80" };
        let web = format!(
            "[run]\ncommand = [\"PROGRAM\", \"stand-in\", \"http\", \"--listen\", \"{listen}\"]\n\n[ready]\nprobe = {{ kind = \"http\", port = 80 }}\n"
        );
        let keepalived = keepalived.replace("KEEPALIVED", &self.keepalived);
        self.cluster.write(&file, &[("keepalived", &keepalived), ("web", &web)]);
    }

    /// Writes keepalived's files. keepalived reads them at its start, or when it is told to.
    pub fn set_up(&self, unicast: bool) {
        for (i, (node, own)) in NODES[..2].iter().enumerate() {
            let (own, peer) = (self.family.address(*own), self.family.address(NODES[1 - i].1));
            let unicast = if unicast {
                format!("  unicast_src_ip {own}\n  unicast_peer {{\n    {peer}\n  }}\n")
            } else {
                String::new()
            };
            let text = format!(
                "global_defs {{\n  router_id {node}\n}}\nvrrp_instance www {{\n  state BACKUP\n  interface eth0\n  virtual_router_id 51\n  priority {}\n  advert_int 1\n{unicast}\
                 \x20 virtual_ipaddress {{\n    {VIP}/24\n  }}\n}}\n",
                150 - 10 * i
            );
            fs::write(self.cluster.dir().join(format!("{node}.conf")), text).unwrap();
        }
    }

    pub fn start(&mut self) {
        for (node, _) in NODES {
            let agent = self.cluster.agent(node);
            let mut inside = Command::new("nsenter");
            inside.arg(format!("--net=/run/netns/{}", self.namespace(node)));
            inside.arg(agent.get_program()).args(agent.get_args());
            if let Some(folder) = self.paths.get(node) {
                inside = Command::new("env");
                inside.arg(format!("PATH={}", folder.display())).arg("/usr/bin/nsenter");
                inside.arg(format!("--net=/run/netns/{}", self.namespace(node)));
                inside.arg(agent.get_program()).args(agent.get_args());
            }
            self.cluster.start_as(node, inside);
        }
    }

    /// A node without nft, whose iptables and ip6tables are the programs of this flavour (`legacy`, `nft`).
    pub fn without_nft(&mut self, node: &str, flavour: &str) {
        let folder = self.cluster.dir().join(format!("{node}-bin"));
        fs::create_dir(&folder).unwrap();
        for name in ["iptables", "iptables-restore", "iptables-save", "ip6tables", "ip6tables-restore"] {
            symlink(format!("/usr/sbin/xtables-{flavour}-multi"), folder.join(name)).unwrap();
        }
        self.paths.insert(node.to_owned(), folder);
    }

    /// Runs a shell's line in a node's namespace; what it printed.
    pub fn inside(&self, node: &str, script: &str) -> String {
        let done = Command::new("ip")
            .args(["netns", "exec", &self.namespace(node), "bash", "-c", script])
            .output()
            .unwrap();
        String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr)
    }

    /// `clusterctl render` with these words, in a node's namespace.
    pub fn rendered(&self, node: &str, words: &[&str]) -> String {
        let (program, file) = (env!("CARGO_BIN_EXE_clusterctl"), self.cluster.file());
        self.inside(node, &format!("{program} render {} --config {}", words.join(" "), file.display()))
    }

    /// The number of the keepalived that runs on a node.
    pub fn keepalived(&self, node: &str) -> String {
        fs::read_to_string(self.cluster.dir().join(format!("{node}.pid"))).unwrap().trim().to_owned()
    }

    /// The MAC of a node's card.
    pub fn mac(&self, node: &str) -> String {
        self.inside(node, "cat /sys/class/net/eth0/address").trim().to_owned()
    }

    /// Who answers the client's question for an address, each time anew.
    pub fn answers(&self, address: &str) -> String {
        let ask = format!(
            "ip neigh flush dev eth0 2>/dev/null; timeout 1 bash -c '</dev/tcp/{address}/80' 2>/dev/null; ip neigh show {address}"
        );
        let shown = self.inside("client", &ask);
        shown.split_whitespace().skip_while(|w| *w != "lladdr").nth(1).unwrap_or("nobody").to_owned()
    }

    pub fn namespace(&self, node: &str) -> String {
        format!("{}-{node}", self.prefix)
    }

    /// nft in a node's namespace, or in the switch's.
    pub fn nft(&self, node: &str, commands: &str) {
        let done =
            Command::new("ip").args(["netns", "exec", &self.namespace(node), "nft", commands]).status();
        assert!(done.unwrap().success(), "nft {commands}");
    }

    /// Pulls a node's cable out, or puts it in again.
    pub fn plug(&self, node: &str, plugged: bool) {
        let way = if plugged { "up" } else { "down" };
        ip(&["-n", &self.namespace("switch"), "link", "set", node, way]);
    }

    /// What the network does not carry, until the next such call; as nft's bridge family has it.
    pub fn drops(&self, rules: &[&str]) {
        self.nft("switch", "flush chain bridge cloud through");
        for rule in rules {
            self.nft("switch", &format!("add rule bridge cloud through {rule} drop"));
        }
    }

    /// Whether a director's card has the address, by the kernel's word.
    pub fn holds(&self, node: &str, address: &str) -> bool {
        let shown =
            Command::new("ip").args(["-n", &self.namespace(node), "-br", "addr", "show", "eth0"]).output();
        String::from_utf8_lossy(&shown.unwrap().stdout).contains(&format!("{address}/"))
    }

    pub fn holders(&self) -> Vec<&'static str> {
        self.holders_of(VIP)
    }

    pub fn holders_of(&self, address: &str) -> Vec<&'static str> {
        NODES[..2].iter().map(|(node, _)| *node).filter(|node| self.holds(node, address)).collect()
    }

    pub fn wait_held_by(&self, wanted: &[&str]) {
        wait(&format!("{wanted:?} to hold the address"), || (self.holders() == wanted).then_some(()));
    }

    /// Sends a signal to all processes of a director's keepalived.
    pub fn signal(&self, node: &str, signal: Signal) {
        let tree: Tree = self.cluster.tree(node).unwrap();
        let members = tree.members(&format!("keepalived@{node}")).unwrap();
        assert!(!members.is_empty(), "keepalived runs on {node}");
        members.iter().for_each(|pid| kill(Pid::from_raw(*pid), signal).unwrap());
    }

    /// The events of a node's agent of this kind, oldest first: moment in nanoseconds, and text.
    pub fn events(&self, node: &str, what: &str) -> Vec<(u64, String)> {
        let wanted = self.cluster.events(node).into_iter().filter(|e| e.what == what);
        wanted.map(|e| (e.at.0, e.text)).collect()
    }

    /// Waits for one more event of a kind than there were; it.
    pub fn another(&self, node: &str, what: &str, before: usize) -> (u64, String) {
        wait(&format!("{node} to say {what} once more than {before} times"), || {
            self.events(node, what).get(before).cloned()
        })
    }

    /// Waits until an alarm or what was found out about it says so; the moment.
    pub fn told(&self, node: &str, part: &str) -> u64 {
        wait(&format!("{node} to say: {part}"), || {
            let all = [self.events(node, "vip-alarm"), self.events(node, "vip-diagnosis")].concat();
            all.iter().find(|(_, text)| text.contains(part)).map(|(at, _)| *at)
        })
    }

    pub fn count(&self, node: &str, what: &str) -> usize {
        self.events(node, what).len()
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        for node in ["switch", "lvs1", "lvs2", "web1", CLIENT.0] {
            let _ = Command::new("ip").args(["netns", "del", &self.namespace(node)]).status();
        }
    }
}

fn ip(words: &[&str]) {
    let done = Command::new("ip").args(words).output().unwrap();
    assert!(done.status.success(), "ip {words:?}: {}", String::from_utf8_lossy(&done.stderr));
}
