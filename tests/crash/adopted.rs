//! What a new agent needs to know a running service again, one thing after the other taken away.

use super::agents::{Cluster, wait};
use super::life::{Place, in_own_mounts, without_cgroups};
use clusterd::process::Handle;
use nix::sys::signal::Signal;
use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

/// One node with one service, `it`.
fn one(name: &str, run: &str) -> Cluster {
    let cluster = Cluster::new(name);
    cluster.write(
        "[cluster]\nname = \"NAME\"\ninsecure = true\n[nodes]\nall = { n1 = \"A1\" }\n[services]\nit = { on = \"n1\" }\n",
        &[("it", &format!("[run]\n{run}\n[ready]\nprobe = {{ kind = \"running\", for = \"10ms\" }}\n"))],
    );
    cluster
}

fn start(cluster: &mut Cluster, place: Place) {
    let agent = place.agent(cluster.agent("n1"));
    cluster.start_as("n1", agent);
}

fn ready(cluster: &Cluster) -> i64 {
    wait("it to be ready", || cluster.pid_if("n1", "it@n1", "ready"))
}

#[test]
fn a_daemon_that_cleared_its_environment_is_found_by_its_leaf_even_without_a_journal() {
    let mut cluster = one("cleared", "command = [\"/usr/bin/env\", \"-i\", \"/bin/sleep\", \"1000\"]");
    start(&mut cluster, Place::Cgroups);
    let pid = ready(&cluster);
    cluster.kill("n1");
    fs::remove_dir_all(cluster.run("n1")).unwrap();
    start(&mut cluster, Place::Cgroups);
    assert_eq!(ready(&cluster), pid);
    assert!(fs::read(format!("/proc/{pid}/environ")).unwrap().is_empty(), "it has no marks");
}

#[test]
fn a_daemon_that_cleared_its_environment_is_found_by_the_journal_where_there_are_no_cgroups() {
    let forking = "kind = \"forking\"\npidfile = \"DIR/it.pid\"\nexecutables = [\"sleep\"]\n\
                   command = [\"/bin/sh\", \"-c\", \"setsid env -i /bin/sleep 1000 & echo $! >DIR/it.pid; sleep 0.1\"]";
    let plain = "command = [\"/usr/bin/env\", \"-i\", \"/bin/sleep\", \"1000\"]";
    for (name, run) in [("cleared-exec", plain), ("cleared-forking", forking)] {
        let mut cluster = one(name, run);
        start(&mut cluster, Place::Marks);
        let pid = ready(&cluster);
        cluster.kill("n1");
        start(&mut cluster, Place::Marks);
        assert_eq!(ready(&cluster), pid, "{name}");
        // Nothing but the journal leads to it: it has to be ended by this agent.
        cluster.order("n1", "stop", &[]).unwrap();
        wait("it to be stopped", || cluster.in_state("n1", "it@n1", "stopped"));
        assert!(Handle::open(pid as i32).is_err(), "{name} is gone");
    }
}

#[test]
fn another_build_of_the_agent_takes_over_and_no_line_of_output_is_lost() {
    let script = "i=0; while :; do echo line $i; i=$((i+1)); sleep 0.002; done";
    let mut cluster = one("upgraded", &format!("command = [\"/bin/sh\", \"-c\", \"{script}\"]"));
    let log = cluster.dir().join("n1/state/log/it@n1.log");
    let lines = || fs::read_to_string(&log).unwrap_or_default();
    cluster.start("n1");
    let pid = ready(&cluster);
    for build in 1..=6 {
        // Another file, of another name and another content.
        let upgraded = cluster.dir().join(format!("clusterd-{build}"));
        fs::copy(env!("CARGO_BIN_EXE_clusterd"), &upgraded).unwrap();
        fs::File::options().append(true).open(&upgraded).unwrap().write_all(&[build]).unwrap();
        if build % 2 == 0 {
            cluster.kill("n1");
        } else {
            cluster.signal("n1", Signal::SIGTERM);
            cluster.wait_ended("n1");
        }
        let before = lines().len();
        wait("it to print while no agent is there", || (lines().len() > before).then_some(()));
        let plain = cluster.agent("n1");
        let mut agent = Command::new(upgraded);
        agent.args(plain.get_args());
        cluster.start_as("n1", agent);
        assert_eq!(ready(&cluster), pid);
    }
    cluster.order("n1", "stop", &[]).unwrap();
    wait("it to be stopped", || cluster.in_state("n1", "it@n1", "stopped"));
    let text = lines();
    let numbers: Vec<usize> = text.lines().filter_map(|l| l.strip_prefix("line ")?.parse().ok()).collect();
    assert!(
        numbers.iter().copied().eq(0..numbers.len()) && numbers.len() > 20,
        "each line once: {numbers:?}"
    );
}

#[test]
fn processes_are_found_and_ended_where_proc_hides_them_from_others() {
    let hidden = "mount -t proc -o hidepid=2 proc /proc";
    let script = "test -e /proc/1/stat || echo hidden; sleep 1000 & exec sleep 1000";
    for (name, cgroups) in [("hidepid-c", true), ("hidepid-m", false)] {
        let run = format!("user = \"nobody\"\ncommand = [\"/bin/sh\", \"-c\", \"{script}\"]");
        let mut cluster = one(name, &run);
        let start = |cluster: &mut Cluster| {
            let agent = cluster.agent("n1");
            let agent = if cgroups { agent } else { without_cgroups(&agent) };
            cluster.start_as("n1", in_own_mounts(hidden, &agent));
        };
        start(&mut cluster);
        let pid = ready(&cluster);
        let log = cluster.dir().join("n1/state/log/it@n1.log");
        wait("its view of /proc", || fs::read_to_string(&log).ok().filter(|l| l == "hidden\n"));
        cluster.kill("n1");
        start(&mut cluster);
        assert_eq!(ready(&cluster), pid, "{name}: by its journal");
        cluster.kill("n1");
        fs::remove_dir_all(cluster.run("n1")).unwrap();
        start(&mut cluster);
        assert_eq!(ready(&cluster), pid, "{name}: by its marks");
        cluster.order("n1", "stop", &[]).unwrap();
        wait("it to be stopped", || cluster.in_state("n1", "it@n1", "stopped"));
        assert_eq!(cluster.tree("n1").unwrap().find_marked().unwrap(), [], "{name}: nor its child");
    }
}

#[test]
fn what_ended_while_no_agent_was_there_has_an_unknown_exit_code() {
    let script = "until [ -e DIR/go ]; do sleep 0.01; done; rm DIR/go; exit 3";
    let mut cluster = one("unseen", &format!("command = [\"/bin/sh\", \"-c\", \"{script}\"]"));
    start(&mut cluster, Place::Cgroups);
    let pid = ready(&cluster);
    cluster.kill("n1");
    let go = cluster.dir().join("go");
    fs::write(&go, "").unwrap();
    fs::set_permissions(&go, Permissions::from_mode(0o666)).unwrap();
    wait("it to end", || Handle::open(pid as i32).is_err().then_some(()));
    start(&mut cluster, Place::Cgroups);
    assert_ne!(ready(&cluster), pid);
    let events = cluster.events("n1");
    let said = &events.iter().find(|e| e.what == "exited").unwrap().text;
    assert!(said.contains("while no agent was looking; its exit code is unknown"), "{said}");
    assert!(!said.contains("exit code 3"));
}
