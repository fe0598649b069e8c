//! One-time tokens: how a node gets its bundle from an agent that cannot read it.
//!
//! The CA's key is on no node, so nobody there can issue anything. Whoever has it issues the bundle, seals it with a key
//! that comes from a random [`Token`], and leaves it with an agent under a number that comes from the token, too. Whoever
//! types the token on the new node asks for that number and opens the seal. What the agent has, and whoever listens on
//! the way, is of no use without the token; and what opens is the operator's, whoever handed it over. The seal names the
//! node: for another one it does not open.

use super::name::Name;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, KeyType, Prk, Salt};
use ring::rand::{SecureRandom, SystemRandom};
use std::fmt;
use std::str::FromStr;
use zeroize::Zeroizing;

/// Random bytes in a token: nobody tries 2^160 of them.
const BYTES: usize = 20;
/// Letters and digits that are not taken for each other (Crockford's base 32, in small letters).
const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
/// Digits between two dashes.
const GROUP: usize = 8;

/// The secret of one invitation.
pub struct Token(Zeroizing<[u8; BYTES]>);

/// What somebody typed is no token, or not the right one.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    #[error("that is no token: it has {0} digits, and a token has 32")]
    Length(usize),
    #[error("that is no token: it has a character that tokens do not have")]
    Digit,
    #[error("this machine gives no random numbers")]
    NoRandom,
    #[error("the invitation is not for {0}, or was made with another token")]
    Sealed(Name),
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

impl Token {
    /// A token that nobody has had before.
    ///
    /// # Errors
    /// When the kernel has no randomness.
    pub fn new() -> Result<Token, TokenError> {
        let mut bytes = Zeroizing::new([0; BYTES]);
        SystemRandom::new().fill(bytes.as_mut()).map_err(|_| TokenError::NoRandom)?;
        Ok(Token(bytes))
    }

    /// As somebody reads and types it: four groups of eight.
    pub fn text(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(BYTES * 2));
        for (n, five) in self.0.chunks(5).enumerate() {
            let bits = five.iter().fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte));
            if n > 0 {
                text.push('-');
            }
            (0..GROUP).rev().for_each(|at| text.push(DIGITS[(bits >> (at * 5) & 31) as usize].into()));
        }
        text
    }

    /// The number under which the sealed bundle is left. It tells nothing of the token.
    pub fn number(&self) -> String {
        let mut number = [0; 16];
        self.derive(b"clusterd invitation: number", number.len(), &mut number);
        number.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Seals a bundle for the one whom it names.
    ///
    /// # Errors
    /// None that the length of a bundle can bring about.
    pub fn seal(&self, name: &Name, bundle: &str) -> Result<String, TokenError> {
        let mut bytes = bundle.as_bytes().to_vec();
        let sealed = self.key().seal_in_place_append_tag(nonce(), bound_to(name), &mut bytes);
        sealed.map_err(|_| TokenError::Sealed(name.clone()))?;
        Ok(BASE64_STANDARD.encode(bytes))
    }

    /// Opens what was sealed for one with this token.
    ///
    /// # Errors
    /// When it was sealed for somebody else or with another token, or was changed.
    pub fn open(&self, name: &Name, sealed: &str) -> Result<Zeroizing<String>, TokenError> {
        let refused = || TokenError::Sealed(name.clone());
        let mut bytes = Zeroizing::new(BASE64_STANDARD.decode(sealed).map_err(|_| refused())?);
        let opened = self.key().open_in_place(nonce(), bound_to(name), &mut bytes);
        let text = std::str::from_utf8(opened.map_err(|_| refused())?).map_err(|_| refused())?;
        Ok(Zeroizing::new(text.to_owned()))
    }

    fn key(&self) -> LessSafeKey {
        let okm = [&b"clusterd invitation: key"[..]];
        let prk = self.prk();
        // The algorithm's own length: it cannot be refused.
        let key = prk.expand(&okm, &AES_256_GCM).map(UnboundKey::from);
        LessSafeKey::new(key.unwrap_or_else(|_| unreachable!("a key as long as the algorithm's")))
    }

    fn prk(&self) -> Prk {
        Salt::new(HKDF_SHA256, b"clusterd").extract(self.0.as_ref())
    }

    fn derive(&self, what: &[u8], length: usize, into: &mut [u8]) {
        let info = [what];
        let prk = self.prk();
        let filled = prk.expand(&info, Length(length)).and_then(|okm| okm.fill(into));
        debug_assert!(filled.is_ok(), "as long as was asked for");
    }
}

