//! Hostile bytes: whoever reads what others have written is fed with what it was never meant to read. Whatever comes, it
//! neither panics nor loops nor grows beyond its limit.
//!
//! [`readers`] is the list. Two feed them: the test below, with seeds that are spoiled by chance from a fixed seed (and
//! with all of `tests/corpus`), and `tests/fuzz`, guided by which code the bytes reach, which is where that corpus is from.

use crate::agent::etcd::hostile as etcd;
use crate::api::wire::{self, InviteAsk, NodeStatus, Order, ReloadAsk, Switch};
use crate::broker;
use crate::director::{firewall, import, settings};
use crate::engine::view::Wish;
use crate::journal::{Record, Wishes};
use crate::model::{MAX_SHOWN, Source, Sources, parse};
use crate::pki::{Bundle, Token};
use crate::probe::hostile::{READERS, Reader, seeds};
use crate::store::{Disk, Slot};
use crate::trail;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::{fs, io};

/// All of them.
pub fn readers() -> impl Iterator<Item = &'static Reader> {
    READERS.iter().chain(TEXTS)
}

/// Files, and what comes over the API.
const TEXTS: &[Reader] = &[
    Reader {
        name: "cluster-file",
        seeds: cluster_file_seeds,
        words: &[
            b"{address}",
            b"needs.web = ",
            b"\"any\"",
            b"-- units/web.toml\n",
            b"[external.x]\n",
            b"kind = \"",
            b"[vips]\n",
            b"99999999999999999999",
        ],
        read: cluster_file_reads,
        cases: 3_000,
    },
    Reader {
        name: "keepalived-conf",
        seeds: keepalived_conf_seeds,
        words: &[
            b"vrrp_instance",
            b"unicast_peer {",
            b"virtual_ipaddress {",
            b"real_server",
            b"}",
            b"include ",
            b"!",
        ],
        read: keepalived_conf_reads,
        cases: 3_000,
    },
    Reader {
        name: "activemq-xml",
        seeds: activemq_xml_seeds,
        words: &[b"<!ENTITY b \"", b"&b;", b"brokerName=\"", b"<lease-database-locker ", b"xmlns=\""],
        read: activemq_xml_reads,
        cases: 3_000,
    },
    Reader {
        name: "firewall",
        seeds: firewall_seeds,
        words: &[b"\"jump\":{\"target\":\"", b"\"drop\":null", b"\"right\":112", b"\"hook\":\"input\""],
        read: firewall_reads,
        cases: 10_000,
    },
    Reader {
        name: "peer-line",
        seeds: peer_line_seeds,
        words: &[b"\"veto\":{\"epoch\":", b"\"released\":[[", b"\"state\":\"", b"\"vips\":[", b"\\ud800"],
        read: peer_line_reads,
        cases: 20_000,
    },
    Reader {
        name: "calls",
        seeds: calls_seeds,
        words: &[b"\"verb\":\"", b"\"instances\":[", b"\"force\":true", b"\"hash\":\"", b"1e999"],
        read: calls_read,
        cases: 20_000,
    },
    Reader {
        name: "bundle",
        seeds: bundle_seeds,
        words: &[b"-----BEGIN CERTIFICATE-----\n", b"-----END "],
        read: bundle_reads,
        cases: 3_000,
    },
    Reader {
        name: "state",
        seeds: state_seeds,
        words: &[b"clusterd 1 ", b"\n"],
        read: state_reads,
        cases: 20_000,
    },
    Reader {
        name: "record",
        seeds: record_seeds,
        words: &[b"\"boot\":{", b"\"memory\":{", b"null"],
        read: record_reads,
        cases: 20_000,
    },
    Reader {
        name: "trail",
        seeds: trail_seeds,
        words: &[b"\"hash\":\"", b"\"seq\":"],
        read: trail_reads,
        cases: 10_000,
    },
    etcd::READER,
];

