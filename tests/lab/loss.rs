//! What is lost while all runs.

use super::harness::Lab;
use super::scene::{BOOT, need, node, view};
use clusterd::engine::view::StateName;

#[test]
fn databases_lost_under_a_broker_are_told_and_the_broker_is_left_alone() {
    let lab = Lab::new("databases lost");
    lab.boot_without(&[]);
    let status = lab.wait_all_up(&[]);
    let masters = ["activemq@mq1", "activemq@mq2"].map(|b| view(&status, b).unwrap());
    let master = masters.into_iter().find(|v| v.state == StateName::Ready).expect("one serves").clone();
    let host = lab.host(master.instance.split_once('@').unwrap().1);
    let before = host.running("java");
    let others: Vec<_> = ["web1", "web2", "web3"].map(|w| (w, lab.host(w).running("nginx"))).into();

    lab.power_cut("mysql1");
    lab.power_cut("mysql2");
    let status = lab.wait("the loss is told", BOOT, || {
        let status = lab.host("office1").status()?;
        let broker = view(&status, &master.instance)?;
        let need = need(broker, "mysql");
        let dark = ["mysql1", "mysql2"].iter().all(|n| node(&status, n).status.is_none());
        if dark && !need.ok { Ok(status) } else { Err(format!("dark: {dark}, {need:?}")) }
    });

    // The truth about the databases: nobody answers there.
    for database in ["mysql1", "mysql2"] {
        let entry = node(&status, database);
        assert!(entry.problem.is_some(), "{entry:?}");
        assert_eq!(entry.last[0].instance, format!("mysql@{database}"));
    }
    // The truth about the broker: its port is open, its own probe passes, and its database is lost.
    let broker = view(&status, &master.instance).unwrap();
    assert_eq!((broker.state, broker.starts), (StateName::Ready, 1), "{broker:?}");
    let edges = &need(broker, "mysql").edges;
    assert!(edges.iter().all(|e| !e.met && e.verdict.as_ref().is_some_and(|v| !v.is_ready())), "{edges:?}");
    let why = lab.host("office1").why(&master.instance);
    assert!(why.contains("mysql") && why.contains("lost"), "{why}");

    // Neither it nor what needs it was touched.
    assert_eq!(host.running("java"), before);
    for (web, nginx) in others {
        assert_eq!(lab.host(web).running("nginx"), nginx, "{web}");
    }
    let events = lab.host("office1").events();
    let touched =
        |what: &str| events.iter().any(|t| t.event.instance == master.instance && t.event.what == what);
    assert!(!touched("stopping") && !touched("exited"), "the broker was left alone");

    // One database comes back: the need is met again, without a new broker.
    lab.boot("mysql2");
    lab.wait("the need is met again", BOOT, || {
        let status = lab.host("office1").status()?;
        let broker = view(&status, &master.instance)?;
        if need(broker, "mysql").ok { Ok(()) } else { Err(format!("{broker:?}")) }
    });
}
