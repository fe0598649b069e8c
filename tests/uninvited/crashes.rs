//! Tasks of the agent that crash: what becomes of the rest.

use crate::agents::{Cluster, wait};

const NODES: &[(&str, &str)] = &[("cache", "{ n1 = \"A1\" }"), ("web", "{ n2 = \"A2\" }")];

fn laid_out(name: &str) -> Cluster {
    let cluster = Cluster::new(name);
    cluster.write_file("needs.cache = \"any\"", NODES);
    cluster
}

fn start_with(cluster: &mut Cluster, node: &str, crash: &str) {
    let mut command = cluster.agent(node);
    command.env("CLUSTERD_PANIC_IN", crash);
    cluster.start_as(node, command);
}

fn crashes(cluster: &Cluster, node: &str) -> usize {
    cluster.events(node).iter().filter(|e| e.what == "task-crashed").count()
}

#[test]
fn a_task_that_crashes_is_an_event_and_not_the_agents_end() {
    // Each on an agent of its own: one that serves a connection, one that follows a peer, one that probes.
    for (task, node) in [("connection:3", "n2"), ("follower:1", "n2"), ("probe:2", "n2")] {
        let mut cluster = laid_out(&format!("crash-{}", &task[..5]));
        cluster.start("n1");
        start_with(&mut cluster, node, task);
        wait("the agent to have crashed a little", || {
            let _ = cluster.node_status(node);
            let log = std::fs::read_to_string(cluster.file_named(node).join("agent.log")).ok()?;
            log.contains("a test wants this task to crash").then_some(())
        });
        wait("the web server to be ready", || cluster.pid_if(node, "web@n2", "ready"));
        assert!(cluster.peek_ended(node).is_none(), "{task} ended the agent");
        if !task.starts_with("probe") {
            assert_eq!(crashes(&cluster, node), 1, "{task}");
        }
        // Its stream is followed again: what n1 does is heard.
        wait("n2 to hear n1", || {
            let status = cluster.status(node)?;
            status["nodes"].as_array()?.iter().all(|n| n["status"].is_object()).then_some(())
        });
    }
}

#[test]
fn a_task_that_alone_knows_something_ends_the_agent_and_no_service() {
    let mut cluster = laid_out("crash-watch");
    start_with(&mut cluster, "n1", "watcher:1");
    let ended = wait("the agent to end", || cluster.ended("n1"));
    assert!(!ended.success(), "{ended}");
    cluster.start("n1");
    let pid = wait("the cache to be ready", || cluster.pid_if("n1", "cache@n1", "ready"));
    // It is the one that the agent before had started, and there is no other.
    let events = cluster.events("n1");
    let starts = events.iter().filter(|e| e.what == "started" && e.instance == "cache@n1").count();
    assert!(starts <= 1, "{events:?}");
    assert!(std::path::Path::new(&format!("/proc/{pid}")).exists());
    assert_eq!(crashes(&cluster, "n1"), 1);
}

#[test]
fn a_log_that_takes_nothing_more_ends_nobody() {
    let mut cluster = laid_out("full-log");
    for node in ["n1", "n2"] {
        let mut command = cluster.agent(node);
        command.args(["--log", "debug"]);
        // Every line that is written there fails as on a full disk.
        cluster.start_saying_to(
            node,
            command,
            std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap(),
        );
    }
    wait("the web server to be ready", || cluster.pid_if("n2", "web@n2", "ready"));
    assert_eq!(cluster.ctl("n2", &["reload", "n2"]).code, 0);
    assert!(cluster.peek_ended("n1").is_none() && cluster.peek_ended("n2").is_none());
    assert_eq!(crashes(&cluster, "n1") + crashes(&cluster, "n2"), 0);
}
