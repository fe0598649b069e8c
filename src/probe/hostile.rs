//! Hostile bytes: each parser is fed what a broken or malicious server could say. Whatever comes, it neither panics nor
//! loops nor reads on beyond its limit.
//!
//! The bytes grow from real answers (captured, or as the daemon's own sources write them): cut, bits turned, lengths
//! blown up, parts doubled, strangers mixed in. By chance from a fixed seed, so that a failure can be seen again;
//! nothing looks at which code they reach. `HOSTILE=50 cargo test --lib hostile` tries fifty times as many.

use super::{activemq, certificate, dns, fastdfs, grpc, net, place, redis};
use crate::facts::Verdict;
use crate::model::Record;
use crate::probe::testing::{captured, captured_of};
use crate::process::notice;
use futures_util::FutureExt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How many cases each parser gets.
fn cases() -> usize {
    let times: usize = std::env::var("HOSTILE").ok().and_then(|times| times.parse().ok()).unwrap_or(1);
    20_000 * times
}

/// xorshift64*
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() >> 33) as usize % end.max(1)
    }

    /// Something that was an answer once.
    fn bytes(&mut self, seeds: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = seeds[self.below(seeds.len())].clone();
        for _ in 0..=self.below(4) {
            let at = self.below(bytes.len() + 1);
            match self.below(7) {
                0 => bytes.truncate(at),
                1 if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
                2 if at < bytes.len() => bytes[at] = [0, 1, 0x7f, 0x80, 0xff, b'\r'][self.below(6)],
                // A length, most likely: as large as it gets.
                3 => bytes.iter_mut().skip(at).take(1 << self.below(4)).for_each(|b| *b = 0xff),
                4 => bytes.extend_from_within(at..),
                5 => {
                    let other = &seeds[self.below(seeds.len())];
                    bytes.splice(at.., other[self.below(other.len() + 1)..].iter().copied());
                }
                _ => {
                    let strange = self.next().to_le_bytes();
                    bytes.splice(at..at, strange);
                }
            }
            bytes.truncate(1 << 12);
        }
        bytes
    }
}

