//! The house rules that the compiler does not know: which layer may import which, where `unsafe` may stand, how
//! large a file may grow.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// What each layer may import, besides itself. ARCHITECTURE.md tells why.
const LAYERS: &[(&str, &[&str])] = &[
    ("facts", &[]),
    ("clock", &["facts"]),
    ("crash", &[]),
    ("model", &["facts", "graph"]), // it asks the graph whether the file can boot at all
    ("graph", &["model"]),
    ("engine", &["facts", "model", "graph"]),
    ("probe", &["facts", "clock", "model", "process"]), // the kernel's door
    ("process", &["facts", "clock", "crash", "model"]),
    ("store", &["crash"]),
    ("logs", &["crash", "model", "store"]),
    ("leftover", &["facts", "crash", "model", "process"]),
    ("journal", &["model", "engine", "process", "store"]),
    ("standin", &["clock", "probe"]), // the protocols' bytes
    ("rig", &[]),
    ("pki", &["store"]),
    ("doctor", &["model", "leftover"]),
    ("generation", &["model", "graph", "pki"]),
    ("api", &["facts", "engine", "pki", "generation", "doctor"]), // the engine's views are what goes over the wire
    (
        "agent",
        &[
            "facts",
            "clock",
            "crash",
            "model",
            "graph",
            "engine",
            "probe",
            "process",
            "leftover",
            "store",
            "journal",
            "logs",
            "pki",
            "generation",
            "api",
        ],
    ),
    ("sim", &["facts", "model", "graph", "engine", "process", "leftover", "store", "journal"]),
    (
        "ctl",
        &[
            "sim",
            "facts",
            "clock",
            "model",
            "graph",
            "engine",
            "pki",
            "generation",
            "api",
            "process",
            "probe",
            "standin",
            "rig",
        ],
    ),
];

/// Lines of code that a file may have, its tests not counted. Two duties usually show before that.
const LONGEST_FILE: usize = 700;

fn sources() -> Vec<(String, PathBuf, String)> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut folders = vec![src.clone()];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let inside = path.strip_prefix(&src).unwrap();
                let layer = inside.components().next().unwrap().as_os_str().to_string_lossy();
                let layer = layer.trim_end_matches(".rs").to_owned();
                let text = fs::read_to_string(&path).unwrap();
                found.push((layer, path, text));
            }
        }
    }
    assert!(found.len() > 50, "the sources were not found");
    found
}

/// The code of a file without its tests and its comments.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let end = text.find("#[cfg(test)]\nmod tests").unwrap_or(text.len());
    text[..end].lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//"))
}

#[test]
fn layers_import_only_what_they_may() {
    let allowed: BTreeMap<&str, &[&str]> = LAYERS.iter().copied().collect();
    let mut wrong = Vec::new();
    for (layer, path, text) in sources() {
        if matches!(layer.as_str(), "lib" | "bin") {
            continue;
        }
        let may = allowed.get(layer.as_str()).unwrap_or_else(|| panic!("layer {layer} is not in the table"));
        for (number, line) in code(&text) {
            for (at, _) in line.match_indices("crate::") {
                let name: String =
                    line[at + 7..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                let is_layer = allowed.contains_key(name.as_str());
                if is_layer && name != layer && !may.contains(&name.as_str()) {
                    wrong.push(format!("{}:{}: {layer} imports {name}", path.display(), number + 1));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_engine_sees_no_clock_no_files_and_no_chance() {
    let banned = [
        "std::time::Instant",
        "SystemTime",
        "std::fs",
        "std::net::Tcp",
        "std::process",
        "tokio",
        "async fn",
        "rand",
    ];
    for (layer, path, text) in sources() {
        if layer != "engine" {
            continue;
        }
        for (number, line) in code(&text) {
            let found = banned.iter().find(|word| line.contains(**word));
            assert!(found.is_none(), "{}:{}: {line}", path.display(), number + 1);
        }
    }
}

#[test]
fn unsafe_stands_at_the_kernels_door_only() {
    for (_, path, text) in sources() {
        if path.ends_with("process/kernel.rs") || path.ends_with("lib.rs") {
            continue;
        }
        for (number, line) in code(&text) {
            assert!(!line.contains("unsafe "), "{}:{}: {line}", path.display(), number + 1);
        }
    }
}

#[test]
fn nothing_is_left_to_be_done() {
    for (_, path, text) in sources() {
        for (number, line) in text.lines().enumerate() {
            let marks = ["todo!(", "unimplemented!(", "TODO", "FIXME", "XXX", "dbg!("];
            let found = marks.iter().find(|mark| line.contains(**mark));
            assert!(found.is_none(), "{}:{}: {line}", path.display(), number + 1);
        }
    }
}

#[test]
fn no_file_grows_too_long() {
    for (_, path, text) in sources() {
        let lines = code(&text).count();
        assert!(lines <= LONGEST_FILE, "{} has {lines} lines of code", path.display());
    }
}
