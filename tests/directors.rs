//! Directors with real keepalived: who holds the address is seen, told and judged. Needs root and what `tests/install`
//! installs.

mod agents;
#[path = "directors/scene.rs"]
mod scene;

use nix::sys::signal::Signal;
use scene::{FTP, Family, Scene, VIP, VIP_SIX};

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
    // Each reads its file in its own time, and lets go meanwhile.
    let shown = agents::wait("one holder to be shown", || {
        Some(scene.cluster.ctl("web1", &["vip", "www"])).filter(|shown| shown.code == 0)
    });
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
    let (cleaned, exits) = (scene.count("lvs1", "cleaned"), scene.count("lvs1", "exited"));
    let alarms = scene.count("web1", "vip-alarm");
    let moves = scene.count("web1", "vip-moved");
    // Frozen first, so that none of its processes sees another die and tidies up.
    scene.signal("lvs1", Signal::SIGSTOP);
    scene.signal("lvs1", Signal::SIGKILL);
    let (taken_off, text) = scene.another("lvs1", "cleaned", cleaned);
    assert!(text.contains("10.77.0.100 is still on eth0, and no keepalived lives here"), "{text}");
    let (died, _) = scene.another("lvs1", "exited", exits);
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

    // One agent dead: what its machine holds still counts.
    scene.cluster.kill("lvs1");
    let before = ["lvs2", "web1"].map(|node| scene.count(node, "vip-alarm"));
    let helds = scene.count("lvs2", "vip-held");
    scene.drops(&["ip protocol 112"]);
    let (second, _) = scene.another("lvs2", "vip-held", helds);
    for (node, before) in ["lvs2", "web1"].into_iter().zip(before) {
        let (at, text) = scene.another(node, "vip-alarm", before);
        assert!(late(at, second) < 2.0, "{node} says so after {:.2} s", late(at, second));
        println!(
            "{node}: with the agent of lvs1 dead, alarm {:.2} s after the second holder",
            late(at, second)
        );
        assert!(text.contains("lvs1 (eth0) and lvs2 (eth0) at the same time"), "{text}");
        assert!(text.contains("the agent of lvs1 is not heard"), "{text}");
    }
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

const MANAGED: &str = "[vips.www]\naddress = \"10.77.0.100/24\"\non = [\"lvs1\", \"lvs2\"]\nto = \"web\"\nport = 80\nfwmark = 7\nmanage = true\n";

