//! Broken configurations, each with the exact message that it is refused with.
//!
//! A case is a few lines in `tests/bad-config/*.txt`:
//!
//! ```text
//! ==== one node, two names
//! -- cluster.toml
//! …
//! -- units/redis.toml      (any number; the units in tests/bad-config/units/ are always there)
//! …
//! ----
//! error: …                 (what is printed, in full)
//! ```
//!
//! In a `cluster.toml` a line `@nodes` stands for a sound `[cluster]` and `[nodes]`. With `OVERWRITE=1` in the
//! environment the expectations are written anew; their diff is then what is to be read.

use clusterd::model::{Source, Sources, parse};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

const SOUND: &str = "[cluster]\nname = \"shop\"\n[nodes]\nweb = { web1 = \"10.0.0.1\", web2 = \"10.0.0.2\" }\n\
                     db = { db1 = \"10.0.0.3\", db2 = \"10.0.0.4\" }";

struct Case {
    title: String,
    /// As typed, between the title and `----`.
    input: String,
    expected: String,
}

#[test]
fn every_broken_configuration_is_refused_in_these_words() {
    let overwrite = std::env::var_os("OVERWRITE").is_some();
    let (mut count, mut wrong) = (0, String::new());
    for file in case_files() {
        let cases = read_cases(&std::fs::read_to_string(&file).unwrap());
        let mut text = String::new();
        for case in &cases {
            count += 1;
            let actual = refusal(&case.input);
            let lines = |start: &str| actual.lines().filter(|l| l.starts_with(start)).count();
            assert_eq!(lines("error: "), lines("  hint: "), "an error without a hint:\n{actual}");
            if actual.trim() != case.expected.trim() {
                let name = file.file_name().unwrap().to_string_lossy();
                let _ = writeln!(wrong, "==== {name}: {}\n{}", case.title, diff(&case.expected, &actual));
            }
            let _ = write!(text, "==== {}\n{}----\n{}\n\n", case.title, case.input, actual.trim_end());
        }
        if overwrite {
            std::fs::write(&file, text.trim_end().to_string() + "\n").unwrap();
        }
    }
    assert!(count >= 40, "only {count} cases");
    assert!(overwrite || wrong.is_empty(), "{wrong}\nOVERWRITE=1 writes the expectations anew");
}

fn case_files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bad-config");
    let entries = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path());
    let mut files: Vec<PathBuf> = entries.filter(|p| p.extension().is_some_and(|e| e == "txt")).collect();
    files.sort();
    files
}

fn read_cases(text: &str) -> Vec<Case> {
    let blocks = text.split("==== ").skip(1);
    blocks
        .map(|block| {
            let (title, rest) = block.split_once('\n').expect("a title ends its line");
            let (input, expected) = rest.split_once("----\n").expect("`----` ends the input");
            Case { title: title.into(), input: input.into(), expected: expected.into() }
        })
        .collect()
}

/// What the case is refused with; a configuration that is taken says so, which no expectation does.
fn refusal(input: &str) -> String {
    match parse(&sources(input)) {
        Ok(_) => "it is taken\n".to_string(),
        Err(errors) => errors.to_string(),
    }
}

/// The files of a case.
fn sources(input: &str) -> Sources {
    let mut sources = Sources {
        cluster: Source { path: "cluster.toml".into(), text: String::new() },
        folder: "units".into(),
        units: shared_units(),
        unread: BTreeMap::new(),
    };
    for part in input.split("-- ").skip(1) {
        let (path, text) = part.split_once('\n').expect("a file name ends its line");
        let source = Source { path: path.into(), text: text.replace("@nodes", SOUND) };
        match path.strip_prefix("units/").and_then(|p| p.strip_suffix(".toml")) {
            Some(unit) => drop(sources.units.insert(unit.to_string(), source)),
            None => sources.cluster = source,
        }
    }
    sources
}

fn shared_units() -> BTreeMap<String, Source> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bad-config/units");
    let entries = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path());
    entries
        .map(|path| {
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            let text = std::fs::read_to_string(&path).unwrap();
            (name.clone(), Source { path: format!("units/{name}.toml"), text })
        })
        .collect()
}

fn diff(expected: &str, actual: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) =
        (expected.trim().lines().collect(), actual.trim().lines().collect());
    let mut out = String::new();
    let same = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    let tail = old[same..].iter().rev().zip(new[same..].iter().rev()).take_while(|(a, b)| a == b).count();
    for line in &old[same..old.len() - tail] {
        let _ = writeln!(out, "-{line}");
    }
    for line in &new[same..new.len() - tail] {
        let _ = writeln!(out, "+{line}");
    }
    out
}
