//! Agents as real processes, on loopback addresses of their own, with stand-ins as their services.

mod agents;
#[path = "agents/apply.rs"]
mod apply;
#[path = "agents/bus.rs"]
mod bus;
#[path = "agents/doctor.rs"]
mod doctor;
#[path = "agents/etcd.rs"]
mod etcd;
#[path = "agents/etcd_secured.rs"]
mod etcd_secured;
#[path = "agents/external.rs"]
mod external;
#[path = "agents/logs.rs"]
mod logs;
#[path = "agents/needs.rs"]
mod needs;
#[path = "agents/notify.rs"]
mod notify;
#[path = "agents/reverse.rs"]
mod reverse;
#[path = "agents/scarce.rs"]
mod scarce;
#[path = "agents/secrets.rs"]
mod secrets;
#[path = "agents/shutdown.rs"]
mod shutdown;
#[path = "agents/steady.rs"]
mod steady;
#[path = "agents/switch.rs"]
mod switch;
#[path = "agents/traces.rs"]
mod traces;

use agents::{Cluster, wait};
use std::fs;

/// One cache, and one web server that needs it, on two nodes.
fn two_nodes(name: &str) -> Cluster {
    let cluster = Cluster::new(name);
    cluster.write_file("needs.cache = \"any\"", &[("cache", "{ n1 = \"A1\" }"), ("web", "{ n2 = \"A2\" }")]);
    cluster
}

#[test]
fn a_broken_file_never_brings_down_a_running_agent() {
    let mut cluster = two_nodes("broken");
    cluster.start("n1");
    let pid = wait("the cache to be ready", || cluster.pid_if("n1", "cache@n1", "ready"));
    let good = fs::read_to_string(cluster.file()).unwrap();
    fs::write(cluster.file(), good.replace("needs.cache", "neds.cache")).unwrap();

    let reload = cluster.ctl("n1", &["reload", "n1"]);
    assert_ne!(reload.code, 0, "{reload:?}");
    assert!(reload.text().contains("neds"), "it says what is wrong: {reload:?}");
    let status = cluster.status("n1").unwrap();
    assert!(status.to_string().contains("is refused, the one before stays in force"), "{status}");
    assert_eq!(cluster.pid_if("n1", "cache@n1", "ready"), Some(pid));

    // Nor does it keep a new agent from taking over what runs: the last good file is in force.
    cluster.kill("n1");
    cluster.start("n1");
    let again = wait("the new agent to find the cache", || cluster.pid_if("n1", "cache@n1", "ready"));
    assert_eq!(again, pid);
    let status = cluster.status("n1").unwrap();
    assert!(status.to_string().contains("the last good one is in force"), "{status}");

    fs::write(cluster.file(), good).unwrap();
    assert_eq!(cluster.ctl("n1", &["reload", "n1"]).code, 0);
    assert!(!cluster.status("n1").unwrap().to_string().contains("is refused"));
}

#[test]
fn a_stop_takes_the_dependents_on_the_other_machine_first() {
    let mut cluster = two_nodes("reverse");
    cluster.start("n1");
    cluster.start("n2");
    wait("the web server to be ready", || cluster.pid_if("n2", "web@n2", "ready"));
    let stop = cluster.ctl("n1", &["stop", "cache", "--reason", "a test"]);
    assert_eq!(stop.code, 0, "{stop:?}");
    wait("the web server to wait", || cluster.in_state("n2", "web@n2", "waiting"));
    // One machine, one monotonic clock: the two agents' events can be compared.
    let gone = cluster.event("n2", "web@n2", "exited").expect("the web server has ended");
    let signalled = cluster.event("n1", "cache@n1", "stopping").expect("the cache was stopped");
    assert!(gone < signalled, "web gone at {gone}, cache signalled at {signalled}");

    let why = cluster.ctl("n2", &["why", "web@n2"]);
    assert!(why.text().contains("held by") && why.text().contains("a test"), "{why:?}");
    assert_eq!(cluster.ctl("n2", &["start", "cache"]).code, 0);
    wait("the web server to come back", || cluster.pid_if("n2", "web@n2", "ready"));
}

