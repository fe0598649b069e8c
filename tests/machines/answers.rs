//! What a real systemd answers when a start comes to nothing, and what it does by itself. On this kernel ([`super::native`]), where a
//! boot takes a second.

use super::deadline::{self, wait};
use super::disks::disks;
use super::native::{Native, Tree};
use std::fmt::Write as _;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// A unit, and what is to be said when it is started.
const REFUSED: &[(&str, &str, &str)] = &[
    (
        "dependency",
        "[Unit]\nRequires=broken.service\nAfter=broken.service\n[Service]\nExecStart=/bin/sleep 1d\n",
        "another unit that it requires did not start",
    ),
    (
        "timeout",
        "[Unit]\nWants=slow.service\nAfter=slow.service\nJobTimeoutSec=1\n[Service]\nExecStart=/bin/sleep 1d\n",
        "its start took too long (JobTimeoutSec=)",
    ),
    (
        "assert",
        "[Unit]\nAssertPathExists=/nowhere\n[Service]\nExecStart=/bin/sleep 1d\n",
        "an assertion of its unit does not hold (Assert…=)",
    ),
    (
        "condition",
        "[Unit]\nConditionPathExists=/nowhere\n[Service]\nExecStart=/bin/sleep 1d\n",
        "a condition of its unit is not met (Condition…=), so systemd skipped it",
    ),
    (
        "exec-condition",
        "[Service]\nExecCondition=/bin/false\nExecStart=/bin/sleep 1d\n",
        "a condition of its unit was not met (ExecCondition=)",
    ),
    ("bad", "[Service]\nRestart=no\n", "systemd does not take the file of bad.service"),
    ("masked", "", "masked.service is masked: `systemctl unmask masked.service`"),
    (
        "starts-late",
        "[Service]\nType=notify\nTimeoutStartSec=1\nExecStart=/bin/sleep 1d\n",
        "it did not start or stop in the time that its unit gives it",
    ),
    (
        "silent",
        "[Service]\nType=notify\nNotifyAccess=all\nWatchdogSec=1\nExecStart=/bin/sh -c 'systemd-notify --ready; sleep 1d'\n",
        "it gave systemd no sign of life (WatchdogSec=)",
    ),
    (
        "no-program",
        "[Service]\nExecStart=/nowhere/at-all\n",
        "exit code 203; systemd could not execute its program (ExecStart=)",
    ),
    (
        "no-folder",
        "[Service]\nWorkingDirectory=/nowhere\nExecStart=/bin/sleep 1d\n",
        "exit code 200; systemd could not enter its folder (WorkingDirectory=)",
    ),
    (
        "no-user",
        "[Service]\nUser=nobody-at-all\nExecStart=/bin/sleep 1d\n",
        "exit code 217; systemd could not become its user or group (User=, Group=)",
    ),
    ("protocol", "[Service]\nType=notify\nExecStart=/bin/true\n", "it did not do what its unit's Type= says"),
    (
        "oneshot",
        "[Service]\nType=oneshot\nExecStart=/bin/true\n",
        "oneshot.service runs to its end (Type=oneshot): write its program into a unit of kind \"oneshot\"",
    ),
    ("none", "", "there is no none.service on this machine: is its package installed?"),
];

/// Those of which more is asked, and what the others need.
const OTHERS: &[(&str, &str)] = &[
    ("broken", "[Service]\nType=oneshot\nExecStart=/bin/false\n"),
    ("slow", "[Service]\nType=oneshot\nTimeoutStartSec=infinity\nExecStart=/bin/sleep 1d\n"),
    ("calm", "[Service]\nExecStart=/bin/sleep 1d\n"),
    ("waits", "[Unit]\nWants=slow.service\nAfter=slow.service\n[Service]\nExecStart=/bin/sleep 1d\n"),
    ("goes-round", "[Service]\nExecStart=/bin/sleep 1d\nRestart=always\nRestartSec=100ms\n"),
];

fn events(machine: &Native, instance: &str) -> String {
    machine.run(&format!("clusterctl events {instance}@one"))
}

