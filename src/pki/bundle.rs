//! What one node or operator gets: a file with three PEM blocks, its certificate, the CA's, and its key. While the CA is
//! rotated there are two more: after its certificate the one that the CA before has given the new CA, so that who knows
//! only the old one believes it; and after the CA's the one of the CA before, so that it believes them.
//!
//! One file, so that it is there whole or not at all, and any tool for certificates can read it.

use super::certificate::{Certificate, CertificateError};
use super::files::{self, FileError};
use super::name::Who;
use super::tls::Trust;
use rustls::pki_types::pem::{PemObject, SectionKind};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;
use std::fmt;
use std::path::Path;
use webpki::KeyUsage;
use zeroize::{Zeroize, Zeroizing};

/// A file cannot be used as somebody's identity.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("it is damaged or was cut short: {0}")]
    Damaged(String),
    #[error("the certificate in it: {0}")]
    Certificate(#[from] CertificateError),
    #[error("it holds the key of {0}, which is nobody's to take in")]
    NotForUse(Who),
    #[error("its certificate is not of the CA beside it: {0}")]
    NotOfItsCa(String),
    #[error("its key is not the one of its certificate")]
    OtherKey,
}

/// A checked identity. Its key is wiped when it is dropped.
pub struct Bundle {
    /// Whose it is.
    pub own: Certificate,
    /// The CA that vouches for it.
    pub ca: Certificate,
    pub(super) own_der: CertificateDer<'static>,
    /// What is shown beside it.
    pub(super) above: Vec<CertificateDer<'static>>,
    pub(super) trusted: Vec<CertificateDer<'static>>,
    pub(super) key: Zeroizing<Vec<u8>>,
    text: Zeroizing<String>,
}

impl fmt::Debug for Bundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bundle({})", self.own.name)
    }
}

impl PartialEq for Bundle {
    fn eq(&self, other: &Bundle) -> bool {
        self.text == other.text
    }
}

impl Bundle {
    /// The text of a bundle, for [`Bundle::parse`].
    pub(super) fn print(own: &Certificate, own_pem: &str, ca_pem: &str, key_pem: &str) -> Zeroizing<String> {
        let cluster = &own.name.cluster;
        let head = match &own.name.who {
            Who::Node(node) => format!(
                "clusterd: node {node} of cluster {cluster}. On {node}: clusterd join THIS-FILE, then remove it."
            ),
            who => format!("clusterd: {who} of cluster {cluster}. For clusterctl --identity THIS-FILE."),
        };
        Zeroizing::new(format!("{head}\n{own_pem}{ca_pem}{key_pem}"))
    }

    /// # Errors
    /// When it is damaged, or its three parts do not belong together.
    pub fn parse(text: &str) -> Result<Bundle, BundleError> {
        let damaged = |why: &str| BundleError::Damaged(why.to_owned());
        let mut certificates = Vec::new();
        let mut key = None;
        for block in <(SectionKind, Vec<u8>)>::pem_slice_iter(text.as_bytes()) {
            match block.map_err(|e| BundleError::Damaged(e.to_string()))? {
                (SectionKind::Certificate, der) => certificates.push(CertificateDer::from(der)),
                (SectionKind::PrivateKey, der) if key.is_none() => key = Some(Zeroizing::new(der)),
                (_, mut other) => {
                    other.zeroize();
                    return Err(damaged("it has a block too many"));
                }
            }
        }
        let key = key.ok_or_else(|| damaged("it has no key"))?;
        let (own_der, above, trusted) = match &certificates[..] {
            [own, ca] => (own.clone(), vec![], vec![ca.clone()]),
            [own, cross, ca, before] => (own.clone(), vec![cross.clone()], vec![ca.clone(), before.clone()]),
            _ => return Err(damaged("it has neither two certificates nor four")),
        };
        let (own, ca) = (Certificate::read(&own_der)?, Certificate::read(&trusted[0])?);
        if own.name.who == Who::Ca {
            return Err(BundleError::NotForUse(own.name.who));
        }
        let not_of_its_ca = |e: &dyn fmt::Display| BundleError::NotOfItsCa(e.to_string());
        let trust = Trust::new(&trusted).map_err(|e| not_of_its_ca(&e))?;
        trust.check(&own_der, KeyUsage::client_auth()).map_err(|e| not_of_its_ca(&e))?;
        let bundle = Bundle { own, ca, own_der, above, trusted, key, text: Zeroizing::new(text.to_owned()) };
        bundle.certified_key()?;
        Ok(bundle)
    }

    /// Whether one who trusts as this one does would believe another.
    pub fn believes(&self, other: &Bundle) -> bool {
        let trust = Trust::new(&self.trusted);
        trust.is_ok_and(|t| t.check_chain(&other.own_der, &other.above, KeyUsage::client_auth()).is_ok())
    }

    /// Certificate and key as a connection wants them.
    pub(super) fn certified_key(&self) -> Result<CertifiedKey, BundleError> {
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(self.key.as_slice())).clone_key();
        let key = rustls::crypto::ring::sign::any_supported_type(&key).map_err(|_| BundleError::OtherKey)?;
        let shown = std::iter::once(&self.own_der).chain(&self.above).cloned().collect();
        let certified = CertifiedKey::new(shown, key);
        certified.keys_match().map_err(|_| BundleError::OtherKey)?;
        Ok(certified)
    }

    /// Reads and checks a bundle that nobody else can read or write.
    pub fn read(path: &Path) -> Result<Bundle, BundleError> {
        Bundle::parse(&files::read(path)?)
    }

    /// Puts it in its place, whole and on the disk, with mode 0600.
    pub fn write(&self, path: &Path) -> Result<(), FileError> {
        files::write(path, &self.text)
    }
}
