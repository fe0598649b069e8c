//! A passphrase for the CA's key: the key is kept encrypted, as any tool knows it ("ENCRYPTED PRIVATE KEY", PKCS #8 with
//! PBES2, RFC 8018), by AES-256 and a key that scrypt makes of the passphrase.

use super::files::{self, FileError};
use pkcs8::pkcs5::{pbes2, scrypt};
use pkcs8::{EncryptedPrivateKeyInfoRef, LineEnding, PrivateKeyInfoRef, SecretDocument};
use ring::rand::{SecureRandom, SystemRandom};
use std::fmt;
use std::path::Path;
use zeroize::Zeroizing;

/// What begins the block.
const LABEL: &str = "ENCRYPTED PRIVATE KEY";
/// The shortest one that is taken, in characters. A shorter one is found by trying.
const SHORTEST: usize = 8;
/// What scrypt costs: 2^14 × 8 × 128 bytes, 16 MiB, five times over (OWASP's word for this much memory). OpenSSL reads
/// nothing that takes 32 MiB.
const LOG_N: u8 = 14;
const R: u32 = 8;
const P: u32 = 5;

/// Wiped when it is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Passphrase(Zeroizing<String>);

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passphrase")
    }
}

/// A passphrase, or a key that it is for, cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PassphraseError {
    #[error("a passphrase of fewer than {SHORTEST} characters is found by trying them all")]
    Short,
    #[error(transparent)]
    File(#[from] FileError),
    #[error("this machine gives no random numbers")]
    NoRandom,
    #[error("the passphrase is not the one of the CA's key")]
    Wrong,
    #[error("the key cannot be encrypted")]
    Encrypt,
}

impl Passphrase {
    /// # Errors
    /// When it is too short to be one.
    pub fn new(text: Zeroizing<String>) -> Result<Passphrase, PassphraseError> {
        if text.chars().count() < SHORTEST {
            return Err(PassphraseError::Short);
        }
        Ok(Passphrase(text))
    }

    /// The first line of a file that only its owner may read; of a credential of systemd's, which a group may read that
    /// stands for an access list.
    ///
    /// # Errors
    /// When it is open to others, or holds none.
    pub fn read(path: &Path, is_credential: bool) -> Result<Passphrase, PassphraseError> {
        let text = if is_credential { files::read_credential(path) } else { files::read(path) }?;
        let line = text.lines().next().unwrap_or_default();
        Passphrase::new(Zeroizing::new(line.to_owned()))
    }

    /// A key, encrypted, as PEM.
    pub(super) fn encrypt(&self, key: &[u8]) -> Result<String, PassphraseError> {
        let (mut salt, mut iv) = ([0; 16], [0; 16]);
        let random = SystemRandom::new();
        random.fill(&mut salt).and_then(|()| random.fill(&mut iv)).map_err(|_| PassphraseError::NoRandom)?;
        let cost = scrypt::Params::new(LOG_N, R, P).map_err(|_| PassphraseError::Encrypt)?;
        let with = pbes2::Parameters::generate_scrypt_aes256cbc(cost, &salt, iv);
        let encrypted = PrivateKeyInfoRef::try_from(key)
            .and_then(|key| key.encrypt_with_params(with?, self.0.as_bytes()))
            .map_err(|_| PassphraseError::Encrypt)?;
        let pem = encrypted.to_pem(LABEL, LineEnding::LF).map_err(|_| PassphraseError::Encrypt)?;
        Ok(pem.to_string())
    }

    /// What was encrypted with it, as DER. `None` where it was not.
    pub(super) fn decrypt(&self, pem: &str) -> Option<SecretDocument> {
        let (_, encrypted) = SecretDocument::from_pem(pem).ok()?;
        EncryptedPrivateKeyInfoRef::try_from(encrypted.as_bytes()).ok()?.decrypt(self.0.as_bytes()).ok()
    }
}

/// Whether a PEM block is an encrypted key.
pub(super) fn is_encrypted(block: &str) -> bool {
    block.strip_prefix("-----BEGIN ").is_some_and(|rest| rest.starts_with(LABEL))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passphrase(text: &str) -> Passphrase {
        Passphrase::new(Zeroizing::new(text.to_owned())).unwrap()
    }

    #[test]
    fn a_key_comes_back_with_its_passphrase_and_no_other() {
        let key = rcgen::KeyPair::generate().unwrap();
        let pem = passphrase("correct horse").encrypt(key.serialized_der()).unwrap();
        assert!(is_encrypted(&pem) && !is_encrypted(&key.serialize_pem()));
        assert_eq!(passphrase("correct horse").decrypt(&pem).unwrap().as_bytes(), key.serialized_der());
        assert!(passphrase("Correct horse").decrypt(&pem).is_none());
        assert!(passphrase("correct horse").decrypt(&pem[..100]).is_none());
        // The same key once more is another text.
        assert_ne!(passphrase("correct horse").encrypt(key.serialized_der()).unwrap(), pem);
    }

    #[test]
    fn it_is_the_first_line_of_a_file_that_nobody_else_reads() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("passphrase");
        files::write(&path, "correct horse\nwhat else stands there\n").unwrap();
        assert_eq!(Passphrase::read(&path, false).unwrap(), passphrase("correct horse"));
        let mode = |mode| {
            use std::os::unix::fs::PermissionsExt;
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        mode(0o440);
        assert!(matches!(Passphrase::read(&path, false), Err(PassphraseError::File(_))));
        assert!(Passphrase::read(&path, true).is_ok());
        mode(0o444);
        assert!(matches!(Passphrase::read(&path, true), Err(PassphraseError::File(_))));
        files::write(&path, "\ncorrect horse\n").unwrap();
        assert!(matches!(Passphrase::read(&path, false), Err(PassphraseError::Short)));
        assert_eq!(format!("{:?}", passphrase("correct horse")), "Passphrase");
    }
}
