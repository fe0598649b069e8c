//! The service that the benches start: it sends one datagram, its label, the monotonic clock as it read it first
//! thing and its pid, and then waits to be killed.
//!
//! `teller SOCKET LABEL [FD ENDS LINE]`: with the latter three it also writes a newline to that descriptor, which says
//! that it is ready, and when it is told to end (SIGTERM) notes the clock as the LINE-th number of the file ENDS. Words
//! may come in one argument: so a `#!` line can start it.
//!
//! A program of its own, compiled by the bench: what is measured is how soon it begins, so the loader must have
//! little to do for it. (The bench binary itself has twenty thousand relocations, half a millisecond's worth.) And how
//! soon it is gone: so it notes its end without a system call.

use std::ffi::{c_int, c_long, c_void};
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::net::UnixDatagram;
use std::ptr;

#[repr(C)]
struct Timespec {
    seconds: i64,
    nanoseconds: c_long,
}

/// As the C library has it: a bit for each of 1024 signals.
type SignalSet = [u64; 16];

unsafe extern "C" {
    fn clock_gettime(clock: c_int, time: *mut Timespec) -> c_int;
    fn sigprocmask(how: c_int, set: *const SignalSet, old: *mut SignalSet) -> c_int;
    fn sigwait(set: *const SignalSet, signal: *mut c_int) -> c_int;
    fn mmap(at: *mut c_void, length: usize, rights: c_int, how: c_int, fd: c_int, from: i64) -> *mut c_void;
    fn _exit(code: c_int) -> !;
}

const CLOCK_MONOTONIC: c_int = 1;
const SIG_BLOCK: c_int = 0;
const SIGTERM: u32 = 15;
const PROT_READ_WRITE: c_int = 3;
const MAP_SHARED: c_int = 1;
/// How long the file of ends is: a page.
const ENDS: usize = 4096;

fn now() -> i64 {
    let mut now = Timespec { seconds: 0, nanoseconds: 0 };
    // Sound: the structure is the kernel's on every 64-bit Linux, and lives on the stack.
    unsafe { clock_gettime(CLOCK_MONOTONIC, &mut now) };
    now.seconds * 1_000_000_000 + now.nanoseconds as i64
}

fn main() {
    let begun = now();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().flat_map(|a| a.split_whitespace()).collect();
    let (socket, label) = (words[0], words[1]);
    let number = |at: usize| words.get(at).and_then(|word| word.parse::<usize>().ok());
    let ready = number(2).zip(words.get(3)).zip(number(4));
    let mut end: SignalSet = [0; 16];
    end[0] = 1 << (SIGTERM - 1);
    if ready.is_some() {
        // Sound: the set is of the C library's size, and lives on the stack.
        unsafe { sigprocmask(SIG_BLOCK, &end, ptr::null_mut()) };
    }
    let message = format!("{label} {begun} {}", std::process::id());
    let told = UnixDatagram::unbound().and_then(|s| s.send_to(message.as_bytes(), socket));
    told.expect("the bench listens");
    let Some(((fd, ends), line)) = ready else {
        loop {
            std::thread::park();
        }
    };
    assert!(line < ENDS / size_of::<i64>(), "a line of that page");
    let ends = File::options().read(true).write(true).open(ends).expect("the bench has made it");
    // Sound: a new mapping of a file that the bench has made a page long; whether it came about is looked at.
    let ends = unsafe { mmap(ptr::null_mut(), ENDS, PROT_READ_WRITE, MAP_SHARED, ends.as_raw_fd(), 0) };
    assert_ne!(ends as isize, -1, "a page can be had");
    // Sound: within that page, whose lines are one process's each.
    let ended = unsafe { &mut *ends.cast::<i64>().add(line) };
    *ended = 0; // the page is there from now on
    // Sound: whoever starts this program hands it the descriptor of that number, for it alone.
    let told = unsafe { File::from_raw_fd(fd as c_int) }.write_all(b"\n");
    told.expect("who started it listens");
    let mut signal = 0;
    // Sound: as above.
    unsafe { sigwait(&end, &mut signal) };
    *ended = now();
    // Sound: nothing is left to be done.
    unsafe { _exit(0) }
}
