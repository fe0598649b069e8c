//! `doctor`: what is wrong with the machines and between them, and what to type.
//!
//! Each agent looks at its own machine and at the other agents; what shows only when their words are laid side by side
//! is found here.

use super::text::{BOLD, DIM, Look, WARN, listed, paint, plural, put};
use super::{Asked, Exit, Global, hint};
use crate::api::wire::{ClusterStatus, DoctorReport, NodeStatus, PeerSeen};
use crate::doctor::{About, Diagnosis};
use futures_util::future::join_all;
use std::collections::BTreeMap;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

// `clusterctl doctor`
#[derive(Debug, clap::Args)]
pub struct DoctorArgs {
    /// Only these nodes
    pub nodes: Vec<String>,
    /// Disable what systemd starts on this machine at boot, and say how to undo it
    #[arg(long)]
    pub fix: bool,
}

/// Clocks that are further apart than this, in milliseconds, are told.
const APART: i64 = 2000;

/// What one node has said.
#[derive(Debug)]
struct Heard {
    node: String,
    report: Result<DoctorReport, String>,
    /// Its wall clock against ours, in milliseconds, and how much of that may be the way there.
    clock: Option<(i64, i64)>,
}

pub async fn run(args: DoctorArgs, global: &Global) -> anyhow::Result<Exit> {
    let mut asked = Asked::open(global)?;
    let status = asked.cluster().await?;
    for name in &args.nodes {
        anyhow::ensure!(status.nodes.iter().any(|n| n.node == *name), "no node is called '{name}'");
    }
    let heard = join_all(status.nodes.iter().map(async |node| {
        let clock = measure(&asked, &node.node).await;
        let report: Result<DoctorReport, _> = asked.get_at(&node.node, "/v1/doctor").await;
        Heard { node: node.node.clone(), report: report.map_err(|e| e.to_string()), clock }
    }))
    .await;
    let mut found = judge(&status, &heard);
    found.retain(|f| args.nodes.is_empty() || f.node.split(", ").any(|n| args.nodes.iter().any(|a| a == n)));
    if global.json {
        super::print_json(&found)?;
    } else {
        super::print(&render(&status, &heard, &found, &Look::here()))?;
    }
    let boot = found.iter().filter(|f| f.about == About::Boot).count();
    let mut left = found.len();
    if args.fix {
        left -= fix(&found, global.is_local().then_some(status.asked.as_str()));
    } else if boot > 0 && !global.json {
        hint("clusterctl doctor --fix, on each of those machines, disables what systemd starts there");
    }
    Ok(if left == 0 { Exit::Done } else { Exit::Incomplete })
}

/// How a node's clock stands to ours, in the middle of asking it.
async fn measure(asked: &Asked, node: &str) -> Option<(i64, i64)> {
    let before = wall_clock();
    let status: NodeStatus = asked.get_at(node, "/v1/node").await.ok()?;
    let after = wall_clock();
    Some((status.clock_ms as i64 - (before + after) / 2, (after - before) / 2))
}

fn wall_clock() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64)
}

/// All that is wrong: what each machine says of itself, then what shows between them.
fn judge(status: &ClusterStatus, heard: &[Heard]) -> Vec<Diagnosis> {
    let reports: Vec<&DoctorReport> = heard.iter().filter_map(|h| h.report.as_ref().ok()).collect();
    let mut found = names(&reports);
    found.extend(configs(status));
    found.extend(clocks(heard));
    found.extend(reach(heard, &reports));
    for report in reports {
        found.extend(report.found.iter().cloned());
    }
    found
}

fn diagnosis(about: About, node: &str, what: String, why: &str, fix: String) -> Diagnosis {
    Diagnosis { about, node: node.to_owned(), what, why: why.to_owned(), fix, disable: None }
}

