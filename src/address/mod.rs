//! The addresses on this machine's interfaces: read, watched, taken off. The one door to them. And who is beside it.

mod netlink;

use crate::process;
use netlink::{AddressMessage, Netlink};
use nix::net::if_::if_nameindex;
use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use tokio::io::unix::AsyncFd;

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
    pub(crate) index: u32,
    /// One of its network that came after another: it goes alone.
    pub(crate) secondary: bool,
}

impl Assigned {
    /// Real servers behind a director rightly hold the virtual address on `lo`.
    pub fn is_on_loopback(&self) -> bool {
        self.index == LOOPBACK
    }

    /// Whether the kernel takes the other along when this one goes (ip-address(8), `promote_secondaries`).
    pub fn carries(&self, other: &Assigned) -> bool {
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

/// All addresses of this network namespace.
pub(crate) fn assigned() -> io::Result<Vec<Assigned>> {
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

/// Who was heard of by ARP (IPv4) or neighbour discovery (IPv6), each with its MAC.
pub(crate) fn neighbours() -> io::Result<Vec<(IpAddr, [u8; 6])>> {
    let kernel = Netlink::open()?;
    kernel.send(libc::RTM_GETNEIGH, libc::NLM_F_DUMP, &netlink::ALL_NEIGHBOURS)?;
    let mut all = Vec::new();
    kernel.answers(|body| {
        if all.len() < MAX_ADDRESSES {
            all.extend(netlink::neighbour(body));
        }
    })?;
    Ok(all)
}

/// Puts an address on `lo`, for this machine alone. One that is there is no error.
pub(crate) fn hold_on_loopback(address: IpAddr) -> io::Result<()> {
    let (family, prefix) = if address.is_ipv4() { (libc::AF_INET, 32) } else { (libc::AF_INET6, 128) };
    let message = AddressMessage { family: family as u8, prefix, index: LOOPBACK, ..Default::default() };
    let kernel = Netlink::open()?;
    let flags = libc::NLM_F_ACK | libc::NLM_F_CREATE | libc::NLM_F_EXCL;
    kernel.send(libc::RTM_NEWADDR, flags, &message.bytes(Some(address)))?;
    match kernel.answers(|_| ()) {
        Err(e) if e.raw_os_error() == Some(libc::EEXIST) => Ok(()),
        done => done,
    }
}

/// Takes exactly this address off its interface. One that is gone is no error.
pub(crate) fn remove(held: &Assigned) -> io::Result<()> {
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

/// Tells when an address came or went, by the kernel's own word.
pub(crate) struct Watch(AsyncFd<OwnedFd>);

impl Watch {
    /// Must be called within the runtime. What changes from now on is told.
    pub fn open() -> io::Result<Watch> {
        Ok(Watch(process::watch(netlink::changes()?)?))
    }

    /// Waits for a change; many at a time are one.
    pub async fn changed(&mut self) -> io::Result<()> {
        let mut ready = self.0.readable().await?;
        netlink::drain(ready.get_inner())?;
        ready.clear_ready();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn this_machines_loopback_is_told() {
        let all = assigned().unwrap();
        let lo = all.iter().find(|a| a.address == IpAddr::from([127, 0, 0, 1])).expect("127.0.0.1");
        assert_eq!((lo.interface.as_str(), lo.prefix, lo.secondary), ("lo", 8, false));
        assert!(lo.is_on_loopback());
    }

    /// In a network namespace of this thread's own: a mistake in what is tried must not reach the machine's addresses.
    fn in_a_namespace<T: Send + 'static>(what: impl FnOnce() -> T + Send + 'static) -> T {
        let tried = std::thread::spawn(move || {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            what()
        });
        tried.join().unwrap()
    }

    fn ip(words: &str) {
        let done = std::process::Command::new("ip").args(words.split(' ')).status().unwrap();
        assert!(done.success(), "ip {words}");
    }

    #[test]
    fn an_address_is_held_on_loopback_and_let_go() {
        in_a_namespace(|| {
            for address in ["192.0.2.1", "2001:db8::1"].map(|a| a.parse::<IpAddr>().unwrap()) {
                let found = || assigned().unwrap().into_iter().find(|a| a.address == address);
                hold_on_loopback(address).unwrap();
                hold_on_loopback(address).unwrap();
                let held = found().unwrap();
                assert!(held.is_on_loopback() && held.prefix == if address.is_ipv4() { 32 } else { 128 });
                remove(&held).unwrap();
                assert_eq!(found(), None);
            }
        });
    }

    #[test]
    fn neighbours_of_both_families_are_told_with_their_macs() {
        in_a_namespace(|| {
            ip("link add veth0 type veth peer name veth1");
            ip("link set veth0 up");
            let mac = [2, 0, 0, 0, 0, 7];
            for address in ["192.0.2.7", "fd00::7"] {
                ip(&format!("neigh add {address} lladdr 02:00:00:00:00:07 dev veth0 nud permanent"));
                let to: IpAddr = address.parse().unwrap();
                assert!(neighbours().unwrap().contains(&(to, mac)), "{address}: {:?}", neighbours());
            }
            ip("neigh add 192.0.2.8 dev veth0 nud failed");
            assert!(!neighbours().unwrap().iter().any(|(to, _)| *to == IpAddr::from([192, 0, 2, 8])));
        });
    }

    #[test]
    fn an_address_that_is_on_no_interface_is_removed_already() {
        let (address, interface) = ("192.0.2.1".parse().unwrap(), "lo".into());
        let gone = Assigned { address, prefix: 32, interface, index: LOOPBACK, secondary: false };
        in_a_namespace(move || remove(&gone)).unwrap();
    }

    /// A thousand changes that nobody reads are more than the kernel keeps (ENOBUFS): what stands is read all the same.
    #[test]
    fn a_change_is_told_by_the_kernel_and_none_is_missed() {
        in_a_namespace(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let mut watch = Watch::open().unwrap();
                let quiet = tokio::time::timeout(Duration::from_millis(50), watch.changed()).await;
                assert!(quiet.is_err(), "nothing has changed");
                ip("address add 192.0.2.1/32 dev lo");
                watch.changed().await.unwrap();
                let has = |address: &str| {
                    let address: IpAddr = address.parse().unwrap();
                    assigned().unwrap().iter().any(|a| a.address == address)
                };
                assert!(has("192.0.2.1"));

                let lines = |verb: &str| {
                    (0..4000)
                        .map(|i| format!("address {verb} 10.9.{}.{}/32 dev lo\n", i / 250, i % 250))
                        .collect()
                };
                for verb in ["add", "del"] {
                    let batch: String = lines(verb);
                    let file = tempfile::NamedTempFile::new().unwrap();
                    std::fs::write(file.path(), batch).unwrap();
                    ip(&format!("-batch {}", file.path().display()));
                }
                ip("address del 192.0.2.1/32 dev lo");
                watch.changed().await.unwrap();
                assert!(!has("192.0.2.1"));
            });
        });
    }
}
