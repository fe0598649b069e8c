//! Redis: PING, ROLE, INFO; an empty master.

use super::Who;
use std::io;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// The longest word of a command that is read, in bytes, and the most words.
const LONGEST: u64 = 4096;
const WORDS: usize = 16;

pub(super) async fn talk(stream: &mut TcpStream, who: &Who) -> io::Result<()> {
    let (reading, mut writing) = stream.split();
    let mut reading = BufReader::new(reading);
    loop {
        let words = command(&mut reading).await?;
        writing.write_all(answer(&words, who).as_bytes()).await?;
    }
}

/// One command's words in upper case: `*count`, then `$length` and as many bytes for each.
async fn command(reading: &mut (impl AsyncBufReadExt + Unpin)) -> io::Result<Vec<String>> {
    let mut words = Vec::new();
    for _ in 0..number(reading, '*').await?.min(WORDS) {
        let mut word = vec![0; number(reading, '$').await?.min(LONGEST as usize)];
        reading.read_exact(&mut word).await?;
        reading.read_exact(&mut [0; 2]).await?;
        words.push(String::from_utf8_lossy(&word).to_ascii_uppercase());
    }
    Ok(words)
}

/// The number on the next line, after `mark`.
async fn number(reading: &mut (impl AsyncBufReadExt + Unpin), mark: char) -> io::Result<usize> {
    let mut line = String::new();
    reading.take(LONGEST).read_line(&mut line).await?;
    let number = line.trim_end().strip_prefix(mark).and_then(|n| n.parse().ok());
    number.ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn answer(words: &[String], who: &Who) -> String {
    match words.first().map(String::as_str) {
        Some("PING") => "+PONG\r\n".into(),
        Some("AUTH" | "CLIENT" | "SELECT") => "+OK\r\n".into(),
        Some("ROLE") => "*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n".into(),
        Some("INFO") => {
            let server = format!(
                "# Server\r\nredis_version:{}-standin\r\nredis_mode:standalone\r\nprocess_id:{}\r\nrun_id:{}\r\n",
                env!("CARGO_PKG_VERSION"),
                std::process::id(),
                who.id,
            );
            let text = match words.get(1).map(String::as_str) {
                Some("SERVER") => server,
                Some("PERSISTENCE") => "# Persistence\r\nloading:0\r\n".into(),
                Some(_) => String::new(),
                None => {
                    format!("{server}\r\n# Persistence\r\nloading:0\r\n\r\n# Replication\r\nrole:master\r\n")
                }
            };
            format!("${}\r\n{text}\r\n", text.len())
        }
        _ => "-ERR this is a stand-in for Redis, not the real daemon\r\n".into(),
    }
}
