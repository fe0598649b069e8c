//! What the network protocols share: connecting, bounded reading, and the words for what went wrong.

use super::course::Course;
use crate::facts::{Stage, Trouble, Verdict};
use std::fmt;
use std::io::{self, BufRead};
use std::net::SocketAddr;
use tokio::net::TcpStream;

/// Connects with TCP_NODELAY; whatever goes wrong is already a verdict.
pub(super) async fn connect(address: SocketAddr, course: Course<'_>) -> Result<TcpStream, Verdict> {
    course.enter(Stage::Connect);
    let stream = match course.limit(TcpStream::connect(address)).await {
        Some(Ok(stream)) => stream,
        Some(Err(error)) => return Err(connect_trouble(address, &error)),
        None => return Err(unanswered(address, course)),
    };
    // It can fail only when the connection is gone already, and then the next read says so.
    let _ = stream.set_nodelay(true);
    Ok(stream)
}

/// The first address of a host. A literal address is taken as it is.
pub(super) async fn look_up(host: &str, port: u16, course: Course<'_>) -> Result<SocketAddr, Verdict> {
    if let Ok(ip) = host.trim_matches(['[', ']']).parse() {
        return Ok(SocketAddr::new(ip, port));
    }
    course.enter(Stage::LookUp);
    let why = match course.limit(tokio::net::lookup_host((host, port))).await {
        Some(Ok(mut found)) => match found.next() {
            Some(address) => return Ok(address),
            None => format!("{host} has no address"),
        },
        Some(Err(error)) => format!("cannot look up {host}: {}", plain(&error)),
        None => format!("cannot look up {host} within {course}"),
    };
    Err(Verdict::not_ready(Trouble::Unaskable, why))
}

/// The verdict on a connect that nobody answered in time.
pub(super) fn unanswered(address: impl fmt::Display, course: Course<'_>) -> Verdict {
    Verdict::not_ready(Trouble::Unreachable, format!("no answer from {address} within {course}"))
}

/// The verdict on a component that took the connection and then said nothing in time.
pub(super) fn silent(address: impl fmt::Display, course: Course<'_>) -> Verdict {
    Verdict::not_ready(
        Trouble::Silent,
        format!("{address} accepts the connection and says nothing within {course}"),
    )
}

/// The verdict on a component that closed the connection before it had answered.
pub(super) fn hung_up(address: impl fmt::Display) -> Verdict {
    Verdict::not_ready(Trouble::Declined, format!("{address} closed the connection without an answer"))
}

/// The verdict on something that does not speak `protocol`.
pub(super) fn garbled(address: impl fmt::Display, protocol: &str, heard: impl fmt::Display) -> Verdict {
    Verdict::not_ready(Trouble::Garbled, format!("{address} does not speak {protocol}: {heard}"))
}

/// The verdict on a connect that failed.
pub(super) fn connect_trouble(address: impl fmt::Display, error: &io::Error) -> Verdict {
    use io::ErrorKind as Kind;
    let (kind, reason) = match error.kind() {
        Kind::ConnectionRefused => (Trouble::Refused, format!("connection refused by {address}")),
        Kind::HostUnreachable => {
            (Trouble::Unreachable, format!("{address} cannot be reached: its host does not answer"))
        }
        Kind::NetworkUnreachable => {
            (Trouble::Unreachable, format!("{address} cannot be reached: no route to its network"))
        }
        Kind::TimedOut => (Trouble::Unreachable, format!("no answer from {address}")),
        // A reset during the connect: a listener that is just going away.
        Kind::ConnectionReset | Kind::ConnectionAborted => {
            (Trouble::Refused, format!("connection reset by {address}"))
        }
        // EMFILE, EADDRNOTAVAIL, EACCES by a local firewall, …: our own trouble, not theirs.
        _ => (Trouble::Unaskable, format!("cannot connect to {address}: {}", plain(error))),
    };
    Verdict::not_ready(kind, reason)
}

/// Whether the other side has ended the connection, in good order or not.
pub(super) fn is_end(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    matches!(
        error.kind(),
        Kind::UnexpectedEof | Kind::ConnectionReset | Kind::ConnectionAborted | Kind::BrokenPipe
    )
}

/// The verdict on a connection that broke before the answer was complete.
pub(super) fn exchange_trouble(address: impl fmt::Display, error: &io::Error) -> Verdict {
    use io::ErrorKind as Kind;
    match error.kind() {
        _ if is_end(error) => hung_up(address),
        Kind::TimedOut | Kind::HostUnreachable | Kind::NetworkUnreachable => Verdict::not_ready(
            Trouble::Unreachable,
            format!("the connection to {address} was cut: {}", plain(error)),
        ),
        _ => Verdict::not_ready(
            Trouble::Unaskable,
            format!("the connection to {address} failed: {}", plain(error)),
        ),
    }
}

