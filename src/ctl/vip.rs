//! `vip`: who holds the virtual addresses, what is wrong where not exactly one does, and what is behind them.

use super::picture::silence;
use super::text::{BOLD, DIM, Look, Row, WARN, listed, paint, put, short, table};
use super::{Asked, Exit, Global, Misuse};
use crate::api::wire::{ClusterStatus, NodeEntry};
use crate::director::word::{AlarmView, Held, KeeperView, VipView};
use anstyle::{AnsiColor, Style};
use serde::Serialize;

// `clusterctl vip`
#[derive(Debug, clap::Args)]
pub struct VipArgs {
    /// Only these virtual addresses
    pub names: Vec<String>,
}

/// One address, from all agents together.
#[derive(Debug, Serialize)]
pub struct Vip<'a> {
    pub vip: &'a str,
    pub address: &'a str,
    /// The director that holds it when all is well.
    pub preferred: &'a str,
    pub holders: Vec<&'a str>,
    pub directors: Vec<Director<'a>>,
    /// In words, where not exactly one director holds it, or an agent says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    pub diagnosis: Vec<&'a str>,
}

/// One director of an address.
#[derive(Debug, Serialize)]
pub struct Director<'a> {
    pub node: &'a str,
    /// Why its agent says nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub silent: Option<String>,
    #[serde(flatten)]
    pub view: Option<&'a VipView>,
}

impl Director<'_> {
    fn held(&self) -> Option<&Held> {
        self.view?.held.as_ref()
    }
}

pub async fn run(args: VipArgs, global: &Global) -> anyhow::Result<Exit> {
    let mut asked = Asked::open(global)?;
    let status = asked.cluster().await?;
    let mut vips = vips(&status);
    if let Some(unknown) = args.names.iter().find(|n| !vips.iter().any(|v| v.vip == **n)) {
        let known: Vec<String> = vips.iter().map(|v| v.vip.to_owned()).collect();
        let hint = match known.as_slice() {
            [] => "no agent that answers knows any: they stand under [vips] in the cluster file".into(),
            known => format!("those that the agents know are {}", listed(known, 8)),
        };
        return Err(Misuse { text: format!("no virtual address is called '{unknown}'"), hint }.into());
    }
    vips.retain(|v| args.names.is_empty() || args.names.iter().any(|n| n == v.vip));
    let well = vips.iter().all(|v| v.problem.is_none());
    if global.json {
        super::print_json(&vips)?;
    } else {
        super::print(&render(&vips, &Look::here()))?;
    }
    Ok(if well { Exit::Done } else { Exit::Incomplete })
}

/// All virtual addresses that some agent knows, in the order of the file.
pub fn vips(status: &ClusterStatus) -> Vec<Vip<'_>> {
    let mut all: Vec<Vip<'_>> = Vec::new();
    let told = status.nodes.iter().filter_map(|n| n.status.as_ref()).flat_map(|s| &s.vips);
    for view in told {
        if !all.iter().any(|v| v.vip == view.vip) {
            all.push(of(status, view));
        }
    }
    all
}

fn of<'a>(status: &'a ClusterStatus, one: &'a VipView) -> Vip<'a> {
    let views = |node: &'a NodeEntry| node.status.as_ref()?.vips.iter().find(|v| v.vip == one.vip);
    let director = |name: &'a String| {
        let node = status.nodes.iter().find(|n| n.node == *name);
        let silent = node.filter(|n| n.status.is_none()).map(silence);
        Director { node: name, silent, view: node.and_then(views) }
    };
    let directors: Vec<Director<'a>> = one.directors.iter().map(director).collect();
    let holders: Vec<&str> = directors.iter().filter(|d| d.held().is_some()).map(|d| d.node).collect();
    // The alarm with most to say of it.
    let alarms = status.nodes.iter().filter_map(views).filter_map(|v| v.alarm.as_ref());
    let alarm: Option<&AlarmView> = alarms.max_by_key(|a| a.diagnosis.len());
    let unseen: Vec<String> =
        directors.iter().filter(|d| d.view.is_none()).map(|d| d.node.to_owned()).collect();
    let far = match unseen.as_slice() {
        [] => String::new(),
        unseen => format!(", as far as can be seen: {} not answer", do_not(unseen)),
    };
    // What all agents together show may be more than any of them sees.
    let problem = match holders.as_slice() {
        [_] => alarm.filter(|_| !unseen.is_empty()).map(|a| a.text.clone()),
        [] => Some(format!("nobody holds it{far}")),
        several => Some(format!("held by {} at the same time{far}", several.join(" and "))),
    };
    Vip {
        vip: &one.vip,
        address: &one.address,
        preferred: one.directors.first().map_or("", String::as_str),
        holders,
        directors,
        problem,
        diagnosis: alarm.map(|a| a.diagnosis.iter().map(String::as_str).collect()).unwrap_or_default(),
    }
}

