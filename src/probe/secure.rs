//! For those of this program who ask no question of ours and connect all the same: the checks, the credentials and the words
//! that probes have.

use super::course::{Commitment, Course, Stages};
use super::{http, net, password, tls};
use crate::facts::Verdict;
use crate::model::Login;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use zeroize::Zeroizing;

/// What we show of ourselves, both as PEM. The key's file is open to nobody else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// A plain connection.
///
/// # Errors
/// A sentence that names the address.
pub async fn connect(address: SocketAddr, within: Duration) -> Result<TcpStream, String> {
    let (commitment, stages) = <(Commitment, Stages)>::default();
    net::connect(address, Course::begin(within, &commitment, &stages)).await.map_err(why)
}

/// A connection to whom an authority of `ca` has signed a certificate for that address. The files are read anew each time,
/// so that those which were renewed count.
///
/// # Errors
/// A sentence that names the address or the file.
pub async fn connect_secure(
    address: SocketAddr,
    ca: &Path,
    identity: Option<&Identity>,
    within: Duration,
) -> Result<TlsStream<TcpStream>, String> {
    let (ca, identity) = (ca.to_owned(), identity.cloned());
    let configuration = tokio::task::spawn_blocking(move || tls::configuration(Some(&ca), identity.as_ref()));
    let configuration = configuration.await.map_err(|e| e.to_string())??;
    let (commitment, stages) = <(Commitment, Stages)>::default();
    let course = Course::begin(within, &commitment, &stages);
    let stream = net::connect(address, course).await.map_err(why)?;
    let name = address.ip().to_string();
    tls::handshake(stream, configuration, &name, &address.to_string(), course).await.map_err(why)
}

/// What broke an exchange over HTTP.
pub fn broken(address: SocketAddr, error: &hyper::Error) -> String {
    why(http::trouble(&address.to_string(), error))
}

/// The login's password.
///
/// # Errors
/// A sentence, where it cannot be had or is open to others.
pub fn password(login: &Login) -> Result<Zeroizing<String>, String> {
    Ok(password::of(login).map_err(why)?.unwrap_or_default())
}

/// What a server says, as it is shown: harmless, short, and without the password that it was told.
pub fn said(login: Option<&Login>, words: &str) -> String {
    password::said(login, words.as_bytes())
}

fn why(verdict: Verdict) -> String {
    match verdict {
        Verdict::NotReady { reason, .. } => reason,
        other => format!("{other:?}"),
    }
}