/// Each of these instances has said its sentence; a start that comes to nothing takes no longer than this.
fn wait_all_said(machine: &Native, wanted: &[(&str, &str)]) {
    let begun = Instant::now();
    loop {
        let mut missing = String::new();
        for (instance, sentence) in wanted {
            let said = events(machine, instance);
            if !said.contains(sentence) {
                writeln!(missing, "not {sentence:?} of {instance}, but:\n{said}").expect("a text");
            }
        }
        if missing.is_empty() {
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{missing}");
        sleep(deadline::LOOK_EVERY);
    }
}

fn wait_ready(machine: &Native, instance: &str) -> String {
    wait("it to be ready", || {
        let said = machine.run(&format!(
            "clusterctl status {instance}@one >/dev/null && systemctl show -P MainPID {instance}"
        ));
        said.parse::<i32>().is_ok_and(|pid| pid > 0).then_some(said)
    })
}

#[test]
#[ignore = "takes a minute; tests/machines/all runs it"]
fn each_answer_of_systemd_has_its_sentence() {
    let tree = Tree::new(disks());
    let file =
        "[cluster]\nname = 'one'\ninsecure = true\n[nodes]\nall = { one = '192.168.9.1' }\n[services]\n";
    tree.write("etc/clusterd/cluster.toml", &format!("{file}calm = {{ on = 'all' }}\n"));
    let mut all = file.to_owned();
    let units = REFUSED.iter().map(|(name, text, _)| (*name, *text)).chain(OTHERS.iter().copied());
    for (name, text) in units {
        if !text.is_empty() {
            tree.write(&format!("etc/systemd/system/{name}.service"), text);
        }
        tree.write(
            &format!("etc/clusterd/units/{name}.toml"),
            &format!("[run]\nkind = 'systemd'\nunit = '{name}.service'\n"),
        );
        if !["broken", "slow"].contains(&name) {
            writeln!(all, "{name} = {{ on = 'all' }}").expect("a text");
        }
    }
    tree.chroot("systemctl --quiet mask masked.service; systemctl --quiet enable clusterd");
    let machine = tree.boot();
    wait_ready(&machine, "calm");

    // All at once, as after a change of the file.
    std::fs::write(machine.at("etc/clusterd/cluster.toml"), all).expect("a file");
    machine.run("clusterctl reload one");
    let wanted: Vec<(&str, &str)> = REFUSED.iter().map(|(name, _, sentence)| (*name, *sentence)).collect();
    wait_all_said(&machine, &wanted);
    // Its start waits for another unit; it is made anew whenever something else was the matter.
    wait("its start to be cancelled", || {
        machine.run("if systemctl list-jobs | grep -q waits.service; then systemctl stop waits; fi");
        let sentence = "somebody else cancelled its start, or ordered its stop";
        events(&machine, "waits").contains(sentence).then_some(())
    });
    // Though systemd has read its files again meanwhile.
    let said = events(&machine, "waits");
    assert!(!said.contains("systemd was not heard"), "{said}");
    let calm = machine.run("systemctl show -P MainPID calm");

    // A new agent, before what it adds to units is in force: systemd restarts by itself, is seen to, and is called off.
    let pid = wait_ready(&machine, "goes-round");
    let restart = machine.run(&format!(
        "rm /run/systemd/system/goes-round.service.d/*; systemctl daemon-reload; systemctl restart clusterd; \
         systemctl show -P Restart goes-round; kill -KILL {pid}"
    ));
    assert_eq!(restart, "always");
    // It has looked at it by then, or has not.
    wait("its end", || {
        let said = events(&machine, "goes-round");
        let ends = ["exited: killed by SIGKILL", "exited: it ended while no agent was looking"];
        ends.iter().any(|end| said.contains(end)).then_some(())
    });
    let next = wait_ready(&machine, "goes-round");
    assert_ne!(next, pid);
    wait("its restarts to be clusterd's", || {
        (machine.run("systemctl show -P Restart goes-round") == "no").then_some(())
    });
    assert_eq!(machine.run("systemctl show -P MainPID calm"), calm, "nobody touches what runs");
}
