//! TLS below the API: how a TCP connection begins, on both sides.

use super::caller::Caller;
use super::wire::Identity;
use crate::pki::{Certificate, Tls, TlsError};
use rustls::ClientConfig;
use rustls::pki_types::CertificateDer;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

/// For a peer to finish its handshake.
pub const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(5);
/// How long, and for how many bytes, one who is refused is listened to, so that he gets to read why.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 64 << 10;

/// How an agent's TCP port is spoken to.
#[derive(Clone, Debug, Default)]
pub enum Security {
    /// `insecure = true`: plain HTTP.
    #[default]
    Plain,
    /// Mutual TLS.
    Tls(Arc<Tls>),
    /// There is no certificate yet: nobody is asked, and nobody answered.
    Missing,
    /// There is none yet, and somebody is asked for it: whoever answers.
    Stranger(Arc<ClientConfig>),
}

/// Lets a peer in, or not. One without a certificate is let in only while somebody is expected.
///
/// # Errors
/// When it does not show a certificate that is trusted, in time.
pub async fn accept(
    stream: TcpStream,
    tls: &Tls,
) -> io::Result<(server::TlsStream<TcpStream>, Option<Certificate>)> {
    let handshake = TlsAcceptor::from(tls.server.clone()).accept(stream).into_fallible();
    let stream = match timeout(HANDSHAKE_DEADLINE, handshake).await {
        Err(_) => return Err(io::Error::new(io::ErrorKind::TimedOut, "the handshake took too long")),
        Ok(Err((error, stream))) => {
            linger(stream).await;
            return Err(error);
        }
        Ok(Ok(stream)) => stream,
    };
    let shown = stream.get_ref().1.peer_certificates();
    if shown.is_none() && tls.expects_strangers() {
        return Ok((stream, None));
    }
    let peer = tls.peer(shown).map_err(io::Error::other)?;
    Ok((stream, Some(peer)))
}

/// Closing with bytes unread makes the kernel reset the connection, and the alert that says why would be lost.
async fn linger(mut stream: TcpStream) {
    let read_on = async {
        let _ = stream.shutdown().await;
        let (mut buffer, mut left) = ([0; 4096], LINGER_BYTES);
        while let Ok(n @ 1..) = stream.read(&mut buffer).await {
            match left.checked_sub(n) {
                Some(rest) => left = rest,
                None => break,
            }
        }
    };
    let _ = timeout(LINGER, read_on).await;
}

/// Speaks to an agent that must be the one of `node`, or of any node of the cluster.
///
/// # Errors
/// When it is not, or does not trust us; [`distrust`] finds the words.
pub async fn connect(
    stream: TcpStream,
    tls: &Tls,
    node: Option<&str>,
) -> io::Result<client::TlsStream<TcpStream>> {
    let name = Tls::dial(node).ok_or_else(|| io::Error::other("that cannot be the name of a node"))?;
    let stream = TlsConnector::from(tls.client.clone()).connect(name, stream).await?;
    tls.peer(stream.get_ref().1.peer_certificates()).map_err(io::Error::other)?;
    Ok(stream)
}

/// Speaks to whoever is there, and shows no certificate.
///
/// # Errors
/// When nobody there speaks to one without a certificate.
pub async fn connect_as_stranger(
    stream: TcpStream,
    config: &Arc<ClientConfig>,
) -> io::Result<client::TlsStream<TcpStream>> {
    let name = Tls::dial(None).ok_or_else(|| io::Error::other("that cannot be the name of a node"))?;
    TlsConnector::from(config.clone()).connect(name, stream).await
}

/// What an error says about trust between the two ends, if it does.
pub fn distrust(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    let mut next = Some(error);
    while let Some(error) = next {
        // An io::Error hides what it was made of from `source`.
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        let inner = inner.map(|e| e as &(dyn std::error::Error + 'static));
        if let Some(words) =
            inner.unwrap_or(error).downcast_ref::<rustls::Error>().and_then(crate::pki::in_words)
        {
            return Some(words);
        }
        next = inner.unwrap_or(error).source();
    }
    None
}

/// What is wrong with the certificate of one who was not let in; `None` where it was not about that.
pub fn certificate_refused(error: &io::Error) -> Option<String> {
    match error.get_ref()?.downcast_ref::<rustls::Error>()? {
        rustls::Error::NoCertificatesPresented => Some("it showed no certificate".to_owned()),
        rustls::Error::InvalidCertificate(bad) => Some(match bad {
            rustls::CertificateError::UnknownIssuer => {
                "its certificate is not of the CA that we trust".to_owned()
            }
            rustls::CertificateError::Revoked => "its key is revoked".to_owned(),
            rustls::CertificateError::Other(ours) => ours.to_string(),
            other => other.to_string(),
        }),
        _ => None,
    }
}

/// The other end of a connection that was let in.
#[derive(Clone, Debug)]
pub struct Peer {
    pub caller: Caller,
    /// Where it is: an address, or a process of this machine.
    pub from: Arc<str>,
    /// The certificates that it showed, and who it was that was content with them.
    pub shown: Option<(Arc<Tls>, Arc<[CertificateDer<'static>]>)>,
}

impl Security {
    /// What an agent that is spoken to so says of itself.
    pub fn identity(&self) -> Identity {
        let Security::Tls(tls) = self else { return Identity::default() };
        let authorities = tls.authorities().iter().map(ToString::to_string).collect();
        Identity { key: Some(tls.own.key.to_string()), authorities }
    }

    /// Whether one that was let in before whom we trust has changed would be let in now.
    ///
    /// # Errors
    /// Why not.
    pub fn still_believes(&self, peer: &Peer) -> Result<(), TlsError> {
        match (self, &peer.shown) {
            (Security::Tls(now), Some((then, chain))) if !Arc::ptr_eq(now, then) => now.check_again(chain),
            _ => Ok(()),
        }
    }
}
