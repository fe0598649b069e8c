//! A stop across two machines, by the clocks of the programs themselves.

use super::agents::{Cluster, wait};
use std::fs;

const FILE: &str = "[cluster]\nname = \"NAME\"\ninsecure = true\n[nodes]\ncache = { n1 = \"A1\" }\nweb = { n2 = \"A2\" }\n[services]\n\
                    cache = { on = \"cache\" }\nweb = { on = \"web\", needs.cache = \"any\" }\n";

/// A server that does this when it is told to end, and ends.
fn unit(kind: &str, port: u16, at_the_end: &str) -> String {
    format!(
        "[run]\ncommand = [\"/bin/sh\", \"-c\", \"trap '{at_the_end}; exit 0' TERM; \
         PROGRAM stand-in {kind} --listen {{address}}:{port} & wait\"]\n\
         [ready]\nprobe = {{ kind = \"{kind}\", port = {port} }}\n"
    )
}

/// Written as a whole, so that nobody reads half of it.
fn noting(what: &str) -> String {
    format!("date +%s%N > DIR/{what}.new; mv DIR/{what}.new DIR/{what}")
}

#[test]
fn the_dependent_has_ended_by_its_own_clock_before_the_dependency_gets_its_first_signal_by_its_own() {
    let mut cluster = Cluster::new("clocks");
    // The signal's time is written first, the exit's last, after an end that takes its time.
    let signalled = unit("redis", 7411, &noting("signalled"));
    let exited = unit("http", 7410, &format!("sleep 0.3; {}", noting("exited")));
    cluster.write(FILE, &[("cache", &signalled), ("web", &exited)]);
    cluster.start("n1");
    cluster.start("n2");
    wait("the web server to be ready", || cluster.pid_if("n2", "web@n2", "ready"));
    let stop = cluster.ctl("n1", &["stop", "cache"]);
    assert_eq!(stop.code, 0, "{stop:?}");

    let noted = |what: &str| {
        let file = cluster.file_named(what);
        wait(what, || fs::read_to_string(&file).ok()?.trim().parse::<u64>().ok())
    };
    let (exited, signalled) = (noted("exited"), noted("signalled"));
    assert!(exited < signalled, "web ended at {exited}, cache got its signal at {signalled}");
    // And so say the two agents, of whom one saw the end and the other one sent the signal.
    let gone = wait("the web server's end", || cluster.event("n2", "web@n2", "exited"));
    let stopping = wait("the cache's stop", || cluster.event("n1", "cache@n1", "stopping"));
    assert!(gone < stopping, "web gone at {gone}, cache signalled at {stopping}");
}
