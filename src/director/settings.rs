//! keepalived's own settings for one virtual address, read from the file that it was started with.

use super::import::{Instance, instances};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// Where keepalived looks when it is not told (keepalived(8)).
pub const DEFAULT_FILE: &str = "/etc/keepalived/keepalived.conf";
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
    /// The time between two adverts, in milliseconds.
    #[serde(default = "a_second")]
    pub advert_ms: u64,
}

fn a_second() -> u64 {
    1000
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
    let (instances, includes) = instances(text);
    let found = instances.into_iter().find(|i| i.vips.iter().any(|v| v.is.ip == vip));
    let included = if includes { "; files that it includes are not read" } else { "" };
    found.map(Settings::from).ok_or_else(|| format!("no vrrp_instance has {vip}{included}"))
}

/// What is not written is what keepalived takes then.
impl From<Instance> for Settings {
    fn from(it: Instance) -> Settings {
        let number = |n: Option<i64>, unsaid| n.and_then(|n| u32::try_from(n).ok()).unwrap_or(unsaid);
        let advert = it.advert.as_ref().and_then(|a| a.is.parse::<f64>().ok());
        // keepalived.conf(5): 0.01 to 4095 seconds.
        let advert = advert.filter(|s| (0.01..=4095.0).contains(s)).unwrap_or(1.0);
        Settings {
            vrid: number(it.vrid.as_ref().map(|v| v.is), 0),
            priority: number(it.priority.as_ref().map(|p| p.is), 100),
            interface: it.interface.as_ref().map(|i| i.is.clone()).unwrap_or_default(),
            unicast_source: it.source.as_ref().map(|s| s.is),
            peers: it.peers.as_ref().map(|p| p.is.clone()).unwrap_or_default(),
            addresses: it.addresses().iter().map(ToString::to_string).collect(),
            advert_ms: (advert * 1000.0) as u64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "global_defs {\n  router_id lvs1\n}\nvrrp_instance other {\n  virtual_router_id 7\n  virtual_ipaddress {\n    10.0.0.7\n  }\n}\n\
        vrrp_instance www { ! the site\n  interface eth0\n  virtual_router_id 51\n  priority 150 # first\n  advert_int 1.0\n  authentication {\n    auth_type PASS\n    auth_pass secret\n  }\n\
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
            advert_ms: 1000,
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