#[test]
fn what_is_rendered_is_applied_and_put_back_where_keepalived_does_not_take_it() {
    let mut scene = Scene::of("manage", Family::V4, MANAGED);
    // What has to be kept quiet: a real server with the address on `lo` answers for the director.
    scene.inside("web1", &format!("ip addr add {VIP}/32 dev lo"));
    assert_eq!(scene.answers(VIP), scene.mac("web1"));
    scene.inside("web1", &format!("ip addr del {VIP}/32 dev lo"));

    scene.start();
    scene.wait_held_by(&["lvs1"]);
    let file =
        |node: &str| std::fs::read_to_string(scene.cluster.dir().join(format!("{node}.conf"))).unwrap();
    assert!(file("lvs1").contains("unicast_peer {\n        10.77.0.2\n"), "{}", file("lvs1"));
    assert!(file("lvs2").contains("priority 140\n"), "{}", file("lvs2"));

    // The real server: set up before its service was ready, and quiet.
    let (at, _) = scene.another("web1", "real-server", 2);
    assert!(at < scene.another("web1", "ready", 0).0);
    let quiet = "cat /proc/sys/net/ipv4/conf/all/arp_{ignore,announce}; ip -br addr show lo";
    let set = scene.inside("web1", quiet);
    assert!(set.starts_with("1\n2\n") && set.contains(&format!("{VIP}/32")), "{set}");
    for _ in 0..3 {
        assert_eq!(scene.answers(VIP), scene.mac("lvs1"));
    }

    let knock = format!("timeout 1 bash -c '</dev/tcp/{VIP}/80' 2>/dev/null");
    let marked = nft_marks_clients_alone(&scene, &knock);
    println!("marked: {marked} of the client's packets, none of the other director's");
    agents::wait("keepalived's own word", || {
        let shown = scene.cluster.ctl("web1", &["vip"]).out;
        (shown.contains("ready, MASTER") && shown.contains("ready, BACKUP")).then_some(())
    });
    let diff = scene.rendered("lvs1", &["lvs1", "--diff"]);
    assert!(diff.contains("no difference"), "{diff}");

    // Another text: tested, written, read by the one that runs.
    let pid = scene.keepalived("lvs1");
    let old = file("lvs1");
    scene.describe(&format!("{MANAGED}vrid = 77\n"));
    for node in ["lvs1", "lvs2", "web1"] {
        let told = scene.cluster.ctl(node, &["reload"]);
        assert_eq!(told.code, 0, "{told:?}");
    }
    for node in BOTH {
        scene.another(node, "vip-reloaded", 0);
    }
    assert!(file("lvs1").contains("virtual_router_id 77"));
    assert_eq!(std::fs::read_to_string(scene.cluster.dir().join("lvs1.conf.before")).unwrap(), old);
    assert_eq!(scene.keepalived("lvs1"), pid, "no restart");
    scene.wait_held_by(&["lvs1"]);

    // A text that keepalived refuses is never written.
    let good = file("lvs1");
    scene.describe(&format!("{MANAGED}vrid = 77\ninterface = \"nope0\"\n"));
    scene.cluster.ctl("lvs1", &["reload"]);
    let (_, text) = scene.another("lvs1", "vip-refused", 0);
    assert!(text.contains("nope0"), "{text}");
    assert_eq!((file("lvs1"), scene.holders()), (good.clone(), vec!["lvs1"]));

    // One that cannot read it: what was there is put back.
    scene.signal("lvs1", Signal::SIGSTOP);
    scene.describe(&format!("{MANAGED}vrid = 77\npersistence = \"5m\"\n"));
    scene.cluster.ctl("lvs1", &["reload"]);
    let (_, text) = scene.another("lvs1", "vip-rolled-back", 0);
    assert!(text.contains("of keepalived is stopped"), "{text}");
    scene.signal("lvs1", Signal::SIGCONT);
    assert_eq!(file("lvs1"), good);
    assert_eq!(scene.keepalived("lvs1"), pid, "no restart");
    let shown = scene.cluster.ctl("lvs1", &["status"]);
    assert!(shown.out.contains("put back as it was"), "{shown:?}");
    scene.wait_held_by(&["lvs1"]);

    // An id that one side does not take: both hold the address, the alarm names it, and asking again mends it.
    scene.signal("lvs2", Signal::SIGSTOP);
    scene.describe(&format!("{MANAGED}vrid = 78\n"));
    for node in ["lvs1", "lvs2", "web1"] {
        assert_eq!(scene.cluster.ctl(node, &["reload"]).code, 0);
    }
    scene.another("lvs2", "vip-rolled-back", 0);
    scene.signal("lvs2", Signal::SIGCONT);
    scene.wait_held_by(&BOTH);
    scene.told("web1", "virtual_router_id differs: 78 on lvs1, 77 on lvs2");
    let told = scene.cluster.ctl("lvs2", &["reload"]);
    assert!(told.out.contains("nothing has changed"), "{told:?}");
    scene.wait_held_by(&["lvs1"]);
    assert!(file("lvs2").contains("virtual_router_id 78"));

    // All goes down: the address first, and then all is as it was.
    let told = scene.cluster.ctl("web1", &["down"]);
    assert_eq!(told.code, 0, "{told:?}");
    let last = |node: &str, what: &str| scene.events(node, what).last().map(|e| e.0);
    agents::wait("the web server to have stopped", || last("web1", "stopped"));
    assert!(last("lvs1", "vip-gone") < last("web1", "stopped"), "the address goes first");
    agents::wait("the real server to be taken back", || {
        let set = scene.inside("web1", quiet);
        (set.starts_with("0\n0\n") && !set.contains(VIP)).then_some(())
    });
    scene.wait_held_by(&[]);
}

/// What comes from a client is counted by the marks, what the `other` director sends is not; how much of the client's was.
fn clients_alone_are_marked(
    scene: &Scene,
    other: &str,
    knock: &str,
    counted: &dyn Fn() -> u64,
    listed: &dyn Fn() -> String,
) -> u64 {
    let before = counted();
    scene.inside("client", knock);
    let of_client = counted();
    assert!(of_client > before, "{}", listed());
    scene.inside(other, knock);
    assert_eq!(counted(), of_client, "{}", listed());
    of_client - before
}