/// Machines that have one name: who asks for it, and whom they ask, show different random ids.
fn names(reports: &[&DoctorReport]) -> Vec<Diagnosis> {
    // By node: each id, and where it was seen.
    let mut ids: BTreeMap<&str, BTreeMap<&str, Option<&str>>> = BTreeMap::new();
    for report in reports {
        ids.entry(&report.node).or_default().entry(&report.id).or_default();
        for peer in &report.peers {
            if let Some(id) = &peer.id {
                ids.entry(&peer.node).or_default().entry(id).or_default();
            }
        }
        for claim in &report.claims {
            *ids.entry(&claim.node).or_default().entry(&claim.id).or_default() = Some(&claim.from);
        }
    }
    let several = ids.into_iter().filter(|(_, ids)| ids.len() > 1);
    several
        .map(|(node, ids)| {
            let ids: Vec<String> = ids
                .into_iter()
                .map(|(id, from)| from.map_or_else(|| id.to_owned(), |from| format!("{id} at {from}")))
                .collect();
            let what = format!("{} machines say that they are {node}: {}", ids.len(), ids.join(", "));
            let why = "each starts the services of that node: there are two of each";
            let fix = format!(
                "on the machine that is not {node}: systemctl stop clusterd, then its own name into /etc/clusterd/node; \
                 cat /var/lib/clusterd/id tells which is which"
            );
            diagnosis(About::Name, node, what, why, fix)
        })
        .collect()
}

/// Nodes that act by different files.
fn configs(status: &ClusterStatus) -> Vec<Diagnosis> {
    let lines = super::status::files_in_force(status);
    let Some(what) = lines.first() else { return Vec::new() };
    let nodes: Vec<&str> =
        status.nodes.iter().filter(|n| n.status.is_some()).map(|n| n.node.as_str()).collect();
    let fix = match lines.get(1) {
        Some(diverged) => diverged.clone(),
        None => "clusterctl apply FILE, with the one that is meant".to_owned(),
    };
    vec![diagnosis(About::Config, &nodes.join(", "), what.clone(), "each decides by its own file", fix)]
}

/// Clocks that are apart. With three or more the majority is believed.
fn clocks(heard: &[Heard]) -> Vec<Diagnosis> {
    let mut told: Vec<(i64, i64, &str)> = heard
        .iter()
        .filter_map(|h| h.clock.map(|(offset, error)| (offset, error, h.node.as_str())))
        .collect();
    told.sort_unstable();
    let Some((middle, ..)) = told.get(told.len() / 2).copied() else { return Vec::new() };
    let why = "events of several machines cannot be laid side by side, and certificates look expired";
    let fix =
        |node: &str| format!("on {node}: timedatectl; chronyc tracking; systemctl restart systemd-timesyncd");
    if let [(first, e1, one), (last, e2, other)] = told[..] {
        if last - first <= APART + e1 + e2 {
            return Vec::new();
        }
        let what = format!("the clocks of {one} and {other} are {} apart", seconds(last - first));
        return vec![diagnosis(About::Clock, &format!("{one}, {other}"), what, why, fix(other))];
    }
    let wrong = told.iter().filter(|(offset, error, _)| (offset - middle).abs() > APART + 2 * error);
    wrong
        .map(|(offset, _, node)| {
            let ahead = if *offset > middle { "ahead of" } else { "behind" };
            let what =
                format!("the clock of {node} is {} {ahead} the others'", seconds((offset - middle).abs()));
            diagnosis(About::Clock, node, what, why, fix(node))
        })
        .collect()
}

fn seconds(ms: i64) -> String {
    super::text::short(ms.unsigned_abs())
}

