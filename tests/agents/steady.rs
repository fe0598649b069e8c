//! What an operator reads, without what is another each time.

/// The text with single blanks and without empty lines; `N` stands for each time (`3s`, `1m 5s`) and for the number of a process
/// that stands behind one.
pub fn steady(text: &str) -> String {
    let lines = text.lines().map(|line| {
        let mut words: Vec<&str> = Vec::new();
        for word in line.split_whitespace() {
            let (bare, after) = (word.trim_end_matches([';', ',', ':']), words.last() == Some(&"N"));
            let count = bare.trim_end_matches(['m', 's', 'h']);
            let is_number = !count.is_empty() && count.bytes().all(|b| b.is_ascii_digit());
            match is_number && (after || count != bare) {
                false => words.push(word),
                true if after => {}
                true => words.push("N"),
            }
        }
        words.join(" ")
    });
    lines.filter(|line| !line.is_empty()).collect::<Vec<_>>().join("\n")
}