/// The system's words in lower case, without `(os error 24)`.
pub(super) fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect())
}

/// Whether a connect from this machine to `address` is waiting for its answer at this moment, as the kernel tells.
///
/// Clients that connect by themselves (mysql_async) tell only that they were not done in time. This tells
/// whether nobody has answered (a dead machine, a cut) or somebody has and is silent (frozen, hung).
pub(super) fn connect_is_unanswered(address: SocketAddr) -> bool {
    // About 27,000 sockets. Beyond that the kernel's list takes too long to read here.
    const MOST: u64 = 4 << 20;
    let list = if address.is_ipv4() { "/proc/thread-self/net/tcp" } else { "/proc/thread-self/net/tcp6" };
    let Ok(file) = std::fs::File::open(list) else { return false };
    let remote = as_in_proc(address);
    std::io::BufReader::new(std::io::Read::take(file, MOST)).lines().map_while(Result::ok).any(|line| {
        // `sl local_address rem_address st …`; state 02 is SYN_SENT.
        let mut fields = line.split_ascii_whitespace().skip(2);
        fields.next() == Some(remote.as_str()) && fields.next() == Some("02")
    })
}

/// An address as `/proc/net/tcp` writes it: words of four bytes as this machine's numbers, in hex.
fn as_in_proc(address: SocketAddr) -> String {
    let bytes = match address.ip() {
        std::net::IpAddr::V4(ip) => ip.octets().to_vec(),
        std::net::IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let words =
        bytes.chunks_exact(4).map(|w| format!("{:08X}", u32::from_ne_bytes([w[0], w[1], w[2], w[3]])));
    format!("{}:{:04X}", words.collect::<String>(), address.port())
}

/// Foreign bytes as they may stand in a sentence: control characters made visible, at most 100 characters.
pub(super) fn shown(bytes: &[u8]) -> String {
    const MOST: usize = 100;
    let mut text = String::new();
    let lossy = String::from_utf8_lossy(&bytes[..bytes.len().min(4 * MOST)]);
    for (count, c) in lossy.chars().enumerate() {
        match c {
            _ if count == MOST => {
                text.push('…');
                break;
            }
            c if c.is_control() => text.extend(c.escape_default()),
            c => text.push(c),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::testing;

    #[tokio::test]
    async fn the_kernel_tells_an_unanswered_connect_from_an_established_one() {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(0).unwrap();
        let address = listener.local_addr().unwrap();
        let _established = TcpStream::connect(address).await.unwrap();
        assert!(!connect_is_unanswered(address));

        let mut connecting = Box::pin(TcpStream::connect(address));
        let begun = std::future::poll_fn(|context| {
            std::task::Poll::Ready(connecting.as_mut().poll(context).is_pending())
        });
        assert!(begun.await);
        assert!(connect_is_unanswered(address));
        drop(connecting);
        testing::given_up(address).await;
    }

    #[test]
    fn addresses_look_as_in_proc() {
        assert_eq!(as_in_proc("127.0.0.1:6379".parse().unwrap()), "0100007F:18EB");
        assert_eq!(as_in_proc("[::1]:80".parse().unwrap()), "00000000000000000000000001000000:0050");
    }

    #[test]
    fn trouble_is_told_as_a_person_would() {
        let says = |errno, kind, reason: &str| {
            let verdict = connect_trouble("10.0.0.5:3306", &io::Error::from_raw_os_error(errno));
            testing::not_ready(verdict, kind, reason);
        };
        says(libc::ECONNREFUSED, Trouble::Refused, "connection refused by 10.0.0.5:3306");
        says(
            libc::EHOSTUNREACH,
            Trouble::Unreachable,
            "10.0.0.5:3306 cannot be reached: its host does not answer",
        );
        says(
            libc::ENETUNREACH,
            Trouble::Unreachable,
            "10.0.0.5:3306 cannot be reached: no route to its network",
        );
        says(libc::ETIMEDOUT, Trouble::Unreachable, "no answer from 10.0.0.5:3306");
        says(libc::EMFILE, Trouble::Unaskable, "cannot connect to 10.0.0.5:3306: too many open files");
    }

    #[test]
    fn foreign_bytes_are_cut_and_made_harmless() {
        assert_eq!(shown(b"a\x1b[31m\r\n"), "a\\u{1b}[31m\\r\\n");
        assert_eq!(shown("Zugriff für 'x' \"verweigert\"".as_bytes()), "Zugriff für 'x' \"verweigert\"");
        assert_eq!(shown(&[b'x'; 101]), format!("{}…", "x".repeat(100)));
    }
}
