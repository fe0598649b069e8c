//! Machines whose clocks say 1970, 2100 and today boot as one cluster, with certificates of today.
//!
//! By libfaketime, since a time namespace has no clock of the wall. The monotonic clock stays the kernel's.

use crate::agents::wait;
use crate::secured::Secured;
use clusterd::api::wire::ClusterStatus;

/// Where Debian's package `libfaketime` has it.
const LIBRARY: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1";

#[test]
fn a_wrong_clock_stops_no_boot() {
    assert!(std::path::Path::new(LIBRARY).exists(), "install the package `faketime`");
    let mut cluster = Secured::new("clocks", "");
    for (node, clock, year) in [("n1", "@1970-01-01 00:00:10", 0), ("n2", "@2100-06-01 12:00:00", 130)] {
        cluster.join(node);
        let mut command = cluster.agent(node);
        command.env("LD_PRELOAD", LIBRARY).env("FAKETIME", clock).env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        command.env("FAKETIME_TIMESTAMP_FILE", "/dev/null").env("TZ", "UTC");
        cluster.start_as(node, command);
        let said = wait("the agent to answer", || cluster.node_status(node)).clock_ms;
        let years = said / 1000 / 31_556_952;
        assert_eq!(years, year, "{node} believes that it is {said} ms after 1970");
    }
    let whole: ClusterStatus = wait("the agents to hear each other", || cluster.whole("n1"));
    let problems = |n: usize| whole.nodes[n].status.as_ref().unwrap().problems.join("\n");
    assert!(problems(0).contains("is not valid yet by this machine's clock"), "{}", problems(0));
    assert!(problems(1).contains("has expired, and goes on being used"), "{}", problems(1));
    wait("the web server to be ready", || cluster.pid_if("n2", "web@n2", "ready"));
    // An agent that begins again between the two finds its way, too.
    cluster.kill("n2");
    cluster.start("n2");
    wait("the agents to hear each other", || cluster.whole("n1").and_then(|_| cluster.whole("n2")));
    wait("the web server to be ready", || cluster.pid_if("n2", "web@n2", "ready"));
}
