//! What has to change in a text, line by line.

/// How many lines of context stand around a change.
const AROUND: usize = 2;
/// The most lines of either side that are compared one by one; longer texts are shown as all old, all new.
const MOST: usize = 2000;

/// `-old`, `+new` and some lines around; empty where both are the same.
pub fn lines(old: &str, new: &str) -> String {
    let (a, b): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    let edits = edits(&a, &b);
    let near = |at: usize| {
        let (from, to) = (at.saturating_sub(AROUND), (at + AROUND + 1).min(edits.len()));
        edits[from..to].iter().any(|(mark, _)| *mark != ' ')
    };
    let (mut out, mut gap) = (String::new(), false);
    for (at, (mark, text)) in edits.iter().enumerate() {
        if near(at) {
            if gap && !out.is_empty() {
                out.push_str(" …\n");
            }
            gap = false;
            out.push_str(format!("{mark}{text}").trim_end());
            out.push('\n');
        } else {
            gap = true;
        }
    }
    out
}

/// Every line of both, marked: kept, taken out, put in. By the longest common subsequence.
fn edits<'a>(a: &[&'a str], b: &[&'a str]) -> Vec<(char, &'a str)> {
    if a.len() > MOST || b.len() > MOST {
        return a.iter().map(|l| ('-', *l)).chain(b.iter().map(|l| ('+', *l))).collect();
    }
    let width = b.len() + 1;
    let mut common = vec![0u16; (a.len() + 1) * width];
    for i in (0..a.len()).rev() {
        for j in (0..b.len()).rev() {
            common[i * width + j] = if a[i] == b[j] {
                common[(i + 1) * width + j + 1] + 1
            } else {
                common[(i + 1) * width + j].max(common[i * width + j + 1])
            };
        }
    }
    let (mut i, mut j, mut out) = (0, 0, Vec::new());
    while i < a.len() || j < b.len() {
        if i < a.len() && j < b.len() && a[i] == b[j] {
            out.push((' ', a[i]));
            (i, j) = (i + 1, j + 1);
        } else if j == b.len() || (i < a.len() && common[(i + 1) * width + j] >= common[i * width + j + 1]) {
            out.push(('-', a[i]));
            i += 1;
        } else {
            out.push(('+', b[j]));
            j += 1;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::lines;

    #[test]
    fn only_what_changes_is_shown() {
        assert_eq!(lines("a\nb\nc\n", "a\nb\nc\n"), "");
        assert_eq!(lines("", "a\n"), "+a\n");
        assert_eq!(lines("1\n2\n3\n4\n5\n6\n7\n", "1\n2\n3\nx\n5\n6\n7\n"), " 2\n 3\n-4\n+x\n 5\n 6\n");
        assert_eq!(
            lines("a\n1\n2\n3\n4\n5\nb\n", "A\n1\n2\n3\n4\n5\nB\n"),
            "-a\n+A\n 1\n 2\n …\n 4\n 5\n-b\n+B\n"
        );
    }
}
