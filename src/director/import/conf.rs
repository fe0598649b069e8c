//! What a keepalived.conf means, as far as directors go.

use super::Finding;
use super::parse::Statement;
use std::net::IpAddr;

/// The most findings and blocks that are kept of one file.
const MAX_BLOCKS: usize = 1000;

/// A value and the line where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct At<T> {
    pub is: T,
    pub line: u32,
}

/// One file.
#[derive(Clone, Debug, Default)]
pub struct Conf {
    pub file: String,
    pub router_id: Option<At<String>>,
    pub strict: Option<u32>,
    pub instances: Vec<Instance>,
    pub servers: Vec<Server>,
    pub includes: Vec<u32>,
}

/// `vrrp_instance`
#[derive(Clone, Debug, Default)]
pub struct Instance {
    pub name: String,
    pub line: u32,
    pub state: Option<At<String>>,
    pub interface: Option<At<String>>,
    pub vrid: Option<At<i64>>,
    pub priority: Option<At<i64>>,
    pub advert: Option<At<String>>,
    pub source: Option<At<IpAddr>>,
    pub peers: Option<At<Vec<IpAddr>>>,
    pub vips: Vec<At<Address>>,
    pub auth: Option<At<(String, String)>>,
    pub nopreempt: Option<u32>,
}

/// An address with its prefix, where one is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    pub ip: IpAddr,
    pub prefix: Option<u8>,
}

/// `virtual_server`
#[derive(Clone, Debug, Default)]
pub struct Server {
    pub line: u32,
    pub address: Option<IpAddr>,
    pub port: Option<u16>,
    pub mark: Option<u32>,
    pub scheduler: Option<String>,
    pub method: Option<String>,
    pub persistence: Option<u64>,
    pub reals: Vec<Real>,
}

/// `real_server`
#[derive(Clone, Debug)]
pub struct Real {
    pub line: u32,
    pub address: IpAddr,
    pub port: Option<u16>,
    pub weight: Option<u32>,
    pub is_checked: bool,
}

impl Instance {
    /// The addresses that it is about, in order of value.
    pub fn addresses(&self) -> Vec<IpAddr> {
        let mut all: Vec<IpAddr> = self.vips.iter().map(|v| v.is.ip).collect();
        all.sort();
        all.dedup();
        all
    }
}

/// Blocks and words of the top level.
const TOP: &[&str] = &[
    "global_defs",
    "vrrp_instance",
    "vrrp_sync_group",
    "virtual_server",
    "virtual_server_group",
    "vrrp_script",
    "static_ipaddress",
    "static_routes",
    "static_rules",
    "include",
    "track_file",
    "vrrp_track_file",
    "SSL",
    "garp_group",
    "bfd_instance",
    "vrrp_track_process",
    "linkbeat_interfaces",
    "static_track_group",
    "net_namespace",
    "instance",
    "interface_up_down_delays",
];
/// Words of a `vrrp_instance`: those that matter here, and those that are near to one of them.
const INSIDE: &[&str] = &[
    "state",
    "interface",
    "virtual_router_id",
    "priority",
    "advert_int",
    "unicast_src_ip",
    "unicast_peer",
    "virtual_ipaddress",
    "authentication",
    "nopreempt",
    "mcast_src_ip",
    "preempt",
    "preempt_delay",
    "virtual_routes",
    "virtual_rules",
    "virtual_ipaddress_excluded",
    "mcast_dst_ip",
    "track_src_ip",
    "track_interface",
    "track_script",
    "track_file",
    "track_process",
    "track_bfd",
    "check_unicast_src",
    "unicast_ttl",
    "unicast_fault_no_peer",
    "native_ipv6",
    "notify",
    "notify_stop",
    "notify_fault",
    "notify_master",
    "notify_backup",
];

pub fn read(file: &str, statements: &[Statement], findings: &mut Vec<Finding>) -> Conf {
    let mut conf = Conf { file: file.to_owned(), ..Conf::default() };
    for one in statements {
        match one.key() {
            "global_defs" => {
                for inner in one.inside() {
                    match inner.key() {
                        "router_id" => conf.router_id = words(inner),
                        "vrrp_strict" => conf.strict = Some(inner.line),
                        _ => {}
                    }
                }
            }
            "vrrp_instance" if conf.instances.len() < MAX_BLOCKS => {
                conf.instances.push(instance(file, one, findings));
            }
            "virtual_server" if conf.servers.len() < MAX_BLOCKS => {
                conf.servers.push(server(file, one, findings));
            }
            "include" => conf.includes.push(one.line),
            key if key.starts_with(['$', '@', '~']) => {}
            key if !TOP.contains(&key) => unknown(file, one.line, key, TOP, findings),
            _ => {}
        }
    }
    conf
}

/// A word that is nearly a known one is a slip, and keepalived only logs it.
fn unknown(file: &str, line: u32, key: &str, known: &[&'static str], findings: &mut Vec<Finding>) {
    if let Some(near) = crate::model::nearest(key, known.iter().copied())
        && near != key
    {
        let words = format!("keepalived knows no `{}`, and goes on without it", printable(key));
        findings.push(Finding::error(file, line, words, format!("write `{near}`")));
    }
}

fn words(one: &Statement) -> Option<At<String>> {
    Some(At { is: printable(one.value()?), line: one.line })
}

/// Without control characters, and not longer than a line.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).take(100).collect()
}

