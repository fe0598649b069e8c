//! One cluster file for all nodes, by `clusterctl apply`. Each node has files of its own, as on machines.

use super::agents::{Cluster, Told, wait};
use clusterd::generation::Generation;
use clusterd::model::Sources;
use std::fs;

const NODES: [&str; 3] = ["n1", "n2", "n3"];

/// A cache on n1, and a web server on n2 that needs it.
fn three_nodes(name: &str) -> Cluster {
    let cluster = Cluster::new(name);
    write(&cluster, "");
    NODES.iter().for_each(|node| cluster.give_own_file(node));
    cluster
}

/// The shared file, which is what is applied, with these lines at its end.
fn write(cluster: &Cluster, more: &str) {
    let file = format!(
        "[cluster]\nname = \"NAME\"\ninsecure = true\n[nodes]\nall = {{ n1 = \"A1\", n2 = \"A2\", n3 = \"A3\" }}\n\
         [services]\ncache = {{ on = \"n1\" }}\nweb = {{ on = \"n2\", needs.cache = \"any\" }}\n{more}"
    );
    let unit = |kind: &str, port: u16| {
        format!(
            "[set]\nport = {port}\n[run]\ncommand = [\"PROGRAM\", \"stand-in\", \"{kind}\", \"--listen\", \
             \"{{address}}:{{port}}\"]\n[ready]\nprobe = {{ kind = \"{kind}\", port = \"{{port}}\" }}\n"
        )
    };
    cluster.write(&file, &[("cache", &unit("redis", 7401)), ("web", &unit("http", 7400))]);
}

fn start_all(cluster: &mut Cluster) {
    NODES.iter().for_each(|node| cluster.start(node));
    wait("all to be up", || cluster.pid_if("n1", "web@n2", "ready"));
    wait("n3 to answer", || cluster.node_status("n3"));
}

fn apply(cluster: &Cluster, node: &str, more: &[&str]) -> Told {
    let file = cluster.file();
    let mut args = vec!["apply", file.to_str().unwrap(), "--yes"];
    args.extend(more);
    cluster.ctl(node, &args)
}

fn generation(cluster: &Cluster, node: &str) -> Option<Generation> {
    Some(cluster.node_status(node)?.generation)
}

fn numbers(cluster: &Cluster) -> [Option<u64>; 3] {
    NODES.map(|node| generation(cluster, node).map(|g| g.number))
}

/// The hash of the files that lie on a node's disk.
fn on_disk(cluster: &Cluster, node: &str) -> String {
    Sources::read(&cluster.file_of(node), None).unwrap().hash()
}

#[test]
fn a_file_that_all_accept_is_in_force_everywhere() {
    let mut cluster = three_nodes("apply");
    write(&cluster, "old = { on = \"n3\", unit = \"cache\", set.port = 7403 }\n");
    NODES.iter().for_each(|node| cluster.give_own_file(node));
    start_all(&mut cluster);
    let cache = wait("the cache", || cluster.pid_if("n1", "cache@n1", "ready"));
    let web = wait("the web server", || cluster.pid_if("n1", "web@n2", "ready"));
    wait("what will be taken out", || cluster.pid_if("n1", "old@n3", "ready"));

    // One is new, one is taken out, one runs by something else, one stays.
    write(&cluster, "more = { on = \"n3\", unit = \"cache\", set.port = 7402 }\n");
    let unit = cluster.file().with_file_name("units").join("web.toml");
    let text = fs::read_to_string(&unit).unwrap();
    fs::write(&unit, text.replace("[ready]", "environment = { A = \"1\" }\n[ready]")).unwrap();

    let shown = apply(&cluster, "n1", &["--dry-run"]);
    assert_eq!(shown.code, 0, "{shown:?}");
    for line in [
        "starts    more@n3   service more is new",
        "stops     old@n3    service old is not in the file any more",
        "restarts  web@n2    run.environment differs",
        "1 instance as it is",
    ] {
        assert!(shown.out.contains(line), "no {line:?} in:\n{}", shown.out);
    }
    assert_eq!(numbers(&cluster), [Some(0); 3]);

    let applied = apply(&cluster, "n1", &[]);
    assert_eq!(applied.code, 0, "{applied:?}");
    assert_eq!(numbers(&cluster), [Some(1); 3]);
    wait("the new one to be ready", || cluster.pid_if("n1", "more@n3", "ready"));
    assert!(cluster.view("n1", "old@n3").is_none(), "it is stopped, and gone");
    assert!(cluster.event("n3", "old@n3", "stopped").is_some());
    let anew = wait("the web server", || cluster.pid_if("n1", "web@n2", "ready"));
    assert_ne!(anew, web);
    assert_eq!(cluster.pid_if("n1", "cache@n1", "ready"), Some(cache));
    // It is where people look for it, too.
    let hash = Sources::read(&cluster.file(), None).unwrap().hash();
    NODES.iter().for_each(|node| assert_eq!(on_disk(&cluster, node), hash, "{node}"));

    let again = apply(&cluster, "n2", &[]);
    assert!(again.code == 0 && again.out.contains("nothing to do: generation 1"), "{again:?}");
    // A new agent knows where it stands.
    cluster.kill("n2");
    cluster.start("n2");
    assert_eq!(wait("n2 to answer", || generation(&cluster, "n2")).number, 1);
    // Who changes a file by hand has left the line, and all can see it.
    let own = cluster.file_of("n2");
    let text = fs::read_to_string(&own).unwrap();
    fs::write(&own, format!("# by hand\n{text}")).unwrap();
    assert_eq!(cluster.ctl("n2", &["reload", "n2"]).code, 0);
    let status = cluster.ctl("n1", &["status"]);
    assert!(
        status.out.contains("generation 1, changed by hand (") && status.out.contains("DIVERGED"),
        "{status:?}"
    );
}

