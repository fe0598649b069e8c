//! Who did what, and whether that record is whole: real agents with certificates, and who comes to change it.

mod agents;
mod secured;

use agents::{Told, wait};
use clusterd::api::client::Client;
use clusterd::api::tls::Security;
use clusterd::api::wire::NodeStatus;
use clusterd::pki::{Bundle, Ca, Role, Tls, Validity, Who};
use nix::sys::signal::Signal;
use secured::{Secured, clusterctl};
use serde_json::Value;
use std::fs;
use std::sync::Arc;

fn operator(name: &str, role: Role) -> Who {
    Who::Operator { name: name.into(), role }
}

/// The actions of a node that `audit` tells: who, what, why, outcome and its words.
fn told(audit: &Told, node: &str) -> Vec<[String; 5]> {
    let all: Value = serde_json::from_str(&audit.out).unwrap_or_else(|e| panic!("{e}: {audit:?}"));
    let entries = all["entries"].as_array().unwrap().iter().filter(|e| e["node"] == node);
    let text = |e: &Value, key: &str| e["entry"][key].as_str().unwrap_or_default().to_owned();
    entries.map(|e| ["who", "what", "why", "outcome", "text"].map(|key| text(e, key))).collect()
}

fn has(entries: &[[String; 5]], parts: [&str; 5]) {
    let fits = |e: &&[String; 5]| e.iter().zip(parts).all(|(text, part)| text.contains(part));
    assert!(entries.iter().find(fits).is_some(), "{parts:?} is not among {entries:#?}");
}

