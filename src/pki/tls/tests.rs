use super::super::{Ca, Issued, Role, Validity};
use super::*;
use rustls::{ClientConnection, ServerConnection};
use std::io::{Read, Write};

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Place {
        Place(tempfile::tempdir().unwrap())
    }
    fn ca(&self, name: &str, cluster: &str) -> Ca {
        Ca::init(&self.0.path().join(name), cluster, Validity::days(9000), None).unwrap()
    }
}

fn node(name: &str) -> Who {
    Who::Node(name.into())
}

fn issue(ca: &Ca, who: Who) -> Issued {
    ca.issue(who, Validity::days(90)).unwrap()
}

fn tls(issued: &Issued) -> Tls {
    Tls::new(&Bundle::parse(&issued.bundle).unwrap()).unwrap()
}

/// A handshake in memory, and one byte each way; the first error of either side.
fn meet(
    client: &Tls,
    dials: Option<&str>,
    server: &Tls,
) -> Result<(Certificate, Certificate, bool), rustls::Error> {
    let mut a = ClientConnection::new(client.client.clone(), Tls::dial(dials).unwrap()).unwrap();
    let mut b = ServerConnection::new(server.server.clone()).unwrap();
    let mut wire = Vec::new();
    while a.is_handshaking() || b.is_handshaking() || a.wants_write() || b.wants_write() {
        wire.clear();
        a.write_tls(&mut wire).unwrap();
        b.read_tls(&mut wire.as_slice()).unwrap();
        b.process_new_packets()?;
        wire.clear();
        b.write_tls(&mut wire).unwrap();
        a.read_tls(&mut wire.as_slice()).unwrap();
        a.process_new_packets()?;
    }
    a.writer().write_all(b"x").unwrap();
    wire.clear();
    a.write_tls(&mut wire).unwrap();
    b.read_tls(&mut wire.as_slice()).unwrap();
    b.process_new_packets()?;
    b.reader().read_exact(&mut [0]).unwrap();
    let resumed = b.handshake_kind() == Some(rustls::HandshakeKind::Resumed);
    Ok((client.peer(a.peer_certificates()).unwrap(), server.peer(b.peer_certificates()).unwrap(), resumed))
}

fn refused(client: &Tls, dials: Option<&str>, server: &Tls) -> String {
    format!("{:?}", meet(client, dials, server).unwrap_err())
}

#[test]
fn two_nodes_know_each_other() {
    let place = Place::new();
    let ca = place.ca("ca", "shop");
    let (web, mq) = (tls(&issue(&ca, node("web1"))), tls(&issue(&ca, node("mq1"))));
    for dials in [Some("mq1"), None] {
        let (there, here, _) = meet(&web, dials, &mq).unwrap();
        assert_eq!((there.name.who, here.name.who), (node("mq1"), node("web1")));
    }
}

#[test]
fn the_second_handshake_is_resumed_and_still_knows_who_it_is() {
    let place = Place::new();
    let ca = place.ca("ca", "shop");
    let issued = issue(&ca, node("web1"));
    let (web, mq) = (tls(&issued), tls(&issue(&ca, node("mq1"))));
    assert!(!meet(&web, Some("mq1"), &mq).unwrap().2);
    let (_, here, resumed) = meet(&web, Some("mq1"), &mq).unwrap();
    assert!(resumed);
    assert_eq!(here, issued.certificate);
    // A revocation reaches the resumed connection too, in `Tls::peer`.
    mq.revoke([issued.certificate.key]);
    let chain = [Bundle::parse(&issued.bundle).unwrap().own_der];
    assert!(matches!(mq.peer(Some(&chain)), Err(TlsError::Revoked(_))));
}

#[test]
fn another_ca_is_refused_by_both_sides_though_all_names_are_equal() {
    let place = Place::new();
    let (ours, theirs) = (place.ca("ours", "shop"), place.ca("theirs", "shop"));
    let (web, mq) = (tls(&issue(&ours, node("web1"))), tls(&issue(&theirs, node("mq1"))));
    assert!(refused(&web, Some("mq1"), &mq).contains("UnknownIssuer"));
    let chain = issue(&theirs, node("web1"));
    let stranger = Bundle::parse(&chain.bundle).unwrap().own_der;
    let mine = tls(&issue(&ours, node("mq1")));
    assert!(mine.trust.check(&stranger, KeyUsage::client_auth()).is_err());
}

#[test]
fn a_node_that_answers_for_another_is_refused() {
    let place = Place::new();
    let ca = place.ca("ca", "shop");
    let (web, mq) = (tls(&issue(&ca, node("web1"))), tls(&issue(&ca, node("mq1"))));
    let why = meet(&web, Some("mysql1"), &mq).unwrap_err();
    assert_eq!(in_words(&why).unwrap(), "it is node mq1, not node mysql1");
}

#[test]
fn an_operator_can_ask_and_never_be_asked() {
    let place = Place::new();
    let ca = place.ca("ca", "shop");
    let alice = Who::Operator { name: "alice".into(), role: Role::Read };
    let (alice, web) = (tls(&issue(&ca, alice)), tls(&issue(&ca, node("web1"))));
    assert!(meet(&alice, None, &web).is_ok());
    assert!(meet(&web, None, &alice).is_err());
}

