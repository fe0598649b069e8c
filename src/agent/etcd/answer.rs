//! What etcd's answers mean. Pure: bytes in; facts, or sentences that name the server, out.

use crate::model::Login;
use crate::probe::secure;
use serde::Deserialize;
use serde_json::{Value, json};
use std::net::SocketAddr;

/// The longest line of a watch that is read. One that is longer says that something has changed, too.
const LONGEST_LINE: usize = 1 << 20;

/// gRPC's codes, as etcd's JSON has them (google.rpc.Code).
mod code {
    pub const INVALID_ARGUMENT: i64 = 3;
    pub const PERMISSION_DENIED: i64 = 7;
    pub const FAILED_PRECONDITION: i64 = 9;
    pub const UNAUTHENTICATED: i64 = 16;
}

/// The answer to a range.
#[derive(Debug, Default, Deserialize)]
pub struct Found {
    #[serde(default)]
    header: Header,
    #[serde(default)]
    pub kvs: Vec<Pair>,
}

#[derive(Debug, Default, Deserialize)]
struct Header {
    /// Of the whole store; 64 bits, as a string.
    #[serde(default)]
    revision: String,
}

/// A key and what it holds, both in base64.
#[derive(Debug, Deserialize)]
pub struct Pair {
    pub key: String,
    #[serde(default)]
    pub value: String,
}

impl Found {
    /// The one that comes after what was read.
    pub fn next_revision(&self) -> u64 {
        self.header.revision.parse::<u64>().unwrap_or(0).saturating_add(1)
    }
}

/// The answer to a login.
#[derive(Deserialize)]
pub struct Token {
    pub token: String,
}

/// An answer of one of these kinds.
///
/// # Errors
/// When it is no such JSON.
pub fn understood<'a, T: Deserialize<'a>>(server: SocketAddr, bytes: &'a [u8]) -> Result<T, String> {
    // Not with its words: they would show a part of the answer.
    serde_json::from_slice(bytes)
        .map_err(|e| format!("{server}: its answer is not understood ({:?})", e.classify()))
}

/// Why a call did not bring what was asked for.
#[derive(Debug, PartialEq, Eq)]
pub enum Failed {
    /// etcd wants a login, or another one than it was shown.
    LogIn,
    /// etcd knows who we are, and who that is may not.
    Forbidden,
    /// It says that nobody has to log in.
    Open,
    /// A sentence.
    Other(String),
}

#[derive(Debug, Default, Deserialize)]
struct Refusal {
    #[serde(default)]
    error: String,
    #[serde(default)]
    code: i64,
}

/// What a refusal means, to one who has this login.
pub fn refused(server: SocketAddr, status: u16, said: &[u8], login: Option<&Login>) -> Failed {
    let refusal: Refusal = serde_json::from_slice(said).unwrap_or_default();
    let words = &refusal.error;
    match refusal.code {
        code::UNAUTHENTICATED => Failed::LogIn,
        // etcd's own sentences (rpctypes): who is not logged in, a token from before a change of users or roles, and
        // a login that is refused.
        code::INVALID_ARGUMENT
            if ["user name is empty", "auth store is old", "authentication failed"]
                .iter()
                .any(|known| words.contains(known)) =>
        {
            Failed::LogIn
        }
        code::PERMISSION_DENIED => Failed::Forbidden,
        code::FAILED_PRECONDITION if words.contains("authentication is not enabled") => Failed::Open,
        _ if words.is_empty() => Failed::Other(format!("{server}: HTTP {status}")),
        _ => Failed::Other(format!("{server}: HTTP {status}: {}", secure::said(login, words))),
    }
}

/// What a watch tells: a line of JSON each time.
#[derive(Default)]
pub struct Lines {
    /// The beginning of one that has not ended.
    begun: Vec<u8>,
}

impl Lines {
    /// Takes in what came; whether something has changed.
    ///
    /// # Errors
    /// When nothing more will be told: a sentence that does not name the server.
    pub fn take(&mut self, bytes: &[u8]) -> Result<bool, String> {
        for byte in bytes {
            if *byte != b'\n' && self.begun.len() < LONGEST_LINE {
                self.begun.push(*byte);
                continue;
            }
            let is_change = self.begun.len() >= LONGEST_LINE || is_change(&self.begun)?;
            self.begun.clear();
            if is_change {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

fn is_change(line: &[u8]) -> Result<bool, String> {
    let told: Value = serde_json::from_slice(line).unwrap_or_default();
    if let Some(error) = told.get("error") {
        return Err(secure::said(None, &error.to_string()));
    }
    let result = &told["result"];
    if result["canceled"] == json!(true) {
        let why = result["cancel_reason"].as_str().map(|why| format!(": {}", secure::said(None, why)));
        return Err(format!("the watch has ended{}", why.unwrap_or_default()));
    }
    Ok(result["events"].as_array().is_some_and(|events| !events.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watch_tells_changes_from_its_own_noise() {
        assert_eq!(is_change(br#"{"result":{"header":{},"created":true}}"#), Ok(false));
        assert_eq!(is_change(br#"{"result":{"events":[{"kv":{"key":"eA=="}}]}}"#), Ok(true));
        let ended = |line: &str| is_change(line.as_bytes()).unwrap_err();
        let compacted = ended(r#"{"result":{"canceled":true,"compact_revision":"7"}}"#);
        assert_eq!(compacted, "the watch has ended");
        let forbidden = ended(r#"{"result":{"canceled":true,"cancel_reason":"permission denied"}}"#);
        assert_eq!(forbidden, "the watch has ended: permission denied");
        assert_eq!(ended(r#"{"error":{"message":"no leader"}}"#), r#"{"message":"no leader"}"#);
        assert_eq!(is_change(b"noise"), Ok(false));
    }

    #[test]
    fn a_line_that_does_not_end_is_a_change_and_no_more_of_it_is_kept() {
        let mut lines = Lines::default();
        for _ in 0..LONGEST_LINE / 1024 {
            assert_eq!(lines.take(&[b'x'; 1024]), Ok(false));
        }
        assert_eq!(lines.take(b"x"), Ok(true));
        assert!(lines.begun.is_empty());
    }
}
