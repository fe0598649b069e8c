//! Whether the machine's own packet filter is in the way of VRRP: judged from what `nft -j list ruleset` prints
//! (libnftables-json(5)). What iptables-nft has made is among it; what iptables-legacy has made is not. Where there is no
//! nft, from what `iptables-save` prints.

use super::iptables;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The protocol number of VRRP (RFC 5798), and what nft calls it.
const VRRP: u64 = 112;
const VRRP_NAME: &str = "vrrp";
/// Where adverts go without `unicast_peer` (RFC 9568, 5.1).
const GROUP: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 18);
const GROUP_SIX: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x12);
/// How deep chains may jump (nft allows 16).
const DEPTH: u8 = 16;
/// The most rules that are told.
const MOST: usize = 4;

/// What the packet filter does to VRRP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Firewall {
    Clear,
    /// The rules that drop it, each as a few words.
    Blocks(Vec<String>),
    /// It could not be looked at; why.
    Unseen(String),
}

/// A director, and another one; and whether the adverts between them are multicast.
#[derive(Clone, Copy, Debug)]
pub struct Path {
    pub own: IpAddr,
    pub other: IpAddr,
    pub multicast: bool,
}

/// The program that prints the rules for these paths where there is no nft.
pub fn saver(paths: &[Path]) -> &'static str {
    if are_v4(paths) { "iptables-save" } else { "ip6tables-save" }
}

/// As [`judge`], for what [`saver`] has printed.
pub fn judge_saved(saved: &str, paths: &[Path]) -> Firewall {
    judge(&iptables::ruleset(saved, if are_v4(paths) { "ip" } else { "ip6" }), paths)
}

fn are_v4(paths: &[Path]) -> bool {
    paths.iter().all(|path| path.own.is_ipv4())
}

/// Judges a ruleset: does it drop adverts that go out on this path, or come in?
pub fn judge(ruleset: &Value, paths: &[Path]) -> Firewall {
    let Some(entries) = ruleset["nftables"].as_array() else {
        return Firewall::Unseen("nft printed something else than a ruleset".into());
    };
    let mut blocks: Vec<String> = Vec::new();
    for path in paths {
        let group = if path.own.is_ipv4() { IpAddr::V4(GROUP) } else { IpAddr::V6(GROUP_SIX) };
        let (to, others) = (|unicast| if path.multicast { group } else { unicast }, other_family(path.own));
        let out = Packet { from: path.own, to: to(path.other), multicast: path.multicast };
        let back = Packet { from: path.other, to: to(path.own), multicast: path.multicast };
        for chain in entries.iter().filter_map(|e| e.get("chain")).filter(|c| c["family"] != others) {
            let packet = match chain["hook"].as_str() {
                Some("output" | "postrouting") => out,
                Some("input" | "prerouting" | "ingress") => back,
                _ => continue,
            };
            let fate = Walk { entries, packet }.chain(chain, &chain["name"], 0);
            let text = match fate {
                Fate::Dropped(text) => text,
                Fate::Through if chain["policy"] == "drop" => {
                    format!("{}: policy drop, and no rule accepts it", place(chain, &chain["name"]))
                }
                _ => continue,
            };
            if !blocks.contains(&text) && blocks.len() < MOST {
                blocks.push(text);
            }
        }
    }
    if blocks.is_empty() { Firewall::Clear } else { Firewall::Blocks(blocks) }
}

/// The family of nft's, and the header, that a packet of this address is not of.
fn other_family(of: IpAddr) -> &'static str {
    if of.is_ipv4() { "ip6" } else { "ip" }
}

#[derive(Clone, Copy)]
struct Packet {
    from: IpAddr,
    to: IpAddr,
    multicast: bool,
}

/// What becomes of a packet in a chain.
enum Fate {
    /// No rule decided.
    Through,
    Accepted,
    Dropped(String),
    /// A rule that may match would decide: nothing can be said.
    Unknown,
}

struct Walk<'a> {
    entries: &'a [Value],
    packet: Packet,
}

