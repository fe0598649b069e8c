//! Services that say themselves how they fare: with real agents, `systemd-notify`, and daemons that speak sd_notify.

use super::agents::{Cluster, wait};
use clusterd::engine::view::StateName;
use clusterd::sim::replay::replay;
use clusterd::sim::{Step, Watcher};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::{self, File, Permissions};
use std::io::BufReader;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::process::Command;

/// One node with one service, `it`.
fn one(name: &str, run: &str, ready: &str) -> Cluster {
    let cluster = Cluster::new(name);
    cluster.write(
        "[cluster]\nname = \"NAME\"\ninsecure = true\n[nodes]\nall = { n1 = \"A1\" }\n[services]\nit = { on = \"n1\" }\n",
        &[("it", &format!("[run]\nkind = \"notify\"\n{run}\n[ready]\nwithin = \"30s\"\n{ready}\n"))],
    );
    // Services of other users have to come through to the run folder.
    fs::set_permissions(cluster.file().parent().unwrap(), Permissions::from_mode(0o711)).unwrap();
    cluster
}

fn shell(script: &str) -> String {
    format!("command = [\"/bin/sh\", \"-c\", \"{script}\"]")
}

#[test]
fn a_service_of_another_user_says_ready_and_is_heard_by_the_next_agent() {
    let script = "systemd-notify --ready --status=serves; until [ -e DIR/go ]; do sleep 0.05; done; \
                  systemd-notify --status=served; exec sleep 1000";
    let mut cluster = one("other-user", &format!("user = \"nobody\"\n{}", shell(script)), "");
    cluster.start("n1");
    let pid = wait("it to be ready", || cluster.pid_if("n1", "it@n1", "ready"));
    assert_eq!(cluster.view("n1", "it@n1").unwrap()["reason"], "serves");
    cluster.kill("n1");
    cluster.start("n1");
    assert_eq!(wait("the new agent to find it", || cluster.pid_if("n1", "it@n1", "ready")), pid);
    fs::write(cluster.file().with_file_name("go"), "").unwrap();
    wait("the new agent to hear it", || (cluster.view("n1", "it@n1")?["reason"] == "served").then_some(()));
    assert_eq!(cluster.pid_if("n1", "it@n1", "ready"), Some(pid));
}

#[test]
fn a_newline_on_its_descriptor_makes_it_ready_even_one_that_was_written_while_no_agent_was_there() {
    let script = "until [ -e DIR/go ]; do sleep 0.05; done; echo >&3; touch DIR/gone; exec sleep 1000";
    let mut cluster = one("newline", &format!("ready_fd = 3\nuser = \"nobody\"\n{}", shell(script)), "");
    let file = |name: &str| cluster.file().with_file_name(name);
    let (go, gone) = (file("go"), file("gone"));
    fs::write(&gone, "").unwrap();
    fs::set_permissions(&gone, Permissions::from_mode(0o666)).unwrap();
    let written = fs::metadata(&gone).unwrap().modified().unwrap();
    cluster.start("n1");
    let pid = wait("it to be starting", || cluster.pid_if("n1", "it@n1", "starting"));
    cluster.kill("n1");
    fs::write(go, "").unwrap();
    wait("it to have said so to nobody", || {
        (fs::metadata(&gone).unwrap().modified().unwrap() != written).then_some(())
    });
    cluster.start("n1");
    assert_eq!(wait("the new agent to read it", || cluster.pid_if("n1", "it@n1", "ready")), pid);
    assert!(cluster.event("n1", "it@n1", "not-heard").is_none());
}

#[test]
fn it_is_heard_on_after_messages_that_bring_descriptors() {
    // Each systemd-notify sends one, and waits until it is closed.
    let script = "for i in 1 2 3 4 5; do systemd-notify --ready --status=said$i; done; exec sleep 1000";
    let mut cluster = one("descriptors", &shell(script), "");
    cluster.start("n1");
    wait("the last word", || (cluster.view("n1", "it@n1")?["reason"] == "said5").then_some(()));
}

#[test]
fn a_stranger_is_not_believed() {
    let script = "until [ -e DIR/go ]; do sleep 0.05; done; systemd-notify --ready; exec sleep 1000";
    let mut cluster = one("stranger", &shell(script), "");
    cluster.start("n1");
    wait("it to be starting", || cluster.pid_if("n1", "it@n1", "starting"));
    let socket = UnixDatagram::unbound().unwrap();
    socket.send_to(b"READY=1\nSTATUS=mine", cluster.run("n1").join("notify/it")).unwrap();
    wait("the stranger to be told of", || cluster.event("n1", "it@n1", "notice-ignored"));
    let view = cluster.view("n1", "it@n1").unwrap();
    assert_eq!(
        (&view["state"], &view["reason"]),
        (&"starting".into(), &"has not said yet that it is ready".into())
    );
    fs::write(cluster.file().with_file_name("go"), "").unwrap();
    wait("it to be ready", || cluster.pid_if("n1", "it@n1", "ready"));
}