#[test]
fn what_operators_do_stands_on_the_trail_of_each_node_concerned() {
    let mut cluster = Secured::new("trail", "");
    let ca = cluster.ca();
    cluster.join_and_start("n1");
    cluster.join_and_start("n2");
    wait("the agents to hear each other", || cluster.whole("n1"));
    wait("the web server to be ready", || cluster.pid_if("n2", "web@n2", "ready"));
    let identity = |who: Who, ca: &Ca| {
        let issued = ca.issue(who, Validity::days(1)).unwrap();
        cluster.hand_out("someone", &issued.bundle);
        let path = cluster.file_named(&format!("{}.id", issued.certificate.key.short()));
        fs::rename(cluster.handed_out("someone"), &path).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let agent = cluster.target(1).to_string();
    let over = |identity: &str, args: &[&str]| {
        clusterctl(&[args, &["--agent", &agent, "--identity", identity]].concat())
    };
    let alice = identity(operator("alice", Role::Operate), &ca);
    let rita = identity(operator("rita", Role::Read), &ca);

    assert_eq!(over(&alice, &["stop", "web", "--reason", "new disk", "--no-wait"]).code, 0);
    let local = cluster.ctl("n1", &["reload", "n1", "--reason", "after dinner"]);
    assert_eq!(local.code, 0, "{local:?}");
    for _ in 0..20 {
        let no = over(&rita, &["start", "web", "--reason", "I am curious", "--no-wait"]);
        assert!(no.text().contains("operator rita (read) lacks the right `operate`"), "{no:?}");
    }
    assert_ne!(over(&alice, &["start", "cache", "--force", "--no-wait"]).code, 0);
    cluster.signal("n2", Signal::SIGHUP);
    // Somebody with a certificate of another CA, who believes ours.
    let stranger =
        Ca::init(&cluster.file_named("stranger"), cluster.name(), Validity::days(1), None).unwrap();
    let theirs = stranger.issue(operator("eve", Role::Admin), Validity::days(1)).unwrap().bundle;
    let ours = ca.issue(operator("eve", Role::Admin), Validity::days(1)).unwrap().bundle;
    let block = |text: &str, n: usize| text.split_inclusive("-----END ").nth(n).unwrap().to_owned();
    assert_ne!(block(&theirs, 1), block(&ours, 1));
    let tls = Tls::new(&Bundle::parse(&theirs).unwrap()).unwrap();
    let mut eve = Client::new(cluster.target(1)).secured(Security::Tls(Arc::new(tls)), None);
    assert!(cluster.block_on(eve.get::<NodeStatus>("/v1/node")).is_err());

    let audit = wait("the signal to be on the trail", || {
        let audit = cluster.ctl("n1", &["audit", "--json"]);
        told(&audit, "n2").iter().any(|e| e[0].contains("SIGHUP")).then_some(audit)
    });
    assert_eq!(audit.code, 0, "{audit:?}");
    let (n1, n2) = (told(&audit, "n1"), told(&audit, "n2"));
    has(
        &n1,
        ["operator alice (operate)", "through here, at n2: stop web@n2", "new disk", "done", "web@n2: "],
    );
    has(&n2, ["operator alice (operate), through n1", "stop web@n2", "new disk", "done", "web@n2: "]);
    has(&n1, ["root (uid 0)", "reload", "after dinner", "done", "nothing has changed"]);
    has(&n1, ["alice", "start cache@n1 --force", "", "refused", "lacks the right `admin`"]);
    has(&n1, ["rita", "/v1/order", "", "refused", "lacks the right `operate`"]);
    has(&n1, ["rita", "further calls", "", "refused", "19 more"]);
    has(&n2, ["who sent SIGHUP", "reload", "", "done", "nothing has changed"]);
    has(&n2, ["the agent", "agent began", "", "done", "the first of this boot"]);

    // It can be asked for parts, and read by a person.
    let told = over(&rita, &["audit", "n2", "--what", "disk"]);
    assert!(told.code == 0 && told.out.contains("why: new disk") && !told.out.contains("SIGHUP"), "{told:?}");
    assert!(told.out.contains("\nn2: intact; ") && !told.out.contains("n1: intact"), "{told:?}");
    let told = cluster.ctl("n1", &["audit", "--since", "1h", "--refused"]);
    assert!(told.out.contains("refused: ") && !told.out.contains("new disk"), "{told:?}");
}

#[test]
fn who_changes_a_trail_is_found_out_and_a_power_cut_is_not_blamed() {
    let mut cluster = Secured::new("changed", "");
    cluster.join_and_start("n1");
    wait("the agent to answer", || cluster.status("n1"));
    let reload = |cluster: &Secured| assert_eq!(cluster.ctl("n1", &["reload", "n1"]).code, 0);
    (0..4).for_each(|_| reload(&cluster));
    let audit = |cluster: &Secured| cluster.ctl("n1", &["audit", "n1"]);
    assert!(audit(&cluster).out.contains("n1: intact; 5 entries; head 5 "), "{:?}", audit(&cluster));

    // The end taken away while the agent runs, and while none does.
    let file = cluster.state("n1").join("trail.jsonl");
    let whole = fs::read_to_string(&file).unwrap();
    let some = |n: usize| whole.split_inclusive('\n').take(n).collect::<String>();
    fs::write(&file, some(4)).unwrap();
    let told = audit(&cluster);
    assert!(told.code == 3 && told.out.contains("TAMPERED at entry 5: 1 missing at the end"), "{told:?}");
    cluster.kill("n1");
    cluster.start("n1");
    wait("the agent to answer", || cluster.status("n1"));
    let told = audit(&cluster);
    assert!(told.code == 3 && told.out.contains("TAMPERED at entry 5: 1 missing there"), "{told:?}");

    // A power cut in the middle of a line: what stood in memory is gone, too.
    cluster.kill("n1");
    fs::write(&file, &whole[..whole.len() - 30]).unwrap();
    fs::remove_file(cluster.run("n1").join("trail-head")).unwrap();
    cluster.start("n1");
    wait("the agent to answer", || cluster.status("n1"));
    let told = audit(&cluster);
    assert!(told.code == 0 && told.out.contains("but for an unfinished end before entry 5"), "{told:?}");
    assert!(told.out.contains("where the power, or somebody, left it"), "{told:?}");

    // One word changed.
    reload(&cluster);
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replacen("reload", "relaod", 1)).unwrap();
    let told = audit(&cluster);
    assert!(told.code == 3 && told.out.contains("TAMPERED at entry 2: the line is not as it"), "{told:?}");
}
