//! What a peer is held to, and both sides of a connection. TLS 1.3 only.

use super::bundle::{Bundle, BundleError};
use super::certificate::{Certificate, CertificateError, Key};
use super::name::{Name, Who};
use crate::clock;
use crate::facts::Moment;
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring as provider, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, TrustAnchor, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::SingleCertAndKey;
use rustls::version::TLS13;
use rustls::{
    AlertDescription, ClientConfig, DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme,
};
use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError, RwLock};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

/// The name to dial when any node of the cluster will do: no node can be called so.
const ANY_NODE: &str = "any.node";
/// Certificates of CAs that a peer may show beside its own.
const MAX_ABOVE: usize = 2;
/// Sessions kept for resumption, of each side: a reconnect then costs no signature.
const SESSIONS: usize = 256;

/// Why a peer is refused.
#[derive(Clone, Debug, thiserror::Error)]
pub enum TlsError {
    #[error("its certificate is of no clusterd: {0}")]
    Unreadable(Arc<CertificateError>),
    #[error("its certificate is not of this cluster's CA ({0})")]
    NotOurs(webpki::Error),
    #[error("it belongs to cluster {0}")]
    OtherCluster(String),
    #[error("the key of {0} is revoked")]
    Revoked(Who),
    #[error("it is {found}, not node {wanted}")]
    OtherNode { wanted: String, found: Who },
    #[error("it is {0}, not a node")]
    NotANode(Who),
    #[error("it showed no certificate")]
    None,
}

/// Whom a holder of a certificate believes.
#[derive(Debug)]
pub struct Trust {
    cluster: String,
    /// More than one while the CA is being rotated.
    anchors: Vec<(Key, TrustAnchor<'static>)>,
    algorithms: WebPkiSupportedAlgorithms,
    revoked: RwLock<BTreeSet<Key>>,
    /// Until when peers without a certificate are let in.
    strangers: RwLock<Option<Moment>>,
}

impl Trust {
    /// Trust in the CAs of one cluster.
    pub(super) fn new(cas: &[CertificateDer<'_>]) -> Result<Trust, TlsError> {
        let (mut cluster, mut anchors) = (None, Vec::new());
        for ca in cas {
            let said = Certificate::read(ca).map_err(|e| TlsError::Unreadable(Arc::new(e)))?;
            if said.name.who != Who::Ca {
                return Err(TlsError::NotOurs(webpki::Error::EndEntityUsedAsCa));
            }
            if *cluster.get_or_insert_with(|| said.name.cluster.clone()) != said.name.cluster {
                return Err(TlsError::OtherCluster(said.name.cluster));
            }
            anchors.push((said.key, anchor_from_trusted_cert(ca).map_err(TlsError::NotOurs)?.to_owned()));
        }
        Ok(Trust {
            cluster: cluster.ok_or(TlsError::None)?,
            anchors,
            algorithms: provider::default_provider().signature_verification_algorithms,
            revoked: RwLock::default(),
            strangers: RwLock::default(),
        })
    }

    /// Whether a key is revoked.
    pub fn is_revoked(&self, key: &Key) -> bool {
        self.revoked.read().unwrap_or_else(PoisonError::into_inner).contains(key)
    }

    /// Whether one without a certificate is let in now.
    fn expects_strangers(&self) -> bool {
        let until = *self.strangers.read().unwrap_or_else(PoisonError::into_inner);
        until.is_some_and(|until| clock::now() < until)
    }

    /// Whether a certificate is of this CA and this cluster, for this purpose, and not revoked.
    pub(super) fn check(&self, der: &CertificateDer<'_>, usage: KeyUsage) -> Result<Certificate, TlsError> {
        self.check_chain(der, &[], usage)
    }

    /// As [`Trust::check`], of a certificate that comes with one for its CA, by the CA before.
    pub(super) fn check_chain(
        &self,
        der: &CertificateDer<'_>,
        above: &[CertificateDer<'_>],
        usage: KeyUsage,
    ) -> Result<Certificate, TlsError> {
        let certificate = EndEntityCert::try_from(der).map_err(TlsError::NotOurs)?;
        // A CA is dropped by revoking its key, as any other.
        let trusted = self.anchors.iter().filter(|(key, _)| !self.is_revoked(key));
        let anchors: Vec<TrustAnchor<'_>> = trusted.map(|(_, anchor)| anchor.clone()).collect();
        let is_ours = |der: &&CertificateDer<'_>| {
            Certificate::read(der).is_ok_and(|ca| ca.name.who == Who::Ca && !self.is_revoked(&ca.key))
        };
        let above: Vec<_> = above.iter().take(MAX_ABOVE).filter(is_ours).cloned().collect();
        let holds_at = |time| {
            let verified =
                certificate.verify_for_usage(self.algorithms.all, &anchors, &above, time, usage, None, None);
            verified.map(drop)
        };
        // Dates must not stop a boot. Whoever is out of them is judged by all the rest, at a moment inside of them.
        match holds_at(UnixTime::now()) {
            Err(webpki::Error::CertExpired { not_after, .. }) => holds_at(not_after),
            Err(webpki::Error::CertNotValidYet { not_before, .. }) => holds_at(not_before),
            other => other,
        }
        .map_err(TlsError::NotOurs)?;
        let said = Certificate::read(der).map_err(|e| TlsError::Unreadable(Arc::new(e)))?;
        if said.name.cluster != self.cluster {
            return Err(TlsError::OtherCluster(said.name.cluster));
        }
        if self.is_revoked(&said.key) {
            return Err(TlsError::Revoked(said.name.who));
        }
        Ok(said)
    }
}

/// Both sides of the connections of one node or operator.
#[derive(Debug)]
pub struct Tls {
    /// Whose they are.
    pub own: Certificate,
    trust: Arc<Trust>,
    pub(crate) server: Arc<ServerConfig>,
    pub(crate) client: Arc<ClientConfig>,
}

impl Tls {
    /// # Errors
    /// When the bundle's parts cannot be used together; one that was parsed has been checked for that.
    pub fn new(bundle: &Bundle) -> Result<Tls, BundleError> {
        let damaged = |e: &dyn std::fmt::Display| BundleError::Damaged(e.to_string());
        let trust = Arc::new(Trust::new(&bundle.trusted).map_err(|e| damaged(&e))?);
        let held_to = Arc::new(HeldTo { trust: trust.clone() });
        let own = Arc::new(SingleCertAndKey::from(bundle.certified_key()?));
        let provider: Arc<CryptoProvider> = Arc::new(provider::default_provider());

        let server = ServerConfig::builder_with_provider(provider.clone()).with_protocol_versions(&[&TLS13]);
        let mut server = server
            .map_err(|e| damaged(&e))?
            .with_client_cert_verifier(held_to.clone())
            .with_cert_resolver(own.clone());
        server.session_storage = rustls::server::ServerSessionMemoryCache::new(SESSIONS);
        // One reconnect at a time is what a peer does.
        server.send_tls13_tickets = 1;

        let client = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[&TLS13]);
        let mut client = client
            .map_err(|e| damaged(&e))?
            .dangerous() // the library's word for any verifier but its own; ours keeps all of it except the dates
            .with_custom_certificate_verifier(held_to)
            .with_client_cert_resolver(own);
        client.resumption = Resumption::in_memory_sessions(SESSIONS);
        // The name says whom we mean; it is nobody's business on the wire.
        client.enable_sni = false;