/// The same by nft's rules on lvs1, once these know the other director.
fn nft_marks_clients_alone(scene: &Scene, knock: &str) -> u64 {
    let other = scene.mac("lvs2");
    let listed = || scene.inside("lvs1", "nft list table inet clusterd_vips");
    agents::wait("the marks", || listed().contains(&format!("ether saddr != {other}")).then_some(()));
    let counted = || listed().split("packets ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    clients_alone_are_marked(scene, "lvs2", knock, &counted, &listed)
}

/// How many packets a director has marked, as this program of iptables' family counts them.
fn marked(scene: &Scene, node: &str, tool: &str) -> u64 {
    let listed = scene.inside(node, &format!("{tool} -t mangle -nvxL CLUSTERD_VIPS"));
    let rule = listed.lines().find(|l| l.contains("MARK")).unwrap_or_else(|| panic!("{tool}: {listed}"));
    rule.split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn without_nft_iptables_marks_and_takes_its_rules_back() {
    let mut scene = Scene::of("iptables", Family::V4, MANAGED);
    let tools = [("lvs1", "iptables-legacy"), ("lvs2", "iptables-nft")];
    for (node, tool) in tools {
        scene.without_nft(node, tool.trim_start_matches("iptables-"));
        scene.inside(node, &format!("{tool} -t mangle -A PREROUTING -p udp -j ACCEPT"));
    }
    scene.start();
    scene.wait_held_by(&["lvs1"]);
    let macs = BOTH.map(|node| scene.mac(node));
    let rules = |node: &str, tool: &str| {
        scene.inside(node, &format!("{tool} -t mangle -S PREROUTING; {tool} -t mangle -S CLUSTERD_VIPS"))
    };
    let wanted = |other: &str| {
        format!(
            "-P PREROUTING ACCEPT\n-A PREROUTING -p udp -j ACCEPT\n-A PREROUTING -j CLUSTERD_VIPS\n-N CLUSTERD_VIPS\n\
             -A CLUSTERD_VIPS -d {VIP}/32 -p tcp -m tcp --dport 80 -m mac ! --mac-source {other} -j MARK --set-xmark 0x7/0xffffffff\n"
        )
    };
    let in_force = |(node, tool): (&str, &str), other: &str| {
        agents::wait(&format!("{tool} on {node}"), || (rules(node, tool) == wanted(other)).then_some(()));
    };
    in_force(tools[0], &macs[1]);
    in_force(tools[1], &macs[0]);

    // What comes from the client is counted, what the other director sends is not; with each as the holder.
    let knock = format!("timeout 1 bash -c '</dev/tcp/{VIP}/80' 2>/dev/null");
    for (at, (node, tool)) in tools.into_iter().enumerate() {
        let (counted, listed) = (|| marked(&scene, node, tool), || rules(node, tool));
        let of_client = clients_alone_are_marked(&scene, BOTH[1 - at], &knock, &counted, &listed);
        println!("{tool}: marked {of_client} of the client's packets, none of the other director's");
        if at == 0 {
            scene.cluster.ctl("lvs1", &["stop", "keepalived@lvs1"]);
            scene.wait_held_by(&["lvs2"]);
        }
    }

    // A rule of theirs that is in the way is told as well.
    scene.cluster.ctl("lvs1", &["start", "keepalived@lvs1"]);
    scene.wait_held_by(&["lvs1"]);
    scene.inside("lvs2", "iptables-nft -A INPUT -p 112 -j DROP");
    scene.wait_held_by(&BOTH);
    scene.told(
        "web1",
        "a rule on lvs2 drops VRRP (protocol 112): iptables table ip filter, chain INPUT: -p vrrp -j DROP",
    );
    scene.inside("lvs2", "iptables-nft -D INPUT -p 112 -j DROP");
    scene.wait_held_by(&["lvs1"]);

    // Looked at again, nothing is done anew; what somebody took out is put in again, once.
    for (at, (node, tool)) in tools.into_iter().enumerate() {
        let told = scene.count(node, "vip-marks");
        assert_eq!(scene.cluster.ctl(node, &["reload"]).code, 0);
        scene.inside(
            node,
            &format!("{tool} -t mangle -F CLUSTERD_VIPS; {tool} -t mangle -D PREROUTING -j CLUSTERD_VIPS"),
        );
        assert_eq!(scene.cluster.ctl(node, &["reload"]).code, 0);
        in_force((node, tool), &macs[1 - at]);
        // It is told once the program that does it has ended.
        scene.another(node, "vip-marks", told);
        assert_eq!(scene.count(node, "vip-marks"), told + 1);
    }

    // Without a mark nothing of it stays, and what others wrote does. Where nothing is managed it is the same.
    for (vips, node) in
        [(MANAGED.replace("fwmark = 7\n", ""), 0), (MANAGED.replace("manage = true\n", ""), 1)]
    {
        let (node, tool) = tools[node];
        scene.describe(&vips);
        assert_eq!(scene.cluster.ctl(node, &["reload"]).code, 0);
        agents::wait("the rules to be taken out", || {
            let left = scene.inside(node, &format!("{tool} -t mangle -S"));
            (!left.contains("CLUSTERD_VIPS") && left.contains("-A PREROUTING -p udp -j ACCEPT")).then_some(())
        });
        agents::wait("it to be told", || {
            let (_, text) = scene.events(node, "vip-marks").pop()?;
            (text == "the marks are taken out (iptables)").then_some(())
        });
    }
}

/// Real keepalived behind a shell that ends it when it is to read its file anew: no file is known that it takes when it is
/// asked and dies of when it reads it.
const DIES_OF_IT: &str = r#"#!/bin/bash
# A stand-in: keepalived that ends of SIGHUP.
case " $* " in *" --config-test "*) exec /usr/sbin/keepalived "$@" ;; esac
/usr/sbin/keepalived "$@" &
trap 'kill $!; wait $!; exit 1' HUP
trap 'kill $!; wait $!; exit 0' TERM
wait $!
"#;

#[test]
fn a_keepalived_that_dies_of_its_new_file_is_started_with_the_old_one() {
    let mut scene = Scene::of("dies", Family::V4, MANAGED);
    let program = scene.cluster.dir().join("keepalived");
    std::fs::write(&program, DIES_OF_IT).unwrap();
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    scene.keepalived = program.display().to_string();
    scene.describe(MANAGED);
    scene.start();
    scene.wait_held_by(&["lvs1"]);
    let path = scene.cluster.dir().join("lvs1.conf");
    let old = std::fs::read_to_string(&path).unwrap();
    let starts = scene.count("lvs1", "started");

    scene.describe(&format!("{MANAGED}persistence = \"5m\"\n"));
    assert_eq!(scene.cluster.ctl("lvs1", &["reload"]).code, 0);
    let (at, text) = scene.another("lvs1", "vip-rolled-back", 0);
    assert!(
        text.ends_with("lvs1.conf is put back as it was, the reload failed: keepalived ended of it"),
        "{text}"
    );
    let (started, _) = scene.another("lvs1", "started", starts);
    assert!(at < started, "it is not started with the new one");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), old);
    let shown = scene.cluster.ctl("lvs1", &["status"]);
    assert!(shown.out.contains("the reload failed: keepalived ended of it"), "{shown:?}");
    scene.wait_held_by(&["lvs1"]);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), old, "it is not tried again");
    assert_eq!(scene.count("lvs1", "vip-rolled-back"), 1);
}

