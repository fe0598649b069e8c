//! Small words of the files: names, durations, and the nearest known word to a misspelt one.

use std::time::Duration;

/// The longest name, as for a DNS label.
pub const MAX_NAME: usize = 63;
/// The longest duration that can be written: a month. Longer is a slip, and `never` has words of its own.
const MAX_DURATION: Duration = Duration::from_secs(31 * 24 * 3600);

/// Whether `name` may name a node, group, service, unit or need: `a-z`, `0-9` and inner `-`.
pub(super) fn is_name(name: &str) -> bool {
    let edge = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = name.as_bytes();
    !bytes.is_empty()
        && bytes.len() <= MAX_NAME
        && edge(bytes[0])
        && edge(bytes[bytes.len() - 1])
        && bytes.iter().all(|b| edge(*b) || *b == b'-')
}

/// Reads `50ms`, `30s`, `2m`, `1h` or `7d`.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let millis = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    Some(Duration::from_millis(number.checked_mul(millis)?)).filter(|d| *d <= MAX_DURATION)
}

/// Reads a size in bytes: `4096`, `64K`, `512M`, `2G`, `1T` (powers of 1024).
pub(super) fn parse_size(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "" => 1,
        "K" => 1 << 10,
        "M" => 1 << 20,
        "G" => 1 << 30,
        "T" => 1 << 40,
        _ => return None,
    };
    // `parse` alone would take a sign.
    digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse::<u64>().ok()?.checked_mul(unit))?
}

/// The shortest form that [`parse_size`] reads back.
pub(super) fn show_size(size: u64) -> String {
    for (unit, bytes) in [("T", 1_u64 << 40), ("G", 1 << 30), ("M", 1 << 20), ("K", 1 << 10)] {
        if size >= bytes && size.is_multiple_of(bytes) {
            return format!("{}{unit}", size / bytes);
        }
    }
    size.to_string()
}

/// The shortest form that [`parse_duration`] reads back: `90s`, `2m`, `1h`. Below a millisecond is cut off.
pub fn show_duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    for (unit, size) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000)] {
        if millis >= size && millis.is_multiple_of(size) {
            return format!("{}{unit}", millis / size);
        }
    }
    if millis == 0 { "0s".to_string() } else { format!("{millis}ms") }
}

/// The known word that was probably meant, if one is near enough.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_ascii_lowercase();
    // A third of the letters wrong is still a slip; more is another word.
    let limit = (word.chars().count() / 3).max(1);
    known.into_iter().map(|k| (distance(&word, k), k)).filter(|(d, _)| *d <= limit).min().map(|(_, k)| k)
}

/// Edits between two words: insert, delete, change, or swap neighbours.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    // Words of very different length are never near; this also bounds the work on long garbage.
    if a.len().abs_diff(b.len()) > MAX_NAME / 3 || a.len() > 2 * MAX_NAME {
        return usize::MAX;
    }
    let mut before = vec![0; b.len() + 1];
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let change = usize::from(a[i - 1] != b[j - 1]);
            row[j] = (last[j - 1] + change).min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

/// `a`, `a and b`, `a, b and c`: each in backticks.
pub(super) fn list<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let words: Vec<String> = words.into_iter().map(|w| format!("`{w}`")).collect();
    match words.split_last() {
        None => "none".to_string(),
        Some((only, [])) => only.clone(),
        Some((last, rest)) => format!("{} and {last}", rest.join(", ")),
    }
}

/// `"a"`, `"a" or "b"`, `"a", "b" or "c"`.
pub(super) fn either<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let words: Vec<String> = words.into_iter().map(|w| format!("\"{w}\"")).collect();
    match words.split_last() {
        None => "nothing".to_string(),
        Some((only, [])) => only.clone(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_and_show() {
        for (text, millis) in [("50ms", 50), ("30s", 30_000), ("2m", 120_000), ("1h", 3_600_000), ("0s", 0)] {
            let duration = parse_duration(text).unwrap();
            assert_eq!(duration, Duration::from_millis(millis));
            assert_eq!(show_duration(duration), text);
        }
        assert_eq!(show_duration(Duration::from_secs(90)), "90s");
        for bad in ["", "s", "30", "30 s", "-1s", "1.5s", "30sec", "99999999999999999999s", "32d", "1h30m"] {
            assert_eq!(parse_duration(bad), None, "{bad}");
        }
    }

    #[test]
    fn sizes_read() {
        for (text, bytes) in [("0", 0), ("4096", 4096), ("64K", 65_536), ("2G", 2 << 30), ("1T", 1 << 40)] {
            assert_eq!(parse_size(text), Some(bytes), "{text}");
        }
        for bad in ["", "G", "+1", "-1", "1.5G", "2g", "2GB", "2 G", "99999999T", "é"] {
            assert_eq!(parse_size(bad), None, "{bad}");
        }
    }

    #[test]
    fn names() {
        for good in ["a", "web1", "fdfs-tracker", "0"] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["", "-a", "a-", "Web", "a_b", "a.b", "é", &"a".repeat(64)] {
            assert!(!is_name(bad), "{bad}");
        }
    }

    #[test]
    fn the_nearest_word_is_a_slip_away() {
        let known = ["needs", "unit", "set", "on"];
        assert_eq!(nearest("nedes", known), Some("needs"));
        assert_eq!(nearest("Unit", known), Some("unit"));
        assert_eq!(nearest("environment", known), None);
        assert_eq!(nearest(&"x".repeat(100_000), known), None);
    }
}
