//! What somebody types and nobody else is to see.

use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};
use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::AsFd;
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
        unseen = Unseen::begin(); // first: whoever sees the question may type at once
        eprint!("{what}: ");
        io::stderr().flush()?;
    }
    // Byte by byte: what standard input reads ahead it does not wipe, and what comes after the line is somebody else's.
    let mut stdin = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    let mut line = Zeroizing::new(Vec::with_capacity(MAX_LINE));
    let mut byte = Zeroizing::new([0]);
    let mut ended = false;
    while !ended && line.len() < MAX_LINE && stdin.read(byte.as_mut())? == 1 {
        ended = byte[0] == b'\n';
        line.push(byte[0]);
    }
    drop(unseen);
    if line.is_empty() {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, format!("no {what} was given")));
    }
    let text = std::str::from_utf8(&line);
    let text =
        text.map_err(|_| io::Error::new(io::ErrorKind::InvalidData, format!("the {what} is no text")))?;
    Ok(Zeroizing::new(text.trim_end_matches(['\n', '\r']).to_owned()))
}
