//! When a certificate ends, from its bytes (X.509 in DER, RFC 5280). rustls checks a certificate and does not tell.

/// The most bytes of a certificate that are looked at.
const MOST: usize = 64 * 1024;

const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// The end of its validity in seconds since 1970; `None` when these bytes are no certificate.
pub(super) fn ends(der: &[u8]) -> Option<i64> {
    let (certificate, _) = element(der.get(..der.len().min(MOST))?, SEQUENCE)?;
    let (mut fields, _) = element(certificate, SEQUENCE)?;
    if fields.first() == Some(&VERSION) {
        fields = skip(fields)?;
    }
    // Serial number, signature algorithm, issuer.
    let fields = skip(skip(skip(fields)?)?)?;
    let (validity, _) = element(fields, SEQUENCE)?;
    let end = skip(validity)?;
    match *end.first()? {
        UTC_TIME => {
            let (text, _) = element(end, UTC_TIME)?;
            let year = number(text.get(..2)?)?;
            // RFC 5280, 4.1.2.5.1
            time(if year < 50 { 2000 + year } else { 1900 + year }, text.get(2..)?)
        }
        _ => {
            let (text, _) = element(end, GENERALIZED_TIME)?;
            time(number(text.get(..4)?)?, text.get(4..)?)
        }
    }
}

/// The content of the element with this tag at the front, and what comes after it.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (first, rest) = der.split_first()?;
    let (length, rest) = rest.split_first()?;
    let (length, rest) = match *length {
        short @ 0..=0x7f => (usize::from(short), rest),
        // Three bytes of length are more than `MOST`.
        long @ 0x81..=0x83 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(long & 0x7f))?;
            (bytes.iter().fold(0, |n, b| n << 8 | usize::from(*b)), rest)
        }
        _ => return None,
    };
    if *first == tag { rest.split_at_checked(length) } else { None }
}

/// What comes after the element at the front, whatever it is.
fn skip(der: &[u8]) -> Option<&[u8]> {
    element(der, *der.first()?).map(|(_, rest)| rest)
}

/// `MMDDHHMMSSZ` of a year.
fn time(year: i64, text: &[u8]) -> Option<i64> {
    let two = |at: usize| number(text.get(at..at + 2)?);
    let (month, day) = (two(0)?, two(2)?);
    let seconds = (two(4)? * 60 + two(6)?) * 60 + two(8)?;
    if text.get(10..) != Some(b"Z") || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    // Days since 1970 of a date in the Gregorian calendar, with years that begin in March.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day - 1 - 719_468;
    Some(days * 86_400 + seconds)
}

fn number(digits: &[u8]) -> Option<i64> {
    digits.iter().try_fold(0, |n, d| d.is_ascii_digit().then(|| n * 10 + i64::from(d - b'0')))
}

/// By openssl 3.0, good until 2027-03-03 07:49:48 UTC.
#[cfg(any(test, feature = "fuzz"))]
pub(super) const SIGNED: &[u8] = include_bytes!("../../tests/captures/certificate.der");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_real_certificate_ends_when_openssl_says() {
        assert_eq!(ends(SIGNED), Some(1_804_060_188));
        assert_eq!(ends(&SIGNED[..100]), None);
        assert_eq!(ends(b"-----BEGIN CERTIFICATE-----"), None);
    }

    #[test]
    fn times_are_those_of_the_calendar() {
        let of = |text: &str| time(number(&text.as_bytes()[..4]).unwrap(), &text.as_bytes()[4..]);
        assert_eq!(of("19700101000000Z"), Some(0));
        assert_eq!(of("20000229235959Z"), Some(951_868_799));
        assert_eq!(of("20380119031408Z"), Some(1 << 31));
        assert_eq!(of("20381319031408Z"), None);
        assert_eq!(of("2038011903140Z"), None);
    }
}