#[test]
fn a_question_by_hand_is_asked_from_where_one_says() {
    let mut cluster = two_nodes("by-hand");
    cluster.start("n1");
    cluster.start("n2");
    wait("the cache to be ready", || cluster.pid_if("n1", "cache@n1", "ready"));
    // Then the agent there listens for the other one, too.
    wait("the web server to be ready", || cluster.pid_if("n2", "web@n2", "ready"));
    let asked = cluster.ctl("n1", &["probe", "cache", "--from", "n2", "--timing"]);
    assert_eq!(asked.code, 0, "{asked:?}");
    for part in
        ["ready (PONG, master)", "takes writes", ":7401, from n2", "connect  ", "reply  ", "together  "]
    {
        assert!(asked.text().contains(part), "no {part:?}: {asked:?}");
    }
    cluster.ctl("n1", &["stop", "web"]);
    let refused = cluster.ctl("n1", &["probe", "web"]);
    assert_eq!(refused.code, 3, "{refused:?}");
    assert!(
        refused.text().contains("connection refused by") && refused.text().contains("from n2"),
        "{refused:?}"
    );
    let unknown = cluster.ctl("n1", &["probe", "nobody"]);
    assert_eq!(unknown.code, 2, "{unknown:?}");
}

#[test]
fn held_stays_held_when_the_machine_reboots() {
    let mut cluster = two_nodes("held");
    cluster.start("n1");
    wait("the cache to be ready", || cluster.pid_if("n1", "cache@n1", "ready"));
    assert_eq!(cluster.ctl("n1", &["stop", "cache@n1", "--without", "n2"]).code, 0);
    cluster.kill("n1");
    fs::remove_dir_all(cluster.run("n1")).unwrap(); // as a reboot does
    cluster.start("n1");
    wait("it to be stopped still", || cluster.in_state("n1", "cache@n1", "stopped"));
    assert!(cluster.ctl("n1", &["status"]).text().contains("held by"));
}

#[test]
fn without_its_journal_a_new_agent_finds_what_runs_by_its_marks() {
    let mut cluster = two_nodes("marks");
    cluster.start("n1");
    let pid = wait("the cache to be ready", || cluster.pid_if("n1", "cache@n1", "ready"));
    cluster.kill("n1");
    fs::remove_dir_all(cluster.run("n1")).unwrap();
    cluster.start("n1");
    let again = wait("the new agent to find it", || cluster.pid_if("n1", "cache@n1", "ready"));
    assert_eq!(again, pid);
    assert!(cluster.event("n1", "cache@n1", "found-running").is_some());
}

#[test]
fn a_new_file_brings_new_instances_and_leaves_the_others_alone() {
    let mut cluster = two_nodes("reload");
    cluster.start("n1");
    let pid = wait("the cache to be ready", || cluster.pid_if("n1", "cache@n1", "ready"));
    let text = fs::read_to_string(cluster.file()).unwrap();
    let more = "\nmore = { on = \"n1\", unit = \"cache\", set.port = 7402 }\n";
    fs::write(cluster.file(), text.replace("\n[services.web]", &format!("{more}\n[services.web]"))).unwrap();
    let reload = cluster.ctl("n1", &["reload", "n1"]);
    assert_eq!(reload.code, 0, "{reload:?}");
    wait("the new instance to be ready", || cluster.pid_if("n1", "more@n1", "ready"));
    assert_eq!(wait("the old one to be ready", || cluster.pid_if("n1", "cache@n1", "ready")), pid);

    // Taken out again, it is left running, and said.
    fs::write(cluster.file(), text).unwrap();
    assert_eq!(cluster.ctl("n1", &["reload", "n1"]).code, 0);
    assert!(cluster.status("n1").unwrap().to_string().contains("more@n1"));
}

#[test]
fn a_second_agent_of_the_same_node_is_refused() {
    let mut cluster = two_nodes("second");
    cluster.start("n1");
    wait("the agent to answer", || cluster.status("n1"));
    let second = cluster.run_agent_to_its_end("n1");
    assert_ne!(second.code, 0);
    assert!(second.text().contains("another agent"), "{second:?}");
}

#[test]
fn an_unknown_node_is_refused_with_the_candidates() {
    let cluster = two_nodes("who");
    let refused = cluster.run_agent_to_its_end("nobody");
    assert_ne!(refused.code, 0);
    assert!(refused.text().contains("nobody") && refused.text().contains("n1, n2"), "{refused:?}");
}