/// What the fuzzer found that reaches code which the seeds do not: a line of base64 each.
fn corpus(reader: &Reader) -> Vec<Vec<u8>> {
    let text = fs::read_to_string(file(&format!("tests/corpus/{}", reader.name))).unwrap_or_default();
    text.lines().map(|line| BASE64_STANDARD.decode(line).expect("a line of base64")).collect()
}

/// Where one who feeds this reader begins.
pub fn beginnings(reader: &Reader) -> Vec<Vec<u8>> {
    [(reader.seeds)(), corpus(reader)].concat()
}

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// The inputs of a table of cases: between the title and `----`.
fn cases(name: &str) -> Vec<Vec<u8>> {
    let text = fs::read_to_string(file(name)).expect("a table of cases");
    let inputs = text.split("==== ").filter_map(|case| case.split_once('\n')?.1.split_once("----\n"));
    inputs.map(|(input, _)| input.as_bytes().to_vec()).collect()
}

/// `-- NAME`, a file, and so on.
fn parts(bytes: &[u8]) -> Vec<(String, String)> {
    let text = String::from_utf8_lossy(bytes);
    let parts = text.split("-- ").skip(1).filter_map(|part| part.split_once('\n'));
    parts.map(|(name, text)| (name.to_owned(), text.to_owned())).collect()
}

/// The same, by names of our own: theirs are what an operator types.
fn files(bytes: &[u8]) -> Vec<(String, Vec<u8>)> {
    let texts = parts(bytes).into_iter().map(|(_, text)| text.into_bytes());
    texts.enumerate().map(|(n, text)| (format!("{n}.conf"), text)).collect()
}

fn cluster_file_seeds() -> Vec<Vec<u8>> {
    const NODES: &str =
        "[cluster]\nname = \"shop\"\n[nodes]\nweb = { web1 = \"10.0.0.1\", web2 = \"10.0.0.2\" }\n";
    let mut names: Vec<_> =
        fs::read_dir(file("tests/bad-config")).expect("cases").flatten().map(|e| e.path()).collect();
    names.retain(|path| path.extension().is_some_and(|e| e == "txt"));
    names.sort();
    let inputs = names.iter().flat_map(|path| cases(&path.to_string_lossy()));
    let mut seeds: Vec<_> =
        inputs.map(|input| String::from_utf8_lossy(&input).replace("@nodes", NODES).into_bytes()).collect();
    let sample = fs::read_to_string(file("cluster.toml")).expect("the sample");
    let unit = fs::read_to_string(file("units/nginx.toml")).expect("a unit");
    seeds.push(format!("-- cluster.toml\n{sample}\n-- units/web.toml\n{unit}").into_bytes());
    seeds
}

fn cluster_file_reads(bytes: &[u8]) {
    let cluster = Source { path: "cluster.toml".into(), text: String::new() };
    let mut sources =
        Sources { cluster, folder: "units".into(), units: BTreeMap::new(), unread: BTreeMap::new() };
    for (path, text) in parts(bytes) {
        let unit = path.strip_prefix("units/").and_then(|p| p.strip_suffix(".toml")).map(str::to_owned);
        let source = Source { path, text };
        match unit {
            Some(unit) => drop(sources.units.insert(unit, source)),
            None => sources.cluster = source,
        }
    }
    if let Err(errors) = parse(&sources) {
        assert!(!errors.list.is_empty() && errors.list.len() <= MAX_SHOWN, "{errors}");
        assert!(errors.to_string().len() < (64 << 10) + 2 * bytes.len(), "{errors}");
    }
}

fn keepalived_conf_seeds() -> Vec<Vec<u8>> {
    cases("tests/lint/keepalived.txt")
}

fn keepalived_conf_reads(bytes: &[u8]) {
    let files = files(bytes);
    let import = import::read(&files);
    import::propose(&import, None);
    assert!(import.findings.iter().all(|f| !f.message.contains(char::is_control)), "{:?}", import.findings);
    import::read(&[("bytes".into(), bytes.to_vec())]);
    let _ = settings::read(&String::from_utf8_lossy(bytes), IpAddr::V4(Ipv4Addr::new(10, 0, 0, 100)));
}

