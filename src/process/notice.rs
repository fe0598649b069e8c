//! What services say of themselves: the receiving end of sd_notify(3).
//!
//! Anybody may send to the socket, since a service may run as whatever user; the kernel tells who it was
//! (`SCM_CREDENTIALS`, unix(7)), and whoever receives asks whether that process is the instance's.

use crate::facts::Notice;
use nix::cmsg_space;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, UnixCredentials, recvmsg, setsockopt, sockopt};
use nix::sys::stat::Mode;
use nix::unistd::{close, mkfifo};
use std::fs::{self, File, Permissions};
use std::io::{self, IoSliceMut};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncReadExt, Interest};
use tokio::net::UnixDatagram;
use tokio::net::unix::pipe;

/// Variable by which a service learns where to send.
pub const SOCKET_VARIABLE: &str = "NOTIFY_SOCKET";
/// Variable by which it learns how often a sign of life is due, in microseconds.
pub const WATCHDOG_VARIABLE: &str = "WATCHDOG_USEC";
/// The longest message, in bytes; systemd has the same bound.
const MAX_MESSAGE: usize = 4096;
/// The most descriptors that a message can bring: the kernel's own bound (SCM_MAX_FD).
const MAX_DESCRIPTORS: usize = 253;
/// The longest status that is kept, in characters.
const MAX_STATUS: usize = 200;

/// A datagram socket that a service sends to.
#[derive(Debug)]
pub struct Receiver(UnixDatagram);

/// A message, and the process that sent it.
#[derive(Debug)]
pub struct Received {
    /// 0 when it is not of this pid namespace.
    pub pid: i32,
    /// `None` when it is longer than any that is meant well, or says nothing that we know.
    pub notice: Option<Notice>,
}

impl Receiver {
    /// Takes the place of whatever lies at `path`. Needs a tokio runtime.
    ///
    /// # Errors
    /// A folder that is not there, or a path of more than 107 bytes.
    pub fn bind(path: &Path) -> io::Result<Receiver> {
        match fs::remove_file(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let socket = UnixDatagram::bind(path)?;
        fs::set_permissions(path, Permissions::from_mode(0o666))?;
        setsockopt(&socket, sockopt::PassCred, &true)?;
        Ok(Receiver(socket))
    }

    /// Waits for the next message.
    pub async fn receive(&self) -> io::Result<Received> {
        self.0.async_io(Interest::READABLE, || receive(&self.0)).await
    }
}

/// The end of a line that a service writes a newline to when it is ready.
///
/// A named pipe, which the service has open for reading, too: it can write while no agent lives, and the next agent
/// reads that from the same path for as long as the service keeps it open.
#[derive(Debug)]
pub struct Line(pipe::Receiver);

impl Line {
    /// Makes a line in the place of whatever lies at `path`, and gives the service's end of it. Needs a tokio runtime.
    pub fn make(path: &Path) -> io::Result<(Line, File)> {
        match fs::remove_file(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        mkfifo(path, Mode::S_IRUSR | Mode::S_IWUSR)?;
        let line = Line::open(path)?;
        Ok((line, File::options().read(true).write(true).open(path)?))
    }

    /// The line that an earlier agent had made.
    pub fn open(path: &Path) -> io::Result<Line> {
        Ok(Line(pipe::OpenOptions::new().read_write(true).open_receiver(path)?))
    }

    /// Waits for a newline. What comes before it is passed over.
    pub async fn newline(mut self) -> io::Result<()> {
        let mut bytes = [0; 256];
        loop {
            let length = self.0.read(&mut bytes).await?;
            if bytes[..length].contains(&b'\n') {
                return Ok(());
            }
        }
    }
}

fn receive(socket: &UnixDatagram) -> io::Result<Received> {
    let mut bytes = [0; MAX_MESSAGE];
    let mut parts = [IoSliceMut::new(&mut bytes)];
    // Descriptors may come along (systemd-notify waits until its own is closed). Without room for them the credentials
    // could not be read either.
    let mut room = cmsg_space!(UnixCredentials, [RawFd; MAX_DESCRIPTORS]);
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut room), MsgFlags::MSG_CMSG_CLOEXEC)?;
    let (length, cut) = (message.bytes, message.flags.contains(MsgFlags::MSG_TRUNC));
    let mut pid = None;
    for control in message.cmsgs()? {
        match control {
            ControlMessageOwned::ScmCredentials(sender) => pid = Some(sender.pid()),
            ControlMessageOwned::ScmRights(descriptors) => {
                descriptors.into_iter().for_each(|descriptor| _ = close(descriptor));
            }
            _ => {}
        }
    }
    let notice = if cut { None } else { read(&bytes[..length]) };
    Ok(Received { pid: pid.unwrap_or(0), notice })
}