        Ok(Tls { own: bundle.own.clone(), trust, server: Arc::new(server), client: Arc::new(client) })
    }

    /// The keys that are not trusted any more, in place of those said before. What is connected already is the
    /// caller's to look at.
    pub fn revoke(&self, keys: impl IntoIterator<Item = Key>) {
        *self.trust.revoked.write().unwrap_or_else(PoisonError::into_inner) = keys.into_iter().collect();
    }

    /// The keys that are not trusted any more.
    pub fn revoked(&self) -> BTreeSet<Key> {
        self.trust.revoked.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether a key is revoked.
    pub fn is_revoked(&self, key: &Key) -> bool {
        self.trust.is_revoked(key)
    }

    /// Lets peers without a certificate in until then, because somebody without one is expected. What they may ask for
    /// is the caller's to decide.
    pub fn expect_strangers(&self, until: Option<Moment>) {
        *self.trust.strangers.write().unwrap_or_else(PoisonError::into_inner) = until;
    }

    /// Whether one without a certificate is let in now.
    pub fn expects_strangers(&self) -> bool {
        self.trust.expects_strangers()
    }

    /// Who the other end of a connection is, by the chain that it showed. Asked after every handshake: a resumed one
    /// shows no certificate anew.
    ///
    /// # Errors
    /// When it showed none, or its key was revoked since.
    pub fn peer(&self, chain: Option<&[CertificateDer<'_>]>) -> Result<Certificate, TlsError> {
        let der = chain.and_then(<[_]>::first).ok_or(TlsError::None)?;
        let said = Certificate::read(der).map_err(|e| TlsError::Unreadable(Arc::new(e)))?;
        if self.is_revoked(&said.key) {
            return Err(TlsError::Revoked(said.name.who));
        }
        Ok(said)
    }

    /// Whether one who was let in once, with this chain, would be now.
    ///
    /// # Errors
    /// Why not.
    pub fn check_again(&self, chain: &[CertificateDer<'_>]) -> Result<(), TlsError> {
        let (own, above) = chain.split_first().ok_or(TlsError::None)?;
        self.trust.check_chain(own, above, KeyUsage::client_auth()).map(drop)
    }

    /// The keys of the CAs that are trusted.
    pub fn authorities(&self) -> Vec<Key> {
        let trusted = self.trust.anchors.iter().map(|(key, _)| *key);
        trusted.filter(|key| !self.is_revoked(key)).collect()
    }

    /// What to dial for a node, or for any of them. `None` for what cannot be a node's name.
    pub(crate) fn dial(node: Option<&str>) -> Option<ServerName<'static>> {
        ServerName::try_from(node.unwrap_or(ANY_NODE).to_owned()).ok()
    }

    /// Whom it believes.
    pub(super) fn trust(&self) -> &Trust {
        &self.trust
    }

    /// The name of its cluster.
    pub fn cluster(&self) -> &str {
        &self.own.name.cluster
    }
}

/// The verifier of both sides: chain, signatures, purpose, name, revocation. Not the dates.
#[derive(Debug)]
struct HeldTo {
    trust: Arc<Trust>,
}

impl HeldTo {
    fn signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.trust.algorithms)
    }
}

/// A side that shows no certificate and believes whoever is there: for one who has none yet, and fetches what proves
/// itself. Nothing that is said so is a secret, and nothing that is heard is believed for who said it.
///
/// # Errors
/// When the library cannot speak TLS 1.3.
pub fn stranger() -> Result<Arc<ClientConfig>, rustls::Error> {
    let provider = Arc::new(provider::default_provider());
    let algorithms = provider.signature_verification_algorithms;
    let config = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[&TLS13])?;
    let mut config = config
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Whoever { algorithms }))
        .with_no_client_auth();
    config.enable_sni = false;
    Ok(Arc::new(config))
}

