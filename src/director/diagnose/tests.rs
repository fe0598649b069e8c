use super::*;

fn facts(unicast: bool, heard: &[&str]) -> Facts {
    let at = |a: &str| a.parse::<IpAddr>().unwrap();
    let settings = Settings {
        vrid: 51,
        priority: 100,
        interface: "eth0".into(),
        unicast_source: None,
        peers: if unicast { vec![at("10.0.0.1"), at("10.0.0.2")] } else { Vec::new() },
        addresses: vec!["10.0.0.100".into()],
        advert_ms: 1000,
    };
    let heard = Ok(heard.iter().map(|a| at(a)).collect());
    Facts { settings: Ok(settings), heard, listened_ms: 1100, firewall: Firewall::Clear, frozen: None }
}

#[track_caller]
fn check(change: impl Fn(&mut Facts, &mut Facts), wanted: &[&str]) {
    let (mut one, mut two) = (facts(true, &["10.0.0.2"]), facts(true, &["10.0.0.1"]));
    if let Ok(settings) = &mut two.settings {
        settings.priority = 90;
    }
    change(&mut one, &mut two);
    let side =
        |name, address: &str, facts| Side { name, address: address.parse().unwrap(), holds: true, facts };
    let told = diagnose(&[side("lvs1", "10.0.0.1", Some(&one)), side("lvs2", "10.0.0.2", Some(&two))], true);
    assert_eq!(told, wanted);
}

fn settings(facts: &mut Facts) -> &mut Settings {
    facts.settings.as_mut().unwrap()
}

#[test]
fn each_cause_has_its_sentence() {
    check(|_, _| {}, &["their adverts reach each other"]);
    check(
        |one, two| {
            for facts in [one, two] {
                settings(facts).peers.clear();
                facts.heard = Ok(Vec::new());
                facts.firewall = Firewall::Blocks(vec!["ip daddr 224.0.0.0/4 drop".into()]);
            }
        },
        &[
            "lvs1 and lvs2 announce themselves by multicast (no unicast_peer), which cloud networks do not carry",
            "a rule on lvs1 drops VRRP (protocol 112): ip daddr 224.0.0.0/4 drop",
            "a rule on lvs2 drops VRRP (protocol 112): ip daddr 224.0.0.0/4 drop",
            "no advert of lvs2 reaches lvs1",
            "no advert of lvs1 reaches lvs2",
        ],
    );
    check(
        |one, two| {
            settings(one).peers = vec!["10.0.0.9".parse().unwrap()];
            two.heard = Ok(Vec::new());
        },
        &["unicast_peer on lvs1 lacks lvs2 (10.0.0.2)", "no advert of lvs1 reaches lvs2"],
    );
    check(
        |one, two| {
            settings(one).vrid = 52;
            settings(two).addresses.push("10.0.0.101".into());
            settings(two).priority = 100;
        },
        &[
            "virtual_router_id differs: 52 on lvs1, 51 on lvs2",
            "virtual_ipaddress differs: 10.0.0.100 on lvs1, 10.0.0.100 10.0.0.101 on lvs2",
            "lvs1 and lvs2 have the same priority, 100",
            "their adverts reach each other",
        ],
    );
    check(
        |one, two| {
            one.frozen = Some(77);
            one.firewall = Firewall::Unseen("nft is not installed".into());
            two.heard = Ok(Vec::new());
            two.listened_ms = 300; // too early to say
        },
        &[
            "keepalived on lvs1 is frozen (process 77, state T): it neither hears the others nor lets go",
            "whether a firewall on lvs1 is in the way could not be seen: nft is not installed",
        ],
    );
}
