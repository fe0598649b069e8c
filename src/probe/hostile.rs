//! Whoever reads what a server says, and what must hold whatever that is: no panic, no loop, nothing read beyond a limit.
//!
//! [`crate::hostile`] tells who feeds them.

use super::Asker;
use super::course::{Commitment, Course, Stages};
use super::{
    activemq, certificate, dns, fastdfs, grpc, http, ipvs, keepalived, net, place, postgres, redis, uno, urp,
};
use crate::facts::{Ready, Verdict};
use crate::model::{Ask, Get, IpvsName, Question, Record, VirtualService};
use crate::process::notice;
use bytes::Bytes;
use futures_util::FutureExt;
use http_body_util::Full;
use hyper::Request;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};

/// One who reads what others have written.
pub struct Reader {
    pub name: &'static str,
    /// What a true one says.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// What is likely to matter inside it.
    pub words: &'static [&'static [u8]],
    /// Reads, and asserts what must hold.
    pub read: fn(&[u8]),
    /// How many of them the tests make up.
    pub cases: usize,
}

/// The readers of this layer.
pub const READERS: &[Reader] = &[
    Reader { name: "fastdfs", seeds: fastdfs_seeds, words: &[], read: fastdfs_reads, cases: 20_000 },
    Reader {
        name: "activemq",
        seeds: activemq_seeds,
        words: &[b"ActiveMQ", b"\x02", b"\x01|"],
        read: activemq_reads,
        cases: 20_000,
    },
    Reader {
        name: "activemq-store",
        seeds: store_seeds,
        words: &[b"\x1e", b"\x1f", b"\0\0\0\x0a"],
        read: store_reads,
        cases: 20_000,
    },
    Reader {
        name: "activemq-others",
        seeds: others_seeds,
        words: &[b"CONNECTED\n", b"AMQP", b"\x20\x02"],
        read: others_reads,
        cases: 20_000,
    },
    Reader {
        name: "activemq-jolokia",
        seeds: jolokia_seeds,
        words: &[b"\"value\"", b"\"error\"", b"Good"],
        read: jolokia_reads,
        cases: 20_000,
    },
    Reader {
        name: "redis",
        seeds: redis_seeds,
        words: &[b"\r\n", b"*3", b"$-1", b"loading:1", b"+PONG", b"-ERR ", b"slave"],
        read: redis_reads,
        cases: 20_000,
    },
    Reader {
        name: "dns",
        seeds: dns_seeds,
        words: &[b"\xc0\x0c", b"\0\x01\0\x01"],
        read: dns_reads,
        cases: 20_000,
    },
    Reader { name: "grpc", seeds: grpc_seeds, words: &[], read: grpc_reads, cases: 20_000 },
    Reader {
        name: "http",
        seeds: http_seeds,
        words: &[
            b"HTTP/1.1 ",
            b"\r\n\r\n",
            b"content-length: ",
            b"transfer-encoding: chunked",
            b"location: ",
        ],
        read: http_reads,
        cases: 20_000,
    },
    Reader {
        name: "postgres",
        seeds: postgres_seeds,
        words: &[b"R\0\0\0\x08\0\0\0\0", b"Z\0\0\0\x05I", b"T\0", b"D\0", b"E\0"],
        read: postgres_reads,
        cases: 5_000,
    },
    Reader {
        name: "mysql",
        seeds: mysql_seeds,
        words: &[b"\x0a8.0.36\0", b"mysql_native_password\0", b"\xff\x69\x04", b"\0\0\0\x02"],
        read: mysql_reads,
        cases: 2_000,
    },
    Reader {
        name: "uno",
        seeds: uno_seeds,
        words: &[b"\xf8", b"\x88", b"\x16", b"com.sun.star.uno.XInterface"],
        read: uno_reads,
        cases: 20_000,
    },
    Reader {
        name: "mounts",
        seeds: mounts_seeds,
        words: &[b" - ", b"\\040", b" / "],
        read: mounts_read,
        cases: 5_000,
    },
    Reader {
        name: "ipvs",
        seeds: ipvs_seeds,
        words: &[b"TCP  ", b"FWM  ", b"  -> ", b"--set-xmark 0x"],
        read: ipvs_reads,
        cases: 20_000,
    },
    Reader {
        name: "keepalived-state",
        seeds: keepalived_seeds,
        words: &[b"\"vrrp\":", b"\"vips\":["],
        read: keepalived_reads,
        cases: 20_000,
    },
    Reader {
        name: "notice",
        seeds: notice_seeds,
        words: &[b"READY=1", b"STATUS=", b"EXTEND_TIMEOUT_USEC=", b"WATCHDOG="],
        read: notice_reads,
        cases: 20_000,
    },
    Reader {
        name: "certificate",
        seeds: certificate_seeds,
        words: &[b"\x30\x82", b"\x17\x0d", b"\x18\x0f"],
        read: certificate_reads,
        cases: 20_000,
    },
    Reader {
        name: "shown",
        seeds: shown_seeds,
        words: &[b"\x1b[31m", b"\xe2\x80\xae"],
        read: shown_reads,
        cases: 20_000,
    },
];