#[test]
fn where_one_refuses_nothing_changes_anywhere() {
    let mut cluster = three_nodes("refuses");
    start_all(&mut cluster);
    write(&cluster, "more = { on = \"n1\", unit = \"cache\", set.port = 7402 }\n");
    // An agent does not move to another address by itself.
    let text = fs::read_to_string(cluster.file()).unwrap();
    let moved = text.replace(&cluster.address(2), &cluster.address(9));
    fs::write(cluster.file(), moved).unwrap();
    let before = NODES.map(|node| on_disk(&cluster, node));

    let refused = apply(&cluster, "n1", &[]);
    // Through the address in the file, n2 is asked by its name: the relaying agent knows where it is.
    assert_eq!(refused.code, 3, "{refused:?}");
    assert!(
        refused.err.contains("n2 does not accept it") && refused.err.contains("another address"),
        "{refused:?}"
    );
    assert!(refused.err.contains("nothing was changed on any node"), "{refused:?}");
    assert_eq!(numbers(&cluster), [Some(0); 3]);
    assert_eq!(NODES.map(|node| on_disk(&cluster, node)), before);
    assert!(cluster.view("n1", "more@n1").is_none());

    // Nor does one with a mistake get further than here.
    fs::write(cluster.file(), text.replace("needs.cache", "neds.cache")).unwrap();
    assert_eq!(apply(&cluster, "n1", &[]).code, 4);
}

#[test]
fn one_that_was_down_takes_it_when_it_boots() {
    let mut cluster = three_nodes("was-down");
    start_all(&mut cluster);
    cluster.kill("n3");
    write(&cluster, "more = { on = \"n3\", unit = \"cache\", set.port = 7402 }\n");
    let refused = apply(&cluster, "n1", &[]);
    assert_eq!(refused.code, 3, "{refused:?}");
    assert!(refused.err.contains("n3 does not answer") && refused.err.contains("--reachable"), "{refused:?}");
    assert_eq!(numbers(&cluster), [Some(0), Some(0), None]);

    let applied = apply(&cluster, "n1", &["--reachable"]);
    assert_eq!(applied.code, 0, "{applied:?}");
    assert!(applied.err.contains("left out: n3"), "{applied:?}");
    assert_eq!(numbers(&cluster), [Some(1), Some(1), None]);

    // Two of them later it still comes from what it has.
    write(&cluster, "more = { on = \"n3\", unit = \"cache\", set.port = 7403 }\n");
    assert_eq!(apply(&cluster, "n2", &["--reachable"]).code, 0);
    cluster.start("n3");
    wait("n3 to take it", || (generation(&cluster, "n3")?.number == 2).then_some(()));
    wait("what is new there", || cluster.pid_if("n1", "more@n3", "ready"));
    assert!(cluster.event("n3", "", "config-fetched").is_some(), "{:?}", cluster.events("n3"));
    assert_eq!(on_disk(&cluster, "n3"), on_disk(&cluster, "n1"));
}

