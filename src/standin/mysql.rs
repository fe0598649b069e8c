//! MySQL: greets, lets everybody in, answers the probe's question.

use super::Who;
use std::io;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The largest packet that is read, in bytes.
const MOST: usize = 64 * 1024;

/// The version that it tells. mysql_async takes the numbers for the server's abilities.
const VERSION: &str = "5.7.0-standin";

// The abilities of https://dev.mysql.com/doc/dev/mysql-server/latest/group__group__cs__capabilities__flags.html
const LONG_PASSWORD: u32 = 1;
const CONNECT_WITH_DB: u32 = 1 << 3;
const PROTOCOL_41: u32 = 1 << 9;
const TRANSACTIONS: u32 = 1 << 13;
const SECURE_CONNECTION: u32 = 1 << 15;
const PLUGIN_AUTH: u32 = 1 << 19;
const ABILITIES: u32 =
    LONG_PASSWORD | CONNECT_WITH_DB | PROTOCOL_41 | TRANSACTIONS | SECURE_CONNECTION | PLUGIN_AUTH;

const AUTOCOMMIT: [u8; 2] = [2, 0];
const UTF8: u8 = 33;
const VAR_STRING: u8 = 0xfd;
const UNKNOWN_COMMAND: u16 = 1047;

const COM_QUIT: u8 = 1;
const COM_QUERY: u8 = 3;
const COM_PING: u8 = 14;

pub(super) async fn talk(stream: &mut TcpStream, who: &Who) -> io::Result<()> {
    send(stream, 0, &[greeting()]).await?;
    let (seq, _login) = receive(stream).await?;
    send(stream, seq + 1, &[ok()]).await?;
    loop {
        let (seq, command) = receive(stream).await?;
        let reply = match command.split_first() {
            None | Some((&COM_QUIT, _)) => return Ok(()),
            Some((&COM_PING, _)) => vec![ok()],
            Some((&COM_QUERY, text)) if text.starts_with(b"SELECT 1") => {
                let port = stream.local_addr()?.port().to_string();
                row(&["1", "0", VERSION, "stand-in", &port, "1", &who.id])
            }
            Some((&COM_QUERY, text)) if text.starts_with(b"SET ") => vec![ok()],
            Some(_) => vec![error(UNKNOWN_COMMAND, "this is a stand-in for MySQL, not the real daemon")],
        };
        send(stream, seq.wrapping_add(1), &reply).await?;
    }
}

/// Sends packets, numbered from `seq`: length (3 bytes, little-endian), number, payload.
async fn send(stream: &mut TcpStream, seq: u8, payloads: &[Vec<u8>]) -> io::Result<()> {
    let mut bytes = Vec::new();
    for (i, payload) in payloads.iter().enumerate() {
        bytes.extend(&(payload.len() as u32).to_le_bytes()[..3]);
        bytes.push(seq.wrapping_add(i as u8));
        bytes.extend(payload);
    }
    stream.write_all(&bytes).await
}

/// The next packet's number and payload.
async fn receive(stream: &mut TcpStream) -> io::Result<(u8, Vec<u8>)> {
    let mut head = [0; 4];
    stream.read_exact(&mut head).await?;
    let [a, b, c, seq] = head;
    let length = u32::from_le_bytes([a, b, c, 0]) as usize;
    if length > MOST {
        return Err(io::Error::other("the packet is too large for a stand-in"));
    }
    let mut payload = vec![0; length];
    stream.read_exact(&mut payload).await?;
    Ok((seq, payload))
}

/// The greeting of protocol version 10, with a challenge that nobody's answer is held against.
fn greeting() -> Vec<u8> {
    let challenge = [b'x'; 20];
    let [low0, low1, high0, high1] = ABILITIES.to_le_bytes();
    let mut payload = vec![10];
    payload.extend(VERSION.as_bytes());
    payload.extend([0, 1, 0, 0, 0]); // end of the version, connection number
    payload.extend(&challenge[..8]);
    payload.extend([0, low0, low1, UTF8, AUTOCOMMIT[0], AUTOCOMMIT[1], high0, high1]);
    payload.push(challenge.len() as u8 + 1);
    payload.extend([0; 10]);
    payload.extend(&challenge[8..]);
    payload.push(0);
    payload.extend(b"mysql_native_password\0");
    payload
}

