//! keepalived's own settings for one virtual address, read from the file that it was started with.

use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// Where keepalived looks when it is not told (keepalived(8)).
pub const DEFAULT_FILE: &str = "/etc/keepalived/keepalived.conf";
/// No such file is larger; a larger one is not read.
pub const MAX_FILE: u64 = 4 << 20;

/// What decides who holds an address: of the `vrrp_instance` that has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    pub vrid: u32,
    pub priority: u32,
    pub interface: String,
    pub unicast_source: Option<IpAddr>,
    /// Empty means multicast, whatever was meant.
    pub peers: Vec<IpAddr>,
    /// Sorted, without prefixes.
    pub addresses: Vec<String>,
}

/// The file that a command of keepalived names, by `-f` or `--use-file`.
pub fn file_of(command: &[String]) -> &str {
    let mut words = command.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "-f" | "--use-file" => return words.next().map_or(DEFAULT_FILE, String::as_str),
            _ => {
                let glued = word.strip_prefix("--use-file=").or_else(|| word.strip_prefix("-f"));
                if let Some(file) = glued.filter(|f| f.starts_with('/')) {
                    return file;
                }
            }
        }
    }
    DEFAULT_FILE
}

/// The settings for an address in the text of keepalived.conf(5).
///
/// # Errors
/// The sentence that says what is missing.
pub fn read(text: &str, vip: IpAddr) -> Result<Settings, String> {
    let mut words = text.lines().map(words).filter(|words| !words.is_empty());
    let mut includes = false;
    while let Some(line) = words.next() {
        includes |= line[0] == "include";
        if line[0] != "vrrp_instance" {
            continue;
        }
        let settings = instance(&mut words);
        if settings.addresses.iter().any(|a| a.parse() == Ok(vip)) {
            return Ok(settings);
        }
    }
    let included = if includes { "; files that it includes are not read" } else { "" };
    Err(format!("no vrrp_instance has {vip}{included}"))
}

/// Up to the end of its block.
fn instance<'a>(lines: &mut impl Iterator<Item = Vec<&'a str>>) -> Settings {
    let mut found = Settings { priority: 100, ..Settings::default() };
    let mut blocks: Vec<String> = vec!["vrrp_instance".into()];
    for line in lines.by_ref() {
        let value = line.get(1).copied().unwrap_or_default();
        match (blocks.last().map_or("", String::as_str), line[0]) {
            (_, "}") => {
                blocks.pop();
                if blocks.is_empty() {
                    break;
                }
                continue;
            }
            ("vrrp_instance", "virtual_router_id") => found.vrid = value.parse().unwrap_or_default(),
            ("vrrp_instance", "priority") => found.priority = value.parse().unwrap_or_default(),
            ("vrrp_instance", "interface") => found.interface = value.to_owned(),
            ("vrrp_instance", "unicast_src_ip") => found.unicast_source = value.parse().ok(),
            ("unicast_peer", peer) => found.peers.extend(peer.parse::<IpAddr>()),
            ("virtual_ipaddress", address) => {
                let plain = address.split('/').next().unwrap_or_default();
                found.addresses.push(plain.to_owned());
            }
            _ => {}
        }
        if line.last() == Some(&"{") {
            blocks.push(line[0].to_owned());
        }
    }
    found.addresses.sort();
    found
}

/// The words of a line, its comment left out.
fn words(line: &str) -> Vec<&str> {
    let line = line.split(['!', '#']).next().unwrap_or_default();
    line.split_whitespace().map(|word| word.trim_matches('"')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "global_defs {\n  router_id lvs1\n}\nvrrp_instance other {\n  virtual_router_id 7\n  virtual_ipaddress {\n    10.0.0.7\n  }\n}\n\
        vrrp_instance www { ! the site\n  interface eth0\n  virtual_router_id 51\n  priority 150 # first\n  authentication {\n    auth_type PASS\n    auth_pass secret\n  }\n\
        \x20 unicast_src_ip 10.0.0.1\n  unicast_peer {\n    10.0.0.2\n    ! 10.0.0.3\n  }\n  virtual_ipaddress {\n    10.0.0.100/24 dev eth0\n  }\n}\n";

    #[test]
    fn the_instance_that_has_the_address_is_read() {
        let settings = read(FILE, "10.0.0.100".parse().unwrap()).unwrap();
        let wanted = Settings {
            vrid: 51,
            priority: 150,
            interface: "eth0".into(),
            unicast_source: Some("10.0.0.1".parse().unwrap()),
            peers: vec!["10.0.0.2".parse().unwrap()],
            addresses: vec!["10.0.0.100".into()],
        };
        assert_eq!(settings, wanted);
        let none = read(FILE, "10.0.0.9".parse().unwrap()).unwrap_err();
        assert_eq!(none, "no vrrp_instance has 10.0.0.9");
    }

    #[test]
    fn the_file_is_the_one_that_the_command_names() {
        let of =
            |words: &[&str]| file_of(&words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>()).to_owned();
        assert_eq!(of(&["keepalived", "--use-file", "/a"]), "/a");
        assert_eq!(of(&["keepalived", "-n", "-f", "/a"]), "/a");
        assert_eq!(of(&["keepalived", "--use-file=/a"]), "/a");
        assert_eq!(of(&["keepalived", "-n"]), DEFAULT_FILE);
    }
}
