//! etcd's answers as they should not be, for [`crate::hostile`].

use super::answer::{Failed, Found, Lines, Token, refused, understood};
use super::place::{Access, Place};
use crate::probe::hostile::{Reader, seeds};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

pub const READER: Reader = Reader {
    name: "etcd",
    seeds: of_a_true_one,
    words: &[
        b"\"kvs\":[",
        b"\"key\":\"L3Nob3AvY2x1c3Rlci50b21s\"",
        b"\"key\":\"L3Nob3AvdW5pdHMv",
        b"\"value\":\"",
        b"\"revision\":\"18446744073709551615\"",
        b"\"events\":[{",
        b"\"canceled\":true",
        b"\"error\":\"",
        b"\"code\":16",
        b"\n",
    ],
    read: reads,
    cases: 20_000,
};

/// In the words of Debian's etcd 3.4: ranges, a login, refusals, and what watches tell.
fn of_a_true_one() -> Vec<Vec<u8>> {
    seeds(&[
        r#"{"header":{"cluster_id":"13687592237354136394","member_id":"16799361402843513103","revision":"3","raft_term":"2"},"kvs":[{"key":"L3Nob3AvY2x1c3Rlci50b21s","create_revision":"2","mod_revision":"2","version":"1","value":"W2NsdXN0ZXJdCm5hbWUgPSAic2hvcCIK"},{"key":"L3Nob3AvdW5pdHMvcmVkaXMudG9tbA==","create_revision":"3","mod_revision":"3","version":"1","value":"W3J1bl0KY29tbWFuZCA9IFsiL2Jpbi90cnVlIl0K"}],"count":"2"}"#,
        r#"{"header":{"cluster_id":"13687592237354136394","member_id":"16799361402843513103","revision":"1","raft_term":"2"}}"#,
        r#"{"header":{"cluster_id":"13687592237354136394","member_id":"16799361402843513103","revision":"3","raft_term":"2"},"token":"uDuwUTnTuTRPEqHs.13"}"#,
        r#"{"error":"etcdserver: user name is empty","message":"etcdserver: user name is empty","code":3}"#,
        r#"{"error":"etcdserver: permission denied","message":"etcdserver: permission denied","code":7}"#,
        r#"{"error":"etcdserver: invalid auth token","message":"etcdserver: invalid auth token","code":16}"#,
        r#"{"error":"etcdserver: authentication is not enabled","message":"etcdserver: authentication is not enabled","code":9}"#,
        concat!(
            r#"{"result":{"header":{"cluster_id":"13687592237354136394","member_id":"16799361402843513103","revision":"3","raft_term":"2"},"created":true}}"#,
            "\n",
            r#"{"result":{"header":{"revision":"3","raft_term":"2"},"events":[{"kv":{"key":"L3Nob3AvY2x1c3Rlci50b21s","create_revision":"2","mod_revision":"2","version":"1","value":"W2NsdXN0ZXJdCm5hbWUgPSAic2hvcCIK"}}]}}"#,
            "\n"
        ),
        concat!(
            r#"{"result":{"header":{"cluster_id":"13687592237354136394","raft_term":"2"},"canceled":true,"compact_revision":"3"}}"#,
            "\n"
        ),
        concat!(
            r#"{"result":{"header":{"revision":"3"},"watch_id":"-1","created":true,"canceled":true,"cancel_reason":"rpc error: code = PermissionDenied desc = etcdserver: permission denied"}}"#,
            "\n"
        ),
        concat!(r#"{"error":{"grpc_code":14,"http_code":503,"message":"etcdserver: no leader"}}"#, "\n"),
    ])
}

fn reads(bytes: &[u8]) {
    let server = SocketAddr::from((Ipv4Addr::new(10, 0, 0, 1), 2379));
    match understood::<Found>(server, bytes) {
        Ok(found) => {
            assert!(found.next_revision() > 0);
            is_configuration(&found, bytes.len());
        }
        Err(why) => is_readable(&why),
    }
    if let Err(why) = understood::<Token>(server, bytes) {
        is_readable(&why);
    }
    if let Failed::Other(why) = refused(server, 500, bytes, None) {
        is_readable(&why);
    }
    // A stream may be cut anywhere.
    let whole = Lines::default().take(bytes);
    let (one, other) = bytes.split_at(bytes.len() / 2);
    let mut lines = Lines::default();
    let in_two = match lines.take(one) {
        Ok(false) => lines.take(other),
        ended => ended,
    };
    assert_eq!(whole, in_two);
    if let Err(why) = whole {
        is_readable(&why);
    }
}

/// No more comes of it than was told, and no name of a file leads anywhere else.
fn is_configuration(found: &Found, told: usize) {
    let place = Place::read(Path::new("etcd://10.0.0.1:2379/shop"), Access::default());
    let place = place.expect("it is in etcd").expect("a place");
    match place.sources(found) {
        Ok(sources) => {
            let units: usize = sources.units.values().map(|unit| unit.text.len()).sum();
            assert!(sources.cluster.text.len() + units <= told);
            assert!(sources.units.keys().all(|name| !name.contains('/') && !name.starts_with('.')));
        }
        Err(why) => is_readable(&why),
    }
}

/// A sentence that an operator's terminal bears.
fn is_readable(why: &str) {
    assert!(!why.contains(char::is_control) && why.chars().count() < 1000, "{why:?}");
}
