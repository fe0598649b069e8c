//! Redis as the distribution's own unit, which systemd runs and clusterd starts and stops.

use super::disks::disks;
use super::machine::{Machine, Network};
use std::time::Duration;

/// One machine on which systemd runs Redis and nginx for clusterd, one needing the other.
fn with_units(network: &Network) -> Machine {
    let mut machine = disks().machine(network, "one", 1);
    machine.boot();
    let address = machine.address();
    machine.ok(&format!(
        "cat >/etc/clusterd/cluster.toml <<END\n\
         [cluster]\nname = 'one'\ninsecure = true\n\
         [nodes]\nall = {{ one = '{address}' }}\n\
         [services]\nredis = {{ on = 'all', unit = 'redis-by-systemd' }}\n\
         web = {{ on = 'all', unit = 'nginx-by-systemd', needs.redis = 'any master' }}\nEND\n\
         cat >/etc/clusterd/units/redis-by-systemd.toml <<END\n\
         [run]\nkind = 'systemd'\nunit = 'redis-server.service'\nexecutables = ['/usr/bin/redis-server', 'redis-check-rdb']\n\
         [ready]\nprobe = {{ kind = 'redis', port = 6379 }}\n\
         [leftovers]\npidfiles = ['/run/redis/redis-server.pid']\nEND\n\
         cat >/etc/clusterd/units/nginx-by-systemd.toml <<END\n\
         [run]\nkind = 'systemd'\nunit = 'nginx.service'\nEND\n\
         clusterctl check && systemctl enable clusterd && sync"
    ));
    machine
}

#[test]
fn systemd_runs_what_clusterd_orders() {
    let network = Network::new();
    let mut machine = with_units(&network);
    machine.ok("systemctl start clusterd");
    machine.wait_up();
    let events = machine.ok("clusterctl events");
    let at = |what: &str| {
        let found = events.lines().position(|line| line.contains(what));
        found.unwrap_or_else(|| panic!("no {what} in\n{events}"))
    };
    assert!(at("redis@one  ready") < at("web@one  started: nginx.service, pid"), "{events}");
    let redis = machine.pid("redis@one");
    assert_eq!(machine.ok("systemctl show -P MainPID redis-server"), redis.to_string());
    machine.wait("its restarts to be clusterd's", "test $(systemctl show -P Restart redis-server) = no");

    // Another agent finds the same run again.
    machine.ok("systemctl kill --signal=KILL --kill-who=main clusterd");
    machine.wait("another agent", "clusterctl events | grep -q 'redis@one  found-running'");
    machine.wait_up();
    assert_eq!(machine.pid("redis@one"), redis);

    // Killed, it is started anew, and said why, with what it printed.
    machine.ok(&format!("kill -KILL {redis}"));
    machine.wait("its end", "clusterctl events redis@one | grep -q 'exited: killed by SIGKILL'");
    machine.wait_up();
    assert_ne!(machine.pid("redis@one"), redis);

    // Stopped behind clusterd's back it is started again; stopped by clusterd it stays so.
    machine.ok("systemctl stop redis-server");
    machine.wait("its end", "clusterctl events redis@one | grep -q 'and not by clusterd'");
    machine.wait_up();
    machine.ok("clusterctl stop web@one && test $(systemctl is-active nginx) = inactive");
    let told = machine.ok(
        "for unit in redis-server.service nginx.service none.service; do clusterctl probe systemd $unit || true; done",
    );
    for said in [
        "ready (redis-server.service is active (running))",
        "nginx.service is not active (dead)",
        "systemd knows no none.service",
    ] {
        assert!(told.contains(said), "{told}");
    }
    machine.ok("clusterctl start web@one");
    machine.wait_up();

    let said = machine.run("clusterctl logs web@one");
    assert!(said.status != 0 && said.text.contains("journalctl --unit nginx.service"), "{said:?}");

    // The machine's end: in order, web before redis, and each stopped by its own unit.
    machine.reboot();
    machine.wait_up();
    let events = machine.ok("clusterctl events");
    let last = |what: &str| last_line(&events, what);
    assert!(last("web@one  stopped") < last("redis@one  stopped"), "{events}");
    assert!(last("redis@one  stopped") < last("agent-ended"), "{events}");
    let journal =
        machine.ok("journalctl -b -1 --no-pager -o cat -u redis-server -u nginx -u clusterd-shutdown");
    let line = |what: &str| last_line(&journal, what);
    assert!(line("Stopped nginx.service") < line("Stopped redis-server.service"), "{journal}");
    assert!(line("Stopped redis-server.service") < line("Stopped clusterd-shutdown.service"), "{journal}");
}