/// Reads a message: lines of `NAME=value`. Names that mean nothing here are passed over; `None` when nothing is a line
/// of that form.
pub fn read(message: &[u8]) -> Option<Notice> {
    let text = String::from_utf8_lossy(message);
    let mut notice = Notice::default();
    let mut understood = false;
    for (name, value) in text.lines().filter_map(|line| line.split_once('=')) {
        understood = true;
        match (name, value) {
            ("READY", "1") => notice.ready = true,
            ("RELOADING", "1") => notice.reloading = true,
            ("STOPPING", "1") => notice.stopping = true,
            ("WATCHDOG", "1") => notice.alive = true,
            ("WATCHDOG", "trigger") => notice.failed = true,
            ("STATUS", status) => notice.status = Some(shown(status)),
            ("EXTEND_TIMEOUT_USEC", micros) => notice.extend = micros.parse().ok().map(Duration::from_micros),
            _ => {}
        }
    }
    understood.then_some(notice)
}

/// A status as it can be shown to anybody: short, and without control characters.
fn shown(status: &str) -> String {
    let clean = status.trim().chars().map(|c| if c.is_control() { ' ' } else { c });
    clean.take(MAX_STATUS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixDatagram;

    #[test]
    fn a_message_is_read_line_by_line() {
        let notice =
            read(b"READY=1\nSTATUS=serves \x1b[31m99\nMAINPID=1\nWATCHDOG=1\nEXTEND_TIMEOUT_USEC=1500000")
                .unwrap();
        let wanted = Notice {
            ready: true,
            alive: true,
            status: Some("serves  [31m99".to_owned()),
            extend: Some(Duration::from_millis(1500)),
            ..Notice::default()
        };
        assert_eq!(notice, wanted);
        assert_eq!(read(b"READY=0\nEXTEND_TIMEOUT_USEC=soon\nX=y"), Some(Notice::default()));
        assert_eq!(read(b"\xff\x00garbage"), None);
        let long = format!("STATUS={}", "x".repeat(5000));
        assert_eq!(read(long.as_bytes()).unwrap().status.unwrap().len(), MAX_STATUS);
    }

    #[tokio::test]
    async fn the_sender_is_told_and_what_is_too_long_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let receiver = Receiver::bind(&path).unwrap();
        let sender = UnixDatagram::unbound().unwrap();
        sender.send_to(b"READY=1", &path).unwrap();
        let received = receiver.receive().await.unwrap();
        assert_eq!(received.pid, std::process::id() as i32);
        assert!(received.notice.unwrap().ready);
        sender.send_to(&[b'='; MAX_MESSAGE + 1], &path).unwrap();
        assert_eq!(receiver.receive().await.unwrap().notice, None);
        // A new agent takes the path over.
        drop(receiver);
        let receiver = Receiver::bind(&path).unwrap();
        sender.send_to(b"STOPPING=1", &path).unwrap();
        assert!(receiver.receive().await.unwrap().notice.unwrap().stopping);
    }
}
