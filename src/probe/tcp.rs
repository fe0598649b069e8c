//! TCP: a connect that succeeds. It proves that something listens, and little more.

use super::course::Course;
use super::net;
use crate::facts::Verdict;
use std::net::SocketAddr;

pub(super) async fn ask(address: SocketAddr, course: Course<'_>) -> Verdict {
    match net::connect(address, course).await {
        Ok(_) => Verdict::ready("accepts connections"),
        Err(verdict) => verdict,
    }
}

#[cfg(test)]
mod tests {
    use crate::facts::{Trouble, Verdict};
    use crate::model::Ask;
    use crate::probe::testing::{ask, ask_in_vain, given_up, listener, nobody, not_ready};
    use tokio::net::TcpStream;

    #[tokio::test]
    async fn a_listener_is_ready() {
        let (_listener, address) = listener().await;
        assert_eq!(ask(Ask::Tcp { address }).await, Verdict::ready("accepts connections"));
    }

    #[tokio::test]
    async fn no_listener_refuses() {
        let (_port, address) = nobody().await;
        let verdict = ask(Ask::Tcp { address }).await;
        not_ready(verdict, Trouble::Refused, format!("connection refused by {address}"));
    }

    #[tokio::test]
    async fn a_connect_that_nobody_answers_ends_by_its_deadline() {
        // A listener whose queue is full: the kernel drops every further connect, as a firewall would.
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(0).unwrap();
        let address = listener.local_addr().unwrap();
        let _in_the_queue = TcpStream::connect(address).await.unwrap();
        let verdict = ask_in_vain(Ask::Tcp { address }).await;
        not_ready(verdict, Trouble::Unreachable, format!("no answer from {address} within 200 ms"));
        given_up(address).await;
    }
}
