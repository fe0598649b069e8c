//! Boots at which something is not as it should be.

use super::disks::disks;
use super::machine::{Machine, Network};

/// One machine with Redis, which listens on the machine's own address and on no other.
fn with_redis(network: &Network) -> Machine {
    let mut machine = disks().machine(network, "one", 1);
    machine.boot();
    let address = machine.address();
    machine.ok(&format!(
        "sed -i 's/^bind .*/bind {address}/' /etc/redis/redis.conf\n\
         cat >/etc/clusterd/cluster.toml <<END\n\
         [cluster]\nname = 'one'\ninsecure = true\n\
         [nodes]\nall = {{ one = '{address}' }}\n\
         [services]\nredis = {{ on = 'all' }}\nEND\n\
         clusterctl check && systemctl enable clusterd && sync"
    ));
    machine
}

#[test]
#[ignore = "takes minutes; tests/machines/all runs it"]
fn the_network_comes_a_minute_late() {
    let network = Network::new();
    let mut machine = with_redis(&network);
    machine.ok("echo 60 >/etc/tests-late");
    machine.reboot();
    machine.wait("the agent to be ready without it", "systemctl is-active clusterd");
    assert_eq!(machine.ok("systemctl is-system-running --wait"), "running", "the boot does not wait for it");
    let said = machine.ok("clusterctl status || systemctl status clusterd");
    assert!(said.contains("192.168.9.1, this node's address, is on no interface yet"), "{said}");
    machine.ok("! pgrep -x redis-server");
    machine.wait_up();
    let redis = machine.view("redis@one");
    assert_eq!((redis.starts, redis.failures), (1, 0), "{redis:?}");
    assert!(machine.problems().is_empty());
    // And a shutdown does not wait for it either.
    machine.reboot();
    machine.wait("the agent to be ready without it", "systemctl is-active clusterd");
    machine.power_off();
}

#[test]
#[ignore = "takes minutes; tests/machines/all runs it"]
fn the_clock_says_1970() {
    let network = Network::new();
    let mut machine = with_redis(&network);
    machine.ok("cat >/etc/systemd/system/tests-clock.service <<END\n\
         [Unit]\nDefaultDependencies=no\nBefore=clusterd.service sysinit.target\n\
         [Service]\nType=oneshot\nExecStart=/bin/date -s @100\n\
         [Install]\nWantedBy=sysinit.target\nEND\n\
         systemctl enable tests-clock && systemctl start clusterd");
    machine.wait_up();
    machine.ok("sync");
    machine.outage();
    assert!(machine.ok("date +%Y") == "1970");
    assert!(machine.problems().is_empty());
    assert_eq!(machine.view("redis@one").starts, 1);
}

#[test]
#[ignore = "takes minutes; tests/machines/all runs it"]
fn the_disk_is_full_at_boot() {
    let network = Network::new();
    let mut machine = with_redis(&network);
    machine.ok("systemctl start clusterd");
    machine.wait_up();
    // Root has what is reserved for it: all of that, too.
    machine.ok("dd if=/dev/zero of=/var/full bs=1M 2>/dev/null; dd if=/dev/zero of=/var/full2 bs=1k 2>/dev/null; sync; test $(df --output=avail / | tail -n 1) = 0");
    machine.outage();
    machine.ok("redis-cli -h 192.168.9.1 ping");
    machine.ok("clusterctl stop redis@one || test $? = 5");
    machine.ok("! pgrep -x redis-server");
    machine.ok("rm /var/full /var/full2; clusterctl start redis@one");
    machine.wait_up();
}

#[test]
#[ignore = "takes minutes; tests/machines/all runs it"]
fn var_is_read_only() {
    let network = Network::new();
    let mut machine = with_redis(&network);
    machine.ok("systemctl start clusterd");
    machine.wait_up();
    machine.ok(
        "cat >/etc/systemd/system/tests-var.service <<END\n\
         [Unit]\nDefaultDependencies=no\nBefore=clusterd.service\nAfter=sysinit.target\n\
         [Service]\nType=oneshot\nExecStart=/bin/mount --bind /var /var\nExecStart=/bin/mount -o remount,bind,ro /var\n\
         [Install]\nWantedBy=multi-user.target\nEND\n\
         sed -i -e 's|^logfile .*|logfile \"\"|' -e 's|^dir .*|dir /run/redis|' /etc/redis/redis.conf\n\
         systemctl enable tests-var && sync",
    );
    machine.outage();
    machine.ok("! touch /var/lib/clusterd/x && redis-cli -h 192.168.9.1 ping");
}

#[test]
#[ignore = "takes minutes; tests/machines/all runs it"]
fn the_reset_button_during_the_agents_own_writes() {
    let network = Network::new();
    let mut machine = with_redis(&network);
    machine.ok("systemctl start clusterd");
    machine.wait_up();
    // Orders are what it writes down before it answers: held, started, held, … with the cut in the middle of it.
    for round in 0..8 {
        machine.ok(
            "(while :; do clusterctl stop redis@one; clusterctl start redis@one; done) >/dev/null 2>&1 &",
        );
        std::thread::sleep(std::time::Duration::from_millis(1500 + 311 * round));
        machine.cut();
        machine.boot();
        machine.wait("the agent to be ready", "systemctl is-active clusterd");
        assert!(machine.problems().is_empty(), "{:?}", machine.problems());
        machine.run("clusterctl start redis@one");
        machine.wait_up();
        machine.ok("! journalctl -b -u clusterd | grep -i torn");
    }
}