fn activemq_xml_seeds() -> Vec<Vec<u8>> {
    let bomb = b"-- bomb\n<!DOCTYPE a [<!ENTITY b \"<c/><c/>\">]><a>&b;&b;</a>".to_vec();
    [cases("tests/lint/activemq.txt"), vec![bomb]].concat()
}

fn activemq_xml_reads(bytes: &[u8]) {
    let files = files(bytes);
    let findings = broker::judge(&files);
    assert!(findings.iter().all(|f| !f.message.contains(char::is_control)), "{findings:?}");
    broker::judge(&[("bytes".into(), bytes.to_vec())]);
}

fn firewall_seeds() -> Vec<Vec<u8>> {
    seeds(&[
        r#"{"nftables":[{"chain":{"family":"inet","table":"f","name":"in","hook":"input","policy":"drop"}},{"chain":{"family":"inet","table":"f","name":"own"}},{"rule":{"family":"inet","table":"f","chain":"in","expr":[{"match":{"op":"==","left":{"payload":{"protocol":"ip","field":"protocol"}},"right":112}},{"jump":{"target":"own"}}]}},{"rule":{"family":"inet","table":"f","chain":"own","expr":[{"match":{"op":"in","left":{"payload":{"protocol":"ip","field":"saddr"}},"right":{"set":[{"prefix":{"addr":"10.0.0.0","len":24}}]}}},{"drop":null}]}}]}"#,
    ])
}

fn firewall_reads(bytes: &[u8]) {
    let Ok(ruleset) = serde_json::from_slice(bytes) else { return };
    let (own, other) = (IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)), IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2)));
    let path = |multicast| firewall::Path { own, other, multicast };
    firewall::judge(&ruleset, &[path(false), path(true)]);
}

fn peer_line_seeds() -> Vec<Vec<u8>> {
    seeds(&[
        r#"{"node":"n2","config":"0123456789abcdef","words":[["web@n2",{"state":"ready"}]]}"#,
        r#"{"node":"n2","config":"","words":[["web@n2",{"state":"stopping","reason":"held by alice","veto":{"epoch":18446744073709551615,"why":"disk","waits":true},"released":[["cache@n1",3],["cache@n1",4]]}]]}"#,
        r#"{"node":"n2","config":"","words":[]}"#,
    ])
}

fn peer_line_reads(bytes: &[u8]) {
    match wire::peer_line(bytes, "n2") {
        Ok(line) => {
            assert_eq!(line.node, "n2");
            for (_, word) in &line.words {
                assert!(!word.reason.contains(char::is_control) && word.reason.chars().count() <= 2000);
            }
        }
        Err(why) => assert!(why.len() < 1000 && !why.contains('\u{1b}'), "{why:?}"),
    }
}

fn calls_seeds() -> Vec<Vec<u8>> {
    seeds(&[
        r#"{"verb":"start","instances":["cache@n1"],"force":false,"timeout_ms":1000,"without":["n2"],"by":"me","reason":""}"#,
        r#"{"hash":"0123456789abcdef"}"#,
        "null",
    ])
}

fn calls_read(bytes: &[u8]) {
    let _ = serde_json::from_slice::<Order>(bytes);
    let _ = serde_json::from_slice::<Switch>(bytes);
    let _ = serde_json::from_slice::<InviteAsk>(bytes);
    let _ = serde_json::from_slice::<NodeStatus>(bytes);
    let _ = ReloadAsk::read(bytes);
}

