//! A power cut while Redis runs, its pid file on the disk and the classic script its runner: the script only looks
//! whether the file is there, and ends well with nothing started.

use super::disks::disks;
use super::machine::{Machine, Network};
use std::time::Duration;

/// What Redis' own `utils/redis_init_script` does.
const CLASSIC: &str = r#"
cat >/etc/init.d/redis-classic <<'END'
#!/bin/sh
PIDFILE=/var/lib/redis/redis.pid
if test -f $PIDFILE; then
    echo "$PIDFILE exists, process is already running or crashed"
else
    exec /usr/bin/redis-server /etc/redis/classic.conf
fi
END
chmod 755 /etc/init.d/redis-classic
sed 's|^pidfile .*|pidfile /var/lib/redis/redis.pid|' /etc/redis/redis.conf >/etc/redis/classic.conf
sed -e 's|^command = .*|command = ["/etc/init.d/redis-classic", "start"]|' \
    -e 's|/run/redis/redis-server.pid|/var/lib/redis/redis.pid|' /etc/clusterd/units/redis.toml >/etc/clusterd/units/classic.toml
chown root:redis /etc/redis/classic.conf
chmod 640 /etc/redis/classic.conf
cat >/etc/clusterd/cluster.toml <<END
[cluster]
name = "one"
insecure = true
[nodes]
all = { one = "192.168.9.1" }
[services]
redis = { on = "all", unit = "classic" }
END
clusterctl check && systemctl enable clusterd
"#;

fn with_the_classic_script(network: &Network) -> Machine {
    let mut machine = disks().machine(network, "one", 1);
    machine.boot();
    machine.ok(CLASSIC);
    machine.ok("sync");
    machine
}

/// Cuts the power so long after Redis was up, boots, and gives back what the agent says of the pid file. The file system
/// is made to commit in between, which says nothing about the file's bytes.
fn cut_and_boot(machine: &mut Machine, after: u64) -> String {
    machine.wait_up();
    let before = machine.pid("redis@one");
    machine.ok("test -s /var/lib/redis/redis.pid");
    std::thread::sleep(Duration::from_secs(after - 1));
    machine.ok("dd if=/dev/zero of=/var/lib/other bs=1 count=1 conv=fsync status=none");
    std::thread::sleep(Duration::from_secs(1));
    machine.outage();
    machine.ok("redis-cli ping");
    assert_eq!(machine.ok("pgrep -xc redis-server"), "1");
    assert_eq!(machine.view("redis@one").starts, 1, "the first start of this boot");
    let boot = machine.ok("clusterctl events | tac | sed '/agent-started/q'");
    eprintln!("cut after {after} s (it was {before}):\n{boot}");
    boot
}

#[test]
fn redis_is_up_again_over_an_empty_pid_file() {
    let network = Network::new();
    let mut machine = with_the_classic_script(&network);
    // However slow the machine is: nothing is written down only because half a minute has passed.
    machine.ok("echo vm.dirty_writeback_centisecs = 0 >/etc/sysctl.d/tests.conf && sync");
    machine.reboot();
    let said = cut_and_boot(&mut machine, 2);
    assert!(said.contains("/var/lib/redis/redis.pid"), "{said}");
    assert!(said.contains("empty"), "{said}");
}

#[test]
#[ignore = "takes minutes; tests/machines/all runs it"]
fn redis_is_up_again_over_the_pid_file_of_an_earlier_boot() {
    let network = Network::new();
    let mut machine = with_the_classic_script(&network);
    machine.reboot();
    for after in [12, 45, 2, 12, 2, 45] {
        let said = cut_and_boot(&mut machine, after);
        assert!(said.contains("/var/lib/redis/redis.pid"), "{said}");
    }
    // And the number is somebody else's now: of one that lives, and is left alone.
    machine.wait_up();
    machine.ok("sync");
    machine.outage();
    machine.ok("systemctl is-active systemd-journald dbus tests-control");
}
