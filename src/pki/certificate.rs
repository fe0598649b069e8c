//! One certificate: whose it is, its key, its dates.

use super::name::{BadName, Name};
use rustls::pki_types::{CertificateDer, UnixTime};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime};
use webpki::{EndEntityCert, KeyUsage};

/// The wall clock, seconds since 1970. Shown and written into certificates; nothing is decided by it.
pub fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// A public key, told by the SHA-256 of its encoding (SubjectPublicKeyInfo): 64 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Key([u8; 32]);

impl Key {
    pub(super) fn of(spki: &[u8]) -> Key {
        let mut key = [0; 32];
        key.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, spki).as_ref());
        Key(key)
    }

    /// The first eight digits, for people and file names.
    pub fn short(&self) -> String {
        self.to_string()[..8].to_owned()
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Key {
    type Err = String;
    fn from_str(text: &str) -> Result<Key, String> {
        let digits = text.as_bytes();
        if digits.len() != 64 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(format!("\"{}\" is not the 64 hex digits of a key", text.escape_debug()));
        }
        let mut key = [0; 32];
        for (byte, pair) in key.iter_mut().zip(digits.chunks(2)) {
            let pair = std::str::from_utf8(pair).unwrap_or_default();
            *byte = u8::from_str_radix(pair, 16).unwrap_or_default();
        }
        Ok(Key(key))
    }
}

impl From<Key> for String {
    fn from(key: Key) -> String {
        key.to_string()
    }
}

impl TryFrom<String> for Key {
    type Error = String;
    fn try_from(text: String) -> Result<Key, String> {
        text.parse()
    }
}

/// From when until when a certificate says that it is valid, seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    pub from: u64,
    pub until: u64,
}

impl Validity {
    /// From a day ago, for clocks that are behind, to so many days from now.
    pub fn days(days: u64) -> Validity {
        let (now, day) = (now(), 86_400);
        Validity { from: now.saturating_sub(day), until: now + days * day }
    }
}

/// What a certificate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    pub name: Name,
    pub key: Key,
    pub validity: Validity,
}

/// What is no certificate of a clusterd.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    #[error("it cannot be read: {0}")]
    Unreadable(webpki::Error),
    #[error("it carries {0} names instead of one")]
    Names(usize),
    #[error(transparent)]
    Name(#[from] BadName),
}

impl Certificate {
    /// Reads what it says; whether it says the truth is [`Trust`](super::Trust)'s question.
    ///
    /// # Errors
    /// When it is no certificate, or carries no single name of ours.
    pub fn read(der: &CertificateDer<'_>) -> Result<Certificate, CertificateError> {
        let certificate = EndEntityCert::try_from(der).map_err(CertificateError::Unreadable)?;
        let names: Vec<&str> = certificate.valid_uri_names().collect();
        let [name] = names[..] else { return Err(CertificateError::Names(names.len())) };
        Ok(Certificate {
            name: name.parse()?,
            key: Key::of(certificate.subject_public_key_info().as_ref()),
            validity: validity(&certificate).map_err(CertificateError::Unreadable)?,
        })
    }
}

/// The dates. The library tells them only to whom they stand in the way of: it is asked whether the certificate holds
/// at the beginning and at the end of time.
fn validity(certificate: &EndEntityCert<'_>) -> Result<Validity, webpki::Error> {
    let ask = |seconds| {
        let time = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        certificate.verify_for_usage(&[], &[], &[], time, KeyUsage::client_auth(), None, None).map(drop)
    };
    let from = match ask(0) {
        Err(webpki::Error::CertNotValidYet { not_before, .. }) => not_before.as_secs(),
        Err(webpki::Error::InvalidCertValidity | webpki::Error::BadDer) => {
            return Err(webpki::Error::InvalidCertValidity);
        }
        _ => 0,
    };
    let until = match ask(u64::MAX) {
        Err(webpki::Error::CertExpired { not_after, .. }) => not_after.as_secs(),
        Err(other) => return Err(other),
        Ok(()) => u64::MAX,
    };
    Ok(Validity { from, until })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_as_it_was_written() {
        let key = Key::of(b"some key");
        assert_eq!(key.to_string().parse(), Ok(key));
        assert_eq!(key.short().len(), 8);
        for bad in ["", "abc", &"g".repeat(64), &"ä".repeat(32)] {
            assert!(bad.parse::<Key>().is_err(), "{bad}");
        }
    }

    #[test]
    fn garbage_is_no_certificate() {
        assert!(Certificate::read(&CertificateDer::from(vec![0x30, 0x03, 1, 2, 3])).is_err());
        assert!(Certificate::read(&CertificateDer::from(vec![])).is_err());
    }
}
