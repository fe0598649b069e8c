//! FastDFS: the active test, and for a tracker where to upload.

use crate::probe::fastdfs::{ACTIVE_TEST, REPLY};
use std::io;
use std::net::IpAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// "Where can I upload."
const UPLOAD_TARGET: u8 = 101;
/// The status of an unknown command.
const INVALID: u8 = 22;
/// The port of a storage.
const STORAGE_PORT: u64 = 23000;
/// The largest body that is read (and forgotten), in bytes.
const MOST: u64 = 4096;

pub(super) async fn talk(stream: &mut TcpStream, tracker: bool) -> io::Result<()> {
    let mut header = [0; 10];
    loop {
        stream.read_exact(&mut header).await?;
        let [l @ .., command, _status] = header;
        let mut length = u64::from_be_bytes(l);
        if length > MOST {
            return Ok(());
        }
        while length > 0 {
            stream.read_u8().await?;
            length -= 1;
        }
        let reply = match command {
            _ if header == ACTIVE_TEST => answer(0, &[]),
            UPLOAD_TARGET if tracker => answer(0, &target(stream.local_addr()?.ip())),
            _ => answer(INVALID, &[]),
        };
        stream.write_all(&reply).await?;
    }
}

fn answer(status: u8, body: &[u8]) -> Vec<u8> {
    let mut reply = (body.len() as u64).to_be_bytes().to_vec();
    reply.extend([REPLY, status]);
    reply.extend(body);
    reply
}

/// Group (16 bytes), address (15, or 45 for IPv6), port (8), path index (1).
fn target(address: IpAddr) -> Vec<u8> {
    let mut body = b"group1".to_vec();
    body.resize(16, 0);
    let width = if address.is_ipv4() { 15 } else { 45 };
    body.extend(address.to_string().into_bytes());
    body.resize(16 + width, 0);
    body.extend(STORAGE_PORT.to_be_bytes());
    body.push(0);
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_upload_target_has_the_captured_shape() {
        // From a real tracker, with its storage at 10.77.0.22.
        let captured = b"group1\0\0\0\0\0\0\0\0\0\x0010.77.0.22\0\0\0\0\0\0\0\0\0\0\0Y\xd8\0";
        assert_eq!(target("10.77.0.22".parse().unwrap()), captured);
        assert_eq!(target("fd00::1".parse().unwrap()).len(), 70);
    }
}
