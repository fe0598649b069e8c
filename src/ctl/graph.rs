//! `graph`: what needs what, drawn from the cluster file: for a terminal, for Graphviz, for Mermaid. Offline.

use super::{Exit, Global};
use crate::graph::{self, Graph};

// `clusterctl graph`
#[derive(Debug, clap::Args)]
pub struct GraphArgs {
    /// For Graphviz: clusterctl graph --dot | dot -Tsvg > graph.svg
    #[arg(long, group = "form")]
    pub dot: bool,
    /// For Mermaid, as Markdown pages show it
    #[arg(long, group = "form")]
    pub mermaid: bool,
    /// For a terminal (the default)
    #[arg(long, group = "form")]
    pub text: bool,
}

pub fn run(args: GraphArgs, global: &Global) -> anyhow::Result<Exit> {
    let cluster = super::load(global)?;
    let drawing = if args.dot {
        graph::dot(&cluster)
    } else if args.mermaid {
        graph::mermaid(&cluster)
    } else {
        let order = Graph::new(&cluster).map_err(|_| anyhow::anyhow!("the needs close a cycle"))?;
        graph::terminal(&cluster, &order)
    };
    super::print(&drawing)?;
    Ok(Exit::Done)
}