/// Holds a peer to having the key of what it shows, and to nothing else.
#[derive(Debug)]
struct Whoever {
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Whoever {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(too_old())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// TLS 1.2 is never spoken here.
fn too_old() -> rustls::Error {
    rustls::Error::General("TLS 1.2 is not spoken here".to_owned())
}

/// The library's error, so that the other side gets the alert that tells most; our words are kept for our side.
fn refuse(error: TlsError) -> rustls::Error {
    use rustls::CertificateError as Alert;
    match error {
        TlsError::NotOurs(_) | TlsError::OtherCluster(_) => Alert::UnknownIssuer.into(),
        TlsError::Revoked(_) => Alert::Revoked.into(),
        other => Alert::Other(rustls::OtherError(Arc::new(other))).into(),
    }
}

impl ServerCertVerifier for HeldTo {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        above: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let said = self.trust.check_chain(certificate, above, KeyUsage::server_auth()).map_err(refuse)?;
        let wanted = server_name.to_str();
        match said.name {
            Name { who: Who::Node(node), .. } if wanted == ANY_NODE || wanted == node => {
                Ok(ServerCertVerified::assertion())
            }
            Name { who: found @ Who::Node(_), .. } => {
                Err(refuse(TlsError::OtherNode { wanted: wanted.into_owned(), found }))
            }
            Name { who, .. } => Err(refuse(TlsError::NotANode(who))),
        }
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(too_old())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.trust.algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for HeldTo {
    fn client_auth_mandatory(&self) -> bool {
        !self.trust.expects_strangers()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        above: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.trust.check_chain(certificate, above, KeyUsage::client_auth()).map_err(refuse)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(too_old())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.trust.algorithms.supported_schemes()
    }
}

/// What a broken connection says about trust, for the one who dialled; `None` when it says nothing about it.
pub fn in_words(error: &rustls::Error) -> Option<String> {
    use rustls::CertificateError as Bad;
    let words = match error {
        rustls::Error::InvalidCertificate(Bad::UnknownIssuer) => {
            "its certificate is not of the CA in our identity: it is of another cluster, or from before a new CA"
        }
        rustls::Error::InvalidCertificate(Bad::Revoked) => "its key is revoked",
        rustls::Error::InvalidCertificate(Bad::Other(ours)) => return Some(ours.to_string()),
        rustls::Error::InvalidCertificate(_) => "its certificate cannot be verified",
        rustls::Error::AlertReceived(AlertDescription::UnknownCA) => {
            "it refuses our certificate: it is not of the CA that the agent trusts"
        }
        rustls::Error::AlertReceived(AlertDescription::CertificateRevoked) => {
            "it refuses our certificate: its key is revoked"
        }
        rustls::Error::AlertReceived(AlertDescription::CertificateRequired) => {
            "it talks to holders of a certificate only"
        }
        rustls::Error::AlertReceived(_) => "it refuses our certificate",
        rustls::Error::InvalidMessage(_) => {
            "it does not speak TLS: does its cluster.toml say `insecure = true`?"
        }
        _ => return None,
    };
    Some(words.to_owned())
}

#[cfg(test)]
mod tests;