/// A server that says `bytes` and then either closes or says them again and again; what it is told is forgotten.
struct Server {
    bytes: Vec<u8>,
    endless: bool,
    /// The most bytes that it gives at once.
    piece: usize,
    at: usize,
    read: Arc<AtomicUsize>,
}

impl AsyncRead for Server {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        loop {
            let rest = &self.bytes[self.at..];
            let some = rest.len().min(into.remaining()).min(self.piece);
            into.put_slice(&rest[..some]);
            self.at += some;
            if !self.endless || into.remaining() == 0 {
                break;
            }
            self.at %= self.bytes.len();
        }
        self.read.fetch_add(into.filled().len() - before, Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Server {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Talks with a server that says `bytes`: one of these never waits, so a talk that is not over is one that has lost its way.
/// It may not take more than `limit` bytes.
fn attack<T>(bytes: &[u8], limit: usize, talk: impl AsyncFnOnce(Server) -> T) -> T {
    thread_local! {
        // Deadlines want a clock, though none of them is waited for.
        static RUNTIME: Runtime = Builder::new_current_thread().enable_time().build().expect("a runtime");
    }
    let read = Arc::new(AtomicUsize::new(0));
    // By what it is and not by chance, so that the same bytes do the same again.
    let endless = bytes.len() % 8 == 7;
    let server = Server { bytes: bytes.to_vec(), endless, piece: usize::MAX, at: 0, read: read.clone() };
    let over = RUNTIME.with(|runtime| {
        let _inside = runtime.enter();
        talk(server).now_or_never()
    });
    let read = read.load(Ordering::Relaxed);
    assert!(read <= limit, "{read} bytes were read");
    over.expect("it is over")
}

/// Has `talk` a course that has time enough.
fn on_course<T>(talk: impl FnOnce(Course<'_>) -> T) -> T {
    let (commitment, stages) = (Commitment::default(), Stages::default());
    talk(Course::begin(Duration::from_secs(60), &commitment, &stages))
}

/// Each of these, as what a reader begins with.
pub(crate) fn seeds(true_ones: &[impl AsRef<[u8]>]) -> Vec<Vec<u8>> {
    true_ones.iter().map(|one| one.as_ref().to_vec()).collect()
}

fn nobody() -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], 1))
}

/// A reason is for a person: some lines at most, and nothing that moves the cursor.
fn is_readable(verdict: &Verdict) {
    let (Verdict::Ready(Ready { detail: said, .. })
    | Verdict::NotReady { reason: said, .. }
    | Verdict::Progress { reason: said, .. }) = verdict;
    assert!(said.len() <= 4096 && !said.contains(char::is_control), "{said:?}");
}

fn fastdfs_seeds() -> Vec<Vec<u8>> {
    let names = ["list-groups", "list-storages", "upload-target", "unknown-command", "joining-list-storages"];
    names.iter().map(|name| captured(&format!("tracker-{name}")).1).collect()
}

