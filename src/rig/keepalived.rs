//! keepalived: VRRP between the two directors, unicast, since cloud networks carry no multicast.

use super::{Directors, Laid, Nature, Placed, RigError, Site, command, files, missing, quoted, standin};
use std::net::IpAddr;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

const DAEMON: &str = "/usr/sbin/keepalived";
const NSENTER: &str = "/usr/bin/nsenter";
const IP: &str = "/usr/sbin/ip";

pub fn lay_out(site: &Site, placed: &Placed) -> Result<(Laid, Option<VrrpPair>), RigError> {
    if let Some(why) = absent(site) {
        return Ok((standin::running(site, "keepalived", why), None));
    }
    let (interface, pair) = match &site.options.directors {
        Directors::Interface(name) => (name.as_str(), None),
        Directors::OwnNamespaces => {
            ("eth0", Some(VrrpPair::join(placed.nodes.iter().map(|(name, _)| *name))?))
        }
    };
    let addresses: Vec<IpAddr> = match &pair {
        Some(pair) => pair.addresses(),
        None => placed.nodes.iter().map(|(_, address)| *address).collect(),
    };
    let vip = site.options.vip.as_deref().or(site.sample.vip()).unwrap_or("192.168.1.100/24");

    for (place, (node, _)) in placed.nodes.iter().enumerate() {
        let folder = site.instance_dir(placed.service, node);
        files::make_folder(&folder, &files::Owner::Me)?;
        let (own, priority) = (addresses[place], 150 - 10 * place);
        let peers =
            addresses.iter().filter(|a| **a != own).map(|a| format!("        {a}\n")).collect::<String>();
        let config = format!(
            "global_defs {{\n\
             \x20   router_id {node}\n\
             }}\n\
             vrrp_instance www {{\n\
             \x20   state BACKUP\n\
             \x20   interface {interface}\n\
             \x20   virtual_router_id 51\n\
             \x20   priority {priority}\n\
             \x20   advert_int 1\n\
             \x20   unicast_src_ip {own}\n\
             \x20   unicast_peer {{\n{peers}    }}\n\
             \x20   virtual_ipaddress {{\n        {vip}\n    }}\n\
             }}\n"
        );
        files::write(&folder.join("keepalived.conf"), &config, &files::Owner::Me, 0o644)?;
    }

    let here = site.unit_dir();
    let mut words = Vec::new();
    if let Some(pair) = &pair {
        words.extend([NSENTER.to_owned(), format!("--net=/run/netns/{}{{node}}", pair.prefix)]);
    }
    words.extend([DAEMON, "--dont-fork", "--log-console", "--vrrp"].map(str::to_owned));
    words.extend(["--use-file".to_owned(), format!("{here}/keepalived.conf")]);
    words.extend(["--pid".to_owned(), format!("{here}/keepalived.pid")]);
    words.extend(["--vrrp_pid".to_owned(), format!("{here}/vrrp.pid")]);
    let unit = format!(
        "# keepalived, VRRP only, in the foreground. It takes any live process with the number in its pid file for\n\
         # itself, says so, and exits with 0.\n\
         [run]\n\
         command = {command}\n\
         pidfile = {pidfile}\n\
         executables = [\"{DAEMON}\"]\n\
         \n\
         [ready]\n\
         probe = {{ kind = \"running\" }}\n\
         \n\
         [leftovers]\n\
         pidfiles = [{child}]\n\
         vips = true\n",
        command = command(words),
        pidfile = quoted(format!("{here}/keepalived.pid")),
        child = quoted(format!("{here}/vrrp.pid")),
    );
    Ok((Laid { unit, nature: Nature::Real(DAEMON.into()) }, pair))
}

fn absent(site: &Site) -> Option<String> {
    if let Some(why) = missing(&[DAEMON], "keepalived") {
        return Some(why);
    }
    if site.options.directors == Directors::OwnNamespaces {
        if !nix::unistd::geteuid().is_root() {
            return Some("keepalived needs root, and refuses VRRP on lo: run this as root".to_owned());
        }
        return missing(&[IP], "iproute2");
    }
    None
}

/// Two network namespaces joined by a cable, for two real keepalived on one machine. They go when this is dropped.
#[derive(Debug)]
pub struct VrrpPair {
    prefix: String,
    /// Those that were made, by full name.
    made: Vec<String>,
}

impl VrrpPair {
    /// Makes a namespace for each of the two nodes, with `eth0` between them.
    fn join<'a>(nodes: impl Iterator<Item = &'a str>) -> Result<VrrpPair, RigError> {
        static PAIRS: AtomicU32 = AtomicU32::new(0);
        let number = PAIRS.fetch_add(1, Ordering::Relaxed);
        let mut pair =
            VrrpPair { prefix: format!("clusterd-{}-{number}-", std::process::id()), made: Vec::new() };
        for node in nodes {
            let name = format!("{}{node}", pair.prefix);
            // A namespace of that name is of a process that was killed: its number is ours now.
            let _ = ip(&["netns", "del", &name]);
            ip(&["netns", "add", &name])?;
            pair.made.push(name);
        }
        let [one, two] = &pair.made[..] else {
            return Err(RigError::Sample("keepalived is set up for two directors".into()));
        };
        ip(&["-n", one, "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", two])?;
        for (name, address) in pair.made.iter().zip(pair.addresses()) {
            ip(&["-n", name, "addr", "add", &format!("{address}/24"), "dev", "eth0"])?;
            ip(&["-n", name, "link", "set", "eth0", "up"])?;
            ip(&["-n", name, "link", "set", "lo", "up"])?;
        }
        Ok(pair)
    }

    /// Their addresses on the cable, out of a net that is kept for documentation: nothing else is reached from there.
    fn addresses(&self) -> Vec<IpAddr> {
        (1..=self.made.len()).map(|i| IpAddr::from([192, 0, 2, i as u8])).collect()
    }
}

impl Drop for VrrpPair {
    fn drop(&mut self) {
        for name in &self.made {
            // Nobody is left to tell of a failure, and the next reboot clears it.
            let _ = ip(&["netns", "del", name]);
        }
    }
}

fn ip(words: &[&str]) -> Result<(), RigError> {
    files::run(Command::new(IP).args(words))
}
