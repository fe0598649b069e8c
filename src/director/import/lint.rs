//! What is known to go wrong with hand-written directors.

use super::Finding;
use super::conf::{At, Conf, Instance};
use crate::model::in_network;
use std::net::IpAddr;

const CLOUD: &str = "most cloud networks carry no multicast, and then every director holds the address";

/// Judges each file by itself.
pub fn each(confs: &[Conf], findings: &mut Vec<Finding>) {
    for conf in confs {
        for at in &conf.includes {
            let words = "the included files are not looked at";
            findings.push(Finding::warning(
                &conf.file,
                *at,
                words,
                "name them as well, or put all into one file",
            ));
        }
        for (place, one) in conf.instances.iter().enumerate() {
            instance(conf, one, findings);
            for other in &conf.instances[..place] {
                beside(conf, other, one, findings);
            }
        }
        servers(conf, findings);
    }
}

fn instance(conf: &Conf, one: &Instance, findings: &mut Vec<Finding>) {
    let file = &conf.file;
    let mut error =
        |line: u32, words: String, hint: String| findings.push(Finding::error(file, line, words, hint));
    let source = one.source.as_ref().map_or("THIS-DIRECTOR'S-ADDRESS".to_owned(), |s| s.is.to_string());
    match &one.peers {
        None => error(
            one.line,
            format!("`{}` has no `unicast_peer`, so it announces itself by multicast: {CLOUD}", one.name),
            format!(
                "write unicast_src_ip {source} and unicast_peer {{ … }} with the other directors' addresses"
            ),
        ),
        Some(peers) if peers.is.is_empty() => error(
            peers.line,
            "an empty `unicast_peer` means multicast, without a word (since keepalived 2.1.5)".into(),
            "write the other directors' addresses into it, one a line".into(),
        ),
        Some(peers) => {
            if one.source.is_none() {
                let words =
                    "`unicast_peer` without `unicast_src_ip`: it sends from whatever address comes first";
                findings.push(Finding::warning(
                    file,
                    peers.line,
                    words,
                    "write unicast_src_ip with this director's own address",
                ));
            }
            if let Some(own) = one.source.as_ref().filter(|own| peers.is.contains(&own.is)) {
                let words = format!("{} is its own peer", own.is);
                findings.push(Finding::error(file, peers.line, words, "name the other directors only"));
            }
            if let Some(strict) = conf.strict {
                let words = "`vrrp_strict` allows no unicast peers";
                findings.push(Finding::error(file, strict, words, "take `vrrp_strict` out"));
            }
        }
    }
    let missing = |what: &str, hint: &str| {
        Finding::error(file, one.line, format!("`{}` has no `{what}`", one.name), hint)
    };
    if one.vrid.is_none() {
        findings.push(missing("virtual_router_id", "write the same one, from 1 to 255, on each director"));
    }
    if one.vips.is_empty() {
        findings
            .push(missing("virtual_ipaddress", "write the address: virtual_ipaddress { 192.168.1.100/24 }"));
    }
    if one.interface.as_ref().is_some_and(|i| i.is == "lo") {
        let line = one.interface.as_ref().map_or(one.line, |i| i.line);
        findings.push(Finding::error(
            file,
            line,
            "no other machine is heard on `lo`",
            "write the interface of the network",
        ));
    }
    let is_master = one.state.as_ref().filter(|s| s.is == "MASTER");
    if let (Some(state), Some(at)) = (is_master, one.nopreempt) {
        let words = "`nopreempt` has no effect with `state MASTER`";
        findings.push(Finding::warning(
            file,
            at,
            words,
            format!("write state BACKUP in line {}", state.line),
        ));
    }
    if let Some(at) = one.priority.as_ref().filter(|p| p.is == 255) {
        let words =
            "priority 255 is for an address that its holder owns: it takes it at once, without listening";
        findings.push(Finding::warning(file, at.line, words, "write 150, and less on the others"));
    }
    if let Some(auth) = &one.auth {
        let words = "`authentication` sends its password in clear, in every advert, and this file holds it";
        findings.push(Finding::warning(
            file,
            auth.line,
            words,
            "take it out: it protects nothing (RFC 5798 dropped it)",
        ));
    }
    for vip in &one.vips {
        addresses(file, one, vip, findings);
    }
}

