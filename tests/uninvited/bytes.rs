//! Hostile bytes for a running agent: the API's decoder and the TLS port. They grow from a corpus of true ones, by chance
//! from a fixed seed. What reads without a socket is fed by `src/hostile.rs`.

use crate::agents::{Cluster, wait};
use crate::secured::Secured;
use clusterd::api::wire;
use clusterd::pki::{Bundle, Role, Validity, Who};
use clusterd::sim::chance::Chance;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// How many cases go over a socket.
const TALKS: usize = 3_000;

/// Something that was true once: cut, bits turned, parts doubled or mixed, brackets opened, numbers blown up.
fn spoiled(chance: &mut Chance, corpus: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = corpus[chance.index(corpus.len())].clone();
    for _ in 0..=chance.index(4) {
        let at = chance.index(bytes.len() + 1);
        match chance.index(8) {
            0 => bytes.truncate(at),
            1 if at < bytes.len() => bytes[at] ^= 1 << chance.index(8),
            2 => bytes.extend_from_within(at..),
            3 => {
                let other = &corpus[chance.index(corpus.len())];
                bytes.splice(at.., other[chance.index(other.len() + 1)..].iter().copied());
            }
            4 => drop(bytes.splice(at..at, b"[".repeat(1 << chance.index(12)))),
            5 => drop(bytes.splice(at..at, b"9".repeat(1 << chance.index(6)))),
            6 => {
                let words: [&[u8]; 8] =
                    [b"\r\n", b"\0", b"null", b"-1", b"1e999", b"\"", b"\xff\xfe", b"\\ud800"];
                let word = words[chance.index(words.len())];
                bytes.splice(at..at, word.iter().copied());
            }
            _ => drop(bytes.splice(at..at, chance.draw().to_le_bytes())),
        }
        bytes.truncate(1 << 16);
    }
    bytes
}

fn texts(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|t| t.as_bytes().to_vec()).collect()
}

const ORDER: &str = r#"{"verb":"start","instances":["cache@n1"],"force":false,"timeout_ms":1000,"without":["n2"],"by":"me","reason":""}"#;

fn requests() -> Vec<Vec<u8>> {
    let mut requests = Vec::new();
    for (method, path, _) in clusterd::api::caller::CALLS {
        let body = if *path == "/v1/order" { ORDER } else { "" };
        for path in [
            format!("{path}?instance=cache@n1&at=17&ago=1000&last=5&partial=1&after=3&node=n1"),
            format!("/v1/at/n2{path}"),
        ] {
            requests.push(
                format!(
                    "{method} {path} HTTP/1.1\r\nhost: agent\r\ncontent-type: application/json\r\n\
                     clusterd-on-behalf: admin root\r\ncontent-length: {}\r\n\r\n{body}",
                    body.len()
                )
                .into_bytes(),
            );
        }
    }
    requests.extend(texts(&[
        "POST /v1/order HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{\"ver\r\nffffffffffffffff\r\n",
        "GET / HTTP/1.1\r\nexpect: 100-continue\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "GET http://[::1/ HTTP/1.0\r\n\r\n",
    ]));
    requests
}

fn anonymous_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix("RssAnon:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

/// No task of it has crashed, and it has grown by no more than this.
fn is_sound(cluster: &Cluster, before: u64) {
    let log = std::fs::read_to_string(cluster.file_named("n1/agent.log")).unwrap();
    assert!(!log.contains("panicked"), "{log}");
    let grown = anonymous_kib(cluster.pid("n1")).saturating_sub(before);
    assert!(grown < 8 << 10, "it has grown by {grown} KiB");
}

#[test]
fn the_api_bears_hostile_bytes() {
    let mut cluster = Cluster::new("bytes");
    cluster.write_file("needs.cache = \"any\"", &[("cache", "{ n1 = \"A1\" }"), ("web", "{ n2 = \"A2\" }")]);
    cluster.start("n1");
    wait("the agent to answer", || cluster.node_status("n1"));
    let (socket, corpus, mut chance) = (cluster.run("n1").join("clusterd.sock"), requests(), Chance::new(11));
    let talk = |bytes: &[u8]| {
        let mut stream = UnixStream::connect(&socket).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let _ = stream.write_all(bytes);
        let _ = stream.shutdown(Shutdown::Write);
        // A stream of another agent's kind has no end: its first bytes will do.
        let _ = stream.read(&mut [0; 1 << 16]);
    };
    (0..TALKS / 10).for_each(|_| talk(&spoiled(&mut chance, &corpus)));
    let before = anonymous_kib(cluster.pid("n1"));
    (0..TALKS).for_each(|_| talk(&spoiled(&mut chance, &corpus)));
    assert!(cluster.node_status("n1").is_some());
    is_sound(&cluster, before);
}

#[test]
fn the_network_port_bears_hostile_bytes() {
    let mut cluster = Secured::new("bytes-tls", "");
    cluster.join_and_start("n1");
    let address = cluster.target(1).to_string();
    wait("the agent to listen", || TcpStream::connect(&address).ok());
    // A true greeting of TLS, as a client of ours begins.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let to = clusterd::api::client::Target::from(listener.local_addr().unwrap());
    let who = Who::Operator { name: "alice".into(), role: Role::Read };
    let bundle = cluster.ca().issue(who, Validity::days(1)).unwrap().bundle;
    let tls = clusterd::pki::Tls::new(&Bundle::parse(&bundle).unwrap()).unwrap();
    let security = clusterd::api::tls::Security::Tls(std::sync::Arc::new(tls));
    let hears = std::thread::spawn(move || {
        let mut bytes = vec![0; 4096];
        let n = listener.accept().unwrap().0.read(&mut bytes).unwrap();
        bytes.truncate(n);
        bytes
    });
    let mut client = clusterd::api::client::Client::new(to).secured(security, None);
    let _ = cluster.block_on(client.get::<wire::NodeStatus>("/v1/node"));
    let mut corpus = vec![hears.join().unwrap()];
    corpus.extend(requests().into_iter().take(2));
    let mut chance = Chance::new(12);
    let talk = |bytes: &[u8]| {
        let Ok(mut stream) = TcpStream::connect(&address) else { return };
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let _ = stream.write_all(bytes);
        let _ = stream.shutdown(Shutdown::Write);
        let _ = stream.read(&mut [0; 1 << 12]);
    };
    (0..TALKS / 10).for_each(|_| talk(&spoiled(&mut chance, &corpus)));
    let before = anonymous_kib(cluster.pid("n1"));
    (0..TALKS / 2).for_each(|_| talk(&spoiled(&mut chance, &corpus)));
    assert!(cluster.node_status("n1").is_some());
    is_sound(&cluster, before);
}
