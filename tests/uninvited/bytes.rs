//! Hostile bytes for whatever of the agent reads any: the API's decoder, the TLS port, the stream between agents, the codec
//! of the state. They grow from a corpus of true ones, by chance from a fixed seed.

use crate::agents::{Cluster, wait};
use crate::secured::Secured;
use clusterd::api::wire::{self, Order};
use clusterd::engine::view::Wish;
use clusterd::journal::{Record, Wishes};
use clusterd::pki::{Bundle, Role, Validity, Who};
use clusterd::sim::chance::Chance;
use clusterd::store::{Disk, Slot};
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How many cases go over a socket, and how many to a parser alone.
const TALKS: usize = 3_000;
const CASES: usize = 30_000;

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

#[test]
fn lines_of_peers_and_orders_bear_hostile_bytes() {
    let corpus = texts(&[
        r#"{"node":"n2","config":"0123456789abcdef","words":[["web@n2",{"state":"ready"}]]}"#,
        r#"{"node":"n2","config":"","words":[["web@n2",{"state":"stopping","reason":"held by alice","veto":{"epoch":18446744073709551615,"why":"disk","waits":true},"released":[["cache@n1",3],["cache@n1",4]]}]]}"#,
        r#"{"node":"n2","config":"","words":[]}"#,
        ORDER,
    ]);
    let mut chance = Chance::new(13);
    let mut taken = 0;
    for _ in 0..CASES {
        let bytes = spoiled(&mut chance, &corpus);
        match wire::peer_line(&bytes, "n2") {
            Ok(line) => {
                taken += 1;
                assert_eq!(line.node, "n2");
                for (_, word) in &line.words {
                    assert!(!word.reason.contains(char::is_control) && word.reason.chars().count() <= 2000);
                }
            }
            Err(why) => assert!(why.len() < 1000 && !why.contains('\u{1b}'), "{why:?}"),
        }
        let _ = serde_json::from_slice::<Order>(&bytes);
        let _ = Bundle::parse(&String::from_utf8_lossy(&bytes));
    }
    assert!(taken > CASES / 100, "only {taken} lines were sound: the corpus is too far off");
}

/// A disk that holds what it is told.
#[derive(Default)]
struct Memory(BTreeMap<PathBuf, Vec<u8>>);

impl Disk for Memory {
    fn read(&mut self, path: &Path, most: u64) -> io::Result<Vec<u8>> {
        let bytes = self.0.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(bytes.iter().take(most as usize).copied().collect())
    }
    fn write(&mut self, path: &Path, bytes: &[u8], _: bool) -> io::Result<()> {
        self.0.insert(path.to_owned(), bytes.to_vec());
        Ok(())
    }
    fn make_folder(&mut self, _: &Path) -> io::Result<()> {
        Ok(())
    }
    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let bytes = self.0.remove(from).ok_or(io::ErrorKind::NotFound)?;
        self.0.insert(to.to_owned(), bytes);
        Ok(())
    }
    fn link(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let bytes = self.0.get(from).ok_or(io::ErrorKind::NotFound)?.clone();
        self.0.insert(to.to_owned(), bytes);
        Ok(())
    }
    fn remove(&mut self, path: &Path) -> io::Result<()> {
        self.0.remove(path).map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
    fn sync_folder(&mut self, _: &Path) -> io::Result<()> {
        Ok(())
    }
    fn exists(&mut self, path: &Path) -> bool {
        self.0.contains_key(path)
    }
}

#[test]
fn the_state_bears_hostile_bytes() {
    let slot: Slot<Wishes> = Slot::durable("/state/wishes.json");
    let wish = Wish::Held { by: "alice".into(), at: 1, reason: "disk swap".into() };
    let (old, new) =
        (Wishes::from([("cache@n1".into(), wish.clone())]), Wishes::from([("web@n2".into(), wish)]));
    let mut disk = Memory::default();
    slot.write_on(&mut disk, &old).unwrap();
    slot.write_on(&mut disk, &new).unwrap();
    let whole = disk.0[Path::new("/state/wishes.json")].clone();
    let corpus = vec![whole, b"clusterd 1 ffffffff 18446744073709551615\n{}\n".to_vec(), vec![]];
    let mut chance = Chance::new(14);
    for _ in 0..CASES {
        disk.0.insert("/state/wishes.json".into(), spoiled(&mut chance, &corpus));
        // The one that was written, or the one before, with a word about it. Never anything else.
        let stored = slot.read_on(&mut disk).unwrap().unwrap();
        assert!(stored.value == new || stored.value == old && stored.torn.is_some());
    }
    // What lies below the checksum may be of another version, and is no more than refused.
    let record = serde_json::json!({
        "boot": { "id": "b", "pid_namespace": 1, "init_started": 2 }, "identity": null, "nonce": "1",
        "unit": { "name": "x" }, "memory": { "incarnation": 18446744073709551615u64 }, "printed_from": 5
    });
    let corpus = vec![record.to_string().into_bytes(), serde_json::to_vec(&new).unwrap()];
    for _ in 0..CASES {
        let bytes = spoiled(&mut chance, &corpus);
        let _ = serde_json::from_slice::<Record>(&bytes);
        let _ = serde_json::from_slice::<Wishes>(&bytes);
    }
}