fn do_not(names: &[String]) -> String {
    let verb = if names.len() == 1 { "does" } else { "do" };
    format!("{} {verb}", listed(names, 4))
}

/// The sentences for the banner of `status`: an alarm that an agent raised, or several holders.
pub fn banners(status: &ClusterStatus) -> Vec<String> {
    let alarmed = |v: &Vip<'_>| {
        v.holders.len() > 1 || v.directors.iter().filter_map(|d| d.view).any(|view| view.alarm.is_some())
    };
    let sentence = |v: &Vip<'_>| {
        let problem = v.problem.as_ref()?;
        let why = v.diagnosis.first().map(|why| format!("; {why}")).unwrap_or_default();
        Some(format!("VIP {} ({}): {problem}{why}", v.vip, v.address))
    };
    vips(status).iter().filter(|v| alarmed(v)).filter_map(sentence).collect()
}

/// A block for each address: a sentence, what is wrong, its directors, what is behind it.
pub fn render(vips: &[Vip<'_>], look: &Look) -> String {
    if vips.is_empty() {
        return "no virtual addresses\n".into();
    }
    let mut out = String::new();
    for (i, vip) in vips.iter().enumerate() {
        if i > 0 {
            out.push('\n');
        }
        let state = match (vip.holders.as_slice(), &vip.problem) {
            (_, Some(problem)) => problem.clone(),
            ([holder], None) if *holder == vip.preferred => format!("held by {holder}, as preferred"),
            ([holder], None) => format!("held by {holder}; preferred is {}", vip.preferred),
            _ => String::new(),
        };
        put(&mut out, look, 0, &paint(BOLD, &format!("{} ({}): {state}", vip.vip, vip.address)));
        for why in &vip.diagnosis {
            put(&mut out, look, 2, &paint(WARN, &format!("- {why}")));
        }
        out.push_str(&table(look, &["  DIRECTOR", "HOLDS IT ON", "FOR", "KEEPALIVED", ""], &rows(vip), 1));
        let servers: Vec<Row> = vip.directors.iter().flat_map(|d| servers(vip, d)).collect();
        if !servers.is_empty() {
            let head = ["  PASSES ON FROM", "TO", "WEIGHT", "ACTIVE", ""];
            out.push_str(&table(look, &head, &servers, 1));
        }
    }
    out
}

fn rows(vip: &Vip<'_>) -> Vec<Row> {
    let plain = Style::new();
    let row = |d: &Director<'_>| {
        let held = d.held();
        let style =
            if held.is_some() && vip.holders.len() == 1 { AnsiColor::Green.on_default() } else { WARN };
        let keeper = d.view.and_then(|v| v.keeper.as_ref());
        let mut tail: Vec<String> = d.silent.iter().cloned().collect();
        if keeper.is_some_and(|k| k.yields) {
            tail.push("gave its addresses up for the other holder".into());
        }
        let on = match (held, d.view) {
            (Some(held), _) => held.interface.clone(),
            (None, Some(_)) => "-".into(),
            (None, None) => "unknown".into(),
        };
        Row {
            cells: vec![
                (format!("  {}", d.node), plain),
                (on, if held.is_some() { style } else { DIM }),
                (held.map(|h| short(h.for_ms)).unwrap_or_default(), plain),
                (keeper.map_or("-".into(), keepalived), plain),
            ],
            tail,
        }
    };
    vip.directors.iter().map(row).collect()
}

/// How its instance fares, and its own word beside it.
fn keepalived(keeper: &KeeperView) -> String {
    let said = keeper.vrrp.as_ref().map(|said| format!(", {said}"));
    keeper.state.clone() + &said.unwrap_or_default()
}

