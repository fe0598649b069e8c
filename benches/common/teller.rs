//! The service that the benches start: it sends one datagram, its label and the monotonic clock as it read it first
//! thing, and then waits to be killed.
//!
//! A program of its own, compiled by the bench: what is measured is how soon it begins, so the loader must have
//! little to do for it. (The bench binary itself has twenty thousand relocations, half a millisecond's worth.)

use std::ffi::{c_int, c_long};
use std::os::unix::net::UnixDatagram;

#[repr(C)]
struct Timespec {
    seconds: i64,
    nanoseconds: c_long,
}

unsafe extern "C" {
    fn clock_gettime(clock: c_int, time: *mut Timespec) -> c_int;
}

const CLOCK_MONOTONIC: c_int = 1;

fn main() {
    let mut now = Timespec { seconds: 0, nanoseconds: 0 };
    // Sound: the structure is the kernel's on every 64-bit Linux, and lives on the stack.
    unsafe { clock_gettime(CLOCK_MONOTONIC, &mut now) };
    let nanoseconds = now.seconds * 1_000_000_000 + now.nanoseconds as i64;
    let mut arguments = std::env::args().skip(1);
    let (socket, label) = (arguments.next().unwrap_or_default(), arguments.next().unwrap_or_default());
    let message = format!("{label} {nanoseconds}");
    let told = UnixDatagram::unbound().and_then(|s| s.send_to(message.as_bytes(), socket));
    told.expect("the bench listens");
    loop {
        std::thread::park();
    }
}
