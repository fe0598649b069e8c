//! What cannot be seen from where the agent is: other pid namespaces, and a `/proc` that hides processes.

use crate::machine::{Disk, Machine, Run, wait};
use serde_json::Value;

/// A daemon that waits, under a name of its own.
const DAEMON: &str = "/opt/waiter";

const UNIT: &str = "[run]
command = [\"/opt/waiter\", \"1000000\"]
pidfile = \"/var/lib/thing/thing.pid\"
[ready]
probe = { kind = \"running\" }
[leftovers]
sockets = [\"/var/lib/thing/thing.sock\"]
locks = [\"/var/lib/thing/thing.lock\"]
";

fn machine() -> Machine {
    let machine = Machine::boot(&Disk::default(), Run::Emptied);
    machine.must(&format!("mkdir -p /var/lib/thing && cp /bin/sleep {DAEMON}"));
    machine.write(
        "/etc/clusterd/cluster.toml",
        "[cluster]\nname = \"hidden\"\ninsecure = true\n[nodes]\nall = { n1 = \"127.0.0.1\" }\n[services]\nthing = { on = \"n1\" }\n",
    );
    machine.write("/etc/clusterd/units/thing.toml", UNIT);
    machine
}

/// The state of the only instance, once it is one of these.
fn state(machine: &Machine, wanted: &[&str]) -> String {
    wait(&format!("the instance is {wanted:?}"), || {
        let status = machine.clusterctl("status --json");
        let all: Value = serde_json::from_str(&status.said).unwrap_or_default();
        let state =
            all["nodes"][0]["status"]["instances"][0]["state"].as_str().unwrap_or_default().to_owned();
        let log = || machine.read("/var/log/clusterd.log").unwrap_or_default();
        if wanted.contains(&&*state) { Ok(state) } else { Err(format!("{status:?}: {}", log())) }
    })
}

/// The first judgement of a file, with its evidence.
fn judged(machine: &Machine, file: &str) -> (String, String) {
    let events = machine.events();
    let told = events.iter().find(|e| e["data"]["what"] == file);
    let told = told.unwrap_or_else(|| panic!("{file} was not judged: {events:#?}"));
    let text = |key: &str| told["data"][key].as_str().unwrap_or_default().to_owned();
    (text("judgement"), text("evidence"))
}

#[test]
fn a_number_of_another_pid_namespace_vetoes_while_its_process_lives() {
    let machine = machine();
    // As a container does it: the daemon is number 1 there, which here is somebody else.
    machine.must(&format!(
        "setsid unshare --pid --fork --kill-child {DAEMON} 1000000 >/dev/null 2>&1 </dev/null & \
         echo 1 >/var/lib/thing/thing.pid"
    ));
    let inner = wait("the daemon runs in its namespace", || {
        let found = machine.named("waiter").into_iter().find(|p| p.own_pid == 1);
        found.ok_or_else(|| format!("{:?}", machine.processes()))
    });
    machine.start_agent("");
    assert_eq!(state(&machine, &["ready", "blocked"]), "blocked");
    let (judgement, evidence) = judged(&machine, "/var/lib/thing/thing.pid");
    assert_eq!(judgement, "doubt");
    assert!(evidence.contains("in its own pid namespace"), "{evidence}");
    assert!(machine.processes().contains(&inner) && machine.read("/var/lib/thing/thing.pid").is_some());

    // It is judged again by itself, and the way is clear when it is gone.
    machine.kill("waiter");
    state(&machine, &["ready"]);
    assert!(machine.read("/var/lib/thing/thing.pid").is_none());
}

#[test]
fn a_daemon_in_another_pid_namespace_that_holds_the_lock_vetoes() {
    let machine = machine();
    machine.must(&format!(
        "setsid unshare --pid --fork --kill-child flock /var/lib/thing/thing.lock {DAEMON} 1000000 \
         >/dev/null 2>&1 </dev/null &"
    ));
    wait("the lock is held", || {
        let tried = machine
            .run("flock --nonblock /var/lib/thing/thing.lock true && test -e /var/lib/thing/thing.lock");
        let runs = !machine.named("waiter").is_empty();
        if runs && tried.code != Some(0) { Ok(()) } else { Err(format!("{tried:?}")) }
    });
    machine.start_agent("");
    assert_eq!(state(&machine, &["ready", "blocked"]), "blocked");
    assert_eq!(judged(&machine, "/var/lib/thing/thing.lock").0, "doubt");
    assert!(machine.read("/var/lib/thing/thing.lock").is_some());
}

/// As who the agent runs while `/proc` hides the processes of others from it, and whose its folders are.
const BLIND: [(&str, &str, &str); 2] = [
    ("nobody", "setpriv --reuid=nobody --regid=nogroup --clear-groups", "nobody"),
    ("root without the right to trace", "setpriv --bounding-set=-sys_ptrace --inh-caps=-sys_ptrace", "root"),
];

#[test]
fn what_a_hidden_process_may_hold_is_doubt_and_stays() {
    for (who, wrapper, owner) in BLIND {
        let machine = machine();
        machine.must("mkdir -p /run/clusterd /var/lib/clusterd && touch /var/log/clusterd.log");
        machine.must(&format!("chown -R {owner} /run/clusterd /var/lib/clusterd /var/log/clusterd.log"));
        machine.must("chmod 755 /etc/clusterd /etc/clusterd/units && chmod 1777 /var/lib/thing");
        // Its owner is neither of the two.
        let started = "setpriv --reuid=games --clear-groups";
        machine.must(&format!(
            "{started} sh -c 'setsid {DAEMON} 1000000 </var/log/clusterd.log >/dev/null 2>&1 & \
             echo $! >/var/lib/thing/thing.pid; : >/var/lib/thing/thing.lock'"
        ));
        machine.must("chmod 644 /var/lib/thing/*; mount -o remount,hidepid=2 /proc");
        machine.start_agent(wrapper);
        assert_eq!(state(&machine, &["ready", "blocked", "failed"]), "blocked", "{who}");
        let (judgement, evidence) = judged(&machine, "/var/lib/thing/thing.pid");
        assert_eq!(judgement, "doubt", "{who}");
        assert!(evidence.contains("seen"), "{who}: {evidence}");
        let (judgement, evidence) = judged(&machine, "/var/lib/thing/thing.lock");
        assert_eq!(judgement, "doubt", "{who}: {evidence}");
        assert!(machine.read("/var/lib/thing/thing.pid").is_some(), "{who}");
        assert!(machine.read("/var/lib/thing/thing.lock").is_some(), "{who}");
        assert_eq!(machine.named("waiter").len(), 1, "{who}: it lives, and is the only one");
    }
}
