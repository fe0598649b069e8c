//! Boots in any order.

use super::evidence::{self, starts};
use super::harness::Lab;
use super::kernel::{self, Process};
use super::scene::{BOOT, need, view};
use clusterd::engine::view::StateName;
use clusterd::sim::chance::Chance;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How many orders.
const ORDERS: u64 = 10;
/// Between two agents, at most; on average half of it.
const STAGGER_MS: u64 = 2000;

#[test]
fn ten_random_orders_all_come_up_each_start_on_fresh_evidence() {
    let lab = Lab::new("random orders");
    for seed in 1..=ORDERS {
        let mut chance = Chance::new(seed);
        let mut order: Vec<&str> = lab.hosts.iter().map(|h| h.name.as_str()).collect();
        chance.shuffle(&mut order);
        eprintln!("lab: order {seed}: {}", order.join(" "));

        let watch = BrokerWatch::start(["mq1", "mq2"].map(|n| lab.group_of(n)).into());
        for host in &lab.hosts {
            lab.boot_without_agent(&host.name);
        }
        for name in order {
            lab.host(name).start_agent();
            // The machines come up seconds apart: this is the scene, not a wait for something.
            std::thread::sleep(Duration::from_millis(chance.below(STAGGER_MS)));
        }
        lab.wait_all_up(&[]);
        let seen = watch.end();

        let starts = starts(&lab.host("office1").events());
        evidence::assert_every_start_was_justified(&lab.rig.cluster_file, &starts);
        for (instance, all) in &starts {
            assert_eq!(all.len(), 1, "{instance} was started more than once: {all:?}");
        }
        assert_eq!(starts.len(), 17, "{:?}", starts.keys());
        for (broker, seen) in ["activemq@mq1", "activemq@mq2"].iter().zip(&seen) {
            evidence::assert_none_before_its_evidence(broker, &starts[*broker][0], seen);
        }
        lab.power_cut_all();
    }
}

#[test]
fn brokers_wait_for_held_back_databases_and_start_at_once_when_they_come() {
    let lab = Lab::new("databases held back");
    let held_back = Duration::from_secs(30);
    lab.boot_without(&["mysql1", "mysql2"]);
    let asked = lab.host("office1");

    // Thirty seconds later the brokers wait and say for what, web waits for them, and the rest is up.
    let status = lab.wait("the brokers have waited 30 s", held_back + BOOT, || {
        let status = asked.status()?;
        for broker in ["activemq@mq1", "activemq@mq2"] {
            let waited = need(view(&status, broker)?, "mysql").since_ms;
            if u128::from(waited) < held_back.as_millis() {
                return Err(format!("{broker} has waited {waited} ms"));
            }
        }
        Ok(status)
    });
    for broker in ["activemq@mq1", "activemq@mq2"] {
        let broker = view(&status, broker).unwrap();
        assert_eq!((broker.state, broker.starts), (StateName::Waiting, 0), "{broker:?}");
        assert!(!need(broker, "mysql").ok);
        assert_eq!(broker.reason, "waits for mysql (any writable, 0 of 1)");
    }
    for web in ["web@web1", "web@web2", "web@web3"] {
        let web = view(&status, web).unwrap();
        assert_eq!((web.state, web.starts), (StateName::Waiting, 0), "{web:?}");
        assert!(!need(web, "activemq").ok && need(web, "redis").ok && need(web, "storage").ok, "{web:?}");
    }
    for up in
        ["redis@redis1", "redis@redis2", "tracker@fdfs1", "tracker@fdfs2", "storage@fdfs1", "storage@fdfs2"]
    {
        assert_eq!(view(&status, up).unwrap().state, StateName::Ready, "{up}");
    }
    let why = asked.why("web@web1");
    assert!(why.contains("activemq@mq1") && why.contains("mysql@mysql1"), "{why}");
    for broker in ["mq1", "mq2"] {
        assert_eq!(lab.host(broker).running("java"), [], "no broker runs before its database answers");
    }

    lab.boot("mysql1");
    lab.boot("mysql2");
    lab.wait_all_up(&[]);
    let events = asked.events();
    let ready = |what: &str, instance: &str| {
        let found = events.iter().filter(|t| t.event.what == what && t.event.instance.starts_with(instance));
        found.map(|t| t.event.at).min().unwrap_or_else(|| panic!("no {instance} {what}"))
    };
    // A slow poll comes every five seconds, a waiting one every 50 ms.
    for broker in ["activemq@mq1", "activemq@mq2"] {
        let took = ready("started", broker).since(ready("ready", "mysql@"));
        eprintln!("lab: {broker} started {took:?} after MySQL was ready");
        assert!(took < Duration::from_secs(2), "{broker} started {took:?} after MySQL was ready");
    }
    evidence::assert_every_start_was_justified(&lab.rig.cluster_file, &starts(&events));
}

