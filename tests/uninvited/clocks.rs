//! Machines whose clocks say 1970, 2100 and today boot as one cluster, with certificates of today.
//!
//! By libfaketime, since a time namespace has no clock of the wall. The monotonic clock stays the kernel's.

use crate::agents::wait;
use crate::secured::{NODES, Secured, instance, node};
use clusterd::api::wire::ClusterStatus;

/// Where Debian's package `libfaketime` has it.
const LIBRARY: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1";

#[test]
fn wrong_clocks_stop_no_boot_of_fourteen() {
    assert!(std::path::Path::new(LIBRARY).exists(), "install the package `faketime`");
    let mut cluster = Secured::fourteen("clocks");
    let clocks = [("@1970-01-01 00:00:10", Some(0)), ("@2100-06-01 12:00:00", Some(130)), ("+0", None)];
    let clock = |n: u8| clocks[usize::from(n) % clocks.len()];
    for n in 1..=NODES {
        cluster.join(&node(n));
        let mut command = cluster.agent(&node(n));
        command
            .env("LD_PRELOAD", LIBRARY)
            .env("FAKETIME", clock(n).0)
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        command.env("FAKETIME_TIMESTAMP_FILE", "/dev/null").env("TZ", "UTC");
        cluster.start_as(&node(n), command);
    }
    for n in 1..=NODES {
        let said = wait("the agent to answer", || cluster.node_status(&node(n))).clock_ms;
        let years = said / 1000 / 31_556_952;
        assert!(clock(n).1.is_none_or(|year| year == years), "n{n} believes that it is {said} ms after 1970");
    }
    let whole: ClusterStatus = wait("the agents to hear each other", || cluster.whole("n1"));
    for n in 1..=NODES {
        let problems = whole.nodes[usize::from(n) - 1].status.as_ref().unwrap().problems.join("\n");
        let (early, late) = (
            problems.contains("is not valid yet by this machine's clock"),
            problems.contains("has expired, and goes on being used"),
        );
        assert_eq!((early, late), (clock(n).1 == Some(0), clock(n).1 == Some(130)), "n{n}: {problems}");
        wait("all to be ready", || cluster.pid_if(&node(n), &instance(n), "ready"));
    }
    // An agent that begins again among the others finds its way, too.
    for n in [1, 2, 3] {
        cluster.kill(&node(n));
        cluster.start(&node(n));
        wait("the agents to hear each other", || cluster.whole("n14").and_then(|_| cluster.whole(&node(n))));
        wait("all to be ready", || cluster.pid_if(&node(n), &instance(n), "ready"));
    }
}
