//! FastDFS: the active test (command 111), which tracker and storage answer alike.
//!
//! A header is 10 bytes: body length (i64, big-endian), command, status. A reply's command is always 100.

use super::course::Course;
use super::net;
use crate::facts::{Stage, Trouble, Verdict};
use std::net::SocketAddr;

/// "Are you there": no body, command 111, status 0.
pub(crate) const ACTIVE_TEST: [u8; 10] = [0, 0, 0, 0, 0, 0, 0, 0, 111, 0];
/// The command of every reply.
pub(crate) const REPLY: u8 = 100;

pub(super) async fn ask(address: SocketAddr, course: Course<'_>) -> Verdict {
    let mut stream = match net::connect(address, course).await {
        Ok(stream) => stream,
        Err(verdict) => return verdict,
    };
    course.commit();
    course.enter(Stage::Reply);
    match course.limit(net::exchange(&mut stream, &ACTIVE_TEST)).await {
        Some(Ok(header)) => judge(address, header),
        Some(Err(error)) => net::exchange_trouble(address, &error),
        None => net::silent(address, course),
    }
}

fn judge(address: SocketAddr, header: [u8; 10]) -> Verdict {
    match header {
        [0, 0, 0, 0, 0, 0, 0, 0, REPLY, 0] => Verdict::ready("active test passed"),
        [0, 0, 0, 0, 0, 0, 0, 0, REPLY, status] => Verdict::not_ready(
            Trouble::Declined,
            format!("{address} answers the active test with status {status}"),
        ),
        other => net::garbled(address, "FastDFS", format!("it says \"{}\"", net::shown(&other))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Ask;
    use crate::probe::testing::{answers, ask, ask_in_vain, greets, not_ready};

    /// Captured from a real tracker and a real storage alike.
    const ACTIVE: [u8; 10] = [0, 0, 0, 0, 0, 0, 0, 0, 0x64, 0];

    #[tokio::test]
    async fn the_captured_answer_is_ready() {
        let address = answers(ACTIVE).await;
        assert_eq!(ask(Ask::Fastdfs { address }).await, Verdict::ready("active test passed"));
    }

    #[tokio::test]
    async fn what_is_not_ready_is_said() {
        let address = answers([0, 0, 0, 0, 0, 0, 0, 0, 0x64, 0x16]).await;
        let reason = format!("{address} answers the active test with status 22");
        not_ready(ask(Ask::Fastdfs { address }).await, Trouble::Declined, reason);

        let address = answers("HTTP/1.1 400 Bad Request\r\n\r\n").await;
        let reason = format!("{address} does not speak FastDFS: it says \"HTTP/1.1 4\"");
        not_ready(ask(Ask::Fastdfs { address }).await, Trouble::Garbled, reason);

        let address = answers(&ACTIVE[..7]).await;
        let reason = format!("{address} closed the connection without an answer");
        not_ready(ask(Ask::Fastdfs { address }).await, Trouble::Declined, reason);

        let address = greets("").await;
        let reason = format!("{address} accepts the connection and says nothing within 200 ms");
        not_ready(ask_in_vain(Ask::Fastdfs { address }).await, Trouble::Silent, reason);
    }
}
