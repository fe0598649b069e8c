//! What somebody types and nobody else is to see.

use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};
use std::io::{self, BufRead, IsTerminal, Write};
use zeroize::Zeroizing;

/// The longest line that is taken, in bytes.
const MAX_LINE: usize = 1024;

/// Shows what is typed again, whatever happens meanwhile.
struct Unseen(Termios);

impl Unseen {
    /// `None` where nothing is shown anyway.
    fn begin() -> Option<Unseen> {
        let before = tcgetattr(io::stdin()).ok()?;
        let mut unseen = before.clone();
        unseen.local_flags.remove(LocalFlags::ECHO);
        tcsetattr(io::stdin(), SetArg::TCSAFLUSH, &unseen).ok()?;
        Some(Unseen(before))
    }
}

impl Drop for Unseen {
    fn drop(&mut self) {
        let _ = tcsetattr(io::stdin(), SetArg::TCSAFLUSH, &self.0);
        eprintln!(); // the one that ended the line was not shown either
    }
}

/// A line from standard input, asked for on a terminal and not shown there. It is wiped when it is dropped.
///
/// # Errors
/// When there is none.
pub fn typed(what: &str) -> io::Result<Zeroizing<String>> {
    let mut unseen = None;
    if io::stdin().is_terminal() {
        eprint!("{what}: ");
        io::stderr().flush()?;
        unseen = Unseen::begin();
    }
    // Room for all of it at once: a buffer that grows leaves copies behind. What comes after the line is somebody else's.
    let mut line = Zeroizing::new(String::with_capacity(MAX_LINE));
    let mut stdin = io::stdin().lock();
    let read = io::Read::take(&mut stdin, MAX_LINE as u64).read_line(&mut line)?;
    drop(unseen);
    if read == 0 {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, format!("no {what} was given")));
    }
    let length = line.trim_end_matches(['\n', '\r']).len();
    line.truncate(length);
    Ok(line)
}
