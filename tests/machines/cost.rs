//! What the agent costs a boot: printed, since on a machine that is busy with other tests the figures say little.

use super::disks::disks;
use super::machine::{Machine, Network};

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
