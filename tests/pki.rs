//! Who may do what: real agents with certificates of a CA of their own, and everybody who could come to ask.

mod agents;
mod secured;

use agents::wait;
use clusterd::api::caller::right_for;
use clusterd::api::client::{Client, ClientError, Target};
use clusterd::api::tls::Security;
use clusterd::api::wire::{ClusterStatus, NodeStatus};
use clusterd::generation::Generation;
use clusterd::model::{Source, Sources};
use clusterd::pki::{Bundle, Ca, Role, Tls, Validity, Who};
use hyper::{Method, StatusCode};
use secured::{Secured, clusterctl, clusterd_join};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

fn node(name: &str) -> Who {
    Who::Node(name.into())
}

fn operator(role: Role) -> Who {
    Who::Operator { name: "alice".into(), role }
}

fn security(ca: &Ca, who: Who, validity: Validity) -> Security {
    let issued = ca.issue(who, validity).unwrap();
    Security::Tls(Arc::new(Tls::new(&Bundle::parse(&issued.bundle).unwrap()).unwrap()))
}

/// Every call of the API: what it is called below, method, path, body.
const CALLS: &[(&str, Method, &str, &str)] = &[
    ("node", Method::GET, "/v1/node", ""),
    ("cluster", Method::GET, "/v1/cluster", ""),
    ("events", Method::GET, "/v1/events", ""),
    ("identity", Method::GET, "/v1/identity", ""),
    ("doctor", Method::GET, "/v1/doctor", ""),
    ("trail", Method::GET, "/v1/trail", ""),
    ("logs", Method::GET, "/v1/logs?instance=cache@n1&last=1", ""),
    ("leftovers", Method::GET, "/v1/leftovers", ""),
    ("probe", Method::GET, "/v1/probe?instance=cache@n1", ""),
    ("watch n2", Method::GET, "/v1/watch?node=n2", ""),
    ("watch n1", Method::GET, "/v1/watch?node=n1", ""),
    ("order", Method::POST, "/v1/order", ORDER),
    ("force", Method::POST, "/v1/order", FORCE),
    ("reload", Method::POST, "/v1/reload", ""),
    ("generation", Method::GET, "/v1/generation", ""),
    ("config", Method::GET, "/v1/config", ""),
    ("stage", Method::POST, "/v1/stage", STAGE),
    ("switch", Method::POST, "/v1/switch", "{\"hash\":\"none\"}"),
    ("unknown", Method::POST, "/v1/unknown", ""),
    ("wrong method", Method::DELETE, "/v1/node", ""),
    ("force here", Method::POST, "/v1/at/n1/v1/order", FORCE),
    ("invite", Method::POST, "/v1/invite", INVITE),
    ("join", Method::POST, "/v1/join", JOIN),
    ("relay node", Method::GET, "/v1/at/n2/v1/node", ""),
    ("relay cluster", Method::GET, "/v1/at/n2/v1/cluster", ""),
    ("relay events", Method::GET, "/v1/at/n2/v1/events", ""),
    ("relay identity", Method::GET, "/v1/at/n2/v1/identity", ""),
    ("relay doctor", Method::GET, "/v1/at/n2/v1/doctor", ""),
    ("relay trail", Method::GET, "/v1/at/n2/v1/trail", ""),
    ("relay logs", Method::GET, "/v1/at/n2/v1/logs?instance=web@n2&last=1", ""),
    ("relay leftovers", Method::GET, "/v1/at/n2/v1/leftovers", ""),
    ("relay probe", Method::GET, "/v1/at/n2/v1/probe?instance=web@n2", ""),
    ("relay watch", Method::GET, "/v1/at/n2/v1/watch?node=n2", ""),
    ("relay relay", Method::GET, "/v1/at/n2/v1/at/n1/v1/node", ""),
    ("relay order", Method::POST, "/v1/at/n2/v1/order", ORDER_THERE),
    ("relay force", Method::POST, "/v1/at/n2/v1/order", FORCE_THERE),
    ("relay invite", Method::POST, "/v1/at/n2/v1/invite", INVITE),
    ("relay join", Method::POST, "/v1/at/n2/v1/join", JOIN),
    ("relay reload", Method::POST, "/v1/at/n2/v1/reload", ""),
    ("relay generation", Method::GET, "/v1/at/n2/v1/generation", ""),
    ("relay config", Method::GET, "/v1/at/n2/v1/config", ""),
    ("relay stage", Method::POST, "/v1/at/n2/v1/stage", STAGE),
    ("relay switch", Method::POST, "/v1/at/n2/v1/switch", "{\"hash\":\"none\"}"),
];
/// What nobody takes, and not everybody is refused for that reason.
const STAGE: &str = r#"{"generation":{"number":1,"hash":"none"},"sources":{"cluster":{"path":"","text":""},"folder":"","units":{}}}"#;

/// Whoever adds a call says here who may make it, directly and through another agent.
#[test]
fn every_call_has_its_row() {
    for (method, path, _) in clusterd::api::caller::CALLS {
        let has = |prefix: &str| {
            CALLS
                .iter()
                .any(|(_, m, p, _)| m == method && p.split('?').next() == Some(&format!("{prefix}{path}")))
        };
        assert!(has(""), "{method} {path} has no row");
        assert!(has("/v1/at/n2"), "{method} {path} through another agent has no row");
    }
}

/// What is said to go over the wire is what can be asked for.
#[test]
fn every_call_is_told_of_and_no_other() {
    let text = include_str!("../src/api/wire.rs");
    let rows = text.lines().filter_map(|line| line.strip_prefix("//! | `"));
    let calls = rows.filter_map(|row| row.split(['?', '`', ' ']).take(2).collect::<Vec<_>>().try_into().ok());
    let told: BTreeSet<String> = calls.map(|[method, path]: [&str; 2]| format!("{method} {path}")).collect();
    let known = clusterd::api::caller::CALLS.iter().map(|(method, path, _)| format!("{method} {path}"));
    assert_eq!(told, known.collect());
}
/// Over at once, so that the door is not open for whoever has no certificate.
const INVITE: &str =
    r#"{"node":"n2","number":"00000000000000000000000000000000","sealed":"","for_ms":0,"by":"test"}"#;