fn fastdfs_reads(bytes: &[u8]) {
    attack(bytes, 10 + fastdfs::wire::MOST, async |mut server| {
        if let Ok(Ok((_, body))) = fastdfs::exchange(&mut server, &fastdfs::ACTIVE_TEST).await {
            let groups = fastdfs::wire::groups(&body);
            assert!(groups.is_none_or(|groups| groups.len() <= body.len() / 100));
            for count in [0, 1, 2, 3, 1000, u64::MAX] {
                let storages = fastdfs::wire::storages(&body, count);
                assert!(storages.is_none_or(|storages| storages.len() <= body.len() / 64));
            }
            fastdfs::wire::is_target(&body);
        }
    });
}

fn activemq_seeds() -> Vec<Vec<u8>> {
    let info = activemq::INFO;
    let framed = [&(info.len() as u32).to_be_bytes(), info].concat();
    vec![[&activemq::GREETING[..], &framed].concat(), [&activemq::GREETING[..], &[0; 20]].concat()]
}

fn activemq_reads(bytes: &[u8]) {
    let limit = (activemq::FRAMES + 1) * (4 + activemq::MOST as usize);
    attack(bytes, limit, async |mut server| {
        if let Ok(info) = activemq::introduction(&mut server, &mut false).await {
            activemq::judge(&info);
        }
    });
    activemq::judge(bytes);
}

fn store_seeds() -> Vec<Vec<u8>> {
    let answers = [
        &b"\0\0\0\x0a\x1e\0\0\0\0\0\0\0\0\x01"[..],
        b"\0\0\0\x20\x1f\0\0\0\0\0\0\0\0\x02\x01\x01\0\x07a.b.C.D\x01\0\x06no way",
    ];
    vec![answers.concat(), answers[0].repeat(3)]
}

fn store_reads(bytes: &[u8]) {
    let commands = activemq::store::commands(nobody(), None);
    // A frame for each of the three commands, and as many that say something else.
    let limit = 33 * (4 + activemq::MOST as usize);
    attack(bytes, limit, async |mut server| drop(activemq::store::exchange(&mut server, &commands).await));
}

fn others_seeds() -> Vec<Vec<u8>> {
    let words: [&[u8]; 4] = [
        b"CONNECTED\nserver:ActiveMQ\n\n\0",
        b"ERROR\nmessage:no\n\n\0",
        b"AMQP\x03\x01\0\0",
        b"\x20\x02\0\0",
    ];
    seeds(&words)
}

fn others_reads(bytes: &[u8]) {
    for protocol in activemq::others::Protocol::ALL {
        let heard = attack(bytes, 2 * activemq::others::MOST, async |server| {
            activemq::others::exchange(server, protocol).await
        });
        if let Ok(heard) = heard {
            activemq::others::judge(nobody(), protocol, &heard).iter().for_each(is_readable);
        }
    }
}

fn jolokia_seeds() -> Vec<Vec<u8>> {
    let words: [&[u8]; 3] = [
        br#"{"request":{"type":"exec"},"value":"Good","timestamp":1,"status":200}"#,
        br#"{"value":"Getting Worse {[]}","status":200}"#,
        br#"{"error_type":"javax.management.InstanceNotFoundException","error":"no such broker","status":404}"#,
    ];
    seeds(&words)
}

fn jolokia_reads(bytes: &[u8]) {
    let judged = activemq::jolokia::judge("10.0.0.1:8161", None, hyper::StatusCode::OK, bytes);
    judged.err().iter().for_each(is_readable);
}

fn redis_seeds() -> Vec<Vec<u8>> {
    let bulk = |text: &str| format!("${}\r\n{text}\r\n", text.len());
    let master = "*3\r\n$6\r\nmaster\r\n:42\r\n*1\r\n*3\r\n$8\r\n10.0.0.2\r\n$4\r\n6379\r\n$2\r\n42\r\n";
    let replica = format!("*5\r\n$5\r\nslave\r\n$8\r\n10.0.0.1\r\n:6379\r\n{}:-1\r\n", bulk("connected"));
    let loading = "loading:1\r\nloading_loaded_perc:43.97\r\nloading_eta_seconds:12\r\n";
    let said = [
        format!("+PONG\r\n{master}{}{}", bulk("# Server\r\nrun_id:abc\r\n"), bulk("loading:0\r\n")),
        format!("+PONG\r\n{replica}{}{}", bulk(""), bulk("")),
        format!("-LOADING x\r\n-LOADING x\r\n{}{}", bulk(""), bulk(loading)),
        "-NOAUTH Authentication required.\r\n".repeat(4),
        "*1\r\n".repeat(300),
    ];
    seeds(&said)
}