impl Walk<'_> {
    fn chain(&self, base: &Value, name: &Value, depth: u8) -> Fate {
        let of_chain =
            |r: &&Value| r["family"] == base["family"] && r["table"] == base["table"] && r["chain"] == *name;
        for rule in self.entries.iter().filter_map(|e| e.get("rule")).filter(of_chain) {
            let Some(steps) = rule["expr"].as_array() else { continue };
            let mut certain = true;
            for step in steps {
                if let Some(wanted) = step.get("match") {
                    match self.matches(wanted) {
                        Some(true) => {}
                        Some(false) => break,
                        None => certain = false,
                    }
                } else if step.get("drop").is_some() || step.get("reject").is_some() {
                    if certain {
                        let at = place(base, name);
                        if let Some(words) = rule["words"].as_str() {
                            return Fate::Dropped(format!("{at}: {words}"));
                        }
                        let words: Vec<String> = steps.iter().filter_map(words).collect();
                        return Fate::Dropped(format!(
                            "{at}: {} (handle {})",
                            words.join(" "),
                            rule["handle"]
                        ));
                    }
                } else if step.get("accept").is_some() {
                    return if certain { Fate::Accepted } else { Fate::Unknown };
                } else if step.get("return").is_some() {
                    return if certain { Fate::Through } else { Fate::Unknown };
                } else if let Some(next) = step.get("jump").or_else(|| step.get("goto")) {
                    if depth >= DEPTH {
                        return Fate::Unknown;
                    }
                    let fate = self.chain(base, &next["target"], depth + 1);
                    let ends = step.get("goto").is_some();
                    match fate {
                        Fate::Through if ends && certain => return Fate::Through,
                        Fate::Through => {}
                        fate if certain => return fate,
                        _ => {}
                    }
                } else if step.get("vmap").is_some() || step.get("xt").is_some() {
                    certain = false;
                }
            }
        }
        Fate::Through
    }

    /// Whether the packet is what a match asks for; `None` where that cannot be told.
    fn matches(&self, wanted: &Value) -> Option<bool> {
        let (left, right) = (&wanted["left"], &wanted["right"]);
        let payload = (left["payload"]["protocol"].as_str(), left["payload"]["field"].as_str());
        let found = match (payload, left["meta"]["key"].as_str()) {
            // To ask for its header is to ask for its family.
            ((Some(header), _), _) if header == other_family(self.packet.to) => return Some(false),
            ((Some("ip" | "ip6"), Some("saddr")), _) => has_address(right, self.packet.from)?,
            ((Some("ip" | "ip6"), Some("daddr")), _) => has_address(right, self.packet.to)?,
            ((Some("ip"), Some("protocol")), _)
            | ((Some("ip6"), Some("nexthdr")), _)
            | (_, Some("l4proto")) => {
                has(right, &|v| v.as_u64() == Some(VRRP) || v == VRRP_NAME || v == "112")
            }
            // Ports and flags: of protocols that this is not.
            ((Some("tcp" | "udp" | "icmp" | "icmpv6" | "sctp" | "th"), _), _) => return Some(false),
            (_, Some("pkttype")) => {
                let kind = if self.packet.multicast { "multicast" } else { "host" };
                has(right, &|v| v == kind || (kind == "host" && v == "unicast"))
            }
            (_, Some("nfproto")) => {
                let family = if self.packet.to.is_ipv4() { "ipv4" } else { "ipv6" };
                has(right, &|v| v == family)
            }
            // VRRP does not run on the loopback.
            (_, Some("iifname" | "oifname" | "iif" | "oif")) if right == "lo" => false,
            _ => return None,
        };
        match wanted["op"].as_str() {
            Some("==" | "in") => Some(found),
            Some("!=") => Some(!found),
            _ => None,
        }
    }
}

/// Whether a value, or one of a set of them, is meant.
fn has(right: &Value, is: &dyn Fn(&Value) -> bool) -> bool {
    let set = right["set"].as_array().or_else(|| right.as_array());
    set.map_or_else(|| is(right), |all| all.iter().any(is))
}

/// Whether an address is in what stands on the right of a match; `None` for a named set.
fn has_address(right: &Value, address: IpAddr) -> Option<bool> {
    if let Some(all) = right["set"].as_array() {
        let each: Option<Vec<bool>> = all.iter().map(|one| has_address(one, address)).collect();
        return each.map(|each| each.contains(&true));
    }
    if let Some(prefix) = right.get("prefix") {
        let network: IpAddr = prefix["addr"].as_str()?.parse().ok()?;
        let (a, bits) = number(address);
        let (b, other) = number(network);
        let length = u32::try_from(prefix["len"].as_u64()?).ok()?;
        let shift = bits.checked_sub(length)?;
        return Some(bits == other && a.checked_shr(shift) == b.checked_shr(shift));
    }
    if let Some([first, last]) = right["range"].as_array().map(Vec::as_slice) {
        let bound = |v: &Value| v.as_str()?.parse::<IpAddr>().ok();
        return Some((bound(first)?..=bound(last)?).contains(&address));
    }
    Some(right.as_str()?.parse::<IpAddr>().ok()? == address)
}

/// An address as a number, and how many bits it has.
fn number(address: IpAddr) -> (u128, u32) {
    match address {
        IpAddr::V4(v4) => (u32::from(v4).into(), 32),
        IpAddr::V6(v6) => (u128::from(v6), 128),
    }
}

fn place(chain: &Value, name: &Value) -> String {
    let word = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    let by = chain["by"].as_str().unwrap_or("nft");
    format!("{by} table {} {}, chain {}", word(&chain["family"]), word(&chain["table"]), word(name))
}

/// A step of a rule, about as nft writes it.
fn words(step: &Value) -> Option<String> {
    let Some(wanted) = step.get("match") else {
        let verdict = ["drop", "reject"].into_iter().find(|word| step.get(*word).is_some())?;
        return Some(verdict.to_owned());
    };
    let left = &wanted["left"];
    let what = match (left["payload"]["protocol"].as_str(), left["payload"]["field"].as_str()) {
        (Some(protocol), Some(field)) => format!("{protocol} {field}"),
        _ => left["meta"]["key"].as_str().map_or_else(|| left.to_string(), |key| format!("meta {key}")),
    };
    let not = if wanted["op"] == "!=" { "!= " } else { "" };
    Some(format!("{what} {not}{}", value(&wanted["right"])))
}

