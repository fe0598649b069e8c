//! An [`Explanation`] as indented text.

use super::{Explanation, Told};
use crate::ctl::text::{BOLD, Look, paint, put};

/// The chain, then the root causes.
pub fn render(explanation: &Explanation, look: &Look) -> String {
    let mut out = String::new();
    told(&mut out, &explanation.tree, look, 0);
    match explanation.roots.len() {
        0 => {}
        1 => out.push_str(&format!("\n{}\n", paint(BOLD, "Root cause"))),
        n => out.push_str(&format!("\n{}\n", paint(BOLD, &format!("{n} root causes")))),
    }
    for root in &explanation.roots {
        put(&mut out, look, 2, &format!("{}: {}", root.at, root.text));
    }
    out
}

fn told(out: &mut String, node: &Told, look: &Look, indent: usize) {
    put(out, look, indent, &node.text);
    for note in &node.notes {
        put(out, look, indent + 2, note);
    }
    for below in &node.because {
        told(out, below, look, indent + 2);
    }
}

/// What to do next, each once, the first three.
pub fn hints(explanation: &Explanation) -> Vec<String> {
    let mut hints: Vec<String> = Vec::new();
    for hint in explanation.roots.iter().filter_map(|r| r.hint.clone()) {
        if !hints.contains(&hint) {
            hints.push(hint);
        }
    }
    hints.truncate(3);
    hints
}