#[test]
fn the_second_broker_stands_by_and_web_is_content_with_the_first() {
    let lab = Lab::new("standby");
    lab.boot_without(&[]);
    let status = lab.wait_all_up(&[]);
    let brokers = ["activemq@mq1", "activemq@mq2"].map(|b| view(&status, b).unwrap());
    let host = |name: &str| lab.host(name.split_once('@').unwrap().1);
    let (standby, master) = match brokers[0].state {
        StateName::Standby => (brokers[0], brokers[1]),
        _ => (brokers[1], brokers[0]),
    };
    assert_eq!((standby.state, master.state), (StateName::Standby, StateName::Ready));
    assert_eq!((standby.failures, standby.starts), (0, 1), "{standby:?}");
    let waits = format!("{} serves; this one is alive and waits for its turn", master.instance);
    assert_eq!(standby.reason, waits);
    assert_eq!(master.reason, format!("ready (broker {})", host(&master.instance).name));
    let refused = |of: &str| {
        let target = format!("echo > /dev/tcp/{}/61616", host(of).address);
        lab.host("web1").exec(&["timeout", "2", "bash", "-c", &target]).status.code() == Some(1)
    };
    assert!(refused(&standby.instance), "a broker that waits for the lease keeps its port closed");
    assert!(!refused(&master.instance));
    for web in ["web@web1", "web@web2", "web@web3"] {
        let need = need(view(&status, web).unwrap(), "activemq");
        assert_eq!((need.ok, need.met, need.wanted), (true, 1, 1), "{need:?}");
    }
    let shown = lab.host("lvs1").clusterctl(&["status"]);
    assert!(shown.status.success(), "a standby is no failure: {shown:?}");
    assert!(String::from_utf8_lossy(&shown.stdout).contains("standby"));

    // The master dies with its machine: the other takes over, with the process that waited.
    let waited = host(&standby.instance).running("java");
    let dark = master.instance.split_once('@').unwrap().1;
    lab.power_cut(dark);
    lab.wait("the standby serves", BOOT, || {
        let status = lab.host("office1").status()?;
        let view = view(&status, &standby.instance)?;
        if view.state == StateName::Ready { Ok(()) } else { Err(format!("{view:?}")) }
    });
    assert_eq!(host(&standby.instance).running("java"), waited);
}

/// Sees every Java process that comes up on the brokers' hosts, however short it lives.
struct BrokerWatch {
    stop: std::sync::Arc<AtomicBool>,
    thread: std::thread::JoinHandle<Vec<Vec<Process>>>,
}

impl BrokerWatch {
    fn start(groups: Vec<PathBuf>) -> BrokerWatch {
        let stop = std::sync::Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut seen = vec![BTreeSet::new(); groups.len()];
            while !stopped.load(Ordering::Relaxed) {
                for (group, seen) in groups.iter().zip(&mut seen) {
                    let found = kernel::processes_in(group).into_iter().filter_map(Process::read);
                    seen.extend(found.filter(|p| p.name == "java"));
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            seen.into_iter().map(|s| s.into_iter().collect()).collect()
        });
        BrokerWatch { stop, thread }
    }

    /// Each group's, oldest number first.
    fn end(self) -> Vec<Vec<Process>> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the watch ends")
    }
}
