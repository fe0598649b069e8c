//! What the agent costs a boot. Figures are from this kernel ([`super::native`]), and held to what is promised. Those from
//! user-mode Linux are printed only: each system call costs many times as much there.

use super::disks::disks;
use super::machine::{Machine, Network};
use super::native::{Native, Tree};

/// The boots of which the median is taken.
const BOOTS: usize = 5;
/// From the start of PID 1 until the agent is ready, milliseconds of processors' time, of the whole machine.
const MOST_USED: f64 = 1000.0;
/// What the agent adds to a boot's critical path, milliseconds.
const MOST_ADDED: f64 = 300.0;

const ONE: &str = "[cluster]\nname = 'one'\ninsecure = true\n[nodes]\nall = { one = '192.168.9.1' }\n[services]\nredis = { on = 'all' }\n";

fn median(what: &str, mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    let median = figures[figures.len() / 2];
    eprintln!("{what}: median {median:.0} ms of {figures:.0?}");
    median
}

#[test]
fn a_boot_costs_little_and_waits_little_for_the_agent() {
    let tree = Tree::new(disks());
    tree.write("etc/clusterd/cluster.toml", ONE);
    let figures = |boots: &[Native]| {
        // Milliseconds since PID 1 began until all that a boot starts was there.
        let boot = |native: &Native| native.moment("", "Finish") - native.moment("", "Userspace");
        boots.iter().map(boot).collect::<Vec<_>>()
    };
    let mut with = Vec::new();
    let mut without = Vec::new();
    let (mut used, mut started) = (Vec::new(), Vec::new());
    for _ in 0..BOOTS {
        tree.chroot("systemctl --quiet disable clusterd");
        without.extend(figures(&[tree.boot()]));
        tree.chroot("systemctl --quiet enable clusterd");
        let native = tree.boot();
        assert_eq!(native.run("systemctl is-active clusterd"), "active");
        used.push(native.used_until_ready());
        started.push(native.moment("clusterd", "ActiveEnter") - native.moment("clusterd", "InactiveExit"));
        with.extend(figures(&[native]));
    }
    let used = median("the machine's processors from the start of PID 1 until the agent is ready", used);
    let started = median("from the start of clusterd.service until it is ready", started);
    let with = median("a boot with the agent", with);
    let added = with - median("a boot without it", without);
    assert!(used <= MOST_USED, "{used} ms");
    assert!(started <= MOST_ADDED && added <= MOST_ADDED, "{started} ms, {added} ms");
}

/// From the moment at which systemd executes the agent until it says `READY=1`, milliseconds, and the agent's own
/// processor time until now.
fn figures(machine: &mut Machine) -> (f64, String) {
    let said = machine.ok(
        "show() { systemctl show clusterd --property=$1 --value; }\n\
         echo $(show ExecMainStartTimestampMonotonic) $(show ActiveEnterTimestampMonotonic)\n\
         awk -v tick=$(getconf CLK_TCK) '{ print $14 / tick \" s user, \" $15 / tick \" s system, \" $10 \" minor faults, \" $12 \" major\" }' \
             /proc/$(show MainPID)/stat",
    );
    let (times, rest) = said.split_once('\n').expect("two lines");
    let times: Vec<f64> = times.split_whitespace().map(|time| time.parse().expect("a number")).collect();
    ((times[1] - times[0]) / 1000.0, rest.to_owned())
}

#[test]
#[ignore = "measures; tests/machines/all runs it"]
fn from_its_exec_until_the_agent_is_ready() {
    let network = Network::new();
    let mut machine = disks().machine(&network, "one", 1);
    machine.boot();
    let address = machine.address();
    machine.ok(&format!(
        "cat >/etc/clusterd/cluster.toml <<END\n[cluster]\nname = 'one'\ninsecure = true\n[nodes]\nall = {{ one = '{address}' }}\n\
         [services]\nredis = {{ on = 'all' }}\nEND\nclusterctl check && systemctl enable clusterd"
    ));
    machine.reboot();
    machine.wait_up();
    machine.run("systemctl is-system-running --wait");
    let (at_boot, spent) = figures(&mut machine);
    eprintln!("at boot, beside all else that starts: {at_boot:.0} ms; {spent}");
    for _ in 0..5 {
        machine.ok("systemctl restart clusterd && sleep 2");
        let (alone, spent) = figures(&mut machine);
        eprintln!("by itself: {alone:.0} ms; {spent}");
    }
    let program = "for i in $(seq 10); do $PROGRAM >/dev/null; done; times | head -n 1";
    for program_is in ["/bin/true", "clusterd --version"] {
        let begun = std::time::Instant::now();
        machine.ok(&program.replace("$PROGRAM", program_is));
        eprintln!("{program_is}: {:.0} ms for one exec", begun.elapsed().as_secs_f64() * 100.0);
    }
}