fn last_line(text: &str, what: &str) -> usize {
    let lines: Vec<&str> = text.lines().collect();
    lines.iter().rposition(|line| line.contains(what)).unwrap_or_else(|| panic!("no {what} in\n{text}"))
}

#[test]
#[ignore = "takes minutes; tests/machines/all runs it"]
fn redis_by_its_own_unit_is_up_again_after_power_cuts() {
    let network = Network::new();
    let mut machine = with_units(&network);
    // Its pid file on the disk, where a power cut leaves it.
    machine.ok("mkdir -p /etc/systemd/system/redis-server.service.d\n\
         printf '[Service]\\nPIDFile=/var/lib/redis/redis.pid\\n' >/etc/systemd/system/redis-server.service.d/pid.conf\n\
         sed -i 's|^pidfile .*|pidfile /var/lib/redis/redis.pid|' /etc/redis/redis.conf\n\
         sed -i 's|/run/redis/redis-server.pid|/var/lib/redis/redis.pid|' /etc/clusterd/units/redis-by-systemd.toml; sync");
    machine.reboot();
    for after in [2, 12, 45] {
        machine.wait_up();
        std::thread::sleep(Duration::from_secs(after));
        machine.cut();
        machine.boot();
        machine.wait_up();
        machine.ok("redis-cli ping");
        assert_eq!(machine.ok("pgrep -xc redis-server"), "1");
        let redis = machine.view("redis@one");
        assert_eq!((redis.starts, redis.failures), (1, 0), "cut after {after} s: {redis:?}");
        let said = machine.ok("clusterctl events redis@one | tac | sed '/started: /q'");
        eprintln!("cut after {after} s:\n{said}");
    }
}

#[test]
#[ignore = "takes minutes; tests/machines/all runs it"]
fn what_cannot_be_started_or_was_started_by_others_is_told() {
    let network = Network::new();
    let mut machine = with_units(&network);
    // Enabled at boot: adopted as what it is. The doctor says so.
    machine.ok("systemctl enable redis-server");
    machine.reboot();
    machine.wait_up();
    let redis = machine.view("redis@one");
    assert_eq!(redis.flags, ["started by somebody else, adopted"], "{redis:?}");
    let said = machine.run("clusterctl doctor").text;
    assert!(
        said.contains("systemd starts redis-server.service at boot, which is what redis@one runs"),
        "{said}"
    );
    machine.ok("clusterctl doctor --fix; test $(systemctl is-enabled redis-server) = disabled");
    machine.wait_up();
    assert_eq!(machine.pid("redis@one"), redis.pid.expect("a process"), "nobody touches what runs");

    // systemd begins anew, and the bus does: nothing is restarted for that, and an end is still heard.
    let pid = machine.pid("redis@one");
    machine.ok("systemctl daemon-reexec");
    machine.wait_up();
    assert_eq!(machine.pid("redis@one"), pid);
    machine.ok("kill -KILL $(pgrep -x dbus-daemon); sleep 1");
    machine.wait("the bus to be heard again", "! clusterctl status | grep -q 'as it was last heard'");
    assert_eq!(machine.pid("redis@one"), pid);
    machine.ok(&format!("kill -KILL {pid}"));
    machine.wait("its end", "clusterctl events redis@one | grep -q 'exited: killed by SIGKILL'");
    machine.wait_up();

    // A stop that takes too long ends by force, through systemd.
    machine.ok("mkdir -p /run/systemd/system/redis-server.service.d && \
         printf '[Service]\\nKillSignal=SIGWINCH\\n' >/run/systemd/system/redis-server.service.d/slow.conf && \
         sed -i 's/^\\[leftovers\\]/[stop]\\ntimeout = \"2s\"\\n[leftovers]/' /etc/clusterd/units/redis-by-systemd.toml && \
         systemctl daemon-reload && clusterctl reload && clusterctl restart redis@one");
    machine.wait_up();
    let pid = machine.pid("redis@one");
    machine.ok("clusterctl stop redis@one");
    machine.wait("its end", "clusterctl events redis@one | tail -n 1 | grep 'stopped: '");
    machine.ok(&format!("! kill -0 {pid} 2>/dev/null"));
    machine.ok("clusterctl events redis@one | grep 'did not stop within 2 s'");
    machine.ok("rm /run/systemd/system/redis-server.service.d/slow.conf && systemctl daemon-reload");

    // Masked: it is given up, and says what to type.
    machine.ok("systemctl mask redis-server");
    let said = machine.run("clusterctl start redis@one; clusterctl events redis@one");
    assert!(said.text.contains("is masked: `systemctl unmask redis-server.service`"), "{said:?}");
    machine.ok("systemctl unmask redis-server && clusterctl start redis@one");
    machine.wait_up();
}
