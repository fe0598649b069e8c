//! ActiveMQ Classic: both sides greet in OpenWire (`WireFormatInfo`), then the broker introduces itself
//! (`BrokerInfo`) with its name and its id.
//!
//! The greeting comes from the transport alone; the introduction from the broker behind it, and only to who has
//! greeted. Our greeting has no properties: the broker then writes in the plain ("loose") encoding. Seen with 5.17:
//! closing after that leaves no line in the broker's log.
//!
//! Its store, further ports and the broker's own view of its health are asked for only where the unit names them.

pub(in crate::probe) mod jolokia;
pub(in crate::probe) mod others;
pub(in crate::probe) mod store;

use super::course::Course;
use super::net;
use crate::facts::{Ready, Stage, Trouble, Verdict};
use crate::model::BrokerAsk;
use std::io;
use std::net::SocketAddr;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The largest frame that is read, in bytes; a greeting has about 350, an introduction about 100.
pub(super) const MOST: u32 = 16 * 1024;
/// The most frames that are read while waiting for the introduction.
pub(super) const FRAMES: usize = 4;

/// The most characters of a name or id that are kept. An id holds a host name and three numbers.
const LONGEST: usize = 400;

/// `WireFormatInfo`: size, type 1, the magic word, version 1 (the lower of both sides' counts), no properties.
pub(crate) const GREETING: [u8; 18] = *b"\0\0\0\x0e\x01ActiveMQ\0\0\0\x01\0";
/// The first bytes of every greeting's body.
const MAGIC: &[u8] = b"\x01ActiveMQ";
/// The type byte of `BrokerInfo`.
pub(crate) const BROKER_INFO: u8 = 2;
/// The type byte of a `BrokerId` within it.
pub(crate) const BROKER_ID: u8 = 124;

pub(super) async fn ask(address: SocketAddr, also: &BrokerAsk, course: Course<'_>) -> Verdict {
    let (ready, name) = match openwire(address, also, course).await {
        Ok(greeted) => greeted,
        Err(verdict) => return verdict,
    };
    match more(address, also, name.as_deref(), course).await {
        Ok(more) => {
            let detail = more.iter().fold(ready.detail, |told, more| format!("{told}, {more}"));
            Verdict::Ready(Ready { detail, roles: ready.roles, identity: ready.identity })
        }
        Err(verdict) => verdict,
    }
}

/// The greeting and the introduction, and the broker's name.
async fn openwire(
    address: SocketAddr,
    also: &BrokerAsk,
    course: Course<'_>,
) -> Result<(Ready, Option<String>), Verdict> {
    let mut stream = net::connect(address, course).await?;
    course.commit();
    course.enter(Stage::Reply);
    let mut greeted = false;
    match course.limit(introduction(&mut stream, &mut greeted)).await {
        Some(Ok(info)) => {
            let (mut ready, name) = judge(&info);
            if let Some(asks) = &also.store {
                let me = stream.local_addr().map_err(|error| net::exchange_trouble(address, &error))?;
                store::ask(&mut stream, me, address, asks.login.as_ref(), course).await?;
                ready.detail.push_str(", its store answers");
            }
            Ok((ready, name))
        }
        Some(Err(Failure::Io(error))) => Err(net::exchange_trouble(address, &error)),
        Some(Err(Failure::Garbled(heard))) => Err(net::garbled(address, "OpenWire", heard)),
        None if greeted => Err(Verdict::not_ready(
            Trouble::Silent,
            format!("{address} greets, but its broker does not introduce itself within {course}"),
        )),
        None => Err(net::silent(address, course)),
    }
}

/// What else the broker is set up for, each with a word.
async fn more(
    address: SocketAddr,
    also: &BrokerAsk,
    name: Option<&str>,
    course: Course<'_>,
) -> Result<Vec<&'static str>, Verdict> {
    let mut told = Vec::new();
    let at = |port| SocketAddr::new(address.ip(), port);
    for (port, protocol) in [
        (also.stomp, others::Protocol::Stomp),
        (also.amqp, others::Protocol::Amqp),
        (also.mqtt, others::Protocol::Mqtt),
    ] {
        if let Some(port) = port {
            others::ask(at(port), protocol, course).await?;
            told.push(protocol.name());
        }
    }
    if let Some(health) = &also.jolokia {
        jolokia::ask(at(health.port), &health.path, health.login.as_ref(), name, course).await?;
        told.push("its health is good");
    }
    Ok(told)
}

pub(super) enum Failure {
    Io(io::Error),
    Garbled(String),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure::Io(error)
    }
}

/// Greets and reads until the `BrokerInfo`.
pub(super) async fn introduction<S>(stream: &mut S, greeted: &mut bool) -> Result<Vec<u8>, Failure>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    stream.write_all(&GREETING).await?;
    let greeting = frame(stream).await?;
    if !greeting.starts_with(MAGIC) {
        return Err(Failure::Garbled(format!("it says \"{}\"", net::shown(&greeting))));
    }
    *greeted = true;
    for _ in 0..FRAMES {
        let frame = frame(stream).await?;
        if frame.first() == Some(&BROKER_INFO) {
            return Ok(frame);
        }
    }
    Err(Failure::Garbled(format!("no introduction among its first {FRAMES} messages")))
}

