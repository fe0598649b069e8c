//! `clusterctl doctor` among real agents.

use super::agents::{Cluster, wait};
use std::fs;
use std::net::TcpListener;

#[test]
fn what_is_wrong_is_found_where_it_is_and_between_the_machines() {
    let mut cluster = Cluster::new("doctor");
    let file = "[cluster]\nname = \"NAME\"\ninsecure = true\n[nodes]\nall = { n1 = \"A1\", n2 = \"A2\", n3 = \"A3\" }\n\
                [services]\ncache = { on = \"n1\" }\nweb = { on = \"n2\" }\n";
    let cache = "[run]\ncommand = [\"PROGRAM\", \"stand-in\", \"redis\", \"--listen\", \"{address}:7401\"]\n\
                 [ready]\nprobe = { kind = \"redis\", port = 7401 }\n";
    let web = "[run]\ncommand = [\"/nowhere/at-all\"]\n[ready]\nprobe = { kind = \"tcp\", port = 7400 }\n";
    cluster.write(file, &[("cache", cache), ("web", web)]);
    ["n1", "n2", "n3"].iter().for_each(|node| cluster.give_own_file(node));
    ["n1", "n2", "n3"].iter().for_each(|node| cluster.start(node));
    wait("the cache to be ready", || cluster.pid_if("n1", "cache@n1", "ready"));
    wait("the others to answer", || cluster.node_status("n2").and(cluster.node_status("n3")));
    let found = |cluster: &Cluster| {
        let told = cluster.ctl("n1", &["doctor", "--json"]);
        assert_eq!(told.code, 3, "{told:?}");
        let found: Vec<serde_json::Value> = serde_json::from_str(&told.out).unwrap();
        let text = |f: &serde_json::Value, key: &str| f[key].as_str().unwrap().to_owned();
        // What this machine has at boot, and how full it is, is none of ours.
        let ours = found.iter().filter(|f| !["disk", "boot", "unit-file"].contains(&f["about"].as_str().unwrap()));
        ours.map(|f| format!("{} {}: {}", text(f, "about"), text(f, "node"), text(f, "what"))).collect::<Vec<_>>()
    };
    assert_eq!(found(&cluster), ["program n2: /nowhere/at-all, which web@n2 runs, is not there"]);

    // A stranger on its port, a file that differs, an agent that is gone.
    let _stranger = TcpListener::bind(format!("{}:7400", cluster.address(2))).unwrap();
    let own = cluster.file_of("n2");
    fs::write(&own, format!("# by hand\n{}", fs::read_to_string(&own).unwrap())).unwrap();
    assert_eq!(cluster.ctl("n2", &["reload", "n2"]).code, 0);
    cluster.kill("n3");
    let found = found(&cluster);
    let pid = std::process::id();
    assert_eq!(found.len(), 4, "{found:#?}");
    assert!(found[0].starts_with("config n1, n2: 2 cluster files are in force: "), "{found:#?}");
    assert!(found[1].starts_with("reach n3: no agent reaches that of n3: "), "{found:#?}");
    assert!(found[3].ends_with(&format!("(pid {pid}) listens on port 7400, which web@n2 wants")), "{found:#?}");

    let told = cluster.ctl("n1", &["doctor", "n3"]);
    assert!(told.code == 3 && told.out.contains("type: on n3: systemctl status clusterd"), "{told:?}");
}
