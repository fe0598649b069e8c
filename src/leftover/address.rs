//! Virtual addresses that a killed keepalived leaves on their interface: a leftover that is no file.
//!
//! While such an address stays, this machine answers for it beside the one that took it over.

use crate::facts::Judgement;
use nix::errno::Errno;
use nix::net::if_::if_nameindex;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, OwnedFd};

/// How long the kernel may take for an answer, in seconds. It answers within the call.
const PATIENCE: i64 = 1;
/// The loopback of every network namespace has this number (`LOOPBACK_IFINDEX`).
const LOOPBACK: u32 = 1;
/// No machine has more; a longer list is cut.
const MAX_ADDRESSES: usize = 10_000;

/// An address on an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Assigned {
    pub address: IpAddr,
    pub prefix: u8,
    pub interface: String,
    index: u32,
    /// One of its network that came after another: it goes alone.
    secondary: bool,
}

impl Assigned {
    /// Real servers behind a director rightly hold the virtual address on `lo`.
    fn is_on_loopback(&self) -> bool {
        self.index == LOOPBACK
    }

    /// Whether the kernel takes the other along when this one goes (ip-address(8), `promote_secondaries`).
    fn carries(&self, other: &Assigned) -> bool {
        let network = |a: &Assigned| match a.address {
            IpAddr::V4(ip) => Some(u32::from(ip).checked_shr(32 - u32::from(a.prefix)).unwrap_or(0)),
            IpAddr::V6(_) => None,
        };
        let here = (self.index, self.prefix) == (other.index, other.prefix);
        here && !self.secondary
            && other.secondary
            && network(self).is_some()
            && network(self) == network(other)
    }
}

/// Judges one virtual address of the cluster by where it stands, nobody living who could have put it there: each
/// interface that holds it, with the proof. On `lo` it is no leftover.
pub(super) fn judge<'a>(
    vip: IpAddr,
    all: &'a [Assigned],
    program: &str,
) -> Vec<(&'a Assigned, Judgement, String)> {
    let left = all.iter().filter(|a| a.address == vip && !a.is_on_loopback());
    let judged = left.map(|held| {
        let on = &held.interface;
        match all.iter().find(|other| held.carries(other)) {
            Some(other) => {
                let why = format!(
                    "{vip} is still on {on}, and the kernel would take {} along with it: remove it by hand",
                    other.address
                );
                (held, Judgement::Doubt, why)
            }
            None => {
                let why = format!("{vip} is still on {on}, and no {program} lives here that could hold it");
                (held, Judgement::Stale, why)
            }
        }
    });
    judged.collect()
}

/// All addresses of this network namespace.
pub(super) fn assigned() -> io::Result<Vec<Assigned>> {
    let kernel = Netlink::open()?;
    kernel.send(libc::RTM_GETADDR, libc::NLM_F_DUMP, &AddressMessage::default().bytes(None))?;
    let names = if_nameindex()?;
    let name = |index: u32| {
        let found = names.iter().find(|i| i.index() == index);
        found.map_or_else(|| format!("interface {index}"), |i| i.name().to_string_lossy().into_owned())
    };
    let mut all = Vec::new();
    kernel.answers(|body| {
        if let (Some((message, address)), true) = (AddressMessage::parse(body), all.len() < MAX_ADDRESSES) {
            all.push(Assigned {
                address,
                prefix: message.prefix,
                interface: name(message.index),
                index: message.index,
                secondary: u32::from(message.flags) & libc::IFA_F_SECONDARY != 0,
            });
        }
    })?;
    Ok(all)
}

/// Takes exactly this address off its interface. One that is gone is no error.
pub(super) fn remove(held: &Assigned) -> io::Result<()> {
    let family = if held.address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    let message =
        AddressMessage { family: family as u8, prefix: held.prefix, index: held.index, ..Default::default() };
    let kernel = Netlink::open()?;
    kernel.send(libc::RTM_DELADDR, libc::NLM_F_ACK, &message.bytes(Some(held.address)))?;
    match kernel.answers(|_| ()) {
        Err(e) if e.raw_os_error() == Some(libc::EADDRNOTAVAIL) => Ok(()),
        done => done,
    }
}

/// `struct ifaddrmsg` of rtnetlink(7).
#[derive(Default)]
struct AddressMessage {
    family: u8,
    prefix: u8,
    flags: u8,
    index: u32,
}

impl AddressMessage {
    const LENGTH: usize = 8;

