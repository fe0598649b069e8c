//! `render`: what directors and real servers get from the cluster file; or how this machine differs. Changes nothing.

mod diff;
mod machine;

use super::text::{BOLD, DIM, paint};
use super::{Exit, Global, Misuse, hint};
use crate::director::machine::Machine;
use crate::director::render::{Known, Mac, Rendered, render};
use crate::model::{Cluster, NodeIx};

// `clusterctl render`
#[derive(Debug, clap::Args)]
pub struct RenderArgs {
    /// Only this node
    pub node: Option<String>,
    /// Show how this machine differs from what is rendered for it; exit code 3 when it does
    #[arg(long)]
    pub diff: bool,
    /// Show the marks for iptables, and not for nftables
    #[arg(long)]
    pub iptables: bool,
    /// The interface with a node's own address, where this machine does not know it
    #[arg(long, value_name = "NODE=NAME")]
    pub interface: Vec<String>,
    /// A director's MAC, where this machine does not know it
    #[arg(long, value_name = "NODE=MAC")]
    pub mac: Vec<String>,
}

pub fn run(args: RenderArgs, global: &Global) -> anyhow::Result<Exit> {
    let cluster = super::load(global)?;
    let machine = Machine::read();
    let known = known(&cluster, &machine, &args)?;
    let chosen: Vec<NodeIx> = match &args.node {
        Some(name) => vec![named(&cluster, name)?],
        None if args.diff => {
            vec![
                machine.node(&cluster).ok_or_else(|| Misuse {
                    text: "which node this is cannot be told: no address of the file is on an interface here"
                        .into(),
                    hint: "name it: clusterctl render NODE --diff".into(),
                })?,
            ]
        }
        None => (0..cluster.nodes.len() as u32).map(NodeIx).collect(),
    };
    let all: Vec<Rendered> = chosen
        .iter()
        .map(|node| render(&cluster, *node, &known))
        .filter(|r| args.node.is_some() || !r.is_empty())
        .collect();
    if args.diff {
        return differences(&all, &args, global);
    }
    if global.json {
        super::print_json(&all)?;
    } else {
        super::print(&show(&all, &args))?;
    }
    Ok(told(&all))
}

/// Tells what keeps the texts from being applied.
fn told(all: &[Rendered]) -> Exit {
    let problems: Vec<&String> = all.iter().flat_map(|r| &r.problems).collect();
    for problem in &problems {
        anstream::eprintln!("{} {problem}", paint(super::ERROR, "incomplete:"));
    }
    if problems.is_empty() {
        return Exit::Done;
    }
    hint(
        "on the director itself it is known; else say it: --interface lvs1=eth0 --mac lvs2=52:54:00:09:03:01",
    );
    Exit::Incomplete
}

fn named(cluster: &Cluster, name: &str) -> Result<NodeIx, Misuse> {
    cluster.node_named(name).ok_or_else(|| Misuse {
        text: format!("there is no node called \"{name}\""),
        hint: match cluster.vips.iter().flat_map(|v| &v.on).next() {
            Some(director) => format!("a director is {}", cluster.node(*director).name),
            None => "the cluster file has no `[vips]`".into(),
        },
    })
}

/// What this machine and the command line tell; the command line goes first.
fn known(cluster: &Cluster, machine: &Machine, args: &RenderArgs) -> Result<Known, Misuse> {
    let mut known = machine.known(cluster);
    let pair = |text: &str| -> Result<(NodeIx, String), Misuse> {
        let (node, value) = text.split_once('=').ok_or_else(|| Misuse {
            text: format!("\"{text}\" is not NODE=VALUE"),
            hint: "write --interface lvs1=eth0, --mac lvs2=52:54:00:09:03:01".into(),
        })?;
        Ok((named(cluster, node)?, value.to_owned()))
    };
    for text in &args.interface {
        let (node, name) = pair(text)?;
        let sound = !name.is_empty()
            && name.len() <= 15
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        if !sound {
            return Err(Misuse {
                text: format!("\"{name}\" is not the name of an interface"),
                hint: "write what `ip link` shows, such as eth0".into(),
            });
        }
        known.interfaces.insert(node, name);
    }
    for text in &args.mac {
        let (node, mac) = pair(text)?;
        let mac: Mac = mac
            .parse()
            .map_err(|why: &str| Misuse { text: format!("\"{mac}\" is not a MAC"), hint: why.to_owned() })?;
        known.macs.insert(node, vec![mac]);
    }
    Ok(known)
}