fn bundle_seeds() -> Vec<Vec<u8>> {
    let der = fs::read(file("tests/captures/certificate.der")).expect("a certificate");
    let pem = |what: &str, der: &[u8]| {
        format!("-----BEGIN {what}-----\n{}\n-----END {what}-----\n", BASE64_STANDARD.encode(der))
    };
    let certificate = pem("CERTIFICATE", &der);
    seeds(&[
        &format!("{}{certificate}{certificate}", pem("PRIVATE KEY", &der[..100])),
        "23456789-abcdefgh-jkmnpqrs-tuvwxyz2",
    ])
}

fn bundle_reads(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let _ = Bundle::parse(&text);
    let _ = text.parse::<Token>();
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
    fn append(&mut self, path: &Path, bytes: &[u8], most: u64) -> io::Result<bool> {
        let Some(file) = self.0.get_mut(path).filter(|file| (file.len() as u64) < most) else {
            return Ok(false);
        };
        file.extend_from_slice(bytes);
        Ok(true)
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

const WISHES: &str = "/state/wishes.json";

/// A slot that held `old` and then `new`.
fn written(old: &Wishes, new: &Wishes) -> (Slot<Wishes>, Memory) {
    let (slot, mut disk) = (Slot::durable(WISHES), Memory::default());
    for wishes in [old, new] {
        slot.write_on(&mut disk, wishes).expect("the disk is in memory");
    }
    (slot, disk)
}

fn wishes() -> (Wishes, Wishes) {
    let wish = Wish::Held { by: "alice".into(), at: 1, reason: "disk swap".into() };
    (Wishes::from([("cache@n1".into(), wish.clone())]), Wishes::from([("web@n2".into(), wish)]))
}

fn state_seeds() -> Vec<Vec<u8>> {
    let (old, new) = wishes();
    let (_, disk) = written(&old, &new);
    let whole = disk.0[Path::new(WISHES)].clone();
    vec![whole, b"clusterd 1 ffffffff 18446744073709551615\n{}\n".to_vec(), vec![]]
}

fn state_reads(bytes: &[u8]) {
    let (old, new) = wishes();
    let (slot, mut disk) = written(&old, &new);
    disk.0.insert(WISHES.into(), bytes.to_vec());
    // What was written, or the one before, with a word about it. Never anything else, but for what bears its checksum.
    match slot.read_on(&mut disk) {
        Ok(stored) => {
            let stored = stored.expect("one of them is there");
            let honest = stored.value == new || stored.value == old && stored.torn.is_some();
            assert!(honest || sums_up(bytes), "{:?}", stored.value);
        }
        Err(error) => assert!(sums_up(bytes), "{error}"),
    }
}

/// Whether its checksum is right, so that it may say what it likes.
fn sums_up(bytes: &[u8]) -> bool {
    let body = bytes.iter().position(|b| *b == b'\n').map(|end| &bytes[end + 1..]);
    body.and_then(|body| body.strip_suffix(b"\n")).is_some_and(|body| {
        bytes.starts_with(format!("clusterd 1 {:08x} {}\n", crc32fast::hash(body), body.len()).as_bytes())
    })
}

fn record_seeds() -> Vec<Vec<u8>> {
    let record = serde_json::json!({
        "boot": { "id": "b", "pid_namespace": 1, "init_started": 2 }, "identity": null, "nonce": "1",
        "unit": { "name": "x" }, "memory": { "incarnation": u64::MAX }, "printed_from": 5
    });
    vec![record.to_string().into_bytes(), serde_json::to_vec(&wishes().1).expect("wishes")]
}

fn record_reads(bytes: &[u8]) {
    let _ = serde_json::from_slice::<Record>(bytes);
    let _ = serde_json::from_slice::<Wishes>(bytes);
}

fn trail_seeds() -> Vec<Vec<u8>> {
    seeds(&[
        r#"{"seq":1,"at":1,"prev":"","who":"root","hash":"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"}"#,
    ])
}

fn trail_reads(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let mut check = trail::Check::default();
    let entries = text.lines().filter_map(|line| check.line(line)).count();
    assert!(
        entries > 0 || text.lines().next().is_none() || !matches!(check.verdict(), trail::Verdict::Intact),
        "{text:?}"
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::chance::Chance;
    use std::panic::catch_unwind;

    /// Something that was true once: cut, bits turned, parts doubled or mixed, lengths blown up, words put in.
    fn spoiled(chance: &mut Chance, beginnings: &[Vec<u8>], words: &[&[u8]]) -> Vec<u8> {
        const LIKELY: [&[u8]; 9] = [
            b"\0",
            b"\xff\xff\xff\xff",
            b"\x80",
            b"\r\n",
            b"null",
            b"-1",
            b"\"",
            b"[[[[[[[[",
            b"99999999999999999999",
        ];
        let mut bytes = beginnings[chance.index(beginnings.len())].clone();
        for _ in 0..=chance.index(4) {
            let at = chance.index(bytes.len() + 1);
            let end = at + chance.index(16).min(bytes.len() - at);
            match chance.index(8) {
                0 => bytes.truncate(at),
                1 if at < bytes.len() => bytes[at] ^= 1 << chance.index(8),
                // A length, most likely: as large as it gets.
                2 => bytes[at..end].fill(0xff),
                3 => drop(bytes.drain(at..end)),
                4 => bytes.extend_from_within(at..),
                5 => {
                    let other = &beginnings[chance.index(beginnings.len())];
                    bytes.splice(at..at, other[chance.index(other.len() + 1)..].iter().copied());
                }
                6 => drop(bytes.splice(at..at, chance.draw().to_le_bytes())),
                _ => {
                    let word = chance.index(words.len() + LIKELY.len());
                    let word = words.iter().chain(&LIKELY).nth(word).copied().unwrap_or_default();
                    bytes.splice(at..at, word.iter().copied());
                }
            }
            bytes.truncate(1 << 13);
        }
        bytes
    }

    /// Feeds one reader all of its beginnings, and what chance makes of them. `HOSTILE=50` tries fifty times as many.
    fn feed(name: &str) {
        let reader = readers().find(|r| r.name == name).expect("it is in the list");
        let times: usize = std::env::var("HOSTILE").ok().and_then(|times| times.parse().ok()).unwrap_or(1);
        let (beginnings, mut chance) = (beginnings(reader), Chance::new(name.len() as u64));
        let made_up = (0..reader.cases * times).map(|_| spoiled(&mut chance, &beginnings, reader.words));
        for bytes in beginnings.iter().cloned().chain(made_up) {
            let read = catch_unwind(|| (reader.read)(&bytes));
            assert!(read.is_ok(), "for tests/corpus/{name}: {}", BASE64_STANDARD.encode(&bytes));
        }
    }

    macro_rules! each_bears_hostile_bytes {
        ($($test:ident: $name:literal,)*) => {
            $(#[test] fn $test() { feed($name); })*

            #[test]
            fn no_reader_is_left_out() {
                assert_eq!(readers().map(|r| r.name).collect::<Vec<_>>(), [$($name),*]);
            }
        };
    }

    each_bears_hostile_bytes! {
        fastdfs: "fastdfs",
        activemq: "activemq",
        activemq_store: "activemq-store",
        activemq_others: "activemq-others",
        activemq_jolokia: "activemq-jolokia",
        redis: "redis",
        dns: "dns",
        grpc: "grpc",
        http: "http",
        postgres: "postgres",
        mysql: "mysql",
        uno: "uno",
        mounts: "mounts",
        ipvs: "ipvs",
        keepalived_state: "keepalived-state",
        notice: "notice",
        certificate: "certificate",
        shown: "shown",
        cluster_file: "cluster-file",
        keepalived_conf: "keepalived-conf",
        activemq_xml: "activemq-xml",
        firewall: "firewall",
        peer_line: "peer-line",
        calls: "calls",
        bundle: "bundle",
        state: "state",
        record: "record",
        trail: "trail",
        etcd: "etcd",
    }
}
