//! `[vips]`: what it means, and what follows from it.

use clusterd::model::{Cluster, Count, Forward, OnSplitBrain, Scheduler, Source, Sources, parse};
use std::collections::BTreeMap;
use std::time::Duration;

const HEAD: &str = r#"
[cluster]
name = "shop"
[nodes]
lvs = { lvs1 = "10.0.0.1", lvs2 = "10.0.0.2" }
web = { web1 = "10.0.0.3", web2 = "10.0.0.4", web3 = "10.0.0.5" }
"#;

fn cluster(text: &str) -> Cluster {
    let unit = |name: &str, text: &str| {
        (name.to_owned(), Source { path: format!("units/{name}.toml"), text: text.to_owned() })
    };
    let sources = Sources {
        cluster: Source { path: "cluster.toml".into(), text: format!("{HEAD}{text}") },
        folder: "units".into(),
        units: BTreeMap::from([
            unit("keepalived", include_str!("../units/keepalived.toml")),
            unit("nginx", include_str!("../units/nginx.toml")),
        ]),
        unread: BTreeMap::new(),
    };
    parse(&sources).unwrap_or_else(|errors| panic!("{errors}"))
}

const SERVICES: &str = r#"
[services]
web = { on = "web", unit = "nginx" }
keepalived = { on = "lvs" }
"#;

/// `keepalived@lvs1: web any`, one a line.
fn needs(cluster: &Cluster) -> String {
    let mut out = String::new();
    for ix in cluster.instance_ixs() {
        for need in cluster.needs_of(ix) {
            let targets: Vec<&str> = need.targets.iter().map(|t| cluster.service(*t).name.as_str()).collect();
            let name = &cluster.instance(ix).name;
            out.push_str(&format!("{name}: {} = {need} of {}\n", need.name, targets.join("+")));
        }
    }
    out
}

#[test]
fn the_plain_case_is_filled_in() {
    let cluster = cluster(&format!(
        "{SERVICES}[vips]\nwww = {{ address = \"10.0.0.100/24\", on = \"lvs\", to = \"web\", port = 80 }}\n"
    ));
    let vip = cluster.vip_named("www").unwrap();
    let names = |on: &[clusterd::model::NodeIx]| {
        on.iter().map(|n| cluster.node(*n).name.clone()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(names(&vip.on), "lvs1 lvs2");
    assert_eq!((vip.vrid, vip.ports.as_slice(), vip.fwmark), (100, &[80][..], None));
    assert_eq!((vip.scheduler, vip.forward), (Scheduler::WeightedRoundRobin, Forward::Direct));
    assert_eq!((vip.enough, vip.on_split_brain), (Count::AtLeast(1), OnSplitBrain::Alert));
    assert!(!vip.manage && !vip.multicast && vip.persistence.is_none() && vip.interfaces.is_empty());
    assert_eq!(names(&cluster.real_servers(vip).collect::<Vec<_>>()), "web1 web2 web3");
    assert_eq!(cluster.warnings, [] as [&str; 0]);
}

#[test]
fn mutual_masters_have_opposite_priorities() {
    let cluster = cluster(&format!(
        "{SERVICES}[vips]\n\
         a = {{ address = \"10.0.0.101/24\", on = [\"lvs1\", \"lvs2\"], to = \"web\", port = [80, 443] }}\n\
         b = {{ address = \"10.0.0.102/24\", on = [\"lvs2\", \"lvs1\"], to = \"web\", port = 80, vrid = 7, \
         persistence = \"5m\", weights = {{ web2 = 3 }}, interface = {{ lvs1 = \"eth1\" }} }}\n"
    ));
    let [lvs1, lvs2, web2] = ["lvs1", "lvs2", "web2"].map(|n| cluster.node_named(n).unwrap());
    let [a, b] = [&cluster.vips[0], &cluster.vips[1]];
    assert_eq!((a.priority(lvs1), a.priority(lvs2)), (Some(150), Some(140)));
    assert_eq!((b.priority(lvs1), b.priority(lvs2), b.priority(web2)), (Some(140), Some(150), None));
    assert_eq!((a.vrid, b.vrid), (101, 7));
    assert_eq!((b.weight(web2), b.weight(lvs1)), (3, 1));
    assert_eq!(b.persistence, Some(Duration::from_secs(300)));
    assert_eq!(b.interfaces.get(&lvs1).map(String::as_str), Some("eth1"));
    assert_eq!(b.preferred(), Some(lvs2));
    // One need for both.
    assert_eq!(needs(&cluster), "keepalived@lvs1: web = any of web\nkeepalived@lvs2: web = any of web\n");
}

#[test]
fn keepalived_needs_enough_of_the_service_behind() {
    let vip = |more: &str| {
        let line =
            format!("www = {{ address = \"10.0.0.100/24\", on = \"lvs\", to = \"web\", port = 80{more} }}\n");
        format!("[vips]\n{line}")
    };
    let derived = cluster(&(SERVICES.to_owned() + &vip(", enough = 2")));
    assert_eq!(needs(&derived), "keepalived@lvs1: web = 2 of web\nkeepalived@lvs2: web = 2 of web\n");
    let told = derived.defaults.iter().find(|d| d.place == "service keepalived, need web").unwrap();
    assert_eq!(told.value, "2 (from `[vips]`)");

    // A need that is written goes first, on the nodes that it is for.
    let written = SERVICES.replace("on = \"lvs\"", "on = \"lvs\", at.lvs2.needs.web = \"all\"");
    let both = cluster(&(written + &vip("")));
    assert_eq!(needs(&both), "keepalived@lvs1: vip-www = any of web\nkeepalived@lvs2: web = all of web\n");

    // Only the directors, and only what holds addresses.
    let one = vip("").replace("on = \"lvs\"", "on = \"lvs2\"");
    let one = cluster(&(SERVICES.to_owned() + &one));
    assert_eq!(needs(&one), "keepalived@lvs2: web = any of web\n");
    let none = SERVICES.replace("keepalived = { on = \"lvs\" }", "");
    let none = cluster(&(none + &vip("")));
    assert_eq!(needs(&none), "");
    assert!(none.warnings.iter().any(|w| w.contains("nothing on `lvs1` could hold")), "{:?}", none.warnings);
}

#[test]
fn two_addresses_may_want_different_counts() {
    let cluster = cluster(&format!(
        "{SERVICES}[vips]\n\
         a = {{ address = \"10.0.0.101/24\", on = \"lvs\", to = \"web\", port = 80 }}\n\
         b = {{ address = \"10.0.0.102/24\", on = \"lvs2\", to = \"web\", port = 80, enough = \"quorum\" }}\n"
    ));
    assert_eq!(
        needs(&cluster),
        "keepalived@lvs1: web = any of web\nkeepalived@lvs2: web = any of web\nkeepalived@lvs2: vip-b = quorum of web\n"
    );
}