#[test]
fn over_ipv6_it_is_the_same() {
    let vip = format!(
        "[vips.www]\naddress = \"{VIP_SIX}/64\"\non = \"lvs\"\nto = \"web\"\nport = 80\nfwmark = 7\nvrid = 60\nmanage = true\n"
    );
    let mut scene = Scene::of("six", Family::V6, &vip);
    scene.start();
    let held = |by: &[&str]| {
        agents::wait(&format!("{by:?} to hold {VIP_SIX}"), || {
            (scene.holders_of(VIP_SIX) == by).then_some(())
        });
    };
    held(&["lvs1"]);
    let shown = scene.inside("web1", "ip -br addr show lo");
    assert!(shown.contains(&format!("{VIP_SIX}/128")), "{shown}");
    let knock = format!("timeout 1 bash -c '</dev/tcp/{VIP_SIX}/80' 2>/dev/null");
    for _ in 0..3 {
        assert_eq!(scene.answers(VIP_SIX), scene.mac("lvs1"));
    }

    // The marks, and the neighbour table beside the agent's word.
    nft_marks_clients_alone(&scene, &knock);
    scene.inside("lvs1", "ip neigh replace fd77::2 lladdr 02:00:00:00:00:99 dev eth0 nud permanent");
    scene.cluster.ctl("lvs1", &["reload"]);
    let strange = "lvs2 is at 02:00:00:00:00:99 by the neighbour table, and not by its agent's word";
    agents::wait("the neighbour table to be doubted", || {
        scene.cluster.ctl("lvs1", &["status"]).out.contains(strange).then_some(())
    });
    scene.inside("lvs1", "ip neigh del fd77::2 dev eth0");

    // Adverts that are lost, by the network and by a rule.
    scene.drops(&["ip6 nexthdr 112"]);
    held(&BOTH);
    let (_, text) = scene.another("web1", "vip-alarm", 0);
    assert!(text.contains("is held by lvs1 (eth0) and lvs2 (eth0) at the same time"), "{text}");
    scene.told("web1", "no advert of lvs2 reaches lvs1");
    scene.told("web1", "no advert of lvs1 reaches lvs2");
    scene.drops(&[]);
    held(&["lvs1"]);
    scene.another("web1", "vip-clear", 0);
    scene.nft("lvs2", "add table ip6 site; add chain ip6 site in { type filter hook input priority 0; policy accept; }; add rule ip6 site in ip6 nexthdr 112 drop");
    held(&BOTH);
    scene.told(
        "web1",
        "a rule on lvs2 drops VRRP (protocol 112): nft table ip6 site, chain in: ip6 nexthdr vrrp drop",
    );
    scene.nft("lvs2", "delete table ip6 site");
    held(&["lvs1"]);
}

