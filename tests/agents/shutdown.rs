//! What `units/clusterd-shutdown.service` does when it is stopped: by its own line, as a shell runs it.

use super::agents::{Cluster, wait};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

/// The script of the unit's `ExecStop`, as systemd hands it to the shell.
fn exec_stop() -> String {
    let unit =
        fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/units/clusterd-shutdown.service")).unwrap();
    let unit = unit.replace("\\\n", "");
    let line = unit.lines().find_map(|l| l.strip_prefix("ExecStop=/bin/sh -c '")).unwrap();
    line.strip_suffix('\'').unwrap().replace("$$", "$")
}

/// Two services, one of which needs the other; both write down that they were told to stop.
fn two() -> Cluster {
    let script = "trap 'echo {service} >>DIR/stopped; exit 0' TERM; while :; do sleep 0.05; done";
    let unit = format!(
        "[run]\ncommand = [\"/bin/sh\", \"-c\", \"{script}\"]\n[ready]\nprobe = {{ kind = \"running\", for = \"10ms\" }}\n"
    );
    let cluster = Cluster::new("goes-down");
    cluster.write(
        "[cluster]\nname = \"NAME\"\ninsecure = true\n[nodes]\nall = { n1 = \"A1\" }\n[services]\nfirst = { on = \"n1\", unit = \"it\" }\n\
         last = { on = \"n1\", unit = \"it\", needs.first = \"same-node\" }\n",
        &[("it", &unit)],
    );
    cluster
}

#[test]
fn stopping_the_agent_leaves_the_services_and_a_shutdown_stops_them_in_their_order() {
    let mut cluster = two();
    let stopped = cluster.file().with_file_name("stopped");
    let systemctl = cluster.file().with_file_name("systemctl");
    let run = |cluster: &Cluster, state: &str| {
        let pid = cluster.pid("n1");
        let script = format!(
            "#!/bin/sh\ncase $1 in\nis-system-running) echo {state} ;;\nshow) echo {pid} ;;\nkill) kill -PWR {pid} ;;\nesac\n"
        );
        // By a process of its own: were it open for writing here, a fork of another test could carry that into its child,
        // and it could not be executed for that moment.
        let text = systemctl.with_extension("text");
        fs::write(&text, script).unwrap();
        assert!(Command::new("/bin/cp").arg(&text).arg(&systemctl).status().unwrap().success());
        fs::set_permissions(&systemctl, Permissions::from_mode(0o755)).unwrap();
        let path = format!("{}:{}", systemctl.parent().unwrap().display(), std::env::var("PATH").unwrap());
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", &exec_stop()]).env("PATH", path);
        shell.spawn().unwrap()
    };
    cluster.start("n1");
    let pid = wait("the last to be ready", || cluster.pid_if("n1", "last@n1", "ready"));

    assert!(run(&cluster, "running").wait().unwrap().success());
    cluster.signal("n1", nix::sys::signal::Signal::SIGTERM);
    cluster.wait_ended("n1");
    cluster.start("n1");
    assert_eq!(wait("the next agent to find it", || cluster.pid_if("n1", "last@n1", "ready")), pid);
    assert!(!stopped.exists());

    let mut shell = run(&cluster, "stopping");
    cluster.wait_ended("n1");
    assert!(wait("the script to see the agent's end", || shell.try_wait().unwrap()).success());
    assert_eq!(fs::read_to_string(&stopped).unwrap(), "last\nfirst\n");
}