/// No rows, no id, autocommit, no warnings.
fn ok() -> Vec<u8> {
    vec![0, 0, 0, AUTOCOMMIT[0], AUTOCOMMIT[1], 0, 0]
}

fn error(code: u16, message: &str) -> Vec<u8> {
    [&[0xff][..], &code.to_le_bytes(), b"#08S01", message.as_bytes()].concat()
}

/// A result of one row of texts: the column count, the columns, an end, the row, an end.
fn row(values: &[&str]) -> Vec<Vec<u8>> {
    let named: Vec<_> = values.iter().map(|value| ("c", *value)).collect();
    named_row(&named)
}

/// As [`row`], of columns with names.
fn named_row(values: &[(&str, &str)]) -> Vec<Vec<u8>> {
    let end = vec![0xfe, 0, 0, AUTOCOMMIT[0], AUTOCOMMIT[1]];
    let mut packets = vec![vec![values.len() as u8]];
    packets.extend(values.iter().map(|(name, _)| column(name)));
    packets.push(end.clone());
    packets.push(values.iter().flat_map(|(_, value)| text(value)).collect());
    packets.push(end);
    packets
}

/// A column's definition: catalog, schema, table twice, name twice, then a fixed part of 12 bytes.
fn column(name: &str) -> Vec<u8> {
    let mut payload: Vec<u8> = ["def", "", "", "", name, name].iter().flat_map(|s| text(s)).collect();
    payload.extend([12, UTF8, 0, 255, 0, 0, 0, VAR_STRING, 0, 0, 0, 0, 0]);
    payload
}

/// A text with its length, which is below 251 for all that is sent here.
fn text(value: &str) -> Vec<u8> {
    [&[value.len() as u8][..], value.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::{Ready, Role, Verdict};
    use crate::model::Ask;
    use crate::probe::testing::{ask, server};

    /// A replica of MySQL 8.4, which knows the new names alone; `Some(replica thread's error)` when it applies nothing.
    async fn a_replica_of_mysql_8(broken: Option<&'static str>) -> Verdict {
        let address = server(move |mut stream| async move {
            let stream = &mut stream;
            let _ = send(stream, 0, &[greeting()]).await;
            let Ok((seq, _login)) = receive(stream).await else { return };
            let _ = send(stream, seq + 1, &[ok()]).await;
            while let Ok((seq, command)) = receive(stream).await {
                let text = String::from_utf8_lossy(&command).into_owned();
                let runs = if broken.is_some() { "No" } else { "Yes" };
                let reply = match text.get(1..) {
                    Some(text) if text.starts_with("SELECT 1") => {
                        row(&["1", "1", "8.4.3", "db2", "3306", "2", "/var/lib/mysql/", "1", "an-uuid"])
                    }
                    Some("SHOW REPLICA STATUS") => named_row(&[
                        ("Source_Host", "10.0.0.1"),
                        ("Source_Port", "3306"),
                        ("Replica_IO_Running", "Yes"),
                        ("Replica_SQL_Running", runs),
                        ("Last_IO_Errno", "0"),
                        ("Last_SQL_Errno", broken.unwrap_or("0")),
                        ("Seconds_Behind_Source", "75"),
                    ]),
                    Some(text) if text.starts_with("SET ") => vec![ok()],
                    _ => vec![error(1064, "You have an error in your SQL syntax")],
                };
                let _ = send(stream, seq.wrapping_add(1), &reply).await;
            }
        })
        .await;
        ask(Ask::Mysql { address, login: None }).await
    }

    #[tokio::test]
    async fn mysql_8_is_asked_by_its_own_names() {
        let identity = Some("an-uuid".to_owned());
        let detail =
            "SELECT 1, 8.4.3, super_read_only, replica of 10.0.0.1:3306, more than a minute behind".into();
        let follows = Ready { detail, roles: vec![Role::Replica], identity: identity.clone() };
        assert_eq!(a_replica_of_mysql_8(None).await, Verdict::Ready(follows));
        let detail = "SELECT 1, 8.4.3, super_read_only, replica of 10.0.0.1:3306 that applies nothing: its SQL thread \
                      has stopped (error 1062)"
            .into();
        let stopped = Ready { detail, roles: vec![], identity };
        assert_eq!(a_replica_of_mysql_8(Some("1062")).await, Verdict::Ready(stopped));
    }
}
