//! Whether a broker's store answers. One that has lost its database greets and takes connections for a minute and more:
//! only what must touch the store shows it. So a queue is made that has a name of its own, which makes the broker look
//! for its messages in the store, and removed again. No message is sent, and nothing stays.
//!
//! Commands are in the plain ("loose") encoding of OpenWire version 1, as our greeting asks for. Seen with 5.17, on
//! JDBC and on KahaDB.

use super::super::course::Course;
use super::super::{net, password};
use super::{Failure, frame};
use crate::facts::{Trouble, Verdict};
use crate::model::Login;
use std::net::SocketAddr;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use zeroize::Zeroizing;

/// The most frames that are read for the three answers.
const FRAMES: usize = 32;

/// Type bytes of OpenWire.
const CONNECTION_INFO: u8 = 3;
const DESTINATION_INFO: u8 = 8;
const SHUTDOWN_INFO: u8 = 11;
const RESPONSE: u8 = 30;
const EXCEPTION_RESPONSE: u8 = 31;
const QUEUE: u8 = 100;
const CONNECTION_ID: u8 = 120;

/// Our commands' numbers, which answers carry.
const CONNECT: i32 = 1;
const MAKE: i32 = 2;
const REMOVE: i32 = 3;

/// Asks on a connection that has been greeted and introduced; `me` is its own end.
pub(super) async fn ask<S>(
    stream: &mut S,
    me: SocketAddr,
    address: SocketAddr,
    login: Option<&Login>,
    course: Course<'_>,
) -> Result<(), Verdict>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let password = login.map(password::of).transpose()?.flatten();
    let login_as = login.map(|login| (login.user.as_str(), password));
    let commands = Zeroizing::new(commands(me, login_as));
    match course.limit(exchange(stream, &commands)).await {
        Some(Ok(None)) => Ok(()),
        Some(Ok(Some((command, exception)))) => Err(refused(address, login, command, &exception)),
        Some(Err(Failure::Io(_))) => Err(Verdict::not_ready(
            Trouble::Declined,
            format!("{address} greets, but closes the connection when its store is asked"),
        )),
        Some(Err(Failure::Garbled(heard))) => Err(net::garbled(address, "OpenWire", heard)),
        None => Err(Verdict::not_ready(
            Trouble::Silent,
            format!("{address} greets, but its store does not answer within {course}"),
        )),
    }
}

/// Says the commands and reads their answers: what the first one that failed was, and the exception.
pub(in crate::probe) async fn exchange<S>(
    stream: &mut S,
    commands: &[u8],
) -> Result<Option<(i32, Exception)>, Failure>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    stream.write_all(commands).await?;
    for _ in 0..FRAMES {
        let frame = frame(stream).await?;
        match answer(&frame) {
            Some((command, Some(exception))) => return Ok(Some((command, exception))),
            Some((REMOVE, None)) => {
                // All is answered: what becomes of our farewell matters to nobody.
                let _ = stream.write_all(&framed(&command(SHUTDOWN_INFO, REMOVE + 1, false))).await;
                return Ok(None);
            }
            _ => {}
        }
    }
    Err(Failure::Garbled(format!("no answer among its first {FRAMES} messages")))
}

/// What went wrong in a broker: the exception's class and its words.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::probe) struct Exception {
    class: String,
    words: String,
}

/// An answer: to which command, and what went wrong.
pub(in crate::probe) fn answer(frame: &[u8]) -> Option<(i32, Option<Exception>)> {
    // Type, number (i32), reply wanted (bool), and the number of the command that is answered (i32).
    let kind = *frame.first()?;
    let (to, rest) = frame.get(6..)?.split_first_chunk::<4>()?;
    let to = i32::from_be_bytes(*to);
    match kind {
        RESPONSE => Some((to, None)),
        EXCEPTION_RESPONSE => {
            let mut rest = rest.strip_prefix(&[1]).unwrap_or_default();
            let class = super::string(&mut rest).unwrap_or_default();
            Some((to, Some(Exception { class, words: super::string(&mut rest).unwrap_or_default() })))
        }
        _ => None,
    }
}

fn refused(address: SocketAddr, login: Option<&Login>, command: i32, exception: &Exception) -> Verdict {
    let said = password::said(login, exception.words.trim_end_matches('.').as_bytes());
    let denied = exception.class == "java.lang.SecurityException";
    match (command, login) {
        (CONNECT, Some(login)) if denied => Verdict::not_ready(
            Trouble::Denied,
            format!("{address} greets, but refuses the login of {}: {said}", login.user),
        ),
        (CONNECT, None) if denied => Verdict::not_ready(
            Trouble::Denied,
            format!("{address} greets, but asks for a login, and none is given: {said}"),
        ),
        (CONNECT, _) => {
            Verdict::not_ready(Trouble::Declined, format!("{address} greets, but lets nobody in: {said}"))
        }
        _ if denied => Verdict::not_ready(
            Trouble::Denied,
            format!(
                "{address} greets, but its store cannot be asked without the right to make queues: {said}"
            ),
        ),
        _ => Verdict::not_ready(
            Trouble::Declined,
            format!("{address} greets, but its store does not answer: {said}"),
        ),
    }
}