/// Each key seals one text, once.
fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; 12])
}

fn bound_to(name: &Name) -> Aad<String> {
    Aad::from(name.to_string())
}

struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

impl FromStr for Token {
    type Err = TokenError;

    /// As it was typed: capital letters, spaces and dashes do not matter, nor which of 0 and O, of 1, I and L it is.
    fn from_str(text: &str) -> Result<Token, TokenError> {
        let mut digits = Zeroizing::new(Vec::with_capacity(BYTES * 2));
        for c in text.chars().filter(|c| !c.is_whitespace() && *c != '-') {
            let c = match c.to_ascii_lowercase() {
                'o' => '0',
                'i' | 'l' => '1',
                c => c,
            };
            let digit = DIGITS.iter().position(|d| char::from(*d) == c).ok_or(TokenError::Digit)?;
            digits.push(digit as u64);
            if digits.len() > BYTES * 8 / 5 {
                break;
            }
        }
        if digits.len() != BYTES * 8 / 5 {
            return Err(TokenError::Length(digits.len()));
        }
        let mut bytes = Zeroizing::new([0; BYTES]);
        for (five, group) in bytes.chunks_mut(5).zip(digits.chunks(GROUP)) {
            let bits = group.iter().fold(0, |bits, digit| bits << 5 | digit);
            five.copy_from_slice(&bits.to_be_bytes()[3..]);
        }
        Ok(Token(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::Who;

    fn name(node: &str) -> Name {
        Name { cluster: "shop".into(), who: Who::Node(node.into()) }
    }

    #[test]
    fn a_token_is_read_as_it_was_printed_or_as_people_type() {
        let token = Token::new().unwrap();
        let text = token.text();
        assert_eq!(text.len(), 35, "{}", *text);
        for typed in [text.to_string(), text.to_uppercase(), text.replace('-', " "), text.replace('0', "O")] {
            assert_eq!(typed.parse::<Token>().unwrap().0, token.0);
        }
        assert_eq!("".parse::<Token>().unwrap_err(), TokenError::Length(0));
        assert_eq!(text[..34].parse::<Token>().unwrap_err(), TokenError::Length(31));
        assert_eq!(format!("{}0", *text).parse::<Token>().unwrap_err(), TokenError::Length(33));
        assert_eq!("u".repeat(32).parse::<Token>().unwrap_err(), TokenError::Digit);
        assert_eq!(format!("{token:?}"), "Token");
    }

    #[test]
    fn it_opens_what_was_sealed_with_it_for_that_node_and_nothing_else() {
        let (token, other) = (Token::new().unwrap(), Token::new().unwrap());
        let sealed = token.seal(&name("web1"), "a bundle").unwrap();
        assert_eq!(*token.open(&name("web1"), &sealed).unwrap(), "a bundle");
        assert!(token.open(&name("web2"), &sealed).is_err());
        assert!(other.open(&name("web1"), &sealed).is_err());
        assert_ne!(token.number(), other.number());
        assert_eq!(token.number(), token.text().parse::<Token>().unwrap().number());
        for spoiled in ["", "AAAA", &sealed[1..], &sealed.replacen(&sealed[..4], "0000", 1)] {
            assert!(token.open(&name("web1"), spoiled).is_err());
        }
    }
}