#[test]
fn dates_are_told_and_never_refused() {
    let place = Place::new();
    let ca = place.ca("ca", "shop");
    let web = tls(&issue(&ca, node("web1")));
    for validity in [
        Validity { from: 1_000_000, until: 2_000_000 },
        Validity { from: 9_000_000_000, until: 9_100_000_000 },
    ] {
        let issued = ca.issue(node("mq1"), validity).unwrap();
        assert_eq!(issued.certificate.validity, validity);
        let mq = tls(&issued);
        assert_eq!(meet(&web, Some("mq1"), &mq).unwrap().0.validity, validity);
        assert!(meet(&mq, Some("web1"), &web).is_ok());
    }
    // Out of date does not mean out of the CA.
    let other = place.ca("other", "shop").issue(node("mq1"), Validity { from: 1, until: 2 }).unwrap();
    assert!(refused(&web, Some("mq1"), &tls(&other)).contains("UnknownIssuer"));
}

#[test]
fn a_revoked_key_is_refused_by_those_who_know() {
    let place = Place::new();
    let ca = place.ca("ca", "shop");
    let issued = issue(&ca, node("mq1"));
    let (web, mq) = (tls(&issue(&ca, node("web1"))), tls(&issued));
    web.revoke([issued.certificate.key]);
    assert!(refused(&web, Some("mq1"), &mq).contains("Revoked"));
    assert!(refused(&mq, Some("web1"), &web).contains("Revoked"));
    // A new certificate of the same node is welcome.
    assert!(meet(&web, Some("mq1"), &tls(&issue(&ca, node("mq1")))).is_ok());
    web.revoke([]);
    assert!(meet(&web, Some("mq1"), &mq).is_ok());
}

#[test]
fn a_stolen_certificate_is_nothing_without_its_key() {
    let place = Place::new();
    let ca = place.ca("ca", "shop");
    let (web, mq) = (issue(&ca, node("web1")), issue(&ca, node("mq1")));
    let blocks = |issued: &Issued| {
        let at: Vec<usize> = issued.bundle.match_indices("-----BEGIN").map(|(at, _)| at).collect();
        (issued.bundle[..at[2]].to_owned(), issued.bundle[at[2]..].to_owned())
    };
    let mixed = blocks(&web).0 + &blocks(&mq).1;
    assert!(matches!(Bundle::parse(&mixed), Err(BundleError::OtherKey)));

    // Even one who does not check himself cannot sign the handshake.
    let (bundle, thief) = (Bundle::parse(&web.bundle).unwrap(), Bundle::parse(&mq.bundle).unwrap());
    let mut rogue = tls(&mq);
    let key = thief.certified_key().unwrap().key.clone();
    let certified = rustls::sign::CertifiedKey::new(vec![bundle.own_der.clone()], key);
    let mut config = ClientConfig::clone(&rogue.client);
    config.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(certified));
    rogue.client = Arc::new(config);
    assert!(refused(&rogue, Some("mq1"), &tls(&mq)).contains("BadSignature"));
}

#[test]
fn whoever_shows_no_certificate_is_refused() {
    let place = Place::new();
    let ca = place.ca("ca", "shop");
    let (web, mq) = (tls(&issue(&ca, node("web1"))), tls(&issue(&ca, node("mq1"))));
    let mut nobody = web;
    let mut config = ClientConfig::clone(&nobody.client);
    config.client_auth_cert_resolver = Arc::new(Silent);
    nobody.client = Arc::new(config);
    assert!(refused(&nobody, Some("mq1"), &mq).contains("NoCertificatesPresented"));
}

#[test]
fn a_bundle_that_was_cut_short_is_refused_wherever_it_was_cut() {
    let place = Place::new();
    let issued = issue(&place.ca("ca", "shop"), node("web1"));
    let whole = issued.bundle.trim_end();
    assert!(Bundle::parse(whole).is_ok());
    for length in 0..whole.len() {
        let error = Bundle::parse(&whole[..length]).expect_err("a cut bundle").to_string();
        assert!(!error.contains("PRIVATE"), "{error}");
    }
}

#[test]
fn the_ca_remembers_what_it_issued_and_revoked() {
    let place = Place::new();
    let ca = place.ca("ca", "shop");
    let (web, mq) = (issue(&ca, node("web1")).certificate, issue(&ca, node("mq1")).certificate);
    assert_eq!(ca.issued().unwrap(), [mq.clone(), web.clone()]);
    ca.revoke(&web).unwrap();
    let again = Ca::open(&place.0.path().join("ca")).unwrap();
    assert_eq!((again.issued().unwrap(), again.revoked().unwrap()), (vec![mq], vec![web]));
    // What it issues after it was opened again is of the same CA.
    let (a, b) = (tls(&issue(&ca, node("web1"))), tls(&issue(&again, node("web2"))));
    assert!(meet(&a, Some("web2"), &b).is_ok());
    assert!(Ca::init(&place.0.path().join("ca"), "shop", Validity::days(1), None).is_err());
}

/// Shows no certificate.
#[derive(Debug)]
struct Silent;

impl rustls::client::ResolvesClientCert for Silent {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<rustls::sign::CertifiedKey>> {
        None
    }
    fn has_certs(&self) -> bool {
        false
    }
}