fn value(right: &Value) -> String {
    if let Some(all) = right["set"].as_array() {
        return format!("{{ {} }}", all.iter().map(value).collect::<Vec<_>>().join(", "));
    }
    if let Some(prefix) = right.get("prefix") {
        return format!("{}/{}", value(&prefix["addr"]), prefix["len"]);
    }
    if let Some([first, last]) = right["range"].as_array().map(Vec::as_slice) {
        return format!("{}-{}", value(first), value(last));
    }
    right.as_str().map_or_else(|| right.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What nft 1.0.6 prints for a rule of this expression, in a chain of this hook and policy.
    fn ruleset(hook: &str, policy: &str, rules: &[&str]) -> Value {
        let rules = rules.iter().enumerate().map(|(i, expr)| {
            let expr: Value = serde_json::from_str(expr).unwrap();
            serde_json::json!({ "rule": { "family": "inet", "table": "t", "chain": "c", "handle": i, "expr": expr } })
        });
        let chain = serde_json::json!({ "chain": { "family": "inet", "table": "t", "name": "c", "hook": hook, "policy": policy } });
        serde_json::json!({ "nftables": std::iter::once(chain).chain(rules).collect::<Vec<_>>() })
    }

    #[track_caller]
    fn check(hook: &str, policy: &str, rules: &[&str], multicast: bool, wanted: Option<&str>) {
        let [own, other] = ["10.0.0.1", "10.0.0.2"].map(|a| a.parse().unwrap());
        let told = judge(&ruleset(hook, policy, rules), &[Path { own, other, multicast }]);
        let wanted = wanted.map(|w| Firewall::Blocks(vec![format!("nft table inet t, chain c: {w}")]));
        assert_eq!(told, wanted.unwrap_or(Firewall::Clear));
    }

    const GROUPS: &str = r#"[{"match":{"op":"==","left":{"payload":{"protocol":"ip","field":"daddr"}},"right":{"prefix":{"addr":"224.0.0.0","len":4}}}},{"counter":{"packets":0,"bytes":0}},{"drop":null}]"#;
    const PROTOCOL: &str = r#"[{"match":{"op":"==","left":{"payload":{"protocol":"ip","field":"protocol"}},"right":"vrrp"}},{"drop":null}]"#;
    const SIX: &str = r#"[{"match":{"op":"==","left":{"payload":{"protocol":"ip6","field":"nexthdr"}},"right":"vrrp"}},{"drop":null}]"#;
    const WEB: &str = r#"[{"match":{"op":"==","left":{"payload":{"protocol":"tcp","field":"dport"}},"right":{"set":[22,80]}}},{"accept":null}]"#;
    const OTHER: &str = r#"[{"match":{"op":"==","left":{"meta":{"key":"l4proto"}},"right":{"set":["tcp","vrrp"]}}},{"match":{"op":"==","left":{"payload":{"protocol":"ip","field":"saddr"}},"right":"10.0.0.2"}},{"accept":null}]"#;
    const STATE: &str =
        r#"[{"match":{"op":"in","left":{"ct":{"key":"state"}},"right":["established"]}},{"accept":null}]"#;
    const KIND: &str = r#"[{"match":{"op":"==","left":{"meta":{"key":"pkttype"}},"right":"multicast"}},{"reject":{"type":"icmpx"}}]"#;

    #[test]
    fn a_rule_that_drops_adverts_is_named() {
        check("output", "accept", &[GROUPS], true, Some("ip daddr 224.0.0.0/4 drop (handle 0)"));
        check("output", "accept", &[GROUPS], false, None);
        check("input", "accept", &[WEB, PROTOCOL], false, Some("ip protocol vrrp drop (handle 1)"));
        check("input", "accept", &[KIND], true, Some("meta pkttype multicast reject (handle 0)"));
        check("forward", "drop", &[PROTOCOL], false, None);
        check("input", "accept", &[SIX], false, None);
        let [own, other] = ["fd00::1", "fd00::2"].map(|a| a.parse().unwrap());
        let judged =
            |rule| judge(&ruleset("input", "accept", &[rule]), &[Path { own, other, multicast: false }]);
        assert_eq!(judged(PROTOCOL), Firewall::Clear);
        let wanted = "nft table inet t, chain c: ip6 nexthdr vrrp drop (handle 0)";
        assert_eq!(judged(SIX), Firewall::Blocks(vec![wanted.to_owned()]));
    }

    #[test]
    fn a_policy_of_drop_is_in_the_way_unless_a_rule_accepts() {
        check("input", "drop", &[WEB], false, Some("policy drop, and no rule accepts it"));
        check("input", "drop", &[WEB, OTHER], false, None);
        check("input", "drop", &[OTHER, PROTOCOL], false, None);
        check("input", "drop", &[STATE], false, None); // nobody can tell
    }
}
