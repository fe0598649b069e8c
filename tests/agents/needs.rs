//! Needs of every form, by real agents: counts, waits that end, what a loss does, zones, and two that serve where one may.

use super::agents::{Cluster, wait};
use super::steady::steady;
use std::net::{SocketAddr, TcpListener};

const SLEEP: &str = "[run]\ncommand = [\"/bin/sleep\", \"100000\"]\n[ready]\nprobe = { kind = \"running\", for = \"10ms\" }\n";
const CACHE: &str = "[run]\ncommand = [\"PROGRAM\", \"stand-in\", \"redis\", \"--listen\", \"{address}:7401\"]\n\
                     [ready]\nprobe = { kind = \"redis\", port = 7401 }\nevery = \"200ms\"\n";
const MYSQL: &str = "[run]\ncommand = [\"PROGRAM\", \"stand-in\", \"mysql\", \"--listen\", \"{address}:7406\"]\n\
                     [ready]\nprobe = { kind = \"mysql\", port = 7406, user = \"probe\" }\nevery = \"200ms\"\n";

/// A cluster of these services, whose units are `sleep`, `cache`, `mysql` and `pair`; nodes `n1` to `n3`.
fn cluster(name: &str, services: &str) -> Cluster {
    let cluster = Cluster::new(name);
    let file = format!(
        "[cluster]\nname = \"NAME\"\ninsecure = true\n[nodes.all]\n\
         n1 = {{ address = \"A1\", labels = {{ zone = \"a\" }} }}\n\
         n2 = {{ address = \"A2\", labels = {{ zone = \"b\" }} }}\n\
         n3 = {{ address = \"A3\", labels = {{ zone = \"a\" }} }}\n{services}"
    );
    let pair = format!("exclusive = true\n{CACHE}");
    cluster.write(&file, &[("sleep", SLEEP), ("cache", CACHE), ("mysql", MYSQL), ("pair", &pair)]);
    cluster
}

/// Waits until one of the lines that are printed is this one, but for times.
fn wait_for_line(cluster: &Cluster, node: &str, verb: &[&str], line: &str) {
    wait(line, || steady(&cluster.ctl(node, verb).text()).lines().any(|told| told == line).then_some(()));
}

#[test]
fn a_quorum_and_a_number_are_met_by_two_of_three() {
    let mut cluster = cluster(
        "quorum",
        "[services]\ncache = { on = \"all\" }\n\
         most = { on = \"n1\", unit = \"sleep\", needs.cache = \"quorum\" }\n\
         pair = { on = \"n1\", unit = \"sleep\", needs.cache = 2 }\n\
         whole = { on = \"n1\", unit = \"sleep\", needs.cache = \"all\" }\n",
    );
    cluster.start("n1");
    wait_for_line(&cluster, "n1", &["why", "most"], "needs cache (quorum, 1 of 2) for N");
    wait_for_line(&cluster, "n1", &["why", "pair"], "needs cache (2, 1 of 2) for N");
    cluster.start("n2");
    wait("the one that needs a quorum", || cluster.in_state("n1", "most@n1", "ready"));
    wait("the one that needs two", || cluster.in_state("n1", "pair@n1", "ready"));
    wait_for_line(&cluster, "n1", &["why", "whole"], "needs cache (all, 2 of 3) for N");
    cluster.start("n3");
    wait("the one that needs all", || cluster.in_state("n1", "whole@n1", "ready"));
}

#[test]
fn a_wait_ends_with_a_start_or_a_failure() {
    let mut cluster = cluster(
        "waits",
        "[services]\ncache = { on = \"n2\" }\n\
         late = { on = \"n1\", unit = \"sleep\", needs.cache = { count = \"any\", wait = \"1s\", then = \"start\" } }\n\
         strict = { on = \"n1\", unit = \"sleep\", needs.cache = { count = \"any\", wait = \"1s\", then = \"fail\" } }\n",
    );
    cluster.start("n1");
    let pid = wait("the one that starts without it", || cluster.pid_if("n1", "late@n1", "ready"));
    wait("the one that gives up", || cluster.in_state("n1", "strict@n1", "failed"));
    assert_eq!(cluster.sentences("n1", "late@n1", "waived"), ["waited 1 s for cache: starts without it"]);
    assert_eq!(cluster.sentences("n1", "strict@n1", "failed"), ["waited 1 s for cache"]);
    let status = cluster.ctl("n1", &["status"]).text();
    assert!(status.contains("started without cache"), "{status}");
    let why = cluster.ctl("n1", &["why", "strict"]).text();
    assert!(why.contains("waited 1 s for cache"), "{why}");

    cluster.start("n2");
    wait("the other one to be tried anew", || cluster.in_state("n1", "strict@n1", "ready"));
    assert_eq!(cluster.pid_if("n1", "late@n1", "ready"), Some(pid), "and the first one runs on");
}

