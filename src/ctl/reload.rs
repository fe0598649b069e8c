//! `reload`: let the agents read the cluster file again.

use super::picture::silence;
use super::{Asked, Exit, Global};
use crate::api::wire::{ReloadAsk, ReloadReply};
use futures_util::future::join_all;
use std::collections::BTreeMap;

// `clusterctl reload`
#[derive(Debug, clap::Args)]
pub struct ReloadArgs {
    /// Only these nodes
    pub nodes: Vec<String>,
    /// Why; it stands on the trail
    #[arg(long, default_value = "", hide_default_value = true, value_name = "TEXT")]
    pub reason: String,
}

pub async fn run(args: ReloadArgs, global: &Global) -> anyhow::Result<Exit> {
    let mut asked = Asked::open(global)?;
    let status = asked.cluster().await?;
    for name in &args.nodes {
        anyhow::ensure!(status.nodes.iter().any(|n| n.node == *name), "no node is called '{name}'");
    }
    let chosen: Vec<_> =
        status.nodes.iter().filter(|n| args.nodes.is_empty() || args.nodes.contains(&n.node)).collect();
    let asked = &asked;
    let ask = &ReloadAsk { by: super::order::who(), reason: args.reason.clone() };
    let replies = join_all(chosen.into_iter().map(async |node| {
        if node.status.is_none() {
            return (&node.node, Err(silence(node)));
        }
        let reply: Result<ReloadReply, _> = asked.post_at(&node.node, "/v1/reload", ask).await;
        (&node.node, reply.map_err(|e| e.to_string()))
    }))
    .await;
    let mut exit = Exit::Done;
    let mut json = BTreeMap::new();
    let mut out = String::new();
    for (node, reply) in replies {
        match reply {
            Ok(reply) => {
                out.push_str(&format!("{node}: {}\n", reply.text));
                json.insert(node, reply);
            }
            Err(error) => {
                eprintln!("{node}: not reloaded: {error}");
                exit = Exit::Incomplete;
            }
        }
    }
    if global.json {
        super::print_json(&json)?
    } else {
        super::print(&out)?
    }
    Ok(exit)
}