    fn bytes(&self, address: Option<IpAddr>) -> Vec<u8> {
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
    fn parse(body: &[u8]) -> Option<(AddressMessage, IpAddr)> {
        let head = body.get(..Self::LENGTH)?;
        let index = u32::from_ne_bytes(head[4..8].try_into().ok()?);
        let message = AddressMessage { family: head[0], prefix: head[1], flags: head[2], index };
        let (mut local, mut plain) = (None, None);
        let mut rest = &body[Self::LENGTH..];
        while let Some(head) = rest.get(..4) {
            let length = u16::from_ne_bytes([head[0], head[1]]) as usize;
            let kind = u16::from_ne_bytes([head[2], head[3]]);
            let value = rest.get(4..length)?;
            match kind {
                libc::IFA_LOCAL => local = ip(value),
                libc::IFA_ADDRESS => plain = ip(value),
                _ => {}
            }
            rest = rest.get(aligned(length)..).unwrap_or_default();
        }
        Some((message, local.or(plain)?))
    }
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

/// A socket to the kernel's routing: netlink(7).
struct Netlink(OwnedFd);

impl Netlink {
    const HEAD: usize = 16;

    fn open() -> io::Result<Netlink> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let fd = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)?;
        setsockopt(&fd, sockopt::ReceiveTimeout, &TimeVal::new(PATIENCE, 0))?;
        Ok(Netlink(fd))
    }

    fn send(&self, kind: u16, flags: i32, body: &[u8]) -> io::Result<()> {
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
    fn answers(&self, mut part: impl FnMut(&[u8])) -> io::Result<()> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn on(interface: &str, index: u32, address: &str, secondary: bool) -> Assigned {
        let (address, prefix) = address.split_once('/').unwrap();
        let (address, prefix) = (address.parse().unwrap(), prefix.parse().unwrap());
        Assigned { address, prefix, interface: interface.into(), index, secondary }
    }

    #[track_caller]
    fn check(all: &[Assigned], wanted: &[(Judgement, &str)]) {
        let judged = judge("10.0.0.100".parse().unwrap(), all, "keepalived");
        let told: Vec<_> = judged.iter().map(|(_, j, why)| (*j, why.as_str())).collect();
        assert_eq!(told, wanted);
    }

    #[test]
    fn a_virtual_address_is_left_over_where_it_stands_and_never_on_the_loopback() {
        let (own, other) = (on("eth0", 2, "10.0.0.1/24", false), on("eth0", 2, "10.0.0.101/24", true));
        check(&[own.clone(), other.clone()], &[]);
        check(&[own.clone(), on("lo", 1, "10.0.0.100/32", false)], &[]);
        let stale = "10.0.0.100 is still on eth0, and no keepalived lives here that could hold it";
        check(&[own.clone(), on("eth0", 2, "10.0.0.100/24", true), other], &[(Judgement::Stale, stale)]);
        check(&[own, on("eth0", 2, "10.0.0.100/32", false)], &[(Judgement::Stale, stale)]);
    }

    #[test]
    fn what_would_take_another_address_along_is_doubt() {
        let vip = on("eth0", 2, "10.0.0.100/24", false);
        let why = "10.0.0.100 is still on eth0, and the kernel would take 10.0.0.1 along with it: remove it by hand";
        check(&[vip.clone(), on("eth0", 2, "10.0.0.1/24", true)], &[(Judgement::Doubt, why)]);
        for apart in [
            on("eth1", 3, "10.0.0.1/24", true),
            on("eth0", 2, "10.0.1.1/24", true),
            on("eth0", 2, "10.0.0.1/16", true),
        ] {
            assert_eq!(judge(vip.address, &[vip.clone(), apart], "keepalived")[0].1, Judgement::Stale);
        }
        let all = [on("eth0", 2, "10.0.0.100/0", false), on("eth0", 2, "10.0.0.1/0", true)];
        assert_eq!(judge(vip.address, &all, "keepalived")[0].1, Judgement::Doubt);
    }

    #[test]
    fn this_machines_loopback_is_told() {
        let all = assigned().unwrap();
        let lo = all.iter().find(|a| a.address == IpAddr::from([127, 0, 0, 1])).expect("127.0.0.1");
        assert_eq!((lo.interface.as_str(), lo.prefix, lo.secondary), ("lo", 8, false));
        assert!(lo.is_on_loopback());
    }

    #[test]
    fn an_address_that_is_on_no_interface_is_removed_already() {
        let gone = on("lo", LOOPBACK, "192.0.2.1/32", false);
        // In a network namespace of this thread's own: a mistake in what is tried must not reach the machine's addresses.
        let tried = std::thread::spawn(move || {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            remove(&gone)
        });
        tried.join().unwrap().unwrap();
    }
}