#[test]
fn a_loss_stops_restarts_or_does_nothing_as_its_need_says() {
    let mut cluster = cluster(
        "losses",
        "[services]\n\
         keeps = { on = \"n1\", unit = \"sleep\", needs.store = \"any\" }\n\
         stops = { on = \"n1\", unit = \"sleep\", needs.store = { count = \"any\", on-loss = \"stop\", grace = \"300ms\" } }\n\
         again = { on = \"n1\", unit = \"sleep\", needs.store = { count = \"any\", on-loss = \"restart\", grace = \"300ms\" } }\n\
         [external.store]\naddress = \"A1\"\nprobe = { kind = \"tcp\", port = 7409 }\nevery = \"100ms\"\n",
    );
    let store: SocketAddr = format!("{}:7409", cluster.address(1)).parse().unwrap();
    let listener = TcpListener::bind(store).unwrap();
    cluster.start("n1");
    let pids =
        ["keeps@n1", "stops@n1", "again@n1"].map(|name| wait(name, || cluster.pid_if("n1", name, "ready")));
    drop(listener);
    wait("one to be stopped", || cluster.in_state("n1", "stops@n1", "waiting"));
    assert_eq!(cluster.sentences("n1", "stops@n1", "stopping"), ["its need store was lost"]);
    assert_eq!(cluster.pid_if("n1", "keeps@n1", "ready"), Some(pids[0]));
    assert_eq!(
        cluster.pid_if("n1", "again@n1", "ready"),
        Some(pids[2]),
        "it is restarted when the store is back"
    );
    // The loss has lasted for longer than its grace, by the agent's own clock.
    let lost = cluster.event("n1", "stops@n1", "need-lost").unwrap();
    let left = cluster.event("n1", "stops@n1", "stopping").unwrap();
    assert!(left - lost >= 300_000_000, "lost at {lost}, stopped at {left}");

    let _listener = TcpListener::bind(store).unwrap();
    let new = |name: &str, old: i64| cluster.pid_if("n1", name, "ready").filter(|pid| *pid != old);
    wait("the one that was stopped", || new("stops@n1", pids[1]));
    wait("the one that is restarted", || new("again@n1", pids[2]));
    assert_eq!(cluster.sentences("n1", "again@n1", "stopping"), ["its need store is back after a loss"]);
    assert_eq!(cluster.sentences("n1", "keeps@n1", "stopping"), [""; 0]);
    assert_eq!(cluster.pid_if("n1", "keeps@n1", "ready"), Some(pids[0]));
}

#[test]
fn a_need_of_the_same_zone_is_met_by_its_own_zone_alone() {
    let mut cluster = cluster(
        "zones",
        "[services]\ncache = { on = [\"n1\", \"n2\"] }\n\
         web = { on = [\"n2\", \"n3\"], unit = \"sleep\", needs.cache = { count = \"any\", same = \"zone\" } }\n",
    );
    cluster.start("n3");
    wait_for_line(&cluster, "n3", &["why", "web@n3"], "needs cache (any, same zone, 0 of 1) for N");
    cluster.start("n2");
    wait("zone b", || cluster.in_state("n2", "web@n2", "ready"));
    let why = cluster.ctl("n3", &["why", "web@n3"]).text();
    assert!(why.contains("(any, same zone, 0 of 1)") && !why.contains("cache@n2"), "{why}");
    cluster.start("n1");
    wait("zone a", || cluster.in_state("n3", "web@n3", "ready"));
}

#[test]
fn two_that_take_writes_where_one_may_are_an_alarm_until_one_has_gone() {
    let mut cluster = cluster(
        "rivals",
        "[services]\nmysql = { on = [\"n1\", \"n2\"] }\n\
         app = { on = \"n3\", unit = \"sleep\", needs.mysql = \"one writable\" }\n\
         later = { on = \"n3\", unit = \"sleep\", needs.mysql = \"one writable\" }\n",
    );
    let says = "mysql@n1 and mysql@n2 serve as writable at once, and only one may";
    cluster.start("n1");
    cluster.start("n3");
    let pid = wait("the application", || cluster.pid_if("n3", "app@n3", "ready"));
    wait("the other one", || cluster.in_state("n3", "later@n3", "ready"));
    assert_eq!(cluster.ctl("n3", &["stop", "later"]).code, 0);

    cluster.start("n2");
    wait_for_line(&cluster, "n3", &["status"], &format!("app@n3 ready N alarm: {says}"));
    wait_for_line(&cluster, "n3", &["why", "app"], &format!("alarm: {says}"));
    assert_eq!(cluster.sentences("n3", "app@n3", "rivals"), [says]);
    assert_eq!(cluster.pid_if("n3", "app@n3", "ready"), Some(pid), "what runs is left alone");
    // Nothing more is started on either of them.
    cluster.ctl("n3", &["start", "later", "--no-wait"]);
    wait_for_line(&cluster, "n3", &["why", "later"], "needs mysql (one writable, 2 of 1) for N");
    cluster.in_state("n3", "later@n3", "waiting").expect("it waits");

    assert_eq!(cluster.ctl("n3", &["stop", "mysql@n2"]).code, 0);
    wait("the alarm to be over", || cluster.event("n3", "app@n3", "rivals-gone"));
    wait("the other one to start", || cluster.in_state("n3", "later@n3", "ready"));
    let (events, status) = (cluster.ctl("n3", &["events"]).text(), cluster.ctl("n3", &["status"]).text());
    assert_eq!(events.matches(says).count(), 2, "once for each that needs it: {events}");
    assert!(!status.contains("only one may"), "{status}");
    assert_eq!(cluster.pid_if("n3", "app@n3", "ready"), Some(pid));
}

#[test]
fn an_exclusive_pair_that_nobody_needs_sees_for_itself_that_both_serve() {
    let mut cluster = cluster("pair", "[services]\npair = { on = [\"n1\", \"n2\"] }\n");
    cluster.start("n1");
    wait("the first", || cluster.in_state("n1", "pair@n1", "ready"));
    cluster.start("n2");
    wait("the second", || cluster.in_state("n2", "pair@n2", "ready"));
    for node in ["n1", "n2"] {
        let other = if node == "n1" { "n2" } else { "n1" };
        let says = format!("alarm: pair@{node} and pair@{other} serve at once, and only one may");
        wait(&says, || cluster.ctl(node, &["status"]).text().contains(&says).then_some(()));
    }
    assert_eq!(cluster.ctl("n2", &["stop", "pair@n2"]).code, 0);
    wait("the alarm to be over", || cluster.event("n1", "pair@n1", "rivals-gone"));
    cluster.in_state("n1", "pair@n1", "ready").expect("the first serves on");
}