fn redis_reads(bytes: &[u8]) {
    // A buffer grows by doubling: what is read at once may go beyond by as much again.
    let replies =
        attack(bytes, 2 * redis::MOST, async |mut server| redis::exchange(&mut server, b"PING\r\n", 4).await);
    if let Ok(replies) = replies {
        is_readable(&redis::judge(nobody(), replies, None));
    }
}

fn dns_seeds() -> Vec<Vec<u8>> {
    let names = ["a", "cname", "aaaa", "mx", "txt", "nxdomain", "refused", "cut", "many-over-tcp"];
    names.iter().map(|name| captured_of("dns", name).1).collect()
}

fn dns_reads(bytes: &[u8]) {
    for record in [Record::A, Record::Aaaa, Record::Mx] {
        let query = dns::Query { name: "shop.example", record, expect: None };
        if let Some(dns::Heard::Answer { records, addresses, .. }) = dns::read(bytes, 7, &query) {
            // The shortest record: the root as its name, and ten bytes.
            assert!(records <= bytes.len() / 11 && addresses.len() <= records);
        }
    }
}

fn grpc_seeds() -> Vec<Vec<u8>> {
    vec![vec![0, 0, 0, 0, 2, 8, 1], vec![0, 0, 0, 0, 7, 0x12, 1, b'x', 8, 2, 0x18, 9], vec![0; 5]]
}

fn grpc_reads(bytes: &[u8]) {
    grpc::status(bytes);
}

