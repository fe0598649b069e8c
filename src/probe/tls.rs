//! TLS over a connection that we made: the handshake, the look at the certificate, and the words for its troubles.

use super::course::Course;
use super::secure::Identity;
use super::{certificate, net, password};
use crate::facts::{Stage, Trouble, Verdict};
use rustls::client::WebPkiServerVerifier;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{AlertDescription, CertificateError, ClientConfig, RootCertStore};
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// A certificate that ends within this is worth a word, in days.
const SOON: i64 = 30;

/// What certificates are checked by: the authorities of `ca`, or else those that this system trusts; and what we show
/// of our own.
pub(super) fn configuration(
    ca: Option<&Path>,
    identity: Option<&Identity>,
) -> Result<Arc<ClientConfig>, String> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
    let builder = builder.map_err(|e| format!("cannot set up TLS: {e}"))?;
    let configuration = match ca {
        Some(path) => builder.with_webpki_verifier(authorities(path, provider)?),
        None => {
            let verifier = rustls_platform_verifier::Verifier::new(provider)
                .map_err(|e| format!("cannot read the certificates that this system trusts: {e}"))?;
            builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier))
        }
    };
    let Some(Identity { certificate, key }) = identity else {
        return Ok(Arc::new(configuration.with_no_client_auth()));
    };
    let chain = certificates(certificate)?;
    let pem = password::read(key, "key", 0o077)?;
    let secret = PrivateKeyDer::from_pem_slice(pem.as_bytes())
        .map_err(|e| format!("the key {} is not understood: {e}", key.display()))?;
    let shown = configuration.with_client_auth_cert(chain, secret).map_err(|e| match e {
        rustls::Error::InconsistentKeys(_) => {
            format!("the key {} is not that of the certificate in {}", key.display(), certificate.display())
        }
        e => format!("the certificate in {} cannot be shown: {e}", certificate.display()),
    });
    Ok(Arc::new(shown?))
}

fn authorities(path: &Path, provider: Arc<CryptoProvider>) -> Result<Arc<WebPkiServerVerifier>, String> {
    let cannot = |why: String| format!("cannot read the certificates in {}: {why}", path.display());
    let mut store = RootCertStore::empty();
    for certificate in certificates(path)? {
        store.add(certificate).map_err(|e| cannot(e.to_string()))?;
    }
    WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider)
        .build()
        .map_err(|e| cannot(e.to_string()))
}

/// At least one.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let cannot = |why: String| format!("cannot read the certificates in {}: {why}", path.display());
    let text = password::small_file(path).map_err(|e| cannot(net::plain(&e)))?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let found = found.map_err(|e| cannot(e.to_string()))?;
    if found.is_empty() { Err(cannot("there is none".to_owned())) } else { Ok(found) }
}

/// The handshake; `authority` is who is named to a person.
pub(super) async fn handshake(
    stream: TcpStream,
    configuration: Arc<ClientConfig>,
    name: &str,
    authority: &str,
    course: Course<'_>,
) -> Result<TlsStream<TcpStream>, Verdict> {
    let name = ServerName::try_from(name.trim_matches(['[', ']']).to_owned());
    let Ok(name) = name else {
        let why = format!("the name of {authority} cannot stand in a certificate");
        return Err(Verdict::not_ready(Trouble::Unaskable, why));
    };
    course.enter(Stage::Tls);
    match course.limit(TlsConnector::from(configuration).connect(name, stream)).await {
        Some(Ok(stream)) => Ok(stream),
        Some(Err(error)) => match error.get_ref().and_then(|inner| inner.downcast_ref()) {
            Some(tls) => Err(trouble(authority, tls)),
            None => Err(net::exchange_trouble(authority, &error)),
        },
        None => Err(net::silent(authority, course)),
    }
}

/// What is worth a word of a certificate that is good still: `its certificate ends in 12 days`.
pub(super) fn ends_soon(stream: &TlsStream<TcpStream>) -> Option<String> {
    let end = certificate::ends(stream.get_ref().1.peer_certificates()?.first()?)?;
    // Only shown. A clock that is wrong by years would have refused the certificate, or be noticed by this.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs();
    soon(end - i64::try_from(now).ok()?)
}

fn soon(seconds: i64) -> Option<String> {
    match seconds.div_euclid(86_400) {
        SOON.. => None,
        1 => Some("its certificate ends in 1 day".into()),
        ..=0 => Some("its certificate ends today".into()),
        days => Some(format!("its certificate ends in {days} days")),
    }
}

/// The verdict on a handshake that failed, or on what TLS 1.3 tells only after it.
pub(super) fn trouble(authority: &str, error: &rustls::Error) -> Verdict {
    use CertificateError as Bad;
    let why = match error {
        rustls::Error::InvalidMessage(_) => return net::garbled(authority, "TLS", error),
        rustls::Error::InvalidCertificate(bad) => match bad {
            Bad::Expired | Bad::ExpiredContext { .. } => "its certificate has expired".into(),
            Bad::NotValidYet | Bad::NotValidYetContext { .. } => {
                "its certificate is not valid yet: is the clock of this machine right?".into()
            }
            Bad::UnknownIssuer => "nobody that is trusted here has signed its certificate".into(),
            Bad::NotValidForName | Bad::NotValidForNameContext { .. } => {
                "its certificate is for another name".into()
            }
            Bad::Revoked => "its certificate was revoked".into(),
            _ => error.to_string(),
        },
        rustls::Error::AlertReceived(alert) => alarm(*alert).map_or_else(|| error.to_string(), str::to_owned),
        _ => error.to_string(),
    };
    Verdict::not_ready(Trouble::Declined, format!("TLS with {authority} fails: {why}"))
}

/// What the other side says of our certificate.
fn alarm(alert: AlertDescription) -> Option<&'static str> {
    use AlertDescription as Said;
    match alert {
        Said::CertificateRequired => Some("it wants a certificate of ours"),
        // Older servers say the one where they mean the other (Go before 1.21, and all before TLS 1.3).
        Said::BadCertificate => {
            Some("it wants a certificate of ours, or does not take the one that it was shown")
        }
        Said::UnknownCA | Said::CertificateUnknown | Said::UnsupportedCertificate => {
            Some("it does not take our certificate: has an authority that it trusts signed it?")
        }
        Said::CertificateExpired => Some("it says that our certificate has expired"),
        Said::CertificateRevoked => Some("it says that our certificate was revoked"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_told_when_it_is_near() {
        assert_eq!(soon(30 * 86_400), None);
        assert_eq!(soon(30 * 86_400 - 1).unwrap(), "its certificate ends in 29 days");
        assert_eq!(soon(86_400).unwrap(), "its certificate ends in 1 day");
        assert_eq!(soon(5).unwrap(), "its certificate ends today");
    }

    #[test]
    fn certificate_trouble_is_told_in_words() {
        let says = |error, words: &str| {
            let reason = format!("TLS with 10.0.0.1:443 fails: {words}");
            assert_eq!(trouble("10.0.0.1:443", &error), Verdict::not_ready(Trouble::Declined, reason));
        };
        says(rustls::Error::InvalidCertificate(CertificateError::Expired), "its certificate has expired");
        says(
            rustls::Error::InvalidCertificate(CertificateError::NotValidYet),
            "its certificate is not valid yet: is the clock of this machine right?",
        );
        says(
            rustls::Error::InvalidCertificate(CertificateError::NotValidForName),
            "its certificate is for another name",
        );
    }
}