fn addresses(file: &str, one: &Instance, vip: &At<super::conf::Address>, findings: &mut Vec<Finding>) {
    let host = if vip.is.ip.is_ipv4() { 32 } else { 128 };
    let own = one.source.as_ref().map(|s| s.is);
    match vip.is.prefix {
        None => {
            let words = format!("{} has no prefix, so it becomes {}/{host}", vip.is.ip, vip.is.ip);
            findings.push(Finding::warning(
                file,
                vip.line,
                words,
                format!("write the network's: {}/24", vip.is.ip),
            ));
        }
        Some(prefix) if prefix < host => {
            if let Some(own) = own.filter(|own| !in_network(vip.is.ip, prefix, *own)) {
                let words =
                    format!("{}/{prefix} is not in the network of {own}, which this director has", vip.is.ip);
                findings.push(Finding::error(
                    file,
                    vip.line,
                    words,
                    "write an address of the interface's own network, or the interface that has it",
                ));
            }
        }
        Some(_) => {}
    }
    let peers = one.peers.iter().flat_map(|p| &p.is);
    if own.iter().chain(peers).any(|ip| *ip == vip.is.ip) {
        let words = format!("{} is a director's own address", vip.is.ip);
        findings.push(Finding::error(
            file,
            vip.line,
            words,
            "a virtual address moves between directors: take one that nobody has",
        ));
    }
}

/// Two instances of one file.
fn beside(conf: &Conf, one: &Instance, two: &Instance, findings: &mut Vec<Finding>) {
    let file = &conf.file;
    if one.name == two.name {
        let words = format!("there are two instances called `{}`", one.name);
        findings.push(Finding::error(
            file,
            two.line,
            words,
            format!("rename one; the other is in line {}", one.line),
        ));
    }
    if let (Some(a), Some(b)) = (&one.vrid, &two.vrid)
        && a.is == b.is
        && one.interface.as_ref().map(|i| &i.is) == two.interface.as_ref().map(|i| &i.is)
    {
        let words = format!("`{}` and `{}` are both virtual router {}", one.name, two.name, a.is);
        findings.push(Finding::error(file, b.line, words, "give each its own virtual_router_id"));
    }
    if let Some(shared) = two.vips.iter().find(|v| one.addresses().contains(&v.is.ip)) {
        let words = format!("{} is in `{}` and in `{}`", shared.is.ip, one.name, two.name);
        findings.push(Finding::error(file, shared.line, words, "write each address once"));
    }
}

fn servers(conf: &Conf, findings: &mut Vec<Finding>) {
    let file = &conf.file;
    let held: Vec<IpAddr> = conf.instances.iter().flat_map(Instance::addresses).collect();
    for server in &conf.servers {
        if let Some(address) = server.address.filter(|a| !held.contains(a) && !held.is_empty()) {
            let words =
                format!("no `vrrp_instance` holds {address}, so nothing comes in for this virtual server");
            findings.push(Finding::error(
                file,
                server.line,
                words,
                format!("write it into virtual_ipaddress, or correct it: {}", shown(&held)),
            ));
        }
        if server.reals.is_empty() {
            let words = "this virtual server has no `real_server`";
            findings.push(Finding::warning(file, server.line, words, "write one for each machine behind it"));
        }
        for real in server.reals.iter().filter(|r| !r.is_checked) {
            let words = format!("{} is not checked: it gets requests when it is down, too", real.address);
            findings.push(Finding::warning(
                file,
                real.line,
                words,
                "write a check into it: TCP_CHECK { connect_timeout 2 }",
            ));
        }
    }
}

fn shown(all: &[IpAddr]) -> String {
    let list: Vec<String> = all.iter().take(4).map(ToString::to_string).collect();
    list.join(", ")
}

/// Judges the files side by side: instances of different files belong together by their address or their id.
pub fn across(confs: &[Conf], findings: &mut Vec<Finding>) {
    for (place, two) in confs.iter().enumerate() {
        for one in &confs[..place] {
            if let (Some(a), Some(b)) = (&one.router_id, &two.router_id)
                && a.is == b.is
            {
                let words = format!("{} has the same router_id \"{}\"", one.file, a.is);
                findings.push(Finding::warning(&two.file, b.line, words, "write each director's own name"));
            }
            for a in &one.instances {
                for b in two.instances.iter().filter(|b| belong(a, b)) {
                    pair(one, a, two, b, findings);
                }
            }
            alone(one, two, findings);
            alone(two, one, findings);
            balanced(one, two, findings);
        }
    }
    many(confs, findings);
}

