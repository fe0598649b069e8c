//! ActiveMQ: greets at once, and introduces itself to who greets back.

use super::Who;
use crate::probe::activemq::{BROKER_ID, BROKER_INFO, GREETING};
use std::io;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub(super) async fn talk(stream: &mut TcpStream, who: &Who) -> io::Result<()> {
    stream.write_all(&GREETING).await?;
    // Whatever its properties are: the size, and the first byte of the body.
    let mut head = [0; 5];
    stream.read_exact(&mut head).await?;
    let info = introduction(&format!("ID:stand-in-{}", who.id), "stand-in");
    stream.write_all(&(info.len() as u32).to_be_bytes()).await?;
    stream.write_all(&info).await?;
    super::discard(stream).await
}

/// `BrokerInfo` in the plain encoding: type, command number, reply wanted, id, URL, no peers, name, and three
/// flags that are off.
fn introduction(id: &str, name: &str) -> Vec<u8> {
    let string = |text: &str| [&[1][..], &(text.len() as u16).to_be_bytes(), text.as_bytes()].concat();
    [
        &[BROKER_INFO, 0, 0, 0, 0, 0, 1, BROKER_ID][..],
        &string(id),
        &string("tcp://stand-in"),
        &[0],
        &string(name),
        &[0, 0, 0],
    ]
    .concat()
}