/// A server that says `bytes` and then either closes or says them again and again; what it is told is forgotten.
struct Server {
    bytes: Vec<u8>,
    endless: bool,
    /// The most bytes that it gives at once.
    piece: usize,
    at: usize,
    read: usize,
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
        self.read += into.filled().len() - before;
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

/// Runs `talk` with hostile servers. It never waits for one of these, so a talk that is not over is one that has lost
/// its way. None may take more than `limit` bytes.
fn attack<T>(seed: u64, seeds: &[Vec<u8>], limit: usize, mut talk: impl AsyncFnMut(&mut Server) -> T) {
    let mut chance = Chance(seed);
    for case in 0..cases() {
        let bytes = chance.bytes(seeds);
        let endless = case % 8 == 0 && !bytes.is_empty();
        let mut server = Server { bytes, endless, piece: usize::MAX, at: 0, read: 0 };
        let over = talk(&mut server).now_or_never().is_some();
        assert!(over, "case {case} is not over");
        assert!(server.read <= limit, "case {case} read {} bytes", server.read);
    }
}

fn nobody() -> SocketAddr {
    "10.0.0.1:1".parse().unwrap()
}

#[test]
fn fastdfs_bears_hostile_bytes() {
    let seeds: Vec<_> =
        ["list-groups", "list-storages", "upload-target", "unknown-command", "joining-list-storages"]
            .iter()
            .map(|name| captured(&format!("tracker-{name}")).1)
            .collect();
    let limit = 10 + fastdfs::wire::MOST;
    attack(1, &seeds, limit, async |server| {
        if let Ok(Ok((_, body))) = fastdfs::exchange(server, &fastdfs::ACTIVE_TEST).await {
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

#[test]
fn activemq_bears_hostile_bytes() {
    let info = activemq::tests::INFO;
    let framed = [&(info.len() as u32).to_be_bytes(), info].concat();
    let seeds = [[&activemq::GREETING[..], &framed].concat(), [&activemq::GREETING[..], &[0; 20]].concat()];
    let limit = (activemq::FRAMES + 1) * (4 + activemq::MOST as usize);
    attack(2, &seeds, limit, async |server| {
        if let Ok(info) = activemq::introduction(server, &mut false).await {
            activemq::judge(&info);
        }
    });
    let commands = activemq::store::commands(nobody(), None);
    let answers = [
        &b"\0\0\0\x0a\x1e\0\0\0\0\0\0\0\0\x01"[..],
        b"\0\0\0\x20\x1f\0\0\0\0\0\0\0\0\x02\x01\x01\0\x07a.b.C.D\x01\0\x06no way",
    ];
    let limit = 33 * (4 + activemq::MOST as usize);
    attack(11, &[answers.concat(), answers[0].repeat(3)], limit, async |server| {
        let _ = activemq::store::exchange(server, &commands).await;
    });
    let mut chance = Chance(3);
    for _ in 0..cases() {
        activemq::judge(&chance.bytes(&[info.to_vec()]));
    }
}

#[test]
fn redis_bears_hostile_bytes() {
    let bulk = |text: &str| format!("${}\r\n{text}\r\n", text.len());
    let master = "*3\r\n$6\r\nmaster\r\n:42\r\n*1\r\n*3\r\n$8\r\n10.0.0.2\r\n$4\r\n6379\r\n$2\r\n42\r\n";
    let replica = format!("*5\r\n$5\r\nslave\r\n$8\r\n10.0.0.1\r\n:6379\r\n{}:-1\r\n", bulk("connected"));
    let loading = "loading:1\r\nloading_loaded_perc:43.97\r\nloading_eta_seconds:12\r\n";
    let seeds = [
        format!("+PONG\r\n{master}{}{}", bulk("# Server\r\nrun_id:abc\r\n"), bulk("loading:0\r\n")),
        format!("+PONG\r\n{replica}{}{}", bulk(""), bulk("")),
        format!("-LOADING x\r\n-LOADING x\r\n{}{}", bulk(""), bulk(loading)),
        "-NOAUTH Authentication required.\r\n".repeat(4),
        "*1\r\n".repeat(300),
    ];
    let seeds = seeds.map(String::into_bytes);
    // A buffer grows by doubling: what is read at once may go beyond by as much again.
    attack(4, &seeds, 2 * redis::MOST, async |server| {
        if let Ok(replies) = redis::exchange(server, b"PING\r\n", 4).await {
            redis::judge(nobody(), replies, None);
        }
    });
}

#[test]
fn redis_that_drips_is_not_listened_to_for_ever() {
    let mut drip = Server { bytes: b"$".repeat(redis::MOST), endless: false, piece: 1, at: 0, read: 0 };
    let heard = redis::exchange(&mut drip, b"PING\r\n", 4).now_or_never().unwrap();
    let Err(redis::Failure::Garbled(heard)) = heard else { panic!() };
    assert_eq!(heard, "its answer comes in more than 256 pieces");
}

#[test]
fn dns_bears_hostile_bytes() {
    let names = ["a", "cname", "aaaa", "mx", "txt", "nxdomain", "refused", "cut", "many-over-tcp"];
    let seeds: Vec<Vec<u8>> = names.iter().map(|name| captured_of("dns", name).1).collect();
    let query = |record| dns::Query { name: "shop.example", record, expect: None };
    let sound = dns::read(&seeds[0], 7, &query(Record::A));
    assert!(matches!(sound, Some(dns::Heard::Answer { records: 2, .. })), "{sound:?}");
    let mut chance = Chance(7);
    for _ in 0..cases() {
        let bytes = chance.bytes(&seeds);
        for record in [Record::A, Record::Aaaa, Record::Mx] {
            if let Some(dns::Heard::Answer { records, addresses, .. }) = dns::read(&bytes, 7, &query(record))
            {
                // The shortest record: the root as its name, and ten bytes.
                assert!(records <= bytes.len() / 11 && addresses.len() <= records);
            }
        }
    }
}

#[test]
fn grpc_bears_hostile_bytes() {
    let seeds = [
        grpc::tests::SERVING.to_vec(),
        vec![0, 0, 0, 0, 7, 0x12, 1, b'x', 8, 2, 0x18, 9],
        vec![0, 0, 0, 0, 0],
    ];
    let mut chance = Chance(8);
    for _ in 0..cases() {
        grpc::status(&chance.bytes(&seeds));
    }
}

#[test]
fn the_list_of_mounts_may_say_anything() {
    let list = std::fs::read("/proc/self/mountinfo").unwrap();
    let seeds =
        [list, b"21 1 8:1 / /srv/my\\040data rw shared:1 - ext4 /dev/sda1 rw\n22 1 0:5 / / rw -\n".to_vec()];
    let mut chance = Chance(9);
    for _ in 0..cases() / 10 {
        match place::judge_mount("/proc".as_ref(), None, &chance.bytes(&seeds)) {
            Verdict::Ready(ready) => assert!(ready.detail.len() <= 2500, "{ready:?}"),
            Verdict::NotReady { reason, .. } => assert_eq!(reason, "nothing is mounted on /proc"),
            Verdict::Progress { .. } => panic!(),
        }
    }
}

#[test]
fn a_service_may_say_anything_of_itself() {
    let seeds = [
        b"READY=1\nSTATUS=42 % done\nEXTEND_TIMEOUT_USEC=5000000\nWATCHDOG=1".to_vec(),
        b"STOPPING=1\nRELOADING=1\nWATCHDOG=trigger\nMAINPID=1\nX_FOO=\n\n=".to_vec(),
    ];
    let mut chance = Chance(10);
    for _ in 0..cases() {
        let bytes = chance.bytes(&seeds);
        let status = notice::read(&bytes).and_then(|notice| notice.status);
        assert!(status.is_none_or(|s| s.len() <= bytes.len() * 3 && !s.contains(char::is_control)));
    }
}

#[test]
fn a_certificate_of_hostile_bytes_ends_never_or_some_day() {
    let mut chance = Chance(5);
    let seed = certificate::tests::SIGNED.to_vec();
    for _ in 0..2 * cases() {
        let bytes = chance.bytes(std::slice::from_ref(&seed));
        if let Some(end) = certificate::ends(&bytes) {
            // Four digits of a year have no more.
            assert!((-70_000_000_000..=260_000_000_000).contains(&end), "{end}");
        }
    }
}

#[test]
fn what_is_shown_of_hostile_bytes_is_short_and_harmless() {
    let mut chance = Chance(6);
    let seeds = [b"HTTP/1.1 400 Bad Request\r\n".to_vec(), "\u{1b}[31m Zugriff für 'x' \u{202e}".into()];
    for _ in 0..cases() {
        let shown = net::shown(&chance.bytes(&seeds));
        assert!(shown.len() <= 1200 && !shown.contains(char::is_control), "{shown:?}");
    }
}
