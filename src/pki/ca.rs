//! The cluster's own CA: a folder on the machine of whoever runs the cluster.
//!
//! | file | what |
//! |---|---|
//! | `ca.pem` | its certificate and its key, encrypted where it has a passphrase |
//! | `before.pem`, `cross.pem` | while it is rotated: the certificate of the CA before, and what that one says of the new CA |
//! | `issued/KIND-NAME-KEY.pem` | the certificates that it issued; their keys are kept nowhere |
//! | `revoked/KIND-NAME-KEY.pem` | those that were revoked |

use super::bundle::Bundle;
use super::certificate::{Certificate, CertificateError, Key, Validity};
use super::files::{self, FileError};
use super::name::{BadName, Name, Who};
use super::passphrase::{self, Passphrase, PassphraseError};
use super::tls::Trust;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{PemObject, SectionKind};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use webpki::KeyUsage;
use zeroize::Zeroizing;

/// Certificates in the folder that are looked at. Far above the largest cluster, rotated often.
const MAX_ISSUED: usize = 100_000;

/// Why the CA does not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("there is a CA in {} already", .0.display())]
    Exists(PathBuf),
    #[error("there is no CA in {}", .0.display())]
    None(PathBuf),
    #[error("there is a file {} already, which may be all there is of its key", .0.display())]
    Taken(PathBuf),
    #[error("the CA's key has a passphrase, which was not given")]
    Locked,
    #[error(transparent)]
    Passphrase(#[from] PassphraseError),
    #[error("a rotation of the CA is under way already")]
    Rotating,
    #[error("{}: {why}", .path.display())]
    Damaged { path: PathBuf, why: String },
    #[error(transparent)]
    Name(#[from] BadName),
    #[error("cannot make a certificate: {0}")]
    Make(#[from] rcgen::Error),
    #[error("cannot read the certificate that was made: {0}")]
    Made(#[from] CertificateError),
    #[error("cannot look into {}: {cause}", .path.display())]
    Look { path: PathBuf, cause: io::Error },
}

/// A certificate and its key, fresh from the CA.
pub struct Issued {
    pub certificate: Certificate,
    /// For [`Bundle::parse`]; it holds the key, which the CA does not keep.
    pub bundle: Zeroizing<String>,
    /// The certificate alone.
    pem: String,
}

/// The CA of one cluster.
pub struct Ca {
    folder: PathBuf,
    /// Its own certificate.
    pub own: Certificate,
    pem: String,
    key: CaKey,
    /// While it is rotated.
    rotation: Option<Rotation>,
}

enum CaKey {
    /// As PEM, encrypted.
    Locked(String),
    Open {
        key: Box<Zeroizing<KeyPair>>,
        /// What it is kept encrypted with.
        passphrase: Option<Passphrase>,
    },
}

/// The CA before, and its certificate for the new one.
struct Rotation {
    before: Certificate,
    before_pem: String,
    cross_pem: String,
}

impl Ca {
    /// Makes the CA of a cluster in a folder of its own, its key encrypted where there is a passphrase.
    ///
    /// # Errors
    /// When there is one already, or the folder is open to others.
    pub fn init(
        folder: &Path,
        cluster: &str,
        validity: Validity,
        passphrase: Option<Passphrase>,
    ) -> Result<Ca, CaError> {
        let name = Name::new(cluster, Who::Ca)?;
        files::make_folder(folder)?;
        files::make_folder(&folder.join("issued"))?;
        files::make_folder(&folder.join("revoked"))?;
        if folder.join("ca.pem").exists() {
            return Err(CaError::Exists(folder.to_owned()));
        }
        let key = Zeroizing::new(KeyPair::generate()?);
        let certificate = ca_params(&name, validity)?.self_signed(&*key)?;
        Ca::write(folder, &certificate.pem(), &key, passphrase.as_ref())?;
        Ca::open(folder)?.unlocked(passphrase)
    }

    /// Opens it; a key with a passphrase stays locked ([`Ca::unlocked`]).
    ///
    /// # Errors
    /// When there is none, when it is damaged, or when others may read or write it.
    pub fn open(folder: &Path) -> Result<Ca, CaError> {
        let path = folder.join("ca.pem");
        if let Err(e) = files::read(&path)
            && e.is_missing()
        {
            return Err(CaError::None(folder.to_owned()));
        }
        files::check_folder(folder)?;
        let damaged = |why: String| CaError::Damaged { path: path.clone(), why };
        let text = files::read(&path)?;
        let (own, pem, key) = Ca::read(&path, &text)?;
        let key = key.ok_or_else(|| damaged("it has no key".to_owned()))?;
        let key = if passphrase::is_encrypted(key) {
            CaKey::Locked(key.to_owned())
        } else {
            let key = KeyPair::from_pem(key).map_err(|e| damaged(format!("its key: {e}")))?;
            if own.key != key_of(&key) {
                return Err(damaged("its key is not the one of its certificate".to_owned()));
            }
            CaKey::Open { key: Box::new(Zeroizing::new(key)), passphrase: None }
        };
        let mut rotation = None;
        let (before, cross) = (folder.join("before.pem"), folder.join("cross.pem"));
        if before.exists() && cross.exists() {
            let (before, before_pem, _) = Ca::read(&before, &files::read(&before)?)?;
            // Killed before the new one had its place: nothing was begun.
            if before.key != own.key {
                rotation = Some(Rotation { before, before_pem, cross_pem: files::read(&cross)?.to_string() });
            }
        }
        Ok(Ca { folder: folder.to_owned(), own, pem, key, rotation })
    }

    /// A CA's certificate, the same as PEM, and the block of its key, if there is one.
    fn read<'t>(path: &Path, text: &'t str) -> Result<(Certificate, String, Option<&'t str>), CaError> {
        let damaged = |why: String| CaError::Damaged { path: path.to_owned(), why };
        let der = CertificateDer::from_pem_slice(text.as_bytes())
            .map_err(|e| damaged(format!("its certificate: {e}")))?;
        let own = Certificate::read(&der).map_err(|e| damaged(format!("its certificate: {e}")))?;
        if own.name.who != Who::Ca {
            return Err(damaged("it is not the certificate of a CA".to_owned()));
        }
        let key = key_block(text);
        let pem = text[..text.len() - key.unwrap_or_default().len()].to_owned();
        Ok((own, pem, key))
    }

    /// Puts a CA in its place.
    fn write(
        folder: &Path,
        pem: &str,
        key: &KeyPair,
        passphrase: Option<&Passphrase>,
    ) -> Result<(), CaError> {
        let key_pem = Zeroizing::new(match passphrase {
            Some(passphrase) => passphrase.encrypt(key.serialized_der())?,
            None => key.serialize_pem(),
        });
        Ok(files::write(&folder.join("ca.pem"), &Zeroizing::new(format!("{pem}{}", *key_pem)))?)
    }

    /// Whether its key waits for a passphrase.
    pub fn is_locked(&self) -> bool {
        matches!(self.key, CaKey::Locked(_))
    }

    /// With its key at hand. One that is not locked needs no passphrase, and a passphrase changes nothing then.
    ///
    /// # Errors
    /// When it is locked and this is not its passphrase.
    pub fn unlocked(self, passphrase: Option<Passphrase>) -> Result<Ca, CaError> {
        let CaKey::Locked(pem) = &self.key else { return Ok(self) };
        let passphrase = passphrase.ok_or(CaError::Locked)?;
        let key = passphrase.decrypt(pem).and_then(|der| KeyPair::try_from(der.as_bytes()).ok());
        let key = key.filter(|key| key_of(key) == self.own.key).ok_or(PassphraseError::Wrong)?;
        Ok(Ca {
            key: CaKey::Open { key: Box::new(Zeroizing::new(key)), passphrase: Some(passphrase) },
            ..self
        })
    }

    /// Keeps its key encrypted with this passphrase from now on, or without one.
    ///
    /// # Errors
    /// When it is locked.
    pub fn keep_with(self, passphrase: Option<Passphrase>) -> Result<Ca, CaError> {
        let (key, _) = self.key()?;
        Ca::write(&self.folder, &self.pem, key, passphrase.as_ref())?;
        Ca::open(&self.folder)?.unlocked(passphrase)
    }

    fn key(&self) -> Result<(&KeyPair, Option<&Passphrase>), CaError> {
        match &self.key {
            CaKey::Open { key, passphrase } => Ok((key, passphrase.as_ref())),
            CaKey::Locked(_) => Err(CaError::Locked),
        }
    }

    /// Makes a new CA for the same cluster in this one's place, with the same passphrase. What it issues is believed by
    /// who knows only the CA before, and believes them. The key of the CA before is gone then: nothing is to be signed
    /// with it any more.
    ///
    /// # Errors
    /// When one is under way already, or the key is locked; nothing has changed then.
    pub fn rotate(self, validity: Validity) -> Result<Ca, CaError> {
        if self.rotation.is_some() {
            return Err(CaError::Rotating);
        }
        let (old_key, passphrase) = self.key()?;
        let in_folder = |name: &str| self.folder.join(name);
        let key = Zeroizing::new(KeyPair::generate()?);
        let params = ca_params(&self.own.name, validity)?;
        let own = params.self_signed(&*key)?;
        let old = ca_params(&self.own.name, self.own.validity)?;
        let cross = params.signed_by(&*key, &Issuer::from_params(&old, old_key))?;
        files::write(&in_folder("cross.pem"), &cross.pem())?;
        files::write(&in_folder("before.pem"), &self.pem)?;
        // The last step is the one that counts.
        Ca::write(&self.folder, &own.pem(), &key, passphrase)?;
        Ca::open(&self.folder)?.unlocked(passphrase.cloned())
    }

    /// The CA before, while this one takes its place.
    pub fn before(&self) -> Option<&Certificate> {
        self.rotation.as_ref().map(|r| &r.before)
    }

    /// Puts the CA before among what is revoked.
    pub fn revoke_before(&self) -> Result<(), CaError> {
        let Some(rotation) = &self.rotation else { return Ok(()) };
        let path = self.folder.join("revoked").join(file_name(&rotation.before));
        Ok(files::write(&path, &rotation.before_pem)?)
    }

    /// The rotation is over: what belongs to it is removed.
    pub fn rotated(&self) -> Result<(), CaError> {
        // The first one ends it.
        for name in ["before.pem", "cross.pem"] {
            files::remove(&self.folder.join(name))?;
        }
        Ok(())
    }

    /// The name of the cluster that it vouches for.
    pub fn cluster(&self) -> &str {
        &self.own.name.cluster
    }

    /// Makes a key and its certificate. The certificate is on record before anybody gets it.
    pub fn issue(&self, who: Who, validity: Validity) -> Result<Issued, CaError> {
        let issued = self.make(who, validity)?;
        self.record(&issued)?;
        Ok(issued)
    }

    /// Makes a key and its certificate, which is not on record.
    pub(super) fn make(&self, who: Who, validity: Validity) -> Result<Issued, CaError> {
        let (ca_key, _) = self.key()?;
        let name = Name::new(self.cluster(), who)?;
        let key = Zeroizing::new(KeyPair::generate()?);
        let ca = ca_params(&self.own.name, self.own.validity)?;
        let made = leaf_params(&name, validity)?.signed_by(&*key, &Issuer::from_params(&ca, ca_key))?;
        let certificate = Certificate::read(made.der())?;
        let pem = made.pem();
        let key_pem = Zeroizing::new(key.serialize_pem());
        let bundle = match &self.rotation {
            None => Bundle::print(&certificate, &pem, &self.pem, &key_pem),
            Some(r) => {
                let (own, cas) = (pem.clone() + &r.cross_pem, self.pem.clone() + &r.before_pem);
                Bundle::print(&certificate, &own, &cas, &key_pem)
            }
        };
        Ok(Issued { certificate, bundle, pem })
    }

    /// Puts a certificate on record.
    pub(super) fn record(&self, issued: &Issued) -> Result<(), CaError> {
        Ok(files::write(&self.record_of(&issued.certificate), &issued.pem)?)
    }

    /// Whether it is on record, and not revoked.
    pub(super) fn has_issued(&self, certificate: &Certificate) -> bool {
        self.record_of(certificate).exists()
    }

    fn record_of(&self, certificate: &Certificate) -> PathBuf {
        self.folder.join("issued").join(file_name(certificate))
    }

    /// The certificates that are in use, by name.
    pub fn issued(&self) -> Result<Vec<Certificate>, CaError> {
        self.look("issued", |_| true)
    }

    /// Those of them that are of this very CA, and not of the one before.
    pub fn issued_anew(&self) -> Result<Vec<Certificate>, CaError> {
        let damaged = |why: String| CaError::Damaged { path: self.folder.join("ca.pem"), why };
        let own = CertificateDer::from_pem_slice(self.pem.as_bytes()).map_err(|e| damaged(e.to_string()))?;
        let trust = Trust::new(&[own]).map_err(|e| damaged(e.to_string()))?;
        let of_own = |der: &CertificateDer<'_>| trust.check(der, KeyUsage::client_auth()).is_ok();
        self.look("issued", of_own)
    }

    /// The certificates that were revoked, by name.
    pub fn revoked(&self) -> Result<Vec<Certificate>, CaError> {
        self.look("revoked", |_| true)
    }

    /// Records that a certificate is not to be trusted any more. The agents learn it from `cluster.toml`.
    pub fn revoke(&self, certificate: &Certificate) -> Result<(), CaError> {
        let revoked = self.folder.join("revoked").join(file_name(certificate));
        Ok(files::place(&self.record_of(certificate), &revoked)?)
    }

    /// Takes a certificate off the record whose key nobody has got.
    pub fn withdraw(&self, certificate: &Certificate) -> Result<(), CaError> {
        Ok(files::remove(&self.record_of(certificate))?)
    }

    fn look(
        &self,
        sub: &str,
        wanted: impl Fn(&CertificateDer<'_>) -> bool,
    ) -> Result<Vec<Certificate>, CaError> {
        let folder = self.folder.join(sub);
        let look = |cause| CaError::Look { path: folder.clone(), cause };
        let mut found = Vec::new();
        for entry in fs::read_dir(&folder).map_err(look)?.take(MAX_ISSUED) {
            let path = entry.map_err(look)?.path();
            if path.extension().is_none_or(|e| e != "pem") {
                continue; // what a crash left aside
            }
            let damaged = |why: String| CaError::Damaged { path: path.clone(), why };
            let text = files::read(&path)?;
            let der = CertificateDer::from_pem_slice(text.as_bytes()).map_err(|e| damaged(e.to_string()))?;
            if !wanted(&der) {
                continue;
            }
            found.push(Certificate::read(&der).map_err(|e| damaged(e.to_string()))?);
        }
        found.sort_by(|a, b| (&a.name, a.validity.from, a.key).cmp(&(&b.name, b.validity.from, b.key)));
        Ok(found)
    }
}

fn key_of(key: &KeyPair) -> Key {
    use rcgen::PublicKeyData;
    Key::of(&key.subject_public_key_info())
}

/// The last block, from its first line on, if it is a key.
fn key_block(text: &str) -> Option<&str> {
    let block = &text[text.rfind("-----BEGIN ")?..];
    if passphrase::is_encrypted(block) {
        return Some(block);
    }
    let kind = <(SectionKind, Vec<u8>)>::from_pem_slice(block.as_bytes()).ok()?.0;
    (kind == SectionKind::PrivateKey).then_some(block)
}

fn file_name(certificate: &Certificate) -> String {
    let who = match &certificate.name.who {
        Who::Ca => "ca".to_owned(),
        Who::Node(node) => format!("node-{node}"),
        Who::Operator { name, .. } => format!("operator-{name}"),
    };
    format!("{who}-{}.pem", certificate.key.short())
}

fn params(name: &Name, validity: Validity) -> Result<CertificateParams, CaError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    // The subject is for people; it is the URI that counts.
    params.distinguished_name.push(DnType::OrganizationName, format!("clusterd {}", name.cluster));
    params.distinguished_name.push(DnType::CommonName, name.who.to_string());
    params.subject_alt_names = vec![SanType::URI(name.to_string().try_into()?)];
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + Duration::from_secs(validity.from);
    params.not_after = epoch + Duration::from_secs(validity.until);
    Ok(params)
}

fn ca_params(name: &Name, validity: Validity) -> Result<CertificateParams, CaError> {
    let mut params = params(name, validity)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    Ok(params)
}

fn leaf_params(name: &Name, validity: Validity) -> Result<CertificateParams, CaError> {
    let mut params = params(name, validity)?;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    if matches!(name.who, Who::Node(_)) {
        // Only an agent is ever asked anything.
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
    }
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}