const JOIN: &str = r#"{"node":"n2","number":"00000000000000000000000000000000"}"#;
const ORDER: &str = r#"{"verb":"start","instances":["cache@n1"],"timeout_ms":1000,"by":"test"}"#;
const FORCE: &str = r#"{"verb":"start","instances":["cache@n1"],"force":true,"timeout_ms":1000,"by":"test"}"#;
const ORDER_THERE: &str = r#"{"verb":"start","instances":["web@n2"],"timeout_ms":1000,"by":"test"}"#;
const FORCE_THERE: &str =
    r#"{"verb":"start","instances":["web@n2"],"force":true,"timeout_ms":1000,"by":"test"}"#;

/// What each call gets: `yes`, the right that is missing, or why there was no talk at all.
fn all_calls(target: &Target, security: &Security, on_behalf: Option<&str>) -> String {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut told: Vec<(String, Vec<&str>)> = Vec::new();
    for (name, method, path, body) in CALLS {
        let client = Client::new(target.clone()).secured(security.clone(), None);
        let answer = runtime.block_on(ask(client, method.clone(), path, body, on_behalf));
        match told.iter_mut().find(|(a, _)| *a == answer) {
            Some((_, names)) => names.push(name),
            None => told.push((answer, vec![name])),
        }
    }
    told.into_iter().map(|(answer, names)| format!("{answer}: {}\n", names.join(", "))).collect()
}

async fn ask(
    mut client: Client,
    method: Method,
    path: &str,
    body: &'static str,
    on_behalf: Option<&str>,
) -> String {
    let no = |refusal: &str| no(refusal, &method, path, body);
    if path.starts_with("/v1/watch") {
        return match client.lines(path).await {
            Ok(_) => "yes".into(),
            Err(ClientError::Refused { refusal, .. }) => no(&refusal.error),
            Err(error) => in_short(error),
        };
    }
    match client.raw(method.clone(), path, body.into(), on_behalf).await {
        Ok((StatusCode::FORBIDDEN, body)) => {
            let refusal: serde_json::Value = serde_json::from_slice(&body).unwrap();
            no(refusal["error"].as_str().unwrap())
        }
        Ok((StatusCode::NOT_FOUND, _)) => "no such call".into(),
        // Let in, and refused for what it asks.
        Ok((StatusCode::CONFLICT, _)) => "yes".into(),
        Ok((status, body)) if !status.is_success() => panic!("{status} {body:?}"),
        Ok(_) => "yes".into(),
        Err(error) => in_short(error),
    }
}

fn in_short(error: ClientError) -> String {
    match error {
        ClientError::Distrust { why, .. } => why,
        ClientError::HungUp { .. } => "hung up".into(),
        ClientError::NoAgent { cause, .. } => format!("{:?}", cause.kind()),
        other => panic!("{other:?}"),
    }
}

/// The right that a refusal names: it must name one, and the one that the call takes.
fn no(refusal: &str, method: &Method, path: &str, body: &str) -> String {
    let named = refusal.split_once("lacks the right `").and_then(|(_, rest)| rest.split_once('`'));
    let (right, rest) = named.unwrap_or_else(|| panic!("{method} {path}: {refusal}"));
    let call =
        path.strip_prefix("/v1/at/").and_then(|at| at.split_once('/')).map(|(_, call)| format!("/{call}"));
    let call = call.unwrap_or_else(|| path.to_owned());
    let takes = right_for(method, call.split('?').next().unwrap()).to_string();
    let forced = body.contains("\"force\":true") && right == "admin";
    assert!(right == takes || forced, "{method} {path} takes {takes}: {refusal}");
    match rest.strip_prefix(" of ").and_then(|of| of.split_once(" for ")) {
        Some((of, _)) => format!("lacks {right} of {of}"),
        None => format!("lacks {right}"),
    }
}

