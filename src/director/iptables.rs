//! What `iptables-save` prints, in the shape of nft's ruleset: so that one judge is enough.

use serde_json::{Value, json};

/// The ruleset of one family, `ip` or `ip6` (iptables(8), iptables-extensions(8)). What is not understood may match, or
/// not.
pub(super) fn ruleset(saved: &str, family: &str) -> Value {
    let (mut entries, mut table) = (Vec::new(), "");
    for line in saved.lines() {
        if let Some(name) = line.strip_prefix('*') {
            table = name;
        } else if let Some(chain) = line.strip_prefix(':').filter(|_| table != "nat") {
            let mut words = chain.split(' ');
            let (name, policy) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
            let hook =
                ["PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"].contains(&name).then(|| name.to_lowercase());
            entries.push(json!({ "chain": {
                "by": "iptables", "family": family, "table": table, "name": name, "hook": hook,
                "policy": policy.to_lowercase(),
            } }));
        } else if let Some((chain, rule)) = line.strip_prefix("-A ").and_then(|rest| rest.split_once(' ')) {
            entries.push(json!({ "rule": {
                "family": family, "table": table, "chain": chain, "words": rule, "expr": steps(&words(rule), family),
            } }));
        }
    }
    json!({ "nftables": entries })
}

/// A rule's words as the steps that nft would have for it.
fn steps(words: &[String], family: &str) -> Vec<Value> {
    let mut steps = Vec::new();
    let (mut words, mut op) = (words.iter().map(String::as_str).peekable(), "==");
    let matches =
        |op: &str, left: Value, right: Value| json!({ "match": { "op": op, "left": left, "right": right } });
    let field = |field: &str| json!({ "payload": { "protocol": family, "field": field } });
    let meta = |key: &str| json!({ "meta": { "key": key } });
    while let Some(word) = words.next() {
        if word == "!" {
            op = "!=";
            continue;
        }
        let mut value = || words.next().unwrap_or_default();
        let step = match word {
            "-p" => matches(op, field(if family == "ip" { "protocol" } else { "nexthdr" }), json!(value())),
            "-s" => matches(op, field("saddr"), network(value())),
            "-d" => matches(op, field("daddr"), network(value())),
            "-i" => matches(op, meta("iifname"), json!(value())),
            "-o" => matches(op, meta("oifname"), json!(value())),
            "--pkt-type" => matches(op, meta("pkttype"), json!(value())),
            // What a module looks at comes after its name.
            "-m" | "--comment" => {
                value();
                continue;
            }
            "-j" => match value() {
                "DROP" => json!({ "drop": null }),
                "REJECT" => json!({ "reject": null }),
                "ACCEPT" => json!({ "accept": null }),
                "RETURN" => json!({ "return": null }),
                chain => json!({ "jump": { "target": chain } }),
            },
            "-g" => json!({ "goto": { "target": value() } }),
            other => {
                while words.peek().is_some_and(|next| !next.starts_with(['-', '!'])) {
                    words.next();
                }
                json!({ "xt": other })
            }
        };
        steps.push(step);
        op = "==";
    }
    steps
}

/// `10.0.0.0/8`
fn network(text: &str) -> Value {
    match text.split_once('/') {
        Some((address, length)) => {
            json!({ "prefix": { "addr": address, "len": length.parse::<u64>().ok() } })
        }
        None => json!(text),
    }
}

/// Words; a comment is one, in quotes.
fn words(rule: &str) -> Vec<String> {
    let (mut all, mut word, mut quoted, mut escaped) = (Vec::new(), String::new(), false, false);
    for c in rule.chars() {
        match c {
            _ if escaped => {
                word.push(c);
                escaped = false;
            }
            '\\' => escaped = true,
            '"' => quoted = !quoted,
            ' ' if !quoted => all.push(std::mem::take(&mut word)),
            c => word.push(c),
        }
    }
    all.push(word);
    all.retain(|word| !word.is_empty());
    all
}

#[cfg(test)]
mod tests {
    use super::super::firewall::{Firewall, Path, judge};
    use super::*;

    #[track_caller]
    fn check(rules: &str, wanted: Option<&str>) {
        let saved = format!("# Generated\n*nat\n:INPUT DROP [0:0]\nCOMMIT\n*filter\n{rules}COMMIT\n");
        let [own, other] = ["10.0.0.1", "10.0.0.2"].map(|a| a.parse().unwrap());
        let told = judge(&ruleset(&saved, "ip"), &[Path { own, other, multicast: false }]);
        let wanted = wanted.map(|w| Firewall::Blocks(vec![format!("iptables table ip filter, chain {w}")]));
        assert_eq!(told, wanted.unwrap_or(Firewall::Clear), "{rules}");
    }

    #[test]
    fn a_rule_that_drops_adverts_is_named() {
        let open = ":INPUT ACCEPT [1:40]\n:OUTPUT ACCEPT [0:0]\n";
        let closed = ":INPUT DROP [0:0]\n:OUTPUT ACCEPT [0:0]\n:OURS - [0:0]\n";
        check(open, None);
        check(
            &format!("{open}-A INPUT -p tcp -m tcp --dport 22 -j DROP\n-A INPUT -p vrrp -j DROP\n"),
            Some("INPUT: -p vrrp -j DROP"),
        );
        check(
            &format!("{open}-A OUTPUT -d 10.0.0.0/24 -p 112 -j REJECT --reject-with icmp-port-unreachable\n"),
            Some("OUTPUT: -d 10.0.0.0/24 -p 112 -j REJECT --reject-with icmp-port-unreachable"),
        );
        check(&format!("{open}-A INPUT ! -s 10.0.0.2/32 -p vrrp -j DROP\n"), None);
        check(&format!("{open}-A INPUT -m limit --limit 3/sec -j DROP\n"), None);
        check(closed, Some("INPUT: policy drop, and no rule accepts it"));
        check(
            &format!(
                "{closed}-A INPUT -j OURS\n-A OURS -s 10.0.0.2/32 -m comment --comment \"the \\\"other\\\" one\" -j ACCEPT\n"
            ),
            None,
        );
    }
}
