//! Power cuts, with the pid files that they leave behind.

use super::evidence::{self, starts};
use super::harness::Lab;
use super::scene::{Told, view};
use clusterd::engine::view::StateName;
use clusterd::facts::{Finding, Judgement};
use std::fs;
use std::path::Path;

#[test]
fn after_a_power_cut_all_comes_back_and_nothing_living_is_harmed() {
    let lab = Lab::new("power cut");
    lab.boot_without(&[]);
    lab.wait_all_up(&[]);
    let pidfile = |service: &str, node: &str, name: &str| lab.rig.instance_dir(service, node).join(name);
    let redis1 = pidfile("redis", "redis1", "redis.pid");
    let redis2 = pidfile("redis", "redis2", "redis.pid");
    let sessions = pidfile("sessions", "redis1", "redis.pid");
    let keepalived = pidfile("keepalived", "lvs1", "keepalived.pid");
    lab.power_cut_all();
    for left in [&redis1, &redis2, &sessions, &keepalived, &pidfile("mysql", "mysql1", "mysqld.pid")] {
        assert!(left.exists(), "a power cut leaves {} behind", left.display());
    }

    // Empty, as a file system leaves it that had no time to write.
    fs::write(&redis2, "").unwrap();

    // The number of a living process that has nothing to do with it; keepalived itself would take it for its own.
    lab.boot_without_agent("lvs1");
    let stranger = lab.host("lvs1").start_stranger(&["sleep", "1000000"]);
    fs::write(&keepalived, format!("{stranger}\n")).unwrap();

    // The number of another Redis, which somebody started by hand before the agent came.
    lab.boot_without_agent("redis1");
    fs::remove_file(&sessions).unwrap();
    let start = lab.rig.instance_dir("sessions", "redis1").join("start");
    let start = start.to_str().unwrap();
    lab.host("redis1").run(&["setpriv", "--reuid=redis", "--regid=redis", "--init-groups", start]);
    let by_hand = lab.wait("sessions runs", std::time::Duration::from_secs(60), || {
        read_pid(&sessions).ok_or_else(|| "no pid file".to_owned())
    });
    fs::write(&redis1, format!("{by_hand}\n")).unwrap();

    let living =
        |host: &str, pid: i32| lab.host(host).processes().into_iter().find(|p| p.own_pid == pid && !p.zombie);
    let (sleeper, other_redis) = (living("lvs1", stranger).unwrap(), living("redis1", by_hand).unwrap());
    lab.host("lvs1").start_agent();
    lab.host("redis1").start_agent();
    lab.boot_without(&["lvs1", "redis1"]);
    let status = lab.wait_all_up(&[]);

    // Nothing living was harmed, and the files now name the true processes.
    assert_eq!(living("lvs1", stranger), Some(sleeper));
    assert_eq!(living("redis1", by_hand), Some(other_redis));
    assert_eq!(read_pid(&sessions), Some(by_hand));
    assert_eq!(view(&status, "sessions@redis1").unwrap().pid, Some(by_hand));
    for (file, host, name) in [
        (&redis1, "redis1", "redis-server"),
        (&redis2, "redis2", "redis-server"),
        (&keepalived, "lvs1", "keepalived"),
    ] {
        let pid = read_pid(file).unwrap_or_else(|| panic!("{} names a process", file.display()));
        assert_eq!(living(host, pid).map(|p| p.name).as_deref(), Some(name), "{}", file.display());
        assert!(pid != stranger || host != "lvs1");
    }
    assert_eq!(lab.host("redis1").running("redis-server").len(), 2);
    assert_eq!(lab.host("redis2").running("redis-server").len(), 1);

    // Each verdict is in the events, with its proof.
    let events = lab.host("office1").events();
    let verdict = |instance: &str, file: &Path| verdict(&events, instance, file);
    let empty = verdict("redis@redis2", &redis2);
    assert_eq!(empty.judgement, Judgement::Stale);
    assert!(empty.evidence.contains("empty"), "{empty:?}");
    let reused = verdict("keepalived@lvs1", &keepalived);
    assert_eq!(reused.judgement, Judgement::Stale);
    assert!(
        reused.evidence.contains(&stranger.to_string()) && reused.evidence.contains("sleep"),
        "{reused:?}"
    );
    let others = verdict("redis@redis1", &redis1);
    assert_eq!(others.judgement, Judgement::Stale);
    assert!(others.evidence.contains(&by_hand.to_string()), "{others:?}");
    assert!(others.evidence.contains("sessions@redis1"), "{others:?}");
    let adopted = events.iter().find(|t| t.event.what == "adopted" && t.event.instance == "sessions@redis1");
    assert!(adopted.is_some_and(|t| t.event.data["pid"] == by_hand), "{adopted:?}");
    let starts = starts(&events);
    assert!(!starts.contains_key("sessions@redis1"), "what runs already is not started a second time");
    evidence::assert_every_start_was_justified(&lab.rig.cluster_file, &starts);
}

#[test]
fn either_database_may_never_come_back() {
    let lab = Lab::new("one database never comes back");
    lab.boot_without(&[]);
    lab.wait_all_up(&[]);
    for lost in ["mysql1", "mysql2"] {
        lab.power_cut_all();
        lab.boot_without(&[lost]);
        let status = lab.wait_all_up(&[lost]);
        assert!(super::scene::node(&status, lost).status.is_none());
        for web in ["web@web1", "web@web2", "web@web3"] {
            assert_eq!(view(&status, web).unwrap().state, StateName::Ready);
        }
    }
}

fn read_pid(file: &Path) -> Option<i32> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

/// The latest judgement of a file for an instance.
fn verdict(events: &[Told], instance: &str, file: &Path) -> Finding {
    let of_file = |t: &&Told| t.event.instance == instance && t.event.data["what"] == file.to_str().unwrap();
    let told = events.iter().rev().find(of_file);
    let told = told.unwrap_or_else(|| panic!("no event judges {} for {instance}", file.display()));
    serde_json::from_value(told.event.data.clone()).expect("a finding")
}