/// How many hold an address over time, by the kernel's word to both agents: moment in nanoseconds, and count from then on.
fn counts(scene: &Scene, name: &str) -> Vec<(u64, i32)> {
    let of = |what: &str, change: i32| {
        let all = BOTH.iter().flat_map(move |node| scene.events(node, what));
        let own = all.filter(|(_, text)| text.starts_with(&format!("{name} (")));
        own.map(move |(at, _)| (at, change)).collect::<Vec<_>>()
    };
    let mut changes = [of("vip-held", 1), of("vip-gone", -1)].concat();
    changes.sort_unstable();
    let mut count = 0;
    changes
        .into_iter()
        .map(|(at, change)| {
            count += change;
            (at, count)
        })
        .collect()
}

/// From `since` on, in words: for how long how many held it.
fn told(counts: &[(u64, i32)], since: u64) -> String {
    let spans = counts.iter().zip(counts.iter().skip(1)).filter(|((at, _), _)| *at >= since);
    let spans = spans.map(|((at, count), (end, _))| format!("{count} for {:.2} s", late(*end, *at)));
    let last = counts.last().map(|(_, count)| format!("then {count}"));
    spans.chain(last).collect::<Vec<_>>().join(", ")
}

#[test]
fn through_death_frost_and_cuts_each_address_is_served_and_every_second_holder_told() {
    let vip = |name: &str, address: &str, on: &str| {
        format!(
            "[vips.{name}]\naddress = \"{address}/24\"\non = [{on}]\nto = \"web\"\nport = 80\nmanage = true\n"
        )
    };
    let mutual = vip("www", VIP, "\"lvs1\", \"lvs2\"") + &vip("ftp", FTP, "\"lvs2\", \"lvs1\"");
    let mut scene = Scene::of("failover", Family::V4, &mutual);
    let macs = BOTH.map(|node| scene.mac(node));
    let mut seen =
        String::from("add table arp seen; add chain arp seen in { type filter hook input priority 0; }");
    for mac in &macs {
        seen += &format!(
            "; add rule arp seen in arp saddr ip {VIP} arp daddr ip {VIP} arp saddr ether {mac} counter"
        );
    }
    scene.nft("client", &seen);
    scene.start();
    // Of each director, how often it announced the address unasked.
    let unasked = || -> Vec<u32> {
        let listed = scene.inside("client", "nft list table arp seen");
        let counters = listed.split("packets ").skip(1);
        counters.map(|rest| rest.split(' ').next().unwrap().parse().unwrap()).collect()
    };
    let held = |www: &[&str], ftp: &[&str]| {
        let what = format!("www on {www:?} and ftp on {ftp:?}");
        agents::wait(&what, || (scene.holders_of(VIP) == www && scene.holders_of(FTP) == ftp).then_some(()));
    };
    let last = |what: &str| BOTH.iter().flat_map(|n| scene.events(n, what)).map(|e| e.0).max().unwrap_or(0);
    // The next alarm for an address on web1's agent, and how long after the second holder it comes.
    let alarmed = |name: &str, before: usize| {
        let of_it = || -> Vec<u64> {
            let all = scene.events("web1", "vip-alarm");
            all.into_iter().filter(|(_, text)| text.starts_with(&format!("{name} ("))).map(|e| e.0).collect()
        };
        let at = agents::wait(&format!("an alarm for {name}"), || of_it().get(before).copied());
        let second =
            counts(&scene, name).into_iter().rfind(|(held, count)| *count == 2 && *held <= at).unwrap().0;
        assert!(late(at, second) < 2.0, "{name}: {:.2} s", late(at, second));
        println!("{name}: alarm {:.2} s after the second holder", late(at, second));
    };
    // Each prefers another one: both work.
    held(&["lvs1"], &["lvs2"]);
    let begun = last("vip-held");

    // Killed: the other takes it in VRRP's time, tells the client, and nobody is alarmed.
    let before = unasked();
    scene.signal("lvs1", Signal::SIGSTOP);
    scene.signal("lvs1", Signal::SIGKILL);
    held(&["lvs2"], &["lvs2"]);
    agents::wait("the client to be told", || (unasked()[1] > before[1]).then_some(()));
    assert_eq!(scene.answers(VIP), macs[1]);
    held(&["lvs1"], &["lvs2"]);
    println!("killed: www {}", told(&counts(&scene, "www"), begun));
    // One that comes back and the one that steps down overlap, or miss each other, for some milliseconds.
    for (name, least) in [("www", 0), ("ftp", 1)] {
        let all = counts(&scene, name);
        let spans = all.windows(2).filter(|w| w[1].0 > begun).map(|w| (w[0].1, late(w[1].0, w[0].0)));
        for (count, for_so_long) in spans {
            assert!((least..2).contains(&count) || for_so_long < 0.5, "{name}: {all:?}");
        }
    }
    assert_eq!(scene.count("web1", "vip-alarm"), 0, "{:?}", scene.events("web1", "vip-alarm"));

    // Unplugged.
    let since = last("vip-held");
    scene.plug("lvs1", false);
    held(&["lvs2"], &["lvs2"]);
    assert_eq!(scene.answers(VIP), macs[1]);
    scene.plug("lvs1", true);
    held(&["lvs1"], &["lvs2"]);
    println!("unplugged: www {}", told(&counts(&scene, "www"), since));
    agents::wait("the client to be told again", || (scene.answers(VIP) == macs[0]).then_some(()));

    // Frozen: what it preferred is held twice.
    let since = last("vip-held");
    let alarms = scene.count("web1", "vip-alarm");
    scene.signal("lvs1", Signal::SIGSTOP);
    held(&BOTH, &["lvs2"]);
    alarmed("www", alarms);
    scene.signal("lvs1", Signal::SIGCONT);
    held(&["lvs1"], &["lvs2"]);
    println!("frozen: www {}", told(&counts(&scene, "www"), since));

    // One way cut: who hears nothing takes it.
    let since = last("vip-held");
    let clears = scene.count("web1", "vip-clear");
    scene.drops(&["ip saddr 10.77.0.1 ip daddr 10.77.0.2"]);
    held(&BOTH, &["lvs2"]);
    alarmed("www", alarms + 1);
    scene.drops(&[]);
    held(&["lvs1"], &["lvs2"]);
    scene.another("web1", "vip-clear", clears);
    println!("cut off one way: www {}", told(&counts(&scene, "www"), since));

    // Both ways: each holds both, and whom they serve tells.
    let since = last("vip-held");
    scene.drops(&["ip saddr 10.77.0.1 ip daddr 10.77.0.2", "ip saddr 10.77.0.2 ip daddr 10.77.0.1"]);
    held(&BOTH, &BOTH);
    alarmed("www", alarms + 2);
    alarmed("ftp", 0);
    scene.drops(&[]);
    held(&["lvs1"], &["lvs2"]);
    for name in ["www", "ftp"] {
        println!("cut off both ways: {name} {}", told(&counts(&scene, name), since));
    }
}
