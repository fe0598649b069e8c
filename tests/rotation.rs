//! A new CA under running load: real agents, calls without end, and nobody who notices.

mod agents;
mod secured;

use agents::wait;
use clusterd::api::client::{Client, Target};
use clusterd::api::tls::Security;
use clusterd::api::wire::{ClusterStatus, NodeStatus};
use clusterd::pki::{Bundle, Role, Tls, Validity, Who};
use secured::{NODES, Secured, clusterctl, clusterd_join, instance, node};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Somebody who asks every agent for everything, over a new connection and over a warm one, until told to stop.
struct Load {
    over: Arc<AtomicBool>,
    calls: Arc<AtomicU64>,
    task: JoinHandle<Vec<String>>,
}

impl Load {
    fn begin(targets: Vec<Target>, identity: &Path) -> Load {
        let bundle = Bundle::read(identity).unwrap();
        let (over, calls) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (ends, counts) = (over.clone(), calls.clone());
        let task = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let security = Security::Tls(Arc::new(Tls::new(&bundle).unwrap()));
            let client = |t: &Target| {
                let patient = Duration::from_secs(20);
                Client::new(t.clone()).secured(security.clone(), None).within(patient, patient)
            };
            let mut warm: Vec<Client> = targets.iter().map(client).collect();
            let mut wrong = Vec::new();
            while !ends.load(Ordering::Acquire) {
                for (target, warm) in targets.iter().zip(&mut warm) {
                    if let Err(e) = runtime.block_on(warm.get::<NodeStatus>("/v1/node")) {
                        wrong.push(e.to_string());
                    }
                    match runtime.block_on(client(target).get::<ClusterStatus>("/v1/cluster")) {
                        Err(e) => wrong.push(e.to_string()),
                        // A busy machine may answer late; what counts is that nobody distrusts another.
                        Ok(status) => wrong.extend(
                            status
                                .nodes
                                .into_iter()
                                .filter_map(|n| n.problem)
                                .filter(|p| p.contains("trust")),
                        ),
                    }
                    counts.fetch_add(2, Ordering::Release);
                }
            }
            wrong
        });
        Load { over, calls, task }
    }

    /// Waits until each agent was asked again, both ways.
    fn goes_on(&self) {
        let before = self.calls.load(Ordering::Acquire);
        let round = 2 * u64::from(NODES);
        wait("more calls", || (self.calls.load(Ordering::Acquire) > before + round).then_some(()));
    }

    fn end(self) {
        self.goes_on();
        self.over.store(true, Ordering::Release);
        let wrong = self.task.join().unwrap();
        assert!(wrong.is_empty(), "{wrong:#?}");
    }
}

#[test]
fn a_new_ca_and_all_certificates_and_nobody_notices() {
    let mut cluster = Secured::fourteen("rotation");
    (1..=NODES).for_each(|n| cluster.join_and_start(&node(n)));
    let pids = |cluster: &Secured| -> Vec<i64> {
        let pid = |n| wait("all to be ready", || cluster.pid_if(&node(n), &instance(n), "ready"));
        (1..=NODES).map(pid).collect()
    };
    let before = pids(&cluster);
    wait("the agents to hear each other", || cluster.whole("n1"));
    let targets: Vec<Target> = (1..=NODES).map(|n| cluster.target(n)).collect();

    let old_ca = fs::read_to_string(cluster.file_named("ca").join("ca.pem")).unwrap();
    let alice = Who::Operator { name: "alice".into(), role: Role::Read };
    cluster.hand_out("alice", &cluster.ca().issue(alice, Validity::days(1)).unwrap().bundle);
    let old = Load::begin(targets.clone(), &cluster.handed_out("alice"));
    old.goes_on();

    let out = cluster.file_named("new");
    fs::create_dir(&out).unwrap();
    let (file, ca) = (cluster.file(), cluster.file_named("ca"));
    let rotate = |cluster: &Secured, more: &[&str]| {
        let mut args = vec!["pki", "rotate", "--config", file.to_str().unwrap()];
        args.extend(["--ca", ca.to_str().unwrap(), "--out", out.to_str().unwrap()]);
        let socket = cluster.socket("n1");
        args.extend(["--socket", &socket]);
        args.extend(more);
        clusterctl(&args)
    };
    let told = rotate(&cluster, &[]);
    assert!(told.code == 2 && told.err.contains("pki rotate --begin"), "{told:?}");
    let told = rotate(&cluster, &["--begin"]);
    assert!(told.code == 0 && told.out.contains("n14.pem") && told.out.contains("alice.pem"), "{told:?}");
    let told = rotate(&cluster, &["--begin"]);
    assert!(told.code == 2 && told.err.contains("under way"), "{told:?}");
    let new = Load::begin(targets, &out.join("alice.pem"));
    new.goes_on();
    // One by one, in no order of theirs: whoever is first speaks with those who have not heard of it, and they with it.
    for name in (1..=NODES).rev().map(node) {
        if [1, 2, NODES].map(node).contains(&name) {
            let told = rotate(&cluster, &[]);
            let says = format!("{name} shows its certificate of");
            assert!(told.code == 3 && told.err.contains(&says), "{told:?}");
        }
        let bundle = out.join(format!("{name}.pem"));
        let told = clusterd_join(&bundle, &name, &cluster.file(), &cluster.state(&name));
        assert_eq!(told.code, 0, "{told:?}");
        let told = cluster.ctl(&name, &["reload", &name]);
        assert!(told.out.contains("this node's certificate, which is in use now"), "{told:?}");
        new.goes_on();
    }
    old.end();
    let told = rotate(&cluster, &[]);
    assert!(told.code == 0 && told.out.contains("# the CA"), "{told:?}");
    let told_again = rotate(&cluster, &[]);
    assert!(told_again.code == 3 && told_again.err.contains("n2 believes the CA before"), "{told_again:?}");
    cluster.revoke(told.out.split('"').nth(1).unwrap());
    for name in (1..=NODES).map(node) {
        assert_eq!(cluster.ctl(&name, &["reload", &name]).code, 0);
        if [1, NODES / 2, NODES].map(node).contains(&name) {
            new.goes_on();
        }
    }
    let told = rotate(&cluster, &[]);
    assert!(told.code == 0 && told.err.contains("the rotation is over"), "{told:?}");
    assert!(!ca.join("before.pem").exists(), "nothing is left of it");
    new.end();

    // What the old CA issues is worth nothing now, and nothing was restarted.
    let stolen = cluster.file_named("stolen");
    fs::create_dir(&stolen).unwrap();
    fs::set_permissions(&stolen, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    fs::create_dir(stolen.join("issued")).unwrap();
    cluster.hand_out("ca", &old_ca);
    fs::rename(cluster.handed_out("ca"), stolen.join("ca.pem")).unwrap();
    let mallory = Who::Operator { name: "mallory".into(), role: Role::Admin };
    let issued = clusterd::pki::Ca::open(&stolen).unwrap().issue(mallory, Validity::days(1)).unwrap();
    let tls = || Security::Tls(Arc::new(Tls::new(&Bundle::parse(&issued.bundle).unwrap()).unwrap()));
    for n in 1..=NODES {
        let mut client = Client::new(cluster.target(n)).secured(tls(), None);
        assert!(cluster.block_on(client.get::<NodeStatus>("/v1/node")).is_err());
    }
    assert_eq!(pids(&cluster), before);
    for name in (1..=NODES).map(node) {
        let status = cluster.node_status(&name).unwrap();
        assert!(status.instances.iter().all(|i| i.starts == 1), "{name}");
    }
}
