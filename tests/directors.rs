//! Directors with real keepalived: who holds the address is seen, told and judged. Needs root and what `tests/install`
//! installs.

mod agents;
#[path = "directors/scene.rs"]
mod scene;

use nix::sys::signal::Signal;
use scene::Scene;

/// An alarm's moment, in seconds after the second holder's, by one machine's one monotonic clock.
fn late(alarm: u64, held: u64) -> f64 {
    (alarm.saturating_sub(held)) as f64 / 1e9
}

const BOTH: [&str; 2] = ["lvs1", "lvs2"];

#[test]
fn two_holders_are_an_alarm_with_its_reason_until_there_is_one() {
    let mut scene = Scene::new("split", false, "");
    // As a cloud does: the network carries no multicast.
    scene.drops(&["ip daddr 224.0.0.0/4"]);
    scene.start();
    scene.wait_held_by(&BOTH);
    let second = BOTH.iter().map(|node| scene.another(node, "vip-held", 0).0).max().unwrap();
    for node in ["lvs1", "lvs2", "web1"] {
        let (at, text) = scene.another(node, "vip-alarm", 0);
        assert!(late(at, second) < 2.0, "{node} says so after {:.2} s", late(at, second));
        assert!(text.contains("is held by lvs1 (eth0) and lvs2 (eth0) at the same time"), "{text}");
        let multicast = "lvs1 and lvs2 announce themselves by multicast (no unicast_peer)";
        assert!(text.contains(multicast), "{text}");
        for part in ["no advert of lvs2 reaches lvs1", "no advert of lvs1 reaches lvs2"] {
            let known = scene.told(node, part);
            println!("{node}: {part}: {:.2} s after the second holder", late(known, second));
        }
        println!("{node}: alarm {:.2} s after the second holder", late(at, second));
    }
    let shown = scene.cluster.ctl("lvs1", &["vip"]);
    assert_eq!(shown.code, 3, "{shown:?}");
    assert!(shown.out.contains("held by lvs1 and lvs2 at the same time"), "{shown:?}");
    let status = scene.cluster.ctl("lvs2", &["status"]);
    assert_eq!(status.code, 3, "{status:?}");
    assert!(status.out.contains("VIP www (10.77.0.100/24): held by lvs1 and lvs2"), "{status:?}");

    // The same network, unicast.
    scene.set_up(true);
    BOTH.iter().for_each(|node| scene.signal(node, Signal::SIGHUP));
    scene.wait_held_by(&["lvs1"]);
    for node in ["lvs1", "lvs2", "web1"] {
        scene.another(node, "vip-clear", 0);
    }
    let shown = scene.cluster.ctl("web1", &["vip", "www"]);
    assert_eq!(shown.code, 0, "{shown:?}");
    assert!(shown.out.contains("held by lvs1, as preferred"), "{shown:?}");

    // A firewall on one side: it does not hear the other, and takes the address.
    let alarms = BOTH.map(|node| scene.count(node, "vip-alarm"));
    scene.nft("lvs2", "add table inet site; add chain inet site in { type filter hook input priority 0; policy accept; }; add rule inet site in ip protocol 112 drop");
    scene.wait_held_by(&BOTH);
    for (node, before) in BOTH.iter().zip(alarms) {
        let (_, text) = scene.another(node, "vip-alarm", before);
        let rule =
            "a rule on lvs2 drops VRRP (protocol 112): nft table inet site, chain in: ip protocol vrrp drop";
        assert!(text.contains(rule), "{node}: {text}");
    }
    let clears = scene.count("lvs1", "vip-clear");
    scene.nft("lvs2", "delete table inet site");
    scene.wait_held_by(&["lvs1"]);
    scene.another("lvs1", "vip-clear", clears);

    // Frozen: it keeps the address and hears nobody.
    let alarms = scene.count("lvs2", "vip-alarm");
    scene.signal("lvs1", Signal::SIGSTOP);
    let (_, text) = scene.another("lvs2", "vip-alarm", alarms);
    assert!(text.contains("keepalived on lvs1 is frozen (process "), "{text}");
    let clears = scene.count("lvs1", "vip-clear");
    scene.signal("lvs1", Signal::SIGCONT);
    scene.another("lvs1", "vip-clear", clears);
    scene.wait_held_by(&["lvs1"]);

    // Killed: what it leaves on its card is taken off at once, and not when it is started again, 8 s later.
    let cleaned = scene.count("lvs1", "cleaned");
    let alarms = scene.count("web1", "vip-alarm");
    let moves = scene.count("web1", "vip-moved");
    // Frozen first, so that none of its processes sees another die and tidies up.
    scene.signal("lvs1", Signal::SIGSTOP);
    scene.signal("lvs1", Signal::SIGKILL);
    let (taken_off, text) = scene.another("lvs1", "cleaned", cleaned);
    assert!(text.contains("10.77.0.100 is still on eth0, and no keepalived lives here"), "{text}");
    let died = scene.events("lvs1", "exited").last().unwrap().0;
    assert!(late(taken_off, died) < 2.0, "{:.2} s after its death", late(taken_off, died));
    println!("taken off {:.2} s after its death", late(taken_off, died));
    scene.wait_held_by(&["lvs2"]);
    let (_, text) = scene.another("web1", "vip-moved", moves);
    assert!(text.contains("moved from lvs1 to lvs2; nobody held it for "), "{text}");
    scene.wait_held_by(&["lvs1"]);
    assert_eq!(scene.count("web1", "vip-alarm"), alarms, "a failover in VRRP's own time is no alarm");

    // Cut off from each other, both hold it and neither can know; whom both serve sees it.
    let alarms = ["lvs1", "lvs2", "web1"].map(|node| scene.count(node, "vip-alarm"));
    scene.drops(&["ip saddr 10.77.0.1 ip daddr 10.77.0.2", "ip saddr 10.77.0.2 ip daddr 10.77.0.1"]);
    let (_, text) = scene.another("web1", "vip-alarm", alarms[2]);
    assert!(text.contains("lvs1 (eth0) and lvs2 (eth0) at the same time"), "{text}");
    let clears = scene.count("web1", "vip-clear");
    scene.drops(&[]);
    scene.another("web1", "vip-clear", clears);
    scene.wait_held_by(&["lvs1"]);
}

