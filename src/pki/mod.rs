//! Who is who: the cluster's own CA, the certificates of nodes and operators, and what a peer is held to.
//!
//! A certificate carries one [`Name`], as a URI: `clusterd://shop/node/web1`. [`Ca`] issues them on the machine of
//! whoever runs the cluster. What one node or one operator gets is one [`Bundle`]: a file with its certificate, its
//! key and the CA's certificate. [`Tls`] makes both sides of a connection out of a bundle.
//!
//! | what is wrong with a peer's certificate | what comes of it |
//! |---|---|
//! | another CA, a bad signature, another purpose | refused |
//! | its key is revoked | refused, on a resumed connection too |
//! | it names another node than was asked | refused |
//! | its dates | reported, never refused: after a power cut the clock may say 1970 |

mod bundle;
mod ca;
mod certificate;
mod files;
mod hand_out;
mod invite;
mod name;
mod passphrase;
mod seal;
mod tls;
mod typed;

pub use bundle::{Bundle, BundleError};
pub use ca::{Ca, CaError, Issued};
pub use certificate::{Certificate, CertificateError, Key, Validity, now};
pub use files::FileError;
pub use invite::{Token, TokenError};
pub use name::{BadName, Name, Role, Who};
pub use passphrase::{Passphrase, PassphraseError};
pub use seal::{Seal, SealError};
pub use tls::{Tls, TlsError, Trust, in_words, stranger};
pub use typed::typed;
