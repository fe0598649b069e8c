//! An etcd that lets nobody in: it shows a certificate and wants one, or a login. Each refusal has its sentence.

use super::agents::{Cluster, told, wait};
use super::etcd::{Etcd, Operator, UNIT, agent, file};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clusterd::probe::secure::Identity;
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose as Use, IsCa, Issuer, KeyPair};
use serde_json::json;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

/// An authority, whose certificate is `NAME.pem`.
struct Authority(Issuer<'static, KeyPair>);

impl Authority {
    fn new(folder: &Path, name: &str) -> Authority {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        write(folder, &format!("{name}.pem"), &params.self_signed(&key).unwrap().pem(), 0o644);
        Authority(Issuer::new(params, key))
    }

    /// `NAME.pem` and `NAME.key`, for a server at that address, or for a client.
    fn sign(&self, folder: &Path, name: &str, address: &str) {
        let mut params = CertificateParams::new(vec![address.to_owned()]).unwrap();
        // An etcd shows its own to itself: its JSON is a client of its gRPC.
        params.extended_key_usages = vec![Use::ServerAuth, Use::ClientAuth];
        let key = KeyPair::generate().unwrap();
        let signed = params.signed_by(&key, &self.0).unwrap();
        write(folder, &format!("{name}.pem"), &signed.pem(), 0o644);
        write(folder, &format!("{name}.key"), &key.serialize_pem(), 0o600);
    }
}

fn write(folder: &Path, name: &str, text: &str, mode: u32) {
    let path = folder.join(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
}

fn operator(cluster: &Cluster) -> Operator {
    let at = |name: &str| cluster.file_named(name);
    Some((at("right.pem"), Identity { certificate: at("operator.pem"), key: at("operator.key") }))
}

/// The authority that is right, and certificates of its own for an etcd and for who puts files there.
fn authority(cluster: &Cluster) -> Authority {
    let right = Authority::new(cluster.dir(), "right");
    right.sign(cluster.dir(), "etcd", &cluster.address(250));
    right.sign(cluster.dir(), "operator", "operator");
    right
}

/// The agent with its configuration in etcd, and with files of the cluster's folder for what it shows there.
fn agent_with(cluster: &Cluster, etcd: &Etcd, options: &[&str]) -> Command {
    let mut command = agent(cluster, &etcd.at);
    command.current_dir(cluster.dir()).args(options);
    command
}

fn restart(cluster: &mut Cluster, etcd: &Etcd, options: &[&str]) {
    cluster.kill("n1");
    let command = agent_with(cluster, etcd, options);
    cluster.start_as("n1", command);
}

fn copy(cluster: &Cluster, from: &str, to: &str) {
    fs::copy(cluster.file_named(from), cluster.file_named(to)).unwrap();
}

/// Waits until the agent says that it does not hear etcd, for this reason.
fn wait_said(cluster: &Cluster, why: &str) {
    let mut last = String::new();
    let said = format!("etcd is not heard, the copy of what it held last is in force: {why}");
    let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        wait("the agent to say why", || {
            let node = cluster.node_status("n1")?;
            last = node.problems.join("\n");
            node.problems.contains(&said).then_some(())
        })
    }));
    assert!(found.is_ok(), "not {said:?}\nbut {last:?}");
}

fn wait_well(cluster: &Cluster) {
    wait("all to be well", || cluster.node_status("n1").filter(|n| n.problems.is_empty()));
}

/// What makes the agent read again: a key that is no file.
fn stir(etcd: &Etcd) {
    etcd.put("/prod/shop/stirred", "");
}

