//! The fourteen nodes of the sample cluster, on one machine. Redis is real where it is installed; everything else is
//! a program that listens, so that probes have an answer.

use super::agents::Cluster;
use super::program::{own_path, shown};

const NODES: [(&str, &[&str]); 7] = [
    ("lvs", &["lvs1", "lvs2"]),
    ("web", &["web1", "web2", "web3"]),
    ("mq", &["mq1", "mq2"]),
    ("redis", &["redis1", "redis2"]),
    ("mysql", &["mysql1", "mysql2"]),
    ("fdfs", &["fdfs1", "fdfs2"]),
    ("office", &["office1"]),
];

/// Name, nodes, port, needs.
const SERVICES: [(&str, &str, u16, &str); 8] = [
    ("mysqld", "mysql", 3306, ""),
    ("cache", "redis", 6379, ""),
    ("tracker", "fdfs", 22122, ""),
    ("storage", "fdfs", 23000, "needs.tracker = \"any\""),
    ("preview", "office", 2002, ""),
    ("broker", "mq", 61616, "needs.mysqld = \"any\""),
    (
        "site",
        "web",
        80,
        "needs.cache = \"any\", needs.broker = \"any\", needs.storage = \"any\", needs.preview = \"any\"",
    ),
    ("balancer", "lvs", 81, "needs.site = 1"),
];

/// Lays the cluster out; nothing is started yet.
pub fn lay_out(what: &str) -> Cluster {
    lay_out_with(what, "")
}

/// As [`lay_out`], with something more in the entry of the service `cache`.
pub fn lay_out_with(what: &str, cache: &str) -> Cluster {
    let mut cluster = Cluster::new(what);
    for (group, names) in NODES {
        for name in names {
            cluster.node(group, name);
        }
    }
    let redis = super::daemon("redis-server", "redis-server");
    for (name, nodes, port, needs) in SERVICES {
        let unit = match &redis {
            Some(server) if name == "cache" => super::redis_unit(server, cluster.folder()),
            _ => listener_unit(port),
        };
        let more = if name == "cache" { cache } else { needs };
        let comma = if more.is_empty() { "" } else { ", " };
        cluster.service(name, &format!("on = \"{nodes}\"{comma}{more}"), &unit);
    }
    cluster
}

/// The names of all nodes, in the order of the file.
pub fn nodes() -> impl Iterator<Item = &'static str> {
    NODES.iter().flat_map(|(_, names)| names.iter().copied())
}

fn listener_unit(port: u16) -> String {
    let program = shown(&own_path());
    format!(
        "[set]\nevery = \"5s\"\n\
         [run]\ncommand = [\"{program}\", \"--listen\", \"{{address}}:{port}\"]\n\
         [ready]\nevery = \"{{every}}\"\nprobe = {{ kind = \"tcp\", port = {port} }}\n"
    )
}
