//! An address that swallows connections: the machine is off, or a firewall drops.

use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrIn, bind, connect, listen, socket,
};
use std::net::{SocketAddrV4, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

/// Connects that may be needed to fill the queue of a listener whose length is zero.
const FILL: usize = 16;

/// Holds a listener that never accepts and whose queue is full: the kernel drops the connects of all who come after.
pub struct BlackHole {
    _listener: OwnedFd,
    _fill: Vec<OwnedFd>,
}

impl BlackHole {
    /// # Panics
    /// When the address still answers with the queue full.
    pub fn open(at: SocketAddrV4) -> BlackHole {
        let new =
            |flags| socket(AddressFamily::Inet, SockType::Stream, flags, None).expect("a socket can be made");
        let listener = new(SockFlag::SOCK_CLOEXEC);
        let address = SockaddrIn::from(at);
        bind(listener.as_raw_fd(), &address).expect("a loopback address is free");
        listen(&listener, Backlog::new(0).expect("zero is a length")).expect("a bound socket");
        let fill = (0..FILL).map(|_| {
            let filler = new(SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK);
            // The first ones connect, the others wait for ever: both fill the queue.
            let _ = connect(filler.as_raw_fd(), &address);
            filler
        });
        let hole = BlackHole { _fill: fill.collect(), _listener: listener };
        let answered = TcpStream::connect_timeout(&at.into(), Duration::from_millis(100));
        assert!(answered.is_err(), "{at} is no black hole");
        hole
    }
}