/// What the holder's kernel passes on; the others' tables are alike and idle.
fn servers(vip: &Vip<'_>, director: &Director<'_>) -> Vec<Row> {
    if !vip.holders.contains(&director.node) {
        return Vec::new();
    }
    let plain = Style::new();
    let servers = director.view.map(|v| v.servers.as_slice()).unwrap_or_default();
    let row = |s: &crate::director::word::RealServer| Row {
        cells: vec![
            (format!("  {}, {}", director.node, s.service), plain),
            (s.server.clone(), plain),
            (s.weight.to_string(), if s.weight == 0 { WARN } else { plain }),
            (s.active.to_string(), plain),
        ],
        tail: if s.weight == 0 { vec!["takes no new connections".into()] } else { Vec::new() },
    };
    servers.iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::super::fixture::*;
    use super::*;
    use crate::director::word::RealServer;
    use snapbox::str;

    fn director(name: &str, holds: bool, alarm: Option<&[&str]>) -> NodeEntry {
        let mut node = node("lvs", name, vec![]);
        let alarm = alarm.map(|why| AlarmView {
            text: "www is held twice".into(),
            for_ms: 5000,
            diagnosis: why.iter().map(|w| (*w).to_owned()).collect(),
        });
        let server = |weight| RealServer {
            service: "192.168.1.100:80".into(),
            server: "192.168.1.21:80".into(),
            forward: "Route".into(),
            weight,
            active: 2,
        };
        node.status.as_mut().unwrap().vips = vec![VipView {
            vip: "www".into(),
            address: "192.168.1.100/24".into(),
            directors: vec!["lvs1".into(), "lvs2".into()],
            held: holds.then(|| Held { interface: "eth0".into(), for_ms: 72_000 }),
            keeper: Some(KeeperView {
                instance: format!("keepalived@{name}"),
                state: "ready".into(),
                yields: false,
                vrrp: holds.then(|| "MASTER".to_owned()),
            }),
            alarm,
            servers: vec![server(1), server(0)],
        }];
        node
    }

    #[track_caller]
    fn check(nodes: Vec<NodeEntry>, wanted: impl snapbox::IntoData) {
        let status = status(nodes);
        let text = render(&vips(&status), &look(None)) + &banners(&status).join("\n");
        snapbox::assert_data_eq!(anstream::adapter::strip_str(&text).to_string(), wanted);
    }

    #[test]
    fn one_holder_with_what_is_behind_it() {
        check(
            vec![director("lvs1", false, None), director("lvs2", true, None)],
            str![[r#"
www (192.168.1.100/24): held by lvs2; preferred is lvs1
  DIRECTOR  HOLDS IT ON  FOR     KEEPALIVED
  lvs1      -                    ready
  lvs2      eth0         1m 12s  ready, MASTER
  PASSES ON FROM          TO               WEIGHT  ACTIVE
  lvs2, 192.168.1.100:80  192.168.1.21:80  1       2
  lvs2, 192.168.1.100:80  192.168.1.21:80  0       2       takes no new connections

"#]],
        );
    }

    #[test]
    fn two_holders_with_the_reason() {
        let why = ["a rule on lvs1 drops VRRP", "no advert of lvs2 reaches lvs1"];
        check(
            vec![director("lvs1", true, Some(&why)), director("lvs2", true, None)],
            str![[r#"
www (192.168.1.100/24): held by lvs1 and lvs2 at the same time
  - a rule on lvs1 drops VRRP
  - no advert of lvs2 reaches lvs1
  DIRECTOR  HOLDS IT ON  FOR     KEEPALIVED
  lvs1      eth0         1m 12s  ready, MASTER
  lvs2      eth0         1m 12s  ready, MASTER
  PASSES ON FROM          TO               WEIGHT  ACTIVE
  lvs1, 192.168.1.100:80  192.168.1.21:80  1       2
  lvs1, 192.168.1.100:80  192.168.1.21:80  0       2       takes no new connections
  lvs2, 192.168.1.100:80  192.168.1.21:80  1       2
  lvs2, 192.168.1.100:80  192.168.1.21:80  0       2       takes no new connections
VIP www (192.168.1.100/24): held by lvs1 and lvs2 at the same time; a rule on lvs1 drops VRRP
"#]],
        );
    }

    #[test]
    fn what_cannot_be_seen_is_said() {
        check(
            vec![director("lvs1", false, None), silent("lvs", "lvs2", vec![])],
            str![[r#"
www (192.168.1.100/24): nobody holds it, as far as can be seen: lvs2 does not answer
  DIRECTOR  HOLDS IT ON  FOR  KEEPALIVED
  lvs1      -                 ready
  lvs2      unknown           -           no connection within 1 s

"#]],
        );
    }
}