#[test]
fn over_tls_both_sides_show_a_certificate_and_each_refusal_is_said() {
    let mut cluster = Cluster::new("etcd-tls");
    let right = authority(&cluster);
    let folder = cluster.dir().to_owned();
    let wrong = Authority::new(&folder, "wrong");
    right.sign(&folder, "good", "n1");
    wrong.sign(&folder, "bad", "n1");
    right.sign(&folder, "elsewhere", "10.9.9.9");
    right.sign(&folder, "here", &cluster.address(250));
    for name in ["agent.pem", "agent.key"] {
        copy(&cluster, &name.replace("agent", "good"), name);
    }
    copy(&cluster, "right.pem", "ca.pem");
    let server =
        ["--cert-file=etcd.pem", "--key-file=etcd.key", "--client-cert-auth", "--trusted-ca-file=right.pem"];
    let etcd = Etcd::start_with(&cluster, &server, operator(&cluster));
    etcd.put("/prod/shop/units/nap.toml", UNIT);
    etcd.put("/prod/shop/cluster.toml", &file(&cluster, "a = { on = \"n1\", unit = \"nap\" }"));

    let all = ["--etcd-ca=ca.pem", "--etcd-cert=agent.pem", "--etcd-key=agent.key"];
    let command = agent_with(&cluster, &etcd, &all);
    cluster.start_as("n1", command);
    let a = wait("what etcd says to run", || cluster.pid_if("n1", "a@n1", "ready"));
    wait_well(&cluster);

    // The files are read anew for each connection: those that were renewed count, and those that are wrong.
    let at = etcd.at.clone();
    copy(&cluster, "wrong.pem", "ca.pem");
    stir(&etcd);
    wait_said(
        &cluster,
        &format!("TLS with {at} fails: nobody that is trusted here has signed its certificate"),
    );
    copy(&cluster, "right.pem", "ca.pem");
    wait_well(&cluster);

    for name in ["etcd.pem", "etcd.key"] {
        copy(&cluster, &name.replace("etcd", "elsewhere"), name);
    }
    restart(&mut cluster, &etcd, &all);
    wait_said(&cluster, &format!("TLS with {at} fails: its certificate is for another name"));
    for name in ["etcd.pem", "etcd.key"] {
        copy(&cluster, &name.replace("etcd", "here"), name);
    }
    wait_well(&cluster);

    for name in ["agent.pem", "agent.key"] {
        copy(&cluster, &name.replace("agent", "bad"), name);
    }
    stir(&etcd);
    wait_said(
        &cluster,
        &format!(
            "TLS with {at} fails: it wants a certificate of ours, or does not take the one that it was shown"
        ),
    );
    copy(&cluster, "good.pem", "agent.pem");
    wait_said(&cluster, "the key agent.key is not that of the certificate in agent.pem");
    copy(&cluster, "good.key", "agent.key");
    wait_well(&cluster);
    fs::set_permissions(cluster.file_named("agent.key"), Permissions::from_mode(0o640)).unwrap();
    stir(&etcd);
    wait_said(&cluster, "the key agent.key is open to others than its owner (mode 640): chmod 600 it");

    // Nothing of ours shown, and no TLS at all.
    restart(&mut cluster, &etcd, &["--etcd-ca=ca.pem"]);
    wait_said(
        &cluster,
        &format!(
            "TLS with {at} fails: it wants a certificate of ours, or does not take the one that it was shown"
        ),
    );
    restart(&mut cluster, &etcd, &[]);
    wait_said(
        &cluster,
        &format!(
            "{at} closed the connection without an answer: if it speaks TLS, say by --etcd-ca who has signed its certificate"
        ),
    );

    // Who can write the file by which it is known whom to trust is root here.
    cluster.kill("n1");
    fs::set_permissions(cluster.file_named("ca.pem"), Permissions::from_mode(0o666)).unwrap();
    let told = told(agent_with(&cluster, &etcd, &all));
    assert!(
        told.code == 1 && told.err.contains("ca.pem may be written to by others (mode 0666)"),
        "{told:?}"
    );
    fs::set_permissions(cluster.file_named("ca.pem"), Permissions::from_mode(0o644)).unwrap();

    // With all as it should be, what was put there meanwhile is in force, and nothing was touched.
    fs::set_permissions(cluster.file_named("agent.key"), Permissions::from_mode(0o600)).unwrap();
    let both = file(&cluster, "a = { on = \"n1\", unit = \"nap\" }\nb = { on = \"n1\", unit = \"nap\" }");
    etcd.put("/prod/shop/cluster.toml", &both);
    let command = agent_with(&cluster, &etcd, &all);
    cluster.start_as("n1", command);
    wait("what was added there", || cluster.pid_if("n1", "b@n1", "ready"));
    assert_eq!(cluster.pid_if("n1", "a@n1", "ready"), Some(a));
    wait_well(&cluster);
}

