//! The lab's own promises: without them the other tests would prove nothing.

use super::harness::Lab;
use std::time::Duration;

#[test]
fn a_host_has_boots_a_disk_and_a_network_of_its_own() {
    let lab = Lab::new("hosts");
    lab.boot_without_agent("web2");
    lab.boot_without_agent("redis1");
    let (web2, redis1) = (lab.host("web2"), lab.host("redis1"));
    assert_eq!(web2.run(&["hostname"]).trim(), "web2");
    assert_eq!(web2.run(&["readlink", "/proc/self"]).trim().len(), 1, "process numbers start low");

    // The network: both reach each other until it is cut. An answer may take long on a busy machine; silence is proven
    // by one second of it.
    let ping = |from: &super::host::Host, to: &super::host::Host, patience: &str| {
        let target = format!("/dev/tcp/{}/1", to.address);
        let output = from.exec(&["timeout", patience, "bash", "-c", &format!("echo > {target}")]);
        // Refused at once means that the other host answered; 124 means silence.
        output.status.code() != Some(124)
    };
    let answers = |from, to| ping(from, to, "30");
    let is_silent = |from, to| !ping(from, to, "1");
    assert!(answers(web2, redis1));
    web2.cut_from(redis1);
    assert!(is_silent(web2, redis1));
    web2.heal();
    assert!(answers(web2, redis1));

    // PID 1 buries orphans.
    web2.run(&["/bin/sh", "-c", "(/bin/sh -c 'exit 0' & exec sleep 0.01) &"]);
    lab.wait("orphans are buried", Duration::from_secs(60), || match &web2.processes()[..] {
        [] => Ok(()),
        left => Err(format!("{left:?}")),
    });

    // A power cut takes every process and /run, and leaves the disk.
    let stranger = web2.start_stranger(&["sleep", "1000"]);
    assert_eq!(web2.running("sleep")[0].own_pid, stranger);
    web2.run(&["touch", "/run/volatile"]);
    let kept = lab.rig.dir.join("web2/kept");
    web2.run(&["/bin/sh", "-c", &format!("echo kept > {}", kept.display())]);
    // The number of the namespace alone may be used again at once; the start of its PID 1 tells the boots apart.
    let boot = || web2.run(&["sh", "-c", "readlink /proc/1/ns/pid; cut -d ' ' -f 22 /proc/1/stat"]);
    let before = boot();
    lab.power_cut("web2");
    assert!(web2.processes().is_empty());
    assert!(is_silent(redis1, web2), "a host without power does not answer");
    lab.boot_without_agent("web2");
    assert!(web2.running("sleep").is_empty());
    assert_ne!(boot(), before, "a new boot has a new PID 1");
    assert!(!web2.exec(&["test", "-e", "/run/volatile"]).status.success());
    assert_eq!(std::fs::read_to_string(&kept).unwrap(), "kept\n");
    assert!(answers(redis1, web2));
}