fn http_seeds() -> Vec<Vec<u8>> {
    let words: [&[u8]; 4] = [
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 15\r\n\r\n{\"status\":\"UP\"}",
        b"HTTP/1.1 301 Moved\r\nlocation: https://shop.example/?token=x#y\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        b"HTTP/1.0 503 Service Unavailable\r\n\r\nno",
    ];
    seeds(&words)
}

fn http_reads(bytes: &[u8]) {
    let get = Get {
        contains: Some("hello".into()),
        json: vec![("/status".into(), "UP".into())],
        headers: vec![("content-type".into(), "json".into())],
        ..Get::of("http://10.0.0.1/")
    };
    let answer = on_course(|course| {
        attack(bytes, 2 * (http::MOST + http::MOST_HEAD), async |server| {
            let request = Request::get("/").body(Full::<Bytes>::default()).expect("a request");
            http::send(server, "10.0.0.1", request, true, course).await
        })
    });
    match answer {
        Ok(answer) => is_readable(&http::judge("10.0.0.1", "/", &get, &answer, vec![])),
        Err(verdict) => is_readable(&verdict),
    }
}

/// A login without a password, and the row of a primary.
fn postgres_seeds() -> Vec<Vec<u8>> {
    let message =
        |kind: u8, body: &[u8]| [&[kind][..], &(body.len() as u32 + 4).to_be_bytes(), body].concat();
    let ready = message(b'Z', b"I");
    let in_order = [
        message(b'R', &[0; 4]),
        message(b'S', b"server_version\x0015.4\0"),
        message(b'K', &[0, 0, 0, 7, 0, 0, 0, 9]),
        ready.clone(),
    ];
    let column =
        |name: &str| [name.as_bytes(), &[0; 7], &[0, 0, 0, 25, 0xff, 0xff, 0, 0, 0, 0, 0, 0][1..]].concat();
    let columns = ["a", "b", "c", "d", "e", "f"].map(column).concat();
    let field = |text: &str| [&(text.len() as u32).to_be_bytes()[..], text.as_bytes()].concat();
    let fields = ["f", "off", "15.4 (Debian)", "2026-11-28", "0", ""].map(field).concat();
    let row = [
        message(b'T', &[&[0, 6][..], &columns].concat()),
        message(b'D', &[&[0, 6][..], &fields].concat()),
        message(b'C', b"SELECT 1\0"),
        ready,
    ];
    let refusal = message(b'E', b"SFATAL\0VFATAL\0C28P01\0Mno password for \"x\"\0\0");
    vec![[in_order.concat(), row.concat()].concat(), in_order.concat(), refusal]
}

/// The connection works in a task of its own, so this one needs a runtime that runs. It has no clock: nothing waits.
fn postgres_reads(bytes: &[u8]) {
    thread_local! {
        static RUNTIME: Runtime = Builder::new_current_thread().build().expect("a runtime");
    }
    let read = Arc::new(AtomicUsize::new(0));
    let server = Server { bytes: bytes.to_vec(), endless: false, piece: usize::MAX, at: 0, read };
    let verdict = RUNTIME.with(|runtime| runtime.block_on(postgres::talk(server, nobody())));
    is_readable(&verdict);
}

/// A greeting, a login that is taken, and one that is not.
fn mysql_seeds() -> Vec<Vec<u8>> {
    let packet = |seq: u8, body: &[u8]| [&(body.len() as u32).to_le_bytes()[..3], &[seq], body].concat();
    let greeting = [
        &b"\x0a10.11.4-MariaDB\0\x05\0\0\0saltsalt\0\xfe\xf7\x08\x02\0\xff\x81\x15"[..],
        &[0; 10],
        b"saltsaltsalt\0mysql_native_password\0",
    ];
    let greeting = packet(0, &greeting.concat());
    let taken = packet(2, &[0, 0, 0, 2, 0, 0, 0]);
    let refused = packet(2, b"\xff\x15\x04#28000Access denied for user 'clusterd'");
    let full = packet(0, b"\xff\x10\x04Too many connections");
    vec![[greeting.clone(), taken].concat(), [greeting, refused].concat(), full]
}

/// The driver makes its connection itself, so these come over one.
fn mysql_reads(bytes: &[u8]) {
    thread_local! {
        static RUNTIME: Runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    }
    let bytes = bytes.to_vec();
    let answer = RUNTIME.with(|runtime| {
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let address = listener.local_addr().expect("its address");
            let server = tokio::spawn(async move {
                // It is asked a second time where the first connection broke.
                while let Ok((mut stream, _)) = listener.accept().await {
                    let _ = stream.write_all(&bytes).await;
                    let _ = stream.shutdown().await;
                    while stream.read(&mut [0; 4096]).await.is_ok_and(|n| n > 0) {}
                }
            });
            let question =
                Question { ask: Ask::Mysql { address, login: None }, timeout: Duration::from_secs(2) };
            let answer = Asker::new(question).ask().await;
            server.abort();
            answer
        })
    });
    is_readable(&answer.verdict);
}

fn uno_seeds() -> Vec<Vec<u8>> {
    let block =
        |message: &&[u8]| [&(message.len() as u32).to_be_bytes()[..], &1_u32.to_be_bytes(), message].concat();
    vec![uno::SAID.iter().flat_map(block).collect()]
}

fn uno_reads(bytes: &[u8]) {
    let limit = urp::BLOCKS * 16 * (8 + urp::MOST as usize);
    attack(bytes, limit, async |server| {
        if let Ok(mut bridge) = urp::Bridge::open(server).await {
            let _ = bridge.convert().await;
        }
    });
}

fn mounts_seeds() -> Vec<Vec<u8>> {
    vec![b"21 1 8:1 / /srv/my\\040data rw shared:1 - ext4 /dev/sda1 rw\n22 1 0:5 / / rw -\n23 1 0:6 / /proc rw - proc proc rw\n".to_vec()]
}

fn mounts_read(bytes: &[u8]) {
    match place::judge_mount(Path::new("/proc"), None, bytes) {
        Verdict::Ready(ready) => assert!(ready.detail.len() <= 2500, "{ready:?}"),
        Verdict::NotReady { reason, .. } => assert_eq!(reason, "nothing is mounted on /proc"),
        Verdict::Progress { .. } => panic!("a mount makes no progress"),
    }
}