fn number(
    file: &str,
    one: &Statement,
    range: std::ops::RangeInclusive<i64>,
    findings: &mut Vec<Finding>,
) -> Option<At<i64>> {
    let text = one.value().unwrap_or("");
    let is = text.parse::<i64>().ok().filter(|n| range.contains(n));
    if is.is_none() {
        let words = format!("`{}` is \"{}\"", one.key(), printable(text));
        let hint = format!("write a number from {} to {}", range.start(), range.end());
        findings.push(Finding::error(file, one.line, words, hint));
    }
    Some(At { is: is?, line: one.line })
}

fn ip(file: &str, text: &str, line: u32, findings: &mut Vec<Finding>) -> Option<IpAddr> {
    let ip = text.parse().ok();
    if ip.is_none() {
        let words = format!("\"{}\" is not an address", printable(text));
        findings.push(Finding::error(file, line, words, "write it in digits: names are not looked up"));
    }
    ip
}

fn instance(file: &str, block: &Statement, findings: &mut Vec<Finding>) -> Instance {
    let mut it =
        Instance { name: printable(block.value().unwrap_or("?")), line: block.line, ..Instance::default() };
    for one in block.inside() {
        match one.key() {
            "state" => it.state = words(one),
            "interface" => it.interface = words(one),
            "virtual_router_id" => it.vrid = number(file, one, 1..=255, findings),
            "priority" => it.priority = number(file, one, 1..=255, findings),
            "advert_int" => it.advert = words(one),
            "unicast_src_ip" => {
                it.source = one
                    .value()
                    .and_then(|text| ip(file, text, one.line, findings))
                    .map(|is| At { is, line: one.line });
            }
            "unicast_peer" => {
                // On one line, or one below the other.
                let inside = one.inside().iter().filter_map(|s| Some((s.words.first()?, s.line)));
                let peers = inside.filter_map(|(text, line)| ip(file, text, line, findings)).collect();
                it.peers = Some(At { is: peers, line: one.line });
            }
            "virtual_ipaddress" => {
                for inner in one.inside() {
                    it.vips.extend(address(file, inner, findings));
                }
            }
            "authentication" => {
                let of = |key| one.inside().iter().find(|s| s.key() == key).and_then(Statement::value);
                let pair =
                    (of("auth_type").unwrap_or("").to_owned(), of("auth_pass").unwrap_or("").to_owned());
                it.auth = Some(At { is: pair, line: one.line });
            }
            "nopreempt" => it.nopreempt = Some(one.line),
            key if !INSIDE.contains(&key) => unknown(file, one.line, key, INSIDE, findings),
            _ => {}
        }
    }
    it
}

fn address(file: &str, one: &Statement, findings: &mut Vec<Finding>) -> Option<At<Address>> {
    let text = one.key();
    let (host, prefix) = text.split_once('/').map_or((text, None), |(host, prefix)| (host, Some(prefix)));
    let ip = ip(file, host, one.line, findings)?;
    let most = if ip.is_ipv4() { 32 } else { 128 };
    let prefix = prefix.and_then(|p| p.parse::<u8>().ok()).filter(|p| *p <= most);
    Some(At { is: Address { ip, prefix }, line: one.line })
}

fn server(file: &str, block: &Statement, findings: &mut Vec<Finding>) -> Server {
    let mut it = Server { line: block.line, ..Server::default() };
    match (block.value(), block.words.get(2)) {
        (Some("fwmark"), mark) => it.mark = mark.and_then(|m| m.parse().ok()),
        (Some("group"), _) | (None, _) => {}
        (Some(host), port) => {
            it.address = ip(file, host, block.line, findings);
            it.port = port.and_then(|p| p.parse().ok());
        }
    }
    for one in block.inside() {
        let value = || one.value().map(printable);
        match one.key() {
            "lb_algo" | "lvs_sched" => it.scheduler = value(),
            "lb_kind" | "lvs_method" => it.method = value(),
            "persistence_timeout" => {
                it.persistence = Some(one.value().and_then(|v| v.parse().ok()).unwrap_or(360))
            }
            "real_server" if it.reals.len() < MAX_BLOCKS => {
                let Some(address) = one.value().and_then(|text| ip(file, text, one.line, findings)) else {
                    continue;
                };
                let weight = one.inside().iter().find(|s| s.key() == "weight").and_then(Statement::value);
                it.reals.push(Real {
                    line: one.line,
                    address,
                    port: one.words.get(2).and_then(|p| p.parse().ok()),
                    weight: weight.and_then(|w| w.parse().ok()),
                    is_checked: one.inside().iter().any(|s| {
                        s.key().ends_with("_CHECK") || s.key() == "HTTP_GET" || s.key() == "SSL_GET"
                    }),
                });
            }
            _ => {}
        }
    }
    it
}
