//! HTTP: 200 to everything.

use std::io;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The largest request head that is read, in bytes.
const MOST: usize = 8192;

pub(super) async fn talk(stream: &mut TcpStream) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.windows(4).any(|w| w == b"\r\n\r\n") {
        if head.len() > MOST || stream.read_buf(&mut head).await? == 0 {
            return Ok(());
        }
    }
    const BODY: &str = "This is a stand-in, not the real daemon.\n";
    let reply = format!(
        "HTTP/1.1 200 OK\r\nServer: clusterd-stand-in\r\nContent-Type: text/plain\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{BODY}",
        BODY.len()
    );
    stream.write_all(reply.as_bytes()).await?;
    stream.shutdown().await
}