#[test]
fn who_may_do_what() {
    let mut cluster = Secured::new("matrix", "group = \"games\"\n");
    let ca = cluster.ca();
    cluster.join_and_start("n1");
    cluster.let_everybody_in();
    cluster.join_and_start("n2");
    wait("the agents to hear each other", || cluster.whole("n1"));
    let n1 = cluster.target(1);
    let calls = |security: &Security| all_calls(&n1, security, None);
    let good = Validity::days(10);

    let stranger = Ca::init(&cluster.file_named("stranger"), cluster.name(), good, None).unwrap();
    let revoked = ca.issue(operator(Role::Admin), good).unwrap();
    let taken = Security::Tls(Arc::new(Tls::new(&Bundle::parse(&revoked.bundle).unwrap()).unwrap()));
    let mut warm = Client::new(n1.clone()).secured(taken.clone(), None);
    cluster.block_on(warm.get::<NodeStatus>("/v1/node")).unwrap();
    cluster.revoke(&revoked.certificate.key.to_string());
    let told = clusterctl(&["reload", "n1", "--socket", &cluster.socket("n1")]);
    assert!(told.code == 0, "{told:?}");

    // Plain HTTP to a TLS port.
    snapbox::assert_data_eq!(
        calls(&Security::Plain),
        snapbox::str![[r#"
hung up: node, cluster, events, identity, doctor, trail, logs, leftovers, probe, watch n2, watch n1, order, force, reload, generation, config, stage, switch, unknown, wrong method, force here, invite, join, relay node, relay cluster, relay events, relay identity, relay doctor, relay trail, relay logs, relay leftovers, relay probe, relay watch, relay relay, relay order, relay force, relay invite, relay join, relay reload, relay generation, relay config, relay stage, relay switch

"#]]
    );
    snapbox::assert_data_eq!(
        calls(&security(&stranger, operator(Role::Admin), good)),
        snapbox::str![[r#"
its certificate is not of the CA in our identity: it is of another cluster, or from before a new CA: node, cluster, events, identity, doctor, trail, logs, leftovers, probe, watch n2, watch n1, order, force, reload, generation, config, stage, switch, unknown, wrong method, force here, invite, join, relay node, relay cluster, relay events, relay identity, relay doctor, relay trail, relay logs, relay leftovers, relay probe, relay watch, relay relay, relay order, relay force, relay invite, relay join, relay reload, relay generation, relay config, relay stage, relay switch

"#]]
    );
    snapbox::assert_data_eq!(
        calls(&taken),
        snapbox::str![[r#"
it refuses our certificate: its key is revoked: node, cluster, events, identity, doctor, trail, logs, leftovers, probe, watch n2, watch n1, order, force, reload, generation, config, stage, switch, unknown, wrong method, force here, invite, join, relay node, relay cluster, relay events, relay identity, relay doctor, relay trail, relay logs, relay leftovers, relay probe, relay watch, relay relay, relay order, relay force, relay invite, relay join, relay reload, relay generation, relay config, relay stage, relay switch

"#]]
    );
    // A connection from before the revocation is of no use either.
    let refused = cluster.block_on(warm.get::<NodeStatus>("/v1/node")).unwrap_err();
    assert!(refused.to_string().contains("revoked"), "{refused}");

    // The dates change nothing.
    let admin = snapbox::str![[r#"
yes: node, cluster, events, identity, doctor, trail, logs, leftovers, probe, watch n2, watch n1, order, force, reload, generation, config, stage, switch, force here, invite, relay node, relay cluster, relay events, relay identity, relay doctor, relay trail, relay logs, relay leftovers, relay probe, relay order, relay reload, relay generation
no such call: unknown, wrong method, relay watch, relay relay, relay join
lacks join: join
lacks admin: relay force, relay invite, relay stage, relay switch
lacks agent: relay config

"#]];
    for validity in
        [good, Validity { from: 1, until: 2 }, Validity { from: 9_000_000_000, until: 9_000_000_001 }]
    {
        snapbox::assert_data_eq!(calls(&security(&ca, operator(Role::Admin), validity)), admin.clone());
    }
    snapbox::assert_data_eq!(
        calls(&security(&ca, operator(Role::Operate), good)),
        snapbox::str![[r#"
yes: node, cluster, events, identity, doctor, trail, logs, leftovers, probe, order, reload, generation, relay node, relay cluster, relay events, relay identity, relay doctor, relay trail, relay logs, relay leftovers, relay probe, relay order, relay reload, relay generation
lacks agent: watch n2, watch n1, config, relay config
lacks admin: force, stage, switch, unknown, wrong method, force here, invite, relay force, relay invite, relay stage, relay switch
lacks join: join
no such call: relay watch, relay relay, relay join

"#]]
    );
    snapbox::assert_data_eq!(
        calls(&security(&ca, operator(Role::Read), good)),
        snapbox::str![[r#"
yes: node, cluster, events, identity, doctor, trail, logs, leftovers, probe, generation, relay node, relay cluster, relay events, relay identity, relay doctor, relay trail, relay logs, relay leftovers, relay probe, relay generation
lacks agent: watch n2, watch n1, config, relay config
lacks operate: order, force, reload, force here, relay order, relay force, relay reload
lacks admin: stage, switch, unknown, wrong method, invite, relay invite, relay stage, relay switch
lacks join: join
no such call: relay watch, relay relay, relay join

"#]]
    );
    // Another node's agent, for itself and for an operator.
    let n2 = security(&ca, node("n2"), good);
    snapbox::assert_data_eq!(
        calls(&n2),
        snapbox::str![[r#"
yes: node, watch n2, generation, config, relay node, relay generation, relay config
lacks read: cluster, events, identity, doctor, trail, logs, leftovers, probe, relay cluster, relay events, relay identity, relay doctor, relay trail, relay logs, relay leftovers, relay probe
lacks agent of node n1: watch n1
lacks operate: order, force, reload, force here, relay order, relay force, relay reload
lacks admin: stage, switch, unknown, wrong method, invite, relay invite, relay stage, relay switch
lacks join: join
no such call: relay watch, relay relay, relay join

"#]]
    );
    snapbox::assert_data_eq!(
        all_calls(&n1, &n2, Some("admin root, or so he says")),
        snapbox::str![[r#"
yes: node, cluster, events, identity, doctor, trail, logs, leftovers, probe, watch n2, order, reload, generation, relay node, relay cluster, relay events, relay identity, relay doctor, relay trail, relay logs, relay leftovers, relay probe, relay order, relay reload, relay generation
lacks agent of node n1: watch n1
lacks admin: force, stage, switch, unknown, wrong method, force here, invite, relay force, relay invite, relay stage, relay switch
lacks agent: config, relay config
lacks join: join
no such call: relay watch, relay relay, relay join

"#]]
    );
    // Nobody at all: TLS without a certificate.
    snapbox::assert_data_eq!(
        without_certificate(&cluster, &n1),
        snapbox::str!["received fatal alert: CertificateRequired"]
    );
    // The unix socket: as root, as a member of the group, as a stranger.
    let unix = Target::Unix(cluster.socket("n1").into());
    snapbox::assert_data_eq!(
        all_calls(&unix, &Security::Plain, None),
        snapbox::str![[r#"
yes: node, cluster, events, identity, doctor, trail, logs, leftovers, probe, watch n2, watch n1, order, force, reload, generation, config, stage, switch, force here, invite, relay node, relay cluster, relay events, relay identity, relay doctor, relay trail, relay logs, relay leftovers, relay probe, relay order, relay reload, relay generation
no such call: unknown, wrong method, relay watch, relay relay, relay join
lacks join: join
lacks admin: relay force, relay invite, relay stage, relay switch
lacks agent: relay config

"#]]
    );
    snapbox::assert_data_eq!(
        as_nobody(&cluster, Some("games")),
        snapbox::str![[r#"
yes: node, cluster, events, identity, doctor, trail, logs, leftovers, probe, order, reload, generation, relay node, relay cluster, relay events, relay identity, relay doctor, relay trail, relay logs, relay leftovers, relay probe, relay order, relay reload, relay generation
lacks agent: watch n2, watch n1, config, relay config
lacks admin: force, stage, switch, unknown, wrong method, force here, invite, relay force, relay invite, relay stage, relay switch
lacks join: join
no such call: relay watch, relay relay, relay join

"#]]
    );
    snapbox::assert_data_eq!(
        as_nobody(&cluster, None),
        snapbox::str![[r#"
PermissionDenied: node, cluster, events, identity, doctor, trail, logs, leftovers, probe, watch n2, watch n1, order, force, reload, generation, config, stage, switch, unknown, wrong method, force here, invite, join, relay node, relay cluster, relay events, relay identity, relay doctor, relay trail, relay logs, relay leftovers, relay probe, relay watch, relay relay, relay order, relay force, relay invite, relay join, relay reload, relay generation, relay config, relay stage, relay switch

"#]]
    );
}

/// What the agent says to one who speaks TLS and shows nothing.
fn without_certificate(cluster: &Secured, target: &Target) -> String {
    use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
    #[derive(Debug)]
    struct Credulous;
    impl ServerCertVerifier for Credulous {
        fn verify_server_cert(
            &self,
            _: &rustls::pki_types::CertificateDer<'_>,
            _: &[rustls::pki_types::CertificateDer<'_>],
            _: &rustls::pki_types::ServerName<'_>,
            _: &[u8],
            _: rustls::pki_types::UnixTime,
        ) -> Result<ServerCertVerified, rustls::Error> {
            Ok(ServerCertVerified::assertion())
        }
        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &rustls::pki_types::CertificateDer<'_>,
            _: &rustls::DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            Ok(HandshakeSignatureValid::assertion())
        }
        fn verify_tls13_signature(
            &self,
            _: &[u8],
            _: &rustls::pki_types::CertificateDer<'_>,
            _: &rustls::DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            Ok(HandshakeSignatureValid::assertion())
        }
        fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
            rustls::crypto::ring::default_provider().signature_verification_algorithms.supported_schemes()
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Credulous))
        .with_no_client_auth();
    let Target::Tcp(address) = target else { panic!("{target}") };
    let talk = async {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let stream = tokio::net::TcpStream::connect(address).await?;
        let name = rustls::pki_types::ServerName::try_from("n1").unwrap();
        let mut stream = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
        stream.write_all(b"GET /v1/node HTTP/1.1\r\nhost: agent\r\n\r\n").await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    match cluster.block_on(talk) {
        Ok(answer) => format!("an answer: {answer}"),
        Err(e) => e.to_string(),
    }
}

/// All calls over the unix socket of n1, by the user `nobody`: this program once more, as him.
fn as_nobody(cluster: &Secured, group: Option<&str>) -> String {
    let mut command = std::process::Command::new("setpriv");
    command.args(["--reuid", "nobody", "--regid", "nogroup"]);
    match group {
        Some(group) => command.args(["--groups", group]),
        None => command.arg("--clear-groups"),
    };
    command.arg("--").arg(std::env::current_exe().unwrap());
    command.args(["--exact", "asked_by_somebody_else", "--ignored", "--nocapture"]);
    command.env("ASK_AT", cluster.socket("n1"));
    let told = agents::told(command);
    let calls = told.out.split("---\n").nth(1).unwrap_or_else(|| panic!("{told:?}"));
    calls.to_owned()
}

#[test]
#[ignore = "run by `who_may_do_what` as another user"]
fn asked_by_somebody_else() {
    let socket = std::env::var("ASK_AT").expect("the socket");
    println!("---\n{}---", all_calls(&Target::Unix(socket.into()), &Security::Plain, None));
}

/// As other users of this machine: `clusterctl` itself, run as them.
#[test]
fn the_unix_socket_is_for_root_and_one_group() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: only root can be somebody else");
        return;
    }
    // A group and users that every Debian has.
    let mut cluster = Secured::new("group", "group = \"games\"\n");
    cluster.join_and_start("n1");
    cluster.let_everybody_in();
    wait("the agent to answer", || cluster.status("n1"));
    let socket = cluster.socket("n1");
    let member =
        |args: &[&str]| cluster.as_user("nobody", Some("games"), &[args, &["--socket", &socket]].concat());
    let told = member(&["events", "cache@n1"]);
    assert!(told.code == 0, "{told:?}");
    let told = member(&["start", "cache@n1", "--no-wait"]);
    assert!(!told.text().contains("lacks"), "{told:?}");
    let told = member(&["start", "cache@n1", "--force", "--no-wait"]);
    assert!(told.text().contains("lacks the right `admin`"), "{told:?}");
    let told = cluster.as_user("nobody", None, &["events", "cache@n1", "--socket", &socket]);
    assert!(told.code != 0 && told.text().contains("this user may not open it"), "{told:?}");
}

#[test]
fn an_agent_without_a_certificate_starts_its_services_and_says_what_to_type() {
    let mut cluster = Secured::new("missing", "");
    cluster.start("n1");
    wait("the cache to be ready", || cluster.pid_if("n1", "cache@n1", "ready"));
    let status = cluster.status("n1").unwrap().to_string();
    assert!(status.contains("this node has no certificate"), "{status}");
    assert!(
        status.contains("clusterctl pki issue n1") && status.contains("clusterd join n1.pem"),
        "{status}"
    );
    let closed = cluster.block_on(Client::new(cluster.target(1)).get::<NodeStatus>("/v1/node")).unwrap_err();
    assert!(closed.is_no_agent(), "{closed}");

    // Taken in while it runs.
    cluster.join("n1");
    let asks = security(&cluster.ca(), operator(Role::Read), Validity::days(1));
    wait("it to be reached", || {
        let mut client = Client::new(cluster.target(1)).secured(asks.clone(), Some("n1"));
        cluster.block_on(client.get::<NodeStatus>("/v1/node")).ok()
    });
    assert!(!cluster.status("n1").unwrap().to_string().contains("no certificate"));
}

#[test]
fn dates_are_reported_and_stop_nothing() {
    let mut cluster = Secured::new("dates", "");
    let ca = cluster.ca();
    for (node_name, validity) in [
        ("n1", Validity { from: 1, until: 2 }),
        ("n2", Validity { from: 9_000_000_000, until: 9_100_000_000 }),
    ] {
        let issued = ca.issue(node(node_name), validity).unwrap();
        cluster.hand_out(node_name, &issued.bundle);
        cluster.join(node_name);
        cluster.start(node_name);
    }
    let whole: ClusterStatus = wait("the agents to hear each other", || cluster.whole("n1"));
    let said = |n: usize| whole.nodes[n].status.as_ref().unwrap().problems.join("\n");
    assert!(said(0).contains("has expired, and goes on being used"), "{}", said(0));
    assert!(said(1).contains("is not valid yet by this machine's clock"), "{}", said(1));
    wait("the web server to be ready", || cluster.pid_if("n2", "web@n2", "ready"));
}

#[test]
fn join_takes_in_what_is_this_nodes_and_nothing_else() {
    let cluster = Secured::new("join", "");
    let ca = cluster.ca();
    let bundle = |ca: &Ca, who: Who| ca.issue(who, Validity::days(1)).unwrap().bundle;
    let refused = |text: &str, why: &str| {
        cluster.hand_out("n1", text);
        let told = cluster.try_join("n1");
        assert!(told.code != 0 && told.text().contains(why), "{why}: {told:?}");
        assert!(!told.text().contains("PRIVATE KEY"));
        assert!(!cluster.identity("n1").exists() || why.contains("another CA"), "{why}");
    };
    let mine = bundle(&ca, node("n1"));
    refused(&bundle(&ca, node("n2")), "it is for node n2, and this is n1");
    refused(&bundle(&ca, operator(Role::Admin)), "it is for operator alice (admin)");
    let other = Ca::init(&cluster.file_named("other"), "elsewhere", Validity::days(1), None).unwrap();
    refused(&bundle(&other, node("n1")), "it is for cluster elsewhere");
    refused(&mine[..mine.len() - 40], "damaged or was cut short");
    refused("", "damaged or was cut short");

    cluster.hand_out("n1", &mine);
    let file = cluster.handed_out("n1");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let told = cluster.try_join("n1");
    assert!(told.code != 0 && told.text().contains("chmod 600"), "{told:?}");

    cluster.hand_out("n1", &mine);
    assert!(cluster.try_join("n1").text().contains("n1 has joined cluster"));
    let told = cluster.try_join("n1");
    assert!(told.code == 0 && told.text().contains("already"), "{told:?}");
    assert_eq!(fs::metadata(cluster.identity("n1")).unwrap().permissions().mode() & 0o777, 0o600);

    // A new certificate of the same CA is taken; one of another CA is not.
    cluster.hand_out("n1", &bundle(&ca, node("n1")));
    assert!(cluster.try_join("n1").code == 0);
    let false_ca = Ca::init(&cluster.file_named("false"), cluster.name(), Validity::days(1), None).unwrap();
    refused(&bundle(&false_ca, node("n1")), "another CA");
}

#[test]
fn from_nothing_to_a_cluster_by_hand() {
    let mut cluster = Secured::new("by-hand", "");
    let dir = cluster.file_named("mine");
    fs::create_dir(&dir).unwrap();
    let (file, at) = (cluster.file(), dir.to_str().unwrap().to_owned());
    let pki = |args: &[&str]| {
        let ca = dir.join("ca");
        clusterctl(
            &[&["pki", "--config", file.to_str().unwrap(), "--ca", ca.to_str().unwrap()], args].concat(),
        )
    };
    assert!(pki(&["init"]).code == 0);
    assert!(pki(&["init"]).code != 0, "a second CA in its place");
    let told = pki(&["bundle", "--out", &at]);
    assert!(told.code == 0 && told.text().contains("on n2: clusterd join n2.pem"), "{told:?}");
    for name in ["n1", "n2"] {
        let path = dir.join(format!("{name}.pem"));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let joined = clusterd_join(&path, name, &cluster.file(), &cluster.state(name));
        assert!(joined.code == 0, "{joined:?}");
        cluster.start(name);
    }
    wait("the agents to hear each other", || cluster.whole("n1"));
    assert!(pki(&["operator", "alice", "--role", "read", "--out", &at]).code == 0);
    let alice = dir.join("alice.pem");
    let config = cluster.file();
    let as_alice = |args: &[&str]| {
        let who = ["--identity", alice.to_str().unwrap(), "--config", config.to_str().unwrap()];
        clusterctl(&[args, &who].concat())
    };
    let agent = cluster.target(1).to_string();
    assert!(as_alice(&["events", "--direct"]).code == 0);
    assert!(as_alice(&["events", "--agent", &agent]).code == 0);
    let told = as_alice(&["stop", "web", "--direct"]);
    assert!(told.text().contains("operator alice (read) lacks the right `operate`"), "{told:?}");

    let shown = pki(&["show"]);
    assert!(shown.text().contains("operator alice (read)") && shown.text().contains("valid"), "{shown:?}");
    let told = pki(&["revoke", "alice"]);
    let line = told.text();
    let key = line.split('"').nth(1).expect("a key in quotes");
    cluster.revoke(key);
    assert!(clusterctl(&["reload", "--socket", &cluster.socket("n1")]).code == 0);
    let told = as_alice(&["events", "--agent", &agent]);
    assert!(told.code != 0 && told.text().contains("its key is revoked"), "{told:?}");
    assert!(pki(&["show"]).text().contains("revoked"));
    assert!(pki(&["revoke", "nobody"]).code != 0);
    assert!(pki(&["issue", "n9", "--out", &at]).code != 0);
}

/// Root on one node may do as it likes there. Others take what an administrator has signed.
#[test]
fn a_node_that_was_down_takes_what_an_administrator_signed_and_nothing_else() {
    let mut cluster = Secured::new("signed", "");
    let ca = cluster.ca();
    ["n1", "n2"].iter().for_each(|node| cluster.give_own_file(node));
    cluster.join_and_start("n1");
    wait("n1 to answer", || cluster.status("n1"));
    let identity = |role: Role| {
        let name = format!("alice-{role}");
        cluster.hand_out(&name, &ca.issue(operator(role), Validity::days(1)).unwrap().bundle);
        cluster.handed_out(&name).to_str().unwrap().to_owned()
    };
    let (admin, operate) = (identity(Role::Admin), identity(Role::Operate));
    let text = fs::read_to_string(cluster.file()).unwrap();
    fs::write(cluster.file(), format!("# one\n{text}")).unwrap();
    let file = cluster.file().to_str().unwrap().to_owned();
    let apply = |identity: &str| {
        clusterctl(&[
            "apply",
            &file,
            "--yes",
            "--reachable",
            "--reason",
            "a line more",
            "--identity",
            identity,
        ])
    };

    let refused = apply(&operate);
    assert!(refused.code != 0 && refused.text().contains("lacks the right"), "{refused:?}");
    let applied = apply(&admin);
    assert_eq!(applied.code, 0, "{applied:?}");
    cluster.join_and_start("n2");
    let generation = |node: &str| Some(cluster.node_status(node)?.generation);
    let taken = wait("n2 to take it", || generation("n2").filter(|g| g.number == 1));
    let trail = cluster.ctl("n1", &["audit", "n1", "--json"]).out;
    assert_eq!(trail.matches("a line more").count(), 2, "kept aside, put in force: {trail}");
    assert_eq!(Some(&taken), generation("n1").as_ref());

    let sources = Sources::read(&cluster.file(), None).unwrap();
    let forged = Sources { cluster: Source { text: format!("# two\n{text}"), ..sources.cluster }, ..sources };
    let next = Generation::after(&taken, &[], forged.hash(), "alice@lvs1".into());
    let offer = serde_json::json!({ "generation": next, "sources": forged }).to_string();
    assert!(cluster.http("n1", "POST /v1/stage", &offer).is_some());
    let switch = serde_json::json!({ "hash": next.hash }).to_string();
    assert!(cluster.http("n1", "POST /v1/switch", &switch).is_some());
    wait("n2 to refuse it", || {
        let said = cluster.node_status("n2")?.problems.join("\n");
        said.contains("n1 has generation 2")
            .then(|| assert!(said.contains("not signed by an administrator"), "{said}"))
    });
    assert_eq!(generation("n2").unwrap(), taken);

    // A seal of something else is none.
    let mut offer: serde_json::Value = serde_json::from_str(&offer).unwrap();
    let config = cluster.http("n2", "GET /v1/config", "").unwrap();
    offer["seal"] = serde_json::from_str::<serde_json::Value>(&config).unwrap()["seal"].clone();
    assert!(offer["seal"].is_object());
    assert!(cluster.http("n2", "POST /v1/stage", &offer.to_string()).is_none());
}

/// `clusterd join --token` on a node, with its state in this folder, and what is typed.
fn join_by(cluster: &Secured, node: &str, state: &str, more: &[&str], typed: &str) -> agents::Told {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_clusterd"));
    command.args(["join", "--token", "--node", node, "--config"]).arg(cluster.file());
    command.arg("--state").arg(cluster.file_named(state)).args(more);
    agents::told_typing(command, typed)
}

#[test]
fn a_node_without_a_certificate_joins_by_a_token_and_only_once() {
    let mut cluster = Secured::new("invite", "");
    cluster.join_and_start("n1");
    wait("the agent to answer", || cluster.status("n1"));
    let invite = |cluster: &Secured, more: &[&str]| {
        let (file, ca, socket) = (cluster.file(), cluster.file_named("ca"), cluster.socket("n1"));
        let mut args =
            vec!["pki", "invite", "n2", "--reason", "it is new", "--config", file.to_str().unwrap()];
        args.extend(["--ca", ca.to_str().unwrap()]);
        args.extend(more);
        if !more.contains(&"--agent") {
            args.extend(["--socket", &socket]);
        }
        clusterctl(&args)
    };
    let target = cluster.target(1);
    let stranger = || {
        let client = Client::new(target.clone());
        client.secured(Security::Stranger(clusterd::pki::stranger().unwrap()), None)
    };
    // Nobody is expected: whoever has no certificate is not even listened to.
    let told = join_by(&cluster, "n2", "n2/state", &[], "00000000-00000000-00000000-00000000\n");
    assert!(told.code != 0 && told.err.contains("no agent has an invitation for this token"), "{told:?}");
    assert!(cluster.block_on(stranger().get::<NodeStatus>("/v1/node")).is_err());
    let told = join_by(&cluster, "n2", "n2/state", &[], "not a token\n");
    assert!(told.code != 0 && told.err.contains("that is no token"), "{told:?}");

    // Who may only look invites nobody, and no certificate is left on record.
    let alice = Who::Operator { name: "alice".into(), role: Role::Read };
    cluster.hand_out("alice", &cluster.ca().issue(alice, Validity::days(1)).unwrap().bundle);
    let (who, at) = (cluster.handed_out("alice"), cluster.target(1).to_string());
    let told = invite(&cluster, &["--agent", &at, "--identity", who.to_str().unwrap()]);
    assert!(told.code != 0 && told.err.contains("lacks the right `admin`"), "{told:?}");
    assert!(cluster.ca().issued().unwrap().iter().all(|c| c.name.who != node("n2")));

    let told = invite(&cluster, &[]);
    let token = told.out.trim().to_owned();
    assert!(told.code == 0 && token.len() == 35 && told.err.contains("clusterd join --token"), "{told:?}");
    // Now strangers may knock, and see nothing; n2, which is not there, they reach through nobody.
    let unknown = Security::Stranger(clusterd::pki::stranger().unwrap());
    snapbox::assert_data_eq!(
        all_calls(&cluster.target(1), &unknown, None),
        snapbox::str![[r#"
lacks read: node, cluster, events, identity, doctor, trail, logs, leftovers, probe, generation, relay node, relay cluster, relay events, relay identity, relay doctor, relay trail, relay logs, relay leftovers, relay probe, relay generation
lacks agent: watch n2, watch n1, config, relay config
lacks operate: order, force, reload, force here, relay order, relay force, relay reload
lacks admin: stage, switch, unknown, wrong method, invite, relay invite, relay stage, relay switch
yes: join
no such call: relay watch, relay relay, relay join

"#]]
    );
    // The name is part of it: on another node it is worth nothing, and is not used up by that.
    let from = &["--from", at.as_str()];
    let told = join_by(&cluster, "n1", "elsewhere", from, &token);
    assert!(told.code != 0 && told.err.contains("the invitation is not for node n1"), "{told:?}");

    // An agent that is replaced has it still, and one that gave it away knows that.
    let again = |cluster: &mut Secured| {
        cluster.kill("n1");
        cluster.start("n1");
        wait("the next agent to answer", || cluster.status("n1"));
    };
    again(&mut cluster);
    let told = join_by(&cluster, "n2", "n2/state", &[], &format!("{}\n", token.to_uppercase()));
    assert!(told.code == 0 && told.out.contains("n2 has joined cluster"), "{told:?}");
    again(&mut cluster);
    let told = join_by(&cluster, "n2", "thief", from, &token);
    assert!(told.code != 0 && told.err.contains("was taken already, from 127."), "{told:?}");
    assert!(!cluster.file_named("thief").join("identity.pem").exists());
    let told = invite(&cluster, &["--for", "1ms"]);
    assert_eq!(told.code, 0, "{told:?}");
    let told = join_by(&cluster, "n2", "late", from, &told.out);
    assert!(told.code != 0 && told.err.contains("no invitation for this token is open here"), "{told:?}");

    cluster.start("n2");
    wait("the agents to hear each other", || cluster.whole("n1"));
    let trail = cluster.ctl("n1", &["audit"]).text();
    assert!(
        trail.contains("invite n2, typed by")
            && trail.contains("it is new")
            && trail.contains("the sealed bundle of n2 was"),
        "{trail}"
    );
    assert!(!trail.contains(&token), "{trail}");
}

/// A CA whose key has a passphrase: who has the folder alone issues nothing.
#[test]
fn the_cas_key_may_have_a_passphrase() {
    use std::process::Command;
    let cluster = Secured::new("passphrase", "");
    let dir = cluster.file_named("mine");
    fs::create_dir(&dir).unwrap();
    let (first, second) = ("correct horse battery", "staple & other things");
    let secret = |name: &str, text: &str| {
        fs::write(dir.join(name), text).unwrap();
        fs::set_permissions(dir.join(name), fs::Permissions::from_mode(0o600)).unwrap();
    };
    secret("first", &format!("{first}\n"));
    secret("second", second);
    let told = std::cell::RefCell::new(String::new());
    let typing = |args: &[&str], typed: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_clusterctl"));
        command.env_clear().current_dir(&dir).env("CREDENTIALS_DIRECTORY", &dir);
        command.arg("pki").args(args).args(["--ca", "ca", "--config"]).arg(cluster.file());
        let said = agents::told_typing(command, typed);
        told.borrow_mut().push_str(&said.text());
        said
    };
    let pki = |args: &[&str]| typing(args, "");
    let of_file = ["--passphrase-file", "first"];

    let short = typing(&["init", "--passphrase"], "seven77\n");
    assert!(short.code != 0 && short.err.contains("fewer than 8 characters"), "{short:?}");
    assert_eq!(typing(&["init", "--passphrase"], &format!("{first}\n")).code, 0);
    let pem = fs::read_to_string(dir.join("ca/ca.pem")).unwrap();
    assert!(pem.contains("BEGIN ENCRYPTED PRIVATE KEY") && !pem.contains("BEGIN PRIVATE KEY"), "{pem}");

    // Whoever signs is asked, and whoever only looks is not.
    for verb in [
        &["bundle"][..],
        &["issue", "n1"],
        &["operator", "bob", "--role", "read"],
        &["invite", "n1"],
        &["rotate", "--begin"],
        &["passphrase", "--remove"],
    ] {
        let none = pki(verb);
        assert!(none.code == 1 && none.err.contains("no passphrase of the CA's key was given"), "{none:?}");
        let wrong = typing(verb, &format!("{second}\n"));
        assert!(wrong.code == 1 && wrong.err.contains("is not the one of the CA's key"), "{wrong:?}");
    }
    assert_eq!(cluster.ca().issued().unwrap().len(), 0);
    assert_eq!(pki(&["show"]).code, 0);
    assert_eq!(typing(&["issue", "n1"], &format!("{first}\n")).code, 0);
    assert_eq!(pki(&[&["bundle"], &of_file[..]].concat()).code, 0);
    assert_eq!(pki(&["operator", "bob", "--role", "read", "--passphrase-credential", "first"]).code, 0);
    let gone = pki(&["issue", "n2", "--passphrase-credential", "../first"]);
    assert!(gone.code == 2 && gone.err.contains("LoadCredential=../first"), "{gone:?}");
    assert_eq!(pki(&["revoke", "bob"]).code, 0);
    fs::set_permissions(dir.join("first"), fs::Permissions::from_mode(0o644)).unwrap();
    let open = pki(&[&["issue", "n2"], &of_file[..]].concat());
    assert!(open.code != 0 && open.err.contains("chmod 600"), "{open:?}");
    fs::set_permissions(dir.join("first"), fs::Permissions::from_mode(0o600)).unwrap();

    // A new CA has the passphrase of the one before.
    fs::create_dir(dir.join("new")).unwrap();
    assert_eq!(pki(&[&["rotate", "--begin", "--out", "new"], &of_file[..]].concat()).code, 0);
    let ours = |pass: &str| {
        let openssl = Command::new("openssl")
            .args(["pkcs8", "-in", "ca/ca.pem", "-passin", &format!("file:{pass}")])
            .current_dir(&dir)
            .output();
        match openssl {
            Ok(done) => done.status.success().then(|| String::from_utf8(done.stdout).unwrap()),
            Err(e) => {
                eprintln!("skipped: openssl: {e}");
                None
            }
        }
    };
    let has_openssl = Command::new("openssl").arg("version").output().is_ok();
    let key = ours("first");
    assert_eq!(key.is_some(), has_openssl, "any tool reads it");
    assert_eq!(ours("second"), None);

    let change = [&["passphrase", "--new-passphrase-file", "second"], &of_file[..]].concat();
    assert_eq!(pki(&change).code, 0);
    assert_eq!(ours("second"), key);
    let told_wrong = pki(&change);
    assert!(told_wrong.err.contains("is not the one of the CA's key"), "{told_wrong:?}");
    assert_eq!(pki(&["passphrase", "--remove", "--passphrase-file", "second"]).code, 0);
    let pem = fs::read_to_string(dir.join("ca/ca.pem")).unwrap();
    assert!(pem.contains("BEGIN PRIVATE KEY"));
    assert!(key.is_none_or(|key| pem.replace('\r', "").contains(key.trim())), "the same key");
    assert_eq!(pki(&["issue", "n2", "--out", "new/.."]).code, 1, "its file is there");
    let said = told.borrow();
    assert!(!said.contains(first) && !said.contains(second), "{said}");
}

/// On a terminal it is typed twice, and nobody sees it: not on the screen, and not in what others may read of processes.
#[test]
fn a_passphrase_that_is_typed_is_not_shown() {
    use std::io::{Read, Write};
    use std::process::{Command, Stdio};
    let cluster = Secured::new("typed", "");
    let ca = cluster.file_named("mine");
    let init = |answers: [&str; 2]| {
        let pty = nix::pty::openpty(None, None).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_clusterctl"));
        command.args(["pki", "init", "--passphrase", "--ca"]).arg(&ca).arg("--config").arg(cluster.file());
        command.stdin(pty.slave.try_clone().unwrap()).stdout(pty.slave).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        drop(command);
        let (mut screen, mut asked) = (fs::File::from(pty.master), child.stderr.take().unwrap());
        let mut said = String::new();
        for answer in answers {
            // The question comes when what is typed is not shown any more.
            while !said.trim_end_matches(' ').ends_with(':') {
                let mut byte = [0];
                assert_eq!(asked.read(&mut byte).unwrap(), 1, "{said}");
                said.push(char::from(byte[0]));
            }
            for file in ["cmdline", "environ"] {
                let text = fs::read(format!("/proc/{}/{file}", child.id())).unwrap();
                assert!(!String::from_utf8_lossy(&text).contains(answer));
            }
            said.push('\n');
            screen.write_all(format!("{answer}\n").as_bytes()).unwrap();
        }
        asked.read_to_string(&mut said).unwrap();
        let mut shown = Vec::new();
        let _ = screen.read_to_end(&mut shown); // EIO where all other ends are closed
        let shown = String::from_utf8(shown).unwrap();
        assert!(answers.iter().all(|a| !said.contains(a) && !shown.contains(a)), "{said} {shown}");
        (child.wait().unwrap().success(), said)
    };
    let (done, said) = init(["correct horse", "Correct horse"]);
    assert!(!done && said.contains("not the same") && !ca.join("ca.pem").exists(), "{said}");
    let (done, said) = init(["correct horse", "correct horse"]);
    assert!(done && said.contains("once more:"), "{said}");
    assert!(Ca::open(&ca).unwrap().is_locked());
}

#[test]
fn a_laptop_knows_several_clusters_and_asks_the_current_one() {
    let mut cluster = Secured::new("contexts", "");
    cluster.join_and_start("n1");
    wait("the agent to answer", || cluster.status("n1"));
    let alice = Who::Operator { name: "alice".into(), role: Role::Read };
    cluster.hand_out("alice", &cluster.ca().issue(alice, Validity::days(1)).unwrap().bundle);
    let home = cluster.file_named("home");
    fs::create_dir(&home).unwrap();
    let ctl = |args: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_clusterctl"));
        command.env_clear().env("HOME", &home).args(args);
        agents::told(command)
    };
    let (identity, at) = (cluster.handed_out("alice"), cluster.target(1).to_string());
    let who = ["--identity", identity.to_str().unwrap()];
    let add = |name: &str, at: &str| ctl(&[&["context", "add", name, "--agent", at], &who[..]].concat());
    assert!(ctl(&["context", "list"]).err.contains("context add"));
    assert_eq!(ctl(&["context", "add", "nowhere"]).code, 2);
    assert_eq!(add("here", &at).code, 0);
    // Nobody answers there.
    let told = add("there", "127.0.0.1:1");
    assert!(told.code == 0 && told.err.contains("context use there"), "{told:?}");
    let told = ctl(&["context", "list"]);
    let current = told.out.lines().find(|l| l.starts_with('*')).unwrap_or_default();
    assert!(current.contains("here") && current.contains("operator alice (read)"), "{told:?}");
    let file = home.join(".config/clusterd/contexts.toml");
    assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);

    let events = |more: &[&str]| ctl(&[&["events", "cache@n1"], more].concat()).code;
    assert_eq!(events(&[]), 0);
    assert_eq!(events(&["--context", "there"]), 1);
    assert_eq!(ctl(&["context", "use", "there"]).code, 0);
    assert_eq!(events(&[]), 1);
    assert_eq!(events(&["--context", "here"]), 0);
    // What is said on the command line goes before.
    assert_eq!(events(&["--agent", &at]), 0);
    for nowhere in [&["context", "use", "nowhere"][..], &["events", "--context", "nowhere"]] {
        let told = ctl(nowhere);
        assert!(told.code == 2 && told.err.contains("clusterctl context list"), "{told:?}");
    }
    assert_eq!(ctl(&["context", "remove", "there"]).code, 0);
    assert!(!ctl(&["context", "list", "--json"]).out.contains("there"));
}