#[test]
fn without_a_sign_of_life_it_is_aborted_and_started_again() {
    let script = "test \\\"$WATCHDOG_USEC\\\" = 300000 && systemd-notify --ready && exec sleep 1000";
    let mut cluster = one("watchdog", &format!("watchdog = \"300ms\"\n{}", shell(script)), "");
    cluster.start("n1");
    let pid = wait("it to be ready", || cluster.pid_if("n1", "it@n1", "ready"));
    wait("the watchdog", || cluster.event("n1", "it@n1", "watchdog"));
    wait("another process", || cluster.pid_if("n1", "it@n1", "ready").filter(|now| *now != pid));
    assert_eq!(cluster.sentences("n1", "it@n1", "exited")[0], "killed by SIGABRT");
}

#[test]
fn redis_says_ready() {
    let command = "command = [\"/usr/bin/redis-server\", \"--port\", \"0\", \"--unixsocket\", \"DIR/redis.sock\", \
                   \"--supervised\", \"systemd\", \"--save\", \"\", \"--dir\", \"DIR\"]";
    let mut cluster = one("redis-notify", command, "");
    cluster.start("n1");
    wait("redis to be ready", || cluster.pid_if("n1", "it@n1", "ready"));
    let reason = cluster.view("n1", "it@n1").unwrap()["reason"].clone();
    assert_eq!(reason, "Ready to accept connections");
    UnixStream::connect(cluster.file().with_file_name("redis.sock")).unwrap();
}

#[test]
fn mariadb_says_ready() {
    let run = "command = [\"/usr/sbin/mariadbd\", \"--no-defaults\", \"--user=root\", \"--datadir=DIR/data\", \
               \"--socket=DIR/mariadb.sock\", \"--skip-networking\", \"--innodb-buffer-pool-size=8M\"]";
    let mut cluster = one("mariadb-notify", run, "");
    let data = cluster.file().with_file_name("data");
    let installed = Command::new("/usr/bin/mariadb-install-db")
        .args(["--no-defaults", "--user=root", "--skip-test-db"])
        .arg(format!("--datadir={}", data.display()))
        .output()
        .unwrap();
    assert!(installed.status.success(), "{installed:?}");
    cluster.start("n1");
    wait("mariadb to be ready", || cluster.pid_if("n1", "it@n1", "ready"));
    UnixStream::connect(cluster.file().with_file_name("mariadb.sock")).unwrap();

    // Killed, it recovers first, and says so while it is starting.
    let sql = |text: &str| {
        let socket = format!("--socket={}", cluster.file().with_file_name("mariadb.sock").display());
        let done = Command::new("mariadb").args(["--no-defaults", "-uroot", &socket, "-e", text]).output();
        assert!(done.as_ref().is_ok_and(|done| done.status.success()), "{done:?}");
    };
    sql("CREATE DATABASE d; CREATE TABLE d.t (b VARCHAR(200)); INSERT INTO d.t VALUES (REPEAT('x', 200))");
    for _ in 0..12 {
        sql("INSERT INTO d.t SELECT b FROM d.t");
    }
    let pid = cluster.pid_if("n1", "it@n1", "ready").expect("it is ready");
    kill(Pid::from_raw(pid as i32), Signal::SIGKILL).unwrap();
    wait("mariadb to be ready again", || cluster.pid_if("n1", "it@n1", "ready").filter(|now| *now != pid));

    // It says that it stops, and how long that takes; then it has ended by itself.
    assert_eq!(cluster.ctl("n1", &["stop", "it"]).code, 0);
    wait("it to be stopped", || cluster.in_state("n1", "it@n1", "stopped"));
    assert!(cluster.event("n1", "it@n1", "killed").is_none());

    // How long it recovered is its own affair: whether it was shown meanwhile, the recording tells.
    cluster.kill("n1");
    let mut shown = Recovers(false);
    let recording = BufReader::new(File::open(cluster.recording("n1")).unwrap());
    replay(recording, &mut shown).unwrap_or_else(|e| panic!("{e}"));
    assert!(shown.0, "nobody was told that it recovers");
}

/// Whether an operator could read, while it was starting, that the service recovers.
struct Recovers(bool);

impl Watcher for Recovers {
    fn step(&mut self, step: &Step<'_>) -> Result<(), String> {
        let it = step.engine.cluster().instance_named("it@n1");
        let view = it.and_then(|it| step.engine.view(it, step.now));
        self.0 |=
            view.is_some_and(|v| v.state == StateName::Starting && v.reason.starts_with("To recover: "));
        Ok(())
    }
}
