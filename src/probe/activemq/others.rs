//! The other tongues of a broker, each on a port of its own: STOMP, AMQP 1.0, MQTT. In each a client speaks first; an
//! answer that refuses the client proves the port as well as one that takes it.

use super::super::course::Course;
use super::super::net;
use crate::facts::{Trouble, Verdict};
use std::io;
use std::net::SocketAddr;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The most bytes of an answer that are read. What matters are the first ones.
pub(in crate::probe) const MOST: usize = 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::probe) enum Protocol {
    Stomp,
    Amqp,
    Mqtt,
}

impl Protocol {
    #[cfg(any(test, feature = "fuzz"))]
    pub const ALL: [Protocol; 3] = [Protocol::Stomp, Protocol::Amqp, Protocol::Mqtt];

    pub fn name(self) -> &'static str {
        match self {
            Protocol::Stomp => "STOMP",
            Protocol::Amqp => "AMQP",
            Protocol::Mqtt => "MQTT",
        }
    }

    /// What a client says first.
    fn greeting(self) -> &'static [u8] {
        match self {
            Protocol::Stomp => b"CONNECT\naccept-version:1.0,1.1,1.2\nhost:clusterd\n\n\0",
            // Protocol 3 is SASL, which goes before AMQP itself.
            Protocol::Amqp => b"AMQP\x03\x01\x00\x00",
            // Version 4 (3.1.1), a clean session, kept alive for 10 s, without a name.
            Protocol::Mqtt => b"\x10\x0c\0\x04MQTT\x04\x02\0\x0a\0\0",
        }
    }

    /// How its answer may begin.
    fn answers(self) -> &'static [&'static [u8]] {
        match self {
            Protocol::Stomp => &[b"CONNECTED\n", b"CONNECTED\r\n", b"ERROR\n", b"ERROR\r\n"],
            Protocol::Amqp => &[b"AMQP"],
            // CONNACK with its length.
            Protocol::Mqtt => &[b"\x20\x02"],
        }
    }

    /// How a client takes its leave; in AMQP nothing has begun yet.
    fn farewell(self) -> &'static [u8] {
        match self {
            Protocol::Stomp => b"DISCONNECT\n\n\0",
            Protocol::Amqp => b"",
            Protocol::Mqtt => b"\xe0\0",
        }
    }
}

/// Whether the port speaks it; the verdict on what came instead.
pub(super) async fn ask(address: SocketAddr, protocol: Protocol, course: Course<'_>) -> Result<(), Verdict> {
    let name = protocol.name();
    let stream = net::connect(address, course).await.map_err(|verdict| of(name, verdict))?;
    match course.limit(exchange(stream, protocol)).await {
        Some(Ok(heard)) => judge(address, protocol, &heard).map_or(Ok(()), Err),
        Some(Err(error)) => Err(of(name, net::exchange_trouble(address, &error))),
        None => Err(of(name, net::silent(address, course))),
    }
}

/// What is wrong with an answer.
pub(in crate::probe) fn judge(address: SocketAddr, protocol: Protocol, heard: &[u8]) -> Option<Verdict> {
    let sound = protocol.answers().iter().any(|begin| heard.starts_with(begin));
    let says = || net::garbled(address, protocol.name(), format!("it says \"{}\"", net::shown(heard)));
    (!sound).then(says)
}

/// The broker has greeted in OpenWire, so this is about one of its ports only.
fn of(name: &str, verdict: Verdict) -> Verdict {
    match verdict {
        Verdict::NotReady { kind, reason } => {
            // What is refused or not answered there is a broker that lives and does not serve all that it should.
            let kind = if kind == Trouble::Refused { Trouble::Declined } else { kind };
            Verdict::not_ready(kind, format!("it greets in OpenWire, but not in {name}: {reason}"))
        }
        other => other,
    }
}

pub(in crate::probe) async fn exchange<S>(mut stream: S, protocol: Protocol) -> io::Result<Vec<u8>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    stream.write_all(protocol.greeting()).await?;
    let longest = protocol.answers().iter().map(|begin| begin.len()).max().unwrap_or_default();
    let mut heard = Vec::with_capacity(MOST);
    while heard.len() < longest {
        let mut some = [0; MOST];
        match stream.read(&mut some).await? {
            0 if heard.is_empty() => return Err(io::ErrorKind::UnexpectedEof.into()),
            0 => break,
            n => heard.extend_from_slice(&some[..n]),
        }
        if protocol.answers().iter().any(|begin| heard.starts_with(begin)) {
            break;
        }
    }
    // It has answered: what becomes of our farewell matters to nobody.
    let _ = stream.write_all(protocol.farewell()).await;
    let _ = stream.shutdown().await;
    Ok(heard)
}

#[cfg(test)]
mod tests {
    use super::super::tests::introduces;
    use super::*;
    use crate::model::{Ask, BrokerAsk};
    use crate::probe::testing::{answers, ask, not_ready};

    async fn asked(also: BrokerAsk) -> Verdict {
        ask(Ask::Activemq { address: introduces().await, also }).await
    }

    #[tokio::test]
    async fn each_tongue_is_heard() {
        let port = async |words: &[u8]| Some(answers(words).await.port());
        let verdict = asked(BrokerAsk {
            stomp: port(b"CONNECTED\nversion:1.2\n\n\0").await,
            amqp: port(b"AMQP\x03\x01\x00\x00").await,
            mqtt: port(b"\x20\x02\0\0").await,
            jolokia: None,
            store: None,
        })
        .await;
        assert_eq!(verdict.to_string(), "ready (broker localhost, STOMP, AMQP, MQTT)");

        let refuses = BrokerAsk { stomp: port(b"ERROR\nmessage:no\n\n\0").await, ..BrokerAsk::default() };
        assert_eq!(asked(refuses).await.to_string(), "ready (broker localhost, STOMP)");
    }

    #[tokio::test]
    async fn a_tongue_that_is_missing_is_named() {
        let (_port, closed) = crate::probe::testing::nobody().await;
        let verdict = asked(BrokerAsk { amqp: Some(closed.port()), ..BrokerAsk::default() }).await;
        let reason = format!("it greets in OpenWire, but not in AMQP: connection refused by {closed}");
        not_ready(verdict, Trouble::Declined, reason);

        let other = answers("HTTP/1.1 400 Bad Request\r\n").await;
        let verdict = asked(BrokerAsk { mqtt: Some(other.port()), ..BrokerAsk::default() }).await;
        let reason = format!("{other} does not speak MQTT: it says \"HTTP/1.1 400 Bad Request\\r\\n\"");
        not_ready(verdict, Trouble::Garbled, reason);
    }
}