fn belong(a: &Instance, b: &Instance) -> bool {
    let (mine, yours) = (a.addresses(), b.addresses());
    let id = |i: &Instance| i.vrid.as_ref().map(|v| v.is);
    mine.iter().any(|ip| yours.contains(ip)) || (id(a).is_some() && id(a) == id(b))
}

fn pair(one: &Conf, a: &Instance, two: &Conf, b: &Instance, findings: &mut Vec<Finding>) {
    let mut error = |line: u32, words: String, hint: String| {
        findings.push(Finding::error(&two.file, line, words, hint));
    };
    let there = |line: u32| format!("{}:{line}", one.file);
    if let (Some(x), Some(y)) = (&a.vrid, &b.vrid)
        && x.is != y.is
    {
        error(
            y.line,
            format!(
                "virtual_router_id is {}, and {} in {}: neither listens to the other, and both hold the address",
                y.is,
                x.is,
                there(x.line)
            ),
            format!("write virtual_router_id {}", x.is),
        );
    }
    if a.addresses() != b.addresses() {
        let line = b.vips.first().map_or(b.line, |v| v.line);
        error(
            line,
            format!(
                "its addresses are {}, and {} in {}",
                shown(&b.addresses()),
                shown(&a.addresses()),
                there(a.line)
            ),
            "write the same list on each director: keepalived drops adverts with another one".into(),
        );
    }
    if let (Some(x), Some(y)) = (&a.priority, &b.priority)
        && x.is == y.is
    {
        error(
            y.line,
            format!(
                "priority {} is that of {}, too: the higher address decides, and not you",
                y.is,
                there(x.line)
            ),
            format!("write a lower one for the director that stands by: priority {}", (y.is - 10).max(1)),
        );
    }
    if let (Some(x), Some(y)) = (&a.state, &b.state)
        && x.is == "MASTER"
        && y.is == "MASTER"
    {
        error(
            y.line,
            format!("`state MASTER` stands in {}, too: both take the address at their start", there(x.line)),
            "write state BACKUP in both: the priorities decide".into(),
        );
    }
    let low_master = |m: &Instance, o: &Instance| {
        m.state.as_ref().is_some_and(|s| s.is == "MASTER")
            && o.state.as_ref().is_none_or(|s| s.is != "MASTER")
            && matches!((&m.priority, &o.priority), (Some(p), Some(q)) if p.is < q.is)
    };
    for (conf, master, other) in [(one, a, b), (two, b, a)] {
        if low_master(master, other)
            && let Some(priority) = &master.priority
        {
            let words =
                "it starts as MASTER with the lower priority, and gives the address up at once".to_owned();
            findings.push(Finding::warning(
                &conf.file,
                priority.line,
                words,
                "write state BACKUP in both, and the higher priority where you want the address",
            ));
        }
    }
    let advert = |i: &Instance| i.advert.as_ref().map_or("1".to_owned(), |v| v.is.clone());
    if advert(a) != advert(b) {
        let line = b.advert.as_ref().map_or(b.line, |v| v.line);
        let words = format!(
            "advert_int is {}, and {} in {}: adverts with another one are dropped",
            advert(b),
            advert(a),
            one.file
        );
        findings.push(Finding::error(&two.file, line, words, format!("write advert_int {}", advert(a))));
    }
    let auth = |i: &Instance| i.auth.as_ref().map(|v| v.is.clone());
    if auth(a) != auth(b) {
        let line = b.auth.as_ref().map_or(b.line, |v| v.line);
        let words = format!("`authentication` is not that of {}: each drops the other's adverts", one.file);
        findings.push(Finding::error(&two.file, line, words, "take it out of both"));
    }
    peers(one, a, two, b, findings);
}

