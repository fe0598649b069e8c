//! Agents that are killed while all runs.

use super::harness::Lab;
use super::kernel::Process;
use super::scene::BOOT;
use nix::unistd::getsid;
use std::collections::{BTreeMap, BTreeSet};

/// Of all services: each keepalived is two, each nginx a master and a worker.
const PROCESSES: usize = 4 + 6 + 2 + 3 + 2 + 4 + 1;

#[test]
fn killed_agents_find_their_services_again_and_no_service_notices() {
    let lab = Lab::new("agents killed");
    lab.boot_without(&[]);
    lab.wait_all_up(&[]);
    let before = services(&lab);
    assert_eq!(before.values().map(BTreeSet::len).sum::<usize>(), PROCESSES, "{before:#?}");
    let starts = count(&lab, "started");

    for host in &lab.hosts {
        host.kill_agent();
    }
    assert_eq!(services(&lab), before, "no service notices");
    for host in &lab.hosts {
        host.start_agent();
    }
    lab.wait_all_up(&[]);
    // They know them again by their own records, not as somebody else's.
    lab.wait("each service is found again", BOOT, || {
        let found = count(&lab, "found-running");
        if found == starts { Ok(()) } else { Err(format!("{found} of {starts}")) }
    });
    assert_eq!(services(&lab), before, "never two of one instance, and none anew");
    assert_eq!(count(&lab, "started"), starts, "nothing was started again");
}

#[test]
fn an_agent_killed_in_the_middle_of_a_boot_never_makes_two_of_one() {
    let lab = Lab::new("agents killed while they boot");
    lab.boot_without(&[]);
    // Again and again while its services come up, wherever each happens to be.
    for up in [1, 4, 8, 12, 16, 20] {
        lab.wait("the boot goes on", BOOT, || {
            let found: usize = services(&lab).values().map(BTreeSet::len).sum();
            if found >= up { Ok(()) } else { Err(format!("{found} of {up} processes")) }
        });
        for host in &lab.hosts {
            host.kill_agent();
            host.start_agent();
        }
    }
    lab.wait_all_up(&[]);
    let services = services(&lab);
    assert_eq!(services.values().map(BTreeSet::len).sum::<usize>(), PROCESSES, "{services:#?}");
}

/// Every living process of every host's services. Each service has a session of its own; the agents are in this test's, with
/// what they run for themselves (keepalived is asked for its signals by `keepalived --signum`).
fn services(lab: &Lab) -> BTreeMap<&str, BTreeSet<Process>> {
    let agents = getsid(None).expect("a process has a session").as_raw();
    let of = |host: &super::host::Host| {
        host.processes().into_iter().filter(|p| !p.zombie && p.session != agents).collect()
    };
    lab.hosts.iter().map(|h| (h.name.as_str(), of(h))).collect()
}

fn count(lab: &Lab, what: &str) -> usize {
    lab.host("office1").events().iter().filter(|t| t.event.what == what).count()
}
