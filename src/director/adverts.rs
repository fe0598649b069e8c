//! Listening to VRRP: who announces itself. Only while something is wrong.
//!
//! An address of each family is announced over that family (RFC 9568, 1.2).

use crate::process;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, socket};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, OwnedFd};
use tokio::io::unix::AsyncFd;

/// The protocol number of VRRP (RFC 5798).
const VRRP: u8 = 112;
/// As long as the longer of both headers: IPv4's without options has 20 bytes (RFC 791), IPv6's 40 (RFC 8200).
const HEAD: usize = 40;

/// Where in the header of a family the protocol and the source are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    V4,
    V6,
}

impl Family {
    fn protocol_at(self) -> u8 {
        match self {
            Family::V4 => 9,
            Family::V6 => 6,
        }
    }
}

/// Hears every advert that reaches one of this machine's cards, before any packet filter for what comes in.
pub struct Listener {
    socket: AsyncFd<OwnedFd>,
    family: Family,
}

impl Listener {
    /// For adverts of this virtual address. Needs CAP_NET_RAW. Must be called within the runtime.
    pub fn open(vip: IpAddr) -> io::Result<Listener> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let (family, ether) = match vip {
            IpAddr::V4(_) => (Family::V4, SockProtocol::EthIp),
            IpAddr::V6(_) => (Family::V6, SockProtocol::EthIpv6),
        };
        let fd = socket(AddressFamily::Packet, SockType::Datagram, flags, ether)?;
        process::only_with_byte(&fd, family.protocol_at(), VRRP)?;
        Ok(Listener { socket: process::watch(fd)?, family })
    }

    /// Waits for the next advert; its source.
    pub async fn next(&mut self) -> io::Result<IpAddr> {
        loop {
            let mut ready = self.socket.readable().await?;
            let mut head = [0; HEAD];
            match recv(ready.get_inner().as_raw_fd(), &mut head, MsgFlags::MSG_TRUNC) {
                Ok(length) if length > 0 => {
                    // What is shorter has zeros for the rest, which are no advert's.
                    if let Some(from) = source(self.family, &head) {
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

/// The source of an advert, by the head of its packet.
fn source(family: Family, head: &[u8; HEAD]) -> Option<IpAddr> {
    // What came before the filter was in force may be anything.
    if head[usize::from(family.protocol_at())] != VRRP {
        return None;
    }
    match (family, head[0] >> 4) {
        (Family::V4, 4) => {
            let [a, b, c, d] = [12, 13, 14, 15].map(|at| head[at]);
            Some(Ipv4Addr::new(a, b, c, d).into())
        }
        (Family::V6, 6) => {
            <[u8; 16]>::try_from(&head[8..24]).ok().map(|octets| Ipv6Addr::from(octets).into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_source_is_read_in_both_families() {
        let mut head = [0; HEAD];
        (head[0], head[9]) = (0x45, 112);
        head[12..16].copy_from_slice(&[10, 0, 0, 2]);
        assert_eq!(source(Family::V4, &head), Some("10.0.0.2".parse().unwrap()));
        assert_eq!(source(Family::V6, &head), None);
        let (mut head, from) = ([0; HEAD], "fd00::2".parse::<Ipv6Addr>().unwrap());
        (head[0], head[6]) = (0x60, 112);
        head[8..24].copy_from_slice(&from.octets());
        assert_eq!(source(Family::V6, &head), Some(from.into()));
        head[6] = 17;
        assert_eq!(source(Family::V6, &head), None);
    }
}
