//! The trail: who did what to a node, when, from where, why, and what came of it.
//!
//! `trail.jsonl` in the state folder has one entry a line. Each carries the hash of the entry before it and, as its last
//! field, its own: the SHA-256 of the line up to there. So nothing can be changed, taken out or put in between without
//! a later hash showing it. Full pieces are set aside (`trail.1.jsonl` is the youngest of them); the chain goes on over
//! them, and its beginning is dropped with the oldest.
//!
//! What a chain by itself cannot show is a missing end. For that the last hash stands in the run folder, which is memory
//! and lives as long as the boot: an end that is missing within one boot was cut off by somebody; after another boot it
//! may have been the power. Neither shows who, as root, writes the whole of it anew with the right hashes: the head that
//! `clusterctl audit` prints does, kept elsewhere.

mod check;
mod file;

pub use check::{Check, Verdict};
pub use file::{Begun, Page, Trail};

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// The longest text in an entry, in bytes: a reason, a list of names. The rest is left out.
pub const MAX_TEXT: usize = 4 << 10;

/// What came of an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    Done,
    /// Not done: a right is missing, or the agent said no.
    Refused,
    /// Asked, and whoever asked did not wait for the answer.
    Unknown,
}

/// One action, before it has its place in the chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deed {
    /// Wall clock, milliseconds since 1970: shown, never compared.
    pub at: u64,
    /// The name in the certificate, or the user of this machine.
    pub who: String,
    /// The address, or the process on the unix socket.
    pub from: String,
    pub what: String,
    /// As the operator said it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
    pub outcome: Outcome,
    /// The outcome in words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub text: String,
    /// Of the entry that a boot begins with: its id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot: Option<String>,
    /// Bytes of an unfinished end that was found and cut off just before this entry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut: Option<u64>,
}

impl Deed {
    /// Holds its texts to their limit.
    fn shorten(&mut self) {
        for text in [&mut self.who, &mut self.from, &mut self.what, &mut self.why, &mut self.text] {
            if text.len() > MAX_TEXT {
                let mut end = MAX_TEXT;
                while !text.is_char_boundary(end) {
                    end -= 1;
                }
                text.truncate(end);
                text.push_str(" …");
            }
        }
    }
}

/// An action in its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Counts up by one from 1.
    pub seq: u64,
    #[serde(flatten)]
    pub deed: Deed,
    /// The hash of the entry before.
    pub prev: Hash,
}

/// The SHA-256 of an entry; all zeroes before the first one.
#[derive(Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Hash([u8; 32]);

impl Hash {
    fn of(bytes: &[u8]) -> Hash {
        let mut hash = Hash::default();
        hash.0.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, bytes).as_ref());
        hash
    }

    /// The first digits, for people.
    pub fn short(&self) -> String {
        self.to_string()[..12].to_owned()
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Hash {
    type Err = String;
    fn from_str(text: &str) -> Result<Hash, String> {
        if text.len() != 64 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err("not the 64 hex digits of a hash".to_owned());
        }
        let mut hash = Hash::default();
        for (byte, pair) in hash.0.iter_mut().zip(text.as_bytes().chunks(2)) {
            let pair = std::str::from_utf8(pair).unwrap_or_default();
            *byte = u8::from_str_radix(pair, 16).unwrap_or_default();
        }
        Ok(hash)
    }
}

impl From<Hash> for String {
    fn from(hash: Hash) -> String {
        hash.to_string()
    }
}

impl TryFrom<String> for Hash {
    type Error = String;
    fn try_from(text: String) -> Result<Hash, String> {
        text.parse()
    }
}

/// The end of a chain: where it is known to have come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// 0 before the first entry.
    pub seq: u64,
    pub hash: Hash,
}

/// What stands between an entry and its hash.
const SEAM: &str = ",\"hash\":\"";

/// The line of an entry, and its hash.
fn print(entry: &Entry) -> Result<(String, Hash), serde_json::Error> {
    let mut line = serde_json::to_string(entry)?;
    line.pop(); // the brace, which comes after the hash
    let hash = Hash::of(line.as_bytes());
    line.push_str(&format!("{SEAM}{hash}\"}}"));
    Ok((line, hash))
}

/// The entry in a line, and its hash; `None` when the line is not whole or not as it was written.
pub fn read(line: &str) -> Option<(Entry, Hash)> {
    let (body, rest) = line.split_at_checked(line.rfind(SEAM)?)?;
    let hash: Hash = rest.strip_prefix(SEAM)?.strip_suffix("\"}")?.parse().ok()?;
    if Hash::of(body.as_bytes()) != hash {
        return None;
    }
    Some((serde_json::from_str(&format!("{body}}}")).ok()?, hash))
}

#[cfg(test)]
mod tests;
