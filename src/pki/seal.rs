//! A signature over a text, by the holder of a certificate, to be checked by whoever trusts the same CA.

use super::bundle::Bundle;
use super::certificate::Certificate;
use super::tls::{Tls, TlsError};
use rustls::SignatureScheme;
use rustls::pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use webpki::{EndEntityCert, KeyUsage};

/// All our keys are of this kind.
const SCHEME: SignatureScheme = SignatureScheme::ECDSA_NISTP256_SHA256;
/// The largest certificate that is looked at, in bytes. Ours have some hundreds.
const MAX_CERTIFICATE: usize = 16 << 10;

/// Who signed, and the signature; both in hex.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seal {
    certificate: String,
    signature: String,
}

/// Why a signature counts for nothing.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    #[error("the key cannot sign: {0}")]
    Key(String),
    #[error("the signature cannot be read")]
    Unreadable,
    #[error("the signer's certificate: {0}")]
    Signer(#[from] TlsError),
    #[error("the signature does not fit: something was changed since")]
    Wrong,
}

impl Seal {
    /// Signs a text.
    ///
    /// # Errors
    /// When the key is of a kind that no certificate of ours has.
    pub fn set(bundle: &Bundle, text: &str) -> Result<Seal, SealError> {
        let key = |why: &dyn std::fmt::Display| SealError::Key(why.to_string());
        let certified = bundle.certified_key().map_err(|e| key(&e))?;
        let signer = certified.key.choose_scheme(&[SCHEME]).ok_or_else(|| key(&"it is of another kind"))?;
        let signature = signer.sign(text.as_bytes()).map_err(|e| key(&e))?;
        Ok(Seal { certificate: hex(&bundle.own_der), signature: hex(&signature) })
    }

    /// Who signed this text. Dates are left out, as everywhere here.
    ///
    /// # Errors
    /// When the signer is not of our CA, or revoked, or has not signed this.
    pub fn check(&self, tls: &Tls, text: &str) -> Result<Certificate, SealError> {
        if self.certificate.len() > 2 * MAX_CERTIFICATE {
            return Err(SealError::Unreadable);
        }
        let read = |hex: &str| bytes(hex).ok_or(SealError::Unreadable);
        let (der, signature) = (CertificateDer::from(read(&self.certificate)?), read(&self.signature)?);
        let signer = tls.trust().check(&der, KeyUsage::client_auth())?;
        let certificate = EndEntityCert::try_from(&der).map_err(|_| SealError::Unreadable)?;
        certificate
            .verify_signature(webpki::ring::ECDSA_P256_SHA256, text.as_bytes(), &signature)
            .map_err(|_| SealError::Wrong)?;
        Ok(signer)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes(hex: &str) -> Option<Vec<u8>> {
    let digits = hex.as_bytes();
    let pairs = digits.chunks(2).map(|pair| {
        let pair = std::str::from_utf8(pair).ok().filter(|p| p.len() == 2 && !p.starts_with('+'))?;
        u8::from_str_radix(pair, 16).ok()
    });
    pairs.collect()
}

#[cfg(test)]
mod tests {
    use super::super::{Ca, Key, Role, Validity, Who};
    use super::*;

    fn bundle(ca: &Ca, who: Who) -> Bundle {
        Bundle::parse(&ca.issue(who, Validity::days(5)).unwrap().bundle).unwrap()
    }

    #[test]
    fn a_seal_tells_who_signed_what() {
        let dir = tempfile::tempdir().unwrap();
        let ca = Ca::init(&dir.path().join("ca"), "shop", Validity::days(9), None).unwrap();
        let other = Ca::init(&dir.path().join("other"), "shop", Validity::days(9), None).unwrap();
        let admin = || Who::Operator { name: "alice".into(), role: Role::Admin };
        let node = Tls::new(&bundle(&ca, Who::Node("web1".into()))).unwrap();

        let alice = bundle(&ca, admin());
        let seal = Seal::set(&alice, "some text").unwrap();
        assert_eq!(seal.check(&node, "some text").unwrap().name.who, admin());
        assert!(matches!(seal.check(&node, "some texT"), Err(SealError::Wrong)));

        let stranger = Seal::set(&bundle(&other, admin()), "some text").unwrap();
        assert!(matches!(stranger.check(&node, "some text"), Err(SealError::Signer(_))));

        let borrowed = Seal { certificate: seal.certificate.clone(), ..stranger };
        assert!(matches!(borrowed.check(&node, "some text"), Err(SealError::Wrong)));

        let key: Key = alice.own.key;
        node.revoke([key]);
        assert!(matches!(seal.check(&node, "some text"), Err(SealError::Signer(_))));

        for bad in ["", "zz", "abc", "+1+1"] {
            let bad = Seal { certificate: bad.into(), signature: bad.into() };
            assert!(bad.check(&node, "some text").is_err());
        }
    }
}
