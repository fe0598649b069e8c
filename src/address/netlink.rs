//! A socket to the kernel's routing: netlink(7), rtnetlink(7).

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send, setsockopt,
    socket, sockopt,
};
use nix::sys::time::TimeVal;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, OwnedFd};

/// How long the kernel may take for an answer, in seconds. It answers within the call.
const PATIENCE: i64 = 1;

/// `struct ifaddrmsg` of rtnetlink(7).
#[derive(Default)]
pub(super) struct AddressMessage {
    pub family: u8,
    pub prefix: u8,
    pub flags: u8,
    pub index: u32,
}

impl AddressMessage {
    const LENGTH: usize = 8;

    pub fn bytes(&self, address: Option<IpAddr>) -> Vec<u8> {
        let mut bytes = vec![self.family, self.prefix, self.flags, 0];
        bytes.extend(self.index.to_ne_bytes());
        if let Some(address) = address {
            let octets = match address {
                IpAddr::V4(ip) => ip.octets().to_vec(),
                IpAddr::V6(ip) => ip.octets().to_vec(),
            };
            bytes.extend((4 + octets.len() as u16).to_ne_bytes());
            bytes.extend(libc::IFA_LOCAL.to_ne_bytes());
            bytes.extend(octets);
        }
        bytes
    }

    /// The message, and its own address: IPv4 calls it local, IPv6 mostly has only the other word.
    pub fn parse(body: &[u8]) -> Option<(AddressMessage, IpAddr)> {
        let head = body.get(..Self::LENGTH)?;
        let index = u32::from_ne_bytes(head[4..8].try_into().ok()?);
        let message = AddressMessage { family: head[0], prefix: head[1], flags: head[2], index };
        let (mut local, mut plain) = (None, None);
        for (kind, value) in attributes(&body[Self::LENGTH..]) {
            match kind {
                libc::IFA_LOCAL => local = ip(value),
                libc::IFA_ADDRESS => plain = ip(value),
                _ => {}
            }
        }
        Some((message, local.or(plain)?))
    }
}

/// Each attribute of a message: its kind, and its bytes. What is torn ends it.
fn attributes(mut rest: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let head = rest.get(..4)?;
        let length = usize::from(u16::from_ne_bytes([head[0], head[1]]));
        let value = rest.get(4..length)?;
        rest = rest.get(aligned(length)..).unwrap_or_default();
        Some((u16::from_ne_bytes([head[2], head[3]]), value))
    })
}

/// `struct ndmsg` of rtnetlink(7) that asks for the neighbours of all families.
pub(super) const ALL_NEIGHBOURS: [u8; 12] = [0; 12];

/// A neighbour and its MAC, by `struct ndmsg` and what follows it; `None` for one that was looked for in vain, or has
/// none.
pub(super) fn neighbour(body: &[u8]) -> Option<(IpAddr, [u8; 6])> {
    let head = body.get(..ALL_NEIGHBOURS.len())?;
    let state = u16::from_ne_bytes([head[8], head[9]]);
    if state & (libc::NUD_INCOMPLETE | libc::NUD_FAILED | libc::NUD_NOARP) != 0 {
        return None;
    }
    let (mut to, mut mac) = (None, None);
    for (kind, value) in attributes(&body[ALL_NEIGHBOURS.len()..]) {
        match kind {
            libc::NDA_DST => to = ip(value),
            libc::NDA_LLADDR => mac = value.try_into().ok(),
            _ => {}
        }
    }
    Some((to?, mac?))
}

fn ip(octets: &[u8]) -> Option<IpAddr> {
    let v4 = || <[u8; 4]>::try_from(octets).ok().map(|o| Ipv4Addr::from(o).into());
    let v6 = || <[u8; 16]>::try_from(octets).ok().map(|o| Ipv6Addr::from(o).into());
    v4().or_else(v6)
}

/// Netlink's messages and attributes begin at multiples of four.
fn aligned(length: usize) -> usize {
    length.next_multiple_of(4)
}

/// A socket for one question.
pub(super) struct Netlink(OwnedFd);

impl Netlink {
    const HEAD: usize = 16;

    pub fn open() -> io::Result<Netlink> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let fd = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)?;
        setsockopt(&fd, sockopt::ReceiveTimeout, &TimeVal::new(PATIENCE, 0))?;
        Ok(Netlink(fd))
    }

    pub fn send(&self, kind: u16, flags: i32, body: &[u8]) -> io::Result<()> {
        let flags = (libc::NLM_F_REQUEST | flags) as u16;
        let mut bytes = ((Self::HEAD + body.len()) as u32).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.extend([0; 8]); // sequence and sender: one question a socket
        bytes.extend(body);
        send(self.0.as_raw_fd(), &bytes, MsgFlags::empty())?;
        Ok(())
    }

    /// Hands over each part of the answer, until the kernel says that it was the last.
    pub fn answers(&self, mut part: impl FnMut(&[u8])) -> io::Result<()> {
        let mut buffer = vec![0; 64 << 10];
        let torn = || io::Error::new(io::ErrorKind::InvalidData, "a netlink answer is not understood");
        loop {
            let length = recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
            let mut rest = &buffer[..length];
            while let Some(head) = rest.get(..Self::HEAD) {
                let length = u32::from_ne_bytes([head[0], head[1], head[2], head[3]]) as usize;
                let body = rest.get(Self::HEAD..length).ok_or_else(torn)?;
                match i32::from(u16::from_ne_bytes([head[4], head[5]])) {
                    libc::NLMSG_DONE => return Ok(()),
                    libc::NLMSG_ERROR => {
                        let code = body.get(..4).and_then(|b| b.try_into().ok()).map(i32::from_ne_bytes);
                        return match code.ok_or_else(torn)? {
                            0 => Ok(()),
                            code => Err(Errno::from_raw(-code).into()),
                        };
                    }
                    _ => part(body),
                }
                rest = rest.get(aligned(length)..).unwrap_or_default();
            }
        }
    }
}

/// A socket to which the kernel tells each change of an address.
pub(super) fn changes() -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)?;
    let groups = libc::RTMGRP_IPV4_IFADDR | libc::RTMGRP_IPV6_IFADDR;
    bind(fd.as_raw_fd(), &NetlinkAddr::new(0, groups as u32))?;
    Ok(fd)
}

/// Takes all that waits on such a socket. What it says does not matter: all is read anew.
pub(super) fn drain(fd: &OwnedFd) -> io::Result<()> {
    let mut buffer = vec![0; 16 << 10];
    loop {
        match recv(fd.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
            // So many changes that some were not told: the same as one more.
            Ok(_) | Err(Errno::ENOBUFS | Errno::EINTR) => {}
            Err(Errno::EAGAIN) => return Ok(()),
            Err(e) => return Err(e.into()),
        }
    }
}