fn ipvs_seeds() -> Vec<Vec<u8>> {
    let rules = "-A PREROUTING -d 192.168.1.100/32 -p tcp -j MARK --set-xmark 0x3/0xffffffff\n\
        ip daddr 192.168.1.100 tcp dport 80 meta mark set 0x00000003\n";
    seeds(&[ipvs::TEXT, rules])
}

fn ipvs_reads(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let servers = vec!["192.168.1.21:80".parse().expect("an address")];
    for service in [IpvsName::Tcp(SocketAddr::from(([192, 168, 1, 100], 80))), IpvsName::Fwmark(3)] {
        is_readable(&ipvs::judge(&VirtualService { service, servers: servers.clone(), least: 2 }, &text));
    }
    let rule = ipvs::giving(3, &text);
    assert!(rule.is_none_or(|rule| !rule.contains(char::is_control)));
}

fn keepalived_seeds() -> Vec<Vec<u8>> {
    let list = r#"[{"data":{"iname":"www","vrid":51,"base_priority":150,"state":2,"vips":["192.0.2.100\/24 dev eth0"]}}]"#;
    seeds(&[list.to_owned(), format!("{{\"vrrp\":{list}}}")])
}

fn keepalived_reads(bytes: &[u8]) {
    keepalived::instances(bytes);
}

fn notice_seeds() -> Vec<Vec<u8>> {
    let words: [&[u8]; 2] = [
        b"READY=1\nSTATUS=42 % done\nEXTEND_TIMEOUT_USEC=5000000\nWATCHDOG=1",
        b"STOPPING=1\nRELOADING=1\nWATCHDOG=trigger\nMAINPID=1\nX_FOO=\n\n=",
    ];
    seeds(&words)
}

fn notice_reads(bytes: &[u8]) {
    let status = notice::read(bytes).and_then(|notice| notice.status);
    assert!(status.is_none_or(|s| s.len() <= bytes.len() * 3 && !s.contains(char::is_control)));
}

fn certificate_seeds() -> Vec<Vec<u8>> {
    vec![certificate::SIGNED.to_vec()]
}

fn certificate_reads(bytes: &[u8]) {
    if let Some(end) = certificate::ends(bytes) {
        // Four digits of a year have no more.
        assert!((-70_000_000_000..=260_000_000_000).contains(&end), "{end}");
    }
}

fn shown_seeds() -> Vec<Vec<u8>> {
    vec![b"HTTP/1.1 400 Bad Request\r\n".to_vec(), "\u{1b}[31m Zugriff für 'x' \u{202e}".into()]
}

fn shown_reads(bytes: &[u8]) {
    let shown = net::shown(bytes);
    assert!(shown.len() <= 1200 && !shown.contains(char::is_control), "{shown:?}");
}

/// What a real FastDFS was asked and answered (tests/captures/fastdfs): request and reply.
pub fn captured(name: &str) -> (Vec<u8>, Vec<u8>) {
    captured_of("fastdfs", name)
}

/// What a real server of this kind was asked and answered (tests/captures): request and reply.
pub fn captured_of(kind: &str, name: &str) -> (Vec<u8>, Vec<u8>) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/captures").join(kind);
    let text = std::fs::read_to_string(folder.join(name).with_extension("hex")).expect("a capture");
    let mut lines = text.lines().filter(|line| !line.starts_with('#')).map(|line| {
        let digits = line.as_bytes().chunks(2).map(|two| std::str::from_utf8(two).expect("digits"));
        digits.map(|two| u8::from_str_radix(two, 16).expect("a byte")).collect()
    });
    (lines.next().expect("a request"), lines.next().expect("a reply"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redis_that_drips_is_not_listened_to_for_ever() {
        let bytes = b"$".repeat(redis::MOST);
        let mut drip = Server { bytes, endless: false, piece: 1, at: 0, read: Arc::default() };
        let heard = redis::exchange(&mut drip, b"PING\r\n", 4).now_or_never().unwrap();
        let Err(redis::Failure::Garbled(heard)) = heard else { panic!() };
        assert_eq!(heard, "its answer comes in more than 256 pieces");
    }
}
