//! The agent dies at each step of a rotation, while the service prints as fast as it can.

use super::agents::{Cluster, wait};
use clusterd::logs::Step;
use nix::sys::signal::Signal;
use std::fs;
use std::os::unix::process::ExitStatusExt;

/// From how many bytes on the log is rotated: how fast a shell prints is the machine's business, and one rotation may be
/// all that the eight deaths share.
const SIZE: usize = 256 * 1024;

#[test]
fn the_agent_may_die_at_any_step_of_a_rotation_and_no_line_is_lost_or_doubled() {
    let mut cluster = Cluster::new("rotated");
    let script = "i=0; while :; do i=$((i+1)); echo $i; done";
    let unit = format!(
        "[run]\ncommand = [\"/bin/sh\", \"-c\", \"{script}\"]\n[ready]\nprobe = {{ kind = \"running\", for = \"10ms\" \
         }}\n[log]\nsize = {SIZE}\nkeep = 1000\n"
    );
    let file = "[cluster]\nname = \"NAME\"\ninsecure = true\n[nodes]\nall = { n1 = \"A1\" }\n[services]\nit = { on = \"n1\" }\n";
    cluster.write(file, &[("it", &unit)]);
    for step in Step::ALL {
        let mut agent = cluster.agent("n1");
        agent.env("CLUSTERD_DIE_AT", format!("rotated {step:?}:1"));
        cluster.start_as("n1", agent);
        let status = wait(&format!("the agent to die at {step:?}"), || cluster.ended("n1"));
        assert_eq!(status.signal(), Some(Signal::SIGKILL as i32), "{status}");
        let log = fs::read_to_string(cluster.dir().join("n1/agent.log")).unwrap();
        assert!(log.ends_with(&format!("died at rotated {step:?}\n")), "{log}");
    }
    cluster.start("n1");
    wait("it to be found", || cluster.in_state("n1", "it@n1", "ready"));
    cluster.order("n1", "stop", &[]).unwrap();
    wait("it to be stopped", || cluster.in_state("n1", "it@n1", "stopped"));
    let told = cluster.ctl("n1", &["logs", "it@n1", "--since", "1h"]);
    let mut printed = 0;
    for line in told.out.lines() {
        printed += 1;
        assert_eq!(line, printed.to_string());
    }
    assert!(told.out.len() > SIZE, "only {printed} lines: nothing of it was rotated");
}