/// Agents that are not reached: by nobody, or by some, which looks like a firewall.
fn reach(heard: &[Heard], reports: &[&DoctorReport]) -> Vec<Diagnosis> {
    let sees = |from: &DoctorReport, to: &str| -> Option<PeerSeen> {
        from.peers.iter().find(|peer| peer.node == to).cloned()
    };
    let mut found = Vec::new();
    for to in heard {
        let seen: Vec<(&DoctorReport, PeerSeen)> =
            reports.iter().filter_map(|from| Some((*from, sees(from, &to.node)?))).collect();
        let cut: Vec<&(&DoctorReport, PeerSeen)> = seen.iter().filter(|(_, s)| s.trouble.is_some()).collect();
        let Some((first, how)) = cut.first() else { continue };
        let trouble = how.trouble.as_deref().unwrap_or_default();
        if cut.len() == seen.len() && to.report.is_err() {
            let what = format!("no agent reaches that of {}: {trouble}", to.node);
            let fix = format!("on {}: systemctl status clusterd; ss -ltn", to.node);
            found.push(diagnosis(
                About::Reach,
                &to.node,
                what,
                "what runs there is unknown to the others",
                fix,
            ));
            continue;
        }
        let from: Vec<&str> = cut.iter().map(|(from, _)| from.node.as_str()).collect();
        // The other direction, seen from the other end.
        let back = to.report.as_ref().ok().and_then(|report| sees(report, &first.node));
        let back = match back {
            Some(PeerSeen { trouble: None, .. }) => "the other way it works",
            Some(_) => "nor the other way",
            None => "from the other end nothing is known",
        };
        let what = format!(
            "{} not reach the agent of {} ({}): {trouble}; {back}",
            match from.len() {
                1 => format!("{} does", from[0]),
                _ => format!("{} do", listed(&from, 4)),
            },
            to.node,
            how.address
        );
        let why = "a firewall is in the way, most likely: vetoes and reverse stops do not get through";
        let port = how.address.rsplit(':').next().unwrap_or_default();
        let fix = format!("on {}: nft list ruleset; let {} in to port {port}", to.node, listed(&from, 4));
        found.push(diagnosis(About::Reach, &to.node, what, why, fix));
    }
    found
}

fn render(status: &ClusterStatus, heard: &[Heard], found: &[Diagnosis], look: &Look) -> String {
    let mut out = String::new();
    let looked = heard.iter().filter(|h| h.report.is_ok()).count();
    let head = match found.len() {
        0 => format!("{}: nothing is wrong on {}", status.cluster, plural(looked, "node")),
        n => format!("{}: {} on {} looked at", status.cluster, plural(n, "finding"), plural(looked, "node")),
    };
    put(&mut out, look, 0, &paint(BOLD, &head));
    for one in found {
        out.push('\n');
        put(&mut out, look, 0, &paint(WARN, &format!("{}: {}", one.node, one.what)));
        put(&mut out, look, 2, &one.why);
        put(&mut out, look, 2, &format!("{} {}", paint(DIM, "type:"), one.fix));
    }
    out
}