fn show(all: &[Rendered], args: &RenderArgs) -> String {
    let mut out = String::new();
    for rendered in all {
        let mut part = |title: &str, text: &str| {
            if !out.is_empty() {
                out.push('\n');
            }
            let title = format!("==> {}: {title}", rendered.node);
            out.push_str(&format!("{}\n{text}", paint(BOLD, &title)));
        };
        for file in &rendered.files {
            part(&file.path.display().to_string(), &file.text);
        }
        if let Some(marks) = &rendered.marks {
            if args.iptables {
                for (tool, text) in [("iptables", &marks.iptables), ("ip6tables", &marks.ip6tables)] {
                    if let Some(text) = text {
                        part(&format!("{tool}-restore --noflush"), text);
                    }
                }
                part("then", &(marks.iptables_commands().join("\n") + "\n"));
            } else {
                part("nft -f -", &marks.nft);
            }
        }
        if let Some(real) = &rendered.real_server {
            part("as a real server", &(real.commands().join("\n") + "\n"));
        }
        if rendered.is_empty() {
            let nothing = "nothing: it is no director, and no real server behind direct routing";
            out.push_str(&format!("{}: {}\n", rendered.node, paint(DIM, nothing)));
        }
    }
    if out.is_empty() {
        out.push_str("nothing to render: the cluster file has no `[vips]`\n");
    }
    out
}

/// What differs on this machine, part by part.
fn differences(all: &[Rendered], args: &RenderArgs, global: &Global) -> anyhow::Result<Exit> {
    let mut parts: Vec<(String, String)> = Vec::new();
    for rendered in all {
        for file in &rendered.files {
            let here = machine::file(&file.path)?;
            let name = file.path.display().to_string();
            parts.push((name, diff::lines(here.as_deref().unwrap_or(""), &file.text)));
        }
        let wanted = rendered.marks.as_ref();
        if args.iptables {
            for (tool, text) in [
                ("iptables", wanted.and_then(|m| m.iptables.as_deref())),
                ("ip6tables", wanted.and_then(|m| m.ip6tables.as_deref())),
            ] {
                let rules: String = text
                    .unwrap_or("")
                    .lines()
                    .filter(|l| l.starts_with("-A "))
                    .map(|l| format!("{l}\n"))
                    .collect();
                parts.push((tool.to_owned(), diff::lines(&machine::iptables(tool)?, &rules)));
            }
        } else {
            let wanted = wanted.map_or("", |m| m.nft_listed());
            // Without a mark there need be no nft at all.
            if let Some(here) = machine::nft(!wanted.is_empty())? {
                parts.push(("nft".to_owned(), diff::lines(&here, wanted)));
            }
        }
        let real = rendered.real_server.as_ref();
        parts.push(("as a real server".into(), machine::real_server(real)));
    }
    parts.retain(|(_, text)| !text.is_empty());
    if global.json {
        let list: Vec<_> =
            parts.iter().map(|(what, text)| serde_json::json!({ "what": what, "diff": text })).collect();
        super::print_json(&list)?;
    } else if parts.is_empty() {
        super::print("no difference\n")?;
    } else {
        let text: String = parts
            .iter()
            .map(|(what, text)| format!("{}\n{text}", paint(BOLD, &format!("==> {what}"))))
            .collect();
        super::print(&text)?;
    }
    let known = told(all);
    Ok(if parts.is_empty() { known } else { Exit::Incomplete })
}