#[test]
fn siblings_stay_diverged_until_one_is_put_over_the_other() {
    let mut cluster = three_nodes("siblings");
    start_all(&mut cluster);
    // A partition, and an operator on each side of it.
    cluster.kill("n3");
    write(&cluster, "left = { on = \"n1\", unit = \"cache\", set.port = 7402 }\n");
    assert_eq!(apply(&cluster, "n1", &["--reachable"]).code, 0);
    cluster.kill("n1");
    cluster.kill("n2");
    cluster.start("n3");
    wait("n3 to answer", || cluster.node_status("n3"));
    write(&cluster, "right = { on = \"n3\", unit = \"cache\", set.port = 7403 }\n");
    assert_eq!(apply(&cluster, "n3", &["--reachable"]).code, 0);
    cluster.start("n1");
    cluster.start("n2");
    wait("all to answer", || numbers(&cluster).iter().all(|n| *n == Some(1)).then_some(()));
    let (left, right) = (generation(&cluster, "n1").unwrap(), generation(&cluster, "n3").unwrap());
    assert_ne!(left.hash, right.hash);

    // Each agent says it, and so does the whole.
    for node in NODES {
        wait("the agent to see it", || {
            let status = cluster.node_status(node)?;
            status
                .problems
                .iter()
                .any(|p| p.starts_with("diverged: this node has generation 1 ("))
                .then_some(())
        });
    }
    let status = cluster.ctl("n2", &["status"]);
    assert!(status.out.contains("DIVERGED") && status.out.contains(right.short()), "{status:?}");

    write(&cluster, "both = { on = \"n3\", unit = \"cache\", set.port = 7404 }\n");
    let refused = apply(&cluster, "n1", &[]);
    assert_eq!(refused.code, 3, "{refused:?}");
    assert!(refused.err.contains("do not come from each other"), "{refused:?}");
    assert_eq!(generation(&cluster, "n1").unwrap(), left);

    let healed = apply(&cluster, "n1", &["--over", right.short()]);
    assert_eq!(healed.code, 0, "{healed:?}");
    assert_eq!(numbers(&cluster), [Some(2); 3]);
    wait("no agent to see anything", || {
        let fine = |node| cluster.node_status(node).is_some_and(|s| s.problems.is_empty());
        NODES.into_iter().all(fine).then_some(())
    });
    // What only the other side's file knew is left running there, until somebody stops it.
    let orphan = cluster.view("n1", "right@n3").expect("it is shown");
    assert_eq!(orphan["state"], "orphaned", "{orphan}");
    // Another agent finds it again.
    cluster.kill("n3");
    cluster.start("n3");
    let again = wait("the new agent to find it", || cluster.pid_if("n1", "right@n3", "orphaned"));
    assert_eq!(Some(again), orphan["pid"].as_i64());
    let stop = cluster.ctl("n1", &["stop", "right@n3"]);
    assert_eq!(stop.code, 0, "{stop:?}");
    wait("it to be gone", || cluster.view("n1", "right@n3").is_none().then_some(()));
}

#[test]
fn what_was_kept_aside_survives_kill_9_and_is_not_in_force() {
    let mut cluster = three_nodes("staged");
    start_all(&mut cluster);
    let base = generation(&cluster, "n2").unwrap();
    write(&cluster, "more = { on = \"n2\", unit = \"cache\", set.port = 7402 }\n");
    let sources = Sources::read(&cluster.file(), None).unwrap();
    let next = Generation::after(&base, &[], sources.hash(), "a test".into());
    let offer = serde_json::json!({ "generation": next, "sources": sources });
    assert!(cluster.http("n2", "POST /v1/stage", &offer.to_string()).is_some());
    cluster.kill("n2");
    cluster.start("n2");
    assert_eq!(wait("n2 to answer", || generation(&cluster, "n2")), base);
    assert!(cluster.http("n2", "POST /v1/switch", "{\"hash\":\"0000\"}").is_none());
    let switch = serde_json::json!({ "hash": next.hash }).to_string();
    assert!(cluster.http("n2", "POST /v1/switch", &switch).is_some());
    assert_eq!(generation(&cluster, "n2").unwrap().number, 1);
    assert!(cluster.http("n2", "POST /v1/switch", &switch).is_some(), "twice does no harm");
    wait("the others to take it", || (numbers(&cluster) == [Some(1); 3]).then_some(()));
    // One that comes from the past is refused.
    let older = serde_json::json!({ "generation": base, "sources": sources });
    assert!(cluster.http("n2", "POST /v1/stage", &older.to_string()).is_none());
}

#[cfg(debug_assertions)] // an agent can be told where to die in such a build only
#[test]
fn an_agent_that_dies_while_it_switches_has_the_one_or_the_other() {
    use clusterd::crash::Done;
    for point in Done::APPLY {
        let mut cluster = three_nodes(&format!("dies-{point}").to_lowercase());
        cluster.start("n1");
        cluster.start("n3");
        let mut dying = cluster.agent("n2");
        dying.env("CLUSTERD_DIE_AT", format!("{point}:1"));
        cluster.start_as("n2", dying);
        wait("all to be up", || cluster.pid_if("n1", "web@n2", "ready"));
        wait("n3 to answer", || cluster.node_status("n3"));
        write(&cluster, "more = { on = \"n2\", unit = \"cache\", set.port = 7402 }\n");
        let applied = apply(&cluster, "n1", &[]);
        assert_eq!(applied.code, 3, "{applied:?}");
        wait("the agent to die", || cluster.ended("n2"));
        cluster.start("n2");
        wait("n2 to answer", || cluster.node_status("n2"));
        if point == Done::Staged {
            // It had not accepted it, as far as anybody knows.
            assert_eq!(numbers(&cluster), [Some(0); 3], "{applied:?}");
            assert_eq!(apply(&cluster, "n1", &[]).code, 0);
        }
        wait("all to have it", || (numbers(&cluster) == [Some(1); 3]).then_some(()));
        wait("what is new", || cluster.pid_if("n1", "more@n2", "ready"));
        wait("its files", || (on_disk(&cluster, "n2") == on_disk(&cluster, "n1")).then_some(()));
        assert!(cluster.node_status("n2").unwrap().problems.is_empty());
    }
}