#[test]
fn the_less_preferred_yields_where_both_see_it_and_nobody_who_is_cut_off() {
    let mut scene = Scene::new("yield", true, "on-split-brain = \"yield\"");
    scene.start();
    scene.wait_held_by(&["lvs1"]);
    scene.drops(&["ip protocol 112"]);
    scene.wait_held_by(&BOTH);
    let (_, text) = scene.another("lvs2", "vip-yielded", 0);
    assert!(text.contains("split brain: lvs1 holds www too, and is preferred"), "{text}");
    scene.wait_held_by(&["lvs1"]);
    scene.another("lvs1", "vip-clear", 0);
    assert!(scene.cluster.ctl("lvs2", &["vip"]).out.contains("gave its addresses up"));

    // Nobody holds what the preferred one lost: the other comes back for it.
    scene.cluster.ctl("lvs1", &["stop", "keepalived@lvs1"]);
    scene.another("lvs2", "vip-back", 0);
    scene.wait_held_by(&["lvs2"]);
    scene.drops(&[]);
    scene.cluster.ctl("lvs1", &["start", "keepalived@lvs1"]);
    scene.wait_held_by(&["lvs1"]);

    // Cut off from each other, agents and all.
    let alarms = scene.count("web1", "vip-alarm");
    scene.drops(&["ip saddr 10.77.0.1 ip daddr 10.77.0.2", "ip saddr 10.77.0.2 ip daddr 10.77.0.1"]);
    scene.wait_held_by(&BOTH);
    let (_, text) = scene.another("web1", "vip-alarm", alarms);
    assert!(text.contains("at the same time"), "{text}");
    // Long enough for whoever would yield: twice the time that it took before.
    let end = std::time::Instant::now() + std::time::Duration::from_secs(4);
    while std::time::Instant::now() < end {
        assert_eq!(scene.holders(), BOTH);
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    assert_eq!((scene.count("lvs1", "vip-yielded"), scene.count("lvs2", "vip-yielded")), (0, 1));
}
