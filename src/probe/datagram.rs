//! UDP: a datagram, and a reply to it. Also how DNS is asked.
//!
//! A datagram may be lost, so it is sent again while the deadline runs: after [`AGAIN`], then after twice that, and so
//! on.

use super::course::Course;
use super::net;
use crate::facts::{Stage, Trouble, Verdict};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::time::timeout;

/// The most bytes of a reply that are read; the kernel throws the rest of it away.
pub(super) const MOST: usize = 4096;
/// The most datagrams that are looked at: somebody may send us others without end.
const DATAGRAMS: usize = 100;
/// How long until it is sent again for the first time.
const AGAIN: Duration = Duration::from_millis(250);

/// Sends and waits for a datagram that `take` makes something of. Whatever goes wrong is already a verdict.
pub(super) async fn exchange<T>(
    address: SocketAddr,
    sent: &[u8],
    course: Course<'_>,
    take: impl FnMut(&[u8]) -> Option<T>,
) -> Result<T, Verdict> {
    course.enter(Stage::Reply);
    match course.limit(talk(address, sent, take)).await {
        Some(Ok(Some(taken))) => Ok(taken),
        Some(Ok(None)) => {
            let heard = format!("{DATAGRAMS} datagrams, and none is the reply");
            Err(Verdict::not_ready(Trouble::Garbled, format!("{address} sends {heard}")))
        }
        Some(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
            Err(Verdict::not_ready(Trouble::Refused, format!("nothing listens on UDP {address}")))
        }
        Some(Err(error)) => Err(net::connect_trouble(address, &error)),
        None => Err(net::unanswered(address, course)),
    }
}

async fn talk<T>(
    address: SocketAddr,
    sent: &[u8],
    mut take: impl FnMut(&[u8]) -> Option<T>,
) -> io::Result<Option<T>> {
    let any = match address {
        SocketAddr::V4(_) => SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0),
        SocketAddr::V6(_) => SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), 0),
    };
    let socket = UdpSocket::bind(any).await?;
    // Only that peer's datagrams come in, and its kernel's word that nobody listens does.
    socket.connect(address).await?;
    socket.send(sent).await?;
    let mut again = AGAIN;
    let mut reply = [0; MOST];
    for _ in 0..DATAGRAMS {
        let length = loop {
            match timeout(again, socket.recv(&mut reply)).await {
                Ok(length) => break length?,
                Err(_) => {
                    again *= 2;
                    socket.send(sent).await?;
                }
            }
        };
        if let Some(taken) = take(&reply[..length]) {
            return Ok(Some(taken));
        }
    }
    Ok(None)
}

/// The `udp` probe.
pub(super) async fn ask(address: SocketAddr, sent: &[u8], expect: &[u8], course: Course<'_>) -> Verdict {
    let reply = exchange(address, sent, course, |reply| Some(judge(address, reply, expect))).await;
    reply.unwrap_or_else(|verdict| verdict)
}

fn judge(address: SocketAddr, reply: &[u8], expect: &[u8]) -> Verdict {
    if expect.is_empty() || reply.windows(expect.len()).any(|some| some == expect) {
        return Verdict::ready(format!("replies {}", net::shown(reply)));
    }
    let (heard, wanted) = (net::shown(reply), net::shown(expect));
    Verdict::not_ready(Trouble::Declined, format!("{address} replies {heard}, without {wanted}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Ask;
    use crate::probe::testing::{ask, ask_in_vain, not_ready};

    /// A server that swallows the first `lost` datagrams and then echoes each behind `before`.
    async fn echo(lost: usize, before: &'static [u8]) -> SocketAddr {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        tokio::spawn(async move {
            let mut some = [0; 2048];
            for count in 0.. {
                let (length, peer) = socket.recv_from(&mut some).await.unwrap();
                if count >= lost {
                    socket.send_to(&[before, &some[..length]].concat(), peer).await.unwrap();
                }
            }
        });
        address
    }

    fn udp(address: SocketAddr, expect: &[u8]) -> Ask {
        Ask::Udp { address, send: b"ping\x01".to_vec(), expect: expect.to_vec() }
    }

    #[tokio::test]
    async fn the_expected_reply_is_ready() {
        let address = echo(0, b"re: ").await;
        assert_eq!(ask(udp(address, b": ping\x01")).await, Verdict::ready("replies re: ping\\u{1}"));
        assert_eq!(ask(udp(address, b"")).await, Verdict::ready("replies re: ping\\u{1}"));
        let other = ask(udp(address, b"pong")).await;
        not_ready(other, Trouble::Declined, format!("{address} replies re: ping\\u{{1}}, without pong"));
    }

    #[tokio::test]
    async fn a_lost_datagram_is_sent_again() {
        assert!(ask(udp(echo(2, b"").await, b"ping")).await.is_ready());
    }

    #[tokio::test]
    async fn nobody_and_silence_are_told_apart() {
        let taken = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let silent = ask_in_vain(udp(taken.local_addr().unwrap(), b"")).await;
        let address = taken.local_addr().unwrap();
        not_ready(silent, Trouble::Unreachable, format!("no answer from {address} within 200 ms"));
        drop(taken);
        let nobody = ask(udp(address, b"")).await;
        not_ready(nobody, Trouble::Refused, format!("nothing listens on UDP {address}"));
    }

    #[tokio::test]
    async fn no_more_than_a_limit_of_a_reply_is_read() {
        static LARGE: [u8; 8000] = [b'x'; 8000];
        let address = echo(0, &LARGE).await;
        assert!(!ask(udp(address, b"ping")).await.is_ready(), "it stands behind the limit");
        assert!(ask(udp(address, b"xxx")).await.is_ready());
    }
}