/// An etcd in which each has to log in, when that is switched on: `root`, and `shop`, whose role may read what is below
/// `/prod/shop/`, and no more.
struct Guarded(Etcd);

impl Guarded {
    fn new(cluster: &Cluster) -> Guarded {
        let server = ["--cert-file=etcd.pem", "--key-file=etcd.key", "--auth-token-ttl=1"];
        let etcd = Guarded(Etcd::start_with(cluster, &server, operator(cluster)));
        for (name, password) in [("root", "root-word"), ("shop", "right-word")] {
            etcd.ask("user/add", json!({ "name": name, "password": password }), "");
        }
        for role in ["root", "reader"] {
            etcd.ask("role/add", json!({ "name": role }), "");
        }
        etcd.grant("");
        etcd.ask("user/grant", json!({ "user": "root", "role": "root" }), "");
        etcd.ask("user/grant", json!({ "user": "shop", "role": "reader" }), "");
        etcd
    }

    fn ask(&self, path: &str, body: serde_json::Value, token: &str) -> serde_json::Value {
        let answer = self.0.call(&format!("/v3/auth/{path}"), &body, token).unwrap();
        let (from, to) = (answer.find('{').unwrap(), answer.rfind('}').unwrap());
        serde_json::from_str(&answer[from..=to]).unwrap()
    }

    fn range() -> (String, String) {
        (STANDARD.encode("/prod/shop/"), STANDARD.encode("/prod/shop0"))
    }

    fn grant(&self, token: &str) {
        let (key, range_end) = Guarded::range();
        let may = json!({ "permType": "READ", "key": key, "range_end": range_end });
        self.ask("role/grant", json!({ "name": "reader", "perm": may }), token);
    }

    fn token(&self, name: &str, password: &str) -> String {
        let told = self.ask("authenticate", json!({ "name": name, "password": password }), "");
        told["token"].as_str().unwrap().to_owned()
    }

    fn root(&self) -> String {
        self.token("root", "root-word")
    }

    fn put(&self, key: &str, value: &str) {
        let pair = json!({ "key": STANDARD.encode(key), "value": STANDARD.encode(value) });
        self.0.call("/v3/kv/put", &pair, &self.root()).unwrap();
    }

    /// Waits until a token that was given now does not count any more, and with it all that were given before.
    fn await_expiry(&self) {
        let token = self.token("shop", "right-word");
        let (key, range_end) = Guarded::range();
        let body = json!({ "key": key, "range_end": range_end });
        wait("a token to run out", || {
            // Each use would give it more time.
            std::thread::sleep(std::time::Duration::from_millis(2500));
            let refused = self.0.call("/v3/kv/range", &body, &token).err()?;
            assert!(refused.contains("invalid auth token"), "{refused}");
            Some(())
        });
    }
}