/// A connection, a queue that is made, and the queue removed.
pub(in crate::probe) fn commands(
    me: SocketAddr,
    login: Option<(&str, Option<Zeroizing<String>>)>,
) -> Vec<u8> {
    // No other one on this connection's ends has the name while it lives; a dot would make a hierarchy of it.
    let name = format!("clusterd.probe.{}", me.to_string().replace(['.', ':', '[', ']', '%'], "-"));
    let (user, password) = login.map_or((None, None), |(user, password)| (Some(user), password));
    let mut connect = command(CONNECTION_INFO, CONNECT, true);
    connect.extend(object(CONNECTION_ID, &name));
    let password = password.as_ref().map(|password| password.as_str());
    connect.extend([Some(name.as_str()), password, user].map(text).concat());
    // Neither a path of brokers, nor from a broker, nor to be managed.
    connect.extend([0, 0, 0]);
    let queue = |number, operation: u8| {
        let mut info = command(DESTINATION_INFO, number, true);
        info.extend([object(CONNECTION_ID, &name), object(QUEUE, &name)].concat());
        info.push(operation);
        // No time-out, no path of brokers.
        info.extend([0; 9]);
        info
    };
    [connect, queue(MAKE, 0), queue(REMOVE, 1)].map(|command| framed(&command)).concat()
}

fn framed(command: &[u8]) -> Vec<u8> {
    [&(command.len() as u32).to_be_bytes()[..], command].concat()
}

fn command(kind: u8, number: i32, answer: bool) -> Vec<u8> {
    [&[kind][..], &number.to_be_bytes(), &[u8::from(answer)]].concat()
}

/// An object that has a text and nothing else.
fn object(kind: u8, value: &str) -> Vec<u8> {
    [&[1, kind][..], &text(Some(value))].concat()
}

/// Whether it is there, its length (u16), its bytes.
fn text(value: Option<&str>) -> Vec<u8> {
    match value.map(|value| &value.as_bytes()[..value.len().min(usize::from(u16::MAX))]) {
        Some(bytes) => [&[1][..], &(bytes.len() as u16).to_be_bytes(), bytes].concat(),
        None => vec![0],
    }
}

#[cfg(test)]
mod tests {
    use super::super::INFO;
    use super::super::tests::framed as plainly;
    use super::super::{GREETING, MOST};
    use super::*;
    use crate::model::{Ask, BrokerAsk, StoreAsk};
    use crate::probe::testing::{ask as asked, ask_in_vain, greets, login, not_ready};

    /// Of 5.17 whose database is gone.
    const LOST: &[u8] =
        b"\x1f\0\0\0\0\0\0\0\0\x02\x01\x01\0\x13java.io.IOException\x01\0\x1dCould not connect to \
        address.";
    const DONE: [&[u8]; 3] =
        [b"\x1e\0\0\0\0\0\0\0\0\x01", b"\x1e\0\0\0\0\0\0\0\0\x02", b"\x1e\0\0\0\0\0\0\0\0\x03"];

    /// A broker that answers so.
    async fn answers(answers: &[&[u8]]) -> SocketAddr {
        let answers = answers.iter().flat_map(|answer| plainly(answer)).collect::<Vec<u8>>();
        greets([GREETING.to_vec(), plainly(INFO), answers].concat()).await
    }

    fn store(address: SocketAddr, login: Option<Login>) -> Ask {
        Ask::Activemq { address, also: BrokerAsk { store: Some(StoreAsk { login }), ..BrokerAsk::default() } }
    }

    #[tokio::test]
    async fn a_store_that_answers_is_told_and_one_that_does_not_is_said() {
        let well = asked(store(answers(&DONE).await, None)).await;
        assert_eq!(well.to_string(), "ready (broker localhost, its store answers)");
        let at = answers(&[DONE[0], LOST, DONE[2]]).await;
        let reason = format!("{at} greets, but its store does not answer: Could not connect to address");
        not_ready(asked(store(at, None)).await, Trouble::Declined, reason);
        let at = answers(&DONE[..1]).await;
        let reason = format!("{at} greets, but its store does not answer within 200 ms");
        not_ready(ask_in_vain(store(at, None)).await, Trouble::Silent, reason);
        let at = answers(&[&b"\x05"[..]; FRAMES]).await;
        let reason = format!("{at} does not speak OpenWire: no answer among its first 32 messages");
        not_ready(asked(store(at, None)).await, Trouble::Garbled, reason);
    }

    #[tokio::test]
    async fn a_login_that_is_refused_is_said_without_its_password() {
        let dir = tempfile::tempdir().unwrap();
        let words =
            b"\x1f\0\0\0\0\0\0\0\0\x01\x01\x01\0\x1bjava.lang.SecurityException\x01\0\x11no, hunter2 is it";
        let at = answers(&[&words[..]]).await;
        let reason = format!("{at} greets, but refuses the login of probe: no, (its password) is it");
        not_ready(
            asked(store(at, Some(login(dir.path(), "probe", "hunter2")))).await,
            Trouble::Denied,
            reason,
        );
        let reason = format!("{at} greets, but asks for a login, and none is given: no, hunter2 is it");
        not_ready(asked(store(at, None)).await, Trouble::Denied, reason);
    }

    #[test]
    fn an_answer_that_is_cut_says_less_and_no_more() {
        for cut in 0..LOST.len() {
            answer(&LOST[..cut]);
        }
        assert!(commands("[::1]:1".parse().unwrap(), None).len() < MOST as usize);
    }
}