/// One frame without its size.
async fn frame(stream: &mut (impl AsyncRead + Unpin)) -> Result<Vec<u8>, Failure> {
    let mut head = [0; 4];
    stream.read_exact(&mut head).await?;
    let size = u32::from_be_bytes(head);
    if size > MOST {
        return Err(Failure::Garbled(format!("it begins with \"{}\"", net::shown(&head))));
    }
    let mut body = vec![0; size as usize];
    stream.read_exact(&mut body).await?;
    Ok(body)
}

pub(super) fn judge(info: &[u8]) -> (Ready, Option<String>) {
    let ready = |detail, identity| Ready { detail, roles: vec![], identity };
    match name_and_id(info) {
        Some((name, id)) => (ready(format!("broker {name}"), Some(id)), Some(name)),
        None => (ready("greets, broker unknown".into(), None), None),
    }
}

/// The broker's name and id from a `BrokerInfo` in the plain encoding: type, command number (i32), reply wanted
/// (bool), id, URL, peers, name. The id is new with each start of a broker; the name may be the same by mistake.
fn name_and_id(info: &[u8]) -> Option<(String, String)> {
    let mut rest = info.get(6..)?.strip_prefix(&[1, BROKER_ID])?;
    let id = string(&mut rest)?;
    let _url = string(&mut rest)?;
    // No peers, or a list of none: a broker's own introduction never has any.
    rest = rest.strip_prefix(&[1, 0, 0]).or_else(|| rest.strip_prefix(&[0]))?;
    Some((string(&mut rest)?, id))
}

/// Takes a string off the front: present (bool), length (u16), bytes.
fn string(rest: &mut &[u8]) -> Option<String> {
    let after = rest.strip_prefix(&[1])?;
    let (length, after) = after.split_first_chunk::<2>()?;
    let (text, after) = after.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
    *rest = after;
    Some(String::from_utf8_lossy(text).chars().filter(|c| !c.is_control()).take(LONGEST).collect())
}

/// From a broker of version 5.17 in answer to our greeting.
#[cfg(any(test, feature = "fuzz"))]
pub(super) const INFO: &[u8] = b"\x02\0\0\0\0\0\x01|\x01\0\x1dID:vm-46527-1795396108413-0:1\
    \x01\0\x15tcp://127.0.0.1:26161\0\x01\0\tlocalhost\0\0\0";

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::model::Ask;
    use crate::probe::testing::{answers, ask, ask_in_vain, greets, not_ready};

    fn plain(address: SocketAddr) -> Ask {
        Ask::Activemq { address, also: BrokerAsk::default() }
    }

    pub(super) fn framed(body: &[u8]) -> Vec<u8> {
        [&(body.len() as u32).to_be_bytes()[..], body].concat()
    }

    /// A broker that greets and introduces itself.
    pub(in crate::probe) async fn introduces() -> SocketAddr {
        greets([GREETING.to_vec(), framed(INFO)].concat()).await
    }

    #[tokio::test]
    async fn a_broker_that_introduces_itself_is_ready() {
        let Verdict::Ready(ready) = ask(plain(introduces().await)).await else { panic!() };
        assert_eq!(ready.detail, "broker localhost");
        assert_eq!(ready.identity.as_deref(), Some("ID:vm-46527-1795396108413-0:1"));
    }

    #[test]
    fn an_introduction_that_is_cut_names_nobody() {
        for cut in 0..INFO.len() - 4 {
            assert_eq!(name_and_id(&INFO[..cut]), None, "cut at {cut}");
        }
    }

    #[tokio::test]
    async fn what_is_not_ready_is_said() {
        let address = greets("").await;
        let reason = format!("{address} accepts the connection and says nothing within 200 ms");
        not_ready(ask_in_vain(plain(address)).await, Trouble::Silent, reason);

        let address = greets(GREETING).await;
        let reason = format!("{address} greets, but its broker does not introduce itself within 200 ms");
        not_ready(ask_in_vain(plain(address)).await, Trouble::Silent, reason);

        let address = answers("-ERR unknown command\r\n").await;
        let reason = format!("{address} does not speak OpenWire: it begins with \"-ERR\"");
        not_ready(ask(plain(address)).await, Trouble::Garbled, reason);

        let address = greets(framed(b"\x07whatever")).await;
        let reason = format!("{address} does not speak OpenWire: it says \"\\u{{7}}whatever\"");
        not_ready(ask(plain(address)).await, Trouble::Garbled, reason);

        let address = answers("").await;
        let reason = format!("{address} closed the connection without an answer");
        not_ready(ask(plain(address)).await, Trouble::Declined, reason);

        let address = greets([GREETING.to_vec(), framed(b"\x05").repeat(FRAMES)].concat()).await;
        let reason = format!("{address} does not speak OpenWire: no introduction among its first 4 messages");
        not_ready(ask(plain(address)).await, Trouble::Garbled, reason);
    }
}
