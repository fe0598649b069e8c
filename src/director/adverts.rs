//! Listening to VRRP: who announces itself. Only while something is wrong.

use crate::process;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, socket};
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsRawFd, OwnedFd};
use tokio::io::unix::AsyncFd;

/// The protocol number of VRRP (RFC 5798).
const VRRP: u8 = 112;
/// The least length of an IPv4 header, and where in it protocol and source are (RFC 791).
const HEAD: usize = 20;
const PROTOCOL_AT: usize = 9;
const SOURCE_AT: usize = 12;

/// Hears every advert that reaches one of this machine's cards, before any packet filter for what comes in; over IPv4.
pub struct Listener(AsyncFd<OwnedFd>);

impl Listener {
    /// Needs CAP_NET_RAW. Must be called within the runtime.
    pub fn open() -> io::Result<Listener> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = socket(AddressFamily::Packet, SockType::Datagram, flags, SockProtocol::EthIp)?;
        process::only_ip_protocol(&fd, VRRP)?;
        Ok(Listener(process::watch(fd)?))
    }

    /// Waits for the next advert; its source.
    pub async fn next(&mut self) -> io::Result<IpAddr> {
        loop {
            let mut ready = self.0.readable().await?;
            let mut head = [0; HEAD];
            match recv(ready.get_inner().as_raw_fd(), &mut head, MsgFlags::MSG_TRUNC) {
                Ok(length) if length >= HEAD => {
                    if let Some(from) = source(&head) {
                        return Ok(from);
                    }
                }
                Err(nix::errno::Errno::EAGAIN) => ready.clear_ready(),
                Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }
}

/// The source of an advert, by the head of its IPv4 packet.
fn source(head: &[u8; HEAD]) -> Option<IpAddr> {
    let [a, b, c, d] = [0, 1, 2, 3].map(|i| head[SOURCE_AT + i]);
    // What came before the filter was in force may be anything.
    (head[0] >> 4 == 4 && head[PROTOCOL_AT] == VRRP).then(|| Ipv4Addr::new(a, b, c, d).into())
}
