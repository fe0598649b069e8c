//! The shipped unit of PostgreSQL where the server's first process is killed and a session of it computes on, which notices
//! nothing of that: as long as it lives, no other server may write into the same files.

use crate::kernel::Process;
use crate::machine::{Disk, Machine, Run, wait};
use serde_json::Value;
use std::path::Path;

const CLUSTER: &str = "[cluster]\nname = \"orphans\"\ninsecure = true\n[nodes]\nall = { n1 = \"127.0.0.1\" }\n\
                       [services]\npostgres = { on = \"n1\" }\n";
const PIDFILE: &str = "/var/lib/postgresql/15/main/postmaster.pid";

fn machine() -> Machine {
    let machine = Machine::boot(&Disk::default(), Run::Emptied);
    machine.write("/etc/clusterd/cluster.toml", CLUSTER);
    machine.write("/etc/clusterd/postgres.password", "a-password");
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("units/postgres.toml");
    machine.write("/etc/clusterd/units/postgres.toml", &std::fs::read_to_string(shipped).expect("the unit"));
    machine.must("chmod 600 /etc/clusterd/postgres.password && pg_ctlcluster 15 main start");
    sql(&machine, "CREATE USER clusterd PASSWORD 'a-password'");
    machine
}

fn sql(machine: &Machine, text: &str) {
    machine.must(&format!("cd / && setpriv --reuid=postgres --clear-groups psql -qc \"{text}\""));
}

/// Starts a session that computes for hours, and kills the server's first process; waits until nothing else is left of it.
fn orphan(machine: &Machine) -> Process {
    machine.must(
        "cd / && setpriv --reuid=postgres --clear-groups setsid psql -qc 'SELECT count(*) FROM generate_series(1, 1000000000000)' \
         >/dev/null 2>&1 </dev/null &",
    );
    let session = || machine.processes().into_iter().find(|p| p.command.ends_with("[local] SELECT"));
    let session =
        wait("the session computes", || session().ok_or_else(|| format!("{:?}", machine.processes())));
    let first = machine.read(PIDFILE).and_then(|text| text.lines().next()?.parse::<i32>().ok());
    machine.must(&format!("kill -9 {}", first.expect("its number")));
    wait("only the session is left", || {
        let left = machine.named("postgres");
        if left.iter().all(|p| *p == session) { Ok(()) } else { Err(format!("{left:?}")) }
    });
    session
}

/// Waits until what the agent tells of it is so.
#[track_caller]
fn told(machine: &Machine, what: &str, fact: impl Fn(&Value) -> bool) -> Value {
    wait(what, || {
        let said = machine.clusterctl("status --json").said;
        let all: Value = serde_json::from_str(&said).unwrap_or_default();
        let view = &all["nodes"][0]["status"]["instances"][0];
        if fact(view) { Ok(view.clone()) } else { Err(format!("{view}")) }
    })
}

#[test]
fn a_session_that_outlives_its_server_keeps_the_next_one_from_its_files() {
    let machine = machine();
    let session = orphan(&machine);
    machine.start_agent("");
    let view = told(&machine, "it is tried in vain", |view| {
        view["failures"].as_u64() > Some(0) && view["state"] == "backoff"
    });
    let reason = view["reason"].as_str().unwrap_or_default();
    assert!(reason.starts_with("exit code 1; last words: "), "{reason}");
    // Behind the time and the number of the process in each line.
    let words: Vec<&str> = reason.split(" | ").filter_map(|line| Some(line.split_once("] ")?.1)).collect();
    assert!(words[0].starts_with("FATAL:  pre-existing shared memory block (key "), "{reason}");
    assert!(words[0].ends_with(") is still in use"), "{reason}");
    let hint = "HINT:  Terminate any old server processes associated with data directory \"/var/lib/postgresql/15/main\".";
    assert_eq!(words[1..], [hint, "LOG:  database system is shut down"]);
    // Between two tries.
    wait("the stranger's session is left alone", || {
        let left = machine.named("postgres");
        if left == [session.clone()] { Ok(()) } else { Err(format!("{left:?}")) }
    });
    machine.must("pkill -INT -x psql; pkill -9 -x postgres; true");
    told(&machine, "it serves", |view| view["state"] == "ready");
}

#[test]
fn a_session_that_outlives_our_own_server_is_killed_and_the_next_one_serves() {
    let machine = machine();
    machine.must("pg_ctlcluster 15 main stop");
    machine.start_agent("");
    let first = told(&machine, "it serves", |view| view["state"] == "ready");
    orphan(&machine);
    told(&machine, "another one serves", |view| view["state"] == "ready" && view["pid"] != first["pid"]);
    let events = machine.clusterctl("events").said;
    assert!(events.contains(") outlived its main process; it was killed"), "{events}");
}