#[test]
fn a_login_is_made_where_it_is_wanted_and_each_refusal_is_said() {
    let mut cluster = Cluster::new("etcd-login");
    authority(&cluster);
    write(cluster.dir(), "password", "right-word\n", 0o600);
    let etcd = Guarded::new(&cluster);
    etcd.0.put("/prod/shop/units/nap.toml", UNIT);
    etcd.0.put("/prod/shop/cluster.toml", &file(&cluster, "a = { on = \"n1\", unit = \"nap\" }"));
    let login = ["--etcd-ca=right.pem", "--etcd-user=shop", "--etcd-password-file=password"];
    let command = agent_with(&cluster, &etcd.0, &login);
    cluster.start_as("n1", command);
    let a = wait("what etcd says to run", || cluster.pid_if("n1", "a@n1", "ready"));
    wait_well(&cluster);

    // From here on a login is wanted. What changes is taken, also when the one from before has run out.
    etcd.ask("enable", json!({}), "");
    let mut services = "a = { on = \"n1\", unit = \"nap\" }\n".to_owned();
    for service in ["b", "c"] {
        services += &format!("{service} = {{ on = \"n1\", unit = \"nap\" }}\n");
        etcd.put("/prod/shop/cluster.toml", &file(&cluster, &services));
        wait("what was added there", || cluster.pid_if("n1", &format!("{service}@n1"), "ready"));
        wait_well(&cluster);
        etcd.await_expiry();
    }
    let at = etcd.0.at.clone();
    write(cluster.dir(), "password", "wrong-word\n", 0o600);
    etcd.put("/prod/shop/stirred", "");
    wait_said(&cluster, &format!("{at} refuses the login of shop: wrong name or password"));
    write(cluster.dir(), "password", "right-word\n", 0o644);
    wait_said(
        &cluster,
        "the password file password is open to others than its owner (mode 644): chmod 600 it",
    );
    write(cluster.dir(), "password", "right-word\n", 0o600);
    wait_well(&cluster);

    // Its role may read there and do nothing else; and then not even that.
    let pair = json!({ "key": STANDARD.encode("/prod/shop/cluster.toml"), "value": "" });
    let refused = etcd.0.call("/v3/kv/put", &pair, &etcd.token("shop", "right-word")).unwrap_err();
    assert!(refused.contains("permission denied"), "{refused}");
    let (key, range_end) = Guarded::range();
    etcd.ask("role/revoke", json!({ "role": "reader", "key": key, "range_end": range_end }), &etcd.root());
    etcd.put("/prod/shop/stirred", "");
    wait_said(
        &cluster,
        &format!(
            "{at}: shop may not read what is below /prod/shop/: `etcdctl role grant-permission --prefix=true ROLE read /prod/shop/`"
        ),
    );
    etcd.grant(&etcd.root());
    wait_well(&cluster);

    restart(&mut cluster, &etcd.0, &["--etcd-ca=right.pem"]);
    wait_said(&cluster, &format!("{at} wants a login: --etcd-user and --etcd-password-file"));
    assert_eq!(cluster.pid_if("n1", "a@n1", "ready"), Some(a), "nothing was touched meanwhile");

    // No word of the password anywhere.
    let log = fs::read_to_string(cluster.file_named("n1/agent.log")).unwrap();
    let events = fs::read_to_string(cluster.file_named("n1/state/events.jsonl")).unwrap();
    for text in [log, events, fs::read_to_string(cluster.recording("n1")).unwrap()] {
        assert!(!text.contains("right-word") && !text.contains("wrong-word"), "{text}");
    }
}

#[test]
fn what_makes_no_sense_is_refused() {
    let cluster = Cluster::new("etcd-options");
    let refused = |options: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_clusterd"));
        command.args(options).arg("--state").arg(cluster.dir());
        let told = told(command);
        assert_ne!(told.code, 0, "{told:?}");
        told.err
    };
    let without_tls =
        refused(&["--config=etcd://127.0.0.1:1/x", "--etcd-user=shop", "--etcd-password-file=x"]);
    assert!(without_tls.contains("--etcd-ca <FILE>"), "a password is not sent in clear: {without_tls}");
    let half = refused(&["--etcd-ca=x", "--etcd-cert=x"]);
    assert!(half.contains("--etcd-key <FILE>"), "{half}");
    let no_etcd = refused(&["--etcd-ca=x"]);
    assert!(no_etcd.contains("the configuration is not in etcd: take the --etcd- options out"), "{no_etcd}");
}
