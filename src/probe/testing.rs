//! What the protocols' tests share: small servers that misbehave in one way each.

use super::Asker;
use crate::facts::{Trouble, Verdict};
use crate::model::{Ask, Login, Question, Secret};
use std::future::Future;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Long enough for a loaded machine to answer, where an answer comes.
const ENOUGH: Duration = Duration::from_secs(5);
/// Short, where waiting for silence to end is the test.
const SHORT: Duration = Duration::from_millis(200);

/// Asks once, where an answer comes.
pub async fn ask(ask: Ask) -> Verdict {
    Asker::new(Question { ask, timeout: ENOUGH }).ask().await.verdict
}

/// Asks once, where none will.
pub async fn ask_in_vain(ask: Ask) -> Verdict {
    Asker::new(Question { ask, timeout: SHORT }).ask().await.verdict
}

/// Waits until no connect to the address is under way. Not at once: a process that another test is just forking holds a
/// copy of each descriptor until its exec.
pub async fn given_up(address: SocketAddr) {
    let given_up = async {
        while super::net::connect_is_unanswered(address) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), given_up).await.expect("the connect is given up");
}

pub async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// An address where nothing listens. The port stays taken, so that nothing else gets it meanwhile.
pub async fn nobody() -> (tokio::net::TcpSocket, SocketAddr) {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

/// A server that does `talk` on each connection.
pub async fn server<F>(talk: impl Fn(TcpStream) -> F + Send + 'static) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    let (listener, address) = listener().await;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(talk(stream));
        }
    });
    address
}

/// A server that reads something, says `words` and closes.
pub async fn answers(words: impl Into<Vec<u8>>) -> SocketAddr {
    let words = words.into();
    server(move |mut stream| {
        let words = words.clone();
        async move {
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream.write_all(&words).await;
        }
    })
    .await
}

/// A server that says `words` first and then listens in silence.
pub async fn greets(words: impl Into<Vec<u8>>) -> SocketAddr {
    let words = words.into();
    server(move |mut stream| {
        let words = words.clone();
        async move {
            let _ = stream.write_all(&words).await;
            while stream.read(&mut [0; 4096]).await.is_ok_and(|n| n > 0) {}
        }
    })
    .await
}

#[track_caller]
pub fn not_ready(verdict: Verdict, kind: Trouble, reason: impl Into<String>) {
    assert_eq!(verdict, Verdict::not_ready(kind, reason));
}

pub fn login(folder: &Path, user: &str, password: &str) -> Login {
    let path = folder.join("password");
    std::fs::write(&path, format!("{password}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    Login { user: user.into(), password: Some(Secret::File(path)) }
}