/// Each names the other, with the address that it sends from.
fn peers(one: &Conf, a: &Instance, two: &Conf, b: &Instance, findings: &mut Vec<Finding>) {
    if let (Some(x), Some(y)) = (&a.source, &b.source)
        && x.is == y.is
    {
        let words = format!("unicast_src_ip {} is that of {}, too: was the file copied?", y.is, one.file);
        findings.push(Finding::error(
            &two.file,
            y.line,
            words,
            "write this director's own address, and the other one as peer",
        ));
        return;
    }
    for (conf, it, other_conf, other) in [(one, a, two, b), (two, b, one, a)] {
        if let (Some(peers), Some(source)) = (&it.peers, &other.source)
            && !peers.is.is_empty()
            && !peers.is.contains(&source.is)
        {
            let words =
                format!("`unicast_peer` does not name {}, from which {} sends", source.is, other_conf.file);
            findings.push(Finding::error(&conf.file, peers.line, words, format!("add {}", source.is)));
        }
        if let (Some(peers), None) = (&it.peers, &other.peers)
            && !peers.is.is_empty()
        {
            let words = format!(
                "{} sends by unicast, and this one by multicast: they do not hear each other",
                conf.file
            );
            findings.push(Finding::error(
                &other_conf.file,
                other.line,
                words,
                "write unicast_src_ip and unicast_peer here, too",
            ));
        }
    }
}

/// An instance whose address and id the other file does not have.
fn alone(one: &Conf, two: &Conf, findings: &mut Vec<Finding>) {
    for it in one.instances.iter().filter(|a| !two.instances.iter().any(|b| belong(a, b))) {
        let words = format!("{} has nothing for `{}`: nobody takes its address over", two.file, it.name);
        findings.push(Finding::warning(
            &one.file,
            it.line,
            words,
            "write it there, too, with a lower priority",
        ));
    }
}

/// Virtual servers of both: the same ones, and none that sends a packet round.
fn balanced(one: &Conf, two: &Conf, findings: &mut Vec<Finding>) {
    for (conf, other) in [(one, two), (two, one)] {
        for server in &conf.servers {
            let key = |s: &super::conf::Server| (s.address, s.port, s.mark);
            let Some(same) = other.servers.iter().find(|s| key(s) == key(server)) else {
                let words = format!("{} has no such virtual server", other.file);
                findings.push(Finding::error(
                    &conf.file,
                    server.line,
                    words,
                    "after a takeover nobody would answer: write it there, too",
                ));
                continue;
            };
            let reals = |s: &super::conf::Server| {
                let mut all: Vec<IpAddr> = s.reals.iter().map(|r| r.address).collect();
                all.sort();
                all
            };
            if std::ptr::eq(conf, two) && reals(same) != reals(server) {
                let words = format!("its real servers are not those of {}:{}", other.file, same.line);
                findings.push(Finding::error(
                    &conf.file,
                    server.line,
                    words,
                    "write the same ones on each director",
                ));
            }
            let directors: Vec<IpAddr> = [one, two]
                .iter()
                .flat_map(|c| &c.instances)
                .filter_map(|i| Some(i.source.as_ref()?.is))
                .collect();
            let both = server.reals.iter().find(|r| directors.contains(&r.address));
            let is_direct = server.method.as_deref() == Some("DR");
            if let Some(real) = both.filter(|_| is_direct && server.mark.is_none()) {
                let words = format!(
                    "{} is a director, too: what the other one has balanced is balanced again, and goes round",
                    real.address
                );
                findings.push(Finding::error(
                    &conf.file,
                    real.line,
                    words,
                    "match by a mark that the other director's packets do not get: virtual_server fwmark 1",
                ));
            }
        }
    }
}

fn many(confs: &[Conf], findings: &mut Vec<Finding>) {
    let Some(third) = confs.get(2).and_then(|c| Some((c, c.instances.first()?))) else { return };
    let (conf, one) = third;
    let alike = confs.iter().filter(|c| c.instances.iter().any(|i| belong(i, one))).count();
    if alike > 2 {
        let words = format!(
            "{alike} directors share `{}`: a cloud's virtual address (HAVIP) is bound to two machines at most on some",
            one.name
        );
        findings.push(Finding::warning(
            &conf.file,
            one.line,
            words,
            "look up how many the cloud allows, or keep two",
        ));
    }
}