/// Disables what can be disabled on this machine, which is `here` if its own agent was asked. How many that were.
fn fix(found: &[Diagnosis], here: Option<&str>) -> usize {
    let mut done = 0;
    for (one, service) in found.iter().filter_map(|f| Some((f, f.disable.as_ref()?))) {
        if here != Some(one.node.as_str()) {
            eprintln!(
                "{}: {service} is disabled there only: clusterctl doctor --fix on {}",
                one.node, one.node
            );
            continue;
        }
        match Command::new("systemctl").args(["disable", "--quiet", service]).status() {
            Ok(status) if status.success() => {
                eprintln!("{service} is not started at boot any more; undo: systemctl enable {service}");
                done += 1;
            }
            Ok(status) => eprintln!("{service} is not disabled: systemctl disable ended with {status}"),
            Err(e) => eprintln!("{service} is not disabled: cannot run systemctl: {e}"),
        }
    }
    done
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::wire::Claim;
    use crate::ctl::fixture;

    fn report(node: &str, id: &str, peers: &[(&str, Option<&str>)]) -> DoctorReport {
        let peers = peers.iter().map(|(peer, trouble)| PeerSeen {
            node: (*peer).to_owned(),
            address: "10.0.0.9:7117".into(),
            id: trouble.is_none().then(|| format!("id-{peer}")),
            trouble: trouble.map(str::to_owned),
        });
        DoctorReport {
            node: node.into(),
            id: id.into(),
            found: vec![],
            peers: peers.collect(),
            claims: vec![],
        }
    }

    fn heard(node: &str, report: Option<DoctorReport>, clock: i64) -> Heard {
        let report = report.ok_or_else(|| "it does not answer".to_owned());
        let clock = report.is_ok().then_some((clock, 1));
        Heard { node: node.into(), report, clock }
    }

    fn said(heard: &[Heard]) -> Vec<String> {
        let status = fixture::status(vec![fixture::node("g", "n1", vec![])]);
        judge(&status, heard).into_iter().map(|f| format!("{:?} {}: {}", f.about, f.node, f.what)).collect()
    }

    #[test]
    fn all_is_well() {
        let all = [
            heard("n1", Some(report("n1", "id-n1", &[("n2", None)])), 0),
            heard("n2", Some(report("n2", "id-n2", &[("n1", None)])), 1500),
        ];
        assert_eq!(said(&all), [""; 0]);
    }

    #[test]
    fn two_machines_of_one_name_are_told_by_their_ids() {
        let all = [
            heard("n1", Some(report("n1", "another", &[("n2", None)])), 0),
            heard("n2", Some(report("n2", "id-n2", &[("n1", None)])), 0),
        ];
        assert_eq!(said(&all), ["Name n1: 2 machines say that they are n1: another, id-n1"]);
        let mut one = report("n1", "id-n1", &[]);
        let claim = |id: &str, from: &str| Claim { node: "n2".into(), id: id.into(), from: from.into() };
        one.claims = vec![claim("a", "10.0.0.2"), claim("b", "10.0.0.7")];
        let said = said(&[heard("n1", Some(one), 0)]);
        assert_eq!(said, ["Name n2: 2 machines say that they are n2: a at 10.0.0.2, b at 10.0.0.7"]);
    }

    #[test]
    fn nodes_that_act_by_different_files_are_named() {
        let mut nodes = ["n1", "n2", "n3"].map(|name| fixture::node("g", name, vec![]));
        nodes[1].status.as_mut().unwrap().config = "0123456789abcdef".into();
        let found = judge(&fixture::status(nodes.into()), &[]);
        assert_eq!((found[0].about, found[0].node.as_str()), (About::Config, "n1, n2, n3"));
        assert!(found[0].what.starts_with("2 cluster files are in force: "), "{}", found[0].what);
        assert!(found[0].what.ends_with("01234567 on n2"), "{}", found[0].what);
    }

    #[test]
    fn the_clock_that_is_alone_is_wrong() {
        let one = |node: &str, clock| heard(node, Some(report(node, &format!("id-{node}"), &[])), clock);
        assert_eq!(
            said(&[one("n1", 0), one("n2", -65_000), one("n3", 40)]),
            ["Clock n2: the clock of n2 is 1m 05s behind the others'"]
        );
        assert_eq!(
            said(&[one("n1", 0), one("n2", 3000)]),
            ["Clock n1, n2: the clocks of n1 and n2 are 3s apart"]
        );
    }

    #[test]
    fn a_firewall_is_told_from_an_agent_that_is_down() {
        let cut = Some("no connection within 1 s");
        let firewall = [
            heard("n1", Some(report("n1", "id-n1", &[("n2", cut), ("n3", None)])), 0),
            heard("n2", Some(report("n2", "id-n2", &[("n1", None), ("n3", None)])), 0),
            heard("n3", Some(report("n3", "id-n3", &[("n1", None), ("n2", None)])), 0),
        ];
        assert_eq!(
            said(&firewall),
            [
                "Reach n2: n1 does not reach the agent of n2 (10.0.0.9:7117): no connection within 1 s; the other way it works"
            ]
        );
        let down = [
            heard("n1", Some(report("n1", "id-n1", &[("n2", None), ("n3", cut)])), 0),
            heard("n2", Some(report("n2", "id-n2", &[("n1", None), ("n3", cut)])), 0),
            heard("n3", None, 0),
        ];
        assert_eq!(said(&down), ["Reach n3: no agent reaches that of n3: no connection within 1 s"]);
    }
}
