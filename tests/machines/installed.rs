//! A machine with the package: its boot, its reboot, and what the package's own comings and goings do to services.

use super::disks::{disks, give, later_version};
use super::machine::{Machine, Network};

/// One machine that runs Redis by the unit that the package brings.
fn with_redis(network: &Network, name: &str) -> Machine {
    let mut machine = disks().machine(network, name, 1);
    machine.boot();
    let address = machine.address();
    machine.ok(&format!(
        "cat >/etc/clusterd/cluster.toml <<END\n\
         [cluster]\nname = 'one'\ninsecure = true\n\
         [nodes]\nall = {{ {name} = '{address}' }}\n\
         [services]\nredis = {{ on = 'all' }}\nweb = {{ on = 'all', unit = 'nginx', needs.redis = 'same-node' }}\nEND\n\
         clusterctl check && systemctl enable clusterd"
    ));
    machine
}

#[test]
fn it_is_ready_at_boot_and_neither_restart_nor_upgrade_nor_removal_touches_a_service() {
    let network = Network::new();
    let mut machine = with_redis(&network, "one");
    machine.reboot();
    machine.wait_up();
    assert_eq!(machine.ok("systemctl is-active clusterd"), "active");
    machine.ok("systemctl is-system-running --wait; ! systemctl is-failed clusterd");
    let (redis, web) = (machine.pid("redis@one"), machine.pid("web@one"));
    let cgroup = machine.ok(&format!("cat /proc/{redis}/cgroup"));
    assert!(cgroup.starts_with("0::/system.slice/clusterd.service/clusterd-one-one-"), "{cgroup}");
    assert!(cgroup.ends_with("/redis@one"), "{cgroup}");
    assert_eq!(machine.ok(&format!("cat /proc/{redis}/oom_score_adj")), "0", "the agent's is its own");

    machine.ok("systemctl restart clusterd");
    machine.wait_up();
    machine.ok("systemctl stop clusterd");
    machine.ok(&format!(
        "redis-cli ping && test $(systemctl show -P Result clusterd) = success && kill -0 {redis} {web}"
    ));
    machine.ok("systemctl start clusterd");
    machine.wait_up();
    assert_eq!((machine.pid("redis@one"), machine.pid("web@one")), (redis, web));

    let agent = machine.ok("systemctl show -P MainPID clusterd");
    later_version(&disks().package, &machine.host().join("later.deb"));
    machine.ok("dpkg -i /host/later.deb");
    assert_ne!(machine.ok("systemctl show -P MainPID clusterd"), agent, "the new agent took over");
    machine.wait_up();
    assert_eq!((machine.pid("redis@one"), machine.pid("web@one")), (redis, web));

    let said = machine.ok("dpkg -r clusterd");
    assert!(said.contains("go on running"), "{said}");
    assert!(said.contains("redis@one") && said.contains("web@one"), "{said}");
    machine.ok(&format!("redis-cli ping && kill -0 {redis} {web} && ! test -e /usr/bin/clusterd"));

    give(&machine, &disks().package, "again.deb");
    machine.ok("dpkg -i /host/again.deb && systemctl enable --now clusterd");
    machine.wait_up();
    assert_eq!((machine.pid("redis@one"), machine.pid("web@one")), (redis, web));
}

#[test]
fn a_reboot_stops_the_services_in_their_order_and_waits_for_them() {
    let network = Network::new();
    let mut machine = with_redis(&network, "one");
    machine.ok("systemctl start clusterd");
    machine.wait_up();
    machine.reboot();
    machine.wait_up();
    let events = machine.ok("clusterctl events");
    let at = |what: &str| {
        let found = events.lines().position(|line| line.contains(what));
        found.unwrap_or_else(|| panic!("no {what} in\n{events}"))
    };
    let (web, redis) = (at("web@one  stopped"), at("redis@one  stopped"));
    assert!(web < redis && redis < at("agent-ended"), "{events}");
    // systemd waited for it, and then took the network down; and Redis wrote its data, as it does when it is asked.
    let journal = machine.ok("journalctl -b -1 --no-pager -o short-monotonic");
    let line = |what: &str| {
        journal.lines().position(|l| l.contains(what)).unwrap_or_else(|| panic!("no {what} in\n{journal}"))
    };
    assert!(line("agent-ended") < line("Stopped clusterd.service"), "{journal}");
    assert!(line("Stopped clusterd.service") < line("Stopped target network.target"), "{journal}");
    machine.ok("journalctl -b -1 -u clusterd | grep -q 'clusterd.service: Deactivated successfully'");
    machine.ok("grep -q 'User requested shutdown' /var/log/redis/redis-server.log");
}
